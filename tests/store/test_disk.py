"""Disks that cannot do everything: the work goes on where it can, and is refused with the way out where it cannot."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from pathlib import Path

import pytest

from helpers.command import linkage
from linkage_core import disk
from linkage_core.encoders import hub
from linkage_core.errors import InputError, ModelError, StoreError
from linkage_core.store import files
from linkage_core.store.entry import Store, folder_name


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Syncs of folders fail as on a disk that has none; those of files do not."""
    sync = os.fsync

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(disk, "_said_of", set())


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_disk_that_syncs_no_folder_is_written_to_with_one_note(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refusing(monkeypatch, number)
    with caplog.at_level(logging.WARNING):
        for name in ("a", "b", "deeper/c"):
            files.write_json(tmp_path / name, {"name": name})
    assert (tmp_path / "deeper" / "c").is_file()
    assert len(caplog.records) == 1, "once a disk"
    assert "syncs no folders" in caplog.text


def test_a_disk_that_breaks_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.write_json(tmp_path / "a", {})


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP])
def test_a_disk_without_locks_says_so(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"keeps no locks.*on a local disk"), files.writing(tmp_path / "c" / "m"):
        pass


def test_a_lock_that_another_holds_is_its_own_error(tmp_path: Path) -> None:
    """Two open files of one process are two holders."""
    with (tmp_path / "lock").open("w") as one, (tmp_path / "lock").open("w") as other:
        disk.lock(one.fileno(), tmp_path, InputError("held"))
        with pytest.raises(InputError, match="held"):
            disk.lock(other.fileno(), tmp_path, InputError("held"))


def test_a_user_without_a_home_has_no_models_and_is_told_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number."""
    for name in ("HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nowhere(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nowhere)
    assert hub.resolve("openai/clip-vit-base-patch32") is None
    assert hub.cached_repositories() == []
    with pytest.raises(ModelError, match="Set HF_HOME"):
        hub.huggingface_cache()
    monkeypatch.setattr(Path, "expanduser", lambda path: path if not str(path).startswith("~") else nowhere(path))
    monkeypatch.setenv("HF_HOME", "/models")
    assert hub.huggingface_cache() == Path("/models/hub")
    assert hub.converted_cache() == Path("/models/linkage-explorer/models")


def test_a_store_that_is_named_in_bytes_is_refused() -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        Store(Path(os.fsdecode(b"/tmp/s\xff")))
    assert folder_name(os.fsdecode(b"f\xff")).startswith("f-"), "a cohort in such a folder has a name all the same"


def test_memory_that_runs_out_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_left(self: Store) -> list[str]:
        raise MemoryError("Unable to allocate 8.00 TiB")

    monkeypatch.setattr(Store, "cohorts", none_left)
    assert linkage("verify", "--store", tmp_path) == 2
    assert "Memory ran out (Unable to allocate 8.00 TiB)" in capsys.readouterr().err
