"""The phantom's encoders: heads, ties, any image and any text, weights that come back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from linkage_core.encoders import phantom
from linkage_core.encoders.phantom import (
    DualTower,
    PhantomEncoder,
    build_vocabulary,
    load_phantom,
    prepare,
    save_phantom,
)
from linkage_core.errors import InputError, ModelError
from linkage_core.images.pixels import Radiograph

TEXTS = [
    "No acute process.",
    "Large left effusion.",
    "",
    "An unheard-of word: Zwerchfell 12",
    "no  ACUTE process",
    "a " * 500,
]


@pytest.fixture
def model() -> DualTower:
    torch.manual_seed(0)
    vocabulary_size = 2 + 6
    tower = DualTower(vocabulary_size).eval()
    with torch.no_grad():
        for name, value in tower.state_dict().items():
            if "running" in name:
                value.uniform_(0.5, 1.5)
    return tower


@pytest.fixture
def encoder(model: DualTower) -> PhantomEncoder:
    vocabulary = build_vocabulary(["no acute process large left effusion"], least=1)
    return PhantomEncoder("phantom-general", model, vocabulary, training={})


def pictures(n: int = 3, shape: tuple[int, int] = (64, 64)) -> list[Radiograph]:
    rng = np.random.default_rng(0)
    return [Radiograph(rng.integers(0, 65536, shape, dtype=np.uint16), 16) for _ in range(n)]


def test_head_of_features_is_the_models_own_embedding(encoder: PhantomEncoder, model: DualTower) -> None:
    images = pictures()
    features, heads = encoder.image_features(images), encoder.heads()
    with torch.inference_mode():
        whole = model.embed_images(torch.from_numpy(np.stack([prepare(i.pixels) for i in images]))[:, None]).numpy()
    ours = heads.image(features)
    np.testing.assert_allclose(ours / np.linalg.norm(ours, axis=1, keepdims=True), whole, atol=1e-5)

    text_features = encoder.text_features(TEXTS)
    codes = phantom.tokens(TEXTS, {word: code for code, word in enumerate(encoder.vocabulary)})
    with torch.inference_mode():
        whole = model.embed_texts(torch.from_numpy(codes)).numpy()
    ours = heads.text(text_features)
    np.testing.assert_allclose(ours / np.linalg.norm(ours, axis=1, keepdims=True), whole, atol=1e-5)
    assert features.dtype == text_features.dtype == np.float32
    assert features.shape == (3, phantom.FEATURES)


def test_texts_of_the_same_words_tie_exactly(encoder: PhantomEncoder) -> None:
    features = encoder.text_features(TEXTS * 60)
    assert (features[0] == features[4]).all()
    assert (features[0] == features[6]).all()
    assert (features[0] != features[1]).any()
    assert np.isfinite(features).all()


def test_padding_has_no_influence(model: DualTower) -> None:
    codes = torch.tensor([[3, 4, 5]])
    padded = torch.zeros(1, phantom.TOKENS, dtype=torch.long)
    padded[:, :3] = codes
    with torch.inference_mode():
        assert torch.allclose(model.text(codes), model.text(padded), atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (512, 512), (300, 200), (97, 130), (20, 20), (1, 5)])
def test_area_resampling_against_counting_pixels(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, shape, dtype=np.uint16)
    side = min(shape)
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    square = pixels[top : top + side, left : left + side].astype(float)
    rows = np.repeat(square, 64, axis=0).reshape(64, side, side).mean(1)  # a target row is `side` whole fine rows
    slow = np.repeat(rows, 64, axis=1).reshape(64, 64, side).mean(2)
    slow = (slow - slow.mean()) / max(slow.std(), 1.0)
    np.testing.assert_allclose(prepare(pixels), slow, atol=1e-3)


def test_a_constant_image_and_no_image(encoder: PhantomEncoder) -> None:
    flat = Radiograph(np.full((80, 80), 65535, np.uint16), 8)
    assert np.abs(prepare(flat.pixels)).max() < 0.1
    assert np.isfinite(encoder.image_features([flat])).all()
    assert encoder.image_features([]).shape == (0, phantom.FEATURES)
    assert encoder.text_features([]).shape == (0, phantom.FEATURES)
    with pytest.raises(InputError):
        prepare(np.zeros((4, 4, 3)))


def test_brightness_and_contrast_do_not_matter() -> None:
    pixels = pictures(1)[0].pixels // 4
    np.testing.assert_allclose(prepare(pixels), prepare(pixels * 2 + 1000), atol=1e-4)


def test_vocabulary_by_frequency() -> None:
    assert build_vocabulary(["b a a", "B c"], least=2) == ["<pad>", "<unk>", "a", "b"]


def test_saved_and_loaded_model_is_the_same(tmp_path: Path, encoder: PhantomEncoder, model: DualTower) -> None:
    path = phantom.weights_path("phantom-general", tmp_path)
    save_phantom(path, "phantom-general", model, encoder.vocabulary, {"seed": 3})
    assert path.stat().st_size < 1_000_000
    loaded = load_phantom("phantom-general", tmp_path)
    assert loaded.vocabulary == encoder.vocabulary
    assert loaded.describe()["training"] == {"seed": 3}
    assert len(loaded.describe()["weights_sha256"]) == 64
    np.testing.assert_allclose(
        loaded.image_features(pictures()), encoder.image_features(pictures()), rtol=0.05, atol=0.02
    )
    # What was read once is what comes again, exactly: the rounding happens when writing.
    save_phantom(path, "phantom-general", loaded._model, loaded.vocabulary, {"seed": 3})
    again = load_phantom("phantom-general", tmp_path)
    assert (again.image_features(pictures()) == loaded.image_features(pictures())).all()
    assert (again.text_features(TEXTS) == loaded.text_features(TEXTS)).all()


def test_absent_damaged_or_foreign_weights_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: PhantomEncoder, model: DualTower
) -> None:
    monkeypatch.setattr(phantom, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(ModelError, match="linkage phantom build"):
        load_phantom("phantom-general", tmp_path)
    with pytest.raises(ModelError, match="phantom-radiology"):
        load_phantom("phantom-unheard", tmp_path)
    path = phantom.weights_path("phantom-general", tmp_path)
    save_phantom(path, "phantom-general", model, encoder.vocabulary, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be read"):
        load_phantom("phantom-general", tmp_path)
    save_phantom(path, "phantom-clinical", model, encoder.vocabulary, {})
    with pytest.raises(ModelError, match="phantom-clinical"):
        load_phantom("phantom-general", tmp_path)
    save_phantom(path, "phantom-general", model, [*encoder.vocabulary, "more"], {})
    with pytest.raises(ModelError, match="do not fit"):
        load_phantom("phantom-general", tmp_path)
