"""Rows of the frontier, made up and plausible, kept in an entry that has a lab: heads, releases, nothing released."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from helpers import lab_store
from linkage_core.lab import frontier, grid, measured
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

CLEAN = {"declared": 0.87, "undeclared": 0.76}
ATTACKERS = ("cosine", "known-pairs", "bayes-gaussian", "reader")
HEADS = {"label": (-0.4, -3.0), "moment": (-2.0, -2.5), "rotation": (0.0, 0.0), OFF_THE_SHELF: (0.0, 0.0)}
CODES, CAPPED, EPSILONS = (16, 64, 256), (10, 30, 100), (0.34, 1.0, 3.0)
MU = {0.34: 0.09, 1.0: 0.26, 3.0: 0.73}


def used(entry: Entry, use: str, points: tuple[float, float]) -> list[dict[str, Any]]:
    """Rows of one use: declared and undeclared, so many points above clean embeddings."""
    rows = []
    for group, gained in zip(frontier.GROUPS, points, strict=True):
        value = CLEAN[group] + gained / 100
        rows.append(
            {
                **{"cohort": entry.cohort, "use": use, "findings": group, "auroc": value, "auroc_low": value - 0.005},
                **{"auroc_high": value + 0.005, "difference": gained / 100, "difference_low": gained / 100 - 0.003},
                **{"difference_high": gained / 100 + 0.003, "n_patients": 140, "trained_on": "made up"},
            }
        )
    return rows


def linked(
    entry: Entry, sizes: list[int], lift: float, ceiling: float, also: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Every attacker at every N; the last is the worst, the first the best of those who adapt nothing."""
    rows = []
    names = (*ATTACKERS, *also)
    for n in sizes:
        shares = {who: (i + 1) / len(names) for i, who in enumerate(names)}
        for who, named, times in (
            *((who, who, 1 + (lift - 1) * share) for who, share in shares.items()),
            (measured.WORST, names[-1], lift),
            (frontier.OMNISCIENT, frontier.OMNISCIENT, ceiling),
            (frontier.LABELLED, names[-1], 1 + 1.5 * (lift - 1)),
        ):
            recall = min(times / n, 1.0)
            rows.append(
                {
                    **{"cohort": entry.cohort, "attacker": who, "named": named, "pool_size": n, "k": 1},
                    **{"recall": recall, "recall_low": 0.8 * recall, "recall_high": min(1.2 * recall, 1.0)},
                    **{"chance": 1 / n, "lift": times, "n_queries": 280, "n_patients": 140, "flag": ""},
                }
            )
    return rows


def on_sums(entry: Entry, sizes: list[int], lift: float) -> list[dict[str, Any]]:
    """The two attackers of summed patients; who knows the others has half of the gain."""
    who = {measured.WORST: "holds images and reports unpaired", frontier.OMNISCIENT: "knows every other patient"}
    rows = linked(entry, sizes, lift, (1 + lift) / 2)
    return [{**row, "named": who[row["attacker"]]} for row in rows if row["attacker"] in who]


def build(root: Path) -> Path:
    """In the store of a lab, the frontier of its phantom: built(frontier_store.build, lab_store.build)."""
    fill(Store(root).open("phantom", lab_store.MODEL))
    return root


def fill(entry: Entry, *, heads: bool = True) -> Entry:
    """Heads of the lab (by what their names begin with), nothing released, and three kinds of release."""
    sizes = sorted({int(n) for n in measured.linkage(entry).query("attacker == 'worst'")["pool_size"]})
    about = measured.heads(entry).set_index("head")
    for head in [OFF_THE_SHELF, *measured.head_names(entry)] if heads else ():
        points = next((value for start, value in HEADS.items() if head.startswith(start)), (-8.0, -9.0))
        epsilon = float(about.loc[head, "epsilon"])
        findings = [each for each in str(about.loc[head, "findings"]).split(", ") if each]
        option = {
            **{"option": head, "head": head, "kind": about.loc[head, "mechanism"], "seed": about.loc[head, "seed"]},
            "family": frontier.HEAD if about.loc[head, "kind"] != "control" else frontier.CONTROL,
            **{"parameter": "" if math.isnan(epsilon) else "epsilon", "value": epsilon, "listed": len(findings)},
        }
        entry = frontier.keep(entry, option, used=used(entry, "read", points))
    nothing = {"option": frontier.NOTHING, "family": frontier.NOTHING, "kind": frontier.NOTHING}
    entry = frontier.keep(
        entry,
        {**nothing, "parameter": "", "value": math.nan},
        linked(entry, sizes, 1.0, 1.0),
        [*used(entry, "trained", (0.1, 0.6)), *used(entry, "read", (-37.0, -26.0))],
    )
    few = [n for n in measured.POOL_SIZES if n in sizes] or sizes[-1:]
    for cells in CODES:
        option = {"option": f"codes-{cells}", "family": frontier.RELEASE, "kind": "codes", "parameter": "limit"}
        option |= {"value": float(cells), "limit": float(cells)}
        worse = 8 - math.log2(cells)
        both = [*used(entry, "read", (-12 - 2 * worse, -16.0)), *used(entry, "trained", (-3 - worse / 2, -4.0))]
        entry = frontier.keep(entry, option, linked(entry, few, 2 + cells / 20, 0.9 * cells, ("predictor",)), both)
    for limit in CAPPED:
        option = {"option": f"capped-{limit}", "family": frontier.RELEASE, "kind": "capped", "parameter": "limit"}
        option |= {"value": float(limit), "limit": float(limit), "epsilon": 8.0}
        both = [*used(entry, "read", (-800 / (limit + 20), -19.0)), *used(entry, "trained", (-60 / limit, -80 / limit))]
        entry = frontier.keep(entry, option, linked(entry, few, 1 + limit / 60, 0.7 * limit), both)
    for epsilon in EPSILONS:
        for seed in grid.SEEDS:
            option = {"option": f"statistics-eps{epsilon:g}-seed{seed}", "family": frontier.RELEASE}
            option |= {"kind": "statistics", "parameter": "epsilon", "value": epsilon, "epsilon": epsilon}
            option |= {"mu": MU[epsilon], "seed": seed}
            both = used(entry, "trained", (-0.3 / epsilon - 0.02 * seed, -0.4 / epsilon))
            entry = frontier.keep(entry, option, on_sums(entry, few, 1.1 + epsilon / 2 + 0.05 * seed), both)
    return entry
