"""The app as `linkage app` and `streamlit run app.py` serve it: behind the door, with the settings of
.streamlit/config.toml wherever it is installed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import os
import re
import secrets
import socket
import sys
import tempfile
import threading
import tomllib
import webbrowser
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.frame import login
from explorer.frame.door import SHORTEST, TOKEN, Door, Keys, origin_of
from linkage_core import allowed, shipped
from linkage_core.errors import InputError, LinkageError

GIVEN_TOKEN, PUBLIC, NO_LOGIN, ACCESS_LOG = (
    "LINKAGE_TOKEN",
    "LINKAGE_PUBLIC_ADDRESS",
    "LINKAGE_WITHOUT_LOGIN",
    "LINKAGE_ACCESS_LOG",
)
"""Names in the environment: a token instead of one that is drawn; the address (https://name) at which a proxy serves
this one; "1" where others may reach it without a login; the access log."""


@dataclass(frozen=True)
class Reach:
    """Who may reach a server: where it listens, and the options of `linkage app` on it."""

    address: str | None = None
    public: str = ""
    without_login: bool = False
    access_log: Path | None = None
    base_path: str = ""
    accounts: Sequence[str] = ()


@dataclass(frozen=True)
class Sources:
    """Where Your data may take cohorts from: folders, and addresses of DICOMweb servers."""

    folders: Sequence[Path] = ()
    archives: Sequence[str] = ()


def serve(
    store: Path, port: int, *, browser: bool = False, sources: Sources | None = None, reach: Reach | None = None
) -> None:
    """Serves the app over a store at http://127.0.0.1:PORT until it is stopped; `browser` opens it there.

    Raises InputError where there is no such folder or an address of an archive is none, where something else listens at
    that port, and where others would reach it without a login and nobody has said so.
    """
    reach = reach or Reach()
    if not store.is_dir():
        raise InputError(f"There is no store {store}.", "Give the folder of one: linkage app --store DIR")
    options = (
        settings()
        | {"server.baseUrlPath": checked_base(reach.base_path), "server.port": port}
        | ({"server.address": reach.address} if reach.address else {})
    )
    refuse_taken(options["server.address"], port)
    sources = sources or Sources()
    os.environ[allowed.ROOTS] = allowed.handed_over(sources.folders)
    if sources.archives:
        from linkage_core.cohorts.dicomweb.server import checked_url

        os.environ[allowed.ARCHIVES] = json.dumps([checked_url(one) for one in sources.archives])
    os.environ["LINKAGE_STORE"] = str(store.resolve())
    for name, value in (
        (PUBLIC, reach.public),
        (NO_LOGIN, "1" if reach.without_login else ""),
        (ACCESS_LOG, str(reach.access_log.absolute()) if reach.access_log else ""),
        (login.ACCOUNTS, ",".join(reach.accounts)),
    ):
        if value:
            os.environ[name] = value
    place = shipped.root()
    # As `streamlit run app.py` in the app's own folder: Streamlit also reads settings of the working directory and of
    # the folder of what was started, and those of a stranger's folder are not the app's.
    os.chdir(place)
    sys.argv = [str(place / "app.py")]

    import streamlit as st
    from streamlit import config
    from streamlit.web import bootstrap

    config._main_script_path = sys.argv[0]
    bootstrap.load_config_options(options)
    door = _door(browser=browser)
    with suppress(KeyboardInterrupt):  # how it is meant to end
        st.App(place / "app.py", **door).run(config=options)


def behind_the_door() -> dict[str, Any]:
    """What `streamlit run app.py` gives st.App beside the script. Ends the program where it may not be served so."""
    try:
        return _door()
    except LinkageError as error:
        sys.stderr.write(f"{error.what} {error.remedy}\n")
        raise SystemExit(2) from error


def _door(*, browser: bool = False) -> dict[str, Any]:
    """The middleware and what happens at the start, by the settings that Streamlit has read."""
    from explorer.frame import ready

    heavy = ready.in_the_background(ready.HEAVY)
    from starlette.middleware import Middleware
    from streamlit import config, net_util
    from streamlit.runtime.pages_manager import PagesManager

    net_util.get_external_ip = lambda: None  # Streamlit asks a server of Amazon for it
    # the menu is declared (frame.py): else the first reader sees one guessed from the names of files
    PagesManager.uses_pages_directory = False
    public = [origin_of(one) for one in os.environ.get(PUBLIC, "").split(",") if one.strip()]
    address = config.get_option("server.address")
    alone = allowed.loopback(address) and not public
    if not alone:
        refuse_open(address, public, has_login(), os.environ.get(NO_LOGIN) == "1")
        config.set_option("server.allowedHosts", ["*"])  # by name alone; the door knows names, ports and origins
    keys = Keys(token())
    secure = bool(config.get_option("server.sslCertFile"))
    host = "localhost" if address in ("0.0.0.0", "::", "", None) else address
    host = f"[{host}]" if ":" in host else host
    here = f"http{'s' if secure else ''}://{host}:{config.get_option('server.port')}"
    base = config.get_option("server.baseUrlPath").strip("/")
    url = f"{public[0] if public else here}/{base}{'/' if base else ''}"
    login.begin([Path(one) for one in config.get_option("secrets.files")], url)
    style = Path(__file__).with_name("assets").joinpath("skeleton.css").read_text(encoding="utf-8")
    door = Middleware(
        Door,
        keys=keys,
        public=public,
        secure=secure,
        scripts=inline_scripts(),
        required=login.required(),
        ahead=drawn_with(),
        style=style,
    )

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[None]:
        """The port listens already, so a browser that comes early waits."""
        from explorer.frame import holding

        holding.give_back()
        to_open = url if login.required() else f"{url}?{TOKEN}={keys.token}"
        sys.stdout.write(said_of_login(url) if login.required() else said(to_open))
        sys.stdout.flush()
        getting_ready = asyncio.create_task(ready.make_ready(heavy))
        with entrance(to_open) if browser and has_screen() else nullcontext():
            yield
        getting_ready.cancel()

    return {"middleware": [door], "lifespan": opened}


def checked_base(path: str) -> str:
    """A base path without the / at its ends; InputError for one that is none.

    >>> checked_base("/tools/linkage/")
    'tools/linkage'
    """
    plain = path.strip("/")
    if plain and not re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", plain):
        raise InputError(f"--base-path is {path!r}.", "Give letters, digits, - and _, such as /linkage.")
    return plain


def said(url: str) -> str:
    """What is printed at the start."""
    return (
        f"\n  Linkage Explorer: {url}\n\n"
        f"  Keep this address to yourself: it opens every cohort of the store. {url.partition('?')[0]} opens synthetic "
        "cohorts alone.\n"
    )


def said_of_login(url: str) -> str:
    """What is printed at the start where people log in."""
    who = ", ".join(login.accounts()) or "everybody whom the login server knows"
    return f"\n  Linkage Explorer: {url}\n\n  Every cohort of the store opens for who logs in: {who}.\n"


def token() -> str:
    """Drawn at this start, or as LINKAGE_TOKEN says. InputError for one that can be guessed."""
    given = os.environ.get(GIVEN_TOKEN, "")
    if given and (len(given) < SHORTEST or not re.fullmatch(r"[A-Za-z0-9_-]+", given)):
        raise InputError(
            f"{GIVEN_TOKEN} is shorter than {SHORTEST} letters, or has others than letters, digits, - and _.",
            "Give a longer one, or none: one is drawn then.",
        )
    return given or secrets.token_urlsafe(32)


def has_login() -> bool:
    """Whether Streamlit's own login (OIDC) is configured."""
    return bool(login.settings())


def refuse_open(address: str | None, public: Sequence[str], login: bool, without: bool) -> None:
    """InputError where others than this machine's accounts can reach the server, nobody has to log in, and whoever
    starts it has not said that this is meant."""
    if not login and not without:
        raise InputError(
            f"Others could reach this server ({', '.join(public) or address or 'every address of this machine'}), and "
            "nobody has to log in.",
            "Configure a login ([auth] in .streamlit/secrets.toml), listen at 127.0.0.1, or say that it is meant: "
            f"linkage app --without-login, or {NO_LOGIN}=1.",
        )


def inline_scripts() -> list[str]:
    """Of Streamlit's own page: the hash of each script that stands in it, for the content policy."""
    from streamlit import file_util

    page = Path(file_util.get_static_dir(), "index.html").read_text(encoding="utf-8")
    found = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    return [f"sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}" for one in found]


DRAWN_WITH = ("PlotlyChart", "Html", "BidiComponent", "ButtonGroup", "Selectbox", "Slider")
"""Of Streamlit's page: the parts that most of our pages are drawn with, which it fetches when one is first drawn."""


def drawn_with() -> list[str]:
    """The files of DRAWN_WITH and of all that they import, below the address of a page, which names some of it itself;
    none where Streamlit does not say which they are."""
    from streamlit import file_util

    there, found, known = Path(file_util.get_static_dir()), list[str](), set[str]()
    try:
        page = (there / "index.html").read_text(encoding="utf-8")
        said = json.loads((there / "manifest.json").read_text(encoding="utf-8"))
        waiting = [key for key, part in said.items() if part.get("name") in DRAWN_WITH and part.get("src")]
        while waiting:
            key = waiting.pop(0)
            if key not in known:
                known.add(key)
                found.append(said[key]["file"])
                waiting += said[key].get("imports", ())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [file for file in found if file not in page and re.fullmatch(r"[\w./-]+\.js", file)]


@contextmanager
def entrance(url: str) -> Iterator[None]:
    """Opens the browser at an address that the list of processes does not show to other accounts: through a file of
    this account alone that leads there."""
    with tempfile.TemporaryDirectory(prefix="linkage-") as folder:
        file = Path(folder, "open.html")
        led = f'<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={html.escape(url)}">'
        file.write_text(f"<!doctype html>{led}<title>Linkage Explorer</title>\n", encoding="utf-8")
        threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()
        yield


def settings() -> dict[str, Any]:
    """`.streamlit/config.toml`, the one place of the settings, by dotted name ("server.address")."""
    return dotted(tomllib.loads((shipped.root() / ".streamlit" / "config.toml").read_text(encoding="utf-8")))


def dotted(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested tables by dotted name.

    >>> dotted({"server": {"port": 1}, "theme": {"light": {"primaryColor": "#fff"}}})
    {'server.port': 1, 'theme.light.primaryColor': '#fff'}
    """
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= dotted(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def refuse_taken(address: str, port: int) -> None:
    """InputError where nobody can listen at this port."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server: one that has just ended is no hindrance
        try:
            probe.bind((address, port))
        except PermissionError as error:
            raise InputError(
                f"Port {port} is not for ordinary users.", "Give one above 1023: linkage app --port 8501"
            ) from error
        except OSError as error:
            raise InputError(
                f"Port {port} is taken, perhaps by an app that is still running.",
                f"Open http://{address}:{port}, or give another port: linkage app --port {port + 1}",
            ) from error


def has_screen() -> bool:
    """Whether a browser has somewhere to appear: on a server without one, a text browser would take the terminal."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
