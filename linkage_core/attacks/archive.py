"""Another game: an archive of N images, and the N reports that belong to them, unpaired.

One image a study and one study a patient. The attacker names a report for each image, and knows what somebody with a
single image does not: every report belongs to one image. The share named right is 1/N by guessing.

An attacker of the table gives scores, and three ways make use of the archive:

assigned
    The permutation of the largest sum (linear_sum_assignment). The score times any constant, plus a term of the image
    or of the report, gives the same.
balanced
    exp(score / T), scaled until each row and each column sums to one (Sinkhorn 1967), which leaves to each image what
    the others do not claim: the mean-field answer to the posterior over matchings. Each image takes its largest entry.
balanced-assigned
    The permutation of the largest sum of those entries, which is the largest number right to be expected. (Of their
    logarithms it would be the first way again: scaling adds a term of the image and one of the report.)

Way and T are chosen at home (home.Tried), in archives of the attacker's own patients; T in units of the deviation of
the scores about their row and column means, since a score has any scale. "alone" stands beside it: each image takes
its best report, as in the game of single images, in the same archives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from linkage_core.attacks.held import Asked
from linkage_core.attacks.home import Tried
from linkage_core.attacks.scored import Answer, Scored
from linkage_core.errors import InputError
from linkage_core.ranking import intervals
from linkage_core.ranking.counts import distinct

ROUNDS, ROUNDS_OF_LARGE, LARGE = 20, 6, 300
"""How often all patients are divided into archives anew; of LARGE images and more, which vary less and take longer."""
SMALL = 20
"""Of fewer images an archive is so much a matter of who meets whom that rounds are taken to tell nothing new."""
HOME_ROUNDS = 3
SCALINGS = 30

Way = Literal["alone", "assigned", "balanced", "balanced-assigned"]
_TEMPERATURES = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
DEFAULT: tuple[Way, float] = ("balanced", 0.5)
"""Way and T of who has too few own patients to choose."""
WAYS: tuple[tuple[Way, float], ...] = (
    ("assigned", 1.0),
    *(("balanced", one) for one in _TEMPERATURES),
    *(("balanced-assigned", one) for one in (0.2, 0.5, 1.0)),
)
_BLOCK = 2**22  # numbers at a time


# ------------------------------------------------------------------------------------------------------- the archives


def drawn(asked: Asked, n: int, rounds: int, seed: int) -> np.ndarray:
    """(rounds, n_archives, n) query rows: in each round all patients in random order, n to an archive, the rest left
    out; of each patient a random study and of it a random image. InputError where there are fewer than n patients."""
    patients = np.unique(asked.query_group, return_inverse=True)[1]
    n_patients = int(patients.max()) + 1
    if not 2 <= n <= n_patients:
        raise InputError(
            f"An archive of {n:,} images needs as many patients.",
            f"Give from 2 to {n_patients:,}, or full for everybody.",
        )
    rng = np.random.default_rng([seed, 4])
    found = np.empty((rounds, n_patients // n, n), dtype=np.int64)
    for one in range(rounds):
        of_study = rng.random(len(asked.candidate_group))[asked.match]
        order = np.lexsort((rng.random(len(patients)), of_study, patients))
        first = order[np.unique(patients[order], return_index=True)[1]]
        found[one] = rng.permutation(first)[: n_patients // n * n].reshape(-1, n)
    return found


@dataclass(frozen=True)
class _Dealt:
    """Archives (n_archives, n) with their reports in a random order of their own, so that no tie favours the match.

    scores (n_archives, n, n): image i, report j. right (n_archives, n, n): the chance that j is i's report, for whoever
    cannot tell identical reports apart: 1 / (how many there are of this kind in the archive), else 0.
    """

    scores: np.ndarray
    right: np.ndarray

    def hits(self, named: np.ndarray) -> np.ndarray:
        """(n_archives, n) chance that the report named (n_archives, n) is right."""
        return np.take_along_axis(self.right, named[..., None], axis=2)[..., 0]


def _dealt(asked: Asked, answer: Answer, archives: np.ndarray, seed: int) -> Iterator[_Dealt]:
    """Archives (n_archives, n), some at a time."""
    rng = np.random.default_rng([seed, 5])
    kind = _kinds(asked, answer)
    n = archives.shape[1]
    width = answer.queries.shape[1] if isinstance(answer, Scored) else n
    step = max(1, _BLOCK // (n * max(n, width)))
    for start in range(0, len(archives), step):
        rows = archives[start : start + step]
        candidates = asked.match[rng.permuted(rows, axis=1)]
        own, shown = kind[asked.match[rows]], kind[candidates]
        n_alike = (shown[:, :, None] == shown[:, None, :]).sum(axis=2)
        right = (own[:, :, None] == shown[:, None, :]) / n_alike[:, None, :]
        yield _Dealt(_scores(asked, answer, rows, candidates), right)


def _kinds(asked: Asked, answer: Answer) -> np.ndarray:
    """(n_candidates,) equal where the attacker sees no difference."""
    if answer.each == "text":
        return asked.text_of
    if isinstance(answer, Scored):
        return distinct(answer.reports, np.arange(0))[1]
    return np.arange(len(asked.text_of))


def _scores(asked: Asked, answer: Answer, rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(n_archives, n, n) scores of images `rows` and `candidates`, both (n_archives, n); float64."""
    if isinstance(answer, Scored):
        reports = answer.reports[asked.text_of[candidates] if answer.each == "text" else candidates]
        return np.asarray(answer.queries[rows].astype(np.float64) @ reports.astype(np.float64).swapaxes(1, 2))
    blocks = (answer.block(r, asked.text_of)[:, c] for r, c in zip(rows, candidates, strict=True))
    return np.stack([np.asarray(block, dtype=np.float64) for block in blocks])


# -------------------------------------------------------------------------------------------------------- the ways


def centred(scores: np.ndarray) -> np.ndarray:
    """(..., n, n) without the mean of each row and of each column, in units of the deviation of what is left."""
    left = scores - scores.mean(axis=-1, keepdims=True)
    left -= left.mean(axis=-2, keepdims=True)
    deviation = left.std(axis=(-2, -1), keepdims=True)
    return np.asarray(left / np.where(deviation > 1e-12, deviation, 1.0))


def balanced(logs: np.ndarray, scalings: int = SCALINGS) -> np.ndarray:
    """(..., n, n) of non-negative numbers, rows and columns summing to one: exp(logs), rows and columns scaled.

    First the largest of each row is taken away, then the largest of each column: then each row and each column has a
    largest entry of exp(0), and none can vanish by rounding. Columns are scaled last.
    """
    logs = logs - logs.max(axis=-1, keepdims=True)
    entries = np.exp(logs - logs.max(axis=-2, keepdims=True))
    across = np.ones((*entries.shape[:-1], 1))
    for _ in range(scalings):
        down = 1 / (entries @ across)
        across = 1 / (entries.swapaxes(-1, -2) @ down)
    return np.asarray(down * entries * across.swapaxes(-1, -2))


def assigned(scores: np.ndarray) -> np.ndarray:
    """(n_archives, n) column of each row in the permutation of the largest sum; scores (n_archives, n, n)."""
    from scipy.optimize import linear_sum_assignment  # takes a quarter of a second, and few that import this ask

    return np.stack([linear_sum_assignment(one, maximize=True)[1] for one in scores])


def alone(scores: np.ndarray) -> np.ndarray:
    """(n_archives, n) best column of each row."""
    return np.asarray(scores.argmax(axis=-1))


def named(scores: np.ndarray, way: Way, temperature: float = 1.0) -> np.ndarray:
    """(n_archives, n) column that is named for each row of scores (n_archives, n, n)."""
    if way == "alone":
        return alone(scores)
    if way == "assigned":
        return assigned(centred(scores))
    entries = balanced(centred(scores) / temperature)
    return alone(entries) if way == "balanced" else assigned(entries)


# ---------------------------------------------------------------------------------------------------------- the game


@dataclass(frozen=True)
class Played:
    """One attacker in one size of archive. Two of the same cohort, size, rounds and seed hold the same archives.

    archives (rounds, n_archives, size) query rows; hits and alone_hits of the same shape, the chance that each image
    was named right with the archive in view, and by itself; way in words; group (n_queries,) patients.
    """

    archives: np.ndarray
    hits: np.ndarray
    alone_hits: np.ndarray
    way: str
    group: np.ndarray
    seed: int

    @property
    def size(self) -> int:
        return int(self.archives.shape[2])

    def share(self) -> Share:
        """Of images named right, with the archive in view."""
        return share(self.hits, self.group[self.archives])

    def alone(self) -> Share:
        """Of images named right in the same archives, each by itself."""
        return share(self.alone_hits, self.group[self.archives])

    def row(self) -> dict[str, float | int | str]:
        """As a row of a table. `recall` is the share, so that tables of both games have one shape."""
        found, single = self.share(), self.alone()
        n_patients = len(np.unique(self.group[self.archives]))
        return {
            "game": "archive",
            "pool_size": self.size,
            "k": 1,
            "n_archives": self.archives.shape[1],
            "rounds": len(self.archives),
            "n_queries": len(np.unique(self.archives)),
            "n_patients": n_patients,
            "recall": found.estimate,
            "recall_low": found.low,
            "recall_high": found.high,
            "chance": 1 / self.size,
            "lift": found.estimate * self.size,
            "alone": single.estimate,
            "alone_low": single.low,
            "alone_high": single.high,
            "way": self.way,
            "flag": intervals.flag(n_patients),
        }


@dataclass(frozen=True)
class Share:
    """A mean with its 95% interval; NaN ends where there is one archive, whose images are no independent draws."""

    estimate: float
    low: float
    high: float


def play(tried: Tried, size: int | Literal["full"], seed: int = 0, rounds: int | None = None) -> Played:
    """How many images of an archive does this attacker name right?

    Arguments
        tried: the attacker's scores abroad and at home (home.tried), with or without what is known besides.
        size: N, or "full" for one archive of all patients, which is drawn once.
        rounds: how often the patients are divided anew; by default as ROUNDS says.
    """
    n = len(np.unique(tried.held.query_group)) if size == "full" else size
    rounds = 1 if size == "full" else rounds or (ROUNDS if n < LARGE else ROUNDS_OF_LARGE)
    archives = drawn(tried.held, n, rounds, seed)
    way, temperature, words = chosen(tried, n, seed)
    flat = archives.reshape(-1, n)
    hits, single = [], []
    for dealt in _dealt(tried.held, tried.answer, flat, seed):
        hits.append(dealt.hits(named(dealt.scores, way, temperature)))
        single.append(dealt.hits(alone(dealt.scores)))
    return Played(
        archives,
        np.concatenate(hits).reshape(archives.shape),
        np.concatenate(single).reshape(archives.shape),
        words,
        tried.held.query_group,
        seed,
    )


def chosen(tried: Tried, n: int, seed: int) -> tuple[Way, float, str]:
    """(way, T, both in words): whichever names most right in archives of left-out own patients, of size n or of as many
    as there are."""
    if tried.home is None:
        return *DEFAULT, f"{_words(*DEFAULT)} (too few own pairs to choose)"
    home = tried.home.held
    archives = drawn(home, min(n, len(np.unique(home.query_group))), HOME_ROUNDS, seed)
    right = dict.fromkeys(WAYS, 0.0)
    for dealt in _dealt(home, tried.home.answer, archives.reshape(-1, archives.shape[2]), seed):
        for one in WAYS:
            right[one] += dealt.hits(named(dealt.scores, *one)).sum()
    best = max(WAYS, key=lambda one: right[one])
    return *best, f"{_words(*best)} (best of {len(WAYS)} at home)"


def _words(way: Way, temperature: float) -> str:
    return way if way == "assigned" else f"{way}, T {temperature:g}"


def share(values: np.ndarray, patients: np.ndarray) -> Share:
    """Mean of values (rounds, n_archives, n) and how far it could move if other patients had been sampled.

    patients: of the same shape; each is in one archive of a round.

    Archives of one round share no patient, so the variance V of a round's mean is that of its archives over their
    number. Rounds divide the same patients anew: the variance W between their means is what division alone does, and
    averaging takes it away but for W / rounds. Left is V - (1 - 1/rounds) W, a difference of estimates, so with
    Student's t of rounds - 1 degrees of freedom (W has the fewest). It is not taken below the interval of the patients'
    own means, which leaves out what images of one archive do to each other. In archives of fewer than SMALL images V is
    left whole. Rather too long than too short: benchmarks/archives.json has its coverage in simulation.
    """
    estimate, (rounds, n_archives, n) = float(values.mean()), values.shape
    if n_archives < 2:
        return Share(estimate, np.nan, np.nan)
    of_archives = values.mean(axis=2)
    variance = float(of_archives.var(axis=1, ddof=1).mean()) / n_archives
    if rounds > 1 and n >= SMALL:
        variance -= (1 - 1 / rounds) * float(of_archives.mean(axis=1).var(ddof=1))
    code = np.unique(patients.ravel(), return_inverse=True)[1]
    of_patients = np.bincount(code, values.ravel()) / np.bincount(code)
    half = float(stdtrit(max(rounds - 1, 1), 0.975) * np.sqrt(max(variance, 0.0)))
    half = max(half, 1.96 * float(of_patients.std(ddof=1) / np.sqrt(len(of_patients))))
    return Share(estimate, estimate - half, estimate + half)


def compare(a: Played, b: Played) -> Share:
    """How many more of the same images does a name right than b? Mean difference with its interval.

    InputError unless both hold the same archives.
    """
    if not np.array_equal(a.archives, b.archives):
        raise InputError("These were not played on the same archives.", "Give both one size, rounds and seed.")
    return share(a.hits - b.hits, a.group[a.archives])
