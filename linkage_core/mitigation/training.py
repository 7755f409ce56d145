"""The pairs that a mechanism trains on, private and public, and what they must be."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import unit
from linkage_core.mitigation import accounting
from linkage_core.mitigation.objectives import absent
from linkage_core.store.entry import Entry
from linkage_core.store.seen import same_weights

SITE_B = "phantom-site-b"
BANK = 512  # pairs of the public bank


@dataclass(frozen=True)
class Training:
    """The pairs to finetune on, one an image: images (n, d), texts (n, t), labels (n, 14), patients (n,)."""

    source: Entry
    split: str
    images: np.ndarray
    texts: np.ndarray
    labels: np.ndarray
    patients: np.ndarray

    def clean_images(self) -> np.ndarray:
        """(n, e) unit embeddings of the images off the shelf."""
        return unit(self.source.heads().image(self.images))

    def units(self, unit: str) -> np.ndarray:
        """The unit of each pair."""
        return self.patients if unit == "patient" else np.arange(len(self.patients))

    def public_size(self, unit: str, declared: int | None = None) -> int:
        """The number of units that all parameters are made from: as declared, or what accounting.public_size makes of
        the exact one. That of a synthetic cohort is exact: it follows from the seed that made it."""
        if declared is not None:
            return declared
        n = len(np.unique(self.units(unit)))
        return n if self.source.synthetic else accounting.public_size(n)

    def said(self) -> dict[str, Any]:
        """Cohort, split, and what stays at the site (store.entry.SITE_ONLY): the exact table and its size."""
        return {
            "cohort": self.source.cohort,
            "fingerprint": self.source.manifest["cohort"]["fingerprint"],
            "split": self.split,
            "synthetic": self.source.synthetic,
            "n_pairs": len(self.patients),
            "n_patients": len(np.unique(self.patients)),
        }


def training_pairs(entry: Entry) -> Training:
    """The split `finetune` of an entry; where it has none, all of the cohort NAME-finetune beside it.

    Raises InputError where there is neither, or where that cohort was embedded with other weights.
    """
    if (entry.records()["split"] == "finetune").any():
        return pairs_of(entry, "finetune")
    beside = f"{entry.cohort}-finetune"
    try:
        other = entry.store.open(beside, entry.model)
    except StoreError as error:
        how = "linkage phantom build --splits finetune" if entry.cohort == "phantom" else "linkage embed ..."
        raise InputError(
            f"{entry.cohort}/{entry.model} has no split finetune, and the store no cohort {beside}.",
            f"Embed the pairs to train on (into another store, if this one is to stay as it is): {how}",
        ) from error
    same_weights(entry, other)
    return pairs_of(other, "all")


def pairs_of(entry: Entry, split: str) -> Training:
    """All pairs of one split of an entry."""
    records = entry.records(split)
    return Training(
        entry,
        split,
        entry.features("image", records["record_id"]),
        entry.features("text", records["report_key"]),
        records[list(LABELS)].to_numpy(float),
        records["patient_id"].to_numpy(str),
    )


def public_entry(entry: Entry, cohort: str | None) -> Entry:
    """The public cohort, seen by the same model. InputError if none is named, or it is the training cohort itself."""
    cohort = cohort or (SITE_B if entry.cohort == "phantom" else None)
    if cohort is None:
        raise InputError("This mechanism needs a public cohort.", "Name one of the store with --public.")
    if cohort in (entry.cohort, f"{entry.cohort}-finetune"):
        raise InputError(f"{cohort} holds the patients that are to be protected.", "Name another cohort as public.")
    other = entry.store.open(cohort, entry.model)
    same_weights(entry, other)
    return other


def public_bank(entry: Entry, cohort: str | None) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """(images, texts, what to say) of up to BANK public pairs with distinct reports, chosen by a hash of their ids."""
    other = public_entry(entry, cohort)
    records = other.records(other.default_split).drop_duplicates("report_key")
    order = sorted(range(len(records)), key=lambda i: hashlib.sha256(records["record_id"].iloc[i].encode()).digest())
    chosen = records.iloc[order[:BANK]]
    said = {"cohort": other.cohort, "fingerprint": other.manifest["cohort"]["fingerprint"], "n_pairs": len(chosen)}
    images = other.features("image", chosen["record_id"])
    return images, other.features("text", chosen["report_key"]), {"public": said}


def cautions(training: Training, findings: Sequence[str]) -> list[str]:
    """What whoever trains should know of these pairs, in sentences. For the site alone: each may hang on one patient.

    For that reason none of it stops a training, which goes on as if nothing were said. `findings`: those to be learnt.
    """
    names, counts = np.unique(training.patients, return_counts=True)
    most = int(np.argmax(counts))
    said = []
    if len(names) < 2 or 2 * counts[most] >= counts.sum():  # as good as always, missing ids were read as one
        said.append(
            f"Patient {str(names[most])!r} has {counts[most]:,} of the {counts.sum():,} training pairs: a guarantee "
            "for each patient means little here. Check the patient ids."
        )
    nobody = absent(training.labels, findings)
    if nobody:
        said.append(f"Nobody here has {', '.join(nobody)}: what the head says of it is noise.")
    return said


def said_of(found: Sequence[str]) -> dict[str, Any]:
    """Cautions as part of a record; nothing where there are none."""
    return {"cautions": list(found)} if found else {}
