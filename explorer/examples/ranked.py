"""Ranked reports as data for the list in the browser, and a few lines of escaped HTML around it.

Text from reports is data: the list puts it on the screen as text nodes, and where it is hidden it never reaches these
functions (`text` is None), so it cannot be sent by accident. Nor can the place of the true report where that is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from explorer.drawing.component import component
from linkage_core.audit.examples import Scale
from linkage_core.sentences import first_in

STYLE = (Path(__file__).parent / "components" / "ranked.css").read_text(encoding="utf-8")
_mount = component(__file__, "list")

# Marks that would show the letters after them in another order than they are stored.
_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


@dataclass(frozen=True)
class Card:
    """One report of the list; `n_identical` others read the same. `absent` says why there is no text.

    key: the same for the same report in every list on screen, and telling nothing of it.
    """

    key: str
    rank: int
    similarity: float
    is_match: bool
    n_identical: int
    words: int
    text: str | None
    absent: str = "Text hidden."


@dataclass(frozen=True)
class RankedView:
    """One list: what stands above it, the cards by rank, and how many are left out before the last.

    image: the list is of another image, or another pool of it, when this changes. claim: what a mitigation does not
    guarantee. hidden: the true report is not told. n_shown: how many reports were asked for. head, second: in place of
    the headline and of the line under it.
    """

    image: str
    caption: str
    rank: int
    pool_size: int
    first_in: float
    scale: Scale
    cards: Sequence[Card]
    n_shown: int
    n_hidden_above: int = 0
    claim: str = ""
    hidden: bool = False
    head: tuple[str, str, str] | None = None
    second: str | None = None


@dataclass(frozen=True)
class NoList:
    """In place of a list: its caption, and why there is none."""

    caption: str
    what: str
    remedy: str
    n_shown: int


def draw(view: RankedView | NoList, *, key: str, on_told: Callable[[], None]) -> None:
    """Draws one list; `on_told` is called, before the page runs again, when the reader asks for the true report."""
    said = payload(view) if isinstance(view, RankedView) else problem(view)
    _mount(key=key, data=said, on_told_change=on_told)


def payload(view: RankedView) -> dict[str, Any]:
    """What the browser gets of a list, ready to be shown: no number is made up there.

    Of a hidden true report nothing is sent that any other report of the list has not.
    """
    decimals = decimals_of([card.similarity for card in view.cards])
    return {
        "image": view.image,
        "caption": view.caption,
        "claim": view.claim,
        "head": _head(view),
        "hidden": view.hidden,
        "second": first_in(view.first_in, view.pool_size) if view.second is None else view.second,
        "rows": view.n_shown,
        "scale": [number(view.scale.low, decimals), number(view.scale.high, decimals)],
        "zero": zero(view.scale),
        "cards": [_card(card, view, decimals) for card in view.cards],
    }


def _head(view: RankedView) -> list[str]:
    if view.head is not None:
        return list(view.head)
    return ["The true report is ", "hidden", ""] if view.hidden else headline(view.rank, view.pool_size)


def problem(view: NoList) -> dict[str, Any]:
    """What the browser gets where there is no list."""
    return {"caption": view.caption, "problem": [view.what, view.remedy], "rows": view.n_shown}


def headline(rank: int, pool_size: int) -> list[str]:
    """In three pieces, the middle one large.

    >>> headline(3, 1000)
    ['The true report is ', 'number 3', ' of 1,000']
    """
    return ["The true report is ", f"number {rank:,}", f" of {pool_size:,}"]


def decimals_of(similarities: Sequence[float]) -> int:
    """How many decimals similarities of one list are said with: a third where two would make unequal ones alike.

    >>> decimals_of([0.46, 0.41]), decimals_of([0.461, 0.458]), decimals_of([0.46, 0.46])
    (2, 3, 2)
    """
    distinct = {round(value, 6) for value in similarities}
    return 2 if len({f"{value:.2f}" for value in distinct}) == len(distinct) else 3


def number(value: float, decimals: int) -> str:
    """With a true minus sign.

    >>> number(-0.0316, 2), number(-0.0016, 3)
    ('−0.03', '−0.002')
    """
    return f"{value:.{decimals}f}".replace("-", "−")


def share(value: float, scale: Scale) -> float:
    """How much of its bar a similarity fills, 0 .. 1: its place on the range of the head.

    >>> share(0.25, Scale(0.0, 1.0)), share(-0.02, Scale(-0.04, 0.04)), share(2.0, Scale(0.0, 1.0))
    (0.25, 0.25, 1.0)
    """
    width = scale.high - scale.low
    return round(min(max((value - scale.low) / width, 0.0), 1.0), 4) if width > 0 else 1.0


def zero(scale: Scale) -> float | None:
    """Where 0 lies on the bars, or None where the range of the head does not hold it.

    >>> zero(Scale(-0.5, 0.5)), zero(Scale(0.1, 0.5))
    (0.5, None)
    """
    return share(0.0, scale) if scale.low < 0 < scale.high else None


def _card(card: Card, view: RankedView, decimals: int) -> dict[str, Any]:
    told = card.is_match and not view.hidden
    tags, gap = [], ""
    if told and view.n_hidden_above:
        noun = "report scores" if view.n_hidden_above == 1 else "reports score"
        gap = f"… {view.n_hidden_above:,} more {noun} higher …"
    if card.n_identical:
        tags.append(f"and {card.n_identical:,} identical {'report' if card.n_identical == 1 else 'reports'}")
    text = None if card.text is None else unturned(" ".join(card.text.split()))
    return {
        "key": card.key,
        "rank": f"{card.rank:,}",
        "number": number(card.similarity, decimals),
        "share": share(card.similarity, view.scale),
        "true": told,
        "tags": tags,
        "gap": gap,
        "text": text,
        "absent": without_text(card.words, card.absent) if text is None else "",
    }


# -- lines of HTML ---------------------------------------------------------------------------------------------------


def facts(rows: Sequence[tuple[str, str]], columns: int = 1) -> str:
    """Names and values, both escaped, in one or more columns."""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{_shown(value)}</dd></div>" for name, value in rows)
    return f'<dl class="lx-facts" style="columns:{columns}">{pairs}</dl>'


def note(text: str) -> str:
    """One grey line; the text may come from a URL."""
    return f'<p class="lx-note">{_shown(text)}</p>'


def line(text: str) -> str:
    """One line that may be long."""
    return f"<p>{_shown(text)}</p>"


def _shown(text: str) -> str:
    """Text from a cohort, ready to stand in HTML: escaped, and unable to turn the direction of what is around it."""
    return f"<bdi>{escape(unturned(text))}</bdi>"


def unturned(text: str) -> str:
    """Text from a cohort without marks that would turn the direction of what is around it."""
    return text.translate(_TURNING)


def without_text(words: int, why: str) -> str:
    """In place of a report that is not shown. Embeddings may have been imported without any text."""
    return f"{words:,} words. {why}" if words else "No report text came with it."
