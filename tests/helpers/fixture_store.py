"""A small store for tests of the pages, written by the core's own writer: made of noise, in two seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.toy import fill, toy_cohort
from linkage_core.cohorts.base import LABELS, Cohort
from linkage_core.store.entry import LADDER, Store

SIGNAL = dict(zip(LADDER, (0.15, 0.3, 0.5, 0.9), strict=True))
N_STUDIES = 400
N_REAL = 60
FINDINGS = (
    "No acute process.",
    "Small left effusion.",
    "Heart size is mildly enlarged.",
    "Nodule in the right upper zone.",
)


def cohort(name: str, n_studies: int, *, synthetic: bool, seed: int) -> Cohort:
    """n studies of two a patient; every fourth has two images; every third report a text that others share."""
    rng = np.random.default_rng(seed)
    rows = []
    for study in range(n_studies):
        shared = study % 3 == 0
        text = FINDINGS[study % 4] if shared else f"{FINDINGS[study % 4]} Unlike study {study}."
        for image in range(2 if study % 4 == 0 else 1):
            labels = dict(zip(LABELS, rng.choice([np.nan, 0.0, 1.0], size=len(LABELS)), strict=True))
            rows.append(
                {
                    "record_id": f"{name}-{study:04d}-{image}",
                    "patient_id": f"{name}-p{study // 2:04d}",
                    "study_id": f"{name}-s{study:04d}",
                    "view": "PA" if image == 0 else "LATERAL",
                    "sex": "FM"[study % 2],
                    "age": 20.0 + study % 60,
                    **labels,
                    "report": text,
                }
            )
    return toy_cohort(name, pd.DataFrame(rows), synthetic=synthetic)


def build(root: Path) -> Path:
    """A synthetic cohort named as the phantom with the four rungs, and a small real-looking one with another model."""
    store = Store(root)
    phantom = cohort("phantom", N_STUDIES, synthetic=True, seed=0)
    for i, (model, signal) in enumerate(SIGNAL.items()):
        fill(store, phantom, model, signal, seed=i + 1)
    real = cohort("our-hospital", N_REAL, synthetic=False, seed=9)
    fill(store, real, "phantom-radiology", 0.5, seed=7)
    fill(store, real, "hf:ORG/our-model", 1.0, seed=8)
    return root
