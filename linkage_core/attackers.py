"""Attackers who adapt: what does a release give away to somebody who works for it?

Cosine similarity understates an attacker, most of all after a mitigation that only moves the embeddings about. Each
attacker here has a name and a list of what it holds; it learns from the attacker's own split, whose patients are none
of the queries', and is then scored once on the held-out split. Whatever it learns ends as one inner product,

    score(image i, report j) = q_i . c_j,    with c_j made from the text of report j alone,

a report-only term being one more coordinate (q gets a 1), while an image-only term ranks nothing. So
ranking.match_counts counts every attacker exactly, and identical texts tie exactly.

What is measured is a lower bound: another attacker may do better. release.ceiling is the other side, for all attackers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from linkage_core import pools, statistics
from linkage_core.audit import PoolSize, Study
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.heads import Heads, unit
from linkage_core.progress import Progress, silent
from linkage_core.ranking import MatchCounts, distinct, match_counts
from linkage_core.seen import usable
from linkage_core.store import OFF_THE_SHELF, Entry
from linkage_core.validate import one_of

Known = int | Literal["all"]
"""How many of its own images or pairs an attacker has seen released."""

RELEASES = {
    "raw-images": "the images themselves; any public encoder can be run on them",
    "embeddings": "the embeddings, their heads kept secret",
    "embeddings-and-heads": "the embeddings and both heads",
}
ATTACKERS = {
    "cosine": "cosine of the released embedding with the report under the released text head; adapts nothing",
    "white-box": "undoes the released image head and compares with off-the-shelf reports; no known pair",
    "known-images": "aligns the released embeddings of m own images with their off-the-shelf ones",
    "known-pairs": "learns the report's text features from m own released embeddings",
    "bayes-gaussian": "fits the law of the release given the report from m own pairs, and ranks by likelihood",
    "reader": "the better at home of known-pairs and bayes-gaussian, and reads the 14 findings of each report",
    "raw-images": "as reader, on the features of the public encoder that no head has touched",
}
_WITHOUT_HEADS = ("known-images", "known-pairs", "bayes-gaussian", "reader")
HOLDS: dict[str, tuple[str, ...]] = {
    "raw-images": ("raw-images",),
    "embeddings": _WITHOUT_HEADS,
    "embeddings-and-heads": ("cosine", "white-box", *_WITHOUT_HEADS),
}
"""Who can act on which release. Off-the-shelf heads are public, so nothing is withheld by not sending them."""
KNOWN: tuple[Known, ...] = (0, 10, 100, 1000, 5000, "all")
_NONE_KNOWN = ("cosine", "white-box")  # take no m

FOLDS = 5
_VALIDATION = 2000  # queries of a fold that score a variant: enough to tell them apart
_VALIDATION_POOL = 1000
_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


# -------------------------------------------------------------------------------------------------- what is held


@dataclass(frozen=True)
class Asked:
    """Queries and candidates: what is scored.

    released (n_queries, e) as it left the site; images (n_queries, d) public features, read by raw-images alone; texts
    (n_texts, t) public features of each distinct report and findings (n_texts, 14, or 0 columns) its four-valued
    labels; text_of (n_candidates,) row of each candidate's text; match (n_queries,) candidate of each query, read by
    nothing but the final count; query_group (n_queries,) and candidate_group (n_candidates,) patients.
    """

    released: np.ndarray
    images: np.ndarray
    texts: np.ndarray
    findings: np.ndarray
    text_of: np.ndarray
    match: np.ndarray
    query_group: np.ndarray
    candidate_group: np.ndarray

    def count(self, queries: np.ndarray, of_text: np.ndarray) -> MatchCounts:
        """Exact counts for scores queries (n_queries, p) . of_text (n_texts, p), over reports of other patients."""
        return match_counts(
            queries,
            of_text[self.text_of],
            self.match,
            query_group=self.query_group,
            candidate_group=self.candidate_group,
        )


@dataclass(frozen=True)
class Held(Asked):
    """Everything there is for an attacker to look at. A patient of `own` is no query's and no candidate's: InputError.

    The attacker's own: own_released (n_own, e), own_clean the same before output noise, own_images (n_own, d),
    own_texts (n_own, t), own_findings (n_own, as findings), own_group (n_own,) patients. `noise` is the standard
    deviation of Gaussian output noise in each coordinate, known to everybody.
    """

    own_released: np.ndarray
    own_clean: np.ndarray
    own_images: np.ndarray
    own_texts: np.ndarray
    own_findings: np.ndarray
    own_group: np.ndarray
    heads: Heads
    off_the_shelf: Heads
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise InputError(f"noise is {self.noise}.", "It is a standard deviation: zero or more.")
        common = np.intersect1d(self.own_group, np.concatenate([self.query_group, self.candidate_group]))
        if len(common):
            raise InputError(
                f"{len(common)} patients of the attacker's own data are among those it is tested on, such as "
                f"{common[0]!r}: it would have seen the answers.",
                "Split by patient, and give the attacker another split.",
            )
        if not len(self.own_group):
            raise InputError("The attacker has no data of its own.", "Give it a split, or another cohort's entry.")


def hold(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    *,
    source: Entry | None = None,
    noise: float | None = None,
    split: str | None = None,
    own_split: str = "attacker",
    seed: int = 0,
) -> Held:
    """What attackers hold of an entry whose embeddings under a head are released.

    Arguments
        source: the entry that has the head and the attacker's own split; by default the entry itself. For an external
            cohort give the one the head was made on.
        noise: standard deviation of output noise; by default what the head's record says under "output_noise", else 0.
        split: whose images are queried; by default the entry's default split.
        seed: of the output noise that is drawn here to stand for the release.

    Raises InputError where the two splits share a patient, where the head was trained on the queried split, or where
    the entries come from other weights.
    """
    source = source or entry
    split = split or entry.default_split
    usable(entry, source, head, split)
    heads, shelf = source.heads(head), source.heads()
    base = entry.embeddings(split=split)
    own = source.records(own_split)
    sigma = noise_of(source, head, noise)
    rng = np.random.default_rng(seed)
    keys = base.candidates["report_key"].drop_duplicates()
    first = base.records.drop_duplicates("report_key").set_index("report_key")
    images = entry.features("image", base.records["record_id"])
    own_images = source.features("image", own["record_id"])
    released, own_clean = unit(heads.image(images)), unit(heads.image(own_images))
    return Held(
        released=noised(released, sigma, rng),
        images=images,
        texts=entry.features("text", keys),
        findings=first.loc[keys, list(LABELS)].to_numpy(float),
        text_of=pd.Index(keys).get_indexer(base.candidates["report_key"]),
        match=base.match,
        query_group=base.records["patient_id"].to_numpy(str),
        candidate_group=base.candidates["patient_id"].to_numpy(str),
        own_released=noised(own_clean, sigma, rng),
        own_clean=own_clean,
        own_images=own_images,
        own_texts=source.features("text", own["report_key"]),
        own_findings=own[list(LABELS)].to_numpy(float),
        own_group=own["patient_id"].to_numpy(str),
        heads=heads,
        off_the_shelf=shelf,
        noise=sigma,
    )


def noised(vectors: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """One release of each row under Gaussian output noise; float32, not scaled to norm 1 again."""
    if sigma == 0:
        return vectors
    return np.asarray(vectors + sigma * rng.standard_normal(vectors.shape, dtype=np.float32), dtype=np.float32)


def noise_of(entry: Entry, head: str, noise: float | None = None) -> float:
    """The output noise of a head, as given or else as its record says."""
    return float(entry.head_record(head).get("output_noise") or 0.0) if noise is None else float(noise)


# ----------------------------------------------------------------------------------------------------- one attack


@dataclass(frozen=True)
class Attack:
    """One attacker's exact counts over the held-out split, with how it went about it.

    `known` is how many own images or pairs it used; `chosen` the variant that its own cross-validation picked.
    """

    study: Study
    attacker: str
    release: str
    m: Known
    known: int
    chosen: str

    @property
    def counts(self) -> MatchCounts:
        return self.study.counts

    @property
    def queries(self) -> pd.DataFrame:
        return self.study.queries

    def table(self, pool_sizes: Sequence[PoolSize], ks: Sequence[int]) -> pd.DataFrame:
        """As Study.table, in the order of COLUMNS, which say who attacked."""
        rows = self.study.table(pool_sizes, ks)
        for name, value in (
            *(("attacker", self.attacker), ("release", self.release)),
            *(("m", str(self.m)), ("known", self.known), ("chosen", self.chosen)),
        ):
            rows[name] = value
        return rows[list(COLUMNS)]


COLUMNS = (
    *("cohort", "model", "head", "release", "attacker", "m", "known", "pool", "pool_size", "k", "n_queries"),
    *("n_excluded", "recall", "recall_low", "recall_high", "chance", "lift", "median_rank", "chosen"),
)


def allowed(release: str, head: str = OFF_THE_SHELF) -> tuple[str, ...]:
    """The attackers who hold no more than the release gives; InputError for an unknown release.

    >>> allowed("embeddings", "my-head")
    ('known-images', 'known-pairs', 'bayes-gaussian', 'reader')
    """
    one_of("release", release, RELEASES)
    public = head == OFF_THE_SHELF and release == "embeddings"
    return HOLDS["embeddings-and-heads" if public else release]


def attack(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    attacker: str = "cosine",
    release: str = "embeddings-and-heads",
    m: Known = "all",
    seed: int = 0,
    *,
    source: Entry | None = None,
    noise: float | None = None,
    held: Held | None = None,
) -> Attack:
    """How often would this attacker find the report? Exact counts over the held-out split.

    Arguments
        attacker, release: keys of ATTACKERS and RELEASES; InputError if the release does not give what the attacker
            needs.
        m: of how many of its own images (or pairs) the attacker knows the release. "all" is its whole split, which
            whoever has the heads can embed. Cosine and white-box take none.
        seed: of the choice of known images, of the folds and of output noise.
        source, noise: as for `hold`; `held` is what `hold` made of the same arguments, to be used again.
    """
    one_of("attacker", attacker, ATTACKERS)
    if attacker not in allowed(release, head):
        raise InputError(
            f"The attacker {attacker!r} needs more than the release {release!r} gives.",
            f"With it can act: {', '.join(allowed(release, head))}.",
        )
    held = held or hold(entry, head, source=source, noise=noise, seed=seed)
    knows_heads = release == "embeddings-and-heads" or head == OFF_THE_SHELF
    with threadpool_limits(1, user_api="blas"):  # the matrices are small: more threads wait for each other
        counts, known, chosen = run(held, attacker, m, seed, knows_heads=knows_heads)
    split = entry.default_split
    queries = entry.records(split)
    n_candidates = len(held.text_of)
    study = Study(entry, head, "image-to-report", "other-patients", split, counts, queries, n_candidates, seed)
    return Attack(study, attacker, release, "all" if attacker in _NONE_KNOWN else m, known, chosen)


def run(
    held: Held, attacker: str, m: Known = "all", seed: int = 0, *, knows_heads: bool = True
) -> tuple[MatchCounts, int, str]:
    """(counts, own images or pairs used, variant) of one attacker on what it holds."""
    queries, of_text, known, chosen = factors(held, attacker, m, seed, knows_heads=knows_heads)
    return held.count(queries, of_text), known, chosen


def factors(
    held: Held, attacker: str, m: Known = "all", seed: int = 0, *, knows_heads: bool = True
) -> tuple[np.ndarray, np.ndarray, int, str]:
    """The scores of `run` as their factors: (queries (n_queries, p), of_text (n_texts, p), known, chosen)."""
    known = _known(held, m, seed)
    if attacker == "cosine":
        return held.released, unit(held.heads.text(held.texts)), 0, "as released"
    if attacker == "white-box":
        queries, chosen = _white_box(held, seed)
        return queries, _shelf_texts(held), 0, chosen
    if attacker == "known-images":
        queries, chosen = _known_images(held, known, seed)
        return queries, _shelf_texts(held), len(known), chosen
    if not len(known):
        raise InputError(f"The attacker {attacker!r} learns from known pairs, and m is 0.", "Give m of at least 1.")
    scores, chosen = _learnt(held, attacker, known, seed, knows_heads)
    return *scores(held), len(known), chosen


def attacks(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    release: str = "embeddings-and-heads",
    m: Known | Sequence[Known] = "all",
    seed: int = 0,
    *,
    source: Entry | None = None,
    noise: float | None = None,
    progress: Progress = silent,
) -> list[Attack]:
    """Every attacker who can act on the release, at every m that makes sense for it.

    Whoever has the raw images can make the off-the-shelf embeddings too: there those attackers are among them, whatever
    the head.
    """
    public: list[Attack] = []
    if release == "raw-images":
        shelf = attacks(
            entry, OFF_THE_SHELF, "embeddings-and-heads", m, seed, source=source, noise=0.0, progress=progress
        )
        public = [replace(one, release=release) for one in shelf]
    held = hold(entry, head, source=source, noise=noise, seed=seed)
    wanted = [m] if isinstance(m, (int, str)) else list(m)
    plan = [
        (attacker, n) for attacker in allowed(release, head) for n in _sensible(attacker, wanted, held, release, head)
    ]
    found = []
    for done, (attacker, n) in enumerate(plan):
        progress("attackers", done, len(plan))
        found.append(attack(entry, head, attacker, release, n, seed, source=source, held=held))
    progress("attackers", len(plan), len(plan))
    if not found and not public:
        raise InputError(
            f"No attacker can act on the release {release!r} with m = {', '.join(map(str, wanted))}.",
            "Give a larger m.",
        )
    return [*public, *found]


def _sensible(attacker: str, wanted: list[Known], held: Held, release: str, head: str) -> list[Known]:
    if attacker in _NONE_KNOWN:
        return ["all"]
    n_own = len(held.own_group)
    sizes = [n for n in wanted if n == "all" or n < n_own]
    if any(n != "all" and n >= n_own for n in wanted) and "all" not in sizes:
        sizes.append("all")
    if attacker != "known-images":
        return [n for n in sizes if n != 0]
    unaligned = held.released.shape[1] == len(held.off_the_shelf.text.weight)
    return [n for n in sizes if n != 0 or unaligned]


# ------------------------------------------------------------------------------------------------- the worst one


def worst_of(
    found: Sequence[Attack], pool_size: PoolSize, k: int, seed: int = 0, *, chosen_at: PoolSize | None = None
) -> dict[str, Any]:
    """Who does best among these, and how well, not flattered by the choice?

    The largest of several measured rates is too large on average. So the patients are split in two halves; the best
    attacker of each half is scored on the other half, and the mean over all queries is reported with its
    patient-clustered interval (cross-fitting; the interval is given the split and both choices). Its expectation is at
    most that of the truly best of these attackers. `attacker` is the best over all queries; `also` names what a half
    chose where that is somebody else.

    What bounds each attacker's mean over all queries exactly, as K/N does on codes of K cells (release.measured.ask),
    bounds this one only in expectation over the halves: each half's attacker is scored where it was not chosen, and
    may there have the hits that it lacks elsewhere. Where hits are few it is more often the other way: who is chosen
    for its hits in one half has none left for the other, and the estimate falls short of every single attacker, below
    chance even. The interval is that of statistics.rate_intervals, which is wide there.

    chosen_at: take one attacker for all queries, the best of them in pools of that size, where hits are many. Then the
    exact bounds hold for this one too; it is flattered by the choice, by about a standard error at `chosen_at` at most
    and less in other pools.
    """
    if not found:
        raise InputError("There is no attack to choose from.", "Give at least one.")
    recalls = np.column_stack([one.study.recall(pool_size, k)[0] for one in found])
    chance = found[0].study.recall(pool_size, k)[1]
    patients = found[0].queries["patient_id"].to_numpy(str)
    present = ~np.isnan(recalls[:, 0])
    place = int(np.argmax(recalls[present].mean(axis=0)))
    if chosen_at is not None:
        place = int(np.argmax([np.nanmean(one.study.recall(chosen_at, k)[0]) for one in found]))
        recalls = recalls[:, place : place + 1]
    values, picked = cross_fitted(recalls, patients, seed)
    interval = statistics.rate_intervals(values, patients, seed=seed)
    best = found[place]
    n_patients = len(np.unique(patients[present]))
    estimate = float(interval.estimate[0])
    others = [] if chosen_at is not None else sorted({_named(found[i]) for i in picked} - {_named(best)})
    return {
        "cohort": best.study.cohort,
        "model": best.study.model,
        "head": best.study.head,
        "release": best.release,
        "attacker": best.attacker,
        "m": str(best.m),
        "also": ", ".join(others),
        "pool_size": pool_size,
        "k": k,
        "n_queries": int(present.sum()),
        "n_patients": n_patients,
        "recall": estimate,
        "recall_low": float(interval.low[0]),
        "recall_high": float(interval.high[0]),
        "chance": float(chance[present].mean()),
        "lift": estimate / float(chance[present].mean()),
        "n_attackers": len(found),
        "flag": statistics.flag(n_patients),
        "seed": seed,
    }


def cross_fitted(recalls: np.ndarray, patients: np.ndarray, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """(n_queries,) recall of the worst attacker, and whom each half of the patients chose: see worst_of.

    recalls (n_queries, n_attackers), NaN in the whole row where a query has no pool; patients (n_queries,).
    """
    present = ~np.isnan(recalls[:, 0])
    code = np.unique(patients, return_inverse=True)[1]
    half = np.random.default_rng(seed).permutation(code.max() + 1)[code] % 2
    values, picked = np.full(len(patients), np.nan), []
    for side in (0, 1):
        chosen_on, scored_on = present & (half == side), present & (half != side)
        if not (chosen_on.any() and scored_on.any()):
            raise InputError("There are too few patients to choose a worst attacker.", "Give at least two patients.")
        picked.append(int(np.argmax(recalls[chosen_on].mean(axis=0))))
        values[scored_on] = recalls[scored_on, picked[-1]]
    return values, picked


def _named(one: Attack) -> str:
    return one.attacker if one.attacker in _NONE_KNOWN else f"{one.attacker} ({one.m})"


# --------------------------------------------------------------------------------------- which images are known


def _known(held: Held, m: Known, seed: int) -> np.ndarray:
    """Rows of the first m own images, patient by patient in an order that depends on the seed alone: nested in m."""
    n_own = len(held.own_group)
    if m == "all":
        m = n_own
    if isinstance(m, bool) or not isinstance(m, (int, np.integer)) or not 0 <= m <= n_own:
        raise InputError(
            f"m is {m!r}.", f"It is all, or a whole number from 0 to {n_own:,}, the attacker's own images."
        )
    patient = np.unique(held.own_group, return_inverse=True)[1]
    place = np.random.default_rng([seed, 1]).permutation(patient.max() + 1)[patient]
    return np.sort(np.argsort(place, kind="stable")[:m])


def _folds(held: Held, known: np.ndarray, seed: int) -> np.ndarray:
    """(n_own,) fold of each own image; a patient is in one fold. Fewer than FOLDS where fewer patients are known."""
    code = np.unique(held.own_group, return_inverse=True)[1]
    patients = np.unique(code[known])
    n_folds = FOLDS if len(known) < 1000 else 3
    rng = np.random.default_rng([seed, 2])
    of_patient = rng.integers(0, n_folds, code.max() + 1)
    of_patient[rng.permutation(patients)] = np.arange(len(patients)) % n_folds
    return np.asarray(of_patient[code])


def _splits(held: Held, known: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(known rows to learn from, known rows to judge by, all own rows to learn from) of each fold."""
    fold = _folds(held, known, seed)
    for one in np.unique(fold[known]).tolist():
        yield known[fold[known] != one], known[fold[known] == one], np.flatnonzero(fold != one)


# ------------------------------------------------------------------------------- into the off-the-shelf space


def _shelf_texts(held: Held) -> np.ndarray:
    return unit(held.off_the_shelf.text(held.texts)).astype(np.float64)


def _shelf_images(held: Held) -> np.ndarray:
    """(n_own, e) off-the-shelf embeddings of the attacker's own images."""
    return unit(held.off_the_shelf.image(held.own_images)).astype(np.float64)


def _white_box(held: Held, seed: int) -> tuple[np.ndarray, str]:
    """Undo the head: the features that most likely gave this embedding, then off-the-shelf.

    With z = W x + b and x of mean mu and covariance S (the attacker's own images), the linear estimate of least error
    is x = mu + S W'(W S W' + l I)^-1 (z - W mu - b); without noise and for l -> 0 the pseudo-inverse weighted by S.
    The norm of z was divided away: its mean over own images stands in for it. l is chosen by the cosine between the
    recovered and the true off-the-shelf embeddings of own images in left-out folds.
    """
    everything = np.arange(len(held.own_group))
    target = _shelf_images(held)
    weight, bias = held.heads.image.weight.astype(np.float64), held.heads.image.bias.astype(np.float64)
    public = held.off_the_shelf.image

    def undo(rows: np.ndarray, ridge: float, released: np.ndarray) -> np.ndarray:
        x = held.own_images[rows].astype(np.float64)
        mean, covariance = x.mean(axis=0), np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], -1)
        z = x @ weight.T + bias
        scale = float(np.linalg.norm(z, axis=1).mean())
        seen = weight @ covariance @ weight.T
        level = ridge * max(np.trace(seen) / len(seen), 1e-30) + (scale * held.noise) ** 2
        gain = np.linalg.lstsq(seen + level * np.eye(len(seen)), weight @ covariance, rcond=None)[0]
        x_hat = mean + (scale * released.astype(np.float64) - weight @ mean - bias) @ gain
        return np.asarray(x_hat @ public.weight.astype(np.float64).T + public.bias)

    ridges = (1e-8, 1e-6, *_RIDGES)
    error = np.zeros(len(ridges))
    for _, left_out, learnt in _splits(held, everything, seed):
        if len(learnt) < 2:
            continue
        for i, ridge in enumerate(ridges):
            error[i] -= _cosines(undo(learnt, ridge, held.own_released[left_out]), target[left_out]).sum()
    ridge = ridges[int(np.argmin(error))]
    return undo(everything, ridge, held.released), f"ridge {ridge:g}"


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("ij,ij->i", a, b) / np.maximum(norms, 1e-30))


def _known_images(held: Held, known: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Turn the released embeddings back: learn released -> off-the-shelf from m own images.

    As it is; a rotation with a scale (orthogonal Procrustes, Schonemann 1966); or ridge regression, which shrinks
    towards the mean, towards "as it is" or towards the rotation. The one with the least squared error in left-out folds
    of own patients is taken.
    """
    target = _shelf_images(held)
    released = held.own_released.astype(np.float64)
    same_size = released.shape[1] == target.shape[1]
    starts = ("as it is", "rotation", "mean") if same_size else ("rotation", "mean")
    variants = [(start, ridge) for start in starts for ridge in (None, *_RIDGES) if (start, ridge) != ("mean", None)]
    if not len(known):
        if not same_size:
            raise InputError(
                f"Released embeddings have {released.shape[1]} dimensions, off-the-shelf ones {target.shape[1]}.",
                "Without a known image (m = 0) they cannot be compared.",
            )
        return held.released.astype(np.float64), "as it is"
    error = np.zeros(len(variants))
    for learn, left_out, _ in _splits(held, known, seed):
        for i, variant in enumerate(variants):
            turned = _turned(released[learn], target[learn], *variant, released[left_out])
            error[i] += ((turned - target[left_out]) ** 2).sum()
    start, ridge = variants[int(np.argmin(error))]
    queries = _turned(released[known], target[known], start, ridge, held.released.astype(np.float64))
    return queries, start if ridge is None else f"ridge {ridge:g} from {start}"


def _turned(r: np.ndarray, o: np.ndarray, start: str, ridge: float | None, new: np.ndarray) -> np.ndarray:
    """`new` released embeddings in the off-the-shelf space, learnt from pairs r (m, e) and o (m, e0)."""
    if start == "as it is" and ridge is None:
        return new
    if not len(r):
        return np.zeros((len(new), o.shape[1])) if start != "as it is" else new
    r_mean, o_mean = r.mean(axis=0), o.mean(axis=0)
    rc, oc = r - r_mean, o - o_mean
    turn = np.zeros((r.shape[1], o.shape[1]))
    if start == "as it is":
        turn = np.eye(len(turn))
    elif start == "rotation":
        left, values, right = np.linalg.svd(rc.T @ oc, full_matrices=False)
        turn = (left @ right) * (values.sum() / max((rc**2).sum(), 1e-30))
    if ridge is not None:
        turn = turn + _ridge(rc.T @ rc, rc.T @ (oc - rc @ turn), ridge)
    return np.asarray(o_mean + (new - r_mean) @ turn)


def _ridge(gram: np.ndarray, cross: np.ndarray, ridge: float) -> np.ndarray:
    """(gram + ridge * mean of its diagonal * I)^-1 cross."""
    level = ridge * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + max(level, 1e-12) * np.eye(len(gram)), cross))


# ------------------------------------------------------------------------------------------ learnt from pairs

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
            return _with(queries, 1.0), _with(means, -0.5 * (means**2).sum(axis=1))

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
    slope = _ridge(ac.T @ ac, ac.T @ bc, ridge)
    left = bc - ac @ slope
    return slope, left.T @ left / len(a)


def _with(vectors: np.ndarray, last: np.ndarray | float) -> np.ndarray:
    """One more coordinate."""
    return np.column_stack([vectors, np.broadcast_to(last, len(vectors))])


class _Arrays:
    """Own rows as float64 arrays: what was seen of an image, what was read in a report.

    Scaled by the spread over all own data, which takes no pair; an own report's labels become three indicators a label
    (stated present, absent, uncertain). What is scaled is made at first use and shared by all parts.
    """

    def __init__(self, held: Held, rows: np.ndarray, whole: _Arrays | None = None) -> None:
        self.held, self.rows = held, rows
        self._images: Callable[[str], _Scaled] = whole._images if whole else cache(self._scaled_images)
        self._texts: Callable[[str, bool], _Scaled] = whole._texts if whole else cache(self._scaled_texts)

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

    def _scaled_images(self, what: str) -> _Scaled:
        return _Scaled(self._image(self.held.own_images, what))

    def _scaled_texts(self, what: str, findings: bool) -> _Scaled:
        return _Scaled(self._text(self.held.own_texts, self.held.own_findings, what, findings))

    def _image(self, features: np.ndarray, what: str) -> np.ndarray:
        return (unit(self.held.off_the_shelf.image(features)) if what == "embedding" else features).astype(np.float64)

    def _text(self, features: np.ndarray, labels: np.ndarray, what: str, findings: bool) -> np.ndarray:
        text = (unit(self.held.off_the_shelf.text(features)) if what == "embedding" else features).astype(np.float64)
        if not findings:
            return text
        return np.column_stack([text, *((labels == state).astype(np.float64) for state in (1, 0, -1))])


class _Scaled:
    """Rows (n, f) in units of the deviation of each column about its mean; a constant column is left as it is."""

    def __init__(self, rows: np.ndarray) -> None:
        deviation = rows.std(axis=0)
        self._mean = rows.mean(axis=0)
        self._deviation = np.where(deviation > 1e-6 * max(float(deviation.max()), 1e-30), deviation, 1.0)
        self.own = self.scaled(rows)

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray((rows - self._mean) / self._deviation)

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


def _kinds(attacker: str, has_findings: bool) -> list[_Variant]:
    """What an attacker chooses among, before any regularisation is chosen."""
    families: tuple[str, ...]
    sees: tuple[str, ...]
    if attacker == "raw-images":
        families, sees = ("ridge", "gaussian"), ("features", "embedding")
    else:
        sees = ("release",)
        families = {"known-pairs": ("ridge",), "bayes-gaussian": ("gaussian", "through")}.get(
            attacker, ("ridge", "gaussian", "through")
        )
    findings = {"reader": (has_findings,), "raw-images": (False, True) if has_findings else (False,)}
    found = [
        _Variant(family, seen, read, labels)
        for family in families
        for seen in sees
        for read in (("features",) if attacker == "known-pairs" else ("features", "embedding"))
        for labels in findings.get(attacker, (False,))
    ]
    return [_Variant("cosine", "embedding", "embedding", False)] * (attacker == "raw-images") + found


def _learnt(held: Held, attacker: str, known: np.ndarray, seed: int, knows_heads: bool) -> tuple[Scores, str]:
    """Learn from own pairs, in the way that ranks own reports best in left-out folds of own patients.

    First each kind of variant at a middling regularisation, then the winner at every other one. Judged by the mean
    reciprocal rank in pools of up to 1,000 own reports; the left-out patients' pairs take no part in what is learnt.
    """
    whole = _Arrays(held, np.arange(len(held.own_group)))
    folds = [
        (whole.part(learn), whole.part(public), _at_home(held, left_out, seed))
        for learn, left_out, public in _splits(held, known, seed)
        if len(learn) >= 2
    ]
    judged: dict[_Variant, float] = {}

    def judge(variants: Iterable[_Variant]) -> _Variant:
        for variant in variants:
            if variant not in judged:
                judged[variant] = 0.0
                for learn, public, home in folds:
                    counts = home.count(*variant.fit(learn, public, held.noise, knows_heads)(home))
                    size = min(_VALIDATION_POOL, int(counts.n_eligible.min()) + 1)
                    judged[variant] += float(pools.expected_reciprocal_rank(counts, size).sum())
        return max(judged, key=lambda variant: judged[variant])

    kinds = _kinds(attacker, held.own_findings.shape[1] > 0 and held.findings.shape[1] > 0)
    first = judge(replace(kind, ridge=a, second=b) for kind in kinds for a, b in _FIRST[kind.family])
    best = judge(replace(first, ridge=a, second=b) for a, b in _LEVELS[first.family])
    how = f"best of {len(judged)} at home" if folds else "too few own pairs to choose"
    return best.fit(whole.part(known), whole, held.noise, knows_heads), f"{best} ({how})"


def _at_home(held: Held, left_out: np.ndarray, seed: int) -> Asked:
    """Left-out own rows as queries; their reports and up to 2,000 other own reports as candidates."""
    rows = left_out[:_VALIDATION]
    others = np.flatnonzero(~np.isin(held.own_group, held.own_group[rows]))
    others = np.random.default_rng([seed, 3]).permutation(others)[: max(0, 2 * _VALIDATION_POOL - len(rows))]
    of = np.concatenate([rows, others])
    return Asked(
        released=held.own_released[rows],
        images=held.own_images[rows],
        texts=held.own_texts[of],
        findings=held.own_findings[of],
        text_of=np.arange(len(of)),
        match=np.arange(len(rows)),
        query_group=held.own_group[rows],
        candidate_group=held.own_group[of],
    )


# ------------------------------------------------------------------------------------------------------ the ceiling


def omniscient_counts(
    clean: np.ndarray, study: np.ndarray, group: np.ndarray, noise: float = 0.0, rng: np.random.Generator | None = None
) -> MatchCounts:
    """Candidates that the likelihood of one release of each image puts above and level with the true one.

    clean (n_images, e) embeddings before noise; study and group (n_images,) of each image. Candidates are studies of
    other groups. With noise, `rng` draws one release of each image; without, only identical embeddings are level.
    """
    if noise and rng is None:
        raise InputError("Noise is to be drawn and no rng was given.", "Give a numpy Generator.")
    n = len(clean)
    group_code = np.unique(group, return_inverse=True)[1]
    better, tied, eligible = np.zeros((3, n), dtype=np.int64)
    for rows, shown, match in numbered_images(study):
        query_group, candidate_group = group_code[rows], group_code[shown]
        if noise and rng is not None:
            released = clean[rows] + noise * rng.standard_normal((len(rows), clean.shape[1]))
            candidates = _with(clean[shown], -0.5 * (clean[shown].astype(np.float64) ** 2).sum(axis=1))
            counts = match_counts(
                _with(released, 1.0), candidates, match, query_group=query_group, candidate_group=candidate_group
            )
        else:
            counts = _identical(distinct(clean[shown], match)[1], match, query_group, candidate_group)
        better[rows], tied[rows], eligible[rows] = counts
    return MatchCounts(better, tied, eligible)


def numbered_images(study: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every image as a query once: (queries, image that stands for each study, the study of each query), for the first
    images of all studies, then for the second ones, and so on; a study that has run out shows its last."""
    study_code = np.unique(study, return_inverse=True)[1]
    order = np.argsort(study_code, kind="stable")
    sizes = np.bincount(study_code)
    first = np.cumsum(sizes) - sizes
    number = np.empty(len(study), dtype=np.int64)
    number[order] = np.arange(len(study)) - first[study_code[order]]
    for p in range(int(sizes.max()) if len(study) else 0):
        rows = np.flatnonzero(number == p)
        yield rows, order[first + np.minimum(p, sizes - 1)], study_code[rows]


def _identical(
    column: np.ndarray, match: np.ndarray, query_group: np.ndarray, candidate_group: np.ndarray
) -> MatchCounts:
    """Counts where identical candidates are level and no other is better."""
    n_groups = int(candidate_group.max()) + 1
    pairs, n_pairs = np.unique(column * n_groups + candidate_group, return_counts=True)
    own = n_pairs[np.searchsorted(pairs, column[match] * n_groups + query_group)]
    eligible = len(column) - np.bincount(candidate_group, minlength=n_groups)[query_group]
    return MatchCounts(np.zeros(len(match), dtype=np.int64), np.bincount(column)[column[match]] - own, eligible)
