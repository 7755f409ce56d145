"""Risk by pool size: what is asked, the controls and files of all tabs, and the tab with the curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.drawing import charts, downloads, palette
from explorer.drawing.charts import Row
from explorer.frame import kept, page, state
from explorer.frame.controls import choice, model_control, pool_box, pool_slider, several
from explorer.risk import decoys
from linkage_core import sentences
from linkage_core.audit import ceilings, strata
from linkage_core.errors import LinkageError

TABS = {"curve": "Curve", "compare": "Models compared", "decoys": "Same-finding decoys"}
KIND = "le-line le-two"
ALIKE = {"view": "View", "sex": "Sex", "age": "Decade of age", "length": "Length of report"}


@dataclass(frozen=True)
class Asked:
    """What the page is asked for.

    labels: every model -> its name. pool: as Study.pool is named; `same`: of same-finding decoys, who are also alike in
    `alike`, some of `offered`. steps: the values of N that such pools fill. largest: None where it is not known.
    """

    cohort: str
    model: str
    labels: Mapping[str, str]
    pool_size: int
    k: int
    pool: str
    same: bool
    alike: tuple[str, ...]
    offered: tuple[str, ...]
    steps: list[int]
    largest: int | None

    @property
    def out_of(self) -> int:
        """How many images a rate is said of."""
        return sentences.denominator(self.pool_size)

    def about_decoys(self, row: Row) -> list[str]:
        """What qualifies a figure of same-finding decoys, as parts of the grey line."""
        return [f"decoys with {decoys.alike_words(self.alike)}", left_out(row)] if self.same else []


# -- what is asked ---------------------------------------------------------------------------------------------------


def controls(tab: str) -> Asked:
    """The row of controls: model, N and k. What cannot be read is said below, where the answer would stand."""
    cohort, labels = state.cohort(), {name: state.model_label(name) for name in state.models()}
    same = tab == "decoys" or state.get("decoys") == "same"
    pool, steps, largest = kept.ANY_PATIENT, [], None
    pool_size = int(state.get("N"))
    offered: tuple[str, ...] = ()
    alike: tuple[str, ...] = ()
    with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
        model = model_control("risk model")
        try:
            largest, steps = kept.study(cohort, model).largest_pool, kept.pool_steps(cohort, model)
            slider_steps = steps
            if same:
                offered = kept.strata_offered(cohort, model)
                asked = state.get("alike").split(",")
                alike = tuple(name for name in strata.STRATA if name in offered and name in asked)
                pool, steps = "+".join([kept.SAME_FINDINGS, *alike]), []
                largest = kept.study(cohort, model, pool).largest_pool
                steps = kept.pool_steps(cohort, model, pool)
                slider_steps = steps or slider_steps
        except LinkageError:  # another model may do
            pass
        if largest is not None:
            fillable = steps[-1] if same and steps else largest
            pool_size = pool_slider(slider_steps, "risk slider", filled=range(1, fillable + 1))
            pool_box(fillable, "risk box")
        k = choice("k", "Right if in the first (k)", {k: str(k) for k in state.K_CHOICES}, key="risk k")
    return Asked(cohort, model, labels, pool_size, k, pool, same, alike, offered, steps, largest)


def decoys_control(asked: Asked) -> None:
    """Who the other reports are from; what more is matched stands in a popover of its own."""
    words = {"any": "any patient", "same": "same findings"}
    help = "Same findings: other patients whose 14 labels are identical, so the findings alone do not find the match."
    choice("decoys", "Decoys", words, key="risk decoys", help=help)
    match_more(asked.offered, disabled=state.get("decoys") == "any")


def match_more(offered: tuple[str, ...], *, disabled: bool = False) -> None:
    with st.popover("Match more", icon=":material/tune:", disabled=disabled):
        if disabled:
            return  # nothing is drawn that cannot be opened: the slider would wait for it
        if offered:
            several("alike", "Decoys are also alike in", {name: ALIKE[name] for name in offered}, "risk alike")
        else:
            st.caption("This cohort knows nothing more to match by.")


# -- what all tabs share ---------------------------------------------------------------------------------------------


def left_out(row: Row) -> str:
    """Which share of the images this N leaves out, and why."""
    share = row["n_excluded"] / (row["n_queries"] + row["n_excluded"])
    if not row["n_excluded"]:
        return "no image left out"
    return f"left out: {sentences.of(share, 100)} images have fewer than {row['pool_size'] - 1:,} such decoys"


def tool_row() -> DeltaGenerator:
    """The row above a picture: its controls, and at the end the files."""
    return st.container(horizontal=True, gap="medium", vertical_alignment="bottom")


def about(asked: Asked, table: pd.DataFrame) -> str:
    """The line under the title of an exported picture."""
    of = page.provenance(asked.pool_size, int(table["n_queries"].max()))
    return f"{of} · decoys with {decoys.alike_words(asked.alike)}" if asked.same else of


def save(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    draw: Callable[[palette.Palette], go.Figure],
    title: str,
    subtitle: str,
) -> None:
    """The popover with the files: each table as CSV, the picture as SVG."""

    def as_csv(table: pd.DataFrame) -> Callable[[], bytes]:
        return lambda: downloads.csv(table)

    first = next(iter(tables))
    page.save(
        *(
            (label, f"{name}{'' if label == first else '-balance'}.csv", as_csv(table))
            for label, table in tables.items()
        ),
        (
            "Picture (SVG)",
            f"{name}.svg",
            lambda: downloads.svg(draw(palette.LIGHT), title=title, subtitle=subtitle),
        ),
    )


# -- the curve -------------------------------------------------------------------------------------------------------


def curve_tab(asked: Asked) -> None:
    """Every model's risk against N, and the chosen one's at the chosen N."""
    with page.guarded():
        curve_headline(asked)
    grid, problems = page.all_models_grid(asked.k, asked.pool)
    row_of_controls = tool_row()
    with row_of_controls:
        words = {name: measure.label for name, measure in charts.MEASURES.items()}
        measure = choice("measure", "Measure", words, key="risk measure")
        decoys_control(asked)
        st.space("stretch")
    if not len(grid):
        return
    table = with_chosen(grid, asked)

    def draw(colours: palette.Palette) -> go.Figure:
        return charts.curve(
            table,
            measure=measure,
            k=asked.k,
            pool_size=asked.pool_size,
            styles=colours.styles(asked.labels),
            labels=asked.labels,
            palette=colours,
        )

    decoys_of = ["same findings", *asked.alike] if asked.same else []
    with row_of_controls:
        save(
            page.file_name("risk", asked.cohort, measure, f"k{asked.k}", *decoys_of),
            {"Table (CSV)": page.filed(table, state.synthetic())},
            draw,
            "How the risk changes with the number of reports",
            about(asked, table),
        )
    st.plotly_chart(
        draw(palette.current()),
        theme=None,
        config=charts.CONFIG,
        key="curve",
        alt=page.curve_words(table, asked.pool_size, asked.labels),
    )
    with page.guarded():
        ceiling_line(asked)
    with st.expander("Details: the exact table, and what its words mean", icon=":material/table:"):
        st.dataframe(page.readable(table, asked.labels), hide_index=True, height=300)
        st.markdown(page.CURVE_WORDS)
    page.left_out(problems)


def curve_headline(asked: Asked) -> None:
    row = page.row_at(asked.model, asked.pool_size, asked.k, asked.steps, asked.pool)
    if isinstance(row, str):
        page.no_number(row, kind=KIND)
        return
    before, count, rest = sentences.at_pool_size(asked.pool_size, row["recall"], row["chance"])
    facts = [
        asked.labels[asked.model],
        sentences.lift(row["lift"]),
        f"95% interval {sentences.interval(row['recall_low'], row['recall_high'], asked.out_of)}",
        f"n = {row['n_queries']:,.0f} images",
        *([f"right report among the first {asked.k}"] if asked.k > 1 else []),
        *asked.about_decoys(row),
    ]
    few = page.how_far_off(row, asked.out_of)
    page.headline(count, rest, *few, before=before, small=" · ".join(facts), kind=KIND)


def ceiling_line(asked: Asked) -> None:
    """What nobody passes at this N by the reports' text alone, and what the findings alone would allow."""
    if asked.largest is None or not asked.k <= asked.pool_size <= asked.largest:
        return
    if asked.same:  # another game
        st.html(
            '<p class="mi-small le-ceiling">What nobody passes by the reports alone: with decoys of any patient.</p>'
        )
        return
    said, out_of = list[str](), asked.out_of
    text = kept.ceiling(asked.cohort, asked.model, ceilings.TEXT)
    rate = kept.ceiling_at(asked.cohort, asked.model, ceilings.TEXT, asked.pool_size, asked.k)
    if not isinstance(text, str) and rate is not None:
        vectors = ceilings.by_vectors(kept.entry(asked.cohort, asked.model))
        said.append(ceilings.text_says(rate, text.shared, out_of, k=asked.k, vectors=vectors))
    of_findings = kept.ceiling_at(asked.cohort, asked.model, ceilings.FINDINGS, asked.pool_size, asked.k)
    said.append(ceilings.findings_say(of_findings, out_of, k=asked.k))
    st.html(f'<p class="mi-small le-ceiling">{escape(" ".join(said))}</p>')


def with_chosen(grid: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    """The rows of the curve, with those at the chosen N where it is no step and enough patients fill it."""
    beyond = asked.same and (not asked.steps or asked.pool_size > asked.steps[-1])
    chosen = pd.DataFrame()
    if asked.pool_size not in asked.steps and not beyond:
        chosen = page.all_models(asked.pool_size, asked.k, asked.steps, asked.pool)[0]
    return charts.with_lift_interval(pd.concat([grid, chosen]).drop_duplicates(["model", "pool_size"]))
