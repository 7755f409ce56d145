"""CSV that a person opens in a spreadsheet: no cell of it is a formula, however the spreadsheet splits it."""

import csv
import io
import re

import pandas as pd
import pytest

from linkage_core import tables

RUNS = "=cmd|' /C calc'!A0"
HOSTILE = [
    RUNS,
    f"img7\r{RUNS}\rx",
    f"a\r\n{RUNS}",
    f"x;{RUNS};y",
    f"x,{RUNS}",
    "x\t@SUM(A1)",
    f"x\u2028{RUNS}",
    f"x\x0b{RUNS}",
    f"x\x85{RUNS}",
    "\uff1d1+1",
    "\uff0b1",
    "\uff0d1",
    "\uff20SUM(1)",
    f" {RUNS}",
    f'"{RUNS}',
    f"\x00{RUNS}",
    f"x;\x1b{RUNS}",
    "-1+1",
]


@pytest.mark.parametrize("cell", HOSTILE)
def test_no_cell_begins_with_a_formula(cell: str) -> None:
    table = pd.DataFrame({"record_id": ["r1", cell, "r3"], cell: [1.5, float("nan"), -2.0]})
    written = tables.csv(table).decode()
    assert "\r" not in written
    read = list(csv.reader(io.StringIO(written)))
    assert len(read) == 4, "one row a record, and the header"
    text = [value for row in read for value in row if not re.fullmatch(r"-?\d+\.\d+", value)]
    for value in text:
        for piece in re.split(r"[;,\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]", value):
            assert not re.match(r"[\s\"]*[=+\-@\uff1d\uff0b\uff0d\uff20]", piece), (value, piece)
    for line in written.splitlines():
        assert not re.match(r"[\s]*[=+@]", line)


def test_numbers_stay_numbers_and_text_is_quoted() -> None:
    table = pd.DataFrame({"id": ["007", "b"], "n": [-1, 2], "mixed": ["=1", -2.5], "gap": [None, "x"]})
    read = pd.read_csv(io.BytesIO(tables.csv(table)), dtype={"id": str})
    assert read["id"].tolist() == ["007", "b"]
    assert read["n"].tolist() == [-1, 2]
    assert read["mixed"].tolist() == ["'=1", "-2.5"]
    assert read["gap"].isna().tolist() == [True, False]
    assert b'"007",-1' in tables.csv(table)
