"""Who is at the other end of a session, and what they may see: the one place that the pages ask."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.frame import login
from explorer.frame.door import MARK
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Store


def let_in() -> bool:
    """Whether this session may see cohorts of real people: it has shown the token or, where a login is required,
    somebody is logged in who may enter.

    Work outside a session was begun by one that could see what it works on.
    """
    if get_script_run_ctx(suppress_warning=True) is None:
        return True
    return logged_in() if login.required() else st.context.headers.get(MARK) == "1"


def turned_away() -> str:
    """Why whoever has logged in may not enter; "" for who may, and for who has not logged in."""
    if not login.required() or not st.user.get("is_logged_in"):
        return ""
    return login.why_not(st.user.to_dict(), login.accounts())


def logged_in() -> bool:
    """Whether somebody has logged in who may enter."""
    return login.required() and bool(st.user.get("is_logged_in")) and not turned_away()


def name() -> str:
    """Who it is in the access log: the account that is logged in, or else the session with its address."""
    if logged_in():
        return login.name_of(st.user.to_dict())
    context = get_script_run_ctx(suppress_warning=True)
    session = context.session_id if context else "none"
    return f"session {session[:8]} at {st.context.ip_address or 'this machine'}"


def still_there() -> Callable[[], bool]:
    """Something to ask later, from anywhere, whether this session still has a browser."""
    context = get_script_run_ctx(suppress_warning=True)
    if context is None or not runtime.exists():
        return lambda: True
    server, session = runtime.get_instance(), context.session_id
    return lambda: bool(server.is_active_session(session))


def synthetic(store: Store, cohort: str) -> bool:
    """Whether everything under a name is known to hold nobody real; what cannot be read counts as real."""
    try:
        models = store.models(cohort)
        return bool(models) and all(store.open(cohort, model).synthetic for model in models)
    except (LinkageError, OSError):
        return False
