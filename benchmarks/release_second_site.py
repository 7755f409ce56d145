"""Releases of another site: attackers and readers come from site A, the records that leave from site B.

Run: python benchmarks/release_second_site.py [--store DIR] [--out FILE]. Minutes. Attackers learn from site A's split
`attacker` and link the images of every study of phantom-site-b, in the game that limits are about: one image a study,
every other study a candidate. The codebook is made of phantom-finetune, patients of site A whom neither attackers nor
site B have, so nothing of site B is known before its records leave. Readers are trained at site A too, on its records
released in the same way, and read site B's findings. Three seeds: of the codebook, of noise, of what attackers choose.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS
from linkage_core.lab import frontier, frontier_build, grid
from linkage_core.lab.measured import WORST
from linkage_core.release import measured
from linkage_core.release.kind import Mechanism
from linkage_core.release.kinds import codes
from linkage_core.release.kinds.capped import Cap, directed
from linkage_core.release.kinds.embeddings import gaussian
from linkage_core.store.entry import Entry, Store
from linkage_core.utility.probe import states_of

LIMITS, SEEDS, SIZES = (30, 100), (0, 1, 2), (100, 1000)


def mechanisms(public: Entry, listed: tuple[str, ...], seed: int) -> Iterator[tuple[str, dict[str, Any], Mechanism]]:
    """(name, option as frontier.certified takes it, mechanism)."""
    none = dict.fromkeys(("mu", "limit", "epsilon"), np.nan)
    yield "clean", {**none, "kind": "embeddings"}, gaussian(0.0)
    for limit in LIMITS:
        book = codes.public_codebook(public, limit, listed, seed)
        yield f"codes, K = {limit}", {**none, "kind": "codes", "limit": limit}, codes.coded(book)
        cap = Cap.of(len(public.heads().image.weight), limit)
        yield f"capped, L = {limit}", {**none, "kind": "capped", "limit": limit}, directed(cap)


def measure(site_a: Entry, site_b: Entry, public: Entry, seed: int) -> Iterator[dict[str, Any]]:
    """One row for each mechanism and N."""
    listed = grid.frequent(site_a)
    own = site_a.records("attacker")
    clean = site_a.clean_images(own["record_id"])
    states, patients = states_of(own), own["patient_id"].to_numpy(str)
    before = frontier_build.clean_probe(site_a, "attacker")
    for name, option, mechanism in mechanisms(public, listed, seed):
        started = time.monotonic()
        rng = np.random.default_rng([seed, 51])
        reader = frontier_build.read_by(mechanism, clean, states, patients, rng)
        read: dict[str, Any] = {}
        for findings, of in (("all", LABELS), ("declared", listed)):
            row = frontier_build.trained_rows(site_b, reader, of, "site A", before=before)[0]
            read |= {f"auroc {findings}": [row[f"auroc{end}"] for end in ("", "_low", "_high")]}
            read |= {f"points {findings}": [100 * row[f"difference{end}"] for end in ("", "_low", "_high")]}
        rows = frontier_build.linked(site_b, name, mechanism, source=site_a, seed=seed)
        for row in rows:
            n = row["pool_size"]
            if row["attacker"] == WORST and n in SIZES:
                certified = frontier.certified(option, n)
                yield {
                    **{"release": name, "seed": seed, "N": n, "worst": row["named"], "n_queries": row["n_queries"]},
                    **{"lift": [row[f"recall{end}"] * n for end in ("", "_low", "_high")]},
                    **{"certified": certified if certified < n else None},
                    # of each attacker by itself, which the limit of a code bounds exactly
                    "largest": n
                    * max(one["recall"] for one in rows if one["pool_size"] == n and one["attacker"] != WORST),
                    **read,
                    "seconds": time.monotonic() - started,
                }


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean over seeds with the least low and the greatest high end: what is printed."""
    shown = []
    for (release, n), runs in rows.groupby(["release", "N"], sort=False):
        row: dict[str, Any] = {"release": release, "N": n}
        for name in ("lift", "auroc all", "auroc declared", "points all"):
            ends = np.array(runs[name].tolist())
            digits = 3 if name.startswith("auroc") else 1
            row[name] = "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(
                ends[:, 0].mean(), ends[:, 1].min(), ends[:, 2].max(), d=digits
            )
            if name == "lift":
                row["certified"] = runs["certified"].iloc[0]
        shown.append(row)
    return pd.DataFrame(shown)


def rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("cached_embeddings"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/release_second_site.json"))
    options = parser.parse_args()
    store = Store(options.store)
    site_a, site_b, public = (
        store.open(name, "phantom-radiology") for name in ("phantom", "phantom-site-b", "phantom-finetune")
    )
    started = time.monotonic()
    rows = [row for seed in SEEDS for row in measure(site_a, site_b, public, seed)]
    print("Worst attacker's lift on site B, and findings read; mean over seeds, least low and greatest high end")
    print(over_seeds(pd.DataFrame(rows)).to_string(index=False, na_rep="none"))
    about = {
        "attackers and readers": "site A, split attacker",
        "codebook": f"phantom-finetune of site A, {len(public.records(public.default_split)):,} records",
        "game": f"one image a study, every other study a candidate, {measured.ROUNDS} rounds",
        "seconds": round(time.monotonic() - started, 1),
    }
    table = pd.DataFrame(rows)
    means = [
        {"release": release, "N": n}
        | {name: rounded(float(np.mean([one[0] for one in runs[name]]))) for name in ("lift", "auroc all")}
        for (release, n), runs in table.groupby(["release", "N"], sort=False)
    ]
    found = {**about, "means": means, "rows": [{name: rounded(value) for name, value in row.items()} for row in rows]}
    options.out.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
