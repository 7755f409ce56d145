"""Who is exposed: what is shown, the answer, the picture of all images, and the tabs that compare groups of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html import escape

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, downloads, palette
from explorer.frame import kept, page, state
from explorer.frame.controls import choice, model_control, pool_slider
from explorer.risk import exposed
from linkage_core import sentences
from linkage_core.audit.exposure import Tail
from linkage_core.audit.study import Study
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Entry

TABS = {"records": "Records", "with": "What goes with it", "groups": "Groups"}
GROUPS = {"sex": "Sex", "age decade": "Age", "view": "View"}
ROWS = 25
START = "exposed rows from"
"""In the session: the first row that the table shows, counted from 0."""
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


@dataclass(frozen=True)
class Shown:
    """What the page shows: everyone, those who have a number by exposure, and the one record that is chosen.

    places: record -> its place in `ordered`, from 1. labels: every model -> its name.
    """

    cohort: str
    model: str
    labels: dict[str, str]
    pool_size: int
    entry: Entry
    study: Study
    everyone: pd.DataFrame
    ordered: pd.DataFrame
    places: dict[str, int]
    chosen: str
    tail: Tail

    @property
    def label(self) -> str:
        return self.labels[self.model]

    @property
    def out_of(self) -> int:
        """How many pools a rate is said of."""
        return sentences.denominator(self.pool_size)

    @property
    def study_counts(self) -> pd.Series:
        """Text of a report -> how many studies have it."""
        return self.study.queries.drop_duplicates("study_id")["report_key"].value_counts()


def controls() -> tuple[str, int]:
    """The row of controls: (model, N)."""
    steps: list[int] = []
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        model = model_control("exposed model")
        with suppress(LinkageError):  # said below, where the answer would stand; another model may do
            steps = kept.pool_steps(state.cohort(), model)
        if steps:
            return model, pool_slider(steps, "exposed N", filled=range(steps[0], steps[-1] + 1))
    return model, int(state.get("N"))


def read(cohort: str, model: str, pool_size: int) -> Shown:
    """Everything that is shown. The record in the URL is chosen, or the most exposed one and then written there."""
    study, entry = kept.study(cohort, model), kept.entry(cohort, model)
    everyone = kept.exposed(cohort, model, pool_size)
    ordered = exposed.by_exposure(everyone)
    places = dict(zip(ordered["record_id"].astype(str), ordered["place"].astype(int), strict=True))
    asked = state.get("record")
    chosen = asked if asked in set(everyone["record_id"]) else str(ordered["record_id"].iloc[0])
    if START not in st.session_state:  # a link: the record that it names is in sight
        st.session_state[START] = (places.get(chosen, 1) - 1) // ROWS * ROWS if asked == chosen else 0
    if asked != chosen:
        state.put("record", chosen)
    tail = kept.tail(cohort, model, pool_size)
    labels = {name: state.model_label(name) for name in state.models()}
    return Shown(cohort, model, labels, pool_size, entry, study, everyone, ordered, places, chosen, tail)


# -- the answer and the picture --------------------------------------------------------------------------------------


def headline(shown: Shown) -> None:
    """The answer, or what stands in its place; intervals, n and guessing in grey."""
    tail, out_of = shown.tail, shown.out_of

    def interval(low: float, high: float) -> str:
        """As sentences.interval; in words where all of it is below one."""
        return sentences.interval(low, high, out_of) if high * out_of >= 1 else sentences.of(high, out_of)

    facts = [shown.label]
    if not tail.note:
        ends = interval(tail.tail_low, tail.tail_high), interval(tail.middle_low, tail.middle_high)
        facts.append(f"95% intervals {ends[0]} and {ends[1]}")
    facts += [
        f"n = {tail.n:,} images of {tail.n_patients:,} patients",
        f"guessing: {sentences.of(1 / shown.pool_size, out_of)}",
    ]
    small = " · ".join(facts)
    if not tail.note:
        before, count, rest = sentences.exposed(tail.n_tail, tail.n, tail.tail, tail.middle, out_of)
        page.headline(count, rest, before=before, small=small, kind="le-line le-two")
    elif tail.middle == tail.middle:
        before = f"Of {tail.n:,} images the middle one comes first in "
        rest = f" pools. The most exposed 1 of 100 images: {tail.note}."
        page.headline(sentences.of(tail.middle, out_of), rest, before=before, small=small, kind="le-line le-two")
    else:
        page.headline("", sentences.upper(f"{tail.note}."), small=f"{small}; n: patients", kind="le-line le-two")


def spread(shown: Shown, colours: palette.Palette) -> go.Figure:
    """Every image by how often it comes first."""
    return exposed.spread(
        shown.ordered,
        n_tail=0 if shown.tail.note else shown.tail.n_tail,
        pool_size=shown.pool_size,
        chosen=shown.chosen,
        style=colours.styles(shown.labels)[shown.model],
        palette=colours,
    )


def picture(shown: Shown) -> None:
    st.plotly_chart(
        spread(shown, palette.current()),
        theme=None,
        config=charts.CONFIG,
        key="exposed spread",
        on_select=lambda: clicked(shown.places),
        selection_mode="points",
        alt=exposed.spread_words(shown.ordered, shown.tail.n_tail, shown.pool_size),
    )


def clicked(places: dict[str, int]) -> None:
    """Makes the record that was clicked the current one, and brings the row it stands in into the table."""
    points = st.session_state["exposed spread"].selection.points
    if points and points[0].get("customdata"):
        data = points[0]["customdata"]
        record = data if isinstance(data, str) else data[0]
        state.put("record", record)
        if record in places:
            st.session_state[START] = (places[record] - 1) // ROWS * ROWS


def save(
    shown: Shown,
    name: str,
    table: Callable[[], pd.DataFrame],
    draw: Callable[[palette.Palette], go.Figure],
    title: str,
    *,
    ids: bool = False,
) -> None:
    """The popover with the files; a table of single records says whose ids it holds."""
    synthetic = state.synthetic()
    file = page.file_name("exposure", shown.cohort, name, f"N{shown.pool_size}")
    about = f"{page.provenance(shown.pool_size, len(shown.ordered))} · {shown.label}"
    keep = "The table names images and patients of this cohort by their ids: keep it as you keep those."
    page.save(
        ("Table (CSV)", f"{file}.csv", lambda: downloads.csv(page.filed_as_is(table(), synthetic))),
        ("Picture (SVG)", f"{file}.svg", lambda: downloads.svg(draw(palette.LIGHT), title=title, subtitle=about)),
        note=keep if ids and not synthetic else "",
    )


# -- groups of images ------------------------------------------------------------------------------------------------


def with_tab(shown: Shown) -> None:
    """Differences between images with and without an attribute, in two pictures of one scale."""
    table = kept.associations(shown.cohort, shown.model, shown.pool_size)
    lines = exposed.lines_of(table)
    ends = exposed.limits(table, shown.out_of)

    def draw(part: list[exposed.Line], colours: palette.Palette) -> go.Figure:
        return exposed.differences(part, ends=ends, out_of=shown.out_of, pool_size=shown.pool_size, palette=colours)

    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        n_tested = int(table["p"].notna().sum())
        st.html(
            f'<div class="le-small le-flat">Line: 95% interval · filled: told apart from no difference among '
            f"{n_tested} comparison{'' if n_tested == 1 else 's'}, open: not · n = {len(shown.ordered):,} images</div>"
        )
        st.space("stretch")
        save(
            shown,
            "what-goes-with-it",
            lambda: table,
            lambda colours: draw(lines, colours),
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
                alt=exposed.differences_words(table, shown.out_of),
            )


def groups_tab(shown: Shown) -> None:
    """How many images of each group are linked, and whether that differs."""
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        by = choice("group", "Groups by", GROUPS, key="exposed group")
        st.space("stretch")
        table = kept.exposed_groups(shown.cohort, shown.model, shown.pool_size, by)

        def draw(colours: palette.Palette) -> go.Figure:
            return exposed.groups(table, out_of=shown.out_of, pool_size=shown.pool_size, palette=colours)

        save(shown, f"by-{by}", lambda: table, draw, f"Images linked, by {GROUPS[by].lower()}")
    apart = kept.associations(shown.cohort, shown.model, shown.pool_size, (by,))
    words = escape(exposed.groups_sentence(apart, shown.out_of))
    note = "Every image is ranked in pools of all patients, whatever its own group. Too few: n counts patients."
    st.html(f'<p class="le-middle" role="status">{words}</p><div class="le-small le-flat">{note}</div>')
    st.plotly_chart(
        draw(palette.current()),
        theme=None,
        config=charts.CONFIG,
        key="exposed by group",
        alt=exposed.groups_words(table, shown.out_of),
    )


def details(shown: Shown) -> None:
    """Margins and texts in numbers, and what the words mean."""
    margins = shown.ordered["margin"]
    copies = shown.study.queries["report_key"].map(shown.study_counts)
    st.markdown(
        f"""
- **Margins**: {int((margins > 0).sum()):,} of {len(margins):,} images come first in every pool, \
{int((margins == 0).sum()):,} more are tied for it.
- **Texts**: of {len(copies):,} images {int((copies == 1).sum()):,} have a report whose text no other study has.
"""
    )
    st.markdown(WORDS)
