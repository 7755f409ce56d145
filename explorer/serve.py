"""The app as `linkage app` serves it: the settings of .streamlit/config.toml, wherever it is installed."""

from __future__ import annotations

import os
import socket
import sys
import threading
import tomllib
import webbrowser
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from linkage_core import allowed, shipped
from linkage_core.errors import InputError


def serve(store: Path, port: int, *, browser: bool = False, allow: Sequence[Path] = ()) -> None:
    """Serves the app over a store at http://127.0.0.1:PORT until it is stopped; `browser` opens it there.

    allow: folders that Your data may read. Raises InputError where there is no such folder, or where something else
    listens at that port.
    """
    if not store.is_dir():
        raise InputError(f"There is no store {store}.", "Give the folder of one: linkage app --store DIR")
    options = settings()
    address = options["server.address"]
    refuse_taken(address, port)
    os.environ[allowed.ROOTS] = allowed.handed_over(allow)
    os.environ["LINKAGE_STORE"] = str(store.resolve())
    place = shipped.root()
    # As `streamlit run app.py` in the app's own folder: Streamlit also reads settings of the working directory and of
    # the folder of what was started, and those of a stranger's folder are not the app's.
    os.chdir(place)
    sys.argv = [str(place / "app.py")]

    import streamlit as st

    url = f"http://{address}:{port}"

    @asynccontextmanager
    async def opened(app: st.App) -> AsyncIterator[None]:
        """The port listens already, so a browser that comes early waits."""
        if browser and has_screen():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        yield

    with suppress(KeyboardInterrupt):  # how it is meant to end
        st.App(place / "app.py", lifespan=opened).run(config=options | {"server.port": port})


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
