"""Grey pictures to the size a model was trained on, by torchvision's conventions and without torchvision or torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from PIL import Image

from linkage_core.encoders.pictures import rounded
from linkage_core.encoders.resampling import Tones, resized
from linkage_core.images.pixels import through

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def fitted(pixels: np.ndarray, *, side: int, crop: int, resample: int, stretch: bool = False) -> np.ndarray:
    """uint16 (height, width) -> uint8 (crop, crop): the shorter edge brought to `side`, then the middle.

    The longer edge is int(side * long / short), the corner of the middle round((edge - crop) / 2), half to even: so do
    torchvision's Resize and CenterCrop; other libraries round down, which moves every second picture by one pixel.
    `stretch`: the darkest value becomes 0 and the brightest 255 first.
    """
    height, width = pixels.shape
    short, long = min(width, height), max(width, height)
    stretched = int(side * long / short)
    size = (stretched, side) if width <= height else (side, stretched)
    picture = Image.fromarray(resized(pixels, full_range(pixels) if stretch else rounded, size, resample))
    top, left = (round((edge - crop) / 2) for edge in size)
    return np.asarray(picture.crop((left, top, left + crop, top + crop)))


def full_range(pixels: np.ndarray) -> Tones:
    """What makes the darkest of these uint16 grey values 0 and the brightest 255, the others rounded down.

    >>> pixels = np.array([[257, 514, 771]], dtype=np.uint16)
    >>> full_range(pixels)(pixels)
    array([[  0., 127., 255.]])
    """
    low, high = int(pixels.min()), int(pixels.max())
    grey = np.arange(low, high + 1) / 257.0  # an 8-bit source: its own integers, exactly
    grey -= grey[0]
    grey /= grey[-1] or 1.0
    grey *= 255
    return partial(through, np.floor(grey), first=low)


def scaled(pictures: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(n, height, width) uint8 -> (n, 3, height, width) float32: (grey / 255 - mean) / std of each channel."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    channels = [(levels - np.float32(centre)) / np.float32(spread) for centre, spread in zip(mean, std, strict=True)]
    return np.stack([channel[pictures] for channel in channels], axis=1)
