"""How an attacker splits what it knows, by patient, to choose its own regularisation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from linkage_core.attacks.held import Held, Known
from linkage_core.errors import InputError

FOLDS = 5
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


def known_rows(held: Held, m: Known, seed: int) -> np.ndarray:
    """Rows of the first m own images, patient by patient in an order that depends on the seed alone: nested in m."""
    n_own = len(held.own_group)
    if m == "all":
        m = n_own
    if isinstance(m, bool) or not isinstance(m, (int, np.integer)) or not 0 <= m <= n_own:
        raise InputError(
            f"m is {m!r}.", f"It is all, or a whole number from 0 to {n_own:,}, the attacker's own images."
        )
    patient = np.unique(held.own_group, return_inverse=True)[1]
    place = np.random.default_rng([seed, 1]).permutation(patient.max() + 1)[patient]
    return np.sort(np.argsort(place, kind="stable")[:m])


def _folds(held: Held, known: np.ndarray, seed: int) -> np.ndarray:
    """(n_own,) fold of each own image; a patient is in one fold. Fewer than FOLDS where fewer patients are known."""
    code = np.unique(held.own_group, return_inverse=True)[1]
    patients = np.unique(code[known])
    n_folds = FOLDS if len(known) < 1000 else 3
    rng = np.random.default_rng([seed, 2])
    of_patient = rng.integers(0, n_folds, code.max() + 1)
    of_patient[rng.permutation(patients)] = np.arange(len(patients)) % n_folds
    return np.asarray(of_patient[code])


def own_splits(held: Held, known: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(known rows to learn from, known rows to judge by, all own rows to learn from) of each fold."""
    fold = _folds(held, known, seed)
    for one in np.unique(fold[known]).tolist():
        yield known[fold[known] != one], known[fold[known] == one], np.flatnonzero(fold != one)


def ridge_solution(gram: np.ndarray, cross: np.ndarray, ridge: float) -> np.ndarray:
    """(gram + ridge * mean of its diagonal * I)^-1 cross."""
    level = ridge * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + max(level, 1e-12) * np.eye(len(gram)), cross))
