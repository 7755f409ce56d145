"""What is chosen, and the tables that follow from it.

One value a parameter (cohort, model, N, k, record and what a page adds) lives in the session and is written to the
URL, so what is on screen can be sent as a link. Widgets do not hold the values: each has its own key, shows the common
value and writes it back, so several widgets (three buttons here, a slider there) can share one value and lists of
choices may change. Anything in a URL that is not a possible value falls back to the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from linkage_core.audit import Study
from linkage_core.audit import study as make_study
from linkage_core.errors import LinkageError
from linkage_core.examples import Examples
from linkage_core.store import LADDER, Entry, Store

LARGEST_N = 10**9
DEFAULTS: dict[str, Any] = {
    "cohort": None,
    "model": None,
    "second": None,
    "N": 100,
    "k": 1,
    "record": None,
    "measure": "recall",
}
K_CHOICES = (1, 5, 10)

_MODEL_LABELS = dict(zip(LADDER, ("General", "Biomedical", "Clinical", "Radiology"), strict=True))
_COHORT_LABELS = {
    "phantom": "Phantom, site A",
    "phantom-site-b": "Phantom, site B",
    "phantom-finetune": "Phantom, finetuning",
}


# -- the store -------------------------------------------------------------------------------------------------------


def store_root() -> Path:
    """Where the cached embeddings lie: LINKAGE_STORE, or `cached_embeddings` beside app.py."""
    named = os.environ.get("LINKAGE_STORE")
    return Path(named) if named else Path(__file__).resolve().parents[1] / "cached_embeddings"


def store() -> Store:
    return Store(store_root())


def cohort_label(cohort: str) -> str:
    return _COHORT_LABELS.get(cohort, cohort)


def model_label(model: str) -> str:
    """A rung by its short name, any other model as the user typed it; its folder's name where it cannot be read."""
    if model in _MODEL_LABELS:
        return _MODEL_LABELS[model]
    try:
        return str(entry(cohort(), model).manifest["model"]["name"])
    except LinkageError:
        return model


def models() -> list[str]:
    """The models the chosen cohort has embeddings of, in ladder order."""
    return store().models(cohort())


def _fingerprint(cohort: str, model: str) -> tuple[int, int]:
    """Changes when the entry is rewritten; cheap enough to look at on every run."""
    manifest = store_root() / cohort / model / "manifest.json"
    if not manifest.is_file():
        return (0, 0)
    stat = manifest.stat()
    return (stat.st_mtime_ns, stat.st_size)


@st.cache_resource(show_spinner=False, max_entries=16)
def _entry(root: str, cohort: str, model: str, fingerprint: tuple[int, int]) -> Entry:
    return Store(Path(root)).open(cohort, model)


@st.cache_resource(show_spinner=False, max_entries=16)
def _study(root: str, cohort: str, model: str, fingerprint: tuple[int, int]) -> Study:
    return make_study(_entry(root, cohort, model, fingerprint))


@st.cache_resource(show_spinner=False, max_entries=8)
def _examples(root: str, cohort: str, model: str, fingerprint: tuple[int, int]) -> Examples:
    return Examples(_entry(root, cohort, model, fingerprint))


@st.cache_data(show_spinner=False, max_entries=512)
def _table(
    root: str, cohort: str, model: str, fingerprint: tuple[int, int], pool_sizes: tuple[int, ...], ks: tuple[int, ...]
) -> pd.DataFrame:
    return _study(root, cohort, model, fingerprint).table(list(pool_sizes), list(ks))


def entry(cohort: str, model: str) -> Entry:
    """One entry of the store, checked. Raises StoreError where it is missing or damaged."""
    return _entry(str(store_root()), cohort, model, _fingerprint(cohort, model))


def study(cohort: str, model: str) -> Study:
    """The exact counts of one model on one cohort: what every rate is made of."""
    return _study(str(store_root()), cohort, model, _fingerprint(cohort, model))


def examples(cohort: str, model: str) -> Examples:
    """Single records with their ranked reports."""
    return _examples(str(store_root()), cohort, model, _fingerprint(cohort, model))


def table(cohort: str, model: str, pool_sizes: Iterable[int], ks: Iterable[int]) -> pd.DataFrame:
    """Study.table, kept: one row per pool size and k."""
    return _table(
        str(store_root()), cohort, model, _fingerprint(cohort, model), tuple(map(int, pool_sizes)), tuple(map(int, ks))
    )


# -- the common values -----------------------------------------------------------------------------------------------


def _parse(name: str, text: str) -> Any:
    """The value of a URL parameter, or None where it cannot be one."""
    if name in ("N", "k"):
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
        return number if 1 <= number <= LARGEST_N else None
    return text or None


def get(name: str) -> Any:
    return st.session_state.get(f"common:{name}", DEFAULTS[name])


def put(name: str, value: Any) -> None:
    """Sets a common value and its URL parameter. A default has no parameter: short links stay short."""
    st.session_state[f"common:{name}"] = value
    text = "" if value is None or value == DEFAULTS[name] else str(value)
    st.session_state[f"url:{name}"] = text
    if text and st.query_params.get(name) != text:
        st.query_params[name] = text
    elif not text and name in st.query_params:
        del st.query_params[name]


def begin(page: str) -> None:
    """Called once a run, before anything is drawn: takes what the URL says, then makes the URL say what is chosen.

    A parameter that differs from what was last written was changed from outside: a link, or the back button, which may
    also take one away. A change of page takes them all away; the values in the session then win and are written back.
    """
    same_page = st.session_state.get("page on screen") == page
    st.session_state["page on screen"] = page
    for name, default in DEFAULTS.items():
        text = st.query_params.get(name, "")
        if text != st.session_state.get(f"url:{name}", "") and (text or same_page):
            value = _parse(name, text) if text else default
            if value is not None or not text:
                st.session_state[f"common:{name}"] = value
    cohorts = store().cohorts()
    if get("cohort") not in cohorts:
        put("cohort", None)
    chosen = get("cohort") or (cohorts[0] if cohorts else None)
    st.session_state["cohort in use"] = chosen
    known = store().models(chosen) if chosen else []
    if get("model") not in known:
        put("model", None)
    st.session_state["model in use"] = get("model") or (known[-1] if known else None)
    if get("k") not in K_CHOICES:
        put("k", DEFAULTS["k"])
    for name in DEFAULTS:
        put(name, get(name))


def begun() -> bool:
    """Whether the frame has run in this session."""
    return "page on screen" in st.session_state


def cohort() -> str:
    """The chosen cohort. `page.guard` has made sure there is one."""
    return str(st.session_state["cohort in use"])


def model() -> str:
    """The chosen model; without a choice the most specialised one."""
    return str(st.session_state["model in use"])


def synthetic() -> bool:
    """Whether the chosen cohort is known to hold nobody real; an entry that cannot be read counts as real."""
    return bool(st.session_state.get("synthetic", False))


def show_text() -> bool:
    """Whether report text may be sent to the browser: always for synthetic cohorts, else only when switched on."""
    return bool(st.session_state.get("text may be shown", False))


def _take(name: str, key: str) -> None:
    value = st.session_state[key]
    if value is not None:
        put(name, value)


def _show(key: str, value: Any) -> None:
    """Makes a widget show a value; an assignment only when needed, so that a drag in progress is not disturbed."""
    if st.session_state.get(key) != value:
        st.session_state[key] = value


# -- controls --------------------------------------------------------------------------------------------------------


def choice(name: str, label: str, options: Mapping[Any, str], *, key: str, help: str | None = None) -> Any:
    """One of a few choices as a segmented control, of more than four as a select box. Returns the chosen value."""
    values = list(options)
    value = get(name) if get(name) in options else values[0]
    return _choose(name, label, values, value, options.__getitem__, key=key, help=help)


def _choose(
    name: str, label: str, values: list[Any], value: Any, words: Callable[[Any], str], *, key: str, help: str | None
) -> Any:
    key = f"{key}:{len(values)}" if len(values) > 4 else key
    _show(key, value)
    if len(values) > 4:
        return st.selectbox(label, values, format_func=words, key=key, on_change=_take, args=(name, key), help=help)
    return st.segmented_control(
        label, values, format_func=words, key=key, required=True, on_change=_take, args=(name, key), help=help
    )


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
            help=help,
            width=150,
        )
    )


def model_control(key: str, label: str = "Model") -> str:
    """The model, one common value on every page. Returns the chosen model's name."""
    known = models()
    return str(_choose("model", label, known, model(), model_label, key=key, help=None))


def pool_buttons(options: Sequence[int], key: str, label: str = "Reports in the pool (N)") -> int:
    """N as a few buttons; shows the one nearest (in ratio) to the common value, returns the one shown."""
    key = f"{key}:{len(options)}"
    _show(key, nearest(options, get("N")))
    return int(
        st.segmented_control(
            label, options, key=key, required=True, format_func=lambda n: f"{n:,}", on_change=_take, args=("N", key)
        )
    )


def nearest(options: Iterable[int], pool_size: int) -> int:
    """The option nearest to N in ratio.

    >>> nearest([10, 100, 1000], 250)
    100
    """
    return min(options, key=lambda n: max(n, pool_size) / min(n, pool_size))


def pool_slider(options: Sequence[int], key: str, label: str = "Reports in the pool (N)") -> int:
    """N on a slider over given steps; shows the step nearest (in ratio) to the common value, returns the step shown."""
    _show(key, nearest(options, get("N")))
    return int(
        st.select_slider(label, options, key=key, format_func=lambda n: f"{n:,}", on_change=_take, args=("N", key))
    )


def cohort_control(key: str) -> None:
    """The cohort, for all pages."""
    names = store().cohorts()
    _show(key, cohort())
    st.selectbox(
        "Images and reports",
        names,
        format_func=cohort_label,
        key=key,
        on_change=_take,
        args=("cohort", key),
        help="Where the images and reports on every page come from.",
    )


def round_pool_sizes(model: str) -> list[int]:
    """100, 1,000 and 10,000 as far as the pool reaches; the largest pool itself where it is under 100."""
    largest = study(cohort(), model).largest_pool
    return [n for n in (100, 1000, 10_000) if n <= largest] or [largest]
