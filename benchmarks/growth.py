"""How cost grows with images, candidates, dimension and patients; what 10^6, 10^7 and 10^9 pairs would cost.

    python benchmarks/growth.py [--repeats 3] [--coverage 300]

Processor seconds, medians; the exponent is the slope of log seconds over log size, least squares over the sizes shown.
Small sizes have costs that do not grow, so exponents below what a formula says are no gain. Projections scale the
largest size that was measured by what the formula says (images x candidates x dimension, linear for the rest), for one
core of this machine: they are no measurement. Memory is counted from sizes of types. `coverage` is how often the
interval of a sampled audit holds the figure of the full one, beside the twin with one draw for all patients. Writes
benchmarks/growth.json.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from linkage_core.cohorts import table
from linkage_core.embed.embedding import import_arrays
from linkage_core.ranking import pools, sampled
from linkage_core.ranking.counts import distinct, match_counts
from linkage_core.ranking.intervals import rate_intervals
from linkage_core.ranking.sampled import sampled_counts
from linkage_core.store.entry import Store

N, D = 8000, 128
PAIRS = (10**6, 10**7, 10**9)
SAMPLE = (10_000, 100_000)
"""Queries and candidates of the sampled audit that is projected."""

Work = Callable[[], object]


def vectors(n: int, d: int = D, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True))


def counts_of(n_images: int, n_candidates: int, d: int) -> Work:
    images, reports = vectors(n_images, d, 1), vectors(n_candidates, d)
    match = np.arange(n_images) % n_candidates
    return lambda: match_counts(images, reports, match)


def sampled_of(n_queries: int, n_candidates: int) -> Work:
    images, reports = vectors(2 * N, D, 1), vectors(2 * N)
    own = np.arange(2 * N)
    who = {"query_group": own, "candidate_group": own}
    return lambda: sampled_counts(images, reports, own, own[:n_queries], n_candidates, **who)


def distinct_of(n_candidates: int) -> Work:
    """Which vectors are identical: what a sample does with all candidates before it draws."""
    reports = vectors(n_candidates)
    match = np.arange(n_candidates)
    return lambda: distinct(reports, match)


def intervals_of(n_patients: int) -> Work:
    patients = np.repeat(np.arange(n_patients), 3)
    values = np.random.default_rng(0).random((len(patients), 6))

    seeds = count()
    return lambda: rate_intervals(values, patients, seed=next(seeds))  # drawn anew: none is remembered


def imported(n: int, folder: Path) -> Work:
    rows = np.arange(n)
    path = folder / f"{n}.csv"
    pd.DataFrame(
        {
            "record_id": [f"r{i}" for i in rows],
            "patient_id": [f"p{i // 3}" for i in rows],
            "study_id": [f"s{i}" for i in rows],
            "report": [f"Report {i} of this cohort says what was seen." for i in rows],
        }
    ).to_csv(path, index=False)
    images, reports = vectors(n, D, 1), vectors(n)

    def work() -> None:
        import_arrays(table.read(path, "grown"), "m", images, reports, Store(folder / "store"))

    return work


def measured(sizes: tuple[int, ...], make: Callable[[int], Work], repeats: int) -> dict[str, Any]:
    """Seconds by size, and the exponent."""
    seconds = []
    for size in sizes:
        work = make(size)
        work()
        took = []
        for _ in range(repeats):
            began = time.process_time()
            work()
            took.append(time.process_time() - began)
        seconds.append(statistics.median(took))
    slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
    return {
        "cpu_seconds": {str(size): round(value, 4) for size, value in zip(sizes, seconds, strict=True)},
        "exponent": round(slope, 2),
    }


def projected(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Core hours on this machine, and gigabytes, by number of pairs."""
    size, took = list(found["counts by images"]["cpu_seconds"].items())[-1]
    a_product = took / (int(size) * N * D)
    size, took = list(found["sampled counts by queries"]["cpu_seconds"].items())[-1]
    a_sampled = took / (int(size) * 2000 * D)
    size, took = list(found["distinct vectors by candidates"]["cpu_seconds"].items())[-1]
    a_sort = took / (int(size) * np.log(int(size)))
    size, took = list(found["import by images"]["cpu_seconds"].items())[-1]
    a_row = took / int(size)
    rows = []
    for n in PAIRS:
        drawn = min(n, SAMPLE[0]) * min(n, SAMPLE[1]) * D
        rows.append(
            {
                "pairs": n,
                "full_audit_core_hours": float(f"{a_product * n * n * D / 3600:.3g}"),
                "sampled_audit_core_hours": float(f"{(a_sampled * drawn + a_sort * n * np.log(n)) / 3600:.3g}"),
                "import_core_hours": float(f"{a_row * n / 3600:.3g}"),
                "vectors_gb": float(f"{2 * 4 * D * n / 1e9:.3g}"),
            }
        )
    return rows


def coverage(repeats: int) -> dict[str, float]:
    """Of sampled audits of one drawn cohort (250 of its queries, 2 candidates, N = 3): share that holds its figure."""
    rng = np.random.default_rng(4)
    owner = np.repeat(np.arange(150), rng.integers(1, 4, 150))
    reports = rng.standard_normal((len(owner), 6))
    images = rng.uniform(0.2, 2.5, 150)[owner][:, None] * reports + rng.standard_normal(reports.shape)
    match, who = np.arange(len(owner)), {"query_group": owner, "candidate_group": owner}
    truth = pools.expected_recall(match_counts(images, reports, match, **who), 3, 1).mean()

    def held(repeat: int) -> bool:
        rows = np.random.default_rng([repeat, 1]).choice(len(owner), 250, replace=False)
        counts = sampled_counts(images, reports, match, rows, 2, seed=repeat, **who)
        found = rate_intervals(pools.expected_recall(counts, 3, 1), owner[rows], draws=1000)
        return bool(found.low[0] <= truth <= found.high[0])

    def common(n: int, own: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
        order = np.random.default_rng(now[0]).permutation(n)
        return np.asarray(order[~np.isin(order, own)][:wanted])

    now = [0]
    own_draw = np.mean([held(i) for i in range(repeats)])
    twin = []
    with mock.patch.object(sampled, "_drawn", common):
        for i in range(repeats):
            now[0] = i
            twin.append(held(i))
    return {
        "repeats": repeats,
        "a draw for each patient": round(float(own_draw), 3),
        "one draw for all": round(float(np.mean(twin)), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--coverage", type=int, default=300)
    asked = parser.parse_args()
    sizes = (2000, 4000, 8000, 16_000)
    with tempfile.TemporaryDirectory() as name:
        cases: dict[str, tuple[tuple[int, ...], Callable[[int], Work]]] = {
            "counts by images": (sizes, lambda n: counts_of(n, N, D)),
            "counts by candidates": (sizes, lambda n: counts_of(N, n, D)),
            "counts by dimension": ((64, 128, 256, 512), lambda d: counts_of(N // 2, N, d)),
            "sampled counts by queries": ((250, 500, 1000, 2000), lambda n: sampled_of(n, 2000)),
            "sampled counts by candidates": ((1000, 2000, 4000, 8000), lambda n: sampled_of(500, n)),
            "distinct vectors by candidates": (sizes, distinct_of),
            "intervals by patients": (sizes, intervals_of),
            "import by images": (sizes, lambda n: imported(n, Path(name))),
        }
        found: dict[str, Any] = {case: measured(*how, asked.repeats) for case, how in cases.items()}
    made = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used",
        "load": round(os.getloadavg()[0], 1),
        "repeats": asked.repeats,
        "dimension": D,
        "growth": found,
        "projected": projected(found),
        "sample": {"queries": SAMPLE[0], "candidates": SAMPLE[1]},
        "coverage of a sampled audit": coverage(asked.coverage),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(made) + "\n", encoding="utf-8")
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
