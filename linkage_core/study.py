"""A published study's design as one preset: one run, and its tables side by side with the published figures.

Where the study states nothing in what we have (its abstract), the tables say so, and what is done here instead
(DESIGN). Everything is measured by the functions that the other commands use: audit.Study for linkage, lab for
mitigation, attackers and use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core import attackers, comparisons, lab, spreadsheet
from linkage_core import audit as auditing
from linkage_core.cohorts import chexpert_plus, mimic_cxr
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.published import find_table
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embedding import embed
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import InputError, StoreError
from linkage_core.mitigation import finetune as finetuning
from linkage_core.mitigation import oneshot
from linkage_core.progress import Progress, silent
from linkage_core.store import OFF_THE_SHELF, Entry, Store, versions
from linkage_core.utility import MACRO

SCHEMA = 1
UNSTATED = "not stated in what we have"
RELEASE = "embeddings-and-heads"
"""What leaves: the attackers hold the embeddings and both heads."""


@dataclass(frozen=True)
class Preset:
    """A study's design. fractions: shares of patients (finetune, attacker, heldout) in each cohort.

    epsilon and delta are of the study's mechanism (`paper`); ours get the same epsilon, and delta by their own rule.
    """

    name: str
    models: tuple[str, ...] = ("clip", "pubmedclip", "biomedclip", "biovil-t")
    pool_sizes: tuple[int, ...] = (100, 1000, 10_000)
    ks: tuple[int, ...] = (1, 5, 10)
    section: str = "both"
    mimic_fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    chexpert_fractions: tuple[float, float, float] = (0.644, 0.2, 0.156)
    epsilon: float = finetuning.PAPER_EPSILON
    delta: float = 6e-6
    ours: tuple[str, ...] = (finetuning.LABEL, oneshot.LABEL)
    seed: int = 0


PRESETS = {one.name: one for one in (Preset("arxiv-2606.02276"),)}

DESIGN = (
    ("models", "CLIP, PubMedCLIP, BiomedCLIP, BioViL-T", "those named"),
    ("a pair", UNSTATED, "one image and the report of its study: the first frontal image of each study"),
    ("split", "held-out pairs; how patients were drawn is not stated", "by patient, seeded; shares in study.json"),
    ("part of the report", UNSTATED, "findings and impression (--section)"),
    ("pool", UNSTATED, "the match and reports of other patients, uniform without replacement, exact in N"),
    ("k", "Recall@k; only Recall@1 is given a figure", "1, 5 and 10"),
    ("chance", UNSTATED, "k/N"),
    ("identical reports", UNSTATED, "ties are broken at random, in expectation"),
    (
        "hard negatives",
        "pathology-matched; how is not stated",
        "reports of other patients with the identical 14 labels, four-valued",
    ),
    (
        "mitigation",
        "encoders frozen, projection heads by differentially private optimization, epsilon 0.34, delta 6e-6",
        "mechanism paper: in-batch InfoNCE, AdamW, Opacus; ours beside it",
    ),
    ("batch, steps, clip, rate", UNSTATED, "PaperRecipe; in each head's record"),
    ("unit of privacy", UNSTATED, "paper: the pair; ours: the patient"),
    ("linear probe", "macro AUROC over 14 labels; training is not stated", "trained on the attacker's split"),
    ("transfer", "to CheXpert Plus without retraining", "the same heads and probes"),
)
"""(part of the design, as published, as done here)."""


@dataclass
class StudyRun:
    """The tables of one run. `entries` are cohort/model; `left_out` says what could not be made, and why."""

    preset: Preset
    mimic: dict[str, Entry]
    chexpert: dict[str, Entry]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def preset(name: str) -> Preset:
    """A preset by name; InputError lists them."""
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}.", f"They are: {', '.join(PRESETS)}.")
    return PRESETS[name]


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


def study_pairs(folder: Path, design: Preset, role: str, progress: Progress = silent) -> Cohort:
    """The cohort of a folder, cut to the study's pairs: the first frontal image of each study, held out by patient.

    A pair is not defined in what we have. Its 406,241 pairs are 98% of the 415,546 studies of both collections and 68%
    of their 600,572 images, and its 126,804 patients 97% of their patients: one frontal image a study fits. A study
    without an image known to be frontal keeps its first image whose view is not known, if it has one. InputError where
    no view is known at all: laterals would be taken too.
    """
    fractions = design.mimic_fractions if role == "mimic" else design.chexpert_fractions
    kind = _kind(folder, role)
    cohort = open_cohort(
        kind,
        folder,
        seed=design.seed,
        section=design.section,
        fractions=fractions,
        progress=lambda done, total: progress(f"{role}: headers", done, total),
    )
    if len(cohort.records) and (cohort.records["view"] == "").all():
        raise InputError(
            f"{folder} says of no image which view it is, so the first frontal image of a study cannot be told.",
            "Its table needs frontal_lateral and ap_pa, as published."
            if role == "chexpert"
            else "Put mimic-cxr-2.0.0-metadata.csv.gz (of MIMIC-CXR-JPG) there.",
        )
    records = cohort.records[cohort.records["view"] != "LATERAL"]
    first = records.assign(known=records["view"] == "").sort_values(["known", "record_id"], kind="stable")
    kept = first.drop_duplicates("study_id").drop(columns="known").sort_index().reset_index(drop=True)
    if kept.empty:
        raise InputError(f"{folder} has no frontal image with a report.", f"See: linkage cohort {kind} {folder}")
    return replace(cohort, name=f"{kind}-{design.name}", records=kept, default_split="heldout")


def _kind(folder: Path, role: str) -> str:
    """Which layout a folder has: JPEG where they and their metadata are there, whatever list lies beside them."""
    if role == "chexpert":
        return chexpert_plus.KIND
    if find_table(folder, r"mimic-cxr-[\d.]+-metadata") and _has_images(folder, "jpg"):
        return mimic_cxr.KIND_JPG
    if find_table(folder, "cxr-record-list") or _has_images(folder, "dcm"):
        return mimic_cxr.KIND
    return mimic_cxr.KIND_JPG


def _has_images(folder: Path, suffix: str) -> bool:
    """Whether one of the first few hundred studies has such a file."""
    studies = islice((folder / "files").glob("p??/p*/s*/"), 500)
    return any(next(study.glob(f"*.{suffix}"), None) is not None for study in studies)


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


def strongest(found: StudyRun) -> str:
    """The model with the highest Recall@1 at the largest N that all of MIMIC-CXR's held-out queries can fill."""
    table = found.tables["linkage"]
    table = table[(table["cohort"] == _cohort(found.mimic)) & (table["k"] == 1) & (table["pool_size"] != "full")]
    best = table.sort_values(["pool_size", "recall"], ascending=False, kind="stable").iloc[0]["model"]
    return next(model for model, entry in found.mimic.items() if entry.model == best)


def _cohort(entries: dict[str, Entry]) -> str:
    return next(iter(entries.values())).cohort


# --------------------------------------------------------------------------------------------------------- mitigation


def heads_of(design: Preset, reproducible: bool) -> list[tuple[str, str, finetuning.Options]]:
    """(name, mechanism, options) of the study's mechanism and of ours."""
    seed = design.seed if reproducible else None
    study = finetuning.Options(
        epsilon=design.epsilon, delta=design.delta, allow_large_delta=True, unit="pair", seed=seed
    )
    own = finetuning.Options(epsilon=design.epsilon, seed=seed)
    return [
        (f"{design.name}-{mechanism}", mechanism, study if mechanism == finetuning.PAPER else own)
        for mechanism in (finetuning.PAPER, *design.ours)
    ]


def _mitigation(found: StudyRun, models: Sequence[str], reproducible: bool, progress: Progress) -> None:
    """Heads of the study's mechanism and ours, attacked and used on held-out patients and, as they are, abroad."""
    linkage: list[pd.DataFrame] = []
    utility: list[pd.DataFrame] = []
    records: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for model in models:
        entry, abroad = found.mimic[model], found.chexpert.get(model)
        externals = [abroad] if abroad is not None else []
        plan = [(OFF_THE_SHELF, "", finetuning.Options()), *heads_of(found.preset, reproducible)]
        for name, mechanism, options in plan:
            entry = entry.again()
            try:
                if mechanism and name not in lab.head_names(entry):
                    lab.train(entry, mechanism, options, name, progress)
                    entry = entry.again()
                cohorts = [entry.cohort, *(one.cohort for one in externals)]
                if not all(lab.measured(entry, name, cohort) for cohort in cohorts):
                    lab.measure(
                        entry, name, externals=externals, known=("all",), seed=found.preset.seed, progress=progress
                    )
            except (InputError, StoreError) as error:
                found.left_out[f"{name} of {entry.cohort}/{model}"] = str(error)
                continue
            if mechanism:
                records.append({"model": model, "head": name, **_said(entry.head_record(name))})
        entry = entry.again()
        names = [name for name, _, _ in plan]
        for table, rows in ((lab.linkage(entry), linkage), (lab.utility(entry), utility)):
            rows.append(table[table["head"].isin(names)].assign(model=model))
        for cohort in (entry, *externals):
            progress("changes", 0, 1)
            changes += [{"model": model, **row} for row in _changes(entry, cohort, linkage[-1], found.preset)]
    progress("changes", 1, 1)
    found.tables["changes"] = pd.DataFrame(changes)
    found.tables["mitigation"] = pd.concat(linkage, ignore_index=True)
    found.tables["utility"] = pd.concat(utility, ignore_index=True)
    found.tables["heads"] = pd.DataFrame(records)


def _changes(entry: Entry, cohort: Entry, linkage: pd.DataFrame, design: Preset) -> list[dict[str, Any]]:
    """Recall@1 off the shelf and under each head of the entry, on the same images of a cohort, by who attacks."""
    table = linkage[(linkage["cohort"] == cohort.cohort) & (linkage["release"] == RELEASE) & (linkage["k"] == 1)]
    heads = [head for head in table["head"].unique() if head != OFF_THE_SHELF]
    if not heads:
        return []
    n = max(size for size in table["pool_size"] if size <= max(design.pool_sizes))
    table = table[(table["pool_size"] == n) & (table["attacker"] == lab.WORST)].set_index("head")

    patients = cohort.records(cohort.default_split)["patient_id"].to_numpy(str)

    def recalls(head: str) -> dict[str, np.ndarray]:
        source = None if cohort is entry else entry
        held = attackers.hold(cohort, head, source=source, seed=design.seed)
        chosen = {table.loc[head, "named"], *(name.split(" (")[0] for name in table.loc[head, "also"].split(", "))}
        found = {
            name: attackers.attack(cohort, head, name, RELEASE, "all", design.seed, source=source, held=held)
            for name in attackers.allowed(RELEASE, head)
            if name in {*chosen, "cosine"}
        }
        worst = [one.study.recall(n, 1)[0] for name, one in found.items() if name in chosen]
        return {
            "cosine": found["cosine"].study.recall(n, 1)[0],
            lab.WORST: attackers.cross_fitted(np.column_stack(worst), patients, design.seed)[0],
        }

    before = recalls(OFF_THE_SHELF)
    return [
        {"head": head, "cohort": cohort.cohort, "attacker": attacker, "pool_size": n}
        | comparisons.relative_change(before[attacker], after, patients, design.seed)
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
    return {name: record.get(name) for name in names} | {"n_pairs": record.get("trained_on", {}).get("n_pairs")}


# -------------------------------------------------------------------------------------------------------- side by side


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
    linkage = found.tables["linkage"]
    best = strongest(found)
    for role, entries in (("MIMIC-CXR", found.mimic), ("CheXpert Plus", found.chexpert)):
        if not entries:
            continue
        table = linkage[(linkage["cohort"] == _cohort(entries)) & (linkage["k"] == 1)]
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
        table = table[(table["cohort"] == _cohort(found.mimic)) & (table["model"] == found.mimic[best].model)]
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
    role = {_cohort(found.mimic): "MIMIC-CXR"} | ({_cohort(found.chexpert): "CheXpert Plus"} if found.chexpert else {})
    heads = [name for name, _, _ in heads_of(found.preset, False)]
    for model in found.tables["mitigation"]["model"].unique():
        for head in heads:
            study = head.endswith(f"-{finetuning.PAPER}")
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
                    if study and one["attacker"] == "cosine":
                        published = "-61.8% at N=10,000" if where == "MIMIC-CXR" else "transfers without retraining"
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
                            figure if study and where == "MIMIC-CXR" else UNSTATED,
                            *(100 * one[name] for name in (when, f"{when}_low", f"{when}_high")),
                            what=f"percent; {model}, {_counted(one['n'], one['flag'])}",
                        )


def _attacker(attacker: str) -> str:
    return "cosine" if attacker == "cosine" else "worst attacker"


# ------------------------------------------------------------------------------------------------------------ writing


def write(found: StudyRun, folder: Path) -> dict[str, Any]:
    """Every table as CSV, and study.json with the preset and what it was made from; returns study.json's content."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty directory.", "Name a new or empty directory.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in found.tables.items():
        (folder / f"{name}.csv").write_bytes(spreadsheet.csv(table))
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
        "side_by_side": spreadsheet.rows(found.tables["side-by-side"]),
        "design": spreadsheet.rows(found.tables["design"]),
        "left_out": found.left_out,
        "versions": versions(),
    }
