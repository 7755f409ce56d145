"""From records of the store to a release folder: refuse, charge the ledger, write; in this order.

Nothing is written before the ledger was charged. If writing then fails, the charge stands (the release may have been
seen) and no folder is left.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core import utility
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.mitigation import accounting
from linkage_core.mitigation.noise import Seeded, System
from linkage_core.release import central, certificate, codes, folder, records
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
from linkage_core.release.ledger import Charge, Ledger
from linkage_core.release.records import CODEBOOK, TABLE, Released, Source
from linkage_core.store import OFF_THE_SHELF, Entry, versions

Progress = Callable[[str, int, int], None]

_FITS = {
    "limit": (CODES, CAPPED),
    "epsilon": (STATISTICS, CAPPED),
    "delta": (STATISTICS,),
    "public": (CODES, SCORES, STATISTICS),
    "one_label": LABELLED,
    "least": (CODES,),
    "noise": (EMBEDDINGS,),
    "secret": PER_RECORD,
    "per_patient": PER_RECORD,
}
"""Options that mean something for some kinds only."""
_EDGE = 0.005  # of a public prevalence
_REPRODUCIBLE = 0  # the seed of a release that anybody can repeat


@dataclass(frozen=True)
class Options:
    """What is asked for. None: not given.

    limit: K of codes, L of capped. epsilon: of statistics; of capped, a pointwise bound beside L. findings: the list
    that statistics, scores and one random label are about. least: smallest cell that is released. per_patient: at most
    so many records of one patient. noise: standard deviation in each coordinate of embeddings. secret: the site's file;
    new_secret makes it. reproducible: noise that anybody can make again, for synthetic cohorts.
    """

    kind: str
    limit: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    split: str | None = None
    head: str = OFF_THE_SHELF
    findings: tuple[str, ...] = LABELS
    public: Entry | None = None
    one_label: bool = False
    least: int | None = None
    per_patient: int | None = None
    noise: float | None = None
    secret: Path | None = None
    new_secret: bool = False
    ledger: Path | None = None
    reproducible: bool = False


@dataclass(frozen=True)
class Made:
    """A release as it was written: where, what it says, and the ledger's entry (None where no ledger was named)."""

    path: Path
    certificate: Certificate
    charge: Charge | None


def make(entry: Entry, out: Path, options: Options, progress: Progress | None = None) -> Made:
    """One release folder. Raises InputError for anything that must not or cannot be released, before it writes.

    StoreError where writing failed after the ledger was charged; it names the entry.
    """
    said = progress or (lambda stage, done, total: None)
    _require_sense(entry, options)
    folder.require_free(out)
    fingerprint = str(entry.manifest["cohort"]["fingerprint"])
    ledger = None if options.ledger is None else Ledger.open(options.ledger, fingerprint)
    said("embeddings", 0, 3)
    source = records.gather(entry, options.head, options.split)
    said("release", 1, 3)
    secret = _secret(options, fingerprint)
    try:
        stated, data, charge = _prepared(source, options, secret)
        entered = None if ledger is None else charge(ledger)
    except BaseException:
        if options.new_secret and options.secret is not None and options.kind in PER_RECORD:
            options.secret.unlink(missing_ok=True)  # made a moment ago, and nothing was released with it
        raise
    said("files", 2, 3)
    stated["ledger"] = None if entered is None else {"entry": entered.number, "digest": entered.digest}
    try:
        made = folder.write(out, stated, data)
    except (OSError, LinkageError) as error:
        stands = "" if entered is None else f" Entry {entered.number} of the ledger stands."
        remedy = (
            "The same release again costs nothing more: its noise is keyed."
            if entered is not None and options.kind in PER_RECORD
            else "Mend the cause and release again."
        )
        raise StoreError(
            f"The release could not be written ({error}); there is no folder {out}.{stands}", remedy
        ) from (error)
    said("files", 3, 3)
    return Made(out, made, entered)


def _require_sense(entry: Entry, options: Options) -> None:
    """InputError for options that do not fit the kind, or each other, or the cohort."""
    kind = options.kind
    if kind not in KINDS:
        raise InputError(f"--kind is {kind!r}.", f"It is one of: {', '.join(KINDS)}.")
    for name, kinds in _FITS.items():
        if getattr(options, name) not in (None, False) and kind not in kinds:
            raise InputError(
                f"--{name.replace('_', '-')} was given for a release of {kind}.", f"It goes with: {', '.join(kinds)}."
            )
    if kind in (CODES, CAPPED) and options.limit is None:
        raise InputError(f"A release of {kind} needs a limit.", "Give --limit: how many times better than guessing.")
    if kind == CODES and options.limit != int(options.limit or 0):
        raise InputError(f"--limit is {options.limit}.", "For codes it is K, a whole number of cells.")
    if kind == STATISTICS and options.epsilon is None:
        raise InputError("A release of statistics needs an epsilon.", "Give --epsilon, for example --epsilon 1.")
    if kind == STATISTICS and not 0 < float(options.epsilon or 0) < math.inf:
        raise InputError(f"--epsilon is {options.epsilon}.", "It is above 0 and finite: sums without noise stay here.")
    unknown = [one for one in options.findings if one not in LABELS]
    if unknown or not options.findings or len(set(options.findings)) < len(options.findings):
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
    if options.reproducible and (options.secret is not None or options.ledger is not None):
        raise InputError(
            "--reproducible was given with a secret or a ledger.", "It is for tests: leave both out, or leave it out."
        )
    limited = kind not in (SCORES, EMBEDDINGS) or bool(options.noise)
    if options.ledger is not None and not limited:
        raise InputError(
            f"A release of {kind} without noise has no limit that a ledger could count.",
            "Leave out --ledger, and know that nothing bounds what such records tell.",
        )
    if limited and options.ledger is None and not entry.synthetic:
        raise InputError(
            f"{entry.cohort} is no synthetic cohort, and no ledger was named.",
            "Begin one with `linkage ledger create FILE COHORT/MODEL ...` and name it with --ledger FILE.",
        )


def _secret(options: Options, fingerprint: str) -> Secret:
    """The site's secret, a new one, or one that everybody has."""
    if options.reproducible:
        return Secret(hashlib.sha256(f"reproducible {_REPRODUCIBLE}".encode()).digest(), fingerprint)
    if options.secret is None:  # statistics: the noise comes from the operating system
        return Secret(hashlib.sha256(b"unused").digest(), fingerprint)
    if options.new_secret:
        return Secret.create(options.secret, fingerprint)
    if not options.secret.exists():
        raise InputError(
            f"There is no secret at {options.secret}.",
            "Restore the site's own; or, if this cohort never had one, add --new-secret to make it.",
        )
    return Secret.read(options.secret, fingerprint)


def _prepared(
    source: Source, options: Options, secret: Secret
) -> tuple[dict[str, Any], dict[str, Callable[[Path], None]], Callable[[Ledger], Charge]]:
    """(what the certificate states, writers of the data files, how it is charged)."""
    stated: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": options.kind,
        "one_label": {"findings": list(options.findings)} if options.one_label else None,
        "reproducible": options.reproducible,
        "secret": secret.digest if options.kind in PER_RECORD and not options.reproducible else None,
        "versions": versions(),
    }
    if options.kind == STATISTICS:
        sums = _statistics(source, options)
        stated |= {"cohort": _cohort(source, source.n, 1), "mechanism": folder.sums_mechanism(sums)}
        asked = {name: value for name, value in stated["mechanism"].items() if name != "name"}
        return (
            stated,
            {folder.SUMS: sums.write},
            lambda ledger: ledger.charge(STATISTICS, asked, source.patients, mu=sums.mu),
        )
    if options.per_patient is not None:
        source = records.thinned(source, secret, options.per_patient)
    made = _records(source, options, secret)
    if options.one_label:
        made = records.with_one_label(made, source, secret, options.findings)
    patients = source.patients[made.rows]
    most = int(np.unique(patients, return_counts=True)[1].max())
    stated |= {"cohort": _cohort(source, len(made.rows), most), "mechanism": made.mechanism}
    data: dict[str, Callable[[Path], None]] = {TABLE: folder.save_table(made.table)}
    if made.codebook is not None:
        data[CODEBOOK] = made.codebook.write
    return stated, data, lambda ledger: _charge(ledger, stated, made, source, secret, most)


def _charge(
    ledger: Ledger, stated: dict[str, Any], made: Released, source: Source, secret: Secret, most: int
) -> Charge:
    """One lift a record, so m records of a patient cost its m-th power; Gaussian noise a mu, m of them sqrt(m) mu."""
    images = hashlib.sha256(b"".join(source.images[i] for i in made.rows)).hexdigest()
    patients, asked = source.patients[made.rows], {"purpose": made.purpose, **made.mechanism}
    keyed = (secret.digest, images)
    if made.kind == EMBEDDINGS:
        mu = math.sqrt(most) / float(made.mechanism["sigma"])
        return ledger.charge(made.kind, asked, patients, mu=mu, keyed=keyed)
    lift = certificate.limit_of(stated)
    return ledger.charge(made.kind, asked, patients, lift=lift, keyed=keyed)


def _cohort(source: Source, n_records: int, most: int) -> dict[str, Any]:
    entry = source.entry
    return {
        "name": entry.cohort,
        "model": entry.model,
        "head": source.head,
        "synthetic": entry.synthetic,
        "n_records": n_records,
        "most_records_of_a_patient": most,
    }


def _records(source: Source, options: Options, secret: Secret) -> Released:
    if options.kind == CODES:
        least = codes.LEAST if options.least is None else options.least
        return records.as_codes(source, secret, int(options.limit or 0), options.public, least=least)
    if options.kind == CAPPED:
        return records.as_capped(source, secret, float(options.limit or 0), options.epsilon)
    if options.kind == SCORES:
        return records.as_scores(source, secret, options.public, options.findings)
    return records.as_embeddings(source, secret, options.noise or 0.0)


def _statistics(source: Source, options: Options) -> central.Statistics:
    """Noisy sums over the patients; frame, prevalences and start from a public cohort where one is named."""
    columns = [LABELS.index(name) for name in options.findings]
    states = utility.states_of(source.records)[:, columns]
    frame = prevalence = start = None
    if options.public is not None:
        known, embeddings, public_states, whose = records.public_of(source, options.public, STATISTICS)
        frame = central.Frame.of(embeddings, f"{known.cohort} ({len(embeddings):,} records)")
        seen = np.nan_to_num(np.nanmean(public_states[:, columns], axis=0), nan=central.PREVALENCE)
        prevalence = np.clip(seen, _EDGE, 1 - _EDGE)
        start = central.Start.of(embeddings, public_states[:, columns], whose, frame, frame.made_from)
    sums = central.prepare(
        source.embeddings,
        states,
        source.patients,
        options.findings,
        frame=frame,
        prevalence=prevalence,
        start=start,
        about={"cohort": source.entry.cohort, "model": source.entry.model, "head": source.head},
    )
    delta, _ = accounting.delta_for(sums.n_patients, options.delta)
    noise = Seeded(_REPRODUCIBLE) if options.reproducible else System()
    return sums.release(float(options.epsilon or 0), delta, noise)
