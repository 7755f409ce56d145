"""What Mitigation says of one head at one setting, without a page: taken from tables, computed where none has it."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import pandas as pd
import pytest

from explorer.drawing import words
from explorer.frame.kept import Lab
from explorer.protect import cards
from explorer.protect.one_head import (
    PICTURED,
    AtSetting,
    OnDemand,
    at_setting,
    attackers,
    beside,
    delta_note,
    filed,
    next_step,
    private_run,
    run_facts,
    spread_words,
)
from helpers import lab_store
from helpers.shared import Built
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError, LinkageError
from linkage_core.lab import games, grid
from linkage_core.lab import measured as lab
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import accounting
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

RUN = accounting.Run(
    multiplier=8.0,
    q=1.0,
    steps=1,
    clip=1.0,
    unit="patient",
    relation=accounting.RELATION,
    delta=1e-6,
    accountant=accounting.GAUSSIAN,
)
STORED = Setting("label-oneshot", 0.34)


@pytest.fixture(scope="module")
def store(built: Built) -> Store:
    return Store(built(lab_store.build))


@pytest.fixture(scope="module")
def entry(store: Store) -> Entry:
    return store.open("phantom", lab_store.MODEL)


def tables_of(entry: Entry) -> Lab:
    return Lab(lab.heads(entry), lab.linkage(entry), lab.utility(entry), games.games(entry))


class Asked:
    """What is computed where no table has it: the same rows for all, and a list of what was asked."""

    def __init__(self, refused: LinkageError | None = None) -> None:
        self.asked: list[tuple] = []
        self.refused = refused

    def rows(self, *question: object) -> pd.DataFrame:
        self.asked.append(question)
        if self.refused:
            raise self.refused
        row = {"pool_size": 100, "k": 1, "recall": 0.4, "recall_low": 0.3, "recall_high": 0.5, "chance": 0.01}
        return pd.DataFrame([{**row, "n_queries": 55}])

    def run(self, chosen: Setting) -> accounting.Run:
        self.asked.append(("run", chosen))
        if self.refused:
            raise self.refused
        return RUN

    def on_demand(self) -> OnDemand:
        return OnDemand(
            head_curve=lambda head: self.rows("head", head),
            live_curve=lambda chosen, signal: self.rows("live", chosen, signal),
            run=self.run,
        )


def at(
    entry: Entry,
    chosen: Setting = STORED,
    release: str = "embeddings-and-heads",
    pool_size: int = 100,
    *,
    tables: Lab | None = None,
    asked: Asked | None = None,
) -> AtSetting:
    return at_setting(entry, tables or tables_of(entry), chosen, release, pool_size, (asked or Asked()).on_demand())


def row_of(entry: Entry, head: str, attacker: str, release: str = "embeddings-and-heads") -> pd.Series:
    rows = lab.linkage(entry)
    rows = rows[(rows["head"] == head) & (rows["attacker"] == attacker) & (rows["release"] == release)]
    return rows[rows["pool_size"] == 100].iloc[0]


# -- a head that is stored and measured ------------------------------------------------------------------------------


def test_what_is_stored_is_the_tables_and_nothing_is_computed(entry):
    asked = Asked()
    known = at(entry, asked=asked)
    assert asked.asked == []
    assert known.head == lab_store.MEASURED
    assert known.problem is None
    assert known.before_row["recall"] == row_of(entry, OFF_THE_SHELF, "worst")["recall"]
    assert known.after_row["recall"] == row_of(entry, lab_store.MEASURED, "worst")["recall"]
    assert known.cosine_before_row["recall"] == row_of(entry, OFF_THE_SHELF, "cosine")["recall"]
    assert known.cosine_row["recall"] == row_of(entry, lab_store.MEASURED, "cosine")["recall"]
    assert known.noise_row["recall"] == row_of(entry, known.control.head, "cosine")["recall"]
    silenced = row_of(entry, known.control.head, "worst")["recall"]
    assert [row["recall"] for row in known.worst_pair] == [known.after_row["recall"], silenced]
    assert (known.out_of, known.title) == (100, "Label head, instant, ε = 0.34")
    assert list(known.names.items()) == [
        ("before", "before"),
        ("worst", "after, worst attacker"),
        ("cosine", "after, cosine only"),
        ("noise", "noise only"),
    ]
    assert set(known.lines) == set(known.names)
    assert known.n_images == max(rows["n_queries"].max() for rows in known.lines.values())
    assert next_step(known) is None


def test_it_cannot_be_changed(entry):
    with pytest.raises(FrozenInstanceError):
        at(entry).pool_size = 10


def test_the_guarantee_is_the_one_of_the_record(entry):
    known = at(entry)
    row = lab.heads(entry).set_index("head").loc[lab_store.MEASURED]
    assert known.guarantee == cards.Guarantee(
        row["accuracy"], "", "ε = 0.34, δ = 1e-6, unit: patient, add/remove", illustration=True
    )
    assert private_run(known) == accounting.Run.of_record(entry.head_record(lab_store.MEASURED))
    facts = dict(run_facts(known, lambda run: pytest.fail("one shot has one accountant")))
    assert facts["Head"] == lab_store.MEASURED
    assert facts["Noise multiplier σ"] == f"{private_run(known).multiplier:.4g} times the clip"
    assert delta_note(known) == entry.head_record(lab_store.MEASURED)["delta_note"]


def test_raw_images_pass_no_head(entry):
    known = at(entry, release="raw-images")
    pd.testing.assert_frame_equal(known.after, known.before)
    assert known.before_row["recall"] == row_of(entry, OFF_THE_SHELF, "worst", "raw-images")["recall"]
    assert {row["release"] for row in known.bars} == {"embeddings-and-heads", "raw-images"}
    assert next_step(known) is None
    assert next_step(replace(known, head=None, after=known.after[:0])) is None, "no head helps"


def test_the_attackers_are_in_order_and_whoever_has_the_images_is_last(entry):
    known = at(entry)
    kinds = [row["attacker"] for row in known.bars]
    assert kinds == sorted(kinds, key=list(words.ATTACKERS).index)
    assert kinds[-1] == "raw-images"
    assert "worst" not in kinds
    assert {row["m"] for row in known.bars} == {"all"}
    assert {row["head"] for row in known.bars} == {lab_store.MEASURED, OFF_THE_SHELF}
    assert known.n_own == (entry.records()["split"] == "attacker").sum() > 0
    assert f"Knows {known.n_own:,} pairs" in known.bar_names
    assert at(entry, pool_size=7).bars == (), "another N is not measured"
    fewer = replace(tables_of(entry), linkage=lab.linkage(entry).replace({"m": {"all": "10"}}))
    assert at(entry, tables=fewer).bars == (), "nor is who knows ten pairs only"


def test_undeclared_findings_are_read_on_the_twin_that_declares_fewer(entry):
    declared, zero_shot, undeclared = at(entry).uses
    measured = words.measures(lab.utility(entry), lab_store.MEASURED, "phantom")
    assert declared.name == "Declared findings"
    assert declared.after[0] == measured["declared"]["after"]
    assert declared.noise is not None
    assert (zero_shot.after, zero_shot.why) == (None, "the text tower is not here")
    assert undeclared.name == f"Undeclared, if {len(lab_store.FEW)} are"
    twin = at(entry, Setting("label-oneshot", 0.34, findings=lab_store.FEW)).uses
    assert undeclared.after == twin[2].after is not None
    heads = lab.heads(entry)
    alone = replace(tables_of(entry), heads=heads[heads["head"] == lab_store.MEASURED])
    assert at(entry, tables=alone).uses[2].why == "all 14 are declared here"


# -- what has to be computed -----------------------------------------------------------------------------------------


def test_a_one_shot_head_that_is_not_stored_is_made_with_and_without_its_signal(entry):
    asked, chosen = Asked(), Setting("label-oneshot", 1.2)
    known = at(entry, chosen, asked=asked)
    near = min(grid.MAIN, key=lambda epsilon: abs(math.log(epsilon / 1.2)))
    assert asked.asked == [("live", chosen, True), ("run", chosen)], "its noise is stored"
    assert known.head is None
    assert known.control.name == "noise only, ε = 0.34"
    assert known.cosine_row["recall"] == 0.4
    assert len(known.after) == 0
    assert "worst" not in known.lines
    assert known.guarantee == cards.Guarantee(
        RUN.accuracy, "", "ε = 1.2, δ = 1e-6, unit: patient, add/remove", illustration=True, noise=PICTURED
    )
    step = next_step(known)
    assert (step.label, step.title, step.work, step.problem) == (
        "Run the attackers",
        "attackers",
        settings.measure,
        None,
    )
    bare, asked = replace(tables_of(entry), heads=lab.heads(entry)[:0]), Asked()
    known = at(entry, chosen, tables=bare, asked=asked)
    assert asked.asked[1] == ("live", replace(chosen, epsilon=near), False)
    assert known.control == replace(known.control, head=None, name=f"noise only, ε = {near:g}")


def test_few_findings_have_noise_of_their_own(entry):
    asked, chosen = Asked(), Setting("label-oneshot", 0.34, findings=LABELS[:2])
    known = at(entry, chosen, asked=asked)
    assert [question[0] for question in asked.asked] == ["live", "live", "run"]
    assert known.control.head is None, "the stored noise is of other findings"
    heads = lab.heads(entry).replace({"like": {"label-oneshot": "label-dpsgd"}})
    trained = replace(chosen, mechanism="label-dpsgd")
    known = at(entry, trained, tables=replace(tables_of(entry), heads=heads))
    assert known.control.head is not None, "none can be made for the page"
    assert known.control.name == "noise only, other findings"


def test_what_is_refused_is_kept_as_the_problem_and_said_twice(entry):
    refused = InputError("delta 0.5 is not below 1/n.", "Take a smaller one.")
    known = at(entry, Setting("label-oneshot", 2.0), asked=Asked(refused))
    assert known.problem is refused
    assert known.cosine is None
    assert known.guarantee == cards.Guarantee(None, "delta 0.5 is not below 1/n. Take a smaller one.")
    assert next_step(known).problem is refused
    assert known.why_no_control == "There is no head at this setting yet."
    with pytest.raises(InputError, match=r"delta 0\.5"):
        private_run(known)


def test_without_noise_nothing_is_guaranteed_and_no_run_is_asked_for(entry):
    asked = Asked()
    known = at(entry, Setting("moment-oneshot", math.inf), asked=asked)
    assert ("run", known.chosen) not in asked.asked
    assert known.guarantee.accuracy is None
    assert "No noise was added" in known.guarantee.why
    assert known.run is None
    assert at(entry, Setting("paper", 0.34)).guarantee.why.startswith("The study reports ε = 0.34")


# -- what is missing -------------------------------------------------------------------------------------------------


def test_where_there_is_no_head_training_comes_first(entry):
    known = at(entry, Setting("label-dpsgd", 1.0))
    assert known.guarantee == cards.Guarantee(None, "No head has been trained at this setting yet.")
    assert list(known.lines) == ["before"], "and nothing after"
    step = next_step(known)
    assert (step.label, step.title, step.work, step.problem) == (
        "Train at this epsilon",
        "training",
        settings.train,
        None,
    )
    assert delta_note(known) == "Delta follows from the number of patients when the head is trained."
    trained = at(entry, Setting("label-dpsgd", 3.0))
    assert trained.head is not None
    assert next_step(trained).title == "attackers"


def test_a_cohort_nobody_measured_shows_cosine_before_and_says_so(store):
    clinic = store.open("clinic", lab_store.MODEL)
    known = at(clinic, replace(STORED, seed=None))
    assert known.before_row is None
    assert known.names["before"] == "before, cosine only"
    assert known.lines["before"] is known.cosine_before
    assert next_step(known).problem is None
    assert known.uses[0].why == "not measured at this setting"


def test_a_cohort_without_labels_or_splits_says_why_nothing_can_be_run(store):
    bare = store.open("bare", lab_store.MODEL)
    asked = Asked()
    known = at(bare, asked=asked)
    assert known.no_labels
    assert ("live", STORED, True) not in asked.asked, "no label head can be made"
    assert {use.why for use in known.uses[:2]} == {"no labels in this cohort"}
    assert next_step(known).problem.what == "There is no head."
    trained = at(bare, Setting("label-dpsgd", 1.0))
    assert next_step(trained).problem.what.startswith("No record has any of the 14 labels")
    public = next_step(at(bare, Setting("public-negatives", 1.0)))
    assert "there are no pairs to train on" in public.problem.what
    aligned = next_step(at(bare, Setting("moment-oneshot", 1.0)))
    assert "too few patients in its splits" in aligned.problem.what


def test_own_images_are_those_of_the_split_an_attacker_has(store):
    splits = ("heldout", "attacker", "attacker", "finetune")
    cohort, images, texts = lab_store.cohort("uneven", 40, synthetic=False, seed=3, splits=splits)
    uneven = import_arrays(cohort, lab_store.MODEL, images, texts, store)
    assert at(uneven).n_own == 40, "two studies of each of 20 patients"


# -- two settings, and what is said where one is not measured --------------------------------------------------------


def test_what_is_not_measured_names_the_nearest_that_is(entry):
    known = at(entry, Setting("label-oneshot", 1.2))
    recall = row_of(entry, lab_store.MEASURED, "worst")["recall"]
    assert known.nearest == ((0.34, recall),)
    assert known.unmeasured == "not measured at ε = 1.2"
    assert known.nearest_words == f"Nearest measured, of 100: ε = 0.34: {100 * recall:.0f}"
    assert at(entry, Setting("label-oneshot", 1.2), pool_size=7).nearest == ()
    assert at(entry, pool_size=7).unmeasured == "not measured at N = 7"
    assert at(entry, Setting("moment-oneshot", 1.0)).unmeasured == "not measured at this setting"
    assert known.whose == "on patients who were held out"


def test_a_setting_that_is_held_is_one_more_line(entry):
    now, before = at(entry), at(entry, Setting("label-oneshot", 1.2))
    both = beside(now, before)
    assert list(both.names.items()) == [
        ("before", "before"),
        ("worst", "B: ε = 0.34, worst attacker"),
        ("held", "A: ε = 1.2, cosine only"),
    ]
    assert both.lines["held"] is before.lines["cosine"], "the worst is not measured there, and the name says so"
    assert both.ends == {"before": "before", "held": "A: ε = 1.2", "worst": "B: ε = 0.34"}
    assert now.ends == {}
    other = beside(now, at(entry, Setting("moment-oneshot", 0.34)))
    assert other.names["held"] == "A: Aligned, instant, ε = 0.34, cosine only"


def test_nobody_is_called_held_out_who_is_not(store):
    assert at(store.open("bare", lab_store.MODEL)).whose == "on patients who were held out"
    splits = ("attacker",)
    cohort, images, texts = lab_store.cohort("everybody", 40, synthetic=False, seed=4, splits=splits)
    entry = import_arrays(replace(cohort, default_split="all"), lab_store.MODEL, images, texts, store)
    assert at(entry).whose == "on all patients"


# -- as tables -------------------------------------------------------------------------------------------------------


def test_the_file_holds_every_line_with_what_was_asked(entry):
    table = filed(at(entry))
    assert list(table["line"].unique()) == ["before", "after, worst attacker", "after, cosine only", "noise only"]
    assert table["synthetic"].all()
    assert set(table["mechanism"]) == {"label-oneshot"}
    assert len(table) == sum(map(len, at(entry).lines.values()))
    nothing = replace(at(entry), lines={}, names={})
    assert list(filed(nothing).columns) == list(table.columns)
    assert len(filed(nothing)) == 0


def test_every_attacker_and_the_spread_of_runs(entry):
    known = at(entry)
    assert set(attackers(known)["when"]) == {"before", "after"}
    assert spread_words(known) == "", "one run"
    again = lab.linkage(entry)
    again = again[again["head"] == lab_store.MEASURED].assign(head="other", recall=0.9)
    heads = lab.heads(entry)
    twice = pd.concat([heads, heads[heads["head"] == lab_store.MEASURED].assign(head="other", seed=1)])
    both = Lab(twice, pd.concat([lab.linkage(entry), again]), lab.utility(entry), games.games(entry))
    lower = round(100 * row_of(entry, lab_store.MEASURED, "worst")["recall"])
    assert spread_words(at(entry, tables=both)) == f"2 runs with other noise: {lower} to 90 of 100"
