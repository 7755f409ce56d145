"""What was understood of a cohort, as the page says it: tables and sentences from its summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from explorer.data import hiding
from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.labels.cohort import labels_line
from linkage_core.cohorts.summary import summarise


@dataclass(frozen=True)
class Understood:
    """headline: in a line; facts: (name, words); columns: sentences a table; first: the first records, a column each;
    rejects: reason, how many, remedy; notes: sentences. Where text is not shown nothing of it identifies anybody."""

    name: str
    synthetic: bool
    n_records: int
    headline: str
    facts: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    first: pd.DataFrame
    rejects: pd.DataFrame
    notes: tuple[str, ...]


def understood(cohort: Cohort, *, show: bool) -> Understood:
    """show: whether identifiers and text of a cohort of real people may be shown; a synthetic one has no patients."""
    summary, show = summarise(cohort), show or cohort.synthetic
    known = frozenset() if show else hiding.identifiers(cohort)

    def said(text: str) -> str:
        return text if show else hiding.hidden(text, known)

    n_rejects = sum(summary["rejects"].values())
    ages = " to ".join(f"{age:g}" for age in summary["age"].values()) or "not given"
    columns = []
    for table, of in summary["columns"].items():
        taken = ", ".join(name if name == spelled else f"{name} ({spelled})" for name, spelled in of["taken"].items())
        left = ", ".join(column or "(no name)" for column in of["left"][:40])
        columns.append(f"Columns of {table}: {taken}." + (f" Left alone: {left}." if left else ""))
    first = pd.DataFrame([hiding.record(one, show=show) for one in summary["first"]]).T
    first.columns = pd.Index([f"record {number}" for number in range(1, len(first.columns) + 1)])
    return Understood(
        name=str(summary["name"]),
        synthetic=bool(summary["synthetic"]),
        n_records=int(summary["images"]),
        headline=f"{summary['images']:,} images of {summary['studies']:,} studies and {summary['patients']:,} patients,"
        f" {n_rejects:,} rows left out",
        facts=(
            ("Views", _counts(summary["views"])),
            ("Ages", ages),
            ("Without", _counts(summary["missing"])),
            ("Words a report", _counts(summary["report_words"])),
            ("Reports", f"{summary['distinct_reports']:,} distinct"),
            ("Greys", _greys(summary["seen"])),
            ("Labels", labels_line(summary["labels_from"])),
            ("Patients by split", _counts({name: of["patients"] for name, of in summary["splits"].items()})),
        ),
        columns=tuple(columns),
        first=first.rename_axis("field").reset_index(),
        rejects=_rejects(cohort.rejects, said),
        notes=tuple(f"{said(note)}." for note in summary["notes"]),
    )


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {count:,.0f}" for name, count in counts.items()) or "none"


def _greys(seen: dict[str, Any]) -> str:
    """The range of grey of images that were opened."""
    if not seen or not seen.get("greys"):
        return "images were not opened"
    names = {"p1": "darkest 1%", "median": "median", "p99": "brightest 1%"}
    parts = [f"{names[key]} {of['min']:.0%} to {of['max']:.0%}" for key, of in seen["greys"].items()]
    return f"{'; '.join(parts)} of white"


def _rejects(rejects: pd.DataFrame, said: Any) -> pd.DataFrame:
    """One row a reason: how many, and what helps, by the first of them."""
    rows = [
        {
            "reason": reason,
            "how many": len(of),
            "for example": said(str(of["what"].iloc[0])),
            "what helps": said(str(of["remedy"].iloc[0])),
        }
        for reason, of in rejects.groupby("reason", sort=False)
    ]
    table = pd.DataFrame(rows, columns=["reason", "how many", "for example", "what helps"])
    return table.sort_values("how many", ascending=False, kind="stable")
