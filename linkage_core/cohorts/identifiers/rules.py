"""The table of rules for report text, rules.csv: read, checked and compiled once.

A row is (kind, pattern, example, innocent). `pattern` is a regular expression in which capitals count; `example` a text
in which the row acts, `innocent` one in which it does not: a test holds both. The kind `placeholder` is no identifier:
what others left in the place of one ("XXXX", "___", "[**Name**]").

Rows act in their order, and what one has found the next do not see: a telephone number is no long number as well.

The kinds are those of the Safe Harbor method (45 CFR 164.514(b)(2)(i)) that text of a report can hold: names, places
smaller than a state, dates and ages over 89, telephone and fax numbers, electronic addresses, record and other numbers.
A year alone is none of them. Rules do not know who somebody is: a name without a title, a signature or a label before
it is not found, and neither is a description by which a patient would be recognized. The rules are our own.
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from linkage_core.cohorts.identifiers.kinds import KINDS, REPORT

TABLE = Path(__file__).with_name("rules.csv")
COLUMNS = ("kind", "pattern", "example", "innocent")
PLACEHOLDER = "placeholder"
LONGEST = 50_000
"""Letters of a text that are looked at; a report has a few thousand."""
_GAP = re.compile(r"(\s{3})\s+")  # no rule needs more, and several in one would try every way to share them


@dataclass(frozen=True)
class Rule:
    """One row, its pattern compiled."""

    kind: str
    pattern: re.Pattern[str]
    example: str
    innocent: str


@cache
def rules() -> tuple[Rule, ...]:
    """Every row, in the order of the table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    for row in rows:
        if row["kind"] != PLACEHOLDER and f"{REPORT} {row['kind']}" not in KINDS:
            raise ValueError(f"{TABLE.name}: there is no kind {row['kind']!r}")
    return tuple(Rule(row["kind"], re.compile(row["pattern"]), row["example"], row["innocent"]) for row in rows)


@cache
def version() -> str:
    """The first 12 hexadecimal digits of the table's sha256."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()[:12]


def kinds_in(text: str) -> frozenset[str]:
    """Which kinds of identifier the rules find in a text.

    >>> sorted(kinds_in("Told to Dr. Quagga at 14:35 on 7/14/2019.")), sorted(kinds_in("Told to Dr. XXXX on XXXX."))
    (['date', 'name', 'time'], [])
    """
    text = _GAP.sub(r"\1", text[:LONGEST])
    found: set[str] = set()
    for rule in rules():
        text, n = rule.pattern.subn("\N{HORIZONTAL ELLIPSIS}", text)
        if n:
            found.add(rule.kind)
    return frozenset(found - {PLACEHOLDER})
