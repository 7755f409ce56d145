"""The one place that knows a colour. Each means one thing everywhere, and a shape or dash goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import streamlit as st

from linkage_core.store.entry import LADDER


@dataclass(frozen=True)
class ModelStyle:
    """How one model is drawn everywhere: `marker` is a plotly symbol, `colour` a hexadecimal colour."""

    colour: str
    marker: str


@dataclass(frozen=True)
class Palette:
    """Colours of one theme. `before`, `after` and `release` never share a chart with the models' colours."""

    dark: bool
    page: str
    text: str
    muted: str
    grid: str
    axis: str
    before: str
    after: str
    noise_only: str
    guessing: str
    release: str
    match_fill: str
    match_border: str
    models: tuple[ModelStyle, ...]
    further: tuple[ModelStyle, ...]

    def styles(self, models: Iterable[str]) -> dict[str, ModelStyle]:
        """The style of each of a cohort's models.

        The phantom's four have their own. Every other model takes, in the order given, one of the further styles and
        then whatever is free, so that no two of the first six look alike.
        """
        models = list(models)
        styles = {m: self.models[LADDER.index(m)] for m in models if m in LADDER}
        free = [s for s in (*self.further, *self.models) if s not in styles.values()]
        for i, model in enumerate(m for m in models if m not in LADDER):
            styles[model] = free[i % len(free)]
        return {m: styles[m] for m in models}


GUESSING_DASH = "10px,7px"

_LADDER_MARKERS = ("circle", "square", "diamond", "triangle-up")
_FURTHER_MARKERS = ("star", "pentagon")


def _styles(colours: Iterable[str], markers: Iterable[str]) -> tuple[ModelStyle, ...]:
    return tuple(ModelStyle(c, m) for c, m in zip(colours, markers, strict=True))


LIGHT = Palette(
    dark=False,
    page="#FFFFFF",
    text="#1F242C",
    muted="#626B78",
    grid="#E4E7EC",
    axis="#868C96",
    before="#1F242C",
    after="#2831AF",
    noise_only="#8489E8",
    guessing="#868C96",
    release="#8A4B08",
    match_fill="rgba(255, 201, 51, 0.2)",
    match_border="#E0A800",
    models=_styles(("#178FDF", "#1A7F4F", "#CE8310", "#710C4D"), _LADDER_MARKERS),
    further=_styles(("#B3372F", "#5D5BA8"), _FURTHER_MARKERS),
)

DARK = Palette(
    dark=True,
    page="#14171C",
    text="#F1F3F6",
    muted="#A3ABB8",
    grid="#2B313A",
    axis="#8A919C",
    before="#F1F3F6",
    after="#8B8CF4",
    noise_only="#B9BAFF",
    guessing="#8A919C",
    release="#E8A14A",
    match_fill="rgba(255, 201, 51, 0.2)",
    match_border="#E0A800",
    models=_styles(("#119BD8", "#75CBA0", "#C97844", "#FAADDE"), _LADDER_MARKERS),
    further=_styles(("#F0736A", "#A9A6F0"), _FURTHER_MARKERS),
)


def current() -> Palette:
    """The palette of the theme the reader's browser shows."""
    return DARK if st.context.theme.type == "dark" else LIGHT
