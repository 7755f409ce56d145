"""DICOM, PNG and JPEG -> pixels as they are meant to be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Radiograph:
    """One grey image, ready to be shown: dark is air.

    `pixels` (height, width) uint16, 0 black .. 65535 white, after modality LUT, VOI window and presentation;
    `bits` is the depth that the source really has (8 .. 16).
    """

    pixels: np.ndarray
    bits: int
