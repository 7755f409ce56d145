"""`linkage attack` and `linkage utility`: what they print and what they send as JSON."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from helpers.toy import read_back, toy_arrays, toy_records
from linkage_core.cli import main
from linkage_core.embed.embedding import import_arrays
from linkage_core.store.entry import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    records = toy_records(160)
    found = replace(read_back(records, tmp_path), default_split="heldout")
    entry = import_arrays(found, "m", *toy_arrays(records, 1.0), Store(tmp_path / "store"))
    entry.add_head("copy", entry.heads(), {"findings": ["Pneumonia"]})
    return tmp_path / "store"


def said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    main.app(args=[*arguments, "--json", "-"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


def test_attack_gives_rows_worst_and_ceiling(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["attack", "toy/m", "--head", "copy", "--known", "0,20", "--store", str(root)]
    content = said([*common, "--pool-size", "10"], capsys)
    rows = pd.DataFrame(content["rows"])
    assert set(rows["attacker"]) >= {"cosine", "white-box", "known-images", "reader"}
    assert [row["when"] for row in content["worst"]] == ["before", "after"]
    assert content["ceiling"][0]["ceiling"] == 1
    assert "a better one may do better" in content["provenance"]["scope"]
    main.app(args=[*common, "--release", "embeddings", "--pool-size", "10"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "cosine" not in printed.split("worst attacker")[0], "the heads of this release are secret"
    assert "before" in printed


def test_utility_gives_rows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = said(["utility", "toy/m", "--head", "copy", "--store", str(root)], capsys)
    assert {row["measure"] for row in content["rows"]} == {"probe", "zero-shot", "label-matched"}
    pneumonia = next(row for row in content["rows"] if row["label"] == "Pneumonia")
    assert pneumonia["declared"]
    main.app(args=["utility", "toy/m", "--head", "copy", "--store", str(root)], standalone_mode=False)
    assert "Pneumonia *" in capsys.readouterr().out


def test_bad_requests_end_with_two(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["attack", "toy/m", "--known", "some"], "--known has 'some'"),
        (["attack", "toy/m", "--pool-size", "99999"], "larger than any image can fill"),
        (["utility", "toy/m", "--missing", "never"], "missing is 'never'"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main.main([*arguments, "--store", str(root)])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_game_and_what_is_known_are_named_with_every_figure(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["attack", "toy/m", "--known", "all", "--store", str(root)]
    single = said([*common, "--pool-size", "10"], capsys)
    assert {(row["game"], row["knows"]) for row in single["rows"] + single["worst"]} == {("image", "nothing")}
    archives = said([*common, "--game", "archive", "--knows", "sex-age", "--pool-size", "10"], capsys)
    assert {(row["game"], row["knows"]) for row in archives["rows"] + archives["worst"]} == {("archive", "sex-age")}
    assert {row["attacker"] for row in archives["rows"]} == {row["attacker"] for row in single["rows"]}
    assert archives["ceiling"] == [], "the ceiling is of single images"
    best = max(row["recall"] for row in archives["rows"])
    assert archives["worst"][0]["recall"] == best
    assert archives["rows"][0]["chance"] == 0.1
    assert "matched one to one" in archives["provenance"]["game"]
    main.app(args=[*common, "--game", "archive", "--pool-size", "10"], standalone_mode=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "matched one to one" in printed
    assert "by itself" in printed
    assert "Next: linkage attack toy/m --game archive --knows sex-age" in printed


def test_bad_games_end_with_two(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = toy_records(160).assign(sex="", age=float("nan"))
    found = replace(read_back(records, tmp_path, name="bare"), default_split="heldout")
    import_arrays(found, "m", *toy_arrays(records, 1.0), Store(root))
    for arguments, message in (
        (["toy/m", "--game", "cards"], "game is 'cards'"),
        (["toy/m", "--knows", "everything"], "knows is 'everything'"),
        (["toy/m", "--game", "archive", "--pool-size", "99999"], "needs as many patients"),
        (["toy/m", "--game", "archive", "--pool-size", "1"], "leaves nothing to choose"),
        (["toy/m", "--game", "archive", "--k", "1,5"], "one report is named for each image"),
        (["bare/m", "--knows", "sex"], "have no sex"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main.main(["attack", *arguments, "--store", str(root)])
        assert stopped.value.code == 2
        assert message in " ".join(capsys.readouterr().err.split())
