"""Start: the answer follows the pool size and the model, and what is wrong takes its place in a card."""

import shutil

import pytest

from helpers.toy import fill, toy_cohort, two_each
from linkage_core.audit.study import study
from linkage_core.sentences import interval, of
from linkage_core.store.entry import Store

from .conftest import buttons, go_to, headline, words


def rate(store_root, cohort, model, pool_size):
    return study(Store(store_root).open(cohort, model)).table([pool_size], [1]).iloc[0]


def test_it_opens_with_the_most_specialised_model_at_one_hundred(open_page, store_root):
    app = open_page()
    row = rate(store_root, "phantom", "phantom-radiology", 100)
    assert not app.exception
    assert headline(app).startswith(f"{row['recall'] * 100:.0f} of 100 images are linked to the right report.")
    assert "Guessing would link 1 of 100." in headline(app)
    assert "measured on 500 images" in headline(app)


def test_another_model_changes_the_answer_and_the_url(open_page, store_root):
    app = open_page()
    buttons(app, "start model").set_value("phantom-general").run()
    row = rate(store_root, "phantom", "phantom-general", 100)
    assert headline(app).startswith(f"{of(row['recall'], 100)} images")
    assert app.query_params["model"] == ["phantom-general"] or app.query_params["model"] == "phantom-general"
    buttons(app, "start model").set_value("phantom-clinical").run()
    assert f"{rate(store_root, 'phantom', 'phantom-clinical', 100)['recall'] * 100:.0f} of 100" in headline(app)


def test_the_array_holds_as_many_dots_as_the_sentence_says(open_page):
    app = open_page()
    html = words(app)
    assert html.count("le-dot le-on") == int(headline(app).split()[0])
    assert html.count("le-guess") >= 1


def test_model_and_pool_size_go_along_to_another_page(open_page):
    app = open_page(N=50)
    buttons(app, "start model").set_value("phantom-clinical").run()
    go_to(app, "risk")
    assert headline(app).startswith("At N = 50:")
    assert buttons(app, "risk model").value == "phantom-clinical"
    assert app.query_params["N"] in ("50", ["50"])
    go_to(app, "start")
    assert buttons(app, "start model").value == "phantom-clinical"


@pytest.mark.parametrize(
    "rubbish",
    [
        {"N": "abc"},
        {"N": "-5"},
        {"N": "0"},
        {"N": "1e3"},
        {"N": "99999999999999999999"},
        {"N": "१००"},
        {"model": "<script>alert(1)</script>"},
        {"model": "../../etc"},
        {"cohort": "nobody"},
        {"k": "7"},
        {"measure": "risk%"},
        {"record": "x" * 3000},
        {"unknown": "1"},
    ],
)
@pytest.mark.parametrize("page", ["start", "risk"])
def test_rubbish_in_the_url_falls_back(open_page, rubbish, page):
    app = open_page(**rubbish)
    if page != "start":
        go_to(app, page)
    assert not app.exception
    assert "Guessing" in headline(app)
    assert "script" not in words(app)


def test_a_small_cohort_offers_what_its_pool_holds(open_page):
    app = open_page(cohort="our-hospital")
    control = buttons(app, "start N")
    assert control.options == ["10", "59"]
    assert control.value == 59
    assert "images" in headline(app)
    assert "N = 100 cannot be shown here: this is N = 59" in headline(app)
    assert app.query_params["N"] in ("59", ["59"])
    app.sidebar.selectbox[0].set_value("phantom").run()
    assert buttons(app, "start N").value == 100, "what was asked for is shown where it can be"
    assert "N" not in app.query_params
    assert "cannot be shown" not in headline(app)


def test_any_n_of_a_link_is_shown_and_offered(open_page, store_root):
    app = open_page(N=137)
    assert "137" in buttons(app, "start N").options
    assert headline(app).startswith(of(rate(store_root, "phantom", "phantom-radiology", 137)["recall"], 1000))
    assert app.query_params["N"] in ("137", ["137"])


def test_a_few_images_are_a_number_that_says_how_far_off_it_could_be(open_page, tmp_path):
    """22 studies are answered, not greeted with too few."""
    records = two_each("few", 11)
    store = Store(tmp_path / "store")
    fill(store, toy_cohort("few", records), "m", 1.0, 3)
    row = study(store.open("few", "m")).table([21], [1]).iloc[0]
    app = open_page(store=tmp_path / "store")
    assert not app.exception
    assert headline(app).startswith(of(row["recall"], 100))
    ends = interval(row["recall_low"], row["recall_high"], 100)
    assert f"Only 22 images of 11 patients: with others it could be {ends}." in headline(app)
    assert row["recall_high"] - row["recall_low"] > 0.2


def test_one_rung_is_no_ladder(open_page, store_root, tmp_path):
    assert open_page().header[0].value.startswith("The more a model has seen")
    entry = tmp_path / "store" / "phantom" / "phantom-radiology"
    shutil.copytree(store_root / "phantom" / "phantom-radiology", entry)
    assert open_page(store=tmp_path / "store").header[0].value == "What each model links"


def test_an_altered_file_is_named_and_the_rest_works(open_page, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    entry = store / "phantom" / "phantom-radiology"
    shutil.rmtree(entry / "ranks", ignore_errors=True)
    records = entry / "records.parquet"
    records.write_bytes(records.read_bytes()[:-7] + b"altered")
    app = open_page(store=store)
    assert not app.exception
    assert "records.parquet" in words(app)
    assert 'role="alert"' in words(app)
    assert len(app.get("page_link")) == 4
    buttons(app, "start model").set_value("phantom-clinical").run()
    assert "Guessing would link 1 of 100." in headline(app)


def test_a_manifest_cut_short_is_named(open_page, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    manifest = store / "phantom" / "phantom-general" / "manifest.json"
    manifest.write_text(manifest.read_text()[: len(manifest.read_text()) // 2])
    app = open_page(store=store)
    assert not app.exception
    assert "Guessing would link 1 of 100." in headline(app)
    assert "General is not shown." in words(app)


def test_an_entry_that_is_made_again_is_read_again(open_page, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    app = open_page(store=store)
    before = headline(app)
    there = store / "phantom"
    shutil.rmtree(there / "phantom-radiology")
    shutil.copytree(there / "phantom-general", there / "phantom-radiology")
    assert headline(app.run()) != before


@pytest.mark.parametrize("page", ["start", "risk"])
def test_nothing_loaded_says_so_with_the_command(open_page, tmp_path, page):
    (tmp_path / "empty").mkdir()
    app = open_page(store=tmp_path / "empty")
    if page != "start":
        go_to(app, page)
    assert not app.exception
    assert "Nothing is loaded" in words(app)
    assert "linkage phantom build" in [code.value for code in app.code]


def test_a_store_that_does_not_exist_is_no_traceback(open_page, tmp_path):
    app = open_page(store=tmp_path / "nowhere")
    assert not app.exception
    assert "Nothing is loaded" in words(app)


def test_what_identifies_in_an_own_cohort_is_said_and_of_the_phantom_nothing(open_page, store_root, tmp_path):
    app = open_page(cohort="our-hospital")
    assert "Checked for identifiers: 75 records, nothing found." in words(app)
    assert "Not looked for: anything in images, for there are none;" in words(app)
    assert "identifiers" not in words(open_page())
    records = two_each("named", 20)
    records["report"] = [f"Report {i}, told to Dr. Quagga." for i in range(len(records))]
    store = Store(tmp_path / "store")
    fill(store, toy_cohort("named", records), "m", 1.0, 3)
    app = open_page(store=tmp_path / "store")
    assert "<b>Checked for identifiers: 40 records, 40 with a person" in words(app)
    assert "Quagga" not in words(app)
