"""Compare mitigations: what is asked, the answer, the picture and the table, each of which chooses a mitigation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.drawing import charts, downloads, palette
from explorer.drawing.verbatim import verbatim
from explorer.frame import kept, page, state
from explorer.frame.controls import choice, model_control, pool_buttons, switch
from explorer.protect import fill, frontier, options, purposes
from linkage_core import sentences
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.lab import frontier as frontier_table
from linkage_core.lab import measured
from linkage_core.mitigation.mechanisms import NOISE_ONLY
from linkage_core.mitigation.training import SITE_B
from linkage_core.store.entry import OFF_THE_SHELF

TABLE_HEIGHT = 420
HOW = "Choose another model or cohort, or make the table:"
HOW_WITHOUT_LABELS = (
    "It compares what can be read of the findings, so it needs labels: embed or import the cohort again with "
    "--labels from-text, which reads them from English reports. Then:"
)
WORDS = """
- **Linked**: images of {out_of:,} whose report the attacker puts first in pools of N = {pool_size:,}. **Lift** is how
  many times that is what guessing reaches. Measured on held-out patients: a better attacker may do better.
- **Certified at most**: no attacker passes it, whatever else they know of the candidates. For *capped records* from one
  record alone, not for a whole folder matched one to one; for *codes* also for the whole folder. For *statistics* about
  the patients whose records were summed, beyond what the attacker already had, and for who holds their images and
  reports but not which belongs to which, any matching being as likely as any other: the study's threat. Whoever knows
  the other patients is limited to less; who knows the order of images and reports, by nothing. Heads have none.
- **Asked**: released records as their limit is, one image of each study drawn at random, every other study a candidate,
  those of the same patient too. Heads and clean embeddings as on the other pages: every image, among reports of other
  patients. A release thus compares with its limit exactly, with a head roughly. Where next to nothing is linked a
  figure scatters.
- **Attackers**: the worst of those tried, chosen in pools of 100, one for all N: at a larger N another may lie above it
  (*Every attacker* on Mitigation); cosine alone; or one who knows the clean embedding of every candidate, whom
  nobody can outdo. Without noise each embedding is its own, so that one finds them all: this follows, unmeasured.
- **Use**: findings are read from what was released, or a reader is trained on it and used on the recipient's own
  embeddings. Records teach only with labels, so there one random finding travels along: it doubles the limit, and the
  worst attacker is told it. AUROC is the mean over findings: of two images, one with a finding and one without, how
  often the first gets the higher score. Points are hundredths, against a reader of clean embeddings on the same images.
- **Declared** findings are those a maker listed; **undeclared** ones are the others. What lists all 14 leaves none.
- **Runs** that differ by their seed alone are one mitigation: their mean, and the range over them.
- **Clean embeddings**, **nothing released** and **noise only** are there to compare with and are not counted.
"""


FAMILY_LEGEND = """<p class="le-small le-flat">One row a family: the setting that keeps the findings with the smallest
limit or, where nothing limits it, with least linked; where none keeps them, the one that loses least. Dot: what the
worst attacker reached, bar: 95% interval. Upright mark: limit, where it is on the axis. Grey line: guessing.</p>"""
MAKE = """
Make the ledger of the site once, then the release. Names of files are yours; the folder must not exist,
and `--new-secret` is for the first release of a cohort alone.
"""
MADE = (
    "It writes the data, certificate.json and the page release.html, which says what left and with which limit: open "
    "that "
    "page before anything is sent. Of statistics the command makes one query over all 14 findings with as much noise."
)
MADE_HEAD = "It trains the heads; what leaves then are embeddings under them, which nothing limits."


@dataclass(frozen=True)
class Asked:
    """What the mitigations are compared by. tolerance: points of AUROC that may be lost, as it stands in the URL."""

    cohort: str
    model: str
    pool_size: int
    attacker: str
    use: str
    keep: str
    tolerance: str

    @property
    def out_of(self) -> int:
        """How many images a rate is said of."""
        return sentences.denominator(self.pool_size)


@dataclass(frozen=True)
class Compared:
    """Every mitigation as a row, those that keep what has to be kept first, and the one that is chosen, if any."""

    asked: Asked
    known: kept.Options
    rows: pd.DataFrame
    selected: str | None

    def picture(self, colours: palette.Palette) -> go.Figure:
        return frontier.picture(
            self.rows,
            pool_size=self.asked.pool_size,
            out_of=self.asked.out_of,
            tolerance=float(self.asked.tolerance),
            keep=self.asked.keep,
            selected=self.selected,
            palette=colours,
        )


# -- what is asked ---------------------------------------------------------------------------------------------------


def assumptions() -> None:
    with st.popover(f"{verbatim(state.model_label(state.model()))} · tolerance", icon=":material/tune:"):
        choice(
            "tolerance",
            "Findings are kept when AUROC falls by no more than",
            frontier.TOLERANCES,
            key="frontier tolerance",
        )
        model_control("frontier model")


def all_settings() -> None:
    """The switch to every setting that was measured, in place of one a family."""
    switch("show", "All settings", "families", "all", key="frontier show")


def pool_sizes(known: kept.Options, cohort: str) -> list[int]:
    """The values of N to choose from, of those at which half of the options or more were measured; none where nothing
    was. Of a small cohort more patients may have been summed than are held out: so large an N is for sums alone."""
    here = known.linkage[known.linkage["cohort"] == cohort] if len(known.linkage) else known.linkage
    if not len(known.options) or not len(here):
        return []
    options = here.groupby("pool_size")["option"].nunique()
    common = [int(n) for n in options.index[options >= options.max() / 2]]
    return [n for n in (100, 1000, 10_000) if n in common] or common[-1:]


def nothing_yet(cohort: str, model: str) -> None:
    """What would fill the page for this cohort and model, and a button that does; without labels, what it lacks."""
    entry = kept.entry(cohort, model)
    page.problem_card(
        "Nothing is compared here yet",
        f"No mitigation of {state.cohort_label(cohort)}, {state.model_label(model)}, was measured for "
        "this page: its table is made once, from the heads of the mitigation lab and the releases.",
        HOW if state.labelled() else HOW_WITHOUT_LABELS,
        options.commands(entry),
    )
    if entry.labelled:
        fill.strip(
            entry,
            kept.lab_tables(cohort, model).linkage,
            "frontier",
            set(kept.options(cohort, model).options["option"]),
        )


def controls(cohort: str, model: str, sizes: Sequence[int]) -> Asked:
    """The row of controls: attacker, N, use, what has to be kept."""
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
    return Asked(cohort, model, pool_size, attacker, use, state.get("keep"), state.get("tolerance"))


# -- what may leave for a purpose -------------------------------------------------------------------------------------


def _uses(known: kept.Options) -> set[str]:
    """The uses that any mitigation was measured for: a quick lab has none of trained readers."""
    kinds = (OFF_THE_SHELF, frontier_table.NOTHING, NOISE_ONLY)
    references = known.options.loc[known.options["kind"].isin(kinds), "option"]
    return set(known.utility.loc[~known.utility["option"].isin(references), "use"])


def purpose_controls(
    known: kept.Options, cohort: str, model: str, sizes: Sequence[int]
) -> tuple[Asked, purposes.Purpose]:
    """The row of controls: purpose, N, what has to be kept. The attacker is the worst of those tried."""
    with st.container(horizontal=True, gap="small", vertical_alignment="top"):
        labels = {name: one.label for name, one in purposes.PURPOSES.items()}
        usual = next((name for name, one in purposes.PURPOSES.items() if one.use in _uses(known)), "read")
        purpose = purposes.PURPOSES[choice("purpose", "I want to", labels, key="frontier purpose", usual=usual)]
        pool_size = pool_buttons(sizes, "frontier N", "Pool size (N)")
        with st.container(width="content", gap=None):
            st.html('<div class="fr-label">Must keep</div>')
            switch("keep", "Undeclared findings too", "declared", "undeclared", key="frontier keep")
    asked = Asked(cohort, model, pool_size, measured.WORST, purpose.use, state.get("keep"), state.get("tolerance"))
    return asked, purpose


@kept.remembered()
def _merged(cohort: str, model: str, pool_size: int, attacker: str, use: str) -> pd.DataFrame:
    """options.merged of every mitigation that was compared, kept. Read only."""
    return options.merged(kept.compared_options(cohort, model, pool_size, attacker, use))


def advice_on(asked: Asked, purpose: purposes.Purpose) -> purposes.Advice:
    """What may leave for a purpose, from every mitigation that was measured for its use."""
    table = _merged(asked.cohort, asked.model, asked.pool_size, asked.attacker, purpose.use)
    return purposes.advise(table, purpose, float(asked.tolerance), asked.keep)


def draw_families(asked: Asked, purpose: purposes.Purpose, known: kept.Options, title_place: DeltaGenerator) -> None:
    """The answer, the recommended row, one row a family, the command, and the way to what may leave."""
    advice = advice_on(asked, purpose)
    trained = advice if purpose.use == "trained" else advice_on(asked, purposes.PURPOSES["train"])
    first, rest = purposes.first_sentence(advice, trained, asked.keep, asked.pool_size, asked.out_of)
    small = [purposes.not_told_apart(advice, asked.pool_size, asked.out_of), purpose.note]
    page.headline(first, rest, small=" ".join(part for part in small if part), kind="le-line fm-answer")
    if not len(advice.families):
        return
    if advice.best is not None:
        with st.container(border=True, key="frontier best"):
            st.html(purposes.card(advice, asked.pool_size, asked.out_of))
            make_it(asked, advice.best, known)
    st.html(purposes.family_table(advice, asked.pool_size, asked.out_of, palette.current()))
    st.html(FAMILY_LEGEND)
    with title_place:
        name = page.file_name("what-may-leave", asked.cohort, asked.model, purpose.name, f"N{asked.pool_size}")
        file = page.filed_as_is(purposes.filed(advice), state.synthetic())
        page.save(("Table (CSV)", f"{name}.csv", lambda: downloads.csv(file)))


def make_it(asked: Asked, best: Mapping[str, Any], known: kept.Options) -> None:
    """The way to its page, to what may leave, and the command that makes it."""
    heads = kept.lab_tables(asked.cohort, asked.model).heads
    link = options.settings_link(best, known.options, heads, asked.pool_size)
    option = known.options[known.options["option"] == best["option"]].iloc[0].to_dict()
    public = SITE_B if SITE_B in kept.store().cohorts() and asked.cohort != SITE_B else ""
    said = purposes.command(option, asked.cohort, asked.model, public)
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        if link:
            st.page_link("pages/mitigation.py", label="Open in Mitigation", icon=":material/shield:", query_params=link)
        st.page_link(
            "pages/methods.py",
            label="What may leave, and what the limit assumes",
            icon=":material/description:",
            query_params={"part": "leave"},
        )
        if said:
            with st.popover("Make it", icon=":material/terminal:"):
                st.markdown(MAKE)
                ledger = f"linkage ledger create site.ledger {asked.cohort}/{asked.model} --epsilon 3 --lift 1000"
                st.code(f"{ledger}\n{said}", language=None, wrap_lines=True)
                st.caption(MADE if said.startswith("linkage release") else MADE_HEAD)


# -- the answer ------------------------------------------------------------------------------------------------------


def compare(asked: Asked, known: kept.Options) -> Compared:
    """Every mitigation; chosen is the one in the URL, or the best that keeps what has to be kept."""
    table = _merged(asked.cohort, asked.model, asked.pool_size, asked.attacker, asked.use)
    rows = options.ordered(table, float(asked.tolerance), asked.keep)
    selected = state.get("option")
    if selected not in set(rows["key"]):
        best = options.best(rows, float(asked.tolerance), asked.keep)
        candidates = best if len(best) else rows
        selected = str(candidates["key"].iloc[0]) if len(candidates) else None
    return Compared(asked, known, rows, selected)


def headline(compared: Compared) -> None:
    """How many keep what has to be kept, and what qualifies that in grey."""
    asked, rows = compared.asked, compared.rows
    by = {"tolerance": asked.tolerance, "keep": asked.keep, "use": asked.use}
    count, rest = frontier.answer(rows, **by, out_of=asked.out_of, pool_size=asked.pool_size)
    small = frontier.facts(rows, **by, out_of=asked.out_of)
    page.headline(count, rest, small=" · ".join(small), kind="le-line le-three fr-answer")


def draw(compared: Compared, title_place: DeltaGenerator) -> None:
    """The picture, the chosen mitigation in words, the table, and what can be saved."""
    if compared.selected is None:
        return
    asked, rows, colours = compared.asked, compared.rows, palette.current()
    st.html(frontier.legend(rows, colours))
    st.plotly_chart(
        compared.picture(colours),
        theme=None,
        config=charts.CONFIG,
        key="frontier picture",
        on_select=clicked,
        selection_mode="points",
        alt=frontier.words(rows, out_of=asked.out_of, pool_size=asked.pool_size),
    )
    chosen_one(compared)
    show_table(compared)
    with title_place:
        save(compared)
    with st.expander("Details: what the words mean", icon=":material/table:"):
        st.markdown(WORDS.format(out_of=asked.out_of, pool_size=asked.pool_size))
        st.caption(f"Labels: {verbatim(labels_line(kept.entry(state.cohort(), state.model()).labels_note()))}.")


def clicked() -> None:
    points = st.session_state["frontier picture"].selection.points
    if points and points[0].get("customdata"):
        data = points[0]["customdata"]
        state.put("option", data if isinstance(data, str) else data[0])


def chosen_one(compared: Compared) -> None:
    """What is known of the chosen mitigation, in words, and the way to its page."""
    asked, known = compared.asked, compared.known
    row = compared.rows[compared.rows["key"] == compared.selected].iloc[0].to_dict()
    heads = kept.lab_tables(asked.cohort, asked.model).heads
    link = options.settings_link(row, known.options, heads, asked.pool_size)
    with st.container(border=True, key="frontier one"):
        words, way = st.columns([0.79, 0.21], gap="small", vertical_alignment="center")
        words.html(frontier.one(row, asked.out_of, asked.pool_size))
        if link:
            way.page_link(
                "pages/mitigation.py", label="Open in Mitigation", icon=":material/shield:", query_params=link
            )
        else:
            way.html('<span class="le-small le-flat">Not on Mitigation</span>')


def show_table(compared: Compared) -> None:
    """Every mitigation as a row; the chosen one is marked, and another can be chosen."""
    asked, keys = compared.asked, compared.rows["key"].tolist()
    key = (
        f"frontier table {asked.cohort} {asked.model} {asked.pool_size} {asked.attacker} {asked.use} {asked.keep} "
        f"{asked.tolerance}"
    )
    selected = [keys.index(compared.selected)] if compared.selected in keys else []
    if key not in st.session_state or st.session_state[key]["selection"]["rows"] != selected:
        st.session_state[key] = {"selection": {"rows": selected, "columns": [], "cells": []}}

    def choose() -> None:
        rows = st.session_state[key].selection.rows
        if rows:
            state.put("option", keys[rows[0]])

    column = st.column_config
    st.dataframe(
        frontier.table(compared.rows, asked.out_of, asked.pool_size),
        hide_index=True,
        height=TABLE_HEIGHT,
        key=key,
        on_select=choose,
        selection_mode="single-row",
        placeholder="–",
        column_config={
            "kept": column.TextColumn("Kept", width=42, help="Whether it loses no more than the tolerance."),
            "protection": column.TextColumn("Protection", width=172),
            "setting": column.TextColumn("Setting", width=124),
            "linked": column.NumberColumn(f"Linked, of {asked.out_of:,}", width=112, format="%.1f"),
            "interval": column.TextColumn(
                "95% interval", width=98, help="Or, with the number of runs in brackets, the range over them."
            ),
            "certified": column.TextColumn("At most", width=66, help="Certified: for whom is in the details below."),
            "declared": column.NumberColumn("Declared", width=70, format="%.3f", help="AUROC, mean over findings."),
            "declared points": column.NumberColumn("points", width=56, format="%+.1f"),
            "undeclared": column.NumberColumn("Undeclared", width=82, format="%.3f"),
            "undeclared points": column.NumberColumn("points ", width=56, format="%+.1f"),
        },
    )


def save(compared: Compared) -> None:
    asked, rows = compared.asked, compared.rows
    name = page.file_name("mitigations", asked.cohort, asked.model, asked.attacker, asked.use, f"N{asked.pool_size}")
    title = f"Linkage against usefulness: {frontier.USES[asked.use].lower()}"
    about = page.provenance(asked.pool_size, int(rows["n_queries"].max()))
    file = page.filed_as_is(frontier.filed(rows), state.synthetic())
    page.save(
        ("Table (CSV)", f"{name}.csv", lambda: downloads.csv(file)),
        (
            "Picture (SVG)",
            f"{name}.svg",
            lambda: downloads.svg(compared.picture(palette.LIGHT), title=title, subtitle=about),
        ),
    )
