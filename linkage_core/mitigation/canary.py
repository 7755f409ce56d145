"""Does a run leak more than its epsilon says? A privacy audit with one training run.

Half of m planted units (canaries), each by its own coin, are put among the training units; whoever sees the result
says of the most suspicious ones which were used. Too many right answers, and the epsilon is wrong. A slow check of an
implementation, apart from every guarantee: what it finds is a lower bound, and finding nothing proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc, gammaln

from linkage_core.errors import InputError

LEVEL = 0.95
_MOST = 64.0
_STEP = 1e-4


@dataclass(frozen=True)
class CanaryAudit:
    """What the canaries say.

    epsilon_low: with confidence `level`, epsilon at `delta` is at least this; 0 says nothing. n_canaries were planted,
    of n_guesses the best choice of those allowed beforehand, n_right were right.
    """

    epsilon_low: float
    delta: float
    level: float
    n_canaries: int
    n_guesses: int
    n_right: int

    def refutes(self, epsilon: float) -> bool:
        """Is a claimed epsilon too small for what was seen?"""
        return self.epsilon_low > epsilon


def audit_run(
    run: Callable[[np.ndarray], np.ndarray],
    n_canaries: int,
    delta: float,
    *,
    guesses: Sequence[int] | None = None,
    level: float = LEVEL,
    seed: int | None = None,
) -> CanaryAudit:
    """Flip a coin for each canary, run the mechanism once, guess, bound epsilon from below.

    run: takes included (n_canaries,) bool, trains once on the real units and the included canaries, and returns one
    score a canary, higher where it looks used. It must draw its own noise: never from `seed`, which is for the coins
    alone (None: from the operating system).
    """
    if n_canaries < 1:
        raise InputError(f"n_canaries is {n_canaries}.", "Plant at least one; a few hundred say something.")
    included = np.random.default_rng(seed).random(n_canaries) < 0.5
    return canary_audit(run(included), included, delta, guesses=guesses, level=level)


def canary_audit(
    scores: np.ndarray,
    included: np.ndarray,
    delta: float,
    *,
    guesses: Sequence[int] | None = None,
    level: float = LEVEL,
) -> CanaryAudit:
    """Lower bound on epsilon from the scores of canaries that were or were not in the run.

    The r canaries with the most extreme scores are guessed, half from the top as used and half from the bottom as not
    used; of the rest nothing is said. If the run is (epsilon, delta)-DP under adding or removing a canary, the number
    of right guesses is bounded by `p_value` (Steinke, Nasr and Jagielski, Privacy Auditing with One (1) Training Run,
    2023, theorem 5.2); the bound is the largest epsilon that this refutes. Several r are tried, each at its share of
    1 - level (Bonferroni), so that choosing the best afterwards costs nothing.

    Arguments
        scores: (n_canaries,) float, higher where the canary looks used; ties are broken by position, so shuffle them.
        included: (n_canaries,) bool, each True by an independent fair coin.
        guesses: the r, fixed before the scores are seen; by default 1/16, 1/8, 1/4, 1/2 and all of the canaries.
    """
    scores, included = np.asarray(scores, dtype=np.float64), np.asarray(included)
    m = len(scores)
    if scores.ndim != 1 or included.shape != scores.shape or included.dtype != bool or not m:
        raise InputError(
            f"scores have shape {scores.shape} and included {included.shape} of {included.dtype}.",
            "Give one score and one True or False for each canary.",
        )
    if np.isnan(scores).any():
        raise InputError(f"{int(np.isnan(scores).sum())} scores are NaN.", "Score every canary.")
    if not 0 <= delta < 1:
        raise InputError(f"delta is {delta}.", "It is at least 0 and below 1.")
    if not 0 < level < 1:
        raise InputError(f"level is {level}.", "It lies between 0 and 1, for example 0.95.")
    tried = sorted({max(1, m // part) for part in (16, 8, 4, 2, 1)} if guesses is None else set(guesses))
    if not tried or tried[0] < 1 or tried[-1] > m:
        raise InputError(f"guesses are {tried}.", f"Each is at least 1 and at most {m}, the number of canaries.")
    order = np.argsort(scores, kind="stable")
    best = CanaryAudit(-1.0, delta, level, m, 0, 0)
    for r in tried:
        below = r // 2
        right = int((~included[order[:below]]).sum() + included[order[m - (r - below) :]].sum())
        low = _refuted(m, r, right, delta, (1 - level) / len(tried))
        if low > best.epsilon_low:
            best = CanaryAudit(low, delta, level, m, r, right)
    return best


def p_value(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """How likely are v or more right of r guesses about m canaries, at most, if the run is (epsilon, delta)-DP?

    P[W >= v] + 2 m delta max_i (1/i) P[v > W >= v - i], W ~ Binomial(r, e^eps/(1 + e^eps)), i from 1 to m (Steinke,
    Nasr and Jagielski, 2023, theorem 5.2).
    """
    right = 1 / (1 + math.exp(-epsilon))
    at_least_v = float(bdtrc(v - 1, r, right))
    if delta == 0:
        return at_least_v
    k = np.arange(v - 1, -1, -1.0)
    log_choose = gammaln(r + 1) - gammaln(k + 1) - gammaln(r - k + 1)
    just_below = np.cumsum(np.exp(log_choose + k * epsilon - r * (epsilon + math.log1p(math.exp(-epsilon)))))
    slack = float((just_below / np.arange(1, v + 1)).max(initial=0.0))
    return min(1.0, at_least_v + 2 * m * delta * slack)


def _refuted(m: int, r: int, v: int, delta: float, significance: float) -> float:
    """The largest epsilon that v right of r guesses refute; 0 if none."""
    if p_value(m, r, v, 0.0, delta) > significance:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(m, r, v, high, delta) <= significance and high < _MOST:
        low, high = high, 2 * high
    while high - low > _STEP:
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(m, r, v, middle, delta) <= significance else (low, middle)
    return low
