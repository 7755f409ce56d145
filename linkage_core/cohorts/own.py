"""A table of one's own, of a folder or beside arrays: the same columns, read with the same care."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from linkage_core.cohorts import cells
from linkage_core.cohorts.base import IDS, LABELS, Understood, text_key
from linkage_core.cohorts.manifest import read_table
from linkage_core.errors import InputError

COLUMNS = ("image", "report", *IDS, "view", "sex", "age", "split", *LABELS)


def read_own(path: Path, needed: tuple[str, ...], understood: Understood, *, images: bool = True) -> pd.DataFrame:
    """All of COLUMNS, one row a record, index 0..n-1: what is not in the table is "" (age and labels: NaN).

    Case, blanks and signs in the names of columns do not matter, other columns are left alone. Ids and image paths lose
    the blanks at their ends, view, sex, age and labels are values of records, report and split stand as they are.
    Without `images` a column of that name is left alone like any other.

    Raises InputError for a needed column that is missing, a column twice, a record id twice, a label that is none, ids
    that a spreadsheet or a float has cut, and a table that cannot be read.
    """
    wanted = [name for name in COLUMNS if images or name != "image"]
    optional = [name for name in wanted if name not in needed]
    table = read_table(path, needed, optional, loosely=True, ids=IDS, understood=understood)
    absent = pd.Series("", index=table.index, dtype="str")
    found = {name: table.get(name, absent) for name in COLUMNS}
    for name in IDS:
        if name in table:
            found[name] = cells.ids(found[name], name, path.name, understood)
    found["image"] = found["image"].str.strip()
    cells.note_gap_words(found, understood)
    for name, understand in (("view", cells.views), ("sex", cells.sexes), ("age", cells.ages)):
        found[name] = understand(found[name], understood)
    return pd.DataFrame({**found, **cells.label_columns(table, str(path))})


def split_cells(table: pd.DataFrame, understood: Understood, path: Path, splits: str) -> pd.Series | None:
    """The table's own split column, None without one; a note where it is there and not asked for."""
    taken, left = understood.columns[path.name]
    if "split" not in taken:
        return None
    if splits != "own":
        left.append(taken.pop("split"))
        understood.note(
            f"{path.name} has a column 'split', which is not used: splits are seeded (--splits own uses it)"
        )
    return table["split"]


def refuse_repeated_ids(ids: pd.Series, path: Path) -> None:
    """InputError naming the rows of a record id that comes twice."""
    repeated = ids[ids.duplicated() & (ids != "")]
    if len(repeated):
        rows = ", ".join(str(at + 1) for at in np.flatnonzero(ids == repeated.iloc[0])[:5])
        raise InputError(
            f"{path} has record_id {repeated.iloc[0]!r} more than once, in rows {rows}.",
            "Record ids are unique; in a folder without a record_id column the image path is the id.",
        )


def report_keys(reports: pd.Series) -> pd.Series:
    """Equal for reports that differ in case and white space only."""
    return cells.mapped(reports, text_key).astype("str")
