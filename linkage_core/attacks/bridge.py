"""A bridge between two public encoders that were never trained together.

Whoever has radiographs and wants their reports needs no vision-language model: any public image encoder x and any
public text encoder y will do, here one that was trained on photographs and one on sentences of every kind. From m own
pairs the attacker learns by ridge regression what y of the report is, given x of the image,

    y - mean(y) = (x - mean(x)) A,    A = argmin ||Y - X A||^2 + lambda ||A||^2,

each x in units of its deviation, y of norm 1, and the score of a report is the cosine of its y, centred, with the
prediction. lambda is chosen on left-out own patients, up to where more of it changes nothing: x has far more dimensions
than there are pairs. Nobody's paired model takes part, so no mitigation of one touches this attacker, and
anybody with own pairs can be it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from linkage_core.attacks.folds import own_splits
from linkage_core.attacks.held import Held
from linkage_core.attacks.learn_pairs import Scaled, at_home_rows
from linkage_core.attacks.scored import Scored
from linkage_core.errors import InputError

RIDGES = (1e-1, 1.0, 1e1, 1e2, 1e3, 1e4)

Predict = Callable[[np.ndarray, float], np.ndarray]
"""(rows (n, p), ridge) -> what belongs to them (n, q)."""


def bridge(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    """InputError where the cohort was not embedded by such encoders."""
    other = held.unpaired
    if other is None:
        raise InputError(
            "The attacker 'bridge' needs features of two encoders that were never trained together.",
            "Run `linkage embed` for this cohort once more, with --model efficientnet-lite0-minilm.",
        )
    images, texts = Scaled(_rows(other.own("image", other.own_images))), _directions(other.own("text", other.own_texts))
    mean = texts.mean(axis=0)
    x, y = images.own, texts - mean
    ridge, how = _chosen(held, known, x, y, seed)
    asked = images.scaled(_rows(other.asked("image", other.images)))
    reports = _directions(_directions(other.asked("text", other.texts)) - mean)
    said = f"{other.model}: ridge from image to report, {ridge:g} ({how})"
    return Scored(fitted(x[known], y[known])(asked, ridge), reports, said)


def _chosen(held: Held, known: np.ndarray, x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, str]:
    """The ridge that ranks the reports of left-out own patients before most others, and in words how it was chosen.

    By the share of other reports that each beats and not by hits: with a hundred pairs hits are too few to choose by.
    """
    worth = dict.fromkeys(RIDGES, 0.0)
    for learn, left_out, _ in own_splits(held, known, seed):
        if len(learn) < 2:
            continue
        rows, candidates = at_home_rows(held, left_out, seed)
        home, reports, predict = held.at_home(rows, candidates), _directions(y[candidates]), fitted(x[learn], y[learn])
        for ridge in RIDGES:
            counts = home.count(predict(x[rows], ridge), reports)
            beaten = 1 - (counts.n_better + counts.n_tied / 2) / np.maximum(counts.n_eligible, 1)
            worth[ridge] += float(beaten.sum())
    if not any(worth.values()):
        return 1.0, "too few own pairs to choose"
    return max(worth, key=lambda ridge: worth[ridge]), f"best of {len(RIDGES)} at home"


def fitted(x: np.ndarray, y: np.ndarray) -> Predict:
    """Ridge regression x (m, p) -> y (m, q), for every ridge at once: in units of the mean of the diagonal of X'X.

    By the eigenvectors of XX' or X'X, whichever is smaller: X' (XX' + l)^-1 Y = (X'X + l)^-1 X'Y.
    """
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    xc, yc = x - x_mean, y - y_mean
    few = len(xc) < xc.shape[1]
    gram = xc @ xc.T if few else xc.T @ xc
    values, axes = np.linalg.eigh(gram)
    level = max(float(np.square(xc).sum()) / xc.shape[1], 1e-12)
    right = axes.T @ (yc if few else xc.T @ yc)
    left = xc.T @ axes if few else axes

    def predict(rows: np.ndarray, ridge: float) -> np.ndarray:
        weights = 1 / (values.clip(0) + ridge * level)
        return np.asarray(((rows - x_mean) @ left * weights) @ right + y_mean)

    return predict


def _rows(features: np.ndarray) -> np.ndarray:
    return features.astype(np.float64)


def _directions(rows: np.ndarray) -> np.ndarray:
    """Rows of norm 1, float64; a row of zeros stays one."""
    rows = _rows(rows)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
