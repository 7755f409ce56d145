"""The inner loop of the open world: sort a tile of scores into bins between thresholds while the tile is in cache.

A score falls into one of CELLS equal cells, and a table gives the bin of each cell; so a bin costs one multiplication
and one look-up, however many thresholds there are. Thresholds are therefore cell edges: `Grid` moves each to the
smallest number that falls into its cell, so "in this bin or above" is exactly "score >= threshold".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from linkage_core.ranking import kernels

CELLS = 4096


@dataclass(frozen=True, eq=False)
class Grid:
    """Increasing thresholds, the first -infinity, and the table that finds them. Bin g holds t[g] <= score < t[g+1]."""

    low: np.floating
    scale: np.floating
    bin_of_cell: np.ndarray
    thresholds: np.ndarray

    @classmethod
    def near(cls, wanted: np.ndarray, low: float, high: float, precision: type[np.floating]) -> Grid:
        """The grid over low..high with a threshold at the cell of each wanted score. Equal low and high: one bin."""
        bottom = precision(low)
        with np.errstate(over="ignore", divide="ignore"):
            scale = precision(CELLS) / (precision(high) - bottom)
        scale = scale if np.isfinite(scale) else precision(0)
        cells = np.unique(_cell(np.asarray(wanted, dtype=precision), bottom, scale))
        cells = cells[cells > 0]
        edges = (bottom + cells.astype(precision) / scale if len(cells) else cells).astype(precision)
        edges = _settle(edges, lambda t: _cell(t, bottom, scale) < cells, np.inf)
        edges = _settle(edges, lambda t: _cell(np.nextafter(t, precision(-np.inf)), bottom, scale) >= cells, -np.inf)
        edges = np.unique(edges)
        starts = _cell(edges, bottom, scale)
        bin_of_cell = np.searchsorted(starts, np.arange(CELLS), side="right").astype(np.uint16)
        return cls(bottom, scale, bin_of_cell, np.concatenate([[precision(-np.inf)], edges]))

    def bins(self, scores: np.ndarray) -> np.ndarray:
        """The bin of each score, any shape."""
        return self.bin_of_cell[_cell(scores, self.low, self.scale)]


def _cell(scores: np.ndarray, low: np.floating, scale: np.floating) -> np.ndarray:
    return np.clip((scores - low) * scale, 0, CELLS - 1).astype(np.int32)


def _settle(edges: np.ndarray, wrong: Callable[[np.ndarray], np.ndarray], towards: float) -> np.ndarray:
    while (moving := wrong(edges)).any():
        edges = np.where(moving, np.nextafter(edges, edges.dtype.type(towards)), edges)
    return edges


def add_tile_numpy(product: np.ndarray, grid: Grid, multiplicity: np.ndarray, histogram: np.ndarray) -> None:
    """Add to `histogram` (n_rows, n_bins) int32 the columns of `product` (n_rows, n_columns), by bin."""
    n_rows, n_bins = histogram.shape
    for row in range(n_rows):
        counted = np.bincount(grid.bins(product[row]), weights=multiplicity, minlength=n_bins)
        histogram[row] += counted.astype(np.int32)


def _kernel(product, low, scale, top, bin_of_cell, multiplicity, histogram):  # type: ignore[no-untyped-def]
    n_bins = histogram.shape[1]
    n_columns = product.shape[1]
    cell = np.empty(n_columns, dtype=np.int32)
    for i in range(product.shape[0]):
        for j in range(n_columns):
            x = (product[i, j] - low) * scale
            cell[j] = np.int32(min(max(x, type(x)(0)), top))
        # neighbours often share a bin: four histograms in turn, so that no addition waits for the one before
        part = np.zeros((4, n_bins), dtype=np.int32)
        for j in range(n_columns):
            part[j & 3, bin_of_cell[cell[j]]] += multiplicity[j]
        for g in range(n_bins):
            histogram[i, g] += part[0, g] + part[1, g] + part[2, g] + part[3, g]


@lru_cache(maxsize=4)
def compiled(precision: str) -> Callable[..., None] | None:
    """The compiled loop for "float32" or "float64" scores, or None where this machine cannot compile it."""
    p = precision
    return kernels.compiled(_kernel, f"void({p}[:, ::1], {p}, {p}, {p}, uint16[::1], int32[::1], int32[:, ::1])")


def add_tile(product: np.ndarray, grid: Grid, multiplicity: np.ndarray, histogram: np.ndarray) -> None:
    """As add_tile_numpy, compiled at first use where that is possible."""
    kernel = compiled(str(product.dtype))
    if kernel is None:
        add_tile_numpy(product, grid, multiplicity, histogram)
    else:
        top = product.dtype.type(CELLS - 1)
        kernel(product, grid.low, grid.scale, top, grid.bin_of_cell, multiplicity, histogram)
