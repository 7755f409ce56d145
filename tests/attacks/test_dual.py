"""The trained dual encoder: its gradient against differences, and what it must recover and must not see."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from helpers.attacked import D, simulated
from linkage_core.attacks import dual
from linkage_core.attacks.attack import answered, run
from linkage_core.attacks.attackers import ATTACKERS
from linkage_core.attacks.held import Held, Known
from linkage_core.attacks.scored import Scored
from linkage_core.heads import Heads, identity, unit
from linkage_core.ranking import pools

TRAINED = ("dual-encoder", "dual-and-reader", "dual-on-images")


def recall(held: Held, attacker: str, m: Known = "all") -> float:
    return float(pools.expected_recall(run(held, attacker, m)[0], 100, 1).mean())


def factors(held: Held, attacker: str, seed: int = 0, *, knows_heads: bool = True) -> Scored:
    answer = answered(held, attacker, "all", seed, knows_heads=knows_heads)[0]
    assert isinstance(answer, Scored)
    return answer


# ------------------------------------------------------------------------------------------- the gradient, slowly


def slow_loss(u: np.ndarray, v: np.ndarray, scale: float, same: np.ndarray) -> float:
    total = 0.0
    for a, b, skip in ((u, v, same), (v, u, same.T)):
        for i in range(len(a)):
            others = [np.exp(scale * a[i] @ b[j]) for j in range(len(b)) if not skip[i, j]]
            total -= np.log(np.exp(scale * a[i] @ b[i]) / sum(others)) / len(a)
    return total / 2


def test_the_loss_and_its_slopes_are_those_of_the_sum_written_out() -> None:
    rng = np.random.default_rng(0)
    u, v = (unit(rng.standard_normal((7, 4))).astype(np.float64) for _ in range(2))
    same = np.zeros((7, 7), dtype=bool)
    same[1, 4] = same[4, 1] = same[0, 2] = same[2, 0] = True
    value, of_u, of_v, of_scale = dual.loss(u, v, 5.0, same)
    assert value == pytest.approx(slow_loss(u, v, 5.0, same), rel=1e-6)
    step = 1e-5
    for place, slope in ((0, of_u), (1, of_v)):
        for i, k in ((0, 0), (1, 3), (4, 2), (6, 1)):
            moved = [u.copy(), v.copy()], [u.copy(), v.copy()]
            moved[0][place][i, k] += step
            moved[1][place][i, k] -= step
            up, down = (slow_loss(*pair, 5.0, same) for pair in moved)
            assert slope[i, k] == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-6)
    up, down = (slow_loss(u, v, 5.0 * np.exp(sign * step), same) for sign in (1, -1))
    assert of_scale == pytest.approx((up - down) / (2 * step), rel=1e-3)


def test_a_network_passes_its_slope_on() -> None:
    """Along random directions: the change of a sum of its outputs is that by finite differences."""
    rng = np.random.default_rng(1)
    tower = dual._Tower(5, rng)
    rows, wanted = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 5), (6, dual._OUT)))
    keep = (rng.random((6, dual._HIDDEN)) < 0.7).astype(np.float32) / np.float32(0.7)
    assert np.allclose(np.linalg.norm(tower(rows, keep), axis=1), 1, atol=1e-5)
    tower.back(wanted)
    slope, start = tower.slope.copy(), tower.flat.copy()
    ends = np.cumsum([0, *(weights.size for weights in tower._weights)])
    for low, high in pairwise(ends):
        way = np.zeros_like(start)
        way[low:high] = slope[low:high] / np.linalg.norm(slope[low:high])
        found = []
        for sign in (1, -1):
            tower.flat[...] = start + sign * np.float32(1e-3) * way
            found.append(float((tower(rows, keep).astype(np.float64) * wanted).sum()))
        assert (found[0] - found[1]) / 2e-3 == pytest.approx(float(slope @ way), rel=0.02)


# ------------------------------------------------------------------------------------------- what it must recover


def bent(n_own: int = 800) -> Held:
    """The release has signs and sizes apart, the report their squares alone: no linear reading finds anything."""
    held = simulated(n_own=n_own, n_test=300)
    rng = np.random.default_rng(4)
    n = n_own + 300
    x = rng.standard_normal((n, 6))
    texts = np.column_stack([x**2, 0.1 * rng.standard_normal((n, 1))]).astype(np.float32)
    released = unit(np.column_stack([x, np.ones(n)]).astype(np.float32))
    own, test = np.arange(n_own), np.arange(n_own, n)
    return replace(
        held,
        released=released[test],
        images=released[test],
        texts=texts[test],
        text_of=np.arange(300),
        findings=np.zeros((300, 0)),
        own_released=released[own],
        own_clean=released[own],
        own_images=released[own],
        own_texts=texts[own],
        own_findings=np.zeros((n_own, 0)),
        heads=Heads(identity(7), identity(7)),
        off_the_shelf=Heads(identity(7), identity(7)),
    )


def test_it_learns_what_no_linear_reader_can() -> None:
    held = bent()
    assert recall(held, "reader") < 0.06
    assert recall(held, "dual-encoder") > 0.2
    assert recall(held, "dual-and-reader") > 0.2
    assert recall(held, "dual-on-images") > 0.2


def test_the_sum_is_not_worse_than_the_better_of_both_where_there_are_few_pairs() -> None:
    held = simulated()
    for m in (20, 100):
        best = max(recall(held, "reader", m), recall(held, "dual-encoder", m))
        assert recall(held, "dual-and-reader", m) > best - 0.02


def test_a_secret_rotation_does_not_matter() -> None:
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((D, D)))[0]
    assert recall(simulated(turn), "dual-encoder") == pytest.approx(recall(simulated(), "dual-encoder"), abs=0.05)


def test_where_nothing_is_to_be_found_it_finds_nothing() -> None:
    held = simulated()
    strangers = np.random.default_rng(0).permutation(len(held.released))
    blind = replace(held, released=held.released[strangers], images=held.images[strangers])
    assert recall(blind, "dual-encoder") < 0.03
    assert recall(blind, "dual-and-reader") < 0.03


@pytest.mark.usefixtures("few_steps_here")
@pytest.mark.parametrize("attacker", TRAINED)
@pytest.mark.parametrize("m", [1, 2, 10])
def test_it_acts_with_few_pairs_without_labels_and_on_other_sizes(attacker: str, m: Known) -> None:
    plain = simulated(n_own=60, n_test=40)
    for held in (
        plain,
        simulated(np.eye(D)[:6], text_head=np.eye(D)[:6], n_own=60, n_test=40, noise=0.1),
        replace(plain, findings=np.zeros((40, 0)), own_findings=np.zeros((60, 0))),
        replace(plain, findings=np.full((40, 14), np.nan), own_findings=np.full((60, 14), np.nan)),
    ):
        counts, known, chosen = run(held, attacker, m, knows_heads=held is plain)
        assert (counts.n_better <= counts.n_eligible).all()
        assert known == (60 if m == "all" else m)
        assert chosen


# ------------------------------------------------------------------------------------------------ honest by design


@pytest.mark.usefixtures("few_steps_here")
def test_the_same_seed_gives_the_same_scores_and_another_gives_others() -> None:
    one, again, other = (factors(simulated(n_own=60, n_test=40), "dual-encoder", seed).queries for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.usefixtures("few_steps_here")
def test_nothing_is_learnt_or_chosen_on_the_queries() -> None:
    held = simulated(n_own=80, n_test=40)
    other = replace(held, match=held.match[::-1].copy())
    for attacker in TRAINED:
        one, two = factors(held, attacker), factors(other, attacker)
        assert one.chosen == two.chosen
        assert np.array_equal(one.queries, two.queries)
        assert np.array_equal(one.reports, two.reports)


def test_a_patient_who_judges_at_home_has_trained_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    held = simulated(n_own=100, n_test=40)
    code = np.unique(held.own_group, return_inverse=True)[1]
    trained, asked = [], []
    real = dual.trained
    monkeypatch.setattr(
        dual, "trained", lambda x, y, patient, *more: trained.append(set(patient)) or real(x, y, patient, *more)
    )
    monkeypatch.setattr(dual, "judged", lambda home, *pair: asked.append(set(home.query_group)) or 1.0)
    dual.learnt(held, np.arange(100), 0, True)
    n_folds = len(asked) // len(dual.SETTINGS)
    assert n_folds > 1
    for i, patients in enumerate(asked):
        assert not {code[np.flatnonzero(held.own_group == one)[0]] for one in patients} & trained[i]
    assert all(len(patients) == code.max() + 1 for patients in trained[len(asked) :]), "then with all pairs"


def test_noise_is_drawn_again_by_who_knows_the_heads() -> None:
    """Who can embed its own images trains on fresh noise; who cannot has one draw of each."""
    held = simulated(noise=0.3)
    fresh, once = (factors(held, "dual-encoder", knows_heads=knows) for knows in (True, False))
    better, worse = (float(pools.expected_recall(held.ranked(one), 100, 1).mean()) for one in (fresh, once))
    assert better > worse - 0.01
    assert not np.array_equal(fresh.queries, once.queries)


@pytest.mark.usefixtures("few_steps_here")
def test_two_who_build_on_the_same_networks_train_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = simulated(n_own=60, n_test=40)
    calls = []
    real = dual.trained
    monkeypatch.setattr(dual, "trained", lambda *given: calls.append(1) or real(*given))
    run(held, "dual-encoder")
    once = len(calls)
    run(held, "dual-and-reader")
    run(held, "dual-encoder")
    assert len(calls) == once
    run(held, "dual-encoder", 30)
    run(held, "dual-encoder", seed=1)
    run(held, "dual-encoder", knows_heads=False)
    assert len(calls) > once
    again = len(calls)
    run(replace(held), "dual-encoder")
    assert len(calls) == again + once
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None, "what was learnt keeps nothing alive"


def test_the_rows_say_who_needs_the_images() -> None:
    assert [name for name in TRAINED if "raw-images" in ATTACKERS[name].holds] == ["dual-on-images"]
