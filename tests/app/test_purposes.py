"""What may leave for a purpose: computed from the tables, one row a family, never more than they say."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.drawing import palette
from explorer.protect import options, purposes
from explorer.protect.purposes import PURPOSES, advise, first_sentence
from helpers import frontier_store, lab_store
from helpers.shared import Built
from linkage_core.lab import frontier as core
from linkage_core.mitigation.accounting import gaussian_sigma
from linkage_core.release.table import KINDS
from linkage_core.store.entry import Entry, Store

from .conftest import headline, words

Row = tuple[str, str, float, float, float, float]
NONE = float("nan")


@pytest.fixture(scope="module")
def root(built: Built) -> Path:
    return built(frontier_store.build, lab_store.build)


@pytest.fixture(scope="module")
def entry(root: Path) -> Entry:
    return Store(root).open("phantom", lab_store.MODEL)


@pytest.fixture
def page(open_page: Callable[..., AppTest], root: Path) -> Callable[..., AppTest]:
    return lambda store=root, **query: open_page("frontier", store=store, **query)


def made(*given: Row, use: str = "read") -> pd.DataFrame:
    """Merged rows: (family, kind, linked of 100, limit, declared points, undeclared points); intervals of +- 20%."""
    rows = []
    for i, (family, kind, linked, limit, declared, undeclared) in enumerate(given):
        row = dict.fromkeys(core.COLUMNS, np.nan)
        row |= {"option": f"{kind}-{i}", "family": family, "kind": kind, "parameter": "limit", "value": limit}
        row |= {"listed": 0, "pool_size": 100, "attacker": "worst", "named": "reader", "measured": linked}
        row |= {"measured_low": 0.8 * linked, "measured_high": 1.2 * linked, "certified": limit, "use": use}
        row |= {"declared_difference": declared / 100, "undeclared_difference": undeclared / 100, "n_queries": 99}
        rows.append(row)
    return options.merged(pd.DataFrame(rows))


HEAD: Row = ("head", "label-oneshot", 20, NONE, -0.5, -3)
ALIGNED: Row = ("head", "moment-oneshot", 22, NONE, -0.2, -0.2)
FAR: Row = ("control", "rotation", 60, NONE, 0, 0)
CODES: Row = ("release", "codes", 8, 30, -1.8, -6)
NOTHING: Row = ("nothing", "nothing", 1, 1, -30, -30)
STATISTICS: Row = ("release", "statistics", 1.2, 2, 0.1, 0.0)
TRAINED = advise(made(STATISTICS, NOTHING, use="trained"), PURPOSES["train"], 1.0, "declared")


def said(rows: pd.DataFrame, purpose: str = "read", keep: str = "declared", trained=TRAINED) -> str:
    advice = advise(rows, PURPOSES[purpose], 1.0, keep)
    return "".join(first_sentence(advice, trained, keep, 100, 100))


def test_where_nothing_is_both_it_says_so_and_names_who_trains():
    first = said(made(HEAD, CODES, FAR, NOTHING))
    assert first.startswith(
        "Nothing here both keeps declared findings and is limited for every attacker, "
        "unless the recipient trains: then statistics."
    )
    assert "Without a limit label head, instant" in first
    assert first.endswith("leaves least: 20 of 100.")
    assert "unless the recipient trains" not in said(made(HEAD, CODES, NOTHING), trained=None)


def test_where_a_limited_one_keeps_them_it_is_named_with_its_limit():
    kept: Row = ("release", "codes", 8, 30, -0.8, -6)
    assert said(made(HEAD, kept, NOTHING)).startswith("Codes, 30 cells keep declared findings; at most 30 of 100")
    # a certified limit wins over less that was merely measured
    less: Row = ("head", "label-oneshot", 2, NONE, 0, 0)
    advice = advise(made(less, kept, NOTHING), PURPOSES["read"], 1.0, "declared")
    assert advice.best["kind"] == "codes"


def test_what_may_be_said_of_statistics_names_for_whom():
    first = said(made(STATISTICS, NOTHING, use="trained"), "train")
    whom = "whoever holds images and reports unpaired"
    assert first == f"Statistics, limit 2 keep declared findings; at most 2 of 100 linked by {whom}."


def test_where_nothing_keeps_them_or_nobody_can_judge_it_says_that():
    assert said(made(CODES, NOTHING), trained=None) == "Nothing here keeps declared findings."
    blind: Row = ("head", "moment-oneshot", 22, NONE, NONE, NONE)
    assert "cannot be judged here" in said(made(blind, (*NOTHING[:4], NONE, NONE)), trained=None)
    advice = advise(made(blind), PURPOSES["read"], 1.0, "declared")
    assert advice.best is None
    assert "not judged" in purposes.family_table(advice, 100, 100, palette.LIGHT)
    assert said(made(NOTHING), trained=None) == "Nothing was measured for this purpose."


def test_what_too_few_images_would_carry_is_not_said():
    few = made(HEAD, NOTHING).assign(n_queries=29)
    for rows, there in ((few, True), (few.assign(n_queries=30), False)):
        advice = advise(rows, PURPOSES["read"], 1.0, "declared")
        told = purposes.family_table(advice, 100, 100, palette.LIGHT) + purposes.card(advice, 100, 100)
        assert ("too few to say (n = 29)" in told) is there
        assert ("too few images were asked" in told) is there
        assert ("the worst links" in told) is not there


def test_for_search_all_findings_count_and_what_has_no_vector_is_out():
    advice = advise(made(HEAD, ALIGNED, CODES, FAR, NOTHING), PURPOSES["search"], 1.0, "declared")
    assert "codes" not in set(advice.families["family"])
    assert advice.best["kind"] == "moment-oneshot"
    assert not advice.families.set_index("family").loc["label", "kept"]


def test_which_cannot_be_told_apart_is_by_their_intervals():
    advice = advise(made(HEAD, ALIGNED, FAR, NOTHING), PURPOSES["read"], 1.0, "declared")
    alike = advice.families.set_index("family")["alike"]
    assert alike["aligned"]  # 17.6 to 26.4 beside 16 to 24
    assert not alike["control"]  # from 48 on
    line = purposes.not_told_apart(advice, 100, 100)
    assert "cannot be told apart from aligned, instant" in line
    assert "rotation" not in line
    assert "partly luck" in line
    assert "Chosen of 3 of 3 settings" in line


def test_of_a_family_the_best_kept_setting_stands_or_the_one_that_loses_least():
    some = [("release", "codes", 5 + i, 10.0 * (i + 1), points, -9) for i, points in enumerate((-4, -0.9, -0.5))]
    advice = advise(made(*some, NOTHING), PURPOSES["read"], 1.0, "declared")
    assert advice.families.set_index("family").loc["codes", "certified"] == 20  # the smallest limit that keeps them
    advice = advise(made(*some, NOTHING), PURPOSES["read"], 0.2, "declared")
    codes = advice.families.set_index("family").loc["codes"]
    assert (codes["certified"], codes["kept"]) == (30, False)
    assert list(advice.families["family"]).count("codes") == 1


def test_nothing_leaves():
    first = said(made(STATISTICS, ("nothing", "nothing", 1, 1, -0.1, -0.5), use="trained"), "nothing")
    reader = "A reader trained on public labels keeps declared findings too (−0.1 points)."
    assert first == f"Nothing leaves: guessing links 1 of 100. {reader}"
    assert "does not keep" in said(made(STATISTICS, NOTHING, use="trained"), "nothing")
    assert "was not measured" in said(made(STATISTICS, use="trained"), "nothing")


def test_the_command_never_promises_less_noise_than_the_row():
    option = {"kind": "statistics", "parameter": "limit", "value": 2.0, "mu": 0.0596}
    parts = shlex.split(purposes.command(option, "mine", "model", "phantom-site-b"))
    epsilon = float(parts[parts.index("--epsilon") + 1])
    assert 1 / gaussian_sigma(epsilon, purposes.DELTA) <= 0.0596
    assert 1 / gaussian_sigma(1.02 * epsilon, purposes.DELTA) > 0.0596
    assert parts[:3] == ["linkage", "release", "mine/model"]
    codes = purposes.command({"kind": "codes", "parameter": "limit", "value": 30.0, "mu": NONE}, "c", "m", "p")
    assert "--kind codes --limit 30 " in codes
    assert "--public p" in codes
    head = purposes.command({"kind": "label-oneshot", "parameter": "epsilon", "value": 0.34, "mu": NONE}, "c", "m", "")
    assert head == "linkage finetune c/m --mechanism label-oneshot --epsilon 0.34 --name mine"
    assert purposes.command({"kind": "nothing", "parameter": "", "value": NONE, "mu": NONE}, "c", "m", "") == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_has_what_its_kind_takes_and_needs(kind):
    for parameter in ("limit", "noise") if kind == "embeddings" else ("limit",):
        option = {"kind": kind, "parameter": parameter, "value": 0.2 if parameter == "noise" else 30.0, "mu": 0.1}
        parts = shlex.split(purposes.command(option, "c", "m", "p"))
        flags = {part[2:].replace("-", "_") for part in parts if part.startswith("--")} - {"kind", "ledger", "out"}
        assert flags <= set(KINDS[kind].takes)
        assert ("secret" in flags) == KINDS[kind].per_record
        assert ("unlimited" in flags) == (not KINDS[kind].always_limited and parameter != "noise")


@pytest.mark.parametrize("purpose", PURPOSES)
def test_the_page_says_what_the_core_s_rows_say(page, entry, purpose):
    app = page(N=100, purpose=purpose)
    assert not app.exception
    asked = PURPOSES[purpose]
    tables = {use: options.merged(core.frontier(entry, 100, "worst", use)) for use in core.USES}
    trained = advise(tables["trained"], PURPOSES["train"], 1.0, "declared")
    advice = advise(tables[asked.use], asked, 1.0, "declared")
    expected = "".join(first_sentence(advice, trained, "declared", 100, 100))
    assert " ".join(expected.split()) in headline(app).replace(" ,", ",").replace("  ", " ")
    assert words(app).count('<tr class="fm-first">') == (advice.best is not None)
    rows = words(app).count('class="fm-track"')
    assert 2 <= rows == len(advice.families) <= 10
    assert "What may leave, and what the limit assumes" in [node.proto.label for node in app.get("page_link")]


def test_purpose_and_switch_are_in_the_address(page):
    app = page(N=100, purpose="read")
    assert app.query_params["purpose"] in ("read", ["read"])
    app.toggle(key="frontier show").set_value(True).run()
    assert app.query_params["show"] in ("all", ["all"])
    assert app.get("plotly_chart")
    app.query_params["purpose"] = "<b>"
    app.query_params["show"] = "x"
    app.run()
    assert not app.exception


def test_what_may_leave_is_a_text_of_the_app(open_page):
    app = open_page("methods", part="leave")
    assert not app.exception
    shown = words(app)
    assert "The limit in words" in shown
    assert "](" not in shown.replace("](http", "")
