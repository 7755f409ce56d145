"""The frontal chest (PA and AP): anatomy, findings and devices as one map of attenuation."""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom.canvas import Canvas, Grid, Strokes, ramp, rows
from linkage_core.cohorts.phantom.chest import UNEVEN, Chest, sides
from linkage_core.cohorts.phantom.devices import CARINA, draw_device
from linkage_core.cohorts.phantom.findings import draw_finding
from linkage_core.cohorts.phantom.scene import Scene
from linkage_core.cohorts.phantom.vessels import tree

N_RIBS = 11


def attenuation(canvas: Canvas, scene: Scene) -> Grid:
    """The attenuation of a frontal chest at every pixel: 0 is air, about 1 the soft tissue of the shoulder."""
    chest = Chest(canvas, scene)
    body_rng = np.random.default_rng(patient_seed(scene))
    build = scene.anatomy
    c = canvas

    lung = c.edge(chest.to_wall) * c.edge(chest.to_inner, 0.012) * c.edge(chest.to_dome)
    fill = np.zeros_like(lung)  # share of the lung's air that fluid or tissue has replaced
    dense = np.zeros_like(lung)  # what findings add where there is no air to replace
    open_lung = np.ones_like(lung)  # 0 where a pneumothorax leaves no lung
    fine = Strokes(c)  # drawn only where there is lung
    airways = Strokes(c)  # drawn only where the lung is filled
    metal = Strokes(c)  # drawn over everything
    breaks: list[tuple[int, int, float, float]] = []
    for finding in scene.findings:
        rng = np.random.default_rng(finding.seed)
        for sign in sides(finding.side, finding.seed):
            draw_finding(chest, finding, sign, rng, lung, fill, dense, open_lung, fine, airways, breaks)

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
    seen = (lung + np.float32(0.25) * recess * (1 - lung)) * open_lung * (1 - np.float32(0.75) * fill) * thin
    total += fine.draw() * seen
    if airways:
        total += airways.draw() * fill * lung
    total += _bones(chest, breaks)
    _airway_and_gas(chest, total, metal)
    for device in scene.devices:
        draw_device(chest, device, metal, total)
    metal.draw(total)
    return total


def patient_seed(scene: Scene) -> list[int]:
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
        low = 0.530 + 0.06 * (0.5 + 0.5 * large) - (0.03 if chest.scene.view == "AP" else 0.0)
        for sign in (-1, 1):
            r = c.ball(sign * (0.215 + 0.02 * large), low, size * 1.20, size)
            tissue += (
                np.float32(0.22 + 0.10 * large)
                * np.clip(1 - r, 0, 1) ** np.float32(0.33)
                * ramp(c.y, low - size, low + 0.05)
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
        hilum = np.float32(0.20 + 0.14 * build.hila)
        hila += hilum * c.glow(sign * 0.082 + chest.shift, height, 0.020, 0.040, 0.35 * sign)
    return total, hila


def _vessels(chest: Chest, rng: np.random.Generator, fine: Strokes) -> None:
    build = chest.scene.anatomy
    swollen = max((f.severity for f in chest.scene.findings if f.kind == "edema"), default=0.0)
    strength = 0.165 + 0.07 * build.hila + 0.05 * swollen
    fan = np.deg2rad([-82.0, -62, -40, -18, 5, 24, 42, 57, 70, 84])
    reach = np.array([0.22, 0.25, 0.25, 0.24, 0.24, 0.28, 0.32, 0.34, 0.32, 0.26])
    fan, reach = np.tile(fan, 2), np.tile(reach, 2)
    fan = fan + rng.normal(0, 0.08, len(fan))
    reach = reach * rng.uniform(0.9, 1.08, len(reach))
    right = np.arange(len(fan)) < len(fan) // 2
    x, y = np.where(right, -0.078, 0.078) + chest.shift, np.where(right, 0.445, 0.425)
    headings = np.where(right, np.pi - fan, fan)
    tree(fine, chest.canvas, rng, origins=np.stack([x, y], axis=1), headings=headings, lengths=reach, strength=strength)


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
        shape = c.edge((1 - blade) * np.float32(0.05), 0.010)
        total += shape * (np.float32(0.060) + np.float32(0.045) * ramp(blade, 0.75, 0.98)) * thin
        head = c.ball(sign * 0.487, 0.165, 0.056, 0.060)
        total += c.edge((1 - head) * np.float32(0.03), 0.004) * (
            np.float32(0.22) + np.float32(0.10) * ramp(head, 0.7, 1.0)
        )
        shaft = c.ball(sign * 0.515, 0.36, 0.034, 0.20)
        total += c.edge((1 - shaft) * np.float32(0.02), 0.004) * np.float32(0.22)
    return total


def rib_profile(pixel_share: float) -> np.ndarray:
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
    pitch = chest.rib_pitch
    profile = rib_profile(chest.canvas.pixel / pitch)
    s = chest.across
    reach = c.edge(chest.to_wall + np.float32(0.010), 0.003)
    squared = s * s
    sag = np.float32(0.045 + 0.095 * slope) * squared * s - np.float32(0.018) * np.sin(
        np.minimum(s * 2, 1) * np.float32(np.pi)
    )
    uneven = np.where(chest.right, np.float32(UNEVEN[-1]), np.float32(UNEVEN[1]))  # no two sides are quite alike
    phase = (c.y - np.float32(chest.apex - 0.035) - sag) * np.float32(1 / pitch) + uneven
    index = np.floor(phase)
    within = phase - index
    shifts = np.zeros_like(within) if breaks else None
    for sign, rib, where, jump in breaks:
        # The outer piece of a broken rib is displaced, and there is a gap between the pieces.
        hit = (index == rib) & (chest.right == (sign < 0))
        shifts += np.where(hit & (s > where), np.float32(jump), np.float32(0))
    if shifts is not None:
        within = np.clip(within + shifts, 0, 0.999)
    valid = (index >= 0) & (index < N_RIBS)
    back = profile.take((within * 1024).astype(np.int32).clip(0, 1023)) * valid
    back *= reach * c.edge(chest.a - np.float32(0.030), 0.006)
    for sign, rib, where, _ in breaks:
        gap = np.exp(np.float32(-0.5) * ((s - np.float32(where)) / np.float32(0.020)) ** 2)
        back *= 1 - np.float32(0.9) * gap * ((index == rib) & (chest.right == (sign < 0)))
    back *= np.float32(0.30) + np.float32(0.70) * ramp(chest.to_dome, -0.07, 0.01)
    back *= np.float32(0.135) + np.float32(0.085) * squared
    open_s = np.clip(1 - s, 0, 1)
    rise = np.float32(0.19 + 0.07 * slope) * open_s + np.float32(0.02)
    front_phase = (c.y - np.float32(chest.apex + 0.055) - rise) * np.float32(1 / (pitch * 1.08))
    front_index = np.floor(front_phase)
    front = profile.take(((front_phase - front_index) * 1024).astype(np.int32).clip(0, 1023))
    front *= (front_index >= 0) & (front_index < 7)
    front *= reach * ramp(s, 0.36, 0.62)
    return back + front * np.float32(0.085)


def _airway_and_gas(chest: Chest, total: Grid, air: Strokes) -> None:
    """Trachea and main bronchi, stomach and bowel gas."""
    c, y = chest.canvas, rows()
    x0 = chest.shift * 0.8 + chest.turn * 0.6
    bow = x0 - 0.010 * np.exp(-0.5 * ((y - 0.32) / 0.06) ** 2) * (0.4 + chest.scene.anatomy.aorta)
    tube = c.edge(np.float32(0.0155) - np.abs(c.x - c.row(bow)), 0.005) * ramp(c.y, CARINA + 0.012, CARINA - 0.012)
    total -= np.float32(0.20) * tube * ramp(c.y, -0.05, 0.06)
    air.line([(x0, CARINA - 0.008), (x0 - 0.030, CARINA + 0.035), (x0 - 0.062, CARINA + 0.085)], 0.0085, -0.17)
    air.line([(x0, CARINA - 0.008), (x0 + 0.040, CARINA + 0.030), (x0 + 0.085, CARINA + 0.055)], 0.0080, -0.17)
    dome = chest.dome[1]
    bubble = c.ball(0.150, dome + 0.072, 0.078, 0.042, -0.25)
    total -= np.float32(0.34) * c.edge((1 - bubble) * np.float32(0.03), 0.006) * np.sqrt(np.clip(1.15 - bubble, 0, 1))
    fold = c.ball(0.235, dome + 0.155, 0.060, 0.030, 0.5)
    total -= np.float32(0.16) * np.clip(1 - fold, 0, 1)
