"""The canary audit on the code that trains: planted patients, one real run, an observer who sees every noisy sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.mitigation import accounting, canary, oneshot
from linkage_core.mitigation.engine import ClosedForm, Pairs, Recipe, Towers, train
from linkage_core.mitigation.noise import Source, System
from linkage_core.mitigation.objectives import Label
from linkage_core.progress import Progress, silent

MECHANISMS = ("label-dpsgd", oneshot.LABEL)


@dataclass(frozen=True)
class Planted:
    """Canaries: patients of one pair each, with random unit features and random findings; alike in nothing."""

    images: np.ndarray
    texts: np.ndarray
    findings: np.ndarray

    @classmethod
    def of(cls, n: int, d: int, t: int, k: int, seed: int | None) -> Planted:
        """n canaries with features of d and t dimensions and k findings. `seed` is of who they are, not of noise."""
        rng = np.random.default_rng(seed)
        images, texts = (oneshot.unit_rows(rng.standard_normal((n, width))) for width in (d, t))
        return cls(images, texts, (rng.random((n, k)) < 0.5).astype(np.float64))


@dataclass
class Observer(ClosedForm):
    """The engine under audit, watched: adds up, for each canary, how much every noisy sum leans its way.

    The observer knows everybody else, as the definition allows: the share of the first `n_real` units is taken away.
    """

    watched: ClosedForm
    planted: Planted
    clip: float
    n_real: int
    scores: np.ndarray = field(init=False)
    _directions: tuple[np.ndarray, np.ndarray] | None = None
    _known: Towers | None = None

    def __post_init__(self) -> None:
        self.scores = np.zeros(len(self.planted.images))

    def sample(self, n_units: int, q: float, source: Source) -> np.ndarray:
        return self.watched.sample(n_units, q, source)

    def clipped_sum(self, objective: Label, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:  # type: ignore[override]
        own = Label(self.planted.findings)
        everyone = np.arange(len(self.planted.images))
        z, u = self.planted.images @ at.image[:, :-1].T, self.planted.texts @ at.text[:, :-1].T
        dz, du = own.gradients(z, u, everyone)
        norms = np.sqrt((dz**2).sum(axis=1) + (du**2).sum(axis=1))[:, None]  # features are of norm 1
        self._directions = dz / norms, du / norms
        self._known = self.watched.clipped_sum(objective, at, pairs, rows[pairs.unit[rows] < self.n_real], clip)
        return self.watched.clipped_sum(objective, at, pairs, rows, clip)

    def noised(self, total: Towers, deviation: float, source: Source) -> Towers:
        noisy = self.watched.noised(total, deviation, source)
        if self._directions is not None and self._known is not None:
            dz, du = self._directions
            left = noisy.plus(self._known, -1.0)
            leaning = ((dz @ left.image[:, :-1]) * self.planted.images).sum(axis=1)
            leaning += ((du @ left.text[:, :-1]) * self.planted.texts).sum(axis=1)
            self.scores += leaning / self.clip
        return noisy


@dataclass(frozen=True)
class Real:
    """The training pairs, which stay what they are: images (n, d), texts (n, t), labels (n, 14), patients (n,)."""

    images: np.ndarray
    texts: np.ndarray
    labels: np.ndarray
    patients: np.ndarray


@dataclass(frozen=True)
class Design:
    """What is claimed and how it is tried. `q` to `rate` are label-dpsgd's own defaults; `seed` draws canaries and
    coins."""

    epsilon: float
    delta: float
    n_canaries: int = 1000
    q: float = 0.05
    steps: int = 200
    clip: float = 0.1
    rate: float = 50.0
    seed: int | None = None


def audit(
    mechanism: str,
    pairs: Real,
    design: Design,
    *,
    engine: ClosedForm | None = None,
    source: Source | None = None,
    progress: Progress = silent,
) -> tuple[canary.CanaryAudit, accounting.Run]:
    """Does the implementation leak more than it says? One run with planted patients, against the epsilon claimed.

    Half of the canaries, each by its own coin, are added as patients. The observer knows everybody else and, of
    label-dpsgd, sees every noisy sum and the heads at every step; of label-oneshot the one noisy sum. `engine` and
    `source` are what is audited.
    Returns the lower bound and the run with its claimed epsilon. InputError for a mechanism that is not covered.
    """
    if mechanism not in MECHANISMS:
        raise InputError(f"{mechanism!r} has no canary audit.", f"There is one for: {', '.join(MECHANISMS)}.")
    n_canaries, delta, clip, seed = design.n_canaries, design.delta, design.clip, design.seed
    if not n_canaries >= 1:
        raise InputError(f"n_canaries is {n_canaries}.", "Plant at least one; a few hundred say something.")
    source = source or System()
    x, t = oneshot.unit_rows(pairs.images), oneshot.unit_rows(pairs.texts)
    planted = Planted.of(n_canaries, x.shape[1], t.shape[1], len(LABELS), seed)
    real = np.nan_to_num(pairs.labels, nan=0.0).clip(0, 1)
    units = np.unique(pairs.patients, return_inverse=True)[1]
    if mechanism == oneshot.LABEL:
        query = accounting.Run(
            accounting.gaussian_sigma(design.epsilon, delta),
            1.0,
            1,
            oneshot.FORMS[mechanism].clip,
            "patient",
            delta,
            accountant=accounting.GAUSSIAN,
        )
        return canary.audit_run(_one_shot(query, planted, source), n_canaries, delta, seed=seed), query
    q, steps = design.q, design.steps
    run = accounting.Run(accounting.dpsgd_sigma(design.epsilon, delta, q, steps), q, steps, clip, "patient", delta)

    def trained(included: np.ndarray) -> np.ndarray:
        added = np.flatnonzero(included)
        used = Pairs.of(
            np.concatenate([x, planted.images[added]]),
            np.concatenate([t, planted.texts[added]]),
            np.concatenate([units, units.max() + 1 + np.arange(len(added))]),
            0.0,
        )
        objective = Label(np.concatenate([real, planted.findings[added]])[used.order])
        observer = Observer(engine or ClosedForm(), planted, clip, int(units.max()) + 1)
        k = len(LABELS)
        start = Towers(np.zeros((k, x.shape[1] + 1)), np.zeros((k, t.shape[1] + 1)))
        recipe = Recipe(clip, q, steps, design.rate, run.multiplier, momentum=0.9)
        train(start, used, objective, recipe, source, observer, progress)
        return observer.scores

    return canary.audit_run(trained, n_canaries, delta, seed=seed), run


def _one_shot(run: accounting.Run, planted: Planted, source: Source) -> Callable[[np.ndarray], np.ndarray]:
    """included -> scores. Everybody else is known and taken away: only the canaries stand beside the noise."""
    codes = oneshot.clipped_codes(planted.findings)

    def asked(included: np.ndarray) -> np.ndarray:
        each = [
            oneshot.blocks(x[None], t[None], c[None])
            for x, t, c in zip(planted.images, planted.texts, codes, strict=True)
        ]
        one = [oneshot.clipped_sums(factors, np.zeros(1, dtype=int), run.clip) for factors in each]
        total = {
            name: np.sum([mine[name] for mine, used in zip(one, included, strict=True) if used], axis=0)
            + np.zeros_like(block)
            for name, block in one[0].items()
        }
        noisy = oneshot.noised(total, run.multiplier * run.clip, source)
        return np.array([sum(float((noisy[name] * block).sum()) for name, block in mine.items()) for mine in one])

    return asked
