"""Words and cards of one release whose linkage is limited for every attacker: its limit, what was measured, its use.

Made from the rows of linkage_core.frontier; nothing is fetched here. The limit and what was measured are two cards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from explorer.drawing.charts import Row
from explorer.drawing.palette import Palette
from explorer.drawing.words import OF_RELEASES, OfRelease, attacker_label, deed
from explorer.frame.kept import RELEASE_KINDS
from explorer.protect import curve
from explorer.protect.cards import bar
from explorer.protect.curve import Line
from explorer.protect.options import KINDS, at_most, key_of, limit_of, name, setting, summed, times
from explorer.protect.uses import Use
from linkage_core.cohorts.base import LABELS
from linkage_core.lab import frontier
from linkage_core.lab.measured import WORST
from linkage_core.mitigation import accounting
from linkage_core.ranking.pools import log_pool_sizes
from linkage_core.sentences import TOO_FEW, denominator, figure, of, too_few, upper

MECHANISMS = {kind: f"Release: {KINDS[kind].lower()}" for kind in RELEASE_KINDS}
LIMIT_HELP = "Smaller: every attacker learns less from it, and so does whoever reads it. At N = 10,000."
KNOWS_ALL = "Knows all embeddings"
PUBLIC = "public labels, nothing released"


@dataclass(frozen=True)
class Release:
    """One setting of a release: its runs (options that differ by their seed alone) and the first of them."""

    kind: str
    limit: float
    options: tuple[str, ...]
    first: dict[str, Any]

    @property
    def title(self) -> str:
        said = setting(self.first)
        return f"{name(self.first)}, {said}" if said else name(self.first)

    @property
    def words(self) -> OfRelease:
        """What is said of its kind."""
        return OF_RELEASES[self.kind]

    @property
    def summed(self) -> bool:
        """Whether it is over patients, and not a row for each record."""
        return summed(self.kind)

    def certified(self, pool_size: int) -> float:
        """The largest lift of any attacker at N; NaN for none."""
        return frontier.certified(self.first, pool_size)

    def paired(self, pool_size: int) -> float:
        """The lesser one, for who knows the other patients; NaN where there is none."""
        return frontier.certified_paired(self.first, pool_size)


def settings(options: pd.DataFrame, kind: str) -> list[Release]:
    """Every measured setting of a kind of release, the tightest limit first."""
    rows = options[(options["kind"] == kind) & (options["family"] == frontier.RELEASE)]
    keys = [key_of(str(option)) for option in rows["option"]]
    measured = []
    for _, runs in rows.groupby(keys, sort=False):
        first = {str(column): value for column, value in runs.iloc[0].items()}
        measured.append(Release(kind, float(f"{limit_of(first):.4g}"), tuple(runs["option"]), first))
    return sorted(measured, key=lambda release: release.limit)


def what(release: Release) -> str:
    """What leaves, in a few words."""
    said = release.words.what.format(value=release.first["value"])
    listed = int(release.first["listed"])
    return f"{said} ({listed} findings listed)" if listed and release.summed else said


def rows_of(linkage: pd.DataFrame, release: Release, cohort: str) -> pd.DataFrame:
    """What attackers reach, by attacker and N: the mean over runs, and n."""
    rows = linkage[linkage["option"].isin(release.options) & (linkage["cohort"] == cohort)]
    if rows.empty:
        return rows
    numbers = ["recall", "recall_low", "recall_high", "chance", "n_queries", "n_patients"]
    found = rows.groupby(["attacker", "pool_size"], sort=False).agg(
        {**dict.fromkeys(numbers, "mean"), "named": "first", "flag": "first"}
    )
    return found.reset_index()


def of_attacker(rows: pd.DataFrame, attacker: str, pool_size: int | None = None) -> pd.DataFrame:
    found = rows[rows["attacker"] == attacker]
    return (found if pool_size is None else found[found["pool_size"] == pool_size]).sort_values("pool_size")


def who_words(row: Row) -> str:
    """An attacker by name."""
    special = {named: said for words in OF_RELEASES.values() for named, said in words.attacks.items()}
    if row["named"] in special:
        return special[row["named"]]
    if row["attacker"] == frontier.LABELLED:
        return "Told one finding too"
    if row["attacker"] == frontier.OMNISCIENT:
        return KNOWS_ALL
    return attacker_label(row["attacker"], "own")


# -- card 1: the limit -----------------------------------------------------------------------------------------------


def limit(release: Release, pool_size: int, out_of: int, palette: Palette) -> str:
    """HTML of card 1: at most how often, for whom, and what that rests on. No epsilon stands here."""
    head = f'<p class="mi-head"><b>1 · Limit, for {escape(release.words.whom)}</b></p>'
    lift = release.certified(pool_size)
    if math.isnan(lift):
        body = '<p class="mi-big"><b>None established.</b></p><p class="mi-why">No limit is certified for this.</p>'
        return f'<div class="mi-card">{head}{body}</div>'
    said = limit_sentence(release.kind, at_most(lift, pool_size, out_of), pool_size, out_of)
    small = f"{_less(release, pool_size, out_of)}{release.words.assumed} Nothing else of the images may leave."
    big = re.sub(r"(at most )([\d,]+ of [\d,]+)", r"\1<b>\2</b>", escape(said))
    width = 100 * min(max(math.log(max(lift, 1.0)) / math.log(pool_size), 0.005), 1.0) if pool_size > 1 else 100
    scale = (
        f'<div class="mi-scale" role="img" aria-label="{escape(said)}" '
        f'style="--mi-after:{palette.after};--mi-before:{palette.before}"><i style="width:{width:.1f}%"></i></div>'
        f'<div class="mi-ends mi-both"><span>guessing {figure(1 / pool_size, out_of)}</span><span>log scale</span>'
        f"<span>certain {out_of:,}</span></div>"
    )
    return f'<div class="mi-card">{head}<p class="mi-big">{big}</p>{scale}<p class="mi-small">{escape(small)}</p></div>'


def _less(release: Release, pool_size: int, out_of: int) -> str:
    """The lesser limit and whom it is for, where there is one."""
    lift = release.paired(pool_size)
    most = "" if math.isnan(lift) else at_most(lift, pool_size, out_of)
    return f"{upper(release.words.paired)}: at most {most}. " if most else ""


def limit_sentence(kind: str, most: str, pool_size: int, out_of: int) -> str:
    """
    >>> limit_sentence("codes", "64 of 100", 100, 100).removeprefix("Among 100 equally likely reports, ")
    'whoever gets this record picks the right one at most 64 of 100 times. Guessing: 1.'
    """
    words = OF_RELEASES[kind]
    said = f"Among {pool_size:,} equally likely reports, whoever gets {words.limit.format(most=most)}."
    return f"{said} Guessing: {figure(1 / pool_size, out_of)}." if words.guessing else said


# -- card 2: measured linkage ----------------------------------------------------------------------------------------


def measured(
    release: Release,
    rows: pd.DataFrame,
    before: Row | None,
    *,
    pool_size: int,
    out_of: int,
    palette: Palette,
) -> str:
    """HTML of card 2: the worst attacker with its interval, and as a tick the one nobody can outdo."""
    summed = release.summed
    whom = "patients who were summed" if summed else "patients who were held out"
    head = f'<p class="mi-head"><b>2 · Measured linkage</b> on {whom}</p>'
    worst, known = (of_attacker(rows, who, pool_size) for who in (WORST, frontier.OMNISCIENT))
    if worst.empty:
        body = '<p class="mi-big">Not measured at this setting.</p>'
        return f'<div class="mi-card">{head}{body}<p class="mi-small">N = {pool_size:,}.</p></div>'
    now = worst.iloc[0]
    if now["n_queries"] < TOO_FEW or str(now["flag"] or "").startswith("too few"):
        said = escape(f"{upper(too_few(int(now['n_queries'])))}.")
        return f'<div class="mi-card">{head}<p class="mi-big">{said}</p></div>'
    guess, top_of = 1 / pool_size, None if known.empty else float(known["recall"].iloc[0])
    count = escape(of(now["recall"], out_of))
    if summed:
        big = f"{escape(who_words(now))} picks the right report <b>{count}</b> times."
    else:
        big = f"The worst attacker tried links <b>{count}</b> images."
        big += f" Before: {figure(before['recall'], out_of)}." if before is not None else ""
    big += f" Guessing: {figure(guess, out_of)}."
    bars = [("before", None if summed else before, palette.before), ("after", now, palette.after)]
    tops = [float(row["recall_high"]) for _, row, _ in bars if row is not None]
    top = max([*tops, guess, top_of or 0.0]) * (1.0 if top_of is None else 1.01)
    body = "".join(
        bar(
            words,
            float(row["recall"]),
            top,
            colour,
            out_of,
            (float(row["recall_low"]), float(row["recall_high"])),
            None if words == "before" or summed else top_of,
        )
        for words, row, colour in bars
        if row is not None
    )
    body += bar("guessing", guess, top, palette.guessing, out_of)
    small = []
    if summed:
        small.append(
            "Measured in draws of summed patients; this attacker is told one matching, one exchange from right"
        )
        if top_of is not None:
            who = who_words(known.iloc[0])
            small.append(f"{who[:1].lower()}{who[1:]}: {figure(top_of, out_of)}")
    else:
        how = deed(now["named"]) or attacker_label(now["named"], "own").lower()
        small.append(f"Worst: {how}")
        if top_of is not None:
            small.append(f"tick: who knows every candidate's embedding, {figure(top_of, out_of)}; nobody can outdo it")
    if len(release.options) > 1:
        small.append(f"mean of {len(release.options)} runs with other seeds")
    unit = "draws" if summed else "images"
    small.append(f"N = {pool_size:,}, n = {int(now['n_queries']):,} {unit}")
    return (
        f'<div class="mi-card">{head}<p class="mi-big">{big}</p><div class="mi-bars">{body}</div>'
        f'<p class="mi-small">{escape("; ".join(small))}.</p></div>'
    )


# -- against pool size -----------------------------------------------------------------------------------------------


def lines(release: Release, rows: pd.DataFrame, largest: int, palette: Palette) -> list[Line]:
    """The certified limit at every step of N, and who knows all where that was measured."""
    steps = [n for n in log_pool_sizes(largest) if n > 1]
    drawn = []
    values = [release.certified(n) / n for n in steps]
    if not any(math.isnan(v) for v in values):
        mark = {"color": palette.release, "symbol": "line-ns", "size": 11}
        mark["line"] = {"color": palette.release, "width": 2.5}
        drawn.append(Line("certified limit", steps, values, {"color": palette.release, "width": 2.5}, mark))
    known = of_attacker(rows, frontier.OMNISCIENT)
    known = known[known["recall"] > 0]
    if len(known) and not release.summed:
        edge = {"color": palette.after, "width": 2}
        drawn.append(
            Line(
                "knows every embedding",
                [int(n) for n in known["pool_size"]],
                [float(v) for v in known["recall"]],
                {"color": palette.after, "width": 1.5, "dash": "1px,4px"},
                {"color": palette.page, "symbol": "diamond", "size": 10, "line": edge},
            )
        )
    return drawn


def legend(names: Mapping[str, str], also: Sequence[Line], palette: Palette) -> str:
    """HTML: mitigation.legend with the further lines."""
    signs = {"certified limit": ("┃", "solid", palette.release)}
    more = ""
    for one in also:
        sign, dash, colour = signs.get(one.name, ("◇", "dotted", palette.after))
        more += (
            f'<span><i style="border-top:2px {dash} {colour}"></i><em style="color:{colour}">{sign}</em>'
            f"{escape(one.name)}</span>"
        )
    return curve.legend(names, palette).removesuffix("</div>") + more + "</div>"


# -- usefulness ------------------------------------------------------------------------------------------------------


def uses(utility: pd.DataFrame, release: Release, cohort: str) -> list[Use]:
    """Read from it and trained on it, declared and undeclared findings, beside clean embeddings and public labels."""
    words = {
        ("declared", "read"): "Read from it",
        ("declared", "trained"): "Trained on it",
        ("undeclared", "read"): "Undeclared, read",
        ("undeclared", "trained"): "Undeclared, trained",
    }
    here = utility[utility["cohort"] == cohort]

    def found(options: Sequence[str], use: str, group: str) -> Row | None:
        rows = here[here["option"].isin(options) & (here["use"] == use) & (here["findings"] == group)]
        numbers = ["auroc", "auroc_low", "auroc_high", "difference", "difference_low", "difference_high"]
        return None if rows.empty else rows[numbers].mean().to_dict()

    made = []
    for (group, use), title in words.items():
        row, public = found(release.options, use, group), found([frontier.NOTHING], use, group)
        if group == "undeclared" and int(release.first["listed"]) == len(LABELS):
            made.append(Use(title, why=f"all {len(LABELS)} findings are listed"))
            continue
        if row is None:
            why = "nothing to read: no single records" if release.summed and use == "read" else ""
            made.append(Use(title, why=why or "not measured at this setting"))
            continue
        clean = row["auroc"] - row["difference"]
        made.append(
            Use(
                title,
                (clean, clean, clean),
                (row["auroc"], row["auroc_low"], row["auroc_high"]),
                None if public is None else (public["auroc"], public["auroc_low"], public["auroc_high"]),
                (row["difference"], row["difference_low"], row["difference_high"]),
            )
        )
    return made


def worth(rows: Sequence[Use]) -> str:
    """HTML: whether a recipient gains anything by the release that public labels do not give."""
    title = '<p class="mi-head"><b>Is it worth releasing?</b></p>'
    return f'<div class="mi-card mi-damage">{title}<p class="mi-line">{escape(worth_words(rows))}</p></div>'


def worth_words(rows: Sequence[Use]) -> str:
    """What the release adds to a reader trained on public labels with nothing released, as far as intervals carry."""
    said = []
    for use in rows:
        if not (use.after and use.noise):
            continue
        group = "undeclared findings" if use.name.startswith("Undeclared") else "declared findings"
        if use.name == "Read from it":
            said.append("Findings can be read from single records; with nothing released there is nothing to read.")
        if "rained" not in use.name:
            continue
        both = f"{group}: {use.after[0]:.3f} trained on it, {use.noise[0]:.3f} with public labels and nothing released"
        if use.after[1] > use.noise[2]:
            end = "the release is better."
        elif use.after[2] < use.noise[1]:
            end = "nothing released is better."
        else:
            end = "no difference beyond the intervals."
        said.append(f"{upper(both)}; {end}")
    return " ".join(said) or "What public labels give with nothing released was not measured here."


# -- details ---------------------------------------------------------------------------------------------------------


def facts(release: Release, sizes: Sequence[int]) -> list[tuple[str, str]]:
    """What the limit follows from, and the limit at several N."""
    first = release.first
    said = [("Release", release.title), ("Code name", str(first["option"]))]
    for n in sizes:
        lift = release.certified(n)
        if not math.isnan(lift):
            said.append((f"At most, N = {n:,}", f"{times(lift)} times guessing: {at_most(lift, n, denominator(n))}"))
        less = release.paired(n)
        if not math.isnan(less):
            most = f"{times(less)} times guessing: {at_most(less, n, denominator(n))}"
            said.append((f"{upper(release.words.paired)}, N = {n:,}", most))
    if release.summed and not math.isnan(first["mu"]):
        mu = float(first["mu"])
        said.append(("Gaussian μ of all queries", f"{mu:.4g}, unit: patient, {accounting.RELATION}"))
        epsilon = first["value"] if first["parameter"] == "epsilon" else first["epsilon"]
        if epsilon == epsilon:
            small = f"{accounting.gaussian_delta(1 / mu, float(epsilon)):.2g}".replace("e-0", "e-")
            said.append(("ε and δ", f"ε = {epsilon:g}, δ = {small}"))
        said.append(("Limit", "Φ(Φ⁻¹(1/N) + 3μ): an exchange of two reports changes three contributions"))
        said.append((upper(release.words.paired), "Φ(Φ⁻¹(1/N) + μ); reference: the same data without the patient"))
    if frontier.labelled(release.kind):
        for n in sizes:
            twice = at_most(2 * release.certified(n), n, denominator(n))
            said.append((f"With one finding beside each, N = {n:,}", f"at most {twice}: twice the limit"))
    if release.words.follows:
        said.append(("Limit", release.words.follows))
    jointly = frontier.jointly(first)
    if jointly is not None:
        for n in sizes:
            said.append((f"Whole folder, N = {n:,}", f"at most {at_most(jointly(n) * n, n, denominator(n))}"))
    if len(release.options) > 1:
        said.append(("Runs", f"{len(release.options)} with other seeds; figures are their mean"))
    return said


def attacker_rows(rows: pd.DataFrame, out_of: int, pool_size: int) -> pd.DataFrame:
    """Every measured attacker at one N."""
    here = rows[rows["pool_size"] == pool_size]
    return pd.DataFrame(
        {
            "attacker": ["Worst" if row["attacker"] == WORST else who_words(row) for row in here.to_dict("records")],
            f"links, of {out_of:,}": (out_of * here["recall"]).round(3),
            "low": (out_of * here["recall_low"]).round(3),
            "high": (out_of * here["recall_high"]).round(3),
            "times chance": (here["recall"] / here["chance"]).round(2),
            "n": here["n_queries"].astype(int),
        }
    ).reset_index(drop=True)


def use_rows(utility: pd.DataFrame, release: Release, cohort: str) -> pd.DataFrame:
    """Every figure of use, run by run."""
    rows = utility[utility["option"].isin([*release.options, frontier.NOTHING]) & (utility["cohort"] == cohort)]
    return rows[["option", "use", "findings", "auroc", "auroc_low", "auroc_high", "difference", "trained_on"]].round(4)
