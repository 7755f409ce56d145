"""What nobody passes by the reports alone: against pools drawn one by one, every pool there is, and a broken twin."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from helpers.toy import read_back, toy_records
from linkage_core.audit import ceilings
from linkage_core.audit import study as audit
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import Store


def records_of(n_patients: int = 9, seed: int = 3, **columns) -> pd.DataFrame:
    """Small, with many ties: three texts, two sexes, a few ages, labels of four values, and gaps."""
    rng = np.random.default_rng(seed)
    records = toy_records(n_patients, seed).drop(columns="Pneumonia")
    studies = pd.factorize(records["study_id"])[0]
    for label in LABELS:
        records[label] = np.nan
    for label in LABELS[:2]:
        records[label] = rng.choice([1.0, 0.0, -1.0, np.nan], studies.max() + 1)[studies]
    records["report"] = rng.choice(["Clear.", "CLEAR. ", "Effusion.", "Nodule."], studies.max() + 1)[studies]
    patients = pd.factorize(records["patient_id"])[0]
    records["sex"] = np.array(["F", "M", ""])[patients % 3]
    records["age"] = np.array([40.2, 40.9, 47.0, np.nan])[patients % 4]
    return records.assign(**columns)


def by_hand(records: pd.DataFrame, name: str, pool_size: int, k: int) -> np.ndarray:
    """Slow twin: every pool of N, the tied ones shuffled in every way that matters (a share for each place)."""
    studies = records.drop_duplicates("study_id").reset_index(drop=True)

    def key(row: pd.Series) -> tuple[object, ...]:
        age = row["age"]
        parts: dict[str, object] = {
            "text": " ".join(row["report"].lower().split()),
            "findings": tuple("missing" if pd.isna(row[label]) else row[label] for label in LABELS),
            "sex": row["sex"],
            "age": "missing" if pd.isna(age) else int(age),
            "decade": "missing" if pd.isna(age) else int(age // 10),
        }
        return tuple(parts[part] for part in name.split("+"))

    keys = [key(row) for _, row in studies.iterrows()]
    found = []
    for _, query in records.iterrows():
        own = keys[int(np.argmax(studies["study_id"] == query["study_id"]))]
        others = [keys[i] for i in range(len(studies)) if studies["patient_id"][i] != query["patient_id"]]
        hits = [min(k / (1 + sum(one == own for one in pool)), 1.0) for pool in combinations(others, pool_size - 1)]
        found.append(np.mean(hits))
    return np.array(found)


@pytest.mark.parametrize("name", [name for name in ceilings.KNOWN if "own" not in name])
@pytest.mark.parametrize(("pool_size", "k"), [(2, 1), (4, 1), (5, 2)])
def test_every_pool_there_is_gives_the_closed_form(name, pool_size, k):
    records = records_of(7)
    found = ceilings.ceiling(records, ceilings.KNOWN[name])
    assert not isinstance(found, str)
    np.testing.assert_allclose(found.at(pool_size, k), by_hand(records, name, pool_size, k), atol=1e-12)


def test_a_twin_that_counts_the_own_patient_is_caught():
    """Reports of the query's own patient are in no pool: who leaves them in gets another figure."""
    records = records_of(7)
    found = ceilings.ceiling(records, ceilings.KNOWN["text"])
    keys = records.drop_duplicates("study_id")["report"].str.lower().str.strip()
    sizes = keys.value_counts()[records["report"].str.lower().str.strip()].to_numpy()
    n = np.full(len(sizes), len(keys) - 1)
    broken = ceilings.Ceiling(found.of, MatchCounts(0 * n, sizes - 1, n), 0.0, 0, 0)
    assert np.abs(broken.at(4) - by_hand(records, "text", 4, 1)).max() > 0.01


def test_pools_drawn_at_random_agree_within_their_error():
    records = records_of(300, seed=8)
    found = ceilings.ceiling(records, ceilings.KNOWN["findings+sex"])
    studies = records.drop_duplicates("study_id").reset_index(drop=True)
    words = np.array([str(row) for row in studies[[*LABELS, "sex"]].to_numpy().tolist()])
    rng, drawn, rows = np.random.default_rng(1), [], np.arange(0, len(records), 7)
    for at in rows:
        query = records.iloc[at]
        others = np.flatnonzero(studies["patient_id"] != query["patient_id"])
        own = words[np.argmax(studies["study_id"] == query["study_id"])]
        drawn.append([1 / (1 + (words[rng.permutation(others)[:49]] == own).sum()) for _ in range(60)])
    error = np.std(drawn, axis=1).mean() / np.sqrt(60 * len(rows))
    assert abs(np.mean(drawn) - found.at(50)[rows].mean()) < 5 * error


def test_full_is_the_number_of_classes_by_patient():
    """One study a patient: the sum over classes of c times 1/c, over all: how many classes there are."""
    table, left_out = ceilings.table(records_of(60), ["full"], unit="patients")
    assert left_out == {}
    for row in table.to_dict("records"):
        assert row["ceiling"] == pytest.approx(row["n_classes"] / row["n_queries"])
        assert row["n_queries"] == row["n_patients"] == 60
        assert row["ceiling_low"] <= row["ceiling"] <= row["ceiling_high"]


def test_more_knowledge_never_lowers_a_ceiling():
    table, _ = ceilings.table(records_of(60, own_labels="x"), [2, 10, 50, 10_000, "full"], (1, 5))
    assert 10_000 not in set(table["pool_size"])  # nobody fills it
    assert len(table[(table["pool_size"] == 2) & (table["k"] == 5)]) == 0
    at = table.set_index(["knows", "pool_size", "k"])["ceiling"]
    for less, more in (
        ("text", "text+sex+age"),
        ("findings", "findings+sex"),
        ("findings+sex", "findings+sex+decade"),
        ("findings+sex+decade", "findings+sex+age"),
    ):
        assert (at[more] >= at[less] - 1e-12).all()
    assert at["own-labels"].round(9).tolist() == table[table["knows"] == "own-labels"]["chance"].round(9).tolist()


def test_what_a_cohort_does_not_give_is_said():
    bare = records_of(40, sex="", age=np.nan, **dict.fromkeys(LABELS, np.nan))
    table, left_out = ceilings.table(bare, [10])
    assert set(table["knows"]) == {"text"}
    assert left_out["findings"] == "No record has labels."
    assert left_out["findings+sex+age"] == "No record has labels or sex or age."
    assert left_out["text+sex+age"] == "No record has sex or age."
    assert "cannot be said" in ceilings.findings_say(None, 100)
    with pytest.raises(InputError, match="two patients"):
        ceilings.of_cohort(bare[bare["patient_id"] == "p0"])


def test_no_scorer_passes_the_ceiling_of_the_text(tmp_path):
    """An entry whose images hold the very vector of their report reaches the ceiling, to the last digit."""
    records = toy_records(60)
    texts = np.random.default_rng(0).standard_normal((len(records), 24))[pd.factorize(records["report"])[0]]
    store = Store(tmp_path / "store")
    vectors = texts.astype("f4")
    made = import_arrays(read_back(records, tmp_path, "sure"), "m", vectors, vectors, store)
    study = audit.study(made)
    assert ceilings.by_vectors(made)
    rates = study.table([10, 50, "full"], (1, 5))
    table, _ = ceilings.table(study.queries, [10, 50, "full"], (1, 5), vectors=True)
    table = table[table["knows"] == "vector"]
    np.testing.assert_allclose(table["ceiling"], rates["recall"], rtol=1e-12)
    np.testing.assert_allclose(table["chance"], rates["chance"], rtol=1e-12)
