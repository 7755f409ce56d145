"""Tables as CSV that a spreadsheet opens without running anything."""

from __future__ import annotations

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


def _neutral(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
