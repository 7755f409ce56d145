"""CLIP- and SigLIP-shaped models through transformers: features, heads and what is known about their origin.

Weights are read from a folder on this machine, as safetensors, and every tensor must find its place.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
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

from linkage_core.encoders.fit import (
    LEAST_VOCABULARY,
    Treatment,
    as_given,
    check_merges,
    check_picture,
    check_tokenizer_files,
    check_values,
    check_vocabulary,
    lowered,
)
from linkage_core.encoders.hub import LocalModel, model_type, offline, read_json
from linkage_core.encoders.pictures import eight_bit, resized
from linkage_core.encoders.pieces import FILE, read_pieces
from linkage_core.encoders.towers import (
    Towers,
    check_weights_present,
    complain,
    first_line,
    is_count,
    linear,
)
from linkage_core.errors import ModelError
from linkage_core.heads import Heads, identity
from linkage_core.images.pixels import Radiograph

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

# What a family was trained on, by the class of its tokenizer and the mark that ends its texts; where the class is a
# general one, by the mark alone. SigLIP: canonicalize_text of big_vision (Zhai et al. 2023, arXiv:2303.15343). SigLIP
# 2: Gemma's tokenizer on lower-cased text (Tschannen et al. 2025, arXiv:2502.14786, section 2; huggingface/transformers
# issue 43054, whose mending, pull request 43101, is Siglip2Tokenizer). CLIP's own tokenizer lowers case by itself.
_GENERAL = frozenset({"None", "PreTrainedTokenizerFast", "TokenizersBackend", "PreTrainedTokenizer"})
_PIECES = frozenset({"SiglipTokenizer", "SiglipTokenizerFast"})


@dataclass(frozen=True)
class _Trained:
    """One row: tokenizer classes and the end mark that tell it, and what is done to texts."""

    family: str
    classes: frozenset[str]
    end: str
    treatment: Treatment


LEAST_OF_SIGLIP = 1 / 3
"""Of the embedding's rows that SigLIP's tokenizer fills: several have far fewer pieces than places."""
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonical(text: str) -> str:
    """What SigLIP's tokenizer does to a text before it looks for pieces: lower case, no punctuation, single spaces.

    The piece table in `tokenizer.json` may or may not do it again, which changes nothing. (Zhai et al. 2023, as
    implemented in big_vision's `canonicalize_text`.)

    >>> canonical(" No  acute process. ")
    'no acute process'
    """
    return " ".join(text.lower().translate(_NO_PUNCTUATION).split())


_TRAINED = (
    _Trained(
        "siglip",
        _PIECES | {"T5Tokenizer", "T5TokenizerFast"},
        "</s>",
        Treatment(canonical, "lower case, no punctuation, single spaces, as SigLIP was trained"),
    ),
    _Trained(
        "siglip",
        frozenset({"GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer", "Siglip2TokenizerFast"}),
        "<eos>",
        Treatment(lowered, "lower case, as SigLIP 2 was trained"),
    ),
)


class ClipEncoder(Towers):
    """A CLIP or SigLIP model cut before its last linear layers; see `encoders.base.Encoder`."""

    def _read(self, name: str, local: LocalModel) -> None:
        """Raises ModelError: another type, or weights that do not fit."""
        self.family = _family(name, local)
        check_weights_present(name, local)
        with offline():
            self._model = _read_model(name, local, self.family).to(self._device).eval()
            self._processor = _read_processor(name, local)
            self._tokenizer = _read_tokenizer(name, local)
        self._tokenizer.padding_side = "right"  # as both families were trained; Gemma's class pads left by default
        self._treatment = _treatment(name, local, self.family, self._tokenizer)
        least = LEAST_OF_SIGLIP if self.family == "siglip" else LEAST_VOCABULARY
        check_vocabulary(name, local.folder, self._tokenizer, _embedding_rows(self._model), least)
        check_merges(name, local.folder, len(self._tokenizer))
        positions = self._model.config.text_config.max_position_embeddings
        self.text_limit = int(min(positions, self._tokenizer.model_max_length))
        self._heads = _heads(name, self._model, self.family)
        self.picture = _picture(self._processor)
        check_picture(name, local.folder, *self._sizes(name, local))

    def _sizes(self, name: str, local: LocalModel) -> tuple[tuple[int, ...], tuple[int, int]]:
        """(height, width) of what the preprocessor makes of a picture, and of what the model takes.

        ModelError where it cannot be used, or makes values that no model was trained on.
        """
        side = self._model.config.vision_config.image_size
        try:
            blank = [Radiograph(np.full((48, 64), tone, np.uint16), 16) for tone in (0, 65_535)]
            made = self.prepare(blank)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(
                f"{name}: preprocessor_config.json in {local.folder} cannot be used ({first_line(error)}).",
                "Use the preprocessor_config.json that came with these weights.",
            ) from error
        check_values(name, local.folder, made)
        return made.shape[-2:], (int(side), int(side)) if isinstance(side, int) else (int(side[0]), int(side[1]))

    def prepare(self, images: list[Radiograph]) -> np.ndarray:
        """(n_images, 3, height, width) float32: what the repository's own processor makes of 8-bit RGB."""
        if self.picture is not None:
            return super().prepare(images)
        pictures = [Image.fromarray(eight_bit(image.pixels)).convert("RGB") for image in images]
        return np.asarray(self._processor(images=pictures, return_tensors="np")["pixel_values"], np.float32)

    def _scaled(self, pictures: np.ndarray) -> np.ndarray:
        scaled = np.empty((len(pictures), 3, *pictures.shape[1:]), np.float32)
        for channel, levels in enumerate(self._levels):
            scaled[:, channel] = levels[pictures]
        return scaled

    @cached_property
    def _levels(self) -> np.ndarray:
        """(3, 256) float32: what the processor makes of each grey level in each channel."""
        levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        as_they_are = {"do_resize": False, "do_center_crop": False, "return_tensors": "np"}
        made = self._processor(images=[Image.fromarray(levels).convert("RGB")], **as_they_are)["pixel_values"]
        return np.asarray(made, np.float32).reshape(3, 256)

    def _lengths(self, texts: list[str]) -> list[int]:
        return [len(ids) for ids in self._tokenizer(self._written(texts), verbose=False)["input_ids"]]

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
        return {**kept, "text": self._treatment.words}

    def _written(self, texts: list[str]) -> list[str]:
        return [self._treatment.written(text) for text in texts]

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
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
        return dict(encoded)

    def _image_tower(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._model.vision_model(pixel_values=pixels).pooler_output

    def _text_tower(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        output = self._model.text_model(**tokens)
        return output.last_hidden_state[:, -1] if self.family == "siglip" else output.pooler_output


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


def _read_model(name: str, local: LocalModel, family: str) -> Any:
    try:
        model = FAMILIES[family].from_pretrained(
            local.folder,
            local_files_only=True,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are named below, together with the rest
            dtype=torch.float32,
        )
        stored = _stored_shapes(local)
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"{name}: {local.folder} cannot be read: {first_line(error)}", "Download or copy it again."
        ) from error
    complain(name, local.folder, family, {key: tuple(value.shape) for key, value in model.state_dict().items()}, stored)
    return model


def _stored_shapes(local: LocalModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the stored tensors, less the position buffers where they hold nothing but 0, 1, 2, ..."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in local.weights:
        with safe_open(path, framework="pt") as file:
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            for key in POSITION_BUFFERS:
                if key in shapes and is_count(file.get_tensor(key)):
                    del shapes[key]
    return shapes


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


def _treatment(name: str, local: LocalModel, family: str, tokenizer: Any) -> Treatment:
    """What is done to texts. ModelError where the tokenizer tells neither of the trainings of its family."""
    rows = [row for row in _TRAINED if row.family == family]
    if not rows:
        lowers = tokenizer("LUNGS")["input_ids"] == tokenizer("lungs")["input_ids"]
        return Treatment(as_given, "as the tokenizer's own files say: " + ("lower case" if lowers else "case is kept"))
    kind = _tokenizer_class(local)
    for row in rows:
        named = kind in row.classes and tokenizer.eos_token in (row.end, None)
        if named or (kind in _GENERAL and tokenizer.eos_token == row.end):
            return row.treatment
    known = ", ".join(sorted({one for row in rows for one in row.classes}))
    raise ModelError(
        f"{name}: tokenizer_config.json in {local.folder} names the class {kind} and the end mark "
        f"{tokenizer.eos_token!r}, which do not tell how a {family} model's texts were written in training.",
        f"Classes are {known}, end marks {' and '.join(row.end for row in rows)}: use the file that came with these "
        "weights.",
    )


def _embedding_rows(model: Any) -> int:
    return int(model.text_model.embeddings.token_embedding.num_embeddings)


def _read_tokenizer(name: str, local: LocalModel) -> Any:
    check_tokenizer_files(name, local.folder)
    # SigLIP's own class needs a package that only reads the same pieces from another file.
    pieces = _tokenizer_class(local) in _PIECES
    if pieces and not (local.folder / "tokenizer.json").is_file() and (local.folder / FILE).is_file():
        return read_pieces(name, local.folder)
    general = _tokenizer_class(local) in _GENERAL and (local.folder / "tokenizer.json").is_file()
    reader = PreTrainedTokenizerFast if pieces or general else AutoTokenizer
    try:
        return reader.from_pretrained(local.folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{name}: the tokenizer in {local.folder} cannot be read ({first_line(error)}).",
            "The folder needs tokenizer.json and tokenizer_config.json.",
        ) from error


def _picture(processor: Any) -> Callable[[np.ndarray], np.ndarray] | None:
    """The processor's geometry on one grey channel; None where its settings are other than those of these families."""
    settings = processor.to_dict()
    how: dict[str, Any] = {}
    if settings.get("do_resize"):
        size = _plain(settings["size"])
        if set(size) == {"shortest_edge"}:
            how["shortest"] = int(size["shortest_edge"])
        elif set(size) == {"height", "width"}:
            how["size"] = (int(size["height"]), int(size["width"]))
        else:
            return None
        how["resample"] = int(settings["resample"])
    if settings.get("do_center_crop"):
        crop = _plain(settings["crop_size"])
        if set(crop) != {"height", "width"}:
            return None
        how["crop"] = (int(crop["height"]), int(crop["width"]))
    if settings.get("do_pad") or not ("size" in how or "crop" in how):
        return None  # pictures of one batch would differ in shape
    return partial(resized, **how)


def _heads(name: str, model: Any, family: str) -> Heads:
    if family == "clip":
        return Heads(linear(model.visual_projection), linear(model.text_projection))
    if not getattr(model.vision_model, "use_head", True):
        raise ModelError(f"{name} has no pooled image output.", "SigLIP models with a vision head load.")
    return Heads(identity(model.config.vision_config.hidden_size), linear(model.text_model.head))


def _plain(value: Any) -> Any:
    """JSON-able: the processors keep sizes in a mapping of their own."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return {key: part for key, part in value.items() if part is not None}
    return list(value) if isinstance(value, tuple) else value
