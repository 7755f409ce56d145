"""`linkage app`: the pages, served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from linkage_core.cli.options import StoreOption, before_command

MAY: dict[str, Any] = {"rich_help_panel": "What else Your data may read"}
REACH: dict[str, Any] = {"rich_help_panel": "Who may reach it"}


def serve(
    store: StoreOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Of this machine.")] = 8501,
    allow_root: Annotated[
        list[Path] | None,
        typer.Option("--allow-root", help="A folder that Your data may read, with all below it; may be given again."),
    ] = None,
    allow_archive: Annotated[
        list[str] | None,
        typer.Option("--allow-archive", help="A DICOMweb server that Your data may ask; may be given again.", **MAY),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open it in the browser of this machine.")
    ] = True,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Listen at this address instead of 127.0.0.1. Needs a login.", **REACH),
    ] = None,
    public_address: Annotated[
        str | None,
        typer.Option("--public-address", help="Where a proxy serves it: https://name. Needs a login.", **REACH),
    ] = None,
    base_path: Annotated[
        str, typer.Option("--base-path", help="What a proxy puts before every address: /linkage.", **REACH)
    ] = "",
    without_login: Annotated[
        bool, typer.Option("--without-login", help="Others may reach it though nobody has to log in.", **REACH)
    ] = False,
    allow_account: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-account",
            help="Who may enter of those who log in: name@host, @host or sub:ID; again for more.",
            **REACH,
        ),
    ] = None,
    access_log: Annotated[
        Path | None,
        typer.Option("--access-log", help="Add to this file who was shown which record, and when.", **REACH),
    ] = None,
) -> None:
    """The pages in a browser, for this machine only. Ctrl-C ends it.

    The address that it prints opens every cohort; without its token only synthetic ones open.

    For example:
        linkage app --port 9000 --no-browser
        linkage app --allow-root /data/films
    """
    from importlib import import_module

    from linkage_core import shipped

    root = store or before_command.store or shipped.default_store()
    # By name: the core stands below the app and starts it without knowing it.
    module = import_module("explorer.serve")
    reach = module.Reach(address, public_address or "", without_login, access_log, base_path, allow_account or ())
    sources = module.Sources(allow_root or (), allow_archive or ())
    module.serve(root, port, browser=browser, sources=sources, reach=reach)
