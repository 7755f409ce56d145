"""CheXpert Plus (Chambon and others, arXiv:2405.19538): its report table, PNG, JPEG or DICOM, and CheXbert labels."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from linkage_core import bounded
from linkage_core.cohorts import cells, fields, sections
from linkage_core.cohorts.base import LABELS, Cohort, Understood, text_key
from linkage_core.cohorts.cells import counted, mapped
from linkage_core.cohorts.files import need_folder
from linkage_core.cohorts.manifest import MAX_BYTES
from linkage_core.cohorts.published import (
    OWN_SPLIT,
    Sieve,
    check_ids,
    find_table,
    folders_in,
    published_cohort,
    read_columns,
)
from linkage_core.cohorts.splits import FRACTIONS, chosen_splits
from linkage_core.errors import ImageError, InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.validate import one_of

KIND = "chexpert-plus"
TABLE = r"df_chexpert_plus_\d{6}"
COLUMNS = (
    *("path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order"),
    *("report", "section_narrative", "section_clinical_history", "section_history", "section_comparison"),
    *("section_technique", "section_procedure_comments", "section_findings", "section_impression"),
    *("section_end_of_impression", "section_summary", "section_accession_number", "age", "sex", "race", "ethnicity"),
    *("interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split"),
)
"""Of the published table (an unnamed row number stands before them)."""
OWN = {"train": "finetune", "valid": "heldout"}
LABEL_FILES = ("impression_fixed", "report_fixed", "findings_fixed")
"""Of CheXbert, by the part of the report that they were read from; the first that is there is used."""
PLACES = (
    *(("PNG", "png"), ("PNG/PNG", "png"), ("", "png"), ("DICOM", "dcm"), ("", "dcm")),
    *(("CheXpert-v1.0", "jpg"), ("CheXpert-v1.0-small", "jpg"), ("", "jpg")),
)
"""Folders that may hold train/ and valid/, and the suffix of their images, in the order they are looked for."""
_PROBED = 500
_LONGEST_LINE = 1 << 16
_BROKEN = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ArithmeticError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
)
"""What reading a file of labels, or an archive of them, may end in."""


def read(
    root: Path | None,
    *,
    seed: int = 0,
    section: str = "both",
    splits: str = "seeded",
    fractions: Any = FRACTIONS,
    labels: str = "",
    images: str = "",
) -> Cohort:
    """The folder with df_chexpert_plus_240401.csv (or .csv.gz), images and labels. Every row is a record or a reject.

    A record is an image, its id path_to_image without the suffix; the study is patient and study folder of that path.
    Images lie in one of PLACES (or `images`, such as "PNG" or "DICOM", names the folder); with none at all the records
    have the image "". See published for how they are checked.

    Report: section_findings, section_impression, both of them, or whole (the column report); where both are empty, what
    `sections.select` finds in report. Labels: chexbert_labels/impression_fixed.json, else report_fixed, else
    findings_fixed (one JSON object a line, or a .csv), in that folder, beside the table or in chexbert_labels.zip;
    `labels` names one. `own_split` is train or valid, used with `splits` "own" (train finetune, valid heldout; there is
    no attacker's split). View: LATERAL, or ap_pa of a frontal image. The table and the labels are keyed by
    path_to_image.

    Raises InputError for a folder without the table, a table that cannot be read, and unknown values of the options.
    """
    folder = need_folder(root, KIND)
    fields.checked_section(section)
    where_splits, shares = chosen_splits(splits, fractions)
    understood = Understood()
    options = {"seed": seed, "section": section, "splits": where_splits, "fractions": shares}
    path = find_table(folder, TABLE)
    if path is None:
        raise InputError(f"{folder} has no df_chexpert_plus_240401.csv or .csv.gz.", "Put the table there.")
    wanted = {"findings": ("section_findings",), "impression": ("section_impression",), "whole": ("report",)}
    texts = wanted.get(section, ("section_findings", "section_impression", "report"))
    table = read_columns(
        path,
        ("path_to_image", "deid_patient_id", *texts),
        ("path_to_dcm", "frontal_lateral", "ap_pa", "age", "sex", "split"),
        understood,
    )
    stem = table["path_to_image"].str.strip().str.replace(r"\.[A-Za-z]+$", "", regex=True)
    parts = stem.str.extract(r"^(?:train|valid|test)/(?P<patient>[^/\\]+)/(?P<study>[^/\\]+)/[^/\\]+$")
    odd = np.flatnonzero(parts["patient"].isna())
    if len(odd):
        raise InputError(
            f"{path}, row {odd[0] + 1}: path_to_image is {table['path_to_image'].iloc[odd[0]]!r}.",
            "It is such as train/patient00001/study1/view1_frontal.jpg: download the table again.",
        )
    rows = pd.DataFrame(
        {
            "record_id": stem,
            "patient_id": cells.ids(table["deid_patient_id"], "deid_patient_id", path.name, understood),
            "study_id": parts["patient"] + "-" + parts["study"],
            "folder": parts["patient"],
            "image": "",
            "view": _views(table, understood),
            "sex": cells.sexes(table["sex"], understood),
            "age": cells.ages(table["age"], understood),
            "report": _reports(table, section, understood),
            OWN_SPLIT: table["split"].str.strip().str.lower(),
            "dicom": table["path_to_dcm"].str.strip().str.replace(r"\.dcm$", "", regex=True),
        }
    )
    del table
    sieve = Sieve(rows)
    sieve.out(
        sieve.table["patient_id"] == "",
        "no-patient",
        lambda row: f"{row['record_id']} has no deid_patient_id.",
        "Download the table again.",
    )
    check_ids(sieve)
    _one_version(sieve, understood)
    where = _place(folder, sieve.table, images)
    if where is not None:
        _place_images(sieve, folder, *where)
    sieve.out(
        sieve.table["report"] == "",
        "empty-report",
        lambda row: f"Study {row['study_id']} has no {'report' if section in ('both', 'whole') else section}.",
        "It cannot be paired." if section in ("both", "whole") else "It cannot be paired; read both sections.",
    )
    labelled, source = _labels(folder, labels, understood)
    if labelled is not None:
        sieve.table = sieve.table.join(labelled, on="record_id")
    options |= {"labels": source, "images": images if where is None else where[0]}
    cohort = published_cohort(KIND, folder, sieve, options, OWN, understood)
    return cohort if where is not None else replace(cohort, read_image=partial(_no_images, folder))


def _no_images(folder: Path, row: Any) -> Radiograph:
    """What reading an image comes to where none was found: an error that says where they were looked for."""
    looked = ", ".join(f"{place or '.'}/train/*.{suffix}" for place, suffix in PLACES)
    raise ImageError(
        "missing-file",
        f"{row['record_id']}: {folder} has no images of the table; looked for {looked}, and valid/ beside each.",
        "Unpack the images into one of these folders and read again.",
    )


def _one_version(sieve: Sieve, understood: Understood) -> None:
    """One report a study: as published, images of a study may carry it de-identified in several ways, with other dates
    and numbers (Stanford-AIMI/chexpert-plus, issues 4 and 13). The first that has text stands for all."""
    table = sieve.table
    several = table.groupby("study_id")["report"].transform("nunique") > 1
    first = table["report"].where(table["report"] != "").groupby(table["study_id"]).transform("first")
    several &= first.notna()
    if not several.any():
        return
    own = table["report"][several]
    other = mapped(own, text_key) != mapped(first[several], text_key)
    sieve.table = table.assign(report=table["report"].where(~several, first).astype("str"))
    if other.any():
        studies = counted(table["study_id"][several][other].nunique(), "study", "studies")
        understood.note(
            f"{studies} with several versions of the report (as published, de-identified more than once): the first "
            f"with text stands for all, in {counted(int(other.sum()), 'image')} instead of its own"
        )


def _views(table: pd.DataFrame, understood: Understood) -> pd.Series:
    """LATERAL for a lateral image; PA or AP where ap_pa says so."""
    lateral = table["frontal_lateral"].str.strip().str.lower() == "lateral"
    return cells.views(table["ap_pa"].where(~lateral, "lateral"), understood)


def _reports(table: pd.DataFrame, section: str, understood: Understood) -> pd.Series:
    for name in ("section_findings", "section_impression"):
        if name in table:
            table[name] = cells.without_gap_words(table[name], name, understood)
    if section == "whole":
        return mapped(table["report"], lambda text: sections.select(text, "whole"))
    if section != "both":
        return table[f"section_{section}"].str.split().str.join(" ")
    findings, impression = (table[f"section_{name}"].str.split().str.join(" ") for name in ("findings", "impression"))
    joined = (findings + "\n" + impression).str.strip().where(findings != impression, findings)
    empty = joined == ""
    if empty.any():
        joined[empty] = mapped(table.loc[empty, "report"], lambda text: sections.select(text, "both"))
    return joined


def _place(folder: Path, rows: pd.DataFrame, wanted: str) -> tuple[str, str] | None:
    """The folder and suffix of the images: the first of PLACES where one of a few hundred rows has its file."""
    if wanted:
        one_of("images", wanted, dict.fromkeys(place for place, _ in PLACES if place))
    probed = rows.iloc[:: max(len(rows) // _PROBED, 1)]
    for place, suffix in PLACES:
        stems = probed["dicom"].where(probed["dicom"] != "", probed["record_id"]) if suffix == "dcm" else None
        if (wanted and wanted != place) or (place and not (folder / place).is_dir()):
            continue
        if any(
            (folder / place / f"{stem}.{suffix}").is_file()
            for stem in (probed["record_id"] if stems is None else stems)
        ):
            return place, suffix
    if wanted:
        raise InputError(f"{folder / wanted} has none of the images of the table.", "Unpack them there.")
    return None


def _place_images(sieve: Sieve, folder: Path, place: str, suffix: str) -> None:
    """Paths of the images; rejects for those of patients without a folder."""
    rows = sieve.table
    stem = rows["dicom"].where(rows["dicom"] != "", rows["record_id"]) if suffix == "dcm" else rows["record_id"]
    sieve.table = rows.assign(image=(f"{place}/" if place else "") + stem + f".{suffix}")
    there = {f"{part}/{name}" for part in ("train", "valid", "test") for name in folders_in(folder / place / part)}
    sieve.out(
        ~(stem.str.split("/").str[0] + "/" + sieve.table["folder"]).isin(there),
        "missing-file",
        lambda row: f"There is no folder of patient {row['patient_id']}, so no image {row['image']}.",
        "Finish the download, or leave these out.",
    )


def _labels(folder: Path, wanted: str, understood: Understood) -> tuple[pd.DataFrame | None, str]:
    """The labels of every image by record id, and the name of their file ("" without any)."""
    if wanted:
        one_of("labels", wanted, LABEL_FILES)
    for name in (wanted,) if wanted else LABEL_FILES:
        for place in (folder / "chexbert_labels", folder):
            for suffix in (".json", ".csv", ".csv.gz"):
                path = place / f"{name}{suffix}"
                if path.is_file():
                    return (_json_labels(path) if suffix == ".json" else _csv_labels(path, understood)), name
        packed = folder / "chexbert_labels.zip"
        if packed.is_file():
            return _json_labels(packed, name), name
    if wanted:
        raise InputError(f"{folder} has no chexbert_labels/{wanted}.json.", "Put it there.")
    return None, ""


def _csv_labels(path: Path, understood: Understood) -> pd.DataFrame:
    table = read_columns(path, ("path_to_image", *LABELS), (), understood).drop_duplicates("path_to_image")
    return pd.DataFrame(cells.label_columns(table, str(path))).set_index(_stems(table["path_to_image"]))


def _json_labels(path: Path, member: str = "") -> pd.DataFrame:
    """Labels of a file with one JSON object a line: path_to_image and the 14 labels, each null, 1, 0 or -1."""
    names: list[str] = []
    values: list[tuple[Any, ...]] = []
    try:
        with _lines(path, member) as lines:
            for line in lines:
                if line.strip():
                    row = json.loads(line)
                    names.append(str(row["path_to_image"]))
                    values.append(tuple(row.get(label) for label in LABELS))
    except _BROKEN as error:
        raise InputError(
            f"{path}, line {len(names) + 1}: {error!r}.",
            "Each line is one JSON object with path_to_image and the 14 labels: download it again.",
        ) from error
    try:
        numbers = np.array(values, dtype=np.float64).reshape(-1, len(LABELS))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError(f"{path} has a label that is no number: {error}.", "Download it again.") from error
    odd = ~(np.isnan(numbers) | np.isin(numbers, (1, 0, -1)))
    if odd.any():
        row, column = np.argwhere(odd)[0]
        raise InputError(
            f"{path}: label {LABELS[column]!r} of {names[row]} is {numbers[row, column]:g}.", "It is 1, 0, -1 or null."
        )
    table = pd.DataFrame(numbers, columns=list(LABELS), index=_stems(pd.Series(names, dtype="str")))
    return table[~table.index.duplicated()]


@contextmanager
def _lines(path: Path, member: str) -> Iterator[Iterable[bytes]]:
    """The lines of a file, or of the archive's file of that name."""
    if not member:
        with bounded.regular(path) as file:
            yield _short(file, MAX_BYTES)
        return
    with zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if name.rsplit("/", 1)[-1] == f"{member}.json"]
        if not inside:
            raise KeyError(f"no {member}.json in it")
        opened: IO[bytes]
        with bounded.member(archive, inside[0]) as opened:
            yield _short(opened, bounded.unpacked_size(path.stat().st_size))


def _short(file: IO[bytes], most: int) -> Iterator[bytes]:
    """The lines of a file, none of them longer than a line of labels can be."""
    at = 0
    while line := file.readline(_LONGEST_LINE + 1):
        at += len(line)
        if len(line) > _LONGEST_LINE or at > most:
            raise ValueError(f"a line of more than {_LONGEST_LINE:,} bytes, or more than {most:,} in all")
        yield line


def _stems(paths: pd.Series) -> pd.Index:
    return pd.Index(paths.str.strip().str.replace(r"\.[A-Za-z]+$", "", regex=True))
