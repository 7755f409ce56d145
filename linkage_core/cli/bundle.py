"""`linkage bundle`: what is installed on a machine without the internet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linkage_core.cli.options import JsonOption, QuietOption, parts_of, progress_bars, speaks, write_json

TARGET = {"rich_help_panel": "For which machine"}


def bundle(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    wheel: Annotated[
        Path | None, typer.Option("--wheel", help="This package's wheel. In a checkout one is built.")
    ] = None,
    extras: Annotated[str | None, typer.Option("--extras", help="Of the package, for example dicomweb.")] = None,
    models: Annotated[
        str | None, typer.Option("--models", help="Models at hand to take along, for example clip.")
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option("--platform", help="Tags such as manylinux_2_28_x86_64; default: this machine.", **TARGET),
    ] = None,
    python: Annotated[str, typer.Option("--python", help="For example 3.12; default: this one.", **TARGET)] = "",
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Wheels, models, checksums and a script that installs them where there is no internet.

    The versions are those that run here. They are asked of the package index that pip is configured for.

    For example:
        linkage bundle for-the-ward
        linkage bundle for-the-ward --platform manylinux_2_28_x86_64 --python 3.12
    """
    from linkage_core.bundle.make import bundle as make
    from linkage_core.cli.console import say

    with progress_bars(quiet or json_to == "-") as progress:
        progress("Wheels are gathered; torch is large.", 0, 0)
        made = make(
            directory,
            wheel=wheel,
            extras=parts_of(extras, "--extras") if extras else (),
            models=parts_of(models, "--models") if models else (),
            platforms=parts_of(platform, "--platform") if platform else (),
            python=python,
        )
    write_json({"folder": str(made.folder), "wheels": made.wheels, "bytes": made.size}, json_to)
    if speaks(quiet, json_to):
        say(f"{made.folder}: {made.wheels} wheels, {made.size / 1e6:,.0f} MB. Next: copy it, then sh install.sh")
