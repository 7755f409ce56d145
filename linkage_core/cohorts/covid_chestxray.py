"""The public COVID-19 image data collection (Cohen and others, arXiv:2006.11988): radiographs with clinical notes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from linkage_core.cohorts import cells, fields
from linkage_core.cohorts.base import Cohort, Understood, text_key
from linkage_core.cohorts.files import Present, Reject, file_cohort, need_folder
from linkage_core.cohorts.manifest import read_table
from linkage_core.cohorts.splits import FRACTIONS, chosen_splits
from linkage_core.errors import InputError

KIND = "covid-chestxray"
TABLE = "metadata.csv"
NEEDED = ("patientid", "finding", "view", "filename", "license", "clinical_notes")

# Types of pneumonia by the collection's own hierarchy of findings, where they stand below "Pneumonia".
_PNEUMONIA = re.compile(
    r"\b(pneumonia|covid-19|sars|mers|mers-cov|varicella|influenza|h1n1|herpes|viral|bacterial|streptococcus|klebsiella"
    r"|legionella|e\.coli|mycoplasma|nocardia|chlamydophila|staphylococcus|mrsa|fungal|pneumocystis|aspergillosis|lipoid"
    r"|aspiration)\b",
    re.IGNORECASE,
)
_CREDIT = re.compile(
    r"\W*(case courtesy|courtesy of|image courtesy|credit|©|department of|\ufffd\s*department)", re.IGNORECASE
)


def read(
    root: Path | None,
    *,
    seed: int = 0,
    section: str = "both",
    splits: str = "seeded",
    fractions: Any = FRACTIONS,
) -> Cohort:
    """The collection's folder: metadata.csv and the images it names. Every row becomes a record or a reject.

    The report is `clinical_notes` and, after it, `other_notes`, unless those only credit whoever gave the case (they
    name no finding, but would name the patient's source). A study is the rows of one patient with the same text, even
    where they were taken on different days: one note describes them all. A record's id is patient and file name.

    The collection holds a few cases twice, under two patient numbers and with the same files. They are kept as the
    collection has them, but such patients go into the same split, so that no image crosses one. Labels: Pneumonia and
    No Finding where `finding` says so; everything else is missing. Extra column: `licence`, each image's own.

    Raises InputError for another layout and for `section` other than both (the notes have no sections).
    """
    folder = need_folder(root, KIND)
    if fields.checked_section(section) != "both":
        raise InputError(f"section is {section!r}.", "These notes have no sections: read both.")
    path = folder / TABLE
    where_splits, shares = chosen_splits(splits, fractions)
    understood = Understood()
    table = read_table(path, NEEDED, ("folder", "other_notes", "sex", "age"), understood=understood)
    for column in ("folder", "other_notes", "sex", "age"):
        if column not in table:
            table[column] = pd.Series("images" if column == "folder" else "", index=table.index, dtype="str")
    table["patientid"] = cells.ids(table["patientid"], "patientid", TABLE, understood)
    for column, understand in (("view", cells.views), ("sex", cells.sexes), ("age", cells.ages)):
        table[column] = understand(table[column], understood)
    for column in ("clinical_notes", "other_notes"):
        table[column] = cells.without_gap_words(table[column], column, understood)

    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    seen: Counter[str] = Counter()
    group_of_image: dict[str, str] = {}
    groups: dict[str, str] = {}
    present = Present(folder)
    for number, row in enumerate(table.to_dict("records"), start=1):
        patient, file = row["patientid"], row["filename"].strip()
        image = f"{row['folder'].strip()}/{file}" if row["folder"].strip() else file
        record, report = f"{patient}_{file}", report_of(row["clinical_notes"], row["other_notes"])
        item = record if file else f"row {number}"
        seen[record] += 1
        where = f"Row {number} of {TABLE}"
        if not patient:
            rejects.append((item, "no-patient", f"{where} has no patientid.", "Fill it in."))
        elif not report:
            rejects.append(
                (item, "empty-report", f"{where} has no clinical_notes.", "Only images with notes are read.")
            )
        elif not file:
            rejects.append((item, "missing-file", f"{where} has no filename.", "Fill it in."))
        elif seen[record] > 1:
            rejects.append((item, "duplicate-record", f"{where} repeats {file} of patient {patient}.", "Keep one row."))
        elif problem := (found := present.find(image)).problem:
            rejects.append((item, problem.reason, f"{where}: {problem.what}", problem.remedy))
        else:
            rows.append(
                {
                    "record_id": record,
                    "patient_id": patient,
                    "study_id": f"{patient}-{text_key(report)}",
                    "image": found.path,
                    "view": row["view"],
                    "sex": row["sex"],
                    "age": row["age"],
                    "report": report,
                    "licence": row["license"].strip(),
                    **labels_of(row["finding"]),
                }
            )
            _join(groups, patient, group_of_image.setdefault(found.path, patient))
    first_text = {made["study_id"]: made["report"] for made in reversed(rows)}
    for made in rows:
        made["report"] = first_text[made["study_id"]]
        made["group"] = _leader(groups, made["patient_id"])
    options = {"seed": seed, "section": section, "splits": where_splits, "fractions": shares}
    return file_cohort(
        KIND, folder, rows, rejects, options, split_key="group", extra=("licence",), understood=understood
    )


def report_of(clinical_notes: str, other_notes: str) -> str:
    """Both notes as one text, without a mere credit.

    >>> report_of("Clear lungs.", "Case courtesy of Dr X")
    'Clear lungs.'
    """
    others = "" if _CREDIT.match(other_notes) else other_notes.strip()
    return f"{clinical_notes.strip()} {others}".strip()


def labels_of(finding: str) -> dict[str, float]:
    """Pneumonia or No Finding where the finding says so; a path such as Pneumonia/Viral/COVID-19 says it too.

    >>> labels_of("Pneumonia/Viral/SARS"), labels_of("No Finding"), labels_of("Tuberculosis")
    ({'Pneumonia': 1.0}, {'No Finding': 1.0}, {})
    """
    if "no finding" in finding.lower():
        return {"No Finding": 1.0}
    return {"Pneumonia": 1.0} if _PNEUMONIA.search(finding) else {}


def _leader(groups: dict[str, str], patient: str) -> str:
    while groups.get(patient, patient) != patient:
        patient = groups[patient]
    return patient


def _join(groups: dict[str, str], patient: str, other: str) -> None:
    """Two patient numbers that share an image are one group."""
    one, two = _leader(groups, patient), _leader(groups, other)
    groups[max(one, two)] = min(one, two)
