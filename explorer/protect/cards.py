"""The cards of Mitigation: the guarantee, what was measured, and the price."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from explorer.drawing.charts import (
    Row,
)
from explorer.drawing.palette import Palette
from explorer.drawing.words import attacker_words
from explorer.frame.page import marked
from explorer.protect.uses import Use
from linkage_core.attacks.attack import CHOSEN_AT
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import accounting
from linkage_core.mitigation.mechanisms import known
from linkage_core.sentences import TOO_FEW, figure, interval, of, too_few, upper

# -- card 1: the guarantee -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Guarantee:
    """What is claimed for the training patients. accuracy None: nothing is established, and `why` says why, with
    commands in backticks. illustration: its noise can be made again, so that nothing is guaranteed; `noise` says
    how."""

    accuracy: float | None
    why: str = ""
    facts: str = ""
    illustration: bool = False
    noise: str = "The seed of its noise is stored"


def guarantee(made: Guarantee, palette: Palette) -> str:
    """HTML of card 1; a bar only where there is a number."""
    head = '<p class="mi-head"><b>1 · Guarantee</b> for patients whose pairs trained the heads</p>'
    if made.accuracy is None:
        body = f'<p class="mi-big"><b>None established.</b></p><p class="mi-why">{marked(made.why)}</p>'
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
    seed = f"{escape(made.noise)}: with secret noise this would hold. " if made.illustration else ""
    more = f'<p class="mi-small">{seed}{even}{escape(made.facts)}. Says nothing about how often images are linked.</p>'
    who = "<strong>Illustration:</strong> whoever" if made.illustration else "Whoever"
    return (
        f'<div class="mi-card">{head}<p class="mi-big">{who} guesses whether a patient was used is {big}.</p>'
        f"{scale}{more}</div>"
    )


def why_none(setting: Setting, claim: str = "") -> str:
    """Why card 1 has no number."""
    if setting.as_reported:
        return known(setting.mechanism).why_none
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

HELD_OUT = "on patients who were held out"


def measured(
    before: Row | None,
    after: Row | None,
    *,
    release: str,
    pool_size: int,
    out_of: int,
    n_own: int,
    palette: Palette,
    cosine: Row | None = None,
    cosine_before: Row | None = None,
    whose: str = HELD_OUT,
    unmeasured: str = "not measured at this setting",
    nearest: str = "",
    held: tuple[str, Row] | None = None,
) -> str:
    """HTML of card 2: the worst attacker after and before, with intervals, against guessing, on one scale.

    The headline is about the worst attacker, always. Where that one is not known after, or before, it says so
    (`unmeasured`), small text names the `nearest` settings where it is, and cosine stands in bars that are named so.
    Where the release is the raw images, `after` is to be `before`: no head touches them. whose: on which patients.
    held: name and worst attacker of another setting, to compare with.
    """
    head = f'<p class="mi-head"><b>2 · Measured linkage</b> {escape(whose)}</p>'
    raw = release == "raw-images"
    known = [row for row in (after, before, cosine, cosine_before) if row is not None]
    few = next((row for row in known if _few(row)), None)
    if few is not None:
        said = f"{upper(too_few(int(few['n_queries'])))}."
        why = f'<p class="mi-small">{escape(few_words(few))}</p>'
        return f'<div class="mi-card">{head}<p class="mi-big">{escape(said)}</p>{why}</div>'
    guess = float(known[0]["chance"]) if known else 1 / pool_size
    whole_story = after is not None and before is not None
    images = f"N = {pool_size:,}" + (f", n = {int(known[0]['n_queries']):,} images" if known else "")
    bars: list[tuple[str, Row | None, str, bool]]
    if after is not None and before is not None:
        count = escape(of(after["recall"], out_of))
        if raw:
            big = f"A head protects nothing here: <b>{count}</b>, as before. Guessing: {figure(guess, out_of)}."
        else:
            big = (
                f"The worst attacker tried links <b>{count}</b> images. Before: {figure(before['recall'], out_of)}. "
                f"Guessing: {figure(guess, out_of)}."
            )
        bars = [("before", before, palette.before, False)]
        bars += [(held[0], held[1], palette.after, False)] if held is not None and not raw else []
        bars += [("after" if held is None else "B, now", after, palette.after, False)]
        who = attacker_words(after, n_own).lower()
        small = f"Game: a single image. Worst: {who}; chosen in pools of {CHOSEN_AT:,}. {images}."
    else:
        first = "A head protects nothing here. " if raw else ""
        big = f"{first}The worst attacker: <b>{escape(unmeasured)}</b>."
        bars = [
            ("before, cosine", cosine_before, palette.before, True),
            ("after, cosine", cosine_before if raw else cosine, palette.after, True),
        ]
        parts = [nearest] if nearest else []
        parts += [f"Before, the worst: {figure(before['recall'], out_of)}"] if before is not None else []
        small = f"{'. '.join([*parts, 'Bars: cosine alone', images])}."
    drawn = [(name, row, colour, hollow) for name, row, colour, hollow in bars if row is not None]
    top = max([float(row["recall_high"]) for _, row, _, _ in drawn] + [guess])
    body = "".join(
        bar(
            name,
            float(row["recall"]),
            top,
            colour,
            out_of,
            (float(row["recall_low"]), float(row["recall_high"])),
            hollow=hollow,
        )
        for name, row, colour, hollow in drawn
    )
    body += bar("guessing", guess, top, palette.guessing, out_of)
    wide = "" if whole_story and held is None else " mi-wide"
    return (
        f'<div class="mi-card">{head}<p class="mi-big">{big}</p><div class="mi-bars{wide}">{body}</div>'
        f'<p class="mi-small">{escape(small)}</p></div>'
    )


def few_words(row: Row) -> str:
    """Who are too few, where the row tells the patients."""
    if "n_patients" not in row:
        return ""
    images, patients = int(row["n_queries"]), int(row["n_patients"])
    said = f"{images:,} image{'s' * (images != 1)} of {patients:,} patient{'s' * (patients != 1)}"
    return f"{said} can be asked at this N; {TOO_FEW} patients are needed."


def _few(row: Row) -> bool:
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
    *,
    hollow: bool = False,
) -> str:
    """HTML: one bar with its number and interval, and an upright tick at another rate. hollow: of cosine alone, which
    is never taken for the worst attacker."""
    mark = "" if tick is None else f'<u style="left:{100 * tick / top:.1f}%;background:{colour}"></u>'
    width = 100 * max(rate, 0.0) / top if top > 0 else 0.0
    fill = f"box-shadow:inset 0 0 0 2px {colour}" if hollow else f"background:{colour}"
    said = ""
    if ends is not None:
        said = f" ({interval(*ends, out_of).rsplit(' of ', 1)[0]})"
    return (
        f'<div class="mi-row"><span>{escape(name)}</span><span class="mi-track">'
        f'<i style="width:{width:.1f}%;{fill}"></i>{mark}</span>'
        f"<span><b>{escape(figure(rate, out_of))}</b>{escape(said)}</span></div>"
    )


# -- privacy or damage -----------------------------------------------------------------------------------------------


def damage(
    after: Row | None,
    noise: Row | None,
    *,
    out_of: int,
    palette: Palette,
    uses: Sequence[Use] = (),
    noise_name: str = "noise only",
    worst: tuple[Row, Row] | None = None,
    why: str = "",
) -> str:
    """HTML: cosine under the head beside cosine under its noise alone, and what follows from it.

    uses: AUROC under the head and under the noise alone, where both are measured. worst: the worst attacker under the
    head and under the noise alone, likewise. `why` stands where there is nothing to compare.
    """
    title = '<p class="mi-head"><b>Is it privacy, or only damage?</b></p>'
    if after is None or noise is None:
        return f'<div class="mi-card mi-damage">{title}<p class="mi-small">{escape(why)}</p></div>'
    if _few(after) or _few(noise):
        why = f"{upper(too_few(int(after['n_queries'])))}."
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


def worst_words(after: Row, noise: Row) -> str:
    """The same comparison for the worst attacker, which is the one that counts."""
    if noise["recall_low"] > after["recall_high"]:
        return "The worst attacker gets less under the head than under noise alone."
    if noise["recall_high"] < after["recall_low"]:
        return "Noise alone leaves the worst attacker less than the head does."
    return "To the worst attacker noise alone is as much of a hindrance as the head."


def damage_words(after: Row, noise: Row, uses: Sequence[Use] = ()) -> str:
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
