"""Compare mitigations: the answer is the core's rows, every picture has nothing released in it, links restore it."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from explorer.drawing import downloads, palette
from explorer.frame import state
from explorer.protect import frontier, options
from helpers import frontier_store, lab_store
from helpers.shared import Built
from linkage_core.cohorts.base import LABELS
from linkage_core.lab import frontier as core
from linkage_core.lab import measured
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store

from .conftest import buttons, headline, last_line, words

PAGE = "frontier"


@pytest.fixture(scope="module")
def root(built: Built) -> Path:
    return built(frontier_store.build, lab_store.build)


@pytest.fixture(scope="module")
def entry(root: Path) -> Entry:
    return Store(root).open("phantom", lab_store.MODEL)


@pytest.fixture
def page(open_page: Callable[..., AppTest], root: Path) -> Callable[..., AppTest]:
    """Every setting, as it stands behind the switch."""
    return lambda store=root, **query: open_page(PAGE, store=store, **{"show": "all", **query})


def rows_of(entry: Entry, pool_size: int = 100, attacker: str = "worst", use: str = "read") -> pd.DataFrame:
    return options.merged(core.frontier(entry, pool_size, attacker, use))


def test_the_answer_counts_what_keeps_the_findings(page, entry):
    app = page(N=100)
    assert not app.exception
    table = core.frontier(entry, 100, "worst", "read")
    table = table[~table["kind"].isin([OFF_THE_SHELF, "nothing", "noise-only"])]
    runs = table.assign(key=table["option"].str.replace(r"-seed\d+", "", regex=True)).groupby("key")
    means = runs[["measured", "declared_difference"]].mean().dropna()
    kept = means[means["declared_difference"] >= -0.01]["measured"].sort_values()
    said = headline(app)
    assert said.startswith(f"{len(kept)} of {len(means)} mitigations")
    figures = [f"{round(value):,}" for value in kept.head(3)]
    assert figures[0] in said
    assert "of 100 images linked" in said
    assert "Nothing released: 1 of 100, as by guessing, and nothing to read" in words(app)
    assert last_line(app).startswith("Cannot tell: what loss of usefulness is acceptable")


def made(*values: tuple[float, float], undeclared: float = 0.0, use: str = "read") -> pd.DataFrame:
    """Rows of codes that link so many of 100 and lose so many points."""
    return pd.DataFrame(
        [
            {
                **dict.fromkeys(core.COLUMNS, np.nan),
                **{
                    "option": f"codes-{i}",
                    "family": "release",
                    "kind": "codes",
                    "parameter": "limit",
                    "value": 8.0 + i,
                },
                **{"listed": 0, "pool_size": 100, "attacker": "worst", "named": "reader", "measured": linked},
                **{"measured_low": linked / 2, "measured_high": linked * 2, "certified": 8.0 + i, "declared": 0.8},
                **{"declared_difference": points / 100, "undeclared": 0.7, "undeclared_difference": undeclared / 100},
                **{"n_queries": 50, "use": use},
            }
            for i, (linked, points) in enumerate(values)
        ]
    )


@pytest.mark.parametrize(
    ("values", "keep", "use", "expected"),
    [
        ([(20, 0.0), (26, -0.5), (43, 0.9), (5, -1.2)], "declared", "read",
         "3 of 4 mitigations keep declared findings within 1 point; they leave 20, 26 and 43 of 100 images linked."),
        ([(20, 0.0), (5, -1.2)], "declared", "read",
         "1 of 2 mitigations keeps declared findings within 1 point; it leaves 20 of 100 images linked."),
        ([(20, -3.0), (5, -1.2)], "declared", "read",
         "None of 2 mitigations keeps declared findings within 1 point."),
        ([(2, 0.0), (4, 0.0)], "declared", "trained",
         "2 of 2 mitigations train a reader that keeps declared findings within 1 point; "
         "they leave 2 and 4 of 100 images linked."),
        ([(0.2, 0.0)], "declared", "trained",
         "1 of 1 mitigation trains a reader that keeps declared findings within 1 point; "
         "it leaves <1 of 100 images linked."),
        ([(9, 0.0), (8, 0.0), (7, 0.0), (6, 0.0)], "undeclared", "read",
         "4 of 4 mitigations keep declared and undeclared findings within 1 point; "
         "the best three leave 6, 7 and 8 of 100 images linked."),
        ([], "declared", "read", "No mitigation was measured for this use and this attacker."),
    ],
)  # fmt: skip
def test_the_sentence_has_its_forms(values, keep, use, expected):
    rows = options.merged(made(*values, use=use) if values else made((1, 1)).head(0))
    said = "".join(frontier.answer(rows, tolerance="1", keep=keep, use=use, out_of=100, pool_size=100))
    assert said == expected


def test_what_has_no_undeclared_finding_keeps_none():
    rows = options.merged(made((20, 0.0)))
    assert options.keeps(rows, 1.0, "undeclared").tolist() == [True]
    rows["undeclared_difference"] = np.nan
    assert options.keeps(rows, 1.0, "undeclared").tolist() == [False]
    assert options.keeps(rows, 1.0, "declared").tolist() == [True]


def test_runs_that_differ_by_their_seed_are_one_point(entry):
    rows = rows_of(entry, use="trained")
    one = rows[rows["kind"] == "statistics"]
    assert one["runs"].tolist() == [3] * len(frontier_store.EPSILONS)
    each = core.frontier(entry, 100, "worst", "trained").query("kind == 'statistics' and value == 1")
    row = one[one["value"] == 1].iloc[0]
    assert row["measured"] == pytest.approx(each["measured"].mean())
    assert (row["least"], row["most"]) == (each["measured"].min(), each["measured"].max())
    assert "3 runs with other seeds" in frontier.linked_words(row, 100, 100)


def test_who_knows_all_finds_every_embedding_without_noise(entry):
    rows = rows_of(entry, attacker=core.OMNISCIENT).set_index("key")
    assert rows.loc["rotation", "sure"]
    assert rows.loc["rotation", "measured"] == 100
    assert "this follows" in frontier.linked_words(rows.loc["rotation"], 100, 100)
    assert rows.loc["codes-16", "measured"] == pytest.approx(0.9 * 16)
    assert not rows.loc["codes-16", "sure"]


def test_a_limit_never_reads_lower_than_it_is():
    assert options.at_most(2.0000001, 100, 100) == "3 of 100"
    assert options.at_most(1e9, 100, 100) == "100 of 100"
    rows = options.merged(made((3, 0.0))).assign(kept=True)
    assert frontier.table(rows, 100, 100)["certified"].tolist() == ["8"]
    assert frontier.table(rows.assign(certified=np.nan), 100, 100)["certified"].tolist() == ["no limit"]


@pytest.mark.parametrize("use", list(core.USES))
@pytest.mark.parametrize("attacker", list(frontier.WHO))
@pytest.mark.parametrize("with_colours", [palette.LIGHT, palette.DARK])
def test_every_picture_has_nothing_released_and_guessing_and_can_be_filed(entry, use, attacker, with_colours):
    rows = options.ordered(rows_of(entry, 100, attacker, use), 1.0, "declared")
    asked = {"pool_size": 100, "out_of": 100, "tolerance": 1.0, "keep": "declared", "selected": rows["key"].iloc[0]}
    figure = frontier.picture(rows, **asked, palette=with_colours)
    nothing = [trace for trace in figure.data if trace.name == "nothing released"]
    assert {trace.yaxis for trace in nothing} == {"y", "y2"}
    assert all(list(trace.x) == [1.0] for trace in nothing)
    assert any(shape.x0 == 1 and shape.line.dash for shape in figure.layout.shapes)
    assert sum(note.text == "Nothing released" for note in figure.layout.annotations) == 2
    low, high = figure.layout.yaxis.range
    assert (low, high) == tuple(figure.layout.yaxis2.range), "one scale for one quantity"
    for trace in figure.data:
        assert all(low <= y <= high for y in trace.y if y is not None)
    said = downloads.svg(figure, title="t <", subtitle="n")
    ET.fromstring(said)
    assert b"nan" not in said
    assert b"rgba" not in said


def test_a_head_has_an_open_end_and_a_release_a_tick(entry):
    rows = options.ordered(rows_of(entry), 1.0, "declared")
    asked = {"pool_size": 100, "out_of": 100, "tolerance": 1.0, "keep": "declared", "selected": None}
    drawn = {trace.name for trace in frontier.picture(rows, **asked, palette=palette.LIGHT).data}
    assert {"label, no limit", "codes, certified", "capped, certified"} <= drawn
    assert "label, certified" not in drawn
    vacuous = rows[(rows["kind"] == "codes") & (rows["value"] >= 100)]
    assert len(vacuous)
    assert vacuous["certified"].isna().all()  # of 100, a hundred cells limit nothing: an open end
    assert ("codes, no limit" in drawn) == bool(len(vacuous))


def test_names_never_overlap_each_other(entry):
    rows = options.ordered(rows_of(entry), 1.0, "declared")
    figure = frontier.picture(
        rows, pool_size=100, out_of=100, tolerance=1.0, keep="declared", selected=None, palette=palette.LIGHT
    )
    low, high = figure.layout.xaxis.range
    bottom, top = figure.layout.yaxis.range
    for axis in ("y", "y2"):
        boxes = []
        for note in figure.layout.annotations:
            if note.yref != axis:
                continue
            x = (note.x - low) / (high - low) * frontier.WIDTH + note.xshift
            y = (note.y - bottom) / (top - bottom) * 206 + note.yshift
            wide = 6 * len(note.text)
            boxes.append((x - wide if note.xanchor == "right" else x, x if note.xanchor == "right" else x + wide, y))
        assert len(boxes) >= 3
        for i, one in enumerate(boxes):
            assert not any(one[0] < o[1] and o[0] < one[1] and abs(one[2] - o[2]) < 13 for o in boxes[i + 1 :])


def test_names_are_escaped():
    rows = options.merged(made((3, 0.0)).assign(kind="<img src=x>", parameter="<b>"))
    assert "<img" not in frontier.point_words(rows.iloc[0], 100, 100)
    assert "<img" not in frontier.one(rows.iloc[0], 100, 100)
    figure = frontier.picture(
        rows.assign(family="codes"),
        pool_size=100, out_of=100, tolerance=1.0, keep="declared", selected=None, palette=palette.LIGHT,
    )  # fmt: skip
    assert not any("<img" in note.text for note in figure.layout.annotations)


def test_controls_change_answer_and_url(page):
    app = page(N=100)
    first = headline(app)
    buttons(app, "frontier use").set_value("trained").run()
    assert not app.exception
    assert app.query_params["use"] in ("trained", ["trained"])
    assert headline(app) != first
    assert "a reader trained on public labels keeps them too (+0.1 points)" in words(app)
    app.toggle(key="frontier keep").set_value(True).run()
    assert app.query_params["keep"] in ("undeclared", ["undeclared"])
    assert "declared and undeclared findings" in headline(app)
    buttons(app, "frontier attacker").set_value("omniscient").run()
    assert app.query_params["attacker"] in ("omniscient", ["omniscient"])
    buttons(app, "frontier tolerance").set_value("0.2").run()
    assert "within 0.2 points" in headline(app)
    assert not app.exception


def test_a_row_is_chosen_by_the_url_and_leads_to_its_setting(page, entry):
    app = page(N=100, option="codes-64")
    assert not app.exception
    assert "<b>Codes, 64 cells</b>" in words(app)
    assert "Certified: at most 64 of 100 for every attacker, also for the whole folder" in words(app)
    rows = rows_of(entry).set_index("key", drop=False)
    link = options.settings_link(rows.loc["codes-64"], state_options(entry), measured.heads(entry), 100)
    assert link == {"N": "100", "mechanism": "codes", "limit": "64"}
    head = rows.loc[next(key for key in rows.index if key.startswith("label-oneshot") and "4findings" in key)]
    link = options.settings_link(head, state_options(entry), measured.heads(entry), 100)
    assert link["findings"] == ",".join(each for each in LABELS if each in lab_store.FEW)
    assert (link["mechanism"], link["epsilon"], link["seed"]) == ("label-oneshot", "0.34", "0")
    assert options.settings_link(rows.loc["rotation"], state_options(entry), measured.heads(entry), 100) is None
    assert app.get("page_link"), "the link is there"
    query = parse_qs(app.get("page_link")[-1].proto.query_string)
    assert query["mechanism"] == ["codes"]
    for name, value in options.settings_link(head, state_options(entry), measured.heads(entry), 100).items():
        assert state._parse(name, value) is not None, "the other page takes it"


def state_options(entry: Entry) -> pd.DataFrame:
    return core.options_of(entry)


def test_a_row_of_the_table_is_chosen_by_a_click(page):
    app = page(N=100)
    assert len(app.dataframe) == 1
    table = app.dataframe[0].value
    assert {"Nothing released", "Clean embeddings"} <= set(table["protection"])
    assert table["kept"].iloc[0] == "✓"


def test_rubbish_falls_back(page):
    app = page(N=100, attacker="<b>", use="eat", keep="x", tolerance="7", option="<img>")
    assert not app.exception
    assert "within 1 point" in headline(app)
    assert "<img>" not in words(app)
    for name in ("attacker", "use", "keep", "tolerance"):
        assert name not in app.query_params


def test_without_a_table_there_is_a_card_with_the_command(page, root):
    app = page(cohort="clinic")
    assert not app.exception
    assert "Nothing is compared here yet" in words(app)
    assert [code.value for code in app.code] == [options.commands(Store(root).open("clinic", lab_store.MODEL))]
    assert app.button("fill frontier quick").label.startswith("Fill this page (quick, about ")
    assert last_line(app).startswith("Cannot tell:")


def test_a_damaged_table_is_a_card(page, root, tmp_path):
    store = shutil.copytree(root, tmp_path / "store")
    (store / "phantom" / lab_store.MODEL / core.UTILITY).write_bytes(b"altered")
    app = page(store=store)
    assert not app.exception
    assert words(app).count('role="alert"') == 1
    assert core.UTILITY in words(app)


def test_the_filed_table_is_the_core_s(entry):
    rows = options.ordered(rows_of(entry), 1.0, "declared")
    lines = downloads.csv(frontier.filed(rows)).decode().splitlines()
    assert len(lines) == len(rows) + 1
    assert re.match(r'.*"lift",.*"certified_lift"', lines[0])


def test_what_would_fill_the_page_can_be_done_with_this_model(root: Path) -> None:
    """Vectors that were imported have no model here that could embed another cohort."""
    own = Store(root).open("clinic", lab_store.MODEL)
    target, given = f"clinic/{lab_store.MODEL}", "--image IMAGES.npy --text TEXTS.npy --records RECORDS.csv"
    assert own.imported
    assert options.commands(own).splitlines() == [
        f"linkage import PUBLIC/{lab_store.MODEL} {given}",
        f"linkage lab {target} --public PUBLIC",
    ]
    embedded = replace(own, manifest={**own.manifest, "model": {"family": "clip", "name": lab_store.MODEL}})
    assert options.commands(embedded).splitlines() == [
        f"linkage embed phantom-site-b --model {lab_store.MODEL}",
        f"linkage lab {target} --public phantom-site-b",
    ], "site B is not here yet"
