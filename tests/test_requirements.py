"""The requirements files say what pyproject.toml says."""

from __future__ import annotations

import runpy
import tomllib

from helpers.places import ROOT


def test_the_files_are_made_from_pyproject() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    made = runpy.run_path(str(ROOT / "tools" / "requirements.py"))["made"](text)
    there = {path.name: path.read_text(encoding="utf-8") for path in ROOT.glob("requirements*.txt")}
    assert there == made, "run: make requirements"


def test_torch_is_first_and_pinned_and_one_faiss_is_in_each_file() -> None:
    for name in ("requirements.txt", "requirements-gpu.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        assert lines[0] == "torch==2.13.0"
        assert sum(line.startswith("faiss") for line in lines) == 1


def test_every_extra_has_a_file() -> None:
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = tables["project"]["optional-dependencies"]
    assert set(extras) == {"gpu", "models", "ray", "real", "dicomweb", "login"}
    texts = [path.read_text().splitlines() for path in ROOT.glob("requirements*.txt")]
    for extra, lines in extras.items():
        assert any(set(lines) <= set(text) for text in texts), extra
