"""What is said of a picture that was read although something about it is unusual: one row a kind."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt

import numpy as np

from linkage_core.images.pixels import WHITE

NOTES = {
    "nearly-constant": "nearly one shade: 98% of the pixels lie within 1% of the range from black to white",
    "narrow": "little of the range from black to white is used: 98% of the pixels lie within a tenth of it",
    "extremes": "black and white: nine pixels in ten are at one of the two ends",
    "few-levels": "fewer than 16 shades of grey",
    "noise": "neighbouring pixels have little to do with each other, as in noise",
    "for-processing": "marked FOR PROCESSING: not meant to be looked at as it is, so greys differ from those of images "
    "for presentation",
    "float-pixels": "floating point pixels, shown from the least to the largest unless there is a window",
    "uneven-pixels": "pixels that are not square; the finer side was reduced until they were",
    "aspect-unclear": "sides of a pixel that contradict each other or are no sizes; read as square",
    "uneven-density": "another resolution across than down in the header, which viewers do not apply; read as stored",
    "high-bit": "bits elsewhere than HighBit says; read by the bits in use",
    "bits-stored": "more bits in use than BitsStored says; read with all of them",
    "unused-bits": "something in bits that BitsStored leaves out; it was left out",
    "depth": "compressed with another depth than BitsStored says; read with that of the compressed image",
    "sign": "PixelRepresentation looks wrong: values run smoothly through its ends; read as it says",
    "lut-bits": "a table of greys whose entries need other bits than it says; shown by the entries in use",
    "lut-length": "a table of greys with more entries than it says; all were used",
    "padding": "a pixel padding value that leaves nothing of the image; it was not applied",
    "rescale": "a rescale slope of 0; it was not applied",
    "syntax": "compressed otherwise than the transfer syntax says; read as what it is",
    "components": "another number of colours in the compressed image than the header says; read as grey",
    "excess": "more pixel data than the picture needs; the rest was left out",
}
"""Kind -> what is the matter with an image, after its name or their number."""


def sentences(noted: Mapping[str, tuple[int, str]], total: int) -> list[str]:
    """What was noted of how many of `total` images, and the first of them.

    >>> sentences({"rescale": (1, "a.dcm")}, 20)
    ['1 of 20 images (the first: a.dcm): a rescale slope of 0; it was not applied']
    """
    return [
        f"{n:,} of {total:,} images (the first: {first}): {NOTES[note]}" for note, (n, first) in sorted(noted.items())
    ]


SAMPLE = 1 << 18  # pixels that are looked at
ENDS = (0.01, 0.99)


def percentiles(pixels: np.ndarray) -> tuple[int, int, int]:
    """1st, 50th and 99th percentile of shown values (height, width) uint16, of a quarter of a million of them.

    >>> percentiles(np.arange(10_000, dtype=np.uint16).reshape(100, 100))
    (99, 4999, 9899)
    """
    return _quantiles(_histogram(pixels))


def impression(pixels: np.ndarray) -> tuple[str, ...]:
    """Notes that the shown values (height, width) uint16 themselves give cause for, with keys of NOTES."""
    counts = _histogram(pixels)
    low, _, high = _quantiles(counts)
    found = []
    if high - low < WHITE / 100:
        found.append("nearly-constant")
    elif high - low < WHITE / 10:
        found.append("narrow")
    elif counts[0] + counts[WHITE] > 0.9 * counts.sum():
        found.append("extremes")
    if np.count_nonzero(counts) < 16:
        found.append("few-levels")
    if _roughness(pixels) > NOISE:
        found.append("noise")
    return tuple(found)


NOISE = 0.5
"""Mean difference of neighbours over the standard deviation: 2 / sqrt(pi) = 1.13 of independent normal values."""


def _roughness(pixels: np.ndarray) -> float:
    """Mean absolute difference of horizontal neighbours over the standard deviation, of some rows."""
    height, width = pixels.shape
    rows = pixels[:: max(1, height * width // SAMPLE)].astype(np.int32)
    spread = float(rows.std())
    return float(np.abs(np.diff(rows, axis=1)).mean()) / spread if spread else 0.0


def _histogram(pixels: np.ndarray) -> np.ndarray:
    step = max(1, ceil(sqrt(pixels.size / SAMPLE)))
    return np.bincount(pixels[::step, ::step].ravel(), minlength=WHITE + 1)


def _quantiles(counts: np.ndarray) -> tuple[int, int, int]:
    sums = counts.cumsum()
    low, middle, high = np.searchsorted(sums, [share * sums[-1] for share in (ENDS[0], 0.5, ENDS[1])])
    return int(low), int(middle), int(high)
