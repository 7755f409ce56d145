"""A small store with a mitigation lab: three splits, heads, attackers and use, in a few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.toy import toy_cohort, two_each
from linkage_core.cohorts.base import LABELS, Cohort
from linkage_core.embed.embedding import import_arrays
from linkage_core.lab import grid, measured
from linkage_core.mitigation.finetune import Options
from linkage_core.store.entry import Store

MODEL = "phantom-radiology"
FEW = LABELS[1:5]
MEASURED = "label-oneshot-eps0.34-seed0"


def cohort(
    name: str, n_patients: int, *, synthetic: bool, seed: int, splits: tuple[str, ...], labels: bool = True
) -> tuple[Cohort, np.ndarray, np.ndarray]:
    """(cohort, images, texts): two studies a patient; images and reports share findings and an instance."""
    rng = np.random.default_rng(seed)
    n = 2 * n_patients
    states = (rng.random((n, len(LABELS))) < 0.4).astype(float)
    texts = np.column_stack([2 * states, rng.standard_normal((n, 10))]).astype(np.float32)
    images = (texts + 0.7 * rng.standard_normal(texts.shape)).astype(np.float32)
    labelled = states if labels else np.full(states.shape, np.nan)
    records = two_each(
        name,
        n_patients,
        split=[splits[(i // 2) % len(splits)] for i in range(n)],
        **dict(zip(LABELS, labelled.T, strict=True)),
    )
    found = toy_cohort(name, records, synthetic=synthetic, default_split="heldout")
    return found, images, texts


def build(root: Path) -> Path:
    """`phantom` with heads and tables; `clinic`, real, with all splits and no head; `bare`, with neither labels nor
    splits."""
    store = Store(root)
    every = ("heldout", "attacker", "finetune")
    for name, n_patients, options in (
        ("phantom", 420, {"synthetic": True, "seed": 0, "splits": every}),
        ("clinic", 300, {"synthetic": False, "seed": 1, "splits": every}),
        ("bare", 60, {"synthetic": False, "seed": 2, "splits": ("heldout",), "labels": False}),
    ):
        found, images, texts = cohort(name, n_patients, **options)  # type: ignore[arg-type]
        import_arrays(found, MODEL, images, texts, store, store_text=True)
    few = {"findings": FEW, "suffix": f"-{len(FEW)}findings"}
    plan = [
        grid.planned("label-oneshot", 0.34, external=True),
        grid.planned("noise-only", 0.34, like="label-oneshot"),
        grid.planned("label-oneshot", 0.34, **few),
        grid.planned("rotation"),
    ]
    grid.build(store, "phantom", MODEL, plan=plan)
    entry = store.open("phantom", MODEL)
    # trained, and not yet measured
    measured.train(entry, "label-dpsgd", Options(epsilon=3.0, seed=0, steps=3))
    return root
