"""The lateral chest: the patient faces the viewer's left; spine on the right, breastbone on the left."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Canvas, Grid, Strokes, circle, ramp, rows
from linkage_core.cohorts.phantom.chest import sides
from linkage_core.cohorts.phantom.frontal import patient_seed, rib_profile
from linkage_core.cohorts.phantom.opacities import add_fill, bronchograms, patch
from linkage_core.cohorts.phantom.scene import Device, Finding, Scene
from linkage_core.cohorts.phantom.vessels import tree

_ZONE = {"upper": 0.27, "mid": 0.47, "lower": 0.66, "": 0.52}


class Profile:
    """The lateral geometry of one scene."""

    def __init__(self, canvas: Canvas, scene: Scene) -> None:
        build = scene.anatomy
        self.canvas, self.scene = canvas, scene
        y = rows()
        deep = 1.09 + 0.07 * build.habitus - 0.05 * build.chest_shape
        worst = {f.kind: f.severity for f in sorted(scene.findings, key=lambda finding: finding.severity)}
        self.apex = 0.130
        # Inner borders of the chest: breastbone in front, ribs behind.
        self.front = deep * _through(
            y, (0.10, 0.16, 0.28, 0.42, 0.58, 0.75, 0.95), (0.02, -0.06, -0.165, -0.235, -0.275, -0.285, -0.27)
        )
        self.back = deep * _through(
            y, (0.10, 0.15, 0.25, 0.42, 0.60, 0.80, 0.95), (0.06, 0.145, 0.225, 0.275, 0.275, 0.245, 0.22)
        )
        fat = 0.026 + 0.024 * (1 + build.habitus)
        swell = np.zeros_like(y)
        if build.sex == "F":
            swell = (0.055 + 0.05 * (1 + build.habitus)) * np.exp(-0.5 * ((y - 0.60) / 0.10) ** 2)
        shoulder = ramp(y, 0.02, 0.26)
        self.skin_front = -0.105 + (self.front - 0.028 - fat - swell + 0.105) * shoulder
        self.skin_back = 0.165 + (self.back + 0.060 + fat - 0.165) * ramp(y, -0.04, 0.20)
        self.spine = deep * _through(y, (0.0, 0.15, 0.40, 0.65, 0.85, 1.0), (0.075, 0.115, 0.200, 0.195, 0.155, 0.125))
        dome = 0.690 + 0.030 * build.chest_shape + 0.055 * (scene.inspiration - 0.6) - 0.028 * build.diaphragm
        self.dome = {-1: dome, 1: dome + 0.026}
        for finding in scene.findings:
            if finding.kind == "atelectasis" and finding.severity > 0.45:
                for sign in sides(finding.side, finding.seed):
                    self.dome[sign] -= 0.10 * (finding.severity - 0.45)
        self.heart = (build.heart_size - 0.45) * 0.5 + 0.16 * worst.get("cardiomegaly", 0.0) * 0.75
        self.heart += 0.02 if "cardiomegaly" in worst else 0.0
        self.widening = worst.get("enlarged cardiomediastinum", 0.0)
        x = canvas.x
        self.to_front: Grid = x - canvas.row(self.front)
        self.to_back: Grid = canvas.row(self.back) - x
        self.to_wall: Grid = np.minimum(self.to_front, self.to_back)
        self.above = {sign: self._above(sign) for sign in (-1, 1)}

    def _above(self, sign: int) -> Grid:
        """How far each pixel lies above one diaphragm, which falls far down behind."""
        from_top = self.canvas.x + np.float32(0.075)
        behind, before = np.maximum(from_top, 0), np.minimum(from_top, 0)
        curve = np.float32(1.55) * behind * behind * (1 + 0.4 * behind) + np.float32(1.05) * before * before
        return (np.float32(self.dome[sign]) + curve - self.canvas.y) / (1 + np.float32(2.2) * behind)

    def dome_at(self, sign: int, x: float) -> float:
        """The height of a diaphragm at x."""
        from_top = x + 0.075
        return self.dome[sign] + (1.55 * from_top**2 * (1 + 0.4 * from_top) if from_top > 0 else 1.05 * from_top**2)


def _through(y: np.ndarray, heights: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """A smooth table through a few points."""
    coarse = np.interp(np.linspace(y[0], y[-1], 200), heights, values)
    soft = np.convolve(np.pad(coarse, 8, mode="edge"), np.hanning(19)[1:-1] / np.hanning(19).sum(), mode="valid")
    return np.interp(y, np.linspace(y[0], y[-1], 200), soft)


def attenuation(canvas: Canvas, scene: Scene) -> Grid:
    """The attenuation of a lateral chest at every pixel, on the scale of the frontal one."""
    chest, c = Profile(canvas, scene), canvas
    rng = np.random.default_rng([*patient_seed(scene), 1])
    wall = c.edge(chest.to_wall, 0.006) * c.edge(c.y - np.float32(chest.apex), 0.030)
    lung = {sign: wall * c.edge(chest.above[sign], 0.004) for sign in (-1, 1)}
    fill = {sign: np.zeros_like(wall) for sign in (-1, 1)}
    dense, gone = np.zeros_like(wall), np.zeros_like(wall)
    fine, airways, metal = Strokes(c), Strokes(c), Strokes(c)
    for finding in scene.findings:
        seeded = np.random.default_rng(finding.seed)
        for sign in sides(finding.side, finding.seed):
            _draw_finding(chest, finding, sign, seeded, wall, fill[sign], dense, gone, fine, airways)

    air = lung[-1] * (1 - fill[-1]) + lung[1] * (1 - fill[1])
    depth = np.float32(0.62) + np.float32(0.38) * np.sqrt(np.clip(chest.to_wall * np.float32(1 / 0.09), 0, 1))
    total = _soft_tissue(chest)
    heart = _heart(chest)
    seen = 0.5 * (lung[-1] + lung[1])
    total += heart * (np.float32(0.12) + np.float32(0.75) * 0.5 * air)
    total += np.float32(0.020) * c.texture(rng, 22) * np.minimum(total, 1)
    shoulder = np.float32(0.55) + np.float32(0.45) * ramp(c.y, 0.14, 0.42)  # shoulders lie over the apices
    total -= np.float32(0.365) * air * depth * shoulder
    total += (c.texture(rng, 40) * np.float32(0.014) + c.texture(rng, 90) * np.float32(0.008)) * seen + dense
    _vessels(chest, rng, fine)
    thin = (1 - np.float32(0.7) * np.minimum(heart, 1)) * (1 - np.float32(0.7) * np.maximum(fill[-1], fill[1]))
    total += fine.draw() * seen * thin * (1 - gone)
    if airways:
        total += np.float32(0.5) * airways.draw() * np.maximum(fill[-1], fill[1]) * seen
    total += _bones(chest)
    _gas(chest, total)
    for device in scene.devices:
        _draw_device(chest, device, metal, total)
    metal.draw(total)
    return total


def _soft_tissue(chest: Profile) -> Grid:
    c, build = chest.canvas, chest.scene.anatomy
    front, back = c.row(chest.skin_front), c.row(chest.skin_back)
    inner = np.minimum(c.x - front, back - c.x)
    inside = c.edge(inner, 0.004)
    rim = np.sqrt(np.clip(inner * np.float32(1 / 0.15), 0, 1))
    tissue = inside * (np.float32(0.30) + np.float32(0.72 + 0.06 * build.habitus) * rim)
    # Raised arms cross the top corner in front.
    arm = c.ball(-0.20, 0.02, 0.30, 0.085, -0.32)
    tissue += np.float32(0.30) * c.edge((1 - arm) * np.float32(0.05), 0.010) * np.sqrt(np.clip(1.1 - arm, 0, 1))
    bone = c.ball(-0.22, 0.015, 0.30, 0.022, -0.32)
    tissue += np.float32(0.14) * c.edge((1 - bone) * np.float32(0.02), 0.006)
    tissue += np.float32(0.22) * c.glow(0.10, 0.13, 0.16, 0.07)
    return tissue * c.row(0.86 + 0.14 * ramp(rows(), 0.0, 0.3))


def _heart(chest: Profile) -> Grid:
    """Heart, arch and descending aorta, hila: 0 .. about 0.8."""
    c, build = chest.canvas, chest.scene.anatomy
    big = chest.heart
    dome = chest.dome[1]
    r = c.ball(-0.105 + 0.35 * big, dome - 0.110 - 0.2 * big, 0.112 + 0.55 * big, 0.165 + 0.55 * big, 0.62)
    chord = np.sqrt(np.clip(1 - r, 0, 1))
    heart = c.edge((1 - r) * np.float32(0.06), 0.007) * (np.float32(0.26) + np.float32(0.40) * chord)
    wide = 1 + 1.1 * chest.widening
    root = c.ball(-0.062, 0.385, 0.056 * wide, 0.135, -0.10)
    heart = np.maximum(heart, np.float32(0.36 + 0.16 * chest.widening) * ramp(1.1 - root, 0.0, 0.75))
    aorta = Strokes(c)
    spine = np.interp(np.array([0.45, 0.60, 0.75]), rows(), chest.spine) - 0.030
    course = [(-0.045, 0.40), (-0.040, 0.315), (0.010, 0.268), (0.075, 0.285), (0.120, 0.350)]
    course += [(float(x), y) for x, y in zip(spine, (0.45, 0.60, 0.75), strict=True)]
    aorta.line(course, 0.0130, 0.20 + 0.12 * build.aorta)
    heart += aorta.draw()
    heart += np.float32(0.22 + 0.12 * build.hila) * c.glow(0.028, 0.425, 0.026, 0.036)
    return heart


def _vessels(chest: Profile, rng: np.random.Generator, fine: Strokes) -> None:
    swollen = max((f.severity for f in chest.scene.findings if f.kind == "edema"), default=0.0)
    strength = 0.13 + 0.06 * chest.scene.anatomy.hila + 0.05 * swollen
    fan = np.deg2rad(np.array([-150, -115, -85, -55, -25, 5, 28, 48, 66, 88, 118, 150], dtype=float))
    fan = fan + rng.normal(0, 0.10, len(fan))
    reach = np.array([0.20, 0.22, 0.22, 0.22, 0.20, 0.22, 0.26, 0.32, 0.32, 0.26, 0.24, 0.22])
    tree(fine, chest.canvas, rng, origins=np.array([[0.028, 0.425]]), headings=fan, lengths=reach, strength=strength)


def _bones(chest: Profile) -> Grid:
    c, y = chest.canvas, rows()
    thin = np.float32(1.0 - 0.25 * ramp(np.array(chest.scene.anatomy.age / 100), 0.55, 0.95))
    x = c.x - c.row(chest.spine)
    phase = (y - 0.04) / (0.050 + 0.016 * np.clip(y, 0, 1)) % 1.0
    body = ramp(np.abs(phase - 0.5), 0.48, 0.38)
    half = 0.026 + 0.012 * np.clip(y, 0, 1)
    plate = np.exp(-0.5 * ((np.abs(phase - 0.5) - 0.38) / 0.05) ** 2)
    column = c.edge(c.row(half - 0.003 * (1 - plate)) - np.abs(x), 0.005)
    # The spine darkens downwards: less muscle lies over it there, unless a finding fills the lung.
    total = column * c.row((0.07 + 0.15 * body + 0.10 * plate) * (1.15 - 0.45 * np.clip(y, 0, 1)))
    arch = np.exp(np.float32(-0.5) * ((x - np.float32(0.052)) / np.float32(0.018)) ** 2)
    total += arch * c.row(0.05 + 0.07 * np.exp(-0.5 * ((phase - 0.6) / 0.2) ** 2))
    breastbone = c.edge(np.float32(0.0105) - np.abs(chest.to_front + np.float32(0.014)), 0.004)
    total += np.float32(0.22) * breastbone * ramp(c.y, 0.17, 0.21) * ramp(c.y, 0.66, 0.58)
    reach = c.edge(chest.to_wall + np.float32(0.012), 0.004) * ramp(c.y, 0.12, 0.22) * ramp(c.y, 0.98, 0.86)
    lit = np.float32(0.30) + np.float32(0.70) * c.edge(chest.above[-1], 0.010)
    along = (np.float32(0.29) - c.x) * np.float32(1 / 0.56)
    slope = 0.24 + 0.14 * chest.scene.anatomy.rib_slope
    broken = [f for f in chest.scene.findings if f.kind == "fracture"]
    for index, (pitch, offset, height) in enumerate(((0.068, 0.02, 0.075), (0.073, 0.055, 0.055))):
        fall = (
            np.float32(slope) * along
            + np.float32(0.07) * along * along
            - np.float32(0.03) * np.sin(along * np.float32(3.1))
        )
        step = (c.y - np.float32(offset) - fall) * np.float32(1 / pitch)
        within = step - np.floor(step)
        gap = np.float32(1)
        if index == 0:
            for finding in broken:
                rib = {"upper": 2, "mid": 4, "lower": 6, "": 4}[finding.zone]
                hit = (np.floor(step) >= rib) & (np.floor(step) < rib + 1 + int(2.6 * finding.severity))
                where = np.float32(0.30 + 0.08 * finding.x)
                within = np.clip(within + hit * (along > where) * np.float32(0.2 + 0.2 * finding.severity), 0, 0.999)
                gap = gap - hit * np.float32(0.9) * np.exp(
                    np.float32(-0.5) * ((along - where) / np.float32(0.025)) ** 2
                )
        shape = rib_profile(c.pixel / pitch).take((within * 1024).astype(np.int32).clip(0, 1023))
        total += (
            shape
            * gap
            * reach
            * lit
            * np.float32(height)
            * (np.float32(0.55) + np.float32(0.45) * ramp(along, 0.95, 0.3))
        )
    for shift in (0.0, 0.035):  # the edges of the shoulder blades
        blade = np.float32(0.245 + shift) - np.float32(0.22) * (c.y - np.float32(0.24)) ** 2
        edge = np.exp(np.float32(-0.5) * ((c.x - blade) / np.float32(0.007)) ** 2)
        total += np.float32(0.13) * edge * ramp(c.y, 0.10, 0.16) * ramp(c.y, 0.44, 0.36)
    return total * thin


def _gas(chest: Profile, total: Grid) -> None:
    c, y = chest.canvas, rows()
    middle = c.row(-0.012 + 0.13 * np.clip(y, -0.1, 0.5))
    tube = c.edge(np.float32(0.016) - np.abs(c.x - middle), 0.006) * ramp(c.y, 0.41, 0.36)
    total -= np.float32(0.17) * tube * ramp(c.y, -0.05, 0.08)
    total -= np.float32(0.06) * c.edge((1 - c.ball(0.040, 0.395, 0.013, 0.013)) * np.float32(0.013), 0.004)
    bubble = c.ball(-0.050, chest.dome[1] + 0.062, 0.085, 0.040, 0.15)
    total -= np.float32(0.24) * c.edge((1 - bubble) * np.float32(0.03), 0.006) * np.sqrt(np.clip(1.15 - bubble, 0, 1))


def _draw_finding(
    chest: Profile,
    finding: Finding,
    sign: int,
    rng: np.random.Generator,
    wall: Grid,
    fill: Grid,
    dense: Grid,
    gone: Grid,
    fine: Strokes,
    airways: Strokes,
) -> None:
    """One finding; `fill` belongs to the lung of its side, which gives half of what a lateral view shows."""
    c, severity, kind = chest.canvas, finding.severity, finding.kind
    depth = float(rng.uniform(-1, 1))  # how far back: a frontal scene does not say, the finding's seed does
    y = _ZONE[finding.zone] + 0.06 * finding.y
    x = (0.125 if finding.zone == "lower" else 0.03) + 0.085 * depth
    x = max(x, float(np.interp(y, rows(), chest.front)) + 0.07)
    if kind in ("lung opacity", "consolidation", "pneumonia"):
        size = 0.055 + 0.075 * severity
        peak = {"lung opacity": 0.45 + 0.35 * severity, "pneumonia": 0.62 + 0.33 * severity}.get(
            kind, 0.75 + 0.25 * severity
        )
        rough = {"lung opacity": 0.30, "pneumonia": 0.42}.get(kind, 0.24)
        spot = patch(c, x, y, size, size * rng.uniform(0.85, 1.2), rng, rough)
        add_fill(fill, spot * np.float32(peak))
        dense += spot * wall * np.float32(0.05 + 0.12 * peak * severity)  # the other lung hides half of it: help it out
        if kind != "lung opacity":
            bronchograms(c, 1 if x > 0.03 else -1, x, y, size, severity, rng, airways)
    elif kind == "lung lesion":
        radius = 0.016 + 0.060 * severity**1.2
        field = c.ball(x, y, radius, radius * rng.uniform(0.85, 1.1), rng.uniform(0, 3))
        if severity > 0.45:
            field += np.float32(0.22) * c.texture(rng, 40)
        ball = c.edge((1 - field) * np.float32(radius * 0.5), 0.005)
        dense += ball * np.sqrt(np.clip(1.15 - field, 0, 1)) * np.float32(0.20 + 0.18 * severity)
    elif kind == "edema":
        cloud = np.clip(1 + np.float32(0.30) * c.texture(rng, 26) + np.float32(0.22) * c.texture(rng, 52), 0.2, 1.9)
        wing = c.glow(0.03, 0.46, 0.13 + 0.05 * severity, 0.15) * cloud
        add_fill(fill, np.clip(wing * np.float32(0.25 + 0.45 * severity), 0, 0.9))
        add_fill(fill, np.clip(ramp(c.y, 0.40, 0.72) * cloud * np.float32(0.06 + 0.16 * severity), 0, 0.9))
        fissure = (
            [(0.20, 0.30), (0.06, 0.47), (-0.13, 0.68)] if sign > 0 else [(0.04, 0.46), (-0.10, 0.475), (-0.24, 0.49)]
        )
        fine.line(fissure, 0.0022, 0.05 + 0.14 * severity)
    elif kind == "atelectasis":
        y = min(y, chest.dome_at(sign, x) - 0.045) if finding.zone == "lower" else y
        for band in range(1 + int(severity * 2.5)):
            half = 0.060 + 0.05 * severity
            lying = c.ball(
                x, y + 0.032 * band * (-1) ** band, half, 0.006 + 0.007 * severity, float(rng.uniform(-0.2, 0.6))
            )
            add_fill(fill, np.clip(1.5 * np.exp(-0.7 * lying), 0, 1) * np.float32(0.60 + 0.35 * severity))
        if severity > 0.45:
            loss = (severity - 0.45) / 0.55
            wedge = ramp(chest.above[sign], 0.04 + 0.10 * loss, -0.02) * ramp(c.x, -0.05, 0.10)
            add_fill(fill, wedge * np.float32(0.5 + 0.4 * loss))
    elif kind == "pneumothorax":
        gap = 0.020 + 0.110 * severity
        shrunk = np.minimum(chest.to_front - np.float32(gap), np.float32(0.3))
        from_top = c.y - np.float32(chest.apex + 0.02 + 1.1 * gap)
        shrunk = np.float32(-0.03) * np.logaddexp(shrunk * np.float32(-1 / 0.03), from_top * np.float32(-1 / 0.03))
        outside = c.edge(-shrunk, 0.003) * c.edge(chest.to_wall) * ramp(c.y, 0.70, 0.60)
        gone += (1 - gone) * outside * np.float32(0.8)
        width = np.float32(max(0.0026, 0.55 * c.pixel))
        line = np.exp(np.float32(-0.5) * (shrunk / width) ** 2) * wall * ramp(c.y, 0.70, 0.60)
        dense += line * np.float32(0.20) * np.float32(min(1.0, 0.0030 / float(width) + 0.2))
        dense -= outside * wall * np.float32(0.09 + 0.05 * severity)
        add_fill(fill, (1 - outside) * np.float32(0.06 + 0.30 * severity**1.5))
    elif kind == "pleural effusion":
        corner = chest.dome_at(sign, 0.235)
        level = corner - 0.035 - 0.42 * severity**1.15
        climb = (0.035 + 0.065 * severity) * np.exp(-np.maximum(chest.to_back, 0) / np.float32(0.035))
        climb += np.float32(0.03 * severity) * np.exp(-np.maximum(chest.to_front, 0) / np.float32(0.03))
        water = ramp(c.y - np.float32(level) + climb, -0.012, 0.022)
        add_fill(fill, water * np.float32(0.97))
        dense += water * np.float32(0.12) * wall * c.edge(chest.above[sign] + 0.03, 0.02)
    elif kind == "pleural other":
        thick = np.float32(0.012 + 0.030 * severity) * (1 + np.float32(0.35) * c.texture(rng, 18))
        along = np.exp(-(np.abs((c.y - np.float32(y)) / np.float32(0.09 + 0.13 * severity)) ** 4))
        coat = c.edge(thick * along - np.maximum(chest.to_back, 0), 0.004) * along
        add_fill(fill, coat * np.float32(0.95))
        dense += coat * np.float32(0.12 + 0.12 * severity) * wall
    elif kind == "fracture":
        dense += np.float32(0.06 + 0.16 * severity) * c.glow(0.12 - 0.045 * finding.x, y - 0.02, 0.020, 0.017)


def _draw_device(chest: Profile, device: Device, metal: Strokes, total: Grid) -> None:
    """Tubes, lines and implants as they lie in depth."""
    c, kind, tip = chest.canvas, device.kind, device.tip
    wave = float(np.random.default_rng(device.seed).normal(0, 0.006))
    front = [float(v) for v in np.interp(np.linspace(0.2, 0.7, 6), rows(), chest.front)]
    end = 0.24 + 0.33 * tip
    spacing = c.pixel * 0.7
    if kind == "endotracheal tube":
        stop = 0.205 + 0.21 * tip
        for way, sigma, height in (
            (-0.0095, 0.0013, 0.30),
            (0.0095, 0.0013, 0.30),
            (0.0, 0.0075, 0.16),
            (0.003, 0.0015, 0.5),
        ):
            metal.line([(-0.02 + way, -0.06), (0.0 + way, 0.10), (-0.012 + way + 0.13 * stop, stop)], sigma, height)
    elif kind == "enteric tube":
        dome = chest.dome[1]
        course = [
            (0.0, -0.06),
            (0.02, 0.12),
            (0.062, 0.32),
            (0.085, 0.50),
            (0.060, dome + 0.03),
            (0.0, dome + 0.12),
            (-0.09, dome + 0.17),
        ]
        keep = max(3, round(3 + 4 * tip))
        metal.line(course[:keep], 0.0042, 0.22)
        metal.line(course[:keep], 0.0014, 0.42)
    elif kind in ("central line", "picc", "port"):
        start = [(front[1] - 0.02, 0.315), (-0.11, 0.19), (-0.06, 0.145)]
        if kind != "port":
            start = (
                [(-0.02 + wave, -0.05), (-0.035, 0.10)]
                if kind == "central line"
                else [(-0.35, 0.02 + wave), (-0.15, 0.12)]
            )
        metal.line([*start, (-0.045, 0.20), (-0.030, max(end, 0.25))], 0.0026, 0.40)
        if kind == "port":
            metal.line([(front[1] - 0.030, 0.295), (front[1] - 0.012, 0.335)], 0.0085, 0.60)
    elif kind == "pacemaker":
        x, y = front[1] - 0.035, 0.285 + wave
        box = c.ball(x, y, 0.016, 0.044, 0.55)
        total += c.edge((1 - box * box) * np.float32(0.010), 0.003) * np.float32(0.85)
        enter = [(x + 0.01, y - 0.04), (-0.08, 0.17), (-0.045, 0.20), (-0.030, 0.34)]
        metal.line([*enter, (-0.025, 0.47), (-0.055, 0.455)], 0.0020, 0.42)
        low = chest.dome[1] - 0.045
        metal.line([*enter, (-0.025, 0.52), (-0.075, low - 0.02), (-0.12 - 0.08 * tip, low)], 0.0020, 0.42)
        metal.line([(-0.11 - 0.08 * tip, low - 0.002), (-0.125 - 0.08 * tip, low)], 0.0034, 0.55)
    elif kind == "chest tube":
        high = 0.55 - 0.36 * tip
        course = [(-0.02, 0.80), (0.02, 0.66), (0.075, 0.5 * (0.66 + high)), (0.085, high)]
        for way in (-0.010, 0.010):
            metal.line([(px + way, py) for px, py in course], 0.0013, 0.30)
        metal.line(course, 0.0088, 0.18)
        metal.line(course, 0.0018, 0.55)
    elif kind == "sternal wires":
        for index in range(6):
            y = 0.24 + 0.066 * index
            x = float(np.interp(y, rows(), chest.front)) - 0.014
            px, py = circle(x, y, 0.013, 0.007, spacing, 0.5)
            metal.curves(px[None], py[None], 0.0018, 0.70)
    elif kind == "valve prosthesis":
        px, py = circle(-0.045 + 0.01 * (tip - 0.5), 0.525 + wave, 0.030, 0.014, spacing, 0.75)
        metal.curves(px[None], py[None], 0.0032, 0.70)
