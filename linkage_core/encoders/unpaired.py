"""An image encoder and a text encoder that were never trained together, side by side.

There is no space in which the two could be compared, so each embedding has coordinates of its own: the image's come
first, the text's behind them, zeros elsewhere. So every image has the cosine 0 with every report, all candidates tie,
and who adapts nothing is right as often as by guessing. An attacker with own pairs can build a bridge between the two
(attacks.bridge), for which nobody's paired model is needed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from linkage_core.encoders import bert, efficientnet, packaged, pixels
from linkage_core.encoders.fit import as_given, check_vocabulary
from linkage_core.encoders.hub import LocalModel, offline
from linkage_core.encoders.towers import Towers, is_count, load_strictly, quietly, read_safetensors
from linkage_core.heads import Heads, Linear

IMAGE, TEXT = "efficientnet-lite0", "minilm"
TEXT_LIMIT = 256  # tokens that all-MiniLM-L6-v2 was trained on


def load_unpaired(name: str, store_root: Path) -> UnpairedEncoder:
    """The encoder, from the installed packages. Raises ModelError as packaged.folder_of says."""
    image, text = packaged.folder_of(IMAGE), packaged.folder_of(TEXT)
    weights = (text / packaged.PACKAGED[TEXT].weights, image / packaged.PACKAGED[IMAGE].weights)
    with quietly():
        return UnpairedEncoder(name, LocalModel(text, None, None, weights, pickled=True))


class UnpairedEncoder(Towers):
    """EfficientNet-Lite0 and all-MiniLM-L6-v2; see `encoders.base.Encoder`. Its heads have no common coordinate."""

    family = "unpaired"
    text_limit = TEXT_LIMIT

    def _read(self, name: str, local: LocalModel) -> None:
        """Raises ModelError: weights of another shape."""
        text, image = local.weights
        bicubic = int(pixels.RESAMPLING["bicubic"])
        self.picture = partial(pixels.fitted, side=efficientnet.SIDE, crop=efficientnet.CROP, resample=bicubic)
        with offline():
            self._tokenizer = bert.read_tokenizer(name, local.folder)
        self._text = read_minilm(name, text)
        self._image = read_efficientnet(name, image)
        check_vocabulary(name, local.folder, self._tokenizer, bert.embedding_rows(self._text))
        self._heads = apart(efficientnet.WIDTH, int(self._text.config.hidden_size))

    def _scaled(self, pictures: np.ndarray) -> np.ndarray:
        return pixels.scaled(pictures, efficientnet.MEAN, efficientnet.STD)

    def _preprocessing(self) -> dict[str, Any]:
        return {
            "input": "8-bit RGB of the shown grey values",
            "shortest_edge": efficientnet.SIDE,
            "crop": efficientnet.CROP,
            "interpolation": "bicubic",
            "mean": list(efficientnet.MEAN),
            "std": list(efficientnet.STD),
            "text": "lower case; BERT pieces; mean over tokens",
        }

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        return bert.encode(self._tokenizer, texts, self.text_limit, as_given)

    def _lengths(self, texts: list[str]) -> list[int]:
        return bert.lengths(self._tokenizer, texts, as_given)

    def _image_tower(self, images: torch.Tensor) -> torch.Tensor:
        return self._image(images)

    def _text_tower(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return bert.mean_state(self._text, tokens)

    def describe(self) -> dict[str, Any]:
        """As Towers does; the packages in place of a repository, and that the towers share no space."""
        kept = [packaged.PACKAGED[tower] for tower in (IMAGE, TEXT)]
        named = " + ".join(f"{one.distribution} {one.version}" for one in kept)
        return {**super().describe(), "model_id": named, "unpaired": True}


def read_minilm(name: str, path: Path) -> Any:
    """The text trunk from model.safetensors and the config.json beside it. ModelError: they do not fit each other."""
    model = bert.bert_model(bert.bert_config_of(name, path.parent))
    stored = read_safetensors(name, (path,))
    if bert.POSITIONS in stored and is_count(stored[bert.POSITIONS]):
        del stored[bert.POSITIONS]
    stored = {key: value for key, value in stored.items() if not key.startswith("pooler.")}  # the mean is taken instead
    load_strictly(name, path.parent, model, stored, "MiniLM text")
    return model.eval()


def read_efficientnet(name: str, path: Path) -> efficientnet.EfficientNetLite0:
    """The image trunk. ModelError: the file holds something else."""
    model = efficientnet.EfficientNetLite0()
    load_strictly(name, path, model, packaged.read_pickled(name, path), "EfficientNet-Lite0")
    return model.eval()


def apart(d_image: int, d_text: int) -> Heads:
    """Heads that put images and texts into coordinates of their own: (d_image + d_text, d_image) and (..., d_text).

    >>> heads = apart(2, 1)
    >>> heads.image(np.ones((1, 2))), heads.text(np.ones((1, 1)))
    (array([[1., 1., 0.]], dtype=float32), array([[0., 0., 1.]], dtype=float32))
    """
    e = d_image + d_text
    every, none = np.eye(e, dtype=np.float32), np.zeros(e, dtype=np.float32)
    return Heads(Linear(every[:, :d_image].copy(), none), Linear(every[:, d_image:].copy(), none.copy()))
