"""Every table of an audit, tidy, and the folder that `linkage audit --full` writes them into.

The pages show the same tables: each is made by the function that a page calls for it, so a figure on screen is a row
here. A table whose question a cohort cannot answer (no labels, one model) is left out, and the reason is kept.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from linkage_core.audit import ceilings, compare, exposure, fusion, open_world, strata
from linkage_core.audit import study as audit
from linkage_core.audit.ceilings import ROUND
from linkage_core.audit.columns import COLUMNS
from linkage_core.audit.outcomes import WANTED
from linkage_core.audit.study import HARD_NEGATIVES, PoolSize, Study
from linkage_core.cohorts.registry import source_for
from linkage_core.errors import InputError
from linkage_core.progress import Progress, silent
from linkage_core.ranking import pools
from linkage_core.store.entry import OFF_THE_SHELF, Entry, Store
from linkage_core.tables import csv

SCHEMA = 1
PRIORS = (0.1, 0.5, 0.9)
LONGEST_CSV = 100_000
"""Rows beyond which a table is written as Parquet only."""

TABLES = {
    "recall": "How often is the right report among the first k of a pool of N, in either direction and kind of pool?",
    "models_compared": "Is one model linked more than another, on the same images?",
    "label_matched_auc": "How often does the match beat a decoy with the same findings?",
    "strata_sizes": "How large are the groups of reports with the same findings?",
    "strata_left_out": "How many images have too few such decoys for a pool of N?",
    "strata_balance": "In what do the match and its decoys still differ?",
    "open_world_curve": "The match may be missing: what does each decision threshold link rightly and wrongly?",
    "open_world_operating": "How many images can an attacker link who wants to be right so often?",
    "exposure": "How easily is each single image linked?",
    "exposure_tail": "How much more exposed are the most exposed than the middle one?",
    "exposure_associations": "What goes with exposure?",
    "exposure_groups": "Are some groups linked more than others?",
    "fusion": "What if several images or reports are pooled, or less counts as a hit?",
    "sites": "What if the other reports come from another hospital?",
    "ceilings": "What does nobody pass who knows the text, the findings, sex and age of the right report alone?",
}
SECTIONS = {
    "recall": ("recall",),
    "models": ("models_compared",),
    "decoys": ("label_matched_auc", "strata_sizes", "strata_left_out", "strata_balance"),
    "open world": ("open_world_curve", "open_world_operating"),
    "exposure": ("exposure", "exposure_tail", "exposure_associations", "exposure_groups"),
    "fusion": ("fusion",),
    "sites": ("sites",),
    "ceilings": ("ceilings",),
}
"""What is computed together: name -> its tables."""


@dataclass(frozen=True)
class Fused:
    """What is pooled into a query and a candidate, and what counts as a hit: as fusion.fused_counts takes them."""

    images_by: fusion.ImagesBy = None
    reports_by: fusion.ReportsBy = None
    hit: fusion.Hit = "report"
    direction: str = "image-to-report"


@dataclass(frozen=True)
class Settings:
    """What an audit asks, and is written with its tables.

    pool_sizes None: all steps a query can fill, and "full". `strata` narrow the same-finding decoys in a second set of
    rows; `galleries` are other cohorts of the store, whose reports stand in for the decoys; `fused` asks for one way of
    pooling alone, where None is every way there is.
    """

    head: str = OFF_THE_SHELF
    split: str | None = None
    pool_sizes: tuple[PoolSize, ...] | None = None
    ks: tuple[int, ...] = (1, 5, 10)
    strata: tuple[str, ...] = ("view", "sex")
    rules: tuple[str, ...] = open_world.RULES
    priors: tuple[float, ...] = PRIORS
    wanted: tuple[float, ...] = WANTED
    galleries: tuple[str, ...] = ()
    fused: Fused | None = None
    seed: int = 0


@dataclass
class FullAudit:
    """The tables of one cohort under one head, each made when first asked for and kept.

    left_out: table -> why it cannot be made.
    """

    store: Store
    cohort: str
    models: Sequence[str]
    settings: Settings = field(default_factory=Settings)
    left_out: dict[str, str] = field(default_factory=dict)
    _made: dict[str, pd.DataFrame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cohort in self.settings.galleries:  # said now, not after minutes
            for model in self.models:
                self.store.open(cohort, model)

    def tables(self, sections: Sequence[str] = tuple(SECTIONS), progress: Progress = silent) -> dict[str, pd.DataFrame]:
        """The tables of these sections by name. InputError for an unknown section."""
        steps = [(section, model) for section in sections for model in self._parts(section)]
        done: dict[str, list[pd.DataFrame]] = {}
        for i, (section, model) in enumerate(steps):
            progress("audit", i, len(steps))
            if all(name in self._made for name in SECTIONS[section]):
                continue
            try:
                for name, table in self._section(section, model):
                    done.setdefault(name, []).append(table)
            except InputError as error:
                for name in SECTIONS[section]:
                    if name not in done:
                        self.left_out[name] = error.what
        progress("audit", len(steps), len(steps))
        for name, parts in done.items():
            self._made[name] = pd.concat(parts, ignore_index=True)
            self.left_out.pop(name, None)
        return {name: self._made[name] for one in sections for name in SECTIONS[one] if name in self._made}

    def provenance(self) -> dict[str, Any]:
        """Where every number comes from: settings, and for each model what audit.Study.provenance says."""
        return {
            "cohort": self.cohort,
            "synthetic": self.entries[0].synthetic,
            "settings": asdict(self.settings),
            "models": {one.model: one.provenance() for one in self.studies},
        }

    @cached_property
    def entries(self) -> list[Entry]:
        return [self.store.open(self.cohort, model) for model in self.models]

    @cached_property
    def studies(self) -> list[Study]:
        """Image to report against other patients: the study that the other questions start from."""
        return [self._study(entry) for entry in self.entries]

    def _study(self, entry: Entry, **options: Any) -> Study:
        wanted = self.settings
        return audit.study(entry, wanted.head, split=wanted.split, seed=wanted.seed, **options)

    def _parts(self, section: str) -> list[Entry | None]:
        """A section of every model at once, or one of each."""
        if section not in SECTIONS:
            raise InputError(f"There is no section {section!r}.", f"They are: {', '.join(SECTIONS)}.")
        return [None] if section == "models" else list(self.entries)

    def _section(self, section: str, entry: Entry | None) -> Iterator[tuple[str, pd.DataFrame]]:
        if entry is None:
            yield "models_compared", self._compared()
            return
        make = {
            "recall": self._recall,
            "decoys": self._decoys,
            "open world": self._open_world,
            "exposure": self._exposure,
            "fusion": self._fusion,
            "sites": self._sites,
            "ceilings": self._ceilings,
        }[section]
        yield from make(entry)

    def _recall(self, entry: Entry) -> Iterator[tuple[str, pd.DataFrame]]:
        for direction in audit.DIRECTIONS:
            for pool, by in self._pools():
                try:
                    study = self._study(entry, direction=direction, pool=pool, strata=by)
                except InputError as error:
                    if pool != HARD_NEGATIVES:
                        raise
                    self.left_out[f"recall of {direction}, {'+'.join([pool, *by])}"] = error.what
                    continue
                yield "recall", study.table(self._sizes(study), self._ks(study))

    def _pools(self) -> list[tuple[str, tuple[str, ...]]]:
        narrowed = [(HARD_NEGATIVES, self.settings.strata)] if self.settings.strata else []
        return [*((pool, ()) for pool in audit.POOLS), *narrowed]

    def _compared(self) -> pd.DataFrame:
        if len(self.entries) < 2:
            raise InputError("There is one model, so there is nothing to compare.", "Embed the cohort with another.")
        studies = self.studies
        sizes = self._round(min(one.largest_pool for one in studies))
        asked = [(n, k) for n in sizes for k in self.settings.ks if k <= n]
        seed = self.settings.seed
        return pd.concat([compare.compare(studies, n, k, seed) for n, k in asked], ignore_index=True)

    def _decoys(self, entry: Entry) -> Iterator[tuple[str, pd.DataFrame]]:
        for by in dict.fromkeys([(), self.settings.strata]):
            study = self._study(entry, pool=HARD_NEGATIVES, strata=by)
            pool, auc = study.pool, study.label_matched_auc()
            yield "label_matched_auc", pd.DataFrame([{**self._names(entry), "pool": pool, **auc, "chance": 0.5}])
            if entry is not self.entries[0]:
                continue  # how the decoys were built does not depend on the model
            found = strata.verification(
                study.queries, study.counts, by, texts=report_texts(entry, study.queries), seed=self.settings.seed
            )
            for name in ("sizes", "left_out", "balance"):
                table = getattr(found, name)
                table.insert(0, "cohort", self.cohort)
                table.insert(1, "pool", pool)
                yield f"strata_{name}", table

    def _open_world(self, entry: Entry) -> Iterator[tuple[str, pd.DataFrame]]:
        prepared = open_world.prepare(entry, self.settings.head, self.settings.split, self.settings.seed)
        for rule in self.settings.rules:
            for n in self._round(prepared.largest_pool):
                outcomes = prepared.outcomes(n, rule)
                for prior in self.settings.priors:
                    found = outcomes.at(prior, self.settings.wanted)
                    for name in ("curve", "operating"):
                        table = getattr(found, name).drop(columns="rule", errors="ignore")
                        asked = {**self._names(entry), "rule": rule, "pool_size": n, "prior": prior}
                        told = {
                            "n_excluded": found.n_excluded,
                            "monte_carlo_error": found.monte_carlo_error,
                        }
                        yield f"open_world_{name}", _beside(asked, table, told)

    def _exposure(self, entry: Entry) -> Iterator[tuple[str, pd.DataFrame]]:
        study = next(one for one in self.studies if one.entry is entry)
        seed = self.settings.seed
        for n in self._round(study.largest_pool):
            asked = {**self._names(entry), "pool_size": n}
            single = exposure.exposure(study, n)
            yield "exposure", _beside(asked, single)
            found = exposure.tail(single["p_first"].to_numpy(), single["patient_id"].to_numpy(), seed=seed)
            yield "exposure_tail", _beside(asked, pd.DataFrame([asdict(found)]))
            yield "exposure_associations", _beside(asked, exposure.associations(single, study.queries, seed=seed))
            for by in exposure.GROUPS:
                yield "exposure_groups", _beside(asked, exposure.groups(single, study.queries, by, seed=seed))

    def _fusion(self, entry: Entry) -> Iterator[tuple[str, pd.DataFrame]]:
        wanted = self.settings
        study = next(one for one in self.studies if one.entry is entry)
        sizes, ks = self._round(study.common_pool), self._ks(study)
        if wanted.fused:
            ways: dict[str, Any] = asdict(wanted.fused)
            yield (
                "fusion",
                fusion.fusion_table(entry, sizes, ks, wanted.head, **ways, split=wanted.split, seed=wanted.seed),
            )
            return
        table = fusion.fusion_tables(entry, sizes, ks, wanted.head, split=wanted.split, seed=wanted.seed)
        for why in table.attrs.pop("left_out"):
            name = f"{why['direction']}, {why['images_by']} against {why['reports_by']}, hit {why['hit']}"
            at = f" at N = {why['pool_size']}" if why["pool_size"] else ""
            self.left_out[f"fusion of {name}{at}"] = why["note"]
        yield "fusion", table

    def _sites(self, entry: Entry) -> Iterator[tuple[str, pd.DataFrame]]:
        if not self.settings.galleries:
            raise InputError("No other cohort was named.", "Name one with --gallery.")
        wanted = self.settings
        cohorts = [self.cohort, *wanted.galleries]
        largest = min(self.store.open(one, entry.model).manifest["counts"]["studies"] for one in cohorts)
        sizes = self._round(largest // 2)
        yield "sites", fusion.shift_table(self.store, entry.model, cohorts, sizes, wanted.ks, wanted.head)

    def _ceilings(self, entry: Entry) -> Iterator[tuple[str, pd.DataFrame]]:
        study = next(one for one in self.studies if one.entry is entry)
        vectors = ceilings.by_vectors(entry)
        by_text = (one for one in self.entries if not ceilings.by_vectors(one))
        if not vectors and entry is not next(by_text):
            return  # the reports of a cohort are the same for every model
        sizes: list[PoolSize] = [*self._round(study.largest_pool), "full"]
        if self.settings.pool_sizes:
            sizes = self._sizes(study)
        table, left_out = ceilings.table(
            study.queries, sizes, self._ks(study), vectors=vectors, seed=self.settings.seed
        )
        for name, why in left_out.items():
            self.left_out[f"ceilings of {name}"] = why
        yield "ceilings", _beside({"cohort": self.cohort, "model": entry.model if vectors else ""}, table)

    def _names(self, entry: Entry) -> dict[str, Any]:
        return {"cohort": entry.cohort, "model": entry.model, "head": self.settings.head}

    def _round(self, largest: int) -> list[int]:
        """The wanted N that fit; by default 100, 1,000 and 10,000, or the largest where that is smaller."""
        asked = self.settings.pool_sizes or ROUND
        return [n for n in asked if n != "full" and n <= largest] or [largest]

    def _sizes(self, study: Study) -> list[PoolSize]:
        largest = study.largest_pool
        if self.settings.pool_sizes is not None:
            return [n for n in self.settings.pool_sizes if n == "full" or n <= largest] or ["full"]
        return [*[n for n in pools.log_pool_sizes(largest) if n >= max(self._ks(study))], "full"]

    def _ks(self, study: Study) -> list[int]:
        return [k for k in self.settings.ks if k <= study.largest_pool] or [1]


def report_texts(entry: Entry, records: pd.DataFrame) -> dict[str, str]:
    """Text by study id of the reports of `records` that are at hand and unchanged; for counting words, not to show.

    Stored texts, the cohort's own files, or the phantom's grammar; empty where there are none.
    """
    source = source_for(entry.manifest["cohort"], entry.stored_reports() or None)
    # with imported vectors the key is the vector's and says nothing of the text
    imported = entry.imported
    studies = records.drop_duplicates("study_id")
    found = (
        (study, source.read_report(study, "" if imported else key))
        for study, key in zip(studies["study_id"], studies["report_key"], strict=True)
    )
    return {study: text for study, text in found if text is not None}


def write(made: FullAudit, folder: Path, progress: Progress = silent) -> dict[str, Any]:
    """Write every table and `audit.json`, which is written last: a folder without it is not finished.

    Each table is NAME.parquet, and NAME.csv where it has at most LONGEST_CSV rows; text that a spreadsheet would run is
    neutralised in the CSV. audit.json holds schema, provenance, and for each table its question, columns, rows and
    sha256. Returns its content.
    InputError where the folder holds anything already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder.", "Name a new or empty one: an audit never overwrites.")
    tables = made.tables(progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    listed: dict[str, Any] = {}
    for name, table in tables.items():
        buffer = io.BytesIO()
        _storable(table).to_parquet(buffer, index=False, compression="zstd")
        files = {f"{name}.parquet": buffer.getvalue()}
        if len(table) <= LONGEST_CSV:
            files[f"{name}.csv"] = csv(table)
        for file, written in files.items():
            (folder / file).write_bytes(written)
        listed[name] = {
            "question": TABLES[name],
            "rows": len(table),
            "columns": {column: COLUMNS[column] for column in table.columns},
            "sha256": {file: hashlib.sha256(written).hexdigest() for file, written in files.items()},
        }
    content = {
        "schema": SCHEMA,
        "provenance": made.provenance(),
        "tables": listed,
        "left_out": made.left_out,
        "cannot_tell": CANNOT_TELL,
    }
    (folder / "audit.json").write_text(json.dumps(content, indent=1, allow_nan=False, default=str) + "\n", "utf-8")
    return content


CANNOT_TELL = (
    "These figures are what cosine similarity under this model and head reaches: a better attacker may do better, so "
    "they are lower bounds on the risk. They are of this cohort; another hospital's may differ."
)


def _storable(table: pd.DataFrame) -> pd.DataFrame:
    """A pool size may be "full" beside numbers: as text it can stand in one Parquet column."""
    mixed = [str(name) for name in table if table[name].dtype == object and table[name].map(type).nunique() > 1]
    out = table.copy()
    for name in mixed:
        out[name] = out[name].astype(str)
    return out


def _beside(before: dict[str, Any], table: pd.DataFrame, after: dict[str, Any] | None = None) -> pd.DataFrame:
    """The table between columns that are the same in every row."""
    kept = table.drop(columns=[name for name in before if name in table])
    return pd.DataFrame(before, index=kept.index).join(kept).assign(**(after or {}))
