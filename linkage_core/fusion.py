"""Other queries and other galleries for one model: fused images, fused reports, other hits, another cohort's reports.

What is fused is scored by the mean of its parts' scores, which is the score of the mean of their unit embeddings; the
mean is not scaled to norm 1 again. A query is one image, or all images of a study or of a patient; a candidate is one
report, or all reports of a patient. The candidates that are no hit are always those of other patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd

from linkage_core import pools, ranking, statistics
from linkage_core.errors import InputError
from linkage_core.ranking import MatchCounts, match_counts
from linkage_core.store import OFF_THE_SHELF, Embeddings, Entry, Store

HITS = {
    "report": "the query's own report",
    "text": "any report with the text of the query's own report",
    "patient": "any report of the query's patient",
}
_PAIRS = 65_536


def fused_counts(
    embeddings: Embeddings,
    images_by: Literal["study", "patient"] | None = None,
    reports_by: Literal["patient"] | None = None,
    hit: Literal["report", "text", "patient"] = "report",
) -> tuple[MatchCounts, pd.DataFrame]:
    """What if the attacker pools the images of a study or a patient, or the reports of one, or is content with less?

    The counts, over reports (or fused reports) of other patients, are those of ranking.match_counts:
        hit "report": the match is the query's own report, and n_eligible all candidates of other patients;
        hit "text": as above, and an eligible candidate of the same text never hurts: it is neither better nor tied, but
            still stands in the pool. A fused report has the texts of all its reports as its text;
        hit "patient": every report of the patient is a hit, and the best of them decides. With s the largest score of
            the patient's own candidates, n_better and n_tied are the candidates of other patients above and equal to
            s. A pool of N is N-1 of those beside the patient's own, so the first hit stands at 1 + X, X ~
            Hypergeometric(n_eligible, n_better, N-1), and the closed forms of `pools` hold as they are. Their baseline
            does not: m own reports are m chances. See any_hit_by_chance, with m the column n_hits.

    Returns the counts and one row a query: query_id, patient_id, study_id ("" for a patient's), match_id (study or, for
    fused reports, patient of the candidate that was ranked), n_images, n_reports (in the match), n_hits (candidates
    with distinct vectors that are the query's own hits), and images_by, reports_by and hit in words.
    InputError where "own report" names several: fused images of patients with several unfused reports.
    """
    _one_of(images_by, (None, "study", "patient"), "images_by")
    _one_of(reports_by, (None, "patient"), "reports_by")
    _one_of(hit, tuple(HITS), "hit")
    image_unit = _units(embeddings.records, images_by, "record_id")
    report_unit = _units(embeddings.candidates, reports_by, "study_id")
    image_ids, image_first, image_code = _coded(image_unit)
    report_ids, report_first, report_code = _coded(report_unit)
    text = embeddings.candidates["report_key"].to_numpy(str)
    queries = _mean(embeddings.images, image_code, len(image_ids), np.arange(len(image_code)))
    candidates = _mean(embeddings.reports, report_code, len(report_ids), np.unique(text, return_inverse=True)[1])
    query_group = embeddings.query_group[image_first]
    candidate_group = embeddings.candidate_group[report_first]

    match = report_code[embeddings.match][image_first]
    if hit == "patient":
        match, n_hits = _best_own(queries, candidates, match, query_group, candidate_group)
    else:
        n_hits = np.ones(len(queries), dtype=np.int64)
        several = report_code[embeddings.match] != match[image_code]
        if several.any():
            patient = embeddings.records["patient_id"].iloc[int(np.argmax(several))]
            raise InputError(
                f"Patient {patient!r} has several reports, so fused images have no one report of their own.",
                "Take hit='patient', or fuse the reports too (reports_by='patient').",
            )
    texts = {}
    if hit == "text":
        key = _joined_texts(text, report_code, len(report_ids))
        texts = {"query_text": key[match], "candidate_text": key}
    counts = match_counts(queries, candidates, match, query_group=query_group, candidate_group=candidate_group, **texts)
    records = embeddings.records.iloc[image_first]
    table = pd.DataFrame(
        {
            "query_id": image_ids,
            "patient_id": records["patient_id"].to_numpy(),
            "study_id": "" if images_by == "patient" else records["study_id"].to_numpy(),
            "match_id": report_ids[match],
            "n_images": np.bincount(image_code, minlength=len(image_ids)),
            "n_reports": np.bincount(report_code, minlength=len(report_ids))[match],
            "n_hits": n_hits,
            "images_by": images_by or "image",
            "reports_by": reports_by or "report",
            "hit": hit,
        }
    )
    return counts, table


def any_hit_by_chance(n_hits: np.ndarray, pool_size: int, k: int) -> np.ndarray:
    """Probability that a guess puts one of m hits among the first k, beside N-1 others; (n_queries,).

    In a random order of N-1+m candidates none of the first k is a hit with probability C(N-1, k) / C(N-1+m, k), the
    product over i < k of (N-1-i) / (N-1+m-i). For m = 1 it is k/N.

    >>> any_hit_by_chance(np.array([1, 2]), 10, 1).round(4).tolist()
    [0.1, 0.1818]
    """
    if not 1 <= k <= pool_size:
        raise InputError(f"k is {k}, and the pool holds {pool_size} reports.", "k lies between 1 and N.")
    m = np.asarray(n_hits, dtype=np.float64)
    if (m < 1).any():
        raise InputError(f"n_hits holds {m.min():g}.", "Every query has at least one hit.")
    missed = np.ones_like(m)
    for i in range(k):
        missed *= (pool_size - 1 - i) / (pool_size - 1 + m - i)
    return np.asarray(1 - missed)


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
    n_better, n_tied = np.zeros((2, n_queries), dtype=np.int64)
    column = column_of[match]
    order = np.argsort(column, kind="stable")
    block = min(ranking.QUERY_BLOCK, n_queries)
    tile = np.empty(block * min(ranking.CANDIDATE_BLOCK, len(vectors)), dtype=np.float32)
    for start in range(0, n_queries, block):
        rows = order[start : start + block]
        ranking.count_block(own.images[rows], vectors, multiplicity, rows, column[rows], [], n_better, n_tied, tile)
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
    n_gallery, recall, recall_low, recall_high (patient-clustered), chance, lift. Within a cohort the decoys are other
    patients' reports. InputError if an N is larger than any query of a pair can fill.
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
        recall = np.column_stack([pools.expected_recall(counts, n, k) for n, k in asked])
        interval = statistics.cluster_bootstrap(recall, queries["patient_id"].to_numpy(), seed=seed)
        rows += [
            {
                "query_cohort": of_query,
                "gallery_cohort": of_gallery,
                "model": model,
                "head": head,
                "pool_size": n,
                "k": k,
                "n_queries": int(interval.n[i]),
                "n_excluded": len(recall) - int(interval.n[i]),
                "n_patients": int(queries["patient_id"][~np.isnan(recall[:, i])].nunique()),
                "n_gallery": n_gallery,
                "recall": float(interval.estimate[i]),
                "recall_low": float(interval.low[i]),
                "recall_high": float(interval.high[i]),
                "chance": k / n,
                "lift": float(interval.estimate[i]) * n / k,
            }
            for i, (n, k) in enumerate(asked)
        ]
    return pd.DataFrame(rows)


def _one_of(value: str | None, known: tuple[str | None, ...], name: str) -> None:
    if value not in known:
        raise InputError(f"{name} is {value!r}.", f"It is one of: {', '.join(map(repr, known))}.")


def _units(table: pd.DataFrame, by: str | None, alone: str) -> pd.Series:
    """Which unit each row is fused into."""
    return table[{None: alone, "study": "study_id", "patient": "patient_id"}[by]]


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


def _best_own(
    queries: np.ndarray,
    candidates: np.ndarray,
    match: np.ndarray,
    query_group: np.ndarray,
    candidate_group: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(the best of each query's own candidates, how many distinct vectors they are)."""
    groups = ranking.coded_pair(query_group, candidate_group, len(queries), len(candidates), "group")
    query, candidate = ranking.own_candidates(match, groups, len(candidates))
    score = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), _PAIRS):
        part = slice(start, start + _PAIRS)
        score[part] = np.einsum("ij,ij->i", queries[query[part]], candidates[candidate[part]])
    order = np.lexsort((-score, query))
    first = np.unique(query[order], return_index=True)[1]
    _, column_of, multiplicity = ranking.distinct(candidates, match)
    distinct = np.unique(query * len(multiplicity) + column_of[candidate]) // len(multiplicity)
    return candidate[order[first]], np.bincount(distinct, minlength=len(queries))


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
