"""Other queries and other galleries for one model: fused images, fused reports, other hits, another cohort's reports.

What is fused is scored by the mean of its parts' scores, which is the score of the mean of their unit embeddings; the
mean is not scaled to norm 1 again. Image to report, a query is one image, or all images of a study or of a patient; a
candidate is one report, or all reports of a patient. Report to image it is the other way round. The candidates that are
no hit are always those of other patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from linkage_core.audit.study import DIRECTIONS
from linkage_core.errors import InputError
from linkage_core.ranking import counts as ranking
from linkage_core.ranking import intervals, pools
from linkage_core.ranking.counts import MatchCounts, match_counts
from linkage_core.store.entry import OFF_THE_SHELF, Embeddings, Entry, Store
from linkage_core.store.seen import asked_split
from linkage_core.validate import one_of

IMAGES_BY = (None, "study", "patient")
REPORTS_BY = (None, "patient")
HITS = {
    "image-to-report": {
        "report": "the query's own report",
        "text": "any report with the text of the query's own report",
        "patient": "any report of the query's patient",
    },
    "report-to-image": {
        "report": "any image of the report's own study",
        "text": "any image whose report has the same text, whoever the patient",
        "patient": "any image of the report's patient",
    },
}
ALONE = "image", "report"
SEVERAL = {
    "image-to-report": "reports: their fused images have no one report",
    "report-to-image": "studies: their fused reports have no one study",
}
_PAIRS = 65_536

Direction = Literal["image-to-report", "report-to-image"]
ImagesBy = Literal["study", "patient"] | None
ReportsBy = Literal["patient"] | None
Hit = Literal["report", "text", "patient"]


def fused_counts(
    embeddings: Embeddings,
    images_by: ImagesBy = None,
    reports_by: ReportsBy = None,
    hit: Hit = "report",
    direction: Direction = "image-to-report",
) -> tuple[MatchCounts, pd.DataFrame]:
    """What if the attacker pools the images of a study or a patient, or the reports of one, or is content with less?

    The counts are those of ranking.match_counts, over candidates of other patients, so the closed forms of `pools` hold
    as they are. Where several candidates are hits (patient; report to image any), the best of them decides: n_better
    and n_tied are the others above and equal to it, and a pool of N is N-1 others beside all hits. m hits are m
    chances: the baseline is `chance`, not k/N.

    Image to report:
        hit "report": the match is the query's own report, and n_eligible all candidates of other patients;
        hit "text": as above, and an eligible candidate of the same text never hurts: it is neither better nor tied, but
            still stands in the pool. A fused report has the texts of all its reports as its text;
        hit "patient": every report of the patient is a hit.
    Report to image, one query a report (or a patient's reports):
        hit "report": the hits are the images of the report's study, or the fused images that hold one of them;
        hit "text": the images whose report has the same text, whoever the patient; no such image is a rival;
        hit "patient": every image of the patient.

    audit.study asks the same image to report with nothing fused: "report" is its pool other-patients, "text" its pool
    same-text-counts. Its report-to-image takes every image for the match once, alone: "report" here takes the best
    image of a study, so the two agree where a study has one image. Its same-text-counts leaves images of the same text
    in the pool, where they neither hurt nor help; here they help. It states k/N throughout.

    Returns the counts and one row a query: query_id, patient_id, study_id ("" for a patient's), match_id (the candidate
    that was ranked: record, study or patient), n_images and n_reports (in query and match), n_hits (hits with distinct
    vectors, each a chance), n_same_text (eligible candidates that are hits by their text while in the pool), and
    direction, images_by, reports_by and hit in words.
    InputError where "own" names several candidates or studies: patients' images against single reports, and patients'
    reports against single images, other than for hit "patient".
    """
    one_of("direction", direction, DIRECTIONS)
    one_of("images_by", images_by, IMAGES_BY)
    one_of("reports_by", reports_by, REPORTS_BY)
    one_of("hit", hit, tuple(HITS[direction]))
    if direction == "report-to-image":
        return _images_for_reports(embeddings, images_by, reports_by, hit)
    units = _Units.of(embeddings, images_by, reports_by)
    match = units.report_code[embeddings.match][units.image_first]
    n_hits, n_same_text = np.ones(len(match), dtype=np.int64), np.zeros(len(match), dtype=np.int64)
    texts = {}
    if hit == "patient":
        groups = ranking.coded_pair(units.image_group, units.report_group, len(match), len(units.reports), "group")
        own = ranking.own_candidates(match, groups, len(units.reports))
        match, n_hits = _best(units.images, units.reports, *own)
    else:
        several = units.report_code[embeddings.match] != match[units.image_code]
        if several.any():
            patient = embeddings.records["patient_id"].iloc[int(np.argmax(several))]
            raise InputError(
                f"Patient {patient!r} has several reports, so fused images have no one report of their own.",
                "Take hit='patient', or fuse the reports too (reports_by='patient').",
            )
    if hit == "text":
        key = np.unique(units.text, return_inverse=True)[1]
        texts = {"query_text": key[match], "candidate_text": key}
        alike = ranking.own_candidates(match, (key[match], key), len(units.reports))
        others = units.image_group[alike[0]] != units.report_group[alike[1]]
        n_same_text = np.bincount(alike[0][others], minlength=len(match))
    counts = match_counts(
        units.images,
        units.reports,
        match,
        query_group=units.image_group,
        candidate_group=units.report_group,
        **texts,
    )
    records = embeddings.records.iloc[units.image_first]
    table = pd.DataFrame(
        {
            "query_id": units.image_ids,
            "patient_id": records["patient_id"].to_numpy(),
            "study_id": "" if images_by == "patient" else records["study_id"].to_numpy(),
            "match_id": units.report_ids[match],
            "n_images": np.bincount(units.image_code),
            "n_reports": np.bincount(units.report_code)[match],
            "n_hits": n_hits,
            "n_same_text": n_same_text,
        }
    )
    return counts, table.assign(**_words(direction, images_by, reports_by, hit))


def _images_for_reports(
    embeddings: Embeddings, images_by: ImagesBy, reports_by: ReportsBy, hit: Hit
) -> tuple[MatchCounts, pd.DataFrame]:
    """fused_counts, report to image."""
    units = _Units.of(embeddings, images_by, reports_by)
    n_queries, n_candidates = len(units.reports), len(units.images)
    n_studies = np.bincount(units.report_code)
    if hit != "patient" and images_by != "patient" and (n_studies > 1).any():
        patient = units.report_ids[int(np.argmax(n_studies > 1))]
        raise InputError(
            f"Patient {patient!r} has reports of several studies, so fused reports have no one study of their own.",
            "Take hit='patient', or fuse the images too (images_by='patient').",
        )
    # a candidate is a hit if one of its images belongs to the query: by report, by its text or by its patient
    query_key = {"report": np.arange(n_queries), "text": units.text, "patient": units.report_group}[hit]
    query_key = np.unique(query_key, return_inverse=True)[1]
    held = np.unique(query_key[units.report_code[embeddings.match]] * n_candidates + units.image_code)
    key, candidate = held // n_candidates, held % n_candidates
    hits = _expanded(query_key, key, candidate)
    match, n_hits = _best(units.images, units.reports, *hits, of_images=True)
    groups = ranking.coded_pair(units.report_group, units.image_group, n_queries, n_candidates, "group")
    own = ranking.own_candidates(match, groups, n_candidates)
    away = np.unique(np.concatenate([q * n_candidates + c for q, c in (hits, own)]))
    counts = _counts_without(units.reports, units.images, match, away // n_candidates, away % n_candidates)
    candidates = embeddings.candidates.iloc[units.report_first]
    table = pd.DataFrame(
        {
            "query_id": units.report_ids,
            "patient_id": candidates["patient_id"].to_numpy(),
            "study_id": "" if reports_by == "patient" else candidates["study_id"].to_numpy(),
            "match_id": units.image_ids[match],
            "n_images": np.bincount(units.image_code)[match],
            "n_reports": n_studies,
            "n_hits": n_hits,
            "n_same_text": 0,
        }
    )
    return counts, table.assign(**_words("report-to-image", images_by, reports_by, hit))


def chance(counts: MatchCounts, queries: pd.DataFrame, pool_size: int, k: int) -> np.ndarray:
    """Probability that a guess, k candidates of the pool at random, holds a hit; (n_queries,) of fused_counts.

    See pools.guessed. A guess, not a scorer without knowledge: fused vectors of many parts are short, and their scores
    seldom extreme.
    """
    hits, same_text = queries["n_hits"].to_numpy(), queries["n_same_text"].to_numpy()
    return pools.guessed(pool_size, k, counts.n_eligible, same_text, hits)


FUSION_COLUMNS = (
    *("cohort", "model", "head", "split", "direction", "images_by", "reports_by", "hit", "pool_size", "k"),
    *("n_queries", "n_excluded", "n_patients", "recall", "recall_low", "recall_high", "chance", "lift", "flag", "seed"),
)


def fusion_table(
    entry: Entry,
    pool_sizes: Sequence[int] = (100,),
    ks: Sequence[int] = (1,),
    head: str = OFF_THE_SHELF,
    direction: Direction = "image-to-report",
    *,
    images_by: ImagesBy = None,
    reports_by: ReportsBy = None,
    hit: Hit = "report",
    split: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How much more is linked by an attacker who fuses, turns the question round, or is content with less?

    One row for each N and k, FUSION_COLUMNS: recall is the mean over queries with its patient-clustered 95% interval
    (statistics.rate_intervals), chance the mean of `chance` over the same queries, lift = recall /
    chance. `flag` is "" or why the row says little. Rows of other directions and fusions have other queries: their
    difference has no interval here.
    InputError as fused_counts, and if an N is larger than any query can fill.
    """
    split = asked_split(entry, head, split)
    embeddings = entry.embeddings(head, split)
    said = {"cohort": entry.cohort, "model": entry.model, "head": head, "split": split}
    asked = list(product(pool_sizes, ks))
    counts, queries = fused_counts(embeddings, images_by, reports_by, hit, direction)
    return _rated(counts, queries, asked, said, seed)


def fusion_tables(
    entry: Entry,
    pool_sizes: Sequence[int] = (100,),
    ks: Sequence[int] = (1,),
    head: str = OFF_THE_SHELF,
    directions: Sequence[str] = DIRECTIONS,
    *,
    split: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """fusion_table of every direction, fusion and hit that is defined for this entry, and every N it can fill.

    `attrs["left_out"]` lists the others: direction, images_by, reports_by, hit, pool_size (None: at any) and note, why.
    InputError for a k that no N allows.
    """
    for direction in directions:
        one_of("direction", direction, DIRECTIONS)
    split = asked_split(entry, head, split)
    embeddings = entry.embeddings(head, split)
    said = {"cohort": entry.cohort, "model": entry.model, "head": head, "split": split}
    asked = [(n, k) for n, k in product(pool_sizes, ks) if k <= n]
    if not asked:
        raise InputError(f"k is {min(ks, default=0)}, and the largest pool {max(pool_sizes, default=0)}.", "k is 1..N.")
    tables: list[pd.DataFrame] = []
    left_out: list[dict[str, Any]] = []
    for direction, images_by, reports_by, hit in product(directions, IMAGES_BY, REPORTS_BY, HITS[DIRECTIONS[0]]):
        switches: Any = (images_by, reports_by, hit, direction)
        try:
            counts, queries = fused_counts(embeddings, *switches)
        except InputError:
            note = f"Patients with several {SEVERAL[direction]} of their own."
            left_out.append({**_words(direction, images_by, reports_by, hit), "pool_size": None, "note": note})
            continue
        largest = pools.largest_pool(counts)
        note = f"The largest possible N is {largest}."
        left_out += [
            {**_words(direction, images_by, reports_by, hit), "pool_size": int(n), "note": note}
            for n in pool_sizes
            if n > largest
        ]
        fits = [(n, k) for n, k in asked if n <= largest]
        if fits:
            tables.append(_rated(counts, queries, fits, said, seed))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(FUSION_COLUMNS))
    table.attrs["left_out"] = left_out
    return table


def _rated(
    counts: MatchCounts, queries: pd.DataFrame, asked: Sequence[tuple[int, int]], said: dict[str, Any], seed: int
) -> pd.DataFrame:
    """Rows of fusion_table from counts and their queries."""
    chances = np.column_stack([chance(counts, queries, n, k) for n, k in asked])
    words = queries.iloc[0][["direction", "images_by", "reports_by", "hit"]].to_dict()
    tied = pools.tied_flag(counts, queries["n_same_text"].to_numpy())
    rates = _rates(counts, queries["patient_id"].to_numpy(), asked, chances, tied, seed)
    rows = [{**said, **words, **rate, "seed": seed} for rate in rates]
    return pd.DataFrame(rows)[list(FUSION_COLUMNS)]


def _rates(
    counts: MatchCounts,
    patients: np.ndarray,
    asked: Sequence[tuple[int, int]],
    chances: np.ndarray,
    tied: str,
    seed: int,
) -> list[dict[str, Any]]:
    """For each (N, k): sizes, recall with its interval, chance (n_queries, n_asked), lift and flag."""
    recall = np.column_stack([pools.expected_recall(counts, n, k) for n, k in asked])
    interval = intervals.rate_intervals(recall, patients, seed=seed)
    rows = []
    for i, (n, k) in enumerate(asked):
        used = ~np.isnan(recall[:, i])
        n_patients = len(np.unique(patients[used]))
        estimate = float(interval.estimate[i])
        guessed = float(chances[used, i].mean())
        rows.append(
            {
                "pool_size": n,
                "k": k,
                "n_queries": int(interval.n[i]),
                "n_excluded": len(recall) - int(interval.n[i]),
                "n_patients": n_patients,
                "recall": estimate,
                "recall_low": float(interval.low[i]),
                "recall_high": float(interval.high[i]),
                "chance": guessed,
                "lift": estimate / guessed,
                "flag": intervals.flag_of(patients[used]) or tied,
            }
        )
    return rows


def shifted_counts(
    query_entry: Entry, gallery_entry: Entry, head: str = OFF_THE_SHELF, *, split: str | None = None
) -> tuple[MatchCounts, pd.DataFrame]:
    """How does linkage change where the decoys come from another hospital?

    Each image of `query_entry` has its own report added to the reports of `gallery_entry`; n_better, n_tied and
    n_eligible count those of the gallery, all of them: its patients are other people by construction. An attacker can
    tell a report by the style of its hospital, so this measures style and image shift together with linkage. A text
    that both cohorts hold is one vector, so it ties exactly.

    `split` is of both; by default each entry's own default. Returns the counts and one row a query: record_id,
    patient_id, study_id, query_cohort, gallery_cohort.
    InputError where the entries differ in model, weights, head or dimension, or hold the same studies.
    """
    _comparable(query_entry, gallery_entry, head)
    own, other = query_entry.embeddings(head, split), gallery_entry.embeddings(head, split)
    _other_people(own, other)
    n_gallery = len(other.reports)
    candidates = np.concatenate([_same_text_same_vector(own, other), own.reports])
    match = n_gallery + own.match
    vectors, column_of, _ = ranking.distinct(candidates, match)
    # the queries' own reports are scored but are nobody's decoys: no multiplicity, so they count for nothing
    multiplicity = np.bincount(column_of[:n_gallery], minlength=len(vectors)).astype(np.int32)
    n_queries = len(own.images)
    n_better, n_tied = _counted(own.images, vectors, multiplicity, column_of[match], [])
    queries = own.records[["record_id", "patient_id", "study_id"]].assign(
        query_cohort=query_entry.cohort, gallery_cohort=gallery_entry.cohort
    )
    return MatchCounts(n_better, n_tied, np.full(n_queries, n_gallery, dtype=np.int64)), queries


def shift_table(
    store: Store,
    model: str,
    cohorts: Sequence[str] = ("phantom", "phantom-site-b"),
    pool_sizes: Sequence[int] = (100,),
    ks: Sequence[int] = (1,),
    head: str = OFF_THE_SHELF,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Every cohort's images against every cohort's reports, its own included; by default the phantom's two sites.

    One row a pair, N and k: query_cohort, gallery_cohort, model, head, pool_size, k, n_queries, n_excluded, n_patients,
    n_gallery, n_shared (queries whose report's text other patients of the gallery have too, so that they tie), recall,
    recall_low, recall_high (patient-clustered; statistics.rate_intervals), chance, lift, flag, and
    `says`, the row as a sentence. Within a cohort the decoys are other patients' reports. What the two rows of one
    cohort differ by is what the gallery's style gives away or hides; the images are the same.
    InputError if an N is larger than any query of a pair can fill.
    """
    rows = []
    for of_query, of_gallery in product(cohorts, cohorts):
        entry = store.open(of_query, model)
        if of_query == of_gallery:
            embeddings = entry.embeddings(head)
            counts, queries = fused_counts(embeddings)
            n_gallery = len(embeddings.reports)
        else:
            counts, queries = shifted_counts(entry, store.open(of_gallery, model), head)
            n_gallery = int(counts.n_eligible[0])
        asked = list(product(pool_sizes, ks))
        chances = np.tile([k / n for n, k in asked], (len(queries), 1))
        rows += [
            {
                "query_cohort": of_query,
                "gallery_cohort": of_gallery,
                "model": model,
                "head": head,
                "n_gallery": n_gallery,
                "n_shared": int((counts.n_tied > 0).sum()),
                **rate,
            }
            for rate in _rates(counts, queries["patient_id"].to_numpy(), asked, chances, pools.tied_flag(counts), seed)
        ]
    table = pd.DataFrame(rows, columns=list(SHIFT_COLUMNS[:-1]))
    return table.assign(says=[_says(dict(row)) for _, row in table.iterrows()])


SHIFT_COLUMNS = (
    *("query_cohort", "gallery_cohort", "model", "head", "pool_size", "k", "n_queries", "n_excluded", "n_patients"),
    *("n_gallery", "n_shared", "recall", "recall_low", "recall_high", "chance", "lift", "flag", "says"),
)


def _says(row: dict[str, Any]) -> str:
    """
    >>> ends = {"recall": 0.144, "recall_low": 0.13, "recall_high": 0.16, "chance": 0.01, "flag": ""}
    >>> _says({"query_cohort": "a", "gallery_cohort": "b", "pool_size": 100, "k": 1, **ends})
    'Beside 99 reports of b, 14 of 100 images of a find their own report first (13 to 16); guessing: 1.'
    """
    out_of = 100
    while out_of < min(row["pool_size"], 10_000):
        out_of *= 10

    def whole(rate: float) -> str:
        return f"{rate * out_of:,.0f}" if rate * out_of >= 1 - 1e-9 else "fewer than 1"

    ends = row["recall_low"] * out_of, row["recall_high"] * out_of
    decimals = int(f"{ends[0]:.0f}" == f"{ends[1]:.0f}")
    low, high = (f"{end:,.{decimals}f}" for end in ends)
    place = "first" if row["k"] == 1 else f"among the first {row['k']}"
    whose = "their own cohort" if row["gallery_cohort"] == row["query_cohort"] else row["gallery_cohort"]
    sentence = (
        f"Beside {row['pool_size'] - 1:,} reports of {whose}, {whole(row['recall'])} of {out_of:,} images of "
        f"{row['query_cohort']} find their own report {place} ({low} to {high}); guessing: {whole(row['chance'])}."
    )
    return f"{sentence} {row['flag'].capitalize()}." if row["flag"] else sentence


def _units(table: pd.DataFrame, by: str | None, alone: str) -> pd.Series:
    """Which unit each row is fused into."""
    return table[{None: alone, "study": "study_id", "patient": "patient_id"}[by]]


@dataclass(frozen=True)
class _Units:
    """Images and reports, each fused or not: ids in order of appearance, the first row and the code of each row, mean
    vectors, patients; and the text of each report unit, that of all its reports together."""

    image_ids: np.ndarray
    image_first: np.ndarray
    image_code: np.ndarray
    images: np.ndarray
    image_group: np.ndarray
    report_ids: np.ndarray
    report_first: np.ndarray
    report_code: np.ndarray
    reports: np.ndarray
    report_group: np.ndarray
    text: np.ndarray

    @classmethod
    def of(cls, embeddings: Embeddings, images_by: str | None, reports_by: str | None) -> _Units:
        image_ids, image_first, image_code = _coded(_units(embeddings.records, images_by, "record_id"))
        report_ids, report_first, report_code = _coded(_units(embeddings.candidates, reports_by, "study_id"))
        text = embeddings.candidates["report_key"].to_numpy(str)
        by_text = np.unique(text, return_inverse=True)[1]
        return cls(
            image_ids,
            image_first,
            image_code,
            _mean(embeddings.images, image_code, len(image_ids), np.arange(len(image_code))),
            embeddings.query_group[image_first],
            report_ids,
            report_first,
            report_code,
            _mean(embeddings.reports, report_code, len(report_ids), by_text),
            embeddings.candidate_group[report_first],
            _joined_texts(text, report_code, len(report_ids)),
        )


def _words(direction: str, images_by: str | None, reports_by: str | None, hit: str) -> dict[str, str]:
    return {
        "direction": direction,
        "images_by": images_by or ALONE[0],
        "reports_by": reports_by or ALONE[1],
        "hit": hit,
    }


def _coded(units: pd.Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids in order of appearance, first row of each, code of each row)."""
    code, ids = pd.factorize(units)
    return np.asarray(ids), np.unique(code, return_index=True)[1], code


def _mean(vectors: np.ndarray, code: np.ndarray, n_units: int, within: np.ndarray) -> np.ndarray:
    """Mean of the rows of each unit, float32. Summed in float64 in the order of `within`, so that equal sets of rows
    have equal means, bit by bit, and a row alone (or with copies of itself) stays what it is."""
    if n_units == len(code):
        return vectors
    order = np.lexsort((within, code))
    first = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=n_units))[:-1]])
    sums = np.add.reduceat(vectors[order].astype(np.float64), first, axis=0)
    return np.asarray(sums / np.bincount(code, minlength=n_units)[:, None], dtype=np.float32)


def _joined_texts(text: np.ndarray, code: np.ndarray, n_units: int) -> np.ndarray:
    """Text key of each unit: the sorted keys of all its reports."""
    if n_units == len(text):
        return text
    order = np.lexsort((text, code))
    parts = np.split(text[order], np.cumsum(np.bincount(code, minlength=n_units))[:-1])
    return np.array(["+".join(part) for part in parts])


def _expanded(query_key: np.ndarray, key: np.ndarray, candidate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (query, candidate) of equal keys, by query; `key` (n_held,) is sorted, and goes with `candidate`."""
    low, high = np.searchsorted(key, query_key, "left"), np.searchsorted(key, query_key, "right")
    length = high - low
    query = np.repeat(np.arange(len(query_key)), length)
    first = np.repeat(low - np.concatenate([[0], np.cumsum(length)[:-1]]), length)
    return query, candidate[first + np.arange(len(query))]


def _best(
    images: np.ndarray, reports: np.ndarray, query: np.ndarray, candidate: np.ndarray, *, of_images: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """(the best of each query's hits, how many distinct vectors they are) from pairs sorted by query; every query has
    one. Queries are images unless the hits are `of_images`."""
    queries, candidates = (reports, images) if of_images else (images, reports)
    score = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), _PAIRS):
        part = slice(start, start + _PAIRS)
        score[part] = np.einsum("ij,ij->i", queries[query[part]], candidates[candidate[part]])
    order = np.lexsort((-score, query))
    best = candidate[order[np.unique(query[order], return_index=True)[1]]]
    _, column_of, multiplicity = ranking.distinct(candidates, best)
    distinct = np.unique(query * len(multiplicity) + column_of[candidate]) // len(multiplicity)
    return best, np.bincount(distinct, minlength=len(queries))


def _counts_without(
    queries: np.ndarray, candidates: np.ndarray, match: np.ndarray, query: np.ndarray, candidate: np.ndarray
) -> MatchCounts:
    """Counts over all candidates but the listed pairs, which hold every query's match."""
    vectors, column_of, multiplicity = ranking.distinct(candidates, match)
    away = ranking.OwnColumns(query, column_of[candidate], len(queries))
    n_better, n_tied = _counted(queries, vectors, multiplicity, column_of[match], [away])
    return MatchCounts(n_better, n_tied, len(candidates) - np.bincount(query, minlength=len(queries)))


def _counted(
    queries: np.ndarray,
    vectors: np.ndarray,
    multiplicity: np.ndarray,
    column: np.ndarray,
    lists: list[ranking.OwnColumns],
) -> tuple[np.ndarray, np.ndarray]:
    """(n_better, n_tied) of each query's `column` among distinct vectors, block by block."""
    n_better, n_tied = np.zeros((2, len(queries)), dtype=np.int64)
    order = np.argsort(column, kind="stable")

    def count(start: int) -> None:
        rows = order[start : start + ranking.QUERY_BLOCK]
        tile = np.empty(len(rows) * min(ranking.CANDIDATE_BLOCK, len(vectors)), dtype=np.float32)
        ranking.count_block(queries[rows], vectors, multiplicity, rows, column[rows], lists, n_better, n_tied, tile)

    ranking.each_block(count, len(queries), ranking.QUERY_BLOCK)
    return n_better, n_tied


def _comparable(one: Entry, other: Entry, head: str) -> None:
    said, there = one.manifest["model"], other.manifest["model"]
    names = (said.get("name", one.model), there.get("name", other.model))
    if one.model != other.model or names[0] != names[1]:
        raise InputError(
            f"The queries were seen by {one.model}, the gallery by {other.model}.", "Both must come from one model."
        )
    hashes = (said.get("weights_sha256"), there.get("weights_sha256"))
    if hashes[0] != hashes[1]:
        shown = [str(h)[:12] if h else "none recorded" for h in hashes]
        raise InputError(
            f"{one.cohort} and {other.cohort} were embedded with other weights of {one.model} "
            f"({shown[0]} and {shown[1]}).",
            "Embed one of them again with the weights of the other.",
        )
    a, b = one.heads(head), other.heads(head)
    if a.image.weight.shape[0] != b.image.weight.shape[0]:
        raise InputError(
            f"The queries have {a.image.weight.shape[0]} dimensions, the gallery {b.image.weight.shape[0]}.",
            "Both must come from one model and head.",
        )
    layers = ((a.image, b.image), (a.text, b.text))
    if not all(np.array_equal(x.weight, y.weight) and np.array_equal(x.bias, y.bias) for x, y in layers):
        raise InputError(
            f"The head {head!r} of {one.cohort} is not the one of {other.cohort}.",
            "Apply the same head to both.",
        )


def _other_people(own: Embeddings, other: Embeddings) -> None:
    columns = ["patient_id", "study_id", "report_key"]
    common = own.candidates[columns].merge(other.candidates[columns])
    if len(common):
        raise InputError(
            f"Both cohorts hold study {common['study_id'].iloc[0]!r} ({len(common)} such studies).",
            "Queries and gallery must be of different people; for one cohort use an audit.",
        )


def _same_text_same_vector(own: Embeddings, other: Embeddings) -> np.ndarray:
    """The gallery's reports, with the queries' vector wherever the text is the same: two runs of one encoder differ in
    their last digits. Keys that stand for something else in the two cohorts (imported arrays) are told by the angle."""
    place = pd.Index(own.candidates["report_key"].drop_duplicates())
    first = np.flatnonzero(~own.candidates["report_key"].duplicated().to_numpy())
    found = place.get_indexer(other.candidates["report_key"])
    rows = np.flatnonzero(found >= 0)
    reports = other.reports.copy()
    twins = own.reports[first[found[rows]]]
    same = np.einsum("ij,ij->i", twins, reports[rows]) > 1 - 1e-4
    reports[rows[same]] = twins[same]
    return reports
