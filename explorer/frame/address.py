"""The address of the page: a button that copies it, and a history without entries that nobody made."""

from __future__ import annotations

from explorer.drawing.component import component

_mount = component(__file__, "address")


def copy_link() -> None:
    """The button; every choice is in the address, so whoever gets it sees what is on screen."""
    _mount(key="address")
