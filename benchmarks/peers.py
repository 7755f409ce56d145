"""What else does the same, side by side in one run: one Markdown table with machine, versions and medians of five.

    python benchmarks/peers.py [--quick] [--repeats 5] [--only NAME ...]

Processor seconds of one thread, ours and theirs taking turns; the ratio is ours divided by theirs, so below 1 is less
work than theirs. Other work on the machine moves both. Where a peer answers another question (a top-10 is no rank; a
search that skips cells misses some), the row says so. Writes benchmarks/peers.json, and prints the table.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import importlib.metadata
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from linkage_core.ranking import pools
from linkage_core.ranking.counts import QUERY_BLOCK, MatchCounts, match_counts
from linkage_core.ranking.intervals import DRAWS, cluster_bootstrap

D = 128
SAMPLE_DRAWS = 40
"""Of the loop of scikit-learn, whose other draws take as long each."""
ERROR = 0.01
"""Standard error, at worst, of a query's simulated recall: 1 / (2 sqrt(draws)); the closed form has none."""


class Pair(NamedTuple):
    """Ours and theirs, ready to run; `scale`: how many times theirs has to be done."""

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    scale: float = 1.0


class Row(NamedTuple):
    """One comparison; `pair` makes it for a full or a quick run."""

    name: str
    ours: str
    theirs: str
    pair: Callable[[bool], Pair]
    note: str = ""
    quick: bool = True


@lru_cache(maxsize=2)
def vectors(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, reports), both (n, D), of norm 1."""
    rng = np.random.default_rng(0)
    reports = rng.standard_normal((n, D), dtype=np.float32)
    images = reports + 2 * rng.standard_normal(reports.shape, dtype=np.float32)
    for array in (images, reports):
        array /= np.linalg.norm(array, axis=1, keepdims=True)
    return images, reports


def beside(theirs: Callable[[np.ndarray, np.ndarray], Any], full: int = 12_000) -> Callable[[bool], Pair]:
    """Exact counts of n x n beside something that is done with the same vectors."""

    def pair(quick: bool) -> Pair:
        images, reports = vectors(4000 if quick else full)
        match = np.arange(len(images))
        return Pair(lambda: match_counts(images, reports, match), lambda: theirs(images, reports))

    return pair


def product(images: np.ndarray, reports: np.ndarray) -> None:
    block = np.empty((QUERY_BLOCK, len(reports)), dtype=np.float32)
    for start in range(0, len(images), QUERY_BLOCK):
        rows = images[start : start + QUERY_BLOCK]
        np.matmul(rows, reports.T, out=block[: len(rows)])


def flat(k: int) -> Callable[[np.ndarray, np.ndarray], Any]:
    def search(images: np.ndarray, reports: np.ndarray) -> Any:
        import faiss

        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatIP(D)
        index.add(reports)
        return index.search(images, k)

    return search


def cells(images: np.ndarray, reports: np.ndarray) -> Any:
    """What retrieval services do: an index of cells, a few of which are looked into."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(D, f"IVF{int(4 * len(reports) ** 0.5)},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(reports)
    index.add(reports)
    index.nprobe = 16
    return index.search(images, 10)


def torch_topk(images: np.ndarray, reports: np.ndarray) -> None:
    import torch

    torch.set_num_threads(1)
    candidates = torch.from_numpy(reports).T
    for rows in torch.from_numpy(images).split(QUERY_BLOCK):
        torch.topk(rows @ candidates, 1000, dim=1)


def torch_sort(images: np.ndarray, reports: np.ndarray) -> None:
    import torch

    torch.set_num_threads(1)
    candidates = torch.from_numpy(reports).T
    for rows in torch.from_numpy(images).split(QUERY_BLOCK):
        torch.argsort(rows @ candidates, dim=1, descending=True)


def ranx(quick: bool) -> Pair:
    from ranx import Qrels, Run, evaluate

    images, reports = vectors(600)
    match = np.arange(len(images))
    names = [f"q{i}" for i in match]
    documents = [f"d{i}" for i in match]
    qrels = Qrels({q: {d: 1} for q, d in zip(names, documents, strict=True)})

    def theirs() -> Any:
        scores = (images @ reports.T).tolist()
        run = Run({q: dict(zip(documents, row, strict=True)) for q, row in zip(names, scores, strict=True)})
        return evaluate(qrels, run, ["mrr", "recall@10"])

    def ours() -> Any:
        counts = match_counts(images, reports, match)
        return pools.full_reciprocal_rank(counts).mean(), pools.full_recall(counts, 10).mean()

    assert np.allclose(tuple(theirs().values()), ours()), "they do not agree"
    return Pair(ours, theirs)


def simulated_pools(quick: bool) -> Pair:
    """Recall@10 in pools of 1,000: by closed form, and by drawing pools to a standard error of ERROR a query."""
    rng = np.random.default_rng(0)
    n = 500 if quick else 5000
    better = rng.integers(0, 2000, n)
    counts = MatchCounts(better, np.zeros_like(better), np.full(n, 40_000))
    draws = round(1 / (4 * ERROR**2))

    def theirs() -> Any:
        return (rng.hypergeometric(better, 40_000 - better, 999, size=(draws, n)) < 10).mean(axis=0)

    def ours() -> Any:
        pools._many.cache_clear()
        pools._few.cache_clear()
        return pools.expected_recall(counts, 1000, 10)

    assert np.abs(theirs() - ours()).max() < 6 * ERROR, "they do not agree"
    return Pair(ours, theirs)


def resampled(quick: bool) -> Pair:
    """DRAWS bootstraps over patients of a mean of 20,000 queries (2,000 in a quick run)."""
    from sklearn.utils import resample

    rng = np.random.default_rng(0)
    n_patients = 700 if quick else 7000
    patients = np.repeat(np.arange(n_patients), rng.integers(1, 6, n_patients))
    values = rng.random(len(patients))
    rows = np.split(np.arange(len(patients)), np.flatnonzero(np.diff(patients)) + 1)
    seeds = count()

    def theirs() -> Any:
        chosen = (resample(range(n_patients), random_state=draw) for draw in range(SAMPLE_DRAWS))
        return [values[np.concatenate([rows[i] for i in one])].mean() for one in chosen]

    def ours() -> Any:
        return cluster_bootstrap(values, patients, seed=next(seeds))  # drawn anew: none is remembered

    return Pair(ours, theirs, DRAWS / SAMPLE_DRAWS)


def private_step(quick: bool) -> Pair:
    """One clipped sum of a batch of 1,024 (256) pairs, heads of 128."""
    from linkage_core.mitigation.engine import ClosedForm, Pairs, Towers
    from linkage_core.mitigation.objectives import Label
    from linkage_core.mitigation.opacus_engine import Opacus

    rng = np.random.default_rng(0)
    batch = 256 if quick else 1024
    shelf = Towers(rng.standard_normal((D, 513)) / 20, rng.standard_normal((D, 769)) / 20)
    images, texts = (rng.standard_normal((batch, d)).astype(np.float32) for d in (512, 768))
    pairs, which = Pairs.of(images, texts, np.arange(batch)), np.arange(batch)
    objective = Label(rng.choice([0.0, 1.0], size=(batch, D)))
    return Pair(
        lambda: [ClosedForm().clipped_sum(objective, shelf, pairs, which, 0.1) for _ in range(10)],
        lambda: Opacus().clipped_sum(objective, shelf, pairs, which, 0.1),
        10.0,
    )


def reading(image_format: str) -> Callable[[bool], Pair]:
    """Drawn radiographs of 512 x 512: checked, upright, grey levels as meant; beside the packages' own pixels."""

    def pair(quick: bool) -> Pair:
        import pydicom
        from PIL import Image

        from linkage_core.cohorts.phantom import export, population
        from linkage_core.images.read import read_radiograph

        folder = Path(tempfile.mkdtemp())
        studies = [next(iter(population.studies_of_split("A", "heldout", population.SEED)))]
        export.export_folder(folder, studies, image_format=image_format, size=512, seed=population.SEED)
        paths = [path for path in folder.rglob("*") if path.suffix in (".png", ".dcm")] * (4 if quick else 20)

        def straight(path: Path) -> np.ndarray:
            return np.asarray(pydicom.dcmread(path).pixel_array if path.suffix == ".dcm" else Image.open(path))

        return Pair(lambda: [read_radiograph(path) for path in paths], lambda: [straight(path) for path in paths])

    return pair


OURS = "exact rank of every match"
ROWS = (
    Row("bare product", OURS, "the matrix product alone", beside(product)),
    Row("FAISS top-10", OURS, "FAISS IndexFlatIP, top-10", beside(flat(10)), "no ranks beyond ten"),
    Row("FAISS top-1000", OURS, "FAISS IndexFlatIP, top-1000", beside(flat(1000), 6000), "no ranks beyond 1,000"),
    Row("torch topk", OURS, "torch.topk, 1,000", beside(torch_topk, 6000), "no ranks beyond 1,000"),
    Row("torch sort", OURS, "torch.argsort of every row", beside(torch_sort, 6000)),
    Row("retrieval index", OURS, "FAISS IVF, 16 cells, top-10", beside(cells), "misses some of the ten"),
    Row("ranx", f"{OURS}, MRR, Recall@10", "ranx, once it is compiled", ranx, "600 x 600", quick=False),
    Row("simulated pools", "closed form", "pools drawn to 0.01 a query", simulated_pools, "closed forms have no error"),
    Row("bootstrap", "weights on patient sums", "sklearn.utils.resample in a loop", resampled, "2,000 draws"),
    Row("private step", "ghost norms", "Opacus, a gradient a pair", private_step),
    Row("PNG", "read_radiograph", "Pillow alone", reading("png"), "theirs checks nothing"),
    Row("DICOM", "read_radiograph", "pydicom alone", reading("dicom"), "theirs applies no window, checks nothing"),
)
PACKAGES = ("numpy", "numba", "faiss-cpu", "torch", "ranx", "scikit-learn", "opacus", "pydicom", "pillow")


def seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def measured(row: Row, quick: bool, repeats: int) -> dict[str, Any]:
    """Medians of both in processor seconds, and of the ratio in each turn."""
    pair = row.pair(quick)
    pair.ours(), pair.theirs()  # compiled and in memory
    turns = [(seconds(pair.ours), pair.scale * seconds(pair.theirs)) for _ in range(repeats)]
    ours, theirs = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio = statistics.median(one / other for one, other in turns)
    return {
        "name": row.name,
        "ours": row.ours,
        "theirs": row.theirs,
        "note": row.note,
        "our_cpu_seconds": round(ours, 4),
        "their_cpu_seconds": round(theirs, 4),
        "ratio": float(f"{ratio:.3g}"),
    }


def markdown(made: dict[str, Any]) -> str:
    lines = [
        f"{made['machine']}; load {made['load']}; medians of {made['repeats']}; "
        + ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
        "",
        "| | ours | theirs | ours, CPU s | theirs, CPU s | ours / theirs | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for one in made["rows"]:
        figures = f"{one['our_cpu_seconds']:g} | {one['their_cpu_seconds']:g} | {one['ratio']:g}"
        lines.append(f"| {one['name']} | {one['ours']} | {one['theirs']} | {figures} | {one['note']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS])
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    wanted = [row for row in ROWS if (not asked.only or row.name in asked.only) and (row.quick or not asked.quick)]
    made = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used, Python {platform.python_version()}",
        "load": round(os.getloadavg()[0], 1),
        "repeats": asked.repeats,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "rows": [measured(row, asked.quick, asked.repeats) for row in wanted],
    }
    beside = Path(__file__).with_suffix(".json")
    if asked.json != beside or not (asked.quick or asked.only):  # the whole table, or where one is asked for
        asked.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(markdown(made))


if __name__ == "__main__":
    main()
