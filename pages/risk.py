"""How does the risk change with the number of reports? Every model's curve, and the exact table behind it."""

import pandas as pd
import streamlit as st

from explorer import charts, downloads, page, palette, sentences, state
from linkage_core.pools import log_pool_sizes

page.guard()
st.title("How does the risk change with the number of reports?")
colours = palette.current()
labels = {model: state.model_label(model) for model in state.models()}
steps: list[int] = []

with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
    model = state.model_control("risk model")
    with page.guarded():
        largest = state.study(state.cohort(), model).largest_pool
        steps = log_pool_sizes(largest)
        state.pool_slider(steps, f"risk slider to {largest}")
        state.pool_box(largest, "risk box")
        k = state.choice("k", "Right if in the first (k)", {k: str(k) for k in state.K_CHOICES}, key="risk k")
pool_size, k = state.get("N"), state.get("k")

row: pd.Series | str | None = None
with page.guarded():
    row = page.row_at(model, pool_size, k, steps)
    if isinstance(row, str):
        page.no_number(row, kind="le-line")
    else:
        before, count, rest = sentences.at_pool_size(pool_size, row["recall"], row["chance"])
        out_of = sentences.denominator(pool_size)
        interval = sentences.interval(row["recall_low"], row["recall_high"], out_of)
        meaning = "" if k == 1 else f" · right report among the first {k}"
        page.headline(
            count,
            rest,
            before=before,
            small=f"{labels[model]} · {sentences.lift(row['lift'])} · 95% interval {interval} · n = {row['n_queries']:,.0f} images{meaning}",
            kind="le-line",
        )

grid, problems = page.all_models_grid(k)
chosen, _ = page.all_models(pool_size, k, steps)
if len(grid):
    table = charts.with_lift_interval(pd.concat([grid, chosen]).drop_duplicates(["model", "pool_size"]))

    def draw(measure: str, with_colours: palette.Palette):
        return charts.curve(
            table,
            measure=measure,
            k=k,
            pool_size=pool_size,
            styles=with_colours.styles(labels),
            labels=labels,
            palette=with_colours,
        )

    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        words = {name: measure.label for name, measure in charts.MEASURES.items()}
        measure = state.choice("measure", "Measure", words, key="risk measure")
        st.space("stretch")
        with st.popover("Save", icon=":material/download:"):
            about = page.provenance(pool_size, int(table["n_queries"].max()))
            name = page.file_name("risk", state.cohort(), measure, f"k{k}")
            st.download_button(
                "Table (CSV)",
                lambda: downloads.csv(page.with_words(table)),
                f"{name}.csv",
                "text/csv",
                on_click="ignore",
                icon=":material/table:",
                width="stretch",
            )
            st.download_button(
                "Picture (SVG)",
                lambda: downloads.svg(draw(measure, palette.LIGHT), title="How the risk changes with the number of reports", subtitle=about),
                f"{name}.svg",
                "image/svg+xml",
                on_click="ignore",
                icon=":material/image:",
                width="stretch",
            )
    st.plotly_chart(
        draw(measure, colours),
        theme=None,
        config=charts.CONFIG,
        key="curve",
        alt=page.curve_words(table, pool_size, labels),
    )
    for problem in problems:
        st.caption(problem)
    with st.expander("Details: the exact table, and what its words mean", icon=":material/table:"):
        st.dataframe(page.readable(table, labels), hide_index=True, height=300)
        st.markdown(page.CURVE_WORDS)
page.cannot_tell("whether the pool holds the right report at all; here it always does.")
