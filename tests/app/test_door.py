"""Who may talk to the server: Host, Origin and token, headers, closed places; what a stranger's session is shown."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import streamlit as st

from explorer import serve
from explorer.examples import gallery, lists
from explorer.frame import access, frame, kept, login, visitor
from explorer.frame.door import MARK, Door, Keys, _by_tls, origin_of
from explorer.frame.page import without_places
from linkage_core.errors import InputError, StoreError
from linkage_core.store.entry import Store

from .conftest import ROOT, blocks, words

KEYS = Keys("k" * 32)
PORT = 8501
OWN = f"http://127.0.0.1:{PORT}"
COOKIE = f"{KEYS.cookie_name(PORT)}={KEYS.cookie(PORT)}"


class Behind:
    """In Streamlit's place: notes what reaches it, and answers."""

    def __init__(self) -> None:
        self.reached: list[dict[str, Any]] = []
        self.says: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.append(scope)
        if scope["type"] == "websocket":
            for data in self.says:
                await send({"type": "websocket.send", "bytes": data})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-Frame-Options", b"ALLOWALL")]})
        await send({"type": "http.response.body", "body": b"page"})


def ask(door: Door, kind: str = "http", path: str = "/", server: tuple[str, int] = ("127.0.0.1", PORT), **headers: str):
    """(status, or the code of a closed WebSocket, or 101; headers) of one request. A header is named by its words."""
    path, _, query = path.partition("?")
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items() if value != "absent"]
    if "host" not in headers:
        pairs.append((b"host", f"127.0.0.1:{PORT}".encode()))
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": pairs, "server": server}
    scope |= {"method": "GET"} if kind == "http" else {}
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with ThreadPoolExecutor(1) as apart:  # a browser of other tests may keep a loop in this thread
        apart.submit(asyncio.run, door(scope, receive, send)).result()
    if kind == "websocket":
        return next((m["code"] for m in sent if m["type"] == "websocket.close"), 101), {}
    return sent[0]["status"], {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def door(behind: Behind) -> Door:
    return Door(behind, keys=KEYS, scripts=["sha256-abc"])


FOREIGN_HOSTS = (
    *("evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:8502", f"localhost.:{PORT}", f"[::1]:{PORT}"),
    *(f"127.1:{PORT}", f"0.0.0.0:{PORT}", f"user@127.0.0.1:{PORT}", "", f"127.0.0.1:{PORT}, evil.example", "absent"),
)
FOREIGN_ORIGINS = (
    *("http://127.0.0.1:8998", "http://localhost:8998", "http://localhost:3000", "http://0.0.0.0:1", "null", ""),
    *("http://evil.example", f"https://127.0.0.1:{PORT}", f"http://localhost:{PORT}", "file://", f"{OWN}/", "*"),
    *("https://evil.streamlit.app", f"{OWN}.evil.example", f"http://127.0.0.1:{PORT}@evil.example", "http://127.0.0.1"),
)


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_this_servers_host_and_origin_get_through(door: Door, behind: Behind, kind: str) -> None:
    refused = {"http": 403, "websocket": 1008}[kind]
    for host in FOREIGN_HOSTS:
        assert ask(door, kind, host=host, cookie=COOKIE)[0] == refused, host
    for origin in FOREIGN_ORIGINS:
        assert ask(door, kind, origin=origin, cookie=COOKIE)[0] == refused, origin
    assert behind.reached == []
    for host in (f"127.0.0.1:{PORT}", f"LOCALHOST:{PORT}"):
        assert ask(door, kind, host=host, origin=f"http://{host.lower()}")[0] in (200, 101)
    assert len(behind.reached) == 2


def test_two_hosts_or_two_origins_are_refused(door: Door, behind: Behind) -> None:
    for name, right in (("host", f"127.0.0.1:{PORT}"), ("origin", OWN)):
        given = {"Host": f"127.0.0.1:{PORT}"} | ({} if name == "host" else {"Origin": OWN})
        assert ask(door, **{each.lower(): value for each, value in given.items()}, **{name.title(): right})[0] == 403
    assert behind.reached == []


def test_a_connection_without_an_origin_needs_the_token(door: Door) -> None:
    other = f"{KEYS.cookie_name(PORT)}={KEYS.cookie(PORT + 1)}"
    for cookie in ("absent", other, COOKIE[:-1], f"{KEYS.cookie_name(PORT)}={KEYS.token}", "=;", COOKIE + "é"):
        assert ask(door, "websocket", cookie=cookie)[0] == 1008
    for others in ("a=b", 'a={"b": "c"}', COOKIE[:-1]):  # of other programs on this host, which share the header
        assert ask(door, "websocket", cookie=f"{others}; {COOKIE}")[0] == 101
    assert ask(door, "websocket", path=f"/_stcore/stream?token={KEYS.token}")[0] == 101


def test_where_a_login_is_required_the_token_opens_nothing(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(behind, keys=KEYS, public=["https://linkage.example"], required=True)
    assert ask(door, "websocket", cookie=COOKIE)[0] == 1008, "nor does its cookie"
    assert ask(door, path=f"/?token={KEYS.token}")[0] == 403
    behind.says = [b"... /media/abc.png ..."]
    monkeypatch.setattr(login, "shown_in", lambda scope: True)
    assert ask(door, "websocket", origin=OWN)[0] == 101
    assert ask(door, path="/media/abc.png")[0] == 200
    monkeypatch.setattr(login, "shown_in", lambda scope: False)
    assert ask(door, path="/media/abc.png", cookie=COOKIE)[0] == 404, "told to somebody who was logged in"


def test_the_end_of_a_login_is_told_and_its_cookies_go_by_tls_alone() -> None:
    led = [
        (b"location", b"/"),
        (b"Set-Cookie", b'_streamlit_user="abcdefgh12"; HttpOnly'),
        (b"set-cookie", b"x=1; secure"),
    ]

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 302, "headers": led})
        await send({"type": "http.response.body", "body": b""})

    door = Door(behind, keys=KEYS, public=["https://linkage.example"], required=True)
    host = {"host": "linkage.example"}
    _, headers = ask(door, path="/oauth2callback?code=1", **host)
    assert headers["location"] == "/"
    assert headers["set-cookie"].endswith("secure"), "the last of them"
    assert ask(door, path="/oauth2callback?error=%1b", **host)[0] == 400
    del led[1]
    assert ask(door, path="/oauth2callback?code=1", **host)[1]["location"] == f"/?{login.REFUSED}"
    assert ask(door, path="/elsewhere", **host)[1]["location"] == "/"
    assert _by_tls(b"Set-Cookie", b"a=b; Path=/") == b"a=b; Path=/; Secure"
    assert _by_tls(b"set-cookie", b"a=b; Secure") == b"a=b; Secure"
    assert _by_tls(b"location", b"/") == b"/"


def test_the_printed_address_leaves_a_cookie_and_no_token(door: Door, behind: Behind) -> None:
    status, headers = ask(door, path=f"/risk?N=3&token={KEYS.token}&cohort=a%26b")
    assert (status, headers["location"]) == (303, "/risk?N=3&cohort=a%26b")
    assert headers["set-cookie"] == f"{COOKIE}; HttpOnly; SameSite=Strict; Path=/"
    assert KEYS.token not in headers["set-cookie"]
    assert ask(door, path=f"//evil.example/?token={KEYS.token}")[1]["location"] == "/evil.example/"
    status, headers = ask(door, path=f"/?token={KEYS.token[:-1]}")
    assert status == 403
    assert "set-cookie" not in headers
    assert behind.reached == []


def test_pages_are_told_who_has_shown_the_token_and_nobody_else_can_tell_them(door: Door, behind: Behind) -> None:
    for cookie, right in (("absent", []), (COOKIE, ["1"])):
        for kind in ("http", "websocket"):
            ask(door, kind, origin=OWN, cookie=cookie, **{MARK.upper(): "1", MARK: "1"})
            told = [value.decode() for name, value in behind.reached[-1]["headers"] if name.lower() == MARK.encode()]
            assert told == right


def test_a_page_names_what_is_fetched_ahead_and_has_the_style_in_it_and_nothing_else_does() -> None:
    class Page:
        kind = b"text/html; charset=utf-8"

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            assert not any(name == b"accept-encoding" for name, _ in scope["headers"]), "what is packed cannot be read"
            headers = [(b"content-type", self.kind), (b"content-length", b"26"), (b"etag", b"1")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"<head></he", "more_body": True})
            await send({"type": "http.response.body", "body": b"ad><body></body>"})

    page = Page()
    door = Door(page, keys=KEYS, ahead=["static/js/a.js"], style="p { margin: 0 }")
    _, headers = ask(door, accept="text/html,*/*", accept_encoding="gzip")
    assert headers["link"] == "<static/js/a.js>; rel=modulepreload; crossorigin"
    assert int(headers["content-length"]) == len("<head><style>p { margin: 0 }</style></head><body></body>")
    assert "etag" not in headers, "Streamlit's own file says nothing of ours"
    page.kind = b"text/javascript"
    _, headers = ask(door, accept="*/*")
    assert ("link" in headers, headers["content-length"], headers["etag"]) == (False, "26", "1")


def test_what_pages_are_drawn_with_is_there_and_is_no_part_of_streamlits_page_already() -> None:
    from streamlit import file_util

    there, files = Path(file_util.get_static_dir()), serve.drawn_with()
    assert sum("PlotlyChart" in file for file in files) == 1
    assert all((there / file).is_file() for file in files)
    assert not any(file in (there / "index.html").read_text() for file in files)


def test_every_answer_has_the_headers_that_browsers_obey(door: Door) -> None:
    answers = [ask(door), ask(door, origin="null"), ask(door, path=f"/?token={KEYS.token}"), ask(door, path="/media/x")]
    for _, headers in answers:
        rules = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert rules["frame-ancestors"] == rules["object-src"] == "'none'"
        assert rules["img-src"] == "'self' data: blob:"
        assert rules["connect-src"].startswith("'self' ws://")
        assert "unsafe" not in rules["script-src"]
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_counts_of_sessions_are_nobodys_business(door: Door) -> None:
    assert ask(door, path="/_stcore/metrics", cookie=COOKIE)[0] == 404
    assert ask(door, path="/_stcore/metrics/", cookie=COOKIE)[0] == 404
    assert ask(door, path="/_stcore/health")[0] == 200


def test_a_stranger_gets_the_files_that_strangers_were_told_of(door: Door, behind: Behind) -> None:
    behind.says = [b"\x0a\x20/media/aaaa1111.png\x12", b"nothing"]
    ask(door, "websocket", origin=OWN)
    behind.says = [b"/media/bbbb2222.png"]
    ask(door, "websocket", origin=OWN, cookie=COOKIE)
    assert [ask(door, path=f"/media/{name}")[0] for name in ("aaaa1111.png", "bbbb2222.png")] == [200, 404]
    assert ask(door, path="/media/bbbb2222.png", cookie=COOKIE)[0] == 200
    for other in ("//media/bbbb2222.png", "/media//bbbb2222.png", "/media/bbbb2222.png/", "/app/media/bbbb2222.png"):
        assert ask(door, path=other)[0] == 404
    assert ask(door, path="/static/media/font.woff2")[0] == 200, "what every page is drawn with"


def test_a_proxy_serves_it_under_its_own_name_alone(behind: Behind) -> None:
    door = Door(behind, keys=KEYS, public=["https://Linkage.Example/"])
    assert ask(door, host="linkage.example", origin="https://linkage.example")[0] == 200
    for host, origin in (
        ("linkage.example", "http://linkage.example"),
        ("linkage.example", OWN),
        ("other.example", ""),
    ):
        assert ask(door, host=host, origin=origin)[0] == 403
    _, headers = ask(door, path=f"/?token={KEYS.token}", host="linkage.example")
    assert headers["set-cookie"].endswith("; Secure")
    assert "wss://linkage.example" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("ip", "right"),
    [("::1", f"[::1]:{PORT}"), ("::ffff:127.0.0.1", f"localhost:{PORT}"), ("10.0.0.5", "10.0.0.5:8501")],
)
def test_the_address_that_a_connection_came_to_is_a_name(door: Door, ip: str, right: str) -> None:
    assert ask(door, server=(ip, PORT), host=right)[0] == 200
    if ip == "10.0.0.5":  # from another machine, which only says that it is this one
        assert ask(door, server=(ip, PORT), host=f"localhost:{PORT}")[0] == 403


@pytest.mark.parametrize(
    "address", ["linkage.example", "ftp://a", "https://", "https://a/b", "https://u@a", "https://a:x"]
)
def test_what_is_no_address_of_a_server_is_said(address: str) -> None:
    with pytest.raises(InputError, match="is no address of a server"):
        origin_of(address)


# -- the start -------------------------------------------------------------------------------------------------------

START = """
import socket, sys
from pathlib import Path
asked = []
socket.getaddrinfo = lambda *a, **k: asked.append(a) or (_ for _ in ()).throw(OSError("no network"))
from explorer import serve
from streamlit import net_util
from streamlit.web import bootstrap
from streamlit.web.server.starlette.starlette_server import UvicornRunner
from streamlit.web.server.server_util import is_url_from_allowed_origins
UvicornRunner.run = lambda self: bootstrap._print_url(False)  # everything but listening
serve.serve(Path(sys.argv[1]), 8777, reach=serve.Reach("0.0.0.0", without_login=sys.argv[2] == "1"))
is_url_from_allowed_origins("http://evil.example")
assert net_util.get_external_ip() is None
assert not asked, asked
"""


@pytest.mark.parametrize("meant", [False, True])
def test_others_reach_it_only_where_that_is_meant_and_nothing_is_looked_up_outside(tmp_path: Path, meant: bool) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", START, str(tmp_path), str(int(meant))]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert (ran.returncode == 0) is meant, ran.stderr
    assert ("Others could reach this server (0.0.0.0), and nobody has to log in." in ran.stderr) is not meant


def test_others_reach_it_with_a_login() -> None:
    serve.refuse_open("10.0.0.5", [], login=True, without=False)
    with pytest.raises(InputError, match=r"linkage\.example"):
        serve.refuse_open("127.0.0.1", ["https://linkage.example"], login=False, without=False)


def test_a_token_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({serve.token() for _ in range(3)}) == 3
    for short in ("a" * 15, "a b" * 10):
        monkeypatch.setenv(serve.GIVEN_TOKEN, short)
        with pytest.raises(InputError, match="LINKAGE_TOKEN"):
            serve.token()


def test_the_browser_is_led_there_by_a_file_of_this_account(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(serve.webbrowser, "open", opened.put)
    with serve.entrance(f"{OWN}/?token=secret&a=1"):
        address = opened.get(timeout=30)
        file = Path(address.removeprefix("file://"))
        assert "secret" not in address
        assert f"{OWN}/?token=secret&amp;a=1" in file.read_text()
        assert file.parent.stat().st_mode & 0o077 == 0
    assert not file.exists()


# -- what a stranger's session is shown --------------------------------------------------------------------------------


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, let_in: None) -> None:
    monkeypatch.setattr(visitor, "let_in", lambda: False)


PAGES = [file for rows in frame.PAGES.values() for file, _, _ in rows]


@pytest.mark.parametrize("file", PAGES)
def test_no_page_shows_a_stranger_anything_of_a_real_cohort(open_page: Any, stranger: None, file: str) -> None:
    app = open_page(file, cohort="our-hospital", model="phantom-radiology")
    assert not app.exception
    said = words(app) + json.dumps([str(box.options) for box in app.selectbox])
    assert "our-hospital" not in said
    assert kept.CLOSED in said
    assert app.session_state["cohort in use"] == "phantom"
    if file == "data":
        assert "Nothing can be added or removed here" in said


def test_what_was_kept_for_others_is_not_given_to_a_stranger(monkeypatch: pytest.MonkeyPatch, store_root: Path) -> None:
    monkeypatch.setenv("LINKAGE_STORE", str(store_root))
    kept.table("our-hospital", "phantom-radiology", [5], [1])
    monkeypatch.setattr(visitor, "let_in", lambda: False)
    assert kept.store().cohorts() == ["phantom"]
    assert kept.store().models("our-hospital") == []
    for read in (
        lambda: kept.table("our-hospital", "phantom-radiology", [5], [1]),
        lambda: kept.entry("our-hospital", "phantom-radiology"),
        lambda: kept.store().open("our-hospital", "phantom-radiology"),
    ):
        with pytest.raises(StoreError, match="No such synthetic cohort") as refused:
            read()
        assert "our-hospital" not in refused.value.what + refused.value.remedy
    kept.table("phantom", "phantom-radiology", [5], [1])


def test_a_store_of_real_people_alone_says_how_it_opens(
    open_page: Any, stranger: None, tmp_path: Path, store_root
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "our-hospital").symlink_to(store_root / "our-hospital")
    assert any(kept.CLOSED in block for block in blocks(open_page(store=tmp_path / "store")))


# -- addresses and places ----------------------------------------------------------------------------------------------


def named(app: Any) -> str:
    """The record in the address; the harness hands out one value as itself or as a list."""
    value = app.query_params["record"]
    return str(value if isinstance(value, str) else value[0])


@pytest.mark.parametrize("file", ["examples", "exposure"])
def test_an_address_names_a_real_record_by_a_key_that_opens_it_again(
    open_page: Any, store_root: Path, file: str
) -> None:
    records = Store(store_root).open("our-hospital", "phantom-radiology").records()
    name = str(records["record_id"].iloc[7])
    app = open_page(cohort="our-hospital", record=name, patient=str(records["patient_id"].iloc[7]))
    key = named(app)
    assert name not in str(dict(app.query_params))
    assert "patient" not in app.query_params
    assert len(key) == 16
    st.cache_resource.clear()  # another start
    app = open_page(file, cohort="our-hospital", record=key)
    assert app.session_state["common:record"] == name
    app.run()
    assert app.session_state["common:record"] == name
    assert named(app) == key


def test_every_record_has_a_key_of_its_own_and_nothing_else_has_one() -> None:
    records = pd.DataFrame({name: [f"{name}-{i % 700}é" for i in range(1000)] for name in ("patient_id", "study_id")})
    records["record_id"] = [f"r{i}" for i in range(1000)]
    addresses = kept.Addresses(records)
    keys = [addresses.key_of(f"r{i}") for i in range(1000)]
    assert len(set(keys)) == 1000
    assert [addresses.record_of(key) for key in keys] == list(records["record_id"])
    assert addresses.key_of("r1000") == ""
    assert [addresses.record_of(key) for key in ("", "r7", "0" * 16, keys[0][:-1], "-" + keys[0][1:])] == [""] * 5
    assert kept.Addresses(records.iloc[:999]).key_of("r7") != keys[7], "made with all identifiers"


def test_a_record_of_a_real_cohort_does_not_stay_in_the_address_of_another(open_page: Any, store_root: Path) -> None:
    name = str(Store(store_root).open("our-hospital", "phantom-radiology").records()["record_id"].iloc[7])
    app = open_page("examples", cohort="our-hospital")
    app.session_state["common:record"] = name
    app.run()
    app.sidebar.selectbox[0].set_value("phantom").run()
    assert name not in str(dict(app.query_params))


def test_a_synthetic_record_keeps_its_name(open_page: Any, store_root: Path) -> None:
    name = str(Store(store_root).open("phantom", "phantom-radiology").records()["record_id"].iloc[7])
    assert named(open_page(cohort="phantom", record=name)) == name


# -- the access log ----------------------------------------------------------------------------------------------------


def test_the_access_log_says_who_saw_which_record_and_no_text(
    open_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "access.log"
    monkeypatch.setenv(access.FILE, str(log))
    app = open_page("examples", cohort="our-hospital")
    app.sidebar.toggle[0].set_value(True).run()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert log.stat().st_mode & 0o777 == 0o600
    assert {line["what"] for line in lines} == {"cohort", "image", "report"}
    assert all(set(line) - {"record"} == {"when", "who", "what", "cohort"} for line in lines)
    shown = app.session_state["common:record"] or "our-hospital-0000-0"
    assert shown in {line.get("record") for line in lines}
    assert "effusion" not in log.read_text()
    before = len(lines)
    app.run()
    assert len(log.read_text().splitlines()) == before, "once a session"


def test_where_it_cannot_be_noted_nothing_is_shown(
    open_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(access.FILE, str(tmp_path / "nowhere" / "access.log"))
    app = open_page("examples", cohort="our-hospital")
    assert any("access log cannot be written" in block for block in blocks(app))
    assert not app.get("bidi_component") or "our-hospital-0" not in words(app)


def test_a_disk_that_was_full_spoils_its_own_line_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = tmp_path / "access.log", os.write
    noted = {"who": "a", "what": "image", "cohort": "c"}
    access.append(file, **noted, names=["1"])
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda handle, data: write(handle, data[:20]))
        with pytest.raises(StoreError, match="the disk is full"):
            access.append(file, **noted, names=["2"])
    access.append(file, **noted, names=["3"])
    lines = file.read_text().splitlines()
    assert [json.loads(lines[at])["record"] for at in (0, 2)] == ["1", "3"]
    assert len(lines) == 3


def _write(file: Path, writer: int, written: Any) -> None:
    for i in range(10**6):
        access.append(file, who=f"writer {writer}", what="image", cohort="c" * 200, names=[f"{writer}-{i}"])
        written.release()


def test_killed_writers_leave_whole_lines_and_take_none_away(tmp_path: Path) -> None:
    file = tmp_path / "access.log"
    context = multiprocessing.get_context("fork")
    written = context.Semaphore(0)
    writers = [context.Process(target=_write, args=(file, i, written)) for i in range(2)]
    for writer in writers:
        writer.start()
    assert all(written.acquire(timeout=60) for _ in range(60))
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    content = file.read_text()
    assert content.endswith("\n")
    names = [json.loads(line)["record"] for line in content.splitlines()]
    for i in range(2):
        mine = [name for name in names if name.startswith(f"{i}-")]
        assert mine == [f"{i}-{n}" for n in range(len(mine))]


def test_no_page_says_where_a_file_lies_on_this_machine(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINKAGE_STORE", str(store_root))
    entry = Store(store_root).open("our-hospital", "phantom-radiology")
    payload = gallery.radiograph(entry, entry.records().iloc[0], None)
    assert str(store_root) not in payload.decode(errors="replace")
    said = f"{store_root}/our-hospital/m/lab/linkage.parquet was altered; /data/ward 7/films/MUELLER.png is not a file."
    assert without_places(said) == "our-hospital/m/lab/linkage.parquet was altered; MUELLER.png is not a file."
    side = lists.Side("A head", "after", None, problem=StoreError(said, f"Restore {store_root}/our-hospital/m."))
    told = lists.view_of(SimpleNamespace(n_shown=5), entry.records().iloc[0], side)
    assert str(store_root) not in told.what + told.remedy
