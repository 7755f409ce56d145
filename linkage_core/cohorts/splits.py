"""Who is in which split: by seed and shares, or by the column of a table. No patient crosses a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from linkage_core.cohorts.base import SPLITS, split_by_patient
from linkage_core.errors import InputError
from linkage_core.validate import nearest

FRACTIONS = (0.6, 0.2, 0.2)
WHERE_SPLITS = ("seeded", "own")
WORDS = {
    **{name: name for name in SPLITS},
    **dict.fromkeys(("train", "training"), "finetune"),
    **dict.fromkeys(("validate", "validation", "valid", "val", "dev"), "attacker"),
    **dict.fromkeys(("test", "testing", "held-out", "held_out", "held out"), "heldout"),
}
"""What a table's own split column may say, in lower case."""


def chosen_splits(splits: str, fractions: Any = FRACTIONS) -> tuple[str, list[float]]:
    """("seeded" or "own", three shares) of what a user says: one of the two words, or shares such as 60/20/20.

    >>> chosen_splits("own"), chosen_splits("60/20/20")
    (('own', [0.6, 0.2, 0.2]), ('seeded', [0.6, 0.2, 0.2]))
    """
    if splits in WHERE_SPLITS:
        return splits, checked_fractions(fractions)
    try:
        shares = [float(part) for part in splits.split("/")]
    except ValueError:
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or not any(abs(sum(shares) - whole) < 1e-6 for whole in (1, 100)):
        raise InputError(
            f"splits is {splits!r}.{nearest(splits, WHERE_SPLITS)}",
            f"It is one of: {', '.join(WHERE_SPLITS)}, or three shares ({', '.join(SPLITS)}) such as 60/20/20.",
        )
    return "seeded", [share / sum(shares) for share in shares]


def checked_fractions(fractions: Any) -> list[float]:
    """Three shares (finetune, attacker, heldout) as a list, which JSON keeps as it is."""
    try:
        shares = [float(share) for share in fractions]
    except (TypeError, ValueError):
        shares = []
    if len(shares) != len(SPLITS) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"fractions are {fractions}.", f"Give three shares ({', '.join(SPLITS)}) that sum to 1.")
    return shares


def split_column(
    records: pd.DataFrame,
    splits: str,
    seed: int,
    fractions: Iterable[float] = FRACTIONS,
    *,
    own: pd.Series | None = None,
    words: Mapping[str, str] = WORDS,
    where: str = "the table",
    group: str = "patient_id",
) -> pd.Series:
    """The split of every record. `own` is what the table says of each, `words` what that means; None: it has none.

    Raises InputError, with counts, where "own" is asked for and records have no split or another word, or patients
    stand in several.
    """
    if splits != "own":
        first, second, third = fractions
        return split_by_patient(records[group], seed, (first, second, third))
    if own is None:
        raise InputError(f"{where} has no column 'split'.", "Add it, or leave out --splits own.")
    said = own.str.strip().str.lower()
    unknown = records[~said.isin(list(words))]
    if len(unknown):
        first_id, word = unknown["record_id"].iloc[0], own[unknown.index[0]]
        raise InputError(
            f"{len(unknown):,} of {len(records):,} images have no split of the dataset's own, the first "
            f"{first_id} ({word!r}).",
            f"In {where} each has one of {', '.join(words)}: correct it, or leave out --splits own.",
        )
    placed = said.map(dict(words)).astype("str")
    several = placed.groupby(records["patient_id"]).nunique()
    several = several[several > 1]
    if len(several):
        raise InputError(
            f"{len(several):,} patients are in several splits of {where}, such as {several.index[0]!r}.",
            "A patient never crosses a split: correct the column, or leave out --splits own.",
        )
    return placed
