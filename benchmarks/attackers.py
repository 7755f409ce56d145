"""Every attacker against the reader, on the same queries: off the shelf on each rung, and by mechanism.

    PYTHONPATH=. python benchmarks/attackers.py --out benchmarks/attackers.json
    PYTHONPATH=. python benchmarks/attackers.py --short          # two targets, printed
    PYTHONPATH=. python benchmarks/attackers.py --short --known 5000 --out benchmarks/attackers.json

One row an attacker, target and N: Recall@1 with its patient-clustered 95% interval, the difference to the reader on the
same queries with its own, and the seconds of one core that it took. Attackers are those whom the release allows in the
table, those of installed packages too; whoever needs the raw images is asked off the shelf alone. Targets that are
there already in --out are kept, so a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from linkage_core.attacks.attack import acts, attack
from linkage_core.attacks.attackers import EVERYTHING, IMAGES, READER, allowed
from linkage_core.attacks.held import Known, hold
from linkage_core.audit.study import Study
from linkage_core.ranking import intervals
from linkage_core.store.entry import LADDER, OFF_THE_SHELF, Entry, Store

COHORT, SIZES = "phantom", (100, 1000, 10_000)
HEADS = (
    *("label-oneshot-eps0.34-seed0", "label-dpsgd-eps0.34-seed0", "moment-oneshot-eps0.34-seed0"),
    *("public-negatives-eps0.34-seed0", "paper-eps0.34-seed0", "noise-only-label-oneshot-eps0.34-seed0"),
    *("noise-only-paper-eps0.34-seed0", "output-noise-seed0", "concept-span-seed0", "public-labels-seed0"),
    *("nonprivate-label-dpsgd-seed0", "random-heads-seed0", "rotation-seed0", "truncate-seed0"),
)
SHORT = (("phantom-radiology", OFF_THE_SHELF), ("phantom-radiology", HEADS[0]))


def targets() -> list[tuple[str, str]]:
    return [*((model, OFF_THE_SHELF) for model in LADDER), *((LADDER[-1], head) for head in HEADS)]


def measured(
    entry: Entry, head: str, names: Sequence[str] = (), m: Known = "all", seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of one target; `names` limits the attackers (the reader is always among them)."""
    held = hold(entry, head, seed=seed)
    plan = [(name, EVERYTHING) for name in allowed(EVERYTHING, head) if acts(name, held)]
    if head == OFF_THE_SHELF:
        plan += [(name, IMAGES) for name in allowed(IMAGES) if acts(name, held)]
    found: dict[str, Study] = {}
    seconds: dict[str, float] = {}
    chosen: dict[str, str] = {}
    releases = {}
    for name, release in plan:
        if names and name not in {*names, READER}:
            continue
        start = time.process_time()
        with threadpool_limits(1):
            one = attack(entry, head, name, release, m, seed, held=held)
        found[name], chosen[name], releases[name] = one.study, one.chosen, release
        seconds[name] = round(time.process_time() - start, 1)
    patients = held.query_group
    rows = []
    for n in SIZES:
        recalls = {name: study.recall(n, 1)[0] for name, study in found.items()}
        columns = np.column_stack([*recalls.values(), *(one - recalls[READER] for one in recalls.values())])
        interval = intervals.cluster_bootstrap(columns, patients, seed=seed)
        for i, name in enumerate(recalls):
            j = i + len(recalls)
            rows.append(
                {"model": entry.model, "head": head, "release": releases[name], "attacker": name, "N": n}
                | _named("recall", interval, i)
                | (_named("minus_reader", interval, j) if name != READER else {})
                | {"n_queries": int((~np.isnan(recalls[name])).sum()), "n_patients": len(np.unique(patients))}
                | {"seconds": seconds[name], "chosen": chosen[name]}
            )
    return rows


def _named(what: str, found: Any, column: int) -> dict[str, float]:
    values = {"": found.estimate, "_low": found.low, "_high": found.high}
    return {what + end: round(float(value[column]), 5) for end, value in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("cached_embeddings"))
    parser.add_argument("--out", type=Path, help="JSON to write; what it has already is kept")
    parser.add_argument("--short", action="store_true", help="off the shelf and one head")
    parser.add_argument("--known", default="all", help="own pairs (or images) of each attacker: all, or a number")
    parser.add_argument("--attackers", default="", help="comma-separated; default: all of the table")
    asked = parser.parse_args()
    names = [name for name in asked.attackers.split(",") if name]
    rows = json.loads(asked.out.read_text())["rows"] if asked.out and asked.out.exists() else []
    for model, head in SHORT if asked.short else targets():
        if any((row["model"], row["head"], row["m"]) == (model, head, asked.known) for row in rows):
            continue
        m: Known = "all" if asked.known == "all" else int(asked.known)
        new = [{"m": asked.known, **row} for row in measured(Store(asked.store).open(COHORT, model), head, names, m)]
        rows += new
        for row in new:
            paired = "" if row["attacker"] == READER else (
                f"  {100 * row['minus_reader']:+6.2f} ({100 * row['minus_reader_low']:+.2f} to "
                f"{100 * row['minus_reader_high']:+.2f})"
            )  # fmt: skip
            print(
                f"{model} {head} {row['attacker']:16} N={row['N']:<6} {100 * row['recall']:6.2f}{paired}"
                f"  {row['seconds']} s",
                flush=True,
            )
        if asked.out:
            content = {"cohort": COHORT, "seconds": "of one core", "note": __doc__.split("\n\n")[2], "rows": rows}
            asked.out.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
