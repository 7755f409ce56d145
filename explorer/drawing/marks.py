"""Small pieces that several pictures are made of."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from explorer.drawing.charts import (
    names_axis,
)
from explorer.drawing.palette import Palette


def small_marker(palette: Palette) -> dict[str, object]:
    return {"size": 13, "color": palette.muted}


def open_marker(colour: str, page: str) -> dict[str, object]:
    return {"color": page, "symbol": "circle", "size": 13, "line": {"color": colour, "width": 2.5}}


def segment(ends: tuple[float, ...], place: float, colour: str, width: float) -> dict[str, object]:
    return {
        "x": [ends[0], ends[-1]],
        "y": [place, place],
        "mode": "lines",
        "line": {"color": colour, "width": width},
        "hoverinfo": "skip",
        "name": "",
    }


def places(names: Sequence[str], slots: int = 0) -> dict[str, object]:
    return names_axis([escape(name) for name in names], slots)
