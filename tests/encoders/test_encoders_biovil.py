"""BioViL-T's adapter on small weights: what it computes, what it refuses. Against the official code: tests/parity."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from helpers.tiny_checkpoints import COMMIT, TEXTS, cached, random_state, write_biovil_files
from linkage_core.encoders import bert, biovil, hub
from linkage_core.encoders.biovil import BioVilImage, CxrBert
from linkage_core.encoders.registry import known_models, load_encoder
from linkage_core.errors import ModelError
from linkage_core.images.pixels import Radiograph


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setattr(biovil, "_LAYERS", ((4, 1), (4, 1), (4, 1), (8, 1)))
    monkeypatch.setattr(biovil, "_IMAGENET_CLASSES", 3)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def as_published(state, hidden=64):
    """The tensors that stand in the published text file and are not used."""
    words = len(state["bert.embeddings.word_embeddings.weight"])
    return state | {
        "bert.embeddings.position_ids": torch.arange(512)[None],
        "bert.pooler.dense.weight": torch.zeros(hidden, hidden),
        "bert.pooler.dense.bias": torch.zeros(hidden),
        "cls.predictions.bias": torch.zeros(words),
        "cls.predictions.transform.dense.weight": torch.zeros(hidden, hidden),
        "cls.predictions.transform.dense.bias": torch.zeros(hidden),
        "cls.predictions.transform.LayerNorm.weight": torch.zeros(hidden),
        "cls.predictions.transform.LayerNorm.bias": torch.zeros(hidden),
    }


def write(folder, change_text=lambda state: None, change_image=lambda state: None):
    write_biovil_files(folder)
    text = as_published(random_state(CxrBert(bert.bert_config_of("x", folder), 128)))
    image = random_state(BioVilImage())
    change_text(text)
    change_image(image)
    save_file(text, folder / "model.safetensors", metadata={"format": "pt"})
    torch.save(image, folder / hub.BIOVIL_IMAGE)
    return folder


def load(folder):
    return load_encoder(f"hf:{folder}", store_root=folder, device="cpu")


def radiographs(n=3):
    rng = np.random.default_rng(0)
    sizes = [(560, 600), (701, 540), (512, 512)]
    return [Radiograph(rng.integers(0, 65536, sizes[i % 3], dtype=np.uint16), 16) for i in range(n)]


def test_features_do_not_depend_on_the_batch(tmp_path):
    encoder = load(write(tmp_path / "model"))
    images, texts = encoder.image_features(radiographs()), encoder.text_features(TEXTS)
    assert images.shape == texts.shape == (3, 128)
    for row, image in zip(images, radiographs(), strict=True):
        np.testing.assert_allclose(encoder.image_features([image])[0], row, atol=1e-5)
    for row, text in zip(texts, TEXTS, strict=True):
        np.testing.assert_allclose(encoder.text_features([text])[0], row, atol=1e-5)
    assert (images >= 0).all()  # means of what a ReLU gave
    assert np.abs(images[0] - images[1]).max() > 1e-3
    assert encoder.heads().image.weight.shape == encoder.heads().text.weight.shape == (128, 128)
    assert encoder.heads().image.bias.any()


def test_the_vector_for_no_earlier_image_counts(tmp_path):
    def other(state):
        state["encoder.missing_previous_emb"] += 1.0

    images = radiographs()
    differ = load(write(tmp_path / "a")).image_features(images) - load(
        write(tmp_path / "b", change_image=other)
    ).image_features(images)
    assert np.abs(differ).max() > 1e-2


def test_grey_values_are_stretched_and_the_middle_is_taken(tmp_path):
    encoder = load(write(tmp_path / "model"))
    ramp = np.tile(np.linspace(20_000, 40_000, 600).astype(np.uint16), (512, 1))
    pixels = encoder.prepare([Radiograph(ramp, 16)])
    assert pixels.shape == (1, 3, 448, 448)
    assert (pixels[0, 0] == pixels[0, 2]).all()
    left, right = 76 / 600, (76 + 447) / 600  # of the 600 columns, 448 from the 76th
    assert pixels.min() == pytest.approx(left, abs=2 / 255)
    assert pixels.max() == pytest.approx(right, abs=2 / 255)


def test_the_manifest_covers_both_files(tmp_path):
    folder = write(cached(tmp_path / "hub", "org/vil"))
    said = load_encoder("hf:org/vil", store_root=tmp_path, device="cpu").describe()
    assert (said["family"], said["revision"], said["text_limit"]) == ("biovil-t", COMMIT, 512)
    assert said["preprocessing"]["shortest_edge"] == 512
    lines = "".join(f"{hub.sha256_of(folder / name)}  {name}\n" for name in ("model.safetensors", hub.BIOVIL_IMAGE))
    assert said["weights_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    json.dumps(said)
    info = next(info for info in known_models() if info.name == "hf:org/vil")
    assert (info.family, info.present) == ("biovil-t", True)


def test_a_long_report_loses_its_end_and_is_counted(tmp_path):
    encoder = load(write(tmp_path / "model"))
    assert encoder.truncated(["clear " * 510, "clear " * 511 + "."]) == 1
    features = encoder.text_features(["clear " * 511, "clear " * 600])
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)


def test_tied_names_may_both_stand_or_either(tmp_path):
    expected = load(write(tmp_path / "published")).text_features(TEXTS)

    def both(state):
        state["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
        state["cls.predictions.decoder.bias"] = state["cls.predictions.bias"].clone()

    def the_other(state):
        state["cls.predictions.decoder.weight"] = state.pop("bert.embeddings.word_embeddings.weight")
        state["cls.predictions.decoder.bias"] = state.pop("cls.predictions.bias")

    def no_pooler(state):
        for name in ("weight", "bias"):
            del state[f"bert.pooler.dense.{name}"]

    for number, change in enumerate((both, the_other, no_pooler)):
        np.testing.assert_array_equal(load(write(tmp_path / str(number), change)).text_features(TEXTS), expected)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("cls_projection_head.LayerNorm.weight"), "cls_projection_head.LayerNorm.weight missing"),
        (lambda s: s.pop("cls.predictions.transform.dense.bias"), "cls.predictions.transform.dense.bias missing"),
        (lambda s: s.pop("bert.pooler.dense.bias"), "bert.pooler.dense.bias missing"),
        (lambda s: s.update({"classifier.bias": torch.zeros(2)}), "classifier.bias unexpected"),
        (
            lambda s: s.update(
                {"cls_projection_head.dense_to_out.bias": s.pop("cls_projection_head.dense_to_output.bias")}
            ),
            "cls_projection_head.dense_to_output.bias missing; cls_projection_head.dense_to_out.bias unexpected",
        ),
        (lambda s: s.update({"bert.pooler.dense.weight": torch.zeros(2, 2)}), "dense.weight of another shape"),
        (lambda s: s["bert.embeddings.position_ids"].add_(1), "bert.embeddings.position_ids unexpected"),
        (
            lambda s: s.update({"cls.predictions.decoder.weight": torch.zeros(2, 2)}),
            "cls.predictions.decoder.weight unexpected",
        ),
    ],
)
def test_a_key_of_the_text_file_that_does_not_fit_is_named(tmp_path, change, named):
    with pytest.raises(ModelError) as caught:
        load(write(tmp_path / "model", change_text=change))
    assert named in caught.value.what


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("encoder.missing_previous_emb"), "encoder.missing_previous_emb missing"),
        (lambda s: s.pop("encoder.vit_pooler.type_embed"), "encoder.vit_pooler.type_embed missing"),
        (lambda s: s.pop("encoder.encoder.fc.bias"), "encoder.encoder.fc.bias missing"),
        (
            lambda s: s.update({"classifier.fc_0.model.weight": torch.zeros(2)}),
            "classifier.fc_0.model.weight unexpected",
        ),
        (
            lambda s: s.update({"projector.1.weight": s.pop("projector.model.1.weight")}),
            "projector.model.1.weight missing; projector.1.weight unexpected",
        ),
    ],
)
def test_a_key_of_the_image_file_that_does_not_fit_is_named(tmp_path, change, named):
    with pytest.raises(ModelError) as caught:
        load(write(tmp_path / "model", change_image=change))
    assert named in caught.value.what
    assert hub.BIOVIL_IMAGE in caught.value.what


class Evil:
    def __reduce__(self):
        return (print, ("this must never run",))


@pytest.mark.parametrize("content", [{"a": Evil()}, ["no names"], {"a": "text"}], ids=["code", "list", "text"])
def test_an_image_file_that_is_not_plain_tensors_is_refused(tmp_path, capsys, content):
    folder = write(tmp_path / "model")
    torch.save(content, folder / hub.BIOVIL_IMAGE)
    with pytest.raises(ModelError, match=r"not a plain file of tensors|does not hold named tensors"):
        load(folder)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize("file", [hub.BIOVIL_IMAGE, "model.safetensors", "vocab.txt", "config.json"])
def test_a_file_that_is_not_here_is_named(tmp_path, file):
    folder = write(tmp_path / "model")
    (folder / file).unlink()
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert file in caught.value.what


def test_a_published_name_takes_only_the_published_files(tmp_path, monkeypatch):
    commit = hub.PUBLISHED["biovil-t"].revision
    folder = write(cached(tmp_path / "hub", "microsoft/BiomedVLP-BioViL-T", commit))
    with pytest.raises(ModelError, match="the published file has sha256:70bed344872e"):
        load_encoder("biovil-t", store_root=tmp_path, device="cpu")
    text, image = (folder / name for name in ("model.safetensors", hub.BIOVIL_IMAGE))
    hashes = {
        text.name: (f"sha256:{hub.sha256_of(text)}",),
        image.name: ("sha256:" + "0" * 64, "md5:" + hashlib.md5(image.read_bytes()).hexdigest()),
    }
    monkeypatch.setitem(hub.PUBLISHED, "biovil-t", replace(hub.PUBLISHED["biovil-t"], hashes=hashes))
    assert load_encoder("biovil-t", store_root=tmp_path, device="cpu").describe()["revision"] == commit
    with image.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match=r"the published file has sha256:0+ and md5:"):
        load_encoder("biovil-t", store_root=tmp_path, device="cpu")
