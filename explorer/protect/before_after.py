"""The places of Mitigation that a head and a release share: two cards, two pictures with a note, the attackers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

from explorer.drawing import charts, downloads
from explorer.drawing.palette import LIGHT, Palette
from explorer.frame import page
from explorer.protect import bars

N_BARS = 7
"""Room for so many attackers, however many there are."""


@dataclass(frozen=True)
class Picture:
    """How it is drawn in given colours, what it says to those who cannot see it, its title as a file.

    `draw` is called again outside the run of the page, for the file: it may not read the state.
    """

    draw: Callable[[Palette], go.Figure]
    words: str
    title: str


@dataclass(frozen=True)
class Pictures:
    """What stands under the two cards. Legends and note are HTML; `no_attackers` stands where no bar can be drawn."""

    curve: Picture
    curve_legend: str
    use: Picture
    use_legend: str
    note: str
    attackers: Picture
    no_attackers: str = ""


def cards(first: Callable[[], object], second: Callable[[], object]) -> None:
    """What holds for every attacker, and what was measured: side by side, never one number."""
    left, right = st.columns([0.48, 0.52], gap="small")
    with left, st.container(border=True, key="mi-guarantee", height="stretch"), page.guarded():
        first()
    with right, st.container(border=True, key="mi-linkage", gap=None, height="stretch"), page.guarded():
        second()


def draw(pictures: Pictures, colours: Palette, over_the_curve: Callable[[], object] | None = None) -> None:
    """Linkage against pool size beside usefulness, and the attackers under them. over_the_curve: what stands in the
    line of its title."""
    left, right = st.columns([0.61, 0.39], gap="medium")
    with left:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="mi-title"):
            st.header("Linkage against pool size", width="stretch")
            if over_the_curve is not None:
                over_the_curve()
        st.html(pictures.curve_legend)
        _show(pictures.curve, "mitigation curve", colours)
    with right:
        with st.container(horizontal=True, vertical_alignment="center", key="mi-title-use"):
            st.header("Usefulness", width="stretch")
        st.html(pictures.use_legend)
        _show(pictures.use, "mitigation use", colours)
        with st.container(border=True, key="mi-damage"):
            st.html(pictures.note)
    st.header("Does it survive an attacker who adapts?")
    if pictures.no_attackers:
        height = bars.attackers_height(N_BARS)
        st.html(f'<div class="mi-blank" style="height:{height}px">{pictures.no_attackers}</div>')
    else:
        _show(pictures.attackers, "mitigation attackers", colours)


def _show(picture: Picture, key: str, colours: Palette) -> None:
    st.plotly_chart(picture.draw(colours), theme=None, config=charts.CONFIG, key=key, alt=picture.words)


def details(label: str, key: str, inside: Callable[[], None]) -> None:
    """An expander whose inside is made only when it is open."""
    expander = st.expander(label, icon=":material/table:", key=key, on_change="rerun")
    if expander.open:
        with expander:
            inside()


def files(pictures: Pictures, name: str, about: str) -> list[tuple[str, str, Callable[[], bytes]]]:
    """The pictures as page.save takes files, with `about` under their titles."""
    named = {"Linkage": pictures.curve, "Usefulness": pictures.use, "Attackers": pictures.attackers}
    return [(f"{kind} (SVG)", f"{name}-{kind.lower()}.svg", _svg(picture, about)) for kind, picture in named.items()]


def _svg(picture: Picture, about: str) -> Callable[[], bytes]:
    return lambda: downloads.svg(picture.draw(LIGHT), title=picture.title, subtitle=about)
