"""Everything that may leave, on one axis: lift, certified from above and measured from below, against usefulness.

An option is a head of the lab, a release with its setting, or nothing at all. Its linkage is what attackers reach on
held-out patients (a lower bound), its limit what no attacker passes (an upper bound; none for heads), its use the AUROC
of a linear reader on the findings that were declared and on those nobody declared. Released records are asked as their
limit is (release.measured.ask), heads as they are everywhere else: every image, among studies of other patients. Tables
are files of the entry (`lab/frontier-*.parquet`); limits are numbers, worked out for any N when they are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.errors import InputError
from linkage_core.lab import measured as lab
from linkage_core.release.table import KINDS
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.files import read_table, write_table
from linkage_core.validate import one_of

NOTHING = "nothing"
HEAD, RELEASE, CONTROL = "head", "release", "control"
USES = {
    "read": "findings are read from what was released",
    "trained": "a reader is trained on what was released and used on the recipient's own embeddings",
}
GROUPS = ("declared", "undeclared")
OMNISCIENT = "omniscient"
"""Of the attackers: who knows the clean embedding of every candidate. The ceiling for the very mechanism."""

LABELLED = "worst, told one finding"
"""Of the attackers: the worst, where one random finding travels with each record, as it must for `trained`."""

OPTIONS, LINKAGE, UTILITY = (f"lab/frontier-{name}.parquet" for name in ("options", "linkage", "utility"))
OPTION_COLUMNS = ("option", "family", "kind", "parameter", "value", "seed", "listed", "head", "mu", "limit", "epsilon")
LINKAGE_COLUMNS = (
    *("option", "cohort", "attacker", "named", "pool_size", "k", "recall", "recall_low", "recall_high"),
    *("chance", "lift", "n_queries", "n_patients", "flag"),
)
UTILITY_COLUMNS = (
    *("option", "cohort", "use", "findings", "auroc", "auroc_low", "auroc_high"),
    *("difference", "difference_low", "difference_high", "n_patients", "trained_on"),
)
COLUMNS = (
    *("option", "family", "kind", "parameter", "value", "seed", "listed", "head", "cohort", "pool_size", "attacker"),
    *("named", "recall", "recall_low", "recall_high", "measured", "measured_low", "measured_high", "certified"),
    *(
        "certified_paired",
        "ceiling",
        "use",
        "declared",
        "declared_low",
        "declared_high",
        "undeclared",
        "undeclared_low",
    ),
    *("undeclared_high", "declared_difference", "undeclared_difference", "n_queries", "n_patients"),
)


def frontier(
    entry: Entry,
    pool_size: int = 10_000,
    attacker: str = lab.WORST,
    use: str = "read",
    cohort: str = "",
    *,
    listed_too: bool = False,
) -> pd.DataFrame:
    """One row an option that has this use: what it lets through at N, and what it is worth.

    COLUMNS: family "nothing", "control", "head" or "release"; kind its mechanism or release kind; parameter ("epsilon",
    "limit" or "") and value its setting; listed how many findings its maker had to list (0: none, so all are
    "undeclared" alike; 14: nothing is left undeclared, and undeclared is NaN). measured = recall * N with its interval,
    by `attacker` (a name, "worst", or "omniscient"); NaN where that was not measured. certified: the largest lift any
    attacker can have, NaN where that is N or nothing is certified; certified_paired: of statistics, see there. ceiling:
    what an attacker reaches who knows every candidate's embedding. declared and undeclared: macro AUROC over the listed
    and the other findings, with the difference from clean embeddings. Records teach a reader only with labels: for the
    use "trained" one random finding travels along, the limit doubles, and the worst attacker is told it (LABELLED).
    listed_too: give the figures of the "undeclared" seven also where all 14 were listed, to take the mean over all.

    Raises InputError for an N that was not measured, or an unknown use.
    """
    one_of("use", use, USES)
    cohort = cohort or entry.cohort
    options = options_of(entry)
    if not len(options):
        return pd.DataFrame(columns=list(COLUMNS))
    measured = linkage(entry)
    sizes = sorted(measured.loc[measured["cohort"] == cohort, "pool_size"].unique().tolist())
    if pool_size not in sizes:
        raise InputError(f"N is {pool_size}.", f"Measured are: {', '.join(map(str, sizes)) or 'none'}.")
    here = measured[(measured["cohort"] == cohort) & (measured["pool_size"] == pool_size)]
    asked, known, told = (
        here[here["attacker"] == name].set_index("option") for name in (attacker, OMNISCIENT, LABELLED)
    )
    used = utility(entry)
    used = used[(used["cohort"] == cohort) & (used["use"] == use)]
    rows = []
    for option in dicts(options):
        of = used[used["option"] == option["option"]].set_index("findings")
        if not len(of):
            continue
        row: dict[str, Any] = {name: option[name] for name in COLUMNS if name in option}
        row |= {"cohort": cohort, "pool_size": pool_size, "attacker": attacker, "use": use}
        row |= {"certified": certified(option, pool_size), "certified_paired": certified_paired(option, pool_size)}
        of_whom, with_label = asked, use == "trained" and labelled(option["kind"])
        if with_label:
            row["certified"] = 2 * row["certified"]
            of_whom = told if attacker == lab.WORST else told.iloc[:0]
        if row["certified"] >= pool_size * (1 - 1e-6):
            row["certified"] = math.nan  # everybody may be linked: no limit
        if option["option"] in of_whom.index:
            one = of_whom.loc[option["option"]]
            row |= {name: one[name] for name in ("named", "recall", "recall_low", "recall_high")}
            row |= {name: one[name] for name in ("n_queries", "n_patients")}
            for end in ("", "_low", "_high"):
                row[f"measured{end}"] = one[f"recall{end}"] * pool_size
        if option["option"] in known.index and not with_label:
            row["ceiling"] = known.loc[option["option"], "recall"] * pool_size
        for group in GROUPS:
            if group in of.index and (group == "declared" or option["listed"] < 14 or listed_too):
                one = of.loc[group]
                row |= {f"{group}{end}": one[f"auroc{end}"] for end in ("", "_low", "_high")}
                row[f"{group}_difference"] = one["difference"]
        rows.append(row)
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS)).astype({"seed": "Int64"})


def certified(option: dict[str, Any], pool_size: int) -> float:
    """The largest lift (k = 1) at N under an option's certificate, NaN for none: of any attacker; of statistics, of who
    holds images and reports of summed patients unpaired, which is the study's threat (bounds.unpaired).

    >>> certified({"kind": "codes", "limit": 64.0, "mu": math.nan, "epsilon": math.nan}, 10_000)
    64.0
    """
    if option["kind"] == NOTHING:
        return 1.0
    kind = KINDS.get(option["kind"])
    return math.nan if kind is None or kind.limit is None else kind.limit.at(option, pool_size) * pool_size


def certified_paired(option: dict[str, Any], pool_size: int) -> float:
    """The same for an attacker to whom the other patients' data do not depend on which report is right; NaN where that
    is no less."""
    kind = KINDS.get(option["kind"])
    if kind is None or kind.limit is None or kind.limit.paired is None:
        return math.nan
    return kind.limit.paired(option, pool_size) * pool_size


def jointly(option: dict[str, Any]) -> Callable[[int], float] | None:
    """N -> the largest recall for who holds the whole folder and matches it one to one; None where that is no more than
    from one record, or nothing is known of it."""
    kind = KINDS.get(option["kind"])
    if kind is None or kind.limit is None or kind.limit.jointly is None:
        return None
    return partial(kind.limit.jointly, option)


def labelled(kind: str) -> bool:
    """Do records of this kind teach a reader only where the state of one random finding travels with each?

    >>> labelled("codes"), labelled("statistics"), labelled("label-oneshot")
    (True, False, False)
    """
    return kind in KINDS and KINDS[kind].labelled


def options_of(entry: Entry) -> pd.DataFrame:
    """OPTION_COLUMNS, in the order they were added; heads that were replaced since are left out. None where their
    linkage was counted by an earlier rule: all is measured anew then."""
    table = _read(entry, OPTIONS, (*OPTION_COLUMNS, "head_sha256"))
    now = {name: lab.hash_of(entry, name) for name in (OFF_THE_SHELF, *lab.head_names(entry))}
    if of_earlier_rule(entry):
        table = table.iloc[:0]
    good = (table["head"] == "") | (table["head"].map(now) == table["head_sha256"])
    return table.loc[good, list(OPTION_COLUMNS)].reset_index(drop=True)


def of_earlier_rule(entry: Entry) -> bool:
    """Whether its tables have a worst attacker of an earlier rule (lab.of_earlier_rule)."""
    return LINKAGE in entry.manifest["files"] and lab.of_earlier_rule(read_table(entry.file(LINKAGE)))


def begun(entry: Entry) -> Entry:
    """The entry with tables of no option, where those it had are of an earlier rule."""
    for relative, columns in (
        (OPTIONS, (*OPTION_COLUMNS, "head_sha256")),
        (UTILITY, UTILITY_COLUMNS),
        (LINKAGE, LINKAGE_COLUMNS),
    ):
        if not of_earlier_rule(entry):
            break
        entry = entry.add_file(relative, partial(write_table, table=pd.DataFrame(columns=list(columns))))
    return entry


def linkage(entry: Entry) -> pd.DataFrame:
    """LINKAGE_COLUMNS of every option; for heads, who have embeddings and heads, the lab's own table."""
    options = options_of(entry)
    heads = options[options["head"] != ""][["option", "head"]]
    of_heads = lab.linkage(entry).query(
        "release == 'embeddings-and-heads' and k == 1 and m == 'all' or attacker == 'worst'"
    )
    of_heads = of_heads[of_heads["release"] == "embeddings-and-heads"].merge(heads, on="head")
    own = _read(entry, LINKAGE, LINKAGE_COLUMNS)
    own = own[own["option"].isin(options["option"])]
    parts = [part[list(LINKAGE_COLUMNS)] for part in (of_heads, own) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(LINKAGE_COLUMNS))


def utility(entry: Entry) -> pd.DataFrame:
    """UTILITY_COLUMNS: AUROC after, and its difference from clean embeddings, by use and group of findings."""
    table = _read(entry, UTILITY, UTILITY_COLUMNS)
    return table[table["option"].isin(options_of(entry)["option"])].reset_index(drop=True)


def keep(
    entry: Entry, option: dict[str, Any], linked: Iterable[dict[str, Any]] = (), used: Iterable[dict[str, Any]] = ()
) -> Entry:
    """Write what was found of one option in place of what was there; the entry that knows it is returned."""
    now = entry.again()
    option = {"head": "", "mu": np.nan, "limit": np.nan, "epsilon": np.nan, "seed": None, "listed": 0, **option}
    option["head_sha256"] = lab.hash_of(now, option["head"]) if option["head"] else ""
    for relative, columns, rows in (
        (OPTIONS, (*OPTION_COLUMNS, "head_sha256"), [option]),
        (LINKAGE, LINKAGE_COLUMNS, list(linked)),
        (UTILITY, UTILITY_COLUMNS, list(used)),
    ):
        if not rows:
            continue
        table = _read(now, relative, columns)
        again = table["option"] == option["option"]
        for part in ("use", "attacker"):  # another use, another attacker of the same release stays
            if part in columns:
                again &= table[part].isin({row[part] for row in rows})
        table = table[~again]
        added = pd.DataFrame(rows).assign(option=option["option"]).reindex(columns=list(columns))
        if "seed" in columns:
            added, table = (part.astype({"seed": "Int64"}) for part in (added, table))
        whole = pd.concat([table, added], ignore_index=True) if len(table) else added
        now = now.add_file(relative, partial(write_table, table=whole))
    return now


def dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as dictionaries with text keys."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _read(entry: Entry, relative: str, columns: Iterable[str]) -> pd.DataFrame:
    if relative not in entry.manifest["files"]:
        return pd.DataFrame(columns=list(columns))
    return read_table(entry.file(relative))
