"""Usefulness before and after: rows by finding, their picture and their words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from explorer.drawing.charts import (
    Row,
    axis,
    layout,
    note,
)
from explorer.drawing.marks import open_marker, places, segment, small_marker
from explorer.drawing.palette import Palette
from linkage_core.sentences import signed

USEFULNESS_HEIGHT = 236


# -- usefulness ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """One row of the picture of usefulness: AUROC (estimate, low, high) before, after and under noise alone.

    `change` is after less before (estimate, low, high), in AUROC.
    """

    name: str
    before: tuple[float, float, float] | None = None
    after: tuple[float, float, float] | None = None
    noise: tuple[float, float, float] | None = None
    change: tuple[float, float, float] | None = None
    why: str = ""


def use_of(name: str, row: Row | None, noise: Row | None, why: str = "") -> Use:
    """A row from lab.utility: of a head, and of its noise-only control."""
    if row is None:
        return Use(name, why=why or "not measured")
    return Use(
        name,
        _figures(row, "before"),
        _figures(row, "after"),
        None if noise is None else _figures(noise, "after"),
        _figures(row, "difference"),
    )


def _figures(row: Row, name: str) -> tuple[float, float, float]:
    return float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])


def usefulness(uses: Sequence[Use], palette: Palette, third: tuple[str, str, str] | None = None) -> go.Figure:
    """AUROC before (open circle), after (filled) and under noise alone (x), each with its 95% interval.

    third: (name, symbol, colour) of what stands in place of noise alone.
    """
    third_name, symbol, third_colour = third or ("noise only", "x", palette.noise_only)
    values = [v for use in uses for part in (use.before, use.after, use.noise) if part for v in part if v == v]
    low = min([0.5, *(math.floor(v * 20) / 20 for v in values)])
    low -= 0.03 * any(v < low + 0.03 for v in values)  # half a mark, or it would stand on the names
    high = max([0.85, *(math.ceil(v * 20) / 20 for v in values)])
    ticks = [round(float(v), 2) for v in np.arange(math.ceil(low * 10) / 10, high + 0.001, 0.1)]
    traces: list[dict[str, object]] = []
    notes = []
    for place, use in enumerate(uses):
        for part, colour in (
            (use.noise, third_colour),
            (use.before, palette.before),
            (use.after, palette.after),
        ):
            if part:
                traces.append(segment(part[1:], place, colour, 2))
        if use.before and use.after:
            traces.append(segment((use.before[0], use.after[0]), place, palette.after, 3))
        marks = (
            (use.noise, {"color": third_colour, "symbol": symbol, "size": 11 if symbol == "x" else 14}, third_name),
            (use.before, open_marker(palette.before, palette.page), "before"),
            (use.after, {"color": palette.after, "symbol": "circle", "size": 13}, "after"),
        )
        for part, marker, words in marks:
            if part:
                said = f"{escape(use.name)}, {words}: AUROC {part[0]:.3f} ({part[1]:.3f} to {part[2]:.3f})"
                traces.append(
                    {
                        "x": [part[0]],
                        "y": [place],
                        "mode": "markers",
                        "marker": marker,
                        "cliponaxis": False,
                        "name": words,
                        "text": [said],
                        "hovertemplate": "%{text}<extra></extra>",
                    }
                )
        beside = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 10, "showarrow": False}
        if use.change:
            points = f"<b>{signed(100 * use.change[0], 1)}</b>"
            notes.append(note(palette, points, y=place, **beside) | {"font": {"size": 15, "color": palette.text}})
            ends = f"{signed(100 * use.change[1], 1)} to {signed(100 * use.change[2], 1)}"
            notes.append(note(palette, ends, y=place, yshift=-17, **beside) | {"font": small_marker(palette)})
        else:
            inside = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": 8}
            notes.append(note(palette, escape(use.why), y=place, **inside) | {"font": small_marker(palette)})
    top = {"x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "xshift": 10}
    notes.append(note(palette, "points", **top))
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top", "yshift": -26}
    notes.append(note(palette, "AUROC (0.5 = coin), line: 95% interval", **under))
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, USEFULNESS_HEIGHT, {"l": 132, "r": 104, "t": 24, "b": 50}),
            "xaxis": axis(palette, (low, high), ticks, [f"{v:g}" for v in ticks], line=True),
            "yaxis": places([use.name for use in uses]),
            "annotations": notes,
        },
    )


def use_legend(palette: Palette, noise_name: str = "noise only", third: tuple[str, str] | None = None) -> str:
    """HTML: what the marks of `usefulness` mean. third: (sign, colour) in place of those of noise alone."""
    sign, colour = third or ("×", palette.noise_only)
    items = (("○", palette.before, "before"), ("●", palette.after, "after"), (sign, colour, noise_name))
    return (
        '<div class="mi-legend">'
        + "".join(
            f'<span><em style="color:{colour}">{mark}</em>{escape(words)}</span>' for mark, colour, words in items
        )
        + "</div>"
    )


def use_words(uses: Sequence[Use], third: str = "by noise alone") -> str:
    """The picture as a sentence."""
    said = [
        f"{use.name}: {use.before[0]:.3f} before, {use.after[0]:.3f} after"
        + (f", {use.noise[0]:.3f} {third}" if use.noise else "")
        if use.before and use.after
        else f"{use.name}: {use.why}"
        for use in uses
    ]
    return f"AUROC. {'; '.join(said)}."
