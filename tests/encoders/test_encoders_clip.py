"""The CLIP and SigLIP adapter, on tiny checkpoints in the real format, read by the real loading code."""

import json
import os
import shutil
import socket

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipModel,
)

from helpers.tiny_checkpoints import COMMIT, LIMIT, TEXTS, as_pickle, cached, write_clip, write_siglip
from linkage_core.encoders import registry, towers
from linkage_core.encoders.clip import ClipEncoder, canonical
from linkage_core.encoders.hub import resolve
from linkage_core.encoders.pictures import eight_bit
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import ModelError
from linkage_core.images.pixels import Radiograph

WRITERS = {"clip": write_clip, "siglip": write_siglip}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Every attempt to connect fails and is remembered; the caches are empty folders."""
    attempts = []

    def refuse(_, address):
        attempts.append(address)
        raise OSError("the network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: refuse(None, host))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    yield
    assert not attempts


@pytest.fixture(params=["clip", "siglip"])
def family(request):
    return request.param


def radiographs(n=3, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(50, 70), (90, 40), (33, 33)]
    return [Radiograph(rng.integers(0, 65536, sizes[i % 3], dtype=np.uint16), 16) for i in range(n)]


def load(folder):
    return load_encoder(f"hf:{folder}", store_root=folder, device="cpu")


def transformers_own(folder, family, images, texts):
    """What transformers' own processor and model make of the same input: (image, text) embeddings, not normalised."""
    pictures = [Image.fromarray(np.round(image.pixels / 257).astype(np.uint8)).convert("RGB") for image in images]
    if family == "clip":
        model = CLIPModel.from_pretrained(folder).eval()
        pixels = CLIPImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="pt")
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=LIMIT, return_tensors="pt")
    else:
        model = SiglipModel.from_pretrained(folder).eval()
        pixels = SiglipImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="pt")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        plain = [canonical(text) for text in texts]
        tokens = tokenizer(plain, padding="max_length", truncation=True, max_length=LIMIT, return_tensors="pt")
    with torch.no_grad():
        image = model.get_image_features(**pixels).pooler_output
        text = model.get_text_features(**{"input_ids": tokens["input_ids"]}).pooler_output
    return image.numpy(), text.numpy()


# -------------------------------------------------------------------------------------------------------------- parity


def test_heads_of_features_are_the_models_own_embeddings(tmp_path, no_network, family):
    folder = WRITERS[family](tmp_path / "model")
    encoder = load(folder)
    images = radiographs()
    image, text = transformers_own(folder, family, images, TEXTS)
    heads = encoder.heads()
    np.testing.assert_allclose(heads.image(encoder.image_features(images)), image, atol=1e-5)
    np.testing.assert_allclose(heads.text(encoder.text_features(TEXTS)), text, atol=1e-5)
    assert np.abs(image[0] - image[1]).max() > 1e-2  # rows differ, or the parity would say little
    assert np.abs(text[0] - text[1]).max() > 1e-2


def test_head_shapes_follow_the_family(tmp_path, no_network):
    plain = load(write_clip(tmp_path / "clip")).heads()
    assert plain.image.weight.shape == (20, 24)
    assert plain.text.weight.shape == (20, 16)
    assert not plain.image.bias.any()
    assert not plain.text.bias.any()
    sigmoid = load(write_siglip(tmp_path / "siglip")).heads()
    assert (sigmoid.image.weight == np.eye(24)).all()
    assert sigmoid.text.weight.shape == (24, 16)
    assert sigmoid.text.bias.any()


def test_batches_do_not_change_features(tmp_path, no_network, family, monkeypatch):
    folder = WRITERS[family](tmp_path / "model")
    images, texts = radiographs(7), TEXTS * 2 + ["Normal."]
    whole = load(folder)
    expected = whole.image_features(images), whole.text_features(texts)
    monkeypatch.setattr(towers, "BATCH_IMAGES", 2)
    monkeypatch.setattr(towers, "BATCH_TEXTS", 3)
    parts = load(folder)
    np.testing.assert_allclose(parts.image_features(images), expected[0], atol=1e-5)
    np.testing.assert_allclose(parts.text_features(texts), expected[1], atol=1e-5)
    assert expected[0].dtype == expected[1].dtype == np.float32
    assert parts.image_features([]).shape == (0, 24)
    assert parts.text_features([]).shape == (0, 16)


def test_sixteen_bits_become_eight_by_rounding():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert (eight_bit(every) == np.round(every / 257)).all()
    assert (eight_bit(every[:1] * 257) == np.arange(256)).all()


def test_siglip_text_is_made_canonical_before_pieces_are_sought(tmp_path, no_network):
    encoder = load(write_siglip(tmp_path / "model"))
    shouted = encoder.text_features(["  SMALL,   left\nEffusion!! "])
    np.testing.assert_allclose(shouted, encoder.text_features(["small left effusion"]), atol=1e-6)


def test_long_reports_are_cut_at_the_limit_and_counted(tmp_path, no_network, family):
    encoder = load(WRITERS[family](tmp_path / "model"))
    word = "clear" if family == "clip" else "xq"  # one token; two tokens after the space mark
    texts = ["no", f"{word} " * 100, f"{word} " * 200]
    first = encoder.text_features(texts)
    assert encoder.truncated(texts) == 2
    np.testing.assert_allclose(first[1], first[2], atol=1e-5)  # what differs lies beyond the limit


def test_a_text_that_just_fits_is_not_counted(tmp_path, no_network):
    encoder = load(write_clip(tmp_path / "model"))
    encoder.text_features(["!" * 1])  # start, one token, end
    fits = "the " * (LIMIT - 2)
    assert len(CLIPTokenizer.from_pretrained(tmp_path / "model")(fits)["input_ids"]) == LIMIT
    assert encoder.truncated([fits]) == 0
    assert encoder.truncated([fits + "the"]) == 1


# ----------------------------------------------------------------------------------------------------------- precision


def test_reduced_precision_is_kept_only_where_it_agrees(tmp_path, no_network):
    local = resolve(str(write_clip(tmp_path / "model")))
    exact = ClipEncoder("x", local)
    images = radiographs()
    agrees = ClipEncoder("x", local, reduced_precision=(torch.bfloat16,), least_cosine=0.9)
    rows = agrees.image_features(images)
    (dtype, cosine) = agrees.precision_check()["image"]
    assert dtype == "bfloat16"
    assert 0.9 <= cosine < 1
    assert "text" not in agrees.precision_check()
    assert not np.array_equal(rows, exact.image_features(images))
    np.testing.assert_allclose(rows, exact.image_features(images), atol=0.2)
    differs = ClipEncoder("x", local, reduced_precision=(torch.bfloat16,), least_cosine=1.1)
    assert np.array_equal(differs.image_features(images), exact.image_features(images))
    before = differs.describe()
    differs.text_features(TEXTS)
    assert [dtype for dtype, _ in differs.precision_check().values()] == ["float32", "float32"]
    assert differs.describe() == before
    assert (
        before["compute_dtype"] == "bfloat16 where the first batch agrees with float32 to a cosine of 1.1, else float32"
    )


def test_rows_that_overflow_later_are_computed_again(tmp_path, no_network, monkeypatch):
    encoder = ClipEncoder("x", resolve(str(write_clip(tmp_path))), reduced_precision=(torch.bfloat16,), least_cosine=0)
    images = radiographs()
    fast, compute = encoder.image_features(images), encoder._compute

    def overflowing(tower, dtype):
        values = compute(tower, dtype)
        if dtype == torch.bfloat16:
            values[1, 2] = np.inf
        return values

    monkeypatch.setattr(encoder, "_compute", overflowing)
    rows = encoder.image_features(images)
    exact = ClipEncoder("x", encoder._local).image_features(images)
    assert np.array_equal(rows[1], exact[1])
    assert np.array_equal(rows[0], fast[0])
    assert not np.array_equal(fast, exact)


def test_replicas_and_later_runs_compute_in_what_one_has_settled_on(tmp_path, no_network, monkeypatch):
    class Fake(ClipEncoder):
        def __init__(self, name, local, device, *more):
            super().__init__(name, local, "cpu", *more)

    one = Fake("x", resolve(str(write_clip(tmp_path))), "cpu", (torch.bfloat16,), 0.0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    one._device = torch.device("cuda")
    (two,) = one.replicas()
    assert two.settled("image") is None
    two.image_features(radiographs())
    assert (one.settled("image"), one.settled("text")) == ("bfloat16", None)
    one.settle("image", "float32")
    assert two.settled("image") == "float32"
    exact = ClipEncoder("x", one._local)
    assert np.array_equal(two.image_features(radiographs()), exact.image_features(radiographs()))
    assert exact.settled("image") is None, "there is no choice"


def test_on_cuda_bfloat16_is_tried_and_nothing_else(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert registry._device("auto") == ("cuda", (torch.bfloat16,))
    assert registry._device("cpu") == ("cpu", ())


def test_overflow_in_reduced_precision_is_seen():
    ones = np.ones((2, 3), np.float32)
    assert towers._lowest_cosine(ones, np.array([[1, 1, 1], [1, np.inf, 1]], np.float32)) == -1
    assert towers._lowest_cosine(ones, ones) == pytest.approx(1)


# -------------------------------------------------------------------------------------------------------------- origin


def test_a_cached_snapshot_gives_the_same_and_records_its_commit(tmp_path, no_network, family):
    folder = WRITERS[family](tmp_path / "plain")
    shutil.copytree(folder, cached(tmp_path / "hub", "org/tiny"), dirs_exist_ok=True)
    encoder = load_encoder("hf:org/tiny", store_root=tmp_path, device="cpu")
    np.testing.assert_array_equal(encoder.text_features(TEXTS), load(folder).text_features(TEXTS))
    said = encoder.describe()
    assert said["model_id"] == "org/tiny"
    assert said["revision"] == COMMIT
    assert said["family"] == family
    assert len(said["weights_sha256"]) == 64
    assert said["text_limit"] == LIMIT
    assert said["compute_dtype"] == "float32"
    json.dumps(said)


def test_describe_carries_the_repositorys_preprocessing(tmp_path, no_network):
    said = load(write_clip(tmp_path / "model")).describe()
    assert said["revision"] is None
    assert said["preprocessing"] == {
        "input": "8-bit RGB of the shown grey values",
        "size": {"shortest_edge": 32},
        "resample": 3,
        "crop_size": {"height": 32, "width": 32},
        "rescale_factor": pytest.approx(1 / 255),
        "image_mean": [0.48, 0.45, 0.40],
        "image_std": [0.27, 0.26, 0.28],
        "text": "as the tokenizer's own files say: lower case",
    }


def test_sharded_weights_load(tmp_path, no_network):
    folder = write_clip(tmp_path / "model")
    expected = load(folder).text_features(TEXTS)
    CLIPModel.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    for part in (tmp_path / "shards").glob("model*"):
        part.rename(folder / part.name)
    encoder = load(folder)
    np.testing.assert_array_equal(encoder.text_features(TEXTS), expected)
    next(folder.glob("model-00001*")).unlink()
    with pytest.raises(ModelError, match=r"lacks model-00001-of"):
        load(folder)


# -------------------------------------------------------------------------------------------------------- what is wrong


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def missing(tensors):
    del tensors["visual_projection.weight"]


def unexpected(tensors):
    tensors["visual_projection.bias"] = torch.zeros(20)


def misshapen(tensors):
    tensors["visual_projection.weight"] = torch.zeros(20, 25)


def odd_positions(tensors):
    tensors["text_model.embeddings.position_ids"] = torch.arange(LIMIT).flip(0)[None]


def other_positions(tensors):
    tensors["somewhere.position_ids"] = torch.arange(LIMIT)[None]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (missing, "visual_projection.weight missing"),
        (unexpected, "visual_projection.bias unexpected"),
        (misshapen, "visual_projection.weight of another shape"),
        (odd_positions, "text_model.embeddings.position_ids unexpected"),
        (other_positions, "somewhere.position_ids unexpected"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, no_network, change, named):
    folder = write_clip(tmp_path / "model")
    change_weights(folder, change)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert named in caught.value.what
    assert str(folder) in caught.value.what
    assert "Download them again" in caught.value.remedy


def test_stored_position_buffers_of_older_checkpoints_are_accepted(tmp_path, no_network):
    folder = write_clip(tmp_path / "model")
    expected = load(folder).text_features(TEXTS)

    def old_format(tensors):
        tensors["text_model.embeddings.position_ids"] = torch.arange(LIMIT)[None]
        tensors["vision_model.embeddings.position_ids"] = torch.arange(17)[None]

    change_weights(folder, old_format)
    np.testing.assert_array_equal(load(folder).text_features(TEXTS), expected)


def test_a_pickle_is_never_loaded(tmp_path, no_network):
    folder = as_pickle(write_clip(tmp_path / "model"))
    with pytest.raises(ModelError, match="only as a pickle") as caught:
        load(folder)
    assert "save_pretrained" in caught.value.remedy
    as_pickle(write_clip(cached(tmp_path / "hub", "org/old")))
    with pytest.raises(ModelError, match="only as a pickle") as caught:
        load_encoder("hf:org/old", store_root=tmp_path)
    assert "`linkage pull hf:org/old`" in caught.value.remedy


def test_a_truncated_weight_file_is_named(tmp_path, no_network):
    folder = write_clip(tmp_path / "model")
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    with pytest.raises(ModelError, match="cannot be read"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", "{", "config.json cannot be read"),
        ("config.json", '{"model_type": "bert"}', "'bert'"),
        ("model.safetensors", None, "no model.safetensors"),
        ("preprocessor_config.json", None, "no image processor"),
        ("preprocessor_config.json", '{"image_processor_type": "ViTImageProcessor"}', "ViTImageProcessor"),
        ("vocab.json", None, "tokenizer"),
    ],
)
def test_a_folder_that_lacks_something_says_what(tmp_path, no_network, file, content, named):
    folder = write_clip(tmp_path / "model")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(ModelError, match=named) as caught:
        load(folder)
    assert caught.value.remedy
