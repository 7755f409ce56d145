"""What an attacker answers: a score for every query and every candidate, as factors or block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from linkage_core.errors import InputError
from linkage_core.ranking.counts import MatchCounts, match_counts

BLOCK = 256
"""Queries of one block."""

Each = Literal["text", "candidate"]
"""What a row of an attacker's reports (or a column of its block) stands for: a distinct text, or one candidate.

A text is right for whoever reads the report alone: candidates of one text then tie exactly. Who knows more of a
candidate, such as the patient's age, needs a row of its own for each.
"""


@dataclass(frozen=True)
class Scored:
    """Scores that are inner products: score(image i, report j) = queries[i] . reports[j], ranked exactly.

    queries (n_queries, p); reports (n_texts, p), or (n_candidates, p) where `each` is "candidate"; chosen: in words,
    which of its ways the attacker took. A term of the report alone is one more coordinate, for which queries have a 1.
    """

    queries: np.ndarray
    reports: np.ndarray
    chosen: str = ""
    each: Each = "text"

    def of_candidates(self, text_of: np.ndarray) -> np.ndarray:
        """(n_candidates, p)."""
        return self.reports[text_of] if self.each == "text" else self.reports

    def block(self, rows: np.ndarray, text_of: np.ndarray) -> np.ndarray:
        """(len(rows), n_candidates) scores of some queries; text_of as in held.Asked."""
        scores = self.queries[rows] @ self.reports.T
        return np.asarray(scores[:, text_of] if self.each == "text" else scores)

    def checked(self, n_queries: int, n_texts: int, n_candidates: int) -> Scored:
        """Itself; InputError where shapes or values cannot be ranked."""
        n_reports = n_texts if self.each == "text" else n_candidates
        queries, reports = np.asarray(self.queries), np.asarray(self.reports)
        shapes = (queries.shape, reports.shape)
        if (
            queries.ndim != 2
            or reports.ndim != 2
            or shapes != ((n_queries, reports.shape[1]), (n_reports, reports.shape[1]))
        ):
            raise InputError(
                f"It gave queries of shape {shapes[0]} and reports of shape {shapes[1]}.",
                f"Give ({n_queries}, p) and ({n_reports}, p): one row a query, one a {self.each}.",
            )
        if not (np.isfinite(queries).all() and np.isfinite(reports).all()):
            raise InputError("It gave NaN or infinity.", "Give finite numbers.")
        return replace(self, queries=queries, reports=reports)


@dataclass(frozen=True)
class InBlocks:
    """Scores that are no inner product: `batch` is asked for some queries at a time, and counted exactly as well.

    batch: row numbers of queries -> (len(rows), n_texts) scores, or (len(rows), n_candidates) where `each` is
    "candidate". The scores of a query must not depend on which others are asked with it.
    """

    batch: Callable[[np.ndarray], np.ndarray]
    chosen: str = ""
    each: Each = "text"

    def block(self, rows: np.ndarray, text_of: np.ndarray) -> np.ndarray:
        """(len(rows), n_candidates) scores of some queries. InputError for another shape or NaN."""
        scores = np.asarray(self.batch(rows))
        n_columns = int(text_of.max()) + 1 if self.each == "text" else len(text_of)
        if scores.shape != (len(rows), n_columns):
            raise InputError(
                f"It gave scores of shape {scores.shape} for {len(rows)} queries.",
                f"Give ({len(rows)}, {n_columns}): one column a {self.each}.",
            )
        if np.isnan(scores).any():
            raise InputError("It gave NaN.", "Give numbers.")
        return np.asarray(scores[:, text_of] if self.each == "text" else scores)

    def checked(self, n_queries: int, n_texts: int, n_candidates: int) -> InBlocks:
        """Itself: blocks are looked at when they are asked for."""
        return self


Answer = Scored | InBlocks


def ranked(
    answer: Answer,
    text_of: np.ndarray,
    match: np.ndarray,
    query_group: np.ndarray | None = None,
    candidate_group: np.ndarray | None = None,
) -> MatchCounts:
    """Exact counts of an answer; text_of (n_candidates,), match and groups as in ranking.counts.match_counts."""
    if isinstance(answer, Scored):
        candidates = answer.of_candidates(text_of)
        groups = {"query_group": query_group, "candidate_group": candidate_group}
        return match_counts(answer.queries, candidates, match, **groups)
    better, tied, eligible = np.zeros((3, len(match)), dtype=np.int64)
    for start in range(0, len(match), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(match)))
        scores = answer.block(rows, text_of)
        own = scores[np.arange(len(rows)), match[rows]][:, None]
        others = np.ones(scores.shape, dtype=bool)
        if query_group is not None and candidate_group is not None:
            others = query_group[rows][:, None] != candidate_group[None, :]
        others[np.arange(len(rows)), match[rows]] = False
        better[rows] = ((scores > own) & others).sum(axis=1)
        tied[rows] = ((scores == own) & others).sum(axis=1)
        eligible[rows] = others.sum(axis=1)
    return MatchCounts(better, tied, eligible)
