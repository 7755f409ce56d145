"""Your own images and reports: a folder with a manifest (CSV or Parquet)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts import fields, own, sections
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, Understood, rejects_table
from linkage_core.cohorts.cells import counted, mapped
from linkage_core.cohorts.files import Found, Present, Reject, need_folder, whole
from linkage_core.cohorts.splits import FRACTIONS, chosen_splits, split_column
from linkage_core.errors import InputError

KIND = "folder"
MANIFESTS = ("manifest.csv", "manifest.csv.gz", "manifest.parquet")
NEEDED = ("image", "report", "patient_id")


def read(
    root: Path | None,
    *,
    manifest: str | None = None,
    seed: int = 0,
    section: str = "both",
    splits: str = "seeded",
    fractions: Any = FRACTIONS,
) -> Cohort:
    """A folder whose manifest has one row an image: image (a path below the folder), report and patient_id.

    Optional columns: record_id (else the image path), study_id (else rows of one patient with the same report are one
    study), view, sex, age, the 14 labels (1, 0, -1 or empty) and split. Other columns are ignored; case, blanks and
    signs in names do not matter. `manifest` names the table; without it manifest.csv or manifest.parquet is used.
    `section`: findings or impression of each report, as `sections.select` cuts them; both and whole are the report as
    it stands. `splits`: by patient, seeded, in shares of `fractions` (or "60/20/20"), or "own": the column `split`.

    A row becomes a record or a reject: no patient, empty report, image missing or outside the folder, a study with two
    reports or two patients, an image of two patients, an image listed again by another spelling of its path.
    InputError where the table as a whole cannot be trusted: a needed column missing, unreadable, a record id twice, a
    label that is not one of the four values.
    """
    folder = need_folder(root, KIND)
    fields.checked_section(section)
    where, shares = chosen_splits(splits, fractions)
    path = _find(folder, manifest)
    understood = Understood()
    table = own.read_own(path, NEEDED, understood)
    own_split = own.split_cells(table, understood, path, where)
    table["own_id"] = table["record_id"] != ""
    table["record_id"] = table["record_id"].where(table["own_id"], table["image"])
    own.refuse_repeated_ids(table["record_id"], path)
    table["number"] = np.arange(1, len(table) + 1)
    table["wet"] = mapped(table["report"], sections.only_wet_read).astype(bool)
    table["report"] = mapped(table["report"], lambda report: part_of(report, section)).astype("str")
    table["image"], rejects, kept = _sound(table, Present(folder), path.name, section, understood)
    records = table[kept]
    key = own.report_keys(records["report"])
    study = records["study_id"].where(records["study_id"] != "", records["patient_id"] + "-" + key)
    records = _consistent(records.assign(study_id=study), key, rejects)
    if wet := int(records.drop_duplicates("study_id")["wet"].sum()):
        understood.note(
            f"{counted(wet, 'study', 'studies')} with only a wet read (a first, hurried reading) for a report"
        )
    said = None if own_split is None else own_split[records.index]
    records["split"] = split_column(records, where, seed, shares, own=said, where=path.name)
    records = records[list(RECORD_COLUMNS)].reset_index(drop=True)
    numbers = ["age", *LABELS]
    kinds = {name: "float64" if name in numbers else "str" for name in RECORD_COLUMNS}
    options = {
        "seed": seed,
        "section": section,
        "manifest": path.relative_to(folder).as_posix(),
        "splits": where,
        "fractions": shares,
    }
    name = folder.resolve().name or KIND
    return whole(name, KIND, folder, records.astype(kinds), rejects_table(rejects), options, understood)


def part_of(report: str, section: str) -> str:
    return report.strip() if section in ("both", "whole") else sections.select(report, section)


def _sound(
    table: pd.DataFrame, present: Present, name: str, section: str, understood: Understood
) -> tuple[list[str], list[Reject], np.ndarray]:
    """(images as the disk spells them, rejects, mask of the other rows): every row needs a patient, a report and an
    image that is there; without record ids an image is listed once."""
    rejects: list[Reject] = []
    kept = np.ones(len(table), bool)
    images: list[str] = []
    first: dict[tuple[str, str], int] = {}
    respelled: list[str] = []
    columns = (
        table[column].tolist() for column in ("number", "record_id", "patient_id", "report", "image", "own_id", "wet")
    )
    for number, record, patient, report, image, own_id, wet in zip(*columns, strict=True):
        item, where = record or f"row {number}", f"Row {number} of {name}"
        found = Found(image)
        if not patient:
            rejects.append((item, "no-patient", f"{where} has no patient_id.", "Fill it in."))
        elif not report:
            only = " (it has only a wet read)" if wet else ""
            rejects.append((item, "empty-report", f"{where} has no report{_of(section)}{only}.", _fill(section)))
        elif problem := (found := present.find(image)).problem:
            rejects.append((item, problem.reason, f"{where}: {problem.what}", problem.remedy))
        elif not own_id and first.setdefault((patient, found.path), number) != number:
            what = f"{where} lists the image of row {first[patient, found.path]} again, spelled {image!r}."
            rejects.append((item, "duplicate-record", what, "Keep one row, or give both a record_id."))
        else:
            images.append(found.path)
            if found.respelled:
                respelled.append(image)
            continue
        images.append(found.path)
        kept[number - 1] = False
    if respelled:
        understood.note(
            f"{counted(len(respelled), 'image path')} spelled otherwise than the file (backslashes, or accents "
            f"composed otherwise), such as {respelled[0]!r}: found all the same"
        )
    return images, rejects, kept


def _find(root: Path, manifest: str | None) -> Path:
    if manifest is not None:
        path = root / manifest
        if not path.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"The manifest {manifest!r} lies outside {root}.", "Image paths start at the folder: put it there."
            )
        return path
    there = [root / name for name in MANIFESTS if (root / name).is_file()]
    if len(there) == 1:
        return there[0]
    if there:
        names = " and ".join(path.name for path in there)
        raise InputError(f"{root} has {names}.", "Say which one, or remove the other.")
    raise InputError(
        f"{root} has no manifest.csv or manifest.parquet.",
        f"Give one row an image, with the columns {', '.join(NEEDED)}.",
    )


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
