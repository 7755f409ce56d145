"""A table on disk -> text cells, or one sentence about what is wrong with it. Every reader of a table reads here."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkage_core import bounded
from linkage_core.cohorts.base import Understood
from linkage_core.errors import InputError
from linkage_core.validate import in_utf8, nearest

MAX_BYTES = 1 << 31
MAX_ROWS = 10_000_000
_PART_ROWS = 50_000
_LONGEST_CELL = 1 << 24
"""Letters that a cell may have: beyond that a quote was never closed. Which reports are too long, cohorts say."""
_LONGEST_ROW = 1 << 25
"""Letters of a row, and _MOST_COLUMNS cells of a header: a few bytes unpack to as many commas as fill all memory."""
_MOST_COLUMNS = 1 << 17
_COMPARED = 200
"""Columns that are looked at for a name that was meant: of a table with more, the first."""
_PIECE = 1 << 20
"""Bytes read at a time."""
_UTF8 = "Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8')."
_PACKED = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "Unpack it, or save it as 'CSV UTF-8'."),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "Save it as 'CSV UTF-8'."),
    b"\xfd7zXZ": ("packed by xz", "Unpack it, or pack it with gzip."),
    b"BZh": ("packed by bzip2", "Unpack it, or pack it with gzip."),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "Unpack it, or pack it with gzip."),
}
"""How files begin that are no text, what they are, and what to do."""
_ROW_NUMBERS = ("", "row", "index", "id", "no", "nr", "number", "unnamed0", "rownames", "x")
"""What a column that numbers the rows is called, as `plain` has it."""
_WHOLE_FLOATS = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
"""Up to which whole number a float tells every two of them apart."""


def read_manifest(path: Path) -> pd.DataFrame:
    """Every column of a table; see `read_table`."""
    return read_table(path)


def read_table(
    path: Path,
    needed: Sequence[str] = (),
    optional: Sequence[str] = (),
    *,
    loosely: bool = False,
    ids: Sequence[str] = (),
    understood: Understood | None = None,
) -> pd.DataFrame:
    """These columns of a CSV or Parquet table as text cells, "" where empty; rows in order, index 0..n-1.

    Without `needed` and `optional` every column; else the columns come under these names, optional ones that are not
    there do not, and what stands in the others does not matter. `loosely`: case, blanks and signs in names do not
    matter ("Patient ID" is patient_id). `ids` are columns whose numbers must keep every digit. Notes, and the columns
    read and left, are written into `understood`.

    The kind is told by content: Parquet, or text (UTF-8, commas), plain or gzipped. The index of a frame saved as
    Parquet is a column like any other. One empty cell more than the header at the end of every row (a comma too many)
    is dropped and noted. Raises InputError naming the file and the place: not there, packed otherwise, not UTF-8, null
    bytes, no header, no rows, a column that is missing or comes twice, a row with too many or too few cells, a quote
    that is never closed, another separator than the comma.
    """
    told = Understood() if understood is None else understood
    in_utf8(path)
    try:
        if not path.is_file():
            what = f"{path} is a folder." if path.is_dir() else f"There is no file {path}."
            raise InputError(what, "Give the name of a table, CSV or Parquet.")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes.", f"At most {MAX_BYTES:,} are read: split it.")
        begin = _begin(path)
        for magic, (what, remedy) in _PACKED.items():
            if begin.startswith(magic):
                raise InputError(f"{path} is {what}.", remedy)
        choose = _Choice(path, needed, optional, loosely, told)
        if begin.startswith(b"PAR1") or path.suffix.lower() in (".parquet", ".pq"):
            table = _parquet(path, choose, ids)
        else:
            table = _csv(path, begin, choose)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise InputError(
            f"{path} cannot be read as a table: {error}.", "Check the file and its permissions."
        ) from error
    if table.empty:
        raise InputError(f"{path} has no rows.", "Give one row for each record.")
    return table


def plain(name: str) -> str:
    """A column's name without case, blanks and signs.

    >>> plain("Patient-ID "), plain("pleural_effusion")
    ('patientid', 'pleuraleffusion')
    """
    return re.sub(r"[\W_]+", "", name.lower())


class _Choice:
    """Which columns of a header are read, and under which names."""

    def __init__(
        self, path: Path, needed: Sequence[str], optional: Sequence[str], loosely: bool, understood: Understood
    ) -> None:
        self._path, self._needed, self._wanted = path, needed, (*needed, *optional)
        self._spelled: Callable[[str], str] = plain if loosely else str
        self._loosely = loosely
        self.understood = understood

    def __call__(self, header: Sequence[str]) -> tuple[list[str], list[int]]:
        """(names, positions) of the columns to read."""
        if len(header) > _MOST_COLUMNS:
            raise InputError(
                f"{self._path} has {len(header):,} columns.", f"At most {_MOST_COLUMNS:,} are read: check what it is."
            )
        columns = [str(column).strip() for column in header]
        if not self._wanted:
            for column, times in Counter(columns).items():
                if column and times > 1:
                    raise InputError(f"{self._path} has the column {column!r} more than once.", "Keep one of them.")
            return columns, list(range(len(columns)))
        known = {self._spelled(name): name for name in self._wanted}
        found: dict[str, int] = {}
        for at, column in enumerate(columns):
            name = known.get(self._spelled(column))
            if name is None:
                continue
            if name in found:
                other = columns[found[name]]
                twice = f"{column!r} more than once" if other == column else f"{other!r} and {column!r} for one column"
                raise InputError(f"{self._path} has the column {twice}.", "Keep one of them.")
            found[name] = at
        for name in self._needed:
            if name not in found:
                shown = ", ".join(columns[:40]) + (", ..." if len(columns) > 40 else "")
                near = nearest(name, columns)
                raise InputError(
                    f"{self._path} has no column {name!r}; it has: {shown}.{near}",
                    f"It needs {', '.join(self._needed)}.",
                )
        taken = set(found.values())
        left = [column for at, column in enumerate(columns) if at not in taken]
        self.understood.columns[self._path.name] = ({name: columns[at] for name, at in found.items()}, left)
        if self._loosely:
            absent = [name for name in self._wanted if name not in found]
            for column in left[:_COMPARED]:
                if near := nearest(column, absent):
                    self.understood.note(f"the column {column!r} of {self._path.name} is not read.{near[:-1]}")
        return list(found), list(found.values())


# ------------------------------------------------------------------------------------------------------------ text


def _begin(path: Path) -> bytes:
    """The first bytes of a file, unpacked where it is gzipped."""
    with opened(path) as file:
        return file.read(8)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The bytes of a file, unpacked where its content is gzipped, whatever its name."""
    with bounded.regular(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


class _Checked(io.BufferedIOBase):
    """Bytes on their way into a text, in large pieces, refused where they are none."""

    def __init__(self, file: Any, path: Path) -> None:
        self._file, self._path, self._at = file, path, 0
        self._most = min(MAX_BYTES, bounded.unpacked_size(path.stat().st_size))

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(max(size, _PIECE))
        null = data.find(b"\0")
        if null >= 0:
            raise InputError(
                f"{self._path} holds a null byte at {self._at + null:,}: it is no text file, or damaged.", _UTF8
            )
        self._at += len(data)
        if self._at > self._most:
            raise InputError(
                f"{self._path} has more than {self._most:,} bytes unpacked.",
                "So much is no table of this size: check what it is, or unpack and split it.",
            )
        return data


class _Rows:
    """The rows of a text, none of them longer than _LONGEST_ROW."""

    def __init__(self, text: io.TextIOWrapper, path: Path) -> None:
        self._text, self._path, self._letters = text, path, 0
        self._reader = csv.reader(iter(self._line, ""), strict=True)

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        self._letters = 0
        return next(self._reader)

    @property
    def line_num(self) -> int:
        return self._reader.line_num

    def _line(self) -> str:
        line = self._text.readline(_LONGEST_ROW + 1)
        self._letters += len(line)
        if self._letters > _LONGEST_ROW:
            raise InputError(
                f"{self._path}, line {self.line_num + 1}: a row of more than {_LONGEST_ROW:,} letters.",
                "Look for a quote that is never closed, or check what this file is.",
            )
        return line


def _csv(path: Path, begin: bytes, choose: _Choice) -> pd.DataFrame:
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} is UTF-16.", _UTF8)
    with opened(path) as file:
        checked: Any = _Checked(file, path)
        csv.field_size_limit(_LONGEST_CELL)
        rows = _Rows(io.TextIOWrapper(checked, "utf-8-sig", newline=""), path)
        try:
            return _rows(path, rows, choose)
        except UnicodeDecodeError as error:
            raise InputError(_not_utf8(path), _UTF8) from error
        except csv.Error as error:
            raise InputError(
                f"{path}, line {rows.line_num}: {error}.",
                "Look for a quote that is never closed; double a quote in a text.",
            ) from error


def _rows(path: Path, rows: _Rows, choose: _Choice) -> pd.DataFrame:
    header = next(rows, None)
    if header is None or not any(cell.strip() for cell in header):
        raise InputError(f"{path} has no header.", "Its first line names the columns.")
    if len(header) == 1:
        for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in header[0]:
                raise InputError(f"{path} is separated by {called}.", "Save it with commas.")
    names, positions = choose(header)
    first = next((row for row in rows if row), None)
    more = 0 if first is None else len(first) - len(header)
    if more < 0 or (first is not None and any(cell.strip() for cell in first[len(header) :])):
        more = 0
    width = len(header) + more
    pick: Callable[[list[str]], Sequence[str]] = itemgetter(*positions)
    if len(positions) == 1:
        pick = itemgetter(slice(positions[0], positions[0] + 1))
    numbered = bool(more)  # does the first column number the rows, from 0 or from 1?
    begin = first[0].strip() if first else ""
    count = 0
    parts: list[list[pa.Array]] = []
    cells: list[Sequence[str]] = []
    row = first
    while row is not None:
        if row:  # else an empty line
            if len(row) != width or (more and any(cell.strip() for cell in row[len(header) :])):
                what = f"{path}, line {rows.line_num}: {len(row)} cells under {len(header)} columns."
                if _one_more(row, header, rows):
                    raise InputError(
                        what, "Name every column in the header, the first cells of the rows too where they number them."
                    )
                raise InputError(what, "Put quotes round a text that has commas in it.")
            if numbered:
                numbered = begin in ("0", "1") and row[0].strip() == str(int(begin) + count)
            count += 1
            if count > MAX_ROWS:
                raise InputError(f"{path} has more than {MAX_ROWS:,} rows.", "Split it.")
            cells.append(pick(row))
            if len(cells) == _PART_ROWS:  # packed as it grows: a list of Python texts takes several times as much
                parts.append([pa.array(column, pa.large_string()) for column in zip(*cells, strict=True)])
                cells = []
        row = next(rows, None)
    if numbered and count > 1 and plain(header[0]) not in _ROW_NUMBERS:
        raise InputError(
            f"{path}: every row has {more} cell more than the header, the last one empty, and the first cells number "
            f"the rows, under {header[0]!r}.",
            "Name the column of the row numbers in the header, or take away the comma at the end of each row.",
        )
    if more:
        choose.understood.note(
            f"every row of {path.name} ends in {more} empty cell{'s' * (more > 1)} more than the header: left out"
        )
    if cells:
        parts.append([pa.array(column, pa.large_string()) for column in zip(*cells, strict=True)])
    if not parts:
        parts = [[pa.array([], pa.large_string()) for _ in names]]
    columns = [pa.chunked_array(list(column)) for column in zip(*parts, strict=True)]
    for name, column in zip(names, columns, strict=True):
        begins = pc.starts_with(column, ' "')
        if (quoted := column.filter(pc.and_(begins, pc.ends_with(column, '"')))).length():
            choose.understood.note(
                f"{quoted.length():,} of the cells of {name} in {path.name} with a blank before the quotes, which are "
                "part of the text then: save the table without blanks after its commas"
            )
    return _framed(names, columns)


def _one_more(row: list[str], header: list[str], rows: _Rows) -> bool:
    """Whether this row and the next few have one cell more than the header: then no comma in a text is the cause."""
    return all(len(one) == len(header) + 1 for one in [row, *(one for one in islice(rows, 3) if one)])


def _not_utf8(path: Path) -> str:
    """Where the first byte stands that is no UTF-8."""
    with opened(path) as file:
        data = file.read(min(MAX_BYTES, bounded.unpacked_size(path.stat().st_size)))
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return (
            f"{path} is not UTF-8: line {line} has the byte 0x{data[error.start]:02X}, "
            f"{data[error.start : error.start + 1].decode('latin-1')!r} in Latin-1 (Windows-1252)."
        )
    return f"{path} is not UTF-8."


def _framed(names: list[str], columns: list[pa.ChunkedArray]) -> pd.DataFrame:
    table = pd.DataFrame({at: pd.Series(column, dtype="str") for at, column in enumerate(columns)})
    return table.set_axis(pd.Index(names, dtype="object"), axis=1)


# --------------------------------------------------------------------------------------------------------- Parquet


def _parquet(path: Path, choose: _Choice, ids: Sequence[str]) -> pd.DataFrame:
    broken = (pa.ArrowException, ValueError, TypeError, OSError)
    try:
        schema = pq.read_schema(path)
        header = schema.names
        said_once = [field.name for field in schema if _is_text(field.type)]
        file = pq.ParquetFile(path, read_dictionary=said_once)  # a text that comes often is kept once, and counted
        refuse_large(path, file.metadata, MAX_BYTES)
    except broken as error:
        raise InputError(
            f"{path} cannot be read as a table (Parquet: {error}).", "Write it again, or give a CSV."
        ) from error
    names, positions = choose(header)
    try:
        read = file.read(columns=[header[at] for at in positions])
        columns = {name: read.column(at) for at, name in enumerate(read.column_names)}
    except broken as error:
        raise InputError(
            f"{path} cannot be read as a table (Parquet: {error}).", "Write it again, or give a CSV."
        ) from error
    _refuse_repeats(path, columns)
    texts = [_texts(columns[header[at]], name, path, name in ids) for name, at in zip(names, positions, strict=True)]
    return _framed(names, texts)


def refuse_large(path: Path, about: pq.FileMetaData, most: int) -> None:
    """InputError for a Parquet file that says it is larger than is read, whatever its size on the disk."""
    groups = (about.row_group(at) for at in range(about.num_row_groups))
    unpacked = sum(max(group.total_byte_size, 0) for group in groups)
    if unpacked > min(most, bounded.unpacked_size(path.stat().st_size)) or about.num_rows > MAX_ROWS:
        raise InputError(
            f"{path} says that it has {about.num_rows:,} rows and {unpacked:,} bytes unpacked.",
            "So much is no table of this size: check what it is, or split it.",
        )


def _refuse_repeats(path: Path, columns: dict[str, pa.ChunkedArray]) -> None:
    """InputError where texts that are written once and said often are more than is read."""
    said = 0
    for column in columns.values():
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            if _is_text(column.type.value_type):
                lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
                said += pc.sum(lengths.take(chunk.indices)).as_py() or 0
    if said > MAX_BYTES:
        raise InputError(f"{path} has {said:,} bytes of text.", f"At most {MAX_BYTES:,} are read: split it.")


def _texts(column: pa.ChunkedArray, name: str, path: Path, is_id: bool) -> pa.ChunkedArray:
    """The cells of one column as text: 5 where a gap among whole numbers has made them 5.0."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if pa.types.is_null(kind):
        return pa.chunked_array([pa.array([""] * len(column), pa.large_string())])
    if pa.types.is_boolean(kind):
        cells = ["" if value is None else str(value) for value in column.to_pylist()]
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = column.to_pylist()
        most = _WHOLE_FLOATS.get(kind, math.inf)
        if is_id and any(value is not None and math.isfinite(value) and abs(value) >= most for value in values):
            raise InputError(
                f"{path}: column {name!r} holds ids as {kind} numbers of {most:,} and more: last digits are lost.",
                "Save ids as text.",
            )
        cells = [_number(value) for value in values]
    elif _is_text(kind) or pa.types.is_integer(kind):
        try:
            return column.cast(pa.large_string()).fill_null("")
        except pa.ArrowException as error:
            raise InputError(f"{path}: column {name!r} is not UTF-8: {error}.", "Save it as text.") from error
    else:
        raise InputError(f"{path}: column {name!r} holds {_called(kind)}.", "Give text or numbers in this column.")
    return pa.chunked_array([pa.array(cells, pa.large_string())])


def _is_text(kind: Any) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    binary = (pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in (*tests, *binary))


def _called(kind: Any) -> str:
    """What the values of an Arrow type are, for people."""
    if pa.types.is_temporal(kind):
        return f"dates or times ({kind})"
    if pa.types.is_nested(kind):
        return f"{'dict' if pa.types.is_struct(kind) else 'list'} values ({kind})"
    return f"{kind} values"


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    whole = math.isfinite(value) and value == int(value)
    return str(int(value)) if whole else str(value)
