"""May this head be measured on these patients? Nobody is measured on patients who trained it.

One answer for every measurement: audit, attacks, utility, release. A head's record names the cohort and the split that
trained it, never patients, so the answer is put together from what is at hand: the record, the entry's own table, the
larger cohort that an entry was cut from, and the patients of the training cohort where a store has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from linkage_core.cohorts.base import ATTACKER, HELDOUT, SPLITS
from linkage_core.errors import InputError
from linkage_core.store.entry import OFF_THE_SHELF, Entry


def refuse_seen(entry: Entry, head: str, split: str, source: Entry | None = None) -> None:
    """InputError if a head was trained on patients of a split that is to be measured; it says on how many.

    source: the entry that has the head, where it is another one. The pairs of a public cohort that a mechanism learns
    from (its record's `public`) trained the head as much as the private ones.
    """
    source = source or entry
    seen, n_patients = _seen_of(entry, head, split, source)
    if seen:
        raise InputError(
            f"The head {head!r} was trained on patients of {entry.cohort}, split {split!r}: {seen:,} of "
            f"{n_patients:,} helped to train it, or may have, where the cohort was read again since.",
            "Measure it on patients it has not seen: another split, or another cohort; or train it again.",
        )


def _seen_of(entry: Entry, head: str, split: str, source: Entry) -> tuple[int, int]:
    """(how many patients of a split a head was trained on, of how many); the most, where it was trained twice."""
    record = source.head_record(head)
    patients = np.unique(entry.records(split)["patient_id"].to_numpy(str))
    trained = [one for one in (record.get("trained_on"), record.get("public")) if one]
    return max((_seen(entry, source, patients, one) for one in trained), default=0), len(patients)


def _seen(entry: Entry, source: Entry, patients: np.ndarray, trained: Mapping[str, Any]) -> int:
    """How many of `patients` (n,) were trained on, as far as the record and the stores at hand can tell.

    Where the training cohort was read again since, with another split or other patients, who was in the split that
    trained is not known any more: then all of its patients count.
    """
    seen: set[str] = set()
    told = trained.get("fingerprint")  # a head that came as a file alone tells the cohort's name and no more
    if told is not None and told in _tables(entry):
        seen |= _patients(entry, trained)
    for store in {one.store.root: one.store for one in (entry, source)}.values():
        if entry.model in store.models(trained["cohort"]):
            now = store.open(trained["cohort"], entry.model)
            seen |= _patients(now, trained if told in (None, *_tables(now)) else {**trained, "split": "all"})
    return len(seen.intersection(patients))


def _tables(entry: Entry) -> tuple[Any, Any]:
    """Fingerprints of an entry's cohort: of this very table, and of the one that it was cut from."""
    cohort = entry.manifest["cohort"]
    return cohort["fingerprint"], (cohort.get("subset_of") or {}).get("fingerprint")


def _patients(entry: Entry, trained: Mapping[str, Any]) -> set[str]:
    """Patients of the split that trained, in the entry of the training cohort; none where it has no such split."""
    records = entry.records()
    split = trained.get("split", entry.default_split)
    if split != "all":
        records = records[records["split"] == split]
    return set(records["patient_id"])


def trained_words(record: Mapping[str, Any]) -> str:
    """What a head was trained on, in words for the site; "" for one that no pairs made."""
    trained = record.get("trained_on")
    if not trained:
        return ""
    whose = f"{trained.get('cohort', 'a cohort without a name')}{' (synthetic)' if trained.get('synthetic') else ''}"
    if "n_pairs" not in trained:
        return f"pairs of {whose}; how many, and which, is not told: the head came from elsewhere"
    return f"{trained['n_pairs']:,} pairs of {trained['n_patients']:,} patients of {whose}"


def same_weights(entry: Entry, other: Entry) -> None:
    """InputError if two entries were embedded with other weights: a head fits the features it was made for."""
    hashes = [one.manifest["model"].get("weights_sha256") for one in (entry, other)]
    if entry.model != other.model or hashes[0] != hashes[1]:
        raise InputError(
            f"{other.cohort}/{other.model} was embedded with other weights than {entry.cohort}/{entry.model}.",
            "Embed both with the same model.",
        )


def asked_split(entry: Entry, head: str = OFF_THE_SHELF, split: str | None = None) -> str:
    """The split that a question is about: as asked, else the default one; the tested one where a head has seen
    patients of the default one."""
    if split or head == OFF_THE_SHELF:
        return split or entry.default_split
    return entry.tested_split if _seen_of(entry, head, entry.default_split, entry)[0] else entry.default_split


def split_apart(entry: Entry, source: Entry | None = None) -> str:
    """Whose records of `entry` are asked about, where heads, attackers and probes come from `source`.

    From the entry itself (the default) they have learnt from its other patients; from another cohort they have not.
    """
    here = source is None or source.cohort == entry.cohort
    return entry.tested_split if here else entry.default_split


def why_untested(entry: Entry, *, attackers: bool = True) -> InputError | None:
    """Why nothing that learns from this cohort can be tested on it, None where it can.

    Two patients must be held out, for a pool needs two; and, unless no attacker has part in it, one be the attacker's.
    """
    counts = entry.records().groupby("split")["patient_id"].nunique()
    least = {HELDOUT: 2} | ({ATTACKER: 1} if attackers else {})
    if all(counts.get(name, 0) >= n for name, n in least.items()):
        return None
    there = ", ".join(f"{name} {counts.get(name, 0):,}" for name in SPLITS)
    return InputError(
        f"{entry.cohort} has too few patients in its splits ({there}): attackers learn from those of their own, "
        "and two or more must be held out to be asked about.",
        "Read the cohort again with other shares (--splits 40/30/30), another --seed, or more patients.",
    )


def usable(entry: Entry, source: Entry, head: str, split: str) -> None:
    """May the head that `source` has be measured on this split of `entry`? InputError where the two come from other
    weights, or where the head was trained on patients of the split."""
    same_weights(entry, source)
    if head != OFF_THE_SHELF:
        refuse_seen(entry, head, split, source)


def noised(vectors: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """One release of each row under Gaussian output noise; float32, not scaled to norm 1 again."""
    if sigma == 0:
        return vectors
    return np.asarray(vectors + sigma * rng.standard_normal(vectors.shape, dtype=np.float32), dtype=np.float32)


def noise_of(entry: Entry, head: str, noise: float | None = None) -> float:
    """The output noise of a head, as given or else as its record says."""
    return float(entry.head_record(head).get("output_noise") or 0.0) if noise is None else float(noise)
