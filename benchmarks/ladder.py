"""The figures of the phantom that README states, as `linkage audit` gives them: its ladder, and another site's reports.

    python benchmarks/ladder.py [--store cached_embeddings]

Writes benchmarks/ladder.json: rows of the audit (Recall@1 at N = 100 and 10,000 with intervals), and for each site the
same where the other reports come from its own or from the other one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).resolve().parents[1] / "cached_embeddings"


def audited(store: Path, *options: str) -> dict[str, Any]:
    """The JSON object of one audit."""
    command = [
        sys.executable,
        "-m",
        "linkage_core",
        "--store",
        str(store),
        "audit",
        *options,
        "--k",
        "1",
        "--json",
        "-",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=SHIPPED)
    options = parser.parse_args()
    kept = ("model", "pool_size", "n_queries", "recall", "recall_low", "recall_high", "chance", "lift")
    whole = audited(options.store, "phantom", "--pool-size", "100,10000")
    sites = audited(options.store, "phantom/phantom-radiology", "--pool-size", "100", "--gallery", "phantom-site-b")
    of = ("query_cohort", "gallery_cohort", "pool_size", "n_queries", "recall", "recall_low", "recall_high")
    result = {
        "ladder": [{name: row[name] for name in kept} for row in whole["rows"]],
        "sites": [{name: row[name] for name in of} for row in sites["tables"]["sites"]],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
