"""Attackers of other packages: rows found by entry points when the table is first looked at.

One that cannot be used is left out, and a line of the log says which package, and why. It never stops the others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points

from linkage_core.attacks.protocol import Attacker
from linkage_core.validate import by_name

GROUP = "linkage_explorer.attackers"

_log = logging.getLogger(__name__)


class Table(MutableMapping[str, Attacker]):
    """Rows by name: ours, then those of other packages by name, found at the first look.

    reserved: names that stand for something else in the tables that attackers are shown in.
    """

    def __init__(self, *rows: Attacker, reserved: tuple[str, ...] = ()) -> None:
        self._rows = by_name("attacker", *rows)
        self._reserved = reserved
        self._looked = False
        self._lock = threading.RLock()

    def _all(self) -> dict[str, Attacker]:
        with self._lock:
            if not self._looked:
                self._looked = True  # before: a package may look at the table while it is imported
                found = sorted(entry_points(group=GROUP), key=lambda one: (one.name, _package(one)))
                for point in found:
                    try:
                        row = self._row(point)
                    except Exception as error:  # noqa: BLE001 - whatever another package does, the others go on
                        _log.warning("%s", left_out(point, error))
                    else:
                        self._rows[row.name] = row
        return self._rows

    def _row(self, point: EntryPoint) -> Attacker:
        row = point.load()
        if not isinstance(row, Attacker):
            raise TypeError(f"{point.value} is a {type(row).__name__}, not an Attacker")
        if row.name in self._rows or row.name in self._reserved:
            raise ValueError(f"the name {row.name!r} is taken")
        return replace(row, package=_package(point))

    def __getitem__(self, name: str) -> Attacker:
        return self._all()[name]

    def __setitem__(self, name: str, row: Attacker) -> None:
        self._all()[name] = row

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


def left_out(point: EntryPoint, error: Exception) -> str:
    """The line that says which package's attacker is missing, and why."""
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"The attacker {point.name!r} of the package {_package(point)} is left out: {why}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"
