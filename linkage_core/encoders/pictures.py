"""Shown grey values to the small picture an image tower is fed with: numpy and Pillow alone, for reading processes."""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
from PIL import Image

from linkage_core.encoders import resampling
from linkage_core.encoders.resampling import painted
from linkage_core.errors import InputError

SIDE = 64  # pixels, of the phantom's own encoders


def eight_bit(pixels: np.ndarray) -> np.ndarray:
    """uint16 grey values to uint8, rounded: 0 -> 0, 65535 -> 255, and an 8-bit source comes back as it was.

    >>> eight_bit(np.array([[0, 128, 129, 65535]], dtype=np.uint16))
    array([[  0,   0,   1, 255]], dtype=uint8)
    """
    return painted(pixels, rounded)


def rounded(pixels: np.ndarray) -> np.ndarray:
    """uint16 grey values to whole numbers 0..255, float64. 257 is odd, so none lies half way between two."""
    tones = np.multiply(pixels, 1 / 257)
    return np.rint(tones, out=tones)


def resized(
    pixels: np.ndarray,
    *,
    shortest: int | None = None,
    size: tuple[int, int] | None = None,
    resample: int = Image.Resampling.BICUBIC,
    crop: tuple[int, int] | None = None,
) -> np.ndarray:
    """uint16 (height, width) -> uint8, as the processors of transformers make it, on one channel instead of three.

    The shorter edge is brought to `shortest` (the longer to int(shortest * long / short)), or both edges to `size`
    (height, width); then the middle of `crop`, rounded down, black around what is too small.
    """
    height, width = pixels.shape
    if shortest is not None:
        short, long = min(width, height), max(width, height)
        stretched = int(shortest * long / short)
        size = (stretched, shortest) if width <= height else (shortest, stretched)
    grey = eight_bit(pixels) if size is None else resampling.resized(pixels, rounded, size, resample)
    return grey if crop is None else _middle(grey, *crop)


def _middle(grey: np.ndarray, height: int, width: int) -> np.ndarray:
    pads = [
        (ceil(max(0, wanted - there) / 2), wanted) for there, wanted in zip(grey.shape, (height, width), strict=True)
    ]
    canvas = np.zeros([max(there, wanted) for there, (_, wanted) in zip(grey.shape, pads, strict=True)], grey.dtype)
    (top, _), (left, _) = pads
    canvas[top : top + grey.shape[0], left : left + grey.shape[1]] = grey
    tops, lefts = ((there - wanted) // 2 for there, (_, wanted) in zip(canvas.shape, pads, strict=True))
    return np.ascontiguousarray(canvas[tops : tops + height, lefts : lefts + width])


@lru_cache(maxsize=64)
def _area_weights(length: int) -> np.ndarray:
    """(SIDE, length) float32: the share of each source pixel in each target pixel. Rows sum to 1."""
    edges = np.linspace(0, length, SIDE + 1)
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.clip(overlap, 0, None) * (SIDE / length)).astype(np.float32)


def prepare(pixels: np.ndarray) -> np.ndarray:
    """What the image tower sees of one image: (height, width) of any number type -> (SIDE, SIDE) float32.

    Centre square, mean over areas, then zero mean and unit deviation. A constant image becomes zeros.
    """
    if pixels.ndim != 2 or min(pixels.shape) < 1:
        raise InputError(f"An image has shape {pixels.shape}.", "Give one grey image, (height, width).")
    side = min(pixels.shape)
    top, left = (pixels.shape[0] - side) // 2, (pixels.shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side].astype(np.float32)
    weights = _area_weights(side)
    return standardise(weights @ square @ weights.T)


def standardise(images: np.ndarray) -> np.ndarray:
    """(..., height, width) -> float32 with zero mean and unit deviation per image."""
    images = images.astype(np.float32)
    images = images - images.mean(axis=(-2, -1), keepdims=True)
    return images / np.maximum(images.std(axis=(-2, -1), keepdims=True), 1.0)
