"""Sections about what could be done: ceilings, mitigations, releases and what they leave readable.

A limit is proved, and about the attacker it was proved for; a measurement is what attackers reached. They stand in
tables of their own, and nothing adds them up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from linkage_core import sentences
from linkage_core.attacks.attackers import EVERYTHING
from linkage_core.cohorts.base import LABELS
from linkage_core.lab import frontier, measured
from linkage_core.mitigation.accounting import privacy_sentence
from linkage_core.mitigation.mechanisms import MECHANISMS, NOISE_ONLY
from linkage_core.release.certificate import Certificate
from linkage_core.release.certificate import shown as figures_shown
from linkage_core.release.table import KINDS
from linkage_core.report.found import Found, Lab, Options
from linkage_core.report.measured import attacker_label, rate
from linkage_core.report.tree import Bar, Bars, Block, Column, Listed, Row, Table, Text
from linkage_core.store.entry import OFF_THE_SHELF

PRINTED = {"epsilon": (0.34, 1.0, 3.0, 10.0), "limit": (3.0, 10.0, 30.0, 100.0)}
"""Of the settings that were measured those that are printed; the others stand in the JSON twin."""
IN_PICTURE = {"epsilon": 1.0, "limit": 30.0}
LIMITED_AT = 10_000
"""The N at which sums are made to have a limit (lab.frontier_build)."""
ILLUSTRATION = "illustration"
HOW_ILLUSTRATION = (
    "Illustration: the seed of its noise is stored, so nothing is promised; made again with secret noise it would be."
)
NO_LIMIT = "no limit at this N"
_SEED = re.compile(r"-seed\d+")
LIMITS: dict[bool, tuple[tuple[str, str], ...]] = {
    True: (
        ("at", "one record, and whatever else can be known of the candidates"),
        ("jointly", "the whole folder, records and reports being matched one to one"),
    ),
    False: (
        ("at", "the sums, and images and reports of the summed patients, unpaired"),
        ("paired", "the sums, where the other patients' data do not depend on which report is right"),
    ),
}
"""Whether a row leaves for each record -> the limits of a kind (release.kind.Limit), and who each is about."""


@dataclass(frozen=True)
class Told:
    """One mitigation at one N, runs that differ by their seed alone together: the mean, and the widest interval."""

    first: str
    name: str
    setting: str
    kind: str
    parameter: str
    value: float
    runs: int
    who: str
    rate: Row

    @property
    def label(self) -> str:
        return ", ".join(one for one in (self.name, self.setting) if one)

    @property
    def named(self) -> Row:
        """What a table says of it first."""
        return {"name": self.name, "setting": self.setting}


NAMED = (Column("name", "what"), Column("setting", "setting"))


# -- ceilings --------------------------------------------------------------------------------------------------------


def ceilings(found: Found) -> list[Block] | str:
    """What an attacker reaches who knows the clean embedding of every candidate, by release."""
    options = found.options
    told = [] if isinstance(options, str) else [one for one in _releases(options, frontier.OMNISCIENT) if one.runs]
    told = [one for one in told if _per_record(one)]
    if isinstance(options, str) or not told:
        return "No ceiling was computed for this cohort: that needs a release that was measured."
    caption = f"Linked by whoever knows every candidate's embedding, N = {options.pool_size:,}"
    columns = (*NAMED, Column("recall", "ceiling", "rate"))
    return [
        Text(
            "What nobody passes in the same game, however good: an attacker who knows the clean embedding of every "
            "candidate. It is worked out for the very mechanism on these records, and is no proof about others. "
            "Embeddings that leave without noise have no such ceiling: whoever knows all candidates finds each."
        ),
        _table("ceilings", caption, columns, [(one, one.rate) for one in told]),
    ]


# -- mitigations -----------------------------------------------------------------------------------------------------


def mitigations(found: Found) -> list[Block] | str:
    """Heads of the lab: what is promised to those who trained them, then what attackers reach on others."""
    lab = found.lab
    if isinstance(lab, str):
        target = f"{found.entry.cohort}/{found.first.name}"
        return lab or f"No mitigation was measured on this cohort. `linkage lab {target}` makes and measures some."
    about = lab.about
    told = _heads(lab)
    promises = [(one, _promise(about[one.first])) for one in told if about[one.first]["kind"] != "control"]
    caption = f"N = {lab.pool_size:,}, held-out patients"
    before = [one for one in told if one.first == OFF_THE_SHELF]
    pictured = [one for one in told if _pictured(one) and about[one.first]["kind"] != "control"]
    columns = (*NAMED, Column("recall", "linked", "rate"), Column("who", "the worst attacker tried"))
    return [
        Text(
            "A mitigation here is a new last layer (a head) on both sides of the model. Two things are said of each, "
            "and they are about different people: first what is promised to the patients whose pairs trained the head, "
            "which says nothing about how often a released image is linked; then what was measured on patients held "
            "out."
        ),
        _table(
            "promises",
            "Promised to the patients who trained a head",
            (
                *NAMED,
                Column("promise", "whoever guesses whether a patient was used is"),
                Column("delta", "but for (delta)"),
                Column("status", "how far that holds"),
            ),
            promises,
            f"{HOW_ILLUSTRATION} Controls promise nothing and are left out here."
            if any(row["status"] == ILLUSTRATION for _, row in promises)
            else "Controls promise nothing and are left out here.",
        ),
        *_bars(
            "before-after", f"Measured: images linked by the worst attacker tried, {caption}", before, pictured, lab
        ),
        _table(
            "reached",
            f"Measured: images linked, {caption}; guessing {_guess(lab.pool_size)}",
            (*columns, Column("runs", "runs", "whole")),
            [(one, one.rate | {"who": one.who, "runs": one.runs}) for one in told],
            "Several runs differ by the seed of their noise: the mean, and the widest ends of their intervals.",
        ),
    ]


def _promise(head: Row) -> Row:
    if math.isnan(head["accuracy"]):
        known = MECHANISMS.get(str(head["mechanism"]))
        why = known.claim if known and known.claim else str(head["claim"])
        return {"promise": "not limited: none established", "status": why.removeprefix("none: ")}
    status = ILLUSTRATION if head["reproducible"] else f"holds, by {head['unit']}"
    return {
        "promise": privacy_sentence(float(head["accuracy"])).removesuffix(
            ", when used and not used are equally likely; a coin is right 50"
        ),
        "status": status,
        "accuracy": float(head["accuracy"]),
        "delta": f"{head['delta']:.2g}",
    }


def _heads(lab: Lab) -> list[Told]:
    """The model as it is first, then mitigations, then controls."""
    rows, about = lab.linkage, lab.about
    rows = rows[(rows["release"] == EVERYTHING) & (rows["attacker"] == measured.WORST) & (rows["k"] == 1)]
    rows = rows[(rows["pool_size"] == lab.pool_size) & rows["head"].isin(list(about))]

    def describe(head: str) -> tuple[str, str, str, float, int]:
        said = about[head]
        listed = [one for one in str(said["findings"]).split(", ") if one]
        name = head_name(str(said["mechanism"]), str(said["like"]))
        return name, f"{said['mechanism']} {said['like']}", "epsilon", float(said["epsilon"]), len(listed)

    told = _together(rows, "head", describe)
    place = {"private": 1, "reported": 2, "control": 3}
    return sorted(
        told,
        key=lambda one: (
            one.first != OFF_THE_SHELF,
            place.get(str(about[one.first]["kind"]), 3),
            one.name,
            one.setting.count("findings"),
            one.value if one.value == one.value else -1.0,
        ),
    )


def head_name(mechanism: str, like: str = "") -> str:
    """A head by what made it, in the words of the table of mechanisms.

    >>> head_name("label-oneshot"), head_name("noise-only", "label-oneshot"), head_name("off-the-shelf")
    ('Label head, instant', 'Noise alone of: label head, instant', 'Nothing done')
    """
    if mechanism == OFF_THE_SHELF:
        return "Nothing done"
    if mechanism == NOISE_ONLY:
        label = head_name(like)
        return f"Noise alone of: {label[:1].lower()}{label[1:]}"
    return (MECHANISMS[mechanism].label if mechanism in MECHANISMS else "") or mechanism


# -- releases --------------------------------------------------------------------------------------------------------


def releases(found: Found) -> list[Block] | str:
    """Releases of the frontier and folders that were named: what is limited for whom, then what was measured."""
    blocks = [block for one in found.certificates for block in _certificate(one)]
    options = found.options
    if isinstance(options, str):
        return (
            blocks
            or options
            or (
                "No release was measured on this cohort. `linkage lab "
                f"{found.entry.cohort}/{found.first.name} --public COHORT` measures one of every kind."
            )
        )
    every = _releases(options, measured.WORST)
    # of sums that column of the table holds another attacker who was tried, who knows all other patients
    others = [one for one in _releases(options, frontier.OMNISCIENT) if one.runs and not _per_record(one)]
    told = [one for one in every if one.runs]
    rows = [(one, one.rate | {"who": one.who}) for one in sorted([*told, *others], key=_place_of)]
    limits = [(one, row) for one in every for row in _limits(options, one)]
    blocks.append(
        Text(
            "Releases that were tried on this cohort. A limit holds for exactly the attacker named beside it, for whom "
            "it was proved; what was measured is a lower bound. "
            + (
                "Their noise is repeatable, as this cohort is synthetic: a release takes secret noise. "
                if options.seeded
                else ""
            )
            + "Labels, age or dates beside a release end its limit."
        )
    )
    if limits:
        caption = f"Limited: nobody who gets this picks the right one of N = {options.pool_size:,} reports more often"
        columns = (*NAMED, Column("holds", "whoever gets"), Column("recall", "is right at most", "limit"))
        blocks.append(_table("limits", caption, columns, limits))
    caption = f"images linked by the worst attacker tried, N = {options.pool_size:,}"
    note = (
        "Every study is a candidate here, so these are not to be set beside the figures before a mitigation. Several "
        "runs differ by their seed: the mean, and the widest ends of their intervals."
    )
    columns = (*NAMED, Column("recall", "linked", "rate"), Column("who", "by whom, the worst tried"))
    blocks += _bars("releases", f"Measured: {caption}", [], [one for one in told if _pictured(one)], options)
    caption = f"Measured: {caption}; guessing {_guess(options.pool_size)}"
    return [*blocks, _table("released", caption, columns, rows, note)]


def _releases(options: Options, attacker: str) -> list[Told]:
    """Releases as one attacker found them, by kind and setting; of those whom nobody attacked `runs` is 0."""
    rows = options.linkage
    rows = rows[(rows["attacker"] == attacker) & (rows["pool_size"] == options.pool_size) & (rows["k"] == 1)]
    rows = rows.set_index("option").reindex(list(options.about)).rename_axis("option").reset_index()

    def describe(option: str) -> tuple[str, str, str, float, int]:
        said = options.about[option]
        kind = str(said["kind"])
        name = KINDS[kind].title if kind in KINDS else kind
        return name, kind, str(said["parameter"]), float(said["value"]), int(said["listed"])

    return sorted(_together(rows, "option", describe), key=_place_of)


def _place_of(one: Told) -> tuple[int, str, float, str]:
    order = list(KINDS)
    place = order.index(one.kind) if one.kind in order else len(order)
    return place, one.parameter, one.value if one.value == one.value else -1.0, one.setting


def _per_record(one: Told) -> bool:
    """Whether a row leaves for each record."""
    return one.kind in KINDS and KINDS[one.kind].per_record


def _limits(options: Options, one: Told) -> list[Row]:
    """What is proved of one release: a row for each attacker it is proved against."""
    kind = KINDS.get(one.kind)
    if kind is None or kind.limit is None:
        return []
    option = options.about[one.first]
    rows: list[Row] = []
    for name, whom in LIMITS[kind.per_record]:
        law: Callable[[Mapping[str, Any], int], float] | None = getattr(kind.limit, name)
        most = math.nan if law is None else float(law(option, options.pool_size))
        if most != most:
            continue
        row: Row = {"holds": whom, "out_of": sentences.denominator(options.pool_size)}
        free = most >= 1 - 1e-9
        rows.append(row | ({"recall": None, "note": NO_LIMIT} if free else {"recall": most}))
    return rows


def _certificate(certificate: Certificate) -> list[Block]:
    """What a release folder says of itself, checked again: its sentences and figures."""
    content = certificate.content
    of = content["cohort"]
    names = figures_shown(content)
    columns = [Column("n", "N candidates", "whole"), Column("guessing", "guessing", "rate")]
    columns += [Column(name, f"at most, {words}", "limit") for name, words in names.items()]

    def free(most: float | None) -> bool:
        return most is not None and most >= 1 - 1e-9

    rows = tuple(
        {"n": row["n"], "guessing": row["guessing"], "out_of": sentences.denominator(row["n"])}
        | {name: None if free(row[name]) else row[name] for name in names}
        | ({"note": NO_LIMIT} if any(free(row[name]) for name in names) else {})
        for row in content["certified"]
    )
    about = f"{KINDS[certificate.kind].title}, {of['name']}/{of['model']}"
    blocks: list[Block] = [
        Text(
            f"A release folder, checked when this report was made: {about}. Digest of its certificate: "
            f"{certificate.digest}."
        ),
        Listed(tuple(content["sentences"])),
    ]
    if names:
        blocks.append(Table("certified", f"Certified: {about}. For whom: {content['holds_for']}", tuple(columns), rows))
    return [*blocks, *([Listed(tuple(content["assumptions"]))] if content["assumptions"] else [])]


# -- usefulness ------------------------------------------------------------------------------------------------------


def usefulness(found: Found) -> list[Block] | str:
    """What can still be read from what leaves: differences of AUROC from the model as it is."""
    blocks: list[Block] = []
    columns = (
        *NAMED,
        Column("declared", "declared findings", "points"),
        Column("undeclared", "other findings", "points"),
    )
    if isinstance(found.lab, Lab) and len(found.lab.utility):
        used = [(one, _used(found.lab, one)) for one in _heads(found.lab) if one.first != OFF_THE_SHELF]
        rows = [(one, row) for one, row in used if len(row)]
        caption = "Heads: what a linear reader trained on other patients loses or gains, points of AUROC"
        blocks += [_table("used", caption, columns, rows)] if rows else []
    if isinstance(found.options, Options) and len(found.options.utility):
        every = _releases(found.options, measured.WORST)
        for use, words in frontier.USES.items():
            rows = [(one, row) for one in every if len(row := _of_release(found.options, one, use))]
            blocks += [_table(f"used-{use}", f"Releases: {words}, points of AUROC", columns, rows)] if rows else []
    if not blocks:
        return (
            "Usefulness was not measured: this cohort has no labels."
            if not found.entry.labelled
            else "Usefulness was not measured: that needs a mitigation or release that was."
        )
    return [
        Text(
            "A point is a hundredth of AUROC (100 points: every patient with a finding is told from every one without; "
            "50: a coin). Minus means worse than with the model as it is. Declared findings are those the mitigation "
            "was told to keep. In brackets 95% intervals over patients."
        ),
        *blocks,
    ]


def _used(lab: Lab, one: Told) -> Row:
    rows = lab.utility[(lab.utility["head"] == one.first) & (lab.utility["measure"] == "probe")]
    row: Row = {}
    for group, labels in (("declared", ("macro, declared", "macro")), ("undeclared", ("macro, undeclared",))):
        for label in labels:
            some = rows[(rows["label"] == label) & rows["difference"].notna()]
            if len(some):
                row |= {f"{group}{end}": float(some.iloc[0][f"difference{end}"]) for end in ("", "_low", "_high")}
                break
    return row


def _of_release(options: Options, one: Told, use: str) -> Row:
    row: Row = {}
    for said in options.used.get((one.first, use), []):
        if said["difference"] == said["difference"]:
            group = str(said["findings"])
            row |= {f"{group}{end}": float(said[f"difference{end}"]) for end in ("", "_low", "_high")}
    return row


# -- what they share -------------------------------------------------------------------------------------------------


def key_of(name: str) -> str:
    """What a head or option is called whatever its seed.

    >>> key_of("label-oneshot-eps0.34-seed0-7findings")
    'label-oneshot-eps0.34-7findings'
    """
    return _SEED.sub("", name)


def _together(
    rows: pd.DataFrame, column: str, describe: Callable[[str], tuple[str, str, str, float, int]]
) -> list[Told]:
    """One Told a key_of the names in a column; describe: name -> (name in words, kind, parameter, value, findings)."""
    found = []
    for _, runs in rows.groupby(rows[column].map(key_of), sort=False):
        first = str(runs[column].iloc[0])
        name, kind, parameter, value, listed = describe(first)
        summed = kind in KINDS and not KINDS[kind].per_record
        setting = _setting(parameter, value)
        if summed and parameter == "limit":
            setting += f" at N = {LIMITED_AT:,}"
        if listed and (summed or listed < len(LABELS)):
            setting += f", {listed} findings"
        who = sorted({attacker_label(one) for one in runs["named"].dropna()})
        rates = [rate(run) for run in frontier.dicts(runs) if run["recall"] == run["recall"]]
        known = [one for one in rates if one["recall"] is not None]
        merged: Row = {"recall": None, "note": "not measured"} if not rates else dict(rates[0])
        if known:
            merged = {
                "recall": sum(one["recall"] for one in known) / len(known),
                "recall_low": min(one["recall_low"] for one in known),
                "recall_high": max(one["recall_high"] for one in known),
                "out_of": known[0]["out_of"],
                "n_queries": known[0]["n_queries"],
            }
        kind = f"{kind} {listed}" if column == "head" else kind
        words = setting.removeprefix(", ")
        found.append(Told(first, name, words, kind, parameter, value, len(rates), "; or ".join(who), merged))
    return found


def _setting(parameter: str, value: float) -> str:
    """
    >>> _setting("epsilon", 0.34), _setting("limit", 30.0), _setting("epsilon", math.inf), _setting("", math.nan)
    ('epsilon 0.34', 'limit 30', 'no noise', '')
    """
    if value != value:
        return ""
    return "no noise" if math.isinf(value) else f"{parameter} {value:g}"


def _pictured(one: Told) -> bool:
    """Whether it stands for its kind in a picture."""
    return one.value == IN_PICTURE.get(one.parameter, math.nan) and one.rate["recall"] is not None


def _bars(name: str, caption: str, before: Sequence[Told], after: Sequence[Told], of: Lab | Options) -> list[Block]:
    """The picture, where there is something to see."""
    bars = [
        Bar(one.label, one.rate["recall"], one.rate["recall_low"], one.rate["recall_high"], hollow)
        for some, hollow in ((before, True), (after, False))
        for one in some
        if one.rate["recall"] is not None
    ]
    if not after or len(bars) < 2:
        return []
    out_of = sentences.denominator(of.pool_size)
    told = "; ".join(f"{bar.name} {sentences.of(bar.rate, out_of)}" for bar in bars)
    return [Bars(name, caption, f"{told}; guessing {_guess(of.pool_size)}.", tuple(bars), 1 / of.pool_size, out_of)]


def _guess(pool_size: int) -> str:
    return sentences.of(1 / pool_size, sentences.denominator(pool_size))


def _table(
    name: str, caption: str, columns: tuple[Column, ...], rows: Sequence[tuple[Told, Row]], note: str = ""
) -> Table:
    """A table of mitigations: of those whose setting is a number the usual ones are printed, of others all."""
    kinds: dict[tuple[str, str], set[float]] = {}
    for one, _ in rows:
        kinds.setdefault((one.kind, one.parameter), set()).add(one.value)
    usual = {key: values & set(PRINTED.get(key[1], ())) for key, values in kinds.items()}
    printed: list[Row] = []
    more: list[Row] = []
    for one, row in rows:
        some = usual[one.kind, one.parameter]
        (printed if not some or one.value in some else more).append(one.named | row)
    if more:
        note = f"{note} {len(more)} further settings stand in the JSON file.".strip()
    return Table(name, caption, columns, tuple(printed), note, tuple(more))
