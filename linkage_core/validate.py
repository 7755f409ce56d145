"""What an argument may be: the checks that many functions make, with the errors that users read."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

from linkage_core.errors import InputError


def one_of(name: str, value: object, choices: Iterable[object]) -> None:
    """InputError unless the value is one of the choices; it lists them, and names the nearest.

    >>> one_of("direction", "image-to-report", ("image-to-report", "report-to-image"))
    >>> one_of("direction", "imagetoreport", ("image-to-report", "report-to-image"))
    Traceback (most recent call last):
    ...
    linkage_core.errors.InputError: direction is 'imagetoreport'. Did you mean 'image-to-report'? It is one of: \
image-to-report, report-to-image.
    """
    listed = list(choices)
    if value in listed:
        return
    shown = [choice if isinstance(choice, str) else repr(choice) for choice in listed]
    raise InputError(f"{name} is {value!r}.{nearest(value, listed)}", f"It is one of: {', '.join(shown)}.")


class Named(Protocol):
    """A row of a table that is known by its name."""

    @property
    def name(self) -> str: ...


Row = TypeVar("Row", bound=Named)


def by_name(what: str, *rows: Row) -> dict[str, Row]:
    """A table: rows by their names, in their order. ValueError for a name that comes twice.

    >>> from pathlib import PurePath
    >>> by_name("file", PurePath("a/x"), PurePath("a/y"))["x"].parent.name
    'a'
    >>> by_name("file", PurePath("a/x"), PurePath("b/x"))
    Traceback (most recent call last):
    ...
    ValueError: There are two rows for the file 'x'.
    """
    found: dict[str, Row] = {}
    for row in rows:
        if row.name in found:
            raise ValueError(f"There are two rows for the {what} {row.name!r}.")
        found[row.name] = row
    return found


def nearest(value: object, choices: Iterable[object]) -> str:
    """A question for the choice that is spelled most like the value; "" where none comes near.

    >>> nearest("paitent", ("patient", "pair"))
    " Did you mean 'patient'?"
    >>> nearest("site", ("patient", "pair"))
    ''
    """
    near = difflib.get_close_matches(str(value), [choice for choice in choices if isinstance(choice, str)], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def new_folder(path: Path) -> None:
    """InputError where something stands already: results never overwrite."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} is not an empty directory.", "Name a new or empty directory.")


def in_utf8(path: Path) -> None:
    """InputError where a name holds bytes that are not UTF-8: neither a table nor a message could say it."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise InputError(
            f"The name {shown} holds bytes that are not UTF-8.", "Rename it, or what it lies in."
        ) from error
