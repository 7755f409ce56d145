"""How often do the intervals hold the truth, and how often do the tests cry wolf? On simulated, clustered data.

    python benchmarks/interval_coverage.py [--repeats 4000] [--twin-repeats 1000] [--only rates|tests|exposure]

Writes benchmarks/interval_coverage.json: for each interval its coverage beside that of the twin that takes images for
independent, and for each test how often it rejects at 5% where nothing differs. Every truth is known in closed form.
`--only` runs one part and leaves the figures of the others as they stand in the file.
Candidates are held fixed, as the intervals say: they speak of other patients as queries, not of other pools.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import ndtr

from linkage_core.audit import exposure
from linkage_core.audit.strata import label_matched_auc
from linkage_core.ranking.counts import MatchCounts
from linkage_core.ranking.intervals import DRAWS, cluster_bootstrap
from linkage_core.ranking.paired import mcnemar_exact, permutation_test
from linkage_core.ranking.pools import expected_recall

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


@dataclass(frozen=True)
class Exposed:
    """One row on single records: a statistic of p_first, its truth, and patients and share of the records it is of.

    p_first = U^a, U uniform and alike within a patient, so the mean is 1/(a+1), the middle (1/2)^a, and the mean of
    the most exposed share s is (1 - (1-s)^(a+1)) / ((a+1) s). a is 4 for every other patient ("M") where `differ`.
    """

    statistic: str
    truth: float
    n_patients: int
    share: float = 0.1
    power: float = 6.0
    differ: bool = False
    rare: float = 0.0


EXPOSED = {
    "exposure tail, 10% of 300 patients' records": Exposed("tail", (1 - 0.9**7) / 0.7, 300),
    "exposure tail, 2% of 1,500 patients' records, steep": Exposed("tail", (1 - 0.98**101) / 2.02, 1500, 0.02, 100.0),
    "exposure of the middle record": Exposed("middle", 0.5**6, 300),
    "exposure difference, sexes": Exposed("difference", 1 / 7 - 1 / 5, 300, differ=True),
    "exposure difference, sexes, 40 patients each": Exposed("difference", 1 / 7 - 1 / 5, 80, differ=True),
    "rate of a group, 150 patients": Exposed("group", 1 / 7, 300),
    "rate of a group, 30 patients": Exposed("group", 1 / 7, 60),
}
RARE = {
    # a share `rare` of the patients has p_first 1, all others 0: resampling fails, Clopper and Pearson take over
    "rate of a group, 150 patients, 2% of them linked": Exposed("group", 0.02, 300, rare=0.02),
    "rate of a group, 150 patients, 5% of them linked": Exposed("group", 0.05, 300, rare=0.05),
}


def exposed_records(rng: np.random.Generator, row: Exposed) -> pd.DataFrame:
    """p_first of one to eight records a patient, with the patient's sex."""
    patient = np.repeat(np.arange(row.n_patients), rng.integers(1, 9, row.n_patients))
    own, of_patient = rng.normal(size=len(patient)), rng.normal(size=row.n_patients)[patient]
    level = ndtr(np.sqrt(0.9) * of_patient + np.sqrt(0.1) * own)
    power = np.where(row.differ & (patient % 2 == 1), 4.0, row.power)
    values = level**power if not row.rare else (rng.random(row.n_patients) < row.rare)[patient].astype(float)
    record = np.arange(len(patient)).astype(str)
    return pd.DataFrame(
        {"record_id": record, "patient_id": patient, "study_id": record, "p_first": values, "chance": 0.01}
        | {"sex": np.where(patient % 2, "M", "F"), "age": np.nan, "view": ""}
    )


def exposed_coverage(row: Exposed, repeats: int, clustered: bool, seed: int = 8) -> float:
    """Share of repeats whose interval, as the page makes it, holds the truth."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(repeats):
        table = exposed_records(rng, row)
        if not clustered:
            table["patient_id"] = np.arange(len(table))
        of_draws = int(rng.integers(2**31))
        if row.statistic in ("tail", "middle"):
            one = exposure.tail(table["p_first"].to_numpy(), table["patient_id"].to_numpy(), row.share, seed=of_draws)
            low, high = (one.tail_low, one.tail_high) if row.statistic == "tail" else (one.middle_low, one.middle_high)
        elif row.statistic == "difference":
            found = exposure.associations(table, table, attributes=["sex"], seed=of_draws).iloc[0]
            low, high = found["low"], found["high"]
        else:
            found = exposure.groups(table, table, "sex", seed=of_draws).iloc[0]
            low, high = found["low"], found["high"]
        held += bool(low <= row.truth <= high)
    return held / repeats


def exposure_part(repeats: int, twin_repeats: int) -> dict[str, object]:
    """The rows on single records. Where few are linked the interval is made to be too long rather than too short."""
    rows = {
        name: {
            "truth": row.truth,
            "patients": row.n_patients,
            "clustered": exposed_coverage(row, repeats, clustered=True),
            "unclustered": exposed_coverage(row, twin_repeats, clustered=False),
        }
        for name, row in (EXPOSED | RARE).items()
    }
    return {
        "repeats": repeats,
        "repeats_unclustered": twin_repeats,
        "standard_error": standard_error(repeats),
        "coverage": {name: rows[name] for name in EXPOSED},
        "coverage_where_few_are_linked": {name: rows[name] for name in RARE},
    }


def standard_error(repeats: int) -> float:
    return round(float(np.sqrt(0.95 * 0.05 / repeats)), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4000)
    parser.add_argument("--twin-repeats", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--exposure-repeats", type=int, default=2000)
    parser.add_argument("--exposure-twin-repeats", type=int, default=200)
    parser.add_argument("--only", choices=("rates", "tests", "exposure"))
    options = parser.parse_args()
    start = time.perf_counter()
    target = Path(__file__).with_suffix(".json")
    result = json.loads(target.read_text(encoding="utf-8")) if options.only else {}
    if options.only != "exposure":
        result |= {
            "nominal": 0.95,
            "accepted": NOMINAL,
            "repeats": options.repeats,
            "repeats_unclustered": options.twin_repeats,
            "patients": options.patients,
            "draws": DRAWS,
            "standard_error": standard_error(options.repeats),
        }
    if options.only in (None, "rates"):
        right = coverage(options.repeats, options.patients, clustered=True)
        naive = coverage(options.twin_repeats, options.patients, clustered=False)
        result["coverage"] = {
            name: {"truth": TRUTH[name], "clustered": right[name], "unclustered": naive[name]} for name in TRUTH
        }
    if options.only in (None, "tests"):
        result["rejected_at_5_percent_where_nothing_differs"] = false_alarms(options.repeats, options.patients)
    if options.only in (None, "exposure"):
        result["exposure"] = exposure_part(options.exposure_repeats, options.exposure_twin_repeats)
    result |= {
        "seconds" if options.only is None else f"seconds_{options.only}": round(time.perf_counter() - start, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
