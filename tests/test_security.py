"""Every promise of SECURITY.md names a test that there is."""

from __future__ import annotations

import ast
import re

from helpers.places import ROOT

ROW = re.compile(r"^\| (.+) \| (?:`(tests/[\w/]+\.py)::(\w+)`)? ?\|$")
OPEN = "not merged yet"


def rows() -> list[tuple[str, str | None, str | None]]:
    """(promise, file, test) of the table."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    table = text.split("| promise | test |\n|---|---|\n")[1].split("\n\n")[0]
    found = [ROW.match(line) for line in table.splitlines()]
    assert all(found), [line for line, one in zip(table.splitlines(), found, strict=True) if one is None]
    return [(one[1], one[2], one[3]) for one in found if one is not None]


def test_every_promise_names_a_test_that_there_is() -> None:
    assert len(rows()) > 30
    for promise, file, test in rows():
        if file is None or test is None:
            assert OPEN in promise, f"{promise}: which test holds it?"
            continue
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert test in there, f"{promise}: {file} has no {test}"


def test_no_test_stands_for_two_promises() -> None:
    named = [test for _, _, test in rows() if test]
    assert len(named) == len(set(named))


def test_its_commands_are_there() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for command in re.findall(r"`make ([\w-]+)", (ROOT / "SECURITY.md").read_text(encoding="utf-8")):
        assert command in targets
