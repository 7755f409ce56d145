"""One image and the reports a model ranks for it: what an attacker would see."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import faiss
import numpy as np
import pandas as pd

from linkage_core.audit.study import Study, study
from linkage_core.errors import InputError
from linkage_core.heads import Heads
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import OFF_THE_SHELF, Embeddings, Entry

EXPOSURE_POOL = 100


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
    """The first reports of one pool, and the true one always.

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


class Examples:
    """Browse the images of an entry under one head, stored or at hand.

    Heads that are not stored are given with the study of their counts (audit.study_of); `head` is then their name only.
    """

    def __init__(
        self,
        entry: Entry,
        head: str = OFF_THE_SHELF,
        split: str | None = None,
        at_hand: tuple[Heads, Study] | None = None,
    ) -> None:
        self.entry = entry
        self.head = head
        self._heads: str | Heads = at_hand[0] if at_hand else head
        self._study = at_hand[1] if at_hand else study(entry, head, split=split)
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

    @cached_property
    def _embeddings(self) -> Embeddings:
        return self.entry.embeddings(self._heads, self._study.split)

    @cached_property
    def _index(self) -> faiss.IndexFlatIP:
        index = faiss.IndexFlatIP(self._embeddings.reports.shape[1])
        index.add(self._embeddings.reports)
        return index

    def ranked(self, record_id: str, pool_size: int, k: int) -> RankedList:
        """The top k reports of one pool of N for an image.

        The pool is one seeded draw: the match and the first N-1 of a shuffle of the eligible reports that depends on
        the study alone. So a larger N adds reports and takes none away, and every model sees the same pool.
        Raises InputError for an unknown record, an N it cannot fill, or k outside 1..N.
        """
        row = self._row_of(record_id)
        if not 1 <= k <= pool_size:
            raise InputError(f"k is {k}, and the pool holds {pool_size} reports.", "k lies between 1 and N.")
        counts = MatchCounts(*(column[row : row + 1] for column in self._study.counts))
        first_in = float(pools.expected_recall(counts, pool_size, 1)[0])
        match = int(self._embeddings.match[row])
        members = self._pool(row, pool_size)
        image = self._embeddings.images[row]
        scores = self._scores(image, members)
        own = scores[members == match][0]
        candidates = self._embeddings.candidates
        keys = candidates["report_key"].to_numpy()
        shown = self._top(image, members, match, keys, k)
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
        image = self._embeddings.images[self._row_of(record_id)]
        places = pd.Index(self._embeddings.candidates["study_id"]).get_indexer(list(study_ids))
        if (places < 0).any():
            unknown = study_ids[int(np.flatnonzero(places < 0)[0])]
            raise InputError(f"There is no study {unknown!r} in {self.entry.cohort}.", "Take one of the same split.")
        return np.asarray(self._embeddings.reports[places] @ image)

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

    def _pool(self, row: int, pool_size: int) -> np.ndarray:
        """Candidate rows of the seeded pool, the match first."""
        match = int(self._embeddings.match[row])
        eligible = np.flatnonzero(self._embeddings.candidate_group != self._embeddings.query_group[row])
        digest = hashlib.sha256(str(self.records["study_id"].iloc[row]).encode()).digest()
        shuffled = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(eligible)
        return np.concatenate([[match], shuffled[: pool_size - 1]])

    def _scores(self, image: np.ndarray, members: np.ndarray) -> np.ndarray:
        """Similarities of the pool; identical vectors are scored once, so they tie exactly."""
        vectors = self._embeddings.reports[members]
        keys = pd.factorize(self._embeddings.candidates["report_key"].to_numpy()[members])[0]
        first = np.unique(keys, return_index=True)[1]
        return np.asarray((vectors[first] @ image)[keys])

    def _top(self, image: np.ndarray, members: np.ndarray, match: int, keys: np.ndarray, k: int) -> list[int]:
        """k candidate rows of the pool by similarity, one for each distinct text; the match stands for its text, and
        takes the last place if it is not among them."""
        selector = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.sort(members)))  # type: ignore[call-arg]
        wanted = k
        while True:
            wanted = min(4 * wanted, len(members))
            found = self._index.search(image[None], wanted, params=selector)[1][0]
            best = pd.Series(found).groupby(keys[found], sort=False).first().tolist()
            if len(best) >= k or wanted == len(members):
                break
        best = [match if keys[c] == keys[match] else int(c) for c in best[:k]]
        return best if match in best else [*best[: k - 1], match]
