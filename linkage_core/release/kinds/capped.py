"""The cap mechanism: each image gives one random direction, more often near its embedding than far from it.

Let x and r be unit vectors and gamma be such that a share q of the sphere has r . x >= gamma: the cap about x. With
probability p the release is uniform on the cap, else uniform on the rest. Against the uniform law its density is
    L = p/q on the cap,  (1-p)/(1-q) elsewhere,
two values, nowhere above L, whatever x. So Recall@k is at most k L / N for every N and every attacker: bounds.capped.
Privunit's caps (Bhowmick, Duchi, Freudiger, Kapoor and Rogers 2018; Asi, Feldman and Talwar 2022), set by their height
instead of by a local epsilon.

The dot product t = r . x carries all: under the uniform law (1-t)/2 is Beta(a, a), a = (d-1)/2, so t is drawn exactly
by inverting the incomplete beta function, and the direction across x is uniform. Proved for real numbers: releases are
float32, and a uniform number has 52 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import betainc, betaincinv, betaln, ndtri

from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.release import bounds, limits
from linkage_core.release import stated as shapes
from linkage_core.release.checks import require_vectors
from linkage_core.release.keyed import Secret
from linkage_core.release.kind import Column, Kind, Limit, Measured, Mechanism, Options
from linkage_core.release.kinds.statistics import Moments, fisher
from linkage_core.release.records import Released, Source, lists, read_vectors, released
from linkage_core.release.stated import KEYED
from linkage_core.store.entry import Entry
from linkage_core.utility.probe import Probe

_LEAST = 10  # records of each state of a finding
_GRID = 20_001
_OFF = 1e-4  # of a float32 row's norm from 1
_BLOCK = 8192


@dataclass(frozen=True)
class Cap:
    """Unit rows of `dimension` numbers in, unit rows out; density at most `limit`; p is the probability of the cap."""

    dimension: int
    limit: float
    p: float = 1.0

    def __post_init__(self) -> None:
        d, limit, p = self.dimension, self.limit, self.p
        if isinstance(d, bool) or not isinstance(d, int | np.integer) or d < 2:
            raise InputError(f"dimension is {d!r}.", "It is a whole number, at least 2.")
        if not 1 < limit < math.inf:
            raise InputError(f"The limit L is {limit}.", "It is above 1: at 1 nothing could be released.")
        if not 0 < p <= 1:
            raise InputError(f"p is {p}.", "It is the probability of the cap: above 0, at most 1.")

    @classmethod
    def of(cls, dimension: int, limit: float, p: float | None = None, *, epsilon: float | None = None) -> Cap:
        """The mechanism of a limit L; p as given, or from a pointwise epsilon, or by default the one of least error.

        Least error is p = 1. r / gain is unbiased, with mean square error 1/gain^2 - 1; gain = E[r . x], and among all
        densities between 0 and L the mean of r . x is greatest where the L lies on its largest values (Neyman and
        Pearson): all of it on a cap of mass 1/L. Its price: somebody who sees r can exclude every candidate whose cap
        does not hold it, so there is no pointwise epsilon and of the joint bounds only that of information is left.
        With epsilon, p = (e^eps - L)/(e^eps - 1), which needs e^eps > L: at d = 64 and L = 10, p = 0.8 (epsilon 3.8)
        costs 17% of the gain, and its joint limit at N = 10,000 is 458 times chance instead of 3,249.
        """
        if epsilon is None:
            return cls(dimension, limit, 1.0 if p is None else p)
        if p is not None:
            raise InputError(f"p is {p} and epsilon {epsilon}.", "Give one of the two: each sets the other.")
        if not epsilon > math.log(limit):
            raise InputError(
                f"epsilon is {epsilon}, and L is {limit}.",
                f"It is above ln L = {math.log(limit):.4g}: nothing lower has a density of L anywhere.",
            )
        return cls(dimension, limit, math.expm1(math.log(limit) - epsilon) / math.expm1(-epsilon))

    @property
    def q(self) -> float:
        """Share of the sphere that a cap is."""
        return self.p / self.limit

    @cached_property
    def height(self) -> float:
        """gamma: the cap holds the r with r . x >= gamma."""
        return 1 - 2 * self._depth

    @property
    def epsilon(self) -> float:
        """Pointwise local epsilon, ln of p (1-q) / ((1-p) q); infinite where p is 1."""
        return math.inf if self.p == 1 else math.log(self.limit) - math.log(self._outside)

    @cached_property
    def gain(self) -> float:
        """E[r . x], so that r / gain is unbiased for x.

        Uniform t has density c (1-t^2)^((d-3)/2), 1/c = B(1/2, (d-1)/2), so its integral of t above gamma is
        m = c (1-gamma^2)^((d-1)/2) / (d-1), and below it -m: gain = m (L - (1-p)/(1-q)).
        """
        d = self.dimension
        beyond = 4 * self._depth * (1 - self._depth)  # 1 - gamma^2
        m = math.exp((d - 1) / 2 * math.log(beyond) - betaln(0.5, (d - 1) / 2)) / (d - 1)
        return m * (self.limit - self._outside)

    @property
    def nats(self) -> float:
        """What a release tells of its candidate: the divergence of its law from the uniform one, at most ln L."""
        outside = (1 - self.p) * math.log(self._outside) if self.p < 1 else 0.0
        return self.p * math.log(self.limit) + outside

    def power(self, level: np.ndarray) -> np.ndarray:
        """Best power of a test of the uniform law against a release of one image, for bounds.trade_off."""
        level = np.asarray(level, dtype=np.float64)
        return np.where(level <= self.q, self.limit * level, self.p + self._outside * (level - self.q))

    def certified(self, n: bounds.Whole, k: bounds.Whole = 1) -> bounds.Rate:
        """Upper bound on Recall@k from one record alone: k L / N, and less where k/N is more than a cap."""
        bounds.capped(self.limit, n, k)
        return bounds.trade_off(self.power, n, k)

    def certified_jointly(self, n: bounds.Whole, k: bounds.Whole = 1) -> bounds.Rate:
        """Upper bound on mean Recall@k for somebody who holds all N releases and knows they match one to one."""
        epsilon = None if self.p == 1 else self.epsilon
        told = bounds.joint_information(self.nats, n, k)
        return np.minimum(told, bounds.joint_capped(self.limit, n, k, epsilon))[()]

    def log_density(self, dots: np.ndarray) -> np.ndarray:
        """ln of the density of a release against the uniform law, at dot products r . x; -inf outside where p is 1."""
        with np.errstate(divide="ignore"):
            return np.where(np.asarray(dots) >= self.height, math.log(self.limit), np.log(self._outside))

    # ------------------------------------------------------------------------------------------------------ to release

    @property
    def n_uniforms(self) -> int:
        """Uniform numbers a row takes: one for the dot product, d for the direction across."""
        return self.dimension + 1

    def release(
        self, unit_rows: np.ndarray, generators: np.random.Generator | Sequence[np.random.Generator]
    ) -> np.ndarray:
        """One release of each row: (n, d) unit float32, from one generator for all rows (to simulate) or one a row.

        Fresh noise: averaging undoes a second release. A site uses `release_keyed`.
        """
        rows = checked_unit(unit_rows, self.dimension)
        if isinstance(generators, np.random.Generator):
            drawn = generators.random((len(rows), self.n_uniforms))
        else:
            if len(generators) != len(rows):
                raise InputError(f"{len(generators)} generators for {len(rows)} rows.", "Give one a row.")
            drawn = np.array([one.random(self.n_uniforms) for one in generators]).reshape(-1, self.n_uniforms)
        return self._released(rows, np.clip(drawn, 2.0**-53, 1 - 2.0**-53))

    def release_keyed(
        self, unit_rows: np.ndarray, images: Sequence[bytes], secret: Secret, *, head_sha256: str
    ) -> np.ndarray:
        """As `release`, with noise keyed by the secret and each row's image (keyed.image_key): the same image, the same
        release bit for bit, in whatever order and company.

        The key covers d, L, p and the head. Under another setting or head the noise is independent, so that the limits
        of the two releases multiply (bounds.compose_lifts), and the ledger must count both; with one noise on two
        embeddings of an image nothing would be proved of the pair.
        """
        rows = checked_unit(unit_rows, self.dimension)
        if len(images) != len(rows):
            raise InputError(f"{len(images)} image keys for {len(rows)} rows.", "Give one a row.")
        released = np.empty(rows.shape, dtype=np.float32)
        for part in _blocks(len(rows)):
            uniforms = secret.uniforms(self.purpose(head_sha256), images[part], self.n_uniforms)
            released[part] = self._released(rows[part], uniforms)
        return released

    def purpose(self, head_sha256: str) -> str:
        """What the noise is for, as the key sees it."""
        if not head_sha256:
            raise InputError("head_sha256 is empty.", "It names the head whose embeddings are released.")
        return f"cap d={self.dimension} L={float(self.limit)!r} p={float(self.p)!r} head={head_sha256}"

    def _released(self, rows: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Row by row, without a matrix product, whose rounding could depend on the company a row is in."""
        depth = self._depths(uniforms[:, :1])
        across = ndtri(uniforms[:, 1:])
        across -= (across * rows).sum(axis=1, keepdims=True) * rows
        across /= np.sqrt((across * across).sum(axis=1, keepdims=True))
        released = (1 - 2 * depth) * rows + 2 * np.sqrt(depth * (1 - depth)) * across
        return np.asarray(released, dtype=np.float32)

    def _depths(self, uniform: np.ndarray) -> np.ndarray:
        """(1-t)/2 from one uniform number: below p in the cap, else outside, and by how much says how deep."""
        inside = uniform < self.p
        left = np.maximum(1 - self.p, 2.0**-60)
        mass = np.where(inside, uniform / self.limit, self.q + (uniform - self.p) / left * (1 - self.q))
        return betaincinv(self._a, self._a, np.clip(mass, 0.0, 1.0))

    @property
    def _a(self) -> float:
        return (self.dimension - 1) / 2

    @cached_property
    def _depth(self) -> float:
        return float(betaincinv(self._a, self._a, self.q))

    @property
    def _outside(self) -> float:
        return (1 - self.p) / (1 - self.q)


def dot_cdf(cap: Cap, dots: np.ndarray) -> np.ndarray:
    """P(r . x <= t): the law of the dot product of a release with its own embedding, in closed form."""
    above = betainc(cap._a, cap._a, np.clip((1 - np.asarray(dots, dtype=np.float64)) / 2, 0, 1))
    inside = np.minimum(above, cap.q)
    return 1 - cap.limit * inside - cap._outside * (above - inside)


def checked_unit(unit_rows: np.ndarray, dimension: int) -> np.ndarray:
    """(n, d) float64 of norm 1 to the last digit. InputError names the first row off the sphere by more than 1e-4."""
    rows = np.asarray(unit_rows)
    if rows.ndim != 2 or rows.shape[1] != dimension or not np.issubdtype(rows.dtype, np.floating):
        raise InputError(f"unit_rows has shape {rows.shape}.", f"Give rows of {dimension} numbers.")
    rows = rows.astype(np.float64)
    norms = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    off = np.flatnonzero(~(np.abs(norms[:, 0] - 1) <= _OFF))
    if len(off):
        raise InputError(
            f"Row {off[0]} has norm {norms[off[0], 0]:.6g} ({len(off)} such rows in all): it is not on the sphere.",
            "The limit holds for rows of norm 1; scale them with heads.unit.",
        )
    return np.asarray(rows / norms)


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _BLOCK):
        yield slice(start, start + _BLOCK)


# ----------------------------------------------------------------------------------------------- as a kind of release


def as_capped(source: Source, secret: Secret, limit: float, epsilon: float | None = None) -> Released:
    """Each record as one direction by the cap mechanism. InputError for a limit at or below 1 or above the records."""
    require_limit(limit, source.n)
    cap = Cap.of(source.embeddings.shape[1], limit, epsilon=epsilon)
    vectors = cap.release_keyed(source.embeddings, source.images, secret, head_sha256=source.head_sha256)
    mechanism = {
        "name": "cap mechanism",
        "dimension": cap.dimension,
        "limit": float(cap.limit),
        "p": float(cap.p),
        "epsilon": None if cap.p == 1 else float(cap.epsilon),
        "gain": float(cap.gain),
        "noise": KEYED,
    }
    values = {"vector": lists(vectors)}
    return released(source, secret, mechanism, np.arange(source.n), values, cap.purpose(source.head_sha256))


def require_limit(limit: float, n_records: int) -> None:
    """InputError for a limit L at or below 1, or above the number of records."""
    if not 1 < limit <= n_records:
        raise InputError(
            f"The limit L is {limit:g}, and the release has {n_records:,} records.",
            "Take one above 1 (at 1 nothing could be released) and at most N (beyond it nothing is limited).",
        )


def _make(source: Source, options: Options, secret: Secret) -> Released:
    return as_capped(source, secret, float(options.limit or 0), options.epsilon)


def _sense(options: Options) -> None:
    if options.limit is None:
        raise InputError("A release of capped needs a limit.", "Give --limit: how many times better than guessing.")


def _of(mechanism: Mapping[str, Any]) -> Cap:
    """The cap of a certificate's mechanism."""
    return Cap(int(mechanism["dimension"]), float(mechanism["limit"]), float(mechanism["p"]))


def _disagreement(stated: Mapping[str, Any]) -> str:
    mechanism = stated["mechanism"]
    cap = _of(mechanism)
    epsilon = None if cap.p == 1 else cap.epsilon
    if (epsilon is None) != (mechanism["epsilon"] is None) or not math.isclose(
        epsilon or 0.0, mechanism["epsilon"] or 0.0, rel_tol=shapes.CLOSE
    ):
        return "mechanism.epsilon is not that of its limit and p."
    if not math.isclose(cap.gain, mechanism["gain"], rel_tol=shapes.CLOSE):
        return "mechanism.gain is not that of its dimension, limit and p."
    return ""


def _bounds(stated: dict[str, Any]) -> limits.Bounds:
    """Those of the cap, twice with one random label a record."""
    cap, m, twice = _of(stated["mechanism"]), limits.most(stated), limits.labels(stated)
    told = cap.nats + math.log(twice)
    one = bounds.joint_information if twice == 2 else lambda nats, n: cap.certified_jointly(n)
    return {
        "alone": lambda n: twice * cap.certified(n) if cap.limit <= n else 1.0,
        "joint": lambda n: one(told, n) if cap.limit <= n else 1.0,
        "together": lambda n: limits.power(twice * cap.limit, m, n) / n,
        **limits.with_before(stated, twice * cap.limit, 0.0),
    }


def _assumptions(stated: dict[str, Any]) -> list[str]:
    said = [*limits.of_records(stated), *limits.of_keyed_noise()]
    if stated["mechanism"]["epsilon"] is None:
        said.append("It limits who is picked, not who is ruled out: candidates far from a vector cannot be its own.")
    return said


def _epsilon(option: Mapping[str, Any]) -> float | None:
    return None if math.isnan(option["epsilon"]) else float(option["epsilon"])


def _at(option: Mapping[str, Any], n: int) -> float:
    return float(bounds.capped(min(option["limit"], n), n, epsilon=_epsilon(option)))


def _jointly(option: Mapping[str, Any], n: int) -> float:
    return float(bounds.joint_capped(min(option["limit"], n), n, epsilon=_epsilon(option)))


# -------------------------------------------------------------------------------------------------- what it is worth


def _taught(folder: Path, mechanism: Mapping[str, Any], states: np.ndarray, seed: int) -> tuple[str, Probe]:
    vectors = read_vectors(folder).astype(np.float64)
    return "capped directions with one label each", errors_in_directions(vectors, _of(mechanism), states)


def errors_in_directions(rows: np.ndarray, cap: Cap, states: np.ndarray) -> Probe:
    """Fisher's direction for clean embeddings from capped ones: errors in variables with a known law.

    A release of x is r = t x + sqrt(1 - t^2) u, u uniform across x: E[r | x] = gain x and, with b = (1 - E t^2)/(d-1),
    E[r r^T | x] = (E t^2 - b) x x^T + b I. Both are undone; E t^2 comes from the law of t. rows (n, d) unit; states
    (n, K) 1, 0, NaN not told. Noise of an entry: r has variance about 1/d in each coordinate.
    """
    n, d = rows.shape
    square = second_of_dot(cap)
    b = (1 - square) / (d - 1)
    if abs(square - b) < 1e-6:
        raise InputError(
            f"Directions of a cap with L = {cap.limit:g} are as wide as none: they tell nothing of the covariance.",
            "Ask for another limit.",
        )
    mean = rows.mean(axis=0) / cap.gain
    covariance = (rows.T @ rows / n - b * np.eye(d)) / (square - b) - np.outer(mean, mean)
    k = states.shape[1]
    cross, prevalence, count, trained = np.zeros((k, d)), np.full(k, 0.5), np.ones(k), np.zeros(k, bool)
    for i in range(k):
        known = ~np.isnan(states[:, i])
        y = states[known, i]
        if min((y == 1).sum(), (y == 0).sum()) < _LEAST:
            continue
        trained[i], count[i], prevalence[i] = True, len(y), y.mean()
        cross[i] = (y - y.mean()) @ (rows[known] / cap.gain - mean) / len(y)
    moments = Moments(
        n=count,
        mean=mean,
        covariance=covariance,
        cross=cross,
        prevalence=prevalence,
        cross_noise=np.sqrt(prevalence * (1 - prevalence) / count / d) / cap.gain,
        covariance_noise=1 / (d * np.sqrt(n) * (square - b)),
    )
    weights = np.where(trained, fisher(moments, np.ones(d)).T, 0.0)
    return Probe(mean, weights, np.full(k, np.nan), trained)


def second_of_dot(cap: Cap) -> float:
    """E t^2 of t = r . x: 1 less the integral of 2 t P(r . x <= t) over -1 .. 1, by Simpson's rule."""
    from scipy.integrate import simpson

    t = np.linspace(-1, 1, _GRID)
    return float(1 - simpson(2 * t * dot_cdf(cap, t), x=t))


# ------------------------------------------------------------------------------------------------- how it is measured


def directed(cap: Cap) -> Mechanism:
    """Unbiased for the embedding, r / gain, with the standard deviation of a coordinate as if it were alike in all."""

    def vectors(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(cap.release(unit(rows), rng) / cap.gain, dtype=np.float32)

    return Mechanism(vectors, math.sqrt(max(1 / cap.gain**2 - 1, 0.0) / cap.dimension))


def of_directions(cap: Cap, vectors: np.ndarray, states: np.ndarray) -> Probe:
    """A reader taught by capped directions, whose noise it knows (errors_in_directions)."""
    return errors_in_directions(vectors.astype(np.float64) * cap.gain, cap, states)


def _measured(entry: Entry, options: Options, seed: int) -> Measured:
    cap = Cap.of(len(entry.heads().image.weight), float(options.limit or 0))
    # half a sphere is as wide as a whole one: nothing can be told of the covariance
    return Measured(directed(cap), cap, None if cap.q == 0.5 else partial(of_directions, cap))


ROW = Kind(
    name="capped",
    title="Capped records",
    words="each record as a random direction near its embedding, at most L times denser than uniform",
    usage="--limit L: each record as a random direction near its embedding.",
    heading=lambda content: f"{content['cohort']['n_records']:,} records as capped vectors",
    takes=("limit", "epsilon", "findings", "one_label", "secret", "new_secret", "per_patient"),
    make=_make,
    sense=_sense,
    column=Column(
        "vector",
        "a random unit vector near its embedding",
        lambda mechanism: pa.list_(pa.float32(), mechanism["dimension"]),
    ),
    parts=lambda mechanism: {
        "name": shapes.one_of("cap mechanism"),
        "dimension": shapes.whole(2, 10**6),
        "limit": shapes.number(1.0, shapes.MANY),
        "p": shapes.number(1e-9, 1.0),
        "epsilon": shapes.none_or(shapes.number(0.0)),
        "gain": shapes.number(0.0, 1.0),
        "noise": shapes.one_of(KEYED),
    },
    disagreement=_disagreement,
    check=require_vectors,
    limit=Limit(
        bounds=_bounds,
        assumptions=_assumptions,
        lift=lambda mechanism: float(mechanism["limit"]),
        at=_at,
        jointly=_jointly,
    ),
    taught=_taught,
    measured=_measured,
)
