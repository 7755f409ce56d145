"""Where a report goes: NAME.html and NAME.json side by side, both whole or neither; and the command that repeats it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from linkage_core.disk import sync_folder
from linkage_core.errors import InputError
from linkage_core.report.found import Asked
from linkage_core.report.page import html, twin
from linkage_core.report.tree import Report
from linkage_core.store.entry import folder_name
from linkage_core.validate import in_utf8

ENDINGS = (".html", ".htm")


def file_name(cohort: str) -> str:
    """The usual name of the report of a cohort, without its ending.

    >>> file_name("phantom")
    'linkage-report-phantom'
    """
    return f"linkage-report-{folder_name(cohort)}"


def places(out: Path, cohort: str, *, force: bool = False) -> tuple[Path, Path]:
    """(HTML, JSON) for a file or a folder that was named; a folder is made where its parent is there.

    InputError where something stands there already (unless `force`), or where nothing can be written.
    """
    in_utf8(out)
    page = out if out.suffix.lower() in ENDINGS else out / f"{file_name(cohort)}.html"
    both = page, page.with_suffix(".json")
    folder = page.parent
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file.", "Name a folder, or a file that ends in .html.")
    if not folder.exists() and (out == page or not folder.resolve().parent.is_dir()):
        missing = folder if out == page else folder.resolve().parent
        raise InputError(f"There is no folder {missing}.", "Make it, or name another place.")
    for path in both:
        if path.is_dir():
            raise InputError(f"{path} is a folder.", "Name another file.")
        if (path.exists() or path.is_symlink()) and not force:
            raise InputError(f"{path} exists.", "Name another file, or replace it with --force.")
    if not os.access(folder if folder.exists() else folder.resolve().parent, os.W_OK):
        raise InputError(f"{folder} cannot be written.", "Name a place that you may write to.")
    return both


def write(report: Report, page: Path, data: Path) -> None:
    """Both files under other names first, forced to disk; then they get theirs. OSError where the disk says no."""
    page.parent.mkdir(exist_ok=True)
    texts = {page: html(report), data: twin(report)}
    hidden = {path: path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in texts}
    try:
        for path, text in texts.items():
            with hidden[path].open("w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for path in texts:
            hidden[path].replace(path)
    finally:
        for path in hidden.values():
            path.unlink(missing_ok=True)
    sync_folder(page.parent)


def command(targets: Sequence[str], asked: Asked, out: str, store: str = "", *, force: bool = False) -> str:
    """What is typed for this report, quoted for a shell.

    >>> command(["mine/my model"], Asked(pool_sizes=(10, 50), text=True), "a b.html", "/data/x")
    "linkage report 'mine/my model' --out 'a b.html' --pool-size 10,50 --include-text --store /data/x"
    """
    words = ["linkage", "report", *targets, "--out", out]
    words += ["--pool-size", _listed(asked.pool_sizes)] if asked.pool_sizes else []
    if asked.sections is not None:
        words += ["--sections", _listed(asked.sections) or "none"]
    words += ["--include-identifiers"] if asked.identifiers else []
    words += ["--include-text"] if asked.text else []
    words += ["--release", _listed(map(str, asked.releases))] if asked.releases else []
    words += ["--seed", str(asked.seed)] if asked.seed else []
    words += ["--store", store] if store else []
    words += ["--force"] if force else []
    return shlex.join(words)


def _listed(values: Iterable[object]) -> str:
    return ",".join(map(str, values))
