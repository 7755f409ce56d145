"""Missing match in the browser: controls move sentence, pictures and URL, and nothing else."""

import re

import pytest
from playwright.sync_api import expect

from helpers import fixture_store

from .conftest import answer, main_height, settled


@pytest.fixture(scope="module")
def small(serve, built):
    """A store made for tests, on a server that nobody has visited."""
    return serve(built(fixture_store.build))


def crosses(page) -> list[int]:
    """Images linked wrongly in each picture of 100."""
    pictures = page.locator(".mm-array")
    return [pictures.nth(i).locator(".mm-wrong").count() for i in range(pictures.count())]


def upright(page) -> float:
    """Where the dotted line at the chosen threshold stands, in pixels."""
    return page.locator(".js-plotly-plot .shapelayer path").first.bounding_box()["x"]


def test_a_link_shows_what_was_on_screen_also_to_the_first_visitor(page_at, small):
    path = "/missing-match?N=10&prior=90&wanted=50&model=phantom-clinical"
    watched = page_at(path, at=small)
    page = watched.page
    assert page.get_by_role("dialog").count() == 0
    assert "who wants to be right 50 of 100 times" in answer(page)
    facts = page.locator(".le-small").first.inner_text()
    assert facts.startswith("Clinical · N = 10 · report in the pool for 90 of 100")
    expect(page.get_by_role("radio", name="50", exact=True)).to_be_checked()
    assert watched.errors == []
    assert watched.outside() == []
    again = page_at(page.url.split("/", 3)[3].join(["/", ""]), at=small).page
    assert (answer(again), again.locator(".le-small").first.inner_text()) == (answer(page), facts)


def test_controls_move_sentence_pictures_and_url_and_nothing_else(page_at, small):
    page = page_at("/missing-match?N=10&wanted=50", at=small).page

    def places() -> list[float]:
        shown = [".le-big", ".js-plotly-plot", ".mm-arrays", '[data-testid="stSlider"]']
        boxes = [page.locator(each).first.bounding_box() for each in shown]
        return [main_height(page), *(box[side] for box in boxes for side in ("x", "y"))]

    before, line, said, wrong = places(), upright(page), answer(page), crosses(page)
    prior = page.get_by_role("slider").nth(1)
    prior.press("End")
    expect(page).to_have_url(re.compile(r"[?&]prior=100\b"))
    settled(page)
    expect(page.locator(".le-big").first).not_to_have_text(said)
    page.wait_for_function(
        "x => document.querySelector('.js-plotly-plot .shapelayer path').getBoundingClientRect().x > x + 5", arg=line
    )
    assert crosses(page)[0] < wrong[0]
    assert places() == before
    prior.press("Home")
    expect(page.locator(".le-big").first).to_contain_text("no answer can be right")
    settled(page)
    assert crosses(page) == [100, 0]
    assert places() == before
    page.get_by_text("General", exact=True).click()
    expect(page.locator(".le-small").first).to_contain_text("General")
    settled(page)
    assert places() == before


def test_the_rule_has_a_box_of_its_own(page_at, small):
    page = page_at("/missing-match?N=10", at=small).page
    page.get_by_role("button", name="Rule: top score").click()
    page.get_by_role("radio", name="Margin to the second").click(force=True)
    expect(page.get_by_role("button", name="Rule: margin to the second")).to_be_visible()
    expect(page).to_have_url(re.compile(r"[?&]rule=margin\b"))


@pytest.mark.parametrize(
    ("scheme", "query"),
    [("light", ""), ("dark", "?N=10&prior=100&wanted=50"), ("light", "?N=10000&model=phantom-general")],
)
def test_nothing_is_cut_off_in_either_theme(page_at, scheme, query):
    watched = page_at(f"/missing-match{query}", scheme=scheme)
    page = watched.page
    plot = page.locator(".js-plotly-plot").first.bounding_box()
    boxes = page.locator(".js-plotly-plot text").evaluate_all(
        """nodes => nodes.map(n => n.getBoundingClientRect()).filter(r => r.width > 0)
            .map(r => [r.left, r.right, r.top, r.bottom])"""
    )
    assert len(boxes) > 8
    for left, right, top, bottom in boxes:
        assert plot["x"] - 1 <= left
        assert right <= plot["x"] + plot["width"] + 1
        assert plot["y"] - 1 <= top
        assert bottom <= plot["y"] + plot["height"] + 1
    arrays = page.locator(".mm-arrays").bounding_box()
    assert arrays["x"] + arrays["width"] <= 1280
    assert plot["y"] < 330, "the top of the picture is on the first screen"
    assert watched.errors == []
