"""Frozen features of a cohort into the store: in whole shards, so that a killed run goes on where it stood."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core import confirmed, shipped
from linkage_core.cohorts.base import LABELS, REJECT_COLUMNS, Cohort, rejects_table, text_key
from linkage_core.cohorts.dicomweb.cohort import LISTING, UNFINISHED
from linkage_core.cohorts.identifiers.check import Checked, check
from linkage_core.cohorts.labels.cohort import labels_note
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed.pipeline import Batch, Images, Reject, finite
from linkage_core.encoders.base import Encoder, Settling
from linkage_core.encoders.registry import load_encoder
from linkage_core.errors import BusyError, InputError, StoreError
from linkage_core.heads import Heads, identity
from linkage_core.images.notes import sentences
from linkage_core.parts import Part
from linkage_core.progress import Progress, silent
from linkage_core.store import files, whose
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store, folder_name, new_name

SHARD_ROWS = 1024
BATCH = 64

Stored = tuple[list[str], list[Reject]]
"""Names of shards, and the rejects among their rows."""


def embed(
    cohort: Cohort,
    encoder: Encoder,
    store: Store,
    *,
    dtype: str = "float32",
    store_text: bool = False,
    rebuild: bool = False,
    progress: Progress = silent,
    workers: int | None = None,
    replicas: Sequence[Encoder] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Entry:
    """Features of every image and every distinct report of a cohort, under `<cohort>/<model>` of the store.

    Images that cannot be read become rejects with their reason; the run goes on. Shards already there and made by the
    same recipe (cohort, weights, preprocessing, dtype) are kept, so a killed run resumes, and a finished one is not
    repeated unless `rebuild`; but where an image file has changed (its path, size or time), its shard is made again.
    Report text is stored only with `store_text`. Images are read by `workers` processes (default: one a core; 0:
    threads of this process, which a file that crashes its decoder then ends), and encoded beside that, on every one of
    `replicas` too: the same model on other devices (default: one on each further GPU). Neither number changes a bit of
    the result. `tell` is given a sentence for each kind of unusual image among those that this run read.

    Raises InputError if nothing is left to embed, StoreError if another run is writing the entry.
    """
    source = _source(cohort, encoder, store, dtype)
    with files.writing(source.path):
        work = _Work(source.path, source.recipe, encoder, dtype, rebuild, progress)
        texts, found, images = _both_towers(work, source, cohort, workers, replicas)
        text_shards, text_rejects = texts
        image_shards, image_rejects = found
        records, path, recipe = source.records, source.path, source.recipe
        reports, heads, described = source.reports, encoder.heads(), source.described
        if tell is not None:
            for sentence in sentences(images.noted, images.n_read):
                tell(sentence)
        rejects = text_rejects + image_rejects
        lost = {item for item, *_ in rejects}
        kept = records[~records["record_id"].isin(lost) & ~records["report_key"].isin(lost)]
        if kept.empty:
            raise InputError(
                f"None of the {len(records)} images of {cohort.name} could be embedded.",
                f"The first: {rejects[0][2]} {rejects[0][3]}",
            )
        truncated = encoder.truncated(list(reports["report"]))
        told = partial(progress, "identifiers")
        checked = None if cohort.synthetic else check(cohort, progress=told, workers=workers)
        return finish(
            path,
            kept,
            pd.concat([cohort.rejects[list(REJECT_COLUMNS)], rejects_table(rejects)], ignore_index=True),
            heads,
            shards=text_shards + image_shards,
            store_text=store_text,
            checked=checked,
            content={
                "recipe": recipe,
                "cohort": _cohort_note(cohort, records),
                "model": {"name": encoder.name, **described},
                "truncated_reports": {"distinct": len(reports), "truncated": truncated},
                "features": {
                    "dtype": dtype,
                    "unit_norm": False,
                    "image_dim": int(heads.image.weight.shape[1]),
                    "text_dim": int(heads.text.weight.shape[1]),
                    "image_batch": images.used,
                    **_precision(encoder),
                },
            },
        )


def embed_part(
    cohort: Cohort,
    encoder: Encoder,
    store: Store,
    part: Part | None,
    *,
    dtype: str = "float32",
    store_text: bool = False,
    rebuild: bool = False,
    progress: Progress = silent,
    workers: int | None = None,
    replicas: Sequence[Encoder] | None = None,
    tell: Callable[[str], None] | None = None,
) -> tuple[Entry | None, list[str]]:
    """One part of `embed`: its shards of either tower, beside other parts and in any order. Arguments as there.

    Whoever finds the shards of all parts there finishes the entry, bit for bit what `embed` alone makes of them:
    (the entry, []). Else (None, names of shards that are missing): none where another run is just finishing it.
    part: None makes no shard and finishes; StoreError that names what is missing, changed or damaged.
    """
    source = _source(cohort, encoder, store, dtype)
    if part is not None:
        with files.sharing(source.path):
            work = _Work(source.path, source.recipe, encoder, dtype, rebuild, progress, part)
            images = _both_towers(work, source, cohort, workers, replicas)[2]
        if tell is not None:
            for sentence in sentences(images.noted, images.n_read):
                tell(sentence)
    # only now, with nothing held: who is last to look sees all shards
    missing = [name for name in source.shards() if not (source.path / name).is_file()]
    if part is None:
        work = _Work(source.path, source.recipe, encoder, dtype, False, progress)
        missing += _unfit(work, source, cohort, missing)
        if missing:
            raise StoreError(
                f"{len(missing):,} of {len(source.shards()):,} shards of {cohort.name}/{encoder.name} are missing, "
                f"changed or damaged: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}.",
                "Run the parts that make them, or the same command without --part, which makes what is missing.",
            )
    elif missing:
        return None, missing
    try:
        how: dict[str, Any] = {"progress": progress, "workers": workers, "replicas": replicas}
        return embed(cohort, encoder, store, dtype=dtype, store_text=store_text, **how), []
    except BusyError:
        if part is None:
            raise
        return None, []


class Shards:
    """An engine's work: the shards of an entry, one of images and one of reports at a place (engine.Work)."""

    stage = "shards"

    def __init__(self, cohort: Cohort, encoder: Encoder, store: Store, dtype: str, rebuild: bool) -> None:
        self._source = _source(cohort, encoder, store, dtype)
        self._cohort, self._encoder = cohort, encoder
        self.dtype, self.rebuild = dtype, rebuild
        self.folder, self.key = self._source.path, self._source.recipe
        self.device = str(self._source.described.get("device", "cpu"))

    def missing(self) -> list[int]:
        names = self._source.shards()
        if not self.rebuild:
            absent = [name for name in names if not (self.folder / name).is_file()]
            work = _Work(self.folder, self.key, self._encoder, self.dtype, False, silent)
            names = absent + _unfit(work, self._source, self._cohort, absent)
        return shard_numbers(names)

    def make(self, place: int, cores: int) -> str:
        part = Part(place + 1, len(self._source.shards()))
        with files.sharing(self.folder):
            work = _Work(self.folder, self.key, self._encoder, self.dtype, self.rebuild, silent, part)
            alone = cores == 1 and self._cohort.is_drawn  # no process is worth it
            _both_towers(work, self._source, self._cohort, 0 if alone else cores, ())
        return f"{place:05d}"


def shards(
    kind: str,
    root: str | None,
    section: str,
    seed: int | None,
    drawn: dict[str, Any],
    name: str | None,
    model: str,
    device: str,
    store: str,
    dtype: str,
    rebuild: bool,
) -> Shards:
    """Shards as workers open them; arguments as of cohorts.registry.open_cohort, encoders.registry.load_encoder and
    `embed`, the cohort renamed to `name`."""
    found = open_cohort(kind, root, seed=seed, section=section, **drawn)
    found = replace(found, name=name) if name else found
    where = Store(Path(store))
    return Shards(found, load_encoder(model, store_root=where.root, device=device), where, dtype, rebuild)


def import_arrays(
    cohort: Cohort, model: str, images: np.ndarray, texts: np.ndarray, store: Store, *, store_text: bool = False
) -> Entry:
    """Anyone's embeddings: n rows of images and of texts, aligned with the n records of the cohort.

    They become features under identity heads. Rows of one study must carry the same text vector. A zero vector, NaN,
    another length or another dimension is an InputError that names the row.
    """
    path = _place(cohort, model, store)
    records = cohort.records
    for name, array in (("image", images), ("text", texts)):
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
            raise InputError(
                f"The {name} array has shape {array.shape} and type {array.dtype}.", "Give floats, one row a record."
            )
        if len(array) != len(records):
            raise InputError(
                f"The {name} array has {len(array)} rows, the record table {len(records)}.",
                "Rows are aligned: row i of the array belongs to row i of the table.",
            )
        kept = array.astype(np.float32)  # as they are stored: 1e-44 has no direction left there
        norms = np.linalg.norm(kept, axis=1)
        bad = np.flatnonzero(~np.isfinite(norms) | (norms < np.finfo(np.float32).tiny))
        if len(bad):
            raise InputError(
                f"The {name} array's row {bad[0]} (record {records['record_id'].iloc[bad[0]]}) is zero or holds NaN "
                f"or infinity, in single precision; {len(bad)} such rows.",
                "Leave these records out of the arrays and the table, or embed them again.",
            )
    if images.shape[1] != texts.shape[1]:
        raise InputError(
            f"Image vectors have {images.shape[1]} dimensions, text vectors {texts.shape[1]}.",
            "Cosine similarity needs both in one space.",
        )
    texts = texts.astype(np.float32)
    first = records.groupby("study_id", sort=False).ngroup().to_numpy()
    leader = np.unique(first, return_index=True)[1][first]
    differs = np.flatnonzero((texts != texts[leader]).any(axis=1))
    if len(differs):
        raise InputError(
            f"Study {records['study_id'].iloc[differs[0]]} has two different text vectors (rows {leader[differs[0]]} "
            f"and {differs[0]}).",
            "All images of a study share one report, and so one text vector.",
        )
    records = with_report_columns(records)
    # without text, or where equal texts come with unequal vectors, the vector itself says which reports are identical
    records["report_key"] = [hashlib.sha256(row.tobytes()).hexdigest()[:16] for row in np.ascontiguousarray(texts)]
    recipe = _digest([fingerprint(records), hashlib.sha256(images.tobytes() + texts.tobytes()).hexdigest()])
    with files.writing(path):
        shards = []
        unique = np.flatnonzero(~records["report_key"].duplicated())
        for tower, ids, values in (
            ("image", records["record_id"], images.astype(np.float32)),
            ("text", records["report_key"].iloc[unique], texts[unique]),
        ):
            name = f"features-{tower}-{recipe[:8]}-00000.safetensors"
            write_shard(path / name, recipe, list(ids), values, [])
            shards.append(name)
        return finish(
            path,
            records,
            cohort.rejects,
            Heads(identity(images.shape[1]), identity(images.shape[1])),
            shards=shards,
            store_text=store_text,
            checked=None if cohort.synthetic else check(cohort),
            content={
                "recipe": recipe,
                "cohort": _cohort_note(cohort, records),
                "model": {"name": model, "family": "imported"},
                "features": {
                    "dtype": "float32",
                    "unit_norm": False,
                    "image_dim": int(images.shape[1]),
                    "text_dim": int(images.shape[1]),
                },
            },
        )


def unfinished(root: Path, cohort: str, model: str) -> Path:
    """Where an entry that is being made keeps the listing of what an archive holds; `finish` gives it its name."""
    path = root / folder_name(cohort) / folder_name(model)
    shipped.refuse_to_write(path)
    return path / UNFINISHED


def with_report_columns(records: pd.DataFrame) -> pd.DataFrame:
    """The records with report_key and report_words beside each report."""
    distinct = records["report"].drop_duplicates()
    keys = dict(zip(distinct, map(text_key, distinct), strict=True))
    words = {report: len(report.split()) for report in distinct}
    return records.assign(
        report_key=records["report"].map(keys).astype("str"), report_words=records["report"].map(words).astype("int32")
    )


def fingerprint(records: pd.DataFrame) -> str:
    """sha256 of who is in a cohort: ids, splits, labels and reports, whatever the order of rows."""
    columns = ["record_id", "patient_id", "study_id", "split", *LABELS, "report_key"]
    table = records[columns].sort_values("record_id").to_csv(index=False)
    return hashlib.sha256(table.encode()).hexdigest()


def finish(
    path: Path,
    records: pd.DataFrame,
    rejects: pd.DataFrame,
    heads: Heads,
    *,
    shards: list[str],
    store_text: bool,
    content: dict[str, Any],
    checked: Checked | None = None,
) -> Entry:
    """Tables and heads beside the shards, and the manifest last. Heads trained since then stay.

    checked: what identifies in the cohort; the manifest gets its counts, identifiers.parquet whose records they are.
    """
    keep = {*shards, "records.parquet", "rejects.parquet", f"heads/{OFF_THE_SHELF}.safetensors"}
    files.write_heads(path / "heads" / f"{OFF_THE_SHELF}.safetensors", heads)
    files.write_table(path / "records.parquet", records.drop(columns="report").reset_index(drop=True))
    files.write_table(path / "rejects.parquet", rejects)
    reports = path / "reports.parquet"
    if store_text:
        files.write_table(reports, records.drop_duplicates("study_id")[["study_id", "report"]])
        keep.add("reports.parquet")
    else:
        reports.unlink(missing_ok=True)
    identifiers = path / "identifiers.parquet"
    if checked is None:
        identifiers.unlink(missing_ok=True)
    else:
        files.write_table(identifiers, checked.table())
        keep.add("identifiers.parquet")
        content = {**content, "identifiers": checked.summary()}
    keep |= {f"heads/{head.name}" for head in (path / "heads").glob("*.safetensors")}
    before = _manifest(path)
    keep |= _of_the_lab(path, before, content["recipe"])
    if site := {name: said for name, said in before.get("site", {}).items() if name in keep}:
        content = {**content, "site": site}
    if (path / UNFINISHED).is_file():
        (path / UNFINISHED).replace(path / LISTING)
    # the phantom's encoders live with what they embedded, and with a cohort of an archive what was found there
    keep |= {name for name in ("weights.safetensors", LISTING) if (path / name).is_file()}
    counts = {
        "images": len(records),
        "studies": int(records["study_id"].nunique()),
        "patients": int(records["patient_id"].nunique()),
        "rejects": len(rejects),
        "by_split": {
            split: {"images": len(rows), "studies": int(rows["study_id"].nunique())}
            for split, rows in records.groupby("split")
        },
    }
    files.write_manifest(path, {**content, "counts": counts, "text_stored": store_text, "keep": keep})
    return Store(path.parent.parent).open(path.parent.name, path.name)


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest that stands there; {} where none can be read."""
    try:
        before = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return before if isinstance(before, dict) else {}


def _of_the_lab(path: Path, before: dict[str, Any], recipe: str) -> set[str]:
    """Sums and tables of the mitigation lab, where the features they were made from are made again."""
    if before.get("recipe") != recipe:
        return set()
    return {name for name in before.get("files", {}) if name.startswith(("lab/", "sums-")) and (path / name).is_file()}


def _precision(encoder: Encoder) -> dict[str, Any]:
    """What the towers computed in, where there was a choice."""
    if not isinstance(encoder, Settling):
        return {}
    settled = {tower: precision for tower in ("image", "text") if (precision := encoder.settled(tower))}
    return {"precision": settled} if settled else {}


def _cohort_note(cohort: Cohort, records: pd.DataFrame) -> dict[str, Any]:
    return {
        "name": cohort.name,
        "kind": cohort.kind,
        "root": str(cohort.root.resolve()) if cohort.root else None,
        "synthetic": cohort.synthetic,
        "default_split": cohort.default_split,
        "options": cohort.options,
        "labels": labels_note(cohort),
        "fingerprint": fingerprint(records),
    }


@dataclass(frozen=True)
class _Source:
    """What an entry is made of: the records with their reports' keys, and where it will lie under which recipe."""

    path: Path
    recipe: str
    described: dict[str, Any]
    records: pd.DataFrame

    @cached_property
    def reports(self) -> pd.DataFrame:
        """The first record of each distinct report."""
        return self.records.drop_duplicates("report_key")

    def rows(self, tower: str) -> pd.DataFrame:
        """What a tower sees, named by `id`."""
        if tower == "text":
            return self.reports[["report_key", "report"]].rename(columns={"report_key": "id"})
        return self.records.rename(columns={"record_id": "id"})

    def shards(self) -> list[str]:
        return [name for tower in ("text", "image") for name in _cut(self.recipe, tower, self.rows(tower))]


def _place(cohort: Cohort, model: str, store: Store) -> Path:
    """Where the entry of a new or known name goes. Whoever writes it has named the folder of its images here."""
    path = store.root / folder_name(new_name(cohort.name)) / folder_name(new_name(model))
    whose.refuse_name(path.parent.name, synthetic=cohort.synthetic)
    if cohort.root:
        confirmed.confirm(cohort.root)
    return path


def _source(cohort: Cohort, encoder: Encoder, store: Store, dtype: str) -> _Source:
    if dtype not in ("float32", "float16"):
        raise InputError(f"dtype is {dtype!r}.", "It is float32 or float16.")
    records = with_report_columns(cohort.records)
    if records.empty:
        raise InputError(
            f"Cohort {cohort.name} has no image with a report.",
            f"{len(cohort.rejects)} rows were rejected: see `linkage cohort {cohort.kind} ...`.",
        )
    path = _place(cohort, encoder.name, store)
    described = encoder.describe()
    recipe = _digest({"cohort": fingerprint(records), "model": described, "dtype": dtype})
    return _Source(path, recipe, dict(described), records)


def _both_towers(
    work: _Work, source: _Source, cohort: Cohort, workers: int | None, replicas: Sequence[Encoder] | None
) -> tuple[Stored, Stored, Images]:
    """Text, then images: (their shards and rejects, twice; what read the images)."""
    texts = _shards(work, "text", source.rows("text"), partial(_text_batches, encoder=work.encoder))
    rows = source.rows("image")
    n_rows = sum(len(part) for part in work.share(_cut(source.recipe, "image", rows)).values())
    images = Images(cohort, work.encoder, n_rows, workers, replicas)
    return texts, _shards(work, "image", rows, images.batches, cohort.watched, images.batch), images


def _unfit(work: _Work, source: _Source, cohort: Cohort, missing: list[str]) -> list[str]:
    """Shards that are there and would be made again."""
    unfit: list[str] = []
    for tower, root in (("text", None), ("image", cohort.watched)):
        cut = _cut(source.recipe, tower, source.rows(tower))
        there = {name: rows for name, rows in cut.items() if name not in missing}
        kept = _kept(work, tower, there, root)
        unfit += [name for name in there if name not in kept]
    return unfit


def shard_numbers(names: Iterable[str]) -> list[int]:
    """Where shards stand among those of their tower, for Part.others."""
    return sorted({int(name.rsplit("-", 1)[1].removesuffix(".safetensors")) for name in names})


def _cut(recipe: str, tower: str, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows by the name of their shard."""
    return {
        f"features-{tower}-{recipe[:8]}-{number:05d}.safetensors": rows.iloc[start : start + SHARD_ROWS]
        for number, start in enumerate(range(0, len(rows), SHARD_ROWS))
    }


@dataclass(frozen=True)
class _Work:
    """Where the shards of an entry go, and how all of them are made; with a `part`, how its own are."""

    path: Path
    recipe: str
    encoder: Encoder
    dtype: str
    rebuild: bool
    progress: Progress
    part: Part | None = None

    def share(self, parts: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        return parts if self.part is None else {name: parts[name] for name in self.part.share(list(parts))}


def _shards(
    work: _Work,
    tower: str,
    rows: pd.DataFrame,
    embed_batches: Callable[[Iterator[pd.DataFrame]], Generator[Batch]],
    root: Path | None = None,
    batch: int = BATCH,
) -> Stored:
    """Write the rows in shards of SHARD_ROWS, keeping whole shards of the same recipe: their names, and rejects.

    With a `root`, a shard whose files have changed since they were read is made again. All shards are computed in one
    precision, that of those kept. The rows of all missing shards are one stream of batches, so nothing waits at the
    end of a shard.
    """
    path, recipe, progress = work.path, work.recipe, work.progress
    what = {"image": "images", "text": "reports"}[tower]
    parts = work.share(_cut(recipe, tower, rows))
    n_rows = sum(map(len, parts.values()))
    settling = work.encoder if isinstance(work.encoder, Settling) else None
    notes = _kept(work, tower, parts, root)
    stored: dict[str, list[Reject]] = {name: [tuple(row) for row in note["rejects"]] for name, note in notes.items()}
    done = sum(len(parts[name]) for name in stored)
    progress(what, done, n_rows)
    missing = {name: part for name, part in parts.items() if name not in stored}
    more: dict[str, dict[str, str]] = {name: {} for name in missing}  # what else the notes of these shards say

    def batches_of_rows() -> Iterator[pd.DataFrame]:
        for name, part in missing.items():
            if root:
                more[name]["files_sha256"] = files_digest(root, part["image"])  # before they are read
            yield from (part.iloc[low : low + batch] for low in range(0, len(part), batch))

    with closing(embed_batches(batches_of_rows())) as batches:
        for name, part in missing.items():
            ids: list[str] = []
            features: list[np.ndarray] = []
            lost: list[Reject] = []
            for low in range(0, len(part), batch):
                batch_ids, batch_features, batch_rejects = next(batches)
                ids += batch_ids
                features.append(batch_features)
                lost += batch_rejects
                progress(what, done + min(low + batch, len(part)), n_rows)
            if settling and (precision := settling.settled(tower)):
                more[name]["precision"] = precision
            values = np.concatenate([f for f in features if len(f)] or [np.empty((0, 1), np.float32)])
            write_shard(path / name, recipe, ids, values.astype(work.dtype), lost, more[name])
            stored[name] = lost
            done += len(part)
    return list(parts), [reject for name in parts for reject in stored[name]]


def _kept(work: _Work, tower: str, parts: dict[str, pd.DataFrame], root: Path | None) -> dict[str, dict[str, Any]]:
    """The notes of those shards that need not be made again, by name; the encoder settles on their precision."""
    path, recipe, progress = work.path, work.recipe, work.progress
    there = {} if work.rebuild else {name: _stored(path / name, recipe, part["id"]) for name, part in parts.items()}
    notes = {name: note for name, note in there.items() if note is not None}
    for name in there:
        if name not in notes and (path / name).exists():
            progress(f"made again, for it was altered: {path / name}", 0, 0)
    changed = {
        name
        for name, note in notes.items()
        if root and note.get("files_sha256", "") not in ("", files_digest(root, parts[name]["image"]))
    }
    _made_again(len(changed), "{} files have changed", progress)
    notes = {name: note for name, note in notes.items() if name not in changed}
    settling = work.encoder if isinstance(work.encoder, Settling) else None
    precision = next((note["precision"] for note in notes.values() if "precision" in note), None)
    if settling and work.part is not None:
        precision = _precision_of_others(path, tower, recipe) or precision
    if settling and precision:
        settling.settle(tower, precision)
        other = {name for name, note in notes.items() if note.get("precision", precision) != precision}
        _made_again(len(other), f"not computed in {precision}", progress)
        notes = {name: note for name, note in notes.items() if name not in other}
    return notes


def _precision_of_others(path: Path, tower: str, recipe: str) -> str | None:
    """What the first shard of a tower was computed in that any part has left."""
    for shard in sorted(path.glob(f"features-{tower}-{recipe[:8]}-*.safetensors")):
        with suppress(StoreError):
            note = files.read_note(shard)
            if note.get("recipe") == recipe and "precision" in note:
                return str(note["precision"])
    return None


def _made_again(shards: int, why: str, progress: Progress) -> None:
    if shards:
        many = shards > 1
        why = why.format("their" if many else "its")
        progress(f"{shards:,} shard{'s are' if many else ' is'} made again: {why}", 0, 0)


def files_digest(root: Path, images: Iterable[str]) -> str:
    """What stands in for the content of files that are too many to read again: sha256 over their paths below the root,
    sizes in bytes and times of change in whole seconds ("absent" where there is none)."""
    digest = hashlib.sha256()
    for image in images:
        state = "absent"
        if image:
            with suppress(OSError, ValueError):  # ValueError: a null byte in the name
                found = (root / image).stat()
                state = f"{found.st_size} {int(found.st_mtime)}"
        digest.update(f"{image}\0{state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def write_shard(
    path: Path,
    recipe: str,
    ids: list[str],
    features: np.ndarray,
    rejects: list[Reject],
    more: dict[str, str] | None = None,
) -> None:
    digest = hashlib.sha256(features.tobytes()).hexdigest()
    note = {"recipe": recipe, "ids": ids, "rejects": rejects, "sha256": digest, **(more or {})}
    files.write_tensors(path, {"features": features}, note)


def _stored(path: Path, recipe: str, ids: pd.Series) -> dict[str, Any] | None:
    """The note of a whole shard made earlier by this recipe for these rows, or None if it must be made."""
    if not path.is_file():
        return None
    try:
        tensors, note = files.read_tensors(path)
    except StoreError:
        return None
    if note.get("recipe") != recipe or "features" not in tensors:
        return None
    if note.get("sha256") != hashlib.sha256(tensors["features"].tobytes()).hexdigest():
        return None
    covered = set(note["ids"]) | {row[0] for row in note["rejects"]}
    return note if covered == set(ids) else None


def _text_batches(parts: Iterator[pd.DataFrame], encoder: Encoder) -> Generator[Batch]:
    for rows in parts:
        yield finite(list(rows["id"]), encoder.text_features(list(rows["report"])))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
