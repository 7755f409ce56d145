"""A cohort whose images lie in an archive and whose reports lie elsewhere, or beside them as structured reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from linkage_core.cohorts import cells, fields
from linkage_core.cohorts.base import RECORD_COLUMNS, Cohort, Understood
from linkage_core.cohorts.dicomweb import listing
from linkage_core.cohorts.dicomweb.login import login_of
from linkage_core.cohorts.files import without_long
from linkage_core.cohorts.reports.base import Growing, Reports, rejected, reports_of
from linkage_core.cohorts.reports.joined import join
from linkage_core.cohorts.reports.read import Source, read_reports
from linkage_core.cohorts.reports.sr import report_of
from linkage_core.cohorts.splits import FRACTIONS, chosen_splits, split_column
from linkage_core.errors import ImageError, InputError
from linkage_core.images.read import decode_radiograph, inside
from linkage_core.progress import Steps

if TYPE_CHECKING:
    from linkage_core.cohorts.dicomweb.server import Server
    from linkage_core.images.pixels import Radiograph

KIND = "dicomweb"
IN_THE_ARCHIVE = "sr"
"""What stands in place of a path of reports: structured reports of the same studies, from the same server."""
MODALITIES, BODY_PARTS = "CR,DX", "CHEST,THORAX"
LISTING, UNFINISHED = "found.parquet", "found-unfinished.parquet"
"""What an entry of the store calls the listing of what was found, when it is whole and before."""


def read(
    root: str,
    *,
    reports: str | None = None,
    modality: str = MODALITIES,
    body_part: str = BODY_PARTS,
    dates: str = "",
    studies: str | None = None,
    keep: str | None = None,
    rate: float | None = None,
    login: str | None = None,
    listed: Path | None = None,
    seed: int = 0,
    section: str = "both",
    splits: str = "seeded",
    fractions: Any = FRACTIONS,
    progress: Steps | None = None,
) -> Cohort:
    """Images of a DICOMweb server (`root`, its address), with their reports.

    record_id is the SOPInstanceUID, study_id the StudyInstanceUID. `reports`: a table, FHIR R4, SR files or a folder of
    them (cohorts.reports), or "sr": the structured reports in the archive. `modality`, `body_part` (images that name
    none are taken too, and counted), `dates` and the file `studies` choose. Images are brought one by one when they are
    read, and are nowhere kept, unless in the folder `keep`, which is then looked into first. At most `rate` requests a
    second. `login`: see dicomweb.login. `listed`: where the listing is kept; one that is there already is taken, if it
    answers the same question.

    Raises InputError for what cannot be asked, and where the server cannot be used (dicomweb.server).
    """
    from linkage_core.cohorts.dicomweb.server import RATE, Server

    fields.checked_section(section)
    where, shares = chosen_splits(splits, fractions)
    if where == "own":
        raise InputError("A dicomweb cohort has no split of its own.", "Leave out --splits own.")
    if not reports:
        raise InputError(
            "A dicomweb cohort needs reports.",
            f"Give --reports: a CSV with accession_number and report, FHIR R4, SR files; or {IN_THE_ARCHIVE}.",
        )
    from_archive = reports == IN_THE_ARCHIVE
    question = listing.asked(modality, body_part, dates, Path(studies) if studies else None, from_archive)
    server = Server(str(root), login_of(Path(login) if login else None), rate=RATE if rate is None else rate)
    source = None if from_archive else read_reports(Path(reports), progress)
    found = listing.kept(listed, question.digest(server.url)) if listed else None
    if found is None:
        found = listing.find(server, question, progress)
        if listed:
            listing.keep(listed, found, question.digest(server.url))
    understood = Understood()
    _tell(found, understood)
    structured = found.table["sop_class"].isin(listing.CLASSES)
    images, lost = _images(found.table[~structured], found.clashing, understood)
    if source is None:
        source = Source(_from_archive(server, found.table[structured], progress), ())
    for note in source.reports.notes:
        understood.note(note)
    joined = join(images, source.reports)
    source.check(joined.used, progress)
    records, empty = _cut(joined.records, section)
    records, long = without_long(records, empty[:0])
    absent = rejected(
        found.absent, "no-such-study", f"{server.host} has no study of this number.", "Correct the study list."
    )
    records["split"] = split_column(records, where, seed, shares)
    parts = [part for part in (absent, lost, joined.rejects, empty, long) if len(part)]
    options: dict[str, Any] = {
        "url": server.url,
        "reports": reports if from_archive else str(Path(reports).resolve()),
        "modality": modality,
        "body_part": body_part,
        "dates": dates,
        "studies": str(Path(studies).resolve()) if studies else "",
        "seed": seed,
        "section": section,
        "splits": where,
        "fractions": shares,
    }
    return Cohort(
        name=KIND,
        kind=KIND,
        root=kept_in(Path(keep)) if keep else None,
        records=records[list(RECORD_COLUMNS)],
        rejects=pd.concat(parts, ignore_index=True) if parts else absent,
        read_image=read_fetched,
        fetch=fetcher(server, Path(keep) if keep else None),
        options=options,
        understood=understood,
    )


def kept_in(folder: Path) -> Path:
    """The folder, made if it is not there: only its owner may look into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--keep {folder} cannot be made: {error.strerror}.", "Name a folder.") from error
    return folder


def _tell(found: listing.Found, understood: Understood) -> None:
    for why, n in found.left.items():
        understood.note(f"{cells.counted(n, 'object')} {why}: left out")
    unnamed = int(((found.table["body_part"] == "") & ~found.table["sop_class"].isin(listing.CLASSES)).sum())
    if unnamed:
        understood.note(
            f"{cells.counted(unnamed, 'image')} whose header names no body part: taken as chests, so look at some"
        )


def _images(
    found: pd.DataFrame, clashing: tuple[str, ...], understood: Understood
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records without reports, and rejects: an instance twice, no patient, a study of two patients."""
    lost = []
    said = pd.DataFrame(
        {
            "record_id": found["instance"],
            "patient_id": found["patient"],
            "study_id": found["study"],
            "image": found["study"] + "/" + found["series"] + "/" + found["instance"] + ".dcm",
            "view": cells.views(found["view"], understood),
            "sex": cells.sexes(found["sex"], understood),
            "age": cells.ages(found["age"], understood),
            "accession": found["accession"],
        }
    )
    patients = said["patient_id"].groupby(said["study_id"]).transform("nunique") > 1
    patients |= said["study_id"].isin(clashing)
    for bad, reason, what, remedy in (
        (
            said["record_id"].duplicated(),
            "duplicate-record",
            "The archive lists this instance twice.",
            "One of them was kept; tell whoever keeps the archive.",
        ),
        (said["patient_id"] == "", "no-patient", "The archive names no patient.", "It needs a PatientID."),
        (
            patients,
            "study-of-two-patients",
            "Its study stands under several patients in the archive.",
            "Have it put right there: whose image it is cannot be known from here.",
        ),
    ):
        bad = bad[said.index]
        if bad.any():
            lost.append(rejected(said.loc[bad, "record_id"], reason, what, remedy))
            said = said[~bad]
    said = said.sort_values(["study_id", "record_id"]).reset_index(drop=True)
    return said, pd.concat(lost, ignore_index=True) if lost else rejected([], "", "", "")


def _cut(records: pd.DataFrame, section: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The section of each report as a folder has it, and rejects for those without it."""
    from linkage_core.cohorts.folder import part_of

    cut = cells.mapped(records["report"], lambda report: part_of(report, section)).astype("str")
    empty = cut == ""
    lost = rejected(
        records.loc[empty, "record_id"],
        "empty-report",
        f"Its report has no section {section}.",
        "Read both sections, or have it filled in.",
    )
    return records.assign(report=cut)[~empty].reset_index(drop=True), lost


def _from_archive(server: Server, found: pd.DataFrame, progress: Steps | None) -> Reports:
    """Structured reports of the studies, brought one by one."""
    rows, lost = Growing("item", "study", "accession", "patient", "report", "rank"), []
    for done, one in enumerate(found.to_dict("records"), 1):
        item = f"SR {one['instance']}"
        try:
            said = report_of(server.instance(one["study"], one["series"], one["instance"]))
        except ImageError as error:
            lost.append(rejected([item], error.reason, error.what, error.remedy))
            continue
        except InputError as error:
            if error.what.startswith(server.host):
                raise
            lost.append(rejected([item], "damaged-report", error.what, error.remedy))
            continue
        if said is None or not said["report"]:
            lost.append(rejected([item], "empty-report", "The structured report holds no text.", "See the archive."))
        else:
            rows.add(item, one["study"], said["accession"], said["patient"], said["report"], said["rank"])
        if progress is not None:
            progress(done, len(found))
    return reports_of(rows.table(), pd.concat(lost, ignore_index=True) if lost else None)


# ------------------------------------------------------------------------------------------------------------- images


def read_fetched(row: Mapping[str, Any]) -> Radiograph:
    """The pixels of a row that brings its bytes (`data`). A process that decodes has no login and no connection."""
    return decode_radiograph(row["data"], str(row["image"]))


def fetcher(server: Server, folder: Path | None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function that puts the bytes of its image into a row (`data`): from the folder where they are kept, else from
    the server, and then into the folder."""

    def fetch(row: Mapping[str, Any]) -> dict[str, Any]:
        image = str(row["image"])
        place = inside(folder, image) if folder else None
        if place is not None and place.is_file():
            return {**row, "data": place.read_bytes()}
        study, series, instance = image.removesuffix(".dcm").split("/")
        data = server.instance(study, series, instance)
        if place is not None:
            _put(place, data)
        return {**row, "data": data}

    return fetch


def _put(place: Path, data: bytes) -> None:
    """A file, whole or not at all."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(place)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"--keep: a file cannot be written ({error.strerror}).", "Make room, or leave out --keep."
        ) from error
