"""The tabs of Risk by pool size in the browser: the URL holds them, nothing moves, text is whole in both themes."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import answer, main_height, settled


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    expect(page.get_by_role("tab", name=name)).to_have_attribute("aria-selected", "true")
    settled(page)


def pictures(page) -> int:
    return page.locator(".js-plotly-plot:visible").count()


def test_tabs_by_mouse_and_keys_are_in_the_link_that_restores_them(page_at):
    watched = page_at("/risk?N=50")
    page = watched.page
    open_tab(page, "Models compared")
    expect(page).to_have_url(re.compile(r"[?&]tab=compare\b"))
    expect(page.locator(".le-big").first).to_contain_text("images than")
    page.get_by_role("tab", name="Models compared").press("ArrowRight")
    expect(page).to_have_url(re.compile(r"[?&]tab=decoys\b"))
    expect(page.locator(".le-big").first).to_contain_text("a coin 50.", timeout=30_000)
    settled(page)
    assert pictures(page) == 1
    again = page_at("/" + page.url.split("/", 3)[3]).page
    assert answer(again) == answer(page)
    expect(again.get_by_role("tab", name="Same-finding decoys")).to_have_attribute("aria-selected", "true")
    open_tab(page, "Curve")
    expect(page).not_to_have_url(re.compile(r"tab="))
    expect(page.locator(".le-big").first).to_contain_text("At N = 50:")
    assert answer(page).startswith("At N = 50:")
    assert watched.errors == []


def test_decoys_change_headline_and_curve_and_move_nothing(page_at):
    page = page_at("/risk").page
    height, first = main_height(page), answer(page)
    places = {name: page.get_by_role("radio", name=name).bounding_box() for name in ("any patient", "Images linked")}
    top = page.locator(".js-plotly-plot").first.bounding_box()["y"]
    page.get_by_text("same findings", exact=True).click()
    expect(page).to_have_url(re.compile(r"[?&]decoys=same\b"))
    expect(page.locator(".le-small").first).to_contain_text("same findings")
    settled(page)
    assert answer(page) != first
    page.get_by_role("button", name="Match more").click()
    page.get_by_role("button", name="Sex").click()
    expect(page).to_have_url(re.compile(r"[?&]alike=sex\b"))
    page.keyboard.press("Escape")
    settled(page)
    assert main_height(page) == height
    assert page.locator(".js-plotly-plot").first.bounding_box()["y"] == top
    assert {name: page.get_by_role("radio", name=name).bounding_box() for name in places} == places


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tab", ["compare", "decoys"])
def test_the_pictures_of_the_tabs_are_whole(page_at, tab, scheme):
    watched = page_at(f"/risk?tab={tab}&N=50", scheme=scheme)
    plot = watched.page.locator(".js-plotly-plot:visible").first
    expect(plot).to_be_visible(timeout=30_000)
    frame = plot.bounding_box()
    boxes = plot.locator("text").evaluate_all(
        """nodes => nodes.map(n => n.getBoundingClientRect()).filter(r => r.width > 0)
            .map(r => [r.left, r.right, r.top, r.bottom])"""
    )
    assert len(boxes) > 8
    for left, right, top, bottom in boxes:
        assert frame["x"] - 1 <= left
        assert right <= frame["x"] + frame["width"] + 1
        assert frame["y"] - 1 <= top
        assert bottom <= frame["y"] + frame["height"] + 1
    assert watched.errors == []
