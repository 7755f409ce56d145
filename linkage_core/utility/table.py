"""Usefulness before and after: what can still be read from the embeddings once a head has changed.

Linear probe, zero-shot prompts and the label-matched AUC, each off the shelf and under a head, on the same images, with
their paired difference. A probe is trained on patients of another split and is none of the head's business: a head that
keeps declared findings and loses the others shows it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.audit import strata
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, ModelError
from linkage_core.heads import Heads, unit
from linkage_core.ranking import intervals
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import noise_of, noised, split_apart, usable
from linkage_core.utility.auroc import Aurocs, aurocs
from linkage_core.utility.probe import Probe, states_of, train_probe
from linkage_core.utility.prompts import Prompts, text_tower

MEASURES = {
    "probe": "logistic regression on the image embedding, trained on the attacker's or another disjoint split",
    "zero-shot": "cosine with prompts that state a finding, less that with prompts that deny it",
    "label-matched": "P(the match beats another patient's report with the same 14 labels) by cosine: instance signal",
}


# ------------------------------------------------------------------------------------------------------------ AUROC


# ------------------------------------------------------------------------------------------------------------ probe


# -------------------------------------------------------------------------------------------------------- zero-shot


# ------------------------------------------------------------------------------------------------------------ table

COLUMNS = (
    *("cohort", "model", "head", "measure", "label", "declared", "before", "before_low", "before_high"),
    *("after", "after_low", "after_high", "difference", "difference_low", "difference_high"),
    *("n", "n_positive", "n_patients", "flag", "trained_on", "missing", "seed", "draws"),
)
MACRO = "macro"


def utility_table(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    *,
    source: Entry | None = None,
    train: Entry | None = None,
    train_split: str = "attacker",
    split: str | None = None,
    declared: Sequence[str] | None = None,
    measures: Sequence[str] = tuple(MEASURES),
    prompts: Prompts | None = None,
    missing: str = "negative",
    seed: int = 0,
) -> pd.DataFrame:
    """What is the head worth to somebody who reads findings? Before (off the shelf), after, and their difference.

    Arguments
        source: the entry that has the head (default: the entry itself); train: the entry whose `train_split` trains the
            probes (default: `source`). For transfer, give the entry the head was made on as `source`: heads and probes
            come from it and are used on `entry` without retraining.
        declared: the findings that the head was made to keep; default: what its record says. "macro, undeclared" is
            over the others.
        measures: keys of MEASURES. Zero-shot needs the model's text tower on this machine; where it is not there, one
            row says so.
        missing: "negative" or "left out", see states_of.
        seed: of the folds, the bootstrap, and of output noise where the head's record has it: then everything is read
            from noised embeddings, and the probe is trained on such.

    Returns COLUMNS, one row for each measure and label, and macro rows over the labels with at least 30 patients of
    each class. Intervals are 95% bootstrap over patients, paired. `flag` is "too few to say", "not trained", or "".
    Raises InputError where a patient is in both the training and the queried split, or there are no labels.
    """
    source = source or entry
    train = train or source
    split = split or split_apart(entry, source)
    for other in (source, train):
        usable(entry, other, head if other is source else OFF_THE_SHELF, split)
    unknown = [one for one in measures if one not in MEASURES]
    if unknown:
        raise InputError(f"There is no measure {unknown[0]!r}.", f"They are: {', '.join(MEASURES)}.")
    keep = _declared(source, head, declared)
    records = entry.records(split)
    states = states_of(records, missing)
    patients = records["patient_id"].to_numpy(str)
    heads = [source.heads(), source.heads(head)]
    features = entry.features("image", records["record_id"])
    sigma, rng = noise_of(source, head), np.random.default_rng([seed, 1])
    images = [unit(heads[0].image(features)), noised(unit(heads[1].image(features)), sigma, rng)]
    common = {"cohort": entry.cohort, "model": entry.model, "head": head, "missing": missing, "seed": seed}
    trained_on = f"{train.cohort}/{train_split}"
    rows: list[dict[str, Any]] = []
    if "probe" in measures:
        probes = _probes(source, train, train_split, patients, heads, missing, sigma, seed)
        scores = np.stack([probe(one) for probe, one in zip(probes, images, strict=True)], axis=2)
        trained = np.logical_and(*(probe.trained for probe in probes))
        found = aurocs(scores, np.where(trained, states, np.nan), patients, seed=seed)
        rows += _rows(found, "probe", trained, "not trained", keep, {**common, "trained_on": trained_on})
    if "zero-shot" in measures:
        try:
            tower = text_tower(entry, prompts)
        except ModelError as error:
            rows.append(_empty("zero-shot", {**common, "trained_on": ""}, f"no text tower: {error.what}"))
        else:
            scores = np.stack([tower.scores(one, its) for one, its in zip(images, heads, strict=True)], axis=2)
            asked = ~np.isnan(scores).any(axis=(0, 2))
            found = aurocs(np.nan_to_num(scores), np.where(asked, states, np.nan), patients, seed=seed)
            rows += _rows(found, "zero-shot", asked, "no prompt", keep, {**common, "trained_on": ""})
    if "label-matched" in measures:
        rows.append(_label_matched(entry, split, images, heads, patients, {**common, "trained_on": ""}))
    return pd.DataFrame(rows)[list(COLUMNS)]


def _declared(source: Entry, head: str, declared: Sequence[str] | None) -> tuple[str, ...]:
    if declared is None:
        declared = source.head_record(head).get("findings") or () if head != OFF_THE_SHELF else ()
    unknown = [one for one in declared if one not in LABELS]
    if unknown:
        raise InputError(f"{unknown[0]!r} is declared.", f"Findings are: {', '.join(LABELS)}.")
    return tuple(declared)


def _probes(
    source: Entry,
    train: Entry,
    split: str,
    patients: np.ndarray,
    heads: Sequence[Heads],
    missing: str,
    sigma: float,
    seed: int,
) -> list[Probe]:
    """Before and after; the one after is trained on embeddings as they are released."""
    records = train.records(split)
    common = np.intersect1d(records["patient_id"].to_numpy(str), patients)
    if len(common):
        raise InputError(
            f"{len(common)} patients, such as {str(common[0])!r}, would both train the probe and be read by it.",
            "Train it on another split.",
        )
    first = _shelf_probe(source, train, split, missing, seed)
    shelf, image = heads[0].image, heads[1].image
    if sigma == 0 and np.array_equal(shelf.weight, image.weight) and np.array_equal(shelf.bias, image.bias):
        return [first, first]
    features = train.features("image", records["record_id"])
    released = noised(unit(image(features)), sigma, np.random.default_rng([seed, 2]))
    return [first, train_probe(released, states_of(records, missing), records["patient_id"].to_numpy(str), seed)]


@lru_cache(maxsize=4)
def _shelf_probe(source: Entry, train: Entry, split: str, missing: str, seed: int) -> Probe:
    """The probe before any mitigation, the same beside every head."""
    records = train.records(split)
    features = train.clean_images(records["record_id"], source.heads())
    return train_probe(features, states_of(records, missing), records["patient_id"].to_numpy(str), seed)


def _rows(
    found: Aurocs, measure: str, usable: np.ndarray, why_not: str, declared: tuple[str, ...], common: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row a label, and macro rows."""
    rows = []
    for i, label in enumerate(LABELS):
        flag = intervals.flag(int(found.patients[i]), float(found.in_effect[i])) if usable[i] else why_not
        rows.append(_row(found, np.array([i]), measure, label, label in declared, flag, common))
    enough = usable & found.enough
    inside = np.array([label in declared for label in LABELS])
    groups = {MACRO: enough}
    if declared:
        groups |= {f"{MACRO}, declared": enough & inside, f"{MACRO}, undeclared": enough & ~inside}
    for name, members in groups.items():
        where = np.flatnonzero(members)
        flag = "" if len(where) else "no finding with enough patients"
        rows.append(_row(found, where, measure, name, name == f"{MACRO}, declared", flag, common))
    return rows


def _row(
    found: Aurocs,
    where: np.ndarray,
    measure: str,
    label: str,
    declared: bool,
    flag: str,
    common: dict[str, Any],
) -> dict[str, Any]:
    """Mean over the labels `where`, before, after and their difference."""
    row: dict[str, Any] = {**common, "measure": measure, "label": label, "declared": declared}
    if len(where):
        value, drawn = found.auroc[where].mean(axis=0), found.draws[:, where].mean(axis=1)
    else:
        value, drawn = np.full(2, np.nan), np.full((1, 2), np.nan)
    n_patients = int(found.patients[where].min()) if len(where) else 0
    for name, estimate, draws in (
        ("before", value[0], drawn[:, 0]),
        ("after", value[1], drawn[:, 1]),
        ("difference", value[1] - value[0], drawn[:, 1] - drawn[:, 0]),
    ):
        draws = draws[~np.isnan(draws)]
        low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) and not np.isnan(estimate) else (np.nan, np.nan)
        if name != "difference" and estimate in (0.0, 1.0):
            # of n patients none was misplaced: up to unseen(n) of all may be, each costing at most 1
            low, high = (
                (0.0, intervals.unseen(n_patients)) if estimate == 0 else (1 - intervals.unseen(n_patients), 1.0)
            )
        row[name], row[f"{name}_low"], row[f"{name}_high"] = float(estimate), float(low), float(high)
    return {
        **row,
        "n": int(found.n[where].max()) if len(where) else 0,
        "n_positive": int(found.n_positive[where].sum()) if len(where) else 0,
        "n_patients": n_patients,
        "flag": flag,
        "draws": len(found.draws),
    }


def _empty(measure: str, common: dict[str, Any], flag: str) -> dict[str, Any]:
    figures = {f"{name}{end}": np.nan for name in ("before", "after", "difference") for end in ("", "_low", "_high")}
    counts = {"n": 0, "n_positive": 0, "n_patients": 0, "draws": 0}
    return {**common, "measure": measure, "label": MACRO, "declared": False, "flag": flag, **figures, **counts}


def _label_matched(
    entry: Entry,
    split: str,
    images: Sequence[np.ndarray],
    heads: Sequence[Heads],
    patients: np.ndarray,
    common: dict[str, Any],
) -> dict[str, Any]:
    """Does the score know the very patient beyond the findings? Cosine, over reports with the same 14 labels."""
    base = entry.embeddings(split=split)
    keys = base.candidates["report_key"].drop_duplicates()
    place = pd.Index(keys).get_indexer(base.candidates["report_key"])
    texts = entry.features("text", keys)
    values = [
        strata.label_matched_auc(strata.count(replace(base, images=one, reports=unit(its.text(texts))[place])))
        for one, its in zip(images, heads, strict=True)
    ]
    found = [intervals.rate_intervals(one, patients, seed=common["seed"]) for one in values]
    found.append(intervals.cluster_bootstrap(values[1] - values[0], patients, seed=common["seed"]))
    n_patients = len(np.unique(patients[~np.isnan(values[0])]))
    row: dict[str, Any] = {**common, "measure": "label-matched", "label": "", "declared": False}
    for one, name in zip(found, ("before", "after", "difference"), strict=True):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = (
            float(getattr(one, part)[0]) for part in ("estimate", "low", "high")
        )
    counts = {"n": int(found[0].n[0]), "n_positive": 0, "n_patients": n_patients, "draws": found[0].draws}
    return {**row, **counts, "flag": intervals.flag_of(patients[~np.isnan(values[0])])}
