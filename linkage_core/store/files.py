"""How files of the store are written, read and checked: whole or not at all, and never used when altered."""

from __future__ import annotations

import base64
import errno
import hashlib
import importlib.metadata
import io
import json
import logging
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy

from linkage_core import shipped
from linkage_core.cohorts.base import IDS
from linkage_core.disk import lock, sync_folder
from linkage_core.errors import BusyError, StoreError
from linkage_core.heads import Heads

SCHEMA = 1
WAIT = 3600.0
"""Seconds that finished work waits for another run."""
_PAUSE = 0.1
_log = logging.getLogger(__name__)
_MOST_IDS = 1 << 26
"""Bytes of the ids of one file; a shard has 1,024 of them."""
_NOTE = b"linkage"
"""Of a Parquet file's metadata: a note of ours."""


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Finish an entry: hash its files (all but counts and locks), then write the manifest, then drop leftovers.

    `content["keep"]` lists the relative names that belong to the entry; other feature shards are removed.
    """
    keep = sorted(content.pop("keep"))
    files = {name: {"sha256": sha256(path / name), "bytes": (path / name).stat().st_size} for name in keep}
    manifest = {"schema": SCHEMA, **content, "versions": versions(), "files": files}
    write_json(path / "manifest.json", manifest | {"digest": _digest_json(manifest)})
    for leftover in path.glob("features-*.safetensors"):
        if leftover.name not in files:
            leftover.unlink()


def write_heads(path: Path, heads: Heads, record: dict[str, Any] | None = None) -> None:
    write_tensors(
        path,
        {
            "image.weight": heads.image.weight,
            "image.bias": heads.image.bias,
            "text.weight": heads.text.weight,
            "text.bias": heads.text.bias,
        },
        record or {},
    )


def write_tensors(path: Path, tensors: dict[str, np.ndarray], note: dict[str, Any]) -> None:
    """safetensors with one JSON note; the same content gives the same bytes (several metadata keys would not)."""
    _replace(path, tensor_bytes(tensors, note))


def tensor_bytes(tensors: dict[str, np.ndarray], note: dict[str, Any]) -> bytes:
    """What `write_tensors` writes. A list of `ids` is packed: of a shard's bytes it would be every seventh."""
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    if isinstance(note.get("ids"), list):
        packed = zlib.compress(json.dumps(note["ids"]).encode(), 9)
        note = {**note, "ids": base64.b85encode(packed).decode()}
    return safetensors.numpy.save(arrays, metadata={"note": json.dumps(note, sort_keys=True)})


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by name, note) of a safetensors file, memory-mapped while it is read."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            note = _note((file.metadata() or {}).get("note", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path} is no whole safetensors file ({error}).", "Delete it and make it again.") from error


def read_note(path: Path) -> dict[str, Any]:
    """The note of a safetensors file, without its tensors."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return _note((file.metadata() or {}).get("note", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path} is no whole safetensors file ({error}).", "Delete it and make it again.") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Parquet, as `table_bytes` makes it."""
    _replace(path, table_bytes(table))


def table_bytes(table: pd.DataFrame, note: dict[str, Any] | None = None) -> bytes:
    """Parquet, with a note in it. Ids, nearly all different and each like the one before, are kept by what differs: a
    third less to store than by a dictionary of them."""
    ids = [name for name in IDS if name in table and pd.api.types.is_string_dtype(table[name])]
    buffer = io.BytesIO()
    whole = pa.Table.from_pandas(table, preserve_index=False)
    if note is not None:
        whole = whole.replace_schema_metadata({**(whole.schema.metadata or {}), _NOTE: json.dumps(note)})
    pq.write_table(
        whole,
        buffer,
        compression="zstd",
        use_dictionary=[name for name in table if name not in ids],
        column_encoding=dict.fromkeys(ids, "DELTA_BYTE_ARRAY"),
    )
    return buffer.getvalue()


def note_of_table(content: bytes) -> dict[str, Any]:
    """The note in the bytes of a Parquet file; {} without one."""
    return _note((pq.read_schema(io.BytesIO(content)).metadata or {}).get(_NOTE, b"{}"))


def note_of_tensors(content: bytes) -> dict[str, Any]:
    """The note in the bytes of a safetensors file."""
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return _note(head.get("__metadata__", {}).get("note", "{}"))


def _note(text: str | bytes) -> dict[str, Any]:
    """A note as it was given; ids packed, or as a list in files made before. ValueError for what is none."""
    said = json.loads(text)
    if not isinstance(said, dict):
        return {}
    if isinstance(said.get("ids"), str):
        unpack = zlib.decompressobj()
        try:
            ids = unpack.decompress(base64.b85decode(said["ids"]), _MOST_IDS)
        except zlib.error as error:
            raise ValueError(f"its ids are not whole: {error}") from error
        if not unpack.eof:
            raise ValueError("its ids are not whole, or too many")
        said["ids"] = json.loads(ids)
    return said


def read_table(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """A Parquet file; `content` where its bytes are at hand."""
    try:
        return pd.read_parquet(path if content is None else io.BytesIO(content))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a whole Parquet file ({error}).", "Delete it and make it again.") from error


def write_json(path: Path, content: Any) -> None:
    _replace(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """A file whole, or the one that was there."""
    _replace(path, content)


def _replace(path: Path, content: bytes) -> None:
    """Write to a temporary name, force to disk, rename: a reader sees the old file or the new one.

    Only the user may read it, and list the folders that are made for it: report text and patients' ids stand there.
    """
    try:
        _written(path, content)
    except FileNotFoundError:  # whoever took the entry for writing just then has cleared the half-written file
        _written(path, content)


def _written(path: Path, content: bytes) -> None:
    private_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")  # other machines have the same process ids
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        raise StoreError(
            f"{path} could not be written: {error.strerror}. What was written before it stays valid.",
            "Make room, or give another --store; the same command then goes on where it stopped.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def writing(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold an entry for writing, and clear what killed writers left.

    wait: seconds for another run that holds it, where the work is done and would be lost. BusyError if it holds on,
    StoreError if the disk keeps no locks, or if it came with the package.
    """
    shipped.refuse_to_write(path)
    private_folder(path)
    with os.fdopen(os.open(path / ".lock", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        _locked(file.fileno(), path, wait)
        for leftover in path.rglob(".*.tmp"):
            leftover.unlink(missing_ok=True)  # counts and parts are written beside, and this one may be done by now
        yield


@contextmanager
def sharing(path: Path) -> Iterator[None]:
    """Hold an entry to add files that nobody else alters, beside others who do the same. Errors as of `writing`."""
    shipped.refuse_to_write(path)
    private_folder(path)
    # a network disk asks for reading where a lock is shared
    with os.fdopen(os.open(path / ".lock", os.O_CREAT | os.O_RDWR, 0o600), "r+") as file:
        lock(file.fileno(), path, _busy(path), shared=True)
        yield


def _busy(path: Path) -> BusyError:
    return BusyError(f"Another run is writing {path}.", "Wait until it is done, or stop it.")


def _locked(handle: int, path: Path, wait: float) -> None:
    until, said = time.monotonic() + wait, False
    while True:
        try:
            return lock(handle, path, _busy(path))
        except BusyError:
            if time.monotonic() >= until:
                raise
        if not said:
            _log.warning("Another run is writing %s: what was made is kept when it is done.", path)
            said = True
        time.sleep(_PAUSE)


def private_folder(path: Path) -> None:
    """A folder, and those above it that are not there, which only the user may list; one that is there stays as it
    is."""
    for one in reversed([path, *path.parents]):
        if not one.is_dir():
            one.mkdir(mode=0o700, exist_ok=True)


def sha256(path: Path) -> str:
    """Of a file; remembered while it stays the same by its size and by all times that a disk keeps of changes."""
    state = path.stat()
    return _remembered(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _remembered(path: Path, *state: int) -> str:
    return _hash(path)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Of the packages that a result depends on."""
    import linkage_core

    names = ("numpy", "torch", "transformers", "pandas", "pydicom", "pillow")
    return {"linkage-explorer": linkage_core.__version__} | {name: _version(name) for name in names}


@cache
def _version(name: str) -> str:
    """Looked up once: for every manifest it would be 6 files to parse."""
    return importlib.metadata.version(name)
