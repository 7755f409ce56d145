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
import re
import reprlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linkage_core import __version__
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.release import certificate, page, stated
from linkage_core.release.certificate import CODES, PER_RECORD, SCHEMA, STATISTICS, Certificate
from linkage_core.release.kinds import codes, statistics
from linkage_core.release.records import CODEBOOK, COLUMNS, LABEL_COLUMNS, TABLE
from linkage_core.store.files import sha256, write_json

CERTIFICATE, PAGE, SUMS = "certificate.json", "release.html", "statistics.safetensors"
FILES = {**dict.fromkeys(PER_RECORD, (TABLE,)), CODES: (TABLE, CODEBOOK), STATISTICS: (SUMS,)}
"""Data files of each kind."""

NUMBER_BYTES = 8
"""Of a record number, written as twice as many hexadecimal digits."""

_ABOUT = {"cohort": "name", "model": "model", "head": "head"}
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

    def finish(self, said: Mapping[str, Any]) -> Certificate:
        """Page and certificate; then the folder is checked and gets its name. said: certificate.STATED without
        `files`."""
        drawn = page.render(certificate.finished({**said, "files": self._files}))
        (self.path / PAGE).write_text(drawn, encoding="utf-8")
        made = certificate.finished({**said, "files": {**self._files, PAGE: _described(self.path / PAGE)}})
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


def save_table(table: pa.Table) -> Callable[[Path], None]:
    """A writer of records.parquet: the columns, and no metadata beside them."""
    return lambda path: pq.write_table(table.replace_schema_metadata(None), path, compression="zstd")


def check(folder: Path) -> Certificate:
    """Is this folder what its certificate says, and does the certificate say what its bounds give?

    Raises InputError or StoreError that names what differs: a file, a column, a part or a note too many, too few or
    altered, a figure that the bounds do not give, a cell that is too small, a row off the sphere. It cannot tell
    whether the site did what the certificate says: only the site's ledger can.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no release folder {folder}.", "Give the folder that holds certificate.json.")
    try:
        content = _content(folder)
        _require_files(folder, content)
        if content["kind"] == STATISTICS:
            _check_sums(folder / SUMS, content)
        else:
            _check_records(folder, content)
        _require_page(folder, content)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StoreError(f"{folder} holds what has no meaning ({_short(error)}).", _ASK) from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{folder} cannot be read ({_short(error)}).", _ASK) from error
    return Certificate(content)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _described(path: Path) -> dict[str, Any]:
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def _content(folder: Path) -> dict[str, Any]:
    """The certificate's JSON, if it is whole, unaltered, and what the bounds give."""
    path = folder / CERTIFICATE
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{folder} has no {CERTIFICATE}.", "A release without it promises nothing. " + _ASK)
    try:
        said = path.read_text(encoding="utf-8")
        content = json.loads(said)
    except ValueError as error:
        raise StoreError(f"{path} cannot be read ({_short(error)}).", _ASK) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise StoreError(f"{path} is no certificate of schema {SCHEMA}.", _ASK)
    known = {*certificate.STATED, *certificate.DERIVED, "digest"}
    if odd := sorted(known ^ set(content)):
        has = "has" if odd[0] in content else "lacks"
        raise StoreError(f"{path} {has} the part {reprlib.repr(odd[0])}.", _ASK)
    if content["digest"] != certificate.digest_of(content):
        raise StoreError(f"{path} was altered since it was written: its digest differs.", _ASK)
    try:
        fresh = certificate.derived({name: content[name] for name in certificate.STATED})
    except LinkageError as error:
        raise StoreError(f"{path} states what has no meaning: {error.what}", _ASK) from error
    where = certificate.difference({name: content[name] for name in certificate.DERIVED}, fresh)
    if where:
        raise StoreError(
            f"{path}: {reprlib.repr(where)[1:-1]} is not what the bounds give for this release.",
            "It was altered, or written by another version of Linkage Explorer "
            f"({content['versions']['linkage-explorer']}). " + _ASK,
        )
    if said != json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n":  # as write_json writes it
        raise StoreError(f"{path} is not written as certificates are: a space or a part stands there twice.", _ASK)
    return content


def _require_files(folder: Path, content: dict[str, Any]) -> None:
    """Exactly the files of the kind, as plain files, each as certified. The page may be left out, see _require_page."""
    said, wanted = content["files"], {*FILES[content["kind"]], PAGE}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    if extra := sorted(found - wanted - {CERTIFICATE}):
        raise StoreError(
            f"{folder} has {extra[0]!r}, which is no part of this release"
            + (f" (and {len(extra) - 1} more)." if len(extra) > 1 else "."),
            "Whatever travels along can link: remove it, and ask the site how it came there.",
        )
    if odd := sorted(wanted ^ set(said)):
        raise StoreError(
            f"The certificate lists {odd[0]!r}, which is no part of this release."
            if odd[0] in said
            else f"The certificate does not list {odd[0]}.",
            _ASK,
        )
    if _other_version(content) and PAGE not in found:
        wanted.remove(PAGE)
    for name in sorted(wanted):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise StoreError(f"{path} is missing.", _ASK)
    if TABLE in wanted:
        _require_columns(folder / TABLE, content)
    for name in sorted(wanted):
        path = folder / name
        if path.stat().st_size != said[name]["bytes"] or sha256(path) != said[name]["sha256"]:
            raise StoreError(f"{path} was altered since it was certified: its sha256 differs.", _ASK)


def _other_version(content: dict[str, Any]) -> bool:
    return bool(content["versions"]["linkage-explorer"] != __version__)


def _require_page(folder: Path, content: dict[str, Any]) -> None:
    """The page is the one that this certificate gives, to the byte: a person reads it, and nobody reads its comments.

    Another version may word it otherwise. Then nobody can tell, and a recipient goes by the certificate alone: the page
    has to be removed, unread.
    """
    path = folder / PAGE
    if not path.exists():
        return
    data = {name: said for name, said in content["files"].items() if name != PAGE}
    if path.read_bytes() == page.render(Certificate({**content, "files": data})).encode():
        return
    if _other_version(content):
        raise StoreError(
            f"{path} cannot be compared with its certificate: it was made by version "
            f"{content['versions']['linkage-explorer']}, and this is {__version__}.",
            f"Delete {PAGE} unread and check again: {CERTIFICATE} then stands alone. Or check with that version.",
        )
    raise StoreError(f"{path} is not the page of its certificate.", _ASK)


def _require_columns(path: Path, content: dict[str, Any]) -> None:
    """Exactly the columns of the kind, of the right types, with nothing written beside them."""
    try:
        with pq.ParquetFile(path) as file:
            schema, notes, writer = file.schema_arrow, file.metadata.metadata, file.metadata.created_by
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path} is not a whole Parquet file ({_short(error)}).", _ASK) from error
    kind, mechanism = content["kind"], content["mechanism"]
    value = COLUMNS[kind]
    wanted = ("record", value, *(LABEL_COLUMNS if content["one_label"] else ()))
    if extra := [name for name in schema.names if name not in wanted]:
        raise StoreError(
            f"{path} has the column {reprlib.repr(extra[0])}, which is no part of this release.",
            "Whatever travels along can link, and the certificate is void: ask the site how it came there.",
        )
    if tuple(schema.names) != wanted:
        raise StoreError(f"{path} has the columns {', '.join(schema.names)}.", f"It should have {', '.join(wanted)}.")
    width = len(mechanism["findings"]) if "findings" in mechanism else mechanism.get("dimension", 1)
    types = {"record": pa.string(), "finding": pa.int8(), "present": pa.bool_(), "code": pa.int32()}
    types |= dict.fromkeys(("vector", "scores"), pa.list_(pa.float32(), width))
    for field in schema:
        if field.type != types[field.name]:
            raise StoreError(
                f"{path}: column {field.name!r} is of type {field.type}.", f"It should be {types[field.name]}."
            )
    fields = [*schema, *(field.type.value_field for field in schema if pa.types.is_fixed_size_list(field.type))]
    named = {*wanted, "element", "item"}
    beside = schema.metadata or {*(notes or {})} - {b"ARROW:schema"}
    if beside or any(field.metadata or field.name not in named for field in fields):
        raise StoreError(f"{path} carries metadata beside its columns.", _ASK)
    if not re.fullmatch(r"parquet-cpp-arrow version [0-9.]{1,20}(-SNAPSHOT)?", writer or ""):
        raise StoreError(f"{path} carries a note of its writer: {reprlib.repr(writer)}.", _ASK)


def read_vectors(folder: Path) -> np.ndarray:
    """(n, d) float32: the vectors or scores of a release, in the order of its table."""
    column = pq.read_table(folder / TABLE).column(1).combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _check_records(folder: Path, content: dict[str, Any]) -> None:
    """Numbers opaque, unique and in order, as many rows as stated; codes of cells that are large enough; rows on the
    sphere."""
    table, kind, mechanism = pq.read_table(folder / TABLE), content["kind"], content["mechanism"]
    path = folder / TABLE
    if len(table) != content["cohort"]["n_records"]:
        raise StoreError(f"{path} has {len(table):,} records, not {content['cohort']['n_records']:,}.", _ASK)
    if any(column.null_count for column in table.columns):
        raise StoreError(f"{path} has empty cells.", _ASK)
    opaque = pc.match_substring_regex(table.column("record"), f"^[0-9a-f]{{{2 * NUMBER_BYTES}}}$")
    if not pc.all(opaque).as_py():
        raise StoreError(
            f"{path}: a record number is not {2 * NUMBER_BYTES} hexadecimal digits.",
            "Whatever stands there in its place can link: ask the site how it came there.",
        )
    numbers = table.column("record").to_numpy()
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
        _check_codebook(folder / CODEBOOK, content)
        return
    rows = read_vectors(folder).astype(np.float64)
    if not np.isfinite(rows).all():
        raise StoreError(f"{path}: a number is not finite.", _ASK)
    if "dimension" in mechanism:
        off = np.flatnonzero(np.abs(np.linalg.norm(rows, axis=1) - 1) > _OFF_SPHERE)
        if len(off):
            raise StoreError(f"{path}: the vector of record {numbers[off[0]]} is off the sphere.", _ASK)


def _check_codebook(path: Path, content: dict[str, Any]) -> None:
    """The codebook is one of the certificate's cells, and carries its numbers and where it is from, nothing else."""
    book, mechanism = codes.Codebook.read(path), content["mechanism"]
    if book.n_cells != mechanism["cells"]:
        raise StoreError(f"{path} has {book.n_cells} cells, not {mechanism['cells']}.", _ASK)
    doubles = dict.fromkeys(("mean", "weights", "places", "prices", "scores"), "F64")
    _require_tensors(
        path,
        {**doubles, "centres": "F32", "occupancy": "I64", "trained": "U8"},
        {
            "codebook": {
                "cohort": stated.NAME,
                "model": stated.one_of(content["cohort"]["model"]),
                "head_sha256": stated.HASH,
                "seed": stated.whole(0),
                "public_records": stated.whole(1),
            }
        },
    )
    said = book.about
    if mechanism["public"] != f"{said['cohort']} ({said['public_records']:,} records)":
        raise StoreError(f"{path} was made from another cohort than {mechanism['public']}.", _ASK)


def _require_tensors(path: Path, types: Mapping[str, str], note: stated.Shape) -> None:
    """A safetensors file of exactly these tensors, {name: type}, with one note of that shape and nothing around it."""
    with path.open("rb") as file:
        said = file.read(int.from_bytes(file.read(8), "little"))
    head = json.loads(said)
    held = head.pop("__metadata__", {})
    if odd := sorted({*head} ^ {*types}):
        raise StoreError(f"{path} {'has' if odd[0] in head else 'lacks'} the tensor {reprlib.repr(odd[0])}.", _ASK)
    for name, kind in types.items():
        if head[name]["dtype"] != kind:
            raise StoreError(f"{path}: {name} is of type {head[name]['dtype']}, not {kind}.", _ASK)
    if set(held) != {"note"}:
        raise StoreError(f"{path} carries other notes than its own.", _ASK)
    told = json.loads(held["note"])
    if where := stated.misfit(note, told):
        raise StoreError(f"{path}: in its note {where}", _ASK)
    plain = json.dumps({"__metadata__": held, **head}, separators=(",", ":"), ensure_ascii=False).encode()
    if held["note"] != json.dumps(told, sort_keys=True) or len(said.rstrip(b" ")) != len(plain) or len(said) % 8:
        raise StoreError(f"{path}: its header holds more than it says.", _ASK)


def _check_sums(path: Path, content: dict[str, Any]) -> None:
    """The sums are those of the certificate's mechanism: findings, patients, noise; with nothing else in the file."""
    made, mechanism, cohort = statistics.Statistics.read(path), content["mechanism"], content["cohort"]
    for name, found in sums_mechanism(made).items():
        where = certificate.difference(mechanism[name], found)
        if where:
            raise StoreError(f"{path}: its {name} is not the certificate's.", _ASK)
    k, e, r = len(mechanism["findings"]), *made.query.frame.to.shape
    shapes = {"prevalence": (k,), "weights": (k,)}
    for name, shape in shapes.items():
        if getattr(made.query, name).shape != shape:
            raise StoreError(f"{path}: {name} is not of shape {shape}.", _ASK)
    frame = made.query.frame
    if frame.centre.shape != (e,) or frame.back.shape != (e, r):
        raise StoreError(f"{path}: its frame is not of one shape.", _ASK)
    finite = (made.label, made.second, made.query.prevalence, made.query.weights, frame.centre, frame.to, frame.back)
    if not all(np.isfinite(one).all() for one in finite):
        raise StoreError(f"{path}: a number is not finite.", _ASK)
    doubles = ["prevalence", "weights", "centre", "to", "back"]
    source = stated.one_of(mechanism["public"])
    note: dict[str, Any] = {
        "kind": stated.one_of(STATISTICS),
        "schema": stated.whole(1),
        "made_from": source,
        "findings": stated.findings,
        "about": {name: stated.one_of(cohort[of]) for name, of in _ABOUT.items()},
        "seed": stated.one_of(mechanism["seed"]),
        **{name: stated.number(0.0) for name in ("second", "constant", "clip", "n_patients", "multiplier", "delta")},
    }
    if made.query.start is not None:
        note["start_from"] = source
        doubles += [f"start_{name}" for name in ("weights", "intercept", "variance", "curvature")]
    _require_tensors(path, {**dict.fromkeys(doubles, "F64"), "label": "F32", "second": "F32"}, note)


def sums_mechanism(made: statistics.Statistics) -> dict[str, Any]:
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
