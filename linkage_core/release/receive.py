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
from linkage_core.release.certificate import CAPPED, CODES, STATISTICS, Certificate
from linkage_core.release.kinds.capped import Cap, dot_cdf
from linkage_core.release.kinds.codes import Codebook
from linkage_core.release.kinds.statistics import Moments, Statistics, fisher
from linkage_core.release.records import CODEBOOK, TABLE
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.utility import auroc
from linkage_core.utility.probe import Probe, states_of, train_probe
from linkage_core.utility.table import MACRO

COLUMNS = ("label", "auroc", "auroc_low", "auroc_high")
OWN = (*("own", "own_low", "own_high", "difference", "difference_low", "difference_high"),)
COUNTS = ("n", "n_positive", "n_patients", "flag", "trained_on")
_LEAST = 10  # records of each state of a finding
_GRID = 20_001


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
        flag = intervals.flag(int(aurocs.patients[place])) if trained[place] else "not trained"
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
    if found.kind == STATISTICS:
        made = Statistics.read(path / folder.SUMS)
        if "space" in made.about:
            return f"the sums are of {made.about['space']}, not of embeddings", None
        return "sums over patients", _of_all(made.query.findings, made.probe())
    carried = found.content["one_label"]
    if found.kind == CODES and not carried:
        return "the codebook's public scores of each cell", _of_codebook(path)
    if not carried:
        return "nothing to train: the release carries no labels", None
    findings = tuple(carried["findings"])
    table = pq.read_table(path / TABLE)
    which = table.column("finding").to_numpy()
    states = np.full((len(table), len(findings)), np.nan)
    states[np.arange(len(table)), which] = table.column("present").to_numpy(zero_copy_only=False)
    if found.kind == CAPPED:
        mechanism = found.content["mechanism"]
        cap = Cap(int(mechanism["dimension"]), float(mechanism["limit"]), float(mechanism["p"]))
        vectors = folder.read_vectors(path).astype(np.float64)
        return "capped directions with one label each", _of_all(findings, errors_in_directions(vectors, cap, states))
    rows = Codebook.read(path / CODEBOOK).centres[_codes(path)]
    probe = train_probe(rows, states, np.arange(len(rows)), seed)
    return "centres of cells with one label each", _of_all(findings, probe)


def errors_in_directions(rows: np.ndarray, cap: Cap, states: np.ndarray) -> Probe:
    """Fisher's direction for clean embeddings from capped ones: errors in variables with a known law.

    A release of x is r = t x + sqrt(1 - t^2) u, u uniform across x: E[r | x] = gain x and, with b = (1 - E t^2)/(d-1),
    E[r r^T | x] = (E t^2 - b) x x^T + b I. Both are undone; E t^2 comes from the law of t. rows (n, d) unit; states
    (n, K) 1, 0, NaN not told. Noise of an entry: r has variance about 1/d in each coordinate.
    """
    n, d = rows.shape
    square = second_of_dot(cap)
    b = (1 - square) / (d - 1)
    if abs(square - b) < 1e-6:
        raise InputError(
            f"Directions of a cap with L = {cap.limit:g} are as wide as none: they tell nothing of the covariance.",
            "Ask for another limit.",
        )
    mean = rows.mean(axis=0) / cap.gain
    covariance = (rows.T @ rows / n - b * np.eye(d)) / (square - b) - np.outer(mean, mean)
    k = states.shape[1]
    cross, prevalence, count, trained = np.zeros((k, d)), np.full(k, 0.5), np.ones(k), np.zeros(k, bool)
    for i in range(k):
        known = ~np.isnan(states[:, i])
        y = states[known, i]
        if min((y == 1).sum(), (y == 0).sum()) < _LEAST:
            continue
        trained[i], count[i], prevalence[i] = True, len(y), y.mean()
        cross[i] = (y - y.mean()) @ (rows[known] / cap.gain - mean) / len(y)
    moments = Moments(
        n=count,
        mean=mean,
        covariance=covariance,
        cross=cross,
        prevalence=prevalence,
        cross_noise=np.sqrt(prevalence * (1 - prevalence) / count / d) / cap.gain,
        covariance_noise=1 / (d * np.sqrt(n) * (square - b)),
    )
    weights = np.where(trained, fisher(moments, np.ones(d)).T, 0.0)
    return Probe(mean, weights, np.full(k, np.nan), trained)


def second_of_dot(cap: Cap) -> float:
    """E t^2 of t = r . x: 1 less the integral of 2 t P(r . x <= t) over -1 .. 1, by Simpson's rule."""
    from scipy.integrate import simpson

    t = np.linspace(-1, 1, _GRID)
    return float(1 - simpson(2 * t * dot_cdf(cap, t), x=t))


def _of_codebook(path: Path) -> Probe:
    """The cells' public scores, made linear: least squares over the centres, each counted as often as it occurs."""
    book = Codebook.read(path / CODEBOOK)
    weight = np.sqrt(np.maximum(np.bincount(_codes(path), minlength=book.n_cells), 1e-3))[:, None]
    mean = np.average(book.centres, axis=0, weights=weight[:, 0] ** 2)
    x, y = (book.centres - mean) * weight, (book.scores - book.scores.mean(axis=0)) * weight
    shrink = 1e-2 * np.trace(x.T @ x) / x.shape[1] * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + shrink, x.T @ y)
    trained = np.asarray(book.trained, dtype=bool)
    return Probe(mean, np.where(trained, weights, 0.0), np.full(len(LABELS), np.nan), trained)


def _codes(path: Path) -> np.ndarray:
    return np.asarray(pq.read_table(path / TABLE).column("code").to_numpy())


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
            f"{len(common)} patients, such as {common[0]!r}, would both train your probe and be read by it.",
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
