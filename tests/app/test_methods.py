"""Methods and words: every help text and every hard word leads to an entry, and every entry and stop can be reached."""

from __future__ import annotations

import ast
import re

import pytest

from explorer.drawing import glossary
from explorer.drawing.glossary import WORDS, linked, linked_html
from explorer.drawing.words import attackers, in_plain_words
from explorer.frame import frame
from explorer.share import methods
from helpers.places import ROOT
from linkage_core.attacks.attackers import ATTACKERS

from .conftest import go_to, words

PAGES = [file for rows in frame.PAGES.values() for file, _, _ in rows]
HARD = {
    "add/remove": "add-remove",
    "delta = 1e-6": "delta",
    "δ = 1e-6": "delta",
    "ε = 0.34": "epsilon",
    "unit: patient": "unit",
    "Knows 10,795 pairs": "pairs",
    "undoes the heads": "head",
    "Cosine alone": "similarity",
    "AUROC": "auroc",
    "−0.9 points": "points",
    "Zero-shot": "zero-shot",
    "noise only": "noise-only",
    "Label head, instant": "label-head",
    "Aligned, public negatives": "aligned",
    "Reciprocal rank": "reciprocal-rank",
    "Undeclared, if 7 are": "declared",
    "Field: 10,000 images, true to scale.": "field",
    "0.45 SD": "sd",
    "Too few: n counts patients.": "n",
    "DIR and FPIR": "dir",
    "The worst attacker tried links": "worst",
    "Illustration:": "illustration",
}
"""What a privacy officer could not read (UX-FINDINGS A15), and where it leads."""


@pytest.mark.parametrize(("said", "name"), HARD.items())
def test_a_hard_word_leads_to_its_entry(said, name):
    assert name in glossary.leads_to(said, plain=False)


def test_every_entry_stands_on_pages_that_there_are_and_has_a_whole_sentence():
    spelled = {}
    for one in WORDS.values():
        assert one.where, one.name
        assert set(one.where) <= set(PAGES)
        assert one.says.endswith((".", "!"))
        assert re.fullmatch(r"[a-z0-9-]+", one.name)
        for mark in (*one.marks, *one.plain):
            assert spelled.setdefault(mark.casefold(), one.name) == one.name, f"{mark} is of two entries"
            assert one.name in glossary.leads_to(mark), mark


def test_links_are_put_into_text_alone():
    made = linked_html('<b title="cosine" class="epsilon">ε &amp; cosine</b> <a href="x">delta</a> cosine')
    assert made.count("<a ") == 3
    assert 'title="cosine" class="epsilon"' in made
    assert '<a href="x">delta</a>' in made
    assert linked("[epsilon](x) `epsilon`") == "[epsilon](x) `epsilon`"
    assert linked(None) is None
    assert re.sub(r"<a class=[^>]*>|</a>", "", linked_html("<p>1 &lt; ε, heads</p>")) == "<p>1 &lt; ε, heads</p>"


def help_texts() -> list[tuple[str, str]]:
    """(where, text) of every help text in the sources but those of buttons, whose tooltip says what they do."""
    found = []
    for path in sorted([*ROOT.glob("explorer/**/*.py"), *ROOT.glob("pages/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or "button" in ast.unparse(node.func):
                continue
            for keyword in node.keywords:
                if keyword.arg == "help":
                    texts = [n.value for n in ast.walk(keyword.value) if isinstance(n, ast.Constant)]
                    found += [(f"{path.name}:{node.lineno}", text) for text in texts if isinstance(text, str) and text]
    return found


def test_every_help_text_in_the_sources_leads_to_an_entry():
    texts = help_texts()
    assert len(texts) >= 15
    assert [where for where, text in texts if not glossary.leads_to(text)] == []


def without_way(app) -> list[str]:
    """Widgets of a page whose help text has no link to an entry."""
    kinds = ("segmented_control", "selectbox", "slider", "select_slider", "number_input", "toggle", "pills", "radio")
    widgets = [widget for kind in kinds for widget in [*app.get(kind), *app.sidebar.get(kind)]]
    said = [(widget.key, widget.proto.help) for widget in widgets]
    return [key for key, text in said if text and "methods?word=" not in text]


@pytest.mark.parametrize("page", [name for name in PAGES if name not in {stop.page for stop in methods.TOUR}])
def test_help_on_a_page_leads_to_the_entries(open_page, page):
    assert without_way(open_page(page)) == []


@pytest.mark.parametrize("stop", methods.TOUR, ids=lambda stop: stop.page)
def test_a_stop_of_the_tour_opens_without_a_problem(open_page, stop):
    app = open_page(stop.page, **stop.query)
    assert not app.exception
    assert 'class="le-problem"' not in words(app)
    assert without_way(app) == []


def test_a_tour_has_six_stops_of_pages_that_there_are():
    assert len(methods.TOUR) == 6
    assert {stop.page for stop in methods.TOUR} <= set(PAGES)


def test_a_link_to_a_word_shows_it_first_whatever_tab_was_open(open_page):
    app = open_page("methods", part="tour")
    assert 'class="me-one"' not in words(app)
    app.query_params["word"] = "delta"
    app.run()
    assert "<h2>Delta (δ)</h2>" in words(app)
    for one in WORDS.values():
        assert f'href="{glossary.address(one.name)}"' in words(app)
    app.query_params["word"] = "<b>"
    app.run()
    assert "There is no such word." in words(app)
    assert "<b>" not in words(app).replace("<b>Delta", "")


def test_a_word_is_found_by_its_letters(open_page):
    app = open_page("methods")
    app.text_input(key="find a word").input("zero-shot").run()
    assert "prompts" not in words(app)
    assert 'href="methods?word=zero-shot"' in words(app)
    assert 'href="methods?word=delta"' not in words(app)
    app.text_input(key="find a word").input("qqq").run()
    assert "No entry has these letters." in words(app)


def test_every_tab_is_drawn_and_every_formula_moves(open_page):
    app = open_page("methods", part="formulas")
    assert not app.exception
    for one in methods.FORMULAS:
        assert one.says(one.first) in words(app).replace("&#x27;", "'")
        assert set(one.words) <= set(WORDS)
        said = [one.says(value) for value in one.values]
        assert len(set(said)) == len(said), one.name
    slider = next(node for node in app.get("select_slider") if node.key == "formula epsilon")
    slider.set_value(3.0).run()
    assert methods.told_apart(3.0) in words(app)
    for part in ("attackers", "pitfalls", "tour"):
        assert not open_page("methods", part=part).exception


def test_every_attacker_of_ours_is_said_in_plain_words(open_page):
    assert all(row.plain for row in ATTACKERS.values())
    app = go_to(open_page(part="attackers"), "methods")
    for name in attackers():
        if name != "predictor":
            assert in_plain_words(name) in words(app)
