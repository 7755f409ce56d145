"""What can be put on file: which sections and models, the run that makes the report, and its files."""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import streamlit as st

from explorer.drawing.glossary import linked
from explorer.frame import access, kept, page, state
from explorer.frame.controls import several
from explorer.frame.visitor import still_there
from explorer.protect import jobs
from explorer.report.paper import paper
from linkage_core import sentences
from linkage_core.audit.study import Study
from linkage_core.errors import LinkageError
from linkage_core.progress import Progress
from linkage_core.report.found import Asked, Found, found
from linkage_core.report.page import html, twin
from linkage_core.report.table import SECTIONS, report
from linkage_core.report.tree import Report
from linkage_core.report.write import command, file_name
from linkage_core.store.entry import Entry, Store

PILLS = {row.name: sentences.upper(row.name.replace("-", " ")) for row in SECTIONS.values() if not row.always}
STORE = "STORE"
"""Stands for the folder of the store in a command on the page and in the report: where it lies is nobody's business."""


@dataclass(frozen=True)
class Choice:
    """What is chosen: of a cohort these models (of all there are), and what the report is to hold."""

    cohort: str
    models: tuple[str, ...]
    every: bool
    asked: Asked

    @property
    def targets(self) -> list[str]:
        """As they are typed."""
        return [self.cohort] if self.every else [f"{self.cohort}/{model}" for model in self.models]

    @property
    def command(self) -> str:
        named = STORE if os.environ.get("LINKAGE_STORE") else ""
        return command(self.targets, self.asked, f"{file_name(self.cohort)}.html", named)


@dataclass
class Made:
    """A report that was made in this session, or is being made: then `report` is None."""

    choice: Choice
    report: Report | None = None
    html: str = ""
    texts: tuple[str, ...] = ()
    """Studies of which it holds the report's text."""


# -- what is chosen --------------------------------------------------------------------------------------------------


def controls() -> Choice:
    """Models, sections and the two switches. Identifiers and text obey the sidebar's switch."""
    models = state.models()
    labels = {model: state.model_label(model) for model in models}
    picked = several("filed", "Models", labels, f"report models {state.cohort()}", all_first=True)
    names = several("sections", "Sections, besides those always in it", PILLS, "report sections", all_first=True)
    allowed = state.show_text()
    why = (
        "Off for all." if allowed else "Turn on *Show report text* in the sidebar first: this cohort is not synthetic."
    )
    help = linked(f"Of the few records with the highest exposure. {why}")
    ids = st.toggle("Include identifiers", key="report identifiers", disabled=not allowed, help=help)
    text = st.toggle("Include report text", key="report text", disabled=not allowed, help=help)
    every = len(picked) == len(models)
    asked = Asked(
        sections=None if len(names) == len(PILLS) else names,
        identifiers=bool(ids and allowed),
        text=bool(text and allowed),
    )
    return Choice(state.cohort(), picked, every, asked)


# -- making it -------------------------------------------------------------------------------------------------------


def action(choice: Choice) -> None:
    """The one button; while a report is made its progress, and how it ended where it failed."""
    key = ("report", _session())
    job = jobs.of(key)
    if job is not None and job.running:
        watch(key)
        return
    if st.button(
        "Make the report", type="primary", icon=":material/description:", disabled=not choice.models, width="stretch"
    ):
        _start(key, choice)
        st.rerun()
    if not choice.models:
        st.caption("Choose a model.")
    elif job is not None and job.error:
        st.html(f'<p class="mi-small mi-alert" role="alert">{page.marked(" ".join(job.error))}</p>')


@st.fragment(run_every=0.5)
def watch(key: tuple[object, ...]) -> None:
    """Progress of the run, looked at twice a second without drawing the page again."""
    job = jobs.of(key)
    if job is None or not job.running:
        st.rerun()
        return
    st.progress(
        job.share, text=f"Making the report · {job.done:,} of {job.total:,}" if job.total else "Making the report"
    )
    st.button("Cancel", icon=":material/stop:", on_click=job.cancel, disabled=job.stopping, width="stretch")


def _start(key: tuple[object, ...], choice: Choice) -> None:
    """Starts the run. What it makes is kept for this session alone; the counts that pages keep are used again."""
    made = st.session_state["report made"] = Made(choice)
    studies = {}
    for model in choice.models:
        try:
            studies[model] = kept.study(choice.cohort, model)
        except LinkageError:  # the report says so, in the place of that model
            continue
    store = kept.store()
    jobs.start(key, "report", lambda progress: make(made, store, studies, progress), beside=True, wanted=still_there())


def make(made: Made, store: Store, studies: Mapping[str, Study], progress: Progress) -> None:
    """Reads, counts and writes the report into `made`. Raises LinkageError where there is nothing to report on."""
    choice = made.choice
    entries = [_opened(store, choice.cohort, model) for model in choice.models]
    asked = replace(choice.asked, command=choice.command)
    seen = found(entries, choice.models, asked, studies=studies, progress=progress)
    made.texts = tuple(seen.texts)
    made.report = report(_without_places(seen), datetime.date.today())
    made.html = html(made.report)


def _without_places(seen: Found) -> Found:
    """The same, with sentences on what cannot be read as a page says them."""
    told = {one.name: getattr(seen, one.name) for one in fields(seen)}
    told = {name: page.without_places(what) for name, what in told.items() if isinstance(what, str)}
    damaged = {name: page.without_places(what) for name, what in seen.damaged.items()}
    return replace(seen, **told, damaged=damaged)


def _opened(store: Store, cohort: str, model: str) -> Entry | LinkageError:
    try:
        return store.open(cohort, model)
    except LinkageError as error:
        return error


def _session() -> str:
    """A name of this session, by which its run is known."""
    return str(st.session_state.setdefault("report session", uuid.uuid4().hex))


# -- showing it ------------------------------------------------------------------------------------------------------


def shown() -> Made | None:
    """The report that may be on screen: of this cohort, and with identifiers or text only while they may be shown."""
    made = st.session_state.get("report made")
    if made is None or made.report is None or made.choice.cohort != state.cohort():
        return None
    told = made.choice.asked.identifiers or made.choice.asked.text
    if told and not state.show_text():
        return None
    access.shown("report", made.choice.cohort, made.texts)
    return made


def files(made: Made | None, choice: Choice) -> None:
    """HTML and JSON to keep, and the command that repeats the report."""
    done = None if made is None else made.report
    name, text = file_name(choice.cohort), "" if made is None else made.html
    with st.container(horizontal=True, gap="small"):
        for label, kind, data in (
            ("HTML", "text/html", text.encode),
            ("JSON", "application/json", lambda: b"" if done is None else twin(done).encode()),
        ):
            st.download_button(
                label,
                data,
                f"{name}.{label.lower()}",
                kind,
                on_click="ignore",
                icon=":material/download:",
                width="stretch",
                disabled=done is None,
            )
    if made is not None and made.choice != choice:
        st.caption("Made with other choices: make it again.")
    if not choice.models:
        return
    where = f" ({STORE}: the folder of the store)" if STORE in choice.command else ""
    st.caption(f"The same from a terminal{where}:")
    st.code(choice.command, language=None, wrap_lines=True)


def document(made: Made | None) -> None:
    """The report itself, or what stands in its place."""
    if made is None or made.report is None:
        page.headline("", "The answer stands here once the report is made.", kind="rp-answer")
        st.html(
            '<div class="rp-none" role="status"><p>The report, as it will be filed. It holds figures, '
            "no report text and no identifier unless you ask for them.</p></div>"
        )
        return
    page.headline("", made.report.headline, kind="rp-answer")
    paper(made.html, key="report paper")
