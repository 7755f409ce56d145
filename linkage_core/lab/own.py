"""The whole lab of a cohort of one's own: heads, attackers, use, and with a public cohort every kind of release."""

from __future__ import annotations

import math
import os

import pandas as pd

from linkage_core import shipped
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.lab import frontier, frontier_build, grid, measured, setting
from linkage_core.lab.frontier_build import Grid
from linkage_core.lab.grid import Planned
from linkage_core.mitigation.training import public_entry, training_pairs
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import why_untested

RELEASES = Grid(
    limits=(3, 10, 30, 100), several=(), lifts=(1.5, 3, 10, 30, 100), epsilons=grid.MAIN, noises=(0.1, 0.3), seeds=(0,)
)


def plan(entry: Entry, public: str | None = None, *, quick: bool = False) -> list[Planned]:
    """The heads of its lab: grid.quick, or grid.of_cohort."""
    return grid.quick(entry) if quick else grid.of_cohort(entry, public)


def missing(entry: Entry, linkage: pd.DataFrame, *, quick: bool = False) -> list[str]:
    """What of the plan is not measured on the entry's own cohort, the model as it came among it.

    linkage: measured.linkage of the entry.
    """
    there = set(linkage.loc[linkage["cohort"] == entry.cohort, "head"])
    return [name for name in (OFF_THE_SHELF, *(one.name for one in plan(entry, quick=quick))) if name not in there]


def minutes(entry: Entry, heads: int, *, quick: bool = False) -> int:
    """About how long the rest of a lab takes on one core, where so many heads are missing.

    By what was measured on 60 and 800 studies and on 13,194 held-out images (seconds of processor time): a head takes
    8 and 0.003 a held-out image, and each of the main heads 0.03 an image more in the other games, which a quick lab
    does not play.
    """
    n = len(entry.records(entry.tested_split))
    played = 0 if quick else sum(one.external for one in plan(entry)) + 1
    return max(1, math.ceil((heads * (8 + 0.003 * n) + min(heads, played) * 0.03 * n) / 60))


def why_not(entry: Entry) -> LinkageError | None:
    """Why the lab of this cohort cannot be made here, None where it can."""
    problem = shipped.why_not_written(entry.path) or why_untested(entry) or setting.why_no_pairs(entry)
    if problem is None and not os.access(entry.path, os.W_OK):
        problem = StoreError(f"{entry.path} cannot be written to.", "Make it writable, or copy the store.")
    return problem


def command(entry: Entry, *, quick: bool = False) -> str:
    """What does the same in a terminal."""
    return f"linkage lab {entry.cohort}/{entry.model}{' --quick' if quick else ''}"


def build(
    entry: Entry,
    public: str | None = None,
    *,
    quick: bool = False,
    processes: int = 1,
    progress: Progress = silent,
) -> Entry:
    """Heads of `plan`, measured as the phantom's are; and for a labelled cohort what is compared on the frontier:
    these heads, and with a public cohort releases of every kind. What is there already is kept.

    public: a cohort of the store, seen by the same model; not of a quick lab. Raises InputError where nobody can be
    tested or trained on, and as training.public_entry does.
    """
    if quick and public:
        raise InputError("A quick lab has no releases.", "Leave out --quick, or the public cohort.")
    if problem := why_untested(entry):
        raise problem
    beside = public_entry(entry, public) if public else None
    training = training_pairs(entry)
    entry = grid.build(
        entry.store,
        entry.cohort,
        entry.model,
        training=training,
        plan=plan(entry, public, quick=quick),
        whatever_can=True,
        with_games=not quick,
        processes=processes,
        progress=progress,
    )
    if not entry.labelled:
        return entry
    if beside is not None:
        return frontier_build.build(entry, beside, training, grid=RELEASES, processes=processes, progress=progress)
    entry = frontier.begun(entry)
    there = set(frontier.options_of(entry)["option"])
    names = [name for name in measured.linkage(entry)["head"].unique() if name not in there]
    if names:
        progress("heads compared", 0, len(names))
        before = frontier_build.clean_probe(training.source, training.split)
        entry = frontier_build.heads(entry, names, before=before, progress=progress)
    return entry
