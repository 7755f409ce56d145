"""Loops that numba compiles: once for a processor, kept on disk (beside the module, or in numba's folder of the user).

What is kept is opened as a pickle: beside the code it is trusted as that is, elsewhere if no other account can write.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

PRECISIONS = ("float32", "float64")
_CODE = Path(__file__).resolve().parent


def compiled(kernel: Callable[..., None], signature: str) -> Callable[..., None] | None:
    """Machine code of a kernel that lets other threads run, or None where this machine cannot compile it."""
    try:
        import numba
    except ImportError:
        return None

    def make(**how: Any) -> Any:
        made = numba.njit(nogil=True, **how)(kernel)
        if how and not ours(Path(made.stats.cache_path)):
            raise PermissionError(made.stats.cache_path)
        made.compile(signature)
        made.disable_compile()
        return made

    try:
        kept: Callable[..., None] = make(cache=True)
        return kept
    except Exception:  # noqa: BLE001  (no folder to keep it in, or what was kept cannot be read: it is only slower)
        try:
            alone: Callable[..., None] = make()
            return alone
        except numba.core.errors.NumbaError:
            return None


def ours(folder: Path) -> bool:
    """Whether nobody puts anything in a folder but this account, root, and who wrote the code.

    Each folder on the way belongs to this account or root, and is not open to everybody; but others may add beside it,
    as in /tmp.
    """
    folder = folder.resolve()
    if not hasattr(os, "geteuid") or folder.is_relative_to(_CODE):
        return True
    for place in (folder, *folder.parents):
        said = place.stat()
        beside = place != folder and said.st_mode & stat.S_ISVTX
        if said.st_uid not in (0, os.geteuid()) or (said.st_mode & stat.S_IWOTH and not beside):
            return False
    return True


def warm() -> None:
    """Every kernel in every precision; part of making the environment."""
    from linkage_core.ranking import _count, _histogram

    for precision in PRECISIONS:
        _count.compiled(precision)
        _histogram.compiled(precision)
