"""Puts a study together: one entry, one head, one kind of pool -> counts -> tidy tables with provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from linkage_core import tables
from linkage_core.audit import strata as same_findings
from linkage_core.audit.questions import DIRECTIONS, HARD_NEGATIVES, POOLS, SAME_TEXT
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import Heads
from linkage_core.ranking import pools
from linkage_core.ranking.counts import Counting, MatchCounts, counting, gathered
from linkage_core.ranking.intervals import DRAWS, flag_of, rate_intervals
from linkage_core.store.entry import OFF_THE_SHELF, Embeddings, Entry
from linkage_core.store.files import versions
from linkage_core.store.pieces import Pieces
from linkage_core.store.seen import asked_split, refuse_seen
from linkage_core.validate import one_of

SCHEMA = 1
PoolSize = int | Literal["full"]


@dataclass(frozen=True)
class Study:
    """Counts of one entry under one head, direction and kind of pool. `queries` has one row a query, in their order.

    `pool` names the kind and what it is narrowed by: "same-findings+view+sex"; `strata` holds those names alone.
    """

    entry: Entry
    head: str
    direction: str
    pool: str
    split: str
    counts: MatchCounts
    queries: pd.DataFrame
    n_candidates: int
    seed: int = 0
    strata: tuple[str, ...] = ()
    sampled: str = ""
    """Of how many queries and candidates the counts are, where they are not of all (audit.sampled)."""

    @property
    def cohort(self) -> str:
        return self.entry.cohort

    @property
    def model(self) -> str:
        return self.entry.model

    @property
    def largest_pool(self) -> int:
        return pools.largest_pool(self.counts)

    @property
    def hard_negatives(self) -> bool:
        return self.pool.split("+")[0] == HARD_NEGATIVES

    def label_matched_auc(self) -> dict[str, Any]:
        """Mean over queries of strata.label_matched_auc with its patient-clustered interval, for the JSON.

        n queries of n_patients have a decoy; n_without_labels have no label at all, and share that with their decoys;
        flag is "too few to say" below 30 patients, or 10 in effect.
        """
        values = same_findings.label_matched_auc(self.counts)
        patients = self.queries["patient_id"].to_numpy()
        interval = rate_intervals(values, patients, seed=self.seed)
        behind = patients[~np.isnan(values)]
        figures = {name: float(getattr(interval, name)[0]) for name in ("estimate", "low", "high")}
        return {
            **{name: tables.null(value) for name, value in figures.items()},
            "n": int(interval.n[0]),
            "n_excluded": len(values) - int(interval.n[0]),
            "n_patients": len(np.unique(behind)),
            "n_without_labels": int(self.queries[list(LABELS)].isna().all(axis=1).sum()),
            "flag": flag_of(behind) or pools.tied_flag(self.counts),
        }

    @property
    def common_pool(self) -> int:
        """The largest N that every query can fill: up to it, a curve over N is about the same queries.

        Beyond it the patients with many reports drop out, and the curve would bend for that alone. Where one patient
        leaves fewer than nine others this is largest_pool.
        """
        common = int(self.counts.n_eligible.min()) + 1 if len(self.counts.n_eligible) else 0
        return common if common >= 10 else self.largest_pool

    def table(self, pool_sizes: Sequence[PoolSize], ks: Sequence[int]) -> pd.DataFrame:
        """One row for each N and k, as DESIGN 10 names the columns, and mrr_low, mrr_high beside mrr.

        recall and mrr are means over queries with patient-clustered 95% intervals; chance is k/N (for "full", and where
        equal texts count as the match, its mean over queries); lift = recall / chance; median_rank the median of each
        query's mean rank in pools of that N; flag is "", or why the n_patients behind the row say little.
        InputError if an N is larger than any query can fill or smaller than a k.
        """
        columns: list[np.ndarray] = []
        rows: list[dict[str, Any]] = []
        places: list[tuple[int, int]] = []  # of each row's recall and reciprocal rank among the columns
        # coded once: to sort the ids anew for every row took longer than to draw the bootstrap
        patients = np.unique(self.queries["patient_id"].to_numpy(), return_inverse=True)[1]
        for pool_size in pool_sizes:
            reciprocal, rank = self._ranks(pool_size)
            of_ranks = len(columns)
            columns.append(reciprocal)
            with_pool = ~np.isnan(reciprocal)  # at every k the same
            behind = patients[with_pool]
            n_patients, flagged = len(np.unique(behind)), flag_of(behind)
            # a median of estimates is no estimate of the median
            median = float("nan") if self.sampled else float(np.median(rank[with_pool]))
            for k in ks:
                recall, chance = self.recall(pool_size, k)
                places.append((len(columns), of_ranks))
                columns.append(recall)
                rows.append(
                    {
                        "cohort": self.cohort,
                        "model": self.model,
                        "head": self.head,
                        "direction": self.direction,
                        "pool": self.pool,
                        "pool_size": pool_size,
                        "k": k,
                        "n_queries": int(with_pool.sum()),
                        "n_excluded": int((~with_pool).sum()),
                        "chance": float(chance[with_pool].mean()),
                        "median_rank": median,
                        "n_patients": n_patients,
                        "flag": flagged,
                    }
                )
        intervals = rate_intervals(np.column_stack(columns), patients, seed=self.seed)
        tied = pools.tied_flag(self.counts)
        if self.queries["report_key"].nunique() == 1:
            tied = tied or "all reports are the same"
        for row, of_row in zip(rows, places, strict=True):
            for name, column in zip(("recall", "mrr"), of_row, strict=True):
                row[name] = float(intervals.estimate[column])
                row[f"{name}_low"] = float(intervals.low[column])
                row[f"{name}_high"] = float(intervals.high[column])
            row["lift"] = row["recall"] / row["chance"]
            row["flag"] = row["flag"] or tied
        return pd.DataFrame(rows)[list(COLUMNS)]

    def provenance(self) -> dict[str, Any]:
        """What the numbers were made from and how; goes beside them wherever they go."""
        manifest = self.entry.manifest
        return {
            "cohort": {key: value for key, value in manifest["cohort"].items() if key != "root"},
            "model": manifest["model"],
            "split": self.split,
            "pool": ", ".join([POOLS[self.pool.split("+")[0]], *(same_findings.STRATA[name] for name in self.strata)]),
            "n_candidates": self.n_candidates,
            "n_patients": int(self.queries["patient_id"].nunique()),
            "inputs": _inputs(self.entry, self.head, self.direction, self.pool, self.split),
            "interval": "95% percentile bootstrap over patients, stretched by Student's t of the patients in effect; "
            "Clopper-Pearson where few patients carry the figure",
            "draws": DRAWS,
            "seed": self.seed,
            "ties": "broken at random, in expectation",
            "versions": versions(),
            **({"sampled": self.sampled} if self.sampled else {}),
            **self._of_hard_negatives(),
        }

    def _of_hard_negatives(self) -> dict[str, Any]:
        """What the provenance says of decoys with the same findings, and where those findings come from."""
        if not self.hard_negatives:
            return {}
        return {"label_matched_auc": self.label_matched_auc(), "labels": labels_line(self.entry.labels_note())}

    def recall(self, pool_size: PoolSize, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(Recall@k, chance) of each query in pools of N; NaN where its candidates are too few.

        chance is k/N, and more where a report of the same text counts as the match: see pools.guessed.
        """
        self._refuse_full(pool_size)
        if pool_size == "full":
            recall, chance = pools.full_recall(self.counts, k), np.minimum(k / (self.counts.n_eligible + 1.0), 1.0)
            recall = self._with_rivals(recall)
        else:
            recall = pools.expected_recall(self.counts, pool_size, k)
            chance = np.full(len(self.queries), k / pool_size)
        if self.pool == SAME_TEXT:  # where the guess misses the match, it is k others
            chance = 1 - (1 - chance) * pools.none_of_the_text(k, self.counts.n_eligible, self._n_same_text)
        return recall, chance

    @cached_property
    def _n_same_text(self) -> np.ndarray:
        """(n_queries,) candidates of other patients with the text of the match."""
        candidates, _ = same_findings.candidates_of(self.queries, self.direction)
        of_text = candidates["report_key"].value_counts()
        of_patient = candidates.value_counts(["patient_id", "report_key"])
        own = pd.MultiIndex.from_frame(self.queries[["patient_id", "report_key"]])
        return of_text.loc[self.queries["report_key"]].to_numpy() - of_patient.loc[own].to_numpy()

    def _refuse_full(self, pool_size: PoolSize) -> None:
        if pool_size == "full" and self.sampled:
            raise InputError(
                "A sample of the candidates says nothing of the full pool.",
                f"The largest N is {self.largest_pool:,}: draw more candidates, or count all pairs.",
            )

    def _ranks(self, pool_size: PoolSize) -> tuple[np.ndarray, np.ndarray]:
        self._refuse_full(pool_size)
        if pool_size == "full":
            ranks = pools.full_reciprocal_rank(self.counts), pools.full_rank(self.counts)
            return self._with_rivals(ranks[0]), self._with_rivals(ranks[1])
        return pools.expected_reciprocal_rank(self.counts, pool_size), pools.expected_rank(self.counts, pool_size)

    def _with_rivals(self, values: np.ndarray) -> np.ndarray:
        """A match alone in its pool comes first whatever the score: that is left out, not counted as a hit."""
        return np.where(self.counts.n_eligible > 0, values, np.nan)


COLUMNS = (
    *("cohort", "model", "head", "direction", "pool", "pool_size", "k", "n_queries", "n_excluded"),
    *("recall", "recall_low", "recall_high", "chance", "lift", "mrr", "mrr_low", "mrr_high", "median_rank"),
    *("n_patients", "flag"),
)


@dataclass(frozen=True)
class Question:
    """What is counted: one head, direction and kind of pool. `pool` as in Study, `by` its strata."""

    entry: Entry
    head: str
    direction: str
    pool: str
    split: str
    by: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of its counts in the store."""
        return f"{self.head}.{self.direction}.{self.pool}.{self.split}"

    @property
    def inputs(self) -> str:
        return _inputs(self.entry, self.head, self.direction, self.pool, self.split)

    def stored(self) -> MatchCounts | None:
        """The counts that are kept, in the order of the records."""
        found = self.entry.read_counts(self.name, self.inputs)
        if found is None:
            return None
        ids, counts = found
        records = self.entry.records(self.split)["record_id"]
        place = pd.Index(ids).get_indexer(records)
        if (place < 0).any() or len(ids) != len(records):
            raise StoreError(
                f"The stored counts {self.name} of {self.entry.cohort}/{self.entry.model} are of other records.",
                "Delete the entry's ranks folder and audit again.",
            )
        return MatchCounts(*(column[place] for column in counts))

    def keep(self, counts: MatchCounts) -> None:
        """OSError or StoreError where they cannot be kept."""
        self.entry.write_counts(self.name, self.inputs, self.entry.records(self.split)["record_id"], counts)
        Pieces(self.entry.path, self.name, "", ()).clear()  # what parts have left is in them

    def counting(self) -> Counting:
        return _counting(self.entry.embeddings(self.head, self.split), self.direction, self.pool, self.by)

    def left(self, counting: Counting) -> Pieces:
        """What parts of this have left (audit.parts)."""
        of = f"{self.inputs} {len(counting)} pieces of {counting.n_queries}"
        inputs = hashlib.sha256(of.encode()).hexdigest()
        return Pieces(self.entry.path, self.name, inputs, [f"{i:06d}" for i in range(len(counting))])

    def count(self, counting: Counting | None = None) -> MatchCounts:
        """All of it; what parts have left is not counted again."""
        counting = counting or self.counting()
        left = self.left(counting)
        there = (
            {i: arrays for i, name in enumerate(left.names) if (arrays := left.arrays(name))} if left.begun() else {}
        )
        found = gathered(counting, [i for i in range(len(counting)) if i not in there])
        for arrays in there.values():
            for name, column in found._asdict().items():
                column[arrays["rows"]] = arrays[name]
        return found


def question(
    entry: Entry, head: str, direction: str, pool: str, split: str | None, strata: Iterable[str] = ()
) -> Question:
    """What study counts; arguments and errors as there."""
    one_of("direction", direction, DIRECTIONS)
    one_of("pool", pool, POOLS)
    by = same_findings.ordered(strata)
    if by and pool != HARD_NEGATIVES:
        raise InputError(
            f"Strata ({', '.join(by)}) do not apply to the pool {pool!r}.", f"They narrow the pool {HARD_NEGATIVES}."
        )
    split = asked_split(entry, head, split)
    if head != OFF_THE_SHELF:
        refuse_seen(entry, head, split)
    return Question(entry, head, direction, "+".join([pool, *by]), split, by)


def study(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    direction: str = DIRECTIONS[0],
    pool: str = "other-patients",
    split: str | None = None,
    seed: int = 0,
    strata: Iterable[str] = (),
) -> Study:
    """The counts of an entry: read where they are stored, computed and stored where they are not.

    `strata` narrow the pool "same-findings" to decoys alike in more than their findings: keys of strata.STRATA.
    Raises InputError for an unknown direction, pool, split or stratum, for hard negatives where there are no labels or
    no two patients share findings; StoreError for an absent head or a damaged file.
    """
    asked = question(entry, head, direction, pool, split, strata)
    by, split, pool = asked.by, asked.split, asked.pool
    queries = entry.records(split)
    counts = asked.stored()
    if counts is None:
        counts = asked.count()
        with suppress(OSError, StoreError):  # a store that is only readable, or full, still answers, only slower
            asked.keep(counts)
    n_candidates = len(queries) if direction == "report-to-image" else queries["study_id"].nunique()
    if pool.startswith(HARD_NEGATIVES) and not counts.n_eligible.any():
        raise InputError(
            f"No image of {entry.cohort} has a decoy: no two patients share {', '.join(['their findings', *by])}.",
            "Ask for fewer strata, or another pool.",
        )
    if pool == "other-patients" and not counts.n_eligible.any():
        raise InputError(
            f"No image of {entry.cohort}, split {split}, has another patient's report to be mistaken for: "
            f"{queries['patient_id'].nunique():,} patient, {len(queries):,} records.",
            "A pool needs two patients: check the patient ids, or ask for every report with --pool all.",
        )
    return Study(entry, head, direction, pool, split, counts, queries, int(n_candidates), seed, by)


def study_of(entry: Entry, name: str, heads: Heads) -> Study:
    """Counts by cosine of heads that need not be stored, over the tested split; nothing is read or written."""
    direction, pool, split = DIRECTIONS[0], "other-patients", entry.tested_split
    embeddings = entry.embeddings(heads, split)
    counting = _counting(embeddings, direction, pool)
    counts = gathered(counting, range(len(counting)))
    return Study(entry, name, direction, pool, split, counts, embeddings.records, len(embeddings.candidates))


def report(studies: Sequence[Study], pool_sizes: Sequence[PoolSize], ks: Sequence[int]) -> dict[str, Any]:
    """The JSON object of `linkage audit --json`: schema, provenance by entry, rows. NaN becomes null.

    A pool that no query of a model can fill has no row: `left_out` (only then there) says so. InputError where none of
    them can be filled.
    """
    parts, left_out = [], {}
    for one in studies:
        fit = [n for n in pool_sizes if n == "full" or n <= one.largest_pool]
        if fit:
            parts.append(one.table(fit, ks))
        for n in (n for n in pool_sizes if n not in fit):
            left_out[f"{one.model}, N = {n:,}"] = (
                f"no query has so many candidates; the largest N is {one.largest_pool:,}"
            )
    table = pd.concat(parts, ignore_index=True) if parts else studies[0].table(pool_sizes, ks)  # which says why
    provenance = {f"{one.cohort}/{one.model}": one.provenance() for one in studies}
    made = {"schema": SCHEMA, "provenance": provenance, "rows": tables.rows(table)}
    return made | ({"left_out": left_out} if left_out else {})


def _inputs(entry: Entry, head: str, direction: str, pool: str, split: str) -> str:
    # images of the match's text that outscore it do not hurt since version 2
    version = 2 if (direction, pool) == ("report-to-image", SAME_TEXT) else 1
    return entry.inputs(head, direction, pool, split, f"counts {version}")


def _counting(embeddings: Embeddings, direction: str, pool: str, by: Sequence[str] = ()) -> Counting:
    if pool.startswith(HARD_NEGATIVES):
        return same_findings.counting(embeddings, by, direction)
    return counting(**counted_from(embeddings, direction, pool))


def counted_from(embeddings: Embeddings, direction: str, pool: str) -> dict[str, Any]:
    """The arguments of ranking's match_counts in a direction and any pool but that of the same findings."""
    groups: dict[str, np.ndarray] = {}
    texts: dict[str, np.ndarray] = {}
    if direction == "image-to-report":
        queries, candidates, match = embeddings.images, embeddings.reports, embeddings.match
        groups = {"query_group": embeddings.query_group, "candidate_group": embeddings.candidate_group}
        key = embeddings.candidates["report_key"].to_numpy(str)
        texts = {"query_text": key[match], "candidate_text": key}
    else:  # each image is the match of its study's report once; the patient's other images are not eligible
        queries, candidates = embeddings.reports[embeddings.match], embeddings.images
        match = np.arange(len(candidates))
        groups = {"query_group": embeddings.query_group, "candidate_group": embeddings.query_group}
        key = embeddings.records["report_key"].to_numpy(str)
        texts = {"query_text": key, "candidate_text": key}
    return {
        **{"image_embeddings": queries, "report_embeddings": candidates, "match": match},
        **({} if pool == "all" else groups),
        **(texts if pool == SAME_TEXT else {}),
    }
