"""What a report is made of: sections of texts, tables, charts and lines to fill in. The JSON twin is this tree.

Figures are numbers here; `cell` says how one of a table reads on paper, by the kind of its column. None or NaN is none:
then the row says in `note` why, or a dash stands in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import pandas as pd

from linkage_core import sentences, tables

FORMAT = "linkage-report"
SCHEMA = 1

Row = dict[str, Any]
"""One row of a table by its columns; a rate also has `out_of`, and may have `<name>_low` and `<name>_high`."""
How = Literal["text", "whole", "rate", "limit", "of 100", "times", "points", "code"]


@dataclass(frozen=True)
class Text:
    """A paragraph. `lead` is large, `note` small, `gap` says that something does not exist, and why."""

    text: str
    how: Literal["lead", "plain", "note", "gap"] = "plain"


@dataclass(frozen=True)
class Listed:
    """Sentences one below the other."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table: its name in the rows, its heading, and how its figures read ("limit": a rate
    rounded up; "code": in small letters of one width)."""

    name: str
    heading: str
    how: How = "text"


@dataclass(frozen=True)
class Table:
    """`more`: rows that stand in the JSON twin alone; `note` then says so."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""
    more: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Series:
    """One line: recall with its interval at each N; as many of each."""

    name: str
    x: tuple[int, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """Recall@1 against N, both axes logarithmic, with guessing (1/N) as a line."""

    name: str
    caption: str
    words: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Bar:
    """`hollow`: it is what the others are compared with."""

    name: str
    rate: float
    low: float
    high: float
    hollow: bool = False


@dataclass(frozen=True)
class Bars:
    """Rates counted out of `out_of` from nought, with their intervals and an upright line at guessing."""

    name: str
    caption: str
    words: str
    bars: tuple[Bar, ...]
    guessing: float
    out_of: int


@dataclass(frozen=True)
class Commands:
    """Lines that can be pasted into a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Blanks:
    """Lines that a person fills in by hand."""

    names: tuple[str, ...]


Block = Text | Listed | Table | Curves | Bars | Commands | Blanks


@dataclass(frozen=True)
class Section:
    """`there`: whether there is anything to report; False where one sentence says why not."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    there: bool = True


@dataclass(frozen=True)
class Report:
    """The whole document. `made` is the only thing in which two runs on the same files differ (YYYY-MM-DD)."""

    title: str
    cohort: str
    synthetic: bool
    made: str
    version: str
    headline: str
    sections: tuple[Section, ...]
    format: str = FORMAT
    schema: int = SCHEMA

    def section(self, name: str) -> Section:
        """One of its sections; KeyError where it has none of that name."""
        return {one.name: one for one in self.sections}[name]


def as_json(part: Any) -> Any:
    """A part of the tree as JSON holds it: objects with a `type` where it is one of several; NaN is null.

    >>> as_json(Text("Nobody.", "gap"))
    {'type': 'text', 'text': 'Nobody.', 'how': 'gap'}
    """
    if is_dataclass(part) and not isinstance(part, type):
        named = {one.name: as_json(getattr(part, one.name)) for one in fields(part)}
        return ({"type": type(part).__name__.lower()} if isinstance(part, Block) else {}) | named
    if isinstance(part, Mapping):
        return {str(name): as_json(value) for name, value in part.items()}
    if isinstance(part, (tuple, list)):
        return [as_json(one) for one in part]
    return tables.null(part)


def rows_of(table: pd.DataFrame, names: Iterable[str]) -> tuple[Row, ...]:
    """Rows of a table with these columns, as plain numbers and None."""
    return tuple({str(name): value for name, value in row.items()} for row in tables.rows(table[list(names)]))


def cell(column: Column, row: Row) -> str:
    """How one figure reads.

    >>> cell(Column("r", "linked", "rate"), {"r": 0.158, "r_low": 0.15, "r_high": 0.17, "out_of": 100})
    '16 of 100 (15 to 17)'
    >>> cell(Column("n", "n", "whole"), {"n": 13194}), cell(Column("n", "n", "whole"), {"n": None})
    ('13,194', '–')
    """
    value, counts = tables.null(row.get(column.name)), column.how in ("rate", "limit", "of 100")
    if value is None or value == "":
        return str(row.get("note") or "–") if counts else "–"
    low, high = (tables.null(row.get(f"{column.name}_{end}")) for end in ("low", "high"))
    if column.how == "limit":
        return sentences.at_most(value, int(row["out_of"]))
    if counts:
        out_of = int(row["out_of"]) if column.how == "rate" else 100
        ends = "" if low is None or high is None else sentences.ends(low, high, out_of)
        same = len(set(ends.split(" to "))) == 1  # narrower than can be said
        return sentences.of(value, out_of) + (f" ({ends})" if ends and not same else "")
    if column.how == "points":
        told = [sentences.signed(100 * end, 1) for end in (low, high) if end is not None]
        return sentences.signed(100 * value, 1) + (f" ({' to '.join(told)})" if len(told) == 2 else "")
    if column.how == "whole":
        return f"{int(value):,}"
    if column.how == "times":
        return sentences.lift(value).removesuffix(" chance")
    return str(value)
