"""What a mitigation must be compared with: heads that are damaged, hidden or narrowed without any guarantee.

Each shows how one number alone misleads. `rotation` brings plain cosine to chance and changes no classifier; random
heads and noise look like protection until an attacker adapts; public labels and prompts reach what private training
reaches without touching a patient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear, unit
from linkage_core.mitigation import oneshot
from linkage_core.mitigation.noise import Source


def random_heads(shelf: Heads, source: Source) -> Heads:
    """Gaussian weights of variance 1/d in both towers, no bias: nothing of the model's alignment is left."""
    return Heads(*(_linear(source.normal(h.weight.shape) / np.sqrt(h.weight.shape[1])) for h in _both(shelf)))


def rotation(shelf: Heads, source: Source) -> Heads:
    """The image head turned by a secret random rotation, the text head as it was: cosines between them mean nothing.

    Uniform over rotations and reflections: Q of a QR decomposition with R's diagonal made positive (Mezzadri 2007).
    """
    width = len(shelf.image.weight)
    q, r = np.linalg.qr(source.normal((width, width)))
    turn = q * np.sign(np.diag(r))
    return Heads(_linear(turn @ shelf.image.weight, turn @ shelf.image.bias), shelf.text)


def truncate(shelf: Heads, width: int) -> Heads:
    """Both towers on the `width` directions of the embedding that the two heads' own weights reach furthest.

    Leading left singular vectors of [W_image / |W_image|, W_text / |W_text|]: no data is looked at.
    """
    full = len(shelf.image.weight)
    if not 1 <= width <= full:
        raise InputError(f"The width is {width}.", f"The embedding has {full} dimensions.")
    sides = [h.weight.astype(np.float64) / np.linalg.norm(h.weight) for h in _both(shelf)]
    left, _, _ = np.linalg.svd(np.hstack(sides), full_matrices=False)
    return _onto(shelf, left[:, :width].T)


def concept_span(shelf: Heads, prompt_features: np.ndarray) -> Heads:
    """Both towers projected on the span of public prompts' text embeddings; prompt_features (m, t)."""
    embedded = unit(shelf.text(prompt_features)).astype(np.float64)
    _, strength, right = np.linalg.svd(embedded, full_matrices=False)
    return _onto(shelf, right[strength > 1e-6 * strength[0]])


def public_labels(images: np.ndarray, texts: np.ndarray, labels: np.ndarray, findings: Sequence[str]) -> Heads:
    """label-oneshot without noise on a public cohort: no patient of the training cohort is used."""
    each = np.arange(len(images))
    made = oneshot.prepare(oneshot.LABEL, images, texts, each, labels, findings, unit="pair")
    return oneshot.closed_form(made, made.sums, 0.0)


def prompts(findings: Sequence[str]) -> list[str]:
    """Two public sentences a finding.

    >>> prompts(["Edema"])
    ['Edema.', 'No edema.']
    """
    return [sentence for name in findings for sentence in (f"{name}.", f"No {name.lower()}.")]


def _both(heads: Heads) -> tuple[Linear, Linear]:
    return heads.image, heads.text


def _onto(shelf: Heads, basis: np.ndarray) -> Heads:
    return Heads(*(_linear(basis @ h.weight, basis @ h.bias) for h in _both(shelf)))


def _linear(weight: np.ndarray, bias: np.ndarray | None = None) -> Linear:
    bias = np.zeros(len(weight)) if bias is None else bias
    return Linear(np.ascontiguousarray(weight, dtype=np.float32), np.asarray(bias, dtype=np.float32))
