"""Models against each other on the same images: every paired difference with its interval, beside zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from explorer.drawing.charts import FONT, axis, layout, names_axis, note, upright
from explorer.drawing.palette import Palette
from linkage_core import sentences

ROW = 36
SURE = 0.05


def told_apart(row: Mapping[Any, Any] | pd.Series) -> bool:
    """Whether the interval leaves out zero and the p adjusted for all pairs is under one in twenty."""
    return bool((row["low"] > 0 or row["high"] < 0) and row["p_holm"] < SURE)


def oriented(table: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """The pairs of comparisons.compare as read from the last model of `order` down: each against those before it."""
    place = {model: i for i, model in enumerate(order)}
    keys = pd.DataFrame({"b": table["model_b"].map(place), "a": table["model_a"].map(place)})
    return table.loc[keys.sort_values(["b", "a"], ascending=False).index].reset_index(drop=True)


def beside(table: pd.DataFrame, model: str) -> tuple[pd.Series, str, float] | None:
    """(row, other model, difference) of a model against the next one below it in recall; above it for the lowest.

    None where the model is in no pair.
    """
    pairs = [
        (row, row["model_a"], float(row["difference"]))
        if row["model_b"] == model
        else (row, row["model_b"], -float(row["difference"]))
        for _, row in table.iterrows()
        if model in (row["model_a"], row["model_b"])
    ]
    lower = [pair for pair in pairs if pair[2] >= 0]
    return min(lower or pairs, key=lambda pair: abs(pair[2]), default=None)


def p_words(p: float) -> str:
    """A p value for a reader.

    >>> p_words(0.0006), p_words(0.034), p_words(0.5), p_words(float("nan"))
    ('p < 0.001', 'p = 0.034', 'p = 0.50', 'p not known')
    """
    if math.isnan(p):
        return "p not known"
    return "p < 0.001" if p < 0.001 else f"p = {p:.{3 if p < 0.1 else 2}f}"


def figure_words(difference: float, out_of: int) -> str:
    """A difference beside its mark: whole from ten on, one decimal below, always with its sign.

    >>> figure_words(0.109, 100), figure_words(-0.0123, 100), figure_words(0.0, 100)
    ('+11', '\u22121.2', '0.0')
    """
    count = difference * out_of
    words = sentences.signed(count, 0 if abs(count) >= 9.95 else 1)
    return words if count < 0 or not words.strip("0.") else f"+{words}"


def height(n_pairs: int) -> int:
    return 112 + ROW * n_pairs


def forest(table: pd.DataFrame, *, out_of: int, labels: Mapping[str, str], palette: Palette) -> go.Figure:
    """Each pair of models: how many more images of `out_of` the first links than the second, with its 95% interval.

    `table` has the columns of comparisons.compare, all of one N and k. A filled mark is told apart from zero, an open
    one is not; a pair of too few patients has words in place of a mark.
    """
    rows = table.to_dict("records")
    said = [not row["flag"] and not math.isnan(row["low"]) for row in rows]
    ends = [v * out_of for row, use in zip(rows, said, strict=True) if use for v in (row["low"], row["high"])]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    span = (high - low) or 1.0
    # room beyond the intervals for their numbers
    low, high = low - (0.03 if low == 0 else 0.14) * span, high + 0.14 * span
    ticks = even_ticks(low, high)
    names = [escape(f"{labels[row['model_b']]} against {labels[row['model_a']]}") for row in rows]
    left = min(30 + 7 * max(map(len, names)), 380)
    pen = palette.before
    traces: list[dict[str, Any]] = []
    notes = []
    for place, (row, use) in enumerate(zip(rows, said, strict=True)):
        if not use:
            words = sentences.too_few(int(row["n_queries"]))
            notes.append(note(palette, words, x=0, y=place, xanchor="left", xshift=12))
            continue
        ends_x = [row["low"] * out_of, row["high"] * out_of]
        traces.append(
            {
                "x": ends_x,
                "y": [place, place],
                "mode": "lines",
                "line": {"color": pen, "width": 2.5},
                "hoverinfo": "skip",
                "name": f"{names[place]}, 95% interval",
            }
        )
        told = told_apart(row)
        traces.append(
            {
                "x": [row["difference"] * out_of],
                "y": [place],
                "mode": "markers",
                "marker": {
                    "color": pen if told else palette.page,
                    "symbol": "circle",
                    "size": 11,
                    "line": {"color": pen, "width": 2.5},
                },
                "text": [_words(row, names[place], out_of)],
                "hovertemplate": "%{text}<extra></extra>",
                "name": names[place],
            }
        )
        # on the side away from zero, so that the line there does not cross it
        side = {"x": ends_x[1], "xanchor": "left", "xshift": 12}
        if ends_x[1] < 0:
            side = {"x": ends_x[0], "xanchor": "right", "xshift": -12}
        number = note(palette, f"<b>{figure_words(row['difference'], out_of)}</b>", y=place, **side)
        number["font"] = {"family": FONT, "size": 15, "color": palette.text}
        notes.append(number)
    first = rows[0]
    n_images = max(int(row["n_queries"]) for row in rows)
    linked = "links" if first["k"] == 1 else f"finds among its first {first['k']}"
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top"}
    notes += [
        note(palette, "no difference", x=0, y=1, yref="paper", yanchor="bottom", yshift=4),
        note(
            palette,
            f"how many more of {out_of:,} images the first {linked} than the second "
            f"(N = {first['pool_size']:,}, n = {n_images:,} images)",
            yshift=-28,
            **under,
        ),
        note(palette, "line: 95% interval; filled: told apart from zero, open: not", yshift=-48, **under),
    ]
    return go.Figure(
        data=[{"type": "scatter", "cliponaxis": False, **trace} for trace in traces],
        layout={
            **layout(palette, height(len(rows)), {"l": left, "r": 24, "t": 30, "b": 76}),
            "xaxis": axis(
                palette, (low, high), ticks, [sentences.signed(v, decimals(ticks)) for v in ticks], line=True
            ),
            "yaxis": names_axis(names),
            "annotations": notes,
            "shapes": [upright(0, {"color": palette.axis, "width": 2}, layer="between")],
        },
    )


def words(table: pd.DataFrame, out_of: int, labels: Mapping[str, str]) -> str:
    """The picture as sentences, for those who cannot see it."""
    said = [
        _words(row, escape(f"{labels[row['model_b']]} against {labels[row['model_a']]}"), out_of)
        for row in table.to_dict("records")
    ]
    return f"Differences in images linked. {'; '.join(said)}."


def _words(row: Mapping[Any, Any], name: str, out_of: int) -> str:
    if row["flag"]:
        return f"{name}: {sentences.too_few(int(row['n_queries']))}"
    interval = sentences.difference_interval(row["low"], row["high"], out_of)
    return f"{name}: {figure_words(row['difference'], out_of)} ({interval}), adjusted {p_words(row['p_holm'])}"


def even_ticks(low: float, high: float) -> list[float]:
    """Round numbers from low to high, zero among them, at most nine."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 8)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def decimals(ticks: Sequence[float]) -> int:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    return max(0, -math.floor(math.log10(step) + 1e-9))
