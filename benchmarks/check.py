"""Has anything become slower beside what it is compared with? `make bench-check`; exit code 1 where it has.

    python benchmarks/check.py [--record]

guarded.csv lists every ratio that a benchmark holds: file, key, which way is better, and the quick measurement that
stands for it (none: it takes longer than a minute, and `make soak` measures it). Quick ratios are compared with those
that were recorded, in check.json: one that is worse by more than a quarter is measured again, with more repeats, and
fails if it is so again. Ratios of processor time, measured side by side, and never a time: those are the machine's.
`--record` writes the ratios of now in their place.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FALL = 0.25
REPEATS, AGAIN = 5, 11


def guarded() -> list[dict[str, str]]:
    with (HERE / "guarded.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fallen(now: float, recorded: float, better: str) -> bool:
    """Whether a ratio is worse than it was by more than FALL of that.

    >>> fallen(1.5, 1.17, "lower"), fallen(1.4, 1.17, "lower"), fallen(29, 40, "higher"), fallen(31, 40, "higher")
    (True, False, True, False)
    """
    return now > recorded * (1 + FALL) if better == "lower" else now < recorded * (1 - FALL)


def of_script(name: str, *arguments: str) -> Any:
    """What a benchmark writes elsewhere than beside itself."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, str(HERE / f"{name}.py"), *arguments, "--json", str(out)]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # its own limits are not asked about here
        return json.loads(out.read_text(encoding="utf-8"))


def of_peers(names: list[str], repeats: int) -> dict[str, float]:
    made = of_script("peers", "--quick", "--repeats", str(repeats), "--only", *names)
    return {f"peers: {row['name']}": row["ratio"] for row in made["rows"]}


def of_help(repeats: int) -> dict[str, float]:
    import help as command_help

    rounds = sorted(
        command_help.seconds(["-m", "linkage_core", "--help"])[0] / command_help.seconds(command_help.DRAWN_WITH)[0]
        for _ in range(repeats)
    )
    return {"help": round(rounds[len(rounds) // 2], 3)}


def of_limits(repeats: int) -> dict[str, float]:
    rows = of_script("limits", "--repeat", str(repeats))["rows"]
    return {f"limits: {row['what']}": row["times_the_peer"] for row in rows}


def measured(wanted: list[str], repeats: int) -> dict[str, float]:
    """Ratios of the quick measurements that are named, by name; `limits` has several."""
    peers = [name.removeprefix("peers: ") for name in wanted if name.startswith("peers: ")]
    found = of_peers(peers, repeats) if peers else {}
    others: dict[str, Callable[[int], dict[str, float]]] = {"help": of_help, "limits": of_limits}
    for name, measure in others.items():
        if any(one.split(":")[0] == name for one in wanted):
            found |= measure(repeats)
    return found


def worse(now: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """Names of quick ratios that have fallen: each is ours divided by theirs, so the less the better, whichever way the
    file writes it. KeyError for one that was never recorded."""
    return [name for name, ratio in now.items() if fallen(ratio, recorded[name], "lower")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    there = HERE / "check.json"
    wanted = list(dict.fromkeys(row["quick"] for row in guarded() if row["quick"]))
    now = measured(wanted, REPEATS)
    if asked.record:
        there.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(now, indent=1))
        return 0
    recorded = json.loads(there.read_text(encoding="utf-8"))
    again = worse(now, recorded)
    if again:
        print(f"measured again: {', '.join(again)}")
        now |= {name: ratio for name, ratio in measured(again, AGAIN).items() if name in again}
    bad = worse(now, recorded)
    for name, ratio in now.items():
        print(f"{ratio:8.3g}  was {recorded[name]:<8.3g}  {name}{'  FALLEN' if name in bad else ''}")
    for row in guarded():
        if not row["quick"]:
            print(f"not measured here: {row['file']} {row['key']} (make soak)")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
