"""Who is exposed, as pictures: all images sorted by how often they come first, what goes with it, and groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.drawing.charts import FONT, axis, chosen_line, filled, guessing_line, layout, note, see_through, upright
from explorer.drawing.forest import decimals, even_ticks, figure_words, p_words, told_apart
from explorer.drawing.palette import GUESSING_DASH, ModelStyle, Palette
from linkage_core import sentences

HEIGHT = 300
ROW = 25
SPREAD_POINTS = 160
FIRST_POINTS = 40
"""Of all images so many can be clicked in the picture: the first ones, the rest evenly along its log scale."""

HEADINGS = {
    "findings": "Findings",
    "label vector shared by": "Same 14 findings in",
    "report length": "Length of the report",
    "text shared by": "Same text in",
    "view": "View",
    "sex": "Sex",
    "age decade": "Age",
}


def by_exposure(table: pd.DataFrame) -> pd.DataFrame:
    """The records of exposure.exposure that have a probability, the most exposed first; `place` counts from 1.

    Equal ones stand by margin and then in the order of the cohort.
    """
    rows = table[table["p_first"].notna()].sort_values(["p_first", "margin"], ascending=False, kind="stable")
    return rows.reset_index(drop=True).assign(place=np.arange(1, len(rows) + 1))


# -- every image -----------------------------------------------------------------------------------------------------


def spread(
    ordered: pd.DataFrame,
    *,
    n_tail: int,
    pool_size: int,
    chosen: str | None,
    style: ModelStyle,
    palette: Palette,
) -> go.Figure:
    """How often each image comes first, the most exposed left: its tail shaded, guessing dashed, one image ringed.

    `ordered` is by_exposure's table; no tail is shown where `n_tail` is 0. Only some points are drawn (FIRST_POINTS
    and SPREAD_POINTS, all where they are few); the one under the pointer gives its record to a click.
    """
    out_of = sentences.denominator(pool_size)
    n = len(ordered)
    y = (ordered["p_first"] * out_of).to_numpy()
    places = sorted({*range(1, min(n, FIRST_POINTS) + 1), *np.geomspace(1, n, SPREAD_POINTS).round().astype(int)})
    at = np.array(places) - 1
    chance = out_of / pool_size
    top = max(float(y[0]), 2 * chance) * 1.06
    traces: list[dict[str, Any]] = []
    if n_tail:
        tail = [i for i in at if i < n_tail]
        x_tail = [0.9, 0.9, *(float(i + 1) for i in tail), n_tail, n_tail]
        y_tail = [0, float(y[0]), *(float(y[i]) for i in tail), float(y[n_tail - 1]), 0]
        traces.append(filled(x_tail, y_tail, see_through(style.colour, 0.22), "the most exposed"))
    traces += [
        guessing_line([0.9, n * 1.06], [chance, chance], palette),
        {
            "x": [float(place) for place in places],
            "y": [float(y[i]) for i in at],
            "mode": "lines",
            "line": {"color": style.colour, "width": 2},
            "hoverinfo": "skip",
            "name": "all images",
        },
        {
            "x": [float(place) for place in places],
            "y": [float(y[i]) for i in at],
            "mode": "markers",
            "marker": {"color": style.colour, "symbol": style.marker, "size": 7},
            # a click chooses; it does not dim the others
            "selected": {"marker": {"opacity": 1}},
            "unselected": {"marker": {"opacity": 1}},
            "customdata": ordered["record_id"].iloc[at].tolist(),
            "text": [_image_words(ordered.iloc[i], n, out_of) for i in at],
            "hovertemplate": "%{text}<br>click to choose<extra></extra>",
            "name": "images",
        },
    ]
    mine = ordered[ordered["record_id"] == chosen]
    traces.append(
        {
            "x": mine["place"].astype(float).tolist(),
            "y": (mine["p_first"] * out_of).tolist(),
            "mode": "markers",
            "marker": {
                "color": palette.page,
                "symbol": style.marker,
                "size": 15,
                "line": {"color": palette.text, "width": 3},
            },
            "hoverinfo": "skip",
            "name": "chosen image",
        }
    )
    y_ticks = [tick for tick in even_ticks(0, top) if tick >= 0]
    x_ticks = [10**power for power in range(9) if 10**power < n / 1.6] + [n]
    above = {"yref": "paper", "y": 1, "yanchor": "bottom"}
    middle = (n + 1) // 2
    notes = [
        note(palette, f"times first, of {out_of:,} pools", x=0, xref="paper", xanchor="left", yshift=24, **above),
        note(
            palette,
            f"images, the most exposed first, log scale (N = {pool_size:,}, n = {n:,} images)",
            x=0.5,
            y=0,
            xref="paper",
            yref="paper",
            yanchor="top",
            yshift=-28,
        ),
        note(palette, "guessing", x=1, xref="paper", xanchor="left", y=chance, xshift=8),
    ]
    notes.append(note(palette, "the middle one", x=math.log10(middle), xanchor="right", yshift=2, **above))
    if n_tail:  # from 30 patients, so far enough from the left end
        words = f"the most exposed {n_tail:,}"
        notes.append(note(palette, words, x=math.log10(n_tail), xanchor="right", yshift=2, **above))
    lines = [chosen_line(place, palette) for place in (n_tail, middle) if place]
    return go.Figure(
        data=[{"type": "scatter", "cliponaxis": False, **trace} for trace in traces],
        layout={
            **layout(palette, HEIGHT, {"l": 56, "r": 84, "t": 48, "b": 52}),
            "selectionrevision": chosen or "",
            "xaxis": axis(palette, (0.9, n * 1.06), x_ticks, [f"{tick:,}" for tick in x_ticks], log=True, line=True),
            "yaxis": axis(palette, (0, top), y_ticks, [f"{v:,.{decimals(y_ticks)}f}" for v in y_ticks])
            | {"ticklabelstandoff": 6},
            "annotations": notes,
            "shapes": lines,
        },
    )


def spread_words(ordered: pd.DataFrame, n_tail: int, pool_size: int) -> str:
    """The picture as a sentence, for those who cannot see it."""
    out_of = sentences.denominator(pool_size)
    n = len(ordered)
    places = dict.fromkeys([1, max(1, n_tail), max(1, n // 10), (n + 1) // 2])
    said = [f"number {place:,} {sentences.of(ordered['p_first'].iloc[place - 1], out_of)}" for place in places]
    return (
        f"{n:,} images sorted by how often each comes first in pools of {pool_size:,}: {'; '.join(said)}; "
        f"guessing {sentences.of(1 / pool_size, out_of)}."
    )


def _image_words(row: pd.Series, n: int, out_of: int) -> str:
    said = sentences.of(row["p_first"], out_of)
    return f"number {row['place']:,} of {n:,}: {escape(row['record_id'])}<br>first in {said} pools"


# -- what goes with it -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One line of the dot plot: a heading with what its rows are compared with, or a row of exposure.associations."""

    words: str
    aside: str = ""
    row: Mapping[Any, Any] | None = None


def lines_of(table: pd.DataFrame) -> list[Line]:
    """The rows of exposure.associations under headings, one for each attribute; all findings under one."""
    lines: list[Line] = []
    heading = ""
    for row in table.to_dict("records"):
        attribute = row["attribute"] if row["attribute"] in HEADINGS else "findings"
        if attribute != heading:
            heading = attribute
            against = "not present" if attribute == "findings" and row["group"] == "present" else row["against"]
            lines.append(Line(HEADINGS[attribute], f"against {against}" if against else ""))
        name = row["attribute"] if row["group"] == "present" else row["group"]
        lines.append(Line(name, row=row))
    return lines


def limits(table: pd.DataFrame, out_of: int) -> tuple[float, float]:
    """Ends of an axis that holds every interval of a table, and zero; the same for pictures side by side."""
    said = table[table["low"].notna()]
    low = min([0.0, *(said["low"] * out_of)])
    high = max([0.0, *(said["high"] * out_of)])
    if low == high:
        return -1.0, 1.0
    room = 0.06 * (high - low)
    return low - room, high + room


def differences(
    lines: Sequence[Line], *, ends: tuple[float, float], out_of: int, pool_size: int, palette: Palette
) -> go.Figure:
    """How much more often images with an attribute come first than those it is compared with, each with its interval.

    A filled mark is told apart from zero after adjusting for all comparisons, an open one is not; a comparison of too
    few patients has words in place of a mark.
    """
    pen = palette.before
    traces: list[dict[str, Any]] = []
    notes = []
    for place, line in enumerate(lines):
        if line.row is None:
            if line.aside:
                aside = {"x": 0, "y": place, "xref": "paper", "xanchor": "left", "xshift": 4}
                notes.append(note(palette, escape(line.aside), bgcolor=palette.page, **aside))
            continue
        row = line.row
        if math.isnan(row["difference"]):
            notes.append(note(palette, escape(row["note"]), x=0, y=place, xanchor="left", xshift=8))
            continue
        traces.append(_interval(row["low"] * out_of, row["high"] * out_of, place, pen, line.words))
        hover = f"{escape(line.words)}: {_association_words(row, out_of)}"
        traces.append(
            _dot(row["difference"] * out_of, place, pen, pen if told_apart(row) else palette.page, hover, line.words)
        )
    ticks = even_ticks(*ends)
    longest = max((len(line.words) for line in lines), default=10)
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top"}
    notes += [
        note(palette, "no difference", x=0, y=1, yref="paper", yanchor="bottom", yshift=2),
        note(palette, f"more often first, of {out_of:,} pools (N = {pool_size:,})", yshift=-26, **under),
    ]
    return go.Figure(
        data=[{"type": "scatter", "cliponaxis": False, **trace} for trace in traces],
        layout={
            **layout(palette, 78 + ROW * len(lines), {"l": min(24 + 7 * longest, 230), "r": 16, "t": 26, "b": 52}),
            "xaxis": axis(palette, ends, ticks, [sentences.signed(v, decimals(ticks)) for v in ticks], line=True),
            "yaxis": _names(
                palette, [f"<b>{escape(x.words)}</b>" if x.row is None else escape(x.words) for x in lines]
            ),
            "annotations": notes,
            "shapes": [_upright(0, palette)],
        },
    )


def differences_words(table: pd.DataFrame, out_of: int) -> str:
    """The picture as sentences, for those who cannot see it."""
    said = [
        f"{row['attribute']}, {row['group']}: "
        f"{row['note'] if math.isnan(row['difference']) else _association_words(row, out_of)}"
        for row in table.to_dict("records")
    ]
    return f"Differences in how often images come first. {'; '.join(said)}."


def _association_words(row: Mapping[Any, Any], out_of: int) -> str:
    interval = sentences.difference_interval(row["low"], row["high"], out_of)
    sizes = f"n = {row['n_images']:,} against {row['n_images_against']:,} images"
    difference = figure_words(row["difference"], out_of)
    said = f"{difference} ({interval}) than {escape(row['against'])}, adjusted {p_words(row['p_holm'])}, {sizes}"
    return f"{said}, {escape(row['note'])}" if row["note"] else said


# -- groups ----------------------------------------------------------------------------------------------------------


def groups(table: pd.DataFrame, *, out_of: int, pool_size: int, palette: Palette) -> go.Figure:
    """How many images of each group are linked, with its 95% interval, against guessing.

    `table` is exposure.groups. Nothing stands for a group of fewer than 30 patients but the words.
    """
    rows = table.to_dict("records")
    pen = palette.before
    chance = float(table["chance"].mean()) * out_of
    top = max([chance * 2, *(table["high"].dropna() * out_of)]) * 1.14
    traces: list[dict[str, Any]] = []
    notes = []
    names = []
    for place, row in enumerate(rows):
        names.append(f"{row['group']}, n = {row['n_images']:,}")
        if math.isnan(row["linked"]):
            notes.append(note(palette, escape(row["note"]), x=chance, y=place, xanchor="left", xshift=10))
            continue
        traces.append(_interval(row["low"] * out_of, row["high"] * out_of, place, pen, names[-1]))
        hover = f"{escape(row['group'])}: {_group_words(row, out_of)}"
        traces.append(_dot(row["linked"] * out_of, place, pen, pen, hover, names[-1]))
        number = note(
            palette,
            f"<b>{escape(sentences.figure(row['linked'], out_of))}</b>",
            x=row["high"] * out_of,
            y=place,
            xanchor="left",
            xshift=12,
        )
        number["font"] = {"family": FONT, "size": 15, "color": palette.text}
        notes.append(number)
    ticks = [tick for tick in even_ticks(0, top) if tick >= 0]
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top"}
    under_words = f"linked images of {out_of:,} (N = {pool_size:,}; n: images; line: 95% interval)"
    notes += [
        note(palette, "guessing", x=chance, y=1, yref="paper", yanchor="bottom", yshift=2),
        note(palette, under_words, yshift=-26, **under),
    ]
    return go.Figure(
        data=[{"type": "scatter", "cliponaxis": False, **trace} for trace in traces],
        layout={
            **layout(
                palette,
                78 + (34 if len(rows) > 4 else 48) * len(rows),
                {"l": min(26 + 7 * max(map(len, names)), 260), "r": 16, "t": 26, "b": 52},
            ),
            "xaxis": axis(palette, (0, top), ticks, [f"{v:,.{decimals(ticks)}f}" for v in ticks], line=True),
            "yaxis": _names(palette, [escape(name) for name in names]),
            "annotations": notes,
            "shapes": [_upright(chance, palette)],
        },
    )


def groups_words(table: pd.DataFrame, out_of: int) -> str:
    """The picture as a sentence, for those who cannot see it."""
    rows = table.to_dict("records")
    said = [f"{row['group']} {row['note'] if math.isnan(row['linked']) else _group_words(row, out_of)}" for row in rows]
    return f"Images linked: {'; '.join(said)}; guessing {sentences.of(rows[0]['chance'], out_of)}."


def groups_sentence(apart: pd.DataFrame, out_of: int) -> str:
    """Whether groups are linked differently, from exposure.associations of that one attribute."""
    said = apart[apart["difference"].notna()]
    if said.empty:
        few = [row for row in apart["note"] if row != "not recorded"]
        return f"Whether groups differ: {few[0]}." if few else "It is not recorded who belongs to which group."
    told = [row for row in said.to_dict("records") if told_apart(row)]
    if not told:
        widest = float(max(said["low"].abs().max(), said["high"].abs().max()))
        room = sentences.of(widest, out_of)
        if not sentences.whole(widest, out_of):
            return f"No group differs from the others by 1 of {out_of:,} images."
        return f"No group can be told apart from the others. Differences of up to {room} images cannot be ruled out."
    told.sort(key=lambda row: -abs(row["difference"]))
    parts = []
    for row in told[:3]:
        count = sentences.whole(abs(row["difference"]), out_of)
        more = row["difference"] > 0
        words = f"{count:,} {'more' if more else 'fewer'}" if count else f"fewer than 1 {'more' if more else 'less'}"
        interval = sentences.difference_interval(row["low"], row["high"], out_of)
        parts.append(f"{row['group']} {words} of {out_of:,} than {row['against']} ({interval})")
    rest = len(told) - len(parts)
    return f"Linked images: {'; '.join(parts)}{f'; and {rest} more groups differ' if rest else ''}."


def _group_words(row: Mapping[Any, Any], out_of: int) -> str:
    interval = sentences.interval(row["low"], row["high"], out_of)
    sizes = f"n = {row['n_images']:,} images of {row['n_patients']:,} patients"
    said = f"{sentences.of(row['linked'], out_of)} ({interval}), {sentences.lift(row['lift'])}, {sizes}"
    return f"{said}, {escape(row['note'])}" if row["note"] else said


# -- pieces of a dot plot --------------------------------------------------------------------------------------------


def _interval(low: float, high: float, place: int, pen: str, name: str) -> dict[str, Any]:
    return {
        "x": [low, high],
        "y": [place, place],
        "mode": "lines",
        "line": {"color": pen, "width": 2.5},
        "hoverinfo": "skip",
        "name": f"{name}, 95% interval",
    }


def _dot(x: float, place: int, pen: str, fill: str, hover: str, name: str) -> dict[str, Any]:
    return {
        "x": [x],
        "y": [place],
        "mode": "markers",
        "marker": {"color": fill, "symbol": "circle", "size": 10, "line": {"color": pen, "width": 2.5}},
        "text": [hover],
        "hovertemplate": "%{text}<extra></extra>",
        "name": name,
    }


def _names(palette: Palette, names: Sequence[str]) -> dict:
    ends = [len(names) - 0.4, -0.6]
    places = list(range(len(names)))
    return axis(palette, ends, places, [f"{name}  " for name in names]) | {"showgrid": False}


def _upright(x: float, palette: Palette) -> dict[str, Any]:
    return upright(x, {"color": palette.guessing, "width": 2, "dash": GUESSING_DASH})
