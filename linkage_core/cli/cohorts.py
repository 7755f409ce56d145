"""Commands about data: doctor, cohort, embed, import, verify, pull and the phantom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from linkage_core.cli.options import (
    HOW,
    MORE,
    RANDOM,
    WHICH,
    BodyPartOption,
    DatesOption,
    EngineOption,
    ImageFolderOption,
    JsonOption,
    KeepOption,
    KindArgument,
    LabelsOption,
    LoginOption,
    MaxRejectsOption,
    ModalityOption,
    NameOption,
    PartOption,
    QuietOption,
    RateOption,
    ReportsOption,
    SectionOption,
    SeedOption,
    SourceArgument,
    SplitsOption,
    StoreOption,
    StudiesOption,
    before_command,
    bound_rejects,
    chosen_engine,
    given_only,
    part_done,
    parts_of,
    progress_bars,
    speaks,
    store_at,
    target_parts,
    write_json,
)
from linkage_core.errors import InputError, StoreError

if TYPE_CHECKING:
    import pandas as pd

    from linkage_core.cohorts.base import Cohort
    from linkage_core.embed.embedding import Shards
    from linkage_core.engine import Engine
    from linkage_core.progress import Progress
    from linkage_core.store.entry import Entry

DRAWN: dict[str, Any] = {"rich_help_panel": "How they are drawn"}


def doctor(store: StoreOption = None, quiet: QuietOption = False, json_to: JsonOption = None) -> None:
    """What this machine has: processor, GPU, decoders, models at hand, store, and what to do about what is missing.

    For example:
        linkage doctor
    """
    from linkage_core.cli import printing
    from linkage_core.cli.doctor import examine

    found = examine(store_at(store).root)
    write_json(found, json_to)
    if speaks(quiet, json_to):
        printing.doctor(found)


def cohort(
    kind: KindArgument,
    root: SourceArgument = None,
    section: SectionOption = "both",
    splits: SplitsOption = None,
    labels: LabelsOption = None,
    image_folder: ImageFolderOption = None,
    seed: SeedOption = None,
    reports: ReportsOption = None,
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    dates: DatesOption = None,
    studies: StudiesOption = None,
    keep: KeepOption = None,
    rate: RateOption = None,
    login: LoginOption = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Open every image too.")] = True,
    ceilings: Annotated[
        bool,
        typer.Option("--ceilings", help="What nobody passes who knows the reports' text or findings.", **MORE),
    ] = False,
    rejects_to: Annotated[Path | None, typer.Option("--rejects", help="Write the rejects to this CSV.")] = None,
    max_rejects: MaxRejectsOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Read and check a cohort: images, studies, patients, views, labels, reports, rejects with reasons, splits.

    For example:
        linkage cohort folder my-folder --rejects rejects.csv
        linkage cohort mimic-cxr-jpg /data/mimic-cxr-jpg --no-images
        linkage cohort padchest /data/padchest --no-images --ceilings
    """
    from linkage_core import confirmed, disk, tables
    from linkage_core.cli import printing
    from linkage_core.cohorts.registry import PHANTOM_SITES, open_cohort
    from linkage_core.cohorts.summary import summarise

    with progress_bars(quiet or json_to == "-") as progress:
        found = open_cohort(
            kind,
            root,
            seed=seed,
            section=section,
            **given_only(splits=splits, labels=labels, images=image_folder),
            **given_only(reports=reports, modality=modality, body_part=body_part, dates=dates, studies=studies),
            **given_only(keep=keep, rate=rate, login=login),
            check_images=images and kind not in PHANTOM_SITES,  # drawn, so there is no file to be broken
            progress=lambda done, total: progress("images", done, total),
        )
    if found.root:
        confirmed.confirm(found.root)
    summary = summarise(found)
    if ceilings:
        from linkage_core.audit import ceilings as by_reports

        with progress_bars(quiet or json_to == "-") as progress:
            limits, left_out = by_reports.of_cohort(found.records, progress=progress)
        summary |= {"ceilings": {"rows": tables.rows(limits), "left_out": left_out}}
    write_json(summary, json_to)
    if rejects_to:
        disk.write_whole(rejects_to, tables.csv(found.rejects))
    if speaks(quiet, json_to):
        printing.cohort(summary)
        if ceilings:
            printing.audit_tables({"ceilings": limits}, {f"ceilings of {name}": why for name, why in left_out.items()})
        printing.rejects(found.rejects)
    bound_rejects(len(found.rejects), max_rejects)


def embed(
    kind: KindArgument,
    root: SourceArgument = None,
    model: Annotated[str, typer.Option("--model", help="See `linkage doctor` for names.")] = "",
    section: SectionOption = "both",
    splits: SplitsOption = None,
    labels: LabelsOption = None,
    image_folder: ImageFolderOption = None,
    seed: SeedOption = None,
    reports: ReportsOption = None,
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    dates: DatesOption = None,
    studies: StudiesOption = None,
    keep: KeepOption = None,
    rate: RateOption = None,
    login: LoginOption = None,
    name: NameOption = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, or float16 for half the disk.", **HOW)] = "float32",
    store_text: Annotated[
        bool,
        typer.Option(
            "--store-text", help="Keep report text in the store. Your data-use agreement may forbid it.", **HOW
        ),
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make shards again that are already there.", **HOW)
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.", **HOW)] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that read images; default: one a core.", **HOW)
    ] = None,
    part: PartOption = None,
    engine: EngineOption = None,
    max_rejects: MaxRejectsOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Frozen features of every image and report into the store. A run that was stopped goes on where it stood.

    For example:
        linkage embed folder my-folder --model phantom-radiology
        linkage embed mimic-cxr-jpg /data/mimic-cxr-jpg --model clip --section impression
    """
    import dataclasses
    from functools import partial

    from linkage_core.cli import printing
    from linkage_core.cohorts.registry import PHANTOM_SITES, WEB_KINDS, open_cohort
    from linkage_core.embed.embedding import Shards, embed_part, shard_numbers, unfinished
    from linkage_core.embed.embedding import embed as run
    from linkage_core.encoders.registry import load_encoder
    from linkage_core.parts import part_of

    which = None if part is None else part_of(part)  # before the cohort is read
    web = kind in WEB_KINDS
    by_engine = chosen_engine(engine, **{"--part": part is not None, "--workers": workers is not None, kind: web})
    if not model:
        raise InputError("No model was named.", "Give --model, for example --model phantom-radiology.")
    # the phantom is drawn at any size; its own encoders see it at the size they were trained on
    drawn: dict[str, Any] = {"image_size": 256} if kind in PHANTOM_SITES and not model.startswith("phantom-") else {}
    drawn |= given_only(splits=splits, labels=labels, images=image_folder)
    drawn |= given_only(reports=reports, modality=modality, body_part=body_part, dates=dates, studies=studies)
    drawn |= given_only(keep=keep, rate=rate, login=login)
    where = store_at(store, writes=True)
    encoder = None
    if web:  # what was found is kept in the entry, so that a run that was stopped asks no more
        encoder = load_encoder(model, store_root=where.root, device=device)
        drawn["listed"] = unfinished(where.root, name or kind, encoder.name)
    with progress_bars(quiet or json_to == "-") as progress:
        tell = partial(progress, "headers")
        found = open_cohort(kind, root, seed=seed, section=section, progress=tell, **drawn)
    if name:
        found = dataclasses.replace(found, name=name)
    encoder = encoder or load_encoder(model, store_root=where.root, device=device)
    notes: list[str] = []
    how: dict[str, Any] = {"dtype": dtype, "store_text": store_text, "rebuild": rebuild, "workers": workers}
    with progress_bars(quiet or json_to == "-") as progress:
        how |= {"progress": progress, "tell": notes.append}
        if by_engine is not None:
            source = {"kind": kind, "root": root and str(Path(root).absolute()), "section": section, "seed": seed}
            named = {"name": name, "model": model, "drawn": drawn}
            _by_engine(by_engine, Shards(found, encoder, where, dtype, rebuild), source | named, progress)
            how["rebuild"] = False  # it is done
        if part is not None:
            made, missing = embed_part(found, encoder, where, which, **how)
        else:
            entry = run(found, encoder, where, **how)
    if speaks(quiet, json_to):
        printing.notes(notes)
    if part is not None:
        target = f"{found.name}/{encoder.name}"
        write_json({"entry": target, "part": part, "missing_shards": missing}, json_to)
        if speaks(quiet, json_to):
            part_done(which, target, "embedded", shard_numbers(missing), f"linkage audit {target}")
        bound_rejects(len(made.rejects()) if made else 0, max_rejects)
        return
    _count(entry)
    rejects = entry.rejects()
    _entry_done(found, entry, rejects, quiet, json_to)
    bound_rejects(len(rejects), max_rejects)


def _by_engine(engine: Engine, shards: Shards, source: dict[str, Any], progress: Progress) -> None:
    """Have the shards made that are missing; the run after that finds them in the store."""
    from linkage_core.engine import Job

    store = str(shards.folder.absolute().parents[1])
    # workers compute as this process would: what a model is on is part of what its features are made from
    options = {**source, "device": shards.device, "store": store, "dtype": shards.dtype, "rebuild": shards.rebuild}
    engine.run(shards, Job("linkage_core.embed.embedding:shards", options), progress)


def import_(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Where it will stand in the store.")],
    image: Annotated[Path, typer.Option("--image", help="Image embeddings: .npy, .npz, .safetensors or Parquet.")],
    text: Annotated[Path, typer.Option("--text", help="Text embeddings, aligned with the records too.")],
    records: Annotated[Path, typer.Option("--records", help="CSV or Parquet: record_id, patient_id, study_id, ...")],
    splits: SplitsOption = None,
    seed: SeedOption = None,
    labels: Annotated[
        Literal["from-text"] | None,
        typer.Option(
            "--labels",
            help="from-text: rules read them from English reports that have none of their own.",
            show_default=False,
            **WHICH,
        ),
    ] = None,
    store_text: Annotated[
        bool, typer.Option("--store-text", help="Keep the report column in the store.", **HOW)
    ] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Audit your own embeddings: n rows of images and of texts, aligned with n records.

    For example:
        linkage import mine/my-model --image image.npy --text text.npy --records records.csv
    """
    from linkage_core.cohorts import table
    from linkage_core.cohorts.labels.cohort import with_text_labels
    from linkage_core.embed.arrays import read_pair
    from linkage_core.embed.embedding import import_arrays

    cohort_name, model = target_parts(target)
    found = table.read(records, cohort_name, seed or 0, **given_only(splits=splits))
    if labels:
        found = with_text_labels(found)
    images, texts, notes = read_pair(image, text, list(found.records["record_id"]))
    entry = import_arrays(found, model, images, texts, store_at(store, writes=True), store_text=store_text)
    _count(entry)
    for note in notes:
        found.understood.note(note)
    _entry_done(found, entry, entry.rejects(), quiet, json_to)


def verify(
    target: Annotated[str | None, typer.Argument(metavar="[COHORT[/MODEL]]")] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Is every file of the store what was written? Exit code 2 if one was cut short, altered or lost.

    What killed runs have left is named too; it is never read, and the next run that writes there removes it.

    For example:
        linkage verify phantom
    """
    from linkage_core.cli.console import plain, say

    where = store_at(store)
    if not where.root.is_dir():
        raise InputError(f"There is no store at {where.root}.", "Give the folder that holds it: --store DIR")
    cohort_name, _, model = (target or "").partition("/")
    unfinished = [] if model else where.unfinished(cohort_name or "*")
    cohorts = [cohort_name] if cohort_name and not unfinished else where.cohorts()
    cohorts = [one for one in cohorts if cohort_name in ("", one)]
    if not cohorts and not unfinished:
        raise InputError(f"The store {where.root} is empty: there is nothing to verify.", "Is it the right folder?")
    findings: dict[str, list[str]] = {}
    left: list[str] = []
    for one in cohorts:
        for name in [model] if model else where.required_models(one):
            try:
                entry = where.open(one, name)
            except StoreError as error:
                if model:
                    raise
                findings[f"{one}/{name}"] = [error.what]
                continue
            findings[f"{entry.cohort}/{entry.model}"] = entry.verify()
            left += entry.leftovers()
    if unfinished:
        findings["without a manifest"] = unfinished
    write_json(findings, json_to)
    if speaks(quiet, json_to):
        for shown, found in findings.items():
            say(f"{plain(shown)}: " + ("as written" if not found else f"{len(found)} damaged"))
        for one in left:
            say(plain(one))
    damaged = [finding for found in findings.values() for finding in found]
    if damaged:
        raise InputError(
            "\n".join(damaged), "Make the entry again (linkage embed ... --rebuild, linkage phantom build)."
        )


def pull(
    model: Annotated[
        str, typer.Argument(help="{linkage_core.encoders.hub.PUBLISHED}, hf:ORG/NAME or open_clip:ORG/NAME.")
    ],
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Download a model into the user's own cache. Only this, bundle and a dicomweb cohort open a connection.

    For example:
        linkage pull clip
    """
    from linkage_core.cli.console import note, say
    from linkage_core.encoders import pull as encoders_pull

    found = encoders_pull.pull(model, None if quiet or before_command.quiet else note)
    if speaks(quiet, None):
        say(f"{model} is at hand: {found.folder}")


def phantom_build(
    seed: Annotated[
        int | None, typer.Option("--seed", help="Default: the seed of the shipped phantom.", **RANDOM)
    ] = None,
    splits: Annotated[
        str | None, typer.Option("--splits", help="finetune: embed that split with the models as they are.")
    ] = None,
    lab: Annotated[
        bool,
        typer.Option(
            "--lab",
            help="The mitigation lab of phantom-radiology instead, with the models as they are: heads of every "
            "mechanism on the finetuning split, attacked and used. About an hour; a killed run goes on.",
        ),
    ] = False,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Embed and count again with the four encoders as they are.", **HOW)
    ] = False,
    scale: Annotated[str, typer.Option("--scale", help="full, or small for a trial of seconds.")] = "full",
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Make the synthetic cohort again from its seed: train the four encoders, embed, count. About half an hour.

    For example:
        linkage phantom build --scale small --store trial
    """
    from linkage_core.cli.console import say
    from linkage_core.lab import phantom as building

    options: dict[str, Any] = {"scale": scale}
    if seed is not None:
        options["seed"] = seed
    if splits:
        options["splits"] = tuple(parts_of(splits, "--splits"))
    if (lab and splits) or (keep_models and (lab or splits)):
        raise InputError("--lab, --splits and --keep-models exclude each other.", "Give one of them.")
    if keep_models:
        options["keep_models"] = True
    with progress_bars(quiet) as progress:
        (building.build_lab if lab else building.build)(store_at(store, writes=True).root, progress=progress, **options)
    if speaks(quiet, None):
        say("Built. See it with: " + ("make app, page Mitigation" if lab else "linkage audit phantom"))


def phantom_export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="folder (images and manifest.csv), hospital (DICOM, with reports as CSV, FHIR and SR), "
            "{linkage_core.cohorts.phantom.layouts.LAYOUTS}.",
        ),
    ] = "folder",
    studies: Annotated[int, typer.Option("--studies", min=1, help="How many.")] = 100,
    image_format: Annotated[
        Literal["png", "dicom"],
        typer.Option("--format", help="Of folder (png: 16 bit) and chexpert-plus (png: 8 bit): png or dicom."),
    ] = "png",
    size: Annotated[int, typer.Option("--size", min=32, max=2048, help="Pixels a side.", **DRAWN)] = 512,
    site: Annotated[Literal["A", "B"], typer.Option("--site", help="A or B.", **DRAWN)] = "A",
    seed: Annotated[
        int | None, typer.Option("--seed", help="Default: the seed of the shipped phantom.", **DRAWN)
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Write synthetic radiographs and reports out as files that `linkage embed LAYOUT DIR` reads.

    For example:
        linkage phantom export my-exercise --studies 200 --format dicom
    """
    from itertools import islice

    from linkage_core.cli.console import say
    from linkage_core.cohorts.phantom import export, hospital, layouts, population
    from linkage_core.validate import one_of

    one_of("--layout", layout, ("folder", hospital.LAYOUT, *layouts.LAYOUTS))
    used = population.SEED if seed is None else seed
    chosen = list(islice(population.studies_of_split(site, "heldout", used), studies))
    with progress_bars(quiet) as progress:
        if layout == "folder":
            written = export.export_folder(
                directory, chosen, image_format=image_format, size=size, seed=used, progress=progress
            )
        elif layout == hospital.LAYOUT:
            written = hospital.export_hospital(directory, chosen, size=size, seed=used, progress=progress)
        else:
            dicom = image_format == "dicom"
            written = layouts.export_layout(
                directory, layout, chosen, size=size, seed=used, dicom=dicom, progress=progress
            )
    if speaks(quiet, None):
        say(f"{len(chosen)} studies: {written}")


def _count(entry: Entry) -> None:
    """Once now, so that the pages open at once; why it cannot be is said where it is asked for."""
    from contextlib import suppress

    from linkage_core.audit import study as auditing

    with suppress(InputError):
        auditing.study(entry)


def _entry_done(found: Cohort, entry: Entry, rejects: pd.DataFrame, quiet: bool, json_to: str | None) -> None:
    from linkage_core.cohorts.summary import summarise

    summary = summarise(found)
    counts = entry.manifest["counts"]
    write_json({"entry": f"{entry.cohort}/{entry.model}", **counts, "notes": summary["notes"]}, json_to)
    if speaks(quiet, json_to):
        from linkage_core.cli import printing
        from linkage_core.cli.console import say
        from linkage_core.cohorts.identifiers import words as identifiers
        from linkage_core.cohorts.labels.cohort import labels_line

        printing.as_read(summary)
        printing.notes(summary["notes"])
        say(
            f"{entry.cohort}/{entry.model}: {counts['images']:,} images of {counts['studies']:,} studies and "
            f"{counts['patients']:,} patients embedded, {len(rejects):,} rejected.",
            highlight=False,
        )
        say(f"Labels: {labels_line(entry.labels_note())}.", highlight=False)
        for line in identifiers.lines_of(entry.manifest):
            say(printing.plain(line), soft_wrap=True, highlight=False)
        printing.rejects(rejects)
        printing.splits(entry)
        if found.root is not None and len(rejects):
            say("Rejected files are read again when they change, or with --rebuild.")
        cut = entry.manifest.get("truncated_reports", {})
        if cut.get("truncated"):
            limit = entry.manifest["model"]["text_limit"]
            say(
                f"{cut['truncated']:,} of {cut['distinct']:,} distinct reports are longer than the model's "
                f"{limit} tokens and lost their end."
            )
        say(f"Next: linkage audit {entry.cohort}/{entry.model}")
