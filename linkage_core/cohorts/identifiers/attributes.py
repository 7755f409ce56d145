"""The attributes of DICOM that identify: attributes.csv.

A row is an attribute of table E.1-1 of PS3.15 (Application Level Confidentiality Profile Attributes, edition 2026c):
its tag (x: any digit), its keyword, what the basic profile does with it, and what kind of thing it holds.

| action | the basic profile |
|---|---|
| X | removes it |
| Z | empties it, or replaces it by a dummy value |
| D | replaces it by a dummy value |
| U | replaces it by another unique identifier |
| X/Z, X/D, Z/D, X/Z/D, X/Z/U* | does the first that the object allows |

Private attributes, which the profile removes too, have no row: every attribute of an odd group is one.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("attributes.csv")
COLUMNS = ("tag", "keyword", "action", "kind")
PRIVATE = "private attributes"


@dataclass(frozen=True)
class Attribute:
    """One row; place: its number in the table."""

    place: int
    tag: str
    keyword: str
    action: str
    kind: str


@cache
def attributes() -> tuple[Attribute, ...]:
    """Every row of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    return tuple(Attribute(place, *(row[name] for name in COLUMNS)) for place, row in enumerate(rows))


@cache
def _by_tag() -> dict[str, Attribute]:
    return {one.tag: one for one in attributes()}


def attribute_of(tag: int) -> Attribute | None:
    """The row of a tag, None where it has none.

    >>> attribute_of(0x00100010).keyword, attribute_of(0x60023000).keyword, attribute_of(0x00280010)
    ('PatientName', 'OverlayData', None)
    """
    digits = f"{tag:08X}"
    table = _by_tag()
    if digits[:2] in ("50", "60"):  # groups that repeat
        return table.get(f"{digits[:2]}xx{digits[4:]}") or table.get(f"{digits[:2]}xxxxxx")
    return table.get(digits)
