"""Seconds and peak memory of reading the tables of whole collections -> cohort_tables.json.

    python benchmarks/cohort_tables.py [--scale 1.0] [--only mimic-cxr,folder] [--json FILE]

Tables with the published columns and as many rows as the collections have are generated in a temporary folder: 377,110
images of 227,835 studies and 65,379 patients (MIMIC-CXR), 223,462 of 64,725 (CheXpert Plus), and a manifest of a
million images. Patients' folders are there, image files are not (they are not looked up one by one, see
cohorts/published.py); the manifest's million rows name 10,000 files, which are there, empty. Every reading runs in a
process of its own, whose peak resident memory and processor time the kernel reports (on a machine that others use,
seconds say less).
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.cohorts import chexpert_plus
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.phantom import layouts
from linkage_core.store.files import versions

MIMIC = {"images": 377_110, "studies": 227_835, "patients": 65_379}
CHEXPERT = {"images": 223_462, "studies": 187_711, "patients": 64_725}
MANIFEST = 1_000_000
TEXT = (
    "the lungs are clear without focal consolidation there is no pleural effusion or pneumothorax heart size "
    "mediastinal contours within normal limits unchanged mild moderate severe left right basilar atelectasis opacity"
)
WORDS = TEXT.split()
CHILD = """
import json, resource, sys, time
from pathlib import Path
from linkage_core.cohorts.registry import open_cohort
start = time.perf_counter()
cohort = open_cohort(sys.argv[1], Path(sys.argv[2]), **json.loads(sys.argv[3]))
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_SELF)
from linkage_core.cohorts.summary import summarise
found = summarise(cohort)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
counts = {name: found[name] for name in ("images", "studies", "patients", "rejects")}
processor = round(used.ru_utime + used.ru_stime, 1)
print(json.dumps({"seconds": round(seconds, 1), "processor_seconds": processor, "peak_gib": round(peak, 2)} | counts))
"""


def numbers(rng: np.random.Generator, images: int, studies: int, patients: int) -> Iterator[tuple[int, int, int]]:
    """(patient, study, image of the study): every patient has a study, every study an image."""
    of_patient = np.sort(np.concatenate([np.arange(patients), rng.integers(0, patients, studies - patients)]))
    of_study = np.sort(np.concatenate([np.arange(studies), rng.integers(0, studies, images - studies)]))
    last, place = -1, 0
    for study in of_study:
        place = place + 1 if study == last else 0
        last = study
        yield int(of_patient[study]), int(study), place


def sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(WORDS[at] for at in rng.integers(0, len(WORDS), words)).capitalize() + "."


def write(path: Path, header: list[str], rows: Iterator[list[Any]]) -> None:
    with (
        gzip.open(path, "wt", newline="", compresslevel=1)
        if path.suffix == ".gz"
        else path.open("w", newline="") as file
    ):
        out = csv.writer(file)
        out.writerow(header)
        out.writerows(rows)


def mimic(root: Path, scale: float) -> None:
    rng = np.random.default_rng(0)
    counts = [int(MIMIC[name] * scale) for name in ("images", "studies", "patients")]
    rows = []
    for patient, study, _ in numbers(rng, *counts):
        digits = rng.bytes(20).hex()
        dicom = "-".join(digits[start : start + 8] for start in range(0, 40, 8))
        rows.append((str(10_000_000 + patient * 150), str(50_000_000 + study), dicom))
    for patient in dict.fromkeys(row[0] for row in rows):
        (root / "files" / f"p{patient[:2]}" / f"p{patient}").mkdir(parents=True)
    header = ["subject_id", "study_id", "dicom_id", "path"]
    write(root / "cxr-record-list.csv.gz", header, ([p, s, d, f"files/p{p[:2]}/p{p}/s{s}/{d}.dcm"] for p, s, d in rows))
    header = list(layouts.METADATA)
    views = [("PA", "postero-anterior"), ("AP", "antero-posterior"), ("LATERAL", "lateral"), ("", "")]
    write(
        root / "mimic-cxr-2.0.0-metadata.csv.gz",
        header,
        (
            [
                d,
                p,
                s,
                "CHEST (PA AND LAT)",
                view,
                3056,
                2544,
                "21800506",
                "213014.531",
                "CHEST (PA AND LAT)",
                code,
                "Erect",
            ]
            for (p, s, d), (view, code) in zip(rows, (views[at] for at in rng.integers(0, 4, len(rows))), strict=True)
        ),
    )
    write(
        root / "mimic-cxr-2.0.0-split.csv.gz",
        ["dicom_id", "study_id", "subject_id", "split"],
        ([d, s, p, "train"] for p, s, d in rows),
    )
    studies = dict.fromkeys((p, s) for p, s, _ in rows)
    values = ["", "", "1.0", "0.0", "-1.0"]
    for labeler in ("chexpert", "negbio"):
        write(
            root / f"mimic-cxr-2.0.0-{labeler}.csv.gz",
            ["subject_id", "study_id", *sorted(LABELS)],
            ([p, s, *(values[at] for at in rng.integers(0, 5, 14))] for p, s in studies),
        )
    people = dict.fromkeys(p for p, _, _ in rows)
    header = ["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"]
    write(root / "patients.csv.gz", header, ([p, "F", 52, 2180, "2014 - 2016", ""] for p in people))
    with zipfile.ZipFile(root / "mimic-cxr-reports.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for p, s in studies:
            findings, impression = sentence(rng, 55), sentence(rng, 15)
            text = (
                f"{' ' * 33}FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  ___ with cough\n \n"
                f" COMPARISON:  ___\n \n FINDINGS: \n \n {findings}\n \n IMPRESSION: \n \n {impression}\n"
            )
            archive.writestr(f"files/p{p[:2]}/p{p}/s{s}.txt", text)


def chexpert(root: Path, scale: float) -> None:
    rng = np.random.default_rng(1)
    counts = [int(CHEXPERT[name] * scale) for name in ("images", "studies", "patients")]
    reports: dict[int, tuple[str, str]] = {}
    paths = []

    def rows() -> Iterator[list[Any]]:
        for number, (patient, study, image) in enumerate(numbers(rng, *counts)):
            if study not in reports:
                reports.clear()  # rows of a study stand together
                reports[study] = (sentence(rng, 20), sentence(rng, 40))
            findings, impression = reports[study]
            path = f"train/patient{patient:05d}/study{study}/view{image + 1}_frontal"
            paths.append(path)
            parts = f"FINDINGS:\n{findings}\n\nIMPRESSION:\n{impression}\n"
            whole = f"NARRATIVE:\nCHEST 1 VIEW\n\n{sentence(rng, 60)}\n\n{parts}"
            cells = {
                "path_to_image": f"{path}.jpg",
                "path_to_dcm": f"{path}.dcm",
                "frontal_lateral": "Frontal",
                "ap_pa": "AP",
                "deid_patient_id": f"patient{patient:05d}",
                "report": whole,
                "section_findings": findings if study % 4 == 0 else "",
                "section_impression": impression,
                "age": 61.0,
                "sex": "Female",
                "split": "train",
            }
            yield [number, *(cells.get(name, "") for name in chexpert_plus.COLUMNS)]

    write(root / "df_chexpert_plus_240401.csv", ["", *chexpert_plus.COLUMNS], rows())
    for patient in dict.fromkeys(path.split("/")[1] for path in paths):
        (root / "PNG" / "train" / patient).mkdir(parents=True)
    first = root / "PNG" / f"{paths[0]}.png"
    first.parent.mkdir()
    first.touch()
    (root / "chexbert_labels").mkdir()
    values = [None, None, 1.0, 0.0, -1.0]
    with (root / "chexbert_labels" / "impression_fixed.json").open("w") as file:
        for path in paths:
            drawn = [values[at] for at in rng.integers(0, 5, 14)]
            file.write(json.dumps({"path_to_image": f"{path}.jpg", **dict(zip(LABELS, drawn, strict=True))}) + "\n")


def manifest(root: Path, scale: float) -> None:
    rng = np.random.default_rng(2)
    n = int(MANIFEST * scale)
    for patient in range(-(-n // 100)):  # a million files would take the disk longer than anything that is measured
        folder = root / "images" / f"{patient // 100:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{patient:05d}.png").touch()
    write(
        root / "manifest.csv",
        ["record_id", "image", "report", "patient_id", "study_id", "view", "sex", "age", *LABELS],
        (
            [
                *(f"r{at}", f"images/{at // 10_000:04d}/{at // 100:05d}.png"),
                *(sentence(np.random.default_rng(at // 2), 30), f"p{at // 100}", f"s{at // 2}", "PA", "F", 61),
                *("" if x > 1 else x for x in rng.integers(0, 4, 14)),
            ]
            for at in range(n)
        ),
    )


CASES: dict[str, tuple[Callable[[Path, float], None], str, dict[str, Any]]] = {
    "mimic-cxr": (mimic, "mimic-cxr", {}),
    "mimic-cxr-jpg": (mimic, "mimic-cxr-jpg", {}),
    "chexpert-plus": (chexpert, "chexpert-plus", {}),
    "folder": (manifest, "folder", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, Path] = {}
        for name in arguments.only.split(","):
            generate, kind, options = CASES[name]
            root = made.get(generate.__name__)
            if root is None:
                root = made[generate.__name__] = Path(folder) / generate.__name__
                root.mkdir()
                start = time.perf_counter()
                generate(root, arguments.scale)
                print(f"{generate.__name__}: made in {time.perf_counter() - start:.0f} s", file=sys.stderr)
            command = [sys.executable, "-c", CHILD, kind, str(root), json.dumps(options)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            results[name] = json.loads(done.stdout.splitlines()[-1])
            print(f"{name}: {results[name]}", file=sys.stderr)
    content = {
        "scale": arguments.scale,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": versions(),
        "results": results,
    }
    arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
