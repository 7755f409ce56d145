"""Does the code that adds the noise do what the accountant assumes? Checks of the pieces, and broken twins that each
check must catch: a check that catches nothing proves nothing.

Three facts are assumed: one unit moves the sum by at most C; independent Gaussian noise of multiplier times C lies on
every entry; every unit is in a step with probability q, independently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import stats

from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation.engine import ClosedForm, Pairs, Recipe, Towers, train, unit_norms
from linkage_core.mitigation.noise import Seeded, Source, System
from linkage_core.mitigation.objectives import Label, Nothing, Objective, PublicNegatives

CLIP, MULTIPLIER, UNLIKELY = 0.5, 3.0, 1e-7
SEEDS = range(20)

# ------------------------------------------------------------------------------------------------- the three checks


def hostile(rng: np.random.Generator) -> Iterator[tuple[Pairs, Towers, Objective]]:
    """Batches that bring one unit's influence to its limit: copies, huge and tiny norms, weights along the features."""
    d, t, e = 5, 4, 3
    units = np.repeat(np.arange(6), [1, 2, 3, 5, 8, 1])
    n = len(units)
    copies = np.ones((n, 1)) * rng.standard_normal((1, d)), np.ones((n, 1)) * rng.standard_normal((1, t))
    loose = rng.standard_normal((n, d)), rng.standard_normal((n, t))
    for x, y in (copies, loose):
        for scale in (1e-3, 1.0, 1e4):
            pairs = Pairs.of(scale * (x + 1e-6 * rng.standard_normal(x.shape)), scale * y, units)
            aligned = Towers(np.tile(np.append(x[0], 0.1), (e, 1)), np.tile(np.append(y[0], 0.1), (e, 1)))
            anyhow = Towers(rng.standard_normal((e, d + 1)), rng.standard_normal((e, t + 1)))
            bank = [rng.standard_normal((7, e)) for _ in range(2)]
            bank = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in bank]
            for at in (aligned, anyhow):
                yield pairs, at, Label(np.zeros((n, e)))
                yield pairs, at, Label(rng.choice([0.0, 1.0, np.nan], size=(n, e)))
                yield pairs, at, PublicNegatives(bank[0], bank[1], 0.05)


def furthest_move(engine: ClosedForm, seed: int) -> float:
    """How far leaving one unit out moves the sum at most, in units of C."""
    worst = 0.0
    for pairs, at, objective in hostile(np.random.default_rng(seed)):
        whole = engine.clipped_sum(objective, at, pairs, np.arange(len(pairs.unit)), CLIP)
        for left_out in range(pairs.n_units):
            rows = np.flatnonzero(pairs.unit != left_out)
            without = engine.clipped_sum(objective, at, pairs, rows, CLIP)
            worst = max(worst, whole.plus(without, -1.0).norm)
    return worst / CLIP


def residuals(engine: ClosedForm, source: Source, runs: int = 150) -> tuple[np.ndarray, np.ndarray]:
    """Noise of `runs` steps without a gradient, read off the weights: (image (runs, entries), text (runs, entries))."""
    rng = np.random.default_rng(0)
    pairs = Pairs.of(rng.standard_normal((30, 11)), rng.standard_normal((30, 11)), np.arange(30) // 2)
    start = Towers(np.zeros((6, 12)), np.zeros((6, 12)))
    recipe = Recipe(CLIP, q=0.5, steps=1, rate=0.25, multiplier=MULTIPLIER, average=1.0)
    back = recipe.q * pairs.n_units / recipe.rate
    ends = [train(start, pairs, Nothing(), recipe, source, engine) for _ in range(runs)]
    return tuple(-back * np.stack([getattr(end, side).ravel() for end in ends]) for side in ("image", "text"))  # type: ignore[return-value]


def check_gaussian(sides: tuple[np.ndarray, ...], deviation: float) -> None:
    """Each side N(0, deviation^2) and as long as it looks: no two steps, entries or sides go together."""
    for noise in sides:
        n = noise.size
        ratio = np.sum((noise / deviation) ** 2)
        assert stats.chi2.sf(ratio, n) > UNLIKELY, "too much noise"
        assert stats.chi2.cdf(ratio, n) > UNLIKELY, "too little noise"
        assert stats.kstest(noise.ravel() / deviation, "norm").pvalue > UNLIKELY
        _unrelated(noise[:-1], noise[1:])
        _unrelated(noise[:, :-1], noise[:, 1:])
    for i, one in enumerate(sides):
        for other in sides[i + 1 :]:
            width = min(one.shape[1], other.shape[1])
            _unrelated(one[:, :width], other[:, :width])


def _unrelated(a: np.ndarray, b: np.ndarray) -> None:
    assert stats.pearsonr(a.ravel(), b.ravel()).pvalue > UNLIKELY


def check_noise(engine: ClosedForm, source: Source) -> None:
    check_gaussian(residuals(engine, source), MULTIPLIER * CLIP)


def check_sampling(engine: ClosedForm, source: Source) -> None:
    """Sizes are binomial and every unit's count too: neither too uneven nor, as after shuffling, too even."""
    n, q, steps = 60, 0.2, 1500
    drawn = np.stack([engine.sample(n, q, source) for _ in range(steps)])
    sizes = drawn.sum(axis=1)
    edges = stats.binom.ppf(np.linspace(0, 1, 9)[1:-1], n, q)
    seen = np.bincount(np.searchsorted(edges, sizes), minlength=8)
    cumulative = np.concatenate([[0], stats.binom.cdf(edges, n, q), [1]])
    assert stats.chisquare(seen, steps * np.diff(cumulative)).pvalue > UNLIKELY
    counts = drawn.sum(axis=0)
    spread = np.sum((counts - steps * q) ** 2) / (steps * q * (1 - q))
    assert min(stats.chi2.sf(spread, n), stats.chi2.cdf(spread, n)) > UNLIKELY
    together = np.sum(drawn[:-1] & drawn[1:])  # a unit's step does not know of its last
    assert stats.binomtest(int(together), (steps - 1) * n, q * q).pvalue > UNLIKELY


# ------------------------------------------------------------------------------------------------------- right code


@pytest.mark.parametrize("seed", SEEDS)
def test_the_right_code_passes(seed: int) -> None:
    # and C is nearly reached, or the batches would not be hostile
    assert 0.99 <= furthest_move(ClosedForm(), seed) <= 1 + 1e-9
    source = System() if seed % 2 else Seeded(seed)
    check_noise(ClosedForm(), source)
    check_sampling(ClosedForm(), source)


# ------------------------------------------------------------------------------------------------------------ twins


class NoNoise(ClosedForm):
    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        return total


class NoiseOverBatch(ClosedForm):
    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        return super().noised(total, deviation / 7.5, source)


class TooLittleNoise(ClosedForm):
    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        return super().noised(total, 0.9 * deviation, source)


class NoiseOnOneHead(ClosedForm):
    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        return Towers(super().noised(total, deviation, source).image, total.text)


class FixedSeed(ClosedForm):
    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        return super().noised(total, deviation, Seeded(0))


class SharedKey(ClosedForm):
    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        key = int(source.uniform(1)[0] * 2**32)
        parts = (part + deviation * Seeded(key).normal(part.shape) for part in total)
        return Towers(*parts)


class UniformNoise(ClosedForm):
    """Of the right variance."""

    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        width = deviation * np.sqrt(12)
        return Towers(*(part + width * (source.uniform(part.size).reshape(part.shape) - 0.5) for part in total))


class NoClip(ClosedForm):
    def shares(self, norms: np.ndarray, clip: float) -> np.ndarray:
        return np.ones_like(norms)


class ClipOfTheMean(ClosedForm):
    """Clips the batch's mean gradient, then multiplies by the batch size."""

    def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
        total = NoClip().clipped_sum(objective, at, pairs, rows, clip)
        n = len(np.unique(pairs.unit[rows]))
        share = n * min(1.0, clip / max(total.norm / max(n, 1), 1e-300))
        return Towers(share * total.image / max(n, 1), share * total.text / max(n, 1))


class PerLayerClip(ClosedForm):
    """Each head clipped to C by itself: together sqrt(2) C."""

    def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
        x, t = pairs.features(rows)
        dz, du = objective.gradients(x @ at.image.T, t @ at.text.T, rows)
        codes = np.unique(pairs.unit[rows], return_inverse=True)[1]
        parts = []
        for d, f in ((dz, x), (du, t)):
            share = self.shares(unit_norms([(d, f)], codes), clip)[codes, None]
            parts.append((share * d).T @ f)
        return Towers(*parts)


def _with_norms(norms: Callable[..., np.ndarray]) -> type[ClosedForm]:
    class Twin(ClosedForm):
        def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
            x, t = pairs.features(rows)
            dz, du = objective.gradients(x @ at.image.T, t @ at.text.T, rows)
            codes = np.unique(pairs.unit[rows], return_inverse=True)[1]
            share = self.shares(norms(dz, x, du, t, codes), clip)[codes, None]
            return Towers((share * dz).T @ x, (share * du).T @ t)

    return Twin


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.sum(rows**2, axis=1)


WithoutBias = _with_norms(lambda dz, x, du, t, codes: unit_norms([(dz, x[:, :-1]), (du, t[:, :-1])], codes))
ImageOnly = _with_norms(lambda dz, x, du, t, codes: unit_norms([(dz, x)], codes))
LargestEntry = _with_norms(
    lambda dz, x, du, t, codes: np.sqrt(
        np.bincount(codes, weights=np.max(np.abs(dz), 1) * np.max(np.abs(x), 1) + np.max(np.abs(du), 1))
    )
)
WithoutCrossTerms = _with_norms(  # a patient's pairs as if they were at right angles
    lambda dz, x, du, t, codes: np.sqrt(
        np.bincount(codes, weights=_squares(dz) * _squares(x) + _squares(du) * _squares(t))
    )
)


class PairClip(ClosedForm):
    """Pairs are clipped, patients are promised."""

    def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
        each = Pairs(pairs.images, pairs.texts, np.arange(len(pairs.unit)), len(pairs.unit), pairs.order)
        return super().clipped_sum(objective, at, each, rows, clip)


class TwoGroups(ClosedForm):
    """Every unit enters twice, each time clipped to C: 2C, and C is claimed."""

    def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
        once = super().clipped_sum(objective, at, pairs, rows, clip)
        return once.plus(once)


class InBatch(ClosedForm):
    """InfoNCE over the batch, each row clipped: every row's gradient knows the others."""

    def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
        return super().clipped_sum(_InfoNce(), at, pairs, rows, clip)


class _InfoNce:
    def gradients(self, z: np.ndarray, u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z_norm, u_norm = (np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in (z, u))
        a, b = z / z_norm, u / u_norm
        scores = a @ b.T / 0.05
        over_reports = np.exp(scores - scores.max(1, keepdims=True))
        over_images = np.exp(scores - scores.max(0, keepdims=True))
        error = over_reports / over_reports.sum(1, keepdims=True) + over_images / over_images.sum(0, keepdims=True)
        error = (error - 2 * np.eye(len(z))) / 0.05
        da, db = error @ b, error.T @ a
        return (da - a * np.sum(a * da, 1, keepdims=True)) / z_norm, (
            db - b * np.sum(b * db, 1, keepdims=True)
        ) / u_norm


class Shuffling(ClosedForm):
    """Every unit once an epoch, in batches of one size."""

    def __init__(self) -> None:
        self.left = np.zeros(0, dtype=int)

    def sample(self, n_units: int, q: float, source: Source) -> np.ndarray:
        size = round(q * n_units)
        if len(self.left) < size:
            self.left = np.argsort(source.uniform(n_units))
        chosen, self.left = self.left[:size], self.left[size:]
        return np.isin(np.arange(n_units), chosen)


class FixedSize(ClosedForm):
    """A new batch of one size at every step: exchanging a unit moves the sum by 2C."""

    def sample(self, n_units: int, q: float, source: Source) -> np.ndarray:
        return np.argsort(np.argsort(source.uniform(n_units))) < round(q * n_units)


class SameBatch(ClosedForm):
    """Sampled once, used for ever."""

    def sample(self, n_units: int, q: float, source: Source) -> np.ndarray:
        return Seeded(3).uniform(n_units) < q


NOISE_TWINS = (NoNoise, NoiseOverBatch, TooLittleNoise, NoiseOnOneHead, FixedSeed, SharedKey, UniformNoise)
SENSITIVITY_TWINS = {
    "no clip": NoClip,
    "clip of the mean": ClipOfTheMean,
    "per-layer clip": PerLayerClip,
    "norm without the bias": WithoutBias,
    "norm of one head": ImageOnly,
    "wrong norm": LargestEntry,
    "norm without cross terms": WithoutCrossTerms,
    "pair clip for patients": PairClip,
    "group sensitivity C instead of 2C": TwoGroups,
    "in-batch InfoNCE": InBatch,
}
SAMPLING_TWINS = (Shuffling, FixedSize, SameBatch)


@pytest.mark.parametrize("twin", NOISE_TWINS, ids=lambda twin: twin.__name__)
def test_wrong_noise_is_caught(twin: type[ClosedForm]) -> None:
    for source in (System(), Seeded(1)):
        with pytest.raises(AssertionError):
            check_noise(twin(), source)


@pytest.mark.parametrize("twin", SENSITIVITY_TWINS.values(), ids=SENSITIVITY_TWINS)
def test_unbounded_sums_are_caught(twin: type[ClosedForm]) -> None:
    for seed in (0, 1, 2):
        assert furthest_move(twin(), seed) > 1.1


@pytest.mark.parametrize("twin", SAMPLING_TWINS, ids=lambda twin: twin.__name__)
def test_wrong_sampling_is_caught(twin: type[ClosedForm]) -> None:
    for source in (System(), Seeded(1)):
        with pytest.raises(AssertionError):
            check_sampling(twin(), source)


# --------------------------------------------------------------------------------------------------------- one-shot


def one_shot_batches(rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    units = np.repeat(np.arange(6), [1, 2, 3, 5, 8, 1])
    n = len(units)
    for mechanism in oneshot.FORMS:
        for scale in (1e-3, 1.0, 1e4):
            same = np.ones((n, 1))
            yield (
                mechanism,
                scale * same * rng.standard_normal((1, 5)),
                scale * same * rng.standard_normal((1, 4)),
                units,
                np.ones((n, 14)),
            )
            labels = rng.choice([0.0, 1.0, -1.0], size=(n, 14))
            labels[:14] = np.where(np.eye(14), 1.0, labels[:14])
            yield mechanism, scale * rng.standard_normal((n, 5)), scale * rng.standard_normal((n, 4)), units, labels


Sums = Callable[[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray, float], dict[str, np.ndarray]]


def furthest_one_shot_move(clipped_sums: Sums, seed: int) -> float:
    worst = 0.0
    for mechanism, images, texts, units, labels in one_shot_batches(np.random.default_rng(seed)):
        x, t = oneshot.unit_rows(images), oneshot.unit_rows(texts)
        codes = oneshot.clipped_codes(labels) if mechanism == oneshot.LABEL else None
        factors, clip = oneshot.blocks(x, t, codes), oneshot.FORMS[mechanism].clip
        whole = clipped_sums(factors, units, clip)
        for left_out in range(6):
            kept = units != left_out
            fewer = {name: (a[kept], b[kept]) for name, (a, b) in factors.items()}
            without = clipped_sums(fewer, np.unique(units[kept], return_inverse=True)[1], clip)
            moved = np.sqrt(sum(np.sum((whole[name] - without[name]) ** 2) for name in whole))
            worst = max(worst, moved / clip)
    return worst


def each_block_by_itself(factors: dict, codes: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    return {name: oneshot.clipped_sums({name: pair}, codes, clip)[name] for name, pair in factors.items()}


def each_pair_by_itself(factors: dict, codes: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    return oneshot.clipped_sums(factors, np.arange(len(codes)), clip)


def not_at_all(factors: dict, codes: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    return oneshot.clipped_sums(factors, codes, 1e30)


@pytest.mark.parametrize("seed", SEEDS)
def test_one_shot_sums_are_bounded(seed: int) -> None:
    assert 0.99 <= furthest_one_shot_move(oneshot.clipped_sums, seed) <= 1 + 1e-9


@pytest.mark.parametrize("twin", [each_block_by_itself, each_pair_by_itself, not_at_all])
def test_unbounded_one_shot_sums_are_caught(twin: Sums) -> None:
    assert furthest_one_shot_move(twin, 0) > 1.1


Noised = Callable[[dict[str, np.ndarray], float, Source], dict[str, np.ndarray]]


def one_shot_residuals(noised: Noised, source: Source) -> tuple[np.ndarray, ...]:
    sums = {name: np.zeros((8, 8)) for name in ("image_label", "text_label", "image_image", "text_text")}
    draws = [noised(sums, 2.0, source) for _ in range(150)]
    return tuple(np.stack([draw[name].ravel() for draw in draws]) for name in sums)


def on_the_labels_alone(sums: dict[str, np.ndarray], deviation: float, source: Source) -> dict[str, np.ndarray]:
    noisy = oneshot.noised(sums, deviation, source)
    return {name: noisy[name] if name.endswith("label") else block for name, block in sums.items()}


def one_draw_for_all(sums: dict[str, np.ndarray], deviation: float, source: Source) -> dict[str, np.ndarray]:
    draw = deviation * source.normal((8, 8))
    return {name: block + draw for name, block in sums.items()}


def test_one_shot_noise() -> None:
    for source in (System(), Seeded(4)):
        check_gaussian(one_shot_residuals(oneshot.noised, source), 2.0)
        for twin in (on_the_labels_alone, one_draw_for_all):
            with pytest.raises(AssertionError):
                check_gaussian(one_shot_residuals(twin, source), 2.0)


@pytest.mark.parametrize("mechanism", oneshot.FORMS)
def test_one_shot_heads_come_from_noise_of_multiplier_times_clip(
    mechanism: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums that heads are made of, not the function that adds noise alone: its deviation is handed to it."""
    names = list(oneshot.blocks(np.zeros((1, 8)), np.zeros((1, 8)), None if mechanism == oneshot.MOMENT else np.eye(8)))
    clean = {name: np.full((8, 8), 5.0) for name in names}
    clip = oneshot.FORMS[mechanism].clip
    prepared = oneshot.Prepared(mechanism, clean, clip, "patient", 100, (), {})
    monkeypatch.setattr(oneshot, "closed_form", lambda prepared, sums, deviation, width: (sums, deviation))
    made = [prepared.heads(0.5, 1e-5, source) for source in (Seeded(4), System()) for _ in range(80)]
    wanted = accounting.gaussian_sigma(0.5, 1e-5) * clip
    assert [deviation for _, deviation in made] == pytest.approx([wanted] * len(made))
    check_gaussian(tuple(np.stack([(sums[name] - 5.0).ravel() for sums, _ in made]) for name in names), wanted)
