"""The compressed stream of a DICOM file with one picture, and what it is compressed with."""

from __future__ import annotations

from linkage_core.errors import ImageError
from linkage_core.images import jpeg, jpeg2000

ITEM, DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

FAMILIES = {
    "RLE": ("1.2.840.10008.1.2.5",),
    "JPEG": ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"),
    "lossless JPEG": ("1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.57"),
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    "JPEG 2000": tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)),
}
"""Kind of stream -> transfer syntaxes that hold one, the one to decode it by first."""

JPEG_FRAMES = {
    jpeg.BASELINE: "JPEG",
    jpeg.EXTENDED: "JPEG",
    jpeg.PROGRESSIVE: "JPEG",
    jpeg.LOSSLESS: "lossless JPEG",
    jpeg.JPEG_LS: "JPEG-LS",
}
STARTS = (b"\xff\xd8", jpeg2000.START, jpeg2000.SIGNATURE)


def join(value: bytes, name: str) -> bytes:
    """All fragments of encapsulated pixel data (PS3.5 A.4) as one stream.

    There is one picture, so whatever the offset table says about where frames begin, they all belong to it. A stream
    that was put in without fragments, or a first fragment in place of the offset table, is taken as it is.
    """
    if value.startswith(STARTS):
        return value
    if not value.startswith(ITEM):
        raise ImageError(
            "bad-values",
            f"{name} is compressed by its transfer syntax, but its pixel data begin with {value[:8].hex(' ')}.",
            "Export the file again.",
        )
    items: list[bytes] = []
    at = 0
    while value[at : at + 4] == ITEM:
        length = int.from_bytes(value[at + 4 : at + 8], "little")
        if at + 8 + length > len(value):
            raise ImageError(
                "truncated", f"The compressed image of {name} has no end.", "Copy the file again from its source."
            )
        items.append(value[at + 8 : at + 8 + length])
        at += 8 + length
    table = len(items) > 1 and not items[0].startswith(STARTS)
    return b"".join(items[table:])


def kind(stream: bytes, frame: int) -> str:
    """The key of FAMILIES that a stream belongs to, "" where it is none; `frame` is that of its JPEG header."""
    if stream.startswith(jpeg2000.START):
        return "JPEG 2000"
    if stream.startswith(b"\xff\xd8"):
        return JPEG_FRAMES.get(frame, "")
    return "RLE" if 1 <= int.from_bytes(stream[:4], "little") <= 15 and len(stream) >= 64 else ""
