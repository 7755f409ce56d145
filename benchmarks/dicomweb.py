"""The phantom in a real archive (Orthanc), fetched by DICOMweb, beside the same files on disk.

    python benchmarks/dicomweb.py [--only same|speed|ndjson] [--studies 500] [--kills 20]

`same`: studies go in by STOW-RS and come back once from their folder and once from the archive; fingerprints and
features are compared. Then a run from the archive, in shards of 16, is killed (SIGKILL) again and again, and goes on.
`speed`: large files from disk and from the archive (no rate), which shares the cores; `check` is reading and decoding
alone, `embed` also encodes. `ndjson`: a million lines of FHIR are read and joined. Writes benchmarks/dicomweb.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from helpers import archive as archives  # noqa: E402
from linkage_core.cohorts.files import check_images  # noqa: E402
from linkage_core.cohorts.phantom import hospital  # noqa: E402
from linkage_core.cohorts.phantom.cohort import image_of  # noqa: E402
from linkage_core.cohorts.phantom.export import dicom_file  # noqa: E402
from linkage_core.cohorts.phantom.population import SEED, studies_of_split  # noqa: E402
from linkage_core.cohorts.registry import open_cohort  # noqa: E402
from linkage_core.embed.embedding import embed  # noqa: E402
from linkage_core.encoders.registry import load_encoder  # noqa: E402
from linkage_core.images.pixels import Radiograph  # noqa: E402
from linkage_core.store.entry import Entry, Store  # noqa: E402

MODEL, RATE = "phantom-general", 1e6
RUN = """
import sys
from linkage_core.embed import embedding
from linkage_core.cli import main
embedding.SHARD_ROWS = 16
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


def embedded(kind: str, root: Any, store: Path, **options: Any) -> Entry:
    """A cohort, read and embedded."""
    cohort = open_cohort(kind, root, **options)
    return embed(cohort, load_encoder(MODEL, store_root=store), Store(store))


def timed(kind: str, root: Any, store: Path, **options: Any) -> dict[str, float]:
    """Seconds of reading and decoding all images of a cohort, and of embedding it (reading, decoding, encoding)."""
    cohort = open_cohort(kind, root, **options)
    began = time.perf_counter()
    looked = check_images(cohort)
    check = time.perf_counter() - began
    assert len(looked.records) == len(cohort.records)
    encoder = load_encoder(MODEL, store_root=store)
    began = time.perf_counter()
    embed(cohort, encoder, Store(store))
    return {"check": check, "embed": time.perf_counter() - began}


def large(folder: Path, n: int, size: int) -> None:
    """A folder of n images of size x size pixels: one of the phantom, shifted, for drawing as many takes too long."""
    rng = np.random.default_rng(0)
    picture = image_of(next(studies_of_split("A", "heldout", SEED)).record_id("PA"), 512, SEED)
    side = -(-size // 512)
    whole = np.kron(picture.pixels, np.ones((side, side), np.uint16))[:size, :size]
    whole = (whole & 0xFF00) + rng.integers(0, 256, whole.shape, dtype=np.uint16)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(n):
        row = {"record_id": f"L{number}", "study_id": f"L{number}", "patient_id": f"L{number}", "view": "PA", "sex": ""}
        shown = Radiograph(np.roll(whole, 7 * number, axis=1), 16)
        more = {"AccessionNumber": f"L{number}", "BodyPartExamined": "CHEST"}
        (folder / "images" / f"{number}.dcm").write_bytes(dicom_file(shown, row, more=more))
        rows.append({"image": f"images/{number}.dcm", "patient_id": f"L{number}", "report": f"Number {number}."})
    table = pd.DataFrame(rows)
    table.to_csv(folder / "manifest.csv", index=False)
    table.assign(accession_number=table["patient_id"]).to_csv(folder / "reports.csv", index=False)


def speed(scratch: Path, n: int, size: int) -> dict[str, Any]:
    """The same files from disk and from an archive, each twice, in turns: the better time of each."""
    films = scratch / "large"
    large(films, n, size)
    found: dict[str, list[dict[str, float]]] = {"disk": [], "archive": []}
    with archives.archive(scratch / "archive-large") as running:
        running.store(path.read_bytes() for path in sorted((films / "images").iterdir()))
        for turn in range(2):
            store = scratch / f"store-large-{turn}"
            found["disk"].append(timed("folder", films, store))
            given = {"reports": str(films / "reports.csv"), "rate": RATE}
            found["archive"].append(timed("dicomweb", running.url, store, **given))
    best = {side: {stage: min(one[stage] for one in runs) for stage in runs[0]} for side, runs in found.items()}
    ratio = {stage: best["disk"][stage] / best["archive"][stage] for stage in best["disk"]}
    return {"images": n, "pixels": size, "seconds": found, "ratio": ratio, "load": os.getloadavg()[0]}


def killed(url: str, reports: Path, store: Path, kills: int, wanted: np.ndarray) -> dict[str, Any]:
    """Kills at random moments, each after none to three more shards; the run after the last is left alone."""
    draw = random.Random(0)
    command = [sys.executable, "-c", RUN, "embed", "dicomweb", url, "--reports", str(reports), "--model", MODEL]
    command += ["--store", str(store), "--quiet", "--rate", "12"]
    shards: list[int] = []
    path = store / "dicomweb" / MODEL
    done = 0
    while done < kills:
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        before = len(list(path.glob("features-*")))
        end = time.monotonic() + 120
        wanted_now = before + draw.randrange(4)
        listing = path / "found-unfinished.parquet"
        while process.poll() is None and time.monotonic() < end:
            if listing.is_file() and len(list(path.glob("features-*"))) >= wanted_now:
                break
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1))
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


def same(scratch: Path, studies: int, size: int, kills: int, films: Path | None = None) -> dict[str, Any]:
    """The phantom from a folder and from an archive, and again under kills."""
    store = scratch / "store"
    if films is None:
        films = scratch / "films"
        chosen = list(islice(studies_of_split("A", "heldout", SEED), studies))
        hospital.export_hospital(films, chosen, size=size)
    with archives.archive(scratch / "archive") as running:
        running.store(path.read_bytes() for path in sorted((films / "images").iterdir()))
        disk = embedded("folder", films, store)
        far = embedded("dicomweb", running.url, store, reports=str(films / "reports.csv"), rate=RATE)
        wanted = features(disk)
        result = {
            "studies": far.manifest["counts"]["studies"],
            "images": far.manifest["counts"]["images"],
            "pixels": size,
            "fingerprint_from_folder": disk.manifest["cohort"]["fingerprint"],
            "fingerprint_from_archive": far.manifest["cohort"]["fingerprint"],
            "same_features": bool(np.array_equal(wanted, features(far))),
        }
        print(result, flush=True)
        return {**result, "killed": killed(running.url, films / "reports.csv", scratch / "second", kills, wanted)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--large", type=int, default=96)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--films", type=Path, help="an export of `linkage phantom export --layout hospital`")
    parser.add_argument("--only", choices=("same", "speed", "ndjson"))
    options = parser.parse_args()
    os.environ |= {"LINKAGE_DICOMWEB_USER": archives.USER, "LINKAGE_DICOMWEB_PASSWORD": archives.PASSWORD}
    out = Path(__file__).with_suffix(".json")
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    parts = {
        "ndjson": lambda scratch: million(scratch, options.lines),
        "speed": lambda scratch: speed(scratch, options.large, 2048),
        "same": lambda scratch: same(scratch, options.studies, 64, options.kills, options.films),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as scratch:
                result[name] = {**part(Path(scratch)), "cores": os.cpu_count()}
            print(name, result[name], flush=True)
            out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
