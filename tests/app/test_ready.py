"""A server makes itself ready: what is imported, which pages are drawn ahead, and who goes first."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime.session_manager import ClientContext
from streamlit.web.server.starlette import starlette_websocket

from explorer.frame import access, frame, login, ready

from .conftest import ROOT


class Runtime:
    """In Streamlit's place: draws a page at once, or as soon as it is told to stop where somebody `comes` meanwhile."""

    def __init__(self, comes: str = "") -> None:
        self.comes, self.asked, self.closed = comes, list[str](), list[str]()

    def connect_session(self, client: Any, user_info: dict) -> str:
        self.client = client
        return "ours"

    def handle_backmsg(self, session: str, message: Any) -> None:
        self.asked.append("stop" if message.stop_script else message.rerun_script.page_name)
        if self.asked[-1] == self.comes:
            self.comes = ""
            ready._last[0] = ready.time.monotonic()
        else:
            done = ForwardMsg()
            done.script_finished = ForwardMsg.FINISHED_SUCCESSFULLY
            self.client.write_forward_msg(done)

    def close_session(self, session: str) -> None:
        self.closed.append(session)


@pytest.fixture(autouse=True)
def nobody_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "_last", [-100.0])
    monkeypatch.setattr(ready, "REST", 0.05)


def drawn(runtime: Runtime, *pages: str) -> list[str]:
    with ThreadPoolExecutor(1) as apart:  # a browser of other tests may keep a loop in this thread
        return apart.submit(lambda: asyncio.run(ready.draw_ahead(runtime, pages, every=0.001))).result()


def test_each_page_is_drawn_once_in_one_session_that_is_closed() -> None:
    runtime = Runtime()
    assert drawn(runtime, "start", "risk") == runtime.asked == ["start", "risk"]
    assert runtime.closed == ["ours"]
    assert not ready._ours


def test_a_page_is_stopped_for_a_reader_who_comes_and_drawn_when_they_have_theirs() -> None:
    runtime = Runtime(comes="start")
    assert drawn(runtime, "start", "risk") == ["start", "risk"]
    assert runtime.asked == ["start", "stop", "start", "risk"]


def test_a_reader_waits_while_their_page_is_drawn_and_a_moment_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    session = SimpleNamespace(session_id="theirs")
    monkeypatch.setattr("streamlit.runtime.scriptrunner.get_script_run_ctx", lambda **_: session)
    with ready.drawing():
        assert ready.somebody_waits()
    assert ready.somebody_waits()
    ready._last[0] = -100.0
    monkeypatch.setattr(ready, "_ours", {"theirs"})
    with ready.drawing():
        assert not ready.somebody_waits(), "what is drawn ahead would wait for itself"


def test_the_session_that_nobody_looks_at_is_one_for_streamlit_and_has_no_token() -> None:
    nobody = ready.Nobody()
    assert isinstance(nobody.client_context, ClientContext)
    theirs = starlette_websocket.StarletteSessionClient
    assert {name for name in dir(theirs.__mro__[1]) if not name.startswith("_")} <= set(dir(nobody))
    assert (nobody.headers, dict(nobody.cookies)) == ((), {})


def test_what_every_page_imports_is_imported_and_what_cannot_be_is_left_to_the_page() -> None:
    names = ready.imported_by(ROOT / "pages" / "mitigation.py")
    assert {"streamlit", "explorer.protect.head_page", "linkage_core.lab.measured"} <= set(names)
    for rows in frame.PAGES.values():
        for file, *_ in rows:
            assert "explorer.frame.page" in ready.imported_by(ROOT / "pages" / f"{file}.py")
    ready.import_all(["there.is.no.such", "json"])


def test_once_all_is_imported_it_is_not_searched_for_garbage_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ready.AHEAD, "0")
    monkeypatch.setattr(ready, "in_the_background", lambda names, after: after)
    before = gc.get_freeze_count()
    try:
        with ThreadPoolExecutor(1) as apart:
            apart.submit(lambda: asyncio.run(ready.make_ready(threading.Thread()))).result()
        assert gc.get_freeze_count() > before + 10_000
    finally:
        gc.unfreeze()


def test_no_page_is_drawn_ahead_where_a_log_says_who_saw_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "required", lambda: False)
    monkeypatch.delenv(ready.AHEAD, raising=False)
    monkeypatch.delenv(access.FILE, raising=False)
    assert ready.wanted()
    for name, value in ((access.FILE, "log"), (ready.AHEAD, "0")):
        with pytest.MonkeyPatch.context() as here:
            here.setenv(name, value)
            assert not ready.wanted()
    monkeypatch.setattr(login, "required", lambda: True)
    assert not ready.wanted()
