"""Tables for others to read: CSV that a spreadsheet opens without running anything, and rows for JSON."""

from __future__ import annotations

import math
import re
from csv import QUOTE_NONNUMERIC
from typing import Any

import pandas as pd

_SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
"""At the beginning of a cell these make it a formula; the last four are their full-width forms."""
_BEGINS = re.compile(rf"(^|[;,\t\n])(?=[ \u00a0\u3000\"']*[{re.escape(_SIGNS)}])")
"""Where a cell may begin: at the front, and behind what a spreadsheet of another country splits at."""
_BREAKS = re.compile(r"\r\n?|[\v\f\x1c-\x1e\x85\u2028\u2029]")
"""What some programs take for the end of a row, quoted or not."""
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f]")


def csv(table: pd.DataFrame) -> bytes:
    """A table as UTF-8 CSV in which no text cell (or column name) can run as a spreadsheet formula.

    Text gets an apostrophe before every sign that a spreadsheet would act on, where a cell begins or where a
    spreadsheet that splits elsewhere would begin one; breaks of lines are one kind, control characters go. All text is
    quoted; numbers stay numbers, and gaps are empty.
    """
    neutral = table.rename(columns=neutral_cell)
    for name in neutral.columns:
        if not pd.api.types.is_numeric_dtype(neutral[name]):
            neutral[name] = neutral[name].map(neutral_cell)
    return neutral.to_csv(index=False, quoting=QUOTE_NONNUMERIC).encode()


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table for JSON: NaN and infinity become null."""
    return [{str(key): null(value) for key, value in row.items()} for row in table.to_dict("records")]


def null(value: Any) -> Any:
    """A value for JSON, which has no NaN and no infinity: None for these.

    >>> null(math.inf), null(math.nan), null(0.5), null("full")
    (None, None, 0.5, 'full')
    """
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def neutral_cell(cell: object) -> object:
    r"""Text that no spreadsheet runs; what is no text stays.

    >>> [neutral_cell(cell) for cell in ("=1+1", "a\r=1+1", "x;=1+1;y", "low-dose, 3", -1)]
    ["'=1+1", "a\n'=1+1", "x;'=1+1;y", 'low-dose, 3', -1]
    """
    if not isinstance(cell, str):
        return cell
    text = _BEGINS.sub(r"\1'", _UNSEEN.sub("", _BREAKS.sub("\n", cell)))
    return f"'{text}" if text.startswith(("\t", "\n")) else text
