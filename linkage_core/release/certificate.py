"""What a release folder says of itself: who can link how much, for whom that holds, and what would undo it.

A certificate has two parts. *Stated*: what was done (kind, mechanism, cohort, what travels along, ledger entry, files).
*Derived*: figures and sentences, worked out from what was stated by the bounds of this package, at writing and again at
every check; a figure that was changed by hand does not survive it. A certificate bounds what an attacker can do with
this release; it is no judgement on anything else that left the site.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from linkage_core.errors import InputError
from linkage_core.release import bounds
from linkage_core.release import stated as parts
from linkage_core.release.kinds.capped import Cap
from linkage_core.release.stated import CAPPED, CODES, EMBEDDINGS, KEYED, SCORES, STATISTICS

SCHEMA = 2
FIGURES = ("alone", "joint", "together", "with_before")
POOL_SIZES = (100, 1_000, 10_000)
TRIES = 10_000  # what the page counts successes out of

KINDS = {
    STATISTICS: "noisy sums over patients, from which a classifier is trained; no records",
    CODES: "each record as one of K cells of a public codebook",
    CAPPED: "each record as a random direction near its embedding, at most L times denser than uniform",
    SCORES: "each record as scores of declared findings, by a probe made from public data",
    EMBEDDINGS: "each record as its embedding, clean or with Gaussian noise",
}
PER_RECORD = (CODES, CAPPED, SCORES, EMBEDDINGS)
LABELLED = (CODES, CAPPED)
"""Kinds with which one random label a record may travel."""
FRESH = "fresh, from the operating system, not kept"

STATED = (
    *("schema", "kind", "cohort", "mechanism", "one_label", "reproducible", "secret", "ledger", "versions", "files"),
)
FILES = ("records.parquet", "codebook.safetensors", "statistics.safetensors", "release.html")
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
    """DERIVED from STATED. Raises InputError for a kind that there is not, and as stated.require."""
    if not isinstance(stated["kind"], str) or stated["kind"] not in KINDS:
        raise InputError(f"{reprlib.repr(stated['kind'])} is no kind of release.", f"They are: {', '.join(KINDS)}.")
    if stated["one_label"] is not None and stated["kind"] not in LABELLED:
        raise InputError(
            f"A release of {stated['kind']} cannot carry labels.", f"One a record goes with: {', '.join(LABELLED)}."
        )
    parts.require(stated, SCHEMA, FILES)
    return {
        "limit": limit_of(stated),
        "certified": [figures(stated, n) for n in POOL_SIZES],
        "holds_for": _holds_for(stated),
        "sentences": _sentences(stated),
        "assumptions": _assumptions(stated),
        "must_not_travel_along": list(NEVER),
        "use": _use(stated),
    }


# ----------------------------------------------------------------------------------------------------------- figures


def limit_of(stated: dict[str, Any]) -> float | None:
    """The lift that holds for every N: K or L, doubled by one random label a record; None where there is none."""
    mechanism = stated["mechanism"]
    if not _certified(stated) or stated["kind"] not in (CODES, CAPPED):
        return None
    return float(mechanism["cells"] if stated["kind"] == CODES else mechanism["limit"]) * _labels(stated)


def figures(stated: dict[str, Any], n: int) -> dict[str, Any]:
    """Certified Recall@1 at N = n, None where there is none.

    alone: one record by itself. joint: a mean over all records, for somebody who holds the folder and knows that its
    records and n candidates match one to one. together: for somebody who can see which records are of one patient, of
    whom the release has at most m: limits multiply (bounds.compose_lifts), mu grows with sqrt(m) (bounds.compose_mu).
    with_before: together, and with all that had left before of the patient of whom it was most; None where nothing had.
    """
    found = {name: _rate(one, n) for name, one in _bounds(stated).items()}
    row: dict[str, Any] = {"n": n, "guessing": 1 / n}
    for name in FIGURES:
        recall = found.get(name)
        row[name] = recall
        row[f"{name}_lift"] = None if recall is None else float(bounds.lift(recall, n))
    return row


def _bounds(stated: dict[str, Any]) -> dict[str, Callable[[int], float]]:
    """Upper bounds on Recall@1 as functions of N.

    One random label a record: the release is (r, i, s), i a finding drawn independently of the data and s its state, of
    which there are two. Sum over r, i and s of the largest p(r|x_j) P(i) [s = s_ij] is at most twice the sum over r and
    i of the largest p(r|x_j) P(i): twice the bound. Jointly, it adds at most ln 2 nats to what a record tells.
    """
    if not _certified(stated):
        return {}
    mechanism, m, twice = stated["mechanism"], _most(stated), _labels(stated)
    if stated["kind"] == STATISTICS:
        mu = float(mechanism["mu"])
        return {
            "alone": lambda n: bounds.central(mu, n),
            "together": lambda n: bounds.central(mu, n),
            **_with_before(stated, 1.0, mu),
        }
    if stated["kind"] == EMBEDDINGS:
        mu = 1 / float(mechanism["sigma"])  # unit rows: radius 1
        return {
            "alone": lambda n: bounds.gaussian(mu, n),
            "joint": lambda n: bounds.joint_gaussian(mu, n),
            "together": lambda n: bounds.gaussian(bounds.compose_mu([mu] * m), n),
            **_with_before(stated, 1.0, mu * math.sqrt(m)),
        }
    if stated["kind"] == CODES:
        cells = int(mechanism["cells"])
        # given which finding each record and candidate carries, each group is a deterministic public code of 2K cells
        groups = 1 if twice == 1 else twice * len(stated["one_label"]["findings"])
        return {
            "alone": lambda n: twice * bounds.cells(cells, n),
            "joint": lambda n: min(groups * cells / n, bounds.joint_information(math.log(twice * cells), n)),
            "together": lambda n: _power(twice * cells, m, n) / n,
            **_with_before(stated, float(twice * cells), 0.0),
        }
    cap = Cap(int(mechanism["dimension"]), float(mechanism["limit"]), float(mechanism["p"]))
    told = cap.nats + math.log(twice)
    one = bounds.joint_information if twice == 2 else lambda nats, n: cap.certified_jointly(n)
    return {
        "alone": lambda n: twice * cap.certified(n) if cap.limit <= n else 1.0,
        "joint": lambda n: one(told, n) if cap.limit <= n else 1.0,
        "together": lambda n: _power(twice * cap.limit, m, n) / n,
        **_with_before(stated, twice * cap.limit, 0.0),
    }


def _with_before(stated: dict[str, Any], limit: float, mu: float) -> dict[str, Callable[[int], float]]:
    """The bound for who also holds what left before of the patient: mu_b of statistics, lift_b of records.

        Recall@1 <= limit^m lift_b Phi(Phi^-1(1/N) + root(mu^2 + mu_b^2))

    Given J, all releases are independent: their coins are. One record has p_j(r) <= L q(r), q one law for all j (a code
    of K values: L = K and q = 1/K), so with any others, s,
        (1/N) sum over r and s of max_j p_j(r) p_j(s) <= L (1/N) sum over s of max_j p_j(s),
    L times the bound of the others. So with each record of the patient, m in this release and those before, until only
    Gaussian releases are left, which are one of the root of the summed squares (bounds.compose_mu). As candidates may
    have had less of either, the largest of each is taken.
    """
    said = before_of(stated)
    if said is None:
        return {}
    m, lift, mu = _most(stated), said["lift"], bounds.compose_mu([mu, said["mu"]])
    if lift is None:
        return {"with_before": lambda n: 1.0}
    return {"with_before": lambda n: _power(limit, m, n) * lift * float(bounds.gaussian(mu, n))}


def before_of(stated: dict[str, Any]) -> dict[str, Any] | None:
    """{"mu", "lift"} of what had left before, by the site's ledger; lift None: without limit. None: nothing had."""
    before = {"mu": 0, "lift": 1} if stated["ledger"] is None else stated["ledger"]["before"]
    return None if before["mu"] == 0 and before["lift"] == 1 else dict(before)


def _rate(bound: Callable[[int], float], n: int) -> float:
    """Between guessing and 1."""
    return float(min(max(bound(n), 1 / n), 1.0))


def _power(limit: float, m: int, n: int) -> float:
    """limit^m, and n where it is more."""
    return float(limit**m) if m * math.log(limit) < math.log(n) else float(n)


def _certified(stated: dict[str, Any]) -> bool:
    """Is there a limit at all? Not for scores, clean embeddings, or noise that can be repeated."""
    kind, mechanism = stated["kind"], stated["mechanism"]
    if stated["reproducible"] or mechanism.get("seed") is not None or kind == SCORES:
        return False
    return bool(kind != EMBEDDINGS or float(mechanism["sigma"]) > 0)


def _labels(stated: dict[str, Any]) -> int:
    return 2 if stated["one_label"] else 1


def _most(stated: dict[str, Any]) -> int:
    """Records of the patient who has most; statistics are over patients, and do not say how many images anybody has."""
    return 1 if stated["kind"] == STATISTICS else int(stated["cohort"]["most_records_of_a_patient"])


# --------------------------------------------------------------------------------------------------------- sentences


def _sentences(stated: dict[str, Any]) -> list[str]:
    """The certificate in words, the first one its heart."""
    said: list[str] = []
    limit, m = limit_of(stated), _most(stated)
    rows = [figures(stated, n) for n in POOL_SIZES]
    if stated["reproducible"]:
        said.append("Synthetic and not private: anybody can make the noise again, so no limit holds. For tests alone.")
    elif limit is not None:
        said.append(
            f"Among N equally likely reports, whoever gets one record of this release picks the right report with "
            f"probability at most {limit:g}/N, whatever else they know about the candidates; an average over records, "
            "for one release."
        )
    elif stated["kind"] == STATISTICS:
        said.append(
            "Whoever gets this file, and may know every other patient, picks one patient's report among N equally "
            f"likely ones with probability {_numbers(rows, 'alone')}. That is beyond what they already had."
        )
    elif rows[0]["alone"] is not None:
        said.append(
            "Among N equally likely reports, whoever gets one record of this release picks the right report with "
            f"probability {_numbers(rows, 'alone')}. The advantage over guessing grows with N: never quote it "
            "without N."
        )
    else:
        said.append(
            "No limit is certified. What is known of linkage was measured with the attackers that Linkage Explorer "
            "lists; a better one may do better."
        )
    if stated["one_label"] and rows[0]["alone"] is not None:
        said.append("Each record carries the state of one finding, drawn at random; that doubles the limit, as stated.")
    if stated["kind"] in PER_RECORD and rows[0]["joint"] is not None:
        whole = "somebody who holds the whole folder and knows that its N records and N reports match one to one"
        if all(row["joint"] == row["alone"] for row in rows):
            said.append(f"The same holds, on average over the records, for {whole}.")
        else:
            said.append(f"For {whole}, less is proved: right on average for {_numbers(rows, 'joint')}.")
    if stated["kind"] in PER_RECORD and m > 1 and rows[0]["together"] is not None:
        said.append(
            f"One patient has up to {m} records here. For somebody who can see that they belong together the limits "
            f"multiply: {_numbers(rows, 'together')}."
        )
    before = before_of(stated)
    if before is not None and rows[0]["with_before"] is not None:
        left = [f"Gaussian noise with a mu of {before['mu']:.4g}"] if before["mu"] else []
        if before["lift"] != 1:
            left.append("records without any" if before["lift"] is None else f"records with {before['lift']:.4g} for a")
            left[-1] += " limit"
        said.append(
            f"By the site's ledger other releases left before; of the patient with most: {' and '.join(left)}. For "
            f"somebody who holds them too, and sees what is of one patient: {_numbers(rows, 'with_before')}."
        )
    if stated["cohort"]["synthetic"]:
        said.append("The cohort is synthetic: nothing in this folder is a patient.")
    return said


def _numbers(rows: list[dict[str, Any]], name: str) -> str:
    """The most that Recall@1 can be, at each N, in words: "at most 3% at N = 1,000; ..."; 1 is no limit."""
    limited = [f"{row[name] * 100:.3g}% at N = {row['n']:,}" for row in rows if row[name] < 1]
    free = [f"{row['n']:,}" for row in rows if row[name] >= 1]
    said = ["at most " + "; ".join(limited)] if limited else []
    if free:
        said.append("no limit at N = " + ", ".join(free))
    return "; ".join(said)


def _holds_for(stated: dict[str, Any]) -> str:
    """Which N the figures are about."""
    if not _certified(stated):
        return "No figure is certified, for any N."
    if stated["kind"] == STATISTICS:
        return (
            "N reports of patients who may have been in the sums, each equally likely to the attacker before the file "
            "was seen. A smaller N, from age, date or text, gives its own row."
        )
    return (
        f"N reports that are equally likely to the attacker before the record is seen, the right one among them; the "
        f"release has {stated['cohort']['n_records']:,} records. Whatever shrinks N (age, date, hospital) shrinks it "
        "before the table is read: take the row of the N that is left."
    )


def _assumptions(stated: dict[str, Any]) -> list[str]:
    """What the figures rest on; nothing where there are none."""
    if not _certified(stated):
        return []
    kind, mechanism = stated["kind"], stated["mechanism"]
    if kind == STATISTICS:
        return [
            f"Unit: the patient, add or remove one; noise {FRESH}; mu = {_figure(mechanism['mu'])}.",
            "The number of patients is public.",
            "For this one query: others on the same patients add up (mu in squares); the site's ledger counts them.",
            "What the sums say about everybody, such as how a finding looks, is not about one patient.",
            "Proved for real numbers; the computer's are 32 and 64 bits long.",
        ]
    said = [
        "N equally likely candidates. An average over records: one record may stand out more than the mean.",
        "One release an image: a second, different release multiplies the limits. The site's ledger counts them.",
        _nothing_else(stated),
    ]
    if kind == CODES:
        said += [
            f"The codebook was made from {mechanism['public']} alone, before it saw a record; the code has no noise.",
            f"Cells with fewer than {mechanism['least']} records are left out, a policy of the site "
            f"({mechanism['suppressed']:,} records); pools are of the records that are in the folder.",
        ]
    elif kind in (CAPPED, EMBEDDINGS) and mechanism.get("noise"):
        said += [
            f"The noise is {KEYED}. Whoever has the secret has the noise, and then nothing holds.",
            "Proved for real numbers and random noise; here numbers are 32 and 64 bits long, and the noise is "
            "pseudo-random (HMAC-SHA256, SHAKE-256).",
        ]
        if kind == CAPPED and mechanism["epsilon"] is None:
            said.append(
                "It limits who is picked, not who is ruled out: candidates far from a vector cannot be its own."
            )
    return said


def _nothing_else(stated: dict[str, Any]) -> str:
    besides = "" if before_of(stated) is None else ", besides what the ledger counts"
    return f"Nothing else computed from these images has left the site{besides}."


def _use(stated: dict[str, Any]) -> list[str]:
    """What the recipient types."""
    said = ["linkage receive DIR"]
    if stated["one_label"] or stated["kind"] in (STATISTICS, CODES):  # something to train on
        said.append(f"linkage receive DIR --cohort COHORT/{stated['cohort']['model']}")
    return said


def _figure(value: Any) -> str:
    return "unlimited" if value is None else f"{float(value):.4g}"


# ----------------------------------------------------------------------------------------------------------- compared


def difference(stated: Any, found: Any, path: str = "") -> str | None:
    """Where two JSON values differ first, None where nowhere; numbers may differ in the last digits."""
    if isinstance(stated, dict) and isinstance(found, dict):
        for name in sorted({*stated, *found}, key=str):
            if name not in stated or name not in found:
                return f"{path}{name}"
            if where := difference(stated[name], found[name], f"{path}{name}."):
                return where
        return None
    if _is_list(stated) and _is_list(found) and len(stated) == len(found):
        for i, (one, other) in enumerate(zip(stated, found, strict=True)):
            if where := difference(one, other, f"{path}{i}."):
                return where
        return None
    numbers = [isinstance(one, int | float) and not isinstance(one, bool) for one in (stated, found)]
    same = math.isclose(stated, found, rel_tol=1e-6) if all(numbers) else stated == found
    return None if same else path.rstrip(".") or "everything"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
