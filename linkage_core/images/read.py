"""DICOM, PNG and JPEG -> pixels as they are meant to be seen."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from linkage_core import bounded
from linkage_core.errors import ImageError
from linkage_core.images import jpeg, kinds, png
from linkage_core.images.notes import impression, percentiles
from linkage_core.images.pixels import WHITE, Radiograph, check_size, luminance, strips

MAX_FILE_BYTES = 1 << 29

PILLOW_ERRORS = (
    OSError,  # UnidentifiedImageError, and what a decoder says about broken data
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


def read_radiograph(path: Path) -> Radiograph:
    """The pixels of one DICOM, PNG or JPEG file; the kind is told by content, not by the name.

    DICOM: modality LUT, then the first VOI LUT or window (the full range of the data without one), then MONOCHROME1 or
    inverse presentation. PNG and JPEG: EXIF orientation, colour to luminance, alpha on black, values as stored.

    Raises ImageError, and nothing else, for a file that cannot be used. `reason` is one of: missing-file,
    not-an-image, truncated, damaged, no-pixel-data, multi-frame, colour, constant, too-small, too-large,
    unsupported-syntax, bad-values.
    """
    return decode_radiograph(file_bytes(path), str(path))


def file_bytes(path: Path) -> bytes:
    """The bytes of an image file, MAX_FILE_BYTES at most. ImageError where there are none to be had, or more."""
    try:
        if not path.is_file():
            raise ImageError("missing-file", f"{path} is not a file.", "Check the path, or that the disk is mounted.")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImageError(
                "too-large",
                f"{path} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read.",
                "A radiograph is smaller: check what this file is.",
            )
        return bounded.read(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ImageError(
            "missing-file", f"{path} cannot be read: {error}.", "Check its name and permissions."
        ) from error


def decode_radiograph(data: bytes, name: str) -> Radiograph:
    """As `read_radiograph`, from the bytes of a file; `name` is what errors call it."""
    if data.startswith((kinds.PNG, kinds.JPEG)):
        read = _decode_pillow(data, name)
    elif kinds.is_dicom(data) or (name.lower().endswith((".dcm", ".dicom")) and not kinds.other(data)):
        from linkage_core.images.dicom import decode_dicom  # pydicom takes a while to import, and pages seldom need it

        read = decode_dicom(data, name)
    else:
        what, remedy = kinds.other(data) or kinds.unknown(data)
        raise ImageError("not-an-image", f"{name} is {what}.", remedy)
    pixels = read.pixels
    if pixels.min() == pixels.max():
        raise ImageError(
            "constant",
            f"Every pixel of {name} is shown as {int(pixels.flat[0])} of {WHITE}.",
            "Check the image, and in a DICOM its window.",
        )
    return replace(read, notes=(*dict.fromkeys((*read.notes, *impression(pixels))),))


def read_given(row: Mapping[str, Any]) -> Radiograph:
    """`decode_radiograph` of a row with `data`, the bytes of a file, and `image`, what errors call it: for files that
    were handed over and lie on no disk."""
    return decode_radiograph(row["data"], str(row["image"]))


def inside(root: Path, relative: str) -> Path:
    """The path of `relative` below `root`, resolved; ImageError "outside-root" if it leaves the root by any way.

    Absolute paths, `..` beyond the root and symbolic links that lead out are refused; nothing is read.
    """
    remedy = "Image paths are relative to the folder of the cohort and stay within it."
    if not relative.strip():
        raise ImageError("missing-file", "The image path is empty.", remedy)
    if "\0" in relative:
        raise ImageError("outside-root", f"The image path {relative!r} holds a null byte.", remedy)
    if Path(relative).is_absolute():
        raise ImageError("outside-root", f"The image path {relative!r} is absolute.", remedy)
    try:
        resolved_root = root.resolve()
        resolved = (root / relative).resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links that go in a circle
        raise ImageError("missing-file", f"The image path {relative!r} cannot be followed: {error}.", remedy) from error
    if not resolved.is_relative_to(resolved_root):
        raise ImageError("outside-root", f"The image path {relative!r} leaves {root}.", remedy)
    return resolved


def _decode_pillow(data: bytes, name: str) -> Radiograph:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            check_size(image.height, image.width, name)
            notes = ("uneven-density",) * _is_uneven(image)
            if image.format != "PNG":
                pixels, bits = _grey(_upright(jpeg.load(data, name)), name)
                return Radiograph(pixels, bits, notes)
            if getattr(image, "n_frames", 1) > 1:
                raise ImageError("multi-frame", f"{name} is an animation.", "Give one image a file.")
            header = png.check(data, name)
            image.load()
            if header.is_deep:
                return Radiograph(
                    _turned(png.grey(data, header, image), image.getexif().get(ORIENTATION, 1)), 16, notes
                )
            if header.transparent and header.bits in (2, 4):  # Pillow spreads the samples to 8 bits, but not this one
                image.info["transparency"] = header.transparent[0] * 255 // ((1 << header.bits) - 1)
            pixels, bits = _grey(_upright(image), name)
            return Radiograph(pixels, bits, notes)
    except PILLOW_ERRORS as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError("too-large", f"{name}: {error}", "Reduce the image.") from error
        cut = isinstance(error, EOFError) or "truncat" in str(error).lower()
        raise ImageError(
            "truncated" if cut else "damaged",
            f"{name} cannot be decoded: {error or type(error).__name__}.",
            "Copy the file again from its source.",
        ) from error


def _is_uneven(image: Image.Image) -> bool:
    """Whether the header gives another density across than down (PNG pHYs, JFIF)."""
    for keyword in ("dpi", "aspect", "jfif_density"):
        sides = image.info.get(keyword)
        if isinstance(sides, tuple) and len(sides) == 2:
            across, down = map(float, sides)  # EXIF gives fractions that may have nothing below the line
            if 0 < across < np.inf and 0 < down < np.inf:
                return abs(across / down - 1) > 0.01
    return False


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image)


ORIENTATION = 0x0112
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: pixels[::-1, ::-1],
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: pixels.T[:, ::-1],
    7: lambda pixels: pixels.T[::-1, ::-1],
    8: lambda pixels: pixels.T[::-1],
}
"""EXIF orientation -> what turns the pixels upright (EXIF 2.3, 4.6.4 A)."""


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return np.ascontiguousarray(UPRIGHT[orientation](pixels)) if orientation in UPRIGHT else pixels


def _grey(image: Image.Image, name: str) -> tuple[np.ndarray, int]:
    """Luminance 0..65535 of an image in any of Pillow's modes, alpha composited on black; and its depth."""
    grey = np.empty((image.height, image.width), np.uint16)
    for rows in strips(*grey.shape, pixels=(1 << 20) // len(image.getbands())):
        grey[rows] = _grey_rows(image.crop((0, rows.start, image.width, rows.stop)), name)
    return grey, 16 if _is_deep(image) else 8


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _grey_rows(image: Image.Image, name: str) -> np.ndarray:
    if _is_deep(image):
        values = np.asarray(image)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > WHITE:
            raise ImageError("bad-values", f"{name} has pixel values outside 0..{WHITE}.", "Save it with 8 or 16 bits.")
        return np.rint(values).astype(np.uint16) if image.mode == "F" else values.astype(np.uint16)
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if image.mode in ("1", "L", "LA") and not (image.mode != "LA" and has_alpha):
        mode = "LA" if has_alpha else "L"
        channels = np.asarray(image if image.mode == mode else image.convert(mode))
        grey = np.multiply(channels[..., 0] if has_alpha else channels, np.uint16(257), dtype=np.uint16)
        alpha = channels[..., 1] if has_alpha else None
    else:
        channels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
        grey = luminance(channels[..., :3], 255)
        alpha = channels[..., 3] if has_alpha else None
    if alpha is not None:
        grey = ((grey.astype(np.uint32) * alpha + 127) // 255).astype(np.uint16)
    return grey


# -- what processes that read are sent: here, because tables (pandas) take longer to import than a picture to decode --


def read_below(root: Path, row: Any) -> Radiograph:
    """The pixels of a record's image; ImageError if it is not there, leaves the root or cannot be decoded."""
    if not row["image"]:
        raise ImageError(
            "missing-file",
            f"{row['record_id']}: no image was found for it below {root}.",
            "Add the images and read again.",
        )
    return read_radiograph(inside(root, str(row["image"])))


def greys(pixels: np.ndarray) -> np.ndarray:
    """(1, 3) uint16 of an image: its 1st, 50th and 99th percentile; all that a check sends back."""
    return np.array([percentiles(pixels)], dtype=np.uint16)


def header_below(root: Path, names: tuple[str, ...], row: Mapping[str, Any]) -> dict[str, str]:
    """What the header of a record's image says under these names."""
    from linkage_core.images.dicom import header_words  # pydicom is slow to import, and only needed here

    return header_words(inside(root, str(row["image"])), names)
