"""From records of the store to a release folder: refuse, claim the place, write the data where nobody sees them, charge
the ledger with what they are (their sha256), certify, and give the folder its name; in this order.

A refused charge leaves nothing. If something fails after the charge, it stands and no folder is left.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, StoreError
from linkage_core.mitigation import accounting
from linkage_core.mitigation.noise import Seeded, System
from linkage_core.progress import Progress, silent
from linkage_core.release import certificate, folder, records
from linkage_core.release.certificate import (
    CAPPED,
    CODES,
    EMBEDDINGS,
    KINDS,
    LABELLED,
    PER_RECORD,
    SCHEMA,
    SCORES,
    STATISTICS,
    Certificate,
)
from linkage_core.release.keyed import Secret
from linkage_core.release.kinds import codes, statistics
from linkage_core.release.ledger import Charge, Ledger
from linkage_core.release.records import CODEBOOK, TABLE, Released, Source
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.files import versions
from linkage_core.store.seen import refuse_seen
from linkage_core.utility import probe
from linkage_core.validate import one_of

_FITS = {
    "limit": (CODES, CAPPED),
    "epsilon": (STATISTICS, CAPPED),
    "delta": (STATISTICS,),
    "findings": (STATISTICS, SCORES, *LABELLED),
    "public": (CODES, SCORES, STATISTICS),
    "one_label": LABELLED,
    "least": (CODES,),
    "noise": (EMBEDDINGS,),
    "secret": PER_RECORD,
    "new_secret": PER_RECORD,
    "unlimited": (SCORES, EMBEDDINGS),
    "per_patient": PER_RECORD,
}
"""Options that mean something for some kinds only."""
_EDGE = 0.005  # of a public prevalence
_REPRODUCIBLE = 0  # the seed of a release that anybody can repeat


@dataclass(frozen=True)
class Options:
    """What is asked for. None: not given.

    limit: K of codes, L of capped. epsilon: of statistics; of capped, a pointwise bound beside L. findings: the list
    that statistics, scores and one random label are about, all 14 if None. least: smallest cell that is released.
    per_patient: at most so many records of one patient. noise: standard deviation in each coordinate of embeddings.
    secret: the site's file; new_secret makes it. unlimited: enter in the ledger what nothing limits. reproducible:
    noise that anybody can make again, for synthetic cohorts.
    """

    kind: str
    limit: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    split: str | None = None
    head: str = OFF_THE_SHELF
    findings: tuple[str, ...] | None = None
    public: Entry | None = None
    one_label: bool = False
    least: int | None = None
    per_patient: int | None = None
    noise: float | None = None
    secret: Path | None = None
    new_secret: bool = False
    ledger: Path | None = None
    unlimited: bool = False
    reproducible: bool = False

    @property
    def listed(self) -> tuple[str, ...]:
        """The findings in question."""
        return LABELS if self.findings is None else self.findings

    @property
    def limited(self) -> bool:
        """Would anything limit this release?"""
        return self.kind not in (SCORES, EMBEDDINGS) or bool(self.noise)


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
    _require_sense(entry, options)
    folder.require_free(out)
    ledger = None if options.ledger is None else Ledger.open(options.ledger, entry.cohort)
    with folder.begin(out) as making:
        progress("embeddings", 0, 3)
        source = records.gather(entry, options.head, options.split)
        if options.kind == STATISTICS:
            _require_unseen(source)
        progress("release", 1, 3)
        secret = _secret(options, entry.cohort)
        entered = None
        try:
            stated, data, charge = _prepared(source, options, secret)
            making.write(data)
            entered = None if ledger is None else charge(ledger, making.files())
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
                    if options.kind in PER_RECORD
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
        if certificate.difference(stated, entered)
    ]


def _entered(charge: Charge) -> dict[str, Any]:
    """What a certificate says of the ledger."""
    return {"entry": charge.number, "digest": charge.digest, "before": charge.parameters["before"]}


def _require_unseen(source: Source) -> None:
    """InputError where the head was trained on patients of the sums: then one of them moves the embeddings of all."""
    try:
        refuse_seen(source.entry, source.head, source.split)
    except InputError as error:
        raise InputError(
            error.what, "The limit counts what a patient adds to the sums alone: take another head, or other patients."
        ) from error


def _require_sense(entry: Entry, options: Options) -> None:
    """InputError for options that do not fit the kind, or each other, or the cohort."""
    kind = options.kind
    one_of("--kind", kind, KINDS)
    for name, kinds in _FITS.items():
        given = getattr(options, name)
        if given is not None and given is not False and kind not in kinds:
            raise InputError(
                f"--{name.replace('_', '-')} was given for a release of {kind}.", f"It goes with: {', '.join(kinds)}."
            )
    if kind in (CODES, CAPPED) and options.limit is None:
        raise InputError(f"A release of {kind} needs a limit.", "Give --limit: how many times better than guessing.")
    if options.limit is not None and not math.isfinite(options.limit):
        raise InputError(f"--limit is {options.limit}.", "It is a finite number.")
    if kind == CODES and options.limit != int(options.limit or 0):
        raise InputError(f"--limit is {options.limit}.", "For codes it is K, a whole number of cells.")
    if kind == STATISTICS and options.epsilon is None:
        raise InputError("A release of statistics needs an epsilon.", "Give --epsilon, for example --epsilon 1.")
    if kind == STATISTICS and not 0 < float(options.epsilon or 0) < math.inf:
        raise InputError(f"--epsilon is {options.epsilon}.", "It is above 0 and finite: sums without noise stay here.")
    if options.findings is not None and kind in LABELLED and not options.one_label:
        raise InputError(
            f"--findings was given for a release of {kind} without labels.", "It goes with --one-label there."
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
    if kind in PER_RECORD and options.secret is None and not options.reproducible:
        raise InputError(
            f"A release of {kind} needs the site's secret.",
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
    if options.unlimited and (options.limited or options.ledger is None):
        raise InputError(
            "--unlimited was given " + ("with --noise." if options.limited else "without --ledger."),
            "It enters records that nothing limits: leave it out here.",
        )
    if options.ledger is not None and not options.limited and not options.unlimited:
        raise InputError(
            f"A release of {kind} without noise has no limit that a ledger could count.",
            "Add --unlimited to enter it as such: nothing bounds what such records tell, and later releases of records "
            "of these patients will be refused.",
        )


def _secret(options: Options, cohort: str) -> Secret:
    """The site's secret, a new one, or one that everybody has."""
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
    return Secret.read(options.secret, cohort)


def _prepared(
    source: Source, options: Options, secret: Secret
) -> tuple[dict[str, Any], dict[str, Callable[[Path], None]], Callable[[Ledger, dict[str, str]], Charge]]:
    """(what the certificate states, writers of the data files, how it is charged for files of these sha256)."""
    stated: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": options.kind,
        "one_label": {"findings": list(options.listed)} if options.one_label else None,
        "reproducible": options.reproducible,
        "secret": secret.digest if options.kind in PER_RECORD and not options.reproducible else None,
        "versions": versions(),
    }
    if options.kind == STATISTICS:
        sums = _statistics(source, options)
        stated |= {"cohort": _cohort(source), "mechanism": folder.sums_mechanism(sums)}
        return (
            stated,
            {folder.SUMS: sums.write},
            lambda ledger, files: ledger.charge(STATISTICS, _asked(stated, files), source.patients, **_costs(stated)),
        )
    if options.per_patient is not None:
        source = records.thinned(source, secret, options.per_patient)
    made = _records(source, options, secret)
    if options.one_label:
        made = records.with_one_label(made, source, secret, options.listed)
    patients = source.patients[made.rows]
    most = int(np.unique(patients, return_counts=True)[1].max())
    counts = {"n_records": len(made.rows), "most_records_of_a_patient": most}
    stated |= {"cohort": _cohort(source) | counts, "mechanism": made.mechanism}
    data: dict[str, Callable[[Path], None]] = {TABLE: folder.save_table(made.table)}
    if made.codebook is not None:
        data[CODEBOOK] = made.codebook.write
    images = hashlib.sha256(b"".join(source.images[i] for i in made.rows)).hexdigest()
    return (
        stated,
        data,
        lambda ledger, files: ledger.charge(
            made.kind,
            {**_asked(stated, files), "purpose": made.purpose},
            patients,
            **_costs(stated),
            keyed=(secret.digest, images),
        ),
    )


def _asked(stated: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    """What the ledger keeps of a release, by which a folder can be told to be this one."""
    return {name: stated[name] for name in ("mechanism", "one_label")} | {
        "head": stated["cohort"]["head"],
        "files": files,
    }


def _costs(stated: dict[str, Any]) -> dict[str, Any]:
    """What it is charged: a mu; one lift a record, so m records of a patient cost its m-th power; or no limit at all.

    Gaussian noise is a mu a record, m of them sqrt(m) mu.
    """
    if stated["kind"] == STATISTICS:
        return {"mu": stated["mechanism"]["mu"]}
    if stated["kind"] == EMBEDDINGS and stated["mechanism"]["sigma"]:
        return {"mu": math.sqrt(stated["cohort"]["most_records_of_a_patient"]) / float(stated["mechanism"]["sigma"])}
    lift = certificate.limit_of(stated)
    return {"unlimited": True} if lift is None else {"lift": lift}


def _cohort(source: Source) -> dict[str, Any]:
    """Of `statistics` nothing more may be said: how many images there are, or a patient has, is told without noise
    nowhere. That of patients is public."""
    entry = source.entry
    return {"name": entry.cohort, "model": entry.model, "head": source.head, "synthetic": entry.synthetic}


def _records(source: Source, options: Options, secret: Secret) -> Released:
    if options.kind == CODES:
        least = codes.LEAST if options.least is None else options.least
        return records.as_codes(source, secret, int(options.limit or 0), options.public, least=least)
    if options.kind == CAPPED:
        return records.as_capped(source, secret, float(options.limit or 0), options.epsilon)
    if options.kind == SCORES:
        return records.as_scores(source, secret, options.public, options.listed)
    return records.as_embeddings(source, secret, options.noise or 0.0)


def _statistics(source: Source, options: Options) -> statistics.Statistics:
    """Noisy sums over the patients; frame, prevalences and start from a public cohort where one is named."""
    columns = [LABELS.index(name) for name in options.listed]
    states = probe.states_of(source.records)[:, columns]
    frame = prevalence = start = None
    if options.public is not None:
        known, embeddings, public_states, whose = records.public_of(source, options.public, STATISTICS)
        frame = statistics.Frame.of(embeddings, f"{known.cohort} ({len(embeddings):,} records)")
        seen = np.nan_to_num(np.nanmean(public_states[:, columns], axis=0), nan=statistics.PREVALENCE)
        prevalence = np.clip(seen, _EDGE, 1 - _EDGE)
        start = statistics.Start.of(embeddings, public_states[:, columns], whose, frame, frame.made_from)
    sums = statistics.prepare(
        source.embeddings,
        states,
        source.patients,
        options.listed,
        frame=frame,
        prevalence=prevalence,
        start=start,
        about={"cohort": source.entry.cohort, "model": source.entry.model, "head": source.head},
    )
    try:
        delta, _ = accounting.delta_for(sums.n_patients, options.delta)
    except InputError as error:
        raise InputError(error.what, "Take a smaller --delta, or leave it out.") from error
    noise = Seeded(_REPRODUCIBLE) if options.reproducible else System()
    return sums.release(float(options.epsilon or 0), delta, noise)
