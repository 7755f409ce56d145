"""What a report is about, read once: counts, what follows from them, and what the lab has of the cohort.

Nothing is measured here that is not measured elsewhere, and nothing is worded. What does not exist for a cohort, or
cannot be read, is the sentence that says so in place of the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from linkage_core.audit import exposure, open_world, strata
from linkage_core.audit import study as audit
from linkage_core.audit.full import report_texts
from linkage_core.audit.outcomes import OpenWorld
from linkage_core.audit.questions import HARD_NEGATIVES
from linkage_core.audit.study import Study
from linkage_core.errors import InputError, LinkageError
from linkage_core.lab import frontier, games, measured
from linkage_core.progress import Progress, silent
from linkage_core.ranking.pools import log_pool_sizes
from linkage_core.release.certificate import Certificate
from linkage_core.release.folder import check
from linkage_core.store.entry import Entry
from linkage_core.store.seen import why_untested

T = TypeVar("T")
USUAL = 100
"""N of the headline where every image fills it."""
ROUND = (10, 100, 1000, 10_000)
PRIOR = 0.5
"""How likely the right report is in the pool, where it may be missing: stated, not measured."""
WANTED = (0.0, 0.5, 0.8, 0.9)
N_EXAMPLES = 5


@dataclass(frozen=True)
class Asked:
    """What a report is asked to hold.

    pool_sizes: N, the first of them for the headline; None: the round ones that every image fills. sections: those of
    the table that may be left out and are wanted; None for all. identifiers, text: of the most exposed images, which
    are listed by nothing otherwise. releases: folders of `linkage release`. command: what made it.
    """

    pool_sizes: tuple[int, ...] | None = None
    sections: tuple[str, ...] | None = None
    identifiers: bool = False
    text: bool = False
    releases: tuple[Path, ...] = ()
    command: str = ""
    seed: int = 0


@dataclass(frozen=True)
class OfModel:
    """One model. curve: Study.table for k = 1 at every step of N and every N asked for; decoys: of the same findings,
    (label_matched_auc, rows at their own steps of N), or why there are none."""

    entry: Entry
    study: Study
    curve: pd.DataFrame
    decoys: tuple[dict[str, Any], pd.DataFrame] | str

    @property
    def name(self) -> str:
        """As the user typed it."""
        return str(self.entry.manifest["model"]["name"])

    def at(self, pool_size: int) -> pd.Series | None:
        """Its row at one N; None where no image fills it."""
        rows = self.curve[self.curve["pool_size"] == pool_size]
        return None if rows.empty else rows.iloc[0]


@dataclass(frozen=True)
class Exposed:
    """exposure.exposure, its tail and its groups at one N."""

    table: pd.DataFrame
    tail: exposure.Tail
    groups: pd.DataFrame


@dataclass(frozen=True)
class Lab:
    """The lab's tables of the entry's own cohort; pool_size: the N at which they are told."""

    heads: pd.DataFrame
    linkage: pd.DataFrame
    utility: pd.DataFrame
    games: pd.DataFrame
    pool_size: int

    @cached_property
    def about(self) -> dict[str, dict[str, Any]]:
        """What is said of each head, by its name."""
        return {str(row["head"]): row for row in frontier.dicts(self.heads)}


@dataclass(frozen=True)
class Options:
    """The frontier's tables of the entry's own cohort; pool_size: the N at which they are told."""

    options: pd.DataFrame
    linkage: pd.DataFrame
    utility: pd.DataFrame
    pool_size: int

    @cached_property
    def about(self) -> dict[str, dict[str, Any]]:
        """What is said of each option, by its name."""
        return {str(row["option"]): row for row in frontier.dicts(self.options)}

    @cached_property
    def used(self) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Rows of utility by option and use."""
        found: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in frontier.dicts(self.utility):
            found.setdefault((str(row["option"]), str(row["use"])), []).append(row)
        return found

    @property
    def seeded(self) -> bool:
        """Whether the noise of any of them can be repeated."""
        return bool(self.options["seed"].notna().any())


@dataclass(frozen=True)
class Found:
    """All of it. first: the model that links most at the headline's N, which the rest is about; damaged: model -> why
    it is left out; sizes: N of the tables, pool_size: of the headline; too_large: N that were asked for and no image
    fills. texts: report by study id of the most exposed, where it was asked for and is at hand."""

    asked: Asked
    models: tuple[OfModel, ...]
    damaged: Mapping[str, str]
    first: OfModel
    sizes: tuple[int, ...]
    pool_size: int
    too_large: tuple[int, ...]
    world: OpenWorld | str
    exposed: Exposed | str
    lab: Lab | str
    options: Options | str
    certificates: tuple[Certificate, ...]
    texts: Mapping[str, str]

    @property
    def entry(self) -> Entry:
        return self.first.entry

    @property
    def row(self) -> pd.Series:
        """The row of the headline."""
        return self.first.curve[self.first.curve["pool_size"] == self.pool_size].iloc[0]


def found(
    entries: Sequence[Entry | LinkageError],
    names: Sequence[str],
    asked: Asked,
    *,
    studies: Mapping[str, Study] | None = None,
    progress: Progress = silent,
) -> Found:
    """Read and count what a report of these entries needs: all of one cohort, `names` their models.

    An entry that could not be opened stands in its place as the error; it is left out and named. studies: counts that
    are at hand, by model. Raises InputError for no entry, entries of several cohorts and pools that no image fills, and
    what reading raises where no entry can be read.
    """
    if not entries:
        raise InputError("There is no model to report on.", "Name a cohort of the store.")
    if len({one.cohort for one in entries if isinstance(one, Entry)}) > 1:
        raise InputError("A report is about one cohort.", "Make one for each.")
    steps, done = 2 * len(entries) + 3, 0

    def step() -> None:
        nonlocal done
        progress("report", done, steps)
        done += 1

    step()
    counted: list[tuple[Entry, Study]] = []
    damaged: dict[str, str] = {}
    problems: list[LinkageError] = []
    for name, entry in zip(names, entries, strict=True):
        try:
            if isinstance(entry, LinkageError):
                raise entry
            study = (studies or {}).get(entry.model) or audit.study(entry, seed=asked.seed)
            counted.append((entry, study))
        except LinkageError as problem:
            damaged[name] = str(problem)
            problems.append(problem)
        step()
    if not counted:
        raise problems[0]
    sizes, pool_size, too_large = _sizes([study for _, study in counted], asked.pool_sizes)
    models = []
    for entry, study in counted:
        models.append(OfModel(entry, study, _curve(study, sizes), _decoys(entry, study, asked)))
        step()
    rows = [(model.at(pool_size), model) for model in models]
    first = max(((float(row["recall"]), i) for i, (row, _) in enumerate(rows) if row is not None))[1]
    the_first = models[first]
    world = _unless(lambda: _world(the_first, pool_size, asked)) if _wants(asked, "missing-match") else ""
    step()
    exposed = _unless(lambda: _exposed(the_first.study, pool_size, asked)) if _wants(asked, "exposure") else ""
    step()
    texts: Mapping[str, str] = {}
    if asked.text and isinstance(exposed, Exposed):
        texts = _texts(the_first.entry, most_exposed(exposed.table))
    certificates = tuple(_certificate(folder, the_first.entry.cohort) for folder in asked.releases)
    lab = _unless(lambda: _lab(the_first.entry, pool_size))
    options = _unless(lambda: _options(the_first.entry, pool_size))
    progress("report", steps, steps)
    return Found(
        asked=asked,
        models=tuple(models),
        damaged=damaged,
        first=the_first,
        sizes=sizes,
        pool_size=pool_size,
        too_large=too_large,
        world=world,
        exposed=exposed,
        lab=lab,
        options=options,
        certificates=certificates,
        texts=texts,
    )


def most_exposed(table: pd.DataFrame) -> pd.DataFrame:
    """The few images whose report comes first most often; one a patient."""
    order = table.sort_values(["p_first", "record_id"], ascending=[False, True], kind="stable")
    return order.drop_duplicates("patient_id").head(N_EXAMPLES)


def usual_size(common: int) -> int:
    """N of the headline: 100, or the largest round step that every image fills, or what there is.

    >>> usual_size(10_483), usual_size(55), usual_size(7)
    (100, 50, 7)
    """
    return max((n for n in log_pool_sizes(common) if n <= USUAL and (n < common or n in ROUND)), default=common)


def _sizes(studies: Sequence[Study], wanted: tuple[int, ...] | None) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """(N of the tables, N of the headline, N that nobody fills)."""
    common = min(study.common_pool for study in studies)
    if wanted is None:
        pool_size = usual_size(common)
        fit = [n for n in ROUND if n <= common]
        last = [common] if common >= 2 * max(fit, default=0) else []
        return tuple(sorted({*fit, pool_size, *last})), pool_size, ()
    largest = min(study.largest_pool for study in studies)
    asked_for = tuple(dict.fromkeys(n for n in wanted if 2 <= n <= largest))
    if not asked_for:
        raise InputError(
            f"No image fills a pool of {', '.join(f'{n:,}' for n in wanted)} reports.",
            f"The largest N is {largest:,}, the smallest 2.",
        )
    return tuple(sorted(asked_for)), asked_for[0], tuple(n for n in wanted if n not in asked_for)


def _curve(study: Study, sizes: Sequence[int]) -> pd.DataFrame:
    steps = {*log_pool_sizes(study.common_pool), *sizes}
    return study.table(sorted(n for n in steps if n <= study.largest_pool), (1,))


def _decoys(entry: Entry, study: Study, asked: Asked) -> tuple[dict[str, Any], pd.DataFrame] | str:
    if not _wants(asked, "decoys"):
        return ""
    if not entry.labelled:
        return "This cohort has no labels, so no decoys with the same findings can be chosen."

    def made() -> tuple[dict[str, Any], pd.DataFrame]:
        alike = audit.study(entry, pool=HARD_NEGATIVES, split=study.split, seed=asked.seed)
        largest = strata.fillable_pool(alike.counts, alike.queries["patient_id"].to_numpy())
        steps = [n for n in strata.pool_steps(largest) if n in ROUND] if largest else []
        return alike.label_matched_auc(), alike.table(steps, (1,)) if steps else study.table([2], (1,)).iloc[:0]

    return _unless(made)


def _world(model: OfModel, pool_size: int, asked: Asked) -> OpenWorld:
    # without the match there is one report less to fill the pool with
    n = max(1, min(pool_size, model.study.common_pool - 1))
    return open_world.prepare(model.entry, seed=asked.seed).outcomes(n).at(PRIOR, WANTED)


def _exposed(study: Study, pool_size: int, asked: Asked) -> Exposed:
    table = exposure.exposure(study, pool_size)
    tail = exposure.tail(table["p_first"].to_numpy(), table["patient_id"].to_numpy(), seed=asked.seed)
    groups = [exposure.groups(table, study.queries, by, seed=asked.seed) for by in exposure.GROUPS]
    return Exposed(table, tail, pd.concat(groups, ignore_index=True))


def _texts(entry: Entry, rows: pd.DataFrame) -> Mapping[str, str]:
    """Stored text, and of a synthetic cohort what its grammar writes; files of a real one are not opened for this."""
    stored = entry.stored_reports()
    if not stored and entry.synthetic:
        records = entry.records(entry.default_split)
        stored = report_texts(entry, records[records["study_id"].isin(rows["study_id"])])
    return {study: stored[study] for study in rows["study_id"] if study in stored}


def _lab(entry: Entry, pool_size: int) -> Lab | str:
    linkage, used, other = measured.linkage(entry), measured.utility(entry), games.games(entry)
    linkage, used, other = (table[table["cohort"] == entry.cohort] for table in (linkage, used, other))
    sizes = sorted({int(n) for n in linkage.loc[linkage["attacker"] == measured.WORST, "pool_size"]})
    if not sizes:
        return nothing_measured(entry)
    return Lab(measured.heads(entry), linkage, used, other, nearest_below(sizes, pool_size))


def _options(entry: Entry, pool_size: int) -> Options | str:
    options = frontier.options_of(entry)
    options = options[options["family"] == frontier.RELEASE]
    if options.empty:
        return nothing_measured(entry)
    linkage, used = frontier.linkage(entry), frontier.utility(entry)
    linkage, used = (
        table[(table["cohort"] == entry.cohort) & table["option"].isin(options["option"])] for table in (linkage, used)
    )
    sizes = sorted({int(n) for n in linkage["pool_size"]}) or [pool_size]
    return Options(options, linkage, used, nearest_below(sizes, pool_size))


def nothing_measured(entry: Entry) -> str:
    """Why there is nothing of the lab: who could be tested is missing, or nobody has run it."""
    problem = why_untested(entry)
    return "" if problem is None else problem.what


def nearest_below(sizes: Sequence[int], pool_size: int) -> int:
    """
    >>> nearest_below([100, 1000], 500), nearest_below([100, 1000], 50)
    (100, 100)
    """
    return max((n for n in sizes if n <= pool_size), default=min(sizes))


def _wants(asked: Asked, section: str) -> bool:
    return asked.sections is None or section in asked.sections


def _certificate(folder: Path, cohort: str) -> Certificate:
    certificate = check(folder)
    if certificate.content["cohort"]["name"] != cohort:
        raise InputError(
            f"The release {folder} is of the cohort {certificate.content['cohort']['name']}, not of {cohort}.",
            "Name the folders of this cohort's releases alone.",
        )
    return certificate


def _unless(make: Callable[[], T | str]) -> T | str:
    """What is made, or the sentence that says why it cannot be."""
    try:
        return make()
    except LinkageError as error:
        return error.what
