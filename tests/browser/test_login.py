"""The login by OpenID Connect, against a login server: nobody sees anything before it, and no forged one counts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from helpers import fixture_store
from helpers.places import ROOT
from helpers.provider import CLIENT, SECRET, Provider, provider
from helpers.shared import Built

from .conftest import free_port

REAL = "our-hospital"
BASE = "/linkage"


@dataclass
class Site:
    """The app behind a login, with its login server."""

    url: str
    log: Path
    provider: Provider


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, built: Built) -> Iterator[Site]:
    home, port = tmp_path_factory.mktemp("home"), free_port()
    url = f"http://127.0.0.1:{port}{BASE}"
    with provider(free_port()) as there:
        file = home / ".streamlit" / "secrets.toml"
        file.parent.mkdir()
        said = {
            "redirect_uri": f"{url}/oauth2callback",
            "cookie_secret": "c" * 40,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "server_metadata_url": f"{there.issuer}/.well-known/openid-configuration",
        }
        file.write_text("[auth]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items()))
        file.chmod(0o600)
        store, log = built(fixture_store.build), home / "access.log"
        options = ["--store", str(store), "--port", str(port), "--base-path", BASE, "--access-log", str(log)]
        options += ["--allow-account", "Ann@Clinic.example", "--no-browser"]
        environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
        with (home / "said").open("w") as said_there:
            server = subprocess.Popen(
                [sys.executable, "-m", "linkage_core", "app", *options],
                env=environment,
                stdout=said_there,
                stderr=subprocess.STDOUT,
            )
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=2).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert server.poll() is None, (home / "said").read_text()
                time.sleep(0.1)
        assert "token=" not in (home / "said").read_text(), "who logs in needs no token"
        yield Site(url, log, there)
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Iterator[Page]:
    """One tab for all tests: what draws the first page stays in it."""
    page = browser.new_context().new_page()
    yield page
    page.context.close()


@pytest.fixture
def context(tab: Page) -> BrowserContext:
    """That of somebody who was never here."""
    tab.goto("about:blank")
    tab.context.clear_cookies()
    return tab.context


def opened(context: BrowserContext, url: str) -> tuple[Page, list[bytes]]:
    """The tab at an address, and what comes to it over its connections from now on."""
    page, came = context.pages[0], list[bytes]()

    def listen(socket: object) -> None:
        socket.on("framereceived", lambda data: came.append(data if isinstance(data, bytes) else data.encode()))

    page.on("websocket", listen)
    page.goto(url)
    return page, came


def enter(page: Page) -> None:
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Enter").click()


def test_nothing_is_seen_before_the_login_and_a_real_cohort_after_it(site: Site, context: BrowserContext) -> None:
    address = f"{site.url}/examples?cohort={REAL}"
    page, came = opened(context, address)
    page.get_by_role("button", name="Log in").wait_for()
    assert not page.locator('[data-testid="stSidebarNav"]').is_visible()
    assert not any(REAL.encode() in each.replace(address.encode(), b"") for each in came)
    enter(page)
    page.get_by_text("Logged in as ann@clinic.example").wait_for()
    page.goto(address)
    page.get_by_text("Logged in as ann@clinic.example").wait_for()
    assert REAL in page.locator("section[data-testid=stSidebar]").inner_text()
    assert json.loads(site.log.read_text().splitlines()[-1])["who"] == "ann@clinic.example"
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("link", name="Back").click()
    page.get_by_role("button", name="Log in").wait_for()
    page.goto(address)
    page.get_by_role("button", name="Log in").wait_for()
    assert site.provider.seen == ["authorize", "token", "leave"]


LIES: dict[str, dict[str, object]] = {
    "key": {},
    "nonce": {"nonce": "another"},
    "audience": {"aud": "another-app"},
    "issuer": {"iss": "https://another.example"},
    "expired": {"exp": 1_000_000_000},
}


def test_a_token_that_is_not_right_opens_nothing(site: Site, context: BrowserContext) -> None:
    """What the login button leads to is asked again without a browser, once for every lie."""
    page, _ = opened(context, site.url)
    with page.expect_request("**/auth/login**") as asked:
        page.get_by_role("button", name="Log in").click()
    for name, lies in {"none": {}, **LIES}.items():
        site.provider.lies, site.provider.other_key = lies, name == "key"
        jar = CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        try:
            with opener.open(asked.value.url) as form:
                led = re.search(r'href="(/enter[^"]+)"', form.read().decode())
            assert led
            with opener.open(site.provider.issuer + led[1]) as there:
                assert there.url == f"{site.url}/{'' if name == 'none' else '?login=refused'}"
        finally:
            site.provider.lies, site.provider.other_key = {}, False
        entered = [cookie.name for cookie in jar if cookie.name.startswith("_streamlit_user") and cookie.value]
        assert bool(entered) == (name == "none"), name
    page.goto(f"{site.url}/?login=refused")
    page.get_by_text("The login did not succeed.").wait_for()
    with pytest.raises(urllib.error.HTTPError, match="400"):  # it would stand in the log
        urllib.request.urlopen(f"{site.url}/oauth2callback?error=x%1b%5b2J")


def test_an_account_that_is_not_listed_is_told_so_and_sees_nothing(site: Site, context: BrowserContext) -> None:
    claims = site.provider.claims
    site.provider.claims = {**claims, "email_verified": False}
    try:
        page, _ = opened(context, f"{site.url}/?cohort={REAL}")
        enter(page)
        page.get_by_text("This server lets in a list of accounts, and sub:7 is not on it.").wait_for()
        assert not page.get_by_text("Logged in as").count()
    finally:
        site.provider.claims = claims


def test_a_cookie_that_was_altered_is_nobodys(site: Site, context: BrowserContext) -> None:
    page, _ = opened(context, site.url)
    enter(page)
    page.get_by_text("Logged in as").wait_for()
    changed = []
    for cookie in context.cookies():
        if cookie["name"].startswith("_streamlit_user"):
            value = cookie["value"]
            changed.append({**cookie, "value": value[:20] + ("A" if value[20] != "A" else "B") + value[21:]})
    assert changed
    context.add_cookies(changed)
    page.goto(f"{site.url}/?cohort={REAL}")
    page.get_by_role("button", name="Log in").wait_for()
