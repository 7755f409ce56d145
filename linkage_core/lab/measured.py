"""The mitigation lab: finetuned heads of one entry, attacked and used, as tidy tables.

Two numbers, never one: `heads` says what a mechanism would guarantee for the pairs it was trained on, `linkage` what
attackers achieve on held-out patients, `utility` what can still be read. Tables and clipped sums are files of the entry
(`lab/linkage.parquet`, `lab/utility.parquet`, `sums-<mechanism>-<unit>.safetensors`), in its manifest with their
sha256.

Nothing is chosen on the held-out split: recipes are finetune's defaults, attackers and probes choose on the attacker's
own split. The worst attacker is the best in pools of a hundred, the same for every N (attack.worst_of).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from linkage_core.attacks import attack
from linkage_core.attacks.attack import Attack
from linkage_core.attacks.attackers import ATTACKERS, COSINE, EMBEDDINGS, EVERYTHING, IMAGES, allowed
from linkage_core.attacks.held import Known, hold
from linkage_core.audit.study import Study
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, StoreError
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation import finetune as finetuning
from linkage_core.mitigation.finetune import Options
from linkage_core.mitigation.mechanisms import MECHANISMS
from linkage_core.mitigation.training import Training
from linkage_core.progress import Progress, silent
from linkage_core.ranking import pools
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.files import read_table, write_table
from linkage_core.utility import table as usefulness
from linkage_core.utility.prompts import Prompts, prompts_of

EPSILONS = (0.1, 0.34, 1.0, 3.0, 10.0, math.inf)
"""Of mechanisms that are trained step by step."""
STEPS = (0.05, 0.07, 0.1, 0.15, 0.23, 0.34, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
"""Of one-shot mechanisms: the slider."""
POOL_SIZES = (100, 1000, 10_000)
KNOWN: tuple[Known, ...] = ("all", 5000, 1000, 100)
WORST = "worst"
ILLUSTRATION = (
    "A reproducible run stores the seed of its noise, so it guarantees nothing: an illustration. Run again with fresh, "
    "secret noise, the same mechanism would have this epsilon."
)

LINKAGE, UTILITY = "lab/linkage.parquet", "lab/utility.parquet"

HEAD_COLUMNS = (
    *("head", "mechanism", "like", "kind", "epsilon", "delta", "unit", "seed", "accuracy", "private", "reproducible"),
    *("claim", "findings", "says"),
)
COLUMNS = (
    *("head", "mechanism", "like", "epsilon", "seed", "cohort", "release", "attacker", "named", "m"),
    *("pool_size", "k", "recall", "recall_low", "recall_high", "chance", "lift", "n_queries", "n_patients", "flag"),
)
UTILITY_COLUMNS = (
    *("head", "mechanism", "like", "epsilon", "seed"),
    *(name for name in usefulness.COLUMNS if name not in ("head", "seed")),
)


# --------------------------------------------------------------------------------------------------------- reading


def heads(entry: Entry) -> pd.DataFrame:
    """Every stored head and what is said of it, off-the-shelf first.

    HEAD_COLUMNS: epsilon is that of the mechanism with secret noise (inf: no noise; NaN: a control that has none); for
    `paper` the reported one and for noise-only that of the noise, which establish nothing: there, as without noise,
    `accuracy` is NaN. accuracy: best share of right answers to "was this unit used?" at even odds. `private` is False
    for a reproducible run, whose accuracy is an illustration (ILLUSTRATION). seed is <NA> where none was kept.
    """
    rows: list[dict[str, Any]] = [
        {
            "head": OFF_THE_SHELF,
            "mechanism": OFF_THE_SHELF,
            "like": "",
            "kind": "control",
            "epsilon": np.nan,
            "delta": np.nan,
            "unit": "",
            "seed": None,
            "accuracy": np.nan,
            "private": False,
            "reproducible": False,
            "claim": "none: the model as it came",
            "findings": "",
            "says": "the model as it came",
        }
    ]
    for name in head_names(entry):
        record = entry.head_record(name)
        rows.append(
            {
                **_said(name, record),
                "kind": _kind(record),
                "delta": float("nan") if record.get("delta") is None else float(record["delta"]),
                "unit": record.get("unit") or "",
                "accuracy": _accuracy(record),
                "private": bool(record.get("private")),
                "reproducible": bool(record.get("reproducible")),
                "claim": record.get("claim", ""),
                "findings": ", ".join(record.get("findings") or ()),
                "says": record.get("says", ""),
            }
        )
    return pd.DataFrame(rows)[list(HEAD_COLUMNS)].astype({"seed": "Int64"})


def head_names(entry: Entry) -> list[str]:
    """Finetuned heads of an entry whose files are as they were written, in the order of their names."""
    return [name for name in _taken(entry) if not _problem(entry, name)]


def damaged_heads(entry: Entry) -> list[str]:
    """A sentence for each finetuned head whose file is not as it was written: no row of any table is of it."""
    found = ((name, _problem(entry, name)) for name in _taken(entry))
    return [f"The head {name} is left out. {problem}" for name, problem in found if problem]


def _taken(entry: Entry) -> list[str]:
    """Names of finetuned heads, whether their files are whole or not."""
    files = (name.removeprefix("heads/").removesuffix(".safetensors") for name in _heads_of(entry))
    return sorted(name for name in files if name != OFF_THE_SHELF)


def _problem(entry: Entry, name: str) -> str:
    try:
        entry.file(f"heads/{name}.safetensors")
    except StoreError as error:
        return str(error)
    return ""


def linkage(entry: Entry) -> pd.DataFrame:
    """What was measured (COLUMNS); no rows where nothing was, or where the head was replaced since.

    One row for each head, cohort, release, attacker, m and N (k = 1): recall with its patient-clustered 95% interval.
    attacker is a key of ATTACKERS or "worst": then `named` says who. The release raw-images does not depend on a head
    and stands with off-the-shelf.
    """
    return table_of(entry, LINKAGE, COLUMNS)


def utility(entry: Entry) -> pd.DataFrame:
    """utility.utility_table of every measured head (UTILITY_COLUMNS); no rows where nothing was."""
    return table_of(entry, UTILITY, UTILITY_COLUMNS)


def prepared(entry: Entry, mechanism: str, unit_of: str = "patient") -> oneshot.Prepared | None:
    """Clipped sums kept in the entry for a one-shot mechanism, or None.

    Raises InputError for a mechanism that is none.
    """
    oneshot.form_of(mechanism)
    relative = finetuning.sums_file(mechanism, unit_of)
    if relative not in entry.manifest["files"]:
        return None
    return _prepared(entry.file(relative), entry.manifest["files"][relative]["sha256"])


@lru_cache(maxsize=4)
def _prepared(path: Any, sha256: str) -> oneshot.Prepared:
    return oneshot.Prepared.read(path)


def table_of(entry: Entry, relative: str, columns: Sequence[str]) -> pd.DataFrame:
    """Rows of a table of the lab whose head is still the one that was measured; none of an earlier rule."""
    if relative not in entry.manifest["files"]:
        return pd.DataFrame(columns=list(columns))
    table = read_table(entry.file(relative))
    if of_earlier_rule(table):
        return pd.DataFrame(columns=list(columns))
    now = table["head"].map({name: hash_of(entry, name) for name in (OFF_THE_SHELF, *head_names(entry))})
    return table.loc[table["head_sha256"] == now, list(columns)].reset_index(drop=True)


def of_earlier_rule(table: pd.DataFrame) -> bool:
    """Whether a table of linkage has a worst attacker that was chosen anew at each N, which flattered mitigations."""
    return "also" in table


def hash_of(entry: Entry, name: str) -> str:
    """What tells a stored head from the one of the same name that replaces it."""
    return str(entry.manifest["files"][f"heads/{name}.safetensors"]["sha256"])[:16]


def _heads_of(entry: Entry) -> list[str]:
    return [name for name in entry.manifest["files"] if name.startswith("heads/")]


# ------------------------------------------------------------------------------------------ what a record tells


def _said(name: str, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "head": name,
        "mechanism": record.get("mechanism") or (OFF_THE_SHELF if name == OFF_THE_SHELF else "unknown"),
        "like": record.get("like") or "",
        "epsilon": _epsilon(record),
        "seed": record.get("seed"),
    }


def _epsilon(record: dict[str, Any]) -> float:
    """Of the mechanism's noise, as asked for: what follows from the run is within a thousandth of it."""
    if record.get("sigma") is None:
        return math.nan
    if record["sigma"] == 0:
        return math.inf
    for name in ("epsilon", "reported_epsilon", "noise_of_epsilon"):
        if record.get(name) is not None:
            value = float(record[name])
            near = [step for step in (*EPSILONS, *STEPS) if math.isclose(step, value, rel_tol=1e-3)]
            return near[0] if near else value
    return math.nan


def _kind(record: dict[str, Any]) -> str:
    known = MECHANISMS.get(str(record.get("mechanism")))
    return known.kind if known else "control"


def _accuracy(record: dict[str, Any]) -> float:
    if _kind(record) != "private" or not record.get("sigma"):
        return math.nan
    kept = record.get("accuracy")
    return accounting.Run.of_record(record).accuracy if kept is None else float(kept)


# -------------------------------------------------------------------------------------------- training, measuring


def train(
    entry: Entry,
    mechanism: str,
    options: Options,
    name: str = "",
    progress: Progress = silent,
    *,
    training: Training | None = None,
    replace_it: bool = False,
) -> str:
    """Finetune heads (finetune.finetune) and keep them in the entry with their record; returns their name.

    A name that is taken is refused before anything is trained, unless `replace_it`. An exception raised by `progress`
    stops the training, and nothing is kept.
    """
    name = name or finetuning.default_name(mechanism, options)
    now = entry.again()
    if name in _taken(now) and not replace_it:
        raise InputError(f"{entry.cohort}/{entry.model} already has a head {name!r}.", "Replace it, or name another.")
    made, record = finetuning.finetune(now, mechanism, options, name=name, training=training, progress=progress)
    accuracy = _accuracy(record)
    now.add_head(name, made, record | ({} if math.isnan(accuracy) else {"accuracy": accuracy}), replace=replace_it)
    return name


def measure(
    entry: Entry,
    name: str = OFF_THE_SHELF,
    *,
    externals: Sequence[Entry] = (),
    known: Sequence[Known] = KNOWN,
    seed: int = 0,
    progress: Progress = silent,
) -> Entry:
    """As `found`, into the entry's tables in place of earlier rows of the same head and cohort; the entry that knows
    them is returned."""
    return keep(entry, name, found(entry, name, externals=externals, known=known, seed=seed, progress=progress))


def found(
    entry: Entry,
    name: str = OFF_THE_SHELF,
    *,
    externals: Sequence[Entry] = (),
    known: Sequence[Known] = KNOWN,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Attack and use one stored head, on the entry's own held-out patients and on external cohorts as it is: rows of
    `linkage` and of `utility`, before they are kept.

    `known`: own images of whoever is shown by m (Attacker.by_m); others use their whole split. Another cohort
    gets the attackers, probes and heads of this entry, nothing is trained anew. seed: of bootstrap, folds and output
    noise. Raises InputError as attackers.hold does, such as for a head that has seen the held-out patients.
    """
    steps = [entry, *externals]
    rows, used = [], []
    for done, cohort in enumerate(steps):
        source = None if cohort is entry else entry

        def tell(who: str, share: float, done: int = done) -> None:
            progress(f"{name}: {who}", round(100 * (done + share)), 100 * len(steps))

        tell("attackers", 0.0)
        # matrices are small: more threads only wait, for three times as long
        with threadpool_limits(1, user_api="blas"):
            rows.append(_attacked(cohort, name, source, known if source is None else ("all",), seed, tell))
            measures = _measures(cohort)
            if measures:
                tell("use", 0.95)
                prompts = _prompts(entry)
                used.append(
                    usefulness.utility_table(cohort, name, source=source, measures=measures, prompts=prompts, seed=seed)
                )
    progress(f"{name}: attackers and use", 100 * len(steps), 100 * len(steps))
    return pd.concat(rows, ignore_index=True), pd.concat(used, ignore_index=True) if used else pd.DataFrame()


def keep(entry: Entry, name: str, rows: tuple[pd.DataFrame, pd.DataFrame]) -> Entry:
    """Write what was `found` of a head; InputError where the head was replaced meanwhile."""
    linked, used = rows
    entry = append(entry, LINKAGE, COLUMNS, name, linked)
    return append(entry, UTILITY, UTILITY_COLUMNS, name, used) if len(used) else entry


def measured(entry: Entry, name: str, cohort: str = "") -> bool:
    """Whether `linkage` has this head on this cohort (default: the entry's own)."""
    table = linkage(entry)
    return bool(((table["head"] == name) & (table["cohort"] == (cohort or entry.cohort))).any())


def _attacked(
    entry: Entry,
    name: str,
    source: Entry | None,
    known: Sequence[Known],
    seed: int,
    tell: Callable[[str, float], None] | None = None,
) -> pd.DataFrame:
    """All rows of one head on one cohort. `tell` hears of each attacker before it starts, and the share done."""
    held = hold(entry, name, source=source, seed=seed)
    made: dict[tuple[str, str, bool], Attack | None] = {}
    by_release: dict[str, list[Attack]] = {}

    def one_of_all(attacker: str, release: str, m: Known) -> Attack | None:
        make = partial(attack.attack, entry, name, attacker, release, m, seed, source=source, held=held)
        return attack.unless_foreign(attacker, make)

    plan = [
        (release, attacker, m)
        for release in (EVERYTHING, EMBEDDINGS)
        for attacker in allowed(release, name)
        if attack.acts(attacker, held)
        for m in (known if ATTACKERS[attacker].by_m else ("all",))
        if m == "all" or m < len(held.own_group)
    ]
    for done, (release, attacker, m) in enumerate(plan):
        if tell:
            tell(attacker, 0.9 * done / len(plan))
        # without output noise the heads add nothing to what one of ours with all his own images has
        apart = held.noise > 0 or bool(ATTACKERS[attacker].package)
        key = (attacker, str(m), apart and release == EMBEDDINGS)
        if key not in made:
            made[key] = one_of_all(attacker, release, m)
        one = made[key]
        if one is not None:
            by_release.setdefault(release, []).append(replace(one, release=release))
    if name == OFF_THE_SHELF:
        able = [attacker for attacker in allowed(IMAGES) if attack.acts(attacker, held)]
        raw = [one for attacker in able if (one := one_of_all(attacker, IMAGES, "all")) is not None]
        # whoever has the images can make the public embeddings too
        public = [replace(one, release=IMAGES) for one in by_release[EVERYTHING] if one.m == "all"]
        by_release[IMAGES] = [*raw, *public]
    return pd.concat([_rows(found, seed) for found in by_release.values()], ignore_index=True)


def _rows(found: Sequence[Attack], seed: int) -> pd.DataFrame:
    """Every attacker at POOL_SIZES, cosine and the worst at every step of the slider."""
    some, steps = pool_sizes(found[0].study)
    tables = []
    for one in found:
        if one.release == IMAGES and IMAGES not in ATTACKERS[one.attacker].holds:
            continue  # its rows stand with the off-the-shelf embeddings
        table = one.study.table(steps if one.attacker == COSINE else some, (1,))
        tables.append(table.assign(attacker=one.attacker, release=one.release, m=str(one.m), named=one.attacker))
    whole = [one for one in found if one.m == "all"]
    worst = [attack.worst_of(whole, size, 1, seed) for size in steps]
    tables.append(pd.DataFrame(worst).rename(columns={"attacker": "named"}).assign(attacker=WORST))
    return pd.concat(tables, ignore_index=True)


def pool_sizes(study: Study) -> tuple[list[int], list[int]]:
    """(POOL_SIZES, 1-2-5 steps) up to the largest pool that every query can fill."""
    common = study.common_pool
    steps = pools.log_pool_sizes(common)
    return [n for n in POOL_SIZES if n <= common] or steps[-1:], steps


def _measures(entry: Entry) -> tuple[str, ...]:
    """What can be measured of the use: nothing without labels."""
    has_labels = not entry.records(entry.tested_split)[list(LABELS)].isna().all(axis=None)
    return tuple(usefulness.MEASURES) if has_labels else ()


@lru_cache(maxsize=4)
def _prompts(entry: Entry) -> Prompts:
    return prompts_of(entry)


def append(entry: Entry, relative: str, columns: Sequence[str], name: str, rows: pd.DataFrame) -> Entry:
    """Write rows of one head in place of its earlier ones, with the hash of the head that they are about.

    Raises InputError where the head was replaced since `entry` was opened.
    """
    now = entry.again()
    if hash_of(now, name) != hash_of(entry, name):
        raise InputError(f"The head {name!r} was replaced while it was measured.", "Measure it again.")
    before, said = table_of(now, relative, columns), _said(name, now.head_record(name))
    rows = rows.drop(columns="seed", errors="ignore").assign(**said)
    again = before["head"].eq(said["head"]) & before["cohort"].isin(rows["cohort"].unique())
    parts = [part for part in (before[~again], rows) if len(part)]
    table = pd.concat([part.reindex(columns=list(columns)).astype({"seed": "Int64"}) for part in parts])
    table["head_sha256"] = table["head"].map(lambda name: hash_of(now, name))
    return now.add_file(relative, lambda path: write_table(path, table.reset_index(drop=True)))


# --------------------------------------------------------------------------------------------------- the whole grid
