"""Does a release hold where somebody tries to break it? Attempts on the phantom, and what each of them reached.

Run: python benchmarks/release_breaks.py [--store DIR] [--out FILE]. The codebook of 64 cells and the cap of limit 30.
Each figure is lift, Recall@1 times N, with its patient-clustered 95% interval.

- "alone": every attacker of the table, who predicts cells, and a neural network, in the game of the limit
  (measured.ask: one image a study, every other study a candidate, fresh noise). "above the limit": whoever's interval
  lies wholly above what is certified.
- What the limit does not cover, or says that it doubles, by the strongest of the table, N = 10,000, all held-out
  images: records that belong together, labels on the side, fresh noise at every download; and whole folders matched
  one to one (attacks.archive), which the limit of codes covers and that of caps does not.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from linkage_core.attacks import archive, attack
from linkage_core.attacks.attackers import ATTACKERS
from linkage_core.attacks.held import Held
from linkage_core.attacks.home import tried
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
ARCHIVES = (10, 100, 1000)


def lifted(counts: MatchCounts, patients: np.ndarray, n: int = N) -> dict[str, float]:
    """Lift at N with its patient-clustered 95% interval."""
    found = intervals.cluster_bootstrap(pools.expected_recall(counts, n, 1), patients)
    return {name: round(float(getattr(found, name)[0]) * n, 2) for name in ("estimate", "low", "high")}


def whose(held: Held) -> np.ndarray:
    return held.query_group


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


def matched(held: Held, attacker: str) -> dict[str, Any]:
    """Whoever holds n records and n reports and knows that they match one to one, n of as many patients."""
    with threadpool_limits(1, user_api="blas"):
        one = tried(held, attacker)
        found = [archive.play(one, n).row() for n in ARCHIVES]
    kept = ("recall", "recall_low", "recall_high", "alone")
    return {str(row["pool_size"]): {name: lift_of(row[name], row["pool_size"]) for name in kept} for row in found}


def lift_of(share: Any, n: Any) -> float:
    return round(float(share) * int(n), 2)


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
        game = measured.ask(held, mechanism)
        out: dict[str, Any] = {"certified": limit, "alone": {}}
        found = measured.attacks(entry, mechanism, name)
        for one in found:
            patients = one.queries["patient_id"].to_numpy(str)
            out["alone"][one.attacker] = {str(n): lifted(one.counts, patients, n) for n in (100, 1000, N)}
        if mechanism.cells:
            queries, texts = learner(held, mechanism)
            counts, patients = game.count(queries[game.rows], texts), held.query_group[game.rows]
            out["alone"]["neural network"] = {str(n): lifted(counts, patients, n) for n in (100, 1000, N)}
        out["above the limit"] = [
            [who, n] for who, rows in out["alone"].items() for n, row in rows.items() if row["low"] > limit
        ]
        table = [one for one in found if one.attacker in ATTACKERS]
        strongest = str(attack.worst_of(table, N, 1)["attacker"])
        out["strongest"] = strongest
        with threadpool_limits(1, user_api="blas"):
            queries, texts = attack.factors(held, strongest)[:2]
            out["records that belong together"] = together(entry, held, queries, texts)
            out["labels on the side"] = with_labels(held, queries, texts, entry)
            if not mechanism.cells:
                averaging = {}
                for downloads in (1, 4, 16, 64):
                    fresh = measured.hold(entry, averaged(mechanism, downloads))
                    averaging[downloads] = lifted(attack.run(fresh, "bayes-gaussian")[0], whose(fresh))
                out["fresh noise at every download, averaged"] = averaging
        out["one to one, by n"] = matched(held, strongest)
        result[name] = out
        print(json.dumps({name: out}, indent=1), flush=True)
    result["seconds"] = round(time.monotonic() - started, 1)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
