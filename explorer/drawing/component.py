"""A component of our own: HTML, style and script beside the module that draws it, with no build step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st


def component(module: str, name: str) -> Callable[..., Any]:
    """What mounts `components/NAME.html`, `.css` and `.js` beside a module, which is given by its `__file__`."""
    parts = Path(module).parent / "components"
    html, css, js = ((parts / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return st.components.v2.component(f"linkage_{name}", html=html, css=css, js=js)
