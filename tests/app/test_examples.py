"""Examples in the harness: which record, which pool, which text. What only a browser shows is tested there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from explorer.examples import gallery
from helpers import examples_store
from helpers.shared import Built
from linkage_core.audit.examples import Examples
from linkage_core.cohorts.base import LABELS
from linkage_core.store.entry import Store

from .conftest import words

FIRST, SECOND = "A-400000-1-PA", "A-400000-2-PA"


@pytest.fixture(scope="module")
def drawn_store(built: Built) -> Path:
    return built(examples_store.build)


@pytest.fixture
def open_examples(open_page: Callable[..., AppTest], drawn_store: Path) -> Callable[..., AppTest]:
    return lambda **query: open_page("examples", drawn_store, **query)


def heads(app: AppTest) -> list[str]:
    """The sentences over the lists, without markup."""
    blocks = re.findall(r'class="lx-head">(.*?)</h3>', words(app))
    return [re.sub(r"<[^>]+>", "", block) for block in blocks]


def test_the_headline_is_the_core_s_rank_and_chance(open_examples, drawn_store):
    app = open_examples(record=SECOND, N=30)
    ranked = Examples(Store(drawn_store).open("phantom", "phantom-radiology")).ranked(SECOND, 30, 4)
    assert not app.exception
    assert heads(app) == [f"The true report is number {ranked.rank} of 30"]
    assert f"First in {round(100 * ranked.first_in) or 'fewer than 1'} of 100 random pools of this size." in words(app)
    for report in ranked.reports:
        assert f"{report.similarity:.2f}".replace("-", "−") in words(app)


def test_without_a_record_the_first_is_shown_and_written_to_the_url(open_examples):
    app = open_examples()
    assert app.query_params["record"] == FIRST
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
    assert words(app).count('class="lx-rank"') == len(set(re.findall(r'class="lx-rank">(\d+)', words(app))))
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
    assert app.query_params["record"] == wanted["record_id"].iloc[0]
    assert f"{len(wanted)} of {len(rows)} images" in words(app)
    assert f"Image {FIRST} is not among those found: here is the first." in words(app)
    app.text_input(key="find record").set_value("nobody").run()
    assert heads(app) == []
    app.button(key="clear").click().run()
    assert app.text_input(key="find patient").value == ""
    assert heads(app) != []


@pytest.mark.parametrize("switch", [False, True])
def test_text_of_a_real_cohort_is_sent_only_when_switched_on(open_examples, switch):
    app = open_examples(cohort="clinic")
    if switch:
        app.toggle[0].set_value(True).run()
    sent = words(app)
    assert (examples_store.SECRET in sent) is switch
    assert ("Text hidden: the switch in the sidebar shows it." in sent) is not switch
    assert "<script>" not in sent
    assert 'onerror="' not in sent
    assert "javascript:" not in re.sub(r"<bdi>.*?</bdi>", "", sent)


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
