"""Mitigation: two cards that are the core's figures, what is absent is said, runs can be started and cancelled."""

from __future__ import annotations

import math
import re
import shutil
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.drawing import downloads, palette
from explorer.drawing.words import attacker_words
from explorer.protect import bars, cards, curve, details, fill, jobs
from explorer.protect.uses import Use, usefulness
from helpers import lab_store
from helpers.shared import Built
from linkage_core import sentences, shipped
from linkage_core.audit import study
from linkage_core.audit.examples import Examples
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.lab import games, grid, measured
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import accounting
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

from .conftest import blocks, buttons, last_line, lists, words

PAGE = "mitigation"


@pytest.fixture(scope="module")
def lab_root(built: Built) -> Path:
    return built(lab_store.build)


@pytest.fixture(scope="module")
def entry(lab_root: Path) -> Entry:
    return Store(lab_root).open("phantom", lab_store.MODEL)


@pytest.fixture
def page(open_page: Callable[..., AppTest], lab_root: Path) -> Callable[..., AppTest]:
    return lambda store=lab_root, **query: open_page(PAGE, store=store, **query)


@pytest.fixture(autouse=True)
def _no_job_is_left() -> Iterator[None]:
    yield
    job = jobs.running()
    if job is not None:
        job.cancel()
        assert job.wait(60)
    jobs._JOBS.clear()


def card(app: AppTest, number: int) -> str:
    """The words of one of the two cards."""
    block = next(body for body in blocks(app) if f"<b>{number} · " in body)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", block)).strip()


def worst(entry: Entry, head: str, release: str = "embeddings-and-heads", pool_size: int = 100) -> pd.Series:
    rows = measured.linkage(entry)
    found = rows[(rows["head"] == head) & (rows["release"] == release) & (rows["attacker"] == "worst")]
    return found[found["pool_size"] == pool_size].iloc[0]


def test_the_two_cards_are_the_core_s(page, entry):
    app = page(N=100)
    assert not app.exception
    accuracy = measured.heads(entry).set_index("head").loc[lab_store.MEASURED, "accuracy"]
    times = math.ceil(100 * accuracy)
    assert f"is right at most {times} of 100 times" in card(app, 1)
    assert "Says nothing about how often images are linked" in card(app, 1)
    assert "Illustration: whoever guesses whether a patient was used" in card(app, 1), "in the headline"
    assert "The seed of its noise is stored" in card(app, 1)
    after, before = worst(entry, lab_store.MEASURED), worst(entry, OFF_THE_SHELF)
    said = card(app, 2)
    assert f"The worst attacker tried links {100 * after['recall']:.0f} of 100 images." in said
    assert f"Before: {100 * before['recall']:.0f}. Guessing: 1." in said
    ends = sentences.interval(after["recall_low"], after["recall_high"], 100).removesuffix(" of 100")
    assert f"({ends})" in said
    assert attacker_words(after, 280).lower() in said
    assert str(times) not in re.findall(r"links (\d+) of", said), "two numbers, never one"
    assert len(app.get("plotly_chart")) == 3


def test_a_store_that_came_with_the_package_is_looked_at_and_nothing_is_run_in_it(page, lab_root, monkeypatch):
    pages = shipped.root()
    monkeypatch.setattr(shipped, "_IN_THE_PACKAGE", lab_root.resolve())
    monkeypatch.setattr(shipped, "root", lambda: pages)
    app = page(N=100, epsilon="10")
    assert not app.exception
    assert "of 100" in card(app, 2)
    assert not [b for b in app.button if b.key == "mitigation run"]
    assert "came with the package and is only read" in words(app)
    assert "<code>cp -r " in words(app)


def test_raw_images_are_protected_by_no_head(page, entry):
    app = page(N=100, release="raw-images")
    raw = worst(entry, OFF_THE_SHELF, "raw-images")
    assert f"A head protects nothing here: {100 * raw['recall']:.0f} of 100 , as before." in card(app, 2)
    assert not [b for b in app.button if b.key == "mitigation run"]
    unmeasured = page(N=100, release="raw-images", cohort="clinic")
    cosine = study.study(Store(entry.path.parents[1]).open("clinic", lab_store.MODEL)).table([100], [1]).iloc[0]
    said = card(unmeasured, 2)
    assert "A head protects nothing here. The worst attacker: not measured yet ." in said
    for when in ("before", "after"):
        assert f"{when}, cosine {sentences.figure(cosine['recall'], 100)} (" in said


def test_the_release_decides_who_is_worst(page, entry):
    app = page(N=100)
    buttons(app, "mitigation release").set_value("embeddings").run()
    assert not app.exception
    assert app.query_params["release"] in ("embeddings", ["embeddings"])
    after = worst(entry, lab_store.MEASURED, "embeddings")
    assert f"links {100 * after['recall']:.0f} of 100" in card(app, 2)


def test_another_epsilon_is_made_at_once_and_says_what_is_not_measured(page, entry):
    app = page(N=100)
    app.select_slider[0].set_value(10.0).run()
    assert not app.exception
    assert app.query_params["epsilon"] in ("10", ["10"])
    expected = settings.live(entry, Setting("label-oneshot", 10.0)).study.table([100], [1]).iloc[0]
    assert expected["recall"] > 0.03
    said, nearest = card(app, 2), worst(entry, lab_store.MEASURED)
    assert "The worst attacker: not measured at ε = 10 ." in said, "the headline never changes its meaning"
    assert f"after, cosine {100 * expected['recall']:.0f} (" in said
    assert f"Nearest measured, of 100: ε = 0.34: {100 * nearest['recall']:.0f}. Before, the worst:" in said
    assert "links" not in said
    multiplier = accounting.gaussian_sigma(10.0, 1e-6)
    assert f"at most {math.ceil(100 * accounting.gaussian_accuracy(multiplier))} of 100" in card(app, 1)
    assert next(b for b in app.button if b.key == "mitigation run").label == "Run the attackers"


def test_any_epsilon_findings_and_delta_are_live_too(page, entry):
    app = page(N=100, epsilon="77", findings=",".join(lab_store.FEW), delta="1e-8")
    assert not app.exception
    chosen = Setting("label-oneshot", 77.0, findings=lab_store.FEW, delta=1e-8)
    made = settings.live(entry, chosen)
    assert made.heads.image.weight.shape[0] == len(lab_store.FEW)
    expected = made.study.table([100], [1]).iloc[0]
    assert f"after, cosine {100 * expected['recall']:.0f} (" in card(app, 2)
    assert "ε = 77, δ = 1e-8" in card(app, 1)
    whole = settings.live(entry, Setting("label-oneshot", 77.0, delta=1e-8))
    assert made.run == whole.run, "rows of a noised head are post-processing"


def test_a_setting_that_is_refused_says_why(page, monkeypatch):
    def refused(*args, **kwargs):
        raise InputError("delta 0.5 is not below 1/n.", "Take a smaller one.")

    monkeypatch.setattr(settings, "live", refused)
    app = page(N=100, epsilon=2)
    assert not app.exception
    assert "None established. delta 0.5 is not below 1/n. Take a smaller one." in card(app, 1)
    assert words(app).count("delta 0.5 is not below 1/n.") == 2, "in both cards, and nowhere else"


def test_the_study_s_mechanism_has_no_number_and_no_bar(page):
    app = page(mechanism="paper")
    assert not app.exception
    block = next(str(n.proto.body) for n in app.get("html") if "<b>1 · " in str(n.proto.body))
    assert "None established." in block
    assert "mi-scale" not in block
    assert not re.search(r"\d+ of 100", block)
    assert "does not establish it" in block


def test_noise_alone_is_always_there_and_says_its_epsilon(page):
    assert "noise only, ε" not in words(page(N=100))
    for query in ({"epsilon": 10}, {"mechanism": "moment-oneshot", "epsilon": "inf"}):
        other = words(page(N=100, **query))
        assert f"noise only, ε = {0.34 if 'mechanism' not in query else 3:g}" in other
    few = page(N=100, findings=",".join(lab_store.FEW))
    assert not few.exception
    assert "noise only</span>" in words(few), "made anew for these findings"


def test_before_is_known_where_nothing_is_trained(page, entry):
    app = page(N=100, mechanism="public-negatives")
    assert not app.exception
    before = worst(entry, OFF_THE_SHELF)
    cosine = study.study(entry).table([100], [1]).iloc[0]
    ends = sentences.interval(cosine["recall_low"], cosine["recall_high"], 100).removesuffix(" of 100")
    assert "The worst attacker: not measured at this setting ." in card(app, 2)
    assert f"before, cosine {100 * cosine['recall']:.0f} ({ends}) guessing 1" in card(app, 2)
    assert f"Before, the worst: {100 * before['recall']:.0f}." in card(app, 2)
    assert "There is no head at this setting yet." in words(app)
    assert " after " not in card(app, 2)


@pytest.mark.parametrize("file", ["records.parquet", "lab/linkage.parquet"])
def test_a_damaged_file_is_a_card_and_the_page_goes_on(page, lab_root, tmp_path, file):
    store = shutil.copytree(lab_root, tmp_path / "store")
    (store / "phantom" / lab_store.MODEL / file).write_bytes(b"altered")
    app = page(store=store)
    assert not app.exception
    assert words(app).count('role="alert"') == 1
    assert file in words(app)
    assert last_line(app).startswith("Cannot tell:")


def test_rubbish_falls_back(page):
    app = page(mechanism="magic<b>", epsilon="-3", release="all", findings="Flu", unit="x", delta="2", seed="x")
    assert not app.exception
    assert "ε = 0.34, δ = 1e-6, unit: patient" in card(app, 1)
    for name in ("mechanism", "epsilon", "release", "findings", "unit", "delta", "seed"):
        assert name not in app.query_params


def test_without_labels_or_pairs_there_are_cards_with_the_command(page):
    app = page(cohort="bare")
    assert not app.exception
    assert "bare has too few patients in its splits" in words(app)
    assert card(app, 1).count("None established.") == 1
    trained = page(cohort="bare", mechanism="label-dpsgd")
    assert "No record has any of the 14 labels, so no label head can be trained." in words(trained)
    public = page(cohort="bare", mechanism="public-negatives")
    assert "there are no pairs to train on" in words(public)
    assert f"<code>linkage import bare/{lab_store.MODEL} ...</code>" in words(public), "its own cohort and model"
    assert "phantom build" not in words(public)
    assert "`" not in words(public)
    assert last_line(public).startswith("Cannot tell:")


def test_attackers_run_beside_the_page_and_what_they_find_is_kept(page, lab_root):
    app = page(cohort="clinic", N=10)
    assert "The worst attacker: not measured yet ." in card(app, 2)
    assert "Made for this picture with noise that repeats" in card(app, 1)
    app.button("mitigation run").click().run()
    assert not app.exception
    job = jobs.running() or next(iter(jobs._JOBS.values()))
    assert job.wait(120)
    assert job.error is None
    app.run()
    assert not app.exception
    clinic = Store(lab_root).open("clinic", lab_store.MODEL)
    name = "label-oneshot-eps0.34"
    assert measured.head_names(clinic) == [name], "secret noise: no seed in the name"
    assert clinic.head_record(name)["seed"] is None
    app = page(cohort="clinic", N=100)
    row = worst(clinic, name)
    assert f"The worst attacker tried links {sentences.of(row['recall'], 100)}" in card(app, 2).replace(" images", "")
    assert "Illustration" not in card(app, 1), "this head is private"


def test_training_can_be_cancelled_and_nothing_is_kept(page, lab_root, monkeypatch):
    going = threading.Event()

    def slow(entry, setting, progress):
        for i in range(10_000):
            progress("steps", i, 10_000)
            going.set()
            threading.Event().wait(0.01)

    monkeypatch.setattr(settings, "train", slow)
    app = page(cohort="clinic", mechanism="label-dpsgd", epsilon=3)
    assert "No head has been trained at this setting yet." in card(app, 1)
    app.button("mitigation run").click().run()
    assert going.wait(10)
    assert app.button("mitigation cancel").label == "Cancel"
    other = page(cohort="clinic", mechanism="label-dpsgd", epsilon=1)
    assert "It waits for another run" in words(other)
    other.button("mitigation run").click().run()
    last = jobs.listed()[1]
    assert (last.waiting, last.words()) == (True, "waiting for 1 other run"), "one run at a time, for everybody"
    last.cancel()
    assert last.wait(5)
    app.button("mitigation cancel").click().run()
    job = next(iter(jobs._JOBS.values()), None)
    assert job is None or job.wait(10)
    app.run()
    assert not app.exception
    assert "Cancelled: nothing was kept." in words(app)
    assert jobs.running() is None
    assert not [
        name for name in measured.head_names(Store(lab_root).open("clinic", lab_store.MODEL)) if "dpsgd" in name
    ]


def test_a_run_that_fails_says_why(page, monkeypatch):
    def fails(entry, setting, progress):
        raise InputError("One <patient> has half of the pairs.", "Leave it out.")

    monkeypatch.setattr(settings, "train", fails)
    app = page(cohort="clinic", mechanism="label-dpsgd", epsilon=3)
    app.button("mitigation run").click().run()
    for job in list(jobs._JOBS.values()):
        job.wait(10)
    app.run()
    assert not app.exception
    assert "One &lt;patient&gt; has half of the pairs. Leave it out." in words(app)
    assert app.button("mitigation run").label == "Train at this epsilon"


def test_details_show_both_games_and_what_else_is_known(page, entry):
    table = games.games(entry)
    for game in ("image", "archive"):
        rows = details.game_rows(table, lab_store.MEASURED, game, 100)
        assert set(rows["when"]) == {"before", "after"}
        assert {"cosine", "worst"} == set(rows["attacker"])
    assert details.game_rows(table, "rotation-seed0", "archive", 100)["when"].eq("before").all(), "not measured there"


def test_details_show_the_run_every_finding_and_the_controls(page, entry):
    app = page(N=100)
    assert len(app.dataframe) == 0, "made only when it is open"
    app = page(N=100, mechanism="label-dpsgd", epsilon=3)
    assert not app.exception
    table = details.control_rows(
        measured.heads(entry), measured.linkage(entry), measured.utility(entry), "phantom", "embeddings", 100, 100
    )
    assert table["code name"].tolist() == [OFF_THE_SHELF, "rotation"]
    findings = details.finding_rows(measured.utility(entry), lab_store.MEASURED, "phantom")
    assert set(LABELS) <= set(findings["finding"])


def test_examples_show_before_and_after(open_page, lab_root, entry):
    app = open_page("examples", store=lab_root, second="@mitigation", N=100)
    assert not app.exception
    said = words(app)
    assert "Before: the Radiology model as it came" in said
    assert "After: label head, instant, ε = 0.34" in said
    record = Examples(entry).records["record_id"].iloc[0]
    for head in (OFF_THE_SHELF, lab_store.MEASURED):
        rank = Examples(entry, head).ranked(record, 100, 4).rank
        assert f"The true report is number {rank:,} of 100" in said
    live = open_page("examples", store=lab_root, second="@mitigation", epsilon=1, record=record, N=100)
    heads, _ = settings.made_now(entry, Setting("label-oneshot", 1.0))
    rank = Examples(entry).under("live", heads).ranked(record, 100, 4).rank
    assert f"The true report is number {rank:,} of 100" in words(live)
    assert "Illustration: its noise repeats, no guarantee." in words(live)
    none = open_page("examples", store=lab_root, second="@mitigation", mechanism="public-negatives")
    assert not none.exception
    assert lists(none)[1]["problem"][0] == "This head has to be trained, and none is stored for it at ε = 0.34."


# -- two settings ----------------------------------------------------------------------------------------------------


def test_a_setting_is_held_in_the_address_and_drawn_beside_the_next(page, entry):
    app = page(N=100)
    app.button("mitigation hold").click().run()
    held = app.query_params["held"]
    assert held in ("label-oneshot~0.34", ["label-oneshot~0.34"])
    app.select_slider[0].set_value(10.0).run()
    assert not app.exception
    picture = str(app.get("plotly_chart")[0].proto)
    assert "A: \\u03b5 = 0.34" in picture or "A: ε = 0.34" in picture
    assert "B: ε = 10, cosine" in words(app)
    app = page(N=100, held="label-oneshot~10", mechanism="label-oneshot")
    said, after = card(app, 2), worst(entry, lab_store.MEASURED)
    assert f"links {100 * after['recall']:.0f} of 100" in said
    assert "A, held" not in said, "its worst attacker is not measured"
    both = page(N=100, held=f"label-oneshot~0.34~f{'.'.join(str(LABELS.index(one)) for one in lab_store.FEW)}")
    few = worst(entry, "label-oneshot-eps0.34-seed0-4findings")
    assert f"A, held {100 * few['recall']:.0f} (" in card(both, 2)
    assert f"B, now {100 * after['recall']:.0f} (" in card(both, 2)
    both.button("mitigation let go").click().run()
    assert "held" not in both.query_params
    assert "held" not in page(held="magic~1").query_params


# -- filling the page ------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_of_two(monkeypatch):
    whole = grid.quick
    monkeypatch.setattr(grid, "quick", lambda entry: whole(entry)[:2])


@pytest.fixture
def own(lab_root, tmp_path) -> Path:
    """The store with `ward`, a cohort that nobody has measured, for one test."""
    store = shutil.copytree(lab_root, tmp_path / "store")
    every = ("heldout", "attacker", "finetune")
    found, images, texts = lab_store.cohort("ward", 120, synthetic=False, seed=5, splits=every)
    import_arrays(found, lab_store.MODEL, images, texts, Store(store))
    return store


def fill_button(app: AppTest, page: str = PAGE):
    return app.button(f"fill {page} quick")


def test_the_page_offers_what_fills_it_for_this_cohort_and_does(page, own, quick_of_two, monkeypatch):
    app = page(store=own, cohort="ward", mechanism="label-oneshot", N=100)
    assert "No attacker has been measured for ward, Radiology yet." in words(app)
    assert f"<code>linkage lab ward/{lab_store.MODEL} --quick</code>" in words(app)
    assert fill_button(app).label.startswith("Fill this page (quick, about ")
    found, calls = measured.found, []

    def second_is_slow(entry, name, **more):
        calls.append(name)
        if len(calls) == 2:
            for _ in range(2000):
                more["progress"]("attackers", 0, 1)  # what cancels
                threading.Event().wait(0.01)
        return found(entry, name, **more)

    monkeypatch.setattr(grid, "found", second_is_slow)
    fill_button(app).click().run()
    job = jobs.running()
    while len(calls) < 2:
        threading.Event().wait(0.05)
        assert job.running, job.error
    other = page(store=own, cohort="phantom", epsilon=10)
    assert "It waits for another run" in words(other), "one run at a time, for everybody"
    app.run()
    app.button("fill mitigation cancel").click().run()
    assert job.wait(20)
    ward = Store(own).open("ward", lab_store.MODEL)
    assert set(measured.linkage(ward)["head"]) == {OFF_THE_SHELF}, "whole heads only"
    app = page(store=own, cohort="ward")
    assert "Cancelled: heads that were finished are kept, and it goes on from there." in words(app)
    assert "1 of 3 settings of the quick lab" in words(app)
    monkeypatch.setattr(grid, "found", lambda entry, name, **more: calls.append(name) or found(entry, name, **more))
    calls.clear()
    assert fill_button(app).label.startswith("Go on (quick")
    fill_button(app).click().run()
    job = jobs.of(fill.key_of("ward", lab_store.MODEL))
    assert job.wait(120)
    assert job.error is None
    assert OFF_THE_SHELF not in calls, "what is stored is not made again"
    app = page(store=own, cohort="ward", N=100)
    assert "The worst attacker tried links" in card(app, 2)
    assert not [b for b in app.button if b.key.startswith("fill")]
    app = page_of_frontier(app)
    assert not app.exception
    assert "Nothing is compared here yet" not in words(app), "the same run fills both pages"


def page_of_frontier(app: AppTest) -> AppTest:
    return app.switch_page("pages/frontier.py").run()


def test_what_cannot_be_filled_says_why_and_offers_nothing(page, own, monkeypatch):
    app = page(store=own, cohort="bare")
    assert "bare has too few patients in its splits" in words(app)
    assert not [b for b in app.button if b.key.startswith("fill")]
    monkeypatch.setattr("os.access", lambda *_: False)
    app = page(store=own, cohort="ward")
    assert "cannot be written to. Make it writable, or copy the store." in words(app)
    assert not [b for b in app.button if b.key.startswith("fill")]


def test_a_cohort_that_is_removed_while_its_lab_is_made_is_a_sentence(page, own, quick_of_two):
    app = page(store=own, cohort="ward")
    shutil.rmtree(own / "ward")
    fill.start(own, "ward", lab_store.MODEL, quick=True).wait(30)
    assert "The store has no ward/" in jobs.of(fill.key_of("ward", lab_store.MODEL)).error[0]
    app.run()
    assert not app.exception


# -- jobs ------------------------------------------------------------------------------------------------------------


def test_one_job_at_a_time_and_cancelled_by_its_progress():
    go, reports = threading.Event(), []

    def work(progress):
        for i in range(1000):
            progress("step", i, 1000)
            reports.append(i)
            go.wait(0.01)

    job = jobs.start("one", "training", work)
    assert job is not None
    assert jobs.start("one", "training", work) is None
    second, third = (jobs.start(key, "attackers", lambda progress: reports.append(-1)) for key in ("two", "three"))
    assert jobs.running() is job
    assert jobs.listed() == [job, second, third]
    assert (second.words(), third.words()) == ("waiting for 1 other run", "waiting for 2 other runs")
    third.cancel()
    assert third.wait(5)
    assert (third.cancelled, second.waiting, -1 in reports) == (True, True, False)
    job.cancel()
    assert job.wait(10)
    assert second.wait(10)
    assert reports[-1] == -1, "then the next one"
    assert jobs.listed() == []
    assert job.cancelled
    assert job.error is None
    assert len(reports) < 1001
    again = jobs.start("one", "training", lambda progress: progress("done", 1, 1))
    assert again is not None
    assert again.wait(10)
    assert (again.cancelled, again.error, again.share) == (False, None, 1.0)
    assert jobs.of("one") is again


def test_a_run_that_nobody_wants_is_stopped_and_forgotten(monkeypatch):
    monkeypatch.setattr(jobs, "LONGEST_AWAY", 0.05)
    there = True

    def work(progress):
        for i in range(2000):
            progress("step", i, 2000)
            threading.Event().wait(0.01)

    job = jobs.start("mine", "reading a cohort", work, wanted=lambda: there)
    assert not job.wait(0.3), "its tab is open"
    there = False
    assert job.wait(5)
    assert job.cancelled
    kept = jobs.start("kept", "training", lambda progress: "result")
    assert kept.wait(5)
    assert jobs.of("mine") is None
    assert jobs.of("kept").result == "result", "found again from any tab"


# -- words and pictures ----------------------------------------------------------------------------------------------


def rate(value: float, low: float, high: float, **more: object) -> dict:
    return {"recall": value, "recall_low": low, "recall_high": high, "n_queries": 500, "chance": 0.01, **more}


def use(name: str, after: float, noise: float) -> Use:
    return Use(name, (0.8, 0.79, 0.81), (after, after - 0.01, after + 0.01), (noise, noise - 0.01, noise + 0.01))


@pytest.mark.parametrize(
    ("noise", "uses", "expected"),
    [
        (rate(0.01, 0.005, 0.02), [use("Zero-shot", 0.76, 0.5)], "further, but then zero-shot suffer"),
        (rate(0.04, 0.03, 0.06), [use("Zero-shot", 0.76, 0.75)], "as far and keeps as much use"),
        (rate(0.2, 0.18, 0.22), [], "the learning lowers it, not the noise"),
        (rate(0.04, 0.03, 0.06), [], "not measured at this setting"),
    ],
)
def test_what_is_said_of_damage_follows_from_the_intervals(noise, uses, expected):
    assert expected in cards.damage_words(rate(0.05, 0.04, 0.07), noise, uses)


def test_the_worst_attacker_has_the_first_word_on_damage():
    after, noise = rate(0.14, 0.135, 0.145), rate(0.01, 0.005, 0.02)
    for silenced, expected in (
        (rate(0.142, 0.137, 0.147), "noise alone is as much of a hindrance"),
        (rate(0.2, 0.19, 0.21), "gets less under the head"),
        (rate(0.1, 0.09, 0.11), "leaves the worst attacker less"),
    ):
        shown = cards.damage(rate(0.05, 0.04, 0.07), noise, out_of=100, palette=palette.LIGHT, worst=(after, silenced))
        assert expected in shown
        assert shown.index(expected) < shown.index("By cosine: noise alone lowers linkage further")
        assert shown.count("mi-row") == 4
    assert "worst" not in cards.damage(rate(0.05, 0.04, 0.07), noise, out_of=100, palette=palette.LIGHT)


def test_too_few_images_are_too_few_to_say():
    few = rate(0.5, 0.1, 0.9, flag="too few to say") | {"n_queries": 12}
    said = cards.measured(few, few, release="embeddings", pool_size=10, out_of=100, n_own=5, palette=palette.LIGHT)
    assert "Too few to say (n = 12)." in said
    assert "of 100" not in said


def lines() -> dict[str, pd.DataFrame]:
    sizes = [10, 100, 1000]
    return {
        name: pd.DataFrame([rate(f * 3 / n, f * 2 / n, f * 4 / n, named="cosine") | {"pool_size": n} for n in sizes])
        for name, f in (("before", 1.0), ("worst", 0.7), ("cosine", 0.5), ("noise", 0.0))
    }


@pytest.mark.parametrize("with_colours", [palette.LIGHT, palette.DARK])
def test_pictures_are_drawn_and_filed(with_colours):
    names = dict(zip(curve.LINES, ("before", "after <b>", "cosine", "noise only", "A"), strict=True))
    rows = [rate(0.5, 0.4, 0.6, attacker="cosine", named="cosine", m="all")]
    figures = [
        curve.curve(lines(), names, pool_size=100, palette=with_colours),
        usefulness([use("Zero-shot", 0.7, 0.5), Use("Undeclared", why="none")], with_colours),
        bars.attackers(
            rows, ["Cosine <only>"], before=0.7, chance=0.01, out_of=100, pool_size=100, slots=7, palette=with_colours
        ),
    ]
    for figure, expected in zip(figures, ("guessing", "Zero-shot", "Cosine <only>"), strict=True):
        said = downloads.svg(figure, title="t <", subtitle="n")
        texts = ["".join(node.itertext()) for node in ET.fromstring(said).iter("{http://www.w3.org/2000/svg}text")]
        found = any(expected in text for text in texts)
        assert found or expected == "guessing"
    drawn = {trace.name for trace in figures[0].data}
    assert {"guessing", "before", "cosine"} <= drawn
    assert "noise only" not in drawn, "nothing at zero on a log axis"
    drawn_alike = set()
    for n in (1, 5, 7):
        figure = bars.attackers(
            rows * n,
            ["a"] * n,
            before=None,
            chance=0.01,
            out_of=100,
            pool_size=100,
            slots=7,
            palette=with_colours,
        )
        drawn_alike.add((figure.layout.height, figure.layout.yaxis.range))
    assert len(drawn_alike) == 1, "the page keeps its height, the bars their thickness"


def test_an_n_that_was_not_measured_falls_and_says_so(page):
    """Also where the page has no headline: in the card that it qualifies, and in the address."""
    app = page(N=99_999)
    shown = int(str(buttons(app, "mitigation N").value).replace(",", ""))
    assert f"N = 99,999 cannot be shown here: this is N = {shown:,}." in words(app)
    assert app.query_params.get("N", "100") in (str(shown), [str(shown)])
    assert "cannot be shown here" not in words(page(N=shown))
