"""`linkage app`: the pages, served; added to `linkage` by cli.py."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from linkage_core import shipped
from linkage_core.cli import options
from linkage_core.cli.options import StoreOption


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("app")(serve)


def serve(
    store: StoreOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Of this machine.")] = 8501,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open it in the browser of this machine.")
    ] = True,
) -> None:
    """The pages in a browser, for this machine only. Ctrl-C ends it."""
    root = store or options.before_command.store or shipped.default_store()
    # By name: the core stands below the app and starts it without knowing it.
    import_module("explorer.serve").serve(root, port, browser=browser)
