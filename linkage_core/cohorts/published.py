"""What the large published collections share: big tables, plain or gzipped, and their own splits.

Tables are worked on as whole columns, so that 377,000 images take seconds. Images are not looked up one by one (on a
network disk that would take longer than everything else): the folders of patients are listed, which finds a download
that stopped halfway, and a file missing within one becomes the same reject when it is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts import cells
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, Understood, rejects_table
from linkage_core.cohorts.files import Reject, whole
from linkage_core.cohorts.manifest import read_table
from linkage_core.cohorts.splits import split_column

OWN_SPLIT = "own_split"


def find_table(root: Path, pattern: str) -> Path | None:
    """The table of the root whose name without .csv or .csv.gz is the pattern, a regular expression; plain first."""
    named = re.compile(rf"(?:{pattern})\.csv(?:\.gz)?")
    return min((path for path in root.iterdir() if named.fullmatch(path.name)), default=None, key=_plain_first)


def _plain_first(path: Path) -> tuple[str, bool]:
    return path.name.removesuffix(".gz"), path.suffix == ".gz"


def read_columns(
    path: Path, needed: tuple[str, ...], optional: tuple[str, ...] = (), understood: Understood | None = None
) -> pd.DataFrame:
    """These columns of a table as text, "" where empty; optional ones that are not there are "". See `read_table`."""
    table = read_table(path, needed, optional, understood=understood)
    for name in optional:
        if name not in table:
            table[name] = pd.Series("", index=table.index, dtype="str")
    return table


def folders_in(path: Path) -> set[str]:
    """Names of the folders (and links) directly in a folder; none where it is not there or cannot be listed."""
    try:
        with os.scandir(path) as entries:
            return {entry.name for entry in entries if entry.is_dir()}
    except OSError:
        return set()


class Sieve:
    """Rows that may stay, and rejects for the others: every row is one or the other."""

    def __init__(self, table: pd.DataFrame, item: str = "record_id") -> None:
        self.table = table
        self.rejects: list[Reject] = []
        self._item = item

    def out(
        self, bad: pd.Series | np.ndarray, reason: str, what: Callable[[Mapping[str, Any]], str], remedy: str
    ) -> None:
        """Reject the rows where `bad`; `what` says it of one row, given as a mapping."""
        bad = np.asarray(bad, bool)
        if bad.any():
            for row in self.table[bad].to_dict("records"):
                named = {str(name): value for name, value in row.items()}
                self.rejects.append((str(named[self._item]), reason, what(named), remedy))
            self.table = self.table[~bad]


def check_ids(sieve: Sieve) -> None:
    """Reject repeated records, studies of two patients, and patients in two of the dataset's own splits."""
    sieve.out(
        sieve.table["record_id"].duplicated(),
        "duplicate-record",
        lambda row: f"Image {row['record_id']} is listed more than once.",
        "Download the tables again; the first row was kept.",
    )
    several = sieve.table.groupby("study_id")["patient_id"].transform("nunique") > 1
    sieve.out(
        several,
        "study-of-two-patients",
        lambda row: f"Study {row['study_id']} is listed under several patients, {row['patient_id']} among them.",
        "Download the tables again.",
    )
    own = sieve.table[OWN_SPLIT].where(sieve.table[OWN_SPLIT] != "")
    sieve.out(
        own.groupby(sieve.table["patient_id"]).transform("nunique") > 1,
        "patient-in-two-splits",
        lambda row: f"Patient {row['patient_id']} is in several of the dataset's own splits, {row[OWN_SPLIT]!r} too.",
        "A patient never crosses a split: correct the split table.",
    )


def published_cohort(
    kind: str,
    root: Path,
    sieve: Sieve,
    options: dict[str, Any],
    own_to_split: Mapping[str, str],
    understood: Understood,
    *,
    extra: tuple[str, ...] = (),
    language: str = "",
) -> Cohort:
    """The sieve's rows as a Cohort. `options` hold seed, fractions and splits ("seeded" or "own"); `extra` columns are
    kept beside RECORD_COLUMNS; `language` is that of the reports where it is not English.

    With "own" the dataset's train, validate and test become finetune, attacker and heldout, as `own_to_split` says.
    Raises InputError for another word, and for "own" where rows have no split of their own.
    """
    records = sieve.table.reset_index(drop=True)
    for column in (*RECORD_COLUMNS, OWN_SPLIT):
        if column not in records:
            records[column] = np.nan if column in ("age", *LABELS) else ""
    records["split"] = split_column(
        records,
        options["splits"],
        options["seed"],
        options["fractions"],
        own=records[OWN_SPLIT],
        words=own_to_split,
        where="its split table",
    )
    cells.note_gap_words(records, understood)
    records = records[[*RECORD_COLUMNS, OWN_SPLIT, *extra]]
    words = [column for column in records if column not in ("age", *LABELS)]
    records = records.astype(dict.fromkeys(words, "str") | dict.fromkeys(["age", *LABELS], "float64"))
    cohort = whole(kind, kind, root, records, rejects_table(sieve.rejects), options, understood)
    return replace(cohort, language=language)
