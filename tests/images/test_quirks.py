"""Files that are written unlike the plain one, or wrong: each gives the plain one's pixels, a note, or a refusal.

Every row of QUIRKS is a file and what has to come of it. None may give other pixels without a word.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from helpers.pictures import chest, dicom, gray_palette, hole, jpeg, lut, png, raw_png, words
from helpers.places import SHARED
from linkage_core.errors import ImageError
from linkage_core.images.notes import NOTES
from linkage_core.images.read import decode_radiograph

PIXELS = chest()
DEEP = chest(largest=65535)
PICKED = int(DEEP[20, 20])
SMALL = chest(largest=255)
RAMP = np.arange(256)
PADDED = PIXELS.copy()
PADDED[:, :9] = -2000


@dataclass
class Quirk:
    """A file, the plain file that it has to look like (None: refused), and the notes or the reason to be given."""

    name: str
    data: Callable[[], bytes]
    twin: Callable[[], bytes] | None = None
    notes: set[str] = field(default_factory=set)
    reason: str = ""
    close: int = 0  # shown values that rounding may be off by


def plain(pixels: np.ndarray = PIXELS, bits: int = 12, **tags: Any) -> bytes:
    return dicom(pixels.astype(np.uint16), bits=bits, **tags)


def signed(pixels: np.ndarray, bits: int = 16, **tags: Any) -> bytes:
    return dicom(pixels.astype(np.int16), bits=bits, **tags)


def typed(data: bytes, keyword: str, vr: str, value: Any) -> bytes:
    """The file with an element written in this value representation, whatever its pixels are."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.add_new(keyword, vr, value)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def floats(pixels: np.ndarray, keyword: str, dtype: str, **tags: Any) -> bytes:
    """A file of floating point pixels (PS3.3 C.7.6.24)."""
    without = dict.fromkeys(("BitsStored", "HighBit", "PixelRepresentation", "PixelData"))
    allocated = 8 * np.dtype(dtype).itemsize
    return plain(BitsAllocated=allocated, **without, **tags, **{keyword: pixels.astype(dtype).tobytes()})


def framed(frame: bytes, pixels: np.ndarray = SMALL, syntax: Any = JPEGBaseline8Bit, **tags: Any) -> bytes:
    """A compressed file around a frame; PixelData among the tags wins."""
    dtype, bits = (np.uint8, 8) if pixels.max() < 256 else (np.uint16, 12)
    tags = {"PixelData": encapsulate([frame]) if frame else None, **tags}
    return dicom(pixels.astype(dtype), bits=bits, syntax=syntax, **tags)


def fragments(parts: list[bytes], table: list[int]) -> bytes:
    """Encapsulated pixel data, item by item (PS3.5 A.4)."""
    items = [b"".join(place.to_bytes(4, "little") for place in table), *parts]
    items = [one + b"\0" * (len(one) % 2) for one in items]
    return b"".join(b"\xfe\xff\x00\xe0" + len(one).to_bytes(4, "little") + one for one in items)


def stream(syntax: Any, pixels: np.ndarray = PIXELS) -> bytes:
    """A compressed frame as pydicom writes it."""
    data = pydicom.dcmread(io.BytesIO(dicom(pixels.astype(np.uint16), syntax=syntax))).PixelData
    return b"".join(list(generate_fragments(data))[1:])


def lossless_jpeg(pixels: np.ndarray, restart: int = 0) -> bytes:
    """A lossless JPEG (T.81 H, predictor 1) of 12-bit values: one Huffman table with codes of four bits."""
    height, width = pixels.shape
    head = b"\xff\xd8\xff\xc3" + (11).to_bytes(2, "big") + bytes([12]) + height.to_bytes(2, "big")
    head += width.to_bytes(2, "big") + b"\x01\x01\x11\0"
    head += b"\xff\xc4" + (2 + 17 + 13).to_bytes(2, "big") + b"\0" + bytes([0, 0, 0, 13] + [0] * 12) + bytes(range(13))
    head += b"\xff\xda\0\x08\x01\x01\0\x01\0\0"
    before = np.empty_like(pixels)
    before[:, 1:], before[1:, 0], before[0, 0] = pixels[:, :-1], pixels[:-1, 0], 1 << 11
    bits = []
    for difference in (pixels - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits.append(f"{size:04b}")
        if size:
            bits.append(f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}")
    written = "".join(bits)
    written += "1" * (-len(written) % 8)
    return head + int(written, 2).to_bytes(len(written) // 8, "big").replace(b"\xff", b"\xff\0") + b"\xff\xd9"


def boxed(codestream: bytes) -> bytes:
    """A JP2 file around a codestream (15444-1 I.5)."""
    parts = [(b"jP  ", b"\r\n\x87\n"), (b"ftyp", b"jp2 \0\0\0\0jp2 "), (b"jp2h", b""), (b"jp2c", codestream)]
    return b"".join((8 + len(body)).to_bytes(4, "big") + kind + body for kind, body in parts)


def rgb(pixels: np.ndarray) -> np.ndarray:
    return np.stack([pixels] * 3, axis=-1)


def bare(syntax: Any, from_: int) -> bytes:
    whole = plain(syntax=syntax)
    return whole[132 if from_ == 2 else 144 + int.from_bytes(whole[140:144], "little") :]


VOI = np.minimum(np.arange(4096) ** 2 // 4000, 4095)
LEFT = (PIXELS << 4).astype(np.uint16)
MARKED = PIXELS | (np.indices(PIXELS.shape)[0] % 11 == 3) << 14
FOURTEEN = chest(largest=16383)
JPEG_SMALL = jpeg(Image.fromarray(SMALL.astype(np.uint8)))
OVERLAY = {"OverlayBitPosition": 14, "OverlayBitsAllocated": 16}


def overlaid(pixels: np.ndarray, bit: int, **tags: Any) -> bytes:
    return typed(plain(pixels, **tags), "60000102", "US", bit)


def squares(data: Callable[[], bytes], name: str, value: list[Any]) -> Callable[[], bytes]:
    return lambda: typed(data(), name, "IS" if name == "PixelAspectRatio" else "DS", value)


TALL = np.repeat(PIXELS, 2, axis=1)  # pixels of half the width

QUIRKS = [
    # bits stored, high bit, sign
    Quirk("8 bits in 8", lambda: dicom(SMALL.astype(np.uint8), bits=8), lambda: plain(SMALL, 8)),
    Quirk("12 bits, no BitsStored", lambda: plain(BitsStored=None, HighBit=None), plain),
    Quirk("14 bits, said to be 12", lambda: plain(FOURTEEN), lambda: plain(FOURTEEN, 14), {"bits-stored"}),
    Quirk("left-aligned", lambda: plain(LEFT, HighBit=15), plain),
    Quirk("left-aligned, signed", lambda: signed((PIXELS - 2048) << 4, 12, HighBit=15), plain),
    Quirk("left-aligned, big endian", lambda: plain(LEFT, HighBit=15, syntax=ExplicitVRBigEndian), plain),
    Quirk("left-aligned, RLE", lambda: plain(LEFT, 16, syntax=RLELossless, BitsStored=12, HighBit=15), plain),
    Quirk("left-aligned, not said", lambda: plain(LEFT), plain, {"high-bit"}),
    Quirk("right-aligned, said to be left", lambda: plain(HighBit=15), plain, {"high-bit"}),
    Quirk("10 bits from bit 3 on", lambda: plain(PIXELS >> 2 << 3, 10, HighBit=12), lambda: plain(PIXELS >> 2, 10)),
    Quirk("high bit 3", lambda: plain(HighBit=3), plain),
    Quirk("high bit 200", lambda: plain(HighBit=200), plain),
    Quirk("overlay in bit 14", lambda: overlaid(MARKED, 14), plain),
    Quirk("overlay in bit 2, left-aligned", lambda: overlaid(LEFT | MARKED >> 12, 2, HighBit=15), plain),
    Quirk("bit 14 set, not said why", lambda: plain(MARKED), plain, {"unused-bits"}),
    Quirk("upper bits all set", lambda: plain(PIXELS | 0xF000), plain),
    Quirk("signed", lambda: signed(PIXELS - 2048, 12), plain),
    Quirk("signed, sign not extended", lambda: signed((PIXELS - 2048) & 0xFFF, 12), plain),
    Quirk("unsigned, said to be signed", lambda: signed(PIXELS, 12), lambda: signed(PIXELS, 12), {"sign"}),
    Quirk("signed, said to be not", lambda: plain((PIXELS - 2048) & 0xFFF), None, {"sign"}),
    # padding
    Quirk("padding SS", lambda: signed(PADDED, PixelPaddingValue=-2000), lambda: signed(np.maximum(PADDED, 0))),
    Quirk(
        "padding US for signed pixels",
        lambda: typed(signed(PADDED), "PixelPaddingValue", "US", 63536),
        lambda: signed(np.maximum(PADDED, 0)),
    ),
    Quirk(
        "padding SS for unsigned pixels",
        lambda: typed(plain(PADDED % 65536, 16), "PixelPaddingValue", "SS", -2000),
        lambda: plain(np.where(PADDED < 0, 4095, PADDED), 16),
    ),
    Quirk(
        "padding range, both in the other",
        lambda: typed(typed(signed(PADDED), "PixelPaddingValue", "US", 63436), "PixelPaddingRangeLimit", "US", 63636),
        lambda: signed(np.maximum(PADDED, 0)),
    ),
    Quirk(
        "padding with the bits above",
        lambda: plain(np.where(PADDED < 0, 0xFFFF, PADDED % 4000), PixelPaddingValue=0xFFFF),
        lambda: plain(np.where(PADDED < 0, (PADDED % 4000)[:, 9:].max(), PADDED % 4000)),
        {"unused-bits"},
    ),
    Quirk("padding of all", lambda: plain(PixelPaddingValue=0, PixelPaddingRangeLimit=4095), plain, {"padding"}),
    Quirk(
        "padding, unknown type",
        lambda: signed(PADDED, PixelPaddingValue=-2000).replace(b"(\0 \1SS\2\0", b"(\0 \1UN\0\0\2\0\0\0"),
        lambda: signed(np.maximum(PADDED, 0)),
    ),
    # tables of greys
    *(
        Quirk(
            f"VOI LUT of 12 bits, said to be {bits}{how}",
            lambda bits=bits, tags=tags: plain(VOILUTSequence=lut(VOI, bits=bits, **tags)),
            lambda: plain(VOILUTSequence=lut(VOI, bits=12)),
            {"lut-bits"},
        )
        for bits in (8, 16)
        for how, tags in (("", {}), (", as bytes", {"packed": "u2"}))
    ),
    Quirk(
        "VOI LUT of 8 bits, two in a word",
        lambda: plain(SMALL, 8, VOILUTSequence=lut(RAMP[::-1], bits=8, packed="u1")),
        lambda: plain(SMALL, 8, VOILUTSequence=lut(RAMP[::-1], bits=8)),
    ),
    *(
        Quirk(
            f"VOI LUT in big endian, {packed}",
            lambda packed=packed: plain(
                SMALL, 8, syntax=ExplicitVRBigEndian, VOILUTSequence=lut(RAMP[::-1], 0, 8, packed, True)
            ),
            lambda: plain(SMALL, 8, VOILUTSequence=lut(RAMP[::-1], bits=8)),
        )
        for packed in ("u1", "u2")
    ),
    Quirk(
        "VOI LUT from a negative value on, written as US",
        lambda: signed(PIXELS - 2048, VOILUTSequence=lut(VOI, first=63488, bits=12)),
        lambda: plain(VOILUTSequence=lut(VOI, bits=12)),
    ),
    Quirk(
        "VOI LUT of more entries than said",
        lambda: plain(VOILUTSequence=relengthened(lut(VOI, bits=12), 1000)),
        lambda: plain(VOILUTSequence=lut(VOI, bits=12)),
        {"lut-length"},
    ),
    Quirk(
        "VOI LUT of fewer entries than said",
        lambda: plain(VOILUTSequence=relengthened(lut(VOI, bits=12), 5000)),
        reason="bad-values",
    ),
    Quirk(
        "modality LUT from a negative value on, written as US",
        lambda: signed(PIXELS - 2048, ModalityLUTSequence=lut(VOI, first=63488, bits=12)),
        lambda: plain(VOI[PIXELS]),
    ),
    Quirk("rescale slope 0", lambda: plain(RescaleSlope=0, RescaleIntercept=0), plain, {"rescale"}),
    # palettes
    *(
        Quirk(
            f"palette of {bits} bits in {packed}{', big endian' * big}",
            lambda bits=bits, packed=packed, big=big: dicom(
                SMALL.astype(np.uint8),
                bits=8,
                photometric="PALETTE COLOR",
                syntax=ExplicitVRBigEndian if big else ExplicitVRLittleEndian,
                **gray_palette(RAMP[::-1] * (257 if bits == 16 else 1), bits, packed, big),
            ),
            lambda: dicom((255 - SMALL).astype(np.uint8), bits=8),
        )
        for bits, packed in ((8, "u1"), (8, "u2"), (16, "u2"))
        for big in (False, True)
    ),
    Quirk(
        "palette of 8 bits, said to be 16",
        lambda: dicom(SMALL.astype(np.uint8), bits=8, photometric="PALETTE COLOR", **gray_palette(RAMP, 16, "u2")),
        lambda: dicom(SMALL.astype(np.uint8), bits=8),
        {"lut-bits"},
    ),
    # photometric interpretation
    Quirk("MONOCHROME1", lambda: plain(4095 - PIXELS, photometric="MONOCHROME1"), plain),
    Quirk("lower case and spaces", lambda: plain(4095 - PIXELS, photometric=" monochrome1 "), plain),
    Quirk("inverse presentation", lambda: plain(4095 - PIXELS, PresentationLUTShape="INVERSE"), plain),
    Quirk("MONOCHROME", lambda: plain(photometric="MONOCHROME"), reason="bad-values"),
    Quirk("none", lambda: plain(PhotometricInterpretation=None), reason="damaged"),
    Quirk(
        "grey RGB",
        lambda: dicom(rgb(SMALL).astype(np.uint8), bits=8, photometric="RGB"),
        lambda: dicom(SMALL.astype(np.uint8), bits=8),
    ),
    # endianness and syntax
    *(
        Quirk(f"syntax {syntax.name}", lambda syntax=syntax: plain(syntax=syntax), plain)
        for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless)
    ),
    Quirk(
        "8 bits in words, big endian",
        lambda: typed(
            dicom(SMALL.astype(np.uint8), bits=8, syntax=ExplicitVRBigEndian),
            "PixelData",
            "OW",
            words(SMALL.ravel(), "u1", True),
        ),
        lambda: dicom(SMALL.astype(np.uint8), bits=8),
    ),
    *(
        Quirk(f"no preamble, from group {group}, {syntax.name}", lambda g=group, s=syntax: bare(s, g), plain)
        for syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
        for group in (2, 8)
    ),
    Quirk("no preamble, deflated", lambda: bare(DeflatedExplicitVRLittleEndian, 2), plain),
    # compressed frames
    Quirk("J2K in a JP2 file", lambda: framed(boxed(stream(JPEG2000Lossless)), PIXELS, JPEG2000Lossless), plain),
    Quirk("J2K, said to be JPEG", lambda: framed(stream(JPEG2000Lossless), PIXELS), plain, {"syntax"}),
    Quirk(
        "J2K, said to be native",
        lambda: relabelled(framed(stream(JPEG2000Lossless), PIXELS), ExplicitVRLittleEndian),
        plain,
        {"syntax"},
    ),
    Quirk("lossless JPEG", lambda: framed(lossless_jpeg(PIXELS), PIXELS, JPEGLosslessSV1), plain),
    Quirk(
        "native, said to be JPEG",
        lambda: relabelled(plain(), JPEGBaseline8Bit),
        reason="bad-values",
    ),
    *(
        Quirk(name, lambda data=data: framed(b"", PixelData=data), lambda: framed(JPEG_SMALL))
        for name, data in (
            ("two fragments, both listed", fragments([JPEG_SMALL[:700], JPEG_SMALL[700:]], [0, 708])),
            ("two fragments, none listed", fragments([JPEG_SMALL[:700], JPEG_SMALL[700:]], [])),
            ("an offset that leads nowhere", fragments([JPEG_SMALL], [9999])),
            ("no offset table at all", fragments([JPEG_SMALL], [])[8:]),
        )
    ),
    Quirk(
        "three equal components in a file of one",
        lambda: framed(jpeg(Image.fromarray(rgb(SMALL).astype(np.uint8)))),
        lambda: framed(JPEG_SMALL),
        {"components"},
        close=3 * 257,
    ),
    Quirk(
        "three components, MONOCHROME1",
        lambda: framed(jpeg(Image.fromarray(rgb(255 - SMALL).astype(np.uint8))), photometric="MONOCHROME1"),
        lambda: framed(JPEG_SMALL),
        {"components"},
        close=3 * 257,
    ),
    Quirk(
        "three components of colour in a file of one",
        lambda: framed(jpeg(Image.fromarray(np.stack([SMALL, 255 - SMALL, SMALL], -1).astype(np.uint8)))),
        reason="colour",
    ),
    Quirk(
        "8 bits compressed, 12 said",
        lambda: framed(JPEG_SMALL, BitsAllocated=16, BitsStored=12, HighBit=11),
        lambda: framed(JPEG_SMALL),
        {"depth"},
    ),
    # the pixel data's length, their kind, the pixels' shape
    Quirk("a row too many", lambda: plain(PixelData=bytes_of(np.vstack([PIXELS, PIXELS[:20]]))), plain, {"excess"}),
    Quirk("16 bits, said to be 8", lambda: plain(BitsAllocated=8, BitsStored=8, HighBit=7), reason="bad-values"),
    Quirk("float pixels", lambda: floats(PIXELS / 7, "FloatPixelData", "<f4"), plain, {"float-pixels"}, close=1),
    Quirk("double pixels", lambda: floats(PIXELS / 7, "DoubleFloatPixelData", "<f8"), plain, {"float-pixels"}, close=1),
    Quirk(
        "float pixels, big endian, MONOCHROME1",
        lambda: floats(-PIXELS * 1e-6, "FloatPixelData", ">f4", syntax=ExplicitVRBigEndian, photometric="MONOCHROME1"),
        plain,
        {"float-pixels"},
        close=1,
    ),
    Quirk(
        "float pixels with padding",
        lambda: floats(PADDED, "FloatPixelData", "<f4", FloatPixelPaddingValue=-2000.0),
        lambda: signed(np.maximum(PADDED, 0)),
        {"float-pixels"},
        close=1,
    ),
    Quirk(
        "float pixels through a window",
        lambda: floats(
            PIXELS / 2, "FloatPixelData", "<f4", WindowCenter=900, WindowWidth=800, RescaleSlope=2, RescaleIntercept=-7
        ),
        lambda: plain(WindowCenter=900, WindowWidth=800, RescaleSlope=1, RescaleIntercept=-7),
        {"float-pixels"},
        close=1,
    ),
    Quirk(
        "float pixels, one no number",
        lambda: floats(np.where(PIXELS == 4095, np.nan, PIXELS), "FloatPixelData", "<f4"),
        reason="bad-values",
    ),
    *(
        Quirk(f"{name} {value}", squares(lambda: plain(TALL), name, value), plain, {"uneven-pixels"})
        for name, value in (
            ("PixelSpacing", [0.2, 0.1]),
            ("ImagerPixelSpacing", [0.4, 0.2]),
            ("PixelAspectRatio", [2, 1]),
        )
    ),
    Quirk(
        "PixelSpacing [0.1, 0.2]",
        squares(lambda: plain(np.repeat(PIXELS, 2, axis=0)), "PixelSpacing", [0.1, 0.2]),
        plain,
        {"uneven-pixels"},
    ),
    Quirk("PixelSpacing that is even", squares(plain, "PixelSpacing", [0.143, 0.1429]), plain),
    Quirk("PixelSpacing of no size", squares(plain, "PixelSpacing", [0, 0.2]), plain, {"aspect-unclear"}),
    Quirk(
        "spacing and aspect contradict",
        squares(squares(plain, "PixelSpacing", [0.1, 0.1]), "PixelAspectRatio", [3, 2]),
        plain,
        {"aspect-unclear"},
    ),
    Quirk("for processing", lambda: plain(PresentationIntentType="FOR PROCESSING"), plain, {"for-processing"}),
    Quirk(
        "for processing by its class",
        lambda: plain(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1.1"),
        plain,
        {"for-processing"},
    ),
    # damage
    Quirk("JPEG with a hole", lambda: hole(JPEG_SMALL), reason="damaged"),
    Quirk(
        "JPEG with a hole, best tables",
        lambda: hole(jpeg(Image.fromarray(chest(200, 200, 255).astype(np.uint8)), optimize=True)),
        reason="damaged",
    ),
    Quirk(
        "JPEG with a hole, restarts",
        lambda: hole(jpeg(Image.fromarray(chest(200, 200, 255).astype(np.uint8)), restart_marker_rows=1)),
        reason="damaged",
    ),
    Quirk("JPEG with a hole in DICOM", lambda: framed(hole(JPEG_SMALL)), reason="damaged"),
    Quirk(
        "lossless JPEG with a hole",
        lambda: framed(hole(lossless_jpeg(PIXELS)), PIXELS, JPEGLosslessSV1),
        reason="damaged",
    ),
    Quirk(
        "J2K with a hole",
        lambda: framed(hole(stream(JPEG2000Lossless, chest(128, 128)), 0.5), chest(128, 128), JPEG2000Lossless),
        reason="damaged",
    ),
    Quirk("RLE with a hole", lambda: framed(hole(stream(RLELossless)), PIXELS, RLELossless), reason="damaged"),
    Quirk("PNG with a wrong checksum", lambda: corrupt(png(Image.fromarray(SMALL.astype(np.uint8)))), reason="damaged"),
    # PNG
    *(
        Quirk(
            f"PNG of 16 bits, {n} channels{', interlaced' * interlace}",
            lambda n=n, interlace=interlace: raw_png(channels(n), interlace=interlace),
            lambda n=n: raw_png(on_black(n)),
        )
        for n in (2, 3, 4)
        for interlace in (False, True)
    ),
    Quirk("PNG of 16 bits, grey, interlaced", lambda: raw_png(DEEP, interlace=True), lambda: raw_png(DEEP)),
    Quirk(
        "PNG of 16 bits, one grey transparent",
        lambda: raw_png(DEEP, transparent=PICKED),
        lambda: raw_png(np.where(DEEP == PICKED, 0, DEEP)),
    ),
    Quirk(
        "PNG of 16 bits, one colour transparent",
        lambda: raw_png(rgb(DEEP), transparent=[PICKED] * 3),
        lambda: raw_png(np.where(DEEP == PICKED, 0, DEEP)),
    ),
    *(
        Quirk(
            f"PNG of {bits} bits{', one grey transparent' * (at is not None)}",
            lambda bits=bits, at=at: raw_png(DEEP >> 16 - bits, bits, transparent=at),
            lambda bits=bits, at=at: png(Image.fromarray(spread(bits, at))),
        )
        for bits, at in ((1, None), (2, None), (2, 1), (4, None), (4, 7), (8, None), (8, 99))
    ),
    Quirk(
        "PNG of 8 bits, one colour transparent",
        lambda: raw_png(rgb(SMALL), 8, transparent=[99] * 3),
        lambda: png(Image.fromarray(np.where(SMALL == 99, 0, SMALL).astype(np.uint8))),
    ),
    Quirk(
        "PNG of 16 bits that lies on its side",
        lambda: raw_png(
            rgb(DEEP), more=[(b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")]
        ),
        lambda: raw_png(np.rot90(DEEP, -1)),
    ),
    Quirk("PNG of 12 bits in 16", lambda: raw_png(PIXELS), lambda: raw_png(PIXELS), {"narrow"}),
    Quirk(
        "PNG of uneven density",
        lambda: raw_png(DEEP, more=[(b"pHYs", (2000).to_bytes(4, "big") + (1000).to_bytes(4, "big") + b"\1")]),
        lambda: raw_png(DEEP),
        {"uneven-density"},
    ),
    # what can be seen in the pixels alone
    Quirk("nearly constant", lambda: raw_png(speck(DEEP * 0 + 9000, 65535)), None, {"nearly-constant", "few-levels"}),
    Quirk("two shades", lambda: png(Image.fromarray(SMALL > 99)), None, {"extremes", "few-levels"}),
    Quirk("bytes swapped", lambda: plain(DEEP.astype(np.uint16).byteswap(), 16), None, {"noise"}),
    # what is no radiograph at all
    *(
        Quirk(name, lambda data=data: data, reason="not-an-image")
        for name, data in (
            ("gzip", b"\x1f\x8b\x08\0" + bytes(200)),
            ("zip", b"PK\x03\x04" + bytes(200)),
            ("TIFF", b"II*\0\x08\0\0\0" + bytes(200)),
            ("PDF", b"%PDF-1.4\n" + bytes(200)),
            ("text", b"patient,report\n1,clear lungs\n" * 9),
            ("zeros", bytes(5000)),
        )
    ),
]


def relengthened(sequence: Any, count: int) -> Any:
    sequence[0].LUTDescriptor = [count, *sequence[0].LUTDescriptor[1:]]
    return sequence


def relabelled(data: bytes, syntax: Any) -> bytes:
    """The same file under another transfer syntax of explicit little endian."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    old = f"{dataset.file_meta.TransferSyntaxUID}".encode()
    new = f"{syntax}".encode()
    old, new = (one + b"\0" * (len(one) % 2) for one in (old, new))
    size = (144, int.from_bytes(data[140:144], "little") + len(new) - len(old))
    data = data[:140] + size[1].to_bytes(4, "little") + data[144:]
    head = b"\2\0\x10\0UI"
    return data.replace(head + len(old).to_bytes(2, "little") + old, head + len(new).to_bytes(2, "little") + new)


def bytes_of(pixels: np.ndarray) -> bytes:
    return pixels.astype("<u2").tobytes()


def corrupt(data: bytes) -> bytes:
    at = data.index(b"IDAT") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    end = at + 8 + length
    return data[:end] + bytes(byte ^ 1 for byte in data[end : end + 4]) + data[end + 4 :]


def channels(n: int) -> np.ndarray:
    grey = rgb(DEEP) if n > 2 else DEEP[..., None]
    alpha = np.random.default_rng(3).integers(0, 65536, (*DEEP.shape, 1))
    return np.concatenate([grey, alpha], axis=-1) if n in (2, 4) else grey


def on_black(n: int) -> np.ndarray:
    samples = channels(n)
    return samples[..., 0] if n == 3 else (samples[..., 0] * samples[..., -1] + 32767) // 65535


def spread(bits: int, transparent: int | None) -> np.ndarray:
    samples = DEEP >> 16 - bits
    shown = samples * 255 // ((1 << bits) - 1)
    return np.where(samples == transparent, 0, shown).astype(np.uint8)


def speck(pixels: np.ndarray, value: int) -> np.ndarray:
    pixels = pixels.copy()
    pixels[3, 4] = value
    return pixels


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_every_quirk_is_read_right_or_noted_or_refused(quirk):
    if quirk.reason:
        with pytest.raises(ImageError) as caught:
            decode_radiograph(quirk.data(), "x")
        assert caught.value.reason == quirk.reason
        return
    read = decode_radiograph(quirk.data(), "x")
    assert set(read.notes) >= quirk.notes
    assert set(read.notes) <= set(NOTES)
    if quirk.twin is not None:
        twin = decode_radiograph(quirk.twin(), "x")
        assert set(read.notes) - set(twin.notes) <= quirk.notes
        np.testing.assert_allclose(read.pixels, twin.pixels.astype(int), atol=quirk.close)


CASES = [
    ("dicom-no-preamble-no-extension", "IM0001", "IM0001.dcm"),
    *(("dicom-offset-table", f"{name}.dcm", "plain.dcm") for name in ("two_fragments_listed", "wild_offset")),
    ("dicom-offset-table", "three_components.dcm", "plain.dcm"),
    ("dicom-padding-vr", "signed_US.dcm", "signed_SS.dcm"),
    ("dicom-padding-vr", "unsigned_SS.dcm", "unsigned_US.dcm"),
    ("dicom-palette-big-endian", "big.dcm", "little.dcm"),
    ("dicom-voi-lut-bits", "declared16_entries12.dcm", "twin.dcm"),
    ("dicom-voi-lut-bits", "declared8_entries12.dcm", "twin.dcm"),
]


@pytest.mark.parametrize(("folder", "name", "twin"), CASES)
def test_reported_files_are_their_twins(folder, name, twin):
    place = SHARED / "cases" / folder
    if not place.is_dir():
        pytest.skip(f"no reported files at {place}")
    read = decode_radiograph((place / name).read_bytes(), name)
    np.testing.assert_array_equal(read.pixels, decode_radiograph((place / twin).read_bytes(), twin).pixels)


# the product of quirks

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEG2000Lossless,
]
WRITTEN = {
    "bits": st.sampled_from([8, 10, 12, 14, 16]),
    "minus": st.booleans(),
    "align": st.sampled_from(["right", "left", "left, not said", "right, said to be left"]),
    "above": st.sampled_from(["clear", "set", "overlay", "marks"]),
    "padding": st.sampled_from(["none", "own", "other", "range"]),
    "greys": st.sampled_from(["range", "window", "table", "table of bytes"]),
    "declared": st.sampled_from([0, 8, 16]),
    "shown": st.sampled_from(["MONOCHROME2", "MONOCHROME1", "INVERSE"]),
    "syntax": st.sampled_from(SYNTAXES),
    "bare": st.booleans(),
    "seed": st.integers(0, 3),
}


def written(bits, minus, align, above, padding, greys, declared, shown, syntax, bare, seed):
    """A file of the same picture in the way that is asked for, as far as these ways go together."""
    values = chest(40, 48, (1 << bits) - 1, seed)
    offset = 1 << bits - 1 if minus else 0
    tags = {"RescaleSlope": 1, "RescaleIntercept": offset}
    filler = 3 if seed % 2 else (1 << bits) - 6
    if padding != "none":
        low, high = sorted((400 >> 16 - bits | 9, (1 << bits) - 9))
        values = np.clip(values, low, high)
        values[:, :5] = filler
    if greys == "window":
        tags |= {"WindowCenter": 0.4 * (1 << bits), "WindowWidth": 0.5 * (1 << bits)}
    elif greys.startswith("table"):
        entries = np.minimum((np.arange(1 << bits) ** 2 >> bits) + 1, (1 << bits) - 1)
        packed = None if greys == "table" and bits < 16 else "u2"
        tags["VOILUTSequence"] = lut(entries, 0, declared or bits, packed, syntax == ExplicitVRBigEndian)
    tags |= {"PresentationLUTShape": "INVERSE"} if shown == "INVERSE" else {}
    cells = (values - offset) & ((1 << bits) - 1)
    spare = 16 - bits
    if syntax == JPEG2000Lossless or not spare:
        align, above = "right", "clear"
    tags["HighBit"] = 15 if align in ("left", "right, said to be left") else bits - 1
    if align.startswith("left"):
        cells, above = cells << spare, "clear"
    elif minus:  # the sign goes on, as nearly everybody writes it
        cells = (values - offset) & 0xFFFF
    rows = np.indices(values.shape)[0] % 7 == 2
    cells = {
        "clear": cells,
        "set": cells | (0xFFFF >> bits << bits),
        "overlay": cells | rows << 15,
        "marks": cells | rows << 15,
    }[above]
    pixels = cells.astype(np.uint16).view(np.int16 if minus else np.uint16)
    photometric = "MONOCHROME1" if shown == "MONOCHROME1" else "MONOCHROME2"
    compressed_bits = bits if syntax == JPEG2000Lossless else 16
    data = dicom(pixels, bits=compressed_bits, syntax=syntax, photometric=photometric, **{"BitsStored": bits, **tags})
    if above == "overlay" and syntax != DeflatedExplicitVRLittleEndian:
        data = typed(data, "60000102", "US", 15)
    if padding != "none":  # as the pixels are, or as they are not
        vr = "SS" if minus == (padding == "own") else "US"
        for keyword, value in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), (filler, filler + 2), strict=True):
            if keyword == "PixelPaddingValue" or padding == "range":
                data = typed(data, keyword, vr, as_word(value - offset, vr))
    return data[132:] if bare and syntax != DeflatedExplicitVRLittleEndian else data


def as_word(number, vr):
    return number % 65536 - (vr == "SS" and number % 65536 >= 32768) * 65536


def clean(**how):
    """The same picture as plainly as it can be written."""
    plainly = {"minus": False, "align": "right", "above": "clear", "declared": 0, "bare": False}
    plainly |= {
        "shown": "MONOCHROME2",
        "syntax": ExplicitVRLittleEndian,
        "padding": "own" if how["padding"] != "none" else "none",
    }
    plainly |= {"greys": "table" if how["greys"].startswith("table") else how["greys"]}
    return written(**{**how, **plainly})


def silent_difference(how):
    """Whether the file in this way gives other pixels than its clean twin, and nothing is said."""
    twin = decode_radiograph(clean(**how), "x")
    try:
        read = decode_radiograph(written(**how), "x")
    except ImageError:
        return False
    wanted = 65535 - twin.pixels.astype(int) if how["shown"] != "MONOCHROME2" else twin.pixels.astype(int)
    same = read.pixels.shape == wanted.shape and np.abs(read.pixels - wanted).max() <= 1
    return not same and not set(read.notes) - set(twin.notes)


quietly = [HealthCheck.too_slow]


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=quietly)
@given(how=st.fixed_dictionaries(WRITTEN))
def test_no_product_of_quirks_is_silently_different(how):
    assert not silent_difference(how)


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@settings(max_examples=10_000, deadline=None, suppress_health_check=quietly)
@given(how=st.fixed_dictionaries(WRITTEN))
def test_no_product_of_quirks_is_silently_different_campaign(how):
    assert not silent_difference(how)
