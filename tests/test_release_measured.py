"""Attackers on released records, and the attempts to break a release, against slow loops and broken twins."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from linkage_core import attackers, pools
from linkage_core.errors import InputError
from linkage_core.release import measured
from linkage_core.release.measured import (
    Mechanism,
    averaged,
    balanced,
    gaussian,
    of_patients,
    one_to_one,
    predict_cells,
)
from tests.test_attackers import simulated


def sign_cells(bits: int = 4) -> Mechanism:
    """Cells by the signs of the first coordinates; the vector is the sign pattern."""

    def cells(rows: np.ndarray) -> np.ndarray:
        return (rows[:, :bits] > 0) @ (1 << np.arange(bits))

    return Mechanism(
        lambda rows, rng: np.where(rows > 0, 1.0, -1.0).astype(np.float32)[:, :bits], 0.0, cells, 1 << bits
    )


def released(mechanism: Mechanism, seed: int = 0) -> attackers.Held:
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
    counts = of_patients(held, by, queries.astype(np.float32), texts.astype(np.float32))
    for i in range(0, 40, 7):
        rows = np.flatnonzero(by == i)
        scores = (queries[rows].sum(axis=0) @ texts.T)[held.text_of]
        eligible = held.candidate_group != held.query_group[rows[0]]
        assert counts.n_better[i] == (scores[eligible] > scores[held.match[rows[0]]]).sum()


def test_one_to_one_matching_helps_where_scores_are_noisy_and_not_where_they_say_nothing() -> None:
    rng = np.random.default_rng(0)
    popular = 3 * rng.standard_normal(60)
    found = one_to_one(1.5 * np.eye(60) + rng.standard_normal((60, 60)) + popular, 30, rng, draws=60)
    for way in ("assignment", "balanced"):
        assert found[way][0] > 1.5 * found["alone"][0]
    for share, error in one_to_one(np.ones((60, 60)), 20, rng, draws=300).values():
        assert abs(share - 0.05) < 4 * error


def test_balancing_matches_nearly_as_well_as_the_posterior_over_all_permutations() -> None:
    rng = np.random.default_rng(1)
    right = dict.fromkeys(("alone", "balanced", "posterior"), 0)
    for _ in range(300):
        reports = rng.standard_normal((5, 3))
        records = reports + rng.standard_normal((5, 3))
        scores = -0.5 * ((records[:, None] - reports[None]) ** 2).sum(axis=2)
        posterior = np.zeros((5, 5))
        for permutation in itertools.permutations(range(5)):
            weight = np.exp(scores[np.arange(5), list(permutation)].sum())
            posterior[np.arange(5), list(permutation)] += weight
        for name, table in (("alone", scores), ("balanced", balanced(scores)), ("posterior", posterior)):
            right[name] += int((table.argmax(axis=1) == np.arange(5)).sum())
    assert right["posterior"] > right["alone"] + 50
    assert right["balanced"] - right["alone"] > 0.8 * (right["posterior"] - right["alone"])


def test_noise_that_is_fresh_at_every_download_is_averaged_away() -> None:
    keyed = gaussian(0.4)
    fresh = averaged(keyed, 64)
    rows = simulated().released
    rng = np.random.default_rng(0)
    one, many = (np.abs(m.vectors(rows, rng) - rows).mean() for m in (keyed, fresh))
    assert many < one / 6
    assert fresh.noise == pytest.approx(0.05)

    def linked(mechanism: Mechanism) -> float:
        return recall(attackers.run(released(mechanism), "reader")[0], 100)

    assert linked(fresh) > 1.5 * linked(keyed)
