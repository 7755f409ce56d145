"""The phantom's pictures: what a scene says must be seen, where it says it, at every size."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from linkage_core.cohorts.phantom.canvas import Canvas, Strokes
from linkage_core.cohorts.phantom.render import radiograph, render
from linkage_core.cohorts.phantom.scene import DEVICE_KINDS, FINDING_KINDS, Anatomy, Device, Finding, Scene
from linkage_core.errors import InputError

BUILD = Anatomy(
    sex="M", age=55, habitus=0.0, chest_shape=0.0, heart_size=0.45, aorta=0.3, scoliosis=0.1, rib_slope=0.5,
    diaphragm=0.0, hila=0.5,
)  # fmt: skip
PLAIN = Scene(
    anatomy=BUILD,
    findings=(),
    devices=(),
    view="PA",
    rotation=0.0,
    exposure=0.0,
    inspiration=0.7,
    site="A",
    noise_seed=1,
)
VIEWS = ("PA", "AP", "LATERAL")

# Regions of a frontal image as (rows, columns) in shares of the side; the patient's right is the viewer's left.
RIGHT_BASE, LEFT_BASE = ((0.60, 0.78), (0.12, 0.30)), ((0.60, 0.78), (0.70, 0.88))
RIGHT_LUNG, LEFT_LUNG = ((0.18, 0.72), (0.12, 0.42)), ((0.18, 0.72), (0.58, 0.88))
HEART, UPPER_MIDLINE, WHOLE = ((0.45, 0.75), (0.25, 0.80)), ((0.15, 0.42), (0.35, 0.65)), ((0.0, 1.0), (0.0, 1.0))


def shown(scene: Scene, size: int = 64) -> np.ndarray:
    """(size, size) float64 in 0..1."""
    return render(scene, size) / 65535


def with_finding(
    kind: str, side: str = "right", zone: str = "mid", severity: float = 0.7, view: str = "PA", **more
) -> Scene:
    finding = Finding(kind, side, zone, severity, **more)  # type: ignore[arg-type]
    return replace(PLAIN, view=view, findings=(finding,))


def mean_in(image: np.ndarray, region: tuple[tuple[float, float], tuple[float, float]]) -> float:
    (top, bottom), (left, right) = region
    n = len(image)
    return float(image[int(top * n) : int(bottom * n), int(left * n) : int(right * n)].mean())


def mirrored(region):
    rows, (left, right) = region
    return rows, (1 - right, 1 - left)


@pytest.mark.parametrize(("view", "site", "sex"), list(product(VIEWS, "AB", "FM")))
def test_every_view_and_site_uses_the_whole_grey_scale_and_12_bits(view, site, sex):
    image = render(replace(PLAIN, view=view, site=site, anatomy=replace(BUILD, sex=sex)), 64)
    assert image.shape == (64, 64)
    assert image.dtype == np.uint16
    assert np.array_equal(image & 15, image >> 12)  # 12 bits, spread so that 4095 becomes 65535
    low, high = np.percentile(image / 65535, [5, 95])
    assert low < 0.25
    assert high > 0.65


def test_radiograph_says_its_depth():
    picture = radiograph(PLAIN, 32)
    assert picture.bits == 12
    assert np.array_equal(picture.pixels, render(PLAIN, 32))


@pytest.mark.parametrize("view", VIEWS)
def test_same_scene_same_pixels_whatever_was_drawn_before(view):
    scene = replace(
        PLAIN, view=view, findings=(Finding("edema", "bilateral", seed=4),), devices=(Device("picc", seed=9),)
    )
    first = render(scene, 64)
    np.random.default_rng(0).normal(size=10)
    render(replace(PLAIN, noise_seed=77), 96)
    assert np.array_equal(first, render(scene, 64))


def test_another_noise_seed_changes_the_grain_and_the_frame_but_not_the_patient():
    first, second = shown(PLAIN), shown(replace(PLAIN, noise_seed=2))
    assert not np.array_equal(first, second)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("view", "site"), list(product(VIEWS, "AB")))
def test_a_small_image_is_the_large_one_scaled_down(view, site):
    findings = (
        Finding("pneumonia", "left", "lower", 0.8, seed=5),
        Finding("pneumothorax", "right", "upper", 0.5, seed=6),
    )
    devices = (Device("pacemaker"), Device("enteric tube"))
    scene = replace(PLAIN, view=view, site=site, rotation=4.0, findings=findings, devices=devices)
    large = shown(scene, 512).reshape(64, 8, 64, 8).mean(axis=(1, 3))
    small = shown(scene)
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.99
    assert np.abs(large - small).mean() < 0.01


@pytest.mark.parametrize(("kind", "view"), list(product(FINDING_KINDS, VIEWS)))
def test_every_finding_is_seen_at_64_pixels(kind, view):
    change = np.abs(shown(with_finding(kind, view=view)) - shown(replace(PLAIN, view=view)))
    assert np.sort(change.ravel())[-12:].mean() > 0.04


@pytest.mark.parametrize(("kind", "view"), list(product(DEVICE_KINDS, VIEWS)))
def test_every_device_is_seen_at_64_pixels_and_brightens(kind, view):
    change = shown(replace(PLAIN, view=view, devices=(Device(kind),))) - shown(replace(PLAIN, view=view))
    assert np.sort(change.ravel())[-8:].mean() > 0.06
    assert change.sum() > 0


SIDED = [kind for kind in FINDING_KINDS if "cardi" not in kind]


@pytest.mark.parametrize("kind", SIDED)
@pytest.mark.parametrize("zone", ["upper", "mid", "lower"])
def test_a_sided_finding_changes_its_own_side_most(kind, zone):
    plain = shown(PLAIN)
    for side, own, other in (("right", slice(0, 32), slice(32, 64)), ("left", slice(32, 64), slice(0, 32))):
        change = np.abs(shown(with_finding(kind, side, zone, 0.65)) - plain)
        assert change[:, own].sum() > 2.0 * change[:, other].sum(), side


@pytest.mark.parametrize(
    "kind", ["lung lesion", "lung opacity", "consolidation", "pneumonia", "pleural other", "fracture"]
)
def test_the_zone_moves_a_finding_down(kind):
    plain = shown(PLAIN)
    heights = []
    for zone in ("upper", "mid", "lower"):
        change = np.abs(shown(with_finding(kind, "left", zone, 0.7, seed=3)) - plain)
        heights.append((change.sum(axis=1) * np.arange(64)).sum() / change.sum())
    assert heights[0] + 4 < heights[1]
    assert heights[1] + 4 < heights[2]


def test_offsets_move_a_lesion_outwards_and_down():
    def centre(**offset: float) -> np.ndarray:
        change = (
            np.clip(shown(with_finding("lung lesion", "left", "mid", 0.5, **offset)) - shown(PLAIN), 0.03, None) - 0.03
        )
        return np.array([(change.sum(axis=1 - axis) * np.arange(64)).sum() for axis in (0, 1)]) / change.sum()

    assert centre(x=1.0)[1] > centre(x=-1.0)[1] + 4
    assert centre(y=1.0)[0] > centre(y=-1.0)[0] + 4


@pytest.mark.parametrize("kind", ["consolidation", "edema", "fracture", "atelectasis"])
def test_the_finding_seed_changes_its_texture(kind):
    assert not np.array_equal(shown(with_finding(kind, seed=2)), shown(with_finding(kind, seed=4)))


def test_an_effusion_whitens_its_base_more_the_larger_it_is():
    levels = [
        mean_in(shown(with_finding("pleural effusion", "right", "", s)), RIGHT_BASE) for s in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    assert mean_in(shown(PLAIN), RIGHT_BASE) + 0.02 < levels[1]
    assert np.all(np.diff(levels) > -0.002)
    assert levels[-1] > levels[0] + 0.2
    tall = [
        shown(with_finding("pleural effusion", "right", "", s))[14:52, 8:26].sum() for s in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    assert np.all(np.diff(tall) > 0)


def test_the_fluid_climbs_the_wall():
    change = shown(with_finding("pleural effusion", "right", "", 0.4), 128) - shown(PLAIN, 128)
    highest = np.array([np.flatnonzero(change[:, column] > 0.15).min() for column in (20, 26, 40)])
    assert highest[0] < highest[2] - 2


def test_the_heart_widens_with_severity():
    scenes = [PLAIN, *(with_finding("cardiomegaly", "", "", s) for s in (0.1, 0.4, 0.7, 1.0))]
    brightness = [mean_in(shown(scene), HEART) for scene in scenes]
    assert np.all(np.diff(brightness) > 0.005)
    lateral = [shown(with_finding("cardiomegaly", "", "", s, view="LATERAL")).sum() for s in (0.1, 0.5, 0.9)]
    assert np.all(np.diff(lateral) > 0)


@pytest.mark.parametrize(
    ("kind", "region"),
    [("enlarged cardiomediastinum", UPPER_MIDLINE), ("edema", RIGHT_LUNG), ("consolidation", RIGHT_LUNG),
     ("lung opacity", RIGHT_LUNG), ("pneumonia", RIGHT_LUNG), ("lung lesion", RIGHT_LUNG), ("pleural other", WHOLE)],
)  # fmt: skip
def test_opacity_grows_with_severity(kind, region):
    levels = [mean_in(shown(PLAIN), region)]
    levels += [mean_in(shown(with_finding(kind, severity=s, seed=3)), region) for s in (0.2, 0.5, 0.8)]
    assert np.all(np.diff(levels) > 0)


def test_a_pneumothorax_darkens_the_periphery_and_takes_its_vessels():
    strip = ((0.22, 0.40), (0.14, 0.24))
    plain, collapsed = shown(PLAIN, 256), shown(with_finding("pneumothorax", "right", "", 0.8), 256)
    assert mean_in(collapsed, strip) < mean_in(plain, strip) - 0.02
    assert mean_in(collapsed, mirrored(strip)) == pytest.approx(mean_in(plain, mirrored(strip)), abs=0.02)


@pytest.mark.parametrize("kind", ["pleural effusion", "consolidation"])
def test_left_and_right_are_mirror_images(kind):
    zone = "lower" if kind == "consolidation" else ""
    plain = shown(PLAIN)
    right = mean_in(shown(with_finding(kind, "right", zone)) - plain, RIGHT_BASE)
    left = mean_in(shown(with_finding(kind, "left", zone)) - plain, LEFT_BASE)
    assert min(left, right) > 0.05
    assert right == pytest.approx(left, rel=0.5)


@pytest.mark.parametrize("kind", ["picc", "port", "pacemaker", "chest tube"])
def test_a_device_lies_on_its_side(kind):
    plain = shown(PLAIN)
    for side, own in (("right", slice(0, 26)), ("left", slice(38, 64))):
        other = slice(38, 64) if side == "right" else slice(0, 26)
        change = shown(replace(PLAIN, devices=(Device(kind, side),))) - plain
        assert change[:, own].sum() > 3 * np.abs(change[:, other]).sum()


@pytest.mark.parametrize("kind", ["endotracheal tube", "central line", "picc", "enteric tube"])
def test_a_deeper_tip_reaches_lower(kind):
    plain = shown(PLAIN, 128)

    def lowest(tip: float) -> int:
        change = shown(replace(PLAIN, devices=(Device(kind, tip=tip),)), 128) - plain
        return int(np.flatnonzero((change > 0.025).any(axis=1)).max())

    assert lowest(0.1) + 5 < lowest(0.9)


def test_exposure_inspiration_view_habitus_and_age_are_seen():
    lungs = lambda scene: mean_in(shown(scene), RIGHT_LUNG)  # noqa: E731
    assert lungs(replace(PLAIN, exposure=1.0)) < lungs(PLAIN) < lungs(replace(PLAIN, exposure=-1.0))
    base = lambda scene: mean_in(shown(scene), ((0.68, 0.76), (0.2, 0.4)))  # noqa: E731
    assert base(replace(PLAIN, inspiration=0.0)) > base(replace(PLAIN, inspiration=1.0))
    assert mean_in(shown(replace(PLAIN, view="AP")), HEART) > mean_in(shown(PLAIN), HEART)
    large, slender = (shown(replace(PLAIN, anatomy=replace(BUILD, habitus=h))) for h in (1.0, -1.0))
    assert (large > 0.1).mean() > (slender > 0.1).mean()
    breasts = ((0.55, 0.68), (0.15, 0.38))
    assert (
        mean_in(shown(replace(PLAIN, anatomy=replace(BUILD, sex="F"))), breasts) > mean_in(shown(PLAIN), breasts) + 0.02
    )


def test_extremes_of_every_parameter_stay_drawable():
    for high, view in product((-1.0, 1.0), VIEWS):
        up = (high + 1) / 2
        build = Anatomy("F", 99 if up else 18, high, high, 0.4 + 0.1 * up, up, high, up, high, up)
        findings = tuple(Finding(kind, "bilateral", "", up, high, high, 5) for kind in FINDING_KINDS)
        devices = tuple(Device(kind, "left", up, 5) for kind in DEVICE_KINDS)
        image = render(Scene(build, findings, devices, view, 6 * high, high, up, "B", 3), 64)
        assert image.std() > 2000


@pytest.mark.parametrize("size", [15, 5000])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(InputError, match=f"size is {size}"):
        render(PLAIN, size)


def test_an_unknown_kind_is_refused_and_the_known_ones_named():
    with pytest.raises(InputError, match=r"kind is 'cold'.*lung lesion"):
        render(replace(PLAIN, findings=(Finding("cold"),)), 64)
    with pytest.raises(InputError, match=r"kind is 'stent'.*pacemaker"):
        render(replace(PLAIN, devices=(Device("stent"),)), 64)


def test_each_site_puts_its_letter_on_its_side():
    corner = {"A": ((0.04, 0.13), (0.86, 0.96)), "B": ((0.04, 0.13), (0.04, 0.14))}
    for site, other in (("A", "B"), ("B", "A")):
        image = shown(replace(PLAIN, site=site), 256)  # type: ignore[arg-type]
        n_bright = {}
        for name, ((top, bottom), (left, right)) in corner.items():
            part = image[int(top * 256) : int(bottom * 256), int(left * 256) : int(right * 256)]
            n_bright[name] = int((part > 0.88).sum())
        assert n_bright[site] > 20
        assert n_bright[site] > 3 * n_bright[other]


def test_strokes_equal_the_slow_sum_of_gaussians():
    canvas = Canvas(96, tilt=7.0, zoom=1.05, shift=(0.02, -0.03))
    strokes = Strokes(canvas)
    sigma, height = 0.013, 0.7
    strokes.line([(-0.2, 0.3), (0.15, 0.62)], sigma, height, smooth=False)
    start, end = np.array([-0.2, 0.3]), np.array([0.15, 0.62])
    slow = np.zeros((96, 96))
    for t in np.linspace(0, 1, 2001):
        px, py = start + t * (end - start)
        slow += np.exp(-((canvas.x - px) ** 2 + (canvas.y - py) ** 2) / (2 * sigma**2))
    slow *= height * np.hypot(*(end - start)) / 2001 / (sigma * np.sqrt(2 * np.pi))
    assert np.abs(strokes.draw() - slow).max() < 0.04 * height
