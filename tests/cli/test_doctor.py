"""What `linkage doctor` reports."""

import importlib.metadata
import json
import os
import shutil
from collections import namedtuple

import pytest

from helpers.tiny_checkpoints import cached, write_siglip
from linkage_core.cli import doctor
from linkage_core.encoders.hub import PUBLISHED
from linkage_core.encoders.registry import NAMED
from linkage_core.images.dicom import DECODERS


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "hub"


def test_the_examination_is_complete_and_json_able(tmp_path):
    found = json.loads(json.dumps(doctor.examine(tmp_path / "store")))
    assert set(found) == {
        "system",
        "packages",
        "cpu",
        "memory",
        "gpu",
        "faiss",
        "numba",
        "dicom",
        "browser",
        "models",
        "store",
        "environment",
        "disk",
    }
    versions = {row["name"]: row["version"] for row in found["packages"]}
    assert versions["torch"] == importlib.metadata.version("torch")
    assert found["cpu"]["cores"] == os.cpu_count()
    assert 0 < found["memory"]["available"] <= found["memory"]["total"]
    assert found["faiss"]["kind"] in ("faiss-cpu", "faiss-gpu")
    assert found["numba"]["usable"] is True
    assert not (tmp_path / "store").exists()  # it looks, and makes nothing


def test_models_are_listed_by_name_with_presence(tmp_path, caches):
    write_siglip(cached(caches, "org/sig"))
    models = {row["name"]: row for row in doctor.examine(tmp_path)["models"]}
    assert set(models) == {*NAMED, *PUBLISHED, "hf:org/sig"}
    assert models["hf:org/sig"]["present"] is True
    assert models["hf:org/sig"]["size"] > 1000
    assert models["clip"]["present"] is False
    assert "`linkage pull clip`" in models["clip"]["remedy"]


def test_an_empty_store_and_a_damaged_entry_carry_a_remedy(tmp_path):
    assert "linkage embed" in doctor._store(tmp_path / "none")["remedy"]
    folder = tmp_path / "openi" / "clip"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    (folder / "features.safetensors").write_bytes(b"x" * 999)
    (row,) = doctor._store(tmp_path)["entries"]
    assert (row["cohort"], row["model"], row["size"], row["readable"]) == ("openi", "clip", 1000, False)
    assert row["remedy"]


def test_every_compressed_syntax_names_its_decoder(monkeypatch):
    rows = doctor._dicom()
    assert {row["syntax"]: row["decoder"] for row in rows} == DECODERS
    assert all(row["present"] for row in rows)
    monkeypatch.setitem(DECODERS, "1.2.840.10008.1.2.4.50", "gdcm-of-tomorrow")
    monkeypatch.setitem(doctor._DECODER_PACKAGES, "gdcm-of-tomorrow", "some-package")
    row = next(row for row in doctor._dicom() if row["syntax"] == "1.2.840.10008.1.2.4.50")
    assert row["present"] is False
    assert row["remedy"].startswith("`pip install some-package`")


def test_two_faiss_over_each_other_are_noticed(monkeypatch):
    assert "remedy" not in doctor._faiss()
    monkeypatch.setattr(doctor, "_version", lambda name: "1.15.1")
    assert "pip uninstall -y faiss-cpu faiss-gpu" in doctor._faiss()["remedy"]


def test_what_is_absent_carries_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    assert "requirements.txt" in doctor._package("torch")["remedy"]
    assert "remedy" not in doctor._package("ray")
    assert doctor._faiss()["kind"] is None
    assert "faiss-cpu" in doctor._faiss()["remedy"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install chromium" in doctor._browser()["remedy"]
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    assert doctor._disk(tmp_path / "not" / "yet")["path"] == str(tmp_path)
    assert doctor._disk(tmp_path)["remedy"]


def test_offline_variables_are_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    found = doctor.examine(tmp_path)["environment"]
    assert (found["HF_HUB_OFFLINE"], found["TRANSFORMERS_OFFLINE"]) == ("1", None)
