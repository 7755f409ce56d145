"""Labels from text for a whole cohort, whatever it was read from; and where the labels of a cohort come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS, Cohort, TextLabels
from linkage_core.cohorts.labels.english import foreign
from linkage_core.cohorts.labels.reading import PATHOLOGIES, labels_of
from linkage_core.cohorts.labels.rules import version
from linkage_core.errors import InputError

FROM_TEXT = "from-text"
OWN, NONE, BOTH = "own", "none", "own and from-text"


def read_labels(studies: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.Series]:
    """(the 14 labels read from each report, whether it was read: it has words, and they are English); index as given.

    studies: study_id and report, text. Raises InputError where there is no text, or where half of the reports or more
    are not English; `name` is the cohort's, for the message.
    """
    words = studies["report"].str.contains(r"\w")
    if not words.any():
        raise InputError(
            f"{name} has no report text to read labels from.", "Give a column report, or the 14 labels as columns."
        )
    distinct = studies["report"][words].drop_duplicates()
    found = {report: labels_of(report) for report, other in zip(distinct, foreign(distinct), strict=True) if not other}
    read = studies["report"].isin(list(found))
    unread = studies.loc[words & ~read, "study_id"]
    if 2 * len(unread) >= words.sum():
        raise InputError(
            f"{len(unread):,} of {words.sum():,} reports of {name} do not look like English, the first of study "
            f"{unread.iloc[0]}.",
            "The rules read English alone: give the 14 labels as columns, or do without labels.",
        )
    rows = [found.get(report, {}) for report in studies["report"]]
    return pd.DataFrame(rows, index=studies.index, columns=list(LABELS)).astype("float64"), read


def with_text_labels(cohort: Cohort) -> Cohort:
    """The cohort with labels read from its reports where it has none of its own: own labels always win.

    A study that has any of the 14 keeps what it has; a finding that no study of the cohort is labelled for is read for
    all of them, and a study without any label is read whole. "No Finding" is left out where another label of the study
    says otherwise. Reports that are not English are left without labels and counted.

    Raises InputError where there is no text, where half of the reports that are read are not English, or where the kind
    of cohort has none in English.
    """
    if cohort.language:
        raise InputError(
            f"The reports of {cohort.name} are {cohort.language}.",
            "The rules read English alone: leave out --labels from-text; the cohort's own labels are used.",
        )
    records = cohort.records
    own = records[list(LABELS)].notna()
    columns = tuple(label for label in LABELS if not own[label].any())
    bare = ~own.any(axis=1)
    unlabelled = frozenset(records["study_id"][bare])
    named = str(cohort.options.get("labels", ""))
    cohort = replace(cohort, options={**cohort.options, "labels": FROM_TEXT})
    if not len(records) or not (columns or len(unlabelled)):
        note = TextLabels(frozenset(), unlabelled, columns, named, version(), 0)
        return replace(cohort, text_labels=note)
    studies = records.drop_duplicates("study_id")
    if not columns:
        studies = studies[studies["study_id"].isin(list(unlabelled))]
    labels, read = read_labels(studies, cohort.name)
    texts = labels.set_axis(pd.Index(studies["study_id"])).reindex(pd.Index(records["study_id"])).to_numpy()
    fill = bare.to_numpy()[:, None] | np.isin(LABELS, columns)[None, :]
    values = np.where(fill, texts, records[list(LABELS)].to_numpy("float64"))
    normal = LABELS.index("No Finding")
    ill = np.nan_to_num(values[:, [LABELS.index(label) for label in PATHOLOGIES]]).any(axis=1)
    values[ill & fill[:, normal], normal] = np.nan
    filled = np.asarray((fill & ~np.isnan(values)).any(axis=1), bool)
    not_english = int((studies["report"].str.contains(r"\w") & ~read).sum())
    note = TextLabels(frozenset(records.loc[filled, "study_id"]), unlabelled, columns, named, version(), not_english)
    records = records.assign(**{label: values[:, column] for column, label in enumerate(LABELS)})
    return replace(cohort, records=records, text_labels=note)


def labels_note(cohort: Cohort) -> dict[str, Any]:
    """Where the labels of a cohort come from, for its manifest.

    `source`: own, from-text, "own and from-text", or none. `own`: what the own ones are called (chexpert, ...), "".
    `studies`: how many have any label of their own, any from text, and none. With labels from text also `rules`
    (version of the table), `findings` (those read for every study) and `not_english` (studies left unread).
    """
    studies = cohort.records.drop_duplicates("study_id")
    has = studies[list(LABELS)].notna().any(axis=1)
    texts = cohort.text_labels
    if texts is None:
        named = str(cohort.options.get("labels", ""))
        counts = {OWN: int(has.sum()), FROM_TEXT: 0, NONE: int((~has).sum())}
        return {"source": OWN if has.any() else NONE, "own": named, "studies": counts}
    own, read = ~studies["study_id"].isin(texts.unlabelled), studies["study_id"].isin(texts.studies)
    source = (BOTH if own.any() else FROM_TEXT) if read.any() else (OWN if own.any() else NONE)
    return {
        "source": source,
        "own": texts.own if own.any() else "",
        "studies": {OWN: int(own.sum()), FROM_TEXT: int(read.sum()), NONE: int((~has).sum())},
        "rules": texts.rules,
        "findings": list(texts.findings),
        "not_english": texts.not_english,
    }


def labels_way(note: Mapping[str, Any]) -> str:
    """How labels were asked for, own or from-text, whatever the cohort holds: what may travel with a head or a release,
    where `source` would say that somebody has labels.

    >>> labels_way({"source": "own", "own": "chexpert", "rules": "1"})
    'from-text'
    """
    return FROM_TEXT if "rules" in note or note["source"] == FROM_TEXT else OWN


LABELS_WAY = {OWN: "the cohort's own", FROM_TEXT: "read from the reports by rules where a study has none of its own"}
"""labels_way in words."""


def labels_line(note: Mapping[str, Any]) -> str:
    """One phrase for tables: where labels come from.

    >>> labels_line({"source": "from-text", "own": "", "studies": {"own": 0, "from-text": 2, "none": 1}})
    'read from the reports by rules'
    """
    named = f" ({note['own']})" if note.get("own") else ""
    counts = note.get("studies", {})
    both = f"own{named}, and read from the reports by rules for {counts.get(FROM_TEXT, 0):,} studies"
    words = {OWN: f"own{named}", FROM_TEXT: "read from the reports by rules", NONE: "none", BOTH: both}
    return words[note["source"]]
