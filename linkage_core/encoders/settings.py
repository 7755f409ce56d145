"""Are the settings of a model folder such as a model can be built from? Asked before anything is built.

A folder comes from elsewhere. Its JSON files are read up to a bound; numbers are numbers, and no larger than the stored
weights can fill; a setting that would have something else loaded or run is refused. One sentence for each fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from linkage_core import bounded
from linkage_core.encoders.hub import LocalModel, read_json
from linkage_core.errors import ModelError

_REMEDY = "Use the files that came with these weights, as their authors published them."
_LONGEST_TEXT = 1 << 27
_REFUSED = {
    "quantization_config": "weights that are stored otherwise than as numbers",
    "auto_map": "code of its own",
    "custom_pipelines": "code of its own",
}
"""Of config.json: what it would have loaded or run."""

Check = Callable[[Any], bool]


def _count(most: int, least: int = 1) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) < 1000)


def _mark(value: Any) -> bool:
    return _text(value) or (isinstance(value, Mapping) and isinstance(value.get("content"), str))


def _switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _attention(value: Any) -> bool:
    """What the library computes itself; any other name is that of a package, or of a kernel that it would fetch."""
    return value in (None, "eager", "sdpa")


def _sides(value: Any) -> bool:
    """A side, two, or several by name."""
    side = _count(1 << 13)
    many = list(value.values()) if isinstance(value, Mapping) else value
    return side(value) or (isinstance(many, list | tuple) and 0 < len(many) < 4 and all(map(side, many)))


def _channels(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) in (1, 3) and all(map(_number, value))


def _deviations(value: Any) -> bool:
    return _channels(value) and all(one > 0 for one in value)


TOWER: dict[str, Check] = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "projection_size"), _count(1 << 16)),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), _count(1 << 10)),
    **dict.fromkeys(("vocab_size", "max_position_embeddings"), _count(1 << 22)),
    **dict.fromkeys(("patch_size", "image_size"), _sides),
    **dict.fromkeys(("hidden_act", "model_type"), _text),
    **dict.fromkeys(("layer_norm_eps", "initializer_factor"), _positive),
    **dict.fromkeys(("attn_implementation", "_attn_implementation"), _attention),
    "num_channels": _count(3, least=3),
    "projection_dim": _count(1 << 16),
    "attention_dropout": _number,
}
"""Settings of a tower, and of the whole."""
PREPROCESSOR: dict[str, Check] = {
    **dict.fromkeys(("size", "crop_size"), _sides),
    **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_pad"), _switch),
    **dict.fromkeys(("image_processor_type", "feature_extractor_type"), _text),
    "resample": _count(5, least=0),
    "rescale_factor": _positive,
    "image_mean": _channels,
    "image_std": _deviations,
}
TOKENIZER: dict[str, Check] = {
    **dict.fromkeys(
        ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"), _mark
    ),
    **dict.fromkeys(("tokenizer_class", "padding_side", "truncation_side"), _text),
    "model_max_length": _positive,
}
FILES: dict[str, dict[str, Check]] = {
    "config.json": TOWER,
    "preprocessor_config.json": PREPROCESSOR,
    "tokenizer_config.json": TOKENIZER,
    "special_tokens_map.json": TOKENIZER,
}


def check(name: str, local: LocalModel) -> None:
    """ModelError, with one sentence, for a folder whose settings no model is built from."""
    for file, checks in FILES.items():
        _values(name, local.folder / file, read_json(local.folder / file), checks)
    path = local.folder / "config.json"
    config = read_json(path)
    for key, what in _REFUSED.items():
        if config.get(key):
            raise ModelError(f"{name}: {path} asks for {what} ({key}).", _REMEDY)
    for tower in ("text_config", "vision_config"):
        part = config.get(tower, {})
        if part is None:
            continue
        if not isinstance(part, Mapping):
            raise ModelError(f"{name}: {path} has the {tower} {_shown(part)}.", _REMEDY)
        _values(name, path, part, TOWER)
        _fitting(name, path, tower, part, local.size)
    _vocabulary(name, local.folder / "vocab.json", read_json(local.folder / "vocab.json"))
    for file in ("merges.txt", "vocab.txt"):
        _readable(name, local.folder / file)


def _values(name: str, path: Path, settings: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for key, good in checks.items():
        if key in settings and settings[key] is not None and not good(settings[key]):
            raise ModelError(f"{name}: {path} says that {key} is {_shown(settings[key])}.", _REMEDY)


def _fitting(name: str, path: Path, tower: str, part: Mapping[str, Any], n_bytes: int) -> None:
    """Do a tower's numbers fit each other, and its weights into the file?"""
    width, heads = part.get("hidden_size"), part.get("num_attention_heads")
    if width and heads and width % heads:
        raise ModelError(f"{name}: {path}: {tower} has {width} columns for {heads} heads.", _REMEDY)
    patch, side = part.get("patch_size"), part.get("image_size")
    if isinstance(patch, int) and isinstance(side, int) and patch > side:
        raise ModelError(f"{name}: {path}: {tower} has patches of {patch} pixels in images of {side}.", _REMEDY)
    width = width or 0
    layer = 4 * width**2 + 2 * width * (part.get("intermediate_size") or 0)
    rows = (part.get("vocab_size") or 0) + (part.get("max_position_embeddings") or 0)
    numbers = layer * (part.get("num_hidden_layers") or 0) + rows * width
    if 0 < n_bytes < numbers:  # where there are none, who loads them says so
        raise ModelError(
            f"{name}: {path}: {tower} describes {numbers:,} numbers, and the weights have {n_bytes:,} bytes.", _REMEDY
        )


def _vocabulary(name: str, path: Path, pieces: Mapping[str, Any]) -> None:
    whole = _count(1 << 22, least=0)
    for piece, place in pieces.items():
        if not whole(place):
            raise ModelError(f"{name}: {path} gives {piece[:40]!r} the place {_shown(place)}.", _REMEDY)


def _readable(name: str, path: Path) -> None:
    try:
        bounded.read(path, _LONGEST_TEXT).decode("utf-8")
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise ModelError(f"{name}: {path} is no text in UTF-8 ({error}).", _REMEDY) from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
