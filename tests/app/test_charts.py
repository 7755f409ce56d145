"""Colours that can be told from the page, pictures that show what the table says, files that open elsewhere."""

import io
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from explorer.drawing import charts, downloads, palette
from linkage_core.store.entry import LADDER


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_every_line_and_marker_stands_out_from_the_page(colours):
    styles = [*colours.models, *colours.further]
    drawn = [*(s.colour for s in styles), colours.before, colours.after, colours.noise_only, colours.guessing]
    assert min(contrast(c, colours.page) for c in drawn) >= 3
    assert contrast(colours.text, colours.page) > 7
    assert contrast(colours.muted, colours.page) > 4.5


def test_six_models_look_different_in_shape_and_colour():
    styles = palette.LIGHT.styles([*LADDER, "clip", "our-model"])
    assert len({s.marker for s in styles.values()}) == 6
    assert len({s.colour for s in styles.values()}) == 6
    assert palette.LIGHT.styles(["phantom-radiology"])["phantom-radiology"] == styles["phantom-radiology"]


def table(models=LADDER, sizes=(10, 100, 1000), k=1, n=500) -> pd.DataFrame:
    rows = []
    for i, model in enumerate(models):
        for size in sizes:
            recall = min(1.0, k / size * (1 + 2 * i))
            rows.append(
                {"model": model, "pool_size": size, "k": k, "recall": recall, "recall_low": recall * 0.8}
                | {"recall_high": min(1, recall * 1.2), "chance": k / size, "lift": 1 + 2 * i, "n_queries": n}
                | {"mrr": recall, "mrr_low": recall, "mrr_high": recall, "median_rank": 5.0, "n_excluded": 0}
            )
    return charts.with_lift_interval(pd.DataFrame(rows))


def draw(measure="recall", rows=None, pool_size=100, colours=palette.LIGHT):
    rows = table() if rows is None else rows
    labels = {m: m.removeprefix("phantom-").title() for m in rows["model"].unique()}
    return charts.curve(
        rows, measure=measure, k=1, pool_size=pool_size, styles=colours.styles(labels), labels=labels, palette=colours
    )


@pytest.mark.parametrize("measure", ["recall", "lift", "rank"])
def test_a_curve_has_every_model_its_band_guessing_and_the_chosen_n(measure):
    figure = draw(measure)
    names = {trace.name for trace in figure.data}
    assert {"General", "Biomedical", "Clinical", "Radiology", "guessing", "Radiology, 95% interval"} <= names
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    assert [shape.x0 for shape in figure.layout.shapes] == [100]
    guessing = next(t for t in figure.data if t.name == "guessing")
    expected = {"recall": 1 / 100, "lift": 1.0, "rank": sum(1 / i for i in range(1, 101)) / 100}[measure]
    assert list(guessing.y)[1] == pytest.approx(expected)
    assert guessing.line.dash == palette.GUESSING_DASH


def test_the_lines_hold_the_numbers_of_the_table():
    rows = table()
    line = next(t for t in draw(rows=rows).data if t.name == "Clinical")
    assert list(line.y) == rows[rows["model"] == "phantom-clinical"]["recall"].tolist()


def test_names_at_the_ends_never_overlap():
    rows = table()
    rows["recall"] = rows["chance"] * 1.01  # all models at guessing
    figure = draw(rows=rows)
    span = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    low, high = figure.layout.yaxis.range
    names = [a for a in figure.layout.annotations if a.xref != "paper"]
    places = sorted(a.y / (high - low) * span + a.yshift for a in names)
    assert len(places) == 5
    assert min(np.diff(places)) > 18


def test_a_rate_of_zero_is_left_off_a_log_axis_and_does_not_raise():
    rows = table()
    rows.loc[(rows["model"] == "phantom-general") & (rows["pool_size"] == 1000), ["recall", "recall_low"]] = 0.0
    line = next(t for t in draw(rows=rows).data if t.name == "General")
    assert list(line.x) == [10, 100]


def test_the_ladder_shows_whole_numbers_and_guessing():
    rows = table(sizes=(100,))
    labels = {m: m for m in LADDER}
    figure = charts.ladder(rows, out_of=100, styles=palette.DARK.styles(LADDER), labels=labels, palette=palette.DARK)
    said = [a.text for a in figure.layout.annotations]
    assert [t for t in said if t.startswith("<b>")] == ["<b>1</b>", "<b>3</b>", "<b>5</b>", "<b>7</b>"]
    assert "guessing" in said
    assert any("N = 100, n = 500 images" in t for t in said)


def test_an_interval_that_leaves_the_axis_ends_in_an_arrow():
    rows = table(sizes=(100,))
    options = {"out_of": 100, "labels": {m: m for m in LADDER}, "palette": palette.DARK}

    def arrows():
        figure = charts.ladder(rows, styles=palette.DARK.styles(LADDER), **options)
        return [trace.y[0] for trace in figure.data if trace.marker.symbol == "arrow-left"]

    assert arrows() == []
    rows.loc[rows["model"] == LADDER[1], "recall_low"] = 0.0
    assert arrows() == [1]


def test_names_of_models_are_escaped():
    rows = table(models=("<img src=x>",)).assign(recall_low=0.0)
    labels = {"<img src=x>": "<img src=x>"}
    styles = palette.LIGHT.styles(labels)
    options = {"styles": styles, "labels": labels, "palette": palette.LIGHT}
    for figure in (
        charts.curve(rows, measure="recall", k=1, pool_size=100, **options),
        charts.ladder(rows[rows["pool_size"] == 100], out_of=100, **options),
    ):
        said = [a.text for a in figure.layout.annotations] + list(figure.layout.yaxis.ticktext)
        assert not any("<img" in t for t in [*said, *(trace.name or "" for trace in figure.data)])


def test_guessed_reciprocal_rank_matches_the_sum():
    for n in (1, 2, 9, 10, 137, 5000):
        assert charts.guessed_reciprocal_rank(n) == pytest.approx(
            math.fsum(1 / i for i in range(1, n + 1)) / n, rel=1e-6
        )


# -- the picture of 100 ----------------------------------------------------------------------------------------------


def dots(html: str) -> list[set[str]]:
    return [set(m.split()) for m in re.findall(r'<span class="(le-dot[^"]*)"', html)]


def test_a_hundred_dots_are_filled_from_the_bottom_left():
    found = dots(charts.array(0.14, 0.01, 100, palette.LIGHT))
    assert len(found) == 100
    assert sum("le-on" in d for d in found) == 14
    assert all("le-on" in d for d in found[90:])  # the last row is the lowest
    assert ["le-on" in d for d in found[80:90]] == [True] * 4 + [False] * 6
    assert [i for i, d in enumerate(found) if "le-guess" in d] == [90]


def test_a_large_field_is_true_to_scale_with_a_lens():
    html = charts.array(0.005, 0.0001, 10_000, palette.LIGHT)
    side, guess = (float(v) for v in re.findall(r"width:([\d.]+)%", html))
    assert (side / 100) ** 2 == pytest.approx(0.005, rel=1e-2)
    assert (guess / 100) ** 2 == pytest.approx(0.0001, rel=1e-2)
    assert sum("le-on" in d for d in dots(html)) == 50


def test_a_field_with_many_linked_needs_no_lens():
    assert dots(charts.array(0.3, 0.001, 1000, palette.LIGHT)) == []


# -- files -----------------------------------------------------------------------------------------------------------


def test_csv_cells_cannot_run_as_formulas():
    text = ["=1+1", "+1", "-1", "@cmd", "\t=x", "plain", "", None]
    rows = pd.DataFrame({"=head": text, "number": [-1.5] * len(text)})
    lines = downloads.csv(rows).decode().splitlines()
    assert lines[0] == '"\'=head","number"'
    assert lines[1:4] == ['"\'=1+1",-1.5', '"\'+1",-1.5', '"\'-1",-1.5']
    assert pd.read_csv(io.BytesIO(downloads.csv(rows)))["number"].eq(-1.5).all()
    assert '"plain",-1.5' in lines
    for start in ("=", "+", "-", "@", "\t", "\r", "\n"):
        assert f"'{start}1".replace("\r", "\n").encode() in downloads.csv(pd.DataFrame({"text": [f"{start}1"]})), start


@pytest.mark.parametrize("measure", ["recall", "lift", "rank"])
def test_the_picture_is_a_whole_svg_with_its_title_and_every_line(measure):
    rows = table(models=(*LADDER, "<b>&our"))
    svg = downloads.svg(
        draw(measure, rows), title="T <&>", subtitle="synthetic cohort Phantom · chosen N = 100 · n = 500"
    )
    root = ET.fromstring(svg)
    ns = "{http://www.w3.org/2000/svg}"
    said = ["".join(node.itertext()) for node in root.iter(f"{ns}text")]
    assert {"T <&>", "guessing", "Radiology", "reports in the pool (N), log scale"} <= set(said)
    assert any("synthetic" in t and "N = 100" in t and "n = 500" in t for t in said)
    assert len(list(root.iter(f"{ns}polyline"))) == 6  # five models and guessing
    assert b"NaN" not in svg
    assert b"http" not in svg.replace(b"http://www.w3.org/2000/svg", b"")
