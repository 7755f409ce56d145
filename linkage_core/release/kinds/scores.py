"""`scores`: each record as scores of declared findings, by a probe that was made from public data.

For comparison: what a deterministic reader says of an embedding is all but the embedding, and nothing limits it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.release import stated as shapes
from linkage_core.release.checks import require_vectors
from linkage_core.release.keyed import Secret
from linkage_core.release.kind import Column, Kind, Measured, Mechanism, Options
from linkage_core.release.records import Released, Source, lists, public_of, released, require_public, sha256_of
from linkage_core.store.entry import Entry
from linkage_core.utility.probe import Probe, states_of, train_probe


def as_scores(
    source: Source, secret: Secret, public: Entry | None, findings: tuple[str, ...] = LABELS, seed: int = 0
) -> Released:
    """Each record as the scores of findings by a probe of public data; those that it could not learn are left out."""
    known, embeddings, states, patients = public_of(source, public, "scores")
    with threadpool_limits(1, user_api="blas"):  # many small products: threads would only wait for each other
        probe = train_probe(embeddings, states, patients, seed)
    learnt = [name for name in findings if probe.trained[LABELS.index(name)]]
    if not learnt:
        raise InputError(
            f"None of the findings can be learnt from {known.cohort}.", "Name others, or take another public cohort."
        )
    scores = probe(source.embeddings)[:, [LABELS.index(name) for name in learnt]].astype(np.float32)
    made_of = sha256_of({"mean": probe.mean, "weights": probe.weights})
    mechanism = {
        "name": "linear probe",
        "reader": made_of,
        "findings": learnt,
        "public": f"{known.cohort} ({len(embeddings):,} records)",
    }
    purpose = f"scores {'|'.join(learnt)} reader={made_of} head={source.head_sha256}"
    return released(source, secret, mechanism, np.arange(source.n), {"scores": lists(scores)}, purpose)


def scored(probe: Probe, listed: Sequence[str]) -> Mechanism:
    """Scores of the listed findings by a public probe, scaled alike: nothing of it is limited."""
    kept = np.array([name in listed for name in LABELS]) & probe.trained
    weights = probe.weights[:, kept] / np.linalg.norm(probe.weights[:, kept], axis=0)
    return Mechanism(lambda rows, rng: np.asarray((rows - probe.mean) @ weights, dtype=np.float32))


def _measured(entry: Entry, options: Options, seed: int) -> Measured:
    public = require_public("scores", options.public)
    records = public.records(public.default_split)
    clean = public.clean_images(records["record_id"])
    probe = train_probe(clean, states_of(records), records["patient_id"].to_numpy(str))
    return Measured(scored(probe, options.listed), listed=len(options.listed))


ROW = Kind(
    name="scores",
    title="Scores",
    words="each record as scores of declared findings, by a probe made from public data",
    usage="--public COHORT: each record as scores of findings. For comparison; hardly limited.",
    heading=lambda content: f"{content['cohort']['n_records']:,} records as scores of findings",
    takes=("findings", "public", "secret", "new_secret", "unlimited", "per_patient"),
    make=lambda source, options, secret: as_scores(source, secret, options.public, options.listed),
    column=Column("scores", "its scores", lambda mechanism: pa.list_(pa.float32(), len(mechanism["findings"]))),
    parts=lambda mechanism: {
        "name": shapes.one_of("linear probe"),
        "findings": shapes.findings,
        "public": shapes.PUBLIC,
        "reader": shapes.HASH,
    },
    check=require_vectors,
    measured=_measured,
)
