"""The picture under the lists: how one image's chance of coming first falls as the pool grows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from explorer.drawing import charts
from explorer.drawing.palette import Palette
from linkage_core import sentences

HEIGHT = 232
LEAST = 1e-4
"""The bottom of the picture: a line that falls below it ends there, and its words say so."""


@dataclass(frozen=True)
class Line:
    """One list's line: its name, the chance (0 .. 1) at each N, its colour, and a dash of plotly."""

    name: str
    chances: Sequence[float]
    colour: str
    dash: str = "solid"


def steps(largest: int) -> list[int]:
    """2 and then six steps a power of ten up to the whole pool: enough for a smooth line.

    >>> steps(30)
    [2, 3, 5, 7, 10, 15, 20, 30]
    """
    marks = [round(step * 10**power) for power in range(10) for step in (1, 1.5, 2, 3, 5, 7)]
    return [*sorted({n for n in marks if 2 <= n < largest}), largest]


def picture(sizes: Sequence[int], lines: Sequence[Line], pool_size: int, palette: Palette) -> go.Figure:
    """The chance of coming first against N, both axes logarithmic, with guessing (1/N) and a mark at the chosen N."""
    guessed = cut(sizes, [1 / n for n in sizes])
    traces = [charts.guessing_line([n for n, _ in guessed], [y for _, y in guessed], palette)]
    ends = [("guessing", *guessed[-1], palette.muted)]
    for line in lines:
        shown = cut(sizes, line.chances)
        traces.append(
            {
                "x": [n for n, _ in shown],
                "y": [chance for _, chance in shown],
                "mode": "lines",
                "line": {"color": line.colour, "width": 3, "dash": line.dash},
                "text": [f"{escape(line.name)}<br>N = {n:,.0f}: {words_of(chance)}" for n, chance in shown],
                "hovertemplate": "%{text}<extra></extra>",
                "name": escape(line.name),
            }
        )
        at = [(n, chance) for n, chance in zip(sizes, line.chances, strict=True) if n == pool_size and chance >= LEAST]
        if at:
            mark = {"symbol": "circle", "size": 11, "color": line.colour, "line": {"color": palette.page, "width": 2}}
            traces.append(charts.marks([n for n, _ in at], [y for _, y in at], mark, line.name))
        if shown:
            ends.append((line.name, *shown[-1], line.colour))
    margin = {"l": 96, "r": 120, "t": 30, "b": 48}
    notes = names_at_ends(ends, sizes[-1], HEIGHT - margin["t"] - margin["b"])
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    notes.append(charts.note(palette, "how often this image's report comes first, log scale", **above, yshift=8))
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top"}
    notes.append(charts.note(palette, "reports in the pool (N), log scale", **under, yshift=-26))
    y_ticks = [1.0, 0.1, 0.01, 0.001, 0.0001]
    x_ticks = [n for n in sizes if n == 2 or math.log10(n).is_integer()]
    x_ticks += [sizes[-1]] if sizes[-1] > 2 * x_ticks[-1] else []
    first, last = sizes[0], sizes[-1]
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **charts.layout(palette, HEIGHT, margin),
            "xaxis": charts.axis(
                palette,
                (first, last) if first < last else (first / 2, first * 2),
                x_ticks,
                [f"{n:,}" for n in x_ticks],
                log=True,
                line=True,
            ),
            "yaxis": charts.axis(palette, (LEAST, 1.3), y_ticks, [charts.count_tick(y) for y in y_ticks], log=True)
            | {"ticklabelstandoff": 6},
            "annotations": notes,
            "shapes": [charts.chosen_line(pool_size, palette)] if first <= pool_size <= last else [],
        },
    )


def names_at_ends(ends: Sequence[tuple[str, float, float, str]], largest: int, height: int) -> list[dict[str, object]]:
    """The names (name, N and chance where the line ends, colour): beside the picture for lines that reach the largest
    N, else where the line leaves the picture, the first of them on its left and the others on its right."""
    reach = [end for end in ends if end[1] >= largest]
    gap = 20 / height * -math.log10(LEAST)
    places = charts.spread([math.log10(chance) for _, _, chance, _ in reach], gap)
    lift = max(0.0, math.log10(LEAST) - min(places, default=0.0))
    placed = [(end, place + lift, "left", 8) for end, place in zip(reach, places, strict=True)]
    gone = sorted((end for end in ends if end[1] < largest), key=lambda end: end[1])
    for i, end in enumerate(gone):
        first = i == 0 and len(gone) > 1
        placed.append((end, math.log10(LEAST) + 0.7 * gap, "right" if first else "left", -24 if first else 8))
    return [
        {
            "text": f"<b>{escape(name)}</b>",
            "showarrow": False,
            "font": {"color": colour, "size": 14, "family": charts.FONT},
            "x": math.log10(n),
            "y": place,
            "xanchor": anchor,
            "xshift": shift,
        }
        for (name, n, _, colour), place, anchor, shift in placed
    ]


def cut(sizes: Sequence[int], chances: Sequence[float]) -> list[tuple[float, float]]:
    """(N, chance) as far as the picture reaches; a line that leaves it ends where it crosses the bottom.

    >>> cut([10, 100, 1000], [0.5, 0.01, 1e-6])
    [(10, 0.5), (100, 0.01), (316.2, 0.0001)]
    """
    shown: list[tuple[float, float]] = []
    for n, chance in zip(sizes, chances, strict=True):
        if chance >= LEAST:
            shown.append((n, chance))
            continue
        if shown:
            before, y = shown[-1]
            low = math.log(max(chance, 1e-300))
            part = (math.log(y) - math.log(LEAST)) / (math.log(y) - low)
            shown.append((round(math.exp(math.log(before) + part * (math.log(n) - math.log(before))), 1), LEAST))
        break
    return shown


def words_of(chance: float) -> str:
    """
    >>> words_of(0.41), words_of(0.0004)
    ('first in 41 of 100 pools', 'first in 4 of 10,000 pools')
    """
    out_of = 100
    while out_of < sentences.LARGEST_DENOMINATOR and chance * out_of < 1:
        out_of *= 10
    return f"first in {sentences.of(chance, out_of)} pools"


def in_words(sizes: Sequence[int], lines: Sequence[Line], pool_size: int) -> str:
    """The picture as a sentence, for those who cannot see it: at the chosen N and at the ends."""
    marked = sorted({sizes[0], *(n for n in sizes if n == pool_size), sizes[-1]})
    parts = []
    for line in lines:
        of = dict(zip(sizes, line.chances, strict=True))
        parts.append(f"{line.name}: " + ", ".join(f"at N = {n:,} {words_of(of[n])}" for n in marked))
    return "This image's chance of coming first against N. " + "; ".join(parts) + ". Guessing: 1 of N."


def rows(sizes: Sequence[int], lines: Mapping[str, Sequence[float]]) -> list[dict[str, object]]:
    """One row for each list and N, to be filed."""
    return [
        {"list": name, "N": n, "comes first": chance, "guessing": 1 / n}
        for name, chances in lines.items()
        for n, chance in zip(sizes, chances, strict=True)
    ]
