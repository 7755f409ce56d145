"""Attackers who turn a released embedding back: through the known heads, or by own images under both heads."""

from __future__ import annotations

import numpy as np

from linkage_core.attacks.folds import RIDGES, own_splits, ridge_solution
from linkage_core.attacks.held import Held
from linkage_core.attacks.scored import Scored
from linkage_core.errors import InputError
from linkage_core.heads import unit


def _shelf_texts(held: Held) -> np.ndarray:
    return unit(held.off_the_shelf.text(held.texts)).astype(np.float64)


def _shelf_images(held: Held) -> np.ndarray:
    """(n_own, e) off-the-shelf embeddings of the attacker's own images."""
    return unit(held.off_the_shelf.image(held.own_images)).astype(np.float64)


def white_box(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    """Undo the head: the features that most likely gave this embedding, then off-the-shelf.

    With z = W x + b and x of mean mu and covariance S (the attacker's own images), the linear estimate of least error
    is x = mu + S W'(W S W' + l I)^-1 (z - W mu - b); without noise and for l -> 0 the pseudo-inverse weighted by S.
    The norm of z was divided away: its mean over own images stands in for it. l is chosen by the cosine between the
    recovered and the true off-the-shelf embeddings of own images in left-out folds.
    """
    everything = np.arange(len(held.own_group))
    target = _shelf_images(held)
    weight, bias = held.heads.image.weight.astype(np.float64), held.heads.image.bias.astype(np.float64)
    public = held.off_the_shelf.image

    def undo(rows: np.ndarray, ridge: float, released: np.ndarray) -> np.ndarray:
        x = held.own_images[rows].astype(np.float64)
        mean, covariance = x.mean(axis=0), np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], -1)
        z = x @ weight.T + bias
        scale = float(np.linalg.norm(z, axis=1).mean())
        seen = weight @ covariance @ weight.T
        level = ridge * max(np.trace(seen) / len(seen), 1e-30) + (scale * held.noise) ** 2
        gain = np.linalg.lstsq(seen + level * np.eye(len(seen)), weight @ covariance, rcond=None)[0]
        x_hat = mean + (scale * released.astype(np.float64) - weight @ mean - bias) @ gain
        return np.asarray(x_hat @ public.weight.astype(np.float64).T + public.bias)

    ridges = (1e-8, 1e-6, *RIDGES)
    error = np.zeros(len(ridges))
    for _, left_out, learnt in own_splits(held, everything, seed):
        if len(learnt) < 2:
            continue
        for i, ridge in enumerate(ridges):
            error[i] -= _cosines(undo(learnt, ridge, held.own_released[left_out]), target[left_out]).sum()
    ridge = ridges[int(np.argmin(error))]
    return Scored(undo(everything, ridge, held.released), _shelf_texts(held), f"ridge {ridge:g}")


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.maximum(norms, 1e-30))


def known_images(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    """Turn the released embeddings back: learn released -> off-the-shelf from m own images.

    As it is; a rotation with a scale (orthogonal Procrustes, Schonemann 1966); or ridge regression, which shrinks
    towards the mean, towards "as it is" or towards the rotation. The one with the least squared error in left-out folds
    of own patients is taken.
    """
    target = _shelf_images(held)
    released = held.own_released.astype(np.float64)
    same_size = released.shape[1] == target.shape[1]
    starts = ("as it is", "rotation", "mean") if same_size else ("rotation", "mean")
    variants = [(start, ridge) for start in starts for ridge in (None, *RIDGES) if (start, ridge) != ("mean", None)]
    if not len(known):
        if not same_size:
            raise InputError(
                f"Released embeddings have {released.shape[1]} dimensions, off-the-shelf ones {target.shape[1]}.",
                "Without a known image (m = 0) they cannot be compared.",
            )
        return Scored(held.released.astype(np.float64), _shelf_texts(held), "as it is")
    error = np.zeros(len(variants))
    for learn, left_out, _ in own_splits(held, known, seed):
        for i, variant in enumerate(variants):
            turned = _turned(released[learn], target[learn], *variant, released[left_out])
            error[i] += ((turned - target[left_out]) ** 2).sum()
    start, ridge = variants[int(np.argmin(error))]
    queries = _turned(released[known], target[known], start, ridge, held.released.astype(np.float64))
    return Scored(queries, _shelf_texts(held), start if ridge is None else f"ridge {ridge:g} from {start}")


def _turned(r: np.ndarray, o: np.ndarray, start: str, ridge: float | None, new: np.ndarray) -> np.ndarray:
    """`new` released embeddings in the off-the-shelf space, learnt from pairs r (m, e) and o (m, e0)."""
    if start == "as it is" and ridge is None:
        return new
    if not len(r):
        return np.zeros((len(new), o.shape[1])) if start != "as it is" else new
    r_mean, o_mean = r.mean(axis=0), o.mean(axis=0)
    rc, oc = r - r_mean, o - o_mean
    turn = np.zeros((r.shape[1], o.shape[1]))
    if start == "as it is":
        turn = np.eye(len(turn))
    elif start == "rotation":
        left, values, right = np.linalg.svd(rc.T @ oc, full_matrices=False)
        turn = (left @ right) * (values.sum() / max((rc**2).sum(), 1e-30))
    if ridge is not None:
        turn = turn + ridge_solution(rc.T @ rc, rc.T @ (oc - rc @ turn), ridge)
    return np.asarray(o_mean + (new - r_mean) @ turn)
