"""Counts over a random subset of the candidates, for whoever cannot afford all pairs: unbiased for every N up to it.

Of C eligible candidates drawn without replacement, N-1 drawn without replacement are N-1 drawn from all: so what the
closed forms of `pools` make of counts over the subset has, over subsets, the very mean that they make of counts over
all (the law of total expectation; a U-statistic of the candidates). That holds for N up to C + 1 and for nothing
larger: how the match stands among all candidates is not known from some.

Each patient has a subset of its own, independent of all others. So what the draw adds to the spread differs between
patients as their own images do, and intervals over patients hold it; one subset for everybody would move all queries
together, which no resampling of patients sees.
"""

from __future__ import annotations

import numpy as np

from linkage_core.errors import InputError
from linkage_core.ranking.counts import MatchCounts, checked_match, checked_matrix, distinct, each_block, precision_of

PATIENTS = 8
"""Patients that a core takes at a time."""


def sampled_counts(
    queries: np.ndarray,
    candidates: np.ndarray,
    match: np.ndarray,
    rows: np.ndarray,
    n_candidates: int,
    *,
    query_group: np.ndarray,
    candidate_group: np.ndarray | None = None,
    seed: int = 0,
) -> MatchCounts:
    """As match_counts, of some queries against some of their eligible candidates.

    Arguments
        queries, candidates, match: as match_counts takes them.
        rows: (n_rows,) the queries that are counted.
        n_candidates: how many of its eligible candidates each meets, drawn anew for each patient (for each query
            without a candidate_group); at least 1.
        query_group: (n_queries,) patient of each query, who draws.
        candidate_group: (n_candidates,) patient of each candidate: those of the query's own are not eligible. None: all
            but the match are.

    Returns MatchCounts of shape (n_rows,); n_eligible is how many were met: all where there are no more.

    >>> vectors = np.eye(4)
    >>> of = {"query_group": np.arange(4), "candidate_group": np.arange(4)}
    >>> sampled_counts(vectors, vectors, np.arange(4), np.array([0, 2]), 2, **of).n_eligible.tolist()
    [2, 2]
    """
    if n_candidates < 1:
        raise InputError(f"{n_candidates} candidates were asked for.", "Draw at least 1.")
    queries, candidates = checked_matrix(queries, "queries"), checked_matrix(candidates, "candidates")
    precision = precision_of(queries, candidates)
    queries, candidates = queries.astype(precision, copy=False), candidates.astype(precision, copy=False)
    match = checked_match(match, len(queries), len(candidates))
    vectors, column_of, _ = distinct(candidates, match)
    found = MatchCounts(*np.zeros((3, len(rows)), dtype=np.int64))
    code = np.unique(query_group[rows], return_inverse=True)[1] if candidate_group is not None else np.arange(len(rows))
    order = np.argsort(code, kind="stable")
    places = np.split(order, np.flatnonzero(np.diff(code[order])) + 1) if len(order) else []
    own_of = _Own(candidate_group, query_group, match, rows)

    def count(start: int) -> None:
        for number, place in enumerate(places[start : start + PATIENTS], start):
            own = own_of(place)
            drawn = _drawn(len(candidates), own, n_candidates, np.random.default_rng([seed, number]))
            columns, multiplicity = np.unique(column_of[drawn], return_counts=True)
            of_match = np.unique(column_of[match[rows[place]]])
            # every score from one product, and one column for identical vectors: they tie exactly
            scored = np.union1d(columns, of_match)
            times = np.zeros(len(scored), dtype=np.int64)
            times[np.searchsorted(scored, columns)] = multiplicity
            scores = queries[rows[place]] @ vectors[scored].T
            here = np.searchsorted(scored, column_of[match[rows[place]]])
            of_own = scores[np.arange(len(place)), here][:, None]
            found.n_better[place] = (scores > of_own) @ times
            found.n_tied[place] = (scores == of_own) @ times
            found.n_eligible[place] = len(drawn)

    each_block(count, len(places), PATIENTS)
    return found


class _Own:
    """Candidates that are not eligible for the queries at some places, sorted."""

    def __init__(
        self, candidate_group: np.ndarray | None, query_group: np.ndarray, match: np.ndarray, rows: np.ndarray
    ) -> None:
        self._match, self._rows, self._query_group = match, rows, query_group
        self._order = None if candidate_group is None else np.argsort(candidate_group, kind="stable")
        self._sorted = None if candidate_group is None else candidate_group[self._order]

    def __call__(self, place: np.ndarray) -> np.ndarray:
        if self._order is None or self._sorted is None:
            return self._match[self._rows[place]]
        group = self._query_group[self._rows[place[0]]]
        low, high = (np.searchsorted(self._sorted, group, side) for side in ("left", "right"))
        return np.sort(self._order[low:high])


def _drawn(n: int, own: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """`wanted` of 0 .. n-1 less those of `own` (sorted), without replacement; all of them where there are no more."""
    n_eligible = n - len(own)
    if wanted >= n_eligible:
        return np.setdiff1d(np.arange(n), own, assume_unique=True)
    drawn = rng.choice(n_eligible, wanted, replace=False, shuffle=False)
    return np.asarray(drawn + np.searchsorted(own - np.arange(len(own)), drawn, side="right"))
