"""Help pages that fit a screen: what a command does, its usual options and an example; the rest under headings.

Drawn as plain text: typer's own pages take longer to import than all the rest of `linkage --help`, and more lines.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand

WIDTH = 100
"""Columns that a page takes at most."""
STORE_AND_OUTPUT = "Store and output"
"""The last heading: what is the same for all commands."""
_FIRST = ("Arguments", "Options")
_NAMES = re.compile(r"\{([\w.]+)\.(\w+)\}")


class Command(TyperCommand):
    """A command whose page begins with the first screen."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """First what it does and the usual options, then the others by their heading."""
        first_screen(self, ctx, formatter)
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections.setdefault(_heading(parameter), []).append((record[0], filled(record[1])))
        for name in sorted(sections, key=_place):
            section(formatter, name, sections[name])


def first_screen(command: Any, ctx: Any, formatter: Any) -> None:
    """The usage and the text of a command: paragraphs are wrapped, lines that are indented stand as they are."""
    command.format_usage(ctx, formatter)
    for paragraph in filled(inspect.cleandoc(command.help or "")).split("\n\n"):
        formatter.write_paragraph()
        wrapped: list[str] = []
        for line in [*paragraph.splitlines(), None]:
            if line is not None and not line.startswith(" "):
                wrapped.append(line)
                continue
            if wrapped:
                formatter.write_text(" ".join(wrapped))
                wrapped = []
            if line is not None:
                formatter.write(f"{line}\n")


def section(formatter: Any, name: str, rows: list[tuple[str, str]]) -> None:
    """A heading with its rows of two columns below."""
    formatter.write_paragraph()
    formatter.write(typer.style(f"{name}:", bold=True) + "\n")
    with formatter.indentation():
        formatter.write_dl(rows)


def filled(text: str) -> str:
    """Names from the table that holds them, so that none is typed again: "{module.TABLE}" becomes its names
    (or what it returns, where it is a function).

    >>> filled("Seeded or own: {linkage_core.errors.STOPPED}")[:23]
    'Seeded or own: Stopped.'
    """

    def names(found: re.Match[str]) -> str:
        value = getattr(import_module(found[1]), found[2])
        value = value() if callable(value) else value
        return ", ".join(value) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)

    return _NAMES.sub(names, text)


def _heading(parameter: Any) -> str:
    if parameter.name == "help":
        return STORE_AND_OUTPUT
    return parameter.rich_help_panel or ("Arguments" if parameter.param_type_name == "argument" else "Options")


def _place(name: str) -> int:
    """First those of the first screen, last what all commands have; the others as their options are declared."""
    return _FIRST.index(name) if name in _FIRST else len(_FIRST) + (name == STORE_AND_OUTPUT)
