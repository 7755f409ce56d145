"""What every cohort that lies on disk shares: the check of its image files, and the way its rows become a Cohort."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from linkage_core.cohorts import cells
from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, REJECT_COLUMNS, Cohort, Understood, rejects_table
from linkage_core.cohorts.splits import FRACTIONS, split_column
from linkage_core.errors import ImageError, InputError
from linkage_core.images.pixels import WHITE
from linkage_core.images.processes import Readers, workers_for
from linkage_core.images.read import greys, inside, read_below
from linkage_core.progress import Steps
from linkage_core.validate import in_utf8

LONGEST_REPORT = 1 << 17
Reject = tuple[str, str, str, str]
"""REJECT_COLUMNS of one thing left out."""


def need_folder(root: Path | None, kind: str) -> Path:
    """The root if it is a folder; else InputError."""
    if root is None:
        raise InputError(f"A {kind} cohort needs a folder.", "Give the folder that holds its table and images.")
    in_utf8(root)
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
    return _absent(root, image)


def _absent(root: Path, image: str) -> ImageError:
    return ImageError("missing-file", f"There is no image {image} below {root}.", "Copy it there, or correct its path.")


class Found(NamedTuple):
    """Where an image lies, as the disk spells it below the root ("/" between folders), or what keeps it from being
    read.

    `respelled`: the path as given leads nowhere, and another spelling of it does.
    """

    path: str
    problem: ImageError | None = None
    respelled: bool = False


class Present:
    """`image_problem` for many images: a folder is listed once, so that a million files are checked in seconds.

    Only plain files in plain folders count as listed; whatever else a path is (a link, "..", a strange name), it is
    looked at by itself. One file has one name here, however its path is spelled: "./a.png", "b/../a.png", a link to it,
    other capitals where the disk does not tell them apart. A path that leads nowhere is tried with "/" for the
    backslashes of Windows and with its accents composed otherwise (Unicode normal forms).
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, tuple[str, frozenset[str]]] = {}
        self._names: dict[str, _Names] = {}
        self._there: set[str] = set()
        self._unlisted = False  # a folder that may be entered and not listed: its files are looked at one by one

    def problem(self, image: str) -> ImageError | None:
        """What keeps this image from being read, as far as can be told without opening it."""
        return self.find(image).problem

    def find(self, image: str) -> Found:
        """The file that a path means."""
        folder, _, name = image.rpartition("/")
        if self._is_nowhere(folder, image):
            return Found(image, _absent(self._root, image))
        if folder not in self._listed:
            self._listed[folder] = self._files(folder)
        where, files = self._listed[folder]
        if name in files:
            return Found(f"{where}/{name}" if where else name)
        problem = image_problem(self._root, image)
        if problem is None:
            return Found(self._named(inside(self._root, image).relative_to(self._root.resolve()).as_posix()))
        if problem.reason != "missing-file" or "\0" in image:
            return Found(image, problem)
        return self._otherwise(image, problem)

    def _is_nowhere(self, folder: str, image: str) -> bool:
        """Whether a path as plain as most leads into a folder that is not there by any spelling: told by what the
        folders above it list, and so in no time for a million rows."""
        if folder in self._listed or folder in self._there or set(image) & set("\\\0") or image.startswith("/"):
            return False
        if any(part in ("", ".", "..") for part in folder.split("/")):
            return False
        if any(self._walk(folder, spelled) is not None for spelled in (_composed, _folded, _of_other_bytes)):
            self._there.add(folder)
            return False
        return not self._unlisted

    def _files(self, folder: str) -> tuple[str, frozenset[str]]:
        """A folder as the disk spells it, and the plain files in it."""
        try:
            if inside(self._root, folder or ".") != self._root.resolve() / folder:
                return folder, frozenset()  # there is a link in the way, or the path is written otherwise
            with os.scandir(self._root / folder) as entries:
                files = frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            return self._named(Path(folder).as_posix().removeprefix(".")), files
        except (ImageError, OSError, ValueError):
            return folder, frozenset()

    def _named(self, path: str) -> str:
        """A path that is there, by the names that the disk lists."""
        return self._walk(path, _composed) or self._walk(path, _folded) or path

    def _otherwise(self, image: str, problem: ImageError) -> Found:
        """The file under another spelling of its path, or a remedy that says what it is called."""
        path = image.replace("\\", "/")
        if path.startswith("/") or ".." in path.split("/"):
            return Found(image, problem)
        path = "/".join(part for part in path.split("/") if part not in ("", "."))
        near = self._walk(path, _composed)
        if near is not None and image_problem(self._root, near) is None:
            return Found(near, None, respelled=True)
        if near := self._walk(path, _folded):
            remedy = f"There is {near}: names are told apart by capitals here, so write it like that."
        elif near := self._walk(path, _of_other_bytes):
            shown = os.fsencode(near).decode("utf-8", "backslashreplace")
            remedy = f"There is {shown}, whose name is in bytes that are not UTF-8: rename it."
        else:
            return Found(image, problem)
        return Found(image, ImageError(problem.reason, problem.what, remedy))

    def _walk(self, path: str, spelled: Callable[[str], str]) -> str | None:
        """The path below the root whose every part is spelled like that, None where there is none or several."""
        at = ""
        for part in filter(None, path.split("/")):
            if at not in self._names:
                self._names[at] = _Names(self._root / at)
                self._unlisted |= self._names[at].unlisted
            name = self._names[at].find(part, spelled)
            if name is None:
                return None
            at = f"{at}/{name}" if at else name
        return at


class _Names:
    """What is in a folder, found by ways of spelling."""

    def __init__(self, folder: Path) -> None:
        self.unlisted = False
        try:
            self._names = frozenset(path.name for path in folder.iterdir())
        except OSError as error:
            self._names = frozenset()
            self.unlisted = not isinstance(error, FileNotFoundError | NotADirectoryError)
        self._by: dict[Callable[[str], str], dict[str, list[str]]] = {}

    def find(self, name: str, spelled: Callable[[str], str]) -> str | None:
        if name in self._names:
            return name
        if spelled not in self._by:
            self._by[spelled] = {}
            for one in self._names:
                self._by[spelled].setdefault(spelled(one), []).append(one)
        found = self._by[spelled].get(spelled(name), [])
        return found[0] if len(found) == 1 else None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(_composed(name).casefold())


def _of_other_bytes(name: str) -> str:
    """A name whose bytes are not UTF-8, read as Latin-1."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return _composed(name)


def file_cohort(
    kind: str,
    root: Path,
    rows: list[dict[str, Any]],
    rejects: list[Reject],
    options: dict[str, Any],
    *,
    split_key: str = "patient_id",
    extra: tuple[str, ...] = (),
    understood: Understood | None = None,
) -> Cohort:
    """Rows with RECORD_COLUMNS (labels and age may be left out) and rejects -> a Cohort, split by `options["seed"]`, in
    the shares of `options["fractions"]` where they are given; "own" `splits` are refused, for rows have none.

    `options` are what `open_cohort(kind, root, **options)` needs to read the same cohort again.
    """
    columns = list(dict.fromkeys((*RECORD_COLUMNS, *extra, split_key)))
    records = pd.DataFrame(rows, columns=columns)
    numbers = ["age", *LABELS]
    records[numbers] = records[numbers].astype(np.float64)
    words = [column for column in columns if column not in numbers]
    records[words] = records[words].astype("str")
    understood = Understood() if understood is None else understood
    cells.note_gap_words(records, understood)
    shares = options.get("fractions", FRACTIONS)
    where = f"A {kind} cohort"
    records["split"] = split_column(
        records, options.get("splits", "seeded"), options["seed"], shares, where=where, group=split_key
    )
    name = kind if kind != "folder" else root.resolve().name or "folder"
    return whole(name, kind, root, records[[*RECORD_COLUMNS, *extra]], rejects_table(rejects), options, understood)


def whole(
    name: str,
    kind: str,
    root: Path,
    records: pd.DataFrame,
    rejects: pd.DataFrame,
    options: dict[str, Any],
    understood: Understood | None = None,
) -> Cohort:
    """Finished tables of a cohort on disk as a Cohort whose images are read below its root."""
    records, rejects = without_long(records, rejects)
    return Cohort(
        name=name,
        kind=kind,
        root=root,
        records=records,
        rejects=rejects,
        read_image=partial(read_below, root),
        options=options,
        understood=Understood() if understood is None else understood,
    )


def without_long(records: pd.DataFrame, rejects: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(records, rejects): a report of more than LONGEST_REPORT letters is a reject, for no radiologist writes as much
    of one image."""
    long = records["report"].str.len() > LONGEST_REPORT
    if long.any():
        what = "Its report has {:,} letters; at most " + f"{LONGEST_REPORT:,} are read."
        found = [
            (record, "long-report", what.format(length), "Look whether a quote is missing; else leave it out.")
            for record, length in zip(records["record_id"][long], records["report"][long].str.len(), strict=True)
        ]
        rejects = pd.concat([rejects, rejects_table(found)], ignore_index=True)
        records = records[~long].reset_index(drop=True)
    return records, rejects


def check_images(cohort: Cohort, progress: Steps | None = None) -> Cohort:
    """The cohort with every image decoded once, by other processes: those that fail become rejects, and so do those
    that crash their decoder. What was noted of the others is in `seen`. Takes as long as reading them all."""
    bad: dict[int, ImageError] = {}
    seen: list[np.ndarray] = []
    rows: list[dict[Any, Any]] = cohort.records.to_dict("records")
    looked_at = [position for position, row in enumerate(rows) if row["image"] or cohort.root is None]
    workers = 0 if cohort.is_drawn else workers_for(len(looked_at))
    with Readers(cohort.read_image, greys, workers, fetch=cohort.fetch) as readers:
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
