"""Report to file in a browser: the report in a frame that can do nothing, and its files."""

import pytest

from helpers import fixture_store


@pytest.fixture(scope="module")
def small(serve, built):
    return serve(built(fixture_store.build))


def test_the_report_stands_in_a_frame_that_can_do_nothing(page_at, small):
    watched = page_at("/report", at=small)
    page = watched.page
    page.get_by_role("button", name="Make the report").click()
    frame = page.locator("iframe[title='The report']")
    frame.wait_for(timeout=60_000)
    assert frame.get_attribute("sandbox") == ""
    inside = page.frame_locator("iframe[title='The report']")
    inside.locator("#sign").wait_for()
    headline = page.locator(".rp-answer").inner_text()
    assert inside.locator("#answer .lead").inner_text() == headline.strip()
    assert inside.locator("svg").count() >= 1
    box = frame.bounding_box()
    assert box["height"] >= 480
    assert box["x"] + box["width"] <= 1280
    assert watched.outside() == []
    assert watched.errors == []


def test_the_files_are_what_is_on_screen_and_print(page_at, small, tmp_path):
    page = page_at("/report?filed=phantom-radiology&sections=none", at=small).page
    page.get_by_role("button", name="Make the report").click()
    page.locator("iframe[title='The report']").wait_for(timeout=60_000)
    headline = page.locator(".rp-answer").inner_text().strip()
    for label in ("HTML", "JSON"):
        with page.expect_download() as got:
            page.get_by_role("button", name=label).click()
        assert got.value.suggested_filename == f"linkage-report-phantom.{label.lower()}"
        got.value.save_as(tmp_path / label)
        assert headline in (tmp_path / label).read_text(encoding="utf-8")
    page.emulate_media(media="print")
    page.goto((tmp_path / "HTML").rename(tmp_path / "report.html").as_uri())
    style = "(selector) => getComputedStyle(document.querySelector(selector))"
    for selector, name, value in (
        ("thead", "display", "table-header-group"),
        ("tbody tr", "display", "table-row"),
        (".blank", "display", "flex"),
        (".answer", "display", "block"),
        ("#sign", "breakInside", "avoid"),
        ("figure", "breakInside", "avoid"),
    ):
        assert page.evaluate(f"{style}.{name}", selector) == value, selector
    blank = page.locator(".blank span:last-child").first.bounding_box()
    assert blank["width"] > 300
