"""Time and memory of exact counts beside the bare matrix product and a FAISS top-10, in one run.

    python benchmarks/ranking.py [--n 43793] [--repeat 3]

Writes benchmarks/ranking.json. Ratios are to the bare product over the same blocks, best of the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from linkage_core.ranking.counts import QUERY_BLOCK, match_counts


def best(run: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=43_793)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    reports = rng.standard_normal((options.n, options.dimensions), dtype=np.float32)
    images = reports + 2 * rng.standard_normal(reports.shape, dtype=np.float32)
    for array in (images, reports):
        array /= np.linalg.norm(array, axis=1, keepdims=True)
    match = np.arange(options.n)
    patients = match // 3
    match_counts(images[:9], reports[:9], match[:9])  # compiled now, not while the clock runs

    block = np.empty((QUERY_BLOCK, options.n), dtype=np.float32)

    def product() -> None:
        for start in range(0, options.n, QUERY_BLOCK):
            rows = images[start : start + QUERY_BLOCK]
            np.matmul(rows, reports.T, out=block[: len(rows)])

    def top10() -> None:
        index = faiss.IndexFlatIP(options.dimensions)
        index.add(reports)
        index.search(images, 10)

    seconds = {
        "matrix product alone": best(product, options.repeat),
        "match_counts": best(lambda: match_counts(images, reports, match), options.repeat),
        "match_counts, other patients only": best(
            lambda: match_counts(images, reports, match, query_group=patients, candidate_group=patients), options.repeat
        ),
        "FAISS IndexFlatIP top-10": best(top10, 1),
    }
    bare = seconds["matrix product alone"]
    result = {
        "size": [options.n, options.n, options.dimensions],
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "ratio_to_matrix_product": {name: round(value / bare, 2) for name, value in seconds.items()},
        "gflops_matrix_product": round(2 * options.n**2 * options.dimensions / bare / 1e9, 1),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
