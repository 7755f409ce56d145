"""Missing match: the sentence is the core's, what cannot be reached or told is said, the pictures add up."""

from __future__ import annotations

import math
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.drawing import downloads, palette
from explorer.frame import kept
from explorer.risk import missing_match
from linkage_core.audit import open_world
from linkage_core.audit.outcomes import OpenWorld, Outcomes
from linkage_core.store.entry import LADDER, Entry, Store

from .conftest import buttons, headline, last_line, words

MODEL = "phantom-radiology"
PAGE = "missing-match"


@pytest.fixture(scope="module")
def core(store_root: Path) -> Callable[..., Outcomes]:
    """The core's own answer, kept for the module."""
    prepared = {model: open_world.prepare(Store(store_root).open("phantom", model)) for model in LADDER}
    return lambda pool_size, model=MODEL, rule="score": prepared[model].outcomes(pool_size, rule)


@pytest.fixture
def page(open_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    return lambda **query: open_page(PAGE, **query)


def arrays(app: AppTest) -> list[dict[str, int]]:
    """Discs, crosses and small dots of each picture of 100."""
    blocks = re.findall(r'<div class="mm-array".*?</div>', words(app), flags=re.S)
    kinds = ("mm-right", "mm-wrong", "mm-none")
    return [{kind: block.count(f'<i class="{kind}">') for kind in kinds} for block in blocks]


def test_the_sentence_is_the_core_s(page, core):
    app = page(N=10, wanted=80)
    assert not app.exception
    told = core(10).at(0.5).operating.set_index("wanted_precision")
    row, always = told.loc[0.8], told.loc[0.0]
    assert headline(app).startswith(
        f"An attacker who wants to be right 80 of 100 times can answer for {100 * row['links']:.0f} of 100 images. "
        f"Of 100 such answers {100 * row['precision']:.0f} are right "
        f"({100 * row['precision_low']:.0f} to {100 * row['precision_high']:.0f}). "
        f"Answering always: {100 * always['precision']:.0f}. Guessing: 5."
    )
    ends = f"95% interval {100 * row['links_low']:.0f} to {100 * row['links_high']:.0f} of 100"
    assert f"{ends} · n = {row['n_images']} images of {row['n_patients']} patients" in headline(app)
    right, wrong = (round(100 * always[name]) for name in ("linked_rightly", "linked_wrongly"))
    assert arrays(app)[0] == {"mm-right": right, "mm-wrong": wrong, "mm-none": 0}
    assert sum(arrays(app)[1].values()) == 100
    assert arrays(app)[1]["mm-none"] == 100 - round(100 * row["links"])


def test_a_cohort_too_large_to_wait_for_is_said_with_its_command(page, monkeypatch):
    monkeypatch.setattr(kept, "MOST_COUNTED", 10)
    monkeypatch.setattr(Entry, "read_arrays", lambda *_: None)
    app = page()
    assert not app.exception
    assert "was not counted yet" in words(app)
    assert "linkage audit phantom/phantom-radiology --open-world" in words(app)


def test_the_prior_moves_sentence_and_url(page, core):
    app = page(N=10, wanted=50)
    app.slider[0].set_value(90).run()
    assert app.query_params["prior"] in ("90", ["90"])
    row = core(10).at(0.9).operating.set_index("wanted_precision").loc[0.5]
    assert f"can answer for {100 * row['links']:.0f} of 100 images." in headline(app)
    assert "report in the pool for 90 of 100" in headline(app)
    assert "Guessing: 9." in headline(app)


def test_where_the_report_is_never_there_no_answer_is_right(page):
    app = page(prior=0)
    assert not app.exception
    assert headline(app).startswith("Where the right report is never in the pool, no answer can be right.")
    assert arrays(app) == [
        {"mm-right": 0, "mm-wrong": 100, "mm-none": 0},
        {"mm-right": 0, "mm-wrong": 0, "mm-none": 100},
    ]
    assert app.get("plotly_chart")


def test_a_precision_that_no_threshold_reaches_is_said_with_the_best_there_is(page, core):
    app = page(model="phantom-general", N=50)
    best = core(50, "phantom-general").at(0.5).operating["best"].iloc[0]
    assert best < 0.9
    assert "can answer for no image . " in headline(app)
    assert f"Of 100 answers at best {100 * best:.0f} are right." in headline(app)
    assert arrays(app)[1] == {"mm-right": 0, "mm-wrong": 0, "mm-none": 100}


def test_a_small_cohort_is_too_few_to_say(page):
    app = page(cohort="our-hospital")
    assert not app.exception
    assert headline(app).startswith("Too few to say: the choosing half has 15 patients, fewer than 30.")
    assert "interval" not in headline(app)
    assert words(app).count("<p>too few to say</p>") == 2
    assert "linked rightly" not in re.sub(r"<[^>]+>", "", "".join(str(node.proto.body) for node in app.get("html")))
    assert app.get("plotly_chart")


def test_the_rule_is_chosen_in_its_own_box_and_its_error_is_told(page, core):
    app = page(N=10)
    assert "nothing is drawn" in words(app)
    buttons(app, "missing rule").set_value("margin").run()
    assert not app.exception
    assert app.query_params["rule"] in ("margin", ["margin"])
    outcomes = core(10, rule="margin")
    assert f"draws {outcomes.pools_a_query:,} pools an image" in words(app)
    assert f"{100 * outcomes.monte_carlo_error:.3f} of 100" in words(app)
    assert outcomes.monte_carlo_error > 0


def test_rubbish_falls_back(page):
    app = page(prior="101", wanted="70", rule="luck<b>", N="many")
    assert not app.exception
    assert re.search("wants to be right (50|80|90) of 100 times", headline(app))
    assert "N = 100 · report in the pool for 50 of 100" in headline(app)
    for name in ("prior", "wanted", "rule"):
        assert name not in app.query_params
    for prior in ("-1", "007", "5.5", "٣"):
        assert "report in the pool for 50 of 100" in headline(page(prior=prior))


def test_a_pool_without_the_match_has_one_report_less(page):
    app = page(N=399)
    assert not app.exception
    assert app.select_slider[0].value == 398
    assert "N = 398" in headline(app)
    assert "N = 399 cannot be shown here: this is N = 398" in headline(app)
    assert app.query_params["N"] in ("398", ["398"])


def test_a_model_that_is_damaged_is_named_and_another_one_works(page, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    (store / "phantom" / MODEL / "records.parquet").write_bytes(b"")
    app = page(store=store)
    assert not app.exception
    assert words(app).count('role="alert"') == 1
    assert last_line(app).startswith("Cannot tell:")
    buttons(app, "missing model").set_value("phantom-general").run()
    assert "An attacker" in headline(app)


def test_the_table_has_every_wanted_precision_and_n_of_both_halves(page, core):
    app = page(N=10)
    rows = app.dataframe[0].value
    assert rows["wants to be"].tolist() == ["always answers", "right 50 of 100", "right 80 of 100", "right 90 of 100"]
    world = core(10).at(0.5)
    for images, patients in (world.n_choosing, world.n_test):
        assert f"({images:,} images of {patients:,} patients)" in words(app)
    for word in ("ISO/IEC 19795-1", "DIR", "FPIR", "No image is left out"):
        assert word in words(app)


def test_files_are_offered_and_say_what_was_asked(page, core):
    labels = [button.label for button in page().get("download_button")]
    assert labels == ["Thresholds chosen (CSV)", "Curve (CSV)", "Picture (SVG)"]
    asked = {"synthetic": True, "cohort": "phantom", "rule": "score", "prior": 0.5}
    filed = missing_match.filed(core(10).at(0.5).operating, asked)
    assert filed.columns[:4].tolist() == list(asked)
    assert filed.columns.is_unique
    assert set(filed["synthetic"]) == {True}
    assert len(filed) == 4


def test_the_page_ends_with_what_it_cannot_tell(page):
    assert "not measured" in last_line(page())


# -- words and pictures alone ----------------------------------------------------------------------------------------


def test_counts_of_a_picture_add_up_and_agree_with_the_headline():
    rng = np.random.default_rng(0)
    for links in [*rng.random(300), *(rng.random(300) / 50), 0.0, 1.0, 0.0099999, 0.995]:
        right = links * rng.choice([0.0, rng.random(), 1.0])
        rightly, wrongly, silent = missing_match.shares(right, links)
        assert rightly + wrongly + silent == 100
        assert min(rightly, wrongly, silent) >= 0
        assert rightly + wrongly == missing_match.whole(links, 100)
        assert abs(rightly - 100 * right) <= (0.5 if rightly + wrongly else 1) + 1e-9


def answered(world: OpenWorld, prior: int, wanted: int, **changed: object) -> tuple | str:
    """The words with some figures of the wanted row replaced."""
    operating = world.operating.copy()
    here = operating["wanted_precision"] == wanted / 100
    for name, value in changed.items():
        operating.loc[here, name] = value
    made = OpenWorld(**{**world.__dict__, "operating": operating})
    return missing_match.answer(made, prior, wanted)


def test_few_linked_patients_give_a_bound_or_no_number(core):
    world = core(10).at(0.5)
    few = {"n_linked": 3, "links": 0.0001, "links_high": 0.0004}
    _, count, _, line = answered(world, 50, 80, **few)
    assert count == "fewer than 1 of 100"
    assert line.startswith("Of 100 such answers: too few to say (n = 3 patients). Answering always:")
    many = answered(world, 50, 80, n_linked=3, links=0.05, links_high=0.08)
    assert many == "Too few to say: 3 patients of the test half are ever linked rightly."


def test_a_best_precision_just_under_the_wanted_one_does_not_read_as_reached(core):
    world = core(10).at(0.5)
    said = answered(world, 50, 80, reached=False, best=0.7999)
    assert "at best 79 are right" in said[3]
    assert "at best 0 are right" in answered(world, 50, 80, reached=False, best=0.0)[3]


def test_rare_hits_are_counted_out_of_more(core):
    world = core(10).at(0.5)
    operating = world.operating.copy()
    operating.loc[operating["wanted_precision"] == 0, "precision"] = 0.0004
    operating.loc[operating["wanted_precision"] == 0.9, ["reached", "best"]] = [False, 0.0021]
    line = missing_match.answer(OpenWorld(**{**world.__dict__, "operating": operating}), 50, 90)[3]
    assert line == "Of 10,000 answers at best 21 are right. Answering always: 4. Guessing: 500."


def drawn(world: OpenWorld, wanted: int = 80, model: str = MODEL, label: str = "Radiology", prior: int = 50):
    style = palette.LIGHT.styles(list(LADDER))[model]
    return missing_match.tradeoff(world, prior=prior, wanted=wanted, style=style, label=label, palette=palette.LIGHT)


@pytest.mark.parametrize("model", LADDER)
@pytest.mark.parametrize("pool_size", [10, 398])
@pytest.mark.parametrize("prior", [1, 50, 100])
def test_every_curve_stays_inside_its_axes(core, model, pool_size, prior):
    world = core(pool_size, model).at(prior / 100)
    figure = drawn(world, model=model, prior=prior)
    low, high = figure.layout.xaxis.range
    bottom, top = figure.layout.yaxis.range
    for trace in figure.data:
        assert all(low <= math.log10(x) <= high + 1e-9 for x in trace.x)
        assert all(bottom <= y <= top for y in trace.y)
    assert len(figure.layout.yaxis.tickvals) >= 3
    assert max(figure.layout.yaxis.tickvals) <= top
    assert len(set(figure.layout.yaxis.ticktext)) == len(figure.layout.yaxis.ticktext)
    line = next(trace for trace in figure.data if trace.name == "Radiology")
    assert (np.diff(line.x) >= 0).all()
    assert (np.diff(line.y) >= -1e-12).all()
    notes = " ".join(note.text for note in figure.layout.annotations)
    for word in ("DIR", "FPIR", "log scale", "95% interval", "n = 252 images", "guessing"):
        assert word in notes


def test_the_chosen_point_stands_at_its_threshold(core):
    world = core(10).at(0.5)
    row = world.operating.set_index("wanted_precision").loc[0.8]
    here = world.curve[world.curve["threshold"] == row["threshold"]].iloc[0]
    figure = drawn(world)
    point = next(trace for trace in figure.data if trace.name == "right 80%")
    assert (point.x[0], point.y[0]) == (here["fpir"], here["dir"])
    assert point.marker.size == 13
    assert [shape.x0 for shape in figure.layout.shapes] == [here["fpir"]]
    assert not drawn(world, prior=0).layout.shapes


def test_guessing_is_right_one_nth_as_often_as_it_answers(core):
    guess = next(trace for trace in drawn(core(50).at(0.5)).data if trace.name == "guessing")
    assert np.allclose(np.array(guess.y) * 50, guess.x)


def tied(note: str = "") -> OpenWorld:
    ones = np.ones((120, 4))
    patient = np.arange(120)
    table = open_world.scores(ones, ones, patient, query_group=patient, candidate_group=patient)
    return OpenWorld(**{**table.outcomes(10).at(0.5).__dict__, "note": note})


def test_a_scorer_that_ties_everything_is_drawn_on_the_guessing_line():
    figure = drawn(tied(), wanted=50)
    always = next(trace for trace in figure.data if trace.name == "right 0%")
    assert (always.x[0], always.y[0]) == pytest.approx((1.0, 1 / 10))
    said = missing_match.answer(tied(), 50, 50)
    assert "".join(said).endswith("no image.Of 100 answers at best 5 are right. Answering always: 5. Guessing: 5.")


def test_that_all_scores_tie_is_said_in_place_of_every_figure():
    world = tied("All scores tie.")
    said = missing_match.answer(world, 50, 50)
    assert said == "All scores tie: every answer is a guess, right 5 of 100 times."
    assert missing_match.answer(world, 0, 50) == "All scores tie."
    assert "all scores tie" in {each.text for each in drawn(world, wanted=50).layout.annotations}
    assert [trace.name for trace in drawn(world, wanted=50).data] == ["guessing"]
    picture = missing_match.arrays(missing_match.attackers(world, 50, 50), palette.LIGHT, missing_match.unsaid(world))
    assert picture.count("<p>all scores tie</p>") == 2


@pytest.mark.parametrize("label", ["Radiology", "<b>&mine</b>"])
def test_the_picture_can_be_filed_and_its_names_are_escaped(core, label):
    for world in (core(10).at(0.5), tied()):
        said = downloads.svg(drawn(world, label=label), title="t", subtitle="n")
        names = ["".join(node.itertext()) for node in ET.fromstring(said).iter("{http://www.w3.org/2000/svg}text")]
        assert label in names
        assert ("right 80 of 100 times" in names) == (len(world.curve) > 1)
    html = missing_match.arrays([(label, 0.05, 0.06), ("few", math.nan, math.nan)], palette.DARK)
    assert "<b>&mine" not in html
    assert html.count("<i class=") == 203


def test_readable_keeps_numbers_as_numbers(core):
    table = missing_match.readable(core(10).at(0.5))
    assert all(pd.api.types.is_numeric_dtype(table[name]) for name in ("answered", "right among answers", "no answer"))
