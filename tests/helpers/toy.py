"""Small cohorts and stores, made through the real writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from linkage_core.cohorts import table
from linkage_core.embed.embedding import import_arrays
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import write_manifest


def toy_records(n_patients: int, seed: int = 0) -> pd.DataFrame:
    """One to three studies a patient, one or two images a study; every seventh report is the same sentence."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(n_patients):
        for study in range(rng.integers(1, 4)):
            number = len(rows)
            report = "No acute process." if number % 7 == 0 else f"Finding number {number} in the left lung."
            rows += [
                {
                    "record_id": f"r{patient}-{study}-{view}",
                    "patient_id": f"p{patient}",
                    "study_id": f"s{patient}-{study}",
                    "view": view,
                    "sex": "F" if patient % 2 else "M",
                    "age": 20 + patient % 60,
                    "Pneumonia": float(patient % 2),
                    "report": report,
                }
                for view in ("PA", "LATERAL")[: rng.integers(1, 3)]
            ]
    return pd.DataFrame(rows)


def toy_arrays(records: pd.DataFrame, signal: float, seed: int = 1, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """(images, texts): texts depend on the report alone, images lean towards theirs by `signal`."""
    rng = np.random.default_rng(seed)
    codes = pd.factorize(records["report"])[0]
    texts = rng.standard_normal((codes.max() + 1, d))[codes].astype(np.float32)
    images = (signal * texts + rng.standard_normal((len(records), d))).astype(np.float32)
    return images, texts


def toy_entry(
    store: Store, folder: Path, *, cohort: str = "toy", model: str = "m", n_patients: int = 80, signal: float = 1.0
) -> Entry:
    """An imported entry with its report text stored."""
    folder.mkdir(parents=True, exist_ok=True)
    records = toy_records(n_patients)
    records.to_csv(folder / "records.csv", index=False)
    images, texts = toy_arrays(records, signal)
    return import_arrays(table.read(folder / "records.csv", cohort), model, images, texts, store, store_text=True)


def of_other_weights(entry: Entry) -> Entry:
    """The same entry, its manifest saying that other weights made it."""
    content = {name: value for name, value in entry.manifest.items() if name not in ("schema", "versions", "files")}
    content["model"] = {**content["model"], "weights_sha256": "0" * 64}
    write_manifest(entry.path, {**content, "keep": set(entry.manifest["files"])})
    return Store(entry.path.parent.parent).open(entry.cohort, entry.model)
