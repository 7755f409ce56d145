"""NLM Open-i: the Indiana University chest X-ray collection, reports as XML and images as PNG."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast
from xml.etree import ElementTree
from xml.parsers import expat

from linkage_core import bounded
from linkage_core.cohorts import fields
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.files import Reject, file_cohort, need_folder
from linkage_core.cohorts.splits import FRACTIONS, chosen_splits
from linkage_core.errors import ImageError, InputError
from linkage_core.images.read import inside

KIND = "openi"
ARCHIVE = "NLMCXR_reports.tgz"
MAX_REPORT_BYTES = 1 << 20  # the longest of the collection has 9 KB
MAX_REPORTS = 100_000
MAX_ARCHIVE_BYTES = 1 << 30  # unpacked

POSITIVE = {
    "normal": "No Finding",
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Lung Lesion",
    "mass": "Lung Lesion",
    "opacity": "Lung Opacity",
    "airspace disease": "Lung Opacity",
    "infiltrate": "Lung Opacity",
    "pulmonary edema": "Edema",
    "consolidation": "Consolidation",
    "pneumonia": "Pneumonia",
    "pulmonary atelectasis": "Atelectasis",
    "pneumothorax": "Pneumothorax",
    "hydropneumothorax": "Pneumothorax",
    "pleural effusion": "Pleural Effusion",
    "fractures, bone": "Fracture",
    "catheters, indwelling": "Support Devices",
    "implanted medical device": "Support Devices",
    "medical device": "Support Devices",
    "tube, inserted": "Support Devices",
    "stents": "Support Devices",
}
"""Headings that the indexers gave (`major`), by their first part."""

QUALIFIED = {
    ("cardiac shadow", "enlarged"): "Cardiomegaly",
    ("mediastinum", "prominent"): "Enlarged Cardiomediastinum",
    ("mediastinum", "enlarged"): "Enlarged Cardiomediastinum",
    ("thickening", "pleura"): "Pleural Other",
    ("density", "lung"): "Lung Opacity",
}
"""Headings that say so only together with a qualifier."""

MENTIONED = {
    "cardiomegaly": "Cardiomegaly",
    "nodule": "Lung Lesion",
    "opacity": "Lung Opacity",
    "infiltrates": "Lung Opacity",
    "edema": "Edema",
    "pulmonary edema": "Edema",
    "consolidation": "Consolidation",
    "pneumonia": "Pneumonia",
    "atelectasis": "Atelectasis",
    "pneumothorax": "Pneumothorax",
    "pleural effusion": "Pleural Effusion",
    "pleural effusions": "Pleural Effusion",
    "fracture": "Fracture",
    "rib fractures": "Fracture",
}
"""Terms that a program found in the text (`automatic`): mostly hedged ("may represent pneumonia"), so uncertain."""


def read(
    root: Path | None,
    *,
    seed: int = 0,
    section: str = "both",
    splits: str = "seeded",
    fractions: Any = FRACTIONS,
) -> Cohort:
    """A folder with the reports (NLMCXR_reports.tgz, or its XML files at any depth) and the PNG files, at any depth.

    A record is an image that a report names; its id is the image's. The study is the report, and so is the patient:
    Open-i has one report a patient and no patient ids. The collection does not say which view an image is, nor sex or
    age. The report is findings, impression, both, or whole (every part with its heading). Labels: 1 by the indexers'
    MeSH headings ("borderline" -1), -1 by terms found automatically, No Finding for "normal", else missing: POSITIVE,
    QUALIFIED and MENTIONED are the whole mapping (docs/openi-labels.md).

    Every image named is a record or a reject, and so is every report that names none: empty-report, missing-file,
    no-image-named, damaged-report, duplicate-record. Where there are no images at all they are no rejects: the records
    then have the image "" and can be listed and checked, not embedded.

    Nothing is unpacked to disk. Raises InputError for a folder without reports or a damaged archive.
    """
    folder = need_folder(root, KIND)
    fields.checked_section(section)
    where_splits, shares = chosen_splits(splits, fractions)
    images = {path.stem: path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"), reverse=True)}
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    seen: set[str] = set()
    for name, data in sorted(_reports(folder), key=lambda report: (len(report[0]), report[0])):
        try:
            report = _parse(data)
        except (ElementTree.ParseError, expat.ExpatError, ValueError, LookupError) as error:
            rejects.append((name, "damaged-report", f"{name} is no report: {error}.", "Download the reports again."))
            continue
        study = _attribute(report, "uId") or Path(name).stem
        text = _text(report, section)
        ids = [image.get("id", "").strip() for image in report.iter("parentImage")]
        if not any(ids):
            rejects.append((study, "no-image-named", f"Report {study} names no image.", "It cannot be paired."))
        labels = labels_of(
            [heading.text or "" for heading in report.iter("major")],
            [term.text or "" for term in report.iter("automatic")],
        )
        for identifier in filter(None, ids):
            image = images.get(identifier, "")
            if identifier in seen:
                what = f"Image {identifier} of report {study} was named before."
                rejects.append((identifier, "duplicate-record", what, "Keep one of the reports."))
                continue
            seen.add(identifier)
            if not text:
                what = f"Report {study} has no {'findings or impression' if section == 'both' else section}."
                rejects.append((identifier, "empty-report", what, "It cannot be paired."))
            elif images and (problem := _problem(folder, identifier, image)):
                rejects.append((identifier, problem.reason, problem.what, problem.remedy))
            else:
                rows.append(
                    {
                        "record_id": identifier,
                        "patient_id": study,
                        "study_id": study,
                        "image": image,
                        "view": "",
                        "sex": "",
                        "report": text,
                        **labels,
                    }
                )
    options = {"seed": seed, "section": section, "splits": where_splits, "fractions": shares}
    return file_cohort(KIND, folder, rows, rejects, options)


def labels_of(headings: list[str], terms: list[str]) -> dict[str, float]:
    """The labels that MeSH headings and automatic terms speak of; the others are missing.

    >>> labels_of(["Cardiomegaly/borderline", "Pleural Effusion/left"], ["pneumonia"])
    {'Pneumonia': -1.0, 'Cardiomegaly': -1.0, 'Pleural Effusion': 1.0}
    """
    labels = {MENTIONED[term.strip().lower()]: -1.0 for term in terms if term.strip().lower() in MENTIONED}
    sure: dict[str, float] = {}
    for heading in headings:
        first, *rest = (part.strip() for part in heading.lower().split("/"))
        named = [POSITIVE.get(first), *(QUALIFIED.get((first, part)) for part in rest)]
        for label in filter(None, named):
            sure[label] = max(sure.get(label, -1.0), -1.0 if "borderline" in rest else 1.0)
    return {**labels, **sure}


def _problem(root: Path, identifier: str, image: str) -> ImageError | None:
    if not image:
        return ImageError("missing-file", f"There is no {identifier}.png below {root}.", "Download the images again.")
    try:
        inside(root, image)
    except ImageError as error:
        return error
    return None


def _reports(root: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every XML report: unpacked files if there are any, else those of the archive."""
    files = sorted(root.rglob("*.xml"))
    if files:
        for path in files:
            relative = path.relative_to(root).as_posix()
            name = os.fsencode(relative).decode("utf-8", "backslashreplace")  # as a table can hold it
            try:
                data = bounded.read(inside(root, relative), MAX_REPORT_BYTES)
            except (ImageError, OSError):
                data = b""  # a link that leads out, a pipe, too long, without permission: rejected as no report
            yield name, data
    elif (root / ARCHIVE).is_file():
        yield from _unpacked(root / ARCHIVE)
    else:
        raise InputError(f"{root} has no Open-i reports.", f"Put {ARCHIVE}, or the XML files in it, there.")


def _unpacked(path: Path) -> Iterator[tuple[str, bytes]]:
    """Regular *.xml members, read one by one in memory; links, devices and paths in names never matter."""
    count, most = 0, min(MAX_ARCHIVE_BYTES, bounded.unpacked_size(path.stat().st_size))
    try:
        with bounded.regular(path) as packed, tarfile.open(fileobj=cast(Any, _Pieces(packed)), mode="r:") as archive:
            for member in archive:
                if member.offset_data + member.size > most or count >= MAX_REPORTS:
                    raise InputError(f"{path} is far larger than the collection.", "Download it again.")
                if not member.isreg() or not member.name.lower().endswith(".xml"):
                    continue
                count += 1
                content = archive.extractfile(member) if member.size <= MAX_REPORT_BYTES else None
                yield member.name, content.read() if content else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}.", "Download it again.") from error
    if not count:
        raise InputError(f"{path} holds no XML report.", "Download it again.")


class _Pieces(gzip.GzipFile):
    """An archive unpacked piece by piece: neither a member nor a header of it is longer than a report may be."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= 2 * MAX_REPORT_BYTES:
            raise OSError(f"a header of {size:,} bytes" if size else "no end")
        return super().read(size)


def _parse(data: bytes) -> ElementTree.Element:
    """The XML tree. A document type is refused, so there are no entities, neither outside ones nor those that grow."""
    if not data:
        raise ValueError(f"empty, unreadable, or over {MAX_REPORT_BYTES:,} bytes")

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type")

    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = refuse
    guard.Parse(data, True)
    return ElementTree.fromstring(data)


def _attribute(report: ElementTree.Element, tag: str) -> str:
    found = report.find(tag)
    return "" if found is None else found.get("id", "").strip()


def _text(report: ElementTree.Element, section: str) -> str:
    parts = {
        part.get("Label", "").upper(): " ".join("".join(part.itertext()).split())
        for part in report.iter("AbstractText")
    }
    if section == "whole":
        return "\n".join(f"{name}: {text}" for name, text in parts.items() if text)
    wanted = ("FINDINGS", "IMPRESSION") if section == "both" else (section.upper(),)
    return "\n".join(parts[name] for name in wanted if parts.get(name))
