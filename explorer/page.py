"""What every page begins and ends with: the data guard, the card for what is wrong, and the line of limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from explorer import state
from linkage_core.errors import LinkageError


def guard() -> None:
    """First line of every page: stops it with a card when there is no cohort to show."""
    if not state.store().cohorts():
        problem_card(
            "Nothing is loaded",
            f"The store {state.store_root()} holds no embeddings.",
            "Build the synthetic cohort, or embed your own images and reports.",
            "linkage phantom build",
        )
        st.stop()


@contextmanager
def guarded() -> Iterator[None]:
    """Runs one part of a page; a missing or altered file becomes a card in its place and the rest of the page goes on."""
    try:
        yield
    except LinkageError as error:
        problem_card("This cannot be shown", error.what, error.remedy)


def problem_card(title: str, what: str, remedy: str, command: str | None = None) -> None:
    """A bordered card: what is wrong, why, and what to do. The texts are shown as they are, never as markup."""
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.text(what)
        if remedy:
            st.text(remedy)
        if command:
            st.code(command, language=None)


def cannot_tell(text: str) -> None:
    """The grey last line of a page: what its picture does not answer."""
    st.caption(f"Cannot tell: {text}")
