"""Measure every option of the frontier and keep it: heads, releases, and nothing released.

Grids are fixed beforehand. Nothing is chosen on the held-out split: attackers choose on their own, recipients train on
another one, and what the codebook is made of is public.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from linkage_core import frontier, lab
from linkage_core import utility as usefulness
from linkage_core.cohorts.base import LABELS
from linkage_core.frontier import CONTROL, GROUPS, HEAD, NOTHING
from linkage_core.heads import unit
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


def _coin(entry: Entry, listed: Sequence[str]) -> list[dict[str, Any]]:
    """Nothing can be read from nothing: every AUROC is a half."""
    rows = trained_rows(entry, lambda clean: np.zeros((len(clean), len(LABELS))), listed, "nothing", use="read")
    for row in rows:
        row["auroc"] = row["auroc_low"] = row["auroc_high"] = 0.5
    return rows
