"""Losses of one pair each: what a private step differentiates.

An objective gives, for every pair, the derivative of its own loss by its own two embeddings. No row depends on another
row, which is what makes the clipped gradient of a pair, or of a patient, a bounded contribution. In-batch contrastive
loss is no such objective (see `paper`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError


class Objective(Protocol):
    """A loss that is a sum over pairs, each term of one pair only."""

    def gradients(self, z: np.ndarray, u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z, u (n, e) head outputs of the pairs `rows` (n,) -> (dz, du), both (n, e)."""
        ...


def targets(labels: np.ndarray, findings: Sequence[str]) -> np.ndarray:
    """(n, 14) labels as stored -> (n, K) float64 of 1 present, 0 absent, NaN left out, for the declared findings.

    An unmentioned finding is absent (Irvin et al. 2019, CheXpert, count blanks as negative), an uncertain one is left
    out, and so is a record without any label: each record is read by itself.
    Raises InputError for an unknown, repeated or empty list of findings, and for a cohort without any label. A finding
    that nobody has is learnt like any other (`absent` names it): whether somebody has it hangs on one patient.
    """
    places = [LABELS.index(name) for name in known_findings(findings)]
    if np.isnan(labels).all():
        raise InputError(
            f"None of these {len(labels):,} pairs has a label, and what is to be trained learns the findings.",
            "Take a mechanism that needs none, such as moment-oneshot, or have labels: --labels from-text of embed and "
            "import reads them from English reports.",
        )
    found = np.where(np.isnan(labels), 0.0, np.where(labels == -1, np.nan, labels))
    found[np.isnan(labels).all(axis=1)] = np.nan
    return found[:, places]


def absent(labels: np.ndarray, findings: Sequence[str]) -> list[str]:
    """Those of the findings that no row of labels (n, 14) has."""
    return [name for name in findings if not (labels[:, LABELS.index(name)] == 1).any()]


def known_findings(findings: Sequence[str]) -> tuple[str, ...]:
    """The declared findings, checked against the 14 labels and in the order given."""
    unknown = [name for name in findings if name not in LABELS]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no finding.", f"They are: {', '.join(LABELS)}.")
    if not findings or len(set(findings)) < len(findings):
        raise InputError(f"The declared findings are {list(findings)}.", "Name at least one, and each once.")
    return tuple(findings)


@dataclass(frozen=True)
class Label:
    """Masked binary cross-entropy of both towers against the declared findings: head outputs are K logits.

    Loss of pair i: sum over known k of [softplus(z_ik) - y_ik z_ik + softplus(u_ik) - y_ik u_ik] / K, so
    dz_ik = (sigmoid(z_ik) - y_ik) / K. `targets` (n_pairs, K) as from targets().
    """

    targets: np.ndarray

    def gradients(self, z: np.ndarray, u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = self.targets[rows]
        known = ~np.isnan(y)
        y = np.where(known, y, 0.0)
        return known * (_sigmoid(z) - y) / y.shape[1], known * (_sigmoid(u) - y) / y.shape[1]


@dataclass(frozen=True)
class PublicNegatives:
    """Contrastive loss of one pair against a fixed public bank of reports and of images.

    With unit a = z/|z|, b = u/|u|, bank rows B (unit reports) and A (unit images), temperature tau:
    loss = - log[e^{a.b/tau} / (e^{a.b/tau} + sum_j e^{a.B_j/tau})]
           - log[e^{a.b/tau} / (e^{a.b/tau} + sum_j e^{A_j.b/tau})].
    The bank's embeddings are constants (made once with the starting heads), so that a pair's gradient is one outer
    product for each head. `images` or `reports` may be empty: that term is left out.
    """

    images: np.ndarray  # (n_bank_images, e)
    reports: np.ndarray  # (n_bank_reports, e)
    temperature: float = 0.07

    def gradients(self, z: np.ndarray, u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z_norm, u_norm = _norms(z), _norms(u)
        a, b = z / z_norm, u / u_norm
        own = np.sum(a * b, axis=1, keepdims=True) / self.temperature
        da, db = np.zeros_like(a), np.zeros_like(b)
        if len(self.reports):
            match, others = _softmax(own, a @ self.reports.T / self.temperature)
            da += (match - 1) * b + others @ self.reports
            db += (match - 1) * a
        if len(self.images):
            match, others = _softmax(own, b @ self.images.T / self.temperature)
            db += (match - 1) * a + others @ self.images
            da += (match - 1) * b
        da, db = da / self.temperature, db / self.temperature
        # through the normalisation: d(z/|z|) = (I - a a^T)/|z|
        dz = (da - a * np.sum(a * da, axis=1, keepdims=True)) / z_norm
        du = (db - b * np.sum(b * db, axis=1, keepdims=True)) / u_norm
        return dz, du


@dataclass(frozen=True)
class Nothing:
    """No signal at all: what is left of a mechanism is its noise."""

    def gradients(self, z: np.ndarray, u: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros_like(z), np.zeros_like(u)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _softmax(own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the match (n, 1) and of the bank (n, n_bank)."""
    top = np.maximum(own, others.max(axis=1, keepdims=True))
    match, rest = np.exp(own - top), np.exp(others - top)
    total = match + rest.sum(axis=1, keepdims=True)
    return match / total, rest / total
