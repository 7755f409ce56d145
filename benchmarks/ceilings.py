"""Ceilings from the reports alone: PadChest beside the figures of a trial, Open-i, the phantom -> ceilings.json.

    python benchmarks/ceilings.py [--padchest DIR] [--openi DIR]

PadChest's table is that of the package torchxrayvision 1.5.7 (installed without its dependencies, never imported), or
lies in DIR. Two choices are fixed: the study that stands for a patient is the first one in the table that has a
report, and a study's labels are a set (order, repeats, capitals, blanks and empty words do not matter). The trial's
figures are met closest by the first study too and labels with the empty word kept; another study of each patient moves
them by up to 2 points. Seconds and peak memory are of reading the table, and of all of it, on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from linkage_core import tables
from linkage_core.audit import ceilings
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.registry import open_cohort

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "torchxrayvision"
TRIAL = {
    "text": (84.9, 71.1, 62.6, 57.2),
    "own-labels": (54.9, 41.5, 29.3, 21.7),
    "own-labels+sex+age": (94.9, 74.1, 55.7, 45.1),
}
"""In percent, for N = 100, 1,000, 10,000 and all of 67,585 patients."""


def padchest(folder: Path | None) -> Cohort:
    """From the folder, or from the package where it is installed."""
    if folder is not None:
        return open_cohort("padchest", folder)
    found = [file for file in metadata.files(PACKAGE) or () if file.name.startswith("PADCHEST_")]
    with tempfile.TemporaryDirectory() as link:
        (Path(link) / found[0].name).symlink_to(Path(str(found[0].locate())))
        return open_cohort("padchest", Path(link))


def cohorts(options: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """The records of all three; of the phantom those patients whom every page is about."""
    phantom = open_cohort("phantom", None)
    return {
        "padchest": padchest(options.padchest).records,
        "openi": open_cohort("openi", options.openi).records,
        "phantom": phantom.rows(phantom.default_split),
    }


def arguments(doc: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--padchest", type=Path)
    parser.add_argument("--openi", type=Path, default=ROOT.parent / "shared" / "data" / "openi")
    return parser.parse_args()


def main() -> None:
    options = arguments(__doc__)
    start = time.process_time()
    records = padchest(options.padchest).records
    seconds = round(time.process_time() - start, 1)
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    result: dict[str, Any] = {
        "padchest": {
            "processor_seconds_to_read": seconds,
            "peak_gib_to_read": peak,
            "images": len(records),
            "studies": int(records["study_id"].nunique()),
            "patients": int(records["patient_id"].nunique()),
        },
        "rows": [],
    }
    for name, of in cohorts(options).items():
        made, _ = ceilings.of_cohort(of)
        result["rows"] += [{"cohort": name, **row} for row in tables.rows(made)]
    of_patients = {
        (row["knows"], str(row["pool_size"])): 100 * row["ceiling"]
        for row in result["rows"]
        if row["cohort"] == "padchest" and row["unit"] == "patients"
    }
    result["trial"] = [
        {"knows": knows, "pool_size": n, "trial": said, "here": round(of_patients[knows, n], 2)}
        for knows, all_said in TRIAL.items()
        for n, said in zip(("100", "1000", "10000", "full"), all_said, strict=True)
    ]
    result["padchest"]["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    Path(__file__).with_suffix(".json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(json.dumps(result["padchest"]))
    for row in result["trial"]:
        print(*row.values(), sep="\t")


if __name__ == "__main__":
    main()
