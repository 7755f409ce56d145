"""Closed forms over the pool size N: what random pools would give, without drawing one.

A pool is the match and N-1 other eligible candidates, drawn without replacement. Of n_eligible others, the number that
beat the match in the pool is X ~ Hypergeometric(n_eligible, n_better, N-1). With ties broken at random the match's
place among all M = n_eligible + 1 candidates is uniform on n_better+1 .. n_better+n_tied+1, so every quantity below is
an average of its tie-free form over that range. A scorer that ties everything gives exactly k/N.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from linkage_core.errors import InputError
from linkage_core.ranking.counts import MatchCounts


def expected_recall(counts: MatchCounts, pool_size: int, k: int) -> np.ndarray:
    """How often is the match among the first k of a random pool of N?

    Recall@k(N) = P(X <= k-1), averaged over ties; exact for every N. (n_queries,) float64; NaN where a query has fewer
    than N-1 eligible candidates.
    Raises InputError if k is not within 1..N, or if no query has enough candidates; it names the largest possible N.
    """
    k = _integer(k, "k")
    pool_size = _integer(pool_size, "pool_size")
    if k > pool_size:
        raise InputError(f"k is {k}, and the pool holds {pool_size} reports.", "k must be at most N.")
    return _averaged(counts, pool_size, lambda n_others: _kept(n_others)(_recall_by_rank, n_others, pool_size, k))


def expected_reciprocal_rank(counts: MatchCounts, pool_size: int) -> np.ndarray:
    """Mean of 1/rank of the match over random pools of N; (n_queries,) float64, NaN where a query is too poor for N.

    Without ties and with r = n_better+1, M = n_eligible+1: E[1/rank] = (M / (N r)) (1 - C(M-r, N) / C(M, N)).
    From sum_x C(K,x) C(M-1-K,n-x) / (x+1) with C(K,x)/(x+1) = C(K+1,x+1)/(K+1) and Vandermonde, K = r-1, n = N-1.
    """
    pool_size = _integer(pool_size, "pool_size")
    return _averaged(counts, pool_size, lambda n_others: _kept(n_others)(_reciprocal_by_rank, n_others, pool_size))


def expected_rank(counts: MatchCounts, pool_size: int) -> np.ndarray:
    """Mean rank of the match over random pools of N: 1 + (n_better + n_tied/2) (N-1) / n_eligible. NaN as above."""
    pool_size = _integer(pool_size, "pool_size")
    enough = _enough(counts, pool_size)
    above = counts.n_better + counts.n_tied / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(counts.n_eligible > 0, above / counts.n_eligible, 0.0)
    return np.where(enough, 1 + share * (pool_size - 1), np.nan)


def full_recall(counts: MatchCounts, k: int) -> np.ndarray:
    """Recall@k of every query against all its eligible candidates (N = n_eligible + 1, its own for each query)."""
    k = _integer(k, "k")
    # places n_better+1 .. n_better+n_tied+1 are equally likely
    return np.clip((k - counts.n_better) / (counts.n_tied + 1), 0.0, 1.0)


def full_reciprocal_rank(counts: MatchCounts) -> np.ndarray:
    """Mean of 1/rank over the places a tie leaves open, against all eligible candidates."""
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, _top(counts) + 2))])
    return (harmonic[counts.n_better + counts.n_tied + 1] - harmonic[counts.n_better]) / (counts.n_tied + 1)


def full_rank(counts: MatchCounts) -> np.ndarray:
    """Mean rank over the places a tie leaves open, against all eligible candidates."""
    return 1 + counts.n_better + counts.n_tied / 2


def largest_pool(counts: MatchCounts) -> int:
    """The largest N that any query can fill: its match and all its eligible candidates."""
    return int(counts.n_eligible.max()) + 1 if len(counts.n_eligible) else 0


def any_hit_by_chance(n_hits: np.ndarray, pool_size: int, k: int) -> np.ndarray:
    """Probability that a guess puts one of m hits among the first k, beside N-1 others; (n_queries,).

    In a random order of N-1+m candidates none of the first k is a hit with probability C(N-1, k) / C(N-1+m, k), the
    product over i < k of (N-1-i) / (N-1+m-i). For m = 1 it is k/N.

    >>> any_hit_by_chance(np.array([1, 2]), 10, 1).round(4).tolist()
    [0.1, 0.1818]
    """
    if not 1 <= k <= pool_size:
        raise InputError(f"k is {k}, and the pool holds {pool_size} reports.", "k lies between 1 and N.")
    m = np.asarray(n_hits, dtype=np.float64)
    if (m < 1).any():
        raise InputError(f"n_hits holds {m.min():g}.", "Every query has at least one hit.")
    missed = np.ones_like(m)
    for i in range(k):
        missed *= (pool_size - 1 - i) / (pool_size - 1 + m - i)
    return np.asarray(1 - missed)


def guessed(
    pool_size: int, k: int, n_eligible: np.ndarray, n_same_text: np.ndarray, n_hits: np.ndarray | int = 1
) -> np.ndarray:
    """Probability that a guess, k candidates of a pool of N at random, holds a hit; (n_queries,).

    any_hit_by_chance for hits beside the pool. Where c of E eligible candidates are hits by their text, the match is
    missed with probability 1 - k/N, and the k others are then any k of the E.

    >>> guessed(10, 1, np.array([100]), np.array([50])).round(3).tolist()
    [0.55]
    """
    missed = 1 - any_hit_by_chance(np.broadcast_to(n_hits, np.shape(n_eligible)), pool_size, k)
    return np.asarray(1 - missed * none_of_the_text(k, n_eligible, n_same_text))


def none_of_the_text(k: int, n_eligible: np.ndarray, n_same_text: np.ndarray) -> np.ndarray:
    """Probability that none of any k of E candidates is one of c: C(E-c, k) / C(E, k), (n_queries,)."""
    eligible = np.asarray(n_eligible, dtype=np.float64)
    none = np.ones_like(eligible)
    for i in range(k):
        with np.errstate(invalid="ignore", divide="ignore"):
            none *= np.where(eligible > i, np.maximum(eligible - n_same_text - i, 0) / (eligible - i), 1.0)
    return none


def tied_flag(counts: MatchCounts, n_hits: np.ndarray | int = 0) -> str:
    """What stands beside figures of a scorer that ties everything: they are chance by construction. Else nothing.

    `n_hits` of the eligible are not counted as tied because they are hits themselves.
    """
    able = counts.n_eligible > 0
    if able.any() and (counts.n_tied + n_hits == counts.n_eligible)[able].all() and counts.n_tied.any():
        return "all scores tie"
    return ""


def log_pool_sizes(largest: int) -> list[int]:
    """10, 20, 50, 100, 200, ... up to `largest`, and `largest` itself: the steps of a logarithmic slider.

    >>> log_pool_sizes(130)
    [10, 20, 50, 100, 130]
    """
    if largest < 2:
        raise InputError(f"The largest pool holds {largest} report(s).", "A pool needs at least two.")
    steps = [s * 10**p for p in range(1, 12) for s in (1, 2, 5) if s * 10**p < largest]
    return [*steps, largest]


def _averaged(counts: MatchCounts, pool_size: int, by_rank: Callable[[int], np.ndarray]) -> np.ndarray:
    """Per query, the mean of by_rank(n_eligible)[r-1] over r = n_better+1 .. n_better+n_tied+1.

    Computed once for each distinct (n_better, n_tied, n_eligible). Differences of a running sum give the mean over a
    tie; without a tie the value itself is taken, so nothing is lost to cancellation.
    """
    enough = _enough(counts, pool_size)
    result = np.full(len(counts.n_better), np.nan)
    for n_others in np.flatnonzero(np.bincount(counts.n_eligible[enough])).tolist():
        values = by_rank(n_others)
        rows = np.flatnonzero(enough & (counts.n_eligible == n_others))
        low, ties = counts.n_better[rows], counts.n_tied[rows]
        result[rows] = values[low]
        tied = ties > 0
        if tied.any():
            running = np.concatenate([[0.0], np.cumsum(values)])
            low, ties = low[tied], ties[tied]
            result[rows[tied]] = (running[low + ties + 1] - running[low]) / (ties + 1)
    return result


def _made(make: Callable[..., np.ndarray], *asked: int) -> np.ndarray:
    return make(*asked)


_many, _few = lru_cache(maxsize=512)(_made), lru_cache(maxsize=16)(_made)


def _kept(n_others: int) -> Callable[..., np.ndarray]:
    """What makes the values of all ranks or has them: many where they are short, so that none fills the memory."""
    return _many if n_others < 1 << 15 else _few


SMALLEST = 1e-290
"""A probability below it counts as none, where it can only fall."""
STRETCH = 1 << 14


def _recall_by_rank(n_others: int, pool_size: int, k: int) -> np.ndarray:
    """P(X <= k-1) for n_better = 0 .. n_others, X ~ Hypergeometric(n_others, n_better, pool_size-1)."""
    recall = np.zeros(n_others + 1)
    for x in range(min(k, pool_size)):
        _add_chances(recall[x:], n_others, pool_size - 1, x)
    recall[:k] = 1.0  # fewer than k better candidates exist at all
    recall = np.minimum(recall, 1.0, out=recall)
    recall.flags.writeable = False
    return recall


def _add_chances(total: np.ndarray, n_others: int, drawn: int, x: int) -> None:
    """Adds P(X=x) for n_better b = x .. n_others to (n_others-x+1,) `total`.

    With L = n_others, n = drawn: P(X=x | b+1) / P(X=x | b) = (b+1)/(b+1-x) * (1 - (n-x)/(L-b)), started at b = x with
    P = prod_{i<x} (n-i)/(L-i). Ratios are multiplied, a stretch at a time until nothing is left: of 377,000 the last is
    right to 13 digits. Where the first would be too small for a float, their logarithms are summed instead.
    """
    first = np.sum(np.log(drawn - np.arange(x)) - np.log(n_others - np.arange(x)))
    last = np.exp(first)
    in_logs = last < SMALLEST
    if not in_logs:
        total[0] += last
    for start in range(x, n_others, STRETCH):
        b = np.arange(start, min(start + STRETCH, n_others), dtype=float)
        up, down = (b + 1) / (b + 1 - x), np.maximum(n_others - b - (drawn - x), 0.0) / (n_others - b)
        if in_logs:
            with np.errstate(divide="ignore"):
                logs = first + np.cumsum(np.log(up) + np.log(down))
            chances, first = np.exp(logs), logs[-1]
        else:
            chances = last * np.cumprod(up * down)
            last = chances[-1]
            if last < SMALLEST and up[-1] * down[-1] < 1:  # it only falls from here
                total[start - x + 1 : start - x + 1 + len(b)] += chances
                return
        total[start - x + 1 : start - x + 1 + len(b)] += chances


def _reciprocal_by_rank(n_others: int, pool_size: int) -> np.ndarray:
    """E[1/rank] for n_better = 0 .. n_others; C(M-r, N)/C(M, N) is the product of 1 - N/(M-j) over j < r."""
    m = n_others + 1
    rank = np.arange(1, m + 1)
    with np.errstate(divide="ignore"):
        log_missed = np.cumsum(np.log1p(-np.minimum(pool_size / (m + 1 - rank), 1.0)))
    value = m / (pool_size * rank) * -np.expm1(log_missed)
    value.flags.writeable = False
    return np.asarray(value)


def _enough(counts: MatchCounts, pool_size: int) -> np.ndarray:
    _checked(counts)
    enough = np.asarray(counts.n_eligible + 1 >= pool_size)
    if not enough.any():
        raise InputError(
            f"A pool of {pool_size} reports is larger than any image can fill.",
            f"The largest possible N is {largest_pool(counts)}.",
        )
    return enough


def _checked(counts: MatchCounts) -> None:
    if not len(counts.n_better) == len(counts.n_tied) == len(counts.n_eligible):
        raise InputError("The three count arrays differ in length.", "They hold one entry a query.")
    if (counts.n_better < 0).any() or (counts.n_tied < 0).any():
        raise InputError("A count is negative.", "Counts come from ranking.match_counts.")
    if (counts.n_better + counts.n_tied > counts.n_eligible).any():
        row = int(np.argmax(counts.n_better + counts.n_tied > counts.n_eligible))
        raise InputError(
            f"Query {row} has {counts.n_better[row]} better and {counts.n_tied[row]} tied candidates "
            f"of {counts.n_eligible[row]} eligible.",
            "Counts come from ranking.match_counts.",
        )


def _top(counts: MatchCounts) -> int:
    return int((counts.n_better + counts.n_tied).max()) if len(counts.n_better) else 0


def _integer(value: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} is {value!r}.", f"{name} is a whole number, at least 1.")
    return int(value)
