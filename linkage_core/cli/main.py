"""`linkage ...`: everything the pages show, and everything that fills the store.

Standard output carries results; progress and messages go to standard error, so `--json -` gives JSON and nothing else.
Exit codes: 0 done, 1 finished with more rejects than --max-rejects, 2 usage or bad input.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from linkage_core.cli import app as serving
from linkage_core.cli import audit, cohorts, lab, release, study
from linkage_core.cli.options import QuietOption, StoreOption, before_command
from linkage_core.cli.printing import messages, plain
from linkage_core.errors import STOPPED, LinkageError

app = typer.Typer(
    name="linkage",
    help="How easily can a de-identified chest radiograph be matched back to its report by a vision-language model?\n\n"
    "Try: [bold]linkage audit phantom[/bold], the synthetic cohort that comes with the project.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    add_completion=False,
)
phantom_app = typer.Typer(
    help="The built-in synthetic cohort: build it again, or write it out as files.", no_args_is_help=True
)
app.add_typer(phantom_app, name="phantom")


@app.callback()
def _frame(store: StoreOption = None, quiet: QuietOption = False) -> None:
    before_command.store, before_command.quiet = store, quiet


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `linkage` and `python -m linkage_core`."""
    try:
        app(args=arguments, prog_name="linkage")
    except LinkageError as error:
        messages.print(f"[bold red]Error:[/bold red] {plain(error.what)}", soft_wrap=True)
        if error.remedy:
            messages.print(plain(error.remedy), soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        messages.print(f"[bold red]Error:[/bold red] {plain(str(error))}", soft_wrap=True)
        messages.print("Check the path, its permissions and the free disk space.")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != 130:  # what typer makes of Ctrl-C
            raise
        messages.print(STOPPED)
        sys.exit(130)


for name, command in (
    ("doctor", cohorts.doctor),
    ("cohort", cohorts.cohort),
    ("embed", cohorts.embed),
    ("import", cohorts.import_),
    ("audit", audit.audit),
    ("verify", cohorts.verify),
    ("pull", cohorts.pull),
):
    app.command(name)(command)
phantom_app.command("build")(cohorts.phantom_build)
phantom_app.command("export")(cohorts.phantom_export)
for part in (serving, lab, study, release):
    part.register(app)
