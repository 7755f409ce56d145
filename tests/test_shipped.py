"""What comes along is found without a word about where, and never written to once it is a package."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.command import linkage
from helpers.places import ROOT
from helpers.toy import toy_arrays, toy_entry, toy_records
from linkage_core import shipped
from linkage_core.audit.study import study
from linkage_core.errors import StoreError
from linkage_core.store.entry import Entry, Store


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that came with the package, holding toy/m."""
    place = tmp_path / "site-packages" / "_shipped"
    store = Store(place / shipped.STORE)
    toy_entry(store, tmp_path / "input", cohort="toy")
    monkeypatch.setattr(shipped, "_IN_THE_PACKAGE", place)
    return store


@pytest.fixture
def importing(tmp_path: Path) -> list[str]:
    """`linkage import mine/model` with files of one's own."""
    records = toy_records(40)
    images, texts = toy_arrays(records, 1.0)
    np.save(tmp_path / "image.npy", images)
    np.save(tmp_path / "text.npy", texts)
    records.to_csv(tmp_path / "records.csv", index=False)
    given = {"--image": "image.npy", "--text": "text.npy", "--records": "records.csv"}
    return [
        "import",
        "mine/model",
        *(part for option, name in given.items() for part in (option, str(tmp_path / name))),
    ]


def files(store: Store) -> set[Path]:
    return {path for path in store.root.rglob("*") if path.is_file()}


def test_in_a_checkout_everything_lies_at_the_top() -> None:
    assert shipped.root() == ROOT
    assert shipped.store() == ROOT / "cached_embeddings"
    assert shipped.why_not_written(shipped.store() / "phantom") is None


def test_a_reading_command_in_an_empty_folder_takes_what_came_along(
    installed: Store, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linkage("audit", "toy", "--pool-size", "10", "--k", "1") == 0
    assert "Recall@k" in capsys.readouterr().out
    assert not any(empty.iterdir())


def test_a_folder_of_ones_own_comes_first(
    installed: Store,
    empty: Path,
    capsys: pytest.CaptureFixture[str],
    importing: list[str],
) -> None:
    before = files(installed)
    assert linkage(*importing) == 0
    assert (empty / shipped.STORE / "mine" / "model" / "manifest.json").is_file()
    assert files(installed) == before
    capsys.readouterr()
    assert linkage("audit", "mine/model", "--pool-size", "10", "--k", "1") == 0
    capsys.readouterr()
    assert linkage("audit", "toy/m") == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert f"--store {installed.root}" in said, (
        "what came along is no longer the default, and the message says where it is"
    )
    assert linkage("audit", "nobody") == 2
    assert str(installed.root) not in capsys.readouterr().err


def test_counts_of_what_came_along_are_made_and_not_kept(installed: Store, empty: Path) -> None:
    shutil.rmtree(installed.root / "toy" / "m" / "ranks", ignore_errors=True)
    before = files(installed)
    assert linkage("audit", "toy", "--pool-size", "10", "--k", "1", "--open-world") == 0
    assert files(installed) == before


def test_whoever_wants_to_write_is_told_how_to_get_a_copy(
    installed: Store,
    empty: Path,
    capsys: pytest.CaptureFixture[str],
    importing: list[str],
) -> None:
    before = files(installed)
    assert linkage("finetune", "toy/m", "--mechanism", "label-oneshot", "--epsilon", "1") == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "came with the package and is only read" in said
    assert f"cp -r {installed.root} ." in said
    assert linkage(*importing, "--store", str(installed.root)) == 2
    assert "only read" in capsys.readouterr().err
    assert files(installed) == before
    shutil.copytree(installed.root, empty / shipped.STORE)  # as told
    assert linkage("audit", "toy", "--pool-size", "10", "--k", "1", "--open-world") == 0
    assert files(installed) == before
    assert files(Store(empty / shipped.STORE)) > {
        empty / shipped.STORE / path.relative_to(installed.root) for path in before
    }


def test_no_way_leads_into_the_package(installed: Store) -> None:
    before = files(installed)
    entry = installed.open("toy", "m")
    with pytest.raises(StoreError, match="only read"):
        entry.add_file("lab/heads.parquet", lambda path: path.write_bytes(b"x"))
    with pytest.raises(StoreError, match="only read"):
        entry.refuse_taken("mine")
    assert files(installed) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_store_that_cannot_be_written_still_answers(
    entry: Entry, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", no_room)
    assert len(study(entry).counts.n_better) == len(entry.records())
    assert not (entry.path / "ranks").exists() or not any((entry.path / "ranks").iterdir())
