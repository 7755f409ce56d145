"""Where walls, domes and midline of a frontal chest lie, before anything is drawn."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Canvas, Grid, ramp, rows
from linkage_core.cohorts.phantom.scene import Scene

_ZONE = {"upper": 0.24, "mid": 0.52, "lower": 0.80, "": 0.55}
_SIGN = {"right": -1, "left": 1}
UNEVEN = {-1: 0.10, 1: -0.08}
"""By how much of their distance the ribs of a side stand higher: no two sides are quite alike."""

_SHAPING = ("cardiomegaly", "enlarged cardiomediastinum")


def sides(side: str, seed: int) -> tuple[int, ...]:
    """-1 for the patient's right (the viewer's left), 1 for the left; a missing side is chosen by the seed."""
    if side == "bilateral":
        return (-1, 1)
    return (_SIGN[side],) if side else ((-1, 1)[seed & 1],)


class Chest:
    """The frontal geometry of one scene: where the walls, the domes and the midline are, before anything is drawn."""

    def __init__(self, canvas: Canvas, scene: Scene) -> None:
        build = scene.anatomy
        self.canvas, self.scene = canvas, scene
        supine = scene.view == "AP"
        worst = {kind: max((f.severity for f in scene.findings if f.kind == kind), default=0.0) for kind in _SHAPING}
        self.turn = 0.0035 * scene.rotation  # the sternum moves against the spine when the patient is turned
        self.half_width = 0.372 - 0.022 * build.chest_shape + 0.012 * build.habitus
        self.apex = 0.128 - 0.012 * build.chest_shape + (0.012 if supine else 0.0)
        dome = 0.700 + 0.030 * build.chest_shape + 0.065 * (scene.inspiration - 0.6) - 0.028 * build.diaphragm
        dome -= 0.035 if supine else 0.0
        self.dome = {-1: dome, 1: dome + 0.024}
        self.rib_pitch = 0.0625 + 0.004 * build.chest_shape + 0.004 * (scene.inspiration - 0.6)
        self.shift = 0.0
        for finding in scene.findings:
            for sign in sides(finding.side, finding.seed):
                if finding.kind == "atelectasis" and finding.severity > 0.45:
                    loss = finding.severity - 0.45
                    self.dome[sign] -= 0.11 * loss * (1.0 if finding.zone != "upper" else 0.6)
                    self.shift += 0.07 * loss * sign
                if finding.kind == "pneumothorax" and finding.severity > 0.7:
                    self.shift -= 0.12 * (finding.severity - 0.7) * sign
                if finding.kind == "pleural effusion" and finding.severity > 0.75:
                    self.shift -= 0.08 * (finding.severity - 0.75) * sign
        ratio = build.heart_size + (0.035 if supine else 0.0) + 0.03 * (0.6 - scene.inspiration)
        if worst["cardiomegaly"]:
            ratio = max(ratio, 0.50) + 0.02 + 0.17 * worst["cardiomegaly"]
        self.ratio = ratio
        self.widening = 0.055 * worst["enlarged cardiomediastinum"] + (
            0.01 if worst["enlarged cardiomediastinum"] else 0
        )
        self.widening += 0.008 if supine else 0.0
        self._tables()
        self._fields()

    def _tables(self) -> None:
        """Borders as functions of height."""
        build, y = self.scene.anatomy, rows()
        low = 0.5 * (self.dome[-1] + self.dome[1])
        self.widest = 0.60
        t = np.clip((y - self.apex) / (self.widest - self.apex), 0, 1)
        round_off = np.sqrt(np.clip(1 - (1 - t) ** 2.5, 0, 1))
        wall = 0.125 + (self.half_width - 0.125) * round_off - 0.028 * np.clip((y - self.widest) / 0.3, 0, 2) ** 2
        apex_turn = np.sqrt(np.clip(1 - (1 - np.clip((y - self.apex) / 0.10, 0, 1)) ** 2, 0, 1))
        self.wall_table = np.where(y < self.apex, 0.0, wall)
        self.inner_table = np.where(y < self.apex, 0.5, 0.125 - 0.085 * apex_turn)
        self.wall_slope = np.gradient(self.wall_table, y[1] - y[0])
        total = self.ratio * 2 * self.half_width
        top, bottom = 0.405, low + 0.055
        down = np.clip((y - top) / (bottom - top), 0, 1)
        left = np.clip(1 - np.abs(2 * down**1.45 - 1) ** 2.3, 0, 1) ** 0.55
        right = np.clip(1 - np.abs(2 * np.clip((down - 0.12) / 0.88, 0, 1) ** 1.05 - 1) ** 2.1, 0, 1) ** 0.5
        self.heart_left = 0.66 * total * left
        self.heart_right = 0.34 * total * right
        self.heart_span = (top, bottom)
        knob = (0.024 + 0.024 * build.aorta) * np.exp(-0.5 * ((y - 0.315) / 0.030) ** 2)
        pulmonary = 0.014 * np.exp(-0.5 * ((y - 0.405) / 0.03) ** 2)
        neck = ramp(y, 0.02, 0.28)
        upper = 0.030 + 0.024 * neck + self.widening * ramp(y, 0.10, 0.26) * ramp(-y, -0.62, -0.42)
        self.band_left = upper + knob + pulmonary + 0.006 * build.aorta
        self.band_right = upper + 0.004 + 0.010 * build.aorta * np.exp(-0.5 * ((y - 0.42) / 0.06) ** 2)
        bend = 0.028 * build.scoliosis
        self.spine_table = bend * np.sin((y - 0.1) * 4.2) + 0.0 * y

    def _fields(self) -> None:
        """Distances at every pixel."""
        c = self.canvas
        self.right = c.x < 0
        self.a: Grid = np.abs(c.x)
        wall, inner = c.row(self.wall_table), c.row(self.inner_table)
        flat = 1 / np.sqrt(1 + np.minimum(self.wall_slope, 4.0) ** 2)
        self.to_wall: Grid = (wall - self.a) * c.row(flat)
        self.to_inner: Grid = self.a - inner
        self.across: Grid = np.minimum(self.a / np.maximum(wall, 0.02), 1.3)
        self.to_dome: Grid = self.below_dome()
        self.wall = wall

    def below_dome(self) -> Grid:
        """How far each pixel lies above its diaphragm."""
        r = self.a * np.float32(2 / self.half_width) - np.float32(1.05)
        outer, inner = np.maximum(r, 0), np.minimum(r, 0)
        curve = np.float32(0.115) * outer * outer * np.sqrt(outer) + np.float32(0.022) * inner * inner
        base = np.where(self.right, np.float32(self.dome[-1]), np.float32(self.dome[1]))
        slope = 1 + np.float32(4.0) * np.float32(0.115) * outer
        return (base + curve - self.canvas.y) / slope

    def place(self, sign: int, zone: str, dx: float, dy: float) -> tuple[float, float]:
        """The point at offsets dx, dy (-1..1) within a side and zone."""
        dome = self.dome[sign]
        y = self.apex + (dome - self.apex) * (_ZONE[zone] + 0.10 * dy)
        wall = float(np.interp(y, rows(), self.wall_table))
        return sign * (0.075 + (wall - 0.105) * (0.52 + 0.30 * dx)), y

    def on_side(self, sign: int) -> Grid:
        return self.canvas.edge(self.canvas.x * np.float32(sign), 0.004)
