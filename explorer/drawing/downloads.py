"""Files to keep: a table as CSV, a picture as SVG. Made here, with nothing from outside and no browser."""

from __future__ import annotations

import re
from html import escape, unescape

import numpy as np
import plotly.graph_objects as go

from linkage_core.tables import csv

__all__ = ["csv", "svg"]


def svg(figure: go.Figure, *, title: str, subtitle: str, width: int = 1000) -> bytes:
    """A figure of explorer/charts.py as an SVG image with a title and a line under it.

    Covers what those figures use: lines, markers, filled outlines, upright lines and notes, on logarithmic or linear
    axes whose range and ticks are set; a second vertical axis where the picture has two panels one above the other.
    Text stays text, in the reader's own sans-serif font.
    """
    layout = figure.layout
    head = 74
    margin = layout.margin
    left, right = margin.l, width - margin.r
    top, bottom = head + margin.t, head + layout.height - margin.b
    height = head + layout.height

    def place(axis: go.layout.XAxis, first: float, last: float, value: float, *, logged: bool = False) -> float:
        position = value if logged or axis.type != "log" else float(np.log10(value))
        low, high = axis.range
        return first + (last - first) * (position - low) / (high - low)

    def x_of(value: float, logged: bool = False) -> float:
        return place(layout.xaxis, left, right, value, logged=logged)

    def y_of(value: float, logged: bool = False, axis: go.layout.YAxis = layout.yaxis) -> float:
        first, last = (bottom - share * (bottom - top) for share in axis.domain or (0, 1))
        return place(axis, first, last, value, logged=logged)

    panels = {"y": layout.yaxis}
    if any(trace.yaxis == "y2" for trace in figure.data):
        panels["y2"] = layout.yaxis2

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        "font-family=\"'Source Sans 3', 'Source Sans Pro', Helvetica, Arial, sans-serif\" font-size=\"14\">",
        f"<title>{escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#FFFFFF"/>',
        _text(24, 34, title, "#1F242C", size=20, weight=600),
        _text(24, 58, subtitle, "#626B78"),
    ]
    for value, words in zip(layout.xaxis.tickvals, layout.xaxis.ticktext, strict=True):
        x = x_of(value)
        if layout.xaxis.showgrid is not False:
            parts.append(_line(x, top, x, bottom, layout.xaxis.gridcolor, 1))
        parts.append(_text(x, bottom + 20, words, layout.font.color, anchor="middle"))
    for axis in panels.values():
        for value, words in zip(axis.tickvals, axis.ticktext, strict=True):
            y = y_of(value, axis=axis)
            if axis.showgrid is not False:
                parts.append(_line(left, y, right, y, axis.gridcolor, 1))
            bold, plain = _plain(words)
            weight = 600 if bold else 400
            parts.append(_text(left - 8, y + 5, plain, layout.font.color, anchor="end", weight=weight, escaped=True))
    parts.append(_line(left, bottom, right, bottom, layout.xaxis.linecolor, 1))
    for shape in layout.shapes:
        x = x_of(shape.x0)
        ends = [bottom - share * (bottom - top) for share in (shape.y1, shape.y0)]
        parts.append(_line(x, ends[0], x, ends[1], shape.line.color, shape.line.width, shape.line.dash))
    inner = f'x="{left - 8}" y="{top}" width="{right - left + 16}" height="{bottom - top}"'
    clip = f'<clipPath id="c"><rect {inner}/></clipPath>'
    parts.append(f"<defs>{clip}</defs>")
    for trace in figure.data:
        axis = panels[trace.yaxis or "y"]
        runs: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(trace.x, trace.y, strict=True):
            if x is None or y is None or x != x or y != y:  # a gap in the line
                runs.append([])
            else:
                runs[-1].append((x_of(x), y_of(y, axis=axis)))
        points = [point for run in runs for point in run]
        if trace.fill == "toself":
            parts.append(f'<polygon points="{_points(points)}" {_paint(trace.fillcolor)} clip-path="url(#c)"/>')
        elif trace.mode == "lines":
            dash = f' stroke-dasharray="{trace.line.dash.replace("px", "")}"' if trace.line.dash else ""
            stroke = _paint(trace.line.color, "stroke")
            parts += [
                f'<polyline points="{_points(run)}" fill="none" {stroke} stroke-width="{trace.line.width}"{dash} '
                'clip-path="url(#c)"/>'
                for run in runs
                if run
            ]
        else:
            parts += [_marker(x, y, trace.marker) for x, y in points]
    for note in layout.annotations:
        x = left + note.x * (right - left) if note.xref == "paper" else x_of(note.x, logged=True)
        if note.yref == "paper":
            y = bottom - note.y * (bottom - top)
        else:
            y = y_of(note.y, logged=True, axis=panels[note.yref or "y"])
        x, y = x + (note.xshift or 0), y - (note.yshift or 0)
        y += {"bottom": -4.0, "top": 14.0}.get(note.yanchor or "", 5.0)
        anchor = {"left": "start", "right": "end"}.get(note.xanchor or "", "middle")
        bold, words = _plain(note.text)
        parts.append(_text(x, y, words, note.font.color, anchor=anchor, weight=600 if bold else 400, escaped=True))
    parts.append("</svg>")
    return "\n".join(parts).encode()


def _plain(words: str) -> tuple[bool, str]:
    """(bold, words) of the text of a figure, which is escaped as in HTML and may be bold as a whole."""
    return words.startswith("<b>"), escape(unescape(re.sub(r"</?b>", "", words.strip())))


def _points(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _paint(colour: str, what: str = "fill") -> str:
    """fill and fill-opacity (or stroke): many programs that read SVG do not know rgba()."""
    if colour.startswith("#"):
        return f'{what}="{colour}"'
    red, green, blue, alpha = (float(v) for v in re.findall(r"[\d.]+", colour))
    return f'{what}="#{int(red):02x}{int(green):02x}{int(blue):02x}" {what}-opacity="{alpha:g}"'


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float, dash: str | None = None) -> str:
    dashes = f' stroke-dasharray="{dash.replace("px", "")}"' if dash else ""
    ends = f'x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"{dashes}/>'


def _text(
    x: float,
    y: float,
    words: str,
    colour: str,
    *,
    anchor: str = "start",
    size: int = 14,
    weight: int = 400,
    escaped: bool = False,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">'
        f"{words if escaped else escape(words)}</text>"
    )


_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "triangle-up": [(0, -1.2), (1.15, 0.8), (-1.15, 0.8)],
    "triangle-down": [(0, 1.2), (1.15, -0.8), (-1.15, -0.8)],
    "triangle-right": [(1.2, 0), (-0.8, 1.15), (-0.8, -1.15)],
    "hexagon": [(1.15 * np.cos(t), 1.15 * np.sin(t)) for t in 2 * np.pi * np.arange(6) / 6],
    "line-ns": [(-0.2, -1.0), (0.2, -1.0), (0.2, 1.0), (-0.2, 1.0)],
    "pentagon": [(1.15 * np.sin(t), -1.15 * np.cos(t)) for t in 2 * np.pi * np.arange(5) / 5],
    "x": [
        *((-1.0, -0.7), (-0.7, -1.0), (0.0, -0.3), (0.7, -1.0), (1.0, -0.7), (0.3, 0.0)),
        *((1.0, 0.7), (0.7, 1.0), (0.0, 0.3), (-0.7, 1.0), (-1.0, 0.7), (-0.3, 0.0)),
    ],
    "star": [
        ((1.4 if i % 2 == 0 else 0.55) * np.sin(np.pi * i / 5), -(1.4 if i % 2 == 0 else 0.55) * np.cos(np.pi * i / 5))
        for i in range(10)
    ],
}


def _marker(x: float, y: float, marker: go.scatter.Marker) -> str:
    radius = marker.size / 2
    edge = f' {_paint(marker.line.color, "stroke")} stroke-width="{marker.line.width}"' if marker.line.width else ""
    edge += "" if marker.opacity in (None, 1) else f' opacity="{marker.opacity:g}"'
    fill = _paint(marker.color)
    if marker.symbol == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {fill}{edge}/>'
    outline = [(x + radius * dx, y + radius * dy) for dx, dy in _OUTLINES[marker.symbol]]
    return f'<polygon points="{_points(outline)}" {fill}{edge}/>'
