"""What is `statistics` worth? Macro AUROC of a probe trained from the release alone, against clean and public probes.

Run: python benchmarks/release_statistics.py --store DIR [--out FILE], DIR a store with the whole finetuning split
(`linkage phantom build --splits finetune`); only a sample of it ships. Trained on all its pairs, read on the held-out
patients of site A and on site B; three seeds. Site B's labels are the public ones that the recipient starts from, so
what is read on site B starts from one half of its patients and is read on the other; the mean of both ways is given.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.lab import frontier_build, grid
from linkage_core.mitigation import accounting
from linkage_core.mitigation.noise import Seeded
from linkage_core.mitigation.training import training_pairs
from linkage_core.release import bounds
from linkage_core.release.kinds import statistics
from linkage_core.store.entry import Entry, Store
from linkage_core.utility.auroc import aurocs
from linkage_core.utility.probe import states_of

EPSILONS, SEEDS = (0.34, 1.0, 3.0), (0, 1, 2)


def reader_of(probes: list[tuple[list[int], Any]]) -> Callable[[np.ndarray], np.ndarray]:
    def read(clean: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(clean), len(LABELS)))
        for columns, probe in probes:
            scores[:, columns] = probe(clean)
        return scores

    return read


def read_on(
    entry: Entry, reader: Callable[[np.ndarray], np.ndarray], listed: np.ndarray, of: np.ndarray | None = None
) -> dict[str, float]:
    """Macro AUROC in points: all findings with 30 patients of each class, those listed, the others, of some records."""
    records = entry.records(entry.default_split)[slice(None) if of is None else of]
    clean = entry.clean_images(records["record_id"])
    patients = records["patient_id"].to_numpy(str)
    found = aurocs(reader(clean)[:, :, None], states_of(records), patients, draws=1000)
    groups = {"all": found.enough, "declared": found.enough & listed, "undeclared": found.enough & ~listed}
    return {name: round(100 * float(found.auroc[members, 0].mean()), 2) for name, members in groups.items()}


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([row[name] for row in rows])), 2) for name in rows[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("cached_embeddings"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/release_statistics.json"))
    options = parser.parse_args()
    store = Store(options.store)
    entry, public = (store.open(name, "phantom-radiology") for name in ("phantom", "phantom-site-b"))
    training = training_pairs(entry)
    if training.source.manifest["cohort"].get("subset_of"):
        parser.error(f"{options.store} holds a sample of the finetuning split: build the whole of it first.")
    names = grid.frequent(entry)
    listed = np.array([name in names for name in LABELS])
    parts = {
        "all 14 at once": [list(range(len(LABELS)))],
        "7 declared, 7 asked later": [np.flatnonzero(listed).tolist(), np.flatnonzero(~listed).tolist()],
    }
    whose = np.unique(public.records(public.default_split)["patient_id"], return_inverse=True)[1]
    half = np.random.default_rng(0).permutation(whose.max() + 1)[whose] % 2 == 0
    halves = [(half, ~half), (~half, half)]  # what starts it, where it is read

    def summed(name: str, of: np.ndarray | None = None) -> list[statistics.PatientSums]:
        asked = [[LABELS[i] for i in part] for part in parts[name]]
        return frontier_build.sums_of(training, public, asked, of)

    delta = accounting.delta_for(summed("all 14 at once")[0].n_patients)[0]
    result: dict[str, Any] = {"pairs": training.said(), "delta": delta}
    clean = {
        "clean, the same pairs": frontier_build.clean_probe(training.source, training.split),
        "clean, attacker's split": frontier_build.clean_probe(entry, "attacker"),
    }
    for name, probe in clean.items():
        on_b = mean_of([read_on(public, probe, listed, read) for _, read in halves])
        result[name] = {entry.cohort: read_on(entry, probe, listed), public.cohort: on_b}
    own = [
        read_on(public, frontier_build.clean_probe(public, public.default_split, start), listed, read)
        for start, read in halves
    ]
    whole = frontier_build.clean_probe(public, public.default_split)
    result["site B's labels, nothing released"] = {
        entry.cohort: read_on(entry, whole, listed),
        public.cohort: mean_of(own),
    }
    for name in parts:
        sums, by_half = summed(name), [summed(name, start) for start, _ in halves]

        def probe_of(of: list[statistics.PatientSums], epsilon: float, seed: int, name: str = name) -> Any:
            released = [one.release(epsilon, delta, Seeded(100 * seed + i)) for i, one in enumerate(of)]
            return reader_of([(part, one.probe()) for part, one in zip(parts[name], released, strict=True)])

        for epsilon in EPSILONS:
            found: dict[str, list[dict[str, float]]] = {entry.cohort: [], public.cohort: []}
            times = []
            for seed in SEEDS:
                started = time.perf_counter()
                reader = probe_of(sums, epsilon, seed)
                times.append(time.perf_counter() - started)
                found[entry.cohort].append(read_on(entry, reader, listed))
                crossed = [
                    read_on(public, probe_of(of, epsilon, seed), listed, read)
                    for of, (_, read) in zip(by_half, halves, strict=True)
                ]
                found[public.cohort].append(mean_of(crossed))
            mu = bounds.compose_mu([1 / accounting.gaussian_sigma(epsilon, delta)] * len(sums))
            result[f"{name}, epsilon {epsilon:g} a query"] = {
                "certified lift": {n: round(float(bounds.central(mu, n)) * n, 2) for n in (100, 1000, 10_000)},
                **{cohort: _spread(rows) for cohort, rows in found.items()},
                "release and probe, ms": round(1000 * min(times), 1),
            }
    print(json.dumps(result, indent=1))
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def _spread(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Mean and standard deviation over seeds."""
    return {name: [round(float(f([row[name] for row in rows])), 2) for f in (np.mean, np.std)] for name in rows[0]}


if __name__ == "__main__":
    main()
