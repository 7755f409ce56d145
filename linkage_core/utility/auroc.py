"""AUROC with intervals over patients, all labels and heads at once and paired."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from linkage_core.errors import InputError
from linkage_core.ranking import intervals
from linkage_core.ranking.intervals import TOO_FEW


def placements(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """For each row, the share of the other class that it is placed right against, a tie counting half.

    scores (n,), positive (n,) True, False. A positive row's is V10 of DeLong, DeLong and Clarke-Pearson (Biometrics 44,
    1988), a negative's V01, from midranks (Sun and Xu, IEEE Signal Processing Letters 21, 2014). The mean over either
    class is the AUROC. NaN throughout where a class is empty.

    >>> placements(np.array([0.1, 0.4, 0.4]), np.array([False, False, True])).tolist()
    [1.0, 0.5, 0.75]
    """
    from scipy.stats import rankdata  # takes half a second, and whoever only reads tables needs none of it

    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not (n_positive and n_negative):
        return np.full(len(positive), np.nan)
    overall = rankdata(scores)
    within = np.empty(len(overall))
    within[positive], within[~positive] = rankdata(scores[positive]), rankdata(scores[~positive])
    above = overall - within  # rows of the other class below, ties half
    return np.where(positive, above / n_negative, 1 - above / n_positive)


@dataclass(frozen=True)
class Aurocs:
    """AUROC of each (label, column) and its bootstrap draws.

    auroc (n_labels, n_columns); draws (n_draws, n_labels, n_columns); n, n_positive (n_labels,) rows; patients
    (n_labels,) the smaller of the number of patients with a positive row and of those with a negative one, in_effect
    the same of patients in effect, by their rows alone (intervals.behind). The draws are stretched about auroc
    (intervals.stretched), so that their percentiles, and those of means and differences of them, are intervals.
    """

    auroc: np.ndarray
    draws: np.ndarray
    n: np.ndarray
    n_positive: np.ndarray
    patients: np.ndarray
    in_effect: np.ndarray
    seed: int

    @property
    def enough(self) -> np.ndarray:
        """(n_labels,) is each class seen in at least 30 patients, who are not few in effect?"""
        return np.asarray((self.patients >= TOO_FEW) & (self.in_effect >= intervals.FEW_CARRY))


def aurocs(
    scores: np.ndarray, states: np.ndarray, cluster: np.ndarray, *, seed: int = 0, draws: int = intervals.DRAWS
) -> Aurocs:
    """How well do scores tell those with a finding from those without, and how far could that move by patients?

    Patients are drawn with replacement. An AUROC is a mean over pairs of rows, which a draw would have to count again;
    instead its first-order part is drawn: A + mean over drawn positives of (V10 - A) + mean over drawn negatives of
    (V01 - A), the Hajek projection that DeLong's variance is made of, here summed by patient as in Obuchowski
    (Biometrics 53, 1997). All labels, columns and draws are one matrix product, and differences are paired. The draws
    of a label are stretched by the fewest patients in effect that are behind either class, or behind what a column's
    AUROC lacks to 1 there.

    Arguments
        scores: (n_rows, n_labels, n_columns), columns being heads or models on the same rows.
        states: (n_rows, n_labels) 1 positive, 0 negative, NaN left out.
        cluster: (n_rows,) patient of each row.
    """
    scores, states, cluster = np.asarray(scores, np.float64), np.asarray(states, np.float64), np.asarray(cluster)
    if scores.ndim != 3 or states.shape != scores.shape[:2] or cluster.shape != scores.shape[:1]:
        raise InputError(
            f"scores have shape {scores.shape}, states {states.shape} and cluster {cluster.shape}.",
            "Give (rows, labels, columns), (rows, labels) and (rows,).",
        )
    if not np.isfinite(scores).all():
        raise InputError("A score is NaN or infinite.", "Leave the row out.")
    if draws < 1000:
        raise InputError(f"draws is {draws}.", "Take at least 1,000 draws.")
    code = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(code.max()) + 1 if len(code) else 0
    n_labels, n_columns = scores.shape[1:]
    auroc = np.full((n_labels, n_columns), np.nan)
    parts = np.zeros((n_clusters, n_labels, 2, n_columns + 1))  # sums by patient; the last column counts rows
    lacking = np.zeros((n_clusters, n_labels, 2, n_columns))
    for label in range(n_labels):
        rows = np.flatnonzero(~np.isnan(states[:, label]))
        positive = states[rows, label] == 1
        both = positive.any() and not positive.all()
        for column in range(n_columns if both else 0):
            placed = placements(scores[rows, label, column], positive)
            auroc[label, column] = placed[positive].mean()
            for side, members in enumerate((positive, ~positive)):
                off = placed[members] - auroc[label, column]
                parts[:, label, side, column] = np.bincount(code[rows[members]], weights=off, minlength=n_clusters)
                lost = 1 - placed[members]
                lacking[:, label, side, column] = np.bincount(code[rows[members]], weights=lost, minlength=n_clusters)
        for side, members in enumerate((positive, ~positive)):
            parts[:, label, side, -1] = np.bincount(code[rows[members]], minlength=n_clusters)
    weights = intervals.patient_weights(n_clusters, draws, seed)
    flat = parts.reshape(n_clusters, -1)
    drawn = np.concatenate([weights[i : i + 250] @ flat for i in range(0, draws, 250)]).reshape(draws, *parts.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = (drawn[..., :-1] / drawn[..., -1:]).sum(axis=2)
    counted = parts[..., -1]
    m = intervals.behind(lacking, counted[..., None]).min(axis=(1, 2))
    return Aurocs(
        auroc=auroc,
        draws=np.clip(auroc + intervals.stretch(m)[:, None] * moved, 0.0, 1.0),
        n=counted.sum(axis=(0, 2)).astype(np.int64),
        n_positive=counted[:, :, 0].sum(axis=0).astype(np.int64),
        patients=(counted > 0).sum(axis=0).min(axis=1),
        in_effect=intervals.in_effect(counted**2).min(axis=1),
        seed=seed,
    )
