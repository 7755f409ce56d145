"""PadChest (Bustos and others, Medical Image Analysis 66, 2020): its table, and the folders of its images."""

from __future__ import annotations

import ast
import csv
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts import cells, fields
from linkage_core.cohorts.base import LABELS, Cohort, Understood
from linkage_core.cohorts.cells import counted, mapped
from linkage_core.cohorts.files import need_folder
from linkage_core.cohorts.published import Sieve, check_ids, find_table, published_cohort, read_columns
from linkage_core.cohorts.splits import FRACTIONS, chosen_splits
from linkage_core.errors import InputError
from linkage_core.validate import nearest

KIND = "padchest"
TABLE = r"PADCHEST_chest_x_ray_images_labels_160K_\d\d\.\d\d\.\d\d"
NEEDED = ("ImageID", "ImageDir", "StudyID", "PatientID", "Report", "Labels")
OPTIONAL = ("StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM", "Projection", "ReportID", "MethodLabel")
IMAGES = 160_861
"""Rows of the table as it was published in 2019."""
PLACES = ("", "images", "images-224")
"""Folders that may hold the numbered folders, or the images themselves."""
MAPPING = Path(__file__).parent / "labels" / "padchest.csv"
OWN_LABELS = "own_labels"
"""Column of records: a study's own labels as a set, sorted and joined by "|"."""
_MOST = 10_000
"""Letters of a list of labels; the longest of the table has 400."""


def read(
    root: Path | None, *, seed: int = 0, section: str = "both", splits: str = "seeded", fractions: Any = FRACTIONS
) -> Cohort:
    """The folder with PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv (or .csv.gz), and images. Every row is a
    record or a reject.

    Images lie in folders numbered as `ImageDir`, or all in one, in one of PLACES; whether a file is there is looked up,
    not what is in it. With none at all the records have the image "": they can be counted and listed, not embedded.

    The report is `Report`: Spanish, its words cut to their stems, without sections. View by `Projection`. Age is the
    year of the study less the year of birth, so up to a year too high. Labels: the study's own words by the table
    labels/padchest.csv (docs/padchest-labels.md), what none names is missing; the words themselves are `own_labels`.
    A study of the table that stands under two patients is rejected, and so is an image that the table excludes.

    Raises InputError for a folder without the table, a table that cannot be read, labels that are no list or no word
    of PadChest's, and for a `section` or `splits` that there is not.
    """
    folder = need_folder(root, KIND)
    if fields.checked_section(section) != "both":
        raise InputError(f"section is {section!r}.", "PadChest's reports have no sections: read both.")
    where_splits, shares = chosen_splits(splits, fractions)
    if where_splits == "own":
        raise InputError("PadChest has no split of its own.", "Leave out --splits own, or give three shares.")
    path = find_table(folder, TABLE)
    if path is None:
        raise InputError(
            f"{folder} has no PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv or .csv.gz.", "Put the table there."
        )
    understood = Understood()
    table = read_columns(path, NEEDED, OPTIONAL, understood)
    if len(table) < IMAGES:
        understood.note(f"{len(table):,} rows in {path.name}, {IMAGES:,} as published: a part of it, or cut short")
    own = _own_labels(table["Labels"], path)
    labels = pd.DataFrame([labels_of(words) for words in own.unique()], index=own.unique(), columns=list(LABELS))
    rows = pd.DataFrame(
        {
            "record_id": table["ImageID"].str.strip(),
            "patient_id": cells.ids(table["PatientID"], "PatientID", path.name, understood),
            "study_id": cells.ids(table["StudyID"], "StudyID", path.name, understood),
            "folder": table["ImageDir"].str.strip(),
            "image": "",
            "view": cells.views(table["Projection"], understood),
            "sex": cells.sexes(table["PatientSex_DICOM"], understood),
            "age": _ages(table, understood),
            "report": _reports(table["Report"], understood),
            OWN_LABELS: own,
            "own_split": "",
            "excluded": table["Projection"].str.strip().str.upper() == "EXCLUDE",
            "report_number": table["ReportID"].str.strip(),
        }
    ).join(labels.astype("float64"), on=OWN_LABELS)
    _note_methods(table["MethodLabel"], understood)
    del table
    sieve = Sieve(rows)
    for column, reason, name in (("record_id", "no-image-named", "ImageID"), ("patient_id", "no-patient", "PatientID")):
        sieve.out(
            sieve.table[column] == "",
            reason,
            lambda row, name=name: f"A row of study {row['study_id']} has no {name}.",  # type: ignore[misc]
            "Download the table again.",
        )
    blank = sieve.table["study_id"] == ""  # an image that stands alone
    sieve.table.loc[blank, "study_id"] = sieve.table.loc[blank, "record_id"]
    sieve.out(
        sieve.table["excluded"],
        "excluded-view",
        lambda row: f"The table excludes {row['record_id']}: its Projection is EXCLUDE, none of the chest's.",
        "Nothing to do.",
    )
    check_ids(sieve)
    sieve.out(
        sieve.table["report"] == "",
        "empty-report",
        lambda row: f"Study {row['study_id']} has no report.",
        "It cannot be paired.",
    )
    sieve.out(
        sieve.table.groupby("study_id")["report"].transform("nunique") > 1,
        "several-reports",
        lambda row: f"Study {row['study_id']} has several reports.",
        "A study has one report: download the table again.",
    )
    _note_people(sieve.table, understood)
    _place_images(sieve, folder, understood)
    options = {"seed": seed, "section": section, "splits": where_splits, "fractions": shares}
    return published_cohort(KIND, folder, sieve, options, {}, understood, extra=(OWN_LABELS,), language="Spanish")


# -- labels ----------------------------------------------------------------------------------------------------------


@cache
def mapping() -> dict[str, dict[str, float]]:
    """PadChest's words in lower case -> what each gives of the 14; {} for those that name none of them."""
    with MAPPING.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    gives = ((row["label"], [one.rpartition(" ") for one in row["gives"].split("; ") if one]) for row in rows)
    return {word: {label: float(value) for label, _, value in said} for word, said in gives}


def labels_of(words: str) -> dict[str, float]:
    """The 14 of a study's own labels, joined by "|"; the others are missing.

    What is there wins over what is uncertain. No Finding stands only where no other of the 14 but Support Devices does.

    >>> labels_of("cardiomegaly|costophrenic angle blunting|scoliosis"), labels_of("normal|nodule")
    ({'Cardiomegaly': 1.0, 'Pleural Effusion': -1.0}, {'Lung Lesion': 1.0})
    """
    found: dict[str, float] = {}
    for word in filter(None, words.split("|")):
        for label, value in mapping()[word].items():
            found[label] = max(value, found.get(label, value))
    if not found.keys() <= {"No Finding", "Support Devices"}:
        found.pop("No Finding", None)
    return found


def _own_labels(values: pd.Series, path: Path) -> pd.Series:
    """Every cell as a set of words, sorted and joined; InputError for a cell that is no list, and for other words."""
    found: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for value in values.unique():
        listed = _listed(value)
        if listed is None:
            row = int(np.argmax((values == value).to_numpy())) + 1
            raise InputError(
                f"{path}, row {row}: Labels are {value[:60]!r}.", "They are a list such as ['normal']: download again."
            )
        words = {word for one in listed if (word := " ".join(one.lower().split()))}
        for word in sorted(words - mapping().keys()):
            unknown.setdefault(word, value)
        found[value] = "|".join(sorted(words))
    if unknown:
        named = ", ".join(repr(word[:40]) for word in list(unknown)[:5])
        row = int(np.argmax((values == next(iter(unknown.values()))).to_numpy())) + 1
        raise InputError(
            f"{path}: {counted(len(unknown), 'label')} that PadChest does not have ({named}), the first in row {row}."
            f"{nearest(next(iter(unknown)), mapping())}",
            f"Correct it, or say in {MAPPING.name} which of the 14 findings it gives.",
        )
    return values.map(found).astype("str")


def _listed(value: str) -> list[str] | None:
    """The texts of a list as Python writes it; [] for a gap, None for anything else. Nothing is evaluated."""
    if fields.is_gap(value):
        return []
    try:
        words = ast.literal_eval(value.strip()) if len(value) <= _MOST else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


# -- other columns ---------------------------------------------------------------------------------------------------


def _reports(values: pd.Series, understood: Understood) -> pd.Series:
    """One blank between words; "" for a gap and for signs without a word."""
    texts = cells.without_gap_words(values, "Report", understood)
    texts = mapped(texts, lambda text: " ".join(text.split()) if re.search(r"\w", text) else "").astype("str")
    if signs := int(((texts == "") & ~mapped(values, fields.is_gap).astype(bool)).sum()):
        understood.note(f"{counted(signs, 'cell')} of Report without a word: taken as empty")
    return texts


def _ages(table: pd.DataFrame, understood: Understood) -> pd.Series:
    """Year of the study less year of birth; NaN, with a note, where one is not given or the age is none."""
    dates, births = table["StudyDate_DICOM"].str.strip(), table["PatientBirth"].str.strip()
    study = pd.to_numeric(dates.str.extract(r"^(\d{4})(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])$")[0], errors="coerce")
    birth = pd.to_numeric(births.str.extract(r"^(\d{4})(?:\.0+)?$")[0], errors="coerce")
    for name, values, years in (("StudyDate_DICOM", dates, study), ("PatientBirth", births, birth)):
        odd = years.isna() & ~mapped(values, fields.is_gap).astype(bool)
        if odd.any():
            said = values[odd].iloc[0][:40]
            understood.note(f"{counted(int(odd.sum()), 'cell')} of {name} without a year, such as {said!r}: no age")
    age = study - birth
    if (odd := (age < 0) | (age > 120)).any():
        first = table["ImageID"][odd].iloc[0]
        many = counted(int(odd.sum()), "image")
        understood.note(
            f"{many} with an age below 0 or over 120, {age[odd].iloc[0]:.0f} of {first}: taken as not given"
        )
    return age.where(~odd).astype("float64")


def _note_methods(values: pd.Series, understood: Understood) -> None:
    """Who gave the labels: the table says which come from a network that read the report."""
    read = int(values.str.strip().str.startswith("RNN").sum())
    if read:
        understood.note(f"labels of {read:,} of {len(values):,} images by a network that read the report (MethodLabel)")


def _note_people(table: pd.DataFrame, understood: Understood) -> None:
    """What a table of real people does not agree with itself about; all of it is kept."""
    by_patient = table.groupby("patient_id")
    born = (table["age"].notna() & (by_patient["age"].transform("max") - by_patient["age"].transform("min") > 15)).sum()
    sexes = table[table["sex"] != ""].groupby("patient_id")["sex"].nunique()
    if several := int((sexes > 1).sum()):
        understood.note(f"{counted(several, 'patient')} with both sexes, each image with its own: kept")
    if born:
        understood.note(f"{counted(int(born), 'image')} of patients whose ages lie over 15 years apart: kept")
    numbered = table[table["report_number"] != ""].drop_duplicates("study_id").groupby("report_number")["patient_id"]
    if shared := int((numbered.nunique() > 1).sum()):
        understood.note(f"{counted(shared, 'report number')} under several patients: kept as different patients")


# -- images ----------------------------------------------------------------------------------------------------------


def _place_images(sieve: Sieve, folder: Path, understood: Understood) -> None:
    """Paths of the images; rejects for those whose file is not there, unless there is none at all."""
    rows = sieve.table
    listed = {place: _files(folder / place) for place in (*PLACES, *_numbered(folder, rows["folder"].unique()))}
    image = pd.Series("", index=rows.index, dtype="str")
    for place in PLACES:
        for number in (*rows["folder"].unique(), ""):
            at = "/".join(filter(None, (place, number)))
            if listed.get(at):
                here = (image == "") & rows["record_id"].isin(listed[at])
                if number:
                    here &= rows["folder"] == number
                image[here] = (f"{at}/" if at else "") + rows["record_id"][here]
    sieve.table = rows.assign(image=image)
    if (image == "").all():
        if zipped := sum(name.endswith(".zip") for name in listed[""]):
            understood.note(
                f"{counted(zipped, 'ZIP archive')} in {folder.name} not unpacked: the images are read from folders"
            )
        return
    sieve.out(
        image == "",
        "missing-file",
        lambda row: f"There is no {row['folder']}/{row['record_id']} below {folder}.",
        "Finish the download, or leave it out.",
    )


def _numbered(folder: Path, numbers: Iterable[str]) -> list[str]:
    """Numbered folders that the table names, below each of PLACES."""
    plain = [number for number in numbers if re.fullmatch(r"\d{1,4}", number)]
    return ["/".join(filter(None, (place, number))) for place in PLACES for number in plain]


def _files(folder: Path) -> frozenset[str]:
    """Names of the plain files directly in a folder; none where it is not there or cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except OSError:
        return frozenset()
