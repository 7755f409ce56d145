"""How many more are linked where a whole archive is held unpaired, and where sex and age of the candidates are known?

    python benchmarks/archives.py [--store DIR] [--models a,b] [--heads a,b] [--attackers a,b] [--repeats 200]

For each rung, off the shelf and under some heads, and each attacker: the share named right in either game, at N = 100
and 1,000, by what is known of the candidates besides. In archives `alone` is the same attacker on the same archives,
each image by itself; `gain` is what the archive in view adds, and `over_reader` what the attacker names more than the
reader does, both on the same archives, with their 95% intervals.

`coverage`: how often the interval of archive.share holds the truth, on simulated patients (the mean of all repeats),
and how often that of rate_intervals would, which takes the images of an archive for independent.

Writes benchmarks/archives.json after every model and head, so that a run that is stopped keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from linkage_core.attacks import archive, beside
from linkage_core.attacks.archive import Played, Share
from linkage_core.attacks.asked import GAMES, KNOWS
from linkage_core.attacks.attackers import ATTACKERS, COSINE, EVERYTHING, READER, allowed
from linkage_core.attacks.held import Asked, hold
from linkage_core.attacks.home import Tried, tried
from linkage_core.attacks.scored import Scored
from linkage_core.ranking import intervals, pools
from linkage_core.store.entry import LADDER, OFF_THE_SHELF, Entry, Store

HERE = Path(__file__).resolve().parent
SIZES = (100, 1000)
HEADS = (OFF_THE_SHELF, "label-oneshot-eps0.34-seed0")
ASKED = (READER, COSINE, "dual-encoder", "dual-and-reader")
SIMULATED = ((2, "assigned"), (20, "assigned"), (20, "balanced"), (100, "balanced"))
"""Size of the archives and way, of 600 simulated patients."""


def rounded(found: Share) -> list[float | None]:
    """Estimate, low, high."""
    numbers = (found.estimate, found.low, found.high)
    return [None if np.isnan(one) else round(float(one), 5) for one in numbers]


def figures(entry: Entry, head: str, attackers: list[str]) -> list[dict[str, Any]]:
    """Rows of one head: attackers by games by what is known."""
    held = hold(entry, head)
    rows: list[dict[str, Any]] = []
    readers: dict[tuple[str, int], Played] = {}
    for attacker in attackers:
        start = time.process_time()
        plainly = tried(held, attacker)
        learning = time.process_time() - start
        for knows in KNOWS:
            start = time.process_time()
            one = plainly if knows == "nothing" else beside.knowing(plainly, *beside.known_of(entry, knows), knows)
            who = {"model": entry.model, "head": head, "attacker": attacker, "knows": knows}
            how = {"chosen": one.answer.chosen, "learning_seconds": round(learning, 1)}
            counts = held.ranked(one.answer)
            for n in SIZES:
                single = intervals.rate_intervals(pools.expected_recall(counts, n, 1), held.query_group)
                found = [single.estimate[0], single.low[0], single.high[0]]
                rows.append(who | {"game": "image", "N": n, "share": [round(float(x), 5) for x in found]} | how)
            for n in SIZES:
                played = archive.play(one, n)
                readers.setdefault((knows, n), played)
                rows.append(who | {"game": "archive", "N": n} | _archive(played, readers[knows, n]) | how)
                rows[-1]["seconds"] = round(time.process_time() - start, 1)
    return rows


def _archive(played: Played, reader: Played) -> dict[str, Any]:
    return {
        "share": rounded(played.share()),
        "alone": rounded(played.alone()),
        "gain": rounded(archive.compare(played, replace(played, hits=played.alone_hits))),
        "over_reader": rounded(archive.compare(played, reader)),
        "way": played.way,
        "n_archives": int(played.archives.shape[1]),
        "rounds": len(played.archives),
    }


def simulated(seed: int, n: int = 600) -> Tried:
    """Patients of three traits, seen with some error; a quarter of the reports are one of three."""
    rng = np.random.default_rng([seed, n])
    traits = rng.standard_normal((n, 3))
    alike = rng.random(n) < 0.25
    traits[alike] = 0.7 * np.random.default_rng(1).standard_normal((3, 3))[rng.integers(0, 3, alike.sum())]
    texts, text_of = np.unique(traits, axis=0, return_inverse=True)
    seen = traits + rng.standard_normal(traits.shape)
    reports = np.column_stack([texts, -0.5 * (texts**2).sum(axis=1)])
    nothing, who = np.zeros((n, 0)), np.arange(n)
    asked: Any = Asked(nothing, nothing, texts, nothing, text_of.ravel(), who, who, who)
    return Tried(asked, Scored(np.column_stack([seen, np.ones(n)]), reports), who)


def coverage(n: int, way: str, repeats: int) -> dict[str, Any]:
    """Of simulated cohorts, the share whose interval holds the truth; the way fixed, T 0.5."""
    archive.DEFAULT = (way, 0.5)  # type: ignore[assignment]
    estimates, ends, naive = [], [], []
    for seed in range(repeats):
        played = archive.play(simulated(seed), n, seed)
        found = played.share()
        rates = intervals.rate_intervals(played.hits.ravel(), played.archives.ravel(), seed=seed, draws=1000)
        estimates.append(found.estimate)
        ends.append((found.low, found.high))
        naive.append((rates.low[0], rates.high[0]))
    truth = float(np.mean(estimates))

    def held(these: list[tuple[float, float]]) -> float:
        return round(float(np.mean([low <= truth <= high for low, high in these])), 3)

    return {"N": n, "way": way, "repeats": repeats, "truth": round(truth, 4), "share": held(ends), "naive": held(naive)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=HERE.parent / "cached_embeddings")
    parser.add_argument("--models", default=",".join(reversed(LADDER)))
    parser.add_argument("--heads", default=",".join(HEADS))
    parser.add_argument("--attackers", default=",".join(ASKED))
    parser.add_argument("--repeats", type=int, default=200, help="Of the simulation of coverage; 0 leaves it out.")
    parser.add_argument("--out", type=Path, default=HERE / "archives.json")
    options = parser.parse_args()
    asked = [one for one in options.attackers.split(",") if one in ATTACKERS]
    content: dict[str, Any] = {"cohort": "phantom", "release": EVERYTHING, "games": GAMES, "rows": []}
    with threadpool_limits(1, user_api="blas"):
        for model in options.models.split(","):
            entry = Store(options.store).open("phantom", model)
            for head in options.heads.split(","):
                start = time.process_time()
                able = [one for one in asked if one in allowed(EVERYTHING, head)]
                content["rows"] += figures(entry, head, able)
                print(f"{model}, {head}: {time.process_time() - start:.0f} s", flush=True)
                write(options.out, content)
        if options.repeats:
            content["coverage"] = [coverage(*one, options.repeats) for one in SIMULATED]
    write(options.out, content)
    for row in content["rows"]:
        print(*(row[name] for name in ("model", "head", "attacker", "game", "knows", "N")), row["share"])
    for row in content.get("coverage", []):
        print(row)
    return 0


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
