"""Processor seconds of `linkage --help`, beside what it is drawn with, and where those of `linkage audit phantom` go.

    python benchmarks/help.py [--repeats 15]

- `python -c "import typer, rich"` and `linkage --help`, one after the other in each round (limit: 1.5 times as much);
- each command's own --help, in as many rounds as are asked for divided by five;
- `linkage audit phantom` over the store that comes along: Python and typer, the core's imports, the audit itself.

User and system time of a process of its own, so other work on the machine counts little (`load`); medians. Writes
benchmarks/help.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from linkage_core.cli.main import TABLE

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.5
DRAWN_WITH = ["-c", "import typer, rich"]
AUDIT = """
import json, sys, time
began = time.process_time()
from linkage_core.cli import main
known = time.process_time()
import linkage_core.audit.full, linkage_core.cli.audit, linkage_core.cli.printing
imported = time.process_time()
try:
    main.main(["audit", "phantom"])
except SystemExit as stop:
    assert not stop.code
print(json.dumps({"python, typer, the table": known, "imports of the core": imported - known,
                  "the audit, printed": time.process_time() - imported}), file=sys.stderr)
"""


def seconds(arguments: list[str]) -> tuple[float, str]:
    """User and system seconds of `python ARGUMENTS` in the checkout, and what it wrote to standard error."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def measured(repeats: int) -> dict[str, Any]:
    """Medians in seconds; the two that are compared take turns."""
    page = ["-m", "linkage_core", "--help"]
    for arguments in (DRAWN_WITH, page):
        seconds(arguments)  # compiled and in memory
    rounds = [(seconds(DRAWN_WITH)[0], seconds(page)[0]) for _ in range(repeats)]
    base, own = (statistics.median(column) for column in zip(*rounds, strict=True))
    commands = {}
    for row in TABLE:
        typed = [row.name] if row.under == "linkage" else [row.under, row.name]
        took = [seconds(["-m", "linkage_core", *typed, "--help"])[0] for _ in range(max(1, repeats // 5))]
        commands[" ".join(typed)] = round(statistics.median(took), 3)
    runs = [json.loads(seconds(["-c", AUDIT])[1].splitlines()[-1]) for _ in range(max(1, repeats // 5))]
    parts = {name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]}
    return {
        "python": platform.python_version(),
        "repeats": repeats,
        "load": round(os.getloadavg()[0], 1),
        "import typer, rich": round(base, 3),
        "linkage --help": round(own, 3),
        "ratio": round(own / base, 2),
        "limit": LIMIT,
        "linkage COMMAND --help": commands,
        "linkage audit phantom": parts,
        "of which the audit": round(parts["the audit, printed"] / sum(parts.values()), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=15)
    found = measured(parser.parse_args().repeats)
    for name, value in found.items():
        print(f"{name}: {value}" if not isinstance(value, dict) else f"{name}:")
        for part, figure in value.items() if isinstance(value, dict) else ():
            print(f"  {part:<26} {figure:.3f}")
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(found["ratio"] > LIMIT)


if __name__ == "__main__":
    main()
