"""A store of nothing, and one entry in it; and one thread for the algebra of a test process.

The processes of the tests share the cores, and the arrays are so small that the threads of one product mostly wait for
each other: with two threads the attackers' tests compute for 26 seconds, with one for 10.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

# before numpy and torch read them; what somebody has set holds
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1") | dict(os.environ))

# folders that tests read are noted for themselves alone, by them and by all that they start
if "PYTEST_XDIST_WORKER" not in os.environ:  # the processes of one run share it, as they share stores
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="linkage-state-")

from helpers.shared import Built, copy_of
from helpers.toy import toy_entry
from linkage_core.store.entry import Entry, Store


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """built(lab_store.build): a store of the asker's own, copied from one that is made once in a run."""
    return lambda build, upon=None: copy_of(build, tmp_path_factory, upon)


# By processor time, so that the last file to begin is a short one. Those of the browser wait as much as they compute:
# they stand between the others.
LONGEST = ("test_package.py", "test_study.py", "test_extending.py", "test_release_kinds.py", "test_campaigns.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    files = list(dict.fromkeys(item.path for item in items))
    waiting = [path for path in files if path.parent.name == "browser"]
    others = [path for path in files if path.parent.name != "browser"]
    each = -(-len(others) // (2 * len(waiting) or 1))  # all of them in the first half: the last to end is none of them
    order = {path: (i, 0) for i, path in enumerate(others)} | {path: (i * each, 1) for i, path in enumerate(waiting)}
    items.sort(key=lambda item: order[item.path])


@pytest.fixture(scope="module", autouse=True)
def few_steps(request: pytest.FixtureRequest) -> Iterator[None]:
    """Attackers who train take a few steps, but where it is them that are tested: elsewhere it matters that they are
    there, not how good they are, and their training would be half of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if "attacks" not in request.path.parts:
            shorten(patch)
        yield


@pytest.fixture
def few_steps_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few_steps, for a test of those attackers to which it does not matter how good they are."""
    shorten(monkeypatch)


def shorten(patch: pytest.MonkeyPatch) -> None:
    from linkage_core.attacks import dual

    patch.setattr(dual, "SETTINGS", tuple(replace(one, passes=1, least=4) for one in dual.SETTINGS))
    patch.setattr(dual, "_NETWORKS", 2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def entry(store: Store, tmp_path: Path) -> Entry:
    return toy_entry(store, tmp_path / "input")
