"""The folder of an audit: every table, what its columns mean, the same figures as the functions the pages call."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers.toy import read_back, toy_records
from linkage_core.audit import ceilings, compare, exposure, fusion, open_world, strata
from linkage_core.audit import study as audit
from linkage_core.audit.full import LONGEST_CSV, SECTIONS, TABLES, FullAudit, Fused, Settings, write
from linkage_core.cohorts import table as record_table
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, StoreError
from linkage_core.store.entry import Store

QUICK = Settings(pool_sizes=(10, "full"), ks=(1, 5), rules=("score",), priors=(0.5,), galleries=("other",))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("full")
    store = Store(folder / "store")
    for cohort in ("toy", "other"):
        for model, signal in (("weak", 0.4), ("strong", 1.0)):
            records = toy_records(80)
            if cohort == "other":
                for column in ("record_id", "patient_id", "study_id"):
                    records[column] = "o" + records[column]
            records["record_id"] = "=" + records["record_id"]  # what a spreadsheet would run
            rng = np.random.default_rng(len(cohort))
            texts = rng.standard_normal((len(records), 16))[pd.factorize(records["report"])[0]]
            images = signal * texts + rng.standard_normal(texts.shape)
            read = read_back(records, folder, cohort)
            import_arrays(read, model, images.astype("f4"), texts.astype("f4"), store, store_text=True)
    return store


@pytest.fixture(scope="module")
def made(store) -> FullAudit:
    made = FullAudit(store, "toy", ["weak", "strong"], QUICK)
    made.tables()
    return made


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit") / "of toy"
    write(made, folder)
    return folder


def rows_of(table: pd.DataFrame, **wanted) -> pd.DataFrame:
    for name, value in wanted.items():
        table = table[table[name] == value]
    return table.reset_index(drop=True)


def same(table: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(table[list(expected)], expected, check_dtype=False)


def test_ceilings_of_the_text_stand_beside_those_of_imported_vectors(store, monkeypatch):
    monkeypatch.setattr(ceilings, "by_vectors", lambda entry: entry.model == "weak")
    for models in (["weak", "strong"], ["strong", "weak"]):
        table = FullAudit(store, "toy", models, QUICK).tables(["ceilings"])["ceilings"]
        assert set(table["model"][table["knows"] == "vector"]) == {"weak"}
        assert set(table["model"][table["knows"] == "text"]) == {""}


def test_every_table_is_there_and_every_column_has_a_meaning(folder):
    said = json.loads((folder / "audit.json").read_text())
    assert set(said["tables"]) == set(TABLES) == {name for names in SECTIONS.values() for name in names}
    for name, about in said["tables"].items():
        table = pd.read_parquet(folder / f"{name}.parquet")
        assert len(table) == about["rows"] > 0, name
        assert list(about["columns"]) == list(table.columns), name
        assert all(len(meaning) > 5 for meaning in about["columns"].values())
        assert about["question"].endswith("?")
        for file, digest in about["sha256"].items():
            assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
    assert said["provenance"]["models"]["strong"]["inputs"]
    assert said["provenance"]["settings"]["pool_sizes"] == [10, "full"]
    assert "lower bounds" in said["cannot_tell"]


def test_the_csv_says_what_the_parquet_says_and_runs_nothing(folder):
    for path in folder.glob("*.csv"):
        text = path.read_text()
        assert not re.search(r"(^|,)\"?[=@]", text, re.MULTILINE), path.name
        table, again = pd.read_parquet(path.with_suffix(".parquet")), pd.read_csv(path)
        assert list(again.columns) == list(table.columns)
        for column in table.select_dtypes("number"):
            np.testing.assert_allclose(again[column].astype(float), table[column].astype(float), rtol=1e-6)


def test_figures_are_those_of_the_functions_behind_the_pages(store, made):
    entry = store.open("toy", "strong")
    study = audit.study(entry)
    tables = made.tables()
    recall = rows_of(tables["recall"], model="strong", direction="image-to-report", pool="other-patients")
    same(recall, study.table([10, "full"], [1, 5]))
    both = [audit.study(store.open("toy", model)) for model in ("weak", "strong")]
    same(rows_of(tables["models_compared"], pool_size=10, k=5), compare.compare(both, 10, 5))
    single = exposure.exposure(study, 10)
    same(rows_of(tables["exposure"], model="strong"), single)
    same(rows_of(tables["exposure_associations"], model="strong"), exposure.associations(single, study.queries))
    same(rows_of(tables["exposure_groups"], model="strong", by="sex"), exposure.groups(single, study.queries, "sex"))
    known = open_world.open_world(entry, 10, 0.5)
    same(rows_of(tables["open_world_operating"], model="strong"), known.operating)
    same(rows_of(tables["open_world_curve"], model="strong"), known.curve)
    hard = audit.study(entry, pool="same-findings")
    auc = rows_of(tables["label_matched_auc"], model="strong", pool="same-findings").iloc[0]
    assert auc["estimate"] == hard.label_matched_auc()["estimate"]
    checked = strata.verification(hard.queries, hard.counts, texts=entry.stored_reports())
    same(rows_of(tables["strata_balance"], pool="same-findings"), checked.balance)
    assert (tables["strata_balance"]["measure"].str.contains("Jaccard")).any()
    one = fusion.fusion_table(entry, [10], [1], images_by="study")
    same(
        rows_of(
            tables["fusion"], **{c: one[c][0] for c in ("model", "direction", "images_by", "reports_by", "hit", "k")}
        ),
        one,
    )
    assert set(tables["sites"]["gallery_cohort"]) == {"toy", "other"}


def test_both_directions_and_every_pool_are_in_the_recall_table(made):
    recall = made.tables(["recall"])["recall"]
    assert set(recall["direction"]) == set(audit.DIRECTIONS)
    assert set(recall["pool"]) == {*audit.POOLS, "same-findings+view+sex"}


def test_a_cohort_without_labels_or_a_second_model_says_what_is_left_out(tmp_path):
    store = Store(tmp_path / "store")
    records = toy_records(40).drop(columns="Pneumonia")
    records.to_csv(tmp_path / "records.csv", index=False)
    vectors = np.random.default_rng(0).standard_normal((records["study_id"].nunique(), 8)).astype("f4")
    texts = vectors[pd.factorize(records["report"])[0]]
    import_arrays(record_table.read(tmp_path / "records.csv", "bare"), "m", texts + 1, texts, store)
    with pytest.raises(StoreError, match="no other/m"):
        FullAudit(store, "bare", ["m"], QUICK)
    made = FullAudit(store, "bare", ["m"], replace(QUICK, galleries=()))
    said = write(made, tmp_path / "out")
    assert "No record has any of the 14 labels" in said["left_out"]["label_matched_auc"]
    assert "one model" in said["left_out"]["models_compared"]
    assert not {"models_compared", "strata_sizes", "label_matched_auc"} & set(said["tables"])
    assert {"recall", "exposure", "open_world_curve"} <= set(said["tables"])
    assert not (tmp_path / "out" / "strata_sizes.parquet").exists()


def test_an_audit_never_overwrites(made, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        write(made, tmp_path)
    with pytest.raises(InputError, match="not an empty folder"):
        write(made, tmp_path / "notes.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_was_cut_short_has_no_audit_json(made, tmp_path, monkeypatch):
    monkeypatch.setattr("linkage_core.audit.full.csv", lambda table: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(made, tmp_path / "out")
    assert not (tmp_path / "out" / "audit.json").exists()


def test_long_tables_are_parquet_only(made, tmp_path, monkeypatch):
    assert LONGEST_CSV > 1000
    monkeypatch.setattr("linkage_core.audit.full.LONGEST_CSV", 50)
    write(made, tmp_path / "out")
    assert not (tmp_path / "out" / "exposure.csv").exists()
    assert (tmp_path / "out" / "exposure.parquet").exists()
    assert (tmp_path / "out" / "exposure_tail.csv").exists()


def test_one_way_of_fusing_alone(store):
    settings = Settings(pool_sizes=(10,), ks=(1,), fused=Fused("study", None, "text"))
    table = FullAudit(store, "toy", ["strong"], settings).tables(["fusion"])["fusion"]
    assert len(table) == 1
    assert table["images_by"][0] == "study"
    assert "text" in table["hit"][0]


def test_an_unknown_section_names_those_there_are(store):
    with pytest.raises(InputError, match="There is no section 'all'") as error:
        FullAudit(store, "toy", ["strong"]).tables(["all"])
    assert "open world" in error.value.remedy
