"""The frontier of the phantom as a table, and the prize: is there a release that links little and loses nothing?

Run: python benchmarks/frontier.py [--store DIR] [--out FILE]. Reads the kept tables (made by `linkage phantom build
--frontier`); prints and writes every option at N = 10,000, the mean over seeds with its range.

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

from linkage_core import frontier
from linkage_core.store import OFF_THE_SHELF, Store

N = 10_000
FALL, ALL, OTHERS = 0.618, 0.2, 2.0


def rows_of(table: pd.DataFrame, before: float) -> list[dict[str, Any]]:
    """One row for each setting: lift measured and certified, AUROC in points less than clean, mean over seeds."""
    found = []
    for _, group in table.groupby(["kind", "parameter", "value", "listed"], dropna=False, sort=False):
        row: dict[str, Any] = {name: group[name].iloc[0] for name in ("kind", "parameter", "value", "listed")}
        row |= {"seeds": len(group), "measured": mean(group["measured"]), "certified": mean(group["certified"])}
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
    options.out.write_text(json.dumps(result, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
