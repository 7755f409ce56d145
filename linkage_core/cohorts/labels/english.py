"""Is a report English? The rules know no other language, and would find nothing wrong in a Spanish one.

The check counts words of a table, words.csv: those that only English has (function words such as "the", "with", and a
few of every chest report, such as "lungs"), and those that only its neighbours have (function words of thirteen
languages in Latin letters; what is English too is taken out). A report is English where the first are at least one in
twenty of its words and more than the second; it is another language where the second are more, where a third of its
letters are not Latin, or where it has at least eight words and none of the first. What is too short to say ("Normal.")
is neither.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("words.csv")
LEAST_SHARE, LEAST_WORDS = 0.05, 8
_ENGLISH, _SHARED = ("English", "English reports"), "also English"
_WORD = re.compile(r"[^\W\d_]+")


@cache
def words() -> tuple[frozenset[str], frozenset[str]]:
    """(words of English alone, words of other languages alone)."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = {row["language"]: row["words"].split() for row in csv.DictReader(file, strict=True)}
    english = frozenset(word for name in _ENGLISH for word in rows[name])
    shared = english | frozenset(rows[_SHARED])
    others = (word for name in rows if name not in (*_ENGLISH, _SHARED) for word in rows[name])
    return english, frozenset(others) - shared


def is_english(report: str) -> bool | None:
    """True, False, or None where the text is too short to say.

    >>> is_english("The lungs are clear."), is_english("Sin derrame pleural. Silueta cardíaca normal.")
    (True, False)
    >>> is_english("Normal.") is None
    True
    """
    found = _WORD.findall(unicodedata.normalize("NFC", report).lower())
    letters = "".join(found)
    if letters and sum(not _latin(letter) for letter in letters) > len(letters) / 3:
        return False
    ours, theirs = words()
    english, other = (sum(word in some for word in found) for some in (ours, theirs))
    if other > english:
        return False
    if english > other and english >= LEAST_SHARE * len(found) and len(found) >= 2:
        return True
    return False if len(found) >= LEAST_WORDS and english < LEAST_SHARE * len(found) else None


def foreign(reports: Iterable[str]) -> list[bool]:
    """For each report whether the rules must not read it: it is of another language, or too short to say where most of
    those that can be told are."""
    said = [is_english(report) for report in reports]
    told = [one for one in said if one is not None]
    mostly = bool(told) and sum(told) * 2 < len(told)
    return [mostly if one is None else not one for one in said]


def _latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")
