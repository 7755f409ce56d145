"""The one interface of attackers, for ours and for those of other packages.

An attacker is one function and one row that names it. The function is

    scores(held, known, seed, knows_heads) -> Scored or InBlocks

What it holds: `held` (held.Held), everything there is to look at, that is the release, the candidates' reports and a
    split of its own, whose patients are none of the queries'. The row's `holds` names the releases that give it what it
    reads: who takes held.heads needs "embeddings-and-heads", who takes held.images "raw-images". held.match is for the
    final count alone.
What it learns: `known` (m,), the rows of its own split whose release it has seen; m is the user's. `knows_heads` says
    whether both heads are at hand, so that it can embed its own images itself. It may choose among its ways on its own
    split only, by patients (folds.own_splits), and the same `seed` has to give the same scores.
What it returns: Scored, the factors of an inner product, or InBlocks, a function that gives the scores of some queries.
    Both are counted exactly over all candidates, and reports of the same text tie.

A package brings an attacker by an entry point of the group `linkage_explorer.attackers` whose object is the row:

    [project.entry-points."linkage_explorer.attackers"]
    my-attacker = "my_package:ROW"

It is then ranked beside ours by every command, in the lab and in the app (docs/extending.md has one that runs).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from linkage_core.attacks.held import RECORDS, RELEASES, Held
from linkage_core.attacks.scored import Answer, InBlocks, Scored

__all__ = ["EMBEDDINGS", "EVERYTHING", "IMAGES", "RECORDS", "Attacker", "Held", "InBlocks", "Scored"]

EVERYTHING, EMBEDDINGS, IMAGES = "embeddings-and-heads", "embeddings", "raw-images"


@dataclass(frozen=True)
class Attacker:
    """One row of the table. ValueError for a name, a label or a release that no table can show.

    scores: see the module. says: what it does, in a line. label: its name in the app, where {m} stands for how many
    images or pairs it knows; plain: what it does, for those who know none of this; deed: in three words or so, for a
    card. holds: the releases (of RELEASES,
    and RECORDS) that give it what it needs.
    knows: what its m counts. Of "images" it may know none (m = 0), where a released embedding has the size of an
    off-the-shelf one; of "pairs" it needs one at least.
    by_m: whether the lab shows it at several m. same_size: whether it can act only where what is released has the size
    of a report under the released text head. unpaired: whether it can act only where the cohort was embedded by two
    encoders that share no space too (held.Unpaired).
    package: the distribution that brought it; filled in where it is found, and "" for ours.
    """

    name: str
    scores: Callable[[Held, np.ndarray, int, bool], Answer]
    says: str
    label: str
    plain: str = ""
    deed: str = ""
    holds: tuple[str, ...] = (EMBEDDINGS, EVERYTHING)
    knows: Literal["nothing", "images", "pairs"] = "pairs"
    by_m: bool = False
    same_size: bool = False
    unpaired: bool = False
    package: str = ""

    @property
    def in_plain_words(self) -> str:
        """What it does, in plain words where it has any."""
        return self.plain or self.says

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,59}", self.name):
            raise ValueError(f"the name {self.name!r} is not of small letters, digits and dashes")
        if not callable(self.scores):
            raise ValueError("its scores are no function")
        if unknown := set(self.holds) - {*RELEASES, RECORDS}:
            raise ValueError(f"it holds {sorted(unknown)[0]!r}, which is none of {', '.join((*RELEASES, RECORDS))}")
        if self.knows not in ("nothing", "images", "pairs"):
            raise ValueError(f"it knows {self.knows!r}, which is none of nothing, images, pairs")
        try:
            shown = self.label.format(m="1")
        except (LookupError, ValueError) as error:
            raise ValueError(f"the label {self.label!r} has another brace than {{m}}") from error
        if not shown.strip():
            raise ValueError("it has no label")
