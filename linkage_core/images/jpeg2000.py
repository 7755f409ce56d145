"""JPEG 2000 codestreams (ISO/IEC 15444-1): their size, the file format around them, and holes in their data."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from linkage_core.errors import ImageError

SIGNATURE = b"\0\0\0\x0cjP  "
START = b"\xff\x4f\xff\x51"
SIZ, COD, SOT, SOD, CAP = 0xFF51, 0xFF52, 0xFF90, 0xFF93, 0xFF50


@dataclass(frozen=True)
class Stream:
    """What the main header says (A.5.1, A.6.1). `zeros`: bytes 0x00 in a row that sound data may have at most."""

    bits: int
    height: int
    width: int
    n_components: int
    zeros: int


def codestream(data: bytes, name: str) -> bytes:
    """The codestream of a JP2 file (I.5.4): the contents of its first `jp2c` box; other data as they are."""
    if not data.startswith(SIGNATURE):
        return data
    at = 0
    while at + 8 <= len(data):
        length, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if length == 1:
            length, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + length if length else len(data)
        if kind == b"jp2h" and b"pclr" in data[at:end]:
            raise ImageError("colour", f"{name} holds a JP2 file with a palette.", "Save its picture as grey values.")
        if kind == b"jp2c":
            return data[at + header : end]
        if end < at + header:
            break
        at = end
    raise ImageError("damaged", f"{name} holds a JP2 file without a codestream.", "Copy the file again.")


def parse(data: bytes) -> Stream:
    """The main header; struct.error where it is cut."""
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, 8)
    n_components = struct.unpack_from(">H", data, 40)[0]
    levels, layers, width, height, raw = 32, 1 << 16, 1 << 10, 1 << 10, True
    at, high_throughput = 4 + int.from_bytes(data[4:6], "big"), False
    while at + 4 <= len(data):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker in (SOT, SOD):
            break
        high_throughput |= marker == CAP
        if marker == COD:
            layers, levels = int.from_bytes(data[at + 6 : at + 8], "big"), data[at + 9]
            width, height, raw = 4 << data[at + 10], 4 << data[at + 11], bool(data[at + 12] & 0x41)
        at += 2 + length
    bits = (data[42] & 0x7F) + 1
    tile_width, tile_height = min(tile_width, right), min(tile_height, bottom)
    blocks = n_components * (tile_width // width + 2) * (tile_height // height + 2)  # of the finest level: 3/4 of all
    n_precincts = blocks  # there are no more of them, for none is smaller than a code block
    # An empty packet is one byte of zero (B.10.3), and a packet's header has a few bits a code block that may be zero.
    headers = layers * (n_precincts + levels + 1) * n_components if layers > 1 else 2 * n_precincts + levels + 1
    block = width * height * (bits + 2) // 8 if raw or high_throughput else 0  # bits that are stored as they are
    return Stream(bits, bottom - top, right - left, n_components, 64 + headers + 4 * blocks + block)


def check_holes(data: bytes, stream: Stream, name: str) -> None:
    """ImageError "damaged" where the data have more zeros in a row than any picture gives.

    The arithmetic coder (C.2) gives a byte of zero only where each of the decisions behind it was the less likely
    one; hundreds in a row are no picture. Zeros in a row are otherwise empty packets, and those can be counted.
    """
    for found in re.compile(rb"\0{%d,}" % min(stream.zeros, 1 << 30)).finditer(data):
        raise ImageError(
            "damaged",
            f"The compressed data of {name} are damaged: {found.end() - found.start():,} bytes of zero in a row.",
            "Copy the file again from its source.",
        )
