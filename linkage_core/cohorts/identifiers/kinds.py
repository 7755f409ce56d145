"""The kinds of identifier that are looked for, and where."""

from __future__ import annotations

from dataclasses import dataclass

from linkage_core.validate import by_name

HEADER, FILE, PIXELS, REPORT = "header", "file", "pixels", "report"


@dataclass(frozen=True)
class Kind:
    """One kind. words: what stands behind "n records with"; `name` begins with where it is looked for."""

    name: str
    words: str

    @property
    def where(self) -> str:
        return self.name.split(" ")[0]


KINDS = by_name(
    "kind of identifier",
    Kind("header name", "a person's name in the header"),
    Kind("header place", "an institution, address or telephone number in the header"),
    Kind("header number", "a number of the patient, the study or the order in the header"),
    Kind("header date", "a date or time in the header"),
    Kind("header uid", "a unique identifier in the header"),
    Kind("header patient", "sex, age, size or the like in the header"),
    Kind("header device", "a device's name or serial number in the header"),
    Kind("header text", "a description or comment in the header"),
    Kind("header nested", "a nested table about people, orders or other images in the header"),
    Kind("header data", "an overlay, curve or document beside the image in the header"),
    Kind("header private", "attributes of a manufacturer's own in the header"),
    Kind("pixels flag", "a header that says there is text in the pixels, or a recognizable face"),
    Kind("pixels text", "words in the pixels"),
    Kind("file text", "text, a place or a date beside the pixels of a PNG or JPEG"),
    Kind("report own", "the header's own name or number in the report"),
    Kind("report name", "a person's name in the report"),
    Kind("report date", "a date in the report"),
    Kind("report time", "a time of day in the report"),
    Kind("report phone", "a telephone or pager number in the report"),
    Kind("report contact", "an e-mail, web or network address in the report"),
    Kind("report number", "a record, study or other long number in the report"),
    Kind("report age", "an age of 90 or more in the report"),
    Kind("report place", "an address, hospital or room in the report"),
)
PLACE = {name: place for place, name in enumerate(KINDS)}
NONE, FILLED, FOUND = 0, 1, 2
"""What is known of a kind in a record. FILLED: a value stands where the basic profile removes or replaces one, and it
may be a substitute (another date, a pseudonym): whether it is cannot be seen. FOUND: it identifies as it stands."""
LEVELS = {FOUND: "found", FILLED: "filled in"}
"""Both in words, as tables and files have them."""
