"""Mitigation in the browser: links restore it, controls move cards and charts and nothing else, runs go beside it."""

import re

import pytest
from playwright.sync_api import expect

from helpers import lab_store

from .conftest import main_height, settled


@pytest.fixture(scope="module")
def small(serve, built):
    """A store with a small lab, on a server that nobody has visited."""
    return serve(built(lab_store.build))


def card(page, number: int) -> str:
    return " ".join(page.locator(".mi-card").nth(number - 1).inner_text().split())


def places(page) -> list[float]:
    """Where things stand that no control may move, once pictures have found their size."""
    seen = _places(page)
    for _ in range(20):
        page.wait_for_timeout(250)
        before, seen = seen, _places(page)
        if seen == before:
            break
    return seen


def _places(page) -> list[float]:
    shown = [".st-key-mi-guarantee", ".st-key-mi-linkage", ".st-key-mi-damage", ".js-plotly-plot"]
    boxes = [page.locator(each).first.bounding_box() for each in shown]
    controls = [page.get_by_role("slider"), page.get_by_role("radio", name="Raw images")]
    boxes += [control.first.locator("xpath=ancestor::*[@data-testid][1]").bounding_box() for control in controls]
    return [main_height(page), *(round(box[side]) for box in boxes for side in ("x", "y"))]


def test_a_link_shows_what_was_on_screen_also_to_the_first_visitor(page_at, small):
    path = "/mitigation?N=10&epsilon=5&release=embeddings&mechanism=moment-oneshot"
    watched = page_at(path, at=small)
    page = watched.page
    assert "ε = 5" in card(page, 1)
    expect(page.get_by_role("radio", name="Embeddings", exact=True)).to_be_checked()
    assert watched.errors == []
    assert watched.outside() == []
    again = page_at("/" + page.url.split("/", 3)[3], at=small).page
    assert [card(again, i) for i in (1, 2)] == [card(page, i) for i in (1, 2)]


def test_controls_move_cards_charts_and_url_and_nothing_else(page_at, small):
    page = page_at("/mitigation?N=10", at=small).page
    before, first, second = places(page), card(page, 1), card(page, 2)
    line = page.locator(".js-plotly-plot .scatterlayer .trace path.js-line").nth(1).get_attribute("d")
    slider = page.get_by_role("slider").first
    for _ in range(3):
        slider.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"[?&]epsilon=1\b"))
    expect(page.locator(".mi-card").first).not_to_have_text(first)
    settled(page)
    assert card(page, 2) != second
    page.wait_for_function(
        """d => [...document.querySelectorAll('.js-plotly-plot .scatterlayer .trace path.js-line')]
            .every(path => path.getAttribute('d') !== d)""",
        arg=line,
    )
    assert places(page) == before
    page.get_by_text("Raw images", exact=True).click()
    expect(page.locator(".mi-card").nth(1)).to_contain_text("A head protects nothing here")
    settled(page)
    assert places(page) == before
    page.get_by_test_id("stMain").get_by_role("combobox", name="Mechanism").click()
    page.get_by_role("option", name="A reading of the study").click()
    expect(page.locator(".mi-card").first).to_contain_text("None established.")
    settled(page)
    assert places(page) == before


def test_attackers_run_beside_the_page_and_whoever_leaves_finds_them_done(page_at, small):
    page = page_at("/mitigation?N=10&epsilon=10", at=small).page
    before = places(page)
    page.get_by_role("button", name="Run the attackers").click()
    heights = {main_height(page)}
    while not page.get_by_role("button", name="Cancel").is_visible():
        heights.add(main_height(page))
    for _ in range(10):  # until the old button has gone
        page.wait_for_timeout(100)
        heights.add(main_height(page))
    assert heights == {before[0]}, "nothing moves while a button gives way to its progress"
    settled(page)
    assert places(page) == before
    page.get_by_text("Examples", exact=True).click()  # leaving the page does not break it
    page.wait_for_url(re.compile("/examples"))
    settled(page)
    page.get_by_text("Mitigation", exact=True).first.click()
    page.wait_for_url(re.compile("/mitigation"))
    expect(page.locator(".mi-card").nth(1)).to_contain_text("The worst attacker tried links", timeout=60_000)
    settled(page)
    assert places(page) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("query", ["?N=100", "?mechanism=label-dpsgd&epsilon=3"])
def test_nothing_is_cut_off_in_either_theme(page_at, small, scheme, query):
    watched = page_at(f"/mitigation{query}", scheme=scheme, at=small)
    page = watched.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    for i in range(page.locator(".js-plotly-plot").count()):
        plot = page.locator(".js-plotly-plot").nth(i)
        frame = plot.bounding_box()
        boxes = plot.locator("text").evaluate_all(
            """nodes => nodes.map(n => n.getBoundingClientRect()).filter(r => r.width > 0)
                .map(r => [r.left, r.right, r.top, r.bottom])"""
        )
        assert len(boxes) > 5
        for left, right, top, bottom in boxes:
            assert frame["x"] - 1 <= left
            assert right <= frame["x"] + frame["width"] + 1
            assert frame["y"] - 1 <= top
            assert bottom <= frame["y"] + frame["height"] + 1
    cards = [page.locator(key).bounding_box() for key in (".st-key-mi-guarantee", ".st-key-mi-linkage")]
    assert cards[0]["y"] == cards[1]["y"]
    assert cards[0]["height"] == cards[1]["height"]
    assert page.locator(".js-plotly-plot").first.bounding_box()["y"] < 620, "its top is on the first screen"
    assert watched.errors == []
