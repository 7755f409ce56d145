"""The frontier of the phantom as a table, and the prize: is there a release that links little and loses nothing?

Run: python benchmarks/frontier.py [--store DIR] [--out FILE]. Reads the kept tables (made by `linkage phantom build
--lab`); prints and writes every option at N = 10,000, the mean over seeds with its range. Besides: which measured
figures of records lie above their certified limit at any N; and clean embeddings asked as heads are and as released
records are, by which the two can be compared (measured anew, half a minute).

The prize: the strongest attacker's Recall@1 at N = 10,000 down by at least 61.8%, macro AUROC within 0.2 points of the
clean probe, undeclared findings within 2 points, certified.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from linkage_core.lab import frontier, frontier_build
from linkage_core.lab.measured import WORST
from linkage_core.release.ceiling import POPULATIONS
from linkage_core.release.kinds.embeddings import gaussian
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

N = 10_000
FALL, ALL, OTHERS = 0.618, 0.2, 2.0


def rows_of(table: pd.DataFrame, before: float) -> list[dict[str, Any]]:
    """One row for each setting: lift measured and certified, AUROC in points less than clean, mean over seeds."""
    found = []
    for _, group in table.groupby(["kind", "parameter", "value", "listed"], dropna=False, sort=False):
        row: dict[str, Any] = {name: group[name].iloc[0] for name in ("kind", "parameter", "value", "listed")}
        row |= {"seeds": len(group), "measured": mean(group["measured"]), "certified": mean(group["certified"])}
        row["certified_paired"] = mean(group["certified_paired"])
        row["range"] = [number(group["measured"].min()), number(group["measured"].max())]
        for name in ("declared", "undeclared"):
            row[name] = mean(100 * group[f"{name}_difference"])
        parts = [row[name] for name in ("declared", "undeclared") if row[name] is not None]
        row["macro"] = number(sum(parts) / len(parts)) if len(parts) == 2 else None  # seven findings each
        row["fall"] = None if row["measured"] is None else number(1 - row["measured"] / before)
        row["certified_fall"] = None if row["certified"] is None else number(1 - row["certified"] / before)
        row["prize"] = bool(
            row["certified_fall"] is not None
            and row["certified_fall"] >= FALL
            and row["macro"] is not None
            and row["macro"] >= -ALL
            and row["undeclared"] >= -OTHERS
        )
        found.append({name: None if isinstance(v, float) and math.isnan(v) else v for name, v in row.items()})
    return found


def clean_in_both_games(entry: Entry) -> dict[str, Any]:
    """Lift of the worst attacker on clean embeddings with its interval, by population and N."""
    found: dict[str, Any] = {}
    for population, said in POPULATIONS.items():
        rows = frontier_build.linked(entry, "clean", gaussian(0.0), population=population)
        of_n = {
            str(row["pool_size"]): [number(row[f"recall{end}"] * row["pool_size"]) for end in ("", "_low", "_high")]
            for row in rows
            if row["attacker"] == WORST
        }
        found[population] = {"asked": said, "lift, low, high": of_n}
    return found


def above_limit(entry: Entry) -> tuple[int, list[dict[str, Any]]]:
    """(how many figures of codes and capped were compared, those above their certified limit); every attacker and N."""
    options = {one["option"]: one for one in frontier.dicts(frontier.options_of(entry))}
    compared, found = 0, []
    for row in frontier.dicts(frontier.linkage(entry)):
        option, n = options[row["option"]], row["pool_size"]
        if not frontier.labelled(option["kind"]) or row["attacker"] == frontier.OMNISCIENT:
            continue
        compared += 1
        limit = frontier.certified(option, n) * (2 if row["attacker"] == frontier.LABELLED else 1)
        if row["recall"] * n > limit * (1 + 1e-9):
            ends = [number(row[f"recall{end}"] * n) for end in ("", "_low", "_high")]
            named = {name: row[name] for name in ("option", "attacker", "named")}
            found.append({**named, "n": n, "lift, low, high": ends, "certified": number(limit)})
    return compared, found


def mean(values: pd.Series) -> float | None:
    return number(values.mean())


def number(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("cached_embeddings"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/frontier.json"))
    options = parser.parse_args()
    entry = Store(options.store).open("phantom", "phantom-radiology")
    result: dict[str, Any] = {"n": N}
    for use in frontier.USES:
        table = frontier.frontier(entry, N, use=use, listed_too=True)
        before = float(table.set_index("option").loc[OFF_THE_SHELF, "measured"])
        result["before"] = round(before, 2)
        result[use] = rows_of(table, before)
        print(f"\n{use}: lift at N = {N:,}, off the shelf {before:.1f}; AUROC in points less than clean embeddings")
        shown = pd.DataFrame(result[use])
        print(shown.drop(columns=["range"]).to_string(index=False, na_rep="-"))
    compared, above = above_limit(entry)
    result["above their limit"] = {"compared": compared, "above": above}
    print(f"\n{len(above)} of {compared} figures of codes and capped lie above their certified limit")
    result["clean embeddings"] = clean_in_both_games(entry)
    print(f"clean embeddings: {json.dumps(result['clean embeddings'])}")
    options.out.write_text(json.dumps(result, default=str) + "\n")


if __name__ == "__main__":
    main()
