"""A new attacker or mechanism is a function and a row: the command, the lab and the app know it from there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from explorer.drawing import palette, words
from explorer.frame import state
from explorer.protect import bars, details, options
from helpers.toy import toy_arrays, toy_records
from linkage_core.attacks.attack import attack, attacks
from linkage_core.attacks.attackers import ATTACKERS, COSINE, Attacker, allowed, on_records
from linkage_core.attacks.held import RECORDS, Held
from linkage_core.attacks.plain import cosine
from linkage_core.attacks.scored import Scored
from linkage_core.cli import main
from linkage_core.cohorts import table
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.heads import Heads, Linear
from linkage_core.lab import frontier, measured
from linkage_core.lab.setting import Setting, noise_only, stored
from linkage_core.mitigation import accounting
from linkage_core.mitigation.mechanisms import FIRST, MECHANISMS, Mechanism
from linkage_core.mitigation.noise import Source
from linkage_core.mitigation.work import Options, Work
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


def backwards(held: Held, known: np.ndarray, seed: int, knows_heads: bool) -> Scored:
    """The report that fits least."""
    right = cosine(held, known, seed, knows_heads)
    return Scored(-right.queries, right.reports, f"the wrong way, {len(known)} pairs")


@pytest.fixture
def new() -> Iterator[Attacker]:
    """One more attacker, and of the others only cosine: nothing but the table knows who there is."""
    kept = dict(ATTACKERS)
    for name in set(ATTACKERS) - {COSINE}:
        del ATTACKERS[name]
    row = Attacker(
        BACKWARDS,
        backwards,
        "looks for the report that fits least",
        label="Looks the wrong way, {m} pairs",
        deed="looks the wrong way",
        holds=("raw-images", "embeddings", "embeddings-and-heads", RECORDS),
        by_m=True,
    )
    ATTACKERS[BACKWARDS] = row
    yield row
    ATTACKERS.clear()
    ATTACKERS.update(kept)  # in the order in which they are shown


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


# ------------------------------------------------------------------------------------------------------- mechanisms


def faint(work: Work) -> tuple[Heads, accounting.Run, dict[str, Any]]:
    """The heads as they came, a hundredth as long: nothing is learnt, so any epsilon holds."""
    shelf = work.entry.heads()
    made = Heads(*(Linear(head.weight / 100, head.bias / 100) for head in (shelf.image, shelf.text)))
    multiplier = accounting.gaussian_sigma(work.options.epsilon, work.delta)
    run = accounting.Run(multiplier, 1.0, 1, 1.0, work.options.unit, work.delta, accountant=accounting.GAUSSIAN)
    return made, run, {"engine": "by hand", "signal": work.signal}


def swapped(entry: Entry, asked: Options, source: Source) -> tuple[Heads, dict[str, Any]]:
    """Each tower's dimensions in the other order: a rotation that keeps every cosine."""
    shelf = entry.heads()
    return Heads(*(Linear(head.weight[::-1].copy(), head.bias[::-1].copy()) for head in (shelf.image, shelf.text))), {}


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in (
        Mechanism("faint", "private", "next to nothing", label="Faint", trained=faint, sensitivity="0", epsilon=2.0),
        Mechanism("swapped", "control", "back to front", label="Back to front", dataless=swapped, epsilon=math.inf),
    ):
        monkeypatch.setitem(MECHANISMS, row.name, row)


@pytest.mark.usefixtures("more")
def test_the_command_runs_a_new_mechanism(entry: Entry, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> dict[str, Any]:
        asked = ["finetune", "toy/m", "--reproducible", "--seed", "1", "--store", str(entry.store.root), "--json", "-"]
        main.app(args=[*asked, *arguments], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    record = said("--mechanism", "faint")
    assert (record["head"], record["engine"], record["sensitivity"]) == ("faint-eps2-seed1", "by hand", "0")
    assert "seed of its noise is stored" in record["claim"]
    assert record["signal"]
    silent = said("--mechanism", "noise-only", "--like", "faint", "--epsilon", "1")
    assert (silent["head"], silent["signal"]) == ("noise-only-faint-eps1-seed1", False)
    assert silent["noise_of_epsilon"] == pytest.approx(1.0, rel=1e-3)
    loud = said("--mechanism", "nonprivate", "--like", "faint", "--epsilon", "1")
    assert (loud["head"], loud["signal"], loud["sigma"]) == ("nonprivate-faint-seed1", True, 0.0)
    control = said("--mechanism", "swapped")
    assert control["head"] == "swapped-seed1"
    assert control["claim"] == "none: a control. Back to front."
    with pytest.raises(InputError, match=r"faint, swapped\. Did you mean faint\?"):
        said("--mechanism", "fain")


@pytest.mark.usefixtures("more")
def test_a_new_mechanism_is_in_the_tables_of_the_lab_and_in_the_words_of_the_app(entry: Entry) -> None:
    names = [
        measured.train(entry, mechanism, Options(epsilon=epsilon, seed=0, like=like))
        for mechanism, epsilon, like in (("faint", 1.0, None), ("noise-only", 1.0, "faint"), ("swapped", 1.0, None))
    ]
    heads = measured.heads(entry.again()).set_index("head").loc[names]
    assert heads["kind"].tolist() == ["private", "control", "control"]
    assert heads["epsilon"].fillna(0.0).tolist() == [1.0, 1.0, 0.0]
    chosen = Setting("faint", 1.0)
    assert stored(heads.reset_index(), chosen) == names[0]
    assert noise_only(heads.reset_index(), chosen) == (names[1], 1.0, True)
    assert not chosen.one_shot
    assert list(words.mechanisms())[-1] == "faint"
    assert words.controls()["swapped"] == "Back to front"
    assert state._parse("mechanism", "faint") == "faint"
    assert state._parse("mechanism", "swapped") is None, "a control is no mitigation"

    def row(head: str, family: str) -> dict[str, Any]:
        return {"kind": heads.loc[head, "mechanism"], "family": family, "option": head, "value": 1.0}

    assert options.family(row(names[0], frontier.HEAD)) == "aligned", "it learns no finding"
    assert options.name(row(names[0], "aligned")) == "Faint"
    assert options.name(row(names[1], "noise")) == "Noise only: faint"
    assert options.name(row(names[2], "control")) == "Back to front"


def test_who_knows_every_embedding_surely_finds_a_record_unless_the_embeddings_are_noisy() -> None:
    common = dict.fromkeys(frontier.COLUMNS, math.nan) | {
        "family": frontier.CONTROL,
        "attacker": frontier.OMNISCIENT,
        "pool_size": 100,
        "parameter": "",
        "listed": 0,
    }
    rows = pd.DataFrame([{**common, "option": kind, "kind": kind} for kind in ("rotation", "output-noise")])
    assert options.merged(rows)["sure"].tolist() == [True, False]


def test_what_ships_is_named_in_the_help_and_opens_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["finetune", "--help"])
    shown = re.sub(r"[\s│]+", "", capsys.readouterr().out)
    assert ",".join(MECHANISMS) in shown
    assert next(iter(words.mechanisms())) == FIRST
    assert all(row.label or row.keeps for row in MECHANISMS.values())


def test_a_mechanism_makes_heads_in_one_way() -> None:
    with pytest.raises(ValueError, match="'both' makes heads in 2 ways"):
        Mechanism("both", "control", "too much", trained=faint, dataless=swapped)
    with pytest.raises(ValueError, match="'none' makes heads in 0 ways"):
        Mechanism("none", "control", "too little")


def test_a_table_has_no_name_twice() -> None:
    row = ATTACKERS[COSINE]
    with pytest.raises(ValueError, match="two rows for the attacker 'cosine'"):
        by_name("attacker", row, replace(row, label="Again"))
