"""Small cohorts and stores, made through the real writers.

Records are rows of `toy_records` or `two_each`, or a test's own. They become an entry through the reader of tables
(`put`), or a cohort without files (`toy_cohort`), whose embeddings come from elsewhere or are noise (`fill`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts import table
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, rejects_table
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import ImageError
from linkage_core.images.pixels import Radiograph
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import write_manifest

SAME = {"image": "", "view": "PA", "sex": "F", "age": 50.0, "split": "heldout"} | dict.fromkeys(LABELS, np.nan)
"""What is the same for all records of a cohort where a test does not say otherwise."""


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


def two_each(name: str, n_patients: int, **columns: Any) -> pd.DataFrame:
    """Two studies a patient, one image a study, every report another; further columns as given."""
    rows = range(2 * n_patients)
    return pd.DataFrame(
        {
            "record_id": [f"{name}-{i}" for i in rows],
            "patient_id": [f"{name}-p{i // 2}" for i in rows],
            "study_id": [f"{name}-s{i}" for i in rows],
            "report": [f"Report {i} of {name}." for i in rows],
            **columns,
        }
    )


def toy_arrays(records: pd.DataFrame, signal: float, seed: int = 1, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """(images, texts): texts depend on the report alone, images lean towards theirs by `signal`."""
    rng = np.random.default_rng(seed)
    codes = pd.factorize(records["report"])[0]
    texts = rng.standard_normal((codes.max() + 1, d))[codes].astype(np.float32)
    images = (signal * texts + rng.standard_normal((len(records), d))).astype(np.float32)
    return images, texts


def toy_cohort(name: str, records: pd.DataFrame, *, synthetic: bool = False, default_split: str = "all") -> Cohort:
    """A cohort without files: what `records` lacks is the same for all (SAME), and asking for an image is an error."""

    def no_image(row: Mapping[str, Any]) -> Radiograph:
        raise ImageError("absent", "This cohort has no image files.", "None is needed: it is made for tests.")

    whole = records.assign(**{column: value for column, value in SAME.items() if column not in records})
    return Cohort(
        name=name,
        kind="folder",
        root=None,
        records=whole[list(RECORD_COLUMNS)],
        rejects=rejects_table([]),
        read_image=no_image,
        synthetic=synthetic,
        default_split=default_split,
    )


def fill(
    store: Store, cohort: Cohort, model: str, signal: float, seed: int, *, d: int = 16, store_text: bool = True
) -> None:
    """One entry: a report's vector is noise of its text, an image's the same vector under noise of its own."""
    rng = np.random.default_rng(seed)
    texts = {text: rng.standard_normal(d) for text in cohort.records["report"].unique()}
    reports = np.stack([texts[text] for text in cohort.records["report"]]).astype(np.float32)
    images = (signal * reports + rng.standard_normal(reports.shape)).astype(np.float32)
    import_arrays(cohort, model, images, reports, store, store_text=store_text)


def read_back(records: pd.DataFrame, folder: Path, name: str = "toy") -> Cohort:
    """The cohort that the reader of tables makes of these records, written below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    records.to_csv(folder / f"{name}.csv", index=False)
    return table.read(folder / f"{name}.csv", name)


def toy_entry(
    store: Store, folder: Path, *, cohort: str = "toy", model: str = "m", n_patients: int = 80, signal: float = 1.0
) -> Entry:
    """An imported entry with its report text stored."""
    records = toy_records(n_patients)
    return import_arrays(
        read_back(records, folder, cohort), model, *toy_arrays(records, signal), store, store_text=True
    )


def of_other_weights(entry: Entry) -> Entry:
    """The same entry, its manifest saying that other weights made it."""
    content = {name: value for name, value in entry.manifest.items() if name not in ("schema", "versions", "files")}
    content["model"] = {**content["model"], "weights_sha256": "0" * 64}
    write_manifest(entry.path, {**content, "keep": set(entry.manifest["files"])})
    return Store(entry.path.parent.parent).open(entry.cohort, entry.model)
