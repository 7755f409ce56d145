"""A store for releases: `toy` (synthetic), `clinic` (not), `open` (public); one model, no patient in two of them."""

from __future__ import annotations

from pathlib import Path

from helpers.lab_store import cohort
from linkage_core.embed.embedding import import_arrays
from linkage_core.store.entry import Store

MODEL = "m"


def build(root: Path) -> Path:
    store = Store(root)
    for name, n_patients, synthetic, seed in (("toy", 150, True, 0), ("clinic", 120, False, 1), ("open", 200, True, 2)):
        found, images, texts = cohort(name, n_patients, synthetic=synthetic, seed=seed, splits=("heldout",))
        import_arrays(found, MODEL, images, texts, store)
    return root
