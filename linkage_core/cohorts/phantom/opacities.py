"""Patches, lesions and airways that look alike in every view."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Canvas, Grid, Strokes, ramp


def patch(canvas: Canvas, x: float, y: float, rx: float, ry: float, rng: np.random.Generator, rough: float) -> Grid:
    """An ill-defined patch with a ragged border: 0..1."""
    field = np.sqrt(canvas.ball(x, y, rx * rng.uniform(0.8, 1.25), ry, rng.uniform(-0.6, 0.6)))
    field += np.float32(rough) * (canvas.texture(rng, 14) * np.float32(0.6) + canvas.texture(rng, 34) * np.float32(0.4))
    return ramp(field, 1.25, 0.45)


def add_fill(fill: Grid, part: Grid) -> None:
    """Joins a further filling: what is already without air cannot lose it twice."""
    fill += (1 - fill) * part


def bronchograms(
    canvas: Canvas,
    sign: int,
    x: float,
    y: float,
    size: float,
    severity: float,
    rng: np.random.Generator,
    airways: Strokes,
) -> None:
    """Dark branching airways seen against lung without air."""
    n_tubes = 6
    outward = 0.0 if sign > 0 else np.pi
    heading = outward + sign * np.deg2rad(rng.uniform(5, 65, n_tubes))
    x0 = x - 0.55 * size * np.cos(heading) + rng.normal(0, 0.25 * size, n_tubes)
    y0 = y - 0.55 * size * np.sin(heading) + rng.normal(0, 0.25 * size, n_tubes)
    t = np.linspace(0, 1, 12 + int(0.25 / canvas.pixel))[None, :]
    for fork in (0.0, 0.45, -0.40):
        bend = heading[:, None] + fork * np.maximum(t - 0.35, 0) * 2
        reach = 1.25 * size * (t if fork == 0 else t * 0.9)
        px, py = x0[:, None] + np.cos(bend) * reach, y0[:, None] + np.sin(bend) * reach
        airways.curves(
            px, py, 0.0040 * (1 - 0.5 * t), -(0.10 + 0.14 * severity) * (1 - 0.6 * t) * (0.5 if fork else 1.0)
        )
