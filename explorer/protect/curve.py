"""Words and pictures of one mitigation: what is guaranteed, what attackers link, what stays readable.

Made from the tables of linkage_core.lab; nothing is computed or fetched here. Guarantee and measured linkage never
share a number, an axis or a card.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from explorer.drawing.charts import (
    Row,
    _names_of_lines,
    _plain,
    _steps,
    _ticks,
    axis,
    band,
    chosen_line,
    count_tick,
    guessing_line,
    layout,
    marks,
    note,
    see_through,
)
from explorer.drawing.palette import Palette
from explorer.drawing.words import at, attacker_label, attackers
from linkage_core.sentences import denominator, interval, of

NOISE_DASH = "2px,4px"
COSINE_DASH = "8px,5px"
HELD_DASH = "12px,4px,3px,4px"


# -- linkage against pool size ---------------------------------------------------------------------------------------

LINES = ("before", "worst", "cosine", "noise", "held")
HEIGHT = 292
"""Pixels: its axis is on the first screen."""


@dataclass(frozen=True)
class Line:
    """One more line of `curve`: recall at values of N, how it is drawn, and what it says at a point."""

    name: str
    sizes: Sequence[int]
    recall: Sequence[float]
    line: Mapping[str, object]
    marker: Mapping[str, object]


def curve(
    lines: Mapping[str, pd.DataFrame],
    names: Mapping[str, str],
    *,
    pool_size: int,
    palette: Palette,
    also: Sequence[Line] = (),
    ends: Mapping[str, str] | None = None,
) -> go.Figure:
    """Recall@1 against N for before, after and noise alone, with bands, against guessing; both axes log.

    lines: some of LINES -> rows with pool_size, recall, recall_low, recall_high, n_queries. names: what each is called.
    also: lines without a band. ends: what stands at the right end of some of the lines.
    """
    styles = {
        "held": {"color": palette.after, "width": 2.5, "dash": HELD_DASH},
        "before": {"color": palette.before, "width": 2},
        "worst": {"color": palette.after, "width": 4},
        "cosine": {"color": palette.after, "width": 2, "dash": COSINE_DASH},
        "noise": {"color": palette.noise_only, "width": 2, "dash": NOISE_DASH},
    }
    right = 18 if not ends else min(18 + 8 * max(map(len, ends.values())), 190)
    drawn = {name: rows[rows["recall"] > 0] for name, rows in lines.items()}
    drawn = {name: rows for name, rows in drawn.items() if len(rows)}
    sizes = sorted(
        {int(n) for rows in drawn.values() for n in rows["pool_size"]} | {n for one in also for n in one.sizes}
    ) or [10, 100]
    smallest, largest = sizes[0], sizes[-1]
    guess = [1 / n for n in sizes]
    values = [*guess, *(float(v) for rows in drawn.values() for v in rows["recall"])]
    values += [v for one in also for v in one.recall]
    high, low = max(max(values) * 1.3, 0.1), max(min(values) * 0.8, 1 / 200_000)
    y_ticks = _ticks(low, min(high, 1), (1,))
    x_ticks = _ticks(smallest, largest, _steps(smallest, largest) if largest < 1000 else (1,)) or [smallest]
    span = (smallest, largest) if smallest < largest else (smallest / 2, largest * 2)
    traces = [guessing_line(sizes, guess, palette)]
    for name in (each for each in ("noise", "cosine", "held", "worst", "before") if each in drawn):
        rows = drawn[name]
        x, y = rows["pool_size"].tolist(), rows["recall"].tolist()
        band_low = rows["recall_low"].fillna(rows["recall"]).clip(lower=low).tolist()
        band_high = rows["recall_high"].fillna(rows["recall"]).tolist()
        traces.append(band(x, band_low, band_high, see_through(str(styles[name]["color"]), 0.16), names[name]))
        traces.append(
            {
                "x": x,
                "y": y,
                "mode": "lines",
                "line": styles[name],
                "name": escape(names[name]),
                "text": [_point_words(row, names[name]) for row in rows.to_dict("records")],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
        marker = _curve_marker(name, palette)
        if marker:
            powers = set(_ticks(smallest, largest, (1, 3) if name == "noise" else (1,)))
            marked = rows[rows["pool_size"].isin(powers)] if powers else rows
            places = marked["pool_size"].tolist()
            traces.append(marks(places, marked["recall"].tolist(), marker, f"{names[name]}, marks"))
    traces += [trace for line in also for trace in _further(line)]
    named = [
        (words, float(drawn[name]["recall"].iloc[-1]), str(styles[name]["color"]))
        for name, words in (ends or {}).items()
        if name in drawn
    ]
    margin = {"l": 92, "r": right, "t": 34, "b": 52}
    per_decade = (HEIGHT - margin["t"] - margin["b"]) / (math.log10(min(high, 1e9)) - math.log10(low))
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    notes = [
        note(palette, "images linked (Recall@1), band: 95% interval, log scale", **above, yshift=10),
        note(palette, _n_words(drawn), x=0.5, y=0, xref="paper", yref="paper", yanchor="top", yshift=-28),
        *_names_of_lines(named, math.log10(largest), per_decade, palette),
    ]
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, HEIGHT, margin),
            "xaxis": axis(palette, span, x_ticks, [_plain(v) for v in x_ticks], log=True, line=True),
            "yaxis": axis(palette, (low, high), y_ticks, [count_tick(v) for v in y_ticks], log=True)
            | {"ticklabelstandoff": 6},
            "annotations": notes,
            "shapes": [chosen_line(pool_size, palette)] if smallest <= pool_size <= largest else [],
        },
    )


def _further(line: Line) -> list[dict[str, Any]]:
    """A line without a band, and its marks, which say what they are."""
    x, y = list(line.sizes), list(line.recall)
    words = [f"{escape(line.name)}, N = {n:,}: {of(v, denominator(n))}" for n, v in zip(x, y, strict=True)]
    return [
        {"x": x, "y": y, "name": escape(line.name), "mode": "lines", "line": dict(line.line), "hoverinfo": "skip"},
        {
            "x": x,
            "y": y,
            "name": escape(line.name),
            "mode": "markers",
            "marker": dict(line.marker),
            "text": words,
            "hovertemplate": "%{text}<extra></extra>",
            "cliponaxis": False,
        },
    ]


def _curve_marker(name: str, palette: Palette) -> dict[str, object] | None:
    if name == "before":
        edge = {"color": palette.before, "width": 2}
        return {"color": palette.page, "symbol": "circle", "size": 9, "line": edge}
    if name == "worst":
        return {"color": palette.after, "symbol": "circle", "size": 10}
    if name == "held":
        edge = {"color": palette.after, "width": 2}
        return {"color": palette.page, "symbol": "square", "size": 9, "line": edge}
    if name == "noise":
        return {"color": palette.noise_only, "symbol": "x", "size": 9}
    return None


def _n_words(drawn: Mapping[str, pd.DataFrame]) -> str:
    n = max((int(rows["n_queries"].max()) for rows in drawn.values()), default=0)
    return f"reports in the pool (N), log scale, n = {n:,} images"


def _point_words(row: Row, name: str) -> str:
    n = int(row["pool_size"])
    out_of = denominator(n)
    named = row.get("named")
    who = f"<br>{attacker_label(named, 'its own') if named in attackers() else ''}" if named else ""
    said = f"{of(row['recall'], out_of)} ({interval(row['recall_low'], row['recall_high'], out_of)})"
    return f"{escape(name)}, N = {n:,}: {said}{who}"


def legend(names: Mapping[str, str], palette: Palette) -> str:
    """HTML: the lines of `curve` with their dashes and marks, and guessing."""
    styles = {
        "before": (palette.before, "solid", 2, "○"),
        "worst": (palette.after, "solid", 4, "●"),
        "cosine": (palette.after, "dashed", 2, ""),
        "noise": (palette.noise_only, "dotted", 2, "×"),
        "held": (palette.after, "dashed", 3, "□"),
        "guessing": (palette.guessing, "dashed", 2, ""),
    }
    words = {name: short(names[name]) for name in LINES if name in names} | {"guessing": "guessing"}
    items = "".join(
        f'<span><i style="border-top:{styles[name][2]}px {styles[name][1]} {styles[name][0]}"></i>'
        f'<em style="color:{styles[name][0]}">{styles[name][3]}</em>{escape(text)}</span>'
        for name, text in words.items()
    )
    return f'<div class="mi-legend mi-lines">{items}</div>'


def short(name: str) -> str:
    """
    >>> short("after, worst attacker"), short("after, cosine only"), short("noise only, ε = 3")
    ('after, worst', 'after, cosine', 'noise, ε = 3')
    """
    return name.replace("worst attacker", "worst").replace("cosine only", "cosine").replace("noise only", "noise")


def curve_words(lines: Mapping[str, pd.DataFrame], names: Mapping[str, str], pool_size: int, out_of: int) -> str:
    """The picture as a sentence, for those who cannot see it."""
    said = []
    for name in LINES:
        row = at(lines.get(name), pool_size)
        if row is not None:
            said.append(f"{names[name]} {of(float(row['recall']), out_of)}")
    return f"Images linked at N = {pool_size:,}: {'; '.join(said)}; guessing {of(1 / pool_size, out_of)}."
