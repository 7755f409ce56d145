"""Our loader beside a model's own code: the largest differences, tower by tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from official import Official

from linkage_core.encoders.registry import load_encoder
from linkage_core.encoders.towers import Towers
from linkage_core.images.read import read_radiograph

TOLERANCE = 1e-5  # of features and embeddings, as a share of the largest value where that is above 1
GREY_LEVELS = 1.0


@dataclass
class Differences:
    """Largest differences; None where nothing was compared, or the model's own code has no layer to look into."""

    image_features: float | None = None
    image_embeddings: float | None = None
    text_features: float | None = None
    text_embeddings: float | None = None
    grey_levels: float | None = None
    token_ids: int | None = None  # texts whose ids differ

    def complaints(self) -> list[str]:
        """What is beyond tolerance."""
        allowed = {"grey_levels": GREY_LEVELS + 1e-3, "token_ids": 0}
        return [
            name
            for name, value in vars(self).items()
            if value is not None and not value <= allowed.get(name, TOLERANCE)
        ]


def load(name: str, official: Official) -> Towers:
    """The encoder of a family's folder; names that say open_clip go through open_clip."""
    prefix = "open_clip" if name.startswith("open_clip") else "hf"
    encoder = load_encoder(f"{prefix}:{official.folder}", store_root=official.folder, device="cpu")
    assert isinstance(encoder, Towers)
    return encoder


def differences(
    official: Official,
    encoder: Towers,
    images: list[Path],
    texts: list[str],
    towers: tuple[str, ...] = ("image", "text"),
) -> Differences:
    """Images as files and texts as strings: each side reads, prepares and tokenises for itself.

    The official image tower is then given our pixels, so that the tower's row says what the tower does and the pixels
    have their own.
    """
    found, heads = Differences(), encoder.heads()
    if "image" in towers:
        radiographs = [read_radiograph(path) for path in images]
        ours = encoder.prepare(radiographs)
        features, embeddings = official.image(torch.from_numpy(ours))
        own = encoder.image_features(radiographs)
        found.image_features, found.image_embeddings = _gap(own, features), _gap(heads.image(own), embeddings)
        apart = np.abs(ours - official.pixels(images).numpy()) * official.levels
        found.grey_levels = float(apart.max())
    if "text" in towers:
        features, embeddings = official.text(texts)
        own = encoder.text_features(texts)
        found.text_features, found.text_embeddings = _gap(own, features), _gap(heads.text(own), embeddings)
        found.token_ids = ids_that_differ(official, encoder, texts)
    return found


def ids_that_differ(official: Official, encoder: Towers, texts: list[str]) -> int:
    """How many texts are given other token ids than by the model's own tokeniser, or masked otherwise."""
    wrong = 0
    for start in range(0, len(texts), 64):
        batch = texts[start : start + 64]
        tokens = encoder._tokens(batch)
        ids = next(tokens[key] for key in ("input_ids", "text") if key in tokens)
        seen = tokens.get("attention_mask", torch.ones_like(ids)).bool()
        for row, mask, expected in zip(ids, seen, official.ids(batch), strict=True):
            kept = row[mask].tolist()
            wrong += kept[: len(expected)] != expected or any(code != kept[-1] for code in kept[len(expected) :])
    return wrong


def _gap(ours: np.ndarray, theirs: torch.Tensor | None) -> float | None:
    if theirs is None:
        return None
    expected = theirs.detach().numpy()
    if ours.shape != expected.shape:
        return float("inf")
    assert np.abs(expected[0] - expected[1]).max() > 1e-3, "rows are alike: equality would say little"
    return float(np.abs(ours - expected).max() / max(1.0, np.abs(expected).max()))
