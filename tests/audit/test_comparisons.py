"""Paired tests against enumeration, a second library and what they promise: few false alarms."""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binomtest

from helpers.scripts import script
from helpers.toy import toy_entry
from linkage_core.audit import compare, study
from linkage_core.errors import InputError
from linkage_core.ranking import intervals, paired, pools
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import Store


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    """The script that writes benchmarks/interval_coverage.json."""
    return script("interval_coverage")


@pytest.mark.parametrize("seed", range(4))
def test_permutation_equals_all_sign_flips(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patient = rng.permutation(np.repeat(np.arange(9), rng.integers(1, 5, 9)))
    a = rng.integers(0, 2, len(patient)).astype(float)  # hits: many flips tie with what was observed
    b = rng.integers(0, 2, len(patient)).astype(float)
    sums = np.array([(a - b)[patient == p].sum() for p in range(9)])
    flips = [abs((np.array(signs) * sums).sum()) >= abs(sums.sum()) - 1e-9 for signs in product((-1, 1), repeat=9)]
    exact = np.mean(flips)
    p = paired.permutation_test(a, b, patient, draws=20_000, seed=seed)
    assert abs(p - exact) <= 4 * np.sqrt(max(exact * (1 - exact), 1e-4) / 20_000) + 1 / 20_000


def test_permutation_leaves_out_what_is_missing_and_is_never_zero() -> None:
    patient = np.repeat(np.arange(40), 2)
    a, b = np.ones(80), np.zeros(80)
    assert paired.permutation_test(a, b, patient) == 1 / 10_001
    assert paired.permutation_test(a, a, patient) == 1.0
    missing = np.where(np.arange(80) < 60, np.nan, 1.0)
    assert paired.permutation_test(missing, b, patient, seed=3) == paired.permutation_test(
        missing[60:], b[60:], patient[60:], seed=3
    )
    assert np.isnan(paired.permutation_test(a * np.nan, b, patient))


def test_thirds_that_are_equal_stay_equal() -> None:
    """0.1 + 0.2 - 0.3 is not zero: rounding must not turn a tie with the observed difference into a smaller one."""
    a = np.array([0.1, 0.2, 0.3, 0.3])
    b = np.zeros(4)
    exact = 2 / 16  # only all signs alike reach the observed sum
    p = paired.permutation_test(a, b, np.arange(4), draws=20_000)
    assert p == pytest.approx(exact, abs=0.012)


def test_mcnemar_equals_the_binomial_test() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 2, (2, int(rng.integers(1, 60)))).astype(float)
        only_a, only_b = ((a == 1) & (b == 0)).sum(), ((a == 0) & (b == 1)).sum()
        p = binomtest(int(only_a), int(only_a + only_b)).pvalue if only_a + only_b else 1.0
        assert paired.mcnemar_exact(a, b) == pytest.approx(p)
    by_hand = paired.mcnemar_exact(np.array([1.0, 1, 1, 0, np.nan]), np.array([0.0, 0, 0, 0, 1]))
    assert by_hand == pytest.approx(2 * 0.5**3)
    with pytest.raises(InputError, match=r"hits hold 0.25.*first_of_all"):
        paired.mcnemar_exact(np.array([0.25]), np.array([1.0]))


def test_first_of_all_is_rank_one_without_a_tie() -> None:
    counts = MatchCounts(np.array([0, 0, 1, 0]), np.array([0, 1, 0, 0]), np.array([3, 3, 3, 0]))
    assert paired.first_of_all(counts)[:3].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(paired.first_of_all(counts)[3])


def test_holm_by_hand() -> None:
    # 0.005*4, 0.01*3, 0.03*2, 0.04*1 -> 0.02, 0.03, 0.06, and 0.04 is raised to its predecessor's 0.06
    adjusted = paired.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert adjusted[[0, 1, 3, 4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(adjusted[2])
    assert paired.holm(np.array([0.6, 0.9])).tolist() == [1.0, 1.0]
    assert len(paired.holm(np.array([]))) == 0
    with pytest.raises(InputError, match="between 0 and 1"):
        paired.holm(np.array([1.2]))


def test_compare_lists_every_pair_and_finds_the_stronger(store: Store, tmp_path: Path) -> None:
    signals = {"weak": 0.2, "middle": 0.5, "strong": 1.5}
    studies = [
        study.study(toy_entry(store, tmp_path / name, model=name, signal=signal)) for name, signal in signals.items()
    ]
    table = compare.compare(studies, 50, 1)
    assert list(table.columns) == list(compare.COLUMNS)
    assert list(zip(table["model_a"], table["model_b"], strict=True)) == [
        ("weak", "middle"),
        ("weak", "strong"),
        ("middle", "strong"),
    ]
    assert table["difference"].to_numpy() == pytest.approx((table["recall_b"] - table["recall_a"]).to_numpy())
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()
    assert table["chance"].tolist() == pytest.approx([0.02] * 3)
    assert (table["p_holm"] >= table["p"]).all()
    far = table.iloc[1]
    assert far["low"] > 0
    assert far["p_holm"] < 0.01
    assert far["p_mcnemar"] < 0.01
    itself = compare.compare([studies[0], studies[0]], "full", 1).iloc[0]
    assert (itself["difference"], itself["p"], itself["p_mcnemar"]) == (0, 1, 1)


def test_studies_that_cannot_be_compared(store: Store, tmp_path: Path) -> None:
    one = study.study(toy_entry(store, tmp_path / "a", model="a"))
    fewer = study.study(toy_entry(store, tmp_path / "b", model="b", n_patients=50))
    with pytest.raises(InputError, match="1 study cannot be compared"):
        compare.compare([one], 10, 1)
    with pytest.raises(InputError, match="has pool 'other-patients', another 'all'"):
        compare.compare([one, study.study(one.entry, pool="all")], 10, 1)
    with pytest.raises(InputError, match="a and b were not given the same images"):
        compare.compare([one, fewer], 10, 1)
    richer = one.counts._replace(n_eligible=one.counts.n_eligible + 1)
    with pytest.raises(InputError, match="were not given the same images and reports"):
        compare.compare([one, replace(one, counts=richer)], 10, 1)
    with pytest.raises(InputError, match=r"cluster \(2,\)"):
        paired.permutation_test(np.zeros(3), np.zeros(3), np.zeros(2))
    with pytest.raises(InputError, match="draws is 5"):
        paired.permutation_test(np.zeros(3), np.zeros(3), np.zeros(3), draws=5)


def test_pools_are_compared_on_the_images_that_fill_both(store: Store, tmp_path: Path) -> None:
    entry = toy_entry(store, tmp_path / "input")
    plain, alike = study.study(entry), study.study(entry, pool="same-findings", strata=("age",))
    widest = alike.largest_pool
    table = compare.of_pools([plain, alike], [2, 3, widest, widest + 1], 1)
    assert list(table.columns) == list(compare.POOL_COLUMNS)
    assert table["pool_size"].tolist() == [2, 2, 3, 3, widest, widest], "what nobody fills is no row"
    for n, rows in table.groupby("pool_size"):
        fills = alike.counts.n_eligible + 1 >= n
        assert fills.sum() < len(fills) or n < widest
        for one, row in zip((plain, alike), rows.to_dict("records"), strict=True):
            recall = pools.expected_recall(MatchCounts(*(column[fills] for column in one.counts)), int(n), 1)
            assert row["recall"] == pytest.approx(recall.mean())
            assert row["recall_low"] <= row["recall"] <= row["recall_high"]
            assert (row["n_queries"], row["n_excluded"]) == (fills.sum(), (~fills).sum())
            assert row["n_patients"] == plain.queries["patient_id"][fills].nunique()
            assert (row["pool"], row["chance"]) == (one.pool, 1 / n)
    assert compare.of_pools([plain, alike], [2], 5).empty
    other = study.study(toy_entry(store, tmp_path / "b", model="b"))
    with pytest.raises(InputError, match="one model under several pools"):
        compare.of_pools([plain, other], [2], 1)


def test_studies_of_other_images_are_not_comparable(store: Store, tmp_path: Path) -> None:
    one, two = (study.study(toy_entry(store, tmp_path / name, model=name)) for name in "ab")
    fewer = study.study(toy_entry(store, tmp_path / "c", model="c", n_patients=50))
    assert compare.comparable(one, two)
    assert not compare.comparable(one, fewer)


def test_few_patients_are_flagged(store: Store, tmp_path: Path) -> None:
    studies = [study.study(toy_entry(store, tmp_path / m, model=m, n_patients=12)) for m in ("a", "b")]
    assert compare.compare(studies, 5, 1)["flag"].tolist() == ["too few to say"]


def test_intervals_cover_and_their_unclustered_twins_do_not(simulation: ModuleType) -> None:
    # 200 repeats: standard error 1.5 points, so 95% +- 3 of them; a twin that covered 90% would stand 2.4 below
    covered = simulation.coverage(200, 120, clustered=True, draws=1000)
    assert covered.pop("flagged") == 0
    assert all(0.905 <= share <= 0.995 for share in covered.values()), covered
    naive = simulation.coverage(200, 120, clustered=False, draws=1000)
    naive.pop("flagged")
    assert all(share < 0.88 for share in naive.values()), naive


def of_few(simulation: ModuleType) -> float:
    """Coverage of relative_change where 12 of 300 patients differ: by 2% in truth."""
    rng = np.random.default_rng(6)
    held = 0
    for _ in range(300):
        found = compare.relative_change(*simulation.before_and_after(rng, 300, simulation.even, 0.04))
        held += found["low"] <= -2 <= found["high"]
    return held / 300


def test_the_relative_change_holds_where_few_patients_differ(
    simulation: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 300 repeats: standard error 1.3 points
    assert of_few(simulation) >= 0.93
    monkeypatch.setattr(intervals, "stretch", lambda m, level: np.ones_like(m))  # the broken twin
    assert of_few(simulation) < 0.92


@pytest.mark.parametrize(
    ("row", "figure"),
    [
        ("finding of 60 of 300 patients", "AUROC"),
        ("missing match, 300 patients tested, few hold most images", "precision"),
        ("attackers unlike each other and level", "worst of 8, N = 100"),
    ],
)
def test_figures_hold_and_their_twins_that_are_not_stretched_do_not(
    simulation: ModuleType, row: str, figure: str
) -> None:
    # 200 repeats: standard error 1.5 points
    held, twin = (simulation.figure_coverage(simulation.FIGURES[row], 200, stretched=one) for one in (True, False))
    assert held[figure] >= 0.93
    assert twin[figure] < 0.925


def test_the_permutation_of_patients_cries_wolf_once_in_twenty(simulation: ModuleType) -> None:
    # 400 repeats: standard error 1.1 points
    rejected = simulation.false_alarms(400, 100, draws=1000)
    assert 0.02 <= rejected["permutation of patients"] <= 0.085
    assert rejected["permutation of images"] > 0.12
    assert rejected["McNemar"] > 0.12


def test_no_interval_of_the_file_is_short(simulation: ModuleType) -> None:
    """And none is longer than need be by more than 2 points of coverage, but where many repeats are flagged."""
    found = json.loads(Path(simulation.__file__).with_suffix(".json").read_text(encoding="utf-8"))
    low, high = simulation.NOMINAL
    for rows in (found["coverage"], found["figures"]["coverage"]):
        for name, row in rows.items():
            shares = [one["clustered"] for figure, one in row.items() if figure != "flagged"]
            assert min(shares) >= low, name
            assert max(shares) <= high + 0.02 or row["flagged"] > 0.3, name


@pytest.mark.soak
def test_nominal_95_is_between_93_5_and_96_5(simulation: ModuleType) -> None:
    covered = simulation.coverage(4000, 300, clustered=True)
    assert covered.pop("flagged") == 0
    low, high = simulation.NOMINAL
    assert all(low <= share <= high for share in covered.values()), covered


def test_relative_change_is_the_ratio_of_means_of_the_same_drawn_patients() -> None:
    rng = np.random.default_rng(3)
    patient = rng.permutation(np.repeat(np.arange(50), rng.integers(1, 5, 50)))
    before = rng.random(len(patient))
    after = np.where(rng.random(len(patient)) < 0.1, np.nan, before * rng.random(len(patient)))
    found = compare.relative_change(before, after, patient, seed=4)
    used = ~np.isnan(after)
    slow = []
    for weights in intervals.patient_weights(50, intervals.DRAWS, 4):  # each patient copied as often as drawn
        rows = np.concatenate([np.flatnonzero(used & (patient == p)).repeat(int(n)) for p, n in enumerate(weights)])
        slow.append(100 * (after[rows].mean() / before[rows].mean() - 1))
    assert found["change"] == pytest.approx(100 * (after[used].mean() / before[used].mean() - 1))
    differs = np.array([(after - before)[used & (patient == p)].sum() for p in range(50)])
    of_patient = np.array([(used & (patient == p)).sum() for p in range(50)], dtype=float)
    m = intervals.behind(differs[:, None], of_patient[:, None])
    ends = intervals.stretched(found["change"], *np.quantile(slow, [0.025, 0.975]), m[0])
    assert [found["low"], found["high"]] == pytest.approx([float(end) for end in ends], rel=1e-6)
    assert (found["n_queries"], found["n_patients"], found["flag"]) == (used.sum(), len(set(patient[used])), "")
    few = compare.relative_change(before[:20], after[:20], patient[:20])
    assert few["flag"] == "too few to say"
    nothing = compare.relative_change(0 * before, after, patient)
    assert np.isnan([nothing[name] for name in ("change", "low", "high")]).all()
    halved = compare.relative_change(before, before / 2, patient)  # drawn apart, the two means would differ by more
    assert [halved[name] for name in ("low", "change", "high")] == pytest.approx([-50] * 3)
