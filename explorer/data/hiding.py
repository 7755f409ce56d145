"""What may be said of a cohort of real people where its text is not shown: no identifier, no word of a report."""

from __future__ import annotations

import re
from typing import Any

from linkage_core.cohorts.base import IDS, LABELS, Cohort

HIDDEN = "…"
IDENTIFYING = (*IDS, "image", "report")
"""Fields of a record that are not sent to the browser unless text may be shown."""
_PLAIN = {name.lower() for name in (*IDS, *LABELS, "image", "report", "view", "sex", "age", "split", "own", "both")}
_NAMED = re.compile(r"\b((?:the )?first: |such as |[Rr]ecord |[Ss]tudy |[Pp]atient )(?:'[^']*'|\"[^\"]*\"|[^\s,;:()]+)")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_WORD = re.compile(r"[^\s,;:()'\"]+")


def identifiers(cohort: Cohort) -> frozenset[str]:
    """Every identifier and path of a cohort, records and rejects, that is more than a bare small number."""
    found = {str(value) for name in (*IDS, "image") for value in cohort.records[name].unique()}
    found |= {str(item) for item in cohort.rejects["item"]}
    return frozenset(one for one in found if len(one) > 2)


def hidden(text: str, known: frozenset[str] = frozenset()) -> str:
    """A sentence without what may identify: what it quotes or names as an example, and every known identifier.

    >>> hidden("patients.csv: study 'S17' has 2 different reports; there is no column 'patient_id'.")
    "patients.csv: study … has 2 different reports; there is no column 'patient_id'."
    >>> hidden("2 of 20 images (the first: a/b.dcm): a slope of 0", frozenset()), hidden("x-9 is twice", {"x-9"})
    ('2 of 20 images (the first: …): a slope of 0', '… is twice')
    """
    text = _NAMED.sub(lambda match: match[1] + HIDDEN, text)
    text = _QUOTED.sub(lambda match: match[0] if (match[1] or match[2] or "").lower() in _PLAIN else HIDDEN, text)
    return _WORD.sub(lambda match: HIDDEN if match[0].rstrip(".") in known else match[0], text)


def record(read: dict[str, Any], *, show: bool) -> dict[str, str]:
    """One of the first records as it is shown, field -> words."""
    return {
        name: HIDDEN if name in IDENTIFYING and not show and value not in (None, "") else _words(value)
        for name, value in read.items()
    }


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {state}" for name, state in value.items()) or "–"
    if value is None or value == "":
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
