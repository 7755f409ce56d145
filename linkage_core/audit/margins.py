"""By how much does the match win? Scores of the match and of its best distractor, for every query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linkage_core.audit import strata
from linkage_core.audit.study import Study
from linkage_core.errors import InputError
from linkage_core.ranking import counts

Scores = tuple[np.ndarray, np.ndarray]


def scores(study: Study) -> Scores:
    """(score of the match, score of the best eligible distractor) of every query; float32, NaN without a distractor.

    Distractors are those that the study's counts are over: with same-finding decoys, of the query's own stratum.
    """
    embeddings = study.entry.embeddings(study.head, study.split)
    if study.direction == "image-to-report":
        queries, candidates, match = embeddings.images, embeddings.reports, embeddings.match
        group, key = embeddings.candidate_group, embeddings.candidates["report_key"].to_numpy(str)
    else:
        queries, candidates = embeddings.reports[embeddings.match], embeddings.images
        match = np.arange(len(candidates))
        group, key = embeddings.query_group, embeddings.records["report_key"].to_numpy(str)
    if study.hard_negatives:
        owner = group if study.direction == "image-to-report" else embeddings.query_group
        codes = strata.stratum_codes(
            embeddings.records, strata.candidates_of(embeddings.records, study.direction)[0], study.strata
        )
        return best_in_stratum(queries, candidates, match, (embeddings.query_group, owner), codes)
    if study.pool == "all":
        return best_distractor(queries, candidates, match)
    if study.pool == "other-patients":
        return best_distractor(queries, candidates, match, (embeddings.query_group, group))
    if study.pool == "same-text-counts":
        return best_distractor(queries, candidates, match, (embeddings.query_group, group), (key[match], key))
    raise InputError(
        f"Margins are not defined for the pool {study.pool!r}.",
        "Use other-patients, all, same-text-counts or same-findings.",
    )


def best_distractor(
    queries: np.ndarray, candidates: np.ndarray, match: np.ndarray, *same: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The match's score and the highest score among candidates that are neither the match nor the `same` as the query.

    Arguments
        queries (n_queries, e) and candidates (n_candidates, e), unit norm if scores are to be cosines; match
            (n_queries,) index of each query's candidate.
        same: pairs of keys (n_queries,), (n_candidates,), such as patients or texts; a candidate that shares a key
            with the query is no distractor.

    Returns two float32 arrays (n_queries,); NaN where there is no distractor. The tiles are those of
    ranking.match_counts, so score > best exactly where n_better and n_tied are 0, and memory is bounded by one tile.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    vectors, column_of, multiplicity = counts.distinct(np.asarray(candidates, dtype=np.float32), match)
    n_queries, n_columns = len(queries), len(vectors)
    hidden = _closed(match, column_of, multiplicity, same)
    score = np.empty(n_queries, dtype=np.float32)
    best = np.full(n_queries, -np.inf, dtype=np.float32)
    order = np.argsort(column_of[match], kind="stable")

    def block(start: int) -> None:
        rows = order[start : start + counts.QUERY_BLOCK]
        asking, own = queries[rows], column_of[match[rows]]
        local, column = hidden.of(rows)
        top = np.full(len(rows), -np.inf, dtype=np.float32)
        for low in range(0, n_columns, counts.CANDIDATE_BLOCK):
            product = asking @ vectors[low : low + counts.CANDIDATE_BLOCK].T
            here = np.flatnonzero((own >= low) & (own < low + product.shape[1]))
            score[rows[here]] = product[here, own[here] - low]
            inside = (column >= low) & (column < low + product.shape[1])
            product[local[inside], column[inside] - low] = -np.inf
            np.maximum(top, product.max(axis=1), out=top)
        best[rows] = top

    counts.each_block(block, n_queries, counts.QUERY_BLOCK)
    best[np.isneginf(best)] = np.nan
    return score, best


def best_in_stratum(
    queries: np.ndarray,
    candidates: np.ndarray,
    match: np.ndarray,
    patient: tuple[np.ndarray, np.ndarray],
    stratum: tuple[np.ndarray, np.ndarray],
) -> Scores:
    """As best_distractor, among candidates of other patients in the query's own stratum.

    `patient` and `stratum` are pairs of codes (n_queries,), (n_candidates,); strata 0, 1, ... as
    strata.stratum_codes gives them. The products are those of strata.count, so the signs agree with its counts.
    """
    score = np.empty(len(queries), dtype=np.float32)
    best = np.full(len(queries), np.nan, dtype=np.float32)
    place = np.empty(len(candidates), dtype=np.int64)
    vector_id = strata.identical(candidates)
    of_query, of_candidate = stratum
    members = zip(strata.members(of_query, of_candidate), strata.members(of_candidate, of_candidate), strict=True)
    for rows, columns in members:
        place[columns] = np.arange(len(columns))
        matches, own, owner = place[match[rows]], patient[0][rows], patient[1][columns]
        if len(rows) * len(columns) > strata.SMALL:
            score[rows], best[rows] = best_distractor(queries[rows], candidates[columns], matches, (own, owner))
        elif len(rows):
            first, column = np.unique(vector_id[columns], return_index=True, return_inverse=True)[1:]
            table = (queries[rows] @ candidates[columns[first]].T)[:, column]
            score[rows] = table[np.arange(len(rows)), matches]
            table[own[:, None] == owner] = -np.inf
            best[rows] = table.max(axis=1)
    best[np.isneginf(best)] = np.nan
    return score, best


def _closed(
    match: np.ndarray, column_of: np.ndarray, multiplicity: np.ndarray, same: Sequence[tuple[np.ndarray, np.ndarray]]
) -> counts.OwnColumns:
    """For each query the columns all of whose candidates are its match or its own.

    Where a column has one key throughout (a text, as a rule), columns are listed in place of candidates: a text that
    thousands share is one column.
    """
    n_candidates, n_columns = len(column_of), len(multiplicity)
    whole, pairs = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    coded = [counts.coded_pair(*keys, len(match), n_candidates, "group") for keys in same]
    for groups in coded or [None]:
        key_of_column = np.empty(n_columns, dtype=np.int64)
        if groups is not None:
            key_of_column[column_of] = groups[1]
            one_key = (key_of_column[column_of] == groups[1]).all()
            if one_key and (groups[0] == groups[1][match]).all():
                by_column = (groups[0], key_of_column)
                query, column = counts.own_candidates(column_of[match], by_column, n_columns)
                whole.append(query * n_columns + column)
                continue
        query, candidate = counts.own_candidates(match, groups, n_candidates)
        pairs.append(query * n_candidates + candidate)
    codes = np.unique(np.concatenate(pairs))
    held, n_own = np.unique(codes // n_candidates * n_columns + column_of[codes % n_candidates], return_counts=True)
    closed = np.union1d(np.concatenate(whole), held[n_own == multiplicity[held % n_columns]])
    return counts.OwnColumns(closed // n_columns, closed % n_columns, len(match))
