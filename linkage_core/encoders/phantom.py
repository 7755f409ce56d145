"""The phantom's own dual encoders: a small convolutional image tower and a two-layer text transformer.

One safetensors file holds a model: weights as float16 (read back as float32, which is what is used), and in its
metadata the vocabulary, the preprocessing and how it was trained. Words that the vocabulary does not have become one
unknown word, so any report can be embedded, and any radiograph.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from linkage_core import shipped
from linkage_core.encoders.pictures import SIDE, prepare
from linkage_core.errors import ModelError
from linkage_core.heads import Heads, Linear
from linkage_core.images.pixels import Radiograph

MODELS = ("phantom-general", "phantom-biomedical", "phantom-clinical", "phantom-radiology")
"""The ladder, from the least to the most specialised."""

SHIPPED = shipped.store()
"""Where a checkout keeps the models that ship."""

FEATURES = 64
TOKENS = 64  # of one report; later words are cut off
_PAD, _UNKNOWN = 0, 1
_FORMAT = "linkage-phantom-1"
_CHANNELS = (16, 32, 64, 96)
_LAYERS = 2
_ATTENTION_HEADS = 4
_BATCH = 256
_PREPROCESSING = {
    "side": SIDE,
    "crop": "centre square",
    "resample": "area",
    "scale": "zero mean, unit deviation per image",
}


# ------------------------------------------------------------------------------------------------------ preprocessing


def words(text: str) -> list[str]:
    """A report as lower-case words; everything but letters is dropped.

    >>> words("No acute process.")
    ['no', 'acute', 'process']
    """
    return re.findall(r"[a-z]+", text.lower())


def build_vocabulary(texts: list[str], least: int = 3) -> list[str]:
    """Words that occur at least `least` times, by falling frequency; the first two entries are padding and unknown."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in words(text):
            counts[word] = counts.get(word, 0) + 1
    known = sorted((word for word, count in counts.items() if count >= least), key=lambda word: (-counts[word], word))
    return ["<pad>", "<unk>", *known]


def tokens(texts: list[str], vocabulary: dict[str, int]) -> np.ndarray:
    """(n_texts, TOKENS) int64, zero-padded. A text without a single word is one unknown word."""
    table = np.zeros((len(texts), TOKENS), dtype=np.int64)
    for row, text in enumerate(texts):
        codes = [vocabulary.get(word, _UNKNOWN) for word in words(text)[:TOKENS]] or [_UNKNOWN]
        table[row, : len(codes)] = codes
    return table


# ------------------------------------------------------------------------------------------------------------- towers


class ImageTower(nn.Module):
    """(n, 1, SIDE, SIDE) -> (n, FEATURES). Four strided convolutions; the last grid keeps where things are."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for before, after in zip((1, *_CHANNELS[:-1]), _CHANNELS, strict=True):
            blocks += [
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.blocks = nn.Sequential(*blocks)
        grid = SIDE // 2 ** len(_CHANNELS)
        self.gather = nn.Linear(_CHANNELS[-1] * grid * grid, FEATURES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of a batch of prepared images."""
        return torch.relu(self.gather(self.blocks(images).flatten(1)))


class TextTower(nn.Module):
    """(n, length) token codes -> (n, FEATURES): the mean over words of a small transformer."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary_size, FEATURES, padding_idx=_PAD)
        self.position = nn.Parameter(torch.randn(TOKENS, FEATURES) * 0.02)
        layer = nn.TransformerEncoderLayer(
            FEATURES, _ATTENTION_HEADS, 4 * FEATURES, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(FEATURES)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Features of a batch of texts; padding has no influence."""
        padding = codes == _PAD
        states = self.layers(self.embed(codes) + self.position[: codes.shape[1]], src_key_padding_mask=padding)
        states = self.norm(states).masked_fill(padding[:, :, None], 0.0)
        return states.sum(1) / (~padding).sum(1, keepdim=True)


class DualTower(nn.Module):
    """Both towers with their heads."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.image = ImageTower()
        self.text = TextTower(vocabulary_size)
        self.image_head = nn.Linear(FEATURES, FEATURES)
        self.text_head = nn.Linear(FEATURES, FEATURES)

    def embed_images(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 1, SIDE, SIDE) -> (n, FEATURES) of unit norm."""
        return nn.functional.normalize(self.image_head(self.image(images)), dim=1)

    def embed_texts(self, codes: torch.Tensor) -> torch.Tensor:
        """(n, length) codes -> (n, FEATURES) of unit norm."""
        return nn.functional.normalize(self.text_head(self.text(codes)), dim=1)


# ------------------------------------------------------------------------------------------------------------ encoder


class PhantomEncoder:
    """One rung of the ladder, as encoders.base.Encoder asks."""

    def __init__(
        self, name: str, model: DualTower, vocabulary: list[str], *, training: dict[str, Any], weights_sha256: str = ""
    ) -> None:
        self.name = name
        self.picture = prepare
        self.vocabulary = vocabulary
        self.training = training
        self._codes = {word: code for code, word in enumerate(vocabulary)}
        self._model = model.eval()
        self._weights_sha256 = weights_sha256

    def replicas(self) -> list[PhantomEncoder]:
        """None: it runs on the processor."""
        return []

    def picture_features(self, pictures: np.ndarray) -> np.ndarray:
        """(n, SIDE, SIDE) images from `picture` -> (n, FEATURES) float32."""
        return self.image_features_of(pictures)

    @torch.inference_mode()
    def image_features_of(self, prepared: np.ndarray) -> np.ndarray:
        """(n, SIDE, SIDE) images from `prepare` -> (n, FEATURES) float32."""
        parts = [
            self._model.image(
                torch.from_numpy(np.ascontiguousarray(prepared[start : start + _BATCH], np.float32))[:, None]
            )
            for start in range(0, len(prepared), _BATCH)
        ]
        return torch.cat(parts).numpy() if parts else np.zeros((0, FEATURES), np.float32)

    def image_features(self, images: list[Radiograph]) -> np.ndarray:
        """(n_images, FEATURES) float32; any size, any source."""
        if not images:
            return np.zeros((0, FEATURES), np.float32)
        return self.image_features_of(np.stack([prepare(image.pixels) for image in images]))

    @torch.inference_mode()
    def text_features(self, texts: list[str]) -> np.ndarray:
        """(n_texts, FEATURES) float32. Texts with the same words get the same vector, bit for bit."""
        table, place = np.unique(tokens(texts, self._codes), axis=0, return_inverse=True)
        parts = [
            self._model.text(torch.from_numpy(table[start : start + _BATCH])) for start in range(0, len(table), _BATCH)
        ]
        return torch.cat(parts).numpy()[place.reshape(-1)] if parts else np.zeros((0, FEATURES), np.float32)

    def heads(self) -> Heads:
        """The off-the-shelf heads."""

        def linear(layer: nn.Linear) -> Linear:
            return Linear(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())

        return Heads(linear(self._model.image_head), linear(self._model.text_head))

    def truncated(self, texts: list[str]) -> int:
        """How many of these texts have more than TOKENS words and lose their end."""
        return sum(len(words(text)) > TOKENS for text in texts)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "family": "phantom",
            "model_id": self.name,
            "revision": _FORMAT,
            "weights_sha256": self._weights_sha256,
            "preprocessing": {**_PREPROCESSING, "words": len(self.vocabulary) - 2},
            "device": "cpu",
            "compute_dtype": "float32",
            "text_limit": TOKENS,
            "training": self.training,
        }


def save_phantom(path: Path, name: str, model: DualTower, vocabulary: list[str], training: dict[str, Any]) -> None:
    """Write one model to a temporary name, then move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().contiguous().half() for key, value in model.state_dict().items() if value.ndim > 0}
    metadata = {
        "format": _FORMAT,
        "model": name,
        "vocabulary": json.dumps(vocabulary),
        "preprocessing": json.dumps(_PREPROCESSING),
        "training": json.dumps(training, sort_keys=True),
    }
    temporary = path.with_name(path.name + ".part")
    save_file(tensors, temporary, metadata)
    temporary.replace(path)


def weights_path(name: str, store_root: Path) -> Path:
    """Where a store keeps a phantom model."""
    return store_root / "phantom" / name / "weights.safetensors"


def load_phantom(name: str, store_root: Path) -> PhantomEncoder:
    """The model from the store, or else the one that ships; ModelError where neither is there or a file is damaged."""
    if name not in MODELS:
        raise ModelError(f"{name!r} is not a phantom model.", f"They are: {', '.join(MODELS)}.")
    places = [weights_path(name, store_root), weights_path(name, SHIPPED)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ModelError(f"The weights of {name} are not at {places[0]}.", "Make them with: linkage phantom build")
    return read_phantom(path, name)


def read_phantom(path: Path, name: str) -> PhantomEncoder:
    """One weights file; ModelError where it is cut short, of another format or another model."""
    remedy = "Make it again with: linkage phantom build"
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read: {error}.", remedy) from error
    if metadata.get("format") != _FORMAT or metadata.get("model") != name:
        raise ModelError(
            f"{path} holds {metadata.get('model', 'an unknown model')!r} in format {metadata.get('format')!r}, "
            f"not {name!r} in format {_FORMAT!r}.",
            remedy,
        )
    vocabulary = json.loads(metadata["vocabulary"])
    model = DualTower(len(vocabulary))
    # The counters of batch normalisation steer training only and are not stored.
    counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
    try:
        model.load_state_dict({**tensors, **counters}, strict=True)
    except RuntimeError as error:
        raise ModelError(f"The weights in {path} do not fit {name}: {error}.", remedy) from error
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return PhantomEncoder(name, model, vocabulary, training=json.loads(metadata["training"]), weights_sha256=digest)
