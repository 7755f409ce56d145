"""Any open_clip model of a Hugging Face repository or folder, by the package open_clip (requirements-models.txt).

The last linear layer of each tower is cut off as the head; one that ends otherwise gets a head that changes nothing.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from linkage_core.encoders.fit import check_picture, check_vocabulary
from linkage_core.encoders.hub import OPEN_CLIP_CONFIG, LocalModel, offline
from linkage_core.encoders.pictures import eight_bit
from linkage_core.encoders.towers import Towers, check_weights_present, linear
from linkage_core.errors import ModelError
from linkage_core.heads import Heads, Linear, identity
from linkage_core.images.pixels import Radiograph

_REMEDY = "Install requirements-models.txt in an environment of its own (see README, Limits)."
_TOLERANCE = 1e-4  # between head(features) and the model's own embedding, relative to its largest value


def require(name: str) -> None:
    """ModelError with the remedy where open_clip is not installed or cannot be imported."""
    if importlib.util.find_spec("open_clip") is None:
        raise ModelError(f"{name} needs the package open_clip, which is not installed.", _REMEDY)
    try:
        import open_clip  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: torchvision built for another torch
        raise ModelError(f"{name} needs the package open_clip, which cannot be imported: {error}", _REMEDY) from error


def repository(path: str) -> str:
    """ORG/NAME of a model that is named as open_clip names it, ARCHITECTURE/TAG ("ViT-B-32/laion2b_s34b_b79k").

    Anything else, and everything where open_clip is not installed, comes back as it is.
    """
    architecture, _, tag = path.partition("/")
    if not tag or importlib.util.find_spec("open_clip") is None:
        return path
    require(f"open_clip:{path}")
    import open_clip

    if (architecture, tag) not in open_clip.list_pretrained():
        return path
    hosted = str(open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub") or "").rstrip("/")
    if hosted.count("/") != 1:
        raise ModelError(
            f"open_clip:{path} is not in a Hugging Face repository of its own.",
            "Save it in a folder with open_clip (`push_to_hf_hub.save_for_hf`) and give open_clip:./folder.",
        )
    return hosted


class OpenClipEncoder(Towers):
    """An open_clip model cut before its last linear layers; see `encoders.base.Encoder`."""

    family = "open_clip"

    def _read(self, name: str, local: LocalModel) -> None:
        """Raises ModelError: no open_clip, weights that do not fit, an unknown ending."""
        require(name)
        if not (local.folder / OPEN_CLIP_CONFIG).is_file():
            raise ModelError(
                f"{name}: {local.folder} has no {OPEN_CLIP_CONFIG}.", "transformers models load as hf:NAME."
            )
        check_weights_present(name, local)
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2

        place = f"local-dir:{local.folder}"
        try:
            with offline():
                self._model = open_clip.create_model(place, device="cpu").eval()
                self._tokenizer = open_clip.get_tokenizer(place)
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{name}: open_clip cannot read {local.folder}: {error}", "Download or copy the model again."
            ) from error
        settings = PreprocessCfg(**self._model.visual.preprocess_cfg)
        self._transform = image_transform_v2(settings, is_train=False)
        self._settings = {key: _plain(value) for key, value in vars(settings).items()}
        self.text_limit = int(self._tokenizer.context_length)
        self._check_sizes(name, local)
        self._heads = self._cut()
        self._model = self._model.to(self._device)

    def _check_sizes(self, name: str, local: LocalModel) -> None:
        """ModelError where tokens or pictures are not those that the model takes."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        text = getattr(self._model, "text", self._model)
        embedding = getattr(text, "token_embedding", None)
        if embedding is None and hasattr(getattr(text, "transformer", None), "get_input_embeddings"):
            embedding = text.transformer.get_input_embeddings()
        if inner is not None and embedding is not None:
            check_vocabulary(name, local.folder, inner, int(embedding.weight.shape[0]))
        wanted = getattr(self._model.visual, "image_size", None)
        if wanted is not None:
            made, takes = (
                (one, one) if isinstance(one, int) else (int(one[0]), int(one[1]))
                for one in (self._settings["size"], wanted)
            )
            check_picture(name, local.folder, made, takes, OPEN_CLIP_CONFIG)

    def prepare(self, images: list[Radiograph]) -> np.ndarray:
        """(n_images, 3, height, width) float32: open_clip's own transform on 8-bit RGB."""
        pictures = [Image.fromarray(eight_bit(image.pixels)).convert("RGB") for image in images]
        return torch.stack([self._transform(picture) for picture in pictures]).float().numpy()

    def _preprocessing(self) -> dict[str, Any]:
        cleaning = getattr(getattr(self._tokenizer, "clean_fn", None), "__name__", "")
        how = f" ({cleaning.strip('_')})" if cleaning else ""
        text = f"as open_clip's tokenizer for the model writes it{how}"
        return {"input": "8-bit RGB of the shown grey values", **self._settings, "text": text}

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        return {"text": self._tokenizer(texts)}

    def _lengths(self, texts: list[str]) -> list[int]:
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is not None:
            return [len(ids) for ids in inner([self._tokenizer.clean_fn(text) for text in texts])["input_ids"]]
        return [len(self._tokenizer.encode(text)) + 2 for text in texts]  # and the first and last token

    def _image_tower(self, images: torch.Tensor) -> torch.Tensor:
        return self._model.encode_image(images)

    def _text_tower(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._model.encode_text(**tokens)

    def _cut(self) -> Heads:
        """Take the last linear layers out of the model, and make sure that putting them back gives its embedding."""
        size = self._settings["size"]
        height, width = (size, size) if isinstance(size, int) else size
        pixels = torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width)
        tokens = self._tokens(["No acute process."])
        before = self._plain_image(pixels), self._plain_text(tokens)
        text = self._model if hasattr(self._model, "text_projection") else self._model.text
        cut = _cut_tower(self._model.visual), _cut_tower(text)
        after = self._plain_image(pixels), self._plain_text(tokens)
        whole = [head or identity(features.shape[1]) for head, features in zip(cut, after, strict=True)]
        for tower, head, features, expected in zip(("image", "text"), whole, after, before, strict=True):
            gap = np.abs(head(features) - expected).max() / np.abs(expected).max()
            if not gap <= _TOLERANCE:
                raise ModelError(
                    f"{self.name}: the {tower} tower does not end in the layer that was taken for its last "
                    f"(relative difference {gap:.2g}).",
                    "This kind of tower is not known; embed with open_clip and use `linkage import`.",
                )
        return Heads(*whole)

    def _plain_image(self, pixels: torch.Tensor) -> np.ndarray:
        return self._compute(lambda: self._image_tower(pixels), torch.float32)

    def _plain_text(self, tokens: dict[str, torch.Tensor]) -> np.ndarray:
        return self._compute(lambda: self._text_tower(tokens), torch.float32)


def _cut_tower(tower: Any) -> Linear | None:
    """Replace the last linear layer by nothing and return it; None where the tower ends otherwise."""
    for attribute in ("text_projection", "proj"):
        layer = getattr(tower, attribute, None)
        if isinstance(layer, nn.Parameter):  # used as features @ layer
            setattr(tower, attribute, None)
            return Linear(layer.detach().float().numpy().T.copy(), np.zeros(layer.shape[1], np.float32))
        if isinstance(layer, nn.Linear):
            setattr(tower, attribute, nn.Identity() if attribute == "proj" else None)
            return linear(layer)
        if isinstance(layer, nn.Sequential) and isinstance(layer[-1], nn.Linear):
            last = layer[-1]
            layer[-1] = nn.Identity()
            return linear(last)
    head = getattr(tower, "head", None)
    for owner, attribute in ((head, "proj"), (getattr(head, "mlp", None), "fc2")):
        layer = getattr(owner, attribute, None)
        if isinstance(layer, nn.Linear):
            setattr(owner, attribute, nn.Identity())
            return linear(layer)
    pool: Any = getattr(tower, "attnpool", None)
    ending = getattr(pool, "c_proj", None)
    if isinstance(ending, nn.Linear):  # its weight is read, the layer is not called
        pool.c_proj = nn.Linear(ending.in_features, ending.in_features)
        with torch.no_grad():
            pool.c_proj.weight.copy_(torch.eye(ending.in_features))
            pool.c_proj.bias.zero_()
        return linear(ending)
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
