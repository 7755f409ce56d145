"""A picture of one's own on Examples: what it would link to in this cohort's pool. It lives in the session alone.

Its bytes are decoded by a process of their own, which a hostile file may crash; nothing of it is written, logged or
kept between sessions, and nothing of its header is shown but the names of attributes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import streamlit as st

from explorer.examples import gallery, lists, ranked, strip
from explorer.examples.lists import Asked
from explorer.frame import page, state
from linkage_core.audit.examples import RankedReport
from linkage_core.cohorts.identifiers.headers import identifying
from linkage_core.errors import ImageError, LinkageError
from linkage_core.images import kinds
from linkage_core.images.notes import NOTES
from linkage_core.images.pixels import Radiograph
from linkage_core.images.processes import Readers
from linkage_core.images.read import read_given
from linkage_core.store.entry import Entry
from linkage_core.utility.prompts import encoder_of, refuse_imported

MEGABYTES = 64
LETTERS = 20_000
SIDE = 220  # pixels of the small picture


@dataclass(frozen=True)
class Given:
    """An upload under one model: `asked` names both. features (d,); picture: a small one as a data address;
    identifying: names of attributes; notes: what is unusual about the image."""

    asked: tuple[str, ...]
    features: np.ndarray
    picture: str
    identifying: tuple[str, ...]
    notes: tuple[str, ...]


@st.cache_resource(show_spinner=False)
def _reader() -> Readers:
    return Readers(read_given, workers=1)


@st.fragment
def draw(asked: Asked) -> None:
    """The expander, and in it the upload and its list."""
    with st.expander("Try a picture of your own"), page.guarded():
        try:
            refuse_imported(asked.entry)
        except LinkageError as error:  # nothing is wrong with the page
            st.html(f'<p class="le-cannot">{page.marked(f"{error.what} {error.remedy}")}</p>')
            return
        left, right = st.columns([0.36, 0.64], gap="large")
        with left:
            file = st.file_uploader(
                "A chest radiograph: DICOM, PNG or JPEG", max_upload_size=MEGABYTES, key="own picture file"
            )
            text = st.text_area("Its report, if you have it", max_chars=LETTERS, key="own picture report", height=110)
            st.caption("Both stay in the memory of this session: nothing is stored, and closing the page forgets them.")
        if file is None:
            st.session_state.pop("own picture", None)
            return
        given = given_of(asked.entry, file.getvalue())
        with left:
            st.html(about(given))
        report = encoder_of(asked.entry).text_features([text.strip()])[0] if text.strip() else None
        with right:
            show(asked, given, report, text.strip())


def given_of(entry: Entry, data: bytes) -> Given:
    """The upload, decoded and embedded; kept in the session for as long as it is the same one. ImageError where it
    cannot be used."""
    asked = (entry.cohort, entry.model, entry.fingerprint, hashlib.sha256(data).hexdigest())
    kept = st.session_state.get("own picture")
    if isinstance(kept, Given) and kept.asked == asked:
        return kept
    radiograph = read(data)
    named = identifying(data) if kinds.is_dicom(data) else []
    features = encoder_of(entry).image_features([radiograph])[0]
    given = Given(asked, features, strip.picture(radiograph, SIDE), tuple(named), radiograph.notes)
    st.session_state["own picture"] = given
    return given


def read(data: bytes) -> Radiograph:
    """The pixels of an upload, decoded in a process of their own. ImageError where they cannot be used."""
    if len(data) > MEGABYTES << 20:
        raise ImageError("too-large", f"This file has {len(data):,} bytes.", f"At most {MEGABYTES} MB are taken.")
    (reading,) = _reader().read([{"data": data, "image": "This file"}], 1)
    if isinstance(reading, ImageError):
        raise reading
    assert isinstance(reading, Radiograph)  # no picture was asked for
    return reading


def about(given: Given) -> str:
    """The small picture, what is unusual about it, and a warning of what its header tells; escaped."""
    lines = [NOTES[note] for note in given.notes if note in NOTES]
    if given.identifying:
        named = ", ".join(given.identifying)
        lines.insert(0, f"Warning: the header of this file fills in {named}. None of it was kept or sent on.")
    said = "".join(ranked.line(line) for line in lines)
    return f'<img class="lx-given" src="{given.picture}" alt="The picture that was given">{said}'


def show(asked: Asked, given: Given, report: np.ndarray | None, text: str) -> None:
    """The list: the cohort's reports that the model ranks highest for the picture, and its own report among them."""
    examples, may_show = asked.examples, state.show_text()
    n = min(asked.pool_size, examples.largest_pool_of_stranger(own=report is not None))
    found = examples.of_stranger(given.features, n, min(asked.n_shown, n), report, draw=int(state.get("draw")))

    def card(each: RankedReport) -> ranked.Card:
        stored = None
        if may_show and not each.is_match:
            stored = gallery.report_text(examples.entry, each.study_id, each.report_key)
        return ranked.Card(
            key=lists.card_key(each.report_key),
            rank=each.rank,
            similarity=each.similarity,
            is_match=each.is_match,
            n_identical=each.n_identical,
            words=each.report_words,
            text=text if each.is_match else stored,
            absent=lists.ABSENT[may_show],
        )

    head = ("Its own report is ", f"number {found.rank:,}", f" of {n:,}") if report is not None else None
    ranked.draw(
        ranked.RankedView(
            image=given.asked[-1],
            caption=f"Ranked by the {state.model_label(asked.model)} model",
            rank=found.rank,
            pool_size=n,
            first_in=found.first_in,
            scale=examples.scale,
            cards=[card(each) for each in found.reports],
            n_shown=asked.n_shown,
            n_hidden_above=found.n_hidden_above,
            head=head or ("Nearest of ", f"{n:,} reports", " of this cohort"),
            second=None if report is not None else "Whether any is its own cannot be told without its report.",
        ),
        key="list of own picture",
        on_told=lambda: None,
    )
