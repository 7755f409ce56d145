"""A login server (OpenID Connect, authorization code with PKCE) of this machine alone, which can be made to lie."""

from __future__ import annotations

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "linkage", secrets.token_hex(8)


@dataclass
class Provider:
    """`claims`: who logs in. `lies`: claims of the id token that are changed; `other_key`: it is signed by a stranger.
    `seen`: what came to it, by path."""

    port: int
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "7", "email": "ann@clinic.example"})
    lies: dict[str, Any] = field(default_factory=dict)
    other_key: bool = False
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.claims.setdefault("email_verified", True)
        self._key, self._stranger = (RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256"}) for _ in range(2))
        self._codes: dict[str, dict[str, str]] = {}

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> Starlette:
        routes = {
            "/.well-known/openid-configuration": self.discovery,
            "/authorize": self.authorize,
            "/enter": self.enter,
            "/token": self.token,
            "/keys": self.keys,
            "/leave": self.leave,
        }
        return Starlette(routes=[Route(path, each, methods=["GET", "POST"]) for path, each in routes.items()])

    async def discovery(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "end_session_endpoint": f"{self.issuer}/leave",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                "scopes_supported": ["openid", "email", "profile"],
            }
        )

    async def authorize(self, request: Request) -> Response:
        """Whoever knows the client sees a form with one button."""
        asked = dict(request.query_params)
        self.seen.append("authorize")
        if asked.get("client_id") != CLIENT or asked.get("response_type") != "code" or "S256" not in asked.values():
            return Response("what is asked is wrong", 400)
        return HTMLResponse(f'<h1>Login server</h1><a href="/enter?{urlencode(asked)}">Enter</a>')

    async def enter(self, request: Request) -> Response:
        asked = dict(request.query_params)
        code = secrets.token_hex(8)
        self._codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def token(self, request: Request) -> Response:
        """A code counts once, for the client who asked and knows what it promised (RFC 7636)."""
        form = await request.form()
        asked = self._codes.pop(str(form.get("code")), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        known = request.headers.get("authorization") == f"Basic {basic}" or form.get("client_secret") == SECRET
        digest = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
        promised = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if not (asked and known and promised == asked["code_challenge"]):
            return JSONResponse({"error": "invalid_grant"}, 400)
        if form.get("redirect_uri") != asked["redirect_uri"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        self.seen.append("token")
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        key = self._stranger if self.other_key else self._key
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims | self.claims | self.lies, key)
        return JSONResponse({"access_token": "nothing", "token_type": "Bearer", "expires_in": 300, "id_token": signed})

    async def keys(self, _: Request) -> Response:
        return JSONResponse(KeySet([self._key]).as_dict(private=False))

    async def leave(self, request: Request) -> Response:
        self.seen.append("leave")
        back = request.query_params.get("post_logout_redirect_uri", "")
        return HTMLResponse(f'<h1>Login server</h1><a href="{back}">Back</a>')


@contextmanager
def provider(port: int) -> Iterator[Provider]:
    """One that runs until the end of the block."""
    made = Provider(port)
    server = uvicorn.Server(uvicorn.Config(made.app(), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield made
    server.should_exit = True
    thread.join(10)
