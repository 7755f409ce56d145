"""Mechanisms that are trained step by step: Work -> (heads, what was done to the units, what a record says besides)."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from linkage_core.heads import Heads, unit
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation.engine import ClosedForm, Pairs, Recipe, Towers, train
from linkage_core.mitigation.objectives import Label, Nothing, Objective, PublicNegatives, targets
from linkage_core.mitigation.training import public_bank
from linkage_core.mitigation.work import Work


def label_dpsgd(work: Work) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    """Unit rows and no bias: a cosine sees neither the scale of the features nor of the logits."""
    t = work.training
    pairs = work.pairs(oneshot.unit_rows(t.images), oneshot.unit_rows(t.texts), 0.0)
    objective = Label(targets(t.labels, work.options.findings)[pairs.order])
    k = len(work.options.findings)
    start = Towers(np.zeros((k, pairs.images.shape[1] + 1)), np.zeros((k, pairs.texts.shape[1] + 1)))
    return descend(work, start, pairs, objective, clip=0.1, rate=50.0)


def public_negatives(work: Work) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    """From the off-the-shelf heads; clip and rate are in units of their weights, which are public."""
    shelf, t = work.entry.heads(), work.training
    bank_images, bank_texts, said = public_bank(work.entry, work.options.public)
    objective = PublicNegatives(unit(shelf.image(bank_images)), unit(shelf.text(bank_texts)))
    start = Towers.of(shelf)
    scale = start.norm / math.sqrt(len(start.image))  # of one row of the weights
    return descend(
        work, start, work.pairs(t.images, t.texts, 1.0), objective, clip=1.0 / scale, rate=0.005 * scale**2, more=said
    )


def paper_recipe(work: Work) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    """The study's recipe, on pairs whatever unit is asked for. Loads torch."""
    from linkage_core.mitigation import paper

    usual = paper.PaperRecipe()
    recipe = replace(usual, clip=_given(work.options.clip, usual.clip), rate=_given(work.options.rate, usual.rate))
    t = work.training
    pairs = Pairs.of(t.images, t.texts, t.units("pair"), 1.0)
    declared = work.options.public_size if work.options.unit == "pair" else None  # else it counts patients
    n_pairs = t.public_size("pair", declared)
    q, steps = recipe.sampling(n_pairs)
    multiplier = accounting.dpsgd_sigma(work.options.epsilon, work.delta, q, steps)
    trained = paper.train(
        Towers.of(work.entry.heads()), pairs, n_pairs, multiplier, recipe, work.source, work.progress, work.signal
    )
    run = accounting.Run(multiplier, q, steps, recipe.clip, "pair", work.delta)
    return trained.heads(), run, {"engine": "opacus", "recipe": asdict(recipe)}


def descend(
    work: Work,
    start: Towers,
    pairs: Pairs,
    objective: Objective,
    *,
    clip: float,
    rate: float,
    more: dict[str, Any] | None = None,
) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    """Private steps from `start` by the options, with `clip` and `rate` where they name none.

    `more`: what the record is to say besides.
    """
    options = work.options
    q = _given(options.q, min(1.0, max(0.05, 200 / work.n_units)))
    steps = int(_given(options.steps, 200))
    clip, rate = _given(options.clip, clip), _given(options.rate, rate)
    multiplier = accounting.dpsgd_sigma(options.epsilon, work.delta, q, steps)
    recipe = Recipe(clip, q, steps, rate, multiplier, momentum=0.9, unit=options.unit, n_units=work.n_units)
    engine = ClosedForm()
    if options.engine == "opacus":
        from linkage_core.mitigation.opacus_engine import Opacus

        engine = Opacus()
    loss = objective if work.signal else Nothing()
    heads = train(start, pairs, loss, recipe, work.source, engine, work.progress).heads()
    run = accounting.Run(multiplier, q, steps, clip, options.unit, work.delta)
    kept = {key: value for key, value in asdict(recipe).items() if key in ("rate", "momentum", "average")}
    return heads, run, {"engine": engine.name, **kept, **(more or {})}


def _given(value: float | None, default: float) -> float:
    return default if value is None else value
