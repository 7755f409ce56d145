"""`linkage ...`: everything the pages show, and everything that fills the store.

Standard output carries results; progress and messages go to standard error, so `--json -` gives JSON and nothing else.
Exit codes: 0 done, 1 finished with more rejects than --max-rejects, 2 usage or bad input.

TABLE is all that is known of the commands until one is called: its module is imported then, and what that needs to
work when it works.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from linkage_core.cli import screens
from linkage_core.cli.options import QuietOption, StoreOption, before_command
from linkage_core.errors import STOPPED, LinkageError


@dataclass(frozen=True)
class Row:
    """One command: its function in a module of this folder, the first line of its help and the heading it stands under.

    Without a function it is a group, and others stand `under` its name.
    """

    name: str
    module: str
    function: str
    line: str
    heading: str = "Commands"
    under: str = "linkage"


START, DATA, MEASURE, PROTECT, RELEASE = "Start here", "Data", "Measure", "Protect", "Release"
TABLE = (
    Row("app", "app", "serve", "The pages in a browser, for this machine only. Ctrl-C ends it.", START),
    Row(
        *("doctor", "cohorts", "doctor"),
        "What this machine has: processor, GPU, decoders, models at hand, store, and what to do about what is missing.",
        START,
    ),
    Row(
        *("cohort", "cohorts", "cohort"),
        "Read and check a cohort: images, studies, patients, views, labels, reports, rejects with reasons, splits.",
        DATA,
    ),
    Row(
        *("identifiers", "identifiers", "identifiers"),
        "Is a cohort de-identified at all? What identifies in headers, pixels and reports: counts by kind, no values.",
        DATA,
    ),
    Row(
        *("embed", "cohorts", "embed"),
        "Frozen features of every image and report into the store. A run that was stopped goes on where it stood.",
        DATA,
    ),
    Row(
        *("import", "cohorts", "import_"),
        "Audit your own embeddings: n rows of images and of texts, aligned with n records.",
        DATA,
    ),
    Row(
        *("labels", "labels", "labels"),
        "Read the 14 findings from English reports by rules: 1, 0, -1 (uncertain) or nothing; and check them.",
        DATA,
    ),
    Row(
        *("verify", "cohorts", "verify"),
        "Is every file of the store what was written? Exit code 2 if one was cut short, altered or lost.",
        DATA,
    ),
    Row(
        *("pull", "cohorts", "pull"),
        "Download a model into the user's own cache. Only this, bundle and a dicomweb cohort open a connection.",
        DATA,
    ),
    Row(
        *("bundle", "bundle", "bundle"),
        "Wheels, models, checksums and a script that installs them where there is no internet.",
        DATA,
    ),
    Row("phantom", "", "", "The built-in synthetic cohort: build it again, or write it out as files.", DATA),
    Row(
        *("build", "cohorts", "phantom_build"),
        "Make the synthetic cohort again from its seed: train the four encoders, embed, count. About half an hour.",
        under="phantom",
    ),
    Row(
        *("export", "cohorts", "phantom_export"),
        "Write synthetic radiographs and reports out as files that `linkage embed LAYOUT DIR` reads.",
        under="phantom",
    ),
    Row(
        *("audit", "audit", "run"),
        "How often is the right report among the first k of a pool of N? Exact in N, with intervals over patients.",
        MEASURE,
    ),
    Row(
        *("attack", "lab", "attack"),
        "Attackers who adapt: each one, the worst one before and after, and the ceiling that none can pass.",
        MEASURE,
    ),
    Row(
        *("utility", "lab", "utility"),
        "What can still be read from the embeddings: probe and zero-shot AUROC by finding, before and after a head.",
        MEASURE,
    ),
    Row(
        *("study", "study", "run"),
        "A published study on your own copy of its data: split, pairs, pools, hard negatives, mitigation and use.",
        MEASURE,
    ),
    Row(
        *("report", "report", "run"),
        "A report to file: one HTML page that prints, and the same as JSON. Evidence for who decides, no verdict.",
        MEASURE,
    ),
    Row(
        *("finetune", "lab", "finetune"),
        "Finetune the two heads, with or without differential privacy, and keep them with their full record.",
        PROTECT,
    ),
    Row(
        *("lab", "lab", "whole"),
        "Heads of every mechanism, attacked and used, and with a public cohort every kind of release: for the pages.",
        PROTECT,
    ),
    Row(
        *("canary", "lab", "canary"),
        "Does the training leak more than its epsilon says? One run with planted patients gives a lower bound.",
        PROTECT,
    ),
    Row(
        *("release", "release", "write"),
        "Write a folder that may leave the site: data, a certificate of how well anybody can link it, a page about it.",
        RELEASE,
    ),
    Row(
        *("receive", "release", "receive"),
        "Check a release: every file, every figure, nothing that travels along. Then see what it is worth to you.",
        RELEASE,
    ),
    Row(
        *("ledger", "", ""),
        "The site's book of releases: what each patient's data were used for, and what is left of the budget.\n\n"
        "It is kept at the site, with the key beside it, and entries are only ever added.",
        RELEASE,
    ),
    Row(
        *("create", "release", "ledger_create"),
        "Begin a ledger for all patients of a cohort, with the site's budget for each of them; it is never begun "
        "again.",
        under="ledger",
    ),
    Row(
        *("show", "release", "ledger_show"),
        "What was released, oldest first; with --cohort also what is left to the patient who has least.",
        under="ledger",
    ),
    Row(
        *("add", "release", "ledger_add"),
        "Append the patients of the same cohort whom the ledger does not know, each with the budget of all others.",
        under="ledger",
    ),
    Row(
        *("verify", "release", "ledger_verify"),
        "Hash every entry again. Exit code 2 where the book is not what was entered.",
        under="ledger",
    ),
    Row(
        *("confirm", "release", "ledger_confirm"),
        "Is this folder what the ledger holds? Its entry, the sha256 of its data, mechanism and cost are compared.",
        under="ledger",
    ),
)


class Commands(TyperGroup):
    """Those of the table that stand under this name."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.rows = {row.name: row for row in TABLE if row.under == self.name}

    def list_commands(self, ctx: Any) -> list[str]:
        """By the table alone."""
        return list(self.rows)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, whose module is imported here; None where there is none."""
        row = self.rows.get(cmd_name)
        if row is None:
            return None
        if not row.function:
            group = typer.Typer(name=row.name, cls=Commands, help=row.line, no_args_is_help=True)
            return typer.main.get_group(group)
        one = typer.Typer(add_completion=False)
        one.command(row.name, cls=screens.Command)(
            getattr(import_module(f"linkage_core.cli.{row.module}"), row.function)
        )
        return typer.main.get_command(one)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As usual; of a command that there is not, the nearest is named."""
        if args[0] not in self.rows and not args[0].startswith("-"):
            from linkage_core.validate import nearest

            ctx.fail(f"No such command {args[0]!r}.{nearest(args[0], self.rows)}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Without anything: the page, and exit code 2 as for every command that lacks something."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The page, from the table alone."""
        screens.first_screen(self, ctx, formatter)
        options = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
        screens.section(formatter, "Options", [record for record in options if record is not None])
        widest = max(map(len, self.rows))
        for heading in dict.fromkeys(row.heading for row in self.rows.values()):
            lines = [
                (f"{row.name:<{widest}}", row.line.split("\n")[0])
                for row in self.rows.values()
                if row.heading == heading
            ]
            screens.section(formatter, heading, lines)


app = typer.Typer(
    name="linkage",
    cls=Commands,
    help="How easily can a de-identified chest radiograph be matched back to its report by a vision-language model?\n\n"
    "Try the synthetic cohort that comes with the project:\n"
    "    linkage audit phantom",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"max_content_width": screens.WIDTH},
)


@app.callback()
def _frame(store: StoreOption = None, quiet: QuietOption = False) -> None:
    before_command.store, before_command.quiet = store, quiet


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `linkage` and `python -m linkage_core`."""
    try:
        app(args=arguments, prog_name="linkage")
    except LinkageError as error:
        from linkage_core.cli.console import note, plain, strong

        note(strong("Error:", "red"), plain(error.what), soft_wrap=True)
        if error.remedy:
            note(plain(error.remedy), soft_wrap=True)
        sys.exit(2)
    except MemoryError as error:
        from linkage_core.cli.console import note, plain, strong

        note(strong("Error:", "red"), f"Memory ran out{plain(f' ({error})' if str(error) else '')}.", soft_wrap=True)
        note("What was finished stays. Close other programs, or run it where there is more memory.")
        sys.exit(2)
    except OSError as error:
        from linkage_core.cli.console import note, plain, strong

        note(strong("Error:", "red"), plain(str(error)), soft_wrap=True)
        note("Check the path, its permissions and the free disk space.")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != 130:  # what typer makes of Ctrl-C
            raise
        sys.stderr.write(f"{STOPPED}\n")
        sys.exit(130)
