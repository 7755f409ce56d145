"""Words and pictures of an attacker who may keep silent, made from tidy tables. Nothing is computed or fetched here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import pandas as pd
import plotly.graph_objects as go

from explorer.drawing.charts import (
    CURVE_HEIGHT,
    axis,
    band,
    chosen_line,
    count_tick,
    guessing_line,
    layout,
    note,
    see_through,
    spread,
)
from explorer.drawing.palette import ModelStyle, Palette
from linkage_core.audit.outcomes import FEWEST_LINKED, OpenWorld
from linkage_core.sentences import interval, of, whole

OUT_OF = 100
"""Prior, precision and the pictures of images all count out of 100 here, and so do the sentences."""
SMALLEST_SHOWN = 1e-4


def at(world: OpenWorld, wanted: int) -> pd.Series:
    """The row of the wanted precision (of 100); 0 is the attacker who always answers."""
    return world.operating[world.operating["wanted_precision"] == wanted / 100].iloc[0]


def shares(right: float, links: float) -> tuple[int, int, int]:
    """Linked rightly, linked wrongly and no answer as whole numbers of 100; the first two add up to the headline's.

    >>> shares(0.053, 0.056), shares(0.004, 0.012), shares(0.0, 0.0)
    ((5, 1, 94), (0, 1, 99), (0, 0, 100))
    """
    answered = whole(links, OUT_OF)
    rightly = min(math.floor(OUT_OF * right + 0.5), answered)
    return rightly, answered - rightly, OUT_OF - answered


# -- words -----------------------------------------------------------------------------------------------------------


def answer(world: OpenWorld, prior: int, wanted: int) -> tuple[str, str, str, str] | str:
    """The headline (before, the count, after, the line under it), or what stands in its place where too few carry it.

    A prior of 0 takes the world at any other: then nothing is right, whatever is answered.
    """
    if prior and world.note.startswith("All scores tie"):
        right = of(float(at(world, 0)["precision"]), OUT_OF)
        return f"All scores tie: every answer is a guess, right {right} times."
    if world.note:
        return world.note
    if prior == 0:
        line = "Answering always is wrong 100 of 100 times, and so is guessing."
        return "Where the right report is never in the pool, ", "no answer", " can be right.", line
    row, always = at(world, wanted), at(world, 0)
    # one round number for the whole line, in which who always answers reads as 1 or more
    out_of = next((d for d in (100, 1000) if always["precision"] * d >= 1), 10_000)
    guessed = _number(prior / 100 / world.pool_size, out_of)
    others = f"Answering always: {_number(always['precision'], out_of)}. Guessing: {guessed}."
    before = f"An attacker who wants to be right {wanted} of 100 times can answer for "
    if not row["reached"]:
        best = _number(min(row["best"], (wanted - 1) / 100) if row["best"] > 0 else 0.0, out_of)
        return before, "no image", ".", f"Of {out_of:,} answers at best {best} are right. {others}"
    before_rest = (before, of(row["links"], OUT_OF), " images.")
    if row["n_linked"] >= FEWEST_LINKED:
        ends = interval(row["precision_low"], row["precision_high"], out_of).removesuffix(f" of {out_of:,}")
        right = _number(row["precision"], out_of)
        return *before_rest, f"Of {out_of:,} such answers {right} are right ({ends}). {others}"
    if row["links_high"] * OUT_OF >= 1:
        return f"Too few to say: {row['n_linked']} patients of the test half are ever linked rightly."
    patients = f"n = {row['n_linked']} patients"
    return *before_rest, f"Of {out_of:,} such answers: too few to say ({patients}). {others}"


def with_an_answer(world: OpenWorld, precisions: Sequence[int]) -> int:
    """The highest of the wanted precisions (of 100) that is reached and that enough patients carry; the lowest where
    none is, which says the most of an attacker who cannot reach it either."""
    rows = {wanted: at(world, wanted) for wanted in sorted(precisions, reverse=True)}
    fit = (wanted for wanted, row in rows.items() if row["reached"] and row["n_linked"] >= FEWEST_LINKED)
    return next(fit, min(precisions))


def unsaid(world: OpenWorld) -> str:
    """The few words that stand in a picture's place where no figure is said, or ""."""
    return world.note.split(":")[0].rstrip(".").lower()


def facts(world: OpenWorld, prior: int, wanted: int, label: str) -> str:
    """The grey line: model, N, prior, interval of the headline's count, n."""
    said = [label, f"N = {world.pool_size:,}", f"report in the pool for {prior} of 100"]
    row = at(world, wanted)
    if prior and row["reached"] and not world.note:
        out_of = OUT_OF if row["links_high"] >= 0.01 else 10_000
        high = whole(row["links_high"], out_of)
        ends = interval(row["links_low"], row["links_high"], out_of) if high else f"below 1 of {out_of:,}"
        said.append(f"95% interval {ends}")
    images, patients = world.n_test
    return " · ".join([*said, f"n = {images:,} images of {patients:,} patients"])


def _number(rate: float, out_of: int) -> str:
    """A rate as a bare number, where a sentence has said of how many."""
    count = whole(rate, out_of)
    return f"{count:,}" if count or rate == 0 else "fewer than 1"


# -- links made rightly against false links --------------------------------------------------------------------------


def tradeoff(
    world: OpenWorld, *, prior: int, wanted: int, style: ModelStyle, label: str, palette: Palette
) -> go.Figure:
    """Links made rightly (DIR) against false links (FPIR), one point a threshold, with the thresholds chosen.

    The band is the 95% interval of DIR. Guessing answers for some pools whatever they hold, so it links rightly 1/N as
    often as it answers. Where too few patients carry the curve, the words stand in its place.
    """
    # where no image is linked rightly at all there is no point to draw; the first is the one who always answers
    curve = world.curve[(world.curve["dir"] > 0) & (world.curve["fpir"] > 0)][::-1]
    smallest = min(float(curve["fpir"].min()), 0.01) if len(curve) else 0.01
    floor = max(SMALLEST_SHOWN, 10.0 ** math.floor(math.log10(smallest) + 1e-9))
    outside = curve[curve["fpir"] < floor].tail(1)  # from there the line enters at the left edge
    line = pd.concat([outside.assign(fpir=floor), curve[curve["fpir"] >= floor]])
    highest = line[["dir", "dir_high"]].max().max() if len(line) and not world.note else 1.0
    top = min(1.12 * max(float(highest), 2 / world.pool_size), 1.04)
    y_ticks, y_words = _rate_ticks(top)
    margin = {"l": 14 + 7 * max(map(len, y_words)), "r": 92, "t": 34, "b": 52}
    x_ticks = [10.0**p for p in range(round(math.log10(floor)), 1)]
    guessed = [floor ** (1 - i / 40) for i in range(41)]
    traces = [guessing_line(guessed, [x / world.pool_size for x in guessed], palette)]
    notes: list[dict] = []
    shapes: list[dict] = []
    if world.note:
        middle = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "yanchor": "middle"}
        notes.append(note(palette, unsaid(world), yshift=14, **middle))
        ends = [("guessing", 1 / world.pool_size, palette.muted)]
    else:
        x, y = line["fpir"].tolist(), line["dir"].tolist()
        low, high = line["dir_low"].tolist(), line["dir_high"].tolist()
        traces += [
            band(x, low, high, see_through(style.colour, 0.18), label),
            {
                "x": x,
                "y": y,
                "mode": "lines",
                "line": {"color": style.colour, "width": 2.5},
                "name": escape(label),
                "text": [_point_words(row, world, prior) for row in line.to_dict("records")],
                "hovertemplate": "%{text}<extra></extra>",
            },
        ]
        ends = [(label, float(at(world, 0)["linked_rightly"]) / world.prior, style.colour)]
        ends.append(("guessing", 1 / world.pool_size, palette.muted))
        if prior:
            marks, notes, shapes = _marks(world, wanted, floor, style, palette)
            traces += marks
    inner = CURVE_HEIGHT - margin["t"] - margin["b"]
    wanted_places = [value * inner / top for _, value, _ in ends]
    for (name, value, colour), place, moved in zip(ends, wanted_places, spread(wanted_places, 19), strict=True):
        end = note(palette, escape(name), x=0, y=value, xanchor="left", xshift=12, yshift=moved - place)
        end["font"]["color"] = colour
        notes.append(end)
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    notes.append(note(palette, "linked rightly, report in the pool (DIR), band: 95% interval", **above, yshift=10))
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top", "yshift": -28}
    n = f"n = {world.n_test[0]:,} images"
    notes.append(note(palette, f"false links, report not in the pool (FPIR), log scale, {n}", **under))
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, CURVE_HEIGHT, margin),
            "xaxis": axis(palette, (floor, 1), x_ticks, [count_tick(v) for v in x_ticks], log=True, line=True)
            | {"range": [math.log10(floor) - 0.06, 0]},  # room for a mark at the edge
            "yaxis": axis(palette, (0, top), y_ticks, y_words) | {"ticklabelstandoff": 6},
            "annotations": notes,
            "shapes": shapes,
        },
    )


def _marks(
    world: OpenWorld, wanted: int, floor: float, style: ModelStyle, palette: Palette
) -> tuple[list[dict], list[dict], list[dict]]:
    """(points, notes, upright line) of the thresholds that were chosen; the wanted one is the large open one."""
    points: list[dict] = []
    notes: list[dict] = []
    shapes: list[dict] = []
    for row in world.operating.to_dict("records"):
        if not row["reached"]:
            continue
        here = world.curve[world.curve["threshold"] == row["threshold"]].iloc[0]
        x, y = max(float(here["fpir"]), floor), float(here["dir"])
        chosen = round(100 * row["wanted_precision"]) == wanted
        if not chosen and row["n_linked"] < FEWEST_LINKED:
            continue
        points.append(
            {
                "x": [x],
                "y": [y],
                "mode": "markers",
                "marker": {
                    "color": palette.page if chosen else style.colour,
                    "symbol": style.marker,
                    "size": 13 if chosen else 9,
                    "line": {"color": style.colour, "width": 3 if chosen else 0},
                },
                "cliponaxis": False,
                "text": [_chosen_words(row)],
                "hovertemplate": "%{text}<extra></extra>",
                "name": f"right {row['wanted_precision']:.0%}",
            }
        )
        if chosen:
            side = {"xanchor": "left", "xshift": 14} if x < floor**0.6 else {"xanchor": "right", "xshift": -14}
            notes.append(
                note(palette, f"<b>right {wanted} of 100 times</b>", x=math.log10(x), y=y, yshift=14, **side)
                | {"font": {"color": palette.text, "size": 14}}
            )
            shapes.append(chosen_line(x, palette))
    return points, notes, shapes


def _rate_ticks(top: float) -> tuple[list[float], list[str]]:
    """Three to seven places from 0 up to `top`, as counts of 100, of 1,000 or of 10,000."""
    out_of = 100
    while top * out_of < 2 and out_of < 10_000:
        out_of *= 10
    rough = top * out_of / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    counts = [i * step for i in range(int(top * out_of / step + 1e-9) + 1)]
    return [c / out_of for c in counts], [f"{c:,.{0 if step >= 1 else 1}f} of {out_of:,}" if c else "0" for c in counts]


def _point_words(row: dict, world: OpenWorld, prior: int) -> str:
    ends = interval(row["dir_low"], row["dir_high"], OUT_OF)
    words = [
        f"report in the pool: {of(row['dir'], OUT_OF)} linked rightly ({ends})",
        f"report not in the pool: {of(row['fpir'], OUT_OF)} linked falsely",
    ]
    if prior and not math.isnan(row["precision"]):
        words.append(f"at this prior right {_number(row['precision'], OUT_OF)} of 100 times")
    return "<br>".join([*words, f"n = {world.n_test[0]:,} images"])


def _chosen_words(row: dict) -> str:
    wanted = round(100 * row["wanted_precision"])
    who = f"wants to be right {wanted} of 100 times" if wanted else "always answers"
    return f"{who}: answers for {of(row['links'], OUT_OF)} images"


def tradeoff_words(world: OpenWorld, prior: int, wanted: int) -> str:
    """The picture as a sentence, for those who cannot see it."""
    said = answer(world, prior, wanted)
    words = said if isinstance(said, str) else "".join(said[:3]) + f" {said[3]}"
    return f"Images linked rightly against images linked falsely, one point a threshold. {words}"


# -- two attackers as pictures of 100 images -------------------------------------------------------------------------


def arrays(attackers: Sequence[tuple[str, float, float]], palette: Palette, instead: str = "too few to say") -> str:
    """HTML: for each (name, linked rightly, links) 100 images in three states, with words and counts.

    Linked rightly is a disc, linked wrongly a cross, no answer a small dot; filled from the bottom left. Where links
    are NaN, the words `instead` stand below.
    """
    blocks = "".join(_array(*attacker, instead) for attacker in attackers)
    return f'<div class="mm-arrays" style="--mm-right:{palette.before};--mm-wrong:{palette.muted}">{blocks}</div>'


def _array(name: str, right: float, links: float, instead: str) -> str:
    if math.isnan(links):
        body = (
            f'<div class="mm-array" role="img" aria-label="{escape(instead)}">'
            + '<i class="mm-none"></i>' * 100
            + "</div>"
        )
        return f'<div><p class="mm-name">{escape(name)}</p>{body}<p>{escape(instead)}</p></div>'
    counts = shares(right, links)
    kinds = ["mm-right"] * counts[0] + ["mm-wrong"] * counts[1] + ["mm-none"] * counts[2]
    order = [kinds[10 * row + column] for row in reversed(range(10)) for column in range(10)]
    dots = "".join(f'<i class="{kind}"></i>' for kind in order)
    states = [
        ("mm-right", _count(counts[0], right), "linked rightly"),
        ("mm-wrong", _count(counts[1], links - right), "linked wrongly"),
        ("mm-none", _count(counts[2], 1 - links), "no answer"),
    ]
    words = f"{name}: of 100 images " + ", ".join(f"{count} {state}" for _, count, state in states)
    legend = "".join(f'<li><i class="{kind}"></i><b>{escape(count)}</b> {state}</li>' for kind, count, state in states)
    return (
        f'<div><p class="mm-name">{escape(name)}</p>'
        f'<div class="mm-array" role="img" aria-label="{escape(words)}">{dots}</div><ul>{legend}</ul></div>'
    )


def _count(count: int, rate: float) -> str:
    return "<1" if count == 0 and rate > 1e-9 else f"{count}"


# -- tables ----------------------------------------------------------------------------------------------------------


def readable(world: OpenWorld) -> pd.DataFrame:
    """All wanted precisions with the words of the page; rates stay numbers between 0 and 1."""
    rows = world.operating
    names = {
        "links": "answered",
        "links_low": "answered, low",
        "links_high": "answered, high",
        "linked_rightly": "linked rightly",
        "low": "rightly, low",
        "high": "rightly, high",
        "linked_wrongly": "linked wrongly",
        "no_answer": "no answer",
        "precision": "right among answers",
        "precision_low": "right, low",
        "precision_high": "right, high",
        "baseline": "rightly by guessing",
        "threshold": "threshold",
        "n_linked": "patients linked",
        "note": "note",
    }
    wants = ["always answers" if not w else f"right {round(100 * w)} of 100" for w in rows["wanted_precision"]]
    table = rows[list(names)].rename(columns=names)
    table.insert(0, "wants to be", wants)
    numbers = table.select_dtypes("float").columns
    return table.assign(**{name: table[name].round(6) for name in numbers})


DETAILS = """
- **Threshold**: the attacker names the report with the highest score only if that score (rule *top score*), or its
  lead over the second (rule *margin*), reaches a threshold. For each wanted precision it is the lowest threshold that
  reaches it on one half of the patients ({choosing} images of {n_choosing} patients); every figure here is told on the
  other half ({test} images of {n_test} patients), so nothing is flattered by having been chosen where it is told.
- **DIR**, detection and identification rate (ISO/IEC 19795-1): report in the pool, answered, and rightly.
  **FPIR**, false-positive identification rate: report not in the pool, answered all the same. Answering wrongly
  although the report is there is counted too: links = p (DIR + wrong) + (1 - p) FPIR, with p the prior set above.
- **Right among answers** is the precision, p DIR / links. **Guessing** answers for as many images at random and is
  right p / N of the times.
- A pool with the report holds it and N - 1 reports of other patients, a pool without it N reports of other patients.
- **95% interval**: how far a figure could move with other patients like these, the threshold given. Under
  {fewest} patients linked rightly the precision is too few to say.
- {drawn}
- {left_out}
"""


def details(world: OpenWorld) -> str:
    """What the words of the page mean, with the n of both halves, the error of drawn pools and who is left out."""
    drawn = (
        "The rule *top score* is exact for random pools: nothing is drawn."
        if not world.pools_a_query
        else f"The rule *margin* draws {world.pools_a_query:,} pools an image; the largest standard error of a rate of "
        f"the curve from that is {100 * world.monte_carlo_error:.3f} of 100."
    )
    none_left = "No image is left out at this N."
    left = f"{world.n_excluded:,} images have fewer than N other patients' reports and are left out at this N."
    return DETAILS.format(
        choosing=f"{world.n_choosing[0]:,}",
        n_choosing=f"{world.n_choosing[1]:,}",
        test=f"{world.n_test[0]:,}",
        n_test=f"{world.n_test[1]:,}",
        fewest=FEWEST_LINKED,
        drawn=drawn,
        left_out=left if world.n_excluded else none_left,
    )


def attackers(world: OpenWorld, prior: int, wanted: int) -> list[tuple[str, float, float]]:
    """What `arrays` draws: who always answers, and who wants to be right so often; NaN where too few."""
    names = "Always answers", f"Wants to be right {wanted} of 100 times"
    if world.note:
        return [(name, math.nan, math.nan) for name in names]
    if not prior:
        return [(names[0], 0.0, 1.0), (names[1], 0.0, 0.0)]
    always, row = at(world, 0), at(world, wanted)
    cautious = (row["linked_rightly"], row["links"]) if row["reached"] else (0.0, 0.0)
    if isinstance(answer(world, prior, wanted), str):
        cautious = (math.nan, math.nan)
    return [(names[0], always["linked_rightly"], always["links"]), (names[1], *cautious)]


def filed(table: pd.DataFrame, asked: dict[str, object]) -> pd.DataFrame:
    """A table as it is filed: what was asked (synthetic or not first), then its own columns."""
    own = table.drop(columns=[name for name in asked if name in table.columns])
    return pd.concat([pd.DataFrame(asked, index=own.index), own], axis=1)
