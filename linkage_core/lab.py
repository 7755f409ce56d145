"""The mitigation lab: finetuned heads of one entry, attacked and used, as tidy tables.

Two numbers, never one: `heads` says what a mechanism would guarantee for the pairs it was trained on, `linkage` what
attackers achieve on held-out patients, `utility` what can still be read. Tables and clipped sums are files of the entry
(`lab/linkage.parquet`, `lab/utility.parquet`, `sums-<mechanism>-<unit>.safetensors`), in its manifest with their
sha256.

Nothing is chosen on the held-out split: recipes are finetune's defaults, attackers and probes choose on the attacker's
own split, and the worst attacker is cross-fitted (attackers.worst_of).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from linkage_core import attackers, pools
from linkage_core import utility as usefulness
from linkage_core.attackers import Attack, Known
from linkage_core.audit import Study
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.mitigation import accounting, oneshot
from linkage_core.mitigation import finetune as finetuning
from linkage_core.mitigation.finetune import MECHANISMS, Options, Training
from linkage_core.progress import Progress, silent
from linkage_core.store import OFF_THE_SHELF, Entry, Store, read_table, write_table

EPSILONS = (0.1, 0.34, 1.0, 3.0, 10.0, math.inf)
"""Of mechanisms that are trained step by step."""
STEPS = (0.05, 0.07, 0.1, 0.15, 0.23, 0.34, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
"""Of one-shot mechanisms: the slider."""
SEEDS = (0, 1, 2)
MAIN = (0.34, 1.0, 3.0)
"""Epsilons with several seeds, a noise-only control and the external cohort."""
POOL_SIZES = (100, 1000, 10_000)
KNOWN: tuple[Known, ...] = ("all", 1000, 100)
WORST = "worst"
ILLUSTRATION = (
    "A reproducible run stores the seed of its noise, so it guarantees nothing: an illustration. Run again with fresh, "
    "secret noise, the same mechanism would have this epsilon."
)

LINKAGE, UTILITY = "lab/linkage.parquet", "lab/utility.parquet"
_BY_M = ("known-images", "known-pairs")  # shown at every m

HEAD_COLUMNS = (
    *("head", "mechanism", "like", "kind", "epsilon", "delta", "unit", "seed", "accuracy", "private", "reproducible"),
    *("claim", "findings", "says"),
)
COLUMNS = (
    *("head", "mechanism", "like", "epsilon", "seed", "cohort", "release", "attacker", "named", "also", "m"),
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
    """Finetuned heads of an entry, in the order of their names."""
    files = (name.removeprefix("heads/").removesuffix(".safetensors") for name in _heads_of(entry))
    return sorted(name for name in files if name != OFF_THE_SHELF)


def linkage(entry: Entry) -> pd.DataFrame:
    """What was measured (COLUMNS); no rows where nothing was, or where the head was replaced since.

    One row for each head, cohort, release, attacker, m and N (k = 1): recall with its patient-clustered 95% interval.
    attacker is a key of attackers.ATTACKERS or "worst": then `named` says who, `also` whom one half of the patients
    chose instead. The release raw-images does not depend on a head and stands with off-the-shelf.
    """
    return _table(entry, LINKAGE, COLUMNS)


def utility(entry: Entry) -> pd.DataFrame:
    """utility.utility_table of every measured head (UTILITY_COLUMNS); no rows where nothing was."""
    return _table(entry, UTILITY, UTILITY_COLUMNS)


def prepared(entry: Entry, mechanism: str, unit_of: str = "patient") -> oneshot.Prepared | None:
    """Clipped sums kept in the entry for a one-shot mechanism, or None.

    Raises InputError for a mechanism that is none.
    """
    if mechanism not in oneshot.CLIP:
        raise InputError(f"{mechanism!r} is no one-shot mechanism.", f"They are: {', '.join(oneshot.CLIP)}.")
    relative = finetuning.sums_file(mechanism, unit_of)
    if relative not in entry.manifest["files"]:
        return None
    return _prepared(entry.file(relative), entry.manifest["files"][relative]["sha256"])


@lru_cache(maxsize=4)
def _prepared(path: Any, sha256: str) -> oneshot.Prepared:
    return oneshot.Prepared.read(path)


def _table(entry: Entry, relative: str, columns: Sequence[str]) -> pd.DataFrame:
    """Rows of a table of the lab whose head is still the one that was measured."""
    if relative not in entry.manifest["files"]:
        return pd.DataFrame(columns=list(columns))
    table = read_table(entry.file(relative))
    now = table["head"].map({name: hash_of(entry, name) for name in (OFF_THE_SHELF, *head_names(entry))})
    return table.loc[table["head_sha256"] == now, list(columns)].reset_index(drop=True)


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
    if name in head_names(now) and not replace_it:
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
    """Attack and use one stored head, on the entry's own held-out patients and on external cohorts as it is.

    Rows go into the entry's tables in place of earlier ones of the same head and cohort; the entry that knows them is
    returned. `known`: own images of known-images and known-pairs; all others use their whole split. An external cohort
    gets the attackers, probes and heads of this entry, nothing is trained anew. seed: of bootstrap, folds and output
    noise. Raises InputError as attackers.hold does, such as for a head that has seen the held-out patients.
    """
    said = _said(name, entry.head_record(name))
    steps = [entry, *externals]
    rows, used = [], []
    for done, cohort in enumerate(steps):
        source = None if cohort is entry else entry

        def tell(who: str, share: float, done: int = done) -> None:
            progress(f"{name}: {who}", round(100 * (done + share)), 100 * len(steps))

        tell("attackers", 0.0)
        with threadpool_limits(
            1, user_api="blas"
        ):  # matrices are small: more threads only wait, for three times as long
            rows.append(_attacked(cohort, name, source, known if source is None else ("all",), seed, tell))
            measures = _measures(cohort)
            if measures:
                tell("use", 0.95)
                prompts = _prompts(entry)
                used.append(
                    usefulness.utility_table(cohort, name, source=source, measures=measures, prompts=prompts, seed=seed)
                )
    progress(f"{name}: attackers and use", 100 * len(steps), 100 * len(steps))
    entry = _append(entry, LINKAGE, COLUMNS, said, pd.concat(rows, ignore_index=True))
    return _append(entry, UTILITY, UTILITY_COLUMNS, said, pd.concat(used, ignore_index=True)) if used else entry


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
    held = attackers.hold(entry, name, source=source, seed=seed)
    made: dict[tuple[str, str, bool], Attack] = {}
    by_release: dict[str, list[Attack]] = {}
    plan = [
        (release, attacker, m)
        for release in ("embeddings-and-heads", "embeddings")
        for attacker in attackers.allowed(release, name)
        for m in (known if attacker in _BY_M else ("all",))
        if m == "all" or m < len(held.own_group)
    ]
    for done, (release, attacker, m) in enumerate(plan):
        if tell:
            tell(attacker, 0.9 * done / len(plan))
        # without output noise the heads add nothing to what somebody with all his own images has
        key = (attacker, str(m), held.noise > 0 and release == "embeddings")
        if key not in made:
            made[key] = attackers.attack(entry, name, attacker, release, m, seed, source=source, held=held)
        by_release.setdefault(release, []).append(replace(made[key], release=release))
    if name == OFF_THE_SHELF:
        raw = attackers.attack(entry, name, "raw-images", "raw-images", "all", seed, source=source, held=held)
        # whoever has the images can make the public embeddings too
        public = [replace(one, release="raw-images") for one in by_release["embeddings-and-heads"] if one.m == "all"]
        by_release["raw-images"] = [raw, *public]
    return pd.concat([_rows(found, seed) for found in by_release.values()], ignore_index=True)


def _rows(found: Sequence[Attack], seed: int) -> pd.DataFrame:
    """Every attacker at POOL_SIZES, cosine and the worst at every step of the slider."""
    some, steps = pool_sizes(found[0].study)
    tables = []
    for one in found:
        if one.release == "raw-images" and one.attacker != "raw-images":
            continue
        table = one.study.table(steps if one.attacker == "cosine" else some, (1,))
        tables.append(table.assign(attacker=one.attacker, release=one.release, m=str(one.m), named=one.attacker))
    whole = [one for one in found if one.m == "all"]
    worst = [attackers.worst_of(whole, size, 1, seed) for size in steps]
    tables.append(pd.DataFrame(worst).rename(columns={"attacker": "named"}).assign(attacker=WORST))
    return pd.concat(tables, ignore_index=True).fillna({"also": ""})


def pool_sizes(study: Study) -> tuple[list[int], list[int]]:
    """(POOL_SIZES, 1-2-5 steps) up to the largest pool that every query can fill."""
    common = study.common_pool
    steps = pools.log_pool_sizes(common)
    return [n for n in POOL_SIZES if n <= common] or steps[-1:], steps


def _measures(entry: Entry) -> tuple[str, ...]:
    """What can be measured of the use: nothing without labels."""
    has_labels = not entry.records(entry.default_split)[list(LABELS)].isna().all(axis=None)
    return tuple(usefulness.MEASURES) if has_labels else ()


@lru_cache(maxsize=4)
def _prompts(entry: Entry) -> usefulness.Prompts:
    return usefulness.prompts_of(entry)


def _append(entry: Entry, relative: str, columns: Sequence[str], said: dict[str, Any], rows: pd.DataFrame) -> Entry:
    """Write rows of one head in place of its earlier ones, with the hash of the head that they are about."""
    now = entry.again()
    if hash_of(now, said["head"]) != hash_of(entry, said["head"]):
        raise InputError(f"The head {said['head']!r} was replaced while it was measured.", "Measure it again.")
    before = _table(now, relative, columns)
    rows = rows.drop(columns="seed", errors="ignore").assign(**said)
    again = before["head"].eq(said["head"]) & before["cohort"].isin(rows["cohort"].unique())
    parts = [part for part in (before[~again], rows) if len(part)]
    table = pd.concat([part.reindex(columns=list(columns)).astype({"seed": "Int64"}) for part in parts])
    table["head_sha256"] = table["head"].map(lambda name: hash_of(now, name))
    return now.add_file(relative, lambda path: write_table(path, table.reset_index(drop=True)))


# --------------------------------------------------------------------------------------------------- the whole grid


@dataclass(frozen=True)
class Planned:
    """One head of a grid: how it is made, by whom it is attacked, and whether it goes to the external cohorts."""

    mechanism: str
    options: Options
    name: str
    known: tuple[Known, ...] = ("all",)
    external: bool = False


def planned(mechanism: str, epsilon: float = math.inf, seed: int = 0, **more: Any) -> Planned:
    """A reproducible head of the default name. `known`, `external` and `suffix` (to the name); the rest are Options."""
    known, external, suffix = (
        more.pop(key, usual) for key, usual in (("known", ("all",)), ("external", False), ("suffix", ""))
    )
    options = Options(epsilon=epsilon, seed=seed, **more)
    return Planned(mechanism, options, finetuning.default_name(mechanism, options) + suffix, known, external)


def grid(declared: Sequence[str]) -> list[Planned]:
    """Everything that ships for the phantom, what matters most first. All runs are reproducible, hence not private.

    `declared`: the shorter list of findings whose heads show what becomes of the others.
    """
    label, shot, every = finetuning.LABEL, oneshot.LABEL, KNOWN
    public, moment, paper = finetuning.PUBLIC, oneshot.MOMENT, finetuning.PAPER
    few: dict[str, Any] = {"findings": tuple(declared), "suffix": f"-{len(declared)}findings"}
    rest = [epsilon for epsilon in EPSILONS if epsilon not in MAIN]
    return [
        *(planned(kind, epsilon, known=every, external=True) for epsilon in MAIN for kind in (shot, label)),
        *(planned("noise-only", epsilon, like=kind) for epsilon in MAIN for kind in (shot, label)),
        planned(paper, finetuning.PAPER_EPSILON, known=every, external=True),
        planned("noise-only", finetuning.PAPER_EPSILON, like=paper),
        *(planned(control) for control in ("rotation", "random-heads", "truncate", "output-noise", "concept-span")),
        planned("public-labels"),
        planned("nonprivate", like=label, external=True),
        *(planned(shot, epsilon, **few) for epsilon in MAIN),
        *(planned(label, epsilon, **few) for epsilon in MAIN),
        *(planned(shot, epsilon) for epsilon in STEPS if epsilon not in MAIN),
        *(planned(label, epsilon) for epsilon in rest),
        *(planned(kind, epsilon) for epsilon in MAIN for kind in (moment, public)),
        *(planned(kind, epsilon, seed) for seed in SEEDS[1:] for epsilon in MAIN for kind in (shot, label)),
        *(planned(kind, epsilon) for epsilon in rest for kind in (moment, public)),
        *(planned(label, epsilon, seed) for seed in SEEDS[1:] for epsilon in rest),
    ]


def frequent(entry: Entry, n: int = 7) -> tuple[str, ...]:
    """The n findings most often present in the attacker's split, which is nobody's test, in the order of LABELS."""
    present = (entry.records("attacker")[list(LABELS)] == 1).sum()
    chosen = set(present.sort_values(ascending=False, kind="stable").index[:n])
    return tuple(name for name in LABELS if name in chosen)


def build(
    store: Store,
    cohort: str,
    model: str,
    *,
    externals: Sequence[str] = (),
    training: Training | None = None,
    plan: Iterable[Planned] | None = None,
    findings: Sequence[str] = LABELS,
    progress: Progress = silent,
) -> Entry:
    """Every head of the grid, then every measurement; what is there already is kept, so a killed run goes on.

    Arguments
        externals: cohorts of the store that the main heads are measured on without retraining.
        training: the pairs; by default finetune.training_pairs. A shipped subset is refused.
        plan: default `grid`. findings: those that the kept sums of label-oneshot are about.

    Sums, heads and tables go into the entry of `cohort` and `model`, which is returned.
    """
    entry = store.open(cohort, model)
    training = training or finetuning.training_pairs(entry)
    if training.source.manifest["cohort"].get("subset_of"):
        raise InputError(
            f"{training.source.cohort}/{model} is a subset that ships to try the lab with.",
            "Build from all finetuning pairs: linkage phantom build --lab draws them.",
        )
    plan = list(grid(frequent(entry)) if plan is None else plan)
    others = [store.open(name, model) for name in externals]
    for mechanism in oneshot.CLIP:
        kept = prepared(entry, mechanism)
        if kept is None or kept.about["trained_on"] != training.said():
            entry = finetuning.keep_sums(entry, finetuning.prepare(mechanism, training, findings=findings))
    weights = entry.manifest["model"].get("weights_sha256")
    names = [name for name in head_names(entry) if entry.head_record(name).get("weights_sha256") == weights]
    for done, one in enumerate(plan):
        progress("heads", done, len(plan))
        if one.name not in names:
            acts = one.options.like or one.mechanism
            kept = finetuning.stored_sums(entry, acts, one.options) if acts in oneshot.CLIP else None
            pairs = None if kept else training
            train(entry, one.mechanism, one.options, one.name, training=pairs, replace_it=True)
    progress("heads", len(plan), len(plan))
    entry = store.open(cohort, model)
    steps = [Planned("", Options(), OFF_THE_SHELF, KNOWN, True), *plan]
    for done, one in enumerate(steps):
        progress("heads measured", done, len(steps))
        if not measured(store.open(cohort, model), one.name):
            measure(entry, one.name, externals=others if one.external else (), known=one.known)
    progress("heads measured", len(steps), len(steps))
    return store.open(cohort, model)
