"""Who is exposed, record by record: a page of the table, and the chosen record beside it."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st

from explorer.examples import gallery
from explorer.frame import state
from explorer.risk import exposure_page
from explorer.risk.exposure_page import ROWS, START, Shown
from linkage_core import sentences

THUMBNAIL, PICTURE = 72, 224
HEIGHT = 530  # of the table and of the card beside it, which is larger on a projector


def draw(shown: Shown) -> None:
    """A page of the records, the chosen one beside it."""
    n = len(shown.ordered)
    start = min(st.session_state[START], (n - 1) // ROWS * ROWS)
    rows = shown.ordered.iloc[start : start + ROWS]
    attributes = shown.study.queries.set_index("record_id")
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        _buttons(start, n)
        st.html(f'<div class="le-small le-flat">{start + 1:,} to {start + len(rows):,} of {n:,} images</div>')
        st.space("stretch")
        kept = [c for c in shown.study.queries if c not in (*shown.ordered.columns, "image", "report_key")]
        exposure_page.save(
            shown,
            "records",
            lambda: shown.ordered.merge(shown.study.queries[["record_id", *kept]], on="record_id"),
            lambda colours: exposure_page.spread(shown, colours),
            "How often each image comes first",
            ids=True,
        )
    table_side, one_side = st.columns([0.7, 0.3], gap="small")
    with table_side:
        _table(shown, rows, attributes, start)
    with one_side, st.container(border=True, height=HEIGHT, key="exposed one"):
        _one_record(shown, attributes)


def _buttons(start: int, n: int) -> None:
    """To the first rows, and a page of rows back and forth."""

    def show_from(place: int) -> None:
        st.session_state[START] = place

    st.button(
        "Most exposed",
        icon=":material/first_page:",
        disabled=start == 0,
        on_click=show_from,
        args=(0,),
        key="first",
    )
    st.button(
        "",
        icon=":material/chevron_left:",
        help="More exposed",
        disabled=start == 0,
        on_click=show_from,
        args=(max(0, start - ROWS),),
        key="rows before",
    )
    st.button(
        "",
        icon=":material/chevron_right:",
        help="Less exposed",
        disabled=start + ROWS >= n,
        on_click=show_from,
        args=(start + ROWS,),
        key="rows after",
    )


def _table(shown: Shown, rows: pd.DataFrame, attributes: pd.DataFrame, start: int) -> None:
    """The rows in sight, of which one can be chosen."""
    records = attributes.loc[rows["record_id"]].reset_index()
    names, out_of = rows["record_id"].tolist(), shown.out_of
    key = f"exposed {shown.cohort} {shown.model} {shown.pool_size} {start}"
    selected = [names.index(shown.chosen)] if shown.chosen in names else []
    if key not in st.session_state or st.session_state[key]["selection"]["rows"] != selected:
        st.session_state[key] = {"selection": {"rows": selected, "columns": [], "cells": []}}

    def choose() -> None:
        chosen = st.session_state[key].selection.rows
        if chosen:
            state.put("record", names[chosen[0]])

    column = st.column_config
    st.dataframe(
        pd.DataFrame(
            {
                "number": rows["place"].to_numpy(),
                "picture": [gallery.picture(shown.entry, record, THUMBNAIL) for _, record in records.iterrows()],
                "image": names,
                "finding": [gallery.main_finding(record) for _, record in records.iterrows()],
                "first": (rows["p_first"] * out_of).to_numpy(),
                "rank": rows["rank"].to_numpy(),
                "percentile": rows["percentile"].to_numpy(),
            }
        ),
        hide_index=True,
        height=HEIGHT,
        row_height=62,
        key=key,
        on_select=choose,
        selection_mode="single-row",
        placeholder="no image",
        column_config={
            "number": column.NumberColumn("No.", width=46, format="localized"),
            "picture": column.ImageColumn("Picture", width=66),
            "image": column.TextColumn("Image", width=118),
            "finding": column.TextColumn("Finding", width=104),
            "first": column.ProgressColumn(
                f"First, of {out_of:,} pools",
                min_value=0,
                max_value=out_of,
                format="%.1f" if out_of == 100 else "%.0f",
                width=132,
            ),
            "rank": column.NumberColumn(
                "Rank", width=58, format="localized", help="Place of the report in the whole pool, ties in mean."
            ),
            "percentile": column.NumberColumn("Percentile", width=76, format="%.1f"),
        },
    )


def _one_record(shown: Shown, attributes: pd.DataFrame) -> None:
    """The chosen record, and the way to it."""
    chosen = shown.chosen
    record = attributes.loc[[chosen]].reset_index().iloc[0]
    row = shown.everyone[shown.everyone["record_id"] == chosen].iloc[0]
    address = gallery.picture(shown.entry, record, PICTURE)
    view = gallery.view_words(record["view"])
    if address is None:
        picture = '<div class="le-noimage">no image at hand</div>'
    else:
        picture = f'<img class="le-oneimage" src="{address}" alt="{escape(f"Radiograph {chosen}, {view}")}">'
    if pd.isna(row["p_first"]):
        lines = ["Too few reports of other patients for pools of this size."]
    else:
        lines = [
            f"Number {shown.places[chosen]:,} of {len(shown.ordered):,} (percentile {row['percentile']:.1f})",
            sentences.first_in(row["p_first"], shown.pool_size),
        ]
    same_text = shown.study_counts.get(record["report_key"], 1)
    lines.append("No other study has its text." if same_text == 1 else f"{same_text:,} studies have its text.")
    words = "".join(f"<p>{escape(line)}</p>" for line in lines)
    title = f"<p><b><bdi>{escape(chosen)}</bdi></b> · {escape(gallery.main_finding(record))}, {escape(view)}</p>"
    st.html(f'<div class="le-one">{picture}{title}{words}</div>')
    if st.button("Open in Examples", icon=":material/radiology:", key="open in examples", width="stretch"):
        st.session_state["way back"] = "exposure"
        st.switch_page("pages/examples.py")
