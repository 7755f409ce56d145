"""Files of reports, whatever they are: told by content, each kind a row of FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from linkage_core.cohorts.manifest import opened
from linkage_core.cohorts.reports import fhir, sr, tabular
from linkage_core.cohorts.reports.base import Reports, none_rejected, reports_of
from linkage_core.errors import InputError
from linkage_core.progress import Steps
from linkage_core.validate import by_name

_TABLES = (".csv", ".csv.gz", ".parquet", ".pq")


@dataclass(frozen=True)
class Format:
    """One kind of file with reports: `fits` says by name and first (unpacked) bytes whether a file is one."""

    name: str
    fits: Callable[[str, bytes], bool]
    read: Callable[[Sequence[Path], Steps | None], Reports]


def _tables(paths: Sequence[Path], progress: Steps | None) -> Reports:
    return together([tabular.read(path) for path in paths])


FORMATS = by_name(
    "format of reports",
    Format("DICOM SR", lambda name, head: head[128:132] == b"DICM", lambda paths, _: sr.read_all(list(paths))),
    Format("FHIR R4", lambda name, head: head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{"), fhir.read_all),
    Format("table", lambda name, head: head.startswith(b"PAR1") or name.lower().endswith(_TABLES), _tables),
)


@dataclass(frozen=True)
class Source:
    """Reports read from files, and what is checked when it is known which of them are used."""

    reports: Reports
    fhir_files: tuple[Path, ...]

    def check(self, used: pd.DataFrame, progress: Steps | None = None) -> None:
        """Check the used rows of `reports.table` once more, where their format has a library for that."""
        lines = used[used["line"] >= 0]
        if len(lines):
            fhir.check(self.fhir_files, lines, progress)


def read_reports(path: Path, progress: Steps | None = None) -> Source:
    """The reports of a file, or of all files below a folder. InputError where there is none."""
    try:
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        kinds: dict[str, list[Path]] = {name: [] for name in FORMATS}
        left: list[Path] = []
        for file in files:
            head = _head(file)
            kind = next((name for name, one in FORMATS.items() if one.fits(file.name, head)), None)
            (kinds[kind] if kind else left).append(file)
    except (OSError, EOFError) as error:
        raise InputError(
            f"The reports {path} cannot be read: {error}.",
            "Give a table, NDJSON, a bundle, SR files or a folder of them.",
        ) from error
    parts = [FORMATS[name].read(found, progress) for name, found in kinds.items() if found]
    if not parts:
        raise InputError(
            f"{path} holds no reports: of its {len(files):,} files none is one of {', '.join(FORMATS)}.",
            "Give a CSV with accession_number and report, FHIR R4 as NDJSON or a bundle, or SR files.",
        )
    if left:
        parts[0].notes.append(f"{len(left):,} files below {path.name} are of no kind that holds reports: left out")
    return Source(together(parts), tuple(kinds["FHIR R4"]))


def _head(path: Path) -> bytes:
    with opened(path) as file:
        head: bytes = file.read(512)
    return head


def together(parts: Sequence[Reports]) -> Reports:
    """Reports of several sources as one."""
    if not parts:
        return reports_of(pd.DataFrame())
    rejects = [part.rejects for part in parts if len(part.rejects)]
    tables = [part.table for part in parts if len(part.table)] or [parts[0].table]
    return Reports(
        tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True),
        pd.concat(rejects, ignore_index=True) if rejects else none_rejected(),
        [note for part in parts for note in part.notes],
    )
