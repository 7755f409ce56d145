"""Differences between models as a picture, what decoys are alike in as a table, and n along a curve."""

import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from explorer.drawing import charts, downloads, forest, palette
from explorer.risk import decoys
from linkage_core import sentences
from linkage_core.store.entry import LADDER

from .test_charts import draw
from .test_charts import table as curves

LABELS = {model: model.removeprefix("phantom-").title() for model in LADDER}


def pairs(**columns) -> pd.DataFrame:
    """All pairs of the ladder; the last model links 0.1 more than the first three, which are alike."""
    rows = []
    for b in range(4):
        for a in range(b):
            d = 0.1 if b == 3 else 0.002 * (b - a)
            rows.append(
                {"model_a": LADDER[a], "model_b": LADDER[b], "pool_size": 100, "k": 1, "flag": "", "n_queries": 900}
                | {"difference": d, "low": d - 0.01, "high": d + 0.01, "p_holm": 0.001 if b == 3 else 0.8}
            )
    return forest.oriented(pd.DataFrame(rows).assign(**columns), LADDER)


def picture(table=None, out_of=100, labels=LABELS):
    table = pairs() if table is None else table
    return forest.forest(table, out_of=out_of, labels=labels, palette=palette.LIGHT)


def test_pairs_are_read_from_the_last_model_down():
    table = pairs()
    assert table["model_b"].tolist()[:3] == ["phantom-radiology"] * 3
    assert table["model_a"].tolist()[:3] == ["phantom-clinical", "phantom-biomedical", "phantom-general"]


def test_marks_and_lines_hold_the_numbers_and_are_filled_where_told_apart():
    table = pairs()
    figure = picture(table, out_of=1000)
    marks = [t for t in figure.data if t.mode == "markers"]
    lines = [t for t in figure.data if t.mode == "lines"]
    assert [t.x[0] for t in marks] == pytest.approx((table["difference"] * 1000).tolist())
    assert [list(t.x) for t in lines] == [
        pytest.approx([low * 1000, high * 1000]) for low, high in zip(table["low"], table["high"], strict=True)
    ]
    filled = [t.marker.color == palette.LIGHT.before for t in marks]
    assert filled == [True] * 3 + [False] * 3
    assert {t.marker.line.color for t in marks} == {palette.LIGHT.before}
    assert figure.layout.yaxis.ticktext[0].strip() == "Radiology against Clinical"
    assert [shape.x0 for shape in figure.layout.shapes] == [0]
    assert 0 in figure.layout.xaxis.tickvals
    low, high = figure.layout.xaxis.range
    assert low < table["low"].min() * 1000 < table["high"].max() * 1000 < high


def test_no_model_colour_is_in_it():
    used = str(picture().to_dict())
    assert not any(style.colour in used for style in (*palette.LIGHT.models, *palette.LIGHT.further))
    assert palette.LIGHT.after not in used


def test_a_number_stands_away_from_zero():
    notes = {a.text: a for a in picture(pairs(difference=-0.05, low=-0.06, high=-0.04)).layout.annotations}
    assert notes["<b>\u22125.0</b>"].xanchor == "right"
    assert notes["<b>\u22125.0</b>"].x == pytest.approx(-6)


def test_too_few_patients_have_words_and_no_mark():
    table = pairs()
    table.loc[0, "flag"] = "too few to say"
    figure = picture(table)
    assert len([t for t in figure.data if t.mode == "markers"]) == 5
    assert "too few to say (n = 900)" in [a.text for a in figure.layout.annotations]
    assert "Radiology against Clinical: too few to say (n = 900)" in forest.words(table, 100, LABELS)


def test_no_difference_at_all_is_drawn():
    figure = picture(pairs(difference=0.0, low=0.0, high=0.0))
    assert 0 in figure.layout.xaxis.tickvals
    assert np.isfinite(figure.layout.xaxis.range).all()


def test_the_model_beside_another():
    table = pairs()
    assert forest.beside(table, "phantom-radiology")[1] == "phantom-clinical"
    assert forest.beside(table, "phantom-clinical")[1] == "phantom-biomedical"
    _, other, difference = forest.beside(table, "phantom-general")  # nothing below: the next above
    assert (other, difference) == ("phantom-biomedical", pytest.approx(-0.002))
    assert forest.beside(table, "clip") is None


def test_told_apart_needs_interval_and_adjusted_p():
    row = {"low": 0.01, "high": 0.02, "p_holm": 0.01}
    assert forest.told_apart(row)
    assert forest.told_apart(row | {"low": -0.02, "high": -0.01})
    assert not forest.told_apart(row | {"low": -0.01})
    assert not forest.told_apart(row | {"p_holm": 0.06})
    assert not forest.told_apart(row | {"low": np.nan, "high": np.nan})


def test_the_forest_as_a_file_and_names_are_escaped():
    labels = LABELS | {"phantom-radiology": "<img src=x>"}
    figure = picture(labels=labels)
    assert "<img" not in str(figure.to_dict())
    assert b">&lt;img src=x&gt; against Clinical<" in downloads.svg(figure, title="T", subtitle="S")
    root = ET.fromstring(downloads.svg(picture(), title="T", subtitle="S"))
    ns = "{http://www.w3.org/2000/svg}"
    said = ["".join(node.itertext()) for node in root.iter(f"{ns}text")]
    assert {"Radiology against Clinical", "+10", "no difference"} <= set(said)
    assert any("N = 100, n = 900 images" in text for text in said)
    assert len(list(root.iter(f"{ns}polyline"))) == len(list(root.iter(f"{ns}circle"))) == 6


@pytest.mark.parametrize(
    ("difference", "words"),
    [(0.109, "11 more of 100"), (-0.031, "3.1 fewer of 100"), (0.001, "fewer than 1 more of 100")],
)
def test_a_difference_in_words(difference, words):
    said = "".join(sentences.links_more(difference, 100, "A", "B"))
    assert said == f"A links {words} images than B."
    assert "cannot be told apart" in "".join(sentences.links_more(difference, 100, "A", "B", told=False))
    assert "among the first 5 than B" in "".join(sentences.links_more(difference, 100, "A", "B", k=5))


def test_ends_of_a_difference():
    assert sentences.difference_interval(-0.024, 0.032, 100) == "\u22122 to 3 of 100"
    assert sentences.difference_interval(0.103, 0.1049, 100) == "10.3 to 10.5 of 100"
    assert sentences.difference_interval(-0.0003, 0.0003, 100) == "0.0 to 0.0 of 100"
    assert [forest.figure_words(d, 100) for d in (0.109, -0.0123, 0.0)] == ["+11", "\u22121.2", "0.0"]
    assert [forest.p_words(p) for p in (0.0006, 0.034, 0.5)] == ["p < 0.001", "p = 0.034", "p = 0.50"]


# -- n along a curve -------------------------------------------------------------------------------------------------


def test_n_stands_under_each_step_where_it_falls_and_nowhere_else():
    rows = curves()
    assert "n = 500" not in [a.text for a in draw(rows=rows).layout.annotations]
    rows["n_queries"] = rows["pool_size"].map({10: 11_547, 100: 4585, 1000: 950})
    figure = draw(rows=rows)
    said = [a.text for a in figure.layout.annotations]
    assert {"n = 11,547", "4,585", "950"} <= set(said)
    assert figure.layout.height == draw().layout.height
    assert "4,585" in downloads.svg(figure, title="T", subtitle="S").decode()


def test_lines_of_one_colour_differ_in_dash():
    rows = curves(models=("any", "same"))
    style = dict.fromkeys(("any", "same"), palette.LIGHT.models[3])
    figure = charts.curve(
        rows,
        measure="recall",
        k=1,
        pool_size=100,
        styles=style,
        labels={"any": "any patient", "same": "same findings"},
        palette=palette.LIGHT,
        dashes={"same": "3px,4px"},
    )
    lines = {t.name: t.line.dash for t in figure.data if t.mode == "lines"}
    assert (lines["any patient"], lines["same findings"]) == (None, "3px,4px")
    assert b'stroke-dasharray="3,4"' in downloads.svg(figure, title="T", subtitle="S")


def test_a_chosen_n_outside_the_picture_has_no_line_and_one_step_is_a_picture():
    assert not draw(pool_size=5000).layout.shapes
    figure = draw(rows=curves(sizes=(3,)), pool_size=3)
    low, high = figure.layout.xaxis.range
    assert low < np.log10(3) < high
    assert b"nan" not in downloads.svg(figure, title="T", subtitle="S").lower()


# -- what decoys are alike in ----------------------------------------------------------------------------------------


def balance(**columns) -> pd.DataFrame:
    rows = []
    for attribute, measure in decoys.ROWS:
        share = measure.startswith(("share", "words"))
        values = (1.0, 0.65, 0.2, 0.35) if share else (20.0, 22.0, 30.0, -0.45)
        rows.append(
            {"attribute": attribute, "measure": measure, "match": values[0], "decoys": values[1], "others": values[2]}
            | {"effect": values[3], "effect_low": values[3] - 0.01, "effect_high": values[3] + 0.01}
            | {"n": 900, "n_patients": 400, "flag": ""}
        )
    return pd.DataFrame(rows).assign(**columns)


def cells(html: str) -> dict[str, list[str]]:
    table = ET.fromstring(html)
    rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    return {row[0]: row[1:] for row in rows}


def test_the_table_says_each_attribute_in_its_unit():
    found = cells(decoys.table(balance(), ()))
    assert found["Same view"] == ["65 of 100", "20 of 100", "35 of 100", "34 to 36 of 100"]
    assert found["Difference in age"] == ["22.0 years", "30.0 years", "0.45 SD", "0.44 to 0.46"]
    assert found["Length of report, mean"] == ["22.0 words", "30.0 words", "\u22120.45 SD", "\u22120.46 to \u22120.44"]
    assert len(found) == 1 + len(decoys.ROWS)


def test_rows_that_are_not_there_say_why():
    rows = balance()
    rows = rows[~rows["attribute"].isin(["sex", "view"]) & ~rows["measure"].str.contains("Jaccard")]
    found = cells(decoys.table(rows, ("sex",)))
    assert found["Same sex"] == ["matched on: the same sex"]
    assert found["Same view"] == ["not known in this cohort, or the same throughout"]
    assert found["Words in common, of those in either report"] == ["report text is not at hand here"]
    assert cells(decoys.table(balance(flag="too few to say", n_patients=12), ()))["Same sex"] == [
        "too few to say (12 patients)"
    ]


def test_what_decoys_share_in_words():
    assert decoys.alike_words(()) == "the same findings"
    assert decoys.alike_words(("view", "age")) == "the same findings, view and decade of age"
    assert "81 of 100" in "".join(decoys.headline({"estimate": 0.814}))
