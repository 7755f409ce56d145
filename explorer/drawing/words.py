"""Names and sentences for mechanisms, releases, attackers and controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from explorer.drawing.charts import (
    Row,
)
from linkage_core.attacks.attackers import ATTACKERS, IMAGES
from linkage_core.lab import measured
from linkage_core.mitigation.mechanisms import MECHANISMS, mitigations
from linkage_core.sentences import upper

RELEASES = {"embeddings": "Embeddings", "embeddings-and-heads": "With heads", "raw-images": "Raw images"}
_PREDICTOR = ("predictor", "Predicts the cell", "predicts the cell")  # of cells: release.measured, not of the table


# -- releases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfRelease:
    """What the pages say and draw of one kind of release; its name and title stand in linkage_core.release.table.

    symbol, sign: its mark in the picture (of plotly) and in the legend; hollow or filled, of this size. setting: of a
    limit, which `{times}` stands for. unset: what it is called where it has no setting, if not by its title.

    The others are of kinds whose every release has a limit; only those are shown on Mitigation. what: what leaves, in
    place of the control for it, `{value}` being the setting. limit: goes on from "Among 100 equally likely reports,
    whoever gets", `{most}` being as in "3 of 100"; guessing: whether that by guessing stands behind it. assumed: what
    the limit rests on, in a line. whom: the attackers it is for; paired: those of the lesser one, "" where there is
    none. about: what a certified figure is about, behind it. attacks: "named" of an attacker who is in no table -> what
    it is called. follows: which number the limit is, for the details; "" where they say more.
    """

    symbol: str
    sign: str
    hollow: bool = False
    size: int = 11
    setting: str = "limit {times}"
    unset: str = ""
    what: str = ""
    limit: str = ""
    guessing: bool = True
    assumed: str = ""
    whom: str = "every attacker"
    paired: str = ""
    about: str = ""
    attacks: Mapping[str, str] = field(default_factory=dict)
    follows: str = ""


OF_RELEASES = {
    "statistics": OfRelease(
        symbol="diamond",
        sign="◆",
        what="Sums over patients with noise; no single record",
        limit="these statistics, holding images and reports unpaired, is right at most {most} times",
        assumed="About the patients summed, any matching as likely as any other; another query adds to it. "
        "Whoever knows the order of images and reports is not limited. Illustration: a release takes secret noise.",
        whom="whoever holds images and reports unpaired",
        paired="whoever knows the other patients",
        about=", about patients who were summed",
        attacks={
            "holds images and reports unpaired": "Whoever holds images and reports unpaired",
            "knows every other patient": "Whoever knows every other patient",
        },
    ),
    "codes": OfRelease(
        symbol="square",
        sign="■",
        size=10,
        setting="{times} cells",
        what="One of {value:,.0f} public cells a record",
        limit="this record picks the right one at most {most} times",
        assumed="Whatever else they know of the candidates; an average over records. Holds also for the whole folder "
        "matched one to one. One random finding beside each record, as training needs, doubles it.",
        about=", also for the whole folder",
        follows="number of cells K: K/N for one record, and for the whole folder matched one to one",
    ),
    "capped": OfRelease(
        symbol="triangle-up",
        sign="▲",
        what="One noisy direction for each record",
        limit="this record picks the right one at most {most} times, from this record alone",
        guessing=False,  # the scale below says what guessing is
        assumed="Whatever else they know of the candidates; an average over records. Not for the whole folder matched "
        "one to one (see Details). One random finding beside each record, as training needs, doubles it. Illustration: "
        "a release takes secret noise.",
        about=", from one record alone",
    ),
    "scores": OfRelease(symbol="pentagon", sign="⬟"),
    "embeddings": OfRelease(symbol="pentagon", sign="⬠", hollow=True, unset="Embeddings"),
}
"""By kind, one for each row of the table."""


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
    ('turns the heads back', None)
    """
    deeds = {row.name: row.deed for row in ATTACKERS.values() if row.deed} | {_PREDICTOR[0]: _PREDICTOR[2]}
    return deeds.get(str(name))


def sees_images(name: object) -> bool:
    """Whether an attacker needs the raw images, and so does not depend on any head."""
    return str(name) in ATTACKERS and IMAGES in ATTACKERS[str(name)].holds


def in_plain_words(name: str) -> str:
    """What an attacker does, for those who know none of this.

    >>> in_plain_words("white-box")
    'Turns the released embeddings back into those of the public model.'
    """
    if name == _PREDICTOR[0]:
        return "Of codes: learns which reports go with which cell."
    return f"{upper(ATTACKERS[name].in_plain_words)}."


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
