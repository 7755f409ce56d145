"""The phantom as a cohort: records with reports and labels, and images drawn when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, rejects_table
from linkage_core.cohorts.phantom import grammar, population
from linkage_core.cohorts.phantom.population import SEED, Site, Study
from linkage_core.cohorts.phantom.render import radiograph
from linkage_core.cohorts.phantom.scene import Scene
from linkage_core.errors import InputError
from linkage_core.images.pixels import Radiograph

EMBEDDED_SIZE = 64
"""Pixels a side of the images that the encoders were trained on and that an embedding run reads."""

NAMES: dict[Site, str] = {"A": "phantom", "B": "phantom-site-b"}


def scene_of(record_id: str, seed: int = SEED) -> Scene:
    """What one image shows; InputError for an id that the phantom does not have."""
    view = population.parse_id(record_id)[3]
    if view is None:
        raise InputError(f"{record_id!r} is the id of a study.", "Give the id of an image, such as A-400123-2-PA.")
    return population.scene(population.study_of(record_id, seed), view, seed)


def report_of(study_id: str, seed: int = SEED) -> str:
    """The report of a study (the id of one of its images will do); InputError for an id the phantom does not have."""
    return grammar.report(population.study_of(study_id, seed), seed).text


def image_of(record_id: str, size: int = 512, seed: int = SEED) -> Radiograph:
    """One image, drawn at `size` pixels a side."""
    return radiograph(scene_of(record_id, seed), size)


def drawn(record_id: str, seed: int = SEED) -> np.ndarray:
    """The pixels that the encoders see: (EMBEDDED_SIZE, EMBEDDED_SIZE) uint16."""
    return image_of(record_id, EMBEDDED_SIZE, seed).pixels


def records_of(studies: Iterable[Study], seed: int = SEED) -> pd.DataFrame:
    """One row an image with RECORD_COLUMNS; the image column is empty, for there are no files."""
    rows: dict[str, list[Any]] = {column: [] for column in RECORD_COLUMNS}
    for study in studies:
        report = grammar.report(study, seed)
        split = population.split_of(study.site, study.patient)
        for view in study.views:
            rows["record_id"].append(study.record_id(view))
            rows["patient_id"].append(study.patient_id)
            rows["study_id"].append(study.study_id)
            rows["image"].append("")
            rows["view"].append(view)
            rows["sex"].append(study.anatomy.sex)
            rows["age"].append(float(study.anatomy.age))
            rows["split"].append(split)
            rows["report"].append(report.text)
            for label in LABELS:
                rows[label].append(report.labels.get(label, np.nan))
    return pd.DataFrame(rows).astype({"age": float, **dict.fromkeys(LABELS, float)})


def _read_image(image_size: int, seed: int, row: Any) -> Radiograph:
    return image_of(str(row["record_id"]), image_size, seed)


def read(
    site: Site = "A",
    split: str | tuple[str, ...] = "all",
    seed: int = SEED,
    *,
    patients: int | None = None,
    image_size: int = EMBEDDED_SIZE,
) -> Cohort:
    """The phantom of one site as a cohort.

    `split` is heldout, attacker, finetune or several of them; "all" means heldout and attacker, the two that ship
    (finetune has some 60,000 records and is read on request). `patients` keeps the first so many patients of each
    split. Images come at `image_size` pixels a side.
    """
    if site not in NAMES:
        raise InputError(f"site is {site!r}.", "The phantom has the sites A and B.")
    there = [name for name in population.PATIENTS[site] if name != "encoder"]
    default = tuple(name for name in ("heldout", "attacker") if name in there)
    splits = default if split == "all" else (split,) if isinstance(split, str) else split
    unknown = [name for name in splits if name not in there]
    if unknown:
        raise InputError(f"The phantom's site {site} has no split {unknown[0]!r}.", f"It has: {', '.join(there)}.")
    studies = (study for name in splits for study in population.studies_of_split(site, name, seed, patients))

    return Cohort(
        name=NAMES[site],
        kind=NAMES[site],
        root=None,
        records=records_of(studies, seed),
        rejects=rejects_table([]),
        read_image=partial(_read_image, image_size, seed),
        synthetic=True,
        default_split="heldout",
        options={"seed": seed, "splits": list(splits), "patients": patients},
    )
