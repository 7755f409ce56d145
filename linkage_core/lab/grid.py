"""Which heads a lab is made of, and the run that trains and measures them all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from linkage_core.attacks.held import Known
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.lab import games
from linkage_core.lab.at_once import at_once
from linkage_core.lab.measured import EPSILONS, KNOWN, STEPS, found, head_names, keep, measured, prepared, train
from linkage_core.mitigation import finetune as finetuning
from linkage_core.mitigation import mechanisms, oneshot
from linkage_core.mitigation.finetune import Options
from linkage_core.mitigation.training import Training, training_pairs
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

SEEDS = (0, 1, 2)
MAIN = (0.34, 1.0, 3.0)
"""Epsilons with several seeds, a noise-only control and the external cohort."""


@dataclass(frozen=True)
class Planned:
    """One head of a grid: how it is made, by whom it is attacked, and whether it goes to the external cohorts."""

    mechanism: str
    options: Options
    name: str
    known: tuple[Known, ...] = ("all",)
    external: bool = False


def planned(mechanism: str, epsilon: float = math.inf, seed: int | None = 0, **more: Any) -> Planned:
    """A head of the default name, reproducible but for seed None.

    `known`, `external` and `suffix` (to the name); the rest are Options.
    """
    known, external, suffix = (
        more.pop(key, usual) for key, usual in (("known", ("all",)), ("external", False), ("suffix", ""))
    )
    options = Options(epsilon=epsilon, seed=seed, **more)
    return Planned(mechanism, options, finetuning.default_name(mechanism, options) + suffix, known, external)


def grid(declared: Sequence[str]) -> list[Planned]:
    """Everything that ships for the phantom, what matters most first. All runs are reproducible, hence not private.

    `declared`: the shorter list of findings whose heads show what becomes of the others. A plan and no table: what is
    shipped was settled beforehand, so that a new mechanism is not in it by itself.
    """
    label, shot, every = mechanisms.LABEL, oneshot.LABEL, KNOWN
    public, moment, paper = mechanisms.PUBLIC, oneshot.MOMENT, mechanisms.PAPER
    few: dict[str, Any] = {"findings": tuple(declared), "suffix": f"-{len(declared)}findings"}
    rest = [epsilon for epsilon in EPSILONS if epsilon not in MAIN]
    return [
        *(planned(kind, epsilon, known=every, external=True) for epsilon in MAIN for kind in (shot, label)),
        *(planned(mechanisms.NOISE_ONLY, epsilon, like=kind) for epsilon in MAIN for kind in (shot, label)),
        planned(paper, mechanisms.PAPER_EPSILON, known=every, external=True),
        planned(mechanisms.NOISE_ONLY, mechanisms.PAPER_EPSILON, like=paper),
        *(planned(control) for control in ("rotation", "random-heads", "truncate", "output-noise", "concept-span")),
        planned("public-labels"),
        planned(mechanisms.NONPRIVATE, like=label, external=True),
        *(planned(shot, epsilon, **few) for epsilon in MAIN),
        *(planned(label, epsilon, **few) for epsilon in MAIN),
        *(planned(shot, epsilon) for epsilon in STEPS if epsilon not in MAIN),
        *(planned(label, epsilon) for epsilon in rest),
        *(planned(kind, epsilon) for epsilon in MAIN for kind in (moment, public)),
        *(planned(kind, epsilon, seed) for seed in SEEDS[1:] for epsilon in MAIN for kind in (shot, label)),
        *(planned(kind, epsilon) for epsilon in rest for kind in (moment, public)),
        *(planned(label, epsilon, seed) for seed in SEEDS[1:] for epsilon in rest),
    ]


def of_cohort(entry: Entry, public: str | None = None) -> list[Planned]:
    """What a lab of one's own cohort is made of: what it has the labels for, and the public cohort, if one is named.

    Noise is secret unless the cohort is synthetic, as the pages ask for it. The steps of a slider between MAIN are left
    out: the page makes one-shot heads itself.
    """
    seed = 0 if entry.synthetic else None
    trained = [oneshot.MOMENT]
    if entry.labelled:
        trained = [oneshot.LABEL, mechanisms.LABEL, *trained]
    if public:
        trained.append(mechanisms.PUBLIC)
    of: dict[str, Any] = {"seed": seed, "public": public}
    return [
        *(planned(kind, epsilon, known=KNOWN, external=True, **of) for epsilon in MAIN for kind in trained),
        *(planned(mechanisms.NOISE_ONLY, epsilon, like=kind, **of) for epsilon in MAIN for kind in trained),
        *(planned(control, **of) for control in ("rotation", "random-heads", "truncate", "output-noise")),
        planned(mechanisms.NONPRIVATE, like=trained[0], **of),
        *([planned("public-labels", **of)] if public and entry.labelled else []),
    ]


def quick(entry: Entry) -> list[Planned]:
    """The first heads of `of_cohort`, by the same names: the instant one that Mitigation opens with, at MAIN, and its
    noise alone. None is trained step by step, so what takes time is that they are attacked."""
    seed = 0 if entry.synthetic else None
    kind = oneshot.LABEL if entry.labelled else oneshot.MOMENT
    return [
        *(planned(kind, epsilon, seed, known=KNOWN, external=True) for epsilon in MAIN),
        planned(mechanisms.NOISE_ONLY, MAIN[0], seed, like=kind),
    ]


def frequent(entry: Entry, n: int = 7) -> tuple[str, ...]:
    """The n findings most often present in the attacker's split, which is nobody's test, in the order of LABELS."""
    present = (entry.records("attacker")[list(LABELS)] == 1).sum()
    chosen = set(present.sort_values(ascending=False, kind="stable").index[:n])
    return tuple(name for name in LABELS if name in chosen)


def build(
    store: Store,
    cohort: str,
    model: str,
    *,
    externals: Sequence[str] = (),
    training: Training | None = None,
    plan: Iterable[Planned] | None = None,
    findings: Sequence[str] = LABELS,
    whatever_can: bool = False,
    with_games: bool = True,
    processes: int = 1,
    progress: Progress = silent,
) -> Entry:
    """Every head of the grid, then every measurement; what is there already is kept, so a killed run goes on. What
    `progress` raises ends it: then each head is measured as a whole, or not at all.

    Arguments
        externals: cohorts of the store that the main heads are measured on without retraining.
        training: the pairs; by default finetune.training_pairs. A shipped subset is refused.
        plan: default `grid`. findings: those that the kept sums of label-oneshot are about.
        whatever_can: a head that cannot be made or measured on this cohort is left out, and progress is told why;
            otherwise it ends the run. with_games: play the main heads in the other games too.
        processes: how many heads are attacked at once. With one, `progress` is asked within a head too.

    Sums, heads and tables go into the entry of `cohort` and `model`, which is returned.
    """
    entry = store.open(cohort, model)
    training = training or training_pairs(entry)
    if training.source.manifest["cohort"].get("subset_of"):
        raise InputError(
            f"{training.source.cohort}/{model} is a subset that ships to try the lab with.",
            "Build from all finetuning pairs: linkage phantom build --lab draws them.",
        )
    plan = list(grid(frequent(entry)) if plan is None else plan)
    for mechanism in oneshot.FORMS:
        acting = {one.options.like or one.mechanism for one in plan}
        if mechanism not in acting or (mechanisms.known(mechanism).labels and not training.source.labelled):
            continue
        kept = prepared(entry, mechanism)
        if kept is None or kept.about["trained_on"] != training.said():
            entry = finetuning.keep_sums(entry, finetuning.prepare(mechanism, training, findings=findings))
    weights = entry.manifest["model"].get("weights_sha256")
    names = [name for name in head_names(entry) if entry.head_record(name).get("weights_sha256") == weights]
    for done, one in enumerate(plan):
        progress("heads", done, len(plan))
        if one.name not in names:
            acts = one.options.like or one.mechanism
            kept = finetuning.stored_sums(entry, acts, one.options) if mechanisms.known(acts).one_shot else None
            pairs = None if kept else training
            try:
                train(entry, one.mechanism, one.options, one.name, training=pairs, replace_it=True)
            except InputError as error:
                if not whatever_can:
                    raise
                progress(f"{one.name} is left out: {error.what}", 0, 0)
    progress("heads", len(plan), len(plan))
    entry = store.open(cohort, model)
    plan = [one for one in plan if one.name in head_names(entry)]
    steps = [Planned("", Options(), OFF_THE_SHELF, KNOWN, True), *plan]
    left = {one.name: one for one in steps if not measured(entry, one.name)}
    job = partial(_found, store.root, cohort, model, tuple(externals), left)
    stage = Stage(progress, "heads measured")
    if processes == 1:
        job = partial(job, pulse=stage.again)
    for name, rows in at_once(job, list(left), processes, stage):
        if isinstance(rows, InputError):
            if not whatever_can:
                raise rows
            progress(f"{name} is left out: {rows.what}", 0, 0)
        else:
            entry = keep(entry, name, rows)
    there = set(games.games(entry)["head"])
    main = (OFF_THE_SHELF, *(one.name for one in plan if one.external))
    apart = [name for name in main if name not in there and measured(entry, name)]
    apart = apart if with_games else []
    play = partial(_played, store.root, cohort, model)
    for name, played in at_once(play, apart, processes, partial(progress, "games played")):
        entry = games.keep(entry, name, played)
    return entry


class Stage:
    """A stage of `progress` by (done, total); `again` tells the last of them anew, whatever part of it is told."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name, self.last = progress, name, (0, 0)

    def __call__(self, done: int, total: int) -> None:
        self.last = (done, total)
        self.progress(self.name, done, total)

    def again(self, part: str, done: int, total: int) -> None:
        self(*self.last)


def _played(root: Path, cohort: str, model: str, name: str) -> pd.DataFrame:
    """A head in every game; work of a process of its own."""
    return games.found(Store(root).open(cohort, model), name)


def _found(
    root: Path,
    cohort: str,
    model: str,
    externals: tuple[str, ...],
    plan: dict[str, Planned],
    name: str,
    pulse: Progress = silent,
) -> tuple[pd.DataFrame, pd.DataFrame] | InputError:
    """What is measured of a head of the plan, or why that cannot be; work of a process of its own."""
    store, one = Store(root), plan[name]
    others = [store.open(external, model) for external in externals] if one.external else []
    try:
        return found(store.open(cohort, model), name, externals=others, known=one.known, progress=pulse)
    except InputError as error:
        return error
