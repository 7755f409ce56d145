"""BiomedCLIP's adapter on small weights: what it computes, what it refuses. Against open_clip itself: tests/parity."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.tiny_checkpoints import COMMIT, TEXTS, cached, random_state, write_biomedclip_files
from linkage_core.encoders import bert, biomedclip, hub, pull
from linkage_core.encoders.biomedclip import BiomedClip, Trunk, plain
from linkage_core.encoders.registry import known_models, load_encoder
from linkage_core.errors import ModelError
from linkage_core.images.pixels import Radiograph

TRUNK = "vit_test_patch16_224"


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setitem(biomedclip.TRUNKS, TRUNK, Trunk(32, 2, 2))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(folder, name="open_clip_model.safetensors", change=lambda state: None):
    write_biomedclip_files(folder, TRUNK)
    config = bert.bert_config_of("x", folder / "bert")
    state = random_state(BiomedClip(biomedclip.TRUNKS[TRUNK], config, 48))
    state["text.transformer.embeddings.position_ids"] = torch.arange(512)[None]
    change(state)
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file(state, folder / name)
    return folder


def load(folder):
    return load_encoder(f"hf:{folder}", store_root=folder, device="cpu")


def radiographs(n=3):
    rng = np.random.default_rng(0)
    sizes = [(260, 300), (301, 240), (224, 224)]
    return [Radiograph(rng.integers(0, 65536, sizes[i % 3], dtype=np.uint16), 16) for i in range(n)]


def test_features_do_not_depend_on_the_batch(tmp_path, monkeypatch):
    encoder = load(write(tmp_path / "model"))
    images = encoder.image_features(radiographs(5))
    texts = encoder.text_features(TEXTS)
    assert images.shape == (5, 32)
    assert texts.shape == (3, 56)  # (64 + 48) / 2
    assert encoder.heads().image(images).shape == encoder.heads().text(texts)[[0, 1, 2, 0, 1]].shape
    for row, image in zip(images, radiographs(5), strict=True):
        np.testing.assert_allclose(encoder.image_features([image])[0], row, atol=1e-5)
    for row, text in zip(texts, TEXTS, strict=True):
        np.testing.assert_allclose(encoder.text_features([text])[0], row, atol=1e-5)
    assert np.abs(images[0] - images[1]).max() > 1e-2
    assert np.abs(texts[0] - texts[1]).max() > 1e-2


def test_the_manifest_says_where_it_comes_from(tmp_path):
    write(cached(tmp_path / "hub", "org/bio"))
    said = load_encoder("hf:org/bio", store_root=tmp_path, device="cpu").describe()
    assert (said["family"], said["model_id"], said["revision"], said["text_limit"]) == (
        "biomedclip",
        "org/bio",
        COMMIT,
        256,
    )
    assert said["preprocessing"]["shortest_edge"] == said["preprocessing"]["crop"] == 224
    assert said["preprocessing"]["interpolation"] == "bicubic"
    assert len(said["weights_sha256"]) == 64
    json.dumps(said)
    info = next(info for info in known_models() if info.name == "hf:org/bio")
    assert (info.family, info.present) == ("biomedclip", True)


def test_a_long_report_loses_its_end_and_is_counted(tmp_path):
    encoder = load(write(tmp_path / "model"))
    texts = ["clear " * 254, "clear " * 255, "clear " * 400]
    assert encoder.truncated(texts) == 2
    features = encoder.text_features(texts)
    np.testing.assert_allclose(features[1], features[2], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("visual.trunk.pos_embed"), "visual.trunk.pos_embed missing"),
        (lambda s: s.update({"visual.head.proj.bias": torch.zeros(48)}), "visual.head.proj.bias unexpected"),
        (
            lambda s: s.update({"text.proj.1.weight": s.pop("text.proj.2.weight")}),
            "text.proj.2.weight missing; text.proj.1.weight unexpected",
        ),
        (lambda s: s.update({"text.proj.0.weight": torch.zeros(56, 65)}), "text.proj.0.weight of another shape"),
        (
            lambda s: s["text.transformer.embeddings.position_ids"].add_(1),
            "text.transformer.embeddings.position_ids unexpected",
        ),
    ],
)
def test_a_key_missing_extra_renamed_or_misshapen_is_named(tmp_path, change, named):
    with pytest.raises(ModelError) as caught:
        load(write(tmp_path / "model", change=change))
    assert named in caught.value.what


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("text_cfg", "hf_pooler_type"), "mean_pooler", "hf_pooler_type is 'mean_pooler'"),
        (("text_cfg", "hf_proj_type"), "linear", "hf_proj_type is 'linear'"),
        (("vision_cfg", "timm_pool"), "avg", "timm_pool is 'avg'"),
        (("vision_cfg", "timm_model_name"), "convnext_base", "image trunk is 'convnext_base'"),
        (("text_cfg", "hf_model_name"), "org/other-bert", "text trunk is 'org/other-bert'"),
        (("text_cfg", "context_length"), None, "lacks context_length"),
    ],
)
def test_another_shape_is_refused_by_name(tmp_path, path, value, named):
    folder = write(tmp_path / "model")
    settings = json.loads((folder / "open_clip_config.json").read_text())
    settings["model_cfg"][path[0]][path[1]] = value
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert named in caught.value.what


def test_the_published_pickle_is_converted_once_and_gives_the_same(tmp_path):
    commit = hub.PUBLISHED["biomedclip"].revision
    snapshot = write(cached(tmp_path / "hub", "org/bio", commit), "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="only as a pickle") as caught:
        load_encoder("hf:org/bio", store_root=tmp_path)
    assert "`linkage pull hf:org/bio` converts it" in caught.value.remedy
    pull.convert(
        snapshot, hub.converted_cache() / "org--bio" / commit, "org/bio", commit, name="open_clip_pytorch_model.bin"
    )
    encoder = load_encoder("hf:org/bio", store_root=tmp_path, device="cpu")
    plain_one = load(write(tmp_path / "plain"))
    np.testing.assert_array_equal(encoder.text_features(TEXTS), plain_one.text_features(TEXTS))
    assert encoder.describe()["source_sha256"] == hub.sha256_of(snapshot / "open_clip_pytorch_model.bin")
    stored = load_file(hub.converted_cache() / "org--bio" / commit / "open_clip_model.safetensors")
    assert stored.keys() == torch.load(snapshot / "open_clip_pytorch_model.bin", weights_only=True).keys()


def test_text_is_made_plain():
    assert plain("a\u2019s \u201cb\u201d") == 'a\'s "b"'
    assert plain("&lt;5 mm &amp;amp; stable") == "<5 mm & stable"
    assert plain("con\ufb01rmed\u3000\uff21\x07") == "confirmed A"
    assert plain("  two\r\nlines\t") == "two lines"
    assert plain("e\u0301") == "\u00e9"
    assert plain("\x93quoted\x94") == '"quoted"'
