"""A table of reports, CSV or Parquet: a number of the study and the text, which most information systems can export."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from linkage_core.cohorts import cells
from linkage_core.cohorts.base import LABELS, Understood
from linkage_core.cohorts.manifest import read_table
from linkage_core.cohorts.reports.base import Reports, rejected, reports_of
from linkage_core.errors import InputError

SPELLED = {
    "study": ("study_instance_uid", "study_uid", "study_id"),
    "accession": ("accession_number", "accession", "accession_no"),
    "report": ("report", "report_text", "text"),
    "patient": ("patient_id",),
}
"""A column of reports -> what a table may call it; case, blanks and signs do not matter."""


def read(path: Path) -> Reports:
    """Columns of SPELLED and the 14 labels, of which a report and one of the two numbers are needed.

    Raises InputError where a column is missing or comes twice, ids have lost digits, a label is none of its values.
    """
    understood = Understood()
    names = [name for names in SPELLED.values() for name in names]
    ids = [name for column in ("study", "accession", "patient") for name in SPELLED[column]]
    found = read_table(path, (), (*names, *LABELS), loosely=True, ids=ids, understood=understood)
    table = pd.DataFrame(index=found.index)
    for column, spellings in SPELLED.items():
        there = [name for name in spellings if name in found]
        if len(there) > 1:
            raise InputError(f"{path} has {' and '.join(map(repr, there))} for one column.", "Keep one of them.")
        if there:
            values = found[there[0]]
            is_id = column != "report"
            table[column] = cells.ids(values, there[0], path.name, understood) if is_id else values.str.strip()
    if "report" not in table or not {"study", "accession"} & set(table):
        raise InputError(
            f"{path} is no table of reports: it needs a text and a number of the study.",
            "Give the columns report, and accession_number or study_instance_uid.",
        )
    table["item"] = [f"{path.name} row {row}" for row in range(1, len(table) + 1)]
    table["item"] = table["item"].astype("str")
    for name, values in cells.label_columns(found, str(path)).items():
        table[name] = values
    empty = table["report"] == ""
    lost = rejected(table.loc[empty, "item"], "empty-report", "The row has no text.", "Fill it in.")
    # notes about ids show examples of them, and are said on a terminal
    return reports_of(table[~empty].reset_index(drop=True), lost, understood.notes)
