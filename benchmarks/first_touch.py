"""Where the processor time of a command goes: starting and importing, compiling, and the work that was asked for.

    python benchmarks/first_touch.py [--repeats 5] [--before DIR]

Commands: --help; `audit phantom` over the store that comes along, whose counts are kept; the first audit of a cohort,
whose are not, with compiled loops kept from earlier and without (a folder for numba of its own, new each time); and
`embed` of the images of 20 drawn studies. `--before` names a checkout of another state, whose figures are kept beside:
it takes turns.

User and system seconds of a process of its own, so other work on the machine counts little (`load`); medians. Writes
benchmarks/first_touch.json. What compiles is told by its share of the first audit without kept loops.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import builtins, json, sys, time
real, depth, imports = builtins.__import__, 0, 0.0
def timed(*a, **k):
    global depth, imports
    depth += 1
    began = time.process_time()
    try:
        return real(*a, **k)
    finally:
        depth -= 1
        if not depth:
            imports += time.process_time() - began
started = time.process_time()
builtins.__import__ = timed
from linkage_core.cli import main
try:
    main.main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
whole = time.process_time()
print(json.dumps({"imports": started + imports, "work": whole - started - imports}), file=sys.stderr)
"""


def run(code: Path, arguments: list[str], **environment: str) -> dict[str, float]:
    """Seconds of one command of a checkout."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
    return found


def commands(code: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Seconds of each command, once."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    entry = "phantom/phantom-radiology"
    shutil.copytree(ROOT / "cached_embeddings" / entry, store / entry, ignore=shutil.ignore_patterns("ranks"))
    audit = ["audit", entry, "--store", str(store)]
    found = {"--help": run(code, ["--help"]), "audit phantom": run(code, ["audit", "phantom"])}
    found["first audit, loops kept"] = run(code, audit)
    shutil.rmtree(store / entry / "ranks")
    empty = folder / "numba"
    shutil.rmtree(empty, ignore_errors=True)
    found["first audit, no loops kept"] = run(code, audit, NUMBA_CACHE_DIR=str(empty))
    model = ["--model", "phantom-general", "--store", str(store), "--rebuild"]
    found["embed 20 studies"] = run(code, ["embed", "folder", str(folder / "images"), *model])
    return found


def medians(runs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name in runs[0]:
        parts = {part: statistics.median(one[name][part] for one in runs) for part in runs[0][name]}
        whole = sum(parts.values())
        out[name] = {part: round(value, 3) for part, value in parts.items()} | {
            "share of the work": round(parts["work"] / whole, 2)
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    codes = {"now": ROOT} | ({"before": asked.before.resolve()} if asked.before else {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(ROOT, ["phantom", "export", str(folder / "images"), "--studies", "20", "--size", "64"])
        for code in codes.values():
            commands(code, folder)  # compiled and in memory
        rounds = [{when: commands(code, folder) for when, code in codes.items()} for _ in range(asked.repeats)]
    made: dict[str, Any] = {
        "python": platform.python_version(),
        "repeats": asked.repeats,
        "load": round(os.getloadavg()[0], 1),
        **{when: medians([one[when] for one in rounds]) for when in codes},
    }
    if "before" not in codes and asked.json.is_file():
        made["before"] = json.loads(asked.json.read_text(encoding="utf-8")).get("before")
    asked.json.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(made, indent=1))


if __name__ == "__main__":
    main()
