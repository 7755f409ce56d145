"""What every cohort that lies on disk shares: the check of its image files, and the way its rows become a Cohort."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, REJECT_COLUMNS, Cohort, rejects_table, split_by_patient
from linkage_core.errors import ImageError, InputError
from linkage_core.images.notes import percentiles
from linkage_core.images.pixels import WHITE, Radiograph
from linkage_core.images.processes import Readers, default_workers
from linkage_core.images.read import inside, read_radiograph
from linkage_core.progress import Steps

Reject = tuple[str, str, str, str]
"""Called with (images checked, images in all)."""


def need_folder(root: Path | None, kind: str) -> Path:
    """The root if it is a folder; else InputError."""
    if root is None:
        raise InputError(f"A {kind} cohort needs a folder.", "Give the folder that holds its table and images.")
    try:
        there = root.is_dir()
    except (OSError, ValueError) as error:
        raise InputError(f"{root} cannot be opened: {error}.", "Check the path.") from error
    if not there:
        raise InputError(f"{root} is not a folder.", "Give the folder that holds the cohort's table and images.")
    return root


def image_problem(root: Path, image: str) -> ImageError | None:
    """What keeps an image file from being read, as far as can be told without opening it."""
    try:
        path = inside(root, image)
        if path.is_file():
            return None
    except ImageError as error:
        return error
    except OSError as error:  # a name that is too long, a folder without permission
        return ImageError("missing-file", f"{image} cannot be reached: {error}.", "Check its name and permissions.")
    return ImageError("missing-file", f"There is no image {image} below {root}.", "Copy it there, or correct its path.")


class Present:
    """`image_problem` for many images: a folder is listed once, so that a million files are checked in seconds.

    Only plain files in plain folders count as listed; whatever else a path is (a link, "..", a strange name), it is
    looked at by itself.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, frozenset[str]] = {}

    def problem(self, image: str) -> ImageError | None:
        """What keeps this image from being read, as far as can be told without opening it."""
        folder, _, name = image.rpartition("/")
        if folder not in self._listed:
            self._listed[folder] = self._files(folder)
        return None if name in self._listed[folder] else image_problem(self._root, image)

    def _files(self, folder: str) -> frozenset[str]:
        try:
            if inside(self._root, folder or ".") != self._root.resolve() / folder:
                return frozenset()  # there is a link in the way, or the path is written otherwise
            with os.scandir(self._root / folder) as entries:
                return frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
        except (ImageError, OSError, ValueError):
            return frozenset()


def read_below(root: Path, row: Any) -> Radiograph:
    """The pixels of a record's image; ImageError if it is not there, leaves the root or cannot be decoded."""
    if not row["image"]:
        raise ImageError(
            "missing-file",
            f"{row['record_id']}: no image was found for it below {root}.",
            "Add the images and read again.",
        )
    return read_radiograph(inside(root, str(row["image"])))


def file_cohort(
    kind: str,
    root: Path,
    rows: list[dict[str, Any]],
    rejects: list[Reject],
    options: dict[str, Any],
    *,
    split_key: str = "patient_id",
    extra: tuple[str, ...] = (),
) -> Cohort:
    """Rows with RECORD_COLUMNS (labels and age may be left out) and rejects -> a Cohort, split by `options["seed"]`.

    `options` are what `open_cohort(kind, root, **options)` needs to read the same cohort again.
    """
    columns = list(dict.fromkeys((*RECORD_COLUMNS, *extra, split_key)))
    records = pd.DataFrame(rows, columns=columns)
    numbers = ["age", *LABELS]
    records[numbers] = records[numbers].astype(np.float64)
    words = [column for column in columns if column not in numbers]
    records[words] = records[words].astype("str")
    records["split"] = split_by_patient(records[split_key], options["seed"])
    name = kind if kind != "folder" else root.resolve().name or "folder"
    return whole(name, kind, root, records[[*RECORD_COLUMNS, *extra]], rejects_table(rejects), options)


def whole(
    name: str, kind: str, root: Path, records: pd.DataFrame, rejects: pd.DataFrame, options: dict[str, Any]
) -> Cohort:
    """Finished tables of a cohort on disk as a Cohort whose images are read below its root."""
    return Cohort(
        name=name,
        kind=kind,
        root=root,
        records=records,
        rejects=rejects,
        read_image=partial(read_below, root),
        options=options,
    )


def greys(pixels: np.ndarray) -> np.ndarray:
    """(1, 3) uint16 of an image: its 1st, 50th and 99th percentile; all that a check sends back."""
    return np.array([percentiles(pixels)], dtype=np.uint16)


def check_images(cohort: Cohort, progress: Steps | None = None) -> Cohort:
    """The cohort with every image decoded once, by other processes: those that fail become rejects, and so do those
    that crash their decoder. What was noted of the others is in `seen`. Takes as long as reading them all."""
    bad: dict[int, ImageError] = {}
    seen: list[np.ndarray] = []
    rows: list[dict[Any, Any]] = cohort.records.to_dict("records")
    looked_at = [position for position, row in enumerate(rows) if row["image"] or cohort.root is None]
    with Readers(cohort.read_image, greys, 0 if cohort.root is None else default_workers()) as readers:
        readings = readers.read((rows[position] for position in looked_at), 2 * readers.workers)
        for done, (position, reading) in enumerate(zip(looked_at, readings, strict=True), 1):
            if isinstance(reading, ImageError):
                bad[position] = reading
            elif isinstance(reading, np.ndarray):
                seen.append(reading)
            if progress is not None:
                progress(len(rows) - len(looked_at) + done, len(rows))
    found = rejects_table([(rows[at]["record_id"], e.reason, e.what, e.remedy) for at, e in bad.items()])
    kept = cohort.records.drop(index=[cohort.records.index[at] for at in bad]).reset_index(drop=True)
    rejects = pd.concat([cohort.rejects[list(REJECT_COLUMNS)], found], ignore_index=True)
    return replace(cohort, records=kept, rejects=rejects, seen=_seen(seen, readers.noted))


def _seen(greys: list[np.ndarray], noted: dict[str, tuple[int, str]]) -> dict[str, Any]:
    """What is said of images that were looked at, ready for JSON; nothing where there were none."""
    if not greys:
        return {}
    middle = np.percentile(np.concatenate(greys), [0, 50, 100], axis=0) / WHITE
    return {
        "images": len(greys),
        "greys": {
            name: dict(zip(("min", "median", "max"), map(float, column), strict=True))
            for name, column in zip(("p1", "median", "p99"), middle.T, strict=True)
        },
        "notes": {note: {"images": n, "first": first} for note, (n, first) in sorted(noted.items())},
    }
