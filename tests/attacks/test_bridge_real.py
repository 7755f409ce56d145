"""Real radiographs with their notes, and two trained towers that never met: one seed of benchmarks/bridge.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.places import SHARED
from helpers.real import package
from helpers.scripts import script
from linkage_core.encoders.packaged import PACKAGED
from linkage_core.store.entry import Entry, Store

study = script("bridge")
pytestmark = pytest.mark.soak  # 159 radiographs through both towers; test_bridge.py has the attacker itself


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Entry:
    root = SHARED / study.COHORT
    if not root.is_dir():
        pytest.skip(f"{root} is not there")
    for kept in PACKAGED.values():
        package(kept.distribution, kept.version)
    return study.embedded(Path(root), Store(tmp_path_factory.mktemp("store")))


def test_it_links_more_than_guessing_and_nothing_where_notes_are_dealt_out_anew(entry: Entry) -> None:
    own, dealt = study.of_seed(entry, 0, False), study.of_seed(entry, 0, True)
    assert (own["n_images"], own["n_patients"]) == (159, 82)
    assert own["recall"] > 0.15
    assert own["auc_low"] > 0.5
    assert own["auc"] > own["auc_one_view"] > 0.52
    assert dealt["recall_low"] < 0.1 < dealt["recall_high"]
    assert dealt["auc_low"] < 0.5 < dealt["auc_high"]


def test_no_person_and_no_image_is_in_two_folds(entry: Entry) -> None:
    records = entry.records()
    features = entry.features("image", records["record_id"])
    fold, person = study.folds(features, records["patient_id"].to_numpy(str), 0)
    table = records.assign(fold=fold, person=person, image=[row.tobytes() for row in features])
    for by in ("patient_id", "person", "image"):
        assert (table.groupby(by)["fold"].nunique() == 1).all()
    assert table["person"].nunique() < table["patient_id"].nunique(), "some cases are there under two numbers"
