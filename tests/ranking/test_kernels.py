"""What numba compiles is kept on disk, and whatever lies there never stops a run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linkage_core.ranking import _count, _histogram, kernels

SIGNATURE = "void(float64[::1])"


def doubled(values):  # type: ignore[no-untyped-def]
    for i in range(values.shape[0]):
        values[i] *= 2


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled loops go in a test."""
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def works(made: Any) -> bool:
    values = np.arange(3.0)
    made(values)
    return values.tolist() == [0.0, 2.0, 4.0]


def test_a_loop_is_compiled_once(kept: Path) -> None:
    first: Any = kernels.compiled(doubled, SIGNATURE)
    assert works(first)
    assert sum(first.stats.cache_misses.values()) == 1
    assert {path.suffix for path in kept.rglob("*.nb?")} == {".nbi", ".nbc"}
    again: Any = kernels.compiled(doubled, SIGNATURE)
    assert works(again)
    assert (sum(again.stats.cache_hits.values()), sum(again.stats.cache_misses.values())) == (1, 0)


@pytest.mark.parametrize("content", [b"", b"no index", b"\x80\x04garbage"])
def test_what_was_kept_and_cannot_be_read_is_compiled_again(kept: Path, content: bytes) -> None:
    kernels.compiled(doubled, SIGNATURE)
    for path in kept.rglob("*.nb?"):
        path.write_bytes(content)
    assert works(kernels.compiled(doubled, SIGNATURE))


class Hostile:
    """A pickle that leaves a mark where it is opened."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self._mark,)


def test_nothing_is_opened_where_another_account_can_write(kept: Path) -> None:
    kernels.compiled(doubled, SIGNATURE)
    (index,) = kept.rglob("*.nbi")
    index.write_bytes(pickle.dumps(Hostile(kept / "opened")))
    for place in (kept, index.parent):
        mode = place.stat().st_mode
        place.chmod(0o777)
        assert works(kernels.compiled(doubled, SIGNATURE))
        assert not (kept / "opened").exists(), place
        place.chmod(mode)
    kernels.compiled(doubled, SIGNATURE)
    assert (kept / "opened").exists(), "the mark is left where it is opened"


def test_without_a_folder_to_keep_it_a_loop_is_compiled(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    (kept / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(kept / "file"))
    assert works(kernels.compiled(doubled, SIGNATURE))


def test_warming_compiles_every_loop() -> None:
    kernels.warm()
    for module in (_count, _histogram):
        assert module.compiled.cache_info().currsize == len(kernels.PRECISIONS)
