"""Who may talk to the server: one ASGI middleware in front of Streamlit, for HTTP and WebSocket alike.

Every account of a machine reaches its loopback address, and every page in its browsers does, from any other port. So a
request is answered only where its Host, and its Origin if it has one, is exactly this server's; a WebSocket without an
Origin, which no browser opens, needs the token. The token is drawn at each start and stands in the address that is
printed, as Jupyter does it; the browser then keeps what follows from it in a cookie of this port. Who has not shown it
is let in to synthetic cohorts alone (explorer.frame.visitor).

Nothing is decided by Streamlit's own checks behind it: they take every port of a machine for one, and look this
machine's address up outside to know its names.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from explorer.frame import login
from linkage_core import allowed
from linkage_core.errors import InputError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

MARK = "x-linkage-let-in"
"""The header that tells the pages of a session that it has shown the token; one from outside is dropped."""
TOKEN = "token"
"""Its name in the printed address."""
CLOSED = ("/_stcore/metrics", "/_stcore/script-health-check")
SHORTEST = 16
"""Letters of a token that somebody sets: shorter ones can be guessed."""
MOST_TOLD = 10_000
_ENTERED = re.compile(rb'_streamlit_user="?[^;"]{8}')
_MEDIA = re.compile(rb"/media/([0-9a-zA-Z_.-]{1,200})")


@dataclass(frozen=True)
class Keys:
    """The token of one start, and the cookie that follows from it: of one port, and without the token in it.

    >>> keys = Keys("a" * 32)
    >>> keys.cookie_name(8501), keys.cookie(8501) == keys.cookie(8502)
    ('linkage-8501', False)
    """

    token: str

    def cookie_name(self, port: int) -> str:
        return f"linkage-{port}"

    def cookie(self, port: int) -> str:
        return hmac.new(self.token.encode(), f"cookie of port {port}".encode(), hashlib.sha256).hexdigest()

    def shown_in(self, cookies: Iterable[str], port: int) -> bool:
        """Whether one of these Cookie headers has the right cookie."""
        return any(_same(one, self.cookie(port)) for text in cookies for one in _cookies(text, self.cookie_name(port)))


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def _cookies(text: str, name: str) -> list[str]:
    """The values of a cookie. Other programs of this host have cookies in the same header, of any form."""
    return [value for key, _, value in (one.strip().partition("=") for one in text.split(";")) if key == name]


def origin_of(address: str) -> str:
    """An address such as https://linkage.example:8443/ as browsers name an origin; InputError for what is none.

    >>> origin_of("https://Linkage.Example:443/"), origin_of("http://[::1]:8501")
    ('https://linkage.example', 'http://[::1]:8501')
    """
    try:
        parts = urlsplit(address.strip())
        name, port = parts.hostname or "", parts.port
    except ValueError:
        parts, name, port = urlsplit(""), "", None
    plain = parts.scheme in ("http", "https") and re.fullmatch(r"[a-z0-9.:-]+", name)
    if not plain or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise InputError(
            f"{address} is no address of a server.",
            "Give scheme and host as browsers see them: https://linkage.example",
        )
    return f"{parts.scheme}://{_netloc(name, port, parts.scheme)}"


def _netloc(host: str, port: int | None, scheme: str) -> str:
    """Host and port as a browser sends them: without the port that is usual."""
    host = f"[{host}]" if ":" in host else host
    return host if port in (None, {"http": 80, "https": 443}[scheme]) else f"{host}:{port}"


def content_policy(scripts: Iterable[str], host: str, secure: bool) -> str:
    """The Content-Security-Policy of every answer.

    scripts: hashes of the inline scripts of Streamlit's page ("sha256-..."). What runs comes from here, or is built by
    the page itself (components are modules from a blob); what is loaded and connected to is here alone.
    """
    hashes = " ".join(f"'{one}'" for one in scripts)
    rules = {
        "default-src": "'self'",
        "script-src": f"'self' blob: {hashes}".strip(),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "media-src": "'self' data: blob:",
        "connect-src": f"'self' {'wss' if secure else 'ws'}://{host}",
        "worker-src": "'self' blob:",
        "frame-src": "'self' blob: data:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


class Door:
    """The middleware. `public`: addresses at which a proxy serves this one; `secure`: the server itself speaks TLS;
    `required`: a login is, and takes the place of the token. `ahead`: modules below a page's address that a browser
    fetches while the page is made; `style`: what stands in the page itself beside Streamlit's own style."""

    def __init__(
        self,
        app: Asgi,
        *,
        keys: Keys,
        public: Iterable[str] = (),
        secure: bool = False,
        scripts: Iterable[str] = (),
        required: bool = False,
        ahead: Iterable[str] = (),
        style: str = "",
    ) -> None:
        self.app, self.keys, self.secure, self.scripts, self.required = app, keys, secure, tuple(scripts), required
        self.ahead = ", ".join(f"<{file}>; rel=modulepreload; crossorigin" for file in ahead).encode()
        self.style = f"<style>{style}</style>".encode() if style else b""
        self.public = {urlsplit(origin).netloc: origin for origin in map(origin_of, public)}
        self._told: dict[str, None] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        host, refused = self._why_refused(scope, headers)
        if refused:
            return await _refuse(scope, receive, self._guarded(send, ""), refused)
        port = int(scope["server"][1])
        query = scope.get("query_string", b"").decode("latin-1")
        given = [value for name, value in parse_qsl(query, keep_blank_values=True) if name == TOKEN]
        knows = any(_same(one, self.keys.token) for one in given) and not self.required
        if self.required:
            shown = login.shown_in(scope)
        else:
            shown = knows or self.keys.shown_in([value for name, value in headers if name == "cookie"], port)
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != MARK.encode()]}
        if shown:
            scope["headers"].append((MARK.encode(), b"1"))
        if scope["type"] == "websocket":
            if not shown and not any(name == "origin" for name, _ in headers):
                return await _refuse(scope, receive, send, "A connection without an origin needs the token.")
            return await self.app(scope, receive, send if shown else self._noting(send))
        send = self._guarded(send, host)
        if given and scope["method"] in ("GET", "HEAD"):
            if not knows:
                said = "This address is of another start of the server. Open the one that it printed at this one."
                return await _refuse(scope, receive, send, said)
            return await self._keep(scope, query, host, port, send)
        refused = self._why_not_here(scope["path"], shown)
        if refused:
            return await _refuse(scope, receive, send, refused, 404)
        if self.required and scope["path"].endswith(f"/{login.CALLBACK}"):
            if not unquote(query).isprintable():  # it would stand in the log
                return await _refuse(scope, receive, send, "This is no answer of a login server.", 400)
            send = _telling(send)
        if self.style and any(name == "accept" and "text/html" in value for name, value in headers):
            # a page is sent as it is: the style goes into it
            scope["headers"] = [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]
        await self.app(scope, receive, send)

    def _own(self, server: tuple[str, int]) -> dict[str, str]:
        """Host -> the one origin that goes with it. The address that a connection came to is this server's, and a name
        only where it is the loopback's or was given."""
        ip, port = server
        with_zone = ip.partition("%")[0]
        mapped = getattr(ipaddress.ip_address(with_zone), "ipv4_mapped", None)
        ip = str(mapped or with_zone)
        scheme = "https" if self.secure else "http"
        names = (ip, "localhost") if allowed.loopback(ip) else (ip,)
        here = [_netloc(name, port, scheme) for name in names]
        return {netloc: f"{scheme}://{netloc}" for netloc in here} | self.public

    def _why_refused(self, scope: Scope, headers: list[tuple[str, str]]) -> tuple[str, str]:
        """(the host as it was asked for, why it is refused; empty where it is not)."""
        hosts = [value.lower() for name, value in headers if name == "host"]
        origins = [value for name, value in headers if name == "origin"]
        try:
            own = self._own(scope["server"])
        except (TypeError, ValueError):  # no TCP
            return "", "This server answers at an address of the network alone."
        if len(hosts) != 1 or hosts[0] not in own:
            return "", "This server has another name."
        if origins and origins != [own[hosts[0]]]:
            return "", "Pages from elsewhere may not talk to this server."
        return hosts[0], ""

    def _why_not_here(self, path: str, shown: bool) -> str:
        if path.rstrip("/").endswith(CLOSED):
            return "Not found."
        parts = [part for part in path.split("/") if part]
        place = parts.index("media") if "media" in parts else len(parts)
        of_a_page = place < len(parts) and parts[:place][-1:] != ["static"]  # fonts lie in static/media
        if of_a_page and not shown and "/".join(parts[place + 1 :]) not in self._told:
            return "Not found."  # a file of a session that has shown the token
        return ""

    def _noting(self, send: Send) -> Send:
        """Notes which files a session without the token is told of: those, and no others, are given to such ones."""

        async def noting(message: Message) -> None:
            for found in _MEDIA.findall(message.get("bytes") or b""):
                self._told[found.decode()] = None
            while len(self._told) > MOST_TOLD:
                self._told.pop(next(iter(self._told)))
            await send(message)

        return noting

    def _guarded(self, send: Send, host: str) -> Send:
        """Every answer with the headers that browsers obey."""
        ours = {
            "content-security-policy": content_policy(self.scripts, host, self.secure or host in self.public),
            "x-frame-options": "DENY",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
        }

        page: list[Message] = []

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                theirs = [pair for pair in message.get("headers", ()) if pair[0].decode().lower() not in ours]
                if self.secure or self.public.get(host, "").startswith("https:"):
                    theirs = [(name, _by_tls(name, value)) for name, value in theirs]
                message["headers"] = theirs + [(name.encode(), value.encode()) for name, value in ours.items()]
                if message["status"] == 200 and _is_page(theirs):
                    page.append(message)
                    return
            if page:
                page.append(message)
                if not message.get("more_body"):
                    for one in self._page(page[0], b"".join(one.get("body", b"") for one in page[1:])):
                        await send(one)
                return
            await send(message)

        return guarded

    def _page(self, start: Message, body: bytes) -> tuple[Message, Message]:
        """Streamlit's page with what is fetched ahead and the style. It is sent anew each time: whether it has changed
        is asked of Streamlit's part alone."""
        changed = body.replace(b"</head>", self.style + b"</head>", 1)
        drop = (b"content-length", b"etag", b"last-modified") if changed != body else ()
        headers = [pair for pair in start["headers"] if pair[0].lower() not in drop]
        headers += [(b"content-length", str(len(changed)).encode())] if drop else []
        headers += [(b"link", self.ahead)] if self.ahead else []
        return {**start, "headers": headers}, {"type": "http.response.body", "body": changed}

    async def _keep(self, scope: Scope, query: str, host: str, port: int, send: Send) -> None:
        """To the same address without the token, which the browser has now as a cookie."""
        rest = urlencode([pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != TOKEN])
        place = "/" + quote(scope["path"].lstrip("/\\")) + (f"?{rest}" if rest else "")
        secure = "; Secure" if self.secure or self.public.get(host, "").startswith("https:") else ""
        cookie = f"{self.keys.cookie_name(port)}={self.keys.cookie(port)}; HttpOnly; SameSite=Strict; Path=/{secure}"
        headers = [("location", place), ("set-cookie", cookie), ("cache-control", "no-store"), ("content-length", "0")]
        pairs = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": 303, "headers": pairs})
        await send({"type": "http.response.body", "body": b""})


def _by_tls(name: bytes, value: bytes) -> bytes:
    """The value of a header; a cookie is then sent back by TLS alone."""
    is_open = name.lower() == b"set-cookie" and b"secure" not in [part.strip().lower() for part in value.split(b";")]
    return value + b"; Secure" if is_open else value


def _telling(send: Send) -> Send:
    """The end of a login; the address that a browser is led to says where it did not succeed."""

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name.lower(), value) for name, value in message.get("headers", ())]
            if not any(name == b"set-cookie" and _ENTERED.match(value) for name, value in headers):
                said = f"?{login.REFUSED}".encode()
                message["headers"] = [(name, value + said if name == b"location" else value) for name, value in headers]
        await send(message)

    return telling


def _is_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in headers)


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str, status: int = 403) -> None:
    if scope["type"] == "websocket":
        await receive()  # the request to connect
        return await send({"type": "websocket.close", "code": 1008, "reason": why})
    body = f"{why}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if scope.get("method") != "HEAD" else b""})
