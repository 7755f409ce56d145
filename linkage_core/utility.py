"""Usefulness before and after: what can still be read from the embeddings once a head has changed.

Linear probe, zero-shot prompts and the label-matched AUC, each off the shelf and under a head, on the same images, with
their paired difference. A probe is trained on patients of another split and is none of the head's business: a head that
keeps declared findings and loses the others shows it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from linkage_core import statistics, strata
from linkage_core.attackers import noise_of, noised
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, ModelError
from linkage_core.heads import Heads, unit
from linkage_core.seen import usable
from linkage_core.statistics import TOO_FEW
from linkage_core.store import OFF_THE_SHELF, Entry
from linkage_core.validate import one_of

MISSING = ("negative", "left out")
MEASURES = {
    "probe": "logistic regression on the image embedding, trained on the attacker's or another disjoint split",
    "zero-shot": "cosine with prompts that state a finding, less that with prompts that deny it",
    "label-matched": "P(the match beats another patient's report with the same 14 labels) by cosine: instance signal",
}
Prompts = Mapping[str, tuple[Sequence[str], Sequence[str]]]
"""label -> (texts that state it, texts that deny it)."""

_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_FOLDS = 3
_CV_ROWS = 6000


# ------------------------------------------------------------------------------------------------------------ AUROC


def placements(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """For each row, the share of the other class that it is placed right against, a tie counting half.

    scores (n,), positive (n,) True, False. A positive row's is V10 of DeLong, DeLong and Clarke-Pearson (Biometrics 44,
    1988), a negative's V01, from midranks (Sun and Xu, IEEE Signal Processing Letters 21, 2014). The mean over either
    class is the AUROC. NaN throughout where a class is empty.

    >>> placements(np.array([0.1, 0.4, 0.4]), np.array([False, False, True])).tolist()
    [1.0, 0.5, 0.75]
    """
    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not (n_positive and n_negative):
        return np.full(len(positive), np.nan)
    overall = rankdata(scores)
    within = np.empty(len(overall))
    within[positive], within[~positive] = rankdata(scores[positive]), rankdata(scores[~positive])
    above = overall - within  # rows of the other class below, ties half
    return np.where(positive, above / n_negative, 1 - above / n_positive)


@dataclass(frozen=True)
class Aurocs:
    """AUROC of each (label, column) and its bootstrap draws.

    auroc (n_labels, n_columns); draws (n_draws, n_labels, n_columns); n, n_positive (n_labels,) rows; patients
    (n_labels,) the smaller of the number of patients with a positive row and of those with a negative one.
    """

    auroc: np.ndarray
    draws: np.ndarray
    n: np.ndarray
    n_positive: np.ndarray
    patients: np.ndarray
    seed: int

    @property
    def enough(self) -> np.ndarray:
        """(n_labels,) is each class seen in at least 30 patients?"""
        return np.asarray(self.patients >= TOO_FEW)


def aurocs(
    scores: np.ndarray, states: np.ndarray, cluster: np.ndarray, *, seed: int = 0, draws: int = statistics.DRAWS
) -> Aurocs:
    """How well do scores tell those with a finding from those without, and how far could that move by patients?

    Patients are drawn with replacement. An AUROC is a mean over pairs of rows, which a draw would have to count again;
    instead its first-order part is drawn: A + mean over drawn positives of (V10 - A) + mean over drawn negatives of
    (V01 - A), the Hajek projection that DeLong's variance is made of, here summed by patient as in Obuchowski
    (Biometrics 53, 1997). All labels, columns and draws are one matrix product, and differences are paired.

    Arguments
        scores: (n_rows, n_labels, n_columns), columns being heads or models on the same rows.
        states: (n_rows, n_labels) 1 positive, 0 negative, NaN left out.
        cluster: (n_rows,) patient of each row.
    """
    scores, states, cluster = np.asarray(scores, np.float64), np.asarray(states, np.float64), np.asarray(cluster)
    if scores.ndim != 3 or states.shape != scores.shape[:2] or cluster.shape != scores.shape[:1]:
        raise InputError(
            f"scores have shape {scores.shape}, states {states.shape} and cluster {cluster.shape}.",
            "Give (rows, labels, columns), (rows, labels) and (rows,).",
        )
    if not np.isfinite(scores).all():
        raise InputError("A score is NaN or infinite.", "Leave the row out.")
    if draws < 1000:
        raise InputError(f"draws is {draws}.", "Take at least 1,000 draws.")
    code = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(code.max()) + 1 if len(code) else 0
    n_labels, n_columns = scores.shape[1:]
    auroc = np.full((n_labels, n_columns), np.nan)
    parts = np.zeros((n_clusters, n_labels, 2, n_columns + 1))  # sums by patient; the last column counts rows
    for label in range(n_labels):
        rows = np.flatnonzero(~np.isnan(states[:, label]))
        positive = states[rows, label] == 1
        both = positive.any() and not positive.all()
        for column in range(n_columns if both else 0):
            placed = placements(scores[rows, label, column], positive)
            auroc[label, column] = placed[positive].mean()
            for side, members in enumerate((positive, ~positive)):
                off = placed[members] - auroc[label, column]
                parts[:, label, side, column] = np.bincount(code[rows[members]], weights=off, minlength=n_clusters)
        for side, members in enumerate((positive, ~positive)):
            parts[:, label, side, -1] = np.bincount(code[rows[members]], minlength=n_clusters)
    weights = statistics.patient_weights(n_clusters, draws, seed)
    flat = parts.reshape(n_clusters, -1)
    drawn = np.concatenate([weights[i : i + 250] @ flat for i in range(0, draws, 250)]).reshape(draws, *parts.shape[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = (drawn[..., :-1] / drawn[..., -1:]).sum(axis=2)
    counted = parts[..., -1]
    return Aurocs(
        auroc=auroc,
        draws=np.clip(auroc + moved, 0.0, 1.0),
        n=counted.sum(axis=(0, 2)).astype(np.int64),
        n_positive=counted[:, :, 0].sum(axis=0).astype(np.int64),
        patients=(counted > 0).sum(axis=0).min(axis=1),
        seed=seed,
    )


# ------------------------------------------------------------------------------------------------------------ probe


@dataclass(frozen=True)
class Probe:
    """One logistic regression a label: score = (embedding - mean) . weights, an intercept changing no ranking.

    weights (e, n_labels), zero where `trained` is False; penalty (n_labels,) as chosen by cross-validation.
    """

    mean: np.ndarray
    weights: np.ndarray
    penalty: np.ndarray
    trained: np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, e) -> (n, n_labels)."""
        return np.asarray((embeddings - self.mean) @ self.weights)


def train_probe(embeddings: np.ndarray, states: np.ndarray, patients: np.ndarray, seed: int = 0) -> Probe:
    """Can a linear reader tell each finding? Logistic regression with an L2 penalty, by Newton's method.

    embeddings (n, e); states (n, n_labels) 1, 0, NaN left out; patients (n,). The penalty of each label is the one with
    the least log-loss in three left-out folds of patients. All dimensions share one scale, so a rotation of the
    embeddings changes nothing. A label with fewer than 10 rows of a class, or one patient, is not trained.
    """
    mean = embeddings.astype(np.float64).mean(axis=0)
    centred = embeddings - mean
    scale = max(float(np.sqrt((centred**2).mean())), 1e-12)
    x = np.column_stack([centred / scale, np.ones(len(centred))])
    code = np.unique(patients, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(int(code.max()) + 1) % _FOLDS)[code]
    order = rng.permutation(len(x))
    n_labels = states.shape[1]
    weights, penalty, trained = (
        np.zeros((x.shape[1] - 1, n_labels)),
        np.full(n_labels, np.nan),
        np.zeros(n_labels, bool),
    )
    for label in range(n_labels):
        rows = order[~np.isnan(states[order, label])]
        y = states[rows, label]
        if min((y == 1).sum(), (y == 0).sum()) < 10:
            continue
        some = rows[:_CV_ROWS]
        penalty[label] = _penalty(x[some], states[some, label], fold[some])
        weights[:, label] = _logistic(x[rows], y, penalty[label])[:-1] / scale
        trained[label] = True
    return Probe(mean, weights, penalty, trained)


def _penalty(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    loss = np.zeros(len(_PENALTIES))
    for one in range(_FOLDS):
        learn, left_out = fold != one, fold == one
        if not (0 < y[learn].mean() < 1 and left_out.any()):
            continue
        start = None
        for i in range(len(_PENALTIES) - 1, -1, -1):  # from the smoothest on, each from the one before
            start = _logistic(x[learn], y[learn], _PENALTIES[i], start)
            loss[i] += np.logaddexp(0, -(2 * y[left_out] - 1) * (x[left_out] @ start)).sum()
    return _PENALTIES[int(np.argmin(loss))]


def _logistic(x: np.ndarray, y: np.ndarray, penalty: float, start: np.ndarray | None = None) -> np.ndarray:
    """Weights (d,) of the least mean log-loss + penalty |w|^2 / 2; the last column of x is ones and goes free."""
    shrink = np.append(np.full(x.shape[1] - 1, penalty), 1e-9)
    w = np.zeros(x.shape[1]) if start is None else start.copy()
    if start is None:
        w[-1] = np.log(y.mean() / (1 - y.mean()))

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - y * z).mean() + (shrink * w**2).sum() / 2)

    now = loss(w)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        gradient = x.T @ (p - y) / len(y) + shrink * w
        hessian = (x * (p * (1 - p) / len(y))[:, None]).T @ x + np.diag(shrink + 1e-10)
        step = np.linalg.solve(hessian, gradient)
        decrease = float(gradient @ step)
        size = 1.0
        while (then := loss(w - size * step)) > now - 1e-4 * size * decrease and size > 1e-6:
            size /= 2
        w, now = w - size * step, then
        if decrease < 1e-8:
            break
    return w


def states_of(records: pd.DataFrame, missing: str = "negative") -> np.ndarray:
    """(n, 14) 1 positive, 0 negative, NaN left out, from the four-valued labels.

    Uncertain (-1) is left out. A label that the report does not mention counts as negative, as most published probes
    have it (a reader names what is there); with `missing` "left out" only stated negatives are negatives.
    """
    one_of("missing", missing, MISSING)
    labels = records[list(LABELS)].to_numpy(float)
    known = ~np.isnan(labels).all(axis=1)
    if not known.any():
        raise InputError(
            "No record has any of the 14 labels, so there is nothing to read.",
            f"Give label columns ({LABELS[0]}, ... {LABELS[-1]}).",
        )
    states = np.where(labels == -1, np.nan, labels)
    if missing == "negative":
        states[np.isnan(labels) & known[:, None]] = 0.0  # a record without any label says nothing
    return np.asarray(states)


# -------------------------------------------------------------------------------------------------------- zero-shot


def prompts_of(entry: Entry) -> dict[str, tuple[list[str], list[str]]]:
    """Prompts for an entry's model: for the phantom's models from its grammar, in the words that the model was trained
    on; for others plain sentences."""
    training = entry.manifest["model"].get("training")
    if isinstance(training, Mapping) and str(entry.manifest["model"].get("name", "")).startswith("phantom-"):
        return phantom_prompts(str(training.get("level", "radiology")))
    return {
        label: (
            [f"{name.capitalize()}.", f"There is {name}.", f"Findings consistent with {name}."],
            [f"No {name}.", f"There is no {name}.", f"No evidence of {name}."],
        )
        for label in LABELS
        for name in [label.lower()]
        if label != "No Finding"
    } | {
        "No Finding": (
            ["No acute cardiopulmonary process.", "Normal chest radiograph.", "The lungs are clear."],
            ["Abnormal chest radiograph.", "There is an acute cardiopulmonary process.", "The lungs are not clear."],
        )
    }


def phantom_prompts(level: str = "radiology", each: int = 24, seed: int = 0) -> dict[str, tuple[list[str], list[str]]]:
    """For each label, the grammar's texts of studies with that finding alone, and of the same chests without it.

    The chests are patients of the encoders' training split: neither queries nor anybody's in the store. "No Finding" is
    the empty chest against the same chests with all that they have. `level` as in phantom_build's recipes.
    """
    from linkage_core.cohorts.phantom import grammar, population

    def written(study: population.Study) -> tuple[str, dict[str, float] | None]:
        if level == "radiology":
            report = grammar.report(study, seed)
            return report.text, report.labels
        draws = population.Draws(seed, ord(study.site), study.patient, study.number, 3, ord(level[0]))
        return grammar.caption(study, level, draws), None  # type: ignore[arg-type]

    bare: dict[str, Any] = {
        "findings": (),
        "changes": (),
        "resolved": (),
        "devices": (),
        "device_changes": (),
        "removed": (),
    }
    found: dict[str, tuple[list[str], list[str]]] = {label: ([], []) for label in LABELS}

    def add(label: str, with_it: population.Study, without: population.Study) -> None:
        stated, denied = found[label]
        if len(stated) >= each:
            return
        (text, labels), (other, others) = written(with_it), written(without)
        if labels is None or others is None or (labels.get(label) == 1 and others.get(label) != 1):
            stated.append(text)
            denied.append(other)

    for study in islice(population.studies_of_split("A", "encoder", seed, 4000), 8000):
        empty = replace(study, **bare)
        for finding in study.findings:
            add(finding.kind.title(), replace(study, **{**bare, "findings": (finding,), "changes": ("",)}), empty)
        if study.devices:
            changes = ("",) * len(study.devices)
            add(
                "Support Devices",
                replace(study, **{**bare, "devices": study.devices, "device_changes": changes}),
                empty,
            )
        if study.findings:
            add("No Finding", empty, study)
        if all(len(stated) >= each for stated, _ in found.values()):
            break
    return {label: texts for label, texts in found.items() if texts[0]}


@dataclass(frozen=True)
class TextTower:
    """Features of prompts: label -> (features stated (n, t), features denied (n, t))."""

    features: dict[str, tuple[np.ndarray, np.ndarray]]

    def scores(self, images: np.ndarray, heads: Heads) -> np.ndarray:
        """(n, 14) cosine with the mean stated prompt less that with the mean denied one; NaN without prompts.

        images (n, e) unit rows.
        """
        found = np.full((len(images), len(LABELS)), np.nan)
        for label, sides in self.features.items():
            stated, denied = (unit(unit(heads.text(side)).mean(axis=0, keepdims=True))[0] for side in sides)
            found[:, LABELS.index(label)] = images @ (stated - denied)
        return found


def text_tower(entry: Entry, prompts: Prompts | None = None) -> TextTower:
    """Embed prompts with the entry's own model. ModelError where it is not on this machine or is another one;
    InputError for a label that is none of the 14 or has no text on a side."""
    from linkage_core.encoders.registry import load_encoder

    name = str(entry.manifest["model"].get("name", entry.model))
    encoder = load_encoder(name, store_root=entry.store.root)
    if encoder.describe()["weights_sha256"] != entry.manifest["model"].get("weights_sha256"):
        raise ModelError(
            f"The {name} on this machine has other weights than {entry.cohort}/{entry.model} was embedded with.",
            "Zero-shot needs the same text tower: embed the cohort again.",
        )
    prompts = prompts_of(entry) if prompts is None else prompts
    for label, (stated, denied) in prompts.items():
        if label not in LABELS:
            raise InputError(f"There is a prompt for {label!r}.", f"The labels are: {', '.join(LABELS)}.")
        if not (len(stated) and len(denied)):
            raise InputError(
                f"The prompts for {label!r} lack a side.", "Give texts that state it and texts that deny it."
            )
    return TextTower(
        {
            label: (encoder.text_features(list(stated)), encoder.text_features(list(denied)))
            for label, (stated, denied) in prompts.items()
        }
    )


# ------------------------------------------------------------------------------------------------------------ table

COLUMNS = (
    *("cohort", "model", "head", "measure", "label", "declared", "before", "before_low", "before_high"),
    *("after", "after_low", "after_high", "difference", "difference_low", "difference_high"),
    *("n", "n_positive", "n_patients", "flag", "trained_on", "missing", "seed", "draws"),
)
MACRO = "macro"


def utility_table(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    *,
    source: Entry | None = None,
    train: Entry | None = None,
    train_split: str = "attacker",
    split: str | None = None,
    declared: Sequence[str] | None = None,
    measures: Sequence[str] = tuple(MEASURES),
    prompts: Prompts | None = None,
    missing: str = "negative",
    seed: int = 0,
) -> pd.DataFrame:
    """What is the head worth to somebody who reads findings? Before (off the shelf), after, and their difference.

    Arguments
        source: the entry that has the head (default: the entry itself); train: the entry whose `train_split` trains the
            probes (default: `source`). For transfer, give the entry the head was made on as `source`: heads and probes
            come from it and are used on `entry` without retraining.
        declared: the findings that the head was made to keep; default: what its record says. "macro, undeclared" is
            over the others.
        measures: keys of MEASURES. Zero-shot needs the model's text tower on this machine; where it is not there, one
            row says so.
        missing: "negative" or "left out", see states_of.
        seed: of the folds, the bootstrap, and of output noise where the head's record has it: then everything is read
            from noised embeddings, and the probe is trained on such.

    Returns COLUMNS, one row for each measure and label, and macro rows over the labels with at least 30 patients of
    each class. Intervals are 95% bootstrap over patients, paired. `flag` is "too few to say", "not trained", or "".
    Raises InputError where a patient is in both the training and the queried split, or there are no labels.
    """
    source = source or entry
    train = train or source
    split = split or entry.default_split
    for other in (source, train):
        usable(entry, other, head if other is source else OFF_THE_SHELF, split)
    unknown = [one for one in measures if one not in MEASURES]
    if unknown:
        raise InputError(f"There is no measure {unknown[0]!r}.", f"They are: {', '.join(MEASURES)}.")
    keep = _declared(source, head, declared)
    records = entry.records(split)
    states = states_of(records, missing)
    patients = records["patient_id"].to_numpy(str)
    heads = [source.heads(), source.heads(head)]
    features = entry.features("image", records["record_id"])
    sigma, rng = noise_of(source, head), np.random.default_rng([seed, 1])
    images = [unit(heads[0].image(features)), noised(unit(heads[1].image(features)), sigma, rng)]
    common = {"cohort": entry.cohort, "model": entry.model, "head": head, "missing": missing, "seed": seed}
    trained_on = f"{train.cohort}/{train_split}"
    rows: list[dict[str, Any]] = []
    if "probe" in measures:
        probes = _probes(source, train, train_split, patients, heads, missing, sigma, seed)
        scores = np.stack([probe(one) for probe, one in zip(probes, images, strict=True)], axis=2)
        trained = np.logical_and(*(probe.trained for probe in probes))
        found = aurocs(scores, np.where(trained, states, np.nan), patients, seed=seed)
        rows += _rows(found, "probe", trained, "not trained", keep, {**common, "trained_on": trained_on})
    if "zero-shot" in measures:
        try:
            tower = text_tower(entry, prompts)
        except ModelError as error:
            rows.append(_empty("zero-shot", {**common, "trained_on": ""}, f"no text tower: {error.what}"))
        else:
            scores = np.stack([tower.scores(one, its) for one, its in zip(images, heads, strict=True)], axis=2)
            asked = ~np.isnan(scores).any(axis=(0, 2))
            found = aurocs(np.nan_to_num(scores), np.where(asked, states, np.nan), patients, seed=seed)
            rows += _rows(found, "zero-shot", asked, "no prompt", keep, {**common, "trained_on": ""})
    if "label-matched" in measures:
        rows.append(_label_matched(entry, split, images, heads, patients, {**common, "trained_on": ""}))
    return pd.DataFrame(rows)[list(COLUMNS)]


def _declared(source: Entry, head: str, declared: Sequence[str] | None) -> tuple[str, ...]:
    if declared is None:
        declared = source.head_record(head).get("findings") or () if head != OFF_THE_SHELF else ()
    unknown = [one for one in declared if one not in LABELS]
    if unknown:
        raise InputError(f"{unknown[0]!r} is declared.", f"Findings are: {', '.join(LABELS)}.")
    return tuple(declared)


def _probes(
    source: Entry,
    train: Entry,
    split: str,
    patients: np.ndarray,
    heads: Sequence[Heads],
    missing: str,
    sigma: float,
    seed: int,
) -> list[Probe]:
    """Before and after; the one after is trained on embeddings as they are released."""
    records = train.records(split)
    common = np.intersect1d(records["patient_id"].to_numpy(str), patients)
    if len(common):
        raise InputError(
            f"{len(common)} patients, such as {common[0]!r}, would both train the probe and be read by it.",
            "Train it on another split.",
        )
    first = _shelf_probe(source, train, split, missing, seed)
    shelf, image = heads[0].image, heads[1].image
    if sigma == 0 and np.array_equal(shelf.weight, image.weight) and np.array_equal(shelf.bias, image.bias):
        return [first, first]
    features = train.features("image", records["record_id"])
    released = noised(unit(image(features)), sigma, np.random.default_rng([seed, 2]))
    return [first, train_probe(released, states_of(records, missing), records["patient_id"].to_numpy(str), seed)]


@lru_cache(maxsize=4)
def _shelf_probe(source: Entry, train: Entry, split: str, missing: str, seed: int) -> Probe:
    """The probe before any mitigation, the same beside every head."""
    records = train.records(split)
    features = train.clean_images(records["record_id"], source.heads())
    return train_probe(features, states_of(records, missing), records["patient_id"].to_numpy(str), seed)


def _rows(
    found: Aurocs, measure: str, usable: np.ndarray, why_not: str, declared: tuple[str, ...], common: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row a label, and macro rows."""
    rows = []
    for i, label in enumerate(LABELS):
        flag = statistics.flag(int(found.patients[i])) if usable[i] else why_not
        rows.append(_row(found, np.array([i]), measure, label, label in declared, flag, common))
    enough = usable & found.enough
    inside = np.array([label in declared for label in LABELS])
    groups = {MACRO: enough}
    if declared:
        groups |= {f"{MACRO}, declared": enough & inside, f"{MACRO}, undeclared": enough & ~inside}
    for name, members in groups.items():
        where = np.flatnonzero(members)
        flag = "" if len(where) else "no finding with enough patients"
        rows.append(_row(found, where, measure, name, name == f"{MACRO}, declared", flag, common))
    return rows


def _row(
    found: Aurocs,
    where: np.ndarray,
    measure: str,
    label: str,
    declared: bool,
    flag: str,
    common: dict[str, Any],
) -> dict[str, Any]:
    """Mean over the labels `where`, before, after and their difference."""
    row: dict[str, Any] = {**common, "measure": measure, "label": label, "declared": declared}
    if len(where):
        value, drawn = found.auroc[where].mean(axis=0), found.draws[:, where].mean(axis=1)
    else:
        value, drawn = np.full(2, np.nan), np.full((1, 2), np.nan)
    n_patients = int(found.patients[where].min()) if len(where) else 0
    for name, estimate, draws in (
        ("before", value[0], drawn[:, 0]),
        ("after", value[1], drawn[:, 1]),
        ("difference", value[1] - value[0], drawn[:, 1] - drawn[:, 0]),
    ):
        draws = draws[~np.isnan(draws)]
        low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) and not np.isnan(estimate) else (np.nan, np.nan)
        if name != "difference" and estimate in (0.0, 1.0):
            # of n patients none was misplaced: up to unseen(n) of all may be, each costing at most 1
            low, high = (
                (0.0, statistics.unseen(n_patients)) if estimate == 0 else (1 - statistics.unseen(n_patients), 1.0)
            )
        row[name], row[f"{name}_low"], row[f"{name}_high"] = float(estimate), float(low), float(high)
    return {
        **row,
        "n": int(found.n[where].max()) if len(where) else 0,
        "n_positive": int(found.n_positive[where].sum()) if len(where) else 0,
        "n_patients": n_patients,
        "flag": flag,
        "draws": len(found.draws),
    }


def _empty(measure: str, common: dict[str, Any], flag: str) -> dict[str, Any]:
    figures = {f"{name}{end}": np.nan for name in ("before", "after", "difference") for end in ("", "_low", "_high")}
    counts = {"n": 0, "n_positive": 0, "n_patients": 0, "draws": 0}
    return {**common, "measure": measure, "label": MACRO, "declared": False, "flag": flag, **figures, **counts}


def _label_matched(
    entry: Entry,
    split: str,
    images: Sequence[np.ndarray],
    heads: Sequence[Heads],
    patients: np.ndarray,
    common: dict[str, Any],
) -> dict[str, Any]:
    """Does the score know the very patient beyond the findings? Cosine, over reports with the same 14 labels."""
    base = entry.embeddings(split=split)
    keys = base.candidates["report_key"].drop_duplicates()
    place = pd.Index(keys).get_indexer(base.candidates["report_key"])
    texts = entry.features("text", keys)
    values = [
        strata.label_matched_auc(strata.count(replace(base, images=one, reports=unit(its.text(texts))[place])))
        for one, its in zip(images, heads, strict=True)
    ]
    interval = statistics.cluster_bootstrap(
        np.column_stack([*values, values[1] - values[0]]), patients, seed=common["seed"]
    )
    n_patients = len(np.unique(patients[~np.isnan(values[0])]))
    row: dict[str, Any] = {**common, "measure": "label-matched", "label": "", "declared": False}
    for i, name in enumerate(("before", "after", "difference")):
        row[name], row[f"{name}_low"], row[f"{name}_high"] = (
            float(getattr(interval, part)[i]) for part in ("estimate", "low", "high")
        )
    counts = {"n": int(interval.n[0]), "n_positive": 0, "n_patients": n_patients, "draws": interval.draws}
    return {**row, **counts, "flag": statistics.flag(n_patients)}
