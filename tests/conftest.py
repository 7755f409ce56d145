"""A store of nothing, and one entry in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.toy import toy_entry
from linkage_core.store.entry import Entry, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def entry(store: Store, tmp_path: Path) -> Entry:
    return toy_entry(store, tmp_path / "input")
