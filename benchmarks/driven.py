"""The application in Chromium, for measurements and pictures. LINKAGE_STORE names another store."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from explorer.frame.door import Keys

ROOT = Path(__file__).resolve().parents[1]
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
KEYS = Keys(secrets.token_hex(16))
"""Of the server that is started here: with them own cohorts open too."""


def let_in(context: BrowserContext, url: str) -> None:
    """Makes a browser that of somebody who opened the printed address."""
    port = urlsplit(url).port or 80
    context.add_cookies([{"name": KEYS.cookie_name(port), "value": KEYS.cookie(port), "url": url}])


@contextmanager
def running(script: Path = ROOT / "app.py") -> Iterator[str]:
    """A server of its own on a free port; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    environment = {**os.environ, "LINKAGE_TOKEN": KEYS.token}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
                    break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        else:
            raise SystemExit("The application did not start. Try: python -m streamlit run app.py")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def browsing() -> Iterator[Browser]:
    """Chromium without a screen."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("No Chromium on this machine. Install it with: sudo apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def open_page(url: str, width: int, height: int, scheme: str) -> Iterator[Page]:
    """One page, drawn to its end."""
    with browsing() as browser:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        let_in(page.context, url)
        page.goto(url)
        page.wait_for_selector('[data-testid="stMainBlockContainer"] h1', timeout=60_000)
        page.wait_for_function(
            """() => document.querySelector('[data-testid="stApp"]').dataset.testScriptState === 'notRunning'
                && !document.querySelector('[data-testid="stSkeleton"]')""",
            timeout=60_000,
        )
        page.wait_for_load_state("networkidle")
        yield page
