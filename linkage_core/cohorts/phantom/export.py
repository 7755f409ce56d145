"""Write the phantom out as files: a folder of images with a manifest, as the `folder` cohort reads it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from linkage_core.cohorts.base import LABELS
from linkage_core.cohorts.phantom.cohort import image_of, records_of
from linkage_core.cohorts.phantom.population import SEED, Study
from linkage_core.errors import InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.progress import Progress, silent
from linkage_core.validate import new_folder, one_of

MANIFEST_COLUMNS = ("image", "report", "patient_id", "study_id", "view", "sex", "age", *LABELS)
_DX_STORAGE = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation


def export_folder(
    directory: Path,
    studies: Sequence[Study],
    *,
    image_format: Literal["png", "dicom"] = "png",
    size: int = 512,
    seed: int = SEED,
    progress: Progress = silent,
) -> Path:
    """Write images and `manifest.csv`; returns the manifest's path.

    PNG is 16 bit grey; DICOM is 12 bit MONOCHROME2, modality DX, with the phantom's own (fictional) patient ids. The
    manifest comes last, so a folder with a manifest is complete. Raises InputError where the directory is not empty,
    no study is given or the format is unknown.
    """
    one_of("image_format", image_format, ("png", "dicom"))
    checked_target(directory, studies)
    images = directory / "images"
    images.mkdir(parents=True)
    records = records_of(studies, seed)
    suffix = "png" if image_format == "png" else "dcm"
    for done, row in enumerate(records.to_dict("records"), start=1):
        record_id = str(row["record_id"])
        picture = image_of(record_id, size, seed)
        path = images / f"{record_id}.{suffix}"
        if image_format == "png":
            Image.fromarray(picture.pixels).save(path)
        else:
            path.write_bytes(dicom_file(picture, row))
        progress("export", done, len(records))
    records["image"] = [f"images/{record_id}.{suffix}" for record_id in records["record_id"]]
    table = records[list(MANIFEST_COLUMNS)].astype({"age": int})
    # Labels are whole numbers or empty.
    table = table.astype(dict.fromkeys(LABELS, pd.Int8Dtype()))
    manifest = directory / "manifest.csv"
    table.to_csv(manifest, index=False)
    return manifest


def checked_target(directory: Path, studies: Sequence[Study]) -> None:
    """InputError where the directory is not empty or no study is given."""
    if not studies:
        raise InputError("There is no study to export.", "Ask for at least one.")
    new_folder(directory)


def dicom_file(
    picture: Radiograph, row: Mapping[Any, Any], study_date: str = "", more: Mapping[str, str] | None = None
) -> bytes:
    """One image as a DICOM file, with PatientSex only where the row says it; `more`: further attributes by keyword.

    UIDs follow from the ids, so an export can be repeated bit for bit.
    """
    record_id, study_id, view = str(row["record_id"]), str(row["study_id"]), str(row["view"])
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _DX_STORAGE
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["phantom", "image", record_id])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    data = FileDataset(buffer, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID = generate_uid(entropy_srcs=["phantom", "study", study_id])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=["phantom", "series", record_id])
    data.Modality = "DX"
    data.PatientID = str(row["patient_id"])
    data.PatientName = "Phantom^Synthetic"
    if row["sex"]:
        data.PatientSex = str(row["sex"])
    if study_date:
        data.StudyDate = study_date
    for keyword, value in (more or {}).items():
        setattr(data, keyword, value)
    data.StudyID = study_id.removeprefix("patient")[-16:]  # the longest that DICOM allows (SH)
    data.ViewPosition = "LL" if view == "LATERAL" else view
    data.PresentationIntentType = "FOR PRESENTATION"
    data.PhotometricInterpretation = "MONOCHROME2"
    data.SamplesPerPixel = 1
    data.Rows, data.Columns = picture.pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = 0
    data.WindowCenter, data.WindowWidth = "2048", "4096"
    data.RescaleIntercept, data.RescaleSlope = "0", "1"
    data.PixelData = (picture.pixels >> 4).astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
