"""The reports of one question as large cards: a click or the key with its number chooses one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import streamlit as st

from explorer.drawing.component import component

_mount = component(__file__, "cards")


@dataclass(frozen=True)
class Option:
    """One report. tags, model and right stay empty until the choice is made: they tell which one it is."""

    text: str
    tags: tuple[str, ...] = ()
    model: str = ""
    right: bool = False


def cards(
    options: Sequence[Option], question: int, chosen: int | None, *, key: str, on_choice: Callable[[int, int], None]
) -> None:
    """Draws the options of a question; `on_choice` gets (question, place), before the page runs again.

    With a choice made (`chosen`) no other can be.
    """

    def picked() -> None:
        choice = st.session_state[key].choice
        if choice is not None:
            on_choice(int(choice[0]), int(choice[1]))

    data = {
        "question": question,
        "options": [asdict(option) for option in options],
        "chosen": -1 if chosen is None else chosen,
        "open": chosen is None,
    }
    _mount(key=key, data=data, on_choice_change=picked)
