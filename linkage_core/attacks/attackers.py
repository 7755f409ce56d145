"""The table of attackers: what each is called, what it holds and how it scores.

An attacker is one function, in a file of this folder, and one row here; nothing else has its name. The function is

    scores(held, known, seed, knows_heads) -> (queries (n_queries, p), of_text (n_texts, p), chosen)

held
    Everything there is to look at (held.Held): the release, the candidates' reports, and a split of its own.
    held.match is for the final count alone.
known
    (m,) rows of its own split whose release it has seen.
seed
    Of its folds: the same seed, the same scores.
knows_heads
    Whether both heads are at hand, so that it can embed its own images itself.

Row i of `queries` comes from the release of image i, row j of `of_text` from report j alone, and their inner product is
the score: candidates are then counted exactly, and identical reports tie. `chosen` says in words which of its ways the
attacker took; it may choose on its own split only, whose patients are none of the queries'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from linkage_core.attacks import learn_pairs, plain, turn_back
from linkage_core.attacks.held import RECORDS, RELEASES, Held
from linkage_core.store.entry import OFF_THE_SHELF
from linkage_core.validate import by_name, one_of

EVERYTHING, EMBEDDINGS, IMAGES = "embeddings-and-heads", "embeddings", "raw-images"
COSINE = "cosine"
"""Of the attackers: who adapts nothing. All others are compared with it."""
READER = "reader"
"""Of the attackers: who reads what each report says of the findings."""


@dataclass(frozen=True)
class Attacker:
    """One row of the table.

    scores: see the module. says: what it does, in a line. label: its name in the app, where {m} stands for how many
    images or pairs it knows; deed: what it does, in three words or so, for a card. holds: the releases (of RELEASES,
    and RECORDS) that give it what it needs.
    knows: what its m counts. Of "images" it may know none (m = 0), where a released embedding has the size of an
    off-the-shelf one; of "pairs" it needs one at least.
    by_m: whether the lab shows it at several m. same_size: whether it can act only where what is released has the size
    of a report under the released text head.
    """

    name: str
    scores: Callable[[Held, np.ndarray, int, bool], tuple[np.ndarray, np.ndarray, str]]
    says: str
    label: str
    deed: str = ""
    holds: tuple[str, ...] = (EMBEDDINGS, EVERYTHING)
    knows: Literal["nothing", "images", "pairs"] = "pairs"
    by_m: bool = False
    same_size: bool = False


ATTACKERS = by_name(
    "attacker",
    Attacker(
        COSINE,
        plain.cosine,
        "cosine of the released embedding with the report under the released text head; adapts nothing",
        label="Cosine only",
        holds=(EVERYTHING, RECORDS),
        knows="nothing",
        same_size=True,
    ),
    Attacker(
        "white-box",
        turn_back.white_box,
        "undoes the released image head and compares with off-the-shelf reports; no known pair",
        label="Undoes the heads",
        deed="undoes the heads",
        holds=(EVERYTHING,),
        knows="nothing",
    ),
    Attacker(
        "known-images",
        turn_back.known_images,
        "aligns the released embeddings of m own images with their off-the-shelf ones",
        label="Knows {m} images",
        deed="knows own images",
        knows="images",
        by_m=True,
    ),
    Attacker(
        "known-pairs",
        learn_pairs.known_pairs,
        "learns the report's text features from m own released embeddings",
        label="Knows {m} pairs",
        deed="knows own pairs",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
        by_m=True,
    ),
    Attacker(
        "bayes-gaussian",
        learn_pairs.bayes_gaussian,
        "fits the law of the release given the report from m own pairs, and ranks by likelihood",
        label="Fits the law of {m} pairs",
        deed="fits the law of own pairs",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
    ),
    Attacker(
        READER,
        learn_pairs.reader,
        "the better at home of known-pairs and bayes-gaussian, and reads the 14 findings of each report",
        label="Reads findings, {m} pairs",
        deed="reads findings",
        holds=(EMBEDDINGS, EVERYTHING, RECORDS),
    ),
    Attacker(
        "raw-images",
        learn_pairs.raw_images,
        "as reader, on the features of the public encoder that no head has touched",
        label="Has the raw images",
        holds=(IMAGES,),
    ),
)


def allowed(release: str, head: str = OFF_THE_SHELF) -> tuple[str, ...]:
    """The attackers who hold no more than the release gives; InputError for an unknown release.

    Off-the-shelf heads are public, so nothing is withheld by not sending them.

    >>> allowed("embeddings", "my-head")
    ('known-images', 'known-pairs', 'bayes-gaussian', 'reader')
    """
    one_of("release", release, RELEASES)
    given = EVERYTHING if head == OFF_THE_SHELF and release == EMBEDDINGS else release
    return tuple(row.name for row in ATTACKERS.values() if given in row.holds)


def on_records(same_size: bool) -> tuple[str, ...]:
    """The attackers who can act on released records, of the size of a report under the text head or not."""
    return tuple(row.name for row in ATTACKERS.values() if RECORDS in row.holds and (same_size or not row.same_size))


def takes_m(attacker: str) -> bool:
    """Whether it matters how many own images or pairs an attacker knows."""
    return attacker not in ATTACKERS or ATTACKERS[attacker].knows != "nothing"
