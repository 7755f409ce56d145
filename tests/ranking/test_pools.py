"""Closed forms over N against drawn-out enumeration in exact fractions."""

from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest

from linkage_core.errors import InputError
from linkage_core.ranking import pools
from linkage_core.ranking.counts import MatchCounts


def counts(better: list[int], tied: list[int], eligible: list[int]) -> MatchCounts:
    return MatchCounts(np.array(better), np.array(tied), np.array(eligible))


def enumerate_pools(better: int, tied: int, others: int, n: int, k: int) -> tuple[Fraction, Fraction]:
    """Recall@k and mean reciprocal rank by listing every pool and every way to break the ties in it."""
    kinds = ["above"] * better + ["tie"] * tied + ["below"] * (others - better - tied)
    recall = reciprocal = Fraction(0)
    drawn = list(combinations(kinds, n - 1))
    for pool in drawn:
        above, ties = pool.count("above"), pool.count("tie")
        places = range(above + 1, above + ties + 2)
        recall += Fraction(sum(place <= k for place in places), len(places))
        reciprocal += sum((Fraction(1, place) for place in places), Fraction(0)) / len(places)
    return recall / len(drawn), reciprocal / len(drawn)


@pytest.mark.parametrize("others", [0, 1, 4, 7])
def test_every_small_case_equals_enumeration(others: int) -> None:
    for better in range(others + 1):
        for tied in range(others - better + 1):
            for n in range(1, others + 2):
                case = counts([better], [tied], [others])
                for k in range(1, n + 1):
                    recall, reciprocal = enumerate_pools(better, tied, others, n, k)
                    assert pools.expected_recall(case, n, k)[0] == pytest.approx(float(recall), abs=1e-12)
                    assert pools.expected_reciprocal_rank(case, n)[0] == pytest.approx(float(reciprocal), abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(10, 10), (100, 10), (10_000, 5), (300, 299)])
def test_of_a_large_archive_twelve_digits_are_right(n: int, k: int) -> None:
    """377,110 reports, against integer binomials: with 299 ranks the first chance is smaller than any float."""
    others = 377_109
    for better in (400, 20_000, 300_000):
        exact = sum(comb(better, x) * comb(others - better, n - 1 - x) for x in range(k)) / comb(others, n - 1)
        found = pools.expected_recall(counts([better], [0], [others]), n, k)[0]
        assert found == pytest.approx(exact, rel=1e-12 if k <= 10 else 1e-11, abs=1e-200)


@pytest.mark.parametrize(("others", "n"), [(43_792, 10_000), (43_792, 100), (999_999, 10), (999_999, 500_000)])
def test_large_pools_keep_their_digits(others: int, n: int) -> None:
    """Against integer binomials: relative error below 1e-9 even where the answer is tiny."""
    for better in (0, 1, 17, 900):
        exact = Fraction(0)
        for x in range(5):
            if x <= better and n - 1 - x >= 0:
                exact += Fraction(comb(better, x) * _falling(others - better, n - 1, x, others), 1)
        case = counts([better], [0], [others])
        assert pools.expected_recall(case, n, 5)[0] == pytest.approx(float(exact), rel=1e-9)
        missed = Fraction(1)
        for j in range(better + 1):
            missed *= Fraction(max(others + 1 - n - j, 0), others + 1 - j)
        reciprocal = Fraction(others + 1, n * (better + 1)) * (1 - missed)
        assert pools.expected_reciprocal_rank(case, n)[0] == pytest.approx(float(reciprocal), rel=1e-9)


def _falling(rest: int, drawn: int, x: int, others: int) -> Fraction:
    """C(rest, drawn-x) / C(others, drawn) as a fraction, by the few factors in which they differ."""
    better = others - rest
    value = Fraction(1)  # C(others-better, drawn-x)/C(others, drawn), one candidate at a time
    taken = 0
    for i in range(better):
        if taken < x:
            value *= Fraction(drawn - taken, others - i)
            taken += 1
        else:
            value *= Fraction(others - i - (drawn - taken), others - i)
    return value


@pytest.mark.parametrize("k", [1, 5, 10])
@pytest.mark.parametrize("n", [10, 100, 10_000])
def test_a_scorer_that_ties_everything_gives_chance(n: int, k: int) -> None:
    others = 12_345
    case = counts([0], [others], [others])
    assert pools.expected_recall(case, n, k)[0] == pytest.approx(k / n, rel=1e-12)
    harmonic = sum(1 / i for i in range(1, n + 1)) / n
    assert pools.expected_reciprocal_rank(case, n)[0] == pytest.approx(harmonic, rel=1e-9)


def test_full_is_the_largest_pool_of_each_query() -> None:
    case = counts([0, 3, 5], [0, 4, 0], [9, 9, 5])
    for i, eligible in enumerate([9, 9, 5]):
        one = MatchCounts(*(column[i : i + 1] for column in case))
        for k in (1, 5):
            assert pools.full_recall(one, k)[0] == pytest.approx(pools.expected_recall(one, eligible + 1, k)[0])
        assert pools.full_reciprocal_rank(one)[0] == pytest.approx(pools.expected_reciprocal_rank(one, eligible + 1)[0])
        assert pools.full_rank(one)[0] == pytest.approx(pools.expected_rank(one, eligible + 1)[0])


def test_queries_too_poor_for_an_n_are_left_out_not_guessed() -> None:
    case = counts([0, 0], [0, 0], [3, 50])
    assert np.isnan(pools.expected_recall(case, 10, 1)).tolist() == [True, False]
    assert np.isnan(pools.expected_reciprocal_rank(case, 10)).tolist() == [True, False]
    assert np.isnan(pools.expected_rank(case, 10)).tolist() == [True, False]


def test_bad_input_names_value_and_remedy() -> None:
    case = counts([0], [0], [50])
    with pytest.raises(InputError, match="largest possible N is 51"):
        pools.expected_recall(case, 52, 1)
    with pytest.raises(InputError, match=r"k is 6, and the pool holds 5"):
        pools.expected_recall(case, 5, 6)
    with pytest.raises(InputError, match="pool_size is 0"):
        pools.expected_reciprocal_rank(case, 0)
    with pytest.raises(InputError, match="k is True"):
        pools.expected_recall(case, 5, True)
    with pytest.raises(InputError, match="3 better and 2 tied candidates of 4"):
        pools.expected_recall(counts([3], [2], [4]), 3, 1)


def test_pool_sizes_of_a_slider() -> None:
    assert pools.log_pool_sizes(1000) == [10, 20, 50, 100, 200, 500, 1000]
    assert pools.log_pool_sizes(7) == [7]
    with pytest.raises(InputError, match="largest pool holds 1"):
        pools.log_pool_sizes(1)
