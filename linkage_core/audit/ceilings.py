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
from linkage_core.progress import Progress, silent
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, identical_counts
from linkage_core.ranking.intervals import flag_of, rate_intervals
from linkage_core.store.entry import Entry
from linkage_core.validate import by_name, one_of

TEXT, FINDINGS = "text", "findings"
ROUND = (100, 1000, 10_000)


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
    Known(FINDINGS, LABELS, "the 14 findings"),
    Known("findings+sex", (*LABELS, "sex"), "the 14 findings and sex"),
    Known("findings+sex+decade", (*LABELS, "sex", "decade"), "the 14 findings, sex and decade of age"),
    Known("findings+sex+age", (*LABELS, *_WHO), "the 14 findings, sex and age in years"),
    Known("own-labels", ("own_labels",), "the collection's own labels"),
    Known("own-labels+sex", ("own_labels", "sex"), "the collection's own labels and sex"),
    Known("own-labels+sex+age", ("own_labels", *_WHO), "the collection's own labels, sex and age in years"),
)
COLUMNS = (
    *(
        "knows",
        "unit",
        "pool_size",
        "k",
        "n_queries",
        "n_excluded",
        "n_patients",
        "ceiling",
        "ceiling_low",
        "ceiling_high",
    ),
    *("chance", "shared", "n_classes", "largest_class", "flag"),
)
UNITS = {
    "images": "every image a query, every study of another patient a candidate: as the audit",
    "studies": "every study once a query, every study of another patient a candidate",
    "patients": "one study a patient, the first of the table, as query and as candidate",
}


def by_unit(records: pd.DataFrame, unit: str) -> pd.DataFrame:
    """The queries of one of UNITS: rows of records. Which study stands for a patient: the first in the table."""
    one_of("unit", unit, UNITS)
    first_of = {"images": "record_id", "studies": "study_id", "patients": "patient_id"}[unit]
    return records.drop_duplicates(first_of).reset_index(drop=True)


def known_of(records: pd.DataFrame) -> pd.DataFrame:
    """One row a study, by study_id: what can be known of its report, which is that of its first record.

    patient_id, report_key, the 14 labels (missing, 0, 1 and -1 are four values), sex, years and decade of age, and
    own_labels, as a set, where the collection has them. A value that is missing is a value too.
    """
    studies = records.drop_duplicates("study_id").set_index("study_id")
    known = studies[["patient_id", *LABELS, "sex"]].copy()
    known["report_key"] = studies["report_key"] if "report_key" in studies else _keys(studies["report"])
    known["years"] = np.floor(studies["age"].astype(np.float64))
    known["decade"] = known["years"] // 10
    if "own_labels" in studies:
        known["own_labels"] = studies["own_labels"]
    return known


@dataclass(frozen=True)
class Ceiling:
    """One kind of knowledge over some queries. counts: (n_queries,) reports of other patients that are level with the
    match; shared: share of the candidates that another patient's candidate equals; n_classes distinct ones,
    largest_class candidates in the largest."""

    of: Known
    counts: MatchCounts
    shared: float
    n_classes: int
    largest_class: int

    def at(self, pool_size: PoolSize, k: int = 1) -> np.ndarray:
        """How often the match is among the first k of random pools of N, ties broken at random: (n_queries,), NaN where
        a query cannot fill N or has nobody beside it."""
        full = pool_size == "full"
        rate = pools.full_recall(self.counts, k) if full else pools.expected_recall(self.counts, int(pool_size), k)
        return np.where(self.counts.n_eligible > 0, rate, np.nan)

    def mean(self, pool_size: PoolSize, k: int = 1) -> float:
        """The mean over the queries that fill N."""
        return float(np.nanmean(self.at(pool_size, k)))


def ceiling(queries: pd.DataFrame, of: Known) -> Ceiling | str:
    """Of each of these records: how many reports of other patients equal its own in all that is known? Candidates are
    their studies. The sentence that says what the records do not give, where they do not."""
    known = known_of(queries)
    if why := _unknown(known, of):
        return why
    code = known.groupby(list(of.columns), dropna=False, sort=False).ngroup().to_numpy()
    group = pd.factorize(known["patient_id"])[0]
    match, each = known.index.get_indexer(pd.Index(queries["study_id"])), np.arange(len(known))
    sizes, again = np.bincount(code), identical_counts(code, each, group, group).n_tied > 0
    counts = identical_counts(code, match, group[match], group)
    return Ceiling(of, counts, float(again.mean()), len(sizes), int(sizes.max()))


def table(
    records: pd.DataFrame,
    pool_sizes: Sequence[PoolSize],
    ks: Sequence[int] = (1,),
    *,
    unit: str = "images",
    vectors: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """(one row for each kind of knowledge, N and k: COLUMNS; kind -> why this cohort cannot say).

    ceiling: the mean over queries of Ceiling.at, exact for random pools of N, with a patient-clustered 95% interval
    (other patients like these). chance is k/N (for "full", its mean over queries). flag is "", or why the patients
    behind the row say little. An N that no query fills, or smaller than k, has no row. Own labels have rows where
    `records` have the column. `vectors`: see `by_vectors`.
    """
    queries = by_unit(records, unit)
    patients = queries["patient_id"].to_numpy()
    rows: list[dict[str, object]] = []
    values: list[np.ndarray] = []
    left_out: dict[str, str] = {}
    for of in KNOWN.values():
        if "own_labels" in of.columns and "own_labels" not in records:
            continue  # few collections have labels other than the 14
        name = of.name.replace(TEXT, "vector") if vectors else of.name
        found = ceiling(queries, of)
        if isinstance(found, str):
            left_out[name] = found
            continue
        eligible = found.counts.n_eligible
        for pool_size in pool_sizes:
            for k in ks:
                if pool_size != "full" and not k <= pool_size <= pools.largest_pool(found.counts):
                    continue
                rate = found.at(pool_size, k)
                filled = ~np.isnan(rate)
                chance = (
                    np.minimum(k / (eligible + 1.0), 1.0) if pool_size == "full" else np.full(len(rate), k / pool_size)
                )
                values.append(rate)
                rows.append(
                    {
                        "knows": name,
                        "unit": unit,
                        "pool_size": pool_size,
                        "k": k,
                        "n_queries": int(filled.sum()),
                        "n_excluded": int((~filled).sum()),
                        "n_patients": len(np.unique(patients[filled])),
                        "chance": float(chance[filled].mean()),
                        "shared": found.shared,
                        "n_classes": found.n_classes,
                        "largest_class": found.largest_class,
                        "flag": flag_of(patients[filled]),
                    }
                )
    if rows:
        interval = rate_intervals(np.column_stack(values), patients, seed=seed)
        for i, row in enumerate(rows):
            row["ceiling"] = float(interval.estimate[i])
            row["ceiling_low"], row["ceiling_high"] = float(interval.low[i]), float(interval.high[i])
    return pd.DataFrame(rows, columns=list(COLUMNS)), left_out


def of_cohort(
    records: pd.DataFrame, pool_sizes: Sequence[int] = ROUND, *, seed: int = 0, progress: Progress = silent
) -> tuple[pd.DataFrame, dict[str, str]]:
    """`table` of a cohort that has no embeddings: by study and by patient, at these N that fit and "full"."""
    if not records["patient_id"].nunique() > 1:
        raise InputError("A ceiling needs the reports of two patients or more.", "Check the patient ids.")
    parts, left_out = [], dict[str, str]()
    for done, unit in enumerate(("studies", "patients")):
        progress("ceilings", done, 2)
        made, left_out = table(records, [*pool_sizes, "full"], unit=unit, seed=seed)
        parts.append(made)
    progress("ceilings", 2, 2)
    return pd.concat(parts, ignore_index=True), left_out


def by_vectors(entry: Entry) -> bool:
    """Whether reports are known by their vectors alone: they came without the text that they were made of."""
    return entry.imported


def text_says(rate: float, shared: float, out_of: int, *, k: int = 1, vectors: bool = False) -> str:
    """What the ceiling of the text means, in words: `rate` of the images, and the `shared` reports behind it.

    >>> text_says(0.8491, 0.439, 100)
    'By the text alone nobody can link more than 85 of 100: 44 of 100 reports stand here word for word under several \
patients.'
    >>> text_says(1.0, 0.0, 100, vectors=True)
    'By the vectors alone no limit follows: no report has the vector of another patient.'
    """
    of, again = "text", "stand here word for word under several patients"
    if vectors:
        of, again = "vectors", "have the vector of another patient's"
    if not shared:
        none = "has the vector of another patient" if vectors else "stands here word for word under several patients"
        return f"By the {of} alone no limit follows: no report {none}."
    can = "link more than" if k == 1 else f"have the right report among the first {k} for more than"
    limit = sentences.at_most(rate, out_of)
    return f"By the {of} alone nobody can {can} {limit}: {sentences.of(shared, out_of)} reports {again}."


def findings_say(rate: float | None, out_of: int, *, k: int = 1) -> str:
    """The same of who knows the 14 findings; None where there are no labels.

    >>> findings_say(0.2293, 100)
    'Who knew the 14 findings of the right report and nothing else would link 23 of 100.'
    """
    if rate is None:
        return "No record has labels, so what the findings alone would allow cannot be said."
    found = "link" if k == 1 else f"have it among the first {k} for"
    return f"Who knew the 14 findings of the right report and nothing else would {found} {sentences.of(rate, out_of)}."


def _keys(reports: pd.Series) -> pd.Series:
    return reports.map({report: text_key(report) for report in reports.unique()})


def _unknown(known: pd.DataFrame, of: Known) -> str:
    """The sentence that says what this cohort does not give, or ""."""
    absent = []
    for column in of.columns:
        if column in LABELS:
            continue
        values = known[column] if column in known else pd.Series(dtype="str")
        if not (values.notna() & (values != "")).any():
            absent.append({"years": "age", "decade": "age"}.get(column, column))
    if set(of.columns) >= set(LABELS) and known[list(LABELS)].isna().all(axis=None):
        absent.insert(0, "labels")
    return f"No record has {' or '.join(dict.fromkeys(absent))}." if absent else ""
