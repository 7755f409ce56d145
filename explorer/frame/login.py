"""The login by OpenID Connect that Streamlit has: what its settings must say, and which accounts may enter.

The login server says who somebody is; whom this server lets in is said here. A hospital's login server knows everybody
of the hospital, so a list of accounts can be given (`linkage app --allow-account`).
"""

from __future__ import annotations

import json
import os
import stat
import time
import tomllib
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from linkage_core import allowed
from linkage_core.errors import InputError

ACCOUNTS, REQUIRED = "LINKAGE_ALLOW_ACCOUNTS", "LINKAGE_LOGIN_REQUIRED"
"""Names in the environment: accounts with commas between, see `checked`; "1" where this start found a login set up,
which holds until its end, whatever becomes of the file."""
HOURS = 12.0
"""After so many a login has to be made again; Streamlit's cookie would last 30 days."""
SHORTEST_SECRET = 32
NEEDED = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
CALLBACK, REFUSED = "oauth2callback", "login=refused"
"""Where the login server sends browsers back to, and what the address says after a login that did not succeed."""


def required() -> bool:
    """Whether nobody sees anything without a login."""
    return os.environ.get(REQUIRED) == "1"


def settings() -> Mapping[str, Any]:
    """The section `auth` of secrets.toml; empty where no login is set up."""
    from streamlit.runtime.secrets import secrets_singleton

    if not secrets_singleton.load_if_toml_exists():
        return {}
    found = secrets_singleton.get("auth")
    return found if isinstance(found, Mapping) else {}


def begin(files: Sequence[Path], address: str) -> None:
    """Settles for this start whether a login is required and who may enter; files and address as of `check`. InputError
    as it and `checked` raise it, for a file that cannot be read, and for accounts where nobody has to log in."""
    refuse_broken(files)
    auth = settings()
    os.environ[REQUIRED] = "1" if auth else ""
    os.environ[ACCOUNTS] = checked(accounts())
    if auth:
        check(auth, files, address)
    elif accounts():
        raise InputError("Accounts are allowed, and nobody has to log in.", "Configure a login: docs/deploy.md.")


def refuse_broken(files: Sequence[Path]) -> None:
    """InputError for a secrets.toml that cannot be read: Streamlit goes on without it, and so without its login."""
    for file in files:
        try:
            tomllib.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is no TOML"
            raise InputError(
                f"{file} cannot be read: {why}.", "Mend it or remove it; a login may stand in it."
            ) from None


def check(auth: Mapping[str, Any], files: Sequence[Path], address: str) -> None:
    """InputError for a login that would not work, or would not be safe.

    auth: `settings()`; files: the secrets.toml that they may be from; address: where browsers see this server, with its
    base path.
    """
    try:
        import_module("authlib.integrations.starlette_client")
    except ImportError as error:
        raise InputError(
            f"A login is configured, and {error.name or 'Authlib'} is not installed.",
            "pip install 'linkage-explorer[login]'",
        ) from error
    there = [file for file in files if file.is_file()]
    for file in there:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise InputError(f"{file} can be read by other accounts.", f"It holds a login: chmod 600 {file}")
    section = f"[auth] of {' and '.join(map(str, there)) or 'secrets.toml'}"
    if lacking := [name for name in NEEDED if not str(auth.get(name, "")).strip()]:
        raise InputError(f"{section} lacks {', '.join(lacking)}.", "docs/deploy.md has an example.")
    if len(str(auth["cookie_secret"])) < SHORTEST_SECRET:
        raise InputError(
            f"cookie_secret in {section} is shorter than {SHORTEST_SECRET} letters: who guesses it may be anybody.",
            "Draw one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    wanted = f"{address.rstrip('/')}/{CALLBACK}"
    if auth["redirect_uri"] != wanted:
        raise InputError(
            f"redirect_uri in {section} is {auth['redirect_uri']}, and browsers see this server at {address}.",
            f'Write, there and at the login server: redirect_uri = "{wanted}"',
        )
    parts = urlsplit(str(auth["server_metadata_url"]))
    if parts.scheme != "https" and not (parts.scheme == "http" and allowed.loopback(parts.hostname)):
        raise InputError(
            f"server_metadata_url in {section} is {auth['server_metadata_url']}, which is no address by TLS.",
            "Give one that begins with https://.",
        )


def checked(accounts: Sequence[str]) -> str:
    """Accounts as they stand in the environment: name@host, @host for all of a host, or sub:ID, which the login server
    gives. InputError for what is none of these.

    >>> checked(["Ann@Clinic.example", "@ward.example", "sub:42"])
    'ann@clinic.example,@ward.example,sub:42'
    """
    made = []
    for one in (account.strip() for account in accounts):
        _, at, host = one.partition("@")
        plain = one.startswith("sub:") and len(one) > 4
        an_address = at and "." in host and "@" not in host
        if not (plain or an_address) or "," in one or " " in one:
            raise InputError(
                f"{one!r} is no account.", "Give name@host, @host for everybody of a host, or sub:ID: --allow-account"
            )
        made.append(one if plain else _compared(one))
    return ",".join(made)


def accounts() -> tuple[str, ...]:
    """The accounts that may enter; none where everybody may whom the login server knows."""
    return tuple(filter(None, os.environ.get(ACCOUNTS, "").split(",")))


def name_of(claims: Mapping[str, Any]) -> str:
    """Who it is in logs and on pages: an address only where the login server has verified it, else its own name."""
    if claims.get("email_verified") is True and claims.get("email"):
        return str(claims["email"])
    return f"sub:{claims.get('sub') or '?'}"


def why_not(claims: Mapping[str, Any], listed: Sequence[str], now: float | None = None) -> str:
    """Why an account that has logged in may not enter; "" where it may.

    >>> someone = {"sub": "7", "email": "Ann@clinic.example", "email_verified": True, "iat": 1000}
    >>> why_not(someone, ["ann@clinic.example"], 2000), why_not(someone, [], 2000), why_not(someone, ["sub:7"], 2000)
    ('', '', '')
    >>> why_not(someone | {"email_verified": False}, ["@clinic.example"], 2000)
    'This server lets in a list of accounts, and sub:7 is not on it.'
    """
    try:
        age = (time.time() if now is None else now) - float(claims.get("iat", 0.0))
    except (TypeError, ValueError):
        age = float("inf")
    if not -300 <= age <= 3600 * HOURS:
        return f"The login is older than {HOURS:.0f} hours. Log in again."
    name = name_of(claims)
    known = {f"sub:{claims['sub']}"} if claims.get("sub") else set()
    if not name.startswith("sub:") and name.count("@") == 1:
        known |= {_compared(name), _compared(name[name.index("@") :])}
    if listed and not known & set(listed):
        return f"This server lets in a list of accounts, and {name} is not on it."
    return ""


def shown_in(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request has the cookie of somebody who has logged in here and may enter."""
    from starlette.requests import HTTPConnection
    from streamlit.auth_util import get_origin_from_redirect_uri
    from streamlit.web.server.starlette.starlette_auth_routes import _AUTH_COOKIE_NAMES, _get_cookie_value_from_request

    with suppress(ValueError):
        value = _get_cookie_value_from_request(HTTPConnection(scope), _AUTH_COOKIE_NAMES[0])  # type: ignore[arg-type]
        claims = json.loads(value) if value else None
        if isinstance(claims, dict) and claims.get("is_logged_in") is True:
            here = get_origin_from_redirect_uri()
            return bool(here) and claims.get("origin") == here and not why_not(claims, accounts())
    return False


def _compared(address: str) -> str:
    """An address as it is compared: of large and small letters those of ASCII alone are one."""
    return address.lower() if address.isascii() else address
