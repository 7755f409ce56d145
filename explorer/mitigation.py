"""Words and pictures of one mitigation: what is guaranteed, what attackers link, what stays readable.

Made from the tables of linkage_core.lab; nothing is computed or fetched here. Guarantee and measured linkage never
share a number, an axis or a card.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from explorer.charts import (
    CURVE_HEIGHT,
    _plain,
    _steps,
    _ticks,
    axis,
    chosen_line,
    count_tick,
    layout,
    names_axis,
    note,
    see_through,
    upright,
)
from explorer.palette import GUESSING_DASH, Palette
from explorer.sentences import TOO_FEW, denominator, figure, interval, of, signed, too_few, upper, whole
from linkage_core import lab
from linkage_core.mitigation import accounting
from linkage_core.setting import Setting
from linkage_core.store import OFF_THE_SHELF

MECHANISMS = {
    "label-oneshot": "Label head, instant",
    "label-dpsgd": "Label head, trained",
    "public-negatives": "Aligned, public negatives",
    "moment-oneshot": "Aligned, instant",
    "paper": "As in the study",
}
RELEASES = {"embeddings": "Embeddings", "embeddings-and-heads": "With heads", "raw-images": "Raw images"}
ATTACKERS = {
    "cosine": "Cosine only",
    "white-box": "Undoes the heads",
    "known-images": "Knows {m} images",
    "known-pairs": "Knows {m} pairs",
    "bayes-gaussian": "Fits the law of {m} pairs",
    "reader": "Reads findings, {m} pairs",
    "raw-images": "Has the raw images",
    "predictor": "Predicts the cell",
}
"""m: own images or pairs whose release is known to the attacker."""
CONTROLS = {
    "rotation": "Image head turned at random",
    "random-heads": "Random heads",
    "truncate": "Embedding cut short",
    "output-noise": "Noise on each embedding",
    "concept-span": "Span of public prompts",
    "public-labels": "Label head, public labels only",
    "nonprivate": "Label head without noise",
}
USEFULNESS_HEIGHT = 236
BAR_HEIGHT = 40
NOISE_DASH = "2px,4px"
COSINE_DASH = "8px,5px"


# -- rows of the lab's tables ----------------------------------------------------------------------------------------


def line(linkage: pd.DataFrame, head: str, release: str, attacker: str, cohort: str) -> pd.DataFrame:
    """Rows of one attacker on one head at every N, smallest first."""
    rows = linkage[
        (linkage["head"] == head)
        & (linkage["release"] == release)
        & (linkage["attacker"] == attacker)
        & (linkage["cohort"] == cohort)
        & (linkage["k"] == 1)
    ]
    rows = rows[rows["m"].isin(["all", ""])] if attacker != lab.WORST else rows
    return rows.sort_values("pool_size").reset_index(drop=True)


def at(rows: pd.DataFrame | None, pool_size: int) -> pd.Series | None:
    """The row at one N, or None."""
    if rows is None or rows.empty:
        return None
    found = rows[rows["pool_size"] == pool_size]
    return None if found.empty else found.iloc[0]


def attacker_words(row: Mapping, n_own: int) -> str:
    """
    >>> attacker_words({"named": "known-pairs", "m": "1000"}, 10_795)
    'Knows 1,000 pairs'
    """
    m = f"{n_own:,}" if row["m"] == "all" else f"{int(row['m']):,}"
    return ATTACKERS.get(str(row["named"]), str(row["named"])).format(m=m)


def measures(utility: pd.DataFrame, head: str, cohort: str) -> dict[str, pd.Series]:
    """The macro rows of one head: declared, undeclared and zero-shot, as far as measured."""
    rows = utility[(utility["head"] == head) & (utility["cohort"] == cohort)]

    def macro(measure: str, *labels: str) -> pd.Series | None:
        for label in labels:
            found = rows[(rows["measure"] == measure) & (rows["label"] == label) & rows["after"].notna()]
            if len(found):
                return found.iloc[0]
        return None

    found = {
        "declared": macro("probe", "macro, declared", "macro"),
        "zero-shot": macro("zero-shot", "macro, declared", "macro"),
        "undeclared": macro("probe", "macro, undeclared"),
    }
    return {name: row for name, row in found.items() if row is not None}


# -- card 1: the guarantee -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guarantee:
    """What is claimed for the training patients. accuracy None: nothing is established, and `why` says why."""

    accuracy: float | None
    why: str = ""
    facts: str = ""
    illustration: bool = False


def guarantee(made: Guarantee, palette: Palette) -> str:
    """HTML of card 1; a bar only where there is a number."""
    head = '<p class="mi-head"><b>1 · Guarantee</b> for patients whose pairs trained the heads</p>'
    if made.accuracy is None:
        body = f'<p class="mi-big"><b>None established.</b></p><p class="mi-why">{escape(made.why)}</p>'
        return f'<div class="mi-card">{head}{body}</div>'
    said = accounting.privacy_sentence(made.accuracy)
    first, *rest = said.split(", ", 1)
    big = re.sub(r"(\d+ of 100)", r"<b>\1</b>", escape(first))
    width = 100 * made.accuracy
    scale = (
        f'<div class="mi-scale" role="img" aria-label="{escape(said)}" '
        f'style="--mi-after:{palette.after};--mi-before:{palette.before}">'
        f'<i style="width:{width:.1f}%"></i><u></u></div>'
        '<div class="mi-ends"><span>coin 50</span><span>certain 100</span></div>'
    )
    even = "Used and not used equally likely; " if rest else ""
    more = f'<p class="mi-small">{even}{escape(made.facts)}. Says nothing about how often images are linked.</p>'
    if made.illustration:
        more += (
            '<p class="mi-small"><b>Illustration:</b> a run whose seed is stored guarantees nothing; with secret noise '
            "this would hold.</p>"
        )
    return (
        f'<div class="mi-card">{head}<p class="mi-big">Who guesses whether a patient was used is {big}.</p>'
        f"{scale}{more}</div>"
    )


def why_none(setting: Setting, claim: str = "") -> str:
    """Why card 1 has no number."""
    if setting.mechanism == "paper":
        return (
            "The study reports ε = 0.34, but in its training one pair can move the sum by more than the clipping "
            "bound, so this analysis does not establish it. Shown to be measured beside the others."
        )
    if math.isinf(setting.epsilon):
        return "No noise was added, so nothing hides whether a patient was used."
    return upper(claim) if claim else "Nothing is claimed for this head."


def guarantee_facts(epsilon: float, delta: float, unit: str) -> str:
    """
    >>> guarantee_facts(0.34, 1e-6, "patient")
    'ε = 0.34, δ = 1e-6, unit: patient, add/remove'
    """
    small = f"{delta:.2g}".replace("e-0", "e-")
    return f"ε = {epsilon:g}, δ = {small}, unit: {unit}, {accounting.RELATION}"


# -- card 2: measured linkage ----------------------------------------------------------------------------------------


def measured(
    before: Mapping | None,
    after: Mapping | None,
    *,
    release: str,
    pool_size: int,
    out_of: int,
    n_own: int,
    palette: Palette,
    cosine: Mapping | None = None,
    cosine_before: Mapping | None = None,
) -> str:
    """HTML of card 2: the worst attacker after and before, with intervals, against guessing, on one scale.

    Where the worst one is not measured at this setting, cosine is shown and named so. Where the release is the raw
    images, `after` is to be `before`: no head touches them.
    """
    head = '<p class="mi-head"><b>2 · Measured linkage</b> on patients who were held out</p>'
    whole_story = after is not None and before is not None
    now, then = (after, before) if whole_story else (cosine, cosine_before)
    if release == "raw-images" and not whole_story:
        now = then
    few = next((row for row in (now, then) if row is not None and _few(row)), None)
    if few is not None:
        said = f"{upper(too_few(int(few['n_queries'])))}."
        return f'<div class="mi-card">{head}<p class="mi-big">{escape(said)}</p></div>'
    known = [row for row in (now, then, before) if row is not None]
    guess = float(known[0]["chance"]) if known else 1 / pool_size
    if now is None:
        big, then = "Not measured at this setting.", then if before is None else before
    elif release == "raw-images":
        count, how = escape(of(now["recall"], out_of)), "" if whole_story else " by cosine"
        big = f"A head protects nothing here: <b>{count}</b>{how}, as before. Guessing: {figure(guess, out_of)}."
    else:
        who = "The worst attacker tried" if whole_story else "Cosine alone"
        big = f"{who} links <b>{escape(of(now['recall'], out_of))}</b> images."
        if then is not None:
            big += f" Before: {figure(then['recall'], out_of)}. Guessing: {figure(guess, out_of)}."
    bars = [("before", then, palette.before), ("after", now, palette.after)]
    top = max([float(row["recall_high"]) for _, row, _ in bars if row is not None] + [guess])
    body = "".join(
        bar(name, float(row["recall"]), top, colour, out_of, (float(row["recall_low"]), float(row["recall_high"])))
        for name, row, colour in bars
        if row is not None
    )
    body += bar("guessing", guess, top, palette.guessing, out_of)
    images = f"N = {pool_size:,}" + (f", n = {int(known[0]['n_queries']):,} images" if known else "")
    if now is None:
        how = "" if then is None else f"Before: {'the worst attacker' if before is not None else 'cosine alone'}. "
        small = f"{how}{images}."
    elif whole_story:
        who = attacker_words(now, n_own).lower()
        small = f"Worst: {who}; chosen on one half of the patients, counted on the other. {images}."
    else:
        small = f"Attackers who adapt: not measured at this setting. {images}."
    return (
        f'<div class="mi-card">{head}<p class="mi-big mi-second">{big}</p><div class="mi-bars">{body}</div>'
        f'<p class="mi-small">{escape(small)}</p></div>'
    )


def _few(row: Mapping) -> bool:
    flag = str(row.get("flag") or "")
    return row["n_queries"] < TOO_FEW or flag.startswith("too few")


def bar(
    name: str,
    rate: float,
    top: float,
    colour: str,
    out_of: int,
    ends: tuple[float, float] | None = None,
    tick: float | None = None,
) -> str:
    """HTML: one bar with its number and interval, and an upright tick at another rate."""
    mark = "" if tick is None else f'<u style="left:{100 * tick / top:.1f}%;background:{colour}"></u>'
    width = 100 * max(rate, 0.0) / top if top > 0 else 0.0
    said = ""
    if ends is not None:
        said = f" ({interval(*ends, out_of).rsplit(' of ', 1)[0]})"
    return (
        f'<div class="mi-row"><span>{escape(name)}</span><span class="mi-track">'
        f'<i style="width:{width:.1f}%;background:{colour}"></i>{mark}</span>'
        f"<span><b>{escape(figure(rate, out_of))}</b>{escape(said)}</span></div>"
    )


# -- privacy or damage -----------------------------------------------------------------------------------------------


def damage(
    after: Mapping | None,
    noise: Mapping | None,
    *,
    out_of: int,
    palette: Palette,
    uses: Sequence[Use] = (),
    noise_name: str = "noise only",
    worst: tuple[Mapping, Mapping] | None = None,
    why: str = "",
) -> str:
    """HTML: cosine under the head beside cosine under its noise alone, and what follows from it.

    uses: AUROC under the head and under the noise alone, where both are measured. worst: the worst attacker under the
    head and under the noise alone, likewise. `why` stands where there is nothing to compare.
    """
    title = '<p class="mi-head"><b>Is it privacy, or only damage?</b></p>'
    if after is None or noise is None:
        return f'<div class="mi-card mi-damage">{title}<p class="mi-small">{escape(why)}</p></div>'
    drawn = [("after, cosine", after, palette.after), (noise_name, noise, palette.noise_only)]
    words = damage_words(after, noise, uses)
    if worst is not None:
        drawn += [("after, worst", worst[0], palette.after), ("noise, worst", worst[1], palette.noise_only)]
        words = f"{worst_words(*worst)} By cosine: {words[:1].lower()}{words[1:]}"
    top = max(float(row["recall_high"]) for _, row, _ in drawn)
    bars = "".join(
        bar(name, float(row["recall"]), top, colour, out_of, (float(row["recall_low"]), float(row["recall_high"])))
        for name, row, colour in drawn
    )
    return (
        f'<div class="mi-card mi-damage">{title}<div class="mi-bars mi-wide">{bars}</div>'
        f'<p class="mi-small">{escape(words)}</p></div>'
    )


def worst_words(after: Mapping, noise: Mapping) -> str:
    """The same comparison for the worst attacker, which is the one that counts."""
    if noise["recall_low"] > after["recall_high"]:
        return "The worst attacker gets less under the head than under noise alone."
    if noise["recall_high"] < after["recall_low"]:
        return "Noise alone leaves the worst attacker less than the head does."
    return "To the worst attacker noise alone is as much of a hindrance as the head."


def damage_words(after: Mapping, noise: Mapping, uses: Sequence[Use] = ()) -> str:
    """What the comparison of a head with its noise alone says; nothing beyond what the intervals carry."""
    if noise["recall_high"] < after["recall_low"]:
        said = "Noise alone lowers linkage further"
    elif noise["recall_low"] > after["recall_high"]:
        return "Noise alone leaves more linkage: here the learning lowers it, not the noise."
    else:
        said = "Noise alone lowers linkage as far"
    known = [use for use in uses if use.after and use.noise]
    if not known:
        return f"{said}. What it leaves readable is not measured at this setting."
    lost = [use.name.lower() for use in known if use.noise and use.after and use.noise[2] < use.after[1]]
    if lost:
        words = " and ".join(lost)
        return f"{said}, but then {words} suffer (× above). The learning is what keeps them."
    return f"{said} and keeps as much use: here the fall is damage, not learning."


# -- linkage against pool size ---------------------------------------------------------------------------------------

LINES = ("before", "worst", "cosine", "noise")


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
) -> go.Figure:
    """Recall@1 against N for before, after and noise alone, with bands, against guessing; both axes log.

    lines: some of LINES -> rows with pool_size, recall, recall_low, recall_high, n_queries. names: what each is called.
    also: lines without a band.
    """
    styles = {
        "before": {"color": palette.before, "width": 2},
        "worst": {"color": palette.after, "width": 4},
        "cosine": {"color": palette.after, "width": 2, "dash": COSINE_DASH},
        "noise": {"color": palette.noise_only, "width": 2, "dash": NOISE_DASH},
    }
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
    ends = (smallest, largest) if smallest < largest else (smallest / 2, largest * 2)
    traces: list[dict[str, object]] = [
        {
            "x": sizes,
            "y": guess,
            "mode": "lines",
            "line": {"color": palette.guessing, "width": 2, "dash": GUESSING_DASH},
            "hoverinfo": "skip",
            "name": "guessing",
        }
    ]
    for name in (each for each in ("noise", "cosine", "worst", "before") if each in drawn):
        rows = drawn[name]
        x, y = rows["pool_size"].tolist(), rows["recall"].tolist()
        band_low = rows["recall_low"].fillna(rows["recall"]).clip(lower=low).tolist()
        band_high = rows["recall_high"].fillna(rows["recall"]).tolist()
        traces.append(
            {
                "x": x + x[::-1],
                "y": band_high + band_low[::-1],
                "mode": "lines",
                "fill": "toself",
                "fillcolor": see_through(str(styles[name]["color"]), 0.16),
                "line": {"width": 0},
                "hoverinfo": "skip",
                "name": f"{names[name]}, 95% interval",
            }
        )
        traces.append(
            {
                "x": x,
                "y": y,
                "mode": "lines",
                "line": styles[name],
                "name": names[name],
                "text": [_point_words(row, names[name]) for row in rows.to_dict("records")],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
        marker = _curve_marker(name, palette)
        if marker:
            powers = set(_ticks(smallest, largest, (1, 3) if name == "noise" else (1,)))
            marked = rows[rows["pool_size"].isin(powers)] if powers else rows
            traces.append(
                {
                    "x": marked["pool_size"].tolist(),
                    "y": marked["recall"].tolist(),
                    "mode": "markers",
                    "marker": marker,
                    "cliponaxis": False,
                    "hoverinfo": "skip",
                    "name": f"{names[name]}, marks",
                }
            )
    for one in also:
        said = [
            f"{escape(one.name)}, N = {n:,}: {of(v, denominator(n))}"
            for n, v in zip(one.sizes, one.recall, strict=True)
        ]
        common = {"x": list(one.sizes), "y": list(one.recall), "name": one.name}
        traces.append({**common, "mode": "lines", "line": dict(one.line), "hoverinfo": "skip"})
        hover = {"text": said, "hovertemplate": "%{text}<extra></extra>", "cliponaxis": False}
        traces.append({**common, "mode": "markers", "marker": dict(one.marker), **hover})
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    notes = [
        note(palette, "images linked (Recall@1), band: 95% interval, log scale", **above, yshift=10),
        note(palette, _n_words(drawn), x=0.5, y=0, xref="paper", yref="paper", yanchor="top", yshift=-28),
    ]
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, CURVE_HEIGHT, {"l": 92, "r": 18, "t": 34, "b": 52}),
            "xaxis": axis(palette, ends, x_ticks, [_plain(v) for v in x_ticks], log=True, line=True),
            "yaxis": axis(palette, (low, high), y_ticks, [count_tick(v) for v in y_ticks], log=True)
            | {"ticklabelstandoff": 6},
            "annotations": notes,
            "shapes": [chosen_line(pool_size, palette)] if smallest <= pool_size <= largest else [],
        },
    )


def _curve_marker(name: str, palette: Palette) -> dict[str, object] | None:
    if name == "before":
        edge = {"color": palette.before, "width": 2}
        return {"color": palette.page, "symbol": "circle", "size": 9, "line": edge}
    if name == "worst":
        return {"color": palette.after, "symbol": "circle", "size": 10}
    if name == "noise":
        return {"color": palette.noise_only, "symbol": "x", "size": 9}
    return None


def _n_words(drawn: Mapping[str, pd.DataFrame]) -> str:
    n = max((int(rows["n_queries"].max()) for rows in drawn.values()), default=0)
    return f"reports in the pool (N), log scale, n = {n:,} images"


def _point_words(row: Mapping, name: str) -> str:
    n = int(row["pool_size"])
    out_of = denominator(n)
    who = f"<br>{ATTACKERS.get(str(row['named']), '').format(m='its own')}" if row.get("named") else ""
    said = f"{of(row['recall'], out_of)} ({interval(row['recall_low'], row['recall_high'], out_of)})"
    return f"{escape(name)}, N = {n:,}: {said}{who}"


def legend(names: Mapping[str, str], palette: Palette) -> str:
    """HTML: the lines of `curve` with their dashes and marks, and guessing."""
    styles = {
        "before": (palette.before, "solid", 2, "○"),
        "worst": (palette.after, "solid", 4, "●"),
        "cosine": (palette.after, "dashed", 2, ""),
        "noise": (palette.noise_only, "dotted", 2, "×"),
        "guessing": (palette.guessing, "dashed", 2, ""),
    }
    words = {name: names[name] for name in LINES if name in names} | {"guessing": "guessing"}
    items = "".join(
        f'<span><i style="border-top:{styles[name][2]}px {styles[name][1]} {styles[name][0]}"></i>'
        f'<em style="color:{styles[name][0]}">{styles[name][3]}</em>{escape(text)}</span>'
        for name, text in words.items()
    )
    return f'<div class="mi-legend mi-lines">{items}</div>'


def curve_words(lines: Mapping[str, pd.DataFrame], names: Mapping[str, str], pool_size: int, out_of: int) -> str:
    """The picture as a sentence, for those who cannot see it."""
    said = []
    for name in LINES:
        row = at(lines.get(name), pool_size)
        if row is not None:
            said.append(f"{names[name]} {of(float(row['recall']), out_of)}")
    return f"Images linked at N = {pool_size:,}: {'; '.join(said)}; guessing {of(1 / pool_size, out_of)}."


# -- usefulness ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """One row of the picture of usefulness: AUROC (estimate, low, high) before, after and under noise alone.

    `change` is after less before (estimate, low, high), in AUROC.
    """

    name: str
    before: tuple[float, float, float] | None = None
    after: tuple[float, float, float] | None = None
    noise: tuple[float, float, float] | None = None
    change: tuple[float, float, float] | None = None
    why: str = ""


def use_of(name: str, row: Mapping | None, noise: Mapping | None, why: str = "") -> Use:
    """A row from lab.utility: of a head, and of its noise-only control."""
    if row is None:
        return Use(name, why=why or "not measured")
    return Use(
        name,
        _figures(row, "before"),
        _figures(row, "after"),
        None if noise is None else _figures(noise, "after"),
        _figures(row, "difference"),
    )


def _figures(row: Mapping, name: str) -> tuple[float, float, float]:
    return float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])


def usefulness(uses: Sequence[Use], palette: Palette, third: tuple[str, str, str] | None = None) -> go.Figure:
    """AUROC before (open circle), after (filled) and under noise alone (x), each with its 95% interval.

    third: (name, symbol, colour) of what stands in place of noise alone.
    """
    third_name, symbol, third_colour = third or ("noise only", "x", palette.noise_only)
    values = [v for use in uses for part in (use.before, use.after, use.noise) if part for v in part if v == v]
    low = min([0.5, *(math.floor(v * 20) / 20 for v in values)])
    low -= 0.03 * any(v < low + 0.03 for v in values)  # half a mark, or it would stand on the names
    high = max([0.85, *(math.ceil(v * 20) / 20 for v in values)])
    ticks = [round(float(v), 2) for v in np.arange(math.ceil(low * 10) / 10, high + 0.001, 0.1)]
    traces: list[dict[str, object]] = []
    notes = []
    for place, use in enumerate(uses):
        for part, colour in (
            (use.noise, third_colour),
            (use.before, palette.before),
            (use.after, palette.after),
        ):
            if part:
                traces.append(_segment(part[1:], place, colour, 2))
        if use.before and use.after:
            traces.append(_segment((use.before[0], use.after[0]), place, palette.after, 3))
        marks = (
            (use.noise, {"color": third_colour, "symbol": symbol, "size": 11 if symbol == "x" else 14}, third_name),
            (use.before, _open(palette.before, palette.page), "before"),
            (use.after, {"color": palette.after, "symbol": "circle", "size": 13}, "after"),
        )
        for part, marker, words in marks:
            if part:
                said = f"{escape(use.name)}, {words}: AUROC {part[0]:.3f} ({part[1]:.3f} to {part[2]:.3f})"
                traces.append(
                    {
                        "x": [part[0]],
                        "y": [place],
                        "mode": "markers",
                        "marker": marker,
                        "cliponaxis": False,
                        "name": words,
                        "text": [said],
                        "hovertemplate": "%{text}<extra></extra>",
                    }
                )
        beside = {"x": 1, "xref": "paper", "xanchor": "left", "xshift": 10, "showarrow": False}
        if use.change:
            points = f"<b>{signed(100 * use.change[0], 1)}</b>"
            notes.append(note(palette, points, y=place, **beside) | {"font": {"size": 15, "color": palette.text}})
            ends = f"{signed(100 * use.change[1], 1)} to {signed(100 * use.change[2], 1)}"
            notes.append(note(palette, ends, y=place, yshift=-17, **beside) | {"font": _small(palette)})
        else:
            inside = {"x": 0, "xref": "paper", "xanchor": "left", "xshift": 8}
            notes.append(note(palette, escape(use.why), y=place, **inside) | {"font": _small(palette)})
    top = {"x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "xshift": 10}
    notes.append(note(palette, "points", **top))
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top", "yshift": -26}
    notes.append(note(palette, "AUROC (0.5 = coin), line: 95% interval", **under))
    return go.Figure(
        data=[{"type": "scatter", **trace} for trace in traces],
        layout={
            **layout(palette, USEFULNESS_HEIGHT, {"l": 132, "r": 104, "t": 24, "b": 50}),
            "xaxis": axis(palette, (low, high), ticks, [f"{v:g}" for v in ticks], line=True),
            "yaxis": _places([use.name for use in uses]),
            "annotations": notes,
        },
    )


def _small(palette: Palette) -> dict[str, object]:
    return {"size": 13, "color": palette.muted}


def _open(colour: str, page: str) -> dict[str, object]:
    return {"color": page, "symbol": "circle", "size": 13, "line": {"color": colour, "width": 2.5}}


def _segment(ends: tuple[float, ...], place: float, colour: str, width: float) -> dict[str, object]:
    return {
        "x": [ends[0], ends[-1]],
        "y": [place, place],
        "mode": "lines",
        "line": {"color": colour, "width": width},
        "hoverinfo": "skip",
        "name": "",
    }


def _places(names: Sequence[str], slots: int = 0) -> dict[str, object]:
    return names_axis([escape(name) for name in names], slots)


def use_legend(palette: Palette, noise_name: str = "noise only", third: tuple[str, str] | None = None) -> str:
    """HTML: what the marks of `usefulness` mean. third: (sign, colour) in place of those of noise alone."""
    sign, colour = third or ("×", palette.noise_only)
    items = (("○", palette.before, "before"), ("●", palette.after, "after"), (sign, colour, noise_name))
    return (
        '<div class="mi-legend">'
        + "".join(
            f'<span><em style="color:{colour}">{mark}</em>{escape(words)}</span>' for mark, colour, words in items
        )
        + "</div>"
    )


def use_words(uses: Sequence[Use], third: str = "by noise alone") -> str:
    """The picture as a sentence."""
    said = [
        f"{use.name}: {use.before[0]:.3f} before, {use.after[0]:.3f} after"
        + (f", {use.noise[0]:.3f} {third}" if use.noise else "")
        if use.before and use.after
        else f"{use.name}: {use.why}"
        for use in uses
    ]
    return f"AUROC. {'; '.join(said)}."


# -- attackers who adapt ---------------------------------------------------------------------------------------------


def attackers_height(n: int) -> int:
    return 84 + BAR_HEIGHT * n


def attackers(
    rows: Sequence[Mapping],
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
        colour = palette.before if row["attacker"] == "raw-images" else palette.after
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
        traces.append(_segment((value, high), place, colour, 2))
        traces.append(_segment((low, value), place, palette.page, 1.5))
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
            "yaxis": _places(names, slots),
            "annotations": notes,
            "shapes": shapes,
        },
    )


def attackers_words(rows: Sequence[Mapping], names: Sequence[str], before: float | None, out_of: int) -> str:
    """The picture as a sentence."""
    said = [f"{name} {of(float(row['recall']), out_of)}" for row, name in zip(rows, names, strict=True)]
    was = f" Before, the worst: {of(before, out_of)}." if before is not None else ""
    return f"Images linked by each attacker: {'; '.join(said)}.{was}"


def spread_of_runs(rows: Sequence[Mapping], out_of: int) -> str:
    """Runs that differ by their noise alone, as words; "" for fewer than two.

    >>> spread_of_runs([{"recall": 0.17}, {"recall": 0.19}, {"recall": 0.18}], 100)
    '3 runs with other noise: 17 to 19 of 100'
    """
    if len(rows) < 2:
        return ""
    values = [whole(float(row["recall"]), out_of) for row in rows]
    return f"{len(rows)} runs with other noise: {min(values):,} to {max(values):,} of {out_of:,}"


# -- details ---------------------------------------------------------------------------------------------------------


def trade_off(fpr: np.ndarray, tpr: np.ndarray, palette: Palette) -> go.Figure:
    """How often somebody is right that a patient was used, against how often wrong when not."""
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    of_100 = [f"{100 * v:g}" for v in ticks]
    above = {"x": 0, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 8}
    under = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top", "yshift": -26}
    lines = (
        ([0.0, 1.0], [0.0, 1.0], {"color": palette.guessing, "width": 2, "dash": GUESSING_DASH}, "a coin"),
        (fpr.tolist(), tpr.tolist(), {"color": palette.after, "width": 3}, "at most"),
    )
    return go.Figure(
        data=[
            {
                "type": "scatter",
                "x": x,
                "y": y,
                "mode": "lines",
                "line": style,
                "name": name,
                "hovertemplate": "said wrongly %{x:.2f}, rightly at most %{y:.3f}<extra></extra>",
            }
            for x, y, style, name in lines
        ],
        layout={
            **layout(palette, 300, {"l": 46, "r": 20, "t": 34, "b": 50}),
            "xaxis": axis(palette, (0, 1), ticks, of_100, line=True),
            "yaxis": axis(palette, (0, 1), ticks, of_100),
            "annotations": [
                note(palette, "said rightly, of 100 patients who were used: at most", **above),
                note(palette, "said wrongly, of 100 who were not (dashed: a coin)", **under),
            ],
        },
    )


def control_rows(
    heads: pd.DataFrame,
    linkage: pd.DataFrame,
    utility: pd.DataFrame,
    cohort: str,
    release: str,
    pool_size: int,
    out_of: int,
) -> pd.DataFrame:
    """Every measured control as a row: images linked by the worst attacker and by cosine, AUROC."""
    rows = []
    names = {OFF_THE_SHELF: "None: as the model came", **CONTROLS}
    for head, mechanism in zip(heads["head"], heads["mechanism"], strict=True):
        if mechanism not in names:
            continue
        worst = at(line(linkage, head, release, lab.WORST, cohort), pool_size)
        cosine = at(line(linkage, head, "embeddings-and-heads", "cosine", cohort), pool_size)
        if worst is None:
            continue
        use = measures(utility, head, cohort)
        rows.append(
            {
                "control": names[mechanism],
                f"worst links, of {out_of:,}": round(out_of * float(worst["recall"]), 2),
                "by": ATTACKERS.get(str(worst["named"]), "").format(m="its own"),
                f"cosine links, of {out_of:,}": None if cosine is None else round(out_of * float(cosine["recall"]), 2),
                "AUROC, probe": _rounded(use.get("declared")),
                "AUROC, zero-shot": _rounded(use.get("zero-shot")),
                "code name": mechanism,
            }
        )
    return pd.DataFrame(rows)


def _rounded(row: pd.Series | None) -> float | None:
    return None if row is None else round(float(row["after"]), 4)


def finding_rows(utility: pd.DataFrame, head: str, cohort: str) -> pd.DataFrame:
    """AUROC of each finding before and after, with the interval of the change."""
    rows = utility[
        (utility["head"] == head) & (utility["cohort"] == cohort) & utility["measure"].isin(["probe", "zero-shot"])
    ]
    return pd.DataFrame(
        {
            "finding": rows["label"],
            "read by": rows["measure"],
            "declared": rows["declared"],
            "before": rows["before"].round(4),
            "after": rows["after"].round(4),
            "change": rows["difference"].round(4),
            "low": rows["difference_low"].round(4),
            "high": rows["difference_high"].round(4),
            "n images": rows["n"],
            "n with it": rows["n_positive"],
            "note": rows["flag"],
        }
    ).reset_index(drop=True)


def attacker_rows(linkage: pd.DataFrame, head: str, release: str, pool_size: int, out_of: int) -> pd.DataFrame:
    """Every measured attacker at one N, on every cohort, before and after."""
    rows = linkage[linkage["head"].isin([OFF_THE_SHELF, head]) & (linkage["release"] == release)]
    rows = rows[rows["pool_size"] == pool_size]
    return pd.DataFrame(
        {
            "cohort": rows["cohort"],
            "when": np.where(rows["head"] == OFF_THE_SHELF, "before", "after"),
            "attacker": np.where(rows["attacker"] == lab.WORST, "worst", rows["attacker"]),
            "who": [ATTACKERS.get(str(name), str(name)).format(m="its own") for name in rows["named"]],
            "knows": rows["m"],
            f"links, of {out_of:,}": (out_of * rows["recall"].astype(float)).round(3),
            "low": (out_of * rows["recall_low"].astype(float)).round(3),
            "high": (out_of * rows["recall_high"].astype(float)).round(3),
            "times chance": rows["lift"].astype(float).round(2),
            "n images": rows["n_queries"],
            "n patients": rows["n_patients"],
            "note": rows["flag"],
        }
    ).reset_index(drop=True)


def ceiling_words(out_of: int) -> str:
    """What an attacker reaches under any head who knows the clean embeddings: release.ceiling without noise."""
    return (
        "Who knows every candidate's clean embedding finds the record: embeddings are deterministic, "
        f"{of(1.0, out_of)} images. No head limits that; a release can."
    )


def external_words(
    linkage: pd.DataFrame, utility: pd.DataFrame, head: str, release: str, pool_size: int, own: str
) -> list[tuple[str, str]]:
    """For each other cohort the head was measured on as it is: (cohort, what happened there), at N or the largest N
    below it that was measured there."""
    found = []
    for cohort in sorted(set(linkage.loc[linkage["head"] == head, "cohort"]) - {own}):
        rows = line(linkage, head, release, lab.WORST, cohort)
        fits = rows.loc[rows["pool_size"] <= pool_size, "pool_size"]
        n = int(fits.max()) if len(fits) else 0
        after, before = at(rows, n), at(line(linkage, OFF_THE_SHELF, release, lab.WORST, cohort), n)
        if after is None or before is None:
            continue
        out_of = denominator(n)
        ends = [interval(row["recall_low"], row["recall_high"], out_of) for row in (after, before)]
        said = (
            f"at N = {n:,} the worst attacker links {of(after['recall'], out_of)} ({ends[0]}), before "
            f"{figure(before['recall'], out_of)} ({ends[1]}), n = {int(after['n_queries']):,} images"
        )
        use = measures(utility, head, cohort).get("declared")
        if use is not None:
            said += (
                f"; AUROC {float(use['before']):.3f} before, {float(use['after']):.3f} after "
                f"({signed(100 * float(use['difference_low']), 1)} to {signed(100 * float(use['difference_high']), 1)} "
                "points)"
            )
        found.append((cohort, said))
    return found
