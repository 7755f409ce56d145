"""What must stay affordable, each beside a peer that does the nearest thing -> benchmarks/limits.json.

    python benchmarks/limits.py [--repeat 3] [--json benchmarks/limits.json]

A row: what is done, how much processor time it may take, what it took (the best of the repeats; the clock beside it),
and what the peer took. `times_the_peer` is the figure to compare between machines; a limit is wide, for any machine
that the app runs on. The exit code is 1 if a limit is passed.

The peers: for noise that a secret makes, noise that nobody could make again; for the private accountant, the other one
that is reported; for the ledger, a bare SQLite table that takes as many rows; for a probe from private sums, a logistic
regression on the embeddings themselves, which the recipient of a release does not have.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from opacus.accountants import PRVAccountant
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from linkage_core.heads import unit
from linkage_core.mitigation import accounting
from linkage_core.release.keyed import Secret
from linkage_core.release.kinds import statistics
from linkage_core.release.kinds.capped import Cap
from linkage_core.release.ledger import Ledger
from linkage_core.store.files import versions
from linkage_core.utility.auroc import placements

RECORDS = 400_000  # the size that whole collections have; noise is linear in it
SECRET = Secret(bytes(range(32)), "cohort-a")


class Case(NamedTuple):
    """`ours` and `peer` do their work once; `limit` is in seconds of the processor."""

    name: str
    limit: float
    ours: Callable[[], object]
    peer: Callable[[], object]


def keys_of(n: int) -> list[bytes]:
    return [i.to_bytes(32, "big") for i in range(n)]


def uniforms(n: int = 4000, width: int = 129) -> Case:
    """400,000 records in a minute."""
    keys = keys_of(n)
    return Case(
        f"keyed uniforms, {n:,} records of {width}",
        60 * n / RECORDS,
        lambda: SECRET.uniforms("cap", keys, width),
        lambda: [np.random.default_rng(i).random(width) for i in range(n)],
    )


def capped(n: int = 8000, d: int = 128) -> Case:
    """400,000 records in two minutes."""
    cap, keys = Cap.of(d, 30.0), keys_of(n)
    rows = unit(np.random.default_rng(0).standard_normal((n, d)))
    return Case(
        f"capped embeddings, {n:,} records of {d}",
        120 * n / RECORDS,
        lambda: cap.release_keyed(rows, keys, SECRET, head_sha256="h"),
        lambda: cap.release(rows, np.random.default_rng(1)),
    )


def accountant(q: float = 1024 / 31_600, steps: int = 600, delta: float = 1e-6) -> Case:
    """A run of the size of the phantom's is accounted for while somebody waits."""

    fresh = itertools.count()

    def ours() -> float:
        return accounting.dpsgd_pld(1.0 + 1e-9 * next(fresh), delta, q=q, steps=steps)  # an answer is remembered

    def peer() -> float:
        prv = PRVAccountant()
        prv.history = [(1.0, q, steps)]
        return prv.get_epsilon(delta)

    return Case(f"epsilon of {steps} sampled steps", 1.0, ours, peer)


def ledger(folder: Path, n: int = 126_804) -> Case:
    """Every patient of a large cohort, three records each, in one charge."""
    names = np.array([f"p{i}" for i in range(n)])
    charged = np.concatenate([names, names, names])
    book = Ledger.create(folder / "ledger", "clinic", names, epsilon=1.0, delta=1e-7, lift=1e9)

    def peer() -> None:
        with sqlite3.connect(folder / "bare") as bare:
            bare.execute("CREATE TABLE IF NOT EXISTS charges (patient TEXT, lift REAL)")
            bare.executemany("INSERT INTO charges VALUES (?, ?)", ((name, 2.0) for name in charged.tolist()))

    return Case(
        f"a charge of {n:,} patients, {3 * n:,} records",
        20.0,
        lambda: book.charge("capped", {"limit": 2}, charged, lift=2.0),
        peer,
    )


def probe(n: int = 13_000, d: int = 64, n_findings: int = 14) -> Case:
    """A new epsilon on a slider: noise, probe, AUROC of every finding."""
    rng = np.random.default_rng(0)
    x = unit(rng.standard_normal((n, d)) * np.geomspace(1, 0.05, d))
    states = (rng.random((n, n_findings)) < 0.2).astype(float)
    names = [f"finding {i}" for i in range(n_findings)]
    sums = statistics.prepare(x, states, np.arange(n), names, frame=statistics.Frame.of(x[:4000], "public"))

    def ours() -> list[float]:
        scores = sums.release(1.0, 1e-6).probe()(x)
        return [placements(scores[:, k], has)[has].mean() for k, has in enumerate((states == 1).T)]

    def peer() -> list[float]:
        fitted = (LogisticRegression().fit(x, states[:, k]).decision_function(x) for k in range(n_findings))
        return [roc_auc_score(states[:, k], scores) for k, scores in enumerate(fitted)]

    return Case(f"a new epsilon: probe and AUROC of {n_findings} findings, {n:,} records", 0.3, ours, peer)


def best(work: Callable[[], object], repeat: int) -> tuple[float, float]:
    """(processor, clock): the shortest seconds."""
    processor, clock = [], []
    for _ in range(repeat):
        used, began = time.process_time(), time.perf_counter()
        work()
        processor.append(time.process_time() - used)
        clock.append(time.perf_counter() - began)
    return min(processor), min(clock)


def row_of(case: Case, repeat: int) -> dict[str, Any]:
    seconds, clock = best(case.ours, repeat)
    peer, _ = best(case.peer, repeat)
    return {
        "what": case.name,
        "limit_cpu_seconds": case.limit,
        "cpu_seconds": round(seconds, 4),
        "seconds": round(clock, 4),
        "peer_cpu_seconds": round(peer, 4),
        "times_the_peer": round(seconds / peer, 2),
        "within": seconds < case.limit,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = (uniforms(), capped(), accountant(), ledger(Path(folder)), probe())
        rows = [row_of(case, asked.repeat) for case in cases]
    result = {
        "rows": rows,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
        "versions": versions(),
    }
    asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return int(not all(row["within"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
