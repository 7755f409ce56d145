"""Work of a few small pieces for an engine's workers, with faults that the test asks for by files."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.linear_encoder import CountingEncoder, cohort
from linkage_core.attacks import dual
from linkage_core.attacks.everyone import Attackers
from linkage_core.attacks.protocol import EVERYTHING
from linkage_core.audit.parts import Blocks
from linkage_core.audit.study import question
from linkage_core.embed import embedding
from linkage_core.embed.embedding import Shards
from linkage_core.engine import Work
from linkage_core.errors import InputError
from linkage_core.ranking import counts
from linkage_core.store.entry import OFF_THE_SHELF, Store

SMALL = 16, 5, 16
OPENS = "helpers.engine_work:opened"


def _once(file: Path) -> bool:
    """Whether it was there; it is no more."""
    try:
        file.unlink()
    except FileNotFoundError:
        return False
    return True


@dataclass
class Faulty:
    """A work whose faults lie in a folder: worker, worker-late, node (all once), error and hold. It notes what it makes
    there."""

    work: Work
    faults: Path

    def __post_init__(self) -> None:
        self.stage, self.folder = self.work.stage, self.work.folder
        self.key, self.device = self.work.key, self.work.device

    def missing(self) -> list[int]:
        return self.work.missing()

    def make(self, place: int, cores: int) -> str:
        (self.faults / f"began-{place}-{os.getpid()}-{time.monotonic_ns()}").touch()
        if (self.faults / "error").exists():
            raise InputError("The disk is of cheese.", "Take another.")
        if (self.faults / "bug").exists():
            raise KeyError("text of a report")
        while (self.faults / "hold").exists():
            time.sleep(0.05)
        if _once(self.faults / "worker"):
            os.kill(os.getpid(), signal.SIGKILL)
        if _once(self.faults / "node"):
            os.kill(os.getppid(), signal.SIGKILL)  # its raylet; what runs on a node that is lost is lost too
            os.kill(os.getpid(), signal.SIGKILL)
        name = self.work.make(place, cores)
        if _once(self.faults / "worker-late"):
            os.kill(os.getpid(), signal.SIGKILL)
        return name


def _shards(store: Store) -> Work:
    return Shards(cohort(60), CountingEncoder(), store, "float32", False)


def _blocks(store: Store) -> Work:
    return Blocks(question(store.open("toy", "m"), OFF_THE_SHELF, "image-to-report", "other-patients", None))


def _attackers(store: Store) -> Work:
    return Attackers(store.open("toy", "m"), OFF_THE_SHELF, EVERYTHING, [20], "nothing", None, None, 0)


KINDS: dict[str, Callable[[Store], Work]] = {"embed": _shards, "audit": _blocks, "attack": _attackers}


def opened(kind: str, store: str, faults: str) -> Faulty:
    """As a job opens it: shards of 16 rows, blocks of 16 queries, attackers who train a few steps."""
    embedding.SHARD_ROWS, embedding.BATCH, counts.QUERY_BLOCK = SMALL
    dual.SETTINGS, dual._NETWORKS = tuple(replace(one, passes=1, least=4) for one in dual.SETTINGS), 2
    return Faulty(KINDS[kind](Store(Path(store))), Path(faults))
