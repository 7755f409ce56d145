"""A server with a real cohort beside the synthetic one, and those who may not see it: pages of another port, of another
host, of none, in frames, and programs of other accounts."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers import fixture_store
from helpers.shared import Built
from helpers.wire import Session, status

from .conftest import Server, Watched, free_port, settled

REAL = b"our-hospital"
PAGES = ("examples", "exposure", "report", "data")


@pytest.fixture(scope="module")
def guarded(serve: Callable[..., Server], built: Built) -> Server:
    return serve(built(fixture_store.build))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """(folder, port) of pages that another program of this machine serves."""
    folder = tmp_path_factory.mktemp("elsewhere")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """The test's output is not the place for it."""

    listener = ThreadingHTTPServer(("127.0.0.1", free_port()), partial(Quiet, directory=str(folder)))
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield folder, listener.server_port
    listener.shutdown()


def header(server: Server) -> str:
    return f"{server.cookie['name']}={server.cookie['value']}"


def test_origins_of_another_port_host_null_and_none_get_no_connection(guarded: Server) -> None:
    own = f"http://127.0.0.1:{guarded.port}"
    foreign = ("http://127.0.0.1:8998", "http://localhost:3000", "http://0.0.0.0:1", "http://evil.example", "null")
    for cookie in ({}, {"Cookie": header(guarded)}):
        for origin in (*foreign, f"http://localhost:{guarded.port}"):
            assert status(guarded.port, cookie, origin) == 403, origin
        assert status(guarded.port, {"Host": f"evil.example:{guarded.port}", **cookie}, own) == 403
        assert status(guarded.port, cookie, own) == 101
    assert status(guarded.port, {}) == 403, "no origin and no token"
    assert status(guarded.port, {"Cookie": header(guarded)}) == 101
    for place in ("/", "/_stcore/host-config", "/media/x", "/_stcore/metrics"):
        request = urllib.request.Request(own + place, headers={"Host": f"evil.example:{guarded.port}"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=10)


def test_strangers_do_not_hold_up_the_server_and_make_it_look_up_nothing(guarded: Server) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        attempts = [pool.submit(status, guarded.port, {}, "http://evil.example") for _ in range(10)]
        with urllib.request.urlopen(f"{guarded.url}/_stcore/health", timeout=30) as answer:
            assert answer.status == 200
    assert {each.result() for each in attempts} == {403}
    assert time.monotonic() - began < 8  # each look-up that gets no answer took two seconds, one after the other
    assert "external IP" not in guarded.log.read_text()


def test_a_session_without_the_token_is_told_nothing_of_a_real_cohort(guarded: Server) -> None:
    switch = {}
    with Session(guarded.port, cookie=header(guarded)) as known:
        told = known.run("examples", "cohort=our-hospital&N=20")
        assert told.finished
        assert told.data.count(REAL) > 5
        (name,) = set(re.findall(rb"\$\$ID-[0-9a-f]+-text switch our-hospital", told.data))
        switch = {name.decode(): True}
        assert b"Unlike study" not in told.data
        assert b"Unlike study" in known.run("examples", "cohort=our-hospital&N=20", switch).data
    with Session(guarded.port) as stranger:
        for page in PAGES:
            told = stranger.run(page, "cohort=our-hospital&N=20", switch)
            assert told.finished
            assert REAL not in told.data, page
            assert not told.exceptions
            assert b"Cohorts of real people open with the address" in told.data


def test_a_page_of_another_port_gets_no_connection(guarded: Server, elsewhere, page_at) -> None:
    folder, port = elsewhere
    (folder / "page.html").write_text(
        f"""<script>window.said = [];
        for (const host of ["127.0.0.1", "localhost"]) {{
            const socket = new WebSocket("ws://" + host + ":{guarded.port}/_stcore/stream", ["streamlit"]);
            socket.onopen = () => said.push("open"); socket.onerror = () => said.push("refused");
            fetch("http://" + host + ":{guarded.port}/").then(() => said.push("read"), () => said.push("no"));
        }}</script>"""
    )
    watched: Watched = page_at("/examples?cohort=our-hospital", at=guarded)  # the same browser holds the cookie
    page = watched.page
    for host in ("127.0.0.1", "localhost"):
        page.goto(f"http://{host}:{port}/page.html")
        page.wait_for_function("window.said.length === 4")
        assert sorted(page.evaluate("window.said")) == ["no", "no", "refused", "refused"]


def test_nobody_frames_the_app(guarded: Server, elsewhere, page_at) -> None:
    folder, port = elsewhere
    (folder / "frame.html").write_text(
        f"""<script>window.said = []; addEventListener("message", (event) => said.push(event.data.type))</script>
        <iframe src="{guarded.url}/?embed=true" onload="window.loaded = true"></iframe>"""
    )
    page = page_at("/", at=guarded).page
    page.goto(f"http://127.0.0.1:{port}/frame.html")
    page.wait_for_function("window.loaded")
    assert page.frames[1].url.startswith("chrome-error:"), "so that nothing in it ever says where it stands"
    assert page.evaluate("window.said") == []


def test_the_printed_address_opens_real_cohorts_and_leaves_the_address_bar(guarded: Server, page_at) -> None:
    watched = page_at("/risk?cohort=our-hospital", at=guarded, known=False)
    page = watched.page
    assert "our-hospital" not in page.content()
    assert watched.errors == [], "a stranger's page is whole, fonts and pictures too"
    (printed,) = re.findall(r"http://127\.0\.0\.1:\d+/\?token=\S+", guarded.log.read_text())
    page.goto(printed)
    settled(page)
    assert "token" not in page.url
    page.goto(f"{guarded.url}/examples?cohort=our-hospital")
    settled(page)
    assert "our-hospital" in page.get_by_test_id("stSidebar").inner_text()
    assert page.evaluate("document.cookie").count("linkage") == 0


def test_an_address_of_a_real_record_holds_a_key_and_opens_it(guarded: Server, page_at) -> None:
    page = page_at("/exposure?cohort=our-hospital&record=our-hospital-0003-0", at=guarded).page
    page.get_by_text("our-hospital-0003-0").first.wait_for()
    page.wait_for_function("/record=[0-9a-f]{16}/.test(location.search)")
    assert "0003" not in page.url
    address = page.url
    other = page_at(address.removeprefix(guarded.url), at=guarded).page
    other.get_by_text("our-hospital-0003-0").first.wait_for()
    assert other.url == address
