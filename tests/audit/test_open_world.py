"""The open world against every pool listed, against drawn pools, and against what its intervals promise."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from linkage_core.audit import open_world, study
from linkage_core.audit.open_world import Scores
from linkage_core.audit.outcomes import Outcomes
from linkage_core.errors import InputError, StoreError
from linkage_core.ranking import _histogram, intervals, pools
from linkage_core.store.entry import Entry
from linkage_core.store.files import note_of_tensors


def arrays(n_patients: int, seed: int = 0, signal: float = 1.0, d: int = 8, grain: float | None = None) -> dict:
    """One to three reports a patient, one or two images a report; `grain` rounds vectors, so that scores tie."""
    rng = np.random.default_rng(seed)
    candidate_group = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    match = np.repeat(np.arange(len(candidate_group)), rng.integers(1, 3, len(candidate_group)))
    reports = rng.standard_normal((len(candidate_group), d))
    images = signal * reports[match] + rng.standard_normal((len(match), d))
    if grain:
        reports, images = np.round(reports * grain) / grain, np.round(images * grain) / grain
        reports[np.arange(len(reports)) % 5 < 3] = reports[0]
    return {
        "image_embeddings": images,
        "report_embeddings": reports,
        "match": match,
        "query_group": candidate_group[match],
        "candidate_group": candidate_group,
    }


def distractors(data: dict, query: int) -> tuple[float, np.ndarray]:
    """(score of the match, scores of the eligible others), from one product."""
    every = data["image_embeddings"] @ data["report_embeddings"].T
    others = data["candidate_group"] != data["query_group"][query]
    return every[query, data["match"][query]], every[query, others]


def one_pool(match: float | None, others: tuple, rule: str, threshold: float) -> tuple[float, float]:
    """(right, wrong) of one pool, ties at the top in expectation."""
    ranked = sorted((*others, *([] if match is None else [match])), reverse=True)
    value = ranked[0] if rule == "score" else ranked[0] - ranked[1]
    if value < threshold:
        return 0.0, 0.0
    right = 1 / ranked.count(match) if match == ranked[0] else 0.0
    return right, 1 - right


def enumerate_pools(match: float, others: np.ndarray, n: int, rule: str, threshold: float) -> tuple[float, ...]:
    """(DIR, wrong, FPIR) by listing every pool."""
    present = [one_pool(match, pool, rule, threshold) for pool in combinations(others, n - 1)]
    absent = [sum(one_pool(None, pool, rule, threshold)) for pool in combinations(others, n)]
    return (*np.mean(present, axis=0), float(np.mean(absent)))


@pytest.mark.parametrize("grain", [None, 1.0, 2.0])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_score_rule_equals_every_pool_listed(grain: float | None, n: int) -> None:
    data = arrays(5, seed=4, grain=grain, d=3)
    table = open_world.scores(**data)
    for g in range(0, len(table.thresholds), 11):
        rates = np.stack(table.score_rates(n, g), axis=1)
        for query in range(len(data["match"])):
            slow = enumerate_pools(*distractors(data, query), n, "score", table.thresholds[g])
            assert rates[query] == pytest.approx(slow, abs=1e-12)


@pytest.mark.parametrize("grain", [None, 1.0])
@pytest.mark.parametrize("n", [2, 5])
def test_margin_rule_agrees_with_every_pool_listed(grain: float | None, n: int) -> None:
    """20,000 drawn pools a query, within four standard errors of the list, for each patient's sums."""
    data = arrays(6, seed=2, grain=grain, d=3)
    table = open_world.scores(**data)
    r = 20_000
    outcomes = table.outcomes(n, "margin", pools_a_query=r)
    for g in range(0, len(outcomes.thresholds), 40):
        t = outcomes.thresholds[g] - 1e-6  # a threshold is one of the margins, rounded to float32
        for p in range(len(outcomes.images)):
            queries = np.flatnonzero(data["query_group"] == p)
            slow = np.array([enumerate_pools(*distractors(data, q), n, "margin", t) for q in queries])
            error = np.sqrt((slow * (1 - slow)).sum(axis=0) / r)
            assert (np.abs(outcomes.sums[:, p, g] - slow.sum(axis=0)) <= 4 * error + 1e-9).all()


def test_a_thousand_images_agree_with_drawn_pools() -> None:
    """20,000 pools drawn candidate by candidate for some images, both rules, at a middling and a high threshold."""
    data = arrays(120, seed=5, signal=0.7)
    table = open_world.scores(**data)
    rng = np.random.default_rng(0)
    n, draws = 10, 20_000
    for query in (0, 50, 101):
        match, others = distractors(data, query)
        keys = rng.random((draws, len(others))).astype(np.float32)
        drawn = others[np.argpartition(keys, n, axis=1)[:, :n]]
        top_absent = drawn.max(axis=1)
        top_present = drawn[:, : n - 1].max(axis=1)
        for g in (40, 120, len(table.thresholds) - 20):
            t = table.thresholds[g]
            slow = (
                (match >= t) & (match > top_present),
                (top_present >= t) & (match < top_present),
                top_absent >= t,
            )
            for exact, sampled in zip((rates[query] for rates in table.score_rates(n, g)), slow, strict=True):
                assert abs(exact - sampled.mean()) <= 4 * np.sqrt(max(exact * (1 - exact), 1e-4) / draws)


@pytest.mark.parametrize(("n_patients", "grain"), [(40, 1.0), (40, None), (900, None)])
def test_reach_counts_eligible_candidates_at_the_threshold_or_above(n_patients: int, grain: float | None) -> None:
    """Against a plain comparison: vectors shared by many reports, float32, more rows than a block holds."""
    data = arrays(n_patients, grain=grain, d=4)
    data["report_embeddings"] = data["report_embeddings"].astype(np.float32)
    table = open_world.scores(**data)
    every = data["image_embeddings"].astype(np.float32) @ data["report_embeddings"].T
    every[data["query_group"][:, None] == data["candidate_group"]] = -np.inf
    slack = 0.0 if grain else 1e-5  # another product may round the other way; small whole numbers never do
    for g in range(0, len(table.thresholds), 45):
        t = table.thresholds[g]
        low, high = ((every >= t + s).sum(axis=1) for s in (slack, -slack))
        if g == 0:  # minus infinity: everybody eligible
            low = high = table.counts.n_eligible
        assert (low <= table.reach[:, g]).all()
        assert (table.reach[:, g] <= high).all()


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_the_compiled_histogram_equals_numpy_and_plain_comparison(precision: type) -> None:
    rng = np.random.default_rng(1)
    product = np.round(rng.standard_normal((7, 333)) * 20).astype(precision) / 20
    grid = _histogram.Grid.near(np.quantile(product, np.linspace(0, 1, 50)), product.min(), product.max(), precision)
    multiplicity = rng.integers(1, 4, 333).astype(np.int32)
    fast, slow = np.zeros((2, 7, len(grid.thresholds)), dtype=np.int32)
    _histogram.add_tile(product, grid, multiplicity, fast)
    _histogram.add_tile_numpy(product, grid, multiplicity, slow)
    assert (fast == slow).all()
    plain = np.stack([((product >= t) * multiplicity).sum(axis=1) for t in grid.thresholds], axis=1)
    assert (fast[:, ::-1].cumsum(axis=1)[:, ::-1] == plain).all()


@pytest.mark.parametrize(("low", "high"), [(0.9, 0.90001), (-1e-30, 1e-30), (1.0, 1.0), (-3.0, 1e6)])
def test_a_threshold_is_the_smallest_score_of_its_bin(low: float, high: float) -> None:
    grid = _histogram.Grid.near(np.linspace(low, high, 60), low, high, np.float32)
    edges = grid.thresholds[1:]
    assert (grid.bins(edges) == np.arange(1, len(grid.thresholds))).all()
    assert (grid.bins(np.nextafter(edges, np.float32(-np.inf))) == np.arange(len(edges))).all()


@pytest.mark.parametrize("rule", open_world.RULES)
def test_a_scorer_that_ties_everything_gives_one_in_n_and_no_threshold_helps(rule: str) -> None:
    data = arrays(90)
    data["image_embeddings"] = np.ones_like(data["image_embeddings"])
    data["report_embeddings"] = np.ones_like(data["report_embeddings"])
    answer = open_world.scores(**data).outcomes(20, rule).at(0.5)
    assert answer.curve["dir"].tolist() == pytest.approx([1 / 20])
    assert answer.curve["fpir"].tolist() == [1.0]
    always, half = answer.operating.iloc[0], answer.operating.iloc[1]
    assert always["linked_rightly"] == pytest.approx(0.5 / 20)
    assert always["linked_rightly"] == pytest.approx(always["baseline"])
    assert not half["reached"]
    assert np.isnan(half["linked_rightly"])
    assert "the best is 2.5%" in half["note"]


@pytest.mark.parametrize("rule", open_world.RULES)
def test_who_always_answers_and_always_holds_the_match_has_the_closed_worlds_recall(entry: Entry, rule: str) -> None:
    table = open_world.prepare(entry, split="all")
    answer = table.outcomes(10, rule).at(1.0)
    told = table.test_half[table.patient]
    recall = pools.expected_recall(table.counts, 10, 1)[told].mean()
    assert answer.curve["precision"].iloc[0] == pytest.approx(recall)
    assert answer.operating["linked_rightly"].iloc[0] == pytest.approx(recall)
    assert answer.n_test == (told.sum(), table.test_half.sum())


@pytest.mark.parametrize("rule", open_world.RULES)
def test_rates_fall_with_the_threshold_and_add_up(entry: Entry, rule: str) -> None:
    answer = open_world.open_world(entry, 20, 0.4, rule, split="all")
    curve = answer.curve
    assert (np.diff(curve["threshold"]) > 0).all()
    noise = 0.0 if rule == "score" else 4 * answer.monte_carlo_error  # the exact first row against drawn ones
    for name in ("dir", "fpir"):
        assert (np.diff(curve[name]) <= 1e-12 + noise).all()
        assert (curve[f"{name}_low"] <= curve[name] + 1e-6).all()
        assert (curve[name] <= curve[f"{name}_high"] + 1e-6).all()
    links = 0.4 * (curve["dir"] + curve["misidentified"]) + 0.6 * curve["fpir"]
    assert curve["links"].tolist() == pytest.approx(links.tolist())
    reached = answer.operating[answer.operating["reached"]]
    assert (reached[["linked_rightly", "linked_wrongly", "no_answer"]].sum(axis=1) - 1).abs().max() < 1e-9
    share = reached["linked_rightly"] / (reached["linked_rightly"] + reached["linked_wrongly"])
    assert reached["precision"].tolist() == pytest.approx(share.tolist())
    assert reached["baseline"].tolist() == pytest.approx(((1 - reached["no_answer"]) * 0.4 / 20).tolist())


def test_the_halves_share_no_patient_and_depend_on_the_seed() -> None:
    data = arrays(101)
    one, two, other = (open_world.scores(**data, seed=seed) for seed in (1, 1, 2))
    assert (one.test_half == two.test_half).all()
    assert (one.test_half != other.test_half).any()
    assert one.test_half.sum() == 50
    answer = one.outcomes(10).at(0.5)
    assert answer.n_choosing[1] + answer.n_test[1] == 101
    assert answer.n_choosing[0] + answer.n_test[0] == len(data["match"])
    shuffled = np.random.default_rng(0).permutation(len(data["match"]))
    again = open_world.scores(
        **{**data, **{k: data[k][shuffled] for k in ("image_embeddings", "match", "query_group")}}, seed=1
    )
    assert (again.test_half == one.test_half).all(), "a patient's half does not depend on the order of the images"


def test_the_same_seed_gives_the_same_margins() -> None:
    data = arrays(80)
    one, two, other = (open_world.scores(**data, seed=s).outcomes(10, "margin") for s in (1, 1, 2))
    assert (one.sums == two.sums).all()
    assert one.sums.shape != other.sums.shape or (one.sums != other.sums).any()
    assert one.pools_a_query == 1024


def simulated(rng: np.random.Generator, n_patients: int, n_thresholds: int = 30) -> tuple[Outcomes, np.ndarray]:
    """Outcomes of patients whose images are alike, and the true rates (3, n_thresholds) they are drawn from.

    An image is answered up to a threshold of its own, higher where its patient is easy; three in ten are right.
    """
    thresholds = np.linspace(0, 1, n_thresholds)
    sizes = rng.integers(1, 9, n_patients)
    patient = np.repeat(np.arange(n_patients), sizes)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        ease = rng.beta(1.0, 2.0, n_patients)[patient]
        return 0.7 * ease + 0.3 * rng.random(len(patient)), rng.random(len(patient)) < ease

    value, right = draw()
    alone = 0.6 * draw()[0]
    first = np.cumsum(sizes) - sizes
    hits = ((value, right), (value, ~right), (alone, np.ones(len(patient), bool)))
    reached = ((top[:, None] >= thresholds) & hit[:, None] for top, hit in hits)
    sums = np.stack([np.add.reduceat(one, first, axis=0, dtype=float) for one in reached])
    test = np.arange(n_patients) < n_patients // 2
    outcomes = Outcomes("score", 10, thresholds, sums, sizes.astype(float), ~test, test, seed=int(rng.integers(2**31)))
    return outcomes, sums.sum(axis=1) / len(patient)


@lru_cache(maxsize=1)
def true_rates() -> np.ndarray:
    return simulated(np.random.default_rng(1), 60_000)[1]


def coverage(repeats: int, by_image: bool = False) -> tuple[float, float]:
    """How often the intervals of (linked rightly, precision) hold the truth at the threshold chosen elsewhere."""
    truth = true_rates()
    rng = np.random.default_rng(7)
    held = np.zeros(2)
    for _ in range(repeats):
        outcomes = simulated(rng, 300)[0]
        if by_image:  # the broken twin: each image is taken for a patient
            outcomes = single_images(outcomes)
        row = outcomes.at(0.5, [0.5]).operating.iloc[0]
        right, wrong, false = truth[:, np.argmin(np.abs(outcomes.thresholds - row["threshold"]))]
        linked = 0.5 * (right + wrong + false)
        held += (
            row["low"] <= 0.5 * right <= row["high"],
            row["precision_low"] <= 0.5 * right / linked <= row["precision_high"],
        )
    return tuple(held / repeats)


def single_images(outcomes: Outcomes) -> Outcomes:
    """The same totals, each image alone: a patient's sums are spread over units of one image."""
    sizes = outcomes.images.astype(int)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    sums = (place[None, :, None] < outcomes.sums[:, owner]).astype(float)
    return replace(
        outcomes,
        sums=sums,
        images=np.ones(len(owner)),
        choosing=outcomes.choosing[owner],
        testing=outcomes.testing[owner],
    )


def test_95_percent_intervals_cover_95_times_of_100() -> None:
    # 150 repeats: standard error 1.8 points
    for held in coverage(150):
        assert 0.90 <= held <= 0.995


@pytest.mark.soak
def test_95_percent_intervals_cover_95_times_of_100_at_length() -> None:
    for held in coverage(2000):
        assert 0.935 <= held <= 0.965


def test_the_same_check_catches_intervals_that_ignore_patients() -> None:
    assert min(coverage(100, by_image=True)) < 0.87


def optimism(where: str, repeats: int = 150) -> tuple[float, float]:
    """(mean, standard error) of the precision told minus the true one at the chosen threshold, small cohorts."""
    rng = np.random.default_rng(3)
    excess = []
    for _ in range(repeats):
        outcomes = simulated(rng, 80)[0]
        outcomes = replace(outcomes, choosing=getattr(outcomes, where))
        told = outcomes.rates(outcomes.testing)
        g = outcomes.chosen(0.5, 0.7)
        if g is not None and told[:, g].any():
            right, wrong, false = np.stack([told[:, g], true_rates()[:, g]], axis=1)
            precision = right / (right + wrong + false)
            excess.append(precision[0] - precision[1])
    return float(np.mean(excess)), float(np.std(excess) / np.sqrt(len(excess)))


def test_a_threshold_chosen_where_it_is_told_flatters_the_attacker() -> None:
    """The broken twin chooses on the test half, and promises more than it keeps; the honest one does not."""
    honest, error = optimism("choosing")
    assert abs(honest) < 3 * error
    broken, error = optimism("testing")
    assert broken > 5 * error


def test_nobody_linked_gives_an_upper_bound_and_not_nought_to_nought() -> None:
    outcomes = simulated(np.random.default_rng(0), 200)[0]
    outcomes.sums[0, outcomes.testing] = 0.0
    row = outcomes.at(1.0, [0.3]).operating.iloc[0]
    assert (row["linked_rightly"], row["low"]) == (0.0, 0.0)
    images = outcomes.images[outcomes.testing]  # of 100 patients, 80 in effect
    assert row["high"] == pytest.approx(1 - 0.025 ** ((images**2).sum() / images.sum() ** 2))
    assert "Too few to say: 0 patients" in row["note"]
    assert np.isnan(row["precision_high"])


def test_few_patients_and_one_patient_with_most_records_are_flagged() -> None:
    few = open_world.scores(**arrays(40)).outcomes(5).at(0.5)
    assert few.note == "Too few to say: the choosing half has 20 patients, fewer than 30."
    assert (few.operating["note"].str.contains("Too few to say")).all()
    outcomes = simulated(np.random.default_rng(0), 100)[0]
    outcomes.images[outcomes.testing.argmax()] = 10_000
    assert "one patient holds 9" in outcomes.at(0.5).note
    lone = open_world.scores(**arrays(2)).outcomes(1).at(0.5)
    assert np.isnan(lone.operating["low"].iloc[0])


def test_bad_requests_name_value_and_remedy(entry: Entry) -> None:
    table: Scores = open_world.prepare(entry, split="all")
    with pytest.raises(InputError, match=f"largest possible N is {table.largest_pool}"):
        table.outcomes(table.largest_pool + 1)
    for prior in (-0.1, 1.5, float("nan"), True, "0.5"):
        with pytest.raises(InputError, match="prior is"):
            table.outcomes(10).at(prior)
    with pytest.raises(InputError, match="precision says nothing"):
        open_world.open_world(entry, 10, 0)
    with pytest.raises(InputError, match="rule is 'luck'"):
        table.outcomes(10, "luck")
    with pytest.raises(InputError, match="at least 2 for the rule 'margin'"):
        table.outcomes(1, "margin")
    with pytest.raises(InputError, match=r"wanted precision is 80"):
        table.outcomes(10).at(0.5, [80])
    with pytest.raises(InputError, match="pools_a_query is 1"):
        table.outcomes(10, "margin", pools_a_query=1)


def test_images_too_poor_for_an_n_are_left_out_and_counted() -> None:
    data = arrays(70)
    data["query_group"] = np.where(data["query_group"] < 6, 0, data["query_group"])
    data["candidate_group"] = np.where(data["candidate_group"] < 6, 0, data["candidate_group"])
    table = open_world.scores(**data)
    n = table.largest_pool
    answer = table.outcomes(n).at(0.5)
    assert answer.n_excluded == (table.counts.n_eligible < n).sum() > 0
    assert answer.n_choosing[0] + answer.n_test[0] + answer.n_excluded == len(data["match"])


def test_intervals_equal_the_cluster_bootstrap_of_the_images() -> None:
    data = arrays(100, signal=2.0)
    table = open_world.scores(**data)
    row = table.outcomes(20).at(1.0, [0.0]).operating.iloc[0]
    told = table.test_half[table.patient]
    recall = pools.expected_recall(table.counts, 20, 1)
    plain = intervals.cluster_bootstrap(recall[told], table.patient[told])
    assert [row["low"], row["high"]] == pytest.approx([plain.low[0], plain.high[0]], rel=1e-4)


def test_every_own_report_is_set_aside_where_several_share_a_vector() -> None:
    data = arrays(30)
    data["report_embeddings"] = np.ones_like(data["report_embeddings"])
    table = open_world.scores(**data)
    rows = np.arange(len(data["match"]))
    vectors = table.vectors
    single = vectors.without_own(vectors.queries @ vectors.distinct.T, rows)
    assert (np.isfinite(single).sum(axis=1) == table.counts.n_eligible).all()


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("few", [True, False])
def test_the_best_scores_of_a_row_are_those_of_a_full_sort(few: bool, noise: float) -> None:
    """Also where the product rounds otherwise than the one that was counted: by `noise`, far more than any does."""
    data = arrays(80, seed=3)
    table = open_world.scores(**data)
    rows = np.arange(0, len(data["match"]), 3)
    product = table.vectors.queries[rows] @ table.vectors.distinct.T
    single = table.vectors.without_own(product + noise * np.random.default_rng(1).standard_normal(product.shape), rows)
    ordered = -np.sort(-single, axis=1)
    deepest = np.minimum(np.arange(len(rows)) % (5 if few else 120) + 1, table.counts.n_eligible[rows])
    top = table._top(single.copy(), rows, deepest)
    assert top.shape[1] < ordered.shape[1] or not few or noise
    for row, depth in enumerate(deepest):
        assert (top[row, :depth] == ordered[row, :depth]).all()
        assert (top[row, depth:] <= top[row, depth - 1]).all()


def test_answered_is_right_and_wrong_together_with_an_interval_of_its_own() -> None:
    table = open_world.scores(**arrays(100, signal=2.0))
    outcomes = table.outcomes(10)
    told = outcomes.at(0.6)
    rows = told.operating[told.operating["reached"]]
    assert rows["links"].tolist() == pytest.approx((rows["linked_rightly"] + rows["linked_wrongly"]).tolist())
    assert (rows["links_low"] <= rows["links"]).all()
    assert (rows["links"] <= rows["links_high"]).all()
    row = rows[rows["wanted_precision"] == 0.5].iloc[0]
    g = int(np.flatnonzero(outcomes.thresholds == row["threshold"])[0])
    answered = 0.6 * (outcomes.sums[0, :, g] + outcomes.sums[1, :, g]) + 0.4 * outcomes.sums[2, :, g]
    test = outcomes.testing
    per_image = np.repeat(answered[test] / outcomes.images[test], outcomes.images[test].astype(int))
    patient = np.repeat(np.arange(test.sum()), outcomes.images[test].astype(int))
    plain = intervals.cluster_bootstrap(per_image, patient)
    assert [row["links_low"], row["links_high"]] == pytest.approx([plain.low[0], plain.high[0]], rel=1e-4)
    assert row["n_linked"] == (outcomes.sums[0, test, g] > 0).sum()
    rates = outcomes.rates(outcomes.choosing)
    assert row["best"] == pytest.approx(np.nanmax(0.6 * rates[0] / (0.6 * (rates[0] + rates[1]) + 0.4 * rates[2])))


# -- kept on disk ----------------------------------------------------------------------------------------------------


def kept(entry: Entry) -> Path:
    return next((entry.path / "ranks").glob("*.open-world.*.safetensors"))


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After this call nothing may be counted again."""
    return lambda: monkeypatch.setattr(open_world, "_reach", lambda *_: pytest.fail("counted again"))


def test_scores_are_kept_and_give_the_same_answers(entry: Entry, forbid: Callable[[], None]) -> None:
    with pytest.raises(InputError, match="no page waits so long"):
        open_world.prepare(entry, split="all", most=1)
    first = open_world.prepare(entry, split="all")
    forbid()
    assert (open_world.prepare(entry, split="all", most=1).reach == first.reach).all(), "what is kept is shown"
    again = open_world.prepare(entry, split="all")
    for rule in open_world.RULES:
        one, two = (table.outcomes(10, rule) for table in (first, again))
        assert (one.sums == two.sums).all()
        assert (one.testing == two.testing).all()
    assert entry.verify() == []


def test_kept_rows_are_joined_by_record(entry: Entry, forbid: Callable[[], None]) -> None:
    first = open_world.prepare(entry, split="all")
    name = kept(entry).name.removesuffix(".safetensors")
    inputs = note_of_tensors(kept(entry).read_bytes())["inputs"]
    ids, stored = entry.read_arrays(name, inputs)
    turned = {key: values[::-1] if len(values) == len(ids) else values for key, values in stored.items()}
    entry.write_arrays(name, inputs, pd.Series(ids[::-1]), turned)
    forbid()
    again = open_world.prepare(entry, split="all")
    assert (again.reach == first.reach).all()
    assert (again.own_bin == first.own_bin).all()
    entry.write_arrays(name, inputs, pd.Series([f"{each}?" for each in ids]), stored)
    with pytest.raises(StoreError, match="other records"):
        open_world.prepare(entry, split="all")


def test_another_seed_is_counted_anew(entry: Entry) -> None:
    one, other = (open_world.prepare(entry, split="all", seed=seed) for seed in (0, 1))
    assert (one.test_half != other.test_half).any()
    assert not np.array_equal(one.thresholds, other.thresholds)
    assert (open_world.prepare(entry, split="all", seed=1).reach == other.reach).all()


def test_what_was_kept_and_damaged_is_named(entry: Entry) -> None:
    open_world.prepare(entry, split="all")
    content = bytearray(kept(entry).read_bytes())
    content[-1] ^= 1
    kept(entry).write_bytes(content)
    with pytest.raises(StoreError, match=r"open-world\.all\.safetensors was altered"):
        open_world.prepare(entry, split="all")
    assert [finding for finding in entry.verify() if "open-world" in finding]


def test_a_store_that_cannot_be_written_still_answers(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    study.study(entry, split="all")  # the counts are there
    monkeypatch.setattr("linkage_core.store.files._replace", full)
    assert open_world.prepare(entry, split="all").largest_pool > 10
    assert not list((entry.path / "ranks").glob("*.open-world.*"))
