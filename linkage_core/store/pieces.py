"""What the parts of a run leave in an entry until somebody puts it together: one small file a piece.

A piece is named by what it is of the work, not by who made it. So parts of any cut, repeated parts and a run that was
killed add to the same pieces, and a piece that is there is never made again. Each carries what it was made from and the
sha256 of its arrays: one of other inputs, cut short or altered counts as absent.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core import shipped
from linkage_core.errors import StoreError
from linkage_core.store.files import read_tensors, write_tensors

FOLDER = "parts"


class Pieces:
    """The pieces of some work in an entry. `names` of all of them, in order; `inputs` what they are made from."""

    def __init__(self, entry: Path, work: str, inputs: str, names: Sequence[str]) -> None:
        self.names = list(names)
        self._inputs = inputs
        self._work = entry / FOLDER / work
        self.folder = self._work / inputs[:16]

    def begun(self) -> bool:
        """Whether any part has left anything."""
        return self.folder.is_dir()

    def read(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """(arrays, note) of a piece, or None where it has to be made."""
        path = self.folder / f"{name}.safetensors"
        try:
            arrays, note = read_tensors(path) if path.is_file() else ({}, {})
        except StoreError:
            return None
        right = note.get("inputs") == self._inputs and note.get("sha256") == _digest(arrays)
        return (arrays, note) if right else None

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """As read, without the note; {} where it has to be made."""
        found = self.read(name)
        return found[0] if found else {}

    def write(self, name: str, arrays: dict[str, np.ndarray], note: dict[str, Any] | None = None) -> None:
        shipped.refuse_to_write(self.folder)
        content = {**(note or {}), "inputs": self._inputs, "sha256": _digest(arrays)}
        write_tensors(self.folder / f"{name}.safetensors", arrays, content)

    def missing(self) -> list[int]:
        """Places of the pieces that have to be made."""
        return [place for place, name in enumerate(self.names) if self.read(name) is None]

    def clear(self) -> None:
        """All pieces of this work, those of other inputs too."""
        shutil.rmtree(self._work, ignore_errors=True)
        with suppress(OSError):  # not empty: there is other work
            self._work.parent.rmdir()


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
