"""Write the phantom out in the layouts of published collections, so that their readers are exercised end to end.

Folders, tables, column names, headings and DICOM attributes are those of the collection; what stands in them is the
phantom's, under numbers of its own that follow from the phantom's ids (`ids_of`). README.txt says so in every folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd
from PIL import Image

from linkage_core.cohorts import chexpert_plus, mimic_cxr, openi, sections
from linkage_core.cohorts.base import LABELS, Cohort
from linkage_core.cohorts.phantom.cohort import image_of, records_of
from linkage_core.cohorts.phantom.export import checked_target, dicom_file
from linkage_core.cohorts.phantom.population import SEED, Study, parse_id, patient_studies
from linkage_core.errors import InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.progress import Progress, silent
from linkage_core.validate import one_of

LAYOUTS = (mimic_cxr.KIND, mimic_cxr.KIND_JPG, chexpert_plus.KIND, openi.KIND)
README = """SYNTHETIC. Nothing here is a patient.

These radiographs and reports were drawn and written by a program (the phantom of Linkage Explorer, seed {seed}) and
laid out as {layout} is, so that software which reads {layout} can be tried. They are not part of that collection.

Read them with: linkage cohort {layout} DIR
"""
MESH = {
    "No Finding": "normal",
    "Enlarged Cardiomediastinum": "Mediastinum/enlarged",
    "Cardiomegaly": "Cardiomegaly",
    "Lung Lesion": "Nodule",
    "Lung Opacity": "Opacity",
    "Edema": "Pulmonary Edema",
    "Consolidation": "Consolidation",
    "Pneumonia": "Pneumonia",
    "Atelectasis": "Pulmonary Atelectasis",
    "Pneumothorax": "Pneumothorax",
    "Pleural Effusion": "Pleural Effusion",
    "Pleural Other": "Thickening/pleura",
    "Fracture": "Fractures, Bone",
    "Support Devices": "Medical Device",
}
"""One indexers' heading for each label; Open-i has none for a finding that is denied."""
JPEG_QUALITY = 95  # of MIMIC-CXR-JPG
_YEAR = 2180
METADATA = (
    *("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns"),
    *("StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning"),
    "PatientOrientationCodeSequence_CodeMeaning",
)
_PARTS = re.compile(r"(?:^|\s)(FINDINGS|RESULT|IMPRESSION|CONCLUSION):")


class Ids(NamedTuple):
    """What one image is called in a layout."""

    patient: str
    study: str
    record: str


def ids_of(layout: str, record_id: str) -> Ids:
    """The names of a phantom image in a layout.

    >>> ids_of("mimic-cxr", "A-400123-2-PA")[:2]
    ('10400123', '54001232')
    >>> ids_of("chexpert-plus", "A-400123-2-LATERAL").record
    'train/patient400123/study2/view2_lateral'
    """
    one_of("The layout", layout, LAYOUTS)
    _, patient, number, view = parse_id(record_id)
    if layout in (mimic_cxr.KIND, mimic_cxr.KIND_JPG):
        digest = hashlib.sha256(record_id.encode()).hexdigest()
        dicom = "-".join(digest[start : start + 8] for start in range(0, 40, 8))
        return Ids(str(10_000_000 + patient), str(50_000_000 + 10 * patient + number), dicom)
    if layout == chexpert_plus.KIND:
        name = "view2_lateral" if view == "LATERAL" else "view1_frontal"
        folder = "valid" if patient % 10 == 0 else "train"
        path = f"{folder}/patient{patient}/study{number}/{name}"
        return Ids(f"patient{patient}", f"patient{patient}-study{number}", path)
    study = f"CXR{10 * patient + number}"
    return Ids(study, study, f"{study}_IM-0001-{2 if view == 'LATERAL' else 1}001")


def parts_of(report: str) -> tuple[str, str]:
    """Findings and impression of a phantom's report; a body without a heading is findings.

    >>> parts_of("Lungs: Clear.\\nIMPRESSION: Normal.")
    ('Lungs: Clear.', 'Normal.')
    """
    pieces = _PARTS.split(report)
    found = {"FINDINGS": pieces[0].strip()}
    for heading, text in zip(pieces[1::2], pieces[2::2], strict=True):
        name = "FINDINGS" if heading in ("FINDINGS", "RESULT") else "IMPRESSION"
        found[name] = f"{found.get(name, '')} {text}"
    return " ".join(found["FINDINGS"].split()), " ".join(found.get("IMPRESSION", "").split())


def export_layout(
    directory: Path,
    layout: str,
    studies: Sequence[Study],
    *,
    size: int = 512,
    seed: int = SEED,
    dicom: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write images, reports and tables of one layout; README.txt comes last and is returned.

    `dicom`: of chexpert-plus the DICOM instead of the PNG images; the other layouts have one format each. Raises
    InputError where the directory is not empty, no study is given, or the layout is unknown or has no DICOM images.
    """
    one_of("The layout", layout, LAYOUTS)
    if dicom and layout not in (mimic_cxr.KIND, chexpert_plus.KIND):
        raise InputError(
            f"{layout} has no DICOM images.", f"Layouts that have them: {mimic_cxr.KIND}, {chexpert_plus.KIND}, folder."
        )
    checked_target(directory, studies)
    directory.mkdir(parents=True, exist_ok=True)
    records = records_of(studies, seed)
    ids = [ids_of(layout, record_id) for record_id in records["record_id"]]
    records = records.assign(
        phantom=records["record_id"],
        patient_id=[one.patient for one in ids],
        study_id=[one.study for one in ids],
        record_id=[one.record for one in ids],
        size=size,
    )
    first_age = records.groupby("patient_id")["age"].transform("min")
    records["date"] = (_YEAR + records["age"] - first_age).astype(int).astype(str) + "0101"
    tables = {
        mimic_cxr.KIND: _mimic_tables,
        mimic_cxr.KIND_JPG: _mimic_jpg_tables,
        chexpert_plus.KIND: _chexpert_tables,
        openi.KIND: _openi_reports,
    }
    for done, row in enumerate(records.to_dict("records"), start=1):
        relative, content = _image(layout, row, image_of(str(row["phantom"]), size, seed), dicom)
        path = directory / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        progress("export", done, len(records))
    tables[layout](directory, records)
    readme = directory / "README.txt"
    readme.write_text(README.format(seed=seed, layout=layout), encoding="utf-8")
    return readme


def _image(layout: str, row: Mapping[Any, Any], picture: Radiograph, dicom: bool) -> tuple[str, bytes]:
    """Where an image lies below the root, and its bytes."""
    record = str(row["record_id"])
    if layout == mimic_cxr.KIND:  # the collection's headers name neither sex nor age
        path = mimic_cxr.image_path(str(row["patient_id"]), str(row["study_id"]), record, "dcm")
        return path, dicom_file(picture, {**row, "sex": ""}, str(row["date"]))
    if layout == mimic_cxr.KIND_JPG:
        path = mimic_cxr.image_path(str(row["patient_id"]), str(row["study_id"]), record, "jpg")
        return path, _pillow(picture, "JPEG", quality=JPEG_QUALITY)
    if layout == chexpert_plus.KIND:
        if dicom:
            return f"DICOM/{record}.dcm", dicom_file(picture, row)
        return f"PNG/{record}.png", _pillow(picture, "PNG")
    return f"NLMCXR_png/{record}.png", _pillow(picture, "PNG")


def _pillow(picture: Radiograph, kind: str, **options: Any) -> bytes:
    """8 bit grey, as all three collections have it."""
    buffer = io.BytesIO()
    Image.fromarray(np.round(picture.pixels / 257).astype(np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def _csv(path: Path, table: pd.DataFrame, index: bool = False) -> None:
    compression: Any = {"method": "gzip", "mtime": 1} if path.suffix == ".gz" else None
    table.to_csv(path, index=index, compression=compression)


# --------------------------------------------------------------------------------------------------------- MIMIC-CXR


def _mimic_report(row: Mapping[Any, Any]) -> str:
    """A report as MIMIC-CXR has them: one space before each line, headings in capitals, lines of some 75 letters."""
    findings, impression = parts_of(str(row["report"]))
    lines = [
        " " * 33 + "FINAL REPORT",
        " EXAMINATION:  CHEST RADIOGRAPH",
        " ",
        " INDICATION:  ___ year old, synthetic phantom.",
        " ",
    ]
    for heading, text in (("FINDINGS", findings), ("IMPRESSION", impression)):
        if text:
            wrapped = textwrap.wrap(text, 75, break_long_words=False, break_on_hyphens=False)
            lines += [f" {heading}: ", " ", *(f" {line}" for line in wrapped), " "]
    return "\n".join(lines) + "\n"


def _mimic_studies(records: pd.DataFrame) -> pd.DataFrame:
    studies = records.drop_duplicates("study_id")
    patient = studies["patient_id"]
    path = "files/p" + patient.str[:2] + "/p" + patient + "/s" + studies["study_id"] + ".txt"
    return studies.assign(path=path, text=[_mimic_report(row) for row in studies.to_dict("records")])


def _mimic_shared(directory: Path, records: pd.DataFrame, labelers: Sequence[str]) -> None:
    """Labels, split and, of MIMIC-IV, the patients: what users of MIMIC-CXR put beside it."""
    rank = records["patient_id"].str[-1]
    own = rank.map({"0": "test", "1": "validate"}).fillna("train")
    split = records.assign(split=own).rename(columns={"record_id": "dicom_id", "patient_id": "subject_id"})
    _csv(directory / "mimic-cxr-2.0.0-split.csv.gz", split[["dicom_id", "study_id", "subject_id", "split"]])
    studies = records.drop_duplicates("study_id").rename(columns={"patient_id": "subject_id"})
    for labeler in labelers:
        _csv(
            directory / f"mimic-cxr-2.0.0-{labeler}.csv.gz",
            studies[["subject_id", "study_id", *sorted(LABELS)]],
        )
    first = records.sort_values("age", kind="stable").drop_duplicates("patient_id").sort_values("patient_id")
    people = pd.DataFrame(
        {
            "subject_id": first["patient_id"],
            "gender": first["sex"],
            "anchor_age": first["age"].astype(int),
            "anchor_year": _YEAR,
            "anchor_year_group": "2014 - 2016",
            "dod": "",
        }
    )
    _csv(directory / "patients.csv.gz", people)


def _mimic_tables(directory: Path, records: pd.DataFrame) -> None:
    """cxr-record-list, cxr-study-list and reports in the tree. Views stand in the DICOM headers alone."""
    studies = _mimic_studies(records)
    for row in studies.itertuples():
        (directory / str(row.path)).write_text(str(row.text), encoding="utf-8")
    renamed = {"patient_id": "subject_id", "record_id": "dicom_id"}
    images = records.rename(columns=renamed)
    ids = zip(images["subject_id"], images["study_id"], images["dicom_id"], strict=True)
    images["path"] = [mimic_cxr.image_path(*one, "dcm") for one in ids]
    _csv(directory / "cxr-record-list.csv.gz", images[["subject_id", "study_id", "dicom_id", "path"]])
    _csv(directory / "cxr-study-list.csv.gz", studies.rename(columns=renamed)[["subject_id", "study_id", "path"]])
    _mimic_shared(directory, records, ("chexpert",))


def _mimic_jpg_tables(directory: Path, records: pd.DataFrame) -> None:
    """Metadata, split and both labelers' tables, and MIMIC-CXR's archive of reports, which users put beside them."""
    table = records.rename(columns={"patient_id": "subject_id", "record_id": "dicom_id", "view": "ViewPosition"})
    coded = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral"}
    table = table.assign(
        PerformedProcedureStepDescription="CHEST (SYNTHETIC)",
        ViewCodeSequence_CodeMeaning=table["ViewPosition"].map(coded),
        Rows=table["size"],
        Columns=table["size"],
        StudyDate=table["date"],
        StudyTime="120000.000",
        ProcedureCodeSequence_CodeMeaning="CHEST (SYNTHETIC)",
        PatientOrientationCodeSequence_CodeMeaning="Erect",
    )
    _csv(directory / "mimic-cxr-2.0.0-metadata.csv.gz", table[list(METADATA)])
    _mimic_shared(directory, records, mimic_cxr.LABELERS)
    with zipfile.ZipFile(directory / f"{mimic_cxr.REPORTS}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for row in _mimic_studies(records).itertuples():
            archive.writestr(zipfile.ZipInfo(str(row.path)), str(row.text), zipfile.ZIP_DEFLATED)


# ----------------------------------------------------------------------------------------------------- CheXpert Plus


def _chexpert_tables(directory: Path, records: pd.DataFrame) -> None:
    """The report table and the labels. As in some studies of the collection, the further images of every fourth study
    with several carry another version of its report, de-identified once more: here with one date added."""
    further = records["study_id"].duplicated()
    several = pd.Index(records.loc[further, "study_id"].unique()[::4])
    again = further & records["study_id"].isin(several)
    parts = [
        tuple(f"{part} Dictated 2180-2-6." if part and twice else part for part in parts_of(report))
        for report, twice in zip(records["report"], again, strict=True)
    ]
    number = records["study_id"].str.rsplit("study", n=1).str[1]
    reports = [
        "NARRATIVE:\nChest, synthetic\n\n"
        + "".join(
            f"{heading}:\n{text}\n\n" for heading, text in zip(("FINDINGS", "IMPRESSION"), part, strict=True) if text
        )
        + "SUMMARY: synthetic\n\nACCESSION NUMBER:\n0\n"
        for part in parts
    ]
    lateral = records["view"] == "LATERAL"
    table = pd.DataFrame(
        {
            "path_to_image": records["record_id"] + ".jpg",
            "path_to_dcm": records["record_id"] + ".dcm",
            "frontal_lateral": np.where(lateral, "Lateral", "Frontal"),
            "ap_pa": records["view"].where(~lateral, ""),
            "deid_patient_id": records["patient_id"],
            "patient_report_date_order": number,
            "report": reports,
            "section_narrative": "Chest, synthetic",
            "section_findings": [findings for findings, _ in parts],
            "section_impression": [impression for _, impression in parts],
            "section_summary": "synthetic",
            "section_accession_number": "0",
            "age": records["age"],
            "sex": records["sex"].map({"F": "Female", "M": "Male"}),
            "split": records["record_id"].str.split("/").str[0],
        }
    )
    table = table.reindex(columns=list(chexpert_plus.COLUMNS), fill_value="")
    _csv(directory / "df_chexpert_plus_240401.csv", table, index=True)
    folder = directory / "chexbert_labels"
    folder.mkdir()
    lines = [
        json.dumps(
            {"path_to_image": f"{row['record_id']}.jpg"}
            | {label: None if np.isnan(row[label]) else float(row[label]) for label in LABELS}
        )
        for row in records.to_dict("records")
    ]
    for name in chexpert_plus.LABEL_FILES:
        (folder / f"{name}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ Open-i


def _openi_reports(directory: Path, records: pd.DataFrame) -> None:
    """The archive of XML reports. View, sex, age and denied findings have no place in it, and a report is a patient."""
    with tarfile.open(directory / openi.ARCHIVE, "w:gz") as archive:
        for study, rows in records.groupby("study_id", sort=False):
            content = _openi_xml(str(study), rows).encode()
            member = tarfile.TarInfo(f"ecgen-radiology/{str(study).removeprefix('CXR')}.xml")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _openi_xml(study: str, rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    findings, impression = parts_of(str(first["report"]))
    parts = (
        ("COMPARISON", ""),
        ("INDICATION", "Synthetic phantom"),
        ("FINDINGS", findings),
        ("IMPRESSION", impression),
    )
    texts = "\n".join(f'        <AbstractText Label="{name}">{escape(text)}</AbstractText>' for name, text in parts)
    headings = [
        MESH[label] + ("/borderline" if first[label] == -1 else "") for label in LABELS if first[label] in (1, -1)
    ]
    mesh = "\n".join(f"    <major>{escape(heading)}</major>" for heading in headings)
    images = "\n".join(
        f"  <parentImage id={quoteattr(record)}>\n    <caption>Synthetic</caption>\n  </parentImage>"
        for record in rows["record_id"]
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<eCitation>
  <meta type="rr"/>
  <uId id="{study}"/>
  <MedlineCitation Owner="Synthetic" Status="supplied by a program">
    <Article PubModel="Electronic">
      <ArticleTitle>Synthetic chest radiograph</ArticleTitle>
      <Abstract>
{texts}
      </Abstract>
    </Article>
  </MedlineCitation>
  <MeSH>
{mesh}
  </MeSH>
{images}
</eCitation>
"""


# ---------------------------------------------------------------------------------------------------- export and read


def compare(cohort: Cohort, *, size: int, seed: int = SEED, images: bool = True) -> dict[str, Any]:
    """How a cohort read back from an export differs from the phantom it was made of.

    The phantom's records behind it are found by the ids that `ids_of` gives. `images_compared`; `rejects`;
    `largest_pixel_difference` and `mean_pixel_difference` (of 65535); `differences`: how many records differ in
    patient, study, report (of the section read), label, view, sex or age, how many labels that the phantom denies are
    missing, and how many records are unknown. Without `images` no pixel is read. Raises InputError where nothing of the
    cohort is the phantom's.
    """
    names = [
        (ids_of(cohort.kind, study.record_id(view)), study.record_id(view))
        for study in _exported(cohort, seed)
        for view in study.views
    ]
    phantom_of = {ids.record: record for ids, record in names}
    known = cohort.records[cohort.records["record_id"].isin(phantom_of.keys())]
    if known.empty:
        raise InputError(f"{cohort.root} holds nothing that the phantom exports.", "Export it first.")
    wanted = records_of(_exported(cohort, seed), seed).set_index("record_id")
    wanted = wanted.loc[[phantom_of[record] for record in known["record_id"]]].reset_index()
    ids = [ids_of(cohort.kind, record) for record in wanted["record_id"]]
    got = known.reset_index(drop=True)
    texts = [_part(report, cohort.options["section"]) for report in wanted["report"]]
    said, meant = got[list(LABELS)].to_numpy(), wanted[list(LABELS)].to_numpy()
    same = (said == meant) | (np.isnan(said) & np.isnan(meant))
    denied = ~same & (meant == 0) & np.isnan(said)
    gaps = [
        np.abs(
            cohort.read_image(row).pixels.astype(int) - image_of(phantom_of[str(row["record_id"])], size, seed).pixels
        )
        for row in (got.to_dict("records") if images else ())
    ]
    number = got["patient_id"].groupby(wanted["patient_id"]).nunique()
    return {
        "images_compared": len(gaps),
        "rejects": len(cohort.rejects),
        "largest_pixel_difference": int(max((gap.max() for gap in gaps), default=0)),
        "mean_pixel_difference": float(np.mean([gap.mean() for gap in gaps])) if gaps else 0.0,
        "differences": {
            "unknown": len(cohort.records) - len(got),
            "patients": int((number != 1).sum() + (got["patient_id"] != [one.patient for one in ids]).sum()),
            "studies": int((got["study_id"] != [one.study for one in ids]).sum()),
            "reports": int((got["report"] != texts).sum()),
            "labels": int((~same & ~denied).sum()),
            "denied_labels": int(denied.sum()),
            "views": int((got["view"] != wanted["view"]).sum()),
            "sex": int((got["sex"] != wanted["sex"]).sum()),
            "age": int((got["age"] != wanted["age"]).sum()),
        },
    }


def _exported(cohort: Cohort, seed: int) -> list[Study]:
    """Studies of the phantom's patients whose numbers stand in the cohort's ids."""
    digits = {
        mimic_cxr.KIND: lambda patient: int(patient) - 10_000_000,
        mimic_cxr.KIND_JPG: lambda patient: int(patient) - 10_000_000,
        chexpert_plus.KIND: lambda patient: int(patient.removeprefix("patient")),
        openi.KIND: lambda patient: int(patient.removeprefix("CXR")) // 10,
    }[cohort.kind]
    patients = sorted({digits(patient) for patient in cohort.records["patient_id"]})
    return [study for patient in patients for study in patient_studies("A", patient, seed)]


def _part(report: str, section: str) -> str:
    findings, impression = parts_of(report)
    return {"findings": findings, "impression": impression}.get(section) or sections.both(findings, impression)
