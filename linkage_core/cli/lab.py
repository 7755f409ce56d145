"""Commands of the mitigation lab: finetune, attack, utility and canary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    QuietOption,
    StoreOption,
    chosen_engine,
    part_done,
    parts_of,
    progress_bars,
    speaks,
    store_at,
    target_parts,
    whole_number,
    write_json,
)
from linkage_core.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from linkage_core.attacks.parts import Shared
    from linkage_core.store.entry import Entry

PROMISE: dict[str, Any] = {"rich_help_panel": "The promise"}
DEFAULT_MECHANISM = "Default: {linkage_core.mitigation.mechanisms.LABEL}."
USUAL_MECHANISM = f"{DEFAULT_MECHANISM} Without labels: {{linkage_core.mitigation.mechanisms.WITHOUT_LABELS}}."
TRAINING: dict[str, Any] = {"rich_help_panel": "Training"}


def finetune(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Whose heads.")],
    mechanism: Annotated[
        str | None,
        typer.Option("--mechanism", help=f"{{linkage_core.mitigation.mechanisms.MECHANISMS}}. {USUAL_MECHANISM}"),
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option("--epsilon", help="Above 0; inf for no noise, which is not private.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the head. Default: by mechanism and epsilon.")] = None,
    delta: Annotated[
        float | None, typer.Option("--delta", help="Default: 1e-6 or a tenth of 1/n, whichever is less.", **PROMISE)
    ] = None,
    allow_large_delta: Annotated[
        bool, typer.Option("--allow-large-delta", help="Take a delta of 1/n or more all the same.", **PROMISE)
    ] = False,
    public_size: Annotated[
        int | None,
        typer.Option(
            "--public-size",
            min=1,
            help="A number of patients (or pairs, by --unit) that may be public; delta, q and steps follow from it. "
            "Default: how many there are, rounded down to two digits (exact for synthetic cohorts).",
            **PROMISE,
        ),
    ] = None,
    unit: Annotated[str, typer.Option("--unit", help="patient or pair.", **PROMISE)] = "patient",
    findings: Annotated[
        str | None, typer.Option("--findings", help="The declared list, comma-separated. Default: all 14.", **WHICH)
    ] = None,
    public: Annotated[
        str | None,
        typer.Option(
            "--public",
            help="Public cohort of the store, for {linkage_core.mitigation.mechanisms.NEED_PUBLIC}.",
            **WHICH,
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="{linkage_core.mitigation.mechanisms.ENGINES} (pairs only).", **TRAINING)
    ] = "closed-form",
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            help="What {linkage_core.mitigation.mechanisms.SHADOWS} follow: any but a control.",
            **TRAINING,
        ),
    ] = None,
    q: Annotated[float | None, typer.Option("--q", help="Chance of each unit to be in a step.", **TRAINING)] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Private steps.", **TRAINING)] = None,
    clip: Annotated[float | None, typer.Option("--clip", help="Bound of one unit's gradient.", **TRAINING)] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Learning rate.", **TRAINING)] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=1, help="For truncate and moment-oneshot.", **TRAINING)
    ] = None,
    output_noise: Annotated[
        float | None,
        typer.Option(
            "--output-noise",
            help="Deviation in each coordinate, for output-noise. "
            "Default: {linkage_core.mitigation.mechanisms.OUTPUT_NOISE}.",
            **TRAINING,
        ),
    ] = None,
    reproducible: Annotated[
        bool,
        typer.Option("--reproducible", help="Keep the seed of the noise. Not private: for synthetic data.", **RANDOM),
    ] = False,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of a reproducible run.", **RANDOM)] = None,
    into: Annotated[
        str | None,
        typer.Option("--into", help="Cohorts that get the head, comma-separated. Default: the one named.", **OUTPUT),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a head of this name.", **OUTPUT)] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Finetune the two heads, with or without differential privacy, and keep them with their full record.

    For example:
        linkage finetune phantom/phantom-radiology --epsilon 1 --name mine
    """
    from linkage_core.cohorts.base import LABELS
    from linkage_core.mitigation import finetune as lab
    from linkage_core.mitigation import mechanisms
    from linkage_core.store.seen import same_weights

    where = store_at(store)
    entry = where.open(*target_parts(target))
    mechanism = mechanism or mechanisms.usual(entry)
    if seed is not None and not reproducible:
        raise InputError(f"--seed {seed} was given.", "A private run keeps no seed. Add --reproducible.")
    if reproducible and seed is None:
        seed = lab.new_seed()
    options = lab.Options(
        epsilon=_epsilon(epsilon, mechanism),
        delta=delta,
        allow_large_delta=allow_large_delta,
        public_size=public_size,
        unit=unit,
        findings=LABELS if findings is None else tuple(parts_of(findings, "--findings")),
        engine=engine,
        like=like,
        public=public,
        seed=seed,
        q=q,
        steps=steps,
        clip=clip,
        rate=rate,
        width=width,
        output_noise=mechanisms.OUTPUT_NOISE if output_noise is None else output_noise,
    )
    cohorts = [entry.cohort] if into is None else parts_of(into, "--into")
    goals = [where.open(cohort, entry.model) for cohort in cohorts]
    for goal in goals:
        same_weights(entry, goal)
        goal.refuse_taken(name or lab.default_name(mechanism, options), replace=replace)  # before the work, not after
    with progress_bars(quiet or json_to == "-") as progress:
        heads, record = lab.finetune(entry, mechanism, options, name=name or "", progress=progress)
        record |= lab.beside(record)
    paths = [goal.add_head(record["head"], heads, record, replace=replace).path for goal in goals]
    write_json(record, json_to)
    if speaks(quiet, json_to):
        taught = str((record.get("trained_on") or record.get("public") or {}).get("cohort", ""))
        told = bool(record["findings"] and taught) and entry.model in where.models(taught)
        _done(record, paths, where.open(taught, entry.model) if told else None)


def attack(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Whose embeddings are released.")],
    head: HeadOption = AS_IT_IS,
    release: Annotated[
        str, typer.Option("--release", help="What leaves: {linkage_core.attacks.held.RELEASES}.")
    ] = "embeddings-and-heads",
    known: Annotated[
        str, typer.Option("--known", help="m, own images whose release is known: numbers or all, comma-separated.")
    ] = "0,10,100,1000,5000,all",
    game: Annotated[str, typer.Option("--game", help="{linkage_core.attacks.asked.GAMES}.", **MORE)] = "image",
    knows: Annotated[
        str, typer.Option("--knows", help="Of the candidates: {linkage_core.attacks.asked.KNOWS}.", **MORE)
    ] = "nothing",
    pool_size: Annotated[
        str | None,
        typer.Option("--pool-size", help="Numbers or full, comma-separated. Default: 100,1000,10000.", **WHICH),
    ] = None,
    k: Annotated[str, typer.Option("--k", help="Numbers, comma-separated.", **WHICH)] = "1",
    source: Annotated[
        str | None,
        typer.Option("--source", help="Cohort with the head and the attacker's own split, if another.", **WHICH),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option("--noise", min=0, help="Output noise. Default: what the head's record says.", **RANDOM),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of known images, folds, noise and bootstrap.", **RANDOM)
    ] = 0,
    part: PartOption = None,
    engine: EngineOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Attackers who adapt: each one, the worst one before and after, and the ceiling that none can pass.

    The attackers: {linkage_core.attacks.attackers.ATTACKERS}.

    For example:
        linkage attack phantom/phantom-radiology --head label-dpsgd-eps1-seed0 --known 100
        linkage attack phantom/phantom-radiology --known all --game archive --knows sex-age
    """
    import pandas as pd

    from linkage_core import tables
    from linkage_core.attacks import games
    from linkage_core.attacks.asked import GAMES, KNOWS
    from linkage_core.attacks.attackers import ATTACKERS
    from linkage_core.attacks.beside import known_of
    from linkage_core.attacks.everyone import runs_of
    from linkage_core.attacks.held import RELEASES
    from linkage_core.engine import Job
    from linkage_core.store.seen import split_apart, usable, why_untested
    from linkage_core.validate import one_of

    shared = _shared(part, game, knows)
    by_engine = chosen_engine(engine, **{"--part": part is not None, f"--game {game}": game != "image"})
    one_of("game", game, GAMES)
    one_of("knows", knows, KNOWS)
    where = store_at(store)
    entry = where.open(*target_parts(target))
    other = where.open(source, entry.model) if source else None
    if other is None and (problem := why_untested(entry)):
        raise problem
    split = split_apart(entry, other)
    sizes = _sizes(entry, split, game, pool_size)
    ks = [whole_number(part, "--k") for part in parts_of(k, "--k")]
    if game == "archive" and ks != [1]:
        raise InputError(f"--k is {k}, and in an archive one report is named for each image.", "Leave --k out.")
    wanted = [_known(part) for part in parts_of(known, "--known")]
    usable(entry, other or entry, head, split)  # before the work, not after
    known_of(entry, knows, other)
    if by_engine is not None:
        shelf = {"store": str(where.root.absolute()), "cohort": entry.cohort, "model": entry.model, "source": source}
        given = {"head": head, "release": release, "known": wanted, "knows": knows, "noise": noise, "seed": seed}
        job = Job("linkage_core.attacks.everyone:attackers", shelf | given)
        with progress_bars(quiet or json_to == "-") as progress:
            by_engine.run(job.open(), job, progress)
    runs: dict[str, list[Any]] = {}
    for when, (name, sigma) in runs_of(head, noise).items():
        with progress_bars(quiet or json_to == "-") as progress:
            made: dict[str, Any] = {"knows": knows, "source": other, "noise": sigma, "progress": progress}
            if game == "archive":
                runs[when] = games.in_archives(entry, name, release, wanted, seed, sizes=sizes, **made)
            else:
                runs[when] = games.attacks_knowing(entry, name, release, wanted, seed, shared=shared, **made)
    if part is not None and _part_ends(shared, target, part, quiet, json_to):
        return
    last = runs.get("after", runs["before"])
    if game == "archive":
        rows = pd.concat([one.table() for one in last], ignore_index=True)
        worst = [{"when": when, **row} for when, found in runs.items() for row in games.worst_in_archives(found)]
        top = pd.DataFrame()
    else:
        rows, worst, top = _single(entry, head, release, runs, sizes, ks, other, noise, seed)
        rows = rows.assign(game=game, knows=knows)
        worst = [{**row, "game": game, "knows": knows} for row in worst]
    content = {
        "schema": 1,
        "provenance": {
            **_provenance(entry, other),
            "release": RELEASES[release],
            "game": GAMES[game],
            "knows": KNOWS[knows],
            "attackers": {one: ATTACKERS[one].says for one in dict.fromkeys(rows["attacker"])},
            "scope": "measured with the attackers listed; a better one may do better",
        },
        "rows": tables.rows(rows),
        "worst": tables.rows(pd.DataFrame(worst)),
        "ceiling": tables.rows(top),
    }
    write_json(content, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli import printing

        printing.attack(content, entry)
        _attack_next(target, head, game, knows)


def _shared(part: str | None, game: str, knows: str) -> Shared:
    """What --part says of the attackers."""
    from linkage_core.attacks.parts import Shared
    from linkage_core.parts import part_of

    if part is None:
        return Shared(knows=knows)
    if game != "image":
        raise InputError(f"--part and --game {game} were given.", "Only single images are attacked in parts.")
    which = part_of(part)
    return Shared(which, gather=which is None, knows=knows)


def _part_ends(shared: Shared, target: str, part: str, quiet: bool, json_to: str | None) -> bool:
    """Whether attackers are missing, and so there is nothing to show yet; with --part all an InputError says which."""
    if not shared.missing:
        return False
    if shared.part is None:
        more = ", ..." if len(shared.missing) > 5 else ""
        raise InputError(
            f"{len(shared.missing)} attackers of {target} are missing: {', '.join(shared.missing[:5])}{more}.",
            "Run the parts that make them, or the same command without --part, which makes what is missing.",
        )
    write_json({"part": part, "missing_attackers": shared.missing}, json_to)
    if speaks(quiet, json_to):
        part_done(shared.part, target, "attacked", shared.places, "")
    return True


def _sizes(entry: Entry, split: str, game: str, pool_size: str | None) -> list[Any]:
    """The N that are asked for; InputError for one that is too large for the game."""
    records = entry.records(split)
    largest = records["patient_id"].nunique() if game == "archive" else _largest(records)
    usual = (100, 1000) if game == "archive" else (100, 1000, 10_000)
    if pool_size is None:
        return [n for n in usual if n <= largest] or ["full"]
    parts = parts_of(pool_size, "--pool-size")
    sizes: list[Any] = [n if n == "full" else whole_number(n, "--pool-size") for n in parts]
    for n in sizes:
        if n != "full" and n > largest:
            what = (
                f"An archive of {n} images needs as many patients"
                if game == "archive"
                else f"A pool of {n} reports is larger than any image can fill"
            )
            raise InputError(f"{what}.", f"The largest possible N is {largest}.")
        if game == "archive" and n != "full" and n < 2:
            raise InputError(f"An archive of {n} leaves nothing to choose.", "Give 2 or more.")
    return sizes


def _single(
    entry: Entry,
    head: str,
    release: str,
    runs: dict[str, list[Any]],
    sizes: list[Any],
    ks: list[int],
    other: Entry | None,
    noise: float | None,
    seed: int,
) -> tuple[Any, list[dict[str, Any]], Any]:
    """(rows of every attacker, the worst before and after, the ceiling) in the game of single images."""
    import pandas as pd

    from linkage_core.attacks.attack import worst_of
    from linkage_core.release import ceiling

    rows = pd.concat([one.table(sizes, ks) for one in runs.get("after", runs["before"])], ignore_index=True)
    worst = [
        {"when": when, **worst_of(found, n, one, seed)} for when, found in runs.items() for n in sizes for one in ks
    ]
    if release == "raw-images":
        return rows, worst, pd.DataFrame()
    return rows, worst, ceiling.of_head(entry, head, sizes, ks, source=other, noise=noise, seed=seed)


def _attack_next(target: str, head: str, game: str, knows: str) -> None:
    """What else can be asked: the other game, or the same one with more known."""
    from linkage_core.cli.console import plain, say
    from linkage_core.store.entry import OFF_THE_SHELF

    chosen = "" if head == OFF_THE_SHELF else f" --head {head}"
    more = "--game archive" if game == "image" else "--game archive --knows sex-age"
    if game == "archive" and knows != "nothing":
        more = "--game image"
    say(plain(f"Next: linkage attack {target}{chosen} {more}"))


def utility(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Whose images are read.")],
    head: HeadOption = AS_IT_IS,
    source: Annotated[
        str | None, typer.Option("--source", help="Transfer: cohort with the head and the split that trains the probe.")
    ] = None,
    train_split: Annotated[
        str, typer.Option("--train-split", help="Split that trains the probe.", **WHICH)
    ] = "attacker",
    findings: Annotated[
        str | None, typer.Option("--findings", help="The declared list. Default: what the head's record says.")
    ] = None,
    missing: Annotated[
        str, typer.Option("--missing", help="A finding not mentioned is: negative, or left out.", **WHICH)
    ] = "negative",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of folds, noise and bootstrap.", **RANDOM)] = 0,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """What can still be read from the embeddings: probe and zero-shot AUROC by finding, before and after a head.

    For example:
        linkage utility phantom/phantom-radiology --head label-dpsgd-eps1-seed0
    """
    from linkage_core import tables
    from linkage_core.cohorts.labels.cohort import labels_line
    from linkage_core.utility import table as useful

    where = store_at(store)
    entry = where.open(*target_parts(target))
    other = where.open(source, entry.model) if source else None
    declared = None if findings is None else parts_of(findings, "--findings")
    rows = useful.utility_table(
        entry, head, source=other, train_split=train_split, declared=declared, missing=missing, seed=seed
    )
    content = {
        "schema": 1,
        "provenance": {
            **_provenance(entry, other),
            "measures": useful.MEASURES,
            "missing": missing,
            "labels": labels_line(entry.labels_note()),
        },
        "rows": tables.rows(rows),
    }
    write_json(content, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli import printing

        printing.utility(content, entry.synthetic)


def _largest(records: pd.DataFrame) -> int:
    """The largest N that an image can fill: its report and those of all other patients."""
    studies = records.drop_duplicates("study_id")
    return len(studies) - int(studies["patient_id"].value_counts().min()) + 1


def _known(part: str) -> Any:
    if part == "all" or part.isdecimal():
        return part if part == "all" else int(part)
    raise InputError(f"--known has {part!r}.", "Give whole numbers, or all.")


def _provenance(entry: Entry, source: Entry | None) -> dict[str, Any]:
    """What the numbers were made from."""
    from linkage_core.store.files import versions

    return {
        "cohort": {key: value for key, value in entry.manifest["cohort"].items() if key != "root"},
        "model": entry.manifest["model"],
        "source": source.cohort if source else entry.cohort,
        "interval": "95% percentile bootstrap over patients, stretched by Student's t of the patients in effect",
        "versions": versions(),
    }


def _epsilon(value: str | None, mechanism: str) -> float:

    from linkage_core.mitigation import mechanisms

    row = mechanisms.known(mechanism)
    if value is None:
        if row.epsilon is None:
            raise InputError(f"{mechanism} needs an epsilon.", "Give --epsilon, for example --epsilon 1.")
        return row.epsilon
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"--epsilon is {value!r}.", "Give a number above 0, or inf.") from error


def _done(record: dict[str, Any], paths: list[Path], labelled: Entry | None) -> None:
    """labelled: whose labels the head has learnt, if it has learnt any."""
    from linkage_core.cli.console import plain, say, strong
    from linkage_core.cohorts.labels.cohort import labels_line
    from linkage_core.store.seen import trained_words

    for path in paths:
        say(plain(f"Head {record['head']} written: {path / 'heads' / record['head']}.safetensors"))
    if record.get("sigma") is not None:
        say(
            plain(
                f"noise multiplier {record['sigma']:.4g}, q {record['q']:.4g}, {record['steps']} steps, clip "
                f"{record['clip']:.4g}, unit {record['unit']}, relation {record['relation']}; {record['delta_note']}"
            )
        )
    if "epsilons" in record:
        figures = ", ".join(f"{name.upper()} {value:.4g}" for name, value in record["epsilons"].items() if value)
        say(f"epsilon of this noise by each accountant: {figures}")
    say(strong("Guarantee:"), f"{plain(record['claim'])}.")
    if "scope" in record:
        say(f"It covers {plain(record['scope'])}.")
    if trained := trained_words(record):
        say(plain(f"Trained on {trained}. The exact numbers stay here: they are not in the head's file."))
    if labelled:
        say(plain(f"Labels: {labels_line(labelled.labels_note())}."))
    for one in record.get("cautions", ()):
        say(strong(plain(one)), "Trained all the same; this is said here alone.")
    first = paths[0]
    say(plain(f"Measure it: linkage audit {first.parent.name}/{first.name} --head {record['head']}"))


def whole(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Whose lab.")],
    public: Annotated[
        str | None,
        typer.Option(
            "--public", help="Public cohort of the store, seen by the same model, such as phantom-site-b: for releases."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Instant heads at three epsilons and their noise: minutes, not hours.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Heads that are measured at once; default: one a core.")
    ] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Heads of every mechanism, attacked and used, and with a public cohort every kind of release: for the pages.

    Minutes for hundreds of studies, hours for tens of thousands; --quick makes a few heads first, and the whole lab
    goes on from there. A run that was stopped goes on where it stood. Nothing of it leaves: heads and tables stay in
    the entry.

    For example:
        linkage lab mine/phantom-radiology --quick
        linkage lab mine/phantom-radiology --public phantom-site-b
    """
    from linkage_core.images.processes import default_workers
    from linkage_core.lab import frontier, measured, own

    entry = store_at(store, writes=True).open(*target_parts(target))
    with progress_bars(quiet or json_to == "-") as progress:
        entry = own.build(entry, public, quick=quick, processes=processes or default_workers(), progress=progress)
    made = {
        "entry": f"{entry.cohort}/{entry.model}",
        "heads": measured.linkage(entry)["head"].nunique(),
        "compared": len(frontier.options_of(entry)),
    }
    write_json(made, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli.console import plain, say

        say(plain(f"{made['heads']} heads of {made['entry']} measured, {made['compared']} options compared."))
        if not entry.labelled:
            say("Without labels there is no use to compare by: --labels from-text of embed and import reads them.")
        elif public is None and not quick:
            say("Releases are made from a public cohort: name one with --public to have them measured too.")
        if quick:
            say(plain(f"The whole lab: linkage lab {entry.cohort}/{entry.model}"))
        say(plain(f"Next: linkage app --store {entry.store.root}  (Mitigation, cohort {entry.cohort})"))


def canary(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Whose finetuning pairs are trained on.")],
    mechanism: Annotated[
        str | None,
        typer.Option("--mechanism", help=f"{{linkage_core.mitigation.canary_run.MECHANISMS}}. {DEFAULT_MECHANISM}"),
    ] = None,
    epsilon: Annotated[float, typer.Option("--epsilon", help="The epsilon that is claimed.")] = 1.0,
    delta: Annotated[float | None, typer.Option("--delta", help="As for finetune.", **PROMISE)] = None,
    canaries: Annotated[int, typer.Option("--canaries", min=1, help="Patients to plant, half of them used.")] = 1000,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Does the training leak more than its epsilon says? One run with planted patients gives a lower bound.

    Nothing is kept of the run. A bound above the claimed epsilon refutes the implementation; one below proves nothing.

    For example:
        linkage canary phantom/phantom-radiology --epsilon 1
    """
    from dataclasses import asdict

    from linkage_core.mitigation import accounting, canary_run, mechanisms, training

    mechanism = mechanism or mechanisms.LABEL
    pairs = training.training_pairs(store_at(store).open(*target_parts(target)))
    delta, _ = accounting.delta_for(len(set(pairs.patients)) + canaries, delta)
    with progress_bars(quiet or json_to == "-") as progress:
        found, run = canary_run.audit(
            mechanism,
            canary_run.Real(pairs.images, pairs.texts, pairs.labels, pairs.patients),
            canary_run.Design(epsilon, delta, canaries),
            progress=progress,
        )
    refuted = found.refutes(run.epsilon)
    said = {"mechanism": mechanism, "claimed": run.record(), **asdict(found), "refuted": refuted}
    write_json(said, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli.console import say, strong

        say(
            f"Claimed epsilon {run.epsilon:.3g} at delta {delta:.1g}. With {found.n_canaries:,} planted patients, "
            f"{found.n_right} of {found.n_guesses} guesses right: epsilon is at least {found.epsilon_low:.3g} with "
            f"confidence {found.level:.0%}."
        )
        say(
            strong("The claim is refuted: do not use this implementation.")
            if refuted
            else "The claim stands, which proves nothing: the bound is one-sided."
        )
