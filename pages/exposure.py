"""Are some images much easier to link than others? Every image by how often its report comes first."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from html import escape

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, downloads, palette, sentences
from explorer.examples import gallery
from explorer.frame import controls, page, state
from explorer.frame import kept as frame_kept
from explorer.risk import exposed
from linkage_core.audit.exposure import Tail
from linkage_core.audit.study import Study
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Entry

TABS = {"records": "Records", "with": "What goes with it", "groups": "Groups"}
GROUPS = {"sex": "Sex", "age decade": "Age", "view": "View"}
ROWS = 25
THUMBNAIL, PICTURE = 72, 224
HEIGHT = 530  # of the table and of the card beside it, which is larger on a projector
START = "exposed rows from"

WORDS = """
- **First in ... pools**: how often this image's own report is the most similar of N, over all random pools of N reports
  of other patients plus its own. Exact: an average over all such pools, not a draw.
- **The most exposed**: the 1% of the images that come first most often; in the sentence the mean over them. **The
  middle one**: half of the images come first more often, half less.
- **95% interval**: how far a number could move with other patients like these (patients drawn again with replacement;
  who is among the most exposed is settled anew in each draw). All images of a patient move together. Where in effect
  fewer than five patients carry a group's number, the exact interval for that many patients stands in its place.
- **Margin**: similarity of the image's own report less that of the best other one. Above 0 it comes first in every
  pool. It has no unit and does not compare between models.
- **What goes with it**: mean of the images with an attribute less the mean of those without. Attributes go with each
  other too (a long report names more findings), and no comparison holds the others fixed.
- **adjusted p** (Holm): below 0.05 means less than one in twenty that any of the comparisons told apart here is alike.
  It agrees with the interval, and then allows for how many comparisons there are.
- **too few to say**: fewer than 30 patients on one side of a comparison.
"""


def choose(record: str) -> None:
    """Makes a record the current one, and brings the row it stands in into the table."""
    state.put("record", record)
    place = places.get(record)
    if place is not None:
        st.session_state[START] = (place - 1) // ROWS * ROWS


def clicked() -> None:
    points = st.session_state["exposed spread"].selection.points
    if points and points[0].get("customdata"):
        found = points[0]["customdata"]
        choose(found if isinstance(found, str) else found[0])


def row_chosen(key: str, records: list[str]) -> None:
    rows = st.session_state[key].selection.rows
    if rows:
        state.put("record", records[rows[0]])


def show_from(start: int) -> None:
    st.session_state[START] = start


def interval(low: float, high: float) -> str:
    """As sentences.interval; in words where all of it is below one."""
    return sentences.interval(low, high, out_of) if high * out_of >= 1 else sentences.of(high, out_of)


def headline(found: Tail) -> None:
    """The answer, or what stands in its place; intervals, n and guessing in grey."""
    facts = [labels[model]]
    if not found.note:
        ends = interval(found.tail_low, found.tail_high), interval(found.middle_low, found.middle_high)
        facts.append(f"95% intervals {ends[0]} and {ends[1]}")
    facts += [
        f"n = {found.n:,} images of {found.n_patients:,} patients",
        f"guessing: {sentences.of(1 / pool_size, out_of)}",
    ]
    small = " · ".join(facts)
    if not found.note:
        before, count, rest = sentences.exposed(found.n_tail, found.n, found.tail, found.middle, out_of)
        page.headline(count, rest, before=before, small=small, kind="le-line le-two")
    elif found.middle == found.middle:
        before = f"Of {found.n:,} images the middle one comes first in "
        rest = f" pools. The most exposed 1 of 100 images: {found.note}."
        page.headline(sentences.of(found.middle, out_of), rest, before=before, small=small, kind="le-line le-two")
    else:
        page.headline("", sentences.upper(f"{found.note}."), small=f"{small}; n: patients", kind="le-line le-two")


def save(
    name: str, table: Callable[[], pd.DataFrame], picture: Callable[[], go.Figure], title: str, *, ids: bool = False
) -> None:
    """The popover with the files; a table of single records says whose ids it holds."""
    synthetic = state.synthetic()
    file = page.file_name("exposure", state.cohort(), name, f"N{pool_size}")
    about = f"{page.provenance(pool_size, len(ordered))} · {labels[model]}"
    keep = "The table names images and patients of this cohort by their ids: keep it as you keep those."
    page.save(
        ("Table (CSV)", f"{file}.csv", lambda: downloads.csv(page.filed_as_is(table(), synthetic))),
        ("Picture (SVG)", f"{file}.svg", lambda: downloads.svg(picture(), title=title, subtitle=about)),
        note=keep if ids and not synthetic else "",
    )


def records_tab(entry: Entry, study: Study) -> None:
    """A page of the records, the chosen one beside it."""
    n = len(ordered)
    start = min(st.session_state[START], (n - 1) // ROWS * ROWS)
    rows = ordered.iloc[start : start + ROWS]
    attributes = study.queries.set_index("record_id")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        go_to = {"on_click": show_from, "type": "secondary"}
        st.button("Most exposed", icon=":material/first_page:", disabled=start == 0, args=(0,), key="first", **go_to)
        st.button(
            "",
            icon=":material/chevron_left:",
            help="More exposed",
            disabled=start == 0,
            args=(max(0, start - ROWS),),
            key="rows before",
            **go_to,
        )
        st.button(
            "",
            icon=":material/chevron_right:",
            help="Less exposed",
            disabled=start + ROWS >= n,
            args=(start + ROWS,),
            key="rows after",
            **go_to,
        )
        st.html(f'<div class="le-small le-flat">{start + 1:,} to {start + len(rows):,} of {n:,} images</div>')
        st.space("stretch")
        kept = [c for c in study.queries if c not in (*ordered.columns, "image", "report_key")]
        save(
            "records",
            lambda: ordered.merge(study.queries[["record_id", *kept]], on="record_id"),
            lambda: spread_of(palette.LIGHT),
            "How often each image comes first",
            ids=True,
        )
    table_side, one_side = st.columns([0.7, 0.3], gap="small")
    with table_side:
        seen = attributes.loc[rows["record_id"]].reset_index()
        names = rows["record_id"].tolist()
        key = f"exposed {state.cohort()} {model} {pool_size} {start}"
        selected = [names.index(chosen)] if chosen in names else []
        if key not in st.session_state or st.session_state[key]["selection"]["rows"] != selected:
            st.session_state[key] = {"selection": {"rows": selected, "columns": [], "cells": []}}
        st.dataframe(
            pd.DataFrame(
                {
                    "number": rows["place"].to_numpy(),
                    "picture": [gallery.picture(entry, row, THUMBNAIL) for _, row in seen.iterrows()],
                    "image": names,
                    "finding": [gallery.main_finding(row) for _, row in seen.iterrows()],
                    "first": (rows["p_first"] * out_of).to_numpy(),
                    "rank": rows["rank"].to_numpy(),
                    "percentile": rows["percentile"].to_numpy(),
                }
            ),
            hide_index=True,
            height=HEIGHT,
            row_height=62,
            key=key,
            on_select=lambda: row_chosen(key, names),
            selection_mode="single-row",
            placeholder="no image",
            column_config={
                "number": st.column_config.NumberColumn("No.", width=46, format="localized"),
                "picture": st.column_config.ImageColumn("", width=66),
                "image": st.column_config.TextColumn("Image", width=118),
                "finding": st.column_config.TextColumn("Finding", width=104),
                "first": st.column_config.ProgressColumn(
                    f"First, of {out_of:,} pools",
                    min_value=0,
                    max_value=out_of,
                    format="%.1f" if out_of == 100 else "%.0f",
                    width=132,
                ),
                "rank": st.column_config.NumberColumn(
                    "Rank", width=58, format="localized", help="Place of the report in the whole pool, ties in mean."
                ),
                "percentile": st.column_config.NumberColumn("Percentile", width=76, format="%.1f"),
            },
        )
    with one_side, st.container(border=True, height=HEIGHT, key="exposed one"):
        one_record(entry, attributes)


def one_record(entry: Entry, attributes: pd.DataFrame) -> None:
    """The chosen record, and the way to it."""
    record = attributes.loc[[chosen]].reset_index().iloc[0]
    row = everyone[everyone["record_id"] == chosen].iloc[0]
    address = gallery.picture(entry, record, PICTURE)
    view = gallery.view_words(record["view"])
    if address is None:
        picture = '<div class="le-noimage">no image at hand</div>'
    else:
        picture = f'<img class="le-oneimage" src="{address}" alt="{escape(f"Radiograph {chosen}, {view}")}">'
    if pd.isna(row["p_first"]):
        said = ["Too few reports of other patients for pools of this size."]
    else:
        said = [
            f"Number {places[chosen]:,} of {len(ordered):,} (percentile {row['percentile']:.1f})",
            sentences.first_in(row["p_first"], pool_size),
        ]
    shared = study_counts.get(record["report_key"], 1)
    said.append("No other study has its text." if shared == 1 else f"{shared:,} studies have its text.")
    lines = "".join(f"<p>{escape(line)}</p>" for line in said)
    title = f"<p><b><bdi>{escape(chosen)}</bdi></b> · {escape(gallery.main_finding(record))}, {escape(view)}</p>"
    st.html(f'<div class="le-one">{picture}{title}{lines}</div>')
    if st.button("Open in Examples", icon=":material/radiology:", key="open in examples", width="stretch"):
        st.session_state["way back"] = "exposure"
        st.switch_page("pages/examples.py")


def with_tab() -> None:
    """Differences between images with and without an attribute, in two pictures of one scale."""
    table = frame_kept.associations(state.cohort(), model, pool_size)
    lines = exposed.lines_of(table)
    ends = exposed.limits(table, out_of)

    def draw(part: list[exposed.Line], colours: palette.Palette) -> go.Figure:
        return exposed.differences(part, ends=ends, out_of=out_of, pool_size=pool_size, palette=colours)

    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        n_tested = int(table["p"].notna().sum())
        st.html(
            f'<div class="le-small le-flat">Line: 95% interval · filled: told apart from no difference among '
            f"{n_tested} comparison{'' if n_tested == 1 else 's'}, open: not · n = {len(ordered):,} images</div>"
        )
        st.space("stretch")
        save(
            "what-goes-with-it",
            lambda: table,
            lambda: draw(lines, palette.LIGHT),
            "What goes with coming first more often",
        )
    breaks = [i for i, line in enumerate(lines) if line.row is None]
    split = min(breaks, key=lambda i: abs(i - len(lines) / 2), default=0) or len(lines)
    for i, (side, part) in enumerate(zip(st.columns(2, gap="large"), (lines[:split], lines[split:]), strict=True)):
        if part:
            side.plotly_chart(
                draw(part, palette.current()),
                theme=None,
                config=charts.CONFIG,
                key=f"exposed with {i}",
                alt=exposed.differences_words(table, out_of),
            )


def groups_tab() -> None:
    """How many images of each group are linked, and whether that differs."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        by = controls.choice("group", "Groups by", GROUPS, key="exposed group")
        st.space("stretch")
        table = frame_kept.exposed_groups(state.cohort(), model, pool_size, by)

        def draw(colours: palette.Palette) -> go.Figure:
            return exposed.groups(table, out_of=out_of, pool_size=pool_size, palette=colours)

        save(f"by-{by}", lambda: table, lambda: draw(palette.LIGHT), f"Images linked, by {GROUPS[by].lower()}")
    apart = frame_kept.associations(state.cohort(), model, pool_size, (by,))
    said = escape(exposed.groups_sentence(apart, out_of))
    note = "Every image is ranked in pools of all patients, whatever its own group. Too few: n counts patients."
    st.html(f'<p class="le-middle" role="status">{said}</p><div class="le-small le-flat">{note}</div>')
    st.plotly_chart(
        draw(palette.current()),
        theme=None,
        config=charts.CONFIG,
        key="exposed by group",
        alt=exposed.groups_words(table, out_of),
    )


def details(found: pd.DataFrame, study: Study) -> None:
    """Margins and texts in numbers, and what the words mean."""
    n = len(found)
    always = int((found["margin"] > 0).sum())
    tied = int((found["margin"] == 0).sum())
    copies = study.queries["report_key"].map(study_counts)
    unique = int((copies == 1).sum())
    st.markdown(
        f"""
- **Margins**: {always:,} of {n:,} images come first in every pool, {tied:,} more are tied for it.
- **Texts**: of {len(copies):,} images {unique:,} have a report whose text no other study has.
"""
    )
    st.markdown(WORDS)


page.guard()
st.title("Are some images much easier to link than others?")
colours = palette.current()
labels = {name: state.model_label(name) for name in state.models()}
steps: list[int] = []

with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
    model = controls.model_control("exposed model")
    with suppress(LinkageError):  # said below, where the answer would stand; another model may do
        steps = frame_kept.pool_steps(state.cohort(), model)
    if steps:
        pool_size = controls.pool_slider(steps, f"exposed N to {steps[-1]}")

with page.guarded():
    pool_size = pool_size if steps else state.get("N")
    study = frame_kept.study(state.cohort(), model)
    entry = frame_kept.entry(state.cohort(), model)
    out_of = sentences.denominator(pool_size)
    everyone = frame_kept.exposed(state.cohort(), model, pool_size)
    ordered = exposed.by_exposure(everyone)
    places: Mapping[str, int] = dict(zip(ordered["record_id"], ordered["place"], strict=True))
    study_counts = study.queries.drop_duplicates("study_id")["report_key"].value_counts()
    asked = state.get("record")
    chosen = asked if asked in set(everyone["record_id"]) else str(ordered["record_id"].iloc[0])
    if START not in st.session_state:  # a link: the record that it names is in sight
        st.session_state[START] = (places.get(chosen, 1) - 1) // ROWS * ROWS if asked == chosen else 0
    if asked != chosen:
        state.put("record", chosen)
    tail = frame_kept.tail(state.cohort(), model, pool_size)
    headline(tail)

    def spread_of(with_colours: palette.Palette) -> go.Figure:
        return exposed.spread(
            ordered,
            n_tail=0 if tail.note else tail.n_tail,
            pool_size=pool_size,
            chosen=chosen,
            style=with_colours.styles(labels)[model],
            palette=with_colours,
        )

    st.plotly_chart(
        spread_of(colours),
        theme=None,
        config=charts.CONFIG,
        key="exposed spread",
        on_select=clicked,
        selection_mode="points",
        alt=exposed.spread_words(ordered, tail.n_tail, pool_size),
    )
    with st.container(key="exposed below"), controls.tabs("list", TABS, "exposed tabs"):
        if state.get("list") == "with":
            with_tab()
        elif state.get("list") == "groups":
            groups_tab()
        else:
            records_tab(entry, study)
    with st.expander("Details: margins, texts, and what the words mean", icon=":material/table:"):
        details(ordered, study)

page.cannot_tell("why an image is exposed; what goes with it need not be the reason. Nor who is behind it.")
