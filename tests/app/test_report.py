"""Report to file: what is chosen is what is made, for this session alone, and text obeys the switch."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from explorer.frame import access
from explorer.protect import jobs
from explorer.report import report_page
from helpers import fixture_store
from linkage_core.audit.study import study
from linkage_core.report.page import twin
from linkage_core.store.entry import Store

from .conftest import go_to, headline, words

PLACEHOLDER = "The answer stands here once the report is made."


@pytest.fixture
def report(open_page):
    """report(cohort=...): the page, run once."""
    return lambda **query: go_to(open_page(**query), "report")


def button(app, label):
    return next(one for one in app.button if one.label == label)


def make(app):
    """Presses the button and waits for the end of the run."""
    button(app, "Make the report").click().run()
    job = jobs.of(("report", app.session_state["report session"]))
    assert job.wait(60)
    app.run()
    return job


def command(app):
    return app.code[0].value


def test_it_makes_what_the_command_would(report, store_root):
    app = report()
    assert not app.exception
    assert headline(app) == PLACEHOLDER
    assert re.fullmatch(r"linkage report phantom --out linkage-report-phantom.html --store \S+", command(app))
    make(app)
    assert not app.exception
    made = app.session_state["report made"]
    row = study(Store(store_root).open("phantom", "phantom-radiology")).table([100], (1,)).iloc[0]
    assert headline(app) == made.report.headline
    assert f"{row['recall'] * 100:.0f} of 100 images" in made.report.headline
    assert command(app) in made.html.replace("&#39;", "'")
    assert "Synthetic cohort" in made.html
    assert not any("other choices" in caption.value for caption in app.caption)


def test_models_and_sections_are_in_the_address_and_in_the_command(report):
    app = report()
    models, sections = app.get("button_group") or app.get("pills")
    models.set_value(["phantom-clinical"]).run()
    assert command(app).startswith("linkage report phantom/phantom-clinical --out ")
    _, sections = app.get("button_group") or app.get("pills")
    sections.set_value(["exposure"]).run()
    assert "--sections exposure" in command(app)
    assert app.query_params["sections"] in ("exposure", ["exposure"])
    make(app)
    there = [one.name for one in app.session_state["report made"].report.sections]
    assert "exposure" in there
    assert "decoys" not in there
    _, sections = app.get("button_group") or app.get("pills")
    sections.set_value([]).run()
    assert "--sections none" in command(app)
    assert any("other choices" in caption.value for caption in app.caption)


def test_no_model_is_no_report(report):
    app = report(filed="nobody")
    assert button(app, "Make the report").disabled
    assert any("Choose a model" in caption.value for caption in app.caption)
    assert not app.code, "no command that would not run"


def test_identifiers_and_text_of_a_real_cohort_obey_the_switch(report, tmp_path, monkeypatch):
    monkeypatch.setenv(access.FILE, str(tmp_path / "access.log"))
    app = report(cohort="our-hospital")
    switches = list(app.main.toggle)
    assert [one.label for one in switches] == ["Include identifiers", "Include report text"]
    assert all(one.disabled for one in switches)
    app.sidebar.toggle[0].set_value(True).run()
    for label in range(2):
        app.main.toggle[label].set_value(True).run()
    make(app)
    made = app.session_state["report made"]
    assert "our-hospital-p" in made.html
    assert any(text in made.html for text in fixture_store.FINDINGS)
    assert headline(app) == made.report.headline
    noted = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    read = [line["record"] for line in noted if line["what"] == "report"]
    assert read
    assert all(study in made.html for study in read), "whoever read a text here is in the access log"
    app.sidebar.toggle[0].set_value(False).run()
    assert headline(app) == PLACEHOLDER
    assert "--include" not in command(app)
    assert not any(one for one in app.get("download_button") if not one.proto.disabled)


def test_it_is_of_this_session_and_this_cohort(report):
    app, other = report(), report()
    make(app)
    assert headline(other.run()) == PLACEHOLDER
    app.query_params["cohort"] = "our-hospital"
    app.run()
    assert headline(app) == PLACEHOLDER


def test_a_run_that_fails_says_why(open_page, store_root, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(store_root, store)
    app = go_to(open_page(store=store, cohort="our-hospital"), "report")
    for manifest in (store / "our-hospital").glob("*/records.parquet"):
        manifest.write_bytes(b"cut")
    job = make(app)
    assert job.error is not None
    assert "records.parquet" in words(app)
    assert str(tmp_path) not in words(app)
    assert headline(app) == PLACEHOLDER


def test_neither_the_page_nor_the_report_says_where_the_store_lies(open_page, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    (store / "our-hospital" / "phantom-radiology" / "records.parquet").write_bytes(b"cut")
    app = go_to(open_page(store=store, cohort="our-hospital"), "report")
    make(app)
    made = app.session_state["report made"]
    assert "our-hospital/phantom-radiology/records.parquet was altered" in made.html
    assert str(tmp_path) not in made.html + twin(made.report) + command(app)


def test_a_report_waits_for_no_other_run_and_holds_up_none():
    import threading

    free = threading.Event()
    beside = jobs.start("short", "report", lambda progress: free.wait(20), beside=True)
    assert beside is not None
    assert jobs.running() is None
    long = jobs.start("long", "training", lambda progress: free.wait(20))
    assert long is not None
    assert jobs.start("short", "report", lambda progress: None, beside=True) is None
    assert jobs.running() is long
    assert jobs.start("another", "training", lambda progress: None).waiting
    free.set()
    assert long.wait(5)
    assert beside.wait(5)


def test_what_may_be_left_out_has_a_pill():
    from linkage_core.report.names import OPTIONAL

    assert tuple(report_page.PILLS) == OPTIONAL
