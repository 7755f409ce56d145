"""One run as n parts, which may run at any time, in any order and on any machine that sees the same store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from linkage_core.errors import InputError

ALL = "all"
"""In place of i/n: compute nothing, and put together what the parts have left."""

One = TypeVar("One")


@dataclass(frozen=True)
class Part:
    """The i-th of n parts, from 1."""

    i: int
    n: int

    def share(self, pieces: Sequence[One]) -> list[One]:
        """Its pieces of all: every n-th, so that parts differ by one piece at most.

        >>> Part(2, 3).share("abcde")
        ['b', 'e']
        """
        return list(pieces[self.i - 1 :: self.n])

    def __str__(self) -> str:
        return f"{self.i}/{self.n}"

    def others(self, places: Iterable[int]) -> str:
        """Which parts these pieces (by their place, from 0) belong to, where all are cut as this one.

        >>> Part(2, 3).others([0, 3, 5])
        '1/3, 3/3'
        """
        return ", ".join(f"{i + 1}/{self.n}" for i in sorted({place % self.n for place in places}))


def part_of(text: str) -> Part | None:
    """What --part says: a Part, or None for "all"; InputError for anything else.

    >>> part_of("2/8"), part_of("all")
    (Part(i=2, n=8), None)
    """
    if text == ALL:
        return None
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(
            f"--part is {text!r}.", "Give i/n with i from 1 to n, for example 2/8, or all once the parts are done."
        )
    return Part(int(found[1]), int(found[2]))
