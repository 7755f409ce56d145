"""From records of the store to a release folder: refuse, claim the place, write the data where nobody sees them, charge
the ledger with what they are (their sha256), certify, and give the folder its name; in this order.

A refused charge leaves nothing. If something fails after the charge, it stands and no folder is left.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.cohort import labels_way
from linkage_core.errors import InputError, StoreError
from linkage_core.progress import Progress, silent
from linkage_core.release import certificate, folder, known, records
from linkage_core.release.certificate import SCHEMA, Certificate
from linkage_core.release.keyed import Secret
from linkage_core.release.kind import Kind, Options
from linkage_core.release.ledger import Charge, Ledger
from linkage_core.release.records import TABLE, Source
from linkage_core.release.stated import difference
from linkage_core.release.table import KINDS, kind_of
from linkage_core.store.entry import Entry
from linkage_core.store.files import versions

__all__ = ["Made", "Options", "confirm", "make"]

_OF_SOME = (
    *("limit", "epsilon", "delta", "findings", "public", "one_label", "least", "noise", "secret", "new_secret"),
    *("unlimited", "per_patient", "public_size"),
)
"""Options that mean something for some kinds only, those that take them."""
_REPRODUCIBLE = 0  # the seed of a release that anybody can repeat


@dataclass(frozen=True)
class Made:
    """A release as it was written: where, what it says, and the ledger's entry (None where no ledger was named)."""

    path: Path
    certificate: Certificate
    charge: Charge | None


def make(entry: Entry, out: Path, options: Options, progress: Progress = silent) -> Made:
    """One release folder. Raises InputError for anything that must not or cannot be released; nothing is left then.

    StoreError where writing failed; it names the ledger's entry if that was made already, and stands.
    """
    kind = kind_of(options.kind, "--kind")
    _require_sense(entry, options, kind)
    folder.require_free(out)
    ledger = None if options.ledger is None else Ledger.open(options.ledger, entry.cohort)
    with folder.begin(out) as making:
        progress("embeddings", 0, 3)
        source = records.gather(entry, options.head, options.split)
        progress("release", 1, 3)
        secret = _secret(options, entry.cohort, ledger)
        entered = None
        try:
            stated, data, charge = _prepared(source, options, kind, secret)
            making.write(data)
            entered = charge(ledger, making.files())
            if ledger is not None:
                _bind(entry, options, secret, ledger)
            stated["ledger"] = None if entered is None else _entered(entered)
            progress("files", 2, 3)
            made = making.finish(stated)
        except BaseException as error:
            if entered is None and options.new_secret and options.secret is not None:
                options.secret.unlink(missing_ok=True)  # made a moment ago, and nothing was released with it
            if entered is not None and isinstance(error, Exception):
                raise StoreError(
                    f"The release could not be written ({error}); there is no folder {out}. Entry {entered.number} of "
                    "the ledger stands.",
                    "The same release again costs nothing more: its noise is keyed."
                    if kind.per_record
                    else "Mend the cause and release again.",
                ) from error
            if isinstance(error, OSError):
                raise StoreError(
                    f"The release could not be written ({error}); there is no folder {out}.",
                    "Nothing was charged. Mend the cause and release again.",
                ) from error
            raise
    progress("files", 3, 3)
    return Made(out, made, entered)


def confirm(ledger: Ledger, path: Path) -> list[str]:
    """Every way in which a release folder differs from what the ledger holds of it; empty if none.

    The digest of its entry, and with it all that was entered before; the sha256 of the data; kind, mechanism and what
    it costs. A ledger that was put back to an older copy lacks the entry. Raises as folder.check where the folder is
    not what its own certificate says.
    """
    content = folder.check(path).content
    said = content["ledger"]
    if said is None:
        return [f"{path} was entered in no ledger."]
    found = ledger.entry(int(said["entry"]))
    if found is None:
        return [
            f"{path} names entry {said['entry']}, which the ledger does not hold: an older copy, or another ledger."
        ]
    if not ledger.holds(found.number, str(said["digest"])):
        return [f"{path} names entry {found.number} by another digest: the ledger is an older copy, or another one."]
    data = {name: file["sha256"] for name, file in content["files"].items() if name != folder.PAGE}
    told, costs = found.parameters, _costs(content)
    pairs = {
        "cohort": (content["cohort"]["name"], ledger.cohort),
        "kind": (content["kind"], found.mechanism),
        "data": (data, told.get("files")),
        "mechanism": (content["mechanism"], told.get("mechanism")),
        "one_label": (content["one_label"], told.get("one_label")),
        "head": (content["cohort"]["head"], told.get("head")),
        "what left before": (said.get("before"), told.get("before")),
        "mu": (costs.get("mu"), found.mu),
        "lift": (math.inf if "unlimited" in costs else costs.get("lift"), found.lift),
    }
    return [
        f"{path}: its {name} is not what entry {found.number} of the ledger says."
        for name, (stated, entered) in pairs.items()
        if difference(stated, entered)
    ]


def _entered(charge: Charge) -> dict[str, Any]:
    """What a certificate says of the ledger."""
    return {"entry": charge.number, "digest": charge.digest, "before": charge.parameters["before"]}


def _require_sense(entry: Entry, options: Options, kind: Kind) -> None:
    """InputError for options that do not fit the kind, or each other, or the cohort."""
    for name in _OF_SOME:
        given = getattr(options, name)
        if given is not None and given is not False and name not in kind.takes:
            fitting = [other.name for other in KINDS.values() if name in other.takes]
            raise InputError(
                f"--{name.replace('_', '-')} was given for a release of {kind.name}.",
                f"It goes with: {', '.join(fitting)}.",
            )
    if options.limit is not None and not math.isfinite(options.limit):
        raise InputError(f"--limit is {options.limit}.", "It is a finite number.")
    kind.sense(options)
    if options.findings is not None and kind.labelled and not options.one_label:
        raise InputError(
            f"--findings was given for a release of {kind.name} without labels.", "It goes with --one-label there."
        )
    unknown = [one for one in options.listed if one not in LABELS]
    if unknown or not options.listed or len(set(options.listed)) < len(options.listed):
        raise InputError(
            f"--findings has {unknown[0]!r}." if unknown else "--findings is empty or names one twice.",
            f"Findings are: {', '.join(LABELS)}.",
        )
    if options.reproducible and not entry.synthetic:
        raise InputError(
            f"--reproducible was given for {entry.cohort}, which is not synthetic.",
            "Noise that anybody can make again protects nobody: leave it out.",
        )
    if kind.per_record and options.secret is None and not options.reproducible:
        raise InputError(
            f"A release of {kind.name} needs the site's secret.",
            "Name its file with --secret FILE; the first time for a cohort add --new-secret.",
        )
    if options.reproducible and (options.secret is not None or options.new_secret or options.ledger is not None):
        raise InputError(
            "--reproducible was given with a secret or a ledger.", "It is for tests: leave both out, or leave it out."
        )
    if options.ledger is None and not entry.synthetic:
        raise InputError(
            f"{entry.cohort} is no synthetic cohort, and no ledger was named.",
            "Begin one with `linkage ledger create FILE COHORT/MODEL ...` and name it with --ledger FILE.",
        )
    if options.unlimited and (kind.limited(options) or options.ledger is None):
        raise InputError(
            "--unlimited was given " + ("with --noise." if kind.limited(options) else "without --ledger."),
            "It enters records that nothing limits: leave it out here.",
        )
    if options.ledger is not None and not kind.limited(options) and not options.unlimited:
        raise InputError(
            f"A release of {kind.name} without noise has no limit that a ledger could count.",
            "Add --unlimited to enter it as such: nothing bounds what such records tell, and later releases of records "
            "of these patients will be refused.",
        )


def _bind(entry: Entry, options: Options, secret: Secret, ledger: Ledger) -> None:
    """From its first charge on a secret belongs to its ledger, and a ledger of people to the store's list."""
    if options.secret is not None:
        secret.bound(options.secret, ledger.start, ledger.last())
    known.keep(entry, ledger)


def _secret(options: Options, cohort: str, ledger: Ledger | None) -> Secret:
    """The site's secret, a new one, or one that everybody has. InputError for one that is bound to another ledger."""
    if options.reproducible:
        return Secret(hashlib.sha256(f"reproducible {_REPRODUCIBLE}".encode()).digest(), cohort)
    if options.secret is None:  # statistics: the noise comes from the operating system
        return Secret(hashlib.sha256(b"unused").digest(), cohort)
    if options.new_secret:
        return Secret.create(options.secret, cohort)
    if not options.secret.exists():
        raise InputError(
            f"There is no secret at {options.secret}.",
            "Restore the site's own; or, if this cohort never had one, add --new-secret to make it.",
        )
    found = Secret.read(options.secret, cohort)
    if found.ledger and (ledger is None or ledger.start != found.ledger):
        raise InputError(
            f"The secret {options.secret} is bound to "
            + (f"another ledger than {ledger.path}." if ledger else "a ledger, and none was named."),
            "Its records are counted in the ledger that it was first used with, and nowhere else: name that one.",
        )
    if ledger is not None:
        known.require_newest(ledger, found.last, f"the secret {options.secret}")
        if not os.access(options.secret.resolve().parent, os.W_OK):
            raise InputError(
                f"The folder of the secret {options.secret} cannot be written.",
                "The secret notes the last entry of its ledger: put it where you may write.",
            )
    return found


def _prepared(
    source: Source, options: Options, kind: Kind, secret: Secret
) -> tuple[dict[str, Any], dict[str, Callable[[Path], None]], Callable[[Ledger | None, dict[str, str]], Charge | None]]:
    """(what the certificate states, writers of the data files, how it is charged for files of these sha256)."""
    whole = source
    if options.per_patient is not None:
        source = records.thinned(source, secret, options.per_patient)
    made = kind.make(source, options, secret)
    if options.one_label:
        made = records.with_one_label(made, source, secret, options.listed)
    said: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": kind.name,
        "one_label": {"findings": list(options.listed)} if options.one_label else None,
        "reproducible": options.reproducible,
        "secret": secret.digest if kind.per_record and not options.reproducible else None,
        "versions": versions(),
        "cohort": _cohort(source),
        "mechanism": made.mechanism,
    }
    if made.table is None:
        return said, dict(made.data), _charging(whole, source.patients, said)
    patients = source.patients[made.rows]
    most = int(np.unique(patients, return_counts=True)[1].max())
    said["cohort"] |= {"n_records": len(made.rows), "most_records_of_a_patient": most}
    images = hashlib.sha256(b"".join(source.images[i] for i in made.rows)).hexdigest()
    return (
        said,
        {TABLE: folder.save_table(made.table), **made.data},
        _charging(whole, patients, said, purpose=made.purpose, keyed=(secret.digest, images)),
    )


def _charging(
    whole: Source, patients: np.ndarray, said: dict[str, Any], purpose: str = "", keyed: tuple[str, str] | None = None
) -> Callable[[Ledger | None, dict[str, str]], Charge | None]:
    """How records of these patients are charged, for files of these sha256: to this ledger (None: to none), if no other
    one that is known here has images of theirs. whole: all records at hand."""
    charged = set(patients.tolist())
    images = [pair for pair in zip(whole.patients.tolist(), whole.images, strict=True) if pair[0] in charged]
    more = {"purpose": purpose} if keyed else {}

    def charge(ledger: Ledger | None, files: dict[str, str]) -> Charge | None:
        if not said["reproducible"]:
            known.refuse_left(whole.entry, [one for _, one in images], ledger)
        if ledger is None:
            return None
        asked = {**_asked(said, files), **more}
        return ledger.charge(said["kind"], asked, patients, **_costs(said), keyed=keyed, images=images)

    return charge


def _asked(stated: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    """What the ledger keeps of a release, by which a folder can be told to be this one."""
    return {name: stated[name] for name in ("mechanism", "one_label")} | {
        "head": stated["cohort"]["head"],
        "files": files,
    }


def _costs(stated: dict[str, Any]) -> dict[str, Any]:
    """What it is charged: a mu; a lift for each record, so m of a patient cost its m-th power; or no limit at all."""
    limit = kind_of(stated["kind"]).limit
    mu = None if limit is None else limit.mu(stated)
    if mu is not None:
        return {"mu": mu}
    lift = certificate.limit_of(stated)
    return {"unlimited": True} if lift is None else {"lift": lift}


def _cohort(source: Source) -> dict[str, Any]:
    """Of `statistics` nothing more may be said: how many images there are, or a patient has, is told without noise
    nowhere. That of patients is rounded or declared, see there."""
    entry = source.entry
    return {
        **{"name": entry.cohort, "model": entry.model, "head": source.head, "synthetic": entry.synthetic},
        "labels": labels_way(entry.labels_note()),
    }
