"""What is said of a picture that was read although something about it is unusual: one row a kind."""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np

from linkage_core.images.pixels import WHITE

NOTES = {
    "nearly-constant": "are nearly one shade: 98% of their pixels lie within 1% of the range from black to white",
    "narrow": "use little of the range from black to white: 98% of their pixels lie within a tenth of it",
    "extremes": "are black and white: nine pixels in ten are at one of the two ends",
    "few-levels": "have fewer than 16 shades of grey",
    "noise": "look like noise: neighbouring pixels have little to do with each other",
    "for-processing": "are marked FOR PROCESSING: not meant to be looked at as they are, so their greys differ from "
    "those of images for presentation",
    "float-pixels": "hold floating point pixels, shown from the least to the largest unless they bring a window",
    "uneven-pixels": "have pixels that are not square; the finer side was reduced until they are",
    "aspect-unclear": "give sides of their pixels that contradict each other or are no sizes; read as square",
    "uneven-density": "have another resolution across than down by their header, which viewers do not apply; read as "
    "stored",
    "high-bit": "have their bits elsewhere than HighBit says; read by the bits in use",
    "bits-stored": "use more bits than BitsStored says; read with all of them",
    "unused-bits": "have something in bits that BitsStored leaves out; it was left out",
    "depth": "are compressed with another depth than BitsStored says; read with the compressed one",
    "sign": "look as if PixelRepresentation were wrong; read as it says",
    "lut-bits": "bring a table of greys whose entries need other bits than it says; shown by the entries in use",
    "lut-length": "bring a table of greys with more entries than it says; all were used",
    "padding": "have a pixel padding value that leaves nothing of the image; it was not applied",
    "rescale": "give a rescale slope of 0; it was not applied",
    "syntax": "are compressed otherwise than their transfer syntax says; read as what they are",
    "components": "have another number of colours in the compressed image than the header says; read as grey",
    "excess": "hold more pixel data than the picture needs; the rest was left out",
}
"""Kind -> what can be said of images it was found in, after their number."""

SAMPLE = 1 << 20  # pixels that are looked at
ENDS = (0.01, 0.99)


def percentiles(pixels: np.ndarray) -> tuple[int, int, int]:
    """1st, 50th and 99th percentile of shown values (height, width) uint16, of at most about a million of them.

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


NOISE = 0.6
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
