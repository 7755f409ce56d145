"""Intervals for rates: bootstrap over patients. Values and clusters in, intervals out; never a data frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit

from linkage_core.errors import InputError

DRAWS = 2000
LEVEL = 0.95
TOO_FEW = 30
MOST = 0.5
"""Where one patient holds more than this share, a figure is about that patient."""
FEW_CARRY = 10
"""Fewer patients than this, in effect, are behind a figure: those that were not met might move it as much."""
RARE = 5
"""Fewer than this, and a rate is taken for one of hits and misses."""
CHOICE = 0.5
"""How much of what the choice of the best adds in resampling its low end is lowered by: see of_the_best."""
_BLOCK = 250

Figure = np.ndarray | float


@dataclass(frozen=True)
class Intervals:
    """Mean of each column of values with its interval; arrays of shape (n_columns,).

    `n` counts the queries behind each mean, `behind` the patients in effect (see behind). Where fewer than two clusters
    hold a value, low and high are NaN.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    behind: np.ndarray
    seed: int
    draws: int


def cluster_bootstrap(
    values: np.ndarray, cluster: np.ndarray, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Intervals:
    """How far could a mean over queries move if other patients had been sampled?

    Patients, not images, are drawn with replacement: multinomial weights on the sums of each patient's values, so the
    mean is a ratio of two weighted sums and needs no resampled table (Efron and Tibshirani, An Introduction to the
    Bootstrap, 1993, ch. 8 and 13: the cluster as the unit, percentile interval). The interval is `stretched` by how
    few patients are behind the mean in effect.

    Arguments
        values: (n_queries,) or (n_queries, n_columns); NaN marks a query left out of that column.
        cluster: (n_queries,) patient of each query.
        draws: at least 1,000, or the ends of a 95% interval are noise. 2,000 by default.
    """
    found, sums, sizes = _percentiles(values, cluster, seed, draws, level)
    m = behind(sums, sizes)
    low, high = stretched(found.estimate, found.low, found.high, m, level)
    return replace(found, low=low, high=high, behind=m)


def rate_intervals(values: np.ndarray, cluster: np.ndarray, *, seed: int = 0, draws: int = DRAWS) -> Intervals:
    """As cluster_bootstrap (95%), of values between 0 and 1, and honest where a handful of patients carry the mean.

    A large pool leaves most patients near 0 and a few near 1, and resampling knows nothing of others like these few: it
    held the truth in 63% of simulated cohorts of 82 patients. Where fewer than RARE patients in effect are behind the
    mean, or what it lacks to 1, the percentile interval is not stretched but widened to that of Clopper and Pearson
    (1934) for as many hits of n patients, n being how many hold the queries in effect: of all means of n values between
    0 and 1, that of hits and misses varies most. It is then longer than need be. With none or all it is that of
    `unseen`. Where fewer than TOO_FEW patients hold the queries in effect, the interval is at least that one too.
    """
    found, sums, sizes = _percentiles(values, cluster, seed, draws, LEVEL)
    m = np.minimum(behind(sums, sizes), behind(sizes - sums, sizes))
    low, high = stretched(found.estimate, found.low, found.high, m)
    n, tail = in_effect(sizes), (1 - LEVEL) / 2
    low, high = np.where(m < RARE, found.low, low), np.where(m < RARE, found.high, high)
    for j in np.flatnonzero(((m < RARE) | (n < TOO_FEW)) & (n > 0)):
        hits = found.estimate[j] * n[j]
        low[j] = np.fmin(low[j], betaincinv(hits, n[j] - hits + 1, tail) if hits > 0 else 0.0)
        high[j] = np.fmax(high[j], betaincinv(hits + 1, n[j] - hits, 1 - tail) if hits < n[j] else 1.0)
    return replace(found, low=np.maximum(low, 0.0), high=np.minimum(high, 1.0), behind=m)


def of_the_best(
    values: np.ndarray, chosen_on: np.ndarray, cluster: np.ndarray, *, seed: int = 0, draws: int = DRAWS
) -> tuple[int, Intervals]:
    """(the column with the largest mean of `chosen_on`, rate_intervals of its `values`, which hold in spite of it).

    Of columns that are as good as each other the best was lucky too: the choice adds 1.4 standard errors where eight
    are unlike, half of one where they share nine tenths of what makes a query hard, nothing where one is clearly
    better. So the low end is lowered by CHOICE of what the choice adds in resampling, the mean over draws of how far
    the one that is best there lies above its own mean here: half, as the high end, which the choice moves away from the
    truth, has the rest to spare (benchmarks/interval_coverage.json).

    Arguments
        values, chosen_on: (n_queries, n_columns), may be the same; of columns with level means the first is taken.
    """
    means = np.nanmean(chosen_on, axis=0)
    best = int(np.argmax(means))
    found = rate_intervals(values[:, best], cluster, seed=seed, draws=draws)
    rivals = np.flatnonzero(means > 0.5 * means[best])  # who is not half as good is not chosen in any draw
    if len(rivals) < 2 or np.isnan(found.low).any():
        return best, found
    both = np.hstack([values[:, rivals], chosen_on[:, rivals]])
    present = ~np.isnan(both)
    code = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(code.max()) + 1
    sums = sums_by_cluster(np.where(present, both, 0.0), code, n_clusters)
    drawn = _drawn_means(sums, sums_by_cluster(present.astype(np.float64), code, n_clusters), seed, draws)
    here, again = np.split(drawn, 2, axis=1)
    one = np.nan_to_num(again).argmax(axis=1)
    adds = float(np.nanmean(here[np.arange(draws), one] - np.nanmean(values[:, rivals], axis=0)[one]))
    return best, replace(found, low=np.maximum(found.low - CHOICE * max(adds, 0.0), 0.0))


def _percentiles(
    values: np.ndarray, cluster: np.ndarray, seed: int, draws: int, level: float
) -> tuple[Intervals, np.ndarray, np.ndarray]:
    """(percentile intervals as they are, sums, queries of each patient: both (n_clusters, n_columns))."""
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
    low, high, none = np.full((3, values.shape[1]), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = sums.sum(axis=0) / n
        if not n_clusters:
            return Intervals(estimate, low, high, n, none, seed, draws), sums, sizes
        means = _drawn_means(sums, sizes, seed, draws)
    tail = (1 - level) / 2
    enough = (sizes > 0).sum(axis=0) >= 2
    if enough.any():
        # a draw may hold no patient of a sparse column: it says nothing about that column
        low[enough], high[enough] = np.nanquantile(means[:, enough], [tail, 1 - tail], axis=0)
    return Intervals(estimate, low, high, n, none, seed, draws), sums, sizes


def _drawn_means(sums: np.ndarray, sizes: np.ndarray, seed: int, draws: int) -> np.ndarray:
    """(draws, n_columns) means over resampled patients; NaN where a draw has none of a column's."""
    # few columns differ in who has a value: those of one N have the same queries
    told_apart = {column.tobytes(): place for place, column in reversed([*enumerate(sizes.T)])}
    apart = sorted(told_apart.values())
    both = np.hstack([sums, sizes[:, apart]])
    of_column = [apart.index(told_apart[column.tobytes()]) for column in sizes.T]
    weights = patient_weights(len(sums), draws, seed)
    # a block of draws at a time: summed in double precision without a second copy of the weights
    drawn = np.vstack([weights[i : i + _BLOCK] @ both for i in range(0, draws, _BLOCK)])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(drawn[:, : sums.shape[1]] / drawn[:, sums.shape[1] :][:, of_column])


def behind(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n_columns,) how many patients are behind a mean in effect: as many degrees of freedom has its standard error.

    A patient whose n queries are alike adds to the variance of the mean as n^2, so the variance is known as one of
    in_effect(n^2) numbers (Satterthwaite, Biometrics Bulletin 2, 1946; for clusters Bell and McCaffrey, Survey
    Methodology 28, 2002): of 300 patients with one to eight queries 180, of 300 with Pareto(1.1) queries, at most 60,
    but 11. Where only some patients carry the sum (who is linked, who differs), it is as much less.

    Arguments
        sums, sizes: (n_patients, n_columns) sums of values and queries of each patient.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        carrying = np.nan_to_num(in_effect(np.abs(sums)) / in_effect(sizes))
    return np.asarray(in_effect(sizes**2) * np.minimum(carrying, 1.0))


def stretched(
    estimate: Figure, low: Figure, high: Figure, m: Figure, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of a percentile interval, each end as much further from the estimate as Student's quantile at m
    degrees of freedom is than the normal one: 1% at 100, 14% at 10 and 31% at 5 patients in effect.

    m may be of any shape that the ends have. Resampling takes the spread it sees for the true one, which m patients
    know only so well: a percentile interval is that much too short (benchmarks/interval_coverage.json has how often
    either holds the truth).
    """
    factor = stretch(m, level)
    return np.asarray(estimate - factor * (estimate - low)), np.asarray(estimate + factor * (high - estimate))


def stretch(m: Figure, level: float = LEVEL) -> np.ndarray:
    """By what factor an interval of m patients in effect is `stretched`; m below 1 counts as 1."""
    one_end = (1 + level) / 2
    return np.asarray(stdtrit(np.maximum(m, 1.0), one_end) / ndtri(one_end))


def in_effect(of_patients: np.ndarray) -> np.ndarray:
    """(n_columns,) how many patients a sum (n_patients, n_columns) comes from, were all alike: (sum s)^2 / sum s^2."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(of_patients.sum(axis=0) ** 2 / (of_patients**2).sum(axis=0))


def flag(n_patients: int, in_effect: float = np.inf) -> str:
    """What stands beside a figure of this many patients: "too few to say" below TOO_FEW, or where in effect fewer than
    FEW_CARRY hold its queries (see behind), as even a stretched interval may be too short; else nothing.

    >>> flag(200, 4.2)
    'too few to say: 4 patients in effect'
    """
    if n_patients < TOO_FEW:
        return "too few to say"
    return f"too few to say: {in_effect:.0f} patients in effect" if in_effect < FEW_CARRY else ""


def flag_of(cluster: np.ndarray) -> str:
    """As flag, of the patients (n_queries,) behind a figure; also where one of them holds more than half of it.

    >>> flag_of(np.array(["a"] * 40 + [f"b{i}" for i in range(35)]))
    'too few to say: one patient holds 53%'
    """
    sizes = np.unique(cluster, return_counts=True)[1].astype(np.float64)
    largest = sizes.max() / sizes.sum() if len(sizes) else 0.0
    if len(sizes) >= TOO_FEW and largest > MOST:
        return f"{flag(0)}: one patient holds {largest:.0%}"
    return flag(len(sizes), float(in_effect(sizes[:, None] ** 2)[0]))


def unseen(n_clusters: float, level: float = LEVEL) -> float:
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


def patient_weights(n_clusters: int, draws: int, seed: int) -> np.ndarray:
    """(draws, n_clusters) float32, how often each patient is drawn; each row sums to n_clusters."""
    return _times_drawn(n_clusters, draws, seed).astype(np.float32)


@lru_cache(maxsize=4)
def _times_drawn(n_clusters: int, draws: int, seed: int) -> np.ndarray:
    """As patient_weights, in a byte each where that is enough: they are kept, and a fourth of the memory does."""
    rng = np.random.default_rng(seed)
    drawn = np.empty((draws, n_clusters), dtype=np.uint8)
    for draw in range(draws):
        times = np.bincount(rng.integers(0, n_clusters, n_clusters), minlength=n_clusters)
        if drawn.dtype == np.uint8 and times.max(initial=0) > 255:
            drawn = drawn.astype(np.uint32)
        drawn[draw] = times
    return drawn
