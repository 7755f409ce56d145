"""Intervals for rates: bootstrap over patients. Values and clusters in, intervals out; never a data frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv

from linkage_core.errors import InputError

DRAWS = 2000
LEVEL = 0.95
TOO_FEW = 30
MOST = 0.5
"""Where one patient holds more than this share, a figure is about that patient."""
FEW_CARRY = 10
"""Fewer patients than this, in effect, carry a mean: those that were not met might carry as much."""
_BLOCK = 250


@dataclass(frozen=True)
class Intervals:
    """Mean of each column of values with its percentile interval; arrays of shape (n_columns,).

    `n` counts the queries behind each mean. Where fewer than two clusters hold a value, low and high are NaN.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    seed: int
    draws: int


def cluster_bootstrap(
    values: np.ndarray, cluster: np.ndarray, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Intervals:
    """How far could a mean over queries move if other patients had been sampled?

    Patients, not images, are drawn with replacement: multinomial weights on the sums of each patient's values, so the
    mean is a ratio of two weighted sums and needs no resampled table (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, ch. 8 and 13: the cluster as the unit, percentile interval).

    Arguments
        values: (n_queries,) or (n_queries, n_columns); NaN marks a query left out of that column.
        cluster: (n_queries,) patient of each query.
        draws: at least 1,000, or the ends of a 95% interval are noise. 2,000 by default.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 1:
        values = values[:, None]
    cluster = np.asarray(cluster)
    if values.ndim != 2 or cluster.shape != (len(values),):
        raise InputError(
            f"values have shape {values.shape} and cluster {cluster.shape}.", "Give one patient for each row of values."
        )
    if draws < 1000:
        raise InputError(f"draws is {draws}.", "Take at least 1,000 draws.")
    if not 0 < level < 1:
        raise InputError(f"level is {level}.", "It lies between 0 and 1, for example 0.95.")
    present = ~np.isnan(values)
    code = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(code.max()) + 1 if len(code) else 0
    sums = sums_by_cluster(np.where(present, values, 0.0), code, n_clusters)
    sizes = sums_by_cluster(present.astype(np.float64), code, n_clusters)
    n = present.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = sums.sum(axis=0) / n
        if not n_clusters:
            nothing = np.full(values.shape[1], np.nan)
            return Intervals(estimate, nothing, nothing, n, seed, draws)
        both = np.hstack([sums, sizes])
        weights = patient_weights(n_clusters, draws, seed)
        # a block of draws at a time: summed in double precision without a second copy of the weights
        drawn = np.vstack([weights[i : i + _BLOCK] @ both for i in range(0, draws, _BLOCK)])
        means = drawn[:, : values.shape[1]] / drawn[:, values.shape[1] :]
    tail = (1 - level) / 2
    low, high = np.full((2, values.shape[1]), np.nan)
    enough = (sizes > 0).sum(axis=0) >= 2
    if enough.any():
        # a draw may hold no patient of a sparse column: it says nothing about that column
        low[enough], high[enough] = np.nanquantile(means[:, enough], [tail, 1 - tail], axis=0)
    return Intervals(estimate, low, high, n, seed, draws)


def rate_intervals(values: np.ndarray, cluster: np.ndarray, *, seed: int = 0, draws: int = DRAWS) -> Intervals:
    """As cluster_bootstrap (95%), of values between 0 and 1, and honest where a handful of patients carry the mean.

    A large pool leaves most patients near 0 and a few near 1, and resampling knows nothing of others like these few: it
    held the truth in 63% of simulated cohorts of 82 patients. Where in effect (Kish: (sum s)^2 / sum s^2 over patients'
    sums s) fewer than FEW_CARRY patients carry the mean, or what it lacks to 1, the interval is widened to that of
    Clopper and Pearson (1934) for as many hits of n patients: of all means of n values between 0 and 1, that of hits
    and misses varies most. It is then longer than need be. With none or all it is that of `unseen`.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    intervals = cluster_bootstrap(values, cluster, seed=seed, draws=draws)
    present = ~np.isnan(values)
    code = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(code.max()) + 1 if len(code) else 0
    sums = sums_by_cluster(np.where(present, values, 0.0), code, n_clusters)
    sizes = sums_by_cluster(present.astype(np.float64), code, n_clusters)
    carried = np.minimum(in_effect(sums), in_effect(sizes - sums))
    n = (sizes > 0).sum(axis=0)
    low, high = intervals.low.copy(), intervals.high.copy()
    tail = (1 - LEVEL) / 2
    for j in np.flatnonzero((carried < FEW_CARRY) & (n > 0)):
        hits = intervals.estimate[j] * n[j]
        low[j] = np.fmin(low[j], betaincinv(hits, n[j] - hits + 1, tail) if hits > 0 else 0.0)
        high[j] = np.fmax(high[j], betaincinv(hits + 1, n[j] - hits, 1 - tail) if hits < n[j] else 1.0)
    return replace(intervals, low=low, high=high)


def in_effect(of_patients: np.ndarray) -> np.ndarray:
    """(n_columns,) how many patients a sum (n_patients, n_columns) comes from, were all alike: (sum s)^2 / sum s^2."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(of_patients.sum(axis=0) ** 2 / (of_patients**2).sum(axis=0))


def flag(n_patients: int) -> str:
    """What stands beside a figure of this many patients: "too few to say" below 30, where a percentile interval is
    known to be too short; else nothing."""
    return "too few to say" if n_patients < TOO_FEW else ""


def flag_of(cluster: np.ndarray) -> str:
    """As flag, of the patients (n_queries,) behind a figure; also where one of them holds more than half of it.

    >>> flag_of(np.array(["a"] * 40 + [f"b{i}" for i in range(35)]))
    'too few to say: one patient holds 53%'
    """
    sizes = np.unique(cluster, return_counts=True)[1]
    largest = sizes.max() / sizes.sum() if len(sizes) else 0.0
    if len(sizes) >= TOO_FEW and largest > MOST:
        return f"{flag(0)}: one patient holds {largest:.0%}"
    return flag(len(sizes))


def unseen(n_clusters: int, level: float = LEVEL) -> float:
    """The upper end for what was seen in none of n patients, where resampling them would say 0 to 0.

    The share q of patients that still shows none with probability (1-level)/2: (1-q)^n = (1-level)/2 (Clopper and
    Pearson, 1934).
    """
    return float(1 - ((1 - level) / 2) ** (1 / max(n_clusters, 1)))


def sums_by_cluster(values: np.ndarray, code: np.ndarray, n_clusters: int) -> np.ndarray:
    """(n_clusters, n_columns) sums."""
    out = np.empty((n_clusters, values.shape[1]))
    for column in range(values.shape[1]):
        out[:, column] = np.bincount(code, weights=values[:, column], minlength=n_clusters)
    return out


@lru_cache(maxsize=4)
def patient_weights(n_clusters: int, draws: int, seed: int) -> np.ndarray:
    """(draws, n_clusters) how often each patient is drawn; each row sums to n_clusters."""
    rng = np.random.default_rng(seed)
    weights = np.empty((draws, n_clusters), dtype=np.float32)
    for draw in range(draws):
        weights[draw] = np.bincount(rng.integers(0, n_clusters, n_clusters), minlength=n_clusters)
    weights.flags.writeable = False
    return weights
