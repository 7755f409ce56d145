"""Mitigation where a release is chosen and not a head: the same places on the page, other cards in them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer import charts, downloads, mitigation, page, palette, ranked, releases, sentences, state
from explorer.frontier import COMMAND, key_of
from linkage_core import frontier, lab
from linkage_core.store import OFF_THE_SHELF

N_BARS = 7
WORDS = """
- **Limit**: no attacker passes it, whatever else they know of the candidates. It is an average over records, for one
  release, and holds as long as nothing else computed from the images leaves: one random finding beside each record
  doubles it, all labels, age, dates or text end it. A training epsilon says nothing of it.
- **Measured linkage**: what the attackers tried reach. The limit is above, and a better attacker lies between the two.
  Records are asked as the limit is: one image of each study drawn at random, every other study a candidate, those of
  the same patient too. *Before* is asked as on the other pages, every image among reports of other patients.
- **Tick**: an attacker who knows the clean embedding of every candidate and the mechanism. Nobody can outdo that one.
- **Read from it**: a reader of single records, trained on released records with labels. **Trained on it**: a reader
  trained on the release alone and used on the recipient's own clean embeddings.
- **Public labels, nothing released**: a reader trained on another, public cohort. What a release adds is what it is
  better than that.
"""


def chosen() -> releases.Release | None:
    """The release that is chosen, at the measured setting nearest to the limit asked for; None where none is."""
    found = releases.settings(_known().options, state.get("mechanism"))
    if not found:
        return None
    wanted = state.nearest_limit([one.limit for one in found])
    return next(one for one in found if one.limit == wanted)


def _known() -> state.Options:
    return state.options(state.cohort(), state.model())


def limit_control() -> None:
    """The slider in the place of the one for epsilon; its steps are what was measured."""
    found = releases.settings(_known().options, state.get("mechanism"))
    steps = sorted({one.limit for one in found})
    label = "At most L times better than guessing"
    if len(steps) > 1:
        key = f"mitigation limit {state.get('mechanism')} {len(steps)}"
        state.limit_slider(steps, key, label, releases.LIMIT_HELP)
    else:
        said = "not measured here" if not steps else state.limit_words(steps[0])
        st.html(f'<div class="fr-label">{label}</div><div class="mi-line">{said}</div>')
    st.html('<div class="mi-ends"><span>← tighter</span><span>looser →</span></div>')


def what_is_released() -> None:
    """In the place of the control for what is released: a release is what it is."""
    release = chosen()
    said = "" if release is None else releases.what(release)
    st.html(
        f'<div class="mi-fixed"><div class="fr-label">What is released</div><div class="mi-line">{said}</div></div>'
    )


def draw(tables: state.Lab, pool_size: int, title_place: Any) -> None:
    """Everything below the controls."""
    cohort, model, colours = state.cohort(), state.model(), palette.current()
    release, known = chosen(), _known()
    with title_place, st.popover("Assumptions", icon=":material/tune:"):
        state.model_control("mitigation model")
        st.caption("A release is measured as it was made: its codebook, its secret and its ledger are its own.")
    if release is None:
        page.problem_card(
            "This release was not measured here",
            f"{state.cohort_label(cohort)}, {state.model_label(model)} has no measured release of this kind.",
            "Choose another mechanism, model or cohort. The phantom's releases are measured with its lab:",
            COMMAND,
        )
        return
    out_of = sentences.denominator(pool_size)
    rows = releases.rows_of(known.linkage, release, cohort)
    before = mitigation.line(tables.linkage, OFF_THE_SHELF, "embeddings-and-heads", lab.WORST, cohort)
    before_row = None if release.kind == "statistics" else mitigation.at(before, pool_size)

    left, right = st.columns([0.48, 0.52], gap="small")
    with left, st.container(border=True, key="mi-guarantee", height="stretch"), page.guarded():
        st.html(releases.limit(release, pool_size, out_of, colours))
    with right, st.container(border=True, key="mi-linkage", gap=None, height="stretch"), page.guarded():
        asked = {"pool_size": pool_size, "out_of": out_of, "palette": colours}
        st.html(releases.measured(release, rows, before_row, **asked))

    lines: dict[str, pd.DataFrame] = {}
    names = {"before": "clean embeddings instead" if release.kind == "statistics" else "before"}
    names |= {"worst": "after, worst attacker", "cosine": "after, cosine only"}
    for name, found in (
        ("before", before),
        ("worst", releases.of_attacker(rows, lab.WORST)),
        ("cosine", releases.of_attacker(rows, "cosine")),
    ):
        if len(found):
            lines[name] = found
    names = {name: names[name] for name in mitigation.LINES if name in lines}
    largest = max([int(found["pool_size"].max()) for found in lines.values()], default=pool_size)
    rows_of_use = releases.uses(known.utility, release, cohort)
    bars = rows[(rows["pool_size"] == pool_size) & (rows["attacker"] != lab.WORST)].to_dict("records")
    order = [*mitigation.ATTACKERS, frontier.LABELLED, frontier.OMNISCIENT]
    bars = sorted(bars, key=lambda row: order.index(row["attacker"]) if row["attacker"] in order else len(order))
    bar_names = [releases.who_words(row) for row in bars]
    worst_before = None if before_row is None else float(before_row["recall"])

    def draw_curve(with_colours: palette.Palette) -> go.Figure:
        also = releases.lines(release, rows, largest, with_colours)
        return mitigation.curve(lines, names, pool_size=pool_size, palette=with_colours, also=also)

    def draw_use(with_colours: palette.Palette) -> go.Figure:
        return mitigation.usefulness(rows_of_use, with_colours, (releases.PUBLIC, "star", with_colours.guessing))

    def draw_attackers(with_colours: palette.Palette) -> go.Figure:
        return mitigation.attackers(
            bars,
            bar_names,
            before=worst_before,
            chance=1 / pool_size,
            out_of=out_of,
            pool_size=pool_size,
            slots=N_BARS,
            palette=with_colours,
            why="" if bars else "No attacker was measured at this N.",
            what=("summed patients picked", "draws") if release.kind == "statistics" else ("linked images", "images"),
        )

    with title_place:
        _save(release, rows, (draw_curve, draw_use, draw_attackers), pool_size, out_of)
    left, right = st.columns([0.61, 0.39], gap="medium")
    with left:
        st.subheader("Linkage against pool size")
        also = releases.lines(release, rows, largest, colours)
        st.html(releases.legend(names, also, colours))
        st.plotly_chart(
            draw_curve(colours),
            theme=None,
            config=charts.CONFIG,
            key="mitigation curve",
            alt=mitigation.curve_words(lines, names, pool_size, out_of),
        )
    with right:
        st.subheader("Usefulness")
        st.html(mitigation.use_legend(colours, releases.PUBLIC, ("★", colours.guessing)))
        st.plotly_chart(
            draw_use(colours),
            theme=None,
            config=charts.CONFIG,
            key="mitigation use",
            alt=mitigation.use_words(rows_of_use, "with public labels and nothing released"),
        )
        with st.container(border=True, key="mi-damage"):
            st.html(releases.worth(rows_of_use))

    st.subheader("Does it survive an attacker who adapts?")
    st.plotly_chart(
        draw_attackers(colours),
        theme=None,
        config=charts.CONFIG,
        key="mitigation attackers",
        alt=mitigation.attackers_words(bars, bar_names, worst_before, out_of),
    )
    st.page_link(
        "pages/frontier.py",
        label="Compare it with the others",
        icon=":material/balance:",
        query_params={"option": key_of(release.options[0]), "N": str(pool_size)},
    )
    expander = st.expander(
        "Details: what the limit follows from, every attacker, every figure of use",
        icon=":material/table:",
        key="mitigation release details",
        on_change="rerun",
    )
    if expander.open:
        with expander:
            _details(release, rows, known, pool_size, out_of)


def _save(
    release: releases.Release, rows: pd.DataFrame, draws: tuple[Any, Any, Any], pool_size: int, out_of: int
) -> None:
    cohort, model, synthetic = state.cohort(), state.model(), state.synthetic()
    name = page.file_name("mitigation", cohort, model, release.kind, f"limit{release.limit:g}")
    lift = release.certified
    filed = rows.assign(release=release.title, certified_lift=[lift(int(n)) for n in rows["pool_size"]])
    file = page.filed_as_is(filed, synthetic)
    about = f"{page.provenance(pool_size, int(rows['n_queries'].max()) if len(rows) else 0)} · {release.title}"
    titles = ("Linkage against pool size, limit and measured", "Usefulness before and after", "Attackers who adapt")
    kinds = ("linkage", "usefulness", "attackers")

    def svg(i: int) -> bytes:
        return downloads.svg(draws[i](palette.LIGHT), title=titles[i], subtitle=about)

    page.save(
        ("Linkage (CSV)", f"{name}-linkage.csv", lambda: downloads.csv(file)),
        *((f"{kind.capitalize()} (SVG)", f"{name}-{kind}.svg", lambda i=i: svg(i)) for i, kind in enumerate(kinds)),
    )


def _details(release: releases.Release, rows: pd.DataFrame, known: state.Options, pool_size: int, out_of: int) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**What the limit follows from**")
        st.html(f"<style>{ranked.STYLE}</style>{ranked.facts(releases.facts(release, lab.POOL_SIZES))}")
    with right:
        st.markdown("**Every attacker**")
        st.dataframe(releases.attacker_rows(rows, out_of, pool_size), hide_index=True)
    st.markdown("**Every figure of use**")
    st.dataframe(releases.use_rows(known.utility, release, state.cohort()), hide_index=True)
    st.markdown(WORDS)
