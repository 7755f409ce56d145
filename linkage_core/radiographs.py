"""DICOM, PNG and JPEG -> pixels as they are meant to be seen."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from linkage_core.errors import ImageError

WHITE = 65535
MIN_SIDE = 16
MAX_SIDE = 20_000
MAX_PIXELS = 8192 * 8192  # a 43 x 43 cm plate at 0.1 mm has 18.5 million
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


@dataclass(frozen=True)
class Radiograph:
    """One grey image, ready to be shown: dark is air.

    `pixels` (height, width) uint16, 0 black .. 65535 white, after modality LUT, VOI window and presentation;
    `bits` is the depth that the source really has (8 .. 16).
    """

    pixels: np.ndarray
    bits: int


def read_radiograph(path: Path) -> Radiograph:
    """The pixels of one DICOM, PNG or JPEG file; the kind is told by content, not by the name.

    DICOM: modality LUT, then the first VOI LUT or window (the full range of the data without one), then MONOCHROME1 or
    inverse presentation. PNG and JPEG: EXIF orientation, colour to luminance, alpha on black, values as stored.

    Raises ImageError, and nothing else, for a file that cannot be used. `reason` is one of: missing-file,
    not-an-image, truncated, damaged, no-pixel-data, multi-frame, colour, constant, too-small, too-large,
    unsupported-syntax, bad-values.
    """
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
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ImageError(
            "missing-file", f"{path} cannot be read: {error}.", "Check its name and permissions."
        ) from error
    return decode_radiograph(data, str(path))


def decode_radiograph(data: bytes, name: str) -> Radiograph:
    """As `read_radiograph`, from the bytes of a file; `name` is what errors call it."""
    if data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        pixels, bits = _decode_pillow(data, name)
    elif data[128:132] == b"DICM" or name.lower().endswith((".dcm", ".dicom")):
        from linkage_core.dicom import decode_dicom  # pydicom takes a while to import, and pages seldom need it

        pixels, bits = decode_dicom(data, name)
    else:
        found = "is empty" if not data else f"begins with {data[:8].hex(' ')}"
        raise ImageError("not-an-image", f"{name} {found}.", "Give a DICOM, PNG or JPEG file.")
    if pixels.min() == pixels.max():
        raise ImageError(
            "constant",
            f"Every pixel of {name} is shown as {int(pixels.flat[0])} of {WHITE}.",
            "Check the image, and in a DICOM its window.",
        )
    return Radiograph(pixels, bits)


def check_size(height: int, width: int, name: str) -> None:
    """Refuse absurd dimensions; called with what the header says, before anything is decoded."""
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise ImageError(
            "too-large",
            f"{name} says it has {height:,} x {width:,} pixels.",
            f"At most {MAX_PIXELS:,}, and {MAX_SIDE:,} a side, are read: check what this file is, or reduce the image.",
        )
    if min(height, width) < MIN_SIDE:
        raise ImageError(
            "too-small",
            f"{name} has {height} x {width} pixels; a side needs at least {MIN_SIDE}.",
            "Check that this is the image and not an icon of it.",
        )


def strips(height: int, width: int, *, pixels: int = 1 << 20) -> Iterator[slice]:
    """Rows of an image in stretches of so many pixels: what is computed on one stays small, and in the cache."""
    step = max(1, pixels // max(1, width))
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def through(table: np.ndarray, values: np.ndarray, first: int = 0) -> np.ndarray:
    """(height, width) integers through a table whose entry 0 is for the value `first`; every value has an entry."""
    looked_up = np.empty(values.shape, table.dtype)
    for rows in strips(*values.shape):
        np.take(table, values[rows].astype(np.intp) - first, out=looked_up[rows], mode="clip")
    return looked_up


def luminance(colour: np.ndarray, white: int) -> np.ndarray:
    """(height, width) uint16, 0..65535, of an (height, width, 3) image with values 0..`white`: ITU-R BT.601 weights.

    Equal channels give exactly value * 65535 / white, rounded.
    """
    common = gcd(WHITE, white)
    times, over = WHITE // common, 1000 * (white // common)
    whole = np.uint32 if 1000 * white * times + over // 2 < 1 << 32 else np.uint64  # the narrower is twice as fast
    weighted = np.zeros(colour.shape[:-1], whole)
    for channel, weight in enumerate((299, 587, 114)):
        weighted += np.multiply(colour[..., channel], weight, dtype=whole, casting="unsafe")
    weighted *= whole(times)
    weighted += whole(over // 2)
    weighted //= whole(over)
    return weighted.astype(np.uint16)


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


def downsample(radiograph: Radiograph, size: int, *, pad: bool = False) -> Radiograph:
    """The image with its longer side reduced to `size` pixels, each the exact mean of the area it covers.

    The aspect stays; an image that is already small enough is not enlarged. With `pad` the result is (size, size), the
    image in the middle and black around it.
    """
    height, width = radiograph.pixels.shape
    scale = min(1.0, size / max(height, width))
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = radiograph.pixels
    if (new_height, new_width) != (height, width):
        reduced = _area_mean(_area_mean(pixels, new_height).T, new_width).T
        pixels = np.rint(reduced).astype(np.uint16)
    if pad:
        canvas = np.zeros((size, size), dtype=np.uint16)
        top, left = (size - new_height) // 2, (size - new_width) // 2
        canvas[top : top + new_height, left : left + new_width] = pixels
        pixels = canvas
    return Radiograph(np.ascontiguousarray(pixels), radiograph.bits)


def _area_mean(values: np.ndarray, n_out: int) -> np.ndarray:
    """Mean over `n_out` equal stretches of axis 0, fractional ends included: (n_in, m) -> (n_out, m) float64."""
    n_in = values.shape[0]
    sums = np.zeros((n_in + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    edges = np.linspace(0, n_in, n_out + 1)
    whole = np.minimum(edges.astype(np.int64), n_in - 1)
    integral = sums[whole] + (edges - whole)[:, None] * (sums[whole + 1] - sums[whole])
    means: np.ndarray = np.diff(integral, axis=0) * (n_out / n_in)
    return means


def _decode_pillow(data: bytes, name: str) -> tuple[np.ndarray, int]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            check_size(image.height, image.width, name)
            if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
                raise ImageError("multi-frame", f"{name} is an animation.", "Give one image a file.")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _grey(image, name)
    except PILLOW_ERRORS as error:
        if isinstance(error, Image.DecompressionBombError):
            raise ImageError("too-large", f"{name}: {error}", "Reduce the image.") from error
        cut = isinstance(error, EOFError) or "truncat" in str(error).lower()
        raise ImageError(
            "truncated" if cut else "damaged",
            f"{name} cannot be decoded: {error or type(error).__name__}.",
            "Copy the file again from its source.",
        ) from error


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
