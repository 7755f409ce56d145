"""The whole lab of a cohort of one's own: heads, attackers, use, and with a public cohort every kind of release."""

from __future__ import annotations

from linkage_core.lab import frontier, frontier_build, grid
from linkage_core.lab.frontier_build import Grid
from linkage_core.mitigation.training import public_entry, training_pairs
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import Entry
from linkage_core.store.seen import why_untested

RELEASES = Grid(
    limits=(3, 10, 30, 100), several=(), lifts=(1.5, 3, 10, 30, 100), epsilons=grid.MAIN, noises=(0.1, 0.3), seeds=(0,)
)


def build(entry: Entry, public: str | None = None, *, processes: int = 1, progress: Progress = silent) -> Entry:
    """Heads of grid.of_cohort, measured as the phantom's are; and for a labelled cohort what is compared on the
    frontier: these heads, and with a public cohort releases of every kind. What is there already is kept.

    public: a cohort of the store, seen by the same model. Raises InputError where nobody can be tested or trained on,
    and as training.public_entry does.
    """
    if problem := why_untested(entry):
        raise problem
    beside = public_entry(entry, public) if public else None
    training = training_pairs(entry)
    entry = grid.build(
        entry.store,
        entry.cohort,
        entry.model,
        training=training,
        plan=grid.of_cohort(entry, public),
        whatever_can=True,
        processes=processes,
        progress=progress,
    )
    if not entry.labelled:
        return entry
    if beside is not None:
        return frontier_build.build(entry, beside, training, grid=RELEASES, processes=processes, progress=progress)
    entry = frontier.begun(entry)
    before = frontier_build.clean_probe(training.source, training.split)
    return frontier_build.heads(entry, before=before, progress=progress)
