"""Examples: one image, and the reports that a model ranks highest for it."""

import random

import pandas as pd
import streamlit as st

from explorer.drawing import palette
from explorer.examples import gallery, ranked, strip, viewer
from explorer.frame import controls, kept, page, state
from explorer.protect import words
from linkage_core.audit.examples import Examples, RankedList
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Entry

FILTERS = {"find findings": [], "find views": [], "find exposure": (0, 100), "find patient": "", "find record": ""}
ABSENT = {
    True: "Text is not stored: run linkage embed again with --store-text.",
    False: "Text hidden: the switch in the sidebar shows it.",
}


def show_record(record: str) -> None:
    state.put("record", record)


def clear_filters() -> None:
    st.session_state.update(FILTERS)


def second_words(name: str) -> str:
    if name == state.MITIGATED:
        return "mitigation"
    return state.model_label(name) if name else "no other"


def take_second(key: str) -> None:
    state.put("second", st.session_state[key] or None)


def pool_sizes(largest: int) -> list[int]:
    """10, 30, 100, 300 ... and the whole pool, which no step comes close to."""
    steps = [step * 10**power for power in range(1, 9) for step in (1, 3)]
    return [n for n in steps if n < 0.9 * largest] + [largest]


def examples_of(name: str) -> Examples:
    """Records under a model's own heads, or under the mitigation of the chosen one."""
    if name == state.MITIGATED:
        return kept.mitigated_examples(state.cohort(), model, state.setting())
    return kept.examples(state.cohort(), name)


def caption(name: str, beside: str | None) -> str:
    """What stands above a list."""
    if name == state.MITIGATED:
        chosen = state.setting()
        return f"After: {words.mechanisms()[chosen.mechanism].lower()}, ε = {controls.epsilon_words(chosen.epsilon)}"
    label = state.model_label(name)
    return f"Before: the {label} model as it came" if beside == state.MITIGATED else f"Ranked by the {label} model"


def ranked_list(name: str, record: str, n: int, shown: int) -> RankedList:
    """The top reports in a pool of N, or of all that this image's patient leaves over where those are fewer."""
    examples = examples_of(name)
    n = min(n, examples.largest_pool_of(record))
    return examples.ranked(record, n, min(shown, n))


def ranked_view(name: str, found: RankedList, beside: str | None) -> ranked.RankedView:
    entry = kept.entry(state.cohort(), model if name == state.MITIGATED else name)
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
        for report in found.reports
    ]
    return ranked.RankedView(
        caption=caption(name, beside),
        rank=found.rank,
        pool_size=found.pool_size,
        first_in=found.first_in,
        cards=cards,
        n_hidden_above=found.n_hidden_above,
    )


def text_or_reason(entry: Entry, record: pd.Series) -> str:
    may_show = state.show_text()
    text = gallery.report_text(entry, record["study_id"], record["report_key"]) if may_show else None
    return f"{record['report_words']} words. {ABSENT[may_show]}" if text is None else text


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


def details(entry: Entry, examples: Examples, record: pd.Series, ranking: RankedList) -> None:
    """What is known of the record on screen; everything from the cohort is escaped."""
    left, right = st.columns(2, gap="large")
    left.markdown("**Labels of this image**")
    left.html(ranked.facts(gallery.labels_in_words(record)))
    sex = {"F": "female", "M": "male"}.get(record["sex"], "not known")
    age = "not known" if pd.isna(record["age"]) else f"{record['age']:.0f} years"
    right.markdown("**This record**")
    right.html(
        ranked.facts(
            [
                ("Image", record["record_id"]),
                ("Study", record["study_id"]),
                ("Patient", f"{record['patient_id']} ({sex}, {age})"),
                ("View", gallery.view_words(record["view"])),
                ("Ties", ties_in_words(ranking)),
                ("Exposure", exposure_in_words(record)),
            ]
        )
    )
    right.markdown("**Where the numbers come from**")
    made_by = entry.manifest["model"]
    right.html(
        ranked.facts(
            [
                ("Cohort", f"{entry.cohort}, fingerprint {str(entry.manifest['cohort'].get('fingerprint', ''))[:16]}"),
                ("Model", entry.model),
                ("Family", str(made_by.get("family") or "not known")),
                ("Origin", str(made_by.get("model_id") or "not known")),
                ("Revision", str(made_by.get("revision") or "not known")),
                ("Weights", str(made_by.get("weights_sha256") or "not known")[:16]),
                ("Head", "off the shelf"),
                ("Stored in", f"{entry.path.parent.name}/{entry.path.name}"),
            ]
        )
    )
    st.markdown("**Every report of this patient**")
    same = examples.records[examples.records["patient_id"] == record["patient_id"]].drop_duplicates("study_id")
    st.html(ranked.facts([(row["study_id"], text_or_reason(entry, row)) for _, row in same.iterrows()]))


page.guard()
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.title("Which report does the model think belongs to this image?", width="stretch")
    if st.session_state.get("way back") == "exposure":
        st.page_link("pages/exposure.py", label="Back to Who is exposed", icon=":material/arrow_back:")
    elif state.get("second") == state.MITIGATED:
        st.page_link("pages/mitigation.py", label="Mitigation", icon=":material/shield:")

with page.guarded():
    # -- controls: model, N, second model, number of reports shown
    row = st.container(horizontal=True, gap="medium", vertical_alignment="top")
    with row:
        model = controls.model_control("examples model")
        entry, examples = kept.entry(state.cohort(), model), kept.examples(state.cohort(), model)
        others = [state.MITIGATED, *(name for name in state.models() if name != model)]
        second = state.get("second") if state.get("second") in others else None
        why_no_mitigation = ""
        if second == state.MITIGATED:
            try:
                examples_of(second)
            except LinkageError as error:  # said in place of the second list
                second, why_no_mitigation = None, f"{error.what} {error.remedy}"
        n_place = st.container(width=210)
        if others:
            key = f"examples second beside {model}"
            shown_second = state.MITIGATED if why_no_mitigation else second or ""
            if st.session_state.get(key) != shown_second:
                st.session_state[key] = shown_second
            st.selectbox(
                "Compare with",
                ["", *others],
                format_func=second_words,
                key=key,
                on_change=take_second,
                args=(key,),
                width=150,
            )
        shown = st.segmented_control(
            "Reports shown", (4, 8, 12), default=4, required=True, key="shown", bind="query-params"
        )
    chosen = [model] if second is None else [model, second]
    largest = min(examples_of(name).largest_pool for name in chosen)
    with n_place:
        n = controls.pool_slider(pool_sizes(largest), f"examples N to {largest}")

    # -- which images, and which of them is shown
    for key, value in FILTERS.items():
        st.session_state.setdefault(key, value)
    views = [view for view in gallery.VIEWS if view in set(examples.records["view"])]
    st.session_state["find views"] = [view for view in st.session_state["find views"] if view in views]
    found = examples.find(
        findings=tuple(st.session_state["find findings"]),
        views=tuple(st.session_state["find views"]),
        patient=st.session_state["find patient"].strip() or None,
        record=st.session_state["find record"].strip() or None,
        exposure=tuple(st.session_state["find exposure"]),
    )
    names = found["record_id"].tolist()
    asked = state.get("record")
    note = "Drag: contrast · wheel: zoom · i: invert · space: reset"
    if names and asked not in (None, *names):
        known = asked in set(examples.records["record_id"])
        note = f"Image {asked} {'is not among those found' if known else 'is not in this cohort'}: here is the first."
    at = names.index(asked) if asked in names else 0
    if names and asked != names[at]:
        state.put("record", names[at])

    start = strip.window(at, len(names), st.session_state.get("strip start"))
    st.session_state["strip start"] = start
    in_sight = gallery.thumbnails(entry, found.iloc[start : start + strip.LENGTH])
    strip.strip(in_sight, names[at] if names else "", key="strip", on_pick=show_record)

    image_side, list_side = st.columns([0.43, 0.57], gap="medium")
    with image_side:
        if names:
            payload = gallery.radiograph(entry, found.iloc[at], viewer.wanted("viewer"))
        else:
            payload = viewer.pack_failure("No image matches.", "Clear the filters to see all of them.")
        viewer.viewer(payload, key="viewer")
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            last = len(names) - 1
            step = {"on_click": show_record, "type": "secondary"}
            before, after = (names[max(at - 1, 0)], names[min(at + 1, last)]) if names else ("", "")
            st.button(
                "",
                icon=":material/chevron_left:",
                key="previous",
                shortcut="Left",
                help="Previous image",
                disabled=at <= 0,
                args=(before,),
                **step,
            )
            st.button(
                "",
                icon=":material/chevron_right:",
                key="next",
                shortcut="Right",
                help="Next image",
                disabled=at >= last,
                args=(after,),
                **step,
            )
            other = random.choice(names) if names else ""
            st.button("Random", icon=":material/shuffle:", key="random", disabled=last < 1, args=(other,), **step)
            with st.popover("Find", icon=":material/search:"):
                st.pills("Findings, all of them present", LABELS[1:], selection_mode="multi", key="find findings")
                if views:
                    st.segmented_control(
                        "View", views, selection_mode="multi", format_func=gallery.view_words, key="find views"
                    )
                st.slider("Exposure percentile", 0, 100, key="find exposure", help="100: linked most easily.")
                left, right = st.columns(2)
                left.text_input("Patient", key="find patient")
                right.text_input("Image", key="find record")
                st.caption(f"{len(names):,} of {len(examples.records):,} images")
                st.button("Clear filters", on_click=clear_filters, key="clear in find")
        if names:
            st.html(ranked.note(note))
        else:
            st.button("No image matches. Clear filters.", on_click=clear_filters, key="clear")

    with list_side:
        st.html(f"<style>:root {{ --lx-page: {palette.current().page}; }}\n{ranked.STYLE}</style>")
        if why_no_mitigation:
            st.html(ranked.note(f"No list after mitigation. {why_no_mitigation}"))
        lists = {name: ranked_list(name, names[at], n, shown) for name in chosen if names}
        st.html(ranked.ranked_lists([ranked_view(name, found, second) for name, found in lists.items()]))

    with st.expander("Details: labels, ties, exposure, reports of this patient, provenance"):
        if names:
            details(entry, examples, found.iloc[at], lists[model])

page.cannot_tell("one image is an anecdote; similarity has no unit and is not comparable between models or heads.")
