"""Attackers who learn from own pairs: ridge, the Bayes-Gaussian fit, and the reader of findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import cast

import numpy as np

from linkage_core.attacks.folds import own_splits, ridge_solution
from linkage_core.attacks.held import Asked, Held
from linkage_core.attacks.scored import Scored
from linkage_core.heads import unit
from linkage_core.ranking import pools

_VALIDATION = 2000  # queries of a fold that score a variant: enough to tell them apart
_VALIDATION_POOL = 1000


Scores = Callable[[Asked], tuple[np.ndarray, np.ndarray]]
"""What was learnt: Asked -> (queries (n_queries, p), of_text (n_texts, p))."""


@dataclass(frozen=True)
class _Variant:
    """One way to learn from pairs.

    family
        "ridge": from the release to the report's features, then the cosine of the prediction with each report's
            (centred and scaled by their deviations or, with `second` = 1, whitened).
        "gaussian": p(release | report features f) = N(mu + A f, Sigma), A by ridge, Sigma the residual covariance
            shrunk by `second` towards a multiple of I; ranks by log-likelihood.
        "through": as gaussian, but A and Sigma go through the public features x of the image: release given x from m
            known images, x given f from all own pairs, which needs no release.
        "cosine": the off-the-shelf one, for whoever has the images.
    sees: "release"; for whoever has the images "features" or "embedding" (off-the-shelf).
    reads: "features" or off-the-shelf "embedding" of the report; `findings`: its 14 labels too.
    """

    family: str
    sees: str
    reads: str
    findings: bool
    ridge: float = 1e-2
    second: float = 0.0

    def fit(self, known: _Arrays, public: _Arrays, noise: float, clean: bool) -> Scores:
        """Learn from own pairs `known`, released, and `public`, never released. `clean`: embedded by the attacker."""
        held = known.held
        if self.family == "cosine":
            return lambda new: (unit(held.off_the_shelf.image(new.images)), unit(held.off_the_shelf.text(new.texts)))
        r, f = known.seen(self.sees, clean and self.family == "gaussian"), known.read(self.reads, self.findings)
        noise = noise if self.sees == "release" else 0.0
        if self.family == "ridge":
            return self._ridge(known, r, f)
        r_mean, f_mean = r.mean(axis=0), f.mean(axis=0)
        if self.family == "gaussian":
            slope, sigma = _regressed(f, r, self.ridge)
            added = noise**2 if clean else 0.0
        else:
            x, x_known = public.seen("features"), known.seen("features")
            f = public.read(self.reads, self.findings)
            to_r, left_r = _regressed(x_known, r, self.ridge)
            to_x, left_x = _regressed(f, x, 1e-3)
            slope, sigma, added = to_x @ to_r, to_r.T @ left_x @ to_r + left_r, 0.0
            r_mean, f_mean = r_mean + (x.mean(axis=0) - x_known.mean(axis=0)) @ to_r, f.mean(axis=0)
        values, axes = np.linalg.eigh(sigma)
        values = values.clip(0)
        level = max(float(values.mean()), 1e-30)
        values = (1 - self.second) * values + self.second * level + added
        whiten = axes / np.sqrt(np.maximum(values, max(noise**2, 1e-9 * level)))

        def scores(new: Asked) -> tuple[np.ndarray, np.ndarray]:
            # log N(r; m, S) = r'S^-1 m - m'S^-1 m / 2 + a term of r alone
            queries = (known.seen_in(new, self.sees) - r_mean) @ whiten
            means = (known.read_in(new, self.reads, self.findings) - f_mean) @ slope @ whiten
            return with_coordinate(queries, 1.0), with_coordinate(means, -0.5 * (means**2).sum(axis=1))

        return scores

    def _ridge(self, known: _Arrays, r: np.ndarray, f: np.ndarray) -> Scores:
        slope, r_mean = _regressed(r, f, self.ridge)[0], r.mean(axis=0)
        metric = known.whitening(self.reads, self.findings) if self.second else np.eye(f.shape[1])

        def scores(new: Asked) -> tuple[np.ndarray, np.ndarray]:
            texts = known.read_in(new, self.reads, self.findings) @ metric  # centred over all own reports
            norms = np.linalg.norm(texts, axis=1, keepdims=True)
            return (known.seen_in(new, self.sees) - r_mean) @ slope @ metric, texts / np.maximum(norms, 1e-12)

        return scores

    def __str__(self) -> str:
        if self.family == "cosine":
            return "off-the-shelf cosine"
        second = ("scaled", "whitened")[int(self.second)] if self.family == "ridge" else f"shrinkage {self.second:g}"
        sees = "" if self.sees == "release" else f" from image {self.sees}"
        reads = f"{' and' if sees else ''} {'to' if self.family == 'ridge' else 'given'} text {self.reads}"
        return f"{self.family}{sees}{reads}{' and findings' * self.findings}, ridge {self.ridge:g}, {second}"


def _regressed(a: np.ndarray, b: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression a (n, p) -> b (n, q): (slope (p, q), residual covariance (q, q))."""
    ac, bc = a - a.mean(axis=0), b - b.mean(axis=0)
    slope = ridge_solution(ac.T @ ac, ac.T @ bc, ridge)
    left = bc - ac @ slope
    return slope, left.T @ left / len(a)


def with_coordinate(vectors: np.ndarray, last: np.ndarray | float) -> np.ndarray:
    """One more coordinate."""
    return np.column_stack([vectors, np.broadcast_to(last, len(vectors))])


class _Arrays:
    """Own rows as float64 arrays: what was seen of an image, what was read in a report.

    Scaled by the spread over all own data, which takes no pair; an own report's labels become three indicators a label
    (stated present, absent, uncertain). What is scaled is made at first use and shared by all parts.
    """

    def __init__(self, held: Held, rows: np.ndarray, whole: _Arrays | None = None) -> None:
        self.held, self.rows = held, rows
        self._images: Callable[[str], Scaled] = whole._images if whole else cache(self._scaled_images)
        self._texts: Callable[[str, bool], Scaled] = whole._texts if whole else cache(self._scaled_texts)

    def part(self, rows: np.ndarray) -> _Arrays:
        return _Arrays(self.held, rows, self)

    def seen(self, what: str, clean: bool = False) -> np.ndarray:
        if what == "release":
            return (self.held.own_clean if clean else self.held.own_released)[self.rows].astype(np.float64)
        return np.asarray(self._images(what).own[self.rows])

    def read(self, what: str, findings: bool) -> np.ndarray:
        return np.asarray(self._texts(what, findings).own[self.rows])

    def seen_in(self, new: Asked, what: str) -> np.ndarray:
        if what == "release":
            return new.released.astype(np.float64)
        return self._images(what).scaled(self._image(new.images, what))

    def read_in(self, new: Asked, what: str, findings: bool) -> np.ndarray:
        return self._texts(what, findings).scaled(self._text(new.texts, new.findings, what, findings))

    def whitening(self, what: str, findings: bool) -> np.ndarray:
        """(f, f) inverse root of the covariance of own report features, shrunk by a hundredth."""
        return self._texts(what, findings).whitening

    def _scaled_images(self, what: str) -> Scaled:
        return Scaled(self._image(self.held.own_images, what))

    def _scaled_texts(self, what: str, findings: bool) -> Scaled:
        return Scaled(self._text(self.held.own_texts, self.held.own_findings, what, findings))

    def _image(self, features: np.ndarray, what: str) -> np.ndarray:
        return (unit(self.held.off_the_shelf.image(features)) if what == "embedding" else features).astype(np.float64)

    def _text(self, features: np.ndarray, labels: np.ndarray, what: str, findings: bool) -> np.ndarray:
        text = (unit(self.held.off_the_shelf.text(features)) if what == "embedding" else features).astype(np.float64)
        if not findings:
            return text
        return np.column_stack([text, *((labels == state).astype(np.float64) for state in (1, 0, -1))])


class Scaled:
    """Rows (n, f) in units of the deviation of each column about its mean; a constant column is left as it is."""

    def __init__(self, rows: np.ndarray) -> None:
        deviation = rows.std(axis=0)
        self._mean = rows.mean(axis=0)
        self.deviation = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-30), deviation, 1.0)
        self.own = self.scaled(rows)

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray((rows - self._mean) / self.deviation)

    @cached_property
    def whitening(self) -> np.ndarray:
        """(f, f) inverse root of the covariance, shrunk by a hundredth."""
        values, axes = np.linalg.eigh(np.atleast_2d(np.cov(self.own.T, bias=True)))
        return np.asarray(axes / np.sqrt(values.clip(0) + 0.01 * max(float(values.mean()), 1e-12)))


_LEVELS: dict[str, list[tuple[float, float]]] = {
    "cosine": [],
    "ridge": [(ridge, second) for ridge in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0) for second in (0.0, 1.0)],
    "gaussian": [(ridge, second) for ridge in (1e-3, 1e-2, 1e-1, 1.0) for second in (0.03, 0.1, 0.3, 0.6)],
    "through": [(ridge, second) for ridge in (1e-3, 1e-2, 1e-1, 1.0) for second in (0.03, 0.1, 0.3, 0.6)],
}
_FIRST = {
    "cosine": [(0.0, 0.0)],
    "ridge": [(1e-3, 0.0), (1e-3, 1.0)],
    "gaussian": [(1e-2, 0.3)],
    "through": [(1e-2, 0.3)],
}


@dataclass(frozen=True)
class Ways:
    """What an attacker who learns from pairs chooses among, before any regularisation is chosen: see _Variant.

    findings: whether the report's labels are read, where there are any; (False, True) tries both. cosine: whether the
    off-the-shelf cosine, for which the images are needed, is tried too.
    """

    families: tuple[str, ...]
    sees: tuple[str, ...] = ("release",)
    reads: tuple[str, ...] = ("features", "embedding")
    findings: tuple[bool, ...] = (False,)
    cosine: bool = False

    def variants(self, has_findings: bool) -> list[_Variant]:
        labels = self.findings if has_findings else (False,)
        every = product(self.families, self.sees, self.reads, labels)
        return [_Variant("cosine", "embedding", "embedding", False)] * self.cosine + [_Variant(*each) for each in every]


READER_WAYS = Ways(("ridge", "gaussian", "through"), findings=(True,))
IMAGES_WAYS = Ways(("ridge", "gaussian"), ("features", "embedding"), findings=(False, True), cosine=True)


def known_pairs(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    return _learnt(held, Ways(("ridge",), reads=("features",)), known, seed, knows_heads)


def bayes_gaussian(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    return _learnt(held, Ways(("gaussian", "through")), known, seed, knows_heads)


def reader(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    return _learnt(held, READER_WAYS, known, seed, knows_heads)


def raw_images(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    return _learnt(held, IMAGES_WAYS, known, seed, knows_heads)


def _learnt(held: Held, ways: Ways, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    found = learnt(held, ways, known, seed, knows_heads)
    return Scored(*found.scores(held), found.chosen)


@dataclass(frozen=True)
class Learnt:
    """What was learnt from own pairs, and the same from each fold's, applied to the own patients left out of it.

    at_home: for each fold (left-out own rows as queries among own reports, scores learnt without these patients).
    """

    scores: Scores
    chosen: str
    at_home: list[tuple[Asked, Scores]]


def learnt(held: Held, ways: Ways, known: np.ndarray, seed: int, knows_heads: bool) -> Learnt:
    """As learn, once for each Held: the same again is remembered with it."""
    key = (ways, known.tobytes(), seed, knows_heads)
    if key not in held.learnt:
        held.learnt[key] = learn(held, ways, known, seed, knows_heads)
    return cast(Learnt, held.learnt[key])


def judged(home: Asked, queries: np.ndarray, of_text: np.ndarray) -> float:
    """Sum over queries of the reciprocal rank in pools of up to 1,000 own reports."""
    counts = home.count(queries, of_text)
    size = min(_VALIDATION_POOL, int(counts.n_eligible.min()) + 1)
    return float(pools.expected_reciprocal_rank(counts, size).sum())


def learn(held: Held, ways: Ways, known: np.ndarray, seed: int, knows_heads: bool) -> Learnt:
    """Learn from own pairs, in the way that ranks own reports best in left-out folds of own patients.

    First each kind of variant at a middling regularisation, then the winner at every other one. Judged by the mean
    reciprocal rank in pools of up to 1,000 own reports; the left-out patients' pairs take no part in what is learnt.
    """
    whole = _Arrays(held, np.arange(len(held.own_group)))
    folds = [
        (whole.part(learn), whole.part(public), at_home(held, left_out, seed))
        for learn, left_out, public in own_splits(held, known, seed)
        if len(learn) >= 2
    ]
    seen: dict[_Variant, float] = {}

    def judge(variants: Iterable[_Variant]) -> _Variant:
        for variant in variants:
            if variant not in seen:
                fits = ((home, variant.fit(learn, public, held.noise, knows_heads)) for learn, public, home in folds)
                seen[variant] = sum(judged(home, *fit(home)) for home, fit in fits)
        return max(seen, key=lambda variant: seen[variant])

    kinds = ways.variants(has_findings(held))
    first = judge(replace(kind, ridge=a, second=b) for kind in kinds for a, b in _FIRST[kind.family])
    best = judge(replace(first, ridge=a, second=b) for a, b in _LEVELS[first.family])
    how = f"best of {len(seen)} at home" if folds else "too few own pairs to choose"
    return Learnt(
        best.fit(whole.part(known), whole, held.noise, knows_heads),
        f"{best} ({how})",
        [(home, best.fit(learn, public, held.noise, knows_heads)) for learn, public, home in folds],
    )


def has_findings(held: Held) -> bool:
    """Whether there are labels to read, of own reports and of candidates."""
    return held.own_findings.shape[1] > 0 and held.findings.shape[1] > 0


def at_home(held: Held, left_out: np.ndarray, seed: int) -> Asked:
    """Left-out own rows as queries; their reports and up to 2,000 other own reports as candidates."""
    return held.at_home(*at_home_rows(held, left_out, seed))


def at_home_rows(held: Held, left_out: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(own rows that are the queries, own rows that are the candidates) of at_home."""
    rows = left_out[:_VALIDATION]
    others = np.flatnonzero(~np.isin(held.own_group, held.own_group[rows]))
    others = np.random.default_rng([seed, 3]).permutation(others)[: max(0, 2 * _VALIDATION_POOL - len(rows))]
    return rows, np.concatenate([rows, others])
