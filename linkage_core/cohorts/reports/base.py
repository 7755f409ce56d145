"""What every source of reports is read into."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from linkage_core.cohorts.base import LABELS, REJECT_COLUMNS

TEXTS = ("item", "study", "accession", "patient", "report")
"""`item` is what a report is called where it is listed; `study` a StudyInstanceUID, `accession` an accession number,
`patient` a patient's id: "" where the source does not say."""
RANKS = {"final": 1, "amended": 2, "corrected": 2, "appended": 2}
"""Status of a report -> how far it goes before others of its study; what is not listed (preliminary, ...) is 0."""
WITHDRAWN = ("entered-in-error", "cancelled")
_PART_ROWS = 20_000


@dataclass(frozen=True)
class Reports:
    """Reports read, one row each: TEXTS, `rank` (RANKS) and the labels that a table has.

    `rejects` has REJECT_COLUMNS; `notes` are sentences without a full stop. `line` counts the resources of a source
    that is checked once more when it is known what is used (fhir.check), else -1; `file` is the number of the source.
    """

    table: pd.DataFrame
    rejects: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def reports_of(table: pd.DataFrame, rejects: pd.DataFrame | None = None, notes: Sequence[str] = ()) -> Reports:
    """Reports with every column but the labels, those that the table does not have empty."""
    for name in TEXTS:
        if name not in table:
            table[name] = pd.Series("", index=table.index, dtype="str")
    for name, empty in (("rank", 1), ("line", -1), ("file", 0)):
        if name not in table:
            table[name] = empty
    columns = [*TEXTS, "rank", "line", "file", *(name for name in LABELS if name in table)]
    return Reports(table[columns], none_rejected() if rejects is None else rejects, list(notes))


def none_rejected() -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype="str") for name in REJECT_COLUMNS})


def rejected(items: pd.Series | Iterable[str], reason: str, what: str, remedy: str) -> pd.DataFrame:
    """One reject an item, all for one reason: a million take a second."""
    named = items.reset_index(drop=True) if isinstance(items, pd.Series) else pd.Series(list(items), dtype="str")
    same = {"reason": reason, "what": what, "remedy": remedy}
    told = {name: pa.repeat(pa.scalar(said, pa.large_string()), len(named)) for name, said in same.items()}
    return pd.DataFrame({"item": named, **{name: pd.Series(said, dtype="str") for name, said in told.items()}})


def places(values: pd.Series, known: pd.Series) -> np.ndarray:
    """Where each value first stands among the known ones, -1 where it does not: without a Python object for each."""
    found = pc.index_in(_packed(values), value_set=_packed(known))
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _packed(values: pd.Series) -> pa.Array:
    packed = pa.array(values.array, pa.large_string())
    return packed.combine_chunks() if isinstance(packed, pa.ChunkedArray) else packed


class Growing:
    """A table that grows row by row in packed parts: a list of Python texts takes several times the memory."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._rows: list[tuple[str | int, ...]] = []
        self._parts: list[list[pa.Array]] = []

    def add(self, *row: str | int) -> None:
        """One value a name; a column is of texts or of whole numbers."""
        self._rows.append(row)
        if len(self._rows) == _PART_ROWS:
            self._pack()

    def _pack(self) -> None:
        columns = zip(*self._rows, strict=True)
        self._parts.append([pa.array(c, pa.int64() if isinstance(c[0], int) else pa.large_string()) for c in columns])
        self._rows = []

    def table(self) -> pd.DataFrame:
        """All rows, which are then no longer here; without any, columns of texts."""
        if self._rows:
            self._pack()
        if not self._parts:
            return pd.DataFrame({name: pd.Series(dtype="str") for name in self._names})
        found = {}
        columns = [list(parts) for parts in zip(*self._parts, strict=True)]
        self._parts = []  # each column is let go when it is taken over
        for name in self._names:
            column = pa.chunked_array(columns.pop(0))
            whole = pa.types.is_integer(column.type)
            found[name] = pd.Series(column.to_numpy()) if whole else pd.Series(column, dtype="str")
        return pd.DataFrame(found)
