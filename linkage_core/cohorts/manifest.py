"""A table of records on disk -> text cells, or one sentence about what is wrong with it."""

from __future__ import annotations

import csv
import io
import math
import numbers
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from linkage_core.errors import InputError

MAX_BYTES = 1 << 31
_PART_ROWS = 50_000
_UTF8 = "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')."


def read_manifest(path: Path) -> pd.DataFrame:
    """Every cell of a CSV or Parquet table as text, "" where empty; rows in order, index 0..n-1.

    Column names are stripped. Raises InputError naming the file and the place: not there, not UTF-8, null bytes, no
    header, no rows, a column named twice, a row with too many or too few cells, a quote that is never closed, another
    separator than the comma.
    """
    try:
        if not path.is_file():
            raise InputError(f"There is no table {path}.", "Give the folder that holds it, or its name.")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes.", f"At most {MAX_BYTES:,} are read: split it.")
        if path.suffix.lower() in (".parquet", ".pq"):
            table = _parquet(path)
        else:
            table = _csv(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", "Check the file and its permissions.") from error
    columns = [str(column).strip() for column in table.columns]
    repeated = [column for column in columns if column and columns.count(column) > 1]
    if repeated:
        raise InputError(f"{path} has the column {repeated[0]!r} more than once.", "Keep one of them.")
    table.columns = pd.Index(columns)
    if table.empty:
        raise InputError(f"{path} has no rows.", "Give one row for each image.")
    return table


def need_columns(table: pd.DataFrame, needed: tuple[str, ...], path: Path) -> None:
    """InputError naming the first needed column that is not there."""
    for column in needed:
        if column not in table:
            raise InputError(
                f"{path} has no column {column!r}; it has: {', '.join(table.columns)}.",
                f"It needs {', '.join(needed)}.",
            )


def _csv(data: bytes, path: Path) -> pd.DataFrame:
    _check_text(data, path)
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""), strict=True)
    parts: list[pd.DataFrame] = []
    try:
        header = next(rows, None)
        if header is None or not any(cell.strip() for cell in header):
            raise InputError(f"{path} has no header.", "Its first line names the columns.")
        if len(header) == 1:
            for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
                if separator in header[0]:
                    raise InputError(f"{path} is separated by {called}.", "Save it with commas.")
        cells: list[list[str]] = []
        for row in rows:
            if not row:
                continue  # an empty line
            if len(row) != len(header):
                raise InputError(
                    f"{path}, line {rows.line_num}: {len(row)} cells under {len(header)} columns.",
                    "Put quotes round a text that has commas in it.",
                )
            cells.append(row)
            if len(cells) == _PART_ROWS:  # packed as it grows: a list of Python texts takes several times as much
                parts.append(pd.DataFrame(cells, columns=header, dtype="str"))
                cells = []
    except csv.Error as error:
        raise InputError(
            f"{path}, line {rows.line_num}: {error}.",
            "Look for a quote that is never closed; double a quote in a text.",
        ) from error
    parts.append(pd.DataFrame(cells, columns=header, dtype="str"))
    return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)


def _check_text(data: bytes, path: Path) -> None:
    """InputError where the bytes are no UTF-8 text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} is UTF-16.", _UTF8)
    if b"\0" in data:
        raise InputError(f"{path} holds a null byte at {data.index(0):,}: it is no text file, or damaged.", _UTF8)
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02X}, "
            f"{data[error.start : error.start + 1].decode('latin-1')!r} in Latin-1 (Windows-1252).",
            _UTF8,
        ) from error


def _parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}.", "Write it again, or give a CSV.") from error
    table = table.reset_index(drop=True)
    return pd.DataFrame(
        {
            position: [_cell(value, column, path) for value in table.iloc[:, position]]
            for position, column in enumerate(table)
        },
        dtype="object",
    ).set_axis(table.columns, axis=1)


def _cell(value: Any, column: Any, path: Path) -> str:
    if isinstance(value, str):
        return value
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, numbers.Number):  # 5.0 where a gap in the column has made whole numbers floats
        return str(int(value)) if value == int(value) else str(value)  # type: ignore[call-overload]
    raise InputError(
        f"{path}: column {column!r} holds {type(value).__name__} values.", "Give text or numbers in every column."
    )
