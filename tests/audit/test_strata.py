"""Hard negatives against loops over pairs that say in words what a decoy is."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.toy import toy_entry
from linkage_core.audit import strata
from linkage_core.audit import study as audit
from linkage_core.cli import main
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, gathered
from linkage_core.store.entry import Embeddings, Entry, Store

DIRECTIONS = ("image-to-report", "report-to-image")


def cohort(n_patients: int = 60, seed: int = 0) -> Embeddings:
    """Few labels with all four values, repeated texts (so exact ties), missing sex and age, several views a study."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(n_patients):
        sex = rng.choice(["F", "M", ""])
        age = rng.choice([34.0, 39.0, 41.0, np.nan])
        for study in range(rng.integers(1, 4)):
            labels = {LABELS[0]: rng.choice([1.0, 0.0, -1.0, np.nan]), LABELS[7]: rng.choice([1.0, np.nan])}
            text = int(rng.integers(0, 25))
            views = rng.permutation(["PA", "AP", "LATERAL"])[: rng.integers(1, 4)]
            rows += [
                {
                    "record_id": f"{patient}-{study}-{view}",
                    "patient_id": f"p{patient}",
                    "study_id": f"{patient}-{study}",
                }
                | {"view": str(view), "sex": str(sex), "age": age, "report_key": f"t{text}", "report_words": text * 3}
                | dict.fromkeys(LABELS, np.nan)
                | labels
                for view in views
            ]
    records = pd.DataFrame(rows)
    candidates, match = strata.candidates_of(records, "image-to-report")
    texts = rng.integers(-2, 3, (25, 4)).astype(np.float32)  # small integers: every product is exact
    names = pd.Index(records["patient_id"].unique())
    return Embeddings(
        images=rng.integers(-2, 3, (len(records), 4)).astype(np.float32),
        reports=texts[candidates["report_key"].str[1:].astype(int)],
        match=match,
        query_group=names.get_indexer(records["patient_id"]),
        candidate_group=names.get_indexer(candidates["patient_id"]),
        records=records,
        candidates=candidates,
    )


def facts(records: pd.DataFrame, by: tuple[str, ...]) -> dict[str, tuple[object, ...]]:
    """What studies of one stratum share, straight from the words of the module; the view is added by the caller."""
    edges = np.quantile(records.drop_duplicates("study_id")["report_words"], [0.25, 0.5, 0.75])
    told = {}
    for study, rows in records.groupby("study_id"):
        first = rows.iloc[0]
        said: list[object] = ["missing" if np.isnan(first[label]) else first[label] for label in LABELS]
        if "sex" in by:
            said.append(first["sex"])
        if "age" in by:
            said.append("missing" if np.isnan(first["age"]) else int(first["age"]) // 10)
        if "length" in by:
            said.append(sum(first["report_words"] > edge for edge in edges))
        frontal = [view for view in rows["view"] if view in ("PA", "AP")] or list(rows["view"])
        told[str(study)] = (tuple(said), frontal[0] if "view" in by else "")
    return told


@pytest.mark.parametrize("small", [True, False], ids=["one table", "match_counts"])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("by", [(), ("sex",), ("view", "sex", "age", "length"), ("view",)], ids="+".join)
def test_counts_equal_a_loop_over_pairs(
    by: tuple[str, ...], direction: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strata, "SMALL", strata.SMALL if small else 0)
    made = cohort()
    counts = strata.count(made, by, direction)
    records = made.records
    to_image = direction == "report-to-image"
    others = records if to_image else made.candidates
    told = facts(records, by)
    of_other = [told[study] for study in others["study_id"]]
    if to_image and "view" in by:  # an image's view is its own
        of_other = [(said[0], view) for said, view in zip(of_other, records["view"], strict=True)]
    owner = others["patient_id"].to_numpy()
    for i in range(len(records)):
        mine = of_other[i] if to_image else told[records["study_id"][i]]
        decoys = [j for j, said in enumerate(of_other) if said == mine and owner[j] != records["patient_id"][i]]
        if to_image:
            scores, own = made.images @ made.reports[made.match[i]], i
        else:
            scores, own = made.reports @ made.images[i], int(made.match[i])
        assert counts.n_eligible[i] == len(decoys)
        assert counts.n_better[i] == (scores[decoys] > scores[own]).sum()
        assert counts.n_tied[i] == (scores[decoys] == scores[own]).sum()
    assert counts.n_tied.sum() > 0, "the cohort is made to tie"


def test_the_four_values_of_a_label_are_four() -> None:
    rows = [
        {"record_id": f"{i}", "patient_id": f"{i}", "study_id": f"{i}", "view": "PA", "sex": "F", "age": 40.0}
        | {"report_key": "a", "report_words": 3}
        | dict.fromkeys(LABELS, np.nan)
        | {LABELS[2]: value}
        for i, value in enumerate([np.nan, 0.0, 1.0, -1.0, np.nan])
    ]
    records = pd.DataFrame(rows)
    of_query, of_candidate = strata.stratum_codes(records, strata.candidates_of(records, DIRECTIONS[0])[0])
    assert len(set(of_query[:4])) == 4
    assert of_query[4] == of_query[0]
    assert (of_query == of_candidate).all()


def test_the_match_is_in_its_stratum_and_a_lateral_image_meets_the_decoys_of_its_twin() -> None:
    made = cohort()
    of_query, of_candidate = strata.stratum_codes(made.records, made.candidates, ("view", "age"))
    assert (of_candidate[made.match] == of_query).all()
    assert (pd.Series(of_query).groupby(made.records["study_id"]).nunique() == 1).all()


@pytest.mark.parametrize("n", [2, 4])
def test_closed_forms_agree_with_drawn_pools_of_decoys(n: int) -> None:
    """20,000 pools a query, drawn from the stratum itself: sampled Recall@1 within four standard errors."""
    made = cohort(120)
    counts = strata.count(made)
    of_query, of_candidate = strata.stratum_codes(made.records, made.candidates)
    exact = pools.expected_recall(counts, n, 1)
    rng = np.random.default_rng(1)
    draws = 20_000
    for i in np.flatnonzero(counts.n_eligible >= n - 1)[::23]:
        eligible = np.flatnonzero((of_candidate == of_query[i]) & (made.candidate_group != made.query_group[i]))
        scores = made.reports @ made.images[i]
        drawn = np.argsort(rng.random((draws, len(eligible))), axis=1)[:, : n - 1]
        pool = scores[eligible][drawn]
        own = scores[made.match[i]]
        ties = (pool == own).sum(axis=1)
        first = (pool <= own).all(axis=1) & (rng.random(draws) < 1 / (1 + ties))
        assert abs(first.mean() - exact[i]) <= 4 * np.sqrt(max(exact[i] * (1 - exact[i]), 1e-4) / draws)


def test_auc_is_the_share_of_decoys_beaten() -> None:
    counts = MatchCounts(np.array([0, 2, 1, 0, 0]), np.array([0, 0, 2, 4, 0]), np.array([4, 4, 4, 4, 0]))
    assert strata.label_matched_auc(counts)[:4].tolist() == [1.0, 0.5, 0.5, 0.5]
    assert np.isnan(strata.label_matched_auc(counts)[4])


def test_a_score_of_the_findings_alone_has_label_matched_auc_one_half() -> None:
    """Every report of a stratum ties: the plain audit sees a signal, the same-finding decoys see none."""
    made = cohort(80)
    code = strata.stratum_codes(made.records, made.candidates)[1]
    findings = np.eye(code.max() + 1, dtype=np.float32)[code]
    of_findings = Embeddings(**(vars(made) | {"reports": findings, "images": findings[made.match]}))
    auc = strata.label_matched_auc(strata.count(of_findings))
    assert np.unique(auc[~np.isnan(auc)]).tolist() == [0.5]
    everyone = audit._counting(of_findings, DIRECTIONS[0], "other-patients")
    everyone = gathered(everyone, range(len(everyone)))
    assert np.nanmean(strata.label_matched_auc(everyone)) > 0.8


def test_drawn_decoys_are_the_eligible_ones_evenly() -> None:
    made = cohort()
    of_query, of_candidate = strata.stratum_codes(made.records, made.candidates)
    patients, owner = made.records["patient_id"].to_numpy(), made.candidates["patient_id"].to_numpy()
    drawn = strata._drawn(of_query, of_candidate, patients, owner, np.random.default_rng(0))
    alone = 0
    for i, row in enumerate(drawn):
        eligible = np.flatnonzero((of_candidate == of_query[i]) & (owner != patients[i]))
        if len(eligible) == 0:
            assert (row == -1).all()
            alone += 1
            continue
        assert set(row) <= set(eligible)
        if len(eligible) <= strata.DRAWN:
            times = np.array([(row == j).sum() for j in eligible])
            assert times.max() - times.min() <= 2
    assert alone == (strata.count(made).n_eligible == 0).sum()


def balance(made: Embeddings, by: tuple[str, ...] = (), **options: object) -> pd.DataFrame:
    table = strata.verification(made.records, strata.count(made, by), by, **options).balance  # type: ignore[arg-type]
    return table.set_index(["attribute", "measure"])


def test_the_balance_table_equals_means_over_all_decoys() -> None:
    """Strata here hold at most DRAWN decoys, evenly drawn, so drawing adds no more than rounding of the shares."""
    made = cohort()
    of_query, of_candidate = strata.stratum_codes(made.records, made.candidates)
    texts = {s: f"{s} lungs clear" for s in made.candidates["study_id"]}
    table = balance(made, texts=texts)
    words = made.candidates["report_words"].to_numpy(float)
    sex = made.records.drop_duplicates("study_id")["sex"].to_numpy()
    distance, agreement = [], []
    for i, m in enumerate(made.match):
        decoys = np.flatnonzero((of_candidate == of_query[i]) & (made.candidate_group != made.query_group[i]))
        if len(decoys):
            distance.append(np.abs(words[decoys] - words[m]).mean())
            known = decoys[sex[decoys] != ""]
            if sex[m] and len(known):
                agreement.append((sex[known] == sex[m]).mean())
    row = table.loc["report length", "distance from the match, words"]
    assert row["decoys"] == pytest.approx(np.mean(distance), rel=0.02)
    assert row["effect"] == pytest.approx(-np.mean(distance) / words.std(), rel=0.02)
    assert row["n"] == len(distance)
    row = table.loc["sex", "share equal to the match's"]
    assert row["match"] == 1
    assert row["decoys"] == pytest.approx(np.mean(agreement), abs=0.02)
    overlap = table.loc["report text", "words in both of those in either (Jaccard)"]
    # of "3-0 lungs clear" and "7-1 lungs clear", at most the study's number is shared as well
    assert 2 / 6 <= overlap["decoys"] <= 3 / 5
    assert overlap["match"] == 1
    assert (table["effect_low"] <= table["effect"]).all()
    assert (table["effect"] <= table["effect_high"]).all()


def test_words_in_common_equal_set_operations() -> None:
    rng = np.random.default_rng(0)
    words = [frozenset(f"w{i}" for i in rng.choice(150, rng.integers(0, 40), replace=False)) for _ in range(60)]
    words[3] = words[7] = frozenset()
    match, rows = np.arange(60), rng.integers(0, 60, (60, 9))
    rows[3, 0] = 7
    found = strata._jaccard(strata._bits(words), match, rows)
    for i, j in np.ndindex(rows.shape):
        one, other = words[match[i]], words[rows[i, j]]
        expected = len(one & other) / len(one | other) if one | other else np.nan
        assert found[i, j] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(found[3, 0])


def test_the_pool_that_thirty_patients_fill() -> None:
    n_eligible = np.array([*range(40), 99])
    patients = np.array([*(f"p{i}" for i in range(40)), "p39"])  # the last two images are of one patient
    counts = MatchCounts(n_eligible * 0, n_eligible * 0, n_eligible)
    widest = strata.fillable_pool(counts, patients)
    filled_by = [len(set(patients[n_eligible + 1 >= n])) for n in (widest, widest + 1)]
    assert filled_by == [30, 29]
    assert strata.fillable_pool(MatchCounts(*(column[:29] for column in counts)), patients[:29]) == 0
    assert strata.fillable_pool(counts._replace(n_eligible=n_eligible * 0), patients) == 0
    assert strata.pool_steps(2) == [2]


def test_strata_are_offered_where_they_would_narrow() -> None:
    records = cohort().records
    assert strata.offered(records) == ("view", "sex", "age", "length")
    bare = records.assign(view="PA", sex="", age=np.nan)
    assert strata.offered(bare) == ("length",)
    assert strata.offered(bare.assign(sex=["F" if p == "p1" else "" for p in bare["patient_id"]])) == ("length",)
    assert "age" not in strata.offered(bare.assign(age=41.0))


def test_an_attribute_matched_on_leaves_the_table_and_one_that_is_not_shows() -> None:
    made = cohort(100)
    assert ("sex", "share equal to the match's") in balance(made).index
    assert ("sex", "share equal to the match's") not in balance(made, ("sex",)).index
    wide = balance(made).loc["report length", "distance from the match, words"]
    narrow = balance(made, ("length",)).loc["report length", "distance from the match, words"]
    assert narrow["decoys"] < 0.6 * wide["decoys"], "quartiles bring the lengths together"
    assert narrow["decoys"] > 0, "and what is left within a quartile stays in the table"
    assert narrow["decoys"] < narrow["others"]


def test_sizes_and_what_is_left_out_are_counted() -> None:
    made = cohort()
    counts = strata.count(made, ("sex",))
    shown = strata.verification(made.records, counts, ("sex",), pool_sizes=[2, 3])
    codes = strata.stratum_codes(made.records, made.candidates, ("sex",))[1]
    sizes = shown.sizes.iloc[0]
    assert sizes["n_strata"] == len(np.unique(codes))
    assert sizes["size_max"] == np.bincount(codes).max()
    assert sizes["n_alone"] == (counts.n_eligible == 0).sum() > 0
    assert sizes["n_without_labels"] == made.records.drop_duplicates("study_id")[list(LABELS)].isna().all(axis=1).sum()
    assert shown.left_out["n_excluded"].tolist() == [(counts.n_eligible < 1).sum(), (counts.n_eligible < 2).sum()]
    assert (shown.left_out["n_queries"] + shown.left_out["n_excluded"] == len(made.records)).all()


def test_few_patients_are_flagged() -> None:
    assert set(balance(cohort(20))["flag"]) == {"too few to say"}
    assert "" in set(balance(cohort(100))["flag"])


def test_bad_requests_name_value_and_remedy(entry: Entry) -> None:
    made = cohort(10)
    unlabelled = made.records.assign(**dict.fromkeys(LABELS, np.nan))
    with pytest.raises(InputError, match=r"No record has any of the 14 labels.*Give label columns"):
        strata.stratum_codes(unlabelled, made.candidates)
    with pytest.raises(InputError, match=r"no stratum 'weight'.*view, sex, age, length"):
        strata.stratum_codes(made.records, made.candidates, ("weight",))
    with pytest.raises(InputError, match="counts of 3 queries"):
        strata.verification(made.records, MatchCounts(*np.zeros((3, 3), dtype=int)))
    with pytest.raises(InputError, match=r"Strata \(sex\) do not apply to the pool 'all'"):
        audit.study(entry, pool="all", strata=("sex",))


def test_the_audit_names_the_strata_and_keeps_their_counts_apart(entry: Entry) -> None:
    plain = audit.study(entry, pool="same-findings")
    narrow = audit.study(entry, pool="same-findings", strata=("age", "view"))
    again = audit.study(entry, pool="same-findings", strata=("view", "age"))
    assert narrow.pool == again.pool == "same-findings+view+age"
    assert (narrow.counts.n_eligible == again.counts.n_eligible).all()
    assert (narrow.counts.n_eligible <= plain.counts.n_eligible).all()
    assert narrow.counts.n_eligible.sum() < plain.counts.n_eligible.sum()
    table = narrow.table([2, "full"], [1])
    assert set(table["pool"]) == {"same-findings+view+age"}
    assert (table["n_queries"] + table["n_excluded"] == len(narrow.queries)).all()
    said = narrow.provenance()
    assert said["label_matched_auc"]["n"] == (narrow.counts.n_eligible > 0).sum()
    assert said["label_matched_auc"]["low"] < said["label_matched_auc"]["estimate"]
    assert "the same view, the same decade of age" in said["pool"]
    assert said["inputs"] != plain.provenance()["inputs"]
    assert "label_matched_auc" not in audit.study(entry).provenance()


def test_a_query_alone_in_its_stratum_is_left_out_not_a_hit(store: Store, tmp_path: Path) -> None:
    made = toy_entry(store, tmp_path / "few", cohort="few", n_patients=3)  # the second alone has pneumonia
    narrow = audit.study(made, pool="same-findings", split="all")
    alone = int((narrow.counts.n_eligible == 0).sum())
    assert alone > 0
    row = narrow.table(["full"], [1]).iloc[0]
    assert row["n_excluded"] == alone
    assert np.isnan(narrow.recall("full", 1)[0]).sum() == alone
    assert narrow.provenance()["label_matched_auc"]["flag"] == "too few to say"


def test_nobody_with_a_decoy_is_an_error_that_says_so(store: Store, tmp_path: Path) -> None:
    made = toy_entry(store, tmp_path / "two", cohort="two", n_patients=2)  # one has pneumonia, one has not
    with pytest.raises(InputError, match="no two patients share their findings"):
        audit.study(made, pool="same-findings", split="all")


def test_linkage_audit_with_hard_negatives(entry: Entry, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def linkage(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main.main(["audit", "toy/m", "--store", str(store.root), *arguments])
        return int(stop.value.code or 0)

    assert linkage("--hard-negatives", "--strata", "sex,view", "--json", "-") == 0
    content = json.loads(capsys.readouterr().out)
    assert {row["pool"] for row in content["rows"]} == {"same-findings+view+sex"}
    assert {"estimate", "low", "high", "n"} <= set(content["provenance"]["toy/m"]["label_matched_auc"])
    assert linkage("--hard-negatives") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "m: label-matched AUC 0." in said
    assert "have no decoy" in said
    for arguments, message in (
        (("--strata", "sex"), "do not apply to the pool 'other-patients'"),
        (("--hard-negatives", "--strata", "weight"), "no stratum 'weight'"),
        (("--hard-negatives", "--pool", "all"), "contradict each other"),
        (("--hard-negatives", "--pool-size", "100000"), "The largest possible N is"),
    ):
        assert linkage(*arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
