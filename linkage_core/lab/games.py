"""The lab's main heads in both games, and by what else is known of the candidates: files of the entry.

The game of all other tables is a single image among N reports. A whole archive of N images and their N reports, held
unpaired, is another (attacks.archive), and so is an attacker who also knows sex and age of the candidates
(attacks.beside). Asked are cosine and the worst attacker of the lab's own table.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from linkage_core.attacks import archive, beside
from linkage_core.attacks.asked import KNOWS
from linkage_core.attacks.attack import studied
from linkage_core.attacks.attackers import COSINE, EVERYTHING
from linkage_core.attacks.held import hold
from linkage_core.attacks.home import Tried, tried
from linkage_core.errors import InputError
from linkage_core.lab import measured as lab
from linkage_core.store.entry import Entry

GAMES = "lab/games.parquet"
SIZES = (100, 1000)
COLUMNS = (
    *("head", "mechanism", "like", "epsilon", "seed", "cohort", "release", "attacker", "named", "game", "knows"),
    *("pool_size", "recall", "recall_low", "recall_high", "chance", "lift", "n_queries", "n_patients", "flag"),
)
_OF_ROW = ("pool_size", "recall", "recall_low", "recall_high", "chance", "lift", "n_queries", "n_patients", "flag")


def games(entry: Entry) -> pd.DataFrame:
    """What was measured (COLUMNS): one row a head, attacker ("cosine", "worst"), game and knows (of asked), and N.

    recall is the share of images whose report is named; no rows where nothing was measured.
    """
    return lab.table_of(entry, GAMES, COLUMNS)


def found(entry: Entry, head: str, seed: int = 0) -> pd.DataFrame:
    """Rows of `games` for one head of the entry's own cohort, before they are kept.

    Raises InputError where the head is not in the lab's own table, which says who the worst attacker is.
    """
    table = lab.linkage(entry).query("cohort == @entry.cohort and release == @EVERYTHING and attacker == @lab.WORST")
    table = table[table["head"] == head]
    if table.empty:
        raise InputError(f"The head {head!r} was not attacked.", "Run the lab's attackers on it first.")
    held, rows = hold(entry, head, seed=seed), []
    with threadpool_limits(1, user_api="blas"):
        for role, attacker in {COSINE: COSINE, lab.WORST: str(table["named"].iloc[0])}.items():
            plainly = tried(held, attacker, seed=seed)
            for knows in KNOWS:
                try:
                    one = _knowing(entry, plainly, knows)
                except InputError:  # the cohort's records do not say
                    continue
                study = studied(entry, head, held, held.ranked(one.answer), seed)
                sizes = [n for n in SIZES if n <= study.common_pool] or [study.common_pool]
                of = {"attacker": role, "named": attacker, "knows": knows}
                rows += [{**row, **of, "game": "image"} for row in study.table(sizes, (1,)).to_dict("records")]
                rows += [archive.play(one, n, seed).row() | of for n in _whole(held.query_group, sizes)]
    return pd.DataFrame(rows).assign(cohort=entry.cohort, release=EVERYTHING)


def keep(entry: Entry, head: str, rows: pd.DataFrame) -> Entry:
    """Write what was `found` of a head; InputError where the head was replaced meanwhile."""
    return lab.append(entry, GAMES, COLUMNS, head, rows)


def _knowing(entry: Entry, plainly: Tried, knows: str) -> Tried:
    if knows == "nothing":
        return plainly
    return beside.knowing(plainly, *beside.known_of(entry, knows, None), knows)


def _whole(patients: Any, sizes: list[int]) -> list[int]:
    """Archives that the patients fill."""
    n_patients = len(set(patients.tolist()))
    return [n for n in sizes if n <= n_patients]
