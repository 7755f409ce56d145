"""Tables for others to read: CSV that a spreadsheet opens without running anything, and rows for JSON."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv(table: pd.DataFrame) -> bytes:
    """A table as UTF-8 CSV in which no text cell (or column name) can run as a spreadsheet formula.

    Text that begins with a sign a spreadsheet would act on gets a leading apostrophe; numbers stay numbers.
    """
    neutral = table.rename(columns=_neutral)
    for name in neutral.columns:
        if not pd.api.types.is_numeric_dtype(neutral[name]):
            neutral[name] = neutral[name].map(_neutral)
    return neutral.to_csv(index=False).encode()


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


def _neutral(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
