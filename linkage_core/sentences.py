"""The numbers of a page as words: counts out of a round number, with guessing in the same unit.

Pure functions, no drawing. A rate is a probability between 0 and 1. Never a percentage, never "1 in X".
"""

from __future__ import annotations

import math

SMALLEST_DENOMINATOR = 100
LARGEST_DENOMINATOR = 10_000
TOO_FEW = 30
"""Below this many images a rate is not said."""


def denominator(pool_size: int) -> int:
    """The round number that all figures of one sentence, picture and axis are counted out of.

    The smallest power of ten that is at least N, not under 100 nor over 10,000, so that guessing reads as 1 or a few.

    >>> [denominator(n) for n in (2, 100, 101, 1000, 5000, 43_793)]
    [100, 100, 1000, 1000, 10000, 10000]
    """
    power = SMALLEST_DENOMINATOR
    while power < min(pool_size, LARGEST_DENOMINATOR):
        power *= 10
    return power


def whole(rate: float, out_of: int) -> int:
    """A rate as a whole number out of `out_of`; 0 means fewer than 1.

    >>> whole(0.144, 100), whole(0.0099, 100), whole(1 / 10_000, 10_000)
    (14, 0, 1)
    """
    count = rate * out_of
    return 0 if count < 1 - 1e-9 else math.floor(count + 0.5)


def number(rate: float, out_of: int) -> str:
    """A rate as a bare count, with one decimal below ten: there a whole number would hide a half as large again. So it
    would hide that nearly all are not all.

    >>> number(0.158, 100), number(0.0148, 100), number(0.01, 100), number(0.004, 100), number(0.0, 100)
    ('16', '1.5', '1', 'fewer than 1', 'fewer than 1')
    >>> number(1.0, 100), number(0.996, 100), number(0.9999, 100)
    ('100', '99.6', 'more than 99.9')
    """
    count = rate * out_of
    if count < 1 - 1e-9:
        return "fewer than 1"
    if out_of - 0.05 <= count < out_of - 1e-9:
        return f"more than {out_of - 0.1:,.1f}"
    fine = count < 9.95 or count >= out_of - 0.5
    decimals = 1 if fine and abs(count - round(count)) > 1e-9 else 0
    return f"{count:,.{decimals}f}"


def figure(rate: float, out_of: int) -> str:
    """The bare number for a chart: "14", "1.5", "<1" below one, ">99.9" where it is not all."""
    return number(rate, out_of).replace("fewer than ", "<").replace("more than ", ">")


def of(rate: float, out_of: int) -> str:
    """A rate as a count.

    >>> of(0.144, 100), of(0.0153, 100), of(0.00004, 10_000)
    ('14 of 100', '1.5 of 100', 'fewer than 1 of 10,000')
    """
    return f"{number(rate, out_of)} of {out_of:,}"


def at_most(rate: float, out_of: int) -> str:
    """A limit as a count, rounded up: it may never read lower than it is.

    >>> at_most(0.02504, 100), at_most(0.3, 100), at_most(0.0001, 100), at_most(1.2, 100)
    ('3 of 100', '30 of 100', '1 of 100', '100 of 100')
    """
    return f"{math.ceil(min(rate, 1.0) * out_of - 1e-9):,} of {out_of:,}"


def ends(low: float, high: float, out_of: int) -> str:
    """The ends of an interval as bare counts, with one decimal below ten or where whole numbers would hide its width.

    >>> ends(0.131, 0.152, 100), ends(0.014, 0.0163, 100), ends(0.141, 0.144, 100)
    ('13 to 15', '1.4 to 1.6', '14.1 to 14.4')
    """
    counts = [low * out_of, high * out_of]
    alike = math.floor(counts[0] + 0.5) == math.floor(counts[1] + 0.5)
    decimals = 1 if alike or counts[1] < 9.95 else 0
    return " to ".join(f"{count:,.{decimals}f}" for count in counts)


def interval(low: float, high: float, out_of: int) -> str:
    """The ends of an interval as counts; one decimal more where whole numbers would hide its width, and below 10.

    >>> interval(0.131, 0.152, 100), interval(0.141, 0.144, 100), interval(0.0001, 0.02, 100)
    ('13 to 15 of 100', '14.1 to 14.4 of 100', '0.0 to 2.0 of 100')
    """
    return f"{ends(low, high, out_of)} of {out_of:,}"


def lift(value: float) -> str:
    """How many times better than guessing.

    >>> lift(14.2), lift(2.26), lift(1.0)
    ('14 times chance', '2.3 times chance', '1 times chance')
    """
    times = f"{value:,.0f}" if value >= 10 else f"{value:.1f}".removesuffix(".0")
    return f"{times} times chance"


def linked(rate: float, out_of: int, k: int = 1) -> tuple[str, str]:
    """The headline in two pieces, the count and what follows it.

    >>> linked(0.144, 100)
    ('14 of 100', ' images are linked to the right report.')
    """
    verb = "is" if number(rate, out_of) in ("fewer than 1", "1") else "are"
    count = of(rate, out_of)
    if k == 1:
        return upper(count), f" images {verb} linked to the right report."
    return upper(count), f" images {'has' if verb == 'is' else 'have'} the right report among the first {k}."


def guessing(chance: float, out_of: int, k: int = 1) -> str:
    """What guessing would do, in the same unit.

    >>> guessing(0.01, 100)
    'Guessing would link 1 of 100.'
    """
    return f"Guessing would {'link' if k == 1 else 'find'} {of(chance, out_of)}."


def at_pool_size(pool_size: int, rate: float, chance: float) -> tuple[str, str, str]:
    """The headline of one point of a curve: before, the count, after.

    >>> "".join(at_pool_size(1000, 0.027, 0.001))
    'At N = 1,000: 27 of 1,000 images. Guessing: 1 of 1,000.'
    """
    out_of = denominator(pool_size)
    return f"At N = {pool_size:,}: ", of(rate, out_of), f" images. Guessing: {of(chance, out_of)}."


def signed(value: float, decimals: int) -> str:
    """A number with a true minus sign, and no sign at nought.

    >>> signed(-1.26, 1), signed(-0.01, 1), signed(1200, 0)
    ('−1.3', '0.0', '1,200')
    """
    words = f"{value:,.{decimals}f}"
    return words.removeprefix("-") if not words.strip("-0.,") else words.replace("-", "−")


def difference_interval(low: float, high: float, out_of: int) -> str:
    """The ends of the interval of a difference as counts; decimals as in `interval`.

    >>> difference_interval(-0.024, 0.032, 100), difference_interval(0.103, 0.1049, 100)
    ('−2 to 3 of 100', '10.3 to 10.5 of 100')
    """
    ends = [low * out_of, high * out_of]
    decimals = 0 if math.floor(ends[0] + 0.5) != math.floor(ends[1] + 0.5) else 1
    return f"{signed(ends[0], decimals)} to {signed(ends[1], decimals)} of {out_of:,}"


def links_more(
    difference: float, out_of: int, one: str, other: str, *, k: int = 1, told: bool = True
) -> tuple[str, str, str]:
    """Two models on the same images: before, the count, after. `told` says whether chance can explain the difference.

    >>> "".join(links_more(0.11, 100, "Radiology", "Clinical"))
    'Radiology links 11 more of 100 images than Clinical.'
    >>> "".join(links_more(-0.004, 100, "General", "Clinical"))
    'General links fewer than 1 fewer of 100 images than Clinical.'
    >>> "".join(links_more(0.004, 100, "General", "Clinical", k=5, told=False))
    'General and Clinical cannot be told apart on these images.'
    """
    if not told:
        return "", f"{one} and {other}", " cannot be told apart on these images."
    by, way = number(abs(difference), out_of), "more" if difference > 0 else "fewer"
    count = f"{by} {way} of {out_of:,}"
    first = "" if k == 1 else f" among the first {k}"
    return f"{one} {'links' if k == 1 else 'finds'} ", count, f" images{first} than {other}."


def exposed(n_tail: int, n: int, tail: float, middle: float, out_of: int) -> tuple[str, str, str]:
    """How unevenly images are linked: before, the count, after.

    >>> "".join(exposed(124, 12_400, 0.71, 0.02, 100))
    'The most exposed 124 of 12,400 images come first in 71 of 100 pools; the middle one in 2 of 100.'
    """
    verb = "image comes" if n == 1 else "images come"
    before = f"The most exposed {n_tail:,} of {n:,} {verb} first in "
    return before, of(tail, out_of), f" pools; the middle one in {of(middle, out_of)}."


def first_in(probability: float, pool_size: int) -> str:
    """How often one image's report comes first, beside guessing.

    >>> first_in(0.29, 100)
    'First in 29 of 100 random pools of this size. Guessing: 1.'
    """
    out_of = denominator(pool_size)
    guessed = number(1 / pool_size, out_of)
    return f"First in {of(probability, out_of)} random pools of this size. Guessing: {guessed}."


def too_few(n: int) -> str:
    """What stands in place of a number that too few images would carry."""
    return f"too few to say (n = {n:,})"


def upper(text: str) -> str:
    """First letter large, the rest as it is."""
    return text[:1].upper() + text[1:]
