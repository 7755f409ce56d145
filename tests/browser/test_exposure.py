"""Who is exposed in the browser: a point and a row choose a record, Examples is there and back, nothing moves."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from .conftest import answer, main_height, settled

expect.set_options(timeout=15_000)


def record(page: Page) -> str:
    found = re.search(r"[?&]record=([^&]+)", page.url)
    return found[1] if found else ""


def card(page: Page):
    return page.locator(".le-one")


def click_point(page: Page, number: int) -> None:
    """The point of one place in the order of exposure; the first 40 are all drawn."""
    page.locator(".js-plotly-plot").first.scroll_into_view_if_needed()
    points = page.locator(".js-plotly-plot").first.locator(".trace.scatter .points path.point")
    box = points.nth(number - 1).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(150)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def tops(page: Page, *selectors: str) -> list[float]:
    return [page.locator(selector).first.bounding_box()["y"] for selector in selectors]


def test_a_point_chooses_its_record_again_and_again(page_at):
    page = page_at("/exposure").page
    expect(card(page)).to_contain_text("Number 1 of")
    for number in (5, 2, 5):
        click_point(page, number)
        expect(card(page)).to_contain_text(f"Number {number} of")
        settled(page)
        assert record(page) in card(page).inner_text()
    click_point(page, 5)  # a second click on what is chosen takes nothing away
    page.wait_for_timeout(800)
    expect(card(page)).to_contain_text("Number 5 of")
    expect(page.locator(".le-flat").first).to_contain_text("1 to 25 of")
    click_point(page, 38)  # so close to its neighbours that one of them may be meant
    expect(card(page)).to_contain_text(re.compile(r"Number (3[5-9]|4\d) of"))
    expect(page.locator(".le-flat").first).to_contain_text("26 to 50 of")


def test_a_row_chooses_its_record_and_the_point_follows(page_at):
    page = page_at("/exposure").page
    grid = page.get_by_test_id("stDataFrame")
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 36 + 62 * 2.5)  # the box before the third row
    expect(card(page)).to_contain_text("Number 3 of")
    ring = page.locator(".js-plotly-plot").first.locator(".trace.scatter .points path.point").last
    third = page.locator(".js-plotly-plot").first.locator(".trace.scatter .points path.point").nth(2)
    page.wait_for_timeout(500)
    assert ring.bounding_box()["x"] + ring.bounding_box()["width"] / 2 == pytest.approx(
        third.bounding_box()["x"] + third.bounding_box()["width"] / 2, abs=2
    )
    click_point(page, 5)
    expect(card(page)).to_contain_text("Number 5 of")


def test_to_examples_and_back_and_nothing_moves_there(page_at):
    plain = page_at("/examples?N=1000&model=phantom-clinical").page
    plain.locator(".list .head b").first.wait_for()
    plain.evaluate("document.fonts.ready")
    plain.wait_for_timeout(500)
    places = tops(plain, "h1", ".strip", ".list .head")
    page = page_at("/exposure?N=1000&model=phantom-clinical").page
    click_point(page, 7)
    expect(card(page)).to_contain_text("Number 7 of")
    settled(page)
    chosen = record(page)
    page.get_by_role("button", name="Open in Examples").click()
    expect(page.locator("h1")).to_contain_text("Which report does the model think")
    page.locator(".list .head b").first.wait_for()
    settled(page)
    page.wait_for_timeout(500)
    for part in (f"record={chosen}", "N=1000", "model=phantom-clinical"):
        assert part in page.url
    assert tops(page, "h1", ".strip", ".list .head") == pytest.approx(places, abs=1)
    page.get_by_role("link", name="Back to Who is exposed").click()
    expect(card(page)).to_contain_text("Number 7 of")
    assert chosen in card(page).inner_text()
    assert "N=1000" in page.url


def test_the_slider_by_keyboard_moves_sentence_and_picture_and_nothing_else(page_at):
    page = page_at("/exposure").page
    height, places = main_height(page), tops(page, ".js-plotly-plot", "[role=tablist]")
    before = answer(page)
    for n in ("200", "500", "1,000"):
        page.get_by_role("slider").press("ArrowRight")
        expect(page.locator(".js-plotly-plot").first).to_contain_text(f"N = {n},")
        settled(page)
        assert main_height(page) == height
        assert tops(page, ".js-plotly-plot", "[role=tablist]") == places
    assert answer(page) != before
    assert "of 1,000 pools" in answer(page)


def test_a_link_shows_what_was_on_screen(page_at):
    page = page_at("/exposure?N=500&model=phantom-clinical&list=groups&group=view").page
    said = answer(page), page.locator(".le-middle").inner_text()
    assert "of 1,000 pools" in said[0]
    assert "than all others" in said[1]
    expect(page.get_by_role("radio", name="View")).to_be_checked()
    again = page_at("/" + page.url.split("/", 3)[3]).page
    assert (answer(again), again.locator(".le-middle").inner_text()) == said


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_draws_without_complaint(page_at, scheme):
    watched = page_at("/exposure?list=with", scheme=scheme)
    page = watched.page
    assert page.locator(".js-plotly-plot").count() == 3
    plots = page.locator(".js-plotly-plot")
    for i in range(3):
        plot = plots.nth(i).bounding_box()
        texts = plots.nth(i).locator("text")
        boxes = texts.evaluate_all(
            "all => all.map(n => n.getBoundingClientRect()).map(r => [r.left, r.right, r.width])"
        )
        boxes = [(left, right) for left, right, width in boxes if width]
        assert len(boxes) > 5
        assert all(plot["x"] - 1 <= left and right <= plot["x"] + plot["width"] + 1 for left, right in boxes)
    for name in ("Groups", "Records"):
        page.get_by_role("tab", name=name).click()
        expect(page).to_have_url(re.compile("list=groups" if name == "Groups" else r"exposure\?(?!.*list=)"))
        settled(page)
    page.locator(".le-oneimage").wait_for()
    assert watched.errors == []
    assert watched.outside() == []
    assert page.get_by_test_id("stException").count() == 0


def test_the_files_say_what_the_page_says(page_at, tmp_path: Path):
    page = page_at("/exposure?N=100").page
    files = {}
    for label in ("Table (CSV)", "Picture (SVG)"):
        page.get_by_role("button", name="Save").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        files[label] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[label])
        page.keyboard.press("Escape")
    table = pd.read_csv(files["Table (CSV)"])
    assert list(table)[:2] == ["synthetic", "record_id"]
    n = int(re.search(r"of ([\d,]+) images", answer(page))[1].replace(",", ""))
    assert len(table) == n
    assert table["record_id"][0] == record(page)
    drawn = ET.parse(files["Picture (SVG)"]).getroot()
    said = " ".join("".join(node.itertext()) for node in drawn.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("synthetic cohort", "N = 100", f"n = {n:,} images", "guessing", "log scale"):
        assert word in said
