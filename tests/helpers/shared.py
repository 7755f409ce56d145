"""What several files need is made once in a run of the tests, whichever of its processes comes first."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

Build = Callable[[Path], Path]
"""Fills a folder and returns where in it the store is."""


class Built(Protocol):
    """The fixture `built`."""

    def __call__(self, build: Build, upon: Build | None = None) -> Path: ...


def copy_of(build: Build, factory: pytest.TempPathFactory, upon: Build | None = None) -> Path:
    """A copy, the caller's own, of the store that `build` makes; what was there first stays as it was made.

    `upon`: of what other store a copy is in the folder that `build` fills; one whose manifests name no file beside it.

    The processes of pytest-xdist have folders side by side in the folder of the run, so that is where the first of them
    builds, while the others wait. Built in place, not moved there: a manifest may name files of its folder.
    """
    base = factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    name = f"{build.__module__}.{build.__name__}"
    made, whole = run / name, run / f"{name}.made"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(made, ignore_errors=True)  # of a process that was killed
            if upon is None:
                made.mkdir()
            else:
                shutil.move(copy_of(upon, factory), made)
            whole.write_text(str(build(made)))
    store = Path(whole.read_text())
    return Path(shutil.copytree(store, factory.mktemp("store") / "store"))
