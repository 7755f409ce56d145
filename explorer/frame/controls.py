"""Controls that several pages share; each keeps its value in the address."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from explorer.drawing.glossary import linked
from explorer.drawing.verbatim import verbatim
from explorer.frame.kept import study
from explorer.frame.state import (
    LARGEST_EPSILON,
    LARGEST_N,
    cohort,
    cohort_label,
    cohorts,
    epsilon_text,
    get,
    model,
    model_label,
    models,
    put,
)


def _take(name: str, key: str) -> None:
    value = st.session_state[key]
    if value is not None:
        put(name, value)


def _show(key: str, value: Any) -> None:
    """Makes a widget show a value; an assignment only when needed, so that a drag in progress is not disturbed."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value


# -- controls --------------------------------------------------------------------------------------------------------


def choice(
    name: str, label: str, options: Mapping[Any, str], *, key: str, help: str | None = None, usual: Any = None
) -> Any:
    """One of a few choices as a segmented control, of more than four as a select box. Returns the chosen value; where
    none is chosen, the `usual` one or else the first."""
    values = list(options)
    value = next(each for each in (get(name), usual, *values) if each in options)
    return _choose(name, label, values, value, options.__getitem__, key=key, help=help)


def _choose(
    name: str, label: str, values: list[Any], value: Any, words: Callable[[Any], str], *, key: str, help: str | None
) -> Any:
    key = f"{key}:{len(values)}" if len(values) > 4 else key
    _show(key, value)
    help = linked(help)
    if len(values) > 4:
        return st.selectbox(label, values, format_func=words, key=key, on_change=_take, args=(name, key), help=help)
    marked = {value: verbatim(words(value)) for value in values}
    return st.segmented_control(
        label,
        values,
        format_func=marked.__getitem__,
        key=key,
        required=True,
        on_change=_take,
        args=(name, key),
        help=help,
    )


NO_OTHERS = range(0)


def pool_box(largest: int, key: str, label: str = "or any N") -> int:
    """N by typing. Takes any whole number, so that one larger than the pool is answered with the largest."""
    _show(key, int(get("N")))
    help = f"Any whole number from 1 to {largest:,}."
    return int(
        st.number_input(
            label,
            min_value=1,
            max_value=LARGEST_N,
            step=1,
            key=key,
            on_change=_take,
            args=("N", key),
            help=linked(help),
            width=150,
        )
    )


def model_control(key: str, label: str = "Model") -> str:
    """The model, one common value on every page. Returns the chosen model's name."""
    known = models()
    return str(_choose("model", label, known, model(), model_label, key=key, help=None))


def model_box(key: str, label: str = "Model") -> str:
    """As model_control, always a select box: it takes the same room whatever the models are called."""
    key = f"{key}:{len(models())}"
    _show(key, model())
    st.selectbox(label, models(), format_func=model_label, key=key, on_change=_take, args=("model", key))
    return model()


def pool_buttons(
    options: Sequence[int], key: str, label: str = "Reports in the pool (N)", *, filled: range = NO_OTHERS
) -> int:
    """N as a few buttons, by the rule of `settled_pool`; returns the one shown. `filled`: see there."""
    shown, options = settled_pool(options, filled)
    key = f"{key}:{options}"
    _show(key, shown)
    pressed = st.segmented_control(
        label, options, key=key, required=True, format_func=lambda n: f"{n:,}", on_change=_take, args=("N", key)
    )
    return shown if pressed is None else int(pressed)


def tabs(name: str, labels: Mapping[str, str], key: str) -> DeltaGenerator:
    """Tabs of which only the open one is to be drawn. Returns its container; which it is stands in get(name)."""
    names = list(labels)
    value = get(name) if get(name) in labels else names[0]
    _show(key, labels[value])

    def take() -> None:
        put(name, names[list(labels.values()).index(st.session_state[key])])

    return st.tabs(list(labels.values()), key=key, on_change=take)[names.index(value)]


def several(
    name: str, label: str, options: Mapping[str, str], key: str, help: str | None = None, *, all_first: bool = False
) -> tuple[str, ...]:
    """Any number of a few choices as pills; the common value holds them with commas between. Returns those chosen.

    all_first: an empty value stands for all of them, and "none" for none.
    """
    key = f"{key}:{','.join(options)}"
    value = str(get(name))
    chosen = [each for each in options if each in value.split(",") or (all_first and not value)]
    _show(key, chosen)

    def take() -> None:
        some = [each for each in options if each in st.session_state[key]]
        usual, empty = (list(options), "none") if all_first else ([], "")
        put(name, "" if some == usual else ",".join(some) or empty)

    st.pills(
        label,
        list(options),
        selection_mode="multi",
        format_func=lambda one: verbatim(options[one]),
        key=key,
        on_change=take,
        help=linked(help),
        wrap=all_first or None,
    )
    return tuple(chosen)


def settled_pool(options: Sequence[int], filled: range = NO_OTHERS) -> tuple[int, list[int]]:
    """The N that a page shows and what it offers to choose from: one rule for all pages.

    The common value where the page has it: it is one of `options`, or any other number in `filled`, and is then offered
    beside them. Else the next smaller option, the smallest of them at the least; the address then says what is shown,
    `replaced_pool` says so in words, and what was asked for is remembered: a cohort or a page that fills it shows it
    again.
    """
    held = st.session_state.get("N replaced")
    asked = held[0] if held and held[1] == get("N") else int(get("N"))
    shown = (
        asked if asked in filled or asked in options else max((n for n in options if n <= asked), default=options[0])
    )
    st.session_state["N replaced"] = None if shown == asked else (asked, shown, st.session_state["page on screen"])
    if shown != get("N"):
        put("N", shown)
    if shown not in options:
        st.session_state["N beside"] = shown
    beside = st.session_state.get("N beside", 0)
    if beside in filled:
        options = sorted({*options, beside})
    return shown, list(options)


def replaced_pool() -> str:
    """What is said on a page on which an N that was asked for is not the one shown; else nothing."""
    held = st.session_state.get("N replaced")
    if held and held[2] != st.session_state["page on screen"]:
        return ""
    return f"N = {held[0]:,} cannot be shown here: this is N = {held[1]:,}" if held else ""


def pool_slider(
    options: Sequence[int], key: str, label: str = "Reports in the pool (N)", *, filled: range = NO_OTHERS
) -> int:
    """N on a slider over given steps, by the rule of `settled_pool`; returns the step shown. `filled`: see there."""
    shown, options = settled_pool(options, filled)
    key = f"{key}:{options}"
    _show(key, shown)
    return int(
        st.select_slider(label, options, key=key, format_func=lambda n: f"{n:,}", on_change=_take, args=("N", key))
    )


def prior_slider(key: str) -> int:
    """For how many of 100 images the right report is in the pool; any whole number from 0 to 100."""
    _show(key, int(get("prior")))
    return int(
        st.slider(
            "Report in pool, of 100",
            0,
            100,
            key=key,
            on_change=_take,
            args=("prior", key),
            help=linked("For how many of 100 images the right report is in the pool. It is set here, not measured."),
        )
    )


def epsilon_slider(options: Sequence[float], key: str, label: str, help: str) -> float:
    """Epsilon on a slider over given steps; shows the step nearest in ratio, returns the value that is chosen."""
    chosen = float(get("epsilon"))
    far = {step: abs(math.log(min(step, 1e6) / min(chosen, 1e6))) for step in options}
    _show(key, min(options, key=far.__getitem__))

    def take() -> None:
        put("epsilon", f"{st.session_state[key]:g}")

    st.select_slider(label, options, key=key, format_func=epsilon_words, on_change=take, help=linked(help))
    return chosen


def epsilon_words(value: float) -> str:
    """
    >>> epsilon_words(0.34), epsilon_words(math.inf)
    ('0.34', '∞')
    """
    return "∞" if math.isinf(value) else f"{value:g}"


def epsilon_box(key: str, label: str) -> None:
    """Epsilon by typing, for one that is no step of the slider."""
    value = float(get("epsilon"))
    _show(key, min(value, LARGEST_EPSILON))

    def take() -> None:
        put("epsilon", epsilon_text(str(st.session_state[key])))

    st.number_input(label, 0.001, LARGEST_EPSILON, key=key, format="%g", step=0.1, on_change=take)


def nearest_limit(options: Sequence[float]) -> float:
    """The option nearest in ratio to the limit on lift that is chosen."""
    chosen = float(get("limit"))
    return min(options, key=lambda step: abs(math.log(step / chosen)))


def limit_slider(options: Sequence[float], key: str, label: str, help: str) -> float:
    """A limit on lift on a slider over what was measured; shows and returns the step nearest in ratio."""
    value = nearest_limit(options)
    _show(key, value)

    def take() -> None:
        put("limit", f"{st.session_state[key]:.4g}")

    st.select_slider(label, options, key=key, format_func=limit_words, on_change=take, help=linked(help))
    return value


def limit_words(value: float) -> str:
    """
    >>> limit_words(64.0), limit_words(2.413), limit_words(9.96), limit_words(1234.5)
    ('64', '2.4', '10', '1,234')
    """
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def switch(name: str, label: str, off: str, on: str, *, key: str, help: str | None = None) -> bool:
    """A common value of two as a toggle. Returns whether it is on."""
    _show(key, get(name) == on)
    st.toggle(label, key=key, help=linked(help), on_change=lambda: put(name, on if st.session_state[key] else off))
    return bool(get(name) == on)


def switch_of(name: str, label: str, *, key: str, help: str | None = None) -> bool:
    """`switch` for a common value that is "1" when on and else empty."""
    return switch(name, label, "", "1", key=key, help=linked(help))


def number_box(name: str, label: str, largest: int, *, key: str, help: str | None = None) -> int:
    """A common value that is a whole number from 1 to `largest`, by typing. Returns it."""
    _show(key, int(get(name)))
    st.number_input(label, 1, largest, step=1, key=key, on_change=_take, args=(name, key), help=help, width=130)
    return int(get(name))


def text_box(name: str, label: str, key: str) -> None:
    """A common value that is a few letters."""
    _show(key, str(get(name)))
    st.text_input(label, key=key, on_change=lambda: put(name, st.session_state[key].strip()), max_chars=100)


def range_slider(name: str, label: str, ends: tuple[int, int], key: str, help: str | None) -> None:
    """A common value that is a range of percentiles, written "20-80", empty for all."""
    _show(key, ends)

    def take() -> None:
        low, high = st.session_state[key]
        put(name, "" if (low, high) == (0, 100) else f"{low}-{high}")

    st.slider(label, 0, 100, key=key, on_change=take, help=help)


def mechanism_select(offered: Mapping[str, str], key: str) -> str:
    """The mitigation as a select box, one common value on every page. Returns the one that is chosen."""
    _show(key, get("mechanism"))
    words = offered.__getitem__
    st.selectbox("Mitigation", list(offered), format_func=words, key=key, on_change=_take, args=("mechanism", key))
    return str(get("mechanism"))


def seed_box(key: str, label: str, help: str) -> None:
    """The seed of the noise of a run that can be repeated."""
    _show(key, int(get("seed")))
    st.number_input(label, 0, 999_999_999, key=key, step=1, on_change=_take, args=("seed", key), help=linked(help))


def cohort_control(key: str) -> None:
    """The cohort, for all pages."""
    names = cohorts()
    _show(key, cohort())
    st.selectbox(
        "Images and reports",
        names,
        format_func=cohort_label,
        key=key,
        on_change=_take,
        args=("cohort", key),
        help=linked("Where the images and reports on every page come from: a cohort."),
    )


def round_pool_sizes(model: str) -> tuple[list[int], range]:
    """(100, 1,000 and 10,000 as far as every image fills them, or of a small cohort 10 and the largest that every image
    fills; all N that any image fills)."""
    counted = study(cohort(), model)
    every = counted.common_pool
    steps = [n for n in (100, 1000, 10_000) if n <= every] or sorted({min(10, every), every})
    return steps, range(1, counted.largest_pool + 1)
