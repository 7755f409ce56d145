"""Pictures: plotly figures and two small blocks of HTML, made from tidy tables. Nothing is computed or fetched here.

Every axis has its range, tick places and tick words set, so a picture looks the same on every screen and can be
written out as a file (explorer/downloads.py) without a browser.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from explorer.drawing.palette import GUESSING_DASH, ModelStyle, Palette
from linkage_core.sentences import denominator, interval, of, whole
from linkage_core.sentences import figure as figure_words

FONT = '"Source Sans", "Source Sans 3", sans-serif'
CURVE_HEIGHT = 400
Row = Mapping[Any, Any] | pd.Series
"""One row of a table, from whichever way of walking through it."""
CONFIG = {"displayModeBar": False, "responsive": True, "scrollZoom": False, "doubleClick": False}


@dataclass(frozen=True)
class Measure:
    """What a curve shows: columns of the table, its words, and what guessing is."""

    name: str
    label: str
    value: str
    low: str
    high: str
    axis: str


MEASURES = {
    "recall": Measure("recall", "Images linked", "recall", "recall_low", "recall_high", "images linked (Recall@{k})"),
    "lift": Measure("lift", "Times chance", "lift", "lift_low", "lift_high", "times chance (lift of Recall@{k})"),
    "rank": Measure("rank", "Reciprocal rank", "mrr", "mrr_low", "mrr_high", "mean reciprocal rank (1 = always first)"),
}


def _ticks(low: float, high: float, steps: Sequence[int]) -> list[float]:
    """The numbers step times a power of ten between low and high."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    values = [step * 10.0**p for p in powers for step in steps]
    return [v for v in values if low * 0.999 <= v <= high * 1.001]


def _steps(low: float, high: float) -> tuple[int, ...]:
    """1-2-5 marks as long as they fit, else powers of ten."""
    return (1, 2, 5) if high / low < 1200 else (1,)


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def count_tick(value: float) -> str:
    """A rate on a log axis: "10 of 100" above one in a hundred, then 1 of 1,000 and so on."""
    out_of = 100
    while value * out_of < 0.999:
        out_of *= 10
    return f"{value * out_of:,.0f} of {out_of:,}"


def layout(palette: Palette, height: int, margin: Mapping[str, int]) -> dict:
    return {
        "height": height,
        "margin": dict(margin),
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 14, "color": palette.text},
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "hoverlabel": {"font": {"family": FONT, "size": 14}},
        "template": {},
    }


def axis(
    palette: Palette,
    ends: Sequence[float],
    ticks: Sequence[float],
    words: Sequence[str],
    *,
    log: bool = False,
    line: bool = False,
) -> dict[str, Any]:
    """An axis from one end to the other, with words at its ticks, and a line along it where the marks need one."""
    return {
        "type": "log" if log else "linear",
        "range": [math.log10(end) for end in ends] if log else list(ends),
        "tickmode": "array",
        "tickvals": list(ticks),
        "ticktext": list(words),
        "gridcolor": palette.grid,
        "zeroline": False,
        "showline": line,
        "linecolor": palette.axis,
        "fixedrange": True,
        "ticks": "",
    }


def names_axis(names: Sequence[str], slots: int = 0) -> dict[str, Any]:
    """An upright axis with one name a row, the first on top, and room for `slots` rows. Escapes nothing."""
    return {
        "type": "linear",
        "range": [max(len(names), slots) - 0.45, -0.55],
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": [f"{name}  " for name in names],
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
    }


def upright(x: float, line: Mapping[str, object], layer: str = "below") -> dict[str, Any]:
    """A line at x from the bottom of the picture to its top."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "xref": "x",
        "yref": "paper",
        "layer": layer,
        "line": dict(line),
    }


def chosen_line(x: float, palette: Palette) -> dict[str, Any]:
    """The thin line at what is chosen."""
    return upright(x, {"color": palette.muted, "width": 1.5, "dash": "2px,4px"})


def note(palette: Palette, text: str, **places: object) -> dict:
    return {"text": text, "showarrow": False, "font": {"color": palette.muted, "size": 14, "family": FONT}, **places}


def spread(places: list[float], gap: float) -> list[float]:
    """Moves numbers apart so that neighbours differ by at least `gap`, as little and as evenly as possible."""
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[tuple[float, list[int]]] = []  # (centre, members)
    for i in order:
        groups.append((places[i], [i]))
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (len(groups[-1][1]) + len(groups[-2][1])) / 2:
            (centre_b, b), (centre_a, a) = groups.pop(), groups.pop()
            groups.append(((centre_a * len(a) + centre_b * len(b)) / (len(a) + len(b)), a + b))
    moved = [0.0] * len(places)
    for centre, members in groups:
        for j, i in enumerate(members):
            moved[i] = centre + gap * (j - (len(members) - 1) / 2)
    return moved


def see_through(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


# -- pieces of a picture ---------------------------------------------------------------------------------------------


def guessing_line(x: Sequence[float], y: Sequence[float], palette: Palette) -> dict[str, Any]:
    """The dashed line of what guessing reaches."""
    return {
        "x": list(x),
        "y": list(y),
        "mode": "lines",
        "line": {"color": palette.guessing, "width": 2, "dash": GUESSING_DASH},
        "hoverinfo": "skip",
        "name": "guessing",
    }


def filled(x: Sequence[float], y: Sequence[float], colour: str, name: str) -> dict[str, Any]:
    """An area without an edge, given by its corners."""
    return {
        "x": list(x),
        "y": list(y),
        "mode": "lines",
        "fill": "toself",
        "fillcolor": colour,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": escape(name),
    }


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, name: str) -> dict[str, Any]:
    """The area between the ends of an interval at every x."""
    return filled([*x, *reversed(x)], [*high, *reversed(low)], colour, f"{name}, 95% interval")


def marks(x: Sequence[float], y: Sequence[float], marker: Mapping[str, object], name: str) -> dict[str, Any]:
    """Marks that say nothing when the pointer is on them."""
    return {
        "x": list(x),
        "y": list(y),
        "mode": "markers",
        "marker": dict(marker),
        "cliponaxis": False,
        "hoverinfo": "skip",
        "name": escape(name),
    }


# -- risk against pool size ------------------------------------------------------------------------------------------


def curve(
    table: pd.DataFrame,
    *,
    measure: str,
    k: int,
    pool_size: int,
    styles: Mapping[str, ModelStyle],
    labels: Mapping[str, str],
    palette: Palette,
    dashes: Mapping[str, str] | None = None,
) -> go.Figure:
    """How one measure changes with N, for every model, with its 95% band, against guessing.

    `table` has the columns of Study.table for one k, plus lift_low and lift_high; where it has rows at `pool_size`,
    the N that was picked, they are marked. Where images drop out as N grows, n stands under each N. `dashes` tells
    lines of one colour apart.
    """
    shape = MEASURES[measure]
    rows = table.dropna(subset=[shape.value]).sort_values(["model", "pool_size"])
    smallest, largest = int(rows["pool_size"].min()), int(rows["pool_size"].max())
    guess = rows.drop_duplicates("pool_size").sort_values("pool_size")[["pool_size", "chance"]]
    if measure == "recall":
        guessed = guess["chance"].tolist()
    elif measure == "lift":
        guessed = [1.0] * len(guess)
    else:
        guessed = [guessed_reciprocal_rank(int(n)) for n in guess["pool_size"]]

    values = [v for v in [*rows[shape.value], *guessed] if v > 0]
    high = max(values) * (1.25 if measure != "lift" else 1.4)
    low = min(values) * 0.8
    if measure == "recall":
        high, low = max(high, 0.1), max(low, 1 / 200_000)
        y_ticks = _ticks(low, min(high, 1), _steps(low, high))
        y_words = [count_tick(v) for v in y_ticks]
    else:
        y_ticks = _ticks(low, high, _steps(low, high))
        y_words = [_plain(v) for v in y_ticks]
    marked = [*(_ticks(smallest, largest / 1.5, (1,)) if largest > smallest * 1.5 else []), largest]
    x_ticks = _ticks(smallest, largest, _steps(smallest, largest)) or [smallest]
    ends_at = (smallest, largest) if smallest < largest else (smallest / 2, largest * 2)
    right = math.log10(largest)
    images: dict[int, int] = {}
    for n, n_images in zip(rows["pool_size"].tolist(), rows["n_queries"].tolist(), strict=True):
        images[n] = max(n_images, images.get(n, 0))
    falling = len(set(images.values())) > 1

    longest = max(len(labels[model]) for model in styles)
    margin = {"l": 104, "r": min(max(104, 32 + 7 * longest), 190), "t": 34, "b": 72 if falling else 52}
    traces = [guessing_line(guess["pool_size"].tolist(), guessed, palette)]
    ends: list[tuple[str, float, str]] = [("guessing", guessed[-1], palette.muted)]
    for model, style in styles.items():
        line = rows[(rows["model"] == model) & (rows[shape.value] > 0)]
        if line.empty:
            continue
        dash = (dashes or {}).get(model)
        traces += _model_traces(line, measure, labels[model], style, dash, low, (marked, pool_size), palette)
        ends.append((labels[model], float(line[shape.value].iloc[-1]), style.colour))
    inner = CURVE_HEIGHT - margin["t"] - margin["b"]
    notes = _names_of_lines(ends, right, inner / (math.log10(high) - math.log10(low)), palette)
    title = shape.axis.format(k=k)
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    notes.append(note(palette, f"{title}, band: 95% interval, log scale", **above, yshift=10))
    under = {"y": 0, "yref": "paper", "yanchor": "top"}
    words = "reports in the pool (N), log scale" + (
        "; n: images that fill N, the curve bends as others drop out" if falling else ""
    )
    notes.append(note(palette, words, x=0.5, xref="paper", yshift=-48 if falling else -28, **under))
    if falling:
        if largest not in x_ticks and largest > 1.5 * x_ticks[-1]:
            x_ticks.append(largest)
        for n in map(int, x_ticks):
            if n in images:
                words = f"n = {images[n]:,}" if n == x_ticks[0] else f"{images[n]:,}"
                notes.append(note(palette, words, x=math.log10(n), yshift=-24) | under)
    # all at once: every later change of a figure is checked again as a whole, and the slider waits for it
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, CURVE_HEIGHT, margin),
            "xaxis": axis(palette, ends_at, x_ticks, [_plain(v) for v in x_ticks], log=True, line=True),
            "yaxis": axis(palette, (low, high), y_ticks, y_words, log=True) | {"ticklabelstandoff": 6},
            "annotations": notes,
            "shapes": [chosen_line(pool_size, palette)] if smallest <= pool_size <= largest else [],
        },
    )


def _model_traces(
    line: pd.DataFrame,
    measure: str,
    name: str,
    style: ModelStyle,
    dash: str | None,
    floor: float,
    marked: tuple[Sequence[float], int],
    palette: Palette,
) -> list[dict[str, Any]]:
    """Band, line and marks of one model; marked: the values of N that get a mark, and the one that was picked."""
    shape, (places, chosen) = MEASURES[measure], marked
    x, y = line["pool_size"].tolist(), line[shape.value].tolist()
    low = line[shape.low].fillna(line[shape.value]).clip(lower=floor).tolist()
    high = line[shape.high].fillna(line[shape.value]).tolist()
    few, here = line[line["pool_size"].isin(places)], line[line["pool_size"] == chosen]
    edge = {"color": style.colour, "width": 3}
    return [
        band(x, low, high, see_through(style.colour, 0.18), name),
        {
            "x": x,
            "y": y,
            "mode": "lines",
            "line": {"color": style.colour, "width": 2.5, "dash": dash},
            "name": escape(name),
            "text": [_point_words(row, measure, name) for row in line.to_dict("records")],
            "hovertemplate": "%{text}<extra></extra>",
        },
        marks(
            few["pool_size"].tolist(),
            few[shape.value].tolist(),
            {"color": style.colour, "symbol": style.marker, "size": 9},
            f"{name}, marks",
        ),
        marks(
            here["pool_size"].tolist(),
            here[shape.value].tolist(),
            {"color": palette.page, "symbol": style.marker, "size": 13, "line": edge},
            f"{name}, chosen N",
        ),
    ]


def _names_of_lines(
    ends: Sequence[tuple[str, float, str]], right: float, per_decade: float, palette: Palette
) -> list[dict[str, Any]]:
    """The name of each line at its right end, moved apart where they would touch. ends: (name, value, colour)."""
    notes = []
    wanted = [math.log10(value) * per_decade for _, value, _ in ends]
    for (name, value, colour), place, moved in zip(ends, wanted, spread(wanted, 19), strict=True):
        end = note(palette, escape(name), x=right, y=math.log10(value), xanchor="left", xshift=12, yshift=moved - place)
        end["font"]["color"] = colour
        notes.append(end)
    return notes


def guessed_reciprocal_rank(pool_size: int) -> float:
    """Mean of 1/rank when every rank is equally likely: H(N)/N, with Euler and Maclaurin's series for H.

    >>> round(guessed_reciprocal_rank(1), 3), round(guessed_reciprocal_rank(10), 6)
    (1.0, 0.292897)
    """
    n = float(pool_size)
    if pool_size < 10:
        return sum(1 / i for i in range(1, pool_size + 1)) / n
    return (math.log(n) + 0.5772156649015329 + 1 / (2 * n) - 1 / (12 * n * n)) / n


def _point_words(row: Mapping, measure: str, name: str) -> str:
    n = int(row["pool_size"])
    if measure == "recall":
        out_of = denominator(n)
        said = f"{of(row['recall'], out_of)} ({interval(row['recall_low'], row['recall_high'], out_of)})"
    elif measure == "lift":
        said = f"{row['lift']:,.1f} times chance"
    else:
        said = f"{row['mrr']:.4f}"
    return f"{escape(name)}, N = {n:,}: {said}, n = {row['n_queries']:,} images"


def with_lift_interval(table: pd.DataFrame) -> pd.DataFrame:
    """Adds lift_low and lift_high: chance is a constant, so the interval of lift is that of recall divided by it."""
    return table.assign(
        lift_low=table["recall_low"] / table["chance"], lift_high=table["recall_high"] / table["chance"]
    )


# -- the ladder ------------------------------------------------------------------------------------------------------


def ladder(
    table: pd.DataFrame,
    *,
    out_of: int,
    styles: Mapping[str, ModelStyle],
    labels: Mapping[str, str],
    palette: Palette,
) -> go.Figure:
    """Every model at one N: a dot with its 95% interval (an arrow where it leaves the axis) and its number, against
    guessing (dashed).

    `table` has one row a model with the columns of Study.table.
    """
    table = table.set_index("model").loc[[m for m in styles if m in set(table["model"])]]
    chance = float(table["chance"].iloc[0]) * out_of
    floor = min(chance, *(v * out_of for v in table["recall"] if v > 0)) * 0.55
    ceiling = max(chance, float(table["recall_high"].max()) * out_of) * 1.7
    ticks = _ticks(floor, ceiling, _steps(floor, ceiling))
    longest = max(len(labels[m]) for m in table.index)
    height = 96 + 40 * len(table)
    grid_line = {"color": palette.grid, "width": 1}
    # a grid line under the dashes would fill their gaps
    lines = [upright(tick, grid_line) for tick in ticks if abs(math.log10(tick / chance)) > 0.02]
    lines.append(upright(chance, {"color": palette.guessing, "width": 2, "dash": GUESSING_DASH}))
    traces = list[dict[str, Any]]()
    notes = [note(palette, "guessing", x=math.log10(chance), y=1, yref="paper", yanchor="bottom", yshift=4)]
    for place, (model, row) in enumerate(table.iterrows()):
        style = styles[str(model)]
        value, high, low = (float(row[c]) * out_of for c in ("recall", "recall_high", "recall_low"))
        shown = max(value, floor * 1.05)
        ends = {
            "type": "data",
            "symmetric": False,
            "array": [max(high - shown, 0)],
            "arrayminus": [max(shown - (low if low >= floor else floor * 1.07), 0)],  # its cap is inside the arrow
            "color": style.colour,
            "thickness": 2,
            "width": 5,
        }
        said = (
            f"{escape(labels[str(model)])}: {of(row['recall'], out_of)} "
            f"({interval(row['recall_low'], row['recall_high'], out_of)})"
        )
        traces.append(
            {
                "x": [shown],
                "y": [place],
                "mode": "markers",
                "marker": {"color": style.colour, "symbol": style.marker, "size": 13},
                "error_x": ends,
                "text": [said],
                "hovertemplate": "%{text}<extra></extra>",
                "name": escape(labels[str(model)]),
            }
        )
        if low < floor:  # the interval goes on: an arrow where a cap would say that it ends
            arrow = {"color": style.colour, "symbol": "arrow-left", "size": 12}
            traces.append(marks([floor * 1.02], [place], arrow, f"{labels[str(model)]}, interval goes on"))
        notes.append(
            {
                "text": f"<b>{escape(figure_words(row['recall'], out_of))}</b>",
                "x": math.log10(max(high, shown)),
                "y": place,
                "xanchor": "left",
                "xshift": 12,
                "showarrow": False,
                "font": {"family": FONT, "size": 15, "color": palette.text},
            }
        )
    n_images = int(table["n_queries"].max())
    words = f"linked images of {out_of:,}, log scale (N = {int(table['pool_size'].iloc[0]):,}, n = {n_images:,} images)"
    notes.append(note(palette, words, x=0.5, y=0, xref="paper", yref="paper", yanchor="top", yshift=-28))
    numbers = axis(palette, (floor, ceiling), ticks, [_plain(v) for v in ticks], log=True, line=True)
    return go.Figure(  # all at once, as the curve
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, height, {"l": min(26 + 7 * longest, 190), "r": 16, "t": 30, "b": 52}),
            "xaxis": numbers | {"showgrid": False},
            "yaxis": names_axis([escape(labels[m]) for m in table.index]),
            "annotations": notes,
            "shapes": lines,
        },
    )


# -- dots and fields -------------------------------------------------------------------------------------------------


def array(rate: float, chance: float, out_of: int, palette: Palette) -> str:
    """HTML: the share of images linked as a picture whose total is always `out_of`.

    Up to 100: one dot an image, filled from the bottom left, with a ring around what guessing would link. Above 100
    single dots are too small, so: a square field for all images, in it a dark square of true area, and a lens that
    shows the linked ones as dots.
    """
    on, guessed = whole(rate, out_of), whole(chance, out_of)
    words = escape(f"{of(rate, out_of)} images linked; guessing {of(chance, out_of)}")
    colours = f"--le-before:{palette.before};--le-guess:{palette.guessing};--le-page:{palette.page}"
    if out_of <= 100:
        body = f'<div class="le-array" role="img" aria-label="{words}">{_dots(100, 10, on, guessed)}</div>'
        return f'<div class="le-picture" style="{colours}">{body}</div>'
    side = 100 * math.sqrt(min(max(rate, 0), 1))
    guess_side = 100 * math.sqrt(min(max(chance, 0), 1))
    lens = ""
    if 0 < on <= 100 and side < 40:
        columns = max(5, math.ceil(math.sqrt(on)))
        pitch = "0.62rem" if on <= 64 else "0.5rem"
        total = math.ceil(max(on, guessed) / columns) * columns
        grid = f"grid-template-columns:repeat({columns},{pitch})"
        lens = f'<div class="le-lens" style="{grid}">{_dots(total, columns, on, guessed, blank=True)}</div>'
    field = (
        f'<div class="le-field" role="img" aria-label="{words}">'
        f'<i style="width:{side:.2f}%;height:{side:.2f}%;background:var(--le-before)"></i>'
        f'<i style="width:{guess_side:.2f}%;height:{guess_side:.2f}%;background:var(--le-guess)"></i>{lens}</div>'
    )
    note = f"Field: {out_of:,} images, true to scale" + (". Lens: the linked." if lens else ".")
    return f'<div class="le-picture" style="{colours}">{field}<div class="le-note">{note}</div></div>'


def _dots(total: int, columns: int, on: int, guessed: int, *, blank: bool = False) -> str:
    """Dots in reading order; dot number 0 is at the bottom left. Blank ones keep their place but are not drawn."""
    cells = []
    for row in reversed(range(total // columns)):
        for column in range(columns):
            i = row * columns + column
            kind = "le-dot" + (" le-on" if i < on else "") + (" le-guess" if i < guessed else "")
            hide = ' style="visibility:hidden"' if blank and i >= max(on, guessed) else ""
            cells.append(f'<span class="{kind}"{hide}></span>')
    return "".join(cells)


def array_legend(palette: Palette) -> str:
    """HTML: what dark, ring and grey mean."""
    colours = f"--le-before:{palette.before};--le-guess:{palette.guessing}"
    return (
        f'<div class="le-legend" style="{colours}"><span><i class="le-on"></i>linked</span>'
        '<span><i class="le-guess"></i>what guessing would link</span><span><i></i>not linked</span></div>'
    )
