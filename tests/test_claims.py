"""Every figure in README and docs is a row of a benchmark file: benchmarks/claims.csv says which."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest

from helpers.claims import DOCUMENTS, Claim, at, claims, figures, flat
from helpers.places import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from claims import renewed

TEXTS = {name: flat((ROOT / name).read_text(encoding="utf-8")) for name in DOCUMENTS}


@pytest.mark.parametrize("claim", claims(), ids=lambda one: f"{one.document}: {one.text}"[:70])
def test_a_figure_is_what_its_benchmark_file_holds(claim: Claim) -> None:
    assert TEXTS[claim.document].count(claim.text) == 1, "the quote is not in the document, or more than once"
    assert claim.found() == pytest.approx(claim.said)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_figure_stands_there_that_is_in_no_file(document: str) -> None:
    text, covered = TEXTS[document], set()
    for claim in claims():
        if claim.document == document:
            start = text.index(claim.text) + claim.quote.index("{")
            covered |= {*range(start, start + len(claim.figure))}
    bare = [
        f"{figure} in: {text[max(0, place - 60) : place + 40]}"
        for place, figure in figures(text)
        if place not in covered
    ]
    assert not bare, "\n".join(bare)


def test_a_figure_that_moved_and_one_without_a_row_are_caught() -> None:
    claim = claims()[0]
    moved = Claim(claim.document, claim.quote.replace("{", "{9"), claim.file, claim.key, claim.times, claim.digits)
    assert moved.found() != pytest.approx(moved.said)
    text = "It links 17 of 100 at 0.123 and 45%, at epsilon 0.34 with N = 100 (`7.5`)."
    assert [figure for _, figure in figures(text)] == ["17", "0.123", "45%"]


def test_a_row_of_a_list_is_found_by_what_it_says_and_only_if_it_is_the_one() -> None:
    rows = {"rows": [{"n": 1, "of": "a"}, {"n": 1, "of": "b"}]}
    assert at(rows, "rows/n=1,of=b/of") == "b"
    assert at(rows, "rows/1/of") == "b"
    with pytest.raises(KeyError, match="2 rows"):
        at(rows, "rows/n=1/of")
    assert re.search("benchmarks/claims.csv", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def test_figures_are_written_anew_and_quotes_with_them() -> None:
    name = "README.md"
    text = (ROOT / name).read_text(encoding="utf-8")
    listed = [claim for claim in claims() if claim.document == name]
    assert renewed(text, listed) == (text, [claim.quote for claim in listed])
    one = next(claim for claim in listed if text.count(claim.text) == 1)
    stale = one.quote.replace("{", "{1")
    old = replace(one, quote=stale)
    was = text.replace(one.text, old.text)
    others = [claim for claim in listed if claim.text in was and claim != one]
    assert renewed(was, [old, *others]) == (text, [one.quote, *(claim.quote for claim in others)])
