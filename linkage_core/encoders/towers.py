"""What every adapter that runs two torch towers shares: batches, precision, strict reading, the manifest's lines."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from linkage_core.encoders import fit
from linkage_core.encoders.hub import LocalModel
from linkage_core.errors import ModelError
from linkage_core.heads import Heads, Linear, unit
from linkage_core.images.pixels import Radiograph

BATCH_IMAGES, BATCH_TEXTS = 32, 64
LEAST_COSINE = 0.999  # between a row in reduced precision and the same row in float32


@dataclass
class _Precision:
    """What one tower computes in: settled on its first batch."""

    lock: threading.Lock = field(default_factory=threading.Lock)  # replicas share this
    dtype: torch.dtype | None = None  # None: not settled yet
    cosine: float | None = None  # the lowest on the first batch, where something less than float32 was tried


class Towers:
    """An `encoders.base.Encoder` on torch. An adapter reads its model and fills in what differs from family to family:
    `_read`, `prepare`, `_tokens`, `_lengths`, `_image_tower`, `_text_tower` and `_preprocessing`."""

    family: str
    text_limit: int  # tokens
    picture: Callable[[np.ndarray], np.ndarray] | None = None  # see encoders.base.Pictured
    _heads: Heads

    def __init__(
        self,
        name: str,
        local: LocalModel,
        device: str = "cpu",
        reduced_precision: tuple[torch.dtype, ...] = (),
        least_cosine: float = LEAST_COSINE,
    ) -> None:
        """`reduced_precision`: types to try under autocast, best first; the first that agrees with float32 is kept.

        Raises ModelError where the model cannot be read, as `_read` says.
        """
        self.name = name
        self._local = local
        self._device = torch.device(device)
        self._reduced = reduced_precision
        self._least_cosine = least_cosine
        self._precision = {"image": _Precision(), "text": _Precision()}
        self._read(name, local)
        self._try_texts()

    # ------------------------------------------------------------------------------------------ what a family fills in

    def _read(self, name: str, local: LocalModel) -> None:
        """Read the model: `text_limit`, the heads and what the methods below need."""
        raise NotImplementedError

    def prepare(self, images: list[Radiograph]) -> np.ndarray:
        """(n_images, 3, height, width) float32: the pixels as the image tower was trained on them."""
        if self.picture is None:
            raise NotImplementedError
        return self._scaled(np.stack([self.picture(image.pixels) for image in images]))

    def _scaled(self, pictures: np.ndarray) -> np.ndarray:
        """(n, height, width) uint8 of `picture` -> (n, 3, height, width) float32."""
        raise NotImplementedError

    def _tokens(self, texts: list[str]) -> dict[str, torch.Tensor]:
        """Token ids as the text tower was trained on them, cut at `text_limit`."""
        raise NotImplementedError

    def _lengths(self, texts: list[str]) -> list[int]:
        """How many tokens each text has before anything is cut."""
        raise NotImplementedError

    def _unknown(self) -> tuple[int | None, list[int]]:
        """(the token for unknown words, all special tokens); None where there is none, as in CLIP, whose pieces are
        bytes: its unknown token is the one that ends and fills up a text."""
        tokenizer = getattr(self, "_tokenizer", None)
        inner = getattr(tokenizer, "tokenizer", tokenizer)  # of open_clip
        unknown, end = (getattr(inner, f"{mark}_token_id", None) for mark in ("unk", "eos"))
        return None if unknown == end else unknown, list(getattr(inner, "all_special_ids", None) or [])

    def _image_tower(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, height, width) -> (n, d_image), the input of the image head."""
        raise NotImplementedError

    def _text_tower(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        """(n, length) tokens -> (n, d_text), the input of the text head."""
        raise NotImplementedError

    def _preprocessing(self) -> dict[str, Any]:
        """What is done to images and texts, for the manifest."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------------- the encoder

    def heads(self) -> Heads:
        """The off-the-shelf heads."""
        return self._heads

    def image_features(self, images: list[Radiograph]) -> np.ndarray:
        """(n_images, d_image) float32, the input of the image head."""
        rows = [self.image_features_of(self.prepare(batch)) for batch in _batches(images, BATCH_IMAGES)]
        return np.concatenate(rows) if rows else np.empty((0, self._heads.image.weight.shape[1]), np.float32)

    def image_features_of(self, prepared: np.ndarray) -> np.ndarray:
        """(n_images, d_image) float32 from what `prepare` gave: one batch."""
        pixels = torch.from_numpy(prepared).to(self._device)
        return self._run("image", partial(self._image_tower, pixels))

    def picture_features(self, pictures: np.ndarray) -> np.ndarray:
        """(n_images, d_image) float32 from n pictures that `picture` made: one batch."""
        return self.image_features_of(self._scaled(pictures))

    def replicas(self) -> list[Towers]:
        """The same model once more, on each further GPU of this machine."""
        if self._device.type != "cuda" or self._device.index:
            return []
        devices = [f"cuda:{number}" for number in range(1, torch.cuda.device_count())]
        with quietly():
            copies = [type(self)(self.name, self._local, one, self._reduced, self._least_cosine) for one in devices]
        for copy in copies:
            copy._precision = self._precision  # one settles for all
        return copies

    def text_features(self, texts: list[str]) -> np.ndarray:
        """(n_texts, d_text) float32, the input of the text head. Longer texts lose what is beyond `text_limit`."""
        rows = []
        for batch in _batches(texts, BATCH_TEXTS):
            tokens = {key: value.to(self._device) for key, value in self._tokens(batch).items()}
            rows.append(self._run("text", partial(self._text_tower, tokens)))
            self._check_texts(batch, tokens, rows[-1])
        return np.concatenate(rows) if rows else np.empty((0, self._heads.text.weight.shape[1]), np.float32)

    def _try_texts(self) -> None:
        """ModelError where the model cannot tell two plain sentences apart: its files do not fit each other."""
        try:
            tokens = {key: value.to(self._device) for key, value in self._tokens(list(fit.TRIAL)).items()}
            rows = self._compute(partial(self._text_tower, tokens), torch.float32)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ModelError(
                f"{self.name}: the tokenizer and the text model in {self._local.folder} do not fit each other "
                f"({first_line(error)}).",
                "Copy or download the model again, with the tokenizer files that came with its weights.",
            ) from error
        self._check_texts(fit.TRIAL, tokens, rows)

    def _check_texts(self, texts: Sequence[str], tokens: dict[str, torch.Tensor], rows: np.ndarray) -> None:
        ids = next((tokens[key] for key in ("input_ids", "text") if key in tokens), None)
        if ids is not None:
            fit.check_known(self.name, self._local.folder, ids.cpu().numpy(), *self._unknown())
        fit.check_distinct(self.name, self._local.folder, texts, rows)

    def truncated(self, texts: list[str]) -> int:
        """How many of these texts are longer than `text_limit` tokens and lose their end."""
        return sum(length > self.text_limit for length in self._lengths(texts))

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

    def settled(self, tower: str) -> str | None:
        """As `encoders.base.Settling` asks."""
        dtype = self._precision[tower].dtype
        return _name(dtype) if self._reduced and dtype else None

    def settle(self, tower: str, precision: str) -> None:
        """As `encoders.base.Settling` asks; a type that is not among those to try leaves it to the first batch."""
        kept = self._precision[tower]
        kept.dtype = next((one for one in (torch.float32, *self._reduced) if _name(one) == precision), None)
        kept.cosine = None

    @cached_property
    def _weights_sha256(self) -> str:
        return self._local.weights_sha256()

    def _compute_dtype(self) -> str:
        if not self._reduced:
            return "float32"
        tried = " or ".join(_name(dtype) for dtype in self._reduced)
        return f"{tried} where the first batch agrees with float32 to a cosine of {self._least_cosine}, else float32"

    def _run(self, tower: str, compute: Callable[[], torch.Tensor]) -> np.ndarray:
        """One batch in the precision that this tower has settled on; the first batch settles it. Rows that overflow in
        less than float32 are computed again in that."""
        kept = self._precision[tower]
        with kept.lock:
            if kept.dtype is None:
                return self._settle(kept, tower, compute)
        values = self._compute(compute, kept.dtype)
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any() and kept.dtype != torch.float32:
            values[bad] = self._compute(compute, torch.float32)[bad]
        return values

    def _settle(self, kept: _Precision, tower: str, compute: Callable[[], torch.Tensor]) -> np.ndarray:
        exact = self._compute(compute, torch.float32)
        head = self._heads.image if tower == "image" else self._heads.text
        for dtype in self._reduced:
            fast = self._compute(compute, dtype)
            kept.cosine = _lowest_cosine(head(exact), head(fast))
            if kept.cosine >= self._least_cosine:
                kept.dtype = dtype
                return fast
        kept.dtype = torch.float32  # last: where memory runs out on the way, nothing is settled
        return exact

    def _compute(self, compute: Callable[[], torch.Tensor], dtype: torch.dtype) -> np.ndarray:
        reduced = dtype != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, dtype if reduced else None, enabled=reduced):
            return compute().float().cpu().numpy()


def linear(layer: torch.nn.Linear | torch.nn.Conv2d) -> Linear:
    """A linear layer, or a 1x1 convolution, as a head."""
    weight = layer.weight.detach().float().cpu().reshape(len(layer.weight), -1).numpy().copy()
    bias = layer.bias.detach().float().cpu().numpy().copy() if layer.bias is not None else None
    return Linear(weight, np.zeros(len(weight), np.float32) if bias is None else bias)


# --------------------------------------------------------------------------------------------------------- reading it


@contextmanager
def quietly() -> Iterator[None]:
    """No bars and no reports of transformers while a model is loaded: what does not fit is told by our own errors."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def check_weights_present(name: str, local: LocalModel) -> None:
    """ModelError with the remedy where a model's folder holds no weights that may be loaded."""
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


def read_safetensors(name: str, paths: tuple[Path, ...]) -> dict[str, torch.Tensor]:
    """Every tensor of these files, memory-mapped. Raises ModelError: cut short, or no safetensors."""
    tensors: dict[str, torch.Tensor] = {}
    for path in paths:
        try:
            with ExitStack() as stack:
                file = stack.enter_context(safe_open(path, framework="pt"))
                tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{name}: {path} cannot be read: {error}", "Download or copy it again.") from error
    return tensors


def load_strictly(
    name: str, place: Path, model: torch.nn.Module, stored: Mapping[str, torch.Tensor], kind: str, prefix: str = ""
) -> None:
    """Put every stored tensor into its place. Raises ModelError that names what is missing, unexpected or misshapen.

    `prefix` stands before the names in the file and not before the model's own.
    """
    expected = {prefix + key: tuple(value.shape) for key, value in model.state_dict().items()}
    complain(name, place, kind, expected, {key: tuple(value.shape) for key, value in stored.items()})
    model.load_state_dict({key.removeprefix(prefix): value for key, value in stored.items()}, strict=True)


def complain(
    name: str,
    place: Path,
    kind: str,
    expected: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, tuple[int, ...]],
) -> None:
    """ModelError that names the tensors by which a file differs from what a model of this kind holds; else nothing."""
    wrong = {
        "missing": expected.keys() - stored.keys(),
        "unexpected": stored.keys() - expected.keys(),
        "of another shape": {key for key in expected.keys() & stored.keys() if expected[key] != stored[key]},
    }
    complaints = [f"{_some(keys)} {what}" for what, keys in wrong.items() if keys]
    if complaints:
        raise ModelError(
            f"{name}: the weights in {place} do not fit a {kind} model: {'; '.join(complaints)}.",
            "They belong to another model or were cut short. Download them again, or use their own config.json.",
        )


def is_count(positions: torch.Tensor) -> bool:
    """Whether a tensor is the constant 0, 1, 2, ... that older transformers stored among the weights."""
    flat = positions.flatten().long()
    return torch.equal(flat, torch.arange(len(flat)))


# --------------------------------------------------------------------------------------------------------------- small


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _lowest_cosine(exact: np.ndarray, fast: np.ndarray) -> float:
    """The lowest cosine between rows; -1 where the reduced precision overflowed."""
    if not np.isfinite(fast).all():
        return -1.0
    return float((unit(exact) * unit(fast)).sum(axis=1).min())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _some(keys: set[str]) -> str:
    shown = ", ".join(sorted(keys)[:3])
    return shown + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
