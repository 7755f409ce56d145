"""Every byte of a store: who may read it, what `verify` says of it, and names that are taken."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from explorer.frame import kept
from helpers.command import linkage
from helpers.places import ROOT
from helpers.toy import toy_arrays, toy_cohort, toy_entry, toy_records
from linkage_core import allowed, confirmed, disk
from linkage_core.audit import study
from linkage_core.cohorts.registry import source_for
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import ImageError, InputError, StoreError
from linkage_core.lab import measured
from linkage_core.store import files, sealed
from linkage_core.store.entry import Entry, Store
from linkage_core.store.pieces import Pieces


def test_only_the_user_may_read_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        entry = toy_entry(Store(tmp_path / "new" / "store"), tmp_path / "input")
        entry.add_head("mine", entry.heads(), {})
        study.study(entry)
    finally:
        os.umask(before)
    for path in (tmp_path / "new", *(tmp_path / "new").rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o750)
    files.write_json(tmp_path / "shared" / "a.json", 1)
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o750


@pytest.mark.parametrize("there", [False, True])
def test_verify_says_no_to_nothing(there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if there:
        (tmp_path / "store").mkdir()
    assert linkage("verify", "--store", tmp_path / "store") == 2
    assert ("is empty" if there else "There is no store") in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("target", [[], ["toy"]])
def test_verify_names_an_entry_without_its_manifest(
    target: list[str], entry: Entry, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_entry(store, tmp_path / "input", model="other")
    assert linkage("verify", "--store", store.root) == 0
    (entry.path / "manifest.json").unlink()
    assert linkage("verify", *target, "--store", store.root) == 2
    said = capsys.readouterr()
    assert "has files of an entry and no manifest.json" in " ".join(said.err.split())
    assert "toy/other: as written" in said.out


def test_verify_goes_on_behind_a_broken_manifest(
    entry: Entry, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_entry(store, tmp_path / "input", model="other")
    (entry.path / "manifest.json").write_text("{")
    assert linkage("verify", "--store", store.root) == 2
    said = capsys.readouterr()
    assert "manifest.json cannot be read" in " ".join(said.err.split())
    assert "toy/other: as written" in said.out


def test_what_a_killed_run_left_is_named_and_goes_with_the_next(
    entry: Entry, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    half, strange = entry.path / "heads" / ".a.safetensors.1.tmp", entry.path / "notes.txt"
    for path in (half, strange):
        path.write_text("half")
    assert linkage("verify", "--store", store.root) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{half.name} was left by a run that was stopped" in said
    assert f"{strange.name} is no part of the entry" in said
    with files.writing(entry.path):
        assert not half.exists()
    assert strange.exists(), "what somebody put there is theirs"


@pytest.mark.parametrize("name", ["phantom", "phantom-site-b", "Phantom", "phantom-finetune", "phantom/x"])
def test_a_phantom_s_name_is_refused_to_anybody_else(name: str, store: Store) -> None:
    records = toy_records(10)
    with pytest.raises(InputError, match="name of the synthetic cohort"):
        import_arrays(toy_cohort(name, records), "mine", *toy_arrays(records, 1.0), store)
    assert not store.root.exists()


def said_of(entry: Entry, **cohort: object) -> None:
    """The manifest of an entry, as somebody would write it who hands over a store."""
    content = {key: value for key, value in entry.manifest.items() if key not in ("schema", "versions", "files")}
    content["cohort"] = {**content["cohort"], **cohort}
    files.write_manifest(entry.path, {**content, "keep": set(entry.manifest["files"])})


def test_an_entry_that_says_it_is_the_phantom_is_so_by_its_records(entry: Entry, store: Store) -> None:
    """Such as one of a store from elsewhere: real patients under a synthetic name."""
    said_of(entry, kind="phantom", synthetic=True)
    with pytest.raises(StoreError, match="records are none of the phantom's"):
        store.open("toy", "m").records()
    said_of(entry, synthetic=True, root="/somewhere")
    with pytest.raises(StoreError, match="says that it is synthetic, and has images in a folder"):
        store.open("toy", "m")


def test_a_real_entry_in_a_phantom_s_folder_is_not_opened(entry: Entry, store: Store) -> None:
    entry.path.parent.rename(store.root / "phantom")
    with pytest.raises(StoreError, match=r"name of the synthetic cohort.*Rename"):
        store.open("phantom", "m")


def test_a_store_from_elsewhere_opens_no_folder_before_it_is_confirmed(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(folder / "a.png")
    rows = ["image,report,patient_id,study_id", "a.png,Lungs clear.,p,s"]
    (folder / "manifest.csv").write_text("\n".join(rows))
    note = {"name": "theirs", "kind": "folder", "root": str(folder), "options": {}}
    row = {"record_id": "a.png", "image": "a.png"}
    with pytest.raises(ImageError, match=r"nobody has confirmed.*linkage cohort folder"):
        source_for(note).read_image(row)
    assert source_for(note).read_report("s") is None
    assert linkage("cohort", "folder", folder, "--no-images", "--quiet") == 0
    assert source_for(note).read_image(row).pixels.shape == (64, 64)
    assert source_for(note).read_report("s") == "Lungs clear."
    with pytest.raises(ImageError, match="nobody has confirmed"):
        source_for({**note, "root": str(tmp_path)}).read_image(row)
    file = confirmed.path()
    assert file is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_folders_that_a_server_was_started_with_are_confirmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    assert not confirmed.is_confirmed(tmp_path / "a")
    monkeypatch.setenv(allowed.ROOTS, allowed.handed_over([tmp_path]))
    assert confirmed.is_confirmed(tmp_path / "a")


@pytest.mark.parametrize("tiny", [1e-44, 1e-30])
def test_vectors_too_small_to_have_a_direction_are_refused_before_anything_is_written(
    tiny: float, store: Store
) -> None:
    records = toy_records(10)
    images, texts = toy_arrays(records, 1.0)
    images = images.astype(np.float64)
    images[3] = tiny * (1 if tiny < 1e-40 else 1e-10)
    with pytest.raises(InputError, match="row 3"):
        import_arrays(toy_cohort("toy", records), "m", images, texts, store)
    assert not store.root.exists()


def test_finished_work_waits_for_the_entry(entry: Entry, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """As after a training: another run that holds the entry just then does not throw it away."""
    held, done = threading.Event(), threading.Event()

    def another() -> None:
        with files.writing(entry.path):
            held.set()
            done.wait(0.5)

    other = threading.Thread(target=another)
    other.start()
    held.wait()
    made = entry.add_head("mine", entry.heads(), {})
    other.join()
    assert "heads/mine.safetensors" in made.manifest["files"]
    assert "what was made is kept when it is done" in caplog.text


def test_one_damaged_head_takes_its_own_row_away_and_no_other(entry: Entry, store: Store) -> None:
    for name in ("a", "b"):
        entry = entry.add_head(name, entry.heads(), {})
    path = entry.path / "heads" / "a.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    fresh = store.open("toy", "m")
    assert measured.head_names(fresh) == ["b"]
    assert measured.heads(fresh)["head"].tolist() == ["off-the-shelf", "b"]
    (said,) = measured.damaged_heads(fresh)
    assert said.startswith("The head a is left out.")
    assert "linkage verify toy/m" in said


def test_what_others_write_beside_is_neither_lost_nor_in_the_way(entry: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are written while somebody takes the entry and clears half-written files: either may come first."""
    real, cleared = os.fsync, []

    def cleared_meanwhile(handle: int) -> None:
        real(handle)
        if not cleared:
            cleared.append(1)
            with files.writing(entry.path):
                pass

    monkeypatch.setattr(files.os, "fsync", cleared_meanwhile)
    study.study(entry)
    assert len(list((entry.path / "ranks").glob("*.parquet"))) == 1

    monkeypatch.setattr(Path, "rglob", lambda self, pattern: [self / ".done-by-now.tmp"])
    with files.writing(entry.path):
        pass


def test_what_parts_have_left_is_called_so(entry: Entry) -> None:
    Pieces(entry.path, "work", "inputs", ["a"]).write("a", {"x": np.zeros(3)})
    (said,) = entry.leftovers()
    assert "was left by a part of a run" in said


def test_an_id_that_reads_like_a_seal_seals_nothing(entry: Entry) -> None:
    ids = pd.Series([sealed.OPEN, "sha256 of the rest: ", "c"])
    entry.write_arrays("a", "inputs", ids, {"x": np.arange(3)})
    found = entry.read_arrays("a", "inputs")
    assert found is not None
    assert found[0] == ids.tolist()
    assert entry.verify() == []


@pytest.mark.parametrize("lacks", ["cohort", "files"])
def test_a_manifest_that_does_not_say_what_it_is_of_is_a_sentence(lacks: str, entry: Entry, store: Store) -> None:
    path = entry.path / "manifest.json"
    content = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("digest", lacks)}
    files.write_json(path, content | {"digest": files._digest_json(content)})
    with pytest.raises(StoreError, match="does not say what it is of"):
        store.open("toy", "m")


def test_a_file_that_was_closed_to_others_stays_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.touch(mode=0o600)
    before = os.umask(0o022)
    try:
        disk.write_whole(path, b"ids")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_json_on_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    code = (
        "import resource, sys; from linkage_core.cli.options import write_json;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "write_json(['x' * 9999], sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_pages_know_an_entry_by_what_its_manifest_says(
    entry: Entry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its size and time, which may be put back."""
    monkeypatch.setenv("LINKAGE_STORE", str(store.root))
    path = entry.path / "manifest.json"
    before, state = kept._fingerprint("toy", "m"), path.stat()
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert kept._fingerprint("toy", "m") != before
