"""Identifiers planted in an exported phantom, and how many of them `linkage identifiers` finds -> identifiers.json.

    python benchmarks/identifiers.py [--studies 300] [--pixels 150] [--openi ../shared/data/openi]

Each record gets every kind with a chance of a quarter, in one of several forms; the other three quarters are innocent
or hold a substitute ("ANON^12", a birth year, "ribs 6-7", a side marker), and what is found there is a false alarm. A
study's report is planted once. The forms were written by who wrote the rules, before a figure was seen; three rules
were mended afterwards (capitals within a name, RN without dots, markers that tesseract misreads). Each kind of report
text has a form that the rules are known not to have (`unmatched` names the forms that were missed): recall is of these
forms, and no estimate of what another hospital's text would give. Open-i has XXXX in the place of identifiers; what is
still found there stands under `open_i`.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from linkage_core.cohorts.identifiers import pixels, rules
from linkage_core.cohorts.identifiers.check import check
from linkage_core.cohorts.identifiers.kinds import FILLED, FOUND, KINDS, PLACE
from linkage_core.cohorts.phantom import export, population
from linkage_core.cohorts.registry import open_cohort

ROOT = Path(__file__).resolve().parents[1]
SHARE = 0.25
FAMILIES = ("Quagga", "Okapi", "Ibexson", "McTapir", "O'Lynx", "Dugong", "Zorilla", "Vicuna", "Tarsier", "Gaurwood")
GIVEN = ("Ada", "Bela", "Chidi", "Dagny", "Emre", "Farid", "Greta", "Hiro", "Ines", "Jarek")
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)
TEXT: dict[str, tuple[str, ...]] = {
    "report name": (
        "Findings were discussed with Dr. {F} by telephone.",
        "Dr {G} {F} was notified of the result.",
        "Electronically signed by {G} {F}, MD.",
        "Dictated by: {G} {F}.",
        "Mrs. {F} has had a cough for a week.",
        "Results were called to {G} {F} RN.",
        "DR. {FU} WAS INFORMED.",
        "Patient name: {FU}, {GU}.",
        "Reviewed with Professor {F}.",
        "{F}, {G} was seen in clinic before.",
        "Unchanged as per {F}.",
    ),
    "report date": (
        "Compared with {m}/{d}/{y}.",
        "Compared with {y}-{m:02d}-{d:02d}.",
        "Compared with the study of {M} {d}, {y}.",
        "Compared with the study of {d} {M3} {y}.",
        "Comparison: {m}/{d}.",
        "Unchanged since {M} {y}.",
        "The film of {d}.{m}.{y} is compared.",
        "Taken on the {d}th of {M}.",
        "Last seen at Easter {y}.",
    ),
    "report time": (
        "Told by telephone at {h}:{n:02d}.",
        "Told at {h2}:{n:02d} pm.",
        "Told at {h2} am.",
        "Told at {h}{n:02d} hours.",
        "Told at {h}h{n:02d}.",
    ),
    "report phone": (
        "Call (555) 010-{x} with questions.",
        "Call 555-010-{x} with questions.",
        "Questions: 555.010.{x}.",
        "Pager {x}.",
        "Questions to ext. {x}.",
        "Tel. +49 30 90{x}.",
        "Questions to desk {x}.",
    ),
    "report contact": ("Mail {f}@example.org.", "See https://example.org/{x}.", "Write to {f} at example dot org."),
    "report number": (
        "MRN 00{x}33.",
        "MRN: A-{x}13.",
        "Accession #CR20{x}73.",
        "Acc no. 20{x}33.",
        "Patient ID {x}21.",
        "SSN 078-05-{x}.",
        "The film {x}{x} is compared.",
        "The film no {x} is compared.",
    ),
    "report age": (
        "A {a}-year-old with cough.",
        "{a} y/o with cough.",
        "{a} yo, cough.",
        "{a}F with cough.",
        "Aged {a}, with cough.",
    ),
    "report place": (
        "Lives at {d} Long Meadow Road.",
        "Sent by {F} Valley Hospital.",
        "From Springfield, IL 6{x}.",
        "Now in room {x}.",
        "Bed {d}B.",
        "Seen at the {F} Clinic before.",
        "Lives in {F}ville.",
    ),
}
INNOCENT = (
    "Opacities of 3/4 cm and 10 x 12 mm.",
    "Old fractures of ribs 6-7 and T11/12.",
    "Unchanged since 2012.",
    "A 64-year-old with cough, told to Dr. XXXX at XXXX on XXXX.",
    "Grade 2/6 murmur, MR and DR studies are normal.",
    "Seen with ___ at [**Hospital 12**] on [**2012-3-4**].",
    "There may 3 mm nodules be at 90 degrees, of 95% certainty.",
    "Sent by an outside hospital, then the operating room.",
    "Discussed with Emergency Department staff.",
    "The March of findings is slow; Lines end 4.5 cm above the carina.",
)
WORDS = (
    "{FU} {GU}",
    "{FU}, {GU} {d:02d}/{m:02d}/{y}",
    "MRN 00{x}33",
    "{F} Valley Hospital",
    "{d:02d}.{m:02d}.{y} {h}:{n:02d}",
)
SIGNS = ("L", "R", "PORTABLE", "AP ERECT", "SUPINE")


def fill(form: str, rng: np.random.Generator) -> str:
    """A form with made-up names and numbers."""
    family, given = str(rng.choice(FAMILIES)), str(rng.choice(GIVEN))
    month = int(rng.integers(1, 13))
    return form.format(
        F=family,
        G=given,
        FU=family.upper(),
        GU=given.upper(),
        f=family.lower().replace("'", ""),
        m=month,
        d=int(rng.integers(13, 29)),
        y=int(rng.integers(1950, 2024)),
        M=MONTHS[month - 1],
        M3=MONTHS[month - 1][:3],
        h=int(rng.integers(13, 24)),
        h2=int(rng.integers(1, 12)),
        n=int(rng.integers(10, 60)),
        x=int(rng.integers(1000, 9999)),
        a=int(rng.integers(90, 104)),
    )


def in_header(data: Dataset, rng: np.random.Generator, report: str) -> tuple[dict[str, int], str]:
    """Plants in one header, and perhaps in the report; ({kind: FOUND, FILLED or 0}, the report)."""
    truth = dict.fromkeys((k for k in KINDS if k.startswith("header ")), 0) | {"pixels flag": 0, "report own": 0}
    truth |= {"header uid": FILLED, "header number": FILLED}  # the export's own: they are substitutes
    truth["header patient"] = FILLED if data.get("PatientSex") else 0
    put = {kind: rng.random() < SHARE for kind in truth}
    name = fill("{F}^{G}", rng)
    if put["header name"]:
        keyword = str(rng.choice(["PatientName", "ReferringPhysicianName", "OperatorsName", "nested"]))
        if keyword == "nested":
            item = Dataset()
            item.RequestingPhysician = name
            data.RequestAttributesSequence = Sequence([item])
            truth["header nested"] = FILLED
        else:
            setattr(data, keyword, name)
        truth["header name"] = FOUND
    else:
        data.PatientName = str(rng.choice(["ANON^12", "Anonymous", "CXR0042", "", "REMOVED", "Subject^7", "XXXX"]))
        truth["header name"] = FILLED if data.PatientName == "CXR0042" else 0
    if put["header place"]:
        keyword, form = [
            ("InstitutionName", "{F} Valley Hospital"),
            ("InstitutionAddress", "{d} Long Meadow Road"),
            ("PatientTelephoneNumbers", "555-010-{x}"),
            ("PatientAddress", "{d} Long Meadow Road"),
        ][int(rng.integers(4))]
        setattr(data, keyword, fill(form, rng))
        truth["header place"] = FOUND
    else:
        data.InstitutionName = str(rng.choice(["REMOVED", "", "Anonymized"]))
    data.StudyDate = "21470312"
    born = fill("{y}{m:02d}{d:02d}", rng)
    truth["header date"] = FOUND if put["header date"] else FILLED
    data.PatientBirthDate = born if put["header date"] else str(rng.choice(["19500101", ""]))
    if put["header patient"]:
        data.PatientAge = fill("{a:03d}Y", rng)
        truth["header patient"] = FOUND
    if put["header device"]:
        data.StationName, truth["header device"] = "ROOM7-DR", FILLED
    if put["header text"]:
        keyword = str(rng.choice(["ImageComments", "PatientComments", "StudyDescription"]))
        setattr(data, keyword, fill("seen by Dr. {F} on {m}/{d}/{y}", rng))
        truth["header text"] = FOUND
    else:
        data.SeriesDescription, truth["header text"] = "CHEST PA", FILLED
    if put["header nested"]:
        item = Dataset()
        item.CodeValue, item.CodeMeaning = "1", "one"
        data.InstitutionCodeSequence = Sequence([item])
        truth["header nested"] = FILLED
    if put["header data"]:
        data.add_new(0x60003000, "OW", b"\1" * 128)
        truth["header data"] = FILLED
    if put["header private"]:
        block = data.private_block(0x0029, "MAKER", create=True)
        block.add_new(1, "LO", "something")
        truth["header private"] = FILLED
    data.BurnedInAnnotation = "YES" if put["pixels flag"] else "NO"
    truth["pixels flag"] = FOUND * put["pixels flag"]
    if put["report own"]:
        data.PatientID = fill("77{x}", rng)
        report += f" As in the record of {data.PatientID} before."
        truth["report own"] = FOUND
    return truth, report


def burn(data: Dataset, text: str, rng: np.random.Generator) -> None:
    """Letters into the pixels, white, at one of four corners."""
    cells = np.frombuffer(data.PixelData, "<u2").reshape(data.Rows, data.Columns)
    page = Image.new("L", (data.Columns, data.Rows))
    font = ImageFont.load_default(size=int(rng.integers(14, 29)))
    drawing = ImageDraw.Draw(page)
    wide, high = drawing.textbbox((0, 0), text, font=font)[2:]
    right, low = int(data.Columns - wide - 12), int(data.Rows - high - 12)
    place = [(12, 12), (max(right, 12), 12), (12, low), (max(right, 12), low)][int(rng.integers(4))]
    drawing.text(place, text, fill=255, font=font)
    data.PixelData = np.maximum(cells, np.asarray(page).astype("<u2") << 4).tobytes()


def planted(folder: Path, n_studies: int, size: int, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, list]]:
    """An exported phantom with plants: (truth, a row a record and a column a kind; {kind: [(study, form)]})."""
    studies = list(islice(population.studies_of_split("A", "heldout"), n_studies))
    manifest = export.export_folder(folder, studies, image_format="dicom", size=size)
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    forms: dict[str, list] = {kind: [] for kind in TEXT}
    reports, by_study, of_images = {}, {}, []
    for study, report in table.drop_duplicates("study_id").set_index("study_id")["report"].items():
        truth = dict.fromkeys(TEXT, 0)
        added = [str(rng.choice(INNOCENT))]
        for kind, choices in TEXT.items():
            if rng.random() < SHARE:
                form = str(rng.choice(choices))
                added.append(fill(form, rng))
                forms[kind].append((study, form))
                truth[kind] = FOUND
        reports[study], by_study[study] = " ".join([report, *added]), truth
    for row in table.to_dict("records"):
        path = folder / row["image"]
        data = pydicom.dcmread(path)
        truth, reports[row["study_id"]] = in_header(data, rng, reports[row["study_id"]])
        if truth["report own"]:
            by_study[row["study_id"]]["report number"] = FOUND  # a number it is as well
        words = rng.random() < 2 * SHARE
        burn(data, fill(str(rng.choice(WORDS)), rng) if words else str(rng.choice(SIGNS)), rng)
        out = io.BytesIO()
        data.save_as(out, enforce_file_format=True)
        path.write_bytes(out.getvalue())
        of_images.append(
            {"record_id": row["image"], **truth, "pixels text": FOUND * words, "study_id": row["study_id"]}
        )
    table["report"] = table["study_id"].map(reports)
    table.to_csv(manifest, index=False)
    truths = pd.DataFrame(of_images)
    for kind in TEXT:
        truths[kind] = truths["study_id"].map({study: one[kind] for study, one in by_study.items()})
    return truths.set_index("record_id"), forms


def measured(n_studies: int, n_pixels: int, size: int, seed: int = 0) -> dict[str, Any]:
    """Recall and false alarms by kind and level on a planted phantom."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "planted"
        truths, forms = planted(folder, n_studies, size, rng)
        cohort = open_cohort("folder", folder)
        start = time.perf_counter()
        quick = check(cohort)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        checked = check(cohort, words_in=n_pixels) if n_pixels else quick
        with_words = time.perf_counter() - start
    truths = truths.loc[checked.record_ids]
    seen = checked.levels[:, PLACE["pixels text"]]
    kinds = {}
    for kind, place in PLACE.items():
        if kind not in truths:
            continue
        truth, told = truths[kind].to_numpy(), checked.levels[:, place]
        if kind == "pixels text":
            looked = _looked(cohort, n_pixels)
            truth, told = truth[looked], seen[looked]
        row: dict[str, Any] = {}
        for level, word in ((FOUND, "found"), (FILLED, "filled in")):
            there = truth == level
            if there.any() or (told == level).any():
                row[word] = {
                    "planted": int(there.sum()),
                    "recall": _share((told == level)[there]),
                    "innocent": int((~there).sum()),
                    "false alarms": _share((told == level)[~there]),
                }
        kinds[kind] = row
    hits = {kind: dict(zip(truths["study_id"], checked.levels[:, PLACE[kind]], strict=True)) for kind in TEXT}
    unmatched = {
        kind: dict(Counter(form for study, form in of if not hits[kind].get(study))) for kind, of in forms.items()
    }
    return {
        "studies": n_studies,
        "records": len(truths),
        "size": size,
        "kinds": kinds,
        "unmatched": unmatched,
        "seconds": {"headers and reports": round(seconds, 2), "and words in pixels": round(with_words, 2)},
    }


def _looked(cohort: Any, n: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(len(cohort.records)))[:n]


def _share(hits: np.ndarray) -> float | None:
    return round(float(hits.mean()), 4) if hits.size else None


def untouched(n_studies: int) -> dict[str, Any]:
    """What is found in the phantom's own reports: nothing was planted, so all of it is false."""
    studies = list(islice(population.studies_of_split("A", "heldout"), n_studies))
    from linkage_core.cohorts.phantom.cohort import records_of

    reports = records_of(studies)["report"].drop_duplicates()
    found = Counter(kind for report in reports for kind in rules.kinds_in(report))
    return {"reports": len(reports), "kinds": dict(found), "with any": sum(bool(rules.kinds_in(r)) for r in reports)}


def open_i(folder: Path) -> dict[str, Any]:
    """What is found in the reports of Open-i, every part of them."""
    reports = open_cohort("openi", folder, section="whole").records.drop_duplicates("study_id")["report"]
    found = [rules.kinds_in(report) for report in reports]
    kinds = Counter(kind for one in found for kind in one)
    return {"reports": len(reports), "kinds": dict(kinds), "with any": sum(map(bool, found))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--pixels", type=int, default=150)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--openi", type=Path, default=ROOT.parent / "shared" / "data" / "openi")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    content = {
        "rules": rules.version(),
        "tesseract": pixels.version(),
        "planted": measured(asked.studies, asked.pixels, asked.size),
        "untouched": untouched(2000),
    }
    if asked.openi.is_dir():
        content["open_i"] = open_i(asked.openi)
    asked.json.write_text(json.dumps(content) + "\n")
    json.dump(content, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
