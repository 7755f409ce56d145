"""The attackers of one setting as bars, and what they say in words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from explorer.drawing.charts import (
    Row,
    axis,
    layout,
    note,
    see_through,
    upright,
)
from explorer.drawing.marks import places, segment
from explorer.drawing.palette import GUESSING_DASH, Palette
from explorer.drawing.words import sees_images
from linkage_core.sentences import figure, interval, of

BAR_HEIGHT = 40


# -- attackers who adapt ---------------------------------------------------------------------------------------------


def attackers_height(n: int) -> int:
    return 84 + BAR_HEIGHT * n


def attackers(
    rows: Sequence[Row],
    names: Sequence[str],
    *,
    before: float | None,
    chance: float,
    out_of: int,
    pool_size: int,
    slots: int,
    palette: Palette,
    why: str = "",
    what: tuple[str, str] = ("linked images", "images"),
) -> go.Figure:
    """One bar an attacker with its 95% interval, with upright lines at before and guessing.

    The picture has room for `slots` bars, however many there are; `why` says in it why some are missing. what: what
    is counted, and the unit of n.

    rows have attacker, recall, recall_low, recall_high, n_queries; `before` is the worst attacker before.
    """
    tops = [chance, *([before] if before is not None else []), *(float(row["recall_high"]) for row in rows)]
    top = out_of * max(tops) * 1.12
    step = next(s for p in range(-1, 6) for s in (10**p, 2 * 10**p, 5 * 10**p) if top / s <= 8)
    ticks = [float(v) for v in np.arange(0, top, step)]
    traces: list[dict[str, object]] = []
    notes = []
    for place, (row, name) in enumerate(zip(rows, names, strict=True)):
        colour = palette.before if sees_images(row["attacker"]) else palette.after
        value, low, high = (out_of * float(row[c]) for c in ("recall", "recall_low", "recall_high"))
        words = f"{escape(name)}: {of(row['recall'], out_of)} ({interval(low / out_of, high / out_of, out_of)})"
        traces.append(
            {
                "x": [0, value, value, 0],
                "y": [place - 0.3, place - 0.3, place + 0.3, place + 0.3],
                "mode": "lines",
                "fill": "toself",
                "fillcolor": see_through(colour, 1.0),
                "line": {"width": 0},
                "hoveron": "fills",
                "text": words,
                "hoverinfo": "text",
                "name": words,
            }
        )
        traces.append(segment((value, high), place, colour, 2))
        traces.append(segment((low, value), place, palette.page, 1.5))
        notes.append(
            note(palette, f"<b>{figure(float(row['recall']), out_of)}</b>", x=high, y=place, xanchor="left", xshift=6)
            | {"font": {"size": 15, "color": palette.text}}
        )
    lines: list[tuple[str, float, str, str | None]] = [("guessing", chance, palette.guessing, GUESSING_DASH)]
    if before is not None:
        lines.append(("before", before, palette.before, None))
    shapes = []
    for name, value, colour, dash in lines:
        shapes.append(upright(out_of * value, {"color": colour, "width": 2, "dash": dash}, layer="above"))
        notes.append(note(palette, name, x=out_of * value, y=1, yref="paper", yanchor="bottom", yshift=2))
    if why:
        middle = {"x": 0.5, "y": (len(rows) + slots - 1) / 2, "xref": "paper", "xanchor": "center"}
        notes.append(note(palette, why, **middle))
    n = max((int(row["n_queries"]) for row in rows), default=0)
    words = f"{what[0]} of {out_of:,} (N = {pool_size:,}, n = {n:,} {what[1]}), line: 95% interval"
    notes.append(note(palette, words, x=0.5, y=0, xref="paper", yref="paper", yanchor="top", yshift=-26))
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, attackers_height(slots), {"l": 196, "r": 24, "t": 30, "b": 54}),
            "xaxis": axis(palette, (0, top), ticks, [f"{v:,g}" for v in ticks], line=True),
            "yaxis": places(names, slots),
            "annotations": notes,
            "shapes": shapes,
        },
    )


def attackers_words(rows: Sequence[Row], names: Sequence[str], before: float | None, out_of: int) -> str:
    """The picture as a sentence."""
    said = [f"{name} {of(float(row['recall']), out_of)}" for row, name in zip(rows, names, strict=True)]
    was = f" Before, the worst: {of(before, out_of)}." if before is not None else ""
    return f"Images linked by each attacker: {'; '.join(said)}.{was}"
