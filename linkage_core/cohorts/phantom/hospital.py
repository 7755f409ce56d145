"""Write the phantom out as a hospital has it: images as they lie in an archive (DICOM), reports as they lie elsewhere.

images/*.dcm and manifest.csv are what the `folder` cohort reads, under the numbers that an archive knows (record_id is
the SOPInstanceUID, study_id the StudyInstanceUID). The same reports stand in reports.csv (by accession number, with the
phantom's labels), in fhir/*.ndjson (FHIR R4 Bulk Data) and in sr/*.dcm (DICOM SR).
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.phantom.cohort import image_of, records_of
from linkage_core.cohorts.phantom.export import MANIFEST_COLUMNS, checked_target, dicom_file
from linkage_core.cohorts.phantom.layouts import parts_of
from linkage_core.cohorts.phantom.population import SEED, Study, parse_id
from linkage_core.cohorts.reports.fhir import DICOM_UID
from linkage_core.cohorts.reports.sr import CLASSES, NARRATIVE
from linkage_core.progress import Progress, silent

LAYOUT = "hospital"
README = """SYNTHETIC. Nothing here is a patient.

These radiographs and reports were drawn and written by a program (the phantom of Linkage Explorer, seed {seed}), and
lie here as they lie in a hospital: images/ for an archive, reports.csv, fhir/ or sr/ for a system of reports.

Read them with: linkage cohort folder DIR
or, when images/ was sent to an archive: linkage cohort dicomweb https://... --reports DIR/fhir
"""


def numbers_of(record_id: str, study_id: str) -> dict[str, str]:
    """What an archive calls an image and its study: UIDs, as `dicom_file` writes them, and an accession number."""
    _, patient, number, _ = parse_id(record_id)
    return {
        "record_id": str(generate_uid(entropy_srcs=["phantom", "image", record_id])),
        "study_id": str(generate_uid(entropy_srcs=["phantom", "study", study_id])),
        "accession_number": f"P{patient}{number:03d}",
    }


def export_hospital(
    directory: Path,
    studies: Sequence[Study],
    *,
    size: int = 512,
    seed: int = SEED,
    progress: Progress = silent,
) -> Path:
    """Write images and reports; returns the path of README.txt, which comes last.

    Raises InputError where the directory is not empty or no study is given.
    """
    checked_target(directory, studies)
    for name in ("images", "fhir", "sr"):
        (directory / name).mkdir(parents=True)
    records = records_of(studies, seed)
    rows = []
    for done, row in enumerate(records.to_dict("records"), start=1):
        record = str(row["record_id"])
        named = numbers_of(record, str(row["study_id"]))
        more = {"AccessionNumber": named["accession_number"], "BodyPartExamined": "CHEST"}
        more["PatientAge"] = f"{int(row['age']):03d}Y"
        content = dicom_file(image_of(record, size, seed), row, more=more)
        (directory / "images" / f"{record}.dcm").write_bytes(content)
        whole: dict[Any, Any] = dict(row)
        whole.update(named, image=f"images/{record}.dcm")
        rows.append(whole)
        progress("export", done, len(records))
    table = pd.DataFrame(rows).sort_values(["study_id", "record_id"])  # as an archive is read
    table = table.astype({"age": int}).astype(dict.fromkeys(LABELS, pd.Int8Dtype()))
    table[["record_id", *MANIFEST_COLUMNS]].to_csv(directory / "manifest.csv", index=False)
    once = table.drop_duplicates("study_id")
    once[["accession_number", "report", *LABELS]].to_csv(directory / "reports.csv", index=False)
    _fhir(directory / "fhir", once)
    for one in once.to_dict("records"):
        (directory / "sr" / f"{one['accession_number']}.dcm").write_bytes(structured_report(one))
    readme = directory / "README.txt"
    readme.write_text(README.format(seed=seed), encoding="utf-8")
    return readme


def _fhir(folder: Path, studies: pd.DataFrame) -> None:
    """DiagnosticReport, ImagingStudy and Observation, one resource a line."""
    kinds: dict[str, list[dict[str, Any]]] = {"DiagnosticReport": [], "ImagingStudy": [], "Observation": []}
    for row in studies.to_dict("records"):
        for resource in resources(row):
            kinds[resource["resourceType"]].append(resource)
    for kind, found in kinds.items():
        lines = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in found)
        (folder / f"{kind}.ndjson").write_text(lines, encoding="utf-8")


def resources(row: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """A study of the phantom as FHIR R4: its report, itself, and what was observed. `row` has patient_id, study_id (a
    UID), accession_number and report."""
    number, patient = str(row["accession_number"]), {"reference": f"Patient/{row['patient_id']}"}
    accession = {
        "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
        "value": number,
    }
    findings, impression = parts_of(str(row["report"]))
    code = {"coding": [{"system": "http://loinc.org", "code": "36643-5", "display": "XR Chest 2 Views"}]}
    report = {
        "resourceType": "DiagnosticReport",
        "id": number,
        "identifier": [accession],
        "status": "final",
        "code": code,
        "subject": patient,
        "imagingStudy": [{"reference": f"ImagingStudy/{number}"}],
        "result": [{"reference": f"Observation/{number}"}] if findings else [],
        "conclusion": impression,
        "presentedForm": [
            {
                "contentType": "text/plain; charset=utf-8",
                "data": base64.b64encode(str(row["report"]).encode()).decode("ascii"),
            }
        ],
    }
    study = {
        "resourceType": "ImagingStudy",
        "id": number,
        "identifier": [{"system": DICOM_UID, "value": f"urn:oid:{row['study_id']}"}, accession],
        "status": "available",
        "subject": patient,
    }
    observation = {
        "resourceType": "Observation",
        "id": number,
        "status": "final",
        "code": {"text": "Findings"},
        "subject": patient,
        "valueString": findings,
    }
    # an element without a value is left out: FHIR has no empty ones
    kept = [{name: value for name, value in one.items() if value} for one in (report, study, observation)]
    return kept if findings else kept[:2]


def structured_report(row: Mapping[Any, Any]) -> bytes:
    """A study's report as a DICOM file (Basic Text SR): its text under Narrative Summary. `row` as in `resources`."""
    number = str(row["accession_number"])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CLASSES[0]
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["phantom", "report", number])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    data = FileDataset(buffer, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = str(row["study_id"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=["phantom", "reports", number])
    data.Modality = "SR"
    data.PatientID = str(row["patient_id"])
    data.PatientName = "Phantom^Synthetic"
    data.AccessionNumber = number
    data.CompletionFlag, data.VerificationFlag = "COMPLETE", "VERIFIED"
    data.ValueType, data.ContinuityOfContent = "CONTAINER", "SEPARATE"
    data.ConceptNameCodeSequence = Items([_code("18748-4", "LN", "Diagnostic Imaging Report")])
    text = Dataset()
    text.RelationshipType, text.ValueType = "CONTAINS", "TEXT"
    text.ConceptNameCodeSequence = Items([_code(NARRATIVE, "DCM", "Narrative Summary")])
    text.TextValue = str(row["report"])
    data.ContentSequence = Items([text])
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code
