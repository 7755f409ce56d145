"""Does a release hold where somebody tries to break it? Attempts on the phantom, and what each of them reached.

Several images of a patient, one-to-one matching, averaging over downloads and labels that travel along.

Run: python benchmarks/release_breaks.py [--store DIR] [--out FILE]. The codebook of 64 cells and the cap of limit 30.
Each figure is lift: Recall@1 times N. Figures at N = 10,000 over all held-out images unless said otherwise.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from linkage_core.attacks import attack
from linkage_core.attacks.held import Held
from linkage_core.cohorts.base import LABELS
from linkage_core.heads import unit
from linkage_core.lab import grid
from linkage_core.ranking import intervals, pools
from linkage_core.ranking.counts import MatchCounts
from linkage_core.release import measured
from linkage_core.release.kind import Mechanism
from linkage_core.release.kinds import codes
from linkage_core.release.kinds.capped import Cap, directed
from linkage_core.store.entry import Entry, Store

CELLS, LIMIT, N = 64, 30.0, 10_000
SINKHORN = 30  # scalings of rows and columns


def lifted(counts: MatchCounts, patients: np.ndarray, n: int = N) -> dict[str, float]:
    """Lift at N with its patient-clustered 95% interval."""
    found = intervals.cluster_bootstrap(pools.expected_recall(counts, n, 1), patients)
    return {name: round(float(getattr(found, name)[0]) * n, 2) for name in ("estimate", "low", "high")}


def whose(held: Held) -> np.ndarray:
    return held.query_group


def scores_of(held: Held, mechanism: Mechanism, attacker: str) -> tuple[np.ndarray, np.ndarray]:
    if attacker == measured.PREDICTOR:
        return measured.cell_factors(held, mechanism)[:2]
    return attack.factors(held, attacker)[:2]


def of_patients(counts_from: Held, by: np.ndarray, queries: np.ndarray, of_text: np.ndarray) -> MatchCounts:
    """An attacker who sees which records belong together adds up their scores: one query a study.

    by (n_queries,) what belongs together; queries and of_text the factors of the scores, as Asked.count takes them.
    """
    _, first, code = np.unique(by, return_index=True, return_inverse=True)
    summed = np.zeros((len(first), queries.shape[1]))
    np.add.at(summed, code, queries)
    together = replace(
        counts_from,
        released=counts_from.released[first],
        images=counts_from.images[first],
        match=counts_from.match[first],
        query_group=counts_from.query_group[first],
    )
    return together.count(summed.astype(np.float32), of_text)


def one_to_one(
    scores: np.ndarray, n: int, rng: np.random.Generator, draws: int = 200
) -> dict[str, tuple[float, float]]:
    """Does it help to know that n released records and n reports match one to one?

    scores (n_records, n_records), log-likelihoods up to a term of the record, of record i under report j; the diagonal
    are the matches. In each drawn pool of n: "alone" ranks each record by itself, ties at random; "assignment" takes
    the permutation of the largest sum; "balanced" scales rows and columns to sum to one, which puts into each entry
    what the others leave over (Sinkhorn 1967; the mean-field answer to the posterior over permutations).
    Returns the mean share of right answers of each and its standard error over draws.
    """
    found: dict[str, list[float]] = {"alone": [], "assignment": [], "balanced": []}
    for _ in range(draws):
        rows = rng.choice(len(scores), n, replace=False)
        order = rng.permutation(n)  # columns in another order, so that a tie never favours the diagonal
        part = scores[np.ix_(rows, rows)][:, order] + 1e-9 * rng.standard_normal((n, n))
        found["alone"].append(_right(part.argmax(axis=1), order))
        found["assignment"].append(_right(linear_sum_assignment(part, maximize=True)[1], order))
        found["balanced"].append(_right(balanced(part).argmax(axis=1), order))
    return {name: _mean(values) for name, values in found.items()}


def balanced(scores: np.ndarray) -> np.ndarray:
    """(n, n) logs of a matrix whose rows and columns sum to one, made from log-likelihoods by scaling them."""
    for _ in range(SINKHORN):
        scores = scores - logsumexp(scores, axis=1, keepdims=True)
        scores = scores - logsumexp(scores, axis=0, keepdims=True)
    return np.asarray(scores)


def _right(named: np.ndarray, order: np.ndarray) -> float:
    return float((order[named] == np.arange(len(order))).mean())


def _mean(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def averaged(mechanism: Mechanism, downloads: int) -> Mechanism:
    """The broken twin of keyed noise: fresh noise at every download, and an attacker who averages over them."""

    def vectors(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        total: Any = sum(mechanism.vectors(rows, rng) for _ in range(downloads))
        return np.asarray(total / downloads, dtype=np.float32)

    return replace(mechanism, vectors=vectors, noise=mechanism.noise / np.sqrt(downloads))


def together(entry: Entry, held: Held, queries: np.ndarray, texts: np.ndarray) -> dict[str, Any]:
    """Records of a study, or of a patient, that can be seen to belong together."""
    records = entry.records(entry.default_split)
    found = {}
    for by in ("study_id", "patient_id"):
        code = np.unique(records[by].to_numpy(str), return_inverse=True)[1]
        counts = of_patients(held, code, queries, texts)
        first = np.unique(code, return_index=True)[1]
        sizes = np.bincount(code)
        found[by] = {
            **lifted(counts, whose(held)[first]),
            "records": {"mean": round(float(sizes.mean()), 2), "largest": int(sizes.max())},
        }
    return found


def matched(held: Held, queries: np.ndarray, texts: np.ndarray, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Whoever holds n records and n reports and knows that they match one to one."""
    rng = np.random.default_rng(0)
    _, first = np.unique(held.query_group, return_index=True)  # one image a patient: all matches are distinct
    found = {}
    for n in sizes:
        rows = rng.permutation(first)[: max(2000, n)]
        scores = queries[rows] @ texts[held.text_of[held.match[rows]]].T
        drawn = one_to_one(scores, n, rng, draws=max(10, 20_000 // n))
        found[n] = {way: {"lift": round(share * n, 2), "error": round(e * n, 2)} for way, (share, e) in drawn.items()}
    return found


def with_labels(held: Held, queries: np.ndarray, texts: np.ndarray, entry: Entry) -> dict[str, Any]:
    """Findings that travel with a record, clean: all 14, one at random, and alone without any release."""
    records = entry.records(entry.default_split)
    own = records[list(LABELS)].to_numpy(float)
    agree_of_text = np.column_stack([(held.findings == state).astype(np.float64) for state in (1, 0, -1)])
    agree_of_image = np.column_stack([(own == state).astype(np.float64) for state in (1, 0, -1)])
    # one random finding, present or not: two values, and which finding says nothing
    stated = np.column_stack([held.findings == 1, held.findings != 1]).astype(np.float64)
    pick = np.random.default_rng(0).integers(0, len(LABELS), len(own))
    one = np.zeros((len(own), 2 * len(LABELS)))
    one[np.arange(len(own)), pick + len(LABELS) * (own[np.arange(len(own)), pick] != 1)] = 1
    patients = whose(held)
    big = 1e3 * float(np.abs(queries[:200] @ texts.T).max())

    def joined(of_image: np.ndarray, of_text: np.ndarray) -> MatchCounts:
        return held.count(np.column_stack([queries, big * of_image]), np.column_stack([texts, of_text]))

    return {
        "14 labels, no release": lifted(held.count(agree_of_image, agree_of_text), patients),
        "release and 14 labels": lifted(joined(agree_of_image, agree_of_text), patients),
        "1 random finding, present or not, no release": lifted(held.count(one, stated), patients),
        "release and 1 random finding": lifted(joined(one, stated), patients),
    }


def learner(held: Held, mechanism: Mechanism) -> tuple[np.ndarray, np.ndarray]:
    """A stronger attacker on cells: a neural network from the report to the cell, chosen on own left-out pairs."""
    if mechanism.cells is None:
        raise ValueError("cells are needed")
    own_cells = mechanism.cells(unit(held.off_the_shelf.image(held.own_images)))
    cells = mechanism.cells(measured.shelf(held))
    read = measured.read_reports
    own, asked = read(held, held.own_texts, held.own_findings), read(held, held.texts, held.findings)
    best: tuple[float, MLPClassifier] | None = None
    known = np.flatnonzero(own_cells >= 0)
    for width in (64, 256):
        for decay in (1e-2, 1.0):
            model = MLPClassifier((width,), alpha=decay, early_stopping=True, max_iter=60, random_state=0)
            model.fit(own[known], own_cells[known])
            if best is None or model.best_validation_score_ > best[0]:
                best = (model.best_validation_score_, model)
    if best is None:
        raise ValueError("nothing was learnt")
    table = np.full((len(asked), mechanism.n_cells), -30.0)
    table[:, best[1].classes_] = np.log(best[1].predict_proba(asked) + 1e-9)
    return (cells[:, None] == np.arange(mechanism.n_cells)).astype(np.float64), table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("cached_embeddings"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/release_breaks.json"))
    options = parser.parse_args()
    store = Store(options.store)
    entry, public = (store.open(name, "phantom-radiology") for name in ("phantom", "phantom-site-b"))
    book = codes.public_codebook(public, CELLS, grid.frequent(entry))
    cap = Cap.of(64, LIMIT)
    started = time.monotonic()
    result: dict[str, Any] = {}
    for name, mechanism, limit in (
        (f"codes, K = {CELLS}", codes.coded(book), CELLS),
        (f"capped, L = {LIMIT:g}", directed(cap), LIMIT),
    ):
        held = measured.hold(entry, mechanism)
        out: dict[str, Any] = {"certified": limit, "alone": {}}
        strongest = (-1.0, np.empty(0), np.empty(0))
        names = ["reader", "bayes-gaussian", *([measured.PREDICTOR] if mechanism.cells else [])]
        with threadpool_limits(1, user_api="blas"):
            for attacker in names:
                queries, texts = scores_of(held, mechanism, attacker)
                out["alone"][attacker] = lifted(held.count(queries, texts), whose(held))
                if out["alone"][attacker]["estimate"] > strongest[0]:
                    strongest = (out["alone"][attacker]["estimate"], queries, texts)
            if mechanism.cells:
                queries, texts = learner(held, mechanism)
                out["alone"]["neural network"] = lifted(held.count(queries, texts), whose(held))
            _, queries, texts = strongest
            out["records that belong together"] = together(entry, held, queries, texts)
            out["one to one, by n"] = matched(held, queries, texts, (10, 100, 1000))
            out["labels on the side"] = with_labels(held, queries, texts, entry)
            if not mechanism.cells:
                averaging = {}
                for downloads in (1, 4, 16, 64):
                    fresh = measured.hold(entry, averaged(mechanism, downloads))
                    averaging[downloads] = lifted(attack.run(fresh, "bayes-gaussian")[0], whose(fresh))
                out["fresh noise at every download, averaged"] = averaging
        result[name] = out
        print(json.dumps({name: out}, indent=1), flush=True)
    result["seconds"] = round(time.monotonic() - started, 1)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
