"""What does a mitigation guarantee for the pairs it was trained on? Numbers only; no data comes in here.

A noise multiplier is sigma / sensitivity, everywhere. The neighbouring relation is add or remove one unit (a patient or
a pair, as the run says). A guarantee speaks of the training units alone: nothing here bounds how well the match of an
image is found. Floating-point noise is taken for real Gaussian noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx, log_ndtr

from linkage_core.errors import InputError

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

DELTA = 1e-6
UNITS = ("patient", "pair")
RELATION = "add/remove"
GAUSSIAN = "analytic Gaussian"
PLD = "PLD"
TOLERANCE = 1e-4
SMALLEST_DELTA = 1e-12
HARDLY_A_LIMIT = 0.9
PRV_UP_TO = 50.0
_ROUNDING = 1e-12
_POINTS = 200_000


@dataclass(frozen=True)
class Epsilons:
    """Epsilon of one run by three accountants; `pld` is the number, the others stand beside it.

    pld: privacy loss distribution, rounded up at every step (dp-accounting). rdp: Renyi moments (dp-accounting), never
    better than what the distribution knows. prv: Opacus' own, an upper end with its own error of at most 0.01; NaN
    above an epsilon of 50, where its tables outgrow the memory and no guarantee is left to compare.
    """

    pld: float
    rdp: float
    prv: float


def gaussian_delta(multiplier: float, epsilon: float) -> float:
    """How often may one Gaussian query leak more than epsilon?

    delta = Phi(D/2s - eps s/D) - e^eps Phi(-D/2s - eps s/D), with s/D the multiplier: necessary and sufficient (Balle
    and Wang, Improving the Gaussian Mechanism for Differential Privacy, 2018, theorem 8, eq. 6).
    """
    _require_multiplier(multiplier)
    _require_epsilon(epsilon, zero=True)
    if math.isinf(epsilon):
        return 0.0
    if multiplier == 0:
        return 1.0
    return math.exp(_log_delta(1 / multiplier, epsilon * multiplier - 0.5 / multiplier))


def gaussian_epsilon(multiplier: float, delta: float) -> float:
    """Which epsilon does one Gaussian query have at this delta? The inverse of `gaussian_delta` in epsilon.

    At most 1e-12 (relative) above the exact value, never below; 0 where delta alone covers it; infinite without noise.
    """
    _require_multiplier(multiplier)
    _require_delta(delta)
    if multiplier == 0:
        return math.inf
    mu, goal = 1 / multiplier, math.log(delta)
    u = _first(lambda u: _log_delta(mu, u) <= goal, -mu / 2)
    # epsilon = mu (u + mu/2): from u, no digits are lost where mu is huge
    return max(0.0, mu * (u + mu / 2)) * (1 + _ROUNDING) if u > -mu / 2 else 0.0


def gaussian_sigma(epsilon: float, delta: float) -> float:
    """Which noise multiplier (sigma / sensitivity) gives one Gaussian query this epsilon at this delta?

    The inverse of `gaussian_delta` in the multiplier (Balle and Wang, 2018, algorithm 1); its epsilon is never above
    the wanted one. Infinite epsilon is not private: 0.
    """
    _require_epsilon(epsilon)
    _require_delta(delta)
    if math.isinf(epsilon):
        return 0.0
    goal = math.log(delta)
    u = _first(lambda u: _log_delta(_mu(u, epsilon), u) <= goal)
    return (1 + 4 * _ROUNDING) / _mu(u, epsilon)


def dpsgd_epsilon(multiplier: float, delta: float, q: float, steps: int) -> Epsilons:
    """Which epsilon has a run of `steps` noisy sums over Poisson samples of rate q? By three accountants.

    Each step adds Gaussian noise of `multiplier` times the clip to the sum of the clipped gradients of a sample that
    holds every unit with probability q, independently; an empty sample is a step too. Loads torch, for Opacus; where
    only the number is needed, take `dpsgd_pld`.
    """
    pld = dpsgd_pld(multiplier, delta, q, steps)
    if math.isinf(pld):
        return Epsilons(pld, math.inf, math.inf)
    prv = _prv_epsilon(multiplier, delta, q, steps) if pld <= PRV_UP_TO else math.nan
    return Epsilons(pld, _rdp_epsilon(multiplier, delta, q, steps), prv)


def dpsgd_pld(multiplier: float, delta: float, q: float, steps: int) -> float:
    """The epsilon of `dpsgd_epsilon` by its first accountant alone: an upper bound, without torch."""
    _require_multiplier(multiplier)
    _require_sampled_delta(delta)
    _require_sampling(q, steps)
    if multiplier == 0:
        return math.inf
    return float(_composed(multiplier, q, steps).get_epsilon_for_delta(delta))


@lru_cache(maxsize=256)
def dpsgd_sigma(epsilon: float, delta: float, q: float, steps: int) -> float:
    """Which noise multiplier gives a run of `steps` Poisson samples of rate q this epsilon at this delta, by PLD?

    Bisection in the logarithm, within 1e-4 (TOLERANCE, relative) above the smallest; the epsilon of what is returned
    was computed and is never above the wanted one. Infinite epsilon is not private: 0.
    """
    _require_epsilon(epsilon)
    _require_sampled_delta(delta)
    _require_sampling(q, steps)
    if math.isinf(epsilon):
        return 0.0

    def enough(log_multiplier: float) -> bool:
        return dpsgd_pld(math.exp(log_multiplier), delta, q, steps) <= epsilon

    # all noise in one unsampled query is the most that can be needed: sampling and rounds only help from there
    most = math.log(gaussian_sigma(epsilon, delta) * math.sqrt(steps))
    start = math.log(max(q * math.exp(most), 0.3))
    return math.exp(_first(enough, start=min(start, most), tolerance=math.log1p(TOLERANCE)))


def delta_for(n_units: int, wanted: float | None = None, allow_large: bool = False) -> tuple[float, str]:
    """Which delta for n units (patients or pairs), and what is to be said of it?

    By default min(1e-6, 1/(10 n)). A delta of 1/n or more is refused unless allowed by name: a procedure that publishes
    each unit in clear with probability delta, and does nothing else, meets (0, delta) and exposes n delta units on
    average, one or more. Returns delta and the note that stands beside it.
    """
    if isinstance(n_units, bool) or not isinstance(n_units, int | np.integer) or n_units < 1:
        raise InputError(f"n_units is {n_units!r}.", "Give the number of patients or pairs trained on, 1 or more.")
    if wanted is None:
        delta = min(DELTA, 0.1 / n_units)
        return delta, f"delta {delta:.2g} is at most a tenth of 1/n (n = {n_units:,} units)"
    _require_delta(wanted)
    if wanted * n_units < 1:
        return wanted, f"delta {wanted:.2g} is below 1/n = {1 / n_units:.2g} (n = {n_units:,} units)"
    note = (
        f"delta {wanted:.2g} is not below 1/n = {1 / n_units:.2g} (n = {n_units:,} units): publishing about "
        f"{wanted * n_units:.2g} of them in clear would be allowed by it"
    )
    if not allow_large:
        raise InputError(f"{note}.", f"Take {min(DELTA, 0.1 / n_units):.2g}, or allow a large delta by name.")
    return wanted, note


def _log_delta(mu: float, u: float) -> float:
    """log delta of one Gaussian query with mu = D/s, at epsilon = mu (u + mu/2).

    With R(x) = Phi(-x)/phi(x), and e^eps phi(u + mu) = phi(u) because (u + mu)^2 - u^2 = 2 eps, the formula becomes
    delta = phi(u) (R(u) - R(u + mu)): no power of e is left to overflow. R' = x R - 1 stands in for the difference
    where it would lose its digits.
    """
    log_phi = -0.5 * u * u - 0.5 * math.log(2 * math.pi)
    if u < -1:
        above = float(log_ndtr(-u))
        return above + math.log1p(-math.exp(log_phi + math.log(_mills(u + mu)) - above))
    if mu < 1e-5:
        middle = u + mu / 2
        return log_phi + math.log(mu) + math.log1p(-middle * _mills(middle))
    return log_phi + math.log(_mills(u) - _mills(u + mu))


def _mills(x: float) -> float:
    """Phi(-x) / phi(x)."""
    return math.sqrt(math.pi / 2) * float(erfcx(x / math.sqrt(2)))


def _mu(u: float, epsilon: float) -> float:
    """The mu at which epsilon = mu (u + mu/2)."""
    root = math.sqrt(u * u + 2 * epsilon)
    return 2 * epsilon / (root + u) if u > 0 else root - u


def _first(holds: Callable[[float], bool], low: float = -math.inf, start: float = 0.0, tolerance: float = 0.0) -> float:
    """Where does a condition begin to hold that holds from some point on? Doubling steps, then bisection; the point
    returned holds. `low` if it holds already there. tolerance 0: to the last digit."""
    if low > -math.inf and holds(low):
        return low
    step, high = 1.0, max(start, low)
    below = low
    if holds(high):
        while below == -math.inf:
            if not holds(high - step):
                below = high - step
                break
            high, step = high - step, 2 * step
    else:
        while not holds(high):
            below, high, step = high, high + step, 2 * step
    while high - below > tolerance:
        middle = below + (high - below) / 2
        if middle in (below, high):
            break
        below, high = (below, middle) if holds(middle) else (middle, high)
    return high


def _grid(multiplier: float, q: float) -> float:
    """Width of the grid on which the privacy loss of one step lies.

    Rounding adds at most a fixed share of the squared width to a variance of q^2 (e^(1/s^2) - 1) a step, so the width
    follows its root: epsilon rises by about 0.01%, measured against a grid ten times finer. Never over 0.001, and never
    more than 200,000 points.
    """
    spread = q * math.sqrt(math.expm1(min(multiplier**-2, 50.0)))
    reach = 2 * math.log1p(q * math.expm1(min(8.3 / multiplier + 0.5 / multiplier**2, 600.0)))
    return max(min(0.03 * spread, 1e-3), reach / _POINTS)


@lru_cache(maxsize=32)
def _composed(multiplier: float, q: float, steps: int) -> PrivacyLossDistribution:
    """Privacy loss of the whole run, both for adding and for removing a unit; every rounding goes up."""
    from dp_accounting.pld import privacy_loss_distribution

    one = privacy_loss_distribution.from_gaussian_mechanism(
        multiplier, value_discretization_interval=_grid(multiplier, q), sampling_prob=q, pessimistic_estimate=True
    )
    return one.self_compose(steps)


def _rdp_epsilon(multiplier: float, delta: float, q: float, steps: int) -> float:
    import dp_accounting

    accountant = dp_accounting.rdp.RdpAccountant()
    accountant.compose(
        dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(multiplier)),
        steps,
    )
    return float(accountant.get_epsilon(delta))


def _prv_epsilon(multiplier: float, delta: float, q: float, steps: int) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(multiplier, q, steps)]
    return float(accountant.get_epsilon(delta))


def _require_multiplier(multiplier: float) -> None:
    if not 0 <= multiplier < math.inf:
        raise InputError(f"The noise multiplier is {multiplier}.", "Give a number above 0, or 0 for no noise at all.")


def _require_epsilon(epsilon: float, zero: bool = False) -> None:
    if not (epsilon > 0 or (zero and epsilon == 0)):
        raise InputError(f"epsilon is {epsilon}.", "It is a number above 0; infinity means not private.")


def _require_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta}.", "It lies between 0 and 1, well below 1/n for n units.")


def _require_sampled_delta(delta: float) -> None:
    _require_delta(delta)
    if delta < SMALLEST_DELTA:
        raise InputError(f"delta is {delta}.", f"The accountant's arithmetic ends at {SMALLEST_DELTA}.")


def _require_sampling(q: float, steps: int) -> None:
    if not 0 < q <= 1:
        raise InputError(f"The sampling rate q is {q}.", "It lies above 0 and at most at 1: batch size / units.")
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError(f"steps is {steps!r}.", "Give a whole number of steps, 1 or more.")
