"""The kinds of release that there are, in the order in which they are offered.

A table of its own beside release.kind: a row is made in the kind's file, which needs the type of rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from linkage_core.release.kind import Kind
from linkage_core.release.kinds import capped, codes, embeddings, scores, statistics
from linkage_core.validate import one_of


def by_name(rows: Iterable[Kind]) -> dict[str, Kind]:
    """The rows by their names. Raises ValueError where two kinds have one name, or write one file."""
    table: dict[str, Kind] = {}
    for row in rows:
        if row.name in table:
            raise ValueError(f"Two kinds of release are called {row.name!r}: name one of them otherwise.")
        for other in table.values():
            if common := sorted({*row.files} & {*other.files}):
                raise ValueError(f"Releases of {row.name} and of {other.name} both write {common[0]}: rename one.")
        table[row.name] = row
    return table


KINDS = by_name(
    (
        statistics.ROW,
        codes.ROW,
        capped.ROW,
        scores.ROW,
        embeddings.ROW,
    )
)


def usages() -> str:
    """For the help of the command: a line a kind."""
    return "\n".join(f"    {name} {kind.usage}" for name, kind in KINDS.items())


def kind_of(name: str, called: str = "kind") -> Kind:
    """The row of a kind; InputError lists the names where there is none such, and gives the nearest.

    called: what the name is called by whoever gave it.

    >>> kind_of("codes").column.name
    'code'
    >>> kind_of("code", "--kind")
    Traceback (most recent call last):
    ...
    linkage_core.errors.InputError: --kind is 'code'. Did you mean 'codes'? It is one of: statistics, codes, capped, \
scores, embeddings.
    """
    one_of(called, name, KINDS)
    return KINDS[name]
