"""A small store with pictures: some of the phantom, and a folder of files whose reports are hostile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers.toy import fill
from linkage_core.cohorts import phantom
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.registry import open_cohort
from linkage_core.store.entry import Store

SECRET = "Quokkagram"
HOSTILE = (
    "<script>window.hit = 1</script> after the script",
    '<img src=x onerror="window.hit = 1"> after the image',
    "**bold** [link](javascript:window.hit=1) </bdi></li></ol></section> after the markdown",
    "\u202eafter the mark",
)
LONG = "Follow-up is advised in six weeks to document that all of what is said above has gone away."
LARGE = "p01-0.png"
LOST = "p05-1.png"


def clinic(folder: Path) -> Cohort:
    """24 files of 12 patients; every report holds SECRET, and one image is gone by the time it is looked at."""
    folder.mkdir(parents=True)
    rows = []
    for i in range(24):
        name = f"p{i // 2:02d}-{i % 2}.png"
        height, width = (1600, 1200) if name == LARGE else (64, 48)
        grey = np.add.outer(np.arange(height), np.arange(width) + 4 * i).astype(np.uint8)
        Image.fromarray(grey).save(folder / name)
        text = f"{SECRET} number {i}. {HOSTILE[i % 4]} {LONG}" if i % 3 else f"{SECRET} unremarkable."
        rows.append(
            {"image": name, "patient_id": f"p{i // 2:02d}", "study_id": f"s{i:02d}", "view": "PA", "report": text}
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    cohort = open_cohort("folder", folder)
    (folder / LOST).unlink()
    return cohort


def build(root: Path) -> Path:
    """The store below `root`; made in a second or two."""
    store = Store(root / "store")
    drawn = phantom.read(split="heldout", patients=70)
    for model, signal, seed in (("phantom-general", 0.2, 1), ("phantom-radiology", 0.7, 2)):
        fill(store, drawn, model, signal, seed, store_text=False)
    fill(store, clinic(root / "clinic"), "ours", 0.8, 3, store_text=False)
    return store.root
