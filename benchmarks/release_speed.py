"""Seconds from a store to a checked release folder, for many records: codes and capped (limit 120 s each).

    python benchmarks/release_speed.py [--records 400000] [--dimension 64] [--out benchmarks/release_speed.json]

Simulated embeddings of two records a patient are imported into a temporary store (not counted). Counted is `make` as
the command line calls it: records read and their hashes checked, the ledger charged, the folder written, renamed and
checked. `parts` tells where the time goes. `cpu_seconds` is what to read where the machine has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import LABELS, RECORD_COLUMNS, Cohort, rejects_table
from linkage_core.embed.embedding import import_arrays
from linkage_core.release import folder
from linkage_core.release.keyed import Secret
from linkage_core.release.ledger import Ledger
from linkage_core.release.make import Options, make
from linkage_core.store.entry import Entry, Store

LIMIT_SECONDS = 120.0
K, L = 64, 30
N_PUBLIC = 4000


def simulated(store: Store, name: str, n: int, d: int, seed: int) -> Entry:
    """n records of two a patient; images say something of the findings."""
    rng = np.random.default_rng(seed)
    states = (rng.random((n, len(LABELS))) < 0.3).astype(np.float32)
    images = rng.standard_normal((n, d), dtype=np.float32)
    images[:, : len(LABELS)] += states[:, :d]
    ids = [f"{name}-{i:07d}" for i in range(n)]
    records = pd.DataFrame(
        {
            "record_id": ids,
            "patient_id": [f"{name}-p{i // 2:07d}" for i in range(n)],
            "study_id": ids,
            **{"image": "", "view": "PA", "sex": "F", "age": 50.0, "split": "heldout"},
            **dict(zip(LABELS, states.T.astype(float), strict=True)),
            "report": "",
        }
    )[list(RECORD_COLUMNS)]

    def none(row: object) -> Any:
        raise OSError("there are no images")

    cohort = Cohort(name, "folder", None, records, rejects_table([]), none, synthetic=True, default_split="heldout")
    # one text for all: reports play no part in a release, and 400,000 distinct ones would only fill the disk
    texts = np.ones((n, d), dtype=np.float32)
    return import_arrays(cohort, "m", images, texts, store)


def measured(n: int, d: int) -> dict[str, Any]:
    """Both kinds, in a temporary folder."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        started = time.perf_counter()
        entry = simulated(Store(root / "store"), "site", n, d, 0)
        public = simulated(Store(root / "store"), "public", max(min(n, N_PUBLIC), 8 * K), d, 1)
        imported = time.perf_counter() - started
        Secret.create(root / "secret", entry.cohort)
        patients = entry.records("all")["patient_id"].unique()
        Ledger.create(root / "book", entry.cohort, patients, epsilon=1.0, delta=1e-9, lift=1e9)
        rows = []
        for kind, options in (
            ("codes", Options("codes", limit=K, public=public, secret=root / "secret", ledger=root / "book")),
            ("capped", Options("capped", limit=L, secret=root / "secret", ledger=root / "book")),
        ):
            marks: list[tuple[str, float]] = []

            def note(stage: str, done: int, total: int, marks: list[tuple[str, float]] = marks) -> None:
                marks.append((stage, time.perf_counter()))

            # a fresh entry, so that nothing of it is in memory
            again = Store(root / "store").open("site", "m")
            start, cpu = time.perf_counter(), time.process_time()
            made = make(again, root / kind, options, note)
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
            moments = [at for _, at in marks]
            names = ("embeddings", "mechanism, data and ledger", "certificate and its check")
            checking = time.perf_counter()
            folder.check(root / kind)
            rows.append(
                {
                    "kind": kind,
                    "records": made.certificate.content["cohort"]["n_records"],
                    "seconds": round(seconds, 1),
                    "cpu_seconds": round(cpu, 1),
                    "check_seconds": round(time.perf_counter() - checking, 1),
                    "limit_seconds": LIMIT_SECONDS,
                    "megabytes": round(sum(one.stat().st_size for one in (root / kind).iterdir()) / 1e6, 1),
                    "parts": {
                        name: round(end - begin, 1)
                        for name, begin, end in zip(names, moments, moments[1:], strict=False)
                    },
                }
            )
        return {
            "records": n,
            "dimension": d,
            "import_seconds": round(imported, 1),
            "rows": rows,
            "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
            "load": round(os.getloadavg()[0], 1),
        }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=400_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args(arguments)
    found = measured(given.records, given.dimension)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return int(any(row["seconds"] > LIMIT_SECONDS for row in found["rows"]))


if __name__ == "__main__":
    raise SystemExit(main())
