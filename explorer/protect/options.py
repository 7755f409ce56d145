"""The options of Compare mitigations: their names, families, settings and order."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from explorer.drawing.words import OF_RELEASES, controls, mechanisms
from explorer.frame.kept import RELEASE_KINDS
from linkage_core import sentences
from linkage_core.cohorts.base import LABELS
from linkage_core.lab import frontier
from linkage_core.lab.setting import why_no_pairs
from linkage_core.mitigation.mechanisms import MECHANISMS, NOISE_ONLY
from linkage_core.mitigation.training import SITE_B
from linkage_core.release import table
from linkage_core.sentences import signed
from linkage_core.store.entry import LADDER, OFF_THE_SHELF, Entry

KINDS = {name: kind.title for name, kind in table.KINDS.items()}
"""Releases, by kind."""
FAMILIES = {
    "before": "nothing done",
    "nothing": "nothing released",
    "label": "label head",
    "aligned": "aligned head",
    "control": "control: hides, cuts or narrows",
    "noise": "noise only",
} | {kind: f"release: {words.lower()}" for kind, words in KINDS.items()}
REFERENCES = ("before", "nothing", "noise")
"""Drawn to compare with, and not counted as mitigations."""
PHANTOM, PHANTOM_LAB = "linkage phantom build --lab", ("phantom", LADDER[-1])
"""The command that makes what ships, and the cohort and model that it makes it for."""
_SEED = re.compile(r"-seed\d+")
EVERY = len(LABELS)


def commands(entry: Entry) -> str:
    """What makes the tables of the lab of this cohort and model, releases included; a line each."""
    target, public = f"{entry.cohort}/{entry.model}", SITE_B
    if (entry.cohort, entry.model) == PHANTOM_LAB:
        return PHANTOM
    lines = []
    if entry.cohort == PHANTOM_LAB[0] and why_no_pairs(entry):
        lines.append("linkage phantom build --splits finetune")
    if entry.cohort == public:
        return f"linkage lab {target}"
    if entry.imported:  # nobody here can embed anything with that model
        own = "--image IMAGES.npy --text TEXTS.npy --records RECORDS.csv"
        lines.append(f"linkage import PUBLIC/{entry.model} {own}")
        public = "PUBLIC"
    elif entry.model not in entry.store.models(public):
        lines.append(f"linkage embed {public} --model {shlex.quote(str(entry.manifest['model']['name']))}")
    return "\n".join([*lines, f"linkage lab {target} --public {public}"])


# -- rows ------------------------------------------------------------------------------------------------------------


def merged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a mitigation: runs that differ by their seed alone are averaged.

    Adds key (what stands in the URL), family (of FAMILIES), name, setting, runs (how many), least and most (of
    `measured` over them) and sure (an attacker who knows every embedding finds all, which follows and is not measured).
    The rows keep the order in which they first come.
    """
    found = []
    rows = rows.assign(key=[key_of(str(option)) for option in rows["option"]])
    numbers = [c for c in rows if c in _MEANS]
    for key, runs in rows.groupby("key", sort=False):
        first = runs.iloc[0]
        row: dict[Hashable, Any] = {**first.to_dict(), "key": key, **runs[numbers].mean().to_dict()}
        row |= {"runs": len(runs), "least": runs["measured"].min(), "most": runs["measured"].max()}
        row["family"] = family(first)
        row["sure"] = _sure(row)
        if row["sure"]:
            row |= dict.fromkeys(
                ("measured", "measured_low", "measured_high", "least", "most"), float(row["pool_size"])
            )
        row["name"], row["setting"] = name(row), setting(row)
        found.append(row)
    columns = [*rows.columns, "runs", "least", "most", "sure", "name", "setting"]
    return pd.DataFrame(found, columns=columns)


def key_of(option: str) -> str:
    """What an option is called whatever its seed.

    >>> key_of("label-oneshot-eps0.34-seed0-7findings")
    'label-oneshot-eps0.34-7findings'
    """
    return _SEED.sub("", option)


_MEANS = {
    *("measured", "measured_low", "measured_high", "certified", "certified_paired", "ceiling"),
    *(f"{group}{end}" for group in frontier.GROUPS for end in ("", "_low", "_high", "_difference")),
}


def family(row: Mapping | pd.Series) -> str:
    """Which of FAMILIES an option belongs to."""
    kind = str(row["kind"])
    if kind == OFF_THE_SHELF:
        return "before"
    if kind == frontier.NOTHING:
        return "nothing"
    if kind == NOISE_ONLY:
        return "noise"
    if row["family"] == frontier.RELEASE and kind in KINDS:
        return kind
    if row["family"] == frontier.HEAD:
        return "label" if kind in MECHANISMS and MECHANISMS[kind].labels else "aligned"
    return "control"


def _sure(row: Mapping) -> bool:
    """Whether who knows every candidate's clean embedding finds each record: any embedding without noise.

    release.ceiling: without noise the likelihood is 1 at the record's own embedding and 0 elsewhere.
    """
    noisy = row["kind"] in MECHANISMS and MECHANISMS[row["kind"]].noisy_output
    embeddings = row["family"] in ("before", "label", "aligned", "control") and not noisy
    asked = row["attacker"] == frontier.OMNISCIENT
    return bool(embeddings and asked and math.isnan(row["measured"]))


def name(row: Mapping) -> str:
    """A mitigation in users' words."""
    kind = str(row["kind"])
    if kind == OFF_THE_SHELF:
        return "Clean embeddings"
    if kind == frontier.NOTHING:
        return "Nothing released"
    if kind == NOISE_ONLY:
        like = next((words for one, words in mechanisms().items() if f"{NOISE_ONLY}-{one}" in str(row["option"])), "")
        return f"Noise only: {like[:1].lower()}{like[1:]}" if like else "Noise only"
    words = {**mechanisms(), **controls(), **KINDS}
    if kind in OF_RELEASES and row["value"] != row["value"]:
        return OF_RELEASES[kind].unset or words[kind]
    return words.get(kind, kind)


def setting(row: Mapping) -> str:
    """The setting of a mitigation: its epsilon, its limit or its noise, and how many findings it lists."""
    value, kind, parts = float(row["value"]), str(row["kind"]), []
    if row["parameter"] == "epsilon" and value == value:
        parts.append(f"ε = {'∞' if math.isinf(value) else f'{value:g}'}")
    elif row["parameter"] == "limit" and value == value:
        words = OF_RELEASES[kind].setting if kind in OF_RELEASES else "limit {times}"
        parts.append(words.format(times=times(value)))
    elif row["parameter"] and value == value:
        parts.append(f"{row['parameter']} {value:g}")
    if 0 < int(row["listed"]) < EVERY or (summed(kind) and int(row["listed"])):
        parts.append(f"{int(row['listed'])} findings")
    return ", ".join(parts)


def summed(kind: str) -> bool:
    """Whether it is a release of something over patients, and not of a row for each record."""
    return kind in table.KINDS and not table.KINDS[kind].per_record


def times(value: float) -> str:
    """
    >>> times(64.0), times(2.41), times(1234.5)
    ('64', '2.4', '1,234')
    """
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def plus(difference: float) -> str:
    """A difference of AUROC in points, with its sign.

    >>> plus(0.0012), plus(-0.021), plus(0.0001)
    ('+0.1', '\u22122.1', '0.0')
    """
    said = signed(100 * difference, 1)
    return f"+{said}" if said.strip("0.") and difference > 0 else said


def full_name(row: Mapping) -> str:
    return ", ".join(part for part in (str(row["name"]), str(row["setting"])) if part)


def can_say(rows: pd.DataFrame, keep: str) -> pd.Series:
    """Of which rows it is known what becomes of the findings that have to be kept (a mask)."""
    groups = frontier.GROUPS if keep == "undeclared" else frontier.GROUPS[:1]
    return rows[[f"{group}_difference" for group in groups]].notna().all(axis=1)


def keeps(rows: pd.DataFrame, tolerance: float, keep: str) -> pd.Series:
    """Which rows lose no more than `tolerance` points of AUROC on the findings that have to be kept (a mask).

    Where undeclared findings have to be kept too, what was never measured on any is not among them.
    """
    groups = frontier.GROUPS if keep == "undeclared" else frontier.GROUPS[:1]
    within = [100 * rows[f"{group}_difference"] >= -tolerance - 1e-9 for group in groups]
    return pd.Series(np.logical_and.reduce(within), index=rows.index)


def counted(rows: pd.DataFrame) -> pd.DataFrame:
    """What is counted as a mitigation: neither the references nor noise alone; measured for this attacker."""
    return rows[~rows["family"].isin(REFERENCES) & rows["measured"].notna()]


def best(rows: pd.DataFrame, tolerance: float, keep: str) -> pd.DataFrame:
    """The mitigations that keep what has to be kept, the least linkage first."""
    one = counted(rows)
    return one[keeps(one, tolerance, keep)].sort_values("measured", kind="stable")


def at_most(lift: float, pool_size: int, out_of: int) -> str:
    """A certified lift as sentences.at_most says what it limits.

    >>> at_most(64.0, 10_000, 10_000), at_most(2.41, 10_000, 10_000), at_most(64.0, 100, 100)
    ('64 of 10,000', '3 of 10,000', '64 of 100')
    """
    return sentences.at_most(lift / pool_size, out_of)


# -- the table -------------------------------------------------------------------------------------------------------


def ordered(rows: pd.DataFrame, tolerance: float, keep: str) -> pd.DataFrame:
    """Those that keep what has to be kept first, each part by linkage; `kept` says which they are."""
    marked = rows.assign(kept=keeps(rows, tolerance, keep))
    return marked.sort_values(["kept", "measured"], ascending=[False, True], kind="stable").reset_index(drop=True)


def limit_of(option: Mapping) -> float:
    """The one number a release is set by: at most so many times better than guessing, at N = 10,000."""
    if option["parameter"] == "limit" and option["value"] == option["value"]:
        return float(option["value"])
    return float(frontier.certified(dict(option), 10_000))


def settings_link(row: Mapping, options: pd.DataFrame, heads: pd.DataFrame, pool_size: int) -> dict[str, str] | None:
    """The URL parameters that show a row on Mitigation; None for what that page does not have."""
    here = {"N": str(pool_size), "mechanism": str(row["kind"])}
    if row["kind"] in RELEASE_KINDS:
        option = options[options["option"] == row["option"]].iloc[0].to_dict()
        return here | {"limit": f"{limit_of(option):.4g}"}
    if row["kind"] not in mechanisms():
        return None
    stored = heads[heads["head"] == row["head"]]
    if stored.empty:
        return None
    head = stored.iloc[0]
    return {
        **here,
        "epsilon": f"{float(row['value']):g}",
        "findings": str(head["findings"]).replace(", ", ",") or ",".join(LABELS),
        "release": "embeddings-and-heads",
        **({} if pd.isna(head["seed"]) else {"seed": str(int(head["seed"]))}),
    }
