"""Ranked reports as one block of escaped HTML.

Text from reports is data: it is escaped here, and where it is hidden it never reaches these functions (`text` is
None), so it cannot be sent by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

STYLE = (Path(__file__).parent / "components" / "ranked.css").read_text(encoding="utf-8")

_SHORT = 84  # characters that surely fit in the lines every card keeps free; longer texts can be opened


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
    second_line: str
    cards: Sequence[Card]
    n_hidden_above: int = 0


def ranked_lists(views: Sequence[RankedView]) -> str:
    """One or two lists beside each other."""
    return f'<div class="lx-lists lx-of{len(views)}">{"".join(_list(view) for view in views)}</div>'


def headline(rank: int, pool_size: int) -> str:
    """
    >>> headline(3, 1000)
    'The true report is <b>number 3</b> of 1,000'
    """
    return f"The true report is <b>number {rank:,}</b> of {pool_size:,}"


def skeleton(n_views: int = 1) -> str:
    """The same space, empty and grey, for while nothing is known yet."""
    empty = '<section class="lx-list lx-empty"><p class="lx-caption">&nbsp;</p><h3 class="lx-head">&nbsp;</h3></section>'
    return f'<div class="lx-lists lx-of{n_views}" aria-busy="true">{empty * n_views}</div>'


def _list(view: RankedView) -> str:
    parts = []
    for card in view.cards:
        if card.is_match and view.n_hidden_above:
            noun = "report scores" if view.n_hidden_above == 1 else "reports score"
            parts.append(f'<li class="lx-gap" role="presentation">… {view.n_hidden_above:,} more {noun} higher …</li>')
        parts.append(_card(card))
    return (
        f'<section class="lx-list"><p class="lx-caption">{escape(view.caption)}</p>'
        f'<h3 class="lx-head">{headline(view.rank, view.pool_size)}</h3>'
        f'<p class="lx-second">{escape(view.second_line)}</p>'
        f'<ol class="lx-cards" tabindex="0" aria-label="Reports by rank">{"".join(parts)}</ol></section>'
    )


def _card(card: Card) -> str:
    share = min(max(card.similarity, 0.0), 1.0)  # bars run from 0 to 1, whatever the values are
    number = f"{card.similarity:.2f}".replace("-", "−")
    tags = '<span class="lx-true-tag">✓ the true report</span>' if card.is_match else ""
    if card.n_identical:
        noun = "report" if card.n_identical == 1 else "reports"
        tags += f'<span class="lx-same">and {card.n_identical:,} identical {noun}</span>'
    return (
        f'<li class="lx-card{" lx-true" if card.is_match else ""}"><span class="lx-rank">{card.rank:,}</span>'
        f'<div class="lx-body">{f"<p class=lx-tags>{tags}</p>" if tags else ""}{_text(card)}'
        f'<div class="lx-row"><span class="lx-bar"><span class="lx-fill" style="width:{100 * share:.1f}%"></span></span>'
        f'<span class="lx-number" title="similarity (cosine)">{number}</span></div></div></li>'
    )


def _text(card: Card) -> str:
    if card.text is None:
        return f'<p class="lx-text lx-absent">{card.words:,} words. {escape(card.absent)}</p>'
    # bdi keeps a text's own direction marks from turning what follows it
    text = f"<bdi>{escape(' '.join(card.text.split()))}</bdi>"
    if len(card.text) <= _SHORT:
        return f'<p class="lx-text">{text}</p>'
    return f'<details class="lx-more"><summary><span class="lx-text">{text}</span></summary></details>'
