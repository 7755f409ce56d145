"""Images, thumbnails and texts of a stored cohort as the pages show them, kept in bounded caches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from explorer import strip, viewer
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.registry import source_for
from linkage_core.errors import ImageError
from linkage_core.store import Entry

# What a thumbnail is called by when several findings are present: the more telling first.
_TELLING = (
    "Pneumothorax",
    "Fracture",
    "Lung Lesion",
    "Consolidation",
    "Pneumonia",
    "Pleural Effusion",
    "Edema",
    "Atelectasis",
    "Pleural Other",
    "Lung Opacity",
    "Cardiomegaly",
    "Enlarged Cardiomediastinum",
    "Support Devices",
)
_SHORT = {
    "Pleural Effusion": "Effusion",
    "Lung Lesion": "Lesion",
    "Lung Opacity": "Opacity",
    "Pleural Other": "Pleura, other",
    "Enlarged Cardiomediastinum": "Mediastinum",
    "Support Devices": "Line / device",
}
_VIEWS = {"PA": "frontal PA", "AP": "frontal AP", "LATERAL": "lateral"}
_VALUES = {1: "present", 0: "absent", -1: "uncertain"}


def view_words(view: str) -> str:
    return _VIEWS.get(view, view.lower() or "view unknown")


def main_finding(record: Mapping[str, Any]) -> str:
    """The one finding a thumbnail is called by.

    >>> main_finding({"Edema": 1.0, "Pneumothorax": 1.0}), main_finding({"Edema": -1.0}), main_finding({})
    ('Pneumothorax', 'Edema?', 'No label')
    """
    for value, mark in ((1, ""), (-1, "?")):
        for label in _TELLING:
            if record.get(label) == value:
                return _SHORT.get(label, label) + mark
    return "No finding" if record.get("No Finding") == 1 else "No label"


def labels_in_words(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Each of the 14 labels with present, absent, uncertain or not mentioned."""
    return [(label, _VALUES.get(record.get(label), "not mentioned")) for label in LABELS]


@st.cache_resource(show_spinner=False, max_entries=8)
def _source(described: str) -> Any:
    return source_for(json.loads(described))


def _described(entry: Entry) -> str:
    return json.dumps(entry.manifest["cohort"], sort_keys=True)


@st.cache_data(show_spinner=False, max_entries=48)
def _radiograph(described: str, record: dict[str, Any], side: int, caption: str, alt: str) -> bytes:
    name = str(record["record_id"])
    try:
        return viewer.pack(_source(described).read_image(record), image=name, caption=caption, alt=alt, side=side)
    except ImageError as error:
        return viewer.pack_failure(error.what, error.remedy, image=name, caption=caption)


def radiograph(entry: Entry, record: pd.Series, wanted: str | None) -> bytes:
    """The payload of the viewer; at full size where the browser `wanted` this image so."""
    name, view = str(record["record_id"]), view_words(record["view"])
    origin = "synthetic" if entry.synthetic else entry.cohort
    side = viewer.DETAIL_SIDE if wanted == name else viewer.SIDE
    alt = f"Chest radiograph {name}, {view}, {origin}. Main finding by its labels: {main_finding(record)}."
    return _radiograph(_described(entry), record.to_dict(), side, f"{name} · {view} · {origin}", alt)


@st.cache_data(show_spinner=False, max_entries=2000)
def _picture(described: str, record: dict[str, Any]) -> str | None:
    source = _source(described)
    try:
        return strip.picture(source.read_image(record).pixels)
    except ImageError:
        return None  # the strip says "no image"; the viewer says why


def thumbnails(entry: Entry, records: pd.DataFrame) -> Sequence[strip.Thumbnail]:
    """One per row of records; a few thousand are kept."""
    described = _described(entry)
    rows = records.to_dict("records")
    return [strip.Thumbnail(str(row["record_id"]), main_finding(row), _picture(described, row)) for row in rows]


def report_text(entry: Entry, study_id: str) -> str | None:
    """A report's text, or None where it is not at hand. Call it only where text may be shown."""
    text = _source(_described(entry)).read_report(study_id)
    return None if text is None else str(text)
