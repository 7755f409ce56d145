"""A DICOMweb server that is wrong in every way: one sentence each, nothing lost, no secret and no number in it."""

from __future__ import annotations

import json
import logging
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from linkage_core.cohorts.dicomweb import listing
from linkage_core.cohorts.dicomweb.login import Login, login_of
from linkage_core.cohorts.dicomweb.server import PAUSES, Server, checked_url
from linkage_core.errors import ImageError, InputError

STUDY = "1.2.826.0.1.77777"
SECRET = "very-secret-token"
PART = b"--b\r\nContent-Type: application/dicom\r\n\r\nBYTES\r\n--b--\r\n"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'


class Scripted:
    """A server that gives the next of its answers: (status, headers, body); the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                status, headers, body = outer.answers.pop(0) if len(outer.answers) > 1 else outer.answers[0]
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body)), "Connection": "close"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/dicom-web"

    def says(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.answers, self.asked = list(answers), []


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    found = Scripted()
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def server(scripted: Scripted, slept: list[float]) -> Server:
    return Server(scripted.url, Login(token=SECRET), rate=1e6, sleep=slept.append)


def as_json(*found: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/dicom+json"}, json.dumps(found).encode()


def study(uid: str, patient: str = "p") -> dict[str, Any]:
    return {"0020000D": {"vr": "UI", "Value": [uid]}, "00100020": {"vr": "LO", "Value": [patient]}}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {}, b""), "asks who you are (401)"),
        ((403, {}, b""), "forbids"),
        ((404, {}, b"nothing"), "no DICOMweb service at this address"),
        ((400, {}, f"bad {STUDY}".encode()), "refuses the request (400)"),
        ((302, {"Location": "https://login.example/x?s=" + STUDY}, b""), "sends the request on to login.example"),
        ((200, {"Content-Type": "text/html"}, b"<!DOCTYPE html><title>Log in</title>"), "a web page (HTML)"),
        ((200, {"Content-Type": "application/json"}, b"  <html>"), "a web page (HTML)"),
        ((200, {"Content-Type": "application/dicom+json"}, b'[{"0020'), "something else than DICOM JSON"),
        ((200, {"Content-Type": "application/dicom+json"}, b"[1]"), "something else than DICOM JSON"),
        ((500, {}, b""), "answered 500, 6 times"),
        ((200, {"Content-Length": "900"}, b"[{"), "stopped in the middle of an answer, 6 times"),
    ],
)
def test_each_bad_answer_is_one_sentence_without_secret_or_number(
    answer: tuple[int, dict[str, str], bytes],
    words: str,
    scripted: Scripted,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    scripted.says(answer)
    with pytest.raises(InputError) as said:
        list(server.studies(("00100020",), {"StudyInstanceUID": STUDY}))
    assert words in said.value.what
    assert said.value.remedy
    told = f"{said.value} {said.value.__cause__} {caplog.text} {server._login!r}"
    assert SECRET not in told
    assert STUDY not in told
    assert STUDY in scripted.asked[0][0]
    assert scripted.asked[0][1]["Authorization"] == f"Bearer {SECRET}"


def test_a_server_that_stumbles_is_asked_again_and_waited_for(
    scripted: Scripted, server: Server, slept: list[float]
) -> None:
    scripted.says(
        (503, {"Retry-After": "7"}, b""), (200, {"Content-Length": "99"}, b"["), as_json(study(STUDY)), as_json()
    )
    assert [one["0020000D"]["Value"] for one in server.studies((), {})] == [[STUDY]]
    assert [pause for pause in slept if pause >= 1] == [7, *PAUSES[:2]]


def test_pages_are_asked_for_until_one_is_empty(scripted: Scripted, server: Server) -> None:
    pages = [[study(f"1.2.3.{page}.{n}") for n in range(3)] for page in range(2)]
    scripted.says(*(as_json(*page) for page in pages), as_json())
    assert len(list(server.studies((), {"ModalitiesInStudy": "DX"}))) == 6
    assert [path.partition("offset=")[2].partition("&")[0] for path, _ in scripted.asked] == ["", "3", "6"]
    assert not any("limit=" in path for path, _ in scripted.asked)  # Orthanc would leave studies out


def test_a_server_that_does_not_page_is_believed_unless_it_says_that_there_is_more(
    scripted: Scripted, server: Server
) -> None:
    scripted.says(as_json(study("1.2.3.4")))  # says the same for ever: it knows no offset, and this is all
    assert len(list(server.studies((), {}))) == 1
    status, headers, body = as_json(study("1.2.3.4"))
    scripted.says((status, headers | {"Warning": '299 pacs "There are 7 additional results"'}, body))
    with pytest.raises(InputError, match="finds more than it gives"):
        list(server.studies((), {}))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {"Content-Type": MULTIPART}, PART.removesuffix(b"--b--\r\n")), "middle of an image"),
        ((200, {"Content-Type": MULTIPART}, PART.removesuffix(b"--b--\r\n") + PART), "several files"),
        ((200, {"Content-Type": "multipart/related"}, PART), "without saying where they end"),
        ((200, {"Content-Type": "text/html; charset=utf-8"}, b"<p>"), "web page"),
        ((200, {"Content-Type": "image/jpeg"}, b"\xff\xd8"), "'image/jpeg' in place of a DICOM file"),
        ((401, {}, b""), "401"),
    ],
)
def test_an_image_that_does_not_come_whole_ends_the_run_and_is_not_lost(
    answer: tuple[int, dict[str, str], bytes], words: str, scripted: Scripted, server: Server
) -> None:
    scripted.says(answer)
    with pytest.raises(InputError) as said:
        server.instance(STUDY, STUDY, STUDY)
    assert words in said.value.what
    assert STUDY not in str(said.value)
    scripted.says((200, {"Content-Type": MULTIPART}, PART))
    assert server.instance(STUDY, STUDY, STUDY) == b"BYTES"
    scripted.says((404, {}, b""))
    with pytest.raises(ImageError) as gone:
        server.instance(STUDY, STUDY, STUDY)
    assert gone.value.reason == "missing-file"


def test_only_the_host_that_was_named_is_asked(scripted: Scripted, server: Server) -> None:
    scripted.says(as_json())
    for elsewhere in ("http://127.0.0.1:1/x", scripted.url.replace("http:", "https:"), "http://localhost/x"):
        with pytest.raises(InputError, match="elsewhere"):
            server.ask(elsewhere, {}, lambda answer: answer, 10)
    assert scripted.asked == []


def test_the_rate_is_kept(scripted: Scripted, slept: list[float]) -> None:
    scripted.says(as_json())
    slow = Server(scripted.url, rate=0.5, sleep=slept.append)
    for _ in range(3):
        slow.ask(f"{slow.url}/studies", {}, lambda answer: answer, 1000)
    assert [round(pause) for pause in slept] == [2, 4]  # nobody slept: the third would wait for the second too


def test_an_answer_without_end_is_cut_off(scripted: Scripted, server: Server) -> None:
    scripted.says((200, {}, b"x" * 5000))
    with pytest.raises(InputError, match="more than 1,000 bytes"):
        server.ask(f"{server.url}/studies", {}, lambda answer: answer, 1000)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://pacs.example/dicom-web", "without TLS"),
        ("https://user:hunter2@pacs.example/", "holds a login"),
        ("ftp://pacs.example/", "none of a web service"),
        ("/data/folder", "none of a web service"),
        ("https://pacs.example/studies?x=1", "after a ?"),
        ("https://[::1/", "none of a web service"),
    ],
)
def test_addresses_that_are_refused(url: str, words: str) -> None:
    with pytest.raises(InputError) as said:
        checked_url(url)
    assert words in said.value.what
    assert "hunter2" not in str(said.value)


def test_logins_come_from_a_private_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "login"
    file.write_text(f"# of the archive\ntoken = {SECRET}\n")
    with pytest.raises(InputError, match="chmod 600"):
        login_of(file, {})
    file.chmod(0o600)
    assert login_of(file, {"LINKAGE_DICOMWEB_CA": ""}).token == SECRET
    assert SECRET not in repr(login_of(file, {}))
    assert login_of(None, {"LINKAGE_DICOMWEB_USER": "a", "LINKAGE_DICOMWEB_PASSWORD": "b"}).password == "b"
    for text, environment, words in (
        (SECRET, {}, "line 1 is no setting"),
        ("tokne = " + SECRET, {}, "Did you mean 'token'"),
        ("user = a", {}, "a user and no password"),
        (
            f"token = {SECRET}",
            {"LINKAGE_DICOMWEB_USER": "a", "LINKAGE_DICOMWEB_PASSWORD": "b"},
            "both a token and a user",
        ),
        ("ca = /nowhere.pem", {}, "ca of the login is no file"),
        ("", {"LINKAGE_DICOMWEB_TOKEN": "a\nHost: b"}, "cannot be sent"),
    ):
        file.write_text(text)
        with pytest.raises(InputError) as said:
            login_of(file, environment)
        assert words in str(said.value)
        assert SECRET not in str(said.value)


def test_queries_that_are_refused(tmp_path: Path) -> None:
    listed = tmp_path / "studies.txt"
    for text, words in (("", "empty"), ("1.2.3.4\n*", "line 2"), ("a?b", "line 1")):
        listed.write_text(text)
        with pytest.raises(InputError, match=words):
            listing.asked("DX", "", "", listed, False)
    listed.write_text("# mine\n1.2.840.1.5\nP-17 \n\nP-17\n")
    assert listing.asked("DX", "", "", listed, False).studies == ("1.2.840.1.5", "P-17")
    for dates in ("2020", "20201301", "20210101-20200101", "-", "20200101-20200101-"):
        with pytest.raises(InputError, match="--dates"):
            listing.asked("DX", "", dates, None, False)
    for modality in ("", "D*"):
        with pytest.raises(InputError, match="--modality"):
            listing.asked(modality, "", "", None, False)


def test_a_study_under_two_patients_is_seen_where_instances_name_none(scripted: Scripted, server: Server) -> None:
    instance = {
        tag: {"vr": "UI", "Value": [value]}
        for tag, value in {"00080018": "1.2.9", "0020000E": "1.2.8", "00080060": "DX"}.items()
    }
    scripted.says(as_json(study("1.2.3.4", "p"), study("1.2.3.4", "q")), as_json())
    scripted.answers[1:] = [as_json(), as_json(instance), as_json()]
    question = listing.asked("DX", "", "", None, False)
    found = listing.find(server, question)
    assert found.clashing == ("1.2.3.4",)
    assert len(found.table) == 1


def test_tls_is_checked(scripted: Scripted, tmp_path: Path, slept: list[float]) -> None:
    pem, key = tmp_path / "own.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    secret = Scripted()
    secret.http.socket = context.wrap_socket(secret.http.socket, server_side=True)
    secret.says(as_json())
    url = secret.url.replace("http:", "https:")
    try:
        with pytest.raises(InputError, match="failed: self-signed certificate") as said:
            list(Server(url, Login(token=SECRET), sleep=slept.append).studies((), {"StudyInstanceUID": STUDY}))
        assert STUDY not in str(said.value)
        assert secret.asked == []
        assert list(Server(url, Login(token=SECRET, ca=str(pem)), sleep=slept.append).studies((), {})) == []
        assert len(secret.asked) == 1
        other = Server(url.replace("127.0.0.1", "localhost"), Login(ca=str(pem)), sleep=slept.append)
        with pytest.raises(InputError, match="TLS with localhost"):  # a certificate of another name
            list(other.studies((), {}))
    finally:
        secret.http.shutdown()
        secret.http.server_close()
    assert slept == []
