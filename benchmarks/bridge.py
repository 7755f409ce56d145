"""How far two public encoders that never met go on real radiographs: attacks.bridge on ../shared/data/covid-chestxray.

    PYTHONPATH=. python benchmarks/bridge.py --out benchmarks/bridge.json

159 radiographs of 82 patients with their clinical notes, EfficientNet-Lite0 and all-MiniLM-L6-v2 out of packages. Five
folds by patient (patients who share a file are one), the bridge learnt on four, asked about the fifth: pools of 10 are
the match and 9 notes of other patients of that fold. Five seeds draw the folds anew. AUC: the chance that the match is
scored above a random other note, ties half; "one view" counts notes of studies with the query's view alone.
"shuffled": the same with the notes dealt out anew among the studies, so that no image belongs to its note.
Intervals: 95%, bootstrap over patients.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from linkage_core.attacks.bridge import bridge
from linkage_core.attacks.held import Held, Unpaired
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed.embedding import embed
from linkage_core.encoders.registry import load_encoder
from linkage_core.ranking import intervals, pools
from linkage_core.store.entry import Entry, Store

MODEL, COHORT, N, FOLDS, SEEDS = "efficientnet-lite0-minilm", "covid-chestxray", 10, 5, 5


def folds(features: np.ndarray, patient: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(fold of each row, who it is): rows of one patient, or with one image, are one person's and in one fold."""
    person = np.unique(patient, return_inverse=True)[1]
    image = np.unique(features, axis=0, return_inverse=True)[1].ravel()
    for one in range(image.max() + 1):
        same = np.unique(person[image == one])
        person[np.isin(person, same)] = same[0]
    people = np.unique(person)
    place = np.random.default_rng([seed, 7]).permutation(len(people)) % FOLDS
    return place[np.searchsorted(people, person)], person


def held_of(entry: Entry, fold: np.ndarray, person: np.ndarray, one: int, key_of: dict[str, str]) -> Held:
    """What the bridge holds where one fold is asked about. key_of: the report of each study."""
    records = entry.records()
    mine, asked = (np.flatnonzero(where) for where in (fold != one, fold == one))
    studies = records["study_id"].to_numpy(str)
    candidates, first = np.unique(studies[asked], return_index=True)
    texts, text_of = np.unique([key_of[study] for study in candidates], return_inverse=True)
    ids = records["record_id"].to_numpy(str)
    none, blank = np.empty((len(texts), 0)), np.ones((len(records), 1), np.float32)
    heads = entry.heads()
    return Held(
        released=blank[asked],
        images=blank[asked],
        texts=blank[: len(texts)],
        findings=none,
        text_of=text_of,
        match=np.searchsorted(candidates, studies[asked]),
        query_group=person[asked].astype(str),
        candidate_group=person[asked][first].astype(str),
        own_released=blank[mine],
        own_clean=blank[mine],
        own_images=blank[mine],
        own_texts=blank[mine],
        own_findings=np.empty((len(mine), 0)),
        own_group=person[mine].astype(str),
        heads=heads,
        off_the_shelf=heads,
        unpaired=Unpaired(
            MODEL, True, entry.features, entry.features, ids[asked], texts, ids[mine],
            np.array([key_of[study] for study in studies[mine]]),
        ),
    )  # fmt: skip


def of_seed(entry: Entry, seed: int, shuffled: bool) -> dict[str, Any]:
    """Recall@1 at N, AUC and AUC within one view of one draw of the folds."""
    records = entry.records()
    studies = records.drop_duplicates("study_id")
    keys = studies["report_key"].to_numpy(str)
    if shuffled:
        keys = np.random.default_rng([seed, 8]).permutation(keys)
    key_of = dict(zip(studies["study_id"].astype(str), keys, strict=True))
    fold, person = folds(entry.features("image", records["record_id"]), records["patient_id"].to_numpy(str), seed)
    view = records["view"].fillna("").to_numpy(str)
    recall, wins, within = np.full((3, len(records)), np.nan)
    for one in range(FOLDS):
        held = held_of(entry, fold, person, one, key_of)
        rows = np.flatnonzero(fold == one)
        answer = bridge(held, np.arange(len(held.own_group)), seed, True)
        recall[rows] = pools.expected_recall(held.ranked(answer), N, 1)
        scores = answer.block(np.arange(len(rows)), held.text_of)
        own = scores[np.arange(len(rows)), held.match][:, None]
        others = held.query_group[:, None] != held.candidate_group[None, :]
        study = records["study_id"].to_numpy(str)[rows]
        seen = {name: set(study[view[rows] == name]) for name in np.unique(view[rows])}
        candidates = np.unique(study)
        same = np.array([[name in seen[v] for name in candidates] for v in view[rows]])
        beaten = (scores < own) + 0.5 * (scores == own)
        for into, eligible in ((wins, others), (within, others & same)):
            n = eligible.sum(axis=1)
            into[rows[n > 0]] = ((beaten * eligible).sum(axis=1) / np.maximum(n, 1))[n > 0]
    found = intervals.cluster_bootstrap(np.column_stack([recall, wins, within]), person.astype(str), seed=seed)
    row: dict[str, Any] = {"seed": seed, "notes": "shuffled" if shuffled else "their own", "N": N, "chance": 1 / N}
    for i, name in enumerate(("recall", "auc", "auc_one_view")):
        row |= {
            name: round(float(found.estimate[i]), 4),
            f"{name}_low": round(float(found.low[i]), 4),
            f"{name}_high": round(float(found.high[i]), 4),
        }
    return row | {"n_images": len(records), "n_patients": int(records["patient_id"].nunique())}


def embedded(root: Path, store: Store) -> Entry:
    """The collection as the two encoders see it."""
    cohort = open_cohort(COHORT, root)
    return embed(cohort, load_encoder(MODEL, store_root=store.root), store)


def table(entry: Entry, seeds: int = SEEDS) -> dict[str, Any]:
    """Every seed with the notes their own and shuffled, and over the seeds their mean, least and most."""
    rows = [of_seed(entry, seed, shuffled) for shuffled in (False, True) for seed in range(seeds)]
    over = []
    for notes in ("their own", "shuffled"):
        some = [row for row in rows if row["notes"] == notes]
        over.append({"notes": notes, "seeds": seeds, "N": N} | {
            f"{name}_{what}": round(float(of([row[name] for row in some])), 4)
            for name in ("recall", "auc", "auc_one_view")
            for what, of in (("mean", np.mean), ("least", np.min), ("most", np.max))
        })  # fmt: skip
    return {"cohort": COHORT, "model": MODEL, "folds": FOLDS, "over_seeds": over, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data" / COHORT)
    parser.add_argument("--store", type=Path, help="Where the features are kept. Default: nowhere.")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        entry = embedded(given.data, Store(given.store or Path(scratch)))
        content = table(entry)
    content["seconds"] = round(time.perf_counter() - start, 1)
    text = json.dumps(content, indent=1) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
