"""Mitigation where a head is chosen: its controls, two cards, pictures, what can be run, and details."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.drawing import charts, downloads, palette
from explorer.drawing.glossary import linked_html
from explorer.drawing.verbatim import verbatim
from explorer.drawing.words import RELEASES, mechanisms
from explorer.examples import ranked
from explorer.frame import controls as frame_controls
from explorer.frame import held, kept, page, state
from explorer.protect import bars, before_after, cards, curve, fill, jobs, one_head, release_page, releases, uses
from explorer.protect.before_after import N_BARS, Picture, Pictures
from explorer.protect.details import ceiling_words, control_rows, external_words, finding_rows, game_rows, trade_off
from explorer.protect.one_head import AtSetting, OnDemand
from linkage_core.attacks.asked import GAMES
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.errors import LinkageError
from linkage_core.lab import measured
from linkage_core.mitigation import accounting
from linkage_core.mitigation.mechanisms import MECHANISMS

DELTAS = {
    "": "default",
    "1e-8": "1e-8",
    "1e-7": "1e-7",
    "1e-6": "1e-6",
    "6e-6": "6e-6, the study's",
    "1e-5": "1e-5",
    "1e-4": "1e-4",
}
DETAILS = """
- **Worst attacker**: of all who hold no more than the release, the one who links most in pools of a hundred, where hits
  are many; the same one at every N. At a larger N another may lie above it: *Every attacker* has them all.
- **Cosine only** compares the released embeddings as they are. It adapts nothing, so alone it understates.
- **Noise only**: the same mechanism with its gradient or moment set to zero, the same noise. It has learnt nothing.
- **AUROC**: of two images, one with a finding and one without, how often the first gets the higher score. Probe: a
  logistic regression on the embeddings, trained on other patients. Zero-shot: prompts that state or deny a finding.
- **Guarantee** and **measured linkage** are two numbers. The first is about patients whose pairs trained the heads and
  holds for every attacker; the second is about other patients and the attackers listed.
"""


# -- what is chosen --------------------------------------------------------------------------------------------------


def controls(sizes: Sequence[int]) -> int:
    """The row of controls, of heads and releases. Returns N, one of `sizes`; everything else is in the state."""
    with st.container(horizontal=True, gap="small", vertical_alignment="top", key="mi-controls"):
        with st.container(width=128):
            frame_controls.model_box("mitigation model")
        with st.container(width=180):
            frame_controls.choice(
                "mechanism",
                "Mechanism",
                offered(),
                key="mitigation mechanism",
                help="What is done to the heads, the last layer of each tower; or what is released in place of "
                "embeddings.",
            )
        if state.releases():
            with st.container(width=206, gap=None):
                release_page.limit_control()
            release_page.what_is_released()
        else:
            with st.container(width=160, gap=None):
                _epsilon_control()
            frame_controls.choice(
                "release",
                "What is released",
                RELEASES,
                key="mitigation release",
                help="What an attacker holds: embeddings alone, embeddings and both heads, or the images themselves.",
            )
        with st.container(width="content"):
            return frame_controls.pool_buttons(sizes, "mitigation N", "Pool size (N)")


def offered() -> dict[str, str]:
    """Heads and releases by name; those that the chosen cohort lacks the labels for say so."""
    needing = {row.name for row in MECHANISMS.values() if row.labels}
    lacking = set() if state.labelled() else needing
    heads = {name: f"{label} (needs labels)" if name in lacking else label for name, label in mechanisms().items()}
    return heads | releases.MECHANISMS


def _epsilon_control() -> None:
    one_shot = state.setting().one_shot
    frame_controls.epsilon_slider(
        measured.STEPS if one_shot else measured.EPSILONS,
        f"mitigation epsilon {'one-shot' if one_shot else 'trained'}",
        "Privacy budget ε (log)",
        "Smaller: more noise, and less can be told of the patients who trained the heads.",
    )
    st.html('<div class="mi-ends"><span>← more noise</span><span>less noise →</span></div>')


def assumptions(at: AtSetting) -> None:
    """Findings, unit, delta, seed and any epsilon: what is rarely changed."""
    with st.popover("Assumptions", icon=":material/tune:"):
        if at.chosen.learns_findings:
            _findings_control(at)
        with st.container(horizontal=True, gap="medium"):
            frame_controls.choice("unit", "Unit", {"patient": "Patient", "pair": "Pair"}, key="mitigation unit")
            frame_controls.choice("delta", "δ", DELTAS, key="mitigation delta")
        with st.container(horizontal=True, gap="medium"):
            frame_controls.epsilon_box("mitigation any epsilon", "or any ε")
            if at.entry.synthetic:
                frame_controls.seed_box(
                    "mitigation seed", "Seed of the noise", "A run that can be repeated is not private."
                )
        st.caption(verbatim(one_head.delta_note(at)))


def _findings_control(at: AtSetting) -> None:
    """Any of the 14; and one press for those of a stored head that declares some only."""
    frame_controls.several(
        "findings",
        "Declared findings (none chosen: all 14)",
        {name: name for name in LABELS},
        "mitigation findings",
        help="The findings a label head is trained to keep. The others are lost.",
    )
    some = sorted({text for text in at.tables.heads["findings"] if text.count(", ") < len(LABELS) - 1 and text})
    for text in some[:1]:
        st.button(
            f"The {text.count(', ') + 1} that were measured",
            on_click=state.put,
            args=("findings", text.replace(", ", ",")),
            key="mitigation measured findings",
        )


# -- what is known ---------------------------------------------------------------------------------------------------


def on_demand(cohort: str, model: str) -> OnDemand:
    """What is computed for the page, and kept."""
    return OnDemand(
        head_curve=lambda head: kept.head_curve(cohort, model, head),
        live_curve=lambda chosen, signal: kept.live_curve(cohort, model, chosen, signal=signal),
        run=lambda chosen: kept.live(cohort, model, chosen).run,
    )


def draw(at: AtSetting, title_place: DeltaGenerator, said: LinkageError | None = None) -> None:
    """Everything below the controls. said: the problem that stands above already."""
    colours, promise = palette.current(), at.guarantee
    with title_place:
        assumptions(at)
    if said is not None and str(at.run) == str(said):
        promise = cards.Guarantee(None, "No head can be made here yet: why, and what helps, is said above.")
    before_after.cards(
        lambda: st.html(linked_html(cards.guarantee(promise, colours))), lambda: linkage(at, colours, said)
    )
    pictures = pictures_of(at, colours)
    with title_place:
        save(at, pictures)
    before_after.draw(pictures, colours, lambda: hold(at))
    st.page_link(
        "pages/examples.py",
        label="See it on single images",
        icon=":material/radiology:",
        query_params={"second": state.MITIGATED},
    )
    before_after.details(
        "Details: how the guarantee is computed, every attacker, every finding, controls, another cohort",
        "mitigation details",
        lambda: details(at, colours),
    )


def linkage(at: AtSetting, colours: palette.Palette, said: LinkageError | None) -> None:
    """Card 2, and under it what can be run."""
    st.html(
        linked_html(
            cards.measured(
                at.before_row,
                at.after_row,
                release=at.release,
                pool_size=at.pool_size,
                out_of=at.out_of,
                n_own=at.n_own,
                palette=colours,
                cosine=at.cosine_row,
                cosine_before=at.cosine_before_row,
                whose=at.whose,
                unmeasured=at.unmeasured,
                nearest="" if at.before_row is not None and at.after_row is not None else at.nearest_words,
                held=None if at.held is None or at.held.after_row is None else ("A, held", at.held.after_row),
            )
        )
    )
    action(at, said)


def hold(at: AtSetting) -> None:
    """Keeps what is on screen to compare with, or lets it go."""
    if at.held is None:
        st.button(
            "Hold this setting",
            icon=":material/push_pin:",
            type="tertiary",
            on_click=state.put,
            args=("held", held.text_of(at.chosen)),
            key="mitigation hold",
            help="It stays in the picture as A, and what you choose next is drawn beside it as B.",
        )
    else:
        st.button(
            f"Let go of A ({verbatim(at.held.short)})",
            icon=":material/close:",
            type="tertiary",
            on_click=state.put,
            args=("held", ""),
            key="mitigation let go",
        )


def pictures_of(at: AtSetting, colours: palette.Palette) -> Pictures:
    """The three pictures, their legends and the note under usefulness."""
    worst_before = None if at.before_row is None else float(at.before_row["recall"])
    measured_own = any(row["head"] == at.head and row["release"] != "raw-images" for row in at.bars)

    def draw_curve(with_colours: palette.Palette) -> go.Figure:
        return curve.curve(at.lines, at.names, pool_size=at.pool_size, palette=with_colours, ends=at.ends)

    def draw_use(with_colours: palette.Palette) -> go.Figure:
        return uses.usefulness(at.uses, with_colours)

    def draw_attackers(with_colours: palette.Palette) -> go.Figure:
        return bars.attackers(
            at.bars,
            at.bar_names,
            before=worst_before,
            chance=1 / at.pool_size,
            out_of=at.out_of,
            pool_size=at.pool_size,
            slots=N_BARS,
            palette=with_colours,
            why="" if measured_own else "The attackers who adapt are not measured at this setting.",
        )

    note = cards.damage(
        at.cosine_row,
        at.noise_row,
        out_of=at.out_of,
        palette=colours,
        uses=at.uses[:2],
        why=at.why_no_control,
        noise_name=at.control.name,
        worst=at.worst_pair,
    )
    return Pictures(
        curve=Picture(
            draw_curve,
            curve.curve_words(at.lines, at.names, at.pool_size, at.out_of),
            "Linkage against pool size, before and after",
        ),
        curve_legend=curve.legend(at.names, colours),
        use=Picture(draw_use, uses.use_words(at.uses), "Usefulness before and after"),
        use_legend=uses.use_legend(colours, at.control.name),
        note=note,
        attackers=Picture(
            draw_attackers,
            bars.attackers_words(at.bars, at.bar_names, worst_before, at.out_of),
            "Attackers who adapt",
        ),
        no_attackers="" if at.bars else "The attackers are not measured at this setting.",
    )


def save(at: AtSetting, pictures: Pictures) -> None:
    chosen = at.chosen
    name = page.file_name(
        "mitigation", at.entry.cohort, at.entry.model, chosen.mechanism, f"eps{chosen.epsilon:g}", at.release
    )
    table = one_head.filed(at)
    everyone = page.filed_as_is(one_head.attackers(at), at.entry.synthetic)
    about = f"{page.provenance(at.pool_size, at.n_images)} · {at.title}"
    page.save(
        ("Linkage (CSV)", f"{name}-linkage.csv", lambda: downloads.csv(table)),
        ("Attackers (CSV)", f"{name}-attackers.csv", lambda: downloads.csv(everyone)),
        *before_after.files(pictures, name, about),
    )


# -- what can be run -------------------------------------------------------------------------------------------------


def action(at: AtSetting, said: LinkageError | None = None) -> None:
    """What can be run at this setting: training, or the attackers; its progress, its cancelling and how it ended. Why
    nothing can be is not said twice."""
    key = (str(kept.store_root()), at.entry.cohort, at.entry.model, at.chosen)
    job = jobs.of(key)
    if job is not None and job.running:
        with st.container(key="mi-action"):
            watch(key)
        return
    step = one_head.next_step(at)
    if step is None:
        return
    if step.problem is not None and str(step.problem) == str(said):
        return
    if step.problem is not None:
        with st.container(horizontal=True, gap="small"):
            words = page.marked(f"{step.problem.what} {step.problem.remedy}")
            st.html(f'<p class="mi-small mi-alert" role="alert">{words}</p>')
        return
    ended = ""
    if job is not None and (job.error or job.cancelled):
        ended = " ".join(job.error) if job.error else "Cancelled: nothing was kept."
    before = fill.in_line()
    row = st.container(
        horizontal=True, gap="small", vertical_alignment="center", key="mi-ended" if ended else "mi-action"
    )
    with row:
        if ended:
            st.html(f'<p class="mi-small mi-alert" role="status">{page.marked(ended)}</p>', width="stretch")
        if st.button(step.label, icon=":material/play_arrow:", key="mitigation run"):
            start(key, at, step)
            st.rerun()
        if before:
            st.caption(before)


def start(key: tuple[object, ...], at: AtSetting, step: one_head.Step) -> None:
    """Starts the run, on an entry of its own: the page's is kept for every page and may change under it."""
    store, cohort, model, chosen = kept.store(), at.entry.cohort, at.entry.model, at.chosen
    jobs.start(key, step.title, lambda progress: step.work(store.open(cohort, model), chosen, progress))


@st.fragment(run_every=1.0)
def watch(key: tuple[object, ...]) -> None:
    """Progress of a run, looked at every second without drawing the page again."""
    job = jobs.of(key)
    if job is None or not job.running:
        st.rerun()
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.progress(job.share, text=verbatim(job.words()))
        st.button("Cancel", icon=":material/stop:", on_click=job.cancel, disabled=job.stopping, key="mitigation cancel")


# -- details ---------------------------------------------------------------------------------------------------------


def details(at: AtSetting, colours: palette.Palette) -> None:
    """Behind the expander, made only when it is open."""
    left, right = st.columns(2, gap="large")
    with left, page.guarded():
        st.markdown("**How the guarantee is computed**")
        st.html(f"<style>{ranked.STYLE}</style>{ranked.facts(one_head.run_facts(at, other_accountants))}")
    with right, page.guarded():
        run = one_head.private_run(at)
        if run is not None:
            fpr = np.linspace(0, 1, 101)
            figure = trade_off(fpr, run.trade_off(fpr), colours)
            st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="trade-off", alt="The trade-off curve.")
    with page.guarded():
        _tables(at)
    st.markdown(DETAILS)


def _tables(at: AtSetting) -> None:
    """Other cohorts, other runs, every attacker, every finding, controls."""
    tables, cohort, head = at.tables, at.entry.cohort, at.head or ""
    elsewhere = external_words(tables.linkage, tables.utility, head, at.release, at.pool_size, cohort)
    st.markdown("**Another cohort, the same heads, nothing trained again**")
    for other, words in elsewhere:
        st.html(f"<p>{escape(state.cohort_label(other))}: {escape(words)}.</p>")
    if not elsewhere:
        st.caption("Not measured at this setting.")
    spread = one_head.spread_words(at)
    if spread:
        st.caption(f"Worst attacker: {verbatim(spread)}.")
    st.markdown("**Every attacker**")
    st.dataframe(one_head.attackers(at), hide_index=True, height=260)
    st.caption(ceiling_words(at.out_of))
    _games(at)
    st.markdown("**Every finding**")
    st.dataframe(finding_rows(tables.utility, head, cohort), hide_index=True, height=260)
    st.caption(f"Labels: {verbatim(labels_line(at.entry.labels_note()))}.")
    st.markdown("**Controls: what hides, damages or narrows without a guarantee**")
    st.dataframe(
        control_rows(tables.heads, tables.linkage, tables.utility, cohort, at.release, at.pool_size, at.out_of),
        hide_index=True,
    )


def _games(at: AtSetting) -> None:
    """A single image, or a whole archive matched one to one; and who also knows sex and age."""
    st.markdown("**The game, and what else is known of the candidates**")
    rows = at.tables.games
    if rows[rows["head"] == (at.head or "")].empty:
        target = f"{at.entry.cohort}/{at.entry.model}{f' --head {at.head}' if at.head else ''}"
        st.caption("Not measured at this setting:")
        st.code(f"linkage attack {target} --game archive --knows sex-age", language=None)
        return
    names = {"image": "A single image", "archive": "A whole archive"}
    game = st.segmented_control(
        "Game", list(names), default="image", format_func=lambda one: names[one], key="mitigation game"
    )
    game = game or "image"
    st.caption(f"{GAMES[game].capitalize()}. Embeddings and heads are held; the worst attacker is that of above.")
    st.dataframe(game_rows(rows, at.head or "", game, at.out_of), hide_index=True, height=260)


@st.cache_data(show_spinner=False)
def other_accountants(run: accounting.Run) -> accounting.Epsilons:
    return run.epsilons
