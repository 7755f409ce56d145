"""Two models, or two heads, on the same images: is one linked more, beyond what the choice of patients explains?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.audit.study import PoolSize, Study
from linkage_core.errors import InputError
from linkage_core.ranking import intervals as statistics
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts
from linkage_core.ranking.paired import DRAWS, first_of_all, holm, mcnemar_exact, paired_rows, permutation_test

COLUMNS = (
    *("cohort", "direction", "pool", "split", "pool_size", "k", "model_a", "head_a", "model_b", "head_b"),
    *("recall_a", "recall_b", "chance", "difference", "low", "high", "p", "p_mcnemar", "p_holm"),
    *("n_queries", "n_excluded", "n_patients", "flag", "draws", "permutations", "seed"),
)


def compare(studies: Sequence[Study], pool_size: PoolSize, k: int, seed: int = 0) -> pd.DataFrame:
    """Every pair of studies on the same queries: how much more is linked by B than by A?

    One row a pair, COLUMNS. `difference` = recall_b - recall_a at this N and k with its patient-clustered 95% bootstrap
    interval; `chance` the baseline of both; `p` permutation_test on the same values; `p_holm` p over all rows;
    `p_mcnemar` on first_of_all, so on Recall@1 against all candidates whatever N and k. `flag` is "too few to say"
    below 30 patients, where one or few hold most, or where few carry the difference; or that a model ties all scores.

    Raises InputError for fewer than two studies, or studies that differ in cohort, direction, pool, split, queries or
    candidates: their difference would not be the models'.
    """
    if len(studies) < 2:
        raise InputError(f"{len(studies)} study cannot be compared.", "Give two or more of the same cohort.")
    first = studies[0]
    counts = [_aligned(one, first) for one in studies]
    patients = np.unique(first.queries["patient_id"].to_numpy(str), return_inverse=True)[1]
    place = [pd.Index(one.queries["record_id"]).get_indexer(first.queries["record_id"]) for one in studies]
    recalls = [one.recall(pool_size, k)[0][rows] for one, rows in zip(studies, place, strict=True)]
    chance = first.recall(pool_size, k)[1]
    hits = [first_of_all(one) for one in counts]
    pairs = list(combinations(range(len(studies)), 2))
    differences = np.column_stack([recalls[b] - recalls[a] for a, b in pairs])
    intervals = statistics.cluster_bootstrap(differences, patients, seed=seed)
    rows: list[dict[str, Any]] = []
    for i, (a, b) in enumerate(pairs):
        used = ~np.isnan(differences[:, i])
        n_patients = len(np.unique(patients[used]))
        rows.append(
            {
                **{name: getattr(first, name) for name in ("cohort", "direction", "pool", "split")},
                "pool_size": pool_size,
                "k": k,
                "model_a": studies[a].model,
                "head_a": studies[a].head,
                "model_b": studies[b].model,
                "head_b": studies[b].head,
                "recall_a": float(recalls[a][used].mean()),
                "recall_b": float(recalls[b][used].mean()),
                "chance": float(chance[used].mean()),
                "difference": float(intervals.estimate[i]),
                "low": float(intervals.low[i]),
                "high": float(intervals.high[i]),
                "p": permutation_test(recalls[b], recalls[a], patients, seed=seed),
                "p_mcnemar": mcnemar_exact(hits[b], hits[a]),
                "n_queries": int(used.sum()),
                "n_excluded": int((~used).sum()),
                "n_patients": n_patients,
                "flag": _flag(differences[used, i], patients[used])
                or pools.tied_flag(counts[a])
                or pools.tied_flag(counts[b]),
                "draws": statistics.DRAWS,
                "permutations": DRAWS,
                "seed": seed,
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"].to_numpy()))[list(COLUMNS)]


def relative_change(before: np.ndarray, after: np.ndarray, cluster: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """By how many percent did the mean over the same queries change?

    100 (mean(after) / mean(before) - 1) with its 95% interval: both means of a draw are of the same drawn patients, as
    in statistics.cluster_bootstrap, and its ends are stretched by how few patients differ in effect.

    Arguments
        before, after: (n_queries,) values between 0 and 1; a query where either is NaN is left out.
        cluster: (n_queries,) patient of each.
    Returns before and after (the means), change, low, high, n_queries, n_patients and flag (as `compare`). change is
    NaN where nothing was there before, low and high too where a draw has nothing.
    """
    difference, patients = paired_rows(after, before, cluster)
    both = ~(np.isnan(before) | np.isnan(after))
    code = np.unique(cluster, return_inverse=True)[1]
    columns = np.column_stack([before, after, np.ones(len(code))])[both]
    sums = statistics.sums_by_cluster(columns, code[both], len(np.unique(code)))
    n_queries, n_patients = int(both.sum()), len(np.unique(patients))
    change, low, high = float("nan"), float("nan"), float("nan")
    if sums[:, 0].sum() > 0:
        change = 100 * (sums[:, 1].sum() / sums[:, 0].sum() - 1)
        drawn = statistics.patient_weights(len(sums), statistics.DRAWS, seed) @ sums[:, :2]
        if n_patients > 1 and (drawn[:, 0] > 0).all():
            percentiles = 100 * (np.quantile(drawn[:, 1] / drawn[:, 0], [0.025, 0.975]) - 1)
            m = float(statistics.behind(sums[:, [1]] - sums[:, [0]], sums[:, [2]])[0])
            ends = statistics.stretched(change, percentiles[0], percentiles[1], m)
            low, high = max(float(ends[0]), -100.0), float(ends[1])
    with np.errstate(invalid="ignore"):
        means = sums.sum(axis=0) / n_queries
    return {
        "before": float(means[0]),
        "after": float(means[1]),
        "change": float(change),
        "low": low,
        "high": high,
        "n_queries": n_queries,
        "n_patients": n_patients,
        "flag": _flag(difference, patients),
    }


def comparable(one: Study, other: Study) -> bool:
    """Whether two studies are of the same queries and candidates, so that their difference is the models'."""
    try:
        _aligned(one, other)
    except InputError:
        return False
    return True


POOL_COLUMNS = (
    *("cohort", "model", "pool", "pool_size", "k", "recall", "recall_low", "recall_high", "chance", "lift"),
    *("n_queries", "n_excluded", "n_patients"),
)


def of_pools(studies: Sequence[Study], pool_sizes: Sequence[int], k: int, seed: int = 0) -> pd.DataFrame:
    """What does one model link among one kind of decoys, and what among another, on the very same images?

    Each kind of pool leaves out other queries at a given N, so two curves side by side would differ for that alone.
    Here a query counts at an N only if it fills that N in every study.

    Arguments
        studies: of one model's queries under several kinds of pool.
        pool_sizes: N; those that no query fills in every study are left out of the table.
    Returns one row for each N and study, POOL_COLUMNS: recall with its patient-clustered 95% interval.
    Raises InputError where the studies are not of the same queries.
    """
    first = studies[0]
    ids = first.queries["record_id"]
    if any(one.model != first.model or not ids.equals(one.queries["record_id"]) for one in studies):
        raise InputError("The studies are not of the same model and images.", "Study one model under several pools.")
    patients = np.unique(first.queries["patient_id"].to_numpy(str), return_inverse=True)[1]
    rows: list[dict[str, Any]] = []
    columns: list[np.ndarray] = []
    for pool_size in pool_sizes:
        fills = np.all([one.counts.n_eligible + 1 >= pool_size for one in studies], axis=0)
        if not fills.any() or k > pool_size:
            continue
        for one in studies:
            columns.append(np.where(fills, one.recall(pool_size, k)[0], np.nan))
            rows.append(
                {
                    **{name: getattr(one, name) for name in ("cohort", "model", "pool")},
                    "pool_size": pool_size,
                    "k": k,
                    "chance": k / pool_size,
                    "n_queries": int(fills.sum()),
                    "n_excluded": int((~fills).sum()),
                    "n_patients": len(np.unique(patients[fills])),
                }
            )
    if not rows:
        return pd.DataFrame(columns=list(POOL_COLUMNS))
    found = statistics.rate_intervals(np.column_stack(columns), patients, seed=seed)
    table = pd.DataFrame(rows).assign(recall=found.estimate, recall_low=found.low, recall_high=found.high)
    return table.assign(lift=table["recall"] / table["chance"])[list(POOL_COLUMNS)]


def _flag(differences: np.ndarray, patients: np.ndarray) -> str:
    """Why a mean difference says little: who is behind it, and how many of them it comes from in effect."""
    code = np.unique(patients, return_inverse=True)[1]
    sums = statistics.sums_by_cluster(
        np.column_stack([differences, np.ones(len(code))]), code, int(code.max(initial=-1)) + 1
    )
    few = 0 < float(statistics.behind(sums[:, [0]], sums[:, [1]])[0]) < statistics.FEW_CARRY
    return statistics.flag_of(patients) or (f"{statistics.flag(0)}: few patients differ" if few else "")


def _aligned(one: Study, first: Study) -> MatchCounts:
    """Counts of `one` in the order of `first`'s queries; InputError where the two are not of the same pools."""
    for name in ("cohort", "direction", "pool", "split"):
        mine, theirs = getattr(one, name), getattr(first, name)
        if mine != theirs:
            raise InputError(f"One study has {name} {theirs!r}, another {mine!r}.", "Compare models on the same pools.")
    rows = pd.Index(one.queries["record_id"]).get_indexer(first.queries["record_id"])
    same = len(one.queries) == len(first.queries) and bool((rows >= 0).all())
    counts = MatchCounts(*(column[rows] for column in one.counts)) if same else None
    if counts is None or (counts.n_eligible != first.counts.n_eligible).any():
        raise InputError(
            f"{first.model} and {one.model} were not given the same images and reports of {first.cohort}.",
            "Embed the cohort again with both models.",
        )
    return counts
