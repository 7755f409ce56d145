"""Tubes, lines and implants of a frontal chest."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Grid, Strokes, circle, polyline, ramp
from linkage_core.cohorts.phantom.chest import Chest
from linkage_core.cohorts.phantom.scene import Device

CARINA = 0.375


def draw_device(chest: Chest, device: Device, metal: Strokes, total: Grid) -> None:
    """Tubes, lines and implants, on their usual courses."""
    rng = np.random.default_rng(device.seed)
    kind, tip = device.kind, device.tip
    mid = chest.shift * 0.8 + chest.turn * 0.5
    wave = float(rng.normal(0, 0.006))
    default = "left" if kind == "pacemaker" else "right"
    sign = -1 if (device.side or default) == "right" else 1
    cava = [(-0.046 + mid + 0.3 * wave, 0.235), (-0.050 + mid, 0.30)]
    end = 0.24 + 0.33 * tip

    def tube(points: list[tuple[float, float]], radius: float, wall: float, body: float) -> None:
        """A hollow tube: two walls and a faint body."""
        metal.line(points, radius, body)
        shape = np.asarray(points)
        along = np.gradient(shape, axis=0)
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
        for way in (-1, 1):
            metal.line([(float(a), float(b)) for a, b in shape + way * radius * 1.25 * normal], 0.0013, wall)

    def catheter(points: list[tuple[float, float]], height: float = 0.42, sigma: float = 0.0028) -> None:
        metal.line(points, sigma, height)

    if kind == "endotracheal tube":
        stop = 0.205 + 0.21 * tip
        x1 = mid * 0.9 + (-0.012 if stop > CARINA else 0.0)
        tube([(0.012 + wave, -0.06), (0.006 + wave, 0.08), (mid * 0.9, 0.18), (x1, stop)], 0.0075, 0.30, 0.16)
        metal.line(
            [(0.016 + wave, -0.06), (0.010 + wave, 0.08), (mid * 0.9 + 0.003, 0.18), (x1 + 0.003, stop)], 0.0015, 0.55
        )
    elif kind == "enteric tube":
        dome = chest.dome[1]
        course = [
            (-0.006 + wave, -0.06),
            (-0.004 + wave, 0.10),
            (0.012 + mid, 0.26),
            (0.016 + mid, 0.42),
            (0.018 + mid, 0.58),
            (0.030 + mid, dome),
            (0.075, dome + 0.065),
            (0.130, dome + 0.130),
            (0.130, dome + 0.200),
            (0.060, dome + 0.235),
            (-0.040, dome + 0.225),
        ]
        points = _cut(course, 0.45 + 0.55 * tip)
        metal.line(points, 0.0042, 0.24)
        metal.line(points, 0.0014, 0.42)
    elif kind == "central line":
        if sign < 0:
            course = [(-0.085 + wave, -0.05), (-0.078 + wave, 0.06), (-0.064, 0.15), *cava]
        else:
            course = [(0.090 + wave, -0.05), (0.082 + wave, 0.08), (0.060, 0.165), (0.0, 0.215), (-0.040 + mid, 0.25)]
        catheter([*course, (-0.050 + mid, max(end, course[-1][1] + 0.02))])
    elif kind == "picc":
        course = [
            (sign * 0.53, 0.42 + wave),
            (sign * 0.47, 0.27 + wave),
            (sign * 0.37, 0.185),
            (sign * 0.25, 0.178 + wave),
            (sign * 0.13, 0.192),
        ]
        last = [(-0.046 + mid, 0.245)] if sign < 0 else [(0.03, 0.215), (-0.040 + mid, 0.255)]
        catheter([*course, *last, (-0.050 + mid, max(end, 0.275))], 0.36, 0.0022)
    elif kind == "port":
        x, y = sign * (0.245 + wave), 0.300 + wave
        for radius, height in ((0.024, 0.55), (0.013, 0.42)):
            px, py = circle(x, y, radius, radius * 0.92, metal._canvas.pixel * 0.7)
            metal.curves(px[None], py[None], 0.0036, height)
        metal.line([(x - 0.010, y), (x + 0.010, y)], 0.010, 0.30)
        course = [(x - sign * 0.02, y - 0.012), (sign * 0.19, 0.215), (sign * 0.12, 0.150), (sign * 0.075, 0.170)]
        last = cava if sign < 0 else [(0.01, 0.22), (-0.042 + mid, 0.255)]
        catheter([*course, *last, (-0.050 + mid, max(end, 0.32))], 0.40)
    elif kind == "pacemaker":
        x, y = sign * (0.265 + wave), 0.270 + wave
        box = chest.canvas.ball(x, y, 0.050, 0.040)
        corner = ((chest.canvas.x - np.float32(x)) * (chest.canvas.y - np.float32(y)) / np.float32(0.050 * 0.040)) ** 2
        shell = box * box - np.float32(1.3) * corner  # between an ellipse and a rectangle
        total += chest.canvas.edge((1 - shell) * np.float32(0.012), 0.003) * (
            np.float32(0.55) + np.float32(0.25) * ramp(shell, 0.6, 0.9)
        )
        battery = chest.canvas.ball(x, y + 0.008, 0.034, 0.020)
        total += chest.canvas.edge((1 - battery) * np.float32(0.012), 0.003) * np.float32(0.45)
        enter = [(x - sign * 0.03, y - 0.045), (sign * 0.18, 0.185), (sign * 0.10, 0.185), (sign * 0.03, 0.22)]
        heart_y = 0.5 * sum(chest.heart_span)
        reach = chest.heart_span[1] - 0.075
        ventricle = 0.05 + 0.16 * tip + 0.10 * (chest.ratio - 0.45)
        for lead, atrial in ((0.0, False), (0.008, True)):
            shared = [
                *((a + lead, b + lead) for a, b in enter),
                (-0.045 + mid + lead, 0.28),
                (-0.052 + mid + lead, 0.42),
            ]
            if atrial:
                rest = [(-0.055 + mid, heart_y - 0.01), (-0.030 + mid, heart_y + 0.01), (-0.042 + mid, heart_y - 0.035)]
            else:
                rest = [
                    (-0.048 + mid, heart_y + 0.03),
                    (0.0 + mid, reach),
                    (0.5 * ventricle, reach + 0.012),
                    (ventricle, reach),
                ]
            metal.line([*shared, *rest], 0.0020, 0.42)
            metal.line([rest[-2], rest[-1]], 0.0032, 0.50)
    elif kind == "chest tube":
        low, high = chest.dome[sign] - 0.075 + wave, 0.55 - 0.36 * tip
        points = [
            (sign * 0.52, low + 0.045),
            (sign * 0.40, low),
            (sign * 0.295, 0.5 * (low + high) - 0.02),
            (sign * 0.20, high + 0.03),
            (sign * 0.155, high),
        ]
        tube(points, 0.0088, 0.30, 0.18)
        metal.line(points, 0.0018, 0.55)
    elif kind == "sternal wires":
        for index in range(6):
            y = 0.255 + 0.068 * index + float(rng.normal(0, 0.004))
            x = chest.turn * 1.6 + float(rng.normal(0, 0.003))
            turn = float(rng.normal(0, 0.25))
            px, py = circle(x, y, 0.019, 0.0095, metal._canvas.pixel * 0.7, turn)
            metal.curves(px[None], py[None], 0.0018, 0.75)
            metal.line([(x - 0.004, y + 0.008), (x + 0.004, y + 0.016)], 0.0026, 0.75)
    elif kind == "valve prosthesis":
        x, y = 0.030 + mid + 0.01 * (tip - 0.5), 0.565 + wave
        for radius, height in ((0.034, 0.70), (0.027, 0.40)):
            px, py = circle(x, y, radius, radius * 0.55, metal._canvas.pixel * 0.7, -0.55)
            metal.curves(px[None], py[None], 0.0032, height)


def _cut(course: list[tuple[float, float]], share: float) -> list[tuple[float, float]]:
    """The first part of a course, by length."""
    x, y = polyline(course, 0.02)
    last = max(int(share * (len(x) - 1)), 2)
    keep = np.unique(np.linspace(0, last, max(last // 3, 4)).round().astype(int))
    return [(float(x[i]), float(y[i])) for i in keep]
