"""What is kept between two runs of a page: as long as its entry is as it was, and no more of it than was said."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st

from explorer.frame import holding, kept


@pytest.fixture(autouse=True)
def two_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("LINKAGE_STORE", str(tmp_path))
    for model in ("a", "b"):
        manifest = tmp_path / "clinic" / model / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("{}")
    yield tmp_path
    st.cache_data.clear()
    st.cache_resource.clear()


def rewrite(root: Path, model: str) -> None:
    manifest = root / "clinic" / model / "manifest.json"
    manifest.write_text('{"again": true}')
    os.utime(manifest, ns=(1, 1))


def counted(**options: object) -> tuple[Callable, list[tuple]]:
    """A function that is remembered, and the calls that reached it."""
    calls: list[tuple] = []

    @kept.remembered(**options)
    def asked(cohort: str, model: str, sizes=(), pool: str = "any", *, signal: bool = True, _texts=None) -> list:
        calls.append((cohort, model, sizes, pool, signal, _texts))
        return [len(calls)]

    return asked, calls


@pytest.mark.parametrize("copied", [True, False])
def test_the_same_question_is_answered_once(copied: bool):
    asked, calls = counted(copied=copied)
    first = asked("clinic", "a", [10, 100])
    assert asked("clinic", "a", (10, 100)) == asked("clinic", "a", sizes=(n for n in (10, 100))) == first
    assert asked("clinic", "a", np.array([10, 100]), "any", signal=True) == first, "a default is as good as said"
    assert asked("clinic", "a", [10, 100], _texts=lambda: {}) == first, "what begins with _ is no part of the key"
    assert calls == [("clinic", "a", (10, 100), "any", True, None)]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "b"},
        {"cohort": "elsewhere"},
        {"sizes": [100]},
        {"pool": "same-findings"},
        {"signal": False},
    ],
)
def test_another_question_is_asked_again(other: dict):
    asked, calls = counted(copied=True)
    asked(**{"cohort": "clinic", "model": "a", "sizes": [10]})
    asked(**{"cohort": "clinic", "model": "a", "sizes": [10], **other})
    assert len(calls) == 2


def test_what_was_rewritten_is_read_again(two_entries: Path):
    asked, calls = counted()
    asked("clinic", "a"), asked("clinic", "b")
    rewrite(two_entries, "a")
    asked("clinic", "a"), asked("clinic", "b")
    assert [model for _, model, *_ in calls] == ["a", "b", "a"]


def test_a_result_of_several_models_ends_with_each_of_them(two_entries: Path):
    asked, calls = counted(copied=True)
    asked("clinic", ["a", "b"])
    asked("clinic", ("a", "b"))
    assert len(calls) == 1
    rewrite(two_entries, "b")
    asked("clinic", ["a", "b"])
    assert len(calls) == 2


def test_another_store_is_another_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked, calls = counted(copied=True)
    asked("clinic", "missing")  # in neither, so that nothing but the store tells them apart
    monkeypatch.setenv("LINKAGE_STORE", str(tmp_path / "other"))
    asked("clinic", "missing")
    assert len(calls) == 2


def test_no_more_is_held_than_fits(monkeypatch: pytest.MonkeyPatch):
    held, calls = holding.Held(most_bytes=2500), []
    monkeypatch.setattr(holding, "MEASURED_EVERY", 0.0)

    def make(n: int) -> np.ndarray:
        calls.append(n)
        return np.zeros(125)  # 1,000 bytes

    for n in (1, 2, 1, 3, 1, 2):
        assert held.get(n, lambda n=n: make(n)).nbytes == 1000
    assert calls == [1, 2, 3, 2], "the one used longest ago went"
    assert len(held) == 2
    held.get("large", lambda: np.zeros(10_000))
    held.get("larger", lambda: np.zeros(20_000))
    assert held.get(1, lambda: make(1)).nbytes == held.get(2, lambda: make(2)).nbytes == 1000
    assert calls == [1, 2, 3, 2], "one that alone is too large drives out no other"
    assert len(held) == 3, "and is held until the next such"


def test_what_several_hold_is_counted_once():
    shared = np.zeros(1000)

    class Holder:
        def __init__(self) -> None:
            self.rows, self.name = shared[5:], "holder"

    table = pd.DataFrame({"x": np.zeros(1000)})
    assert holding.bytes_of([Holder(), Holder(), {"again": shared}]) < 8000 + 200
    assert holding.bytes_of((table, table)) == 8000


def test_what_many_ask_for_at_once_is_made_once():
    held, calls = holding.Held(), []
    all_ask, another_makes = threading.Barrier(20), threading.Event()

    def make() -> str:
        calls.append(1)
        if len(calls) > 1:
            another_makes.set()
        another_makes.wait(0.2)  # long enough for whoever is not kept waiting
        return "made"

    def ask(_: int) -> str:
        all_ask.wait()
        return held.get("key", make)

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(ask, range(20)))
    assert (set(found), len(calls)) == ({"made"}, 1)
    with pytest.raises(ZeroDivisionError):
        held.get("bad", lambda: 1 // 0)
    assert held.get("bad", lambda: "good") == "good"


def test_a_copy_or_the_thing_itself():
    copied, _ = counted(copied=True)
    copied("clinic", "a").append("changed")
    assert copied("clinic", "a") == [1]
    st.cache_data.clear()
    itself, _ = counted()
    assert itself("clinic", "a") is itself("clinic", "a")


def test_a_key_of_ones_own_choice(two_entries: Path):
    asked, calls = counted(copied=True, of=lambda cohort, model: (cohort,))
    asked("clinic", "a"), asked("clinic", "b")
    rewrite(two_entries, "a")
    asked("clinic", "a")
    assert len(calls) == 1


def test_two_functions_share_nothing():
    @kept.remembered(copied=True)
    def one(cohort: str, model: str) -> str:
        return "one"

    @kept.remembered(copied=True)
    def two(cohort: str, model: str) -> str:
        return "two"

    assert (one("clinic", "a"), two("clinic", "a"), one("clinic", "a")) == ("one", "two", "one")


def test_what_raises_is_not_kept():
    calls = []

    @kept.remembered(copied=True)
    def fails(cohort: str, model: str) -> None:
        calls.append(model)
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            fails("clinic", "a")
    assert calls == ["a", "a"]
