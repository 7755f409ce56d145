"""`linkage study`: a published study's whole design in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from linkage_core.cli.options import (
    HOW,
    RANDOM,
    JsonOption,
    QuietOption,
    StoreOption,
    parts_of,
    progress_bars,
    speaks,
    store_at,
    write_json,
)

DESIGN: dict[str, Any] = {"rich_help_panel": "The design"}


def run(
    mimic: Annotated[str, typer.Option("--mimic", help="Folder of MIMIC-CXR or MIMIC-CXR-JPG, or a stored cohort.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new or empty folder for the tables.")],
    preset: Annotated[
        str, typer.Option("--preset", help="The study: {linkage_core.study.design.PRESETS}.", **DESIGN)
    ] = "arxiv-2606.02276",
    chexpert: Annotated[
        str, typer.Option("--chexpert", help="Folder of CheXpert Plus, or a stored cohort: the external one.")
    ] = "",
    models: Annotated[
        str | None, typer.Option("--models", help="Comma-separated. Default: the study's four.", **DESIGN)
    ] = None,
    mitigate: Annotated[
        str | None,
        typer.Option("--mitigate", help="Models to mitigate, comma-separated. Default: the strongest.", **DESIGN),
    ] = None,
    section: Annotated[
        str | None,
        typer.Option("--section", help="Part of the report: findings, impression, both or whole.", **DESIGN),
    ] = None,
    reproducible: Annotated[
        bool,
        typer.Option("--reproducible", help="Keep the seed of the noise. Not private: for synthetic data.", **RANDOM),
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", **HOW)] = "auto",
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """A published study on your own copy of its data: split, pairs, pools, hard negatives, mitigation and use.

    Its tables stand side by side with the published figures. A run that was stopped goes on where it stood.

    For example:
        linkage study --mimic /data/mimic-cxr --chexpert /data/chexpert-plus --out my-study
    """
    import dataclasses

    from linkage_core.study import design as study_design
    from linkage_core.study import run as studies
    from linkage_core.validate import new_folder

    design = study_design.preset(preset)
    if section is not None:
        design = dataclasses.replace(design, section=section)
    new_folder(out)
    with progress_bars(quiet or json_to == "-") as progress:
        found = studies.run(
            store_at(store, writes=True),
            design,
            mimic=mimic,
            chexpert=chexpert,
            models=() if models is None else parts_of(models, "--models"),
            mitigate=() if mitigate is None else parts_of(mitigate, "--mitigate"),
            reproducible=reproducible,
            device=device,
            progress=progress,
        )
    content = studies.write(found, out)
    write_json(content, json_to)
    if speaks(quiet, json_to):
        from rich.table import Table

        from linkage_core.cli.console import plain, say

        table = Table("figure", "published", "here", "95%", "what", title=design.name)
        for row in content["side_by_side"]:
            shown = [_figure(row[name]) for name in ("here", "low", "high")]
            interval = f"{shown[1]} to {shown[2]}" if row["low"] is not None else ""
            table.add_row(plain(row["figure"]), plain(str(row["published"])), shown[0], interval, plain(row["what"]))
        say(table)
        for what, why in found.left_out.items():
            say(plain(f"Left out: {what}: {why}"))
        say(f"Every table: {out}", highlight=False)


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.2f}"
