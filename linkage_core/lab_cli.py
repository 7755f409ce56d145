"""Commands of the mitigation lab, added to `linkage` by cli.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from linkage_core import cli
from linkage_core.cli import JsonOption, NameOption, QuietOption, StoreOption
from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.mitigation import finetune as lab
from linkage_core.printing import output, plain


def register(app: typer.Typer) -> None:
    """Add the lab's commands."""
    app.command()(finetune)


def finetune(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Whose heads.")],
    mechanism: Annotated[str, typer.Option("--mechanism", help=", ".join(lab.MECHANISMS))] = lab.LABEL,
    epsilon: Annotated[
        str | None, typer.Option("--epsilon", help="Above 0; inf for no noise, which is not private.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="Default: 1e-6 or a tenth of 1/n, whichever is less.")
    ] = None,
    allow_large_delta: Annotated[
        bool, typer.Option("--allow-large-delta", help="Take a delta of 1/n or more all the same.")
    ] = False,
    unit: Annotated[str, typer.Option("--unit", help="patient or pair.")] = "patient",
    findings: Annotated[
        str | None, typer.Option("--findings", help="The declared list, comma-separated. Default: all 14.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="closed-form or opacus (pairs only).")] = "closed-form",
    like: Annotated[str | None, typer.Option("--like", help="What noise-only and nonprivate follow.")] = None,
    public: Annotated[
        str | None, typer.Option("--public", help="Public cohort of the store, for public-negatives, public-labels.")
    ] = None,
    reproducible: Annotated[
        bool, typer.Option("--reproducible", help="Keep the seed of the noise. Not private: for synthetic data.")
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of a reproducible run.")] = None,
    q: Annotated[float | None, typer.Option("--q", help="Chance of each unit to be in a step.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Private steps.")] = None,
    clip: Annotated[float | None, typer.Option("--clip", help="Bound of one unit's gradient.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Learning rate.")] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help="For truncate and moment-oneshot.")] = None,
    output_noise: Annotated[
        float, typer.Option("--output-noise", help="Deviation in each coordinate, for output-noise.")
    ] = lab.OUTPUT_NOISE,
    name: NameOption = None,
    into: Annotated[
        str | None, typer.Option("--into", help="Cohorts that get the head, comma-separated. Default: the one named.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a head of this name.")] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Finetune the two heads, with or without differential privacy, and keep them with their full record."""
    where = cli._store(store)
    entry = where.open(*cli._target(target))
    if seed is not None and not reproducible:
        raise InputError(f"--seed {seed} was given.", "A private run keeps no seed. Add --reproducible.")
    if reproducible and seed is None:
        seed = lab.new_seed()
    options = lab.Options(
        epsilon=_epsilon(epsilon, mechanism),
        delta=delta,
        allow_large_delta=allow_large_delta,
        unit=unit,
        findings=LABELS if findings is None else tuple(cli._parts(findings, "--findings")),
        engine=engine,
        like=like,
        public=public,
        seed=seed,
        q=q,
        steps=steps,
        clip=clip,
        rate=rate,
        width=width,
        output_noise=output_noise,
    )
    cohorts = [entry.cohort] if into is None else cli._parts(into, "--into")
    goals = [where.open(cohort, entry.model) for cohort in cohorts]
    for goal in goals:
        lab.same_weights(entry, goal)
    with cli._progress(quiet or json_to == "-") as progress:
        heads, record = lab.finetune(entry, mechanism, options, name=name or "", progress=progress)
    paths = [goal.add_head(record["head"], heads, record, replace=replace).path for goal in goals]
    cli._write_json(record, json_to)
    if cli._speaks(quiet, json_to):
        _done(record, paths)


def _epsilon(value: str | None, mechanism: str) -> float:
    row = lab.known(mechanism)
    if value is None:
        if row.kind == "control" and mechanism != "noise-only":
            return math.inf
        if mechanism == lab.PAPER:
            return lab.PAPER_EPSILON
        raise InputError(f"{mechanism} needs an epsilon.", "Give --epsilon, for example --epsilon 1.")
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"--epsilon is {value!r}.", "Give a number above 0, or inf.") from error


def _done(record: dict[str, Any], paths: list[Path]) -> None:
    for path in paths:
        output.print(plain(f"Head {record['head']} written: {path / 'heads' / record['head']}.safetensors"))
    if record.get("sigma") is not None:
        output.print(
            plain(
                f"noise multiplier {record['sigma']:.4g}, q {record['q']:.4g}, {record['steps']} steps, clip "
                f"{record['clip']:.4g}, unit {record['unit']}, relation {record['relation']}; {record['delta_note']}"
            )
        )
    output.print(f"[bold]Guarantee:[/bold] {plain(record['claim'])}.")
    if "scope" in record:
        output.print(f"It covers {plain(record['scope'])}.")
    trained = record.get("trained_on")
    if trained:
        output.print(
            f"Trained on {trained['n_pairs']:,} pairs of {trained['n_patients']:,} patients of "
            f"{plain(trained['cohort'])}{' (synthetic)' if trained.get('synthetic') else ''}."
        )
    first = paths[0]
    output.print(plain(f"Measure it: linkage audit {first.parent.name}/{first.name} --head {record['head']}"))
