"""`cached_embeddings/<cohort>/<model>/`: features, heads, records and counts of one cohort seen by one model.

An entry is valid when its `manifest.json` is: the manifest is written last, and names every other file with its
sha256. A file is checked against it before its first use in a process; one that was cut short or altered is named and
never used. Every write goes to a temporary name, is forced to disk and renamed, so a kill leaves the old file or the
new one. Counts under `ranks/` can be made again at any time, so each says itself what it was made from (sealed.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.numpy

from linkage_core import shipped
from linkage_core.cohorts.base import HELDOUT, LABELS, SPLITS
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import Heads, Linear, unit
from linkage_core.ranking.counts import MatchCounts, one_thread
from linkage_core.store import sealed, whose
from linkage_core.store.files import (
    SCHEMA,
    WAIT,
    _digest_json,
    _hash,
    note_of_table,
    note_of_tensors,
    read_table,
    read_tensors,
    sha256,
    table_bytes,
    tensor_bytes,
    write_bytes,
    write_heads,
    write_manifest,
    writing,
)
from linkage_core.store.pieces import FOLDER
from linkage_core.validate import one_of

OFF_THE_SHELF = "off-the-shelf"
LADDER = ("phantom-general", "phantom-biomedical", "phantom-clinical", "phantom-radiology")
SITE_ONLY = ("fingerprint", "n_pairs", "n_patients")
"""Of a record's `trained_on`: exact functions of the training table. Whoever knows all its patients but one could try
any guess about the last against them, so they stand in the entry's manifest and never in a head's file."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


_NEW = re.compile(r"[\w .+=,@~:/\\()'-]{1,300}")


def new_name(name: str) -> str:
    """The name that a new cohort or model is given, as it came. InputError for one with characters that only markup and
    control sequences need; what bears such a name already is shown all the same, written out.

    >>> new_name("hf:ORG/our model (2)")
    'hf:ORG/our model (2)'
    >>> new_name("![m](http://host/x)")
    Traceback (most recent call last):
    ...
    linkage_core.errors.InputError: '![m](http://host/x)' cannot be the name of a new cohort or model. Use letters, \
digits, spaces and . _ - + = , @ ~ : / \\ ( ) ', 300 at most.
    """
    if _NEW.fullmatch(name) is None or not name.isprintable():
        raise InputError(
            f"{name!r} cannot be the name of a new cohort or model.",
            "Use letters, digits, spaces and . _ - + = , @ ~ : / \\ ( ) ', 300 at most.",
        )
    return name


def folder_name(model: str) -> str:
    """The folder of a model: "hf:ORG/NAME" -> "hf--ORG--NAME"; plain names stand as they are.

    What has other characters, such as a path with a space, gets dashes for them, and a few letters of its hash, so that
    two paths never share a folder. Raises InputError for a name of which nothing is left, such as "..".
    """
    model = model.strip().rstrip("/")
    name = re.sub(r"[:/\\]+", "--", model)
    if _NAME.fullmatch(name):
        return name
    if not re.search(r"\w", model):
        raise InputError(
            f"{model!r} cannot be the name of a store entry.", "Use letters, digits, dot, dash and underscore."
        )
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-90:]
    return f"{plain}-{hashlib.sha256(model.encode(errors='surrogateescape')).hexdigest()[:8]}".lstrip("._-")


def parted(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what travels in a head's file, what stays at the site) of a head's record.

    Heads whose noise is stored as a seed are parted alike: one rule.
    """
    travels, trained = dict(record), record.get("trained_on") or {}
    site = {"cautions": travels.pop("cautions")} if "cautions" in travels else {}
    kept = {name: trained[name] for name in SITE_ONLY if name in trained}
    if kept:
        travels["trained_on"] = {name: value for name, value in trained.items() if name not in kept}
        site["trained_on"] = kept
    return travels, site


@dataclass(frozen=True)
class Embeddings:
    """Unit embeddings of one split under one head, joined by id.

    images (n_images, e) and reports (n_reports, e) float32, rows of norm 1; match (n_images,) row of each image's
    report; query_group (n_images,) and candidate_group (n_reports,) integer codes of patients. `records` has n_images
    rows in the order of `images`; `candidates` n_reports rows (study_id, patient_id, report_key, report_words).
    """

    images: np.ndarray
    reports: np.ndarray
    match: np.ndarray
    query_group: np.ndarray
    candidate_group: np.ndarray
    records: pd.DataFrame
    candidates: pd.DataFrame


class Store:
    """All entries below one folder."""

    def __init__(self, root: Path) -> None:
        """InputError for a folder whose name is no text: the libraries that write tables cannot open it."""
        self.root = Path(root)
        try:
            str(self.root).encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"The store {str(self.root)!r} is named in bytes that are not UTF-8.",
                "Rename it, or name another folder.",
            ) from error

    def cohorts(self) -> list[str]:
        """Names of cohorts with at least one entry, the phantom's first."""
        names = {path.parent.parent.name for path in self.root.glob("*/*/manifest.json")}
        return sorted(names, key=lambda name: (not name.startswith("phantom"), name))

    def models(self, cohort: str) -> list[str]:
        """Folder names of the models of a cohort: the ladder in its order, then the others by name."""
        names = [path.parent.name for path in (self.root / folder_name(cohort)).glob("*/manifest.json")]
        return sorted(names, key=lambda name: (LADDER.index(name) if name in LADDER else len(LADDER), name))

    def required_models(self, cohort: str) -> list[str]:
        """As models, but StoreError where there is none; it lists the cohorts there are."""
        models = self.models(cohort)
        if not models:
            there = ", ".join(self.cohorts())
            raise StoreError(
                f"The store {self.root} has no cohort {cohort!r}.",
                (f"It has: {there}." if there else "It is empty. Run: linkage phantom build")
                + shipped.hint(folder_name(cohort), self.root),
            )
        return models

    def unfinished(self, cohort: str = "*") -> list[str]:
        """Folders of entries that have no manifest, a sentence each: nothing in them is used."""
        cohort = cohort if cohort == "*" else folder_name(cohort)
        names = ("features-*", "records.parquet")
        found = {path.parent for name in names for path in self.root.glob(f"{cohort}/*/{name}")}
        return [
            f"{path} has files of an entry and no manifest.json: it was deleted, or the run that writes it did not end."
            for path in sorted(found)
            if not (path / "manifest.json").is_file()
        ]

    def open(self, cohort: str, model: str) -> Entry:
        """One entry. StoreError if it is absent or its manifest cannot be read; it lists what there is."""
        path = self.root / folder_name(cohort) / folder_name(model)
        manifest = path / "manifest.json"
        if not manifest.is_file():
            there = [f"{c}/{m}" for c in self.cohorts() for m in self.models(c)]
            raise StoreError(
                f"The store has no {cohort}/{model}.",
                (f"It has: {', '.join(there)}." if there else "It is empty. Run: linkage phantom build")
                + shipped.hint(folder_name(cohort), self.root),
            )
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise StoreError(f"{manifest} cannot be read ({error}).", _remedy(cohort, model)) from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise StoreError(f"{manifest} is not a manifest of schema {SCHEMA}.", _remedy(cohort, model))
        if content.pop("digest", None) != _digest_json(content):
            raise StoreError(f"{manifest} was altered since it was written.", _remedy(cohort, model))
        if not isinstance(content.get("cohort"), dict) or not isinstance(content.get("files"), dict):
            raise StoreError(f"{manifest} does not say what it is of.", _remedy(cohort, model))
        if found := whose.problem(path.parent.name, content["cohort"]):
            raise StoreError(f"{path}: {found}.", "Rename its folder where it is real; else it is not used.")
        return Entry(cohort, path.name, path, content)


@dataclass(frozen=True, eq=False)
class Entry:
    """One cohort seen by one model. Reading checks each file's sha256 before its first use."""

    cohort: str
    model: str
    path: Path
    manifest: dict[str, Any]

    @property
    def store(self) -> Store:
        """The store it lies in."""
        return Store(self.path.parent.parent)

    def again(self) -> Entry:
        """The entry as it is now: others may have written since it was opened."""
        return self.store.open(self.cohort, self.model)

    @property
    def synthetic(self) -> bool:
        return bool(self.manifest["cohort"]["synthetic"])

    @property
    def unpaired(self) -> bool:
        """Whether its two towers were never trained together, so that the cosine of image and report says nothing."""
        return bool(self.manifest["model"].get("unpaired"))

    @property
    def caution(self) -> str:
        """What must be said with every figure of the entry; "" for nothing."""
        if not self.unpaired:
            return ""
        return (
            f"The two towers of {self.model} were never trained together: the cosine of an image is the same with "
            "every report, so whatever ranks by it guesses, and such a figure says nothing about the risk. "
            "Attackers who have the raw images are asked about it: `linkage attack "
            f"{self.cohort}/{self.model} --release raw-images`."
        )

    @property
    def default_split(self) -> str:
        return str(self.manifest["cohort"]["default_split"])

    @cached_property
    def tested_split(self) -> str:
        """Whose records are asked about where something has learnt from the others: the held-out patients.

        A cohort that is audited as a whole has them too, whatever its default split; where nobody is held out, or the
        default split is narrower already, it is the default split.
        """
        whole = self.default_split == "all"
        return HELDOUT if whole and (self.records()["split"] == HELDOUT).any() else self.default_split

    @property
    def imported(self) -> bool:
        """Whether it is made of somebody's vectors: of no model that could embed anything else here."""
        return bool(self.manifest["model"].get("family") == "imported")

    @cached_property
    def labelled(self) -> bool:
        """Whether any record has any of the 14 labels."""
        return bool(self.records()[list(LABELS)].notna().any(axis=None))

    def labels_note(self) -> dict[str, Any]:
        """Where the labels come from, as cohorts.labels.cohort.labels_note says; of an entry from before labels were
        read from text, own or none."""
        noted = self.manifest["cohort"].get("labels")
        if isinstance(noted, dict):
            return noted
        return {"source": "own" if self.labelled else "none", "own": ""}

    @cached_property
    def fingerprint(self) -> str:
        """Changes when any file of the entry does."""
        return _digest_json(self.manifest["files"])

    @cached_property
    def _all_records(self) -> pd.DataFrame:
        records = read_table(self._checked("records.parquet"))
        if found := whose.other_records(self.manifest["cohort"], records):
            raise StoreError(f"{self.path}: {found}.", "It is not used: have it embedded again where the data lie.")
        return records

    def records(self, split: str = "all") -> pd.DataFrame:
        """One row an image: RECORD_COLUMNS without `report`, plus report_key and report_words."""
        records = self._all_records
        if split != "all":
            one_of("split", split, ("all", *SPLITS))
            records = records[records["split"] == split]
        if records.empty:
            there = ", ".join(sorted(self._all_records["split"].unique()))
            raise InputError(f"{self.cohort}/{self.model} has no records in split {split!r}.", f"It has: {there}.")
        return records.reset_index(drop=True)

    def rejects(self) -> pd.DataFrame:
        return read_table(self._checked("rejects.parquet"))

    def identifying(self) -> pd.DataFrame:
        """What the check for identifiers found: record_id, kind, level; no rows where there was none (see manifest)."""
        if "identifiers.parquet" not in self.manifest["files"]:
            return pd.DataFrame({"record_id": [], "kind": [], "level": []}, dtype=str)
        return read_table(self._checked("identifiers.parquet"))

    def stored_reports(self) -> dict[str, str]:
        """Report text by study id; empty unless the user asked for it to be stored."""
        if "reports.parquet" not in self.manifest["files"]:
            return {}
        table = read_table(self._checked("reports.parquet"))
        return dict(zip(table["study_id"], table["report"], strict=True))

    def heads(self, name: str = OFF_THE_SHELF) -> Heads:
        """Heads by name. StoreError lists those there are."""
        relative = f"heads/{name}.safetensors"
        if relative not in self.manifest["files"]:
            there = sorted(Path(f).stem for f in self.manifest["files"] if f.startswith("heads/"))
            raise StoreError(f"{self.cohort}/{self.model} has no head {name!r}.", f"It has: {', '.join(there)}.")
        tensors, _ = read_tensors(self._checked(relative))
        return Heads(
            image=Linear(tensors["image.weight"], tensors["image.bias"]),
            text=Linear(tensors["text.weight"], tensors["text.bias"]),
        )

    def head_record(self, name: str = OFF_THE_SHELF) -> dict[str, Any]:
        """How a finetuned head was made, as its file and the manifest tell; {} for the off-the-shelf one.

        Of a head that came from elsewhere as a file alone, SITE_ONLY is not told. StoreError if absent.
        """
        self.heads(name)
        relative = f"heads/{name}.safetensors"
        record = read_tensors(self._checked(relative))[1]
        site = self.manifest.get("site", {}).get(relative, {})
        if "trained_on" in site:
            site = {**site, "trained_on": {**(record.get("trained_on") or {}), **site["trained_on"]}}
        return {**record, **site}

    def add_head(self, name: str, heads: Heads, record: dict[str, Any], *, replace: bool = False) -> Entry:
        """Write finetuned heads with their record into the entry, and return the entry that knows them.

        What of the record may travel goes into the head's file, the rest into the manifest (`parted`).
        Raises InputError for a name that is taken (unless `replace`) or unusable, and for heads of other dimensions.
        """
        shelf = self.heads()
        for tower, new, old in (("image", heads.image, shelf.image), ("text", heads.text, shelf.text)):
            if new.weight.shape[1] != old.weight.shape[1]:
                raise InputError(
                    f"The {tower} head takes {new.weight.shape[1]} features, {self.cohort}/{self.model} has "
                    f"{old.weight.shape[1]}.",
                    "A head fits the model that it was made for.",
                )
        self.refuse_taken(name, replace=replace)
        relative = f"heads/{name}.safetensors"
        travels, site = parted(record)
        return self.add_file(relative, lambda path: write_heads(path, heads, travels), replace=replace, site=site)

    def refuse_taken(self, name: str, *, replace: bool = False) -> None:
        """InputError if a finetuned head cannot have this name, or a head has it already (unless `replace`).

        StoreError where the entry is one that came with the package.
        """
        shipped.refuse_to_write(self.path)
        if name == OFF_THE_SHELF or not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} cannot be the name of a finetuned head.", "Use letters, digits, dot, dash and underscore."
            )
        if not replace and f"heads/{name}.safetensors" in self.manifest["files"]:
            raise InputError(
                f"{self.cohort}/{self.model} already has a head {name!r}.", "Give another name, or replace it."
            )

    def add_file(
        self,
        relative: str,
        write: Callable[[Path], None],
        *,
        replace: bool = True,
        site: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Have `write` make one more file of the entry, list it in the manifest, and return the entry that knows it.

        site: what is known of the file at the site alone; it stands in the manifest, in place of what stood there.
        """
        with writing(self.path, WAIT):
            now = self.again().manifest  # others may have written
            if relative in now["files"] and not replace:
                raise InputError(
                    f"{self.cohort}/{self.model} already has {relative}.", "Give another name, or replace it."
                )
            content = {key: value for key, value in now.items() if key not in ("schema", "versions", "files")}
            noted = {name: said for name, said in now.get("site", {}).items() if name != relative}
            content.pop("site", None)
            content |= {"site": noted | ({relative: dict(site)} if site else {})} if noted or site else {}
            write(self.path / relative)
            write_manifest(self.path, {**content, "keep": {*now["files"], relative}})
        return self.again()

    def file(self, relative: str) -> Path:
        """A file of the entry, checked against the manifest. StoreError if it is absent or altered."""
        return self._checked(relative)

    def features(self, tower: str, ids: pd.Series | np.ndarray | list[str]) -> np.ndarray:
        """Rows of features (len(ids), d) as stored, for record ids (tower "image") or report keys (tower "text")."""
        known, values = self._tower(tower)
        place = known.get_indexer(pd.Index(ids))
        if (place < 0).any():
            missing = list(ids)[int(np.argmax(place < 0))]
            raise StoreError(f"{self.cohort}/{self.model} has no {tower} features for {missing!r}.", self._remedy())
        return np.asarray(values[place])

    def clean_images(self, record_ids: pd.Series | list[str], head: str | Heads = OFF_THE_SHELF) -> np.ndarray:
        """(n, e) unit embeddings of these images under a head, before any output noise."""
        heads = self.heads(head) if isinstance(head, str) else head
        with one_thread():
            return unit(heads.image(self.features("image", record_ids)))

    @cached_property
    def _towers(self) -> dict[str, tuple[pd.Index, np.ndarray]]:
        return {}

    def _tower(self, tower: str) -> tuple[pd.Index, np.ndarray]:
        """(ids, features) of all shards of a tower, read once."""
        if tower not in self._towers:
            self._towers[tower] = self._read_tower(tower)
        return self._towers[tower]

    def _read_tower(self, tower: str) -> tuple[pd.Index, np.ndarray]:
        shards = sorted(f for f in self.manifest["files"] if f.startswith(f"features-{tower}-"))
        ids: list[str] = []
        parts = []
        for shard in shards:
            tensors, note = read_tensors(self._checked(shard))
            ids += note["ids"]
            parts.append(tensors["features"])
        index = pd.Index(ids)
        return index[~index.duplicated()], np.concatenate(parts)[~index.duplicated()]

    def embeddings(self, head: str | Heads = OFF_THE_SHELF, split: str | None = None) -> Embeddings:
        """Embeddings of a split (default: the entry's default split) under a head, stored or at hand."""
        records = self.records(split or self.default_split)
        heads = self.heads(head) if isinstance(head, str) else head
        candidates = records.drop_duplicates("study_id")[["study_id", "patient_id", "report_key", "report_words"]]
        candidates = candidates.reset_index(drop=True)
        patients = pd.Index(records["patient_id"].unique())
        keys = candidates["report_key"].drop_duplicates()
        # each distinct text once: identical reports get identical vectors, so they tie exactly
        with one_thread():  # the same bits for whoever has more cores
            distinct = unit(heads.text(self.features("text", keys)))
        images = self.clean_images(records["record_id"], heads)
        said = self.head_record(head) if isinstance(head, str) else {}
        if said.get("output_noise"):  # a control whose release is noisy: one draw, the same at every reading
            rng = np.random.default_rng(said["output_seed"])
            images = unit(images + said["output_noise"] * rng.standard_normal(images.shape, dtype=np.float32))
        return Embeddings(
            images=images,
            reports=distinct[pd.Index(keys).get_indexer(candidates["report_key"])],
            match=pd.Index(candidates["study_id"]).get_indexer(records["study_id"]),
            query_group=patients.get_indexer(records["patient_id"]),
            candidate_group=patients.get_indexer(candidates["patient_id"]),
            records=records,
            candidates=candidates,
        )

    def read_counts(self, name: str, inputs: str) -> tuple[pd.Series, MatchCounts] | None:
        """Stored counts (record ids, counts), or None if there are none made from these inputs.

        StoreError if the file is not what was written.
        """
        path = self.path / "ranks" / f"{name}.parquet"
        content = self._made_from(path, inputs, note_of_table)
        if content is None:
            return None
        table = read_table(path, content)
        columns = (table[column].to_numpy(np.int64) for column in MatchCounts._fields)
        return table["record_id"], MatchCounts(*columns)

    def write_counts(self, name: str, inputs: str, record_ids: pd.Series, counts: MatchCounts) -> None:
        """Keep counts for the next reader. `inputs` is the fingerprint of what they were made from; both in one file.

        OSError or StoreError where they cannot be kept.
        """
        columns = {field: column.astype(np.int32) for field, column in counts._asdict().items()}
        table = pd.DataFrame({"record_id": record_ids.to_numpy(), **columns})
        self._keep(f"{name}.parquet", table_bytes(table, {"inputs": inputs, "seal": sealed.OPEN}))

    def read_arrays(self, name: str, inputs: str) -> tuple[list[str], dict[str, np.ndarray]] | None:
        """Stored arrays (record ids, arrays by name), or None if there are none made from these inputs.

        StoreError as for read_counts.
        """
        path = self.path / "ranks" / f"{name}.safetensors"
        content = self._made_from(path, inputs, note_of_tensors)
        if content is None:
            return None
        return note_of_tensors(content)["ids"], safetensors.numpy.load(content)

    def write_arrays(self, name: str, inputs: str, record_ids: pd.Series, arrays: dict[str, np.ndarray]) -> None:
        """As write_counts, for arrays that are too wide for a table; their rows are those of `record_ids`."""
        note = {"ids": record_ids.tolist(), "inputs": inputs, "seal": sealed.OPEN}
        self._keep(f"{name}.safetensors", tensor_bytes(arrays, note))

    def _keep(self, name: str, content: bytes) -> None:
        """One file under ranks/, sealed; what an older one has beside it goes."""
        shipped.refuse_to_write(self.path)
        path = self.path / "ranks" / name
        write_bytes(path, sealed.sealed(content))
        path.with_suffix(".json").unlink(missing_ok=True)

    def _made_from(self, path: Path, inputs: str, told: Callable[[bytes], dict[str, Any]]) -> bytes | None:
        """A file under ranks/ that was made from these inputs."""
        remedy = f"Delete it and audit again: linkage audit {self.cohort}/{self.model}"
        return sealed.made_from(path, inputs, told, remedy)

    def inputs(self, *parts: str) -> str:
        """Fingerprint of what counts are made from: records, features, one head, and `parts` (how they are counted)."""
        head = parts[0]
        used = {
            name: said["sha256"]
            for name, said in self.manifest["files"].items()
            if name.startswith(("records", "features-")) or name == f"heads/{head}.safetensors"
        }
        return _digest_json([used, list(parts)])

    def verify(self) -> list[str]:
        """Every way in which the files differ from what was written; empty if none."""
        findings = []
        for relative, said in sorted(self.manifest["files"].items()):
            path = self.path / relative
            if not path.is_file():
                findings.append(f"{path} is missing.")
            elif path.stat().st_size != said["bytes"]:
                findings.append(f"{path} has {path.stat().st_size} bytes, {said['bytes']} were written.")
            elif _hash(path) != said["sha256"]:
                findings.append(f"{path} was altered: its sha256 differs from the manifest's.")
        made = (self.path / "ranks").glob("*.*")
        for path in sorted(path for path in made if path.suffix in (".parquet", ".safetensors")):
            if found := sealed.problem(path):
                findings.append(found)
        return findings

    def leftovers(self) -> list[str]:
        """What lies in the entry and was written by no run that ended, a sentence each: nothing of it is read."""
        known = {self.path / name for name in (*self.manifest["files"], "manifest.json", ".lock")}
        found = []
        for path in sorted(self.path.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                continue
            if path.name.endswith(".tmp") and path.name.startswith("."):
                found.append(f"{path} was left by a run that was stopped; the next run that writes here removes it.")
            elif self.path / FOLDER in path.parents:
                found.append(f"{path} was left by a part of a run, for the run that puts the parts together.")
            elif path not in known and path.parent != self.path / "ranks":
                found.append(f"{path} is no part of the entry.")
        return found

    def _checked(self, relative: str) -> Path:
        path = self.path / relative
        said = self.manifest["files"].get(relative)
        if said is None:
            raise StoreError(f"{self.cohort}/{self.model} has no {relative}.", self._remedy())
        if not path.is_file():
            raise StoreError(f"{path} is missing.", self._remedy())
        if path.stat().st_size != said["bytes"] or sha256(path) != said["sha256"]:
            raise StoreError(f"{path} was altered or cut short since it was written, and is not used.", self._remedy())
        return path

    def _remedy(self) -> str:
        return _remedy(self.cohort, self.model)


def _remedy(cohort: str, model: str) -> str:
    how = "linkage phantom build" if cohort.startswith("phantom") else f"linkage embed ... --model {model} --rebuild"
    return f"See what else is damaged with `linkage verify {cohort}/{model}`; make it again with `{how}`."
