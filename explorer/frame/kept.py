"""What pages keep between reruns: results of the core, by the state of the files they came from."""

from __future__ import annotations

import functools
import hashlib
import hmac
import inspect
import json
import math
import numbers
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import streamlit as st

from explorer.frame import visitor
from explorer.frame.holding import Held
from linkage_core import shipped
from linkage_core.audit import ceilings, compare, exposure, margins, open_world, outcomes, strata
from linkage_core.audit.examples import Examples
from linkage_core.audit.study import Study
from linkage_core.audit.study import study as make_study
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.lab import frontier, games, measured
from linkage_core.lab import setting as settings
from linkage_core.lab.setting import Live, Setting
from linkage_core.ranking.pools import log_pool_sizes
from linkage_core.release.table import KINDS
from linkage_core.store.entry import Entry, Store
from linkage_core.store.seen import refuse_seen, why_untested

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Lab:
    """lab.heads, lab.linkage, lab.utility and games.games of one entry; `damaged`: a sentence for each head that has
    no row in them, for its file is not what was written."""

    heads: pd.DataFrame
    linkage: pd.DataFrame
    utility: pd.DataFrame
    games: pd.DataFrame
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """frontier.options_of, frontier.linkage and frontier.utility of one entry."""

    options: pd.DataFrame
    linkage: pd.DataFrame
    utility: pd.DataFrame


RELEASE_KINDS = tuple(name for name, kind in KINDS.items() if kind.always_limited)
"""What Mitigation shows beside heads: releases whose linkage is limited for every attacker."""
SEED = 0
"""Of the noise that a picture is drawn with where the cohort is real: the picture repeats, and is no release."""
MOST_COUNTED = 100_000
"""Images for which a page counts what a cautious attacker gains; for more it says how to count it before."""
ANY_PATIENT, SAME_FINDINGS = "other-patients", "same-findings"


# -- the store -------------------------------------------------------------------------------------------------------


def store_root() -> Path:
    """Where the cached embeddings lie: LINKAGE_STORE, or the store that comes along."""
    named = os.environ.get("LINKAGE_STORE")
    return Path(named) if named else shipped.store()


class Visible(Store):
    """The store as the session at hand may see it: who has not shown the token sees synthetic cohorts alone."""

    def cohorts(self) -> list[str]:
        return [name for name in super().cohorts() if visitor.let_in() or _synthetic(self, name)]

    def models(self, cohort: str) -> list[str]:
        return super().models(cohort) if visitor.let_in() or _synthetic(self, cohort) else []

    def open(self, cohort: str, model: str) -> Entry:
        refuse_closed(cohort)
        return super().open(cohort, model)


def store() -> Store:
    return Visible(store_root())


def closed() -> bool:
    """Whether the store has cohorts that this session may not see."""
    return not visitor.let_in() and len(store().cohorts()) < len(Store(store_root()).cohorts())


def refuse_closed(cohort: str) -> None:
    """StoreError for a cohort that this session may not see; it says the same of one that there is none of."""
    if not visitor.let_in() and not _synthetic(Store(store_root()), cohort):
        raise StoreError("No such synthetic cohort is here.", CLOSED)


CLOSED = "Cohorts of real people open with the address that the server printed when it started."


def _synthetic(of: Store, cohort: str) -> bool:
    """Whether everything of a cohort is known to hold nobody real, by the state of its entries."""
    models = Store(of.root).models(cohort)
    return bool(models) and _all_synthetic(str(of.root), cohort, _as_written(cohort, models))


@functools.lru_cache(maxsize=256)
def _all_synthetic(root: str, cohort: str, _written: Hashable) -> bool:
    return visitor.synthetic(Store(Path(root)), cohort)


def _fingerprint(cohort: str, model: str) -> str:
    """Of the manifest's content, which names every file with its hash: "" where there is none. Size and time may be
    those of the manifest before; to read it takes less than a millisecond."""
    try:
        return hashlib.sha256((store_root() / cohort / model / "manifest.json").read_bytes()).hexdigest()
    except OSError:
        return ""


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


@st.cache_resource(show_spinner=False)
def _held() -> Held:
    return Held()


def remembered(
    *, copied: bool = False, of: Callable[[str, Any], tuple[Hashable, ...]] = _as_written
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Keeps what a function of (cohort, model or models, ...) returns until an entry of the store is rewritten.

    The key is `of` those two and the other arguments, defaults among them; one whose name begins with "_" is no part of
    it. `copied`: each caller gets a copy of their own (st.cache_data); else all get the object itself, which nobody may
    change. Both are bounded by bytes over all functions: server.maxCacheDataSize, holding.MOST_BYTES. What raises is
    not kept.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @st.cache_data(show_spinner=False)
        @functools.wraps(function)  # Streamlit tells functions apart by module, name and source
        def copies(*, key: tuple[Hashable, ...], _make: Callable[[], R]) -> R:
            return _make()

        @functools.wraps(function)
        def look_up(*args: P.args, **kwargs: P.kwargs) -> R:
            asked = signature.bind(*args, **kwargs)
            asked.apply_defaults()
            given = asked.arguments
            given.update({name: _plain(value) for name, value in given.items() if not name.startswith("_")})
            cohort, models, *_ = given.values()
            refuse_closed(cohort)
            others = [value for name, value in list(given.items())[2:] if not name.startswith("_")]
            key = (of(cohort, models), *others)

            def make() -> R:
                return function(*asked.args, **asked.kwargs)

            if copied:
                return copies(key=key, _make=make)
            made: R = _held().get((function.__module__, function.__qualname__, *key), make)
            return made

        return look_up

    return decorate


@remembered()
def entry(cohort: str, model: str) -> Entry:
    """One entry of the store, checked. Raises StoreError where it is missing or damaged."""
    return store().open(cohort, model)


@remembered()
def how_many(cohort: str, model: str) -> tuple[int, int]:
    """(studies, patients) of the split that figures are about."""
    opened = entry(cohort, model)
    records = opened.records(opened.default_split)
    return records["study_id"].nunique(), records["patient_id"].nunique()


class Addresses:
    """The keys that name the records of a cohort of real people in addresses.

    They are made with a digest of all its identifiers: the same for whoever has the same records, so that a copied link
    opens there, and for nobody else to be computed from a name that they guess. Eight bytes a record are held.
    """

    def __init__(self, records: pd.DataFrame) -> None:
        secret = hashlib.sha256()
        for name in ("record_id", "patient_id", "study_id"):
            secret.update("\0".join(sorted(records[name].astype(str).unique())).encode(errors="surrogateescape"))
        self._secret = secret.digest()
        self._names = records["record_id"].astype(str)
        keys = np.array([int.from_bytes(self._digest(name)) for name in self._names], dtype=np.uint64)
        self._order = np.argsort(keys).astype(np.int32)
        self._keys = keys[self._order]

    def _digest(self, name: str) -> bytes:
        return hmac.digest(self._secret, name.encode(errors="surrogateescape"), "sha256")[:8]

    def _with(self, key: bytes) -> list[str]:
        """The records of a key: one, or none."""
        number = np.uint64(int.from_bytes(key))
        at = slice(np.searchsorted(self._keys, number), np.searchsorted(self._keys, number, side="right"))
        return [str(self._names.iloc[row]) for row in self._order[at]]

    def key_of(self, record: str) -> str:
        """ "" for one that is not of this cohort."""
        key = self._digest(record)
        return key.hex() if record in self._with(key) else ""

    def record_of(self, key: str) -> str:
        """ "" for what is no key of a record here."""
        if len(key) != 16 or set(key) - set("0123456789abcdef"):
            return ""
        return next(iter(self._with(bytes.fromhex(key))), "")


@remembered(of=_records_of)
def _addresses(cohort: str, model: str) -> Addresses:
    return Addresses(entry(cohort, model).records())


def address_of(cohort: str, model: str, record: str) -> str:
    """What names a record in an address: its id where nobody is real, else an opaque key; empty for one that is not
    of this cohort, or cannot be known to be."""
    try:
        return record if entry(cohort, model).synthetic else _addresses(cohort, model).key_of(record)
    except LinkageError:
        return ""


def record_at(cohort: str, model: str, address: str) -> str:
    """The record that an address names: what address_of says, or its id."""
    try:
        return address if entry(cohort, model).synthetic else _addresses(cohort, model).record_of(address) or address
    except LinkageError:
        return address


@remembered()
def study(cohort: str, model: str, pool: str = ANY_PATIENT) -> Study:
    """The exact counts of one model on one cohort: what every rate is made of. `pool` is named as Study.pool is."""
    kind, *by = pool.split("+")
    return make_study(entry(cohort, model), pool=kind, strata=by)


@remembered()
def tested(cohort: str, model: str) -> Study:
    """The exact counts of a model as it came on those patients that heads are tested on. InputError where they are too
    few for that."""
    opened = entry(cohort, model)
    if problem := why_untested(opened, attackers=False):
        raise problem
    return make_study(opened, split=opened.tested_split)


@remembered()
def examples(cohort: str, model: str, *, held_out: bool = False) -> Examples:
    """Single records with their ranked reports; `held_out`: of those patients alone that heads are tested on."""
    opened = entry(cohort, model)
    if held_out and (problem := why_untested(opened, attackers=False)):
        raise problem
    return Examples(opened, split=opened.tested_split if held_out else None)


@remembered(copied=True)
def table(
    cohort: str, model: str, pool_sizes: Iterable[int], ks: Iterable[int], pool: str = ANY_PATIENT
) -> pd.DataFrame:
    """Study.table, kept: one row per pool size and k."""
    return study(cohort, model, pool).table(list(pool_sizes), list(ks))


@remembered()
def ceiling(cohort: str, model: str, knows: str) -> ceilings.Ceiling | str:
    """ceilings.ceiling over the queries of a model, kept; the sentence that says what their reports do not give."""
    return ceilings.ceiling(study(cohort, model).queries, ceilings.KNOWN[knows])


@remembered()
def ceiling_at(cohort: str, model: str, knows: str, pool_size: int, k: int) -> float | None:
    """The mean of a ceiling at one N, kept; None where their reports do not give it."""
    of = ceiling(cohort, model, knows)
    return None if isinstance(of, str) else of.mean(pool_size, k)


@remembered(copied=True)
def compared(cohort: str, models: Iterable[str], pool: str, pool_size: int, k: int) -> pd.DataFrame:
    """comparisons.compare of models on one cohort, kept: one row a pair, in the order given."""
    return compare.compare([study(cohort, model, pool) for model in models], pool_size, k)


@remembered(copied=True)
def of_pools(cohort: str, model: str, pool: str, pool_sizes: Sequence[int], k: int) -> pd.DataFrame:
    """comparisons.of_pools of any patient's reports and of `pool`, kept."""
    return compare.of_pools([study(cohort, model, each) for each in (ANY_PATIENT, pool)], pool_sizes, k)


@remembered(copied=True)
def label_matched_auc(cohort: str, model: str, pool: str) -> dict[str, Any]:
    """Study.label_matched_auc, kept."""
    return study(cohort, model, pool).label_matched_auc()


@remembered(copied=True)
def strata_offered(cohort: str, model: str) -> tuple[str, ...]:
    """What same-finding decoys can also be matched by."""
    opened = entry(cohort, model)
    return strata.offered(opened.records(opened.default_split))


@remembered(copied=True, of=_records_of)
def verified(cohort: str, model: str, pool: str, _texts: Callable[[], Mapping[str, str]]) -> strata.Verification:
    """strata.verification of a pool of same-finding decoys, kept; `_texts` (report by study id) is called when needed.

    Who is decoy to whom depends on the records alone, so one answer serves every model of the same records.
    """
    decoys = study(cohort, model, pool)
    return strata.verification(decoys.queries, decoys.counts, decoys.strata, texts=_texts())


@remembered()
def _scores(cohort: str, model: str) -> open_world.Scores:
    return open_world.prepare(entry(cohort, model), most=MOST_COUNTED)


@remembered()
def _outcomes(cohort: str, model: str, pool_size: int, rule: str) -> outcomes.Outcomes:
    return _scores(cohort, model).outcomes(pool_size, rule)


@remembered(copied=True)
def missing_match(cohort: str, model: str, pool_size: int, rule: str, prior: int) -> outcomes.OpenWorld:
    """What a cautious attacker gains when the match is in the pool for `prior` of 100 images, kept."""
    return _outcomes(cohort, model, pool_size, rule).at(prior / 100)


@remembered()
def _match_scores(cohort: str, model: str) -> margins.Scores:
    return margins.scores(study(cohort, model))


@remembered()
def exposed(cohort: str, model: str, pool_size: int) -> pd.DataFrame:
    """exposure.exposure, kept: one row a record. Read only: the table itself is kept, not a copy."""
    return exposure.exposure(study(cohort, model), pool_size, _match_scores(cohort, model))


@remembered(copied=True)
def tail(cohort: str, model: str, pool_size: int) -> exposure.Tail:
    """exposure.tail of the most exposed 1%, kept."""
    rows = exposed(cohort, model, pool_size)
    return exposure.tail(rows["p_first"].to_numpy(), rows["patient_id"].to_numpy())


@remembered(copied=True)
def associations(cohort: str, model: str, pool_size: int, attributes: tuple[str, ...] | None = None) -> pd.DataFrame:
    """exposure.associations, kept; of some attributes, p values are adjusted for those alone."""
    rows = exposed(cohort, model, pool_size)
    return exposure.associations(rows, study(cohort, model).queries, attributes=attributes)


@remembered(copied=True)
def exposed_groups(cohort: str, model: str, pool_size: int, by: str) -> pd.DataFrame:
    """exposure.groups, kept."""
    return exposure.groups(exposed(cohort, model, pool_size), study(cohort, model).queries, by)


@remembered()
def lab_tables(cohort: str, model: str) -> Lab:
    """The tables of the mitigation lab, kept. Read only."""
    opened = entry(cohort, model)
    tables = measured.heads(opened), measured.linkage(opened), measured.utility(opened), games.games(opened)
    return Lab(*tables, tuple(measured.damaged_heads(opened)))


@remembered()
def options(cohort: str, model: str) -> Options:
    """Every mitigation that was compared, by option, kept. Read only."""
    opened = entry(cohort, model)
    return Options(frontier.options_of(opened), frontier.linkage(opened), frontier.utility(opened))


@remembered()
def compared_options(cohort: str, model: str, pool_size: int, attacker: str, use: str) -> pd.DataFrame:
    """frontier.frontier, kept: one row an option. Read only."""
    return frontier.frontier(entry(cohort, model), pool_size, attacker, use)


@remembered()
def live(cohort: str, model: str, chosen: Setting, *, signal: bool = True) -> Live:
    """settings.live, kept; with noise that repeats, so that a picture does."""
    return settings.live(entry(cohort, model), _repeatable(chosen), signal=signal)


@remembered(copied=True)
def live_curve(cohort: str, model: str, chosen: Setting, *, signal: bool = True) -> pd.DataFrame:
    """Recall by cosine at every step of N under a one-shot head that is not stored."""
    under = live(cohort, model, chosen, signal=signal).study
    return under.table(measured.pool_sizes(under)[1], (1,))


@remembered(copied=True)
def head_curve(cohort: str, model: str, head: str) -> pd.DataFrame:
    """Recall by cosine at every step of N under a stored head."""
    opened = entry(cohort, model)
    under = make_study(opened, head, split=opened.tested_split)
    return under.table(measured.pool_sizes(under)[1], (1,))


@dataclass(frozen=True)
class Mitigated:
    """Single records under a head; `claim`: what keeps its epsilon from being a guarantee, "" where nothing does."""

    examples: Examples
    claim: str


@remembered()
def mitigated_examples(cohort: str, model: str, chosen: Setting) -> Mitigated:
    """Single records under the chosen mitigation, of those patients alone that heads are tested on. InputError where it
    has to be trained first."""
    if chosen.mechanism in RELEASE_KINDS:
        raise InputError("Only heads can be looked at on single images, and a release is chosen.", "Choose a head.")
    opened, before = entry(cohort, model), examples(cohort, model, held_out=True)
    heads = lab_tables(cohort, model).heads
    name = settings.stored(heads, chosen)
    if name is not None:
        made_by = opened.head_record(name)
        trained = json.dumps([made_by.get("trained_on"), made_by.get("public")], sort_keys=True, default=str)
        _refuse_seen(cohort, model, before.split, trained, name)
        row = heads[heads["head"] == name].iloc[0]
        return Mitigated(before.under(name, opened.heads(name)), _claim_of(row))
    if not chosen.one_shot:
        at = "without noise" if math.isinf(chosen.epsilon) else f"at ε = {chosen.epsilon:g}"
        raise InputError(
            f"This head has to be trained, and none is stored for it {at}.",
            "Train it on Mitigation, or choose another ε or one that is instant.",
        )
    made, _ = settings.made_now(opened, _repeatable(chosen))
    claim = "No noise, no guarantee."
    if not math.isinf(chosen.epsilon):
        claim = "Illustration: its noise repeats, no guarantee."
    return Mitigated(before.under(chosen.name(), made), claim)


@remembered(copied=True)
def _refuse_seen(cohort: str, model: str, split: str, trained: str, _head: str) -> None:
    """seen.refuse_seen, asked once for all heads that the same patients trained: `trained` says who they were."""
    refuse_seen(entry(cohort, model), _head, split)


def _claim_of(head: pd.Series) -> str:
    """What keeps the epsilon of a stored head (a row of lab.heads) from being a guarantee."""
    if math.isinf(head["epsilon"]):
        return "No noise, no guarantee."
    if math.isnan(head["accuracy"]):
        return "No guarantee: its ε is not established."
    return "Illustration: its noise repeats, no guarantee." if head["reproducible"] else ""


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
