"""The mitigation lab of the phantom as one table: what epsilon buys, by whom it is measured, and what it costs.

    python benchmarks/mitigation.py [--store cached_embeddings] [--cohort phantom] [--model phantom-radiology]

Reads the tables that `linkage phantom build --lab` wrote, computes nothing anew, and writes benchmarks/mitigation.json
beside a markdown table. Figures are of held-out patients: recall as times chance ("lift"), images linked in 10,000, and
AUROC. Where several seeds of the noise were run, `over seeds` is their range. Every run here keeps its seed, so none is
private: epsilon is what the mechanism would have with secret noise. Nothing was chosen on the held-out split: recipes
are finetune's defaults, attackers and probes were chosen on the attacker's split, the worst attacker in pools of 100.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from linkage_core.lab import grid, measured
from linkage_core.store.entry import OFF_THE_SHELF, Store

RELEASE = "embeddings-and-heads"
SHIPPED = Path(__file__).resolve().parents[1] / "cached_embeddings"
MEASURES = {
    "probe": ("probe", "macro"),
    "probe_declared": ("probe", "macro, declared"),
    "probe_undeclared": ("probe", "macro, undeclared"),
    "zero_shot": ("zero-shot", "macro"),
    "label_matched": ("label-matched", ""),
}


def figures(name: str, cohort: str, linkage: pd.DataFrame, used: pd.DataFrame) -> dict[str, Any]:
    """All figures of one head on one cohort; {} where it was not measured there."""
    mine = linkage[(linkage["head"] == name) & (linkage["cohort"] == cohort) & (linkage["release"] == RELEASE)]
    if mine.empty:
        return {}
    largest = int(mine.loc[mine["attacker"] == measured.WORST, "pool_size"].max())
    found: dict[str, Any] = {"cohort": cohort, "largest_pool": largest}
    for size in (100, 1000, 10_000):
        for attacker in ("cosine", measured.WORST):
            rows = mine[(mine["attacker"] == attacker) & (mine["pool_size"] == size) & (mine["m"] == "all")]
            if len(rows):
                row = rows.iloc[0]
                kept = ("recall", "recall_low", "recall_high", "lift", "named", "n_queries", "n_patients")
                found[f"{attacker}_{size}"] = {key: row[key] for key in kept}
    its = used[(used["head"] == name) & (used["cohort"] == cohort)]
    for key, (measure, label) in MEASURES.items():
        rows = its[(its["measure"] == measure) & (its["label"] == label)]
        if len(rows) and not math.isnan(rows.iloc[0]["after"]):
            columns = [f"{part}{end}" for part in ("before", "after", "difference") for end in ("", "_low", "_high")]
            found[key] = {column: float(rows.iloc[0][column]) for column in columns}
    return found


def rows_of(heads: pd.DataFrame, cohort: str, linkage: pd.DataFrame, used: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each mechanism, what it follows, declared list and epsilon: seed 0, and the range over seeds."""
    rows = []
    for (mechanism, like, findings, epsilon), group in heads.groupby(
        ["mechanism", "like", "findings", heads["epsilon"].fillna(-1)], sort=False
    ):
        by_seed = {row["head"]: figures(row["head"], cohort, linkage, used) for _, row in group.iterrows()}
        by_seed = {name: found for name, found in by_seed.items() if found}
        if not by_seed:
            continue
        name, first = next(iter(by_seed.items()))
        spread = {}
        for key, value in first.items():
            figure = "recall" if isinstance(value, dict) and "recall" in value else "after"
            values = [found[key][figure] for found in by_seed.values() if isinstance(found.get(key), dict)]
            if len(values) > 1:
                spread[key] = [min(values), max(values)]
        about = group.iloc[0]
        n_declared = len(findings.split(", ")) if findings else 0
        rows.append(
            {
                "mechanism": mechanism,
                "like": like,
                "n_declared": n_declared,
                "declared": findings.split(", ") if 0 < n_declared < 14 else n_declared,
                "epsilon": None if epsilon == -1 else "inf" if math.isinf(epsilon) else epsilon,
                "delta": None if math.isnan(about["delta"]) else about["delta"],
                "kind": about["kind"],
                "accuracy_at_even_odds": None if math.isnan(about["accuracy"]) else about["accuracy"],
                "claim": about["claim"],
                "head": name,
                "n_seeds": len(by_seed),
                **first,
                "over_seeds": spread,
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]], title: str, pools: tuple[int, ...]) -> str:
    def per_ten_thousand(row: dict[str, Any], key: str) -> str:
        if key not in row:
            return "-"
        value = row[key]
        text = f"{1e4 * value['recall']:.0f} ({1e4 * value['recall_low']:.0f}-{1e4 * value['recall_high']:.0f})"
        if key in row["over_seeds"]:
            text += " [{:.0f}-{:.0f}]".format(*(1e4 * end for end in row["over_seeds"][key]))
        return text if not key.startswith(measured.WORST) else f"{text} {value['named']}"

    def auroc(row: dict[str, Any], key: str) -> str:
        if key not in row:
            return "-"
        value = row[key]
        text = f"{100 * value['after']:.1f} ({100 * value['difference']:+.1f})"
        return text + (
            " [{:.1f}-{:.1f}]".format(*(100 * end for end in row["over_seeds"][key]))
            if key in row["over_seeds"]
            else ""
        )

    columns = [f"{attacker}, N={n:,}" for n in pools for attacker in ("cosine", "worst")]
    head = [
        "mechanism",
        "epsilon",
        "right at most",
        *columns,
        "probe",
        "declared",
        "undeclared",
        "zero-shot",
        "same findings",
    ]
    lines = [f"### {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        name = row["mechanism"] + (f" like {row['like']}" if row["like"] else "")
        name += f", {row['n_declared']} declared" if 0 < row["n_declared"] < 14 else ""
        sure = row["accuracy_at_even_odds"]
        cells = [
            name,
            "-" if row["epsilon"] is None else str(row["epsilon"]),
            f"{100 * sure:.1f}%" if sure else "none",
            *(per_ten_thousand(row, f"{attacker}_{n}") for n in pools for attacker in ("cosine", measured.WORST)),
            *(auroc(row, key) for key in MEASURES),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rounded(value: Any) -> Any:
    """Numbers to six digits, for JSON."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=SHIPPED)
    parser.add_argument("--cohort", default="phantom")
    parser.add_argument("--model", default="phantom-radiology")
    options = parser.parse_args()
    entry = Store(options.store).open(options.cohort, options.model)
    heads, linkage, used = measured.heads(entry), measured.linkage(entry), measured.utility(entry)
    order = {name: i for i, name in enumerate([OFF_THE_SHELF, *(one.name for one in grid.grid(grid.frequent(entry)))])}
    heads = heads.assign(place=heads["head"].map(order).fillna(len(order))).sort_values("place")
    kinds = [
        "off-the-shelf",
        "label-oneshot",
        "label-dpsgd",
        "moment-oneshot",
        "public-negatives",
        "paper",
        "noise-only",
    ]
    place = heads["mechanism"].map({name: i for i, name in enumerate(kinds)}).fillna(len(kinds))
    full = heads["findings"].str.count(", ").where(heads["findings"] != "", 13) < 13
    heads = heads.assign(kind_place=place, few=full).sort_values(
        ["kind_place", "like", "few", "epsilon", "seed"], kind="stable"
    )
    cohorts = [options.cohort, *sorted(set(linkage["cohort"]) - {options.cohort})]
    tables = {cohort: rows_of(heads, cohort, linkage, used) for cohort in cohorts}
    raw = linkage[(linkage["release"] == "raw-images") & (linkage["attacker"] == measured.WORST)]
    result = {
        "model": options.model,
        "release": RELEASE,
        "scope": measured.ILLUSTRATION,
        "chosen": "recipes: finetune's defaults; attackers, probes and the short declared list: attacker's split; "
        "worst attacker: the best in pools of 100, one for all N; else nothing on the held-out split",
        "trained_on": next(
            (
                record["trained_on"]
                for name in measured.head_names(entry)
                if (record := entry.head_record(name))["trained_on"]
            ),
            None,
        ),
        "raw_images": raw[["cohort", "pool_size", "recall", "recall_low", "recall_high", "lift", "named"]].to_dict(
            "records"
        ),
        "tables": tables,
    }
    text = json.dumps(rounded(result)) + "\n"  # with indents and all digits it is a quarter of a megabyte
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")
    print("Images linked in 10,000 (95% interval) [range over seeds]; AUROC in points (change) [range over seeds].")
    for cohort, rows in tables.items():
        print("\n" + markdown(rows, cohort, (100, 10_000) if cohort == options.cohort else (100, 1000)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
