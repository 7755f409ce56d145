"""Taking a cohort out of the store: its embeddings, heads and tables. The files it was made from stay."""

from __future__ import annotations

import shutil

from linkage_core import shipped
from linkage_core.errors import InputError
from linkage_core.store.entry import Entry
from linkage_core.store.files import writing


def why_kept(entry: Entry) -> InputError | None:
    """Why an entry is not removed, None where it can be: what comes with the project stays."""
    if entry.path.resolve().is_relative_to(shipped.store().resolve()):
        return InputError(
            f"{entry.cohort}/{entry.model} lies in the store that comes with the project.",
            "Remove it in a store of your own: linkage app --store DIR",
        )
    return None


def remove(entry: Entry, confirmed: str) -> None:
    """Removes an entry. confirmed: its COHORT/MODEL, typed by whoever wants that.

    Its manifest goes first: what is left of an interrupted removal is no entry. Raises InputError where it was not
    confirmed or why_kept says so, StoreError while another run writes it.
    """
    if problem := why_kept(entry):
        raise problem
    name = f"{entry.cohort}/{entry.model}"
    if confirmed.strip() != name:
        raise InputError(f"{name} was not removed.", f"Type {name} to confirm it.")
    with writing(entry.path):
        (entry.path / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(entry.path)
    if not any(entry.path.parent.iterdir()):
        entry.path.parent.rmdir()
