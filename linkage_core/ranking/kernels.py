"""Loops that numba compiles: once for a processor, kept on disk (beside the module, or in numba's folder of the user).

    python -m linkage_core.ranking.kernels      (compiles all of them; part of making the environment)

What is kept lies where the code itself lies and is trusted as that is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PRECISIONS = ("float32", "float64")


def compiled(kernel: Callable[..., None], signature: str) -> Callable[..., None] | None:
    """Machine code of a kernel that lets other threads run, or None where this machine cannot compile it."""
    try:
        import numba
    except ImportError:
        return None

    def make(**how: Any) -> Callable[..., None]:
        made: Callable[..., None] = numba.njit(signature, nogil=True, **how)(kernel)
        return made

    try:
        return make(cache=True)
    except Exception:  # noqa: BLE001  (no folder to keep it in, or what was kept cannot be read: it is only slower)
        try:
            return make()
        except numba.core.errors.NumbaError:
            return None


def warm() -> None:
    """Every kernel in every precision."""
    from linkage_core.ranking import _count, _histogram

    for precision in PRECISIONS:
        _count.compiled(precision)
        _histogram.compiled(precision)
