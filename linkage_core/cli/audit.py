"""`linkage audit`: how often the right report is found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from linkage_core.cli.options import (
    AS_IT_IS,
    MORE,
    OUTPUT,
    RANDOM,
    WHICH,
    EngineOption,
    HeadOption,
    JsonOption,
    PartOption,
    PoolSizeOption,
    QuietOption,
    StoreOption,
    chosen_engine,
    part_done,
    parts_of,
    progress_bars,
    shares_of,
    speaks,
    store_at,
    whole_number,
    write_json,
)
from linkage_core.errors import InputError

if TYPE_CHECKING:
    from linkage_core.audit.study import Question
    from linkage_core.engine import Engine

MANY = 10_000
"""Candidates that are drawn for each patient, where none are named."""


def run(
    target: Annotated[str, typer.Argument(metavar="COHORT[/MODEL]", help="Without a model: all of the cohort's.")],
    head: HeadOption = AS_IT_IS,
    pool_size: PoolSizeOption = None,
    k: Annotated[str, typer.Option("--k", help="Numbers, comma-separated.")] = "1,5,10",
    direction: Annotated[
        str, typer.Option("--direction", help="One of: {linkage_core.audit.questions.DIRECTIONS}.", **WHICH)
    ] = "image-to-report",
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool",
            help="Who else is in it: {linkage_core.audit.questions.POOLS}.",
            show_default="other-patients",
            **WHICH,
        ),
    ] = None,
    hard_negatives: Annotated[
        bool, typer.Option("--hard-negatives", help="Decoys of other patients with the same findings.", **WHICH)
    ] = False,
    strata: Annotated[
        str | None,
        typer.Option("--strata", help="With hard negatives: view, sex, age, length, comma-separated.", **WHICH),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="heldout, attacker, finetune or all.", **WHICH)] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Paired differences between the models, with tests.", **MORE)
    ] = False,
    open_world: Annotated[
        bool, typer.Option("--open-world", help="What if the right report may be missing from the pool?", **MORE)
    ] = False,
    prior: Annotated[
        str, typer.Option("--prior", help="With it: how likely it is there, above 0 up to 1, comma-separated.", **MORE)
    ] = "0.1,0.5,0.9",
    precision: Annotated[
        str, typer.Option("--precision", help="With it: how often an answer shall be right, 0 to 1.", **MORE)
    ] = "0,0.5,0.8,0.9",
    rule: Annotated[
        str, typer.Option("--rule", help="With it: answer by top score, by its margin, or both.", **MORE)
    ] = "score,margin",
    exposed: Annotated[
        bool, typer.Option("--exposure", help="The most exposed images, and what goes with it.", **MORE)
    ] = False,
    fuse: Annotated[
        bool, typer.Option("--fusion", help="Several images or reports pooled, and other hits: every way.", **MORE)
    ] = False,
    images_by: Annotated[
        Literal["study", "patient"] | None, typer.Option("--images-by", help="Or one way: pool images.", **MORE)
    ] = None,
    reports_by: Annotated[
        Literal["patient"] | None, typer.Option("--reports-by", help="Or one way: pool reports.", **MORE)
    ] = None,
    hit: Annotated[
        Literal["report", "text", "patient"] | None,
        typer.Option("--hit", help="Or one way: what is right; the own report, its text, its patient.", **MORE),
    ] = None,
    ceilings: Annotated[
        bool, typer.Option("--ceilings", help="What nobody passes who knows the reports' text or findings.", **MORE)
    ] = False,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", help="Reports of these cohorts in place of the cohort's own decoys.", **MORE),
    ] = None,
    full: Annotated[
        Path | None,
        typer.Option(
            "--full", metavar="DIR", help="All of it, as Parquet, CSV and audit.json in a new folder.", **OUTPUT
        ),
    ] = None,
    sample_queries: Annotated[
        int | None,
        typer.Option("--sample-queries", min=1, help="Estimate from this many images drawn at random.", **MORE),
    ] = None,
    sample_candidates: Annotated[
        int | None,
        typer.Option(
            "--sample-candidates",
            min=1,
            help="Estimate from this many candidates drawn for each patient; N goes up to one more.",
            **MORE,
        ),
    ] = None,
    part: PartOption = None,
    engine: EngineOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.", **RANDOM)] = 0,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """How often is the right report among the first k of a pool of N? Exact in N, with intervals over patients.

    For example:
        linkage audit phantom --pool-size 100,full --k 1,5
        linkage audit phantom/phantom-radiology --hard-negatives --strata view,sex
    """
    from linkage_core.audit import study as auditing
    from linkage_core.audit.full import FullAudit, Fused, Settings, write
    from linkage_core.tables import rows

    where = store_at(store)
    cohort_name, _, model = target.partition("/")
    models = [model] if model else where.required_models(cohort_name)
    if hard_negatives and pool not in (None, auditing.HARD_NEGATIVES):
        raise InputError(f"--hard-negatives and --pool {pool} contradict each other.", "Give one of them.")
    pool = auditing.HARD_NEGATIVES if hard_negatives else pool or "other-patients"
    alike = () if strata is None else tuple(parts_of(strata, "--strata"))
    one_way = Fused(images_by, reports_by, hit or "report", direction) if images_by or reports_by or hit else None
    sampled = sample_queries is not None or sample_candidates is not None
    for option, given in {"--part": part is not None, "a sample": sampled}.items():
        more = {"--compare": compare, "--open-world": open_world, "--exposure": exposed, "--fusion": fuse}
        more |= {"--ceilings": ceilings}  # shares and classes of some reports are not those of all
        more |= {"--full": full is not None, "--gallery": gallery is not None, "--strata": sampled and bool(alike)}
        more |= {"a way to pool": one_way is not None, "--part and a sample": sampled and part is not None}
        for other in (name for name, wish in more.items() if given and wish):
            raise InputError(
                f"{option} and {other} were given.", "Either is for the first table alone: ask the rest apart."
            )
    by_engine = chosen_engine(engine, **{"--part": part is not None, "a sample": sampled})
    entries = [where.open(cohort_name, one) for one in models]
    if by_engine is not None:
        asked_of = [str(where.root.absolute()), cohort_name], [head, direction, pool, split, list(alike)]
        _by_engine(by_engine, [[*asked_of[0], one, *asked_of[1]] for one in models], quiet or json_to == "-")
    if part is not None:
        questions = [auditing.question(one, head, direction, pool, split, alike) for one in entries]
        _in_parts(questions, part, quiet, json_to)
        return
    if sampled:
        from linkage_core.audit.sampled import sampled_study

        drawn = sample_queries, sample_candidates or MANY
        studies = [sampled_study(one, *drawn, head, direction, pool, split, seed) for one in entries]
    else:
        studies = [auditing.study(one, head, direction, pool, split, seed, alike) for one in entries]
    largest = min(study.largest_pool for study in studies)
    steps = (10, 100, 1000) if pool == auditing.HARD_NEGATIVES else (100, 1000, 10_000)
    if pool_size is None:
        fit = [n for n in steps if n <= largest]
        sizes: list[int | Any] = (fit or [largest]) if sampled else [*fit, "full"]
    else:
        sizes = [
            part if part == "full" else whole_number(part, "--pool-size") for part in parts_of(pool_size, "--pool-size")
        ]
    ks = [whole_number(part, "--k") for part in parts_of(k, "--k")]
    if pool_size is None:
        ks = [one for one in ks if one <= largest] or ks
    wanted: dict[str, Any] = {} if strata is None else {"strata": alike}
    made = FullAudit(
        where,
        cohort_name,
        models,
        Settings(
            head=head,
            split=split,
            pool_sizes=None if pool_size is None else tuple(sizes),
            ks=tuple(ks),
            rules=tuple(parts_of(rule, "--rule")),
            priors=shares_of(prior, "--prior"),
            wanted=shares_of(precision, "--precision"),
            galleries=() if gallery is None else tuple(parts_of(gallery, "--gallery")),
            fused=one_way,
            seed=seed,
            **wanted,
        ),
    )
    asked = {
        "models": compare,
        "decoys": hard_negatives,
        "open world": open_world,
        "exposure": exposed,
        "fusion": fuse or one_way is not None,
        "sites": gallery is not None,
        "ceilings": ceilings,
    }
    result = auditing.report(studies, sizes, ks)
    with progress_bars(quiet or json_to == "-") as progress:
        if full:
            write(made, full, progress)
        tables = made.tables([name for name, wish in asked.items() if wish], progress)
    left_out = result.get("left_out", {}) | made.left_out
    if tables or left_out:
        shown = {name: rows(table) for name, table in tables.items() if name != "exposure"}
        result |= {"tables": shown, "left_out": left_out}
    write_json(result, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli import printing
        from linkage_core.cli.console import say

        printing.audit(result, studies)
        printing.audit_tables(tables, left_out)
        if full:
            say(f"Every table, with what its columns mean: {full / 'audit.json'}")


def _by_engine(engine: Engine, asked: list[list[Any]], quiet: bool) -> None:
    """Have the blocks of each of these counted; what then counts finds them in the store."""
    from linkage_core.engine import Job

    names = ("store", "cohort", "model", "head", "direction", "pool", "split", "strata")
    with progress_bars(quiet) as progress:
        for one in asked:
            job = Job("linkage_core.audit.parts:blocks", dict(zip(names, one, strict=True)))
            engine.run(job.open(), job, progress)


def _in_parts(questions: list[Question], text: str, quiet: bool, json_to: str | None) -> None:
    """Counts of one part of each of these, and what is missing still."""
    from linkage_core.audit.parts import count_part
    from linkage_core.parts import part_of

    part = part_of(text)
    missing: dict[str, list[int]] = {}
    with progress_bars(quiet or json_to == "-") as progress:
        for one in questions:
            missing[f"{one.entry.cohort}/{one.entry.model}"] = count_part(one, part, progress)
    write_json({"part": text, "missing_blocks": missing}, json_to)
    if speaks(quiet, json_to):
        for name, places in missing.items():
            part_done(part, name, "counted", places, f"linkage audit {name}")
