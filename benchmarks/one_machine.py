"""A hospital's size on one machine, end to end: time, processor time and peak memory of every command and page.

    python benchmarks/one_machine.py [--images 43793,377110] [--out benchmarks/one_machine.json]

The study's own sizes: 43,793 pairs (its CheXpert Plus) and 377,110 images (MIMIC-CXR). A simulated cohort with labels,
reports that others share and several studies a patient (`audit_times.simulated`) is written as files and taken in by
`linkage import`; then each command runs as a process of its own, and a server shows every page once to one session
that draws nothing. Above `--whole` images only what a cohort of that size is asked first. `peak_mb` is the largest
resident set of a command (never below that of this process, from which it starts), and for the pages the proportional
set of the server with all below it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import audit_times
import driven
import numpy as np
import pandas as pd
from sessions import PAGES, memory

sys.path.insert(0, str(driven.ROOT / "tests"))
from helpers.wire import Session

D = 128
TARGET = "simulated/m"
HEAD = "label-oneshot-eps1"


def written(n: int, folder: Path) -> list[str]:
    """The files of a cohort of n images, and what `linkage import` is told of them."""
    records = audit_times.simulated(n).records.drop(columns=["split", "image"])
    code = pd.factorize(records["report"])[0]
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((code.max() + 1, D), dtype=np.float32)[code]
    np.save(folder / "text.npy", texts)
    np.save(folder / "image.npy", 0.25 * texts + rng.standard_normal(texts.shape, dtype=np.float32))
    records.to_csv(folder / "records.csv", index=False)
    return [f"--{name}={folder / file}" for name, file in (("image", "image.npy"), ("text", "text.npy"))] + [
        f"--records={folder / 'records.csv'}"
    ]


def steps(folder: Path, *, whole: bool) -> Iterator[list[str]]:
    """Commands after the import."""
    yield ["audit", TARGET]
    yield ["verify"]
    if not whole:
        yield ["audit", TARGET, "--sample-queries", "10000", "--sample-candidates", "10000"]
        return
    yield ["audit", TARGET, "--full", str(folder / "full")]
    yield ["finetune", TARGET, "--mechanism", "label-oneshot", "--epsilon", "1"]
    yield ["audit", TARGET, "--head", HEAD]
    yield ["utility", TARGET, "--head", HEAD]
    yield ["attack", TARGET, "--head", HEAD, "--known", "all"]
    book, secret, out = (str(folder / name) for name in ("book", "secret", "out"))
    yield ["ledger", "create", book, TARGET, "--epsilon", "3", "--lift", "1000000"]
    kept = ["--secret", secret, "--new-secret", "--ledger", book]
    yield ["release", TARGET, "--kind", "capped", "--limit", "30", "--per-patient", "1", *kept, "--out", out]
    yield ["receive", out, "--cohort", TARGET, "--split", "heldout"]
    yield ["report", TARGET, "--out", str(folder / "report.html")]


def walked(command: list[str], store: Path) -> dict[str, Any]:
    """One command in a process of its own: exit code, seconds, the processor's, peak memory, and what it said last."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "linkage_core", *command, "--store", str(store), "--quiet"],
            cwd=driven.ROOT,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().strip().splitlines()
    hidden = ("--image", "--text", "--records", "/", TARGET)
    shown = " ".join(part for part in command if not part.startswith(hidden))
    row = {
        "what": shown,
        "code": process.returncode,
        "seconds": round(time.perf_counter() - begun, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
    }
    return row | ({"said": lines[0]} if process.returncode and lines else {})


def seen(store: Path) -> Iterator[dict[str, Any]]:
    """Every page of a new server, one after the other, and again."""
    os.environ["LINKAGE_STORE"] = str(store)
    with driven.running() as url:
        port = urlsplit(url).port or 80
        server = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1])
        cookie = f"{driven.KEYS.cookie_name(port)}={driven.KEYS.cookie(port)}"
        with Session(port, cookie=cookie) as session:
            for page in PAGES:
                times = []
                for _ in range(2):
                    told = session.run(page, "", timeout=900)
                    times.append(round(told.seconds, 2))
                row: dict[str, Any] = {"what": f"page {page}", "seconds": times[0], "again_seconds": times[1]}
                row |= {"peak_mb": round(memory(server)["all_processes_mb"]), "finished": told.finished}
                yield row | ({"said": told.exceptions} if told.exceptions else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="43793,377110")
    parser.add_argument("--whole", type=int, default=100_000, help="Up to so many images every command is asked.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    found: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "dimensions": D, "sizes": {}}
    for n in map(int, asked.images.split(",")):
        rows: list[dict[str, Any]] = []
        found["sizes"][str(n)] = rows
        with tempfile.TemporaryDirectory() as scratch:
            folder, store = Path(scratch), Path(scratch) / "store"
            for command in (["import", TARGET, *written(n, folder)], *steps(folder, whole=n <= asked.whole)):
                rows.append(walked(command, store))
                print(n, rows[-1], flush=True)
            for row in seen(store):
                rows.append(row)
                print(n, row, flush=True)
        found["load"] = round(os.getloadavg()[0], 1)
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
