"""Examples in Chromium: the row of thumbnails, the viewer, the lists, and what is sent to the browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, WebSocket, expect

from helpers import examples_store
from helpers.shared import Built

from .conftest import Server, main_height, settled

expect.set_options(timeout=30_000)
FIRST, SECOND = "A-400000-1-PA", "A-400000-2-PA"
STEPS = (10, 30, 100, 142)


@pytest.fixture(scope="module")
def drawn_server(serve: Callable[..., Server], built: Built) -> Server:
    return serve(built(examples_store.build))


@pytest.fixture(scope="module")
def address(drawn_server: Server) -> str:
    return drawn_server.url


class Frames:
    """What came over the websocket since the last look."""

    def __init__(self, page: Page) -> None:
        self.page, self.received = page, list[bytes]()
        page.on("websocket", self._listen)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._keep)

    def _keep(self, frame: bytes | str) -> None:
        self.received.append(frame.encode() if isinstance(frame, str) else frame)

    def take(self) -> list[bytes]:
        taken, self.received = self.received, []
        return taken

    def leave(self) -> None:
        self.page.remove_listener("websocket", self._listen)


Open = Callable[..., tuple[Page, Frames]]
Tab = Callable[[Server], Page]


@pytest.fixture
def open_page(new_tab: Tab, address: str, drawn_server: Server) -> Iterator[Open]:
    """open_page("shown=12"): a page of somebody who has the token."""
    opened = []

    def open_page(query: str = "") -> tuple[Page, Frames]:
        page = new_tab(drawn_server)
        frames = Frames(page)
        opened.append(frames)
        page.context.add_cookies([{**drawn_server.cookie, "url": address}])
        page.goto(f"{address}/examples?{query}")
        page.locator(".list .cards").first.wait_for()
        page.locator(".strip button").first.wait_for()
        drawn(page)
        return page, frames

    yield open_page
    for frames in opened:
        frames.leave()


def drawn(page: Page) -> None:
    """Waits until no script runs and the picture is on the screen."""
    settled(page)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shows(page: Page, record: str) -> None:
    expect(page.locator(".box .caption")).to_contain_text(record)
    expect(page.locator(f".strip button[data-record='{record}']")).to_have_attribute("aria-selected", "true")
    drawn(page)


def pixels(page: Page) -> list[int]:
    """Grey values of the canvas on a grid of 32 x 32 points."""
    drawn(page)
    return page.locator(".box canvas").evaluate(
        """canvas => {
            const { width, height } = canvas, out = [];
            const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            const at = (i, length) => Math.floor((i + 0.5) * length / 32);
            for (let i = 0; i < 32; i++)
                for (let j = 0; j < 32; j++) out.push(all[4 * (at(i, height) * width + at(j, width))]);
            return out;
        }"""
    )


def drag(page: Page, dx: int, dy: int, button: str = "left") -> None:
    box = page.locator(".box canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down(button=button)
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up(button=button)


def window_label(page: Page) -> str:
    drawn(page)
    return page.locator(".box .window").inner_text()


def set_n(page: Page, n: int) -> None:
    """Moves the slider with the keyboard until it says n. An image with fewer reports of others has all it can have."""
    thumb = page.get_by_role("slider", name="Reports in the pool (N)")
    while (at := int(thumb.get_attribute("aria-valuetext").replace(",", ""))) != n:
        thumb.press("ArrowRight" if at < n else "ArrowLeft")
        expect(thumb).not_to_have_attribute("aria-valuetext", f"{at:,}")
    expect(page.locator(".list .head").first).to_contain_text(
        re.compile(rf"of {n}$" if n < STEPS[-1] else r"of 1[34]\d$")
    )
    drawn(page)


def choose_model(page: Page, label: str) -> None:
    page.get_by_role("radio", name=label, exact=True).click()
    expect(page.locator(".list .caption").first).to_contain_text(label)
    page.locator("h1").click()  # the arrow keys belong to a focused control
    drawn(page)


# -- the row of thumbnails -------------------------------------------------------------------------------------------


def test_an_image_is_chosen_by_click_keys_and_at_random_without_a_reload(open_page: Open) -> None:
    page, _ = open_page()
    shows(page, FIRST)
    page.evaluate("window.stayed = true")
    page.keyboard.press("ArrowRight")
    shows(page, SECOND)
    page.keyboard.press("ArrowLeft")
    shows(page, FIRST)

    # in the row, arrow keys move the focus and Enter chooses
    page.locator(".strip button[aria-selected=true]").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.shadowRoot.activeElement.dataset.record") != FIRST
    drawn(page)
    shows(page, FIRST)
    page.keyboard.press("Enter")
    third = page.locator(".strip button").nth(2).get_attribute("data-record")
    shows(page, third)
    assert page.evaluate("document.activeElement.shadowRoot.activeElement.dataset.record") == third

    # the row keeps its place when something in sight is chosen
    row = page.locator(".strip")
    row.evaluate("row => row.scrollLeft = 300")
    list_before, pixels_before = page.locator(".list").inner_text(), pixels(page)
    page.locator(".strip button").nth(8).click()
    chosen = page.locator(".strip button").nth(8).get_attribute("data-record")
    shows(page, chosen)
    assert abs(row.evaluate("row => row.scrollLeft") - 300) <= 1
    expect(page.locator(".list")).not_to_have_text(list_before, use_inner_text=True)
    assert pixels(page) != pixels_before

    page.get_by_role("button", name=re.compile("Random")).click()
    expect(page.locator(".box .caption")).not_to_contain_text(chosen)
    drawn(page)
    assert page.evaluate("window.stayed") is True
    assert len(page.context.pages) == 1


def test_a_wrong_record_in_the_url_says_so_and_shows_the_first(open_page: Open) -> None:
    page, _ = open_page("record=%3Cb%3Enobody%3C%2Fb%3E")
    expect(page.locator(".lx-note")).to_contain_text("Image <b>nobody</b> is not in this cohort")
    shows(page, FIRST)
    page, _ = open_page(f"record={SECOND}")
    shows(page, SECOND)
    expect(page.locator(".lx-note")).to_contain_text("Drag: contrast")


def test_find_takes_keys_from_the_viewer_and_no_match_says_so_and_clears(open_page: Open) -> None:
    page, _ = open_page()
    fresh = pixels(page)
    heights = page.locator(".strip, .box").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    page.get_by_role("button", name=re.compile("^.*Find")).click()
    page.mouse.move(page.locator(".box").bounding_box()["x"] + 40, 500)
    page.get_by_label("Patient", exact=True).press_sequentially("i +-")
    assert pixels(page) == fresh
    expect(page.get_by_label("Patient", exact=True)).to_have_value("i +-")
    page.get_by_label("Patient", exact=True).fill("")
    page.get_by_label("Image", exact=True).fill("nobody")
    page.get_by_label("Image", exact=True).press("Enter")
    page.keyboard.press("Escape")
    clear = page.get_by_role("button", name="No image matches. Clear filters.")
    clear.wait_for()
    expect(page.locator(".box .failed")).to_contain_text("No image matches.")
    after = page.locator(".strip, .box").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert after == heights
    clear.click()
    shows(page, FIRST)


# -- the viewer ------------------------------------------------------------------------------------------------------


def test_wheel_drag_and_buttons_change_the_view_and_take_it_back(open_page: Open) -> None:
    page, _ = open_page()
    fresh = pixels(page)
    scrolled = "document.querySelector('[data-testid=stMain]').scrollTop"
    page.locator(".box canvas").hover()
    page.mouse.wheel(0, 120)
    page.wait_for_function(f"() => {scrolled} > 0")  # the wheel belongs to the page until the picture has the focus
    assert window_label(page) == "Contrast 100% · Brightness 50%"
    page.mouse.wheel(0, -120)
    page.wait_for_function(f"() => {scrolled} === 0")
    page.locator(".box canvas").focus()
    box = page.locator(".box canvas").bounding_box()
    spot = (box["x"] + box["width"] * 8.5 / 32, box["y"] + box["height"] * 20.5 / 32)
    page.mouse.move(*spot)
    page.mouse.wheel(0, -300)
    expect(page.locator(".box .window")).to_contain_text("Zoom 1.8")
    zoomed = pixels(page)
    assert zoomed != fresh
    assert abs(zoomed[20 * 32 + 8] - fresh[20 * 32 + 8]) <= 12  # the point under the pointer stays
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop") == 0
    page.keyboard.down("Shift")
    drag(page, 60, 40)
    page.keyboard.up("Shift")
    assert pixels(page) != zoomed
    assert "Contrast 100%" in window_label(page)
    moved = pixels(page)
    drag(page, -40, 0, button="right")
    assert pixels(page) != moved
    page.get_by_role("button", name="Reset").click()
    assert pixels(page) == fresh
    page.keyboard.press("+")
    expect(page.locator(".box .window")).to_contain_text("Zoom 1.3")
    page.keyboard.press("-")
    assert pixels(page) == fresh

    # drag, space and double click
    label = window_label(page)
    assert label == "Contrast 100% · Brightness 50%"
    drag(page, 80, 0)
    assert int(re.search(r"Contrast (\d+)%", window_label(page))[1]) > 110
    stronger = pixels(page)
    assert sum(value in (0, 255) for value in stronger) > sum(value in (0, 255) for value in fresh)
    page.keyboard.press("Space")
    assert pixels(page) == fresh
    drag(page, 0, -60)
    assert sum(pixels(page)) > sum(fresh) * 1.05
    assert int(re.search(r"Brightness (\d+)%", window_label(page))[1]) > 55
    page.locator(".box canvas").dblclick()
    assert window_label(page) == label
    assert pixels(page) == fresh

    # invert, by button and key
    page.get_by_role("button", name="Invert").click()
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    turned = pixels(page)
    inside = [i for i in range(32 * 32) if 3 < i % 32 < 28 and 3 < i // 32 < 28]
    assert all(abs(fresh[i] + turned[i] - 255) <= 2 for i in inside)
    page.locator(".box canvas").focus()
    page.keyboard.press("i")
    assert pixels(page) == fresh

    # the picture has words and the buttons have names
    expect(page.get_by_role("img", name=re.compile(f"Chest radiograph {FIRST}, frontal PA, synthetic"))).to_be_visible()
    for name in ("Zoom in", "Zoom out", "Invert", "Reset"):
        button = page.locator(".box").get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        assert button.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"


def test_the_depth_of_the_source_survives_a_narrow_window(open_page: Open) -> None:
    """At 30 times the contrast, 8 bit pixels would leave at most 10 greys; 12 bit ones leave many more."""
    page, _ = open_page()
    grid = pixels(page)
    grey = min(range(32 * 32), key=lambda i: abs(grid[i] - 128))
    box = page.locator(".box canvas").bounding_box()
    page.mouse.move(
        box["x"] + (grey % 32 + 0.5) * box["width"] / 32, box["y"] + (grey // 32 + 0.5) * box["height"] / 32
    )
    page.keyboard.down("Control")
    for _ in range(5):
        page.mouse.wheel(0, -300)  # so far that pixels are not blended
    page.keyboard.up("Control")
    for _ in range(4):
        drag(page, 170, 0)
    assert int(re.search(r"Contrast (\d+)%", window_label(page))[1]) > 2500
    shades = page.locator(".box canvas").evaluate(
        "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((_, i) => i % 4 === 0)).size"
    )
    assert shades > 40


def test_another_n_and_model_leave_view_pixels_and_controls_and_another_image_resets_the_view(open_page: Open) -> None:
    page, frames = open_page()
    assert sum(map(len, frames.take())) > 2 * 512 * 512
    height, fresh = main_height(page), window_label(page)
    kinds = ("stSlider", "stButtonGroup", "stSelectbox", "stButton", "stExpander")
    controls = ", ".join(f"[data-testid={kind}]" for kind in kinds)
    places = f"""() => [...document.querySelectorAll('{controls}')].filter(one => one.offsetParent).map(one => {{
        const r = one.getBoundingClientRect();
        return [r.x, r.y, r.height].map(Math.round).join();
    }})"""
    before = page.evaluate(places)
    assert len(before) >= 8
    drag(page, 60, -30)
    page.get_by_role("button", name="Zoom in").click()
    set_up, label = pixels(page), window_label(page)
    assert label != fresh
    set_n(page, 10)
    assert page.evaluate(places) == before
    assert (pixels(page), window_label(page)) == (set_up, label)
    choose_model(page, "General")
    assert page.evaluate(places) == before
    assert (pixels(page), window_label(page)) == (set_up, label)
    assert sum(map(len, frames.take())) < 200_000, "pixels are sent once"
    page.keyboard.press("ArrowRight")
    shows(page, SECOND)
    assert sum(map(len, frames.take())) > 2 * 512 * 512
    assert window_label(page) == fresh
    assert page.evaluate(places) == before
    assert main_height(page) == height


def test_zooming_into_a_large_image_fetches_the_rest_of_it_and_keeps_the_view(open_page: Open) -> None:
    page, frames = open_page(f"cohort=clinic&record={examples_store.LARGE}")
    assert sum(map(len, frames.take())) < 1_000_000
    drag(page, 60, 0)
    page.get_by_role("button", name="Zoom in").click(click_count=4)
    expect(page.locator(".box")).to_have_attribute("data-pixels", "1200 x 1600")
    assert sum(map(len, frames.take())) > 1200 * 1600
    label = window_label(page)
    assert "Zoom 2.4" in label
    assert "Contrast 100%" not in label


def test_an_image_that_is_gone_leaves_a_card_of_the_same_size_with_the_reason(open_page: Open) -> None:
    page, _ = open_page("cohort=clinic&record=p05-0.png")
    shown = page.locator(".box").bounding_box()
    page, _ = open_page(f"cohort=clinic&record={examples_store.LOST}")
    expect(page.locator(".box .failed")).to_be_visible()
    expect(page.locator(".box .failed")).to_contain_text(examples_store.LOST)
    expect(page.locator(".box canvas")).to_be_hidden()
    assert page.locator(".box").bounding_box() == shown
    expect(page.locator(f".strip button[data-record='{examples_store.LOST}']")).to_contain_text("no image")
    expect(page.locator(".true")).to_be_visible()


# -- the lists -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "shown=12", "second=phantom-general", "second=phantom-general&shown=8"])
def test_the_true_report_is_in_sight_whatever_n(open_page: Open, query: str) -> None:
    page, _ = open_page(f"model=phantom-radiology&{query}")
    for n in reversed(STEPS):
        set_n(page, n)
        for one in page.locator(".true").all():
            box = one.bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= 800
            assert one.locator(".tick").evaluate(
                """tag => { const r = tag.getBoundingClientRect();
                return tag === tag.getRootNode().elementFromPoint(r.x + r.width / 2, r.y + r.height / 2); }"""
            )
        assert page.locator(".true").count() == page.locator(".list").count()


def test_a_second_model_stands_beside_the_first_over_the_same_pool(open_page: Open) -> None:
    page, _ = open_page()
    page.get_by_role("combobox", name=re.compile("Compare with")).click()
    page.get_by_role("option", name="General").click()
    expect(page.locator(".list")).to_have_count(2)
    expect(page).to_have_url(re.compile("second=phantom-general"))
    first, second = page.locator(".list").all()
    drawn(page)
    assert first.bounding_box()["y"] == second.bounding_box()["y"]
    assert first.bounding_box()["x"] + first.bounding_box()["width"] <= second.bounding_box()["x"]
    assert min(first.bounding_box()["width"], second.bounding_box()["width"]) >= 300
    expect(first.locator(".caption")).to_contain_text("Radiology")
    expect(second.locator(".caption")).to_contain_text("General")


# -- text ------------------------------------------------------------------------------------------------------------


def test_hidden_text_is_never_sent_and_hostile_text_is_only_text(open_page: Open) -> None:
    page, frames = open_page("cohort=clinic&shown=12")
    page.keyboard.press("ArrowRight")
    shows(page, "p00-1.png")
    page.get_by_text("Details:").click()
    expect(page.get_by_text("Every report of this patient")).to_be_visible()
    drawn(page)
    sent = b"".join(frames.take())
    assert b"p00-1.png" in sent  # the frames were read, and they are not compressed
    assert examples_store.SECRET.encode() not in sent
    assert examples_store.SECRET not in page.content()
    expect(page.locator(".true .absent")).to_contain_text(re.compile(r"\d+ words\. Text hidden"))

    page.get_by_text("Show report text").click()
    expect(page.locator(".true .text")).to_contain_text(examples_store.SECRET)
    drawn(page)
    shown = page.locator(".list .cards").inner_text()
    for text in examples_store.HOSTILE[:3]:
        assert text in shown
    assert "\ufffdafter the mark" in shown
    assert page.evaluate("window.hit") is None
    assert page.locator(".list .cards script, .list .cards img, .list .cards a, .list .cards strong").count() == 0
    page.locator(".list details").first.click()
    assert page.locator(".list details").first.evaluate("one => one.open") is True
    assert examples_store.SECRET.encode() in b"".join(frames.take())


def test_details_say_labels_ties_and_where_the_numbers_come_from(open_page: Open) -> None:
    page, _ = open_page()
    page.get_by_text("Details:").click()
    facts = page.locator(".lx-facts")
    expect(facts.nth(0).locator("dt")).to_have_count(14)
    assert set(facts.nth(0).locator("dd").all_inner_texts()) <= {"present", "absent", "uncertain", "not mentioned"}
    expect(facts.nth(1)).to_contain_text("percentile")
    expect(facts.nth(2)).to_contain_text("off the shelf")
    expect(facts.nth(3)).to_contain_text("A-400000-1")


# -- moving, and the address -----------------------------------------------------------------------------------------


def test_cards_move_to_their_new_places_and_keep_still_where_that_is_asked_for(
    new_tab: Tab, drawn_server: Server
) -> None:
    page = new_tab(drawn_server)
    for motion, moving in (("no-preference", True), ("reduce", False)):
        page.emulate_media(reduced_motion=motion)
        page.goto(f"{drawn_server.url}/examples?record={SECOND}&N=10&shown=10")
        page.locator(".list .cards li").first.wait_for()
        drawn(page)
        place = page.locator(".list .cards")
        place.evaluate(
            """list => {
                window.moved = 0;
                const first = list.firstElementChild, animate = Element.prototype.animate;
                window.kept = first;
                Element.prototype.animate = function (...all) { window.moved++; return animate.apply(this, all); };
            }"""
        )
        number = page.get_by_role("spinbutton", name="Reports shown")
        number.fill("6")
        number.press("Enter")
        expect(page.locator(".list .cards li")).to_have_count(6)
        number.fill("10")
        number.press("Enter")
        expect(page.locator(".list .cards li:nth-child(8)")).to_be_visible()
        assert (page.evaluate("window.moved") > 0) == moving
        assert place.evaluate("list => window.kept === list.firstElementChild"), "the same card, not a new one"


def test_a_link_shows_the_picture_as_it_was_looked_at_and_history_keeps_out_of_it(open_page: Open) -> None:
    page, _ = open_page()
    length = page.evaluate("history.length")
    drag(page, 70, -30)
    page.get_by_role("button", name="Zoom in").click()
    page.locator(".box canvas").focus()
    page.keyboard.press("i")
    label, seen = window_label(page), pixels(page)
    page.wait_for_function("() => location.search.includes('view=')")
    page.wait_for_timeout(1000)  # what the server writes afterwards must be the same
    drawn(page)
    assert page.evaluate("history.length") == length
    link = page.evaluate("location.search.slice(1)")
    assert f"record={FIRST}" in link
    set_n(page, 30)
    assert "view=" in page.evaluate("location.search")
    again, _ = open_page(link)
    assert window_label(again) == label
    assert max(abs(a - b) for a, b in zip(pixels(again), seen, strict=True)) <= 3  # an address has four decimals
    again.locator(".strip button").nth(3).click()
    shows(again, again.locator(".strip button").nth(3).get_attribute("data-record"))
    assert window_label(again) == "Contrast 100% · Brightness 50%"
    assert "view=" not in again.evaluate("location.search")


def test_back_leaves_examples_at_the_first_press(new_tab: Tab, drawn_server: Server) -> None:
    page = new_tab(drawn_server)
    page.goto(drawn_server.url)
    settled(page)
    page.get_by_role("link", name="Examples").click()
    page.locator(".list .cards").first.wait_for()
    drawn(page)
    page.go_back()
    expect(page.locator("h1")).to_contain_text("Can a de-identified chest X-ray")


def test_contrast_stays_for_the_next_image_where_that_is_asked_for(open_page: Open) -> None:
    page, _ = open_page()
    drag(page, 60, 0)
    label = window_label(page)
    page.get_by_role("button", name="Keep contrast").click()
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    shows(page, SECOND)
    assert window_label(page) == label


def test_the_link_is_copied_and_says_so(new_tab: Tab, drawn_server: Server) -> None:
    page = new_tab(drawn_server)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{drawn_server.url}/examples?N=30&draw=2&hide=1")
    page.locator(".list .cards").first.wait_for()
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.evaluate("location.href")
    assert "draw=2" in page.evaluate("location.href")
