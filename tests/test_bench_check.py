"""The guard of benchmarks: every ratio is listed, what is listed exists, and a fall of more than a quarter fails."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from helpers.places import ROOT
from helpers.scripts import script

RATIOS = re.compile(r"ratio|times_the_peer|times_less_processor|of the possible|ratio_to_matrix_product")
NO_SPEED = {"release_bounds.json"}
"""Whose ratios are of limits to what is true."""


@pytest.fixture(scope="module")
def check() -> ModuleType:
    return script("check")


def numbers(content: Any, path: str = "") -> Iterator[str]:
    """Paths of the numbers of a JSON file, places of lists as *."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from numbers(value, f"{path}/{name}".lstrip("/"))
    elif isinstance(content, list):
        for value in content:
            yield from numbers(value, f"{path}/*")
    elif isinstance(content, (int, float)) and not isinstance(content, bool):
        yield path


def test_every_ratio_of_a_benchmark_is_listed(check: ModuleType) -> None:
    listed = {(row["file"], row["key"]) for row in check.guarded()}
    found = set()
    for path in (ROOT / "benchmarks").glob("*.json"):
        if path.name in NO_SPEED or path.name == "check.json":
            continue
        found |= {(path.name, key) for key in numbers(json.loads(path.read_text())) if is_ratio(path.name, key)}
    peers = {
        ("ranking.json", f"ratio_to_matrix_product/{name}")
        for name in (
            "matrix product alone",
            "FAISS IndexFlatIP top-10",
        )
    }
    assert found - peers == listed


def is_ratio(file: str, key: str) -> bool:
    last = key.rsplit("/", 1)[-1]
    if last == "possible of the encoder alone":
        return False
    return bool(RATIOS.fullmatch(last)) or key.startswith("ratio_to_matrix_product/")


def test_what_is_measured_quickly_was_recorded(check: ModuleType) -> None:
    recorded = json.loads((ROOT / "benchmarks" / "check.json").read_text())
    names = {row["quick"] for row in check.guarded() if row["quick"]}
    assert {name if name in names else name.split(":")[0] for name in recorded} == names
    assert {row["better"] for row in check.guarded()} == {"lower", "higher"}


def test_a_fall_of_more_than_a_quarter_fails_once_it_is_seen_twice(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((ROOT / "benchmarks" / "check.json").read_text())
    monkeypatch.setattr("sys.argv", ["check.py"])
    slow = next(iter(recorded))
    seen: list[int] = []

    def measured(first: float, then: float) -> None:
        def one(wanted: list[str], repeats: int) -> dict[str, float]:
            seen.append(repeats)
            return recorded | {slow: recorded[slow] * (first if repeats == check.REPEATS else then)}

        monkeypatch.setattr(check, "measured", one)

    for first, then, code in ((1.2, 1.2, 0), (0.2, 0.2, 0), (1.3, 1.3, 1), (1.3, 1.1, 0)):
        measured(first, then)
        assert check.main() == code
    assert f"{slow}  FALLEN" in capsys.readouterr().out
    assert seen == [5, 5, 5, 11, 5, 11]
