"""One DICOM file -> grey pixels as they are meant to be seen."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, NoReturn

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import UID

from linkage_core.errors import ImageError
from linkage_core.images.pixels import MAX_PIXELS, WHITE, check_size, luminance, strips, through

# Real headers break small rules (an id too long, a date with dots) on every second file; what touches the pixels is
# checked below. A setting and not a warnings filter: filters are not safe where images are read in threads.
config.settings.reading_validation_mode = config.IGNORE

PYDICOM_ERRORS = (
    InvalidDicomError,
    BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RuntimeError,  # what a decoder plugin failed with; NotImplementedError and RecursionError are among them
    MemoryError,
    struct.error,
    zlib.error,
)

DECODERS = {
    "1.2.840.10008.1.2.5": "pylibjpeg",  # RLE
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended, 8 bit; no decoder here is right about 12 bit
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "gdcm",  # JPEG-LS
    "1.2.840.10008.1.2.4.81": "gdcm",
    "1.2.840.10008.1.2.4.90": "pylibjpeg",  # JPEG 2000
    "1.2.840.10008.1.2.4.91": "pylibjpeg",
    "1.2.840.10008.1.2.4.201": "pylibjpeg",  # high-throughput JPEG 2000
    "1.2.840.10008.1.2.4.202": "pylibjpeg",
    "1.2.840.10008.1.2.4.203": "pylibjpeg",
}
"""Which decoder reads a compressed syntax. One each: the same file gives the same pixels on every machine."""

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
PALETTE = "PALETTE COLOR"
RLE = "1.2.840.10008.1.2.5"
COLOUR_SHARE = 0.04  # mean spread of the channels, as a share of white; burnt-in coloured marks stay far below


def decode_dicom(data: bytes, name: str) -> tuple[np.ndarray, int]:
    """(height, width) uint16 pixels, 0 black .. 65535 white, and the depth the source has.

    Order (DICOM PS3.4 N.2): modality LUT, VOI LUT or window, presentation. Rounding comes after the inversion, so a
    MONOCHROME1 file and its MONOCHROME2 twin give the same pixels. Raises ImageError only.
    """
    try:
        return _decode(data, name)
    except PYDICOM_ERRORS as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        cut = isinstance(error, EOFError) or "unexpected end" in text.lower() or "truncat" in text.lower()
        raise ImageError(
            "truncated" if cut else "damaged",
            f"{name} cannot be decoded: {text[:300]}.",
            "Copy the file again from its source, or transcode it (gdcmconv --raw).",
        ) from error


def _decode(data: bytes, name: str) -> tuple[np.ndarray, int]:
    dataset, syntax = _header(data, name)
    stored = _stored_pixels(dataset, syntax, name)
    bits = min(16, max(8, int(dataset.BitsStored)))
    if dataset.PhotometricInterpretation == PALETTE:
        return _from_palette(stored, dataset, name), bits
    if stored.ndim == 3:
        return _from_colour(stored, int(dataset.BitsStored), name), bits
    # What is shown depends on the stored value alone: worked out once for each value, then looked up for each pixel.
    low, high = int(stored.min()), int(stored.max())
    levels = np.arange(low, high + 1)
    values = _modality(levels, dataset, name)
    shown = _window(values, levels, stored, dataset, name)
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        shown = WHITE - shown
    return through(np.rint(shown).astype(np.uint16), stored, low), bits


def _header(data: bytes, name: str) -> tuple[Dataset, str]:
    """The data set, after everything that can be checked without decoding pixels; and its transfer syntax."""
    if DEFLATED.encode() in data[:65536]:
        data = _inflated(data, name)  # here: pydicom would inflate all of it, whatever that may be
    dataset = dcmread(io.BytesIO(data), force=True)
    if "Rows" not in dataset and "SOPClassUID" not in dataset:
        raise ImageError("not-an-image", f"{name} holds no DICOM image.", "Give a DICOM, PNG or JPEG file.")
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) if hasattr(dataset, "file_meta") else ""
    if not syntax:  # a bare data set; pydicom found out how it is written
        implicit, little = dataset.original_encoding
        syntax = NATIVE[0] if implicit else NATIVE[1] if little else NATIVE[2]
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax not in NATIVE and syntax not in DECODERS:
        _unsupported(syntax, name)
    if "PixelData" not in dataset or not dataset.PixelData:
        raise ImageError(
            "no-pixel-data", f"{name} has no pixel data.", "Use the image itself, not a report or a presentation state."
        )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError("multi-frame", f"{name} has {dataset.NumberOfFrames} frames.", "Give one radiograph a file.")
    check_size(int(dataset.Rows), int(dataset.Columns), name)
    samples, allocated = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    photometric = str(dataset.PhotometricInterpretation)
    if samples not in (1, 3) or (samples == 1) != photometric.startswith(("MONOCHROME", PALETTE)):
        _bad(name, f"{samples} samples a pixel with photometric interpretation {photometric!r}")
    if allocated not in (8, 16) or not 1 <= int(dataset.BitsStored) <= allocated:
        _bad(name, f"{dataset.BitsStored} bits stored in {allocated}")
    if syntax in NATIVE:
        needed = int(dataset.Rows) * int(dataset.Columns) * samples * allocated // 8
        if len(dataset.PixelData) < needed:
            raise ImageError(
                "truncated",
                f"{name} has {len(dataset.PixelData):,} bytes of pixel data of {needed:,}.",
                "Copy the file again from its source.",
            )
    return dataset, syntax


def _inflated(data: bytes, name: str) -> bytes:
    """A deflated file (PS3.5 A.5) as the explicit little-endian one it stands for; of its file header the syntax."""
    if data[128:132] != b"DICM" or data[132:138] != b"\2\0\0\0UL":
        _unsupported(DEFLATED, name)
    start = 144 + int.from_bytes(data[140:144], "little")
    most = 4 * MAX_PIXELS  # bytes; 16 bits a pixel, and as much again for the rest of the data set
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflating.decompress(data[start:], most)
    if inflating.unconsumed_tail:
        raise ImageError("too-large", f"{name} inflates to more than {most:,} bytes.", "Check what this file is.")
    if not inflating.eof:
        raise ImageError("truncated", f"The deflated data of {name} have no end.", "Copy the file again.")
    syntax = (NATIVE[1] + "\0").encode()
    return data[:132] + b"\2\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax + plain


def _stored_pixels(dataset: Dataset, syntax: str, name: str) -> np.ndarray:
    """Stored values, (height, width) or (height, width, 3)."""
    plugin = DECODERS.get(syntax, "")
    if plugin:
        if plugin not in get_decoder(UID(syntax)).available_plugins:
            _unsupported(syntax, name)
        if syntax != RLE:
            _check_stream(get_frame(dataset.PixelData, 0, number_of_frames=1), dataset, syntax, name)
    try:
        stored: np.ndarray
        if not plugin and (dataset.SamplesPerPixel, dataset.BitsAllocated) == (1, 16):
            stored = pixel_array(dataset, view_only=True, correct_unused_bits=False)
            if _within(stored, int(dataset.BitsStored)):
                return stored  # nothing to correct, so no copy either
        stored = pixel_array(dataset, decoding_plugin=plugin)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how a decoder in Rust fails: no Exception, so nobody catches it
            raise
        raise RuntimeError(f"the decoder gave up: {error}") from error
    return stored


def _within(values: np.ndarray, bits: int) -> bool:
    """Whether every value is one of `bits` bits, the bits above saying nothing or repeating the sign."""
    signed = values.dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return bool(low <= values.min() and values.max() <= high)


def _check_stream(frame: bytes, dataset: Dataset, syntax: str, name: str) -> None:
    """The compressed stream has an end and the header's size: decoders believe the stream, not the header."""
    if b"\xff\xd9" not in frame.rstrip(b"\0")[-16:]:
        raise ImageError(
            "truncated", f"The compressed image of {name} has no end.", "Copy the file again from its source."
        )
    bits, *size = _jpeg2000_header(frame) if frame.startswith(b"\xff\x4f\xff\x51") else _jpeg_header(frame)
    if size != [int(dataset.Rows), int(dataset.Columns)]:
        _bad(
            name,
            f"a header of {dataset.Rows} x {dataset.Columns} pixels around a compressed image of {size[0]} x {size[1]}",
        )
    if syntax == JPEG_EXTENDED and bits != 8:
        _unsupported(syntax, name)


def _jpeg2000_header(frame: bytes) -> tuple[int, int, int]:
    """Depth, height and width (ISO/IEC 15444-1 A.5.1)."""
    right, bottom, left, top = struct.unpack_from(">4I", frame, 8)
    return (frame[42] & 0x7F) + 1, bottom - top, right - left


def _jpeg_header(frame: bytes) -> tuple[int, int, int]:
    """Depth, height and width from the frame header (ITU-T T.81 B.2.2; T.87 C.2.2 for JPEG-LS); zeros without one."""
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, height, width = struct.unpack_from(">BHH", frame, at + 4)
            return bits, height, width
        else:
            at += 2 + length
    return 0, 0, 0


def _from_colour(stored: np.ndarray, bits: int, name: str) -> np.ndarray:
    """Grey out of three channels, where they say the same; an image with real colours is no radiograph."""
    white = 2**bits - 1
    height, width = stored.shape[:2]
    grey = np.empty((height, width), np.uint16)
    spread = 0
    for rows in strips(height, width):
        colour = stored[rows]
        spread += int((colour.max(axis=-1).astype(np.int64) - colour.min(axis=-1)).sum())
        grey[rows] = luminance(np.minimum(colour, white), white)
    if spread > COLOUR_SHARE * white * grey.size:
        _colour(name)
    return grey


def _from_palette(stored: np.ndarray, dataset: Dataset, name: str) -> np.ndarray:
    """Grey of the palette's colours (PS3.3 C.7.6.3.1.5), where they are grey."""
    low, high = int(stored.min()), int(stored.max())
    levels = np.arange(low, high + 1)
    bits = int(dataset.RedPaletteColorLookupTableDescriptor[2])
    colours = apply_color_lut(levels.astype(stored.dtype)[None], dataset)[0]
    if bits not in (8, 16) or colours.shape != (len(levels), 3):
        _bad(name, f"a palette of {bits} bits")
    white = 2**bits - 1
    spread = colours.max(axis=1).astype(np.int64) - colours.min(axis=1)
    total = sum(int(spread[stored[rows].astype(np.intp) - low].sum()) for rows in strips(*stored.shape))
    if total > COLOUR_SHARE * white * stored.size:
        _colour(name)
    return through(luminance(colours[None], white)[0], stored, low)


def _modality(stored: np.ndarray, dataset: Dataset, name: str) -> np.ndarray:
    """Stored values -> values of the modality, float64 (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(stored, dataset.ModalityLUTSequence[0], dataset, name)[0]
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    if not np.isfinite([slope, intercept]).all():
        _bad(name, f"rescale slope {slope} and intercept {intercept}")
    return stored * slope + intercept


def _window(values: np.ndarray, levels: np.ndarray, stored: np.ndarray, dataset: Dataset, name: str) -> np.ndarray:
    """Values of the modality -> 0..65535, float64, by the first VOI LUT or window, else the full range of the data.

    values (n,) belong to the stored values `levels` (n,), all integers from the least in `stored` to the largest.
    """
    if dataset.get("VOILUTSequence"):
        looked_up, largest = _look_up(values, dataset.VOILUTSequence[0], dataset, name)
        return np.clip(looked_up * WHITE / largest, 0, WHITE)
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None:
        kept = values[_there(levels, stored) & ~_padding(levels, dataset)]
        low, high = (kept.min(), kept.max()) if kept.size else (0.0, 0.0)
        if low == high:
            return np.zeros_like(values)
        return np.clip((values - low) * WHITE / (high - low), 0, WHITE)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if not np.isfinite([centre, width]).all() or width < (1 if function == "LINEAR" else np.finfo(float).tiny):
        _bad(name, f"window centre {centre} and width {width}")
    # PS3.3 C.11.2.1.2 and C.11.2.1.3; outside the window the clip gives what the standard's two other cases give.
    if function == "LINEAR":
        if width == 1:
            return np.where(values > centre - 0.5, float(WHITE), 0.0)
        return np.clip((values - (centre - 0.5)) * WHITE / (width - 1) + WHITE / 2, 0, WHITE)
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) * WHITE / width + WHITE / 2, 0, WHITE)
    if function == "SIGMOID":
        return WHITE / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    _bad(name, f"VOI LUT function {function!r}")


def _look_up(values: np.ndarray, item: Dataset, dataset: Dataset, name: str) -> tuple[np.ndarray, int]:
    """Values through a LUT item, float64, and the largest value its entries can have (PS3.3 C.11.1.1)."""
    n_entries, first, bits = (int(number) for number in item.LUTDescriptor)
    n_entries = n_entries or 2**16
    if not 8 <= bits <= 16:
        _bad(name, f"LUT entries of {bits} bits")
    entries = item.LUTData
    if isinstance(entries, bytes):
        order = "<" if dataset.original_encoding[1] in (True, None) else ">"
        entries = np.frombuffer(entries, f"{order}u2" if len(entries) >= 2 * n_entries else "u1")
    table = np.atleast_1d(np.asarray(entries, dtype=np.float64))[:n_entries]
    if len(table) < n_entries:
        _bad(name, f"a LUT of {len(table)} entries that says it has {n_entries}")
    return table[np.clip(np.rint(values - first), 0, n_entries - 1).astype(np.int64)], 2**bits - 1


def _there(levels: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """(n,) which of these consecutive integers the image has."""
    there = np.zeros(len(levels), dtype=bool)
    for rows in strips(*stored.shape):
        there[stored[rows].astype(np.intp) - levels[0]] = True
    return there


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Where the image was filled up to a rectangle: such pixels have no say in the range of the data."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    ends = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    return (stored >= ends[0]) & (stored <= ends[1])


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None where there is none."""
    if isinstance(value, str | int | float):
        return float(value)
    return float(value[0]) if value else None


def _unsupported(syntax: str, name: str) -> NoReturn:
    known = UID(syntax).name if syntax else "none"
    raise ImageError(
        "unsupported-syntax",
        f"{name} is written in transfer syntax {known} ({syntax}), for which there is no decoder here.",
        "Install the base requirements (python-gdcm, pylibjpeg-openjpeg), or transcode it: gdcmconv --raw IN OUT.",
    )


def _colour(name: str) -> NoReturn:
    raise ImageError("colour", f"{name} is a colour image.", "Give the radiograph itself, in shades of grey.")


def _bad(name: str, what: str) -> NoReturn:
    raise ImageError("bad-values", f"{name} has {what}.", "Export the file again, or correct its header.")
