"""The fast clipped sums against gradients written out, torch and Opacus; noise, sampling and steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear, unit
from linkage_core.mitigation import oneshot
from linkage_core.mitigation.engine import ClosedForm, Pairs, Recipe, Towers, train, unit_norms
from linkage_core.mitigation.noise import Seeded, System
from linkage_core.mitigation.objectives import Label, Nothing, Objective, PublicNegatives, absent, targets
from linkage_core.mitigation.opacus_engine import Opacus, losses


def toy(n: int = 40, d: int = 7, t: int = 5, e: int = 4, seed: int = 0, pair_unit: bool = False) -> tuple:
    rng = np.random.default_rng(seed)
    units = np.arange(n) if pair_unit else rng.integers(0, max(1, n // 3), n)
    pairs = Pairs.of(rng.standard_normal((n, d)) * 3, rng.standard_normal((n, t)), units)
    at = Towers(rng.standard_normal((e, d + 1)) / 3, rng.standard_normal((e, t + 1)) / 3)
    banks = (unit(rng.standard_normal((6, e))), unit(rng.standard_normal((9, e))), np.zeros((0, e)))
    objectives: list[Objective] = [
        Label(rng.choice([0.0, 1.0, np.nan], size=(n, e))),
        PublicNegatives(banks[0], banks[1], 0.2),
        PublicNegatives(banks[2], banks[1]),
        Nothing(),
    ]
    return pairs, at, objectives


def written_out(objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
    """One gradient matrix a pair, summed by unit, clipped, summed."""
    x, t = pairs.features(rows)
    dz, du = objective.gradients(x @ at.image.T, t @ at.text.T, rows)
    total = Towers(np.zeros_like(at.image), np.zeros_like(at.text))
    for one in np.unique(pairs.unit[rows]):
        own = np.flatnonzero(pairs.unit[rows] == one)
        grown = Towers(
            np.sum([np.outer(dz[i], x[i]) for i in own], axis=0), np.sum([np.outer(du[i], t[i]) for i in own], axis=0)
        )
        total = total.plus(grown, min(1.0, clip / max(grown.norm, 1e-300)))
    return total


@pytest.mark.parametrize("clip", [1e-3, 0.3, 1e3])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_clipped_sums_equal_gradients_written_out(n: int, clip: float) -> None:
    pairs, at, objectives = toy(n)
    for objective in objectives:
        fast = ClosedForm().clipped_sum(objective, at, pairs, np.arange(n), clip)
        slow = written_out(objective, at, pairs, np.arange(n), clip)
        assert fast.plus(slow, -1.0).norm <= 1e-7 * max(slow.norm, 1e-12)


def test_norms_of_units_of_any_size_equal_matrices_written_out() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(5), [1, 3, 64, 65, 200])
    factors = [(rng.standard_normal((len(codes), 3)), rng.standard_normal((len(codes), 4))) for _ in range(2)]
    slow = [np.sqrt(sum(np.sum((d[codes == unit].T @ x[codes == unit]) ** 2) for d, x in factors)) for unit in range(5)]
    assert unit_norms(factors, codes) == pytest.approx(slow, rel=1e-10)
    assert unit_norms(factors, np.zeros(0, dtype=int)).shape == (0,)


@pytest.mark.parametrize("clip", [0.05, 0.5, 1e3])
def test_both_engines_give_the_same_sum(clip: float) -> None:
    pairs, at, objectives = toy(64, pair_unit=True)
    for constant in (1.0, 0.0):
        pairs = Pairs(pairs.images, pairs.texts, pairs.unit, pairs.n_units, pairs.order, constant)
        for objective in objectives:
            closed = ClosedForm().clipped_sum(objective, at, pairs, np.arange(64), clip)
            opacus = Opacus().clipped_sum(objective, at, pairs, np.arange(64), clip)
            assert closed.plus(opacus, -1.0).norm <= 1e-5 * max(closed.norm, 1e-12)
    empty = Opacus().clipped_sum(objectives[0], at, pairs, np.zeros(0, dtype=int), clip)
    assert empty.norm == 0 == ClosedForm().clipped_sum(objectives[0], at, pairs, np.zeros(0, dtype=int), clip).norm


def test_opacus_refuses_patients() -> None:
    pairs, at, objectives = toy(12)
    with pytest.raises(InputError, match="clips pairs, not patients"):
        Opacus().clipped_sum(objectives[0], at, pairs, np.arange(12), 1.0)


def test_gradients_are_those_of_torch() -> None:
    pairs, at, objectives = toy(20)
    x, t = pairs.features(np.arange(20))
    z, u = x @ at.image.T, t @ at.text.T
    for objective in objectives:
        by_hand = objective.gradients(z, u, np.arange(20))
        tensors = [torch.tensor(v, dtype=torch.float32, requires_grad=True) for v in (z, u)]
        losses(objective, tensors[0], tensors[1], np.arange(20)).sum().backward()
        for ours, theirs in zip(by_hand, tensors, strict=True):
            assert ours == pytest.approx(theirs.grad.numpy(), abs=2e-5)


def test_no_row_of_a_gradient_depends_on_another_row() -> None:
    pairs, at, objectives = toy(20)
    x, t = pairs.features(np.arange(20))
    for objective in objectives:
        whole = objective.gradients(x @ at.image.T, t @ at.text.T, np.arange(20))
        alone = objective.gradients(x[3:4] @ at.image.T, t[3:4] @ at.text.T, np.array([3]))
        for a, b in zip(whole, alone, strict=True):
            assert a[3] == pytest.approx(b[0], abs=1e-12)


def test_empty_batches_are_steps() -> None:
    pairs, at, objectives = toy(6, pair_unit=True)
    stages: list[tuple[int, int]] = []
    recipe = Recipe(clip=1.0, q=1e-9, steps=5, rate=0.1, multiplier=1.0)
    end = train(at, pairs, objectives[0], recipe, Seeded(0), progress=lambda _, *done: stages.append(done))
    assert stages == [(i, 5) for i in range(1, 6)]
    assert np.all(end.image != at.image), "their noise is added all the same"


def test_a_seed_repeats_a_run_and_the_system_never_does() -> None:
    pairs, at, objectives = toy(30)
    recipe = Recipe(clip=1.0, q=0.3, steps=4, rate=0.1, multiplier=1.0, momentum=0.9)
    one, two, three = (train(at, pairs, objectives[0], recipe, Seeded(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one.image, two.image)
    assert not np.array_equal(one.image, three.image)
    first, second = (train(at, pairs, objectives[0], recipe, System()) for _ in range(2))
    assert not np.any(first.text == second.text)


def test_without_noise_a_label_head_learns() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (600, 2)).astype(float)
    x, t = y @ rng.standard_normal((2, 8)), y @ rng.standard_normal((2, 6))
    pairs = Pairs.of(x + rng.standard_normal(x.shape), t + rng.standard_normal(t.shape), np.arange(600) // 2)
    start = Towers(np.zeros((2, 9)), np.zeros((2, 7)))
    recipe = Recipe(clip=1.0, q=0.2, steps=200, rate=1.0, multiplier=0.0)
    heads = train(start, pairs, Label(y[pairs.order]), recipe, Seeded(0)).heads()
    scores = heads.image(pairs.images)
    for k in range(2):
        assert stats.spearmanr(scores[:, k], y[pairs.order, k]).statistic > 0.6


def test_the_systems_noise_is_normal_and_its_sample_uniform() -> None:
    normal = System().normal((200, 500))
    assert normal.shape == (200, 500)
    assert stats.kstest(normal.ravel(), "norm").pvalue > 1e-7
    assert abs(normal.std() - 1) < 0.02
    uniform = System().uniform(100_000)
    assert 0 <= uniform.min() <= uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 1e-7
    assert System.seed is None


def test_pairs_that_cannot_be_used_are_refused() -> None:
    x = np.ones((3, 2))
    with pytest.raises(InputError, match="3 images, 2 texts"):
        Pairs.of(x, x[:2], np.arange(3))
    with pytest.raises(InputError, match="image features hold NaN"):
        Pairs.of(np.full((3, 2), np.nan), x, np.arange(3))
    with pytest.raises(InputError, match="0 images"):
        Pairs.of(x[:0], x[:0], np.arange(0))


def test_targets_read_each_record_by_itself() -> None:
    labels = np.full((4, 14), np.nan)
    labels[0, 5] = 1.0  # Edema, all else unmentioned
    labels[1, 5], labels[1, 8] = -1.0, 1.0
    labels[2, 8] = 0.0
    made = targets(labels, ["Edema", "Atelectasis"])
    assert np.array_equal(made, [[1, 0], [np.nan, 1], [0, 0], [np.nan, np.nan]], equal_nan=True)
    assert absent(labels, ["Edema", "Fracture", "Atelectasis"]) == ["Fracture"]
    assert np.array_equal(targets(labels, ["Fracture"])[:3], np.zeros((3, 1))), "learnt like any other"
    with pytest.raises(InputError, match="pairs has a label, and what is to be trained learns"):
        targets(labels[3:], ["Edema"])
    for bad in ([], ["Edema", "Edema"], ["edema"]):
        with pytest.raises(InputError):
            targets(labels, bad)


# --------------------------------------------------------------------------------------------------------- one-shot


def one_shot(
    mechanism: str, n: int = 300, seed: int = 0
) -> tuple[oneshot.Prepared, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice([np.nan, 0.0, 1.0, -1.0], size=(n, 14))
    signal = np.nan_to_num(labels == 1)
    images = signal @ rng.standard_normal((14, 20)) + rng.standard_normal((n, 20)) + 2
    texts = signal @ rng.standard_normal((14, 16)) + 0.3 * rng.standard_normal((n, 16))
    findings = ("Edema", "Fracture", "Pneumonia")
    made = oneshot.prepare(mechanism, images, texts, np.arange(n) // 3, labels, findings)
    return made, images, texts, labels


@pytest.mark.parametrize("mechanism", oneshot.FORMS)
def test_clipped_moments_equal_a_loop_over_patients(mechanism: str) -> None:
    made, images, texts, labels = one_shot(mechanism)
    slow = {name: np.zeros_like(block) for name, block in made.sums.items()}
    y = np.nan_to_num(targets(labels, ["Edema", "Fracture", "Pneumonia"]))
    for patient in range(100):
        own: dict[str, np.ndarray] = {}
        for i in range(3 * patient, 3 * patient + 3):
            x, t = images[i] / np.linalg.norm(images[i]), texts[i] / np.linalg.norm(texts[i])
            terms = {"image_image": np.outer(x, x), "text_text": np.outer(t, t)}
            if mechanism == oneshot.LABEL:
                terms |= {"image_label": np.outer(x, y[i]), "text_label": np.outer(t, y[i])}
            else:
                terms["image_text"] = np.outer(x, t)
            own = {name: own.get(name, 0) + term for name, term in terms.items()}
        norm = np.sqrt(sum(np.sum(block**2) for block in own.values()))
        for name, block in own.items():
            slow[name] += block * min(1.0, made.clip / norm)
    for name, block in slow.items():
        assert made.sums[name] == pytest.approx(block, rel=1e-7, abs=1e-9)


def test_label_heads_are_ridge_regression() -> None:
    made, *_ = one_shot(oneshot.LABEL)
    heads = made.heads(np.inf, 1e-6)
    moment = made.sums["image_image"] + 1e-4 * made.n_units * np.eye(20)
    assert heads.image.weight == pytest.approx((np.linalg.inv(moment) @ made.sums["image_label"]).T, rel=1e-3, abs=1e-5)
    assert heads.image.weight.shape == (3, 20)
    assert not heads.image.bias.any()


def test_moment_heads_put_a_pair_together() -> None:
    made, images, texts, _ = one_shot(oneshot.MOMENT)
    heads = made.heads(np.inf, 1e-6)
    a, b = unit(heads.image(images)), unit(heads.text(texts))
    scores = a @ b.T
    assert np.mean(np.diag(scores)[:, None] > scores) > 0.7
    assert made.heads(np.inf, 1e-6, width=4).text.weight.shape == (4, 16)


def test_fresh_noise_at_every_call_and_none_without_need(tmp_path) -> None:
    made, *_ = one_shot(oneshot.LABEL)
    one, two = (made.heads(1.0, 1e-5) for _ in range(2))
    assert not np.any(one.image.weight == two.image.weight)
    same = [made.heads(1.0, 1e-5, Seeded(3)).image.weight for _ in range(2)]
    assert np.array_equal(*same)
    made.write(tmp_path / "sums.safetensors")
    again = oneshot.Prepared.read(tmp_path / "sums.safetensors")
    assert np.array_equal(again.heads(1.0, 1e-5, Seeded(3)).image.weight, same[0])
    assert (again.clip, again.findings, again.n_units) == (made.clip, made.findings, made.n_units)
    run = made.run(1.0, 1e-5)
    assert (run.q, run.steps, run.accountant) == (1.0, 1, "analytic Gaussian")
    assert run.epsilon == pytest.approx(1.0, rel=1e-6)
    assert not any(block.any() for block in made.without_signal().sums.values())


def test_towers_and_heads_are_the_same_map() -> None:
    rng = np.random.default_rng(0)
    heads = Heads(*(Linear(rng.random((3, d)).astype(np.float32), rng.random(3).astype(np.float32)) for d in (4, 5)))
    back = Towers.of(heads).heads()
    assert np.array_equal(back.image.weight, heads.image.weight)
    assert np.array_equal(back.text.bias, heads.text.bias)
