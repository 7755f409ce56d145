"""The attackers of one command as an engine's work: a piece is one attacker at one m, under one head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from linkage_core.attacks import games
from linkage_core.attacks.held import Known
from linkage_core.attacks.parts import Shared
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store
from linkage_core.store.files import versions


def runs_of(head: str, noise: float | None) -> dict[str, tuple[str, float | None]]:
    """What is attacked: before and after -> (head, output noise); before alone where there is no after."""
    runs: dict[str, tuple[str, float | None]] = {"before": (OFF_THE_SHELF, 0.0)}
    if head != OFF_THE_SHELF or noise:
        runs["after"] = head, noise
    return runs


class Attackers:
    """Every attacker of `linkage attack` on single images, before and after a head (engine.Work)."""

    stage, device = "attackers", "cpu"

    def __init__(
        self,
        entry: Entry,
        head: str,
        release: str,
        known: Sequence[Known],
        knows: str,
        source: Entry | None,
        noise: float | None,
        seed: int,
    ) -> None:
        self.folder = entry.path
        self._entry, self._release, self._known, self._seed = entry, release, known, seed
        self._knows, self._source = knows, source
        self._runs = list(runs_of(head, noise).values())
        self._sizes = [self._ask(run, Shared(knows=knows, only=-1)).asked for run in self._runs]
        whose = [one for one in (entry, source) if one is not None]
        made_from = [[one.inputs(name) for name in dict.fromkeys((OFF_THE_SHELF, head))] for one in whose]
        content = [made_from, self._sizes, seed, noise, release, knows, versions(), version("scikit-learn")]
        self.key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def missing(self) -> list[int]:
        found: list[int] = []
        for number, run in enumerate(self._runs):
            start = sum(self._sizes[:number])
            places = self._ask(run, Shared(knows=self._knows, gather=True)).places
            found += [start + place for place in places]
        return found

    def make(self, place: int, cores: int) -> str:
        at = place
        for run, size in zip(self._runs, self._sizes, strict=True):
            if at < size:
                self._ask(run, Shared(knows=self._knows, only=at))
                break
            at -= size
        return str(place)

    def _ask(self, run: tuple[str, float | None], shared: Shared) -> Shared:
        head, noise = run
        how: dict[str, Any] = {"knows": self._knows, "source": self._source, "noise": noise}
        games.attacks_knowing(self._entry, head, self._release, self._known, self._seed, shared=shared, **how)
        return shared


def attackers(
    store: str,
    cohort: str,
    model: str,
    head: str,
    release: str,
    known: Sequence[Known],
    knows: str,
    source: str | None,
    noise: float | None,
    seed: int,
) -> Attackers:
    """Attackers as workers open them: entries by their names."""
    where = Store(Path(store))
    other = where.open(source, model) if source else None
    return Attackers(where.open(cohort, model), head, release, known, knows, other, noise, seed)
