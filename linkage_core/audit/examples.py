"""One image and the reports a model ranks for it: what an attacker would see."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import faiss
import numpy as np
import pandas as pd

from linkage_core.audit.study import study
from linkage_core.errors import InputError
from linkage_core.heads import Heads, unit
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, match_counts
from linkage_core.store.entry import OFF_THE_SHELF, Embeddings, Entry

T = TypeVar("T")

EXPOSURE_POOL = 100
SCALE_PAIRS = 20_000
"""Pairs of an image and any report that the range of a head's similarities is read from."""


@dataclass(frozen=True)
class RankedReport:
    """One report of a pool. `rank` is 1 + reports of the pool with a higher similarity; `n_identical` counts other
    reports of the pool with the same text, folded into this one."""

    rank: int
    study_id: str
    similarity: float
    is_match: bool
    n_identical: int
    report_key: str
    report_words: int


@dataclass(frozen=True)
class RankedList:
    """The first reports of one pool, and the true one always, unless it was asked to stay hidden.

    `rank` and `n_tied` are the true report's in this pool; `first_in` is the exact probability that it comes first in
    a random pool of this size, ties broken at random; `n_hidden_above` counts reports that score above the true one
    and are not shown, where it stands apart at the end of the list.
    """

    record_id: str
    study_id: str
    pool_size: int
    rank: int
    n_tied: int
    first_in: float
    reports: list[RankedReport]
    n_hidden_above: int


@dataclass(frozen=True)
class Scale:
    """Where the similarities of one head lie: the 1st percentile over pairs of an image and any report, and the 99th
    over such pairs or over images and their own reports, whichever is larger."""

    low: float
    high: float


@dataclass(frozen=True)
class _Features:
    """What a head is applied to, gathered once: (n_texts, d) features of each distinct report, and which of them each
    candidate has."""

    texts: np.ndarray
    text_of: np.ndarray


class Examples:
    """Browse the images of an entry under one stored head; `under` gives the same images under another at hand."""

    def __init__(self, entry: Entry, head: str = OFF_THE_SHELF, split: str | None = None) -> None:
        self.entry = entry
        self.head = head
        self._study = study(entry, head, split=split)
        self.split = self._study.split
        self.largest_pool = self._study.largest_pool
        if self.largest_pool < 2:
            raise InputError(
                f"{entry.cohort}/{entry.model} holds reports of one patient only.", "A pool needs two patients."
            )
        n = min(EXPOSURE_POOL, self.largest_pool)
        first = pools.expected_recall(self._study.counts, n, 1)
        percentile = pd.Series(first).rank(pct=True, method="average").to_numpy() * 100
        self.records = self._study.queries.assign(p_first_100=first, exposure_percentile=percentile)
        self._row = pd.Index(self.records["record_id"])
        self._counted: dict[int, MatchCounts] = {}
        self._known: dict[tuple[object, ...], Any] = {}

    def under(self, head: str, heads: Heads) -> Under:
        """The same images and pools under heads that need not be stored: nothing is counted but what is asked for.

        It is for the caller to make sure that no patient here has trained them (store.seen).
        """
        return Under(self, head, heads)

    @cached_property
    def _features(self) -> _Features:
        keys = self._embeddings.candidates["report_key"]
        distinct = keys.drop_duplicates()
        return _Features(self.entry.features("text", distinct), pd.Index(distinct).get_indexer(keys))

    @cached_property
    def _embeddings(self) -> Embeddings:
        return self.entry.embeddings(self.head, self.split)

    @property
    def _reports(self) -> np.ndarray:
        """(n_reports, e) unit embeddings."""
        return self._embeddings.reports

    def _images(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), e) unit embeddings."""
        return self._embeddings.images[rows]

    def _counts(self, row: int) -> MatchCounts:
        """Of one image, each of shape (1,)."""
        return MatchCounts(*(column[row : row + 1] for column in self._study.counts))

    @cached_property
    def scale(self) -> Scale:
        """Where similarities lie under this head; from a seeded sample of pairs."""
        rng = np.random.default_rng(0)
        n_images, reports = len(self.records), self._reports
        rows = rng.permutation(n_images)[: min(n_images, 2000)]
        images = self._images(rows)
        which = rng.integers(0, len(rows), SCALE_PAIRS)
        any_report = np.einsum("ij,ij->i", images[which], reports[rng.integers(0, len(reports), SCALE_PAIRS)])
        own = np.einsum("ij,ij->i", images, reports[self._embeddings.match[rows]])
        low, high = np.quantile(any_report, [0.01, 0.99])
        return Scale(float(low), float(max(high, np.quantile(own, 0.99))))

    @cached_property
    def _index(self) -> faiss.IndexFlatIP:
        index = faiss.IndexFlatIP(self._reports.shape[1])
        index.add(self._reports)
        return index

    def ranked(
        self, record_id: str, pool_size: int, k: int, *, draw: int = 0, true_one_always: bool = True
    ) -> RankedList:
        """The top k reports of one pool of N for an image.

        The pool is one seeded draw: the match and the first N-1 of a shuffle of the eligible reports that depends on
        the study and on `draw` alone. So a larger N adds reports and takes none away, and every model sees the same
        pool. Without `true_one_always` the list is the top k whether or not the match is among them.
        Raises InputError for an unknown record, an N it cannot fill, or k outside 1..N.
        """
        asked = (record_id, pool_size, k, draw, true_one_always)
        return self._once(asked, lambda: self._ranked(*asked))

    def _once(self, asked: tuple[object, ...], make: Callable[[], T]) -> T:
        """What was made for the last few hundred questions is not made again."""
        if asked in (known := self._known):
            return known[asked]
        made = make()
        if len(known) > 500:
            self._known = known = {}  # another: other sessions may read the last one
        known[asked] = made
        return made

    def _ranked(self, record_id: str, pool_size: int, k: int, draw: int, true_one_always: bool) -> RankedList:
        row = self._row_of(record_id)
        if not 1 <= k <= pool_size:
            raise InputError(f"k is {k}, and the pool holds {pool_size} reports.", "k lies between 1 and N.")
        first_in = self._first_in(row, pool_size)
        match = int(self._embeddings.match[row])
        members = self._pool(row, pool_size, draw)
        image = self._images(np.array([row]))[0]
        scores = self._scores(image, members)
        own = scores[members == match][0]
        candidates = self._embeddings.candidates
        keys = candidates["report_key"].to_numpy()
        shown = self._top(image, members, match, keys, k, always=true_one_always)
        above = int((scores > own).sum())
        pool_keys, copies = np.unique(keys[members].astype(str), return_counts=True)
        same_text = dict(zip(pool_keys.tolist(), copies.tolist(), strict=True))
        score_of = dict(zip(members.tolist(), scores.tolist(), strict=True))
        reports = [
            RankedReport(
                rank=int((scores > score_of[c]).sum()) + 1,
                study_id=str(candidates["study_id"].iloc[c]),
                similarity=float(score_of[c]),
                is_match=c == match,
                n_identical=same_text[keys[c]] - 1,
                report_key=str(keys[c]),
                report_words=int(candidates["report_words"].iloc[c]),
            )
            for c in shown
        ]
        shown_above = sum(1 + r.n_identical for r in reports if r.similarity > own)
        return RankedList(
            record_id=record_id,
            study_id=str(self.records["study_id"].iloc[row]),
            pool_size=pool_size,
            rank=above + 1,
            n_tied=int((scores == own).sum()) - 1,
            first_in=first_in,
            reports=reports,
            n_hidden_above=above - shown_above if reports[-1].is_match else 0,
        )

    def similarities(self, record_id: str, study_ids: Sequence[str]) -> np.ndarray:
        """(n,) similarity of an image to the reports of these studies, which are of the same split.

        Raises InputError for an unknown record or study.
        """
        image = self._images(np.array([self._row_of(record_id)]))[0]
        places = pd.Index(self._embeddings.candidates["study_id"]).get_indexer(list(study_ids))
        if (places < 0).any():
            unknown = study_ids[int(np.flatnonzero(places < 0)[0])]
            raise InputError(f"There is no study {unknown!r} in {self.entry.cohort}.", "Take one of the same split.")
        return np.asarray(self._reports[places] @ image)

    def first_in(self, record_id: str, pool_sizes: Sequence[int]) -> list[float]:
        """The exact probability that the true report of an image comes first in a random pool of each N."""
        row = self._row_of(record_id)
        return [self._first_in(row, n) for n in pool_sizes]

    def _first_in(self, row: int, pool_size: int) -> float:
        if row not in self._counted:
            self._counted[row] = self._counts(row)
        counts = self._counted[row]
        return self._once((row, pool_size), lambda: float(pools.expected_recall(counts, pool_size, 1)[0]))

    def of_stranger(
        self,
        image: np.ndarray,
        pool_size: int,
        k: int,
        report: np.ndarray | None = None,
        *,
        draw: int = 0,
    ) -> RankedList:
        """The top k reports of a pool of N for an image that is in no cohort, as features (d,) of the entry's model.

        report: features of its own report, which is then one of the N and always listed, with empty ids; without it
        `rank` is 0 and `first_in` NaN. Nobody here is taken for its patient, so every report of the cohort is eligible.
        InputError for k outside 1..N or an N larger than `largest_pool_of_stranger`.
        """
        largest = self.largest_pool_of_stranger(own=report is not None)
        if not 1 <= k <= pool_size <= largest:
            raise InputError(f"k is {k} and N {pool_size}.", f"1 <= k <= N, and N is at most {largest:,} here.")
        heads = self._heads
        vector = unit(heads.image(np.asarray(image)[None]))[0]
        n_others = pool_size - (report is not None)
        candidates, everyone = self._embeddings.candidates, len(self._reports)
        members = np.random.default_rng([draw, everyone]).permutation(everyone)[:n_others]
        keys = candidates["report_key"].to_numpy().astype(str)
        scores = self._scores(vector, members)
        best, seen = [], set()
        for place in np.argsort(-scores, kind="stable"):
            if keys[members[place]] not in seen:
                seen.add(keys[members[place]])
                best.append(int(place))
            if len(best) == k:
                break
        reports = [
            RankedReport(
                rank=int((scores > scores[place]).sum()) + 1,
                study_id=str(candidates["study_id"].iloc[members[place]]),
                similarity=float(scores[place]),
                is_match=False,
                n_identical=int((keys[members] == keys[members[place]]).sum()) - 1,
                report_key=str(keys[members[place]]),
                report_words=int(candidates["report_words"].iloc[members[place]]),
            )
            for place in best
        ]
        if report is None:
            return RankedList("", "", pool_size, 0, 0, float("nan"), reports, 0)
        own = float(unit(heads.text(np.asarray(report)[None]))[0] @ vector)
        above, tied = int((scores > own).sum()), int((scores == own).sum())
        all_scores = self._scores(vector, np.arange(everyone))
        counts = MatchCounts(
            *(np.array([n]) for n in (int((all_scores > own).sum()), int((all_scores == own).sum()), everyone))
        )
        first = float(pools.expected_recall(counts, pool_size, 1)[0])
        reports = [replace(each, rank=each.rank + (own > each.similarity)) for each in reports]
        mine = RankedReport(above + 1, "", own, True, 0, "", 0)
        listed = sorted([*reports, mine], key=lambda each: (-each.similarity, not each.is_match))
        shown = listed[:k] if mine in listed[:k] else [*listed[: k - 1], mine]
        shown_above = sum(1 + each.n_identical for each in shown if each.similarity > own)
        hidden = above - shown_above if shown[-1].is_match else 0
        return RankedList("", "", pool_size, above + 1, tied, first, shown, hidden)

    def largest_pool_of_stranger(self, *, own: bool) -> int:
        """The largest N for an image that is in no cohort; its own report is one more."""
        return len(self._embeddings.candidates) + own

    @property
    def _heads(self) -> Heads:
        return self.entry.heads(self.head)

    def largest_pool_of(self, record_id: str) -> int:
        """The largest N that this image's eligible reports can fill."""
        return int(self._study.counts.n_eligible[self._row_of(record_id)]) + 1

    def find(
        self,
        findings: Sequence[str] = (),
        views: Sequence[str] = (),
        patient: str | None = None,
        record: str | None = None,
        exposure: tuple[float, float] = (0, 100),
    ) -> pd.DataFrame:
        """Records with all these findings positive, one of these views, ids that contain these letters (any case), and
        an exposure percentile within the range. In the order of the cohort."""
        rows = self.records
        # an image with too few reports of others has no percentile: it is found unless a range is asked for
        keep = (rows["exposure_percentile"].between(*exposure) | (tuple(exposure) == (0, 100))).to_numpy(copy=True)
        for finding in findings:
            if finding not in rows:
                raise InputError(f"{finding!r} is not a finding.", "Findings are the 14 labels of CheXpert.")
            keep &= (rows[finding] == 1).to_numpy()
        if views:
            keep &= rows["view"].isin(list(views)).to_numpy()
        for column, letters in (("patient_id", patient), ("record_id", record)):
            if letters:
                keep &= rows[column].str.contains(letters.strip(), case=False, regex=False).to_numpy()
        return rows[keep]

    def _row_of(self, record_id: str) -> int:
        row = int(self._row.get_indexer([record_id])[0])
        if row < 0:
            raise InputError(f"There is no record {record_id!r} in {self.entry.cohort}.", "Pick one from the list.")
        return row

    def _pool(self, row: int, pool_size: int, draw: int = 0) -> np.ndarray:
        """Candidate rows of the seeded pool, the match first."""
        match = int(self._embeddings.match[row])
        eligible = np.flatnonzero(self._embeddings.candidate_group != self._embeddings.query_group[row])
        drawn = f"{self.records['study_id'].iloc[row]}{f' draw {draw}' if draw else ''}"
        digest = hashlib.sha256(drawn.encode()).digest()
        shuffled = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(eligible)
        return np.concatenate([[match], shuffled[: pool_size - 1]])

    def _scores(self, image: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Similarities of the pool; identical vectors are scored once, so they tie exactly."""
        vectors = self._reports[members]
        keys = pd.factorize(self._embeddings.candidates["report_key"].to_numpy()[members])[0]
        first = np.unique(keys, return_index=True)[1]
        return np.asarray((vectors[first] @ image)[keys])

    def _top(
        self, image: np.ndarray, members: np.ndarray, match: int, keys: np.ndarray, k: int, *, always: bool
    ) -> list[int]:
        """k candidate rows of the pool by similarity, one for each distinct text; the match stands for its text, and
        (if `always`) takes the last place if it is not among them."""
        selector = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.sort(members)))  # type: ignore[call-arg]
        wanted = k
        while True:
            wanted = min(4 * wanted, len(members))
            found = self._index.search(image[None], wanted, params=selector)[1][0]
            best = pd.Series(found).groupby(keys[found], sort=False).first().tolist()
            if len(best) >= k or wanted == len(members):
                break
        best = [match if keys[c] == keys[match] else int(c) for c in best[:k]]
        return best if match in best or not always else [*best[: k - 1], match]


class Under(Examples):
    """The images and pools of another Examples under heads at hand. Which image is linked how easily (`records`) is
    still said of the other's head."""

    def __init__(self, other: Examples, head: str, heads: Heads) -> None:
        self.entry, self.head, self.split = other.entry, head, other.split
        self.largest_pool, self.records, self._row = other.largest_pool, other.records, other._row
        self._other, self._given, self._study = other, heads, other._study
        self._counted, self._known = {}, {}

    @property
    def _heads(self) -> Heads:
        return self._given

    @property
    def _features(self) -> _Features:
        return self._other._features

    @property
    def _embeddings(self) -> Embeddings:
        """Of the other head: what is read here are the ids, who matches whom, and whose report is whose."""
        return self._other._embeddings

    @cached_property
    def _reports(self) -> np.ndarray:
        of = self._features
        return unit(self._heads.text(of.texts))[of.text_of]

    def _images(self, rows: np.ndarray) -> np.ndarray:
        return self.entry.clean_images(self.records["record_id"].iloc[rows], self._heads)

    def _counts(self, row: int) -> MatchCounts:
        rows, ids = np.array([row]), self._embeddings
        return match_counts(
            self._images(rows),
            self._reports,
            ids.match[rows],
            query_group=ids.query_group[rows],
            candidate_group=ids.candidate_group,
        )
