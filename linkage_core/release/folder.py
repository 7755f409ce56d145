"""A release folder: data, `certificate.json` and `release.html`; written whole or not at all, and checked whole.

    records.parquet         an opaque record number and a code, a vector or scores; not with `statistics`
    codebook.safetensors    the public codebook; with `codes` alone
    statistics.safetensors  noisy sums over patients; with `statistics` alone
    certificate.json        what was done, the limit, for whom it holds, what must not travel along, sha256 of the files
    release.html            the same for a person

Nothing else may be in it: every further column or file could carry more than the certificate limits, so `check` refuses
a folder that has one, and names it.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkage_core import __version__
from linkage_core.disk import lock
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.release import certificate, page, stated
from linkage_core.release.certificate import PAGE, SCHEMA, Certificate
from linkage_core.release.checks import ASK
from linkage_core.release.kind import Column
from linkage_core.release.records import LABEL_COLUMNS, TABLE
from linkage_core.release.table import kind_of
from linkage_core.store.files import sha256, write_json

_LIMITED_TOO_LITTLE = 2
"""The schema before, in which statistics stated one figure."""
CERTIFICATE = "certificate.json"

_LONG_AGO = 3600.0
"""Seconds."""
NUMBER_BYTES = 8
"""Of a record number, written as twice as many hexadecimal digits."""


def require_free(out: Path) -> None:
    """InputError where a release cannot be written to `out`: it exists, or there is no folder to hold it."""
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists.", "A release is never written over anything: name a new folder.")
    if not out.resolve().parent.is_dir():
        raise InputError(f"There is no folder {out.resolve().parent}.", "Make it, or name another place.")
    if not os.access(out.resolve().parent, os.W_OK):
        raise InputError(f"{out.resolve().parent} cannot be written.", "Name a place that you may write to.")


class Making:
    """A release that is being written, in a hidden folder beside its place: data first, certificate and page last.

    path: where the files stand until they are finished.
    """

    def __init__(self, path: Path, out: Path) -> None:
        self.path, self._out = path, out
        self._files: dict[str, dict[str, Any]] = {}

    def write(self, data: Mapping[str, Callable[[Path], None]]) -> None:
        """The data files, by their writers."""
        for name, save in data.items():
            save(self.path / name)
            self._files[name] = _described(self.path / name)

    def files(self) -> dict[str, str]:
        """{name: sha256} of the data files written so far."""
        return {name: said["sha256"] for name, said in self._files.items()}

    def finish(self, said: Mapping[str, Any]) -> Certificate:
        """Page and certificate; then the folder is checked and gets its name. said: certificate.STATED without
        `files`."""
        drawn = page.render(certificate.finished({**said, "files": self._files}))
        (self.path / PAGE).write_text(drawn, encoding="utf-8")
        made = certificate.finished({**said, "files": {**self._files, PAGE: _described(self.path / PAGE)}})
        write_json(self.path / CERTIFICATE, made.content)
        check(self.path)
        self.path.rename(self._out)
        return made


@contextmanager
def begin(out: Path) -> Iterator[Making]:
    """Claim `out` for a release that is written in two steps; nobody else can until the block ends.

    The hidden folder beside `out` (mode 0700) goes with the block, whatever happened in it: what was not finished is
    gone. One that a killed release left is emptied and used, others beside it go (`_clear`). Raises InputError where
    `out` is not free, or another release is being written there.
    """
    require_free(out)
    place = out.resolve()
    hidden = place.parent / f".{place.name}.writing"
    handle = _claimed(hidden, out)
    try:
        require_free(out)  # the one who held it a moment ago may have finished
        _emptied(hidden)
        _clear(place.parent)
        (hidden / "release").mkdir()
        yield Making(hidden / "release", place)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(handle)


def _claimed(hidden: Path, out: Path) -> int:
    """A handle of the hidden folder, locked; the lock goes with the process, so a folder that can be locked is either
    new or left by a process that is dead."""
    busy = InputError(
        f"Another release is being written to {out}: {hidden} is in use.",
        "Wait until it is done, or name a new folder.",
    )
    try:
        with suppress(FileExistsError):
            hidden.mkdir(mode=0o700)
        handle = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise busy from None  # its holder removed it just now
    except OSError as error:
        raise InputError(f"{hidden} cannot be used ({error}).", "Remove it, or name another place.") from error
    try:
        lock(handle, hidden, busy)
        os.fchmod(handle, 0o700)
        if not os.path.samestat(os.fstat(handle), hidden.stat()):
            raise FileNotFoundError(hidden)
    except FileNotFoundError:
        os.close(handle)
        raise busy from None
    except LinkageError:
        os.close(handle)
        raise
    except OSError as error:
        os.close(handle)
        raise InputError(f"{hidden} cannot be locked ({error}).", "Remove it, or name another place.") from error
    return handle


def _clear(folder: Path) -> None:
    """Remove what killed releases of other names left in a folder an hour ago or more: data without a certificate."""
    for hidden in folder.glob(".*.writing"):
        with suppress(OSError, LinkageError):
            if time.time() - hidden.lstat().st_mtime < _LONG_AGO:
                continue  # whoever is making it just now may not have locked it yet
            handle = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                lock(handle, hidden, InputError(f"{hidden} is in use."))
                if {one.name for one in hidden.iterdir()} <= {"release"}:
                    shutil.rmtree(hidden)
            finally:
                os.close(handle)


def _emptied(hidden: Path) -> None:
    for left in hidden.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def save_table(table: pa.Table) -> Callable[[Path], None]:
    """A writer of records.parquet: the columns, and no metadata beside them."""
    return lambda path: pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def check(folder: Path) -> Certificate:
    """Is this folder what its certificate says, and does the certificate say what its bounds give?

    Raises InputError or StoreError that names what differs: a file, a column, a part or a note too many, too few or
    altered, a figure that the bounds do not give, a cell that is too small, a row off the sphere. It cannot tell
    whether the site did what the certificate says: only the site's ledger can.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no release folder {folder}.", "Give the folder that holds certificate.json.")
    try:
        content = _content(folder)
        _require_files(folder, content)
        kind = kind_of(content["kind"])
        kind.check(folder, content, _checked_records(folder, content) if kind.per_record else None)
        _require_page(folder, content)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StoreError(f"{folder} holds what has no meaning ({_short(error)}).", ASK) from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{folder} cannot be read ({_short(error)}).", ASK) from error
    return Certificate(content)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _described(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def _content(folder: Path) -> dict[str, Any]:
    """The certificate's JSON, if it is whole, unaltered, and what the bounds give."""
    path = folder / CERTIFICATE
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{folder} has no {CERTIFICATE}.", "A release without it promises nothing. " + ASK)
    try:
        said = path.read_text(encoding="utf-8")
        content = json.loads(said)
    except ValueError as error:
        raise StoreError(f"{path} cannot be read ({_short(error)}).", ASK) from error
    if isinstance(content, dict) and content.get("schema") == _LIMITED_TOO_LITTLE:
        raise StoreError(
            f"{path} is of schema {_LIMITED_TOO_LITTLE}, whose limit for statistics does not hold for somebody who has "
            "images and reports unpaired.",
            "Ask the site to make the release again: this version certifies both figures.",
        )
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise StoreError(f"{path} is no certificate of schema {SCHEMA}.", ASK)
    known = {*certificate.STATED, *certificate.DERIVED, "digest"}
    if odd := sorted(known ^ set(content)):
        has = "has" if odd[0] in content else "lacks"
        raise StoreError(f"{path} {has} the part {reprlib.repr(odd[0])}.", ASK)
    if content["digest"] != certificate.digest_of(content):
        raise StoreError(f"{path} was altered since it was written: its digest differs.", ASK)
    try:
        fresh = certificate.derived({name: content[name] for name in certificate.STATED})
    except LinkageError as error:
        raise StoreError(f"{path} states what has no meaning: {error.what}", ASK) from error
    where = stated.difference({name: content[name] for name in certificate.DERIVED}, fresh)
    if where:
        raise StoreError(
            f"{path}: {reprlib.repr(where)[1:-1]} is not what the bounds give for this release.",
            "It was altered, or written by another version of Linkage Explorer "
            f"({content['versions']['linkage-explorer']}). " + ASK,
        )
    if said != json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n":  # as write_json writes it
        raise StoreError(f"{path} is not written as certificates are: a space or a part stands there twice.", ASK)
    return content


def _require_files(folder: Path, content: dict[str, Any]) -> None:
    """Exactly the files of the kind, as plain files, each as certified. The page may be left out, see _require_page."""
    said, wanted = content["files"], {*kind_of(content["kind"]).data_files, PAGE}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    if extra := sorted(found - wanted - {CERTIFICATE}):
        raise StoreError(
            f"{folder} has {extra[0]!r}, which is no part of this release"
            + (f" (and {len(extra) - 1} more)." if len(extra) > 1 else "."),
            "Whatever travels along can link: remove it, and ask the site how it came there.",
        )
    if odd := sorted(wanted ^ set(said)):
        raise StoreError(
            f"The certificate lists {odd[0]!r}, which is no part of this release."
            if odd[0] in said
            else f"The certificate does not list {odd[0]}.",
            ASK,
        )
    if _other_version(content) and PAGE not in found:
        wanted.remove(PAGE)
    for name in sorted(wanted):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise StoreError(f"{path} is missing.", ASK)
    column = kind_of(content["kind"]).column
    if column is not None:
        _require_columns(folder / TABLE, content, column)
    for name in sorted(wanted):
        path = folder / name
        if path.stat().st_size != said[name]["bytes"] or sha256(path) != said[name]["sha256"]:
            raise StoreError(f"{path} was altered since it was certified: its sha256 differs.", ASK)


def _other_version(content: dict[str, Any]) -> bool:
    return bool(content["versions"]["linkage-explorer"] != __version__)


def _require_page(folder: Path, content: dict[str, Any]) -> None:
    """The page is the one that this certificate gives, to the byte: a person reads it, and nobody reads its comments.

    Another version may word it otherwise. Then nobody can tell, and a recipient goes by the certificate alone: the page
    has to be removed, unread.
    """
    path = folder / PAGE
    if not path.exists():
        return
    data = {name: said for name, said in content["files"].items() if name != PAGE}
    if path.read_bytes() == page.render(Certificate({**content, "files": data})).encode():
        return
    if _other_version(content):
        raise StoreError(
            f"{path} cannot be compared with its certificate: it was made by version "
            f"{content['versions']['linkage-explorer']}, and this is {__version__}.",
            f"Delete {PAGE} unread and check again: {CERTIFICATE} then stands alone. Or check with that version.",
        )
    raise StoreError(f"{path} is not the page of its certificate.", ASK)


def _require_columns(path: Path, content: dict[str, Any], column: Column) -> None:
    """Exactly the columns of the kind, of the right types, with nothing written beside them."""
    try:
        with pq.ParquetFile(path) as file:
            schema, notes, writer = file.schema_arrow, file.metadata.metadata, file.metadata.created_by
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is not a whole Parquet file ({_short(error)}).", ASK) from error
    wanted = ("record", column.name, *(LABEL_COLUMNS if content["one_label"] else ()))
    if extra := [name for name in schema.names if name not in wanted]:
        raise StoreError(
            f"{path} has the column {reprlib.repr(extra[0])}, which is no part of this release.",
            "Whatever travels along can link, and the certificate is void: ask the site how it came there.",
        )
    if tuple(schema.names) != wanted:
        raise StoreError(f"{path} has the columns {', '.join(schema.names)}.", f"It should have {', '.join(wanted)}.")
    types = {"record": pa.string(), "finding": pa.int8(), "present": pa.bool_()}
    types |= {column.name: column.type(content["mechanism"])}
    for field in schema:
        if field.type != types[field.name]:
            raise StoreError(
                f"{path}: column {field.name!r} is of type {field.type}.", f"It should be {types[field.name]}."
            )
    fields = [*schema, *(field.type.value_field for field in schema if pa.types.is_fixed_size_list(field.type))]
    named = {*wanted, "element", "item"}
    beside = schema.metadata or {*(notes or {})} - {b"ARROW:schema"}
    if beside or any(field.metadata or field.name not in named for field in fields):
        raise StoreError(f"{path} carries metadata beside its columns.", ASK)
    if not re.fullmatch(r"parquet-cpp-arrow version [0-9.]{1,20}(-SNAPSHOT)?", writer or ""):
        raise StoreError(f"{path} carries a note of its writer: {reprlib.repr(writer)}.", ASK)


def _checked_records(folder: Path, content: dict[str, Any]) -> pa.Table:
    """The table of records: numbers opaque, unique and in order, as many rows as stated, findings of the list."""
    path = folder / TABLE
    table = pq.read_table(path)
    if len(table) != content["cohort"]["n_records"]:
        raise StoreError(f"{path} has {len(table):,} records, not {content['cohort']['n_records']:,}.", ASK)
    if any(column.null_count for column in table.columns):
        raise StoreError(f"{path} has empty cells.", ASK)
    opaque = pc.match_substring_regex(table.column("record"), f"^[0-9a-f]{{{2 * NUMBER_BYTES}}}$")
    if not pc.all(opaque).as_py():
        raise StoreError(
            f"{path}: a record number is not {2 * NUMBER_BYTES} hexadecimal digits.",
            "Whatever stands there in its place can link: ask the site how it came there.",
        )
    numbers = table.column("record").to_numpy()
    if (numbers[1:] <= numbers[:-1]).any():
        raise StoreError(f"{path}: rows do not stand in the order of their numbers.", ASK)
    if content["one_label"]:
        which = table.column("finding").to_numpy()
        if not ((which >= 0) & (which < len(content["one_label"]["findings"]))).all():
            raise StoreError(f"{path}: a finding lies outside the list of the certificate.", ASK)
    return table
