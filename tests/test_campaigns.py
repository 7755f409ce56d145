"""Campaigns: runs killed at any moment, files damaged at any byte. Short here, long under `make soak`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linkage_core import audit, cli
from linkage_core.errors import LinkageError
from linkage_core.store import Entry, Store

ROOT = Path(__file__).resolve().parents[1]
EMBED = (
    "import sys; from linkage_core import cli, embedding; embedding.SHARD_ROWS = 8; embedding.BATCH = 4;"
    "cli.main(sys.argv[1:])"
)


def start(folder: Path, store: Path) -> subprocess.Popen[bytes]:
    command = ["embed", "folder", str(folder), "--model", "phantom-general", "--store", str(store), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", EMBED, *command], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with pytest.raises(SystemExit):
        cli.main(["phantom", "export", "--studies", "100", "--size", "128", "--quiet", str(tmp_path / "cohort")])
    return tmp_path / "cohort"


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_a_run_killed_at_any_moment_ends_as_if_it_never_was(kills: int, folder: Path, tmp_path: Path) -> None:
    assert start(folder, tmp_path / "whole").wait(timeout=300) == 0
    whole = Store(tmp_path / "whole").open("cohort", "phantom-general")
    began = time.monotonic()
    assert start(folder, tmp_path / "timed").wait(timeout=300) == 0
    length = time.monotonic() - began
    chance = random.Random(kills)
    for attempt in range(kills):
        if attempt % 10 == 0:  # from nothing every ten kills, so that all stages are hit
            store = Store(tmp_path / f"killed-{attempt}")
        run = start(folder, store.root)
        try:
            run.wait(timeout=chance.uniform(0.3, 1.0) * length)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait(timeout=60)
        if store.cohorts():  # a manifest there is a whole entry
            assert store.open("cohort", "phantom-general").verify() == []
    assert start(folder, store.root).wait(timeout=300) == 0
    entry = store.open("cohort", "phantom-general")
    assert entry.manifest["files"] == whole.manifest["files"]
    assert entry.verify() == []
    assert not list(entry.path.rglob(".*.tmp")), "a resumed run clears what killed writers left"


def damaged_result(store: Store, truth: str) -> str | None:
    """The error that a damaged store gives; None where the result is the true one all the same."""
    try:
        result = audit.study(store.open("toy", "m")).table([10, 50], [1]).to_json()
    except LinkageError as error:
        return str(error)
    assert result == truth
    return None


@pytest.mark.parametrize("damages", [60, pytest.param(3000, marks=pytest.mark.soak)])
def test_a_byte_changed_anywhere_is_named_or_changes_nothing(damages: int, entry: Entry, store: Store) -> None:
    truth = audit.study(entry).table([10, 50], [1]).to_json()
    paths = sorted(path for path in entry.path.rglob("*") if path.is_file() and path.name != ".lock")
    chance = random.Random(damages)
    named = 0
    for _ in range(damages):
        path = chance.choice(paths)
        whole = path.read_bytes()
        content = bytearray(whole)
        place = chance.randrange(len(content))
        if chance.random() < 0.2:
            del content[place:]
        else:
            content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(content))
        message = damaged_result(store, truth)
        if message is None and path.suffix != ".json":  # not needed for this result, but never unnoticed
            assert str(path) in " ".join(store.open("toy", "m").verify())
        if message is not None:
            named += 1
            assert "toy" in message
        path.write_bytes(whole)
    assert named > damages // 10
