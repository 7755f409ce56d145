"""What is chosen, and the tables that follow from it.

One value a parameter (cohort, model, N, k, record and what a page adds) lives in the session and is written to the
URL, so what is on screen can be sent as a link. Widgets do not hold the values: each has its own key, shows the common
value and writes it back, so several widgets (three buttons here, a slider there) can share one value and lists of
choices may change. Anything in a URL that is not a possible value falls back to the default.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pandas as pd
import streamlit as st

from linkage_core import comparisons, exposure, frontier, lab, open_world, shipped, strata
from linkage_core import setting as settings
from linkage_core.audit import Study
from linkage_core.audit import study as make_study
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, LinkageError
from linkage_core.examples import Examples
from linkage_core.mitigation import accounting, finetune, oneshot
from linkage_core.pools import log_pool_sizes
from linkage_core.setting import Live, Setting
from linkage_core.store import LADDER, Entry, Store

P = ParamSpec("P")
R = TypeVar("R")

LARGEST_N = 10**9


@dataclass(frozen=True)
class Lab:
    """lab.heads, lab.linkage and lab.utility of one entry."""

    heads: pd.DataFrame
    linkage: pd.DataFrame
    utility: pd.DataFrame


@dataclass(frozen=True)
class Options:
    """frontier.options_of, frontier.linkage and frontier.utility of one entry."""

    options: pd.DataFrame
    linkage: pd.DataFrame
    utility: pd.DataFrame


DEFAULTS: dict[str, Any] = {
    "cohort": None,
    "model": None,
    "second": None,
    "N": 100,
    "k": 1,
    "record": None,
    "measure": "recall",
    "tab": "curve",
    "decoys": "any",
    "alike": "",
    "prior": 50,
    "wanted": 90,
    "rule": "score",
    "group": "sex",
    "list": "records",
    "mechanism": oneshot.LABEL,
    "epsilon": "0.34",
    "release": "embeddings-and-heads",
    "findings": "",
    "unit": "patient",
    "delta": "",
    "seed": 0,
    "limit": "30",
    "attacker": lab.WORST,
    "use": "read",
    "keep": "declared",
    "tolerance": "1",
    "option": None,
}
K_CHOICES = (1, 5, 10)
WANTED_CHOICES = (50, 80, 90)
RELEASE_KINDS = ("statistics", "codes", "capped")
"""What Mitigation shows beside heads: releases whose linkage is limited for every attacker."""
CHOICES = {"tab": ("curve", "compare", "decoys"), "decoys": ("any", "same"), "rule": open_world.RULES} | {
    "group": exposure.GROUPS,
    "list": ("records", "with", "groups"),
}
CHOICES |= {
    "mechanism": (oneshot.LABEL, finetune.LABEL, finetune.PUBLIC, oneshot.MOMENT, finetune.PAPER, *RELEASE_KINDS),
    "release": ("embeddings", "embeddings-and-heads", "raw-images"),
    "unit": accounting.UNITS,
    "delta": ("", "1e-8", "1e-7", "1e-6", "6e-6", "1e-5", "1e-4"),
    "attacker": (lab.WORST, "cosine", frontier.OMNISCIENT),
    "use": tuple(frontier.USES),
    "keep": ("declared", "undeclared"),
    "tolerance": ("0.2", "1", "2"),
}
LARGEST_EPSILON = 1000.0
SEED = 0
"""Of the noise that a picture is drawn with where the cohort is real: the picture repeats, and is no release."""
MITIGATED = "@mitigation"
"""Stands where a second model would: the same model under the chosen mitigation."""
ANY_PATIENT, SAME_FINDINGS = "other-patients", "same-findings"

_MODEL_LABELS = dict(zip(LADDER, ("General", "Biomedical", "Clinical", "Radiology"), strict=True))
_COHORT_LABELS = {
    "phantom": "Phantom, site A",
    "phantom-site-b": "Phantom, site B",
}


# -- the store -------------------------------------------------------------------------------------------------------


def store_root() -> Path:
    """Where the cached embeddings lie: LINKAGE_STORE, or the store that comes along."""
    named = os.environ.get("LINKAGE_STORE")
    return Path(named) if named else shipped.store()


def store() -> Store:
    return Store(store_root())


def cohorts() -> list[str]:
    """The cohorts of the store but for NAME-finetune beside NAME: pairs to train on, of which nobody is held out."""
    names = store().cohorts()
    return [name for name in names if not (name.endswith("-finetune") and name.removesuffix("-finetune") in names)]


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


def _as_written(cohort: str, models: str | Iterable[str]) -> tuple[Hashable, ...]:
    """Which entries a result is of, and in which state: the key that it is kept under."""
    names = (models,) if isinstance(models, str) else models
    return (str(store_root()), cohort, *((name, _fingerprint(cohort, name)) for name in names))


def _records_of(cohort: str, model: str) -> tuple[Hashable, ...]:
    """The records and reports of an entry, by what they say: the same for every model of the same records."""
    files = entry(cohort, model).manifest["files"]
    return (cohort, *(files[name]["sha256"] for name in ("records.parquet", "reports.parquet") if name in files))


def _plain(value: Any) -> Any:
    """An argument as part of a key: numbers of any library as int, several values of any kind as a tuple.

    >>> _plain(range(10, 12)), _plain("any"), _plain(None)
    ((10, 11), 'any', None)
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return tuple(map(_plain, value)) if isinstance(value, Iterable) and not isinstance(value, str) else value


def remembered(
    cache: Callable[..., Any], max_entries: int, of: Callable[[str, Any], tuple[Hashable, ...]] = _as_written
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps what a function of (cohort, model or models, ...) returns until an entry of the store is rewritten.

    The key is `of` those two and the other arguments, defaults among them; one whose name begins with "_" is no part of
    it. `cache`: st.cache_data, which hands out copies, or st.cache_resource, which hands out the object itself and is
    for what nobody changes. At most `max_entries` are kept, the oldest goes first. What raises is not kept.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @cache(show_spinner=False, max_entries=max_entries)
        @functools.wraps(function)  # Streamlit tells functions apart by module, name and source
        def kept(*, key: tuple[Hashable, ...], _make: Callable[[], R]) -> R:
            return _make()

        @functools.wraps(function)
        def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
            asked = signature.bind(*args, **kwargs)
            asked.apply_defaults()
            given = asked.arguments
            given.update({name: _plain(value) for name, value in given.items() if not name.startswith("_")})
            cohort, models, *_ = given.values()
            others = [value for name, value in list(given.items())[2:] if not name.startswith("_")]
            key = (of(cohort, models), *others)
            return kept(key=key, _make=lambda: function(*asked.args, **asked.kwargs))

        return look_up

    return decorate


@remembered(st.cache_resource, 16)
def entry(cohort: str, model: str) -> Entry:
    """One entry of the store, checked. Raises StoreError where it is missing or damaged."""
    return store().open(cohort, model)


@remembered(st.cache_resource, 64)
def study(cohort: str, model: str, pool: str = ANY_PATIENT) -> Study:
    """The exact counts of one model on one cohort: what every rate is made of. `pool` is named as Study.pool is."""
    kind, *by = pool.split("+")
    return make_study(entry(cohort, model), pool=kind, strata=by)


@remembered(st.cache_resource, 8)
def examples(cohort: str, model: str) -> Examples:
    """Single records with their ranked reports."""
    return Examples(entry(cohort, model))


@remembered(st.cache_data, 512)
def table(
    cohort: str, model: str, pool_sizes: Iterable[int], ks: Iterable[int], pool: str = ANY_PATIENT
) -> pd.DataFrame:
    """Study.table, kept: one row per pool size and k."""
    return study(cohort, model, pool).table(list(pool_sizes), list(ks))


@remembered(st.cache_data, 512)
def compared(cohort: str, models: Iterable[str], pool: str, pool_size: int, k: int) -> pd.DataFrame:
    """comparisons.compare of models on one cohort, kept: one row a pair, in the order given."""
    return comparisons.compare([study(cohort, model, pool) for model in models], pool_size, k)


@remembered(st.cache_data, 64)
def of_pools(cohort: str, model: str, pool: str, pool_sizes: Sequence[int], k: int) -> pd.DataFrame:
    """comparisons.of_pools of any patient's reports and of `pool`, kept."""
    return comparisons.of_pools([study(cohort, model, each) for each in (ANY_PATIENT, pool)], pool_sizes, k)


@remembered(st.cache_data, 64)
def label_matched_auc(cohort: str, model: str, pool: str) -> dict[str, Any]:
    """Study.label_matched_auc, kept."""
    return study(cohort, model, pool).label_matched_auc()


@remembered(st.cache_data, 64)
def strata_offered(cohort: str, model: str) -> tuple[str, ...]:
    """What same-finding decoys can also be matched by."""
    opened = entry(cohort, model)
    return strata.offered(opened.records(opened.default_split))


@remembered(st.cache_data, 64, of=_records_of)
def verified(cohort: str, model: str, pool: str, _texts: Callable[[], Mapping[str, str]]) -> strata.Verification:
    """strata.verification of a pool of same-finding decoys, kept; `_texts` (report by study id) is called when needed.

    Who is decoy to whom depends on the records alone, so one answer serves every model of the same records.
    """
    decoys = study(cohort, model, pool)
    return strata.verification(decoys.queries, decoys.counts, decoys.strata, texts=_texts())


@remembered(st.cache_resource, 8)
def _scores(cohort: str, model: str) -> open_world.Scores:
    return open_world.prepare(entry(cohort, model))


@remembered(st.cache_resource, 4)  # each holds the sums of every patient at every threshold
def _outcomes(cohort: str, model: str, pool_size: int, rule: str) -> open_world.Outcomes:
    return _scores(cohort, model).outcomes(pool_size, rule)


@remembered(st.cache_data, 512)
def missing_match(cohort: str, model: str, pool_size: int, rule: str, prior: int) -> open_world.OpenWorld:
    """What a cautious attacker gains when the match is in the pool for `prior` of 100 images, kept."""
    return _outcomes(cohort, model, pool_size, rule).at(prior / 100)


@remembered(st.cache_resource, 8)
def _match_scores(cohort: str, model: str) -> exposure.Scores:
    return exposure.scores(study(cohort, model))


@remembered(st.cache_resource, 32)
def exposed(cohort: str, model: str, pool_size: int) -> pd.DataFrame:
    """exposure.exposure, kept: one row a record. Read only: the table itself is kept, not a copy."""
    return exposure.exposure(study(cohort, model), pool_size, _match_scores(cohort, model))


@remembered(st.cache_data, 512)
def tail(cohort: str, model: str, pool_size: int) -> exposure.Tail:
    """exposure.tail of the most exposed 1%, kept."""
    rows = exposed(cohort, model, pool_size)
    return exposure.tail(rows["p_first"].to_numpy(), rows["patient_id"].to_numpy())


@remembered(st.cache_data, 256)
def associations(cohort: str, model: str, pool_size: int, attributes: tuple[str, ...] | None = None) -> pd.DataFrame:
    """exposure.associations, kept; of some attributes, p values are adjusted for those alone."""
    rows = exposed(cohort, model, pool_size)
    return exposure.associations(rows, study(cohort, model).queries, attributes=attributes)


@remembered(st.cache_data, 256)
def exposed_groups(cohort: str, model: str, pool_size: int, by: str) -> pd.DataFrame:
    """exposure.groups, kept."""
    return exposure.groups(exposed(cohort, model, pool_size), study(cohort, model).queries, by)


@remembered(st.cache_resource, 16)
def lab_tables(cohort: str, model: str) -> Lab:
    """The tables of the mitigation lab, kept. Read only."""
    opened = entry(cohort, model)
    return Lab(lab.heads(opened), lab.linkage(opened), lab.utility(opened))


@remembered(st.cache_resource, 16)
def options(cohort: str, model: str) -> Options:
    """Every mitigation that was compared, by option, kept. Read only."""
    opened = entry(cohort, model)
    return Options(frontier.options_of(opened), frontier.linkage(opened), frontier.utility(opened))


@remembered(st.cache_resource, 256)
def compared_options(cohort: str, model: str, pool_size: int, attacker: str, use: str) -> pd.DataFrame:
    """frontier.frontier, kept: one row an option. Read only."""
    return frontier.frontier(entry(cohort, model), pool_size, attacker, use)


@remembered(st.cache_resource, 64)
def live(cohort: str, model: str, chosen: Setting, *, signal: bool = True) -> Live:
    """settings.live, kept; with noise that repeats, so that a picture does."""
    return settings.live(entry(cohort, model), _repeatable(chosen), signal=signal)


@remembered(st.cache_data, 256)
def live_curve(cohort: str, model: str, chosen: Setting, *, signal: bool = True) -> pd.DataFrame:
    """Recall by cosine at every step of N under a one-shot head that is not stored."""
    under = live(cohort, model, chosen, signal=signal).study
    return under.table(lab.pool_sizes(under)[1], (1,))


@remembered(st.cache_data, 256)
def head_curve(cohort: str, model: str, head: str) -> pd.DataFrame:
    """Recall by cosine at every step of N under a stored head."""
    under = make_study(entry(cohort, model), head)
    return under.table(lab.pool_sizes(under)[1], (1,))


@remembered(st.cache_resource, 8)
def mitigated_examples(cohort: str, model: str, chosen: Setting) -> Examples:
    """Single records under the chosen mitigation. InputError where it has to be trained first."""
    if chosen.mechanism in RELEASE_KINDS:
        raise InputError("Only heads can be looked at on single images, and a release is chosen.", "Choose a head.")
    head = settings.stored(lab_tables(cohort, model).heads, chosen)
    if head is not None:
        return Examples(entry(cohort, model), head)
    if not chosen.one_shot:
        raise InputError(
            f"No head is stored for {chosen.mechanism} at epsilon {chosen.epsilon:g}.", "Train it on Mitigation."
        )
    at_once = live(cohort, model, chosen)
    return Examples(entry(cohort, model), at_once.study.head, at_hand=(at_once.heads, at_once.study))


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


def _repeatable(chosen: Setting) -> Setting:
    return chosen if chosen.seed is not None else replace(chosen, seed=SEED)


def pool_steps(cohort: str, model: str, pool: str = ANY_PATIENT) -> list[int]:
    """The steps of N that a page offers: as far as all images fill them, or the images of enough patients.

    Empty where same-finding decoys are too few at every N.
    """
    asked = study(cohort, model, pool)
    if not asked.hard_negatives:
        return log_pool_sizes(asked.common_pool)
    largest = strata.fillable_pool(asked.counts, asked.queries["patient_id"].to_numpy())
    return strata.pool_steps(largest) if largest else []


# -- the common values -----------------------------------------------------------------------------------------------


def _parse(name: str, text: str) -> Any:
    """The value of a URL parameter, or None where it cannot be one."""
    if name in ("N", "k"):
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
        return number if 1 <= number <= LARGEST_N else None
    if name == "prior":
        return int(text) if text in map(str, range(101)) else None
    if name == "wanted":
        return int(text) if text in map(str, WANTED_CHOICES) else None
    if name == "epsilon":
        return epsilon_text(text)
    if name == "limit":
        return limit_text(text)
    if name == "seed":
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if name == "findings":
        listed = text.split(",")
        return ",".join(each for each in LABELS if each in listed) if set(listed) <= set(LABELS) else None
    if name in CHOICES:
        return text if text in CHOICES[name] else None
    if name == "alike":
        try:
            return ",".join(strata.ordered(text.split(",")))
        except InputError:
            return None
    return text or None


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
    there = cohorts()
    if get("cohort") not in there:
        put("cohort", None)
    chosen = get("cohort") or (there[0] if there else None)
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


def tabs(name: str, labels: Mapping[str, str], key: str) -> Any:
    """Tabs of which only the open one is to be drawn. Returns its container; which it is stands in get(name)."""
    names = list(labels)
    value = get(name) if get(name) in labels else names[0]
    _show(key, labels[value])

    def take() -> None:
        put(name, names[list(labels.values()).index(st.session_state[key])])

    return st.tabs(list(labels.values()), key=key, on_change=take)[names.index(value)]


def several(name: str, label: str, options: Mapping[str, str], key: str, help: str | None = None) -> tuple[str, ...]:
    """Any number of a few choices as pills; the common value holds them with commas between. Returns those chosen."""
    key = f"{key}:{','.join(options)}"
    chosen = [each for each in str(get(name)).split(",") if each in options]
    _show(key, chosen)

    def take() -> None:
        put(name, ",".join(each for each in options if each in st.session_state[key]))

    st.pills(
        label,
        list(options),
        selection_mode="multi",
        format_func=options.__getitem__,
        key=key,
        on_change=take,
        help=help,
    )
    return tuple(chosen)


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
            help="For how many of 100 images the right report is in the pool. It is set here, not measured.",
        )
    )


def epsilon_slider(options: Sequence[float], key: str, label: str, help: str) -> float:
    """Epsilon on a slider over given steps; shows the step nearest in ratio, returns the value that is chosen."""
    chosen = float(get("epsilon"))
    far = {step: abs(math.log(min(step, 1e6) / min(chosen, 1e6))) for step in options}
    _show(key, min(options, key=far.__getitem__))

    def take() -> None:
        put("epsilon", f"{st.session_state[key]:g}")

    st.select_slider(label, options, key=key, format_func=epsilon_words, on_change=take, help=help)
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

    st.select_slider(label, options, key=key, format_func=limit_words, on_change=take, help=help)
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
    st.toggle(label, key=key, help=help, on_change=lambda: put(name, on if st.session_state[key] else off))
    return bool(get(name) == on)


def seed_box(key: str, label: str, help: str) -> None:
    """The seed of the noise of a run that can be repeated."""
    _show(key, int(get("seed")))
    st.number_input(label, 0, 999_999_999, key=key, step=1, on_change=_take, args=("seed", key), help=help)


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
        help="Where the images and reports on every page come from.",
    )


def round_pool_sizes(model: str) -> list[int]:
    """100, 1,000 and 10,000 as far as the pool reaches; the largest pool itself where it is under 100."""
    largest = study(cohort(), model).largest_pool
    return [n for n in (100, 1000, 10_000) if n <= largest] or [largest]
