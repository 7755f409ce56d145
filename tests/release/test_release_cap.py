"""The cap mechanism beside its closed forms, and twins of it that each break one promise."""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import betaincinv, betaln
from scipy.stats import beta, kstest, norm

from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.release import bounds
from linkage_core.release.keyed import Secret
from linkage_core.release.kinds.capped import Cap, checked_unit, dot_cdf

CASES = [(2, 3.0, 1.0), (2, 8.0, 0.6), (3, 4.0, 0.8), (16, 10.0, 1.0), (64, 30.0, 0.9), (64, 1.2, 0.9)]
SECRET = Secret(bytes(range(32)), "cohort-a")


def rows_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((n, d)))


def keys_of(n: int) -> list[bytes]:
    return [i.to_bytes(32, "big") for i in range(n)]


def dots_of(cap: Cap, n: int = 20_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = rows_of(n, cap.dimension)
    released = cap.release(rows, np.random.default_rng(seed))
    return rows, released, (rows.astype(float) * released).sum(axis=1)


def uniform_density(d: int, t: float) -> float:
    """Of the dot product of a fixed direction with one uniform on the sphere."""
    return math.exp((d - 3) / 2 * math.log1p(-t * t) - betaln(0.5, (d - 1) / 2))


def integral(cap: Cap, of: Callable[[float], float]) -> float:
    """Over the sphere, by quadrature in the angle, split at the edge of the cap."""
    edge = math.acos(cap.height)

    def at(angle: float) -> float:
        return of(math.cos(angle)) * math.sin(angle) ** (cap.dimension - 2) * scale

    scale = math.exp(-betaln(0.5, (cap.dimension - 1) / 2))
    return sum(quad(at, low, high, epsabs=1e-12)[0] for low, high in ((0, edge), (edge, math.pi)))


# ---------------------------------------------------------------------------------------------- the law of a release


@pytest.mark.parametrize(("d", "limit", "p"), CASES)
def test_the_density_integrates_to_one_and_never_exceeds_the_limit(d: int, limit: float, p: float) -> None:
    cap = Cap(d, limit, p)
    assert integral(cap, lambda t: math.exp(cap.log_density(t))) == pytest.approx(1, abs=1e-8)
    assert integral(cap, lambda t: float(t >= cap.height)) == pytest.approx(cap.q, abs=1e-8)
    assert integral(cap, lambda t: t * math.exp(cap.log_density(t))) == pytest.approx(cap.gain, abs=1e-8)
    values = np.exp(cap.log_density(np.linspace(-1, 1, 10_001)))
    assert values.max() == pytest.approx(limit, rel=1e-12)
    with np.errstate(divide="ignore"):
        assert np.log(values.max() / values.min()) == pytest.approx(cap.epsilon)
    assert math.exp(cap.epsilon) == pytest.approx(p * (1 - cap.q) / ((1 - p) * cap.q) if p < 1 else math.inf)
    spread = integral(cap, lambda t: math.exp(cap.log_density(t)) * max(cap.log_density(t), -700.0))
    assert cap.nats == pytest.approx(spread, abs=1e-7)
    assert cap.nats <= math.log(limit) + 1e-12


@pytest.mark.parametrize(("d", "limit", "p"), CASES)
def test_dots_follow_the_closed_form(d: int, limit: float, p: float) -> None:
    cap = Cap(d, limit, p)
    _, released, dots = dots_of(cap)
    assert released.dtype == np.float32
    assert np.abs(np.linalg.norm(released, axis=1) - 1).max() < 1e-6
    assert kstest(dots, lambda t: dot_cdf(cap, t)).pvalue > 1e-3
    assert dots.mean() == pytest.approx(cap.gain, abs=5 * dots.std() / np.sqrt(len(dots)))


@pytest.mark.parametrize(("d", "limit", "p"), CASES[1:])
def test_the_direction_across_is_uniform(d: int, limit: float, p: float) -> None:
    """One row released many times: its part across x, on each axis, has the law of a uniform direction."""
    cap = Cap(d, limit, p)
    row = np.repeat(rows_of(1, d), 8000, axis=0)
    released = cap.release(row, np.random.default_rng(3)).astype(float)
    dots = (row * released).sum(axis=1, keepdims=True)
    across = (released - dots * row)[np.sqrt(1 - dots[:, 0] ** 2) > 1e-3]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    if d == 2:
        assert (across @ [-row[0, 1], row[0, 0]] > 0).mean() == pytest.approx(0.5, abs=0.03)
        return
    basis = np.linalg.svd(row[:1].astype(float))[2][1:]
    for axis in (basis[0], basis[-1], unit((basis[0] + basis[1])[None])[0]):
        share = (1 + across @ axis) / 2
        assert kstest(share, beta((d - 2) / 2, (d - 2) / 2).cdf).pvalue > 1e-3
    assert np.linalg.norm(across.mean(axis=0)) < 5 / np.sqrt(8000)


def test_limits_hold_pointwise_for_two_images() -> None:
    """Shares of releases in small cells of the circle, for images a right angle apart: within L and within e^eps."""
    cap = Cap(2, 4.0, 0.7)
    n, n_cells = 200_000, 60
    shares = []
    for angle in (0.1, 0.1 + np.pi / 2):
        row = np.repeat([[np.cos(angle), np.sin(angle)]], n, axis=0)
        released = cap.release(row, np.random.default_rng(int(100 * angle)))
        cell = ((np.arctan2(released[:, 1], released[:, 0]) / (2 * np.pi)) % 1 * n_cells).astype(int)
        shares.append(np.bincount(cell, minlength=n_cells) / n * n_cells)
    error = 5 * np.sqrt(4 * n_cells / n)
    assert max(shares[0].max(), shares[1].max()) < cap.limit + error
    ratio = np.log(np.maximum(shares[0] / shares[1], shares[1] / shares[0])).max()
    assert ratio == pytest.approx(cap.epsilon, abs=0.12)


# ------------------------------------------------------------------------------------------------------- the settings


def test_least_error_is_p_one() -> None:
    """No other p has more gain, and gain is what the error of the scaled release comes from."""
    gains = [Cap(64, 10.0, p).gain for p in np.linspace(0.3, 1.0, 29)]
    assert np.argmax(gains) == 28
    assert (np.diff(gains) > 0).all()
    assert Cap.of(64, 10.0) == Cap(64, 10.0, 1.0)
    cap = Cap.of(16, 10.0)
    rows, released, _ = dots_of(cap)
    error = ((released / cap.gain - rows) ** 2).sum(axis=1).mean()
    assert error == pytest.approx(1 / cap.gain**2 - 1, rel=0.02)


def test_p_from_epsilon_gives_that_epsilon() -> None:
    for limit, epsilon in ((10.0, 2.5), (10.0, 5.0), (1.5, 0.6), (30.0, 20.0)):
        assert Cap.of(8, limit, epsilon=epsilon).epsilon == pytest.approx(epsilon, rel=1e-6)
    with pytest.raises(InputError, match=r"above ln L = 2\.303"):
        Cap.of(8, 10.0, epsilon=2.3)
    with pytest.raises(InputError, match="Give one of the two"):
        Cap.of(8, 10.0, 0.5, epsilon=3.0)


def test_what_is_certified() -> None:
    n = np.array([100, 1000, 10_000])
    assert Cap(64, 10.0).certified(n).tolist() == pytest.approx((10 / n).tolist())
    assert Cap(64, 10.0).certified(n, 5).tolist() == pytest.approx((50 / n).tolist())
    cap = Cap(64, 3.0, 0.6)
    assert cap.certified(4, 1) == pytest.approx(0.6 + 0.4 / 0.8 * 0.05), "a pool so small that caps overlap"
    for k in range(1, 10):
        assert cap.certified(10, k) <= bounds.capped(3.0, 10, k, cap.epsilon) + 1e-12
        assert cap.certified(10, k) <= cap.certified_jointly(10, k)
    assert (cap.certified_jointly(n) <= bounds.joint_local(cap.epsilon, n)).all()
    with pytest.raises(InputError, match="The limit L is 30"):
        Cap(64, 30.0).certified(20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1, 3.0, 1.0), "dimension is 1"),
        ((True, 3.0, 1.0), "dimension is True"),
        ((2.5, 3.0, 1.0), "dimension is 2.5"),
        ((4, 1.0, 1.0), "limit L is 1.0"),
        ((4, math.nan, 1.0), "limit L is nan"),
        ((4, math.inf, 1.0), "limit L is inf"),
        ((4, 3.0, 0.0), "p is 0.0"),
        ((4, 3.0, 1.1), "p is 1.1"),
        ((4, 3.0, math.nan), "p is nan"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: tuple[int, float, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cap(*settings)


def test_a_row_off_the_sphere_is_named() -> None:
    rows = rows_of(5, 8)
    for wrong in (1.01, 0.0, np.nan):
        bad = rows.copy()
        bad[3] *= wrong
        with pytest.raises(InputError, match="Row 3 has norm"):
            Cap(8, 3.0).release(bad, np.random.default_rng(0))
    with pytest.raises(InputError, match="rows of 9 numbers"):
        checked_unit(rows, 9)
    with pytest.raises(InputError, match="4 generators for 5 rows"):
        Cap(8, 3.0).release(rows, [np.random.default_rng(0)] * 4)
    with pytest.raises(InputError, match="4 image keys for 5 rows"):
        Cap(8, 3.0).release_keyed(rows, keys_of(4), SECRET, head_sha256="h")
    with pytest.raises(InputError, match="head_sha256 is empty"):
        Cap(8, 3.0).release_keyed(rows, keys_of(5), SECRET, head_sha256="")


# ------------------------------------------------------------------------------------------------------ keyed releases


@pytest.mark.parametrize("d", [2, 3, 64, 129])
def test_the_same_image_gives_the_same_release_bit_for_bit(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cap, rows, keys = Cap(d, 5.0, 0.9), rows_of(300, d), keys_of(300)
    released = cap.release_keyed(rows, keys, SECRET, head_sha256="h")
    order = np.random.default_rng(0).permutation(300)
    shuffled = cap.release_keyed(rows[order], [keys[i] for i in order], SECRET, head_sha256="h")
    assert (shuffled == released[order]).all()
    for i in (0, 17, 299):
        assert (cap.release_keyed(rows[i : i + 1], keys[i : i + 1], SECRET, head_sha256="h") == released[i]).all()
    monkeypatch.setattr("linkage_core.release.kinds.capped._BLOCK", 7)
    assert (cap.release_keyed(rows, keys, SECRET, head_sha256="h") == released).all()
    assert cap.release_keyed(rows[:0], [], SECRET, head_sha256="h").shape == (0, d)


def test_keyed_releases_equal_a_slow_loop_over_records() -> None:
    cap, rows, keys = Cap(16, 5.0, 0.9), rows_of(20, 16), keys_of(20)
    found = cap.release_keyed(rows, keys, SECRET, head_sha256="h")
    for x, key, one in zip(rows.astype(float), keys, found, strict=True):
        u = SECRET.uniforms(cap.purpose("h"), [key], 17)[0]
        mass = u[0] / cap.limit if u[0] < cap.p else cap.q + (u[0] - cap.p) / (1 - cap.p) * (1 - cap.q)
        t = 1 - 2 * betaincinv(7.5, 7.5, mass)
        x = x / math.sqrt(math.fsum(x * x))
        across = norm.ppf(u[1:])
        across = across - math.fsum(across * x) * x
        assert np.allclose(one, t * x + math.sqrt(1 - t * t) * across / math.sqrt(math.fsum(across**2)), atol=1e-6)


def test_another_secret_image_setting_or_head_gives_independent_noise() -> None:
    """Independent is what makes limits multiply: the parts across x of two releases are unrelated."""
    d = 64
    row = rows_of(1, d)
    cap = Cap(d, 5.0)

    def across(released: np.ndarray) -> np.ndarray:
        left = released[0] - (released[0] @ row[0]) * row[0]
        return left / np.linalg.norm(left)

    first = across(cap.release_keyed(row, keys_of(1), SECRET, head_sha256="h"))
    others = [
        cap.release_keyed(row, keys_of(2)[1:], SECRET, head_sha256="h"),
        cap.release_keyed(row, keys_of(1), Secret(bytes(32), "cohort-a"), head_sha256="h"),
        cap.release_keyed(row, keys_of(1), SECRET, head_sha256="g"),
        Cap(d, 6.0).release_keyed(row, keys_of(1), SECRET, head_sha256="h"),
        Cap(d, 5.0, 0.99).release_keyed(row, keys_of(1), SECRET, head_sha256="h"),
    ]
    for other in others:
        assert abs(first @ across(other)) < 5 / math.sqrt(d)


def test_averaging_releases_of_one_image_gains_nothing() -> None:
    cap, row = Cap(32, 5.0), np.repeat(rows_of(1, 32), 200, axis=0)
    keyed = cap.release_keyed(row, keys_of(1) * 200, SECRET, head_sha256="h")
    assert (keyed == keyed[0]).all()
    fresh = cap.release(row, np.random.default_rng(0))
    assert unit(fresh.mean(axis=0, keepdims=True))[0] @ row[0] > 0.9, "what fresh noise would have given away"


# ------------------------------------------------------------------------------------------------------- broken twins


class WrongMass(Cap):
    """Its caps are a tenth smaller than it says."""

    @cached_property
    def _depth(self) -> float:
        return float(betaincinv(self._a, self._a, 0.9 * self.q))

    def _depths(self, uniform: np.ndarray) -> np.ndarray:
        inside = uniform < self.p
        narrow = betaincinv(self._a, self._a, 0.9 * uniform / self.limit * inside)
        return np.where(inside, narrow, super()._depths(uniform))


class Exchanged(Cap):
    """Hits the cap with probability q instead of p: says too little, and its users would never know."""

    def _depths(self, uniform: np.ndarray) -> np.ndarray:
        inside = uniform < self.q
        mass = np.where(inside, uniform, self.p + (uniform - self.q) / (1 - self.q) * (1 - self.p))
        return betaincinv(self._a, self._a, np.where(inside, uniform * self.p / self.q, mass))


class SharedNoise(Cap):
    """Every image has the first image's noise."""

    def release_keyed(self, unit_rows, images, secret, *, head_sha256):  # type: ignore[no-untyped-def]
        return super().release_keyed(unit_rows, [images[0]] * len(images), secret, head_sha256=head_sha256)


class FreshNoise(Cap):
    """Forgets the key."""

    def release_keyed(self, unit_rows, images, secret, *, head_sha256):  # type: ignore[no-untyped-def]
        return self.release(unit_rows, np.random.default_rng())


@pytest.mark.parametrize("twin", [WrongMass, Exchanged])
def test_a_twin_with_another_law_is_caught(twin: type[Cap]) -> None:
    _, _, dots = dots_of(twin(16, 10.0, 0.8))
    honest = Cap(16, 10.0, 0.8)
    assert kstest(dots, lambda t: dot_cdf(honest, t)).pvalue < 1e-6


def related(cap: Cap) -> float:
    """Mean product of the directions across x of neighbouring images: 0 where each has noise of its own."""
    rows = np.repeat(rows_of(1, 16), 200, axis=0)
    released = cap.release_keyed(rows, keys_of(200), SECRET, head_sha256="h").astype(float)
    across = released - (released * rows).sum(axis=1, keepdims=True) * rows
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return float((across[1:] * across[:-1]).sum(axis=1).mean())


def test_a_twin_that_shares_or_forgets_the_key_is_caught() -> None:
    assert abs(related(Cap(16, 5.0))) < 0.1
    assert related(SharedNoise(16, 5.0)) > 0.9
    rows, keys = rows_of(3, 16), keys_of(3)
    one, again = (FreshNoise(16, 5.0).release_keyed(rows, keys, SECRET, head_sha256="h") for _ in range(2))
    assert (one != again).any()
