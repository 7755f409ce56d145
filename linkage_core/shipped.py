"""Where that lies which is no module and comes along: app.py, pages, the settings of the server, the phantom's store.

In a checkout it lies at the top. A wheel has it in `linkage_core/_shipped`, in the same order (pyproject.toml). Nothing
is ever written there: it is the package, perhaps of several people, and an update or a removal would take it away.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from linkage_core.errors import StoreError

STORE = "cached_embeddings"
"""The folder of the store, where no other is named."""

_IN_THE_PACKAGE = Path(__file__).resolve().parent / "_shipped"


def root() -> Path:
    """The folder with app.py, pages/, .streamlit/ and cached_embeddings/."""
    return _IN_THE_PACKAGE if _IN_THE_PACKAGE.is_dir() else Path(__file__).resolve().parents[1]


def store() -> Path:
    """The store that comes along."""
    return root() / STORE


def default_store(*, writes: bool = False) -> Path:
    """The store of a command that was told none: `cached_embeddings` of the working directory.

    Where there is none yet, a command that only reads gets the store that comes along, and one that writes makes it.
    """
    here = Path(STORE)
    return here if writes or here.is_dir() else store()


def why_not_written(path: Path) -> StoreError | None:
    """For a path in the package: that nothing is written there, and how to get a copy that can be; else None."""
    if not path.resolve().is_relative_to(_IN_THE_PACKAGE):
        return None
    return StoreError(
        f"{path} came with the package and is only read.",
        f"Copy the store once and work on the copy: `cp -r {shlex.quote(str(store()))} .` "
        f"(./{STORE} is then found by itself; a copy elsewhere goes to --store).",
    )


def refuse_to_write(path: Path) -> None:
    """Raises what why_not_written says."""
    problem = why_not_written(path)
    if problem is not None:
        raise problem


def hint(cohort: str, elsewhere: Path) -> str:
    """Where a cohort is that comes along, for somebody who looked for it in another store; else nothing."""
    if elsewhere.resolve() == store() or not any((store() / cohort).glob("*/manifest.json")):
        return ""
    return f" The one that comes along: --store {shlex.quote(str(store()))}"
