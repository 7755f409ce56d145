"""Names and sentences for mechanisms, releases, attackers and controls."""

from __future__ import annotations

import pandas as pd

from explorer.drawing.charts import (
    Row,
)
from linkage_core.attacks.attackers import ATTACKERS, IMAGES
from linkage_core.lab import measured
from linkage_core.mitigation.mechanisms import MECHANISMS, mitigations

RELEASES = {"embeddings": "Embeddings", "embeddings-and-heads": "With heads", "raw-images": "Raw images"}
_PREDICTOR = ("predictor", "Predicts the cell", "predicts the cell")  # of cells: release.measured, not of the table


# -- mechanisms -------------------------------------------------------------------------------------------------------


def mechanisms() -> dict[str, str]:
    """What can be chosen as a mitigation, by name in the tables: name in users' words."""
    return {name: MECHANISMS[name].label for name in mitigations()}


def controls() -> dict[str, str]:
    """What mitigations are compared with. Noise alone has no name by itself: it is that of what it follows."""
    return {row.name: row.label for row in MECHANISMS.values() if row.kind == "control" and row.label}


# -- attackers --------------------------------------------------------------------------------------------------------


def attackers() -> tuple[str, ...]:
    """Their names in the tables, in the order in which they are shown."""
    return (*ATTACKERS, _PREDICTOR[0])


def attacker_label(name: object, m: str) -> str:
    """An attacker in users' words; m: own images or pairs whose release is known to it. An unknown name stays.

    >>> attacker_label("reader", "own")
    'Reads findings, own pairs'
    """
    labels = {row.name: row.label for row in ATTACKERS.values()} | {_PREDICTOR[0]: _PREDICTOR[1]}
    return labels.get(str(name), str(name)).format(m=m)


def deed(name: object) -> str | None:
    """What an attacker does, in a few words; None where nothing is said.

    >>> deed("white-box"), deed("cosine")
    ('undoes the heads', None)
    """
    deeds = {row.name: row.deed for row in ATTACKERS.values() if row.deed} | {_PREDICTOR[0]: _PREDICTOR[2]}
    return deeds.get(str(name))


def sees_images(name: object) -> bool:
    """Whether an attacker needs the raw images, and so does not depend on any head."""
    return str(name) in ATTACKERS and IMAGES in ATTACKERS[str(name)].holds


# -- rows of the lab's tables ----------------------------------------------------------------------------------------


def line(linkage: pd.DataFrame, head: str, release: str, attacker: str, cohort: str) -> pd.DataFrame:
    """Rows of one attacker on one head at every N, smallest first."""
    rows = linkage[
        (linkage["head"] == head)
        & (linkage["release"] == release)
        & (linkage["attacker"] == attacker)
        & (linkage["cohort"] == cohort)
        & (linkage["k"] == 1)
    ]
    rows = rows[rows["m"].isin(["all", ""])] if attacker != measured.WORST else rows
    return rows.sort_values("pool_size").reset_index(drop=True)


def at(rows: pd.DataFrame | None, pool_size: int) -> pd.Series | None:
    """The row at one N, or None."""
    if rows is None or rows.empty:
        return None
    found = rows[rows["pool_size"] == pool_size]
    return None if found.empty else found.iloc[0]


def attacker_words(row: Row, n_own: int) -> str:
    """
    >>> attacker_words({"named": "known-pairs", "m": "1000"}, 10_795)
    'Knows 1,000 pairs'
    """
    return attacker_label(row["named"], f"{n_own:,}" if row["m"] == "all" else f"{int(row['m']):,}")


def measures(utility: pd.DataFrame, head: str, cohort: str) -> dict[str, pd.Series]:
    """The macro rows of one head: declared, undeclared and zero-shot, as far as measured."""
    rows = utility[(utility["head"] == head) & (utility["cohort"] == cohort)]

    def macro(measure: str, *labels: str) -> pd.Series | None:
        for label in labels:
            found = rows[(rows["measure"] == measure) & (rows["label"] == label) & rows["after"].notna()]
            if len(found):
                return found.iloc[0]
        return None

    found = {
        "declared": macro("probe", "macro, declared", "macro"),
        "zero-shot": macro("zero-shot", "macro, declared", "macro"),
        "undeclared": macro("probe", "macro, undeclared"),
    }
    return {name: row for name, row in found.items() if row is not None}
