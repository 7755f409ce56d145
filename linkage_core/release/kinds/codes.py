"""A public codebook: a record leaves as the number of the cell that its embedding falls in, and nothing finer.

The codebook is made from public data alone (embeddings and findings of a cohort that anybody may have), so it tells
nothing about the records that are released; it travels with them. Cells are balanced on the public data: a cell with
few records singles them out, while the certificate (DESIGN 8, item 4) is an average over records.

Cells are drawn where findings live: a logistic probe of the public findings maps an embedding to log-odds, and the
cells are a power diagram there (nearest place, each with a price that keeps its cell from filling up; Aurenhammer, SIAM
J. Computing 16, 1987). Places and prices are those of entropic optimal transport onto K equal masses (Cuturi, NeurIPS
2013), then the prices alone are moved until hard cells are level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError, StoreError
from linkage_core.heads import unit
from linkage_core.release import bounds, limits
from linkage_core.release import stated as shapes
from linkage_core.release.checks import ASK, require_tensors
from linkage_core.release.keyed import Secret
from linkage_core.release.kind import Column, Kind, Limit, Measured, Mechanism, Options
from linkage_core.release.records import TABLE, Released, Source, public_of, released, require_public, sha256_of
from linkage_core.store.entry import Entry
from linkage_core.store.files import read_tensors, write_tensors
from linkage_core.utility.probe import Probe, states_of, train_probe

CODEBOOK = "codebook.safetensors"
LEAST = 5
"""Fewest records of a cell that is released, where nothing else is said. A policy, not a theorem."""
SUPPRESSED = -1

_PUBLIC_A_CELL = 8  # public records that a cell needs to have a place
_FIT_ROWS = 12_000
_ROUNDS, _PRICE_STEPS, _LEVELLING = 40, 5, 400
_SOFTNESS = 0.02  # of the assignment while places settle, as a share of the variance
_OFF_SPHERE = 1e-3
_BLOCK = 65_536


@dataclass(frozen=True)
class Codebook:
    """K cells of the unit sphere in e dimensions.

    mean (e,), weights (e, r): an embedding's place is (embedding - mean) . weights; places (K, r) and prices (K,) are
    those of the cells; centres (K, e) the unit mean of each cell's public embeddings; scores (K, 14) the mean public
    probe score in each cell, by which a recipient reads findings off a code (0 for a finding not `trained`); occupancy
    (K,) public records in each cell. `about` says which public data it was made from.
    """

    mean: np.ndarray
    weights: np.ndarray
    places: np.ndarray
    prices: np.ndarray
    centres: np.ndarray
    scores: np.ndarray
    trained: np.ndarray
    occupancy: np.ndarray
    about: dict[str, Any]

    @property
    def n_cells(self) -> int:
        return len(self.prices)

    @classmethod
    def build(
        cls,
        public_embeddings: np.ndarray,
        public_states: np.ndarray,
        n_cells: int,
        *,
        patients: np.ndarray | None = None,
        seed: int = 0,
        about: dict[str, Any] | None = None,
    ) -> Codebook:
        """K balanced cells from public records: embeddings (n, e) unit rows, states (n, 14) 1, 0, NaN left out.

        patients (n,): whose they are, for the folds of the probe (default: every row its own). The same input and seed
        give the same codebook. Raises InputError for fewer than 2 cells, fewer than 8 public records a cell, rows off
        the sphere, or states of which no finding can be learnt.
        """
        rows = on_sphere(public_embeddings)
        if n_cells < 2:
            raise InputError(f"A codebook of {n_cells} cells was asked for.", "Take 2 or more.")
        if len(rows) < _PUBLIC_A_CELL * n_cells:
            raise InputError(
                f"{n_cells} cells are too many for {len(rows)} public records.",
                f"Take at most {len(rows) // _PUBLIC_A_CELL}, or a larger public cohort.",
            )
        whose = np.arange(len(rows)) if patients is None else patients
        with threadpool_limits(1, user_api="blas"):  # many small products: threads would only wait for each other
            probe = train_probe(rows, public_states, whose, seed)
            if not probe.trained.any():
                raise InputError(
                    f"No finding can be learnt from {len(rows)} public records.",
                    "Ten records with and ten without a finding are needed: take another public cohort.",
                )
            mean, weights = rows.mean(axis=0), probe.weights[:, probe.trained]
            z = (rows - mean) @ weights
            some = np.random.default_rng([seed, 1]).permutation(len(z))[:_FIT_ROWS]
            places, prices = _balanced(z[some], n_cells, seed)
            if len(z) > len(some):
                prices = _levelled(z, places, prices)
        cells = _nearest(z, places, prices)
        counts = np.bincount(cells, minlength=n_cells)
        if not counts.all():
            raise InputError(
                f"{int((counts == 0).sum())} of {n_cells} cells hold no public record.",
                "The public embeddings have too few distinct values: take fewer cells.",
            )
        sums, scores = np.zeros((n_cells, rows.shape[1])), np.zeros((n_cells, len(LABELS)))
        np.add.at(sums, cells, rows)
        np.add.at(scores, cells, probe(rows))
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        return cls(
            mean=mean,
            weights=weights,
            places=places,
            prices=prices,
            centres=(sums / np.maximum(norms, 1e-12)).astype(np.float32),
            scores=scores / counts[:, None],
            trained=probe.trained,
            occupancy=counts,
            about={**(about or {}), "seed": seed, "public_records": len(rows)},
        )

    def assign(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, e) unit rows -> (n,) int32 cell of each, by the codebook alone: no noise, no other record matters."""
        rows = on_sphere(embeddings, dimension=len(self.mean))
        cells = np.empty(len(rows), dtype=np.int32)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            cells[block] = _nearest((rows[block] - self.mean) @ self.weights, self.places, self.prices)
        return cells

    def findings(self, codes: np.ndarray) -> np.ndarray:
        """(n,) codes -> (n, 14) public probe scores: what a recipient reads off a code without any training."""
        return np.asarray(self.scores[codes])

    def write(self, path: Path) -> None:
        """As one safetensors file, the note saying which public data it was made from."""
        tensors = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        write_tensors(path, {**tensors, "trained": self.trained.astype(np.uint8)}, {"codebook": self.about})

    @classmethod
    def read(cls, path: Path) -> Codebook:
        """The codebook of a file. Raises StoreError if it cannot be read, InputError if it holds no codebook."""
        tensors, note = read_tensors(path)
        if set(tensors) != {*_ARRAYS, "trained"} or not isinstance(note.get("codebook"), dict):
            raise InputError(f"{path} holds no codebook.", "Take the one that came with the release.")
        trained = tensors.pop("trained").astype(bool)
        book = cls(**tensors, trained=trained, about=note["codebook"])
        k, e = book.centres.shape if book.centres.ndim == 2 else (0, 0)
        r = int(trained.sum())
        shapes = {
            "mean": (e,),
            "weights": (e, r),
            "places": (k, r),
            "prices": (k,),
            "scores": (k, len(LABELS)),
            "occupancy": (k,),
        }
        for name, shape in shapes.items():
            array = getattr(book, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise InputError(f"{path}: {name} has shape {array.shape}.", f"A codebook has finite {shape} there.")
        return book


_ARRAYS = ("mean", "weights", "places", "prices", "centres", "scores", "occupancy")


def suppress(codes: np.ndarray, least: int = LEAST) -> np.ndarray:
    """Codes with those of cells that hold fewer than `least` records set to -1: a record alone in its cell is known.

    >>> suppress(np.array([0, 0, 1]), least=2).tolist()
    [0, 0, -1]
    """
    if least < 2:
        raise InputError(f"least is {least}.", "A cell with one record names it: take 2 or more.")
    counts = np.bincount(codes) if len(codes) else np.zeros(0, int)
    return np.where(counts[codes] >= least, codes, SUPPRESSED).astype(np.int32)


def require_policy(n_cells: int, n_records: int, least: int = LEAST) -> None:
    """InputError where K cells of at least `least` records cannot be filled by n records, or least is below 2."""
    if least < 2:
        raise InputError(f"least is {least}.", "A cell with one record names it: take 2 or more.")
    if n_cells < 2:
        raise InputError(f"A codebook of {n_cells} cells was asked for.", "Take 2 or more.")
    if n_cells * least > n_records:
        raise InputError(
            f"{n_cells} cells of at least {least} records need {n_cells * least:,} records, and there are "
            f"{n_records:,}.",
            f"Take at most {n_records // least} cells, or a lower smallest cell (--least, never below 2).",
        )


def on_sphere(embeddings: np.ndarray, *, dimension: int | None = None) -> np.ndarray:
    """The rows as float64, if each has norm 1 (to 0.001). InputError names the first that has not."""
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or (dimension is not None and rows.shape[1] != dimension):
        raise InputError(
            f"Embeddings have shape {rows.shape}.", f"Give (n, {'e' if dimension is None else dimension}) unit rows."
        )
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    off = np.flatnonzero(~(np.abs(norms - 1) <= _OFF_SPHERE))
    if len(off):
        raise InputError(
            f"Embedding {off[0]} has norm {norms[off[0]]:.4g}, so it is off the unit sphere ({len(off):,} such rows).",
            "Scale rows to norm 1 (linkage_core.heads.unit); leave out rows that are zero or not finite.",
        )
    return rows.astype(np.float64)


def _nearest(z: np.ndarray, places: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """(n,) cell of least |z - place|^2 + price, the first one where two are equal."""
    return np.argmin((places**2).sum(axis=1) + prices - 2 * z @ places.T, axis=1)


def _balanced(z: np.ndarray, n_cells: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (K, r) and prices (K,) by which the rows z (n, r) fall evenly: soft cells first, then hard ones."""
    n, softness = len(z), _SOFTNESS * max(float(z.var(axis=0).sum()), 1e-12)
    places = z[np.random.default_rng([seed, 0]).choice(n, n_cells, replace=False)]
    prices = np.zeros(n_cells)
    for _ in range(_ROUNDS):
        cost = (places**2).sum(axis=1) - 2 * z @ places.T
        for _ in range(_PRICE_STEPS):
            share = -(cost + prices) / softness
            share -= share.max(axis=1, keepdims=True)
            np.exp(share, out=share)
            share /= share.sum(axis=1, keepdims=True)
            prices = prices + softness * np.log(share.sum(axis=0) * n_cells / n + 1e-9)
        places = (share.T @ z) / np.maximum(share.sum(axis=0), 1e-12)[:, None]
    return places, _levelled(z, places, prices)


def _levelled(z: np.ndarray, places: np.ndarray, prices: np.ndarray) -> np.ndarray:
    """Prices moved until hard cells are as even as they become; the best prices seen, not the last."""
    n_cells, step = len(prices), 0.5 * _SOFTNESS * max(float(z.var(axis=0).sum()), 1e-12)
    cost = (places**2).sum(axis=1) - 2 * z @ places.T
    best, evenest = prices, (n_cells, np.inf)
    for _ in range(_LEVELLING):
        load = np.bincount(np.argmin(cost + prices, axis=1), minlength=n_cells) * n_cells / len(z)
        if (spread := (int((load == 0).sum()), float(((load - 1) ** 2).sum()))) < evenest:
            best, evenest = prices, spread
        if load.max() - load.min() <= n_cells / len(z):
            break
        prices = prices + step * (load - 1)
        step *= 0.99
    return best


# ----------------------------------------------------------------------------------------------- as a kind of release


def as_codes(
    source: Source, secret: Secret, n_cells: int, public: Entry | None, *, least: int = LEAST, seed: int = 0
) -> Released:
    """Each record as the number of its cell; cells with fewer than `least` records left out.

    Raises InputError as require_policy and public_of, and where no record is left.
    """
    require_policy(n_cells, source.n, least)
    known, embeddings, states, patients = public_of(source, public, "codes")
    about = {"cohort": known.cohort, "model": known.model, "head_sha256": source.head_sha256}
    book = Codebook.build(embeddings, states, n_cells, patients=patients, seed=seed, about=about)
    kept = suppress(book.assign(source.embeddings), least)
    rows = np.flatnonzero(kept != SUPPRESSED)
    if not len(rows):
        raise InputError(f"No cell holds {least} records.", "Take fewer cells, or another public cohort.")
    made_of = sha256_of({name: one for name, one in vars(book).items() if isinstance(one, np.ndarray)})
    mechanism = {
        "name": "public codebook",
        "codebook": made_of,
        "cells": n_cells,
        "least": least,
        "suppressed": int(source.n - len(rows)),
        "public": f"{known.cohort} ({book.about['public_records']:,} records)",
    }
    purpose = f"codes K={n_cells} least={least} codebook={made_of} head={source.head_sha256}"
    values = {"code": pa.array(kept[rows], pa.int32())}
    return released(source, secret, mechanism, rows, values, purpose, {CODEBOOK: book.write})


def _make(source: Source, options: Options, secret: Secret) -> Released:
    least = LEAST if options.least is None else options.least
    return as_codes(source, secret, int(options.limit or 0), options.public, least=least)


def _sense(options: Options) -> None:
    """InputError without a K, or where it is no whole number."""
    if options.limit is None:
        raise InputError("A release of codes needs a limit.", "Give --limit: how many times better than guessing.")
    if options.limit != int(options.limit):
        raise InputError(f"--limit is {options.limit}.", "For codes it is K, a whole number of cells.")


def _bounds(stated: dict[str, Any]) -> limits.Bounds:
    """K/N, alone and jointly; one random label a record makes it a code of 2K cells."""
    cells, m, twice = int(stated["mechanism"]["cells"]), limits.most(stated), limits.labels(stated)
    # given which finding each record and candidate carries, each group is a deterministic public code of 2K cells
    groups = 1 if twice == 1 else twice * len(stated["one_label"]["findings"])
    return {
        "alone": lambda n: twice * bounds.cells(cells, n),
        "joint": lambda n: min(groups * cells / n, bounds.joint_information(math.log(twice * cells), n)),
        "together": lambda n: limits.power(twice * cells, m, n) / n,
        **limits.with_before(stated, float(twice * cells), 0.0),
    }


def _assumptions(stated: dict[str, Any]) -> list[str]:
    mechanism = stated["mechanism"]
    return [
        *limits.of_records(stated),
        f"The codebook was made from {mechanism['public']} alone, before it saw a record; the code has no noise.",
        f"Cells with fewer than {mechanism['least']} records are left out, a policy of the site "
        f"({mechanism['suppressed']:,} records); pools are of the records that are in the folder.",
    ]


def _check(folder: Path, content: dict[str, Any], table: pa.Table) -> None:
    """Codes are of cells that are large enough; the codebook is one of the certificate's cells, and carries its numbers
    and where it is from, nothing else."""
    path, mechanism = folder / TABLE, content["mechanism"]
    cells = table.column("code").to_numpy()
    if not ((cells >= 0) & (cells < mechanism["cells"])).all():
        raise StoreError(f"{path}: a code lies outside the {mechanism['cells']} cells.", ASK)
    counts = np.bincount(cells)
    if counts[counts > 0].min() < mechanism["least"]:
        few = int(np.flatnonzero((counts > 0) & (counts < mechanism["least"]))[0])
        raise StoreError(
            f"{path}: cell {few} holds {counts[few]} records, fewer than the {mechanism['least']} of the policy.",
            ASK,
        )
    path = folder / CODEBOOK
    book = Codebook.read(path)
    if book.n_cells != mechanism["cells"]:
        raise StoreError(f"{path} has {book.n_cells} cells, not {mechanism['cells']}.", ASK)
    doubles = dict.fromkeys(("mean", "weights", "places", "prices", "scores"), "F64")
    require_tensors(
        path,
        {**doubles, "centres": "F32", "occupancy": "I64", "trained": "U8"},
        {
            "codebook": {
                "cohort": shapes.NAME,
                "model": shapes.one_of(content["cohort"]["model"]),
                "head_sha256": shapes.HASH,
                "seed": shapes.whole(0),
                "public_records": shapes.whole(1),
            }
        },
    )
    said = book.about
    if mechanism["public"] != f"{said['cohort']} ({said['public_records']:,} records)":
        raise StoreError(f"{path} was made from another cohort than {mechanism['public']}.", ASK)


# -------------------------------------------------------------------------------------------------- what it is worth


def _cells_of(folder: Path) -> np.ndarray:
    return np.asarray(pq.read_table(folder / TABLE).column("code").to_numpy())


def _reader(folder: Path) -> tuple[str, tuple[str, ...], Probe | None]:
    """The cells' public scores, made linear: least squares over the centres, each counted as often as it occurs."""
    book = Codebook.read(folder / CODEBOOK)
    weight = np.sqrt(np.maximum(np.bincount(_cells_of(folder), minlength=book.n_cells), 1e-3))[:, None]
    mean = np.average(book.centres, axis=0, weights=weight[:, 0] ** 2)
    x, y = (book.centres - mean) * weight, (book.scores - book.scores.mean(axis=0)) * weight
    shrink = 1e-2 * np.trace(x.T @ x) / x.shape[1] * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + shrink, x.T @ y)
    trained = np.asarray(book.trained, dtype=bool)
    probe = Probe(mean, np.where(trained, weights, 0.0), np.full(len(LABELS), np.nan), trained)
    return "the codebook's public scores of each cell", LABELS, probe


def _taught(folder: Path, mechanism: Mapping[str, Any], states: np.ndarray, seed: int) -> tuple[str, Probe]:
    rows = Codebook.read(folder / CODEBOOK).centres[_cells_of(folder)]
    return "centres of cells with one label each", train_probe(rows, states, np.arange(len(rows)), seed)


# ------------------------------------------------------------------------------------------------- how it is measured


def public_codebook(public: Entry, n_cells: int, listed: Sequence[str] = LABELS, seed: int = 0) -> Codebook:
    """A codebook from a public cohort's embeddings and its labels of the listed findings."""
    records = public.records(public.default_split)
    clean = public.clean_images(records["record_id"])
    states = states_of(records)
    states[:, [name not in listed for name in LABELS]] = np.nan
    about = {"public": public.cohort, "findings": list(listed)}
    patients = records["patient_id"].to_numpy(str)
    return Codebook.build(clean, states, n_cells, patients=patients, seed=seed, about=about)


def coded(book: Codebook, least: int = LEAST) -> Mechanism:
    """What everybody knows of a codebook: the cell, and its centre as the vector. Cells below `least` say nothing."""

    def cells(rows: np.ndarray) -> np.ndarray:
        return suppress(book.assign(unit(rows)), least)

    def vectors(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found = cells(rows)
        return np.where(found[:, None] >= 0, book.centres[found], 0.0).astype(np.float32)

    return Mechanism(vectors, 0.0, cells, book.n_cells)


def of_cells(vectors: np.ndarray, states: np.ndarray) -> Probe:
    """A reader taught by the centres of cells; suppressed records teach nothing."""
    kept = np.abs(vectors).any(axis=1)
    return train_probe(vectors[kept], states[kept], np.arange(int(kept.sum())))


def _measured(entry: Entry, options: Options, seed: int) -> Measured:
    public = require_public("codes", options.public)
    book = public_codebook(public, int(options.limit or 0), options.listed, seed)
    return Measured(coded(book), "cells", of_cells, len(options.listed))


ROW = Kind(
    name="codes",
    title="Codes",
    words="each record as one of K cells of a public codebook",
    usage="--limit K --public COHORT: each record as one of K cells.",
    heading=lambda content: f"{content['cohort']['n_records']:,} records as codes of a public codebook",
    takes=("limit", "findings", "public", "one_label", "least", "secret", "new_secret", "per_patient"),
    make=_make,
    sense=_sense,
    column=Column("code", "its cell", lambda mechanism: pa.int32()),
    files={CODEBOOK: "the public codebook: centres of the cells, and how findings stand in them"},
    parts=lambda mechanism: {
        "name": shapes.one_of("public codebook"),
        "cells": shapes.whole(2),
        "least": shapes.whole(2),
        "suppressed": shapes.whole(0),
        "public": shapes.PUBLIC,
        "codebook": shapes.HASH,
    },
    check=_check,
    limit=Limit(
        bounds=_bounds,
        assumptions=_assumptions,
        lift=lambda mechanism: float(mechanism["cells"]),
        at=lambda option, n: float(bounds.cells(int(option["limit"]), n)),
    ),
    reader=_reader,
    taught=_taught,
    measured=_measured,
)
