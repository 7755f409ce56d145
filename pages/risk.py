"""How does the risk change with the number of reports? Every model's curve, and the exact table behind it."""

import pandas as pd
import streamlit as st

from explorer import charts, downloads, page, palette, sentences, state
from linkage_core.errors import LinkageError
from linkage_core.pools import log_pool_sizes

page.guard()
st.title("How does the risk change with the number of reports?")
colours = palette.current()
labels = {model: state.model_label(model) for model in state.models()}
steps: list[int] = []

with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
    model = state.model_control("risk model")
    try:
        study = state.study(state.cohort(), model)
        largest = study.largest_pool
    except LinkageError:  # said below, where the answer would stand; another model may do
        largest = None
    if largest is not None:
        steps = log_pool_sizes(study.common_pool)
        state.pool_slider(steps, f"risk slider to {steps[-1]}")
        state.pool_box(largest, "risk box")
    k = state.choice("k", "Right if in the first (k)", {k: str(k) for k in state.K_CHOICES}, key="risk k")
pool_size = state.get("N")

with page.guarded():
    row = page.row_at(model, pool_size, k, steps)
    if isinstance(row, str):
        page.no_number(row, kind="le-line")
    else:
        before, count, rest = sentences.at_pool_size(pool_size, row["recall"], row["chance"])
        out_of = sentences.denominator(pool_size)
        facts = [
            labels[model],
            sentences.lift(row["lift"]),
            f"95% interval {sentences.interval(row['recall_low'], row['recall_high'], out_of)}",
            f"n = {row['n_queries']:,.0f} images",
            *([f"right report among the first {k}"] if k > 1 else []),
        ]
        page.headline(count, rest, before=before, small=" · ".join(facts), kind="le-line")

grid, problems = page.all_models_grid(k)
if len(grid):
    chosen = pd.DataFrame() if pool_size in steps else page.all_models(pool_size, k, steps)[0]
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
            filed = page.filed(table, state.synthetic())
            name = page.file_name("risk", state.cohort(), measure, f"k{k}")
            st.download_button(
                "Table (CSV)",
                lambda: downloads.csv(filed),  # made on demand, outside this run: it may not read the state
                f"{name}.csv",
                "text/csv",
                on_click="ignore",
                icon=":material/table:",
                width="stretch",
            )
            st.download_button(
                "Picture (SVG)",
                lambda: downloads.svg(
                    draw(measure, palette.LIGHT),
                    title="How the risk changes with the number of reports",
                    subtitle=about,
                ),
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
    with st.expander("Details: the exact table, and what its words mean", icon=":material/table:"):
        st.dataframe(page.readable(table, labels), hide_index=True, height=300)
        st.markdown(page.CURVE_WORDS)
page.left_out(problems)
page.cannot_tell("whether the pool holds the right report at all; here it always does.")
