"""Your own images and reports: a folder with a manifest (CSV or Parquet)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from linkage_core.cohorts import fields
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, rejects_table, split_by_patient, text_key
from linkage_core.cohorts.files import Present, Reject, need_folder, whole
from linkage_core.cohorts.manifest import need_columns, read_manifest
from linkage_core.cohorts.published import mapped
from linkage_core.errors import InputError

KIND = "folder"
NEEDED = ("image", "report", "patient_id")
OPTIONAL = ("study_id", "record_id", "view", "sex", "age", *LABELS)


def read(root: Path | None, *, manifest: str | None = None, seed: int = 0, section: str = "both") -> Cohort:
    """A folder whose manifest has one row an image: image (a path below the folder), report and patient_id.

    Optional columns: record_id (else the image path), study_id (else rows of one patient with the same report are one
    study), view, sex, age and the 14 labels (1, 0, -1 or empty). Other columns are ignored; case and underscores in
    names do not matter. `manifest` names the table; without it manifest.csv or manifest.parquet is used. `section`
    keeps what stands under a FINDINGS or IMPRESSION heading of each report.

    A row becomes a record or a reject: no patient, empty report, image missing or outside the folder, a study with two
    reports or two patients, an image of two patients. InputError where the table as a whole cannot be trusted: a
    needed column missing, unreadable, a record id twice, a label that is not one of the four values.
    """
    folder = need_folder(root, KIND)
    fields.checked_section(section)
    path = _find(folder, manifest)
    table = _known_columns(read_manifest(path), path)
    need_columns(table, NEEDED, path)
    for column in ("image", "patient_id", "study_id", "record_id"):
        table[column] = table[column].str.strip() if column in table else ""
    table["record_id"] = table["record_id"].where(table["record_id"] != "", table["image"])
    _refuse_repeated_ids(table, path)
    labels = {name: _labels(table[name], name, path) for name in LABELS if name in table}

    table["number"] = np.arange(1, len(table) + 1)
    table["report"] = mapped(table["report"], lambda report: fields.select_section(report, section))
    rejects, kept = _sound(table, Present(folder), path.name, section)
    records = pd.DataFrame({name: table[name] for name in ("record_id", "patient_id", "image")})
    for name, value in (("view", fields.view), ("sex", fields.sex), ("age", fields.age)):
        records[name] = mapped(table[name], value) if name in table else value("")
    records = records.assign(report=table["report"], **labels)[kept]
    key = mapped(records["report"], text_key)
    own = table["study_id"][kept]
    records["study_id"] = own.where(own != "", records["patient_id"] + "-" + key)
    records = _consistent(records, key, rejects)
    records["split"] = split_by_patient(records["patient_id"], seed)
    records = records.reindex(columns=list(RECORD_COLUMNS)).reset_index(drop=True)
    numbers = ["age", *LABELS]
    kinds = {name: "float64" if name in numbers else "str" for name in RECORD_COLUMNS}
    options = {"seed": seed, "section": section, "manifest": path.relative_to(folder).as_posix()}
    name = folder.resolve().name or KIND
    return whole(name, KIND, folder, records.astype(kinds), rejects_table(rejects), options)


def _sound(table: pd.DataFrame, present: Present, name: str, section: str) -> tuple[list[Reject], np.ndarray]:
    """(rejects, mask of the other rows): every row needs a patient, a report and an image that is there."""
    rejects: list[Reject] = []
    kept = np.ones(len(table), bool)
    columns = (table[column] for column in ("number", "record_id", "patient_id", "report", "image"))
    for number, record, patient, report, image in zip(*columns, strict=True):
        item, where = record or f"row {number}", f"Row {number} of {name}"
        if not patient:
            rejects.append((item, "no-patient", f"{where} has no patient_id.", "Fill it in."))
        elif not report:
            rejects.append((item, "empty-report", f"{where} has no report{_of(section)}.", _fill(section)))
        elif problem := present.problem(image):
            rejects.append((item, problem.reason, f"{where}: {problem.what}", problem.remedy))
        else:
            continue
        kept[number - 1] = False
    return rejects, kept


def _find(root: Path, manifest: str | None) -> Path:
    if manifest is not None:
        path = root / manifest
        if not path.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"The manifest {manifest!r} lies outside {root}.", "Image paths start at the folder: put it there."
            )
        return path
    there = [root / name for name in ("manifest.csv", "manifest.parquet") if (root / name).is_file()]
    if len(there) == 1:
        return there[0]
    if there:
        raise InputError(f"{root} has manifest.csv and manifest.parquet.", "Say which one, or remove the other.")
    raise InputError(
        f"{root} has no manifest.csv or manifest.parquet.",
        f"Give one row an image, with the columns {', '.join(NEEDED)}.",
    )


def _known_columns(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Columns under the names used here, whatever their case and underscores; others are left out."""
    wanted = {_plain(name): name for name in (*NEEDED, *OPTIONAL)}
    found: dict[str, str] = {}
    for column in table.columns:
        name = wanted.get(_plain(column))
        if name in found:
            raise InputError(f"{path} has {found[name]!r} and {column!r} for one column.", "Keep one of them.")
        if name is not None:
            found[name] = column
    if not found:
        return table  # nothing known: let the missing column be named with those that are there
    missing = [name for name in NEEDED if name not in found]
    return table if missing else pd.DataFrame({name: table[column] for name, column in found.items()})


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").strip()


def _refuse_repeated_ids(table: pd.DataFrame, path: Path) -> None:
    ids = table["record_id"]
    repeated = ids[ids.duplicated() & (ids != "")]
    if len(repeated):
        where = [str(at + 1) for at in range(len(ids)) if ids.iloc[at] == repeated.iloc[0]]
        raise InputError(
            f"{path} has the record id {repeated.iloc[0]!r} in rows {', '.join(where[:5])}.",
            "Record ids are unique; without a record_id column the image path is the id.",
        )


def _labels(values: pd.Series, name: str, path: Path) -> pd.Series:
    parsed: dict[str, float] = {}
    for value in values.unique():
        try:
            parsed[value] = fields.label(value)
        except ValueError as error:
            number = int(np.argmax((values == value).to_numpy())) + 1
            raise InputError(
                f"{path}, row {number}: label {name!r} is {value!r}.",
                "It is 1 (positive), 0 (negative), -1 (uncertain) or empty (not mentioned).",
            ) from error
    return values.map(parsed).astype("float64")


def _consistent(records: pd.DataFrame, key: pd.Series, rejects: list[Reject]) -> pd.DataFrame:
    """The rows left when a study has one patient and one report, and an image one patient; the others are rejected.

    Reports that differ in case and white space only (the same `key`) are one: the first stands for all.
    """
    study, patient, image = records["study_id"], records["patient_id"], records["image"]
    patients = patient.groupby(study).transform("nunique") > 1
    reports = key.groupby(study).transform("nunique") > 1
    owners = patient.groupby(image).transform("nunique") > 1
    bad = patients | reports | owners
    of_study, of_image = (_several(patient[mask], by[mask]) for mask, by in ((patients, study), (owners, image)))
    texts = key[reports].groupby(study[reports]).nunique()
    for at in records.index[bad]:
        if patients[at]:
            what = f"Study {study[at]!r} has the patients {of_study[study[at]]}."
            reason, remedy = "study-of-two-patients", "Make study ids unique, for instance patient and study together."
        elif reports[at]:
            what = f"Study {study[at]!r} has {texts[study[at]]} different reports."
            reason, remedy = "study-with-two-reports", "Give a study one report, or two study ids."
        else:
            what = f"Image {image[at]!r} belongs to the patients {of_image[image[at]]}."
            reason, remedy = "image-of-two-patients", "Give an image one patient."
        rejects.append((records["record_id"][at], reason, what, remedy))
    first = records["report"].groupby(study).transform("first")
    return records.assign(report=first)[~bad]


def _several(patients: pd.Series, by: pd.Series) -> dict[str, str]:
    """The first three patients of each study or image, named."""
    return {str(one): ", ".join(sorted(found.unique())[:3]) for one, found in patients.groupby(by)}


def _of(section: str) -> str:
    return "" if section in ("both", "whole") else f" under a heading {section.upper()}"


def _fill(section: str) -> str:
    return "Fill it in." if section in ("both", "whole") else "Fill it in, or read both sections."
