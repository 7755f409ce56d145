"""MIMIC-CXR, MIMIC-CXR-JPG and CheXpert Plus in small, hand-made folders."""

import gzip
import json
import shutil
import warnings
import zipfile
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom import dcmread

from linkage_core import confirmed
from linkage_core.cli import main
from linkage_core.cohorts import chexpert_plus, fields, mimic_cxr, openi
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.phantom import layouts, population
from linkage_core.cohorts.registry import open_cohort, source_for
from linkage_core.cohorts.summary import summarise
from linkage_core.errors import ImageError, InputError

STUDIES = 24


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    studies = list(islice(population.studies_of_split("A", "heldout"), STUDIES))
    for layout in layouts.LAYOUTS:
        layouts.export_layout(root / layout, layout, studies, size=32)
    return root


@pytest.fixture
def folder(exported, tmp_path, request):
    return shutil.copytree(exported / request.param, tmp_path / request.param)


def table_of(folder, name):
    path = folder / name
    return pd.read_csv(path, dtype="str", keep_default_na=False)


def reasons(cohort):
    return cohort.rejects["reason"].value_counts().to_dict()


def as_plain_csv(folder):
    """Every .csv.gz as .csv."""
    for path in folder.glob("*.csv.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


mimic = pytest.mark.parametrize("folder", ["mimic-cxr", "mimic-cxr-jpg"], indirect=True)
jpg = pytest.mark.parametrize("folder", ["mimic-cxr-jpg"], indirect=True)
dicom = pytest.mark.parametrize("folder", ["mimic-cxr"], indirect=True)
chexpert = pytest.mark.parametrize("folder", ["chexpert-plus"], indirect=True)
both_published = pytest.mark.parametrize("folder", ["mimic-cxr", "mimic-cxr-jpg", "chexpert-plus"], indirect=True)


@both_published
def test_plain_and_gzipped_tables_are_one(folder):
    before = open_cohort(folder.name, folder).records
    as_plain_csv(folder)
    pd.testing.assert_frame_equal(open_cohort(folder.name, folder).records, before)
    for path in folder.glob("*.csv"):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    pd.testing.assert_frame_equal(open_cohort(folder.name, folder).records, before)


@both_published
def test_the_datasets_own_split(folder):
    cohort = open_cohort(folder.name, folder, splits="own")
    names = {"train": "finetune", "validate": "attacker", "test": "heldout", "valid": "heldout"}
    assert (cohort.records["own_split"].map(names) == cohort.records["split"]).all()
    assert cohort.records["split"].nunique() > 1
    assert cohort.records.groupby("patient_id")["split"].nunique().max() == 1
    seeded = open_cohort(folder.name, folder)
    assert (seeded.records["own_split"] == cohort.records["own_split"]).all()
    assert (seeded.records["split"] != cohort.records["split"]).any()
    assert open_cohort(folder.name, folder, **seeded.options).options == seeded.options
    with pytest.raises(InputError, match="seeded, own"):
        open_cohort(folder.name, folder, splits="random")
    everyone = open_cohort(folder.name, folder, fractions=[0, 0, 1])
    assert set(everyone.records["split"]) == {"heldout"}
    with pytest.raises(InputError, match="fractions"):
        open_cohort(folder.name, folder, fractions=[0.5, 0.5])


@mimic
def test_a_patient_in_two_own_splits_is_named(folder):
    path = folder / "mimic-cxr-2.0.0-split.csv.gz"
    table = table_of(folder, path.name)
    twice = table["subject_id"][table["subject_id"].duplicated()].iloc[0]
    at = table.index[table["subject_id"] == twice]
    table.loc[at[0], "split"] = "validate" if table.loc[at[1], "split"] != "validate" else "test"
    table.to_csv(path, index=False)
    cohort = open_cohort(folder.name, folder)
    assert reasons(cohort) == {"patient-in-two-splits": len(at)}
    assert cohort.rejects["what"].str.contains(twice).all()
    assert twice not in set(cohort.records["patient_id"])


@mimic
def test_own_split_without_its_table(folder):
    (folder / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    with pytest.raises(InputError, match="no split of the dataset's own"):
        open_cohort(folder.name, folder, splits="own")
    assert set(open_cohort(folder.name, folder).records["own_split"]) == {""}


@mimic
def test_labels_by_either_labeler(folder):
    table = table_of(folder, "mimic-cxr-2.0.0-chexpert.csv.gz")
    table["Fracture"] = "-1.0"
    table.to_csv(folder / "mimic-cxr-2.0.0-negbio.csv.gz", index=False)
    assert not (open_cohort(folder.name, folder).records["Fracture"] == -1).all()
    chosen = open_cohort(folder.name, folder, labels="negbio")
    assert (chosen.records["Fracture"] == -1).all()
    assert chosen.options["labels"] == "negbio"
    table["Fracture"] = "2"
    table.to_csv(folder / "mimic-cxr-2.0.0-negbio.csv.gz", index=False)
    with pytest.raises(InputError, match="Fracture"):
        open_cohort(folder.name, folder, labels="negbio")
    for path in folder.glob("*-chexpert.csv.gz"):
        path.unlink()
    for path in folder.glob("*-negbio.csv.gz"):
        path.unlink()
    assert open_cohort(folder.name, folder).records[list(LABELS)].isna().all(axis=None)
    with pytest.raises(InputError, match="chexpert"):
        open_cohort(folder.name, folder, labels="chexpert")
    with pytest.raises(InputError, match="negbio"):
        open_cohort(folder.name, folder, labels="mine")


@mimic
def test_what_is_missing_is_a_reject(folder):
    before = open_cohort(folder.name, folder)
    gone, cut = before.records["patient_id"].unique()[:2]
    shutil.rmtree(folder / "files" / "p10" / f"p{gone}")
    image = before.records[before.records["patient_id"] == cut].iloc[0]
    (folder / image["image"]).unlink()
    cohort = open_cohort(folder.name, folder)
    assert reasons(cohort) == {"missing-file": (before.records["patient_id"] == gone).sum()}
    assert len(cohort.records) + len(cohort.rejects) == len(before.records)
    with pytest.raises(ImageError) as caught:  # one file within a folder is found out when it is read
        cohort.read_image(image)
    assert caught.value.reason == "missing-file"
    checked = open_cohort(folder.name, folder, check_images=True)
    assert set(checked.rejects["item"]) == set(cohort.rejects["item"]) | {image["record_id"]}
    shutil.rmtree(folder / "files" / "p10")
    if folder.name == "mimic-cxr-jpg":  # its reports lie elsewhere
        empty = open_cohort(folder.name, folder)
        assert set(empty.records["image"]) == {""}
        assert summarise(empty)["notes"] == [f"reports only: {len(before.records)} images named, none present"]
    else:
        with pytest.raises(InputError, match="no reports"):
            open_cohort(folder.name, folder)


@jpg
def test_reports_from_a_folder_or_sectioned(folder):
    before = open_cohort(folder.name, folder).records
    archive = folder / "mimic-cxr-reports.zip"
    with zipfile.ZipFile(archive) as members:
        members.extractall(folder / "mimic-cxr-reports")
    archive.unlink()
    pd.testing.assert_frame_equal(open_cohort(folder.name, folder).records, before)
    rows = []
    for study in before["study_id"].unique():
        parts = {
            name: open_cohort(folder.name, folder, section=name).records.set_index("study_id")["report"].get(study, "")
            for name in ("findings", "impression")
        }
        parts = {name: text if isinstance(text, str) else text.iloc[0] for name, text in parts.items()}
        rows.append({"study": f"s{study}", **parts, "last_paragraph": "", "comparison": ""})
        if len(rows) == 4:
            break
    rows[3] |= {"findings": "", "impression": "", "last_paragraph": " The lungs\n are clear. "}
    shutil.rmtree(folder / "mimic-cxr-reports")
    pd.DataFrame(rows).to_csv(folder / "mimic_cxr_sectioned.csv", index=False)
    cohort = open_cohort(folder.name, folder)
    assert reasons(cohort) == {"missing-report": (~before["study_id"].isin(cohort.records["study_id"])).sum()}
    got = cohort.records.drop_duplicates("study_id").set_index("study_id")["report"]
    wanted = before.drop_duplicates("study_id").set_index("study_id")["report"]
    assert (got.iloc[:3] == wanted.iloc[:3]).all()
    assert got.iloc[3] == "The lungs are clear."
    with pytest.raises(InputError, match="whole"):
        open_cohort(folder.name, folder, section="whole")


@mimic
def test_a_report_without_the_section(folder):
    cohort = open_cohort(folder.name, folder, section="findings")
    assert 0 < reasons(cohort)["empty-report"] < len(cohort.records)
    assert len(cohort.records) + len(cohort.rejects) == len(open_cohort(folder.name, folder).records)
    whole = open_cohort(folder.name, folder, section="whole").records["report"]
    assert whole.str.startswith("FINAL REPORT EXAMINATION:").all()


@dicom
def test_views_from_headers_or_metadata(folder, exported):
    with_headers = open_cohort("mimic-cxr", folder).records
    assert set(with_headers["view"]) == {"PA", "AP", "LATERAL"}
    without = open_cohort("mimic-cxr", folder, headers=False).records
    assert set(without["view"]) == {""}
    assert without["age"].isna().all()  # the header has the date of the study
    shutil.copy(exported / "mimic-cxr-jpg" / "mimic-cxr-2.0.0-metadata.csv.gz", folder)
    pd.testing.assert_frame_equal(open_cohort("mimic-cxr", folder, headers=False).records, with_headers)


@dicom
def test_headers_read_by_threads_are_those_read_one_by_one(folder, monkeypatch):
    images = open_cohort("mimic-cxr", folder, headers=False).records["image"].sample(frac=1, random_state=0)
    images.iloc[5] = "files/none.dcm"
    slow = []
    for image in images:
        path = folder / image
        header = dcmread(path) if path.exists() else {}
        slow.append((fields.view(header.get("ViewPosition", "")), float(header.get("StudyDate", "nan")[:4])))
    told = []
    found = mimic_cxr._of_headers(folder, images, lambda *now: told.append(now))
    np.testing.assert_equal(list(zip(found["view"], found["year"], strict=True)), slow)
    assert told == [(len(images), len(images))]
    told.clear()
    open_cohort("mimic-cxr", folder, progress=lambda *now: told.append(now))  # the option of every reader
    assert told == [(len(images), len(images))]


@mimic
def test_lists_that_are_not_there(folder):
    before = open_cohort(folder.name, folder).records.set_index("record_id").sort_index()
    for path in (*folder.glob("cxr-*"), *folder.glob("*-metadata*")):
        path.unlink()
    if folder.name == "mimic-cxr":
        (folder / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    walked = open_cohort(folder.name, folder).records.set_index("record_id").sort_index()
    columns = ["patient_id", "study_id", "image", "report", *LABELS]
    pd.testing.assert_frame_equal(walked[columns], before[columns])


@mimic
def test_the_source_of_a_stored_cohort(folder):
    cohort = open_cohort(folder.name, folder)
    note = {
        "name": cohort.name,
        "kind": cohort.kind,
        "root": str(folder),
        "options": json.loads(json.dumps(cohort.options)),
    }
    row = cohort.records.iloc[3]
    confirmed.confirm(Path(note["root"]))
    assert source_for(note).read_report(row["study_id"]) == row["report"]
    assert source_for(note).read_image(row).pixels.shape == (32, 32)


@mimic
@pytest.mark.parametrize(
    ("column", "value", "match"),
    [("dicom_id", "../../etc/x", "ids"), ("subject_id", "p1/..", "ids"), ("study_id", "", "ids")],
)
def test_ids_that_are_none(folder, column, value, match):
    name = "cxr-record-list.csv.gz" if folder.name == "mimic-cxr" else "mimic-cxr-2.0.0-metadata.csv.gz"
    table = table_of(folder, name)
    table.loc[2, column] = value
    table.to_csv(folder / name, index=False)
    with pytest.raises(InputError, match=match):
        open_cohort(folder.name, folder)


@mimic
def test_images_listed_twice_and_studies_of_two_patients(folder):
    name = "cxr-record-list.csv.gz" if folder.name == "mimic-cxr" else "mimic-cxr-2.0.0-metadata.csv.gz"
    table = table_of(folder, name)
    first, second = table["subject_id"].unique()[:2]
    one = table.loc[table["subject_id"] == first, "study_id"].iloc[0]
    table.loc[table.index[table["subject_id"] == second][0], "study_id"] = one
    pd.concat([table, table.iloc[[-1]]]).to_csv(folder / name, index=False)
    cohort = open_cohort(folder.name, folder)
    found = reasons(cohort)
    assert found["duplicate-record"] == 1
    assert found["study-of-two-patients"] == (table["study_id"] == one).sum()
    assert one not in set(cohort.records["study_id"])
    assert cohort.records["record_id"].is_unique


@both_published
def test_damaged_tables_are_one_sentence(folder):
    paths = [*folder.glob("*-chexpert.csv.gz"), *folder.glob("df_*.csv")]
    whole = paths[0].read_bytes()
    for data in (b"", b"\x1f\x8b broken", whole[: len(whole) // 2], b"a,b\n1,2\n", b"\xff\xfe\x00"):
        paths[0].write_bytes(data)
        with pytest.raises(InputError):
            open_cohort(folder.name, folder)


@chexpert
def test_chexpert_plus_columns_are_the_published_ones(folder):
    header = (folder / "df_chexpert_plus_240401.csv").read_text().split("\n", 1)[0]
    assert header == (
        ",path_to_image,path_to_dcm,frontal_lateral,ap_pa,deid_patient_id,patient_report_date_order,report,"
        "section_narrative,section_clinical_history,section_history,section_comparison,section_technique,"
        "section_procedure_comments,section_findings,section_impression,section_end_of_impression,section_summary,"
        "section_accession_number,age,sex,race,ethnicity,interpreter_needed,insurance_type,recent_bmi,deceased,split"
    )


@chexpert
def test_chexpert_plus_labels_as_json_zip_or_csv(folder):
    before = open_cohort("chexpert-plus", folder).records
    source = folder / "chexbert_labels"
    with zipfile.ZipFile(folder / "chexbert_labels.zip", "w") as archive:
        archive.write(source / "impression_fixed.json", "chexbert_labels/impression_fixed.json")
    rows = [json.loads(line) for line in (source / "report_fixed.json").read_text().splitlines()]
    shutil.rmtree(source)
    pd.testing.assert_frame_equal(open_cohort("chexpert-plus", folder).records, before)
    (folder / "chexbert_labels.zip").unlink()
    pd.DataFrame(rows).to_csv(folder / "report_fixed.csv", index=False)
    from_csv = open_cohort("chexpert-plus", folder)
    pd.testing.assert_frame_equal(from_csv.records, before)
    assert from_csv.options["labels"] == "report_fixed"
    (folder / "impression_fixed.json").write_text('{"path_to_image": "train/a/b/c.jpg", "Edema": 3}\n')
    with pytest.raises(InputError, match="Edema"):
        open_cohort("chexpert-plus", folder)
    (folder / "impression_fixed.json").write_text('{"path": 1}\n')
    with pytest.raises(InputError, match="line 1"):
        open_cohort("chexpert-plus", folder)


@chexpert
def test_chexpert_plus_images_wherever_they_were_unpacked(folder):
    assert open_cohort("chexpert-plus", folder).records["image"].str.startswith("PNG/").all()
    (folder / "PNG").rename(folder / "other")
    (folder / "PNG").mkdir()
    (folder / "other").rename(folder / "PNG" / "PNG")
    assert open_cohort("chexpert-plus", folder).records["image"].str.startswith("PNG/PNG/").all()
    (folder / "PNG" / "PNG" / "train").rename(folder / "train")
    cohort = open_cohort("chexpert-plus", folder, images="")
    assert cohort.records["image"].str.startswith("PNG/PNG/valid").all()  # the first place that has any
    assert set(reasons(cohort)) == {"missing-file"}
    shutil.rmtree(folder / "PNG")
    assert open_cohort("chexpert-plus", folder).records["image"].str.fullmatch(r"train/.*\.png").all()
    shutil.rmtree(folder / "train")
    without = open_cohort("chexpert-plus", folder)
    assert set(without.records["image"]) == {""}
    with pytest.raises(
        ImageError, match=r"no images of the table; looked for PNG/train/\*\.png, .*DICOM/train/\*\.dcm"
    ):
        without.read_image(without.records.iloc[0])
    with pytest.raises(InputError, match="none of the images"):
        open_cohort("chexpert-plus", folder, images="DICOM")
    with pytest.raises(InputError, match="CheXpert-v1"):
        open_cohort("chexpert-plus", folder, images="/etc")


@chexpert
def test_chexpert_plus_rows_that_cannot_stay(folder):
    path = folder / "df_chexpert_plus_240401.csv"
    table = table_of(folder, path.name)
    study = table["path_to_image"].str.rsplit("/", n=1).str[0]
    twice = study[study.duplicated()].iloc[0]
    table.loc[study.index[study == twice][0], "section_impression"] = "Something else."
    table.loc[0, ["section_findings", "section_impression", "report"]] = ["", "", " IMPRESSION: From the report."]
    table.loc[1, "deid_patient_id"] = ""
    table.to_csv(path, index=False)
    cohort = open_cohort("chexpert-plus", folder)
    assert reasons(cohort) == {"no-patient": 1}
    assert cohort.records["report"].iloc[0] == "From the report."
    table.loc[2, "path_to_image"] = "../../etc/passwd"
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match="row 3"):
        open_cohort("chexpert-plus", folder)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
@pytest.mark.parametrize("section", ["both", "findings", "impression"])
def test_exported_and_read_back(exported, layout, section):
    """Patients, studies, images, labels, views and reports by section are those of the phantom."""
    cohort = open_cohort(layout, exported / layout, section=section)
    found = layouts.compare(cohort, size=32)
    limit = {"mimic-cxr": 1, "mimic-cxr-jpg": 65535, "chexpert-plus": 129, "openi": 129}[layout]
    assert found.pop("images_compared") > STUDIES // 2
    assert found.pop("largest_pixel_difference") <= limit
    assert found.pop("mean_pixel_difference") < 400
    rejects = found.pop("rejects")
    assert rejects == (0 if section == "both" else reasons(cohort)["empty-report"] if rejects else 0)
    expected = {"openi": {"patients", "views", "sex", "age", "denied_labels"}}.get(layout, set())
    assert {name for name, count in found["differences"].items() if count} <= expected
    assert (exported / layout / "README.txt").read_text().startswith("SYNTHETIC")


def test_dicom_of_chexpert_plus_and_bad_requests(tmp_path):
    studies = list(islice(population.studies_of_split("A", "heldout"), 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pydicom's, of values that DICOM does not allow
        layouts.export_layout(tmp_path / "dicom", "chexpert-plus", studies, size=32, dicom=True)
    named = [dcmread(path).StudyID for path in (tmp_path / "dicom").rglob("*.dcm")]
    assert len(set(named)) == len(studies)
    assert max(map(len, named)) <= 16
    cohort = open_cohort("chexpert-plus", tmp_path / "dicom")
    assert cohort.records["image"].str.fullmatch(r"DICOM/.*\.dcm").all()
    assert layouts.compare(cohort, size=32)["largest_pixel_difference"] <= 1
    no_dicom = {"layout": "mimic-cxr-jpg", "dicom": True}, {"dicom": True}
    for wrong in ({"layout": "padchest"}, {"directory": tmp_path}, {"studies": []}, *no_dicom):
        arguments = {"directory": tmp_path / "new", "layout": "openi", "studies": studies} | wrong
        with pytest.raises(InputError):
            layouts.export_layout(**arguments)


def test_labels_and_image_folder_are_chosen_on_the_command_line(exported, tmp_path, capsys):
    folder = shutil.copytree(exported / "chexpert-plus", tmp_path / "plus")
    shutil.copytree(folder / "PNG", folder / "PNG" / "PNG")
    labels = folder / "chexbert_labels"
    (labels / "report_fixed.json").write_text((labels / "report_fixed.json").read_text().replace("1.0", "0.0"))
    said = []
    for more in ((), ("--labels", "report_fixed", "--image-folder", "PNG/PNG")):
        with pytest.raises(SystemExit) as ended:
            main.main(["cohort", "chexpert-plus", str(folder), "--no-images", *more, "--json", "-"])
        assert not ended.value.code
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] != said[1]
    for kind, option, value in (("openi", "--labels", "negbio"), ("mimic-cxr-jpg", "--image-folder", "PNG")):
        with pytest.raises(SystemExit) as ended:
            main.main(["cohort", kind, str(exported / kind), option, value])
        assert ended.value.code == 2
        what = capsys.readouterr().err
        assert f"A {kind} cohort has no choice of" in what
        assert "keyword" not in what
        assert "chexpert-plus" in what  # one that has it


def test_every_column_of_a_record_has_its_type(exported):
    for layout in layouts.LAYOUTS:
        records = open_cohort(layout, exported / layout).records
        assert all(records[label].dtype == np.float64 for label in (*LABELS, "age"))
        assert all(records[name].dtype == "str" for name in ("record_id", "patient_id", "report", "view", "split"))


def test_the_published_table_names():
    assert len(chexpert_plus.COLUMNS) == 27


def test_every_label_has_a_heading_that_open_i_reads_as_that_label():
    assert set(layouts.MESH) == set(LABELS)
    for label, heading in layouts.MESH.items():
        assert openi.labels_of([heading], []) == {label: 1.0}
        assert openi.labels_of([f"{heading}/borderline"], []) == {label: -1.0}
