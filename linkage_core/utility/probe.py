"""The linear reader of embeddings, and which rows count as having a finding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.validate import one_of

MISSING = ("negative", "left out")

_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_FOLDS = 3
_CV_ROWS = 6000


@dataclass(frozen=True)
class Probe:
    """One logistic regression a label: score = (embedding - mean) . weights, an intercept changing no ranking.

    weights (e, n_labels), zero where `trained` is False; penalty (n_labels,) as chosen by cross-validation.
    """

    mean: np.ndarray
    weights: np.ndarray
    penalty: np.ndarray
    trained: np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, e) -> (n, n_labels)."""
        return np.asarray((embeddings - self.mean) @ self.weights)


def train_probe(embeddings: np.ndarray, states: np.ndarray, patients: np.ndarray, seed: int = 0) -> Probe:
    """Can a linear reader tell each finding? Logistic regression with an L2 penalty, by Newton's method.

    embeddings (n, e); states (n, n_labels) 1, 0, NaN left out; patients (n,). The penalty of each label is the one with
    the least log-loss in three left-out folds of patients. All dimensions share one scale, so a rotation of the
    embeddings changes nothing. A label with fewer than 10 rows of a class, or one patient, is not trained.
    """
    mean = embeddings.astype(np.float64).mean(axis=0)
    centred = embeddings - mean
    scale = max(float(np.sqrt((centred**2).mean())), 1e-12)
    x = np.column_stack([centred / scale, np.ones(len(centred))])
    code = np.unique(patients, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(int(code.max()) + 1) % _FOLDS)[code]
    order = rng.permutation(len(x))
    n_labels = states.shape[1]
    weights, penalty, trained = (
        np.zeros((x.shape[1] - 1, n_labels)),
        np.full(n_labels, np.nan),
        np.zeros(n_labels, bool),
    )
    for label in range(n_labels):
        rows = order[~np.isnan(states[order, label])]
        y = states[rows, label]
        if min((y == 1).sum(), (y == 0).sum()) < 10:
            continue
        some = rows[:_CV_ROWS]
        penalty[label] = _penalty(x[some], states[some, label], fold[some])
        weights[:, label] = _logistic(x[rows], y, penalty[label])[:-1] / scale
        trained[label] = True
    return Probe(mean, weights, penalty, trained)


def _penalty(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    loss = np.zeros(len(_PENALTIES))
    for one in range(_FOLDS):
        learn, left_out = fold != one, fold == one
        if not (0 < y[learn].mean() < 1 and left_out.any()):
            continue
        start = None
        for i in range(len(_PENALTIES) - 1, -1, -1):  # from the smoothest on, each from the one before
            start = _logistic(x[learn], y[learn], _PENALTIES[i], start)
            loss[i] += np.logaddexp(0, -(2 * y[left_out] - 1) * (x[left_out] @ start)).sum()
    return _PENALTIES[int(np.argmin(loss))]


def _logistic(x: np.ndarray, y: np.ndarray, penalty: float, start: np.ndarray | None = None) -> np.ndarray:
    """Weights (d,) of the least mean log-loss + penalty |w|^2 / 2; the last column of x is ones and goes free."""
    shrink = np.append(np.full(x.shape[1] - 1, penalty), 1e-9)
    w = np.zeros(x.shape[1]) if start is None else start.copy()
    if start is None:
        w[-1] = np.log(y.mean() / (1 - y.mean()))

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - y * z).mean() + (shrink * w**2).sum() / 2)

    now = loss(w)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        gradient = x.T @ (p - y) / len(y) + shrink * w
        hessian = (x * (p * (1 - p) / len(y))[:, None]).T @ x + np.diag(shrink + 1e-10)
        step = np.linalg.solve(hessian, gradient)
        decrease = float(gradient @ step)
        size = 1.0
        while (then := loss(w - size * step)) > now - 1e-4 * size * decrease and size > 1e-6:
            size /= 2
        w, now = w - size * step, then
        if decrease < 1e-8:
            break
    return w


def states_of(records: pd.DataFrame, missing: str = "negative") -> np.ndarray:
    """(n, 14) 1 positive, 0 negative, NaN left out, from the four-valued labels.

    Uncertain (-1) is left out. A label that the report does not mention counts as negative, as most published probes
    have it (a reader names what is there); with `missing` "left out" only stated negatives are negatives.
    """
    one_of("missing", missing, MISSING)
    labels = records[list(LABELS)].to_numpy(float)
    known = ~np.isnan(labels).all(axis=1)
    if not known.any():
        raise InputError(
            "No record has any of the 14 labels, so there is nothing to read.",
            f"Give label columns ({LABELS[0]}, ... {LABELS[-1]}), or have them read from English reports: "
            "--labels from-text of embed and import.",
        )
    states = np.where(labels == -1, np.nan, labels)
    if missing == "negative":
        states[np.isnan(labels) & known[:, None]] = 0.0  # a record without any label says nothing
    return np.asarray(states)
