"""What is in a cohort, in numbers: what `linkage cohort` prints and writes as JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS, SPLITS, Cohort, text_key
from linkage_core.cohorts.labels.cohort import labels_note
from linkage_core.images.notes import sentences

SHOWN = 80
"""Letters of a report that the first records show."""


def summarise(cohort: Cohort) -> dict[str, Any]:
    """Counts of everything a reader should know before using a cohort; plain numbers and texts, ready for JSON.

    Keys: `name`, `kind`, `root`, `synthetic`, `options`; `rows_read` (records and rejects), `images` (records),
    `images_present`, `studies`, `patients`, `distinct_reports`; `views`; `labels` (positive, uncertain, negative,
    missing of each of the 14, over studies); `labels_from` (labels_note); `report_words` (min, q1, median, q3, max,
    over studies);
    `duplicate_reports` (texts that several studies share, and those studies); `duplicate_images` (files that several
    records share, those records, and how many of the files are under several patients); `missing` (records without
    view, sex, age); `age` (lowest and highest); `columns` (of each table, those taken and those left); `first` (the
    first two records as read); `rejects` (count by reason); `splits` (images, studies, patients of each); `seen` (of
    images that were opened: how many, the least, median and largest of their 1st, 50th and 99th percentile of grey, 0
    black to 1 white, and what was noted of how many, with the first of them); `notes` (sentences about the cohort as a
    whole, and about what was mended, kept or not understood). Reports count as one where they differ in case and white
    space only.
    """
    records, rejects = cohort.records, cohort.rejects
    studies = records.drop_duplicates("study_id")
    present = int((records["image"] != "").sum()) if cohort.root is not None else len(records)
    return {
        "name": cohort.name,
        "kind": cohort.kind,
        "root": None if cohort.root is None else str(cohort.root),
        "synthetic": cohort.synthetic,
        "options": dict(cohort.options),
        "rows_read": len(records) + len(rejects),
        "images": len(records),
        "images_present": present,
        "studies": len(studies),
        "patients": int(records["patient_id"].nunique()),
        "distinct_reports": int(studies["report"].map(text_key).nunique()),
        "views": {view or "not given": count for view, count in _counted(records["view"]).items()},
        "labels": {label: label_counts(studies[label]) for label in LABELS},
        "labels_from": labels_note(cohort),
        "report_words": _spread(studies["report"].map(lambda report: len(report.split()))),
        "duplicate_reports": _duplicate_reports(studies),
        "duplicate_images": _duplicate_images(records),
        "missing": {
            "view": int((records["view"] == "").sum()),
            "sex": int((records["sex"] == "").sum()),
            "age": int(records["age"].isna().sum()),
        },
        "age": _ends(records["age"]),
        "columns": {
            table: {
                "taken": {name: _visible(column) for name, column in taken.items()},
                "left": [_visible(column) for column in left],
            }
            for table, (taken, left) in cohort.understood.columns.items()
        },
        "first": [_as_read(row) for row in records.head(2).to_dict("records")],
        "rejects": _counted(rejects["reason"]),
        "splits": {
            split: {
                "images": len(part),
                "studies": int(part["study_id"].nunique()),
                "patients": int(part["patient_id"].nunique()),
            }
            for split in SPLITS
            for part in [records[records["split"] == split]]
        },
        "seen": cohort.seen,
        "notes": _notes(cohort, present),
    }


def _notes(cohort: Cohort, present: int) -> list[str]:
    notes = []
    if cohort.synthetic:
        notes.append("synthetic: nothing of it is a patient")
    if cohort.kind == "openi" and not present:
        # Without any image, an image whose report is empty is the only kind of image that becomes a reject.
        lost = cohort.rejects["reason"].isin(["empty-report", "duplicate-record"]).sum()
        notes.append(f"reports only: {len(cohort.records) + lost:,} images named, none present")
    elif cohort.root is not None and not present and len(cohort.records):
        notes.append(f"reports only: {len(cohort.records):,} images named, none present")
    if cohort.text_labels is not None and cohort.text_labels.not_english:
        notes.append(
            f"reports that are not English, and from which no labels were read: {cohort.text_labels.not_english:,}"
        )
    shared = _duplicate_images(cohort.records)["of_several_patients"]
    if shared:
        notes.append(f"{shared:,} image files are listed under several patients; these patients share a split")
    noted = {note: (one["images"], one["first"]) for note, one in cohort.seen.get("notes", {}).items()}
    return [*notes, *cohort.understood.notes, *sentences(noted, cohort.seen.get("images", 0))]


def _as_read(row: dict[Any, Any]) -> dict[str, Any]:
    """One record for people: the report's beginning, and the labels that it has."""
    shown: dict[str, Any] = {
        name: row[name] for name in ("record_id", "patient_id", "study_id", "image", "view", "sex")
    }
    shown["age"] = None if np.isnan(row["age"]) else float(row["age"])
    shown["labels"] = {label: int(row[label]) for label in LABELS if not np.isnan(row[label])}
    report = " ".join(row["report"].split())
    shown = {name: _visible(value) if isinstance(value, str) else value for name, value in shown.items()}
    report = _visible(report)
    return shown | {"report": report if len(report) <= SHOWN else report[:SHOWN].rstrip() + " ..."}


def _visible(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _ends(values: pd.Series) -> dict[str, float]:
    return {} if values.isna().all() else {"lowest": float(values.min()), "highest": float(values.max())}


def _counted(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().items()}


def label_counts(values: pd.Series) -> dict[str, int]:
    """How many are positive, uncertain, negative and missing."""
    return {
        "positive": int((values == 1).sum()),
        "uncertain": int((values == -1).sum()),
        "negative": int((values == 0).sum()),
        "missing": int(values.isna().sum()),
    }


def _spread(values: pd.Series) -> dict[str, float]:
    if values.empty:
        return {}
    quartiles = np.percentile(values, [0, 25, 50, 75, 100])
    return dict(zip(("min", "q1", "median", "q3", "max"), map(float, quartiles), strict=True))


def _duplicate_reports(studies: pd.DataFrame) -> dict[str, int]:
    sizes = studies["report"].map(text_key).value_counts()
    shared = sizes[sizes > 1]
    return {"texts": len(shared), "studies": int(shared.sum())}


def _duplicate_images(records: pd.DataFrame) -> dict[str, int]:
    files = records[records["image"] != ""].groupby("image")["patient_id"].agg(["size", "nunique"])
    shared = files[files["size"] > 1]
    return {
        "files": len(shared),
        "records": int(shared["size"].sum()),
        "of_several_patients": int((shared["nunique"] > 1).sum()),
    }
