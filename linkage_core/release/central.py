"""`statistics`: noisy sums over patients instead of records; whoever gets them trains a probe for own images.

An image with unit embedding x and findings y gives two blocks: c z^T and s z z^T, where z = (A^T (x - m), h) is x in a
public frame with a constant beside it, and c_k = a_k (y_k - p_k), 0 where finding k is not known, with public weights a
and prevalences p. Both blocks are summed over a patient's images and clipped as one vector to norm C, the clipped
vectors of all patients are summed, and every entry gets N(0, (multiplier C)^2). Adding or removing a patient moves the
sum by at most C, whatever the others are: the Gaussian mechanism, add/remove, mu = 1 / multiplier. What follows is
post-processing. A linkage through the file is limited as `bounds.central` says, beyond what its reader already had.

How it was designed (on the phantom's attacker split; held-out patients and the second site had no part in it):
- Frame. Noise of one size on A^T x is noise of A^-T on x. With covariance S of x and a clip that follows the mean norm,
  the noise that reaches a whitened probe is tr(A A^T S) tr((A A^T)^-1 S^-1), least where A A^T = S^-1 (Cauchy-Schwarz).
- Weights a_k = (p_k (1 - p_k))^-1/2 by the same argument: a rare finding is as well known as a common one.
- Both moments share a patient's clip, so clipped patients weigh less in a regression that stays the same regression: a
  clip that most patients feel costs little, and noise falls with it. Clipping only the first moment biased the probe.
- The covariance in the file beat a public one of another site, so it is part of it, at a small share of the norm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.errors import InputError
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation.noise import Source, System
from linkage_core.release import bounds
from linkage_core.store import read_tensors, write_tensors
from linkage_core.utility import Probe

KIND = "statistics"
CLIP = 1.5  # of a patient, where a typical image has norm 1
SECOND = 0.3  # what the second moment is multiplied with
CONSTANT = 0.3  # beside a z of typical norm 1
PREVALENCE = 0.1  # where nothing is known in public
_SOFT = 1e-2  # of the mean public variance: directions below it are not blown up
_LEAST = 1e-3  # of the mean public variance: directions below it are left out
_LARGEST_RANK = 128
_RIDGE = 1e-2  # of the mean variance: the largest within one standard error of the best on the split that tuned it
_PRIORS = np.geomspace(1e-2, 1e6, 49)  # of w per squared weight that would explain the finding wholly
_ROUNDS = 3
_OFF = 1e-3
_SCHEMA = 1


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
class Query:
    """What is asked of the patients; all of it public.

    findings K names; prevalence (K,) public guesses; weights (K,); frame; second, constant and clip as in the module.
    """

    findings: tuple[str, ...]
    prevalence: np.ndarray
    weights: np.ndarray
    frame: Frame
    second: float
    constant: float
    clip: float

    @classmethod
    def of(
        cls,
        findings: Sequence[str],
        frame: Frame,
        *,
        prevalence: np.ndarray | None = None,
        clip: float = CLIP,
        second: float = SECOND,
        constant: float = CONSTANT,
    ) -> Query:
        """`prevalence` from public sources, one a finding (default 0.1 each): a wrong one costs accuracy alone.

        second 0 leaves the second moment out: the recipient then needs a public covariance.
        """
        if not len(findings) or len(set(findings)) != len(findings):
            raise InputError(f"findings is {list(findings)!r}.", "Name each finding once, one at least.")
        shares = np.full(len(findings), PREVALENCE) if prevalence is None else np.asarray(prevalence, np.float64)
        if shares.shape != (len(findings),) or not ((shares > 0) & (shares < 1)).all():
            raise InputError(
                f"prevalence is {shares.tolist()} for {len(findings)} findings.",
                "Give a share between 0 and 1 for each, from public sources.",
            )
        for name, value, least in (("clip", clip, 0.0), ("constant", constant, 0.0), ("second", second, -1e-300)):
            if not least < value < math.inf:
                raise InputError(f"{name} is {value}.", "Give a finite number above 0 (second may be 0).")
        variance = shares * (1 - shares)
        weights = 1 / np.sqrt(len(findings) * variance)  # so that the codes of a typical image have norm 1
        return cls(tuple(findings), shares, weights, frame, second, constant, clip)

    def factors(self, embeddings: np.ndarray, states: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The factors (n, a), (n, b) of each block of an image's outer products."""
        z = self.frame(embeddings, self.constant)
        codes = np.where(np.isnan(states), 0.0, states - self.prevalence) * self.weights
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

    def release(self, epsilon: float, delta: float, source: Source | None = None) -> Statistics:
        """What may leave, at any epsilon, from fresh noise of the operating system. Each call is one more query.

        A source with a stored seed, or an infinite epsilon, makes a release that is marked not private.
        """
        source = source or System()
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
    clip: float = CLIP,
    second: float = SECOND,
    about: dict[str, Any] | None = None,
) -> PatientSums:
    """Clipped sums of aligned images, all that a release at any epsilon needs.

    embeddings (n, e), off the shelf and of norm 1; anything else is refused (the clip bounds other norms too, but norms
    of 1e12 that cancel would be beyond the arithmetic); states (n, K) 1, 0, NaN not known (utility.states_of), a column
    for each finding; patients (n,). frame: public (default: none). Others: Query.
    The number of patients is taken as public.
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
    query = Query.of(findings, frame, prevalence=prevalence, clip=clip, second=second)
    names, codes = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    sums = oneshot.clipped_sums(query.factors(rows[order], states[order]), codes[order], clip)
    return PatientSums(query, sums["label"], sums["second"], len(names), about or {})


def of_prepared(prepared: oneshot.Prepared) -> PatientSums:
    """From the sums of `label-oneshot`: its image blocks are a part of the clipped vector, so its clip bounds them too.

    In the space of the image features scaled to norm 1, which the recipient computes as well as the embedding; without
    a public frame, prevalences or counts, so the probe is less exact than from `prepare`.
    """
    if prepared.mechanism != oneshot.LABEL or prepared.unit != "patient":
        raise InputError(
            f"These are sums of {prepared.mechanism} by {prepared.unit}.", f"Take {oneshot.LABEL} by patient."
        )
    label, second = prepared.sums["image_label"].T, prepared.sums["image_image"]
    n_findings, d = label.shape
    query = Query(prepared.findings, np.zeros(n_findings), np.ones(n_findings), Frame.plain(d), 1.0, 0.0, prepared.clip)
    return PatientSums(
        query,
        np.column_stack([label, np.zeros(n_findings)]),
        np.pad(second, (0, 1)),
        prepared.n_units,
        {**prepared.about, "space": "image features scaled to norm 1"},
    )


@dataclass(frozen=True)
class Moments:
    """What the noisy sums say of z, with the deviation of the noise that is left in an entry.

    n: images, by their weight after clipping, in all or (K,) for each finding. mean (r,), covariance (r, r), cross
    (K, r) = cov(y, z), prevalence (K,); cross_noise (K,), covariance_noise.
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

    def limits(self, pool_sizes: Sequence[int] = (100, 1_000, 10_000)) -> dict[str, Any]:
        """For a certificate: what was done, and for each N the most that Recall@1 can be; None where not private."""
        certified = {int(n): float(bounds.central(self.mu, n)) if self.private else None for n in pool_sizes}
        return {**self.run.record(), "mu": self.mu if self.private else None, "private": self.private} | {
            "findings": list(self.query.findings),
            "n_patients": self.n_patients,
            "recall_at_1": certified,
            "lift": {n: None if recall is None else float(recall * n) for n, recall in certified.items()},
        }

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
            prevalence=np.clip(query.prevalence + moved, 1e-3, 1 - 1e-3),
            cross_noise=deviation / (query.weights * n),
            covariance_noise=deviation / (query.second * n) if query.second else 0.0,
        )

    def probe(self, covariance: np.ndarray | None = None, ridge: float = _RIDGE) -> Probe:
        """A linear reader of each finding from the file alone, knowing how noisy it is.

        covariance: unlabelled embeddings (m, e), own or public, instead of the second moment in the file; from images
        like the site's.

        How: see `fisher`. `ridge`, a share of the mean variance, is for images of another site.
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
        weights = fisher(found, np.linalg.norm(self.query.frame.back, axis=0), ridge)
        return Probe(
            mean=centre,
            weights=self.query.frame.to @ weights.T,
            penalty=np.full(len(weights), np.nan),
            trained=np.abs(weights).max(axis=1) > 0,
        )

    def write(self, path: Path) -> None:
        """As one safetensors file; nothing else of the patients is in it."""
        note = {"multiplier": self.multiplier, "delta": self.delta, "seed": self.seed, "about": self.about}
        write_tensors(path, *_packed(self, note))

    @classmethod
    def read(cls, path: Path) -> Statistics:
        tensors, note = read_tensors(path)
        if note.get("kind") != KIND or note.get("clean") or note.get("schema") != _SCHEMA:
            raise InputError(f"{path} is no release of statistics.", f"Ask for a file of kind {KIND}.")
        fields = {name: note[name] for name in ("multiplier", "delta", "n_patients", "seed", "about")}
        made = cls(_query(tensors, note), tensors["label"], tensors["second"], **fields)
        r = made.query.frame.to.shape[1] + 1
        shapes = (made.label.shape, made.second.shape)
        if shapes != ((len(made.query.findings), r), (r, r)) or not np.isfinite(made.label).all():
            raise InputError(f"{path} holds sums of shapes {shapes}.", "Ask for the file again.")
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
    numbers = {"second": query.second, "constant": query.constant, "clip": query.clip, "n_patients": made.n_patients}
    names = {"kind": KIND, "schema": _SCHEMA, "findings": list(query.findings), "made_from": query.frame.made_from}
    return tensors, {**names, **numbers, **note}


def _query(tensors: dict[str, np.ndarray], note: dict[str, Any]) -> Query:
    frame = Frame(tensors["centre"], tensors["to"], tensors["back"], note["made_from"])
    numbers = {name: float(note[name]) for name in ("second", "constant", "clip")}
    return Query(tuple(note["findings"]), tensors["prevalence"], tensors["weights"], frame, **numbers)
