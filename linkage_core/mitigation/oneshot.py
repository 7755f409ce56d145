"""One noisy sum, heads in closed form: any epsilon in milliseconds, once the clipped sums are there.

Features are scaled to unit rows (x, t), so no constant of the model has to be known; a cosine does not see the scale.

`label-oneshot`: a pair gives x y^T, t y^T, x x^T and t t^T, y its declared findings (1 present, 0 absent or left out),
clipped to norm 2. Heads: ridge regression of the findings on the features, one for each tower.
`moment-oneshot`: a pair gives x t^T, x x^T and t t^T. Heads: the leading canonical directions of images and reports.

All blocks of a unit's pairs are summed and clipped as one vector of norm C. Adding or removing a unit moves the sum of
all units by at most C, so one draw of N(0, (multiplier C)^2) on every entry is the Gaussian mechanism at sensitivity C;
what follows is post-processing. (Clipping each pair's factors to c_x and c_y alone would give C = c_x c_y a pair.) The
number n of units is taken as public: exact, or a declared one (Training.public_size).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear
from linkage_core.mitigation import accounting
from linkage_core.mitigation.engine import Pairs, unit_norms
from linkage_core.mitigation.noise import Source, System
from linkage_core.mitigation.objectives import targets
from linkage_core.store.files import read_tensors, write_tensors

LABEL, MOMENT = "label-oneshot", "moment-oneshot"
_CODE = 2.0  # norm of a pair's findings
_FLOOR = 1e-4  # ridge without noise, as a share of the units
_EDGE = 1.25
_BELOW = 1 - 1e-9


@dataclass(frozen=True)
class Prepared:
    """Clipped sums of one set of training pairs, not yet private: they stay where the pairs are, or are synthetic.

    sums: for label-oneshot image_label (d, K), text_label (t, K); for moment-oneshot image_text (d, t); for both
    image_image (d, d) and text_text (t, t). clip: how far one unit moves all of them together. n_units: the public
    number of units. `about` says what they were made from and stays with them.
    """

    mechanism: str
    sums: dict[str, np.ndarray]
    clip: float
    unit: str
    n_units: int
    findings: tuple[str, ...]
    about: dict[str, Any]

    def run(self, epsilon: float, delta: float) -> accounting.Run:
        """What is done to the units at this epsilon: one query, analytic Gaussian. Infinity: no noise, not private."""
        multiplier = accounting.gaussian_sigma(epsilon, delta)
        return accounting.Run(multiplier, 1.0, 1, self.clip, self.unit, delta, accountant=accounting.GAUSSIAN)

    def heads(self, epsilon: float, delta: float, source: Source | None = None, width: int | None = None) -> Heads:
        """Heads at any epsilon, from fresh noise. Each call is one more release of the same units.

        `width`: dimensions of moment-oneshot's embedding, by default as many as the smaller tower has features.
        """
        deviation = self.run(epsilon, delta).multiplier * self.clip
        return closed_form(self, noised(self.sums, deviation, source or System()), deviation, width)

    def without_signal(self) -> Prepared:
        """The same with every sum zero: what the noise alone does."""
        return replace(self, sums={name: np.zeros_like(block) for name, block in self.sums.items()})

    def write(self, path: Path) -> None:
        """As one safetensors file, float64. Clean sums: no private release."""
        note = {
            "mechanism": self.mechanism,
            "clip": self.clip,
            "unit": self.unit,
            "n_units": self.n_units,
            "findings": list(self.findings),
            "about": self.about,
        }
        write_tensors(path, self.sums, note)

    @classmethod
    def read(cls, path: Path) -> Prepared:
        sums, note = read_tensors(path)
        if note.get("mechanism") not in FORMS:
            raise InputError(f"{path} holds no clipped sums.", "Prepare them with `linkage finetune`.")
        return cls(sums=sums, **{**note, "findings": tuple(note["findings"])})


def prepare(
    mechanism: str,
    images: np.ndarray,
    texts: np.ndarray,
    units: np.ndarray,
    labels: np.ndarray | None = None,
    findings: Sequence[str] = (),
    *,
    unit: str = "patient",
    n_units: int | None = None,
    about: dict[str, Any] | None = None,
) -> Prepared:
    """Clipped sums of aligned pairs: images (n, d), texts (n, t), units (n,), labels (n, 14) for label-oneshot.

    n_units: a public number of units; None: as many as there are. Raises InputError for rows that do not fit, features
    that are not finite, and as objectives.targets.
    """
    form = form_of(mechanism)
    pairs = Pairs.of(images, texts, units)
    codes = None
    if form.labels:
        if labels is None or len(labels) != len(images):
            raise InputError(f"{mechanism} got no labels for {len(images)} pairs.", "Give one row of 14 a pair.")
        codes = clipped_codes(targets(labels, findings)[pairs.order])
    x, t = unit_rows(pairs.images), unit_rows(pairs.texts)
    sums = clipped_sums(blocks(x, t, codes), pairs.unit, form.clip)
    return Prepared(mechanism, sums, form.clip, unit, n_units or pairs.n_units, tuple(findings), about or {})


def blocks(x: np.ndarray, t: np.ndarray, codes: np.ndarray | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The factors (n, a), (n, b) of each block of a pair's outer products."""
    crossed = {"image_text": (x, t)} if codes is None else {"image_label": (x, codes), "text_label": (t, codes)}
    return {**crossed, "image_image": (x, x), "text_text": (t, t)}


def clipped_sums(
    factors: dict[str, tuple[np.ndarray, np.ndarray]], codes: np.ndarray, clip: float
) -> dict[str, np.ndarray]:
    """Sum over units of their summed outer products, all blocks of a unit clipped as one vector to norm `clip`."""
    norms = unit_norms(list(factors.values()), codes)
    share = np.minimum(1.0, clip * _BELOW / np.maximum(norms, 1e-300))[codes, None]
    return {name: (share * a).T @ b for name, (a, b) in factors.items()}


def noised(sums: dict[str, np.ndarray], deviation: float, source: Source) -> dict[str, np.ndarray]:
    """Independent Gaussian noise of `deviation` on every entry of every block, drawn in the order of their names."""
    if deviation == 0:
        return sums
    return {name: sums[name] + deviation * source.normal(sums[name].shape) for name in sorted(sums)}


def closed_form(prepared: Prepared, sums: dict[str, np.ndarray], deviation: float, width: int | None = None) -> Heads:
    """Heads from sums whose entries carry noise of `deviation`.

    Second moments are made symmetric, and get a ridge of 1.25 deviation sqrt(2 d): a quarter more than the spectral
    norm of the noise that is left in a d x d block (the edge of the semicircle law).
    """
    moments = {tower: _regular(sums[f"{tower}_{tower}"], deviation, prepared.n_units) for tower in ("image", "text")}
    return _heads(form_of(prepared.mechanism).weights(sums, moments, width))


def _regression(
    sums: dict[str, np.ndarray], moments: dict[str, np.ndarray], width: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of the findings on the features of each tower."""
    image, text = (np.linalg.solve(moments[tower], sums[f"{tower}_label"]).T for tower in ("image", "text"))
    return image, text


def _directions(
    sums: dict[str, np.ndarray], moments: dict[str, np.ndarray], width: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The `width` leading canonical directions of images and reports, each tower's by the root of its strength."""
    roots = [_inverse_root(moments[tower]) for tower in ("image", "text")]
    left, strength, right = np.linalg.svd(roots[0] @ sums["image_text"] @ roots[1], full_matrices=False)
    kept = slice(0, width or len(strength))
    scale = np.sqrt(strength[kept])[:, None]
    return scale * (left.T[kept] @ roots[0]), scale * (right[kept] @ roots[1])


@dataclass(frozen=True)
class Form:
    """What tells one one-shot mechanism from another.

    clip: the norm of one pair's blocks at most, and of a unit's. labels: whether the blocks are of the findings, or of
    images with reports. weights: (noised sums, regular second moments of each tower, width or None for all) -> weights
    of the image and the text head, a row a dimension.
    """

    clip: float
    labels: bool
    weights: Callable[[dict[str, np.ndarray], dict[str, np.ndarray], int | None], tuple[np.ndarray, np.ndarray]]


FORMS = {
    LABEL: Form(2 * math.sqrt(2), labels=True, weights=_regression),
    MOMENT: Form(math.sqrt(3), labels=False, weights=_directions),
}


def form_of(mechanism: str) -> Form:
    """InputError for a mechanism that is trained, or makes nothing of sums."""
    if mechanism not in FORMS:
        raise InputError(f"{mechanism!r} is no one-shot mechanism.", f"They are: {', '.join(FORMS)}.")
    return FORMS[mechanism]


def clipped_codes(findings: np.ndarray) -> np.ndarray:
    """(n, K) targets, NaN for left out -> codes of norm at most 2."""
    codes = np.nan_to_num(findings, nan=0.0)
    norms = np.linalg.norm(codes, axis=1, keepdims=True)
    return codes * np.minimum(1.0, _CODE / np.maximum(norms, 1e-300))


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1, float64; a zero row stays zero. Each row by itself."""
    rows = features.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)


def _regular(moment: np.ndarray, deviation: float, n_units: int) -> np.ndarray:
    ridge = _EDGE * deviation * math.sqrt(2 * len(moment)) + _FLOOR * n_units
    return (moment + moment.T) / 2 + ridge * np.eye(len(moment))


def _inverse_root(moment: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(moment)
    least = max(values[-1], 0.0) * 1e-9 + 1e-300
    return (vectors / np.sqrt(np.maximum(values, least))) @ vectors.T


def _heads(weights: Sequence[np.ndarray]) -> Heads:
    image, text = (
        Linear(np.ascontiguousarray(w, dtype=np.float32), np.zeros(len(w), dtype=np.float32)) for w in weights
    )
    return Heads(image, text)
