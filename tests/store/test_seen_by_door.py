"""Whoever measures a head asks first whether it was trained on the patients it is to be measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.command import linkage
from helpers.toy import of_other_weights, read_back, toy_arrays, toy_records
from linkage_core.attacks import attack
from linkage_core.audit import study
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.release import ceiling
from linkage_core.store.entry import Entry, Store
from linkage_core.utility.table import utility_table

HEAD = "trained"
SPLITS = ("finetune", "attacker", "heldout")


def placed(store: Store, folder: Path, cohort: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Entry:
    """240 patients in equal splits, by their number; `change` makes another cohort of the same records."""
    records = toy_records(240)
    records["split"] = [SPLITS[int(patient[1:]) % 3] for patient in records["patient_id"]]
    images, texts = toy_arrays(records, 1.0)
    records = change(records)
    read = read_back(records.drop(columns="split"), folder, cohort)
    found = replace(read, records=read.records.assign(split=records["split"].astype("str")), default_split="heldout")
    return import_arrays(found, "m", images, texts, store)


def with_head(entry: Entry, trained_on: Entry, split: str) -> Entry:
    """The entry with a head whose record says that it was trained on a split of an entry."""
    said = {
        "cohort": trained_on.cohort,
        "fingerprint": trained_on.manifest["cohort"]["fingerprint"],
        "split": split,
        "synthetic": False,
    }
    return entry.add_head(HEAD, entry.heads(), {"trained_on": said, "findings": ["Pneumonia"]}, replace=True)


def renamed(records: pd.DataFrame) -> pd.DataFrame:
    """Nobody of the other cohort."""
    return records.assign(**{name: "x" + records[name] for name in ("record_id", "patient_id", "study_id")})


def relabelled(records: pd.DataFrame) -> pd.DataFrame:
    """The same patients in another cohort: one label was corrected, and splits are numbered otherwise."""
    moved = {split: SPLITS[(i + 1) % 3] for i, split in enumerate(SPLITS)}
    labels = records["Pneumonia"].where(records.index > 0, 1 - records["Pneumonia"])
    return records.assign(Pneumonia=labels, split=records["split"].map(moved))


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Entry:
    return placed(store, tmp_path, "site", lambda records: records)


Door = Callable[..., Any]
DOORS: dict[str, Door] = {
    "attack": lambda entry, source=None: attack.attack(entry, HEAD, source=source),
    "ceiling": lambda entry, source=None: ceiling.of_head(entry, HEAD, [10], source=source),
    "utility": lambda entry, source=None: utility_table(
        entry, HEAD, source=source, train=entry, measures=["label-matched"]
    ),
}


@pytest.mark.parametrize("door", ["audit", *DOORS])
def test_patients_who_trained_a_head_in_another_cohort_are_compared(
    site: Entry, store: Store, tmp_path: Path, door: str
) -> None:
    """Another cohort, another fingerprint, other splits, and the same patients: only their ids can tell."""
    other = placed(store, tmp_path, "other", relabelled)
    assert other.manifest["cohort"]["fingerprint"] != site.manifest["cohort"]["fingerprint"]
    measured: Door = study.study if door == "audit" else DOORS[door]
    more = {"head": HEAD} if door == "audit" else {}
    for split in ("attacker", "all"):  # "heldout" there
        with pytest.raises(InputError, match="trained on"):
            measured(with_head(other, site, split), **more)
    for split in ("finetune", "heldout"):
        measured(with_head(other, site, split), **more)
    strangers = placed(store, tmp_path, "strangers", renamed)
    measured(with_head(strangers, site, "all"), **more)


def test_the_command_says_so_and_ends_with_two(
    site: Entry, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_head(placed(store, tmp_path, "other", relabelled), site, "attacker")
    for command in ("audit", "attack", "utility"):
        assert linkage(command, "other/m", "--head", HEAD, "--store", store.root) == 2, command
        assert "trained on" in " ".join(capsys.readouterr().err.split()), command


@pytest.mark.parametrize("door", DOORS)
def test_a_head_of_another_entry_that_was_trained_on_all_patients_is_refused_on_any(
    site: Entry, store: Store, tmp_path: Path, door: str
) -> None:
    """As beside a cohort NAME-finetune, all of which trains: its record says "all", which holds every split."""
    source = placed(store, tmp_path, "source", renamed)
    for split in ("all", "heldout"):
        with pytest.raises(InputError, match="trained on"):
            DOORS[door](site, with_head(source, site, split))
    DOORS[door](site, with_head(source, site, "finetune"))


@pytest.mark.parametrize("door", DOORS)
def test_a_head_of_other_weights_is_refused(site: Entry, store: Store, tmp_path: Path, door: str) -> None:
    """A head fits the features that it was made for; under others its figures would say nothing."""
    source = with_head(placed(store, tmp_path, "source", renamed), site, "finetune")
    DOORS[door](site, source)
    with pytest.raises(InputError, match="other weights"):
        DOORS[door](site, of_other_weights(source))


def test_all_of_a_cohort_holds_the_split_that_trained(site: Entry, store: Store, tmp_path: Path) -> None:
    source = placed(store, tmp_path, "source", renamed)
    for split in ("finetune", "all"):
        with pytest.raises(InputError, match="trained on"):
            utility_table(site, HEAD, source=with_head(source, site, split), split="all", measures=["label-matched"])
        with pytest.raises(InputError, match="trained on"):
            study.study(with_head(site, site, split), HEAD, split="all")
    assert np.isfinite(
        utility_table(site, HEAD, source=with_head(source, site, "attacker"), measures=["label-matched"])["before"][0]
    )
