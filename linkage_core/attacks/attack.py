"""Attackers who adapt: what does a release give away to somebody who works for it?

Cosine similarity understates an attacker, most of all after a mitigation that only moves the embeddings about. Each
attacker here has a name and a list of what it holds; it learns from the attacker's own split, whose patients are none
of the queries', and is then scored once on the held-out split. Whatever it learns ends as one inner product,

    score(image i, report j) = q_i . c_j,    with c_j made from the text of report j alone,

a report-only term being one more coordinate (q gets a 1), while an image-only term ranks nothing. So
ranking.match_counts counts it exactly, and identical texts tie exactly. Scores that are no such product are counted
exactly too, block by block (scored.InBlocks).

What is measured is a lower bound: another attacker may do better. release.ceiling is the other side, for all attackers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from linkage_core.attacks.attackers import ATTACKERS, COSINE, EVERYTHING, IMAGES, allowed, takes_m
from linkage_core.attacks.folds import known_rows
from linkage_core.attacks.held import Held, Known, hold
from linkage_core.attacks.scored import Answer, Scored
from linkage_core.audit.study import PoolSize, Study
from linkage_core.errors import InputError
from linkage_core.progress import Progress, silent
from linkage_core.ranking import intervals
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.validate import one_of

_log = logging.getLogger(__name__)

# ----------------------------------------------------------------------------------------------------- one attack


@dataclass(frozen=True)
class Attack:
    """One attacker's exact counts over the held-out split, with how it went about it.

    `known` is how many own images or pairs it used; `chosen` the variant that its own cross-validation picked.
    """

    study: Study
    attacker: str
    release: str
    m: Known
    known: int
    chosen: str

    @property
    def counts(self) -> MatchCounts:
        return self.study.counts

    @property
    def queries(self) -> pd.DataFrame:
        return self.study.queries

    def table(self, pool_sizes: Sequence[PoolSize], ks: Sequence[int]) -> pd.DataFrame:
        """As Study.table, in the order of COLUMNS, which say who attacked."""
        rows = self.study.table(pool_sizes, ks)
        for name, value in (
            *(("attacker", self.attacker), ("release", self.release)),
            *(("m", str(self.m)), ("known", self.known), ("chosen", self.chosen)),
        ):
            rows[name] = value
        return rows[list(COLUMNS)]


COLUMNS = (
    *("cohort", "model", "head", "release", "attacker", "m", "known", "pool", "pool_size", "k", "n_queries"),
    *("n_excluded", "recall", "recall_low", "recall_high", "chance", "lift", "median_rank", "chosen"),
)


def attack(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    attacker: str = COSINE,
    release: str = EVERYTHING,
    m: Known = "all",
    seed: int = 0,
    *,
    source: Entry | None = None,
    noise: float | None = None,
    held: Held | None = None,
) -> Attack:
    """How often would this attacker find the report? Exact counts over the held-out split.

    Arguments
        attacker, release: keys of ATTACKERS and RELEASES; InputError if the release does not give what the attacker
            needs.
        m: of how many of its own images (or pairs) the attacker knows the release. "all" is its whole split, which
            whoever has the heads can embed. Who knows nothing takes none.
        seed: of the choice of known images, of the folds and of output noise.
        source, noise: as for `hold`; `held` is what `hold` made of the same arguments, to be used again.
    """
    knows_heads = heads_known(attacker, release, head)
    held = held or hold(entry, head, source=source, noise=noise, seed=seed)
    with threadpool_limits(1, user_api="blas"):  # the matrices are small: more threads wait for each other
        counts, known, chosen = run(held, attacker, m, seed, knows_heads=knows_heads)
    study = studied(entry, head, held, counts, seed)
    return Attack(study, attacker, release, m if takes_m(attacker) else "all", known, chosen)


def heads_known(attacker: str, release: str, head: str) -> bool:
    """Whether an attacker has both heads; InputError where the release gives less than it needs."""
    one_of("attacker", attacker, ATTACKERS)
    if attacker not in allowed(release, head):
        raise InputError(
            f"The attacker {attacker!r} needs more than the release {release!r} gives.",
            f"With it can act: {', '.join(allowed(release, head))}.",
        )
    return release == EVERYTHING or head == OFF_THE_SHELF


def studied(entry: Entry, head: str, held: Held, counts: MatchCounts, seed: int) -> Study:
    """Counts over what was held of an entry, as a study."""
    queries, n_candidates = entry.records(held.split), len(held.text_of)
    return Study(entry, head, "image-to-report", "other-patients", held.split, counts, queries, n_candidates, seed)


def run(
    held: Held, attacker: str, m: Known = "all", seed: int = 0, *, knows_heads: bool = True
) -> tuple[MatchCounts, int, str]:
    """(counts, own images or pairs used, variant) of one attacker on what it holds."""
    answer, known = answered(held, attacker, m, seed, knows_heads=knows_heads)
    return held.ranked(answer), known, answer.chosen


def answered(
    held: Held, attacker: str, m: Known = "all", seed: int = 0, *, knows_heads: bool = True
) -> tuple[Answer, int]:
    """(scores, own images or pairs used) of one attacker on what it holds, uncounted: see protocol.

    InputError for m = 0 where pairs are needed, and where an attacker of another package fails or answers otherwise
    than the protocol says; the package is named.
    """
    known = known_rows(held, m, seed)
    answer = answered_knowing(held, attacker, known, seed, knows_heads=knows_heads)
    return answer, len(known) if takes_m(attacker) else 0


def answered_knowing(
    held: Held, attacker: str, known: np.ndarray, seed: int = 0, *, knows_heads: bool = True
) -> Answer:
    """As answered, of an attacker who knows the release of these rows of its own split."""
    row = ATTACKERS[attacker]
    if row.knows == "pairs" and not len(known):
        raise InputError(f"The attacker {attacker!r} learns from known pairs, and m is 0.", "Give m of at least 1.")
    if not row.package:
        answer = row.scores(held, known, seed, knows_heads)
    else:
        try:
            answer = row.scores(held, known, seed, knows_heads)
            if not isinstance(answer, Answer):
                raise TypeError(f"it gave a {type(answer).__name__}, neither Scored nor InBlocks")
            answer = answer.checked(len(held.released), len(held.texts), len(held.text_of))
        except Exception as error:  # whatever another package does
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise InputError(
                f"The attacker {attacker!r} of the package {row.package} failed ({why}).",
                "Tell its authors, or uninstall the package.",
            ) from error
    return answer


def factors(
    held: Held, attacker: str, m: Known = "all", seed: int = 0, *, knows_heads: bool = True
) -> tuple[np.ndarray, np.ndarray, int, str]:
    """The scores of `run` as their factors: (queries (n_queries, p), of_text (n_texts, p), known, chosen).

    InputError for an attacker whose scores are no inner products of a query and a text.
    """
    answer, known = answered(held, attacker, m, seed, knows_heads=knows_heads)
    if not isinstance(answer, Scored) or answer.each != "text":
        raise InputError(f"The scores of {attacker!r} are no product with a text.", "Use `answered`.")
    return answer.queries, answer.reports, known, answer.chosen


def attacks(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    release: str = EVERYTHING,
    m: Known | Sequence[Known] = "all",
    seed: int = 0,
    *,
    source: Entry | None = None,
    noise: float | None = None,
    progress: Progress = silent,
) -> list[Attack]:
    """Every attacker who can act on the release, at every m that makes sense for it.

    Whoever has the raw images can make the off-the-shelf embeddings too: there those attackers are among them, whatever
    the head.
    """
    return each_of(attack, entry, head, release, m, seed, source=source, noise=noise, progress=progress)


class Made(Protocol):
    """What becomes of one attacker: something that says under which release."""

    @property
    def release(self) -> str: ...


One = TypeVar("One", bound=Made)


def each_of(
    make: Callable[..., One | None],
    entry: Entry,
    head: str,
    release: str,
    m: Known | Sequence[Known],
    seed: int,
    *,
    source: Entry | None = None,
    noise: float | None = None,
    progress: Progress = silent,
    some: bool = False,
) -> list[One]:
    """What `make`, called as `attack` is, makes of every attacker of `attacks`; a dataclass.

    some: whether `make` may leave out attackers, all of them too, by None.
    """
    public: list[One] = []
    if release == IMAGES:
        how: dict[str, Any] = {"source": source, "noise": 0.0, "progress": progress, "some": some}
        shelf = each_of(make, entry, OFF_THE_SHELF, EVERYTHING, m, seed, **how)
        public = [replace(one, release=release) for one in shelf]  # type: ignore[type-var]
    held = hold(entry, head, source=source, noise=noise, seed=seed)
    wanted = [m] if isinstance(m, (int, str)) else list(m)
    plan = [(attacker, n) for attacker in allowed(release, head) for n in _sensible(attacker, wanted, held)]
    found = []
    for done, (attacker, n) in enumerate(plan):
        progress("attackers", done, len(plan))
        one = unless_foreign(attacker, partial(make, entry, head, attacker, release, n, seed, source=source, held=held))
        if one is not None:
            found.append(one)
    progress("attackers", len(plan), len(plan))
    if not found and not public and not some:
        raise InputError(
            f"No attacker can act on the release {release!r} with m = {', '.join(map(str, wanted))}.",
            "Give a larger m.",
        )
    return [*public, *found]


def unless_foreign(attacker: str, make: Callable[[], Any]) -> Any:
    """What `make` makes; None where the attacker is another package's and fails: a line of the log says so, and the
    others go on."""
    try:
        return make()
    except InputError as error:
        if not ATTACKERS[attacker].package:
            raise
        _log.warning("%s", error)
        return None


def acts(attacker: str, held: Held) -> bool:
    """Whether there is what an attacker goes by. A bridge needs features of encoders that share no space; where it is
    their embeddings that are released, no other has anything to learn that a bridge does not."""
    row = ATTACKERS[attacker]
    if held.unpaired is None:
        return not row.unpaired
    return row.unpaired or attacker == COSINE or not held.unpaired.alone


def _sensible(attacker: str, wanted: list[Known], held: Held) -> list[Known]:
    """Those of the wanted m that an attacker can act with."""
    if not acts(attacker, held):
        return []
    if not takes_m(attacker):
        return ["all"]
    n_own = len(held.own_group)
    sizes = [n for n in wanted if n == "all" or n < n_own]
    if any(n != "all" and n >= n_own for n in wanted) and "all" not in sizes:
        sizes.append("all")
    as_they_are = held.released.shape[1] == len(held.off_the_shelf.text.weight)  # no known image is needed to compare
    return [n for n in sizes if n != 0 or (ATTACKERS[attacker].knows == "images" and as_they_are)]


# ------------------------------------------------------------------------------------------------- the worst one


CHOSEN_AT = 100
"""Size of the pools in which the worst attacker is chosen: hits are many there."""


def worst_of(found: Sequence[Attack], pool_size: PoolSize, k: int, seed: int = 0) -> dict[str, Any]:
    """Who does best among these, and how well at this N and k: one attacker for all N and k.

    It is the one with the largest Recall@1 in pools of CHOSEN_AT, or of as many as every query can fill where that is
    less, the first of those that are level. Chosen at a large N, where a handful of queries hit, it would be chosen by
    luck; and split in halves, each scored by the other's choice (cross-fitting), who is chosen for the hits of one half
    has few left in the other, so that the figure fell below a single attacker's in the same table, which flatters a
    mitigation. So chosen, the figure is a single attacker's own: what bounds each of them bounds it. It is flattered by
    the choice: at CHOSEN_AT by half a standard error where attackers are level and alike, by 1.4 where eight are level
    and unlike, and by nothing where one is better (benchmarks/interval_coverage.json). The interval is
    patient-clustered, of the one that was chosen, and its low end lower by what the choice may add
    (intervals.of_the_best).

    Raises InputError where there is no attack.
    """
    if not found:
        raise InputError("There is no attack to choose from.", "Give at least one.")
    size = min([CHOSEN_AT, *(one.study.common_pool for one in found)])
    chosen_on = np.column_stack([one.study.recall(size, 1)[0] for one in found])
    values = np.column_stack([one.study.recall(pool_size, k)[0] for one in found])
    patients = found[0].queries["patient_id"].to_numpy(str)
    place, interval = intervals.of_the_best(values, chosen_on, patients, seed=seed)
    best, present = found[place], ~np.isnan(values[:, place])
    chance = best.study.recall(pool_size, k)[1]
    n_patients = len(np.unique(patients[present]))
    estimate = float(interval.estimate[0])
    return {
        "cohort": best.study.cohort,
        "model": best.study.model,
        "head": best.study.head,
        "release": best.release,
        "attacker": best.attacker,
        "m": str(best.m),
        "pool_size": pool_size,
        "k": k,
        "n_queries": int(present.sum()),
        "n_patients": n_patients,
        "recall": estimate,
        "recall_low": float(interval.low[0]),
        "recall_high": float(interval.high[0]),
        "chance": float(chance[present].mean()),
        "lift": estimate / float(chance[present].mean()),
        "n_attackers": len(found),
        "flag": intervals.flag_of(patients[present]),
        "seed": seed,
    }
