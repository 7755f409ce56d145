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
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.places import ROOT
from linkage_core.audit import study
from linkage_core.cli import main
from linkage_core.errors import STOPPED, LinkageError
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import read_tensors, write_tensors

EMBED = (
    "import sys; from linkage_core.cli import main; from linkage_core.embed import embedding, pipeline;"
    "embedding.SHARD_ROWS = 8; embedding.BATCH = 4; pipeline.CPU_BATCH = 4; main.main(sys.argv[1:])"
)


def start(folder: Path, store: Path, workers: int = 2, **how: Any) -> subprocess.Popen[bytes]:
    command = ["embed", "folder", str(folder), "--model", "phantom-general", "--store", str(store), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-c", EMBED, *command, "--workers", str(workers)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **how,
    )


class Runs:
    """Runs of killed.py on one cohort, each of which may end by a signal."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder, self.log = folder, log
        self._server = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "killed.py"],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, store: Path, shard: int | None = None, moment: float = 0.0, workers: int = 0
    ) -> tuple[int, list[str]]:
        """How it ended (0, or minus the signal), and the ids of the images it began to encode."""
        assert self._server.stdin
        assert self._server.stdout
        self.log.write_bytes(b"")
        request = {"folder": str(self.folder), "store": str(store), "workers": workers, "log": str(self.log)}
        request |= {"shard": shard, "moment": moment}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        self._server.stdout.readline()
        return int(self._server.stdout.readline()), self.log.read_text(encoding="utf-8").split()

    def close(self) -> None:
        self._server.communicate(timeout=60)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    place = tmp_path_factory.mktemp("killed")
    with pytest.raises(SystemExit):
        main.main(["phantom", "export", "--studies", "40", "--size", "64", "--quiet", str(place / "cohort")])
    one = Runs(place / "cohort", place / "log")
    yield one
    one.close()


@pytest.fixture
def folder(runs: Runs) -> Path:
    return runs.folder


def image_shards(store: Path) -> dict[Path, tuple[int, int]]:
    """Image shards that are there; what would change if one were written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.rglob("features-image-*")}


def whole_ids(store: Path) -> set[str]:
    """Ids in the shards of a store, every one of which is whole."""
    return {name for path in image_shards(store) for name in read_tensors(path)[1]["ids"]}


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.soak)])
def test_a_run_killed_at_any_moment_ends_as_if_it_never_was(kills: int, runs: Runs, tmp_path: Path) -> None:
    assert runs.run(tmp_path / "whole")[0] == 0
    whole = Store(tmp_path / "whole").open("cohort", "phantom-general")
    n_shards = len(image_shards(tmp_path / "whole"))
    began = time.monotonic()
    assert runs.run(tmp_path / "timed", workers=1)[0] == 0
    length = time.monotonic() - began
    chance = random.Random(kills)
    hit = Counter({"before the first shard": 0, "between shards": 0, "after the last shard": 0, "too late": 0})
    at: Counter[int] = Counter()
    twice = begun = again = leftovers = entries = 0
    while hit.total() - hit["too late"] < kills:
        store = tmp_path / f"killed-{entries}"
        counts = sorted(chance.randrange(n_shards + 1) for _ in range(min(6, kills)))
        seen: set[str] = set()
        for count in [*counts, None]:  # to that many shards and a random while on; at last to the end
            before, done = image_shards(store), whole_ids(store)
            shard = None if count is None else max(0, count - len(before))
            moment = chance.uniform(0, length) if shard == 0 else chance.uniform(0, 2)
            ended, ids = runs.run(store, shard, moment, chance.choice([0, 0, 1, 2]))
            assert ended == 0 or (shard is not None and ended == -signal.SIGALRM)
            after = image_shards(store)
            assert {path: after[path] for path in before} == before, "a whole shard is never written twice"
            twice += len(done & set(ids))
            begun, again = begun + len(ids), again + len(seen & set(ids))
            seen |= set(ids)
            leftovers += len(list(store.rglob(".*.tmp")))
            if ended:
                stages = ("before the first shard", "after the last shard", "between shards")
                hit[stages[0 if not after else 1 if len(after) == n_shards else 2]] += 1
                at[len(after)] += 1
                assert len(whole_ids(store)) == sum(len(read_tensors(path)[1]["ids"]) for path in after)
            elif count is not None:
                hit["too late"] += 1
            if Store(store).cohorts():  # a manifest there is a whole entry
                assert Store(store).open("cohort", "phantom-general").verify() == []
        entry = Store(store).open("cohort", "phantom-general")
        for name in whole.manifest["files"]:
            assert (entry.path / name).read_bytes() == (whole.path / name).read_bytes(), name
        assert entry.manifest["files"] == whole.manifest["files"]
        assert entry.verify() == []
        assert not list(entry.path.rglob(".*.tmp")), "a resumed run clears what killed writers left"
        entries += 1
    assert twice == 0, "an image of a whole shard is never encoded again"
    if kills > 3:
        assert hit["between shards"] > kills // 2
    said = {
        "kills": hit.total() - hit["too late"],
        "hit": dict(hit),
        "image shards of a run": n_shards,
        "shard counts at which kills came": len(at),
        "entries, every file byte-identical to the uninterrupted run's": entries,
        "images of a run": len(whole.records()),
        "images encoded in all runs": begun,
        "of which again, for their shard was not whole": again,
        "images of a whole shard encoded again": twice,
        "half-written files left by kills, and cleared": leftovers,
    }
    figures("kills", said, kills > 3)


def figures(name: str, said: dict[str, Any], soak: bool) -> None:
    """What a soak run found, into benchmarks/faults.json."""
    path = ROOT / "benchmarks" / "faults.json"
    if soak:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps(known | {name: said}, indent=1) + "\n", encoding="utf-8")


def test_a_writer_killed_in_the_middle_of_a_file_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    write_tensors(path, {"x": np.arange(4.0)}, {"which": "old"})
    code = (
        "import resource, signal, sys; from pathlib import Path; import numpy as np;"
        "from linkage_core.store import files;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "files.write_tensors(Path(sys.argv[1]), {'x': np.arange(9999.0)}, {})"
    )
    assert subprocess.run([sys.executable, "-c", code, path], cwd=ROOT).returncode == -signal.SIGXFSZ
    assert read_tensors(path)[1] == {"which": "old"}
    assert len(list(tmp_path.iterdir())) == 2, "the old file, and the half that writing() clears"


def test_two_runs_on_one_store_cannot_harm_it(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    runs = [start(folder, store.root, stderr=subprocess.PIPE) for _ in range(2)]
    said = [run.communicate(timeout=300)[1].decode() for run in runs]
    ended = sorted(run.returncode for run in runs)
    assert ended in ([0, 2], [0, 0]), said  # the second waits for nothing: refused, or there is nothing left to do
    if ended == [0, 2]:
        assert "Another run is writing" in " ".join("".join(said).split())
    assert store.open("cohort", "phantom-general").verify() == []


def at_a_terminal() -> None:
    """What a script starts in the background ignores Ctrl-C, and so does all that it starts: not here."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupted(run: subprocess.Popen[bytes], begun: Callable[[], bool]) -> str:
    """What a run says when Ctrl-C comes as soon as it has begun."""
    while not begun():
        assert run.poll() is None
        time.sleep(0.002)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=300)[1].decode()
    assert run.returncode == 130, said
    return said


SWALLOWS = """
import os, signal, sys
class Import:
    def find_spec(self, name, path, target=None):
        if name == "linkage_core.cli":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                [None for _ in range(1000)]
            except KeyboardInterrupt:
                pass
sys.meta_path.insert(0, Import())
sys.argv = ["linkage", "--help"]
from linkage_core.__main__ import main
main()
"""


def test_ctrl_c_is_not_lost_in_an_import_that_swallows_it() -> None:
    command = [sys.executable, "-c", SWALLOWS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, preexec_fn=at_a_terminal)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", STOPPED + "\n")


def test_ctrl_c_says_that_what_was_finished_stays(folder: Path, tmp_path: Path) -> None:
    how = {"stderr": subprocess.PIPE, "preexec_fn": at_a_terminal}
    command = [sys.executable, "-m", "linkage_core", "doctor"]
    early = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, **how)
    loaded = Path(f"/proc/{early.pid}/maps")
    for said in (
        interrupted(early, lambda: "/numpy/" in loaded.read_text()),  # imports have begun, and take a while yet
        interrupted(start(folder, tmp_path, **how), lambda: any(tmp_path.rglob(".lock"))),
    ):
        assert said == STOPPED + "\n"


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
        result = study.study(store.open("toy", "m")).table([10, 50], [1]).to_json()
    except LinkageError as error:
        return str(error)
    assert result == truth
    return None


@pytest.mark.parametrize("damages", [60, pytest.param(3000, marks=pytest.mark.soak)])
def test_a_byte_changed_anywhere_is_named_or_changes_nothing(damages: int, entry: Entry, store: Store) -> None:
    truth = study.study(entry).table([10, 50], [1]).to_json()
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
