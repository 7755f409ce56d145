"""Ranked reports as one block of escaped HTML.

Text from reports is data: it is escaped here, and where it is hidden it never reaches these functions (`text` is
None), so it cannot be sent by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from linkage_core.sentences import first_in

STYLE = (Path(__file__).parent / "components" / "ranked.css").read_text(encoding="utf-8")

_SHORT = (110, 44)  # characters that fit in two lines of one list, of each of two lists; longer texts can be opened

# Marks that would show the letters after them in another order than they are stored.
_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


@dataclass(frozen=True)
class Card:
    """One report of the list; `n_identical` others read the same. `absent` says why there is no text."""

    rank: int
    similarity: float
    is_match: bool
    n_identical: int
    words: int
    text: str | None
    absent: str = "Text hidden."


@dataclass(frozen=True)
class RankedView:
    """One model's list: what stands above it, the cards by rank, and how many are left out before the last."""

    caption: str
    rank: int
    pool_size: int
    first_in: float
    cards: Sequence[Card]
    n_hidden_above: int = 0


def ranked_lists(views: Sequence[RankedView]) -> str:
    """One or two lists beside each other."""
    short = _SHORT[min(len(views), 2) - 1]
    return f'<div class="lx-lists lx-of{len(views)}">{"".join(_list(view, short) for view in views)}</div>'


def headline(rank: int, pool_size: int) -> str:
    """
    >>> headline(3, 1000)
    'The true report is <span><b>number 3</b> of 1,000</span>'
    """
    return f"The true report is <span><b>number {rank:,}</b> of {pool_size:,}</span>"


def facts(rows: Sequence[tuple[str, str]], columns: int = 1) -> str:
    """Names and values, both escaped, in one or more columns."""
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{_shown(value)}</dd></div>" for name, value in rows)
    return f'<dl class="lx-facts" style="columns:{columns}">{pairs}</dl>'


def note(text: str) -> str:
    """One grey line; the text may come from a URL."""
    return f'<p class="lx-note">{_shown(text)}</p>'


def _list(view: RankedView, short: int) -> str:
    cards = "".join(_card(card, view.n_hidden_above if card.is_match else 0, short) for card in view.cards)
    return (
        f'<section class="lx-list"><p class="lx-caption">{escape(view.caption)}</p>'
        f'<h3 class="lx-head">{headline(view.rank, view.pool_size)}</h3>'
        f'<p class="lx-second">{escape(first_in(view.first_in, view.pool_size))}</p>'
        f'<ol class="lx-cards" tabindex="0" aria-label="Reports by rank">{cards}</ol></section>'
    )


def _card(card: Card, n_hidden_above: int, short: int) -> str:
    share = min(max(card.similarity, 0.0), 1.0)  # bars run from 0 to 1, whatever the values are
    number = f"{card.similarity:.2f}".replace("-", "−")
    gap, tags = "", ""
    if n_hidden_above:
        noun = "report scores" if n_hidden_above == 1 else "reports score"
        gap = f'<p class="lx-gap">… {n_hidden_above:,} more {noun} higher …</p>'
    if card.is_match:
        tags = '<span class="lx-true-tag">✓ the true report</span>'
    if card.n_identical:
        noun = "report" if card.n_identical == 1 else "reports"
        tags += f'<span class="lx-same">and {card.n_identical:,} identical {noun}</span>'
    if tags:
        tags = f'<p class="lx-tags">{tags}</p>'
    return (
        f'<li class="lx-item{" lx-true" if card.is_match else ""}">{gap}<div class="lx-card">'
        f'<span class="lx-rank">{card.rank:,}</span><div class="lx-body">{tags}{_text(card, short)}'
        '<div class="lx-row"><span class="lx-bar">'
        f'<span class="lx-fill" style="width:{100 * share:.1f}%"></span></span>'
        f'<span class="lx-number" title="similarity (cosine)">{number}</span></div></div></div></li>'
    )


def _shown(text: str) -> str:
    """Text from a cohort, ready to stand in HTML: escaped, and unable to turn the direction of what is around it."""
    return f"<bdi>{escape(unturned(text))}</bdi>"


def unturned(text: str) -> str:
    """Text from a cohort without marks that would turn the direction of what is around it."""
    return text.translate(_TURNING)


def without_text(words: int, why: str) -> str:
    """In place of a report that is not shown. Embeddings may have been imported without any text."""
    return f"{words:,} words. {why}" if words else "No report text came with it."


def _text(card: Card, short: int) -> str:
    if card.text is None:
        return f'<p class="lx-text lx-absent">{escape(without_text(card.words, card.absent))}</p>'
    text = _shown(" ".join(card.text.split()))
    if len(card.text) <= short:
        return f'<p class="lx-text">{text}</p>'
    return f'<details class="lx-more"><summary><span class="lx-text">{text}</span></summary></details>'
