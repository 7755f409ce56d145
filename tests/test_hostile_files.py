"""Files made to hurt: each a typed reject or a right image, and every valid neighbour embedded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mutants", [150, pytest.param(2400, marks=pytest.mark.soak)])
def test_no_file_stops_a_run(mutants: int) -> None:
    if not (ROOT / "../shared/data/dicom").is_dir():
        pytest.skip("no real radiographs at ../shared/data")
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
