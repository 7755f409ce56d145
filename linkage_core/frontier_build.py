"""Measure every option of the frontier and keep it: heads, releases, and nothing released.

Grids are fixed beforehand. Nothing is chosen on the held-out split: attackers choose on their own, recipients train on
another one, and what the codebook is made of is public.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from linkage_core import attackers, frontier, lab
from linkage_core import utility as usefulness
from linkage_core.cohorts.base import LABELS
from linkage_core.frontier import CONTROL, GROUPS, HEAD, NOTHING
from linkage_core.heads import unit
from linkage_core.release import measured
from linkage_core.release.cap import Cap
from linkage_core.release.codes import LEAST, Codebook, suppress
from linkage_core.release.measured import Mechanism
from linkage_core.store import OFF_THE_SHELF, Entry

Progress = Callable[[str, int, int], None]


def heads(entry: Entry, names: Sequence[str] | None = None, progress: Progress | None = None) -> Entry:
    """Every measured head as an option: its linkage is the lab's, its use is read anew for both groups of findings."""
    listed = lab.frequent(entry)
    rows = lab.heads(entry).set_index("head")
    names = [OFF_THE_SHELF, *lab.head_names(entry)] if names is None else list(names)
    for done, name in enumerate(names):
        if progress:
            progress("heads", done, len(names))
        row = rows.loc[name]
        table = usefulness.utility_table(entry, name, declared=listed, measures=("probe",))
        found = table.set_index("label")
        used = []
        for group in GROUPS:
            one = found.loc[f"{usefulness.MACRO}, {group}"]
            used.append(
                {
                    **{"cohort": entry.cohort, "use": "read", "findings": group},
                    **{f"auroc{end}": one[f"after{end}"] for end in ("", "_low", "_high")},
                    **{f"difference{end}": one[f"difference{end}"] for end in ("", "_low", "_high")},
                    **{"n_patients": one["n_patients"], "trained_on": one["trained_on"]},
                }
            )
        epsilon = float(str(row["epsilon"]))
        option = {
            **{"option": name, "head": name, "kind": row["mechanism"], "seed": row["seed"]},
            "family": HEAD if row["kind"] != "control" else CONTROL,
            "parameter": "" if math.isnan(epsilon) else "epsilon",
            "value": epsilon,
            "listed": len([one for one in str(row["findings"]).split(", ") if one]),
        }
        entry = frontier.keep(entry, option, used=used)
    return entry


def nothing(entry: Entry, public: Entry) -> Entry:
    """Nothing is released: an attacker guesses, and a recipient reads nothing, or trains on what is public anyway."""
    listed = lab.frequent(entry)
    sizes = sorted(lab.linkage(entry).query("attacker == 'worst' and cohort == @entry.cohort")["pool_size"].unique())
    n_queries = len(entry.records(entry.default_split))
    guess = [
        {
            **{"cohort": entry.cohort, "attacker": who, "named": "guessing", "also": "", "pool_size": int(n), "k": 1},
            **{"recall": 1 / n, "recall_low": 1 / n, "recall_high": 1 / n, "chance": 1 / n, "lift": 1.0},
            **{
                "n_queries": n_queries,
                "n_patients": entry.records(entry.default_split)["patient_id"].nunique(),
                "flag": "",
            },
        }
        for n in sizes
        for who in (lab.WORST, "cosine", frontier.OMNISCIENT)
    ]
    probe = public_probe(public)
    used = [*trained_rows(entry, probe, listed, f"{public.cohort}, public"), *_coin(entry, listed)]
    option = {"option": NOTHING, "family": NOTHING, "kind": NOTHING, "parameter": "", "value": math.nan}
    return frontier.keep(entry, option, linked=guess, used=used)


def public_probe(public: Entry) -> Callable[[np.ndarray], np.ndarray]:
    """A reader trained on a public cohort's clean embeddings and labels: unit rows (n, e) -> (n, 14)."""
    records = public.records(public.default_split)
    clean = unit(public.heads().image(public.features("image", records["record_id"])))
    states = usefulness.states_of(records)
    return usefulness.train_probe(clean, states, records["patient_id"].to_numpy(str))


def trained_rows(
    entry: Entry,
    reader: Callable[[np.ndarray], np.ndarray],
    listed: Sequence[str],
    trained_on: str,
    *,
    use: str = "trained",
    rows_of: Callable[[np.ndarray], np.ndarray] | None = None,
    train: Entry | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """AUROC of a reader on held-out images by group of findings, beside the clean probe's, paired.

    reader: rows -> (n, 14) scores, NaN for a finding it does not know. rows_of turns the held-out images' clean
    embeddings into what the reader is given (default: as they are). The clean probe comes from `train`'s attacker split
    (default: the entry's own), as everywhere in the lab.
    """
    records = entry.records(entry.default_split)
    clean = unit(entry.heads().image(entry.features("image", records["record_id"])))
    own = (train or entry).records("attacker")
    own_clean = unit(entry.heads().image((train or entry).features("image", own["record_id"])))
    before = usefulness.train_probe(own_clean, usefulness.states_of(own), own["patient_id"].to_numpy(str))
    after = np.asarray(reader(clean if rows_of is None else rows_of(clean)), dtype=np.float64)
    scores = np.stack([before(clean), np.nan_to_num(after)], axis=2)
    known = ~np.isnan(after).any(axis=0) & before.trained
    states = np.where(known, usefulness.states_of(records), np.nan)
    patients = records["patient_id"].to_numpy(str)
    found = usefulness.aurocs(scores, states, patients, seed=seed)
    inside = np.array([name in listed for name in LABELS])
    rows = []
    for group, members in zip(GROUPS, (known & found.enough & inside, known & found.enough & ~inside), strict=True):
        if not members.any():
            continue
        value, draws = found.auroc[members].mean(axis=0), found.draws[:, members].mean(axis=1)
        low, high = np.nanquantile(draws[:, 1], [0.025, 0.975])
        gap = np.nanquantile(draws[:, 1] - draws[:, 0], [0.025, 0.975])
        rows.append(
            {
                **{"cohort": entry.cohort, "use": use, "findings": group, "trained_on": trained_on},
                **{"auroc": value[1], "auroc_low": low, "auroc_high": high, "difference": value[1] - value[0]},
                **{"difference_low": gap[0], "difference_high": gap[1]},
                "n_patients": int(found.patients[members].min()),
            }
        )
    return rows


# ------------------------------------------------------------------------------------------------- released records


def records(
    entry: Entry,
    option: dict[str, Any],
    mechanism: Mechanism,
    ceiling: Callable[[Sequence[int]], pd.DataFrame] | None = None,
    trained: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> Entry:
    """One release of records: every attacker, the ceiling, what is read from it and what is learnt from it.

    `ceiling` gives rows of release.ceiling for pool sizes; `trained` is a reader that a recipient made of released
    records alone, for clean embeddings. The attackers' own split doubles as the labelled data of whoever reads.
    """
    listed = lab.frequent(entry)
    found = measured.attacks(entry, mechanism, option["option"], seed=seed)
    sizes, _ = lab.pool_sizes(found[0].study)
    common = {"cohort": entry.cohort, "k": 1, "also": ""}
    rows: list[dict[str, Any]] = []
    for one in found:
        for row in frontier.dicts(one.study.table(sizes, (1,))):
            rows.append({**row, **common, "attacker": one.attacker, "named": one.attacker})
    for n in sizes:
        worst = attackers.worst_of(found, n, 1, seed)
        rows.append({**worst, "named": worst["attacker"], "attacker": lab.WORST})
    if ceiling is not None:
        for top in frontier.dicts(ceiling(sizes)):
            rows.append(
                {
                    **{**common, "attacker": frontier.OMNISCIENT, "named": "knows every candidate's embedding"},
                    **{name: top[name] for name in ("pool_size", "chance", "lift", "n_queries")},
                    **{f"recall{end}": top[f"ceiling{end}"] for end in ("", "_low", "_high")},
                    **{"n_patients": rows[0]["n_patients"], "flag": ""},
                }
            )
    rng = np.random.default_rng([seed, 21])
    own = entry.records("attacker")
    own_clean = unit(entry.heads().image(entry.features("image", own["record_id"])))
    read = _reader(mechanism, own_clean, usefulness.states_of(own), own["patient_id"].to_numpy(str), rng)
    used = trained_rows(entry, read, listed, f"{entry.cohort}/attacker", use="read")
    if trained is not None:
        used += trained_rows(entry, trained, listed, "released records, one label each")
    return frontier.keep(entry, option, rows, used)


def _reader(
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
    probe = usefulness.train_probe(mechanism.vectors(own, rng), states, patients)
    return lambda clean: probe(mechanism.vectors(clean, rng))


def public_codebook(public: Entry, n_cells: int, listed: Sequence[str] = LABELS, seed: int = 0) -> Codebook:
    """A codebook from a public cohort's embeddings and its labels of the listed findings."""
    records = public.records(public.default_split)
    clean = unit(public.heads().image(public.features("image", records["record_id"])))
    states = usefulness.states_of(records)
    states[:, [name not in listed for name in LABELS]] = np.nan
    about = {"public": public.cohort, "findings": list(listed)}
    patients = records["patient_id"].to_numpy(str)
    return Codebook.build(clean, states, n_cells, patients=patients, seed=seed, about=about)


def coded(book: Codebook, least: int = LEAST) -> Mechanism:
    """What everybody knows of a codebook: the cell, and its centre as the vector. Cells below `least` say nothing."""

    def cells(rows: np.ndarray) -> np.ndarray:
        return suppress(book.assign(unit(rows)), least)

    def vectors(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found = cells(rows)
        return np.where(found[:, None] >= 0, book.centres[found], 0.0).astype(np.float32)

    return Mechanism(vectors, 0.0, cells, book.n_cells)


def capped(cap: Cap) -> Mechanism:
    """Unbiased for the embedding, r / gain, with the standard deviation of a coordinate as if it were alike in all."""

    def vectors(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(cap.release(unit(rows), rng) / cap.gain, dtype=np.float32)

    return Mechanism(vectors, math.sqrt(max(1 / cap.gain**2 - 1, 0.0) / cap.dimension))


def _coin(entry: Entry, listed: Sequence[str]) -> list[dict[str, Any]]:
    """Nothing can be read from nothing: every AUROC is a half."""
    rows = trained_rows(entry, lambda clean: np.zeros((len(clean), len(LABELS))), listed, "nothing", use="read")
    for row in rows:
        row["auroc"] = row["auroc_low"] = row["auroc_high"] = 0.5
    return rows
