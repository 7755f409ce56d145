"""What is chosen, and the tables that follow from it.

One value a parameter (cohort, model, N, k, record and what a page adds) lives in the session and is written to the
URL, so what is on screen can be sent as a link. Widgets do not hold the values: each has its own key, shows the common
value and writes it back, so several widgets (three buttons here, a slider there) can share one value and lists of
choices may change. Anything in a URL that is not a possible value falls back to the default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from explorer.frame import held
from explorer.frame.kept import RELEASE_KINDS, address_of, entry, record_at, store
from linkage_core.audit import exposure, open_world, strata
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, LinkageError
from linkage_core.lab import frontier, measured
from linkage_core.lab.setting import Setting
from linkage_core.mitigation import accounting, mechanisms
from linkage_core.store.entry import LADDER
from linkage_core.visible import visible

LARGEST_N = 10**9


DEFAULTS: dict[str, Any] = {
    "cohort": None,
    "model": None,
    "second": None,
    "N": 100,
    "k": 1,
    "record": None,
    "shown": 4,
    "draw": 0,
    "hide": "",
    "order": "",
    "view": "",
    "having": "",
    "views": "",
    "exposed": "",
    "patient": "",
    "image": "",
    "measure": "recall",
    "tab": "curve",
    "decoys": "any",
    "alike": "",
    "prior": 50,
    "wanted": None,
    "rule": "score",
    "group": "sex",
    "list": "records",
    "mechanism": None,
    "epsilon": "0.34",
    "release": "embeddings-and-heads",
    "findings": "",
    "unit": "patient",
    "delta": "",
    "seed": 0,
    "held": "",
    "limit": "30",
    "attacker": measured.WORST,
    "use": "read",
    "keep": "declared",
    "tolerance": "1",
    "option": None,
    "filed": "",
    "sections": "",
    "reports": 4,
    "round": 1,
    "played": "as-is",
    "part": "words",
    "purpose": None,
    "show": "families",
}
K_CHOICES = (1, 5, 10)
WANTED_CHOICES = (50, 80, 90)
REPORTS_CHOICES = (4, 6, 10)
CHOICES = {"tab": ("curve", "compare", "decoys"), "decoys": ("any", "same"), "rule": open_world.RULES} | {
    "group": exposure.GROUPS,
    "list": ("records", "with", "groups"),
}
CHOICES |= {
    "hide": ("", "1"),
    "order": ("", "exposure"),
    "release": ("embeddings", "embeddings-and-heads", "raw-images"),
    "unit": accounting.UNITS,
    "delta": ("", "1e-8", "1e-7", "1e-6", "6e-6", "1e-5", "1e-4"),
    "attacker": (measured.WORST, "cosine", frontier.OMNISCIENT),
    "use": tuple(frontier.USES),
    "keep": ("declared", "undeclared"),
    "tolerance": ("0.2", "1", "2"),
    "played": ("as-is", "mitigated"),
    "part": ("words", "formulas", "attackers", "pitfalls", "tour", "leave"),
    "purpose": ("train", "read", "search", "nothing"),
    "show": ("families", "all"),
}
LARGEST_EPSILON = 1000.0
MOST_SHOWN = 100
"""Reports in one list of Examples."""
MITIGATED = "@mitigation"
"""Stands where a second model would: the same model under the chosen mitigation."""

_VIEW = re.compile(r"(-?\d{1,3}(\.\d{1,4})?_){4}-?\d{1,3}(\.\d{1,4})?(_i)?")
"""How the radiograph is looked at: contrast, brightness, zoom, x, y, inverted; written and read by the viewer alone."""

_MODEL_LABELS = dict(zip(LADDER, ("General", "Biomedical", "Clinical", "Radiology"), strict=True))
_COHORT_LABELS = {
    "phantom": "Phantom, site A",
    "phantom-site-b": "Phantom, site B",
}


def cohorts() -> list[str]:
    """The cohorts of the store but for NAME-finetune beside NAME: pairs to train on, of which nobody is held out."""
    names = store().cohorts()
    return [name for name in names if not (name.endswith("-finetune") and name.removesuffix("-finetune") in names)]


def cohort_label(cohort: str) -> str:
    return _COHORT_LABELS.get(cohort, visible(cohort))


def model_label(model: str) -> str:
    """A rung by its short name, any other model as the user typed it; its folder's name where it cannot be read."""
    if model in _MODEL_LABELS:
        return _MODEL_LABELS[model]
    try:
        return visible(entry(cohort(), model).manifest["model"]["name"])
    except LinkageError:
        return visible(model)


def models() -> list[str]:
    """The models the chosen cohort has embeddings of, in ladder order."""
    return store().models(cohort())


def releases() -> bool:
    """Whether the mitigation that is chosen is a release and not a head."""
    return get("mechanism") in RELEASE_KINDS


def setting() -> Setting:
    """The mitigation that is chosen, where it is a head. On a cohort of real people noise is secret: it has no seed."""
    listed = tuple(name for name in LABELS if name in str(get("findings")).split(","))
    return Setting(
        mechanism=str(get("mechanism")),
        epsilon=float(get("epsilon")),
        findings=listed or LABELS,
        unit=str(get("unit")),
        delta=float(get("delta")) if get("delta") else None,
        seed=int(get("seed")) if synthetic() else None,
    )


def held_setting() -> Setting | None:
    """The setting that is held to compare with, None where none is. On a cohort of real people it has no seed."""
    found = held.setting_of(str(get("held")))
    return found if found is None or synthetic() else replace(found, seed=None)


# -- the common values -----------------------------------------------------------------------------------------------


def _parse(name: str, text: str) -> Any:
    """The value of a URL parameter, or None where it cannot be one."""
    if name in ("N", "k"):
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
        return number if 1 <= number <= LARGEST_N else None
    if name == "shown":
        return int(text) if text in map(str, range(1, MOST_SHOWN + 1)) else None
    if name == "view":
        return view_text(text) or None
    if name == "exposed":
        low, _, high = text.partition("-")
        ends = [each for each in (low, high) if each in map(str, range(101))]
        return text if len(ends) == 2 and int(low) <= int(high) else None
    if name == "prior":
        return int(text) if text in map(str, range(101)) else None
    if name == "wanted":
        return int(text) if text in map(str, WANTED_CHOICES) else None
    if name == "reports":
        return int(text) if text in map(str, REPORTS_CHOICES) else None
    if name == "epsilon":
        return epsilon_text(text)
    if name == "limit":
        return limit_text(text)
    if name in ("seed", "draw", "round"):
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if name in ("findings", "having"):
        listed = text.split(",")
        return ",".join(each for each in LABELS if each in listed) if set(listed) <= set(LABELS) else None
    if name == "held":
        return text if held.setting_of(text) else None
    if name == "mechanism":
        return text if text in (*mechanisms.mitigations(), *RELEASE_KINDS) else None
    if name in CHOICES:
        return text if text in CHOICES[name] else None
    if name == "alike":
        try:
            return ",".join(strata.ordered(text.split(",")))
        except InputError:
            return None
    return text or None


def view_text(text: str) -> str:
    """A view of the radiograph as it stands in a URL; empty for what cannot be one.

    >>> view_text("1.5_0.5_2_0.4_0.5_i"), view_text("<b>")
    ('1.5_0.5_2_0.4_0.5_i', '')
    """
    return text if _VIEW.fullmatch(text) else ""


def epsilon_text(text: str) -> str | None:
    """An epsilon as it stands in a URL, or None where it cannot be one.

    >>> epsilon_text("0.340"), epsilon_text("Infinity"), epsilon_text("-1"), epsilon_text("nan"), epsilon_text("x")
    ('0.34', 'inf', None, None, None)
    """
    try:
        value = float(text) if text.isascii() else 0.0
    except ValueError:
        return None
    return f"{value:g}" if 0.001 <= value <= LARGEST_EPSILON or value == math.inf else None


def limit_text(text: str) -> str | None:
    """A limit on lift as it stands in a URL, or None where it cannot be one.

    >>> limit_text("30.0"), limit_text("1"), limit_text("0.9"), limit_text("inf"), limit_text("x")
    ('30', '1', None, None, None)
    """
    try:
        value = float(text) if text.isascii() else 0.0
    except ValueError:
        return None
    return f"{value:.4g}" if 1 <= value <= LARGEST_N else None


def get(name: str) -> Any:
    value = st.session_state.get(f"common:{name}", DEFAULTS[name])
    return usual_mechanism() if name == "mechanism" and value is None else value


def usual_mechanism() -> str:
    """What is shown where none is chosen: one that works on this cohort."""
    return mechanisms.FIRST if labelled() else mechanisms.WITHOUT_LABELS


def labelled() -> bool:
    """Whether the chosen cohort has any of the 14 labels; one that cannot be read counts as if it had."""
    try:
        return entry(cohort(), model()).labelled
    except LinkageError:
        return True


def put(name: str, value: Any) -> None:
    """Sets a common value and its URL parameter. A default has no parameter: short links stay short."""
    put_all({name: value})


def put_all(values: Mapping[str, Any]) -> None:
    """`put` of several, which the browser's history takes for one change."""
    query = st.query_params.to_dict()
    for name, value in values.items():
        if name == "mechanism" and value == usual_mechanism():
            value = None
        st.session_state[f"common:{name}"] = value
        text = "" if value is None or value == DEFAULTS[name] else _written(name, str(value))
        st.session_state[f"url:{name}"] = text
        if text:
            query[name] = text
        else:
            query.pop(name, None)
    if query != st.query_params.to_dict():
        st.query_params.from_dict(query)


def _written(name: str, text: str) -> str:
    """A common value as it stands in the URL. Of real people no identifier does: browsers keep their history."""
    if name == "record":
        return address_of(cohort(), model(), text)
    if name in ("patient", "image"):
        try:
            return text if entry(cohort(), model()).synthetic else ""
        except LinkageError:
            return ""
    return text


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
    link = st.query_params.get("record", "") if get("record") == st.query_params.get("record", "") else ""
    there, wanted = cohorts(), (get("cohort"), get("model"))
    if get("cohort") not in there:
        put("cohort", None)
    chosen = get("cohort") or (there[0] if there else None)
    if not link and st.session_state.get("cohort in use", chosen) != chosen:
        st.session_state["common:record"] = None  # of another cohort
    st.session_state["cohort in use"] = chosen
    known = store().models(chosen) if chosen else []
    if get("model") not in known:
        put("model", None)
    st.session_state["model in use"] = get("model") or (known[-1] if known else None)
    if chosen:
        _note_replaced(wanted)
    if chosen and link:
        st.session_state["common:record"] = record_at(chosen, model(), link)
    if get("k") not in K_CHOICES:
        put("k", DEFAULTS["k"])
    put_all({name: get(name) for name in DEFAULTS})


def _note_replaced(wanted: tuple[str | None, str | None]) -> None:
    """Keeps what is to be said where the cohort or the model that was asked for is not there."""
    said = []
    if wanted[0] and not get("cohort"):
        said.append(f"The cohort that was asked for is not here: this is {cohort_label(cohort())}.")
    if wanted[1] and not get("model"):
        said.append(f"The model that was asked for is not in this cohort: this is {model_label(model())}.")
    if said:
        st.session_state["replaced"] = (_on_screen(), " ".join(said))


def replaced() -> str:
    """What is said while another cohort or model than was asked for is on screen; else nothing."""
    shown, said = st.session_state.get("replaced", (None, ""))
    return str(said) if shown == _on_screen() else ""


def _on_screen() -> tuple[Any, ...]:
    return tuple(st.session_state[name] for name in ("page on screen", "cohort in use", "model in use"))


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
