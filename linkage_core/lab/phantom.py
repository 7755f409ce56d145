"""Train the phantom's ladder of encoders and embed its cohorts: everything that ships, from one seed.

A rung is the same pair of towers trained on texts that say more or less about an image: what a layman sees, a textbook
legend, a short impression, the full report. Only the encoder-training patients are used; nobody else's images or
reports are touched before the embedding run.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from linkage_core.audit.study import study as audit_study
from linkage_core.cohorts.base import LABELS, Cohort
from linkage_core.cohorts.phantom import grammar, read
from linkage_core.cohorts.phantom.cohort import drawn
from linkage_core.cohorts.phantom.population import SEED, Draws, Study, studies_of_split
from linkage_core.embed import embedding
from linkage_core.embed.embedding import embed
from linkage_core.encoders.ladder import RECIPES, Level, train
from linkage_core.encoders.phantom import (
    MODELS,
    load_phantom,
    prepare,
    save_phantom,
    weights_path,
)
from linkage_core.errors import InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.lab import frontier_build, grid
from linkage_core.lab.frontier_build import Grid
from linkage_core.mitigation import oneshot
from linkage_core.mitigation.training import pairs_of
from linkage_core.progress import Progress, Steps, silent
from linkage_core.store import files
from linkage_core.store.entry import Entry, Store, folder_name
from linkage_core.validate import one_of

Draw = Callable[[list[str], str], np.ndarray]
"""(record ids, stage) -> their pixels."""

_CAPTION = 3  # purpose of the stream that writes captions; population uses 0, 1 and 2


def rung_text(study: Study, level: Level, seed: int) -> str:
    """The text that a rung is trained on for one study."""
    if level == "radiology":
        return grammar.report(study, seed).text
    return grammar.caption(
        study, level, Draws(seed, ord(study.site), study.patient, study.number, _CAPTION, ord(level[0]))
    )


# -------------------------------------------------------------------------------------------------------------- build

_SMALL = {"encoder": 120, "heldout": 40, "attacker": 15, "finetune": 15}  # patients, for a build that takes seconds


def build(
    store_root: Path,
    *,
    seed: int = SEED,
    progress: Progress = silent,
    models: Sequence[str] = MODELS,
    scale: Literal["full", "small"] = "full",
    splits: Sequence[str] = (),
    keep_models: bool = False,
    processes: int | None = None,
) -> list[Path]:
    """Train the ladder and embed the phantom: what `linkage phantom build` does.

    Without `splits`: trains `models`, writes their weights, embeds the held-out and attacker splits of site A and the
    held-out split of site B, and counts ranks; with `keep_models` it trains nothing. With `splits` (such as
    ("finetune",)): trains nothing; embeds those splits of site A with the models that are there, as the cohort
    `phantom-finetune` (the names of the splits joined by "-"), so that what ships stays untouched. `scale="small"`
    takes the same path with a handful of patients.

    Returns the paths written, one per model or entry. Raises InputError for an unknown model, scale or split.
    """
    unknown = [name for name in models if name not in MODELS]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not a phantom model.", f"They are: {', '.join(MODELS)}.")
    one_of("scale", scale, ("full", "small"))
    small = scale == "small"
    draw = partial(_draw_staged, seed, processes or multiprocessing.cpu_count(), progress)
    if splits:
        cohort = _cohort("A", tuple(splits), seed, small)
        apart = replace(cohort, name=f"phantom-{'-'.join(splits)}", default_split="all")
        return _embed_all(store_root, store_root, [apart], models, draw, progress)
    written = [] if keep_models else _train_ladder(store_root, models, seed, small, draw, progress)
    cohorts = [_cohort("A", ("heldout", "attacker"), seed, small), _cohort("B", ("heldout",), seed, small)]
    return written + _embed_all(store_root, store_root, cohorts, models, draw, progress)


LAB_MODEL = "phantom-radiology"
SAMPLE_PAIRS = 4_000
"""Of the finetuning split that ship, so that a head can be trained on a fresh copy of the repository."""


def build_lab(
    store_root: Path,
    *,
    seed: int = SEED,
    progress: Progress = silent,
    model: str = LAB_MODEL,
    scale: Literal["full", "small"] = "full",
    processes: int | None = None,
) -> Entry:
    """Heads, sums and tables of the mitigation lab for the phantom, and the frontier of heads and releases: what
    `linkage phantom build --lab` does.

    The models stay as they are. The finetuning split is taken from the store where all of it is there, else drawn and
    embedded aside; of it a sample of whole patients stays in the store, marked as such, and none of the grid's heads
    is trained on the sample. A killed run goes on with what it finished.
    """
    store, small = Store(store_root), scale == "small"
    at_once = 1 if small else processes or multiprocessing.cpu_count()
    draw = partial(_draw_staged, seed, processes or multiprocessing.cpu_count(), progress)
    with tempfile.TemporaryDirectory(prefix="linkage-") as scratch:
        name = "phantom-finetune"
        whole = model in store.models(name) and not store.open(name, model).manifest["cohort"].get("subset_of")
        if not whole:
            cohort = replace(_cohort("A", ("finetune",), seed, small), name=name, default_split="all")
            _embed_all(store_root, Path(scratch), [cohort], [model], draw, progress)
        source = (store if whole else Store(Path(scratch))).open(name, model)
        if not whole:
            sample(source, store, 20 if small else SAMPLE_PAIRS)
        training = pairs_of(source, "all")
        findings: tuple[str, ...] = LABELS
        plan = None
        if small:
            findings = tuple(name for name in LABELS if (source.records()[name] == 1).any())
            plan = [grid.planned(oneshot.LABEL, 1.0, findings=findings), grid.planned("rotation")]
        entry = grid.build(
            store,
            "phantom",
            model,
            externals=("phantom-site-b",),
            training=training,
            plan=plan,
            findings=findings,
            processes=at_once,
            progress=progress,
        )
        few = Grid(limits=(2,), lifts=(), epsilons=(1.0,), noises=(0.5,), seeds=(0,)) if small else Grid()
        public = store.open("phantom-site-b", model)
        return frontier_build.build(entry, public, training, grid=few, processes=at_once, progress=progress)


def sample(source: Entry, store: Store, n_pairs: int) -> Entry:
    """The first whole patients of an entry, up to n pairs, as an entry that says what it is a subset of."""
    records = source.records()
    total = records.groupby("patient_id", sort=False).size().cumsum()
    records = records[records["patient_id"].isin(total.index[total <= n_pairs])].reset_index(drop=True)
    manifest = source.manifest
    of = {"fingerprint": manifest["cohort"]["fingerprint"]}
    of |= {name: manifest["counts"][f"{name.removeprefix('n_')}"] for name in ("n_images", "n_patients")}
    recipe = hashlib.sha256(f"{manifest['recipe']} {n_pairs}".encode()).hexdigest()
    path = store.root / folder_name(source.cohort) / source.model
    with files.writing(path):
        shards = []
        for tower, ids in (("image", records["record_id"]), ("text", records["report_key"].drop_duplicates())):
            for number, start in enumerate(range(0, len(ids), embedding.SHARD_ROWS)):
                part = ids.iloc[start : start + embedding.SHARD_ROWS].tolist()
                shards.append(f"features-{tower}-{recipe[:8]}-{number:05d}.safetensors")
                embedding.write_shard(path / shards[-1], recipe, part, source.features(tower, part), [])
        return embedding.finish(
            path,
            records.assign(report=""),
            source.rejects().head(0),
            source.heads(),
            shards=shards,
            store_text=False,
            content={
                "recipe": recipe,
                "cohort": manifest["cohort"] | {"fingerprint": embedding.fingerprint(records), "subset_of": of},
                **{name: manifest[name] for name in ("model", "features")},
            },
        )


def _embed_all(
    weights_root: Path, store_root: Path, cohorts: list[Cohort], models: Sequence[str], draw: Draw, progress: Progress
) -> list[Path]:
    """Every image is drawn once, whatever the number of models. Ranks are counted where there are held-out records."""
    store, written = Store(store_root), []
    for cohort in cohorts:
        record_ids = cohort.records["record_id"].tolist()
        pixels = dict(zip(record_ids, draw(record_ids, f"{cohort.name}: drawing"), strict=True))
        ready = replace(cohort, read_image=partial(_kept_image, pixels))
        for name in models:
            encoder = load_phantom(name, weights_root)
            named = partial(_named, progress, f"{cohort.name}, {name}")
            entry = embed(ready, encoder, store, dtype="float16", progress=named, workers=0)  # all drawn already
            if cohort.default_split == "heldout":
                audit_study(entry)
            written.append(entry.path)
    return written


def _draw_staged(seed: int, processes: int, progress: Progress, record_ids: list[str], stage: str) -> np.ndarray:
    return draw_all(record_ids, seed, processes, partial(progress, stage))


def _named(progress: Progress, name: str, stage: str, done: int, total: int) -> None:
    progress(f"{name}: {stage}", done, total)


def _kept_image(pixels: dict[str, np.ndarray], row: Any) -> Radiograph:
    return Radiograph(pixels[str(row["record_id"])], bits=12)


def _cohort(site: Literal["A", "B"], splits: tuple[str, ...], seed: int, small: bool) -> Cohort:
    return read(site, splits, seed, patients=_SMALL[splits[0]] if small else None)


def draw_all(record_ids: list[str], seed: int, processes: int, progress: Steps) -> np.ndarray:
    """(n, EMBEDDED_SIZE, EMBEDDED_SIZE) uint16, drawn by several processes; the order is that of the ids."""
    images: list[np.ndarray] = []
    work = partial(drawn, seed=seed)
    if processes == 1 or len(record_ids) < 1000:
        with threadpool_limits(1):
            for record_id in record_ids:
                images.append(work(record_id))
                progress(len(images), len(record_ids))
        return np.stack(images)
    # Spawned, because a forked process may inherit a lock that torch's threads hold.
    apart = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=apart, initializer=_one_thread) as pool:
        for image in pool.map(work, record_ids, chunksize=128):
            images.append(image)
            progress(len(images), len(record_ids))
    return np.stack(images)


def _one_thread() -> None:
    """For a process that draws: the products of an image are small, and threads that wait for each other take the cores
    from the other processes. Of this module, so that numpy is loaded when its threads are limited."""
    threadpool_limits(1)


def _train_ladder(
    store_root: Path,
    models: Sequence[str],
    seed: int,
    small: bool,
    draw: Draw,
    progress: Progress,
) -> list[Path]:
    recipes = {name: RECIPES[name] for name in models}
    if small:
        recipes = {name: replace(r, patients=_SMALL["encoder"], epochs=1, batch=32) for name, r in recipes.items()}
    most = max(recipe.patients for recipe in recipes.values())
    studies = list(studies_of_split("A", "encoder", seed, most))
    record_ids = [study.record_id(view) for study in studies for view in study.views]
    pixels = draw(record_ids, "training images: drawing")
    images = np.stack([prepare(one) for one in pixels])
    written = []
    for name, recipe in recipes.items():
        last = studies[0].patient + recipe.patients
        texts = [
            text
            for study in studies
            if study.patient < last
            for text in [rung_text(study, recipe.level, seed)] * len(study.views)
        ]
        model, vocabulary = train(
            images[: len(texts)], texts, recipe, seed=seed, progress=progress, stage=f"{name}: training"
        )
        path = weights_path(name, store_root)
        save_phantom(path, name, model, vocabulary, {**asdict(recipe), "seed": seed, "pairs": len(texts)})
        written.append(path)
    return written
