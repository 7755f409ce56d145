"""The walk through every command on cohorts of one's own, with times. -> benchmarks/own_cohorts.json

    python benchmarks/own_cohorts.py [--studies 400]

Two cohorts of as many studies, two a patient: `imported`, arrays with and without labels in which images and reports
share findings and an instance; and `films`, a folder of synthetic files whose labels are read from text.
Each command is a process of its own, so that its start counts; exit codes and the figures that it gave stand beside.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from linkage_core.cohorts.base import LABELS  # noqa: E402


def arrays(folder: Path, studies: int, *, labels: bool) -> list[str]:
    """What `linkage import` is given, written into a folder."""
    rng = np.random.default_rng(int(labels))
    states = (rng.random((studies, len(LABELS))) < 0.3).astype(int)
    texts = np.column_stack([2 * states, rng.standard_normal((studies, 10))]).astype(np.float32)
    images = (texts + 0.7 * rng.standard_normal(texts.shape)).astype(np.float32)
    rows, name = range(studies), folder.name  # ids of its own: a ledger knows patients again
    table = {"record_id": [f"{name}-{i}" for i in rows], "patient_id": [f"{name}-p{i // 2}" for i in rows]}
    table |= {"study_id": [f"{name}-s{i}" for i in rows]}
    if labels:
        table |= dict(zip(LABELS, states.T.tolist(), strict=True))
    folder.mkdir()
    pd.DataFrame(table).to_csv(folder / "records.csv", index=False)
    np.save(folder / "image.npy", images)
    np.save(folder / "text.npy", texts)
    return [f"--{one}={folder / file}" for one, file in (("image", "image.npy"), ("text", "text.npy"))] + [
        f"--records={folder / 'records.csv'}"
    ]


def steps(target: str, root: Path, *, labels: bool) -> Iterator[list[str]]:
    """The commands after a cohort is there."""
    head = f"{'label-dpsgd' if labels else 'moment-oneshot'}-eps1"
    book, secret, out = (str(root / f"{target.partition('/')[0]}-{name}") for name in ("book", "secret", "out"))
    yield ["audit", target]
    yield ["finetune", target, "--epsilon", "1"]
    yield ["audit", target, "--head", head]
    yield ["attack", target, "--head", head, "--known", "100,all"]
    yield ["attack", target, "--head", head, "--known", "all", "--game", "archive"]
    yield ["utility", target, "--head", head]
    yield ["canary", target, "--canaries", "100"]
    yield ["ledger", "create", book, target, "--epsilon", "3", "--lift", "1000000"]
    kept = ["--secret", secret, "--new-secret", "--ledger", book]
    yield ["release", target, "--kind", "embeddings", *kept, "--unlimited", "--out", out]
    yield ["receive", out, *(["--cohort", target, "--split", "heldout"] if labels else [])]
    yield ["lab", target]


def walked(command: list[str], store: Path) -> dict[str, Any]:
    """One command: exit code, seconds, the processor's, and the last line it said where it was refused."""
    used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "linkage_core", *command, "--store", str(store), "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime
    row = {
        "command": " ".join(part for part in command if not part.startswith(("--image", "--text", "--records", "/")))
    }
    row |= {"code": done.returncode, "seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(cpu, 1)}
    return row | ({"said": done.stderr.strip().splitlines()[0]} if done.returncode else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        store, films = root / "store", root / "films"
        plan = [
            (["import", f"{name}/m", *arrays(root / name, asked.studies, labels=labels)], f"{name}/m", labels)
            for name, labels in (("labelled", True), ("bare", False))
        ]
        export = ["phantom", "export", str(films), "--studies", str(asked.studies), "--size", "128", "--quiet"]
        subprocess.run([sys.executable, "-m", "linkage_core", *export], cwd=ROOT, check=True)
        table = pd.read_csv(films / "manifest.csv")
        table.drop(columns=[*LABELS]).to_csv(films / "manifest.csv", index=False)
        embed = ["embed", "folder", str(films), "--model", "phantom-radiology", "--labels", "from-text"]
        plan.append((embed, "films/phantom-radiology", True))
        for first, target, labels in plan:
            for command in [first, *steps(target, root, labels=labels)]:
                rows.append({"cohort": target, **walked(command, store)})
                print(rows[-1], flush=True)
    content = {"studies": asked.studies, "rows": rows}
    asked.out.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
