"""A dual encoder trained on own pairs: two small networks that bring a release and its report together.

One takes the release, one the report (text features, off-the-shelf embedding, three indicators a finding); both end in
unit vectors u_i and v_j, and the score is exp(t) u_i . v_j. They are trained on own pairs to tell each report from the
others of a batch, and each release, by the symmetric cross-entropy of van den Oord et al. 2018 (InfoNCE) as in CLIP
(Radford et al. 2021); pairs of one patient, or of one text, are not told apart. The vectors of several networks are put
side by side, so that scores add up and the count stays exact.

The gradient is written out: with numpy it takes a tenth of the time of a framework on one core, at these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from linkage_core.attacks import learn_pairs
from linkage_core.attacks.folds import own_splits
from linkage_core.attacks.held import Asked, Held
from linkage_core.attacks.learn_pairs import Learnt, Scaled, Scores, at_home, has_findings, judged
from linkage_core.attacks.scored import Scored
from linkage_core.heads import unit

_BATCH = 256
_HIDDEN, _OUT = 256, 64
_RATE, _DECAY = 1e-2, 0.1  # AdamW (Loshchilov and Hutter 2019); the rate rises over a fifth of the steps, then falls
_WARM = 0.2
_FIRST_SCALE = 10.0


Factors = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Setting:
    """How long to train and how much to hide: chosen by left-out own patients.

    passes over the pairs, but `least` steps; of each batch `blur` is the deviation of noise on a standardised release,
    `hide` the share of report inputs set to 0, `drop` that of hidden units.
    """

    passes: int = 20
    least: int = 60
    blur: float = 0.3
    hide: float = 0.2
    drop: float = 0.3


SETTINGS = (Setting(), Setting(blur=0.6, hide=0.4, drop=0.5))
_FEW = 2000  # with more pairs one fold is enough to choose by
_NETWORKS = 3  # on all known pairs: their scores are added up
_WEIGHTS = tuple(round(0.1 * step, 1) for step in range(11))


class _Tower:
    """Rows (n, i) -> unit rows (n, _OUT): one hidden layer beside a linear way. `weights` and `slopes` are views."""

    def __init__(self, width: int, rng: np.random.Generator) -> None:
        shapes = ((width, _HIDDEN), (_HIDDEN,), (_HIDDEN, _OUT), (width, _OUT), (_OUT,))
        spread = (np.sqrt(2 / width), 0.0, np.sqrt(1 / _HIDDEN), np.sqrt(1 / width), 0.0)
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        self.flat = np.concatenate(
            [(s * rng.standard_normal(int(np.prod(shape)))) for shape, s in zip(shapes, spread, strict=True)]
        ).astype(np.float32)
        self.slope = np.zeros_like(self.flat)
        self._weights = [w.reshape(s) for w, s in zip(np.split(self.flat, ends[:-1]), shapes, strict=True)]
        self._slopes = [w.reshape(s) for w, s in zip(np.split(self.slope, ends[:-1]), shapes, strict=True)]

    def __call__(self, rows: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
        """keep (n, _HIDDEN): 0 for hidden units left out, 1/share for the others."""
        first, bias, second, straight, last = self._weights
        hidden = np.maximum(rows @ first + bias, 0)
        if keep is not None:
            hidden *= keep
        out = hidden @ second + rows @ straight + last
        norm = np.linalg.norm(out, axis=1, keepdims=True) + np.float32(1e-6)
        out /= norm
        self._kept = rows, hidden, keep, out, norm
        return out

    def back(self, slope: np.ndarray) -> None:
        """From the slope of the loss in each unit row of the last call to that in each weight."""
        rows, hidden, keep, out, norm = self._kept
        slope = (slope - out * np.einsum("ij,ij->i", slope, out)[:, None]) / norm
        inner = slope @ self._weights[2].T
        inner *= hidden > 0
        if keep is not None:
            inner *= keep
        for place, value in zip(
            self._slopes, (rows.T @ inner, inner.sum(0), hidden.T @ slope, rows.T @ slope, slope.sum(0)), strict=True
        ):
            place[...] = value


class _Adam:
    """AdamW on one float32 vector, in place."""

    def __init__(self, weights: np.ndarray, decay: float) -> None:
        self._weights, self._decay, self._t = weights, decay, 0
        self._mean, self._square = np.zeros_like(weights), np.zeros_like(weights)

    def step(self, slope: np.ndarray, rate: float) -> None:
        self._t += 1
        self._mean += np.float32(0.1) * (slope - self._mean)
        self._square += np.float32(0.001) * (slope * slope - self._square)
        root = np.sqrt(self._square / np.float32(1 - 0.999**self._t)) + np.float32(1e-8)
        self._weights *= np.float32(1 - rate * self._decay)
        self._weights -= np.float32(rate / (1 - 0.9**self._t)) * self._mean / root


def loss(u: np.ndarray, v: np.ndarray, scale: float, same: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Symmetric InfoNCE of unit rows u, v (n, p), and its slopes in u, v and log scale.

    Mean over i of -log softmax_j(scale u_i . v_j) at j = i and of the same over reports; pairs where `same` (n, n) is
    set, off the diagonal, are left out of both sums.
    """
    n = len(u)
    cosine = u @ v.T
    weight = np.exp(np.float32(scale) * (cosine - 1))  # at most 1: no row runs over
    weight[same] = 0
    of_row, of_column = weight.sum(axis=1), weight.sum(axis=0)
    own = np.float32(scale) * (np.diagonal(cosine) - 1)
    value = float((np.log(of_row) + np.log(of_column) - 2 * own).mean() / 2)
    slope = weight / of_row[:, None] + weight / of_column
    slope.flat[:: n + 1] -= 2
    slope *= np.float32(0.5 / n)
    by_scale = float(scale * np.einsum("ij,ij->", slope, cosine))
    slope *= np.float32(scale)
    return value, slope @ v, slope.T @ u, by_scale


def trained(
    releases: np.ndarray,
    reports: np.ndarray,
    patient: np.ndarray,
    text: np.ndarray,
    blur: np.ndarray,
    setting: Setting,
    rng: np.random.Generator,
) -> tuple[_Tower, _Tower]:
    """The two networks, from n pairs: releases (n, e) and reports (n, t) float32, standardised; patient and text (n,)
    codes; blur (e,) deviation of noise that is known to be on a release in place of `releases`, beside the setting's.
    """
    n = len(releases)
    towers = _Tower(releases.shape[1], rng), _Tower(reports.shape[1], rng)
    scale = np.array([np.log(_FIRST_SCALE)], dtype=np.float32)
    adams = *(_Adam(tower.flat, _DECAY) for tower in towers), _Adam(scale, 0.0)
    spread = np.sqrt(setting.blur**2 + blur**2).astype(np.float32)
    batch = min(_BATCH, n)
    a_pass = n // batch
    total = max(setting.passes * a_pass, setting.least)
    for step in range(total):
        if step % a_pass == 0:
            order = rng.permutation(n)
        rows = order[step % a_pass * batch :][:batch]
        x = releases[rows] + spread * rng.standard_normal((batch, len(spread)), dtype=np.float32)
        y = reports[rows] * _mask((batch, reports.shape[1]), setting.hide, rng)
        u, v = (
            tower(inputs, _mask((batch, _HIDDEN), setting.drop, rng))
            for tower, inputs in zip(towers, (x, y), strict=True)
        )
        same = (patient[rows][:, None] == patient[rows]) | (text[rows][:, None] == text[rows])
        np.fill_diagonal(same, False)
        _, of_u, of_v, of_scale = loss(u, v, float(np.exp(scale[0])), same)
        towers[0].back(of_u)
        towers[1].back(of_v)
        done = (step + 1) / total
        share = done / _WARM if done < _WARM else 1 - (done - _WARM) / (1 - _WARM)
        rate = _RATE * (0.5 - 0.5 * np.cos(np.pi * share))
        slopes = towers[0].slope, towers[1].slope, np.array([of_scale], dtype=np.float32)
        for adam, slope in zip(adams, slopes, strict=True):
            adam.step(slope, rate)
    return towers


def _mask(shape: tuple[int, int], hidden: float, rng: np.random.Generator) -> np.ndarray:
    return (rng.random(shape, dtype=np.float32) >= hidden) * np.float32(1 / (1 - hidden))


# ------------------------------------------------------------------------------------------------- on what is held


class _Inputs:
    """What the networks are given, in units of the deviation over own rows; images where `images`, else releases."""

    def __init__(self, held: Held, known: np.ndarray, images: bool, knows_heads: bool) -> None:
        self._held, self._images, self._findings = held, images, has_findings(held)
        own = held.own_images if images else held.own_released
        self._left = Scaled((own if images else own[known]).astype(np.float64))
        self._right = Scaled(self._read(held.own_texts, held.own_findings))
        again = knows_heads and not images and held.noise > 0  # it draws the noise itself, afresh in each batch
        clean = held.own_clean if again else own
        self.blur = (held.noise if again else 0.0) / self._left.deviation
        self.releases = self._left.scaled(clean.astype(np.float64)).astype(np.float32)
        self.reports = self._right.own.astype(np.float32)
        self.patient = np.unique(held.own_group, return_inverse=True)[1]
        self.text = np.unique(self.reports, axis=0, return_inverse=True)[1].ravel()

    def _read(self, texts: np.ndarray, findings: np.ndarray) -> np.ndarray:
        """(n, t): text features, off-the-shelf embedding, and where there are labels three indicators a finding."""
        parts = [texts.astype(np.float64), unit(self._held.off_the_shelf.text(texts)).astype(np.float64)]
        if self._findings:
            parts += [(findings == state).astype(np.float64) for state in (1, 0, -1)]
        return np.column_stack(parts)

    def train(self, rows: np.ndarray, setting: Setting, rng: np.random.Generator) -> tuple[_Tower, _Tower]:
        mine = (self.releases[rows], self.reports[rows], self.patient[rows], self.text[rows])
        return trained(*mine, self.blur, setting, rng)

    def scores(self, networks: list[tuple[_Tower, _Tower]]) -> Scores:
        """The mean of several networks' cosines, as factors."""

        def scores(new: Asked) -> tuple[np.ndarray, np.ndarray]:
            left = self._left.scaled((new.images if self._images else new.released).astype(np.float64))
            right = self._right.scaled(self._read(new.texts, new.findings))
            queries = np.column_stack([image(left.astype(np.float32)) for image, _ in networks])
            return queries / np.float32(len(networks)), np.column_stack(
                [t(right.astype(np.float32)) for _, t in networks]
            )

        return scores


def learnt(held: Held, known: np.ndarray, seed: int, knows_heads: bool, *, images: bool = False) -> Learnt:
    """Several networks of all known pairs, added up, in the setting by which left-out own reports are ranked best; once
    for each Held. Where there are many pairs one fold is enough to choose by.
    """
    key = (learnt, known.tobytes(), seed, knows_heads, images)
    if key not in held.learnt:
        held.learnt[key] = _learn(held, known, seed, knows_heads, images)
    return cast(Learnt, held.learnt[key])


def _learn(held: Held, known: np.ndarray, seed: int, knows_heads: bool, images: bool) -> Learnt:
    inputs = _Inputs(held, known, images, knows_heads)
    folds = [(rows, out) for rows, out, _ in own_splits(held, known, seed) if len(rows) >= 2]
    folds = folds if len(known) < _FEW else folds[:1]
    homes = [(rows, at_home(held, out, seed)) for rows, out in folds]
    found: dict[Setting, list[tuple[Asked, Scores]]] = {}
    for setting in SETTINGS:
        found[setting] = [
            (home, inputs.scores([inputs.train(rows, setting, np.random.default_rng([seed, 41, fold]))]))
            for fold, (rows, home) in enumerate(homes)
        ]
    worth = {setting: sum(judged(home, *fit(home)) for home, fit in fits) for setting, fits in found.items()}
    best = max(SETTINGS, key=lambda setting: worth[setting])
    every = [inputs.train(known, best, np.random.default_rng([seed, 42, i])) for i in range(_NETWORKS)]
    said = f"{len(every)} networks, noise {best.blur:g}, {best.hide:.0%} hidden, {best.drop:.0%} dropped"
    return Learnt(inputs.scores(every), said, found[best])


def dual_encoder(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    found = learnt(held, known, seed, knows_heads)
    return Scored(*found.scores(held), found.chosen)


def dual_and_reader(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    reader = learn_pairs.learnt(held, learn_pairs.READER_WAYS, known, seed, knows_heads)
    return _summed(held, learnt(held, known, seed, knows_heads), reader)


def images_and_dual(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    """Whoever has the images: both ways on the features of the public encoder."""
    raw = learn_pairs.learnt(held, learn_pairs.IMAGES_WAYS, known, seed, knows_heads)
    return _summed(held, learnt(held, known, seed, knows_heads, images=True), raw)


def _summed(held: Held, dual: Learnt, other: Learnt) -> Scored:
    """Scores of both, each divided by its spread at home, in the shares that rank left-out own reports best.

    Without a fold to judge by (fewer than two own patients) it is the other alone.
    """
    both = zip(dual.at_home, other.at_home, strict=False)  # the first folds of the same
    homes = [(home, first(home), second(home)) for (home, first), (_, second) in both]
    if not homes:
        return Scored(*other.scores(held), f"too few own pairs to train: {other.chosen}")
    spreads = [
        float(np.mean([_spread(*first) for _, first, _ in homes])),
        float(np.mean([_spread(*second) for _, _, second in homes])),
    ]

    def together(weight: float, first: Factors, second: Factors) -> Factors:
        shares = weight / spreads[0], (1 - weight) / spreads[1]
        queries = np.column_stack([shares[0] * first[0], shares[1] * second[0]])
        return queries, np.column_stack([first[1], second[1]])

    def worth(weight: float) -> float:
        return sum(judged(home, *together(weight, first, second)) for home, first, second in homes)

    best = max(_WEIGHTS, key=worth)
    said = f"{best:.0%} of {dual.chosen}; the rest: {other.chosen}"
    return Scored(*together(best, dual.scores(held), other.scores(held)), said)


def _spread(queries: np.ndarray, of_text: np.ndarray) -> float:
    """Deviation of a query's scores over reports, by the first 500 queries."""
    scores = queries[:500] @ of_text.T
    return max(float((scores - scores.mean(axis=1, keepdims=True)).std()), 1e-30)
