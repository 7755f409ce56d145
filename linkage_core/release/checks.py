"""Checks of data files that several kinds of release make of what came: nothing in them but what they say."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from linkage_core.errors import StoreError
from linkage_core.release import stated
from linkage_core.release.records import TABLE, read_vectors

ASK = "Ask the site for the release again, and tell them what this said."

_OFF_SPHERE = 1e-3


def require_vectors(folder: Path, content: Mapping[str, Any], table: pa.Table) -> None:
    """Every number is finite, and where the mechanism has a dimension every row is on the sphere."""
    path, rows = folder / TABLE, read_vectors(folder).astype(np.float64)
    if not np.isfinite(rows).all():
        raise StoreError(f"{path}: a number is not finite.", ASK)
    if "dimension" in content["mechanism"]:
        off = np.flatnonzero(np.abs(np.linalg.norm(rows, axis=1) - 1) > _OFF_SPHERE)
        if len(off):
            number = table.column("record").to_numpy()[off[0]]
            raise StoreError(f"{path}: the vector of record {number} is off the sphere.", ASK)


def require_tensors(path: Path, types: Mapping[str, str], note: stated.Shape) -> None:
    """A safetensors file of exactly these tensors, {name: type}, with one note of that shape and nothing around it."""
    with path.open("rb") as file:
        said = file.read(int.from_bytes(file.read(8), "little"))
    head = json.loads(said)
    held = head.pop("__metadata__", {})
    if odd := sorted({*head} ^ {*types}):
        raise StoreError(f"{path} {'has' if odd[0] in head else 'lacks'} the tensor {reprlib.repr(odd[0])}.", ASK)
    for name, kind in types.items():
        if head[name]["dtype"] != kind:
            raise StoreError(f"{path}: {name} is of type {head[name]['dtype']}, not {kind}.", ASK)
    if set(held) != {"note"}:
        raise StoreError(f"{path} carries other notes than its own.", ASK)
    told = json.loads(held["note"])
    if where := stated.misfit(note, told):
        raise StoreError(f"{path}: in its note {where}", ASK)
    plain = json.dumps({"__metadata__": held, **head}, separators=(",", ":"), ensure_ascii=False).encode()
    if held["note"] != json.dumps(told, sort_keys=True) or len(said.rstrip(b" ")) != len(plain) or len(said) % 8:
        raise StoreError(f"{path}: its header holds more than it says.", ASK)
