"""Mutants of real radiographs, and a run that embeds them all among valid neighbours.

    python tests/hostile.py 2000 SEED      (from the repository root; prints what happened as JSON)

Every mutant carries what may become of it: "reject" (a typed reject), "same" (the image it was made from), "either".
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pandas as pd
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from helpers.pictures import dicom, jpeg, png
from helpers.places import SHARED
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed.embedding import embed
from linkage_core.encoders.registry import load_encoder
from linkage_core.images import processes, read
from linkage_core.store.entry import Store

Mutant = tuple[str, str, bytes | Callable[[Path], None]]
"""(suffix, what may become of it, bytes or what puts the thing at a path)."""


class Real:
    """A few real files, and the real pixels in every other form that is read."""

    def __init__(self, rng: random.Random) -> None:
        pictures = sorted((SHARED / "covid-chestxray" / "images").iterdir(), key=lambda path: path.stat().st_size)
        chosen = rng.sample([path for path in pictures if path.stat().st_size < 500_000], 6)
        self.files = {f"real{i}{path.suffix}": path.read_bytes() for i, path in enumerate(chosen)}
        self.files |= {f"dicom{i}.dcm": p.read_bytes() for i, p in enumerate(sorted((SHARED / "dicom").glob("*.dcm")))}
        shown = read.decode_radiograph(self.files["dicom0.dcm"], "a").pixels[::4, ::4]
        self.deep = shown // 16  # 12 bit
        self.grey = (shown // 257).astype(np.uint8)
        self.files["deep.dcm"] = self.plain = dicom(self.deep, WindowCenter=2000, WindowWidth=3500)
        for name, syntax in (
            ("implicit", ImplicitVRLittleEndian),
            ("big", ExplicitVRBigEndian),
            ("rle", RLELossless),
            ("j2k", JPEG2000Lossless),
            ("deflated", DeflatedExplicitVRLittleEndian),
        ):
            self.files[f"{name}.dcm"] = dicom(self.deep, syntax=syntax, WindowCenter=2000, WindowWidth=3500)
        for name, syntax in (("lossless", JPEGLosslessSV1), ("ls", JPEGLSLossless)):
            self.files[f"{name}.dcm"] = coded(self.plain, syntax)
        self.files["deep.png"] = png(Image.fromarray(shown))
        self.files["colour.jpg"] = jpeg(Image.fromarray(self.grey).convert("RGB"))

    def any(self, rng: random.Random, suffix: str = "") -> tuple[str, bytes]:
        return rng.choice([item for item in sorted(self.files.items()) if item[0].endswith(suffix)])

    def header(self, **tags: Any) -> bytes:
        """The plain 12-bit file with other tags; None removes one."""
        return dicom(self.deep, **{"WindowCenter": 2000, "WindowWidth": 3500, **tags})


def coded(data: bytes, syntax: UID) -> bytes:
    """A DICOM file with its pixels compressed by GDCM, in a syntax that pydicom cannot write."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        Path(file.name).write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(file.name)
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
        assert reader.Read()
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(file.name)
        assert writer.Write()
        stream = pydicom.dcmread(file.name).PixelData
    dataset = pydicom.dcmread(io.BytesIO(data))  # GDCM writes other tags of its own
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = stream
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset)
    return out.getvalue()


def crashing(data: bytes) -> bytes:
    """A JPEG Lossless file with its second marker damaged: one byte at which GDCM ends the process it runs in."""
    at = data.index(b"\xff\xd8\xff") + 15
    assert data[at] == 0xFF
    return data[:at] + b"\xdf" + data[at + 1 :]


def suffix_of(name: str) -> str:
    return Path(name).suffix


def cut(real: Real, rng: random.Random) -> Mutant:
    name, data = real.any(rng)
    return suffix_of(name), "either", data[: int(len(data) * rng.random())]


def bits_flipped(real: Real, rng: random.Random) -> Mutant:
    name, data = real.any(rng)
    mutant = bytearray(data)
    end = len(mutant) if rng.random() < 0.5 else min(1500, len(mutant))
    for _ in range(rng.choice([1, 3, 30])):
        mutant[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return suffix_of(name), "either", bytes(mutant)


def start_of_stream(real: Real, rng: random.Random) -> Mutant:
    """Bytes altered where a compressed stream says how it is coded."""
    name = rng.choice(["lossless.dcm", "ls.dcm", "j2k.dcm"])
    if name == "lossless.dcm" and rng.random() < 0.2:
        return ".dcm", "reject", crashing(real.files[name])
    mutant = bytearray(real.files[name])
    start = mutant.index(b"\xff\x4f\xff" if name == "j2k.dcm" else b"\xff\xd8\xff")
    for _ in range(rng.choice([1, 3, 10])):
        mutant[start + rng.randrange(80)] ^= 1 << rng.randrange(8)
    return ".dcm", "either", bytes(mutant)


def pieces_moved(real: Real, rng: random.Random) -> Mutant:
    name, data = real.any(rng)
    a, b, c = sorted(rng.randrange(len(data)) for _ in range(3))
    swapped, blanked, doubled = data[:a] + data[b:c] + data[a:b], data[:a] + bytes(b - a), data[:b] + data[a:c]
    return suffix_of(name), "either", rng.choice([swapped, blanked, doubled]) + data[c:]


LIES = [
    {"Rows": 5}, {"Rows": 255}, {"Columns": 257}, {"Rows": 0}, {"BitsStored": 0}, {"BitsStored": 16}, {"BitsStored": 8},
    {"BitsAllocated": 8}, {"BitsAllocated": 32}, {"SamplesPerPixel": 3}, {"SamplesPerPixel": 2},
    {"PixelRepresentation": 1}, {"HighBit": 3}, {"WindowWidth": 0}, {"WindowWidth": -9}, {"WindowCenter": 1e300},
    {"RescaleSlope": 1e300}, {"RescaleSlope": 0},
    {"NumberOfFrames": 0}, {"PhotometricInterpretation": "YBR_FULL"}, {"VOILUTFunction": "ODD"},
    {"PhotometricInterpretation": "MONOCHROME1"}, {"PlanarConfiguration": 7}, {"Rows": None}, {"BitsAllocated": None},
    {"PhotometricInterpretation": None}, {"SamplesPerPixel": None}, {"PixelPaddingValue": 0},
]  # fmt: skip


def lying_header(real: Real, rng: random.Random) -> Mutant:
    return ".dcm", "either", real.header(**rng.choice(LIES))


def absurd_size(real: Real, rng: random.Random) -> Mutant:
    if rng.random() < 0.5:
        tags = rng.choice([{"Rows": 65535, "Columns": 65535}, {"Rows": 30000}, {"Columns": 65535}])
        return ".dcm", "reject", real.header(**tags)
    width, height = rng.choice([(60000, 60000), (2**31 - 1, 2), (30000, 20), (12000, 12000)])
    return ".png", "reject", claimed_png(width, height)


def claimed_png(width: int, height: int) -> bytes:
    small = png(Image.new("L", (20, 20)))
    header = small[12:16] + struct.pack(">II", width, height) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


def bomb(real: Real, rng: random.Random) -> Mutant:
    """Small files whose pixels fill the largest size that is read, or claim to."""
    kind = rng.randrange(5)
    if kind == 0:
        out = io.BytesIO()
        Image.new(rng.choice(["L", "RGB", "RGBA"]), (8192, 8191)).save(out, "PNG", compress_level=1)
        return ".png", "reject", out.getvalue()  # constant
    if kind == 1:
        out = io.BytesIO()
        Image.new("RGB", (8000, 8000)).save(out, "JPEG", progressive=rng.random() < 0.5)
        return ".jpg", "reject", out.getvalue()
    if kind == 2:
        data = real.files["deflated.dcm"]
        start = 144 + int.from_bytes(data[140:144], "little")
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = b"".join(squeeze.compress(bytes(1 << 24)) for _ in range(40)) + squeeze.flush()
        return ".dcm", "reject", data[:start] + body
    if kind == 3:
        tags = {"Rows": 8191, "Columns": 8192}
        return (
            ".dcm",
            "reject",
            real.files["rle.dcm"].replace(struct.pack("<H", real.deep.shape[0]), struct.pack("<H", tags["Rows"])),
        )
    text = zlib.compress(bytes(1 << 26))
    chunk = b"zTXt" + b"k\0\0" + text
    data = png(Image.fromarray(real.grey))
    extra = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return ".png", "either", data[:33] + extra + data[33:]


def colour(real: Real, rng: random.Random) -> Mutant:
    rgb = np.stack([real.grey, real.grey // 2, 255 - real.grey], axis=-1)
    return ".dcm", "reject", dicom(rgb, bits=8, photometric="RGB")


def multi_frame(real: Real, rng: random.Random) -> Mutant:
    if rng.random() < 0.5:
        return ".dcm", "reject", real.header(NumberOfFrames=rng.choice([2, 30, 100000]))
    frame = Image.fromarray(real.grey)
    return ".png", "reject", png(frame, save_all=True, append_images=[frame.rotate(90)])


def constant(real: Real, rng: random.Random) -> Mutant:
    value = rng.randrange(256)
    flat = np.full((300, 260), value, np.uint8)
    return rng.choice(
        [
            (".png", "reject", png(Image.fromarray(flat))),
            (".jpg", "reject", jpeg(Image.fromarray(flat))),
            (".dcm", "reject", dicom(flat.astype(np.uint16))),
            (".dcm", "reject", real.header(WindowCenter=60000, WindowWidth=2)),
        ]
    )


def empty(real: Real, rng: random.Random) -> Mutant:
    starts = [b"", b"\0" * 4000, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0" * 128 + b"DICM", rng.randbytes(3000)]
    return rng.choice([".png", ".jpg", ".dcm"]), "reject", rng.choice(starts)


def wrong_suffix(real: Real, rng: random.Random) -> Mutant:
    return rng.choice([".jpg", ".png"]), "same", real.plain


def no_pixel_data(real: Real, rng: random.Random) -> Mutant:
    return ".dcm", "reject", real.header(PixelData=rng.choice([None, b"", b"\0" * 100]))


SYNTAXES = [b"1.2.840.10008.1.2.4.92", b"1.2.840.10008.1.2.4.5", b"1.2.840.10008.9.2.4.90", b"1.2.3"]


def unsupported_syntax(real: Real, rng: random.Random) -> Mutant:
    syntax = rng.choice(SYNTAXES).ljust(22, b"\0")
    return ".dcm", "reject", real.files["j2k.dcm"].replace(b"1.2.840.10008.1.2.4.90", syntax, 1)


def wrong_stream(real: Real, rng: random.Random) -> Mutant:
    """A compressed syntax around what is something else."""
    inside = rng.choice(
        [rng.randbytes(5000), real.files["colour.jpg"], real.files["deep.png"], b"\xff\xd8\xff\xd9", b""]
    )
    dataset = pydicom.dcmread(io.BytesIO(real.files[rng.choice(["j2k.dcm", "rle.dcm"])]))
    dataset.PixelData = encapsulate([inside]) if inside else b"\xfe\xff\x00\xe0\0\0\0\0"
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset)
    return ".dcm", "reject", out.getvalue()


def nested(real: Real, rng: random.Random) -> Mutant:
    item = Dataset()
    for _ in range(rng.choice([1, 20, 150])):
        outer = Dataset()
        outer.ReferencedStudySequence = Sequence([item])
        item = outer
    return ".dcm", "same", real.header(ReferencedStudySequence=Sequence([item]))


def endless_nesting(real: Real, rng: random.Random) -> Mutant:
    """Sequences of unknown length opened thousands of times and never closed."""
    start = real.plain.index(b"\x28\x00\x02\x00US")  # the image's own tags
    opened = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return ".dcm", "reject", real.plain[:start] + opened * rng.choice([500, 20000]) + real.plain[start:]


def wrong_vr(real: Real, rng: random.Random) -> Mutant:
    at = [i for i in range(300, len(real.plain) - 8) if real.plain[i : i + 2] in (b"US", b"CS", b"DS", b"UI")][:12]
    place = rng.choice(at)
    return (
        ".dcm",
        "either",
        real.plain[:place] + rng.choice([b"SQ", b"OB", b"UN", b"??", b"FD"]) + real.plain[place + 2 :],
    )


def deflated(real: Real, rng: random.Random) -> Mutant:
    data = real.files["deflated.dcm"]
    if rng.random() < 0.4:
        return ".dcm", "same", data
    return ".dcm", "either", data[: rng.randrange(200, len(data))] + rng.randbytes(20)


def link_or_folder(real: Real, rng: random.Random) -> Mutant:
    kind = rng.randrange(6)
    if kind == 0:
        return ".png", "reject", lambda path: path.mkdir()
    if kind == 1:
        return ".dcm", "same", lambda path: path.symlink_to("deep.dcm")
    targets = ["/etc/hostname", "nowhere", "../../../../../dev/zero"]
    if kind < 5:
        return ".png", "reject", lambda path: path.symlink_to(targets[kind - 2])
    return ".png", "reject", lambda path: os.mkfifo(path)


def unreadable_size(real: Real, rng: random.Random) -> Mutant:
    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.write(real.plain[:132])
            file.truncate(1 << 33)

    return ".dcm", "reject", sparse


KINDS = [
    cut, bits_flipped, start_of_stream, pieces_moved, lying_header, absurd_size, bomb, colour, multi_frame, constant,
    empty, wrong_suffix, no_pixel_data, unsupported_syntax, wrong_stream, nested, endless_nesting, wrong_vr, deflated,
    link_or_folder, unreadable_size,
]  # fmt: skip
WEIGHTS = {
    "cut": 5,
    "bits_flipped": 8,
    "start_of_stream": 3,
    "pieces_moved": 4,
    "lying_header": 2,
    "bomb": 0.5,
    "unreadable_size": 0.3,
}


def cpu_seconds(process: int) -> float:
    """What a process has computed so far, in user and system mode; of one that has ended 0."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def campaign(mutants: int, seed: int, folder: Path) -> dict[str, Any]:
    """Write the mutants and their neighbours, embed the folder, and say what became of each."""
    rng = random.Random(seed)
    real = Real(rng)
    images = folder / "cohort"
    images.mkdir(parents=True)
    rows: list[dict[str, str]] = []
    kinds: dict[str, tuple[str, str]] = {}

    def add(name: str, record_id: str) -> None:
        rows.append(
            {"image": name, "record_id": record_id, "patient_id": f"p{len(rows)}", "report": f"Report {len(rows)}."}
        )

    for name, data in real.files.items():
        (images / name).write_bytes(data)
        add(name, name)
    chosen = [*KINDS, *rng.choices(KINDS, [WEIGHTS.get(kind.__name__, 1) for kind in KINDS], k=mutants)][:mutants]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, kind in enumerate(chosen):
            suffix, outcome, made = kind(real, rng)
            name = f"m{number:05d}{suffix}"
            made(images / name) if callable(made) else (images / name).write_bytes(made)
            kinds[name] = (kind.__name__, outcome)
            add(name, name)
            if number % 25 == 0:  # valid neighbours all along
                neighbour = f"n{number:05d}.dcm"
                (images / neighbour).write_bytes(real.plain)
                add(neighbour, neighbour)
    pd.DataFrame(rows).to_csv(images / "manifest.csv", index=False)
    seconds: list[tuple[float, str]] = []
    computing: list[float] = []
    ask = processes._Process.ask

    def timed(self: processes._Process, row: dict[str, Any], limit: float) -> processes.Reading | None:
        began, computed = time.monotonic(), cpu_seconds(self._process.pid)
        try:
            return ask(self, row, limit)
        finally:
            seconds.append((time.monotonic() - began, str(row["image"])))
            computing.append(cpu_seconds(self._process.pid) - computed)

    processes._Process.ask = timed  # type: ignore[method-assign]
    store = Store(folder / "store")
    entry = embed(
        open_cohort("folder", images), load_encoder("phantom-general", store_root=store.root), store, workers=2
    )
    records, rejects = entry.records()["record_id"], entry.rejects()
    reasons = dict(zip(rejects["item"], rejects["reason"], strict=True))
    known = {name: name for name in records} | {item: item for item in reasons}
    tried = {kind.__name__: Counter() for kind in KINDS}
    wrong: list[str] = []
    original = entry.features("image", ["deep.dcm"])[0]
    for name, (kind, outcome) in kinds.items():
        item = next((known[key] for key in (name, f"row {name}") if key in known), None)
        item = item or next((key for key in reasons if name in key), None)
        became = "lost" if item is None else "rejected" if item in reasons else "read"
        tried[kind][became] += 1
        if became == "lost" or (outcome, became) in (("reject", "read"), ("same", "rejected")):
            wrong.append(f"{kind} {name}: {became}, {reasons.get(item or '', '')}")
        elif outcome == "same" and np.abs(entry.features("image", [name])[0] - original).max() > 1e-4:
            wrong.append(f"{kind} {name}: another image")
    valid = {row["record_id"] for row in rows} - set(kinds)
    missing = sorted(valid - set(records))
    total = sum(tried.values(), Counter())
    worst = sorted(seconds, reverse=True)[:3]
    return {
        "mutants": len(kinds),
        "rejected by name": total["rejected"],
        "read": total["read"],
        "lost": total["lost"],
        "not as expected": wrong,
        "valid neighbours": len(valid),
        "valid neighbours lost": missing,
        "worst seconds": round(worst[0][0], 2),
        "worst seconds of computing": round(max(computing), 2),
        "slowest": [(round(took, 2), kinds.get(name, (name,))[0]) for took, name in worst],
        "peak memory of a reading process, MiB": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "peak memory of the run, MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load average": round(os.getloadavg()[0], 1),
        "reasons": dict(Counter(reasons.values()).most_common()),
        "kinds": {kind: dict(outcomes) for kind, outcomes in tried.items()},
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(campaign(int(sys.argv[1]), int(sys.argv[2]), Path(scratch)), indent=1))
