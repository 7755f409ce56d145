"""A row of thumbnails around the current image: a click changes the image, without a reload and without a new tab."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st
from PIL import Image

from explorer.drawing.component import component
from linkage_core.images.pixels import Radiograph, downsample

_mount = component(__file__, "strip")

LENGTH = 24  # thumbnails in the row
SIDE = 96  # pixels


class Thumbnail(NamedTuple):
    """One entry of the row; `picture` is a data address of `picture`, or None where the image cannot be read."""

    record: str
    label: str
    picture: str | None


def strip(items: Sequence[Thumbnail], current: str, *, key: str, on_pick: Callable[[str], None]) -> None:
    """Draws the row with `current` framed; `on_pick` gets the record that was chosen, before the page runs again.

    Without items the row keeps its height and says so.
    """

    def picked() -> None:
        record = st.session_state[key].record
        if record is not None:
            on_pick(record)

    _mount(key=key, data={"items": [item._asdict() for item in items], "current": current}, on_record_change=picked)


def window(current: int, n: int, start: int | None, length: int = LENGTH) -> int:
    """Where the row starts, 0 .. n - length, so that entry `current` of `n` is in it with a neighbour on each side.

    The row stays where it was (`start`) while that holds, so that choosing in it does not move it.

    >>> window(5, 100, None), window(30, 100, 20), window(44, 100, 20), window(99, 100, 20)
    (0, 20, 32, 76)
    """
    last = max(0, n - length)
    if start is not None and 0 <= start <= last:
        first_ok = current > start or current == start == 0
        last_ok = current < start + length - 1 or current == n - 1 < start + length
        if first_ok and last_ok:
            return start
    return min(max(0, current - length // 2), last)


def picture(radiograph: Radiograph, side: int = SIDE) -> str:
    """A small JPEG as a data address, its longer side at most `side` pixels."""
    out = io.BytesIO()
    Image.fromarray((downsample(radiograph, side).pixels >> 8).astype(np.uint8)).save(out, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
