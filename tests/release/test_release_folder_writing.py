"""A release is written in two steps, by one writer at a time, and leaves nothing behind that was not finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from helpers.release_store import MODEL, build
from helpers.shared import Built
from linkage_core.errors import InputError
from linkage_core.release import certificate, folder
from linkage_core.release.kinds import statistics
from linkage_core.release.make import Options, make
from linkage_core.store.entry import Store
from linkage_core.store.files import sha256

HIDDEN = ".out.writing"


@pytest.fixture(scope="module")
def done(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of statistics, to take data and statements from."""
    toy = Store(built(build)).open("toy", MODEL)
    return make(toy, tmp_path_factory.mktemp("done") / "r", Options("statistics", epsilon=1.0)).path


def held(done: Path) -> bytes:
    return (done / statistics.SUMS).read_bytes()


def test_two_steps_give_the_release_of_one(done: Path, tmp_path: Path) -> None:
    stated = {name: folder.check(done).content[name] for name in certificate.STATED if name != "files"}
    with folder.begin(tmp_path / "out") as making:
        assert (tmp_path / HIDDEN).stat().st_mode & 0o777 == 0o700
        making.write({statistics.SUMS: lambda path: path.write_bytes(held(done)) and None})
        assert making.files() == {statistics.SUMS: sha256(done / statistics.SUMS)}
        assert not (tmp_path / "out").exists()
        made = making.finish(stated)
    assert made.digest == folder.check(tmp_path / "out").digest == folder.check(done).digest
    assert [one.name for one in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").stat().st_mode == done.stat().st_mode


def test_what_was_not_finished_is_gone(done: Path, tmp_path: Path) -> None:
    for stops in (KeyboardInterrupt, OSError, None):
        with pytest.raises(stops) if stops else nullcontext(), folder.begin(tmp_path / "out") as making:
            making.write({statistics.SUMS: lambda path: path.write_bytes(held(done)) and None})
            if stops:
                raise stops
        assert not list(tmp_path.iterdir())


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with folder.begin(tmp_path / "out"):
        with pytest.raises(InputError, match=r"Another release is being written.*\.out\.writing is in use"):
            folder.begin(tmp_path / "out").__enter__()
        with folder.begin(tmp_path / "other"):
            assert {one.name for one in tmp_path.iterdir()} == {HIDDEN, ".other.writing"}
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="exists"):
        folder.begin(tmp_path / "out").__enter__()


def test_what_a_killed_writer_of_another_name_left_goes(tmp_path: Path) -> None:
    """Long ago, by nobody alive; a folder of somebody's own stays, and so does a link."""
    for name in ("left", "new", "own", "linked"):
        (tmp_path / f".{name}.writing" / ("notes" if name == "own" else "release")).mkdir(parents=True)
    (tmp_path / ".linked.writing").rename(tmp_path / "linked")
    (tmp_path / ".linked.writing").symlink_to(tmp_path / "linked")
    with folder.begin(tmp_path / "running"):
        for name in ("left", "own", "linked", "running"):
            os.utime(tmp_path / f".{name}.writing", (0, 0))
        with folder.begin(tmp_path / "out"):
            pass
        kept = {".new.writing", ".own.writing", ".linked.writing", ".running.writing", "linked"}
        assert {one.name for one in tmp_path.iterdir()} == kept


def test_what_a_killed_writer_left_is_emptied(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from linkage_core.release import folder\n"
        "with folder.begin(Path(sys.argv[1])) as making:\n"
        "    making.write({'x': lambda path: path.write_text('data')}); print('there', flush=True); sys.stdin.read()"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "there\n"
        with pytest.raises(InputError, match="Another release"):
            folder.begin(tmp_path / "out").__enter__()
        writer.send_signal(signal.SIGKILL)
    assert (tmp_path / HIDDEN / "release" / "x").read_text() == "data"
    with folder.begin(tmp_path / "out") as making:
        assert list((tmp_path / HIDDEN).iterdir()) == [making.path]
        assert not list(making.path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_link_in_place_of_the_hidden_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("x")
    (tmp_path / HIDDEN).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be used"):
        folder.begin(tmp_path / "out").__enter__()
    assert (tmp_path / "elsewhere" / "kept").exists()
