"""The command line: results, exit codes and messages; bad input leaves what was there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.command import linkage
from helpers.places import ROOT
from helpers.toy import toy_arrays, toy_entry, toy_records
from linkage_core.store.entry import Entry, Store


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Path]:
    """Files of an import: image, text, records."""
    records = toy_records(40)
    images, texts = toy_arrays(records, 1.0)
    paths = {name: tmp_path / name for name in ("image.npy", "text.npy", "records.csv")}
    np.save(paths["image.npy"], images)
    np.save(paths["text.npy"], texts)
    records.to_csv(paths["records.csv"], index=False)
    return paths


def import_mine(mine: dict[str, Path], store: Store, **changed: Path) -> int:
    paths = {"image": mine["image.npy"], "text": mine["text.npy"], "records": mine["records.csv"]} | changed
    options = [part for name, path in paths.items() for part in (f"--{name}", path)]
    return linkage("import", "mine/model", *options, "--store", store.root)


def test_import_audit_verify(mine: dict[str, Path], store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_mine(mine, store) == 0
    assert "linkage audit mine/model" in capsys.readouterr().out
    assert linkage("audit", "mine/model", "--store", store.root, "--pool-size", "10,50,full", "--k", "1,5") == 0
    assert "Recall@k" in capsys.readouterr().out
    assert linkage("verify", "--store", store.root) == 0
    assert "mine/model: as written" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["before", "after"])
def test_store_goes_before_or_after_and_json_is_alone_on_standard_output(
    entry: Entry, store: Store, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["audit", "toy/m", "--json", "-", "--pool-size", "10,full", "--k", "1"]
    option = ["--store", store.root]
    assert linkage(*(option + command if place == "before" else command + option)) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["schema"] == 1
    assert [row["pool_size"] for row in content["rows"]] == [10, "full"]
    assert {"cohort", "model", "head", "direction", "pool", "n_queries", "n_excluded", "lift"} <= set(
        content["rows"][0]
    )


def test_json_to_a_file_and_quiet(
    entry: Entry, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.json"
    assert linkage("--store", store.root, "--quiet", "audit", "toy", "--json", target) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(target.read_text())["rows"]


def test_bad_requests_exit_with_2_and_say_what_and_how(
    entry: Entry, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    largest = int(entry.records()["study_id"].nunique())
    cases = [
        (["audit", "toy/m", "--pool-size", str(10 * largest)], "largest possible N is"),
        (["audit", "toy/m", "--pool-size", "10", "--k", "11"], "k is 11, and the pool holds 10"),
        (["audit", "toy/m", "--pool-size", "ten"], "--pool-size has 'ten'"),
        (["audit", "toy/m", "--pool-size", ","], "--pool-size is empty"),
        (["audit", "toy/other"], "It has: toy/m"),
        (["audit", "nobody"], "no cohort 'nobody'"),
        (["audit", "../toy"], "cannot be the name of a store entry"),
        (["audit", "toy/m", "--head", "best"], "no head 'best'"),
        (["audit", "toy/m", "--direction", "up"], "direction is 'up'"),
        (["audit", "toy/m", "--open-world", "--prior", "1.5"], "--prior has '1.5'"),
        (["audit", "toy/m", "--open-world", "--prior", "often"], "--prior has 'often'"),
        (["audit", "toy/m", "--gallery", "nobody"], "no nobody/m"),
        (["import", "nowhere", "--image", "a", "--text", "b", "--records", "c"], "is no COHORT/MODEL"),
        (["embed", "phantom"], "No model was named"),
        (["embed", "phantom", "--model", "phantom-radiolog"], "phantom-radiology"),
        (["cohort", "fodler", "."], "folder"),
        (["phantom", "export", "--layout", "mimic", "there"], "--layout is 'mimic'"),
        (["audit", "toy/m", "--json", "/proc/nowhere/x.json"], "/proc/nowhere"),
    ]
    for command, message in cases:
        assert linkage(*command, *([] if "export" in command else ["--store", store.root])) == 2, command
        said = capsys.readouterr()
        assert message in said.err.replace("\n", " "), (command, said.err)
        assert "Traceback" not in said.err
        assert said.out == ""
    assert linkage("embed", "--no-such-option") == 2


def test_bad_arrays_leave_the_store_as_it_was(
    mine: dict[str, Path], store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert import_mine(mine, store) == 0
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    images = np.load(mine["image.npy"])
    broken = images.copy()
    broken[3, 0] = np.nan
    bad = {
        "nan.npy": broken,
        "zero.npy": np.where(np.arange(len(images))[:, None] == 2, 0, images),
        "short.npy": images[:-1],
        "words.npy": np.array([["a"]]),
    }
    for name, array in bad.items():
        np.save(tmp_path / name, array)
        assert import_mine(mine, store, image=tmp_path / name) == 2
    np.save(tmp_path / "pickle.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "noise.npy").write_bytes(b"\x93NUMPY\x01\x00broken")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "two.npz", a=images, b=images)
    for name in ("pickle.npy", "noise.npy", "empty.npz", "two.npz", "absent.npy"):
        assert import_mine(mine, store, image=tmp_path / name) == 2
        assert name in capsys.readouterr().err.replace("\n", "")
    assert import_mine(mine, store, records=tmp_path / "none.csv") == 2
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before


def test_verify_names_the_damaged_file(entry: Entry, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    shard = next(entry.path.glob("features-image-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert linkage("verify", "toy", "--store", store.root) == 2
    assert shard.name in capsys.readouterr().err.replace("\n", "")
    assert linkage("audit", "toy/m", "--store", store.root) == 2
    assert shard.name in capsys.readouterr().err.replace("\n", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "exported"
    assert linkage("phantom", "export", "--studies", "20", "--size", "64", "--quiet", target) == 0
    return target


def test_a_cohort_is_read_checked_and_bounded(
    folder: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linkage("cohort", "folder", folder, "--json", "-") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["studies"] == 20
    image = sorted((folder / "images").iterdir())[0]
    image.write_bytes(image.read_bytes()[:100])
    assert linkage("cohort", "folder", folder, "--max-rejects", "0", "--rejects", tmp_path / "r.csv") == 1
    assert image.name in (tmp_path / "r.csv").read_text()
    assert linkage("cohort", "folder", folder, "--max-rejects", "1") == 0


def test_embed_your_own_folder_and_audit_it(folder: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    image = sorted((folder / "images").iterdir())[0]
    image.write_bytes(b"not an image")
    command = ["embed", "folder", folder, "--model", "phantom-general", "--name", "mine", "--store", store.root]
    assert linkage(*command, "--max-rejects", "0") == 1
    said = capsys.readouterr().out
    assert image.name.split(".")[0] in said
    assert linkage(*command, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["rejects"] == 1
    assert linkage("audit", "mine", "--store", store.root, "--pool-size", "2,full", "--k", "1") == 0


def test_doctor_lists_models_by_name(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert linkage("doctor", "--store", store.root, "--json", "-") == 0
    names = {model["name"] for model in json.loads(capsys.readouterr().out)["models"]}
    assert {"phantom-radiology", "clip", "pubmedclip"} <= names
    assert linkage("doctor", "--store", store.root) == 0
    assert "phantom-radiology" in capsys.readouterr().out


def test_the_module_is_the_command_and_audit_starts_without_torch(entry: Entry, store: Store) -> None:
    script = (
        "import sys; from linkage_core.cli import main\n"
        f"try: main.main(['audit', 'toy', '--store', {str(store.root)!r}, '--quiet'])\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert 'streamlit' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
    shown = subprocess.run(
        [sys.executable, "-m", "linkage_core", "--help"], check=True, cwd=ROOT, capture_output=True, text=True
    )
    assert "phantom" in shown.stdout


TORCH = ("doctor.py", "opacus_engine.py", "paper.py")


def test_the_core_knows_no_streamlit_and_only_encoders_and_training_know_torch() -> None:
    for path in (ROOT / "linkage_core").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import streamlit" not in text, path
        assert "from streamlit" not in text, path
        if path.parent.name != "encoders" and path.name not in TORCH:
            assert "import torch" not in text, path


def test_each_further_question_has_its_flag(
    entry: Entry, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_entry(store, tmp_path / "second", model="weak", signal=0.3)
    flags = ["--compare", "--open-world", "--prior", "0.5", "--rule", "score", "--exposure", "--fusion"]
    asked = ["--pool-size", "10", "--k", "1", "--hard-negatives", "--strata", "sex", "--json", "-"]
    assert linkage("audit", "toy", *flags, *asked, "--store", store.root) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["tables"]) >= {
        "models_compared",
        "open_world_operating",
        "exposure_tail",
        "fusion",
        "strata_balance",
    }
    assert {row["prior"] for row in said["tables"]["open_world_operating"]} == {0.5}
    assert len({row["hit"] for row in said["tables"]["fusion"]}) > 2
    assert "exposure" not in said["tables"]  # one row an image: only in the folder of --full
    one_way = ["--images-by", "study", "--hit", "text", "--pool-size", "10", "--k", "1"]
    assert linkage("audit", "toy/m", *one_way, "--store", store.root) == 0
    printed = capsys.readouterr().out
    assert "What if several images or reports are pooled" in printed


def test_full_writes_a_folder_that_reads_back(
    entry: Entry, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "audit"
    command = ["audit", "toy/m", "--full", folder, "--pool-size", "10", "--k", "1", "--store", store.root]
    assert linkage(*command) == 0
    printed = capsys.readouterr().out
    assert "Left out, models_compared: There is one model" in printed
    assert json.loads((folder / "audit.json").read_text())["tables"]["recall"]["rows"] > 0
    assert linkage(*command) == 2
    assert "not an empty folder" in " ".join(capsys.readouterr().err.split())
