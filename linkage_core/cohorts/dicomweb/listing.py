"""What a query finds: one row an instance, kept beside what is embedded so that a run that was stopped asks no more."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from linkage_core import bounded
from linkage_core.cohorts.reports.sr import CLASSES
from linkage_core.errors import InputError
from linkage_core.progress import Steps

if TYPE_CHECKING:
    from linkage_core.cohorts.dicomweb.server import Server

TAGS = {
    "study": "0020000D",
    "series": "0020000E",
    "instance": "00080018",
    "sop_class": "00080016",
    "modality": "00080060",
    "body_part": "00180015",
    "view": "00185101",
    "patient": "00100020",
    "sex": "00100040",
    "age": "00101010",
    "birth": "00100030",
    "date": "00080020",
    "accession": "00080050",
}
"""A column -> the attribute that it is. `birth` and `date` give an age where there is none, and are not kept."""
COLUMNS = tuple(name for name in TAGS if name not in ("birth", "date"))
OF_THE_STUDY = ("patient", "sex", "age", "birth", "date", "accession")
RAW = "1.2.840.10008.5.1.4.1.1.1.1.1"  # Digital X-Ray Image Storage - For Processing
SR = "SR"
_DATES = re.compile(r"(\d{8})?-(\d{8})?|\d{8}")
_MOST_STUDIES = 5_000_000
_MOST_LIST_BYTES = 1 << 28


@dataclass(frozen=True)
class Asked:
    """A query: `modalities` and `body_parts` in capitals, `dates` as QIDO-RS has ranges (20200101-20201231, either end
    may be left out), `studies` StudyInstanceUIDs or accession numbers, none for all; `with_sr`: structured reports of
    the same studies too."""

    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    dates: str = ""
    studies: tuple[str, ...] = ()
    with_sr: bool = False

    def digest(self, url: str) -> str:
        """The same for the same question to the same server."""
        content = json.dumps([url, asdict(self)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


@dataclass(frozen=True)
class Found:
    """`table`: one row an instance (COLUMNS); `absent`: studies that were asked for and are not there; `left`: what the
    filters left out of the studies found, counted by why; `clashing`: studies listed under several patients."""

    table: pd.DataFrame
    absent: tuple[str, ...]
    left: Mapping[str, int]
    clashing: tuple[str, ...] = ()


def asked(modality: str, body_part: str, dates: str, studies: Path | None, with_sr: bool) -> Asked:
    """A query from what a user says; InputError for a word that is none.

    >>> asked("cr,DX", "chest", "20200101-", None, False).modalities
    ('CR', 'DX')
    """
    lists = []
    for name, said in (("modality", modality), ("body-part", body_part)):
        words = tuple(dict.fromkeys(part.strip().upper() for part in said.split(",") if part.strip()))
        if bad := [word for word in words if not re.fullmatch(r"[A-Z0-9 _]{1,16}", word)]:
            raise InputError(f"--{name} has {bad[0]!r}.", "Give words of DICOM separated by commas, such as CR,DX.")
        lists.append(words)
    if not lists[0]:
        raise InputError("--modality is empty.", "Give one or more, such as CR,DX.")
    if dates:
        ends = dates.split("-")
        if not _DATES.fullmatch(dates) or dates == "-" or not all(_is_date(end) for end in ends if end):
            raise InputError(f"--dates is {dates!r}.", "Give a day or a range, such as 20200101-20201231 or 20200101-.")
        if len(ends) == 2 and all(ends) and ends[0] > ends[1]:
            raise InputError(f"--dates is {dates!r}: it ends before it begins.", "Give the earlier day first.")
    return Asked(lists[0], lists[1], dates, _listed(studies) if studies else (), with_sr)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _listed(path: Path) -> tuple[str, ...]:
    """The lines of a file; neither empty ones nor those after a #."""
    try:
        lines = bounded.read(path, _MOST_LIST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        why = "not UTF-8" if isinstance(error, ValueError) else error.strerror or error
        raise InputError(f"The study list {path} cannot be read: {why}.", "One study a line.") from None
    found = []
    for number, line in enumerate(lines, 1):
        said = line.strip()
        if not said or said.startswith("#"):
            continue
        if not re.fullmatch(r"[\w.\- /^]{1,64}", said, re.ASCII):  # * and ? would ask for all there are
            raise InputError(
                f"{path}, line {number} is neither a StudyInstanceUID nor an accession number.",
                "One of them a line, without quotes, commas and wildcards.",
            )
        found.append(said)
    if not found:
        raise InputError(f"The study list {path} is empty.", "One StudyInstanceUID or accession number a line.")
    return tuple(dict.fromkeys(found))


def is_uid(text: str) -> bool:
    """Whether a number of a study list is a UID, and not an accession number.

    >>> is_uid("1.2.840.10008.1"), is_uid("20231234"), is_uid("1.5")
    (True, False, False)
    """
    return bool(re.fullmatch(r"[0-9]+(\.[0-9]+){3,}", text))


def find(server: Server, question: Asked, progress: Steps | None = None) -> Found:
    """Ask: the studies first, then the instances of each."""
    from linkage_core.cohorts.dicomweb.server import UID, text_of

    study_fields = tuple(TAGS[name] for name in OF_THE_STUDY)
    fields = tuple(TAGS.values())
    studies: dict[str, dict[str, str]] = {}
    absent: list[str] = []
    left: Counter[str] = Counter()
    clashing: set[str] = set()

    def ask(**filters: str) -> int:
        n = 0
        for one in server.studies(study_fields, filters):
            uid = text_of(one, TAGS["study"])
            n += 1
            if UID.fullmatch(uid):
                said = {name: text_of(one, TAGS[name]) for name in OF_THE_STUDY}
                if studies.setdefault(uid, said)["patient"] != said["patient"]:
                    clashing.add(uid)
            else:
                left["studies without a valid StudyInstanceUID"] += 1
            if len(studies) > _MOST_STUDIES:
                raise InputError(f"The query finds more than {_MOST_STUDIES:,} studies.", "Ask by shorter --dates.")
        return n

    within = {"StudyDate": question.dates} if question.dates else {}
    for number in question.studies:
        if not ask(**{"StudyInstanceUID" if is_uid(number) else "AccessionNumber": number}, **within):
            absent.append(number)
    if not question.studies:
        for modality in question.modalities:
            ask(ModalitiesInStudy=modality, **within)
    rows: list[dict[str, str]] = []
    for done, (uid, of_study) in enumerate(studies.items(), 1):
        for one in server.instances(uid, fields):
            row = {name: text_of(one, tag) for name, tag in TAGS.items()}
            row |= {name: row[name] or said for name, said in of_study.items()}
            row["study"] = uid
            if why := _left_out(row, question, UID):
                left[why] += 1
                continue
            row["age"] = row["age"] or _age(row["birth"], row["date"])
            rows.append({name: row[name] for name in COLUMNS})
        if progress is not None:
            progress(done, len(studies))
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype="str")
    return Found(table, tuple(absent), dict(sorted(left.items())), tuple(sorted(clashing)))


def _left_out(row: Mapping[str, str], question: Asked, uid: re.Pattern[str]) -> str:
    """Why an instance of a study found is not asked for; "" if it is."""
    if not uid.fullmatch(row["series"]) or not uid.fullmatch(row["instance"]):
        return "without valid UIDs"
    if question.with_sr and row["sop_class"] in CLASSES:
        return ""
    if row["modality"].upper() not in question.modalities:
        return f"of modality {row['modality'][:16] or 'not given'}"
    if row["sop_class"] == RAW:
        return "raw detector data (for processing)"
    part = row["body_part"].upper()
    if question.body_parts and part and not any(word in part for word in question.body_parts):
        return f"of body part {row['body_part'][:16]}"
    return ""


def _age(birth: str, day: str) -> str:
    """Whole years between two dates of DICOM, "" where one is missing.

    >>> _age("19800701", "20200630"), _age("", "20200630")
    ('39', '')
    """
    if not (_is_date(birth) and _is_date(day)) or birth > day:
        return ""
    return str(int(day[:4]) - int(birth[:4]) - (day[4:] < birth[4:]))


# -------------------------------------------------------------------------------------------------------------- kept


def keep(path: Path, found: Found, digest: str) -> None:
    """Write it, whole or not at all."""
    note = json.dumps(
        {
            "asked": digest,
            "absent": found.absent,
            "left": dict(found.left),
            "clashing": found.clashing,
        }
    )
    table = pa.Table.from_pandas(found.table, preserve_index=False).replace_schema_metadata({"found": note})
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        pq.write_table(table, file, compression="zstd")
    temporary.replace(path)


def kept(path: Path, digest: str) -> Found | None:
    """What was found by the same question, None where nothing whole is there."""
    try:
        table = pq.read_table(path)
        note: dict[str, Any] = json.loads((table.schema.metadata or {}).get(b"found", b"{}"))
        if note.get("asked") != digest:
            return None
        frame = table.to_pandas().astype("str")
        return Found(frame[list(COLUMNS)], tuple(note["absent"]), dict(note["left"]), tuple(note["clashing"]))
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
