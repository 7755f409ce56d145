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

GAP_WORDS = frozenset(
    (
        *(
            "na",
            "n/a",
            "nan",
            "-nan",
            "none",
            "null",
            "nil",
            "nat",
            "<na>",
            "#na",
            "#n/a",
            "#n/a n/a",
            "#null!",
            "#ref!",
        ),
        *("#name?", "#value!", "\\n", "-", "--", ".", "(null)", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    )
)
"""What programs write where a cell is empty, in lower case. They are gaps in a view, sex, age or label; as an id or a
report they are kept as they stand (somebody may be called NA) and counted in a note."""


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


def is_gap(text: str) -> bool:
    """Whether a cell is empty or holds a word that stands for that.

    >>> [is_gap(text) for text in ("", " N/A", "nan", "0", "NAN lines clear")]
    [True, True, True, False, False]
    """
    said = text.strip().lower()
    return not said or said in GAP_WORDS


def label(text: str) -> float:
    """1, 0, -1, or NaN for a gap; ValueError for anything else."""
    if is_gap(text):
        return math.nan
    value = float(text)
    if value not in (1, 0, -1):
        raise ValueError(text)
    return value


def checked_section(section: str) -> str:
    """The section if it is one of SECTIONS; else InputError."""
    one_of("section", section, SECTIONS)
    return section
