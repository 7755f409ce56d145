"""A cohort without files and an encoder without a model: what a run asks of either can be counted."""

from __future__ import annotations

import zlib

import numpy as np

from helpers.toy import toy_records
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, rejects_table
from linkage_core.errors import ImageError
from linkage_core.heads import Heads, Linear
from linkage_core.images.pixels import Radiograph


class CountingEncoder:
    """A linear encoder of pixels and letters that remembers how much it was asked."""

    name = "counting"

    def __init__(self, weights: str = "a") -> None:
        self.images_seen = 0
        self.weights = weights
        rng = np.random.default_rng(0)
        self._heads = Heads(
            Linear(rng.standard_normal((4, 9)).astype(np.float32), np.ones(4, np.float32)),
            Linear(rng.standard_normal((4, 26)).astype(np.float32), np.zeros(4, np.float32)),
        )

    def image_features(self, images: list[Radiograph]) -> np.ndarray:
        self.images_seen += len(images)
        return np.stack([image.pixels.astype(np.float32).ravel() for image in images])

    def text_features(self, texts: list[str]) -> np.ndarray:
        return np.array([[1 + t.lower().count(chr(97 + i)) for i in range(26)] for t in texts], dtype=np.float32)

    def truncated(self, texts: list[str]) -> int:
        return sum(len(text) > 20 for text in texts)

    def heads(self) -> Heads:
        return self._heads

    def describe(self) -> dict[str, object]:
        return {"family": "test", "weights_sha256": self.weights}


def read_image(row: dict[str, object]) -> Radiograph:
    record_id = str(row["record_id"])
    if "r3-" in record_id:
        raise ImageError("truncated", f"{record_id}: the file ends too early.", "Copy it again.")
    return Radiograph(np.random.default_rng(zlib.crc32(record_id.encode())).integers(1, 99, (3, 3), np.uint16), 8)


def cohort(n_patients: int = 60) -> Cohort:
    records = toy_records(n_patients).assign(split="heldout", image="")
    for label in LABELS:
        if label not in records:
            records[label] = np.nan
    return Cohort("toy", "test", None, records[list(RECORD_COLUMNS)], rejects_table([]), read_image)
