"""Risk by pool size: the tabs, decoys with the same findings, and cohorts that cannot have them."""

from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from helpers import fixture_store
from linkage_core import sentences
from linkage_core.audit import ceilings, compare, strata
from linkage_core.audit import study as audit
from linkage_core.cohorts.base import LABELS
from linkage_core.store.entry import LADDER, Store

from .conftest import buttons, go_to, headline, words


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """The fixture's cohorts where patients share findings; one without labels, one with models of different records."""
    root = tmp_path_factory.mktemp("labelled")
    store = Store(root)

    def fill(name, models, n=400, synthetic=False, **columns):
        made = fixture_store.cohort(name, n, synthetic=synthetic, seed=0)
        study = made.records["study_id"].str[-4:].astype(int)
        labels = dict.fromkeys(LABELS, np.nan) | {LABELS[7]: (study // 2 % 5 % 3).astype(float)}
        made = replace(made, records=made.records.assign(**labels).assign(**columns))
        for i, (model, signal) in enumerate(models.items()):
            fixture_store.fill(store, made, model, signal, seed=i + 1)

    fill("phantom", fixture_store.SIGNAL, synthetic=True)
    fill("no-labels", {"clip": 0.5}, n=80, sex="", age=np.nan, view="", **dict.fromkeys(LABELS, np.nan))
    fill("mixed", {"clip": 0.4, "our-model": 0.8}, n=120, view="PA")
    fill("mixed", {"other": 0.8}, n=100)
    fill("few", {"clip": 0.4, "our-model": 0.8}, n=40)
    return root


@pytest.fixture
def risk(open_page, labelled):
    def risk(**query):
        app = go_to(open_page(store=labelled, **query), "risk")
        assert not app.exception
        return app

    return risk


def studied(root, model="phantom-radiology", cohort="phantom", **options):
    return audit.study(Store(root).open(cohort, model), **options)


def compared(root, n, k=1):
    return compare.compare([studied(root, model) for model in LADDER], n, k)


def test_only_the_open_tab_is_drawn_and_the_url_names_it(risk):
    for tab, picture in (("curve", "Measure"), ("compare", "McNemar"), ("decoys", "Are the decoys really alike?")):
        app = risk(tab=tab)
        assert len(app.get("plotly_chart")) == 1
        said = words(app) + str([c.label for c in app.get("segmented_control")]) + str([s.value for s in app.header])
        assert picture in said
    assert app.query_params["tab"] in ("decoys", ["decoys"])


@pytest.mark.parametrize("query", [{"tab": "<b>"}, {"decoys": "1"}, {"alike": "view,weight"}, {"alike": ","}])
def test_rubbish_is_the_default(risk, query):
    app = risk(**query)
    assert headline(app).startswith("At N = 100:")
    assert buttons(app, "risk decoys").value == "any"
    assert not set(query) & set(app.query_params)


# -- models compared -------------------------------------------------------------------------------------------------


def test_the_chosen_model_against_the_next_one_below(risk, labelled):
    row = compared(labelled, 100).iloc[-1]
    assert (row["model_a"], row["model_b"]) == ("phantom-clinical", "phantom-radiology")
    said = headline(risk(tab="compare"))
    assert said.startswith(f"Radiology links {row['difference'] * 100:.0f} more of 100 images than Clinical.")
    assert sentences.difference_interval(row["low"], row["high"], 100) in said
    assert f"n = {row['n_queries']} images of {row['n_patients']} patients" in said
    assert "adjusted for 6 pairs" in said


def test_the_lowest_model_against_the_next_one_above(risk, labelled):
    app = risk(tab="compare", model="phantom-general", N=50)
    row = compared(labelled, 50).iloc[0]
    assert row["low"] > 0
    assert headline(app).startswith(
        f"General links {sentences.of(abs(row['difference']), 100).replace(' of', ' fewer of')} images than Biomedical."
    )
    low, high = -row["high"] * 100, -row["low"] * 100
    assert f"\u2212{abs(low):.0f} to \u2212{abs(high):.0f} of 100" in headline(app)


def test_the_details_hold_all_pairs_with_their_tests(risk, labelled):
    table = risk(tab="compare", N=20, k=5).dataframe[0].value.set_index(["first", "second"])
    expected = compared(labelled, 20, 5)
    assert len(table) == 6
    assert table.index[0] == ("Radiology", "Clinical")
    row = expected[(expected["model_a"] == "phantom-general") & (expected["model_b"] == "phantom-clinical")].iloc[0]
    shown = table.loc[("Clinical", "General")]
    assert shown["more linked, of 100"] == pytest.approx(row["difference"] * 100, abs=1e-3)
    for column, name in (("adjusted p", "p_holm"), ("p", "p"), ("McNemar p", "p_mcnemar")):
        assert shown[column] == pytest.approx(row[name], abs=1e-5)


def test_one_model_is_a_sentence(risk):
    app = risk(tab="compare", cohort="no-labels", N=10)
    assert headline(app) == "clip is the only model here: there is nothing to compare it with."
    assert not app.get("plotly_chart")


def test_models_of_other_records_are_named(risk):
    app = risk(tab="compare", cohort="mixed", model="our-model", N=20)
    assert headline(app).startswith("our-model links")
    assert "other is not shown. It was given other images or reports." in words(app)
    app = risk(tab="compare", cohort="mixed", model="other", N=20)
    assert headline(app) == "No other model was given the same images and reports as other."


def test_few_patients_are_not_compared(risk):
    app = risk(tab="compare", cohort="few", N=10)
    assert headline(app).startswith("Too few to say (n = ")
    assert not app.get("plotly_chart")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"N": 4, "k": 5}, "The first 5 of N = 4 is everything. Choose a larger N or a smaller k."),
        ({"N": 1}, "With one report in the pool every model is right. Choose a larger N."),
    ],
)
def test_what_cannot_be_compared_is_said_and_a_control_brings_it_back(risk, query, said):
    app = risk(tab="compare", **query)
    assert headline(app) == said
    app.number_input[0].set_value(20).run()
    assert "of 100 images" in headline(app)
    assert app.get("plotly_chart")


# -- decoys with the same findings -----------------------------------------------------------------------------------


def test_same_findings_change_the_number_the_slider_and_say_who_is_left_out(risk, labelled):
    app = risk()
    buttons(app, "risk decoys").set_value("same").run()
    made = studied(labelled, pool="same-findings")
    row = made.table([100], [1]).iloc[0]
    assert row["n_excluded"] > 0
    assert headline(app).startswith(f"At N = 100: {row['recall'] * 100:.0f} of 100 images.")
    share = round(100 * row["n_excluded"] / len(made.queries))
    assert f"left out: {share} of 100 images have fewer than 99 such decoys" in headline(app)
    largest = strata.fillable_pool(made.counts, made.queries["patient_id"].to_numpy())
    assert app.select_slider[0].options == [f"{n:,}" for n in strata.pool_steps(largest)]
    assert app.query_params["decoys"] in ("same", ["same"])
    assert set(app.dataframe[0].value["left out"]) != {0}
    app.number_input[0].set_value(5000).run()
    assert headline(app).startswith(f"At N = {strata.pool_steps(largest)[-1]}:")
    assert "N = 5,000 cannot be shown here" in headline(app)


def test_more_is_matched_by_link_and_by_pills(risk, labelled):
    app = risk(decoys="same", alike="age,sex", N=10)
    assert app.query_params["alike"] in ("sex,age", ["sex,age"])
    made = studied(labelled, pool="same-findings", strata=("sex", "age"))
    row = made.table([10], [1]).iloc[0]
    assert f"n = {row['n_queries']:,} images" in headline(app)
    assert "decoys with the same findings, sex and decade of age" in headline(app)
    pills = app.get("pills") or app.get("button_group")
    next(node for node in pills if node.key.startswith("risk alike")).set_value(["sex"]).run()
    assert not app.exception
    assert app.query_params["alike"] in ("sex", ["sex"])
    n_queries = studied(labelled, pool="same-findings", strata=("sex",)).table([10], [1])["n_queries"].iloc[0]
    assert f"n = {n_queries:,} images" in headline(app)


def test_models_are_compared_on_same_finding_decoys_too(risk, labelled):
    said = headline(risk(tab="compare", decoys="same", N=100))
    studies = [studied(labelled, model, pool="same-findings") for model in LADDER]
    row = compare.compare(studies, 100, 1).iloc[-1]
    assert said.startswith(f"Radiology links {row['difference'] * 100:.0f} more of 100 images than Clinical.")
    assert f"n = {row['n_queries']} images" in said
    assert "left out:" in said


def test_the_match_against_a_decoy_and_both_curves_at_n(risk, labelled):
    app = risk(tab="decoys", N=20)
    made = studied(labelled, pool="same-findings")
    auc = made.label_matched_auc()
    said = headline(app)
    beaten = f"{auc['estimate'] * 100:.0f} of 100 times; a coin 50."
    assert said.startswith(f"Among patients with the same findings the match beats a decoy {beaten}")
    assert f"n = {auc['n']} images of {auc['n_patients']} patients" in said
    table = compare.of_pools([studied(labelled), made], [20], 1)
    plain, alike = table["recall"] * 100
    assert f"at N = 20: {alike:.0f} of 100 linked among such decoys, {plain:.0f} among reports of any patients" in said


def test_what_is_still_unequal_is_in_the_table_and_no_text_is(risk):
    said = words(risk(tab="decoys", alike="sex", N=20))
    assert "Words in common, of those in either report" in said
    assert "report text is not at hand here" not in said
    assert "matched on: the same sex" in said
    assert "Unlike study" not in said  # in every other report of the fixture
    assert "reports fall into" in said


def test_strata_that_a_cohort_does_not_know_are_not_offered(risk):
    app = risk(tab="decoys", cohort="mixed", model="our-model", alike="view", N=10)
    pills = next(n for n in (app.get("pills") or app.get("button_group")) if n.key.startswith("risk alike"))
    assert "View" not in pills.options
    assert "Sex" in pills.options
    assert "matched on" not in words(app)


@pytest.mark.parametrize("query", [{"tab": "decoys"}, {"tab": "curve", "decoys": "same"}, {"tab": "compare"}])
def test_without_labels_there_is_a_card_and_a_way_back(risk, query):
    app = risk(cohort="no-labels", N=10, **query)
    if query["tab"] != "compare":
        assert words(app).count('role="alert"') == 1
        assert "Give label columns" in words(app)
    if query["tab"] == "curve":
        buttons(app, "risk decoys").set_value("any").run()
        assert headline(app).startswith("At N = 10:")


def test_few_patients_with_decoys_are_too_few_to_say(risk):
    assert "Too few to say" in headline(risk(tab="decoys", cohort="few", N=2))
    app = risk(decoys="same", cohort="few", N=2)
    assert headline(app).startswith("Too few to say (n = ")


def test_files_of_every_tab(risk):
    for tab, labels in (
        ("compare", ["Table (CSV)", "Picture (SVG)"]),
        ("decoys", ["Curves (CSV)", "Still unequal (CSV)", "Picture (SVG)"]),
    ):
        assert [button.label for button in risk(tab=tab, N=20).get("download_button")] == labels


# -- ceilings --------------------------------------------------------------------------------------------------------


def test_below_the_headline_stands_what_nobody_passes_by_the_reports(risk, labelled):
    study = studied(labelled)
    queries, vectors = study.queries, ceilings.by_vectors(study.entry)
    text, findings = (ceilings.ceiling(queries, ceilings.KNOWN[name]) for name in ("text", "findings"))
    said = words(risk(N=50, k=5))
    assert escape(ceilings.text_says(text.mean(50, 5), text.shared, 100, k=5, vectors=vectors)) in said
    assert ceilings.findings_say(findings.mean(50, 5), 100, k=5) in said
    assert "nobody can" in said
    assert "nobody can" not in words(risk(decoys="same"))  # another game
    said = words(risk(cohort="no-labels", N=10))
    assert "nobody can link more than" in said
    assert "No record has labels" in said


def test_only_a_synthetic_cohort_is_held_against_reality(open_page, labelled):
    assert "How unlike reality?" in words(open_page(store=labelled))
    assert "How unlike reality?" not in words(open_page(store=labelled, cohort="few"))
