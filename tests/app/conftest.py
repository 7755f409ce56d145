"""The application under Streamlit's own test harness, over a store made for tests."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.components.v2 import manifest_scanner
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

from explorer.frame import visitor
from helpers import fixture_store
from helpers.places import ROOT
from helpers.shared import Built


@pytest.fixture(scope="session")
def store_root(built: Built) -> Path:
    """Read only: a test that damages it takes a copy."""
    return built(fixture_store.build)


@pytest.fixture(scope="session", autouse=True)
def components_scanned_once() -> Iterator[None]:
    """The harness reads the metadata of every installed package for every page that it opens: half a second each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield


class DeclaredPages(PagesManager):
    """The harness takes every run for the first one of a fresh server, where Streamlit guesses the menu from pages/."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        PagesManager.uses_pages_directory = False
        super().__init__(*args, **kwargs)


@pytest.fixture(autouse=True)
def let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """No door stands before the harness: its sessions are those of somebody who has shown the token."""
    monkeypatch.setattr(visitor, "let_in", lambda: True)


@pytest.fixture
def open_page(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """open_page("risk", N=1000, store=...): the page as a link opens it, run once."""
    monkeypatch.setattr("streamlit.testing.v1.app_test.PagesManager", DeclaredPages)
    st.cache_data.clear()
    st.cache_resource.clear()

    def open_page(page: str = "start", store: Path = store_root, **query: object) -> AppTest:
        monkeypatch.setenv("LINKAGE_STORE", str(store))
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)
        for name, value in query.items():
            app.query_params[name] = str(value)
        app.run()
        return app if page == "start" else go_to(app, page)

    return open_page


def blocks(app: AppTest) -> list[str]:
    """The HTML blocks of the page, but for the links that lead from words to their entries."""
    return [re.sub(r'<a class="le-word"[^>]*>(.*?)</a>', r"\1", str(node.proto.body)) for node in app.get("html")]


def lists(app: AppTest) -> list[dict[str, Any]]:
    """What is sent to the browser of each list of ranked reports."""
    found = [node.proto for node in app.get("bidi_component") if node.proto.component_name == "linkage_list"]
    return [json.loads(proto.json) for proto in found]


def list_words(said: dict[str, Any]) -> str:
    """Everything one list says."""
    cards = said.get("cards", [])
    told = [str(card[part]) for card in cards for part in ("rank", "number", "gap", "text", "absent", "tags")]
    parts = [said["caption"], said.get("claim", ""), "".join(said.get("head", [])), said.get("second", "")]
    return "\n".join([*parts, *said.get("problem", []), *told])


def words(app: AppTest) -> str:
    """Everything the page says in HTML blocks, markdown, captions, plain text and lists of ranked reports."""
    said = [*blocks(app), *map(list_words, lists(app))]
    return "\n".join([*said, *(node.value for kind in (app.markdown, app.caption, app.text) for node in kind)])


def last_line(app: AppTest) -> str:
    """What the page cannot tell, in grey at its end."""
    return re.sub(r"<[^>]+>", "", next(block for block in blocks(app) if "le-cannot" in block))


def headline(app: AppTest) -> str:
    """The answer of the page, without markup."""
    block = next(body for body in blocks(app) if "le-big" in body)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", block)).strip()


def go_to(app: AppTest, page: str) -> AppTest:
    """As a click in the menu: a browser then drops the query."""
    app.query_params.clear()
    return app.switch_page(f"pages/{page}.py").run()


def buttons(app: AppTest, key: str):
    """A segmented control by its key."""
    return next(node for node in app.get("segmented_control") if node.key.split(":")[0] == key)
