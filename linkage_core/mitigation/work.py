"""What one finetuning is asked to do, as the function of a mechanism gets it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.mitigation.engine import Pairs
from linkage_core.mitigation.noise import Source
from linkage_core.mitigation.training import Training
from linkage_core.progress import Progress
from linkage_core.store.entry import Entry

ENGINES = ("closed-form", "opacus")
OUTPUT_NOISE = 0.1


@dataclass(frozen=True)
class Options:
    """How to finetune; everything here is public. None takes the mechanism's default.

    delta: see accounting.delta_for. public_size: the number of units that is declared public, from which delta, q and
    the size of steps follow; see Training.public_size. like: what a noise-only or nonprivate control follows. public:
    cohort of the same model whose pairs are public (bank of public-negatives, labels of public-labels). seed: of a
    reproducible run, which is not private. width: dimensions kept by truncate and moment-oneshot. output_noise:
    deviation in each coordinate.
    """

    epsilon: float = math.inf
    delta: float | None = None
    allow_large_delta: bool = False
    public_size: int | None = None
    unit: str = "patient"
    findings: tuple[str, ...] = LABELS
    engine: str = ENGINES[0]
    like: str | None = None
    public: str | None = None
    seed: int | None = None
    q: float | None = None
    steps: int | None = None
    clip: float | None = None
    rate: float | None = None
    width: int | None = None
    output_noise: float = OUTPUT_NOISE


@dataclass(frozen=True)
class Work:
    """One training, step by step: the pairs, and the noise to draw.

    entry: whose heads are finetuned. delta, n_units: as settled, whatever the options say; n_units is the public number
    of units. signal: whether gradients count; else every one is zero, and the noise is left.
    """

    entry: Entry
    training: Training
    options: Options
    delta: float
    n_units: int
    source: Source
    progress: Progress
    signal: bool

    def pairs(self, images: np.ndarray, texts: np.ndarray, constant: float) -> Pairs:
        return Pairs.of(images, texts, self.training.units(self.options.unit), constant)
