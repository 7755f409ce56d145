"""What leaves for each record: an opaque number and a code, a vector or scores; never anything else of the store.

The number is keyed by the site's secret, the image and what is released, so it says nothing without the secret, is the
same when the same release is made again, and another one in every other release. Rows stand in the order of their
numbers, which has nothing to do with the store's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.release.keyed import Secret, image_key
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import same_weights
from linkage_core.utility.probe import states_of

TABLE = "records.parquet"
LABEL_COLUMNS = ("finding", "present")

_NUMBER_BYTES = 8


@dataclass(frozen=True)
class Source:
    """Records that are to be released: their table, embeddings (n, e) unit rows, and n keys that name their images."""

    entry: Entry
    head: str
    split: str
    records: pd.DataFrame
    embeddings: np.ndarray
    images: list[bytes]
    head_sha256: str

    @property
    def patients(self) -> np.ndarray:
        return self.records["patient_id"].to_numpy(str)

    @property
    def n(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class Released:
    """What would be written: what was done, writers of data files beside the table of records, and that table in its
    released order with the rows of the source that are in it; no table and no rows for what is not by record.

    purpose names a release of records to the secret and the ledger: equal for a release that is made again, another
    where a codebook or reader differs in one number, so that records of two releases cannot be joined by their numbers.
    """

    mechanism: dict[str, Any]
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    table: pa.Table = None
    purpose: str = ""
    data: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)


def gather(entry: Entry, head: str = OFF_THE_SHELF, split: str | None = None) -> Source:
    """The records of a split under a head, without any noise that the head's record asks for elsewhere."""
    split = split or entry.default_split
    records = entry.records(split)
    features = entry.features("image", records["record_id"])
    return Source(
        entry=entry,
        head=head,
        split=split,
        records=records,
        embeddings=unit(entry.heads(head).image(features)),
        images=_keys(entry, features),
        head_sha256=str(entry.manifest["files"][f"heads/{head}.safetensors"]["sha256"]),
    )


def keys_of(entry: Entry, records: pd.DataFrame) -> list[bytes]:
    """The key of each record's image, by content: a copy of the entry under another name has the same."""
    return _keys(entry, entry.features("image", records["record_id"]))


def _keys(entry: Entry, features: np.ndarray) -> list[bytes]:
    weights = str(entry.manifest["model"].get("weights_sha256") or f"imported {entry.manifest['model']['name']}")
    return [image_key(row, weights) for row in features]


def thinned(source: Source, secret: Secret, most: int) -> Source:
    """At most `most` records of each patient, drawn by the secret: whose records can be seen to belong together is then
    limited by the power `most` of the lift, and not by as many records as somebody happens to have."""
    if most < 1:
        raise InputError(f"At most {most} records a patient were asked for.", "Take 1 or more.")
    ids = source.records["record_id"].to_numpy(str)
    drawn = [
        secret.stream("which records of a patient", image + str(one).encode()).hex()
        for image, one in zip(source.images, ids, strict=True)
    ]
    order = np.lexsort((np.array(drawn, dtype=str), source.patients))
    first = np.unique(source.patients[order], return_index=True)[1]
    place = np.empty(source.n, dtype=np.int64)
    place[order] = np.arange(source.n) - np.repeat(first, np.diff(np.append(first, source.n)))
    kept = np.flatnonzero(place < most)
    return replace(
        source,
        records=source.records.iloc[kept].reset_index(drop=True),
        embeddings=source.embeddings[kept],
        images=[source.images[i] for i in kept],
    )


def require_public(kind: str, public: Entry | None) -> Entry:
    """The public cohort; InputError where none was named."""
    if public is None:
        raise InputError(
            f"A release of {kind} needs a public cohort.",
            "Name one of the store with labels: --public COHORT, for example --public phantom-site-b.",
        )
    return public


def public_of(source: Source, public: Entry | None, kind: str) -> tuple[Entry, np.ndarray, np.ndarray, np.ndarray]:
    """(entry, embeddings, states, patients) of a public cohort under the source's head. InputError where none was
    named, it is the cohort that is released, shares a patient with it, or came from other weights."""
    public, entry = require_public(kind, public), source.entry
    if public.cohort == entry.cohort:
        raise InputError(
            f"The public cohort is {public.cohort!r}, which is the one that is released.",
            "What is made from the records tells about them: name another cohort.",
        )
    same_weights(entry, public)
    records = public.records(public.default_split)
    shared = np.intersect1d(records["patient_id"].to_numpy(str), source.patients)
    if len(shared):
        raise InputError(
            f"{len(shared):,} patients, such as {str(shared[0])!r}, are in {public.cohort} and in {entry.cohort}.",
            "A public cohort holds nobody of the release: leave them out of one of the two.",
        )
    # the head that is released, which both were embedded for; not the public entry's own of the same name
    embeddings = public.clean_images(records["record_id"], entry.heads(source.head))
    return public, embeddings, states_of(records), records["patient_id"].to_numpy(str)


def with_one_label(made: Released, source: Source, secret: Secret, findings: tuple[str, ...]) -> Released:
    """The same with the state of one finding a record: present, or not (negative, uncertain or not mentioned).

    Which finding is drawn by the secret and the image alone, evenly among `findings`, whatever the record's labels are,
    and is the same in every release that has the same list: another release tells no further label.
    """
    states = states_of(source.records)[made.rows]
    drawn = secret.uniforms("one label of " + "|".join(findings), source.images, 1)[made.rows, 0]
    which = np.minimum((drawn * len(findings)).astype(np.int64), len(findings) - 1)
    present = states[np.arange(len(states)), np.array([LABELS.index(name) for name in findings])[which]] == 1
    purpose = f"{made.purpose} with one label of {'|'.join(findings)}"
    _, value = made.table.column_names
    # in the order of the rows, then numbered anew: a release with labels is another release
    back = np.argsort(_order(secret, source, made.purpose, made.rows)[1])
    columns = {value: made.table.column(value).take(pa.array(back)).combine_chunks()}
    columns |= {"finding": pa.array(which, pa.int8()), "present": pa.array(present, pa.bool_())}
    return replace(made, table=_numbered(secret, source, purpose, made.rows, columns), purpose=purpose)


def released(
    source: Source,
    secret: Secret,
    mechanism: dict[str, Any],
    rows: np.ndarray,
    values: dict[str, pa.Array],
    purpose: str,
    data: Mapping[str, Callable[[Path], None]] | None = None,
) -> Released:
    """These rows of the source under their numbers; values: the one column beside those, aligned with the rows."""
    return Released(mechanism, rows, _numbered(secret, source, purpose, rows, values), purpose, data or {})


def _numbered(secret: Secret, source: Source, purpose: str, rows: np.ndarray, columns: dict[str, pa.Array]) -> pa.Table:
    """The columns (aligned with `rows`) with their record numbers, in the order of the numbers."""
    numbers, order = _order(secret, source, purpose, rows)
    given = {"record": pa.array(numbers[order], pa.string())}
    return pa.table(given | {name: column.take(pa.array(order)) for name, column in columns.items()})


def _order(secret: Secret, source: Source, purpose: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(record number of each row, how they sort). Two records of equal images have their ids to tell them apart."""
    named = f"record number of {purpose}"
    ids = source.records["record_id"].to_numpy(str)
    numbers = np.array(
        [secret.stream(named, source.images[i] + str(ids[i]).encode())[:_NUMBER_BYTES].hex() for i in rows], dtype=str
    )
    order = np.argsort(numbers, kind="stable")
    if len(numbers) > 1 and (numbers[order[1:]] == numbers[order[:-1]]).any():
        raise InputError("Two records have one number.", "Their ids and images are equal: leave one of them out.")
    return numbers, order


def sha256_of(tensors: Mapping[str, np.ndarray]) -> str:
    """Of names, types, shapes and values: another codebook or reader is another release, whatever it was made from."""
    said = hashlib.sha256()
    for name, one in sorted(tensors.items()):
        said.update(f"{name} {one.dtype.str} {one.shape} ".encode() + np.ascontiguousarray(one).tobytes())
    return said.hexdigest()


def lists(rows: np.ndarray) -> pa.Array:
    """(n, d) float32 as one column of vectors."""
    flat = np.ascontiguousarray(rows, dtype=np.float32).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), rows.shape[1])


def read_vectors(folder: Path) -> np.ndarray:
    """(n, d) float32: the vectors or scores of a release, in the order of its table."""
    column = pq.read_table(folder / TABLE).column(1).combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)
