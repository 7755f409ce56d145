"""The omniscient ceiling beside integrals at small N, below every certified limit and above every attacker."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.attacked import simulated
from helpers.toy import read_back
from linkage_core.attacks.attack import run
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, match_counts
from linkage_core.release import bounds, ceiling
from linkage_core.release.ceiling import Cells, Gaussian, omniscient_counts, recall_under_caps
from linkage_core.release.kinds.capped import Cap
from linkage_core.store import seen
from linkage_core.store.entry import Entry, Store

CASES = [(5, 1), (40, 1), (40, 5), (200, 1)]


def around(angles: np.ndarray) -> np.ndarray:
    return np.column_stack([np.cos(angles), np.sin(angles)])


def means(drawn: list[np.ndarray]) -> tuple[float, float]:
    """(mean, its standard error) of rounds."""
    each = [one.mean() for one in drawn]
    return float(np.mean(each)), float(np.std(each, ddof=1) / np.sqrt(len(each)))


def by_counts(cap: Cap, points: np.ndarray, n: int, k: int, rounds: int, seed: int = 0) -> tuple[float, float]:
    ids, rng = np.arange(len(points)), np.random.default_rng(seed)
    return means([pools.expected_recall(omniscient_counts(cap, points, ids, ids, rng), n, k) for _ in range(rounds)])


def by_weights(cap: Cap, points: np.ndarray, n: int, k: int, rounds: int, seed: int = 0) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    return means([recall_under_caps(cap, points, [(n, k)], rng)[:, 0] for _ in range(rounds)])


# ---------------------------------------------------------------------------------------------------- by brute force


@pytest.mark.parametrize("estimate", [by_counts, by_weights])
@pytest.mark.parametrize(("k", "p"), [(1, 1.0), (1, 0.7), (2, 0.7)])
def test_caps_on_the_circle_equal_the_integral(estimate, k: int, p: float) -> None:
    """All pools of three among twelve directions, some identical: (1/N) integral of the k largest densities."""
    cap = Cap(2, 4.0, p)
    angles = np.append(np.random.default_rng(1).uniform(0, 2 * np.pi, 10), [0.3, 0.3])
    points = around(angles).astype(np.float32)
    grid = around(np.arange(20_000) / 20_000 * 2 * np.pi)
    density = np.exp(cap.log_density(grid @ around(angles).T))
    largest = [np.sort(density[:, pool], axis=1)[:, -k:].sum(axis=1).mean() for pool in combinations(range(12), 3)]
    found, error = estimate(cap, points, 3, k, 700)
    assert found == pytest.approx(np.mean(largest) / 3, abs=4 * error)
    assert error < 0.01


def test_counts_under_caps_equal_a_loop() -> None:
    """Two images a study for some, several studies a patient: each release beside each candidate, one at a time."""
    rng = np.random.default_rng(2)
    study = np.array([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8])
    patient = study // 2
    clean = unit(rng.standard_normal((12, 3)))
    for p in (1.0, 0.6):
        cap = Cap(3, 3.0, p)
        drawn: list[np.ndarray] = []

        class Watched(Cap):
            def release(self, unit_rows, generators):  # type: ignore[no-untyped-def]
                drawn.append(super().release(unit_rows, generators))  # noqa: B023
                return drawn[-1]  # noqa: B023

        counts = omniscient_counts(Watched(3, 3.0, p), clean, study, patient, np.random.default_rng(3))
        number = np.array([0, 1, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0])
        for m, released in enumerate(drawn):
            for row, r in zip(np.flatnonzero(number == m), released, strict=True):
                own = cap.log_density(r @ clean[row])
                likelier = level = eligible = 0
                for other in range(9):
                    images = np.flatnonzero(study == other)
                    shown = images[min(m, len(images) - 1)]
                    if patient[shown] == patient[row]:
                        continue
                    eligible += 1
                    theirs = cap.log_density(r @ clean[shown])
                    likelier += theirs > own
                    level += theirs == own
                assert (counts.n_better[row], counts.n_tied[row]) == (likelier, level)
                assert counts.n_eligible[row] == eligible


def test_the_two_estimates_agree() -> None:
    """One counts releases of the candidates, the other weighs releases that are uniform."""
    points = unit(np.random.default_rng(4).standard_normal((150, 8)) + 1.0)
    for cap in (Cap(8, 5.0), Cap(8, 20.0, 0.7)):
        for n, k in ((10, 1), (150, 1), (150, 7)):
            one, error = by_counts(cap, points, n, k, 60)
            other, less = by_weights(cap, points, n, k, 60)
            assert one == pytest.approx(other, abs=4 * np.hypot(error, less))
    alone = recall_under_caps(Cap(8, 5.0), points[:1], [(1, 1), ("full", 1)], np.random.default_rng(0))
    assert alone.shape == (1, 2)


def test_codes_equal_all_pools_one_by_one() -> None:
    codes = np.array([0, 0, 0, 1, 2, 2, -1, -1])
    ids = np.arange(8)
    counts = omniscient_counts(Cells(codes, 3), np.zeros((8, 1)), ids, ids, np.random.default_rng(0))
    for n, k in ((3, 1), (4, 2)):
        expected = np.zeros(8)
        for j in range(8):
            others = [i for i in range(8) if i != j]
            for pool in combinations(others, n - 1):
                mates = sum(codes[i] == codes[j] for i in pool)
                expected[j] += min(k / (mates + 1), 1) if codes[j] >= 0 else 0
        expected /= len(list(combinations(range(7), n - 1)))
        assert pools.expected_recall(counts, n, k) == pytest.approx(expected)
        assert expected.mean() <= bounds.cells(3, n, k)


# ------------------------------------------------------------------------------------- below what is certified


def test_arcs_that_tile_the_circle_reach_the_limit() -> None:
    points = around(np.arange(20) / 20 * 2 * np.pi).astype(np.float32)
    cap = Cap(2, 8.0, 8.0 / 20)
    assert by_weights(cap, points, 20, 1, 5)[0] == pytest.approx(bounds.capped(8.0, 20), rel=1e-12), "any round"
    found, error = by_counts(cap, points, 20, 1, 400)
    assert found == pytest.approx(bounds.capped(8.0, 20), abs=4 * error)
    assert error < 0.02 * found


def test_weighted_rounds_are_below_the_limit_one_by_one() -> None:
    """Where each release that was drawn is shared among those who hold it, k L / N cannot be passed even by chance."""
    rng = np.random.default_rng(6)
    for d, limit, p in ((2, 3.0, 1.0), (16, 4.0, 1.0), (16, 9.0, 0.5)):
        points = unit(rng.standard_normal((60, d)))
        for _ in range(20):
            found = recall_under_caps(Cap(d, limit, p), points, CASES[:3], rng).mean(axis=0)
            assert (found <= [limit * k / n + 1e-6 for n, k in CASES[:3]]).all()


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_no_ceiling_is_above_its_certified_limit(spread: float) -> None:
    """Directions close together and far apart; every mechanism; pools of each size."""
    rng = np.random.default_rng(5)
    points = unit(spread * rng.standard_normal((200, 16)) + np.eye(16)[0])
    ids = np.arange(200)
    codes = (points @ rng.standard_normal((16, 9))).argmax(axis=1)
    for mechanism in (Cap(16, 4.0), Cap(16, 30.0, 0.8), Gaussian(0.4), Gaussian(3.0), Cells(codes, 9)):
        for n, k in CASES:
            rounds = [
                pools.expected_recall(omniscient_counts(mechanism, points, ids, ids, rng), n, k) for _ in range(6)
            ]
            found, error = means(rounds)
            assert k / n - 4 * error - 1e-9 <= found <= ceiling.certified(mechanism, n, k) + 4 * error + 1e-9


def test_a_twin_that_breaks_ties_for_itself_is_caught() -> None:
    """It takes the likeliest candidates for found, though many are as likely."""
    points = unit(np.random.default_rng(5).standard_normal((200, 16)))
    ids, cap = np.arange(200), Cap(16, 4.0)
    counts = omniscient_counts(cap, points, ids, ids, np.random.default_rng(0))
    twin = MatchCounts(counts.n_better, np.zeros_like(counts.n_tied), counts.n_eligible)
    assert pools.expected_recall(counts, 40, 1).mean() == pytest.approx(ceiling.certified(cap, 40, 1), rel=0.05)
    assert pools.expected_recall(twin, 40, 1).mean() > 5 * ceiling.certified(cap, 40, 1)


# ---------------------------------------------------------------------------------------------- above every attacker


@pytest.mark.parametrize("mechanism", [Cap(24, 30.0), Cap(24, 8.0, 0.8), Gaussian(0.3)])
def test_no_attacker_is_above_the_ceiling(mechanism: Cap | Gaussian) -> None:
    """Those who learn from pairs, and one who is given the clean embeddings and ranks by their cosine."""
    held = simulated(n_own=300, n_test=200)
    ids, rng = np.arange(200), np.random.default_rng(0)
    clean, own = unit(held.images), unit(held.own_images)

    def release(rows: np.ndarray) -> np.ndarray:
        if isinstance(mechanism, Gaussian):
            return seen.noised(rows, mechanism.sigma, rng)
        return mechanism.release(rows, rng)

    held = replace(held, released=release(clean), own_released=release(own))
    found = {name: run(held, name)[0] for name in ("cosine", "known-pairs", "bayes-gaussian", "reader")}
    group = held.query_group
    found["clean embeddings"] = match_counts(held.released, clean, ids, query_group=group, candidate_group=group)
    rounds = [omniscient_counts(mechanism, clean, ids, group, rng) for _ in range(8)]
    for n, k in ((5, 1), (100, 1), (100, 5)):
        drawn = np.mean([pools.expected_recall(one, n, k) for one in rounds], axis=0)
        for name, counts in found.items():
            gap = drawn - pools.expected_recall(counts, n, k)
            assert gap.mean() >= -4 * gap.std() / np.sqrt(200), name
    if isinstance(mechanism, Cap):
        wide = [omniscient_counts(_TooWide(24, mechanism.limit, mechanism.p), clean, ids, group, rng) for _ in range(8)]
        twin = np.mean([pools.expected_recall(one, 100, 1) for one in wide], axis=0)
        rounds_of = np.mean([pools.expected_recall(one, 100, 1) for one in rounds], axis=0)
        gap = twin - rounds_of
        assert gap.mean() < -4 * gap.std() / np.sqrt(200), "a ceiling that takes caps for wider is not one"


class _TooWide(Cap):
    """Draws as it should, and believes its caps twice as large."""

    @property
    def height(self) -> float:  # type: ignore[override]
        return Cap(self.dimension, self.limit / 2, self.p).height


# ---------------------------------------------------------------------------------------------------------- an entry


def flat_entry(folder: Path, n: int = 120) -> Entry:
    """One image a study, one study a patient."""
    rng = np.random.default_rng(0)
    records = pd.DataFrame({"record_id": [f"r{i}" for i in range(n)], "patient_id": [f"p{i}" for i in range(n)]})
    records["study_id"], records["report"] = [f"s{i}" for i in range(n)], [f"Report {i}." for i in range(n)]
    texts = rng.standard_normal((n, 16)).astype(np.float32)
    images = texts + rng.standard_normal((n, 16)).astype(np.float32)
    return import_arrays(read_back(records, folder, "flat"), "m", images, texts, Store(folder / "store"))


@pytest.mark.parametrize("population", list(ceiling.POPULATIONS))
def test_the_ceiling_of_an_entry(entry: Entry, population: str) -> None:
    records = entry.records(entry.default_split)
    codes = np.arange(len(records)) % 7
    for mechanism in (Cap(16, 5.0), Cap(16, 5.0, 0.8), Gaussian(0.5), Cells(codes, 7)):
        rows = ceiling.ceiling(entry, mechanism, (20, "full"), (1, 3), population=population)
        assert rows["certified"].iloc[0] == ceiling.certified(mechanism, 20, 1)
        assert (rows["ceiling"] <= rows["certified"] * 1.05 + 4 * rows["error"]).all()
        assert (rows["ceiling_low"] <= rows["ceiling"]).all()
        assert (rows["ceiling"] <= rows["ceiling_high"]).all()
        assert rows["lift"].iloc[0] == pytest.approx(rows["ceiling"].iloc[0] * 20)
        uniform = population == ceiling.UNIFORM
        assert rows["n_queries"].iloc[0] == (records["study_id"].nunique() if uniform else len(records))
        exact = isinstance(mechanism, Cells) and not uniform
        assert (rows["how"] == ("exact" if exact else "Monte Carlo, 8 draws")).all()
        again = ceiling.ceiling(entry, mechanism, (20, "full"), (1, 3), population=population)
        pd.testing.assert_frame_equal(rows, again)


def test_the_populations_are_one_where_a_patient_has_one_image(tmp_path: Path) -> None:
    made = flat_entry(tmp_path)
    codes = np.arange(120) % 6
    codes[:6] = -1
    one, other = (ceiling.ceiling(made, Cells(codes, 6), (20,), population=name) for name in ceiling.POPULATIONS)
    assert one["ceiling"].iloc[0] == other["ceiling"].iloc[0]
    assert (one["how"] == "exact").all()
    assert one["error"].iloc[0] == 0
    for mechanism in (Cap(16, 10.0, 0.9), Gaussian(0.5)):
        both = [
            ceiling.ceiling(made, mechanism, (20,), population=name, draws=100).iloc[0] for name in ceiling.POPULATIONS
        ]
        error = np.hypot(both[0]["error"], both[1]["error"])
        assert both[0]["ceiling"] == pytest.approx(both[1]["ceiling"], abs=4 * error)


def test_who_is_a_candidate(entry: Entry) -> None:
    """One cell tells nothing, so Recall@1 is chance: 1/N, over all studies or all but the patient's others."""
    records = entry.records(entry.default_split)
    nothing = Cells(np.zeros(len(records), int), 1)
    n = records["study_id"].nunique()
    row = ceiling.ceiling(entry, nothing, ("full",)).iloc[0]
    assert row[["ceiling", "chance", "certified"]].tolist() == pytest.approx([1 / n] * 3)
    others = n - records.groupby("patient_id")["study_id"].transform("nunique") + 1
    row = ceiling.ceiling(entry, nothing, ("full",), population=ceiling.ATTACKED).iloc[0]
    assert row[["ceiling", "chance"]].tolist() == pytest.approx([(1 / others).mean()] * 2)
    assert row["certified"] == pytest.approx(1 / others.min())
    drawn = ceiling.one_image_a_study(records["study_id"].to_numpy(str), np.random.default_rng(0))
    assert sorted(records["study_id"].iloc[drawn]) == sorted(records["study_id"].unique())


def test_what_cannot_be_is_refused(entry: Entry) -> None:
    n = len(entry.records(entry.default_split))
    for mechanism, message in (
        (Cap(8, 5.0), "8 dimensions, the embeddings 16"),
        (Cells(np.zeros(n - 1, int), 3), f"{n - 1} codes for {n} records"),
    ):
        with pytest.raises(InputError, match=message):
            ceiling.ceiling(entry, mechanism)
    with pytest.raises(InputError, match="population is 'all'"):
        ceiling.ceiling(entry, Gaussian(1.0), population="all")
    with pytest.raises(InputError, match="draws is 1"):
        ceiling.ceiling(entry, Gaussian(1.0), draws=1)
    with pytest.raises(InputError, match="larger than any image can fill"):
        ceiling.ceiling(entry, Cap(16, 5.0), (100_000,))
    for codes, message in (
        (np.array([0, 3]), "from 0 to 3, and there are 3"),
        (np.array([-2, 0]), "from -2 to 0"),
        (np.array([0.5]), "whole number"),
        (np.zeros((2, 2), int), "whole number"),
    ):
        with pytest.raises(InputError, match=message):
            Cells(codes, 3)
    for sigma in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="sigma is"):
            Gaussian(sigma)
