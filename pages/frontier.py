"""Which protection suits which use? Every mitigation by what it lets through, measured and certified, and its use."""

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, downloads, palette, sentences
from explorer.frame import kept, page, state
from explorer.frame.controls import choice, model_control, pool_buttons, switch
from explorer.protect import frontier, options

TABLE_HEIGHT = 420
WORDS = """
- **Linked**: images of {out_of:,} whose report the attacker puts first in pools of N = {pool_size:,}. **Lift** is how
  many times that is what guessing reaches. Measured on held-out patients: a better attacker may do better.
- **Certified at most**: no attacker passes it, whatever else they know of the candidates. For *capped records* from one
  record alone, not for a whole folder matched one to one; for *codes* also for the whole folder; for *statistics* about
  the patients whose records were summed, beyond what the attacker already had. Heads have no such limit.
- **Asked**: released records as their limit is, one image of each study drawn at random, every other study a candidate,
  those of the same patient too. Heads and clean embeddings as on the other pages: every image, among reports of other
  patients. A release thus compares with its limit exactly, with a head roughly. Where next to nothing is linked a
  figure scatters.
- **Attackers**: the worst of those tried; cosine alone; or one who knows the clean embedding of every candidate, whom
  nobody can outdo. Without noise each embedding is its own, so that one finds them all: this follows, unmeasured.
- **Use**: findings are read from what was released, or a reader is trained on it and used on the recipient's own
  embeddings. Records teach only with labels, so there one random finding travels along: it doubles the limit, and the
  worst attacker is told it. AUROC is the mean over findings: of two images, one with a finding and one without, how
  often the first gets the higher score. Points are hundredths, against a reader of clean embeddings on the same images.
- **Declared** findings are those a maker listed; **undeclared** ones are the others. What lists all 14 leaves none.
- **Runs** that differ by their seed alone are one mitigation: their mean, and the range over them.
- **Clean embeddings**, **nothing released** and **noise only** are there to compare with and are not counted.
"""


def controls(sizes: list[int]) -> tuple[int, str, str, str]:
    """The row of controls: (N, attacker, use, what has to be kept)."""
    with st.container(horizontal=True, gap="small", vertical_alignment="top"):
        attacker = choice(
            "attacker",
            "Attacker",
            frontier.WHO,
            key="frontier attacker",
            help="The worst of those tried, cosine alone, or one who knows the clean embedding of every candidate.",
        )
        pool_size = pool_buttons(sizes, "frontier N", "Pool size (N)")
        use = choice(
            "use",
            "Use",
            frontier.USES,
            key="frontier use",
            help="Findings are read from what was released; or a reader is trained on it and used on other embeddings.",
        )
        with st.container(width="content", gap=None):
            st.html('<div class="fr-label">Must keep</div>')
            switch("keep", "Undeclared findings too", "declared", "undeclared", key="frontier keep")
    return pool_size, attacker, use, state.get("keep")


def assumptions() -> None:
    with st.popover("Tolerance", icon=":material/tune:"):
        choice(
            "tolerance",
            "Findings are kept when AUROC falls by no more than",
            frontier.TOLERANCES,
            key="frontier tolerance",
        )
        model_control("frontier model")


def choose(key: str) -> None:
    state.put("option", key)


def clicked() -> None:
    points = st.session_state["frontier picture"].selection.points
    if points and points[0].get("customdata"):
        found = points[0]["customdata"]
        choose(found if isinstance(found, str) else found[0])


def row_chosen(key: str, keys: list[str]) -> None:
    rows = st.session_state[key].selection.rows
    if rows:
        choose(keys[rows[0]])


def chosen_one(rows: pd.DataFrame) -> None:
    """What is known of the chosen mitigation, in words, and the way to its page."""
    row = rows[rows["key"] == selected].iloc[0].to_dict()
    link = options.settings_link(row, known.options, kept.lab_tables(cohort, model).heads, pool_size)
    with st.container(border=True, key="frontier one"):
        words, way = st.columns([0.79, 0.21], gap="small", vertical_alignment="center")
        words.html(frontier.one(row, out_of, pool_size))
        if link:
            way.page_link(
                "pages/mitigation.py", label="Open in Mitigation", icon=":material/shield:", query_params=link
            )
        else:
            way.html('<span class="le-small le-flat">Not on Mitigation</span>')


def show_table(rows: pd.DataFrame) -> None:
    keys = rows["key"].tolist()
    key = f"frontier table {cohort} {model} {pool_size} {attacker} {use} {keep} {tolerance}"
    wanted = [keys.index(selected)] if selected in keys else []
    if key not in st.session_state or st.session_state[key]["selection"]["rows"] != wanted:
        st.session_state[key] = {"selection": {"rows": wanted, "columns": [], "cells": []}}
    column = st.column_config
    st.dataframe(
        frontier.table(rows, out_of, pool_size),
        hide_index=True,
        height=TABLE_HEIGHT,
        key=key,
        on_select=lambda: row_chosen(key, keys),
        selection_mode="single-row",
        placeholder="–",
        column_config={
            "kept": column.TextColumn("Kept", width=42, help="Whether it loses no more than the tolerance."),
            "protection": column.TextColumn("Protection", width=172),
            "setting": column.TextColumn("Setting", width=124),
            "linked": column.NumberColumn(f"Linked, of {out_of:,}", width=112, format="%.1f"),
            "interval": column.TextColumn(
                "95% interval", width=98, help="Or, with the number of runs in brackets, the range over them."
            ),
            "certified": column.TextColumn("At most", width=66, help="Certified for every attacker."),
            "declared": column.NumberColumn("Declared", width=70, format="%.3f", help="AUROC, mean over findings."),
            "declared points": column.NumberColumn("points", width=56, format="%+.1f"),
            "undeclared": column.NumberColumn("Undeclared", width=82, format="%.3f"),
            "undeclared points": column.NumberColumn("points ", width=56, format="%+.1f"),
        },
    )


page.guard()
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.title("Which protection suits which use?", width="stretch")
    title_place = st.container(horizontal=True, width="content", gap="small")

with page.guarded():
    cohort, model, colours, synthetic = state.cohort(), state.model(), palette.current(), state.synthetic()
    with title_place:
        assumptions()
    known = kept.options(cohort, model)
    measured = known.linkage[known.linkage["cohort"] == cohort] if len(known.linkage) else known.linkage
    sizes = sorted({int(n) for n in measured["pool_size"]})
    sizes = [n for n in (100, 1000, 10_000) if n in sizes] or sizes[-1:]
    if not len(known.options) or not sizes:
        page.problem_card(
            "Nothing is compared here yet",
            f"No mitigation of {state.cohort_label(cohort)}, {state.model_label(model)}, was measured for "
            "this page: its table is made once, from the heads of the mitigation lab and the releases.",
            "Choose another model or cohort, or make the table:",
            options.COMMAND,
        )
    else:
        pool_size, attacker, use, keep = controls(sizes)
        tolerance, out_of = state.get("tolerance"), sentences.denominator(pool_size)
        rows = options.merged(kept.compared_options(cohort, model, pool_size, attacker, use))
        count, rest = frontier.answer(rows, tolerance=tolerance, keep=keep, use=use, out_of=out_of, pool_size=pool_size)
        small = frontier.facts(rows, tolerance=tolerance, keep=keep, use=use, out_of=out_of)
        page.headline(count, rest, small=" · ".join(small), kind="le-line le-three fr-answer")
        rows = options.ordered(rows, float(tolerance), keep)
        asked, selected = state.get("option"), None
        if len(rows):
            first = options.best(rows, float(tolerance), keep)
            selected = asked if asked in set(rows["key"]) else str((first if len(first) else rows)["key"].iloc[0])

        def draw(with_colours: palette.Palette) -> go.Figure:
            return frontier.picture(
                rows,
                pool_size=pool_size,
                out_of=out_of,
                tolerance=float(tolerance),
                keep=keep,
                selected=selected,
                palette=with_colours,
            )

        if selected is not None:
            st.html(frontier.legend(rows, colours))
            st.plotly_chart(
                draw(colours),
                theme=None,
                config=charts.CONFIG,
                key="frontier picture",
                on_select=clicked,
                selection_mode="points",
                alt=frontier.words(rows, out_of=out_of, pool_size=pool_size),
            )
            chosen_one(rows)
            show_table(rows)
            name = page.file_name("mitigations", cohort, model, attacker, use, f"N{pool_size}")
            title = f"Linkage against usefulness: {frontier.USES[use].lower()}"
            about = page.provenance(pool_size, int(rows["n_queries"].max()))
            file = page.filed_as_is(frontier.filed(rows), synthetic)
            with title_place:
                page.save(
                    ("Table (CSV)", f"{name}.csv", lambda: downloads.csv(file)),
                    (
                        "Picture (SVG)",
                        f"{name}.svg",
                        lambda: downloads.svg(draw(palette.LIGHT), title=title, subtitle=about),
                    ),
                )
            with st.expander("Details: what the words mean", icon=":material/table:"):
                st.markdown(WORDS.format(out_of=out_of, pool_size=pool_size))
page.cannot_tell(
    "what loss of usefulness is acceptable; what an attacker nobody tried could do where nothing is certified; "
    "how it would be at another hospital."
)
