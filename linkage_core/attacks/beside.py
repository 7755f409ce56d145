"""Who knows the candidates' sex and age too: both show in an image, and neither is in the report.

From its own images the attacker learns what a released vector r says of them, and adds to its score of candidate j

    w [log p(sex_j | r) - log p(sex_j) + log p(age_j | r) - log p(age_j)],

which is Bayes' rule where text and sex and age are independent given r and by themselves. Sex by logistic regression;
age by ridge regression with Gaussian residuals. w is chosen at home (home.Tried), for what the terms share with the
score and for a score of any scale. A candidate without the one or the other has a term of 0, as if it held nothing;
so has a vector that lies farther from the attacker's own than 99.5% of them do, such as that of a view which it lacks.

This is more than a release gives: such an attacker is never among those whose worst is the headline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from linkage_core.attacks.asked import COLUMNS, KNOWS
from linkage_core.attacks.folds import ridge_solution
from linkage_core.attacks.held import Asked, Held
from linkage_core.attacks.home import Tried
from linkage_core.attacks.scored import Answer, InBlocks, Scored
from linkage_core.cohorts.base import ATTACKER
from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.store.entry import Entry
from linkage_core.store.seen import split_apart
from linkage_core.validate import one_of

_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 4.0)
_NEAR = 0.995
_SOME = 512  # queries whose scores tell the deviation
_POOL = 1000


@dataclass(frozen=True)
class About:
    """What is known of patients: sex (n,) words, "" unknown; age (n,) years, NaN unknown."""

    sex: np.ndarray
    age: np.ndarray

    def rows(self, rows: np.ndarray) -> About:
        return About(self.sex[rows], self.age[rows])


def known_of(entry: Entry, knows: str, source: Entry | None = None) -> tuple[About, About]:
    """(of each of the attacker's own images, of each candidate), in the order of held.hold(entry, source=source).

    InputError naming the column that the records of one or the other lack.
    """
    one_of("knows", knows, KNOWS)
    split = split_apart(entry, source)
    source = source or entry
    own, asked = source.records(ATTACKER), entry.records(split)
    for column in COLUMNS[knows]:
        for whose, records in ((source, own), (entry, asked)):
            if not (records[column].notna() & (records[column].astype("str") != "")).any():
                raise InputError(
                    f"The records of {whose.cohort} have no {column}, which who knows {knows!r} goes by.",
                    f"Read the cohort from a table with a column {column}, or attack without --knows.",
                )
    candidates = entry.embeddings(split=split).candidates
    first = asked.drop_duplicates("study_id").set_index("study_id").loc[candidates["study_id"]]
    return _about(own), _about(first)


def _about(records: pd.DataFrame) -> About:
    return About(records["sex"].fillna("").to_numpy(str), records["age"].to_numpy(float))


def knowing(tried: Tried, own: About, candidates: About, knows: str) -> Tried:
    """The same attacker, who also knows sex, or sex and age, of every candidate; abroad and at home.

    own, candidates: see known_of. Without own patients to choose by, w is 0 and the attacker as before.
    """
    one_of("knows", knows, KNOWS)
    if knows == "nothing":
        return tried
    columns = COLUMNS[knows]
    if tried.home is None:
        said = f"{tried.answer.chosen}; {knows} unused, for too few own pairs to choose"
        return replace(tried, answer=replace(tried.answer, chosen=said))
    home = tried.home
    learnt = _terms(_own(tried)[home.learnt], own.rows(home.learnt), columns)
    terms = learnt(_asked(tried, home.held), own.rows(home.left_out))
    weight = max(_WEIGHTS, key=lambda one: _worth(home.held, _added(home.held, home.answer, terms, one)))
    at_home = replace(home, answer=_added(home.held, home.answer, terms, weight))
    learnt = _terms(_own(tried)[tried.known], own.rows(tried.known), columns)
    terms = learnt(_asked(tried, tried.held), candidates)
    said = f"{tried.answer.chosen}; {knows} with weight {weight:g}"
    answer = replace(_added(tried.held, tried.answer, terms, weight), chosen=said)
    return replace(tried, answer=answer, home=at_home)


def _own(tried: Tried) -> np.ndarray:
    """The attacker's own vectors: the images' features for whoever has the images, else as released."""
    return tried.held.own_images if tried.images else tried.held.own_released


def _asked(tried: Tried, asked: Asked) -> np.ndarray:
    return asked.images if tried.images else asked.released


def _worth(home: Held, answer: Answer) -> float:
    """Mean reciprocal rank of own reports at home."""
    counts = home.ranked(answer)
    return float(pools.expected_reciprocal_rank(counts, min(_POOL, int(counts.n_eligible.min()) + 1)).mean())


# ------------------------------------------------------------------------------------------------ what a vector says


Term = tuple[Callable[[np.ndarray], np.ndarray], Callable[[About], np.ndarray]]
"""(vectors (n, e) -> (n, p), candidates -> (n_candidates, p)); the products are log p(known | r) - log p(known)."""


def _terms(
    vectors: np.ndarray, about: About, columns: Sequence[str]
) -> Callable[[np.ndarray, About], tuple[np.ndarray, np.ndarray]]:
    """Learn from own vectors (n, e) and what is known of their patients: new vectors, candidates -> factors.

    Vectors are whitened by their own covariance, in which the distance from their mean is measured too.
    """
    x = vectors.astype(np.float64)
    mean = x.mean(axis=0)
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(x.T, bias=True)))
    kept = values > 1e-9 * max(float(values.max()), 1e-30)
    whiten = axes[:, kept] / np.sqrt(values[kept])
    x = (x - mean) @ whiten
    farthest = float(np.quantile((x**2).sum(axis=1), _NEAR))
    read = [READERS[column](x, about) for column in columns]

    def factors(new: np.ndarray, candidates: About) -> tuple[np.ndarray, np.ndarray]:
        z = (new.astype(np.float64) - mean) @ whiten
        near = (z**2).sum(axis=1) <= farthest
        queries = np.hstack([of_vector(z) for of_vector, _ in read]) * near[:, None]
        return queries, np.hstack([of_candidate(candidates) for _, of_candidate in read])

    return factors


def _sex(x: np.ndarray, about: About) -> Term:
    """Multinomial logistic regression."""
    from sklearn.linear_model import LogisticRegression  # slow to import

    known = about.sex != ""
    sexes, code = np.unique(about.sex[known], return_inverse=True)
    if len(sexes) < 2:
        return (lambda z: np.zeros((len(z), 0))), (lambda candidates: np.zeros((len(candidates.sex), 0)))
    model = LogisticRegression(max_iter=1000).fit(x[known], code)
    shares = np.log(np.bincount(code) / len(code))
    return (
        lambda z: np.asarray(model.predict_log_proba(z) - shares),
        lambda candidates: (candidates.sex[:, None] == sexes).astype(np.float64),
    )


def _age(x: np.ndarray, about: About) -> Term:
    """Ridge regression to a mean m, Gaussian about it with deviation s; by itself of mean 0 and deviation d.

    log N(a; m, s) - log N(a; 0, d) = m a / s^2 - a^2 (1/s^2 - 1/d^2) / 2 - m^2 / (2 s^2) - log(s / d)
    """
    known = np.isfinite(about.age)
    age, x = about.age[known], x[known]
    mean, d = age.mean(), max(float(age.std()), 1e-6)
    slope = ridge_solution(x.T @ x, x.T @ (age - mean), 1e-2)
    # a fit to n ages leaves too little: n less the number of slopes
    s = float(np.sqrt(((age - mean - x @ slope) ** 2).sum() / max(len(x) - x.shape[1], 1)))
    s = min(max(s, 1e-3 * d), d)

    def of_vector(z: np.ndarray) -> np.ndarray:
        m = z @ slope
        return np.column_stack([m / s**2, np.ones(len(m)), -(m**2) / (2 * s**2) - np.log(s / d)])

    def of_candidate(candidates: About) -> np.ndarray:
        a, there = np.nan_to_num(candidates.age - mean), np.isfinite(candidates.age)
        return np.column_stack([a, -(a**2) * (s**-2 - d**-2) / 2, there.astype(np.float64)])

    return of_vector, of_candidate


READERS: dict[str, Callable[[np.ndarray, About], Term]] = {"sex": _sex, "age": _age}


def _added(asked: Asked, answer: Answer, terms: tuple[np.ndarray, np.ndarray], weight: float) -> Answer:
    """score + weight * (deviation of the score) * terms, one row a candidate; the answer itself for no weight."""
    if not weight:
        return answer
    queries, candidates = terms
    queries = weight * _deviation(asked, answer) * queries
    if isinstance(answer, Scored):
        reports = answer.of_candidates(asked.text_of)
        return Scored(
            np.hstack([answer.queries, queries]), np.hstack([reports, candidates]), answer.chosen, each="candidate"
        )

    def batch(rows: np.ndarray) -> np.ndarray:
        return answer.block(rows, asked.text_of) + queries[rows] @ candidates.T

    return InBlocks(batch, answer.chosen, each="candidate")


def _deviation(asked: Asked, answer: Answer) -> float:
    """Of some scores about their row and column means; 1 where they say nothing."""
    rows = np.unique(np.linspace(0, len(asked.match) - 1, _SOME).astype(int))
    scores = answer.block(rows, asked.text_of).astype(np.float64)
    scores = scores - scores.mean(axis=1, keepdims=True)
    deviation = float((scores - scores.mean(axis=0)).std())
    return deviation if deviation > 1e-12 else 1.0
