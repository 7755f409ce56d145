"""Be the attacker in Chromium: keys and clicks, nothing scrolls, focus is seen, and the answer is not there before."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import settled

CARDS = ".cards button"


def scrolls(page) -> bool:
    return page.evaluate(
        "(() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollHeight > m.clientHeight })()"
    )


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 800, "light"), (1920, 1080, "dark")])
def test_a_question_is_answered_by_key_and_nothing_scrolls(page_at, width, height, scheme):
    watched = page_at("/play?reports=4", width, height, scheme)
    page = watched.page
    cards = page.locator(CARDS)
    expect(cards).to_have_count(4)
    assert not scrolls(page)
    assert page.locator(f"{CARDS}.true, .cards .tag, .cards .model").count() == 0
    assert page.locator(".cards").evaluate("e => e.scrollHeight <= e.clientHeight")
    assert cards.first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)") >= 15
    page.keyboard.press("3")
    expect(page.locator(f"{CARDS}.true")).to_have_count(1)
    expect(cards.nth(2)).to_have_class(re.compile("mine"))
    assert not scrolls(page)
    page.keyboard.press("1")  # too late
    page.keyboard.press("ArrowRight")
    expect(page.locator(".pl-say")).to_contain_text("Image 2 of 10")
    expect(page.locator(f"{CARDS}.true, {CARDS}.mine, .cards .tag")).to_have_count(0)
    expect(page.locator(".pl-dots div").first).to_have_attribute("aria-label", re.compile("of 1 so far, of 10 images"))
    assert watched.outside() == []
    assert watched.errors == []


def test_a_card_is_reached_and_chosen_with_the_keyboard_and_its_focus_is_seen(page_at):
    page = page_at("/play?reports=10").page
    cards = page.locator(CARDS)
    expect(cards).to_have_count(10)
    cards.first.focus()
    page.keyboard.press("Tab")
    second = cards.nth(1)
    assert second.evaluate("e => e.matches(':focus-visible') && getComputedStyle(e).outlineWidth") == "3px"
    page.keyboard.press("Enter")
    expect(second).to_have_class(re.compile("mine"))
    settled(page)
    expect(page.get_by_role("button", name="Next image")).to_be_enabled()
