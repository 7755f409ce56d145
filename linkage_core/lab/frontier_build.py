"""Measure every option of the frontier and keep it: heads, releases, and nothing released.

Grids are fixed beforehand. Nothing is chosen on the held-out split: attackers choose on their own, recipients train on
another one, and what the codebook is made of is public.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp, ndtri
from threadpoolctl import threadpool_limits

from linkage_core.attacks import attack
from linkage_core.attacks.attackers import COSINE, READER
from linkage_core.audit.study import Study
from linkage_core.cohorts.base import LABELS
from linkage_core.lab import frontier
from linkage_core.lab import measured as lab
from linkage_core.lab.at_once import at_once
from linkage_core.lab.frontier import CONTROL, GROUPS, HEAD, NOTHING, RELEASE
from linkage_core.lab.grid import frequent
from linkage_core.mitigation import accounting
from linkage_core.mitigation.noise import Seeded
from linkage_core.mitigation.training import Training, training_pairs
from linkage_core.progress import Progress, silent
from linkage_core.release import bounds, measured
from linkage_core.release import ceiling as ceilings
from linkage_core.release.ceiling import UNIFORM
from linkage_core.release.kind import Measured, Mechanism, Options
from linkage_core.release.kinds.statistics import Frame, PatientSums, Query, Start, prepare
from linkage_core.release.table import KINDS
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store
from linkage_core.utility import auroc
from linkage_core.utility import table as usefulness
from linkage_core.utility.probe import Probe, states_of, train_probe


@dataclass(frozen=True)
class Grid:
    """What is measured. limits: cells of a codebook, and L of capped records; `several` of them with every seed.

    lifts: the largest lift of statistics at N = 10,000; epsilons: of one query, with every seed; noises: deviation of
    each coordinate of an embedding. heads: the names to take, by default all.
    """

    limits: Sequence[int] = (2, 3, 5, 10, 20, 30, 50, 100, 300)
    several: Sequence[int] = (30, 100)
    lifts: Sequence[float] = (1.2, 1.5, 2, 3, 5, 10, 20, 30, 50, 100, 300)
    epsilons: Sequence[float] = (0.34, 1.0, 3.0)
    noises: Sequence[float] = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
    seeds: Sequence[int] = (0, 1, 2)
    heads: Sequence[str] | None = None


def build(
    entry: Entry,
    public: Entry,
    training: Training | None = None,
    *,
    grid: Grid | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> Entry:
    """Every option of the frontier; what is there already is kept, so a build that was stopped goes on.

    Arguments
        public: a cohort that recipient and attacker have as well: codebooks, frames and prevalences come from it alone.
        training: the pairs whose patients are summed and whose records teach a reader; default training_pairs.
        processes: how many releases of records are attacked at once.
    """
    training, grid = training or training_pairs(entry), grid or Grid()
    entry = frontier.begun(entry)
    listed = frequent(entry)
    before = clean_probe(training.source, training.split)
    there = set(frontier.options_of(entry)["option"])
    measured_heads = lab.linkage(entry)["head"].unique().tolist()
    names = measured_heads if grid.heads is None else grid.heads
    entry = heads(entry, [name for name in names if name not in there], before=before, progress=progress)
    if NOTHING not in there:
        entry = nothing(entry, public, before)
    sums = {"": sums_of(training, public, [listed, [name for name in LABELS if name not in listed]])}
    sums["all 14 at once"] = sums_of(training, public, [LABELS])
    seen = {name: summed_patients(queries, training) for name, queries in sums.items()}
    plan: list[tuple[dict[str, Any], str, float]] = []
    for seed in grid.seeds:
        for epsilon in grid.epsilons:
            n = sums[""][0].n_patients
            mu = 1 / accounting.gaussian_sigma(epsilon, accounting.delta_for(n)[0])
            option = _option("statistics", "epsilon", epsilon, seed)
            plan.append(({**option, "listed": len(listed)}, "", mu * math.sqrt(2)))
            option = {**option, "option": f"{option['option']}-14findings", "listed": len(LABELS)}
            plan.append((option, "all 14 at once", mu))
    for lift in grid.lifts:
        mu = float(ndtri(lift / 10_000) - ndtri(1 / 10_000)) / bounds.SWAPPED
        plan.append(({**_option("statistics", "limit", lift), "listed": len(listed)}, "", mu))
    for done, (option, which, mu) in enumerate(plan):
        progress("statistics", done, len(plan))
        if option["option"] not in there:
            entry = statistics(entry, option, sums[which], mu, seen[which], before, option["seed"])
    progress("statistics", len(plan), len(plan))
    names = [release.name for release in released(entry, public, grid) if release.name not in there]
    job = partial(_of_records, entry.store.root, entry.cohort, entry.model, public.cohort, training, grid)
    for name, (option, linked_rows, used) in at_once(job, names, processes, partial(progress, "released records")):
        entry = frontier.keep(entry, option | {"option": name}, linked_rows, used)
    return entry


def _of_records(
    root: Path, cohort: str, model: str, public: str, training: Training, grid: Grid, name: str
) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """(option, linkage rows, utility rows) of the release of records of a name; work of a process of its own."""
    store = Store(root)
    entry, beside = store.open(cohort, model), store.open(public, model)
    release = next(one for one in released(entry, beside, grid) if one.name == name)
    mechanism, seed = release.measured.mechanism, release.setting["seed"]
    top = None
    if release.measured.of is not None:
        known = _known(release.measured.of, mechanism, entry)
        top = partial(ceilings.ceiling, entry, known, split=entry.tested_split, seed=seed)
    linked_rows, used = records(entry, release.option, mechanism, top, seed=seed)
    if release.measured.reader is not None:
        before = clean_probe(training.source, training.split)
        more = taught(entry, release.option, mechanism, release.measured.reader, training, before, seed)
        linked_rows, used = linked_rows + more[0], used + more[1]
    return release.option, linked_rows, used


@dataclass(frozen=True)
class Released:
    """A release of records on the frontier: its setting, and how its kind is measured there, made at first use."""

    setting: dict[str, Any]
    measure: Callable[[], Measured]

    @property
    def name(self) -> str:
        return str(self.setting["option"])

    @cached_property
    def measured(self) -> Measured:
        return self.measure()

    @property
    def option(self) -> dict[str, Any]:
        """Its row of frontier.OPTION_COLUMNS."""
        return {**self.setting, "listed": self.measured.listed, "mu": self.measured.mu}


def released(entry: Entry, public: Entry, grid: Grid | None = None) -> Iterator[Released]:
    """Every release of records of the grid, in their order; the arguments are those of `build`."""
    grid, listed = grid or Grid(), tuple(frequent(entry))
    kinds = [(kind, kind.measured) for kind in KINDS.values() if kind.measured is not None]
    for limit in grid.limits:
        for seed in grid.seeds if limit in grid.several else grid.seeds[:1]:
            for kind, measure in kinds:
                if "limit" in kind.takes:
                    options = Options(kind.name, limit=limit, findings=listed, public=public)
                    setting = {**_option(kind.name, "limit", limit, seed), "limit": limit}
                    yield Released(setting, partial(measure, entry, options, seed))
    for kind, measure in kinds:
        if "noise" in kind.takes:
            for sigma in grid.noises:
                options = Options(kind.name, noise=sigma, findings=listed, public=public)
                yield Released(_option(kind.name, "noise", sigma), partial(measure, entry, options, 0))
        elif "limit" not in kind.takes:
            options = Options(kind.name, findings=listed, public=public)
            yield Released(_option(kind.name, "", math.nan), partial(measure, entry, options, 0))


def _option(kind: str, parameter: str, value: float, seed: int = 0) -> dict[str, Any]:
    """Name and setting of a release."""
    set_to = "" if math.isnan(value) else f"-{parameter}{value:g}"
    option = {"option": f"{kind}{set_to}-seed{seed}", "family": RELEASE, "kind": kind, "parameter": parameter}
    return {**option, "value": float(value), "seed": seed}


def _known(of: Any, mechanism: Mechanism, entry: Entry) -> Any:
    """The mechanism as `ceiling` wants it: cells by the codes of the very records."""
    if of != "cells" or mechanism.cells is None:
        return of
    records = entry.records(entry.tested_split)
    clean = entry.clean_images(records["record_id"])
    return ceilings.Cells(mechanism.cells(clean), mechanism.n_cells)


def sums_of(
    training: Training, public: Entry, queries: Sequence[Sequence[str]], of: np.ndarray | None = None
) -> list[PatientSums]:
    """Clipped sums of each query's findings over the training patients; frame, prevalences and start are public.

    of: (n,) whether each record of the public cohort's own split is one of those; default all.
    """
    records = public.records(public.default_split)[slice(None) if of is None else of]
    seen = public.clean_images(records["record_id"])
    known, whose = states_of(records), records["patient_id"].to_numpy(str)
    shares = np.nanmean(known, axis=0)
    frame = Frame.of(seen, public.cohort)
    clean = training.clean_images()
    states = states_of(pd.DataFrame(training.labels, columns=list(LABELS)))
    made = []
    for findings in queries:
        columns = [LABELS.index(name) for name in findings]
        about = {"trained_on": training.said(), "public": public.cohort}
        prevalence = shares[columns].clip(0.001, 0.999)
        made.append(
            prepare(
                clean,
                states[:, columns],
                training.patients,
                findings,
                frame=frame,
                prevalence=prevalence,
                start=Start.of(seen, known[:, columns], whose, frame, public.cohort),
                about=about,
            )
        )
    return made


def heads(
    entry: Entry, names: Sequence[str] | None = None, before: Probe | None = None, progress: Progress = silent
) -> Entry:
    """Every measured head as an option: its linkage is the lab's, its use is read anew for both groups of findings.

    before: a probe that was given everything, the use of releasing all embeddings with all labels.
    """
    listed = frequent(entry)
    rows = lab.heads(entry).set_index("head")
    names = lab.linkage(entry)["head"].unique().tolist() if names is None else list(names)
    for done, name in enumerate(names):
        progress("heads", done, len(names))
        row = rows.loc[name]
        table = usefulness.utility_table(entry, name, declared=listed, measures=("probe",))
        of_label = table.set_index("label")
        used = []
        for group in GROUPS:
            macro = of_label.loc[f"{usefulness.MACRO}, {group}"]
            used.append(
                {
                    "cohort": entry.cohort,
                    "use": "read",
                    "findings": group,
                    **{f"auroc{end}": macro[f"after{end}"] for end in ("", "_low", "_high")},
                    **{f"difference{end}": macro[f"difference{end}"] for end in ("", "_low", "_high")},
                    "n_patients": macro["n_patients"],
                    "trained_on": macro["trained_on"],
                }
            )
        if name == OFF_THE_SHELF and before is not None:
            used += trained_rows(entry, before, listed, "all embeddings and labels, nothing protected", before=before)
        epsilon = float(str(row["epsilon"]))
        option = {
            "option": name,
            "head": name,
            "kind": row["mechanism"],
            "seed": row["seed"],
            "family": HEAD if row["kind"] != "control" else CONTROL,
            "parameter": "" if math.isnan(epsilon) else "epsilon",
            "value": epsilon,
            "listed": len([one for one in str(row["findings"]).split(", ") if one]),
        }
        entry = frontier.keep(entry, option, used=used)
    progress("heads", len(names), len(names))
    return entry


def nothing(entry: Entry, public: Entry, before: Probe | None = None) -> Entry:
    """Nothing is released: an attacker guesses, and a recipient reads nothing, or trains on what is public anyway."""
    listed = frequent(entry)
    records = entry.records(entry.tested_split)
    sizes = sorted(lab.linkage(entry).query("attacker == 'worst' and cohort == @entry.cohort")["pool_size"].unique())
    guess = [
        {
            "cohort": entry.cohort,
            "attacker": who,
            "named": "guessing",
            "pool_size": int(n),
            "k": 1,
            "recall": 1 / n,
            "recall_low": 1 / n,
            "recall_high": 1 / n,
            "chance": 1 / n,
            "lift": 1.0,
            "n_queries": len(records),
            "n_patients": records["patient_id"].nunique(),
            "flag": "",
        }
        for n in sizes
        for who in (lab.WORST, COSINE, frontier.OMNISCIENT)
    ]
    probe = clean_probe(public, public.default_split)
    used = [
        *trained_rows(entry, probe, listed, f"{public.cohort}, public", before=before),
        *_coin(entry, listed),
    ]
    option = {"option": NOTHING, "family": NOTHING, "kind": NOTHING, "parameter": "", "value": math.nan}
    return frontier.keep(entry, option, linked=guess, used=used)


def clean_probe(entry: Entry, split: str, of: np.ndarray | None = None) -> Probe:
    """A reader trained on clean embeddings and labels of one split, nothing protected: unit rows (n, e) -> (n, 14).

    of: (n,) whether each record of the split is used; default all.
    """
    records = entry.records(split)[slice(None) if of is None else of]
    clean = entry.clean_images(records["record_id"])
    return train_probe(clean, states_of(records), records["patient_id"].to_numpy(str))


def trained_rows(
    entry: Entry,
    reader: Callable[[np.ndarray], np.ndarray],
    listed: Sequence[str],
    trained_on: str,
    *,
    use: str = "trained",
    before: Probe | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """AUROC of a reader on held-out images by group of findings, beside a clean probe's, paired.

    reader: clean unit rows (n, e) -> (n, 14) scores, NaN for a finding it does not know. before: the clean probe
    (default: the one of the attacker's split, as everywhere in the lab).
    """
    records = entry.records(entry.tested_split)
    clean = entry.clean_images(records["record_id"])
    before = before or clean_probe(entry, "attacker")
    after = np.asarray(reader(clean), dtype=np.float64)
    scores = np.stack([before(clean), np.nan_to_num(after)], axis=2)
    known = ~np.isnan(after).any(axis=0) & before.trained
    states = np.where(known, states_of(records), np.nan)
    patients = records["patient_id"].to_numpy(str)
    aurocs = auroc.aurocs(scores, states, patients, seed=seed)
    inside = np.array([name in listed for name in LABELS])
    enough = known & aurocs.enough
    rows = []
    for group, members in zip(GROUPS, (enough & inside, enough & ~inside), strict=True):
        if not members.any():
            continue
        value, draws = aurocs.auroc[members].mean(axis=0), aurocs.draws[:, members].mean(axis=1)
        low, high = np.nanquantile(draws[:, 1], [0.025, 0.975])
        gap = np.nanquantile(draws[:, 1] - draws[:, 0], [0.025, 0.975])
        rows.append(
            {
                "cohort": entry.cohort,
                "use": use,
                "findings": group,
                "trained_on": trained_on,
                "auroc": value[1],
                "auroc_low": low,
                "auroc_high": high,
                "difference": value[1] - value[0],
                "difference_low": gap[0],
                "difference_high": gap[1],
                "n_patients": int(aurocs.patients[members].min()),
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------- released records


Found = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Of one option: rows of frontier.LINKAGE_COLUMNS and of frontier.UTILITY_COLUMNS."""


def records(
    entry: Entry,
    option: dict[str, Any],
    mechanism: Mechanism,
    ceiling: Callable[[Sequence[int]], pd.DataFrame] | None = None,
    seed: int = 0,
) -> Found:
    """One release of records: every attacker, the ceiling, and what is read from it.

    `ceiling` gives rows of release.ceiling for pool sizes. The attackers' own split doubles as the labelled data of
    whoever reads.
    """
    rows = linked(entry, option["option"], mechanism, ceiling, seed=seed)
    rng = np.random.default_rng([seed, 21])
    own = entry.records("attacker")
    own_clean = entry.clean_images(own["record_id"])
    read = read_by(mechanism, own_clean, states_of(own), own["patient_id"].to_numpy(str), rng)
    return rows, trained_rows(entry, read, frequent(entry), f"{entry.cohort}/attacker", use="read")


def linked(
    entry: Entry,
    name: str,
    mechanism: Mechanism,
    ceiling: Callable[[Sequence[int]], pd.DataFrame] | None = None,
    *,
    source: Entry | None = None,
    population: str = UNIFORM,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows of frontier.LINKAGE_COLUMNS: every attacker, the worst of them and the ceiling, in the game of limits.

    `source` has the attacker's own split. population: see measured.ask. n_queries counts those of one round.
    """
    found = measured.attacks(entry, mechanism, name, source=source, population=population, seed=seed)
    sizes, _ = lab.pool_sizes(found[0].study)
    common = {"cohort": entry.cohort, "k": 1, "n_queries": _asked(found[0].study)}
    rows: list[dict[str, Any]] = []
    for one in found:
        for row in frontier.dicts(one.study.table(sizes, (1,))):
            rows.append({**row, **common, "attacker": one.attacker, "named": one.attacker})
    for n in sizes:
        worst = attack.worst_of(found, n, 1, seed)
        rows.append({**worst, **common, "named": worst["attacker"], "attacker": lab.WORST})
    if ceiling is not None:
        for top in frontier.dicts(ceiling(sizes)):
            rows.append(
                {
                    **common,
                    "attacker": frontier.OMNISCIENT,
                    "named": "knows every candidate's embedding",
                    **{name: top[name] for name in ("pool_size", "chance", "lift", "n_queries")},
                    **{f"recall{end}": top[f"ceiling{end}"] for end in ("", "_low", "_high")},
                    "n_patients": rows[0]["n_patients"],
                    "flag": "",
                }
            )
    return rows


def _asked(study: Study) -> int:
    """Queries of one round."""
    return len(study.queries) // (measured.ROUNDS if study.pool == UNIFORM else 1)


def taught(
    entry: Entry,
    option: dict[str, Any],
    mechanism: Mechanism,
    reader: Callable[[np.ndarray, np.ndarray], Probe],
    training: Training,
    before: Probe | None = None,
    seed: int = 0,
) -> Found:
    """The same release with one random finding a record, present or not: what it teaches, and whom it gives away.

    reader: released vectors (n, e) and states (n, 14), NaN where not told -> a probe for clean embeddings.
    """
    rng = np.random.default_rng([seed, 31])
    clean = training.clean_images()
    present = training.labels == 1
    states = np.full(present.shape, np.nan)
    which = rng.integers(0, len(LABELS), len(states))
    states[np.arange(len(states)), which] = present[np.arange(len(states)), which]
    probe = reader(mechanism.vectors(clean, rng), states)
    used = trained_rows(entry, probe, frequent(entry), "released records, one finding each", before=before)
    return told(entry, option["option"], mechanism, seed=seed), used


def told(
    entry: Entry, name: str, mechanism: Mechanism, *, population: str = UNIFORM, seed: int = 0
) -> list[dict[str, Any]]:
    """Linkage rows of who is told one random finding of each record, present or not, which doubles the limit.

    The attacker is the reader of the reports: candidates whose report says otherwise come last.
    """
    rng = np.random.default_rng([seed, 32])
    held = measured.hold(entry, mechanism, seed=seed)
    game = measured.ask(held, mechanism, population, seed)
    own = entry.records(entry.tested_split)[list(LABELS)].to_numpy(float)[game.rows] == 1
    known, column = np.zeros((len(own), 2 * len(LABELS))), rng.integers(0, len(LABELS), len(own))
    known[np.arange(len(own)), column + len(LABELS) * ~own[np.arange(len(own)), column]] = 1
    stated = np.column_stack([held.findings == 1, held.findings != 1]).astype(np.float64)
    with threadpool_limits(1, user_api="blas"):
        queries, texts, _, _ = attack.factors(game.held, READER, "all", seed)
        much = 1e3 * max(float(np.abs(queries[:200] @ texts.T).max()), 1e-6)
        counts = game.count(np.column_stack([queries, much * known]), np.column_stack([texts, stated]))
    study = game.study(entry, name, counts, seed)
    common = {"cohort": entry.cohort, "k": 1, "attacker": frontier.LABELLED, "named": READER}
    common |= {"n_queries": _asked(study)}
    return [{**row, **common} for row in frontier.dicts(study.table(lab.pool_sizes(study)[0], (1,)))]


def read_by(
    mechanism: Mechanism, own: np.ndarray, states: np.ndarray, patients: np.ndarray, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """Reads findings off a released record, learnt from released records with labels: clean unit rows -> (n, 14).

    A cell is read as the share of each finding among its records (one count more at the overall share); a vector by a
    logistic probe.
    """
    if mechanism.cells is not None:
        cells = mechanism.cells(own)
        overall = np.nanmean(states, axis=0)
        shares = np.tile(overall, (mechanism.n_cells + 1, 1))  # the last row: suppressed
        for cell in np.unique(cells[cells >= 0]):
            inside = states[cells == cell]
            shares[cell] = (np.nansum(inside, axis=0) + overall) / ((~np.isnan(inside)).sum(axis=0) + 1)
        return lambda clean: shares[mechanism.cells(clean)]  # type: ignore[misc]
    probe = train_probe(mechanism.vectors(own, rng), states, patients)
    return lambda clean: probe(mechanism.vectors(clean, rng))


# ----------------------------------------------------------------------------------------------------- statistics


def statistics(
    entry: Entry,
    option: dict[str, Any],
    queries: Sequence[PatientSums],
    mu: float,
    seen: Sequence[Seen] = (),
    before: Probe | None = None,
    seed: int = 0,
) -> Entry:
    """Noisy sums over patients, answered one query after the other with mu / sqrt(number of queries) each.

    The noise is reproducible, so that the table can be made again: an illustration of a release, not one. `seen` gives
    what attackers reach on them (see `summed_patients`).
    """
    listed = frequent(entry)
    each = mu / math.sqrt(len(queries))
    multiplier = 1 / each
    scores: list[tuple[np.ndarray, Probe]] = []
    for number, sums in enumerate(queries):
        delta, _ = accounting.delta_for(sums.n_patients)
        epsilon = accounting.gaussian_epsilon(multiplier, delta)
        probe = sums.release(epsilon, delta, Seeded(1000 * seed + number)).probe()
        scores.append((np.array([LABELS.index(name) for name in sums.query.findings]), probe))

    def read(clean: np.ndarray) -> np.ndarray:
        found = np.full((len(clean), len(LABELS)), np.nan)
        for columns, probe in scores:
            found[:, columns] = probe(clean)
        return found

    who = {"cohort": entry.cohort, "k": 1, "flag": ""}
    rows = [{**row, **who} for one in seen for row in one.rows(mu, lab.POOL_SIZES)]
    used = trained_rows(entry, read, listed, f"statistics of {queries[0].n_patients:,} patients", before=before)
    return frontier.keep(entry, {**option, "mu": mu}, rows, used)


@dataclass(frozen=True)
class Seen:
    """What attackers reach on summed patients: named, attacker (of frontier), recall at (mu, N) with its error.

    Simulated, `n_pools` pools of patients with `trials` draws of noise each; n_patients there are.
    """

    attacker: str
    named: str
    at: Callable[[float, int], tuple[float, float]]
    n_queries: int
    n_patients: int

    def rows(self, mu: float, sizes: Sequence[int]) -> list[dict[str, Any]]:
        """Columns of frontier.LINKAGE_COLUMNS, one row an N that patients fill."""
        found = []
        for n in sizes:
            if n > self.n_patients:
                continue
            recall, error = self.at(mu, n)
            found.append(
                {
                    "pool_size": n,
                    "attacker": self.attacker,
                    "named": self.named,
                    "chance": 1 / n,
                    "lift": recall * n,
                    "recall": recall,
                    "recall_low": recall - 1.96 * error,
                    "recall_high": recall + 1.96 * error,
                    "n_queries": self.n_queries,
                    "n_patients": self.n_patients,
                }
            )
        return found


def summed_patients(
    queries: Sequence[PatientSums], training: Training, n_pools: int = 6, trials: int = 200, seed: int = 0
) -> list[Seen]:
    """The two attackers of bounds.central and bounds.unpaired, each in the game of its limit, as strong as can be.

    Who knows every other summed patient, and each candidate's images and findings: which of N was summed? What is left
    of the file after taking the others off is that patient's clipped vector c and noise, r = c_J + z / mu in units of
    the clip. And who holds images and reports of all summed patients unpaired, and is told the matching that has the
    target's report and candidate j's exchanged, by which the file differs as told by `_exchanged`. Naming the largest
    posterior is best, so the mean of the largest posterior is the rate of success, and its spread over random pools and
    noise the error of this simulation. Of a patient with several reports the first is exchanged.
    """
    clean = training.clean_images()
    states = states_of(pd.DataFrame(training.labels, columns=list(LABELS)))
    names, whose = np.unique(training.patients, return_inverse=True)
    rows_of = np.split(np.argsort(whose, kind="stable"), np.cumsum(np.bincount(whose))[:-1])
    first = np.array([rows[0] for rows in rows_of])  # the report that is exchanged, with all images it belongs to
    of_first = (training.labels == training.labels[first][whose]) | np.isnan(training.labels)
    of_first = of_first.all(axis=1)

    def vectors(images: np.ndarray, reports: np.ndarray | None = None) -> np.ndarray:
        """Of patients `images` (n,), with the first findings of `reports` (n,) in place of their first."""
        rows = np.concatenate([rows_of[one] for one in images])
        place = np.repeat(np.arange(len(images)), [len(rows_of[one]) for one in images])
        read = rows if reports is None else np.where(of_first[rows], first[reports][place], rows)
        parts = []
        for sums in queries:
            columns = [LABELS.index(name) for name in sums.query.findings]
            part = _contributions(sums.query, clean[rows], states[read][:, columns], place, len(images))
            parts.append(part / (sums.query.clip * math.sqrt(len(queries))))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def simulated(of: Callable[[np.ndarray], np.ndarray]) -> Callable[[float, int], tuple[float, float]]:
        @cache
        def pools_of(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
            """Of each pool, per trial and candidate: the inner product less half the square, and that with noise."""
            rng, found = np.random.default_rng([seed, n]), []
            for _ in range(n_pools):
                c = of(rng.choice(len(names), n, replace=False))
                chosen = rng.integers(0, n, trials)
                signal = c[chosen] @ c.T - 0.5 * np.einsum("ij,ij->i", c, c)
                found.append((signal, rng.standard_normal((trials, c.shape[1]), dtype=np.float32) @ c.T))
            return found

        @cache
        def at(mu: float, n: int) -> tuple[float, float]:
            best = []
            for signal, noise in pools_of(n):
                log_p = mu**2 * signal.astype(np.float64) + mu * noise
                best.append(np.exp(log_p.max(axis=1) - logsumexp(log_p, axis=1)).mean())
            return float(np.mean(best)), float(np.std(best, ddof=1) / math.sqrt(n_pools))

        return at

    asked = n_pools * trials
    return [
        Seen(frontier.OMNISCIENT, "knows every other patient", simulated(vectors), asked, len(names)),
        Seen(
            lab.WORST,
            "holds images and reports unpaired",
            simulated(partial(_exchanged, vectors)),
            asked,
            len(names),
        ),
    ]


def _exchanged(vectors: Callable[[np.ndarray, np.ndarray], np.ndarray], pool: np.ndarray) -> np.ndarray:
    """(n, D) where the sums stand if the first of the pool (n,) has the report of each: see bounds.unpaired.

    vectors: (patients whose images, patients whose findings) -> their clipped contributions.
    """
    target = np.full_like(pool, pool[0])
    moved = vectors(target, pool)
    moved += vectors(pool, target)
    moved -= vectors(pool, pool)
    return moved


def _contributions(
    query: Query, embeddings: np.ndarray, states: np.ndarray, whose: np.ndarray, n_patients: int
) -> np.ndarray:
    """(n_patients, D) clipped vector of each patient; of the symmetric block the upper triangle, its length kept."""
    order = np.argsort(whose, kind="stable")
    factors = query.factors(embeddings[order], states[order])
    starts = np.searchsorted(whose[order], np.arange(n_patients))
    blocks = []
    for name, (a, b) in factors.items():
        upper = np.triu_indices(a.shape[1]) if name == "second" else None
        summed = np.empty((n_patients, a.shape[1] * b.shape[1] if upper is None else len(upper[0])))
        for first in range(0, n_patients, 500):
            rows = slice(starts[first], starts[first + 500] if first + 500 < n_patients else len(a))
            outer = a[rows, :, None] * b[rows, None, :]
            of = np.add.reduceat(outer, starts[first : first + 500] - starts[first], axis=0)
            if upper is not None:
                of = of[:, upper[0], upper[1]] * np.where(upper[0] == upper[1], 1.0, math.sqrt(2))
            summed[first : first + 500] = of.reshape(len(of), -1)
        blocks.append(summed)
    vectors = np.concatenate(blocks, axis=1)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors * np.minimum(1.0, query.clip / np.maximum(norms, 1e-300)))


def _coin(entry: Entry, listed: Sequence[str]) -> list[dict[str, Any]]:
    """Nothing can be read from nothing: every AUROC is a half."""
    rows = trained_rows(entry, lambda clean: np.zeros((len(clean), len(LABELS))), listed, "nothing", use="read")
    for row in rows:
        row["auroc"] = row["auroc_low"] = row["auroc_high"] = 0.5
    return rows
