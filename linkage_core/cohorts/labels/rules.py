"""The table of rules, rules.csv: read, checked and compiled once.

A row is (kind, what, pattern, example, gives). `pattern` is a regular expression on lower-case text that begins and
ends at the edge of a word; `example` a sentence in which the row acts and `gives` the labels of that sentence, which a
test holds. The kinds, in the order in which they act:

| kind | what it does with the words it finds |
|---|---|
| skip | a heading: what stands below it (indication, technique, comparison) is not read |
| blank | the words are taken out, so that neither a finding nor a denial is read in them ("no change in") |
| mention | names the finding `what`: 1, unless one of the scopes below says otherwise |
| hint | names a sign of the finding `what`: -1 at most |
| organ | an organ, and the findings that its being normal denies: `what` is "organ|finding|..." |
| normal, abnormal, borderline | said of the organs `what`: 0, 1 or -1 for their findings (1, -1: for the first) |
| denied | names what denies `what` where it is denied: 0 there, and nothing otherwise |
| deny before, deny after | what is named behind (in front of) the words, in the same clause, is 0; "all": no stop |
| hedge before, hedge after | likewise -1; "hedge next" reaches no further than "and" |
| drop before | what is named behind the words is left out: history, question, recommendation |
| stop | where a scope ends |
| stop comma | words with which something new begins behind a comma, unless an "or" still follows: a scope ends there |

Denied beats hedged within a clause ("no opacity to suggest pneumonia"). Over the sentences of a report affirmed beats
hedged beats denied, as in the CheXpert labeler (Irvin et al. 2019, arXiv:1901.07031, section 2.3), whose four values
and three steps (mention, classification, aggregation) these are; scopes by cue words are those of NegEx (Chapman et al.
2001) and NegBio (Peng et al. 2017, arXiv:1712.05898). The rules are our own.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from linkage_core.cohorts.base import LABELS

TABLE = Path(__file__).with_name("rules.csv")
COLUMNS = ("kind", "what", "pattern", "example", "gives")
KINDS = (
    *("skip", "blank", "mention", "hint", "organ", "normal", "abnormal", "borderline", "denied"),
    *("deny before", "deny after", "hedge before", "hedge next", "hedge after", "drop before", "stop", "stop comma"),
)


@dataclass(frozen=True)
class Rule:
    """One row. `what` are its parts between bars, `pattern` is compiled."""

    kind: str
    what: tuple[str, ...]
    pattern: re.Pattern[str]
    example: str
    gives: dict[str, float]


@cache
def rules() -> dict[str, tuple[Rule, ...]]:
    """Every rule by its kind."""
    found: dict[str, list[Rule]] = defaultdict(list)
    for row in _rows():
        what = tuple(part for part in row["what"].split("|") if part)
        kind = row["kind"]
        if kind not in KINDS:
            raise ValueError(f"{TABLE.name}: there is no kind {kind!r}")
        pattern = re.compile(rf"(?<![a-z0-9])(?:{row['pattern']})(?![a-z0-9])")
        found[kind].append(Rule(kind, what, pattern, row["example"], given(row["gives"])))
    return {kind: tuple(found[kind]) for kind in KINDS}


@cache
def version() -> str:
    """The first 12 hexadecimal digits of the table's sha256: which rules made a label."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()[:12]


def given(text: str) -> dict[str, float]:
    """ "Cardiomegaly 1; Edema -1" as labels and values.

    >>> given("Cardiomegaly 1; Edema -1")
    {'Cardiomegaly': 1.0, 'Edema': -1.0}
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        label, _, value = part.rpartition(" ")
        if label not in LABELS or value not in ("0", "1", "-1"):
            raise ValueError(f"{TABLE.name}: {part!r} is no label with its value")
        found[label] = float(value)
    return found


def _rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))
