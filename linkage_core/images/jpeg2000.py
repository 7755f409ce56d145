"""JPEG 2000 codestreams (ISO/IEC 15444-1): their size, the file format around them, and holes in their data."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from linkage_core.errors import ImageError

SIGNATURE = b"\0\0\0\x0cjP  "
START = b"\xff\x4f\xff\x51"
SIZ, COD, SOT, SOD, CAP = 0xFF51, 0xFF52, 0xFF90, 0xFF93, 0xFF50


@dataclass(frozen=True)
class Stream:
    """What the main header says (A.5.1, A.6.1).

    `zeros`: bytes 0x00 in a row that data may have at most, unless the picture is a pattern; `most`: those of any.
    """

    bits: int
    height: int
    width: int
    n_components: int
    zeros: int
    most: int


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
    zeros = 64 + headers + 4 * blocks
    coded = 2 * (width * height * (bits + 2) // 8)  # bytes of two code blocks, each bit of which costs one at most
    if raw or high_throughput:  # bits that are stored as they are may all be zero
        zeros += coded
    return Stream(bits, bottom - top, right - left, n_components, zeros, zeros + coded)


def check_holes(data: bytes, stream: Stream, pixels: np.ndarray, name: str) -> None:
    """ImageError "damaged" where the data of these (decoded) pixels have more zeros in a row than they can have.

    The arithmetic coder gives zeros only where each of hundreds of decisions had the outcome that leaves its register
    (C.2.2), as none of a picture have. It can be where rows or columns are all alike, as in test patterns, within a
    code block. Otherwise zeros in a row are empty packets (B.10.3), and those can be counted.
    """
    runs = re.findall(rb"\0{64,}", data)
    longest = max(map(len, runs), default=0)
    if longest > stream.most or (longest > stream.zeros and not _is_pattern(pixels)):
        raise ImageError(
            "damaged",
            f"The compressed data of {name} are damaged: {longest:,} bytes of zero in a row.",
            "Copy the file again from its source.",
        )


def _is_pattern(pixels: np.ndarray) -> bool:
    """Whether many neighbours are equal, along rows or along columns, apart from the commonest value."""
    values, counts = np.unique(pixels, return_counts=True)
    ground = pixels == values[counts.argmax()]
    shares = []
    for axis in (0, 1):
        apart = ~(ground.take(range(1, ground.shape[axis]), axis) & ground.take(range(ground.shape[axis] - 1), axis))
        equal = np.diff(pixels, axis=axis) == 0
        shares.append(float((equal & apart).sum()) / max(1, int(apart.sum())))
    return max(shares) > 0.4
