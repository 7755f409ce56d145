"""Published and reproduced figures beside each other, each with its interval and its caution."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.attacks.attackers import COSINE
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.mitigation import mechanisms
from linkage_core.store.entry import Entry
from linkage_core.study.design import UNSTATED, Preset, StudyRun, heads_of, strongest, training_cohort
from linkage_core.utility.table import MACRO


def side_by_side(found: StudyRun) -> pd.DataFrame:
    """Each published figure and what was found here: columns figure, published, here, low, high, what.

    here is NaN where the figure cannot be made; `what` says what was measured, or why not.
    """
    rows: list[dict[str, Any]] = []

    def row(
        figure: str,
        published: Any,
        here: float = math.nan,
        low: float = math.nan,
        high: float = math.nan,
        what: str = "",
    ) -> None:
        rows.append({"figure": figure, "published": published, "here": here, "low": low, "high": high, "what": what})

    mimic = next(iter(found.mimic.values()))
    chexpert = next(iter(found.chexpert.values())) if found.chexpert else None
    there = [mimic] if chexpert is None else [mimic, chexpert]
    row("pairs", "406,241", sum(len(one.records()) for one in there), what=f"images embedded of {_names(there)}")
    row("patients", "126,804", sum(one.records()["patient_id"].nunique() for one in there), what=_names(there))
    for one, published, role in ((mimic, "43,793", "MIMIC-CXR"), (chexpert, "29,296", "CheXpert Plus")):
        held = math.nan if one is None else len(one.records("heldout"))
        row(f"held-out pairs, {role}", published, held, what="not given" if one is None else one.cohort)
    trained = mimic.records("finetune") if "finetune" in set(mimic.records()["split"]) else mimic.records()[:0]
    row("pairs that train the heads", "up to 333,152", len(trained), what=f"{mimic.cohort}; see design")
    read = "; ".join(f"{one.cohort}: {labels_line(one.labels_note())}" for one in there)
    row("labels of the 14 findings", UNSTATED, what=read)
    linkage = found.tables["linkage"]
    best = strongest(found)
    for role, entries in (("MIMIC-CXR", found.mimic), ("CheXpert Plus", found.chexpert)):
        if not entries:
            continue
        table = linkage[(linkage["cohort"] == training_cohort(entries)) & (linkage["k"] == 1)]
        mine = table[table["model"] == entries[best].model]
        for n, published in ((100, "15"), (10_000, "50")):
            published = published if role == "MIMIC-CXR" else UNSTATED
            _lift(row, mine, n, f"times chance at N={n:,}, strongest model, {role}", published, best)
        _lift(row, mine, "full", f"times chance, full database, {role}", "well above chance (1)", best)
    table = linkage[(linkage["cohort"] == mimic.cohort) & (linkage["k"] == 1) & (linkage["pool_size"] != "full")]
    n = table["pool_size"].max()
    lifts = table[table["pool_size"] == n].set_index("model")["lift"]
    order = [entry.model for entry in found.mimic.values()]
    rising = bool(np.all(np.diff([lifts[model] for model in order]) > 0))
    said = ", ".join(f"{model} {lifts[model]:.2f}" for model in order)
    row("rises with specialisation", "yes", float(rising), what=f"times chance at N={n:,}: {said}; 1 is yes")
    _hard(found, best, row)
    _mitigated(found, row)
    _by_rate(found, row)
    return pd.DataFrame(rows)


def _counted(n: int, flag: str) -> str:
    return f"{n:,} images, {flag}" if flag else f"{n:,} images"


def _names(entries: Sequence[Entry]) -> str:
    return " and ".join(f"{one.cohort}/{one.model}" for one in entries)


def _lift(row: Callable[..., None], table: pd.DataFrame, n: Any, figure: str, published: str, model: str) -> None:
    exact = table[table["pool_size"] == n]
    if exact.empty:
        largest = int(table["largest_pool"].max())
        row(figure, published, what=f"no pool of that size: at most {largest:,} reports; see linkage")
        return
    one = exact.iloc[0]
    values = [one[name] / one["chance"] for name in ("recall", "recall_low", "recall_high")]
    row(figure, published, *values, what=f"{model}, {_counted(one['n_queries'], one['flag'])}")


def _hard(found: StudyRun, best: str, row: Callable[..., None]) -> None:
    figure = "hard negatives: label-matched AUC"
    table = found.tables.get("hard-negatives")
    if table is not None:
        table = table[(table["cohort"] == training_cohort(found.mimic)) & (table["model"] == found.mimic[best].model)]
    if table is None or table.empty:
        row(figure, "the signal persists (above 0.5)", what="no decoys with the same findings")
        return
    one = table.iloc[0]
    what = f"{best}, {_counted(one['auc_n'], one['auc_flag'])}"
    row(figure, "the signal persists (above 0.5)", one["label_matched_auc"], one["auc_low"], one["auc_high"], what)
    for _, one in table[(table["k"] == 1) & (table["pool_size"] != "full")].iterrows():
        values = [one[name] / one["chance"] for name in ("recall", "recall_low", "recall_high")]
        row(
            f"hard negatives: times chance at N={one['pool_size']:,}",
            UNSTATED,
            *values,
            what=f"{best}, {_counted(one['n_queries'], one['flag'])}",
        )


def _mitigated(found: StudyRun, row: Callable[..., None]) -> None:
    """Change of Recall@1 and of the probe, for the study's mechanism and for ours, by cosine and the worst attacker."""
    changes, utility = found.tables["changes"], found.tables["utility"]
    role = {training_cohort(found.mimic): "MIMIC-CXR"} | (
        {training_cohort(found.chexpert): "CheXpert Plus"} if found.chexpert else {}
    )
    heads = [name for name, _, _ in heads_of(found.preset, False)]
    for model in found.tables["mitigation"]["model"].unique():
        for head in heads:
            study = head.endswith(f"-{mechanisms.PAPER}")
            mechanism = head.removeprefix(f"{found.preset.name}-")
            for cohort, where in role.items():
                mine = (
                    changes[[]]
                    if changes.empty
                    else changes[
                        (changes["head"] == head) & (changes["cohort"] == cohort) & (changes["model"] == model)
                    ]
                )
                for one in mine.to_dict("records"):
                    published = UNSTATED
                    if study and one["attacker"] == COSINE:
                        said = "-61.8% at N=10,000" if where == "MIMIC-CXR" else "transfers without retraining"
                        published = _whose(said, model, found.preset)
                    what = f"N={one['pool_size']:,}: {one['before']:.4f} to {one['after']:.4f}"
                    row(
                        f"{mechanism}: change of Recall@1, {where}, {_attacker(one['attacker'])}",
                        published,
                        *(one[name] for name in ("change", "low", "high")),
                        what=f"percent; {model}, {what}, {_counted(one['n_queries'], one['flag'])}",
                    )
                probe = utility[
                    (utility["head"] == head)
                    & (utility["cohort"] == cohort)
                    & (utility["model"] == model)
                    & (utility["measure"] == "probe")
                    & (utility["label"] == MACRO)
                ]
                for _, one in probe.iterrows():
                    for when, figure in (("before", "79.63%"), ("after", "79.43%")):
                        row(
                            f"{mechanism}: macro AUROC of the probe {when}, {where}",
                            _whose(figure, model, found.preset) if study and where == "MIMIC-CXR" else UNSTATED,
                            *(100 * one[name] for name in (when, f"{when}_low", f"{when}_high")),
                            what=f"percent; {model}, {_counted(one['n'], one['flag'])}",
                        )


def _whose(published: str, model: str, design: Preset) -> str:
    """A published figure of mitigation, with the model it belongs to where that is another one.

    >>> _whose("79.63%", "clip", Preset("x")), _whose("79.63%", "biovil-t", Preset("x"))
    ('79.63% (of biovil-t, not of clip)', '79.63%')
    """
    if published == UNSTATED or model == design.mitigated:
        return published
    return f"{published} (of {design.mitigated}, not of {model})"


def _by_rate(found: StudyRun, row: Callable[..., None]) -> None:
    """How far the learning rate alone moves a reading of the study's recipe, at one epsilon and delta."""
    for one in found.tables["rates"].to_dict("records"):
        row(
            f"paper, a reading of the study's recipe, at rate {one['rate']:g}: change by cosine",
            UNSTATED,
            *(one[name] for name in ("change", "low", "high")),
            what=f"percent; {one['model']}, epsilon {one['epsilon']:g}, N={one['pool_size']:,}, "
            f"{_counted(one['n_queries'], one['flag'])}",
        )


def _attacker(attacker: str) -> str:
    return attacker if attacker == COSINE else "worst attacker"
