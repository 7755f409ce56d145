"""Seconds and peak memory of every part of an audit, for the phantom and for a simulated cohort of a hospital's size.

    python benchmarks/audit_times.py [--images 43793] [--cohorts phantom,simulated]

Each part runs in a process of its own, cold, on entries that the real writer put into a temporary store; its peak
memory is that of the whole process, beside the one that only reads the embeddings. `cpu_seconds` adds up the cores, and
is what to read where the machine has other work (`load`). Peers run in the same processes and
stand beside as ratios. Writes benchmarks/audit_times.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.audit import compare, exposure, fusion, open_world, strata
from linkage_core.audit import study as audit
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, rejects_table
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import ImageError
from linkage_core.images.pixels import Radiograph
from linkage_core.ranking import counts, intervals, paired
from linkage_core.store.entry import Entry, Store

SHIPPED = Path(__file__).resolve().parents[1] / "cached_embeddings"
BOOTSTRAP_LIMIT = 2.0
"""Seconds for 44,000 queries of 10,000 patients and 2,000 draws."""
PEER_DRAWS = 50
MODELS = {"phantom": ("phantom-radiology", "phantom-clinical"), "simulated": ("one", "two")}


def simulated(n_images: int, seed: int = 0) -> Cohort:
    """About 4.4 images a patient, one or two a study; a tenth of the reports say one of 200 sentences."""
    rng = np.random.default_rng(seed)
    per_study = rng.integers(1, 3, n_images)
    study = np.repeat(np.arange(n_images), per_study)[:n_images]
    n_studies = int(study.max()) + 1
    patient = np.sort(rng.integers(0, max(n_images * 10 // 44, 2), n_studies))
    kinds = rng.choice([np.nan, 0.0, 1.0, -1.0], size=(3000, len(LABELS)), p=[0.7, 0.1, 0.17, 0.03])
    kind = np.minimum(rng.zipf(1.4, n_studies) - 1, len(kinds) - 1)
    shared = rng.random(n_studies) < 0.1
    sentence = rng.integers(0, 200, n_studies)
    length = rng.integers(5, 60, n_studies)
    report = [
        f"Sentence {s} that many share." if common else f"Report {i} " + "word " * int(n)
        for i, (common, s, n) in enumerate(zip(shared, sentence, length, strict=True))
    ]
    first = np.concatenate([[True], study[1:] != study[:-1]])
    records = pd.DataFrame(
        {
            "record_id": [f"r{i:06d}" for i in range(n_images)],
            "patient_id": [f"p{p:05d}" for p in patient[study]],
            "study_id": [f"s{s:06d}" for s in study],
            "image": "",
            "view": np.where(first, np.where(rng.random(n_images) < 0.6, "PA", "AP"), "LATERAL"),
            "sex": np.where(patient % 2, "F", "M")[study],
            "age": (20.0 + patient % 70)[study],
            "split": "heldout",
            **{label: kinds[kind, column][study] for column, label in enumerate(LABELS)},
            "report": np.array(report, dtype=object)[study],
        }
    )[list(RECORD_COLUMNS)]
    return Cohort("simulated", "folder", None, records, rejects_table([]), _no_image, synthetic=True)


def _no_image(row: object) -> Radiograph:
    raise ImageError("absent", "Simulated records have no images.", "None is needed.")


def fill(store: Store, n_images: int, dimensions: int = 128) -> None:
    cohort = simulated(n_images)
    code = pd.factorize(cohort.records["report"])[0]
    for seed, model in enumerate(MODELS["simulated"]):
        rng = np.random.default_rng(seed)
        texts = rng.standard_normal((code.max() + 1, dimensions), dtype=np.float32)[code]
        images = 0.25 * texts + rng.standard_normal(texts.shape, dtype=np.float32)
        import_arrays(cohort, model, images, texts, store)


def bare_product(queries: np.ndarray, candidates: np.ndarray) -> None:
    block = np.empty((counts.QUERY_BLOCK, len(candidates)), dtype=np.float32)
    for start in range(0, len(queries), counts.QUERY_BLOCK):
        rows = queries[start : start + counts.QUERY_BLOCK]
        np.matmul(rows, candidates.T, out=block[: len(rows)])


def resampled(values: np.ndarray, patients: np.ndarray, draws: int) -> np.ndarray:
    """The bootstrap as it is usually written: draw patients, gather their rows, take the mean."""
    rng = np.random.default_rng(0)
    rows = np.split(np.argsort(patients, kind="stable"), np.cumsum(np.bincount(patients))[:-1])
    return np.array(
        [values[np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])].mean() for _ in range(draws)]
    )


Case = Callable[[Entry, Entry], dict[str, Callable[[], Any]]]
"""Given two entries of a cohort (the second for comparisons), what to time: "" for the part, other names for peers."""


def _embeddings(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    return {"": entry.embeddings}


def _counts(direction: str) -> Case:
    def case(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
        one = entry.embeddings()
        sides = (one.images, one.reports) if direction == "image-to-report" else (one.reports[one.match], one.images)
        return {"": lambda: audit._count(one, direction, "other-patients"), "product": lambda: bare_product(*sides)}

    return case


def _same_findings(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    one = entry.embeddings()
    return {"": lambda: strata.count(one)}


def _verification(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    study = audit.study(entry, pool="same-findings")
    return {"": lambda: strata.verification(study.queries, study.counts)}


def _table(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    study = audit.study(entry)
    return {"": lambda: study.table([100, 1000, 10_000, "full"], [1, 5, 10])}


def _bootstrap(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    """Of the size that the limit names, whatever the cohort."""
    rng = np.random.default_rng(0)
    values, patients = rng.random(44_000), rng.integers(0, 10_000, 44_000)
    patients = np.unique(patients, return_inverse=True)[1]
    return {
        "": lambda: intervals.cluster_bootstrap(values, patients),
        f"resampling rows, {PEER_DRAWS} draws": lambda: resampled(values, patients, PEER_DRAWS),
    }


def _permutation(entry: Entry, second: Entry) -> dict[str, Callable[[], Any]]:
    a, b = (audit.study(one).recall(1000, 1)[0] for one in (entry, second))
    patients = entry.records(entry.default_split)["patient_id"].to_numpy()
    return {"": lambda: paired.permutation_test(a, b, patients)}


def _compare(entry: Entry, second: Entry) -> dict[str, Callable[[], Any]]:
    studies = [audit.study(entry), audit.study(second)]
    return {"": lambda: compare.compare(studies, 1000, 1)}


def _open_prepare(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    audit.study(entry)
    one = entry.embeddings()
    return {
        "": lambda: open_world.prepare(entry),
        "product": lambda: bare_product(one.images, one.reports),
    }


def _open_rule(rule: str) -> Case:
    def case(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
        prepared = open_world.prepare(entry)
        return {"": lambda: prepared.outcomes(1000, rule).at(0.5)}

    return case


def _open_prior(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    outcomes = open_world.prepare(entry).outcomes(1000, "score")
    outcomes.at(0.5)
    return {"": lambda: outcomes.at(0.3)}


def _exposure(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    study = audit.study(entry)
    return {"": lambda: exposure.exposure(study, 1000)}


def _tail(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    study = audit.study(entry)
    found, patients = study.recall(1000, 1)[0], study.queries["patient_id"].to_numpy()
    return {"": lambda: exposure.tail(found, patients)}


def _associations(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    study = audit.study(entry)
    table = exposure.exposure(study, 1000)
    return {"": lambda: exposure.associations(table, study.queries)}


def _fusion(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    return {"": lambda: fusion.fusion_table(entry, (100, 1000), (1, 5), direction="report-to-image", hit="text")}


def _fusions(entry: Entry, _: Entry) -> dict[str, Callable[[], Any]]:
    return {"": lambda: fusion.fusion_tables(entry, (100, 1000), (1, 5))}


CASES: dict[str, Case] = {
    "embeddings read": _embeddings,
    "counts, image to report": _counts("image-to-report"),
    "counts, report to image": _counts("report-to-image"),
    "counts, same findings": _same_findings,
    "verification of same findings": _verification,
    "recall table, four N, three k": _table,
    "bootstrap, 44,000 of 10,000 patients": _bootstrap,
    "permutation test, 10,000": _permutation,
    "two models compared": _compare,
    "open world, prepared": _open_prepare,
    "open world, score": _open_rule("score"),
    "open world, margin": _open_rule("margin"),
    "open world, another prior": _open_prior,
    "exposure": _exposure,
    "exposure, tail": _tail,
    "exposure, associations": _associations,
    "fusion, report to image by text": _fusion,
    "fusion, all that is defined": _fusions,
}


def run_case(store: Path, cohort: str, name: str) -> dict[str, Any]:
    """Seconds of the part (its first run, nothing cached) and of its peers (best of two), and peak memory."""
    entries = [Store(store).open(cohort, model) for model in MODELS[cohort]]
    counts.match_counts(np.eye(9), np.eye(9), np.arange(9))  # compiled before the clock runs
    parts = CASES[name](entries[0], entries[1])
    start, cpu = time.perf_counter(), time.process_time()
    parts[""]()
    result: dict[str, Any] = {"seconds": round(time.perf_counter() - start, 4)}
    result["cpu_seconds"] = round(time.process_time() - cpu, 4)
    result["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for peer, work in parts.items():
        if peer:
            times = []
            for _ in range(2):
                start = time.perf_counter()
                work()
                times.append(time.perf_counter() - start)
            scale = intervals.DRAWS / PEER_DRAWS if "draws" in peer else 1.0
            result["peer"] = peer
            result["peer_seconds"] = round(min(times) * scale, 3)
            result["times_the_peer"] = round(result["seconds"] / result["peer_seconds"], 3)
    return result


def _written(sizes: dict[str, dict[str, int]], rows: list[dict[str, Any]]) -> tuple[dict[str, Any], float]:
    slowest = max((row["seconds"] for row in rows if row["part"].startswith("bootstrap")), default=float("nan"))
    result = {
        "sizes": sizes,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "bootstrap_limit_seconds": BOOTSTRAP_LIMIT,
        "bootstrap_within_limit": slowest < BOOTSTRAP_LIMIT,
        "rows": rows,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    return result, slowest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=43_793)
    parser.add_argument("--cohorts", default=",".join(MODELS))
    parser.add_argument("--case", nargs=3, metavar=("STORE", "COHORT", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(Path(options.case[0]), *options.case[1:])))
        return 0
    rows = []
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        for cohort in options.cohorts.split(","):
            if cohort == "phantom":
                for model in MODELS[cohort]:
                    shutil.copytree(
                        SHIPPED / cohort / model, store / cohort / model, ignore=shutil.ignore_patterns("ranks")
                    )
            else:
                fill(Store(store), options.images)
            records = Store(store).open(cohort, MODELS[cohort][0])
            queries = records.records(records.default_split)
            sizes[cohort] = {
                "images": len(queries),
                "reports": int(queries["study_id"].nunique()),
                "patients": int(queries["patient_id"].nunique()),
            }
            for name in CASES:
                done = subprocess.run(
                    [sys.executable, __file__, "--case", str(store), cohort, name],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                rows.append({"cohort": cohort, "part": name, **json.loads(done.stdout)})
                rows[-1]["load"] = round(os.getloadavg()[0], 1)
                print(f"{cohort}: {name}: {rows[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
                result, slowest = _written(sizes, rows)  # after every part: a run that is stopped leaves its figures
    print(pd.DataFrame(rows).to_string(index=False, na_rep=""))
    if not result["bootstrap_within_limit"]:
        print(f"The bootstrap took {slowest:.1f} s; the limit is {BOOTSTRAP_LIMIT:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
