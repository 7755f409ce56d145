"""Moments against sums over pairs, one at a time."""

from dataclasses import replace

import numpy as np
import pytest

from linkage_core import moments
from linkage_core.errors import InputError
from linkage_core.store import Entry, Store, read_tensors


def test_sums_equal_a_loop_over_pairs() -> None:
    rng = np.random.default_rng(0)
    images, texts = rng.standard_normal((30, 3)), rng.standard_normal((30, 2))
    labels = rng.choice([np.nan, 0.0, 1.0, -1.0], (30, 14))
    found = moments.moments(images, texts, labels)
    cross = sum(np.outer(x, y) for x, y in zip(images, texts, strict=True))
    assert found["image_text"] == pytest.approx(cross)
    for state, value in enumerate((1.0, 0.0)):
        for label in range(14):
            rows = labels[:, label] == value
            assert found["label_n"][state, label] == rows.sum()
            assert found["image_label"][state, :, label] == pytest.approx(images[rows].sum(axis=0))
            assert found["text_label"][state, :, label] == pytest.approx(texts[rows].sum(axis=0))
    with pytest.raises(InputError, match="30 images, 29 texts"):
        moments.moments(images, texts[1:], labels)


def test_they_are_kept_in_the_entry_and_named_in_its_manifest(entry: Entry, store: Store) -> None:
    moments.keep(entry, "all", moments.of_entry(entry), entry)
    again = store.open("toy", "m")
    assert again.verify() == []
    assert "moments-all.safetensors" in again.manifest["files"]
    values, note = read_tensors(again.path / "moments-all.safetensors")
    assert note["fingerprint"] == entry.manifest["cohort"]["fingerprint"]
    assert values["n"] == len(again.records())
    assert len(again.embeddings(split="all").images) == len(again.records())


def test_moments_of_other_weights_are_refused(entry: Entry) -> None:
    other = replace(entry, manifest=entry.manifest | {"model": {"weights_sha256": "other"}})
    with pytest.raises(InputError, match="other weights"):
        moments.keep(entry, "all", moments.of_entry(entry), other)
