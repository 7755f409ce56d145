"""What do attackers reach on records that were released? The lower end of the bar whose upper end is the certificate.

The attackers of linkage_core.attackers are handed the released vectors in place of embeddings: the mechanism is public,
so an attacker runs it on its own images as often as it likes. One attacker is made for records that are cells of a
codebook: `predictor`, which predicts from the text where the image would have fallen. They are counted in the game that
limits are about (`ask`), so that what is measured and what is certified can stand beside each other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits

from linkage_core.attacks import attack
from linkage_core.attacks import held as attacks_held
from linkage_core.attacks.attack import Attack
from linkage_core.attacks.attackers import on_records
from linkage_core.attacks.held import RECORDS, Held, Known
from linkage_core.attacks.scored import Answer, InBlocks, Scored, ranked
from linkage_core.audit.study import Study
from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.progress import Progress, silent
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts, match_counts
from linkage_core.release.ceiling import ATTACKED, POPULATIONS, UNIFORM, one_image_a_study
from linkage_core.release.kind import Mechanism
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.validate import one_of

PREDICTOR = "predictor"
"""Of the attackers on records of cells: it needs to know them, which attacks does not."""

ROUNDS = 3
"""How often images are drawn, and noise with them, where one image a study is asked."""

_SIMULATED = 200  # images drawn for each text, by which the predictor learns where they fall
_LOGISTIC = (0.03, 0.3)
_HOME_POOL = 1000


def hold(
    entry: Entry, mechanism: Mechanism, *, source: Entry | None = None, own_split: str = "attacker", seed: int = 0
) -> Held:
    """What attackers hold where `mechanism` released records of the queried split, off-the-shelf embeddings.

    `source` has the attacker's own split (default: the entry). Raises InputError as attackers.hold.
    """
    held = attacks_held.hold(entry, OFF_THE_SHELF, source=source, noise=0.0, own_split=own_split, seed=seed)
    rng = np.random.default_rng([seed, 11])
    released, own = (_float(mechanism.vectors(rows, rng)) for rows in (held.released, held.own_clean))
    before_noise = held.own_clean if mechanism.noise else own
    return replace(held, released=released, own_released=own, own_clean=before_noise, noise=mechanism.noise)


@dataclass(frozen=True)
class Game:
    """Which released records are queries, of which candidates. Made by `ask`.

    held: what attackers hold, its queries those of all rounds, one round after the other; rows (n_queries,) the record
    of the split behind each query; suppressed (n_queries,) whether nothing was released of it.
    """

    held: Held
    rows: np.ndarray
    suppressed: np.ndarray
    population: str

    def count(self, queries: np.ndarray, of_text: np.ndarray) -> MatchCounts:
        """Exact counts for scores queries (n_queries, p) . of_text (n_texts, p)."""
        return self.ranked(Scored(queries, of_text))

    def ranked(self, answer: Answer) -> MatchCounts:
        """Exact counts of an attacker's scores."""
        held = self.held
        if self.population == ATTACKED:
            return held.ranked(answer)
        if isinstance(answer, InBlocks):
            return self._linked(ranked(answer, held.text_of, held.match))
        queries = answer.queries
        keys = np.ascontiguousarray(np.column_stack([queries, held.match]))  # the same again in another round?
        _, first, again = np.unique(
            keys.view(np.dtype((np.void, keys.dtype.itemsize * keys.shape[1]))).ravel(),
            return_index=True,
            return_inverse=True,
        )
        found = match_counts(queries[first], answer.of_candidates(held.text_of), held.match[first])
        return self._linked(MatchCounts(*(column[again] for column in found)))

    def _linked(self, counts: MatchCounts) -> MatchCounts:
        better, tied, eligible = counts
        gone = self.suppressed  # not linked, as in bounds.cells and in the ceiling
        return MatchCounts(np.where(gone, eligible, better), np.where(gone, 0, tied), eligible)

    def study(self, entry: Entry, name: str, counts: MatchCounts, seed: int = 0) -> Study:
        """Counts as a study, so that tables and intervals (clustered by patient) are those of any audit."""
        pool = "other-patients" if self.population == ATTACKED else self.population
        split = self.held.split
        queries = entry.records(split).iloc[self.rows].reset_index(drop=True)
        return Study(entry, name, "image-to-report", pool, split, counts, queries, len(self.held.text_of), seed)


def ask(held: Held, mechanism: Mechanism, population: str = UNIFORM, seed: int = 0) -> Game:
    """The queries of one of release.ceiling.POPULATIONS, for what `hold` made of this mechanism.

    UNIFORM is the game that certified limits are about: ROUNDS times an image of each study is drawn at random, with a
    fresh draw of keyed noise, an average over secrets, and every other study is a candidate, those of the same patient
    too. Then whoever scores records and reports as they like has a mean Recall@k over each round of at most k K / N
    with a code of K cells, exactly: in any pool of N the k first of a cell are the same whichever of its records is
    asked, so that at most k K of the N members are named right, and Recall@k is the mean over pools and members. With
    caps it is at most k L / N in expectation over the noise, by the integral of ceiling.py. A record that was
    suppressed counts as not linked. ATTACKED asks every image once, among the studies of other patients, as
    attackers are measured elsewhere: such a pool tells a little by itself, and no limit covers that.

    Raises InputError for an unknown population.
    """
    one_of("population", population, POPULATIONS)
    n = len(held.match)
    if population == ATTACKED:
        return Game(held, np.arange(n), np.zeros(n, dtype=bool), population)
    rng = np.random.default_rng([seed, 14])
    clean = shelf(held)
    drawn = [one_image_a_study(held.match, rng) for _ in range(ROUNDS)]
    released = np.concatenate([_float(mechanism.vectors(clean, rng))[rows] for rows in drawn])
    suppressed = mechanism.cells(clean) < 0 if mechanism.cells else np.zeros(n, dtype=bool)
    rows = np.concatenate(drawn)
    stacked = replace(
        held,
        released=released,
        images=held.images[rows],
        match=held.match[rows],
        query_group=held.query_group[rows],
    )
    return Game(stacked, rows, suppressed[rows], population)


def attacks(
    entry: Entry,
    mechanism: Mechanism,
    name: str,
    *,
    source: Entry | None = None,
    m: Known = "all",
    population: str = UNIFORM,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Attack]:
    """Every attacker on released records of the held-out split: exact counts. `name` stands for the head.

    population: see `ask`. Each learns once, from its own split, and is asked all rounds.
    """
    held = hold(entry, mechanism, source=source, seed=seed)
    game = ask(held, mechanism, population, seed)
    alike = held.released.shape[1] == len(held.heads.text.weight)  # else no cosine with a report can be taken
    plan = [*on_records(alike), *([PREDICTOR] if mechanism.cells else [])]
    found = []
    for done, attacker in enumerate(plan):
        progress(attacker, done, len(plan))
        with threadpool_limits(1, user_api="blas"):
            if attacker == PREDICTOR:
                queries, of_text, known, chosen = cell_factors(held, mechanism, seed)
                answer: Answer = Scored(queries[game.rows], of_text, chosen)
            else:
                answers = attack.unless_foreign(attacker, partial(attack.answered, game.held, attacker, m, seed))
                if answers is None:
                    continue
                answer, known = answers
            counts = game.ranked(answer)
        found.append(Attack(game.study(entry, name, counts, seed), attacker, RECORDS, m, known, answer.chosen))
    progress("attackers", len(plan), len(plan))
    return found


def _float(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows, dtype=np.float32)


# ------------------------------------------------------------------------------------------- cells of a codebook


def predict_cells(held: Held, mechanism: Mechanism, seed: int = 0) -> tuple[MatchCounts, int, str]:
    """Rank reports by log P(cell | report), learnt from the attacker's own pairs.

    Two ways, and the better one on left-out own patients is taken: multinomial logistic regression of the cell on the
    report's features and findings; or images simulated for each report (ridge from the report to the embedding, plus
    residuals of own pairs), and how often they fall in each cell. For a deterministic code nothing ranks better than
    the true P(cell | report), so what this lacks is in that estimate alone.

    Returns (counts, own pairs used, which way).
    """
    queries, of_text, known, chosen = cell_factors(held, mechanism, seed)
    return held.count(queries, of_text), known, chosen


def cell_factors(held: Held, mechanism: Mechanism, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int, str]:
    """The scores of predict_cells as factors: one-hot queries (n, n_cells), of_text (n_texts, n_cells), known, way."""
    if mechanism.cells is None:
        raise InputError("This release has no cells.", "Use the other attackers.")
    cells_of, n_cells = mechanism.cells, mechanism.n_cells
    rng = np.random.default_rng([seed, 12])
    own = unit(held.off_the_shelf.image(held.own_images))
    own_cells, cells = cells_of(own), cells_of(shelf(held))
    read_own, read_all = (
        read_reports(held, held.own_texts, held.own_findings),
        read_reports(held, held.texts, held.findings),
    )
    code = np.unique(held.own_group, return_inverse=True)[1]
    home = (np.random.default_rng([seed, 13]).permutation(code.max() + 1)[code] % 3) == 0
    left_out = np.flatnonzero(home)[:2000]
    at_home = held.at_home(left_out, left_out)

    def learnt(way: str, rows: np.ndarray, asked: np.ndarray) -> np.ndarray:
        if way == "simulated":
            return _simulated(own[rows], read_own[rows], asked, cells_of, n_cells, rng)
        return _classified(own_cells[rows], read_own[rows], asked, n_cells, float(way))

    ways = ("simulated", *map(str, _LOGISTIC))
    scores = []
    for way in ways:
        table = learnt(way, np.flatnonzero(~home), read_own[left_out])
        counts = at_home.count(_one_hot(own_cells[left_out], n_cells), table)
        size = min(_HOME_POOL, int(counts.n_eligible.min()) + 1)
        scores.append(float(pools.expected_reciprocal_rank(counts, size).mean()))
    way = ways[int(np.argmax(scores))]
    table = learnt(way, np.arange(len(code)), read_all)
    said = "images simulated for each report" if way == "simulated" else f"logistic regression, C = {way}"
    return _one_hot(cells, n_cells), table, len(code), said


def shelf(held: Held) -> np.ndarray:
    """(n_queries, e) off-the-shelf embeddings of the queried images, which no attacker sees: the mechanism's input."""
    return unit(held.off_the_shelf.image(held.images))


def read_reports(held: Held, texts: np.ndarray, findings: np.ndarray) -> np.ndarray:
    """(n_reports, f) what is read in reports: text features and embedding, and the state of each finding."""
    states = [(findings == state).astype(np.float64) for state in (1, 0, -1)] if findings.shape[1] else []
    scale = np.maximum(held.own_texts.std(axis=0), 1e-6)
    features = (texts - held.own_texts.mean(axis=0)) / scale
    embedded = unit(held.off_the_shelf.text(texts)).astype(np.float64) * np.sqrt(texts.shape[1])
    return np.column_stack([features, embedded, *states])


def _one_hot(cells: np.ndarray, n_cells: int) -> np.ndarray:
    """(n, n_cells) float32; all zero where suppressed."""
    return (cells[:, None] == np.arange(n_cells)).astype(np.float32)


def _simulated(
    embeddings: np.ndarray,
    read: np.ndarray,
    asked: np.ndarray,
    cells: Callable[[np.ndarray], np.ndarray],
    n_cells: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(n_asked, n_cells) log share of simulated images in each cell, a hundredth of it the cell's share overall."""
    centre, mean = read.mean(axis=0), embeddings.mean(axis=0).astype(np.float64)
    x, y = read - centre, embeddings - mean
    gram = x.T @ x
    slope = np.linalg.solve(gram + 1e-2 * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)
    residuals = y - x @ slope
    predicted = mean + (asked - centre) @ slope
    found = np.zeros((len(asked), n_cells))
    for _ in range(_SIMULATED):
        drawn = unit((predicted + residuals[rng.integers(0, len(residuals), len(asked))]).astype(np.float32))
        cell = cells(drawn)
        kept = np.flatnonzero(cell >= 0)
        found[kept, cell[kept]] += 1
    share = found.sum(axis=0) / max(found.sum(), 1)
    return np.asarray(np.log(0.99 * found / _SIMULATED + 0.01 * (share + 1e-6)), dtype=np.float32)


def _classified(cells: np.ndarray, read: np.ndarray, asked: np.ndarray, n_cells: int, strength: float) -> np.ndarray:
    """(n_asked, n_cells) log-probabilities of multinomial logistic regression; a cell never seen gets the least."""
    from sklearn.exceptions import ConvergenceWarning  # here: pages that measure nothing import this module too
    from sklearn.linear_model import LogisticRegression

    known = cells >= 0
    scale = np.maximum(read.std(axis=0), 1e-6)
    model = LogisticRegression(C=strength / len(read) * 100, max_iter=60, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its steps are counted: the strength is chosen with them
        model.fit(read[known] / scale, cells[known])
    log_p = model.predict_log_proba(asked / scale)
    table = np.full((len(asked), n_cells), log_p.min())
    table[:, model.classes_] = log_p
    return np.asarray(table, dtype=np.float32)
