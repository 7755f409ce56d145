"""The lab's main heads in both games, kept as a table of the entry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers import lab_store
from helpers.shared import Built
from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear
from linkage_core.lab import games, measured
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store


@pytest.fixture(scope="module")
def entry(built: Built) -> Entry:
    return Store(built(lab_store.build)).open("phantom", lab_store.MODEL)


def test_every_head_of_the_plan_that_goes_abroad_is_played_in_both_games(entry: Entry) -> None:
    rows = games.games(entry)
    assert list(rows.columns) == list(games.COLUMNS)
    assert set(rows["head"]) == {OFF_THE_SHELF, lab_store.MEASURED}
    assert set(rows["game"]) == {"image", "archive"}
    assert set(rows["attacker"]) == {"cosine", measured.WORST}
    assert set(rows["pool_size"]) == {100}
    several = rows[rows["game"] == "image"]  # one archive alone has no interval
    assert ((several["recall_low"] <= several["recall"]) & (several["recall"] <= several["recall_high"])).all()


def test_a_single_image_and_nothing_known_is_the_lab_s_own_figure(entry: Entry) -> None:
    rows = games.games(entry)
    mine = rows[(rows["game"] == "image") & (rows["knows"] == "nothing")].set_index(["head", "attacker"])
    own = measured.linkage(entry).query("release == 'embeddings-and-heads' and pool_size == 100 and m == 'all'")
    own = own.set_index(["head", "attacker"])
    for head in (OFF_THE_SHELF, lab_store.MEASURED):
        assert mine.loc[(head, "cosine"), "recall"] == pytest.approx(own.loc[(head, "cosine"), "recall"])
        assert mine.loc[(head, "worst"), "recall"] == pytest.approx(own.loc[(head, "worst"), "recall"])
        assert mine.loc[(head, "worst"), "named"] == own.loc[(head, "worst"), "named"]


def test_who_holds_the_whole_archive_names_more(entry: Entry) -> None:
    rows = games.games(entry).query("knows == 'nothing' and attacker == 'worst'")
    share = rows.pivot(index="head", columns="game", values="recall")
    assert (share["archive"] > share["image"]).all()


def test_a_head_that_was_replaced_or_never_attacked_has_no_rows(entry: Entry) -> None:
    with pytest.raises(InputError, match="'label-dpsgd-eps3-seed0' was not attacked"):
        games.found(entry, "label-dpsgd-eps3-seed0")
    heads = entry.heads(lab_store.MEASURED)
    other = Heads(Linear(heads.image.weight + np.float32(1e-3), heads.image.bias), heads.text)
    record = entry.head_record(lab_store.MEASURED)
    now = replace(entry).add_head(lab_store.MEASURED, other, record, replace=True)
    assert set(games.games(now)["head"]) == {OFF_THE_SHELF}
    with pytest.raises(InputError, match="was replaced while it was measured"):
        games.keep(entry, lab_store.MEASURED, pd.DataFrame())
