"""The address of the page: a button that copies it, and a history without entries that nobody made."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_PARTS = Path(__file__).parent / "components"
_mount = st.components.v2.component(
    "linkage_address",
    html=(_PARTS / "address.html").read_text(encoding="utf-8"),
    css=(_PARTS / "address.css").read_text(encoding="utf-8"),
    js=(_PARTS / "address.js").read_text(encoding="utf-8"),
)


def copy_link() -> None:
    """The button; every choice is in the address, so whoever gets it sees what is on screen."""
    _mount(key="address")
