"""`linkage report`: two files or none, what is refused, and a command that repeats it."""

from __future__ import annotations

import datetime
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from helpers.command import linkage
from helpers.toy import fill, toy_cohort, two_each
from linkage_core.cli import report as command
from linkage_core.report import write
from linkage_core.store.entry import Store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cohorts `mine` (two models) and `other's` of 40 patients; a name that a shell would take apart."""
    store = Store(tmp_path_factory.mktemp("store"))
    for name, models in (("mine", ("weak", "strong")), ("other's", ("strong",))):
        for seed, model in enumerate(models):
            fill(store, toy_cohort(name, two_each("zqx", 40)), model, float(seed + 1), seed)
    return store.root


def run(root: Path, *arguments: object) -> int:
    return linkage("report", *arguments, "--store", root, "--quiet")


def test_it_writes_a_page_and_its_twin(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    assert linkage("report", "mine", "--out", out, "--store", root) == 0
    said = capsys.readouterr()
    content = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert content["headline"] in said.out
    assert content["headline"] in out.read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    (following,) = re.findall(r"^Next: linkage (.*)$", said.out, re.M)
    assert linkage(*shlex.split(following)) == 0


def test_the_command_in_it_makes_the_same_files_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "today", lambda: datetime.date(2026, 3, 1))
    asked = ("--pool-size", "10,50", "--sections", "exposure,decoys", "--include-identifiers", "--seed", "3")
    assert linkage("report", "other's/strong", "--out", "a b.html", "--store", root, *asked, "--quiet") == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    content = json.loads(first["a b.json"])
    blocks = next(one["blocks"] for one in content["sections"] if one["name"] == "repeat")
    typed = blocks[1]["lines"][0]
    shutil.rmtree(tmp_path, ignore_errors=False)
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    words = shlex.split(typed)
    assert words[:3] == ["linkage", "report", "other's/strong"]
    assert linkage(*words[1:], "--quiet") == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_a_folder_is_made_and_the_file_named_after_the_cohort(root: Path, tmp_path: Path) -> None:
    assert run(root, "mine/weak", "--out", tmp_path / "reports") == 0
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        *("linkage-report-mine.html", "linkage-report-mine.json")
    ]


def test_nothing_is_replaced_unless_forced(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("report.html", "report.json"):
        (tmp_path / name).write_text("mine")
        assert run(root, "mine", "--out", tmp_path / "report.html") == 2
        assert "--force" in capsys.readouterr().err
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
        (tmp_path / name).unlink()
    (tmp_path / "report.html").write_text("mine")
    assert run(root, "mine/weak", "--out", tmp_path / "report.html", "--force") == 0
    assert (tmp_path / "report.html").read_text() != "mine"


def test_a_run_that_fails_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(report: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "twin", full)
    assert run(root, "mine/weak", "--out", tmp_path / "report.html") == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nobody"], "has no cohort 'nobody'"),
        (["mine/gone"], "has no mine/gone"),
        (["mine", "other's"], "about one cohort"),
        (["mine", "--pool-size", "100000"], "No image fills"),
        (["mine", "--pool-size", "1"], "at least two"),
        (["mine", "--pool-size", "x"], "'x'"),
        (["mine", "--sections", "decoy"], "Did you mean 'decoys'"),
        (["mine", "--release", "nowhere"], "no release folder nowhere"),
        (["mine", "--out", "gone/report.html"], "There is no folder"),
        (["mine", "--out", "a.html/b"], "There is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_said_and_nothing_written(
    arguments: list[str],
    what: str,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in arguments else ["--out", "r.html"]
    assert run(root, *arguments, *out) == 2
    assert what in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_of_a_whole_cohort_a_damaged_model_is_left_out(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Path(shutil.copytree(root, tmp_path / "store"))
    manifest = store / "mine" / "weak" / "manifest.json"
    manifest.write_text(manifest.read_text()[:-30])
    assert linkage("report", "mine", "--out", tmp_path / "r.html", "--store", store) == 0
    assert "weak is left out" in capsys.readouterr().err
    assert "The model weak is left out" in (tmp_path / "r.html").read_text()
    assert run(store, "mine/weak", "--out", tmp_path / "s.html") == 2
    assert "manifest.json" in capsys.readouterr().err
