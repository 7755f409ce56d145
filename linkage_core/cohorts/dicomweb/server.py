"""One DICOMweb server: the host that was named and no other, asked at a limited rate, again where it stumbles.

No error and no log holds a login, a query or the number of a study: they name the host.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urlsplit

from linkage_core.cohorts.dicomweb.login import Login
from linkage_core.errors import ImageError, InputError
from linkage_core.images.read import MAX_FILE_BYTES

try:
    import requests
    from dicomweb_client.api import DICOMwebClient
    from requests.adapters import HTTPAdapter
    from requests.auth import HTTPBasicAuth
except ImportError as error:
    raise InputError(
        "DICOMweb needs dicomweb-client, which is not installed.",
        'Install the extra: pip install "linkage-explorer[dicomweb]", or requirements-dicomweb.txt of a checkout.',
    ) from error

RATE = 20.0  # requests a second
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before each further try
LONGEST_PAUSE = 60.0  # that a server may ask for
CONNECT_SECONDS, SILENT_SECONDS, WHOLE_SECONDS = 10.0, 60.0, 600.0
MAX_ANSWER_BYTES = 1 << 27  # of one page of a query

_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
_PIECE = 1 << 20
_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_GO_ON = "What was finished stays; the same command goes on from there."
UID = re.compile(r"[0-9.]{1,64}")

for _name in ("dicomweb_client", "retrying", "urllib3"):  # they write queries and study numbers
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

T = TypeVar("T")


class _Broken(Exception):
    """An answer that may be whole the next time; what it says names no study."""


@dataclass(frozen=True)
class Answer:
    """What a server said: status, headers by lower-case name, and all of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Server:
    """What may be asked of a DICOMweb server. Threads may share one."""

    def __init__(
        self,
        url: str,
        login: Login | None = None,
        *,
        rate: float = RATE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`url` is that of the service: `/studies` follows on it. `rate`: at most so many requests a second. Without
        TLS only this machine is asked. InputError for another address."""
        self.url = checked_url(url)
        parts = urlsplit(self.url)
        self._origin = (parts.scheme, parts.netloc)
        self.host = parts.netloc
        self._login = login or Login()
        if not rate > 0:
            raise InputError(f"--rate is {rate:g}.", "Give requests a second, more than 0.")
        self._wait, self._sleep = 1 / rate, sleep
        self._free_at, self._lock = 0.0, threading.Lock()
        self._tells_more = False  # the last answer said that there is more (Warning 299, PS3.18 8.3.4.4)
        self._session = _Session(self)
        self._client = DICOMwebClient(self.url, session=self._session)
        self._client.set_http_retry_params(retry=False, max_attempts=1)

    # ------------------------------------------------------------------------------------------------------ QIDO-RS

    def studies(self, fields: tuple[str, ...], filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Every study that fits, as DICOM JSON (tag -> {vr, Value}), page by page."""
        yield from self._pages(
            lambda offset: self._client.search_for_studies(fields=fields, search_filters=dict(filters), offset=offset),
        )

    def instances(self, study: str, fields: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Every instance of a study, as DICOM JSON."""
        yield from self._pages(
            lambda offset: self._client.search_for_instances(study, fields=fields, offset=offset),
        )

    def _pages(self, page: Callable[[int | None], Any]) -> Iterator[dict[str, Any]]:
        """What a query finds. No `limit` is sent: some servers (Orthanc's plug-in 1.7 among them) count it before they
        filter by ModalitiesInStudy, and say nothing of what they then leave out. Where a server gives a part of its own
        accord, it is asked for what follows until there is nothing new."""
        seen: set[int] = set()
        told_more = False
        offset: int | None = None
        while True:
            self._tells_more = False
            with self._in_words():
                found = page(offset)
            if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
                raise self._odd("something else than DICOM JSON")
            said = {hash(json.dumps(one, sort_keys=True)): one for one in found}
            fresh = [one for key, one in said.items() if key not in seen]
            seen |= said.keys()
            yield from fresh
            if not fresh:
                if told_more:
                    raise InputError(
                        f"{self.host} says that a query finds more than it gives, and does not give what follows.",
                        "Ask by shorter --dates, or name the studies in a file (--studies).",
                    )
                return
            told_more = self._tells_more
            offset = (offset or 0) + len(found)

    # ------------------------------------------------------------------------------------------------------ WADO-RS

    def instance(self, study: str, series: str, instance: str) -> bytes:
        """The DICOM file of one instance as it is stored; ImageError "missing-file" if the server has it no longer."""
        url = f"{self.url}/studies/{study}/series/{series}/instances/{instance}"
        data = self.ask(url, {"Accept": _DICOM}, self._file_of, MAX_FILE_BYTES)
        if data is None:
            raise ImageError(
                "missing-file",
                f"{self.host} lists an image and does not give it out (404).",
                "It was moved or deleted there meanwhile: ask whoever keeps the archive.",
            )
        return data

    def _file_of(self, answer: Answer) -> bytes | None:
        if answer.status in (404, 410):
            return None
        self.refuse(answer)
        kind = answer.headers.get("content-type", "")
        if kind.lower().startswith("application/dicom") and "json" not in kind.lower():
            return answer.body
        if not kind.lower().startswith("multipart/related"):
            raise self._odd(f"{kind.split(';')[0][:60] or 'something'!r} in place of a DICOM file")
        return only_part(answer.body, kind)

    # ----------------------------------------------------------------------------------------------------- requests

    def ask(self, url: str, headers: Mapping[str, str], read: Callable[[Answer], T], most: int) -> T:
        """GET, at the rate, in as many tries as PAUSES allow; `read` makes of the answer what is wanted, and may say
        that it is broken."""
        why = ""
        for pause in (0.0, *PAUSES):
            if pause:
                self._sleep(pause)
            try:
                answer = self._once(url, headers, most)
                if answer.status not in _AGAIN:
                    return read(answer)
                why = f"answered {answer.status}"
                wanted = answer.headers.get("retry-after", "")
                if wanted.isdecimal() and int(wanted):
                    self._sleep(min(float(wanted), LONGEST_PAUSE))
            except _Broken as broken:
                why = str(broken)
        raise InputError(f"{self.host} {why}, {len(PAUSES) + 1} times.", f"Try again when it is well. {_GO_ON}")

    def _once(self, url: str, headers: Mapping[str, str], most: int) -> Answer:
        if urlsplit(url)[:2] != self._origin:
            raise InputError(f"{self.host} was named, and a request would go elsewhere.", "Only that host is asked.")
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + self._wait
        if start > now:
            self._sleep(start - now)
        try:
            with self._session.plain_get(url, headers) as response:
                end = time.monotonic() + WHOLE_SECONDS
                pieces, size = [], 0
                for piece in response.iter_content(_PIECE):
                    size += len(piece)
                    if size > most:
                        raise InputError(
                            f"{self.host} sent more than {most:,} bytes in one answer.", "Ask by narrower filters."
                        )
                    if time.monotonic() > end:
                        raise _Broken(f"took more than {WHOLE_SECONDS:g} seconds for one answer")
                    pieces.append(piece)
                said = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, said, b"".join(pieces))
        except requests.exceptions.SSLError as error:
            raise InputError(
                f"TLS with {self.host} failed: {_tls(error)}.",
                "If the certificate is of your own house, give its authority as `ca` in the login "
                "(LINKAGE_DICOMWEB_CA). Checks are never left out.",
            ) from None
        except requests.exceptions.Timeout:
            raise _Broken("did not answer in time") from None
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
            raise _Broken("could not be reached, or stopped in the middle of an answer") from None
        except requests.exceptions.ContentDecodingError:
            raise _Broken("sent an answer that cannot be unpacked") from None
        except (requests.exceptions.RequestException, OSError, UnicodeError) as error:
            raise InputError(
                f"{self.host} could not be asked ({type(error).__name__}).", "Check the address and the login's files."
            ) from None

    def refuse(self, answer: Answer) -> None:
        """InputError where an answer is none to the question."""
        status, has = answer.status, self._login.is_secret or bool(self._login.certificate)
        given = "The login that was given is not valid there" if has else "No login was given"
        how = "give a token, or user and password, in a file (--login) or as LINKAGE_DICOMWEB_TOKEN"
        if status == 401:
            raise InputError(f"{self.host} asks who you are (401). {given}.", f"To go on, {how}.")
        if status == 403:
            raise InputError(f"{self.host} forbids this account to read it (403).", f"Ask its keeper, or {how}.")
        if status in (404, 410):
            raise InputError(
                f"{self.host} has no DICOMweb service at this address ({status}).",
                "Give the address that /studies follows on, such as https://pacs.example/dicom-web.",
            )
        if 300 <= status < 400:
            where = urlsplit(answer.headers.get("location", "")).netloc
            to = f" to {where}" if where and where != self.host else " elsewhere"
            raise InputError(
                f"{self.host} sends the request on{to} ({status}), where nobody asked to go.",
                "Give the address of the service itself; a login page may stand before it.",
            )
        if status >= 400:
            raise InputError(f"{self.host} refuses the request ({status}).", "See its own log for why.")
        kind = answer.headers.get("content-type", "").lower()
        if "html" in kind or answer.body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html")):
            raise self._odd("a web page (HTML) in place of DICOM")

    def _odd(self, what: str) -> InputError:
        return InputError(
            f"{self.host} answered with {what}.",
            "Check the address: a login page or a proxy may stand before the service.",
        )

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """What the client library and the parser of JSON may say, in our words."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, requests.exceptions.RequestException):
            raise self._odd("something else than DICOM JSON") from None


class _Session(requests.Session):
    """What dicomweb-client sends its requests through: `Server.ask`, which bounds, paces and repeats them."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        login = server._login
        self.trust_env = False  # no proxy, no netrc, no bundle that was not named
        self.verify = login.ca or True
        if login.certificate:
            self.cert = (login.certificate, login.key) if login.key else login.certificate
        if login.user:
            self.auth = HTTPBasicAuth(login.user.encode(), login.password.encode())
        if login.token:
            self.headers["Authorization"] = f"Bearer {login.token}"
        self.headers["User-Agent"] = "linkage-explorer"
        self.headers["Accept-Encoding"] = "identity"  # a server that packs images takes ten times as long
        for scheme in ("https://", "http://"):
            self.mount(scheme, HTTPAdapter(pool_maxsize=16, max_retries=0))

    def plain_get(self, url: str, headers: Mapping[str, str]) -> requests.Response:
        """One request, no redirect followed, the body not yet read."""
        timeout = (CONNECT_SECONDS, SILENT_SECONDS)
        return super().request("GET", url, headers=dict(headers), stream=True, timeout=timeout, allow_redirects=False)

    def request(self, method: str, url: str, **given: Any) -> requests.Response:
        """As requests has it, for GET alone."""
        if method.upper() != "GET":
            raise InputError("Only reading is asked of an archive.", "")
        headers = {name: value for name, value in (given.get("headers") or {}).items() if name.lower() != "host"}

        def whole(answer: Answer) -> Answer:
            self._server.refuse(answer)
            self._server._tells_more = answer.headers.get("warning", "").startswith("299")
            return answer

        answer = self._server.ask(str(url), headers, whole, MAX_ANSWER_BYTES)
        response = requests.Response()
        response.status_code = answer.status
        response._content = answer.body
        response.headers.update({name: said for name, said in answer.headers.items() if name != "warning"})
        response.url = self._server.url
        return response


def checked_url(url: str) -> str:
    """The address of a service without the / at its end; InputError for one that cannot be used or names a login.

    >>> checked_url("https://pacs.example:8443/dicom-web/")
    'https://pacs.example:8443/dicom-web'
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        shown = "The address" if "@" in url else f"The address {url!r}"
        raise InputError(f"{shown} is none of a web service.", "Give one such as https://pacs.example/dicom-web.")
    if "@" in parts.netloc:
        raise InputError(
            "The address holds a login, which everybody on this machine could read.",
            "Leave it out, and put it into a file (--login) or the environment (LINKAGE_DICOMWEB_USER, _PASSWORD).",
        )
    if parts.query or parts.fragment:
        raise InputError("The address has something after a ? or #.", "Give it up to where /studies follows.")
    if parts.scheme == "http" and not _is_here(host):
        raise InputError(
            f"{parts.netloc} would be asked without TLS.", "Give its https address: images are of patients."
        )
    return url.rstrip("/")


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def only_part(body: bytes, kind: str) -> bytes:
    """The content of a multipart answer of one part (RFC 2046); _Broken where it is cut off or has none or several.

    >>> body = b"--x\\r\\nContent-Type: application/dicom\\r\\n\\r\\nDICM\\r\\n--x--\\r\\n"
    >>> only_part(body, 'multipart/related; boundary="x"')
    b'DICM'
    """
    named = re.search(r'boundary="?([^";]+)"?', kind, re.IGNORECASE)
    if not named:
        raise _Broken("sent parts without saying where they end")
    mark = b"--" + named[1].strip().encode("latin-1", "replace")
    begin = body.find(mark)
    head = body.find(b"\r\n\r\n", begin)
    end = body.find(b"\r\n" + mark, head + 2)
    if begin < 0 or head < 0 or end < 0:
        raise _Broken("stopped in the middle of an image")
    after = body[end + 2 + len(mark) : end + 4 + len(mark)]
    if after != b"--":
        raise _Broken("sent several files where one was asked for" if after == b"\r\n" else "stopped in the middle")
    return body[head + 4 : end]


def text_of(found: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute of DICOM JSON (PS3.18 annex F) as text, "" where there is none.

    >>> text_of({"00100020": {"vr": "LO", "Value": [" 12 "]}, "00100010": {"vr": "PN"}}, "00100020")
    '12'
    """
    said = found.get(tag)
    values = said.get("Value") if isinstance(said, dict) else None
    value = values[0] if isinstance(values, list) and values else None
    return str(value).strip("\0 ") if isinstance(value, str | int | float) else ""


def _tls(error: BaseException) -> str:
    """Why, in the words of the TLS library, without the address."""
    seen: list[BaseException] = [error]
    for one in seen:
        if isinstance(one, ssl.SSLCertVerificationError):
            return str(one.verify_message).rstrip(".")
        if isinstance(one, ssl.SSLError) and one.reason:
            return str(one.reason).lower().replace("_", " ")
        reason = getattr(one, "reason", None)
        seen += [
            more for more in (*one.args, reason, one.__cause__, one.__context__) if isinstance(more, BaseException)
        ][: 8 if len(seen) < 50 else 0]
    return "the two do not speak the same"
