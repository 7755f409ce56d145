"""Mitigation where a release is chosen and not a head: the same places on the page, other cards in them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.drawing import downloads, palette
from explorer.drawing import words as protect_words
from explorer.drawing.glossary import linked_html
from explorer.examples import ranked
from explorer.frame import controls, kept, page, state
from explorer.protect import before_after, curve, releases
from explorer.protect.bars import attackers, attackers_words
from explorer.protect.before_after import N_BARS, Picture, Pictures
from explorer.protect.options import commands, key_of
from explorer.protect.uses import Use, use_legend, use_words, usefulness
from linkage_core import sentences
from linkage_core.lab import frontier
from linkage_core.lab.measured import POOL_SIZES, WORST
from linkage_core.store.entry import OFF_THE_SHELF

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
    measured = releases.settings(_known().options, state.get("mechanism"))
    if not measured:
        return None
    wanted = controls.nearest_limit([release.limit for release in measured])
    return next(release for release in measured if release.limit == wanted)


def _known() -> kept.Options:
    return kept.options(state.cohort(), state.model())


def limit_control() -> None:
    """The slider in the place of the one for epsilon; its steps are what was measured."""
    measured = releases.settings(_known().options, state.get("mechanism"))
    steps = sorted({release.limit for release in measured})
    label = "At most L × guessing"
    if len(steps) > 1:
        key = f"mitigation limit {state.get('mechanism')} {len(steps)}"
        controls.limit_slider(steps, key, label, releases.LIMIT_HELP)
    else:
        words = "not measured here" if not steps else controls.limit_words(steps[0])
        st.html(f'<div class="fr-label">{label}</div><div class="mi-line">{words}</div>')
    st.html('<div class="mi-ends"><span>← tighter</span><span>looser →</span></div>')


def what_is_released() -> None:
    """In the place of the control for what is released: a release is what it is."""
    release = chosen()
    words = "" if release is None else releases.what(release)
    st.html(
        f'<div class="mi-fixed"><div class="fr-label">What is released</div><div class="mi-line">{words}</div></div>'
    )


@dataclass(frozen=True)
class AtRelease:
    """One release at one N: what attackers reach on it, and before, on clean embeddings; rows by N.

    lines, names: those that are drawn against N, and what each is called. bars, bar_names: the attackers at this N.
    """

    release: releases.Release
    known: kept.Options
    cohort: str
    pool_size: int
    rows: pd.DataFrame
    before_row: pd.Series | None
    lines: dict[str, pd.DataFrame]
    names: dict[str, str]
    uses: list[Use]
    bars: list[dict[Hashable, Any]]
    bar_names: list[str]

    @property
    def out_of(self) -> int:
        """How many images a rate is said of."""
        return sentences.denominator(self.pool_size)

    def also(self, colours: palette.Palette) -> list[curve.Line]:
        """Further lines against N: the limit, and who knows everything."""
        largest = max([int(rows["pool_size"].max()) for rows in self.lines.values()], default=self.pool_size)
        return releases.lines(self.release, self.rows, largest, colours)


def at_release(
    release: releases.Release, known: kept.Options, linkage: pd.DataFrame, cohort: str, pool_size: int
) -> AtRelease:
    """Everything that is known of one release at one N. linkage: of heads, for clean embeddings before.

    Statistics have no before: clean embeddings would be released in their place, not before them.
    """
    summed = release.summed
    rows = releases.rows_of(known.linkage, release, cohort)
    before = protect_words.line(linkage, OFF_THE_SHELF, "embeddings-and-heads", WORST, cohort)
    lines = {
        "before": before,
        "worst": releases.of_attacker(rows, WORST),
        "cosine": releases.of_attacker(rows, "cosine"),
    }
    lines = {name: line for name, line in lines.items() if len(line)}
    names = {
        "before": "clean embeddings instead" if summed else "before",
        "worst": "after, worst attacker",
        "cosine": "after, cosine only",
    }
    order = [*protect_words.attackers(), frontier.LABELLED, frontier.OMNISCIENT]
    bars = rows[(rows["pool_size"] == pool_size) & (rows["attacker"] != WORST)].to_dict("records")
    bars.sort(key=lambda row: order.index(row["attacker"]) if row["attacker"] in order else len(order))
    return AtRelease(
        release=release,
        known=known,
        cohort=cohort,
        pool_size=pool_size,
        rows=rows,
        before_row=None if summed else protect_words.at(before, pool_size),
        lines=lines,
        names={name: names[name] for name in curve.LINES if name in lines},
        uses=releases.uses(known.utility, release, cohort),
        bars=bars,
        bar_names=[releases.who_words(row) for row in bars],
    )


def draw(tables: kept.Lab, pool_size: int, title_place: DeltaGenerator) -> None:
    """Everything below the controls."""
    colours, release = palette.current(), chosen()
    with title_place, st.popover("Assumptions", icon=":material/tune:"):
        st.caption("A release is measured as it was made: its codebook, its secret and its ledger are its own.")
    if release is None:
        page.problem_card(
            "This release was not measured here",
            f"{state.cohort_label(state.cohort())}, {state.model_label(state.model())} has no measured release of "
            "this kind.",
            "Choose another mechanism, model or cohort, or have releases measured, for which labels are needed:",
            commands(kept.entry(state.cohort(), state.model())),
        )
        return
    at = at_release(release, _known(), tables.linkage, state.cohort(), pool_size)
    before_after.cards(
        lambda: st.html(linked_html(releases.limit(release, pool_size, at.out_of, colours))),
        lambda: st.html(
            linked_html(
                releases.measured(
                    release, at.rows, at.before_row, pool_size=pool_size, out_of=at.out_of, palette=colours
                )
            )
        ),
    )
    pictures = pictures_of(at, colours)
    with title_place:
        _save(at, pictures)
    before_after.draw(pictures, colours)
    st.page_link(
        "pages/frontier.py",
        label="Compare it with the others",
        icon=":material/balance:",
        query_params={"option": key_of(release.options[0]), "N": str(pool_size)},
    )
    before_after.details(
        "Details: what the limit follows from, every attacker, every figure of use",
        "mitigation release details",
        lambda: _details(at),
    )


def pictures_of(at: AtRelease, colours: palette.Palette) -> Pictures:
    """The three pictures, their legends and the note under usefulness."""
    worst_before = None if at.before_row is None else float(at.before_row["recall"])

    def draw_curve(with_colours: palette.Palette) -> go.Figure:
        also = at.also(with_colours)
        return curve.curve(at.lines, at.names, pool_size=at.pool_size, palette=with_colours, also=also)

    def draw_use(with_colours: palette.Palette) -> go.Figure:
        return usefulness(at.uses, with_colours, (releases.PUBLIC, "star", with_colours.guessing))

    def draw_attackers(with_colours: palette.Palette) -> go.Figure:
        summed = at.release.summed
        return attackers(
            at.bars,
            at.bar_names,
            before=worst_before,
            chance=1 / at.pool_size,
            out_of=at.out_of,
            pool_size=at.pool_size,
            slots=N_BARS,
            palette=with_colours,
            why="" if at.bars else "No attacker was measured at this N.",
            what=("summed patients picked", "draws") if summed else ("linked images", "images"),
        )

    return Pictures(
        curve=Picture(
            draw_curve,
            curve.curve_words(at.lines, at.names, at.pool_size, at.out_of),
            "Linkage against pool size, limit and measured",
        ),
        curve_legend=releases.legend(at.names, at.also(colours), colours),
        use=Picture(
            draw_use,
            use_words(at.uses, "with public labels and nothing released"),
            "Usefulness before and after",
        ),
        use_legend=use_legend(colours, releases.PUBLIC, ("★", colours.guessing)),
        note=releases.worth(at.uses),
        attackers=Picture(
            draw_attackers,
            attackers_words(at.bars, at.bar_names, worst_before, at.out_of),
            "Attackers who adapt",
        ),
    )


def _save(at: AtRelease, pictures: Pictures) -> None:
    release, rows = at.release, at.rows
    name = page.file_name("mitigation", at.cohort, state.model(), release.kind, f"limit{release.limit:g}")
    certified = [release.certified(int(n)) for n in rows["pool_size"]]
    file = page.filed_as_is(rows.assign(release=release.title, certified_lift=certified), state.synthetic())
    n_images = int(rows["n_queries"].max()) if len(rows) else 0
    page.save(
        ("Linkage (CSV)", f"{name}-linkage.csv", lambda: downloads.csv(file)),
        *before_after.files(pictures, name, f"{page.provenance(at.pool_size, n_images)} · {release.title}"),
    )


def _details(at: AtRelease) -> None:
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**What the limit follows from**")
        st.html(f"<style>{ranked.STYLE}</style>{ranked.facts(releases.facts(at.release, POOL_SIZES))}")
    with right:
        st.markdown("**Every attacker**")
        st.dataframe(releases.attacker_rows(at.rows, at.out_of, at.pool_size), hide_index=True)
    st.markdown("**Every figure of use**")
    st.dataframe(releases.use_rows(at.known.utility, at.release, at.cohort), hide_index=True)
    st.markdown(WORDS)
