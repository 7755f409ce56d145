"""Who is exposed: the sentence is the core's, one record is always chosen, and what nobody recorded is said."""

from __future__ import annotations

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
from explorer.risk import exposed
from helpers import fixture_store
from linkage_core.audit import exposure
from linkage_core.audit.study import study
from linkage_core.cohorts.base import LABELS
from linkage_core.embed.embedding import import_arrays
from linkage_core.store.entry import Store

from .conftest import buttons, go_to, headline, last_line, words

MODEL = "phantom-radiology"
STYLE = palette.LIGHT.styles([MODEL])[MODEL]


@pytest.fixture
def page(open_page: Callable[..., AppTest]) -> Callable[..., AppTest]:
    """Opened as a link opens it: with its parameters on the page itself."""
    return lambda **query: open_page("exposure", **query)


def table_of(root: Path, pool_size: int, cohort: str = "phantom", model: str = MODEL) -> pd.DataFrame:
    return exposed.by_exposure(exposure.exposure(study(Store(root).open(cohort, model)), pool_size))


def rows(app: AppTest) -> pd.DataFrame:
    return app.dataframe[0].value


def test_the_sentence_is_the_core_s(page, store_root, monkeypatch):
    monkeypatch.setattr(exposure, "MIN_PATIENTS", 4)
    monkeypatch.setattr(exposure, "too_few", lambda n: pytest.fail(f"{n} patients are enough here"))
    app = page(N=200)
    found = table_of(store_root, 200)
    tail = exposure.tail(found["p_first"].to_numpy(), found["patient_id"].to_numpy())
    assert not app.exception
    middle = round(1000 * tail.middle)
    assert headline(app).startswith(
        f"The most exposed {tail.n_tail} of {len(found)} images come first in {1000 * tail.tail:,.0f} of 1,000 pools; "
        f"the middle one in {middle if middle else 'fewer than 1'} of 1,000."
    )
    assert f"n = {len(found)} images of 200 patients" in headline(app)
    assert "guessing: 5 of 1,000" in headline(app)
    assert "95% intervals" in headline(app)


def test_a_tail_of_few_patients_says_so_and_shows_no_number(page):
    app = page()
    assert "The most exposed 1 of 100 images: too few to say (n = 4)." in headline(app)
    assert "95% interval" not in headline(app)
    assert headline(app).startswith("Of 500 images the middle one comes first in")


def test_the_table_begins_with_the_most_exposed_and_one_is_chosen(page, store_root):
    app = page()
    found = table_of(store_root, 100)
    assert rows(app)["image"].tolist() == found["record_id"][:25].tolist()
    assert rows(app)["first"].tolist() == pytest.approx((found["p_first"][:25] * 100).tolist())
    assert app.query_params["record"] == found["record_id"][0]
    assert f"Number 1 of {len(found)}" in words(app)
    assert app.button(key="first").disabled
    assert app.button(key="rows before").disabled
    app.button(key="rows after").click().run()
    assert rows(app)["image"].tolist() == found["record_id"][25:50].tolist()
    assert app.query_params["record"] == found["record_id"][0], "to turn a page is not to choose"
    app.button(key="first").click().run()
    assert rows(app)["number"].tolist() == list(range(1, 26))


def test_the_last_rows_are_reached(page, store_root):
    found = table_of(store_root, 100)
    app = page(record=found["record_id"].iloc[-26])
    app.button(key="rows after").click().run()
    assert rows(app)["image"].tolist()[-1] == found["record_id"].iloc[-1]
    assert app.button(key="rows after").disabled


def test_a_link_to_a_record_brings_its_row(page, store_root):
    wanted = table_of(store_root, 100)["record_id"][130]
    app = page(record=wanted, N=100)
    assert wanted in rows(app)["image"].tolist()
    assert f"<bdi>{wanted}</bdi>" in words(app)
    assert "Number 131 of 500" in words(app)


def test_a_record_that_is_not_there_falls_back_to_the_most_exposed(page, store_root):
    app = page(record="no-such<img>", list="rubbish", group="hair")
    assert not app.exception
    assert app.query_params["record"] == table_of(store_root, 100)["record_id"][0]
    assert "list" not in app.query_params
    assert "group" not in app.query_params


def test_the_way_to_examples_and_back(page, store_root):
    wanted = table_of(store_root, 100)["record_id"][3]
    app = page(record=wanted, N=100, model="phantom-clinical")
    app.button(key="open in examples").click().run()
    assert not app.exception
    assert app.title[0].value.startswith("Which report does the model think")
    assert app.query_params["record"] == wanted
    assert app.query_params["model"] == "phantom-clinical"
    links = [node.proto.label for node in app.get("page_link")]
    assert links == ["Back to Who is exposed"]
    go_to(app, "exposure")
    assert app.query_params["record"] == wanted


def test_examples_alone_has_no_way_back(open_page):
    assert not open_page("examples").get("page_link")


@pytest.mark.parametrize("name", ["records", "with", "groups"])
@pytest.mark.parametrize("cohort", ["phantom", "our-hospital"])
def test_every_tab_draws_for_large_and_small_cohorts(page, name, cohort):
    app = page(list=name, cohort=cohort)
    assert not app.exception
    assert len(app.get("plotly_chart")) == {"records": 1, "with": 3, "groups": 2}[name]
    assert 'role="alert"' not in words(app)
    assert [button.label for button in app.get("download_button")] == ["Table (CSV)", "Picture (SVG)"]


def test_the_tab_stands_in_the_url(page):
    app = page(list="groups", group="view")
    assert buttons(app, "exposed group").value == "view"
    buttons(app, "exposed group").set_value("age decade").run()
    assert app.query_params["group"] == "age decade"
    buttons(app, "exposed group").set_value("sex").run()
    assert "group" not in app.query_params
    assert app.query_params["list"] == "groups"


def test_ids_of_real_people_are_pointed_out_where_a_file_holds_them(page):
    said = "The table names images and patients of this cohort by their ids: keep it as you keep those."
    assert said in words(page(cohort="our-hospital"))
    assert said not in words(page(cohort="our-hospital", list="groups"))
    assert said not in words(page(cohort="phantom"))


def test_images_that_are_gone_leave_their_place(page):
    app = page(cohort="our-hospital")
    assert "no image at hand" in words(app)
    assert rows(app)["picture"].isna().all()


def bare_store(root: Path, images: np.ndarray | None = None) -> Path:
    """A cohort that nothing is known of: no label, sex, age or view; ids that are markup."""
    made = fixture_store.cohort("bare", 90, synthetic=False, seed=3)
    records = made.records.assign(sex="", age=np.nan, view="", **dict.fromkeys(LABELS, np.nan))
    records["record_id"] = [f"<img src=x onerror=alert({i})>" for i in range(len(records))]
    object.__setattr__(made, "records", records)
    rng = np.random.default_rng(1)
    texts = {text: rng.normal(size=8) for text in records["report"].unique()}
    reports = np.stack([texts[text] for text in records["report"]]).astype(np.float32)
    if images is None:
        images = reports + rng.normal(size=reports.shape).astype(np.float32)
    else:
        reports = np.ones_like(reports)
        images = np.ones_like(reports)
    import_arrays(made, "m", images, reports, Store(root))
    return root


@pytest.mark.parametrize("name", ["records", "with", "groups"])
def test_a_cohort_that_nothing_is_known_of(page, tmp_path, name):
    app = page(store=bare_store(tmp_path), list=name)
    assert not app.exception
    assert 'role="alert"' not in words(app)
    assert "<img src=x" not in words(app)
    if name == "groups":
        assert "It is not recorded who belongs to which group." in words(app)


def test_a_model_that_ties_everything(page, tmp_path):
    app = page(store=bare_store(tmp_path, np.ones(1)), N=50)
    assert not app.exception
    assert "the middle one comes first in 2 of 100 pools" in headline(app)
    assert set(rows(app)["first"].round(6)) == {2.0}
    for name in ("with", "groups"):
        assert not page(store=tmp_path, N=50, list=name).exception


def test_a_damaged_model_is_a_card_and_another_one_works(page, store_root, tmp_path):
    store = shutil.copytree(store_root, tmp_path / "store")
    (store / "phantom" / MODEL / "records.parquet").write_bytes(b"")
    app = page(store=store)
    assert not app.exception
    assert words(app).count('role="alert"') == 1
    assert last_line(app).startswith("Cannot tell:")
    buttons(app, "exposed model").set_value("phantom-general").run()
    assert headline(app).startswith("Of 500 images")


def test_no_word_says_why(page):
    for name in ("records", "with", "groups"):
        said = words(page(list=name)).lower()
        assert not re.search(r"\b(because|causes|due to|leads to|effect of|drives)\b", said)


# -- pictures and words ----------------------------------------------------------------------------------------------


def ordered(values: np.ndarray) -> pd.DataFrame:
    ids = [f"r{i}" for i in range(len(values))]
    return exposed.by_exposure(pd.DataFrame({"record_id": ids, "p_first": values, "margin": 0.0}))


def draw(table: pd.DataFrame, n_tail: int = 40, pool_size: int = 100, chosen: str | None = "r3"):
    return exposed.spread(table, n_tail=n_tail, pool_size=pool_size, chosen=chosen, style=STYLE, palette=palette.LIGHT)


def by_name(figure, name: str):
    return next(trace for trace in figure.data if trace.name == name)


def test_records_without_a_pool_are_left_out_and_equal_ones_keep_their_order():
    table = ordered(np.array([0.1, np.nan, 0.5, 0.5]))
    assert table["record_id"].tolist() == ["r2", "r3", "r0"]
    assert table["place"].tolist() == [1, 2, 3]


def test_the_picture_holds_the_numbers():
    values = np.sort(np.random.default_rng(0).beta(0.3, 2, 4000))[::-1]
    figure = draw(ordered(values))
    points = by_name(figure, "images")
    assert list(points.x[:40]) == list(range(1, 41)), "the first ones can all be clicked"
    assert (points.x[-1], points.customdata[-1]) == (4000, "r3999")
    assert list(points.y) == pytest.approx([values[int(x) - 1] * 100 for x in points.x])
    assert [points.customdata[int(x) - 1] for x in range(1, 41)] == [f"r{x}" for x in range(40)]
    assert list(by_name(figure, "guessing").y) == [1.0, 1.0]
    assert by_name(figure, "guessing").line.dash == palette.GUESSING_DASH
    assert max(by_name(figure, "the most exposed").x) == 40
    ring = by_name(figure, "chosen image")
    assert (ring.x[0], ring.y[0]) == (4, pytest.approx(values[3] * 100))
    said = " ".join(note.text for note in figure.layout.annotations)
    for word in ("log scale", "N = 100", "n = 4,000 images", "the most exposed 40", "the middle one", "guessing"):
        assert word in said


def test_the_unit_follows_n_and_a_tail_of_few_is_not_shaded():
    figure = draw(ordered(np.array([0.3, 0.2, 0.001])), n_tail=0, pool_size=1000, chosen=None)
    assert list(by_name(figure, "images").y) == pytest.approx([300, 200, 1])
    assert not [trace for trace in figure.data if trace.name == "the most exposed"]
    assert len(figure.layout.shapes) == 1
    assert any("of 1,000 pools" in note.text for note in figure.layout.annotations)
    flat = draw(ordered(np.full(50, 0.01)), n_tail=0)
    assert flat.layout.yaxis.range[1] > 1.9, "guessing and the curve are not the top edge"
    assert draw(ordered(np.array([0.5])), n_tail=0).data


def association(**given: object) -> dict[str, object]:
    row = {"attribute": "sex", "group": "F", "against": "M", "mean": 0.2, "mean_against": 0.1, "difference": 0.1}
    row |= {"low": 0.05, "high": 0.15, "p": 0.001, "p_holm": 0.004, "n_images": 400, "n_images_against": 300}
    return row | {"n_patients": 200, "n_patients_against": 150, "note": ""} | given


NOTHING = dict.fromkeys(("mean", "mean_against", "difference", "low", "high", "p", "p_holm"), np.nan)
FEW = NOTHING | {"note": "too few to say (n = 18)"}


def test_a_dot_is_filled_only_where_it_is_told_apart_and_few_get_words():
    table = pd.DataFrame(
        [
            association(attribute="Edema", group="present", against="not present"),
            association(attribute="Fracture", group="present", against="not present", p_holm=0.2),
            association(attribute="view", group="<b>AP", against="all others", **FEW),
        ]
    )
    lines = exposed.lines_of(table)
    assert [(line.words, line.aside) for line in lines if line.row is None] == [
        ("Findings", "against not present"),
        ("View", "against all others"),
    ]
    ends = exposed.limits(table, 100)
    figure = exposed.differences(lines, ends=ends, out_of=100, pool_size=100, palette=palette.LIGHT)
    assert by_name(figure, "Edema").marker.color == palette.LIGHT.before
    assert by_name(figure, "Fracture").marker.color == palette.LIGHT.page
    assert list(by_name(figure, "Edema, 95% interval").x) == pytest.approx([5, 15])
    assert "adjusted p = 0.004" in by_name(figure, "Edema").text[0]
    assert [note.text for note in figure.layout.annotations].count("too few to say (n = 18)") == 1
    assert ends[0] < 0 < 15 < ends[1]
    svg = downloads.svg(figure, title="T", subtitle="S")
    said = ["".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"Findings", "Edema", "no difference", "<b>AP"} <= set(said)


def test_limits_without_a_number_are_still_an_axis():
    table = pd.DataFrame([association(**FEW)])
    assert exposed.limits(table, 100) == (-1.0, 1.0)


def group(**given: object) -> dict[str, object]:
    row = {"by": "sex", "group": "F", "linked": 0.2, "low": 0.15, "high": 0.25, "chance": 0.01, "lift": 20.0}
    return row | {"n_images": 400, "n_patients": 200, "note": ""} | given


def test_groups_show_numbers_and_guessing_and_few_get_words():
    few = {"linked": np.nan, "low": np.nan, "high": np.nan, "lift": np.nan, "note": "too few to say (n = 18)"}
    table = pd.DataFrame([group(), group(group="not <recorded>", n_images=20, n_patients=18, **few)])
    figure = exposed.groups(table, out_of=100, pool_size=100, palette=palette.DARK)
    texts = [note.text for note in figure.layout.annotations]
    assert "<b>20</b>" in texts
    assert "too few to say (n = 18)" in texts
    assert figure.layout.shapes[0].x0 == pytest.approx(1.0)
    assert list(figure.layout.yaxis.ticktext)[1].strip() == "not &lt;recorded&gt;, n = 20"
    assert "20 of 100 (15 to 25 of 100), 20 times chance, n = 400 images of 200 patients" in figure.data[1].text[0]
    tied = exposed.groups(pd.DataFrame([group(note="all scores tie")]), out_of=100, pool_size=100, palette=palette.DARK)
    assert tied.data[1].text[0].endswith("all scores tie"), "said beside the number, not in its place"
    nobody = exposed.groups(table[1:], out_of=100, pool_size=100, palette=palette.DARK)
    assert not nobody.data


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([association()], "Linked images: F 10 more of 100 than M (5 to 15 of 100)."),
        (
            [association(difference=-0.004, low=-0.006, high=-0.002)],
            "Linked images: F fewer than 1 less of 100 than M (−1 to 0 of 100).",
        ),
        (
            [association(low=-0.02, p_holm=0.2), association(group="M", against="F", low=-0.31, high=0.04, p_holm=0.4)],
            "No group can be told apart from the others. Differences of up to 31 of 100 images cannot be ruled out.",
        ),
        (
            [association(difference=0.0, low=0.0, high=0.0, p=1.0, p_holm=1.0, note="all scores tie")],
            "No group differs from the others by 1 of 100 images.",
        ),
        ([association(**FEW)], "Whether groups differ: too few to say (n = 18)."),
        ([association(**NOTHING | {"note": "not recorded"})], "It is not recorded who belongs to which group."),
        (
            [association(group=str(i), difference=0.1 + i / 100) for i in range(5)],
            "Linked images: 4 14 more of 100 than M (5 to 15 of 100); 3 13 more of 100 than M (5 to 15 of 100); "
            "2 12 more of 100 than M (5 to 15 of 100); and 2 more groups differ.",
        ),
    ],
)
def test_whether_groups_differ_in_words(rows, said):
    assert exposed.groups_sentence(pd.DataFrame(rows), 100) == said


def test_the_file_of_the_spread_is_a_whole_svg():
    table = ordered(np.sort(np.random.default_rng(0).beta(0.3, 2, 400))[::-1])
    root = ET.fromstring(downloads.svg(draw(table), title="T", subtitle="S"))
    said = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"guessing", "the middle one", "the most exposed 40", "times first, of 100 pools"} <= set(said)
    assert b"NaN" not in ET.tostring(root)
