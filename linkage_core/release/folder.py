"""A release folder: data, `certificate.json` and `release.html`; written whole or not at all, and checked whole.

    records.parquet         an opaque record number and a code, a vector or scores; not with `statistics`
    codebook.safetensors    the public codebook; with `codes` alone
    statistics.safetensors  noisy sums over patients; with `statistics` alone
    certificate.json        what was done, the limit, for whom it holds, what must not travel along, sha256 of the files
    release.html            the same for a person

Nothing else may be in it: every further column or file could carry more than the certificate limits, so `check` refuses
a folder that has one, and names it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.release import central, certificate, codes, page
from linkage_core.release.certificate import CODES, PER_RECORD, SCHEMA, STATISTICS, Certificate
from linkage_core.release.records import CODEBOOK, COLUMNS, LABEL_COLUMNS, TABLE
from linkage_core.store import sha256, write_json

CERTIFICATE, PAGE, SUMS = "certificate.json", "release.html", "statistics.safetensors"
FILES = {**dict.fromkeys(PER_RECORD, (TABLE,)), CODES: (TABLE, CODEBOOK), STATISTICS: (SUMS,)}
"""Data files of each kind."""

_OFF_SPHERE = 1e-3
_ASK = "Ask the site for the release again, and tell them what this said."


def require_free(out: Path) -> None:
    """InputError where a release cannot be written to `out`: it exists, or there is no folder to hold it."""
    if out.exists() or out.is_symlink():
        raise InputError(f"{out} exists.", "A release is never written over anything: name a new folder.")
    if not out.resolve().parent.is_dir():
        raise InputError(f"There is no folder {out.resolve().parent}.", "Make it, or name another place.")
    if not os.access(out.resolve().parent, os.W_OK):
        raise InputError(f"{out.resolve().parent} cannot be written.", "Name a place that you may write to.")


class Making:
    """A release that is being written, in a hidden folder beside its place: data first, certificate and page last.

    path: where the files stand until they are finished.
    """

    def __init__(self, path: Path, out: Path) -> None:
        self.path, self._out = path, out
        self._files: dict[str, dict[str, Any]] = {}

    def write(self, data: Mapping[str, Callable[[Path], None]]) -> None:
        """The data files, by their writers."""
        for name, save in data.items():
            save(self.path / name)
            self._files[name] = _described(self.path / name)

    def files(self) -> dict[str, str]:
        """{name: sha256} of the data files written so far."""
        return {name: said["sha256"] for name, said in self._files.items()}

    def finish(self, stated: Mapping[str, Any]) -> Certificate:
        """Page and certificate; then the folder is checked and gets its name. stated: certificate.STATED without
        `files`."""
        drawn = page.render(certificate.finished({**stated, "files": self._files}))
        (self.path / PAGE).write_text(drawn, encoding="utf-8")
        made = certificate.finished({**stated, "files": {**self._files, PAGE: _described(self.path / PAGE)}})
        write_json(self.path / CERTIFICATE, made.content)
        check(self.path)
        self.path.rename(self._out)
        return made


@contextmanager
def begin(out: Path) -> Iterator[Making]:
    """Claim `out` for a release that is written in two steps; nobody else can until the block ends.

    The hidden folder beside `out` (mode 0700) goes with the block, whatever happened in it: what was not finished is
    gone. One that a killed release left is emptied and used. Raises InputError where `out` is not free, or another
    release is being written there.
    """
    require_free(out)
    place = out.resolve()
    hidden = place.parent / f".{place.name}.writing"
    handle = _claimed(hidden, out)
    try:
        require_free(out)  # the one who held it a moment ago may have finished
        _emptied(hidden)
        (hidden / "release").mkdir()
        yield Making(hidden / "release", place)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        os.close(handle)


def _claimed(hidden: Path, out: Path) -> int:
    """A handle of the hidden folder, locked; the lock goes with the process, so a folder that can be locked is either
    new or left by a process that is dead."""
    import fcntl

    busy = InputError(
        f"Another release is being written to {out}: {hidden} is in use.",
        "Wait until it is done, or name a new folder.",
    )
    try:
        with suppress(FileExistsError):
            hidden.mkdir(mode=0o700)
        handle = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise busy from None  # its holder removed it just now
    except OSError as error:
        raise InputError(f"{hidden} cannot be used ({error}).", "Remove it, or name another place.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.fchmod(handle, 0o700)
        if not os.path.samestat(os.fstat(handle), hidden.stat()):
            raise FileNotFoundError(hidden)
    except (BlockingIOError, FileNotFoundError):
        os.close(handle)
        raise busy from None
    except OSError as error:
        os.close(handle)
        raise InputError(f"{hidden} cannot be locked ({error}).", "Remove it, or name another place.") from error
    return handle


def _emptied(hidden: Path) -> None:
    for left in hidden.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def write(out: Path, stated: Mapping[str, Any], data: Mapping[str, Callable[[Path], None]]) -> Certificate:
    """A new folder `out` in one step: see Making."""
    with begin(out) as making:
        making.write(data)
        return making.finish(stated)


def save_table(table: pa.Table) -> Callable[[Path], None]:
    """A writer of records.parquet: the columns, and no metadata beside them."""
    return lambda path: pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def check(folder: Path) -> Certificate:
    """Is this folder what its certificate says, and does the certificate say what its bounds give?

    Raises InputError or StoreError that names what differs: a file or a column too many, too few or altered, a figure
    that the bounds do not give, a cell that is too small, a row off the sphere. It cannot tell whether the site did
    what the certificate says: compare the digest with the one in the site's ledger.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no release folder {folder}.", "Give the folder that holds certificate.json.")
    content = _content(folder)
    kind = str(content["kind"])
    wanted = {*FILES[kind], PAGE}
    _require_files(folder, content["files"], wanted)
    if kind in PER_RECORD:
        _require_columns(folder / TABLE, content)
    for name in sorted(wanted):
        said, path = content["files"][name], folder / name
        if path.stat().st_size != said.get("bytes") or sha256(path) != said.get("sha256"):
            raise StoreError(f"{path} was altered since it was certified: its sha256 differs.", _ASK)
    try:
        if kind == STATISTICS:
            _check_sums(folder / SUMS, content)
        else:
            _check_records(folder, content)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{folder / CERTIFICATE} does not fit its data ({error!r}).", _ASK) from error
    return Certificate(content)


def _described(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def _content(folder: Path) -> dict[str, Any]:
    """The certificate's JSON, if it is whole, unaltered, and what the bounds give."""
    path = folder / CERTIFICATE
    if not path.is_file():
        raise InputError(f"{folder} has no {CERTIFICATE}.", "A release without it promises nothing. " + _ASK)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise StoreError(f"{path} cannot be read ({error}).", _ASK) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise StoreError(f"{path} is no certificate of schema {SCHEMA}.", _ASK)
    known = {*certificate.STATED, *certificate.DERIVED, "digest"}
    if odd := sorted(known ^ set(content)):
        raise StoreError(f"{path} {'has' if odd[0] in content else 'lacks'} the part {odd[0]!r}.", _ASK)
    if content["digest"] != certificate.digest_of(content):
        raise StoreError(f"{path} was altered since it was written: its digest differs.", _ASK)
    stated = {name: content[name] for name in certificate.STATED}
    try:
        fresh = certificate.derived(stated)
    except LinkageError as error:
        raise StoreError(f"{path} states what has no meaning: {error.what}", _ASK) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{path} states what has no meaning ({error!r}).", _ASK) from error
    where = certificate.difference({name: content[name] for name in certificate.DERIVED}, fresh)
    if where:
        raise StoreError(
            f"{path}: {where} is not what the bounds give for this release.",
            "It was altered, or written by another version of Linkage Explorer "
            f"({content['versions'].get('linkage-explorer')}). " + _ASK,
        )
    return content


def _require_files(folder: Path, said: dict[str, Any], wanted: set[str]) -> None:
    """Exactly the files of the kind, as plain files."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    if extra := sorted(found - wanted - {CERTIFICATE}):
        raise StoreError(
            f"{folder} has {extra[0]!r}, which is no part of this release"
            + (f" (and {len(extra) - 1} more)." if len(extra) > 1 else "."),
            "Whatever travels along can link: remove it, and ask the site how it came there.",
        )
    for name in sorted(wanted):
        path = folder / name
        if name not in said or not isinstance(said[name], dict):
            raise StoreError(f"The certificate does not list {name}.", _ASK)
        if path.is_symlink() or not path.is_file():
            raise StoreError(f"{path} is missing.", _ASK)
    if extra := sorted(set(said) - wanted):
        raise StoreError(f"The certificate lists {extra[0]!r}, which is no part of this release.", _ASK)


def _require_columns(path: Path, content: dict[str, Any]) -> None:
    """Exactly the columns of the kind, of the right types, with nothing written beside them."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is not a whole Parquet file ({error}).", _ASK) from error
    wanted = ("record", COLUMNS[content["kind"]], *(LABEL_COLUMNS if content["one_label"] else ()))
    if extra := [name for name in schema.names if name not in wanted]:
        raise StoreError(
            f"{path} has the column {extra[0]!r}, which is no part of this release.",
            "Whatever travels along can link, and the certificate is void: ask the site how it came there.",
        )
    if tuple(schema.names) != wanted:
        raise StoreError(f"{path} has the columns {', '.join(schema.names)}.", f"It should have {', '.join(wanted)}.")
    if schema.metadata:
        raise StoreError(f"{path} carries metadata beside its columns.", _ASK)
    types = {"record": pa.types.is_string, "code": pa.types.is_int32, "finding": pa.types.is_int8}
    types |= {"present": pa.types.is_boolean}
    types |= dict.fromkeys(("vector", "scores"), pa.types.is_fixed_size_list)
    for field in schema:
        if not types[field.name](field.type):
            raise StoreError(f"{path}: column {field.name!r} is of type {field.type}.", _ASK)


def read_vectors(folder: Path) -> np.ndarray:
    """(n, d) float32: the vectors or scores of a release, in the order of its table."""
    column = pq.read_table(folder / TABLE).column(1).combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _check_records(folder: Path, content: dict[str, Any]) -> None:
    """Numbers unique and in order, as many rows as stated; codes of cells that are large enough; rows on the sphere."""
    table, kind, mechanism = pq.read_table(folder / TABLE), content["kind"], content["mechanism"]
    path = folder / TABLE
    numbers = table.column("record").to_numpy()
    if len(table) != content["cohort"]["n_records"]:
        raise StoreError(f"{path} has {len(table):,} records, not {content['cohort']['n_records']:,}.", _ASK)
    if any(column.null_count for column in table.columns):
        raise StoreError(f"{path} has empty cells.", _ASK)
    if (numbers[1:] <= numbers[:-1]).any():
        raise StoreError(f"{path}: rows do not stand in the order of their numbers.", _ASK)
    if content["one_label"]:
        which = table.column("finding").to_numpy()
        if not ((which >= 0) & (which < len(content["one_label"]["findings"]))).all():
            raise StoreError(f"{path}: a finding lies outside the list of the certificate.", _ASK)
    if kind == CODES:
        cells = table.column("code").to_numpy()
        if not ((cells >= 0) & (cells < mechanism["cells"])).all():
            raise StoreError(f"{path}: a code lies outside the {mechanism['cells']} cells.", _ASK)
        counts = np.bincount(cells)
        if counts[counts > 0].min() < mechanism["least"]:
            few = int(np.flatnonzero((counts > 0) & (counts < mechanism["least"]))[0])
            raise StoreError(
                f"{path}: cell {few} holds {counts[few]} records, fewer than the {mechanism['least']} of the policy.",
                _ASK,
            )
        book = codes.Codebook.read(folder / CODEBOOK)
        if book.n_cells != mechanism["cells"]:
            raise StoreError(f"{folder / CODEBOOK} has {book.n_cells} cells, not {mechanism['cells']}.", _ASK)
        return
    rows = read_vectors(folder).astype(np.float64)
    width = len(mechanism["findings"]) if "findings" in mechanism else mechanism["dimension"]
    if rows.shape[1] != width or not np.isfinite(rows).all():
        raise StoreError(f"{path}: vectors have {rows.shape[1]} numbers, not {width} finite ones.", _ASK)
    if "dimension" in mechanism:
        off = np.flatnonzero(np.abs(np.linalg.norm(rows, axis=1) - 1) > _OFF_SPHERE)
        if len(off):
            raise StoreError(f"{path}: the vector of record {numbers[off[0]]} is off the sphere.", _ASK)


def _check_sums(path: Path, content: dict[str, Any]) -> None:
    """The sums are those of the certificate's mechanism: findings, patients, noise."""
    made, mechanism = central.Statistics.read(path), content["mechanism"]
    for name, found in sums_mechanism(made).items():
        where = certificate.difference(mechanism.get(name), found)
        if where:
            raise StoreError(f"{path}: its {name} is not the certificate's.", _ASK)


def sums_mechanism(made: central.Statistics) -> dict[str, Any]:
    """What the certificate says of the sums: the numbers of the mechanism, from the file alone."""
    return {
        "name": "Gaussian mechanism on clipped sums over patients",
        "findings": list(made.query.findings),
        "n_patients": made.n_patients,
        "clip": made.query.clip,
        "multiplier": made.multiplier,
        "delta": made.delta,
        "mu": None if not made.multiplier else made.mu,
        "public": made.query.frame.made_from,
        "seed": made.seed,
    }
