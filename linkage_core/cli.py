"""`linkage ...`: everything the pages show, and everything that fills the store.

Standard output carries results; progress and messages go to standard error, so `--json -` gives JSON and nothing else.
Exit codes: 0 done, 1 finished with more rejects than --max-rejects, 2 usage or bad input.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from linkage_core import printing, shipped, spreadsheet
from linkage_core.errors import STOPPED, InputError, LinkageError
from linkage_core.printing import messages, output, plain
from linkage_core.store import Entry, Store
from linkage_core.validate import one_of

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


StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of the store. Default: ./cached_embeddings; where there is none yet, a command that only reads "
        "takes the phantom that comes along.",
        show_default=False,
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress and no tables, for scripts.")]
JsonOption = Annotated[
    str | None, typer.Option("--json", help="Write the result as JSON to this file; - is standard output.")
]
MaxRejectsOption = Annotated[
    int | None, typer.Option("--max-rejects", min=0, help="Exit with 1 if more than this many are rejected.")
]
KindArgument = Annotated[
    str,
    typer.Argument(
        help="folder, mimic-cxr, mimic-cxr-jpg, chexpert-plus, openi, covid-chestxray, phantom or phantom-site-b."
    ),
]
RootArgument = Annotated[Path | None, typer.Argument(help="Folder of the cohort; none for the phantom.")]
SectionOption = Annotated[
    str, typer.Option("--section", help="Part of the report: findings, impression, both or whole.")
]
SplitsOption = Annotated[
    Literal["seeded", "own"] | None,
    typer.Option(
        "--splits",
        help="Of MIMIC-CXR and CheXpert Plus: seeded (by patient, the default) or the dataset's own.",
        show_default=False,
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        "--labels",
        help="Of MIMIC-CXR: chexpert or negbio; of CheXpert Plus: impression_fixed, report_fixed or findings_fixed.",
        show_default=False,
    ),
]
ImageFolderOption = Annotated[
    str | None,
    typer.Option("--image-folder", help="Of CheXpert Plus: PNG, DICOM or another of its folders.", show_default=False),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", help="Of the patient-level split (default 0); of the phantom: of everything.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="Name of the cohort in the store.")]


_MORE: dict[str, Any] = {"rich_help_panel": "More questions"}


@dataclasses.dataclass
class _Global:
    """What came before the command."""

    store: Path | None = None
    quiet: bool = False


_before = _Global()


@app.callback()
def _frame(store: StoreOption = None, quiet: QuietOption = False) -> None:
    _before.store, _before.quiet = store, quiet


def _store(store: Path | None, *, writes: bool = False) -> Store:
    return Store(store or _before.store or shipped.default_store(writes=writes))


@app.command()
def doctor(store: StoreOption = None, quiet: QuietOption = False, json_to: JsonOption = None) -> None:
    """What this machine has: processor, GPU, decoders, models at hand, store, and what to do about what is missing."""
    from linkage_core.doctor import examine

    found = examine(_store(store).root)
    _write_json(found, json_to)
    if _speaks(quiet, json_to):
        printing.doctor(found)


@app.command()
def cohort(
    kind: KindArgument,
    root: RootArgument = None,
    section: SectionOption = "both",
    splits: SplitsOption = None,
    labels: LabelsOption = None,
    image_folder: ImageFolderOption = None,
    seed: SeedOption = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Open every image too.")] = True,
    rejects_to: Annotated[Path | None, typer.Option("--rejects", help="Write the rejects to this CSV.")] = None,
    max_rejects: MaxRejectsOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Read and check a cohort: images, studies, patients, views, labels, reports, rejects with reasons, splits."""
    from linkage_core.cohorts.registry import PHANTOM_SITES, open_cohort
    from linkage_core.cohorts.summary import summarise

    with _progress(quiet or json_to == "-") as progress:
        found = open_cohort(
            kind,
            root,
            seed=seed,
            section=section,
            **_given(splits=splits, labels=labels, images=image_folder),
            check_images=images and kind not in PHANTOM_SITES,  # drawn, so there is no file to be broken
            progress=lambda done, total: progress("images", done, total),
        )
    summary = summarise(found)
    _write_json(summary, json_to)
    if rejects_to:
        rejects_to.write_bytes(spreadsheet.csv(found.rejects))
    if _speaks(quiet, json_to):
        printing.cohort(summary)
        printing.rejects(found.rejects)
    _bound(len(found.rejects), max_rejects)


@app.command()
def embed(
    kind: KindArgument,
    root: RootArgument = None,
    model: Annotated[str, typer.Option("--model", help="See `linkage doctor` for names.")] = "",
    section: SectionOption = "both",
    splits: SplitsOption = None,
    labels: LabelsOption = None,
    image_folder: ImageFolderOption = None,
    seed: SeedOption = None,
    name: NameOption = None,
    dtype: Annotated[str, typer.Option("--dtype", help="float32, or float16 for half the disk.")] = "float32",
    store_text: Annotated[
        bool, typer.Option("--store-text", help="Keep report text in the store. Your data-use agreement may forbid it.")
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Make shards again that are already there.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that read images; default: one a core.")
    ] = None,
    max_rejects: MaxRejectsOption = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Frozen features of every image and report into the store. A run that was stopped goes on where it stood."""
    from linkage_core import audit as auditing
    from linkage_core.cohorts.registry import PHANTOM_SITES, open_cohort
    from linkage_core.embedding import embed as run
    from linkage_core.encoders.registry import load_encoder

    if not model:
        raise InputError("No model was named.", "Give --model, for example --model phantom-radiology.")
    # the phantom is drawn at any size; its own encoders see it at the size they were trained on
    drawn: dict[str, Any] = {"image_size": 256} if kind in PHANTOM_SITES and not model.startswith("phantom-") else {}
    drawn |= _given(splits=splits, labels=labels, images=image_folder)
    with _progress(quiet or json_to == "-") as progress:
        tell = partial(progress, "headers")
        found = open_cohort(kind, root, seed=seed, section=section, progress=tell, **drawn)
    if name:
        found = dataclasses.replace(found, name=name)
    where = _store(store, writes=True)
    encoder = load_encoder(model, store_root=where.root, device=device)
    with _progress(quiet or json_to == "-") as progress:
        entry = run(
            found,
            encoder,
            where,
            dtype=dtype,
            store_text=store_text,
            rebuild=rebuild,
            progress=progress,
            workers=workers,
        )
    auditing.study(entry)  # counted once now, so that the pages open at once
    rejects = entry.rejects()
    _entry_done(entry, rejects, quiet, json_to, from_files=found.root is not None)
    _bound(len(rejects), max_rejects)


@app.command("import")
def import_(
    target: Annotated[str, typer.Argument(metavar="COHORT/MODEL", help="Where it will stand in the store.")],
    image: Annotated[Path, typer.Option("--image", help="Image embeddings: .npy, .npz or Parquet, one row a record.")],
    text: Annotated[Path, typer.Option("--text", help="Text embeddings, aligned with the records too.")],
    records: Annotated[Path, typer.Option("--records", help="CSV or Parquet: record_id, patient_id, study_id, ...")],
    seed: SeedOption = None,
    store_text: Annotated[bool, typer.Option("--store-text", help="Keep the report column in the store.")] = False,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Audit your own embeddings: n rows of images and of texts, aligned with n records."""
    from linkage_core import audit as auditing
    from linkage_core.cohorts import table
    from linkage_core.embedding import import_arrays

    cohort_name, model = _target(target)
    found = table.read(records, cohort_name, seed or 0)
    entry = import_arrays(found, model, _array(image), _array(text), _store(store, writes=True), store_text=store_text)
    auditing.study(entry)
    _entry_done(entry, entry.rejects(), quiet, json_to)


@app.command()
def audit(
    target: Annotated[str, typer.Argument(metavar="COHORT[/MODEL]", help="Without a model: all of the cohort's.")],
    head: Annotated[str, typer.Option("--head", help="Name of the head.")] = "off-the-shelf",
    pool_size: Annotated[
        str | None, typer.Option("--pool-size", help="Numbers or full, comma-separated. Default: 100,1000,10000,full.")
    ] = None,
    k: Annotated[str, typer.Option("--k", help="Numbers, comma-separated.")] = "1,5,10",
    direction: Annotated[
        str, typer.Option("--direction", help="image-to-report or report-to-image.")
    ] = "image-to-report",
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool",
            help="Who else is in it: other-patients, all, same-text-counts or same-findings.",
            show_default="other-patients",
        ),
    ] = None,
    hard_negatives: Annotated[
        bool, typer.Option("--hard-negatives", help="Decoys of other patients with the same findings.")
    ] = False,
    strata: Annotated[
        str | None, typer.Option("--strata", help="With hard negatives: view, sex, age, length, comma-separated.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="heldout, attacker, finetune or all.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Paired differences between the models, with tests.", **_MORE)
    ] = False,
    open_world: Annotated[
        bool, typer.Option("--open-world", help="What if the right report may be missing from the pool?", **_MORE)
    ] = False,
    prior: Annotated[
        str, typer.Option("--prior", help="With it: how likely it is there, above 0 up to 1, comma-separated.", **_MORE)
    ] = "0.1,0.5,0.9",
    precision: Annotated[
        str, typer.Option("--precision", help="With it: how often an answer shall be right, 0 to 1.", **_MORE)
    ] = "0,0.5,0.8,0.9",
    rule: Annotated[
        str, typer.Option("--rule", help="With it: answer by top score, by its margin, or both.", **_MORE)
    ] = "score,margin",
    exposed: Annotated[
        bool, typer.Option("--exposure", help="The most exposed images, and what goes with it.", **_MORE)
    ] = False,
    fuse: Annotated[
        bool, typer.Option("--fusion", help="Several images or reports pooled, and other hits: every way.", **_MORE)
    ] = False,
    images_by: Annotated[
        Literal["study", "patient"] | None, typer.Option("--images-by", help="Or one way: pool images.", **_MORE)
    ] = None,
    reports_by: Annotated[
        Literal["patient"] | None, typer.Option("--reports-by", help="Or one way: pool reports.", **_MORE)
    ] = None,
    hit: Annotated[
        Literal["report", "text", "patient"] | None,
        typer.Option("--hit", help="Or one way: what is right; the own report, its text, its patient.", **_MORE),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", help="Reports of these cohorts in place of the cohort's own decoys.", **_MORE),
    ] = None,
    full: Annotated[
        Path | None,
        typer.Option(
            "--full", metavar="DIR", help="All of it, as Parquet, CSV and audit.json in a new folder.", **_MORE
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the bootstrap.")] = 0,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """How often is the right report among the first k of a pool of N? Exact in N, with intervals over patients."""
    from linkage_core import audit as auditing
    from linkage_core import full_audit

    where = _store(store)
    cohort_name, _, model = target.partition("/")
    models = [model] if model else where.required_models(cohort_name)
    if hard_negatives and pool not in (None, auditing.HARD_NEGATIVES):
        raise InputError(f"--hard-negatives and --pool {pool} contradict each other.", "Give one of them.")
    pool = auditing.HARD_NEGATIVES if hard_negatives else pool or "other-patients"
    alike = () if strata is None else tuple(_parts(strata, "--strata"))
    studies = [
        auditing.study(where.open(cohort_name, one), head, direction, pool, split, seed, alike) for one in models
    ]
    largest = min(study.largest_pool for study in studies)
    steps = (10, 100, 1000) if pool == auditing.HARD_NEGATIVES else (100, 1000, 10_000)
    if pool_size is None:
        sizes: list[int | Any] = [*[n for n in steps if n <= largest], "full"]
    else:
        sizes = [part if part == "full" else _whole(part, "--pool-size") for part in _parts(pool_size, "--pool-size")]
    ks = [_whole(part, "--k") for part in _parts(k, "--k")]
    if pool_size is None:
        ks = [one for one in ks if one <= largest] or ks
    one_way = (
        full_audit.Fused(images_by, reports_by, hit or "report", direction) if images_by or reports_by or hit else None
    )
    wanted: dict[str, Any] = {} if strata is None else {"strata": alike}
    made = full_audit.FullAudit(
        where,
        cohort_name,
        models,
        full_audit.Settings(
            head=head,
            split=split,
            pool_sizes=None if pool_size is None else tuple(sizes),
            ks=tuple(ks),
            rules=tuple(_parts(rule, "--rule")),
            priors=_shares(prior, "--prior"),
            wanted=_shares(precision, "--precision"),
            galleries=() if gallery is None else tuple(_parts(gallery, "--gallery")),
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
    }
    result = auditing.report(studies, sizes, ks)
    with _progress(quiet or json_to == "-") as progress:
        if full:
            full_audit.write(made, full, progress)
        tables = made.tables([name for name, wish in asked.items() if wish], progress)
    if tables or made.left_out:
        shown = {name: spreadsheet.rows(table) for name, table in tables.items() if name != "exposure"}
        result |= {"tables": shown, "left_out": made.left_out}
    _write_json(result, json_to)
    if _speaks(quiet, json_to):
        printing.audit(result, studies)
        printing.audit_tables(tables, made.left_out)
        if full:
            output.print(f"Every table, with what its columns mean: {full / 'audit.json'}")


@app.command()
def verify(
    target: Annotated[str | None, typer.Argument(metavar="[COHORT[/MODEL]]")] = None,
    store: StoreOption = None,
    quiet: QuietOption = False,
    json_to: JsonOption = None,
) -> None:
    """Is every file of the store what was written? Exit code 2 if one was cut short, altered or lost."""
    where = _store(store)
    cohort_name, _, model = (target or "").partition("/")
    cohorts = [cohort_name] if cohort_name else where.cohorts()
    entries = [where.open(c, m) for c in cohorts for m in ([model] if model else where.required_models(c))]
    findings = {f"{entry.cohort}/{entry.model}": entry.verify() for entry in entries}
    _write_json(findings, json_to)
    if _speaks(quiet, json_to):
        for name, found in findings.items():
            output.print(f"{name}: " + ("as written" if not found else f"{len(found)} damaged"))
    damaged = [finding for found in findings.values() for finding in found]
    if damaged:
        raise InputError(
            "\n".join(damaged), "Make the entry again (linkage embed ... --rebuild, linkage phantom build)."
        )


@app.command()
def pull(
    model: Annotated[
        str, typer.Argument(help="clip, pubmedclip, biomedclip, biovil-t, hf:ORG/NAME or open_clip:ORG/NAME.")
    ],
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Download a model into the user's own cache. The only command that opens a connection."""
    from linkage_core.encoders import hub

    found = hub.pull(model, None if quiet or _before.quiet else lambda line: messages.print(line))
    if _speaks(quiet, None):
        output.print(f"{model} is at hand: {found.folder}")


@phantom_app.command("build")
def phantom_build(
    seed: Annotated[int | None, typer.Option("--seed", help="Default: the seed of the shipped phantom.")] = None,
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
    scale: Annotated[str, typer.Option("--scale", help="full, or small for a trial of seconds.")] = "full",
    store: StoreOption = None,
    quiet: QuietOption = False,
) -> None:
    """Make the synthetic cohort again from its seed: train the four encoders, embed, count. About half an hour."""
    from linkage_core import phantom_build as building

    options: dict[str, Any] = {"scale": scale}
    if seed is not None:
        options["seed"] = seed
    if splits:
        options["splits"] = tuple(_parts(splits, "--splits"))
    if lab and splits:
        raise InputError("--lab and --splits were given.", "Give one of them.")
    with _progress(quiet) as progress:
        (building.build_lab if lab else building.build)(_store(store, writes=True).root, progress=progress, **options)
    if _speaks(quiet, None):
        output.print("Built. See it with: " + ("make app, page Mitigation" if lab else "linkage audit phantom"))


@phantom_app.command("export")
def phantom_export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    layout: Annotated[
        str,
        typer.Option(
            "--layout", help="folder (images and manifest.csv), mimic-cxr, mimic-cxr-jpg, chexpert-plus or openi."
        ),
    ] = "folder",
    studies: Annotated[int, typer.Option("--studies", min=1, help="How many.")] = 100,
    image_format: Annotated[
        Literal["png", "dicom"],
        typer.Option("--format", help="Of folder (png: 16 bit) and chexpert-plus (png: 8 bit): png or dicom."),
    ] = "png",
    size: Annotated[int, typer.Option("--size", min=32, max=2048, help="Pixels a side.")] = 512,
    site: Annotated[Literal["A", "B"], typer.Option("--site", help="A or B.")] = "A",
    seed: Annotated[int | None, typer.Option("--seed", help="Default: the seed of the shipped phantom.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Write synthetic radiographs and reports out as files that `linkage embed LAYOUT DIR` reads."""
    from itertools import islice

    from linkage_core.cohorts.phantom import export, layouts, population

    one_of("--layout", layout, ("folder", *layouts.LAYOUTS))
    used = population.SEED if seed is None else seed
    chosen = list(islice(population.studies_of_split(site, "heldout", used), studies))
    with _progress(quiet) as progress:
        if layout == "folder":
            written = export.export_folder(
                directory, chosen, image_format=image_format, size=size, seed=used, progress=progress
            )
        else:
            dicom = image_format == "dicom"
            written = layouts.export_layout(
                directory, layout, chosen, size=size, seed=used, dicom=dicom, progress=progress
            )
    if _speaks(quiet, None):
        output.print(f"{len(chosen)} studies: {written}")


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


def _speaks(quiet: bool, json_to: str | None) -> bool:
    return not (quiet or _before.quiet or json_to == "-")


def _given(**options: str | None) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _parts(value: str, option: str) -> list[str]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts:
        raise InputError(f"{option} is empty.", "Give values separated by commas.")
    return parts


def _whole(value: str, option: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise InputError(
            f"{option} has {value!r}.", "Give whole numbers, at least 1" + (", or full." if "pool" in option else ".")
        )
    return int(value)


def _shares(value: str, option: str) -> tuple[float, ...]:
    """Numbers between 0 and 1; the function that takes them says which ends are meant."""
    shares = []
    for part in _parts(value, option):
        try:
            shares.append(float(part))
        except ValueError:
            shares.append(float("nan"))
        if not 0 <= shares[-1] <= 1:
            raise InputError(f"{option} has {part!r}.", "Give numbers between 0 and 1, for example 0.5.")
    return tuple(shares)


def _target(target: str) -> tuple[str, str]:
    cohort_name, slash, model = target.partition("/")
    if not slash or not cohort_name or not model:
        raise InputError(f"{target!r} is no COHORT/MODEL.", "Give both, for example mine/my-model.")
    return cohort_name, model


def _array(path: Path) -> np.ndarray:
    """A matrix of floats from .npy, .npz (one array) or Parquet (all columns numbers). Never a pickle."""
    remedy = "Give a matrix of floats as .npy, .npz or Parquet."
    if not path.is_file():
        raise InputError(f"There is no file {path}.", remedy)
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path).to_numpy(np.float32)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            if len(loaded.files) != 1:
                raise InputError(f"{path} holds {len(loaded.files)} arrays.", "An .npz holds exactly one.")
            return np.asarray(loaded[loaded.files[0]])
    except (ValueError, TypeError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an array ({error}).", remedy) from error


def _write_json(content: Any, json_to: str | None) -> None:
    if json_to is None:
        return
    text = json.dumps(content, indent=1, allow_nan=False, default=str) + "\n"
    if json_to == "-":
        sys.stdout.write(text)
    else:
        Path(json_to).write_text(text, encoding="utf-8")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A callback (stage, done, total) drawn as bars on standard error; nothing where that is no terminal or quiet."""
    if quiet or _before.quiet:
        yield lambda stage, done, total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if not total:
                bars.console.print(plain(stage), soft_wrap=True)
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def _entry_done(
    entry: Entry, rejects: pd.DataFrame, quiet: bool, json_to: str | None, *, from_files: bool = False
) -> None:
    _write_json({"entry": f"{entry.cohort}/{entry.model}", **entry.manifest["counts"]}, json_to)
    if _speaks(quiet, json_to):
        counts = entry.manifest["counts"]
        output.print(
            f"{entry.cohort}/{entry.model}: {counts['images']:,} images of {counts['studies']:,} studies and "
            f"{counts['patients']:,} patients embedded, {len(rejects):,} rejected.",
            highlight=False,
        )
        printing.rejects(rejects)
        if from_files and len(rejects):
            output.print("Rejected files are read again when they change, or with --rebuild.")
        cut = entry.manifest.get("truncated_reports", {})
        if cut.get("truncated"):
            limit = entry.manifest["model"]["text_limit"]
            output.print(
                f"{cut['truncated']:,} of {cut['distinct']:,} distinct reports are longer than the model's "
                f"{limit} tokens and lost their end."
            )
        output.print(f"Next: linkage audit {entry.cohort}/{entry.model}")


def _bound(n_rejects: int, max_rejects: int | None) -> None:
    if max_rejects is not None and n_rejects > max_rejects:
        messages.print(f"{n_rejects} rejects, more than --max-rejects {max_rejects}.")
        raise typer.Exit(1)


from linkage_core import app_cli, lab_cli, study_cli  # noqa: E402  (their commands use the options defined above)

app_cli.register(app)
lab_cli.register(app)
study_cli.register(app)

from linkage_core import release_cli  # noqa: E402

release_cli.register(app)
