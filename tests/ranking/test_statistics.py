"""Intervals are tested by what they promise: how often they cover the truth."""

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from linkage_core.errors import InputError
from linkage_core.ranking import intervals
from linkage_core.ranking.counts import MatchCounts
from linkage_core.ranking.intervals import behind, cluster_bootstrap, flag, flag_of, of_the_best, rate_intervals, unseen
from linkage_core.ranking.pools import expected_recall


def clustered_sample(rng: np.random.Generator, n_patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates that patients share: true mean 0.2, one to eight images a patient, strongly alike within one."""
    rate = rng.beta(0.5, 2.0, n_patients)
    sizes = rng.integers(1, 9, n_patients)
    patient = np.repeat(np.arange(n_patients), sizes)
    return (rng.random(len(patient)) < rate[patient]).astype(float), patient


def coverage(unit_of, repeats: int = 400, n_patients: int = 150) -> float:
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(repeats):
        values, patient = clustered_sample(rng, n_patients)
        interval = cluster_bootstrap(values, unit_of(patient), seed=int(rng.integers(2**31)), draws=1000)
        covered += interval.low[0] <= 0.2 <= interval.high[0]
    return covered / repeats


def test_95_percent_intervals_cover_95_times_of_100() -> None:
    # 400 repeats: standard error 1.1 points; the percentile interval is known to be slightly short
    assert 0.915 <= coverage(lambda patient: patient) <= 0.985


def test_the_same_check_catches_an_interval_that_ignores_patients() -> None:
    """The broken twin: images drawn one by one are taken for independent."""
    assert coverage(lambda patient: np.arange(len(patient))) < 0.85


def test_equals_resampling_the_table_row_by_row() -> None:
    rng = np.random.default_rng(3)
    values, patient = clustered_sample(rng, 30)
    fast = cluster_bootstrap(values, patient, seed=7, draws=1000)
    slow_rng = np.random.default_rng(7)
    means = []
    for _ in range(1000):
        drawn = slow_rng.integers(0, 30, 30)
        means.append(np.concatenate([values[patient == p] for p in drawn]).mean())
    assert fast.estimate[0] == pytest.approx(values.mean())
    sums, sizes = (np.array([one(values[patient == p]) for p in range(30)], dtype=float) for one in (np.sum, len))
    carry, hold = (one.sum() ** 2 / (one**2).sum() for one in (sums, sizes))
    m = (sizes**2).sum() ** 2 / (sizes**4).sum() * min(1, carry / hold)
    assert fast.behind[0] == pytest.approx(m)
    further = student.ppf(0.975, m) / 1.959963985
    ends = [values.mean() + further * (end - values.mean()) for end in np.quantile(means, [0.025, 0.975])]
    assert [fast.low[0], fast.high[0]] == pytest.approx(ends, rel=1e-5)


def few_hold_most(rng: np.random.Generator, n_patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of true means 0.2 and 0.1 (a paired difference); Pareto(1.1) images a patient, at most 60."""
    sizes = np.minimum(60, (1 - rng.random(n_patients)) ** (-1 / 1.1)).astype(int)
    patient = np.repeat(np.arange(n_patients), sizes)
    hits = rng.random(len(patient)) < rng.beta(0.5, 2.0, n_patients)[patient]
    return np.column_stack([hits, rng.normal(0.1, 0.3, n_patients)[patient]]), patient


def few_hold_most_coverage(repeats: int = 400, n_patients: int = 150) -> np.ndarray:
    rng = np.random.default_rng(17)
    held = np.zeros(2)
    for _ in range(repeats):
        values, patient = few_hold_most(rng, n_patients)
        found = cluster_bootstrap(values, patient, draws=1000)
        held += (found.low <= [0.2, 0.1]) & (found.high >= [0.2, 0.1])
    return held / repeats


def test_intervals_hold_the_truth_where_a_few_patients_hold_most_images() -> None:
    # 400 repeats: standard error 1.1 points; the twin holds it in 90 of 100
    assert (few_hold_most_coverage() >= 0.94).all()


def test_the_same_check_catches_percentiles_that_are_not_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "stretch", lambda m, level: np.ones_like(m))
    assert (few_hold_most_coverage() < 0.92).all()


def test_patients_in_effect() -> None:
    ones = np.ones((50, 1))
    assert behind(ones, ones) == pytest.approx([50])
    assert behind(-2 * ones, 4 * ones) == pytest.approx([50])  # sizes and signs alike for all
    assert behind(np.eye(50)[:, :5].sum(axis=1, keepdims=True), ones) == pytest.approx([5])  # five of them carry it
    sizes = np.array([[10.0], *[[1.0]] * 40])
    assert behind(sizes, sizes) == pytest.approx([(100 + 40) ** 2 / (10_000 + 40)])
    assert behind(0 * ones, ones) == behind(0 * ones, 0 * ones) == 0
    assert intervals.stretch(1e9) == pytest.approx(1)
    assert intervals.stretch(0.3) == intervals.stretch(1.0) == pytest.approx(student.ppf(0.975, 1) / 1.959963985)
    assert flag(200, 9.9) == "too few to say: 10 patients in effect"
    assert flag(200, 10.0) == flag(30) == ""


def level_attackers(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Eight columns of true mean 0.5, unlike each other, and patients."""
    patient = np.repeat(np.arange(60), rng.integers(1, 4, 60))
    return np.clip(0.5 + 0.3 * rng.normal(size=(60, 8))[patient], -0.5, 1.5), patient


def best_coverage(repeats: int = 300) -> float:
    rng = np.random.default_rng(19)
    held = 0
    for _ in range(repeats):
        values, patient = level_attackers(rng)
        found = of_the_best(values, values, patient, draws=1000)[1]
        held += found.low[0] <= 0.5 <= found.high[0]
    return held / repeats


def test_the_interval_of_the_best_of_eight_holds_its_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    assert best_coverage() >= 0.925
    monkeypatch.setattr(intervals, "CHOICE", 0.0)  # the broken twin: as if it had not been chosen
    assert best_coverage() < 0.9


def test_what_the_choice_adds_is_that_of_resampling() -> None:
    rng = np.random.default_rng(2)
    values, patient = level_attackers(rng)
    values = np.clip(values, 0, 1)
    best, found = of_the_best(values, values, patient, seed=7, draws=1000)
    plain = rate_intervals(values[:, best], patient, seed=7, draws=1000)
    adds = []
    for weights in intervals.patient_weights(60, 1000, 7):
        rows = np.concatenate([np.flatnonzero(patient == p).repeat(int(n)) for p, n in enumerate(weights)])
        drawn = values[rows].mean(axis=0)
        adds.append(drawn.max() - values[:, drawn.argmax()].mean())
    assert found.low[0] == pytest.approx(plain.low[0] - np.mean(adds) / 2)
    assert (found.high, found.estimate) == (plain.high, plain.estimate)


def test_where_one_is_clearly_better_its_interval_is_its_own() -> None:
    values, patient = level_attackers(np.random.default_rng(2))
    values = np.clip(values, 0, 1) * np.array([0.6, *[0.2] * 7])
    best, found = of_the_best(values, values, patient)
    plain = rate_intervals(values[:, 0], patient)
    assert (best, found.low, found.high) == (0, plain.low, plain.high)
    assert of_the_best(values[:, :1], values[:, :1], patient)[1].low == plain.low
    nobody = of_the_best(0 * values, 0 * values, patient)
    assert (nobody[0], nobody[1].low[0]) == (0, 0)
    assert nobody[1].high[0] > 0.06


def test_rows_left_out_do_not_count() -> None:
    values = np.array([[1.0, np.nan], [0.0, np.nan], [1.0, 1.0], [0.0, 0.0]])
    interval = cluster_bootstrap(values, np.array([0, 0, 1, 2]))
    assert interval.n.tolist() == [4, 2]
    assert interval.estimate.tolist() == [0.5, 0.5]


def test_one_patient_gives_no_interval() -> None:
    interval = cluster_bootstrap(np.array([1.0, 0.0]), np.array([4, 4]))
    assert interval.estimate[0] == 0.5
    assert np.isnan([interval.low[0], interval.high[0]]).all()
    empty = cluster_bootstrap(np.empty((0, 2)), np.empty(0))
    assert np.isnan(empty.estimate).all()


def test_a_seed_repeats_itself_and_is_written_down() -> None:
    rng = np.random.default_rng(0)
    values, patient = clustered_sample(rng, 50)
    one, two, other = (cluster_bootstrap(values, patient, seed=s) for s in (1, 1, 2))
    assert (one.low, one.high) == (two.low, two.high)
    assert one.low != other.low
    assert (one.seed, one.draws) == (1, 2000)


def test_what_was_never_seen_is_not_ruled_out() -> None:
    assert unseen(82) == pytest.approx(binomtest(0, 82).proportion_ci(0.95).high)
    assert unseen(0) == pytest.approx(0.975)


def test_intervals_hold_the_truth_where_a_handful_carry_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pools of 100 of 132 reports, 82 patients: hits are near 0 but for a few. Resampling alone would be too short."""
    rng = np.random.default_rng(3)
    held = alone = 0
    truth = np.mean([p for _ in range(300) for p in rare(rng)[0]])
    for _ in range(200):
        values, patient = rare(rng)
        for_rates = rate_intervals(values, patient, draws=1000)
        with monkeypatch.context() as patch:
            patch.setattr(intervals, "stretch", lambda m, level: np.ones_like(m))
            resampled = cluster_bootstrap(values, patient, draws=1000)
        held += for_rates.low[0] <= truth <= for_rates.high[0]
        alone += resampled.low[0] <= truth <= resampled.high[0]
    assert held >= 188
    assert alone < 180


def rare(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Recall@1 among 100 of 131 others, and patients; a patient's images are as hard as each other."""
    patient = np.repeat(np.arange(82), rng.integers(1, 4, 82))
    better = rng.binomial(131, rng.beta(1, 2, 82)[patient])
    return expected_recall(MatchCounts(better, 0 * better, np.full(len(better), 131)), 100, 1), patient


def test_rate_intervals_are_those_of_the_bootstrap_where_many_carry_them_and_exact_at_the_ends() -> None:
    rng = np.random.default_rng(0)
    values, patient = clustered_sample(rng, 50)
    one, two = rate_intervals(values, patient), cluster_bootstrap(values, patient)
    assert (one.low, one.high, one.estimate) == (two.low, two.high, two.estimate)
    ends = rate_intervals(np.column_stack([np.zeros(82), np.ones(82), np.eye(82)[0]]), np.arange(82))
    for column, hits in enumerate((0, 82, 1)):
        exact = binomtest(hits, 82).proportion_ci(0.95)
        assert ends.high[column] == pytest.approx(exact.high)
        assert ends.low[column] == pytest.approx(exact.low if column < 2 else 0)  # a draw may lack the one hit
    assert (ends.low[0], ends.high[0]) == pytest.approx((0, unseen(82)))
    nobody = rate_intervals(np.full((3, 1), np.nan), np.arange(3))
    assert np.isnan([nobody.low[0], nobody.high[0]]).all()


def test_a_figure_of_few_patients_or_of_one_is_flagged() -> None:
    assert flag_of(np.arange(29)) == flag_of(np.empty(0)) == "too few to say"
    assert flag_of(np.arange(30)) == ""
    assert flag_of(np.repeat(np.arange(31), [31, *[1] * 30])) == "too few to say: one patient holds 51%"
    assert flag_of(np.repeat(np.arange(31), [30, *[1] * 30])) == "too few to say: 1 patients in effect"
    assert flag_of(np.repeat(np.arange(61), [3, *[1] * 60])) == ""


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"cluster \(2,\)"):
        cluster_bootstrap(np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="draws is 10"):
        cluster_bootstrap(np.zeros(3), np.zeros(3), draws=10)
    with pytest.raises(InputError, match="level is 95"):
        cluster_bootstrap(np.zeros(3), np.zeros(3), level=95)
