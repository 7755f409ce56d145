"""Compare mitigations in the browser: links restore it, a point chooses a row, Mitigation opens at its setting."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from helpers import frontier_store, lab_store

from .conftest import answer, main_height, settled
from .test_mitigation import card

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def small(serve, built):
    """A store with a small lab and made-up releases, on a server that nobody has visited."""
    return serve(built(frontier_store.build, lab_store.build))


def places(page: Page) -> list[float]:
    """Where things stand that no control may move, once they have found their size."""
    seen = _places(page)
    for _ in range(20):
        page.wait_for_timeout(250)
        before, seen = seen, _places(page)
        if seen == before:
            break
    return seen


def _places(page: Page) -> list[float]:
    shown = [".js-plotly-plot", ".fr-one", ".fr-legend", '[data-testid="stDataFrame"]']
    boxes = [page.locator(each).first.bounding_box() for each in shown]
    return [main_height(page), *(round(box[side]) for box in boxes for side in ("x", "y"))]


def test_a_link_shows_what_was_on_screen_and_controls_move_nothing(page_at, small):
    watched = page_at("/frontier?show=all&N=100&use=trained&option=codes-64", at=small)
    page = watched.page
    expect(page.locator(".fr-one")).to_contain_text("Codes, 64 cells")
    expect(page.get_by_role("radio", name="Train on it")).to_be_checked()
    before, said = places(page), answer(page)
    page.get_by_text("Read from it", exact=True).click()
    expect(page).not_to_have_url(re.compile("use=trained"))
    expect(page.locator(".le-big")).not_to_have_text(said)
    settled(page)
    assert places(page) == before
    page.get_by_text("Undeclared findings too").click()
    expect(page).to_have_url(re.compile("keep=undeclared"))
    page.get_by_text("Knows all", exact=True).click()
    expect(page).to_have_url(re.compile("attacker=omniscient"))
    settled(page)
    assert places(page) == before
    again = page_at("/" + page.url.split("/", 3)[3], at=small).page
    assert answer(again) == answer(page)
    assert watched.errors == []
    assert watched.outside() == []


def test_a_point_chooses_its_row_and_the_way_to_mitigation_keeps_the_setting(page_at, small):
    page = page_at("/frontier?show=all&N=100&use=trained", at=small).page
    plot = page.locator(".js-plotly-plot").first
    # the mark of codes with 256 cells, found by what the figure says of itself
    box = plot.evaluate(
        """plot => {
            const has = t => t.customdata && t.yaxis === 'y' && t.customdata.includes('codes-256');
            const trace = plot._fullData.find(has), i = trace.customdata.indexOf('codes-256');
            const frame = plot.getBoundingClientRect(), l = plot._fullLayout;
            const at = (axis, value) => axis._offset + axis.d2p(value);
            return [frame.x + at(l.xaxis, trace.x[i]), frame.y + at(l.yaxis, trace.y[i])];
        }"""
    )
    page.mouse.move(*box)
    page.wait_for_timeout(200)
    page.mouse.click(*box)
    expect(page.locator(".fr-one")).to_contain_text("Codes, 256 cells")
    expect(page).to_have_url(re.compile("option=codes-256"))
    settled(page)
    page.get_by_role("link", name="Open in Mitigation").click()
    page.wait_for_url(re.compile("/mitigation"))
    expect(page.locator(".mi-card").first).to_contain_text("Limit, for every attacker")
    settled(page)
    assert re.search(r"[?&]mechanism=codes", page.url)
    assert re.search(r"[?&]limit=256", page.url)
    expect(page.get_by_role("slider").first).to_have_attribute("aria-valuetext", "256")


def test_the_limit_of_a_release_moves_the_cards_and_nothing_else(page_at, small):
    watched = page_at("/mitigation?N=100&mechanism=capped&limit=10", at=small)
    page = watched.page
    first, second, height = card(page, 1), card(page, 2), main_height(page)
    frames = [page.locator(key).bounding_box() for key in (".st-key-mi-guarantee", ".st-key-mi-linkage")]
    page.get_by_role("slider").first.press("ArrowRight")
    expect(page).not_to_have_url(re.compile(r"limit=10\b"))
    expect(page.locator(".mi-card").first).not_to_have_text(first)
    settled(page)
    assert card(page, 2) != second
    assert main_height(page) == height
    assert [page.locator(key).bounding_box() for key in (".st-key-mi-guarantee", ".st-key-mi-linkage")] == frames
    assert watched.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_in_either_theme(page_at, small, scheme):
    for path in ("/frontier?show=all&N=100", "/mitigation?N=100&mechanism=statistics"):
        page = page_at(path, scheme=scheme, at=small).page
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280
        plot = page.locator(".js-plotly-plot").first
        frame = plot.bounding_box()
        boxes = plot.locator("text").evaluate_all(
            """nodes => nodes.map(n => n.getBoundingClientRect()).filter(r => r.width > 0)
                .map(r => [r.left, r.right])"""
        )
        assert len(boxes) > 5
        assert all(frame["x"] - 1 <= left and right <= frame["x"] + frame["width"] + 1 for left, right in boxes)
        strip = page.locator('[class*="st-key-fill-"]')  # stands above it until the page is filled
        above = strip.first.bounding_box()["height"] + 16 if strip.count() else 0
        assert frame["y"] - above < 620, "its top is on the first screen"
