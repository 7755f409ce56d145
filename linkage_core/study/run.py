"""A published study's design as one preset: one run, and its tables side by side with the published figures.

Where the study states nothing in what we have (its abstract), the tables say so, and what is done here instead
(DESIGN). Everything is measured by the functions that the other commands use: audit.Study for linkage, lab for
mitigation, attackers and use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core import tables
from linkage_core.attacks import attack
from linkage_core.attacks.attackers import COSINE
from linkage_core.attacks.held import hold
from linkage_core.audit import compare
from linkage_core.audit import study as auditing
from linkage_core.cohorts.base import Cohort
from linkage_core.embed.embedding import embed
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import InputError, StoreError
from linkage_core.lab import measured
from linkage_core.mitigation import finetune as finetuning
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store
from linkage_core.store.files import versions
from linkage_core.study.design import (
    DESIGN,
    SCHEMA,
    UNSTATED,
    Preset,
    StudyRun,
    heads_of,
    rate_head,
    strongest,
    study_pairs,
)
from linkage_core.study.side_by_side import side_by_side
from linkage_core.validate import new_folder

RELEASE = "embeddings-and-heads"
"""What leaves: the attackers hold the embeddings and both heads."""


def run(
    store: Store,
    design: Preset,
    *,
    mimic: str,
    chexpert: str = "",
    models: Sequence[str] = (),
    mitigate: Sequence[str] = (),
    reproducible: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> StudyRun:
    """Embed, audit, mitigate and measure as the preset says. What the store has already is not made again.

    Arguments
        mimic, chexpert: a folder (MIMIC-CXR or MIMIC-CXR-JPG; CheXpert Plus), or a cohort of the store, which is taken
            as it was embedded. Without chexpert nothing external is measured.
        models: names of encoders; default the preset's. mitigate: the models whose heads are finetuned; default the one
            that links best.
        reproducible: keep the seeds of noise; not private, for synthetic data.

    Everything that was asked for is looked up before the first image is read. Raises InputError for a folder that is
    neither, a cohort without a held-out split or without views, and models that are not there or cannot be loaded.
    """
    chosen = tuple(models) or design.models
    for model in mitigate:
        if model not in chosen:
            raise InputError(f"{model!r} is not among the models: {', '.join(chosen)}.", "Mitigate one of them.")
    places = {role: _place(store, where, chosen) for role, where in (("mimic", mimic), ("chexpert", chexpert)) if where}
    folders = {role: place for role, place in places.items() if isinstance(place, Path)}
    if folders:
        for done, model in enumerate(chosen):
            progress("models", done, len(chosen))
            load_encoder(model, store_root=store.root, device=device)  # and let go: only whether it can be
        progress("models", len(chosen), len(chosen))
    cohorts = {role: study_pairs(folder, design, role, progress) for role, folder in folders.items()}
    made = {
        role: place
        if isinstance(place, dict)
        else {model: _embedded(store, cohorts[role], role, model, device, progress) for model in chosen}
        for role, place in places.items()
    }
    found = StudyRun(design, made["mimic"], made.get("chexpert", {}))
    _linkage(found, progress)
    _mitigation(found, tuple(mitigate) or (strongest(found),), reproducible, progress)
    found.tables["design"] = pd.DataFrame([*DESIGN, _views(found)], columns=["part", "published", "here"])
    found.tables["side-by-side"] = side_by_side(found)
    return found


# ------------------------------------------------------------------------------------------------- cohorts and pairs


def _place(store: Store, where: str, models: Sequence[str]) -> Path | dict[str, Entry]:
    """The folder to embed, or a stored cohort as each model saw it."""
    if Path(where).is_dir():
        return Path(where)
    if Path(where).name != where:
        raise InputError(f"There is no folder {where}.", "Give a folder, or the name of a cohort of the store.")
    entries = {model: store.open(where, model) for model in models}
    for entry in entries.values():
        if entry.default_split != "heldout":
            raise InputError(
                f"{entry.cohort}/{entry.model} is audited as a whole (split {entry.default_split!r}).",
                "Give the folder of the cohort: the study needs a held-out split of its own.",
            )
    return entries


def _embedded(store: Store, cohort: Cohort, role: str, model: str, device: str, progress: Progress) -> Entry:
    def tell(stage: str, done: int, total: int) -> None:
        progress(f"{role} {model}: {stage}", done, total)

    return embed(cohort, load_encoder(model, store_root=store.root, device=device), store, progress=tell)


def _views(found: StudyRun) -> tuple[str, str, str]:
    """The row of the design that says of how many pairs nobody knows the view."""
    entries = [next(iter(one.values())) for one in (found.mimic, found.chexpert) if one]
    unknown = [(entry.cohort, entry.records()["view"]) for entry in entries]
    said = "; ".join(f"{cohort}: {(view == '').sum():,} of {len(view):,} pairs" for cohort, view in unknown)
    return "pairs whose view (PA, AP, lateral) is not known", UNSTATED, said


# ------------------------------------------------------------------------------------------------------------ linkage


def _linkage(found: StudyRun, progress: Progress) -> None:
    """Recall@k over N and with hard negatives, for every model and cohort."""
    rows, hard = [], []
    entries = [*found.mimic.values(), *found.chexpert.values()]
    for done, entry in enumerate(entries):
        progress("linkage", done, len(entries))
        study = auditing.study(entry, seed=found.preset.seed)
        rows.append(_table(study, found.preset))
        try:
            matched = auditing.study(entry, pool=auditing.HARD_NEGATIVES, seed=found.preset.seed)
        except InputError as error:
            found.left_out[f"hard negatives of {entry.cohort}/{entry.model}"] = error.what
            continue
        said = matched.label_matched_auc()
        hard.append(
            _table(matched, found.preset, decoys=True).assign(
                label_matched_auc=said["estimate"],
                **{f"auc_{name}": said[name] for name in ("low", "high", "n", "flag")},
            )
        )
    progress("linkage", len(entries), len(entries))
    found.tables["linkage"] = pd.concat(rows, ignore_index=True)
    if hard:
        found.tables["hard-negatives"] = pd.concat(hard, ignore_index=True)


def _table(study: auditing.Study, design: Preset, decoys: bool = False) -> pd.DataFrame:
    """The preset's N and k as far as queries can fill them, the largest common N, and the whole database."""
    largest = study.largest_pool
    steps = {10, 100, 1000} if decoys else set(design.pool_sizes)
    sizes = sorted({n for n in steps if n <= largest} | ({study.common_pool} if study.common_pool > 1 else set()))
    ks = [k for k in design.ks if k <= min([*sizes, largest])] or [1]
    return study.table([*sizes, "full"], ks).assign(largest_pool=largest)


# --------------------------------------------------------------------------------------------------------- mitigation


def _mitigation(found: StudyRun, models: Sequence[str], reproducible: bool, progress: Progress) -> None:
    """Heads of the study's mechanism and ours, attacked and used on held-out patients and, as they are, abroad."""
    linkage: list[pd.DataFrame] = []
    utility: list[pd.DataFrame] = []
    records: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    rates: list[dict[str, Any]] = []
    for model in models:
        entry, abroad = found.mimic[model], found.chexpert.get(model)
        externals = [abroad] if abroad is not None else []
        plan = [(OFF_THE_SHELF, "", finetuning.Options()), *heads_of(found.preset, reproducible)]
        for name, mechanism, options in plan:
            entry = entry.again()
            try:
                if mechanism and name not in measured.head_names(entry):
                    measured.train(entry, mechanism, options, name, progress)
                    entry = entry.again()
                cohorts = [entry.cohort, *(one.cohort for one in externals)]
                if not all(measured.measured(entry, name, cohort) for cohort in cohorts):
                    measured.measure(
                        entry, name, externals=externals, known=("all",), seed=found.preset.seed, progress=progress
                    )
            except (InputError, StoreError) as error:
                found.left_out[f"{name} of {entry.cohort}/{model}"] = str(error)
                continue
            if mechanism:
                records.append({"model": model, "head": name, **_said(entry.head_record(name))})
        entry = entry.again()
        names = [name for name, _, _ in plan]
        for table, rows in ((measured.linkage(entry), linkage), (measured.utility(entry), utility)):
            rows.append(table[table["head"].isin(names)].assign(model=model))
        rates += [{"model": model, **row} for row in _rates(entry, found, reproducible, progress)]
        for cohort in (entry, *externals):
            progress("changes", 0, 1)
            changes += [{"model": model, **row} for row in _changes(entry, cohort, linkage[-1], found.preset)]
    progress("changes", 1, 1)
    found.tables["changes"] = pd.DataFrame(changes)
    found.tables["rates"] = pd.DataFrame(rates)
    found.tables["mitigation"] = pd.concat(linkage, ignore_index=True)
    found.tables["utility"] = pd.concat(utility, ignore_index=True)
    found.tables["heads"] = pd.DataFrame(records)


def _rates(entry: Entry, found: StudyRun, reproducible: bool, progress: Progress) -> list[dict[str, Any]]:
    """Change of cosine's Recall@1 under the study's recipe, at one epsilon and delta, by its learning rate alone."""
    design = found.preset
    before = auditing.study(entry, seed=design.seed)
    n = max([size for size in design.pool_sizes if size <= before.common_pool], default=before.common_pool)
    patients = before.queries["patient_id"].to_numpy(str)
    _, mechanism, options = heads_of(design, reproducible)[0]
    rows = []
    for done, rate in enumerate(design.rates):
        progress("learning rates", done, len(design.rates))
        name, now = rate_head(design, rate), entry.again()
        try:
            if name not in measured.head_names(now):
                measured.train(now, mechanism, replace(options, rate=rate), name)
                now = now.again()
            after = auditing.study(now, name, seed=design.seed)
        except (InputError, StoreError) as error:
            found.left_out[f"{name} of {entry.cohort}/{entry.model}"] = str(error)
            continue
        change = compare.relative_change(before.recall(n, 1)[0], after.recall(n, 1)[0], patients, design.seed)
        said = now.head_record(name)
        rows.append(
            {"head": name, "rate": rate, "cohort": entry.cohort, "attacker": COSINE, "pool_size": n}
            | {"epsilon": design.epsilon, "delta": said.get("delta"), **change}
        )
    progress("learning rates", len(design.rates), len(design.rates))
    return rows


def _changes(entry: Entry, cohort: Entry, linkage: pd.DataFrame, design: Preset) -> list[dict[str, Any]]:
    """Recall@1 off the shelf and under each head of the entry, on the same images of a cohort, by who attacks."""
    table = linkage[(linkage["cohort"] == cohort.cohort) & (linkage["release"] == RELEASE) & (linkage["k"] == 1)]
    heads = [head for head in table["head"].unique() if head != OFF_THE_SHELF]
    if not heads:
        return []
    n = max(size for size in table["pool_size"] if size <= max(design.pool_sizes))
    table = table[(table["pool_size"] == n) & (table["attacker"] == measured.WORST)].set_index("head")

    patients = cohort.records(cohort.tested_split)["patient_id"].to_numpy(str)

    def recalls(head: str) -> dict[str, np.ndarray]:
        source = None if cohort is entry else entry
        held = hold(cohort, head, source=source, seed=design.seed)
        return {
            role: attack.attack(cohort, head, name, RELEASE, "all", design.seed, source=source, held=held).study.recall(
                n, 1
            )[0]
            for role, name in ((COSINE, COSINE), (measured.WORST, table.loc[head, "named"]))
        }

    before = recalls(OFF_THE_SHELF)
    return [
        {"head": head, "cohort": cohort.cohort, "attacker": attacker, "pool_size": n}
        | compare.relative_change(before[attacker], after, patients, design.seed)
        for head in heads
        for attacker, after in recalls(head).items()
    ]


def _said(record: dict[str, Any]) -> dict[str, Any]:
    names = (
        "mechanism",
        "epsilon",
        "reported_epsilon",
        "delta",
        "unit",
        "sigma",
        "q",
        "steps",
        "clip",
        "claim",
        "says",
    )
    return {name: record.get(name) for name in names} | {"n_pairs": (record.get("trained_on") or {}).get("n_pairs")}


# -------------------------------------------------------------------------------------------------------- side by side


# ------------------------------------------------------------------------------------------------------------ writing


def write(found: StudyRun, folder: Path) -> dict[str, Any]:
    """Every table as CSV, and study.json with the preset and what it was made from; returns study.json's content."""
    new_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in found.tables.items():
        (folder / f"{name}.csv").write_bytes(tables.csv(table))
    content = summary(found)
    (folder / "study.json").write_text(json.dumps(content, indent=1, allow_nan=False, default=str) + "\n", "utf-8")
    return content


def summary(found: StudyRun) -> dict[str, Any]:
    """The JSON object of the run: schema, preset, entries, side by side, design, what was left out."""
    entries = {
        f"{entry.cohort}/{entry.model}": {
            "fingerprint": entry.fingerprint,
            "counts": entry.manifest["counts"],
            "cohort": {key: value for key, value in entry.manifest["cohort"].items() if key != "root"},
            "model": entry.manifest["model"],
        }
        for entry in (*found.mimic.values(), *found.chexpert.values())
    }
    return {
        "schema": SCHEMA,
        "preset": asdict(found.preset),
        "source": "arXiv:2606.02276; published figures are those of its abstract",
        "entries": entries,
        "synthetic": all(entry.synthetic for entry in (*found.mimic.values(), *found.chexpert.values())),
        "side_by_side": tables.rows(found.tables["side-by-side"]),
        "design": tables.rows(found.tables["design"]),
        "left_out": found.left_out,
        "versions": versions(),
    }
