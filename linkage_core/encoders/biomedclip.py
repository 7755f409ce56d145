"""BiomedCLIP: a vision transformer and PubMedBERT as open_clip stores them, without open_clip or timm.

Layout: `visual.trunk.*` (timm's ViT), `visual.head.proj`, `text.transformer.*` (BERT), `text.proj.0` and `text.proj.2`
around a GELU, `logit_scale`. The last linear layers, cut off as heads, are `visual.head.proj` and `text.proj.2`.
Source: Zhang et al. 2023 (arXiv:2303.00915) and the repository's open_clip_config.json.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from linkage_core.encoders import bert, pixels
from linkage_core.encoders.fit import check_vocabulary
from linkage_core.encoders.hub import OPEN_CLIP_CONFIG, LocalModel, offline, read_json
from linkage_core.encoders.towers import (
    Towers,
    check_weights_present,
    is_count,
    linear,
    load_strictly,
    read_safetensors,
)
from linkage_core.errors import ModelError
from linkage_core.heads import Heads


@dataclass(frozen=True)
class Trunk:
    """The shape of a vision transformer, by timm's names."""

    width: int
    layers: int
    attention_heads: int
    patch: int = 16
    side: int = 224


TRUNKS = {
    "vit_base_patch16_224": Trunk(768, 12, 12),
    "vit_small_patch16_224": Trunk(384, 12, 6),
    "vit_tiny_patch16_224": Trunk(192, 12, 3),
}

PUBMEDBERT: dict[str, Any] = {}  # BERT-base as it stands: 12 layers of 768, 30,522 pieces, 512 positions
BERTS = {
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": PUBMEDBERT,
    "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract": PUBMEDBERT,  # the same model by its first name
}
"""Text trunks by the name in open_clip_config.json; a name that is a folder is read from the config.json there."""

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP, open_clip's default
_POSITIONS = "text.transformer." + bert.POSITIONS
_WANTED = {
    "vision_cfg": {"timm_pool": "", "timm_proj": "linear"},
    "text_cfg": {"hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"},
}


# -------------------------------------------------------------------------------------------------------------- modules


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        n, length, width = states.shape
        parts = self.qkv(states).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (n, heads, length, width / heads)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(n, length, width))


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(states)))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = _Mlp(width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        states = states + self.attn(self.norm1(states))
        return states + self.mlp(self.norm2(states))


class VisionTransformer(nn.Module):
    """(n, 3, side, side) -> (n, width): the normalised state of the class token; timm's names."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        patches = (trunk.side // trunk.patch) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, trunk.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + patches, trunk.width))
        self.patch_embed: Any = nn.ModuleDict({"proj": nn.Conv2d(3, trunk.width, trunk.patch, stride=trunk.patch)})
        self.blocks = nn.Sequential(*(_Block(trunk.width, trunk.attention_heads) for _ in range(trunk.layers)))
        self.norm = nn.LayerNorm(trunk.width, eps=1e-6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The class token's state after the last norm."""
        patches = self.patch_embed.proj(images).flatten(2).transpose(1, 2)  # (n, patches, width)
        states = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1) + self.pos_embed
        return self.norm(self.blocks(states))[:, 0]


class BiomedClip(nn.Module):
    """Both towers under open_clip's names."""

    def __init__(self, trunk: Trunk, text: Any, embedding: int) -> None:
        super().__init__()
        last = nn.Linear(trunk.width, embedding, bias=False)
        self.visual: Any = nn.ModuleDict({"trunk": VisionTransformer(trunk), "head": nn.ModuleDict({"proj": last})})
        hidden = (text.hidden_size + embedding) // 2
        projection = nn.Sequential(
            nn.Linear(text.hidden_size, hidden, bias=False), nn.GELU(), nn.Linear(hidden, embedding, bias=False)
        )
        self.text: Any = nn.ModuleDict({"transformer": bert.bert_model(text), "proj": projection})
        self.logit_scale = nn.Parameter(torch.zeros(()))


# -------------------------------------------------------------------------------------------------------------- encoder


class BiomedClipEncoder(Towers):
    """BiomedCLIP, or a model of its shape, cut before its last linear layers; see `encoders.base.Encoder`."""

    family = "biomedclip"

    def _read(self, name: str, local: LocalModel) -> None:
        """Raises ModelError: another shape, or weights that do not fit."""
        check_weights_present(name, local)
        settings = _settings(name, local.folder)
        text = settings["text_cfg"]
        self._trunk = TRUNKS[settings["vision_cfg"]["timm_model_name"]]
        self._pixels = _pixel_settings(name, local.folder)
        side, resample = self._trunk.side, pixels.RESAMPLING[self._pixels["interpolation"]]
        self.picture = partial(pixels.fitted, side=side, crop=side, resample=int(resample))
        self.text_limit = int(text["context_length"])
        with offline():
            self._tokenizer = bert.read_tokenizer(name, local.folder)
        model = BiomedClip(self._trunk, _bert_config(name, text["hf_model_name"]), int(settings["embed_dim"]))
        stored = read_safetensors(name, local.weights)
        if _POSITIONS in stored and is_count(stored[_POSITIONS]):
            del stored[_POSITIONS]
        load_strictly(name, local.folder, model, stored, self.family)
        check_vocabulary(name, local.folder, self._tokenizer, bert.embedding_rows(model.text.transformer))
        self._heads = Heads(linear(model.visual.head.proj), linear(model.text.proj[2]))
        self._model = model.to(self._device).eval()

    def _scaled(self, pictures: np.ndarray) -> np.ndarray:
        return pixels.scaled(pictures, self._pixels["mean"], self._pixels["std"])

    def _preprocessing(self) -> dict[str, Any]:
        return {
            "input": "8-bit RGB of the shown grey values",
            "shortest_edge": self._trunk.side,
            "crop": self._trunk.side,
            **self._pixels,
            "text": "HTML entities, quotes, ligatures and white space made plain; BERT pieces",
        }

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        return bert.encode(self._tokenizer, texts, self.text_limit, plain)

    def _lengths(self, texts: list[str]) -> list[int]:
        return bert.lengths(self._tokenizer, texts, plain)

    def _image_tower(self, images: torch.Tensor) -> torch.Tensor:
        return self._model.visual.trunk(images)

    def _text_tower(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._model.text.proj[:2](bert.first_state(self._model.text.transformer, tokens))


_PLAIN_QUOTES = dict.fromkeys([0x2BC, *range(0x2018, 0x201C)], "'") | dict.fromkeys(range(0x201C, 0x2020), '"')
_CONTROLS = (*range(9), 11, *range(14, 32), 127, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
_PLAIN = _PLAIN_QUOTES | dict.fromkeys(_CONTROLS, "")
_WIDE_OR_JOINED = re.compile("[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06\u3000\uff01-\uffef]")
_WINDOWS = re.compile("[\x80-\x9f]")


def plain(text: str) -> str:
    """What open_clip's tokeniser does to a text first: HTML entities, typographic quotes, ligatures, wide letters and
    control characters made plain, composed letters, single spaces.

    open_clip leaves the first half to the package ftfy, which also repairs text that was decoded by the wrong table;
    that is not done here.

    >>> plain(" \u201cNo\u201d  acute \ufb01nding &amp; no change.\\n")
    '"No" acute finding & no change.'
    """
    if "<" not in text:
        text = html.unescape(text)
    text = _WINDOWS.sub(lambda found: found[0].encode("latin-1").decode("cp1252", "replace"), text)
    text = _WIDE_OR_JOINED.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    text = unicodedata.normalize("NFC", text.translate(_PLAIN))
    return " ".join(html.unescape(html.unescape(text)).split())


# ---------------------------------------------------------------------------------------------------------- reading it


def _settings(name: str, folder: Path) -> dict[str, Any]:
    """`model_cfg` of open_clip_config.json. Raises ModelError: a shape other than BiomedCLIP's."""
    settings = read_json(folder / OPEN_CLIP_CONFIG).get("model_cfg", {})
    for part, wanted in _WANTED.items():
        found = settings.get(part, {})
        for key, value in wanted.items():
            if found.get(key) != value:
                raise ModelError(
                    f"{name}: {OPEN_CLIP_CONFIG} says {part}.{key} is {found.get(key)!r}; BiomedCLIP's is {value!r}.",
                    "Models of other shapes load as open_clip:ORG/NAME, with requirements-models.txt.",
                )
    trunk = settings["vision_cfg"].get("timm_model_name")
    if trunk not in TRUNKS:
        raise ModelError(
            f"{name}: the image trunk is {trunk!r}.",
            f"{', '.join(TRUNKS)} load here; others as open_clip:ORG/NAME, with requirements-models.txt.",
        )
    lacking = [key for key in ("hf_model_name", "context_length") if not settings["text_cfg"].get(key)]
    if lacking or "embed_dim" not in settings:
        raise ModelError(f"{name}: {OPEN_CLIP_CONFIG} lacks {(lacking or ['embed_dim'])[0]}.", "Get the model again.")
    return settings


def _bert_config(name: str, trunk: str) -> Any:
    if trunk in BERTS:
        return bert.bert_config(BERTS[trunk])
    folder = Path(trunk)
    if not folder.is_absolute():
        raise ModelError(
            f"{name}: the text trunk is {trunk!r}.",
            f"{', '.join(BERTS)} or a folder with its config.json load here; others as open_clip:ORG/NAME.",
        )
    return bert.bert_config_of(name, folder)


def _pixel_settings(name: str, folder: Path) -> dict[str, Any]:
    """`preprocess_cfg` of open_clip_config.json, with open_clip's defaults for what it leaves out."""
    given = read_json(folder / OPEN_CLIP_CONFIG).get("preprocess_cfg", {})
    found = {
        "interpolation": given.get("interpolation", "bicubic"),
        "resize_mode": given.get("resize_mode", "shortest"),
        "mean": list(given.get("mean", MEAN)),
        "std": list(given.get("std", STD)),
    }
    if found["resize_mode"] != "shortest" or found["interpolation"] not in pixels.RESAMPLING:
        raise ModelError(
            f"{name}: images are to be resized by {found['resize_mode']!r} and {found['interpolation']!r}.",
            "'shortest' with 'bicubic' or 'bilinear' loads here; others as open_clip:ORG/NAME.",
        )
    return found
