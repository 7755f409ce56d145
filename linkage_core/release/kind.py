"""What a kind of release is: one row of the table in release.table, made in a file of its own under release.kinds.

A new kind is such a file, its row in the table, and what the app says of it (explorer.drawing.words).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from linkage_core.cohorts.base import LABELS
from linkage_core.release import limits
from linkage_core.release.keyed import Secret
from linkage_core.release.records import TABLE, Released, Source
from linkage_core.release.stated import Shape
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.utility.probe import Probe


@dataclass(frozen=True)
class Options:
    """What is asked for. None: not given.

    limit: K of codes, L of capped. epsilon: of statistics; of capped, a pointwise bound beside L. public_size: the
    number of patients that statistics may tell; None: their number, rounded down (accounting.public_size). findings:
    the list that statistics, scores and one random label are about, all 14 if None. least: smallest cell that is
    released. per_patient: at most so many records of one patient. noise: standard deviation in each coordinate of
    embeddings. secret: the site's file; new_secret makes it. unlimited: enter in the ledger what nothing limits.
    reproducible: noise that anybody can make again, for synthetic cohorts.
    """

    kind: str
    limit: float | None = None
    epsilon: float | None = None
    delta: float | None = None
    public_size: int | None = None
    split: str | None = None
    head: str = OFF_THE_SHELF
    findings: tuple[str, ...] | None = None
    public: Entry | None = None
    one_label: bool = False
    least: int | None = None
    per_patient: int | None = None
    noise: float | None = None
    secret: Path | None = None
    new_secret: bool = False
    ledger: Path | None = None
    unlimited: bool = False
    reproducible: bool = False

    @property
    def listed(self) -> tuple[str, ...]:
        """The findings in question."""
        return LABELS if self.findings is None else self.findings


@dataclass(frozen=True)
class Mechanism:
    """How an embedding becomes a released record, as everybody may know it.

    vectors: (unit rows (n, e), rng) -> (n, e) what a recipient computes with, unbiased where it can be; rng stands for
    the keyed noise. noise: standard deviation of a coordinate of it. cells: unit rows -> cell of each, for a release
    that is one of n_cells values; -1 is suppressed, and its vector is zero, which ranks nothing. What is suppressed
    may depend on which rows are given: the rows are those of one release.
    """

    vectors: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    noise: float = 0.0
    cells: Callable[[np.ndarray], np.ndarray] | None = None
    n_cells: int = 0


@dataclass(frozen=True)
class Measured:
    """One setting of a kind as it is measured: the mechanism that attackers are handed, and what the frontier notes.

    of: what the ceiling knows it by (release.ceiling), "cells" for codes, None for what has none. reader: released
    vectors (n, e) and states (n, 14), NaN where not told -> a probe for clean embeddings, where one finding travels
    with each record; None where that teaches nothing. listed: how many findings its maker had to list. mu: of Gaussian
    noise, NaN for other limits.
    """

    mechanism: Mechanism
    of: Any = None
    reader: Callable[[np.ndarray, np.ndarray], Probe] | None = None
    listed: int = 0
    mu: float = math.nan


@dataclass(frozen=True)
class Column:
    """The second column of records.parquet: its name, what stands in it, and its type for a certificate's mechanism."""

    name: str
    words: str
    type: Callable[[Mapping[str, Any]], pa.DataType]


@dataclass(frozen=True)
class Limit:
    """What is certified of a kind, for whatever attacker. `stated`: certificate.STATED.

    bounds: stated -> upper bounds on Recall@1, {} where there are none; noise that can be repeated is seen to by the
    certificate. assumptions: stated -> what they rest on. lift: mechanism -> the lift that holds for every N, before
    labels double it; None where it depends on N, and then `sentences` (rows of certificate.figures) are the heart of
    the certificate, the first one most of all. mu: stated -> what all records of a patient cost in a ledger that counts
    Gaussian noise; None: they cost their lift. holds_for: stated -> which N the figures are about.

    at, jointly: (option, N) -> the largest recall by an option of lab.frontier: of one record, or of one image where
    sums left, and of the whole folder matched one to one where that is more. paired: the same as at, for an attacker to
    whom the other patients' data do not depend on which report is right, where that is less.
    shown: heading of a figure (certificate.FIGURES) in a table, where it is not the usual one.
    """

    bounds: Callable[[dict[str, Any]], limits.Bounds]
    assumptions: Callable[[dict[str, Any]], list[str]]
    lift: Callable[[dict[str, Any]], float | None] = lambda mechanism: None
    mu: Callable[[dict[str, Any]], float | None] = lambda stated: None
    sentences: Callable[[list[dict[str, Any]]], list[str]] = limits.of_one_record
    holds_for: Callable[[dict[str, Any]], str] = limits.among_records
    at: Callable[[Mapping[str, Any], int], float] = lambda option, n: math.nan
    jointly: Callable[[Mapping[str, Any], int], float] | None = None
    paired: Callable[[Mapping[str, Any], int], float] | None = None
    shown: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    In words: name, as --kind takes it; title, in lists; words, what is released, in a certificate; usage, its options
    and what it is for, in the help of the command; heading: content of a certificate -> title of its page.

    What is asked: takes, the Options that mean something for it, beside those that every kind has; sense: raises
    InputError for options that do not fit each other.

    What is released: make: (source, options, secret) -> Released. column: of the table of records; None for a release
    of something else, whose data are `files` alone. files: {name: what it is} of data files beside that table.

    What is said of it: parts: mechanism that came -> the shape that a certificate's may have (stated.Shape);
    disagreement: stated -> which two parts cannot both be so, "" where all agree; check: (folder, content, table of
    records) raises StoreError where data are not what the
    certificate says; no table for a release of something else. limit: None for what nothing limits.

    What it is worth: reader: folder -> (what it was trained on, its findings in order, a probe or None) from the
    release alone; taught: (folder, mechanism, states (n, findings), seed) -> (the same, a probe), where the state of
    one finding travels with each record. None where it cannot be.

    How it is measured: measured: (entry, options, seed) -> Measured, at one setting; None: the lab does otherwise.
    """

    name: str
    title: str
    words: str
    usage: str
    heading: Callable[[dict[str, Any]], str]
    takes: tuple[str, ...]
    make: Callable[[Source, Options, Secret], Released]
    parts: Callable[[Any], Shape]
    check: Callable[[Path, dict[str, Any], pa.Table], None]
    column: Column | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    limit: Limit | None = None
    sense: Callable[[Options], None] = lambda options: None
    disagreement: Callable[[Mapping[str, Any]], str] = lambda stated: ""
    reader: Callable[[Path], tuple[str, tuple[str, ...], Probe | None]] | None = None
    taught: Callable[[Path, Mapping[str, Any], np.ndarray, int], tuple[str, Probe]] | None = None
    measured: Callable[[Entry, Options, int], Measured] | None = None

    @property
    def per_record(self) -> bool:
        """Does a row leave for each record? Then numbers and noise are keyed, and the records of a patient add up."""
        return self.column is not None

    @property
    def data_files(self) -> tuple[str, ...]:
        """Names of all data files."""
        return (TABLE, *self.files) if self.per_record else (*self.files,)

    @property
    def labelled(self) -> bool:
        """May the state of one random finding travel with each record?"""
        return "one_label" in self.takes

    @property
    def always_limited(self) -> bool:
        """Does something limit every release of this kind?"""
        return "unlimited" not in self.takes

    def limited(self, options: Options) -> bool:
        """Would anything limit this release?"""
        return self.always_limited or bool(options.noise)
