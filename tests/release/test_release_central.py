"""Sums over patients: bounded whatever a patient holds, the noise as stated, the probe as good as the noise allows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from linkage_core.errors import InputError, StoreError
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation.noise import Seeded
from linkage_core.release import bounds
from linkage_core.release.kinds import statistics
from linkage_core.utility.auroc import aurocs, placements
from linkage_core.utility.probe import train_probe

FINDINGS = ("Edema", "Fracture", "Pneumonia")
D = 6


def cohort(n: int, seed: int = 0, spread: float = 4.0) -> dict[str, Any]:
    """embeddings of norm 1 with unequal variances around a mean, linear in the states; several images a patient."""
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1, 1 / spread, D)
    states = (rng.random((n, 3)) < [0.4, 0.15, 0.05]).astype(float)
    towards = np.random.default_rng(99).standard_normal((3, D))
    x = (rng.standard_normal((n, D)) + states @ towards) * scales + 2.0
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    states[rng.random((n, 3)) < 0.03] = np.nan
    return {"embeddings": x, "states": states, "patients": rng.integers(0, max(n // 2, 1), n).astype(str)}


def frame(seed: int = 5) -> statistics.Frame:
    return statistics.Frame.of(cohort(800, seed)["embeddings"], "another cohort")


def start() -> statistics.Start:
    return statistics.Start.of(**cohort(800, 6), frame=frame(), made_from="another cohort")


def prepared(data: dict[str, Any], **options: Any) -> statistics.PatientSums:
    return statistics.prepare(**data, findings=FINDINGS, **{"frame": frame(), **options})


def started(data: dict[str, Any], **options: Any) -> statistics.PatientSums:
    return prepared(data, start=start(), **options)


def vector(sums: statistics.PatientSums) -> np.ndarray:
    return np.concatenate([sums.label.ravel(), sums.second.ravel()])


def test_sums_are_those_of_a_loop_over_patients() -> None:
    data, at = cohort(60), frame()
    prevalence = np.array([0.4, 0.2, 0.1])
    found = prepared(data, prevalence=prevalence, clip=1.1, second=0.4)
    total, clipped = np.zeros_like(vector(found)), 0
    for patient in set(data["patients"]):
        own = np.zeros_like(total)
        for i in np.flatnonzero(data["patients"] == patient):
            z = np.append((data["embeddings"][i] - at.centre) @ at.to, statistics.CONSTANT)
            codes = [
                0.0 if math.isnan(y) else (y - p) / math.sqrt(3 * p * (1 - p))
                for y, p in zip(data["states"][i], prevalence, strict=True)
            ]
            own += np.concatenate([np.outer(codes, z).ravel(), 0.4 * np.outer(z, z).ravel()])
        clipped += np.linalg.norm(own) > 1.1
        total += own * min(1.0, 1.1 / np.linalg.norm(own))
    assert 0 < clipped < len(set(data["patients"])) == found.n_patients
    assert vector(found) == pytest.approx(total, rel=1e-7, abs=1e-7)


def test_with_a_start_they_are_the_logistic_gradient_of_each_patient() -> None:
    data, at, begun = cohort(60), frame(), start()
    found = started(data, clip=1.1)
    total, clipped = np.zeros_like(vector(found)), 0
    for patient in set(data["patients"]):
        own = np.zeros_like(total)
        for i in np.flatnonzero(data["patients"] == patient):
            z = np.append((data["embeddings"][i] - at.centre) @ at.to, statistics.CONSTANT)
            codes = np.zeros(3)
            for k, y in enumerate(data["states"][i]):
                p = 1 / (1 + math.exp(-data["embeddings"][i] @ begun.weights[:, k] - begun.intercept[k]))
                if not math.isnan(y):
                    codes[k] = (y - p) / math.sqrt(3 * begun.variance[k])
            own += np.concatenate([np.outer(codes, z).ravel(), statistics.SECOND * np.outer(z, z).ravel()])
        clipped += np.linalg.norm(own) > 1.1
        total += own * min(1.0, 1.1 / np.linalg.norm(own))
    assert 0 < clipped < found.n_patients
    assert vector(found) == pytest.approx(total, rel=1e-7, abs=1e-7)


def test_a_public_start_is_the_logistic_probe_with_the_public_shares_and_curvature() -> None:
    public, at = cohort(800, 6), frame()
    begun, probe = start(), train_probe(public["embeddings"], public["states"], public["patients"])
    p = begun(public["embeddings"])
    assert aligned(begun.weights, probe.weights).min() > 1 - 1e-12
    z = at(public["embeddings"])[:, :-1]
    values, vectors = np.linalg.eigh(np.cov(z.T))
    u = np.column_stack([(z - z.mean(axis=0)) @ (vectors / np.sqrt(values)) @ vectors.T, np.ones(800)])
    for k in range(3):
        known = ~np.isnan(public["states"][:, k])
        y = public["states"][known, k]
        assert p[known, k].mean() == pytest.approx(y.mean(), abs=1e-9)
        assert begun.variance[k] == pytest.approx(((y - p[known, k]) ** 2).mean())
        curvature = sum(q * (1 - q) * np.outer(one, one) for q, one in zip(p[:, k], u, strict=True)) / 800
        assert begun.curvature[k] == pytest.approx(curvature, abs=1e-9)
    public["states"][:, 2] = np.nan
    blank = statistics.Start.of(**public, frame=at, made_from="another cohort")
    assert not blank.weights[:, 2].any()
    assert blank(public["embeddings"])[:, 2] == pytest.approx(statistics.PREVALENCE)


# ------------------------------------------------------------------------------------------------------- sensitivity


def hostile(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    """One patient's images, on the sphere."""
    x = rng.standard_normal((2, D))
    if kind == "many":
        x = np.tile(x[:1], (400, 1))
    elif kind == "outlying":  # along the direction that the frame blows up most
        x = np.tile(frame().to[:, -1], (3, 1))
    elif kind == "opposed":
        x = np.tile(x * [[1.0], [-1.0]], (20, 1))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return {"embeddings": x, "states": np.ones((len(x), 3)), "patients": np.full(len(x), "the one")}


def moved(make: Callable[..., statistics.PatientSums], kind: str, seed: int) -> float:
    """By how much of C one patient moves the sum of 40 others and own."""
    rng = np.random.default_rng(seed)
    others, one = cohort(80, seed), hostile(kind, rng)
    both = {name: np.concatenate([others[name], one[name]]) for name in others}
    with_, without = make(both), make(others)
    return float(np.linalg.norm(vector(with_) - vector(without)) / with_.query.clip)


KINDS = ("many", "outlying", "opposed", "plain")


@pytest.mark.parametrize("make", [prepared, started])
@pytest.mark.parametrize("kind", KINDS)
def test_no_patient_moves_the_sums_by_more_than_the_clip(
    kind: str, make: Callable[..., statistics.PatientSums]
) -> None:
    reach = [moved(make, kind, seed) for seed in range(5)]
    assert max(reach) <= 1
    if kind != "plain":
        assert min(reach) > 0.999  # and the limit is reached


def test_nor_does_one_whose_embeddings_are_off_the_sphere_and_prepare_refuses_them() -> None:
    data = cohort(60)
    data["embeddings"][7] *= 1e6
    with pytest.raises(InputError, match="1 of 60 embeddings are off the unit sphere"):
        prepared(data)
    queries = [statistics.Query.of(FINDINGS, frame(), start=one) for one in (None, start())]
    for norm, query in itertools.product((1.0, 1e3, 1e6, 1e30), queries):
        x = norm * np.random.default_rng(0).standard_normal((5, D))
        sums = oneshot.clipped_sums(query.factors(x, np.ones((5, 3))), np.zeros(5, int), query.clip)
        assert np.linalg.norm(np.concatenate([block.ravel() for block in sums.values()])) <= query.clip


def unclipped(factors: dict[str, Any], codes: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    return {name: a.T @ b for name, (a, b) in factors.items()}


def by_image(factors: dict[str, Any], codes: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    return honest(factors, np.arange(len(codes)), clip)


def by_block(factors: dict[str, Any], codes: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    return {name: honest({name: block}, codes, clip)[name] for name, block in factors.items()}


def mean_clip(factors: dict[str, Any], codes: np.ndarray, clip: float) -> dict[str, np.ndarray]:
    sums = unclipped(factors, codes, clip)
    most = clip * (codes.max() + 1) / math.sqrt(sum(float((block**2).sum()) for block in sums.values()))
    return {name: min(1.0, most) * block for name, block in sums.items()}


honest = oneshot.clipped_sums


@pytest.mark.parametrize("make", [prepared, started])
@pytest.mark.parametrize("broken", [unclipped, by_image, by_block, mean_clip])
def test_a_broken_clip_is_caught(
    broken: Any, make: Callable[..., statistics.PatientSums], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oneshot, "clipped_sums", broken)
    assert max(moved(make, kind, seed) for kind in KINDS for seed in range(3)) > 1.01


def test_a_start_that_is_not_public_is_caught() -> None:
    def own_start(data: dict[str, Any]) -> statistics.PatientSums:
        return prepared(data, start=statistics.Start.of(**data, frame=frame(), made_from="the patients themselves"))

    assert max(moved(own_start, kind, seed) for kind in KINDS for seed in range(3)) > 1.01


# ------------------------------------------------------------------------------------------------------------- noise


def residuals(release: Callable[..., statistics.Statistics], n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Noise of the label block, and of the upper triangle with off-diagonals times sqrt 2, over multiplier times C."""
    sums = prepared(cohort(60))
    corner = np.triu_indices(len(sums.second))
    scale = np.where(corner[0] == corner[1], 1.0, math.sqrt(2))
    label, second = [], []
    for i in range(n):
        made = release(sums, 1.0, 1e-5, Seeded(i))
        deviation = accounting.gaussian_sigma(1.0, 1e-5) * sums.query.clip
        label.append((made.label - sums.label).ravel() / deviation)
        second.append((made.second - sums.second)[corner] * scale / deviation)
        assert np.array_equal(made.second, made.second.T)
    return np.array(label), np.array(second)


def lawful(label: np.ndarray, second: np.ndarray) -> bool:
    """Each block normal with deviation 1, no entry like another, no release like another."""
    for block in (label, second):
        if stats.kstest(block.ravel(), "norm").pvalue < 1e-4:
            return False
        n = block.size
        # sum of squares is chi-square: with a deviation halved, or noise left out, it is far away
        if not 1e-6 < stats.chi2.cdf((block**2).sum(), n) < 1 - 1e-6:
            return False
        if abs(np.corrcoef(block[:-1].ravel(), block[1:].ravel())[0, 1]) * math.sqrt(n) > 5:
            return False
    return abs(np.corrcoef(label.ravel()[:1000], second.ravel()[:1000])[0, 1]) < 0.2


def halved(sums: statistics.PatientSums, epsilon: float, delta: float, source: Any) -> statistics.Statistics:
    honest_noise = oneshot.noised
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oneshot, "noised", lambda s, deviation, src: honest_noise(s, deviation / 2, src))
        return sums.release(epsilon, delta, source)


def one_block(sums: statistics.PatientSums, epsilon: float, delta: float, source: Any) -> statistics.Statistics:
    honest_noise = oneshot.noised
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            oneshot, "noised", lambda s, d, src: {**s, "label": honest_noise({"label": s["label"]}, d, src)["label"]}
        )
        return sums.release(epsilon, delta, source)


def the_same(sums: statistics.PatientSums, epsilon: float, delta: float, source: Any) -> statistics.Statistics:
    return sums.release(epsilon, delta, Seeded(0))


def test_the_noise_is_normal_of_the_stated_size_on_every_entry() -> None:
    assert lawful(*residuals(statistics.PatientSums.release))


@pytest.mark.parametrize("broken", [halved, one_block, the_same])
def test_broken_noise_is_caught(broken: Callable[..., statistics.Statistics]) -> None:
    assert not lawful(*residuals(broken))


def test_noise_is_the_systems_unless_a_seed_is_given_and_then_it_says_so(tmp_path: Path) -> None:
    sums = prepared(cohort(60))
    one, other = sums.release(1.0, 1e-5), sums.release(1.0, 1e-5)
    assert one.private
    assert one.seed is None
    assert not np.array_equal(one.label, other.label)
    seeded, clean = sums.release(1.0, 1e-5, Seeded(3)), sums.release(math.inf, 1e-5)
    assert np.array_equal(seeded.label, sums.release(1.0, 1e-5, Seeded(3)).label)
    for made in (seeded, clean):
        assert not made.private


def test_mu_is_that_of_the_gaussian_mechanism() -> None:
    made = prepared(cohort(60)).release(1.0, 1e-6)
    assert made.run.epsilon == pytest.approx(1.0, rel=1e-9)
    assert made.mu == pytest.approx(1 / accounting.gaussian_sigma(1.0, 1e-6))
    assert 5000 * bounds.central(made.mu, 5000) == pytest.approx(2.4, abs=0.06)  # DESIGN 8, item 8


@pytest.mark.parametrize(("epsilon", "who_knows_the_others"), [(3.0, 0.741), (1.0, 0.594)])
def test_archives_held_unpaired_break_the_limit_of_who_knows_the_others_and_not_their_own(
    epsilon: float, who_knows_the_others: float
) -> None:
    """200 known patients and two more, images e1 and -e1, all findings present and all absent: which belong together?
    The two ways move the sums by nearly four clipped contributions, not one."""
    known = cohort(200)
    two = np.zeros((2, known["embeddings"].shape[1]))
    two[:, 0] = 1.0, -1.0
    sums = []
    for states in (np.array([[1.0] * 3, [0.0] * 3]), np.array([[0.0] * 3, [1.0] * 3])):
        whole = {
            "embeddings": np.concatenate([known["embeddings"], two]),
            "states": np.concatenate([known["states"], states]),
            "patients": np.concatenate([known["patients"].astype(str), ["one", "other"]]),
        }
        plain = statistics.Frame.plain(two.shape[1])
        made = statistics.prepare(**whole, findings=FINDINGS, frame=plain).release(math.inf, 1e-6)
        upper = np.triu(made.second) * np.sqrt(2 - np.eye(len(made.second)))
        sums.append(np.concatenate([made.label.ravel(), upper[np.triu_indices(len(upper))]]) / made.query.clip)
    mu = 1 / accounting.gaussian_sigma(epsilon, 1e-6)
    reached = float(ndtr(mu * np.linalg.norm(sums[0] - sums[1]) / 2))
    assert reached > bounds.central(mu, 2) == pytest.approx(who_knows_the_others, abs=0.005)
    assert reached < bounds.unpaired(mu, 2)


# ------------------------------------------------------------------------------------------------------------- probe


def macro(probe: Any, data: dict[str, Any]) -> float:
    scores = probe(data["embeddings"])
    values = []
    for k in range(3):
        known = ~np.isnan(data["states"][:, k])
        positive = data["states"][known, k] == 1
        values.append(placements(scores[known, k], positive)[positive].mean())
    return float(np.mean(values))


def fisher(data: dict[str, Any]) -> np.ndarray:
    x, y = data["embeddings"], data["states"]
    y = np.where(np.isnan(y), 0.0, y - np.nanmean(y, axis=0))
    return np.linalg.solve(np.cov(x.T), (x - x.mean(axis=0)).T @ y)


def naive(made: statistics.Statistics) -> np.ndarray:
    """The noisy sums taken for true."""
    found = made.moments()
    return made.query.frame.to @ np.linalg.solve(found.covariance, found.cross.T)


def aligned(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray((one * other).sum(axis=0) / np.linalg.norm(one, axis=0) / np.linalg.norm(other, axis=0))


@pytest.mark.parametrize("at", [frame(), None])
def test_without_noise_or_clip_it_is_fishers_discriminant(at: statistics.Frame | None) -> None:
    data = cohort(40_000, 1)
    made = statistics.prepare(**data, findings=FINDINGS, frame=at, clip=1e4).release(math.inf, 1e-6)
    assert aligned(made.probe(ridge=0.0).weights, fisher(data)).min() > 0.999
    found = made.moments()
    assert found.n == pytest.approx(40_000, rel=1e-4)
    assert found.prevalence == pytest.approx(np.nanmean(data["states"], axis=0), abs=0.01)


def test_the_public_covariance_stands_in_for_the_one_in_the_file() -> None:
    data, public = cohort(40_000, 1), cohort(20_000, 2)["embeddings"]
    made = prepared(data, clip=1e4, second=0.0).release(math.inf, 1e-6)
    assert aligned(made.probe(public, ridge=0.0).weights, fisher(data)).min() > 0.99
    with pytest.raises(InputError, match="no second moment"):
        made.probe()


def test_errors_in_variables_beat_the_sums_taken_for_true_and_close_in_on_the_truth() -> None:
    test, truth = cohort(20_000, 7), fisher(cohort(100_000, 8))
    best = macro(lambda x: (x - x.mean(axis=0)) @ truth, test)
    losses = []
    for n in (1_500, 3_000, 200_000):
        sums, ours, theirs = prepared(cohort(n, 3)), [], []
        for seed in range(4):
            made = sums.release(0.5, 1e-6, Seeded(seed))
            ours.append(macro(made.probe(), test))
            theirs.append(macro(naive(made).__rmatmul__, test))
        losses.append((best - np.mean(ours), best - np.mean(theirs)))
    mine, plain = np.array(losses).T
    assert (mine < plain + 0.001).all()
    assert (mine[:2] < plain[:2] - 0.01).all()
    assert mine[0] > mine[1] > mine[2]
    assert mine[2] < 0.002


def test_a_clip_that_most_patients_feel_costs_little_because_both_moments_share_it() -> None:
    data, test = cohort(40_000, 1), cohort(20_000, 7)
    wide, tight = (macro(prepared(data, clip=c).release(math.inf, 1e-6).probe(), test) for c in (1e4, 0.3))
    assert tight > wide - 0.005


def test_a_finding_that_nobody_knows_gives_no_direction() -> None:
    data = cohort(500)
    data["states"][:, 2] = np.nan
    probe = prepared(data).release(math.inf, 1e-6).probe()
    assert probe.trained.tolist() == [True, True, False]


# ------------------------------------------------------------------------------------------------------------- start


def skewed(n: int, seed: int) -> dict[str, Any]:
    """Far from normal, findings by a logistic law of rare positives: there Fisher's direction is not the logistic."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.exponential(1.0, (n, D - 1)) * np.geomspace(1, 0.3, D - 1), np.full(n, 4.0)])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    logits = (x - [0.17, 0.13, 0.10, 0.07, 0.05, 0.95]) @ RIGHT - 3.0
    return {
        "embeddings": x,
        "states": (rng.random((n, 3)) < 1 / (1 + np.exp(-logits))).astype(float),
        "patients": np.arange(n),
    }


RIGHT = 12.0 * np.random.default_rng(3).standard_normal((D, 3))
RIGHT[-1] = 0.0


def off_right(probe: Any, data: dict[str, Any]) -> np.ndarray:
    """1 - the correlation of a probe's scores with the true log-odds, for each finding."""
    x = data["embeddings"]
    return np.array([1 - np.corrcoef(s, t)[0, 1] for s, t in zip(probe(x).T, (x @ RIGHT).T, strict=True)])


def test_without_noise_one_step_comes_nearer_to_the_logistic_fit_than_fisher_or_the_start() -> None:
    data, public, test = skewed(60_000, 1), skewed(2_000, 2), skewed(20_000, 3)
    at = statistics.Frame.of(public["embeddings"], "public")
    begun = statistics.Start.of(**public, frame=at, made_from="public")
    common: dict[str, Any] = {**data, "findings": FINDINGS, "frame": at, "clip": 1e4}
    step = off_right(statistics.prepare(**common, start=begun).release(math.inf, 1e-6).probe(), test)
    plain = off_right(statistics.prepare(**common).release(math.inf, 1e-6).probe(ridge=0.0), test)
    alone = off_right(lambda x: x @ begun.weights, test)
    logistic = off_right(train_probe(data["embeddings"], data["states"], data["patients"]), test)
    assert (step < 0.5 * plain).all(), (step, plain)
    assert step.mean() < 0.5 * alone.mean(), (step, alone)
    assert logistic.max() < step.mean() + 0.01


def test_where_noise_drowns_the_sums_the_start_stays_and_where_it_does_not_they_mend_it() -> None:
    test, sums = cohort(20_000, 7), started(cohort(20_000, 1))
    begun = macro(lambda x: x @ start().weights, test)
    drowned = [macro(sums.release(0.003, 1e-6, Seeded(seed)).probe(), test) for seed in range(4)]
    assert np.mean(drowned) > begun - 0.02
    poor = statistics.Start.of(**cohort(80, 6), frame=frame(), made_from="few")
    mended = prepared(cohort(20_000, 1), start=poor).release(3.0, 1e-6, Seeded(0)).probe()
    assert macro(mended, test) > macro(lambda x: x @ poor.weights, test) + 0.005


def test_a_finding_that_nobody_at_the_site_knows_stays_at_its_public_start() -> None:
    data = cohort(500)
    data["states"][:, 2] = np.nan
    probe = started(data).release(math.inf, 1e-6).probe()
    assert np.array_equal(probe.weights[:, 2], start().weights[:, 2])
    assert not np.allclose(probe.weights[:, 0], start().weights[:, 0], rtol=1e-3)


def test_the_start_travels_in_the_file_and_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    sums = started(cohort(60))
    made = sums.release(1.0, 1e-5)
    made.write(tmp_path / "release")
    sums.write(tmp_path / "sums")
    for query in (
        statistics.Statistics.read(tmp_path / "release").query,
        statistics.PatientSums.read(tmp_path / "sums").query,
    ):
        assert query.start is not None
        assert query.start.made_from == "another cohort"
        assert np.array_equal(query.start.curvature, start().curvature)
    assert np.array_equal(statistics.Statistics.read(tmp_path / "release").probe().weights, made.probe().weights)
    assert made.query.clip == statistics.START_CLIP
    for broken in (replace(start(), intercept=np.zeros(2)), replace(start(), variance=np.full(3, np.nan))):
        replace(made, query=replace(made.query, start=broken)).write(tmp_path / "broken")
        with pytest.raises(InputError, match="does not fit"):
            statistics.Statistics.read(tmp_path / "broken")
    with pytest.raises(InputError, match="The start has 3 findings"):
        statistics.prepare(
            **cohort(60), findings=FINDINGS, frame=frame(), start=replace(start(), curvature=np.ones((3, 2, 2)))
        )


# ------------------------------------------------------------------------------------------------------------- files


def test_files_come_back_as_they_were_and_hold_nothing_else(tmp_path: Path) -> None:
    sums = prepared(cohort(60), about={"cohort": "toy"})
    made = sums.release(1.0, 1e-5)
    sums.write(tmp_path / "sums.safetensors")
    made.write(tmp_path / "release.safetensors")
    again = statistics.Statistics.read(tmp_path / "release.safetensors")
    assert np.array_equal(again.label, made.label)
    assert again.mu == made.mu
    assert again.private
    assert np.array_equal(again.probe().weights, made.probe().weights)
    clean = statistics.PatientSums.read(tmp_path / "sums.safetensors")
    assert np.array_equal(clean.label, sums.label)
    assert clean.about == {"cohort": "toy"}
    with pytest.raises(InputError, match="no release of statistics"):
        statistics.Statistics.read(tmp_path / "sums.safetensors")
    with pytest.raises(InputError, match="no clipped sums"):
        statistics.PatientSums.read(tmp_path / "release.safetensors")
    (tmp_path / "cut").write_bytes((tmp_path / "release.safetensors").read_bytes()[:900])
    with pytest.raises(StoreError):
        statistics.Statistics.read(tmp_path / "cut")


# --------------------------------------------------------------------------------------------------- speed, bad input


def test_the_scores_of_a_release_have_an_auroc_for_every_finding() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1300, 64)) * np.geomspace(1, 0.05, 64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    states = (rng.random((1300, 14)) < 0.2).astype(float)
    names = [f"finding {i}" for i in range(14)]
    sums = statistics.prepare(x, states, np.arange(1300), names, frame=statistics.Frame.of(x[:400], "public"))
    scores = sums.release(1.0, 1e-6).probe()(x)
    found = aurocs(scores[:, :, None], states, np.arange(1300)).auroc[:, 0]
    assert found.shape == (14,)
    expected = [placements(scores[:, k], has)[has].mean() for k, has in enumerate((states == 1).T)]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"embeddings": np.full((60, D), np.nan)}, "hold NaN"),
        ({"embeddings": np.zeros((0, D))}, "shape"),
        ({"states": np.full((60, 3), 2.0)}, "neither 0, 1"),
        ({"states": np.zeros((60, 2))}, "states of shape"),
        ({"patients": np.zeros(59)}, "59 patients"),
        ({"findings": ("Edema", "Edema", "Fracture")}, "once"),
        ({"prevalence": np.array([0.0, 0.1, 0.1])}, "prevalence"),
        ({"clip": 0.0}, "clip is 0"),
        ({"clip": math.inf}, "clip is inf"),
        ({"second": -1.0}, "second is -1"),
        ({"frame": statistics.Frame.plain(D + 1)}, "dimensions"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        statistics.prepare(**{**cohort(60), "findings": FINDINGS, **change})
    with pytest.raises(InputError):
        prepared(cohort(60)).release(0.0, 1e-6)
    with pytest.raises(InputError):
        statistics.Frame.of(np.ones((5, D)), "constant")
