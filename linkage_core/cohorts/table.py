"""A record table without images: what comes with imported embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from linkage_core.cohorts import own
from linkage_core.cohorts.base import IDS, RECORD_COLUMNS, Cohort, Understood, rejects_table
from linkage_core.cohorts.splits import FRACTIONS, chosen_splits, split_column
from linkage_core.errors import ImageError, InputError


def read(path: Path, name: str, seed: int = 0, *, splits: str = "seeded", fractions: Any = FRACTIONS) -> Cohort:
    """A CSV or Parquet table with record_id (unique), patient_id and study_id, and optionally report, view, sex, age
    and any of the 14 labels, read as the manifest of a folder is. Row order is kept: arrays are aligned with it, so no
    row is ever left out; the index of a saved frame does not matter.

    `splits`: by patient, seeded, in shares of `fractions` (or as three shares, "60/20/20"), or "own": the column
    `split`. Raises InputError naming the missing column, the repeated or empty id, the study with two patients or
    texts, and the label or split that is none.
    """
    where, shares = chosen_splits(splits, fractions)
    understood = Understood()
    table = own.read_own(path, IDS, understood, images=False)
    for column in IDS:
        empty = np.flatnonzero(table[column] == "")
        if len(empty):
            raise InputError(
                f"{path} row {empty[0] + 1} has no {column}; {len(empty):,} such rows.", "Every row needs one."
            )
    own.refuse_repeated_ids(table["record_id"], path)
    table["report"] = table["report"].str.strip()
    keys = own.report_keys(table["report"])
    for values, what in ((table["patient_id"], "patients"), (keys, "reports")):
        several = values.groupby(table["study_id"]).nunique()
        if (several > 1).any():
            raise InputError(
                f"{path}: study {several.idxmax()!r} has {several.max()} different {what}; it is one of "
                f"{(several > 1).sum():,}.",
                "A study has one patient and one report.",
            )
    table["report"] = table.groupby("study_id")["report"].transform("first")
    table["split"] = split_column(
        table, where, seed, shares, own=own.split_cells(table, understood, path, where), where=path.name
    )
    records = table[list(RECORD_COLUMNS)]
    without = int((records["report"] == "").sum())
    if 0 < without < len(records):
        understood.note(f"{without:,} of {len(records):,} records without report text")
    return Cohort(
        name=name,
        kind="imported",
        root=None,
        records=records,
        rejects=rejects_table([]),
        read_image=_no_image,
        options={"records": path.name, "seed": seed, "splits": where, "fractions": shares},
        understood=understood,
    )


def _no_image(row: Any) -> NoReturn:
    raise ImageError("missing-file", f"{row['record_id']}: imported embeddings come without images.", "")
