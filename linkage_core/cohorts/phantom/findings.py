"""What is wrong in a frontal chest: every kind of finding, drawn into the lung's air."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Grid, Strokes, ramp, rows
from linkage_core.cohorts.phantom.chest import UNEVEN, Chest
from linkage_core.cohorts.phantom.opacities import add_fill, bronchograms, patch
from linkage_core.cohorts.phantom.scene import Finding


def draw_finding(
    chest: Chest,
    finding: Finding,
    sign: int,
    rng: np.random.Generator,
    lung: Grid,
    fill: Grid,
    dense: Grid,
    open_lung: Grid,
    fine: Strokes,
    airways: Strokes,
    breaks: list[tuple[int, int, float, float]],
) -> None:
    c, severity = chest.canvas, finding.severity
    x, y = chest.place(sign, finding.zone, finding.x, finding.y)
    kind = finding.kind
    if kind in ("lung opacity", "consolidation", "pneumonia"):
        size = 0.055 + 0.085 * severity
        peak = {"lung opacity": 0.26 + 0.26 * severity, "pneumonia": 0.40 + 0.34 * severity}.get(
            kind, 0.52 + 0.40 * severity
        )
        rough = {"lung opacity": 0.30, "pneumonia": 0.42}.get(kind, 0.24)
        spot = patch(c, x, y, size * rng.uniform(0.85, 1.15), size * rng.uniform(0.85, 1.2), rng, rough)
        add_fill(fill, spot * np.float32(peak) * chest.on_side(sign))
        if kind != "lung opacity":
            bronchograms(c, sign, x, y, size, severity, rng, airways)
    elif kind == "lung lesion":
        radius = 0.016 + 0.062 * severity**1.2
        field = c.ball(x, y, radius, radius * rng.uniform(0.85, 1.1), rng.uniform(0, 3))
        if severity > 0.45:
            field += np.float32(0.22) * c.texture(rng, 40)
        ball = c.edge((1 - field) * np.float32(radius * 0.5), 0.005)
        dense += ball * np.sqrt(np.clip(1.15 - field, 0, 1)) * np.float32(0.24 + 0.22 * severity)
        if severity > 0.6:
            angles = rng.uniform(0, 2 * np.pi, 14)
            far = radius * rng.uniform(1.3, 1.9, 14)
            t = np.linspace(0.8, 1, 8 + int(0.1 / c.pixel))[None, :]
            fine.curves(
                x + np.cos(angles)[:, None] * far[:, None] * t,
                y + np.sin(angles)[:, None] * far[:, None] * t,
                0.002,
                0.08,
            )
    elif kind == "edema":
        side = c.x * np.float32(sign) - np.float32(0.10)
        wing = np.exp(-0.5 * ((side / np.float32(0.105 + 0.04 * severity)) ** 2 + ((c.y - 0.47) / 0.155) ** 2))
        cloud = np.clip(1 + np.float32(0.30) * c.texture(rng, 26) + np.float32(0.22) * c.texture(rng, 52), 0.2, 1.9)
        add_fill(fill, np.clip(wing * cloud * np.float32(0.22 + 0.50 * severity), 0, 0.9) * chest.on_side(sign))
        base = np.float32(0.05 + 0.16 * severity) * ramp(c.y, 0.40, 0.70) * cloud
        add_fill(fill, np.clip(base, 0, 0.9) * chest.on_side(sign))
        _kerley(chest, sign, severity, rng, fine)
    elif kind == "atelectasis":
        _atelectasis(chest, finding, sign, x, y, rng, fill, fine)
    elif kind == "pneumothorax":
        _pneumothorax(chest, sign, severity, lung, fill, dense, open_lung)
    elif kind == "pleural effusion":
        _effusion(chest, sign, severity, fill, dense)
    elif kind == "pleural other":
        thick = np.float32(0.010 + 0.030 * severity)
        wave = thick * (1 + np.float32(0.35) * c.texture(rng, 18))
        span = 0.09 + 0.13 * severity
        along = np.exp(-(np.abs((c.y - np.float32(y)) / np.float32(span)) ** 4))
        coat = c.edge(wave * along - np.maximum(chest.to_wall, 0), 0.004) * along * chest.on_side(sign)
        add_fill(fill, coat * np.float32(0.85))
        dense += coat * np.float32(0.10 + 0.10 * severity) * lung
        if severity > 0.5:
            ys = np.linspace(y - 0.5 * span, y + 0.5 * span, 60 + int(0.4 / c.pixel))
            inner = np.interp(ys, rows(), chest.wall_table) - float(thick) * 0.9 + 0.002 * np.sin(90 * ys)
            fine.curves((sign * inner)[None], ys[None], 0.0028, 0.35 * severity)
    elif kind == "fracture":
        first = int(np.clip({"upper": 2, "mid": 4, "lower": 6, "": 4}[finding.zone] + round(finding.y * 1.2), 1, 8))
        where = 0.80 + 0.11 * finding.x
        for rib in range(first, first + 1 + int(severity * 2.6)):
            breaks.append((sign, rib, where + float(rng.normal(0, 0.012)), 0.20 + 0.26 * severity))
            _callus(chest, sign, rib, where, severity, dense)


def _callus(chest: Chest, sign: int, rib: int, where: float, severity: float, dense: Grid) -> None:
    """Bleeding and new bone around a broken rib."""
    build = chest.scene.anatomy
    y = chest.apex - 0.035 + (rib + 0.5 - UNEVEN[sign]) * chest.rib_pitch + (0.045 + 0.095 * build.rib_slope) * where**3
    x = sign * where * float(np.interp(y, rows(), chest.wall_table))
    dense += np.float32(0.11 + 0.32 * severity) * chest.canvas.glow(x, y, 0.020 + 0.008 * severity, 0.018)


def _kerley(chest: Chest, sign: int, severity: float, rng: np.random.Generator, fine: Strokes) -> None:
    """Short horizontal lines at the wall of the base, and longer ones towards the hilum."""
    n_lines = 4 + int(10 * severity)
    ys = chest.dome[sign] + rng.uniform(-0.16, 0.06, n_lines)
    wall = np.interp(ys, rows(), chest.wall_table) - 0.004
    t = np.linspace(0, 1, 8 + int(0.08 / chest.canvas.pixel))[None, :]
    length = rng.uniform(0.022, 0.045, n_lines)[:, None]
    fine.curves(sign * (wall[:, None] - length * t), ys[:, None] + 0.006 * t, 0.0016, 0.10 + 0.16 * severity)
    n_long = 3 + int(4 * severity)
    y0 = rng.uniform(0.24, 0.42, n_long)[:, None]
    x0 = rng.uniform(0.13, 0.26, n_long)[:, None]
    run = rng.uniform(0.05, 0.09, n_long)[:, None]
    fine.curves(sign * (x0 - run * t), y0 + 0.9 * run * t, 0.0014, 0.08 + 0.10 * severity)


def _atelectasis(
    chest: Chest, finding: Finding, sign: int, x: float, y: float, rng: np.random.Generator, fill: Grid, fine: Strokes
) -> None:
    c, severity = chest.canvas, finding.severity
    if finding.zone == "lower":
        y = min(y, chest.dome[sign] - 0.035)
    n_bands = 1 + int(severity * 2.5)
    for band in range(n_bands):
        lean = rng.uniform(-0.35, 0.25) * sign
        half = 0.055 + 0.05 * severity * rng.uniform(0.7, 1.1)
        turned = c.ball(x + rng.normal(0, 0.01), y + 0.032 * band * (-1) ** band, half, 0.0055 + 0.007 * severity, lean)
        add_fill(
            fill, np.clip(1.5 * np.exp(-0.7 * turned), 0, 1) * np.float32(0.45 + 0.35 * severity) * chest.on_side(sign)
        )
    if severity > 0.45:
        loss = (severity - 0.45) / 0.55
        if finding.zone == "upper":
            wedge = ramp(chest.to_dome, chest.dome[sign] - 0.34 + 0.02 * loss, chest.dome[sign] - 0.20)
        else:
            wedge = ramp(chest.to_dome - np.float32(0.35) * (np.float32(0.2) - chest.a), 0.05 + 0.09 * loss, -0.02)
        add_fill(fill, wedge * np.float32(0.35 + 0.45 * loss) * chest.on_side(sign))


def _pneumothorax(
    chest: Chest, sign: int, severity: float, lung: Grid, fill: Grid, dense: Grid, open_lung: Grid
) -> None:
    """Air between wall and lung: a thin line, nothing peripheral of it."""
    c = chest.canvas
    gap = 0.022 + 0.150 * severity**1.15
    # The lung shrinks towards its base: the outline is the chest's own, lower and narrower.
    y, base = rows(), chest.dome[sign] + 0.06
    keep = 1 - 1.25 * gap / (base - chest.apex)
    narrow = gap * (0.45 + 0.75 * np.exp(-np.maximum(y - chest.apex, 0) / 0.22))
    border = np.interp(base - (base - y) / keep, y, chest.wall_table) - narrow
    border = np.where(y < base - (base - chest.apex) * keep, -0.01, border)
    depth = (c.row(border) - chest.a) / np.sqrt(1 + c.row(np.minimum(np.gradient(border, y[1] - y[0]), 4.0)) ** 2)
    if severity > 0.75:
        depth = np.minimum(depth, chest.to_dome - np.float32(0.5 * gap))
    side = chest.on_side(sign)
    outside = c.edge(-depth, 0.003) * side
    open_lung *= 1 - outside
    width = np.float32(max(0.0026, 0.55 * c.pixel))
    line = np.exp(np.float32(-0.5) * (depth / width) ** 2) * side * lung
    dense += line * np.float32(0.20) * np.float32(min(1.0, 0.0030 / float(width) + 0.2))
    dense -= outside * lung * np.float32(0.13 + 0.05 * severity)
    add_fill(fill, (1 - outside) * side * lung * np.float32(0.06 + 0.30 * severity**1.5))


def _effusion(chest: Chest, sign: int, severity: float, fill: Grid, dense: Grid) -> None:
    """Fluid that climbs the wall; lying down, it spreads behind the lung as a veil."""
    c, side = chest.canvas, chest.on_side(sign)
    corner = chest.dome[sign] + 0.105
    level = corner - 0.030 - 0.37 * severity**1.2
    climb = (0.035 + 0.075 * severity) * np.exp(-np.maximum(chest.to_wall, 0) / np.float32(0.030 + 0.03 * severity))
    inner = np.float32(0.03 * severity) * np.exp(-np.maximum(chest.to_inner, 0) / np.float32(0.03))
    below = c.y - (np.float32(level) - climb - inner)
    supine = chest.scene.view == "AP"
    water = ramp(below, -0.030 if supine else -0.012, 0.045 if supine else 0.022) * side
    add_fill(fill, water * np.float32(0.96))
    veil = ramp(below, -0.30, 0.05) * side * np.float32((0.22 if supine else 0.07) * severity)
    add_fill(fill, veil)
    dense += water * np.float32(0.10) * c.edge(chest.to_wall, 0.004) * c.edge(chest.to_dome + 0.05, 0.03)
