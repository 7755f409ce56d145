"""Arrays that somebody else made, from files: one row a record, a column a dimension. No file is ever unpickled."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors

from linkage_core import bounded
from linkage_core.cohorts import own
from linkage_core.cohorts.manifest import plain, refuse_large
from linkage_core.errors import InputError
from linkage_core.validate import in_utf8

TAKEN = ".npy, .npz (one array), .safetensors (one tensor) or Parquet"
_REMEDY = f"Give a matrix of floats, one row a record, as {TAKEN}."
_MOST = 1 << 32
"""Bytes that a packed array may always have; above it, a hundred times its packed size."""
_MOST_PARQUET = 1 << 36
_BROKEN = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, SyntaxError, OverflowError, pa.ArrowException),
)
"""What reading an array of somebody else may end in."""
_NUMBERED = re.compile(r"(.*?)(\d+)")
_INDEX = re.compile(r"__index_level_\d+__")
_ROW_NUMBERS = ("", "index", "unnamed0", "row", "rownumber")
_PICKLE = (
    "a PyTorch or pickle file: it may run a program when it is opened, and is never opened here",
    "Save the tensor as .npy where it was made: numpy.save('image.npy', tensor.float().cpu().numpy()).",
)
_OTHERS = {
    **{bytes((0x80, protocol)): _PICKLE for protocol in range(2, 6)},
    b"\x89HDF": ("an HDF5 file", "Save the array as .npy: numpy.save('image.npy', file['name'][:])."),
    b"MATLAB": ("a MATLAB file", "Save the array as .npy."),
    b"\x1f\x8b": ("packed by gzip", "Unpack it first."),
    b"ARROW1": ("an Arrow (Feather) file", "Save it as Parquet."),
}
"""How files begin that are no arrays, what they are, and what to do."""


@dataclass
class Loaded:
    """One file: `values` (n_rows, n_dimensions) floats; `dimensions` their names where they are not simply counted;
    `ids` columns of text that may say which record a row is; `listed`: the vectors are lists, so that other columns
    are no dimensions."""

    path: Path
    values: np.ndarray
    dimensions: list[str] = field(default_factory=list)
    ids: dict[str, list[str]] = field(default_factory=dict)
    listed: bool = False


def read_pair(image: Path, text: Path, record_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(image vectors, text vectors, notes), both (n_rows, n_dimensions), rows and columns put in order.

    Rows are those of the record table, in its order. Where a Parquet file has a column (or index) with exactly the
    record ids, its rows are put into that order; where it has some of them, it is refused. Columns named by numbers (0,
    dim_0, ...) are put into the order of these; columns with other names must have the same names in both files.
    Raises InputError for whatever is no matrix of floats, and says what it is.
    """
    notes: list[str] = []
    one, other = (_in_order(read_array(path), list(record_ids), notes) for path in (image, text))
    if one.dimensions != other.dimensions:
        lacking = sorted(set(one.dimensions) ^ set(other.dimensions))
        if lacking:
            where = other.path if lacking[0] in one.dimensions else one.path
            raise InputError(
                f"{where} has no column {lacking[0]!r}, which the other array has: the columns are not named alike.",
                "Name the dimensions by numbers (0, 1, ...) in both files, or alike, so that they can be put in order.",
            )
        at = {name: place for place, name in enumerate(other.dimensions)}
        other = replace(other, values=other.values[:, [at[name] for name in one.dimensions]])
        notes.append(f"columns of {text.name} were put into the order of those of {image.name}, by their names")
    if np.array_equal(one.values, other.values):
        notes.append("both arrays hold the same numbers: is one of them the other's file?")
    return one.values, other.values, notes


def read_array(path: Path) -> Loaded:
    """One file's floats; the kind is told by content, and InputError says what it is where it is none of these."""
    in_utf8(path)
    if not path.is_file():
        raise InputError(f"{path} is a folder." if path.is_dir() else f"There is no file {path}.", _REMEDY)
    try:
        with bounded.regular(path) as file:
            begin = file.read(512)
        if begin.startswith(b"\x93NUMPY"):
            return Loaded(path, _npy(path))
        if begin.startswith(b"PK"):
            return Loaded(path, _npz(path))
        if begin.startswith(b"PAR1"):
            return _parquet(path)
        if path.suffix.lower() == ".safetensors":
            return Loaded(path, _safetensors(path))
    except _BROKEN as error:
        raise InputError(f"{path} cannot be read as an array: {_said(error)}.", _REMEDY) from error
    raise InputError(*_what_else(path, begin))


def _what_else(path: Path, begin: bytes) -> tuple[str, str]:
    """What a file is that is no array, and the remedy."""
    suffix = path.suffix.lower()
    if not begin:
        return f"{path} is empty.", _REMEDY
    if suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"):
        return f"{path} is {_PICKLE[0]}.", _PICKLE[1]
    for magic, (what, remedy) in _OTHERS.items():
        if begin.startswith(magic):
            return f"{path} is {what}.", remedy
    try:
        begin[:-4].decode()
    except UnicodeDecodeError:
        return f"{path} is no array: it begins with {begin[:8].hex(' ')}.", _REMEDY
    what = "a table of text" if suffix in (".csv", ".tsv", ".txt") or b"," in begin else "text"
    return (
        f"{path} is {what}, no array.",
        "Save the numbers as .npy, or as Parquet with a column a dimension (and one with the record_id).",
    )


def _said(error: BaseException) -> str:
    """What numpy says, without its advice to open a pickle."""
    text = str(error) or type(error).__name__
    return "it holds Python objects, not numbers" if "pickle" in text.lower() else text


def _npy(path: Path) -> np.ndarray:
    with bounded.regular(path) as file:
        return _read_npy(file, path.stat().st_size)


def _read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """One array in numpy's format of so many bytes; ValueError where it says that it is longer than that."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"it is of version {version[0]}.{version[1]} of numpy's format")
    shape, by_columns, dtype = readers[version](file, max_header_size=4096)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    count = math.prod(shape)
    if count * dtype.itemsize > size:
        raise ValueError(f"it says that it has the shape {shape}, and the file has {size:,} bytes")
    values = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return values.reshape(shape, order="F" if by_columns else "C")


def _npz(path: Path) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    arrays = [name for name in names if name.endswith(".npy")]
    if any(name.endswith(".pkl") for name in names):
        raise InputError(f"{path} is {_PICKLE[0]}.", _PICKLE[1])
    if not arrays:
        raise InputError(f"{path} is a ZIP archive without arrays.", _REMEDY)
    if len(arrays) > 1:
        shown = ", ".join(name.removesuffix(".npy") for name in arrays[:10])
        raise InputError(f"{path} holds {len(arrays)} arrays: {shown}.", "An .npz holds exactly one: save it as .npy.")
    with bounded.regular(path) as packed, zipfile.ZipFile(packed) as archive:
        size = archive.getinfo(arrays[0]).file_size
        if size > max(_MOST, bounded.MOST_TIMES * path.stat().st_size):
            raise ValueError(f"it says that it has {size:,} bytes unpacked")
        with bounded.member(archive, arrays[0]) as file:
            return _read_npy(file, size)


def _safetensors(path: Path) -> np.ndarray:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            if len(names) != 1:
                shown = ", ".join(names[:10])
                raise InputError(f"{path} holds {len(names)} tensors: {shown}.", "It must hold exactly one.")
            kind = file.get_slice(names[0]).get_dtype()
            if kind.startswith(("BF", "F8")):
                raise InputError(f"{path} holds {kind} numbers, which numpy does not know.", "Save it as float32.")
            return np.asarray(file.get_tensor(names[0]))
    except safetensors.SafetensorError as error:
        raise InputError(f"{path} is no whole safetensors file: {error}.", "Save it again.") from error


# --------------------------------------------------------------------------------------------------------- Parquet


def _parquet(path: Path) -> Loaded:
    try:
        file = pq.ParquetFile(path)
        refuse_large(path, file.metadata, _MOST_PARQUET)
        names = [str(name) for name in file.schema_arrow.names]
        for name, times in Counter(names).items():
            if times > 1:
                raise InputError(f"{path} has the column {name!r} more than once.", "Keep one of them.")
        table = file.read()
    except pa.ArrowException as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}.", "Write it again, or give a .npy.") from error
    columns = {name: table.column(at) for at, name in enumerate(names)}
    lists = [name for name in names if _is_list(columns[name].type)]
    if len(lists) > 1:
        raise InputError(
            f"{path} has {len(lists)} columns of lists: {', '.join(lists)}.", "Leave in the one that holds the vectors."
        )
    if lists:
        ids = {name: texts for name in names if (texts := _ids(columns[name])) is not None}
        return Loaded(path, _listed(columns[lists[0]], path, lists[0]), [], ids, listed=True)
    return _wide(path, columns)


def _wide(path: Path, columns: dict[str, pa.ChunkedArray]) -> Loaded:
    """A column a dimension: those of floats, or numbered integers where there are none; not what a record table has."""
    known = {plain(name) for name in (*own.COLUMNS, *_ROW_NUMBERS, "id")}
    floats = [name for name in columns if pa.types.is_floating(columns[name].type) and plain(name) not in known]
    whole = [name for name in columns if pa.types.is_integer(columns[name].type) and _NUMBERED.fullmatch(name)]
    dimensions = floats or [name for name in whole if not _INDEX.fullmatch(name) and plain(name) not in known]
    if not dimensions:
        raise InputError(f"{path} has no columns of floats; it has: {', '.join(columns)}.", _REMEDY)
    ids: dict[str, list[str]] = {}
    for name in columns:
        if name not in dimensions:
            texts = _ids(columns[name])
            if texts is None:
                raise _neither(path, name)
            ids[name] = texts
    stems = [found[1] if (found := _NUMBERED.fullmatch(name)) else None for name in dimensions]
    most = max(stems, key=stems.count)
    if most is None:  # names of their own: which is which is told by the other file
        ordered, names = dimensions, dimensions
    else:
        for name, stem in zip(dimensions, stems, strict=True):
            if stem != most:
                raise _neither(path, name)
        number = {name: int(name.removeprefix(most)) for name in dimensions}
        ordered, names = sorted(dimensions, key=number.__getitem__), []
        begin = min(number[ordered[0]], 1)
        for at, name in enumerate(ordered, begin):
            if number[name] != at:
                raise InputError(
                    f"{path} has no column {most}{at} among its {len(dimensions):,} numbered columns.",
                    "Dimensions are numbered from 0 or 1, each number once: write the array again.",
                )
    return Loaded(path, _floats(np.column_stack([columns[name].to_numpy() for name in ordered])), names, ids)


def _neither(path: Path, name: str) -> InputError:
    return InputError(
        f"{path} has the column {name!r}, which is neither a dimension nor the record ids.",
        "Leave it out: one column a dimension, all floats, and the record_id.",
    )


def _floats(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) if values.dtype.kind in "iu" else values


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _listed(column: pa.ChunkedArray, path: Path, name: str) -> np.ndarray:
    """(n_rows, n_dimensions) of a column with one list a row."""
    kind = column.type.value_type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise InputError(f"{path}: column {name!r} holds lists of {kind}.", "Give lists of floats.")
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    flat = array.flatten()
    odd = np.flatnonzero(~(lengths == lengths[0])) if len(lengths) else np.array([], int)
    if array.null_count or len(odd) or flat.null_count:
        row = int(odd[0]) if len(odd) else 0
        raise InputError(
            f"{path}: not every row of {name!r} holds a list of the same length without gaps"
            + (f": row {row} differs from row 0." if len(odd) else "."),
            "Give every record a vector of the same length.",
        )
    values = flat.to_numpy(zero_copy_only=False)
    return _floats(values.reshape(len(array), -1)) if len(array) else np.empty((0, 0), np.float32)


def _ids(column: pa.ChunkedArray) -> list[str] | None:
    """The cells as text where a column may say which record a row is; None for other values."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    values = column.to_pylist() if not pa.types.is_nested(kind) else []
    if pa.types.is_floating(kind) and all(value is not None and value.is_integer() for value in values):
        values = [int(value) for value in values]
    elif not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    return ["" if value is None else str(value).strip() for value in values]


def _in_order(loaded: Loaded, record_ids: list[str], notes: list[str]) -> Loaded:
    """The rows in the order of the records, by whichever column has exactly their ids; without one as they stand."""
    wanted = set(record_ids)
    for name, ids in loaded.ids.items():
        if len(ids) == len(wanted) and set(ids) == wanted:
            others = [other for other in loaded.ids if other != name and not _INDEX.fullmatch(other)]
            notes += [f"the column {other!r} of {loaded.path.name} is not read" for other in others]
            at = {one: place for place, one in enumerate(ids)}
            order = [at[one] for one in record_ids]
            if order != sorted(order):
                notes.append(
                    f"rows of {loaded.path.name} were put into the order of the records, by its column {name!r}"
                )
            return replace(loaded, values=loaded.values[order])
    for name, ids in loaded.ids.items():
        if (note := _not_ids(loaded, name, ids, record_ids)) is not None:
            notes.append(note)
    return loaded


def _not_ids(loaded: Loaded, name: str, ids: list[str], record_ids: list[str]) -> str | None:
    """What to say of a column that is neither dimension nor record ids; InputError where it cannot be left out."""
    path, known = loaded.path, len(set(ids) & set(record_ids))
    numbers = [int(one) if one.isdecimal() else -1 for one in ids]
    counted = numbers == list(range(len(ids))) or numbers == list(range(1, len(ids) + 1))
    if plain(name) == "recordid" or (known and min(numbers, default=0) < 0):
        absent = next((one for one in record_ids if one not in set(ids)), None)
        what = "some come twice, or are not in the table" if absent is None else f"it has no {absent!r}"
        raise InputError(
            f"{path}: the ids in {name!r} are not those of the record table ({known:,} of {len(record_ids):,} are): "
            f"{what}.",
            "Give one row for each record, with its record_id; or leave the column out and keep the table's order.",
        )
    if counted and plain(name) in (*_ROW_NUMBERS, "id"):
        return None
    if _INDEX.fullmatch(name):
        falls = any(after < before for before, after in pairwise(numbers))
        said = f"the index of {path.name} goes up and down and has no record ids: rows were taken as they stand"
        return said if falls else None
    if loaded.listed:
        return f"the column {name!r} of {path.name} is not read"
    raise _neither(path, name)
