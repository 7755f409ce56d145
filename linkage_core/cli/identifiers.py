"""`linkage identifiers`: before anything is audited, is it de-identified at all?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage_core.cli.options import (
    HOW,
    WHICH,
    ImageFolderOption,
    JsonOption,
    KindArgument,
    QuietOption,
    RootArgument,
    given_only,
    progress_bars,
    speaks,
    write_json,
)


def identifiers(
    kind: KindArgument,
    root: RootArgument = None,
    words_in: Annotated[
        int | None,
        typer.Option(
            "--words-in",
            min=0,
            help="Images in whose pixels words are looked for, by tesseract; about a second each. Default: 200, drawn "
            "from all.",
            show_default=False,
        ),
    ] = None,
    records_to: Annotated[
        Path | None, typer.Option("--records", help="Write record ids, kinds and levels to this CSV.")
    ] = None,
    image_folder: ImageFolderOption = None,
    section: Annotated[
        str, typer.Option("--section", help="Part of the report: findings, impression, both or whole.", **WHICH)
    ] = "both",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that read images; default: one a core.", **HOW)
    ] = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Is a cohort de-identified at all? What identifies in headers, pixels and reports: counts by kind, no values.

    Nothing is changed. Found: it identifies as it stands. Filled in: the basic profile of DICOM (PS3.15) removes or
    replaces it, and whether this is a substitute cannot be seen.

    For example:
        linkage identifiers folder my-folder --records to-look-at.csv
    """
    from linkage_core import tables
    from linkage_core.cli import printing
    from linkage_core.cohorts.identifiers.check import SAMPLE, check
    from linkage_core.cohorts.registry import open_cohort

    with progress_bars(quiet or json_to == "-") as progress:
        found = open_cohort(
            kind,
            root,
            section=section,
            progress=lambda done, total: progress("headers", done, total),
            **given_only(images=image_folder),
        )
        checked = check(
            found,
            words_in=SAMPLE if words_in is None else words_in,
            progress=lambda done, total: progress("identifiers", done, total),
            workers=workers,
        )
    summary = {"name": found.name, "synthetic": found.synthetic, **checked.summary(), "first": checked.first()}
    write_json(summary, json_to)
    if records_to:
        records_to.write_bytes(tables.csv(checked.table()))
    if speaks(quiet, json_to):
        printing.identifiers(summary)
