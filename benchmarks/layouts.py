"""Export and read back: the phantom written in each published layout and read by its reader -> layouts.json.

    python benchmarks/layouts.py [--studies 400] [--size 256] [--json FILE]

For each layout: studies and images exported, rejects, seconds to write, to read the tables and to read every image, the
largest and the mean difference of a pixel (of 65535: 12 bit DICOM, 8 bit PNG, JPEG of quality 95), how many records
differ in patient, study, report, label, view, sex or age, and reports that differ when read by section. Open-i has no
place for view, sex, age and denied findings, and one report is a patient there: these differences are the layout's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from linkage_core.cohorts.phantom import layouts, population
from linkage_core.cohorts.registry import open_cohort
from linkage_core.store.files import versions

CASES = (
    ("mimic-cxr", False),
    ("mimic-cxr-jpg", False),
    ("chexpert-plus", False),
    ("chexpert-plus", True),
    ("openi", False),
)


def measured(layout: str, dicom: bool, root: Path, studies: list[population.Study], size: int) -> dict[str, Any]:
    start = time.perf_counter()
    layouts.export_layout(root, layout, studies, size=size, dicom=dicom)
    written = time.perf_counter()
    cohort = open_cohort(layout, root)
    read = time.perf_counter()
    found = layouts.compare(cohort, size=size)
    by_section: dict[str, dict[str, int]] = {}
    for section in ("findings", "impression"):
        part = open_cohort(layout, root, section=section)
        reports = layouts.compare(part, size=size, images=False)["differences"]["reports"]
        by_section[section] = {"records": len(part.records), "empty": len(part.rejects), "different": reports}
    return {
        "layout": layout,
        "images_as": {"mimic-cxr": "DICOM", "mimic-cxr-jpg": "JPEG"}.get(layout, "DICOM" if dicom else "PNG"),
        "studies": int(cohort.records["study_id"].nunique()),
        "images": len(cohort.records),
        "exported_studies": len(studies),
        "exported_images": sum(len(study.views) for study in studies),
        **found,
        "by_section": by_section,
        "seconds": {"export": round(written - start, 2), "read": round(read - written, 2)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    studies = list(islice(population.studies_of_split("A", "heldout"), arguments.studies))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (layout, dicom) in enumerate(CASES):
            results.append(measured(layout, dicom, Path(folder) / str(number), studies, arguments.size))
            print(json.dumps(results[-1]), file=sys.stderr)
    content = {
        "size": arguments.size,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": versions(),
        "results": results,
    }
    arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
