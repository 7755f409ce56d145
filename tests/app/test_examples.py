"""Examples in the harness: which record, which pool, which text. What only a browser shows is tested there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.examples import first_in, gallery, ranked
from helpers import examples_store, lab_store
from helpers.shared import Built
from linkage_core.audit.examples import Examples
from linkage_core.cohorts.base import LABELS
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Setting
from linkage_core.store.entry import Store

from .conftest import lists, words

FIRST, SECOND = "A-400000-1-PA", "A-400000-2-PA"


@pytest.fixture(scope="module")
def drawn_store(built: Built) -> Path:
    return built(examples_store.build)


@pytest.fixture
def open_examples(open_page: Callable[..., AppTest], drawn_store: Path) -> Callable[..., AppTest]:
    return lambda **query: open_page("examples", drawn_store, **query)


def heads(app: AppTest) -> list[str]:
    """The sentences over the lists."""
    return ["".join(said.get("head", [])) for said in lists(app)]


def test_the_headline_is_the_core_s_rank_and_chance(open_examples, drawn_store):
    app = open_examples(record=SECOND, N=30)
    ranked = Examples(Store(drawn_store).open("phantom", "phantom-radiology")).ranked(SECOND, 30, 4)
    assert not app.exception
    assert heads(app) == [f"The true report is number {ranked.rank} of 30"]
    assert f"First in {round(100 * ranked.first_in) or 'fewer than 1'} of 100 random pools of this size." in words(app)
    for report in ranked.reports:
        assert f"{report.similarity:.2f}".replace("-", "−") in words(app)


def test_without_a_record_the_first_is_shown_and_the_url_is_left_alone(open_examples):
    """What the page wrote there by itself would be an entry of the history: the first press of Back did nothing."""
    app = open_examples()
    assert "record" not in app.query_params
    assert lists(app)[0]["image"].startswith(FIRST)
    assert heads(app)[0].endswith("of 100")
    app.button(key="next").click().run()
    assert app.query_params["record"] == SECOND
    app.button(key="previous").click().run()
    assert app.query_params["record"] == FIRST
    assert app.button(key="previous").disabled
    assert not app.button(key="next").disabled


def test_the_slider_ends_at_the_whole_pool_and_small_pools_show_fewer_reports(open_examples):
    app = open_examples(cohort="clinic", shown=12)
    slider = app.select_slider[0]
    assert slider.options == ["10", "23"]
    slider.set_value("10" if isinstance(slider.value, str) else 10).run()
    assert heads(app)[0].endswith("of 10")
    assert len(lists(app)[0]["cards"]) <= 10
    assert not app.exception


def test_a_second_model_is_kept_out_of_its_own_company(open_examples):
    app = open_examples(second="phantom-general")
    assert len(heads(app)) == 2
    app = open_examples(second="phantom-general", model="phantom-general")
    assert len(heads(app)) == 1
    app = open_examples(second="no-such-model")
    assert len(heads(app)) == 1
    assert not app.exception


def test_filters_narrow_and_clear(open_examples, drawn_store):
    app = open_examples()
    app.text_input(key="find patient").set_value("400003").run()
    rows = Store(drawn_store).open("phantom", "phantom-radiology").records()
    wanted = rows[rows["patient_id"].str.contains("400003")]
    assert lists(app)[0]["image"].startswith(wanted["record_id"].iloc[0])
    assert app.query_params["patient"] == "400003"
    assert f"{len(wanted)} of {len(rows)} images" in words(app)
    app.text_input(key="find record").set_value("nobody").run()
    assert heads(app) == []
    app.button(key="clear").click().run()
    assert app.text_input(key="find patient").value == ""
    assert heads(app) != []


@pytest.mark.parametrize("switch", [False, True])
def test_text_of_a_real_cohort_is_sent_only_when_switched_on(open_examples, switch):
    app = open_examples(cohort="clinic")
    if switch:
        app.toggle(key="text switch clinic").set_value(True).run()
    sent = words(app)
    assert (examples_store.SECRET in sent) is switch
    assert ("Text hidden: the switch in the sidebar shows it." in sent) is not switch
    in_html = "".join(str(node.proto.body) for node in app.get("html"))
    assert "<script>" not in in_html
    assert 'onerror="' not in in_html
    assert "javascript:" not in re.sub(r"<bdi>.*?</bdi>", "", in_html)


def test_text_that_is_not_at_hand_says_how_to_store_it(open_page, store_root, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "report_text", lambda entry, study_id, report_key: None)
    app = open_page("examples")
    assert "Text is not stored: run linkage embed again with --store-text." in words(app)


def test_stored_text_of_imported_vectors_is_found(open_page):
    app = open_page("examples", cohort="phantom")
    assert "Unlike study" in words(app) or "No acute process." in words(app)


def test_labels_in_words_know_four_values():
    record = dict.fromkeys(LABELS, float("nan")) | {"Edema": 1.0, "Fracture": 0.0, "Pneumonia": -1.0}
    said = dict(gallery.labels_in_words(record))
    assert list(said) == list(LABELS)
    assert (said["Edema"], said["Fracture"], said["Pneumonia"]) == ("present", "absent", "uncertain")
    assert said["Cardiomegaly"] == "not mentioned"


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ({"Edema": 1.0, "Pneumothorax": 1.0}, "Pneumothorax"),
        ({"Edema": -1.0, "No Finding": 0.0}, "Edema?"),
        ({"Support Devices": 1.0, "No Finding": 1.0}, "Line / device"),
        ({"No Finding": 1.0}, "No finding"),
        ({"Edema": 0.0}, "No label"),
        ({}, "No label"),
    ],
)
def test_a_thumbnail_is_called_by_its_most_telling_finding(labels, name):
    assert gallery.main_finding(labels) == name


def test_a_patient_with_many_reports_leaves_a_smaller_pool(open_examples, drawn_store):
    examples = Examples(Store(drawn_store).open("phantom", "phantom-radiology"))
    sizes = {record: examples.largest_pool_of(record) for record in examples.records["record_id"]}
    record = min(sizes, key=sizes.__getitem__)
    assert sizes[record] < examples.largest_pool
    app = open_examples(record=record, N=examples.largest_pool)
    assert not app.exception
    assert heads(app)[0].endswith(f"of {sizes[record]}")


# -- the mitigation, moved over its list ----------------------------------------------------------------------------


def test_any_n_of_a_link_is_shown_and_one_too_large_is_replaced_in_words(open_examples):
    app = open_examples(N=17)
    assert "of 17" in heads(app)[0]
    assert app.query_params["N"] in ("17", ["17"])
    app = open_examples(N=99_999)
    assert "N = 99,999 cannot be shown here: this is N = " in words(app)
    assert app.query_params["N"] not in ("99999", ["99999"])


@pytest.fixture(scope="module")
def lab_root(built: Built) -> Path:
    return built(lab_store.build)


@pytest.fixture
def open_lab(open_page: Callable[..., AppTest], lab_root: Path) -> Callable[..., AppTest]:
    return lambda **query: open_page("examples", lab_root, second="@mitigation", **query)


def slider(app: AppTest):
    return next(one for one in app.select_slider if one.key.startswith("examples epsilon"))


def test_epsilon_moves_the_list_and_stays_in_the_address(open_lab, lab_root):
    app = open_lab(N=100)
    before, after = lists(app)
    slider(app).set_value(1.0).run()
    assert app.query_params["epsilon"] == "1"
    moved = lists(app)
    assert moved[0] == before
    assert moved[1]["caption"] == "After: label head, instant, ε = 1"
    assert {card["number"] for card in moved[1]["cards"]} != {card["number"] for card in after["cards"]}
    entry = Store(lab_root).open("phantom", lab_store.MODEL)
    heads, _ = settings.made_now(entry, Setting("label-oneshot", 1.0))
    told = Examples(entry).under("live", heads).ranked(moved[1]["image"].split()[0], 100, 4)
    assert [card["number"] for card in moved[1]["cards"]] == [
        ranked.number(report.similarity, ranked.decimals_of([each.similarity for each in told.reports]))
        for report in told.reports
    ]
    shared = {card["key"] for card in before["cards"]} & {card["key"] for card in moved[1]["cards"]}
    assert shared, "a report keeps its key from list to list"


def test_a_head_that_must_be_trained_says_so_in_place_of_its_list(open_lab):
    app = open_lab()
    mechanism = next(box for box in app.selectbox if box.key == "examples mechanism")
    mechanism.set_value("label-dpsgd").run()
    assert app.query_params["mechanism"] == "label-dpsgd"
    assert lists(app)[1]["problem"][1].startswith("Train it on Mitigation")
    assert slider(app).options[-1] == "∞"
    assert "The true report is number" in heads(app)[0]


def test_a_release_and_a_cohort_without_labels_say_why_there_is_no_list(open_lab):
    app = open_lab(mechanism="statistics")
    assert "Only heads can be looked at" in lists(app)[1]["problem"][0]
    assert not [one for one in app.select_slider if one.key.startswith("examples epsilon")]
    app = open_lab(cohort="bare", mechanism="label-oneshot")
    assert "this cohort has none" in lists(app)[1]["problem"][0]
    app = open_lab(cohort="bare")
    assert not any("Label head" in option for option in app.selectbox(key="examples mechanism").options)
    assert not app.exception


def test_who_is_no_patient_of_its_training_is_shown_alone(open_lab, lab_root):
    records = Store(lab_root).open("phantom", lab_store.MODEL).records()
    trained = records[records["split"] == "finetune"]["record_id"].iloc[0]
    app = open_lab(record=trained)
    assert f"Image {trained}" in words(app)
    assert all(not said["image"].startswith(trained) for said in lists(app))


# -- how much is shown, another pool, a hidden true report -----------------------------------------------------------


@pytest.mark.parametrize(("asked", "rows"), [("8", 8), ("1", 1), ("37", 37), ("0", 4), ("x", 4), ("101", 4)])
def test_any_number_of_reports_is_shown(open_examples, asked, rows):
    app = open_examples(N=100, shown=asked)
    assert lists(app)[0]["rows"] == rows
    assert 1 <= len(lists(app)[0]["cards"]) <= rows
    assert app.number_input(key="examples shown").value == rows


def test_another_pool_is_in_the_address_and_leaves_the_chance_alone(open_examples):
    app = open_examples(record=SECOND, N=30)
    first = lists(app)[0]
    app.button(key="another pool").click().run()
    assert app.query_params["draw"] == "1"
    other = lists(app)[0]
    assert other["second"] == first["second"]
    assert other["cards"] != first["cards"]
    assert other["caption"].endswith("pool 2")
    assert lists(open_examples(record=SECOND, N=30, draw=1))[0]["second"] == other["second"]
    assert [card["number"] for card in lists(open_examples(record=SECOND, N=30, draw=1))[0]["cards"]] == [
        card["number"] for card in other["cards"]
    ]


def test_a_hidden_true_report_cannot_be_told_from_what_is_sent(open_examples, drawn_store):
    told = open_examples(record=SECOND, N=100, shown=4, model="phantom-general")
    app = open_examples(record=SECOND, N=100, shown=4, model="phantom-general", hide=1)
    (said,) = lists(app)
    assert "".join(said["head"]) == "The true report is hidden"
    assert not any(card["true"] or card["gap"] for card in said["cards"])
    ranked_all = Examples(Store(drawn_store).open("phantom", "phantom-general")).ranked(SECOND, 100, 100)
    assert [card["rank"] for card in said["cards"]] == [str(each.rank) for each in ranked_all.reports[:4]]
    true_one = next(card for card in lists(told)[0]["cards"] if card["true"])
    assert (true_one["text"] in json.dumps(said)) == (int(true_one["rank"].replace(",", "")) <= 4)
    assert "Not told while the true report is hidden." in words(app)
    assert "exactly the same as the true one" not in words(app)
    app.toggle(key="hide").set_value(False).run()
    assert "hide" not in app.query_params
    assert any(card["true"] for card in lists(app)[0]["cards"])


def test_filters_order_and_second_model_are_in_the_address(open_examples, drawn_store):
    app = open_examples(exposed="50-100", order="exposure", views="PA", second="phantom-general", N=30)
    entry = Store(drawn_store).open("phantom", "phantom-radiology")
    found = Examples(entry).find(exposure=(50, 100), views=["PA"])
    first = found.sort_values("exposure_percentile", ascending=False, kind="stable")["record_id"].iloc[0]
    assert lists(app)[0]["image"].startswith(first)
    assert app.slider(key="find exposure").value == (50, 100)
    app.slider(key="find exposure").set_value((0, 100)).run()
    assert "exposed" not in app.query_params
    assert app.query_params["views"] == "PA"
    assert not open_examples(exposed="90-20", views="<b>", having="Rash", view="1_2").exception


def test_the_picture_of_the_chance_says_what_it_shows(open_lab, lab_root):
    app = open_lab(N=100)
    alt = app.get("plotly_chart")[0].proto.alt
    entry = Store(lab_root).open("phantom", lab_store.MODEL)
    for name, head in (("before", "off-the-shelf"), ("after", lab_store.MEASURED)):
        chance = Examples(entry, head).first_in(Examples(entry).records["record_id"].iloc[0], [100])[0]
        assert f"{name}: " in alt
        assert f"at N = 100 {first_in.words_of(chance)}" in alt
    assert alt.endswith("Guessing: 1 of N.")
