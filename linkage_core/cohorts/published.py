"""What the large published collections share: big tables, plain or gzipped, and their own splits.

Tables are worked on as whole columns, so that 377,000 images take seconds. Images are not looked up one by one (on a
network disk that would take longer than everything else): the folders of patients are listed, which finds a download
that stopped halfway, and a file missing within one becomes the same reject when it is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, SPLITS, Cohort, rejects_table, split_by_patient
from linkage_core.cohorts.files import Reject, whole
from linkage_core.errors import InputError
from linkage_core.validate import one_of

FRACTIONS = (0.6, 0.2, 0.2)
OWN_SPLIT = "own_split"
WHERE_SPLITS = ("seeded", "own")


def find_table(root: Path, pattern: str) -> Path | None:
    """The table of the root whose name without .csv or .csv.gz is the pattern, a regular expression; plain first."""
    named = re.compile(rf"(?:{pattern})\.csv(?:\.gz)?")
    return min((path for path in root.iterdir() if named.fullmatch(path.name)), default=None, key=_plain_first)


def _plain_first(path: Path) -> tuple[str, bool]:
    return path.name.removesuffix(".gz"), path.suffix == ".gz"


def read_columns(path: Path, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> pd.DataFrame:
    """These columns of a CSV as text, "" where empty; optional ones that are not there are "".

    Raises InputError naming the file and the column that is missing, or what keeps it from being read.
    """
    try:
        names = list(pd.read_csv(path, nrows=0).columns)
        missing = [name for name in needed if name not in names]
        if missing:
            raise InputError(
                f"{path} has no column {missing[0]!r}; it has: {', '.join(map(str, names[:40]))}.",
                f"It needs {', '.join(needed)}: is this the table as it was published?",
            )
        wanted = [*needed, *(name for name in optional if name in names)]
        table = pd.read_csv(path, usecols=wanted, dtype="str", keep_default_na=False, na_filter=False)
    except (OSError, EOFError, ValueError) as error:  # parsing and decoding errors are ValueErrors, as is bad gzip data
        raise InputError(f"{path} cannot be read as a table: {error}.", "Download it again.") from error
    if table.empty:
        raise InputError(f"{path} has no rows.", "Download it again.")
    for name in optional:
        if name not in names:
            table[name] = ""
    return table


def mapped(values: pd.Series, function: Callable[[str], Any]) -> pd.Series:
    """The function of every value, called once for each distinct one."""
    return values.map({value: function(value) for value in values.unique()})


def label_columns(table: pd.DataFrame, where: Path) -> pd.DataFrame:
    """The 14 labels as numbers, NaN where empty; InputError for a value that is none of the four."""
    labels = pd.DataFrame(index=table.index)
    for label in LABELS:
        cells = table[label] if label in table else pd.Series("", index=table.index)
        numbers = pd.to_numeric(cells, errors="coerce").astype(np.float64)
        odd = cells[(cells != "") & ~numbers.isin([1, 0, -1])]
        if len(odd):
            raise InputError(
                f"{where}: label {label!r} is {odd.iloc[0]!r}.",
                "It is 1 (positive), 0 (negative), -1 (uncertain) or empty (not mentioned).",
            )
        labels[label] = numbers
    return labels


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
) -> Cohort:
    """The sieve's rows as a Cohort. `options` hold seed, fractions and splits ("seeded" or "own").

    With "own" the dataset's train, validate and test become finetune, attacker and heldout, as `own_to_split` says.
    Raises InputError for another word, and for "own" where rows have no split of their own.
    """
    records = sieve.table.reset_index(drop=True)
    for column in (*RECORD_COLUMNS, OWN_SPLIT):
        if column not in records:
            records[column] = np.nan if column in ("age", *LABELS) else ""
    if checked_splits(options["splits"]) == "own":
        unknown = records[~records[OWN_SPLIT].isin(list(own_to_split))]
        if len(unknown):
            raise InputError(
                f"{len(unknown):,} of {len(records):,} images have no split of the dataset's own, the first "
                f"{unknown['record_id'].iloc[0]} ({unknown[OWN_SPLIT].iloc[0]!r}).",
                "Put its split table there, or leave out --splits own.",
            )
        records["split"] = records[OWN_SPLIT].map(own_to_split)
    else:
        records["split"] = split_by_patient(records["patient_id"], options["seed"], tuple(options["fractions"]))
    records = records[[*RECORD_COLUMNS, OWN_SPLIT]]
    words = [column for column in records if column not in ("age", *LABELS)]
    records = records.astype(dict.fromkeys(words, "str") | dict.fromkeys(["age", *LABELS], "float64"))
    return whole(kind, kind, root, records, rejects_table(sieve.rejects), options)


def checked_splits(splits: str) -> str:
    """seeded or own; else InputError."""
    one_of("splits", splits, WHERE_SPLITS)
    return splits


def checked_fractions(fractions: Any) -> list[float]:
    """Three shares (finetune, attacker, heldout) as a list, which JSON keeps as it is."""
    shares = [float(share) for share in fractions]
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"fractions are {fractions}.", f"Give three shares ({', '.join(SPLITS)}) that sum to 1.")
    return shares
