"""A record table without images: what comes with imported embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, rejects_table, split_by_patient
from linkage_core.errors import ImageError, InputError

NEEDED = ("record_id", "patient_id", "study_id")


def read(path: Path, name: str, seed: int = 0) -> Cohort:
    """A CSV or Parquet table with record_id (unique), patient_id and study_id, and optionally report, view, sex, age
    and any of the 14 labels. Row order is kept: arrays are aligned with it.

    Raises InputError naming the missing column, the repeated id, the empty id or the study with two patients or texts.
    """
    table = _table(path)
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]!r}; it has: {', '.join(map(str, table.columns))}.",
            f"A record table needs {', '.join(NEEDED)}.",
        )
    if table.empty:
        raise InputError(f"{path} has no rows.", "Give one row for each row of the arrays.")
    for column in NEEDED:
        table[column] = table[column].astype("str").fillna("").str.strip()
        empty = np.flatnonzero(table[column].isin([""]))
        if len(empty):
            raise InputError(f"{path} row {empty[0] + 1} has no {column}.", "Every row needs one.")
    repeated = table["record_id"][table["record_id"].duplicated()]
    if len(repeated):
        raise InputError(f"{path} has record_id {repeated.iloc[0]!r} more than once.", "Record ids are unique.")
    records = pd.DataFrame({column: table[column] for column in NEEDED})
    for column in ("view", "sex", "report"):
        records[column] = table[column].fillna("").astype("str") if column in table else ""
    records["image"] = ""
    for column in ("age", *LABELS):
        records[column] = pd.to_numeric(table[column], errors="coerce") if column in table else np.nan
    for label in LABELS:
        odd = records[label][~records[label].isin([0, 1, -1]) & records[label].notna()]
        if len(odd):
            raise InputError(f"{path}: label {label!r} has the value {odd.iloc[0]:g}.", "Labels are 1, 0, -1 or empty.")
    for column, what in (("patient_id", "patients"), ("report", "reports")):
        several = records.groupby("study_id")[column].nunique()
        if (several > 1).any():
            raise InputError(
                f"{path}: study {several.idxmax()!r} has {several.max()} different {what}.",
                "A study has one patient and one report.",
            )
    records["split"] = split_by_patient(records["patient_id"], seed)
    return Cohort(
        name=name,
        kind="imported",
        root=None,
        records=records[list(RECORD_COLUMNS)],
        rejects=rejects_table([]),
        read_image=_no_image,
        options={"records": path.name, "seed": seed},
    )


def _table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=dict.fromkeys((*NEEDED, "report", "view", "sex"), "str"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", "Give a CSV or Parquet table of records.") from error
    except (OSError, ValueError) as error:  # pandas and pyarrow parsing errors are ValueErrors
        raise InputError(f"{path} cannot be read as a table ({error}).", "Give a CSV or Parquet table.") from error


def _no_image(row: Any) -> NoReturn:
    raise ImageError("missing-file", f"{row['record_id']}: imported embeddings come without images.", "")
