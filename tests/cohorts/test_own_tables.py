"""A manifest and a record table are read alike; splits, paths, sections and versions of reports of one's own data."""

import gzip
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.toy import toy_arrays, toy_records
from linkage_core.cohorts import files, folder, sections, table
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.registry import open_cohort
from linkage_core.cohorts.splits import chosen_splits
from linkage_core.cohorts.summary import summarise
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.store.entry import Store

READERS = ("folder", "import")


def read(root: Path, reader: str, frame: pd.DataFrame, **options: object) -> Cohort:
    """The frame as a manifest of images that are there, or as a record table."""
    if reader == "import":
        frame.to_csv(root / "records.csv", index=False)
        return table.read(root / "records.csv", "t", **options)  # type: ignore
    for image in frame["image"]:
        if "/" not in image and "\\" not in image:
            (root / image).touch()
    frame.to_csv(root / "manifest.csv", index=False)
    return folder.read(root, **options)  # type: ignore


def rows(n: int = 6, **columns: object) -> pd.DataFrame:
    """n rows, two a patient, every report another."""
    made = {
        "record_id": [f"r{i}" for i in range(n)],
        "image": [f"{i}.png" for i in range(n)],
        "patient_id": [f"p{i // 2}" for i in range(n)],
        "study_id": [f"s{i}" for i in range(n)],
        "report": [f"Report {i}." for i in range(n)],
    }
    return pd.DataFrame({**made, **columns})


@pytest.mark.parametrize("reader", READERS)
def test_values_and_names_of_columns(tmp_path: Path, reader: str) -> None:
    frame = rows(
        **{
            "View": ["LL", "ap", "PA view", "lateral", "", "NA"],
            "SEX": ["Male", "female", "f", "M", "", "nan"],
            "Age": ["045Y", "18M", "60", "", "N/A", "7.5"],
            "edema": ["1", "0", "-1", "", "1.0", "NA"],
            "Pleural-Effusion": ["1", "", "", "", "", ""],
            "enlarged_cardiomediastinum": ["0", "", "", "", "", ""],
        }
    ).rename(columns={"patient_id": "PatientID", "study_id": "Study ID"})
    records = read(tmp_path, reader, frame).records
    assert records["view"].tolist() == ["LATERAL", "AP", "PA", "LATERAL", "", ""]
    assert records["sex"].tolist() == ["M", "F", "F", "M", "", ""]
    np.testing.assert_array_equal(records["age"], [45, 1.5, 60, np.nan, np.nan, 7.5])
    np.testing.assert_array_equal(records["Edema"], [1, 0, -1, np.nan, 1, np.nan])
    assert records["Pleural Effusion"][0] == 1
    assert records["Enlarged Cardiomediastinum"][0] == 0
    assert records["patient_id"].tolist() == ["p0", "p0", "p1", "p1", "p2", "p2"]
    assert records.index.tolist() == list(range(6))


@pytest.mark.parametrize("reader", READERS)
def test_columns_that_come_twice_or_nearly(tmp_path: Path, reader: str) -> None:
    with pytest.raises(InputError, match="'patient_id' and 'Patient ID' for one column"):
        read(tmp_path, reader, rows(**{"Patient ID": "x"}))
    found = read(tmp_path, reader, rows(Pnuemonia="1", remark="x"))
    assert found.records["Pneumonia"].isna().all()
    assert any("'Pnuemonia'" in note and "Did you mean 'Pneumonia'" in note for note in found.understood.notes)


@pytest.mark.parametrize("reader", READERS)
def test_somebody_called_na_is_kept_and_counted(tmp_path: Path, reader: str) -> None:
    found = read(tmp_path, reader, rows(patient_id=["NA", "NA", "b", "b", "c", "c"], report=["None", *"abcde"]))
    assert found.records["patient_id"].tolist()[:2] == ["NA", "NA"]
    assert found.records["report"][0] == "None"
    notes = summarise(found)["notes"]
    assert "2 cells of patient_id with only a word for a gap, such as 'NA': kept as it stands" in notes
    assert "1 cell of report with only a word for a gap, such as 'None': kept as it stands" in notes


@pytest.mark.parametrize("reader", READERS)
def test_ids_that_are_nearly_equal(tmp_path: Path, reader: str) -> None:
    names = [unicodedata.normalize(form, "Mü") for form in ("NFC", "NFD")]
    found = read(tmp_path, reader, rows(patient_id=[*names, "P1", "p1", "07", "7"]))
    assert found.records["patient_id"].tolist() == [names[0], names[0], "P1", "p1", "07", "7"]
    assert any("with accents composed otherwise" in note for note in found.understood.notes)
    assert any(note.startswith("4 ids in patient_id") and "'P1' and 'p1'" in note for note in found.understood.notes)


@pytest.mark.parametrize("reader", READERS)
def test_blanks_before_quotes_are_noted(tmp_path: Path, reader: str) -> None:
    """A blank after the comma makes the quotes part of the text."""
    read(tmp_path, reader, rows(2))
    text = 'record_id, image, patient_id, study_id, report\nr0, 0.png, p0, s0, "Clear."\nr1, 1.png, p0, s1, Normal.\n'
    name = "manifest.csv" if reader == "folder" else "records.csv"
    (tmp_path / name).write_text(text)
    found = folder.read(tmp_path) if reader == "folder" else table.read(tmp_path / name, "t")
    assert found.records["report"][0] == '"Clear."'
    assert any("a blank before the quotes" in note for note in found.understood.notes)


def test_one_study_of_a_record_table_may_spell_its_report_twice(tmp_path: Path) -> None:
    """As in a folder: reports that differ in case and white space only are one."""
    found = read(tmp_path, "import", rows(2, study_id="s", report=["Clear lungs.", "clear  LUNGS. "]))
    assert found.records["report"].tolist() == ["Clear lungs."] * 2
    with pytest.raises(InputError, match="2 different reports"):
        read(tmp_path, "import", rows(2, study_id="s"))


def test_a_gzipped_manifest_is_found(tmp_path: Path) -> None:
    read(tmp_path, "folder", rows())
    packed = gzip.compress((tmp_path / "manifest.csv").read_bytes())
    (tmp_path / "manifest.csv.gz").write_bytes(packed)
    with pytest.raises(InputError, match=r"manifest\.csv and manifest\.csv\.gz"):
        folder.read(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    assert len(folder.read(tmp_path).records) == 6


def test_a_report_file_in_other_bytes_is_a_reject(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.xml").write_text("<broken")
    found = open_cohort("openi", tmp_path)
    assert found.rejects["item"].tolist() == [r"caf\xe9.xml"]


# Splits


@pytest.mark.parametrize("reader", READERS)
def test_splits_of_ones_own(tmp_path: Path, reader: str) -> None:
    said = ["train", "Train", "validate", "val", "held-out", "test"]
    frame = rows(split=said)
    found = read(tmp_path, reader, frame, splits="own")
    assert found.records["split"].tolist() == [*["finetune"] * 2, *["attacker"] * 2, *["heldout"] * 2]
    assert found.options["splits"] == "own"
    seeded = read(tmp_path, reader, frame)
    assert any("'split', which is not used" in note for note in seeded.understood.notes)
    assert (seeded.records["split"] == read(tmp_path, reader, frame.drop(columns="split")).records["split"]).all()
    for column, saying in (
        (["train", "test", *said[2:]], r"1 patients are in several splits .* 'p0'"),
        ([*said[:5], "later"], r"1 of 6 images have no split .* r5 \('later'\)"),
        ([*said[:4], "", ""], "2 of 6 images have no split"),
    ):
        with pytest.raises(InputError, match=saying):
            read(tmp_path, reader, rows(split=column), splits="own")
    with pytest.raises(InputError, match="has no column 'split'"):
        read(tmp_path, reader, rows(), splits="own")


@pytest.mark.parametrize("reader", READERS)
def test_shares_of_splits(tmp_path: Path, reader: str) -> None:
    frame = rows(400, patient_id=[f"p{i}" for i in range(400)])
    found = read(tmp_path, reader, frame, splits="20/30/50")
    counts = found.records["split"].value_counts(normalize=True)
    assert counts.to_dict() == pytest.approx({"finetune": 0.2, "attacker": 0.3, "heldout": 0.5}, abs=0.08)
    assert found.options["fractions"] == [0.2, 0.3, 0.5]
    options = {name: found.options[name] for name in ("splits", "fractions")}
    assert (read(tmp_path, reader, frame, **options).records["split"] == found.records["split"]).all()
    assert set(read(tmp_path, reader, frame, splits="0/0/1").records["split"]) == {"heldout"}


@pytest.mark.parametrize("splits", ["60/20", "60/20/30", "-10/60/50", "a/b/c", "own ", "seed", "nan/1/1", ""])
def test_splits_that_are_none(splits: str) -> None:
    with pytest.raises(InputError, match="splits is") as caught:
        chosen_splits(splits)
    assert "60/20/20" in caught.value.remedy


# Paths


def test_one_file_under_two_spellings_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "a" / "0.png")
    spelled = ["a/0.png", "./a/0.png", "a//0.png", "a/../a/0.png", "a\\0.png", "link.png"]
    frame = rows(image=spelled, patient_id=list("uvwxyz"))
    found = read(tmp_path, "folder", frame)
    assert found.records.empty
    assert found.rejects["reason"].tolist() == ["image-of-two-patients"] * 6
    one = read(tmp_path, "folder", frame.assign(patient_id="u"))
    assert one.records["image"].tolist() == ["a/0.png"] * 6
    assert summarise(one)["duplicate_images"]["files"] == 1
    alike = frame.assign(patient_id="u", study_id="s", report="Clear.").drop(columns="record_id")
    without = read(tmp_path, "folder", alike)
    assert without.records["record_id"].tolist() == ["a/0.png"]
    assert without.rejects["reason"].tolist() == ["duplicate-record"] * 5
    assert "row 1 again, spelled './a/0.png'" in without.rejects["what"][0]


def test_backslashes_and_accents_are_found_and_counted(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Mü é/Ä.png") for form in ("NFC", "NFD"))
    for name in (composed, "sub/1.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = read(tmp_path, "folder", rows(2, image=[apart, "sub\\1.png"]))
    assert found.records["image"].tolist() == [composed, "sub/1.png"]
    assert any(note.startswith("2 image paths spelled otherwise") for note in found.understood.notes)


@pytest.mark.parametrize("path", ["..\\x.png", "\\x.png", "sub\\..\\..\\x.png", "c:\\x.png", "\\\\host\\x.png"])
def test_backslashes_do_not_lead_out(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "x.png").touch()
    found = files.Present(root).find(path)
    assert found.problem is not None
    assert found.problem.reason in ("missing-file", "outside-root")


def test_other_capitals_and_other_bytes_are_named_in_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "Sub").mkdir()
    (tmp_path / "Sub" / "A.PNG").touch()
    (tmp_path / "M\udcfcller.png").touch()
    present = files.Present(tmp_path)
    problem = present.problem("sub/a.png")
    assert problem is not None
    assert "There is Sub/A.PNG" in problem.remedy
    problem = present.problem("Müller.png")
    assert problem is not None
    assert r"There is M\xfcller.png" in problem.remedy
    assert "UTF-8" in problem.remedy
    (tmp_path / "sub").mkdir()  # now there are two that differ in capitals: neither is named
    problem = files.Present(tmp_path).problem("SUB/a.png")
    assert problem is not None
    assert "capitals" not in problem.remedy


def test_a_folder_in_other_bytes_is_a_sentence(tmp_path: Path) -> None:
    root = tmp_path / "d\udcfc"
    root.mkdir()
    for kind in ("folder", "openi", "mimic-cxr"):
        with pytest.raises(InputError, match="not UTF-8") as caught:
            open_cohort(kind, root)
        str(caught.value).encode()
    with pytest.raises(InputError, match="not UTF-8"):
        table.read(root / "records.csv", "t")


# Sections


STRUCTURED = (
    "EXAM: CHEST\nFINDINGS:\nLUNGS: Clear.\nHEART: Enlarged.\n\n"
    "IMPRESSION:\n1. Cardiomegaly.\n2. RIGHT UPPER LOBE: 8 mm nodule.\n"
)
WET = "WET READ: ___ 4:23 AM\n No effusion.\n"


def test_a_folder_cuts_its_reports_as_every_reader_does(tmp_path: Path) -> None:
    frame = rows(1, report=STRUCTURED)
    for section, text in (
        ("findings", "LUNGS: Clear. HEART: Enlarged."),
        ("impression", "1. Cardiomegaly. 2. RIGHT UPPER LOBE: 8 mm nodule."),
    ):
        assert read(tmp_path, "folder", frame, section=section).records["report"].tolist() == [text]
        assert sections.select(STRUCTURED, section) == text
    assert read(tmp_path, "folder", frame).records["report"].tolist() == [STRUCTURED.strip()]


def test_a_report_that_is_only_a_wet_read_is_said_to_be_one(tmp_path: Path) -> None:
    frame = rows(3, report=[WET, f"{WET}FINAL REPORT\nIMPRESSION: No effusion.", "Wet lungs."])
    assert [sections.only_wet_read(report) for report in frame["report"]] == [True, False, False]
    found = read(tmp_path, "folder", frame)
    assert "1 study with only a wet read (a first, hurried reading) for a report" in summarise(found)["notes"]
    found = read(tmp_path, "folder", frame, section="impression")
    assert "only a wet read" in found.rejects["what"][0]
    assert "wet read" not in found.rejects["what"][1]


# What was understood


@pytest.mark.parametrize("reader", READERS)
def test_the_summary_shows_what_was_understood(tmp_path: Path, reader: str) -> None:
    frame = rows(3, age=["7", "", "81Y"], remark="x", edema=["1", "", "0"], report=["w " * 200, "\x1b[31mred", "c"])
    found = summarise(read(tmp_path, reader, frame.rename(columns={"patient_id": "Patient ID"})))
    name = "manifest.csv" if reader == "folder" else "records.csv"
    assert found["columns"][name]["taken"]["patient_id"] == "Patient ID"
    assert found["columns"][name]["left"] == (["remark"] if reader == "folder" else ["image", "remark"])
    assert found["age"] == {"lowest": 7, "highest": 81}
    first, second = found["first"]
    assert (first["record_id"], first["patient_id"], first["age"]) == ("r0", "p0", 7)
    assert first["labels"] == {"Edema": 1}
    assert first["report"].endswith("...")
    assert len(first["report"]) < 90
    assert second["age"] is None
    assert "\x1b" not in second["report"]


def test_a_cohort_without_an_age_has_no_range(tmp_path: Path) -> None:
    assert summarise(read(tmp_path, "import", rows()))["age"] == {}


def test_the_index_of_records_does_not_say_which_vector_is_whose(tmp_path: Path) -> None:
    """Features are those of the same rows, whatever the frame's index."""
    records = toy_records(12)
    images, texts = toy_arrays(records, 1.0)
    records.to_csv(tmp_path / "records.csv", index=False)
    right = table.read(tmp_path / "records.csv", "right")
    entries = []
    counted = right.records.index
    for name, index in (("right", counted), ("high", counted + 7), ("back", counted[::-1])):
        cohort = Cohort(**{**vars(right), "name": name, "records": right.records.set_axis(index)})
        entries.append(import_arrays(cohort, "m", images, texts, Store(tmp_path / "store")).embeddings())
    for entry in entries[1:]:
        np.testing.assert_array_equal(entry.images, entries[0].images)
        np.testing.assert_array_equal(entry.reports[entry.match], entries[0].reports[entries[0].match])


def test_versions_of_a_report_are_one_study_and_counted(tmp_path: Path) -> None:
    """CheXpert Plus as published: one study's images carry its report de-identified with other dates."""
    paths = [f"train/patient00001/study{study}/view{view}_frontal.jpg" for study in (1, 2) for view in (1, 2)]
    pd.DataFrame(
        {
            "path_to_image": paths,
            "deid_patient_id": "patient00001",
            "report": "x",
            "section_findings": "",
            "section_impression": ["3/18/2009 Clear.", "2021-2-6 Clear.", "Normal.", "normal. "],
        }
    ).to_csv(tmp_path / "df_chexpert_plus_240401.csv", index=False)
    found = open_cohort("chexpert-plus", tmp_path)
    assert found.rejects.empty
    assert found.records["report"].tolist() == ["3/18/2009 Clear."] * 2 + ["Normal."] * 2
    notes = [note for note in summarise(found)["notes"] if "several versions" in note]
    assert len(notes) == 1
    assert notes[0].startswith("1 study with several versions")
    assert "in 1 image instead" in notes[0]
