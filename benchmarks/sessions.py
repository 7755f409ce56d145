"""One, 5 and 20 people at once over the shipped store: memory, and how long a change of a page takes.

    python benchmarks/sessions.py [--sessions 1:90,5:90,20:300] [--out benchmarks/sessions.json]

Sessions are raw WebSocket clients: they take what the server sends and draw nothing. Each opens pages of the menu with
changing cohort, model, N, k and tabs, and rests between them as readers do. Memory is of the server with every process
below it: proportional set size, which counts what processes share once, and the server's own resident set. Times hold
for this machine under whatever else runs on it: they are upper bounds; memory does not depend on that.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import driven
from websockets.exceptions import WebSocketException

sys.path.insert(0, str(driven.ROOT / "tests"))
from helpers.wire import Session

PAGES = (
    "start",
    "examples",
    "risk",
    "missing-match",
    "exposure",
    "mitigation",
    "frontier",
    "play",
    "report",
    "methods",
)
COHORTS = ("phantom", "phantom-site-b")
MODELS = ("phantom-general", "phantom-radiology")
REST = (5.0, 15.0)
"""Seconds between two changes of one session: drawn between these."""


def states() -> list[tuple[str, str]]:
    """(page, query) of everything that a session may ask for."""
    made = [
        (page, f"cohort={c}&model={m}&N={n}")
        for page, c, (m, n) in product(PAGES, COHORTS, zip(MODELS, (10, 100), strict=True))
    ]
    tabs = product(("compare", "decoys"), COHORTS, (1, 5))
    return made + [("risk", f"cohort={cohort}&tab={tab}&k={k}&N=100") for tab, cohort, k in tabs]


def below(pid: int) -> Iterator[int]:
    """A process and all that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from below(int(child))


def memory(server: int) -> dict[str, float]:
    """In MB."""
    shares, kinds = 0, {"Pss": 0, "Rss": 0}
    for pid in below(server):
        rolled = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        said = {line.split(":")[0]: int(line.split()[1]) for line in rolled[1:]}
        shares += said["Pss"]
        kinds["Rss"] += said["Rss"] if pid == server else 0
    return {"all_processes_mb": round(shares / 1024, 1), "server_mb": round(kinds["Rss"] / 1024, 1)}


class Load:
    """Several sessions at once for some seconds."""

    def __init__(self, port: int, cookie: str, server: int) -> None:
        self.port, self.cookie, self.server = port, cookie, server

    def run(self, sessions: int, seconds: float, rest: tuple[float, float]) -> dict[str, Any]:
        ends, took, errors, peak = time.monotonic() + seconds, [], [], memory(self.server)
        lock = threading.Lock()

        def one(seed: int) -> None:
            rng, asked = random.Random(seed), states()
            try:
                with Session(self.port, cookie=self.cookie) as session:
                    while time.monotonic() < ends:
                        told = session.run(*rng.choice(asked), timeout=300)
                        with lock:
                            took.append(told.seconds)
                            errors.extend(told.exceptions if told.finished else ["not finished"])
                        time.sleep(rng.uniform(*rest))
            except (OSError, WebSocketException, AssertionError) as error:
                with lock:
                    errors.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=one, args=(seed,)) for seed in range(sessions)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(1)
            peak = max(peak, memory(self.server), key=lambda each: each["all_processes_mb"])
        cuts = statistics.quantiles(took, n=20, method="inclusive") if len(took) > 1 else [0.0] * 19
        return {
            "sessions": sessions,
            "seconds": seconds,
            "changes": len(took),
            "errors": errors,
            "p50_s": round(cuts[9], 3),
            "p95_s": round(cuts[18], 3),
            "longest_s": round(max(took), 3),
            "peak": peak,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", default="1:90,5:90,20:300", help="how many at once : for how many seconds")
    parser.add_argument("--out", type=Path, default=driven.ROOT / "benchmarks" / "sessions.json")
    asked = parser.parse_args()
    with driven.running() as url:
        port = urlsplit(url).port or 80
        server = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
        cookie = f"{driven.KEYS.cookie_name(port)}={driven.KEYS.cookie(port)}"
        found: dict[str, Any] = {"schema": 1, "cores": os.cpu_count(), "load": os.getloadavg(), "idle": memory(server)}
        with Session(port, cookie=cookie) as session:
            for page in (*PAGES, "data"):
                told = session.run(page)
                if told.exceptions or not told.finished:
                    raise SystemExit(f"{page} was not drawn: {told.exceptions or 'it took too long'}")
            found["all_pages_once"] = memory(server)
            print(json.dumps(found), flush=True)
            began = time.monotonic()
            for page, query in states():
                session.run(page, query)
            found["every_state_once"] = {"seconds": round(time.monotonic() - began, 1), **memory(server)}
        print(json.dumps(found["every_state_once"]), flush=True)
        load = Load(port, cookie, server)
        found["at_once"] = []
        for each in asked.sessions.split(","):
            sessions, _, seconds = each.partition(":")
            found["at_once"].append(load.run(int(sessions), float(seconds), REST))
            print(json.dumps(found["at_once"][-1]), flush=True)
        time.sleep(30)
        found["when_all_have_left"] = memory(server)
        found["load_at_the_end"] = os.getloadavg()
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
