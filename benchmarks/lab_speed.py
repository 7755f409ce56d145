"""Seconds of what the mitigation lab does while somebody waits, side by side in one run.

    python benchmarks/lab_speed.py [--store cached_embeddings]

- a one-shot head at a new epsilon with fresh noise, its exact counts over all held-out images, and its recall curve
  over N, without and with the band of 2,000 bootstrap draws (limit 0.3 s without, warm);
- a DP-SGD head of 20,000 simulated pairs of 10,000 patients, 64 and 512 dimensions, 2 threads (limit 20 s);
- each attacker on one shipped head.

`cpu_seconds` adds up the cores, and is what to read where the machine has other work (`load`); a wall time under load
can only be too long. Writes benchmarks/lab_speed.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.attacks import attack
from linkage_core.attacks.attackers import allowed
from linkage_core.attacks.held import hold
from linkage_core.audit.study import Study
from linkage_core.cohorts import table
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.lab import measured
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import finetune, mechanisms, oneshot, training
from linkage_core.store.entry import Store

SHIPPED = Path(__file__).resolve().parents[1] / "cached_embeddings"
LIVE_LIMIT, DPSGD_LIMIT = 0.3, 20.0
REPEATS = 9


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """(wall, processor) seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def row(part: str, times: list[tuple[float, float]], limit: float | None = None) -> dict[str, Any]:
    """Median and best of some repeats."""
    seconds = [wall for wall, _ in times]
    return {
        "part": part,
        "seconds": round(statistics.median(seconds), 3),
        "best_seconds": round(min(seconds), 3),
        "cpu_seconds": round(statistics.median(cpu for _, cpu in times), 3),
        "repeats": len(times),
        "limit_seconds": limit,
    }


def simulated(root: Path, d: int, n_pairs: int = 20_000) -> training.Training:
    """Pairs of two a patient with 14 findings; not learnable, which costs the same."""
    rng = np.random.default_rng(d)
    records = pd.DataFrame({"record_id": [f"r{i}" for i in range(100)], "patient_id": [f"p{i}" for i in range(100)]})
    records["study_id"], records["report"] = records["record_id"], [f"Report {i}." for i in range(100)]
    records.to_csv(root / f"{d}.csv", index=False)
    vectors = rng.standard_normal((100, d), dtype=np.float32)
    entry = import_arrays(
        replace(table.read(root / f"{d}.csv", f"d{d}"), default_split="all"), "m", vectors, vectors, Store(root / "s")
    )
    images, texts = rng.standard_normal((2, n_pairs, d), dtype=np.float32)
    labels = (rng.random((n_pairs, len(LABELS))) < 0.3).astype(float)
    return training.Training(entry, "all", images, texts, labels, (np.arange(n_pairs) // 2).astype(str))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=SHIPPED)
    options = parser.parse_args()
    entry = Store(options.store).open("phantom", "phantom-radiology")
    rows = []
    for mechanism in oneshot.FORMS:
        cold = timed(lambda m=mechanism: _curve(settings.live(entry, Setting(m, 1.0, seed=None)).study))
        rows.append(row(f"{mechanism}, first time in a process", [cold]))
        studies: list[Any] = []
        times = []
        for i in range(REPEATS):
            epsilon = 0.1 + i
            times.append(timed(partial(_live, entry, mechanism, epsilon, studies)))
        rows.append(row(f"{mechanism}, new epsilon, counts, curve", times, LIVE_LIMIT))
        rows.append(row(f"{mechanism}, band of that curve", [timed(lambda one=one: _curve(one)) for one in studies]))
    with tempfile.TemporaryDirectory() as folder:
        for d in (64, 512):
            pairs = simulated(Path(folder), d)
            settings = finetune.Options(epsilon=1.0)
            finetune.accounting.dpsgd_sigma(1.0, 1e-6, 0.05, 200)
            work = timed(lambda p=pairs, s=settings: finetune.finetune(p.source, mechanisms.LABEL, s, training=p))
            rows.append(row(f"label-dpsgd, 20,000 pairs, d = {d}", [work], DPSGD_LIMIT))
    name = next((one for one in measured.head_names(entry) if one.startswith("label-dpsgd-eps0.34")), "off-the-shelf")
    held = hold(entry, name)
    for attacker in allowed("embeddings-and-heads", name):
        rows.append(row(f"{attacker} on {name}", [timed(lambda a=attacker: attack.attack(entry, name, a, held=held))]))
    raw = hold(entry)
    work = timed(lambda: attack.attack(entry, attacker="raw-images", release="raw-images", held=raw))
    rows.append(row("raw-images", [work]))
    late = [one["part"] for one in rows if one["limit_seconds"] and one["best_seconds"] > one["limit_seconds"]]
    result = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)},
        "images": len(entry.records(entry.default_split)),
        "within_limits_at_best": not late,
        "rows": rows,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(rows).to_string(index=False, na_rep=""))
    return 0


def _curve(study: Study) -> pd.DataFrame:
    return study.table(measured.pool_sizes(study)[1], (1,))


def _live(entry: Any, mechanism: str, epsilon: float, studies: list[Any]) -> None:
    study = settings.live(entry, Setting(mechanism, epsilon, seed=None)).study
    studies.append(study)
    for size in measured.pool_sizes(study)[1]:
        study.recall(size, 1)[0].mean()


if __name__ == "__main__":
    sys.exit(main())
