"""What leaves for each record: an opaque number and a code, a vector or scores; never anything else of the store.

The number is keyed by the site's secret, the image and what is released, so it says nothing without the secret, is the
same when the same release is made again, and another one in every other release. Rows stand in the order of their
numbers, which has nothing to do with the store's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.special import ndtri
from threadpoolctl import threadpool_limits

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.release.certificate import CAPPED, CODES, EMBEDDINGS, KEYED, SCORES
from linkage_core.release.keyed import Secret, image_key
from linkage_core.release.kinds import codes
from linkage_core.release.kinds.capped import Cap
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import same_weights
from linkage_core.utility.probe import states_of, train_probe

TABLE, CODEBOOK = "records.parquet", "codebook.safetensors"
COLUMNS = {CODES: "code", CAPPED: "vector", SCORES: "scores", EMBEDDINGS: "vector"}
LABEL_COLUMNS = ("finding", "present")

_NUMBER_BYTES = 8
_BLOCK = 8192


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
    """What would be written: which rows of the source are in it, what was done, and the table in its released order.

    purpose names the release to the secret and the ledger: equal for a release that is made again, another where a
    codebook or reader differs in one number, so that records of two releases cannot be joined by their numbers.
    """

    kind: str
    mechanism: dict[str, Any]
    rows: np.ndarray
    table: pa.Table
    purpose: str
    codebook: codes.Codebook | None = None


def gather(entry: Entry, head: str = OFF_THE_SHELF, split: str | None = None) -> Source:
    """The records of a split under a head, without any noise that the head's record asks for elsewhere."""
    split = split or entry.default_split
    records = entry.records(split)
    features = entry.features("image", records["record_id"])
    weights = str(entry.manifest["model"].get("weights_sha256") or f"imported {entry.manifest['model']['name']}")
    return Source(
        entry=entry,
        head=head,
        split=split,
        records=records,
        embeddings=unit(entry.heads(head).image(features)),
        images=[image_key(row, weights) for row in features],
        head_sha256=str(entry.manifest["files"][f"heads/{head}.safetensors"]["sha256"]),
    )


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


def public_of(source: Source, public: Entry | None, kind: str) -> tuple[Entry, np.ndarray, np.ndarray, np.ndarray]:
    """(entry, embeddings, states, patients) of a public cohort under the source's head. InputError where none was
    named, it is the cohort that is released, shares a patient with it, or came from other weights."""
    if public is None:
        raise InputError(
            f"A release of {kind} needs a public cohort.",
            "Name one of the store with labels: --public COHORT, for example --public phantom-site-b.",
        )
    entry = source.entry
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


def as_codes(
    source: Source, secret: Secret, n_cells: int, public: Entry | None, *, least: int = codes.LEAST, seed: int = 0
) -> Released:
    """Each record as the number of its cell; cells with fewer than `least` records left out.

    Raises InputError as codes.require_policy and public_of, and where no record is left.
    """
    codes.require_policy(n_cells, source.n, least)
    known, embeddings, states, patients = public_of(source, public, CODES)
    about = {"cohort": known.cohort, "model": known.model, "head_sha256": source.head_sha256}
    book = codes.Codebook.build(embeddings, states, n_cells, patients=patients, seed=seed, about=about)
    kept = codes.suppress(book.assign(source.embeddings), least)
    rows = np.flatnonzero(kept != codes.SUPPRESSED)
    if not len(rows):
        raise InputError(f"No cell holds {least} records.", "Take fewer cells, or another public cohort.")
    made_of = _sha256({name: one for name, one in vars(book).items() if isinstance(one, np.ndarray)})
    mechanism = {
        "name": "public codebook",
        "codebook": made_of,
        "cells": n_cells,
        "least": least,
        "suppressed": int(source.n - len(rows)),
        "public": f"{known.cohort} ({book.about['public_records']:,} records)",
    }
    purpose = f"codes K={n_cells} least={least} codebook={made_of} head={source.head_sha256}"
    return _released(source, secret, CODES, mechanism, rows, pa.array(kept[rows], pa.int32()), purpose, book)


def as_capped(source: Source, secret: Secret, limit: float, epsilon: float | None = None) -> Released:
    """Each record as one direction by the cap mechanism. InputError for a limit at or below 1 or above the records."""
    require_limit(limit, source.n)
    cap = Cap.of(source.embeddings.shape[1], limit, epsilon=epsilon)
    vectors = cap.release_keyed(source.embeddings, source.images, secret, head_sha256=source.head_sha256)
    mechanism = {
        "name": "cap mechanism",
        "dimension": cap.dimension,
        "limit": float(cap.limit),
        "p": float(cap.p),
        "epsilon": None if cap.p == 1 else float(cap.epsilon),
        "gain": float(cap.gain),
        "noise": KEYED,
    }
    return _released(
        source, secret, CAPPED, mechanism, np.arange(source.n), _lists(vectors), cap.purpose(source.head_sha256)
    )


def as_embeddings(source: Source, secret: Secret, sigma: float = 0.0) -> Released:
    """Each record as its embedding: clean, or with Gaussian noise `sigma` in each coordinate, keyed."""
    if not 0 <= sigma < np.inf:
        raise InputError(f"The noise is {sigma}.", "It is a standard deviation: zero or more, and finite.")
    vectors, d = source.embeddings.astype(np.float32), source.embeddings.shape[1]
    purpose = f"gaussian sigma={float(sigma)!r} d={d} head={source.head_sha256}"
    if sigma:
        for start in range(0, source.n, _BLOCK):
            part = slice(start, start + _BLOCK)
            vectors[part] += sigma * ndtri(secret.uniforms(purpose, source.images[part], d))
        vectors = unit(vectors)  # post-processing: it is the sum that the limit is about
    mechanism = {"name": "Gaussian noise" if sigma else "clean", "sigma": float(sigma), "dimension": d}
    if sigma:
        mechanism["noise"] = KEYED
    return _released(source, secret, EMBEDDINGS, mechanism, np.arange(source.n), _lists(vectors), purpose)


def as_scores(
    source: Source, secret: Secret, public: Entry | None, findings: tuple[str, ...] = LABELS, seed: int = 0
) -> Released:
    """Each record as the scores of findings by a probe of public data; those that it could not learn are left out."""
    known, embeddings, states, patients = public_of(source, public, SCORES)
    with threadpool_limits(1, user_api="blas"):  # many small products: threads would only wait for each other
        probe = train_probe(embeddings, states, patients, seed)
    learnt = [name for name in findings if probe.trained[LABELS.index(name)]]
    if not learnt:
        raise InputError(
            f"None of the findings can be learnt from {known.cohort}.", "Name others, or take another public cohort."
        )
    scores = probe(source.embeddings)[:, [LABELS.index(name) for name in learnt]].astype(np.float32)
    made_of = _sha256({"mean": probe.mean, "weights": probe.weights})
    mechanism = {
        "name": "linear probe",
        "reader": made_of,
        "findings": learnt,
        "public": f"{known.cohort} ({len(embeddings):,} records)",
    }
    purpose = f"scores {'|'.join(learnt)} reader={made_of} head={source.head_sha256}"
    return _released(source, secret, SCORES, mechanism, np.arange(source.n), _lists(scores), purpose)


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
    value = made.table.column(COLUMNS[made.kind])
    # in the order of the rows, then numbered anew: a release with labels is another release
    back = np.argsort(_order(secret, source, made.purpose, made.rows)[1])
    columns = {COLUMNS[made.kind]: value.take(pa.array(back)).combine_chunks()}
    columns |= {"finding": pa.array(which, pa.int8()), "present": pa.array(present, pa.bool_())}
    return Released(
        made.kind,
        made.mechanism,
        made.rows,
        _numbered(secret, source, purpose, made.rows, columns),
        purpose,
        made.codebook,
    )


def require_limit(limit: float, n_records: int) -> None:
    """InputError for a limit L at or below 1, or above the number of records."""
    if not 1 < limit <= n_records:
        raise InputError(
            f"The limit L is {limit:g}, and the release has {n_records:,} records.",
            "Take one above 1 (at 1 nothing could be released) and at most N (beyond it nothing is limited).",
        )


def _released(
    source: Source,
    secret: Secret,
    kind: str,
    mechanism: dict[str, Any],
    rows: np.ndarray,
    values: pa.Array,
    purpose: str,
    codebook: codes.Codebook | None = None,
) -> Released:
    table = _numbered(secret, source, purpose, rows, {COLUMNS[kind]: values})
    return Released(kind, mechanism, rows, table, purpose, codebook)


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


def _sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Of names, types, shapes and values: another codebook or reader is another release, whatever it was made from."""
    said = hashlib.sha256()
    for name, one in sorted(tensors.items()):
        said.update(f"{name} {one.dtype.str} {one.shape} ".encode() + np.ascontiguousarray(one).tobytes())
    return said.hexdigest()


def _lists(rows: np.ndarray) -> pa.Array:
    """(n, d) float32 as one column of vectors."""
    flat = np.ascontiguousarray(rows, dtype=np.float32).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), rows.shape[1])
