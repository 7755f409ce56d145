"""Who is at the other end of a session, and what they may see: the one place that the pages ask."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.frame.door import MARK
from linkage_core.errors import LinkageError
from linkage_core.store.entry import Store


def let_in() -> bool:
    """Whether this session may see cohorts of real people: it has shown the token, or somebody is logged in.

    Work outside a session was begun by one that could see what it works on.
    """
    if get_script_run_ctx(suppress_warning=True) is None:
        return True
    return st.context.headers.get(MARK) == "1" or logged_in()


def login_configured() -> bool:
    """Whether Streamlit's own login (OIDC; `[auth]` of secrets.toml) is set up."""
    from streamlit.runtime.secrets import secrets_singleton

    return secrets_singleton.load_if_toml_exists() and bool(secrets_singleton.get("auth"))


def logged_in() -> bool:
    return login_configured() and bool(st.user.get("is_logged_in"))


def name() -> str:
    """Who it is in the access log: the account that is logged in, or else the session with its address."""
    if logged_in():
        return str(st.user.get("email") or st.user.get("sub") or "logged in")
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
