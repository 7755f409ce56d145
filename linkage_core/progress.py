"""How long work tells whoever waits how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total), or with (a remark, 0, 0), which is said once; what it raises stops the work."""

Steps = Callable[[int, int], None]
"""Called with (done, total), where there is one stage only."""


def silent(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""
