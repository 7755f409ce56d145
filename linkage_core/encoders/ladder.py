"""How a rung of the phantom's ladder is trained: one pair of small towers, images and texts drawn together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from linkage_core.encoders.phantom import DualTower, build_vocabulary, tokens
from linkage_core.progress import Progress

Level = Literal["general", "biomedical", "clinical", "radiology"]


@dataclass(frozen=True)
class Recipe:
    """How one rung is trained."""

    level: Level
    patients: int  # of the encoder-training split
    epochs: int
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    temperature: float = 0.07
    shift: int = 3  # pixels; each batch is moved by up to this much, so that position on the film carries little


RECIPES: dict[str, Recipe] = {
    "phantom-general": Recipe("general", patients=4_800, epochs=2),
    "phantom-biomedical": Recipe("biomedical", patients=4_800, epochs=6),
    "phantom-clinical": Recipe("clinical", patients=9_600, epochs=4),
    "phantom-radiology": Recipe("radiology", patients=9_600, epochs=8),
}


def train(
    images: np.ndarray, texts: list[str], recipe: Recipe, *, seed: int, progress: Progress, stage: str
) -> tuple[DualTower, list[str]]:
    """Align images and texts by InfoNCE over batches, both ways; AdamW with a warm-up and a cosine decay.

    `images` (n, 64, 64) float32 as from `encoders.phantom.prepare`, row i belongs to texts[i]. Returns the model and
    its vocabulary. Loss: van den Oord et al. 2018, eq. 4, in the symmetric form of Radford et al. 2021.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vocabulary = build_vocabulary(texts)
    codes = torch.from_numpy(tokens(texts, {word: code for code, word in enumerate(vocabulary)}))
    pictures = torch.from_numpy(images)
    model = DualTower(len(vocabulary)).train()
    model.image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = min(recipe.batch, len(texts))
    steps_per_epoch = len(texts) // batch
    steps = recipe.epochs * steps_per_epoch
    warm_up = max(1, steps // 20)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))),
    )
    progress(stage, 0, steps)
    for done, rows in enumerate(_batches(len(texts), batch, recipe.epochs, rng), start=1):
        picture = pictures[rows][:, None]
        if recipe.shift:
            down, right = (int(move) for move in rng.integers(-recipe.shift, recipe.shift + 1, 2))
            picture = torch.roll(picture, (down, right), (2, 3))
        image, text = model.embed_images(picture), _embed_texts(model, codes[rows])
        scores = image @ text.T / recipe.temperature
        target = torch.arange(len(rows))
        loss = (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(stage, done, steps)
    return model.eval(), vocabulary


def _embed_texts(model: DualTower, codes: torch.Tensor) -> torch.Tensor:
    """Short and long texts apart, each without the padding it does not need: half the time of one padded batch."""
    lengths = (codes != 0).sum(1)
    order = torch.argsort(lengths)
    parts = [model.embed_texts(codes[rows, : int(lengths[rows].max())]) for rows in order.chunk(3)]
    return torch.cat(parts)[torch.argsort(order)]


def _batches(n: int, batch: int, epochs: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(n))
        yield from (order[start : start + batch] for start in range(0, n - batch + 1, batch))
