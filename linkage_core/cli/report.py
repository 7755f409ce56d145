"""`linkage report`: what was measured, as a document to file."""

from __future__ import annotations

import datetime
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linkage_core.cli.options import (
    RANDOM,
    QuietOption,
    StoreOption,
    before_command,
    parts_of,
    progress_bars,
    speaks,
    store_at,
    whole_number,
)
from linkage_core.errors import InputError, LinkageError

if TYPE_CHECKING:
    from linkage_core.store.entry import Entry, Store

CONTENT: dict[str, Any] = {"rich_help_panel": "What is in it"}


def run(
    targets: Annotated[
        list[str], typer.Argument(metavar="COHORT[/MODEL]...", help="Of one cohort. Without a model: all of them.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR|FILE.html", help="Where HTML and JSON go.", show_default=False)
    ],
    pool_size: Annotated[
        str | None,
        typer.Option(
            "--pool-size",
            help="N, comma-separated, the first for the headline. Default: 10 to 10,000 as far as every image fills "
            "them, 100 for the headline.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that stands there.")] = False,
    sections: Annotated[
        str | None,
        typer.Option(
            "--sections",
            help="Of {linkage_core.report.names.OPTIONAL} those that are wanted, or none. Default: all; what is left "
            "out is named.",
            show_default=False,
            **CONTENT,
        ),
    ] = None,
    include_identifiers: Annotated[
        bool, typer.Option("--include-identifiers", help="Ids of the few most exposed images.", **CONTENT)
    ] = False,
    include_text: Annotated[
        bool, typer.Option("--include-text", help="Their report text, where the store has it.", **CONTENT)
    ] = False,
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            metavar="DIR",
            help="Folders of linkage release, comma-separated: checked, and their certificates told.",
            **CONTENT,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bootstrap.", **RANDOM)] = 0,
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """A report to file: one HTML page that prints, and the same as JSON. Evidence for who decides, no verdict.

    No report text and no identifier is in it unless asked for. Two runs on the same files differ by the date alone.

    For example:
        linkage report phantom --out report.html
        linkage report phantom/phantom-radiology --out reports --pool-size 100,1000
    """
    from linkage_core.report.found import Asked, found
    from linkage_core.report.table import report
    from linkage_core.report.write import command, places, write

    where = store_at(store)
    cohort, models = _named(targets, where)
    asked = Asked(
        pool_sizes=None if pool_size is None else _sizes(pool_size),
        sections=_sections(sections),
        identifiers=include_identifiers,
        text=include_text,
        releases=() if release is None else tuple(Path(one) for one in parts_of(release, "--release")),
        seed=seed,
    )
    named = store or before_command.store
    typed = command(targets, asked, str(out), "" if named is None else str(named), force=force)
    page, data = places(out, cohort, force=force)
    entries = [_opened(where, cohort, model, every=cohort in targets) for model in models]
    with progress_bars(quiet) as progress:
        seen = found(entries, models, replace(asked, command=typed), progress=progress)
    write(report(seen, today()), page, data)
    if not speaks(quiet, None):
        return
    from linkage_core.cli.console import note, plain, say
    from linkage_core.report.measured import headline

    for model, why in seen.damaged.items():
        note(plain(f"{model} is left out: {why}"), soft_wrap=True)
    say(plain(headline(seen)), soft_wrap=True)
    say(plain(f"{page} and {data.name} beside it. Print it from a browser; it is signed by hand."), soft_wrap=True)
    at = "" if named is None else f" --store {shlex.quote(str(named))}"
    say(plain(f"Next: linkage verify {shlex.quote(cohort)}{at}"), soft_wrap=True)


def today() -> datetime.date:
    """The date that a report bears; tests set another clock."""
    return datetime.date.today()


def _named(targets: list[str], where: Store) -> tuple[str, list[str]]:
    """(cohort, its models in the order named, each once). InputError for several cohorts."""
    cohorts = list(dict.fromkeys(target.partition("/")[0] for target in targets))
    if len(cohorts) > 1:
        raise InputError(f"A report is about one cohort, and {' and '.join(cohorts)} were named.", "Make one for each.")
    models: list[str] = []
    for target in targets:
        model = target.partition("/")[2]
        models += [model] if model else where.required_models(cohorts[0])
    return cohorts[0], list(dict.fromkeys(models))


def _opened(where: Store, cohort: str, model: str, *, every: bool) -> Entry | LinkageError:
    """The entry; where the whole cohort was asked for, one that cannot be read is left out and named."""
    try:
        return where.open(cohort, model)
    except LinkageError as error:
        if every:
            return error
        raise


def _sizes(value: str) -> tuple[int, ...]:
    sizes = tuple(whole_number(part, "--pool-size") for part in parts_of(value, "--pool-size"))
    if small := [n for n in sizes if n < 2]:
        raise InputError(f"--pool-size has {small[0]}.", "A pool has at least two reports.")
    return sizes


def _sections(value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return () if value.strip() == "none" else tuple(parts_of(value, "--sections"))
