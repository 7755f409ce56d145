"""Can a de-identified chest X-ray be linked back to its report? The answer first, then where to go."""

import streamlit as st

from explorer.drawing import charts, palette
from explorer.frame import controls, page, state
from linkage_core import sentences
from linkage_core.errors import LinkageError
from linkage_core.store.entry import LADDER

page.guard()
st.title("Can a de-identified chest X-ray be linked back to its report?")
st.markdown(
    "Someone holds an X-ray without a name and a pool of reports. "
    "How often does an AI model put the right report first?"
)
colours = palette.current()
labels = {model: state.model_label(model) for model in state.models()}
pool_size, steps = int(state.get("N")), list[int]()

with st.container(border=True, key="answer"):
    picture, answer = st.columns([0.3, 0.7], gap="medium")
    with answer, page.guarded():
        with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
            filled = controls.NO_OTHERS
            try:
                steps, filled = controls.round_pool_sizes(state.model())
            except LinkageError:  # said below; another model may do
                steps = [pool_size]
            pool_size = controls.pool_buttons(steps, "start N", filled=filled)
            model = controls.model_control("start model")
        out_of = sentences.denominator(pool_size)
        row = page.row_at(model, pool_size, 1, steps)
        if isinstance(row, str):
            page.no_number(row)
        else:
            count, rest = sentences.linked(row["recall"], out_of)
            interval = sentences.interval(row["recall_low"], row["recall_high"], out_of)
            page.headline(
                count,
                rest,
                sentences.guessing(row["chance"], out_of),
                *page.how_far_off(row, out_of),
                small=f"{sentences.lift(row['lift'])} · 95% interval {interval} · "
                f"measured on {row['n_queries']:,.0f} images",
            )
            st.html(charts.array_legend(colours))
            with picture:
                st.html(charts.array(row["recall"], row["chance"], out_of, colours))

ladder, where = st.columns([0.64, 0.36], gap="large")
with ladder:
    rows, problems = page.all_models(pool_size, 1, steps)
    rungs = len(labels) > 1 and all(model in LADDER for model in labels)
    st.header("The more a model has seen of radiology, the more it links" if rungs else "What each model links")
    if len(rows):
        out_of = sentences.denominator(pool_size)
        st.plotly_chart(
            charts.ladder(rows, out_of=out_of, styles=colours.styles(labels), labels=labels, palette=colours),
            theme=None,
            config=charts.CONFIG,
            key="ladder",
            alt=page.ladder_words(rows, out_of, labels),
        )
    page.left_out(problems)
    page.unlike_reality(model)
with where:
    st.header("Where to go")
    page.destination(
        "pages/examples.py",
        "Look at one image and its reports",
        "See what an attacker would see.",
        ":material/radiology:",
    )
    page.destination(
        "pages/risk.py", "See how the risk changes", "From ten reports to the whole pool.", ":material/show_chart:"
    )
    page.destination(
        "pages/mitigation.py", "See what a mitigation buys", "And what an attacker makes of it.", ":material/shield:"
    )
    page.destination("pages/report.py", "Make the report", "One file for whoever decides.", ":material/description:")

with st.expander("What this tool is, and is not", icon=":material/info:"):
    st.markdown(
        """
- It measures one attack: an AI model that reads images and reports gives every report a similarity to the image, and
  the most similar one is taken. Here the pool always holds the right report; *Missing match* asks what if it may not.
- The count is exact for random pools of N reports: nothing is sampled. Reports with the same text tie, and ties are
  broken at random.
- The interval says how far the count could move with other patients like these. It says nothing about other hospitals.
- Linked does not mean named. Who is behind a report depends on what else the attacker holds.
- It is evidence for the person who decides about a release, not a verdict.
"""
    )
with page.guarded():
    page.what_identifies(state.model())
page.cannot_tell("what other attacks could do; how often it would happen with another hospital's images and reports.")
