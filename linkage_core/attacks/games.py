"""The attackers of the table in either game, and with what else they know of the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd
from threadpoolctl import threadpool_limits

from linkage_core.attacks import archive, beside
from linkage_core.attacks.archive import Played
from linkage_core.attacks.attack import Attack, attack, each_of, heads_known, studied
from linkage_core.attacks.attackers import EVERYTHING, takes_m
from linkage_core.attacks.held import Held, Known, hold
from linkage_core.attacks.home import Tried, tried
from linkage_core.attacks.parts import Shared
from linkage_core.errors import InputError
from linkage_core.progress import Progress, silent
from linkage_core.store.entry import OFF_THE_SHELF, Entry

NOTHING = "nothing"
Size = int | Literal["full"]
ARCHIVE_COLUMNS = (
    *("cohort", "model", "head", "release", "attacker", "m", "known", "game", "knows", "pool_size", "k", "n_queries"),
    *("n_patients", "n_archives", "rounds", "recall", "recall_low", "recall_high", "chance", "lift"),
    *("alone", "alone_low", "alone_high", "way", "chosen", "flag"),
)


@dataclass(frozen=True)
class InArchives:
    """One attacker in archives of several sizes. As for attack.Attack; played has one game a size."""

    cohort: str
    model: str
    head: str
    attacker: str
    release: str
    m: Known
    known: int
    knows: str
    chosen: str
    played: tuple[Played, ...]

    def table(self) -> pd.DataFrame:
        """One row a size, in the order of ARCHIVE_COLUMNS; `recall` is the share named right."""
        who = {
            **{name: getattr(self, name) for name in ("cohort", "model", "head", "release", "attacker")},
            **{"m": str(self.m), "known": self.known, "knows": self.knows, "chosen": self.chosen},
        }
        return pd.DataFrame([who | one.row() for one in self.played])[list(ARCHIVE_COLUMNS)]


def in_archives(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    release: str = EVERYTHING,
    m: Known | Sequence[Known] = "all",
    seed: int = 0,
    *,
    sizes: Sequence[Size] = (100,),
    knows: str = NOTHING,
    source: Entry | None = None,
    noise: float | None = None,
    progress: Progress = silent,
) -> list[InArchives]:
    """Every attacker of attack.attacks in the game of whole archives. knows: of asked.KNOWS."""
    make = partial(in_archive, sizes=sizes, knows=knows)
    return each_of(make, entry, head, release, m, seed, source=source, noise=noise, progress=progress)


def in_archive(
    entry: Entry,
    head: str,
    attacker: str,
    release: str = EVERYTHING,
    m: Known = "all",
    seed: int = 0,
    *,
    sizes: Sequence[Size] = (100,),
    knows: str = NOTHING,
    source: Entry | None = None,
    noise: float | None = None,
    held: Held | None = None,
) -> InArchives:
    """One attacker in the game of whole archives; arguments as for attack.attack."""
    knows_heads = heads_known(attacker, release, head)
    held = held or hold(entry, head, source=source, noise=noise, seed=seed)
    with threadpool_limits(1, user_api="blas"):
        one = _tried(entry, held, attacker, m, seed, knows_heads, knows, source)
        played = tuple(archive.play(one, size, seed) for size in sizes)
    m, known = (m, len(one.known)) if takes_m(attacker) else ("all", 0)
    names = entry.cohort, entry.model, head, attacker, release
    return InArchives(*names, m, known, knows, one.answer.chosen, played)


def attacks_knowing(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    release: str = EVERYTHING,
    m: Known | Sequence[Known] = "all",
    seed: int = 0,
    *,
    knows: str = NOTHING,
    source: Entry | None = None,
    noise: float | None = None,
    progress: Progress = silent,
    shared: Shared | None = None,
) -> list[Attack]:
    """Every attacker of attack.attacks in the game of single images, who also knows what asked.KNOWS says.

    shared: which of them are made here, where parts share the work.
    """
    make = partial(attack_knowing, knows=knows)
    shared = shared or Shared(knows=knows)
    how: dict[str, Any] = {"source": source, "noise": noise, "progress": progress, "some": shared.some}
    return each_of(shared.of(make), entry, head, release, m, seed, **how)


def attack_knowing(
    entry: Entry,
    head: str,
    attacker: str,
    release: str = EVERYTHING,
    m: Known = "all",
    seed: int = 0,
    *,
    knows: str = NOTHING,
    source: Entry | None = None,
    noise: float | None = None,
    held: Held | None = None,
) -> Attack:
    """One attacker in the game of single images; arguments as for attack.attack."""
    if knows == NOTHING:
        return attack(entry, head, attacker, release, m, seed, source=source, noise=noise, held=held)
    knows_heads = heads_known(attacker, release, head)
    held = held or hold(entry, head, source=source, noise=noise, seed=seed)
    with threadpool_limits(1, user_api="blas"):
        one = _tried(entry, held, attacker, m, seed, knows_heads, knows, source)
        study = studied(entry, head, held, held.ranked(one.answer), seed)
    m, known = (m, len(one.known)) if takes_m(attacker) else ("all", 0)
    return Attack(study, attacker, release, m, known, one.answer.chosen)


def _tried(
    entry: Entry, held: Held, attacker: str, m: Known, seed: int, knows_heads: bool, knows: str, source: Entry | None
) -> Tried:
    one = tried(held, attacker, m, seed, knows_heads=knows_heads)
    if knows == NOTHING:
        return one
    return beside.knowing(one, *beside.known_of(entry, knows, source), knows)


def worst_in_archives(found: Sequence[InArchives]) -> list[dict[str, Any]]:
    """A row for each size: the attacker who names most right in the smallest archives, where hits are many.

    One attacker for all sizes; it is flattered by the choice, by about a standard error there at most.
    """
    if not found:
        raise InputError("There is no attack to choose from.", "Give at least one.")
    place = min(range(len(found[0].played)), key=lambda i: found[0].played[i].size)
    best = max(found, key=lambda one: one.played[place].share().estimate)
    rows = best.table().assign(n_attackers=len(found)).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
