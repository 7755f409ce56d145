"""Risk by pool size: slider and box set each other, the sentence follows, the files say what the page says."""

import shutil

import pytest

from explorer.frame import page
from linkage_core.audit.study import study
from linkage_core.store.entry import Store

from .conftest import buttons, go_to, headline, last_line, words


@pytest.fixture
def risk(open_page):
    def risk(**query):
        return go_to(open_page(**query), "risk")

    return risk


def test_the_slider_sets_the_box_and_the_sentence(risk, store_root):
    app = risk()
    app.select_slider[0].set_value(200).run()
    assert app.number_input[0].value == 200
    row = study(Store(store_root).open("phantom", "phantom-radiology")).table([200], [1]).iloc[0]
    assert headline(app).startswith(f"At N = 200: {row['recall'] * 1000:.0f} of 1,000 images. Guessing: 5 of 1,000.")
    assert app.query_params["N"] in ("200", ["200"])


def test_the_box_sets_the_slider_which_offers_what_was_typed(risk):
    app = risk()
    app.number_input[0].set_value(137).run()
    assert app.select_slider[0].value == 137
    assert headline(app).startswith("At N = 137:")
    app.number_input[0].set_value(160).run()
    assert app.select_slider[0].value == 160
    assert "137" not in app.select_slider[0].options
    app.select_slider[0].set_value(50).run()
    assert app.number_input[0].value == 50
    assert headline(app).startswith("At N = 50:")


def test_a_pool_too_large_is_answered_with_the_largest(risk):
    app = risk()
    app.number_input[0].set_value(5000).run()
    assert not app.exception
    assert headline(app).startswith("At N = 399:")
    assert headline(app).endswith("N = 5,000 cannot be shown here: this is N = 399")
    assert app.query_params["N"] in ("399", ["399"])
    assert app.number_input[0].value == 399
    assert app.get("plotly_chart")
    app.number_input[0].set_value(398).run()
    assert headline(app).startswith("At N = 398:")
    assert "cannot be shown" not in headline(app)


def test_k_larger_than_n_is_said(risk):
    app = risk()
    buttons(app, "risk k").set_value(10).run()
    app.number_input[0].set_value(4).run()
    assert not app.exception
    assert "Choose a larger N or a smaller k" in headline(app)


def test_k_changes_the_count_and_guessing(risk):
    app = risk()
    buttons(app, "risk k").set_value(5).run()
    assert "Guessing: 5 of 100." in headline(app)
    assert "among the first 5" in headline(app)


def test_the_smallest_pool_is_certain(risk):
    app = risk()
    app.number_input[0].set_value(1).run()
    assert not app.exception
    assert headline(app).startswith("At N = 1: 100 of 100 images. Guessing: 100 of 100.")


def test_each_measure_draws(risk):
    app = risk()
    for measure in ("lift", "rank", "recall"):
        buttons(app, "risk measure").set_value(measure).run()
        assert not app.exception
        assert app.get("plotly_chart")


def test_the_exact_table_has_every_model_at_the_chosen_n(risk):
    app = risk()
    app.number_input[0].set_value(137).run()
    rows = app.dataframe[0].value
    assert set(rows[rows["N"] == 137]["model"]) == {"General", "Biomedical", "Clinical", "Radiology"}
    assert (rows["low"] <= rows["Recall@k"]).all()
    assert (rows["Recall@k"] <= rows["high"]).all()


def test_another_cohort_keeps_a_model_it_shares_and_drops_one_it_has_not(risk):
    app = risk(model="phantom-radiology")
    app.sidebar.selectbox[0].set_value("our-hospital").run()
    assert not app.exception
    assert buttons(app, "risk model").value in ("phantom-radiology", "hf--ORG--our-model")
    buttons(app, "risk model").set_value("hf--ORG--our-model").run()
    app.sidebar.selectbox[0].set_value("phantom").run()
    assert not app.exception
    assert buttons(app, "risk model").value == "phantom-radiology"


def test_a_model_that_is_damaged_is_named_and_another_one_works(risk, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    (store / "phantom" / "phantom-radiology" / "records.parquet").write_bytes(b"")
    app = risk(store=store)
    assert not app.exception
    assert words(app).count('role="alert"') == 1
    assert app.get("plotly_chart")
    buttons(app, "risk model").set_value("phantom-general").run()
    assert headline(app).startswith("At N = 100:")
    assert "Radiology is not shown." in words(app)


def test_both_files_are_offered(risk):
    labels = [button.label for button in risk().get("download_button")]
    assert labels == ["Table (CSV)", "Picture (SVG)"]


def test_file_names_are_plain():
    assert page.file_name("risk", "../évil cohort", "k1") == "linkage-risk-vil-cohort-k1"


def test_the_page_ends_with_what_it_cannot_tell(risk):
    assert last_line(risk()).startswith("Cannot tell:")


def test_words_of_the_details_are_there(risk):
    for word in ("Recall@k", "Lift", "Reciprocal rank", "95% interval"):
        assert word in words(risk())
