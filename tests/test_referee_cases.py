"""What a referee would try: cohorts that cannot carry a number. Each gives a clear message or a flagged estimate from
every function that could give a number, never a silent one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.toy import read_back, toy_arrays, toy_records
from linkage_core.audit import compare, exposure, fusion, open_world, strata
from linkage_core.audit import study as audit
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.counts import match_counts
from linkage_core.store.entry import Entry, Store

N = 10
TOO_FEW = "too few to say"


class Case:
    """A cohort seen by two models, and every figure of it."""

    def __init__(
        self,
        folder: Path,
        records: pd.DataFrame,
        arrays: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
        store: Store | None = None,
        name: str = "case",
    ) -> None:
        self.store = store or Store(folder / "store")
        read = read_back(records, folder, name)
        self.entries: list[Entry] = []
        for seed, model in enumerate(("m", "n")):
            images, texts = arrays(seed) if arrays else toy_arrays(records, 1.0, seed=seed)
            self.entries.append(import_arrays(read, model, images, texts, self.store))
        self.one = self.entries[0]

    def flags(self) -> dict[str, list[str]]:
        """Function and switch -> flag of each row that holds a number."""
        found = {}
        for direction in audit.DIRECTIONS:
            for pool in audit.POOLS:
                study = audit.study(self.one, direction=direction, pool=pool)
                found[f"table {direction} {pool}"] = study.table([5, "full"], [1])["flag"].tolist()
        same = audit.study(self.one, pool="same-findings")
        found["label-matched AUC"] = [same.label_matched_auc()["flag"]]
        found["balance"] = strata.verification(same.queries, same.counts).balance["flag"].tolist()
        pair = [audit.study(entry) for entry in self.entries]
        for pool_size in (5, "full"):
            found[f"compare {pool_size}"] = compare.compare(pair, pool_size, 1)["flag"].tolist()  # type: ignore
        found["fusion"] = fusion.fusion_tables(self.one, (5,), (1,))["flag"].tolist()
        found["sites"] = fusion.shift_table(self.store, "m", (self.one.cohort,), (5,))["flag"].tolist()
        for rule in open_world.RULES:
            answer = open_world.open_world(self.one, 5, 0.5, rule)
            told = answer.operating[answer.operating["linked_rightly"].notna()]
            found[f"open world {rule}"] = told["note"].tolist()
            found[f"open world {rule}, curve"] = [answer.note]
        rows = exposure.exposure(pair[0], 5)
        for by in exposure.GROUPS:
            groups = exposure.groups(rows, pair[0].queries, by)
            found[f"groups by {by}"] = groups["note"][groups["linked"].notna()].tolist()
        goes_with = exposure.associations(rows, pair[0].queries)
        found["associations"] = goes_with["note"][goes_with["difference"].notna()].tolist()
        tail = exposure.tail(rows["p_first"].to_numpy(), rows["patient_id"].to_numpy())
        if not np.isnan(tail.tail):
            found["tail"] = [tail.note]
        return found


def unflagged(found: dict[str, list[str]], words: str) -> list[str]:
    return [name for name, flags in found.items() if not all(words in flag.lower() for flag in flags)]


def test_fewer_than_thirty_patients_flag_every_number(tmp_path: Path) -> None:
    found = Case(tmp_path, toy_records(25)).flags()
    assert len(found) > 15
    assert not unflagged(found, TOO_FEW)


def test_enough_patients_flag_none_of_the_means(tmp_path: Path) -> None:
    """The flags do say something: with 80 patients the same rows have none."""
    found = Case(tmp_path, toy_records(80)).flags()
    assert {"table image-to-report other-patients", "fusion", "sites", "balance", "open world score"} <= {
        name for name, flags in found.items() if not any(flags)
    }


def test_one_patient_with_most_records_flags_every_number_over_images(tmp_path: Path) -> None:
    rest = toy_records(64)
    first = rest.iloc[0].to_dict()
    many = [
        {**first, "record_id": f"x{i}", "patient_id": "x", "study_id": f"x{i}", "report": f"Own words {i}."}
        for i in range(260)
    ]
    found = Case(tmp_path, pd.concat([pd.DataFrame(many), rest], ignore_index=True)).flags()
    fused = found.pop("fusion")  # fused by patient, that one is a query like any other
    assert any("one patient holds" in flag for flag in fused)
    for name in [name for name in found if name.startswith(("groups", "associations"))]:
        found.pop(name)  # of groups that he is not in, or NaN: below
    assert not unflagged(found, "one patient holds")


def test_groups_that_are_one_patient_are_not_compared(tmp_path: Path) -> None:
    rest = toy_records(64)
    men = rest[rest["sex"] == "M"].iloc[0].to_dict()
    many = [
        {**men, "record_id": f"x{i}", "patient_id": "x", "study_id": f"x{i}", "report": f"Own words {i}."}
        for i in range(260)
    ]
    case = Case(tmp_path, pd.concat([pd.DataFrame(many), rest], ignore_index=True))
    study = audit.study(case.one)
    rows = exposure.exposure(study, N)
    groups = exposure.groups(rows, study.queries, "sex").set_index("group")
    assert groups["note"]["M"].startswith("too few to say: one patient holds")
    assert np.isnan(groups["linked"]["M"])
    assert groups["note"]["F"] == ""
    assert groups["linked"]["F"] > 0
    goes_with = exposure.associations(rows, study.queries)
    by_sex = goes_with[goes_with["attribute"] == "sex"]
    assert by_sex["difference"].isna().all()
    assert by_sex["note"].str.contains("one patient holds").all()


def tied_case(folder: Path) -> Case:
    records = toy_records(80)

    def constant(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(records), 4), seed + 1.0, np.float32), np.ones((len(records), 4), np.float32)

    return Case(folder, records, constant)


def test_scores_that_all_tie_are_chance_and_say_so(tmp_path: Path) -> None:
    case = tied_case(tmp_path)
    found = case.flags()
    assert not [name for name in unflagged(found, "all scores tie") if name not in SAME_TEXT]
    for name in SAME_TEXT & set(found):
        assert set(found[name]) <= {"all reports are the same", "all scores tie", ""}
    for direction in audit.DIRECTIONS:
        rows = audit.study(case.one, direction=direction).table([5, "full"], [1])
        assert rows["lift"].tolist() == pytest.approx([1, 1])
        assert audit.study(case.one, direction=direction, pool="same-text-counts").table([5], [1])["flag"][0]
    fused = fusion.fusion_tables(case.one, (5,), (1,))
    alike = fused[fused["hit"] == "text"]
    assert alike["lift"].tolist() == pytest.approx([1.0] * len(alike), rel=0.7), "all say the same: guessing finds it"
    assert (fused["recall"] <= 1).all()


SAME_TEXT = {
    "table image-to-report same-text-counts",
    "table report-to-image same-text-counts",
    "balance",  # of who the decoys are, which no score has a part in
    "fusion",  # hits by a text that all share are certain, and so is a guess
}


def test_ties_find_no_association_in_the_last_digit(tmp_path: Path) -> None:
    """Pools of patients with more or fewer reports of their own: 1/N to all digits but the last."""
    case = tied_case(tmp_path)
    study = audit.study(case.one)
    rows = exposure.exposure(study, N)
    assert rows["p_first"].nunique() > 1
    assert rows["percentile"].nunique() == 1
    goes_with = exposure.associations(rows, study.queries)
    told = goes_with[goes_with["p"].notna()]
    assert len(told) > 1
    assert (told["p"] == 1).all()
    assert (told["difference"] == 0).all()


def without(column: str) -> pd.DataFrame:
    return toy_records(80).drop(columns=column)


def test_no_labels_is_said_by_whatever_needs_them(tmp_path: Path) -> None:
    case = Case(tmp_path, without("Pneumonia"))
    plain = audit.study(case.one)
    for ask in (
        lambda: audit.study(case.one, pool="same-findings"),
        lambda: strata.count(case.one.embeddings()),
        lambda: strata.verification(plain.queries, plain.counts),
        lambda: strata.stratum_codes(plain.queries, case.one.embeddings().candidates),
    ):
        with pytest.raises(InputError, match="No record has any of the 14 labels"):
            ask()
    goes_with = exposure.associations(exposure.exposure(plain, N), plain.queries)
    labels = goes_with[goes_with["attribute"].isin(["labels", *LABELS])]
    assert labels["note"].tolist() == ["not recorded"]
    assert labels["difference"].isna().all()
    assert set(plain.table([N], [1])["flag"]) == {""}, "what needs no labels is not touched"


def test_labels_that_some_lack_are_counted(tmp_path: Path) -> None:
    records = toy_records(80)
    records.loc[records["patient_id"].str[-1].isin(list("02468")), "Pneumonia"] = np.nan
    case = Case(tmp_path, records)
    study = audit.study(case.one, pool="same-findings")
    lacking = int(study.queries["Pneumonia"].isna().sum())
    assert 0 < lacking < len(records)
    assert study.label_matched_auc()["n_without_labels"] == lacking
    sizes = strata.verification(study.queries, study.counts).sizes.iloc[0]
    assert 0 < sizes["n_without_labels"] < sizes["n_candidates"]
    goes_with = exposure.associations(exposure.exposure(audit.study(case.one), N), study.queries)
    pneumonia = goes_with[goes_with["attribute"] == "Pneumonia"].iloc[0]
    assert pneumonia["n_images"] + pneumonia["n_images_against"] == len(records) - lacking


def test_a_stratum_of_one_is_left_out_and_counted(tmp_path: Path) -> None:
    records = toy_records(80)
    alone = records["study_id"] == records["study_id"].iloc[0]
    records.loc[alone, "Fracture"] = 1.0
    case = Case(tmp_path, records)
    study = audit.study(case.one, pool="same-findings")
    n_alone = int(alone.sum())
    assert (study.counts.n_eligible[alone.to_numpy()] == 0).all()
    rows = study.table([2, "full"], [1])
    assert (rows["n_excluded"] >= n_alone).all()
    assert study.label_matched_auc()["n_excluded"] == n_alone
    found = strata.verification(study.queries, study.counts)
    assert found.sizes["n_alone"][0] == n_alone
    assert found.sizes["size_min"][0] == 1
    assert (found.balance["n"] <= len(records) - n_alone).all()


def test_strata_of_one_throughout_are_an_error(tmp_path: Path) -> None:
    records = toy_records(60)
    code = pd.factorize(records["patient_id"])[0]
    for bit, label in enumerate(LABELS[:6]):
        records[label] = (code >> bit & 1).astype(float)
    case = Case(tmp_path, records)
    with pytest.raises(InputError, match="no two patients share their findings"):
        audit.study(case.one, pool="same-findings")


@pytest.mark.parametrize("prior", [-0.1, 0, 1.2, float("nan"), float("inf"), "half", None, True])
def test_a_prior_that_is_none_is_refused(tmp_path: Path, prior: Any) -> None:
    case = Case(tmp_path, toy_records(70))
    with pytest.raises(InputError, match="prior is"):
        open_world.open_world(case.one, N, prior)
    with pytest.raises(InputError, match="prior is"):
        open_world.prepare(case.one).outcomes(N).at(prior)


def test_a_handful_of_rows_that_carry_a_difference_are_flagged(tmp_path: Path) -> None:
    """Two models that differ in one image alone."""
    records = toy_records(80)

    def nearly(seed: int) -> tuple[np.ndarray, np.ndarray]:
        images, texts = toy_arrays(records, 1.0)
        if seed:
            images[5] = -images[5]
        return images, texts

    row = compare.compare([audit.study(entry) for entry in Case(tmp_path, records, nearly).entries], N, 1).iloc[0]
    assert row["difference"] != 0
    assert row["flag"] == "too few to say: few patients differ"


def test_one_query_alone_gives_no_interval_that_looks_like_one() -> None:
    counts = match_counts(np.eye(4)[:1], np.eye(4), np.array([0]))
    rates = fusion._rates(counts, np.array(["p"]), [(3, 1)], np.full((1, 1), 1 / 3), pools.tied_flag(counts), 0)[0]
    assert rates["flag"] == TOO_FEW
    assert (rates["recall_low"], rates["recall_high"]) == pytest.approx((0.025, 1.0))
