"""One image file looked at for identifiers, by a process of its own: its header, what stands beside the pixels of a PNG
or JPEG, and, where asked, words in the pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from linkage_core.cohorts.identifiers import headers, pixels
from linkage_core.cohorts.identifiers.attributes import attributes
from linkage_core.cohorts.identifiers.kinds import FILLED, FOUND, KINDS, NONE, PLACE
from linkage_core.cohorts.identifiers.rules import kinds_in
from linkage_core.errors import ImageError
from linkage_core.images import kinds
from linkage_core.images.dicom import PYDICOM_ERRORS, read_header
from linkage_core.images.pixels import Radiograph
from linkage_core.images.read import PILLOW_ERRORS, file_bytes, inside

FLAGS = DICOM, REMOVED, SEEN, UNSEEN = range(4)
"""Is a DICOM file; says that it was de-identified; its pixels were looked at; they could not be."""
WIDTH = len(KINDS) + len(FLAGS)
NAMING_TAGS = (Base.Artist, Base.Copyright, Base.CameraOwnerName, Base.GPSInfo)
_SAID_TAGS = (*NAMING_TAGS, Base.ImageDescription, Base.DateTime, Base.DateTimeOriginal, Base.UserComment)


def look(read_image: Callable[[Any], Radiograph], root: Path | None, row: Mapping[str, Any]) -> np.ndarray:
    """What one record's image tells, (WIDTH + number of attributes,) uint8: NONE, FILLED or FOUND of each of KINDS, 0
    or 1 of each of FLAGS, and NONE, FILLED or FOUND of each attribute of the table.

    row: record_id, image, report, and `words`: whether to look for words in the pixels. Without a root (images that are
    drawn) there is no file, only pixels. Raises ImageError where the file cannot be read.
    """
    told = np.zeros(WIDTH + len(attributes()), np.uint8)
    if root is not None:
        data = file_bytes(inside(root, str(row["image"])))
        if data.startswith((kinds.PNG, kinds.JPEG)):
            told[PLACE["file text"]] = beside_pixels(data)
        else:
            _header(data, str(row["report"]), told)
    if row["words"]:
        try:
            seen = pixels.has_words(read_image(row).pixels)
            told[PLACE["pixels text"]] = FOUND if seen else NONE
            told[len(KINDS) + SEEN] = 1
        except ImageError:
            told[len(KINDS) + UNSEEN] = 1
    return told


def _header(data: bytes, report: str, told: np.ndarray) -> None:
    try:
        dataset = read_header(data, "This file", pixels=False)
        if "SOPClassUID" not in dataset and "Rows" not in dataset:
            raise ImageError("not-an-image", "This file holds no DICOM image.", "Give a DICOM, PNG or JPEG file.")
        levels, private = headers.levels(dataset)
        for place, level in levels.items():
            kind = PLACE[f"header {attributes()[place].kind}"]
            told[kind] = max(told[kind], level)
            told[WIDTH + place] = level
        told[PLACE["header private"]] = FILLED if private else NONE
        told[PLACE["pixels flag"]] = FOUND if headers.flagged(dataset) else NONE
        told[PLACE["report own"]] = FOUND if headers.own_in(dataset, report) else NONE
        told[len(KINDS) + DICOM] = 1
        told[len(KINDS) + REMOVED] = headers.said_removed(dataset)
    except PYDICOM_ERRORS as error:
        raise ImageError("damaged", "The header of this file cannot be read.", "Export the file again.") from error


def beside_pixels(data: bytes) -> int:
    """NONE, FILLED or FOUND of what a PNG or JPEG holds beside its pixels: text chunks, a comment, EXIF."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            said = image.getexif()
            exif = {tag: value for tag, value in {**said, **said.get_ifd(Base.ExifOffset)}.items() if value}
            texts = [str(exif[tag]) for tag in _SAID_TAGS if tag in exif]
            texts += [
                value.decode(errors="replace") if isinstance(value, bytes) else value
                for name, value in image.info.items()
                if isinstance(value, str) or name == "comment"
            ]
    except PILLOW_ERRORS as error:
        raise ImageError("damaged", "The header of this file cannot be read.", "Export the file again.") from error
    if any(tag in exif for tag in NAMING_TAGS) or any(kinds_in(text) for text in texts):
        return FOUND
    return FILLED if any(text.strip() for text in texts) else NONE
