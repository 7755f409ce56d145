"""Do two models rank the same queries differently? Tests on paired outcomes, with patients as the unit."""

from __future__ import annotations

import numpy as np

from linkage_core.errors import InputError
from linkage_core.ranking.counts import MatchCounts

DRAWS = 10_000
_BLOCK = 256


def permutation_test(
    values_a: np.ndarray, values_b: np.ndarray, cluster: np.ndarray, *, draws: int = DRAWS, seed: int = 0
) -> float:
    """If the two were alike, how often would their means differ by as much?

    Were they alike, a patient's figures under A and B could be exchanged; all of a patient's images at once, as they
    are alike. So the signs of whole patients' summed differences are flipped at random: two-sided
    p = (1 + flips with at least the observed difference of means) / (1 + draws), which is never zero (Phipson and
    Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010).

    Arguments
        values_a, values_b: (n_queries,) of the same queries; a query where either is NaN is left out.
        cluster: (n_queries,) patient of each.
        draws: at least 1,000.
    Returns p; 1 where nothing differs, NaN where no query has both values.
    """
    difference, cluster = paired_rows(values_a, values_b, cluster)
    if draws < 1000:
        raise InputError(f"draws is {draws}.", "Take at least 1,000 draws.")
    if not len(difference):
        return float("nan")
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], weights=difference)
    # a patient without a difference has the same sum under either sign. Rounding must not part equal sums
    sums = sums[np.abs(sums) > 1e-12]
    least = np.abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    rng = np.random.default_rng(seed)
    as_large = 0
    for start in range(0, draws, _BLOCK):
        n = min(_BLOCK, draws - start)
        bits = np.unpackbits(rng.integers(0, 256, (n, -(-len(sums) // 8)), dtype=np.uint8), axis=1, count=len(sums))
        flipped = 2 * (bits.astype(np.float64) @ sums) - sums.sum()
        as_large += int((np.abs(flipped) >= least).sum())
    return (1 + as_large) / (1 + draws)


def first_of_all(counts: MatchCounts) -> np.ndarray:
    """Does the match stand first, alone, among all its eligible candidates? (n_queries,) 1.0 or 0.0, NaN without any.

    A random pool gives a probability, not a hit. This is the hit at N = "full", a tie for the first place not counting.
    """
    hit = (counts.n_better == 0) & (counts.n_tied == 0)
    return np.where(counts.n_eligible > 0, hit.astype(np.float64), np.nan)


def mcnemar_exact(hits_a: np.ndarray, hits_b: np.ndarray) -> float:
    """Of the images that one finds and the other misses, are the two sides alike?

    Exact binomial test of the n_a only-A and n_b only-B hits against one half, two-sided (McNemar, Psychometrika 12,
    1947). It takes images for independent and so says too much where patients have several: a companion of
    permutation_test, not a replacement.

    Arguments
        hits_a, hits_b: (n_queries,) 1 or 0 of the same queries; a query where either is NaN is left out.
    Raises InputError for other values: an expected recall is not a hit (see first_of_all).
    """
    hits_a, hits_b = np.asarray(hits_a, dtype=np.float64), np.asarray(hits_b, dtype=np.float64)
    if hits_a.shape != hits_b.shape or hits_a.ndim != 1:
        raise InputError(f"hits have shapes {hits_a.shape} and {hits_b.shape}.", "Give one hit or miss a query.")
    both = ~(np.isnan(hits_a) | np.isnan(hits_b))
    hits_a, hits_b = hits_a[both], hits_b[both]
    other = ~np.isin(np.concatenate([hits_a, hits_b]), [0, 1])
    if other.any():
        value = np.concatenate([hits_a, hits_b])[other][0]
        raise InputError(f"hits hold {value:g}.", "A hit is 1, a miss 0; first_of_all makes them from counts.")
    if not both.any():
        return float("nan")
    only_a, only_b = int((hits_a > hits_b).sum()), int((hits_b > hits_a).sum())
    if not only_a + only_b:
        return 1.0
    from scipy.stats import binomtest  # slow to import, and asked for only where models are compared

    return float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p values adjusted for how many were looked at: the family-wise error stays below the level.

    Sorted upwards, p_(i) times the number of hypotheses not yet passed, never below its predecessor and at most 1
    (Holm, Scandinavian Journal of Statistics 6, 1979). (n,) in the order given; NaN stays NaN and is not counted.

    >>> holm(np.array([0.04, 0.01, 0.03])).tolist()
    [0.06, 0.03, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p_values))
    if ((p_values[tested] < 0) | (p_values[tested] > 1)).any():
        raise InputError(f"p values are {p_values.tolist()}.", "Each lies between 0 and 1.")
    order = tested[np.argsort(p_values[tested], kind="stable")]
    adjusted = np.full(len(p_values), np.nan)
    steps = p_values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def paired_rows(values_a: np.ndarray, values_b: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(differences, patients) of the queries that have both values."""
    values_a, values_b = np.asarray(values_a, dtype=np.float64), np.asarray(values_b, dtype=np.float64)
    cluster = np.asarray(cluster)
    if not values_a.shape == values_b.shape == cluster.shape or values_a.ndim != 1:
        raise InputError(
            f"values have shapes {values_a.shape} and {values_b.shape}, cluster {cluster.shape}.",
            "Give two values and a patient for each query.",
        )
    difference = values_a - values_b
    both = ~np.isnan(difference)
    return difference[both], cluster[both]
