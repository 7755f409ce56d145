"""Risk by pool size, models compared: how much more one links than another on the same images."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, forest, palette
from explorer.frame import kept, page, state
from explorer.risk.risk_page import KIND, Asked, about, decoys_control, save, tool_row
from linkage_core import sentences
from linkage_core.audit import compare
from linkage_core.errors import LinkageError

WORDS = """
- **More linked**: Recall@k of the first model less that of the second on the same images in pools of the same N, as
  images of {out_of:,}. Exact for random pools; positive where the first links more.
- **95% interval**: how far the difference could move with other patients like these (patients drawn again with
  replacement; both models on the same patients each time).
- **p**: were the two models alike, how often would their means differ by as much? The signs of whole patients'
  differences are flipped at random 10,000 times.
- **adjusted p** (Holm): p for all pairs on this page together. Who looks at many pairs finds a small p by luck; under
  0.05 here means less than one in twenty that any pair told apart is alike.
- **McNemar p**: exact test of the images that one model puts first among all candidates and the other does not. It
  takes images for independent and knows only hits and misses, so it is a companion of p and not a replacement.
- A mark is filled where the interval leaves out zero and the adjusted p is under 0.05.
"""


def draw(asked: Asked) -> None:
    """The chosen model beside its nearest in a sentence, every pair in a picture."""
    table, ready, problems = pd.DataFrame(), list[str](), list[str]()
    with page.guarded():
        ready, problems = comparable_models(asked)
        table, sentence = pairs(asked, ready)
        if sentence is None:
            headline(asked, table)
        else:
            page.no_number(sentence, kind=KIND)
    row_of_controls = tool_row()
    with row_of_controls:
        decoys_control(asked)
        st.space("stretch")
    if len(table):

        def picture(colours: palette.Palette) -> go.Figure:
            return forest.forest(table, out_of=asked.out_of, labels=asked.labels, palette=colours)

        with row_of_controls:
            save(
                page.file_name("models-compared", asked.cohort, f"N{asked.pool_size}", f"k{asked.k}", asked.pool),
                {"Table (CSV)": page.filed_as_is(table, state.synthetic())},
                picture,
                "How much more one model links than another",
                about(asked, table),
            )
        st.plotly_chart(
            picture(palette.current()),
            theme=None,
            config=charts.CONFIG,
            key="forest",
            alt=forest.words(table, asked.out_of, asked.labels),
        )
        with st.expander("Details: the exact table, tests, and what their words mean", icon=":material/table:"):
            st.dataframe(readable(asked, table), hide_index=True)
            st.markdown(WORDS.format(out_of=asked.out_of))
    elif len(ready) > 1:  # another N brings the picture back: the page keeps its height
        st.html(f'<div style="height:{forest.height(math.comb(len(ready), 2))}px"></div>')
    page.left_out(problems)


def comparable_models(asked: Asked) -> tuple[list[str], list[str]]:
    """Models on the same images as the chosen one, and a sentence for each of the others."""
    chosen = kept.study(asked.cohort, asked.model, asked.pool)
    ready, problems = [], []
    for name, label in asked.labels.items():
        try:
            if compare.comparable(kept.study(asked.cohort, name, asked.pool), chosen):
                ready.append(name)
            else:
                problems.append(f"{label} is not shown. It was given other images or reports.")
        except LinkageError as error:
            problems.append(f"{label} is not shown. {error.what} {error.remedy}")
    return ready, problems


def pairs(asked: Asked, ready: list[str]) -> tuple[pd.DataFrame, str | None]:
    """(every pair as a row, None); or (no rows, the sentence that stands in their place)."""
    sentence = why_not_compared(asked, ready)
    if sentence is not None:
        return pd.DataFrame(), sentence
    table = forest.oriented(kept.compared(asked.cohort, ready, asked.pool, asked.pool_size, asked.k), ready)
    beside = forest.beside(table, asked.model)
    if beside is None or beside[0]["flag"]:
        return pd.DataFrame(), f"{sentences.upper(sentences.too_few(int(table['n_queries'].max())))}."
    return table, None


def why_not_compared(asked: Asked, ready: list[str]) -> str | None:
    """The sentence that stands in place of a comparison, or None where there is one."""
    label = asked.labels[asked.model]
    if len(asked.labels) < 2:
        return f"{label} is the only model here: there is nothing to compare it with."
    if len(ready) < 2:
        return f"No other model was given the same images and reports as {label}."
    if asked.largest is not None and asked.pool_size > asked.largest:
        return f"N = {asked.pool_size:,} is larger than the pool. The largest is {asked.largest:,}."
    if asked.k > asked.pool_size:
        return f"The first {asked.k} of N = {asked.pool_size:,} is everything. Choose a larger N or a smaller k."
    if asked.pool_size == 1:
        return "With one report in the pool every model is right. Choose a larger N."
    return None


def headline(asked: Asked, table: pd.DataFrame) -> None:
    """The chosen model against the one beside it; `table` has that pair."""
    beside = forest.beside(table, asked.model)
    if beside is None:
        return
    row, other, difference = beside
    before, count, rest = sentences.links_more(
        difference,
        asked.out_of,
        asked.labels[asked.model],
        asked.labels[other],
        k=asked.k,
        told=forest.told_apart(row),
    )
    low, high = (row["low"], row["high"]) if other == row["model_a"] else (-row["high"], -row["low"])
    facts = [
        f"at N = {asked.pool_size:,}",
        f"95% interval of the difference {sentences.difference_interval(low, high, asked.out_of)}",
        f"{forest.p_words(row['p_holm'])}, adjusted for {len(table)} pair{'' if len(table) == 1 else 's'}",
        f"n = {row['n_queries']:,} images of {row['n_patients']:,} patients",
        *asked.about_decoys(row),
    ]
    page.headline(count, rest, before=before, small=" · ".join(facts), kind=KIND)


def readable(asked: Asked, table: pd.DataFrame) -> pd.DataFrame:
    """The pairs with the words of the page; numbers stay numbers."""
    out_of = asked.out_of
    return pd.DataFrame(
        {
            "first": [asked.labels[name] for name in table["model_b"]],
            "second": [asked.labels[name] for name in table["model_a"]],
            f"more linked, of {out_of:,}": (table["difference"] * out_of).round(3),
            "low": (table["low"] * out_of).round(3),
            "high": (table["high"] * out_of).round(3),
            "adjusted p": table["p_holm"].round(5),
            "p": table["p"].round(5),
            "McNemar p": table["p_mcnemar"].round(5),
            "first links": (table["recall_b"] * out_of).round(3),
            "second links": (table["recall_a"] * out_of).round(3),
            "n images": table["n_queries"],
            "n patients": table["n_patients"],
            "left out": table["n_excluded"],
        }
    )
