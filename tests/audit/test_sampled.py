"""An audit of a sample: right on average, with intervals that hold the full audit's figure."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.command import linkage
from linkage_core.audit.sampled import sampled_study
from linkage_core.audit.study import study
from linkage_core.errors import InputError
from linkage_core.ranking import pools, sampled
from linkage_core.ranking.counts import MatchCounts, match_counts
from linkage_core.ranking.intervals import rate_intervals
from linkage_core.ranking.sampled import sampled_counts
from linkage_core.store.entry import Entry

D, N, K = 6, 8, 1


@cache
def cohort(n_patients: int = 150) -> dict[str, Any]:
    """One to three queries a patient whose match is a report; some reports are the same, so that there are ties."""
    rng = np.random.default_rng(4)
    owner = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    reports = rng.standard_normal((len(owner), D)).astype(np.float32)
    reports[::5] = reports[0]
    of_patient = rng.uniform(0.2, 2.5, n_patients)[owner][:, None]  # patients differ in how easily they are linked
    images = (of_patient * reports + rng.standard_normal(reports.shape)).astype(np.float32)
    match = np.arange(len(owner))
    return {"queries": images, "candidates": reports, "match": match, "query_group": owner, "candidate_group": owner}


@cache
def full(pool_size: int = N) -> np.ndarray:
    """(n_queries,) Recall@K of every query against all its candidates."""
    made = dict(cohort())
    counts = match_counts(made.pop("queries"), made.pop("candidates"), made.pop("match"), **made)
    return pools.expected_recall(counts, pool_size, K)


def drawn(n_queries: int, n_candidates: int, seed: int) -> tuple[np.ndarray, MatchCounts]:
    rows = np.random.default_rng([seed, 9]).choice(len(full()), n_queries, replace=False)
    return rows, sampled_counts(**cohort(), rows=rows, n_candidates=n_candidates, seed=seed)


def test_all_of_all_is_the_full_audit() -> None:
    rows, counts = drawn(len(full()), 10**6, 0)
    made = dict(cohort())
    exact = match_counts(made.pop("queries"), made.pop("candidates"), made.pop("match"), **made)
    assert all((one == other[rows]).all() for one, other in zip(counts, exact, strict=True))


def test_own_candidates_are_never_drawn_and_all_others_equally_often() -> None:
    own = np.array([2, 3, 7, 11])
    seen = np.zeros(12)
    repeats = 6000
    for seed in range(repeats):
        found = sampled._drawn(12, own, 3, np.random.default_rng(seed))
        assert len(np.unique(found)) == 3
        seen[found] += 1
    assert (seen[own] == 0).all()
    others = np.delete(seen, own) / repeats
    assert np.abs(others - 3 / 8).max() < 4.5 * np.sqrt(3 / 8 * 5 / 8 / repeats)


def estimates(repeats: int, n_queries: int, n_candidates: int) -> np.ndarray:
    found = [drawn(n_queries, n_candidates, seed)[1] for seed in range(repeats)]
    return np.array([pools.expected_recall(counts, N, K).mean() for counts in found])


def test_the_estimate_is_unbiased_at_the_largest_pool_and_below() -> None:
    for n_candidates in (N - 1, 30):
        found = estimates(150, 80, n_candidates)
        error = found.std(ddof=1) / np.sqrt(len(found))
        assert abs(found.mean() - full().mean()) < 4 * error
        assert error < 0.01, "or it could not tell"


def test_an_estimate_from_ranks_among_too_few_would_be_biased() -> None:
    """The broken twin: ranks among C candidates taken for ranks among all."""
    found = [pools.full_recall(drawn(80, N - 1, seed)[1], K).mean() for seed in range(50)]
    exact = full(pools.largest_pool(MatchCounts(*np.zeros((2, 3), int), np.array([250] * 3)))).copy()
    assert np.mean(found) > np.nanmean(exact) + 0.1


SMALL = 3
"""Pools in which it matters most who else is drawn."""


def held(repeats: int, shared: bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """How often the interval holds the full audit's figure; `shared`: the twin with one subset for everybody."""
    if shared:

        def once(n: int, own: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
            common = np.random.default_rng(seed).permutation(n)
            return np.asarray(common[~np.isin(common, own)][:wanted])

        monkeypatch.setattr(sampled, "_drawn", once)
    n_held = 0
    for seed in range(repeats):
        rows, counts = drawn(250, SMALL - 1, seed)
        values = pools.expected_recall(counts, SMALL, K)
        found = rate_intervals(values, cohort()["query_group"][rows], seed=0, draws=1000)
        n_held += bool(found.low[0] <= full(SMALL).mean() <= found.high[0])
    return n_held / repeats


def test_intervals_hold_the_full_figure_and_those_of_one_common_subset_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 80 repeats a right 95% interval holds the truth in at least 72 with probability 0.97 or more."""
    assert held(80, False, monkeypatch) >= 0.9
    assert held(40, True, monkeypatch) < 0.8


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64"])
def test_scores_are_as_exact_as_those_of_the_audit(kind: str) -> None:
    made = dict(cohort())
    for name in ("queries", "candidates"):
        made[name] = (made[name] * 8).astype(kind)
    some = sampled_counts(**made, rows=np.arange(len(full())), n_candidates=10**6)
    exact = match_counts(made.pop("queries"), made.pop("candidates"), made.pop("match"), **made)
    assert all((one == other).all() for one, other in zip(some, exact, strict=True))


def test_identical_texts_tie_wherever_they_stand() -> None:
    vectors = np.ones((40, 5), np.float32)
    counts = sampled_counts(
        vectors * np.float32(0.3),
        vectors,
        np.arange(40),
        np.arange(0, 40, 3),
        9,
        query_group=np.arange(40),
        candidate_group=np.arange(40),
    )
    assert (counts.n_better == 0).all()
    assert (counts.n_tied == 9).all()
    assert np.allclose(pools.expected_recall(counts, 5, 1), 1 / 5)


# --------------------------------------------------------------------------------------------------- of the store


@pytest.mark.parametrize("pool", ["other-patients", "all"])
@pytest.mark.parametrize("direction", ["image-to-report", "report-to-image"])
def test_sampling_everything_is_the_audit(entry: Entry, direction: str, pool: str) -> None:
    exact = study(entry, direction=direction, pool=pool).table([5], [1, 5])
    found = sampled_study(entry, None, 10**6, direction=direction, pool=pool).table([5], [1, 5])
    compared = [name for name in exact if name != "median_rank"]
    assert found[compared].equals(exact[compared])
    assert found["median_rank"].isna().all()


def test_what_a_sample_cannot_say_is_refused(entry: Entry) -> None:
    some = sampled_study(entry, 40, 12)
    assert len(some.queries) == 40
    assert "40 of" in some.provenance()["sampled"]
    assert sampled_study(entry, 40, 12).counts.n_better.tolist() == some.counts.n_better.tolist(), "the seed says which"
    assert some.table([13], [1])["n_queries"].tolist() == [40]
    with pytest.raises(InputError, match="full pool"):
        some.table(["full"], [1])
    with pytest.raises(InputError, match="largest possible N is 13"):
        some.table([14], [1])
    for pool in ("same-findings", "same-text-counts"):
        with pytest.raises(InputError, match="is not sampled"):
            sampled_study(entry, 40, 12, pool=pool)


def test_the_command_says_that_it_sampled(entry: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["audit", "toy/m", "--store", entry.store.root]
    asked = [*at, "--sample-queries", "30", "--sample-candidates", "20", "--json", tmp_path / "sampled.json"]
    assert linkage(*asked) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Sampled: 30 of" in said
    assert "Exact" not in said
    made = json.loads((tmp_path / "sampled.json").read_text())
    assert {row["pool_size"] for row in made["rows"]} == {21}
    assert {row["n_queries"] for row in made["rows"]} == {30}
    assert not (entry.path / "ranks").exists(), "a sample is not kept as if it were the audit"
    tables = (["--full", tmp_path / "full"], ["--exposure"], ["--ceilings"])
    for more in (*tables, ["--part", "1/2"], ["--pool-size", "full"]):
        assert linkage(*asked, *more) == 2
