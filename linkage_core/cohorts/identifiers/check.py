"""A whole cohort looked at for identifiers. Nothing in it is changed, and no value is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.identifiers import files, pixels, rules
from linkage_core.cohorts.identifiers.attributes import attributes
from linkage_core.cohorts.identifiers.kinds import FILLED, FOUND, KINDS, LEVELS, PLACE, REPORT
from linkage_core.errors import ImageError
from linkage_core.images.processes import Readers, default_workers, workers_for
from linkage_core.progress import Steps

SAMPLE = 200
"""Images whose pixels are looked at for words, unless another number is asked for: about a second each."""
NEVER = (
    "faces and other features by which a picture is recognized",
    "what ids and file names tell",
    "names in reports without a title, label or signature",
)


@dataclass(frozen=True)
class Checked:
    """What was found. record_ids (n,); levels (n, len(KINDS)) uint8: NONE, FILLED or FOUND; attributes: by keyword how
    many records have it (FOUND, FILLED); looked: at how many records, DICOM headers, PNG or JPEG files, studies with
    text and pixels, how many headers say they were de-identified, and how many files could not be read."""

    name: str
    record_ids: pd.Series
    levels: np.ndarray
    attributes: dict[str, tuple[int, int]]
    looked: dict[str, int]
    not_looked_for: tuple[str, ...]

    def first(self, n: int = 3) -> dict[str, list[str]]:
        """The first records of each kind that was found; of kinds that are only filled in none."""
        found = {kind: self.record_ids[self.levels[:, place] == FOUND].head(n) for kind, place in PLACE.items()}
        return {kind: ids.tolist() for kind, ids in found.items() if len(ids)}

    def table(self) -> pd.DataFrame:
        """One row a record and kind: record_id, kind, level (LEVELS)."""
        at, kind = np.nonzero(self.levels)
        names, words = np.array(list(KINDS)), np.array(["", LEVELS[FILLED], LEVELS[FOUND]])
        columns = {"record_id": self.record_ids.to_numpy(str)[at], "kind": names[kind]}
        return pd.DataFrame(columns | {"level": words[self.levels[at, kind]]})

    def summary(self) -> dict[str, Any]:
        """Counts alone, ready for JSON: what is kept with an entry and printed."""
        counts = {
            kind: {LEVELS[level]: int((self.levels[:, place] == level).sum()) for level in LEVELS}
            for kind, place in PLACE.items()
        }
        return {
            "schema": 1,
            "rules": rules.version(),
            "looked": self.looked,
            "kinds": {kind: count for kind, count in counts.items() if any(count.values())},
            "attributes": {
                keyword: {LEVELS[FOUND]: found, LEVELS[FILLED]: filled}
                for keyword, (found, filled) in self.attributes.items()
            },
            "not_looked_for": list(self.not_looked_for),
        }


def check(cohort: Cohort, *, words_in: int = 0, progress: Steps | None = None, workers: int | None = None) -> Checked:
    """Look at every header and every report of a cohort, and for words in the pixels of `words_in` images (a seeded
    draw of them; more than there are: all; 0: none).

    A study's report is counted for each of its records. Files are read by other processes, as when they are embedded;
    `progress` is called with (done, total) of records. An image that cannot be read is counted as such.
    """
    records = cohort.records.reset_index(drop=True)
    levels = np.zeros((len(records), len(KINDS)), np.uint8)
    _reports(records, levels)
    tesseract = pixels.version() if words_in else ""
    has_image = (records["image"] != "").to_numpy() if cohort.root is not None else np.zeros(len(records), bool)
    drawn = has_image if cohort.root is not None else np.full(len(records), cohort.synthetic)
    with_words = _draw(np.flatnonzero(drawn), words_in if tesseract else 0, len(records))
    at = np.flatnonzero(has_image | with_words)
    read = partial(files.look, cohort.read_image, cohort.root)
    rows = ({**_row(records, int(place)), "words": bool(with_words[place])} for place in at)
    counts = np.zeros((2, len(attributes())), np.int64)
    flags = np.zeros(len(files.FLAGS), np.int64)
    unread = 0
    of_files = default_workers() if with_words.any() else workers_for(len(at))
    n_workers = of_files if workers is None else workers
    with Readers(read, None, 0 if cohort.root is None else n_workers) as readers:
        for done, (place, told) in enumerate(zip(at, readers.read(rows, 2 * max(1, n_workers)), strict=True), 1):
            if isinstance(told, ImageError):
                unread += 1
            elif isinstance(told, np.ndarray):
                levels[place] = np.maximum(levels[place], told[: len(KINDS)])
                flags += told[len(KINDS) : files.WIDTH]
                of = told[files.WIDTH :]
                counts += np.stack([of == FOUND, of == FILLED])
            if progress is not None:
                progress(done, len(at))
    looked = {
        "records": len(records),
        "headers": int(flags[files.DICOM]),
        "files": len(at) - unread - int(flags[files.DICOM]) if cohort.root is not None else 0,
        "unread": unread,
        "reports": int(records[records["report"].str.contains(r"\w")]["study_id"].nunique()),
        "pixels": int(flags[files.SEEN]),
        "said_removed": int(flags[files.REMOVED]),
    }
    return Checked(
        name=cohort.name,
        record_ids=records["record_id"],
        levels=levels,
        attributes={
            one.keyword: (int(counts[0, one.place]), int(counts[1, one.place]))
            for one in attributes()
            if counts[:, one.place].any()
        },
        looked=looked,
        not_looked_for=tuple(_not_looked_for(looked, int(drawn.sum()), words_in, tesseract)),
    )


def _row(records: pd.DataFrame, place: int) -> dict[Any, Any]:
    return {name: records[name].iat[place] for name in ("record_id", "image", "report", "study_id", "patient_id")}


def _draw(places: np.ndarray, n: int, size: int) -> np.ndarray:
    """(size,) bool: n of the places, the same at every call."""
    mask = np.zeros(size, bool)
    mask[np.random.default_rng(0).permutation(places)[:n]] = True
    return mask


def _reports(records: pd.DataFrame, levels: np.ndarray) -> None:
    """Every distinct text once; what is found goes to every record that has it."""
    codes, texts = pd.factorize(records["report"])
    of_text = np.zeros((len(texts), len(KINDS)), np.uint8)
    for code, text in enumerate(texts):
        for kind in rules.kinds_in(str(text)):
            of_text[code, PLACE[f"{REPORT} {kind}"]] = FOUND
    if len(texts):
        np.maximum(levels, of_text[codes], out=levels)


def _not_looked_for(looked: Mapping[str, int], n_images: int, words_in: int, tesseract: str) -> list[str]:
    """What the check did not see, as phrases."""
    said = []
    if not n_images:
        said.append("anything in images, for there are none")
    else:
        if not looked["headers"]:
            said.append("attributes of DICOM, for no image is a DICOM file")
        elif looked["files"]:
            said.append(f"attributes of DICOM in {looked['files']:,} images that are PNG or JPEG")
        if looked["unread"]:
            said.append(f"anything in {looked['unread']:,} images that cannot be read")
        if not words_in:
            said.append("words in the pixels (not asked for: linkage identifiers --words-in)")
        elif not tesseract:
            said.append("words in the pixels (the program tesseract is not installed)")
        elif looked["pixels"] < n_images:
            said.append(f"words in the pixels of the other {n_images - looked['pixels']:,} images")
    if not looked["reports"]:
        said.append("anything in reports, for there is no text")
    return [*said, *NEVER]
