"""What a kind of release does to one record, as attackers see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mechanism:
    """How an embedding becomes a released record, as everybody may know it.

    vectors: (unit rows (n, e), rng) -> (n, e) what a recipient computes with, unbiased where it can be; rng stands for
    the keyed noise. noise: standard deviation of a coordinate of it. cells: unit rows -> cell of each, for a release
    that is one of n_cells values; -1 is suppressed, and its vector is zero, which ranks nothing. What is suppressed
    may depend on which rows are given: the rows are those of one release.
    """

    vectors: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    noise: float = 0.0
    cells: Callable[[np.ndarray], np.ndarray] | None = None
    n_cells: int = 0
