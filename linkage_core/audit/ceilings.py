"""Ceilings from the reports alone: what nobody passes who knows so much of the right report, and no more.

Whoever knows the very text of the right report still cannot tell it from a report with the same text. So the share that
is linked in pools of N is at most what somebody reaches who picks one of the identical candidates at random, and that
is exact (ranking.pools): with t identical ones among the E candidates of other patients, none is better than the match
and t are level with it. The same holds for who knows the 14 findings of the right report and sees each candidate's, for
sex, and for age. The pools are those of the audit: the match and N-1 reports of other patients.

A ceiling is of one kind of knowledge. Who knows more passes it: who also knows the candidates' sex and age passes that
of the text, and no figure here limits somebody who knows which report was written on the day of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from linkage_core import sentences
from linkage_core.audit.study import PoolSize
from linkage_core.cohorts.base import LABELS, text_key
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, identical_counts
from linkage_core.ranking.intervals import flag_of, rate_intervals
from linkage_core.validate import by_name

TEXT = "text"


@dataclass(frozen=True)
class Known:
    """What somebody knows of the right report. columns: of `known_of`, which tell reports apart."""

    name: str
    columns: tuple[str, ...]
    words: str


_WHO = ("sex", "years")
KNOWN = by_name(
    "knowledge",
    Known(TEXT, ("report_key",), "the very text"),
    Known("text+sex+age", ("report_key", *_WHO), "the very text, sex and age in years"),
    Known("findings", LABELS, "the 14 findings"),
    Known("findings+sex", (*LABELS, "sex"), "the 14 findings and sex"),
    Known("findings+sex+decade", (*LABELS, "sex", "decade"), "the 14 findings, sex and decade of age"),
    Known("findings+sex+age", (*LABELS, *_WHO), "the 14 findings, sex and age in years"),
    Known("own-labels", ("own_labels",), "the collection's own labels"),
    Known("own-labels+sex", ("own_labels", "sex"), "the collection's own labels and sex"),
    Known("own-labels+sex+age", ("own_labels", *_WHO), "the collection's own labels, sex and age in years"),
)
COLUMNS = (
    *("knows", "unit", "pool_size", "n_queries", "n_excluded", "n_patients", "ceiling", "ceiling_low", "ceiling_high"),
    *("chance", "shared", "n_classes", "largest_class", "flag"),
)
UNITS = {
    "images": "every image a query, every study of another patient a candidate: as the audit",
    "studies": "every study once a query, every study of another patient a candidate",
    "patients": "one study a patient, the first of the table, as query and as candidate",
}


def by_unit(records: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The queries of one of UNITS: rows of records. Which study stands for a patient: the first in the table."""
    columns = {"images": "record_id", "studies": "study_id", "patients": "patient_id"}
    if unit not in columns:
        raise InputError(f"There is no unit {unit!r}.", f"They are: {', '.join(columns)}.")
    return records.drop_duplicates(columns[unit]).reset_index(drop=True)


def known_of(records: pd.DataFrame) -> pd.DataFrame:
    """One row a study, by study_id: what can be known of its report, which is that of its first record.

    patient_id, report_key, the 14 labels (missing, 0, 1 and -1 are four values), sex, years and decade of age; own_labels
    as a set where the collection has them. A value that is missing is a value too.
    """
    studies = records.drop_duplicates("study_id").set_index("study_id")
    known = studies[["patient_id", *LABELS, "sex"]].copy()
    known["report_key"] = studies["report_key"] if "report_key" in studies else _keys(studies["report"])
    known["years"] = np.floor(studies["age"].astype(np.float64))
    known["decade"] = known["years"] // 10
    if "own_labels" in studies:
        known["own_labels"] = studies["own_labels"]
    return known


def counts_of(records: pd.DataFrame, columns: Sequence[str]) -> MatchCounts:
    """Of each record: how many reports of other patients are equal to its own in all these columns of `known_of`?"""
    return _counts(records, known_of(records), columns)


def table(
    records: pd.DataFrame, pool_sizes: Sequence[PoolSize], *, unit: str = "images", seed: int = 0
) -> tuple[pd.DataFrame, dict[str, str]]:
    """(one row for each kind of knowledge and N, COLUMNS; kind -> why this cohort cannot say).

    ceiling: the mean over queries of how often the match comes first, exact for random pools of N, with a
    patient-clustered 95% interval (the same cohort, other patients). shared: share of the candidates that another
    patient's candidate equals; n_classes distinct ones, largest_class candidates in the largest. flag is "", or why the
    patients behind the row say little. An N that no query fills has no row.
    """
    queries = by_unit(records, unit)
    known = known_of(queries)
    left_out = {name: why for name in KNOWN if (why := _unknown(known, KNOWN[name]))}
    rows: list[dict[str, object]] = []
    values: list[np.ndarray] = []
    patients = queries["patient_id"].to_numpy()
    for name, of in KNOWN.items():
        if name in left_out:
            continue
        code = _codes(known, of.columns)
        counts = _counts(queries, known, of.columns)
        sizes = np.bincount(code)
        shared = float((_counts(known.reset_index(), known, of.columns).n_tied > 0).mean())
        for pool_size in pool_sizes:
            if pool_size != "full" and pool_size > pools.largest_pool(counts):
                continue
            rate = _first(counts, pool_size)
            chance = 1 / (counts.n_eligible + 1.0) if pool_size == "full" else np.full(len(rate), 1 / pool_size)
            filled = ~np.isnan(rate)
            values.append(rate)
            rows.append(
                {
                    "knows": name,
                    "unit": unit,
                    "pool_size": pool_size,
                    "n_queries": int(filled.sum()),
                    "n_excluded": int((~filled).sum()),
                    "n_patients": len(np.unique(patients[filled])),
                    "chance": float(chance[filled].mean()),
                    "shared": shared,
                    "n_classes": int((sizes > 0).sum()),
                    "largest_class": int(sizes.max()),
                    "flag": flag_of(patients[filled]),
                }
            )
    if rows:
        found = rate_intervals(np.column_stack(values), patients, seed=seed)
        for i, row in enumerate(rows):
            row |= {"ceiling": float(found.estimate[i])}
            row |= {f"ceiling_{end}": float(getattr(found, end)[i]) for end in ("low", "high")}
    return pd.DataFrame(rows, columns=list(COLUMNS)), left_out


def says(row: pd.Series, out_of: int, *, vectors: bool = False) -> str:
    """What the ceiling of the text means, in words. `vectors`: reports are known by their vectors alone (imported).

    >>> says(pd.Series({"ceiling": 0.8491, "shared": 0.439}), 100)
    'By the text alone nobody can link more than 85 of 100: 44 of 100 reports stand here word for word under several patients.'
    >>> says(pd.Series({"ceiling": 1.0, "shared": 0.0}), 100)
    'By the text alone no limit follows: no report stands here word for word under several patients.'
    """
    of, again = ("vectors", "are given alike to") if vectors else ("text", "stand here word for word under")
    if not row["shared"]:
        again = again.replace("are", "is").replace("stand here", "stands here")
        return f"By the {of} alone no limit follows: no report {again} several patients."
    return (
        f"By the {of} alone nobody can link more than {sentences.at_most(row['ceiling'], out_of)}: "
        f"{sentences.of(row['shared'], out_of)} reports {again} several patients."
    )


def _keys(reports: pd.Series) -> pd.Series:
    return reports.map({report: text_key(report) for report in reports.unique()})


def _codes(known: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """(n_studies,) equal where all these columns are; a missing value equals a missing one."""
    return known.groupby(list(columns), dropna=False, sort=False).ngroup().to_numpy()


def _counts(queries: pd.DataFrame, known: pd.DataFrame, columns: Sequence[str]) -> MatchCounts:
    match = known.index.get_indexer(queries["study_id"])
    group = pd.factorize(known["patient_id"])[0]
    return identical_counts(_codes(known, columns), match, group[match], group)


def _first(counts: MatchCounts, pool_size: PoolSize) -> np.ndarray:
    """How often the match comes first; NaN where a query cannot fill N, or has nobody beside it."""
    rate = pools.full_recall(counts, 1) if pool_size == "full" else pools.expected_recall(counts, pool_size, 1)
    return np.where(counts.n_eligible > 0, rate, np.nan)


def _unknown(known: pd.DataFrame, of: Known) -> str:
    """The sentence that says what this cohort does not give, or ""."""
    absent = []
    for column in of.columns:
        if column in LABELS:
            continue
        values = known[column] if column in known else pd.Series(dtype="str")
        if not (values.notna() & (values != "")).any():
            absent.append({"years": "age", "decade": "age", "own_labels": "labels of its own"}.get(column, column))
    if set(of.columns) >= set(LABELS) and known[list(LABELS)].isna().all(axis=None):
        absent.insert(0, "labels")
    return f"No record has {' or '.join(dict.fromkeys(absent))}." if absent else ""
