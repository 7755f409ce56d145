"""What the header of one image file tells of somebody: which attributes are filled in, never their values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from linkage_core.cohorts.identifiers.attributes import PRIVATE, Attribute, attribute_of
from linkage_core.cohorts.identifiers.kinds import FILLED, FOUND, NONE, PLACE
from linkage_core.cohorts.identifiers.rules import kinds_in
from linkage_core.errors import ImageError
from linkage_core.images.dicom import PYDICOM_ERRORS, read_header

DEEPEST = 8
"""Levels of nested sequences that are looked into."""
SUBSTITUTE = re.compile(
    r"anon|de-?ident|de-?id\b|pseudo|remov|redact|delete|unknown|unspec|confidential|phantom|synthetic|no.?name"
    r"|not.?(?:given|avail)|^(?:none|n/?a|nil|null|name|patient|subject|volunteer|case|test|x+|\W+|0+)\b",
    re.IGNORECASE,
)
"""What is written in the place of a name or text that was taken out."""
_NAME_PART = re.compile(r"[^\W\d_][^\W\d_'’.-]+")
_OLD = 90


def identifying(data: bytes) -> list[str]:
    """Which attributes of the table the header of a DICOM file fills in, by keyword, names first; private ones
    last. Nested sequences are looked into; what hides in the pixels is not found. Raises ImageError only."""
    try:
        dataset = read_header(data, "This file", pixels=False)
        if "Rows" not in dataset:
            raise ImageError("not-an-image", "This file holds no DICOM image.", "Give a DICOM, PNG or JPEG file.")
        found = {attribute for attribute, _ in _filled(dataset) if attribute is not None}
        private = [PRIVATE] if any(attribute is None for attribute, _ in _filled(dataset)) else []
    except PYDICOM_ERRORS as error:
        raise ImageError("damaged", "The header of this file cannot be read.", "Export the file again.") from error
    ordered = sorted(found, key=lambda one: (PLACE[f"header {one.kind}"], one.place))
    return [*(one.keyword for one in ordered), *private]


def levels(dataset: Dataset) -> tuple[dict[int, int], bool]:
    """({place of an attribute: FILLED or FOUND}, whether private ones are filled in)."""
    found: dict[int, int] = {}
    private = False
    number = _words(dataset.get("PatientID"))
    for attribute, element in _filled(dataset):
        if attribute is None:
            private = True
        else:
            level = _level(attribute, element, number)
            found[attribute.place] = max(found.get(attribute.place, NONE), level)
    return {place: level for place, level in found.items() if level}, private


def said_removed(dataset: Dataset) -> bool:
    """Patient Identity Removed (0012,0062): the header says that it was de-identified."""
    return _words(dataset.get("PatientIdentityRemoved")).upper() == "YES"


def flagged(dataset: Dataset) -> bool:
    """Burned In Annotation (0028,0301) or Recognizable Visual Features (0028,0302) is YES."""
    said = (dataset.get(keyword) for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"))
    return any(_words(value).upper() == "YES" for value in said)


def own_in(dataset: Dataset, report: str) -> bool:
    """Whether the report holds a part of the header's own patient name, its patient id or its accession number.

    A part of the name has three letters or more and is no substitute; in the report it stands as a word with a capital
    that does not begin a sentence, for there are patients called White. Numbers have four digits or more.
    """
    name = _words(dataset.get("PatientName"))
    parts = [] if SUBSTITUTE.search(name) else [part for part in re.split(r"[\s^=,]+", name) if len(part) > 2]
    words = {part.capitalize() for part in parts if part.isalpha()} | {part.upper() for part in parts if part.isalpha()}
    if any(re.search(rf"(?<![.:!?]\s)(?<!^)\b{re.escape(word)}\b", report) for word in words):
        return True
    numbers = [_words(dataset.get(keyword)) for keyword in ("PatientID", "AccessionNumber")]
    return any(
        sum(letter.isdigit() for letter in number) >= 4 and re.search(rf"(?<!\w){re.escape(number)}(?!\w)", report)
        for number in numbers
    )


def _filled(dataset: Dataset, depth: int = 0) -> Iterator[tuple[Attribute | None, DataElement]]:
    """(attribute of the table, element) of all that are filled in; (None, element) for private ones."""
    for element in dataset:
        if element.tag.is_private:
            if not element.is_empty and not element.tag.is_private_creator:
                yield None, element
            continue
        attribute = attribute_of(int(element.tag))
        if element.VR == "SQ":
            if attribute is not None and element.value:
                yield attribute, element
            if depth < DEEPEST:
                for item in element.value or ():
                    yield from _filled(item, depth + 1)
        elif attribute is not None and not element.is_empty and _words(element.value):
            yield attribute, element


def _level(attribute: Attribute, element: DataElement, patient: str) -> int:
    """What a value that is there tells: NONE where it is a substitute for certain."""
    if attribute.kind in ("nested", "data", "uid"):
        return FILLED
    text = _words(element.value)
    if SUBSTITUTE.search(text):
        return NONE
    if attribute.kind == "name":
        named = any(_NAME_PART.fullmatch(part) for part in re.split(r"[\s^=,\\]+", text)) and text != patient
        return FOUND if named else FILLED
    if attribute.kind == "place":
        return FOUND if re.search(r"\w{2}", text) else FILLED
    if attribute.keyword == "PatientBirthDate":  # the one date that no option of PS3.15 lets stay
        return FOUND if _is_past_day(text) else FILLED
    if attribute.keyword == "PatientAge":
        return FOUND if re.fullmatch(r"\d{3}Y", text) and int(text[:3]) >= _OLD else FILLED
    if attribute.kind == "text":
        return FOUND if kinds_in(text) else FILLED
    return FILLED


def _is_past_day(text: str) -> bool:
    """Whether a birth date names a day: not the first of a year alone, as it is written where only the year is kept,
    and none of the future, as shifted ones are."""
    found = re.fullmatch(r"(\d{4})\D?(\d\d)\D?(\d\d)", text)
    return bool(found) and found[2] + found[3] != "0101" and 1880 <= int(found[1]) <= date.today().year  # type: ignore[index]


def _words(value: Any) -> str:
    """A value as text; of bytes only whether there are any."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return "bytes" if value.strip(b"\0 ") else ""
    return str(value).strip().strip("\0").strip()
