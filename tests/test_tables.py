"""A new attacker is a function and a row: the command, the lab, releases and the app know it from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer.drawing import palette, words
from explorer.protect import bars, details
from helpers.toy import toy_arrays, toy_records
from linkage_core.attacks.attack import attack, attacks
from linkage_core.attacks.attackers import ATTACKERS, COSINE, Attacker, allowed, on_records
from linkage_core.attacks.held import RECORDS, Held
from linkage_core.attacks.plain import cosine
from linkage_core.cli import main
from linkage_core.cohorts import table
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.lab import measured
from linkage_core.store.entry import Entry, Store
from linkage_core.validate import by_name

BACKWARDS = "backwards"


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    records = toy_records(160)
    records.to_csv(tmp_path / "records.csv", index=False)
    found = replace(table.read(tmp_path / "records.csv", "toy"), default_split="heldout")
    entry = import_arrays(found, "m", *toy_arrays(records, 1.0), Store(tmp_path / "store"))
    entry.add_head("copy", entry.heads(), {"findings": ["Pneumonia"]})
    return entry.again()


def backwards(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> tuple[np.ndarray, np.ndarray, str]:
    """The report that fits least."""
    queries, of_text, _ = cosine(held, known, seed, knows_heads)
    return -queries, of_text, f"the wrong way, {len(known)} pairs"


@pytest.fixture
def new(monkeypatch: pytest.MonkeyPatch) -> Attacker:
    """One more attacker, and of the others only cosine: nothing but the table knows who there is."""
    for name in set(ATTACKERS) - {COSINE}:
        monkeypatch.delitem(ATTACKERS, name)
    row = Attacker(
        BACKWARDS,
        backwards,
        "looks for the report that fits least",
        label="Looks the wrong way, {m} pairs",
        deed="looks the wrong way",
        holds=("raw-images", "embeddings", "embeddings-and-heads", RECORDS),
        by_m=True,
    )
    monkeypatch.setitem(ATTACKERS, BACKWARDS, row)
    return row


def test_a_new_attacker_acts_on_what_its_row_says_that_it_holds(entry: Entry, new: Attacker) -> None:
    assert allowed("embeddings", "copy") == (BACKWARDS,)
    assert on_records(same_size=False) == (BACKWARDS,)
    found = attacks(entry, "copy", "embeddings", [0, 20])
    assert [(one.attacker, one.m, one.known, one.chosen) for one in found] == [
        (BACKWARDS, 20, 20, "the wrong way, 20 pairs")  # of pairs it needs one at least
    ]
    mine = found[0].counts
    usual = attack(entry, "copy").counts
    assert np.array_equal(mine.n_better, usual.n_eligible - usual.n_better - usual.n_tied)
    with pytest.raises(InputError, match=f"'{BACKWARDS}' learns from known pairs, and m is 0"):
        attack(entry, "copy", BACKWARDS, m=0)
    with pytest.raises(InputError, match=f"It is one of: {COSINE}, {BACKWARDS}"):
        attack(entry, "copy", "backward")


def test_the_command_runs_a_new_attacker_and_says_what_it_does(
    entry: Entry, new: Attacker, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [
        "attack",
        "toy/m",
        "--head",
        "copy",
        "--known",
        "20",
        "--pool-size",
        "10",
        "--store",
        str(entry.store.root),
    ]
    main.app(args=[*asked, "--json", "-"], standalone_mode=False)
    content = json.loads(capsys.readouterr().out)
    assert {row["attacker"] for row in content["rows"]} == {COSINE, BACKWARDS}
    assert content["provenance"]["attackers"][BACKWARDS] == new.says
    main.app(args=asked, standalone_mode=False)
    assert BACKWARDS in capsys.readouterr().out


def test_a_new_attacker_is_in_the_tables_of_the_lab_and_in_the_words_of_the_app(entry: Entry, new: Attacker) -> None:
    entry = measured.measure(measured.measure(entry, known=("all", 20)), "copy", known=("all", 20))
    rows = measured.linkage(entry)
    mine = rows[rows["attacker"] == BACKWARDS]
    assert set(mine["m"]) == {"all", "20"}
    assert set(mine["release"]) == {"embeddings", "embeddings-and-heads", "raw-images"}
    n = int(mine["pool_size"].max())
    shown = details.attacker_rows(rows, "copy", "embeddings", n, 10_000)
    assert "Looks the wrong way, its own pairs" in set(shown["who"])
    assert words.attacker_words({"named": BACKWARDS, "m": "20"}, 100) == "Looks the wrong way, 20 pairs"
    assert words.attackers().index(BACKWARDS) == 1
    assert words.deed(BACKWARDS) == new.deed
    drawn = bars.attackers(
        mine.head(1).to_dict("records"),
        ["x"],
        before=None,
        chance=0.1,
        out_of=10_000,
        pool_size=n,
        slots=1,
        palette=palette.LIGHT,
    )
    assert palette.LIGHT.before in str(drawn.data[1].line.color), "who has the images does not depend on a head"


def test_a_table_has_no_name_twice() -> None:
    row = ATTACKERS[COSINE]
    with pytest.raises(ValueError, match="two rows for the attacker 'cosine'"):
        by_name("attacker", row, replace(row, label="Again"))
