"""BioViL-T on single images: its image model and CXR-BERT under their official names, without the official package.

Image: ResNet-50, a 1x1 convolution to 256 channels on a 14 x 14 grid, beside them the learnt vector that stands for "no
earlier image"; then 1x1 convolution 512 to 128, batch norm, ReLU, 1x1 convolution 128 to 128, mean over patches. Mean
and last convolution commute: the cached feature is the mean over patches after the ReLU, the head that convolution.
Text: BERT, its first token's state, linear 768 to 128, GELU, layer norm; the head is the linear layer after them.
Source: Bannur et al. 2023 (arXiv:2301.04558), Boecking et al. 2022 (arXiv:2204.09817) and the package hi-ml-multimodal.
"""

from __future__ import annotations

import pickle  # for the name of its error; nothing is unpickled here
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from linkage_core.encoders import bert, pixels
from linkage_core.encoders.fit import check_vocabulary
from linkage_core.encoders.hub import BIOVIL_IMAGE, LocalModel, offline, read_json
from linkage_core.encoders.towers import (
    Towers,
    check_weights_present,
    complain,
    is_count,
    linear,
    load_strictly,
    read_safetensors,
)
from linkage_core.errors import ModelError
from linkage_core.heads import Heads

RESIZE, CROP = 512, 448  # shorter edge, then the middle
GRID_CHANNELS, JOINT = 256, 128

_LAYERS = ((64, 3), (128, 4), (256, 6), (512, 3))  # ResNet-50: width and number of blocks of its four stages
_IMAGENET_CLASSES = 1000  # the classifier stands in the file and is not used
_POOLER_BLOCKS = 3  # of the temporal pooler, in the file for pairs of images and not used for one

POSITIONS = "bert." + bert.POSITIONS
_POOLER = "bert.pooler.dense."  # in the published file and not used
_MASKED = "cls.predictions."  # the head for masked words, not used
_TIED = {
    _MASKED + "decoder.weight": "bert.embeddings.word_embeddings.weight",
    _MASKED + "decoder.bias": _MASKED + "bias",
}
"""Names that stand for a tensor that has another name too: either may be in a file, or both."""


# -------------------------------------------------------------------------------------------------------------- modules


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut; the step is in the middle one (torchvision's ResNet 1.5)."""

    def __init__(self, before: int, width: int, step: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=step, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample: Any = None
        if step != 1 or before != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, 4 * width, 1, stride=step, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        shortcut = grid if self.downsample is None else self.downsample(grid)
        inner = torch.relu(self.bn1(self.conv1(grid)))
        inner = torch.relu(self.bn2(self.conv2(inner)))
        return torch.relu(self.bn3(self.conv3(inner)) + shortcut)


class ResNet50(nn.Module):
    """(n, 3, h, w) -> (n, 2048, h / 32, w / 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for stage, (width, blocks) in enumerate(_LAYERS, start=1):
            first = _Bottleneck(before, width, 1 if stage == 1 else 2)
            before = 4 * width
            rest = (_Bottleneck(before, width, 1) for _ in range(blocks - 1))
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
        self.fc = nn.Linear(before, _IMAGENET_CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Activations of the last stage."""
        grid = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        for stage in range(1, len(_LAYERS) + 1):
            grid = self.get_submodule(f"layer{stage}")(grid)
        return grid


class _TemporalPooler(nn.Module):
    """The tensors that compare two images. One image needs none of them: there is nothing to compute here."""

    def __init__(self) -> None:
        super().__init__()
        self.type_embed = nn.Parameter(torch.zeros(2, 1, GRID_CHANNELS))
        self.blocks = nn.ModuleList(self._block(GRID_CHANNELS) for _ in range(_POOLER_BLOCKS))
        self.norm_post = nn.LayerNorm(GRID_CHANNELS)

    @staticmethod
    def _block(width: int) -> nn.Module:
        inputs = {part: nn.Linear(width, width, bias=False) for part in ("proj_q", "proj_k", "proj_v")}
        attention = nn.ModuleDict({**inputs, "proj": nn.Linear(width, width)})
        mlp = nn.ModuleDict({"fc1": nn.Linear(width, width), "fc2": nn.Linear(width, width)})
        norms = nn.LayerNorm(width), nn.LayerNorm(width)
        return nn.ModuleDict({"norm1": norms[0], "attn": attention, "norm2": norms[1], "mlp": mlp})


class BioVilImage(nn.Module):
    """(n, 3, 448, 448) -> (n, 128): patch means before the last convolution. Official names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder: Any = nn.ModuleDict(
            {
                "encoder": ResNet50(),
                "backbone_to_vit": nn.Conv2d(4 * _LAYERS[-1][0], GRID_CHANNELS, 1, bias=False),
                "vit_pooler": _TemporalPooler(),
            }
        )
        self.encoder.missing_previous_emb = nn.Parameter(torch.zeros(1, GRID_CHANNELS, 1, 1))
        projection = nn.Sequential(
            nn.Conv2d(2 * GRID_CHANNELS, JOINT, 1, bias=False),
            nn.BatchNorm2d(JOINT),
            nn.ReLU(),
            nn.Conv2d(JOINT, JOINT, 1),
        )
        self.projector: Any = nn.ModuleDict({"model": projection})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The input of the last convolution, averaged over patches."""
        grid = self.encoder.backbone_to_vit(self.encoder.encoder(images))  # (n, 256, 14, 14)
        absent = self.encoder.missing_previous_emb.expand_as(grid)
        return self.projector.model[:3](torch.cat([grid, absent], dim=1)).mean(dim=(2, 3))


class CxrBert(nn.Module):
    """Tokens -> (n, 128), the input of the last linear layer. Official names."""

    def __init__(self, config: Any, joint: int) -> None:
        super().__init__()
        self.bert = bert.bert_model(config)
        self.cls_projection_head: Any = nn.ModuleDict(
            {
                "dense_to_hidden": nn.Linear(config.hidden_size, joint),
                "LayerNorm": nn.LayerNorm(joint, eps=1e-12),
                "dense_to_output": nn.Linear(joint, joint),
            }
        )

    def forward(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        """Everything but the last linear layer."""
        head = self.cls_projection_head
        return head.LayerNorm(nn.functional.gelu(head.dense_to_hidden(bert.first_state(self.bert, tokens))))


# -------------------------------------------------------------------------------------------------------------- encoder


class BioVilEncoder(Towers):
    """BioViL-T cut before its last linear layers; see `encoders.base.Encoder`. Each image stands alone."""

    family = "biovil-t"

    def _read(self, name: str, local: LocalModel) -> None:
        """Raises ModelError: a file is not here, or weights that do not fit."""
        bilinear = int(pixels.RESAMPLING["bilinear"])
        self.picture = partial(pixels.fitted, side=RESIZE, crop=CROP, resample=bilinear, stretch=True)
        check_weights_present(name, local)
        for path, here in (
            (BIOVIL_IMAGE, (local.folder / BIOVIL_IMAGE).is_file()),
            ("model.safetensors", any(path.suffix == ".safetensors" for path in local.weights)),
        ):
            if not here:
                raise ModelError(f"{name}: {local.folder} lacks {path}.", f"`linkage pull {name}` fetches it.")
        with offline():
            self._tokenizer = bert.read_tokenizer(name, local.folder)
        image, text = _read_image(name, local), _read_text(name, local)
        check_vocabulary(name, local.folder, self._tokenizer, bert.embedding_rows(text.bert))
        self.text_limit = int(text.bert.config.max_position_embeddings)
        self._heads = Heads(linear(image.projector.model[3]), linear(text.cls_projection_head.dense_to_output))
        self._image = image.to(self._device).eval()
        self._text = text.to(self._device).eval()

    def _scaled(self, pictures: np.ndarray) -> np.ndarray:
        return pixels.scaled(pictures, (0.0,) * 3, (1.0,) * 3)

    def _preprocessing(self) -> dict[str, Any]:
        return {
            "input": "8-bit grey, stretched so that the darkest shown value is 0 and the brightest 255; three times",
            "shortest_edge": RESIZE,
            "crop": CROP,
            "interpolation": "bilinear",
            "rescale_factor": 1 / 255,
            "earlier image": "none",
            "text": "without final . ! ?; BERT pieces",
        }

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        return bert.encode(self._tokenizer, texts, self.text_limit, without_end)

    def _lengths(self, texts: list[str]) -> list[int]:
        return bert.lengths(self._tokenizer, texts, without_end)

    def _image_tower(self, images: torch.Tensor) -> torch.Tensor:
        return self._image(images)

    def _text_tower(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        return self._text(tokens)


def without_end(text: str) -> str:
    """A text as the official package gives it to the tokeniser: without punctuation at its very end.

    >>> without_end("No pneumothorax. Heart is normal!?")
    'No pneumothorax. Heart is normal'
    """
    return text.rstrip("!?.")


# ---------------------------------------------------------------------------------------------------------- reading it


def _read_image(name: str, local: LocalModel) -> BioVilImage:
    """The image model from the one official file that is no safetensors: tensors alone are read from it."""
    path = local.folder / BIOVIL_IMAGE
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{name}: {path} is not a plain file of tensors: {first}", "Download it again.") from error
    if not isinstance(stored, dict) or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise ModelError(f"{name}: {path} does not hold named tensors.", "Download it again.")
    model = BioVilImage()
    load_strictly(name, path, model, stored, "BioViL-T image")
    return model


def _read_text(name: str, local: LocalModel) -> CxrBert:
    """CXR-BERT. What stands in the file and is not used is looked at all the same: name and shape must be right."""
    config = bert.bert_config_of(name, local.folder)
    model = CxrBert(config, int(read_json(local.folder / "config.json").get("projection_size", JOINT)))
    paths = tuple(path for path in local.weights if path.suffix == ".safetensors")
    stored = read_safetensors(name, paths)
    if POSITIONS in stored and is_count(stored[POSITIONS]):
        del stored[POSITIONS]
    for other, first in _TIED.items():
        if other in stored and (first not in stored or stored[other].shape == stored[first].shape):
            stored.setdefault(first, stored.pop(other))
    used = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    h, v = config.hidden_size, config.vocab_size
    unused = {
        _MASKED + "bias": (v,),
        _MASKED + "transform.dense.weight": (h, h),
        _MASKED + "transform.dense.bias": (h,),
        _MASKED + "transform.LayerNorm.weight": (h,),
        _MASKED + "transform.LayerNorm.bias": (h,),
    }
    if any(key.startswith(_POOLER) for key in stored):
        unused |= {_POOLER + "weight": (h, h), _POOLER + "bias": (h,)}
    complain(name, local.folder, "CXR-BERT", used | unused, {key: tuple(value.shape) for key, value in stored.items()})
    model.load_state_dict({key: stored[key] for key in used}, strict=True)
    return model
