"""A picture is, to the last bit, what Pillow's own resize makes of the same grey values."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from linkage_core.encoders import resampling
from linkage_core.encoders.pictures import resized
from linkage_core.encoders.pixels import fitted, full_range

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


def content(kind, height, width):
    """(height, width) uint16: noise, and what makes sums overshoot on both sides or fall between two values."""
    rng = np.random.default_rng(height * width)
    rows, columns = np.indices((height, width))
    return {
        "noise": lambda: rng.integers(0, 65536, (height, width)),
        "checks": lambda: 65535 * ((rows + columns) % 2),
        "bars": lambda: 65535 * (columns // max(1, width // 40) % 2),
        "halves": lambda: 257 * (100 + (columns % 2)),
        "extremes": lambda: 65535 * rng.integers(0, 2, (height, width)),
        "constant": lambda: np.full((height, width), 40_000),
    }[kind]().astype(np.uint16)


def plain(pixels, size, resample):
    """What Pillow makes of the rounded values."""
    grey = np.round(pixels / 257).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize(size[::-1], resample))


def ours(pixels, size, resample):
    return resized(pixels, size=size, resample=resample)


KINDS = ["noise", "checks", "bars", "halves", "extremes", "constant"]
sides = st.integers(1, 90)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 60), st.integers(1, 900), sides, sides, st.sampled_from([2, 3, 1, 0]))
@example("extremes", 3, 20_000, 3, 224, 3)
@example("checks", 5, 448, 5, 224, 3)  # half, and rows as they are
@example("noise", 700, 1301, 90, 301, 2)  # several strips
def test_a_resized_picture_is_pillows(kind, height, width, new_height, new_width, resample):
    pixels = content(kind, height, width)
    expected = plain(pixels, (new_height, new_width), resample)
    np.testing.assert_array_equal(ours(pixels, (new_height, new_width), resample), expected)


@pytest.mark.parametrize("shape", [(2500, 2048), (2021, 2547), (512, 512), (224, 900), (300, 225), (90, 2000)])
@pytest.mark.parametrize("kind", ["noise", "checks"])
def test_the_models_pictures_are_pillows(shape, kind):
    pixels = content(kind, *shape)
    height, width = shape

    def shorter(side):
        long = int(side * max(shape) / min(shape))
        return (long, side) if width <= height else (side, long)

    whole = plain(pixels, shorter(224), BICUBIC)
    top, left = (whole.shape[0] - 224) // 2, (whole.shape[1] - 224) // 2
    clip = resized(pixels, shortest=224, crop=(224, 224))
    np.testing.assert_array_equal(clip, whole[top : top + 224, left : left + 224])
    np.testing.assert_array_equal(ours(pixels, (448, 448), BILINEAR), plain(pixels, (448, 448), BILINEAR))
    grey = pixels / 257.0
    grey = (grey - grey.min()) / (grey.max() - grey.min()) * 255
    size = shorter(512)
    whole = Image.fromarray(grey.astype(np.uint8)).resize(size[::-1], BILINEAR)
    top, left = (round((edge - 448) / 2) for edge in size)
    biovil = fitted(pixels, side=512, crop=448, resample=2, stretch=True)
    np.testing.assert_array_equal(biovil, np.asarray(whole)[top : top + 448, left : left + 448])


def test_a_range_that_is_one_value_is_black():
    pixels = np.full((3, 4), 777, np.uint16)
    assert (full_range(pixels)(pixels) == 0).all()
    assert resampling.painted(pixels, full_range(pixels)).dtype == np.uint8


def single(_):
    def narrowed(grey, width, resample):
        sums = np.empty((len(grey), width), np.float32)
        for columns, made, weights in resampling._products(grey.shape[1], width, resample):
            np.matmul(grey[:, columns].astype(np.float32), weights.astype(np.float32), out=sums[:, made])
        return np.clip(sums + np.float32(0.5), 0, 255)

    return narrowed


def coarse(honest):
    return lambda *how: [(a, b, np.round(w * 2**14) / 2**14) for a, b, w in honest(*how)]


def short(honest):
    return lambda *how: [(slice(a.start, a.stop - 1), b, w[:-1]) for a, b, w in honest(*how)]


def down(honest):
    return lambda *how: honest(*how) - 0.5


def unclipped(_):
    def narrowed(grey, width, resample):
        sums = np.empty((len(grey), width))
        for columns, made, weights in resampling._products(grey.shape[1], width, resample):
            sums[:, made] = grey[:, columns] @ weights
        return (sums + 0.5).astype(np.int64) % 256

    return narrowed


@pytest.mark.parametrize(
    ("name", "twin"),
    [("_products", coarse), ("_products", short), ("_narrowed", single), ("_narrowed", down), ("_narrowed", unclipped)],
)
def test_a_slightly_wrong_pass_is_noticed(name, twin, monkeypatch):
    monkeypatch.setattr(resampling, name, twin(getattr(resampling, name)))
    cases = [(content(kind, 60, 900), (60, 90), BICUBIC) for kind in KINDS]
    cases += [(content("noise", 900, 2048), (900, 448), BILINEAR)]
    assert any((ours(*case) != plain(*case)).any() for case in cases)
