"""Ranks, recall and MRR beside ranx; closed forms beside drawn pools. The cases are those of the benchmark."""

import dataclasses
from types import ModuleType

import numpy as np
import pytest

from helpers.scripts import script
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import Embeddings


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    return script("cross_checks")


def disagreeing(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [row for row in rows if not row["agrees"]]


def test_ranks_recall_and_mrr_equal_those_of_ranx(checks: ModuleType) -> None:
    rows = checks.against_ranx()
    assert {row["measure"] for row in rows} >= {"rank", "MRR", "hit rate @1", "Recall@5", "hit_rate@5"}
    assert not disagreeing(rows)


def test_closed_forms_equal_20_000_drawn_pools(checks: ModuleType) -> None:
    rows = checks.against_simulation(draws=20_000)
    assert len(rows) == 36
    assert not disagreeing(rows)
    assert any(row["n_left_out"] > 0 for row in rows), "some hard negatives are too few for an N"
    assert any("1 to " in row["case"] for row in rows), "some query has a single decoy"


def test_decoys_of_the_same_findings_equal_20_000_draws_from_the_bare_tables(checks: ModuleType) -> None:
    rows = checks.decoys_against_simulation(draws=20_000)
    assert len(rows) == 10
    assert not disagreeing(rows)
    assert any(row["n_left_out"] > 0 for row in rows), "a record whose findings are its own has no decoy"
    assert {row["measure"] for row in rows} == {"Recall@1", "Recall@2", "MRR", "label-matched AUC"}


def test_the_table_catches_decoys_that_differ_where_nothing_is_said(
    checks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin: "not mentioned" taken for "absent"."""
    honest = checks.strata.count

    def careless(one: Embeddings) -> MatchCounts:
        labels = list(checks.LABELS)
        return honest(dataclasses.replace(one, records=one.records.assign(**one.records[labels].fillna(0))))

    monkeypatch.setattr(checks.strata, "count", careless)
    assert disagreeing(checks.decoys_against_simulation(draws=1_000))


def test_the_table_catches_ranks_that_put_ties_last(checks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: every tied candidate taken for a better one."""
    honest = pools.full_recall
    monkeypatch.setattr(
        pools,
        "full_recall",
        lambda c, k: honest(MatchCounts(c.n_better + c.n_tied, np.zeros_like(c.n_tied), c.n_eligible), k),
    )
    wrong = {row["measure"] for row in disagreeing(checks.tied_against_ranx(0))}
    assert wrong == {"hit_rate@1", "hit_rate@5"}


def test_the_table_catches_pools_drawn_with_replacement(checks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken twin: a binomial in place of the hypergeometric, which small eligible sets tell apart."""

    def binomial(counts: MatchCounts, n: int, k: int) -> np.ndarray:
        share = counts.n_better / np.maximum(counts.n_eligible, 1)
        return np.where(counts.n_eligible >= n - 1, (1 - share) ** (n - 1), np.nan)

    monkeypatch.setattr(pools, "expected_recall", binomial)
    rows = checks.against_simulation(draws=2_000)
    assert any(row["measure"] == "Recall@1" and "hard negatives" in row["case"] for row in disagreeing(rows))
