"""The charts of a report as SVG: lines, bars and words, drawn for paper. No script, no font and nothing from outside.

Each series has a dash and a mark of its own besides its colour, and its name stands at its end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from linkage_core import sentences
from linkage_core.report.tree import Bars, Curves

INK, SOFT, GRID = "#1F242C", "#5A6371", "#E4E7EC"
COLOURS = ("#178FDF", "#1A7F4F", "#B8720B", "#710C4D", "#B3372F", "#5D5BA8")
DASHES = ("", "7 4", "2 3", "10 3 2 3", "5 2", "1 4")
WIDTH = 680
SMALLEST = 1e-6
"""A rate below it is drawn at it: a logarithmic axis has no nought."""


def curves(chart: Curves) -> str:
    """Recall against N with its band, on logarithmic axes; guessing is 1/N."""
    height, left, right, top, bottom = 380, 92, 172, 14, 46
    sizes = [n for one in chart.series for n in one.x]
    # an end that reaches nought would stretch the axis without end: the band leaves the picture there
    rates = [y for one in chart.series for y in (*one.y, *one.high)] + [1 / max(sizes)]
    x_low, x_high = math.log10(min(sizes)), math.log10(max(sizes))
    x_high = x_high if x_high > x_low else x_low + 1
    y_low, y_high = math.log10(max(min(rates), SMALLEST)) - 0.12, 0

    def x_of(n: float) -> float:
        return left + (WIDTH - left - right) * (math.log10(n) - x_low) / (x_high - x_low)

    def y_of(rate: float) -> float:
        logged = math.log10(max(rate, 10.0**y_low))
        return height - bottom - (height - top - bottom) * (logged - y_low) / (y_high - y_low)

    parts = []
    for power in range(math.ceil(y_low), y_high + 1):
        y = y_of(10.0**power)
        parts += [_line(left, y, WIDTH - right, y, GRID), _text(left - 8, y + 4, _share(power), "end")]
    for n in _powers(min(sizes), max(sizes)):
        parts += [
            _line(x_of(n), top, x_of(n), height - bottom, GRID),
            _text(x_of(n), height - bottom + 18, f"{n:,}", "middle"),
        ]
    middle = (left + WIDTH - right) / 2
    parts.append(_text(middle, height - 8, "reports in the pool (N), log scale", "middle", SOFT))
    guess = [(x_of(n), y_of(1 / n)) for n in (min(sizes), max(sizes))]
    parts.append(_path(guess, SOFT, 1.5, "9 6"))
    ends: list[tuple[str, float, str]] = [("guessing", guess[-1][1], SOFT)]
    for i, one in enumerate(chart.series):
        colour = COLOURS[i % len(COLOURS)]
        band = [(x_of(n), y_of(rate)) for n, rate in zip(one.x, one.high, strict=True)]
        band += [(x_of(n), y_of(rate)) for n, rate in zip(one.x[::-1], one.low[::-1], strict=True)]
        parts.append(f'<polygon points="{_points(band)}" fill="{colour}" fill-opacity="0.16"/>')
        line = [(x_of(n), y_of(rate)) for n, rate in zip(one.x, one.y, strict=True)]
        parts.append(_path(line, colour, 2, DASHES[i % len(DASHES)]))
        parts += [_mark(x, y, i, colour) for x, y in line]
        ends.append((one.name, line[-1][1], colour))
    parts += _named(ends, WIDTH - right + 12, top, height - bottom)
    return _svg(WIDTH, height, chart.caption, chart.words, parts)


def bars(chart: Bars) -> str:
    """One bar a mitigation from nought, its interval as a whisker and its count behind it; guessing is a dashed "
    "line."""
    row, left, right, top, bottom = 27, 292, 112, 22, 44
    height = top + row * len(chart.bars) + bottom
    most = 1.06 * max([*(one.high for one in chart.bars), *(one.rate for one in chart.bars), chart.guessing])

    def x_of(rate: float) -> float:
        return left + (WIDTH - left - right) * rate / most

    parts = [_line(x_of(tick), top, x_of(tick), height - bottom, GRID) for tick in _ticks(most, chart.out_of)]
    parts += [
        _text(x_of(tick), height - bottom + 17, _count(tick, chart.out_of), "middle", SOFT)
        for tick in _ticks(most, chart.out_of)
    ]
    for i, one in enumerate(chart.bars):
        y = top + row * i + 5
        fill = f'fill="#FFFFFF" stroke="{INK}" stroke-width="1.6"' if one.hollow else 'fill="#2831AF"'
        parts += [
            _text(left - 10, y + 12, _cut(one.name, 46), "end"),
            f'<rect x="{left}" y="{y:.1f}" width="{x_of(one.rate) - left:.1f}" height="16" {fill}/>',
            _line(x_of(one.low), y + 8, x_of(one.high), y + 8, INK if one.hollow else "#111633", 1.6),
            _line(x_of(one.high), y + 4, x_of(one.high), y + 12, INK, 1.6),
            _text(WIDTH - right + 12, y + 12, sentences.of(one.rate, chart.out_of)),
        ]
    x = x_of(chart.guessing)
    parts += [
        f'<line x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{height - bottom}" stroke="{SOFT}" stroke-width="1.6" '
        'stroke-dasharray="6 4"/>',
        _text(x, top - 9, "guessing", "middle" if x > left + 40 else "start", SOFT),
        _text((left + WIDTH - right) / 2, height - 8, f"images linked, of {chart.out_of:,}", "middle", SOFT),
    ]
    return _svg(WIDTH, height, chart.caption, chart.words, parts)


def _powers(low: float, high: float) -> list[int]:
    """Powers of ten between two numbers, and the first where there is none.

    >>> _powers(10, 10_483), _powers(20, 50)
    ([10, 100, 1000, 10000], [20, 50])
    """
    found = [10**p for p in range(12) if low <= 10**p <= high]
    return found if len(found) > 1 else sorted({round(low), round(high)})


def _share(power: int) -> str:
    """A power of ten as a count.

    >>> _share(0), _share(-1), _share(-2), _share(-4)
    ('all', '10 of 100', '1 of 100', '1 of 10,000')
    """
    if power == 0:
        return "all"
    return "10 of 100" if power == -1 else f"1 of {10**-power:,}"


def _ticks(most: float, out_of: int) -> list[float]:
    """Three to seven places from nought."""
    rough = most * out_of / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    return [i * step / out_of for i in range(int(most * out_of / step + 1e-9) + 1)]


def _count(rate: float, out_of: int) -> str:
    return f"{rate * out_of:,.10g}"


def _named(ends: Sequence[tuple[str, float, str]], x: float, top: float, bottom: float) -> list[str]:
    """Names of lines at their ends, moved apart where they would lie over each other, in the order of the ends."""
    gap, order = 16.0, sorted(ends, key=lambda one: one[1])
    places: list[float] = []
    for _, y, _ in order:
        places.append(max(y, places[-1] + gap) if places else max(y, top + 6))
    over = places[-1] - (bottom + 4)
    for i in range(len(places) - 1, -1, -1):
        limit = bottom + 4 if i == len(places) - 1 else places[i + 1] - gap
        places[i] = min(places[i], limit) if over > 0 else places[i]
    return [
        _text(x, place + 4, _cut(name, 24), colour=colour, weight=600)
        for (name, _, colour), place in zip(order, places, strict=True)
    ]


def _cut(words: str, most: int) -> str:
    """
    >>> _cut("radiology", 24), _cut("a" * 9, 5)
    ('radiology', 'aaaa…')
    """
    return words if len(words) <= most else words[: most - 1] + "…"


def _mark(x: float, y: float, i: int, colour: str) -> str:
    shape = i % 4
    if shape == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    if shape == 1:
        return f'<rect x="{x - 2.8:.1f}" y="{y - 2.8:.1f}" width="5.6" height="5.6" fill="{colour}"/>'
    corners = (
        [(x, y - 4), (x + 4, y), (x, y + 4), (x - 4, y)] if shape == 2 else [(x, y - 4), (x + 4, y + 3), (x - 4, y + 3)]
    )
    return f'<polygon points="{_points(corners)}" fill="{colour}"/>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _path(points: Sequence[tuple[float, float]], colour: str, width: float, dash: str) -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{_points(points)}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashes}/>'


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start", colour: str = INK, weight: int = 400) -> str:
    if not words:
        return ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )


def _svg(width: int, height: int, title: str, words: str, parts: Sequence[str]) -> str:
    """The picture; `words` are for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(f"{title}. {words}")}" font-size="13">{"".join(parts)}</svg>'
    )
