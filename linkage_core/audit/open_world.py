"""The open world: the pool may not hold the match, and a cautious attacker may keep silent.

An attacker draws a pool of N reports, in which the right one stands with prior p. He names the top-scored report only
if its score (rule "score") or its margin to the second (rule "margin") reaches a threshold t; ties at the top are
broken at random. In the terms of ISO/IEC 19795-1, for one image:

    DIR(t)    match present: answered, and right (detection and identification)
    wrong(t)  match present: answered, and wrong (misidentified)
    FPIR(t)   match absent: answered at all (false-positive identification)
    links = p (DIR + wrong) + (1-p) FPIR,   linked rightly = p DIR,   precision = linked rightly / links

A present pool is the match and N-1 reports of other patients, an absent one N reports of other patients, both uniform
and without replacement. The threshold is chosen on one half of the patients, and every figure comes from the other.
What this cannot tell: how likely it is that the match is in a real attacker's pool (p is stated, not measured), and
what an attacker with a better rule would do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from linkage_core.audit import study as audit
from linkage_core.audit.outcomes import WANTED, OpenWorld, Outcomes, check_prior
from linkage_core.errors import InputError, StoreError
from linkage_core.ranking import pools
from linkage_core.ranking._histogram import Grid, add_tile
from linkage_core.ranking.counts import (
    CANDIDATE_BLOCK,
    QUERY_BLOCK,
    MatchCounts,
    OwnColumns,
    checked_match,
    checked_matrix,
    coded_pair,
    distinct,
    each_block,
    match_counts,
    own_candidates,
)
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.validate import one_of

RULES = ("score", "margin")
POOLS_A_QUERY = (64, 1024)
POOLS_IN_ALL = 2_000_000
SAMPLED_QUERIES = 128
SORT_SCORES = 1 << 24


def open_world(
    entry: Entry,
    pool_size: int,
    prior: float,
    rule: str = "score",
    head: str = OFF_THE_SHELF,
    split: str | None = None,
    wanted: Sequence[float] = WANTED,
    seed: int = 0,
) -> OpenWorld:
    """What does a cautious attacker gain when the match stands in the pool of N only with probability `prior`?

    A page that moves the prior keeps `prepare(entry)` and its `.outcomes(N, rule)`, and asks `.at(prior)` of these.
    """
    check_prior(prior)
    return prepare(entry, head, split, seed).outcomes(pool_size, rule).at(prior, wanted)


def prepare(
    entry: Entry, head: str = OFF_THE_SHELF, split: str | None = None, seed: int = 0, most: int | None = None
) -> Scores:
    """Everything that depends neither on N nor on the prior, for images of an entry against reports of others.

    Read where it is stored, computed and stored where it is not. StoreError for an absent head or a damaged file;
    InputError where it is not stored and there are more images than `most`: it takes long, and gigabytes.
    """
    study = audit.study(entry, head, split=split)
    queries = study.queries
    inputs = entry.inputs(head, study.split, str(seed), "open world 1")
    name = f"{head}.open-world.{study.split}"
    stored = entry.read_arrays(name, inputs)
    if stored is None:
        if most is not None and len(queries) > most:
            raise InputError(
                f"For {len(queries):,} images this was not counted yet, and no page waits so long.",
                f"Count it once, it is then kept: linkage audit {entry.cohort}/{entry.model} --open-world",
            )
        made = scores(**_arrays(entry, head, study.split), counts=study.counts, seed=seed)
        arrays = {"thresholds": made.thresholds, "own_bin": made.own_bin, "reach": made.reach}
        smallest = np.uint16 if made.reach.max(initial=0) < 2**16 else np.int32
        with suppress(OSError, StoreError):  # a store that is only readable, or full, still answers, only slower
            entry.write_arrays(name, inputs, queries["record_id"], arrays | {"reach": made.reach.astype(smallest)})
        return made
    ids, arrays = stored
    place = pd.Index(ids).get_indexer(pd.Index(queries["record_id"]))
    if (place < 0).any() or len(ids) != len(queries):
        raise StoreError(
            f"The stored {name} of {entry.cohort}/{entry.model} is of other records.",
            "Delete the entry's ranks folder and audit again.",
        )
    names, patient = np.unique(queries["patient_id"].to_numpy(str), return_inverse=True)
    return Scores(
        counts=study.counts,
        thresholds=arrays["thresholds"],
        own_bin=arrays["own_bin"][place],
        reach=arrays["reach"][place].astype(np.int32),
        patient=patient,
        test_half=halves(names, seed),
        seed=seed,
        load=lambda: Vectors.of(**_arrays(entry, head, study.split)),
    )


def _arrays(entry: Entry, head: str, split: str) -> dict[str, np.ndarray]:
    embeddings = entry.embeddings(head, split)
    return {
        "image_embeddings": embeddings.images,
        "report_embeddings": embeddings.reports,
        "match": embeddings.match,
        "query_group": embeddings.records["patient_id"].to_numpy(str),
        "candidate_group": embeddings.candidates["patient_id"].to_numpy(str),
    }


@dataclass(frozen=True, eq=False)
class Vectors:
    """What scores are products of.

    queries (n_queries, e); distinct (n_columns, e) vectors of the candidates, and how many candidates share each;
    column_of (n_candidates,); the column of each query's match; own: the columns of its own patient's candidates.
    """

    queries: np.ndarray
    distinct: np.ndarray
    multiplicity: np.ndarray
    column_of: np.ndarray
    match_column: np.ndarray
    own: OwnColumns

    @classmethod
    def of(
        cls,
        image_embeddings: np.ndarray,
        report_embeddings: np.ndarray,
        match: np.ndarray,
        query_group: np.ndarray,
        candidate_group: np.ndarray,
    ) -> Vectors:
        """Checked; shapes as in ranking.match_counts."""
        queries = checked_matrix(image_embeddings, "image_embeddings")
        candidates = checked_matrix(report_embeddings, "report_embeddings")
        n_queries, n_candidates = len(queries), len(candidates)
        match = checked_match(match, n_queries, n_candidates)
        if not n_queries:
            raise InputError("There is no image.", "Give at least one.")
        precision = np.float64 if queries.dtype == candidates.dtype == np.float64 else np.float32
        vectors, column_of, multiplicity = distinct(candidates.astype(precision, copy=False), match)
        groups = coded_pair(query_group, candidate_group, n_queries, n_candidates, "group")
        own_query, own_candidate = own_candidates(match, groups, n_candidates)
        return cls(
            queries=queries.astype(precision, copy=False),
            distinct=vectors,
            multiplicity=multiplicity,
            column_of=column_of,
            match_column=column_of[match],
            own=OwnColumns(own_query, column_of[own_candidate], n_queries),
        )

    @cached_property
    def single(self) -> np.ndarray | None:
        """(n_candidates,) the column of each candidate, neighbours sharing one; None where each has its own."""
        if (self.multiplicity == 1).all():
            return None
        return np.repeat(np.arange(len(self.distinct)), self.multiplicity)

    def without_own(self, product: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n_rows, n_candidates) scores, from (n_rows, n_columns); those of the query's own patient at -infinity."""
        local, column = self.own.of(rows)
        if self.single is None:
            product[local, column] = -np.inf
            return product
        first = np.concatenate([[0], np.cumsum(self.multiplicity)[:-1]])
        # the k-th own candidate of one query with the same vector takes the vector's k-th copy
        code = local * len(self.distinct) + column
        by_code = np.argsort(code, kind="stable")
        starts = np.searchsorted(code[by_code], code[by_code], side="left")
        copy = np.empty(len(code), dtype=np.int64)
        copy[by_code] = np.arange(len(code)) - starts
        scores = product[:, self.single]
        scores[local, first[column] + copy] = -np.inf
        return np.asarray(scores)


@dataclass(frozen=True, eq=False)
class Scores:
    """Per query: the counts of its match, the bin of its match's score, and how many eligible candidates reach each
    threshold.

    thresholds (n_thresholds,) increasing from -infinity; own_bin (n_queries,), bin g holding t[g] <= score < t[g+1];
    reach (n_queries, n_thresholds) int32; patient (n_queries,) codes; test_half (n_patients,) says which half each
    patient is in. `load` gives the vectors again, for the rule that counts do not decide.
    """

    counts: MatchCounts
    thresholds: np.ndarray
    own_bin: np.ndarray
    reach: np.ndarray
    patient: np.ndarray
    test_half: np.ndarray
    seed: int
    load: Callable[[], Vectors] = field(repr=False)

    @cached_property
    def vectors(self) -> Vectors:
        return self.load()

    @property
    def largest_pool(self) -> int:
        """The largest N of which an image can also fill a pool without its match."""
        return int(self.counts.n_eligible.max()) if len(self.counts.n_eligible) else 0

    def outcomes(self, pool_size: int, rule: str = "score", pools_a_query: int | None = None) -> Outcomes:
        """Everything that does not depend on the prior, for pools of N and one rule.

        Rule "score" is exact. Rule "margin" draws `pools_a_query` pools a query, present and absent (64, in a small
        cohort up to 1,024), and says its Monte Carlo error. Raises InputError for an unknown rule or an N that no image
        can fill; it names the largest.
        """
        one_of("rule", rule, RULES)
        usable = self._usable(pool_size, rule)
        if rule == "score":
            column = self._score_column(pool_size, usable)
            sums = _patient_sums(column, len(self.thresholds), self.patient[usable], len(self.test_half))
            return self._outcomes(rule, pool_size, usable, self.thresholds, sums, 0.0, 0)
        few, many = POOLS_A_QUERY
        default = max(few, min(many, POOLS_IN_ALL // int(usable.sum())))
        return self._margin(pool_size, usable, default if pools_a_query is None else pools_a_query)

    def score_rates(self, pool_size: int, threshold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(DIR, wrong, FPIR) of every query at one threshold of the grid (its index), NaN where N is too large for it.

        With E eligible distractors, c of them at t or above, and none(c, n) = C(E-c, n) / C(E, n), the probability
        that n drawn ones hold none of the c:
            FPIR = 1 - none(c, N): somebody answers as soon as one of N drawn distractors reaches t;
            DIR = 1[s >= t] Recall@1(N): if the match comes first, its score is the top score;
            wrong = 1 - Recall@1(N) where s >= t (answered for certain), else 1 - none(c, N-1).
        """
        usable = self._usable(pool_size, "score")
        rates = np.full((3, len(usable)), np.nan)
        rates[:, usable] = self._score_column(pool_size, usable)(threshold)
        return rates[0], rates[1], rates[2]

    def _usable(self, pool_size: int, rule: str) -> np.ndarray:
        fewest = 2 if rule == "margin" else 1
        if isinstance(pool_size, bool) or not isinstance(pool_size, (int, np.integer)) or pool_size < fewest:
            raise InputError(
                f"pool_size is {pool_size!r}.", f"It is a whole number, at least {fewest} for the rule {rule!r}."
            )
        usable = self.counts.n_eligible >= pool_size
        if not usable.any():
            raise InputError(
                f"A pool of {pool_size} reports without the match is larger than any image can fill.",
                f"The largest possible N is {self.largest_pool}.",
            )
        return np.asarray(usable)

    def _score_column(self, pool_size: int, usable: np.ndarray) -> Callable[[int], np.ndarray]:
        """threshold index -> (3, n_usable)."""
        eligible = self.counts.n_eligible[usable]
        recall = pools.expected_recall(self.counts, pool_size, 1)[usable]
        reach, own_bin = self.reach[usable], self.own_bin[usable]
        present, absent = _NoneDrawn(eligible, pool_size - 1), _NoneDrawn(eligible, pool_size)

        def column(threshold: int) -> np.ndarray:
            c = reach[:, threshold]
            answered = own_bin >= threshold
            return np.stack(
                [
                    np.where(answered, recall, 0.0),
                    np.where(answered, 1 - recall, 1 - present.of(c)),
                    1 - absent.of(c),
                ]
            )

        return column

    def _margin(self, pool_size: int, usable: np.ndarray, pools_a_query: int) -> Outcomes:
        """Rule "margin" by drawn pools.

        Of a drawn pool only the two best distractors matter, and of n drawn from E the best has rank J1 with
        P(J1 > j) = C(E-j, n)/C(E, n), the second J2 with P(J2 > k | J1 = j) = C(E-k, n-1)/C(E-j, n-1). So two uniform
        numbers draw a pool, and the query's sorted scores turn ranks into margins. At t = 0 everybody answers, and the
        exact values stand instead; above it a tie at the top, whose margin is 0, is never answered.
        """
        if pools_a_query < 2:
            raise InputError(f"pools_a_query is {pools_a_query}.", "Take at least 2, or the error cannot be told.")
        right, signed, absent = self._margins(pool_size, usable, pools_a_query)
        choosing = ~self.test_half[self.patient[usable]]
        pooled = np.concatenate([signed[choosing].ravel(), absent[choosing].ravel()])
        winners = signed[choosing][right[choosing]]
        thresholds = np.unique(np.concatenate([[0.0], *(_spread(v[v > 0]) for v in (pooled, winners))]))
        recall = pools.expected_recall(self.counts, pool_size, 1)[usable]
        present, alone = (np.searchsorted(thresholds, margin, side="right") - 1 for margin in (signed, absent))
        kinds = [(present, right), (present, ~right), (alone, np.ones_like(right))]
        patient, n_patients = self.patient[usable], len(self.test_half)
        sums = np.stack([_reached(b, kept, patient, n_patients, len(thresholds)) for b, kept in kinds])
        for kind, exact in enumerate((recall, 1 - recall, np.ones(len(recall)))):
            sums[kind, :, 0] = np.bincount(patient, weights=exact, minlength=n_patients)
        n_test = int((~choosing).sum())
        variance = 0.0
        if n_test:
            for b, kept in kinds:
                rates = _reached(b[~choosing], kept[~choosing], np.arange(n_test), n_test, len(thresholds))[:, 1:]
                variance = max(variance, float((rates * (1 - rates)).sum(axis=0).max(initial=0.0)))
        error = float(np.sqrt(variance / (pools_a_query - 1)) / max(n_test, 1))
        return self._outcomes("margin", pool_size, usable, thresholds, sums, error, pools_a_query)

    def _margins(
        self, pool_size: int, usable: np.ndarray, pools_a_query: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(right, margin with the match present, margin without), each (n_usable, pools_a_query)."""
        rows = np.flatnonzero(usable)
        eligible = self.counts.n_eligible[rows]
        vectors = self.vectors
        rng = np.random.default_rng(self.seed)
        # with the match or without it, best or second best
        uniform = 1 - rng.random((2, 2, len(rows), pools_a_query))
        shape = (len(rows), pools_a_query)
        right = np.zeros(shape, dtype=bool)
        margin = np.zeros((2, *shape), dtype=np.float32)
        order = np.lexsort((vectors.match_column[rows], eligible))  # one block, one number of eligible candidates
        step = max(1, min(QUERY_BLOCK, SORT_SCORES // len(vectors.column_of)))

        def draw(start: int) -> None:
            at = order[start : start + step]
            ranks = [_two_best(eligible[at], pool_size - 1 + i, uniform[i][:, at]) for i in range(2)]
            product = vectors.queries[rows[at]] @ vectors.distinct.T
            own = product[np.arange(len(at)), vectors.match_column[rows[at]], None]
            product = vectors.without_own(product, rows[at])
            deepest = np.max([places.max(axis=(0, 2)) for places in ranks], axis=0)
            top = self._top(product, rows[at], np.minimum(deepest + 1, eligible[at]))
            best, second = (_at_rank(top, places) for places in ranks[0])
            right[at] = own > best
            margin[0, at] = np.where(own < best, best - np.maximum(second, own), np.abs(own - best))
            best, second = (_at_rank(top, places) for places in ranks[1])
            margin[1, at] = best - second

        each_block(draw, len(rows), step)
        return right, margin[0], margin[1]

    def _top(self, product: np.ndarray, rows: np.ndarray, deepest: np.ndarray) -> np.ndarray:
        """(n_rows, widest) the `deepest` best scores of each row and maybe more, falling, then -infinity.

        A threshold that as many reach leaves few to sort. Where this product rounds another way than the one that was
        counted, so that one is lost, the whole row is taken.
        """
        cut = self.thresholds[np.count_nonzero(self.reach[rows] >= deepest[:, None], axis=1) - 1]
        kept = product >= cut[:, None]
        kept[np.count_nonzero(kept, axis=1) < deepest] = True
        length = np.count_nonzero(kept, axis=1)
        if 2 * length.sum() > kept.size:  # taking out most of them costs more than sorting the rest along
            product.sort(axis=1)
            return product[:, ::-1]
        top = np.full((len(rows), length.max()), -np.inf, dtype=product.dtype)
        top[np.arange(top.shape[1]) < length[:, None]] = product[kept]
        top.sort(axis=1)
        return top[:, ::-1]

    def _outcomes(
        self,
        rule: str,
        pool_size: int,
        usable: np.ndarray,
        thresholds: np.ndarray,
        sums: np.ndarray,
        error: float,
        pools_a_query: int,
    ) -> Outcomes:
        images = np.bincount(self.patient[usable], minlength=len(self.test_half)).astype(np.float64)
        there = images > 0
        return Outcomes(
            rule=rule,
            pool_size=int(pool_size),
            thresholds=thresholds,
            sums=sums[:, there],
            images=images[there],
            choosing=~self.test_half[there],
            testing=self.test_half[there],
            n_excluded=int((~usable).sum()),
            pools_a_query=pools_a_query,
            monte_carlo_error=error,
            seed=self.seed,
            tied=pools.tied_flag(self.counts),
        )


def scores(
    image_embeddings: np.ndarray,
    report_embeddings: np.ndarray,
    match: np.ndarray,
    *,
    query_group: np.ndarray,
    candidate_group: np.ndarray,
    counts: MatchCounts | None = None,
    seed: int = 0,
) -> Scores:
    """As prepare, on arrays: shapes as in ranking.match_counts; the groups are patients and must be given.

    One blocked product; each tile is binned while it is in cache, so memory is bounded by a tile and the counts. The
    thresholds, a few hundred, are quantiles of scores of the choosing half, dense in the tail. `counts`, where they are
    known from match_counts with the same groups, save a second product. `seed` draws the halves and all pools.
    """
    counts = counts or match_counts(
        image_embeddings, report_embeddings, match, query_group=query_group, candidate_group=candidate_group
    )
    vectors = Vectors.of(image_embeddings, report_embeddings, match, query_group, candidate_group)
    n_queries = len(vectors.queries)
    if len(counts.n_eligible) != n_queries:
        raise InputError(f"counts are of {len(counts.n_eligible)} queries, and there are {n_queries}.", "Count again.")
    names, patient = np.unique(np.asarray(query_group), return_inverse=True)
    test_half = halves(names, seed)
    grid = _grid(vectors, np.flatnonzero(~test_half[patient]), seed)
    own_bin, reach = _reach(vectors, grid)
    return Scores(
        counts=counts,
        thresholds=grid.thresholds,
        own_bin=own_bin,
        reach=reach,
        patient=patient,
        test_half=test_half,
        seed=seed,
        load=lambda: vectors,
    )


def halves(patients: np.ndarray, seed: int) -> np.ndarray:
    """True for the half of the patients (n_patients,) on which figures are told; the others choose thresholds.

    Patients in the order of a hash of the seed and their name, so it depends on nothing but who there is.
    """
    keys = [hashlib.sha256(f"{seed}\x1f{name}".encode()).digest() for name in patients.tolist()]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    test = np.zeros(len(keys), dtype=bool)
    test[order[: len(keys) // 2]] = True
    return test


class _NoneDrawn:
    """P(none of c marked candidates among n drawn of E) = C(E-c, n)/C(E, n), the product of 1 - n/(E-i) over i < c."""

    def __init__(self, eligible: np.ndarray, drawn: int) -> None:
        sizes, kind = np.unique(eligible, return_inverse=True)
        self.values = np.concatenate([none_drawn(size, drawn) for size in sizes.tolist()])
        self.start = np.concatenate([[0], np.cumsum(sizes + 1)[:-1]])[kind]

    def of(self, marked: np.ndarray) -> np.ndarray:
        return np.asarray(self.values[self.start + marked])


@lru_cache(maxsize=32)
def none_drawn(eligible: int, drawn: int) -> np.ndarray:
    """C(E-c, n)/C(E, n) for c = 0 .. E; logarithms are summed, so nothing is lost to large factorials."""
    with np.errstate(divide="ignore"):
        steps = np.log1p(-np.minimum(drawn / np.arange(eligible, 0, -1), 1.0))
    values = np.exp(np.concatenate([[0.0], np.cumsum(steps)]))
    values.flags.writeable = False
    return np.asarray(values)


def _two_best(eligible: np.ndarray, drawn: int, uniform: np.ndarray) -> np.ndarray:
    """(2, n_queries, n_pools) places, from 0, of the best and second best of `drawn` among E; E where there is none.
    They come from as many uniform numbers above 0 up to 1."""
    places = np.empty(uniform.shape, dtype=np.int32)
    for size in np.unique(eligible).tolist():
        rows = np.flatnonzero(eligible == size)
        first = np.minimum(_first_below(none_drawn(size, drawn), uniform[0, rows]), size) - 1
        places[0, rows] = first
        if drawn < 2:
            places[1, rows] = size
            continue
        rest = none_drawn(size, drawn - 1)
        second = _first_below(rest, uniform[1, rows] * rest[first + 1]) - 1
        places[1, rows] = np.clip(second, first + 1, size - 1)
    return places


def _first_below(falling: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The first place of a falling sequence that is below each level."""
    return len(falling) - np.searchsorted(falling[::-1], level, side="left")


def _at_rank(top: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Scores (n_rows, pools) at places of `top` (n_rows, deepest), which falls along a row; -infinity past its end."""
    there = np.take_along_axis(top, np.minimum(place, top.shape[1] - 1), axis=1)
    return np.where(place < top.shape[1], there, -np.inf)


def _reach(vectors: Vectors, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(bin of each match's score, eligible candidates at each threshold or above)."""
    queries, columns = vectors.queries, vectors.distinct
    own_bin = np.empty(len(queries), dtype=np.int32)
    reach = np.empty((len(queries), len(grid.thresholds)), dtype=np.int32)
    order = np.argsort(vectors.match_column, kind="stable")

    def count(start: int) -> None:
        rows = order[start : start + QUERY_BLOCK]
        tile = np.empty(len(rows) * min(CANDIDATE_BLOCK, len(columns)), dtype=queries.dtype)
        histogram = np.zeros((len(rows), len(grid.thresholds)), dtype=np.int32)
        local, column = vectors.own.of(rows)
        match_column = vectors.match_column[rows]
        block = queries[rows]
        for low in range(0, len(columns), CANDIDATE_BLOCK):
            high = min(low + CANDIDATE_BLOCK, len(columns))
            out = tile[: len(rows) * (high - low)].reshape(len(rows), high - low)
            product = np.matmul(block, columns[low:high].T, out=out)
            add_tile(product, grid, vectors.multiplicity[low:high], histogram)
            inside = (column >= low) & (column < high)
            r = local[inside]
            np.subtract.at(histogram, (r, grid.bins(product[r, column[inside] - low])), 1)
            here = np.flatnonzero((match_column >= low) & (match_column < high))
            own_bin[rows[here]] = grid.bins(product[here, match_column[here] - low])
        reach[rows] = np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1]

    each_block(count, len(queries), QUERY_BLOCK)
    return own_bin, reach


def _grid(vectors: Vectors, choosing: np.ndarray, seed: int) -> Grid:
    """Thresholds at quantiles of pooled scores (of some queries) and of match scores, both of the choosing half."""
    queries, columns = vectors.queries, vectors.distinct
    if not len(choosing):
        choosing = np.arange(len(queries))
    own = np.einsum("ij,ij->i", queries[choosing], columns[vectors.match_column[choosing]])
    sampled = np.random.default_rng(seed).permutation(choosing)[:SAMPLED_QUERIES]
    pooled = np.sort(np.concatenate([(queries[row] @ columns.T)[vectors.column_of] for row in sampled]))
    low = min(float(np.median(pooled)), float(np.quantile(own, 0.01)))
    high = max(float(pooled[-1]), float(own.max()))
    return Grid.near(np.concatenate([_spread(pooled), _spread(own)]), low, high, queries.dtype.type)


def _spread(values: np.ndarray) -> np.ndarray:
    """Up to 192 quantiles: even over the whole range, and by powers in the upper tail to its last value."""
    if not len(values):
        return np.empty(0)
    tail = np.geomspace(0.5, 1 / len(values), 128) if len(values) > 1 else np.array([0.0])
    above = np.concatenate([np.linspace(0, 1, 64), tail])
    ordered = np.sort(values)
    return ordered[np.clip(((1 - above) * len(ordered)).astype(int), 0, len(ordered) - 1)]


def _patient_sums(
    column: Callable[[int], np.ndarray], n_thresholds: int, patient: np.ndarray, n_patients: int
) -> np.ndarray:
    """(3, n_patients, n_thresholds), one threshold at a time: nothing of size n_queries x n_thresholds is kept."""
    sums = np.empty((3, n_patients, n_thresholds))
    for g in range(n_thresholds):
        for kind, values in enumerate(column(g)):
            sums[kind, :, g] = np.bincount(patient, weights=values, minlength=n_patients)
    return sums


def _reached(bins: np.ndarray, kept: np.ndarray, unit: np.ndarray, n_units: int, n_thresholds: int) -> np.ndarray:
    """(n_units, n_thresholds) sums over each unit's queries of the share of pools, among those kept, whose bin is the
    threshold's or above. bins, kept (n_queries, n_pools); unit (n_queries,)."""
    code = (unit[:, None] * n_thresholds + bins)[kept]
    counted = np.bincount(code, minlength=n_units * n_thresholds).reshape(n_units, n_thresholds)
    return np.asarray(np.cumsum(counted[:, ::-1], axis=1)[:, ::-1] / bins.shape[1])
