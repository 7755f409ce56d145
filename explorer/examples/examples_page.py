"""Examples: what is asked, which images are found, the chosen one with its buttons, and the lists beside it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from explorer.drawing import palette
from explorer.drawing.glossary import linked
from explorer.drawing.words import mechanisms
from explorer.examples import gallery, ranked, strip, viewer
from explorer.frame import kept, state
from explorer.frame.controls import epsilon_words, model_control, pool_slider
from linkage_core.audit.examples import Examples, RankedList
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Entry

FILTERS = {"find findings": [], "find views": [], "find exposure": (0, 100), "find patient": "", "find record": ""}
ABSENT = {
    True: "Text is not stored: run linkage embed again with --store-text.",
    False: "Text hidden: the switch in the sidebar shows it.",
}
HINT = "Drag: contrast · wheel: zoom · i: invert · space: reset"


@dataclass(frozen=True)
class Asked:
    """What the page is asked for.

    second: another model, or the mitigation of the first, beside it; None where there is none. why_no_mitigation: why
    that one is not there although it was chosen. n_shown: how many reports a list shows.
    """

    cohort: str
    model: str
    second: str | None
    why_no_mitigation: str
    entry: Entry
    examples: Examples
    pool_size: int
    n_shown: int

    @property
    def names(self) -> list[str]:
        """Of whom there is a list: the model, and what it is compared with."""
        return [self.model] if self.second is None else [self.model, self.second]


@dataclass(frozen=True)
class Found:
    """The images that meet the filters, the place among them of the one on screen, and the line under it."""

    records: pd.DataFrame
    at: int
    note: str

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.records["record_id"]]

    @property
    def record(self) -> pd.Series | None:
        """The one on screen; None where no image meets the filters."""
        return self.records.iloc[self.at] if len(self.records) else None


def way_back() -> None:
    """The way back to the page that led here."""
    if st.session_state.get("way back") == "exposure":
        st.page_link("pages/exposure.py", label="Back to Who is exposed", icon=":material/arrow_back:")
    elif state.get("second") == state.MITIGATED:
        st.page_link("pages/mitigation.py", label="Mitigation", icon=":material/shield:")


# -- what is asked ---------------------------------------------------------------------------------------------------


def controls() -> Asked:
    """The row of controls: model, N, what to compare with, number of reports shown."""
    cohort = state.cohort()
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        model = model_control("examples model")
        entry = kept.entry(cohort, model)
        others = [state.MITIGATED, *(name for name in state.models() if name != model)]
        second = state.get("second") if state.get("second") in others else None
        why_no_mitigation = ""
        if second == state.MITIGATED:
            try:
                examples_of(cohort, model, second, second)
            except LinkageError as error:  # said in place of the second list
                second, why_no_mitigation = None, f"{error.what} {error.remedy}"
        n_place = st.container(width=210)
        _second_control(others, model, state.MITIGATED if why_no_mitigation else second or "")
        n_shown = st.segmented_control(
            "Reports shown", (4, 8, 12), default=4, required=True, key="shown", bind="query-params"
        )
    names = [model] if second is None else [model, second]
    largest = min(examples_of(cohort, model, name, second).largest_pool for name in names)
    with n_place:
        pool_size = pool_slider(pool_sizes(largest), f"examples N to {largest}")
    examples = examples_of(cohort, model, model, second)
    return Asked(cohort, model, second, why_no_mitigation, entry, examples, pool_size, int(n_shown or 4))


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


def examples_of(cohort: str, model: str, name: str, second: str | None) -> Examples:
    """Records under a model's own heads, or under the mitigation of the chosen one; beside a mitigation both of those
    patients alone who had no part in it."""
    if name == state.MITIGATED:
        return kept.mitigated_examples(cohort, model, state.setting())
    return kept.examples(cohort, name, held_out=second == state.MITIGATED)


# -- which images, and which of them is shown ------------------------------------------------------------------------


def find(examples: Examples) -> Found:
    """The images that meet the filters; the record in the URL is shown, or the first one and then written there."""
    for key, value in FILTERS.items():
        st.session_state.setdefault(key, value)
    views = views_of(examples)
    st.session_state["find views"] = [view for view in st.session_state["find views"] if view in views]
    records = examples.find(
        findings=tuple(st.session_state["find findings"]),
        views=tuple(st.session_state["find views"]),
        patient=st.session_state["find patient"].strip() or None,
        record=st.session_state["find record"].strip() or None,
        exposure=tuple(st.session_state["find exposure"]),
    )
    names, asked = records["record_id"].tolist(), state.get("record")
    held_out = state.get("second") == state.MITIGATED and examples.entry.default_split == "all"
    note = f"Held-out patients only · {HINT}" if held_out else HINT
    absent = "is of nobody held out from the mitigation" if held_out else "is not in this cohort"
    if names and asked not in (None, *names):
        known = asked in set(examples.records["record_id"])
        note = f"Image {asked} {'is not among those found' if known else absent}: here is the first."
    at = names.index(asked) if asked in names else 0
    if names and asked != names[at]:
        state.put("record", names[at])
    return Found(records, at, note)


def views_of(examples: Examples) -> list[str]:
    """The views that images here have, in their order."""
    return [view for view in gallery.VIEWS if view in set(examples.records["view"])]


def show_record(record: str) -> None:
    state.put("record", record)


def clear_filters() -> None:
    st.session_state.update(FILTERS)


def draw_strip(entry: Entry, found: Found) -> None:
    """The row of small images, with the one on screen framed."""
    names = found.names
    start = strip.window(found.at, len(names), st.session_state.get("strip start"))
    st.session_state["strip start"] = start
    in_sight = gallery.thumbnails(entry, found.records.iloc[start : start + strip.LENGTH])
    strip.strip(in_sight, names[found.at] if names else "", key="strip", on_pick=show_record)


def draw_image(asked: Asked, found: Found) -> None:
    """The image on screen, and under it the way to others."""
    record = found.record
    if record is not None:
        payload = gallery.radiograph(asked.entry, record, viewer.wanted("viewer"))
    else:
        payload = viewer.pack_failure("No image matches.", "Clear the filters to see all of them.")
    viewer.viewer(payload, key="viewer")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        _steps(found.names, found.at)
        with st.popover("Find", icon=":material/search:"):
            _filters(asked.examples, len(found.records))
    if record is not None:
        st.html(ranked.note(found.note))
    else:
        st.button("No image matches. Clear filters.", on_click=clear_filters, key="clear")


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
    st.pills("Findings, all of them present", LABELS[1:], selection_mode="multi", key="find findings")
    views = views_of(examples)
    if views:
        st.segmented_control("View", views, selection_mode="multi", format_func=gallery.view_words, key="find views")
    st.slider("Exposure percentile", 0, 100, key="find exposure", help=linked("100: linked most easily."))
    left, right = st.columns(2)
    left.text_input("Patient", key="find patient")
    right.text_input("Image", key="find record")
    st.caption(f"{n_found:,} of {len(examples.records):,} images")
    st.button("Clear filters", on_click=clear_filters, key="clear in find")


# -- the lists -------------------------------------------------------------------------------------------------------


def lists_of(asked: Asked, record: str) -> dict[str, RankedList]:
    """The top reports by model, in a pool of N or of all that the image's patient leaves over where those are fewer."""
    lists = {}
    for name in asked.names:
        examples = examples_of(asked.cohort, asked.model, name, asked.second)
        n = min(asked.pool_size, examples.largest_pool_of(record))
        lists[name] = examples.ranked(record, n, min(asked.n_shown, n))
    return lists


def draw_lists(asked: Asked, record: pd.Series | None) -> dict[str, RankedList]:
    """The lists side by side; returns them, by model."""
    st.html(f"<style>:root {{ --lx-page: {palette.current().page}; }}\n{ranked.STYLE}</style>")
    if asked.why_no_mitigation:
        st.html(ranked.note(f"No list after mitigation. {asked.why_no_mitigation}"))
    lists = {} if record is None else lists_of(asked, record["record_id"])
    st.html(ranked.ranked_lists([ranked_view(asked, name, ranking) for name, ranking in lists.items()]))
    return lists


def ranked_view(asked: Asked, name: str, ranking: RankedList) -> ranked.RankedView:
    """One list with its texts, as far as they may be shown."""
    entry = kept.entry(asked.cohort, asked.model if name == state.MITIGATED else name)
    may_show = state.show_text()
    cards = [
        ranked.Card(
            rank=report.rank,
            similarity=report.similarity,
            is_match=report.is_match,
            n_identical=report.n_identical,
            words=report.report_words,
            text=gallery.report_text(entry, report.study_id, report.report_key) if may_show else None,
            absent=ABSENT[may_show],
        )
        for report in ranking.reports
    ]
    return ranked.RankedView(
        caption=caption(name, asked.second),
        rank=ranking.rank,
        pool_size=ranking.pool_size,
        first_in=ranking.first_in,
        cards=cards,
        n_hidden_above=ranking.n_hidden_above,
    )


def caption(name: str, beside: str | None) -> str:
    """What stands above a list."""
    if name == state.MITIGATED:
        chosen = state.setting()
        return f"After: {mechanisms()[chosen.mechanism].lower()}, ε = {epsilon_words(chosen.epsilon)}"
    label = state.model_label(name)
    return f"Before: the {label} model as it came" if beside == state.MITIGATED else f"Ranked by the {label} model"


# -- details ---------------------------------------------------------------------------------------------------------


def details(asked: Asked, record: pd.Series, ranking: RankedList) -> None:
    """What is known of the record on screen; everything from the cohort is escaped."""
    left, right = st.columns(2, gap="large")
    left.markdown("**Labels of this image**")
    left.html(ranked.facts(gallery.labels_in_words(record)))
    right.markdown("**This record**")
    right.html(ranked.facts(record_facts(record, ranking)))
    right.markdown("**Where the numbers come from**")
    right.html(ranked.facts(origin(asked.entry)))
    st.markdown("**Every report of this patient**")
    everyone = asked.examples.records
    same = everyone[everyone["patient_id"] == record["patient_id"]].drop_duplicates("study_id")
    st.html(ranked.facts([(row["study_id"], text_or_reason(asked.entry, row)) for _, row in same.iterrows()]))


def record_facts(record: pd.Series, ranking: RankedList) -> list[tuple[str, str]]:
    """Who and what the record is, its ties, its exposure."""
    sex = {"F": "female", "M": "male"}.get(record["sex"], "not known")
    age = "not known" if pd.isna(record["age"]) else f"{record['age']:.0f} years"
    return [
        ("Image", record["record_id"]),
        ("Study", record["study_id"]),
        ("Patient", f"{record['patient_id']} ({sex}, {age})"),
        ("View", gallery.view_words(record["view"])),
        ("Ties", ties_in_words(ranking)),
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
    return ranked.without_text(int(record["report_words"]), ABSENT[may_show]) if text is None else text


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
