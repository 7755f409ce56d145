"""The counts of an audit in parts: by processes that know nothing of each other, over one store.

Each part counts whole blocks of queries and leaves them in the entry (store.pieces). Whoever finds all blocks there
puts them together: the same counts as of one run, bit for bit where the processors are of one kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from threading import Lock

import numpy as np

from linkage_core.audit.study import Question, question
from linkage_core.errors import StoreError
from linkage_core.parts import Part
from linkage_core.progress import Progress, silent
from linkage_core.ranking.counts import Counting, MatchCounts
from linkage_core.store.entry import Store
from linkage_core.store.pieces import Pieces

BLOCKS = "blocks of queries"


def count_part(asked: Question, part: Part | None, progress: Progress = silent) -> list[int]:
    """One part of a question's counts, and all of them kept where no other part is missing.

    part: None counts nothing and puts together what is there.
    Returns the places of blocks that are missing still, for Part.others. StoreError for None where there are some.
    """
    if asked.stored() is not None:
        return []
    counting = asked.counting()
    left = asked.left(counting)
    if part is not None:
        own = set(part.share(range(len(counting))))
        wanted = [place for place in left.missing() if place in own]
        _leave(counting, left, wanted, progress)
    missing = left.missing()
    if missing and asked.stored() is None:  # else another part has put them together just now
        if part is None:
            raise StoreError(
                f"{len(missing):,} of {len(counting):,} blocks of {asked.entry.cohort}/{asked.entry.model} are not "
                f"counted yet (the first: {_shown(missing)}).",
                "Run the parts that are missing, or the audit without --part, which counts what is missing itself.",
            )
        return missing
    if missing:
        return []
    asked.keep(asked.count(counting))
    return []


def _leave(counting: Counting, left: Pieces, wanted: Sequence[int], progress: Progress = silent) -> None:
    """Count these blocks, and leave each in the entry."""
    number, lock = count(1), Lock()
    progress(BLOCKS, 0, len(wanted))

    def keep(place: int, rows: np.ndarray, counts: MatchCounts) -> None:
        columns = {name: column.astype(np.int32) for name, column in counts._asdict().items()}
        left.write(left.names[place], {"rows": rows.astype(np.int64), **columns})
        with lock:
            progress(BLOCKS, next(number), len(wanted))

    counting.pieces(wanted, keep)


class Blocks:
    """An engine's work: the blocks of a question (engine.Work)."""

    stage, device = BLOCKS, "cpu"

    def __init__(self, asked: Question) -> None:
        self.folder = asked.entry.path
        self._asked = asked
        self._stored = asked.stored() is not None
        if not self._stored:
            self._counting = asked.counting()
            self._left = asked.left(self._counting)
        self.key = self._left.folder.name if not self._stored else ""

    def missing(self) -> list[int]:
        return [] if self._stored else self._left.missing()

    def make(self, place: int, cores: int) -> str:
        name = self._left.names[place]
        if self._left.read(name) is None:  # else a worker that was lost had written it
            _leave(self._counting, self._left, [place])
        return name


def blocks(
    store: str, cohort: str, model: str, head: str, direction: str, pool: str, split: str | None, strata: Sequence[str]
) -> Blocks:
    """Blocks as workers open them; arguments as of study.question, the entry by its names."""
    return Blocks(question(Store(Path(store)).open(cohort, model), head, direction, pool, split, tuple(strata)))


def _shown(places: Iterable[int]) -> str:
    first = [str(place + 1) for place, _ in zip(places, range(5), strict=False)]
    return ", ".join(first)
