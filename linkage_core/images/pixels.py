"""A radiograph in memory: its limits of size, and reductions that never hold more than a strip at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np

from linkage_core.errors import ImageError

WHITE = 65535
MIN_SIDE = 16
MAX_SIDE = 20_000
MAX_PIXELS = 8192 * 8192  # a 43 x 43 cm plate at 0.1 mm has 18.5 million


@dataclass(frozen=True)
class Radiograph:
    """One grey image, ready to be shown: dark is air.

    `pixels` (height, width) uint16, 0 black .. 65535 white, after modality LUT, VOI window and presentation;
    `bits` is the depth that the source really has (8 .. 16); `notes` are what is unusual about it, as keys of
    `notes.NOTES`.
    """

    pixels: np.ndarray
    bits: int
    notes: tuple[str, ...] = ()


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
    return Radiograph(np.ascontiguousarray(pixels), radiograph.bits, radiograph.notes)


def squared(pixels: np.ndarray, ratio: float, name: str) -> np.ndarray:
    """An image whose pixels are `ratio` times as high as wide, with square ones: the finer side is reduced.

    >>> squared(np.arange(0, 32000, 10, dtype=np.uint16).reshape(40, 80), 2.0, "x").shape
    (40, 40)
    """
    height, width = pixels.shape
    new_height, new_width = round(height * min(1.0, ratio)), round(width / max(1.0, ratio))
    if min(new_height, new_width) < MIN_SIDE // 2:
        raise ImageError(
            "bad-values",
            f"{name} has pixels {ratio:g} times as high as wide, which leaves {new_height} x {new_width} square ones.",
            "Correct the pixel spacing in its header.",
        )
    if new_height == height:
        return np.ascontiguousarray(_rows_reduced(pixels.T, new_width).T)
    return _rows_reduced(pixels, new_height)


def _rows_reduced(pixels: np.ndarray, n_rows: int) -> np.ndarray:
    """(n_rows, width) uint16, each the exact mean of the rows it covers; a stretch of columns at a time."""
    height, width = pixels.shape
    reduced = np.empty((n_rows, width), np.uint16)
    for columns in strips(width, height):
        reduced[:, columns] = np.rint(_area_mean(pixels[:, columns], n_rows))
    return reduced


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
