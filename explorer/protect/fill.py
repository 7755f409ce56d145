"""What would fill the Protect pages for one cohort and model: said in a sentence, run beside the page, gone on with.

Everything about the run is of the core (linkage_core.lab.own). Runs belong to the server: see jobs.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st
from threadpoolctl import threadpool_limits

from explorer.drawing.verbatim import verbatim
from explorer.frame import kept, page, state, visitor
from explorer.protect import jobs
from linkage_core.errors import LinkageError
from linkage_core.lab import own
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

FIRST = {"data": "Fill its lab (quick, about "}
"""What the first button says on a page that is not filled by it."""


@dataclass(frozen=True)
class Offer:
    """What can be run to fill the pages. done, total: settings of the quick lab that are measured, and how many there
    are; minutes of the quick and of the whole one, about; problem: why neither can be run here, None where both can."""

    cohort: str
    model: str
    done: int
    total: int
    quick_minutes: int
    whole_minutes: int
    problem: LinkageError | None
    command: str

    def words(self, cohort: str, model: str) -> str:
        """What is missing, in a sentence; the names are those of the screen."""
        if not self.done:
            return f"No attacker has been measured for {cohort}, {model} yet."
        return f"{self.done} of {self.total} settings of the quick lab of {cohort}, {model} are measured."


def offer(entry: Entry, linkage: pd.DataFrame, compared: Collection[str] | None = None) -> Offer | None:
    """What would fill the pages of this entry; None where the quick lab is there.

    linkage: lab.measured.linkage. compared: the options of the frontier, where those have to be there too.
    """
    names = [OFF_THE_SHELF, *(one.name for one in own.plan(entry, quick=True))]
    missing = own.missing(entry, linkage, quick=True)
    if compared is not None:
        missing = [name for name in names if name in missing or name not in compared]
    if not missing:
        return None
    total = len(names)
    return Offer(
        entry.cohort,
        entry.model,
        total - len(missing),
        total,
        own.minutes(entry, len(missing), quick=True),
        own.minutes(entry, len(own.missing(entry, linkage))),
        own.why_not(entry),
        own.command(entry, quick=True),
    )


def key_of(cohort: str, model: str) -> tuple[str, ...]:
    """What the run of a cohort and model is known by on this server."""
    return ("lab", str(kept.store_root()), cohort, model)


def start(root: Path, cohort: str, model: str, *, quick: bool) -> jobs.Job | None:
    """Starts the run on an entry of its own, or has it wait; None where it cannot."""

    def work(progress: jobs.Progress) -> object:
        with threadpool_limits(1):  # beside the pages: threads that wait for each other would take their time
            return own.build(Store(root).open(cohort, model), quick=quick, progress=progress)

    return jobs.start(key_of(cohort, model), f"lab of {cohort}/{model}", work)


def strip(
    entry: Entry, linkage: pd.DataFrame, place: str, compared: Collection[str] | None = None
) -> LinkageError | None:
    """One strip of a page: nothing where the lab is there; else what is missing and what can be run, or how far it is.

    It depends on the cohort and the model alone, so no other control moves it. place: part of the widgets' keys.
    Returns why nothing can be run, where it has said that.
    """
    job = jobs.of(key_of(entry.cohort, entry.model))
    if job is not None and job.running:
        with st.container(key=f"fill-{place}"):
            watch(key_of(entry.cohort, entry.model), place)
        return None
    found = offer(entry, linkage, compared)
    if found is None:
        return None
    said = found.words(state.cohort_label(entry.cohort), state.model_label(entry.model))
    with st.container(border=True, key=f"fill-{place}", horizontal=True, vertical_alignment="center", gap="small"):
        if found.problem is not None:
            words = page.marked(f"{said} {found.problem.what} {found.problem.remedy} Then: `{found.command}`.")
            st.html(f'<p class="mi-small mi-alert" role="status">{words}</p>', width="stretch")
            return found.problem
        words = page.marked(f"{ended(job)} {said} Or `{found.command}`.".strip())
        with st.container(width=460):
            st.html(f'<p class="mi-small mi-alert" role="status">{words}</p>')
        buttons(found, place, again=job is not None)
    return None


def buttons(found: Offer, place: str, *, again: bool = False) -> None:
    """The two runs. Where they would have to wait their tooltips say so: the strip keeps its height."""
    before = in_line()
    for quick, first, minutes in (
        (
            True,
            "Go on (quick, about " if again else FIRST.get(place, "Fill this page (quick, about "),
            found.quick_minutes,
        ),
        (False, "All of it (", found.whole_minutes),
    ):
        if st.button(
            f"{first}{duration(minutes)})",
            icon=":material/play_arrow:" if quick else None,
            help=before or None,
            key=f"fill {place} {'quick' if quick else 'whole'}",
        ):
            if start(kept.store_root(), found.cohort, found.model, quick=quick) is None:
                st.toast("It has begun already, or too many runs wait.")
            st.rerun()


def in_line() -> str:
    """What a run that is begun now would wait for, in a sentence; "" where for nothing."""
    before = jobs.listed()
    if not before:
        return ""
    title = f" ({verbatim(before[0].title)})" if visitor.let_in() else ""
    others = f" and {len(before) - 1} more" if len(before) > 1 else ""
    return f"It waits for another run{title}{others}."


def duration(minutes: int) -> str:
    """
    >>> duration(1), duration(45), duration(150)
    ('1 minute', '45 minutes', '3 hours')
    """
    if minutes >= 90:
        return f"{round(minutes / 60 + 0.49)} hours"
    return f"{minutes} minute{'s' if minutes > 1 else ''}"


def ended(job: jobs.Job | None) -> str:
    """How the last run of this cohort and model ended, in sentences; "" where there is nothing to say."""
    if job is None or job.running:
        return ""
    said = ""
    if job.error:
        said = " ".join(job.error)
    elif job.cancelled:
        said = "Cancelled: heads that were finished are kept, and it goes on from there."
    return " ".join([said, *(f"{remark.rstrip('.')}." for remark in job.remarks)]).strip()


@st.fragment(run_every=1.0)
def watch(key: Hashable, place: str) -> None:
    """Progress of a run, looked at every second without drawing the page again."""
    job = jobs.of(key)
    if job is None or not job.running:
        st.rerun()
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.progress(job.share, text=verbatim(f"{job.title}: {job.words()}"))
        st.button(
            "Cancel", icon=":material/stop:", on_click=job.cancel, disabled=job.stopping, key=f"fill {place} cancel"
        )
