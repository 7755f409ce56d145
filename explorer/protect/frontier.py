"""Words and pictures of every mitigation beside the others: what it lets through, certified and measured, and its use.

Made from the rows of linkage_core.frontier; nothing is computed or fetched here. Runs that differ by their seed alone
are one mitigation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.drawing import charts
from explorer.drawing.charts import FONT, layout, note, see_through
from explorer.drawing.palette import GUESSING_DASH, Palette
from explorer.drawing.words import OF_RELEASES, OfRelease, deed
from explorer.protect.options import EVERY, FAMILIES, at_most, best, can_say, counted, full_name, keeps, plus, summed
from linkage_core import sentences
from linkage_core.lab import frontier, measured
from linkage_core.sentences import signed

WHO = {measured.WORST: "Worst tried", "cosine": "Cosine only", frontier.OMNISCIENT: "Knows all"}
USES = {"read": "Read from it", "trained": "Train on it"}
TOLERANCES = {"0.2": "0.2 points", "1": "1 point", "2": "2 points"}
HEIGHT = 560
WIDTH = 800
"""Of the panels on a small screen, by which labels are placed."""
STEPS = (0.0, 0.2, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0)


# -- the answer ------------------------------------------------------------------------------------------------------


def answer(rows: pd.DataFrame, *, tolerance: str, keep: str, use: str, out_of: int, pool_size: int) -> tuple[str, str]:
    """The headline in two pieces, the count and what follows it."""
    of, found = len(counted(rows)), best(rows, float(tolerance), keep)
    if not of:
        return "", "No mitigation was measured for this use and this attacker."
    what = "declared and undeclared findings" if keep == "undeclared" else "declared findings"
    if not can_say(counted(rows), keep).any():
        return "", f"Too few patients have {what} here to say what a mitigation keeps of them."
    one = len(found) == 1 or (not len(found))
    verb = {"read": "keep", "trained": "train a reader that keeps"}[use]
    verb = {"keep": "keeps", "train a reader that keeps": "trains a reader that keeps"}[verb] if one else verb
    said = f" mitigation{'' if of == 1 else 's'} {verb} {what} within {TOLERANCES[tolerance]}"
    if not len(found):
        return f"None of {of:,}", f"{said}."
    shown = [sentences.figure(value / pool_size, out_of) for value in found["measured"].head(3)]
    if shown[0] == shown[-1]:
        shown = shown[:1]
    figures = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    who = "it leaves" if one else "they leave" if len(found) <= 3 else f"the best {_NUMBERS[min(len(found), 3)]} leave"
    return f"{len(found):,} of {of:,}", f"{said}; {who} {figures} of {out_of:,} images linked."


_NUMBERS = {2: "two", 3: "three"}


def facts(rows: pd.DataFrame, *, tolerance: str, keep: str, use: str, out_of: int) -> list[str]:
    """What qualifies the answer: what becomes of it when nothing is released, and how many are certified."""
    said = []
    nothing = rows[rows["family"] == "nothing"]
    if len(nothing):
        row = nothing.iloc[0]
        linked = f"Nothing released: {sentences.of(1 / row['pool_size'], out_of)}, as by guessing"
        if use == "read":
            said.append(f"{linked}, and nothing to read")
        else:
            held = bool(keeps(nothing, float(tolerance), keep).iloc[0])
            said.append(
                f"{linked}; a reader trained on public labels {'keeps them too' if held else 'does not keep them'} "
                f"({plus(row['declared_difference'])} points)"
            )
    found = best(rows, float(tolerance), keep)
    if len(found):
        n = int(found["certified"].notna().sum())
        said.append(f"a limit is certified for {n:,} of these {len(found):,}")
    if keep == "undeclared" and len(counted(rows)):
        blind = int(counted(rows)["undeclared_difference"].isna().sum())
        if blind:
            said.append(f"{blind:,} list all {EVERY} findings, which leaves none to look at")
    images = _n_images(rows)
    if images == images:
        said.append(f"n = {int(images):,} images")
    return said


# -- the picture -----------------------------------------------------------------------------------------------------


def stretched(points: float | np.ndarray | pd.Series) -> Any:
    """Points of AUROC against clean embeddings on an axis that shows a fifth of a point and forty."""
    return np.arcsinh(np.asarray(points) / 0.3)


def styles(palette: Palette) -> dict[str, dict[str, Any]]:
    """Marker of each family: never a colour alone."""
    after, release = palette.after, palette.release

    def solid(symbol: str, colour: str, size: int = 11) -> dict[str, Any]:
        return {"symbol": symbol, "color": colour, "size": size, "line": {"color": palette.page, "width": 1}}

    def hollow(symbol: str, colour: str, size: int = 11) -> dict[str, Any]:
        return {"symbol": symbol, "color": palette.page, "size": size, "line": {"color": colour, "width": 2}}

    return {
        "before": hollow("circle", palette.before, 13),
        "nothing": solid("star", palette.guessing, 15),
        "label": solid("circle", after),
        "aligned": solid("hexagon", after),
        "control": hollow("triangle-down", after),
        "noise": solid("x", palette.noise_only, 9),
        **{
            kind: (hollow if words.hollow else solid)(words.symbol, release, words.size)
            for kind, words in OF_RELEASES.items()
        },
    }


def colour_of(family: str, palette: Palette) -> str:
    style = styles(palette)[family]
    return str(style["color"] if style["color"] != palette.page else style["line"]["color"])


def matter(rows: pd.DataFrame, selected: str | None) -> list[str]:
    """The few that are named in the picture: the references, and the least linkage at each loss of usefulness."""
    found = [*rows.loc[rows["family"].isin(("before", "nothing")), "key"]]
    for keep in ("undeclared", "declared"):
        for tolerance in (0.2, 1.0, 2.0, 5.0, 20.0):
            kept = best(rows, tolerance, keep)
            found += kept["key"].head(1).tolist()
            found += (
                kept.sort_values("certified", kind="stable")
                .loc[lambda one: one["certified"].notna(), "key"]
                .head(1)
                .tolist()
            )
    if selected in set(rows["key"]):
        found.append(str(selected))
    return list(dict.fromkeys(found))


def picture(
    rows: pd.DataFrame,
    *,
    pool_size: int,
    out_of: int,
    tolerance: float,
    keep: str,
    selected: str | None,
    palette: Palette,
) -> go.Figure:
    """Lift against AUROC in two panels, declared above undeclared: each mitigation a bar from measured to certified.

    Filled marks are measured; an upright tick is the certified limit, an open arrow says that there is none. The few of
    `matter` are named and drawn strongly. Both panels have the same scale: points of AUROC against clean embeddings.
    """
    drawn = rows[rows["measured"].notna() & (rows["measured"] > 0)]
    named = matter(drawn, selected)
    finite = [float(v) for c in ("measured", "measured_high", "certified") for v in drawn[c] if v == v]
    low = max(min([0.7, *(0.9 * float(v) for v in drawn["measured_low"] if v == v and v > 0)]), 0.3)
    high = max([120.0, *(1.6 * v for v in finite)])
    losses = [100 * float(v) for group in frontier.GROUPS for v in drawn[f"{group}_difference"] if v == v]
    bottom, top = stretched(min([-2.0, *losses])) - 0.5, stretched(max([0.3, *losses])) + 0.5
    traces: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    panels = (("y", "declared", [0.54, 1.0]), ("y2", "undeclared", [0.0, 0.46]))
    axes = {}
    inner = (HEIGHT - _MARGIN["t"] - _MARGIN["b"]) * 0.46
    for axis, group, domain in panels:
        here = drawn[drawn[f"{group}_difference"].notna()]
        asked = group == "declared" or keep == "undeclared"
        if asked:
            edge = float(stretched(-tolerance))
            traces.append(
                {
                    "x": [low, high, high, low],
                    "y": [edge, edge, top, top],
                    "mode": "lines",
                    "fill": "toself",
                    "fillcolor": see_through(palette.muted, 0.12),
                    "line": {"width": 0},
                    "hoverinfo": "skip",
                    "name": "kept",
                    "yaxis": axis,
                }
            )
        for strong in (False, True):
            part = here[here["key"].isin(named) == strong]
            for kind in (each for each in FAMILIES if each in set(part["family"])):
                traces += _family(part[part["family"] == kind], group, axis, strong, high, out_of, pool_size, palette)
        ring = here[here["key"] == selected]
        if len(ring):
            mark = {"symbol": "circle", "color": "rgba(0, 0, 0, 0)", "size": 21}
            mark["line"] = {"color": palette.text, "width": 2}
            y = [float(v) for v in stretched(100 * ring[f"{group}_difference"])]
            x = ring["measured"].tolist()
            traces.append(
                {
                    "x": x,
                    "y": y,
                    "mode": "markers",
                    "marker": mark,
                    "hoverinfo": "skip",
                    "name": "chosen",
                    "yaxis": axis,
                }
            )
        per = (WIDTH / (math.log10(high) - math.log10(low)), inner / (top - bottom))
        notes += labels(
            here, named, selected, group, axis, per, (math.log10(low), math.log10(high), bottom, top), palette
        )
        clean = _clean(drawn, group)
        ticks = [-s for s in STEPS if bottom <= stretched(-s)]
        ticks = [t for t in ticks if t or clean is not None]
        upward = charts.axis(
            palette, (bottom, top), [float(stretched(t)) for t in ticks], [_tick(t, clean) for t in ticks]
        )
        upward |= {"domain": domain, "anchor": "x", "ticklabelstandoff": 6}
        axes["yaxis" if axis == "y" else "yaxis2"] = upward
        kept = f", shaded: kept within {TOLERANCES.get(f'{tolerance:g}', f'{tolerance:g} points')}" if asked else ""
        title = f"AUROC, {group} findings (points against clean embeddings, stretched near 0){kept}"
        place = {"x": 0, "y": domain[1], "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        notes.append(note(palette, title, **place, xshift=4 - _MARGIN["l"], yshift=6))
        if here.empty:
            middle = {"x": 0.5, "y": sum(domain) / 2, "xref": "paper", "yref": "paper"}
            notes.append(note(palette, f"No mitigation here was measured on {group} findings.", **middle))
    x_ticks = [v for power in range(-1, 6) for v in (1 * 10.0**power, 2 * 10.0**power, 5 * 10.0**power)]
    x_ticks = [v for v in x_ticks if low <= v <= high and (high / low < 2000 or math.log10(v) % 1 < 1e-9)]
    n = _n_images(drawn)
    images = f", n = {int(n):,} images" if n == n else ""
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top"}
    ten = f"10 times = {_images(10, pool_size, out_of)} (N = {pool_size:,}{images})"
    words = f"times better than guessing (lift), log scale; {ten}"
    notes.append(note(palette, words, **under, yshift=-28))
    notes.append(note(palette, "guessing", x=0, y=1, yref="paper", yanchor="bottom", yshift=24))
    guess = {"type": "line", "x0": 1, "x1": 1, "xref": "x", "yref": "paper", "layer": "below"}
    thin = {"color": palette.grid, "width": 1}
    grid = [{**guess, "x0": v, "x1": v, "line": thin} for v in x_ticks if v != 1]  # under the dashes it would fill gaps
    guess["line"] = {"color": palette.guessing, "width": 2, "dash": GUESSING_DASH}
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, HEIGHT, _MARGIN),
            "xaxis": charts.axis(palette, (low, high), x_ticks, [f"{v:,g}" for v in x_ticks], log=True, line=True)
            | {"anchor": "y2", "domain": [0, 1], "showgrid": False},
            **axes,
            "annotations": notes,
            "shapes": [
                {**shape, "y0": domain[0], "y1": domain[1]} for shape in (*grid, guess) for _, _, domain in panels
            ],
        },
    )


_MARGIN = {"l": 104, "r": 18, "t": 50, "b": 54}


def _images(lift: float, pool_size: int, out_of: int) -> str:
    return f"{sentences.of(min(lift / pool_size, 1.0), out_of)} images"


def _n_images(rows: pd.DataFrame) -> float:
    """How many images the linkage was measured on; statistics are measured in draws of patients."""
    return float(rows.loc[~rows["kind"].map(summed), "n_queries"].max())


def _clean(rows: pd.DataFrame, group: str) -> float | None:
    """AUROC of clean embeddings, from the rows themselves."""
    known = (rows[group] - rows[f"{group}_difference"]).dropna()
    return float(known.median()) if len(known) else None


def _tick(points: float, clean: float | None) -> str:
    said = signed(points, 1).removesuffix(".0")
    return said if clean is None else f"{clean + points / 100:.3f} ({said})"


def _family(
    rows: pd.DataFrame,
    group: str,
    axis: str,
    strong: bool,
    end: float,
    out_of: int,
    pool_size: int,
    palette: Palette,
) -> list[dict[str, Any]]:
    """Bars, ends and marks of one family in one panel."""
    kind = str(rows["family"].iloc[0])
    colour = colour_of(kind, palette)
    line = colour if strong else see_through(colour, 0.45)
    y = {key: float(v) for key, v in zip(rows["key"], stretched(100 * rows[f"{group}_difference"]), strict=True)}
    bars: tuple[list[float | None], list[float | None]] = ([], [])
    spans: tuple[list[float | None], list[float | None]] = ([], [])
    limits: tuple[list[float], list[float]] = ([], [])
    opens: tuple[list[float], list[float]] = ([], [])
    for row in rows.to_dict("records"):
        place, at = y[row["key"]], float(row["measured"])
        if kind == "nothing":
            continue
        certified = float(row["certified"])
        if certified == certified:
            bars[0].extend([at, certified, None])
            bars[1].extend([place, place, None])
            limits[0].append(certified)
            limits[1].append(place)
        else:
            reach = end * 0.985 if strong else at * 1.1
            bars[0].extend([at, reach, None])
            bars[1].extend([place, place, None])
            opens[0].append(reach)
            opens[1].append(place)
        ends = _span(row) if strong or certified == certified else None
        if ends:
            spans[0].extend([*ends, None])
            spans[1].extend([place, place, None])
    common = {"hoverinfo": "skip", "yaxis": axis, "mode": "lines"}
    found: list[dict[str, Any]] = []
    if bars[0]:
        dash = None if limits[0] else "2px,4px"
        style = {"color": line, "width": 2 if strong else 1.2, "dash": dash}
        found.append({"x": bars[0], "y": bars[1], "line": style, "name": f"{kind}, bars", **common})
    if spans[0]:
        style = {"color": see_through(colour, 0.35), "width": 6 if strong else 4}
        found.append({"x": spans[0], "y": spans[1], "line": style, "name": f"{kind}, intervals", **common})
    marks = {"mode": "markers", "hoverinfo": "skip", "yaxis": axis, "cliponaxis": False}
    if limits[0]:
        mark = {"symbol": "line-ns", "color": line, "size": 16 if strong else 11, "line": {"color": line, "width": 2.5}}
        found.append({"x": limits[0], "y": limits[1], "marker": mark, "name": f"{kind}, certified", **marks})
    if opens[0]:
        edge = {"color": line, "width": 1.5}
        mark = {"symbol": "triangle-right", "color": palette.page, "size": 9 if strong else 6, "line": edge}
        found.append({"x": opens[0], "y": opens[1], "marker": mark, "name": f"{kind}, no limit", **marks})
    own = dict(styles(palette)[kind])
    if not strong:
        own["size"] -= 3
        own["opacity"] = 0.65
    found.append(
        {
            "x": rows["measured"].tolist(),
            "y": list(y.values()),
            "mode": "markers",
            "marker": own,
            "cliponaxis": False,
            "selected": {"marker": {"opacity": own.get("opacity", 1)}},
            "unselected": {"marker": {"opacity": own.get("opacity", 1)}},
            "customdata": rows["key"].tolist(),
            "text": [point_words(row, out_of, pool_size) for row in rows.to_dict("records")],
            "hovertemplate": "%{text}<extra></extra>",
            "name": FAMILIES[kind],
            "yaxis": axis,
        }
    )
    return found


def _span(row: Mapping) -> tuple[float, float] | None:
    """The ends of what is drawn about the measured mark: the 95% interval, or the range over several runs."""
    names = ("least", "most") if row["runs"] > 1 else ("measured_low", "measured_high")
    low, high = (float(row[name]) for name in names)
    return (low, high) if low == low and low > 0 else None


def labels(
    rows: pd.DataFrame,
    named: Sequence[str],
    selected: str | None,
    group: str,
    axis: str,
    per: tuple[float, float],
    ends: tuple[float, float, float, float],
    palette: Palette,
) -> list[dict[str, Any]]:
    """Names beside the marks of the few that matter, each where there is room; where there is none, none.

    per: pixels a decade and pixels a unit of the axis. ends: (left, right) in decades, (bottom, top) in units.
    """
    left, right, bottom, top = ends
    always = rows.loc[rows["family"].isin(("before", "nothing")), "key"].tolist()
    first = [*always, *([selected] if selected else [])]
    order = {key: i for i, key in enumerate(dict.fromkeys([*first, *named]))}
    marks = []
    for row in rows.to_dict("records"):
        x = (math.log10(row["measured"]) - left) * per[0]
        y = (float(stretched(100 * row[f"{group}_difference"])) - bottom) * per[1]
        reach = row["certified"] if row["certified"] == row["certified"] else 10**right
        marks.append((row, x, y, (math.log10(max(reach, row["measured"])) - left) * per[0]))
    strong = [(row, x, y, far) for row, x, y, far in marks if row["key"] in order]
    taken = [(x - 8, x + 8, y - 7, y + 7) for _, x, y, _ in strong]
    spans: list[tuple[float, ...]] = []
    for row, _, y, _ in strong:
        drawn = _span(row)
        if drawn:
            spans.append((*((math.log10(max(v, 1e-9)) - left) * per[0] for v in drawn), y - 3, y + 3))
    notes = []
    for row, x, y, far in sorted(strong, key=lambda mark: order[mark[0]["key"]]):
        words = full_name(row)
        wide = 6.7 * len(words) + 8
        places = [
            *((-12, 0, "right"), (12, 13, "left"), (12, -13, "left"), (-8, 14, "right"), (-8, -14, "right")),
            *((-12, 26, "right"), (-12, -26, "right"), (12, 27, "left"), (12, -27, "left")),
            (far - x + 12, 0, "left"),
        ]
        if row["family"] == "nothing":
            places.insert(0, (12, 0, "left"))
        others: list[tuple[float, ...]] = [box for box in taken if box != (x - 8, x + 8, y - 7, y + 7)]
        others += [(a, b, h - 2, h + 2) for other, a, h, b in strong if other is not row]
        tries = [[*others, *spans], others] if row["key"] in always else [[*others, *spans]]
        for avoided, (dx, dy, anchor) in product(tries, places):
            x0 = x + dx - (wide if anchor == "right" else 0)
            box = (x0, x0 + wide, y + dy - 8, y + dy + 8)
            inside = (
                box[0] >= 0 and box[1] <= (right - left) * per[0] and box[2] >= 0 and box[3] <= (top - bottom) * per[1]
            )
            if inside and not any(_meet(box, other_box) for other_box in avoided):
                taken.append(box)
                at = {"x": math.log10(row["measured"]), "y": float(stretched(100 * row[f"{group}_difference"]))}
                name_of = note(palette, escape(words), **at, yref=axis, xanchor=anchor, xshift=dx, yshift=dy)
                name_of["font"] = {"family": FONT, "size": 13, "color": palette.text}
                notes.append(name_of)
                break
    return notes


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]


def point_words(row: Mapping, out_of: int, pool_size: int) -> str:
    """What a mark says when the pointer is on it. Escaped."""
    lines = [f"<b>{escape(full_name(row))}</b>", escape(linked_words(row, out_of, pool_size))]
    lines.append(escape(certified_words(row, out_of, pool_size)))
    for group in frontier.GROUPS:
        if row[group] == row[group]:
            points = plus(row[f"{group}_difference"])
            lines.append(f"{group} findings: AUROC {row[group]:.3f}, {points} points")
        elif group == "undeclared" and int(row["listed"]) == EVERY:
            lines.append(f"lists all {EVERY} findings: none is left undeclared")
    return "<br>".join(lines)


def linked_words(row: Mapping, out_of: int, pool_size: int) -> str:
    """How many images are linked, by whom, and how sure that is."""
    if row["measured"] != row["measured"]:
        return "linkage not measured for this attacker"
    what = "summed patients picked" if summed(row["kind"]) else "images linked"
    linked = f"{sentences.of(row['measured'] / pool_size, out_of)} {what}"
    if row["family"] == "nothing":
        return f"{linked}, as by guessing"
    if row["sure"]:
        return f"{linked}: without noise every embedding is its own, so this follows"
    who = (deed(row["named"]) or "") if row["attacker"] == measured.WORST else ""
    by = f" by an attacker who {who}" if who else ""
    ends = sentences.interval(row["measured_low"] / pool_size, row["measured_high"] / pool_size, out_of)
    if summed(row["kind"]):
        by = f" by an attacker who {row['named']}"
    if row["runs"] > 1:
        ends = sentences.interval(row["least"] / pool_size, row["most"] / pool_size, out_of)
        return f"{linked}{by}; {int(row['runs'])} runs with other seeds: {ends.rsplit(' of ', 1)[0]}"
    return f"{linked}{by} ({ends.rsplit(' of ', 1)[0]})"


def certified_words(row: Mapping, out_of: int, pool_size: int) -> str:
    """What no attacker passes, and about what."""
    value = float(row["certified"])
    if value != value:
        return "no limit is certified: a better attacker may do better"
    if row["family"] == "nothing":
        return "nobody can do better"
    words = OF_RELEASES.get(row["kind"], OfRelease("", ""))
    about = words.about
    less = float(row["certified_paired"])
    if words.paired and less == less:
        about += f"; at most {at_most(less, pool_size, out_of)} for {words.paired}"
    if row["use"] == "trained" and frontier.labelled(row["kind"]):
        about += "; one random finding travels along, which doubles the limit"
    return f"certified: at most {at_most(value, pool_size, out_of)} for {words.whom}{about}"


def legend(rows: pd.DataFrame, palette: Palette) -> str:
    """HTML: what marks, ticks and arrows mean."""
    signs = {
        "before": "○",
        "nothing": "★",
        "label": "●",
        "aligned": "⬢",
        "control": "▽",
        "noise": "×",
        **{kind: words.sign for kind, words in OF_RELEASES.items()},
    }
    present = [kind for kind in FAMILIES if kind in set(rows["family"])]
    items = [
        f'<span><em style="color:{colour_of(kind, palette)}">{signs[kind]}</em>{escape(FAMILIES[kind])}</span>'
        for kind in present
    ]
    items += [
        '<span><em aria-hidden="true">┃</em>certified limit</span>',
        '<span><em aria-hidden="true">▷</em>no limit certified</span>',
    ]
    return f'<div class="mi-legend fr-legend">{"".join(items)}</div>'


def words(rows: pd.DataFrame, *, out_of: int, pool_size: int) -> str:
    """The picture as sentences, for those who cannot see it: the few that are named in it."""
    shown = rows[rows["key"].isin(matter(rows[rows["measured"].notna()], None))]
    said = [
        f"{full_name(row)}: {linked_words(row, out_of, pool_size)}, {certified_words(row, out_of, pool_size)}, "
        f"declared {plus(row['declared_difference'])} points"
        for row in shown.to_dict("records")
    ]
    return f"Lift against AUROC of {len(rows):,} mitigations. {'; '.join(said)}."


def one(row: Mapping, out_of: int, pool_size: int) -> str:
    """HTML: the chosen mitigation in two lines."""
    used = []
    for group in frontier.GROUPS:
        if row[group] == row[group]:
            used.append(f"{group} {row[group]:.3f} ({plus(row[f'{group}_difference'])} points)")
        else:
            used.append(f"{group} not measured")
    first = f"<b>{escape(full_name(row))}</b>: {escape(linked_words(row, out_of, pool_size))}"
    second = f"{certified_words(row, out_of, pool_size)} · AUROC {', '.join(used)}"
    return f'<div class="fr-one"><p>{first}.</p><p class="le-small le-flat">{escape(sentences.upper(second))}</p></div>'


def table(rows: pd.DataFrame, out_of: int, pool_size: int) -> pd.DataFrame:
    """The rows with the words of the page."""

    def ends(row: Mapping) -> str:
        if row["measured"] != row["measured"] or row["sure"] or row["family"] == "nothing":
            return "follows" if row["measured"] == row["measured"] else "not measured"
        pair = (row["least"], row["most"]) if row["runs"] > 1 else (row["measured_low"], row["measured_high"])
        said = sentences.interval(pair[0] / pool_size, pair[1] / pool_size, out_of).rsplit(" of ", 1)[0]
        return f"{said} ({row['runs']})" if row["runs"] > 1 else said

    def limit(row: Mapping) -> str:
        if row["certified"] != row["certified"]:
            return "no limit"
        return at_most(row["certified"], pool_size, out_of).rsplit(" of ", 1)[0]

    records = rows.to_dict("records")
    return pd.DataFrame(
        {
            "kept": ["✓" if row["kept"] else "" for row in records],
            "protection": [row["name"] for row in records],
            "setting": [row["setting"] for row in records],
            "linked": (rows["measured"] / pool_size * out_of).tolist(),
            "interval": [ends(row) for row in records],
            "certified": [limit(row) for row in records],
            "declared": rows["declared"].tolist(),
            "declared points": (100 * rows["declared_difference"]).tolist(),
            "undeclared": rows["undeclared"].tolist(),
            "undeclared points": (100 * rows["undeclared_difference"]).tolist(),
        }
    )


def filed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as they are filed, numbers unrounded."""
    columns = [
        *("cohort", "key", "name", "setting", "family", "kind", "parameter", "value", "listed", "runs"),
        *("pool_size", "attacker", "named", "measured", "measured_low", "measured_high", "least", "most", "sure"),
        *(
            "certified",
            "certified_paired",
            "ceiling",
            "use",
            "declared",
            "declared_low",
            "declared_high",
            "declared_difference",
        ),
        *("undeclared", "undeclared_low", "undeclared_high", "undeclared_difference", "n_queries", "n_patients"),
    ]
    return rows[columns].rename(
        columns={
            "key": "mitigation",
            "measured": "lift",
            "certified": "certified_lift",
            "certified_paired": "certified_lift_paired",
        }
    )
