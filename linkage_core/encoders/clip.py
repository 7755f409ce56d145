"""CLIP- and SigLIP-shaped models through transformers: features, heads and what is known about their origin.

Weights are read from a folder on this machine, as safetensors, and every tensor must find its place.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipImageProcessorPil,
    SiglipModel,
)

from linkage_core.encoders.hub import LocalModel, model_type, offline, read_json
from linkage_core.errors import ModelError
from linkage_core.heads import Heads, Linear, identity, unit
from linkage_core.radiographs import Radiograph

FAMILIES = {"clip": CLIPModel, "siglip": SiglipModel}
"""`model_type` of config.json -> the class that holds it."""

# The PIL processors are named, not found: without torchvision the automatic choice is theirs too, and with it the
# same repository would give other pixels.
_PROCESSORS = {
    "CLIPImageProcessor": CLIPImageProcessorPil,
    "CLIPFeatureExtractor": CLIPImageProcessorPil,
    "SiglipImageProcessor": SiglipImageProcessorPil,
}

# Constant 0, 1, 2, ... that transformers stored with the weights until version 4.31 and computes since.
POSITION_BUFFERS = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")

BATCH_IMAGES, BATCH_TEXTS = 32, 64
LEAST_COSINE = 0.999  # between a row in reduced precision and the same row in float32
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass
class _Precision:
    """What one tower computes in: settled on its first batch."""

    dtype: torch.dtype | None = None  # None: not settled yet
    cosine: float | None = None  # the lowest on the first batch, where something less than float32 was tried


class ClipEncoder:
    """A CLIP or SigLIP model cut before its last linear layers; see `encoders.base.Encoder`."""

    def __init__(
        self,
        name: str,
        local: LocalModel,
        device: str = "cpu",
        reduced_precision: tuple[torch.dtype, ...] = (),
        least_cosine: float = LEAST_COSINE,
    ) -> None:
        """`reduced_precision`: types to try under autocast, best first; the first that agrees with float32 is kept."""
        self.name = name
        self.family = _family(name, local)
        _check_weights_present(name, local)
        self._local = local
        self._device = torch.device(device)
        self._reduced = reduced_precision
        self._least_cosine = least_cosine
        self._precision = {"image": _Precision(), "text": _Precision()}
        with offline():
            self._model = _read_model(name, local, self.family).to(self._device).eval()
            self._processor = _read_processor(name, local)
            self._tokenizer = _read_tokenizer(name, local)
        self._canonical = self.family == "siglip" and _tokenizer_class(local) == "SiglipTokenizer"
        positions = self._model.config.text_config.max_position_embeddings
        self.text_limit = int(min(positions, self._tokenizer.model_max_length))
        self._heads = _heads(name, self._model, self.family)
        self._weights_sha256 = local.weights_sha256()

    def heads(self) -> Heads:
        """The off-the-shelf heads."""
        return self._heads

    def image_features(self, images: list[Radiograph]) -> np.ndarray:
        """(n_images, d_image) float32, the input of the image head."""
        rows = []
        for batch in _batches(images, BATCH_IMAGES):
            pictures = [Image.fromarray(eight_bit(image.pixels)).convert("RGB") for image in batch]
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"].to(self._device)
            rows.append(self._run("image", partial(self._image_tower, pixels)))
        return np.concatenate(rows) if rows else np.empty((0, self._heads.image.weight.shape[1]), np.float32)

    def text_features(self, texts: list[str]) -> np.ndarray:
        """(n_texts, d_text) float32, the input of the text head. Longer texts lose what is beyond `text_limit`."""
        rows = []
        for batch in _batches(texts, BATCH_TEXTS):
            tokens = self._tokens(batch)
            rows.append(self._run("text", partial(self._text_tower, tokens)))
        return np.concatenate(rows) if rows else np.empty((0, self._heads.text.weight.shape[1]), np.float32)

    def truncated(self, texts: list[str]) -> int:
        """How many of these texts are longer than `text_limit` tokens and lose their end."""
        return sum(
            len(ids) > self.text_limit for ids in self._tokenizer(self._written(texts), verbose=False)["input_ids"]
        )

    def describe(self) -> dict[str, Any]:
        """What the manifest records; the same before and after a run, so that a run can resume."""
        return {
            "family": self.family,
            "model_id": self._local.repo or str(self._local.folder),
            "revision": self._local.revision,
            "weights_sha256": self._weights_sha256,
            "source_sha256": self._local.source_sha256,
            "preprocessing": self._preprocessing(),
            "device": self._device.type,
            "compute_dtype": self._compute_dtype(),
            "text_limit": self.text_limit,
        }

    def precision_check(self) -> dict[str, tuple[str, float | None]]:
        """What each tower settled on in its first batch: type, and lowest cosine to float32 where less was tried."""
        return {tower: (_name(kept.dtype), kept.cosine) for tower, kept in self._precision.items() if kept.dtype}

    def _compute_dtype(self) -> str:
        if not self._reduced:
            return "float32"
        tried = " or ".join(_name(dtype) for dtype in self._reduced)
        return f"{tried} where the first batch agrees with float32 to a cosine of {self._least_cosine}, else float32"

    # -------------------------------------------------------------------------------------------------------- inputs

    def _preprocessing(self) -> dict[str, Any]:
        """The repository's own settings, those that apply."""
        settings = self._processor.to_dict()
        kept: dict[str, Any] = {"input": "8-bit RGB of the shown grey values"}
        for switch, keys in {
            "do_resize": ("size", "resample"),
            "do_center_crop": ("crop_size",),
            "do_rescale": ("rescale_factor",),
            "do_normalize": ("image_mean", "image_std"),
        }.items():
            if settings.get(switch):
                kept.update({key: _plain(settings[key]) for key in keys})
        return kept

    def _written(self, texts: list[str]) -> list[str]:
        return [canonical(text) for text in texts] if self._canonical else texts

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Token ids as the model was trained on them."""
        encoded = self._tokenizer(
            self._written(texts),
            truncation=True,
            max_length=self.text_limit,
            # SigLIP was trained on full-length rows without a mask and reads its answer from the last position.
            padding="max_length" if self.family == "siglip" else True,
            return_attention_mask=self.family == "clip",
            return_token_type_ids=False,
            return_tensors="pt",
        )
        return {key: value.to(self._device) for key, value in encoded.items()}

    # -------------------------------------------------------------------------------------------------------- towers

    def _image_tower(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._model.vision_model(pixel_values=pixels).pooler_output

    def _text_tower(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        output = self._model.text_model(**tokens)
        return output.last_hidden_state[:, -1] if self.family == "siglip" else output.pooler_output

    def _run(self, tower: str, compute: Callable[[], torch.Tensor]) -> np.ndarray:
        """One batch in the precision that this tower has settled on; the first batch settles it."""
        kept = self._precision[tower]
        if kept.dtype is not None:
            return self._compute(compute, kept.dtype)
        exact = self._compute(compute, torch.float32)
        kept.dtype = torch.float32
        head = self._heads.image if tower == "image" else self._heads.text
        for dtype in self._reduced:
            fast = self._compute(compute, dtype)
            kept.cosine = _least_cosine(head(exact), head(fast))
            if kept.cosine >= self._least_cosine:
                kept.dtype = dtype
                return fast
        return exact

    def _compute(self, compute: Callable[[], torch.Tensor], dtype: torch.dtype) -> np.ndarray:
        reduced = dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, dtype if reduced else None, enabled=reduced):
            return compute().float().cpu().numpy()


def eight_bit(pixels: np.ndarray) -> np.ndarray:
    """uint16 grey values to uint8, rounded: 0 -> 0, 65535 -> 255, and an 8-bit source comes back as it was.

    >>> eight_bit(np.array([[0, 128, 129, 65535]], dtype=np.uint16))
    array([[  0,   0,   1, 255]], dtype=uint8)
    """
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def canonical(text: str) -> str:
    """What SigLIP's tokenizer does to a text before it looks for pieces: lower case, no punctuation, single spaces.

    The piece table in `tokenizer.json` may or may not do it again, which changes nothing. (Zhai et al. 2023, as
    implemented in big_vision's `canonicalize_text`.)

    >>> canonical(" No  acute process. ")
    'no acute process'
    """
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


# ---------------------------------------------------------------------------------------------------------- reading it


def _family(name: str, local: LocalModel) -> str:
    kind = model_type(local.folder)
    if kind is None:
        raise ModelError(
            f"{name}: {local.folder} has no config.json that names a model type.",
            "Give the folder that `save_pretrained` wrote, with config, tokenizer, preprocessor and safetensors.",
        )
    if kind not in FAMILIES:
        raise ModelError(
            f"{name} is of type {kind!r}.", f"Models of type {' and '.join(FAMILIES)} load; embed others and import."
        )
    return kind


def _check_weights_present(name: str, local: LocalModel) -> None:
    if local.weights:
        return
    if local.pickled and local.repo:
        raise ModelError(
            f"{name} is here only as a pickle ({local.folder}), and no pickle is loaded.",
            f"`linkage pull {name}` converts it to safetensors once.",
        )
    if local.pickled:
        raise ModelError(
            f"{name}: {local.folder} holds its weights only as a pickle, and no pickle is loaded.",
            "Write it again as safetensors (`model.save_pretrained(folder)` in transformers 5 does).",
        )
    raise ModelError(
        f"{name}: {local.folder} holds no model.safetensors.",
        f"`linkage pull {name}` fetches it." if local.repo else "Give the folder that `save_pretrained` wrote.",
    )


def _read_model(name: str, local: LocalModel, family: str) -> Any:
    try:
        model, info = FAMILIES[family].from_pretrained(
            local.folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are named below, together with the rest
            dtype=torch.float32,
        )
        stored = _stored_keys(local)
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{name}: {local.folder} cannot be read: {first}", "Download or copy it again.") from error
    expected = set(model.state_dict())
    wrong = {
        "missing": (expected - stored) | set(info["missing_keys"]),
        "unexpected": (stored - expected) | set(info["unexpected_keys"]),
        "of another shape": {str(entry[0]) for entry in info["mismatched_keys"]},
    }
    complaints = [f"{_some(keys)} {what}" for what, keys in wrong.items() if keys]
    if complaints:
        raise ModelError(
            f"{name}: the weights in {local.folder} do not fit a {family} model: {'; '.join(complaints)}.",
            "They belong to another model or were cut short. Download them again, or use their own config.json.",
        )
    return model


def _stored_keys(local: LocalModel) -> set[str]:
    """Names of the stored tensors, less the position buffers where they hold nothing but 0, 1, 2, ..."""
    keys: set[str] = set()
    for path in local.weights:
        with safe_open(path, framework="pt") as file:
            keys |= set(file.keys())
            for key in POSITION_BUFFERS:
                if key in keys and torch.equal(
                    positions := file.get_tensor(key).flatten().long(), torch.arange(len(positions))
                ):
                    keys.remove(key)
    return keys


def _read_processor(name: str, local: LocalModel) -> Any:
    settings: dict[str, Any] = {}
    for file, key in (("preprocessor_config.json", None), ("processor_config.json", "image_processor")):
        whole = read_json(local.folder / file)
        settings = whole.get(key, {}) if key else whole
        if settings:
            break
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    plain = kind.removesuffix("Fast").removesuffix("Pil")
    if plain not in _PROCESSORS:
        raise ModelError(
            f"{name}: {local.folder} names "
            + (f"the image processor {kind}." if settings else "no image processor (preprocessor_config.json)."),
            f"Its preprocessor_config.json must name one of {', '.join(_PROCESSORS)}.",
        )
    return _PROCESSORS[plain].from_dict(settings)


def _tokenizer_class(local: LocalModel) -> str:
    return str(read_json(local.folder / "tokenizer_config.json").get("tokenizer_class"))


def _read_tokenizer(name: str, local: LocalModel) -> Any:
    # SigLIP's own class needs a package that only reads the same pieces from another file.
    pieces = _tokenizer_class(local) == "SiglipTokenizer" and (local.folder / "tokenizer.json").is_file()
    reader = PreTrainedTokenizerFast if pieces else AutoTokenizer
    try:
        return reader.from_pretrained(local.folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{name}: the tokenizer in {local.folder} cannot be read ({str(error).strip().splitlines()[0]}).",
            "The folder needs tokenizer.json and tokenizer_config.json.",
        ) from error


def _heads(name: str, model: Any, family: str) -> Heads:
    if family == "clip":
        return Heads(_linear(model.visual_projection), _linear(model.text_projection))
    if not getattr(model.vision_model, "use_head", True):
        raise ModelError(f"{name} has no pooled image output.", "SigLIP models with a vision head load.")
    return Heads(identity(model.config.vision_config.hidden_size), _linear(model.text_model.head))


def _linear(layer: torch.nn.Linear) -> Linear:
    weight = layer.weight.detach().cpu().numpy().copy()
    bias = layer.bias.detach().cpu().numpy().copy() if layer.bias is not None else np.zeros(len(weight), np.float32)
    return Linear(weight, bias)


# --------------------------------------------------------------------------------------------------------------- small


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _least_cosine(exact: np.ndarray, fast: np.ndarray) -> float:
    """The lowest cosine between rows; -1 where the reduced precision overflowed."""
    if not np.isfinite(fast).all():
        return -1.0
    return float((unit(exact) * unit(fast)).sum(axis=1).min())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _plain(value: Any) -> Any:
    """JSON-able: the processors keep sizes in a mapping of their own."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: part for key, part in value.items() if part is not None}
    return list(value) if isinstance(value, tuple) else value


def _some(keys: set[str]) -> str:
    shown = ", ".join(sorted(keys)[:3])
    return shown + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
