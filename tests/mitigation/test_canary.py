"""The canary audit on mechanisms whose epsilon is known: it stays below it, and catches the broken ones."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from linkage_core.errors import InputError
from linkage_core.mitigation.accounting import gaussian_epsilon, gaussian_sigma
from linkage_core.mitigation.canary import CanaryAudit, audit_run, canary_audit, p_value

DELTA = 1e-6


def gaussian(multiplier: float, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """The sum of m orthogonal canaries of norm 1, with noise: each canary's own coordinate is its best score."""
    return lambda included: included + multiplier * rng.standard_normal(len(included))


def test_right_noise_is_refuted_in_at_most_5_of_100_audits() -> None:
    for epsilon in (0.34, 3.0):
        rng = np.random.default_rng(8)
        multiplier = gaussian_sigma(epsilon, DELTA)
        refuted = sum(audit_run(gaussian(multiplier, rng), 300, DELTA, seed=s).refutes(epsilon) for s in range(150))
        assert binomtest(refuted, 150, 0.05, "greater").pvalue > 0.01
        assert refuted <= 7


def test_the_audit_is_valid_where_the_bound_is_tight() -> None:
    """Randomised response, one bit a canary, is the mechanism that reaches the bound: here 5 of 100 may be missed."""
    rng, epsilon, lows = np.random.default_rng(3), 1.0, []
    for _ in range(400):
        included = rng.random(400) < 0.5
        told = np.where(rng.random(400) < 1 / (1 + math.exp(-epsilon)), included, ~included)
        lows.append(canary_audit(told, included, 0.0, guesses=[400]).epsilon_low)
    # all guessed, half of them used: who guesses exactly half loses a little against saying what each bit says
    assert (np.array(lows) > epsilon).sum() <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)
    assert 0.7 < np.mean(lows) < epsilon


def test_missing_and_mis_scaled_noise_is_caught() -> None:
    """The broken twins: no noise, a fixed seed that the attacker can subtract, noise divided by the batch."""
    claimed = 1.0
    multiplier = gaussian_sigma(claimed, DELTA)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        known = np.random.default_rng(99).standard_normal(400)
        twins = [
            lambda included: included.astype(float),
            lambda included, known=known: (included + multiplier * known) - multiplier * known,
            gaussian(multiplier / 64, rng),
        ]
        for twin in twins:
            found = audit_run(twin, 400, DELTA, seed=seed)
            assert found.refutes(claimed)
            assert found.n_right > 0.9 * found.n_guesses
        assert not audit_run(gaussian(multiplier, rng), 400, DELTA, seed=seed).refutes(claimed)


def test_more_canaries_come_closer_and_never_above() -> None:
    epsilon = gaussian_epsilon(0.4, DELTA)
    lows = [audit_run(gaussian(0.4, np.random.default_rng(1)), m, DELTA, seed=2).epsilon_low for m in (30, 300, 10_000)]
    assert lows == sorted(lows)
    assert 1 < lows[-1] < epsilon


def test_all_right_is_worth_what_a_row_of_heads_is_worth() -> None:
    """delta 0, all of r right: the epsilon whose guesser is right r times with probability 0.05."""
    included = np.arange(100) < 50
    found = canary_audit(np.where(included, 1.0, -1.0), included, 0.0, guesses=[100])
    one = 0.05 ** (1 / 100)
    assert found.epsilon_low == pytest.approx(math.log(one / (1 - one)), abs=2e-4)
    assert found == CanaryAudit(found.epsilon_low, 0.0, 0.95, 100, 100, 100)


def test_p_value_equals_the_sum_written_out() -> None:
    """Theorem 5.2 term by term, over every i up to m."""
    for m, r, v, epsilon, delta in [
        (20, 10, 9, 0.5, 1e-3),
        (50, 50, 40, 1.0, 1e-4),
        (9, 4, 4, 0.0, 0.01),
        (5, 3, 0, 1, 0),
    ]:
        w = [math.comb(r, k) * math.exp(epsilon * k) / (1 + math.exp(epsilon)) ** r for k in range(r + 1)]
        worst = max(sum(w[max(v - i, 0) : v]) / i for i in range(1, m + 1))
        assert p_value(m, r, v, epsilon, delta) == pytest.approx(min(1, sum(w[v:]) + 2 * m * delta * worst), rel=1e-9)
    assert p_value(100, 100, 60, 0.0, 0.0) == pytest.approx(binom.sf(59, 100, 0.5))


def test_choosing_the_best_of_many_guesses_without_paying_for_it_is_caught() -> None:
    """Scores that know nothing: epsilon 0 may be refuted in 5 of 100. The twin tries every r at the full level."""
    rng = np.random.default_rng(4)
    tried = list(range(10, 201, 10))
    right = twin = 0
    for _ in range(200):
        scores, included = rng.standard_normal(200), rng.random(200) < 0.5
        right += canary_audit(scores, included, 0.0, guesses=tried).refutes(0.0)
        twin += any(canary_audit(scores, included, 0.0, guesses=[r]).refutes(0.0) for r in tried)
    # 5 of 100 is 10 of 200; three standard errors above
    assert right <= 10 + 9 < twin


def test_bad_input() -> None:
    yes = np.array([True, False])
    with pytest.raises(InputError, match=r"shape \(3,\) and included \(2,\)"):
        canary_audit(np.zeros(3), yes, DELTA)
    with pytest.raises(InputError, match="of int64"):
        canary_audit(np.zeros(2), np.array([0, 1]), DELTA)
    with pytest.raises(InputError, match="1 scores are NaN"):
        canary_audit(np.array([0, np.nan]), yes, DELTA)
    with pytest.raises(InputError, match="delta is 1"):
        canary_audit(np.zeros(2), yes, 1)
    with pytest.raises(InputError, match="level is 95"):
        canary_audit(np.zeros(2), yes, 0, level=95)
    with pytest.raises(InputError, match="at most 2"):
        canary_audit(np.zeros(2), yes, 0, guesses=[3])
    with pytest.raises(InputError, match="n_canaries is 0"):
        audit_run(lambda included: included, 0, DELTA)
