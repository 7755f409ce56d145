"""Limits on linkage beside the best any mechanism can do at small N, found without them; and twins a little low."""

import json
import math
from collections.abc import Callable
from itertools import combinations
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr, ndtri

from helpers.scripts import BENCHMARKS, script
from linkage_core.errors import InputError
from linkage_core.release import bounds

A_LITTLE_LOW = 0.98


@pytest.fixture(scope="module")
def brute() -> ModuleType:
    return script("release_bounds")


@pytest.fixture(scope="module")
def table(brute: ModuleType) -> pd.DataFrame:
    return brute.table()


def refuted(table: pd.DataFrame, factor: float = 1.0) -> pd.DataFrame:
    return table[table["found"] > factor * table["limit"] * (1 + 1e-7)]


# ---------------------------------------------------------------------------------------------------- the whole table


def test_no_mechanism_is_above_its_limit(table: pd.DataFrame) -> None:
    assert len(refuted(table)) == 0
    assert set(table["bound"]) == {
        *("local", "capped", "cells", "cells, jointly", "trade_off", "gaussian", "unpaired", "reading"),
        *("joint_local", "joint_gaussian", "joint_capped", "joint_information"),
    }


def test_limits_called_tight_are_reached_and_twins_a_little_low_are_caught(table: pd.DataFrame) -> None:
    tight = table[table["tight"]]
    assert tight["ratio"].min() > 1 - 1e-6
    assert len(refuted(tight, A_LITTLE_LOW)) == len(tight)
    assert set(tight["bound"]) == set(table["bound"]) - {"joint_information", "joint_gaussian", "unpaired"}


def test_a_limit_for_two_contributions_would_be_refuted_and_that_for_one_is(table: pd.DataFrame) -> None:
    """Who is told nothing, of images times findings, is above bounds.central; of any form, above two contributions."""
    rows = table[table["bound"] == "unpaired"]
    mu, n = (rows["case"].str.extract(f"{of}=([0-9.]+)")[0].astype(float) for of in ("mu", "N"))
    for contributions, of_form in ((1, "told nothing"), (2, "any form")):
        limit = ndtr(ndtri(1 / n) + contributions * mu)
        assert (rows["found"] > limit)[rows["how"].str.contains(of_form)].all()


def test_nothing_covers_archives_in_one_order(brute: ModuleType) -> None:
    assert brute.in_one_order(100, 0.24) > 5 * bounds.unpaired(0.24, 100)


def test_the_shipped_table_is_this_one(table: pd.DataFrame) -> None:
    shipped = pd.DataFrame(json.loads((BENCHMARKS / "release_bounds.json").read_text())["bounds"]["rows"])
    assert shipped["case"].tolist() == table["case"].tolist()
    assert np.allclose(shipped["limit"], table["limit"], atol=1e-6)


# ------------------------------------------------------------------------------------------ the brute force is right


def test_naming_the_likeliest_is_the_best_of_all_rules(brute: ModuleType) -> None:
    rng = np.random.default_rng(0)
    for n, n_symbols, k in ((2, 4, 1), (3, 4, 1), (3, 3, 2), (4, 4, 2), (1, 2, 1)):
        for _ in range(5):
            kernel = rng.dirichlet(np.full(n_symbols, 0.5), size=n)
            assert brute.alone(kernel, k) == pytest.approx(brute.by_every_rule(kernel, k))


def test_more_symbols_do_not_help(brute: ModuleType) -> None:
    """One symbol a set of k is what the programme allows itself; kernels with many more stay below it."""
    rng = np.random.default_rng(1)
    for n, k in ((3, 1), (4, 2)):
        most = brute.best(n, k, epsilon=1.2)
        for _ in range(60):
            kernel = brute.local_at_random(n, 1.2, rng)
            assert np.log(kernel.max(axis=0) / kernel.min(axis=0)).max() < 1.2 + 1e-6
            assert np.allclose(kernel.sum(axis=1), 1)
            assert brute.alone(kernel, k) <= most + 1e-9


def test_the_programme_knows_delta(brute: ModuleType) -> None:
    """The mechanism that reaches the bound has the delta it claims: the largest excess of any event."""
    n, k, epsilon, delta = 5, 2, 1.0, 0.1
    kernel = brute.subsets(n, k, epsilon, delta * (n - 1) / (n - k))
    excess = [
        np.maximum(kernel[j] - math.exp(epsilon) * kernel[other], 0).sum()
        for j in range(n)
        for other in range(n)
        if j != other
    ]
    assert max(excess) == pytest.approx(delta)


def test_joint_success_by_sampling(brute: ModuleType) -> None:
    """The sum over all outcomes beside matchings and releases that were drawn."""
    rng = np.random.default_rng(2)
    kernel = rng.dirichlet(np.full(3, 0.5), size=3)
    exact = brute.jointly(kernel)
    orders = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    hits = 0.0
    for _ in range(4000):
        truth = orders[rng.integers(6)]
        symbols = [rng.choice(3, p=kernel[j]) for j in truth]
        likelihood = kernel[orders, symbols].prod(axis=1)
        posterior = np.array([[likelihood[orders[:, i] == j].sum() for j in range(3)] for i in range(3)])
        hits += (posterior.argmax(axis=1) == truth).mean()
    assert hits / 4000 == pytest.approx(exact, abs=0.03)


# ------------------------------------------------------------------------------------------------------------ jointly


def test_a_density_limit_does_not_hold_jointly(brute: ModuleType) -> None:
    """Three candidates, each uniform on two of three symbols; and two candidates with a symbol of their own each."""
    ring = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]]) / 2
    assert (ring <= 1.5 / 3 + 1e-12).all(), "at most 1.5 times the uniform law"
    assert brute.alone(ring) == pytest.approx(0.5)
    assert bounds.capped(1.5, 3) == 0.5
    assert brute.jointly(ring) == pytest.approx(0.625)
    pair = np.array([[0.5, 0.5, 0], [0, 0.5, 0.5]])
    assert brute.alone(pair) == bounds.capped(1.5, 2) == 0.75
    assert brute.jointly(pair) == bounds.joint_capped(1.5, 2) == 0.875


def test_two_candidates_are_settled(brute: ModuleType) -> None:
    """No pair of laws with density at most L does better jointly than 1 - (2-L)^2/2."""
    rng = np.random.default_rng(3)
    worst = 0.0
    for _ in range(400):
        pair = rng.dirichlet(np.full(rng.integers(2, 6), 0.4), size=2)
        limit = pair.max(axis=0).sum()  # the least L, against the law in proportion to the larger of the two
        if 1.001 < limit < 1.999:
            worst = max(worst, brute.jointly(pair) / bounds.joint_capped(limit, 2))
    assert 0.98 < worst <= 1 + 1e-9


def test_joint_limits_hold_over_many_random_mechanisms(brute: ModuleType) -> None:
    rng = np.random.default_rng(4)
    for n, tries in ((2, 150), (3, 100), (4, 6)):
        for _ in range(tries):
            epsilon = float(rng.choice([0.2, 1.0, 2.5]))
            kernel = brute.local_at_random(n, epsilon, rng)
            found = brute.jointly(kernel)
            assert found <= bounds.joint_local(epsilon, n) + 1e-9
            limit = float(kernel.max(axis=0).sum())
            if 1 < limit <= n:
                assert found <= bounds.joint_capped(limit, n, epsilon=epsilon) + 1e-9
            mean = kernel.mean(axis=0)
            nats = (kernel * np.log(kernel / mean)).sum(axis=1).mean()
            assert found <= bounds.joint_information(nats, n) + 1e-9
            for k in range(2, n):
                assert brute.jointly(kernel, k) <= bounds.joint_local(epsilon, n, k) + 1e-9


def test_a_local_limit_does_not_hold_jointly_for_two_named(brute: ModuleType) -> None:
    """Randomised response, which is not the best mechanism for k = 2 alone, passes the best alone when all are held."""
    response = brute.subsets(3, 1, 2.5)
    assert brute.alone(response, 2) < bounds.local(2.5, 3, 2)
    assert bounds.local(2.5, 3, 2) * 1.02 < brute.jointly(response, 2) <= bounds.joint_local(2.5, 3, 2)
    assert brute.jointly(response, 2) <= bounds.joint_capped(response.max(axis=0).sum(), 3, 2, epsilon=2.5)
    assert brute.jointly(response, 1) == pytest.approx(bounds.local(2.5, 3, 1))


def test_the_steps_of_the_joint_local_limit(brute: ModuleType) -> None:
    """(a) The other releases are epsilon close, whatever the candidate; the last step, by trying every d."""
    rng = np.random.default_rng(7)
    closest = 0.0
    for _ in range(30):
        kernel = brute.local_at_random(3, 1.3, rng)
        outer = [np.multiply.outer(kernel[a], kernel[b]) for a, b in ((1, 2), (0, 2), (0, 1))]
        others = np.array([(one + one.T) / 2 for one in outer])
        closest = max(closest, np.log(others.max(axis=0) / others.min(axis=0)).max())
    assert 1.2 < closest <= 1.3 + 1e-9
    for epsilon in (0.1, 1.0, 6.0):
        e = math.exp(epsilon)
        for n in (2, 3, 10, 57):
            for k in range(1, n):
                large = [k * e**2 * d / ((d - k + k * e) * (n + (e - 1) * d)) for d in range(k, n + 1)]
                small = [1 - (n - d) * (n - k) / ((n - k + (k - d) * e) * (n + (e - 1) * d)) for d in range(k)]
                assert bounds.joint_local(epsilon, n, k) == pytest.approx(max(large + small))
    n = np.array([2, 10, 10**3, 10**6])
    e = math.exp(3.0)
    assert (bounds.joint_local(3.0, n) <= e**2 / (np.sqrt(n) + e - 1) ** 2 + 1e-12).all()
    assert (bounds.joint_local(3.0, n) >= bounds.local(3.0, n)).all()
    assert (bounds.joint_local(3.0, n) <= bounds.local(6.0, n)).all(), "never worse than counting an exchange twice"


def test_joint_twins_are_caught(brute: ModuleType, table: pd.DataFrame) -> None:
    """Limits that forget the exchange, or half of what a release tells."""
    ring = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]]) / 2
    assert brute.jointly(ring) > bounds.capped(1.5, 3) * 1.2
    rows = table[(table["bound"] == "joint_information") & table["case"].str.contains("10000")]
    for _, row in rows.iterrows():
        nats = float(row["case"].split("nats=")[1])
        assert row["found"] > bounds.joint_information(nats / 2, 10_000)


def test_joint_information_is_the_least_over_its_parameter() -> None:
    t = np.linspace(0.01, 12, 40_000)
    for nats, n, k in ((2.3, 10_000, 1), (0.1, 50, 3), (1e-4, 1000, 1)):
        least = ((nats + np.expm1(t) * k / n) / t).min()
        assert bounds.joint_information(nats, n, k) == pytest.approx(least, rel=1e-5)


def test_naming_more_under_a_random_matching_is_bounded_as_claimed() -> None:
    """E[(1+s)^W] <= e^ks for the number W of records whose candidate is among k named, the matching random."""
    from itertools import permutations

    rng = np.random.default_rng(5)
    for k in (1, 2, 3):
        for _ in range(20):
            named = [set(rng.choice(5, k, replace=False).tolist()) for _ in range(5)]
            hits = [sum(one[i] in named[i] for i in range(5)) for one in permutations(range(5))]
            for s in (0.3, 2.0, 50.0):
                assert np.mean((1 + s) ** np.array(hits, float)) <= math.exp(k * s) * (1 + 1e-12)


# ----------------------------------------------------------------------------------------------------- single formulas


def test_delta_and_k_come_in_one_formula() -> None:
    """Delta 0: k e^eps / (N - k + k e^eps); k = 1: (e^eps + (N-1) delta)/(N - 1 + e^eps); both at extremes."""
    e = math.exp(1.3)
    assert bounds.local(1.3, 50, 7) == pytest.approx(7 * e / (43 + 7 * e))
    assert bounds.local(1.3, 50, 1, 0.01) == pytest.approx((e + 0.49) / (49 + e))
    assert bounds.local(0.0, 50, 7) == pytest.approx(7 / 50)
    assert bounds.local(math.inf, 50, 7) == 1
    assert bounds.local(800.0, 50) == 1
    assert bounds.local(0.5, 50, 50) == 1
    assert bounds.local(0.5, 50, delta=1.0) == 1
    assert bounds.joint_local(math.inf, 50) == 1
    n = np.array([2, 100, 10**9])
    assert (bounds.lift(bounds.local(2.71, n), n) <= math.exp(2.71)).all()
    assert bounds.lift(bounds.local(2.71, 10**9), 10**9) == pytest.approx(math.exp(2.71), rel=1e-6)


def test_figures_of_the_design() -> None:
    """Lift 15 is epsilon 2.71; statistics at N = 5,000, delta 1e-6: 1.4, 2.4 and 9.6 at epsilon 0.34, 1 and 3."""
    from linkage_core.mitigation.accounting import gaussian_sigma

    assert math.exp(2.71) == pytest.approx(15, rel=0.01)
    for epsilon, most in ((0.34, 1.4), (1.0, 2.4), (3.0, 9.6)):
        mu = 1 / gaussian_sigma(epsilon, 1e-6)
        assert bounds.lift(bounds.central(mu, 5000), 5000) == pytest.approx(most, abs=0.06)


def test_arrays_and_numbers_agree() -> None:
    n, k = np.array([10, 100, 1000]), np.array([1, 2, 10])
    for bound in (
        *(lambda n, k: bounds.local(1.0, n, k, 1e-3), lambda n, k: bounds.gaussian(0.7, n, k)),
        *(lambda n, k: bounds.cells(5, n, k), lambda n, k: bounds.capped(5.0, n, k, 2.0)),
        *(lambda n, k: bounds.joint_local(0.4, n, k), lambda n, k: bounds.joint_capped(5.0, n, k, 2.0)),
        *(lambda n, k: bounds.joint_information(0.4, n, k), lambda n, k: bounds.central(0.1, n, k)),
        *(lambda n, k: bounds.joint_gaussian(0.4, n, k), lambda n, k: bounds.unpaired(0.1, n, k)),
        lambda n, k: bounds.trade_off(lambda level: np.minimum(3 * level, 1), n, k),
    ):
        together = bound(n, k)
        assert together.tolist() == [bound(int(a), int(b)) for a, b in zip(n, k, strict=True)]
        assert isinstance(bound(10, 1), float)
        assert ((together >= k / n) & (together <= 1)).all()


def test_mechanisms_compose(brute: ModuleType) -> None:
    """Two independent releases of one candidate: never above the product, and a shared reference reaches it."""
    kernel = brute.caps(6, 2.0)
    twice = np.array([np.outer(row, row).ravel() for row in kernel])
    assert brute.alone(twice) <= bounds.compose_lifts([2.0, 2.0]) / 6 + 1e-12
    first = np.kron(np.eye(2), np.ones((3, 1)))
    second = np.tile(np.eye(3), (2, 1))
    both = np.array([np.outer(a, b).ravel() for a, b in zip(first, second, strict=True)])
    assert brute.alone(both) == pytest.approx(bounds.compose_lifts([2, 3]) / 6), "two codes, 2 and 3 cells"
    assert bounds.compose_lifts([]) == 1
    assert bounds.compose_mu([3.0, 4.0]) == 5
    assert bounds.compose_mu([]) == 0


def test_reading_one_finding_and_several() -> None:
    assert bounds.reading(0.4) == 1.4
    states = np.array([[a, b] for a in (0, 1) for b in (0, 1)])
    sensitivity, specificity = 0.9, 0.7
    of = [np.where(states[:, [i]] == 1, [sensitivity, 1 - sensitivity], [1 - specificity, specificity]) for i in (0, 1)]
    kernel = np.array([np.outer(a, b).ravel() for a, b in zip(*of, strict=True)])
    assert kernel.max(axis=0).sum() == pytest.approx(bounds.reading(0.6) ** 2), "independent findings multiply"
    alike = np.array([[0, 0], [0, 0], [1, 1], [1, 1]])
    of = [np.where(alike[:, [i]] == 1, [sensitivity, 1 - sensitivity], [1 - specificity, specificity]) for i in (0, 1)]
    kernel = np.array([np.outer(a, b).ravel() for a, b in zip(*of, strict=True)])
    assert kernel.max(axis=0).sum() < bounds.reading(0.6) ** 2 - 0.2, "findings that go together do not"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.local(-0.1, 10), "epsilon is -0.1"),
        (lambda: bounds.local(math.nan, 10), "epsilon is nan"),
        (lambda: bounds.local(1.0, 10, delta=-1e-9), "delta is"),
        (lambda: bounds.local(1.0, 10, delta=math.nan), "delta is nan"),
        (lambda: bounds.local(1.0, 10, 11), "k is 11, and the pool holds 10"),
        (lambda: bounds.local(1.0, 10, 0), "k is 0"),
        (lambda: bounds.local(1.0, 0), "n is 0"),
        (lambda: bounds.local(1.0, np.array([10, 2]), 3), "k must be at most N"),
        (lambda: bounds.local(1.0, 10.5), "n is 10.5"),  # type: ignore[arg-type]
        (lambda: bounds.gaussian(-1.0, 10), "mu is -1.0"),
        (lambda: bounds.central(math.inf, 10), "mu is inf"),
        (lambda: bounds.gaussian(math.nan, 10), "mu is nan"),
        (lambda: bounds.cells(0, 10), "n_cells is 0"),
        (lambda: bounds.cells(2.5, 10), "n_cells is 2.5"),  # type: ignore[arg-type]
        (lambda: bounds.capped(1.0, 10), "limit L is 1.0"),
        (lambda: bounds.capped(0.5, 10), "limit L is 0.5"),
        (lambda: bounds.capped(10.5, 10), "limit L is 10.5, with N = 10"),
        (lambda: bounds.capped(math.nan, 10), "limit L is nan"),
        (lambda: bounds.capped(50.0, np.array([100, 20])), "with N = 20"),
        (lambda: bounds.joint_capped(11.0, 10), "limit L is 11.0"),
        (lambda: bounds.joint_local(-1.0, 10), "epsilon is -1.0"),
        (lambda: bounds.joint_gaussian(-1.0, 10), "mu is -1.0"),
        (lambda: bounds.joint_information(-1.0, 10), "nats is -1.0"),
        (lambda: bounds.reading(1.5), "youden is 1.5"),
        (lambda: bounds.reading(math.nan), "youden is nan"),
        (lambda: bounds.compose_lifts([2, 0.5]), "A lift is 0.5"),
        (lambda: bounds.compose_lifts([math.nan]), "A lift is nan"),
        (lambda: bounds.compose_mu([-1]), "A mu is -1"),
        (lambda: bounds.lift(1.2, 10), "recall lies outside"),
        (lambda: bounds.trade_off(np.square, 10), "not concave"),
        (lambda: bounds.trade_off(lambda a: 1 - a, 10), "falls"),
        (lambda: bounds.trade_off(lambda a: 2 * a, 10), "other than a rate"),
    ],
)
def test_numbers_that_cannot_be_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_jensen_needs_concavity(brute: ModuleType) -> None:
    """Unequal levels do better than equal ones where G is not concave, which is why `trade_off` looks."""
    levels = np.linspace(0, 1, 101)
    convex = levels**2
    pairs = [(a, b) for a, b in combinations(range(101), 2) if a + b == 100]
    assert max((convex[a] + convex[b]) / 2 for a, b in pairs) > convex[50] + 0.2
    concave = ndtr(ndtri(np.clip(levels, 1e-12, 1 - 1e-12)) + 1)
    assert max((concave[a] + concave[b]) / 2 for a, b in pairs) <= concave[50]
