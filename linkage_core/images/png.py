"""PNG files (W3C PNG, third edition): their chunks, and the colour types of 16 bits, which Pillow reads as 8."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from linkage_core.errors import ImageError
from linkage_core.images.pixels import luminance, strips

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, GREY_ALPHA: 2, COLOUR_ALPHA: 4}


@dataclass(frozen=True)
class Header:
    """Depth of a sample, colour type, and the colour that is transparent (16-bit samples), if one is."""

    bits: int
    colour: int
    transparent: tuple[int, ...] = ()

    @property
    def is_deep(self) -> bool:
        return self.bits == 16


def check(data: bytes, name: str) -> Header:
    """The header; ImageError "damaged" where a chunk that the picture depends on has another checksum than it says.

    Pillow does not look at the checksums of image data.
    """
    header, transparent = Header(8, GREY), b""
    at = 8
    while at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        body, end = data[at + 8 : at + 8 + length], at + 8 + length
        if end + 4 > len(data):
            break  # cut; Pillow says so
        if (kind[:1].isupper() or kind == b"tRNS") and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(
            data[end : end + 4], "big"
        ):
            raise ImageError(
                "damaged",
                f"The chunk {kind.decode('ascii', 'replace')} of {name} is not what its checksum says.",
                "Copy the file again from its source.",
            )
        if kind == b"IHDR" and length == 13:
            header = Header(body[8], body[9])
        elif kind == b"tRNS":
            transparent = body
        elif kind == b"IEND":
            break
        at = end + 4
    if header.colour in (GREY, COLOUR) and len(transparent) == 2 * CHANNELS[header.colour]:
        return Header(header.bits, header.colour, struct.unpack(f">{len(transparent) // 2}H", transparent))
    return header


def grey(data: bytes, header: Header, image: Image.Image) -> np.ndarray:
    """Luminance (height, width) uint16 of a PNG of 16 bits, alpha on black and the transparent colour black; `image` is
    Pillow's, loaded.

    Pillow keeps the upper byte of such samples, or, told that the file is little-endian, the lower one.
    """
    if header.colour == GREY:
        samples = np.asarray(image).astype(np.uint16)[..., None]
    elif header.colour == GREY_ALPHA:  # four bytes a pixel, like 8-bit RGBA
        samples = _bytes(data, "RGBA").view(">u2").astype(np.uint16)
    else:
        mode = "RGB" if header.colour == COLOUR else "RGBA"
        upper, lower = _bytes(data, f"{mode};16B"), _bytes(data, f"{mode};16L")
        samples = upper.astype(np.uint16) << 8 | lower
    height, width = samples.shape[:2]
    shown = np.empty((height, width), np.uint16)
    for rows in strips(height, width):
        part = samples[rows]
        shown[rows] = luminance(part[..., :3], 65535) if part.shape[-1] > 2 else part[..., 0]
        if header.colour in (GREY_ALPHA, COLOUR_ALPHA):
            shown[rows] = (shown[rows].astype(np.uint32) * part[..., -1] + 32767) // 65535
        elif header.transparent:
            shown[rows][(part == header.transparent).all(axis=-1)] = 0
    return shown


def _bytes(data: bytes, raw_mode: str) -> np.ndarray:
    """(height, width, n) uint8, the samples as Pillow unpacks them when told this raw mode."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
        image.load()
        return np.asarray(image)
