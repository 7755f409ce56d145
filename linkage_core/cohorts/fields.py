"""The values of a record, however a source spells them."""

from __future__ import annotations

import math
import re

from linkage_core.validate import one_of

SECTIONS = ("both", "findings", "impression", "whole")

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(Y|M|W|D)?", re.IGNORECASE)
_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_VIEWS = {
    "PA": "PA",
    "POSTEROANTERIOR": "PA",
    "AP": "AP",
    "ANTEROPOSTERIOR": "AP",
    "L": "LATERAL",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
}
_SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F"}
_HEADING = re.compile(r"(?:^[ \t]*((?i:findings|impression))|\b([A-Z][A-Z /&]{3,40}))[ \t]*:", re.MULTILINE)


def view(text: str) -> str:
    """PA, AP, LATERAL, or "" where the text does not say which one.

    >>> [view(text) for text in ("AP Supine", "L", "lateral", "frontal", "PA and lateral", "")]
    ['AP', 'LATERAL', 'LATERAL', '', '', '']
    """
    words = set(re.split(r"[^A-Z]+", text.upper()))
    said = {_VIEWS[word] for word in words & _VIEWS.keys()}
    if "DECUBITUS" in words:  # "lateral decubitus" says how the patient lies, not how the ray goes
        said.discard("LATERAL")
    return said.pop() if len(said) == 1 else ""


def sex(text: str) -> str:
    """F, M, or ""."""
    return _SEXES.get(text.strip().upper(), "")


def age(text: str) -> float:
    """Years; NaN where there is no number between 0 and 120.

    >>> age("045Y"), age("18M"), age("200"), age("adult")
    (45.0, 1.5, nan, nan)
    """
    said = _AGE.fullmatch(text.strip())
    if not said:
        return math.nan
    years = float(said[1]) * _YEARS[(said[2] or "Y").upper()]
    return years if years <= 120 else math.nan


def label(text: str) -> float:
    """1, 0, -1, or NaN for an empty cell; ValueError for anything else."""
    if text.strip().lower() in ("", "nan", "none"):
        return math.nan
    value = float(text)
    if value not in (1, 0, -1):
        raise ValueError(text)
    return value


def checked_section(section: str) -> str:
    """The section if it is one of SECTIONS; else InputError."""
    one_of("section", section, SECTIONS)
    return section


def select_section(report: str, section: str) -> str:
    """The part of a report under its FINDINGS or IMPRESSION heading, or "" without one; the report as it is for both.

    >>> select_section("FINDINGS: Clear lungs. IMPRESSION: Normal.", "impression")
    'Normal.'
    """
    if checked_section(section) in ("both", "whole"):
        return report.strip()
    headings = list(_HEADING.finditer(report))
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    parts = [
        report[heading.end() : end].strip()
        for heading, end in zip(headings, ends, strict=False)
        if section.upper() in (heading[1] or heading[2]).upper()
    ]
    return "\n".join(part for part in parts if part)
