"""One DICOM file -> grey pixels as they are meant to be seen."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pydicom import config, dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import UID

from linkage_core import bounded
from linkage_core.errors import ImageError
from linkage_core.images import frames, jpeg, jpeg2000, lookup
from linkage_core.images.cells import stored_values, wrong_sign
from linkage_core.images.pixels import MAX_PIXELS, WHITE, Radiograph, check_size, luminance, squared, strips, through

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
PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", PALETTE)  # with one sample a pixel; others have three
COLOUR_SHARE = 0.04  # mean spread of the channels, as a share of white; burnt-in coloured marks stay far below
FLOATS = {"FloatPixelData": ("f4", "FloatPixelPadding"), "DoubleFloatPixelData": ("f8", "DoubleFloatPixelPadding")}
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
UNEVEN = 0.01  # sides of a pixel that differ by less are rounding
MOST_UNEVEN = 16.0
FOR_PROCESSING = tuple(f"1.2.840.10008.5.1.4.1.1.1.{kind}.1" for kind in ("1", "2", "3"))  # DX, mammography, intra-oral


def read_header(data: bytes, name: str, *, pixels: bool = True) -> Dataset:
    """The data set of a file; without `pixels` it ends before them. What pydicom raises is PYDICOM_ERRORS."""
    if data.startswith(b"\2\0") and data[128:132] != b"DICM":
        data = bytes(128) + b"DICM" + data  # a file header without its preamble
    if DEFLATED.encode() in data[:65536]:
        data = _inflated(data, name)  # here: pydicom would inflate all of it, whatever that may be
    return dcmread(io.BytesIO(data), force=True, stop_before_pixels=not pixels)


def header_words(path: Path, keywords: Sequence[str]) -> dict[str, str]:
    """What these attributes of a DICOM file say, "" for one that is not there; pixels are not read. ImageError only.

    A deflated file is inflated by pydicom without a bound: call it in a process that has one.
    """
    try:
        with bounded.regular(path) as file:
            header = dcmread(file, stop_before_pixels=True, specific_tags=list(keywords))
            return {keyword: str(header.get(keyword) or "")[:1024] for keyword in keywords}
    except PYDICOM_ERRORS as error:
        raise ImageError("damaged", f"The header of {path} cannot be read.", "Copy the file again.") from error


def decode_dicom(data: bytes, name: str) -> Radiograph:
    """Pixels as they are meant to be seen, the depth the source has, and notes.

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


def _decode(data: bytes, name: str) -> Radiograph:
    dataset, syntax = _header(data, name)
    notes = ["for-processing"] if _for_processing(dataset) else []
    pixels, bits, more = _shown(dataset, syntax, name)
    ratio, about_ratio = _aspect(dataset)
    if ratio != 1:
        pixels = squared(pixels, ratio, name)
    return Radiograph(pixels, bits, (*notes, *more, *about_ratio))


def _shown(dataset: Dataset, syntax: str, name: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Shown values, the depth, and notes."""
    for keyword in FLOATS:
        if keyword in dataset:
            pixels, about_window = _from_floats(dataset, keyword, syntax, name)
            return pixels, 16, ("float-pixels", *about_window)
    stored, depth, notes = _stored_pixels(dataset, syntax, name)
    bits = min(16, max(8, depth))
    if dataset.PhotometricInterpretation == PALETTE:
        pixels, about_palette = _from_palette(stored, dataset, name)
        return pixels, bits, notes + about_palette
    if stored.ndim == 3:
        return _from_colour(stored, depth, name), bits, notes
    # What is shown depends on the stored value alone: worked out once for each value, then looked up for each pixel.
    low, high = int(stored.min()), int(stored.max())
    levels = np.arange(low, high + 1)
    values = _modality(levels, dataset, name)
    ends = _padding(depth, dataset)
    padding = np.zeros(levels.shape, bool) if ends is None else (levels >= ends[0]) & (levels <= ends[1])

    more = list(notes)
    if dataset.get("RescaleSlope") == 0 and "ModalityLUTSequence" not in dataset:
        more.append("rescale")
    if wrong_sign(stored, depth, ends):
        more.append("sign")

    def extent() -> tuple[float, float]:
        there = _there(levels, stored)
        kept = values[there & ~padding]
        if not kept.size:
            more.append("padding")
            kept = values[there]
        return float(kept.min()), float(kept.max())

    window, about_table = _window(dataset, values, extent, name)
    shown = window(values)
    if _is_inverted(dataset):
        shown = WHITE - shown
    return through(np.rint(shown).astype(np.uint16), stored, low), bits, (*more, *about_table)


def _is_inverted(dataset: Dataset) -> bool:
    return dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE"


def _for_processing(dataset: Dataset) -> bool:
    """PS3.3 C.8.11.1: such images are input of a manufacturer's processing."""
    return dataset.get("PresentationIntentType") == "FOR PROCESSING" or dataset.get("SOPClassUID") in FOR_PROCESSING


def _header(data: bytes, name: str) -> tuple[Dataset, str]:
    """The data set, after everything that can be checked without decoding pixels; and its transfer syntax."""
    dataset = read_header(data, name)
    if data[128:132] == b"DICM" and not len(dataset) and getattr(dataset, "file_meta", None):
        # pydicom gives an empty data set where compressed pixels have no end
        raise ImageError("truncated", f"{name} ends in the middle of its data set.", "Copy the file again.")
    if "Rows" not in dataset and "SOPClassUID" not in dataset:
        raise ImageError("not-an-image", f"{name} holds no DICOM image.", "Give a DICOM, PNG or JPEG file.")
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) if hasattr(dataset, "file_meta") else ""
    if not syntax:  # a bare data set; pydicom found out how it is written
        implicit, little = dataset.original_encoding
        syntax = NATIVE[0] if implicit else NATIVE[1] if little else NATIVE[2]
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax not in NATIVE and syntax not in DECODERS:
        _unsupported(syntax, name)
    floats = next((keyword for keyword in FLOATS if keyword in dataset), None)
    if floats is None and ("PixelData" not in dataset or not dataset.PixelData):
        raise ImageError(
            "no-pixel-data", f"{name} has no pixel data.", "Use the image itself, not a report or a presentation state."
        )
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ImageError("multi-frame", f"{name} has {dataset.NumberOfFrames} frames.", "Give one radiograph a file.")
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated"):
        if dataset.get(keyword) in (None, ""):
            raise ImageError("damaged", f"The header of {name} has no {keyword}.", "Export the file again.")
    check_size(int(dataset.Rows), int(dataset.Columns), name)
    samples, allocated = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    dataset.PhotometricInterpretation = str(dataset.PhotometricInterpretation).strip().upper()
    photometric = dataset.PhotometricInterpretation
    if samples not in (1, 3) or (samples == 1) != (photometric in PHOTOMETRIC) or photometric == "MONOCHROME":
        _bad(name, f"{samples} samples a pixel with photometric interpretation {photometric!r}")
    if floats:
        if samples != 1 or photometric == PALETTE or syntax not in NATIVE:
            _bad(name, f"floating point pixels with {samples} samples, as {photometric!r}, in syntax {syntax}")
        _check_length(len(dataset[floats].value), dataset, 8 * int(FLOATS[floats][0][1]), name)
        return dataset, syntax
    for keyword, value in (("BitsStored", allocated), ("PixelRepresentation", 0)):
        if dataset.get(keyword) is None:
            setattr(dataset, keyword, value)
    if allocated not in (8, 16) or not 1 <= int(dataset.BitsStored) <= allocated:
        _bad(name, f"pixels of {allocated} bits of which {dataset.BitsStored} are stored, where 8 or 16 can be read")
    if samples == 3 and dataset.PixelRepresentation:
        _bad(name, "signed colours")
    if syntax in NATIVE and not _is_encapsulated(dataset):
        _check_length(len(dataset.PixelData), dataset, allocated, name)
    return dataset, syntax


def _check_length(n_bytes: int, dataset: Dataset, allocated: int, name: str) -> None:
    """Whether pixel data that are not compressed can be this picture."""
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else int(dataset.SamplesPerPixel)
    needed = int(dataset.Rows) * int(dataset.Columns) * samples * allocated // 8
    if n_bytes < needed:
        raise ImageError(
            "truncated",
            f"{name} has {n_bytes:,} bytes of pixel data of {needed:,}.",
            "Copy the file again from its source.",
        )
    if n_bytes >= 2 * needed:
        _bad(
            name,
            f"{n_bytes:,} bytes of pixel data where its header (rows {dataset.Rows}, columns {dataset.Columns}, "
            f"{allocated} bits) asks for {needed:,}",
        )


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


def _stored_pixels(dataset: Dataset, syntax: str, name: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Stored values, (height, width) or (height, width, 3), their depth, and notes."""
    if syntax in NATIVE and not _is_encapsulated(dataset):
        cells, depth = _decoded(dataset, ""), int(dataset.BitsStored)
        left_out = len(dataset.PixelData) - cells.nbytes
        notes: tuple[str, ...] = ("excess",) * (left_out > max(cells.nbytes // cells.shape[0], 1024))
    else:
        cells, depth, notes = _decompressed(dataset, syntax, name)
    high = dataset.get("HighBit") if depth == dataset.BitsStored else None
    stored, depth, more = stored_values(cells, depth, depth - 1 if high is None else int(high), _overlay_bits(dataset))
    return stored, depth, notes + more


def _decompressed(dataset: Dataset, syntax: str, name: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Cells of a compressed picture, how many bits of them count, and notes."""
    stream = jpeg2000.codestream(frames.join(dataset.PixelData, name), name)
    header = jpeg.parse(stream) if stream.startswith(b"\xff\xd8") else jpeg.Stream()
    kind = frames.kind(stream, header.frame)
    declared = next((kind for kind, syntaxes in frames.FAMILIES.items() if syntax in syntaxes), "no compression")
    if not kind:
        _bad(name, f"transfer syntax {UID(syntax).name} ({syntax}), but its pixel data are no such stream")
    notes: list[str] = []
    if kind != declared:
        syntax = frames.FAMILIES[kind][0]
        notes.append("syntax")
    plugin = DECODERS[syntax]
    if plugin not in get_decoder(UID(syntax)).available_plugins:
        _unsupported(syntax, name)
    depth = int(dataset.BitsStored)
    if kind != "RLE":
        about = jpeg2000.parse(stream) if kind == "JPEG 2000" else header
        _check_stream(stream, about, dataset, name)
        if kind == "JPEG" and about.bits != 8:
            _unsupported(JPEG_EXTENDED, name)
        if about.n_components != dataset.SamplesPerPixel:
            _follow_components(dataset, about.n_components, name)
            notes.append("components")
        if about.bits < depth:
            notes.append("depth")
            depth = about.bits
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if kind == "JPEG":
        image = jpeg.load(stream, name)
        if "components" in notes and image.mode != "L":
            image = image.convert("RGB")
        cells = np.asarray(image) if image.mode == "L" or "components" in notes else _decoded(dataset, plugin)
    else:
        cells = _decoded(dataset, plugin)
    if kind == "JPEG 2000":
        jpeg2000.check_holes(stream.rstrip(b"\0"), jpeg2000.parse(stream), cells, name)
    if kind == "lossless JPEG":

        def again(changed: bytes) -> np.ndarray:
            dataset.PixelData = encapsulate([changed])
            return _decoded(dataset, plugin)

        jpeg.check_holes(stream, header, lambda: cells, again, name)
    if "components" in notes and cells.ndim == 3:
        grey = _from_colour(cells, depth, name)
        cells = np.rint(grey / WHITE * ((1 << depth) - 1)).astype(cells.dtype)
    return cells, depth, tuple(notes)


def _follow_components(dataset: Dataset, n_components: int, name: str) -> None:
    """The header, made to describe a compressed picture of another number of components."""
    if n_components not in (1, 3):
        _bad(name, f"a compressed image of {n_components} components")
    dataset.SamplesPerPixel = n_components
    if n_components == 3:
        dataset.PlanarConfiguration = 0
        if dataset.PhotometricInterpretation == PALETTE:
            _bad(name, "a palette for a compressed image of 3 components")
        if _is_inverted(dataset):  # known by the first, before it is no more
            dataset.PresentationLUTShape = "INVERSE"
        dataset.PhotometricInterpretation = "RGB"
    else:
        dataset.PhotometricInterpretation = "MONOCHROME2"


def _decoded(dataset: Dataset, plugin: str) -> np.ndarray:
    """Cells of the picture by pydicom; RuntimeError where a decoder gives up."""
    native = not plugin and (dataset.SamplesPerPixel, dataset.BitsAllocated) == (1, 16)
    try:
        cells: np.ndarray = pixel_array(dataset, decoding_plugin=plugin, view_only=native, correct_unused_bits=False)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # how a decoder in Rust fails: no Exception, so nobody catches it
            raise
        raise RuntimeError(f"the decoder gave up: {error}") from error
    return cells


def _is_encapsulated(dataset: Dataset) -> bool:
    """Whether pixel data are fragments, whatever the transfer syntax says."""
    return bool(dataset["PixelData"].is_undefined_length and dataset.PixelData.startswith(frames.ITEM))


def _overlay_bits(dataset: Dataset) -> tuple[int, ...]:
    """Bits of the pixel cells in which the header keeps overlays (retired; PS3.5 8.1.2)."""
    positions = [(dataset.get((group, 0x0102)), (group, 0x3000) in dataset) for group in range(0x6000, 0x6020, 2)]
    return tuple(int(bit.value) for bit, apart in positions if bit is not None and bit.value is not None and not apart)


def _check_stream(frame: bytes, about: jpeg.Stream | jpeg2000.Stream, dataset: Dataset, name: str) -> None:
    """The compressed stream has an end and the header's size: decoders believe the stream, not the header."""
    if b"\xff\xd9" not in frame.rstrip(b"\0")[-16:]:
        raise ImageError(
            "truncated", f"The compressed image of {name} has no end.", "Copy the file again from its source."
        )
    if (about.height, about.width) != (int(dataset.Rows), int(dataset.Columns)):
        _bad(
            name,
            f"a header of {dataset.Rows} x {dataset.Columns} pixels around a compressed image of "
            f"{about.height} x {about.width}",
        )


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


def _from_palette(stored: np.ndarray, dataset: Dataset, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Grey of the palette's colours (PS3.3 C.7.6.3.1.5), where they are grey; and notes."""
    low, high = int(stored.min()), int(stored.max())
    levels = np.arange(low, high + 1)
    tables = lookup.palette(dataset, levels, _big_endian(dataset), name)
    white = tables[0].white
    colours = np.stack([table(levels) for table in tables], axis=-1).astype(np.int64)
    spread = colours.max(axis=1) - colours.min(axis=1)
    total = sum(int(spread[stored[rows].astype(np.intp) - low].sum()) for rows in strips(*stored.shape))
    if total > COLOUR_SHARE * white * stored.size:
        _colour(name)
    return through(luminance(colours[None], white)[0], stored, low), tables[0].notes


def _from_floats(dataset: Dataset, keyword: str, syntax: str, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Shown values of floating point pixels (PS3.3 C.7.6.24), and notes; padding has no say in their range."""
    kind, padding = FLOATS[keyword]
    height, width = int(dataset.Rows), int(dataset.Columns)
    order = ">" if syntax == NATIVE[2] else "<"
    stored = np.frombuffer(dataset[keyword].value, order + kind, height * width).reshape(height, width)
    if not np.isfinite(stored).all():
        _bad(name, f"{int((~np.isfinite(stored)).sum()):,} pixels that are no numbers")
    value = dataset.get(f"{padding}Value")
    ends = None if value is None else sorted((float(value), float(dataset.get(f"{padding}RangeLimit", value))))

    def extent() -> tuple[float, float]:
        found = []
        for rows in strips(height, width):
            part = stored[rows] if ends is None else stored[rows][(stored[rows] < ends[0]) | (stored[rows] > ends[1])]
            if part.size:
                found += [float(part.min()), float(part.max())]
        return min(found, default=0.0), max(found, default=0.0)

    limits = np.array([stored.min(), stored.max()], dtype=np.float64)
    values = _modality(limits, dataset, name)
    window, notes = _window(dataset, values, lambda: _ordered(extent(), dataset, name), name)
    pixels = np.empty((height, width), np.uint16)
    for rows in strips(height, width):
        shown = window(_modality(stored[rows].astype(np.float64), dataset, name))
        pixels[rows] = np.rint(WHITE - shown if _is_inverted(dataset) else shown)
    return pixels, notes


def _ordered(ends: tuple[float, float], dataset: Dataset, name: str) -> tuple[float, float]:
    low, high = sorted(_modality(np.array(ends), dataset, name).tolist())
    return low, high


def _modality(stored: np.ndarray, dataset: Dataset, name: str) -> np.ndarray:
    """Stored values -> values of the modality, float64 (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return lookup.lut(dataset.ModalityLUTSequence[0], stored, _big_endian(dataset), name)(stored)
    slope, intercept = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    if not np.isfinite([slope, intercept]).all():
        _bad(name, f"rescale slope {slope} and intercept {intercept}")
    return stored * slope + intercept


Window = Callable[[np.ndarray], np.ndarray]


def _window(
    dataset: Dataset, values: np.ndarray, extent: Callable[[], tuple[float, float]], name: str
) -> tuple[Window, tuple[str, ...]]:
    """What takes values of the modality to 0..65535, float64, and notes: the first VOI LUT or window of the header,
    else the range of the data, which `extent` gives. `values` are all that there are, or their ends.
    """
    if dataset.get("VOILUTSequence"):
        table = lookup.lut(dataset.VOILUTSequence[0], values, _big_endian(dataset), name)
        return lambda values: np.clip(table(values) * WHITE / table.white, 0, WHITE), table.notes
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None:
        low, high = extent()
        if low == high:
            return np.zeros_like, ()
        return lambda values: np.clip((values - low) * WHITE / (high - low), 0, WHITE), ()
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    if not np.isfinite([centre, width]).all() or width < (1 if function == "LINEAR" else np.finfo(float).tiny):
        _bad(name, f"window centre {centre} and width {width}")
    # PS3.3 C.11.2.1.2 and C.11.2.1.3; outside the window the clip gives what the standard's two other cases give.
    if function == "LINEAR":
        if width == 1:
            return lambda values: np.where(values > centre - 0.5, float(WHITE), 0.0), ()
        return lambda values: np.clip((values - (centre - 0.5)) * WHITE / (width - 1) + WHITE / 2, 0, WHITE), ()
    if function == "LINEAR_EXACT":
        return lambda values: np.clip((values - centre) * WHITE / width + WHITE / 2, 0, WHITE), ()
    if function == "SIGMOID":
        return lambda values: WHITE / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))), ()
    _bad(name, f"VOI LUT function {function!r}")


def _big_endian(dataset: Dataset) -> bool:
    return dataset.original_encoding[1] is False


def _there(levels: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """(n,) which of these consecutive integers the image has."""
    there = np.zeros(len(levels), dtype=bool)
    for rows in strips(*stored.shape):
        there[stored[rows].astype(np.intp) - levels[0]] = True
    return there


def _padding(bits: int, dataset: Dataset) -> tuple[int, int] | None:
    """The values, from one to the other, that the image was filled up to a rectangle with: such pixels have no say in
    the range of the data.

    They may be written as US or SS, whatever the pixels are (PS3.3 C.7.5.1.1.2), and with the bits above BitsStored:
    what counts is the same bits as of the pixels.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None or value == b"":
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = []
    for one in (value, value if limit is None else limit):
        end = lookup.integers(one, _big_endian(dataset))[0] % (1 << bits)
        ends.append(end - (1 << bits) if dataset.PixelRepresentation and end >> bits - 1 else end)
    return min(ends), max(ends)


def _aspect(dataset: Dataset) -> tuple[float, tuple[str, ...]]:
    """Height over width of a pixel, 1 where they are about equal, and notes.

    Spacing and aspect ratio both give the vertical number first (PS3.3 10.7.1.3, C.7.6.3.1.7). The first that is
    there counts; one that is no size, or another than the rest, is noted.
    """
    ratios = []
    for keyword in SPACINGS:
        try:
            sides = [float(side) for side in dataset.get(keyword) or ()]
        except (TypeError, ValueError):
            sides = [0.0]
        if sides:
            usable = len(sides) == 2 and all(0 < side < np.inf for side in sides)
            ratios.append(sides[0] / sides[1] if usable else 0.0)
    if not ratios:
        return 1.0, ()
    if not all(1 / MOST_UNEVEN <= ratio <= MOST_UNEVEN and abs(ratio / ratios[0] - 1) <= UNEVEN for ratio in ratios):
        return 1.0, ("aspect-unclear",)
    return (1.0, ()) if abs(ratios[0] - 1) <= UNEVEN else (ratios[0], ("uneven-pixels",))


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
