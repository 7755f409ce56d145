"""The drawing ground of the phantom: coordinates, soft edges, seeded texture and strokes, all independent of the size.

Lengths are shares of the image's side, so a shape means the same at 64 and at 512 pixels. Edges and strokes are never
sharper than the pixels that show them; this is what keeps a small image equal to a large one scaled down.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Grid = np.ndarray
"""A float32 array (n, n)."""

SIGMAS = (0.0013, 0.0028, 0.0060, 0.0130)
"""Half-widths that strokes are blurred to; anything between two of them is a mixture of both."""

_TABLE_LOW, _TABLE_HIGH, _TABLE_STEP = -0.3, 1.3, 1 / 1280


@lru_cache(maxsize=8)
def _unit_grid(n: int) -> tuple[Grid, Grid]:
    centres = ((np.arange(n, dtype=np.float32) + 0.5) / n - 0.5).astype(np.float32)
    u, v = np.meshgrid(centres, centres)
    return np.ascontiguousarray(u), np.ascontiguousarray(v)


@lru_cache(maxsize=64)
def blur_matrix(n: int, sigma: float) -> Grid:
    """The (n, n) matrix of a Gaussian blur along one axis, `sigma` a share of the side. Light is lost at the edges."""
    pixels = np.arange(n)
    spread = max(sigma * n, 0.05)
    kernel = np.exp(-0.5 * ((pixels[:, None] - pixels[None, :]) / spread) ** 2)
    centre = np.exp(-0.5 * (np.arange(-n, n + 1) / spread) ** 2).sum()
    return (kernel / centre).astype(np.float32)


@lru_cache(maxsize=64)
def _lattice_matrix(n: int, cells: int) -> Grid:
    """(n, cells + 4): spreads seeded values on a lattice over n pixels, smoothly and with unit variance."""
    where = (np.arange(n) + 0.5) / n * cells
    weights = np.exp(-0.5 * ((where[:, None] - (np.arange(cells + 4) - 1.5)[None, :]) / 0.6) ** 2)
    return (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)


@lru_cache(maxsize=1)
def rows() -> np.ndarray:
    """The heights at which a table for `Canvas.row` is sampled: float32, from above the image to below it."""
    return np.arange(_TABLE_LOW, _TABLE_HIGH, _TABLE_STEP, dtype=np.float32)


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A smooth step from 0 at `low` to 1 at `high`.

    >>> ramp(np.array([0.0, 0.5, 2.0]), 0.0, 1.0).tolist()
    [0.0, 0.5, 1.0]
    """
    t = np.minimum(np.maximum((values - low) * (1.0 / (high - low)), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


class Canvas:
    """An n x n ground on which x runs from the midline to the viewer's right and y from the top to the bottom.

    `tilt` (degrees), `zoom` and the shifts place the body in the frame; everything drawn follows.
    """

    def __init__(
        self, n: int, *, tilt: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        u, v = _unit_grid(n)
        self.n = n
        self.pixel = 1.0 / n
        angle = np.deg2rad(tilt)
        self._cos, self._sin = float(np.cos(angle)) * zoom, float(np.sin(angle)) * zoom
        self.zoom = zoom
        self._shift = shift
        self.x: Grid = u * np.float32(self._cos) + v * np.float32(self._sin) - np.float32(shift[0])
        self.y: Grid = v * np.float32(self._cos) - u * np.float32(self._sin) + np.float32(0.5 - shift[1])
        table = (self.y - np.float32(_TABLE_LOW)) * np.float32(1 / _TABLE_STEP)
        self._row_index = np.clip(table, 0, len(rows()) - 1).astype(np.int32)

    def row(self, table: np.ndarray) -> Grid:
        """The value of a table over `rows()` at every pixel's height."""
        return table.astype(np.float32, copy=False).take(self._row_index)

    def edge(self, distance: Grid, softness: float = 0.003) -> Grid:
        """1 where `distance` is positive, 0 where negative, with a border as wide as `softness` or one pixel."""
        width = max(softness, 0.75 * self.pixel)
        t = distance * np.float32(0.5 / width)
        t += np.float32(0.5)
        np.maximum(t, 0, out=t)
        np.minimum(t, 1, out=t)
        rise = t * np.float32(-2.0)
        rise += np.float32(3.0)
        rise *= t
        rise *= t
        return rise

    def ball(self, x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Grid:
        """The squared distance from (x, y) in units of the radii of an ellipse turned by `turn` radians."""
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        if turn:
            cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
        return dx * dx * np.float32(1 / rx**2) + dy * dy * np.float32(1 / ry**2)

    def glow(self, x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Grid:
        """A Gaussian spot of height 1 with standard deviations rx and ry."""
        return np.exp(np.float32(-0.5) * self.ball(x, y, rx, ry, turn))

    def texture(self, rng: np.random.Generator, cells: int) -> Grid:
        """A smooth random field of unit variance with about `cells` bumps across the frame; the same at every size."""
        values = rng.standard_normal((cells + 4, cells + 4), dtype=np.float32)
        spread = _lattice_matrix(self.n, cells)
        return spread @ values @ spread.T

    def to_image(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Body coordinates to pixel coordinates (column, row), where pixel i is centred at i."""
        bx, by = x + self._shift[0], y - 0.5 + self._shift[1]
        u = (bx * self._cos - by * self._sin) / self.zoom**2
        v = (bx * self._sin + by * self._cos) / self.zoom**2
        return (u + 0.5) * self.n - 0.5, (v + 0.5) * self.n - 0.5


class Strokes:
    """Curves of given width and height, gathered first and drawn all at once."""

    def __init__(self, canvas: Canvas) -> None:
        self._canvas = canvas
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def curves(self, x: np.ndarray, y: np.ndarray, sigma: np.ndarray | float, height: np.ndarray | float) -> None:
        """Adds curves given by points: x, y (n_curves, n_points); sigma and height broadcast to them.

        `height` is the value on the middle line of a stroke that the pixels can resolve; negative carves.
        """
        step = np.hypot(np.diff(x, axis=1), np.diff(y, axis=1))
        length = np.zeros_like(x)
        length[:, :-1] += 0.5 * step
        length[:, 1:] += 0.5 * step
        sigma = np.broadcast_to(np.asarray(sigma, dtype=x.dtype), x.shape)
        mass = length * sigma * height * 2.5066283
        self._parts.append((x.ravel(), y.ravel(), sigma.ravel(), mass.ravel()))

    def line(self, points: list[tuple[float, float]], sigma: float, height: float, *, smooth: bool = True) -> None:
        """Adds one curve through a few points (a Catmull-Rom spline, or straight pieces)."""
        x, y = spline(points, self._canvas.pixel) if smooth else polyline(points, self._canvas.pixel)
        self.curves(x[None], y[None], sigma, height)

    def draw(self, out: Grid | None = None) -> Grid:
        """The sum of all strokes as an (n, n) grid."""
        n = self._canvas.n
        total = np.zeros((n, n), dtype=np.float32) if out is None else out
        if not self._parts:
            return total
        x, y, sigma, mass = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        column, line = self._canvas.to_image(x, y)
        inside = (column > 0) & (column < n - 1.001) & (line > 0) & (line < n - 1.001)
        column, line, sigma, mass = (
            column[inside],
            line[inside],
            sigma[inside],
            mass[inside] * (n * n / self._canvas.zoom),
        )
        left, top = column.astype(np.int64), line.astype(np.int64)
        fx, fy = column - left, line - top
        corner = top * n + left
        level = np.interp(np.log(sigma), np.log(SIGMAS), np.arange(len(SIGMAS)))
        for index, width in enumerate(SIGMAS):
            share = 1 - np.abs(level - index)
            near = np.flatnonzero(share > 0)
            if not len(near):
                continue
            part, at, px, py = share[near] * mass[near], corner[near], fx[near], fy[near]
            places = np.concatenate([at, at + 1, at + n, at + n + 1])
            lower, upper = part * py, part * (1 - py)
            weights = np.concatenate([upper * (1 - px), upper * px, lower * (1 - px), lower * px])
            layer: Grid = np.bincount(places, weights, minlength=n * n).astype(np.float32).reshape(n, n)
            rest = (width * n) ** 2 - 1 / 6  # sharing out between four pixels has blurred by this variance already
            if rest > 0.01:
                blur = blur_matrix(n, rest**0.5 / n)
                layer = blur @ layer @ blur
            total += layer
        return total


def polyline(points: list[tuple[float, float]], spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points along straight pieces, at most `spacing` apart."""
    corners = np.asarray(points, dtype=float)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    where = np.linspace(0, along[-1], max(int(along[-1] / spacing) + 2, 3))
    return np.interp(where, along, corners[:, 0]), np.interp(where, along, corners[:, 1])


def spline(points: list[tuple[float, float]], spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points along a Catmull-Rom spline through the given ones, about `spacing` apart."""
    p = np.asarray(points, dtype=float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    pieces = max(int(np.abs(np.diff(p, axis=0)).sum() / spacing / (len(p) - 3)) + 2, 4)
    t = np.linspace(0, 1, pieces, endpoint=False)[None, :, None]
    a, b, c, d = (p[i : len(p) - 3 + i, None, :] for i in range(4))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    flat = np.concatenate([curve.reshape(-1, 2), p[-2:-1]])
    return flat[:, 0], flat[:, 1]


def circle(
    x: float, y: float, rx: float, ry: float, spacing: float, turn: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Points around an ellipse."""
    t = np.linspace(0, 2 * np.pi, max(int(2 * np.pi * max(rx, ry) / spacing), 12))
    px, py = rx * np.cos(t), ry * np.sin(t)
    return x + px * np.cos(turn) - py * np.sin(turn), y + px * np.sin(turn) + py * np.cos(turn)
