"""Options that several commands share, and how their values are read and results written.

Imported with every command and by `linkage --help`: nothing here needs more than typer until it is called.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage_core.cli.screens import STORE_AND_OUTPUT
from linkage_core.errors import InputError

if TYPE_CHECKING:
    from linkage_core.engine import Engine
    from linkage_core.parts import Part
    from linkage_core.store.entry import Store

# What an option stands under; without one of these it is on the first screen, where three have room.
OUTPUT: dict[str, Any] = {"rich_help_panel": STORE_AND_OUTPUT}
WHICH: dict[str, Any] = {"rich_help_panel": "Which records"}
MORE: dict[str, Any] = {"rich_help_panel": "More questions"}
HOW: dict[str, Any] = {"rich_help_panel": "How it runs"}
RANDOM: dict[str, Any] = {"rich_help_panel": "Random numbers"}

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of the store. Default: ./cached_embeddings; where there is none yet, a command that only reads "
        "takes the phantom that comes along.",
        show_default=False,
        **OUTPUT,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress and no tables, for scripts.", **OUTPUT)]
JsonOption = Annotated[
    str | None, typer.Option("--json", help="Write the result as JSON to this file; - is standard output.", **OUTPUT)
]
MaxRejectsOption = Annotated[
    int | None, typer.Option("--max-rejects", min=0, help="Exit with 1 if more than this many are rejected.")
]
KindArgument = Annotated[str, typer.Argument(help="One of: {linkage_core.cohorts.registry.KINDS}.")]
RootArgument = Annotated[Path | None, typer.Argument(help="Folder of the cohort; none for the phantom.")]
SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[ROOT]", help="Folder of the cohort, or the address of a DICOMweb service; none for the phantom."
    ),
]
ARCHIVE: dict[str, Any] = {"rich_help_panel": "Of dicomweb", "show_default": False}
ReportsOption = Annotated[
    str | None,
    typer.Option(
        "--reports",
        help="CSV of accession_number and report, FHIR R4 (NDJSON or a bundle), SR files, a folder of them; or sr: "
        "those in the archive.",
        **ARCHIVE,
    ),
]
ModalityOption = Annotated[str | None, typer.Option("--modality", help="Default: CR,DX.", **ARCHIVE)]
BodyPartOption = Annotated[
    str | None, typer.Option("--body-part", help='Default: CHEST,THORAX; "" for any.', **ARCHIVE)
]
DatesOption = Annotated[str | None, typer.Option("--dates", help="A range such as 20200101-20201231.", **ARCHIVE)]
StudiesOption = Annotated[
    str | None, typer.Option("--studies", help="File: a StudyInstanceUID or accession number a line.", **ARCHIVE)
]
KeepOption = Annotated[
    str | None, typer.Option("--keep", help="Keep the images in this folder; else they are on no disk.", **ARCHIVE)
]
RateOption = Annotated[float | None, typer.Option("--rate", help="Requests a second at most. Default: 20.", **ARCHIVE)]
LoginOption = Annotated[
    str | None,
    typer.Option(
        "--login",
        help="File (mode 600) of token, user and password, certificate and key, ca; else LINKAGE_DICOMWEB_TOKEN, ...",
        **ARCHIVE,
    ),
]
TargetArgument = Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Whose records.")]
HeadOption = Annotated[str, typer.Option("--head", help="Name of the head.")]
PoolSizeOption = Annotated[
    str | None, typer.Option("--pool-size", help="Numbers or full, comma-separated. Default: 100,1000,10000,full.")
]
SectionOption = Annotated[
    str, typer.Option("--section", help="Part of the report: findings, impression, both or whole.", **WHICH)
]
SplitsOption = Annotated[
    str | None,
    typer.Option(
        "--splits",
        help="seeded (by patient, the default), three shares such as 60/20/20 (finetune, attacker, held-out), or own: "
        "the table's split column.",
        show_default=False,
        **WHICH,
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="from-text: rules read them from English reports that have none of their own. Of MIMIC-CXR: chexpert or "
        "negbio; of CheXpert Plus: impression_fixed, report_fixed or findings_fixed.",
        show_default=False,
        **WHICH,
    ),
]
ImageFolderOption = Annotated[
    str | None,
    typer.Option(
        "--image-folder", help="Of CheXpert Plus: PNG, DICOM or another of its folders.", show_default=False, **WHICH
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", help="Of the patient-level split (default 0); of the phantom: of everything.", **WHICH),
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the cohort in the store.")]

PartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="i/n",
        help="Do the i-th of n parts alone, in any order and on any machine with this store; the last one puts them "
        "together. all: put together what is there, or say what is missing.",
        show_default=False,
        **HOW,
    ),
]

EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ENGINE",
        help="ray: by processes of this machine; ray://HOST:PORT or HOST:PORT: by a cluster that sees this store. "
        "Needs the extra ray.",
        show_default=False,
        **HOW,
    ),
]

AS_IT_IS = "off-the-shelf"
"""What store.entry calls the heads that a model came with; here without the store."""


@dataclasses.dataclass
class _Global:
    """What came before the command."""

    store: Path | None = None
    quiet: bool = False


before_command = _Global()


def store_at(store: Path | None, *, writes: bool = False) -> Store:
    from linkage_core import shipped
    from linkage_core.store.entry import Store

    return Store(store or before_command.store or shipped.default_store(writes=writes))


def speaks(quiet: bool, json_to: str | None) -> bool:
    return not (quiet or before_command.quiet or json_to == "-")


def given_only(**options: str | float | None) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}


def parts_of(value: str, option: str) -> list[str]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:
        raise InputError(f"{option} is empty.", "Give values separated by commas.")
    return parts


def whole_number(value: str, option: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise InputError(
            f"{option} has {value!r}.", "Give whole numbers, at least 1" + (", or full." if "pool" in option else ".")
        )
    return int(value)


def shares_of(value: str, option: str) -> tuple[float, ...]:
    """Numbers between 0 and 1; the function that takes them says which ends are meant."""
    shares = []
    for part in parts_of(value, option):
        try:
            shares.append(float(part))
        except ValueError:
            shares.append(float("nan"))
        if not 0 <= shares[-1] <= 1:
            raise InputError(f"{option} has {part!r}.", "Give numbers between 0 and 1, for example 0.5.")
    return tuple(shares)


def part_done(part: Part | None, name: str, done: str, missing: Sequence[int], then: str) -> None:
    """What a part says in the end: all is there, or which parts are missing still."""
    from linkage_core.cli.console import say

    if part is None or not missing:
        say(f"{name} is {done}. Next: {then}", highlight=False)
    else:
        say(f"{name}: part {part} is {done}; still missing or running: {part.others(missing)}.", highlight=False)


def chosen_engine(engine: str | None, **others: bool) -> Engine | None:
    """What --engine says; InputError where one of the others, by what it is called, was given too."""
    if engine is None:
        return None
    from linkage_core.engine import engine_of

    chosen = engine_of(engine)
    for other in (name for name, given in others.items() if chosen and given):
        raise InputError(f"--engine and {other} were given.", "Give one of them.")
    return chosen


def target_parts(target: str) -> tuple[str, str]:
    cohort_name, slash, model = target.partition("/")
    if not slash or not cohort_name or not model:
        raise InputError(f"{target!r} is no COHORT/MODEL.", "Give both, for example mine/my-model.")
    return cohort_name, model


def write_json(content: Any, json_to: str | None) -> None:
    if json_to is None:
        return
    import json

    text = json.dumps(content, indent=1, allow_nan=False, default=str) + "\n"
    if json_to == "-":
        sys.stdout.write(text)
    else:
        from linkage_core.disk import write_whole

        write_whole(Path(json_to), text.encode())


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) drawn as bars on standard error; nothing where that is no terminal or quiet."""
    if quiet or before_command.quiet:
        yield lambda stage, done, total: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from linkage_core.cli.console import messages, plain

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages()) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if not total:
                bars.console.print(plain(stage), soft_wrap=True)
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(plain(stage), total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def bound_rejects(n_rejects: int, max_rejects: int | None) -> None:
    if max_rejects is not None and n_rejects > max_rejects:
        from linkage_core.cli.console import note

        note(f"{n_rejects} rejects, more than --max-rejects {max_rejects}.")
        raise typer.Exit(1)
