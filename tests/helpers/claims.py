"""Figures in prose, and the rows of benchmark files that they are: benchmarks/claims.csv."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from helpers.places import ROOT

CLAIMS = ROOT / "benchmarks" / "claims.csv"
DOCUMENTS = (
    *("README.md", "docs/release.md", "docs/identifiers.md", "docs/labels.md", "docs/real-evidence.md"),
    "docs/reality.md",
)

_FENCES = re.compile(r"```.*?```", re.S)
_NOT_PROSE = re.compile(r"`[^`\n]*`|!?\[[^\]]*\]\([^)]*\)")
_FIGURE = re.compile(
    r"(?<![\w.])(?:\d[\d,]*\.\d+%?|\d+%|\d[\d,]*(?= of (?:100|1,000|10,000)\b))(?![\w])|(?<=links )\d+\b"
)
SETTINGS = (  # what looks like a figure and is chosen, a standard or a version
    r"Python 3\.\d+",
    r"epsilon (?:0\.34|1)\b",
    r"127\.0\.0\.1",
    r"arXiv:\d+\.\d+",
    r"\b95%",
    r"(?<![\d,.])1 of 1(?:00|,000|0,000)\b",  # guessing
    r"guessing is 1%",
    r"0\.5 if",
    r"Apache-2\.0",
    r"\bN = [\d,]+",
)


@dataclass(frozen=True)
class Claim:
    """One figure: quote is a text of the document, unique, with the figure in braces; it is `times` the value at `key`
    of the JSON file, to `digits` decimals."""

    document: str
    quote: str
    file: str
    key: str
    times: float
    digits: int

    @property
    def text(self) -> str:
        return re.sub(r"\{([^}]*)\}", r"\1", self.quote)

    @property
    def figure(self) -> str:
        return re.search(r"\{([^}]*)\}", self.quote).group(1)  # type: ignore[union-attr]

    @property
    def said(self) -> float:
        return float(self.figure.rstrip("%").replace(",", ""))

    def found(self) -> float:
        """The figure by its file, rounded as the document rounds."""
        value: Any = at(json.loads((ROOT / "benchmarks" / self.file).read_text(encoding="utf-8")), self.key)
        return round(self.times * float(value), self.digits)


def claims() -> list[Claim]:
    """Every row of the table."""
    with CLAIMS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [Claim(**{**row, "times": float(row["times"]), "digits": int(row["digits"])}) for row in rows]  # type: ignore[arg-type]


def at(value: Any, key: str) -> Any:
    """The value at a path: names parted by "/", in a list `name=value,...` for the one row of that, or its number.

    >>> at({"rows": [{"n": 100, "recall": 0.1}, {"n": 1000, "recall": 0.02}]}, "rows/n=1000/recall")
    0.02
    """
    for part in key.split("/"):
        if isinstance(value, list) and "=" in part:
            wanted = dict(one.split("=") for one in part.split(","))
            alike = [row for row in value if all(str(row[name]) == like for name, like in wanted.items())]
            if len(alike) != 1:
                raise KeyError(f"{part}: {len(alike)} rows")
            value = alike[0]
        else:
            value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def flat(text: str) -> str:
    """Prose in one line: no fences, lines joined; the inside of code marks and links stays, for quotes."""
    return " ".join(_FENCES.sub(" ", text).split())


def figures(text: str) -> Iterator[tuple[int, str]]:
    """(place, figure) of everything in the flat text that looks measured and is no setting."""
    hidden = [match.span() for pattern in (*SETTINGS, _NOT_PROSE.pattern) for match in re.finditer(pattern, text)]
    for match in _FIGURE.finditer(text):
        if not any(start <= match.start() < end for start, end in hidden):
            yield match.start(), match.group()
