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

import numpy as np
import pandas as pd

from linkage_core import pools, ranking, statistics
from linkage_core.audit import PoolSize, Study
from linkage_core.cohorts.base import LABELS
from linkage_core.comparisons import holm
from linkage_core.errors import InputError

MIN_PATIENTS = statistics.TOO_FEW
"""Fewer patients than this in a group: no number, "too few to say"."""

GROUPS = ("sex", "age decade", "view")
NOT_RECORDED = "not recorded"


def exposure(study: Study, pool_size: PoolSize) -> pd.DataFrame:
    """How easily is each single record linked?

    One row a query, in the order of study.queries, joined by record_id:
        record_id, patient_id, study_id;
        rank: place of the match among all eligible candidates, mean over the places a tie leaves open;
        n_eligible: eligible candidates other than the match;
        score, margin: score of the match, and that score minus the best eligible distractor's: above 0 it comes first
            in every pool, 0 is a tie. It has no unit and does not compare across models or heads;
        p_first: probability of coming first in a random pool of N, exact; NaN for a query too poor for N;
        chance: the same for a guess, 1/N; percentile: of p_first among the records that have one, 0 to 100.
    InputError if N is larger than any query can fill.
    """
    score, best = scores(study)
    if pool_size == "full":
        first, chance = pools.full_recall(study.counts, 1), 1 / (study.counts.n_eligible + 1.0)
    else:
        first = pools.expected_recall(study.counts, pool_size, 1)
        chance = np.full(len(first), 1 / pool_size)
    return study.queries[["record_id", "patient_id", "study_id"]].assign(
        rank=pools.full_rank(study.counts),
        n_eligible=study.counts.n_eligible,
        score=score,
        margin=score - best,
        p_first=first,
        chance=chance,
        percentile=pd.Series(first).rank(pct=True, method="average").to_numpy() * 100,
    )


def scores(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """(score of the match, score of the best eligible distractor) of every query; float32, NaN without a distractor."""
    embeddings = study.entry.embeddings(study.head, study.split)
    if study.direction == "image-to-report":
        queries, candidates, match = embeddings.images, embeddings.reports, embeddings.match
        group, key = embeddings.candidate_group, embeddings.candidates["report_key"].to_numpy(str)
    else:
        queries, candidates = embeddings.reports[embeddings.match], embeddings.images
        match = np.arange(len(candidates))
        group, key = embeddings.query_group, embeddings.records["report_key"].to_numpy(str)
    if study.pool == "all":
        return best_distractor(queries, candidates, match)
    if study.pool == "other-patients":
        return best_distractor(queries, candidates, match, (embeddings.query_group, group))
    if study.pool == "same-text-counts":
        return best_distractor(queries, candidates, match, (embeddings.query_group, group), (key[match], key))
    raise InputError(
        f"Margins are not defined for the pool {study.pool!r}.", "Use other-patients, all or same-text-counts."
    )


def best_distractor(
    queries: np.ndarray, candidates: np.ndarray, match: np.ndarray, *same: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The match's score and the highest score among candidates that are neither the match nor the `same` as the query.

    Arguments
        queries (n_queries, e) and candidates (n_candidates, e), unit norm if scores are to be cosines; match
            (n_queries,) index of each query's candidate.
        same: pairs of keys (n_queries,), (n_candidates,), such as patients or texts; a candidate that shares a key
            with the query is no distractor.

    Returns two float32 arrays (n_queries,); NaN where there is no distractor. The tiles are those of
    ranking.match_counts, so score > best exactly where n_better and n_tied are 0, and memory is bounded by one tile.
    """
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    vectors, column_of, multiplicity = ranking.distinct(np.asarray(candidates, dtype=np.float32), match)
    n_queries, n_columns = len(queries), len(vectors)
    hidden = _closed(match, column_of, multiplicity, same)
    score = np.empty(n_queries, dtype=np.float32)
    best = np.full(n_queries, -np.inf, dtype=np.float32)
    order = np.argsort(column_of[match], kind="stable")
    for start in range(0, n_queries, ranking.QUERY_BLOCK):
        rows = order[start : start + ranking.QUERY_BLOCK]
        own = column_of[match[rows]]
        local, column = hidden.of(rows)
        top = np.full(len(rows), -np.inf, dtype=np.float32)
        for low in range(0, n_columns, ranking.CANDIDATE_BLOCK):
            product = queries[rows] @ vectors[low : low + ranking.CANDIDATE_BLOCK].T
            here = np.flatnonzero((own >= low) & (own < low + product.shape[1]))
            score[rows[here]] = product[here, own[here] - low]
            inside = (column >= low) & (column < low + product.shape[1])
            product[local[inside], column[inside] - low] = -np.inf
            np.maximum(top, product.max(axis=1), out=top)
        best[rows] = top
    best[np.isneginf(best)] = np.nan
    return score, best


def _closed(
    match: np.ndarray, column_of: np.ndarray, multiplicity: np.ndarray, same: Sequence[tuple[np.ndarray, np.ndarray]]
) -> ranking.OwnColumns:
    """For each query the columns all of whose candidates are its match or its own.

    Where a column has one key throughout (a text, as a rule), columns are listed in place of candidates: a text that
    thousands share is one column.
    """
    n_candidates, n_columns = len(column_of), len(multiplicity)
    whole, pairs = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    coded = [ranking.coded_pair(*keys, len(match), n_candidates, "group") for keys in same]
    for groups in coded or [None]:
        key_of_column = np.empty(n_columns, dtype=np.int64)
        if groups is not None:
            key_of_column[column_of] = groups[1]
            one_key = (key_of_column[column_of] == groups[1]).all()
            if one_key and (groups[0] == groups[1][match]).all():
                by_column = (groups[0], key_of_column)
                query, column = ranking.own_candidates(column_of[match], by_column, n_columns)
                whole.append(query * n_columns + column)
                continue
        query, candidate = ranking.own_candidates(match, groups, n_candidates)
        pairs.append(query * n_candidates + candidate)
    codes = np.unique(np.concatenate(pairs))
    held, n_own = np.unique(codes // n_candidates * n_columns + column_of[codes % n_candidates], return_counts=True)
    closed = np.union1d(np.concatenate(whole), held[n_own == multiplicity[held % n_columns]])
    return ranking.OwnColumns(closed // n_columns, closed % n_columns, len(match))


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
    draws: int = statistics.DRAWS,
    level: float = statistics.LEVEL,
) -> Tail:
    """How much more exposed are the most exposed than the middle one?

    Tail: mean of the largest `share` of the values (the last one counted in part, so that the share is met exactly in
    every draw). Middle: the value at which half of the weight is reached, from the top. Both are recomputed in every
    draw of patients, so the interval includes who is in the tail; percentile interval as in cluster_bootstrap.

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
        estimate = _tail_and_middle(ordered, np.ones((1, n), dtype=np.float32), part)
        weights = statistics.patient_weights(n_patients, draws, seed)
        drawn = np.concatenate(
            [_tail_and_middle(ordered, weights[i : i + 100][:, patient], part) for i in range(0, draws, 100)]
        )
        ends = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        numbers = np.concatenate([np.array([estimate[0, j], *ends[:, j]]) for j in (0, 1)])
        if n_tail_patients < MIN_PATIENTS:
            note = too_few(n_tail_patients)
            numbers[:3] = np.nan
    rates = dict(zip(_TAIL_RATES, map(float, numbers), strict=True))
    return Tail(share, n, n_patients, n_tail, n_tail_patients, **rates, note=note, seed=seed, draws=draws)


def _tail_and_middle(ordered: np.ndarray, weights: np.ndarray, share: float) -> np.ndarray:
    """(n_draws, 2) of values sorted downwards under weights (n_draws, n)."""
    reached = np.cumsum(weights, axis=1, dtype=np.float64)
    total = reached[:, -1]
    want = share * total
    stop = int((reached < want[:, None]).sum(axis=1).max()) + 1
    taken = np.minimum(reached[:, :stop], want[:, None])
    mass = np.diff(taken, axis=1, prepend=0.0)
    middle = (reached < total[:, None] / 2).sum(axis=1)
    return np.column_stack([mass @ ordered[:stop] / want, ordered[middle]])


def associations(exposure_table: pd.DataFrame, records: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What goes with exposure?

    One row a comparison: records of one group against others, difference of the mean probability of coming first.
        each label: present (1) against not present (0 or not mentioned); uncertain (-1) is left out;
        label vector, report length: quartiles of how many studies share the record's 14 labels (1 is the rarest) and
            of words, each against the first; text: shared by how many studies, against the unique ones;
        view, sex, age decade: each value against all other recorded ones.

    Columns: attribute, group, against, mean, mean_against, difference, low, high (patient-clustered 95% bootstrap), p,
    p_holm, n_images, n_patients, n_images_against, n_patients_against, note. p is two-sided normal with the bootstrap's
    standard error; p_holm is over all rows that have one. Where either side has fewer than 30 patients the numbers are
    NaN and `note` says so; an attribute that is nowhere recorded has one row that says that.
    """
    joined = _joined(exposure_table, records)
    rows: list[dict[str, object]] = []
    masks: list[np.ndarray] = []
    for attribute, group, against, inside, outside in _comparisons(joined):
        rows.append({"attribute": attribute, "group": group, "against": against})
        masks += [inside, outside]
    patients = joined["patient_id"].to_numpy()
    means = _means(joined["p_first"].to_numpy(np.float64), masks, patients, seed)
    for i, row in enumerate(rows):
        one, other = means[2 * i], means[2 * i + 1]
        row |= _difference(one, other)
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
    by, group, linked, low, high (mean probability of coming first with its patient-clustered 95% interval), chance
    (1/N), lift, n_images, n_patients, note. Fewer than 30 patients: NaN, and `note` says so. Every record is ranked
    in pools of all patients, whatever its own group; images of one sex alone would be another question.
    """
    if by not in GROUPS:
        raise InputError(f"by is {by!r}.", f"It is one of: {', '.join(GROUPS)}.")
    joined = _joined(exposure_table, records)
    values = _attribute(joined, by)
    names = [*_levels(values), *([NOT_RECORDED] if values.isna().any() else [])]
    masks = [(values.fillna(NOT_RECORDED) == name).to_numpy() for name in names]
    means = _means(joined["p_first"].to_numpy(np.float64), masks, joined["patient_id"].to_numpy(), seed)
    chance = joined["chance"].to_numpy(np.float64)
    linkable = joined["p_first"].notna().to_numpy()
    rows = []
    for name, mask, mean in zip(names, masks, means, strict=True):
        said = mean.n_patients >= MIN_PATIENTS
        low, high = mean.interval() if said else (np.nan, np.nan)
        baseline = float(chance[mask & linkable].mean()) if mean.n_images else np.nan
        rows.append(
            {
                "by": by,
                "group": name,
                "linked": mean.estimate if said else np.nan,
                "low": low,
                "high": high,
                "chance": baseline,
                "lift": mean.estimate / baseline if said else np.nan,
                "n_images": mean.n_images,
                "n_patients": mean.n_patients,
                "note": "" if said else too_few(mean.n_patients),
            }
        )
    return pd.DataFrame(rows)


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
        for level in _levels(values):
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


@dataclass(frozen=True)
class _Mean:
    """Mean of one group of records and the same in every draw of patients."""

    estimate: float
    draws: np.ndarray
    n_images: int
    n_patients: int

    def interval(self, level: float = statistics.LEVEL) -> tuple[float, float]:
        low, high = np.nanquantile(self.draws, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def _means(values: np.ndarray, masks: Sequence[np.ndarray], cluster: np.ndarray, seed: int) -> list[_Mean]:
    """Means of groups over common draws of patients (as statistics.cluster_bootstrap), so that they can be compared."""
    if not masks:
        return []
    inside = np.column_stack(masks) & ~np.isnan(values)[:, None]
    code = np.unique(cluster, return_inverse=True)[1]
    n_clusters = int(code.max()) + 1
    sums = statistics.sums_by_cluster(np.where(inside, np.nan_to_num(values)[:, None], 0.0), code, n_clusters)
    sizes = statistics.sums_by_cluster(inside.astype(np.float64), code, n_clusters)
    weights = statistics.patient_weights(n_clusters, statistics.DRAWS, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (weights @ sums.astype(np.float32)) / (weights @ sizes.astype(np.float32))
        estimate = sums.sum(axis=0) / sizes.sum(axis=0)
    n_patients = (sizes > 0).sum(axis=0)
    return [
        _Mean(float(estimate[j]), draws[:, j], int(inside[:, j].sum()), int(n_patients[j])) for j in range(len(masks))
    ]


def _difference(one: _Mean, other: _Mean) -> dict[str, object]:
    sizes: dict[str, object] = {
        "n_images": one.n_images,
        "n_patients": one.n_patients,
        "n_images_against": other.n_images,
        "n_patients_against": other.n_patients,
    }
    fewest = min(one.n_patients, other.n_patients)
    if fewest < MIN_PATIENTS:
        return sizes | {"note": too_few(fewest) if one.n_images or other.n_images else NOT_RECORDED}
    apart = one.draws - other.draws
    low, high = np.nanquantile(apart, [(1 - statistics.LEVEL) / 2, (1 + statistics.LEVEL) / 2])
    difference = one.estimate - other.estimate
    return sizes | {
        "mean": one.estimate,
        "mean_against": other.estimate,
        "difference": difference,
        "low": float(low),
        "high": float(high),
        "p": _two_sided(difference, float(np.nanstd(apart))),
        "note": "",
    }


def _two_sided(difference: float, error: float) -> float:
    """P(|Z| >= |difference| / error) for standard normal Z; 1 where nothing varies and nothing differs."""
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return erfc(abs(difference) / error / sqrt(2))
