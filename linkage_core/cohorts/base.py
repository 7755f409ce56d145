"""What every source of images and reports is read into.

A cohort is a table of records (one row an image) and a table of rejects (one row per thing left out, with the reason
and the remedy). Images are read when they are asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from linkage_core.errors import InputError
from linkage_core.validate import one_of

if TYPE_CHECKING:
    from linkage_core.images.pixels import Radiograph

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The 14 labels of CheXpert. Four values each: missing (NaN), 0 negative, 1 positive, -1 uncertain."""

IDS = ("record_id", "patient_id", "study_id")
RECORD_COLUMNS = ("record_id", "patient_id", "study_id", "image", "view", "sex", "age", "split", *LABELS, "report")
"""`record_id` is unique; `image` is a path relative to the root ("" where there is none); `view` is PA, AP, LATERAL or
""; `sex` F, M or ""; `age` years or NaN; `split` finetune, attacker or heldout; `report` the text, one per study."""

REJECT_COLUMNS = ("item", "reason", "what", "remedy")

SPLITS = FINETUNE, ATTACKER, HELDOUT = ("finetune", "attacker", "heldout")


@dataclass
class Understood:
    """What was understood of a cohort's tables, so that a person sees at once where it was not what they meant.

    `columns`: for each table the columns read (the name used here: how the table spells it) and those left alone;
    `notes`: sentences without a full stop, with counts, about what was mended, kept or could not be read.
    """

    columns: dict[str, tuple[dict[str, str], list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Say it once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


@dataclass(frozen=True)
class TextLabels:
    """What cohorts.labels read from the reports of a cohort.

    studies: those with a label from text; unlabelled: those without a label of their own; findings: labels that no
    study had; own: what the own labels are called; rules: version of the table; not_english: studies left unread.
    """

    studies: frozenset[str]
    unlabelled: frozenset[str]
    findings: tuple[str, ...]
    own: str
    rules: str
    not_english: int


@dataclass(frozen=True)
class Cohort:
    """One source of image and report pairs, read and checked.

    `records` has the columns RECORD_COLUMNS and one row an image; `rejects` REJECT_COLUMNS. `read_image` takes one row
    of records (as a mapping) and returns its pixels or raises ImageError. `options` says how it was read (section of
    the report, seed of the split), and goes into every manifest made from it. `understood` says how its tables were
    read; `seen` is what was found when the images were looked at (`check_images`), empty before. Where images lie on no
    disk, `fetch` brings the bytes of a row (`data`) to `read_image`: whoever decodes has no connection.
    """

    name: str
    kind: str
    root: Path | None
    records: pd.DataFrame
    rejects: pd.DataFrame
    read_image: Callable[[Any], Radiograph]
    synthetic: bool = False
    default_split: str = "all"
    options: dict[str, Any] = field(default_factory=dict)
    understood: Understood = field(default_factory=Understood)
    text_labels: TextLabels | None = None  # where labels were asked of the reports (--labels from-text)
    seen: dict[str, Any] = field(default_factory=dict)
    language: str = ""  # of the reports, where the kind says that it is not English
    fetch: Callable[[Any], dict[str, Any]] | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether its images are made here, and are nobody's files: this process may read them itself."""
        return self.root is None and self.fetch is None

    @property
    def watched(self) -> Path | None:
        """Where its files lie that may change: what is fetched is told by its UID, and never does."""
        return self.root if self.fetch is None else None

    def rows(self, split: str = "all") -> pd.DataFrame:
        """The records of one split, or of all."""
        if split == "all":
            return self.records
        one_of("split", split, ("all", *SPLITS))
        return self.records[self.records["split"] == split].reset_index(drop=True)


def rejects_table(rows: list[tuple[str, str, str, str]]) -> pd.DataFrame:
    """Rejects as a table; the four entries of a row are REJECT_COLUMNS."""
    return pd.DataFrame(rows, columns=list(REJECT_COLUMNS), dtype="str")


def text_key(report: str) -> str:
    """A short hash that is equal for reports equal up to case and white space: 16 hexadecimal digits."""
    normalised = re.sub(r"\s+", " ", report).strip().lower()
    return hashlib.sha256(normalised.encode()).hexdigest()[:16]


FEW = 100
"""Patients, below which a split is cut to its shares."""


def split_by_patient(
    patient_ids: pd.Series, seed: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
) -> pd.Series:
    """A seeded split (finetune, attacker, heldout) that no patient crosses.

    A patient's split depends on the seed and the patient's id alone (a keyed hash), so adding or removing other
    patients moves nobody. Below FEW patients that would leave a split empty too often: there they are put in the order
    of the hash and cut, so that each split has its share, and somebody where there are three or more.

    >>> split_by_patient(pd.Series(["a", "b", "c", "d", "e"]), seed=0).value_counts().to_dict()
    {'finetune': 3, 'heldout': 1, 'attacker': 1}
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise InputError(
            f"fractions are {fractions}.", "Give three shares (finetune, attacker, heldout) that sum to 1."
        )
    edges = np.cumsum(fractions)[:2]
    patients = [str(patient) for patient in patient_ids.unique()]
    at = np.array([_place(seed, patient) for patient in patients])
    if (n := len(patients)) < FEW:
        given = np.array(fractions) > 0
        least = given * (n >= given.sum())  # one each, if there are so many
        cuts = np.round(edges * n).clip(np.cumsum(least)[:2], n - least[::-1].cumsum()[::-1][1:])
        at = np.searchsorted(cuts, np.argsort(np.argsort(at, kind="stable")), side="right")
    else:
        at = np.searchsorted(edges, at, side="right")
    placed = {patient: SPLITS[place] for patient, place in zip(patients, at, strict=True)}
    return patient_ids.astype("str").map(placed).astype("str")


def _place(seed: int, patient: str) -> float:
    """Where a patient lies between 0 and 1, whoever else there is."""
    digest = hashlib.sha256(f"{seed}\x1f{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
