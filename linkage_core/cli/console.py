"""What goes to the terminal: results to standard output, messages to standard error. rich is imported by the first."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


@cache
def output() -> Console:
    """Of results."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


@cache
def messages() -> Console:
    """Of progress, notes and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(what: Any, **how: Any) -> None:
    """A result, for people."""
    output().print(what, **how)


def note(what: Any, **how: Any) -> None:
    """A message, beside the results."""
    messages().print(what, **how)


def plain(text: str) -> str:
    """Text of users shown as it is, not read as markup."""
    return text.replace("[", r"\[")
