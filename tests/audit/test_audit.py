"""Tables of a study against the same numbers made the slow way."""

import json
from dataclasses import replace

import numpy as np
import pytest

from linkage_core.audit import study as audit
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.intervals import unseen
from linkage_core.store.entry import Entry

DESIGN_COLUMNS = {
    *("cohort", "model", "head", "direction", "pool", "pool_size", "k", "n_queries", "n_excluded", "recall"),
    *("recall_low", "recall_high", "chance", "lift", "mrr", "median_rank"),
}


def test_counts_equal_a_loop_over_images_and_reports(entry: Entry) -> None:
    embeddings = entry.embeddings(split="all")
    for pool in set(audit.POOLS) - {audit.HARD_NEGATIVES}:  # those have a loop of their own, in test_strata
        study = audit.study(entry, pool=pool)
        for i in range(0, len(embeddings.images), 7):
            scores = embeddings.reports @ embeddings.images[i]
            own = scores[embeddings.match[i]]
            others = np.arange(len(scores)) != embeddings.match[i]
            if pool != "all":
                others &= embeddings.candidate_group != embeddings.query_group[i]
            assert study.counts.n_eligible[i] == others.sum()
            key = embeddings.candidates["report_key"]
            ties = (key == key[embeddings.match[i]]).to_numpy() & others
            assert study.counts.n_better[i] == (scores[others & ~ties] > own).sum()
            assert study.counts.n_tied[i] == (0 if pool == "same-text-counts" else ties.sum())


def test_random_pools_agree_with_the_closed_form(entry: Entry) -> None:
    """Ten thousand drawn pools a query: the sampled recall lies within four standard errors of the exact one."""
    study = audit.study(entry)
    rng = np.random.default_rng(0)
    better, tied, eligible = (column[::9] for column in study.counts)
    exact = pools.expected_recall(study.counts, 20, 1)[::9]
    draws = 10_000
    for i in range(len(better)):
        rest = eligible[i] - better[i] - tied[i]
        drawn = rng.multivariate_hypergeometric([better[i], tied[i], rest], 19, size=draws)
        first = (drawn[:, 0] == 0) & (rng.random(draws) < 1 / (1 + drawn[:, 1]))
        assert abs(first.mean() - exact[i]) <= 4 * np.sqrt(max(exact[i] * (1 - exact[i]), 1e-4) / draws)


def test_the_table_has_the_columns_and_the_baselines(entry: Entry) -> None:
    table = audit.study(entry).table([10, 50, "full"], [1, 5])
    assert set(table.columns) >= DESIGN_COLUMNS
    assert len(table) == 6
    ten = table.iloc[0]
    assert ten["chance"] == pytest.approx(0.1)
    assert ten["lift"] == pytest.approx(ten["recall"] / 0.1)
    assert (table["recall_low"] <= table["recall"]).all()
    assert (table["recall"] <= table["recall_high"]).all()
    assert (table["n_queries"] + table["n_excluded"] == len(entry.records())).all()


def test_up_to_the_common_pool_nobody_drops_out(entry: Entry) -> None:
    study = audit.study(entry)
    assert study.common_pool < study.largest_pool
    at, beyond = (study.table([n], [1]).iloc[0] for n in (study.common_pool, study.common_pool + 1))
    assert at["n_excluded"] == 0 < beyond["n_excluded"]


def test_no_link_at_all_and_nothing_but_links_are_not_certainties(entry: Entry) -> None:
    study = audit.study(entry)
    of_patients = study.queries["patient_id"].value_counts().to_numpy()
    none_of = unseen(of_patients.sum() ** 2 / (of_patients**2).sum())
    for better, low, high in ((study.counts.n_eligible, 0.0, none_of), (0, 1 - none_of, 1.0)):
        none_tied = study.counts._replace(n_better=better + 0 * study.counts.n_tied, n_tied=0 * study.counts.n_tied)
        row = replace(study, counts=none_tied).table(["full"], [1]).iloc[0]
        assert (row["recall_low"], row["recall_high"]) == pytest.approx((low, high))


def test_report_to_image_counts_each_image_as_the_match_once(entry: Entry) -> None:
    study = audit.study(entry, direction="report-to-image")
    embeddings = entry.embeddings(split="all")
    i = 11
    scores = embeddings.images @ embeddings.reports[embeddings.match[i]]
    others = embeddings.query_group != embeddings.query_group[i]
    assert study.counts.n_better[i] == (scores[others] > scores[i]).sum()
    assert study.n_candidates == len(embeddings.images)


def test_the_report_is_json_with_its_provenance(entry: Entry) -> None:
    study = audit.study(entry)
    text = json.dumps(audit.report([study], [10], [1]), allow_nan=False)
    content = json.loads(text)
    assert content["schema"] == 1
    said = content["provenance"]["toy/m"]
    assert said["interval"].startswith("95% percentile bootstrap over patients")
    assert said["n_patients"] == entry.records()["patient_id"].nunique()
    assert "root" not in said["cohort"], "a machine's paths do not travel"
    assert content["rows"][0]["pool_size"] == 10


def test_bad_requests_name_value_and_remedy(entry: Entry) -> None:
    study = audit.study(entry)
    with pytest.raises(InputError, match=f"largest possible N is {study.largest_pool}"):
        study.table([10**6], [1])
    with pytest.raises(InputError, match="k is 11, and the pool holds 10"):
        study.table([10], [11])
    with pytest.raises(InputError, match="direction is 'sideways'"):
        audit.study(entry, direction="sideways")
    with pytest.raises(InputError, match="pool is 'mine'"):
        audit.study(entry, pool="mine")


@pytest.mark.parametrize("direction", audit.DIRECTIONS)
def test_where_equal_texts_count_a_guess_is_right_more_often(entry, direction):
    study = audit.study(entry, direction=direction, pool="same-text-counts")
    rng = np.random.default_rng(0)
    records = study.queries
    candidates = records if direction == "report-to-image" else records.drop_duplicates("study_id")
    for query in np.flatnonzero(study._n_same_text)[:3]:
        one = records.iloc[query]
        others = candidates[candidates["patient_id"] != one["patient_id"]]
        right = (others["report_key"] == one["report_key"]).to_numpy()
        assert right.sum() == study._n_same_text[query] > 0
        hits = 0
        for _ in range(4000):  # the match stands at 0; a guess takes three of a pool of ten
            pool = np.concatenate([[-1], rng.choice(len(others), 9, replace=False)])
            guess = rng.choice(pool, 3, replace=False)
            hits += any(g == -1 or right[g] for g in guess)
        chance = study.recall(10, 3)[1][query]
        assert chance > 0.3
        assert abs(hits / 4000 - chance) < 4 * np.sqrt(chance * (1 - chance) / 4000)
