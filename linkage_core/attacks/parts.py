"""Attackers in parts: by processes that know nothing of each other, over one store.

A piece is one attacker at one m under one head: its exact counts, which it leaves in the entry (store.pieces). The
attackers learn from the same split with the same seed whoever else acts, so the pieces of all parts are those of one
run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from linkage_core.attacks.attack import Attack, studied
from linkage_core.attacks.attackers import ATTACKERS, takes_m
from linkage_core.attacks.held import Held, Known, hold
from linkage_core.parts import Part
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.files import versions
from linkage_core.store.pieces import Pieces


@dataclass
class Shared:
    """Makes those attackers that are asked of this run, and takes all others from what parts have left.

    part: its own are made and left for others; None: whatever is missing is made, and nothing is left, or with
    `gather` nothing is made. only: the one in this place alone is made and left, and no other is looked at. missing:
    names of attackers that nobody has made yet, and `places` of them in the order in which they are asked for; asked:
    how many were asked for.
    """

    part: Part | None = None
    gather: bool = False
    knows: str = "nothing"
    only: int | None = None
    missing: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    asked: int = 0

    @property
    def some(self) -> bool:
        """Whether attackers may be left out."""
        return self.part is not None or self.gather or self.only is not None

    def of(self, make: Callable[..., Attack]) -> Callable[..., Attack | None]:
        """`make` (attack.attack, or as it), asked for one attacker after the other: None for one that is missing."""

        def made(
            entry: Entry,
            head: str,
            attacker: str,
            release: str,
            m: Known,
            seed: int,
            *,
            source: Entry | None = None,
            held: Held | None = None,
        ) -> Attack | None:
            place, name = self.asked, f"{attacker}.{m}"
            self.asked += 1
            if self.only not in (None, place):
                return None
            held = held or hold(entry, head, source=source, seed=seed)
            left = Pieces(
                entry.path, f"attack.{head}.{release}", _inputs(entry, head, held, seed, self.knows, source), ()
            )
            found = left.read(name) if left.begun() else None
            if found is not None:
                counts = MatchCounts(*(found[0][column].astype(np.int64) for column in MatchCounts._fields))
                m = m if takes_m(attacker) else "all"
                study = studied(entry, head, held, counts, seed)
                return Attack(study, attacker, release, m, int(found[1]["known"]), str(found[1]["chosen"]))
            own = self.only == place or (self.part is not None and place % self.part.n == self.part.i - 1)
            if self.some and not own:
                self.missing.append(f"{attacker} ({head}, m = {m})")
                self.places.append(place)
                return None
            one = make(entry, head, attacker, release, m, seed, source=source, held=held)
            if own:
                arrays = {column: values.astype(np.int32) for column, values in one.counts._asdict().items()}
                left.write(name, arrays, {"known": int(one.known), "chosen": one.chosen})
            return one

        return made


def _inputs(entry: Entry, head: str, held: Held, seed: int, knows: str, source: Entry | None) -> str:
    """Fingerprint of what every attacker's counts are made from: all that it holds, and the code that scores."""
    whose = [entry, *([source] if source else [])]
    content: list[Any] = [[one.inputs(name) for name in (OFF_THE_SHELF, head)] for one in whose]
    packages = {row.package: version(row.package) for row in ATTACKERS.values() if row.package}
    content += [held.split, held.noise, seed, knows, versions(), version("scikit-learn"), packages]
    content += [held.unpaired.inputs if held.unpaired else ()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
