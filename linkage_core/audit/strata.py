"""Hard negatives: decoys of other patients with the same findings, and how alike they are in everything else.

A stratum is a set of candidates whose 14 labels are identical; missing, 0, 1 and -1 are four values, so "not mentioned"
matches "not mentioned" alone. `STRATA` narrow it further. In every other attribute a missing value is a value too.

Findings, sex, age and report length belong to the study and are those of its first record. A report also gets a view,
for the projection shows in what is written: that of its study's first frontal image (PA or AP), else of its first
image. So strata split the candidates without overlap, the match is always in its query's stratum, and a lateral image
meets the reports its frontal twin meets. Where images are ranked for a report, an image's view is its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, gathered, match_counts, one_thread
from linkage_core.ranking.intervals import TOO_FEW, cluster_bootstrap, flag_of
from linkage_core.store.entry import Embeddings

STRATA = {
    "view": "the same view",
    "sex": "the same sex",
    "age": "the same decade of age",
    "length": "the same quartile of report length",
}
SMALL = 2**18
"""Scores of a stratum up to which they are counted in one table."""
PIECE = 2**26
"""Scores of neighbouring strata that are counted as one piece."""
DRAWN = 32
"""Decoys drawn for each query in the tables that compare them with the match. No risk number is drawn."""


def ordered(by: Iterable[str]) -> tuple[str, ...]:
    """Strata in their one order, each once; InputError for an unknown one.

    >>> ordered(["sex", "view", "sex"])
    ('view', 'sex')
    """
    wanted = set(by)
    unknown = sorted(wanted - set(STRATA))
    if unknown:
        raise InputError(f"There is no stratum {unknown[0]!r}.", f"They are: {', '.join(STRATA)}.")
    return tuple(name for name in STRATA if name in wanted)


def candidates_of(records: pd.DataFrame, direction: str) -> tuple[pd.DataFrame, np.ndarray]:
    """(candidates, match) of a direction: one row a study, or one row an image; (n_queries,) row of each match."""
    if direction == "report-to-image":
        return records, np.arange(len(records))
    columns = ["study_id", "patient_id", "report_key", "report_words"]
    candidates = records.drop_duplicates("study_id")[columns].reset_index(drop=True)
    return candidates, pd.Index(candidates["study_id"]).get_indexer(records["study_id"])


def stratum_codes(
    records: pd.DataFrame, candidates: pd.DataFrame, by: Iterable[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Which stratum is each query's match in, and which each candidate?

    Arguments
        records: (n_queries rows) the images, with RECORD_COLUMNS, report_key and report_words.
        candidates: one row a study for image to report; one row an image (with `record_id`) for report to image. As
            candidates_of gives them.
        by: extra strata, keys of STRATA. Length quartiles are over the studies of `records`.

    Returns two int64 arrays of codes, (n_queries,) and (n_candidates,).
    Raises InputError for an unknown stratum, or where no record has any label.
    """
    by = ordered(by)
    table = _attributes(records, candidates)
    columns = [*LABELS, *(_COLUMN[name] for name in by)]
    if not (table[list(LABELS)] != _MISSING).to_numpy().any():
        raise InputError(
            "No record has any of the 14 labels, so every report would be a decoy with the same findings.",
            f"Give label columns ({LABELS[0]}, ... {LABELS[-1]}), or use another pool.",
        )
    code = np.zeros(len(table), dtype=np.int64)
    for column in columns:
        values, names = pd.factorize(table[column])
        code = np.unique(code * len(names) + values, return_inverse=True)[1]
    if "record_id" in candidates:
        return code, code
    return code[pd.Index(candidates["study_id"]).get_indexer(records["study_id"])], code


def count(embeddings: Embeddings, by: Iterable[str] = (), direction: str = "image-to-report") -> MatchCounts:
    """Where does each match stand among candidates of other patients in its own stratum?

    One exact count for each stratum: match_counts where it is large, a small table of scores where it is not (most
    are, and there are thousands). n_eligible is the query's own; 0 where no other patient is in its stratum.
    """
    strata = counting(embeddings, by, direction)
    return gathered(strata, range(len(strata)))


@dataclass(frozen=True, eq=False)
class Strata:
    """What `count` counts. A piece is a row of neighbouring strata, of about PIECE scores or one stratum."""

    queries: np.ndarray
    vectors: np.ndarray
    match: np.ndarray
    query_group: np.ndarray
    candidate_group: np.ndarray
    strata: list[tuple[np.ndarray, np.ndarray]]

    @property
    def n_queries(self) -> int:
        return len(self.queries)

    @cached_property
    def _ends(self) -> np.ndarray:
        """Where each piece ends in the list of strata."""
        scores = np.cumsum([len(rows) * len(columns) for rows, columns in self.strata])
        return np.flatnonzero(np.diff(scores // PIECE, append=-1)) + 1

    @cached_property
    def _vector_id(self) -> np.ndarray:
        return identical(self.vectors)

    def __len__(self) -> int:
        return len(self._ends)

    def pieces(self, wanted: Iterable[int], done: Callable[[int, np.ndarray, MatchCounts], None]) -> None:
        place = np.empty(len(self.vectors), dtype=np.int64)
        for piece in wanted:
            first, end = (0 if piece == 0 else int(self._ends[piece - 1])), int(self._ends[piece])
            with one_thread():
                found = [(rows, self._count(rows, columns, place)) for rows, columns in self.strata[first:end]]
            rows = np.concatenate([rows for rows, _ in found])
            done(
                piece,
                rows,
                MatchCounts(*(np.concatenate(column) for column in zip(*(counts for _, counts in found), strict=True))),
            )

    def _count(self, rows: np.ndarray, columns: np.ndarray, place: np.ndarray) -> MatchCounts:
        """Counts of the queries of one stratum; `place` (n_candidates,) is written over."""
        own, owner = self.query_group[rows], self.candidate_group[columns]
        if (owner == owner[0]).all():
            return MatchCounts(*np.zeros((3, len(rows)), dtype=np.int64))  # one patient's stratum holds no decoy
        place[columns] = np.arange(len(columns))
        matches = place[self.match[rows]]
        if len(rows) * len(columns) > SMALL:
            return match_counts(
                self.queries[rows], self.vectors[columns], matches, query_group=own, candidate_group=owner
            )
        # identical vectors are scored once, so they tie exactly
        first, column = np.unique(self._vector_id[columns], return_index=True, return_inverse=True)[1:]
        scores = (self.queries[rows] @ self.vectors[columns[first]].T)[:, column]
        of_match = scores[np.arange(len(rows)), matches][:, None]
        eligible = own[:, None] != owner
        better, tied = (scores > of_match) & eligible, (scores == of_match) & eligible
        return MatchCounts(*(table.sum(axis=1) for table in (better, tied, eligible)))


def counting(embeddings: Embeddings, by: Iterable[str] = (), direction: str = "image-to-report") -> Strata:
    """What `count` counts, in pieces."""
    candidates, _ = candidates_of(embeddings.records, direction)
    of_query, of_candidate = stratum_codes(embeddings.records, candidates, by)
    strata = list(zip(members(of_query, of_candidate), members(of_candidate, of_candidate), strict=True))
    if direction == "report-to-image":
        queries, vectors = embeddings.reports[embeddings.match], embeddings.images
        match, group = np.arange(len(vectors)), embeddings.query_group
    else:
        queries, vectors = embeddings.images, embeddings.reports
        match, group = embeddings.match, embeddings.candidate_group
    return Strata(queries, vectors, match, embeddings.query_group, group, strata)


def offered(records: pd.DataFrame) -> tuple[str, ...]:
    """The strata that would narrow anything: those whose attribute is known and not the same throughout."""
    table = _attributes(records, candidates_of(records, "image-to-report")[0])
    known = {"view": table["view"] != "", "sex": table["sex"] != "", "age": table["age"].notna()}
    return tuple(name for name in STRATA if table.loc[known.get(name, slice(None)), _COLUMN[name]].nunique() > 1)


def fillable_pool(counts: MatchCounts, patients: np.ndarray) -> int:
    """The largest N that as many patients fill as a figure needs (statistics.TOO_FEW); 0 where fewer have a decoy.

    (n_queries,) patient of each query. A patient fills N with any one of the images.
    """
    most = np.sort(pd.Series(counts.n_eligible).groupby(np.asarray(patients)).max().to_numpy())[::-1]
    n_others = int(most[TOO_FEW - 1]) if len(most) >= TOO_FEW else 0
    return n_others + 1 if n_others else 0


def pool_steps(largest: int) -> list[int]:
    """Steps of N as pools.log_pool_sizes, begun at 2: strata are small, and N = 2 is one decoy against the match.

    >>> pool_steps(24), pool_steps(4)
    ([2, 5, 10, 20, 24], [2, 4])
    """
    return [*(n for n in (2, 5) if n < largest), *pools.log_pool_sizes(largest)]


def label_matched_auc(counts: MatchCounts) -> np.ndarray:
    """How much does the score know of the very patient beyond the findings?

    P(the match beats a random eligible decoy), a tie counting half: (n_eligible - n_better - n_tied/2) / n_eligible.
    (n_queries,) float64; 0.5 on average if nothing, NaN where there is no decoy. With counts over same-finding strata
    it is the label-matched AUC (the Mann-Whitney form of Hanley and McNeil, Radiology 143, 1982, for each query).
    """
    beaten = counts.n_eligible - counts.n_better - counts.n_tied / 2
    return np.where(counts.n_eligible > 0, beaten / np.maximum(counts.n_eligible, 1), np.nan)


@dataclass(frozen=True)
class Verification:
    """How the decoys were built, for a reader who doubts it.

    sizes: one row; strata, their sizes in candidates, queries without a decoy, candidates without any label.
    left_out: one row for each N; queries with fewer than N-1 decoys.
    balance: one row for each attribute that is not the same throughout a stratum, and way to compare it. `match` is
        the match's mean, `decoys` that of DRAWN eligible decoys a query, `others` of as many candidates of other
        patients whatever their findings. `effect` = match - decoys, for numbers over the standard deviation of the
        candidates (Cohen's d), for shares as it is, with a patient-clustered 95% interval; `n` queries of `n_patients`;
        `flag` is "too few to say" or "".
    """

    sizes: pd.DataFrame
    left_out: pd.DataFrame
    balance: pd.DataFrame
    seed: int


def verification(
    records: pd.DataFrame,
    counts: MatchCounts,
    by: Iterable[str] = (),
    *,
    direction: str = "image-to-report",
    texts: Mapping[str, str] | None = None,
    pool_sizes: Sequence[int] | None = None,
    seed: int = 0,
) -> Verification:
    """Do the match and its decoys still differ in what was not matched on?

    Within a stratum every report is decoy to every other, so signed differences are small by construction. What an
    attacker can use is how far a decoy lies from the match: its distance in standard deviations, how often it agrees
    in sex or view, how many words it shares. A match agrees with itself (distance 0, agreement 1), so the effect says
    what is left to use, and `others` what matching has taken away.

    Arguments
        records, counts: the queries of a study in their order, and their counts over these strata.
        texts: report by study id, for the overlap of words; without it only identical reports and lengths are compared.
        pool_sizes: N of the left_out table; by default the steps up to the largest N.
        seed: of the drawn decoys and of the bootstrap.
    """
    by = ordered(by)
    candidates, match = candidates_of(records, direction)
    of_query, of_candidate = stratum_codes(records, candidates, by)
    if len(counts.n_eligible) != len(records):
        raise InputError(
            f"There are counts of {len(counts.n_eligible)} queries and {len(records)} records.", "Give one a record."
        )
    patients = records["patient_id"].to_numpy()
    owner = candidates["patient_id"].to_numpy()
    rng = np.random.default_rng(seed)
    decoys = _drawn(of_query, of_candidate, patients, owner, rng)
    others = _drawn(np.zeros_like(of_query), np.zeros_like(of_candidate), patients, owner, rng)
    table = _attributes(records, candidates)
    pairs = _Pairs(match, decoys, others)
    rows: list[_Compared] = []
    for column, attribute, unit in (("report_words", "report length", "words"), ("age", "age", "years")):
        values = table[column].to_numpy(np.float64)
        spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
        if spread > 0:  # one value, or none: nothing to compare
            rows.append(_Compared(attribute, f"mean, {unit}", spread, *pairs.means(values)))
            rows.append(_Compared(attribute, f"distance from the match, {unit}", spread, *pairs.distances(values)))
    for column in ("sex", "view"):
        values = table[column].to_numpy(str)
        if column not in by and (values != "").any():
            rows.append(_Compared(column, "share equal to the match's", 1.0, *pairs.agreements(values)))
    keys = candidates["report_key"].to_numpy(str)
    rows.append(_Compared("report text", "share identical to the match's", 1.0, *pairs.agreements(keys)))
    if texts:
        words = [_words(texts.get(study, "")) for study in candidates["study_id"]]
        measure = "words in both of those in either (Jaccard)"
        rows.append(_Compared("report text", measure, 1.0, *pairs.overlaps(words)))
    labelled = np.asarray((table[list(LABELS)] != _MISSING).any(axis=1))
    return Verification(
        _sizes(of_candidate, counts, labelled), _left_out(counts, pool_sizes), _balance(rows, patients, seed), seed
    )


_MISSING = 2
_COLUMN = {"view": "view", "sex": "sex", "age": "decade", "length": "quartile"}


class _Compared(NamedTuple):
    """One row of the balance table before its means; match, decoys and others are (n_queries,)."""

    attribute: str
    measure: str
    spread: float
    match: np.ndarray
    decoys: np.ndarray
    others: np.ndarray


def _attributes(records: pd.DataFrame, candidates: pd.DataFrame) -> pd.DataFrame:
    """One row a candidate: 14 labels (missing = 2), view, sex, age, decade, report_words, quartile."""
    studies = records.drop_duplicates("study_id").set_index("study_id")
    table = pd.DataFrame(index=studies.index)
    for label in LABELS:
        values = studies[label] if label in studies else pd.Series(np.nan, index=studies.index)
        table[label] = values.fillna(_MISSING).astype(np.int8)
    frontal = records.assign(lateral=~records["view"].isin(["PA", "AP"])).sort_values("lateral", kind="stable")
    table["view"] = frontal.drop_duplicates("study_id").set_index("study_id")["view"].fillna("")
    table["sex"] = studies["sex"].fillna("")
    table["age"] = studies["age"].astype(np.float64)
    table["decade"] = (table["age"] // 10).fillna(-1).astype(np.int64)
    table["report_words"] = studies["report_words"]
    edges = np.quantile(table["report_words"], [0.25, 0.5, 0.75])
    table["quartile"] = np.searchsorted(edges, table["report_words"], side="left")
    of_candidates = table.loc[candidates["study_id"]].reset_index(drop=True)
    if "record_id" in candidates:  # images, each with its own view
        of_candidates["view"] = candidates["view"].fillna("").to_numpy()
    return of_candidates


def identical(vectors: np.ndarray) -> np.ndarray:
    """(n,) a code for each vector, equal where the vectors are."""
    rows = np.ascontiguousarray(vectors + 0)  # turns -0.0 into 0.0
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    return np.unique(keys, return_inverse=True)[1]


def members(codes: np.ndarray, all_codes: np.ndarray) -> list[np.ndarray]:
    """Rows of each stratum 0 .. max(all_codes), in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.searchsorted(codes[order], np.arange(1, int(all_codes.max()) + 1)))


def _drawn(
    of_query: np.ndarray, of_candidate: np.ndarray, patients: np.ndarray, owner: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(n_queries, DRAWN) eligible candidates of the query's stratum, -1 where there is none.

    Evenly spaced places from a random start, over the stratum sorted by patient less the query's own: every eligible
    candidate is equally likely, and a stratum of at most DRAWN is covered evenly.
    """
    person = np.unique(np.concatenate([patients, owner]), return_inverse=True)[1]
    of_patient, of_owner = person[: len(patients)], person[len(patients) :]
    width = int(person.max()) + 1
    key = of_candidate * width + of_owner
    order = np.argsort(key, kind="stable")
    key = key[order]
    low, high = (np.searchsorted(key, (of_query + i) * width) for i in (0, 1))
    own_low, own_high = (np.searchsorted(key, of_query * width + of_patient + i) for i in (0, 1))
    n = high - low - (own_high - own_low)
    step = (np.arange(DRAWN) + rng.random((len(of_query), 1))) / DRAWN
    place = low[:, None] + np.minimum((step * n[:, None]).astype(np.int64), n[:, None] - 1)
    place += np.where(place >= own_low[:, None], (own_high - own_low)[:, None], 0)
    return np.where(n[:, None] > 0, order[np.clip(place, 0, len(order) - 1)], -1)


@dataclass(frozen=True)
class _Pairs:
    """Match (n_queries,), decoys and others (n_queries, DRAWN): what each says of an attribute of the candidates.

    Each method gives three arrays (n_queries,): of the match, the mean over decoys, and over others.
    """

    match: np.ndarray
    decoys: np.ndarray
    others: np.ndarray

    def means(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = values[self.match]
        decoys, others = (self._mean(values[rows], rows) for rows in (self.decoys, self.others))
        return own, decoys, others

    def distances(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        own = values[self.match]
        decoys, others = (self._mean(np.abs(values[rows] - own[:, None]), rows) for rows in (self.decoys, self.others))
        return own * 0, decoys, others

    def agreements(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A value that is not known ("") agrees with nothing and differs from nothing."""
        known = values != ""
        own = np.where(known[self.match], 1.0, np.nan)
        decoys, others = (
            self._mean(
                np.where(known[rows] & known[self.match][:, None], values[rows] == values[self.match][:, None], np.nan),
                rows,
            )
            for rows in (self.decoys, self.others)
        )
        return own, decoys, others

    def overlaps(self, words: list[frozenset[str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Words in both reports of those in either (Jaccard); a report without words has no overlap with any."""
        own = np.array([1.0 if words[i] else np.nan for i in self.match])
        held = _bits(words)
        decoys, others = (self._mean(_jaccard(held, self.match, rows), rows) for rows in (self.decoys, self.others))
        return own, decoys, others

    @staticmethod
    def _mean(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        used = (rows >= 0) & ~np.isnan(values)
        n = used.sum(axis=1)
        total = np.where(used, values, 0.0).sum(axis=1)
        return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _words(report: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", report.lower()))


def _bits(words: list[frozenset[str]]) -> np.ndarray:
    """(n_reports, n) uint64: one bit for each word of all, set where the report has it."""
    place = {word: i for i, word in enumerate(sorted(frozenset().union(*words)))}
    held = np.zeros((len(words), -(-len(place) // 64) * 8), dtype=np.uint8)
    rows = np.repeat(np.arange(len(words)), [len(one) for one in words])
    bits = np.fromiter((place[word] for one in words for word in one), dtype=np.int64, count=len(rows))
    np.bitwise_or.at(held, (rows, bits // 8), (1 << (bits % 8)).astype(np.uint8))
    return held.view(np.uint64)


def _jaccard(held: np.ndarray, match: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(n_queries, DRAWN) words shared by each match and the reports at `rows`, of those in either; NaN where none."""
    size = np.bitwise_count(held).sum(axis=1, dtype=np.int64)
    shared = np.empty(rows.shape)
    block = max(1, 2**21 // max(1, rows.shape[1] * held.shape[1]))  # 16 MiB of words at a time
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        both = held[match[part], None] & held[rows[part]]
        shared[part] = np.bitwise_count(both).sum(axis=2, dtype=np.int64)
    either = size[match][:, None] + size[rows] - shared
    return np.where(either > 0, shared / np.maximum(either, 1), np.nan)


def _sizes(of_candidate: np.ndarray, counts: MatchCounts, labelled: np.ndarray) -> pd.DataFrame:
    size = np.bincount(of_candidate)
    alone = int((counts.n_eligible == 0).sum())
    low, q1, median, q3, high = np.quantile(size, [0, 0.25, 0.5, 0.75, 1])
    return pd.DataFrame(
        [
            {
                "n_strata": len(size),
                "n_candidates": len(of_candidate),
                "size_min": int(low),
                "size_q1": float(q1),
                "size_median": float(median),
                "size_q3": float(q3),
                "size_max": int(high),
                "n_queries": len(counts.n_eligible),
                "n_alone": alone,
                "share_alone": alone / len(counts.n_eligible),
                "median_eligible": float(np.median(counts.n_eligible)),
                "n_without_labels": int((~labelled).sum()),
            }
        ]
    )


def _left_out(counts: MatchCounts, pool_sizes: Sequence[int] | None) -> pd.DataFrame:
    largest = pools.largest_pool(counts)
    if pool_sizes is None:
        pool_sizes = pools.log_pool_sizes(largest) if largest >= 2 else []
    n = len(counts.n_eligible)
    rows = []
    for pool_size in pool_sizes:
        excluded = int((counts.n_eligible + 1 < pool_size).sum())
        rows.append(
            {"pool_size": pool_size, "n_queries": n - excluded, "n_excluded": excluded, "share_left_out": excluded / n}
        )
    return pd.DataFrame(rows, columns=["pool_size", "n_queries", "n_excluded", "share_left_out"])


def _balance(rows: list[_Compared], patients: np.ndarray, seed: int) -> pd.DataFrame:
    effects = np.column_stack([(row.match - row.decoys) / row.spread for row in rows])
    intervals = cluster_bootstrap(effects, patients, seed=seed)
    table = []
    for i, row in enumerate(rows):
        used = ~np.isnan(effects[:, i])
        n_patients = len(np.unique(patients[used]))
        table.append(
            {
                "attribute": row.attribute,
                "measure": row.measure,
                "match": _mean(row.match[used]),
                "decoys": _mean(row.decoys[used]),
                "others": _mean(row.others[used]),
                "effect": float(intervals.estimate[i]),
                "effect_low": float(intervals.low[i]),
                "effect_high": float(intervals.high[i]),
                "n": int(used.sum()),
                "n_patients": n_patients,
                "flag": flag_of(patients[used]),
            }
        )
    return pd.DataFrame(table)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
