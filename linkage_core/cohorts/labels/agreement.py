"""How well labels read from text agree with labels that a source has of its own: precision and recall by finding."""

from __future__ import annotations

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS
from linkage_core.ranking.intervals import flag, rate_intervals

VALUES = {"positive": (1.0,), "positive or uncertain": (1.0, -1.0), "uncertain": (-1.0,), "negative": (0.0,)}
COLUMNS = (
    *("label", "value", "own", "read", "both", "left_out"),
    *("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high", "flag"),
)


def agreement(own: pd.DataFrame, read: pd.DataFrame, patients: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """COLUMNS, one row for each finding and value that either side has.

    own, read: (n_studies, 14) columns LABELS, values 1, 0, -1 or NaN; patients (n_studies,). Of "positive", studies
    whose own label is uncertain are `left_out`: whoever wrote it did not say. precision = both / read and recall =
    both / own, each NaN where the divisor is none, with 95% intervals over patients (rate_intervals). `flag` where
    fewer than 30 patients have the own label.
    """
    rows = []
    for label in LABELS:
        theirs, ours = own[label].to_numpy("float64"), read[label].to_numpy("float64")
        for name, values in VALUES.items():
            counted = theirs != -1 if name == "positive" else np.ones(len(theirs), bool)
            wanted, found = np.isin(theirs, values) & counted, np.isin(ours, values) & counted
            if not (wanted.any() or found.any()):
                continue
            row = {"label": label, "value": name, "own": int(wanted.sum()), "read": int(found.sum())}
            row |= {"both": int((wanted & found).sum()), "left_out": int((~counted).sum())}
            shares = np.stack([np.where(found, wanted, np.nan), np.where(wanted, found, np.nan)], axis=1)
            rates = rate_intervals(shares.astype("float64"), patients, seed=seed)
            for at, measure in enumerate(("precision", "recall")):
                figures = (float(part[at]) for part in (rates.estimate, rates.low, rates.high))
                row |= dict(zip((measure, f"{measure}_low", f"{measure}_high"), figures, strict=True))
            rows.append(row | {"flag": flag(len(np.unique(patients[wanted])))})
    return pd.DataFrame(rows, columns=list(COLUMNS))
