"""The frontal chest (PA and AP): anatomy, findings and devices as one map of attenuation."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Canvas, Grid, Strokes, circle, polyline, ramp, rows
from linkage_core.cohorts.phantom.scene import Device, Finding, Scene
from linkage_core.cohorts.phantom.vessels import tree

CARINA = 0.375
N_RIBS = 11
_ZONE = {"upper": 0.24, "mid": 0.52, "lower": 0.80, "": 0.55}
_SIGN = {"right": -1, "left": 1}


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


_SHAPING = ("cardiomegaly", "enlarged cardiomediastinum")


def attenuation(canvas: Canvas, scene: Scene) -> Grid:
    """The attenuation of a frontal chest at every pixel: 0 is air, about 1 the soft tissue of the shoulder."""
    chest = Chest(canvas, scene)
    body_rng = np.random.default_rng(_patient_seed(scene))
    build = scene.anatomy
    c = canvas

    lung = c.edge(chest.to_wall) * c.edge(chest.to_inner, 0.012) * c.edge(chest.to_dome)
    fill = np.zeros_like(lung)  # share of the lung's air that fluid or tissue has replaced
    dense = np.zeros_like(lung)  # what findings add where there is no air to replace
    open_lung = np.ones_like(lung)  # 0 where a pneumothorax leaves no lung
    fine = Strokes(c)  # drawn only where there is lung
    metal = Strokes(c)  # drawn over everything
    breaks: list[tuple[int, int, float, float]] = []
    for finding in scene.findings:
        rng = np.random.default_rng(finding.seed)
        for sign in sides(finding.side, finding.seed):
            _draw_finding(chest, finding, sign, rng, lung, fill, dense, open_lung, fine, metal, breaks)

    depth = np.float32(0.60) + np.float32(0.40) * np.sqrt(np.clip(chest.to_wall * np.float32(1 / 0.10), 0, 1))
    depth *= np.float32(0.80) + np.float32(0.20) * ramp(c.y, 0.12, 0.42)
    grain = c.texture(body_rng, 40) * np.float32(0.016) + c.texture(body_rng, 90) * np.float32(0.010)
    texture = grain * lung * (1 - fill)
    air = lung * depth * (1 - fill)

    heart, hila = _mediastinum(chest)
    total = _soft_tissue(chest)
    # The midline holds the mediastinum in the place of lung, so most of it adds only where there is lung around it.
    total += (heart + hila) * (np.float32(0.22) + np.float32(0.78) * lung * (1 - np.float32(0.8) * fill))
    total += np.float32(0.022) * c.texture(body_rng, 22) * np.minimum(total, 1)
    thin = 1 - np.float32(0.85) * np.minimum(heart, 1)  # lung in front of and behind the heart
    # Behind the domes the lung reaches further down than its outline shows.
    recess = c.edge(chest.to_wall, 0.01) * c.edge(chest.to_inner, 0.02) * np.exp(np.minimum(chest.to_dome, 0) / 0.035)
    total -= np.float32(0.10) * recess * (1 - lung)
    total -= (np.float32(0.80) - np.float32(0.05) * np.float32(build.habitus)) * air
    total += texture + dense
    _vessels(chest, body_rng, fine)
    total += fine.draw() * (lung + np.float32(0.25) * recess * (1 - lung)) * open_lung * (1 - np.float32(0.75) * fill) * thin
    total += _bones(chest, breaks)
    _airway_and_gas(chest, total)
    for device in scene.devices:
        _draw_device(chest, device, metal, total)
    metal.draw(total)
    return total


def _patient_seed(scene: Scene) -> list[int]:
    """A seed from the build, so that all images of a patient share their vessels."""
    build = scene.anatomy
    parts = (
        build.habitus,
        build.chest_shape,
        build.heart_size,
        build.aorta,
        build.scoliosis,
        build.rib_slope,
        build.hila,
    )
    return [build.age, *(int(abs(part) * 1e6) for part in parts)]


def _soft_tissue(chest: Chest) -> Grid:
    """Trunk, neck, shoulders and arms; breasts."""
    c, build, y = chest.canvas, chest.scene.anatomy, rows()
    large = build.habitus
    side = chest.half_width + 0.052 + 0.030 * large
    neck, slope = 0.098 + 0.020 * large, 0.135 - 0.012 * large
    shoulder = neck + (0.56 - neck) * ramp(y, slope - 0.16, slope + 0.075) ** 0.9
    trunk = np.where(y < 0.30, shoulder, shoulder + (side - shoulder) * ramp(y, 0.30, 0.42))
    trunk = trunk + 0.02 * (1 + large) * ramp(y, 0.6, 1.0)
    border = c.row(trunk)
    inside = c.edge(border - chest.a, 0.004)
    rim = np.sqrt(np.clip((border - chest.a) * np.float32(1 / 0.16), 0, 1))
    tissue = inside * (np.float32(0.34 + 0.05 * large) + np.float32(0.66 + 0.08 * large) * rim)
    tissue *= c.row(0.80 + 0.20 * ramp(y, -0.05, 0.30) + 0.10 * ramp(y, 0.55, 0.85))
    arm = c.row(0.475 + 0.02 * large + 0.05 * ramp(y, 0.38, 0.75))
    limb = c.edge(chest.a - arm, 0.004) * c.edge(c.y - 0.22, 0.06) * (1 - inside)
    tissue += limb * (np.float32(0.45) * np.sqrt(np.clip((chest.a - arm) / 0.05, 0, 1)) + np.float32(0.2))
    if build.sex == "F":
        size = 0.105 + 0.028 * large
        low = 0.655 + 0.05 * (0.5 + 0.5 * large) - (0.03 if chest.scene.view == "AP" else 0.0)
        for sign in (-1, 1):
            r = c.ball(sign * (0.205 + 0.02 * large), low, size * 1.15, size)
            tissue += (
                np.float32(0.17 + 0.09 * large) * np.sqrt(np.clip(1 - r, 0, 1)) * ramp(c.y, low - size, low + 0.02)
            )
    else:
        for sign in (-1, 1):
            tissue += np.float32(0.05) * c.glow(sign * 0.25, 0.40, 0.10, 0.09)
    return tissue


def _mediastinum(chest: Chest) -> tuple[Grid, Grid]:
    """Heart, great vessels and hila."""
    c, build = chest.canvas, chest.scene.anatomy
    x = c.x - np.float32(chest.shift + chest.turn)
    left, right = c.row(chest.heart_left), c.row(chest.heart_right)
    width = np.maximum(left + right, 0.01)
    inside = c.edge(np.minimum(left - x, x + right), 0.005)
    chord = np.clip((left - x) * (x + right) * 4 / (width * width), 0, 1)
    heart = inside * (np.float32(0.34) + np.float32(0.36) * np.sqrt(chord)) * ramp(width, 0.03, 0.14)
    band_left, band_right = c.row(chest.band_left), c.row(chest.band_right)
    upper = c.edge(np.minimum(band_left - x, x + band_right), 0.005)
    bulk = upper * (np.float32(0.36) + np.float32(0.16) * ramp(c.y, 0.1, 0.3))
    knob = np.float32(0.10 + 0.10 * build.aorta) * ramp(1.15 - c.ball(0.028 + chest.shift, 0.315, 0.040, 0.036), 0, 0.5)
    aorta = np.float32(0.07) * c.edge(
        0.017 - np.abs(x - c.row(0.034 + 0.012 * build.aorta * np.sin(9 * rows()))), 0.004
    )
    aorta *= ramp(c.y, 0.30, 0.36)
    total = np.maximum(heart, bulk) + np.float32(0.35) * np.minimum(heart, bulk) + knob + aorta
    hila = np.zeros_like(total)
    for sign, height in ((-1, 0.445), (1, 0.425)):
        hilum = np.float32(0.13 + 0.10 * build.hila)
        hila += hilum * c.glow(sign * 0.082 + chest.shift, height, 0.020, 0.040, 0.35 * sign)
    return total, hila


def _vessels(chest: Chest, rng: np.random.Generator, fine: Strokes) -> None:
    build = chest.scene.anatomy
    swollen = max((f.severity for f in chest.scene.findings if f.kind == "edema"), default=0.0)
    strength = 0.125 + 0.06 * build.hila + 0.05 * swollen
    for sign, height in ((-1, 0.445), (1, 0.425)):
        fan = np.deg2rad(np.array([-82, -62, -40, -18, 5, 24, 42, 57, 70, 84], dtype=float))
        fan = fan + rng.normal(0, 0.08, len(fan))
        reach = np.array([0.22, 0.25, 0.25, 0.24, 0.24, 0.28, 0.32, 0.34, 0.32, 0.26])
        reach = reach * rng.uniform(0.9, 1.08, len(reach))
        headings = fan if sign > 0 else np.pi - fan
        origin = (sign * 0.078 + chest.shift, height)
        tree(fine, chest.canvas, rng, origin=origin, headings=headings, lengths=reach, strength=strength)


def _bones(chest: Chest, breaks: list[tuple[int, int, float, float]]) -> Grid:
    c, build, y = chest.canvas, chest.scene.anatomy, rows()
    thin = np.float32(1.0 - 0.25 * ramp(np.array(build.age / 100), 0.55, 0.95))
    total = _ribs(chest, breaks) * thin

    # The spine: bodies with discs between them, pedicles and spinous processes.
    x = c.x - c.row(chest.spine_table)
    pitch = 0.047 + 0.004 * build.chest_shape
    phase = (y - 0.03) / (pitch + 0.018 * np.clip(y, 0, 1)) % 1.0
    body = ramp(np.abs(phase - 0.5), 0.5, 0.36)
    half = 0.030 + 0.010 * np.clip(y, 0, 1)
    column = c.edge(c.row(half + 0.004 * (1 - body)) - np.abs(x), 0.008)
    total += column * c.row(0.035 + 0.065 * body) * thin
    pedicle = c.row(np.exp(-0.5 * ((phase - 0.45) / 0.16) ** 2))
    total += np.float32(0.09) * pedicle * np.exp(-0.5 * ((np.abs(x) - np.float32(0.024)) / np.float32(0.006)) ** 2)
    spinous = c.row(np.exp(-0.5 * ((phase - 0.8) / 0.14) ** 2))
    total += np.float32(0.07) * spinous * np.exp(-0.5 * (x / np.float32(0.006)) ** 2)

    # Clavicles: an S from the sternum to the shoulder; they rise when the patient lies.
    lift = 0.022 if chest.scene.view == "AP" else 0.0
    turned = np.where(chest.right, np.float32(chest.turn), np.float32(-chest.turn))
    s = (chest.a + turned - np.float32(0.028)) * np.float32(1 / 0.40)
    inside = np.clip(s, 0, 1)
    middle = np.float32(0.238 - lift) - np.float32(0.108 - 1.4 * lift) * inside
    middle -= np.float32(0.020) * np.sin(inside * np.float32(2 * np.pi))
    thick = np.float32(0.0125) + np.float32(0.006) * np.abs(inside - np.float32(0.45)) * 2
    z = (c.y - middle) / thick
    collar = c.edge((1 - np.abs(z)) * thick, 0.003) * c.edge(s * np.float32(0.3), 0.006) * ramp(s, 1.12, 1.02)
    total += collar * thin * (np.float32(0.17) + np.float32(0.13) * z * z)

    # Shoulder: scapula beside the chest (PA) or over it (AP), humeral head, acromion.
    inward = 0.060 if chest.scene.view == "AP" else 0.0
    for sign in (-1, 1):
        blade = c.ball(sign * (0.415 - inward), 0.315, 0.075, 0.165, 0.16 * sign)
        shape = c.edge((1 - blade) * np.float32(0.05), 0.005)
        total += shape * (np.float32(0.060) + np.float32(0.045) * ramp(blade, 0.75, 0.98)) * thin
        head = c.ball(sign * 0.487, 0.165, 0.056, 0.060)
        total += c.edge((1 - head) * np.float32(0.03), 0.004) * (
            np.float32(0.22) + np.float32(0.10) * ramp(head, 0.7, 1.0)
        )
        shaft = c.ball(sign * 0.515, 0.36, 0.034, 0.20)
        total += c.edge((1 - shaft) * np.float32(0.02), 0.004) * np.float32(0.22)
    return total


def _rib_profile(pixel_share: float) -> np.ndarray:
    """The height of a rib over one period (1024 samples): rounded, with denser borders, as soft as the pixels."""
    q = (np.arange(1024) + 0.5) / 1024
    z = (q - 0.5) / 0.215
    flat = np.clip(1 - z * z, 0, 1) ** 0.4 * (0.62 + 0.38 * np.abs(z) ** 2)
    lower = 0.20 * np.exp(-0.5 * ((z - 0.86) / 0.10) ** 2)
    spread = max(pixel_share * 0.35, 0.012)
    kernel = np.exp(-0.5 * (np.minimum(q - q[0], 1 - (q - q[0])) / spread) ** 2)
    shape = np.fft.irfft(np.fft.rfft(flat + lower) * np.fft.rfft(kernel / kernel.sum()), 1024)
    return shape.astype(np.float32)


def _ribs(chest: Chest, breaks: list[tuple[int, int, float, float]]) -> Grid:
    c, build = chest.canvas, chest.scene.anatomy
    slope = build.rib_slope
    pitch = 0.0625 + 0.004 * build.chest_shape + 0.004 * (chest.scene.inspiration - 0.6)
    profile = _rib_profile(chest.canvas.pixel / pitch)
    s = chest.across
    reach = c.edge(chest.to_wall + np.float32(0.010), 0.003)
    squared = s * s
    sag = np.float32(0.045 + 0.095 * slope) * squared * s - np.float32(0.018) * np.sin(
        np.minimum(s * 2, 1) * np.float32(np.pi)
    )
    phase = (c.y - np.float32(chest.apex - 0.035) - sag) * np.float32(1 / pitch)
    index = np.floor(phase)
    within = phase - index
    shifts = np.zeros_like(within) if breaks else None
    for sign, rib, where, jump in breaks:
        # The outer piece of a broken rib is displaced, and there is a gap between the pieces.
        hit = (index == rib) & (chest.right == (sign < 0))
        shifts += np.where(hit & (s > where), np.float32(jump), np.float32(0))  # type: ignore[operator]
    if shifts is not None:
        within = np.clip(within + shifts, 0, 0.999)
    valid = (index >= 0) & (index < N_RIBS)
    back = profile.take((within * 1024).astype(np.int32).clip(0, 1023)) * valid
    back *= reach * c.edge(chest.a - np.float32(0.030), 0.006)
    for sign, rib, where, _ in breaks:
        gap = np.exp(np.float32(-0.5) * ((s - np.float32(where)) / np.float32(0.020)) ** 2)
        back *= 1 - np.float32(0.9) * gap * ((index == rib) & (chest.right == (sign < 0)))
    back *= np.float32(0.135) + np.float32(0.085) * squared
    open_s = np.clip(1 - s, 0, 1)
    rise = np.float32(0.19 + 0.07 * slope) * open_s + np.float32(0.02)
    front_phase = (c.y - np.float32(chest.apex + 0.055) - rise) * np.float32(1 / (pitch * 1.08))
    front_index = np.floor(front_phase)
    front = profile.take(((front_phase - front_index) * 1024).astype(np.int32).clip(0, 1023))
    front *= (front_index >= 0) & (front_index < 7)
    front *= reach * ramp(s, 0.36, 0.62)
    return back + front * np.float32(0.085)


def _airway_and_gas(chest: Chest, total: Grid) -> None:
    """Trachea and main bronchi, stomach and bowel gas."""
    c, y = chest.canvas, rows()
    x0 = chest.shift * 0.8 + chest.turn * 0.6
    bow = x0 - 0.010 * np.exp(-0.5 * ((y - 0.32) / 0.06) ** 2) * (0.4 + chest.scene.anatomy.aorta)
    tube = c.edge(np.float32(0.0155) - np.abs(c.x - c.row(bow)), 0.005) * ramp(c.y, CARINA + 0.012, CARINA - 0.012)
    total -= np.float32(0.20) * tube * ramp(c.y, -0.05, 0.06)
    air = Strokes(c)
    air.line([(x0, CARINA - 0.008), (x0 - 0.030, CARINA + 0.035), (x0 - 0.062, CARINA + 0.085)], 0.0085, -0.17)
    air.line([(x0, CARINA - 0.008), (x0 + 0.040, CARINA + 0.030), (x0 + 0.085, CARINA + 0.055)], 0.0080, -0.17)
    air.draw(total)
    dome = chest.dome[1]
    bubble = c.ball(0.150, dome + 0.072, 0.078, 0.042, -0.25)
    total -= np.float32(0.34) * c.edge((1 - bubble) * np.float32(0.03), 0.006) * np.sqrt(np.clip(1.15 - bubble, 0, 1))
    fold = c.ball(0.235, dome + 0.155, 0.060, 0.030, 0.5)
    total -= np.float32(0.16) * np.clip(1 - fold, 0, 1)


def _patch(chest: Chest, x: float, y: float, rx: float, ry: float, rng: np.random.Generator, rough: float) -> Grid:
    """An ill-defined patch with a ragged border: 0..1."""
    c = chest.canvas
    field = np.sqrt(c.ball(x, y, rx * rng.uniform(0.8, 1.25), ry, rng.uniform(-0.6, 0.6)))
    field += np.float32(rough) * (c.texture(rng, 14) * np.float32(0.6) + c.texture(rng, 34) * np.float32(0.4))
    return ramp(field, 1.25, 0.45)


def _add(fill: Grid, part: Grid) -> None:
    """Joins a further filling: what is already without air cannot lose it twice."""
    fill += (1 - fill) * part


def _draw_finding(
    chest: Chest,
    finding: Finding,
    sign: int,
    rng: np.random.Generator,
    lung: Grid,
    fill: Grid,
    dense: Grid,
    open_lung: Grid,
    fine: Strokes,
    metal: Strokes,
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
        patch = _patch(chest, x, y, size * rng.uniform(0.85, 1.15), size * rng.uniform(0.85, 1.2), rng, rough)
        _add(fill, patch * np.float32(peak) * chest.on_side(sign))
        if kind != "lung opacity":
            _bronchograms(chest, sign, x, y, size, severity, rng, fine)
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
        _add(fill, np.clip(wing * cloud * np.float32(0.22 + 0.50 * severity), 0, 0.9) * chest.on_side(sign))
        base = np.float32(0.05 + 0.16 * severity) * ramp(c.y, 0.40, 0.70) * cloud
        _add(fill, np.clip(base, 0, 0.9) * chest.on_side(sign))
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
        _add(fill, coat * np.float32(0.85))
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
    pitch = 0.0625 + 0.004 * build.chest_shape + 0.004 * (chest.scene.inspiration - 0.6)
    y = chest.apex - 0.035 + (rib + 0.5) * pitch + (0.045 + 0.095 * build.rib_slope) * where**3
    x = sign * where * float(np.interp(y, rows(), chest.wall_table))
    dense += np.float32(0.08 + 0.26 * severity) * chest.canvas.glow(x, y, 0.020 + 0.008 * severity, 0.018)


def _bronchograms(
    chest: Chest, sign: int, x: float, y: float, size: float, severity: float, rng: np.random.Generator, fine: Strokes
) -> None:
    """Dark branching airways seen against lung without air."""
    n_tubes = 6
    outward = 0.0 if sign > 0 else np.pi
    heading = outward + sign * np.deg2rad(rng.uniform(5, 65, n_tubes))
    x0 = x - 0.55 * size * np.cos(heading) + rng.normal(0, 0.25 * size, n_tubes)
    y0 = y - 0.55 * size * np.sin(heading) + rng.normal(0, 0.25 * size, n_tubes)
    t = np.linspace(0, 1, 12 + int(0.25 / chest.canvas.pixel))[None, :]
    for fork in (0.0, 0.45, -0.40):
        bend = heading[:, None] + fork * np.maximum(t - 0.35, 0) * 2
        reach = 1.25 * size * (t if fork == 0 else t * 0.9)
        px, py = x0[:, None] + np.cos(bend) * reach, y0[:, None] + np.sin(bend) * reach
        fine.curves(px, py, 0.0040 * (1 - 0.5 * t), -(0.16 + 0.24 * severity) * (1 - 0.6 * t) * (0.5 if fork else 1.0))


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
        _add(
            fill, np.clip(1.5 * np.exp(-0.7 * turned), 0, 1) * np.float32(0.45 + 0.35 * severity) * chest.on_side(sign)
        )
    if severity > 0.45:
        loss = (severity - 0.45) / 0.55
        if finding.zone == "upper":
            wedge = ramp(chest.to_dome, chest.dome[sign] - 0.34 + 0.02 * loss, chest.dome[sign] - 0.20)
        else:
            wedge = ramp(chest.to_dome - np.float32(0.35) * (np.float32(0.2) - chest.a), 0.05 + 0.09 * loss, -0.02)
        _add(fill, wedge * np.float32(0.35 + 0.45 * loss) * chest.on_side(sign))


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
    _add(fill, (1 - outside) * side * lung * np.float32(0.06 + 0.30 * severity**1.5))


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
    _add(fill, water * np.float32(0.96))
    veil = ramp(below, -0.30, 0.05) * side * np.float32((0.22 if supine else 0.07) * severity)
    _add(fill, veil)
    dense += water * np.float32(0.10) * c.edge(chest.to_wall, 0.004) * c.edge(chest.to_dome + 0.05, 0.03)


def _draw_device(chest: Chest, device: Device, metal: Strokes, total: Grid) -> None:
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
            (-0.006 + wave, -0.06), (-0.004 + wave, 0.10), (0.012 + mid, 0.26), (0.016 + mid, 0.42), (0.018 + mid, 0.58),
            (0.030 + mid, dome), (0.075, dome + 0.065), (0.130, dome + 0.130), (0.130, dome + 0.200), (0.060, dome + 0.235),
            (-0.040, dome + 0.225),
        ]  # fmt: skip
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
            (sign * 0.53, 0.42 + wave), (sign * 0.47, 0.27 + wave), (sign * 0.37, 0.185), (sign * 0.25, 0.178 + wave),
            (sign * 0.13, 0.192),
        ]  # fmt: skip
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
        total += chest.canvas.edge((1 - shell) * np.float32(0.012), 0.003) * (np.float32(0.55) + np.float32(0.25) * ramp(shell, 0.6, 0.9))
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
        points = [(sign * 0.52, low + 0.045), (sign * 0.40, low), (sign * 0.295, 0.5 * (low + high) - 0.02), (sign * 0.20, high + 0.03),
                  (sign * 0.155, high)]  # fmt: skip
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
