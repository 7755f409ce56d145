"""Who is exposed: one row a record, the tail of the distribution, what goes with it, and whether groups differ.

An average hides the few. Everything here is about single images: how often each one's match comes first in a random
pool of N. The tables say what exposure goes with, never what causes it: labels, views, ages and lengths of reports go
with each other too, and no comparison holds the others fixed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.special import betaincinv

from linkage_core.audit.margins import Scores, scores
from linkage_core.audit.study import PoolSize, Study
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.ranking import intervals, pools
from linkage_core.ranking.paired import holm
from linkage_core.validate import one_of

MIN_PATIENTS = intervals.TOO_FEW
"""Fewer patients than this in a group: no number, "too few to say"."""

GROUPS = ("sex", "age decade", "view")
NOT_RECORDED = "not recorded"
_DECIMALS = 12
"""Probabilities that are equal may differ in digits beyond these."""


def exposure(study: Study, pool_size: PoolSize, of_study: Scores | None = None) -> pd.DataFrame:
    """How easily is each single record linked?

    One row a query, in the order of study.queries, joined by record_id:
        record_id, patient_id, study_id;
        rank: place of the match among all eligible candidates, mean over the places a tie leaves open;
        n_eligible: eligible candidates other than the match;
        score, margin: score of the match, and that score minus the best eligible distractor's: above 0 it comes first
            in every pool, 0 is a tie. It has no unit and does not compare across models or heads;
        p_first: probability of coming first in a random pool of N, exact; NaN for a query too poor for N;
        chance: the same for a guess, 1/N; percentile: of p_first among the records that have one, 0 to 100.
    `of_study` is scores(study) where it is at hand: it is the same for every N.
    InputError if N is larger than any query can fill.
    """
    score, best = scores(study) if of_study is None else of_study
    first, chance = study.recall(pool_size, 1)
    return study.queries[["record_id", "patient_id", "study_id"]].assign(
        rank=pools.full_rank(study.counts),
        n_eligible=study.counts.n_eligible,
        score=score,
        margin=score - best,
        p_first=first,
        chance=chance,
        percentile=pd.Series(first).round(_DECIMALS).rank(pct=True, method="average").to_numpy() * 100,
    )


@dataclass(frozen=True)
class Tail:
    """The most exposed share of the records beside the middle one; rates with patient-clustered 95% intervals.

    `note` says "too few to say (n = ...)" where the records, or those of the tail, come from fewer than 30 patients;
    the numbers it takes away are NaN.
    """

    share: float
    n: int
    n_patients: int
    n_tail: int
    n_tail_patients: int
    tail: float
    tail_low: float
    tail_high: float
    middle: float
    middle_low: float
    middle_high: float
    note: str
    seed: int
    draws: int

    @property
    def sentence(self) -> str:
        """For a headline; in pools of the N that the values were made for."""
        if np.isnan(self.middle):
            return f"{self.note}."
        middle = f"the middle one in {_of_100(self.middle)}"
        if np.isnan(self.tail):
            return f"Of {self.n:,} images {middle} of 100 pools. The most exposed {self.n_tail:,}: {self.note}."
        return (
            f"The most exposed {self.n_tail:,} of {self.n:,} images come first in {_of_100(self.tail)} of 100 pools; "
            f"{middle} of 100."
        )


_TAIL_RATES = ("tail", "tail_low", "tail_high", "middle", "middle_low", "middle_high")


def tail(
    values: np.ndarray,
    cluster: np.ndarray,
    share: float = 0.01,
    *,
    seed: int = 0,
    draws: int = intervals.DRAWS,
    level: float = intervals.LEVEL,
) -> Tail:
    """How much more exposed are the most exposed than the middle one?

    Tail: mean of the largest `share` of the values (the last one counted in part, so that the share is met exactly in
    every draw). Middle: the value at which half of the weight is reached, from the top. Both are recomputed in every
    draw of patients, so the interval includes who is in the tail.

    The middle has a percentile interval. That of the tail is studentised (_studentised), as percentiles are too short
    for it (92% where 34 patients are in the tail). The error of every draw comes from the influence of each patient on
    T = q + sum (x-q)+ / (share n), the tail's mean in the form of Rockafellar and Uryasev (Journal of Risk 2, 2000),
    q its lowest value: patient p moves it by (sum_p (x-q)+ / share + n_p (q-T)) / n.

    Arguments
        values: (n,) probability of coming first; NaN is left out. cluster: (n,) patient of each.
    """
    values, cluster = np.asarray(values, dtype=np.float64), np.asarray(cluster)
    if values.ndim != 1 or cluster.shape != values.shape:
        raise InputError(f"values have shape {values.shape} and cluster {cluster.shape}.", "Give one patient a value.")
    if not 0 < share < 0.5:
        raise InputError(f"share is {share}.", "It lies between 0 and 0.5, for example 0.01 for the top 1%.")
    if draws < 1000:
        raise InputError(f"draws is {draws}.", "Take at least 1,000 draws.")
    present = ~np.isnan(values)
    code = np.unique(cluster[present], return_inverse=True)[1]
    order = np.argsort(-values[present], kind="stable")
    ordered, patient = values[present][order], code[order]
    n, n_patients = len(ordered), int(code.max()) + 1 if len(code) else 0
    n_tail = max(1, round(share * n)) if n else 0
    n_tail_patients = len(np.unique(patient[:n_tail]))
    numbers = np.full(6, np.nan)
    note = ""
    if n_patients < MIN_PATIENTS:
        note = too_few(n_patients)
    else:
        part = n_tail / n
        once, error, middle = _tail_and_middle(ordered, patient, np.ones((1, n_patients), dtype=np.float32), part)[0]
        weights = intervals.patient_weights(n_patients, draws, seed)
        drawn = np.concatenate(
            [_tail_and_middle(ordered, patient, weights[i : i + 100], part) for i in range(0, draws, 100)]
        )
        low, high = _studentised(once, error, drawn[:, 0], drawn[:, 1], level)
        if once in (0.0, 1.0):  # resampling knows nothing of what was not seen
            unseen = intervals.unseen(n_tail_patients, level)
            low, high = (0.0, unseen) if once == 0 else (1 - unseen, 1.0)
        ends = np.quantile(drawn[:, 2], [(1 - level) / 2, (1 + level) / 2])
        numbers = np.array([once, max(low, 0.0), min(high, 1.0), middle, *ends])
        if n_tail_patients < MIN_PATIENTS:
            note = too_few(n_tail_patients)
            numbers[:3] = np.nan
    rates = dict(zip(_TAIL_RATES, map(float, numbers), strict=True))
    return Tail(share, n, n_patients, n_tail, n_tail_patients, **rates, note=note, seed=seed, draws=draws)


def _tail_and_middle(ordered: np.ndarray, patient: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """(n_draws, 3) tail, its standard error, middle of values sorted downwards; weights are (n_draws, n_patients)."""
    sizes = np.bincount(patient, minlength=weights.shape[1]).astype(np.float64)
    total = weights @ sizes
    want = share * total
    near = len(ordered) // 2 + len(ordered) // 16 + 8  # as a rule enough for half of the weight
    reached = np.cumsum(weights[:, patient[:near]], axis=1, dtype=np.float64)
    if (reached[:, -1] < total / 2).any():
        reached = np.cumsum(weights[:, patient], axis=1, dtype=np.float64)
    middle = ordered[(reached < total[:, None] / 2).sum(axis=1)]
    last = (reached < want[:, None]).sum(axis=1)
    stop = int(last.max()) + 1
    mass = np.diff(np.minimum(reached[:, :stop], want[:, None]), axis=1, prepend=0.0)
    tail = mass @ ordered[:stop] / want
    lowest = ordered[last]
    by_patient = np.argsort(patient[:stop], kind="stable")
    members, starts = np.unique(patient[by_patient], return_index=True)
    above = np.maximum(ordered[by_patient] - lowest[:, None], 0)
    excess = np.add.reduceat(above, starts, axis=1) / share
    shift = lowest - tail
    drawn = weights[:, members] * excess
    squares = (drawn * excess).sum(axis=1) + 2 * shift * (drawn @ sizes[members]) + shift**2 * (weights @ sizes**2)
    return np.column_stack([tail, np.sqrt(np.maximum(squares, 0)) / total, middle])


def _studentised(
    estimate: float, error: float, draws: np.ndarray, errors: np.ndarray, level: float = intervals.LEVEL
) -> tuple[float, float]:
    """Bootstrap-t interval: each draw's distance from the estimate is measured in that draw's own standard error, so a
    skewed statistic gets a longer side (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 12.5)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = (draws - estimate) / errors
    distance = distance[np.isfinite(distance)]
    if error == 0 or not len(distance):
        return estimate, estimate
    low, high = np.quantile(distance, [(1 - level) / 2, (1 + level) / 2])
    return float(estimate - high * error), float(estimate - low * error)


def associations(
    exposure_table: pd.DataFrame, records: pd.DataFrame, *, attributes: Sequence[str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """What goes with exposure?

    One row a comparison: records of one group against others, difference of the mean probability of coming first.
        each label: present (1) against not present (0 or not mentioned); uncertain (-1) is left out;
        label vector, report length: quartiles of how many studies share the record's 14 labels (1 is the rarest) and
            of words, each against the first; text: shared by how many studies, against the unique ones;
        view, sex, age decade: each value against all other recorded ones; of two values one against the other.
    `attributes` (the names above) narrow it to those.

    Columns: attribute, group, against, mean, mean_against, difference, low, high (patient-clustered 95%, see _Means),
    p, p_holm, n_images, n_patients, n_images_against, n_patients_against, note. p is two-sided and agrees with the
    interval: below 0.05 where 0 is outside. p_holm is over all rows that have one. Where either side has fewer than 30
    patients the numbers are NaN and `note` says so; an attribute that is nowhere recorded has one row that says that.
    """
    joined = _joined(exposure_table, records)
    rows: list[dict[str, object]] = []
    masks: list[np.ndarray] = []
    for attribute, group, against, inside, outside in _comparisons(joined):
        if attributes is not None and attribute not in attributes:
            continue
        rows.append({"attribute": attribute, "group": group, "against": against})
        masks += [inside, outside]
    if rows:
        values, patients = joined["p_first"].to_numpy(np.float64), joined["patient_id"].to_numpy()
        means = _Means(values, masks, patients, seed, tied=_tied(joined))
        for i, row in enumerate(rows):
            row |= _difference(means, 2 * i, 2 * i + 1)
    table = pd.DataFrame(rows, columns=list(ASSOCIATION_COLUMNS))
    table["p_holm"] = holm(table["p"].to_numpy(np.float64))
    return table


ASSOCIATION_COLUMNS = (
    *("attribute", "group", "against", "mean", "mean_against", "difference", "low", "high", "p", "p_holm"),
    *("n_images", "n_patients", "n_images_against", "n_patients_against", "note"),
)


def groups(exposure_table: pd.DataFrame, records: pd.DataFrame, by: str, *, seed: int = 0) -> pd.DataFrame:
    """Are some groups linked more than others?

    One row a value of `by` ("sex", "age decade" or "view") and one for "not recorded" where there are such records:
    by, group, linked, low, high (mean probability of coming first with its patient-clustered 95% interval, see _Means),
    chance (1/N), lift, n_images, n_patients, note. Fewer than 30 patients: NaN, and `note` says so, as where one
    patient holds most of the group; that all scores tie stands beside the figures. Every record is ranked
    in pools of all patients, whatever its own group; images of one sex alone would be another question.
    """
    one_of("by", by, GROUPS)
    joined = _joined(exposure_table, records)
    values = _attribute(joined, by)
    names = [*_levels(values), *([NOT_RECORDED] if values.isna().any() else [])]
    masks = [(values.fillna(NOT_RECORDED) == name).to_numpy() for name in names]
    means = _Means(
        joined["p_first"].to_numpy(np.float64), masks, joined["patient_id"].to_numpy(), seed, tied=_tied(joined)
    )
    chance = joined["chance"].to_numpy(np.float64)
    linkable = joined["p_first"].notna().to_numpy()
    rows = []
    for i, (name, mask) in enumerate(zip(names, masks, strict=True)):
        n_patients = int(means.n_patients[i])
        said = n_patients >= MIN_PATIENTS and not means.dominated[i]
        linked = float(means.estimate[i]) if said else np.nan
        low, high = means.interval(i) if said else (np.nan, np.nan)
        baseline = float(chance[mask & linkable].mean()) if means.n_images[i] else np.nan
        rows.append(
            {
                "by": by,
                "group": name,
                "linked": linked,
                "low": low,
                "high": high,
                "chance": baseline,
                "lift": linked / baseline,
                "n_images": int(means.n_images[i]),
                "n_patients": n_patients,
                "note": means.tied if said else means.dominated[i] or too_few(n_patients),
            }
        )
    return pd.DataFrame(rows)


def _tied(joined: pd.DataFrame) -> bool:
    """Whether no record's match stands above or below any of its distractors, so that all figures are chance."""
    if not {"rank", "n_eligible", "margin"} <= set(joined.columns):
        return False
    able = joined[joined["n_eligible"] > 0]
    return bool(len(able)) and bool((able["rank"] == 1 + able["n_eligible"] / 2).all() and (able["margin"] == 0).all())


def too_few(n_patients: int) -> str:
    return f"too few to say (n = {n_patients})"


def _of_100(value: float) -> str:
    """71, 2, 0.4, "fewer than 0.1": a share of 100 in a sentence."""
    hundred = 100 * value
    if 0 < hundred < 0.1:
        return "fewer than 0.1"
    return f"{hundred:.0f}" if hundred >= 1 or hundred == 0 else f"{hundred:.1f}"


def _joined(exposure_table: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """Exposure with the attributes of its records, by record_id."""
    place = pd.Index(records["record_id"]).get_indexer(exposure_table["record_id"])
    if (place < 0).any():
        missing = exposure_table["record_id"].iloc[int(np.argmax(place < 0))]
        raise InputError(f"records have no {missing!r}.", "Give the records that the exposure was computed from.")
    own = exposure_table.reset_index(drop=True)
    attributes = records.iloc[place].reset_index(drop=True)
    return pd.concat([own, attributes[[c for c in attributes.columns if c not in own.columns]]], axis=1)


def _attribute(joined: pd.DataFrame, name: str) -> pd.Series:
    """Group of each record as text, missing where it is not recorded."""
    if name == "age decade":
        decade = joined["age"] // 10 * 10
        texts = [f"{int(d)} to {int(d) + 9}" if d == d else None for d in decade]
        return pd.Series(texts, index=joined.index, dtype="object")
    values = joined[name].astype("object")
    return values.where(values.notna() & (values != ""), None)


def _levels(values: pd.Series) -> list[str]:
    """The values there are, decades by number."""
    return sorted(
        map(str, values.dropna().unique()), key=lambda v: (int(d[0]) if (d := re.findall(r"^\d+", v)) else 0, v)
    )


def _comparisons(joined: pd.DataFrame) -> Iterator[tuple[str, str, str, np.ndarray, np.ndarray]]:
    """(attribute, group, against, rows of the group, rows it is compared with)."""
    there = [label for label in LABELS if label in joined]
    labels = joined[there].to_numpy(np.float64)
    labelled = ~np.isnan(labels).all(axis=1) if labels.shape[1] else np.zeros(len(joined), dtype=bool)
    nobody = np.zeros(len(joined), dtype=bool)
    if labelled.any():
        for column, label in enumerate(there):
            value = labels[:, column]
            yield label, "present", "not present", value == 1, labelled & ((value == 0) | np.isnan(value))
        studies = joined.drop_duplicates("study_id").index
        codes = np.unique(np.nan_to_num(labels, nan=9.0), axis=0, return_inverse=True)[1].ravel()
        shared = np.bincount(codes[studies], minlength=codes.max() + 1)[codes]
        yield from _quartiles("label vector shared by", shared, "studies", labelled)
    else:
        yield "labels", NOT_RECORDED, "", nobody, nobody
    if "report_words" in joined:
        yield from _quartiles("report length", joined["report_words"].to_numpy(), "words", ~nobody)
    if "report_key" in joined:
        per_text = joined.drop_duplicates("study_id")["report_key"].value_counts()
        copies = joined["report_key"].map(per_text).to_numpy()
        yield "text shared by", "2 to 9 studies", "one study", (copies >= 2) & (copies < 10), copies == 1
        yield "text shared by", "10 studies or more", "one study", copies >= 10, copies == 1
    for attribute in ("view", "sex", "age decade"):
        values = _attribute(joined, attribute)
        recorded = values.notna().to_numpy()
        if not recorded.any():
            yield attribute, NOT_RECORDED, "", nobody, nobody
        levels = _levels(values)
        if len(levels) == 2:  # each against the other would be the same comparison twice
            yield attribute, levels[0], levels[1], (values == levels[0]).to_numpy(), (values == levels[1]).to_numpy()
            continue
        for level in levels:
            inside = (values == level).to_numpy()
            yield attribute, level, "all others", inside, recorded & ~inside


def _quartiles(
    attribute: str, values: np.ndarray, unit: str, among: np.ndarray
) -> Iterator[tuple[str, str, str, np.ndarray, np.ndarray]]:
    """Quarters 2 to 4 against the first; equal values stay together, so quarters may differ in size or be missing."""
    edges = np.unique(np.quantile(values[among], [0.25, 0.5, 0.75]))
    quarter = np.searchsorted(edges, values, side="left")
    parts = [among & (quarter == q) for q in range(len(edges) + 1)]
    parts = [part for part in parts if part.any()]
    names = [_span(values[part], unit) for part in parts]
    for name, part in zip(names[1:], parts[1:], strict=True):
        yield attribute, name, names[0], part, parts[0]


def _span(values: np.ndarray, unit: str) -> str:
    low, high = int(values.min()), int(values.max())
    if low == high:
        return f"{low:,} {unit if low != 1 else 'study' if unit == 'studies' else 'word'}"
    return f"{low:,} to {high:,} {unit}"


FEW_CARRY = 5
"""Fewer patients than this (in effect) carry a group's mean: resampling does not know of those that it did not see."""


class _Means:
    """Means of groups of records over common draws of patients, so that they can be compared.

    With n_p records of patient p in a group, their sum s_p and the mean T, patient p moves the mean by
    (s_p - T n_p) / n: a ratio of sums, so the standard error of the mean, and of every draw's mean, is the root of the
    summed squares of that. Intervals are studentised (_studentised): percentiles are too short for groups of 30 to 60
    patients (92%). Where so few patients carry the mean that others like them may just not have been met, the interval
    is that of Clopper and Pearson for as many patients as hold the records in effect; it is not too short, but often
    longer than need be. `carried` is in effect (Kish) how many patients the mean, or what it lacks to 1, comes from.
    """

    def __init__(
        self, values: np.ndarray, masks: Sequence[np.ndarray], cluster: np.ndarray, seed: int, *, tied: bool = False
    ) -> None:
        inside = np.column_stack(masks) & ~np.isnan(values)[:, None]
        code = np.unique(cluster, return_inverse=True)[1]
        n_clusters = int(code.max()) + 1
        sums = intervals.sums_by_cluster(np.where(inside, np.nan_to_num(values)[:, None], 0.0), code, n_clusters)
        sizes = intervals.sums_by_cluster(inside.astype(np.float64), code, n_clusters)
        self.n_images, self.n_patients = inside.sum(axis=0), (sizes > 0).sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.estimate = sums.sum(axis=0) / self.n_images
            self.moved = sums - np.nan_to_num(self.estimate) * sizes
            self.error = np.sqrt((self.moved**2).sum(axis=0)) / self.n_images
            self.effective = self.n_images**2 / (sizes**2).sum(axis=0)
            self.carried = np.minimum(_in_effect(sums), _in_effect(sizes - sums))
        self.dominated = [
            intervals.flag_of(code[rows]) if n >= MIN_PATIENTS else ""
            for rows, n in zip(inside.T, self.n_patients, strict=True)
        ]
        self.tied = "all scores tie" if tied else ""
        self.sizes = sizes
        self.weights = intervals.patient_weights(n_clusters, intervals.DRAWS, seed)
        self.drawn_sizes = self._drawn(sizes)
        with np.errstate(invalid="ignore", divide="ignore"):
            self.shift = self._drawn(self.moved) / self.drawn_sizes
            self.errors = np.sqrt(np.maximum(self._squares(slice(None), slice(None)), 0))

    def _drawn(self, of_patients: np.ndarray) -> np.ndarray:
        return np.asarray(self.weights @ of_patients.astype(np.float32), dtype=np.float64)

    def _squares(self, i: int | slice, j: int | slice) -> np.ndarray:
        """In each draw the sum over patients of how far one moves mean i, times how far it moves mean j."""
        one, other, n_i, n_j = self.moved[:, i], self.moved[:, j], self.sizes[:, i], self.sizes[:, j]
        shift_i, shift_j = self.shift[:, i], self.shift[:, j]
        columns = (one * other, n_i * other, one * n_j, n_i * n_j)
        moves, left, right, both = (self._drawn(column) for column in columns)
        total = moves - shift_i * left - shift_j * right + shift_i * shift_j * both
        return np.asarray(total / (self.drawn_sizes[:, i] * self.drawn_sizes[:, j]))

    def rare(self, j: int) -> bool:
        """Whether too few patients carry the mean for a resampling of those that there are."""
        return bool(self.carried[j] < FEW_CARRY)

    def interval(self, j: int) -> tuple[float, float]:
        if self.rare(j):
            return _clopper_pearson(self.estimate[j] * self.effective[j], self.effective[j])
        low, high = _studentised(
            self.estimate[j], self.error[j], self.estimate[j] + self.shift[:, j], self.errors[:, j]
        )
        return max(low, 0.0), min(high, 1.0)

    def difference(self, i: int, j: int) -> tuple[float, float, float]:
        """(mean i less mean j, low, high). Where either is rare, from the two intervals (Newcombe, Statistics in
        Medicine 17, 1998, method 10)."""
        difference = float(self.estimate[i] - self.estimate[j])
        if self.rare(i) or self.rare(j):
            (low_i, high_i), (low_j, high_j) = self.interval(i), self.interval(j)
            below = np.hypot(self.estimate[i] - low_i, high_j - self.estimate[j])
            above = np.hypot(high_i - self.estimate[i], self.estimate[j] - low_j)
            return difference, float(difference - below), float(difference + above)
        error = np.sqrt(((self.moved[:, i] / self.n_images[i] - self.moved[:, j] / self.n_images[j]) ** 2).sum())
        with np.errstate(invalid="ignore"):
            squares = self.errors[:, i] ** 2 + self.errors[:, j] ** 2 - 2 * self._squares(i, j)
            errors = np.sqrt(np.maximum(squares, 0))
        draws = difference + self.shift[:, i] - self.shift[:, j]
        low, high = _studentised(difference, float(error), draws, errors)
        return difference, max(low, -1.0), min(high, 1.0)


def _in_effect(of_patients: np.ndarray) -> np.ndarray:
    """(n_columns,) how many patients a sum comes from, were all alike: (sum x)^2 / sum x^2; 0 for a sum of 0."""
    return np.nan_to_num(of_patients.sum(axis=0) ** 2 / (of_patients**2).sum(axis=0))


def _clopper_pearson(hits: float, n: float) -> tuple[float, float]:
    """Exact binomial interval, between the whole numbers by its beta quantiles."""
    tail = (1 - intervals.LEVEL) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return low, high


def _difference(means: _Means, one: int, other: int) -> dict[str, object]:
    sizes: dict[str, object] = {
        "n_images": int(means.n_images[one]),
        "n_patients": int(means.n_patients[one]),
        "n_images_against": int(means.n_images[other]),
        "n_patients_against": int(means.n_patients[other]),
    }
    fewest = int(min(means.n_patients[one], means.n_patients[other]))
    if fewest < MIN_PATIENTS:
        found = means.n_images[one] or means.n_images[other]
        return sizes | {"note": too_few(fewest) if found else NOT_RECORDED}
    if means.dominated[one] or means.dominated[other]:
        return sizes | {"note": means.dominated[one] or means.dominated[other]}
    difference, low, high = means.difference(one, other)
    if abs(difference) < 10**-_DECIMALS:  # where all scores tie, sums differ in their last digit alone
        difference, low, high = 0.0, min(low, 0.0), max(high, 0.0)
    return sizes | {
        "mean": float(means.estimate[one]),
        "mean_against": float(means.estimate[other]),
        "difference": difference,
        "low": low,
        "high": high,
        "p": _two_sided(difference, low, high),
        "note": means.tied,
    }


def _two_sided(difference: float, low: float, high: float) -> float:
    """The p value that agrees with the 95% interval: its end towards 0 lies 1.96 standard errors of a normal law away.

    P(|Z| >= |difference| / error) for standard normal Z; 1 where nothing differs.
    """
    if difference == 0:
        return 1.0
    error = (difference - low if difference > 0 else high - difference) / _Z
    return erfc(abs(difference) / error / sqrt(2)) if error > 0 else 0.0


_Z = NormalDist().inv_cdf((1 + intervals.LEVEL) / 2)
