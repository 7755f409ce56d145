"""Be the attacker in the harness: what is sent before the answer, what is scored, and where nothing can be played."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.share import play
from helpers import examples_store
from helpers.shared import Built
from linkage_core.audit.examples import Examples
from linkage_core.audit.game import Question, draw
from linkage_core.cohorts import phantom
from linkage_core.store.entry import Store

from .conftest import words


@pytest.fixture(scope="module")
def drawn_store(built: Built) -> Path:
    return built(examples_store.build)


@pytest.fixture
def open_play(open_page: Callable[..., AppTest], drawn_store: Path) -> Callable[..., AppTest]:
    return lambda **query: open_page("play", drawn_store, **query)


def sent(app: AppTest) -> list[dict]:
    """The data of the page's components, as they go to the browser."""
    return [json.loads(node.proto.json) for node in app.get("bidi_component") if node.proto.json]


def played(app: AppTest) -> list[str]:
    """The components that show a picture or a text."""
    names = [node.proto.component_name for node in app.get("bidi_component")]
    return [name for name in names if name in ("linkage_viewer", "linkage_cards")]


def cards(app: AppTest) -> dict:
    (data,) = (data for data in sent(app) if "options" in data)
    return data


def answer(app: AppTest, place: int) -> AppTest:
    """As a click on a card."""
    match = app.session_state["play match"]
    match.choose(match.at, place, 10)
    return app.run()


def round_of(drawn_store: Path, n: int = 4, seed: int = 1, **settings):
    examples = Examples(Store(drawn_store).open("phantom", "phantom-radiology"))
    played = draw(examples.records, n, seed, text=lambda study, _: phantom.report_of(study), **settings)
    return examples, played


def test_a_round_is_the_core_s(open_play, drawn_store):
    app = open_play(round=3)
    assert not app.exception
    _, played = round_of(drawn_store, seed=3)
    first = played.questions[0]
    assert [each["text"] for each in cards(app)["options"]] == [
        " ".join(phantom.report_of(study).split()) for study in first.study_ids
    ]


def test_nothing_that_is_sent_before_the_answer_tells_it(open_play, drawn_store):
    app = open_play()
    _, played = round_of(drawn_store)
    data = cards(app)
    assert data["open"]
    assert data["chosen"] == -1
    for option in data["options"]:
        assert {name: option[name] for name in option if name != "text"} == {"tags": [], "model": "", "right": False}
    record, studies = played.questions[0].record_id, played.questions[0].study_ids
    everything = "".join(str(node.proto) for node in app.get("bidi_component")) + words(app)
    for name in (record, *studies, *played.questions[0].report_keys):
        assert name not in everything
    assert "record" not in app.query_params


def test_the_answer_the_model_s_ranking_and_the_score(open_play, drawn_store):
    app = open_play()
    examples, played = round_of(drawn_store)
    model = 0
    for k, question in enumerate(played.questions):
        scores = examples.similarities(question.record_id, question.study_ids)
        ranks = [int(1 + (scores > each).sum()) for each in scores]
        model += ranks[question.answer] == 1
        place = question.answer if k < 6 else (question.answer + 1) % 4
        app = answer(app, place)
        data = cards(app)
        assert [option["right"] for option in data["options"]] == [i == question.answer for i in range(4)]
        assert [option["model"] for option in data["options"]] == [f"rank: model {rank}" for rank in ranks]
        assert data["chosen"] == place
        app.button(key="play next").click().run()
    assert f"You 6 of 10. Model {model} of 10. Guessing 2.5 of 10." in words(app)
    assert "Somebody who only guesses gets 6 or more in 2 of 100 rounds." in words(app)
    app.button(key="another").click().run()
    assert app.query_params["round"] == "2"
    assert cards(app)["open"]


def test_controls_stand_before_the_round_only(open_play):
    app = open_play(reports=6, decoys="same")
    keys = {node.key for node in app.get("segmented_control")}
    assert {"play reports", "play decoys", "play release"} <= keys
    assert len(cards(app)["options"]) == 6
    app = answer(app, 0)
    assert not {node.key for node in app.get("segmented_control")} & {"play reports", "play decoys", "play release"}
    assert app.button(key="play again").click().run() is not None
    assert cards(app)["open"]


def test_another_setting_begins_anew(open_play):
    app = answer(open_play(), 0)
    assert not cards(app)["open"]
    app.query_params["reports"] = "6"
    app.run()
    assert cards(app)["open"]
    assert len(cards(app)["options"]) == 6


def test_what_no_link_may_say_falls_back(open_play):
    app = open_play(reports=5000, round=-1, played="x")
    assert len(cards(app)["options"]) == 4
    assert not app.exception


def test_a_real_cohort_sends_no_text_and_no_image_until_the_switch_is_on(open_play):
    app = open_play(cohort="clinic")
    assert not played(app)
    assert examples_store.SECRET not in words(app)
    assert "Report text is hidden" in words(app)
    app.sidebar.toggle[0].set_value(True).run()
    assert examples_store.SECRET in cards(app)["options"][0]["text"]
    assert all("‮" not in option["text"] for option in cards(app)["options"])
    app.sidebar.toggle[0].set_value(False).run()
    assert not played(app)


def test_a_cohort_without_labels_says_so_and_plays_any_patient(open_play):
    app = open_play(cohort="clinic", decoys="same")
    app.sidebar.toggle[0].set_value(True).run()
    assert "need labels" in words(app)
    assert cards(app)["open"]


def test_a_round_that_cannot_be_filled_is_smaller_and_says_so(open_play):
    app = open_play(cohort="clinic", reports=10)
    app.sidebar.toggle[0].set_value(True).run()
    said = words(app)
    n = len(cards(app)["options"])
    # one text is that of every third report, the 16 others differ; an image has 12 patients' at most
    assert n == 10 or f"cannot be filled here: {n} can" in said


def test_a_mitigation_that_cannot_be_played_is_said_and_the_round_goes_on(open_play):
    app = open_play(played="mitigated", mechanism="codes")
    assert "No round under a mitigation: Only heads can be looked at" in words(app)
    assert cards(app)["open"]


def test_a_mitigated_round_asks_about_nobody_who_trained_the_head(open_play, drawn_store):
    app = open_play(cohort="clinic", played="mitigated", reports=4)
    app.sidebar.toggle[0].set_value(True).run()
    assert "Only patients who had no part in it." in words(app)
    entry = Store(drawn_store).open("clinic", "ours")
    assert entry.default_split == "all"
    held_out = set(entry.records("heldout")["study_id"])
    numbers = [re.search(r"number (\d+)", option["text"]) for option in cards(app)["options"]]
    assert any(numbers)
    assert {f"s{int(number[1]):02d}" for number in numbers if number} <= held_out
    app = answer(app, 0)
    assert all(option["model"].startswith("rank: model") for option in cards(app)["options"])
    assert all("mitigated" in option["model"] for option in cards(app)["options"])


def test_a_second_click_counts_for_nothing():
    match = play.Match([])
    match.choose(0, 2, 4)
    match.choose(0, 1, 4)
    match.choose(1, 1, 4)
    match.choose(0, 7, 4)
    assert match.given == [2]
    match.go_on()
    match.go_on()
    assert match.at == 1
    match.choose(0, 1, 4)
    assert match.given == [2]


def test_text_in_words_is_escaped():
    said = play.dots([True], [("<b>x</b>", [False])], 2, 0)
    assert "<b>" not in said
    assert Question("r", ("a",), ("k",), 0).answer == 0
