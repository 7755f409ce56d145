"""What does a mitigation buy, and what does it cost? Guarantee, measured linkage and usefulness of one mitigation."""

import math
from collections.abc import Callable
from dataclasses import replace
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from explorer import charts, downloads, jobs, mitigation, page, palette, release_page, releases, sentences, state
from linkage_core import lab, shipped
from linkage_core import setting as settings
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, LinkageError
from linkage_core.mitigation import accounting
from linkage_core.store import OFF_THE_SHELF, Store

N_BARS = 7
DELTAS = {
    "": "default",
    "1e-8": "1e-8",
    "1e-7": "1e-7",
    "1e-6": "1e-6",
    "6e-6": "6e-6, the study's",
    "1e-5": "1e-5",
} | {"1e-4": "1e-4"}
DETAILS = """
- **Worst attacker**: of all who hold no more than the release, the one who links most. The patients are split in two
  halves; the best of each half is scored on the other, so the choice does not flatter the figure.
- **Cosine only** compares the released embeddings as they are. It adapts nothing, so alone it understates.
- **Noise only**: the same mechanism with its gradient or moment set to zero, the same noise. It has learnt nothing.
- **AUROC**: of two images, one with a finding and one without, how often the first gets the higher score. Probe: a
  logistic regression on the embeddings, trained on other patients. Zero-shot: prompts that state or deny a finding.
- **Guarantee** and **measured linkage** are two numbers. The first is about patients whose pairs trained the heads and
  holds for every attacker; the second is about other patients and the attackers listed.
"""


def read(rows: Callable[[], pd.DataFrame]) -> pd.DataFrame | None:
    """Rows that may have to be made first; None, and the reason kept, where they cannot be."""
    try:
        return rows()
    except LinkageError as error:
        st.session_state["mitigation problem"] = (error.what, error.remedy)
        return None


def controls() -> int:
    """The row of controls. Returns N; everything else is in the state."""
    with st.container(horizontal=True, gap="small", vertical_alignment="top"):
        with st.container(width=206):
            state.choice(
                "mechanism",
                "Mechanism",
                mitigation.MECHANISMS | releases.MECHANISMS,
                key="mitigation mechanism",
                help="What is done to the heads, the last layer of each tower; or what is released in place of "
                "embeddings.",
            )
        if state.releases():
            with st.container(width=290, gap=None):
                release_page.limit_control()
            release_page.what_is_released()
            with st.container(width=150):
                return state.pool_buttons(sizes, "mitigation N", "Pool size (N)")
        with st.container(width=206, gap=None):
            one_shot = state.setting().one_shot
            state.epsilon_slider(
                lab.STEPS if one_shot else lab.EPSILONS,
                f"mitigation epsilon {'one-shot' if one_shot else 'trained'}",
                "Privacy budget ε (log scale)",
                "Smaller: more noise, and less can be told of the patients who trained the heads.",
            )
            st.html('<div class="mi-ends"><span>← more noise</span><span>less noise →</span></div>')
        state.choice(
            "release",
            "What is released",
            mitigation.RELEASES,
            key="mitigation release",
            help="What an attacker holds: embeddings alone, embeddings and both heads, or the images themselves.",
        )
        with st.container(width=150):
            return state.pool_buttons(sizes, "mitigation N", "Pool size (N)")


def assumptions() -> None:
    """Model, findings, unit, delta, seed and any epsilon: what is rarely changed."""
    with st.popover("Assumptions", icon=":material/tune:"):
        state.model_control("mitigation model")
        if chosen.learns_findings:
            state.several(
                "findings",
                "Declared findings (none chosen: all 14)",
                {name: name for name in LABELS},
                "mitigation findings",
                help="The findings a label head is trained to keep. The others are lost.",
            )
            listed = sorted({text for text in tables.heads["findings"] if text.count(", ") < len(LABELS) - 1 and text})
            for text in listed[:1]:
                st.button(
                    f"The {text.count(', ') + 1} that were measured",
                    on_click=state.put,
                    args=("findings", text.replace(", ", ",")),
                    key="mitigation measured findings",
                )
        with st.container(horizontal=True, gap="medium"):
            state.choice("unit", "Unit", {"patient": "Patient", "pair": "Pair"}, key="mitigation unit")
            state.choice("delta", "δ", DELTAS, key="mitigation delta")
        with st.container(horizontal=True, gap="medium"):
            state.epsilon_box("mitigation any epsilon", "or any ε")
            if synthetic:
                state.seed_box("mitigation seed", "Seed of the noise", "A run that can be repeated is not private.")
        st.caption(delta_note())


def delta_note() -> str:
    try:
        if head is not None:
            return str(entry.head_record(head).get("delta_note") or "No delta: nothing is claimed.")
        if chosen.one_shot:
            return accounting.delta_for(settings.sums(entry, chosen).n_units, chosen.delta)[1]
    except LinkageError as error:
        return str(error)
    return "Delta follows from the number of patients when the head is trained."


def guaranteed() -> mitigation.Guarantee:
    """Card 1 in figures."""
    if head is not None:
        row = tables.heads.set_index("head").loc[head]
        if math.isnan(row["accuracy"]):
            return mitigation.Guarantee(None, mitigation.why_none(chosen, str(row["claim"])))
        facts = mitigation.guarantee_facts(row["epsilon"], row["delta"], row["unit"])
        return mitigation.Guarantee(float(row["accuracy"]), "", facts, bool(row["reproducible"]))
    if chosen.mechanism == "paper" or math.isinf(chosen.epsilon):
        return mitigation.Guarantee(None, mitigation.why_none(chosen))
    if not chosen.one_shot:
        return mitigation.Guarantee(None, "No head has been trained at this setting yet.")
    try:
        run = state.live(cohort, model, chosen).run
    except LinkageError as error:
        return mitigation.Guarantee(None, f"{error.what} {error.remedy}")
    facts = mitigation.guarantee_facts(chosen.epsilon, run.delta, run.unit)
    return mitigation.Guarantee(run.accuracy, "", facts, illustration=True)


def action() -> None:
    """What can be run at this setting: training, or the attackers; its progress, its cancelling and how it ended."""
    key = (str(state.store_root()), cohort, model, chosen)
    job = jobs.of(key)
    if job is not None and job.running:
        with st.container(key="mi-action"):
            watch(key)
        return
    ended = ""
    if job is not None and (job.error or job.cancelled):
        ended = " ".join(job.error) if job.error else "Cancelled: nothing was kept."
    release = state.get("release")
    if release == "raw-images" and before_row is not None:
        return
    elsewhere = jobs.running()
    if head is None and not chosen.one_shot:
        problem, label = settings.why_no_pairs(entry), "Train at this epsilon"
        if chosen.learns_findings and settings.without_labels(entry):
            problem = InputError("No record has any of the 14 labels, so no label head can be trained.", "")
        work, title = settings.train, "training"
    elif after_row is None or before_row is None:
        problem, label = settings.why_not_measured(entry), "Run the attackers"
        if head is None and cosine is None:
            what, remedy = st.session_state.get("mitigation problem", ("There is no head.", ""))
            problem = InputError(what, remedy)
        work, title = settings.measure, "attackers"
    else:
        return
    problem = problem or shipped.why_not_written(entry.path)
    if problem is not None:
        with st.container(horizontal=True, gap="small"):
            said = page.marked(f"{problem.what} {problem.remedy}")
            st.html(f'<p class="mi-small mi-alert" role="alert">{said}</p>')
        return
    row = st.container(
        horizontal=True, gap="small", vertical_alignment="center", key="mi-ended" if ended else "mi-action"
    )
    with row:
        if ended:
            st.html(f'<p class="mi-small mi-alert" role="status">{escape(ended)}</p>', width="stretch")
        if st.button(label, icon=":material/play_arrow:", disabled=elsewhere is not None, key="mitigation run"):
            root, wanted = state.store_root(), chosen

            def run(progress: jobs.Progress) -> None:
                work(Store(root).open(key[1], key[2]), wanted, progress)

            jobs.start(key, title, run)
            st.rerun()
        if elsewhere is not None:
            st.caption(f"Another run is going on ({elsewhere.title}).")


@st.fragment(run_every=1.0)
def watch(key: tuple) -> None:
    """Progress of a run, looked at every second without drawing the page again."""
    job = jobs.of(key)
    if job is None or not job.running:
        st.rerun()
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        words = "stopping …" if job.stopping else (job.stage.split(": ")[-1] or job.title)
        st.progress(job.share, text=f"{words} · {job.done:,} of {job.total:,}" if job.total else words)
        st.button("Cancel", icon=":material/stop:", on_click=job.cancel, disabled=job.stopping, key="mitigation cancel")


def uses() -> list[mitigation.Use]:
    """The three rows of usefulness."""
    found = mitigation.measures(tables.utility, head or "", cohort)
    by_noise = mitigation.measures(tables.utility, noise_head or "", cohort)
    not_yet = "no labels in this cohort" if no_labels else "not measured at this setting"
    listed = "Declared findings" if chosen.learns_findings else "All findings"
    rows = [
        mitigation.use_of(listed, found.get("declared"), by_noise.get("declared"), not_yet),
        mitigation.use_of(
            "Zero-shot",
            found.get("zero-shot"),
            by_noise.get("zero-shot"),
            "the text tower is not here" if found else not_yet,
        ),
    ]
    undeclared, name, why = found.get("undeclared"), "Undeclared", not_yet
    if undeclared is None and chosen.learns_findings and chosen.findings == LABELS:
        twin = settings.fewer(tables.heads, chosen)
        why = "all 14 are declared here"
        if twin is not None:
            undeclared = mitigation.measures(tables.utility, twin[0], cohort).get("undeclared")
            name = f"Undeclared, if {twin[1]} are" if undeclared is not None else name
    elif not chosen.learns_findings:
        why = "this mechanism declares none"
    return [*rows, mitigation.use_of(name, undeclared, by_noise.get("undeclared"), why)]


def why_no_control() -> str:
    """Why there is nothing to compare with noise alone."""
    if cosine_row is None:
        return "There is no head at this setting yet."
    return "No noise-only control is stored for this mechanism."


def details() -> None:
    """Behind the expander, made only when it is open."""
    left, right = st.columns(2, gap="large")
    with left, page.guarded():
        st.markdown("**How the guarantee is computed**")
        st.html(facts_of_run())
    with right, page.guarded():
        run = run_of()
        if run is not None:
            fpr = np.linspace(0, 1, 101)
            figure = mitigation.trade_off(fpr, run.trade_off(fpr), colours)
            st.plotly_chart(figure, theme=None, config=charts.CONFIG, key="trade-off", alt="The trade-off curve.")
    with page.guarded():
        elsewhere = mitigation.external_words(tables.linkage, tables.utility, head or "", release, pool_size, cohort)
        st.markdown("**Another cohort, the same heads, nothing trained again**")
        for other, said in elsewhere:
            st.html(f"<p>{escape(state.cohort_label(other))}: {escape(said)}.</p>")
        if not elsewhere:
            st.caption("Not measured at this setting.")
        runs = [
            mitigation.at(mitigation.line(tables.linkage, name, release, lab.WORST, cohort), pool_size)
            for name in settings.seeds_of(tables.heads, chosen)
        ]
        said = mitigation.spread_of_runs([row for row in runs if row is not None], out_of)
        if said:
            st.caption(f"Worst attacker: {said}.")
        st.markdown("**Every attacker**")
        st.dataframe(
            mitigation.attacker_rows(tables.linkage, head or "", release, pool_size, out_of),
            hide_index=True,
            height=260,
        )
        st.caption(mitigation.ceiling_words(out_of))
        st.markdown("**Every finding**")
        st.dataframe(mitigation.finding_rows(tables.utility, head or "", cohort), hide_index=True, height=260)
        st.markdown("**Controls: what hides, damages or narrows without a guarantee**")
        st.dataframe(
            mitigation.control_rows(tables.heads, tables.linkage, tables.utility, cohort, release, pool_size, out_of),
            hide_index=True,
        )
    st.markdown(DETAILS)


def run_of() -> accounting.Run | None:
    """What was done to the training units, where anything private was."""
    if head is not None:
        record = entry.head_record(head)
        private = not math.isnan(tables.heads.set_index("head").loc[head, "accuracy"])
        return accounting.Run.of_record(record) if private else None
    return state.live(cohort, model, chosen).run if chosen.one_shot and not math.isinf(chosen.epsilon) else None


def facts_of_run() -> str:
    from explorer import ranked

    record = entry.head_record(head) if head is not None else {}
    run = run_of()
    rows = [("Mechanism", chosen.mechanism), ("Head", head or "not stored")]
    if record.get("claim"):
        rows.append(("Claim", str(record["claim"])))
    if run is not None:
        rows += [
            ("Noise multiplier σ", f"{run.multiplier:.4g} times the clip"),
            ("Clip", f"{run.clip:.4g}, one {run.unit}"),
            ("Sampling, steps", f"q = {run.q:.4g}, {run.steps:,}"),
            ("Neighbouring relation", run.relation),
            ("Accountant", f"{run.accountant}: ε = {run.epsilon:.4g} at δ = {run.delta:.2g}"),
        ]
        if run.accountant == accounting.PLD:
            beside = other_accountants(run)
            rows.append(("Beside it", f"RDP {beside.rdp:.4g}, PRV {beside.prv:.4g}"))
    if record.get("scope"):
        rows.append(("Covers", str(record["scope"])))
    return f"<style>{ranked.STYLE}</style>{ranked.facts(rows)}"


@st.cache_data(show_spinner=False)
def other_accountants(run: accounting.Run) -> accounting.Epsilons:
    return run.epsilons


def filed() -> pd.DataFrame:
    """Every line of the picture as one table."""
    parts = [rows.assign(line=names[name]) for name, rows in lines.items()]
    columns = ("line", "pool_size", "k", "recall", "recall_low", "recall_high", "chance", "n_queries")
    table = pd.concat(parts, ignore_index=True)[list(columns)] if parts else pd.DataFrame(columns=list(columns))
    asked = {
        "synthetic": synthetic,
        "cohort": cohort,
        "model": model,
        "mechanism": chosen.mechanism,
        "epsilon": chosen.epsilon,
        "release": release,
    }
    return pd.concat([pd.DataFrame(asked, index=table.index), table], axis=1)


def save() -> None:
    name = page.file_name("mitigation", cohort, model, chosen.mechanism, f"eps{chosen.epsilon:g}", release)
    table = filed()
    everyone = page.filed_as_is(
        mitigation.attacker_rows(tables.linkage, head or "", release, pool_size, out_of), synthetic
    )
    about = f"{page.provenance(pool_size, n_images)} · {title_of_setting}"
    pictures: dict[str, tuple[Callable[[palette.Palette], go.Figure], str]] = {
        "Linkage": (draw_curve, "Linkage against pool size, before and after"),
        "Usefulness": (draw_use, "Usefulness before and after"),
        "Attackers": (draw_attackers, "Attackers who adapt"),
    }
    page.save(
        ("Linkage (CSV)", f"{name}-linkage.csv", lambda: downloads.csv(table)),
        ("Attackers (CSV)", f"{name}-attackers.csv", lambda: downloads.csv(everyone)),
        *(
            (f"{words} (SVG)", f"{name}-{words.lower()}.svg", picture_file(draw, title, about))
            for words, (draw, title) in pictures.items()
        ),
    )


def picture_file(draw: Callable[[palette.Palette], go.Figure], title: str, about: str) -> Callable[[], bytes]:
    return lambda: downloads.svg(draw(palette.LIGHT), title=title, subtitle=about)


page.guard()
cohort, synthetic = state.cohort(), state.synthetic()
with st.container(horizontal=True, vertical_alignment="center", gap="small"):
    st.title("What does a mitigation buy, and what does it cost?", width="stretch")
    title_place = st.container(horizontal=True, width="content", gap="small")

with page.guarded():
    model, colours = state.model(), palette.current()
    st.session_state.pop("mitigation problem", None)
    entry, tables = state.entry(cohort, model), state.lab_tables(cohort, model)
    some, steps = lab.pool_sizes(state.study(cohort, model))
    sizes = [n for n in some if n != 1000] or some
    pool_size = controls()
    if state.releases():
        release_page.draw(tables, pool_size, title_place)
        page.cannot_tell(
            "what an attacker could do who holds something else of the same images; what a release is worth to you. "
            "Labels, age or dates beside it end its limit."
        )
        st.stop()
    out_of = sentences.denominator(pool_size)
    chosen, release = state.setting(), str(state.get("release"))
    label = mitigation.MECHANISMS[chosen.mechanism]
    title_of_setting = f"{label}, ε = {state.epsilon_words(chosen.epsilon)}"
    head = settings.stored(tables.heads, chosen)
    no_labels = settings.without_labels(entry)

    # -- what is known at this setting
    def worst_of(name: str | None, of_release: str) -> pd.DataFrame:
        return mitigation.line(tables.linkage, name or "", of_release, lab.WORST, cohort)

    def cosine_of(name: str | None) -> pd.DataFrame | None:
        rows = mitigation.line(tables.linkage, name or "", "embeddings-and-heads", "cosine", cohort)
        if len(rows):
            return rows
        return read(lambda: state.head_curve(cohort, model, name)) if name is not None else None

    before = worst_of(OFF_THE_SHELF, release)
    after = before if release == "raw-images" else worst_of(head, release)
    cosine_before = cosine_of(OFF_THE_SHELF)
    cosine = cosine_of(head)
    if cosine is None and chosen.one_shot and not (chosen.learns_findings and no_labels):
        cosine = read(lambda: state.live_curve(cohort, model, chosen))
    # the noise alone at few epsilons: without signal a cosine hardly sees how much noise there is
    control = settings.noise_only(tables.heads, chosen)
    if control is not None and chosen.one_shot and not control[2]:
        control = None
    noise_head = control[0] if control is not None else None
    noise, noise_name = cosine_of(noise_head), "noise only"
    noise_epsilon = control[1] if control is not None else chosen.epsilon
    if noise is None and chosen.one_shot:
        noise_epsilon = min(lab.MAIN, key=lambda epsilon: settings.ratio(epsilon, chosen.epsilon))
        silent = replace(chosen, epsilon=noise_epsilon)
        noise = read(lambda: state.live_curve(cohort, model, silent, signal=False))
    if control is not None and not control[2]:
        noise_name = "noise only, other findings"
    elif not math.isclose(noise_epsilon, chosen.epsilon, rel_tol=1e-3):
        noise_name = f"noise only, ε = {noise_epsilon:g}"
    before_row, after_row = mitigation.at(before, pool_size), mitigation.at(after, pool_size)

    def worst_pair() -> tuple[pd.Series, pd.Series] | None:
        """The worst attacker under the head and under its noise alone, where both were measured."""
        silenced = mitigation.at(worst_of(noise_head, release), pool_size)
        return None if after_row is None or silenced is None else (after_row, silenced)

    cosine_row, noise_row = mitigation.at(cosine, pool_size), mitigation.at(noise, pool_size)
    n_own = int((entry.records()["split"] == "attacker").sum())

    with title_place:
        assumptions()

    # -- guarantee and measured linkage: two cards, never one number
    left, right = st.columns([0.48, 0.52], gap="small")
    with left, st.container(border=True, key="mi-guarantee", height="stretch"), page.guarded():
        st.html(mitigation.guarantee(guaranteed(), colours))
    with right, st.container(border=True, key="mi-linkage", gap=None, height="stretch"), page.guarded():
        st.html(
            mitigation.measured(
                before_row,
                after_row,
                release=release,
                pool_size=pool_size,
                out_of=out_of,
                n_own=n_own,
                palette=colours,
                cosine=cosine_row,
                cosine_before=mitigation.at(cosine_before, pool_size),
            )
        )
        action()

    # -- linkage against pool size, usefulness, damage
    lines: dict[str, pd.DataFrame] = {}
    names = {"worst": "after, worst attacker", "cosine": "after, cosine only", "noise": noise_name}
    names["before"] = "before" if len(before) else "before, cosine only"
    was = before if len(before) else cosine_before
    for name, rows in (("before", was), ("worst", after), ("cosine", cosine), ("noise", noise)):
        if rows is not None and len(rows):
            lines[name] = rows
    names = {name: names[name] for name in mitigation.LINES if name in lines}
    rows_of_use = uses()
    n_images = max((int(rows["n_queries"].max()) for rows in lines.values()), default=0)

    def draw_curve(with_colours: palette.Palette) -> go.Figure:
        return mitigation.curve(lines, names, pool_size=pool_size, palette=with_colours)

    def draw_use(with_colours: palette.Palette) -> go.Figure:
        return mitigation.usefulness(rows_of_use, with_colours)

    # -- attackers: all who hold no more than the release, and whoever has the images
    measured = tables.linkage[
        (tables.linkage["cohort"] == cohort)
        & (tables.linkage["pool_size"] == pool_size)
        & (tables.linkage["m"] == "all")
        & (tables.linkage["attacker"] != lab.WORST)
    ]
    own = measured[(measured["head"] == head) & (measured["release"] == release)]
    if release == "raw-images":  # what somebody could do with less is shown all the same
        own = measured[(measured["head"] == head) & (measured["release"] == "embeddings-and-heads")]
    raw = measured[(measured["head"] == OFF_THE_SHELF) & (measured["release"] == "raw-images")]
    order = {name: i for i, name in enumerate(mitigation.ATTACKERS)}
    bars = pd.concat([own.sort_values("attacker", key=lambda names: names.map(order)), raw]).to_dict("records")
    bar_names = [mitigation.attacker_words(row, n_own) for row in bars]

    def draw_attackers(with_colours: palette.Palette) -> go.Figure:
        return mitigation.attackers(
            bars,
            bar_names,
            before=None if before_row is None else float(before_row["recall"]),
            chance=1 / pool_size,
            out_of=out_of,
            pool_size=pool_size,
            slots=N_BARS,
            palette=with_colours,
            why="" if len(own) else "The attackers who adapt are not measured at this setting.",
        )

    with title_place:
        save()
    left, right = st.columns([0.61, 0.39], gap="medium")
    with left:
        st.subheader("Linkage against pool size")
        st.html(mitigation.legend(names, colours))
        st.plotly_chart(
            draw_curve(colours),
            theme=None,
            config=charts.CONFIG,
            key="mitigation curve",
            alt=mitigation.curve_words(lines, names, pool_size, out_of),
        )
    with right:
        st.subheader("Usefulness")
        st.html(mitigation.use_legend(colours, noise_name))
        st.plotly_chart(
            draw_use(colours),
            theme=None,
            config=charts.CONFIG,
            key="mitigation use",
            alt=mitigation.use_words(rows_of_use),
        )
        with st.container(border=True, key="mi-damage"):
            st.html(
                mitigation.damage(
                    cosine_row,
                    noise_row,
                    out_of=out_of,
                    palette=colours,
                    uses=rows_of_use[:2],
                    why=why_no_control(),
                    noise_name=noise_name,
                    worst=worst_pair(),
                )
            )

    st.subheader("Does it survive an attacker who adapts?")
    if bars:
        st.plotly_chart(
            draw_attackers(colours),
            theme=None,
            config=charts.CONFIG,
            key="mitigation attackers",
            alt=mitigation.attackers_words(
                bars, bar_names, None if before_row is None else float(before_row["recall"]), out_of
            ),
        )
    else:
        height = mitigation.attackers_height(N_BARS)
        st.html(
            f'<div class="mi-blank" style="height:{height}px">The attackers are not measured at this setting.</div>'
        )

    st.page_link(
        "pages/examples.py",
        label="See it on single images",
        icon=":material/radiology:",
        query_params={"second": state.MITIGATED},
    )
    expander = st.expander(
        "Details: how the guarantee is computed, every attacker, every finding, controls, another cohort",
        icon=":material/table:",
        key="mitigation details",
        on_change="rerun",
    )
    if expander.open:
        with expander:
            details()
page.cannot_tell(
    "what an attacker outside this list could do; what happens to findings nobody listed. "
    "A release of raw images is protected by no head."
)
