"""Files made to take all memory or all time: each is one reject or one sentence, wherever in a cohort it lies."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.places import ROOT
from linkage_core import bounded
from linkage_core.cohorts import files, folder, manifest, mimic_cxr, openi, registry
from linkage_core.cohorts.files import LONGEST_REPORT, Present
from linkage_core.cohorts.manifest import read_manifest
from linkage_core.embed.arrays import read_array
from linkage_core.errors import InputError

MEMORY = 3 << 29  # bytes: a quarter of what the attack took, and enough for all that is read
REPORT = b"FINDINGS: Clear."


def deflated(block: bytes, times: int) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(squeeze.compress(block) for _ in range(times)) + squeeze.flush()


def mimic(root: Path, n: int = 1) -> Path:
    """A folder of one patient with n images, and the folder of the study."""
    study = root / "files/p10/p10000000/s50000000"
    study.mkdir(parents=True)
    rows = "".join(f"d{i},10000000,50000000\n" for i in range(n))
    (root / "cxr-record-list.csv").write_text("dicom_id,subject_id,study_id\n" + rows)
    (study.parent / "s50000000.txt").write_bytes(REPORT)
    return study


def element(group: int, number: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    n = len(value) if length is None else length
    return struct.pack("<HH", group, number) + kind + b"\0\0" + struct.pack("<I", n) + value


def dicom_start(syntax: bytes) -> bytes:
    meta = b"\2\0\x10\0UI" + struct.pack("<H", len(syntax)) + syntax
    return b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0" + struct.pack("<I", len(meta)) + meta


DEFLATED, EXPLICIT = b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.1\0"
SEQUENCE = struct.pack("<HH", 8, 0x1140) + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"


def test_headers_are_read_under_the_bounds_of_pixels(tmp_path: Path) -> None:
    """A crash, a recursion, a bomb, a pipe and a good file: a view for the good one, and the run goes on."""
    study = mimic(tmp_path, 5)
    good = dicom_start(EXPLICIT) + b"\x08\0\x20\0DA\x08\0" + b"20010203" + b"\x18\0\x01\x51CS\2\0PA"
    for number, content in enumerate(
        (
            dicom_start(DEFLATED) + bytes(range(1, 200)),
            dicom_start(EXPLICIT) + SEQUENCE * 20_000,
            dicom_start(DEFLATED)
            + deflated(element(9, 0x10, b"OB", b"", 0x7FFFFFFF), 1)
            + deflated(bytes(1 << 20), 1500),
            None,
            good,
        )
    ):
        if content is None:
            os.mkfifo(study / f"d{number}.dcm")
        else:
            (study / f"d{number}.dcm").write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from linkage_core.cohorts import mimic_cxr;"
        "print(list(mimic_cxr.read(Path(sys.argv[1])).records['view']))"
    )
    done = within(code, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "['', '', '', '', 'PA']"


def within(code: str, path: Path, memory: int = MEMORY) -> subprocess.CompletedProcess[str]:
    """A process that holds at most so much data."""
    return subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (memory, memory)),
    )


def test_report_texts_are_not_read_through_links_or_pipes(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("FINDINGS: root:x:0:0")
    study = mimic(tmp_path / "cohort")
    text = study.parent / "s50000000.txt"
    for make in (lambda: text.symlink_to(secret), lambda: os.mkfifo(text), lambda: text.write_bytes(b"A" * (2 << 20))):
        text.unlink()
        make()
        with pytest.raises(InputError, match="has no reports"):
            mimic_cxr.read(tmp_path / "cohort", headers=False)


def test_a_folder_of_reports_may_be_a_link_that_the_user_made(tmp_path: Path) -> None:
    study = mimic(tmp_path / "cohort")
    (study.parent / "s50000000.txt").unlink()
    there = tmp_path / "elsewhere" / "files/p10/p10000000"
    there.mkdir(parents=True)
    (there / "s50000000.txt").write_bytes(REPORT)
    (tmp_path / "cohort" / mimic_cxr.REPORTS).symlink_to(tmp_path / "elsewhere")
    assert list(mimic_cxr.read(tmp_path / "cohort", headers=False).records["report"]) == ["Clear."]


def lying_zip(name: bytes, raw: bytes, says: int, *, method: int = 8, flags: int = 0) -> bytes:
    """One member whose unpacked size is a lie."""
    about = struct.pack("<HHHHHIII", 20, flags, method, 0, 0, 0, len(raw), says)
    local = b"PK\3\4" + about + struct.pack("<HH", len(name), 0) + name + raw
    central = b"PK\1\2" + struct.pack("<H", 20) + about + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, 0) + name
    return local + central + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


@pytest.mark.parametrize("how", ["bomb", "encrypted", "method 99", "cut"])
def test_an_archive_of_reports_that_lies_is_one_sentence(how: str, tmp_path: Path) -> None:
    study = mimic(tmp_path)
    (study.parent / "s50000000.txt").unlink()
    raw = deflated(b"A" * (1 << 20), 60)
    made = {
        "bomb": lying_zip(b"s50000000.txt", raw, 1000),
        "encrypted": lying_zip(b"s50000000.txt", raw, 1000, flags=1),
        "method 99": lying_zip(b"s50000000.txt", raw, 1000, method=99),
        "cut": lying_zip(b"s50000000.txt", raw, 1000)[:-30],
    }[how]
    (tmp_path / f"{mimic_cxr.REPORTS}.zip").write_bytes(made)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="cannot be read"):
        mimic_cxr.read(tmp_path, headers=False)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB; the member has 60 MiB


def labels(root: Path, line: bytes, *, packed: bool = False, **how: int) -> None:
    columns = ["path_to_image", "deid_patient_id", "report", "section_findings", "section_impression"]
    row = ["train/patient1/study1/view1_frontal.jpg", "p", "r", "f", "i"]
    pd.DataFrame([row], columns=columns).to_csv(root / "df_chexpert_plus_240401.csv", index=False)
    if packed:
        (root / "chexbert_labels.zip").write_bytes(lying_zip(b"impression_fixed.json", line, len(line) * 1000, **how))
    else:
        (root / "impression_fixed.json").write_bytes(line)


@pytest.mark.parametrize(
    ("line", "how"),
    [
        (b'{"path_to_image":"x","Edema":' + b"9" * 400 + b"}\n", {}),
        (b"[" * 60_000, {}),
        (b'{"path_to_image":"' + b"x" * 200_000, {}),
        (deflated(b"A" * (1 << 20), 20), {"packed": True}),
        (b"abc", {"packed": True, "flags": 1}),
        (b"abc", {"packed": True, "method": 99}),
        (b"\xff\xff\xff", {"packed": True}),
    ],
)
def test_labels_that_hurt_are_one_sentence(line: bytes, how: dict[str, int], tmp_path: Path) -> None:
    labels(tmp_path, line, **how)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        registry.open_cohort("chexpert-plus", tmp_path)


def test_a_gzipped_table_is_unpacked_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_UNPACKED", 1 << 18)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * (1 << 17)))
    with pytest.raises(InputError, match="bytes unpacked"):
        read_manifest(path)


def test_a_parquet_table_is_as_large_as_it_says_and_no_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"report": ["A" * 4096] * 5_000}).to_parquet(path)  # written once, said often: 20 MB as text
    monkeypatch.setattr(manifest, "MAX_BYTES", 1 << 24)
    with pytest.raises(InputError, match="bytes of text"):
        read_manifest(path)
    pd.DataFrame({"x": np.arange(1 << 17) % 7 + 0.5}).to_parquet(path, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(manifest, "MAX_BYTES", 1 << 18)
    with pytest.raises(InputError, match="bytes unpacked"):
        read_manifest(path)


def test_reports_in_an_archive_and_their_headers_are_read_piece_by_piece(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.xml")
        member.pax_headers = {"comment": "A" * (8 << 20)}
        archive.addfile(member)
    (tmp_path / openi.ARCHIVE).write_bytes(packed.getvalue())
    with pytest.raises(InputError, match="cannot be read"):
        openi.read(tmp_path)


def test_a_pipe_among_the_reports_is_a_reject(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.xml")
    assert list(openi.read(tmp_path).rejects["reason"]) == ["damaged-report"]


def npy(shape: tuple[int, ...]) -> bytes:
    head = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


@pytest.mark.parametrize("packed", [False, True])
def test_an_array_that_says_it_is_endless(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / ("a.npz" if packed else "a.npy")
    if packed:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", npy((10**12, 8)))
    else:
        path.write_bytes(npy((10**12, 8)))
    with pytest.raises(InputError, match="says that it has the shape"):
        read_array(path)


@pytest.mark.parametrize("how", [{"flags": 1}, {"method": 99}, {}])
def test_an_npz_that_cannot_be_unpacked(how: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(lying_zip(b"a.npy", deflated(npy((4, 4)), 1), 192, **how))
    with pytest.raises(InputError, match="cannot be read as an array"):
        read_array(tmp_path / "a.npz")


def test_arrays_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((7, 5)).astype(np.float32)
    for array in (values, np.asfortranarray(values), values.astype(">f8")):
        np.save(tmp_path / "a.npy", array)
        np.savez_compressed(tmp_path / "a.npz", a=array)
        for name in ("a.npy", "a.npz"):
            assert np.array_equal(read_array(tmp_path / name).values, array)


def test_one_long_report_is_one_reject(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    rows = f"image,report,patient_id\na.png,{'A' * (LONGEST_REPORT + 1)},p\nb.png,Clear.,q\n"
    (tmp_path / "manifest.csv").write_text(rows)
    cohort = folder.read(tmp_path)
    assert list(cohort.records["image"]) == ["b.png"]
    assert list(cohort.rejects["reason"]) == ["long-report"]


def test_many_columns_are_compared_with_few_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for a name that was meant is slow: it is done for a table that a person has named, not for 20,000."""
    asked: list[str] = []
    monkeypatch.setattr(manifest, "nearest", lambda name, among: asked.append(name) or "")
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{i}" for i in range(20_000)) + ",image\n" + "1," * 20_000 + "a.png\n")
    table = manifest.read_table(path, ("image",), ("view",), loosely=True)
    assert table.to_dict("list") == {"image": ["a.png"]}
    assert len(asked) <= 200


def test_folders_that_are_missing_are_not_looked_for_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = files.inside
    monkeypatch.setattr(files, "inside", lambda root, image: looked.append(image) or real(root, image))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(b"x")
    present = Present(tmp_path)
    for number in range(1_000):
        found = present.find(f"p{number}/a.png")
        assert found.problem is not None
        assert found.problem.reason == "missing-file"
    assert present.find("there/a.png") == ("there/a.png", None, False)
    assert len(looked) < 10


def test_archives_whose_reports_are_many_are_bounded_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each report is short enough, and all together are a thousand times the archive."""
    monkeypatch.setattr(bounded, "MOST_UNPACKED", 1 << 20)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "files").mkdir()
    studies = range(50_000_000, 50_000_008)
    rows = "".join(f"d{study},10000000,{study}\n" for study in studies)
    (tmp_path / "m" / "cxr-record-list.csv").write_text("dicom_id,subject_id,study_id\n" + rows)
    text = REPORT + b" " * (1 << 18)
    with zipfile.ZipFile(tmp_path / "m" / f"{mimic_cxr.REPORTS}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for study in studies:
            archive.writestr(f"s{study}.txt", text)
    with pytest.raises(InputError, match=r"cannot be read.*more than"):
        mimic_cxr.read(tmp_path / "m", headers=False)
    with tarfile.open(tmp_path / openi.ARCHIVE, mode="w:gz") as reports:
        for study in studies:
            member = tarfile.TarInfo(f"{study}.xml")
            member.size = len(text)
            reports.addfile(member, io.BytesIO(text))
    with pytest.raises(InputError, match="far larger"):
        openi.read(tmp_path)


@pytest.mark.parametrize("row", [b"," * 3_000, b"," * 900 + b'"\n"' + b"," * 900, b"image," + b"," * 200])
def test_a_row_that_is_nothing_but_commas_is_one_sentence(
    row: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 KB of gzip unpack to 60 million columns: minutes, and gigabytes."""
    monkeypatch.setattr(manifest, "_LONGEST_ROW", 1_000)
    monkeypatch.setattr(manifest, "_MOST_COLUMNS", 100)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(row + b"\na.png\n"))
    with pytest.raises(InputError, match="letters" if len(row) > 1_000 else "201|202 columns"):
        manifest.read_table(path, ("image",))
    good = b"image,report\n" + b"a.png,Clear.\n" * 200
    path.write_bytes(gzip.compress(good))
    assert len(manifest.read_table(path, ("image",))) == 200
