"""The report in a frame of fixed height: it runs no script, has no origin and cannot reach the page."""

from __future__ import annotations

import hashlib

from explorer.drawing.component import component

_mount = component(__file__, "paper")


def paper(html: str, *, key: str) -> None:
    """Shows a whole HTML document; what was scrolled to stays until another one comes."""
    _mount(key=key, data={"html": html, "mark": hashlib.sha256(html.encode()).hexdigest()})
