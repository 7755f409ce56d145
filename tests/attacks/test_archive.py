"""Whole archives matched one to one, against all permutations and slow loops."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from scipy.special import logsumexp

from helpers.attacked import simulated
from linkage_core.attacks import archive, home
from linkage_core.attacks.archive import WAYS, assigned, balanced, centred, compare, drawn, named, play
from linkage_core.attacks.home import Tried, tried
from linkage_core.attacks.scored import InBlocks, Scored
from linkage_core.errors import InputError


def one_each(n: int, scores: np.ndarray, text_of: np.ndarray | None = None) -> Tried:
    """n patients with one image and one report each; scores (n, n_texts) are given."""
    held = simulated(n_own=4, n_test=n)
    text_of = np.arange(n) if text_of is None else text_of
    patients = np.array([f"p{i}" for i in range(n)])
    held = replace(
        held,
        text_of=text_of,
        texts=np.zeros((text_of.max() + 1, 2)),
        query_group=patients,
        candidate_group=patients,
        own_group=np.array(["own"] * 4),
    )
    return Tried(held, Scored(scores, np.eye(scores.shape[1])), np.arange(4))


# ----------------------------------------------------------------------------------------------------- the ways


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_the_assignment_is_the_best_of_all_permutations(n: int) -> None:
    scores = np.random.default_rng(n).standard_normal((20, n, n))
    for one, columns in zip(scores, assigned(scores), strict=True):
        best = max(sum(one[i, p[i]] for i in range(n)) for p in permutations(range(n)))
        assert sorted(columns) == list(range(n))
        assert one[np.arange(n), columns].sum() == pytest.approx(best)


def test_the_balanced_matrix_has_rows_and_columns_that_sum_to_one() -> None:
    logs = np.random.default_rng(0).standard_normal((5, 30, 30))
    found = balanced(logs, 500)
    assert np.allclose(found.sum(axis=1), 1)
    assert np.allclose(found.sum(axis=2), 1)
    assert not np.allclose(balanced(logs, 1).sum(axis=2), 1), "and takes more than one pass to get there"


def test_balancing_equals_slow_scaling_in_the_logarithm_and_does_not_overflow() -> None:
    for scale in (0.1, 1.0, 5.0):
        logs = scale * np.random.default_rng(1).standard_normal((12, 12)) + 1e4 * np.arange(12)[:, None]
        slow = logs
        for _ in range(400):
            slow = slow - logsumexp(slow, axis=1, keepdims=True)
            slow = slow - logsumexp(slow, axis=0, keepdims=True)
        assert np.allclose(balanced(logs[None], 400)[0], np.exp(slow), atol=1e-6)
    far = balanced(1e4 * np.random.default_rng(1).standard_normal((3, 50, 50)))
    assert np.allclose(far.sum(axis=1), 1)


def test_the_assignment_of_the_logarithms_is_that_of_the_scores() -> None:
    """So that it is no way of its own: scaling adds a term of the row and one of the column."""
    scores = np.random.default_rng(2).standard_normal((10, 8, 8))
    assert (assigned(np.log(balanced(scores / 0.5))) == assigned(scores)).all()


def test_terms_of_the_image_or_of_the_report_alone_change_nothing() -> None:
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((4, 9, 9))
    moved = 7 * (scores + 50 * rng.standard_normal((4, 9, 1)) + 50 * rng.standard_normal((4, 1, 9)))
    for way in WAYS:
        assert (named(scores, *way) == named(moved, *way)).all()
    assert (named(scores, "alone") != named(moved, "alone")).any(), "as they do for a single image"


def test_balancing_names_what_the_posterior_over_all_matchings_holds_largest() -> None:
    """It stands in for the sum over all permutations; on small archives the two nearly always agree."""
    rng = np.random.default_rng(4)
    scores = 2 * rng.standard_normal((200, 5, 5))
    agree = 0.0
    for one in scores:
        posterior = np.zeros((5, 5))
        for p in permutations(range(5)):
            posterior[np.arange(5), p] += np.exp(one[np.arange(5), p].sum())
        agree += float((posterior.argmax(axis=1) == balanced(one[None], 100)[0].argmax(axis=1)).mean())
    single = float((scores.argmax(axis=2) == [balanced(one[None], 100)[0].argmax(axis=1) for one in scores]).mean())
    assert agree / 200 > 0.9
    assert single < 0.8, "who looks at each image alone names others"


# ----------------------------------------------------------------------------------------------------- the game


@pytest.mark.parametrize("way", ["alone", "assigned", "balanced", "balanced-assigned"])
def test_scores_that_hold_nothing_give_one_in_n(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All alike, so that every tie would fall to the match if the reports stood in the images' order."""
    monkeypatch.setattr(archive, "DEFAULT", (way, 0.5))
    found = play(one_each(600, np.zeros((600, 600))), 20)
    assert found.share().estimate == pytest.approx(1 / 20, abs=0.006)
    assert found.alone().estimate == pytest.approx(1 / 20, abs=0.006)


def test_scores_that_hold_everything_give_all() -> None:
    found = play(one_each(60, np.eye(60)), 10)
    assert (found.hits == 1).all()
    assert found.row()["lift"] == 10


@pytest.mark.parametrize("way", ["alone", "assigned", "balanced", "balanced-assigned"])
def test_identical_reports_count_as_their_number(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly what all orders of the reports give on average, where orders that part identical ones are the ties."""
    monkeypatch.setattr(archive, "DEFAULT", (way, 0.5))
    text_of = np.array([0, 0, 0, 1, 2, 2])
    scores = np.random.default_rng(5).standard_normal((6, 3))
    given = one_each(6, scores, text_of)
    found = play(given, "full")
    columns = scores[:, text_of]
    right = np.zeros(6)
    for order in permutations(range(6)):
        shuffled = columns[:, order]
        chosen = named(shuffled[None], way, 0.5)[0]  # type: ignore[arg-type]
        right += np.array(order)[chosen] == np.arange(6)
    images = found.archives[0, 0]
    assert np.allclose(found.hits[0, 0], right[images] / 720)


def test_scores_in_blocks_and_one_row_a_candidate_play_the_same() -> None:
    given = one_each(60, np.random.default_rng(6).standard_normal((60, 60)) + 2 * np.eye(60))
    scored = given.answer
    assert isinstance(scored, Scored)
    text_of = given.held.text_of
    blocks = InBlocks(lambda rows: scored.block(rows, text_of))
    candidates = replace(scored, each="candidate")
    found = play(given, 20)
    for other in (blocks, candidates):
        assert np.allclose(play(replace(given, answer=other), 20).hits, found.hits)


def test_an_archive_has_one_image_a_patient_and_rounds_use_everybody() -> None:
    held = simulated(n_own=40, n_test=240)
    archives = drawn(held, 30, 5, 0)
    assert archives.shape == (5, 4, 30)
    for one in archives:
        assert len(np.unique(held.query_group[one])) == 120
    assert len(np.unique(archives)) > 200, "other images in other rounds"
    assert not np.isin(held.query_group[archives], held.own_group).any()
    with pytest.raises(InputError, match="An archive of 121 images needs as many patients"):
        drawn(held, 121, 1, 0)


# ----------------------------------------------------------------------------------------------------- at home


def test_home_holds_none_who_is_attacked_and_none_who_taught() -> None:
    held = simulated(n_own=400, n_test=100)
    found = tried(held, "known-pairs", 360)
    assert found.home is not None
    inner = found.home.held
    asked = set(inner.query_group) | set(inner.candidate_group)
    assert not asked & set(inner.own_group)
    assert not (asked | set(inner.own_group)) & set(held.query_group)
    assert set(held.own_group[found.home.left_out]) == asked
    assert len(found.home.learnt) + len(found.home.left_out) == len(found.known) == 360
    with pytest.raises(InputError, match="it would have seen the answers"):
        home.at_home(held, np.arange(50), np.arange(400))


def test_the_way_is_chosen_at_home_and_never_by_what_is_attacked() -> None:
    held = simulated(n_own=600, n_test=200)
    found = tried(held, "known-pairs")
    assert "best of 13 at home" in play(found, 20).way
    spoilt = replace(found, answer=Scored(np.zeros((200, 1)), np.zeros((len(held.texts), 1))))
    assert play(spoilt, 20).way == play(found, 20).way
    assert "too few own pairs" in play(tried(held, "known-pairs", 20), 20).way


def test_the_archive_in_view_helps() -> None:
    held = simulated(n_own=600, n_test=600)
    found = play(tried(held, "reader"), 50)
    gain = compare(found, replace(found, hits=found.alone_hits))
    assert gain.estimate == pytest.approx(found.share().estimate - found.alone().estimate)
    assert gain.low > 0
    with pytest.raises(InputError, match="not played on the same archives"):
        compare(found, play(tried(held, "cosine"), 20))


# ----------------------------------------------------------------------------------------------------- the interval


def population(seed: int, n: int = 300) -> Tried:
    """Patients with two or three traits and some noise; a quarter of the reports are one of three."""
    rng = np.random.default_rng(seed)
    traits = rng.standard_normal((n, 3))
    alike = rng.random(n) < 0.25
    traits[alike] = np.random.default_rng(1).standard_normal((3, 3))[rng.integers(0, 3, alike.sum())]
    texts, text_of = np.unique(traits, axis=0, return_inverse=True)
    seen = traits + rng.standard_normal(traits.shape)
    given = one_each(n, np.zeros((n, len(texts))), text_of.ravel())
    reports = np.column_stack([texts, -0.5 * (texts**2).sum(axis=1)])
    return replace(given, answer=Scored(np.column_stack([seen, np.ones(n)]), reports))


@pytest.mark.parametrize("way", [("balanced", 0.5), ("assigned", 1.0)])
def test_the_interval_covers(way: tuple[archive.Way, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other patients, and not of the same ones divided anew, nor of images that know nothing of each other."""
    monkeypatch.setattr(archive, "DEFAULT", way)
    found = [play(population(seed), 20, seed, rounds=10) for seed in range(150)]
    truth = np.mean([one.share().estimate for one in found])
    covered = [one.share().low <= truth <= one.share().high for one in found]
    assert np.mean(covered) > 0.92
    within = [one.hits.mean(axis=2).ravel().std(ddof=1) / np.sqrt(one.hits[..., 0].size) for one in found]
    naive = [abs(one.share().estimate - truth) < 1.96 * sd for one, sd in zip(found, within, strict=True)]
    assert np.mean(naive) < 0.85, "archives of all rounds are not independent"


def test_one_archive_has_no_interval() -> None:
    found = play(one_each(60, np.eye(60)), "full")
    assert np.isnan([found.share().low, found.share().high]).all()
    assert found.size == 60
    assert centred(np.zeros((1, 3, 3))).max() == 0
