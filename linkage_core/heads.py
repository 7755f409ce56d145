"""Heads: the last linear layer of each tower, in numpy. The only thing that is ever finetuned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from linkage_core.errors import InputError


@dataclass(frozen=True)
class Linear:
    """weight (e, d) and bias (e,) float32: features (n, d) -> (n, e)."""

    weight: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise InputError(
                f"A head has weight {self.weight.shape} and bias {self.bias.shape}.",
                "The weight is (embedding, features) and the bias (embedding,).",
            )

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """(n, d) features of any float type -> (n, e) float32, not normalised."""
        if features.ndim != 2 or features.shape[1] != self.weight.shape[1]:
            raise InputError(f"Features have shape {features.shape}.", f"This head takes (n, {self.weight.shape[1]}).")
        return features.astype(np.float32, copy=False) @ self.weight.T + self.bias


@dataclass(frozen=True)
class Heads:
    """One head per tower, with a common embedding dimension."""

    image: Linear
    text: Linear

    def __post_init__(self) -> None:
        if len(self.image.weight) != len(self.text.weight):
            raise InputError(
                f"The image head gives {len(self.image.weight)} dimensions, the text head {len(self.text.weight)}.",
                "Both towers must end in one space.",
            )


def identity(d: int) -> Linear:
    """A head that changes nothing, for embeddings that come without features."""
    return Linear(np.eye(d, dtype=np.float32), np.zeros(d, dtype=np.float32))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to norm 1, float32. A row of zeros or with NaN is an error that names the row.

    >>> unit(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]], dtype=float32)
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(bad):
        raise InputError(
            f"Row {bad[0]} is a zero vector or holds NaN or infinity ({len(bad)} such rows in all).",
            "Leave these rows out, or embed them again.",
        )
    return np.asarray(vectors / norms, dtype=np.float32)
