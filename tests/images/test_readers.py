"""Reading processes: what a file does to one of them is that file's reject, and nobody else's."""

import platform
from pathlib import Path

import numpy as np
import pytest

from helpers.reading import hostile, image, mean, swelling
from linkage_core.errors import ImageError, InputError
from linkage_core.images import processes
from linkage_core.images.pixels import Radiograph
from linkage_core.images.processes import Readers


def rows(*does: str) -> list[dict[str, str]]:
    return [{"record_id": str(number), "does": what} for number, what in enumerate(does)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_readings_come_in_order(workers: int) -> None:
    with Readers(image, None, workers) as pool:
        assert pool.workers == workers
        got = list(pool.read(rows(*[""] * 40), ahead=5))
    assert [int(one.pixels[0, 0]) for one in got if isinstance(one, Radiograph)] == list(range(40))
    with Readers(image, mean, workers) as pool:
        small = list(pool.read(rows("", "", ""), ahead=2))
    assert [(one.shape, float(one[0, 0])) for one in small if isinstance(one, np.ndarray)] == [
        ((1, 1), 0.0),
        ((1, 1), 1.0),
        ((1, 1), 2.0),
    ]


def test_no_more_is_read_ahead_than_allowed() -> None:
    taken = []

    def counted():
        for row in rows(*[""] * 100):
            taken.append(row)
            yield row

    with Readers(image, None, 0) as pool:
        stream = pool.read(counted(), ahead=7)
        next(stream)
        assert len(taken) == 8


def test_what_a_file_does_to_its_process_is_its_own_reject(tmp_path: Path) -> None:
    does = ["", "crash", "", "loop", "", "swell", "", "reject", "", f"once {tmp_path / 'flag'}", ""]
    with Readers(hostile, None, 2, cpu_seconds=0.5, memory=1 << 30) as pool:
        got = list(pool.read(rows(*does), ahead=4))
    reasons = {does[i]: one for i, one in enumerate(got) if isinstance(one, ImageError)}
    assert {what: one.reason for what, one in reasons.items()} == {
        "crash": "decoder-stopped",
        "loop": "decoder-stopped",
        "swell": "too-large",
        "reject": "damaged",
    }
    assert "crashed" in reasons["crash"].what
    assert "more than 0.5 seconds" in reasons["loop"].what
    assert [int(one.pixels[0, 0]) for one in got if isinstance(one, Radiograph)] == [0, 2, 4, 6, 8, 9, 10]


def test_a_file_that_never_comes_is_given_up() -> None:
    with Readers(hostile, None, 1, wall_seconds=1) as pool:
        (got,) = pool.read(rows("sleep"), ahead=1)
    assert isinstance(got, ImageError)
    assert "no answer for 1 seconds" in got.what


def test_what_cannot_be_sent_is_read_here() -> None:
    with Readers(lambda row: image(row), None, 2) as pool:
        assert pool.workers == 0
        assert len(list(pool.read(rows("", ""), ahead=1))) == 2


def test_processes_that_cannot_start_are_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes.sys, "path", ["/nowhere"])
    with Readers(image, None, 1) as pool, pytest.raises(InputError, match=r"could not be started.*fewer --workers"):
        list(pool.read(rows(""), ahead=1))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_process_keeps_the_memory_it_needs_for_each_image() -> None:
    with Readers(swelling, None, 1) as pool:
        faults = [int(one.pixels[0, 0]) for one in pool.read(rows(*[""] * 6), ahead=1) if isinstance(one, Radiograph)]
    assert len(faults) == 6
    assert faults[0] > 9000  # of 4 KB, once
    assert max(faults[2:]) < 1000
