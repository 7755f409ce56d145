"""Images, thumbnails and texts of a stored cohort as the pages show them, kept in bounded caches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import pandas as pd
import streamlit as st
from threadpoolctl import ThreadpoolController

from explorer.examples import strip, viewer
from explorer.frame import access, kept, page
from linkage_core.cohorts import phantom
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.registry import PHANTOM_SITES, Source, read_stored, source_for
from linkage_core.errors import ImageError, LinkageError
from linkage_core.images.pixels import Radiograph
from linkage_core.images.processes import Readers
from linkage_core.store.entry import Entry

Record = Mapping[str, Any] | pd.Series
DRAWN_SIDE = 512
_BLAS = ThreadpoolController()

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
VIEWS = {"PA": "frontal PA", "AP": "frontal AP", "LATERAL": "lateral"}
_VALUES = {1.0: "present", 0.0: "absent", -1.0: "uncertain"}


def view_words(view: str) -> str:
    return VIEWS.get(view, view.lower() or "view unknown")


def main_finding(record: Record) -> str:
    """The one finding a thumbnail is called by.

    >>> main_finding({"Edema": 1.0, "Pneumothorax": 1.0}), main_finding({"Edema": -1.0}), main_finding({})
    ('Pneumothorax', 'Edema?', 'No label')
    """
    for value, mark in ((1, ""), (-1, "?")):
        for label in _TELLING:
            if record.get(label) == value:
                return _SHORT.get(label, label) + mark
    return "No finding" if record.get("No Finding") == 1 else "No label"


def labels_in_words(record: Record) -> list[tuple[str, str]]:
    """Each of the 14 labels with present, absent, uncertain or not mentioned."""
    return [(label, _VALUES.get(record[label], "not mentioned")) for label in LABELS]


@st.cache_resource(show_spinner=False, max_entries=8)
def _source(path: str, fingerprint: str, _entry: Entry) -> Source:
    return source_for(_entry.manifest["cohort"], _entry.stored_reports() or None)


def _images(entry: Entry) -> str:
    """What images depend on: the same for every model of a cohort, so that a change of model finds them kept."""
    return json.dumps(entry.manifest["cohort"], sort_keys=True)


@st.cache_resource(show_spinner=False)
def _reader() -> Readers:
    """One warm process that decodes the files of all sessions: one that crashes its decoder leaves the pages alone."""
    return Readers(read_stored, workers=1)


def _read(cohort: dict[str, Any], record: dict[str, Any], side: int) -> Radiograph:
    """One image; the phantom's are drawn at the size wanted, the others read as they are."""
    if cohort["kind"] in PHANTOM_SITES:
        seed = cohort.get("options", {}).get("seed", phantom.SEED)
        # small matrices: with more threads on a busy machine each drawing took 15 times as long
        with _BLAS.limit(limits=1, user_api="blas"):
            return phantom.image_of(record["record_id"], side, seed)
    (reading,) = _reader().read([{**record, "cohort": cohort}], 1)
    if isinstance(reading, ImageError):
        raise reading
    return cast(Radiograph, reading)  # what is asked for where no picture is


@st.cache_data(show_spinner=False, max_entries=48)
def _radiograph(images: str, record: dict[str, Any], side: int, caption: str, alt: str, address: str) -> bytes:
    name = record["record_id"]
    try:
        image = _read(json.loads(images), record, DRAWN_SIDE)
    except LinkageError as error:
        what, remedy = page.without_places(error.what), page.without_places(error.remedy)
        return viewer.pack_failure(what, remedy, image=name, caption=caption)
    return viewer.pack(image, image=name, caption=caption, alt=alt, side=side, address=address)


def radiograph(entry: Entry, record: pd.Series, wanted: str | None) -> bytes:
    """The payload of the viewer; at full size where the browser `wanted` this image so."""
    name, view = str(record["record_id"]), view_words(record["view"])
    origin = "synthetic" if entry.synthetic else entry.cohort
    side = viewer.DETAIL_SIDE if wanted == name else viewer.SIDE
    alt = f"Chest radiograph {name}, {view}, {origin}. Main finding by its labels: {main_finding(record)}."
    address = kept.address_of(entry.cohort, entry.model, name)
    access.shown("image", entry.cohort, [name])
    return _radiograph(_images(entry), _plain(record), side, f"{name} · {view} · {origin}", alt, address)


def unnamed(entry: Entry, record: pd.Series, name: str, wanted: str | None) -> bytes:
    """As `radiograph`, but it tells neither which image it is nor what is found in it; `name` stands for it."""
    view = view_words(record["view"])
    origin = "synthetic" if entry.synthetic else entry.cohort
    side = viewer.DETAIL_SIDE if wanted == name else viewer.SIDE
    access.shown("image", entry.cohort, [str(record["record_id"])])
    payload = _radiograph(_images(entry), _plain(record), side, f"{view} · {origin}", f"Chest radiograph, {view}.", "")
    return viewer.renamed(payload, name)


@st.cache_data(show_spinner=False, max_entries=2000)
def _picture(images: str, record: dict[str, Any], side: int = strip.SIDE) -> str | None:
    try:
        return strip.picture(_read(json.loads(images), record, side), side)
    except LinkageError:
        return None  # the strip says "no image"; the viewer says why


def thumbnails(entry: Entry, records: pd.DataFrame) -> list[strip.Thumbnail]:
    """One per row of records; the last two thousand are kept."""
    images = _images(entry)
    access.shown("image", entry.cohort, records["record_id"].astype(str))
    return [
        strip.Thumbnail(str(row["record_id"]), main_finding(row), _picture(images, _plain(row)))
        for _, row in records.iterrows()
    ]


def picture(entry: Entry, record: pd.Series, side: int) -> str | None:
    """One image as a data address, or None where it cannot be read."""
    access.shown("image", entry.cohort, [str(record["record_id"])])
    return _picture(_images(entry), _plain(record), side)


def _plain(record: pd.Series) -> dict[str, Any]:
    """What readers of images look at."""
    return {name: str(record[name]) for name in ("record_id", "image")}


def report_text(entry: Entry, study_id: str, report_key: str, *, shown: bool = True) -> str | None:
    """A report's text, or None where it is not at hand. Call it only where text may be shown. `shown`: whether it is,
    or is only looked at by the program."""
    if shown:
        access.shown("report", entry.cohort, [str(study_id)])
    # a text that changed since is not shown; with imported vectors the key is the vector's and says nothing of the text
    key = "" if entry.imported else report_key
    return _source(str(entry.path), entry.fingerprint, entry).read_report(study_id, key)


@st.cache_resource(show_spinner=False, max_entries=4)
def _texts(studies: str, _entry: Entry) -> Mapping[str, str]:
    if _entry.manifest["cohort"]["kind"] not in PHANTOM_SITES:
        return _entry.stored_reports()
    source = source_for(_entry.manifest["cohort"])
    rows = _entry.records(_entry.default_split).drop_duplicates("study_id")
    read = {
        study: source.read_report(study, key) for study, key in zip(rows["study_id"], rows["report_key"], strict=True)
    }
    return {study: text for study, text in read.items() if text is not None}


def texts_to_count_with(entry: Entry) -> Mapping[str, str]:
    """Report text by study id, for figures over all reports (words in common); none of it is shown.

    Of real cohorts only text that the user has had stored: their folders are not read for this. Empty without.
    """
    files = entry.manifest["files"]
    return _texts("+".join([entry.cohort, *(files[f]["sha256"] for f in sorted(files) if f.startswith("re"))]), entry)
