"""Mitigation where a release is chosen: a limit for every attacker beside what was measured, and no epsilon with it."""

from __future__ import annotations

import html
import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.drawing import downloads, palette
from explorer.frame import state
from explorer.protect import curve, details, releases, uses
from helpers import frontier_store, lab_store
from helpers.shared import Built
from linkage_core.lab import frontier as core
from linkage_core.lab import measured
from linkage_core.mitigation import accounting
from linkage_core.release import bounds
from linkage_core.sentences import figure, of
from linkage_core.store.entry import Entry, Store

from .conftest import go_to, last_line, words
from .test_mitigation import card

PAGE = "mitigation"
KINDS = ("statistics", "codes", "capped")


@pytest.fixture(scope="module")
def root(built: Built) -> Path:
    made = built(lab_store.build)
    frontier_store.fill(Store(made).open("phantom", lab_store.MODEL), heads=False)
    return made


@pytest.fixture(scope="module")
def entry(root: Path) -> Entry:
    return Store(root).open("phantom", lab_store.MODEL)


@pytest.fixture
def page(open_page: Callable[..., AppTest], root: Path) -> Callable[..., AppTest]:
    return lambda store=root, **query: open_page(PAGE, store=store, **query)


def release(entry: Entry, kind: str, limit: float) -> releases.Release:
    found = releases.settings(core.options_of(entry), kind)
    return min(found, key=lambda one: abs(one.limit - limit))


def test_the_limit_is_the_certificate_s_for_every_kind(page, entry):
    app = page(N=100, mechanism="codes", limit="64")
    assert not app.exception
    assert "picks the right one at most 64 of 100 times. Guessing: 1." in card(app, 1)
    assert "1 · Limit, for every attacker" in card(app, 1)
    assert "whole folder matched one to one" in card(app, 1)
    app = page(N=100, mechanism="capped", limit="30")
    most = math.ceil(100 * bounds.capped(30.0, 100, epsilon=8.0) - 1e-9)
    assert f"at most {most} of 100 times, from this record alone" in card(app, 1)
    assert "Not for the whole folder" in card(app, 1)
    app = page(N=100, mechanism="statistics", limit="1000")
    unpaired, paired = (
        math.ceil(100 * law(frontier_store.MU[3.0], 100) - 1e-9) for law in (bounds.unpaired, bounds.central)
    )
    assert "1 · Limit, for whoever holds images and reports unpaired" in card(app, 1)
    assert f"holding images and reports unpaired, is right at most {unpaired} of 100 times" in card(app, 1)
    assert f"Whoever knows the other patients: at most {paired} of 100" in card(app, 1)
    assert "About the patients summed" in card(app, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_no_training_epsilon_stands_beside_the_limit(page, kind):
    app = page(N=100, mechanism=kind, epsilon=3)
    assert not app.exception
    for number in (1, 2):
        assert "ε" not in card(app, number)
        assert "epsilon" not in card(app, number).lower()
        assert "δ" not in card(app, number)
    assert not [slider for slider in app.select_slider if "ε" in slider.label]
    assert not [node for node in app.get("segmented_control") if node.key == "mitigation release"]
    assert not re.search("safe|anonymous", card(app, 1) + card(app, 2), re.IGNORECASE)


def test_measured_linkage_has_the_ceiling_as_a_tick(page, entry):
    app = page(N=100, mechanism="codes", limit="16")
    rows = core.linkage(entry)
    rows = rows[(rows["option"] == "codes-16") & (rows["pool_size"] == 100)].set_index("attacker")
    said = card(app, 2)
    assert f"The worst attacker tried links {of(rows.loc['worst', 'recall'], 100)} images." in said
    ceiling = figure(rows.loc["omniscient", "recall"], 100)
    assert f"tick: who knows every candidate's embedding, {ceiling}" in html.unescape(said)
    block = next(str(n.proto.body) for n in app.get("html") if "<b>2 · " in str(n.proto.body))
    assert block.count("<u style=") == 1
    assert "Worst: predicts the cell" in said
    assert len(app.get("plotly_chart")) == 3


def test_statistics_are_about_the_patients_who_were_summed(page):
    app = page(N=100, mechanism="statistics", limit="2")
    assert "on patients who were summed" in card(app, 2)
    assert "Whoever holds images and reports unpaired picks the right report" in card(app, 2)
    assert "whoever knows every other patient: " in card(app, 2)
    assert "Before" not in card(app, 2)
    assert "nothing to read: no single records" in str(app.get("plotly_chart")[1].proto)


def test_the_slider_has_the_measured_steps_and_its_own_url_name(page):
    app = page(N=100, mechanism="codes")
    slider = app.select_slider[0]
    assert slider.label == "At most L × guessing"
    assert list(slider.options) == ["16", "64", "256"]
    slider.set_value(256.0).run()
    assert not app.exception
    assert app.query_params["limit"] in ("256", ["256"])
    assert "epsilon" not in app.query_params
    assert "at most 100 of 100 times" in card(app, 1), "more cells than reports limit nothing"
    app.selectbox(key="mitigation mechanism:8").set_value("label-oneshot").run()
    assert not app.exception
    assert "1 · Guarantee" in card(app, 1)
    assert "ε = 0.34" in card(app, 1)


def test_runs_that_differ_by_noise_are_one_step(entry):
    found = releases.settings(core.options_of(entry), "statistics")
    assert [len(one.options) for one in found] == [3, 3, 3]
    assert found[0].limit < found[1].limit < found[2].limit
    rows = releases.rows_of(core.linkage(entry), found[0], "phantom")
    each = core.linkage(entry).query("option in @found[0].options and attacker == 'worst' and pool_size == 100")
    assert releases.of_attacker(rows, "worst", 100)["recall"].iloc[0] == pytest.approx(each["recall"].mean())


def test_use_stands_beside_clean_embeddings_and_nothing_released(entry):
    rows = releases.uses(core.utility(entry), release(entry, "codes", 64), "phantom")
    assert [row.name for row in rows] == ["Read from it", "Trained on it", "Undeclared, read", "Undeclared, trained"]
    for row in rows:
        assert row.before[0] + row.change[0] == pytest.approx(row.after[0])
    public = core.utility(entry).query("option == 'nothing' and use == 'trained' and findings == 'declared'")
    assert rows[1].noise[0] == public["auroc"].iloc[0]
    assert rows[0].noise[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("after", "public", "expected"),
    [(0.80, 0.87, "nothing released is better"), (0.87, 0.80, "the release is better"), (0.86, 0.861, "no difference")],
)
def test_what_a_release_is_worth_follows_from_the_intervals(after, public, expected):
    def ends(value: float) -> tuple[float, float, float]:
        return value, value - 0.005, value + 0.005

    use = uses.Use("Trained on it", ends(0.87), ends(after), ends(public), ends(after - 0.87))
    assert expected in releases.worth_words([use])
    assert "Findings can be read" not in releases.worth_words([use])


def test_details_hold_epsilon_delta_and_the_joint_figure(entry):
    said = dict(releases.facts(release(entry, "statistics", 2), measured.POOL_SIZES))
    mu = frontier_store.MU[0.34]
    delta = accounting.gaussian_delta(1 / mu, 0.34)
    assert said["ε and δ"].startswith(f"ε = 0.34, δ = {delta:.1g}"[:14])
    joint = dict(releases.facts(release(entry, "capped", 30), (1000,)))["Whole folder, N = 1,000"]
    most = bounds.joint_capped(30.0, 1000, epsilon=8.0)
    assert joint == f"at most {math.ceil(1000 * most - 1e-9):,} of 1,000"
    assert "Whole folder, N = 1,000" not in dict(releases.facts(release(entry, "codes", 64), (1000,)))


def test_heads_say_that_who_knows_all_finds_every_record():
    assert "embeddings are deterministic, 100 of 100 images" in details.ceiling_words(100)


@pytest.mark.parametrize("with_colours", [palette.LIGHT, palette.DARK])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_drawn_and_filed(entry, kind, with_colours):
    one = release(entry, kind, 30)
    rows = releases.rows_of(core.linkage(entry), one, "phantom")
    also = releases.lines(one, rows, 100, with_colours)
    assert also[0].name == "certified limit"
    assert also[0].recall == [one.certified(n) / n for n in also[0].sizes]
    worst = {"worst": releases.of_attacker(rows, "worst")}
    drawn = curve.curve(worst, {"worst": "after"}, pool_size=100, palette=with_colours, also=also)
    assert "certified limit" in {trace.name for trace in drawn.data}
    third = (releases.PUBLIC, "star", with_colours.guessing)
    use = uses.usefulness(releases.uses(core.utility(entry), one, "phantom"), with_colours, third)
    for picture in (drawn, use):
        said = downloads.svg(picture, title="t <", subtitle="n")
        ET.fromstring(said)
        assert b"nan" not in said


def test_few_images_are_too_few_to_say(entry):
    one = release(entry, "codes", 16)
    rows = releases.rows_of(core.linkage(entry), one, "phantom").assign(n_queries=12)
    said = releases.measured(one, rows, None, pool_size=100, out_of=100, palette=palette.LIGHT)
    assert "Too few to say (n = 12)." in said
    assert "of 100" not in said


def test_what_was_not_measured_is_a_card(page):
    app = page(cohort="clinic", mechanism="capped")
    assert not app.exception
    assert "This release was not measured here" in words(app)
    assert last_line(app).startswith("Cannot tell:")


def test_rubbish_falls_back(page):
    for limit in ("x<b>", "0"):
        app = page(mechanism="codes", limit=limit, N=100)
        assert not app.exception
        assert "limit" not in app.query_params
    assert [state.limit_text(text) for text in ("-3", "inf", "nan", "1e4")] == [None, None, None, "1e+04"]


def test_a_damaged_table_is_a_card(page, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "store")
    (store / "phantom" / lab_store.MODEL / core.OPTIONS).write_bytes(b"altered")
    app = page(store=store, mechanism="codes")
    assert not app.exception
    assert core.OPTIONS in words(app)
    assert last_line(app).startswith("Cannot tell:")


def test_single_images_need_a_head(page):
    app = page(mechanism="codes")
    app.session_state["common:second"] = state.MITIGATED
    go_to(app, "examples")
    assert not app.exception
    assert "Only heads can be looked at on single images" in words(app)


def test_an_empty_table_has_no_rows():
    empty = pd.DataFrame(columns=list(core.LINKAGE_COLUMNS))
    one = releases.Release("codes", 16.0, ("codes-16",), {})
    assert releases.rows_of(empty, one, "phantom").empty
