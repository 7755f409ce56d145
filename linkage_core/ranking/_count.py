"""The inner loop of exact ranking: count a tile of scores against the match's score while the tile is in cache.

It is compiled (numba) and releases the interpreter, so that several blocks of queries run at once. Where numba cannot
be imported or cannot compile, the same counts come from numpy, slower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from linkage_core.ranking import kernels


def count_tile_numpy(
    product: np.ndarray, scores: np.ndarray, multiplicity: np.ndarray, better: np.ndarray, tied: np.ndarray
) -> None:
    """Add to `better` and `tied` (n_rows,) the columns of `product` (n_rows, n_columns) above and equal to `scores`."""
    column = scores[:, None]
    if (multiplicity == 1).all():
        better += np.count_nonzero(product > column, axis=1)
        tied += np.count_nonzero(product == column, axis=1)
    else:
        weights = multiplicity.astype(np.float64)  # exact below 2**53
        better += ((product > column) @ weights).astype(np.int64)
        tied += ((product == column) @ weights).astype(np.int64)


def _kernel(product, scores, multiplicity, better, tied):  # type: ignore[no-untyped-def]
    for i in range(product.shape[0]):
        score = scores[i]
        above = np.uint32(0)  # cast after each step: 64 bit sums would halve the lanes
        equal = np.uint32(0)
        for j in range(product.shape[1]):
            s = product[i, j]
            above = np.uint32(above + (np.uint32(multiplicity[j]) if s > score else np.uint32(0)))
            equal = np.uint32(equal + (np.uint32(multiplicity[j]) if s == score else np.uint32(0)))
        better[i] += above
        tied[i] += equal


@lru_cache(maxsize=4)
def compiled(precision: str) -> Callable[..., None] | None:
    """The compiled loop for "float32" or "float64" scores, or None where this machine cannot compile it."""
    p = precision
    return kernels.compiled(_kernel, f"void({p}[:, ::1], {p}[::1], int32[::1], int64[::1], int64[::1])")


def count_tile(
    product: np.ndarray, scores: np.ndarray, multiplicity: np.ndarray, better: np.ndarray, tied: np.ndarray
) -> None:
    """As count_tile_numpy, compiled at first use where that is possible."""
    (compiled(str(product.dtype)) or count_tile_numpy)(product, scores, multiplicity, better, tied)
