"""What a check found, in one sentence each: for Start, for the report to file and for the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from linkage_core.cohorts.identifiers.attributes import attributes
from linkage_core.cohorts.identifiers.kinds import FILLED, FOUND, HEADER, KINDS, LEVELS

NOT_CHECKED = "Not checked for identifiers when it was embedded: see `linkage identifiers`."


def lines(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """(what was looked at and found, what may be a substitute, what was not looked for); the middle one only where
    there is any.

    >>> lines({"looked": {"records": 2}, "kinds": {}, "not_looked_for": ["faces"]})
    ('Checked for identifiers: 2 records, nothing found.', 'Not looked for: faces.')
    """
    looked = summary["looked"]
    n = looked["records"]
    found, filled = (
        [f"{count[LEVELS[level]]:,} with {KINDS[kind].words}" for kind, count in _counts(summary, LEVELS[level])]
        for level in (FOUND, FILLED)
    )
    said = [f"Checked for identifiers: {n:,} records, {'; '.join(found) if found else 'nothing found'}."]
    if filled:
        removed = looked.get("said_removed", 0)
        says = f" {removed:,} headers say that identity was removed." if removed else ""
        said.append(f"Filled in, and whether by substitutes cannot be seen: {'; '.join(filled)}.{says}")
    return (*said, f"Not looked for: {'; '.join(summary['not_looked_for'])}.")


def lines_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """`lines` of an entry by its manifest; NOT_CHECKED where it has none, nothing of a synthetic cohort."""
    if manifest["cohort"].get("synthetic"):
        return ()
    summary = manifest.get("identifiers")
    return lines(summary) if summary else (NOT_CHECKED,)


def anything_found(manifest: Mapping[str, Any]) -> bool:
    """Whether an entry's check found what identifies as it stands."""
    return any(count[LEVELS[FOUND]] for count in manifest.get("identifiers", {}).get("kinds", {}).values())


def attributes_of(summary: Mapping[str, Any], kind: str) -> str:
    """The attributes of DICOM of one kind, each with its records: "PatientName 12, OperatorsName 3"."""
    where, _, what = kind.partition(" ")
    counts = summary["attributes"] if where == HEADER else {}
    of_kind = {one.keyword for one in attributes() if one.kind == what}
    return ", ".join(f"{name} {sum(count.values()):,}" for name, count in counts.items() if name in of_kind)


def _counts(summary: Mapping[str, Any], level: str) -> list[tuple[str, Mapping[str, int]]]:
    """Kinds with any record at this level, in the order of the table; kinds of other versions are left out."""
    return [(kind, count) for kind in KINDS if (count := summary["kinds"].get(kind)) and count[level]]
