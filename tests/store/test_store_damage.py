"""Every kind of file of a store, damaged in five ways: named, or of no consequence; never another figure."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.places import ROOT
from helpers.toy import toy_entry
from linkage_core.audit import open_world, study
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Store


def flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(content))


def cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def emptied(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def gone(path: Path, chance: random.Random) -> None:
    path.unlink()


def folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


WAYS: tuple[Callable[[Path, random.Random], None], ...] = (flip, cut, emptied, gone, folder)


def figures(store: Store) -> str:
    entry = store.open("toy", "m")
    entry.rejects()
    entry.stored_reports()
    entry.heads("mine")
    result = study.study(entry).table([10, 50], [1]).to_json()
    outcome = open_world.prepare(entry).outcomes(20, "score").at(0.5)
    return result + repr(outcome)


def named_by_verify(store: Store) -> bool:
    try:
        return bool(
            store.unfinished() or [one for model in store.models("toy") for one in store.open("toy", model).verify()]
        )
    except LinkageError:
        return True


@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.soak)])
def test_a_damaged_file_never_gives_another_figure(times: int, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = toy_entry(store, tmp_path / "input")
    entry.add_head("mine", entry.heads(), {})
    truth = figures(store)
    paths = sorted(path for path in entry.path.rglob("*") if path.is_file() and path.name != ".lock")
    chance, found = random.Random(times), Counter[str]()
    whole = shutil.copytree(entry.path, tmp_path / "whole")
    for path in paths:
        for way in WAYS:
            for _ in range(times if way in (flip, cut) else 1):
                way(path, chance)
                named = named_by_verify(store)
                try:
                    assert figures(store) == truth, (path, way)
                    said = "the right figures"
                except LinkageError as error:
                    said = "an error that names the entry" if "toy" in str(error) else "an error that names nothing"
                made_again = path.parent.name == "ranks" and way is gone
                assert named or made_again, (path, way)
                found[said] += 1
                shutil.rmtree(entry.path)
                shutil.copytree(whole, entry.path)
    assert not found["an error that names nothing"]
    if times > 1:
        place = ROOT / "benchmarks" / "faults.json"
        known = json.loads(place.read_text(encoding="utf-8"))
        said_all = {"kinds of file": len(paths), "ways": len(WAYS), "damages": found.total(), **found}
        place.write_text(json.dumps(known | {"damage": said_all}, indent=1) + "\n", encoding="utf-8")
