"""`statistics`: noisy sums over patients instead of records; whoever gets them trains a probe for own images.

An image with unit embedding x and findings y gives two blocks: c z^T and s z z^T, where z = (A^T (x - m), h) is x in a
public frame with a constant beside it, and c_k = a_k (y_k - p_k), 0 where finding k is not known, with public weights a
and prevalences p. Both blocks are summed over a patient's images and clipped as one vector to norm C, the clipped
vectors of all patients are summed, and every entry gets N(0, (multiplier C)^2). Adding or removing a patient moves the
sum by at most C, whatever the others are: the Gaussian mechanism, add/remove, mu = 1 / multiplier. What follows is
post-processing. A linkage through the file is limited as `bounds.unpaired`
and, for who knows all other patients, `bounds.central` say, beyond what its reader already had.

How it was designed (on the phantom's attacker split; held-out patients and the second site had no part in it):
- Frame. Noise of one size on A^T x is noise of A^-T on x. With covariance S of x and a clip that follows the mean norm,
  the noise that reaches a whitened probe is tr(A A^T S) tr((A A^T)^-1 S^-1), least where A A^T = S^-1 (Cauchy-Schwarz).
- Weights a_k = (p_k (1 - p_k))^-1/2 by the same argument: a rare finding is as well known as a common one.
- Both moments share a patient's clip, so clipped patients weigh less in a regression that stays the same regression: a
  clip that most patients feel costs little, and noise falls with it. Clipping only the first moment biased the probe.
- The covariance in the file beat a public one of another site, so it is part of it, at a small share of the norm.
- Where a public cohort has labels its probe is the start, and p_k(x) takes the place of p_k: the sums are the logistic
  gradient there, and the recipient takes one Newton step, shrunk towards the start (`Start`, `newton`). A tight clip
  hides the images that the start gets wrong, so it is wider there. Further steps from the same sums went astray, a
  second query cost more in noise than it brought.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import expit

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, StoreError
from linkage_core.mitigation import accounting, noise, oneshot
from linkage_core.release import bounds, limits
from linkage_core.release import stated as shapes
from linkage_core.release.checks import ASK, require_tensors
from linkage_core.release.keyed import Secret
from linkage_core.release.kind import Kind, Limit, Options
from linkage_core.release.records import Released, Source, public_of
from linkage_core.store.files import read_tensors, write_tensors
from linkage_core.store.seen import refuse_seen
from linkage_core.utility.probe import Probe, states_of, train_probe

KIND = "statistics"
SUMS = "statistics.safetensors"
FRESH = "fresh, from the operating system, not kept"
CLIP = 1.5  # of a patient, where a typical image has norm 1
START_CLIP = 2.5  # the same with a public start
SECOND = 0.3  # what the second moment is multiplied with
CONSTANT = 0.3  # beside a z of typical norm 1
PREVALENCE = 0.1  # where nothing is known in public
_SOFT = 1e-2  # of the mean public variance: directions below it are not blown up
_LEAST = 1e-3  # of the mean public variance: directions below it are left out
_LARGEST_RANK = 128
_RIDGE = 1e-2  # of the mean variance: the largest within one standard error of the best on the split that tuned it
_PRIORS = np.geomspace(1e-2, 1e6, 49)  # of w per squared weight that would explain the finding wholly
_STEPS = np.geomspace(1e-6, 1e6, 61)  # of w per squared weight that would move the log-odds of a typical image by 1
_ROUNDS = 3
_FLOOR = 0.03  # of the mean variance: the least that a curvature is carried over with
_OF_START = ("weights", "intercept", "variance", "curvature")
_SURE = 5e-3  # no public share or variance is taken to be nearer to 0
_OFF = 1e-3
_SCHEMA = 1
_EDGE = 0.005  # of a public prevalence
_REPRODUCIBLE = 0  # the seed of noise that anybody can repeat
_ABOUT = {"cohort": "name", "model": "model", "head": "head"}
_MECHANISM = "Gaussian mechanism on clipped sums over patients"
_SCHEMA_OF_START = 2  # a reader that knows no start must not take such sums for the others


@dataclass(frozen=True)
class Frame:
    """Public coordinates in which noise does the least harm: z = (x - centre) @ to; x - centre ~ z @ back.T.

    centre (e,), to (e, r), back (e, r) float64, back orthogonal columns. `made_from` names the public data.
    """

    centre: np.ndarray
    to: np.ndarray
    back: np.ndarray
    made_from: str

    @classmethod
    def of(cls, embeddings: np.ndarray, made_from: str) -> Frame:
        """Whitened by public embeddings (n, e), unlabelled: a public cohort, never the patients of the release.

        A typical public row gets norm 1. Directions of next to no public variance are left out, at most 128 kept.
        """
        rows = _finite(embeddings, "public embeddings")
        if len(rows) < 2 or not rows.std(axis=0).any():
            raise InputError(f"{len(rows)} public embeddings do not span anything.", "Give more, or Frame.plain.")
        centre = rows.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov(rows.T).reshape(rows.shape[1], -1))
        mean = values.mean()
        kept = np.flatnonzero(values > _LEAST * mean)[::-1][:_LARGEST_RANK]
        lengths = np.sqrt(values[kept] + _SOFT * mean)
        to = vectors[:, kept] / lengths
        typical = math.sqrt((((rows - centre) @ to) ** 2).sum(axis=1).mean())
        return cls(centre, to / typical, vectors[:, kept] * lengths * typical, made_from)

    @classmethod
    def plain(cls, dimension: int) -> Frame:
        """The embedding as it is: where no public embeddings are at hand."""
        return cls(np.zeros(dimension), np.eye(dimension), np.eye(dimension), "none")

    def __call__(self, embeddings: np.ndarray, constant: float = CONSTANT) -> np.ndarray:
        """(n, e) -> (n, r + 1), the constant last."""
        return np.column_stack([(embeddings - self.centre) @ self.to, np.full(len(embeddings), constant)])


@dataclass(frozen=True)
class Start:
    """A public probe with its curvature: p_k(x) = 1 / (1 + exp(-x . weights_k - intercept_k)).

    weights (e, K), intercept (K,), variance (K,) public mean of (y - p)^2; curvature (K, r + 1, r + 1), the public mean
    of p (1 - p) (u, 1) (u, 1)^T with u = z in the query's frame scaled to mean 0 and covariance I. `made_from` names
    the public data.
    """

    weights: np.ndarray
    intercept: np.ndarray
    variance: np.ndarray
    curvature: np.ndarray
    made_from: str

    @classmethod
    def of(
        cls, embeddings: np.ndarray, states: np.ndarray, patients: np.ndarray, frame: Frame, made_from: str
    ) -> Start:
        """From public embeddings (n, e), states (n, K) and patients (n,): never those of the release.

        A finding with too few public labels starts at its public share, or PREVALENCE, without a direction.
        """
        rows, states = _finite(embeddings, "public embeddings"), np.asarray(states, np.float64)
        if states.ndim != 2 or len(states) != len(rows) or len(patients) != len(rows) or len(rows) < 2:
            raise InputError(
                f"There are {len(rows)} public embeddings, states of shape {states.shape}, {len(patients)} patients.",
                "Give one row an image, two at least.",
            )
        probe = train_probe(rows, states, patients)
        scores = probe(rows)
        known = ~np.isnan(states)
        seen = [y[k].mean() if k.any() else PREVALENCE for y, k in zip(states.T, known.T, strict=True)]
        share = np.clip(seen, _SURE, 1 - _SURE)
        moved = np.array([_intercept(s[k], m) for s, k, m in zip(scores.T, known.T, share, strict=True)])
        made = cls(probe.weights, moved - probe.mean @ probe.weights, np.ones(0), np.ones(0), made_from)
        p = made(rows)
        off = np.where(known, (states - p) ** 2, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        variance = np.where(known.any(axis=0), np.maximum(off, _SURE), share * (1 - share))
        z = frame(rows)[:, :-1]
        u = (z - z.mean(axis=0)) @ np.linalg.inv(_root(np.cov(z.T).reshape(z.shape[1], -1)))
        u = np.column_stack([u, np.ones(len(u))])
        curvature = np.stack([(u * v[:, None]).T @ u / len(u) for v in (p * (1 - p)).T])
        return replace(made, variance=variance, curvature=curvature)

    def fits(self, frame: Frame, n_findings: int) -> bool:
        """Is it of the frame's dimensions, of so many findings, and finite?"""
        e, r = frame.to.shape
        found = [getattr(self, name) for name in _OF_START]
        shapes = [(e, n_findings), (n_findings,), (n_findings,), (n_findings, r + 1, r + 1)]
        return [one.shape for one in found] == shapes and all(np.isfinite(one).all() for one in found)

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, e) -> (n, K), each between 0 and 1 whatever the embedding."""
        return np.asarray(expit(embeddings @ self.weights + self.intercept))


@dataclass(frozen=True)
class Query:
    """What is asked of the patients; all of it public.

    findings K names; prevalence (K,) public guesses; weights (K,); frame; second, constant and clip as in the module;
    start: a public probe whose p_k(x) takes the place of the prevalences.
    """

    findings: tuple[str, ...]
    prevalence: np.ndarray
    weights: np.ndarray
    frame: Frame
    second: float
    constant: float
    clip: float
    start: Start | None = None

    @classmethod
    def of(
        cls,
        findings: Sequence[str],
        frame: Frame,
        *,
        prevalence: np.ndarray | None = None,
        clip: float | None = None,
        second: float = SECOND,
        constant: float = CONSTANT,
        start: Start | None = None,
    ) -> Query:
        """`prevalence` from public sources, one a finding (default 0.1 each): a wrong one costs accuracy alone.

        second 0 leaves the second moment out: the recipient then needs a public covariance. clip None: CLIP, or
        START_CLIP with a start.
        """
        if not len(findings) or len(set(findings)) != len(findings):
            raise InputError(f"findings is {list(findings)!r}.", "Name each finding once, one at least.")
        shares = np.full(len(findings), PREVALENCE) if prevalence is None else np.asarray(prevalence, np.float64)
        if shares.shape != (len(findings),) or not ((shares > 0) & (shares < 1)).all():
            raise InputError(
                f"prevalence is {shares.tolist()} for {len(findings)} findings.",
                "Give a share between 0 and 1 for each, from public sources.",
            )
        if clip is None:
            clip = CLIP if start is None else START_CLIP
        for name, value, least in (("clip", clip, 0.0), ("constant", constant, 0.0), ("second", second, -1e-300)):
            if not least < value < math.inf:
                raise InputError(f"{name} is {value}.", "Give a finite number above 0 (second may be 0).")
        if start is not None and not start.fits(frame, len(findings)):
            raise InputError(
                f"The start has {start.weights.shape[1]} findings and curvature of shape {start.curvature.shape}.",
                "Make it with Start.of in the same frame, for the same findings.",
            )
        variance = shares * (1 - shares) if start is None else start.variance
        weights = 1 / np.sqrt(len(findings) * variance)  # so that the codes of a typical image have norm 1
        return cls(tuple(findings), shares, weights, frame, second, constant, clip, start)

    def factors(self, embeddings: np.ndarray, states: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The factors (n, a), (n, b) of each block of an image's outer products."""
        z = self.frame(embeddings, self.constant)
        expected = self.prevalence if self.start is None else self.start(embeddings)
        codes = np.where(np.isnan(states), 0.0, states - expected) * self.weights
        return {"label": (codes, z), "second": (self.second * z, z)}


@dataclass(frozen=True)
class PatientSums:
    """Clipped sums over patients, not yet private: they stay at the site, or are synthetic.

    label (K, r + 1), second (r + 1, r + 1). `about` says what they were made from and travels with the release.
    """

    query: Query
    label: np.ndarray
    second: np.ndarray
    n_patients: int
    about: dict[str, Any]

    def release(self, epsilon: float, delta: float, source: noise.Source | None = None) -> Statistics:
        """What may leave, at any epsilon, from fresh noise of the operating system. Each call is one more query.

        A source with a stored seed, or an infinite epsilon, makes a release that is marked not private.
        """
        source = source or noise.System()
        multiplier = accounting.gaussian_sigma(epsilon, delta)
        sums = {"label": self.label, "second": self.second}
        if self.query.second == 0:  # then nothing of it was clipped, and nothing of it leaves
            del sums["second"]
        noisy = oneshot.noised(sums, multiplier * self.query.clip, source)
        second = noisy.get("second", np.zeros_like(self.second))
        return Statistics(
            query=self.query,
            # half the sum with its transpose has the law of noise on the upper triangle, off-diagonals times sqrt 2
            label=noisy["label"].astype(np.float32),
            second=((second + second.T) / 2).astype(np.float32),
            multiplier=multiplier,
            delta=delta,
            n_patients=self.n_patients,
            seed=source.seed,
            about=self.about,
        )

    def write(self, path: Path) -> None:
        """As one safetensors file, float64. Clean sums: no private release."""
        write_tensors(path, *_packed(self, {"about": self.about, "clean": True}))

    @classmethod
    def read(cls, path: Path) -> PatientSums:
        tensors, note = read_tensors(path)
        if note.get("kind") != KIND or not note.get("clean"):
            raise InputError(f"{path} holds no clipped sums of patients.", "Prepare them first.")
        return cls(_query(tensors, note), tensors["label"], tensors["second"], note["n_patients"], note["about"])


def prepare(
    embeddings: np.ndarray,
    states: np.ndarray,
    patients: np.ndarray,
    findings: Sequence[str],
    *,
    frame: Frame | None = None,
    prevalence: np.ndarray | None = None,
    clip: float | None = None,
    second: float = SECOND,
    start: Start | None = None,
    n_patients: int | None = None,
    about: dict[str, Any] | None = None,
) -> PatientSums:
    """Clipped sums of aligned images, all that a release at any epsilon needs.

    embeddings (n, e), off the shelf and of norm 1; anything else is refused (the clip bounds other norms too, but norms
    of 1e12 that cancel would be beyond the arithmetic); states (n, K) 1, 0, NaN not known (utility.states_of), a column
    for each finding; patients (n,). frame: public (default: none). start: public, made in that
    frame. Others: Query.
    n_patients: the number that is taken as public; None: as many as there are.
    """
    rows = _finite(embeddings, "embeddings")
    off = int((np.abs(np.linalg.norm(rows, axis=1) - 1) > _OFF).sum())
    if off:
        raise InputError(f"{off:,} of {len(rows):,} embeddings are off the unit sphere.", "Scale rows to norm 1.")
    states = np.asarray(states, np.float64)
    if states.shape != (len(rows), len(findings)) or len(patients) != len(rows):
        raise InputError(
            f"There are {len(rows)} embeddings, states of shape {states.shape}, {len(patients)} patients and "
            f"{len(findings)} findings.",
            "Give one row an image, one column a finding.",
        )
    if not np.isin(states[~np.isnan(states)], (0.0, 1.0)).all():
        raise InputError("A state is neither 0, 1 nor NaN.", "Take utility.states_of.")
    frame = frame or Frame.plain(rows.shape[1])
    if len(frame.centre) != rows.shape[1]:
        raise InputError(
            f"The frame is for {len(frame.centre)} dimensions, the embeddings have {rows.shape[1]}.",
            "Make it from public embeddings of the same model.",
        )
    query = Query.of(findings, frame, prevalence=prevalence, clip=clip, second=second, start=start)
    names, codes = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    sums = oneshot.clipped_sums(query.factors(rows[order], states[order]), codes[order], query.clip)
    return PatientSums(query, sums["label"], sums["second"], n_patients or len(names), about or {})


@dataclass(frozen=True)
class Moments:
    """What the noisy sums say of z, with the deviation of the noise that is left in an entry.

    n: images, by their weight after clipping, in all or (K,) for each finding. mean (r,), covariance (r, r), cross
    (K, r) = cov(y, z), prevalence (K,) = mean y; cross_noise (K,), covariance_noise. With a start, y - p(x) is in the
    place of y.
    """

    n: float | np.ndarray
    mean: np.ndarray
    covariance: np.ndarray
    cross: np.ndarray
    prevalence: np.ndarray
    cross_noise: np.ndarray
    covariance_noise: float


@dataclass(frozen=True)
class Statistics:
    """The release: all that the recipient gets. label (K, r + 1), second (r + 1, r + 1) float32, as in the module.

    multiplier: noise over clip. seed None: noise of the operating system; else, or without noise, not private.
    """

    query: Query
    label: np.ndarray
    second: np.ndarray
    multiplier: float
    delta: float
    n_patients: int
    seed: int | None
    about: dict[str, Any]

    @property
    def run(self) -> accounting.Run:
        return accounting.Run(
            self.multiplier, 1.0, 1, self.query.clip, "patient", self.delta, accountant=accounting.GAUSSIAN
        )

    @property
    def mu(self) -> float:
        """What it costs each patient in a ledger; infinite without noise."""
        return 1 / self.multiplier if self.multiplier else math.inf

    @property
    def private(self) -> bool:
        return self.seed is None and self.multiplier > 0

    def moments(self) -> Moments:
        """Undo weights, centring and scale. The count comes from the noisy sums too; the constant 0 means there is
        none, and moments about zero are taken."""
        query, deviation = self.query, self.multiplier * self.query.clip
        label, second = self.label.astype(np.float64), self.second.astype(np.float64)
        r = label.shape[1] - 1
        mean, moved = np.zeros(r), np.zeros(len(label))
        if query.constant == 0 or query.second == 0:
            n = float(self.n_patients)
        else:
            n = max(second[-1, -1] / (query.second * query.constant**2), 1.0)
            mean = second[:-1, -1] / (query.second * query.constant * n)
        if query.constant:
            moved = label[:, -1] / (query.weights * query.constant * n)
        return Moments(
            n=n,
            mean=mean,
            covariance=second[:-1, :-1] / ((query.second or 1.0) * n) - np.outer(mean, mean),
            cross=label[:, :-1] / (query.weights * n)[:, None] - np.outer(moved, mean),
            prevalence=np.clip(query.prevalence + moved, 1e-3, 1 - 1e-3) if query.start is None else moved,
            cross_noise=deviation / (query.weights * n),
            covariance_noise=deviation / (query.second * n) if query.second else 0.0,
        )

    def probe(self, covariance: np.ndarray | None = None, ridge: float = _RIDGE) -> Probe:
        """A linear reader of each finding from the file alone, knowing how noisy it is.

        covariance: unlabelled embeddings (m, e), own or public, instead of the second moment in the file; from images
        like the site's.

        How: see `fisher`, or `newton` where there is a start, which is then part of the probe. `ridge`, a share of the
        mean variance, is for images of another site; a start is public and shrunk already, and needs none.
        """
        found = self.moments()
        centre = self.query.frame.centre
        if covariance is not None:
            rows = _finite(covariance, "embeddings for the covariance")
            if rows.ndim != 2 or rows.shape[1] != len(centre) or len(rows) < 2:
                raise InputError(
                    f"The embeddings for the covariance have shape {rows.shape}.", f"Give (m, {len(centre)})."
                )
            gram = np.cov(self.query.frame(rows)[:, :-1].T).reshape(len(found.mean), -1)
            found = replace(found, covariance=gram, covariance_noise=0.0)
        elif self.query.second == 0:
            raise InputError(
                "The release holds no second moment.", "Give unlabelled embeddings of images like the site's."
            )
        start = self.query.start
        if start is None:
            weights = self.query.frame.to @ fisher(found, np.linalg.norm(self.query.frame.back, axis=0), ridge).T
        else:
            weights = start.weights + self.query.frame.to @ newton(found, start, self.query.constant).T
        return Probe(
            mean=centre,
            weights=weights,
            penalty=np.full(weights.shape[1], np.nan),
            trained=np.abs(weights).max(axis=0) > 0,
        )

    def write(self, path: Path) -> None:
        """As one safetensors file; nothing else of the patients is in it."""
        note = {"multiplier": self.multiplier, "delta": self.delta, "seed": self.seed, "about": self.about}
        write_tensors(path, *_packed(self, note))

    @classmethod
    def read(cls, path: Path) -> Statistics:
        tensors, note = read_tensors(path)
        if note.get("kind") != KIND or note.get("clean") or note.get("schema") not in (_SCHEMA, _SCHEMA_OF_START):
            raise InputError(f"{path} is no release of statistics.", f"Ask for a file of kind {KIND}.")
        fields = {name: note[name] for name in ("multiplier", "delta", "n_patients", "seed", "about")}
        made = cls(_query(tensors, note), tensors["label"], tensors["second"], **fields)
        r = made.query.frame.to.shape[1] + 1
        shapes = (made.label.shape, made.second.shape)
        if shapes != ((len(made.query.findings), r), (r, r)) or not np.isfinite(made.label).all():
            raise InputError(f"{path} holds sums of shapes {shapes}.", "Ask for the file again.")
        start = made.query.start
        if start is not None and not start.fits(made.query.frame, len(made.query.findings)):
            raise InputError(f"{path} holds a public start that does not fit its sums.", "Ask for the file again.")
        return made


def fisher(found: Moments, scale: np.ndarray, ridge: float = _RIDGE) -> np.ndarray:
    """Weights (K, r) on z of a linear reader of each finding, from moments that carry noise of known size.

    Fisher's direction is w = G^-1 s with G = cov(z), s = cov(y, z) (with all images in G, not those of one class, only
    its length changes). What is seen is s + e and G + E: s + e = (G + E) w + r with r ~ N(0, cross_noise^2 + |w|^2
    covariance_noise^2) an entry, and p (1 - p) G / n from sampling: errors in variables. With w ~ N(0, t) in the
    embedding's own coordinates the best linear estimate is t G (t G G + var r)^-1 s, t of each finding by the
    likelihood of s (empirical Bayes), var r by turns with w.

    scale (r,): from z to the embedding's own units, in which t and the ridge are meant.
    """
    noise = found.covariance_noise
    values, vectors = np.linalg.eigh(found.covariance)
    edge = noise * math.sqrt(2 * len(values))  # a quarter of it: see `_regular` of the one-shot heads for the edge
    values = np.maximum(values, 0.25 * edge + 1e-9 * max(values[-1], 1e-300))
    gram = (vectors * values) @ vectors.T * np.outer(scale, scale)
    cross = found.cross * scale
    weights = np.zeros(cross.shape)
    variance = found.prevalence * (1 - found.prevalence)
    priors = (variance * len(gram) / np.trace(gram))[:, None] * _PRIORS
    sampling = variance / found.n
    for k, s in enumerate(cross):
        w = weights[k]
        for _ in range(_ROUNDS):
            own = found.cross_noise[k] ** 2 + noise**2 * ((w * scale) @ (w * scale))
            w = _best(gram, s, own * np.diag(scale**2) + sampling[k] * gram, priors[k])
        weights[k] = w
    if ridge:
        shrink = ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
        weights = np.linalg.solve(gram + shrink, gram @ weights.T).T
    return np.asarray(weights * scale)


def newton(found: Moments, start: Start, constant: float = CONSTANT) -> np.ndarray:
    """What to add (K, r) to a public start's weights on z: one Newton step of the logistic likelihood, shrunk.

    With g = E[(y - p) (z, 1)] and H = E[p (1 - p) (z, 1) (z, 1)^T], w = H^-1 g to first order. The intercept is
    eliminated: s = g_z - u g_1 and G = H_zz - u H_z1^T with u = H_z1 / H_11. What is seen of s carries the noise of g,
    and G / n from sampling; w ~ N(0, t), t by the likelihood of s, as in `fisher`: where the sums say nothing that
    noise would not, the start stays as it is.

    H is not in the file. Taken is the mean of two: the public curvature carried over to the file's mean and covariance,
    and the variance of the start's residuals times E[(z, 1) (z, 1)^T], which is Fisher's.
    """
    noise, mean, r = found.covariance_noise, found.mean, len(found.mean)
    values, vectors = np.linalg.eigh(found.covariance)
    values = np.maximum(values, 0.25 * noise * math.sqrt(2 * r) + 1e-9 * max(values[-1], 1e-300))
    covariance = (vectors * values) @ vectors.T
    second = np.block([[covariance + np.outer(mean, mean), mean[:, None]], [mean, np.ones(1)]])
    carry = np.block([[_root(covariance), mean[:, None]], [np.zeros(r), np.ones(1)]])
    steps = np.zeros(found.cross.shape)
    counts = np.broadcast_to(np.asarray(found.n, np.float64), len(steps))
    for k, (curvature, moved) in enumerate(zip(start.curvature, found.prevalence, strict=True)):
        hessian = (carry @ curvature @ carry.T + start.variance[k] * second) / 2
        u, flat = hessian[:-1, -1] / hessian[-1, -1], hessian[-1, -1]
        values, vectors = np.linalg.eigh(hessian[:-1, :-1] - np.outer(u, hessian[-1, :-1]))
        gram = (vectors * np.maximum(values, 1e-3 * values.mean())) @ vectors.T
        s = found.cross[k] + moved * (mean - u)
        priors = flat * r / np.trace(gram) * _STEPS
        for _ in range(_ROUNDS):
            own = found.cross_noise[k] ** 2 + (noise * flat) ** 2 * (steps[k] @ steps[k])
            spread = own * (np.eye(r) + np.outer(u, u) / constant**2)
            steps[k] = _best(gram, s, spread + gram / counts[k], priors)
    return steps


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric root, with nothing below a small share of the mean variance."""
    values, vectors = np.linalg.eigh(covariance)
    least = max(_FLOOR * float(values.mean()), 1e-300)
    return np.asarray((vectors * np.sqrt(np.maximum(values, least))) @ vectors.T)


def _intercept(scores: np.ndarray, share: float) -> float:
    """b with mean 1 / (1 + exp(-scores - b)) = share, by halving."""
    scores = scores if len(scores) else np.zeros(1)
    low, high = -40.0 - float(scores.max()), 40.0 - float(scores.min())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(scores + middle).mean() < share else (low, middle)
    return (low + high) / 2


def _best(gram: np.ndarray, s: np.ndarray, noise: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """Posterior mean of w from s = gram w + N(0, noise), w ~ N(0, t), at the t of `priors` that makes s most likely.

    With noise = L L^T and L^-1 gram gram L^-T = R diag(v) R^T, u = R^T L^-1 s is N(0, 1 + t v) entry by entry.
    """
    root = np.linalg.cholesky(noise + 1e-12 * max(np.trace(noise) / len(noise), 1e-300) * np.eye(len(noise)))
    whitened = np.linalg.solve(root, gram)
    values, turn = np.linalg.eigh(whitened @ whitened.T)
    values = np.maximum(values, 0.0)
    u = turn.T @ np.linalg.solve(root, s)
    spread = 1 + priors[:, None] * values
    t = priors[np.argmin((np.log(spread) + u**2 / spread).sum(axis=1))]
    return np.asarray(whitened.T @ (turn @ (t * u / (1 + t * values))))


def _finite(rows: np.ndarray, name: str) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all():
        raise InputError(f"The {name} have shape {rows.shape} or hold NaN.", "Give one finite row an image.")
    return rows


def _packed(made: PatientSums | Statistics, note: dict[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    query = made.query
    tensors = {
        "label": made.label,
        "second": made.second,
        "prevalence": query.prevalence,
        "weights": query.weights,
        "centre": query.frame.centre,
        "to": query.frame.to,
        "back": query.frame.back,
    }
    start, schema = query.start, _SCHEMA
    if start is not None:
        tensors |= {f"start_{name}": getattr(start, name) for name in _OF_START}
        note, schema = {"start_from": start.made_from, **note}, _SCHEMA_OF_START
    numbers = {"second": query.second, "constant": query.constant, "clip": query.clip, "n_patients": made.n_patients}
    names = {"kind": KIND, "schema": schema, "findings": list(query.findings), "made_from": query.frame.made_from}
    return tensors, {**names, **numbers, **note}


def _query(tensors: dict[str, np.ndarray], note: dict[str, Any]) -> Query:
    frame = Frame(tensors["centre"], tensors["to"], tensors["back"], note["made_from"])
    numbers = {name: float(note[name]) for name in ("second", "constant", "clip")}
    start = None
    if note.get("schema") == _SCHEMA_OF_START:
        start = Start(**{name: tensors[f"start_{name}"] for name in _OF_START}, made_from=note["start_from"])
    return Query(tuple(note["findings"]), tensors["prevalence"], tensors["weights"], frame, **numbers, start=start)


# ----------------------------------------------------------------------------------------------- as a kind of release


def as_statistics(source: Source, options: Options) -> Statistics:
    """Noisy sums over the patients; frame, prevalences and start from a public cohort where one is named.

    Raises InputError where the head was trained on one of the patients.
    """
    _require_unseen(source)
    columns = [LABELS.index(name) for name in options.listed]
    states = states_of(source.records)[:, columns]
    frame = prevalence = start = None
    if options.public is not None:
        known, embeddings, public_states, whose = public_of(source, options.public, KIND)
        frame = Frame.of(embeddings, f"{known.cohort} ({len(embeddings):,} records)")
        seen = np.nan_to_num(np.nanmean(public_states[:, columns], axis=0), nan=PREVALENCE)
        prevalence = np.clip(seen, _EDGE, 1 - _EDGE)
        start = Start.of(embeddings, public_states[:, columns], whose, frame, frame.made_from)
    sums = prepare(
        source.embeddings,
        states,
        source.patients,
        options.listed,
        frame=frame,
        prevalence=prevalence,
        start=start,
        n_patients=_public_size(source, options),
        about={"cohort": source.entry.cohort, "model": source.entry.model, "head": source.head},
    )
    try:
        delta, _ = accounting.delta_for(sums.n_patients, options.delta)
    except InputError as error:
        raise InputError(error.what, "Take a smaller --delta, or leave it out.") from error
    drawn = noise.Seeded(_REPRODUCIBLE) if options.reproducible else noise.System()
    return sums.release(float(options.epsilon or 0), delta, drawn)


def _public_size(source: Source, options: Options) -> int:
    """How many patients are said to be summed: as declared, or rounded down (exact for a synthetic cohort)."""
    if options.public_size is not None:
        return options.public_size
    n = len(np.unique(source.patients))
    return n if source.entry.synthetic else accounting.public_size(n)


def _require_unseen(source: Source) -> None:
    """InputError where the head was trained on patients of the sums: then one of them moves the embeddings of all."""
    try:
        refuse_seen(source.entry, source.head, source.split)
    except InputError as error:
        raise InputError(
            error.what, "The limit counts what a patient adds to the sums alone: take another head, or other patients."
        ) from error


def _make(source: Source, options: Options, secret: Secret) -> Released:
    sums = as_statistics(source, options)
    return Released(mechanism_of(sums), data={SUMS: sums.write})


def _sense(options: Options) -> None:
    """InputError without an epsilon, or for one that is no limit, or for a size that is none."""
    if options.public_size is not None and options.public_size < 1:
        raise InputError(f"--public-size is {options.public_size}.", "Declare a number of patients, 1 or more.")
    if options.epsilon is None:
        raise InputError("A release of statistics needs an epsilon.", "Give --epsilon, for example --epsilon 1.")
    if not 0 < options.epsilon < math.inf:
        raise InputError(f"--epsilon is {options.epsilon}.", "It is above 0 and finite: sums without noise stay here.")


def mechanism_of(made: Statistics) -> dict[str, Any]:
    """What the certificate says of the sums: the numbers of the mechanism, from the file alone."""
    return {
        "name": _MECHANISM,
        "findings": list(made.query.findings),
        "n_patients": made.n_patients,
        "clip": made.query.clip,
        "multiplier": made.multiplier,
        "delta": made.delta,
        "mu": None if not made.multiplier else made.mu,
        "public": made.query.frame.made_from,
        "seed": made.seed,
    }


def _disagreement(stated: Mapping[str, Any]) -> str:
    mechanism, repeatable = stated["mechanism"], stated["reproducible"]
    if (mechanism["seed"] is not None) != repeatable:
        return f"mechanism.seed is {mechanism['seed']!r}, and reproducible {repeatable}."
    if not math.isclose(mechanism["mu"] * mechanism["multiplier"], 1, rel_tol=shapes.CLOSE):
        return "mechanism.mu is not 1 / multiplier."
    return ""


def _bounds(stated: dict[str, Any]) -> limits.Bounds:
    mu = float(stated["mechanism"]["mu"])
    return {
        "alone": lambda n: bounds.central(mu, n),
        "unpaired": lambda n: bounds.unpaired(mu, n),
        **limits.with_before(stated, 1.0, mu, sums=True),
    }


def _assumptions(stated: dict[str, Any]) -> list[str]:
    return [
        f"Unit: the patient, add or remove one; noise {FRESH}; mu = {float(stated['mechanism']['mu']):.4g}.",
        _size_in_words(stated),
        "For this one query: others on the same patients add up (mu in squares); the site's ledger counts them.",
        "What the sums say about everybody, such as how a finding looks, is not about one patient.",
        "Proved for real numbers; the computer's are 32 and 64 bits long.",
    ]


def _size_in_words(stated: dict[str, Any]) -> str:
    if stated["cohort"]["synthetic"]:
        return "The number of patients is public."
    n = stated["mechanism"]["n_patients"]
    return f"That there are about {n:,} patients is taken to be public; the exact number is not told, nor used."


def _sentences(rows: list[dict[str, Any]]) -> list[str]:
    return [
        "Whoever gets this file, and has images and reports of summed patients but not which belongs to which, any "
        "matching of them as likely as any other, picks an image's report among N with probability "
        f"{limits.numbers(rows, 'unpaired')}. That is beyond what they already had.",
        "Somebody to whom the other patients' data do not depend on which report is right, who knows them all, say: "
        f"{limits.numbers(rows, 'alone')}.",
        "Nothing here limits somebody who knows the order of images and reports, be it up to a shift: then every "
        "patient's pair depends on the answer.",
    ]


def _holds_for(stated: dict[str, Any]) -> str:
    return (
        "N reports of patients who may have been in the sums, each equally likely to the attacker before the file "
        "was seen; where images and reports are held unpaired, any matching of them as likely as any other. A smaller "
        "N, from age, date or text, gives its own row."
    )


def _check(folder: Path, content: dict[str, Any], table: pa.Table) -> None:
    """The sums are those of the certificate's mechanism: findings, patients, noise; with nothing else in the file."""
    path, mechanism, cohort = folder / SUMS, content["mechanism"], content["cohort"]
    made = Statistics.read(path)
    for name, found in mechanism_of(made).items():
        where = shapes.difference(mechanism[name], found)
        if where:
            raise StoreError(f"{path}: its {name} is not the certificate's.", ASK)
    k, e, r = len(mechanism["findings"]), *made.query.frame.to.shape
    lengths = {"prevalence": (k,), "weights": (k,)}
    for name, shape in lengths.items():
        if getattr(made.query, name).shape != shape:
            raise StoreError(f"{path}: {name} is not of shape {shape}.", ASK)
    frame = made.query.frame
    if frame.centre.shape != (e,) or frame.back.shape != (e, r):
        raise StoreError(f"{path}: its frame is not of one shape.", ASK)
    finite = (made.label, made.second, made.query.prevalence, made.query.weights, frame.centre, frame.to, frame.back)
    if not all(np.isfinite(one).all() for one in finite):
        raise StoreError(f"{path}: a number is not finite.", ASK)
    doubles = ["prevalence", "weights", "centre", "to", "back"]
    source = shapes.one_of(mechanism["public"])
    note: dict[str, Any] = {
        "kind": shapes.one_of(KIND),
        "schema": shapes.whole(1),
        "made_from": source,
        "findings": shapes.findings,
        "about": {name: shapes.one_of(cohort[of]) for name, of in _ABOUT.items()},
        "seed": shapes.one_of(mechanism["seed"]),
        **{name: shapes.number(0.0) for name in ("second", "constant", "clip", "n_patients", "multiplier", "delta")},
    }
    if made.query.start is not None:
        note["start_from"] = source
        doubles += [f"start_{name}" for name in ("weights", "intercept", "variance", "curvature")]
    require_tensors(path, {**dict.fromkeys(doubles, "F64"), "label": "F32", "second": "F32"}, note)


def _reader(folder: Path) -> tuple[str, tuple[str, ...], Probe | None]:
    made = Statistics.read(folder / SUMS)
    if "space" in made.about:
        return f"the sums are of {made.about['space']}, not of embeddings", made.query.findings, None
    return "sums over patients", made.query.findings, made.probe()


ROW = Kind(
    name=KIND,
    title="Statistics",
    words="noisy sums over patients, from which a classifier is trained; no records",
    usage="--epsilon E: noisy sums over patients; for who trains classifiers. The first choice.",
    heading=lambda content: (
        f"Statistics over {'' if content['cohort']['synthetic'] else 'about '}"
        f"{content['mechanism']['n_patients']:,} patients"
    ),
    takes=("epsilon", "delta", "public_size", "findings", "public"),
    make=_make,
    sense=_sense,
    files={SUMS: "noisy sums over patients"},
    parts=lambda mechanism: {
        "name": shapes.one_of(_MECHANISM),
        "findings": shapes.findings,
        "n_patients": shapes.whole(1),
        "clip": shapes.number(1e-9),
        "multiplier": shapes.number(1e-9),
        "delta": shapes.number(1e-300, 1.0),
        "mu": shapes.number(1e-12),
        "public": lambda value: value == "none" or shapes.misfit(shapes.PUBLIC, value) is None,
        "seed": shapes.none_or(shapes.whole(0, 2**64)),
    },
    disagreement=_disagreement,
    check=_check,
    limit=Limit(
        bounds=_bounds,
        assumptions=_assumptions,
        mu=lambda stated: float(stated["mechanism"]["mu"]),
        sentences=_sentences,
        holds_for=_holds_for,
        at=lambda option, n: float(bounds.unpaired(option["mu"], n)),
        paired=lambda option, n: float(bounds.central(option["mu"], n)),
        shown={
            "alone": "who knows the other patients",
            "unpaired": "who holds images and reports unpaired",
            "with_before": "who knows the others, with what left before",
            "with_before_unpaired": "who holds them unpaired, with what left before",
        },
    ),
    reader=_reader,
)
