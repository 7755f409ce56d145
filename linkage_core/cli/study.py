"""`linkage study`: a published study's whole design in one command, added to `linkage` by cli.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from linkage_core.cli import options
from linkage_core.cli.options import JsonOption, QuietOption, StoreOption
from linkage_core.cli.printing import output, plain


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(study)


def study(
    mimic: Annotated[str, typer.Option("--mimic", help="Folder of MIMIC-CXR or MIMIC-CXR-JPG, or a stored cohort.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder for the tables.")],
    preset: Annotated[str, typer.Option("--preset", help="The study.")] = "arxiv-2606.02276",
    chexpert: Annotated[
        str, typer.Option("--chexpert", help="Folder of CheXpert Plus, or a stored cohort: the external one.")
    ] = "",
    models: Annotated[str | None, typer.Option("--models", help="Comma-separated. Default: the study's four.")] = None,
    mitigate: Annotated[
        str | None, typer.Option("--mitigate", help="Models to mitigate, comma-separated. Default: the strongest.")
    ] = None,
    section: Annotated[
        str | None, typer.Option("--section", help="Part of the report: findings, impression, both or whole.")
    ] = None,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="Keep the seed of the noise. Not private: for synthetic data.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """A published study on your own copy of its data: split, pairs, pools, hard negatives, mitigation and use.

    Its tables stand side by side with the published figures. A run that was stopped goes on where it stood.
    """
    import dataclasses

    from linkage_core.study import design as study_design
    from linkage_core.study import run as studies
    from linkage_core.validate import new_folder

    design = study_design.preset(preset)
    if section is not None:
        design = dataclasses.replace(design, section=section)
    new_folder(out)
    with options.progress_bars(quiet or json_to == "-") as progress:
        found = studies.run(
            options.store_at(store, writes=True),
            design,
            mimic=mimic,
            chexpert=chexpert,
            models=() if models is None else options.parts_of(models, "--models"),
            mitigate=() if mitigate is None else options.parts_of(mitigate, "--mitigate"),
            reproducible=reproducible,
            device=device,
            progress=progress,
        )
    content = studies.write(found, out)
    options.write_json(content, json_to)
    if options.speaks(quiet, json_to):
        table = Table("figure", "published", "here", "95%", "what", title=design.name)
        for row in content["side_by_side"]:
            shown = [_figure(row[name]) for name in ("here", "low", "high")]
            interval = f"{shown[1]} to {shown[2]}" if row["low"] is not None else ""
            table.add_row(plain(row["figure"]), plain(str(row["published"])), shown[0], interval, plain(row["what"]))
        output.print(table)
        for what, why in found.left_out.items():
            output.print(plain(f"Left out: {what}: {why}"))
        output.print(f"Every table: {out}", highlight=False)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.2f}"
