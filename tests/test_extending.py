"""docs/extending.md is taken at its word: each example is put into a copy of the sources, run, and thrown away."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.places import ROOT

TEXT = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = {part.splitlines()[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
# kind of change -> files with code it may touch, which is what the table of the page has to say
MOST = {
    **{"attacker": 2, "attacker in a package of your own": 2, "mechanism": 2, "encoder": 2},
    **{"cohort kind": 2, "release kind": 3, "page": 3},
}
MOST_LINES = 40


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


def placed(section: str) -> Iterator[tuple[str, str | None, str]]:
    """(path, line of it below which the code goes or None for a new file, code)."""
    for block in [*blocks(section, "python"), *blocks(section, "toml")]:
        head, _, code = block.partition("\n")
        path, _, below = head.removeprefix("# ").partition(", below: ")
        yield path, below or None, code


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources and what they read, where they can be changed; the store is only looked at."""
    for name in ("linkage_core", "explorer", "pages", ".streamlit"):
        shutil.copytree(ROOT / name, tmp_path / name)  # with what is compiled already: it is as old as its sources
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "cached_embeddings").symlink_to(ROOT / "cached_embeddings")
    return tmp_path


def add(tree: Path, section: str) -> set[str]:
    """Puts a section's code into the tree and returns the files it touched."""
    touched = set()
    for path, below, code in placed(section):
        file = tree / path
        if below is None:
            assert not file.exists(), f"{path} is there already"
            file.parent.mkdir(exist_ok=True)
            file.write_text(code, encoding="utf-8")
        else:
            lines = file.read_text(encoding="utf-8").splitlines()
            assert lines.count(below) == 1, f"{path} has {lines.count(below)} lines {below!r}"
            lines.insert(lines.index(below) + 1, code.rstrip("\n"))
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        touched.add(path)
    return touched


def run(tree: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = (
        f'linkage() {{ "{sys.executable}" -m linkage_core "$@"; }}\npython() {{ "{sys.executable}" "$@"; }}\nset -e\n'
    )
    environment = os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "200"}
    return subprocess.run(["bash", "-c", command + script], cwd=tree, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("title", SECTIONS)
def test_an_example_does_what_the_page_says(title: str, tree: Path) -> None:
    section = SECTIONS[title]
    kind = re.sub(r"^An? ", "", title)
    touched = add(tree, section)
    assert f"| [{kind}](#{title.lower().replace(' ', '-')}) | {len(touched)} |" in TEXT
    assert len(touched) <= MOST[kind]
    assert sum(len(code.splitlines()) for _, _, code in placed(section)) <= MOST_LINES
    (script,), (wanted,) = blocks(section, "sh"), blocks(section, "text")
    said = run(tree, script)
    assert said.returncode == 0, said.stderr[-2000:]
    for line in wanted.splitlines():
        assert line in said.stdout + said.stderr, said.stdout[-3000:]


def test_every_kind_has_its_example() -> None:
    assert {re.sub(r"^An? ", "", title) for title in SECTIONS} == set(MOST)
