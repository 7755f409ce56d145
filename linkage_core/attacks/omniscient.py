"""Somebody who knows the clean embedding of every candidate: the likelihood of one release, counted exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from linkage_core.attacks.learn_pairs import with_coordinate
from linkage_core.errors import InputError
from linkage_core.ranking.counts import MatchCounts, distinct, identical_counts, match_counts


def omniscient_counts(
    clean: np.ndarray, study: np.ndarray, group: np.ndarray, noise: float = 0.0, rng: np.random.Generator | None = None
) -> MatchCounts:
    """Candidates that the likelihood of one release of each image puts above and level with the true one.

    clean (n_images, e) embeddings before noise; study and group (n_images,) of each image. Candidates are studies of
    other groups. With noise, `rng` draws one release of each image; without, only identical embeddings are level.
    """
    if noise and rng is None:
        raise InputError("Noise is to be drawn and no rng was given.", "Give a numpy Generator.")
    n = len(clean)
    group_code = np.unique(group, return_inverse=True)[1]
    better, tied, eligible = np.zeros((3, n), dtype=np.int64)
    for rows, shown, match in numbered_images(study):
        query_group, candidate_group = group_code[rows], group_code[shown]
        if noise and rng is not None:
            released = clean[rows] + noise * rng.standard_normal((len(rows), clean.shape[1]))
            candidates = with_coordinate(clean[shown], -0.5 * (clean[shown].astype(np.float64) ** 2).sum(axis=1))
            counts = match_counts(
                with_coordinate(released, 1.0),
                candidates,
                match,
                query_group=query_group,
                candidate_group=candidate_group,
            )
        else:
            counts = identical_counts(distinct(clean[shown], match)[1], match, query_group, candidate_group)
        better[rows], tied[rows], eligible[rows] = counts
    return MatchCounts(better, tied, eligible)


def numbered_images(study: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every image as a query once: (queries, image that stands for each study, the study of each query), for the first
    images of all studies, then for the second ones, and so on; a study that has run out shows its last."""
    study_code = np.unique(study, return_inverse=True)[1]
    order = np.argsort(study_code, kind="stable")
    sizes = np.bincount(study_code)
    first = np.cumsum(sizes) - sizes
    number = np.empty(len(study), dtype=np.int64)
    number[order] = np.arange(len(study)) - first[study_code[order]]
    for p in range(int(sizes.max()) if len(study) else 0):
        rows = np.flatnonzero(number == p)
        yield rows, order[first + np.minimum(p, sizes - 1)], study_code[rows]
