"""Guarantees against arithmetic of many digits, other people's accountants, and attacks that reach them."""

import math
import subprocess
import sys
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from linkage_core.errors import InputError
from linkage_core.mitigation import accounting
from linkage_core.mitigation.accounting import (
    Run,
    delta_for,
    dpsgd_accuracy,
    dpsgd_epsilon,
    dpsgd_pld,
    dpsgd_sigma,
    dpsgd_trade_off,
    gaussian_accuracy,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_sigma,
    gaussian_trade_off,
    privacy_sentence,
    trade_off,
)

EPSILONS = [1e-6, 0.01, 0.34, 1, 3, 10, 100, 1e4]
DELTAS = [1e-30, 1e-12, 1e-6, 6e-6, 0.01]
# what the phantom's runs look like: 31,600 patients, 1,024 of them a step
LAB = {"q": 1024 / 31600, "steps": 600}


# one Gaussian query


def delta_by_integral(multiplier: float, epsilon: float) -> float:
    """The definition, no closed form: integral of max(0, p - e^eps p') over two Gaussians one sensitivity apart."""
    mu = mpmath.mpf(1) / mpmath.mpf(multiplier)
    start = mpmath.mpf(epsilon) / mu + mu / 2

    def gain(x: mpmath.mpf) -> mpmath.mpf:
        return mpmath.npdf(x - mu) - mpmath.exp(epsilon) * mpmath.npdf(x)

    with mpmath.workdps(40):
        return float(mpmath.quad(gain, [start, start + 2, start + 6, start + 15, start + 40]))


def check_delta(delta: Callable[[float, float], float]) -> None:
    for multiplier, epsilon in [(0.3, 1.0), (1.0, 0.0), (1.0, 5.0), (9.0, 0.34), (12.0, 0.01), (300.0, 0.003)]:
        assert delta(multiplier, epsilon) == pytest.approx(delta_by_integral(multiplier, epsilon), rel=1e-9)


def test_delta_is_what_its_definition_says() -> None:
    check_delta(gaussian_delta)


def test_a_delta_with_a_sign_flipped_is_caught() -> None:
    def one(s: float, eps: float) -> float:
        return float(ndtr(0.5 / s - eps * s) - math.exp(eps) * ndtr(-0.5 / s + eps * s))

    def other(s: float, eps: float) -> float:
        return float(ndtr(0.5 / s + eps * s) - math.exp(eps) * ndtr(-0.5 / s - eps * s))

    for twin in (one, other):
        with pytest.raises(AssertionError):
            check_delta(twin)


def test_no_digits_are_lost_where_the_textbook_formula_has_none_left() -> None:
    """The closed form in 80 digits, from delta 1e-40 to nearly 1 and from huge noise to none worth the name."""
    rng = np.random.default_rng(0)
    checked = 0
    while checked < 300:
        multiplier = 10 ** rng.uniform(-3, 7)
        epsilon = max(0.0, (0.5 / multiplier + rng.uniform(-12, 12)) / multiplier)
        with mpmath.workdps(80):
            s, e = mpmath.mpf(multiplier), mpmath.mpf(epsilon)
            exact = mpmath.ncdf(0.5 / s - e * s) - mpmath.exp(e) * mpmath.ncdf(-0.5 / s - e * s)
        if exact > 1e-40:
            assert gaussian_delta(multiplier, epsilon) == pytest.approx(float(exact), rel=1e-9), (multiplier, epsilon)
            checked += 1


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_noise_for_an_epsilon_gives_that_epsilon_and_never_more(epsilon: float, delta: float) -> None:
    sigma = gaussian_sigma(epsilon, delta)
    back = gaussian_epsilon(sigma, delta)
    assert back <= epsilon
    # an epsilon far below delta hangs on the last digits of the noise
    assert back == pytest.approx(epsilon, rel=1e-9, abs=1e-9 * delta)
    assert gaussian_delta(sigma, epsilon) <= delta * (1 + 1e-9)


def test_gaussian_equals_the_values_of_dp_accounting() -> None:
    """google/differential-privacy, dp_accounting/pld/accountant_test.py, test_get_smallest_gaussian_noise (0.6.0):
    epsilon 1 and delta 0.78760074 need a standard deviation of 1/3."""
    from dp_accounting import get_epsilon_gaussian, get_sigma_gaussian

    assert gaussian_sigma(1.0, 0.78760074) == pytest.approx(1 / 3, abs=1e-7)
    for epsilon in (0.1, 0.34, 1.0, 10.0, 100.0):
        for delta in (1e-10, 1e-6, 0.1):
            sigma = gaussian_sigma(epsilon, delta)
            assert sigma == pytest.approx(get_sigma_gaussian(epsilon, delta), rel=1e-9)
            assert gaussian_epsilon(sigma, delta) == pytest.approx(get_epsilon_gaussian(sigma, delta), rel=1e-8)


def test_ends_of_the_scale() -> None:
    assert gaussian_epsilon(0, 1e-6) == dpsgd_pld(0, 1e-6, 0.1, 10) == math.inf
    assert gaussian_sigma(math.inf, 1e-6) == dpsgd_sigma(math.inf, 1e-6, 0.1, 10) == 0
    assert dpsgd_epsilon(0, 1e-6, 0.1, 10) == accounting.Epsilons(math.inf, math.inf, math.inf)
    assert gaussian_epsilon(1e9, 1e-6) == 0  # so much noise that delta alone covers it
    assert gaussian_delta(0, 3) == 1
    assert gaussian_delta(3, math.inf) == 0
    assert gaussian_accuracy(0) == dpsgd_accuracy(0, 0.1, 5) == 1
    assert (gaussian_trade_off(0, [0.0, 0.5]) == 1).all()
    assert (dpsgd_trade_off(0, 0.1, 5, [0.0, 0.5]) == 1).all()
    assert dpsgd_trade_off(0.06, 0.1, 5, [0.5]) > 0.7  # hardly any noise: epsilons past what e^epsilon can hold


# runs of Poisson samples


def test_epsilons_equal_those_that_the_libraries_test_themselves_with() -> None:
    """Opacus, opacus/tests/accountants_test.py (commit 3993387): sigma 1.5, q 0.04, delta 1e-5; PRV over
    int(90 // 0.04) = 2,249 steps 6.777395712150674, RDP over 2,250 steps 7.32911117143 (its own Renyi orders)."""
    prv = dpsgd_epsilon(1.5, 1e-5, 0.04, int(90 // 0.04))
    assert prv.prv == pytest.approx(6.777395712150674, abs=1e-6)
    assert 6.777395712150674 - 0.011 < prv.pld < 6.777395712150674
    assert dpsgd_epsilon(1.5, 1e-5, 0.04, 2250).rdp == pytest.approx(7.32911117143, rel=1e-3)


def test_multipliers_equal_those_that_the_libraries_test_themselves_with() -> None:
    """dp-accounting 0.6.0, pld/accountant_test.py, test_get_smallest_subsampled_gaussian_noise: epsilon 1, delta 1e-5;
    one query at q 0.01: 0.67379294682; 25 queries of sensitivity 6 at q 0.001: 3.20956502598.
    Opacus, accountants_test.py, test_get_noise_multiplier_prv_steps: epsilon 8, delta 1e-5, q 0.04, 2,000 steps:
    1.2915, by an accountant that adds up to 0.01 to epsilon."""
    assert dpsgd_sigma(1.0, 1e-5, 0.01, 1) == pytest.approx(0.67379294682, rel=2 * accounting.TOLERANCE)
    assert dpsgd_pld(3.20956502598 / 6, 1e-5, 0.001, 25) == pytest.approx(1.0, rel=1e-3)
    assert dpsgd_sigma(8.0, 1e-5, 0.04, 2000) == pytest.approx(1.2915, rel=2e-3)


@pytest.mark.parametrize("multiplier", [0.8, 1.1, 3.5, 9.3, 30.0])
def test_three_accountants_agree(multiplier: float) -> None:
    for delta in (1e-6, 6e-6):
        three = dpsgd_epsilon(multiplier, delta, **LAB)
        assert three.pld <= three.rdp
        # PRV reports its upper end: its own error of 0.01 above the estimate
        assert three.pld - 0.001 <= three.prv <= three.pld + 0.012


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 4.0, 30.0])
def test_without_sampling_it_is_the_analytic_gaussian(multiplier: float) -> None:
    for steps in (1, 16):
        exact = gaussian_epsilon(multiplier / math.sqrt(steps), 1e-6)
        assert exact <= dpsgd_pld(multiplier, 1e-6, 1.0, steps) <= exact * (1 + 5e-4)


def test_rounding_costs_little_and_goes_up() -> None:
    """The grid against one five times finer: what a coarse one adds to epsilon."""
    from dp_accounting.pld import privacy_loss_distribution

    for multiplier in (1.0, 9.0, 40.0):
        fine = privacy_loss_distribution.from_gaussian_mechanism(
            multiplier,
            sampling_prob=LAB["q"],
            value_discretization_interval=accounting._grid(multiplier, LAB["q"]) / 5,
        ).self_compose(LAB["steps"])
        finest = fine.get_epsilon_for_delta(1e-6)
        assert finest <= dpsgd_pld(multiplier, 1e-6, **LAB) <= finest * 1.0003


def check_calibration(sigma: Callable[..., float]) -> None:
    for epsilon in (0.1, 0.34, 3.0):
        found = sigma(epsilon, 1e-6, **LAB)
        assert dpsgd_pld(found, 1e-6, **LAB) <= epsilon, epsilon
        assert dpsgd_pld(found / (1 + 2 * accounting.TOLERANCE), 1e-6, **LAB) > epsilon, epsilon


def test_calibrated_noise_is_enough_and_hardly_more() -> None:
    check_calibration(dpsgd_sigma)


def test_calibration_that_stops_one_step_too_low_is_caught() -> None:
    """A bisection that returns the end of its bracket that is not enough."""
    with pytest.raises(AssertionError):
        check_calibration(lambda *args, **kwargs: dpsgd_sigma(*args, **kwargs) / (1 + accounting.TOLERANCE))


def test_a_run_is_accounted_without_torch() -> None:
    code = (
        "import sys\n"
        "from linkage_core.mitigation import accounting\n"
        "assert accounting.privacy_sentence(accounting.gaussian_accuracy(accounting.gaussian_sigma(0.34, 1e-6)))\n"
        "assert 'dp_accounting' not in sys.modules\n"
        "accounting.dpsgd_trade_off(1.0, 0.03, 600, [0.1]); accounting.dpsgd_sigma(1.0, 1e-6, 0.03, 600)\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).returncode == 0


# trade-off


def check_sampled_curve(curve: Callable[[float, float, np.ndarray], np.ndarray]) -> None:
    """One step, both questions: was a unit added to, or removed from, what was released? By likelihood-ratio tests,
    which here are thresholds; no test may beat the curve, and the better one reaches it at small error rates."""
    for multiplier, q in ((0.8, 0.1), (1.0, 0.5), (2.0, 0.03)):
        cut = np.linspace(-4 * multiplier, 1 + 6 * multiplier, 400)
        absent, present = ndtr(-cut / multiplier), ndtr((1 - cut) / multiplier)
        present = (1 - q) * absent + q * present
        # says "used" above the cut; says "not used" below it
        for fpr, tpr in ((absent, present), (1 - present, 1 - absent)):
            assert (tpr <= curve(multiplier, q, fpr) + 1e-7).all()
        rare = (absent < 0.02) & (absent > 1e-6)
        assert curve(multiplier, q, absent[rare]) == pytest.approx(present[rare], rel=2e-3)


def test_no_attack_on_a_sampled_step_beats_the_curve() -> None:
    check_sampled_curve(lambda multiplier, q, fpr: dpsgd_trade_off(multiplier, q, 1, fpr))


@pytest.mark.parametrize("direction", ["_pmf_add", "_pmf_remove"])
def test_a_curve_that_knows_one_direction_only(direction: str) -> None:
    """Adding alone is caught. Removing alone is the worse of the two here, and gives the same curve."""

    def twin(multiplier: float, q: float, fpr: np.ndarray) -> np.ndarray:
        epsilons = accounting._profile(multiplier, q, 1)[0]
        one = getattr(accounting._composed(multiplier, q, 1), direction)
        return trade_off(epsilons, one.get_delta_for_epsilon(epsilons), fpr)

    if direction == "_pmf_remove":
        check_sampled_curve(twin)
    else:
        with pytest.raises(AssertionError):
            check_sampled_curve(twin)


def test_the_best_attack_on_a_whole_run_reaches_the_curve_and_the_accuracy() -> None:
    """40 steps simulated 100,000 times with and without a unit; the likelihood ratio of everything released."""
    multiplier, q, steps, n = 1.5, 0.2, 40, 100_000
    rng = np.random.default_rng(5)

    def evidence(used: bool) -> np.ndarray:
        total = np.zeros(n)
        for _ in range(steps):
            seen = multiplier * rng.standard_normal(n) + (used * (rng.random(n) < q))
            total += np.log1p(q * np.expm1((seen - 0.5) / multiplier**2))
        return total

    without, using = evidence(False), evidence(True)
    right = 0.5 * ((using > 0).mean() + (without <= 0).mean())
    assert right == pytest.approx(dpsgd_accuracy(multiplier, q, steps), abs=0.005)
    for fpr in (0.001, 0.01, 0.1):
        tpr = (using > np.quantile(without, 1 - fpr)).mean()
        assert tpr == pytest.approx(dpsgd_trade_off(multiplier, q, steps, np.array(fpr)), rel=5 / math.sqrt(fpr * n))


def test_without_sampling_the_curve_is_the_gaussian_one() -> None:
    fpr = np.linspace(0, 1, 501)
    for multiplier in (0.8, 10.0):
        exact, bound = gaussian_trade_off(multiplier, fpr), dpsgd_trade_off(multiplier, 1.0, 1, fpr)
        assert (bound >= exact - 1e-12).all()
        assert bound == pytest.approx(exact, abs=1e-5)
        assert dpsgd_accuracy(multiplier, 1.0, 1) == pytest.approx(gaussian_accuracy(multiplier), abs=1e-9)


def test_accuracy_is_the_highest_point_of_the_curve() -> None:
    fpr = np.linspace(0, 1, 200_001)
    one = gaussian_trade_off(9.0, fpr)
    assert (0.5 * (one + 1 - fpr)).max() == pytest.approx(gaussian_accuracy(9.0), abs=1e-9)
    fpr = fpr[::20]
    run = dpsgd_trade_off(1.5, fpr=fpr, **LAB)
    assert (0.5 * (run + 1 - fpr)).max() == pytest.approx(dpsgd_accuracy(1.5, **LAB), abs=1e-6)
    assert ((run >= fpr) & (np.diff(run, append=1) >= 0)).all()


def test_an_epsilon_of_0_34_lets_nobody_be_right_more_than_52_times_of_100() -> None:
    """What counts is mu, which delta moves: 51.7 at 1e-6, 51.9 at the study's 6e-6. The pair (0.34, 1e-6) alone, with
    no more known of the mechanism, would only give e^eps/(1 + e^eps): 58.4."""
    assert gaussian_accuracy(gaussian_sigma(0.34, 1e-6)) == pytest.approx(0.517, abs=5e-4)
    assert gaussian_accuracy(gaussian_sigma(0.34, 6e-6)) == pytest.approx(0.519, abs=5e-4)
    assert dpsgd_accuracy(dpsgd_sigma(0.34, 1e-6, **LAB), **LAB) == pytest.approx(0.517, abs=5e-4)
    pair = trade_off(np.array([0.34]), np.array([1e-6]), fpr := np.linspace(0, 1, 10_001))
    assert (0.5 * (pair + 1 - fpr)).max() == pytest.approx(0.584, abs=5e-4)
    mu = 1 / gaussian_sigma(0.34, 1e-6)
    assert gaussian_trade_off(1 / mu, np.array(0.01)) == pytest.approx(ndtr(ndtri(0.01) + mu))


@pytest.mark.parametrize(
    ("accuracy", "sentence"),
    [
        (0.5, "right at most 50 of 100 times, when used and not used are equally likely; a coin is right 50"),
        (0.517, "right at most 52 of 100 times, when used and not used are equally likely; a coin is right 50"),
        (0.52, "right at most 52 of 100 times, when used and not used are equally likely; a coin is right 50"),
        (0.5201, "right at most 53 of 100 times, when used and not used are equally likely; a coin is right 50"),
        (0.985, "right up to 99 of 100 times: hardly a limit"),
        (0.9999, "right up to 100 of 100 times: hardly a limit"),
        (1.0, "none"),
        (None, "none established"),
    ],
)
def test_what_a_privacy_officer_reads(accuracy: float | None, sentence: str) -> None:
    assert privacy_sentence(accuracy) == sentence


# delta


def test_delta_is_well_below_one_over_n_unless_asked_for() -> None:
    assert delta_for(31_600)[0] == 1e-6
    assert delta_for(62_522_000) == (0.1 / 62_522_000, "delta 1.6e-09 is at most a tenth of 1/n (n = 62,522,000 units)")
    assert delta_for(1000, 1e-4) == (1e-4, "delta 0.0001 is below 1/n = 0.001 (n = 1,000 units)")


def test_the_studys_delta_is_larger_than_one_over_n() -> None:
    with pytest.raises(InputError, match="delta 6e-06 is not below 1/n = 3e-06") as refused:
        delta_for(333_000, 6e-6)
    assert "allow a large delta by name" in refused.value.remedy
    delta, note = delta_for(333_000, 6e-6, allow_large=True)
    assert delta == 6e-6
    assert "about 2 of them in clear" in note
    assert delta_for(31_600, 6e-6)[0] == 6e-6  # below 1/31,600
    with pytest.raises(InputError):
        delta_for(1000, 1e-3)


# the run


def test_a_run_is_its_numbers_and_epsilon_follows() -> None:
    run = Run(multiplier=2.0, q=0.03, steps=200, clip=1.0, unit="patient", delta=1e-6)
    record = run.record()
    assert record["epsilon"] == run.epsilon == run.epsilons.pld == dpsgd_pld(2.0, 1e-6, 0.03, 200)
    assert set(record) == {"sigma", "q", "steps", "clip", "unit", "relation", "delta", "accountant", "epsilon"}
    assert (record["relation"], record["accountant"]) == ("add/remove", "PLD")
    # a file that claims less than its numbers say is not believed
    assert Run.of_record({**record, "epsilon": 0.01, "head": "x"}).epsilon == run.epsilon
    assert run.accuracy == dpsgd_accuracy(2.0, 0.03, 200)
    assert run.trade_off(np.array([0.1])) == dpsgd_trade_off(2.0, 0.03, 200, np.array([0.1]))
    with pytest.raises(InputError, match="lacks sigma, clip"):
        Run.of_record({key: value for key, value in record.items() if key not in ("sigma", "clip")})


def test_one_shot_runs_compose_exactly() -> None:
    run = Run(9.0, 1.0, 4, 1.0, "pair", 1e-6, accountant=accounting.GAUSSIAN)
    assert run.epsilon == gaussian_epsilon(4.5, 1e-6)
    assert run.accuracy == gaussian_accuracy(4.5)
    assert run.trade_off(np.array(0.1)) == gaussian_trade_off(4.5, np.array(0.1))
    nothing = Run(0, 1.0, 1, 1.0, "pair", 1e-6, accountant=accounting.GAUSSIAN)
    assert nothing.record()["epsilon"] is None
    assert privacy_sentence(nothing.accuracy) == "none"


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"multiplier": -1.0}, "noise multiplier is -1.0"),
        ({"multiplier": math.nan}, "noise multiplier is nan"),
        ({"multiplier": math.inf}, "noise multiplier is inf"),
        ({"q": 0.0}, "q is 0.0"),
        ({"q": 1.1}, "q is 1.1"),
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"unit": "study"}, "unit is 'study'.*patient, pair"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"relation": "replace"}, "relation is 'replace'"),
        ({"accountant": "RDP"}, "accountant is 'RDP'"),
        ({"accountant": accounting.GAUSSIAN}, "got q = 0.03"),
    ],
)
def test_a_run_that_cannot_be(wrong: dict[str, object], match: str) -> None:
    right = {"multiplier": 1.0, "q": 0.03, "steps": 10, "clip": 1.0, "unit": "patient", "delta": 1e-6}
    with pytest.raises(InputError, match=match):
        Run(**{**right, **wrong})


def test_bad_input() -> None:
    for epsilon in (0, -1, math.nan):
        with pytest.raises(InputError, match="epsilon is"):
            gaussian_sigma(epsilon, 1e-6)
        with pytest.raises(InputError, match="epsilon is"):
            dpsgd_sigma(epsilon, 1e-6, 0.1, 10)
    for delta in (0, 1, -0.1, math.nan):
        with pytest.raises(InputError, match="delta is"):
            gaussian_epsilon(1.0, delta)
        with pytest.raises(InputError, match="delta is"):
            delta_for(10, delta)
    with pytest.raises(InputError, match="arithmetic ends"):
        dpsgd_pld(1.0, 1e-13, 0.1, 10)
    for n in (0, -3, 1.5, True):
        with pytest.raises(InputError, match="n_units is"):
            delta_for(n)
    with pytest.raises(InputError, match="not percent"):
        gaussian_trade_off(1.0, np.array([5.0]))
    with pytest.raises(InputError, match="accuracy is 52"):
        privacy_sentence(52)
