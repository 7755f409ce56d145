"""Exact counts: how many candidates score above the match, and how many tie with it. Nothing is sorted or sampled.

The pieces that count (distinct vectors, own candidates, one block of queries) are open to the other modules that go
over the same tiles: exposure, fusion, open world.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from threadpoolctl import ThreadpoolController

from linkage_core.errors import InputError
from linkage_core.ranking._count import count_tile

QUERY_BLOCK = 512
CANDIDATE_BLOCK = 2048


class MatchCounts(NamedTuple):
    """Three integers a query, over the eligible candidates other than the match. int64, shape (n_queries,)."""

    n_better: np.ndarray
    n_tied: np.ndarray
    n_eligible: np.ndarray


def match_counts(
    image_embeddings: np.ndarray, report_embeddings: np.ndarray, match: np.ndarray, **alike: np.ndarray | None
) -> MatchCounts:
    """Where does each query's match stand among its eligible candidates, by inner product?

    One blocked matrix product gives the scores; each tile is compared with the match's score, read from the same
    product, while it is in cache. Memory is bounded by a few tiles a core. Candidates with identical vectors are
    counted as one vector with a multiplicity, so they tie exactly wherever they stand.

    Arguments
        image_embeddings: (n_queries, e) queries, any float type; unit norm if scores are to be cosines.
        report_embeddings: (n_candidates, e).
        match: (n_queries,) integer index of each query's candidate.
        query_group, candidate_group: (n_queries,) and (n_candidates,) patient of each. Where given, candidates of the
            query's own group are not eligible. Where absent, every candidate is.
        query_text, candidate_text: text key of each query's own report and of each candidate. Where given, an eligible
            candidate with the query's own text counts as the match: it never hurts, but still stands in the pool.

    Returns MatchCounts. float64 input is ranked in float64, anything else in float32.
    Raises InputError for other lengths, an index out of range, NaN or infinity; it names the argument and the row.

    >>> match_counts(np.eye(3), np.eye(3), np.arange(3)).n_better.tolist()
    [0, 0, 0]
    """
    return counting(image_embeddings, report_embeddings, match, **alike).all()


class Counting(Protocol):
    """What is about to be counted, in pieces that do not depend on each other: together they are all queries."""

    @property
    def n_queries(self) -> int: ...

    def __len__(self) -> int:
        """How many pieces."""
        ...

    def pieces(self, wanted: Iterable[int], done: Callable[[int, np.ndarray, MatchCounts], None]) -> None:
        """done(piece, rows, their counts) of each of these, in any order and from any thread."""
        ...


@dataclass(frozen=True, eq=False)
class InBlocks:
    """Counts over all candidates: a piece is a block of QUERY_BLOCK queries, in the order of their matches.

    A block is one product of one shape, whoever counts it and beside whatever else: on one kind of processor its counts
    are the same bit for bit.
    """

    queries: np.ndarray
    vectors: np.ndarray
    multiplicity: np.ndarray
    match_column: np.ndarray
    lists: list[OwnColumns]
    n_eligible: np.ndarray
    order: np.ndarray

    @property
    def n_queries(self) -> int:
        return len(self.queries)

    def __len__(self) -> int:
        return -(-self.n_queries // QUERY_BLOCK)

    def all(self) -> MatchCounts:
        return gathered(self, range(len(self)))

    def pieces(self, wanted: Iterable[int], done: Callable[[int, np.ndarray, MatchCounts], None]) -> None:
        n_better = np.zeros(self.n_queries, dtype=np.int64)
        n_tied = np.zeros(self.n_queries, dtype=np.int64)
        vectors, column = self.vectors, self.match_column

        def count(piece: int) -> None:
            rows = self.order[piece * QUERY_BLOCK : (piece + 1) * QUERY_BLOCK]
            tile = np.empty(len(rows) * min(CANDIDATE_BLOCK, len(vectors)), dtype=vectors.dtype)
            of_block = self.queries[rows], vectors, self.multiplicity, rows, column[rows], self.lists
            count_block(*of_block, n_better, n_tied, tile)
            done(piece, rows, MatchCounts(n_better[rows], n_tied[rows], self.n_eligible[rows]))

        on_all_cores(count, wanted)


def gathered(counting: Counting, wanted: Iterable[int]) -> MatchCounts:
    """The counts of all queries, of which those of these pieces are filled in."""
    found = MatchCounts(*np.zeros((3, counting.n_queries), dtype=np.int64))

    def keep(piece: int, rows: np.ndarray, counts: MatchCounts) -> None:
        for column, values in zip(found, counts, strict=True):
            column[rows] = values

    counting.pieces(wanted, keep)
    return found


def counting(
    image_embeddings: np.ndarray,
    report_embeddings: np.ndarray,
    match: np.ndarray,
    *,
    query_group: np.ndarray | None = None,
    candidate_group: np.ndarray | None = None,
    query_text: np.ndarray | None = None,
    candidate_text: np.ndarray | None = None,
) -> InBlocks:
    """What match_counts counts, block by block; arguments and errors as there."""
    queries = checked_matrix(image_embeddings, "image_embeddings")
    candidates = checked_matrix(report_embeddings, "report_embeddings")
    n_queries, n_candidates = len(queries), len(candidates)
    if queries.shape[1] != candidates.shape[1]:
        raise InputError(
            f"image_embeddings have {queries.shape[1]} dimensions, report_embeddings {candidates.shape[1]}.",
            "Both must come from the same model and head.",
        )
    match = checked_match(match, n_queries, n_candidates)
    precision = precision_of(queries, candidates)
    queries = queries.astype(precision, copy=False)
    vectors, column_of, multiplicity = distinct(candidates.astype(precision, copy=False), match)

    groups = coded_pair(query_group, candidate_group, n_queries, n_candidates, "group")
    own_query, own_candidate = own_candidates(match, groups, n_candidates)
    n_own = np.bincount(own_query, minlength=n_queries)
    n_eligible = n_candidates - n_own

    texts = coded_pair(query_text, candidate_text, n_queries, n_candidates, "text")
    same_query, same_candidate = own_candidates(match, texts, n_candidates) if texts else (own_query, own_candidate)
    lists = [OwnColumns(own_query, column_of[own_candidate], n_queries)]
    if texts:
        # what is both of the query's patient and of its text must be taken away once
        codes = np.setdiff1d(same_query * n_candidates + same_candidate, own_query * n_candidates + own_candidate)
        lists.append(OwnColumns(codes // n_candidates, column_of[codes % n_candidates], n_queries))

    match_column = column_of[match]
    order = np.argsort(match_column, kind="stable")
    return InBlocks(queries, vectors, multiplicity, match_column, lists, n_eligible.astype(np.int64), order)


def each_block(work: Callable[[int], None], n_queries: int, step: int) -> None:
    """work(start) for each block of `step` queries, on all cores."""
    on_all_cores(work, range(0, n_queries, step))


def on_all_cores(work: Callable[[int], None], blocks: Iterable[int]) -> None:
    """work(block) for each of them.

    One block a core, each with a product of its own: a product that is itself spread over the cores leaves them waiting
    for each other at every tile, and could round otherwise on a machine with another number of them. A single block is
    worked on where it is asked for: a thread takes longer to begin than the block of a small cohort.
    """
    blocks = list(blocks)
    with one_thread():
        if len(blocks) == 1:
            work(blocks[0])
            return
        with ThreadPoolExecutor(_cores()) as pool:
            for _ in pool.map(work, blocks):
                pass


def one_thread() -> AbstractContextManager[object]:
    """Products of matrices by one core each: by more of them they may round otherwise."""
    return _blas().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_block(
    queries: np.ndarray,
    vectors: np.ndarray,
    multiplicity: np.ndarray,
    rows: np.ndarray,
    match_column: np.ndarray,
    lists: list[OwnColumns],
    n_better: np.ndarray,
    n_tied: np.ndarray,
    tile: np.ndarray,
) -> None:
    """Counts of one block of queries, sorted by the column of their match, into n_better and n_tied at `rows`.

    The tiles that hold matches come first and are kept until every match score of the block is read. Matches are the
    leading columns in query order, so a block's matches lie in one or two neighbouring tiles.
    """
    n_columns = len(vectors)
    starts = list(range(0, n_columns, CANDIDATE_BLOCK))
    holding = np.unique(match_column // CANDIDATE_BLOCK).tolist()
    scores = np.empty(len(rows), dtype=queries.dtype)
    kept: dict[int, np.ndarray] = {}
    for t in holding:
        low = starts[t]
        product = queries @ vectors[low : low + CANDIDATE_BLOCK].T
        here = np.flatnonzero(match_column // CANDIDATE_BLOCK == t)
        scores[here] = product[here, match_column[here] - low]
        kept[t] = product
    better = np.zeros(len(rows), dtype=np.int64)
    tied = np.zeros(len(rows), dtype=np.int64)
    own = [columns.of(rows) for columns in lists]
    for t in holding + [t for t in range(len(starts)) if t not in kept]:
        low = starts[t]
        high = min(low + CANDIDATE_BLOCK, n_columns)
        product = kept.pop(t, None)
        if product is None:
            out = tile[: len(rows) * (high - low)].reshape(len(rows), high - low)
            product = np.matmul(queries, vectors[low:high].T, out=out)
        count_tile(product, scores, multiplicity[low:high], better, tied)
        for local_row, column in own:  # the query's own: neither above nor tied
            inside = (column >= low) & (column < high)
            r = local_row[inside]
            s = product[r, column[inside] - low]
            np.subtract.at(better, r, s > scores[r])
            np.subtract.at(tied, r, s == scores[r])
    n_better[rows] = better
    n_tied[rows] = tied


class OwnColumns:
    """For each query, the columns of candidates to take away again (its own patient's, or those of its own text)."""

    def __init__(self, query: np.ndarray, column: np.ndarray, n_queries: int) -> None:
        order = np.argsort(query, kind="stable")
        self.column = column[order]
        self.offset = np.concatenate([[0], np.cumsum(np.bincount(query, minlength=n_queries))])

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(position in `rows`, column) of every listed pair of these queries."""
        length = self.offset[rows + 1] - self.offset[rows]
        local = np.repeat(np.arange(len(rows)), length)
        first = np.repeat(self.offset[rows] - np.concatenate([[0], np.cumsum(length)[:-1]]), length)
        return local, self.column[first + np.arange(len(local))]


def distinct(candidates: np.ndarray, match: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distinct vectors, column of each candidate, candidates per column), matched vectors first, in query order."""
    rows = np.ascontiguousarray(candidates + 0)  # turns -0.0 into 0.0: equal numbers get equal bytes
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.full(len(first), len(rows) + len(match), dtype=np.int64)
    np.minimum.at(rank, inverse[match], np.arange(len(match)))
    unmatched = rank == len(rows) + len(match)
    rank[unmatched] = len(match) + first[unmatched]
    order = np.argsort(rank, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    column_of = place[inverse]
    return rows[first[order]], column_of, np.bincount(column_of, minlength=len(order)).astype(np.int32)


def identical_counts(
    code: np.ndarray, match: np.ndarray, query_group: np.ndarray, candidate_group: np.ndarray
) -> MatchCounts:
    """Counts of somebody who knows the match's code: candidates of other groups with the same code are level with it,
    no other is better.

    code, candidate_group (n_candidates,) and match, query_group (n_queries,) integers; groups are 0, 1, ... of both.
    """
    n_groups = int(candidate_group.max()) + 1
    pairs, n_pairs = np.unique(code * n_groups + candidate_group, return_counts=True)
    own = n_pairs[np.searchsorted(pairs, code[match] * n_groups + query_group)]
    eligible = len(code) - np.bincount(candidate_group, minlength=n_groups)[query_group]
    return MatchCounts(np.zeros(len(match), dtype=np.int64), np.bincount(code)[code[match]] - own, eligible)


def own_candidates(
    match: np.ndarray, groups: tuple[np.ndarray, np.ndarray] | None, n_candidates: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query, candidate): the match and all candidates of the query's group; sorted by query, no repeats."""
    queries = np.arange(len(match))
    if groups is None:
        return queries, match
    query_group, candidate_group = groups
    order = np.argsort(candidate_group, kind="stable")
    ordered = candidate_group[order]
    low, high = np.searchsorted(ordered, query_group, "left"), np.searchsorted(ordered, query_group, "right")
    length = high - low
    query = np.repeat(queries, length)
    start = np.repeat(low - np.concatenate([[0], np.cumsum(length)[:-1]]), length) if len(match) else low
    candidate = order[start + np.arange(len(query))]
    codes = np.unique(np.concatenate([query * n_candidates + candidate, queries * n_candidates + match]))
    return codes // n_candidates, codes % n_candidates


def checked_matrix(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2:
        raise InputError(f"{name} has shape {values.shape}.", "Give a matrix with one row an embedding.")
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise InputError(
            f"{name} row {int(np.argmin(finite))} holds NaN or infinity ({int((~finite).sum())} such rows).",
            "Leave these rows out, or embed them again.",
        )
    return values


def precision_of(queries: np.ndarray, candidates: np.ndarray) -> type[np.floating]:
    """In which scores are computed: float64 where both are, else float32."""
    return np.float64 if queries.dtype == candidates.dtype == np.float64 else np.float32


def checked_match(match: np.ndarray, n_queries: int, n_candidates: int) -> np.ndarray:
    match = np.asarray(match)
    if match.shape != (n_queries,):
        raise InputError(f"match has shape {match.shape} for {n_queries} queries.", "Give one candidate index a query.")
    if not np.issubdtype(match.dtype, np.integer) and n_queries:
        raise InputError(f"match has type {match.dtype}.", "Give integer indices into report_embeddings.")
    wrong = np.flatnonzero((match < 0) | (match >= n_candidates))
    if len(wrong):
        raise InputError(
            f"match[{wrong[0]}] is {match[wrong[0]]}, and there are {n_candidates} candidates.",
            "Indices run from 0 to one less than the number of candidates.",
        )
    return match.astype(np.int64)


def coded_pair(
    of_query: np.ndarray | None, of_candidate: np.ndarray | None, n_queries: int, n_candidates: int, name: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Both arrays coded as integers over one common list of values, or None if neither is given."""
    if of_query is None and of_candidate is None:
        return None
    if of_query is None or of_candidate is None:
        raise InputError(f"Only one of query_{name} and candidate_{name} is given.", "Give both or neither.")
    of_query, of_candidate = np.asarray(of_query), np.asarray(of_candidate)
    for values, n, which in ((of_query, n_queries, "query"), (of_candidate, n_candidates, "candidate")):
        if values.shape != (n,):
            raise InputError(f"{which}_{name} has shape {values.shape}, expected ({n},).", "Give one value a row.")
    codes = np.unique(np.concatenate([of_query, of_candidate]), return_inverse=True)[1]
    return codes[:n_queries], codes[n_queries:]
