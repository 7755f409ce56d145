"""How often do the intervals hold the truth, and how often do the tests cry wolf? On simulated, clustered data.

    python benchmarks/interval_coverage.py [--repeats 4000] [--twin-repeats 1000]

Writes benchmarks/interval_coverage.json: for each interval its coverage beside that of the twin that takes images for
independent, and for each test how often it rejects at 5% where nothing differs. Every truth is known in closed form.
Candidates are held fixed, as the intervals say: they speak of other patients as queries, not of other pools.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np

from linkage_core.comparisons import mcnemar_exact, permutation_test
from linkage_core.pools import expected_recall
from linkage_core.ranking import MatchCounts
from linkage_core.statistics import DRAWS, cluster_bootstrap
from linkage_core.strata import label_matched_auc

POOL_SIZE = 10
# E[(1-t)^(N-1)] for t ~ Beta(1, 4): 4 / (4 + N - 1)
TRUTH = {"rate": 0.2, "recall@1": 4 / (4 + POOL_SIZE - 1), "label-matched AUC": 0.6, "paired difference": 0.1}
NOMINAL = (0.935, 0.965)


def sample(rng: np.random.Generator, n_patients: int) -> tuple[np.ndarray, np.ndarray]:
    """(values (n_images, 4) in the order of TRUTH, patient): one to eight images a patient, alike within one.

    The recall is the closed form at N from drawn counts; every fifth image has no decoy, so no AUC.
    """
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 9, n_patients))
    n = len(patient)
    rate = rng.beta(0.5, 2.0, n_patients)[patient]
    n_eligible = rng.integers(50, 200, n)
    better = rng.binomial(n_eligible, rng.beta(1.0, 4.0, n_patients)[patient])
    recall = expected_recall(MatchCounts(better, np.zeros_like(better), n_eligible), POOL_SIZE, 1)
    decoys = np.where(rng.random(n) < 0.2, 0, rng.integers(1, 12, n))
    beaten_by = rng.binomial(decoys, rng.beta(2.0, 3.0, n_patients)[patient])
    auc = label_matched_auc(MatchCounts(beaten_by, np.zeros_like(beaten_by), decoys))
    gain = rng.normal(0.1, 0.3, n_patients)[patient] + rng.normal(0, 0.2, n)
    return np.column_stack([(rng.random(n) < rate).astype(float), recall, auc, gain]), patient


def coverage(repeats: int, n_patients: int, clustered: bool, draws: int = DRAWS, seed: int = 5) -> dict[str, float]:
    """Share of repeats whose 95% interval holds the truth."""
    rng = np.random.default_rng(seed)
    truth = np.array(list(TRUTH.values()))
    held = np.zeros(len(truth))
    for _ in range(repeats):
        values, patient = sample(rng, n_patients)
        unit = patient if clustered else np.arange(len(patient))
        interval = cluster_bootstrap(values, unit, seed=int(rng.integers(2**31)), draws=draws)
        held += (interval.low <= truth) & (truth <= interval.high)
    return dict(zip(TRUTH, (held / repeats).tolist(), strict=True))


def false_alarms(repeats: int, n_patients: int, draws: int = 1999, seed: int = 6) -> dict[str, float]:
    """Share of repeats in which a test rejects at 5% though A and B are drawn alike, each with moods of its own."""
    rng = np.random.default_rng(seed)
    rejected = dict.fromkeys(("permutation of patients", "permutation of images", "McNemar"), 0)
    for _ in range(repeats):
        patient = np.repeat(np.arange(n_patients), rng.integers(1, 9, n_patients))
        hits = [(rng.random(len(patient)) < rng.beta(0.5, 2.0, n_patients)[patient]).astype(float) for _ in "ab"]
        p_seed = int(rng.integers(2**31))
        p_values = (
            permutation_test(*hits, patient, draws=draws, seed=p_seed),
            permutation_test(*hits, np.arange(len(patient)), draws=draws, seed=p_seed),
            mcnemar_exact(*hits),
        )
        for name, p in zip(rejected, p_values, strict=True):
            rejected[name] += p <= 0.05
    return {name: count / repeats for name, count in rejected.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--twin-repeats", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=300)
    options = parser.parse_args()
    start = time.perf_counter()
    right = coverage(options.repeats, options.patients, clustered=True)
    naive = coverage(options.twin_repeats, options.patients, clustered=False)
    alarms = false_alarms(options.repeats, options.patients)
    result = {
        "nominal": 0.95,
        "accepted": NOMINAL,
        "repeats": options.repeats,
        "repeats_unclustered": options.twin_repeats,
        "patients": options.patients,
        "draws": DRAWS,
        "standard_error": round(float(np.sqrt(0.95 * 0.05 / options.repeats)), 5),
        "coverage": {
            name: {"truth": TRUTH[name], "clustered": right[name], "unclustered": naive[name]} for name in TRUTH
        },
        "rejected_at_5_percent_where_nothing_differs": alarms,
        "seconds": round(time.perf_counter() - start, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
