"""The tool keeps to this machine: its socket, its requests, its errors."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT


def test_it_listens_on_this_machine_only(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5):
        pass
    listening = {
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rsplit(":", 1)[1], 16) == server.port
    }
    assert listening == {f"0100007F:{server.port:04X}"}


def test_another_host_name_is_refused(server):
    """DNS rebinding: a page elsewhere must not talk to this server under its own name."""
    request = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: attacker.example:{server.port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(request.encode())
        assert b"101 Switching" not in connection.recv(200)


def test_a_page_that_raises_shows_no_traceback(serve, page_at, store_root, tmp_path):
    secret = "a-secret-path-and-value"
    script = tmp_path / "app.py"
    script.write_text(f"import streamlit as st\nst.title('x')\nraise RuntimeError({secret!r})\n")
    watched = page_at("/", at=serve(store_root, script))
    watched.page.get_by_test_id("stException").wait_for()
    content = watched.page.content()
    assert secret not in content
    assert "RuntimeError" not in content
    assert "Traceback" not in content
    assert str(tmp_path) not in content


@pytest.fixture(scope="module")
def empty(serve, tmp_path_factory):
    """A server with nothing loaded, that nobody has visited before the first of its tests."""
    return serve(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("path", ["/examples", "/risk?N=200", "/"])
def test_a_deep_link_to_a_server_with_nothing_loaded(page_at, empty, path):
    watched = page_at(path, at=empty)
    assert "Nothing is loaded" in watched.page.get_by_test_id("stMain").inner_text()
    assert "linkage phantom build" in watched.page.get_by_test_id("stMain").inner_text()
    assert watched.page.get_by_test_id("stException").count() == 0


def test_a_deep_link_as_first_visit_of_a_fresh_server(serve, page_at, store_root):
    watched = page_at("/risk?N=20", at=serve(store_root))
    assert "At N = 20:" in watched.page.get_by_test_id("stMain").inner_text()
    assert watched.page.get_by_test_id("stException").count() == 0


def test_a_page_that_needs_no_encoder_starts_without_torch():
    names = "explorer.frame.frame, explorer.drawing.charts, explorer.drawing.downloads"
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
