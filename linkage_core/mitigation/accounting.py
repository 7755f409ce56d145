"""What does a mitigation guarantee for the pairs it was trained on? Numbers only; no data comes in here.

A noise multiplier is sigma / sensitivity, everywhere. The neighbouring relation is add or remove one unit (a patient or
a pair, as the run says). A guarantee speaks of the training units alone: nothing here bounds how well the match of an
image is found. Floating-point noise is taken for real Gaussian noise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr, ndtri

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
# Orders below 1.5 do not converge where noise is small; those up to 4,096 are for epsilons well below 0.1.
_ORDERS = [*(1.5 + i / 10 for i in range(85)), *range(10, 64), *(2**i for i in range(6, 13))]


@dataclass(frozen=True)
class Run:
    """What was done to the training units: a run is recorded as these numbers; its epsilon is always derived.

    multiplier: noise over sensitivity. q: probability with which each unit is in a step. steps: how many noisy sums are
    released. clip: bound of one unit's contribution to a sum, in the sum's own units. unit: "patient" or "pair". A
    one-shot query is q = 1 with the analytic Gaussian. multiplier 0 is not private: epsilon is infinite.
    """

    multiplier: float
    q: float
    steps: int
    clip: float
    unit: str
    delta: float
    relation: str = RELATION
    accountant: str = PLD

    def __post_init__(self) -> None:
        _require_multiplier(self.multiplier)
        _require_delta(self.delta)
        _require_sampling(self.q, self.steps)
        if not 0 < self.clip < math.inf:
            raise InputError(f"clip is {self.clip}.", "It bounds what one unit adds to a sum: a number above 0.")
        for name, value, known in (
            ("unit", self.unit, UNITS),
            ("relation", self.relation, (RELATION,)),
            ("accountant", self.accountant, (PLD, GAUSSIAN)),
        ):
            if value not in known:
                raise InputError(f"{name} is {value!r}.", f"Known: {', '.join(known)}.")
        if self.accountant == GAUSSIAN and self.q != 1:
            raise InputError(f"The {GAUSSIAN} accountant got q = {self.q}.", f"It knows no sampling: take {PLD}.")

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Run:
        """The run that a head's record tells; an epsilon written there is not believed."""
        wanted = {"sigma": "multiplier"} | {name: name for name in cls.__dataclass_fields__ if name != "multiplier"}
        missing = [name for name in wanted if name not in record]
        if missing:
            raise InputError(f"The record lacks {', '.join(missing)}.", "Finetune the head again.")
        return cls(**{field: record[name] for name, field in wanted.items()})

    def record(self) -> dict[str, Any]:
        """For a file: sigma (the multiplier), q, steps, clip, unit, relation, delta, accountant and the epsilon that
        follows from them; None where not private."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "multiplier"}
        return {"sigma": self.multiplier, **fields, "epsilon": None if math.isinf(self.epsilon) else self.epsilon}

    @property
    def epsilon(self) -> float:
        if self.accountant == GAUSSIAN:
            return gaussian_epsilon(self._one_query, self.delta)
        return dpsgd_pld(self.multiplier, self.delta, self.q, self.steps)

    @property
    def epsilons(self) -> Epsilons:
        """By all three accountants of sampled runs."""
        return dpsgd_epsilon(self.multiplier, self.delta, self.q, self.steps)

    @property
    def accuracy(self) -> float:
        """Best share of right answers to "was this unit used?" at even odds."""
        if self.accountant == GAUSSIAN:
            return gaussian_accuracy(self._one_query)
        return dpsgd_accuracy(self.multiplier, self.q, self.steps)

    def trade_off(self, fpr: np.ndarray) -> np.ndarray:
        """Highest true positive rate at each false positive rate; see `gaussian_trade_off`, `dpsgd_trade_off`."""
        if self.accountant == GAUSSIAN:
            return gaussian_trade_off(self._one_query, fpr)
        return dpsgd_trade_off(self.multiplier, self.q, self.steps, fpr)

    @property
    def _one_query(self) -> float:
        """n queries of multiplier m leak as one of m / sqrt(n) (Dong, Roth and Su, 2022, corollary 3.3)."""
        return self.multiplier / math.sqrt(self.steps)


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

    A bracket of the logarithm, closed by bisection and straight lines: within 1e-4 (TOLERANCE, relative) above the
    smallest that will do. The epsilon of what is returned was computed and is never above the wanted one. Infinite
    epsilon is not private: 0.
    """
    _require_epsilon(epsilon)
    _require_sampled_delta(delta)
    _require_sampling(q, steps)
    if math.isinf(epsilon):
        return 0.0

    def epsilon_of(log_multiplier: float) -> float:
        return dpsgd_pld(math.exp(log_multiplier), delta, q, steps)

    # without sampling the analytic Gaussian knows; sampling divides the noise by about 1/q
    high = below = math.log(max(q * gaussian_sigma(epsilon, delta) * math.sqrt(steps), 0.3))
    at_high = at_below = epsilon_of(high)
    while at_high > epsilon:
        below, at_below, high = high, at_high, high + 0.5
        at_high = epsilon_of(high)
    while at_below <= epsilon:
        high, at_high, below = below, at_below, below - 0.5
        at_below = epsilon_of(below)
    tolerance, turn = math.log1p(TOLERANCE), 0
    while high - below > tolerance:
        middle, turn = (below + high) / 2, turn + 1
        if turn % 4 and at_high > 0:
            # a straight line between the ends first, aimed a little past it so that the far end comes along
            guess = below + (high - below) * math.log(at_below / epsilon) / math.log(at_below / at_high)
            guess += math.copysign(0.4 * tolerance, high + below - 2 * guess)
            middle = guess if below < guess < high else middle
        reached = epsilon_of(middle)
        if reached <= epsilon:
            high, at_high = middle, reached
        else:
            below, at_below = middle, reached
    return math.exp(high)


def gaussian_trade_off(multiplier: float, fpr: np.ndarray) -> np.ndarray:
    """How often can someone be right that a unit was used, who is wrong so often when it was not? One Gaussian query.

    TPR <= Phi(Phi^-1(FPR) + mu) with mu = 1/multiplier, and reached by the likelihood ratio test; the same for adding
    and for removing the unit (Dong, Roth and Su, Gaussian Differential Privacy, 2022, definition 2.6 and theorem 2.7).
    fpr: any shape, within 0 and 1; returns the same shape.
    """
    _require_multiplier(multiplier)
    fpr = _rates(fpr)
    if multiplier == 0:
        return np.ones_like(fpr)
    return np.asarray(ndtr(ndtri(fpr) + 1 / multiplier))


def gaussian_accuracy(multiplier: float) -> float:
    """Best share of right answers to "was this unit used?" when used and not used are equally likely.

    The maximum over the curve of (TPR + 1 - FPR)/2, at FPR = Phi(-mu/2): Phi(mu/2). A coin: 0.5.
    """
    _require_multiplier(multiplier)
    return float(ndtr(0.5 / multiplier)) if multiplier > 0 else 1.0


def dpsgd_trade_off(multiplier: float, q: float, steps: int, fpr: np.ndarray) -> np.ndarray:
    """`gaussian_trade_off` for a run of Poisson samples, from its privacy loss distribution: an upper bound.

    A mechanism that is (eps, delta(eps))-DP for each eps of a grid has FNR >= max over it of
    max(0, 1 - delta - e^eps FPR, e^-eps (1 - delta - FPR)) (Dong, Roth and Su, 2022, propositions 2.4 and 2.12; a
    coarser grid only loosens it). delta(eps) is the larger of adding and removing the unit, which differ once q < 1:
    the curve holds for both.
    """
    _require_multiplier(multiplier)
    _require_sampling(q, steps)
    fpr = _rates(fpr)
    if multiplier == 0:
        return np.ones_like(fpr)
    epsilons, deltas = _profile(multiplier, q, steps)
    return trade_off(epsilons, deltas, fpr)


def dpsgd_accuracy(multiplier: float, q: float, steps: int) -> float:
    """`gaussian_accuracy` for a run of Poisson samples: (1 + delta(0))/2, because TPR - FPR <= delta(0) everywhere."""
    _require_multiplier(multiplier)
    _require_sampling(q, steps)
    if multiplier == 0:
        return 1.0
    return min(1.0, 0.5 + 0.5 * float(_composed(multiplier, q, steps).get_delta_for_epsilon(0.0)))


def trade_off(epsilons: np.ndarray, deltas: np.ndarray, fpr: np.ndarray) -> np.ndarray:
    """Highest TPR at each FPR under all the guarantees (epsilons[i], deltas[i]) at once; see `dpsgd_trade_off`."""
    fpr = _rates(fpr)
    alpha, e = fpr.reshape(-1, 1), np.asarray(epsilons, dtype=np.float64)
    left = 1 - np.asarray(deltas, dtype=np.float64)
    missed = np.maximum(left - np.exp(np.minimum(e, 700.0)) * alpha, np.exp(-e) * (left - alpha))
    return np.minimum(1.0, 1 - np.maximum(0.0, missed).max(axis=1)).reshape(fpr.shape)


def privacy_sentence(accuracy: float | None) -> str:
    """The guarantee in words, after "whoever tries to tell whether a patient's pairs were used is": rounded up, never
    down. None: no guarantee has been established. 1: nothing stands in the way, not private."""
    if accuracy is None:
        return "none established"
    if not 0.5 <= accuracy <= 1:
        raise InputError(f"accuracy is {accuracy}.", "It lies between 0.5 (a coin) and 1; None for no guarantee.")
    if accuracy == 1:
        return "none"
    times = math.ceil(100 * accuracy - 1e-9)
    if accuracy >= HARDLY_A_LIMIT:
        return f"right up to {times} of 100 times: hardly a limit"
    return f"right at most {times} of 100 times, when used and not used are equally likely; a coin is right 50"


def public_size(n_units: int) -> int:
    """A number of units that is taken to be public: rounded down to two significant digits, to tens at least, 10 at
    least.

    Everything that a mechanism works out from n (delta, q, the size of a step, a ridge) is worked out from this one,
    for what follows from an exact n tells it. One unit more or less changes it at an edge alone; there, and for whoever
    needs the promise without it, the site declares a number of its own.

    >>> [public_size(n) for n in (31_649, 137_021, 99, 7)]
    [31000, 130000, 90, 10]
    """
    step = max(10, 10 ** (len(str(int(n_units))) - 2))
    return max(10, int(n_units) // step * step)


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
    delta = phi(u) (R(u) - R(u + mu)): no power of e is left to overflow. Where mu is small the difference would lose
    its digits; it is the integral of -R' = 1 - x R over u to u + mu, taken by the midpoint with its next term.
    """
    log_phi = -0.5 * u * u - 0.5 * math.log(2 * math.pi)
    if u < -1:
        above = float(log_ndtr(-u))
        return above + math.log1p(-math.exp(log_phi + math.log(_mills(u + mu)) - above))
    if mu < 3e-3:
        x = u + mu / 2
        curvature = 2 + x * x - x * (3 + x * x) * _mills(x)
        return log_phi + math.log(mu * (1 - x * _mills(x) + mu * mu / 24 * curvature))
    return log_phi + math.log(_mills(u) - _mills(u + mu))


def _mills(x: float) -> float:
    """Phi(-x) / phi(x)."""
    return math.sqrt(math.pi / 2) * float(erfcx(x / math.sqrt(2)))


def _mu(u: float, epsilon: float) -> float:
    """The mu at which epsilon = mu (u + mu/2)."""
    root = math.sqrt(u * u + 2 * epsilon)
    return 2 * epsilon / (root + u) if u > 0 else root - u


def _first(holds: Callable[[float], bool], low: float = -math.inf) -> float:
    """Where does a condition begin to hold that holds from some point on? Doubling steps from 0 (or `low`, if that is
    higher), then bisection to the last digit; the point returned holds. `low` if it holds already there."""
    high, below, step = max(0.0, low), low, 1.0
    if low > -math.inf and holds(low):
        return low
    while not holds(high):
        below, high, step = high, high + step, 2 * step
    while below == -math.inf:
        if holds(high - step):
            high, step = high - step, 2 * step
        else:
            below = high - step
    while below < (middle := below + (high - below) / 2) < high:
        below, high = (below, middle) if holds(middle) else (middle, high)
    return high


def _grid(multiplier: float, q: float) -> float:
    """Width of the grid on which the privacy loss of one step lies.

    Rounding adds at most a fixed share of the squared width to a variance of q^2 (e^(1/s^2) - 1) a step, so the width
    follows its root: epsilon rises by about 0.01%, measured against a grid ten times finer. Never over 0.001, and never
    more than 200,000 points.
    """
    spread = q * math.sqrt(math.expm1(min(multiplier**-2, 50.0)))
    farthest = 8.3 / multiplier + 0.5 / multiplier**2
    reach = math.log1p(q * math.expm1(farthest)) if farthest < 30 else farthest + math.log(q)
    return max(min(0.03 * spread, 1e-3), 2 * reach / _POINTS)


@lru_cache(maxsize=32)
def _composed(multiplier: float, q: float, steps: int) -> PrivacyLossDistribution:
    """Privacy loss of the whole run, both for adding and for removing a unit; every rounding goes up."""
    from dp_accounting.pld import privacy_loss_distribution

    one = privacy_loss_distribution.from_gaussian_mechanism(
        multiplier, value_discretization_interval=_grid(multiplier, q), sampling_prob=q, pessimistic_estimate=True
    )
    return one.self_compose(steps)


@lru_cache(maxsize=32)
def _profile(multiplier: float, q: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(epsilons, deltas) from 0 to where delta falls to 1e-12, so that the curve knows rare errors too."""
    run = _composed(multiplier, q, steps)
    # beyond, e^epsilon overflows; leaving a part out only loosens the curve
    farthest = min(float(run.get_epsilon_for_delta(SMALLEST_DELTA)), 500.0)
    # squares: close together near 0, where the middle of the curve is made
    epsilons = farthest * np.linspace(0, 1, 1001) ** 2
    return epsilons, np.asarray(run.get_delta_for_epsilon(epsilons))


def _rdp_epsilon(multiplier: float, delta: float, q: float, steps: int) -> float:
    import dp_accounting

    accountant = dp_accounting.rdp.RdpAccountant(_ORDERS)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(multiplier)), steps)
    return float(accountant.get_epsilon(delta))


def _prv_epsilon(multiplier: float, delta: float, q: float, steps: int) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(multiplier, q, steps)]
    with warnings.catch_warnings(), np.errstate(divide="ignore"):  # log 0 = -inf is meant there
        # Opacus sizes its table by a Renyi bound whose coarse orders it warns of; a larger table costs only time
        warnings.filterwarnings("ignore", message="Optimal order", category=UserWarning)
        return float(accountant.get_epsilon(delta))


def _rates(fpr: np.ndarray) -> np.ndarray:
    fpr = np.asarray(fpr, dtype=np.float64)
    if not ((fpr >= 0) & (fpr <= 1)).all():
        raise InputError("A false positive rate lies outside 0 and 1.", "Give rates, not percent.")
    return fpr


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
