"""An attacker tried at home: learnt on some of its own patients, asked about others of them.

What is added to an attacker's scores later (archive, beside) has settings of its own. They are chosen here, on patients
that took no part in what the attacker learnt, and none of whom is a query's or a candidate's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np

from linkage_core.attacks.attack import answered_knowing
from linkage_core.attacks.attackers import ATTACKERS, IMAGES
from linkage_core.attacks.folds import known_rows, own_splits
from linkage_core.attacks.held import Asked, Held, Known
from linkage_core.attacks.scored import Answer

FEWEST = 30
"""Own patients left out, below which nothing can be chosen by them."""


@dataclass(frozen=True)
class Tried:
    """An attacker's answers abroad and at home.

    held and answer: what is attacked, and the attacker's scores of it. known (m,): rows of its own split that it learnt
    from. images: whether it has the images themselves. home: None where too few patients are known.
    """

    held: Held
    answer: Answer
    known: np.ndarray
    images: bool = False
    home: Home | None = None


@dataclass(frozen=True)
class Home:
    """The same attacker at home. held: left-out own patients as queries and candidates, other own patients as its own;
    answer: its scores, learnt on the latter alone. learnt, left_out: rows of the attacker's own split."""

    held: Held
    answer: Answer
    learnt: np.ndarray
    left_out: np.ndarray


def tried(held: Held, attacker: str, m: Known = "all", seed: int = 0, *, knows_heads: bool = True) -> Tried:
    """One attacker of the table, abroad and at home: it learns twice, the second time on two thirds or more.

    m, seed, knows_heads: as for attack.answered.
    """
    known, home = known_rows(held, m, seed), None
    learn = partial(answered_knowing, attacker=attacker, seed=seed, knows_heads=knows_heads)
    answer = learn(held, known=known)
    learnt, left_out, rest = next(own_splits(held, known, seed), (known, known[:0], known))
    if len(np.unique(held.own_group[left_out])) >= FEWEST and len(learnt):
        inner = at_home(held, left_out, rest)
        home = Home(inner, learn(inner, known=np.searchsorted(rest, learnt)), learnt, left_out)
    return Tried(held, answer, known, IMAGES in ATTACKERS[attacker].holds, home)


def at_home(held: Held, left_out: np.ndarray, rest: np.ndarray) -> Held:
    """Own rows `left_out` as queries and candidates, `rest` as the own split. InputError for a common patient."""
    asked = held.at_home(left_out, left_out)
    parts = {one.name: getattr(asked, one.name) for one in fields(Asked)}
    own = {one.name: getattr(held, one.name)[rest] for one in fields(Held) if one.name.startswith("own_")}
    unpaired = held.unpaired.at_home(left_out, rest) if held.unpaired else None
    return replace(held, **parts, **own, unpaired=unpaired)
