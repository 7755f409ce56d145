"""An audit of some queries against some candidates, for a cohort whose pairs are too many to count."""

from __future__ import annotations

import numpy as np

from linkage_core.audit.questions import DIRECTIONS
from linkage_core.audit.study import Study, counted_from, question
from linkage_core.errors import InputError
from linkage_core.ranking.sampled import sampled_counts
from linkage_core.store.entry import OFF_THE_SHELF, Entry

POOLS = ("other-patients", "all")
"""Those that are sampled. Of the others, decoys with the same findings are few, and cheap to count in full."""


def sampled_study(
    entry: Entry,
    n_queries: int | None,
    n_candidates: int,
    head: str = OFF_THE_SHELF,
    direction: str = DIRECTIONS[0],
    pool: str = POOLS[0],
    split: str | None = None,
    seed: int = 0,
) -> Study:
    """As study, of n_queries drawn without replacement (None: all), each against n_candidates drawn for its patient.

    Recall and MRR are unbiased estimates of the full audit's for N up to n_candidates + 1, and their intervals hold
    what the draw adds (ranking.sampled). There is no median rank, and no larger N or "full": InputError. Nothing is
    stored.
    Raises InputError for a pool that is not sampled, for fewer than 1 query or candidate, and as study does.
    """
    if pool not in POOLS:
        raise InputError(f"The pool {pool!r} is not sampled.", f"Sample {' or '.join(POOLS)}, or count it in full.")
    asked = question(entry, head, direction, pool, split)
    records = entry.records(asked.split)
    if n_queries is not None and n_queries < 1:
        raise InputError(f"{n_queries} queries were asked for.", "Draw at least 1.")
    if n_queries is None or n_queries >= len(records):
        rows = np.arange(len(records))
    else:
        rows = np.sort(np.random.default_rng([seed, len(records)]).choice(len(records), n_queries, replace=False))
    embeddings = entry.embeddings(head, asked.split)
    made = counted_from(embeddings, direction, pool)
    counts = sampled_counts(
        made["image_embeddings"],
        made["report_embeddings"],
        made["match"],
        rows,
        n_candidates,
        query_group=embeddings.query_group,
        candidate_group=made.get("candidate_group"),
        seed=seed,
    )
    if not counts.n_eligible.any():
        raise InputError(
            f"No image of {entry.cohort}, split {asked.split}, has another patient's report to be mistaken for.",
            "A pool needs two patients: check the patient ids, or ask for every report with --pool all.",
        )
    n_all = len(made["report_embeddings"])
    said = (
        f"{len(rows):,} of {len(records):,} queries drawn at random, each against at most {n_candidates:,} of "
        f"{n_all:,} candidates drawn for its patient (seed {seed}): estimates of the full audit's rates, for N up to "
        f"{int(counts.n_eligible.max()) + 1:,}"
    )
    queries = records.iloc[rows].reset_index(drop=True)
    return Study(entry, head, direction, pool, asked.split, counts, queries, n_all, seed, sampled=said)
