"""How files of the store are written, read and checked: whole or not at all, and never used when altered."""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import io
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors
import safetensors.numpy

from linkage_core import shipped
from linkage_core.cohorts.base import IDS
from linkage_core.disk import lock, sync_folder
from linkage_core.errors import BusyError, StoreError
from linkage_core.heads import Heads

SCHEMA = 1


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
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    _replace(path, safetensors.numpy.save(arrays, metadata={"note": json.dumps(note, sort_keys=True)}))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(tensors by name, note) of a safetensors file, memory-mapped while it is read."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path} is no whole safetensors file ({error}).", "Delete it and make it again.") from error


def read_note(path: Path) -> dict[str, Any]:
    """The note of a safetensors file, without its tensors."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path} is no whole safetensors file ({error}).", "Delete it and make it again.") from error
    return note if isinstance(note, dict) else {}


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Parquet. Ids, nearly all different and each like the one before, are kept by what differs: a third less to store
    than by a dictionary of them."""
    ids = [name for name in IDS if name in table and pd.api.types.is_string_dtype(table[name])]
    buffer = io.BytesIO()
    table.to_parquet(
        buffer,
        index=False,
        compression="zstd",
        use_dictionary=[name for name in table if name not in ids],
        column_encoding=dict.fromkeys(ids, "DELTA_BYTE_ARRAY"),
    )
    _replace(path, buffer.getvalue())


def read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is not a whole Parquet file ({error}).", "Delete it and make it again.") from error


def write_json(path: Path, content: Any) -> None:
    _replace(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    """Write to a temporary name, force to disk, rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")  # other machines have the same process ids
    try:
        with temporary.open("wb") as file:
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
def writing(path: Path) -> Iterator[None]:
    """Hold an entry for writing, and clear what killed writers left.

    BusyError if another process holds it, if the disk keeps no locks, or if it came with the package.
    """
    shipped.refuse_to_write(path)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w") as file:
        lock(file.fileno(), path, _busy(path))
        for leftover in path.rglob(".*.tmp"):
            leftover.unlink()
        yield


@contextmanager
def sharing(path: Path) -> Iterator[None]:
    """Hold an entry to add files that nobody else alters, beside others who do the same. Errors as of `writing`."""
    shipped.refuse_to_write(path)
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("a+") as file:  # a network disk asks for reading where a lock is shared
        lock(file.fileno(), path, _busy(path), shared=True)
        yield


def _busy(path: Path) -> BusyError:
    return BusyError(f"Another run is writing {path}.", "Wait until it is done, or stop it.")


def sha256(path: Path) -> str:
    """Of a file; remembered while its size and time of change stay the same."""
    state = path.stat()
    return _remembered(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ino)


@lru_cache(maxsize=4096)
def _remembered(path: Path, size: int, changed: int, inode: int) -> str:
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
    return {"linkage-explorer": linkage_core.__version__} | {name: importlib.metadata.version(name) for name in names}
