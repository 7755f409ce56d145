"""The plan is held by the linter: each contract of pyproject.toml fails on a tree that breaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.places import ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
LINTER = "from importlinter.cli import lint_imports_command; lint_imports_command()"

# contract -> a file, and what somebody in a hurry might add to it
BROKEN = {
    "rooms": ("linkage_core/store/files.py", "def late() -> None:\n    from linkage_core.audit import study\n"),
    "app": ("explorer/drawing/charts.py", "from explorer.frame import state\n"),
    "measuring": ("linkage_core/utility/table.py", "from linkage_core.mitigation import finetune\n"),
    "core": ("linkage_core/errors.py", "import streamlit\n"),
    "ray": ("linkage_core/store/pieces.py", "def fast() -> None:\n    import ray\n"),
    "torch": ("linkage_core/ranking/counts.py", "def fast() -> None:\n    import torch\n"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources alone, where they can be broken."""
    for package in ("linkage_core", "explorer"):
        keep = shutil.ignore_patterns("__pycache__", "_shipped", "*.png", "*.parquet", "*.safetensors")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=keep)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.fixture
def kept(tree: Path) -> Callable[[str], tuple[int, str]]:
    def run(contract: str) -> tuple[int, str]:
        """(exit code, what the linter said) of one contract."""
        said = subprocess.run(
            [sys.executable, "-c", LINTER, "--no-cache", "--contract", contract],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )
        return said.returncode, said.stdout + said.stderr

    return run


@pytest.mark.parametrize("contract", [one["id"] for one in CONTRACTS])
def test_a_tree_that_breaks_the_plan_is_named(
    contract: str, tree: Path, kept: Callable[[str], tuple[int, str]]
) -> None:
    code, said = kept(contract)
    assert code == 0, said
    path, line = BROKEN[contract]
    with (tree / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}")
    code, said = kept(contract)
    assert code == 1, said
    assert "BROKEN" in said
    assert path.removesuffix(".py").replace("/", ".") in said


def test_a_new_room_has_to_find_its_place(tree: Path, kept: Callable[[str], tuple[int, str]]) -> None:
    (tree / "linkage_core" / "attic").mkdir()
    (tree / "linkage_core" / "attic" / "__init__.py").touch()
    assert kept("rooms")[0] != 0
