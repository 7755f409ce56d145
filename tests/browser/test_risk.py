"""Risk by pool size in the browser: slider, box, chart and URL hold one value; files say the same."""

import csv
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import answer, main_height, settled


def chosen_line(page) -> float:
    """Where the dotted line at the chosen N stands, in pixels."""
    line = page.locator(".js-plotly-plot .shapelayer path").first
    line.wait_for(state="attached")
    page.wait_for_function(
        "() => document.querySelector('.js-plotly-plot .shapelayer path').getBoundingClientRect().x > 0"
    )
    return line.evaluate("path => path.getBoundingClientRect().x")


def type_n(page, n: int) -> None:
    box = page.get_by_test_id("stNumberInputField")
    box.fill(str(n))
    box.press("Enter")
    expect(page.get_by_test_id("stMain").locator(".le-line").first).to_contain_text(f"N = {n:,}")
    settled(page)


def test_the_slider_moves_the_sentence_the_chart_and_the_box(page_at):
    page = page_at("/risk").page
    before = chosen_line(page)
    page.get_by_role("slider").press("ArrowRight")
    expect(page.locator(".le-big").first).to_contain_text("At N = 200:")
    settled(page)
    page.wait_for_function(
        "x => document.querySelector('.js-plotly-plot .shapelayer path').getBoundingClientRect().x > x + 5", arg=before
    )
    expect(page.get_by_test_id("stNumberInputField")).to_have_value("200")
    expect(page).to_have_url(re.compile(r"[?&]N=200\b"))


def test_the_slider_offers_what_was_typed(page_at):
    page = page_at("/risk").page
    type_n(page, 53)
    expect(page.get_by_role("slider")).to_have_attribute("aria-valuetext", "53")
    expect(page).to_have_url(re.compile(r"[?&]N=53\b"))


@pytest.mark.parametrize("path", ["/risk?N=137&model=phantom-clinical&k=5&measure=lift"])
def test_a_link_shows_what_was_on_screen(page_at, path):
    page = page_at(path).page
    first = answer(page), page.locator(".le-small").first.inner_text()
    assert first[0].startswith("At N = 137:")
    assert "Clinical" in first[1]
    assert "among the first 5" in first[1]
    expect(page.get_by_role("radio", name="Times chance")).to_be_checked()
    again = page_at(page.url.split("/", 3)[3].join(["/", ""])).page
    assert (answer(again), again.locator(".le-small").first.inner_text()) == first


@pytest.mark.parametrize("path", ["/risk?N=abc&k=99&model=%3Cb%3E&measure=%22&cohort=..%2F..", "/?N=-1&cohort=%00"])
def test_rubbish_falls_back(page_at, path):
    watched = page_at(path)
    assert "Guessing" in answer(watched.page)
    assert watched.errors == []
    assert watched.page.get_by_test_id("stException").count() == 0


def test_changing_n_does_not_move_the_page(page_at):
    page = page_at("/risk").page
    height = main_height(page)
    tops = [page.locator(".js-plotly-plot").first.bounding_box()["y"]]
    for n in (20, 137, 99_999_999, 50):
        type_n(page, n)
        assert main_height(page) == height
        tops.append(page.locator(".js-plotly-plot").first.bounding_box()["y"])
    assert len(set(tops)) == 1


def test_too_large_a_pool_is_answered_with_the_largest(page_at):
    page = page_at("/risk").page
    type_n(page, 99_999_999)
    assert answer(page).startswith("At N = 10,483:")
    expect(page.locator(".le-small").first).to_contain_text("N = 99,999,999 cannot be shown here: this is N = 10,483")
    expect(page).to_have_url(re.compile(r"[?&]N=10483\b"))


def test_files_say_what_the_page_says(page_at, tmp_path: Path):
    page = page_at("/risk?N=53").page
    files = {}
    for label in ("Table (CSV)", "Picture (SVG)"):
        page.get_by_role("button", name="Save").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=label).click()
        files[label] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[label])
        page.keyboard.press("Escape")
    rows = list(csv.DictReader(files["Table (CSV)"].open(encoding="utf-8")))
    assert {"53", "10"} <= {row["pool_size"] for row in rows}
    assert {row["synthetic"] for row in rows} == {"True"}
    drawn = ET.parse(files["Picture (SVG)"]).getroot()
    said = " ".join("".join(node.itertext()) for node in drawn.iter("{http://www.w3.org/2000/svg}text"))
    for word in ("synthetic cohort Phantom, site A", "chosen N = 53", "n = ", "guessing", "log scale"):
        assert word in said


def test_chart_text_is_not_clipped(page_at):
    page = page_at("/risk").page
    plot = page.locator(".js-plotly-plot").first.bounding_box()
    boxes = page.locator(".js-plotly-plot text").evaluate_all(
        """nodes => nodes.map(n => n.getBoundingClientRect()).filter(r => r.width > 0)
            .map(r => [r.left, r.right, r.top, r.bottom])"""
    )
    assert len(boxes) > 10
    for left, right, top, bottom in boxes:
        assert plot["x"] - 1 <= left
        assert right <= plot["x"] + plot["width"] + 1
        assert plot["y"] - 1 <= top
        assert bottom <= plot["y"] + plot["height"] + 1
