"""Foreign text as it may be shown: characters that act on a terminal or turn text around are written out."""

from __future__ import annotations

import unicodedata

_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that change the direction of what follows (Unicode Bidirectional Algorithm, UAX 9)."""


def visible(text: object, *, lines: bool = False) -> str:
    r"""The text with control characters, marks of direction and ends of lines as \x1b, \u202e and \n.

    lines: ends of lines and tabs stay, for text that is several lines by itself. Applied twice it changes nothing more.

    >>> visible("a\x1b[2Jb\n"), visible("two\nlines\r", lines=True), visible("tab\t"), visible("Müller, 胸部 x")
    ('a\\x1b[2Jb\\n', 'two\nlines\\r', 'tab\\t', 'Müller, 胸部 x')
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(one if _harmless(one) or (lines and one in "\n\t") else _written_out(one) for one in text)


def _harmless(one: str) -> bool:
    """Whether it draws at most itself: no control (Cc), no end of a line (Zl, Zp), no half of a character (Cs)."""
    return unicodedata.category(one) not in ("Cc", "Zl", "Zp", "Cs") and one not in _TURNING


def _written_out(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")
