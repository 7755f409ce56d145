"""The phantom in a real archive (Orthanc), fetched by DICOMweb, beside the same files on disk.

    python benchmarks/dicomweb.py [--studies 500] [--size 512] [--kills 20]

Sends the studies by STOW-RS, embeds them once from the folder and once from the archive (no rate), and compares
fingerprints and features. `check` is reading and decoding alone, `embed` reading and encoding; both sides use all cores
of one machine, which Orthanc shares. Then a run from the archive, in shards of 32, is killed (SIGKILL) again and again
and gone on with. Last, a million NDJSON lines of reports are read and joined. Writes benchmarks/dicomweb.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import archive as archives  # noqa: E402
from linkage_core.cli import main as cli  # noqa: E402
from linkage_core.cohorts.files import check_images  # noqa: E402
from linkage_core.cohorts.phantom import hospital  # noqa: E402
from linkage_core.cohorts.registry import open_cohort  # noqa: E402
from linkage_core.embed.embedding import embed  # noqa: E402
from linkage_core.encoders.registry import load_encoder  # noqa: E402
from linkage_core.store.entry import Entry, Store  # noqa: E402

MODEL, RATE = "phantom-general", 1e6
RUN = """
import sys
from linkage_core.embed import embedding
from linkage_core.cli import main
embedding.SHARD_ROWS = 32
main.main(sys.argv[1:])
"""
JOIN = """
import json, resource, sys, time
from pathlib import Path
import pandas as pd
from linkage_core.cohorts.reports.joined import join
from linkage_core.cohorts.reports.read import read_reports
began = time.perf_counter()
source = read_reports(Path(sys.argv[1]))
n = len(source.reports.table)
images = pd.read_parquet(sys.argv[2]).astype("str")
joined = join(images, source.reports)
seconds = time.perf_counter() - began
processor = time.process_time()
source.check(joined.used)
checked = time.perf_counter() - began - seconds
print(json.dumps({"reports": n, "joined": len(joined.used), "rejects": len(joined.rejects), "seconds": seconds,
      "processor_seconds_with_imports": processor,
      "seconds_of_the_check": checked, "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def features(entry: Entry) -> np.ndarray:
    return entry.features("image", sorted(entry.records()["record_id"]))


def timed(kind: str, root: Any, store: Path, **options: Any) -> dict[str, Any]:
    """Seconds of reading and of embedding a cohort, and its entry."""
    cohort = open_cohort(kind, root, **options)
    began = time.perf_counter()
    looked = check_images(cohort)
    check = time.perf_counter() - began
    assert len(looked.records) == len(cohort.records)
    encoder = load_encoder(MODEL, store_root=store)
    began = time.perf_counter()
    entry = embed(cohort, encoder, Store(store))
    return {"check": check, "embed": time.perf_counter() - began, "entry": entry, "images": len(cohort.records)}


def killed(url: str, reports: Path, store: Path, kills: int, wanted: np.ndarray) -> dict[str, Any]:
    """Kills at random moments; the run after the last is left alone."""
    draw = random.Random(0)
    command = [sys.executable, "-c", RUN, "embed", "dicomweb", url, "--reports", str(reports), "--model", MODEL]
    command += ["--store", str(store), "--quiet", "--rate", "60"]
    shards: list[int] = []
    path = store / "dicomweb" / MODEL
    done = 0
    while done < kills:
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        before = len(list(path.glob("features-*")))
        end = time.monotonic() + 120
        listing = path / "found-unfinished.parquet"
        while not listing.is_file() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 6))
        if process.poll() is not None:
            break  # it was done before its turn
        process.kill()
        process.wait()
        done += 1
        after = len(list(path.glob("features-*")))
        assert after >= before, "a shard was lost"
        shards.append(after)
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    entry = Store(store).open("dicomweb", MODEL)
    records = entry.records()["record_id"]
    return {
        "kills": done,
        "shards_after_each": shards,
        "shards": len(list(path.glob("features-*"))),
        "doubled": int(records.duplicated().sum()),
        "lost": len(wanted) - len(records),
        "same_features": bool(np.array_equal(features(entry), wanted)),
        "verify": entry.verify(),
    }


def million(scratch: Path, n: int) -> dict[str, Any]:
    """n lines: half reports, half studies; 1,000 of them have images."""
    folder = scratch / "fhir"
    folder.mkdir()
    report = " ".join(["The lungs are clear and the heart is of normal size."] * 12)
    rows = []
    with (folder / "reports.ndjson").open("w") as reports, (folder / "studies.ndjson").open("w") as studies:
        for number in range(n // 2):
            row = {"patient_id": f"p{number}", "study_id": f"1.2.3.4.{number}", "accession_number": f"A{number}"}
            said, of, *_ = hospital.resources({**row, "report": f"{report} Number {number}."})
            reports.write(json.dumps(said) + "\n")
            studies.write(json.dumps(of) + "\n")
            if number % (n // 2000) == 0:
                rows.append({"record_id": f"r{number}", **row, "accession": ""})
    pd.DataFrame(rows).to_parquet(scratch / "images.parquet")
    said = subprocess.run(
        [sys.executable, "-c", JOIN, str(folder), str(scratch / "images.parquet")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {"lines": n, **json.loads(said)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    os.environ |= {"LINKAGE_DICOMWEB_USER": archives.USER, "LINKAGE_DICOMWEB_PASSWORD": archives.PASSWORD}
    result: dict[str, Any] = {"studies": options.studies, "pixels": options.size, "cores": os.cpu_count()}
    out = Path(__file__).with_suffix(".json")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        result["ndjson"] = million(scratch, options.lines)
        print(result["ndjson"], flush=True)
        films, store = scratch / "films", scratch / "store"
        try:
            arguments = ["--layout", "hospital", "--studies", str(options.studies), "--size", str(options.size)]
            cli.main(["phantom", "export", str(films), *arguments])
        except SystemExit as stopped:
            if stopped.code:
                raise
        with archives.archive(scratch / "archive") as running:
            began = time.perf_counter()
            running.store(path.read_bytes() for path in sorted((films / "images").iterdir()))
            result["stow_seconds"] = time.perf_counter() - began
            disk = timed("folder", films, store)
            began = time.perf_counter()
            options_of = {"reports": str(films / "reports.csv"), "rate": RATE}
            far = timed("dicomweb", running.url, store, **options_of)
            a, b = disk.pop("entry"), far.pop("entry")
            wanted = features(a)
            result |= {
                "images": far["images"],
                "disk": disk,
                "archive": far,
                "ratio": {stage: disk[stage] / far[stage] for stage in ("check", "embed")},
                "fingerprint_from_folder": a.manifest["cohort"]["fingerprint"],
                "fingerprint_from_archive": b.manifest["cohort"]["fingerprint"],
                "same_features": bool(np.array_equal(wanted, features(b))),
            }
            print(result, flush=True)
            result["killed"] = killed(running.url, films / "reports.csv", scratch / "second", options.kills, wanted)
    result["peak_MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(result["killed"])
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
