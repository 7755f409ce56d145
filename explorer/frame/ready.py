"""A server makes itself ready while nobody waits: what the pages import is imported as it starts, and then a session
that nobody looks at opens each page of the menu once, over synthetic cohorts alone. What pages keep (kept.py) is then
there when the first reader comes. A reader who is there already goes first: nothing is drawn ahead meanwhile.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import importlib
import inspect
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

AHEAD = "LINKAGE_DRAW_AHEAD"
"""Its name in the environment; "0": no page is drawn before somebody asks for it."""
HEAVY = ("pandas", "pyarrow", "plotly.graph_objs._figure", "plotly.io", "linkage_core.lab.measured")
"""What pages import that takes longest and needs no server: imported while it still starts."""
LATER = ("scipy.stats", "scipy.optimize", "sklearn.linear_model")
"""What takes long too and is imported by what is computed, not by what is read."""
REST = 1.5
"""Seconds for which nobody has to have been waiting."""

_readers: dict[int, float] = {}
_last = [0.0]
_ours: set[str] = set()


# -- who is waiting --------------------------------------------------------------------------------------------------


@contextmanager
def drawing() -> Iterator[None]:
    """Around the drawing of a page: a reader waits for it, unless it is drawn ahead."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx(suppress_warning=True)
    if context is None or context.session_id in _ours:
        yield
        return
    me = threading.get_ident()
    _readers[me] = time.monotonic()
    try:
        yield
    finally:
        _readers.pop(me, None)
        _last[0] = time.monotonic()


def somebody_waits() -> bool:
    return bool(_readers) or time.monotonic() < _last[0] + REST


# -- imports ---------------------------------------------------------------------------------------------------------


def imported_by(script: Path) -> list[str]:
    """The modules that a script imports at its top, as `import` names them; a name that may be a module of a package
    stands there as one."""
    names: list[str] = []
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
    return names


def import_all(names: Iterable[str]) -> None:
    """Imports what can be; what cannot be is said by the page that needs it."""
    for name in dict.fromkeys(names):
        with suppress(Exception):
            importlib.import_module(name)


def in_the_background(names: Sequence[str], after: threading.Thread | None = None) -> threading.Thread:
    """A thread that imports; `after` another one."""

    def work() -> None:
        if after is not None:
            after.join()
        import_all(names)
        with suppress(Exception):
            inspect.stack()  # Streamlit asks for it at the first element: the files of all modules are looked up once

    thread = threading.Thread(target=work, name="imports", daemon=True)
    thread.start()
    return thread


def set_aside() -> None:
    """Takes what is there out of what is searched for garbage: Streamlit searches everything after each change, which
    took a tenth of a second over what the imports have left, and every session waited for it."""
    gc.collect()
    gc.freeze()


# -- pages -----------------------------------------------------------------------------------------------------------


class Nobody:
    """A browser that looks at nothing: it only notes when a page is done. As streamlit's SessionClient."""

    headers: tuple[tuple[str, str], ...] = ()
    cookies: Mapping[str, str] = {}
    remote_ip = None

    def __init__(self) -> None:
        self.over = asyncio.Event()

    @property
    def client_context(self) -> Nobody:
        return self

    def write_forward_msg(self, msg: Any) -> None:
        if msg.WhichOneof("type") == "script_finished" and msg.script_finished != msg.FINISHED_EARLY_FOR_RERUN:
            self.over.set()


async def draw_ahead(runtime: Any, pages: Iterable[str], every: float = 0.1) -> list[str]:
    """Opens each page in a session of its own that nobody looks at, one at a time, while nobody waits; returns the
    pages in the order in which they were done. A page during which somebody comes is stopped and drawn later.

    runtime: streamlit's; to be called in its event loop. `every`: seconds between two looks at who is there.
    """
    from streamlit.proto.BackMsg_pb2 import BackMsg

    nobody, left, done = Nobody(), list(pages), list[str]()
    session = runtime.connect_session(client=nobody, user_info={})
    _ours.add(session)
    try:
        while left:
            while somebody_waits():
                await asyncio.sleep(every)
            nobody.over.clear()
            ask = BackMsg()
            ask.rerun_script.page_name = left[0]
            runtime.handle_backmsg(session, ask)
            stopped = False
            while not nobody.over.is_set():
                if somebody_waits() and not stopped:
                    stopped = True
                    runtime.handle_backmsg(session, BackMsg(stop_script=True))
                await asyncio.sleep(every)
            if not stopped:
                done.append(left.pop(0))
    finally:
        runtime.close_session(session)
        _ours.discard(session)
    return done


def wanted() -> bool:
    """Whether pages are to be drawn ahead: not where it is switched off, and not where a log says who saw what."""
    from explorer.frame import access, login

    return os.environ.get(AHEAD) != "0" and not os.environ.get(access.FILE) and not login.required()


async def make_ready(after: threading.Thread) -> None:
    """What is done once the server listens; in its event loop."""
    from streamlit import runtime

    from linkage_core import shipped

    scripts = sorted((shipped.root() / "pages").glob("*.py"))
    names = ["explorer.frame.frame", *(name for script in scripts for name in imported_by(script)), *LATER]
    thread = in_the_background(names, after)
    while thread.is_alive():
        await asyncio.sleep(0.1)
    set_aside()
    if wanted():
        from explorer.frame.frame import PAGES

        with suppress(Exception):  # whoever opens a page then waits for it, and is told what is wrong
            await draw_ahead(runtime.get_instance(), [file for rows in PAGES.values() for file, *_ in rows])
            set_aside()
