"""Rows for JSON: what it has no number for is null, and the rest is as it was."""

import json

import numpy as np
import pandas as pd

from linkage_core import tables


def test_rows_hold_what_json_can_say() -> None:
    table = pd.DataFrame(
        {
            "recall": [0.5, np.nan, np.inf],
            "n": [1, 2, 3],
            "pool_size": [10, "full", np.int64(7)],
            "chance": pd.Series([np.float32(0.25), -np.inf, np.float64("nan")], dtype=object),
            7: [True, False, True],
        }
    )
    rows = tables.rows(table)
    assert rows[0] == {"recall": 0.5, "n": 1, "pool_size": 10, "chance": 0.25, "7": True}
    assert rows[1] == {"recall": None, "n": 2, "pool_size": "full", "chance": None, "7": False}
    assert rows[2] == {"recall": None, "n": 3, "pool_size": 7, "chance": None, "7": True}
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
