"""How well the rules that read labels from text agree with labels that are known, and what the language check refuses.

    python benchmarks/labels.py [--openi ../shared/data/openi]

Writes benchmarks/labels.json. Open-i: the indexers' headings (cohorts/openi.py) of the reports with an image; the rules
were written and tuned on the half whose sha256 of the study id is even, and `held_out` is the other half, looked at for
these figures alone. A finding without a heading counts as not there, so a report on an old granuloma, which has no
heading of the 14 and is not "normal", counts against No Finding. Phantom: the labels that its grammar claims; the rules
were written by somebody who had read the grammar, so these figures are a check of the code, not of the rules. Language:
the first version of the check took one of covid-chestxray's notes for Danish ("OG" is a tube) and was mended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core import tables
from linkage_core.cohorts import covid_chestxray, openi
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.labels.agreement import agreement
from linkage_core.cohorts.labels.english import is_english
from linkage_core.cohorts.labels.reading import labels_of
from linkage_core.cohorts.labels.rules import rules, version
from linkage_core.cohorts.phantom import grammar, population

ROOT = Path(__file__).resolve().parents[1]
STUDIES = 6_000


def compared(reports: pd.Series, own: pd.DataFrame, patients: np.ndarray) -> dict[str, Any]:
    """Rows of agreement, and the means of precision and recall of the findings that 30 patients or more have."""
    read = pd.DataFrame([labels_of(report) for report in reports], columns=list(LABELS)).astype("float64")
    rows = agreement(own.reset_index(drop=True), read, patients)
    figures = rows.round(4)
    enough = rows[(rows["flag"] == "") & (rows["value"] == "positive") & (rows["label"] != "No Finding")]
    means = {name: round(float(enough[name].mean()), 4) for name in ("precision", "recall")}
    return {
        "reports": len(reports),
        "findings with 30 patients": len(enough),
        "means": means,
        "rows": tables.rows(figures),
    }


def language(reports: pd.Series) -> dict[str, Any]:
    """How many of these English reports the check takes for another language, and of how many it cannot say."""
    said = [is_english(report) for report in reports]
    return {
        "reports": len(said),
        "refused": sum(one is False for one in said),
        "undecided": sum(one is None for one in said),
    }


def of_phantom(site: population.Site, split: str) -> tuple[pd.Series, pd.DataFrame, np.ndarray]:
    studies = list(islice(population.studies_of_split(site, split, population.SEED), STUDIES))
    written = [grammar.report(study, population.SEED) for study in studies]
    own = pd.DataFrame([one.labels for one in written], columns=list(LABELS)).astype("float64")
    return pd.Series([one.text for one in written]), own, np.array([study.patient_id for study in studies])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openi", type=Path, default=ROOT.parent / "shared" / "data" / "openi")
    options = parser.parse_args()
    cohort = openi.read(options.openi)
    studies = cohort.records.drop_duplicates("study_id").reset_index(drop=True)
    tuned = np.array([int(hashlib.sha256(study.encode()).hexdigest(), 16) % 2 == 0 for study in studies["study_id"]])
    result: dict[str, Any] = {"rules": version(), "n_rules": sum(map(len, rules().values()))}
    result["openi"] = {"reports with text and image": len(studies)}
    for name, half in (("tuned_on", studies[tuned]), ("held_out", studies[~tuned])):
        result["openi"][name] = compared(half["report"], half[list(LABELS)], half["study_id"].to_numpy(str))
    result["language"] = {"openi": language(studies["report"])}
    covid = options.openi.parent / "covid-chestxray"
    if covid.is_dir():
        notes = covid_chestxray.read(covid).records.drop_duplicates("study_id")["report"]
        result["language"]["covid-chestxray"] = language(notes)
    result["phantom"] = {}
    for name, site, split in (("phantom", "A", "attacker"), ("phantom-site-b", "B", "heldout")):
        reports, own, patients = of_phantom(site, split)  # type: ignore[arg-type]
        result["phantom"][name] = compared(reports, own, patients)
        result["language"][name] = language(reports)
    Path(__file__).with_suffix(".json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    for name, found in (("Open-i, held out", result["openi"]["held_out"]), *result["phantom"].items()):
        print(name, found["reports"], found["means"])
        for row in found["rows"]:
            if row["value"] == "positive":
                print(*(f"{row[key]}" for key in ("label", "own", "read", "precision", "recall", "flag")), sep="\t")
    print(result["language"])


if __name__ == "__main__":
    main()
