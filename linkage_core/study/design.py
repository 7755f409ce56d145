"""The study's design as a preset: cohorts, models, pool sizes, and what it leaves unstated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import pandas as pd

from linkage_core.cohorts import chexpert_plus, mimic_cxr
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.published import find_table
from linkage_core.cohorts.registry import open_cohort
from linkage_core.errors import InputError
from linkage_core.mitigation import finetune as finetuning
from linkage_core.mitigation import mechanisms, oneshot
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import Entry

SCHEMA = 1
UNSTATED = "not stated in what we have"


@dataclass(frozen=True)
class Preset:
    """A study's design. fractions: shares of patients (finetune, attacker, heldout) in each cohort.

    epsilon and delta are of the study's mechanism (`paper`); ours get the same epsilon, and delta by their own rule.
    rates: learning rates that the study's recipe is run at, because it states none. mitigated: the model that the
    published figures of mitigation belong to.
    """

    name: str
    models: tuple[str, ...] = ("clip", "pubmedclip", "biomedclip", "biovil-t")
    pool_sizes: tuple[int, ...] = (100, 1000, 10_000)
    ks: tuple[int, ...] = (1, 5, 10)
    section: str = "both"
    mimic_fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
    chexpert_fractions: tuple[float, float, float] = (0.644, 0.2, 0.156)
    epsilon: float = mechanisms.PAPER_EPSILON
    delta: float = 6e-6
    ours: tuple[str, ...] = (mechanisms.LABEL, oneshot.LABEL)
    rates: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    mitigated: str = "biovil-t"
    seed: int = 0


PRESETS = {
    one.name: one
    for one in (
        Preset("arxiv-2606.02276"),
        # heads trained on the share of patients that the study can have had: all but the held-out and a few to attack
        Preset("arxiv-2606.02276-share", mimic_fractions=(0.78, 0.02, 0.2), chexpert_fractions=(0.824, 0.02, 0.156)),
    )
}

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
        "mechanism paper, a reading of the study's recipe: in-batch InfoNCE, AdamW, Opacus; ours beside it",
    ),
    ("batch, steps, clip, rate", UNSTATED, "PaperRecipe, in each head's record; the rate alone spans a range: rates"),
    (
        "pairs that train the heads",
        "up to 333,152: all pairs but the held-out",
        "the share of MIMIC-CXR's patients in study.json; arxiv-2606.02276-share gives the study's",
    ),
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


def strongest(found: StudyRun) -> str:
    """The model with the highest Recall@1 at the largest N that all of MIMIC-CXR's held-out queries can fill."""
    table = found.tables["linkage"]
    table = table[
        (table["cohort"] == training_cohort(found.mimic)) & (table["k"] == 1) & (table["pool_size"] != "full")
    ]
    best = table.sort_values(["pool_size", "recall"], ascending=False, kind="stable").iloc[0]["model"]
    return next(model for model, entry in found.mimic.items() if entry.model == best)


def training_cohort(entries: dict[str, Entry]) -> str:
    return next(iter(entries.values())).cohort


def rate_head(design: Preset, rate: float) -> str:
    """Name of the head of the study's recipe at a learning rate."""
    return f"{design.name}-{mechanisms.PAPER}-rate{rate:g}"


def heads_of(design: Preset, reproducible: bool) -> list[tuple[str, str, finetuning.Options]]:
    """(name, mechanism, options) of the study's mechanism and of ours."""
    seed = design.seed if reproducible else None
    study = finetuning.Options(
        epsilon=design.epsilon, delta=design.delta, allow_large_delta=True, unit="pair", seed=seed
    )
    own = finetuning.Options(epsilon=design.epsilon, seed=seed)
    return [
        (f"{design.name}-{mechanism}", mechanism, study if mechanism == mechanisms.PAPER else own)
        for mechanism in (mechanisms.PAPER, *design.ours)
    ]
