"""DICOM Structured Reports (PS3.3 A.35, PS3.16 TID 2000): the text that a radiologist wrote, out of its tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from linkage_core import bounded
from linkage_core.cohorts.reports.base import Growing, Reports, rejected, reports_of
from linkage_core.errors import ImageError, InputError

MAX_BYTES = 1 << 24
MAX_DEPTH = 32
NARRATIVE = "111412"  # DCM, Narrative Summary: text that stands without a heading
HEADINGS = {
    **{"121060": "HISTORY", "121062": "REQUEST", "121064": "PROCEDURE", "121066": "COMPARISON", "121068": "COMPARISON"},
    **{"121070": "FINDINGS", "121071": "FINDINGS", "121072": "IMPRESSION", "121073": "IMPRESSION"},
    **{"121074": "RECOMMENDATION", "121075": "RECOMMENDATION", "121076": "CONCLUSION", "121077": "CONCLUSION"},
    **{"121078": "ADDENDUM", "121110": "PATIENT", "121111": "SUMMARY"},
}
"""Codes of DCM (PS3.16 CID 7001, 7002) -> what stands before the text of a container or item."""
CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (11, 22, 33, 34))
"""Basic Text, Enhanced, Comprehensive and Comprehensive 3D SR: those that hold reports (88.59 is key objects)."""


def read_all(paths: list[Path]) -> Reports:
    """One report a file; DICOM that is no report is counted in a note."""
    found = Growing("item", "study", "accession", "patient", "report", "rank")
    lost = []
    others = 0
    for path in paths:
        try:
            if path.stat().st_size > MAX_BYTES:
                others += 1
                continue
            row = report_of(bounded.read(path, MAX_BYTES))
        except (OSError, InputError) as error:
            what = error.what if isinstance(error, InputError) else f"The file cannot be read ({type(error).__name__})."
            lost.append(rejected([path.name], "damaged-report", what, "Export it again."))
            continue
        if row is None:
            others += 1
        elif not row["report"]:
            lost.append(rejected([path.name], "empty-report", "The SR holds no text.", "Export it with its text."))
        else:
            found.add(path.name, row["study"], row["accession"], row["patient"], row["report"], row["rank"])
    notes = [f"{others:,} DICOM files that are no structured report: left out"] if others else []
    return reports_of(found.table(), _together(lost), notes)


def _together(parts: list[Any]) -> Any:
    import pandas as pd

    return pd.concat(parts, ignore_index=True) if parts else None


def report_of(data: bytes) -> dict[str, Any] | None:
    """study, accession, patient, report and rank of one SR file; None for DICOM that is none.

    Text stands in the order of the tree; a container or item whose concept is in HEADINGS begins with that heading.
    Verified counts as final. Raises InputError, which says nothing of the content, for what cannot be parsed.
    """
    from linkage_core.images.dicom import PYDICOM_ERRORS, read_header  # here: it takes a while to import

    try:
        if data[128:132] != b"DICM":
            raise InputError("A structured report cannot be parsed: it is no DICOM file.", "Export it again.")
        header = read_header(data, "A structured report", pixels=False)
        if str(header.get("SOPClassUID", "")) not in CLASSES:
            return None
        lines: list[str] = []
        _walk(header, "", lines, 0)
        flag = str(header.get("VerificationFlag", ""))
        status = str(header.get("PreliminaryFlag", "")).lower() or ("final" if flag == "VERIFIED" else "")
        return {
            "study": str(header.get("StudyInstanceUID", "")).strip(),
            "accession": str(header.get("AccessionNumber", "")).strip(),
            "patient": str(header.get("PatientID", "")).strip(),
            "report": "\n".join(lines).strip(),
            "rank": int(status == "final"),
        }
    except InputError:
        raise
    except (*PYDICOM_ERRORS, ImageError) as error:
        raise InputError(
            f"A structured report cannot be parsed ({type(error).__name__}).", "Export it again."
        ) from None


def _walk(node: Any, above: str, lines: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InputError(f"A structured report is nested more than {MAX_DEPTH} deep.", "Export it again.")
    for item in node.get("ContentSequence", []):
        names = item.get("ConceptNameCodeSequence", [])
        code = str(names[0].get("CodeValue", "")) if len(names) else ""
        heading = HEADINGS.get(code, "") if code != NARRATIVE else ""
        if str(item.get("ValueType", "")) == "TEXT" and (text := str(item.get("TextValue", "")).strip()):
            fresh = heading and heading != above and code != NARRATIVE
            lines.append(f"{heading}: {text}" if fresh else text)
            above = heading or above
        elif heading and heading != above:
            inside: list[str] = []
            _walk(item, heading, inside, depth + 1)
            if inside:
                lines.extend([f"{heading}: {inside[0]}", *inside[1:]])
                above = heading
            continue
        _walk(item, above, lines, depth + 1)
