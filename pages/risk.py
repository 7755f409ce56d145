"""How does the risk change with the number of reports, with the model, and with decoys that have the same findings?"""

import math
from collections.abc import Callable, Mapping

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, downloads, forest, palette, sentences
from explorer.examples import gallery
from explorer.frame import controls, kept, page, state
from explorer.risk import decoys
from linkage_core.audit import compare, strata
from linkage_core.errors import LinkageError

TABS = {"curve": "Curve", "compare": "Models compared", "decoys": "Same-finding decoys"}
KIND = "le-line le-two"
SAME_DASH = "3px,4px"
ALIKE = {"view": "View", "sex": "Sex", "age": "Decade of age", "length": "Length of report"}
COMPARED_WORDS = """
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


def save(
    name: str,
    tables: Mapping[str, Callable[[], bytes]],
    picture: Callable[[], go.Figure],
    title: str,
    subtitle: str,
) -> None:
    """The popover with the files: each table as CSV, the picture as SVG."""
    files = [
        (label, f"{name}{'' if label == next(iter(tables)) else '-balance'}.csv", table)
        for label, table in tables.items()
    ]
    page.save(
        *files, ("Picture (SVG)", f"{name}.svg", lambda: downloads.svg(picture(), title=title, subtitle=subtitle))
    )


def about(table: pd.DataFrame) -> str:
    """The line under the title of an exported picture."""
    of = page.provenance(pool_size, int(table["n_queries"].max()))
    return f"{of} · decoys with {decoys.alike_words(alike)}" if same else of


def as_csv(table: pd.DataFrame) -> Callable[[], bytes]:
    return lambda: downloads.csv(table)


def decoys_control() -> None:
    """Who the other reports are from; what more is matched stands in a popover of its own."""
    words = {"any": "any patient", "same": "same findings"}
    help = "Same findings: other patients whose 14 labels are identical, so the findings alone do not find the match."
    controls.choice("decoys", "Decoys", words, key="risk decoys", help=help)
    match_more(disabled=state.get("decoys") == "any")


def match_more(*, disabled: bool = False) -> None:
    with st.popover("Match more", icon=":material/tune:", disabled=disabled):
        if disabled:
            return  # nothing is drawn that cannot be opened: the slider would wait for it
        if offered:
            controls.several("alike", "Decoys are also alike in", {name: ALIKE[name] for name in offered}, "risk alike")
        else:
            st.caption("This cohort knows nothing more to match by.")


def left_out(row: pd.Series | Mapping) -> str:
    """Which share of the images this N leaves out, and why."""
    share = row["n_excluded"] / (row["n_queries"] + row["n_excluded"])
    if not row["n_excluded"]:
        return "no image left out"
    return f"left out: {sentences.of(share, 100)} images have fewer than {row['pool_size'] - 1:,} such decoys"


def curve_tab() -> None:
    with page.guarded():
        row = page.row_at(model, pool_size, k, steps, pool)
        if isinstance(row, str):
            page.no_number(row, kind=KIND)
        else:
            before, count, rest = sentences.at_pool_size(pool_size, row["recall"], row["chance"])
            out_of = sentences.denominator(pool_size)
            facts = [
                labels[model],
                sentences.lift(row["lift"]),
                f"95% interval {sentences.interval(row['recall_low'], row['recall_high'], out_of)}",
                f"n = {row['n_queries']:,.0f} images",
                *([f"right report among the first {k}"] if k > 1 else []),
                *([f"decoys with {decoys.alike_words(alike)}", left_out(row)] if same else []),
            ]
            page.headline(count, rest, before=before, small=" · ".join(facts), kind=KIND)
    grid, problems = page.all_models_grid(k, pool)
    row_of_controls = st.container(horizontal=True, gap="medium", vertical_alignment="bottom")
    with row_of_controls:
        words = {name: measure.label for name, measure in charts.MEASURES.items()}
        measure = controls.choice("measure", "Measure", words, key="risk measure")
        decoys_control()
        st.space("stretch")
    if len(grid):
        beyond = same and (not steps or pool_size > steps[-1])  # too few patients to be drawn
        chosen = pd.DataFrame() if pool_size in steps or beyond else page.all_models(pool_size, k, steps, pool)[0]
        table = charts.with_lift_interval(pd.concat([grid, chosen]).drop_duplicates(["model", "pool_size"]))

        def draw(with_colours: palette.Palette) -> go.Figure:
            return charts.curve(
                table,
                measure=measure,
                k=k,
                pool_size=pool_size,
                styles=with_colours.styles(labels),
                labels=labels,
                palette=with_colours,
            )

        with row_of_controls:
            save(
                page.file_name("risk", state.cohort(), measure, f"k{k}", *(["same findings", *alike] if same else [])),
                {"Table (CSV)": as_csv(page.filed(table, state.synthetic()))},
                lambda: draw(palette.LIGHT),
                "How the risk changes with the number of reports",
                about(table),
            )
        st.plotly_chart(
            draw(colours),
            theme=None,
            config=charts.CONFIG,
            key="curve",
            alt=page.curve_words(table, pool_size, labels),
        )
        with st.expander("Details: the exact table, and what its words mean", icon=":material/table:"):
            st.dataframe(page.readable(table, labels), hide_index=True, height=300)
            st.markdown(page.CURVE_WORDS)
        page.left_out(problems)


def compare_tab() -> None:
    table, ready, problems = pd.DataFrame(), [], []
    with page.guarded():
        ready, problems = comparable_models()
        sentence = why_not_compared(ready)
        if sentence is None:
            table = forest.oriented(kept.compared(state.cohort(), ready, pool, pool_size, k), ready)
            found = forest.beside(table, model)
            if found is None or found[0]["flag"]:
                sentence = f"{sentences.upper(sentences.too_few(int(table['n_queries'].max())))}."
                table = pd.DataFrame()
            else:
                compared_headline(*found, n_pairs=len(table))
        if sentence is not None:
            page.no_number(sentence, kind=KIND)
    row_of_controls = st.container(horizontal=True, gap="medium", vertical_alignment="bottom")
    with row_of_controls:
        decoys_control()
        st.space("stretch")
    if len(table):
        out_of = sentences.denominator(pool_size)

        def draw(with_colours: palette.Palette) -> go.Figure:
            return forest.forest(table, out_of=out_of, labels=labels, palette=with_colours)

        with row_of_controls:
            save(
                page.file_name("models-compared", state.cohort(), f"N{pool_size}", f"k{k}", pool),
                {"Table (CSV)": as_csv(page.filed_as_is(table, state.synthetic()))},
                lambda: draw(palette.LIGHT),
                "How much more one model links than another",
                about(table),
            )
        st.plotly_chart(
            draw(colours),
            theme=None,
            config=charts.CONFIG,
            key="forest",
            alt=forest.words(table, out_of, labels),
        )
        with st.expander("Details: the exact table, tests, and what their words mean", icon=":material/table:"):
            st.dataframe(readable_pairs(table, out_of), hide_index=True)
            st.markdown(COMPARED_WORDS.format(out_of=out_of))
    elif len(ready) > 1:  # another N brings the picture back: the page keeps its height
        st.html(f'<div style="height:{forest.height(math.comb(len(ready), 2))}px"></div>')
    page.left_out(problems)


def comparable_models() -> tuple[list[str], list[str]]:
    """Models on the same images as the chosen one, and a sentence for each of the others."""
    chosen = kept.study(state.cohort(), model, pool)
    ready, problems = [], []
    for name in labels:
        try:
            if compare.comparable(kept.study(state.cohort(), name, pool), chosen):
                ready.append(name)
            else:
                problems.append(f"{labels[name]} is not shown. It was given other images or reports.")
        except LinkageError as error:
            problems.append(f"{labels[name]} is not shown. {error.what} {error.remedy}")
    return ready, problems


def why_not_compared(ready: list[str]) -> str | None:
    """The sentence that stands in place of a comparison, or None where there is one."""
    if len(labels) < 2:
        return f"{labels[model]} is the only model here: there is nothing to compare it with."
    if len(ready) < 2:
        return f"No other model was given the same images and reports as {labels[model]}."
    if pool_size > largest:
        return f"N = {pool_size:,} is larger than the pool. The largest is {largest:,}."
    if k > pool_size:
        return f"The first {k} of N = {pool_size:,} is everything. Choose a larger N or a smaller k."
    if pool_size == 1:
        return "With one report in the pool every model is right. Choose a larger N."
    return None


def compared_headline(row: pd.Series, other: str, difference: float, *, n_pairs: int) -> None:
    out_of = sentences.denominator(pool_size)
    told = forest.told_apart(row)
    before, count, rest = sentences.links_more(difference, out_of, labels[model], labels[other], k=k, told=told)
    low, high = (row["low"], row["high"]) if other == row["model_a"] else (-row["high"], -row["low"])
    said = sentences.difference_interval(low, high, out_of)
    facts = [
        f"at N = {pool_size:,}",
        f"95% interval of the difference {said}",
        f"{forest.p_words(row['p_holm'])}, adjusted for {n_pairs} pair{'' if n_pairs == 1 else 's'}",
        f"n = {row['n_queries']:,} images of {row['n_patients']:,} patients",
        *([f"decoys with {decoys.alike_words(alike)}", left_out(row)] if same else []),
    ]
    page.headline(count, rest, before=before, small=" · ".join(facts), kind=KIND)


def readable_pairs(table: pd.DataFrame, out_of: int) -> pd.DataFrame:
    """The pairs with the words of the page; numbers stay numbers."""
    return pd.DataFrame(
        {
            "first": [labels[name] for name in table["model_b"]],
            "second": [labels[name] for name in table["model_a"]],
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


def decoys_tab() -> None:
    table = pd.DataFrame()
    with page.guarded():
        auc = kept.label_matched_auc(state.cohort(), model, pool)
        if auc["flag"] or not steps:
            few = sentences.upper(sentences.too_few(auc["n"]))
            page.no_number(f"{few}: {auc['n_patients']:,} patients have such a decoy.", kind="le-line le-three")
        else:
            table = kept.of_pools(state.cohort(), model, pool, steps, k)
            if pool_size not in steps and pool_size < steps[-1]:
                table = pd.concat([table, kept.of_pools(state.cohort(), model, pool, [pool_size], k)])
            decoys_headline(auc, table)
    row_of_controls = st.container(horizontal=True, gap="medium", vertical_alignment="bottom")
    with row_of_controls:
        match_more()
        st.space("stretch")
    if table.empty:
        return
    names = {kept.ANY_PATIENT: "any patient", pool: "same findings"}
    rows = charts.with_lift_interval(table.assign(model=table["pool"]))

    def draw(with_colours: palette.Palette) -> go.Figure:
        style = with_colours.styles(labels)[model]
        return charts.curve(
            rows,
            measure="recall",
            k=k,
            pool_size=pool_size,
            styles=dict.fromkeys(names, style),
            labels=names,
            palette=with_colours,
            dashes={pool: SAME_DASH},
        )

    st.plotly_chart(
        draw(colours),
        theme=None,
        config=charts.CONFIG,
        key="decoys",
        alt=f"{labels[model]}, against the number of reports. {page.curve_words(rows, pool_size, names)}",
    )
    tables = {"Curves (CSV)": as_csv(page.filed_as_is(table, state.synthetic()))}
    with page.guarded():
        st.subheader("Are the decoys really alike?")
        entry = kept.entry(state.cohort(), model)
        found = kept.verified(state.cohort(), model, pool, lambda: gallery.texts_to_count_with(entry))
        st.html(decoys.table(found.balance, alike))
        with st.expander("Details: how the decoys were found, and what these words mean", icon=":material/table:"):
            st.markdown(decoys.sizes_words(found.sizes.iloc[0]))
            st.markdown(decoys.WORDS)
            st.dataframe(table.drop(columns=["cohort", "model"]), hide_index=True, height=300)
        tables["Still unequal (CSV)"] = as_csv(page.filed_as_is(found.balance, state.synthetic()))
    with row_of_controls:
        save(
            page.file_name("same-findings", state.cohort(), model, *alike, f"k{k}"),
            tables,
            lambda: draw(palette.LIGHT),
            f"{labels[model]}: any patient's reports, and reports with {decoys.alike_words(alike)}",
            about(table),
        )


def decoys_headline(auc: Mapping, table: pd.DataFrame) -> None:
    before, count, rest = decoys.headline(auc)
    without = auc["n_excluded"] / (auc["n"] + auc["n_excluded"])
    facts = [
        labels[model],
        *([f"decoys with {decoys.alike_words(alike)}"] if alike else []),
        f"95% interval {sentences.interval(auc['low'], auc['high'], 100)}",
        f"n = {auc['n']:,} images of {auc['n_patients']:,} patients",
        f"{sentences.of(without, 100)} images have no such decoy" if without else "every image has such a decoy",
    ]
    here = table[table["pool_size"] == pool_size].set_index("pool")
    if len(here):
        out_of = sentences.denominator(pool_size)
        linked = [sentences.figure(here.loc[name, "recall"], out_of) for name in (pool, kept.ANY_PATIENT)]
        facts.append(
            f"at N = {pool_size:,}: {linked[0]} of {out_of:,} linked among such decoys, {linked[1]} among "
            f"reports of any patients, guessing {sentences.figure(k / pool_size, out_of)}; {left_out(here.iloc[0])}"
        )
    page.headline(count, rest, before=before, small=" · ".join(facts), kind="le-line le-three")


page.guard()
st.title("How does the risk change with the number of reports?")
colours = palette.current()
labels = {name: state.model_label(name) for name in state.models()}
tab = state.get("tab")
same = tab == "decoys" or state.get("decoys") == "same"
steps: list[int] = []
offered: tuple[str, ...] = ()
alike: tuple[str, ...] = ()
pool = kept.ANY_PATIENT

with st.container(horizontal=True, gap="medium", vertical_alignment="top"):
    model = controls.model_control("risk model")
    largest = shown_to = None
    try:
        study = kept.study(state.cohort(), model)
        largest, steps = study.largest_pool, kept.pool_steps(state.cohort(), model)
        slider_steps = steps
        if same:
            offered = kept.strata_offered(state.cohort(), model)
            alike = tuple(name for name in strata.STRATA if name in offered and name in state.get("alike").split(","))
            pool = "+".join([kept.SAME_FINDINGS, *alike])
            steps = []
            largest = kept.study(state.cohort(), model, pool).largest_pool
            steps = kept.pool_steps(state.cohort(), model, pool)
            slider_steps = steps or slider_steps
    except LinkageError:  # said below, where the answer would stand; another model may do
        pass
    if largest is not None:
        controls.pool_slider(slider_steps, f"risk slider {slider_steps[0]} to {slider_steps[-1]}")
        controls.pool_box(largest, "risk box")
    k = controls.choice("k", "Right if in the first (k)", {k: str(k) for k in state.K_CHOICES}, key="risk k")
pool_size = state.get("N")

with controls.tabs("tab", TABS, "risk tabs"):
    {"curve": curve_tab, "compare": compare_tab, "decoys": decoys_tab}[tab]()
page.cannot_tell("whether the pool holds the right report at all; here it always does.")
