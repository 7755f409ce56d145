"""Ranks, recall and MRR beside `ranx`, and the closed forms over N beside drawn pools, in one table.

    python benchmarks/cross_checks.py [--draws 20000] [--seed 0]

Writes benchmarks/cross_checks.json. `ranx` is a test dependency. Where both sides are exact they must agree to 1e-12;
where one is drawn, the largest deviation over queries is given in standard errors and must stay below `limit`.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.audit import fusion, strata
from linkage_core.cohorts.base import LABELS
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, match_counts
from linkage_core.store.entry import Embeddings

EXACT = 1e-12
AS_RANX = "--as-ranx"


def cohort(n_patients: int, seed: int, *, n_texts: int | None = None, d: int = 24, signal: float = 0.7) -> Embeddings:
    """One to three studies a patient with one or two images each. With `n_texts`, reports share that few texts."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    n = len(patient)
    text = rng.integers(0, n_texts, n) if n_texts else np.arange(n)
    reports = rng.standard_normal((text.max() + 1, d))[text]
    match = np.repeat(np.arange(n), rng.integers(1, 3, n))
    images = signal * reports[match] + rng.standard_normal((len(match), d))
    candidates = pd.DataFrame(
        {
            "study_id": [f"s{i}" for i in range(n)],
            "patient_id": [f"p{i}" for i in patient],
            "report_key": [f"k{i}" for i in text],
        }
    )
    records = candidates.iloc[match].reset_index(drop=True).assign(record_id=[f"r{i}" for i in range(len(match))])
    images, reports = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, reports))
    return Embeddings(
        images.astype(np.float32), reports.astype(np.float32), match, patient[match], patient, records, candidates
    )


def counted(one: Embeddings) -> MatchCounts:
    return match_counts(
        one.images, one.reports, one.match, query_group=one.query_group, candidate_group=one.candidate_group
    )


def ranx_values(scores: list[np.ndarray], relevant: list[int], metrics: list[str]) -> dict[str, np.ndarray]:
    """Per-query values of ranx. scores[i] are those of one pool, the first `relevant[i]` of them the hits.

    In a process of its own without numba's compiler: to compile ranx takes minutes of processor time, its loops over
    these pools a second.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        ends = np.cumsum([len(one) for one in scores])[:-1]
        np.savez(given, scores=np.concatenate(scores), ends=ends, relevant=relevant, metrics=metrics)
        environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
        subprocess.run([sys.executable, __file__, AS_RANX, given, found], env=environment, check=True)
        with np.load(found) as values:
            return {name: values[name] for name in metrics}


def as_ranx(given: Path, found: Path) -> None:
    """What ranx says of the pools in a file, into another one."""
    from ranx import Qrels, Run, evaluate

    with np.load(given) as asked:
        scores, metrics = np.split(asked["scores"], asked["ends"]), asked["metrics"].tolist()
        relevant = asked["relevant"].tolist()
    names = [f"q{i:07d}" for i in range(len(scores))]
    qrels = Qrels({q: {f"d{j}": 1 for j in range(m)} for q, m in zip(names, relevant, strict=True)})
    run = Run({q: {f"d{j}": float(v) for j, v in enumerate(s)} for q, s in zip(names, scores, strict=True)})
    values = evaluate(qrels, run, metrics, return_mean=False)
    np.savez(found, **({metrics[0]: values} if len(metrics) == 1 else values))


def against_ranx(seed: int = 0) -> list[dict[str, Any]]:
    """Full pools: every query against its match and all candidates of other patients."""
    ks = (1, 5, 10)
    metrics = ["mrr", *(f"hit_rate@{k}" for k in ks), *(f"recall@{k}" for k in ks)]
    one = cohort(90, seed)
    scores = one.images.astype(np.float64) @ one.reports.astype(np.float64).T
    others = one.candidate_group != one.query_group[:, None]
    rows = []
    for hit in ("report", "patient"):
        counts, _ = fusion.fused_counts(one, hit=hit)  # type: ignore[arg-type]
        lists, relevant = [], []
        for i in range(len(scores)):
            own = [one.match[i]] if hit == "report" else np.flatnonzero(~others[i])
            lists.append(np.concatenate([scores[i, own], scores[i, others[i]]]))
            relevant.append(len(own))
        found = ranx_values(lists, relevant, metrics)
        case = f"own {'report' if hit == 'report' else 'reports of the patient'}, no ties"
        rows.append(same(case, "rank", 1.0 + counts.n_better, np.round(1 / found["mrr"])))
        rows.append(same(case, "MRR", pools.full_reciprocal_rank(counts), found["mrr"]))
        for k in ks:
            rows.append(same(case, f"hit rate @{k}", pools.full_recall(counts, k), found[f"hit_rate@{k}"]))
            if hit == "report":  # with one hit a query, recall is the hit rate
                rows.append(same(case, f"Recall@{k}", pools.full_recall(counts, k), found[f"recall@{k}"]))
    return rows + tied_against_ranx(seed)


def tied_against_ranx(seed: int, shuffles: int = 200) -> list[dict[str, Any]]:
    """Few texts, so most matches are tied: ranx sees random orders of the tied, the closed form their mean."""
    rng = np.random.default_rng(seed)
    one = cohort(24, seed + 1, n_texts=9)
    counts = counted(one)
    scores = np.asarray(one.images @ one.reports.T, dtype=np.float64)
    text = one.candidates["report_key"].to_numpy()
    lists = []
    for i in range(len(scores)):
        pool = np.concatenate([[one.match[i]], np.flatnonzero(one.candidate_group != one.query_group[i])])
        codes = np.unique(text[pool], return_inverse=True)[1]
        level = np.array([scores[i, pool][codes == c].mean() for c in range(codes.max() + 1)])  # ties to the last bit
        place = np.unique(level, return_inverse=True)[1][codes]
        lists += [place + 0.5 * rng.random(len(pool)) for _ in range(shuffles)]
    found = ranx_values(lists, [1] * len(lists), ["mrr", "hit_rate@1", "hit_rate@5"])
    rows = []
    for name, ours in (
        ("mrr", pools.full_reciprocal_rank(counts)),
        ("hit_rate@1", pools.full_recall(counts, 1)),
        ("hit_rate@5", pools.full_recall(counts, 5)),
    ):
        drawn = found[name].reshape(len(ours), shuffles)
        rows.append(
            near("ranx", f"ties in {shuffles} random orders", name, ours, drawn.mean(1), drawn.std(1), shuffles)
        )
    return rows


def against_simulation(draws: int = 20_000, seed: int = 0) -> list[dict[str, Any]]:
    """Closed forms beside pools drawn candidate by candidate, ties broken by a coin for each pool."""
    cases = {
        "other patients": counted(cohort(24, seed, n_texts=20, signal=0.3)),
        "hard negatives": hard_negatives(cohort(160, seed + 1, n_texts=120, signal=0.3), seed),
        "hits of a patient": fusion.fused_counts(cohort(20, seed + 2, n_texts=18, signal=0.3), hit="patient")[0],
    }
    rows = []
    for case, counts in cases.items():
        for n in (2, 5, 12):
            able = np.argsort(counts.n_eligible, kind="stable")
            able = able[counts.n_eligible[able] >= n - 1]
            some = able[np.linspace(0, len(able) - 1, 25).astype(int)]
            picked = MatchCounts(*(column[some] for column in counts))
            ranks = np.stack(
                [drawn_ranks(*row, n, draws, seed + int(q)) for q, *row in zip(some, *picked, strict=True)]
            )
            sizes = f"{picked.n_eligible.min()} to {picked.n_eligible.max()} eligible"
            left_out = int((counts.n_eligible < n - 1).sum())
            for name, ours, values in (
                ("Recall@1", pools.expected_recall(picked, n, 1), ranks <= 1),
                ("Recall@2", pools.expected_recall(picked, n, 2), ranks <= 2),
                ("MRR", pools.expected_reciprocal_rank(picked, n), 1 / ranks),
                ("mean rank", pools.expected_rank(picked, n), ranks),
            ):
                row = near("simulation", f"{case}, N={n}, {sizes}", name, ours, values.mean(1), values.std(1), draws)
                nan = np.isnan(pools.expected_recall(counts, n, 1))
                row["n_left_out"] = left_out
                row["agrees"] &= bool((nan == (counts.n_eligible < n - 1)).all())
                rows.append(row)
    return rows


def hard_negatives(one: Embeddings, seed: int) -> MatchCounts:
    """Counts within strata of very different sizes, so that n_eligible goes from none to dozens, query by query."""
    rng = np.random.default_rng(seed)
    stratum = rng.geometric(0.12, len(one.reports))
    scores = one.images @ one.reports.T
    text = one.candidates["report_key"].to_numpy()
    eligible = (stratum == stratum[one.match][:, None]) & (one.candidate_group != one.query_group[:, None])
    tied = (text == text[one.match][:, None]) & eligible
    better = (scores > scores[np.arange(len(scores)), one.match][:, None]) & eligible & ~tied
    return MatchCounts(better.sum(1), tied.sum(1), eligible.sum(1))


def labelled(n_patients: int, seed: int) -> Embeddings:
    """A cohort with three findings of few patterns, some not mentioned; a lone one, and texts that patients share."""
    one = cohort(n_patients, seed, n_texts=n_patients, signal=0.4)
    rng = np.random.default_rng(seed)
    n = len(one.candidates)
    findings = pd.DataFrame(np.nan, index=range(n), columns=list(LABELS))
    for label, values in (
        ("Edema", [0.0, 1.0]),
        ("Pneumonia", [np.nan, 0.0, 1.0]),
        ("Fracture", [np.nan] * 5 + [1.0]),
    ):
        findings[label] = rng.choice(values, n)
    findings.loc[0, "Lung Lesion"] = 1.0
    records = one.records.assign(view="PA", sex="F", age=50.0, report_words=5)
    records = pd.concat([records, findings.iloc[one.match].reset_index(drop=True)], axis=1)
    candidates = one.candidates.assign(report_words=5)
    return dataclasses.replace(one, records=records, candidates=candidates)


def decoys_against_simulation(draws: int = 20_000, seed: int = 0) -> list[dict[str, Any]]:
    """strata.count, the closed forms on it and the label-matched AUC, beside decoys drawn from the bare tables: other
    patients, the same 14 labels, their scores one by one."""
    one = labelled(70, seed)
    counts = strata.count(one)
    scores = one.images @ one.reports.T
    labels = one.records.drop_duplicates("study_id")[list(LABELS)].fillna(7).to_numpy()
    text = one.candidates["report_key"].to_numpy()
    decoys = []
    for i, own in enumerate(one.match):
        alike = (labels == labels[own]).all(axis=1) & (one.candidate_group != one.query_group[i])
        decoys.append(np.flatnonzero(alike))
    eligible = np.array([len(d) for d in decoys])
    rows = []
    for n in (2, 5, 12):
        able = np.argsort(eligible, kind="stable")
        able = able[eligible[able] >= n - 1]
        some = able[np.linspace(0, len(able) - 1, 25).astype(int)]
        picked = MatchCounts(*(column[some] for column in counts))
        ranks, beats = [], []
        for i in some:
            rng = np.random.default_rng([seed, n, int(i)])
            pick = rng.random((draws, eligible[i]), dtype=np.float32).argpartition(n - 2, axis=1)[:, : n - 1]
            drawn = decoys[i][pick]
            tied = text[drawn] == text[one.match[i]]
            above = (scores[i, drawn] > scores[i, one.match[i]]) & ~tied
            ranks.append(1 + above.sum(1) + rng.integers(0, tied.sum(1) + 1))
            beats.append(1 - above[:, 0] - tied[:, 0] / 2)
        ranks, beats = np.stack(ranks), np.stack(beats)
        case = f"decoys of the same 14 labels, N={n}, {picked.n_eligible.min()} to {picked.n_eligible.max()} eligible"
        checked = [
            ("Recall@1", pools.expected_recall(picked, n, 1), ranks <= 1),
            ("Recall@2", pools.expected_recall(picked, n, 2), ranks <= 2),
            ("MRR", pools.expected_reciprocal_rank(picked, n), 1 / ranks),
        ]
        if n == 2:
            checked.append(("label-matched AUC", strata.label_matched_auc(picked), beats))
        for name, ours, values in checked:
            row = near("simulation", case, name, ours, values.mean(1), values.std(1), draws)
            row["n_left_out"] = int((eligible < n - 1).sum())
            row["agrees"] &= bool((counts.n_eligible == eligible).all())
            rows.append(row)
    return rows


def drawn_ranks(n_better: int, n_tied: int, n_eligible: int, n: int, draws: int, seed: int) -> np.ndarray:
    """Ranks of the match in `draws` pools of N: N-1 of the eligible without replacement, the tied in random order."""
    rng = np.random.default_rng(seed)
    above = tied = np.zeros(draws, dtype=np.int64)
    if n > 1:
        members = rng.random((draws, n_eligible), dtype=np.float32).argpartition(n - 2, axis=1)[:, : n - 1]
        above = (members < n_better).sum(axis=1)
        tied = ((members >= n_better) & (members < n_better + n_tied)).sum(axis=1)
    return 1 + above + rng.integers(0, tied + 1)


def same(case: str, measure: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    largest = float(np.abs(ours - theirs).max())
    return {
        "against": "ranx",
        "case": case,
        "measure": measure,
        "n_queries": len(ours),
        "ours": round(float(ours.mean()), 6),
        "theirs": round(float(theirs.mean()), 6),
        "largest_difference": largest,
        "limit": EXACT,
        "agrees": largest <= EXACT,
    }


def near(
    against: str, case: str, measure: str, ours: np.ndarray, mean: np.ndarray, deviation: np.ndarray, draws: int
) -> dict[str, Any]:
    """Deviation of each query in standard errors; one that never varies must agree to rounding, or to a miss so rare
    that `draws` would not show it. The limit holds for the largest of all queries at once (1 in 10,000)."""
    error = deviation / math.sqrt(draws)
    still = deviation < 1e-12
    deviations = np.abs(ours - mean)[~still] / error[~still]
    limit = NormalDist().inv_cdf(1 - 1e-4 / (2 * max(len(ours), 1)))
    constant = np.abs(ours - mean)[still]
    return {
        "against": against,
        "case": case,
        "measure": measure,
        "n_queries": len(ours),
        "ours": round(float(ours.mean()), 6),
        "theirs": round(float(mean.mean()), 6),
        "largest_in_standard_errors": round(float(deviations.max(initial=0)), 2),
        "limit": round(limit, 2),
        "draws": draws,
        "agrees": bool((deviations <= limit).all() and (constant <= 10 / draws).all()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = against_ranx(options.seed) + against_simulation(options.draws, options.seed)
    rows += decoys_against_simulation(options.draws, options.seed)
    result = {
        "seed": options.seed,
        "versions": {name: importlib.metadata.version(name) for name in ("ranx", "numpy", "numba")},
        "all_agree": all(row["agrees"] for row in rows),
        "rows": rows,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    if sys.argv[1:2] == [AS_RANX]:
        as_ranx(*map(Path, sys.argv[2:]))
    else:
        main()
