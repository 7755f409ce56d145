"""Files made to hurt: each a typed reject or a right image, and every valid neighbour embedded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom.uid import JPEGLosslessSV1

from helpers.pictures import dicom
from helpers.places import ROOT, SHARED
from hostile import coded, crashing

EVERYWHERE = """
import json, sys
from pathlib import Path
from explorer.examples import gallery
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed.embedding import embed
from linkage_core.encoders.registry import load_encoder
from linkage_core.store.entry import Store

root = Path(sys.argv[1])
checked = open_cohort("folder", root, check_images=True).rejects
entry = embed(open_cohort("folder", root), load_encoder("phantom-general", store_root=root), Store(root / "store"))
note = json.dumps({"name": "c", "kind": "folder", "root": str(root), "options": {}})
shown = [gallery._picture(note, {"record_id": name, "image": name}) is not None for name in ("bad.dcm", "good.dcm")]
print(json.dumps([list(checked["reason"]), list(entry.rejects()["reason"]), len(entry.records()), shown]))
"""


@pytest.mark.parametrize("mutants", [150, pytest.param(2400, marks=pytest.mark.soak)])
def test_no_file_stops_a_run(mutants: int) -> None:
    if not (SHARED / "dicom").is_dir():
        pytest.skip(f"no real radiographs at {SHARED}")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, str(ROOT / "tests" / "hostile.py"), str(mutants), "3"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    if mutants > 1000:
        (ROOT / "benchmarks" / "hostile.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    assert said["mutants"] == mutants
    assert said["lost"] == 0
    assert said["valid neighbours lost"] == []
    assert said["not as expected"] == []
    assert said["peak memory of a reading process, MiB"] < 1024
    assert said["worst seconds of computing"] < 10  # the wall clock of a shared machine says little


def test_a_file_that_crashes_its_decoder_is_a_reject_wherever_it_is_read(tmp_path: Path) -> None:
    plain = dicom(np.random.default_rng(0).integers(0, 4096, (40, 48)).astype(np.uint16))
    good = coded(plain, JPEGLosslessSV1)
    for name, data in (("good.dcm", good), ("bad.dcm", crashing(good))):
        (tmp_path / name).write_bytes(data)
    table = {"image": ["good.dcm", "bad.dcm"], "patient_id": ["a", "b"], "report": ["One.", "Two."]}
    pd.DataFrame(table).to_csv(tmp_path / "manifest.csv", index=False)
    command = [sys.executable, "-c", EVERYWHERE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [["decoder-stopped"], ["decoder-stopped"], 1, [False, True]]
