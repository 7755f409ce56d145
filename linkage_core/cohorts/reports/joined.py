"""Images and reports that come apart, joined by StudyInstanceUID, else by accession number.

Everything is used or listed with its reason. No sentence holds a number of a patient or a study: those stand under
`item` in the table of rejects, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from linkage_core.cohorts import own
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.reports.base import Reports, places, rejected


@dataclass(frozen=True)
class Joined:
    """Each study's report, and what did not join.

    `records`: the images whose study has one report, with columns report and the 14 labels beside their own.
    `rejects`: one row per image or report left out. `used`: the rows of the reports that were taken.
    """

    records: pd.DataFrame
    rejects: pd.DataFrame
    used: pd.DataFrame


def join(images: pd.DataFrame, reports: Reports) -> Joined:
    """`images` has one row each: record_id, study_id (the StudyInstanceUID), accession ("" where none) and patient_id.

    A report with a StudyInstanceUID among the images goes there; another by its accession number, unless that number
    stands on several studies, or it names another study where any names one of theirs (CT may share the number). Of
    several reports of a study those whose status goes furthest count (an amended one before a final one before a
    preliminary one); texts that then still differ are refused. A report that names another patient than the images is
    refused, where its ids are spelled as theirs at all.
    """
    lost: list[pd.DataFrame] = [reports.rejects]
    studies = images.drop_duplicates("study_id")
    numbered = studies[studies["accession"] != ""]
    several = numbered["accession"].duplicated(keep=False)
    twice = numbered.loc[several, "accession"].drop_duplicates()
    single = numbered[~several]
    table = reports.table
    of_study = places(table["study"], studies["study_id"])
    of_number = places(table["accession"], single["accession"])
    if (of_study >= 0).any():
        of_number[(table["study"].str.len() > 0).to_numpy()] = -1
    rows = studies.index.get_indexer(single.index)  # where the study of each number stands
    target = np.where(of_study >= 0, of_study, np.where(of_number >= 0, np.append(rows, -1)[of_number], -1))
    unclear = places(table["accession"], twice) >= 0
    bare = ((table["study"] == "") & (table["accession"] == "")).to_numpy()
    for mask, reason, what, remedy in (
        (
            (target < 0) & unclear,
            "accession-of-several-studies",
            "Its accession number stands on several studies among the images, so it is not known whose it is.",
            "Give reports with the StudyInstanceUID.",
        ),
        (
            (target < 0) & bare,
            "report-without-number",
            "It has neither a StudyInstanceUID nor an accession number.",
            "Export it with one of them.",
        ),
        (
            (target < 0) & ~unclear & ~bare,
            "report-without-images",
            "None of the images that were found is of its study.",
            "Nothing to do, unless the filters leave out images that you want.",
        ),
    ):
        if mask.any():
            lost.append(rejected(table.loc[mask, "item"], reason, what, remedy))
    hit = table[target >= 0]
    hit = hit.assign(target=studies["study_id"].iloc[target[target >= 0]].to_numpy())
    patient = hit["target"].map(studies.set_index("study_id")["patient_id"])
    named = hit["patient"] != ""
    if (named & (patient == hit["patient"])).any():  # else they are spelled otherwise, which says nothing
        other = named & (patient != hit["patient"])
        if other.any():
            lost.append(
                rejected(
                    hit.loc[other, "item"],
                    "report-of-another-patient",
                    "It names another patient than the images of its study.",
                    "Look at both in their own systems: one of the two numbers is wrong.",
                )
            )
            hit = hit[~other]
    best = hit["rank"] == hit.groupby("target")["rank"].transform("max")
    if (~best).any():
        lost.append(
            rejected(hit.loc[~best, "item"], "superseded-report", "A later version of it is there.", "Nothing to do.")
        )
        hit = hit[best]
    keys = own.report_keys(hit["report"])
    differ = keys.groupby(hit["target"]).transform("nunique") > 1 if len(hit) else pd.Series(dtype=bool)
    refused = set(hit.loc[differ, "target"]) if len(hit) else set()
    used = hit[~hit["target"].isin(refused)].drop_duplicates("target")
    text = used.set_index("target")
    out = images["study_id"].isin(refused)
    without = ~out & ~images["study_id"].isin(text.index)
    for left, reason, what, remedy in (
        (
            out,
            "study-with-two-reports",
            "Its study has several reports that differ (an accession number used twice, or an addendum apart).",
            "Give one report a study: the final one.",
        ),
        (
            without & images["accession"].isin(twice),
            "accession-of-several-studies",
            "Its accession number stands on several studies, and no report names the study itself.",
            "Give reports with the StudyInstanceUID.",
        ),
        (
            without & ~images["accession"].isin(twice),
            "no-report",
            "There is no report of its study.",
            "Export the reports of the same time and place, or leave the image out.",
        ),
    ):
        if left.any():
            lost.append(rejected(images.loc[left, "record_id"], reason, what, remedy))
    records = images[~(out | without)].reset_index(drop=True)
    records["report"] = records["study_id"].map(text["report"]).astype("str")
    for label in LABELS:
        records[label] = records["study_id"].map(text[label]).astype("float64") if label in text else np.nan
    return Joined(records, _together(lost), used)


def _together(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    kept = [part for part in parts if len(part)]
    if len(kept) == 1:
        return kept[0]
    return pd.concat(kept, ignore_index=True) if kept else next(iter(parts))
