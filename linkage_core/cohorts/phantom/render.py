"""From a scene to a radiograph: attenuation, scatter, film curve, grain, collimation and side marker.

A stylised chest, not a simulation: it is meant to carry what reports speak of, at 64 pixels as well as at 512.
"""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.phantom import frontal, lateral
from linkage_core.cohorts.phantom.canvas import SIGMAS, Canvas, Grid, Strokes, blur_matrix
from linkage_core.cohorts.phantom.scene import DEVICE_KINDS, FINDING_KINDS, Scene
from linkage_core.errors import InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.validate import one_of

BITS = 12
_LARGEST = 4096


def render(scene: Scene, size: int) -> np.ndarray:
    """What does this scene look like?

    Returns (size, size) uint16, dark is air, with 12 bits of real depth spread over 0..65535. The same scene and size
    give the same pixels; other sizes give the same picture, scaled. Raises InputError for a size outside 16..4096 or
    an unknown view or kind.
    """
    if not 16 <= size <= _LARGEST:
        raise InputError(f"size is {size!r}.", f"Ask for 16 to {_LARGEST} pixels a side.")
    one_of("view", scene.view, ("PA", "AP", "LATERAL"))
    for drawn, kinds in ((scene.findings, FINDING_KINDS), (scene.devices, DEVICE_KINDS)):
        for item in drawn:
            one_of("kind", item.kind, kinds)
    scale = 2 if size <= 160 else 1  # small images are drawn twice as fine and averaged, or thin lines would alias
    n = size * scale
    rng = np.random.default_rng(scene.noise_seed)
    place, frame = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 7)  # before the grain, whose number of draws is the size's
    canvas = Canvas(
        n,
        tilt=0.35 * scene.rotation,
        zoom=1.0 + 0.03 * float(place[0]),
        shift=(0.014 * float(place[1]), 0.014 * float(place[2])),
    )
    view = lateral if scene.view == "LATERAL" else frontal
    grey = _film(view.attenuation(canvas, scene), scene, canvas, rng, frame)
    if scale == 2:
        grey = 0.25 * (grey[0::2, 0::2] + grey[1::2, 0::2] + grey[0::2, 1::2] + grey[1::2, 1::2])
    steps = (np.clip(grey, 0, 1) * np.float32(4095) + np.float32(0.5)).astype(np.uint16)
    return (steps << 4) | (steps >> 8)


def radiograph(scene: Scene, size: int) -> Radiograph:
    """The same picture as a Radiograph, which also says its depth."""
    return Radiograph(pixels=render(scene, size), bits=BITS)


def _film(total: Grid, scene: Scene, canvas: Canvas, rng: np.random.Generator, frame: np.ndarray) -> Grid:
    """Grey values 0..1 of an attenuation map, as one of two vendors would show them."""
    n, site_b = canvas.n, scene.site == "B"
    signal = np.exp(np.float32(-1.35) * np.maximum(total, 0))
    haze = blur_matrix(n, 0.09)
    signal = signal * np.float32(0.93) + np.float32(0.07) * (haze @ signal @ haze)
    noise = rng.standard_normal((n, n), dtype=np.float32) * np.float32(min(n / 512, 1.0))
    amount = (0.016 if site_b else 0.011) * float(np.exp(-0.45 * scene.exposure))
    seen = np.log(signal + np.float32(0.004)) * np.float32(-1 / 1.35)
    seen += noise * np.float32(amount) / np.sqrt(signal + np.float32(0.08))
    if site_b:
        soft = blur_matrix(n, 0.016)
        seen += np.float32(0.45) * (seen - soft @ seen @ soft)
    centre = (0.70 if site_b else 0.74) + 0.11 * scene.exposure
    width = 0.225 if site_b else 0.265
    grey = 1 / (1 + np.exp((np.float32(centre) - seen) * np.float32(1 / width)))
    low = 1 / (1 + np.exp(centre / width))
    grey = np.maximum(grey - np.float32(low), 0) * np.float32((0.97 if site_b else 1.0) / (1 - low))
    if site_b:
        grey = np.float32(0.03) + grey ** np.float32(0.92)
    return _frame(grey, scene, canvas.n, frame)


def _frame(grey: Grid, scene: Scene, n: int, chance: np.ndarray) -> Grid:
    """Collimator edges and the lead letter that marks a side."""
    plain = Canvas(n, tilt=0.7 * float(chance[0]))
    left, right, top, bottom = (float(v) for v in 0.011 * (1 + chance[1:5]))
    if scene.site == "B":
        inside = np.minimum(np.minimum(plain.x + (0.49 - left), (0.49 - right) - plain.x), plain.y - top)
        grey = grey * (np.float32(0.06) + np.float32(0.94) * plain.edge(inside, 0.004))
    else:
        inside = np.minimum(
            np.minimum(plain.y - top, 1 - bottom - plain.y), np.minimum(plain.x + 0.5 - 0.3 * left, 0.5 - plain.x)
        )
        grey = grey * plain.edge(inside, 0.003)
    marks = Strokes(plain)
    strokes = _letter("R" if scene.site == "B" else "L")
    x, y, high = (-0.435, 0.075, 0.045) if scene.site == "B" else (0.400, 0.060, 0.052)
    x, y = x + 0.012 * float(chance[5]), y + 0.010 * float(chance[6])
    for stroke in strokes:
        marks.line([(x + high * a, y + high * b) for a, b in stroke], SIGMAS[1], 1.6, smooth=False)
    ink = np.clip(marks.draw(), 0, 1)
    return grey + (np.float32(0.95) - grey) * ink


def _letter(name: str) -> list[list[tuple[float, float]]]:
    if name == "L":
        return [[(0.0, 0.0), (0.0, 1.0), (0.6, 1.0)]]
    bowl = [(0.0, 0.0), (0.45, 0.02), (0.62, 0.16), (0.62, 0.36), (0.45, 0.50), (0.0, 0.52)]
    return [[(0.0, 1.0), (0.0, 0.0)], bowl, [(0.28, 0.52), (0.65, 1.0)]]
