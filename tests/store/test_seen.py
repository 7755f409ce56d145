"""Nobody is measured on patients who trained the head: one guard, asked at every door."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.lab_store import MODEL, cohort
from helpers.places import SHIPPED
from linkage_core.attacks import held
from linkage_core.audit import study
from linkage_core.cli import main
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.release import ceiling
from linkage_core.store.entry import Entry, Store
from linkage_core.utility import table

EVERY = ("heldout", "attacker", "finetune")


def put(store: Store, name: str, rows: np.ndarray | None = None, *, patients: str = "", **more: Any) -> Entry:
    """A toy cohort of 60 patients; `rows` keeps some, `patients` names those of another cohort."""
    made, images, texts = cohort(patients or name, 60, synthetic=True, seed=3, splits=EVERY)
    rows = np.arange(len(images)) if rows is None else rows
    kept = replace(made, name=name, records=made.records.iloc[rows].reset_index(drop=True))
    return import_arrays(replace(kept, **more), MODEL, images[rows], texts[rows], store)


def with_head(entry: Entry, trained_on: Entry, split: str, **record: Any) -> Entry:
    said = {"cohort": trained_on.cohort, "fingerprint": trained_on.manifest["cohort"]["fingerprint"], "split": split}
    return entry.add_head("tuned", entry.heads(), {"head": "tuned", "trained_on": said, **record})


DOORS = {
    "audit": lambda entry, source, split: study.study(source, "tuned", split=split),
    "attack": lambda entry, source, split: held.hold(entry, "tuned", source=source, split=split),
    "utility": lambda entry, source, split: table.utility_table(entry, "tuned", source=source, split=split),
    "ceiling": lambda entry, source, split: ceiling.ceiling(
        entry, ceiling.Gaussian(0.1), [10], head="tuned", source=source, split=split
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_split_that_trained_is_refused_and_its_patients_counted(door: str, tmp_path: Path) -> None:
    mine = put(Store(tmp_path), "mine")
    mine = with_head(mine, mine, "finetune")
    with pytest.raises(InputError, match=r"trained on patients of mine, split 'finetune': 20 of 20 helped"):
        DOORS[door](mine, mine, "finetune")
    with pytest.raises(InputError, match=r"split 'all': 20 of 60 helped"):
        DOORS[door](mine, mine, "all")


@pytest.mark.parametrize("door", ["attack", "utility", "ceiling"])
def test_a_cohort_with_the_same_patients_is_refused_whatever_its_name_and_table(door: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    train = put(store, "train")
    source = with_head(put(store, "source"), train, "all")
    other = put(store, "other", np.arange(90, 120), patients="train")  # 15 of the 60, in a table of its own
    with pytest.raises(InputError, match=r"trained on patients of other, split 'all': 15 of 15 helped"):
        DOORS[door](other, source, "all")


@pytest.mark.parametrize("door", ["attack", "utility", "ceiling"])
def test_a_part_of_the_training_cohort_is_refused_where_the_whole_is_not_at_hand(door: str, tmp_path: Path) -> None:
    """As for the finetuning pairs that ship: the head names the whole, the store has a part under the same name."""
    whole = put(Store(tmp_path / "elsewhere"), "train")
    store = Store(tmp_path / "here")
    part = put(store, "part", np.arange(40), patients="train")
    manifest = json.loads((part.path / "manifest.json").read_text(encoding="utf-8"))
    cut = manifest["cohort"] | {"subset_of": {"fingerprint": whole.manifest["cohort"]["fingerprint"]}}
    part = replace(part, manifest=manifest | {"cohort": cut})
    source = with_head(put(store, "source"), whole, "all")
    with pytest.raises(InputError, match=r"patients of part, split 'all': 20 of 20 helped"):
        DOORS[door](part, source, "all")


def test_public_pairs_trained_the_head_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    mine, public = put(store, "mine"), put(store, "public")
    said = {"cohort": "public", "fingerprint": public.manifest["cohort"]["fingerprint"], "n_pairs": 9}
    source = with_head(mine, mine, "finetune", public=said)
    with pytest.raises(InputError, match=r"trained on patients of public, split 'heldout': 20 of 20 helped"):
        held.hold(public, "tuned", source=source, split="heldout")
    assert len(held.hold(mine, "tuned", source=source, split="heldout").match) == 40
    assert len(held.hold(public, "tuned", source=source, split="attacker", own_split="heldout").match) == 40


def test_patients_of_another_split_and_of_another_cohort_are_measured(tmp_path: Path) -> None:
    store = Store(tmp_path)
    mine = put(store, "mine")
    mine = with_head(mine, mine, "finetune")
    other = put(store, "other")
    for door in DOORS.values():
        door(mine, mine, "heldout")
    for name in ("attack", "utility", "ceiling"):
        DOORS[name](other, mine, "finetune")


@pytest.mark.parametrize("command", ["utility", "attack"])
def test_the_command_names_the_shipped_patients_by_count_and_exits_2(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target, head = "phantom-finetune/phantom-radiology", "label-dpsgd-eps0.34-seed0"
    with pytest.raises(SystemExit) as ended:
        main.main([command, target, "--source", "phantom", "--head", head])
    assert ended.value.code == 2
    words = " ".join(capsys.readouterr().err.split())
    n = Store(SHIPPED).open(*target.split("/")).records()["patient_id"].nunique()
    assert n > 1000
    assert f"was trained on patients of phantom-finetune, split 'all': {n:,} of {n:,} helped" in words
