"""The same clipped sum from Opacus' own modules: an independent witness for the closed form, and the slower engine.

Gradients come from torch's automatic differentiation of losses written again here, per-example gradients from
GradSampleModule, clipping from DPOptimizer. Noise and sampling stay with the closed form's: torch's default generator
starts every process from the same seed, and Opacus draws from it unless told otherwise.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn import functional

from linkage_core.errors import InputError
from linkage_core.mitigation.engine import ClosedForm, Pairs, Towers
from linkage_core.mitigation.objectives import Label, Nothing, Objective, PublicNegatives


class TwoHeads(nn.Module):
    """Both heads on features whose last column is the constant, so that weight and bias are one matrix."""

    def __init__(self, at: Towers) -> None:
        super().__init__()
        self.image = nn.Linear(at.image.shape[1], at.image.shape[0], bias=False)
        self.text = nn.Linear(at.text.shape[1], at.text.shape[0], bias=False)
        with torch.no_grad():
            self.image.weight.copy_(torch.from_numpy(at.image))
            self.text.weight.copy_(torch.from_numpy(at.text))

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.image(x), self.text(t)


class Opacus(ClosedForm):
    """Clipped sums by per-example gradients, float32. The unit is the pair: Opacus knows no patients."""

    name = "opacus"

    def clipped_sum(self, objective: Objective, at: Towers, pairs: Pairs, rows: np.ndarray, clip: float) -> Towers:
        if pairs.n_units != len(pairs.unit):
            raise InputError("The engine opacus clips pairs, not patients.", "Take the unit pair, or closed-form.")
        if not len(rows):
            return Towers(np.zeros_like(at.image), np.zeros_like(at.text))
        model: Any = GradSampleModule(TwoHeads(at), loss_reduction="sum")
        x, t = (torch.from_numpy(part.astype(np.float32)) for part in pairs.features(rows))
        z, u = model(x, t)
        with warnings.catch_warnings():  # features need no gradient, and Opacus' hooks do not mind
            warnings.filterwarnings("ignore", message="Full backward hook", category=UserWarning)
            losses(objective, z, u, rows).sum().backward()
        optimiser = DPOptimizer(
            torch.optim.SGD(model.parameters(), lr=1.0),
            noise_multiplier=0.0,
            max_grad_norm=clip,
            expected_batch_size=1,
            loss_reduction="sum",
        )
        optimiser.clip_and_accumulate()
        return Towers(*(parameter.summed_grad.double().numpy() for parameter in model.parameters()))


def losses(objective: Objective, z: torch.Tensor, u: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """(n,) loss of each pair: what objectives.py differentiates by hand."""
    if isinstance(objective, Nothing):
        return 0 * (z.sum(1) + u.sum(1))
    if isinstance(objective, Label):
        y = torch.from_numpy(objective.targets[rows].astype(np.float32))
        known = ~y.isnan()
        y = y.nan_to_num()
        both = sum(functional.binary_cross_entropy_with_logits(out, y, reduction="none") for out in (z, u))
        return (known * both).mean(1)
    if isinstance(objective, PublicNegatives):
        a, b = functional.normalize(z), functional.normalize(u)
        own = (a * b).sum(1, keepdim=True)
        loss = torch.zeros(len(a))
        for anchor, bank in ((a, objective.reports), (b, objective.images)):
            if len(bank):
                scores = torch.cat([own, anchor @ torch.from_numpy(bank.astype(np.float32)).T], dim=1)
                first = torch.zeros(len(a), dtype=torch.long)
                loss = loss + functional.cross_entropy(scores / objective.temperature, first, reduction="none")
        return loss
    raise InputError(f"The engine opacus does not know {type(objective).__name__}.", "Take closed-form.")
