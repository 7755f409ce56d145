"""Private gradient descent on two linear heads, in numpy: each unit's gradient is bounded, noise goes on the sum.

One step on a Poisson sample S of the units (patients by default):

    W <- W - rate * [ sum_{p in S} g_p min(1, C/|g_p|) + N(0, (multiplier C)^2) ] / (q n),

g_p = the sum of the gradients of p's pairs, both heads taken as one vector. Adding or removing one unit moves the sum
by at most C, whatever the others are. q n is the expected size of S, a constant: the number that was drawn is not used,
and an empty sample is a step like any other. (Abadi et al. 2016, algorithm 1, with Poisson samples and the unit's sum.)

Nothing of size pairs x weights is ever made: for a linear head the gradient of pair i is d_i x_i^T, so
|g_p|^2 = sum_{i,j of p} (d_i.d_j)(x_i.x_j), summed over both heads ("ghost norms": Goodfellow 2015, Lee and Kifer
2021). The number n and the configuration are taken as public; n may be a declared one (Recipe.n_units).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear
from linkage_core.mitigation.noise import Source
from linkage_core.mitigation.objectives import Objective
from linkage_core.progress import Progress, silent

UNITS = ("patient", "pair")
_BELOW = 1 - 1e-9
"""A clipped unit stays this far within C, so that rounding cannot carry it over."""
_LARGE = 64  # pairs of one unit beyond which its gradient is written out instead of its Gram matrices


class Towers(NamedTuple):
    """Weights, gradients or noise of both heads: image (e, d+1), text (e, t+1) float64; the last column is the bias."""

    image: np.ndarray
    text: np.ndarray

    @property
    def norm(self) -> float:
        return float(np.sqrt(np.sum(self.image**2) + np.sum(self.text**2)))

    def plus(self, other: Towers, times: float = 1.0) -> Towers:
        return Towers(self.image + times * other.image, self.text + times * other.text)

    @classmethod
    def of(cls, heads: Heads) -> Towers:
        return cls(*(np.column_stack([h.weight, h.bias]).astype(np.float64) for h in (heads.image, heads.text)))

    def heads(self) -> Heads:
        """As float32 heads: weight all columns but the last, bias the last."""
        image, text = (
            Linear(np.ascontiguousarray(m[:, :-1], dtype=np.float32), m[:, -1].astype(np.float32)) for m in self
        )
        return Heads(image, text)


@dataclass(frozen=True)
class Pairs:
    """Features of aligned pairs with the unit each belongs to, sorted by unit.

    images (n, d), texts (n, t); unit (n,) codes 0 .. n_units-1, ascending; order (n,) the row of each in what came.
    `constant` is the feature that biases multiply: 1, or 0 for heads without a bias.
    """

    images: np.ndarray
    texts: np.ndarray
    unit: np.ndarray
    n_units: int
    order: np.ndarray
    constant: float = 1.0

    @classmethod
    def of(cls, images: np.ndarray, texts: np.ndarray, units: np.ndarray, constant: float = 1.0) -> Pairs:
        """images (n, d), texts (n, t) of any float type, units (n,) labels of any kind.

        Raises InputError for other lengths, for none, and for values that are not finite.
        """
        if not len(images) == len(texts) == len(units) or not len(images):
            raise InputError(
                f"There are {len(images)} images, {len(texts)} texts and {len(units)} units.", "Give aligned pairs."
            )
        for name, array in (("image", images), ("text", texts)):
            if not np.isfinite(array).all():
                raise InputError(f"The {name} features hold NaN or infinity.", "Leave these pairs out.")
        names, codes = np.unique(units, return_inverse=True)
        order = np.argsort(codes, kind="stable")
        return cls(images[order], texts[order], codes[order], len(names), order, constant)

    def of_units(self, chosen: np.ndarray) -> np.ndarray:
        """Rows (ascending) of the units whose entry in `chosen` (n_units,) is true."""
        return np.flatnonzero(chosen[self.unit])

    def features(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(images (m, d+1), texts (m, t+1)) float64 of rows, the constant in the last column."""
        x = np.full((len(rows), self.images.shape[1] + 1), self.constant)
        t = np.full((len(rows), self.texts.shape[1] + 1), self.constant)
        x[:, :-1], t[:, :-1] = self.images[rows], self.texts[rows]
        return x, t


@dataclass(frozen=True)
class Recipe:
    """How a run goes; everything here is public. multiplier: noise over clip. rate: see the module."""

    clip: float
    q: float
    steps: int
    rate: float
    multiplier: float
    momentum: float = 0.0
    average: float = 0.5  # the share of last steps whose mean is the result: noise averages out
    unit: str = "patient"
    n_units: int | None = None  # the public number of units; None: as many as there are


class ClosedForm:
    """Clipped sums from ghost norms. The pieces of a private step, each to be tested and replaced by itself."""

    name = "closed-form"

    def sample(self, n_units: int, q: float, source: Source) -> np.ndarray:
        """(n_units,) bool: every unit is in with probability q, independently of all others (Poisson)."""
        return source.uniform(n_units) < q

    def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
        """Sum over the units of `rows` of their gradients at `at`, each scaled to norm at most `clip`."""
        x, t = pairs.features(rows)
        dz, du = objective.gradients(x @ at.image.T, t @ at.text.T, rows)
        codes = np.unique(pairs.unit[rows], return_inverse=True)[1] if len(rows) else rows
        share = self.shares(unit_norms([(dz, x), (du, t)], codes), clip)[codes, None]
        return Towers((share * dz).T @ x, (share * du).T @ t)

    def shares(self, norms: np.ndarray, clip: float) -> np.ndarray:
        """What each unit's gradient is multiplied with: min(1, clip / norm)."""
        return np.minimum(1.0, clip * _BELOW / np.maximum(norms, 1e-300))

    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        """The sum with independent Gaussian noise of `deviation` on every entry of both heads."""
        if deviation == 0:
            return total
        return total.plus(Towers(source.normal(total.image.shape), source.normal(total.text.shape)), deviation)


def unit_norms(factors: list[tuple[np.ndarray, np.ndarray]], codes: np.ndarray) -> np.ndarray:
    """Frobenius norm of sum_{i of unit} d_i x_i^T, all factor pairs taken as one vector, for each unit.

    factors: (D (n, a), X (n, b)) each; codes (n,) ascending unit of each row, 0 .. n_units-1 without gaps. Units of
    equal size are done together: two Gram matrices of size x size, multiplied entry by entry.
    """
    if not len(codes):
        return np.zeros(0)
    sizes = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    if sizes.max() == 1:
        return np.sqrt(sum(_squares(d) * _squares(x) for d, x in factors))
    squared = np.zeros(len(sizes))
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        rows = starts[which][:, None] + np.arange(size)
        for d, x in factors:
            if size == 1:
                squared[which] += _squares(d[rows[:, 0]]) * _squares(x[rows[:, 0]])
            elif size <= _LARGE:
                a, b = d[rows], x[rows]  # (units, size, a), (units, size, b)
                squared[which] += np.einsum("uij,uij->u", a @ a.transpose(0, 2, 1), b @ b.transpose(0, 2, 1))
            else:
                squared[which] += [np.sum((d[one].T @ x[one]) ** 2) for one in rows]
    return np.sqrt(np.maximum(squared, 0.0))


def train(
    start: Towers,
    pairs: Pairs,
    objective: Objective,
    recipe: Recipe,
    source: Source,
    engine: ClosedForm | None = None,
    progress: Progress = silent,
) -> Towers:
    """The heads after recipe.steps private steps: the mean of the last ones.

    What follows a noisy sum (momentum, averaging) is post-processing and costs nothing. An exception raised by
    `progress` stops the run; nothing of it is kept.
    """
    engine = engine or ClosedForm()
    at, velocity = start, Towers(np.zeros_like(start.image), np.zeros_like(start.text))
    expected = recipe.q * (recipe.n_units or pairs.n_units)
    first = recipe.steps - max(1, round(recipe.average * recipe.steps))
    mean = velocity
    for step in range(recipe.steps):
        rows = pairs.of_units(engine.sample(pairs.n_units, recipe.q, source))
        total = engine.clipped_sum(objective, at, pairs, rows, recipe.clip)
        noisy = engine.noised(total, recipe.multiplier * recipe.clip, source)
        velocity = Towers(recipe.momentum * velocity.image, recipe.momentum * velocity.text).plus(noisy, 1 / expected)
        at = at.plus(velocity, -recipe.rate)
        if step >= first:
            mean = mean.plus(at, 1 / (recipe.steps - first))
        progress("private steps", step + 1, recipe.steps)
    return mean


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", rows, rows)
