"""What goes to the terminal: results to standard output, messages to standard error. rich is imported by the first.

Nothing printed is markup: names, ids and texts of users are in nearly every line, so square brackets and emoji codes
are letters like others, and what acts on a terminal is written out. Whoever wants bold says `strong`.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from linkage_core.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


@cache
def output() -> Console:
    """Of results."""
    return _console(width=None if sys.stdout.isatty() else 140)


@cache
def messages() -> Console:
    """Of progress, notes and errors."""
    return _console(stderr=True)


def _console(**how: Any) -> Console:
    from rich.console import Console

    class Verbatim(Console):
        """Every string that it draws, in a table too, comes through here."""

        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(visible(text, lines=True), **how)

    return Verbatim(markup=False, emoji=False, highlight=False, **how)


def say(*what: Any, **how: Any) -> None:
    """A result, for people."""
    output().print(*what, **how)


def note(*what: Any, **how: Any) -> None:
    """A message, beside the results."""
    messages().print(*what, **how)


def strong(text: str, colour: str = "") -> Text:
    """In bold."""
    from rich.text import Text

    return Text(visible(text, lines=True), style=f"bold {colour}")


def plain(text: str) -> str:
    """Text of users in one line, so that no name can begin a line of its own."""
    return visible(text)
