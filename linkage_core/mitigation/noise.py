"""Where randomness comes from: the operating system for anything private, a stored seed for anything that must repeat.

What is left open. The guarantee is proved for real numbers; a computer's have gaps, and the gaps of a sampled value can
betray what it was added to (Mironov 2012, "On significance of the least significant bits"). Each draw here sums
four, which makes inverting the sampler impractical (Holohan and Braghin 2021, "Secure random sampling in differential
privacy", section 4), and sums are float64 while what is released is float32: hardening, not a proof. Running time is
not hidden either.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from scipy.special import ndtri

_TERMS = 4


class Source(Protocol):
    """Independent draws; no two calls share any."""

    seed: int | None

    def uniform(self, n: int) -> np.ndarray:
        """(n,) float64 in [0, 1)."""
        ...

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """float64 of mean 0 and deviation 1."""
        ...


class System:
    """Every bit from the operating system's generator, none kept. The only source of a private run.

    A generator seeded once from the system would not do: whoever knows all patients but one knows most of the noise,
    and the state of an ordinary generator can be worked out from it.
    """

    seed: int | None = None

    def uniform(self, n: int) -> np.ndarray:
        """53 random bits a draw, so P(uniform < q) is q to within 2^-53."""
        return (_words(n) >> 11) * 2.0**-53

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Inverse distribution function at the middle of one of 2^52 cells; four such draws, added and halved."""
        n = int(np.prod(shape))
        cells = ((_words(_TERMS * n) >> 12) + 0.5) * 2.0**-52
        return ndtri(cells).reshape(_TERMS, *shape).sum(axis=0) / np.sqrt(_TERMS)


class Seeded:
    """The same draws for the same seed: tests and `--reproducible` runs on synthetic data. Never private."""

    def __init__(self, seed: int) -> None:
        self.seed: int | None = seed
        self._rng = np.random.default_rng(seed)

    def uniform(self, n: int) -> np.ndarray:
        return self._rng.random(n)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._rng.standard_normal(shape)


def _words(n: int) -> np.ndarray:
    return np.frombuffer(os.urandom(8 * n), dtype=np.uint64)
