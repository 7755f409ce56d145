"""Start as a reader sees it: the answer on the first screen, at every size and in both themes."""

import re

import pytest
from playwright.sync_api import expect

from .conftest import answer, main_height, settled

SIZES = [(1280, 800), (1920, 1080)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_answer_is_on_the_first_screen_and_nothing_scrolls_sideways(page_at, width, height, scheme):
    page = page_at("/risk?N=1000&measure=lift" if scheme == "light" else "/", width, height, scheme).page
    box = page.locator(".le-big").first.bounding_box()
    assert box["y"] + box["height"] < height
    picture = page.locator(".js-plotly-plot").first.bounding_box()
    assert picture["y"] < height - 100
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide, seen = page.evaluate(
        "(() => { const m = document.querySelector('[data-testid=stMain]'); return [m.scrollWidth, m.clientWidth] })()"
    )
    assert wide <= seen


def test_the_sidebar_has_its_width_and_only_pages_there_are(page_at):
    page = page_at("/").page
    assert page.get_by_test_id("stSidebar").bounding_box()["width"] == 264
    links = page.get_by_test_id("stSidebarNavLink").all_inner_texts()
    measure = ["Risk by pool size", "Missing match", "Who is exposed"]
    names = ["Start", "Examples", *measure, "Mitigation", "Compare mitigations"]
    names += ["Be the attacker", "Report to file", "Methods and words", "Your data"]
    assert [re.sub(r"^\w*\s*\n", "", text).strip() for text in links] == names


def test_dots_and_sentence_say_the_same(page_at):
    page = page_at("/").page
    count = int(answer(page).split()[0])
    assert page.locator(".le-array .le-dot").count() == 100
    assert page.locator(".le-array .le-on").count() == count
    filled = page.locator(".le-array .le-on").first.evaluate("e => getComputedStyle(e).backgroundColor")
    empty = page.locator(".le-array .le-dot").first.evaluate("e => getComputedStyle(e).backgroundColor")
    assert filled != empty


def test_model_choice_goes_to_the_url_and_to_the_next_page(page_at):
    page = page_at("/").page
    before = answer(page)
    page.get_by_role("radio", name="General", exact=True).click()
    expect(page).to_have_url(re.compile(r"[?&]model=phantom-general"))
    expect(page.locator(".le-big").first).not_to_have_text(before)
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Risk by pool size").click()
    page.wait_for_url(re.compile("/risk"))
    settled(page)
    expect(page).to_have_url(re.compile(r"model=phantom-general"))
    expect(page.get_by_role("radio", name="General", exact=True)).to_be_checked()


def test_the_back_button_takes_a_choice_back(page_at):
    page = page_at("/").page
    before = answer(page)
    page.get_by_role("radio", name="General", exact=True).click()
    expect(page.locator(".le-small").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"model=phantom-general"))
    settled(page)
    page.go_back()
    expect(page.get_by_role("radio", name="Radiology", exact=True)).to_be_checked()
    settled(page)
    assert answer(page) == before


def test_another_model_does_not_move_the_page(page_at):
    page = page_at("/").page
    height = main_height(page)
    for name in ("General", "Clinical", "Radiology"):
        page.get_by_role("radio", name=name, exact=True).click()
        expect(page.get_by_role("radio", name=name, exact=True)).to_be_checked()
        settled(page)
        assert main_height(page) == height


def test_the_cards_lead_to_their_pages(page_at):
    page = page_at("/?N=50").page
    page.get_by_test_id("stPageLink").filter(has_text="See how the risk changes").click()
    page.wait_for_url(re.compile("/risk"))
    settled(page)
    assert answer(page).startswith("At N = 50:")
