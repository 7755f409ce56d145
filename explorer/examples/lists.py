"""The lists of Examples: what moves them, the reports by rank, and the image's chance of coming first.

All of it is one fragment: a change of pool, mechanism or epsilon runs this again and nothing else of the page.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.drawing import charts, downloads, palette
from explorer.drawing.words import mechanisms
from explorer.examples import first_in, gallery, ranked
from explorer.frame import kept, page, state
from explorer.frame.controls import epsilon_slider, epsilon_words, mechanism_select, switch_of
from linkage_core.audit.examples import Examples, RankedList
from linkage_core.errors import InputError, LinkageError
from linkage_core.lab import measured
from linkage_core.mitigation.mechanisms import MECHANISMS
from linkage_core.store.entry import Entry

ABSENT = {
    True: "Text is not stored: run linkage embed again with --store-text.",
    False: "Text hidden: the switch in the sidebar shows it.",
}


@dataclass(frozen=True)
class Asked:
    """What the page is asked for.

    second: another model, or the mitigation of the first, beside it; None where there is none.
    """

    cohort: str
    model: str
    second: str | None
    entry: Entry
    examples: Examples
    pool_size: int
    n_shown: int

    @property
    def mitigated(self) -> bool:
        return self.second == state.MITIGATED


@dataclass(frozen=True)
class Side:
    """One of the lists. short: its name in the picture. claim: what a mitigation does not guarantee. Where there is no
    list, `examples` is None and `problem` says why."""

    caption: str
    short: str
    examples: Examples | None
    claim: str = ""
    problem: LinkageError | None = None


@dataclass(frozen=True)
class Chances:
    """Of one image, at each N of `sizes`, by the short names of the lists."""

    sizes: list[int]
    by_list: dict[str, list[float]]


@dataclass
class Drawn:
    """What the fragment drew last, for the file that is made of it when it is asked for."""

    chances: Chances | None = None


@st.fragment
def draw(asked: Asked, record: pd.Series | None, below: DeltaGenerator, drawn: Drawn) -> None:
    """The lists side by side, what moves them above them, and in `below` the image's chance of coming first, whose
    figures are left in `drawn`."""
    st.html(f"<style>{ranked.STYLE}</style>")
    n_lists = 1 if asked.second is None else 2
    above = st.columns(n_lists, gap="medium", vertical_alignment="bottom")
    with above[0], st.container(horizontal=True, gap="small", vertical_alignment="center"):
        pool_controls(record)
    if asked.mitigated:
        with above[1]:
            mitigation_controls()
    if record is None:
        return
    sides, name = sides_of(asked), str(record["record_id"])
    for i, (place, side) in enumerate(zip(st.columns(n_lists, gap="medium"), sides, strict=True)):
        with place:
            ranked.draw(view_of(asked, record, side), key=f"list {i}", on_told=lambda: tell(name))
    chances = chances_of(asked, name, sides)
    with below.container():
        draw_chances(asked, chances)
    drawn.chances = chances


# -- what moves them -------------------------------------------------------------------------------------------------


def pool_controls(record: pd.Series | None) -> None:
    """Another draw of the pool, and whether the true report is told."""
    st.button(
        "Another pool",
        icon=":material/refresh:",
        key="another pool",
        help="Draws other reports beside the true one. How often it comes first over all pools stays as it is.",
        on_click=another_pool,
        disabled=record is None,
    )
    switch_of(
        "hide", "Hide true report", key="hide", help="For a class: nothing tells the true report until it is shown."
    )


def mitigation_controls() -> None:
    """The mitigation and its epsilon."""
    left, right = st.columns([0.55, 0.45], gap="small")
    with left:
        mechanism_select(heads_offered(), "examples mechanism")
    if state.releases():
        return
    with right:
        steps = measured.STEPS if state.setting().one_shot else measured.EPSILONS
        epsilon_slider(steps, f"examples epsilon {len(steps)}", "Budget ε", "Privacy budget. Smaller: more noise.")


def heads_offered() -> dict[str, str]:
    """Heads by name, without those that need labels where there are none. One that is chosen elsewhere stands there
    too: why it has no list is said in place of the list."""
    lacking = set() if state.labelled() else {row.name for row in MECHANISMS.values() if row.labels}
    offered = {name: label for name, label in mechanisms().items() if name not in lacking}
    chosen = str(state.get("mechanism"))
    if chosen in offered:
        return offered
    return offered | {chosen: f"{mechanisms()[chosen]} (needs labels)" if chosen in lacking else chosen.capitalize()}


def another_pool() -> None:
    state.put("draw", int(state.get("draw")) + 1)


def tell(record: str) -> None:
    """Tells the true report of this image, and of no other."""
    st.session_state["told"] = record


def is_hidden(record: str) -> bool:
    """Whether the true report of an image is not to be told."""
    return bool(state.get("hide")) and st.session_state.get("told") != record


# -- what they show --------------------------------------------------------------------------------------------------


def sides_of(asked: Asked) -> list[Side]:
    """The list of the model, and what stands beside it."""
    first = state.model_label(asked.model)
    if asked.second is None:
        return [Side(f"Ranked by the {first} model", first, asked.examples)]
    if not asked.mitigated:
        second = state.model_label(asked.second)
        return [
            Side(f"Ranked by the {first} model", first, asked.examples),
            Side(f"Ranked by the {second} model", second, kept.examples(asked.cohort, asked.second)),
        ]
    before = Side(f"Before: the {first} model as it came", "before", asked.examples)
    if state.releases():
        said = "After: a release"
    else:
        chosen = state.setting()
        said = f"After: {mechanisms()[chosen.mechanism].lower()}, ε = {epsilon_words(chosen.epsilon)}"
    try:
        if not state.releases() and state.setting().learns_findings and not state.labelled():
            raise InputError("It learns from labels, and this cohort has none.", "Choose another mitigation.")
        made = kept.mitigated_examples(asked.cohort, asked.model, state.setting())
    except LinkageError as error:
        return [before, Side(said, "after", None, problem=error)]
    return [before, Side(said, "after", made.examples, made.claim)]


def ranking_of(asked: Asked, record: str, examples: Examples, *, hidden: bool = False) -> RankedList:
    """The top reports in a pool of N, or of all that the image's patient leaves over where those are fewer."""
    n = min(asked.pool_size, examples.largest_pool_of(record))
    return examples.ranked(record, n, min(asked.n_shown, n), draw=int(state.get("draw")), true_one_always=not hidden)


def view_of(asked: Asked, record: pd.Series, side: Side) -> ranked.RankedView | ranked.NoList:
    """One list with its texts, as far as they may be shown."""
    if side.examples is None:
        assert side.problem is not None
        said = page.without_places(side.problem.what), page.without_places(side.problem.remedy)
        return ranked.NoList(side.caption, *said, asked.n_shown)
    examples, name, may_show = side.examples, str(record["record_id"]), state.show_text()
    hidden, drawn = is_hidden(name), int(state.get("draw"))
    ranking = ranking_of(asked, name, examples, hidden=hidden)
    cards = [
        ranked.Card(
            key=card_key(report.report_key),
            rank=report.rank,
            similarity=report.similarity,
            is_match=report.is_match,
            n_identical=report.n_identical,
            words=report.report_words,
            text=gallery.report_text(examples.entry, report.study_id, report.report_key) if may_show else None,
            absent=ABSENT[may_show],
        )
        for report in ranking.reports
    ]
    return ranked.RankedView(
        image=f"{name} {drawn} {hidden}",
        caption=f"{side.caption} · pool {drawn + 1}" if drawn else side.caption,
        claim=side.claim,
        rank=ranking.rank,
        pool_size=ranking.pool_size,
        first_in=ranking.first_in,
        scale=examples.scale,
        cards=cards,
        n_shown=asked.n_shown,
        n_hidden_above=ranking.n_hidden_above,
        hidden=hidden,
    )


def card_key(report_key: str) -> str:
    """The same for one report throughout a session, and telling nothing of it: it is hashed with a secret."""
    secret = st.session_state.setdefault("card secret", secrets.token_bytes(16))
    return hashlib.blake2b(report_key.encode(), key=secret, digest_size=8).hexdigest()


# -- the chance of coming first --------------------------------------------------------------------------------------


def chances_of(asked: Asked, record: str, sides: list[Side]) -> Chances:
    """The exact chances of one image under each list that there is."""
    there = {side.short: side.examples for side in sides if side.examples is not None}
    largest = min(examples.largest_pool_of(record) for examples in there.values())
    sizes = sorted({*first_in.steps(largest), min(asked.pool_size, largest)})
    return Chances(sizes, {short: examples.first_in(record, sizes) for short, examples in there.items()})


def lines_of(asked: Asked, chances: Chances, colours: palette.Palette, styles: dict[str, str]) -> list[first_in.Line]:
    """The lines of the picture. styles: the colour of each model by its name in the picture."""
    own = {"before": (colours.before, "solid"), "after": (colours.after, "8px,4px")} if asked.mitigated else {}
    made = []
    for i, (short, values) in enumerate(chances.by_list.items()):
        colour, dash = own.get(short, (styles.get(short, colours.text), "solid" if i == 0 else "8px,4px"))
        made.append(first_in.Line(short, values, colour, dash))
    return made


def _styles(colours: palette.Palette) -> dict[str, str]:
    return {state.model_label(name): style.colour for name, style in colours.styles(state.models()).items()}


def draw_chances(asked: Asked, chances: Chances) -> None:
    """The picture."""
    colours = palette.current()
    lines = lines_of(asked, chances, colours, _styles(colours))
    st.plotly_chart(
        first_in.picture(chances.sizes, lines, asked.pool_size, colours),
        theme=None,
        config=charts.CONFIG,
        key="first in",
        alt=first_in.in_words(chances.sizes, lines, asked.pool_size),
    )


def save(asked: Asked, record: str, drawn: Drawn) -> None:
    """The figures of the picture and the picture, as it stands when the button is pressed."""
    name = page.file_name("first-in", asked.entry.cohort, asked.model, record)
    kind = "synthetic cohort" if asked.entry.synthetic else "cohort"
    about = f"{kind} {state.cohort_label(asked.cohort)} · image {record} · chosen N = {asked.pool_size:,}"
    styles, synthetic = _styles(palette.LIGHT), asked.entry.synthetic

    def table() -> bytes:
        chances = drawn.chances or Chances([], {})
        rows = first_in.rows(chances.sizes, chances.by_list)
        return downloads.csv(page.filed_as_is(pd.DataFrame(rows), synthetic))

    def image() -> bytes:
        chances = drawn.chances or Chances([1], {})
        lines = lines_of(asked, chances, palette.LIGHT, styles)
        figure = first_in.picture(chances.sizes, lines, asked.pool_size, palette.LIGHT)
        return downloads.svg(figure, title="One image's chance of coming first", subtitle=about)

    page.save(("Chances (CSV)", f"{name}.csv", table), ("Picture (SVG)", f"{name}.svg", image))
