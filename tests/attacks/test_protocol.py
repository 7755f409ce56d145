"""The interface of attackers: exact counts of every kind of answer, and rows that other packages bring."""

from __future__ import annotations

import ast
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.attacked import simulated
from helpers.places import ROOT
from helpers.toy import read_back, toy_arrays, toy_records
from linkage_core.attacks import attack, attackers, scored
from linkage_core.attacks.attackers import ATTACKERS, COSINE, READER, allowed
from linkage_core.attacks.held import RELEASES, Held
from linkage_core.attacks.installed import GROUP, Table
from linkage_core.attacks.plain import cosine
from linkage_core.attacks.protocol import Attacker
from linkage_core.attacks.scored import Answer, Each, InBlocks, Scored, ranked
from linkage_core.embed.embedding import import_arrays
from linkage_core.errors import InputError
from linkage_core.store.entry import Store

ROW = ATTACKERS[COSINE]

# ------------------------------------------------------------------------------------------- exact, by slow loops


def slowly(scores: np.ndarray, held: Held) -> list[tuple[int, int, int]]:
    """(better, tied, eligible) of each query, one comparison at a time; scores (n_queries, n_candidates)."""
    found = []
    for i, row in enumerate(scores):
        others = [j for j in range(len(row)) if held.candidate_group[j] != held.query_group[i]]
        own = row[held.match[i]]
        found.append((sum(row[j] > own for j in others), sum(row[j] == own for j in others), len(others)))
    return found


@pytest.mark.parametrize("each", ["text", "candidate"])
@pytest.mark.parametrize("in_blocks", [True, False])
def test_every_kind_of_answer_is_counted_as_by_a_loop(
    each: Each, in_blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole numbers, so that scores tie by the dozen and no rounding parts them; more than one block of queries."""
    monkeypatch.setattr(scored, "BLOCK", 7)
    held = simulated(n_own=20, n_test=60, shared=True)
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, (60, 3)).astype(float)
    reports = rng.integers(-2, 3, (len(held.texts) if each == "text" else 60, 3)).astype(float)
    answer: Answer = Scored(queries, reports, each=each)
    if in_blocks:
        answer = InBlocks(lambda rows: queries[rows] @ reports.T, each=each)
    whole = queries @ (reports[held.text_of] if each == "text" else reports).T
    counts = held.ranked(answer)
    assert list(zip(*(column.tolist() for column in counts), strict=True)) == slowly(whole, held)
    assert counts.n_tied.max() >= 10
    assert np.array_equal(answer.block(np.array([3, 1]), held.text_of), whole[[3, 1]])
    alone = ranked(answer, held.text_of, held.match)
    assert set(alone.n_eligible.tolist()) == {59}, "without groups every other candidate is one"
    nobody = replace(held, query_group=1000 + np.arange(60), candidate_group=1000 + np.arange(60))
    assert all((a == b).all() for a, b in zip(alone, nobody.ranked(answer), strict=True))


def test_reports_of_one_text_tie_whatever_the_scores_round_to() -> None:
    held = simulated(n_own=20, n_test=60, shared=True)
    answer = cosine(held, np.arange(20), 0, True)
    assert isinstance(answer, Scored)
    by_block = held.ranked(InBlocks(lambda rows: answer.queries[rows].astype(np.float32) @ answer.reports.T))
    for counts in (held.ranked(answer), by_block):
        own = held.text_of[held.match]
        same = (held.text_of[None] == own[:, None]) & (held.candidate_group[None] != held.query_group[:, None])
        assert np.array_equal(counts.n_tied, same.sum(axis=1))


# ------------------------------------------------------------------------------------------ rows of other packages


class Site:
    """A folder of installed packages: a module and the .dist-info that names its attackers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, package: str, code: str, points: str = "theirs = {module}:ROW") -> None:
        module = package.replace("-", "_")
        (self.folder / f"{module}.py").write_text(code, encoding="utf-8")
        info = self.folder / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n", encoding="utf-8")
        listed = f"[{GROUP}]\n{points.format(module=module)}\n"
        (info / "entry_points.txt").write_text(listed, encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


GOOD = """
from linkage_core.attacks.protocol import Attacker, Scored
from linkage_core.heads import unit
def scores(held, known, seed, knows_heads):
    return Scored(-held.released, unit(held.heads.text(held.texts)), f"{len(known)} pairs")
ROW = Attacker("theirs", scores, "looks the wrong way", "Theirs, {m} pairs")
"""


def test_a_row_of_another_package_stands_beside_ours(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("their-package", GOOD)
    table = Table(ROW)
    assert "their_package" not in sys.modules, "nothing is loaded before the table is looked at"
    assert list(table) == [COSINE, "theirs"]
    assert table["theirs"].package == "their-package"
    for module in (attack, attackers):
        monkeypatch.setattr(module, "ATTACKERS", table)
    assert allowed("embeddings", "secret") == ("theirs",)
    held = simulated()
    counts, known, chosen = attack.run(held, "theirs", 40)
    assert (known, chosen) == (40, "40 pairs")
    usual = attack.run(held, COSINE)[0]
    assert np.array_equal(counts.n_better, usual.n_eligible - usual.n_better - usual.n_tied)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise RuntimeError('no licence\\nfor you')", "RuntimeError: no licence for you"),
        ("import there_is_no_such_module", "No module named 'there_is_no_such_module'"),
        ("ROW = 'theirs'", "is a str, not an Attacker"),
        ("THEIRS = 1", "has no attribute 'ROW'"),
        (GOOD.replace('"theirs"', '"cosine"'), "the name 'cosine' is taken"),
        (GOOD.replace('"theirs"', '"worst"'), "the name 'worst' is taken"),
        (GOOD.replace('"theirs"', '"The <b>irs"'), "the name 'The <b>irs' is not of small letters"),
        (GOOD.replace("{m}", "{n}"), "has another brace than {m}"),
        (GOOD.replace("{m} pairs", "").replace("Theirs, ", " "), "it has no label"),
(GOOD.replace("{m} pairs\")", "\", holds=('the-archive',))"), "it holds 'the-archive'"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_used_is_named_and_the_others_go_on(
    site: Site, code: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.add("bad-package", code)
    site.add("good-package", GOOD.replace('"theirs"', '"other"'), "other = {module}:ROW")
    with caplog.at_level(logging.WARNING):
        assert list(Table(ROW, reserved=attackers.OF_TABLES)) == [COSINE, "other"]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("The attacker 'theirs' of the package bad-package is left out: ")
    assert why in said
    assert "\n" not in said


def test_of_two_packages_with_one_name_the_first_by_name_stays(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.add("b-package", GOOD)
    site.add("a-package", GOOD)
    assert Table(ROW)["theirs"].package == "a-package"
    assert "of the package b-package is left out: ValueError: the name 'theirs' is taken" in caplog.text


def test_a_package_may_look_at_the_table_while_it_is_imported(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(ROW)
    monkeypatch.setattr(attackers, "ATTACKERS", table)
    site.add("their-package", "from linkage_core.attacks import attackers\nassert len(attackers.ATTACKERS) == 1" + GOOD)
    assert list(table) == [COSINE, "theirs"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda held: 1 / 0, "ZeroDivisionError"),
        (lambda held: (held.released, held.texts, ""), "it gave a tuple, neither Scored nor InBlocks"),
        (lambda held: Scored(held.released[1:], held.texts), r"queries of shape \(59, 24\)"),
        (lambda held: Scored(held.released, held.texts[1:]), r"reports of shape \(\d+, 24\)"),
        (lambda held: Scored(held.released, held.texts, each="candidate"), r"Give \(60, p\) and \(60, p\)"),
        (lambda held: Scored(held.released * np.nan, held.texts), "It gave NaN"),
    ],
)
def test_what_another_package_answers_is_checked(answer, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Attacker("theirs", lambda held, *_: answer(held), "fails", "Theirs", package="their-package")
    monkeypatch.setitem(ATTACKERS, "theirs", row)
    held = simulated(n_own=20, n_test=60, shared=True)
    with pytest.raises(InputError, match=f"The attacker 'theirs' of the package their-package failed .*{why}"):
        attack.run(held, "theirs")


def test_one_of_another_package_that_fails_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    records = toy_records(160)
    found = replace(read_back(records, tmp_path), default_split="heldout")
    entry = import_arrays(found, "m", *toy_arrays(records, 1.0), Store(tmp_path / "store"))
    table = Table(ROW, Attacker("theirs", lambda *_: 1 / 0, "fails", "Theirs", package="their-package"))  # type: ignore
    for module in (attack, attackers):
        monkeypatch.setattr(module, "ATTACKERS", table)
    assert [one.attacker for one in attack.attacks(entry)] == [COSINE]
    assert "The attacker 'theirs' of the package their-package failed (ZeroDivisionError" in caplog.text
    monkeypatch.setitem(table, "theirs", replace(table["theirs"], package=""))
    with pytest.raises(ZeroDivisionError):  # of ours, a fault is a fault
        attack.attacks(entry)


@pytest.mark.parametrize(
    ("scores", "why"),
    [(np.zeros((60, 3)), r"scores of shape \(60, 3\) for 60 queries"), (np.full((60, 60), np.nan), "It gave NaN")],
)
def test_blocks_are_checked_when_they_are_asked_for(scores: np.ndarray, why: str) -> None:
    held = simulated(n_own=20, n_test=60)
    with pytest.raises(InputError, match=why):
        held.ranked(InBlocks(lambda rows: scores[rows]))


# ------------------------------------------------------------------------------------------------ nothing knows names


def test_nobody_else_knows_an_attacker_by_name() -> None:
    """Cosine and the reader are constants, by which others are compared; a release may be called as an attacker."""
    names = set(ATTACKERS) - {COSINE, READER} - set(RELEASES)
    for room in ("linkage_core", "explorer", "pages"):
        for file in (ROOT / room).rglob("*.py"):
            if "attacks" in file.parts:
                continue
            tree = ast.parse(file.read_text(encoding="utf-8"))
            said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not said & names, file
