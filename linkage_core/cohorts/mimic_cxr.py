"""MIMIC-CXR (DICOM) and MIMIC-CXR-JPG, as PhysioNet publishes them."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core import bounded
from linkage_core.cohorts import cells, fields, sections
from linkage_core.cohorts.base import LABELS, Cohort, Understood
from linkage_core.cohorts.cells import counted, mapped
from linkage_core.cohorts.files import need_folder
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
from linkage_core.images.processes import LEAST_ROWS, Readers, default_workers
from linkage_core.images.read import header_below, inside
from linkage_core.progress import Steps
from linkage_core.validate import one_of

KIND = "mimic-cxr"
KIND_JPG = "mimic-cxr-jpg"
REPORTS = "mimic-cxr-reports"
SECTIONED = "mimic_cxr_sectioned"
OWN = {"train": "finetune", "validate": "attacker", "test": "heldout"}
LABELERS = ("chexpert", "negbio")
MAX_REPORT_BYTES = 1 << 20
HEADER_READERS = 8  # a network disk answers in milliseconds, several questions at once

_REPORT_NAME = re.compile(r"(?:.*/)?s(\d{1,12})\.txt")
_IMAGE_PATH = re.compile(r"files/p(\d\d)/p(\d{1,12})/s(\d{1,12})/([0-9A-Za-z.-]+)\.(?:dcm|jpg)")
_VIEW_CODES = {"postero-anterior": "PA", "antero-posterior": "AP", "lateral": "LATERAL"}

# Reports whose text stands under a wrong heading, by study: what the dataset's authors list (MIT-LCP/mimic-cxr).
MISNAMED = {
    **dict.fromkeys(
        ("50913680", "59768032", "59067458", "59087630", "58157373", "56482935", "58375018"), "recommendations"
    ),
    **dict.fromkeys(("59363654", "53356173", "50743547", "59215320", "55157853"), "examination"),
    **dict.fromkeys(("57936451", "50058765", "51966317", "55124749", "54365831", "54654948"), "indication"),
    **dict.fromkeys(("59279892", "53202765", "50808053"), "technique"),
    "56451190": "note",
    "51491012": "history",
}
# Reports whose text stands under no heading at all, by study: where it begins and ends; the same source.
# fmt: off
UNNAMED = {
    "50525523": (201, 349), "57564132": (233, 554), "59982525": (313, 717), "53488209": (149, 475),
    "54875119": (234, 988), "50196495": (59, 399), "56579911": (59, 218), "52648681": (292, 631),
    "59889364": (172, 453), "53514462": (73, 377), "59505494": (59, 450), "53182247": (59, 412),
    "51410602": (47, 320), "56412866": (522, 822), "54986978": (59, 306), "59003148": (262, 505),
    "57150433": (61, 394), "56760320": (219, 457), "59562049": (158, 348), "52674888": (145, 296),
    "55258338": (192, 568), "59330497": (140, 655), "52119491": (179, 454),
}
# fmt: on


def read(
    root: Path | None,
    *,
    seed: int = 0,
    section: str = "both",
    splits: str = "seeded",
    fractions: Any = FRACTIONS,
    labels: str = "",
    headers: bool = True,
    progress: Steps | None = None,
) -> Cohort:
    """The DICOM tree files/p10/p10000032/s50414267/*.dcm and its reports; see `read_tree`."""
    return read_tree(KIND, root, Choices(seed, section, splits, fractions, labels, headers), progress)


def read_jpg(
    root: Path | None,
    *,
    seed: int = 0,
    section: str = "both",
    splits: str = "seeded",
    fractions: Any = FRACTIONS,
    labels: str = "",
) -> Cohort:
    """The JPEG tree files/p10/p10000032/s50414267/*.jpg with its tables; see `read_tree`."""
    return read_tree(KIND_JPG, root, Choices(seed, section, splits, fractions, labels, headers=False))


@dataclass(frozen=True)
class Choices:
    """How a folder is read: see `read_tree`."""

    seed: int
    section: str
    splits: str
    fractions: Any
    labels: str
    headers: bool


def read_tree(kind: str, root: Path | None, choices: Choices, progress: Steps | None = None) -> Cohort:
    """One folder as PhysioNet has it. Every image that the tables list becomes a record or a reject.

    Read from the root, each as .csv or .csv.gz and each optional but the reports:
        cxr-record-list (mimic-cxr) or mimic-cxr-2.0.0-metadata or -split: which images there are; else the tree itself.
        mimic-cxr-2.0.0-metadata: views (ViewPosition, else the view code). Without it mimic-cxr reads ViewPosition from
            every DICOM header if `headers`, several at a time, `progress` called with (done, total): put the table
            there.
        mimic-cxr-2.0.0-chexpert or -negbio: the 14 labels of each study; `labels` names one of them.
        mimic-cxr-2.0.0-split: kept as `own_split`, and used with `splits` "own" (train finetune, validate attacker,
            test heldout); else patients are split by `seed` and `fractions`.
        patients (MIMIC-IV): sex, and age as anchor_age plus the years from anchor_year to the study.
        mimic-cxr-reports.zip, a folder mimic-cxr-reports, or texts in the tree; else mimic_cxr_sectioned.csv.

    `section` of each report as `sections.select` says; the 46 reports that the authors list as misnamed or without
    headings are read where they say (as impression).

    Images: see published. Raises InputError for a folder without images' names or without reports, a table that cannot
    be read, and unknown values of the options.
    """
    folder = need_folder(root, kind)
    section = fields.checked_section(choices.section)
    splits, fractions = chosen_splits(choices.splits, choices.fractions)
    understood = Understood()
    options = {"seed": choices.seed, "section": section, "splits": splits, "fractions": fractions}
    metadata = _metadata(folder, understood)
    images = _images(folder, kind, metadata, understood)
    own = _own_splits(folder, understood)
    images[OWN_SPLIT] = "" if own is None else images["record_id"].map(own).fillna("")
    sieve = Sieve(images)
    check_ids(sieve)
    any_image = _reject_absent(sieve, folder)
    texts, wet = _texts(folder, section, set(sieve.table["study_id"]), understood)
    sieve.table = sieve.table.assign(report=sieve.table["study_id"].map(texts))
    sieve.out(
        sieve.table["report"].isna(),
        "missing-report",
        lambda row: f"There is no report of study {row['study_id']}.",
        f"Put {REPORTS}.zip there, whole.",
    )
    sieve.out(
        sieve.table["report"] == "",
        "empty-report",
        lambda row: (
            f"The report of study {row['study_id']} has no {'text' if section == 'whole' else section}"
            + (" (it has only a wet read)." if row["study_id"] in wet else ".")
        ),
        "It cannot be paired." if section in ("both", "whole") else "It cannot be paired; read both sections.",
    )
    table = sieve.table
    if left := len(wet & set(table["study_id"])):
        understood.note(
            f"{counted(left, 'study', 'studies')} with only a wet read (a first, hurried reading) for a report"
        )
    if metadata is not None:
        known = metadata.drop_duplicates("record_id").set_index("record_id")
        table = table.assign(
            view=table["record_id"].map(known["view"]).fillna(""), year=table["record_id"].map(known["year"])
        )
    elif kind == KIND and choices.headers and any_image:
        table = table.assign(**_of_headers(folder, table["image"], progress))
    else:
        table = table.assign(view="", year=np.nan)
    table = _with_people(folder, table, understood)
    labelled, labeler = _labels(folder, choices.labels, understood)
    if labelled is not None:
        table = table.join(labelled, on="study_id")
    if not any_image:
        table = table.assign(image="")
    sieve.table = table
    options |= {"labels": labeler} | ({"headers": choices.headers} if kind == KIND else {})
    return published_cohort(kind, folder, sieve, options, OWN, understood)


def image_path(subject: str, study: str, dicom: str, suffix: str) -> str:
    """Where an image lies below the root.

    >>> image_path("10000032", "50414267", "02aa804e", "dcm")
    'files/p10/p10000032/s50414267/02aa804e.dcm'
    """
    return f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.{suffix}"


def _metadata(folder: Path, understood: Understood) -> pd.DataFrame | None:
    path = find_table(folder, r"mimic-cxr-[\d.]+-metadata")
    if path is None:
        return None
    table = read_columns(
        path,
        ("dicom_id", "subject_id", "study_id"),
        ("ViewPosition", "ViewCodeSequence_CodeMeaning", "StudyDate"),
        understood,
    )
    view = cells.views(table["ViewPosition"], understood)
    coded = mapped(table["ViewCodeSequence_CodeMeaning"], lambda text: _VIEW_CODES.get(text.strip().lower(), ""))
    return pd.DataFrame(
        {
            **_ids(table, path, understood),
            "view": view.where(table["ViewPosition"] != "", coded),
            "year": pd.to_numeric(table["StudyDate"].str[:4], errors="coerce"),
        }
    )


def _ids(table: pd.DataFrame, path: Path, understood: Understood) -> dict[str, pd.Series]:
    """The ids of a table's images, under the names of records."""
    named = {"record_id": "dicom_id", "patient_id": "subject_id", "study_id": "study_id"}
    return {name: cells.ids(table[column], column, path.name, understood) for name, column in named.items()}


def _images(folder: Path, kind: str, metadata: pd.DataFrame | None, understood: Understood) -> pd.DataFrame:
    """record_id, patient_id, study_id and image of every image that is listed."""
    suffix = "dcm" if kind == KIND else "jpg"
    ids = ("dicom_id", "subject_id", "study_id")
    listed = find_table(folder, "cxr-record-list") if kind == KIND else None
    split = find_table(folder, r"mimic-cxr-[\d.]+-split")
    found = listed if listed is not None else split if metadata is None else None
    if found is not None:
        table = pd.DataFrame(_ids(read_columns(found, ids, (), understood), found, understood))
    elif metadata is not None:
        table = metadata[["record_id", "patient_id", "study_id"]].copy()
    else:
        table = pd.DataFrame(_walked(folder, suffix), columns=["patient_id", "study_id", "record_id"], dtype="str")
        if table.empty:
            listed_in = "cxr-record-list" if kind == KIND else "mimic-cxr-2.0.0-metadata"
            raise InputError(
                f"{folder} has no {listed_in}.csv or .csv.gz and no files/pXX/pXXXXXXXX/sXXXXXXXX/*.{suffix}.",
                "Give the folder that holds files/ and the tables, as PhysioNet has it.",
            )
    odd = ~(
        table["record_id"].str.fullmatch(r"[0-9A-Za-z.-]{1,80}")
        & table["patient_id"].str.fullmatch(r"\d{1,12}")
        & table["study_id"].str.fullmatch(r"\d{1,12}")
    )
    if odd.any():
        row = table[odd].iloc[0]
        raise InputError(
            f"{folder}: row {int(np.flatnonzero(odd)[0]) + 1} of its list of images has the ids {row['record_id']!r}, "
            f"{row['patient_id']!r}, {row['study_id']!r}.",
            "They are a dicom_id, a subject_id and a study_id: download the table again.",
        )
    patient = table["patient_id"]
    table["image"] = (
        "files/p"
        + patient.str[:2]
        + "/p"
        + patient
        + "/s"
        + table["study_id"]
        + "/"
        + table["record_id"]
        + "."
        + suffix
    )
    return table


def _walked(folder: Path, suffix: str) -> Iterator[tuple[str, str, str]]:
    """(subject, study, image) of every image file in the tree."""
    for path in sorted((folder / "files").glob(f"p??/p*/s*/*.{suffix}")):
        found = _IMAGE_PATH.fullmatch(path.relative_to(folder).as_posix())
        if found:
            yield found[2], found[3], found[4]


def _own_splits(folder: Path, understood: Understood) -> pd.Series | None:
    path = find_table(folder, r"mimic-cxr-[\d.]+-split")
    if path is None:
        return None
    table = read_columns(path, ("dicom_id", "split"), (), understood).drop_duplicates("dicom_id")
    return table.set_index(table["dicom_id"].str.strip())["split"]


def _reject_absent(sieve: Sieve, folder: Path) -> bool:
    """Reject images of patients without a folder. False, and no reject, where no patient has one: reports only."""
    there = set()
    for group in sorted(folders_in(folder / "files")):
        there |= folders_in(folder / "files" / group)
    if there:
        sieve.out(
            ~("p" + sieve.table["patient_id"]).isin(there),
            "missing-file",
            lambda row: f"There is no folder of patient {row['patient_id']}, so no image {row['image']}.",
            "Finish the download, or leave these out.",
        )
    return bool(there)


def _texts(folder: Path, section: str, wanted: set[str], understood: Understood) -> tuple[pd.Series, set[str]]:
    """The wanted part of every report that is there, by study, "" where it has none; studies with but a wet read."""
    found: dict[str, str] = {}
    wet = set()
    for study, text in _report_files(folder, wanted):
        found[study] = part_of(study, text, section)
        if sections.only_wet_read(text):
            wet.add(study)
    if found:
        return pd.Series(found, dtype="str"), wet
    path = find_table(folder, SECTIONED)
    if path is None:
        raise InputError(
            f"{folder} has no reports.",
            f"Put (or link) {REPORTS}.zip of MIMIC-CXR there, or its files/ tree, or {SECTIONED}.csv.",
        )
    if section == "whole":
        raise InputError(f"{path.name} has no whole reports.", f"Put {REPORTS}.zip there, or read both sections.")
    table = read_columns(path, ("study", "findings", "impression"), ("last_paragraph",), understood)
    table = table.drop_duplicates("study")
    tidy = {
        name: cells.without_gap_words(table[name].str.split().str.join(" "), name, understood)
        for name in ("findings", "impression", "last_paragraph")
    }
    if section == "both":
        joined = (tidy["findings"] + "\n" + tidy["impression"]).str.strip()
        values = joined.where(joined != "", tidy["last_paragraph"])
    else:
        values = tidy[section]
    return pd.Series(values.to_numpy(), index=table["study"].str.strip().str.removeprefix("s"), dtype="str"), wet


def part_of(study: str, text: str, section: str) -> str:
    """The section of one study's report, the authors' lists of misnamed and missing headings obeyed."""
    if section != "whole" and study in MISNAMED:
        return "" if section == "findings" else sections.named(text, MISNAMED[study])
    if section != "whole" and study in UNNAMED:
        start, end = UNNAMED[study]
        return "" if section == "findings" else " ".join(text[start:end].split())
    return sections.select(text, section)


def _report_files(folder: Path, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """(study, text) of every wanted report: from the archive, or else from a tree of text files."""
    archive = folder / f"{REPORTS}.zip"
    if archive.is_file():
        left = bounded.unpacked_size(archive.stat().st_size)
        try:
            with zipfile.ZipFile(archive) as members:
                for member in members.infolist():
                    named = _REPORT_NAME.fullmatch(member.filename)
                    if named and named[1] in wanted and member.file_size <= MAX_REPORT_BYTES:
                        content = bounded.member_bytes(members, member, min(MAX_REPORT_BYTES, left))
                        left -= len(content)
                        yield named[1], content.decode("utf-8", "replace")
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
            raise InputError(f"{archive} cannot be read: {error}.", "Download it again.") from error
        return
    beside = folder / REPORTS  # may be a link: whoever put it there meant it
    for root, base in ((beside, beside / "files"), (beside, beside), (folder, folder / "files")):
        yielded = False
        for group in sorted(folders_in(base)):
            for patient in sorted(folders_in(base / group)):
                for study, text in _texts_in(root, base / group / patient, wanted):
                    yielded = True
                    yield study, text
        if yielded:
            return


def _texts_in(root: Path, patient: Path, wanted: set[str]) -> Iterator[tuple[str, str]]:
    """(study, text) of the reports in a patient's folder; a link that leads out of the root is no report."""
    try:
        with os.scandir(patient) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return
    for name in names:
        named = _REPORT_NAME.fullmatch(name)
        if named and named[1] in wanted:
            try:
                path = inside(root, (patient / name).relative_to(root).as_posix())
                yield named[1], bounded.read(path, MAX_REPORT_BYTES).decode("utf-8", "replace")
            except (ImageError, OSError):
                continue  # a link out, a pipe, without permission: the study has no report, and is rejected for that


def _labels(folder: Path, wanted: str, understood: Understood) -> tuple[pd.DataFrame | None, str]:
    """The labels of every study, and which labeler made them ("" without any)."""
    if wanted:
        one_of("labels", wanted, LABELERS)
    for labeler in (wanted,) if wanted else LABELERS:
        path = find_table(folder, rf"mimic-cxr-[\d.]+-{labeler}")
        if path is not None:
            table = read_columns(path, ("study_id", *LABELS), (), understood).drop_duplicates("study_id")
            ids = cells.ids(table["study_id"], "study_id", path.name, understood)
            return pd.DataFrame(cells.label_columns(table, str(path))).set_index(pd.Index(ids)), labeler
    if wanted:
        raise InputError(f"{folder} has no mimic-cxr-2.0.0-{wanted}.csv or .csv.gz.", "Put it there.")
    return None, ""


def _with_people(folder: Path, table: pd.DataFrame, understood: Understood) -> pd.DataFrame:
    """Sex and age from MIMIC-IV's patients table, where it is there."""
    path = find_table(folder, "patients")
    if path is None:
        return table.assign(sex="", age=np.nan)
    people = read_columns(path, ("subject_id", "gender", "anchor_age", "anchor_year"), (), understood)
    people["subject_id"] = cells.ids(people["subject_id"], "subject_id", path.name, understood)
    people = people.drop_duplicates("subject_id").set_index("subject_id")
    people = people.loc[people.index.isin(table["patient_id"].unique())]
    sex = table["patient_id"].map(cells.sexes(people["gender"], understood)).fillna("")
    since = pd.to_numeric(people["anchor_age"], errors="coerce") - pd.to_numeric(people["anchor_year"], errors="coerce")
    age = table["patient_id"].map(since) + table["year"]
    if odd := int((age.notna() & ~age.between(0, 120)).sum()):
        understood.note(f"{counted(odd, 'age')} by {path.name} not from 0 to 120: taken as not given")
    if known := int((~table["patient_id"].isin(people.index)).sum()):
        understood.note(f"{known:,} of {len(table):,} images of patients that {path.name} does not name")
    return table.assign(sex=sex, age=age.where(age.between(0, 120)))


def _of_headers(folder: Path, images: pd.Series, progress: Steps | None = None) -> dict[str, list[Any]]:
    """View and year of study from every DICOM header, read by the processes that read pixels, under the same bounds; a
    file that is no DICOM is found out when it is read."""
    found: list[tuple[str, float]] = []
    rows = [{"image": image} for image in images]
    workers = min(HEADER_READERS, 2 * default_workers(), 1 + len(rows) // LEAST_ROWS)
    with Readers(partial(header_below, folder, ("ViewPosition", "StudyDate")), None, workers) as readers:
        for facts in readers.read(rows, 64 * workers):
            said = facts if isinstance(facts, dict) else {}
            date = said.get("StudyDate", "")
            year = float(date[:4]) if re.fullmatch(r"\d{8}", date) else np.nan
            found.append((fields.view(said.get("ViewPosition", "")), year))
            if progress is not None and (len(found) % 1024 == 0 or len(found) == len(rows)):
                progress(len(found), len(rows))
    return {"view": [view for view, _ in found], "year": [year for _, year in found]}
