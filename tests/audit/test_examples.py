"""The list an attacker would see, against a plain sort."""

import numpy as np
import pytest

from linkage_core.audit.examples import Examples
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import Entry


@pytest.fixture
def examples(entry: Entry) -> Examples:
    return Examples(entry, split="all")


def test_a_ranked_list_equals_a_plain_sort_of_its_pool(examples: Examples, entry: Entry) -> None:
    embeddings = entry.embeddings(split="all")
    candidates = embeddings.candidates
    for row in range(0, len(examples.records), 5):
        record = examples.records["record_id"].iloc[row]
        for n, k in ((10, 4), (60, 4), (examples.largest_pool_of(record), 8)):
            ranked = examples.ranked(record, n, k)
            members = examples._pool(row, n)
            assert len(set(members)) == n
            assert members[0] == embeddings.match[row]
            assert (candidates["patient_id"][members[1:]] != examples.records["patient_id"].iloc[row]).all()
            scores = np.round(embeddings.reports[members].astype(np.float64) @ embeddings.images[row], 6)
            own = scores[0]
            assert ranked.rank == (scores > own).sum() + 1
            assert ranked.n_tied == (scores == own).sum() - 1
            shown = [r.similarity for r in ranked.reports]
            distinct = np.unique(scores)[::-1]
            top = distinct[: len(shown) if ranked.reports[-1].rank <= ranked.rank and not ranked.n_hidden_above else -1]
            expected = distinct[: len(shown)] if own >= distinct[len(shown) - 1] else [*distinct[: len(shown) - 1], own]
            assert shown == pytest.approx(list(expected), abs=1e-5), (top, ranked)
            assert sum(r.is_match for r in ranked.reports) == 1


def test_folded_reports_and_hidden_ones_add_up(examples: Examples) -> None:
    for record in examples.records["record_id"][::4]:
        ranked = examples.ranked(record, 80, 4)
        above = [r for r in ranked.reports if r.rank < ranked.rank]
        assert sum(1 + r.n_identical for r in above) + ranked.n_hidden_above == ranked.rank - 1
        match = next(r for r in ranked.reports if r.is_match)
        assert match.rank == ranked.rank
        assert match.n_identical == ranked.n_tied


def test_a_larger_pool_only_adds_reports(examples: Examples) -> None:
    record = examples.records["record_id"].iloc[3]
    ranks = [examples.ranked(record, n, 1).rank for n in (2, 10, 30, 60, 90)]
    assert ranks == sorted(ranks)
    assert examples.ranked(record, 30, 4) == examples.ranked(record, 30, 4)


def test_the_chance_of_being_first_is_the_closed_form(examples: Examples) -> None:
    record = examples.records["record_id"].iloc[2]
    counts = MatchCounts(*(column[2:3] for column in examples._study.counts))
    assert examples.ranked(record, 50, 4).first_in == pytest.approx(pools.expected_recall(counts, 50, 1)[0])


def test_find_narrows_by_everything_at_once(examples: Examples) -> None:
    rows = examples.find(findings=["Pneumonia"], views=["PA"], patient="P1", exposure=(50, 100))
    assert len(rows)
    assert (rows["Pneumonia"] == 1).all()
    assert (rows["view"] == "PA").all()
    assert rows["patient_id"].str.startswith("p1").all()
    assert rows["exposure_percentile"].min() >= 50
    assert len(examples.find(record="nobody")) == 0
    with pytest.raises(InputError, match="'Rash' is not a finding"):
        examples.find(findings=["Rash"])


def test_bad_requests(examples: Examples) -> None:
    record = examples.records["record_id"].iloc[0]
    with pytest.raises(InputError, match="no record 'x'"):
        examples.ranked("x", 10, 4)
    with pytest.raises(InputError, match="k is 11"):
        examples.ranked(record, 10, 11)
    with pytest.raises(InputError, match="largest possible N"):
        examples.ranked(record, 10_000, 4)


def test_an_image_without_a_percentile_is_found_unless_a_range_is_asked_for(examples: Examples) -> None:
    examples.records.loc[0, ["p_first_100", "exposure_percentile"]] = np.nan
    assert len(examples.find()) == len(examples.records)
    assert examples.records["record_id"][0] not in set(examples.find(exposure=(0, 99))["record_id"])
