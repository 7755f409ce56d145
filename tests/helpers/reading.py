"""Readers of pretended files, for processes that are to crash, hang or swell."""

import os
import resource
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.errors import ImageError
from linkage_core.images.pixels import Radiograph


def image(row: dict[str, Any]) -> Radiograph:
    """An image of its number."""
    return Radiograph(np.full((20, 24), int(row["record_id"]), np.uint16), 12)


def hostile(row: dict[str, Any]) -> Radiograph:
    """As image, after doing what `does` says."""
    does = row.get("does", "")
    if does == "crash":
        os.abort()
    elif does == "loop":
        while True:
            pass
    elif does == "sleep":
        time.sleep(600)
    elif does == "swell":
        np.ones(1 << 28)
    elif does == "reject":
        raise ImageError("damaged", "It is.", "Mend it.")
    elif does.startswith("once "):  # as when the system needs memory for another
        flag = Path(does.removeprefix("once "))
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return image(row)


def mean(pixels: np.ndarray) -> np.ndarray:
    """A picture of one pixel."""
    return np.array([[pixels.mean()]], np.float32)


def swelling(row: dict[str, Any]) -> Radiograph:
    """An image of how many pages of memory the system had to give for 40 MB that were then freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    swollen = [b"x" * (20 << 20), b"y" * (20 << 20)]  # bytes: for arrays numpy asks for larger pages
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    del swollen
    return Radiograph(np.full((20, 24), min(65535, after - before), np.uint16), 16)
