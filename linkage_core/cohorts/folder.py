"""Your own images and reports: a folder with a manifest (CSV or Parquet)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from linkage_core.cohorts import fields
from linkage_core.cohorts.base import LABELS, Cohort, text_key
from linkage_core.cohorts.files import Reject, file_cohort, image_problem, need_folder
from linkage_core.cohorts.manifest import need_columns, read_manifest
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

    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for number, cells in enumerate(table.to_dict("records"), start=1):
        item = cells["record_id"] or f"row {number}"
        report = fields.select_section(cells["report"], section)
        if not cells["patient_id"]:
            rejects.append((item, "no-patient", f"Row {number} of {path.name} has no patient_id.", "Fill it in."))
        elif not report:
            rejects.append(
                (item, "empty-report", f"Row {number} of {path.name} has no report{_of(section)}.", _fill(section))
            )
        elif problem := image_problem(folder, cells["image"]):
            rejects.append((item, problem.reason, f"Row {number} of {path.name}: {problem.what}", problem.remedy))
        else:
            rows.append(
                {
                    "record_id": cells["record_id"],
                    "patient_id": cells["patient_id"],
                    "study_id": cells["study_id"] or f"{cells['patient_id']}-{text_key(report)}",
                    "image": cells["image"],
                    "view": fields.view(cells.get("view", "")),
                    "sex": fields.sex(cells.get("sex", "")),
                    "age": fields.age(cells.get("age", "")),
                    "report": report,
                    **{name: values[number - 1] for name, values in labels.items()},
                }
            )
    rows = _consistent(rows, rejects)
    options = {"seed": seed, "section": section, "manifest": path.relative_to(folder).as_posix()}
    return file_cohort(KIND, folder, rows, rejects, options)


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


def _labels(values: pd.Series, name: str, path: Path) -> list[float]:
    parsed = []
    for number, value in enumerate(values, start=1):
        try:
            parsed.append(fields.label(value))
        except ValueError as error:
            raise InputError(
                f"{path}, row {number}: label {name!r} is {value!r}.",
                "It is 1 (positive), 0 (negative), -1 (uncertain) or empty (not mentioned).",
            ) from error
    return parsed


def _consistent(rows: list[dict[str, Any]], rejects: list[Reject]) -> list[dict[str, Any]]:
    """The rows left when a study has one patient and one report, and an image one patient; the others are rejected.

    Reports that differ in case and white space only are one: the first stands for all.
    """
    patients: dict[str, set[str]] = defaultdict(set)
    reports: dict[str, dict[str, str]] = defaultdict(dict)
    owners: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        patients[row["study_id"]].add(row["patient_id"])
        reports[row["study_id"]].setdefault(text_key(row["report"]), row["report"])
        owners[row["image"]].add(row["patient_id"])
    kept = []
    for row in rows:
        study, image = row["study_id"], row["image"]
        if len(patients[study]) > 1:
            what = f"Study {study!r} has the patients {', '.join(sorted(patients[study])[:3])}."
            remedy = "Make study ids unique, for instance patient and study together."
            rejects.append((row["record_id"], "study-of-two-patients", what, remedy))
        elif len(reports[study]) > 1:
            what = f"Study {study!r} has {len(reports[study])} different reports."
            rejects.append(
                (row["record_id"], "study-with-two-reports", what, "Give a study one report, or two study ids.")
            )
        elif len(owners[image]) > 1:
            what = f"Image {image!r} belongs to the patients {', '.join(sorted(owners[image])[:3])}."
            rejects.append((row["record_id"], "image-of-two-patients", what, "Give an image one patient."))
        else:
            kept.append({**row, "report": next(iter(reports[study].values()))})
    return kept


def _of(section: str) -> str:
    return "" if section == "both" else f" under a heading {section.upper()}"


def _fill(section: str) -> str:
    return "Fill it in." if section == "both" else "Fill it in, or read both sections."
