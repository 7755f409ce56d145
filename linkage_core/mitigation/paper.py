"""The reference study's recipe as reported: in-batch InfoNCE, AdamW, Opacus clipping and noise. It claims nothing here.

Every pair's gradient depends on its whole batch, for the others are its negatives. Clipping each row of the per-example
gradient to C therefore does not bound what adding one pair does to the sum: all other rows move too. The accountant's
epsilon is for a mechanism whose sum moves by at most C, so this analysis does not establish it. Shown to be measured,
beside a control that has the noise alone.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch.nn import functional

from linkage_core.mitigation.engine import Pairs, Towers
from linkage_core.mitigation.noise import Source
from linkage_core.mitigation.opacus_engine import TwoHeads
from linkage_core.progress import Progress, silent


@dataclass(frozen=True)
class PaperRecipe:
    """What the study does not state is ours: batch, epochs, clip, rate and temperature."""

    batch: int = 512
    epochs: float = 3.0
    clip: float = 1.0
    rate: float = 1e-3
    weight_decay: float = 0.01
    temperature: float = 0.07

    def sampling(self, n_pairs: int) -> tuple[float, int]:
        """(q, steps) for a public number of pairs."""
        q = min(1.0, self.batch / n_pairs)
        return q, max(1, round(self.epochs / q))


def train(
    start: Towers,
    pairs: Pairs,
    n_pairs: int,
    multiplier: float,
    recipe: PaperRecipe,
    source: Source,
    progress: Progress = silent,
    signal: bool = True,
) -> Towers:
    """Both heads after the recipe's steps. Without `signal` every gradient is zero and the noise is left.

    n_pairs: the public number of pairs, from which q and the size of a step follow.
    """
    model: GradSampleModule = GradSampleModule(TwoHeads(start), loss_reduction="mean")
    q, steps = recipe.sampling(n_pairs)
    seed = int.from_bytes(os.urandom(8), "little") if source.seed is None else source.seed
    optimiser = DPOptimizer(
        torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay),
        noise_multiplier=multiplier,
        max_grad_norm=recipe.clip,
        expected_batch_size=max(1, round(q * n_pairs)),
        loss_reduction="mean",
        generator=torch.Generator().manual_seed(seed % 2**63),
    )
    for step in range(steps):
        rows = np.flatnonzero(source.uniform(len(pairs.unit)) < q)
        if len(rows):
            x, t = (torch.from_numpy(part.astype(np.float32)) for part in pairs.features(rows))
            with warnings.catch_warnings():  # features need no gradient, and Opacus' hooks do not mind
                warnings.filterwarnings("ignore", message="Full backward hook", category=UserWarning)
                (_info_nce(model(x, t), recipe.temperature) * float(signal)).backward()
            optimiser.step()
            optimiser.zero_grad()
        progress("steps of the study's recipe", step + 1, steps)
    return Towers(*(parameter.detach().double().numpy() for parameter in model.parameters()))


def _info_nce(embedded: tuple[torch.Tensor, torch.Tensor], temperature: float) -> torch.Tensor:
    z, u = embedded
    scores = functional.normalize(z) @ functional.normalize(u).T / temperature
    target = torch.arange(len(z))
    return (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2
