"""Risk by pool size, same-finding decoys: what a model links where the findings alone cannot tell reports apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, palette
from explorer.drawing.verbatim import verbatim
from explorer.examples import gallery
from explorer.frame import kept, page, state
from explorer.risk import decoys
from explorer.risk.risk_page import Asked, about, left_out, match_more, save, tool_row
from linkage_core import sentences
from linkage_core.cohorts.labels.cohort import labels_line

KIND = "le-line le-three"
SAME_DASH = "3px,4px"


def draw(asked: Asked) -> None:
    """Both kinds of pools on the same images, and under them whether the decoys are alike."""
    table = pd.DataFrame()
    with page.guarded():
        auc = kept.label_matched_auc(asked.cohort, asked.model, asked.pool)
        if auc["flag"] or not asked.steps:
            few = sentences.upper(sentences.too_few(auc["n"]))
            page.no_number(f"{few}: {auc['n_patients']:,} patients have such a decoy.", kind=KIND)
        else:
            table = rows_of(asked)
            headline(asked, auc, table)
    row_of_controls = tool_row()
    with row_of_controls:
        match_more(asked.offered)
        st.space("stretch")
    if table.empty:
        return
    label = asked.labels[asked.model]
    names = {kept.ANY_PATIENT: "any patient", asked.pool: "same findings"}
    rows = charts.with_lift_interval(table.assign(model=table["pool"]))

    def picture(colours: palette.Palette) -> go.Figure:
        style = colours.styles(asked.labels)[asked.model]
        return charts.curve(
            rows,
            measure="recall",
            k=asked.k,
            pool_size=asked.pool_size,
            styles=dict.fromkeys(names, style),
            labels=names,
            palette=colours,
            dashes={asked.pool: SAME_DASH},
        )

    st.plotly_chart(
        picture(palette.current()),
        theme=None,
        config=charts.CONFIG,
        key="decoys",
        alt=f"{label}, against the number of reports. {page.curve_words(rows, asked.pool_size, names)}",
    )
    tables = {"Curves (CSV)": page.filed_as_is(table, state.synthetic())}
    with page.guarded():
        tables["Still unequal (CSV)"] = page.filed_as_is(alike_or_not(asked, table), state.synthetic())
    with row_of_controls:
        save(
            page.file_name("same-findings", asked.cohort, asked.model, *asked.alike, f"k{asked.k}"),
            tables,
            picture,
            f"{label}: any patient's reports, and reports with {decoys.alike_words(asked.alike)}",
            about(asked, table),
        )


def rows_of(asked: Asked) -> pd.DataFrame:
    """Both kinds of pools at the steps of N, and at the chosen one where it lies between them."""
    table = kept.of_pools(asked.cohort, asked.model, asked.pool, asked.steps, asked.k)
    if asked.pool_size in asked.steps or asked.pool_size >= asked.steps[-1]:
        return table
    return pd.concat([table, kept.of_pools(asked.cohort, asked.model, asked.pool, [asked.pool_size], asked.k)])


def alike_or_not(asked: Asked, table: pd.DataFrame) -> pd.DataFrame:
    """Draws what is still unequal between match and decoys, and returns it."""
    st.header("Are the decoys really alike?")
    entry = kept.entry(asked.cohort, asked.model)
    verified = kept.verified(asked.cohort, asked.model, asked.pool, lambda: gallery.texts_to_count_with(entry))
    st.html(decoys.table(verified.balance, asked.alike))
    with st.expander("Details: how the decoys were found, and what these words mean", icon=":material/table:"):
        st.markdown(decoys.sizes_words(verified.sizes.iloc[0]))
        st.markdown(decoys.WORDS)
        st.markdown(f"Labels: {verbatim(labels_line(entry.labels_note()))}.")
        st.dataframe(table.drop(columns=["cohort", "model"]), hide_index=True, height=300)
    return verified.balance


def headline(asked: Asked, auc: Mapping[str, Any], table: pd.DataFrame) -> None:
    """How often the match beats one decoy; in grey the interval, n, who has none, and what that means at N."""
    before, count, rest = decoys.headline(auc)
    without = auc["n_excluded"] / (auc["n"] + auc["n_excluded"])
    facts = [
        asked.labels[asked.model],
        *([f"decoys with {decoys.alike_words(asked.alike)}"] if asked.alike else []),
        f"95% interval {sentences.interval(auc['low'], auc['high'], 100)}",
        f"n = {auc['n']:,} images of {auc['n_patients']:,} patients",
        f"{sentences.of(without, 100)} images have no such decoy" if without else "every image has such a decoy",
    ]
    here = table[table["pool_size"] == asked.pool_size].set_index("pool")
    if len(here):
        recall = here["recall"].to_dict()
        linked = [sentences.figure(recall[name], asked.out_of) for name in (asked.pool, kept.ANY_PATIENT)]
        facts.append(
            f"at N = {asked.pool_size:,}: {linked[0]} of {asked.out_of:,} linked among such decoys, {linked[1]} among "
            f"reports of any patients, guessing {sentences.figure(asked.k / asked.pool_size, asked.out_of)}; "
            f"{left_out(here.iloc[0])}"
        )
    page.headline(count, rest, before=before, small=" · ".join(facts), kind=KIND)
