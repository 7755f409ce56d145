"""Counts out of round numbers: one denominator a sentence, whole numbers, never a percentage."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkage_core import sentences as s


@pytest.mark.parametrize(
    ("pool_size", "expected"),
    [(1, 100), (99, 100), (100, 100), (101, 1000), (1000, 1000), (1001, 10_000), (10_000, 10_000), (406_241, 10_000)],
)
def test_denominator_is_the_smallest_power_of_ten_that_holds_n(pool_size, expected):
    assert s.denominator(pool_size) == expected


@given(st.integers(1, 10_000))
def test_guessing_reads_as_one_or_a_few(pool_size):
    count = s.whole(1 / pool_size, s.denominator(pool_size))
    assert count >= 1
    assert count <= 10 or pool_size < 10


def test_guessing_in_a_larger_pool_is_fewer_than_one():
    assert s.of(1 / 10_001, s.denominator(10_001)) == "fewer than 1 of 10,000"


@given(st.floats(0, 1), st.sampled_from([100, 1000, 10_000]))
def test_a_count_is_whole_and_within_half_of_the_rate(rate, out_of):
    count = s.whole(rate, out_of)
    if count:
        assert abs(count - rate * out_of) <= 0.5 + 1e-9
    else:
        assert rate * out_of < 1


@pytest.mark.parametrize(
    ("rate", "out_of", "expected"),
    [
        (0.144, 100, "14 of 100"),
        (0.146, 100, "15 of 100"),
        (0.00999, 100, "fewer than 1 of 100"),
        (1 / 1000, 1000, "1 of 1,000"),
        (1.0, 10_000, "10,000 of 10,000"),
        (0.0, 100, "fewer than 1 of 100"),
    ],
)
def test_counts_in_words(rate, out_of, expected):
    assert s.of(rate, out_of) == expected


def test_an_interval_shows_its_width():
    assert s.interval(0.131, 0.152, 100) == "13 to 15 of 100"
    assert s.interval(0.1412, 0.1438, 100) == "14.1 to 14.4 of 100"


def test_the_headline_agrees_in_number():
    assert s.linked(0.01, 100) == ("1 of 100", " images is linked to the right report.")
    assert s.linked(0.001, 100) == ("Fewer than 1 of 100", " images is linked to the right report.")
    assert s.linked(0.14, 100, k=5) == ("14 of 100", " images have the right report among the first 5.")


def test_first_in_uses_one_denominator():
    assert s.first_in(0.29, 100) == "First in 29 of 100 random pools of this size. Guessing: 1."
    assert s.first_in(0.0312, 10_000) == "First in 312 of 10,000 random pools of this size. Guessing: 1."
    assert s.first_in(0.03, 43_793).endswith("Guessing: fewer than 1.")


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_no_sentence_says_one_in_x_or_per_cent(rate, pool_size):
    said = "".join(s.at_pool_size(pool_size, rate, 1 / pool_size)) + s.first_in(rate, pool_size)
    assert "%" not in said
    assert "1 in " not in said
    assert not math.isnan(rate)
