"""Attackers on released records, and the attempts to break a release, against slow loops and broken twins."""

from dataclasses import replace

import numpy as np
import pytest

from helpers.attacked import simulated
from helpers.scripts import script
from linkage_core.attacks import attack
from linkage_core.attacks.held import Held
from linkage_core.attacks.scored import InBlocks, Scored
from linkage_core.errors import InputError
from linkage_core.heads import unit
from linkage_core.ranking import pools
from linkage_core.release import bounds, measured
from linkage_core.release.ceiling import ATTACKED, UNIFORM
from linkage_core.release.kind import Mechanism
from linkage_core.release.kinds.capped import Cap
from linkage_core.release.kinds.embeddings import gaussian
from linkage_core.release.measured import ROUNDS, Game, ask, predict_cells

breaks = script("release_breaks")


def sign_cells(bits: int = 4) -> Mechanism:
    """Cells by the signs of the first coordinates; the vector is the sign pattern."""

    def cells(rows: np.ndarray) -> np.ndarray:
        return (rows[:, :bits] > 0) @ (1 << np.arange(bits))

    return Mechanism(
        lambda rows, rng: np.where(rows > 0, 1.0, -1.0).astype(np.float32)[:, :bits], 0.0, cells, 1 << bits
    )


def released(mechanism: Mechanism, seed: int = 0) -> Held:
    held = simulated(seed=seed)
    rng = np.random.default_rng(seed)
    return replace(
        held,
        released=mechanism.vectors(held.released, rng),
        own_released=mechanism.vectors(held.own_clean, rng),
        noise=mechanism.noise,
    )


def recall(counts: object, n: int) -> float:
    return float(np.nanmean(pools.expected_recall(counts, n, 1)))  # type: ignore[arg-type]


def test_cells_are_predicted_from_the_text_and_never_beyond_what_cells_can_say() -> None:
    mechanism = sign_cells()
    held = released(mechanism)
    counts, known, _ = predict_cells(held, mechanism)
    assert known == len(held.own_group)
    for n in (20, 100):
        assert 2 / n < recall(counts, n) <= 16 / n


def test_a_predictor_who_learns_the_wrong_cells_is_at_chance() -> None:
    mechanism = sign_cells()
    held = released(mechanism)
    shuffled = np.random.default_rng(1).permutation(len(held.own_clean))
    wrong = replace(held, own_images=held.own_images[shuffled], own_released=held.own_released[shuffled])
    counts, _, _ = predict_cells(wrong, mechanism)
    assert recall(counts, 100) < 0.017


def test_suppressed_records_are_linked_by_chance() -> None:
    some = sign_cells()

    def cells(rows: np.ndarray) -> np.ndarray:
        found = some.cells(rows)  # type: ignore[misc]
        return np.where(found % 2 == 0, found, -1)

    mechanism = replace(some, cells=cells)
    held = released(mechanism)
    counts, _, _ = predict_cells(held, mechanism)
    gone = cells(measured.shelf(held)) < 0
    assert gone.any()
    assert not gone.all()
    np.testing.assert_allclose(pools.expected_recall(counts, 50, 1)[gone], 1 / 50)


def test_a_mechanism_without_cells_has_no_predictor() -> None:
    with pytest.raises(InputError, match="no cells"):
        predict_cells(simulated(), gaussian(0.1))


@pytest.mark.parametrize("sigma", [-1.0, float("nan")])
def test_noise_is_a_standard_deviation(sigma: float) -> None:
    with pytest.raises(InputError, match="sigma"):
        gaussian(sigma)


def test_records_that_belong_together_are_added_up() -> None:
    rng = np.random.default_rng(3)
    held = simulated()
    queries, texts = rng.standard_normal((len(held.released), 6)), rng.standard_normal((len(held.texts), 6))
    by = np.repeat(np.arange(len(queries) // 2), 2)
    counts = breaks.of_patients(held, by, queries.astype(np.float32), texts.astype(np.float32))
    for i in range(0, 40, 7):
        rows = np.flatnonzero(by == i)
        scores = (queries[rows].sum(axis=0) @ texts.T)[held.text_of]
        eligible = held.candidate_group != held.query_group[rows[0]]
        assert counts.n_better[i] == (scores[eligible] > scores[held.match[rows[0]]]).sum()


def test_noise_that_is_fresh_at_every_download_is_averaged_away() -> None:
    keyed = gaussian(0.4)
    fresh = breaks.averaged(keyed, 64)
    rows = simulated().released
    rng = np.random.default_rng(0)
    one, many = (np.abs(m.vectors(rows, rng) - rows).mean() for m in (keyed, fresh))
    assert many < one / 6
    assert fresh.noise == pytest.approx(0.05)

    def linked(mechanism: Mechanism) -> float:
        return recall(attack.run(released(mechanism), "reader")[0], 100)

    assert linked(fresh) > 1.5 * linked(keyed)


# ------------------------------------------------------------------------------------------- in the game of limits

N_STUDIES = 60


def crowded(n_images: int = N_STUDIES) -> Held:
    """60 studies of 10 patients, a patient's images close together; images beyond 60 are second ones of a study."""
    held = simulated(n_test=2 * n_images)
    study = np.arange(n_images) % N_STUDIES
    rng = np.random.default_rng(4)
    places = rng.standard_normal((10, held.images.shape[1]))
    images = (places[study // 6] + 0.1 * rng.standard_normal((n_images, places.shape[1]))).astype(np.float32)
    return replace(
        held,
        released=unit(images),
        images=images,
        match=study,
        query_group=1000 + study // 6,
        candidate_group=1000 + np.arange(N_STUDIES) // 6,
        texts=held.texts[:N_STUDIES],
        findings=held.findings[:N_STUDIES],
        text_of=np.arange(N_STUDIES),
    )


def by_patient(n_cells: int, least: int = 0) -> Mechanism:
    """The cell is the nearest of the first rows of every other patient; cells that are told not to be are not told."""
    places = measured.shelf(crowded())[:: 12 * 5 // n_cells]

    def cells(rows: np.ndarray) -> np.ndarray:
        found = (rows @ places.T).argmax(axis=1)
        return np.where(found >= least, found - least, -1)

    def vectors(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.eye(n_cells - least + 1, dtype=np.float32)[cells(rows)]

    return Mechanism(vectors, 0.0, cells, n_cells - least)


def each_round(game: Game, queries: np.ndarray, of_text: np.ndarray, n: int, k: int = 1) -> np.ndarray:
    """Mean Recall@k of each round."""
    found = pools.expected_recall(game.count(queries, of_text), n, k)
    return found.reshape(-1, N_STUDIES).mean(axis=1)


def test_scores_given_block_by_block_are_counted_as_their_product_is() -> None:
    """Over all rounds, with records that were suppressed; whole numbers, so that many tie."""
    held, mechanism = crowded(60), by_patient(5, least=1)
    game = ask(held, mechanism)
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, (len(game.rows), 2)).astype(float)
    texts = rng.integers(-2, 3, (len(held.texts), 2)).astype(float)
    by_product = game.ranked(Scored(queries, texts))
    by_block = game.ranked(InBlocks(lambda rows: queries[rows] @ texts.T))
    assert game.suppressed.any()
    assert by_product.n_tied.any()
    assert all(np.array_equal(a, b) for a, b in zip(by_product, by_block, strict=True))


@pytest.mark.parametrize("n_images", [60, 90])
def test_whoever_cheats_on_codes_reaches_the_limit_and_never_passes_it(n_images: int) -> None:
    """The attacker knows the true cell of every candidate, guesses, or is against it; one image a study or two."""
    held, mechanism = crowded(n_images), by_patient(5)
    assert mechanism.cells is not None
    game = ask(held, mechanism)
    assert len(game.rows) == ROUNDS * N_STUDIES
    assert sorted(np.bincount(game.held.match)) == [ROUNDS] * N_STUDIES
    queries = np.eye(5)[mechanism.cells(measured.shelf(game.held))]
    knows = np.eye(5)[mechanism.cells(measured.shelf(held))[:N_STUDIES]]
    rng = np.random.default_rng(0)
    tables = [knows, -knows, knows + 1e-3 * rng.standard_normal(knows.shape), *rng.standard_normal((20, *knows.shape))]
    for n, k in ((2, 1), (7, 1), (7, 3), (30, 2), (60, 1), (60, 4)):
        limit = float(bounds.cells(5, n, k))
        for table in tables:
            assert (each_round(game, queries, table, n, k) <= limit + 1e-12).all()
    assert each_round(game, queries, knows, 60) == pytest.approx([5 / 60] * ROUNDS), "every cell names one"
    twin = ask(held, mechanism, ATTACKED)
    among = pools.expected_recall(twin.count(np.eye(5)[mechanism.cells(measured.shelf(held))], knows), 30, 1).mean()
    assert among > 1.1 * bounds.cells(5, 30), "a pool without the patient's other studies tells something"


def test_suppressed_records_are_not_linked_where_limits_are_reached() -> None:
    held, mechanism = crowded(), by_patient(5, least=2)
    assert mechanism.cells is not None
    game = ask(held, mechanism)
    assert 0 < game.suppressed.mean() < 1
    queries = np.eye(4)[mechanism.cells(measured.shelf(game.held))]
    queries[game.suppressed] = 0
    knows = queries[np.unique(game.held.match, return_index=True)[1]]
    assert each_round(game, queries, knows, 60) == pytest.approx([3 / 60] * ROUNDS)
    twin = replace(game, suppressed=np.zeros_like(game.suppressed))
    assert (each_round(twin, queries, knows, 60) > 3 / 60 + 1e-6).all(), "who guesses has one value more"


def test_whoever_knows_all_embeddings_stays_at_the_limit_of_caps_on_average() -> None:
    held, cap = crowded(90), Cap(simulated().images.shape[1], 4.0)
    mechanism = Mechanism(lambda rows, rng: cap.release(rows, rng).astype(np.float32), 1.0)
    knows = unit(held.images)[:N_STUDIES]
    drawn, twins = [], []
    for seed in range(60):
        game, twin = ask(held, mechanism, seed=seed), ask(held, mechanism, ATTACKED, seed)
        drawn.append(each_round(game, game.held.released, knows, 30))
        noisy = mechanism.vectors(unit(held.images), np.random.default_rng(seed))
        twins.append(pools.expected_recall(twin.count(noisy, knows), 30, 1).mean())
    rounds = np.concatenate(drawn)
    error = rounds.std(ddof=1) / np.sqrt(len(rounds))
    limit = float(bounds.capped(4.0, 30))
    assert 0.6 * limit < rounds.mean() <= limit + 4 * error
    assert error < 0.03 * limit
    assert np.mean(twins) > limit + 8 * error, "a pool without the patient's other studies tells something"


def test_the_game_counts_as_a_loop_does() -> None:
    """Fresh noise in each round; ties; several images a study, of which the drawn one is released."""
    held = crowded(90)
    for mechanism in (by_patient(5), gaussian(0.3)):
        game = ask(held, mechanism, seed=3)
        clean = unit(held.images)[game.rows]
        if not mechanism.noise:
            np.testing.assert_array_equal(game.held.released, mechanism.vectors(clean, np.random.default_rng(0)))
        else:
            noise = game.held.released - clean
            assert noise.std() == pytest.approx(0.3, rel=0.03)
            assert abs(np.corrcoef(noise[:60].ravel(), noise[60:120].ravel())[0, 1]) < 0.1
        rng = np.random.default_rng(1)
        queries = game.held.released
        table = rng.integers(0, 2, (N_STUDIES, queries.shape[1])).astype(np.float32)
        table[5] = table[6]
        counts = game.count(queries, table)
        for i in range(0, len(queries), 11):
            own = game.held.match[i]
            scores = table.astype(np.float32) @ queries[i]
            others = np.delete(scores, own)
            gap = others - scores[own]
            assert counts.n_better[i] == (gap > 1e-5).sum()
            assert counts.n_tied[i] == (abs(gap) <= 1e-5).sum()
            assert counts.n_eligible[i] == N_STUDIES - 1
    whole = Mechanism(lambda rows, rng: np.full((len(rows), 1), len(rows)))
    assert (ask(held, whole).held.released == 90).all(), "a release is made of all records, whichever are drawn"
    with pytest.raises(InputError, match="population is 'everybody'"):
        ask(held, gaussian(0.3), "everybody")
    same = ask(held, gaussian(0.3), ATTACKED)
    assert same.held is held
    assert same.population != UNIFORM
