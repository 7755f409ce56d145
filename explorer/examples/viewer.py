"""The radiograph on a page: sent once, then window, zoom and invert are drawn in the browser at full depth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from explorer.drawing.component import component
from linkage_core.images.pixels import Radiograph, downsample

_mount = component(__file__, "viewer")

SIDE = 768  # pixels sent at first: two for each of the about 390 a screen of 1280 gives the picture
DETAIL_SIDE = 2560  # sent when somebody zooms in and the source has more


def viewer(payload: bytes, *, key: str, on_view: Callable[[str, str], None] | None = None) -> None:
    """Draws a payload of `pack` or `pack_failure` in a square box.

    Window and zoom survive a rerun with the same `image`, whatever else changed. A little after the reader has changed
    them, `on_view` gets the image and how it is looked at, in letters that may stand in an address, "" for as it comes.
    An address that names this image and such a view is where the picture starts.
    """

    def viewed() -> None:
        said = st.session_state[key].get("viewed")
        if on_view is not None and isinstance(said, dict):
            on_view(str(said.get("image", "")), str(said.get("view", "")))

    _mount(key=key, data=payload, on_detail_change=lambda: None, on_viewed_change=viewed)


def wanted(key: str) -> str | None:
    """The image for which the browser wants more pixels, because somebody zoomed in and the header offers detail."""
    held = st.session_state.get(key)
    return None if held is None else held.get("detail")


def pack(
    radiograph: Radiograph, *, image: str, caption: str, alt: str, side: int = SIDE, address: str | None = None
) -> bytes:
    """One image as the browser wants it: length of the header (4 bytes), header (JSON), pixels (little endian).

    8 bits a pixel where the source has no more, else 16. An image with a longer side than `side` is averaged down,
    and the header says that there is detail to ask for. `address` names the image in an address; its name where None.
    """
    pixels = downsample(radiograph, side).pixels
    eight = radiograph.bits <= 8
    raw = (pixels >> 8).astype(np.uint8) if eight else pixels.astype("<u2")
    header = {
        "image": image,
        "address": image if address is None else address,
        "caption": caption,
        "alt": alt,
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "bits": 8 if eight else 16,
        "detail": side < DETAIL_SIDE and pixels.shape != radiograph.pixels.shape,
    }
    return _packed(header, raw.tobytes())


def pack_failure(what: str, remedy: str, *, image: str = "", caption: str = "") -> bytes:
    """In place of an image that cannot be shown: what is wrong and what to do, in a box of the same size."""
    return _packed({"image": image, "caption": caption, "alt": "", "failed": [what, remedy]}, b"")


def renamed(payload: bytes, image: str) -> bytes:
    """A payload under another name of its image, in addresses too."""
    end = 4 + int.from_bytes(payload[:4], "little")
    return _packed({**json.loads(payload[4:end]), "image": image, "address": image}, payload[end:])


def _packed(header: dict[str, Any], pixels: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "little") + text + pixels
