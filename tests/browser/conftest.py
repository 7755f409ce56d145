"""The application in Chromium, over the store that ships (or, where there is none, a store made for tests)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from explorer.frame.door import Keys
from explorer.frame.ready import AHEAD
from helpers import fixture_store
from helpers.places import ROOT
from helpers.shared import Built

ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
ALLOWED_404 = ("/_stcore/health", "/_stcore/host-config")
"""A deep link asks for these below the page's path once: harmless, and Streamlit's own."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        reason = "No Chromium on this machine. Install it with: sudo apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield launched
        launched.close()


@dataclass
class Server:
    """One `streamlit run app.py` on a free port of this machine."""

    port: int
    process: subprocess.Popen
    token: str = ""
    log: Path = Path()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cookie(self) -> dict[str, str]:
        """What the browser of somebody has who opened the printed address."""
        keys = Keys(self.token)
        return {"name": keys.cookie_name(self.port), "value": keys.cookie(self.port)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(store: Path, log: Path, script: Path = ROOT / "app.py") -> Server:
    """Starts the application and waits until it says it is well. Only the port is not the configuration's own."""
    port, token = free_port(), secrets.token_hex(16)
    environment = {**os.environ, "LINKAGE_STORE": str(store), "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    environment |= {"LINKAGE_TOKEN": token, AHEAD: "0"}  # each test opens the pages that it needs
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    server = Server(port, process, token, log)
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=2) as answer:
                if answer.status == 200:
                    return server
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            process.poll()
    process.kill()
    pytest.fail(f"The application did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def store_root(built: Built) -> Path:
    shipped = ROOT / "cached_embeddings"
    if any(shipped.glob("phantom/*/manifest.json")):
        return shipped
    return built(fixture_store.build)


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """serve(store): one more server, stopped at the end."""
    started: list[Server] = []

    def serve(store: Path, script: Path = ROOT / "app.py") -> Server:
        started.append(start_server(store, tmp_path_factory.mktemp("log") / "server.log", script))
        return started[-1]

    yield serve
    for server in started:
        server.process.terminate()
        server.process.wait(timeout=10)


@pytest.fixture(scope="session")
def server(serve: Callable[..., Server], store_root: Path) -> Server:
    return serve(store_root)


@dataclass
class Watched:
    """A page with what it asked for and what it complained about."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.listeners: dict[str, Callable[[Any], None]] = {
            "request": lambda request: self.requests.append(request.url),
            "websocket": lambda socket: self.requests.append(socket.url),
            "pageerror": lambda error: self.errors.append(str(error)),
            "console": self._complaint,
        }

    def _complaint(self, message: ConsoleMessage) -> None:
        place = message.location.get("url", "")
        if message.type == "error" and not ("404" in message.text and place.endswith(ALLOWED_404)):
            self.errors.append(f"{message.text} {place}")

    def outside(self) -> list[str]:
        """Requests that left this machine."""
        local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:http://127.0.0.1:")
        return [url for url in self.requests if not url.startswith(local)]


@pytest.fixture(scope="session")
def tabs() -> list[Page]:
    """Tabs that nobody uses: a new one computes 3 seconds longer for a page than one that has drawn one before."""
    return []


@pytest.fixture
def new_tab(browser: Browser, tabs: list[Page]) -> Iterator[Callable[[Server], Page]]:
    """new_tab(server): a tab of 1280 x 800 as if it were new, with storage, cookies and permissions of its own."""
    taken: list[tuple[Page, Server]] = []

    def new_tab(at: Server) -> Page:
        page = tabs.pop() if tabs else browser.new_page(viewport={"width": 1280, "height": 800})
        taken.append((page, at))
        return page

    yield new_tab
    tabs.extend(emptied(page, at) for page, at in reversed(taken))


@pytest.fixture
def page_at(server: Server, new_tab: Callable[[Server], Page]) -> Iterator[Callable[..., Watched]]:
    """page_at("/risk?N=100", 1280, 800, "dark"): the page, drawn to its end, in a session of its own. `known`: of
    somebody who has the token."""
    opened: list[Watched] = []

    def page_at(
        path: str = "/",
        width: int = 1280,
        height: int = 800,
        scheme: str = "light",
        at: Server = server,
        known: bool = True,
    ) -> Watched:
        page = new_tab(at)
        watched = Watched(page)
        opened.append(watched)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        for event, listen in watched.listeners.items():
            page.on(event, listen)
        if known:
            page.context.add_cookies([{**at.cookie, "url": at.url}])
        page.goto(at.url + path)
        settled(page)
        return watched

    yield page_at
    for watched in opened:
        for event, listen in watched.listeners.items():
            watched.page.remove_listener(event, listen)


def emptied(page: Page, at: Server) -> Page:
    """A tab as if it were new: nothing kept of the pages that were in it, nor anything pressed, granted or set.

    It is left at a line of text of the same server: from about:blank Chromium begins a process for every page and
    compiles all of it again, which is 2 of the 3.5 seconds that a page then computes.
    """
    with contextlib.suppress(PlaywrightError):  # where nothing can be kept there is nothing to clear
        page.evaluate("() => { localStorage.clear(); sessionStorage.clear() }")
    page.mouse.up()
    page.mouse.move(0, 0)
    for key in ("Shift", "Control"):
        page.keyboard.up(key)
    page.unroute_all()
    page.context.clear_cookies()
    page.context.clear_permissions()
    page.emulate_media(media="null", color_scheme="light", reduced_motion="null")
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{at.url}/_stcore/health")
    return page


def settled(page: Page) -> None:
    """Waits until the run is over and nothing is still a skeleton."""
    page.wait_for_selector('[data-testid="stMainBlockContainer"] h1', timeout=30_000)
    page.wait_for_function(
        """() => document.querySelector('[data-testid="stApp"]').dataset.testScriptState === 'notRunning'
            && !document.querySelector('[data-testid="stSkeleton"]')""",
        timeout=30_000,
    )


def main_height(page: Page) -> int:
    return int(page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight"))


def answer(page: Page) -> str:
    return " ".join(page.locator(".le-big").first.inner_text().split())
