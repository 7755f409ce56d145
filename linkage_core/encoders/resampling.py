"""Pillow's resize of a grey picture, the same to the last bit and faster where it makes the picture much narrower.

Pillow resizes 8-bit pictures in whole numbers: first along the rows, then along the columns, each time with weights
that are multiples of 2**-22 and a sum rounded to 0..255. A sum of such products stays below 2**31 units, so it is exact
in float64 in whatever order it is added: a matrix product gives the very number. The first pass, over all pixels of the
source, is done so; the second one, small, is Pillow's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image

from linkage_core.images.pixels import strips

Tones = Callable[[np.ndarray], np.ndarray]
"""Rows of an image -> the grey values they are to have, float64, whole numbers 0..255."""

SUPPORT = {Image.Resampling.BILINEAR: 1, Image.Resampling.BICUBIC: 2}  # half the width of a filter that does not shrink
ONE = 1 << 22
STRIP = 1 << 18  # pixels, of 8 bytes
TOGETHER = 8  # columns of the result that are one matrix product: they see nearly the same columns of the source


def painted(pixels: np.ndarray, tones: Tones) -> np.ndarray:
    """(height, width) of any type -> uint8."""
    grey = np.empty(pixels.shape, np.uint8)
    for rows in strips(*pixels.shape, pixels=STRIP):
        grey[rows] = tones(pixels[rows])
    return grey


def resized(pixels: np.ndarray, tones: Tones, size: tuple[int, int], resample: int) -> np.ndarray:
    """(height, width) of any type -> uint8 of `size` (height, width): Pillow's resize of `painted(pixels, tones)`."""
    width = size[1]
    if resample in SUPPORT and pixels.shape[1] >= 2 * width:
        narrow = np.empty((len(pixels), width), np.uint8)
        for rows in strips(*pixels.shape, pixels=STRIP):
            narrow[rows] = _narrowed(tones(pixels[rows]), width, resample)
    else:
        narrow = painted(pixels, tones)
    return np.asarray(Image.fromarray(narrow).resize(size[::-1], Image.Resampling(resample)))


def _narrowed(grey: np.ndarray, width: int, resample: int) -> np.ndarray:
    """(n, columns) whole numbers 0..255 as float64 -> (n, width) of them, to be cut off after the point."""
    sums = np.empty((len(grey), width))
    for columns, made, weights in _products(grey.shape[1], width, resample):
        np.matmul(grey[:, columns], weights, out=sums[:, made])
    sums += 0.5
    return np.clip(sums, 0, 255, out=sums)


@lru_cache(maxsize=32)
def _products(columns: int, width: int, resample: int) -> list[tuple[slice, slice, np.ndarray]]:
    """Which columns of the source make which of the result, and the weights between them (n_source, n_result).

    Pillow is asked for its weights, by a picture of 32-bit numbers with lights as far apart as a window is wide: row r
    has them at columns r, r + window, r + 2 window ... So each pixel of the answer is one weight.
    """
    scale = columns / width
    support = SUPPORT[Image.Resampling(resample)] * scale
    window = 2 * ceil(support) + 1
    lights = np.zeros((window, columns), np.int32)
    lights[np.arange(columns) % window, np.arange(columns)] = ONE
    answer = np.asarray(Image.fromarray(lights).resize((width, window), Image.Resampling(resample)))
    first = np.maximum((np.arange(width) + 0.5) * scale - support + 0.5, 0).astype(int)
    seen = first[:, None] + np.arange(window)  # columns (width, window) from the first that has a say
    weights = answer[seen % window, np.arange(width)[:, None]] / ONE
    found = []
    for at in range(0, width, TOGETHER):
        made = slice(at, min(at + TOGETHER, width))
        start, stop = int(first[at]), min(columns, int(seen[made].max()) + 1)
        product = np.zeros((int(seen[made].max()) + 1 - start, made.stop - at))
        product[seen[made] - start, np.arange(made.stop - at)[:, None]] = weights[made]
        found.append((slice(start, stop), made, product[: stop - start]))
    return found
