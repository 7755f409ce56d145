"""Figures in README and docs anew, after benchmark files were made again: python tools/claims.py

Every figure that benchmarks/claims.csv names is replaced by what its file holds now, in the document and in the quotes
of the table. Says what changed. The words around a figure are nobody's but the writer's: read them again.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.claims import CLAIMS, DOCUMENTS, Claim, claims  # noqa: E402


def places(text: str) -> tuple[str, list[int]]:
    """The flat text that quotes are about, and where each of its characters stands in the document."""
    kept = [(i, char) for i, char in _outside_fences(text)]
    flat: list[str] = []
    where: list[int] = []
    for i, char in kept:
        space = char.isspace()
        if space and (not flat or flat[-1] == " "):
            continue
        flat.append(" " if space else char)
        where.append(i)
    return "".join(flat), where


def _outside_fences(text: str) -> Iterator[tuple[int, str]]:
    fences = [match.span() for match in re.finditer(r"```.*?```", text, re.S)]
    for i, char in enumerate(text):
        if not any(start <= i < end for start, end in fences):
            yield i, char
        elif any(i == start for start, _ in fences):
            yield i, " "


def as_written(claim: Claim) -> str:
    """What its file holds, written as the document writes it."""
    figure = f"{claim.found():{',' if ',' in claim.figure else ''}.{max(claim.digits, 0)}f}"
    return figure + ("%" if claim.figure.endswith("%") else "")


def renewed(text: str, listed: list[Claim]) -> tuple[str, list[str]]:
    """The document with every figure as its file has it, and the quotes of its claims."""
    flat, where = places(text)
    spans = []
    for claim in listed:
        start = flat.index(claim.text)
        first = start + claim.quote.index("{")
        spans.append((start, start + len(claim.text), first, first + len(claim.figure), as_written(claim)))
    changes = sorted({(first, last, figure) for _, _, first, last, figure in spans})
    for first, last, figure in reversed(changes):
        text = text[: where[first]] + figure + text[where[last - 1] + 1 :]

    def quoted(start: int, end: int, own: int) -> str:
        parts, at = [], start
        for first, last, figure in changes:
            if start <= first and last <= end:
                parts += [flat[at:first], f"{{{figure}}}" if first == own else figure]
                at = last
        return "".join([*parts, flat[at:end]])

    return text, [quoted(start, end, first) for start, end, first, _, _ in spans]


def main() -> None:
    """Rewrites the documents and the table."""
    listed = claims()
    quotes: dict[Claim, str] = {}
    for name in DOCUMENTS:
        own = [claim for claim in listed if claim.document == name]
        path = ROOT / name
        text, anew = renewed(path.read_text(encoding="utf-8"), own)
        for claim, quote in zip(own, anew, strict=True):
            quotes[claim] = quote
            if claim.quote != quote:
                sys.stdout.write(f"{name}: {claim.quote}  ->  {quote}\n")
        path.write_text(text, encoding="utf-8")
    with CLAIMS.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)
    for row, claim in zip(rows, listed, strict=True):
        row["quote"] = quotes[claim]
    with CLAIMS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
