"""What is a release worth to its recipient? A probe from the release alone, tested on the recipient's own embeddings.

The recipient has images of own patients with labels, and the same public encoder. `statistics` holds a probe in itself.
Records that carry the state of one finding each train one: a code stands for the mean of its cell, a capped direction
for its embedding under noise of known law. Without labels there is nothing to train; codes then still give what their
public codebook reads off each cell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.ranking import intervals
from linkage_core.release import folder
from linkage_core.release.certificate import Certificate
from linkage_core.release.records import TABLE
from linkage_core.release.table import kind_of
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.utility import auroc
from linkage_core.utility.probe import Probe, states_of, train_probe
from linkage_core.utility.table import MACRO

COLUMNS = ("label", "auroc", "auroc_low", "auroc_high")
OWN = (*("own", "own_low", "own_high", "difference", "difference_low", "difference_high"),)
COUNTS = ("n", "n_positive", "n_patients", "flag", "trained_on")


def receive(
    path: Path,
    entry: Entry,
    split: str | None = None,
    *,
    train_split: str | None = None,
    missing: str = "negative",
    seed: int = 0,
) -> pd.DataFrame:
    """Check a release folder, train from it alone, and read `entry`'s embeddings of `split` with the result.

    Arguments
        entry: the recipient's own, by the release's model; a split of the released records themselves would be read by
            a probe that was made from them. split: default the entry's own.
        train_split: another split of the entry, whose labels train a probe of the recipient's own, for comparison.
        missing: "negative" or "left out", see utility.states_of. seed: of folds and bootstrap.

    Returns one row for each finding the release knows, and "macro" over those with at least 30 patients of each class:
    COLUMNS, with a train_split also OWN (the recipient's own probe, and release less own, paired), and COUNTS.
    Intervals are 95% bootstrap over patients. `flag` is "too few to say", "not trained", or why there is nothing.
    `trained_on` says what it was trained on, and where the figures flatter (`caution`). Raises InputError and
    StoreError as folder.check; InputError for another model, and for patients in both splits.
    """
    found = folder.check(Path(path))
    head = _require_model(found, entry)
    split = split or entry.default_split
    records = entry.records(split)
    states = states_of(records, missing)
    patients = records["patient_id"].to_numpy(str)
    images = _embeddings(entry, head, records)
    trained_on, probe = reader(Path(path), found, seed)
    if probe is None:
        empty = dict.fromkeys((*COLUMNS[1:], *(OWN if train_split else ())), np.nan)
        return pd.DataFrame(
            [{"label": MACRO, **empty, "n": 0, "n_positive": 0, "n_patients": 0, "flag": trained_on, "trained_on": ""}]
        )
    if caution(found, entry) is not None:
        trained_on += "; these patients helped, so it flatters"
    columns, trained = [probe(images)], probe.trained
    if train_split is not None:
        own = _own_probe(entry, head, train_split, patients, missing, seed)
        columns.append(own(images))
        trained = trained & own.trained
    states = np.where(trained, states, np.nan)
    aurocs = auroc.aurocs(np.stack(columns, axis=2), states, patients, seed=seed)
    listed = found.findings or tuple((found.content["one_label"] or {}).get("findings", LABELS))
    rows = []
    for name in listed:
        place = LABELS.index(name)
        few = intervals.flag(int(aurocs.patients[place]), float(aurocs.in_effect[place]))
        flag = few if trained[place] else "not trained"
        rows.append(_row(aurocs, np.array([place]), name, flag, trained_on))
    enough = np.flatnonzero(trained & aurocs.enough & np.isin(LABELS, listed))
    flag = "" if len(enough) else "no finding with enough patients"
    rows.append(_row(aurocs, enough, MACRO, flag, trained_on))
    return pd.DataFrame(rows)[[*COLUMNS, *(OWN if train_split else ()), *COUNTS]]


def caution(found: Certificate, entry: Entry) -> str | None:
    """Why figures on this entry flatter, None where they do not: its labels made the public part of the release, the
    codebook or the start of a probe, so what is tested has been seen."""
    public = str(found.content["mechanism"].get("public", "")).rpartition(" (")[0]
    if public != entry.cohort:
        return None
    return f"{public} also made the public part of this release, so these figures flatter: test on other patients."


# ----------------------------------------------------------------------------------------------------------- readers


def reader(path: Path, found: Certificate, seed: int = 0) -> tuple[str, Probe | None]:
    """(what it was trained on, a probe of the 14 findings) from a checked folder; (why not, None) where none can be
    trained. A finding that the release does not know is not `trained`."""
    kind, carried = kind_of(found.kind), found.content["one_label"]
    if not carried:
        if kind.reader is None:
            return "nothing to train: the release carries no labels", None
        said, findings, probe = kind.reader(path)
        return said, None if probe is None else _of_all(findings, probe)
    if kind.taught is None:
        return "nothing to train: nobody knows how from such records", None
    findings = tuple(carried["findings"])
    table = pq.read_table(path / TABLE)
    which = table.column("finding").to_numpy()
    states = np.full((len(table), len(findings)), np.nan)
    states[np.arange(len(table)), which] = table.column("present").to_numpy(zero_copy_only=False)
    said, probe = kind.taught(path, found.content["mechanism"], states, seed)
    return said, _of_all(findings, probe)


def _of_all(findings: tuple[str, ...], probe: Probe) -> Probe:
    """The same with a column for each of the 14 findings."""
    places = [LABELS.index(name) for name in findings]
    weights = np.zeros((len(probe.mean), len(LABELS)))
    penalty, trained = np.full(len(LABELS), np.nan), np.zeros(len(LABELS), dtype=bool)
    weights[:, places], penalty[places], trained[places] = probe.weights, probe.penalty, probe.trained
    return Probe(probe.mean, weights, penalty, trained)


# ----------------------------------------------------------------------------------------------------- the recipient


def _require_model(found: Certificate, entry: Entry) -> str:
    """The head of the release, which the entry must have; InputError for another model."""
    cohort = found.content["cohort"]
    if entry.model != cohort["model"]:
        raise InputError(
            f"The release is of {cohort['model']}, and {entry.cohort}/{entry.model} is another model.",
            f"Embed your images with {cohort['model']}.",
        )
    head = str(cohort.get("head", OFF_THE_SHELF))
    entry.heads(head)
    return head


def _embeddings(entry: Entry, head: str, records: pd.DataFrame) -> np.ndarray:
    return entry.clean_images(records["record_id"], head)


def _own_probe(entry: Entry, head: str, split: str, patients: np.ndarray, missing: str, seed: int) -> Probe:
    records = entry.records(split)
    own = records["patient_id"].to_numpy(str)
    common = np.intersect1d(own, patients)
    if len(common):
        raise InputError(
            f"{len(common)} patients, such as {str(common[0])!r}, would both train your probe and be read by it.",
            "Name another split to train on.",
        )
    return train_probe(_embeddings(entry, head, records), states_of(records, missing), own, seed)


def _row(found: auroc.Aurocs, where: np.ndarray, label: str, flag: str, trained_on: str) -> dict[str, object]:
    """Mean over the labels `where`: the release, and own beside it where there is one."""
    none = np.full(found.auroc.shape[1], np.nan)
    value = found.auroc[where].mean(axis=0) if len(where) else none
    drawn = found.draws[:, where].mean(axis=1) if len(where) else none[None]
    figures: list[tuple[str, float, np.ndarray]] = [("auroc", value[0], drawn[:, 0])]
    if len(value) > 1:
        figures += [("own", value[1], drawn[:, 1]), ("difference", value[0] - value[1], drawn[:, 0] - drawn[:, 1])]
    row: dict[str, object] = {"label": label}
    for name, estimate, draws in figures:
        known = draws[~np.isnan(draws)]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) and not np.isnan(estimate) else (np.nan, np.nan)
        row |= {name: float(estimate), f"{name}_low": float(low), f"{name}_high": float(high)}
    return {
        **row,
        "n": int(found.n[where].max()) if len(where) else 0,
        "n_positive": int(found.n_positive[where].sum()) if len(where) else 0,
        "n_patients": int(found.patients[where].min()) if len(where) else 0,
        "flag": flag,
        "trained_on": trained_on,
    }
