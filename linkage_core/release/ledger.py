"""What has each patient's data been used for, and what is left of the site's budget? An append-only book at the site.

A query of `statistics` costs each patient in it a mu, and the squares add up (Dong, Roth and Su, Gaussian Differential
Privacy, 2022, corollary 3.3: m Gaussians are one, of the root of the sum of squares). A record that leaves with a
certified lift L costs its patient ln L; logarithms add (bounds.compose_lifts), so several records of one patient, and
several releases, add up. The two are counted apart, each against its own budget: who holds both a file of statistics
and a record has the limit of neither alone. Records that leave without any limit are entered too (lift infinite), and
end it: later record releases of these patients are refused.

The book is a cohort's, by name: a corrected label or a new image begins no new budget, and patients who came later are
added to it. It keeps all images of patients of whom something left, and whose they are, by keyed hashes of their
content (`keyed.image_key`): none of them is released as another patient's, and who charges another ledger can ask for
them here (known.py). Entries from before images were kept have none.

One sqlite3 file, and beside it a key. Patients, entries, charges and images are only ever added: triggers refuse
anything else, and each entry carries a keyed hash over its content, its charges and the entry before, so `verify` finds
what was altered by other means, and nothing is charged to such a book. That an older copy was put back, or the last
entries cut off, shows only against a digest kept elsewhere: a certificate carries it. An entry and its charges are one
transaction on disk before `charge` returns; a process that is killed leaves all or none. Patients and images are stored
as keyed hashes. Whoever has both files can test whether somebody is in the book: they stay at the site.

A third file, `PATH.checked`, has a keyed hash of the whole book as the last charge left it: while the book is that to
the byte, the next charge hashes its bytes and not every entry again. Without it, or with another, all is checked.
"""

from __future__ import annotations

import glob
import hashlib
import hmac
import json
import math
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.disk import sync_folder
from linkage_core.errors import InputError, StoreError
from linkage_core.mitigation import accounting
from linkage_core.release import bounds

SCHEMA = 2
ADDED = "patients added"
"""The mechanism of an entry that appends patients and charges nobody."""
_WAIT = 60.0  # seconds for another process's charge
_OF_NO_ENTRY = ((0, 24), (28, 92), (100, None))
"""What is hashed of a book's bytes: all but the counters of changes that SQLite sets as it commits (file format 1.3.6,
1.3.17 and 1.3.18)."""
_ROUNDING = 1e-9
_LARGEST = 700.0  # nats; e to so much is a number still
_RESTORE = "Restore it and its key from a backup, and ask who had access."
_REFUSALS = {
    "locked": "Wait until the other charge is done.",
    "disk is full": "Make room on its disk and ask again. Nothing was charged.",
    "disk I/O error": "Look whether its disk is full or gone, and ask again; then: linkage ledger verify.",
    "readonly": "Make the file and its folder writable, and ask again. Nothing was charged.",
    "unable to open": "Check that the file and its folder can be read and written.",
}
"""What sqlite says that is nobody's alteration, and what to do."""
_COLUMNS = ("number", "time", "mechanism", "parameters", "mu", "lift", "identity", "n_patients", "n_records", "charges")
_TABLES = """
CREATE TABLE site (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE patients (place INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE);
CREATE TABLE entries (number INTEGER PRIMARY KEY, time TEXT NOT NULL, mechanism TEXT NOT NULL, parameters TEXT NOT NULL,
    mu REAL, lift REAL, identity TEXT, n_patients INTEGER NOT NULL, n_records INTEGER NOT NULL, charges TEXT NOT NULL,
    digest TEXT NOT NULL);
CREATE UNIQUE INDEX same ON entries (identity) WHERE identity IS NOT NULL;
CREATE TABLE charges (number INTEGER NOT NULL, place INTEGER NOT NULL, mu2 REAL NOT NULL, nats REAL NOT NULL,
    PRIMARY KEY (number, place)) WITHOUT ROWID;
"""
_IMAGES = (
    "CREATE TABLE images (hash BLOB NOT NULL, place INTEGER NOT NULL, number INTEGER NOT NULL, "
    "PRIMARY KEY (hash, place)) WITHOUT ROWID",
    *(
        f"CREATE TRIGGER images_{verb} BEFORE {verb} ON images BEGIN SELECT RAISE(ABORT, 'append only'); END"
        for verb in ("DELETE", "UPDATE")
    ),
    "CREATE TRIGGER images_again BEFORE INSERT ON images WHEN EXISTS (SELECT 1 FROM images WHERE hash = NEW.hash "
    "AND place = NEW.place) BEGIN SELECT RAISE(ABORT, 'append only'); END",
)
"""The table of images of patients of whom something left, (hash, whose) with the entry of the first time. A book that
has none yet gets it with its next charge."""
_FROZEN = "".join(
    f"CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, 'append only'); END;\n"
    for table in ("site", "patients", "entries", "charges")
    for verb in ("UPDATE", "DELETE")
)
# "INSERT OR REPLACE" deletes without firing a delete trigger
_FROZEN += "".join(
    f"CREATE TRIGGER {table}_again BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) "
    "BEGIN SELECT RAISE(ABORT, 'append only'); END;\n"
    for table, same in (
        ("site", "name = NEW.name"),
        ("patients", "place = NEW.place OR hash = NEW.hash"),
        ("entries", "number = NEW.number OR identity = NEW.identity"),
        ("charges", "number = NEW.number AND place = NEW.place"),
    )
)


@dataclass(frozen=True)
class Charge:
    """One entry of the book. mu or lift is what it costs a patient a query, or a record; n_records 0 for a query.

    lift infinite: nothing limits its records. parameters holds, beside what was asked, `before`: {"mu", "lift"} of what
    had left before for the patient for whom it was most, lift None where that had no limit. digest: of this entry and
    all before it, for the certificate. repeated: it was there already and cost nothing.
    """

    number: int
    time: str
    mechanism: str
    parameters: dict[str, Any]
    mu: float | None
    lift: float | None
    n_patients: int
    n_records: int
    digest: str
    repeated: bool = False


@dataclass(frozen=True)
class Spent:
    """By patient, in the order asked for: mu (n,) of all queries together, lift (n,) of all records together, and the
    site's budget a patient."""

    mu: np.ndarray
    lift: np.ndarray
    mu_budget: float
    lift_budget: float
    delta: float

    @property
    def epsilon(self) -> np.ndarray:
        """(n,) at the ledger's delta; 0 where nothing was asked."""
        values, place = np.unique(self.mu, return_inverse=True)
        found = [accounting.gaussian_epsilon(1 / mu, self.delta) if mu else 0.0 for mu in values]
        return np.asarray(found, dtype=np.float64)[place]

    @property
    def mu_left(self) -> float:
        """The largest mu that all these patients can still bear."""
        return math.sqrt(max(self.mu_budget**2 - float((self.mu**2).max(initial=0.0)), 0.0))

    @property
    def epsilon_left(self) -> float:
        """Of one more query of all these patients, at the ledger's delta."""
        return accounting.gaussian_epsilon(1 / self.mu_left, self.delta) if self.mu_left > 1e-9 else 0.0

    def reached(self, pool_sizes: Sequence[int] = (100, 1_000, 10_000)) -> list[dict[str, Any]]:
        """The most that all releases together allow at each N, of the patient for whom it is most: `paired` for an
        attacker to whom the other patients' data do not depend on which report is right, `unpaired` for who holds
        images and reports of summed patients unpaired (bounds.central, bounds.unpaired, times the lift of records)."""
        spent = np.unique(np.column_stack([self.mu, self.lift]), axis=0).tolist()

        def most(law: Callable[[float, int], Any], n: int) -> float:
            return max(min(lift * float(law(mu, n)), 1.0) for mu, lift in spent)

        laws = {"paired": bounds.central, "unpaired": bounds.unpaired}
        return [{"n": n, **{name: most(law, n) for name, law in laws.items()}} for n in pool_sizes]

    @property
    def lift_left(self) -> float:
        """Of one more record of each of these patients: at least 1."""
        return max(self.lift_budget / float(self.lift.max(initial=1.0)), 1.0)


class Ledger:
    """`Ledger.create` once a cohort, `Ledger.open` after that. Nothing is held open between calls."""

    def __init__(self, path: Path, key: bytes, site: Mapping[str, str]) -> None:
        self.path = path
        self._key = key
        self.cohort, self.start = site["cohort"], site["start"]
        self.epsilon, self.delta, self.lift = (float(site[name]) for name in ("epsilon", "delta", "lift"))
        self.mu = 1 / accounting.gaussian_sigma(self.epsilon, self.delta)

    # ------------------------------------------------------------------------------------------------ make and open

    @classmethod
    def create(
        cls,
        path: Path,
        cohort: str,
        patients: Sequence[str] | np.ndarray,
        *,
        epsilon: float,
        delta: float,
        lift: float,
    ) -> Ledger:
        """A new book for the patients of a cohort (its name), with a budget for each of them.

        epsilon at delta: of all queries together. lift: of all records of a patient together, 1 or more. Refuses a path
        that is taken. The key is `PATH.key`; both files are readable by their owner only.
        """
        path = Path(path)
        if not 1 <= lift < math.inf:
            raise InputError(f"lift is {lift}.", "It is 1 (no record leaves) or more.")
        if not math.isfinite(epsilon):
            raise InputError(f"epsilon is {epsilon}.", "A budget is a finite number.")
        accounting.gaussian_sigma(epsilon, delta)
        names = np.unique(np.asarray(patients).astype(str))
        if not cohort or not len(names):
            raise InputError(f"The cohort's name is {cohort!r} and it has {len(names)} patients.", "Give both.")
        if path.exists():
            raise InputError(f"{path} exists.", "A ledger is never begun again: open it, or give another path.")
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp*"):
            if not _runs(left.name.removeprefix(f".{path.name}.").partition(".")[0]):
                left.unlink(missing_ok=True)  # of a `create` that was killed
        key = _key(path)
        site = {
            "schema": str(SCHEMA),
            "cohort": cohort,
            "epsilon": repr(float(epsilon)),
            "delta": repr(float(delta)),
            "lift": repr(float(lift)),
            "key": hashlib.sha256(key).hexdigest(),
        }
        hashes = sorted(_hashed(key, name) for name in names.tolist())
        begun = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            os.close(os.open(begun, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with _connected(begun) as book:
                book.executescript(_TABLES)
                book.execute("BEGIN IMMEDIATE")
                book.executemany("INSERT INTO site VALUES (?, ?)", site.items())
                book.executemany("INSERT INTO patients VALUES (?, ?)", enumerate(hashes))
                book.execute("INSERT INTO site VALUES ('start', ?)", (_start(key, site, hashes),))
                book.execute("COMMIT")
                book.executescript(_FROZEN)
            os.link(begun, path)  # unlike a rename, never over a file that somebody else just made
            sync_folder(path.parent)
        except FileExistsError as error:
            raise InputError(f"{path} exists.", "Somebody else has just begun it: open it.") from error
        finally:
            begun.unlink(missing_ok=True)
        return cls.open(path, cohort)

    @classmethod
    def open(cls, path: Path, cohort: str | None = None) -> Ledger:
        """An existing book. Refuses one of another cohort, one without its key, and what is no ledger."""
        path = Path(path)
        if not path.is_file():
            raise StoreError(f"There is no ledger at {path}.", "Begin one, with the site's budget.")
        key = _read_key(path)
        with _connected(path) as book:
            site = dict(book.execute("SELECT name, value FROM site"))
        if site.get("schema") != str(SCHEMA):
            raise StoreError(
                f"{path} is a ledger of schema {site.get('schema', 'unknown')}, and this version reads {SCHEMA}.",
                "Open it with the version that made it; its entries cannot be carried over.",
            )
        if site.get("key") != hashlib.sha256(key).hexdigest():
            raise StoreError(f"{_key_path(path)} belongs to another ledger.", "Restore the one it was begun with.")
        try:
            found = cls(path, key, site)
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise StoreError(f"The budget in {path} cannot be read ({error}).", _RESTORE) from error
        if cohort is not None:
            found._require_cohort(cohort)
        return found

    def _require_cohort(self, cohort: str) -> None:
        if cohort != self.cohort:
            raise InputError(
                f"{self.path} is the ledger of the cohort {self.cohort!r}, not {cohort!r}.", "Each cohort has its own."
            )

    # ------------------------------------------------------------------------------------------------------ charge

    def charge(
        self,
        mechanism: str,
        parameters: Mapping[str, Any],
        patients: Sequence[str] | np.ndarray,
        *,
        mu: float | None = None,
        lift: float | None = None,
        keyed: tuple[str, str] | None = None,
        unlimited: bool = False,
        images: Sequence[tuple[str, bytes]] = (),
    ) -> Charge:
        """Enter a release before anything of it is given out; on disk when this returns. All of it, or an error.

        Arguments
            patients: of a query (mu) those in it, named once or often; of records one a released record.
            mu: of the query. lift: certified of each record by itself. unlimited: records that nothing limits. One of
                the three.
            keyed: (secret's id, sha256 of the images) of a release of records, whose noise follows from a secret and
                the image. The same again, with the same mechanism and parameters, is the same release: it costs nothing
                and the first entry comes back. Others are charged in full, also where some of the images were in an
                earlier one.
            images: (patient, keyed.image_key) of all images at hand of `patients`, also of those that do not leave: a
                limit is a patient's.

        Raises InputError, and charges nothing, if the budget of any patient would be exceeded (it says of how many, and
        what is left), any left without limit before, any is unknown, or any image is known as another patient's;
        StoreError if the book was altered.
        """
        if (mu is not None) + (lift is not None) + unlimited != 1:
            raise InputError(
                "A charge is of a query (mu), of records (lift), or of records without limit (unlimited).",
                "Give one of the three.",
            )
        if mechanism == ADDED:
            raise InputError(f"{ADDED!r} is no release.", "Name the kind of the release.")
        if mu is not None and not 0 < mu < math.inf:
            raise InputError(f"mu is {mu}.", "It is above 0 and finite: a query without noise is never released.")
        if lift is not None and not 1 <= lift < math.inf:
            raise InputError(f"lift is {lift}.", "A certified lift is 1 or more, and finite.")
        mu = None if mu is None else float(mu)
        lift = math.inf if unlimited else None if lift is None else float(lift)
        identity = None
        if keyed is not None:
            asked = json.dumps(dict(parameters), sort_keys=True, allow_nan=False)
            identity = _digest([mechanism, asked, mu, lift, *keyed, sorted(map(str, np.asarray(patients).tolist()))])
        names, times = np.unique(np.asarray(patients).astype(str), return_counts=True)
        if not len(names):
            raise InputError("The release has no patients.", "Nothing is charged for nothing: leave it out.")
        strangers = {str(whose) for whose, _ in images} - set(names.tolist())
        if strangers:
            raise InputError(f"{len(strangers):,} patients have images and no record.", "Give those of its patients.")
        hashes = [_hashed(self._key, name) for name in names.tolist()]
        with self._changing() as book:
            if identity is not None:
                before = book.execute("SELECT * FROM entries WHERE identity = ?", (identity,)).fetchone()
                if before is not None:
                    return _charge(before, repeated=True)
            places = self._places(book, hashes)
            mu2 = np.full(len(places), 0.0 if mu is None else mu**2)
            nats = np.zeros(len(places)) if lift is None else times * math.log(lift)
            if not unlimited:
                if lift is not None or keyed is not None:
                    self._require_limited(book, places)
                self._require_left(book, places, mu2, nats)
            at = dict(zip(names.tolist(), places.tolist(), strict=True))
            new = self._new_images(book, {(_hashed_image(self._key, one), at[str(whose)]) for whose, one in images})
            told = {**parameters, "before": self._before(book, None if lift is None and keyed is None else places)}
            order = np.argsort(places)
            rows = list(zip(places[order].tolist(), mu2[order].tolist(), nats[order].tolist(), strict=True))
            n_records = 0 if lift is None else int(times.sum())
            if new:
                told["images"] = _digest_of_images(new)
            return self._enter(book, mechanism, told, mu, lift, identity, len(places), n_records, rows, new)

    def add(self, cohort: str, patients: Sequence[str] | np.ndarray) -> Charge | None:
        """Append those patients of the cohort whom the book does not know, with the budget of all others; None if it
        knows them all. Nobody is ever removed. InputError for another cohort, StoreError if the book was altered."""
        self._require_cohort(cohort)
        wanted = {_hashed(self._key, name) for name in np.unique(np.asarray(patients).astype(str)).tolist()}
        with self._changing() as book:
            known = {one for (one,) in book.execute("SELECT hash FROM patients")}
            new = sorted(wanted - known)
            if not new:
                return None
            book.executemany("INSERT INTO patients VALUES (?, ?)", enumerate(new, start=len(known)))
            return self._enter(book, ADDED, {"sha256": _of_hashes(new)}, None, None, None, len(new), 0, [])

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A book that nobody else changes meanwhile, and that is as it was entered; StoreError where it is not."""
        with _connected(self.path) as book:
            book.execute("BEGIN IMMEDIATE")
            self._require_whole(book)
            yield book

    def _state(self, book: sqlite3.Connection) -> str:
        """Keyed hash of the book as this connection sees it, what it has not committed included; "" where that cannot
        be told."""
        digest = hashlib.sha256()
        try:
            content = memoryview(book.serialize())
        except (AttributeError, MemoryError, sqlite3.Error):  # an SQLite that was built without it; a damaged file
            return ""
        for begin, end in _OF_NO_ENTRY:
            digest.update(content[begin:end])
        return hmac.digest(self._key, b"whole\0" + digest.digest(), "sha256").hex()

    def _enter(
        self,
        book: sqlite3.Connection,
        mechanism: str,
        parameters: Mapping[str, Any],
        mu: float | None,
        lift: float | None,
        identity: str | None,
        n_patients: int,
        n_records: int,
        rows: list[tuple[int, float, float]],
        images: Sequence[tuple[bytes, int]] = (),
    ) -> Charge:
        """One more entry with its charges; on disk when this returns."""
        last = book.execute("SELECT number, digest FROM entries ORDER BY number DESC LIMIT 1").fetchone()
        number, previous = (0, self._begun(book)) if last is None else last
        content = (
            number + 1,
            datetime.now(UTC).isoformat(timespec="seconds"),
            mechanism,
            json.dumps(dict(parameters), sort_keys=True, allow_nan=False),
            mu,
            lift,
            identity,
            n_patients,
            n_records,
            _digest(rows),
        )
        entry = (*content, _chained(self._key, previous, content))
        book.execute(f"INSERT INTO entries VALUES ({', '.join('?' * len(entry))})", entry)
        book.executemany("INSERT INTO charges VALUES (?, ?, ?, ?)", [(number + 1, *row) for row in rows])
        if images:
            book.executemany("INSERT INTO images VALUES (?, ?, ?)", [(*one, number + 1) for one in images])
        state = self._state(book)
        book.execute("COMMIT")
        with suppress(OSError):  # the next charge then checks everything
            flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
            with os.fdopen(os.open(_checked_path(self.path), flags, 0o600), "w", encoding="ascii") as file:
                file.write(state)
        return _charge(entry)

    def _new_images(self, book: sqlite3.Connection, asked: set[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
        """(hash, place) of those that are not known yet, sorted; InputError where one is known as another patient's.

        A patient who got a new id would have a new budget otherwise.
        """
        if not asked:
            return []
        if not _has_images(book):
            for statement in _IMAGES:
                book.execute(statement)
        there = set(book.execute("SELECT hash, place FROM images"))
        known, new = {one for one, _ in there}, asked - there
        others = sum(one in known for one, _ in new)
        if others:
            raise InputError(
                f"{others:,} of the {len(asked):,} images of these patients are in the ledger as images of others.",
                "A patient who gets another id gets no other budget: restore the ids, or leave the images out. Nothing "
                "was charged.",
            )
        return sorted(new)

    def _require_limited(self, book: sqlite3.Connection, places: np.ndarray) -> None:
        """InputError where some of these left in records without limit: no lift of theirs limits anything now."""
        for number, mechanism in book.execute("SELECT number, mechanism FROM entries WHERE lift = 9e999").fetchall():
            gone = [place for (place,) in book.execute("SELECT place FROM charges WHERE number = ?", (number,))]
            both = int(np.isin(places, gone).sum())
            if both:
                raise InputError(
                    f"Entry {number} of the ledger let records of {both:,} of these {len(places):,} patients leave "
                    f"without any limit ({mechanism}).",
                    "No limit on another record of theirs would hold: leave them out. Nothing was charged.",
                )

    def _before(self, book: sqlite3.Connection, places: np.ndarray | None) -> dict[str, float | None]:
        """What left before, for the patient for whom it was most: mu, and lift (None: without limit).

        places None, for a query: over the whole book, entry by entry, for who was in an earlier release must not show
        in what a query says of itself. That is as much or more.
        """
        if places is None:
            most = book.execute("SELECT max(mu2), max(nats) FROM charges GROUP BY number").fetchall()
            mu2, nats = np.array(most, dtype=np.float64).reshape(-1, 2).sum(axis=0)
        else:
            mu2, nats = (one.max(initial=0.0) for one in self._sums(book, places))
        return {"mu": math.sqrt(mu2), "lift": math.exp(nats) if nats < _LARGEST else None}

    def _require_left(self, book: sqlite3.Connection, places: np.ndarray, mu2: np.ndarray, nats: np.ndarray) -> None:
        spent2, spent = self._sums(book, places)
        over_mu = (mu2 > 0) & (spent2 + mu2 > self.mu**2 * (1 + _ROUNDING))
        over_lift = (nats > 0) & (spent + nats > math.log(self.lift) * (1 + _ROUNDING) + _ROUNDING)
        over = over_mu | over_lift
        if not over.any():
            return
        left = Spent(np.sqrt(spent2), np.exp(spent), self.mu, self.lift, self.delta)
        if over_mu.any():
            costs = f"epsilon {accounting.gaussian_epsilon(1 / math.sqrt(mu2[0]), self.delta):.3g}"
            has = f"epsilon {left.epsilon_left:.3g} of {self.epsilon:.3g} (delta {self.delta:.2g})"
        else:
            costs = f"a lift of up to {math.exp(nats.max()):.4g} a patient"
            has = f"a lift of {left.lift_left:.4g} of {self.lift:.4g}"
        raise InputError(
            f"The release costs {costs}; {int(over.sum()):,} of its {len(places):,} patients have not so much left: "
            f"the least is {has}.",
            "Ask for less, or leave these patients out. Nothing was charged.",
        )

    # ------------------------------------------------------------------------------------------------------- read

    def spent(self, patients: Sequence[str] | np.ndarray) -> Spent:
        """What these patients (n,) have been charged so far; InputError if any is unknown, StoreError if the book was
        altered."""
        names = np.asarray(patients).astype(str)
        with _connected(self.path) as book:
            book.execute("BEGIN")
            self._require_whole(book)
            places = self._places(book, [_hashed(self._key, name) for name in names.tolist()])
            mu2, nats = self._sums(book, places)
        return Spent(np.sqrt(mu2), np.exp(nats), self.mu, self.lift, self.delta)

    def knows(self, patients: Sequence[str] | np.ndarray) -> int:
        """How many of these patients the book is of."""
        with _connected(self.path) as book:
            known = {bytes(one) for (one,) in book.execute("SELECT hash FROM patients")}
        return sum(_hashed(self._key, name) in known for name in np.unique(np.asarray(patients).astype(str)).tolist())

    def left(self, images: Sequence[bytes]) -> int:
        """How many of these images (keyed.image_key) are of patients of whom something left by this book; those of
        entries from before images were kept are not known."""
        with _connected(self.path) as book:
            if not _has_images(book):
                return 0
            known = {bytes(one) for (one,) in book.execute("SELECT hash FROM images")}
        return sum(_hashed_image(self._key, one) in known for one in images) if known else 0

    def history(self) -> pd.DataFrame:
        """One row an entry, oldest first, without patients: what may be shown and exported."""
        with _connected(self.path) as book:
            rows = [_charge(row) for row in book.execute("SELECT * FROM entries ORDER BY number")]
        columns = [name for name in Charge.__dataclass_fields__ if name != "repeated"]
        return pd.DataFrame([[getattr(row, name) for name in columns] for row in rows], columns=columns)

    def entry(self, number: int) -> Charge | None:
        """The entry of that number, None if there is none."""
        with _connected(self.path) as book:
            row = book.execute("SELECT * FROM entries WHERE number = ?", (number,)).fetchone()
        return None if row is None else _charge(row)

    def last(self) -> tuple[int, str] | None:
        """Number and digest of the last entry; None where there is none."""
        with _connected(self.path) as book:
            row = book.execute("SELECT number, digest FROM entries ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else (int(row[0]), str(row[1]))

    def holds(self, number: int, digest: str) -> bool:
        """Is this the digest of that entry? What a certificate says of the ledger, checked at the site."""
        found = self.entry(number)
        return found is not None and hmac.compare_digest(str(found.digest), digest)

    def verify(self) -> list[str]:
        """Every way in which the book differs from what was entered; empty if none. Everything is hashed again."""
        try:
            with _connected(self.path) as book:
                book.execute("BEGIN")
                broken = book.execute("PRAGMA integrity_check").fetchone()[0]
                damage = [] if broken == "ok" else [f"{self.path} is damaged: {broken.splitlines()[0]}."]
                return damage + self._differences(book)
        except StoreError as error:
            return [error.what]

    def _require_whole(self, book: sqlite3.Connection) -> None:
        """StoreError with all that was altered; for what is spent and left would be wrong with it."""
        with suppress(OSError, ValueError):
            kept = _checked_path(self.path).read_text(encoding="ascii")
            if kept and hmac.compare_digest(kept, self._state(book)):
                return
        if found := self._differences(book):
            raise StoreError(f"The ledger {self.path} is not as it was entered: {' '.join(found)}", _RESTORE)

    def _differences(self, book: sqlite3.Connection) -> list[str]:
        found = []
        there = {name for (name,) in book.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        wanted = {line.split()[2] for line in _FROZEN.splitlines()}
        if wanted - there:
            found.append(f"{len(wanted - there)} of the triggers that refuse changes are gone.")
        entries = book.execute("SELECT * FROM entries ORDER BY number").fetchall()
        at = {name: _COLUMNS.index(name) for name in ("mechanism", "parameters", "n_patients", "charges")}
        added = [
            row[at["n_patients"]] if row[at["mechanism"]] == ADDED and isinstance(row[at["n_patients"]], int) else 0
            for row in entries
        ]
        people = book.execute("SELECT place, hash FROM patients ORDER BY place").fetchall()
        hashes = [one if isinstance(one, bytes) else repr(one).encode() for _, one in people]
        site = dict(book.execute("SELECT name, value FROM site"))
        previous, n_known = site.pop("start", ""), len(hashes) - sum(added)
        begun = _start(self._key, site, hashes[: max(n_known, 0)])
        if previous != begun or [place for place, _ in people] != list(range(len(people))):
            found.append("The budget, the cohort or the list of patients was altered.")
        left = _images_by_entry(book)
        if _has_images(book) and {f"images_{verb}" for verb in ("UPDATE", "DELETE", "again")} - there:
            found.append("The triggers that refuse changes of its images are gone.")
        last = 0
        for row, n_added in zip(entries, added, strict=True):
            content, digest = row[:-1], row[-1]
            if content[0] != last + 1:
                found.append(f"Entry {last + 1} is missing.")
            last = content[0]
            if digest != _chained(self._key, previous, content):
                found.append(f"Entry {content[0]}, or what stands before it, was altered.")
            if n_added:
                if content[at["parameters"]] != json.dumps({"sha256": _of_hashes(hashes[n_known : n_known + n_added])}):
                    found.append(f"The patients of entry {content[0]} were altered.")
                n_known += n_added
            charged = book.execute(
                "SELECT place, mu2, nats FROM charges WHERE number = ? ORDER BY place", (content[0],)
            ).fetchall()
            if content[at["charges"]] != _digest(charged):
                found.append(f"The charges of entry {content[0]} were altered.")
            if _said_images(content[at["parameters"]]) != _digest_of_images(left.pop(content[0], [])):
                found.append(f"The images of entry {content[0]} were altered.")
            previous = digest
        (stray,) = book.execute(
            "SELECT count(*) FROM charges WHERE number NOT IN (SELECT number FROM entries)"
        ).fetchone()
        if stray:
            found.append(f"{stray} charges belong to no entry.")
        if left:
            found.append(f"{sum(map(len, left.values()))} images belong to no entry.")
        return found

    def _places(self, book: sqlite3.Connection, hashes: list[bytes]) -> np.ndarray:
        known = {bytes(one): place for place, one in book.execute("SELECT place, hash FROM patients")}
        places = np.array([known.get(one, -1) for one in hashes], dtype=np.int64)
        unknown = int((places < 0).sum())
        if unknown:
            raise InputError(
                f"{unknown:,} of {len(places):,} patients are unknown to the ledger {self.path}.",
                f"Leave them out, or add them with the budget of all others: linkage ledger add {self.path} "
                f"{self.cohort}/MODEL. Nothing was charged.",
            )
        return places

    def _sums(self, book: sqlite3.Connection, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(sum of mu squared, sum of ln lift) of each place."""
        (n,) = book.execute("SELECT count(*) FROM patients").fetchone()
        charges = book.execute("SELECT place, mu2, nats FROM charges").fetchall()
        charged = np.array(charges, dtype=np.float64).reshape(-1, 3)
        where = charged[:, 0].astype(np.int64)
        mu2, nats = (np.bincount(where, charged[:, i], minlength=n) for i in (1, 2))
        return mu2[places], nats[places]

    @staticmethod
    def _begun(book: sqlite3.Connection) -> str:
        return str(book.execute("SELECT value FROM site WHERE name = 'start'").fetchone()[0])


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that waits for others, writes through to the disk, and rolls back what was not committed.

    FULL with a rollback journal: a committed transaction survives a loss of power; EXTRA syncs the folder too.
    """
    book = sqlite3.connect(f"file:{_quoted(path)}?mode=rw", uri=True, timeout=_WAIT, isolation_level=None)
    try:
        book.execute("PRAGMA synchronous = EXTRA")
        yield book
    except sqlite3.DatabaseError as error:
        remedy = next((said for words, said in _REFUSALS.items() if words in str(error)), _RESTORE)
        raise StoreError(f"The ledger {path} refused: {error}.", remedy) from error
    finally:
        book.close()


def _runs(number: str) -> bool:
    """Whether a process of that number is running."""
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.resolve()))


def _charge(row: Sequence[Any], *, repeated: bool = False) -> Charge:
    said = dict(zip((*_COLUMNS, "digest"), row, strict=True))
    del said["identity"], said["charges"]
    try:
        parameters = json.loads(said["parameters"])
        wrong = [
            *(name for name in ("time", "mechanism", "digest") if not isinstance(said[name], str)),
            *(name for name in ("mu", "lift") if not isinstance(said[name], float | None)),
            *(name for name in ("n_patients", "n_records") if not isinstance(said[name], int)),
        ]
        if wrong or not isinstance(parameters, dict):
            raise ValueError(f"{', '.join(wrong) or 'parameters'}: of another type")
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"Entry {said['number']} of the ledger cannot be read ({error}).", _RESTORE) from error
    return Charge(**{**said, "parameters": parameters}, repeated=repeated)


def _key_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.key")


def _checked_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.checked")


def _hashed(key: bytes, patient: str) -> bytes:
    return hmac.digest(key, b"patient\0" + patient.encode(), "sha256")


def _hashed_image(key: bytes, image: bytes) -> bytes:
    return hmac.digest(key, b"image\0" + image, "sha256")


def _has_images(book: sqlite3.Connection) -> bool:
    return book.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'images'").fetchone() is not None


def _images_by_entry(book: sqlite3.Connection) -> dict[int, list[tuple[bytes, int]]]:
    """(hash, place) of the images that left first by each entry, sorted."""
    found: dict[int, list[tuple[bytes, int]]] = {}
    if _has_images(book):
        for number, one, place in book.execute("SELECT number, hash, place FROM images ORDER BY hash, place"):
            found.setdefault(number, []).append((one if isinstance(one, bytes) else repr(one).encode(), place))
    return found


def _digest_of_images(rows: Sequence[tuple[bytes, int]]) -> str:
    """ "" for none."""
    if not rows:
        return ""
    places = np.array([place for _, place in rows], dtype="<i8").tobytes()
    return hashlib.sha256(b"".join(one for one, _ in rows) + places).hexdigest()


def _said_images(parameters: Any) -> str:
    """What an entry says of its images; what cannot be read was altered, and shows by its digest."""
    try:
        return str(json.loads(parameters).get("images", ""))
    except (TypeError, ValueError, AttributeError, RecursionError):
        return ""


def _start(key: bytes, site: Mapping[str, str], hashes: Sequence[bytes]) -> str:
    return _chained(key, "", [sorted(site.items()), _of_hashes(hashes)])


def _of_hashes(hashes: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(hashes)).hexdigest()


def _chained(key: bytes, previous: str, content: Sequence[Any]) -> str:
    return hmac.digest(key, b"entry\0" + _digest([previous, list(content)]).encode(), "sha256").hex()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, default=repr).encode()).hexdigest()


def _key(path: Path) -> bytes:
    """A new key beside a ledger to be; the one that a killed `create` left."""
    begun = path.with_name(f".{path.name}.{os.getpid()}.key.tmp")
    try:
        with os.fdopen(os.open(begun, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32).hex().encode())
            file.flush()
            os.fsync(file.fileno())
        os.link(begun, _key_path(path))
    except FileExistsError:
        pass
    finally:
        begun.unlink(missing_ok=True)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        return bytes.fromhex(_key_path(path).read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{_key_path(path)} is missing or cannot be read.",
            "Without its key a ledger knows no patient: restore it from a backup.",
        ) from error
