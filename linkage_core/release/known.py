"""Which other ledgers does this site have, and did these patients or images go through one of them?

A budget that can be begun anew is none. A second ledger of a cohort, or one of a copy of it under another name, would
count from nothing. So a store keeps a list of the ledgers that were begun for its cohorts (`ledgers.json` at its root:
paths, names, where each book begins and its last entry, nothing of patients), and beside those every ledger that lies
in the folder of the one in question is looked at. Each is asked by its own key, for its books name nobody.

What it cannot see: ledgers of another site or machine, and what somebody deleted. docs/release.md says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from linkage_core import shipped
from linkage_core.errors import InputError, LinkageError, StoreError
from linkage_core.release.ledger import Ledger
from linkage_core.release.records import keys_of
from linkage_core.store.entry import Entry, Store
from linkage_core.store.files import write_json

LIST = "ledgers.json"
_SCHEMA = 1
_LEFT = "are of patients of whom something left by"


def begin(
    entry: Entry, path: Path, *, epsilon: float, delta: float, lift: float, other_people: bool = False
) -> tuple[Ledger, bool]:
    """(Ledger.create for all patients of a cohort, whether the store could note it), after a look at every other ledger
    that is known here.

    other_people: equal ids in a ledger of another cohort are other people's, by chance; whoever says so answers for it.
    InputError where one of them is of this cohort, has some of its patients, or has some of its images.
    """
    records = entry.records("all")
    patients = records["patient_id"].unique()
    for other in _others(entry, path, None):
        if other.cohort == entry.cohort:
            raise InputError(
                f"{entry.cohort} has a ledger: {other.path}.", "A budget is never begun again: name that one."
            )
        if not other_people:
            _refuse(entry, other, other.knows(patients), len(patients), "patients", "are in")
        images = keys_of(entry, records)
        _refuse(entry, other, other.left(images), len(images), "images", _LEFT)
    made = Ledger.create(path, entry.cohort, patients, epsilon=epsilon, delta=delta, lift=lift)
    return made, note(entry, made)


def refuse_left(entry: Entry, images: Sequence[bytes], ledger: Ledger | None) -> None:
    """InputError where some of these images are of patients of whom something left by another ledger that is known
    here, whatever their cohort and they are called; StoreError where the ledger is an older copy of one that the store
    saw. ledger: the one that is charged, None for none."""
    for row in _listed(entry.store):
        if ledger is not None and row["start"] == ledger.start:
            require_newest(ledger, row["last"], f"the list {entry.store.root / LIST}")
    for other in _others(entry, ledger.path if ledger else None, ledger.start if ledger else None):
        _refuse(entry, other, other.left(images), len(images), "images", _LEFT)


def require_newest(ledger: Ledger, last: Sequence[Any] | None, who: str) -> None:
    """StoreError where the ledger lacks the entry (number, digest) that `who` saw last: what came after is missing."""
    if last is not None and not ledger.holds(int(last[0]), str(last[1])):
        raise StoreError(
            f"The ledger {ledger.path} lacks entry {last[0]} as {who} saw it: it is an older copy, or was cut short.",
            "Find the newest one. With an older copy a budget would be spent twice. Nothing was charged.",
        )


def keep(entry: Entry, ledger: Ledger) -> None:
    """After a charge: note the ledger as it is now. One of a synthetic cohort only if the store's list has it."""
    if not entry.synthetic or any(row["start"] == ledger.start for row in _listed(entry.store)):
        note(entry, ledger)


def note(entry: Entry, ledger: Ledger) -> bool:
    """Enter a ledger in the store's list. False where that cannot be: the store came with the package, or is read
    only."""
    root = entry.store.root
    if shipped.why_not_written(root) is not None:
        return False
    said = {
        "path": str(ledger.path.resolve()),
        "cohort": ledger.cohort,
        "start": ledger.start,
        "synthetic": entry.synthetic,
        "last": None if (last := ledger.last()) is None else list(last),
    }
    rows = _listed(entry.store)
    if said not in rows:  # one that was moved, or grew, stands there once
        rows = [row for row in rows if row["start"] != ledger.start]
        try:
            write_json(root / LIST, {"schema": _SCHEMA, "ledgers": [*rows, said]})
        except (OSError, StoreError):
            return False
    return True


def _refuse(entry: Entry, other: Ledger, n: int, n_all: int, what: str, how: str) -> None:
    if n:
        raise InputError(
            f"{n:,} of {n_all:,} {what} of {entry.cohort} {how} the ledger {other.path} of {other.cohort!r}.",
            "What left is counted once, whatever a cohort is called: release them as that cohort, with --ledger "
            f"{other.path}, or leave them out. Nothing was charged.",
        )


def _others(entry: Entry, path: Path | None, start: str | None) -> Iterator[Ledger]:
    """Every other ledger of the store's list and of the folder of `path`, once each. start: of the one in question."""
    seen, own = {start}, None if path is None else Path(path).resolve()
    for row in _listed(entry.store):
        if row["start"] in seen or Path(row["path"]) == own:
            continue
        try:
            found = Ledger.open(Path(row["path"]))
        except LinkageError as error:
            if row["cohort"] == entry.cohort and not row["synthetic"]:
                raise StoreError(
                    f"The ledger {row['path']} of {entry.cohort} cannot be read: {error.what}",
                    "Restore it and its key from a backup. If it is lost for good, what left by it is counted nowhere: "
                    f"take its row out of {entry.store.root / LIST} only if you answer for that.",
                ) from error
            continue
        seen.add(found.start)
        yield found
    for key in sorted(own.parent.glob("*.key")) if own else ():
        try:
            found = Ledger.open(key.with_suffix(""))
        except (LinkageError, OSError):
            continue  # the key of something else
        if found.start not in seen and found.path != own:
            seen.add(found.start)
            yield found


def _listed(store: Store) -> list[dict[str, Any]]:
    """The rows of the store's list; StoreError where it is there and cannot be read."""
    path = store.root / LIST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = ("path", "cohort", "start", "synthetic", "last")
        rows = [{name: row[name] for name in names} for row in content["ledgers"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}, the list of this store's ledgers, cannot be read ({error}).", "Restore it from a backup."
        ) from error
    return rows
