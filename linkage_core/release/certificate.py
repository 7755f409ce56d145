"""What a release folder says of itself: who can link how much, for whom that holds, and what would undo it.

A certificate has two parts. *Stated*: what was done (kind, mechanism, cohort, what travels along, ledger entry, files).
*Derived*: figures and sentences, worked out from what was stated by the bounds of this package, at writing and again at
every check; a figure that was changed by hand does not survive it. A certificate bounds what an attacker can do with
this release; it is no judgement on anything else that left the site.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from linkage_core.cohorts.labels.cohort import FROM_TEXT, LABELS_WAY
from linkage_core.errors import InputError
from linkage_core.release import bounds, limits
from linkage_core.release import stated as shapes
from linkage_core.release.kind import Limit
from linkage_core.release.table import KINDS, kind_of

SCHEMA = 3
FIGURES = ("alone", "unpaired", "joint", "together", "with_before", "with_before_unpaired")
POOL_SIZES = (100, 1_000, 10_000)
TRIES = 10_000  # what the page counts successes out of

STATED = (
    *("schema", "kind", "cohort", "mechanism", "one_label", "reproducible", "secret", "ledger", "versions", "files"),
)
_UNSEEN = (
    "The ledger counts what was charged to it, and knows an image by the content of its features. A second site, or "
    "somebody who deletes ledger and secret, begins anew; so do images that were altered or embedded anew, of patients "
    "who got other ids. Nothing here would show it."
)
PAGE = "release.html"
DERIVED = ("limit", "certified", "holds_for", "sentences", "assumptions", "must_not_travel_along", "use")

NEVER = (
    "labels and findings of a record, beyond what this certificate names",
    "age, sex, dates, view, device or ward",
    "record, study and patient ids, file names, the order of records at the site, split names",
    "report text, or anything computed from it",
    "another release of the same images that is not in the site's ledger",
    "the secret, the noise, or the seed of either",
)


@dataclass(frozen=True)
class Certificate:
    """A checked certificate. `content` is the JSON object: STATED, DERIVED and `digest`."""

    content: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def synthetic(self) -> bool:
        return bool(self.content["cohort"]["synthetic"])

    @property
    def limit(self) -> float | None:
        """Certified lift at k = 1 that holds for every N; None where there is none (or it depends on N)."""
        found = self.content["limit"]
        return None if found is None else float(found)

    @property
    def findings(self) -> tuple[str, ...]:
        """Findings that the data are about, in the order of their columns; () where there are none."""
        return tuple(self.content["mechanism"].get("findings", ()))

    @property
    def digest(self) -> str:
        return str(self.content["digest"])


def finished(stated: dict[str, Any]) -> Certificate:
    """The certificate of what was stated: derived parts and digest added."""
    missing = [name for name in STATED if name not in stated]
    if missing:
        raise InputError(f"The certificate lacks {', '.join(missing)}.", f"It states: {', '.join(STATED)}.")
    content = {**stated, **derived(stated)}
    return Certificate({**content, "digest": digest_of(content)})


def digest_of(content: dict[str, Any]) -> str:
    """sha256 of everything but the digest itself. It shows accidents; whoever alters a folder can compute it anew, so
    a recipient compares it with what the site says it sent."""
    plain = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def derived(stated: dict[str, Any]) -> dict[str, Any]:
    """DERIVED from STATED. Raises InputError for a kind that there is not, for a part that is not as it can be, and for
    parts that do not agree."""
    if not isinstance(stated["kind"], str) or stated["kind"] not in KINDS:
        raise InputError(f"{reprlib.repr(stated['kind'])} is no kind of release.", f"They are: {', '.join(KINDS)}.")
    if stated["one_label"] is not None and not kind_of(stated["kind"]).labelled:
        raise InputError(
            f"A release of {stated['kind']} cannot carry labels.",
            f"One a record goes with: {', '.join(name for name, kind in KINDS.items() if kind.labelled)}.",
        )
    _require(stated)
    return {
        "limit": limit_of(stated),
        "certified": [figures(stated, n) for n in POOL_SIZES],
        "holds_for": _holds_for(stated),
        "sentences": _sentences(stated),
        "assumptions": _assumptions(stated),
        "must_not_travel_along": list(NEVER),
        "use": _use(stated),
    }


def _require(stated: dict[str, Any]) -> None:
    """InputError that names the first part which is not as it can be, or does not agree with another."""
    kind = kind_of(stated["kind"])
    listed = dict.fromkeys([*(name for row in KINDS.values() for name in row.data_files), PAGE])
    shape: shapes.Shape = {
        "schema": shapes.one_of(SCHEMA),
        "kind": shapes.one_of(kind.name),
        "cohort": shapes.OF_RECORDS if kind.per_record else shapes.COHORT,
        "mechanism": kind.parts(stated["mechanism"]),
        "one_label": shapes.none_or({"findings": shapes.findings}),
        "reproducible": shapes.one_of(True, False),
        "secret": shapes.none_or(shapes.text("[0-9a-f]{16}")),
        "ledger": shapes.none_or({"entry": shapes.whole(1), "digest": shapes.HASH, "before": shapes.BEFORE}),
        "versions": dict.fromkeys(shapes.PACKAGES, shapes.text(r"\d[0-9A-Za-z.+!-]{0,30}")),
        "files": {f"{name}?": shapes.FILE for name in listed},
    }
    where = shapes.misfit(shape, stated) or _disagreement(stated)
    if where:
        raise InputError(where, "A certificate states what its kind asks for, and nothing beside it.")


def _disagreement(stated: dict[str, Any]) -> str:
    """Which two parts cannot both be so, in words; empty where all agree."""
    kind, cohort, repeatable = kind_of(stated["kind"]), stated["cohort"], stated["reproducible"]
    if repeatable and (stated["ledger"] is not None or not cohort["synthetic"]):
        return "reproducible is true, for a cohort that is not synthetic or an entry of a ledger."
    if (stated["secret"] is None) != (repeatable or not kind.per_record):
        return f"secret is {stated['secret']!r}, and reproducible {repeatable}."
    if kind.per_record and cohort["most_records_of_a_patient"] > cohort["n_records"]:
        return "cohort.most_records_of_a_patient is more than n_records."
    return kind.disagreement(stated)


# ----------------------------------------------------------------------------------------------------------- figures


def limit_of(stated: dict[str, Any]) -> float | None:
    """The lift that holds for every N: K or L, doubled by one random label a record; None where there is none."""
    limit = _limit(stated)
    lift = None if limit is None else limit.lift(stated["mechanism"])
    return None if lift is None else lift * limits.labels(stated)


def figures(stated: dict[str, Any], n: int) -> dict[str, Any]:
    """Certified Recall@1 at N = n, None where there is none.

    alone: one record by itself; of statistics, for an attacker to whom the other patients' data do not depend on which
    report is right. unpaired: of statistics, for who holds images and reports of summed patients, any matching of them
    equally likely. joint: a mean over all records, for somebody who holds the folder and knows that its
    records and n candidates match one to one. together: for somebody who can see which records are of one patient, of
    whom the release has at most m: limits multiply (bounds.compose_lifts), mu grows with sqrt(m) (bounds.compose_mu).
    with_before, with_before_unpaired: the same with all that had left before of the patient of whom it was most; None
    where nothing had, and the second where no statistics had.
    """
    found = {name: _rate(one, n) for name, one in _bounds(stated).items()}
    row: dict[str, Any] = {"n": n, "guessing": 1 / n}
    for name in FIGURES:
        recall = found.get(name)
        row[name] = recall
        row[f"{name}_lift"] = None if recall is None else float(bounds.lift(recall, n))
    return row


def shown(content: dict[str, Any]) -> dict[str, str]:
    """The figures of a certificate that are worth a column, each with its heading: {name of FIGURES: words}.

    From the whole folder and from several records of a patient only where that says more.
    """
    row, m = content["certified"][0], limits.most(content)
    words = {
        "alone": "from one record",
        "joint": "from the whole folder",
        "together": f"from {m} records of one patient",
        "with_before": "with what left before",
        "with_before_unpaired": "with what left before, who holds images and reports unpaired",
    }
    limit = kind_of(content["kind"]).limit
    words |= {} if limit is None else limit.shown
    return {name: words[name] for name in FIGURES if row[name] is not None and (name != "together" or m > 1)}


def _limit(stated: dict[str, Any]) -> Limit | None:
    """What its kind certifies; None for what has no limit, and where the noise can be repeated."""
    mechanism, limit = stated["mechanism"], kind_of(stated["kind"]).limit
    if stated["reproducible"] or mechanism.get("seed") is not None:
        return None
    return limit


def _bounds(stated: dict[str, Any]) -> limits.Bounds:
    """Upper bounds on Recall@1."""
    limit = _limit(stated)
    return {} if limit is None else limit.bounds(stated)


def _rate(bound: Callable[[int], float], n: int) -> float:
    """Between guessing and 1."""
    return float(min(max(bound(n), 1 / n), 1.0))


# --------------------------------------------------------------------------------------------------------- sentences


def _sentences(stated: dict[str, Any]) -> list[str]:
    """The certificate in words, the first one its heart."""
    said: list[str] = []
    kind, limit, m = kind_of(stated["kind"]), limit_of(stated), limits.most(stated)
    rows = [figures(stated, n) for n in POOL_SIZES]
    if stated["reproducible"]:
        said.append("Synthetic and not private: anybody can make the noise again, so no limit holds. For tests alone.")
    elif kind.limit is None or rows[0]["alone"] is None:
        said.append(
            "No limit is certified. What is known of linkage was measured with the attackers that Linkage Explorer "
            "lists; a better one may do better."
        )
    elif limit is not None:
        said.append(
            f"Among N equally likely reports, whoever gets one record of this release picks the right report with "
            f"probability at most {limit:g}/N, whatever else they know about the candidates; an average over records, "
            "for one release."
        )
    else:
        said += kind.limit.sentences(rows)
    if stated["one_label"] and rows[0]["alone"] is not None:
        said.append("Each record carries the state of one finding, drawn at random; that doubles the limit, as stated.")
    if rows[0]["joint"] is not None:
        whole = "somebody who holds the whole folder and knows that its N records and N reports match one to one"
        if all(row["joint"] == row["alone"] for row in rows):
            said.append(f"The same holds, on average over the records, for {whole}.")
        else:
            said.append(f"For {whole}, less is proved: right on average for {limits.numbers(rows, 'joint')}.")
    if m > 1 and rows[0]["together"] is not None:
        said.append(
            f"One patient has up to {m} records here. For somebody who can see that they belong together the limits "
            f"multiply: {limits.numbers(rows, 'together')}."
        )
    before = limits.before_of(stated)
    if before is not None and rows[0]["with_before"] is not None:
        left = [f"Gaussian noise with a mu of {before['mu']:.4g}"] if before["mu"] else []
        if before["lift"] != 1:
            left.append("records without any" if before["lift"] is None else f"records with {before['lift']:.4g} for a")
            left[-1] += " limit"
        said.append(
            f"By the site's ledger other releases left before; of the patient with most: {' and '.join(left)}. For "
            f"somebody who holds them too, and sees what is of one patient: {limits.numbers(rows, 'with_before')}."
        )
        if rows[0]["with_before_unpaired"] is not None:
            said.append(
                "With the statistics, for somebody who also holds images and reports of summed patients unpaired: "
                f"{limits.numbers(rows, 'with_before_unpaired')}."
            )
    if stated["cohort"].get("labels") == FROM_TEXT and (stated["one_label"] or "findings" in stated["mechanism"]):
        said.append(f"The findings are {LABELS_WAY[FROM_TEXT]}: they err as such rules do.")
    if stated["cohort"]["synthetic"]:
        said.append("The cohort is synthetic: nothing in this folder is a patient.")
    return said


def _holds_for(stated: dict[str, Any]) -> str:
    """Which N the figures are about."""
    limit = kind_of(stated["kind"]).limit
    return limit.holds_for(stated) if limit and _bounds(stated) else "No figure is certified, for any N."


def _assumptions(stated: dict[str, Any]) -> list[str]:
    """What the figures rest on; nothing where there are none."""
    limit = kind_of(stated["kind"]).limit
    if limit is None or not _bounds(stated):
        return []
    return [*limit.assumptions(stated), *([_UNSEEN] if stated["ledger"] is not None else [])]


def _use(stated: dict[str, Any]) -> list[str]:
    """What the recipient types."""
    said = ["linkage receive DIR"]
    if stated["one_label"] or kind_of(stated["kind"]).reader is not None:  # something to train on
        said.append(f"linkage receive DIR --cohort COHORT/{stated['cohort']['model']}")
    return said
