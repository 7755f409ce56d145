"""Campaigns: runs killed at any moment, files damaged at any byte. Short here, long under `make soak`."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from linkage_core import audit, cli
from linkage_core.errors import LinkageError
from linkage_core.store import Entry, Store

ROOT = Path(__file__).resolve().parents[1]
EMBED = (
    "import sys; from linkage_core import cli, embedding, pipeline;"
    "embedding.SHARD_ROWS = 8; embedding.BATCH = 4; pipeline.CPU_BATCH = 4; cli.main(sys.argv[1:])"
)


def start(folder: Path, store: Path, workers: int = 2, **how: Any) -> subprocess.Popen[bytes]:
    command = ["embed", "folder", str(folder), "--model", "phantom-general", "--store", str(store), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", EMBED, *command, "--workers", str(workers)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **how,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with pytest.raises(SystemExit):
        cli.main(["phantom", "export", "--studies", "100", "--size", "128", "--quiet", str(tmp_path / "cohort")])
    return tmp_path / "cohort"


def shards(store: Store) -> dict[str, tuple[int, int]]:
    """Image shards that are there; what would change if one were written again."""
    found = store.root.rglob("features-*.safetensors")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_a_run_killed_at_any_moment_ends_as_if_it_never_was(kills: int, folder: Path, tmp_path: Path) -> None:
    assert start(folder, tmp_path / "whole", workers=0).wait(timeout=300) == 0
    whole = Store(tmp_path / "whole").open("cohort", "phantom-general")
    began = time.monotonic()
    assert start(folder, tmp_path / "timed").wait(timeout=300) == 0
    length = time.monotonic() - began
    chance = random.Random(kills)
    hit, entries = {"before any shard": 0, "between shards": 0, "after the last": 0, "too late": 0}, 0
    for attempt in range(kills):
        if attempt % 5 == 0:  # from nothing every five kills, so that all stages are hit
            store = Store(tmp_path / f"killed-{attempt}")
        before = shards(store)
        run = start(folder, store.root)
        try:
            run.wait(timeout=chance.uniform(0.3, 1.0) * length)
            hit["too late"] += 1
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait(timeout=60)
            there = len(shards(store))
            stage = "before any shard" if not there else "between shards" if not store.cohorts() else "after the last"
            hit[stage] += 1
        after = shards(store)
        assert {name: after[name] for name in before} == before, "a whole shard is never made twice"
        if store.cohorts():  # a manifest there is a whole entry
            assert store.open("cohort", "phantom-general").verify() == []
        if attempt % 5 == 4 or attempt == kills - 1:
            assert start(folder, store.root).wait(timeout=300) == 0
            assert {name: shards(store)[name] for name in after} == after
            entry = store.open("cohort", "phantom-general")
            assert entry.manifest["files"] == whole.manifest["files"], "byte-identical to the run that was left alone"
            assert entry.verify() == []
            assert not list(entry.path.rglob(".*.tmp")), "a resumed run clears what killed writers left"
            entries += 1
    said = {"kills": kills, "images": len(whole.records()), "hit": hit, "entries byte-identical": entries}
    figures("kills", said | {"image shards made twice": 0, "reading processes": 2}, kills > 3)


def figures(name: str, said: dict[str, Any], soak: bool) -> None:
    """What a soak run found, into benchmarks/faults.json."""
    path = ROOT / "benchmarks" / "faults.json"
    if soak:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps(known | {name: said}, indent=1) + "\n", encoding="utf-8")


def test_two_runs_on_one_store_cannot_harm_it(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    runs = [start(folder, store.root, stderr=subprocess.PIPE) for _ in range(2)]
    said = [run.communicate(timeout=300)[1].decode() for run in runs]
    ended = sorted(run.returncode for run in runs)
    assert ended in ([0, 2], [0, 0]), said  # the second waits for nothing: refused, or there is nothing left to do
    if ended == [0, 2]:
        assert "Another run is writing" in " ".join("".join(said).split())
    assert store.open("cohort", "phantom-general").verify() == []


@pytest.mark.parametrize("limit", [4096, 20_000])
def test_a_full_disk_stops_with_a_message_and_a_valid_store(limit: int, folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    run = start(folder, store.root, stderr=subprocess.PIPE, preexec_fn=full)
    said = run.communicate(timeout=300)[1].decode()
    assert run.returncode == 2, said
    assert "could not be written" in " ".join(said.split())
    assert "Traceback" not in said
    assert not store.cohorts()
    assert not list(store.root.rglob(".*.tmp"))
    assert start(folder, store.root).wait(timeout=300) == 0
    assert store.open("cohort", "phantom-general").verify() == []


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
