"""Examples: what is asked, which images are found, the chosen one with its buttons, and the lists beside it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import streamlit as st

from explorer.drawing.glossary import linked
from explorer.examples import gallery, lists, ranked, strip, viewer
from explorer.examples.lists import Asked
from explorer.frame import kept, state
from explorer.frame.controls import (
    model_control,
    number_box,
    pool_slider,
    range_slider,
    replaced_pool,
    several,
    switch,
    text_box,
)
from linkage_core.audit.examples import Examples, RankedList
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.store.entry import Entry

HINT = "Drag: contrast · ctrl and wheel: zoom · i: invert · space: reset"


FILTERS = ("having", "views", "exposed", "patient", "image")
"""Common values that narrow which images are found."""


@dataclass(frozen=True)
class Found:
    """The images that meet the filters, the place among them of the one on screen, and the line under it."""

    records: pd.DataFrame
    at: int
    note: str

    @cached_property
    def names(self) -> list[str]:
        return [str(name) for name in self.records["record_id"].tolist()]

    @property
    def record(self) -> pd.Series | None:
        """The one on screen; None where no image meets the filters."""
        return self.records.iloc[self.at] if len(self.records) else None


def way_back() -> None:
    """The way back to the page that led here."""
    if st.session_state.get("way back") == "exposure":
        st.page_link("pages/exposure.py", label="Back to Who is exposed", icon=":material/arrow_back:")


# -- what is asked ---------------------------------------------------------------------------------------------------


def controls() -> Asked:
    """The row of controls: model, N, what to compare with, number of reports shown."""
    cohort = state.cohort()
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        model = model_control("examples model")
        entry = kept.entry(cohort, model)
        others = [state.MITIGATED, *(name for name in state.models() if name != model)]
        second = state.get("second") if state.get("second") in others else None
        n_place = st.container(width=200)
        _second_control(others, model, second or "")
        n_shown = number_box("shown", "Reports shown", state.MOST_SHOWN, key="examples shown")
    examples = kept.examples(cohort, model, held_out=second == state.MITIGATED)
    largest = examples.largest_pool
    if second is not None and second != state.MITIGATED:
        largest = min(largest, kept.examples(cohort, second).largest_pool)
    with n_place:
        pool_size = pool_slider(pool_sizes(largest), "examples N", filled=range(2, largest + 1))
    return Asked(cohort, model, second, entry, examples, pool_size, n_shown)


def _second_control(others: list[str], model: str, shown: str) -> None:
    """What the model is compared with; `shown` also where it cannot be."""
    key = f"examples second beside {model}"
    if st.session_state.get(key) != shown:
        st.session_state[key] = shown

    def words(name: str) -> str:
        if name == state.MITIGATED:
            return "mitigation"
        return state.model_label(name) if name else "no other"

    def take() -> None:
        state.put("second", st.session_state[key] or None)

    st.selectbox("Compare with", ["", *others], format_func=words, key=key, on_change=take, width=150)


def pool_sizes(largest: int) -> list[int]:
    """10, 30, 100, 300 ... and the whole pool, which no step comes close to."""
    steps = [step * 10**power for power in range(1, 9) for step in (1, 3)]
    return [n for n in steps if n < 0.9 * largest] + [largest]


# -- which images, and which of them is shown ------------------------------------------------------------------------


def find(examples: Examples) -> Found:
    """The images that meet the filters, and of them the record in the URL, or the first one where it is not there.

    The URL is left as it is: what the page itself wrote there would be an entry of the browser's history by itself.
    """
    low, high = exposed_range()
    records = examples.find(
        findings=chosen_of("having"),
        views=[view for view in chosen_of("views") if view in views_of(examples)],
        patient=str(state.get("patient")).strip() or None,
        record=str(state.get("image")).strip() or None,
        exposure=(low, high),
    )
    if state.get("order"):
        records = records.sort_values("exposure_percentile", ascending=False, kind="stable")
    names, asked = records["record_id"].tolist(), state.get("record")
    held_out = state.get("second") == state.MITIGATED and examples.entry.default_split == "all"
    note = f"Held-out patients only · {HINT}" if held_out else HINT
    absent = "is of nobody held out from the mitigation" if held_out else "is not in this cohort"
    if names and asked not in (None, *names):
        known = asked in set(examples.records["record_id"])
        note = f"Image {asked} {'is not among those found' if known else absent}: here is the first."
    return Found(records, names.index(asked) if asked in names else 0, note)


def views_of(examples: Examples) -> list[str]:
    """The views that images here have, in their order."""
    there = set(examples.records["view"].unique())
    return [view for view in gallery.VIEWS if view in there]


def chosen_of(name: str) -> list[str]:
    """A common value of several words with commas between."""
    return [each for each in str(state.get(name)).split(",") if each]


def exposed_range() -> tuple[int, int]:
    """Percentiles of exposure between which images are looked for."""
    low, _, high = (str(state.get("exposed")) or "0-100").partition("-")
    return int(low), int(high)


def show_record(record: str) -> None:
    """Another image, looked at as it comes."""
    state.put_all({"record": record, "view": ""})


def clear_filters() -> None:
    state.put_all({name: state.DEFAULTS[name] for name in FILTERS})


def draw_strip(entry: Entry, found: Found) -> None:
    """The row of small images, with the one on screen framed."""
    names = found.names
    start = strip.window(found.at, len(names), st.session_state.get("strip start"))
    st.session_state["strip start"] = start
    in_sight = gallery.thumbnails(entry, found.records.iloc[start : start + strip.LENGTH])
    strip.strip(in_sight, names[found.at] if names else "", key="strip", on_pick=show_record)


def widths(asked: Asked) -> list[float]:
    """Of the image and of what stands beside it: two lists need more room than one."""
    return [0.43, 0.57] if asked.second is None else [0.29, 0.71]


def draw_image(asked: Asked, found: Found) -> None:
    """The image on screen, and under it the way to others."""
    record = found.record
    _viewer(asked.entry, record)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        _steps(found.names, found.at)
        with st.popover("Find", icon=":material/search:"):
            _filters(asked.examples, len(found.records))
    if record is not None:
        st.html(ranked.note(" · ".join(filter(None, (replaced_pool(), found.note)))))
    else:
        st.button("No image matches. Clear filters.", on_click=clear_filters, key="clear")


@st.fragment
def _viewer(entry: Entry, record: pd.Series | None) -> None:
    """The picture; what the reader does to it runs this again and nothing else of the page."""
    if record is not None:
        payload = gallery.radiograph(entry, record, viewer.wanted("viewer"))
    else:
        payload = viewer.pack_failure("No image matches.", "Clear the filters to see all of them.")
    viewer.viewer(payload, key="viewer", on_view=keep_view)


def keep_view(image: str, view: str) -> None:
    """Puts how an image is looked at into the address, which then names the image too."""
    state.put_all({"record": image, "view": state.view_text(view)})


def _steps(names: list[str], at: int) -> None:
    """To the previous image, the next, any other."""
    last = len(names) - 1
    before, after = (names[max(at - 1, 0)], names[min(at + 1, last)]) if names else ("", "")
    st.button(
        "",
        icon=":material/chevron_left:",
        key="previous",
        shortcut="Left",
        help="Previous image",
        disabled=at <= 0,
        on_click=show_record,
        args=(before,),
    )
    st.button(
        "",
        icon=":material/chevron_right:",
        key="next",
        shortcut="Right",
        help="Next image",
        disabled=at >= last,
        on_click=show_record,
        args=(after,),
    )
    st.button(
        "Random",
        icon=":material/shuffle:",
        key="random",
        disabled=last < 1,
        on_click=show_record,
        args=(random.choice(names) if names else "",),
    )


def _filters(examples: Examples, n_found: int) -> None:
    several("having", "Findings, all of them present", {name: name for name in LABELS[1:]}, "find findings")
    views = views_of(examples)
    if views:
        several("views", "View", {view: gallery.view_words(view) for view in views}, "find views")
    range_slider("exposed", "Exposure percentile", exposed_range(), "find exposure", linked("100: linked most easily."))
    left, right = st.columns(2)
    with left:
        text_box("patient", "Patient", "find patient")
    with right:
        text_box("image", "Image", "find record")
    switch("order", "Most exposed first", "", "exposure", key="find order")
    st.caption(f"{n_found:,} of {len(examples.records):,} images")
    st.button("Clear filters", on_click=clear_filters, key="clear in find")


# -- details ---------------------------------------------------------------------------------------------------------


def details(asked: Asked, record: pd.Series) -> None:
    """What is known of the record on screen; everything from the cohort is escaped. Nothing that tells the true report
    is sent while that is hidden."""
    hidden = lists.is_hidden(str(record["record_id"]))
    ranking = lists.ranking_of(asked, str(record["record_id"]), asked.examples)
    left, right = st.columns(2, gap="large")
    left.markdown("**Labels of this image**")
    left.html(ranked.facts(gallery.labels_in_words(record)))
    right.markdown("**This record**")
    right.html(ranked.facts(record_facts(record, None if hidden else ranking)))
    right.markdown("**Where the numbers come from**")
    right.html(ranked.facts(origin(asked.entry)))
    st.markdown("**Every report of this patient**")
    if hidden:
        st.html(ranked.note("Not told while the true report is hidden."))
        return
    everyone = asked.examples.records
    same = everyone[everyone["patient_id"] == record["patient_id"]].drop_duplicates("study_id")
    st.html(ranked.facts([(row["study_id"], text_or_reason(asked.entry, row)) for _, row in same.iterrows()]))


def record_facts(record: pd.Series, ranking: RankedList | None) -> list[tuple[str, str]]:
    """Who and what the record is, its ties (if they may be told), its exposure."""
    sex = {"F": "female", "M": "male"}.get(record["sex"], "not known")
    age = "not known" if pd.isna(record["age"]) else f"{record['age']:.0f} years"
    return [
        ("Image", record["record_id"]),
        *([] if ranking is None else [("Study", str(record["study_id"]))]),
        ("Patient", f"{record['patient_id']} ({sex}, {age})"),
        ("View", gallery.view_words(record["view"])),
        *([] if ranking is None else [("Ties", ties_in_words(ranking))]),
        ("Exposure", exposure_in_words(record)),
    ]


def origin(entry: Entry) -> list[tuple[str, str]]:
    """Which cohort and which model the numbers come from."""
    made_by = entry.manifest["model"]
    return [
        ("Cohort", f"{entry.cohort}, fingerprint {str(entry.manifest['cohort'].get('fingerprint', ''))[:16]}"),
        ("Labels", labels_line(entry.labels_note())),
        ("Model", entry.model),
        ("Family", str(made_by.get("family") or "not known")),
        ("Origin", str(made_by.get("model_id") or "not known")),
        ("Revision", str(made_by.get("revision") or "not known")),
        ("Weights", str(made_by.get("weights_sha256") or "not known")[:16]),
        ("Head", "off the shelf"),
        ("Stored in", f"{entry.path.parent.name}/{entry.path.name}"),
    ]


def text_or_reason(entry: Entry, record: pd.Series) -> str:
    may_show = state.show_text()
    text = gallery.report_text(entry, record["study_id"], record["report_key"]) if may_show else None
    return ranked.without_text(int(record["report_words"]), lists.ABSENT[may_show]) if text is None else text


def ties_in_words(ranking: RankedList) -> str:
    if not ranking.n_tied:
        return "no other report scores exactly the same as the true one"
    n = f"{ranking.n_tied:,} other report{' scores' if ranking.n_tied == 1 else 's score'}"
    return f"{n} exactly the same as the true one; which comes first is a matter of chance"


def exposure_in_words(record: pd.Series) -> str:
    if pd.isna(record["p_first_100"]):
        return "not known: too few reports of other patients"
    percentile, first = record["exposure_percentile"], record["p_first_100"]
    return (
        f"percentile {percentile:.0f} of 100 (100: linked most easily); first at N = 100 with probability {first:.4f}"
    )
