"""The omniscient ceiling of a release on a cohort: no attacker whatever does better on these very records.

A certified limit holds for any cohort, and may be far above what this cohort allows. The ceiling is that of DESIGN 8.1,
    Recall@k <= (1/N) integral of the k largest p(r | x_j) over r,
for the embeddings that the cohort has: what somebody reaches who has the clean embeddings of all candidates and names
the likeliest. Between it and the certified limit lies luck with the cohort; between the attackers and it, ignorance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from linkage_core.attacks import omniscient
from linkage_core.attacks.omniscient import numbered_images
from linkage_core.audit.study import PoolSize
from linkage_core.errors import InputError
from linkage_core.ranking import intervals, pools
from linkage_core.ranking.counts import MatchCounts, distinct, each_block, own_candidates
from linkage_core.release import bounds
from linkage_core.release.kinds.capped import Cap
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import noise_of, split_apart, usable
from linkage_core.validate import one_of

UNIFORM, ATTACKED = "one-image-a-study", "other-patients"
POPULATIONS = {
    UNIFORM: "one image a study, drawn at random; every study equally likely, every other one a candidate",
    ATTACKED: "every image a query, studies of other patients the candidates, as attackers are measured",
}
_BLOCK = 512


@dataclass(frozen=True)
class Gaussian:
    """Noise of standard deviation sigma in each coordinate of a unit row."""

    sigma: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma < np.inf:
            raise InputError(f"sigma is {self.sigma}.", "It is a standard deviation above 0.")


@dataclass(frozen=True)
class Cells:
    """A deterministic code: codes (n_records,) in the order of the split's records, 0 .. n_cells-1, -1 suppressed."""

    codes: np.ndarray
    n_cells: int

    def __post_init__(self) -> None:
        codes = np.asarray(self.codes)
        if codes.ndim != 1 or codes.dtype.kind not in "iu":
            raise InputError(f"codes have shape {codes.shape} and type {codes.dtype}.", "Give one whole number a row.")
        if len(codes) and not (codes.min() >= -1 and codes.max() < self.n_cells):
            raise InputError(
                f"codes run from {codes.min()} to {codes.max()}, and there are {self.n_cells} cells.",
                "They run from 0 to one less than the number of cells; -1 is suppressed.",
            )


Mechanism = Cap | Gaussian | Cells


def ceiling(
    entry: Entry,
    mechanism: Mechanism,
    pool_sizes: Sequence[PoolSize] = (100, 10_000),
    ks: Sequence[int] = (1,),
    *,
    head: str = OFF_THE_SHELF,
    source: Entry | None = None,
    split: str | None = None,
    population: str = UNIFORM,
    draws: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """How well could somebody pick the right study of a pool from one release, knowing every clean embedding?

    Let r = M(x_J) be released, J uniform over N candidates. Whoever names k of them on seeing r is right with
    probability (1/N) sum over the k named of p(r | x_j), integrated over r; naming the k likeliest is best, and reached
    when the clean embeddings of all candidates are known. Whatever else an attacker knows of them, reports included,
    says nothing of r once J is given, so it cannot help.

    Each of `draws` rounds draws one release of each query and counts exactly which candidates are likelier and which as
    likely; pools of N are averaged in closed form, ties broken at random. `error` is the standard error of the mean
    over rounds. Codes are deterministic, so that one round is exact, but for the choice of an image where studies have
    several.

    population: one of POPULATIONS. The certified limits are about a match that is equally likely to be any candidate of
    the pool, which UNIFORM is. ATTACKED is what the attackers count, to stand beside them: there a pool without the
    other studies of the match's patient, and studies with several images, tell a little by themselves, which no release
    is to blame for and no limit of a release covers.

    Returns one row for each N and k: ceiling with low and high (patient-clustered 95%), its error, chance, lift, and
    `certified`, the limit of bounds.py on Recall@k. Raises InputError for a head that has seen the split, for codes
    that are not one a record, and for a cap of another dimension.
    """
    source = source or entry
    split = split or entry.default_split
    usable(entry, source, head, split)
    one_of("population", population, POPULATIONS)
    if draws < 2:
        raise InputError(f"draws is {draws}.", "Take at least 2, or the error of the simulation is unknown.")
    records = entry.records(split)
    clean = entry.clean_images(records["record_id"], source.heads(head))
    study, patient = records["study_id"].to_numpy(str), records["patient_id"].to_numpy(str)
    _fits(mechanism, clean)
    uniform = population == UNIFORM
    exact = isinstance(mechanism, Cells) and not (uniform and records["study_id"].duplicated().any())
    group = study if uniform else patient
    cases: list[tuple[PoolSize, int]] = [(pool_size, k) for pool_size in pool_sizes for k in ks]
    rng = np.random.default_rng(seed)
    rounds = []
    for _ in range(1 if exact else draws):
        rows = one_image_a_study(study, rng) if uniform else np.arange(len(study))
        if uniform and isinstance(mechanism, Cap):
            rounds.append(recall_under_caps(mechanism, clean[rows], cases, rng))
        else:
            counts = omniscient_counts(_of(mechanism, rows), clean[rows], study[rows], group[rows], rng)
            rounds.append(_recalls(counts, cases))
    owner = patient[rows]  # whichever image was drawn, the rows are the same studies
    of_patient = records.groupby("patient_id")["study_id"].transform("nunique").to_numpy()
    full = records["study_id"].nunique() - (0 if uniform else of_patient - 1)  # pool of a query that takes all there is
    table = []
    for case, (pool_size, k) in enumerate(cases):
        drawn = np.column_stack([one[:, case] for one in rounds])
        interval = intervals.rate_intervals(drawn.mean(axis=1), owner, seed=seed)
        means = np.nanmean(drawn, axis=0)
        sizes = np.asarray(full if pool_size == "full" else pool_size)
        chance = float(np.mean(np.minimum(k / sizes, 1.0)))
        table.append(
            {
                "cohort": entry.cohort,
                "model": entry.model,
                "head": head,
                "mechanism": describe(mechanism),
                "noise": _noise(mechanism),
                "population": population,
                "pool_size": pool_size,
                "k": k,
                "n_queries": int(interval.n[0]),
                "ceiling": float(interval.estimate[0]),
                "ceiling_low": float(interval.low[0]),
                "ceiling_high": float(interval.high[0]),
                "error": 0.0 if exact else float(means.std(ddof=1) / np.sqrt(len(means))),
                "chance": chance,
                "lift": float(interval.estimate[0]) / chance,
                "certified": float(certified(mechanism, int(sizes.min()), k)),
                "how": "exact" if exact else f"Monte Carlo, {draws} draws",
                "seed": seed,
            }
        )
    return pd.DataFrame(table)


def of_head(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    pool_sizes: Sequence[PoolSize] = (100, 10_000),
    ks: Sequence[int] = (1,),
    *,
    source: Entry | None = None,
    noise: float | None = None,
    draws: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """The ceiling beside the attackers of a head, whose embeddings leave as they are or under output noise.

    `noise` as for attackers.hold. Without noise the release is a code whose cells are the identical embeddings: one of
    those in the pool is named at random, which is near 1 for any head that does not merge images. A study of several
    images stands in the pool with the one of the query's number (or its last): told which, an attacker only gains.

    Returns the rows of `ceiling` without what only a release of records has.
    """
    source = source or entry
    split = split_apart(entry, source)
    usable(entry, source, head, split)
    sigma = noise_of(source, head, noise)
    mechanism: Mechanism
    if sigma:
        mechanism = Gaussian(sigma)
    else:
        clean = entry.clean_images(entry.records(split)["record_id"], source.heads(head))
        codes = distinct(clean, np.arange(0))[1]
        mechanism = Cells(codes, len(codes))
    rows = ceiling(
        *(entry, mechanism, pool_sizes, ks),
        head=head,
        source=source,
        split=split,
        population=ATTACKED,
        draws=draws,
        seed=seed,
    )
    return rows.drop(columns=["mechanism", "population", "certified"])


def omniscient_counts(
    mechanism: Mechanism, clean: np.ndarray, study: np.ndarray, group: np.ndarray, rng: np.random.Generator
) -> MatchCounts:
    """Candidates that the likelihood of one release of each image puts above and level with the true one.

    As attackers.omniscient_counts, which counts noise and codes. The likelihood of a cap has two values, inside and
    outside, so candidates are likely or not and most of them level.
    """
    if isinstance(mechanism, Gaussian):
        return omniscient.omniscient_counts(clean, study, group, mechanism.sigma, rng)
    if isinstance(mechanism, Cells):
        codes = np.asarray(mechanism.codes)
        counts = omniscient.omniscient_counts(codes[:, None].astype(np.float64), study, group)
        gone = codes < 0  # nothing was released: not linked, by whatever rule
        return MatchCounts(np.where(gone, counts.n_eligible, 0), np.where(gone, 0, counts.n_tied), counts.n_eligible)
    better, tied, eligible = np.zeros((3, len(clean)), dtype=np.int64)
    group = np.unique(group, return_inverse=True)[1]
    for rows, shown, match in numbered_images(study):
        released = mechanism.release(clean[rows], rng)
        inside, n_inside, n_eligible = _in_caps(mechanism, released, clean[shown], match, group[rows], group[shown])
        better[rows] = np.where(inside, 0, n_inside)
        tied[rows] = np.where(inside, n_inside, n_eligible - n_inside)
        eligible[rows] = n_eligible
    return MatchCounts(better, tied, eligible)


def recall_under_caps(
    cap: Cap, clean: np.ndarray, cases: Sequence[tuple[PoolSize, int]], rng: np.random.Generator
) -> np.ndarray:
    """(n, n_cases) Recall@k of each of n candidates for each case (N, k), all others eligible; one round.

    As _recalls(omniscient_counts(...)), but r is drawn from the uniform law u and weighted by the density:
        Recall@k of j = E_u[p_j(r)/u(r) P(j is named | r, j in the pool)],
    with n draws of r for all candidates together. Releases that few caps hold carry most of the mean at large N, and
    are rare among the releases of a cohort that lies close together; here they are not: a fourth of the error or less
    at N = 10,000 on the phantom, for as many draws. The mean over candidates shares out at most L for each r, so that
    no round is above k L / N.
    """
    n = len(clean)
    drawn = rng.standard_normal(clean.shape)
    drawn = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    inside, outside = np.exp(cap.log_density(np.array([1.0, -1.0])))
    height = np.float32(cap.height)
    sums: dict[int, np.ndarray] = {}

    def add(start: int) -> None:
        held = drawn[start : start + _BLOCK] @ clean.T >= height
        holders = np.count_nonzero(held, axis=1)
        others = np.full(len(held), n - 1)
        of_holder = _recalls(MatchCounts(np.zeros_like(holders), np.maximum(holders - 1, 0), others), cases)
        better = np.minimum(holders, n - 1)
        of_other = _recalls(MatchCounts(better, n - 1 - better, others), cases)
        weights = (inside * of_holder - outside * of_other).astype(np.float32)
        sums[start] = held.T.astype(np.float32) @ weights + outside * of_other.sum(axis=0)

    each_block(add, n, _BLOCK)
    return np.asarray(sum(sums[start] for start in sorted(sums)) / n)


def one_image_a_study(study: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n_studies,) row of an image of each study, all its images equally likely; in the order of study names."""
    order = rng.permutation(len(study))
    return np.asarray(order[np.unique(study[order], return_index=True)[1]])


def certified(mechanism: Mechanism, n: bounds.Whole, k: bounds.Whole = 1) -> bounds.Rate:
    """Upper bound on Recall@k from one record alone, whatever the cohort; 1 where N is so small that nothing is."""
    if isinstance(mechanism, Cap):
        return bounds.trade_off(mechanism.power, n, k)
    if isinstance(mechanism, Cells):
        return bounds.cells(mechanism.n_cells, n, k)
    return bounds.gaussian(1 / mechanism.sigma, n, k)


def describe(mechanism: Mechanism) -> str:
    """The mechanism and its settings, in a few words.

    >>> describe(Cap(64, 10.0))
    'capped, L 10, p 1'
    """
    if isinstance(mechanism, Cap):
        return f"capped, L {mechanism.limit:g}, p {mechanism.p:g}"
    if isinstance(mechanism, Cells):
        return f"codes, {mechanism.n_cells} cells"
    return f"Gaussian noise, sigma {mechanism.sigma:g}"


def _in_caps(
    cap: Cap,
    released: np.ndarray,
    shown: np.ndarray,
    match: np.ndarray,
    query_group: np.ndarray,
    candidate_group: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(is the match inside, eligible others inside, eligible others) of each query: whose caps hold its release?"""
    query, candidate = own_candidates(match, (query_group, candidate_group), len(shown))
    starts = np.searchsorted(query, np.arange(len(match) + 1))
    height = np.float32(cap.height)
    inside, n_inside = np.zeros(len(match), dtype=bool), np.zeros(len(match), dtype=np.int64)

    def count(start: int) -> None:
        rows = np.arange(start, min(start + _BLOCK, len(match)))
        held = released[rows] @ shown.T >= height
        inside[rows] = held[rows - start, match[rows]]
        pairs = slice(starts[rows[0]], starts[rows[-1] + 1])
        own = held[query[pairs] - start, candidate[pairs]]
        held_of = np.bincount(query[pairs] - start, weights=own, minlength=len(rows)).astype(np.int64)
        n_inside[rows] = np.count_nonzero(held, axis=1) - held_of

    each_block(count, len(match), _BLOCK)
    if cap.p == 1:
        inside[:] = True  # by construction; a dot product on the very edge may be rounded past it
    return inside, n_inside, len(shown) - np.diff(starts)


def _recalls(counts: MatchCounts, cases: Sequence[tuple[PoolSize, int]]) -> np.ndarray:
    """(n_queries, n_cases) Recall@k in pools of N, for each case (N, k)."""
    found = [
        pools.full_recall(counts, k) if n == "full" else pools.expected_recall(counts, int(n), k) for n, k in cases
    ]
    return np.column_stack(found)


def _of(mechanism: Mechanism, rows: np.ndarray) -> Mechanism:
    if isinstance(mechanism, Cells):
        return Cells(np.asarray(mechanism.codes)[rows], mechanism.n_cells)
    return mechanism


def _noise(mechanism: Mechanism) -> float:
    if isinstance(mechanism, Gaussian):
        return mechanism.sigma
    return 0.0 if isinstance(mechanism, Cells) else np.nan


def _fits(mechanism: Mechanism, clean: np.ndarray) -> None:
    if isinstance(mechanism, Cap) and mechanism.dimension != clean.shape[1]:
        raise InputError(
            f"The cap has {mechanism.dimension} dimensions, the embeddings {clean.shape[1]}.", "They must be the same."
        )
    if isinstance(mechanism, Cells) and len(mechanism.codes) != len(clean):
        raise InputError(
            f"{len(mechanism.codes)} codes for {len(clean)} records.", "Give one a record, in their order."
        )
