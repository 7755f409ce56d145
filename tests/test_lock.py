"""The locks hold what pyproject.toml asks for, whole and with hashes; every licence fits. No network is asked."""

from __future__ import annotations

import importlib.metadata
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.places import ROOT

LOCKS = ROOT / "locks"
TABLES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BASE, EXTRAS = TABLES["project"]["dependencies"], TABLES["project"]["optional-dependencies"]
SETS = {"base": BASE, "dev": TABLES["dependency-groups"]["dev"], **EXTRAS}


def pinned(*names: str) -> dict[str, set[str]]:
    """Name -> versions that files of locks/ hold."""
    found: dict[str, set[str]] = {}
    for name in names:
        for line in (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            if not line.startswith((" ", "#")):
                one = Requirement(line.rstrip("\\ "))
                (version,) = [part.version for part in one.specifier]
                found.setdefault(canonicalize_name(one.name), set()).add(version)
    return found


@pytest.mark.parametrize("name", SETS)
def test_every_requirement_is_locked_in_a_version_that_fits(name: str) -> None:
    there = pinned("base", "torch", name)
    for line in SETS[name]:
        one = Requirement(line)
        versions = there.get(canonicalize_name(one.name), set())
        assert versions, f"{line} is in no lock: make lock"
        assert all(one.specifier.contains(version) for version in versions), f"{line}, locked {versions}: make lock"


def test_every_file_is_hashed_and_names_no_index() -> None:
    assert {path.stem for path in LOCKS.iterdir()} == {*SETS, "torch", "torch-cpu"}
    for path in LOCKS.glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert "index" not in text.splitlines()[0]
        blocks = re.split(r"\n(?=\S)", text.rstrip("\n"))
        for block in blocks:
            assert re.match(r"[\w.-]+==\S+( ;[^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\\n|$))+$", block), block[
                :80
            ]


def test_the_cpu_build_is_of_the_locked_version() -> None:
    (cpu,), (other,) = pinned("torch-cpu")["torch"], pinned("torch")["torch"]
    assert cpu == f"{other}+cpu"
    assert f"torch=={other}" == BASE[0]


def wanted_by(name: str, seen: set[str]) -> Iterator[str]:
    """What an installed package wants here, and what that wants."""
    for line in importlib.metadata.requires(name) or ():
        one = Requirement(line)
        if one.marker is not None and not one.marker.evaluate({**default_environment(), "extra": ""}):
            continue
        if (key := canonicalize_name(one.name)) not in seen:
            seen.add(key)
            yield key
            yield from wanted_by(key, seen)


def test_what_the_packages_want_is_locked_too() -> None:
    """--require-hashes stops at the first package that is not."""
    there = pinned("base", "torch")
    seen: set[str] = set()
    wanted = {found for line in BASE for found in wanted_by(Requirement(line).name, seen)}
    assert wanted - set(there) == set()


def test_every_licence_fits() -> None:
    tool: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "dependencies.py"))
    rows = tool["licences"]()
    assert len(rows) > 100
    assert [(name, said) for name, _, said, fits in rows if not fits] == []
    assert not tool["allowed"]("x", "GNU General Public License v3 (GPLv3)")
    assert not tool["allowed"]("x", "AGPL-3.0-or-later")


def test_the_tools_read_what_they_wrote(tmp_path: Path) -> None:
    parts = runpy.run_path(str(ROOT / "tools" / "lock.py"))["packages"]
    text = (LOCKS / "ray.txt").read_text(encoding="utf-8")
    assert "".join(parts(text).values()) == text
