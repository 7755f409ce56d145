"""Branching vessels that taper from the hila to the periphery."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Canvas, Strokes


def tree(
    strokes: Strokes,
    canvas: Canvas,
    rng: np.random.Generator,
    *,
    origins: np.ndarray,
    headings: np.ndarray,
    lengths: np.ndarray,
    strength: float,
    children: tuple[int, int] = (4, 3),
) -> None:
    """Adds trunks that leave `origins` (n_trunks, 2) at `headings` (radians, 0 = +x, y down) and branch twice.

    The random draws depend on the number of trunks alone, so the same seed grows the same tree at every size.
    """
    n_trunks = len(headings)
    x0: np.ndarray = origins[:, 0] + rng.normal(0, 0.010, n_trunks)
    y0: np.ndarray = origins[:, 1] + 0.03 * np.sin(headings) + rng.normal(0, 0.014, n_trunks)
    heading, length = headings, lengths  # (n_curves,), more at every level
    width: np.ndarray = rng.uniform(0.0040, 0.0078, n_trunks)
    for level, n_children in enumerate((*children, 0)):
        x0, y0, heading, length, width = (part.astype(np.float32) for part in (x0, y0, heading, length, width))
        bend = rng.normal(0, 0.45, len(heading)).astype(np.float32)
        n_points = int(np.clip(float(length.max()) / canvas.pixel * 0.9, 6, 400))
        t = np.linspace(0, 1, n_points, dtype=np.float32)
        angle = heading[:, None] + bend[:, None] * (t - 0.2) + 0.10 * np.sin(9 * t + 40 * bend[:, None])
        step = (length / (n_points - 1))[:, None]
        x = x0[:, None] + np.cumsum(np.cos(angle), axis=1) * step
        y = y0[:, None] + np.cumsum(np.sin(angle), axis=1) * step
        sigma = width[:, None] * (1 - 0.72 * t) + 0.0006
        height = (
            strength
            * np.minimum(sigma / 0.006, 1.5) ** 0.75
            * (1 - 0.45 * t)
            * (1 if level else np.minimum(0.45 + 3 * t, 1))
        )
        strokes.curves(x, y, sigma, height)
        if not n_children:
            return
        where = np.sort(rng.uniform(0.16, 0.95, (len(heading), n_children)), axis=1)
        turn = rng.uniform(0.35, 0.95, where.shape) * np.where((np.arange(n_children) + level) % 2, 1, -1)
        at = np.clip((where * (n_points - 1)).round().astype(int), 0, n_points - 1)
        line = np.arange(len(heading))[:, None]
        child_length = length[:, None] * (0.30 + 0.42 * (1 - where)) * rng.uniform(0.7, 1.1, where.shape)
        # The start is taken from the curve itself rather than from a sample, which would move with the size.
        x0 = _between(x, where, n_points)
        y0 = _between(y, where, n_points)
        heading = (angle[line, at] + turn).ravel()
        width = (width[:, None] * (1 - 0.72 * where) * rng.uniform(0.62, 0.9, where.shape)).ravel()
        length = child_length.ravel()


def _between(curve: np.ndarray, where: np.ndarray, n_points: int) -> np.ndarray:
    position = where * (n_points - 1)
    low = np.clip(position.astype(int), 0, n_points - 2)
    line = np.arange(len(curve))[:, None]
    share = position - low
    return (curve[line, low] * (1 - share) + curve[line, low + 1] * share).ravel()
