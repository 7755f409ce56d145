"""How unlike reality is the phantom? The same counts of its reports, of PadChest's and of Open-i's -> reality.json.

    python benchmarks/reality.py [--padchest DIR] [--openi DIR]

Where the tables lie: benchmarks/ceilings.py. CheXpert's table, in the same package, has no reports, and labels of four
values as the phantom has (PadChest and Open-i have no negative ones): it stands beside them for labels. Everything is
counted over studies, ages and sex too; a shared text is one that a study of another patient has, up to capitals and
blanks. Findings are those that are positive, by the labels of each source (docs/padchest-labels.md,
docs/openi-labels.md, the phantom's grammar). Ceilings are of one study a patient.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ceilings import PACKAGE, arguments, cohorts

from linkage_core.audit import ceilings
from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.registry import open_cohort

FINDINGS = [label for label in LABELS if label not in ("No Finding", "Support Devices")]
PAIRS = (("Cardiomegaly", "Pleural Effusion"), ("Lung Opacity", "Pleural Effusion"), ("Edema", "Pleural Effusion"))
"""Whose co-occurrence is told, as lift: both together over what independence would give."""


def chexpert() -> pd.DataFrame:
    """Records of CheXpert's training table (arXiv:1901.07031); the report is "" in all of them."""
    found = next(file for file in metadata.files(PACKAGE) or () if file.name == "chexpert_train.csv.gz")
    table = pd.read_csv(str(found.locate()))
    parts = table["Path"].str.split("/")
    lateral = table["Frontal/Lateral"] == "Lateral"
    return table[list(LABELS)].assign(
        record_id=table["Path"],
        patient_id=parts.str[2],
        study_id=parts.str[2] + "/" + parts.str[3],
        view=table["AP/PA"].where(table["AP/PA"].isin(["AP", "PA"]), "").where(~lateral, "LATERAL"),
        sex=table["Sex"].str[:1].where(table["Sex"].isin(["Female", "Male"]), ""),
        age=table["Age"].astype(float),
        report="",
    )


def counted(records: pd.DataFrame) -> dict[str, Any]:
    """Everything of one cohort."""
    studies = records.drop_duplicates("study_id")
    words = studies["report"].str.split().str.len()
    positive = studies[list(LABELS)] == 1
    some = positive[FINDINGS].sum(axis=1)
    by_patient = studies.groupby("patient_id").size()
    ages = studies["age"].dropna()
    known = studies[studies["sex"] != ""]["sex"]
    keys = studies["report"].map({one: ceilings.text_key(one) for one in studies["report"].unique()})
    sets = positive.apply(tuple, axis=1).value_counts()
    views = records[records["view"] != ""]["view"].value_counts(normalize=True)
    found: dict[str, Any] = {
        "images": len(records),
        "studies": len(studies),
        "patients": len(by_patient),
        "commonest_text": float(keys.value_counts().iloc[0] / len(keys)),
        "words": dict(zip(("q1", "median", "q3"), np.percentile(words, [25, 50, 75]).tolist(), strict=True)),
        "prevalence": {label: float(positive[label].mean()) for label in LABELS},
        "findings_a_study": float(some.mean()),
        "without_a_finding": float((some == 0).mean()),
        "two_or_more": float((some > 1).mean()),
        "commonest_set": float(sets.iloc[0] / len(studies)),
        "sets": len(sets),
        "together": {
            f"{one} and {other}": lift(positive[one].to_numpy(), positive[other].to_numpy()) for one, other in PAIRS
        },
        "studies_a_patient": float(by_patient.mean()),
        "patients_with_several": float((by_patient > 1).mean()),
        "images_a_study": len(records) / len(studies),
        "views": {view: float(share) for view, share in views.items()},
        "age": dict(zip(("q1", "median", "q3"), np.percentile(ages, [25, 50, 75]).tolist(), strict=True))
        if len(ages)
        else None,
        "women": float((known == "F").mean()) if len(known) else None,
    }
    queries = ceilings.by_unit(records, "patients")
    alike = queries.assign(**{label: (queries[label] == 1).astype(float) for label in LABELS})
    text = ceilings.ceiling(studies, ceilings.KNOWN[ceilings.TEXT])
    assert not isinstance(text, str)
    found["shared_text"] = text.shared
    if not studies["report"].any():
        found |= {"shared_text": None, "commonest_text": None, "words": None}
    found["ceilings"] = {}
    for name, of, rows in (
        ("text", "text", queries),
        ("findings", "findings", queries),
        ("positive findings", "findings", alike),
        ("positive findings, sex, age", "findings+sex+age", alike),
    ):
        one = ceilings.ceiling(rows, ceilings.KNOWN[of])
        absent = isinstance(one, str) or (name == "text" and found["words"] is None)
        found["ceilings"][name] = None if absent else {str(n): one.mean(n) for n in (100, 1000)}
    return found


def lift(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).mean() / (one.mean() * other.mean()))


def main() -> None:
    records = cohorts(arguments(__doc__)) | {
        "chexpert": chexpert(),
        "phantom-site-b": open_cohort("phantom-site-b", None).records,
    }
    result = {name: counted(of) for name, of in records.items()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
