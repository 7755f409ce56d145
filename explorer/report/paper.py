"""The report in a frame of fixed height: it runs no script, has no origin and cannot reach the page."""

from __future__ import annotations

import hashlib
from pathlib import Path

import streamlit as st

_PARTS = Path(__file__).parent / "components"
_mount = st.components.v2.component(
    "linkage_report",
    html=(_PARTS / "paper.html").read_text(encoding="utf-8"),
    css=(_PARTS / "paper.css").read_text(encoding="utf-8"),
    js=(_PARTS / "paper.js").read_text(encoding="utf-8"),
)


def paper(html: str, *, key: str) -> None:
    """Shows a whole HTML document; what was scrolled to stays until another one comes."""
    _mount(key=key, data={"html": html, "mark": hashlib.sha256(html.encode()).hexdigest()})
