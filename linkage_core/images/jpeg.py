"""JPEG streams (ITU-T T.81): their frame header, and whether the compressed data fill the picture, no more, no less.

Decoders go on when data are damaged: a hole of zeros in the compressed data is decoded as some other picture, and the
warning that bits were left over, or missing, is not handed on. Both can be found out from outside.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
import simplejpeg
from PIL import Image

from linkage_core.errors import ImageError

LEFT, LACKING = 2, 16
"""Bytes that may be left over at the end, or missing there, before a picture is called damaged. Decoders look a few
bytes ahead, so that these are more in effect."""

ZEROS = re.compile(rb"\0{64,}")
GARBAGE = bytes(0x35 + 7 * i % 64 for i in range(64))  # neither 0x00 nor 0xFF, so no marker comes about
OPPOSITE = bytes(255 - byte for byte in GARBAGE)
MARKER = re.compile(rb"\xff[^\x00\xff]")
CORRUPT = "Corrupt JPEG data: "
TOO_MUCH = re.compile(r"(\d+) extraneous bytes")
MOST_TRIALS = 8  # runs of zeros that are looked at more closely
MOST_SCANS = 1000  # a progressive picture has about ten
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7


@dataclass(frozen=True)
class Scan:
    """Compressed data from `start` to `end`, and the places of the restart markers between."""

    start: int
    end: int
    n_components: int
    restarts: tuple[int, ...]
    expected: int | None
    """Restart markers that there should be; None where that cannot be said."""
    refines: bool
    """Whether it adds a bit to what an earlier scan gave (G.1.2): many of its bits are stored as they are."""


@dataclass(frozen=True)
class Stream:
    """What the headers say. `frame` is the second byte of the SOF marker; 0, like the sizes, where there is none."""

    frame: int = 0
    bits: int = 0
    height: int = 0
    width: int = 0
    sampling: tuple[tuple[int, int, int], ...] = ()
    scans: tuple[Scan, ...] = ()

    @property
    def n_components(self) -> int:
        return len(self.sampling)


def parse(data: bytes) -> Stream:
    """The frame header and the scans (B.2); what cannot be followed ends the reading, and decoders judge it."""
    stream, interval, at = Stream(), 0, 2
    while at + 4 <= len(data) and data[at] == 0xFF and len(stream.scans) < MOST_SCANS:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xD9:
            break
        if marker == 0xDD and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        elif marker == JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if len(body) < 6 or len(body) < 6 + 3 * body[5]:
                break
            bits, height, width, n = struct.unpack_from(">BHHB", body)
            parts = tuple((body[6 + 3 * i], body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(n))
            stream = replace(stream, frame=marker, bits=bits, height=height, width=width, sampling=parts)
        elif marker == 0xDA and body:
            scan = _scan(data, at + 2 + length, body, stream, interval)
            stream = replace(stream, scans=(*stream.scans, scan))
            at = scan.end
            continue
        at += 2 + length
    return stream


def _scan(data: bytes, start: int, header: bytes, stream: Stream, interval: int) -> Scan:
    restarts = []
    end = len(data)
    for found in MARKER.finditer(data, start):
        if 0xD0 <= found.group()[-1] <= 0xD7:
            restarts.append(found.start())
            continue
        if stream.frame == JPEG_LS and found.group()[-1] < 0x80:
            continue  # bit stuffing there: after 0xFF comes a byte below 0x80 (T.87 A.1)
        end = found.start()
        while end > start and data[end - 1] == 0xFF:  # fill bytes
            end -= 1
        break
    refines = stream.frame == PROGRESSIVE and header[-1] >> 4 > 0
    ids = [header[1 + 2 * i] for i in range(header[0]) if 1 + 2 * i < len(header)]
    return Scan(start, end, header[0], tuple(restarts), _n_restarts(ids, stream, interval), refines)


def _n_restarts(ids: list[int], stream: Stream, interval: int) -> int | None:
    """Restart markers of a scan (A.2, E.1.4)."""
    sampling = {one[0]: one[1:] for one in stream.sampling}
    if not interval:
        return 0
    if not stream.height or any(part not in sampling or 0 in sampling[part] for part in ids):
        return None
    unit = 1 if stream.frame == LOSSLESS else 8
    across, down = (max(one[i] for one in sampling.values()) for i in (0, 1))
    if len(ids) == 1:  # by itself a component is not padded to whole units of the others
        h, v = sampling[ids[0]]
        width, height = -(-stream.width * h // across), -(-stream.height * v // down)
        units = -(-width // unit) * -(-height // unit)
    else:
        units = -(-stream.width // (unit * across)) * -(-stream.height // (unit * down))
    return (units - 1) // interval


def load(data: bytes, name: str) -> Image.Image:
    """The decoded picture; ImageError "damaged" where its data do not fill it. Pillow's errors go through."""
    stream = parse(data)
    if any(scan.end == len(data) for scan in stream.scans):
        return _open(io.BytesIO(data.rstrip(b"\0")))  # without an end; Pillow says whether that does any harm
    if len(stream.scans) != 1 or stream.frame not in (BASELINE, EXTENDED):
        image = _open(io.BytesIO(data))
        check_holes(data, stream, lambda: np.asarray(image), _decode, name)
        return image
    scan = stream.scans[0]
    near = max(scan.start, scan.end - LEFT)
    served = _Served(data[: scan.end] + GARBAGE + data[scan.end :], (near, scan.end + LACKING))
    image = _open(served)
    if served.at <= near == scan.end - LEFT:
        _damaged(name, LEFT_OVER)
    if served.at > scan.end + LACKING:
        _damaged(name, MISSING)
    # decoders start anew at each of these markers, so its end says little; and they may look some bytes ahead
    if scan.restarts or scan.expected or ZEROS.search(data, scan.start, scan.end):
        check_holes(data, stream, lambda: np.asarray(image), _decode, name)
    return image


def _open(file: io.BytesIO) -> Image.Image:
    image = Image.open(file, formats=("JPEG",))
    image.load()
    return image


def _decode(data: bytes) -> np.ndarray:
    return np.asarray(_open(io.BytesIO(data)))


class _Served(io.BytesIO):
    """A file that is read in stretches which end at `stops`, and knows how far it was read (`at`)."""

    def __init__(self, data: bytes, stops: tuple[int, int]) -> None:
        super().__init__(data)
        self.stops = stops
        self.at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        here = self.tell()
        stop = next((stop for stop in self.stops if stop > here), None)
        if size is not None and size > 0 and stop is not None and here >= 0:
            size = min(size, stop - here)
        got = super().read(size)
        self.at = max(self.at, self.tell())
        return got


def check_holes(
    data: bytes, stream: Stream, decoded: Callable[[], np.ndarray], decode: Callable[[bytes], np.ndarray], name: str
) -> None:
    """ImageError "damaged" where a long run of zeros in the compressed data cannot be what was compressed.

    Black margins may give such runs too, so trials decide (`decode` gives the pixels of a stream, `decoded` those of
    this one). In a sound stream bytes put in before a marker have no say in the picture, and the bytes before it have:
    the data end with the last unit (F.1.2.3). A hole stands for fewer units, or for more, than what was there.
    """
    for scan in stream.scans:
        n = len(scan.restarts)
        if scan.expected is not None and stream.frame != JPEG_LS and not 0 <= n - scan.expected <= 1:
            _damaged(name, f"of {scan.expected:,} restart markers {n:,} are there")
    runs = [
        (found.end() - found.start(), found.start(), scan)
        for scan in stream.scans
        for found in ZEROS.finditer(data, scan.start, scan.end)
    ]
    if stream.bits == 8 and stream.frame in (BASELINE, EXTENDED, PROGRESSIVE):
        warning = _warning(data)
        if warning:
            _damaged(name, warning)
        if warning is not None:
            longest = sorted(runs, key=lambda run: -run[0])[:MOST_TRIALS]
            for end in {_interval(scan, at)[1] for _, at, scan in longest}:
                if _warning(data[: end - LEFT - 1] + data[end:]) == "":
                    _damaged(name, LEFT_OVER)
            return
    runs = [run for run in runs if not run[-1].refines]  # of those the last bits change little
    if not runs or decoded().min() == decoded().max():
        return
    _, at, scan = max(runs, key=lambda run: run[:2])
    start, end = _interval(scan, at)
    tail = min(len(GARBAGE), (end - start) // 2)
    if not _same(decode, data[:end] + GARBAGE + data[end:], decoded()):
        _damaged(name, MISSING)
    if all(_same(decode, data[: end - tail] + other[:tail] + data[end:], decoded()) for other in (GARBAGE, OPPOSITE)):
        _damaged(name, LEFT_OVER)


def _interval(scan: Scan, at: int) -> tuple[int, int]:
    """Start and end of the data around `at`, between two restart markers."""
    start = max((place + 2 for place in scan.restarts if place < at), default=scan.start)
    return start, min((place for place in scan.restarts if place > at), default=scan.end)


def _warning(data: bytes) -> str | None:
    """What libjpeg-turbo warns of when it decodes these data, but for the few bytes that may be left over; "" where
    nothing, None where it cannot decode them."""
    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True)
    except ValueError as error:
        said = str(error)
        if not said.startswith(CORRUPT):
            return None
        left = TOO_MUCH.search(said)
        return "" if left and int(left[1]) <= LEFT else said.removeprefix(CORRUPT)
    return ""


def _same(decode: Callable[[bytes], np.ndarray], data: bytes, decoded: np.ndarray) -> bool:
    try:
        return np.array_equal(decode(data), decoded)
    except (OSError, ValueError, SyntaxError, RuntimeError):
        return False


LEFT_OVER = "the picture was complete before its data ended"
MISSING = "its data ended before the picture was complete"


def _damaged(name: str, why: str) -> NoReturn:
    raise ImageError(
        "damaged", f"The compressed data of {name} are damaged: {why}.", "Copy the file again from its source."
    )
