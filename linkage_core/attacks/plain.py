"""Whoever adapts nothing: the cosine that all other attackers are compared with."""

from __future__ import annotations

import numpy as np

from linkage_core.attacks.held import Held
from linkage_core.attacks.scored import Scored
from linkage_core.heads import unit


def cosine(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    """The released embeddings as they are, with the reports under the released text head."""
    return Scored(held.released, unit(held.heads.text(held.texts)), "as released")
