"""Images a second of an embedding run beside its parts: the encoder alone on ready tensors, the readers alone.

    python benchmarks/embed_throughput.py [--seconds 330]

Towers of the real sizes with random weights (what they compute costs the same), files of 2500 x 2048 pixels. Rates are
of a steady run: from the first batch, which is computed alone, to the last, of 8 images each so that few images have
many batches; as many for each core, or one would compute the last while the others have nothing left. Encoder and
readers share the cores of one machine, so no run can be faster than 1 / (1 / encoder + 1 / readers): `possible` is
that, and `limited by` the stage that asks for more time.
Writes benchmarks/embed_throughput.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from linkage_core.cohorts.base import Cohort
from linkage_core.cohorts.phantom.export import dicom_file
from linkage_core.cohorts.phantom.render import radiograph
from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed import pipeline
from linkage_core.embed.embedding import embed
from linkage_core.encoders import pictures, pixels
from linkage_core.encoders.biovil import BioVilImage
from linkage_core.encoders.registry import load_encoder
from linkage_core.encoders.threads import as_before, one_thread
from linkage_core.heads import Heads, identity
from linkage_core.images.pixels import Radiograph
from linkage_core.images.processes import Readers, default_workers
from linkage_core.store.entry import Store

SHAPE = (2500, 2048)
BATCH = 8
Picture = Callable[[np.ndarray], np.ndarray]


class Random:
    """An image tower of a real size with random weights, and no text tower to speak of."""

    def __init__(self, name: str, tower: torch.nn.Module, picture: Picture, width: int) -> None:
        self.name, self.picture, self._tower, self._width = name, picture, tower.eval(), width

    def image_features_of(self, ready: np.ndarray) -> np.ndarray:
        return self.run(torch.from_numpy(ready))

    def picture_features(self, grey: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.run(torch.from_numpy(pixels.scaled(grey, (0.5,) * 3, (0.25,) * 3)))

    def run(self, tensor: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            made = self._tower(tensor)
        return (made if isinstance(made, torch.Tensor) else made.pooler_output).numpy()

    def replicas(self) -> list[Random]:
        return []

    def image_features(self, images: list[Any]) -> np.ndarray:
        return self.picture_features(np.stack([self.picture(image.pixels) for image in images]))

    def text_features(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), self._width), np.float32)

    def truncated(self, texts: list[str]) -> int:
        return 0

    def heads(self) -> Heads:
        return Heads(identity(self._width), identity(self._width))

    def describe(self) -> dict[str, Any]:
        return {"family": "random", "device": "cpu", "preprocessing": {}, "text_limit": 1}


def vit(patch: int) -> Random:
    square = partial(pictures.resized, shortest=224, crop=(224, 224))
    return Random(f"clip-vit-b-{patch}", CLIPVisionModel(CLIPVisionConfig(patch_size=patch, **VIT_B)), square, 768)


VIT_B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}


def models() -> dict[str, tuple[Any, tuple[int, ...], int]]:
    """Encoders, the shape of one ready input, and how many batches a core a run has after its first."""
    torch.manual_seed(0)
    stretched = partial(pixels.fitted, side=512, crop=448, resample=2, stretch=True)
    return {
        "phantom-radiology": (load_encoder("phantom-radiology", store_root=Path("cached_embeddings")), (64, 64), 8),
        "CLIP ViT-B/32 shape": (vit(32), (3, 224, 224), 5),
        "CLIP ViT-B/16 and BiomedCLIP shape": (vit(16), (3, 224, 224), 3),
        "BioViL-T shape": (Random("biovil-t", BioVilImage(), stretched, 128), (3, 448, 448), 3),
    }


def write_cohorts(folder: Path, distinct: int = 4) -> dict[str, Path]:
    """The same pictures as 16-bit DICOM, JPEG and PNG; each is drawn small, enlarged, and made noisy."""
    from linkage_core.cohorts.phantom import population
    from linkage_core.cohorts.phantom.cohort import scene_of

    rng = np.random.default_rng(0)
    studies = population.studies_of_split("A", "heldout", population.SEED)
    kinds = {"DICOM 16 bit": "dcm", "JPEG": "jpg", "PNG": "png"}
    places = {kind: folder / ending for kind, ending in kinds.items()}
    for place in places.values():
        place.mkdir(parents=True)
    for number in range(distinct):
        study = next(studies)
        drawn = radiograph(scene_of(study.record_id(study.views[0])), 384).pixels / 16
        large = np.asarray(Image.fromarray(drawn.astype(np.float32)).resize(SHAPE[::-1], Image.Resampling.BICUBIC))
        deep = np.clip(large + rng.normal(0, 24, SHAPE), 0, 4095).astype(np.uint16)
        grey = Image.fromarray((deep >> 4).astype(np.uint8))
        row = {"record_id": f"d{number}", "patient_id": "p", "study_id": "s", "view": "PA", "sex": "F", "age": 50.0}
        data = dicom_file(Radiograph(deep * np.uint16(16), 12), row)
        (places["DICOM 16 bit"] / f"{number}.dcm").write_bytes(data)
        grey.save(places["JPEG"] / f"{number}.jpg", quality=90)
        grey.save(places["PNG"] / f"{number}.png")
    return places


def cohort(place: Path, n: int) -> Cohort:
    """n rows over the few files of a folder, under other names, all with one report."""
    found = sorted(path for path in place.iterdir() if path.stem.isdigit())
    ids = [f"r{i}" for i in range(n)]
    images = [f"{name}{found[0].suffix}" for name in ids]
    for i, image in enumerate(images):
        if not (place / image).exists():
            os.link(found[i % len(found)], place / image)
    rows = {"image": images, "record_id": ids, "patient_id": ids, "report": "x"}
    pd.DataFrame(rows).to_csv(place / "manifest.csv", index=False)
    return open_cohort("folder", place)


def rate_alone(encoder: Any, shape: tuple[int, ...], n: int, cores: int) -> float:
    """Images a second on ready tensors, one batch a core side by side: as a run computes them."""
    ready = np.random.default_rng(0).standard_normal((BATCH, *shape)).astype(np.float32)
    run = encoder.image_features_of
    batches = cores * max(2, n // BATCH // 2 // cores)
    with ThreadPoolExecutor(cores, initializer=one_thread) as lanes:
        list(lanes.map(run, [ready] * cores))
        began = time.perf_counter()
        list(lanes.map(run, [ready] * batches))
        taken = time.perf_counter() - began
    as_before(cores)
    return batches * BATCH / taken


def rate_readers(source: Cohort, encoder: Any, n: int) -> float:
    """Images a second that the reading processes make ready."""
    rows = source.records.head(n).to_dict("records")
    with Readers(source.read_image, encoder.picture, default_workers()) as readers:
        stream = readers.read(rows, 8)
        for _ in range(4):
            next(stream)
        began = time.perf_counter()
        rest = sum(1 for _ in stream)
        return rest / (time.perf_counter() - began)


def rate_embed(source: Cohort, encoder: Any, folder: Path) -> float:
    """Images a second of a whole run between its first batch and its last."""
    stamps: list[tuple[float, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "images" and done:
            stamps.append((time.perf_counter(), done))

    embed(source, encoder, Store(folder), progress=progress, workers=default_workers())
    (first, least), (last, most) = stamps[0], stamps[-1]
    return (most - least) / (last - first)


def peak(place: Path, n: int) -> dict[str, int]:
    """Peak memory of a run over n images in a process of its own, and of its largest reading process, in MiB."""
    command = [sys.executable, __file__, "--memory-of", str(place), "--images", str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, int] = json.loads(done.stdout)
    return said


def memory_of(place: Path, n: int) -> None:
    encoder = load_encoder("phantom-radiology", store_root=Path("cached_embeddings"))
    with tempfile.TemporaryDirectory() as store:
        embed(cohort(place, n), encoder, Store(Path(store)))
    used = {name: resource.getrusage(who).ru_maxrss // 1024 for name, who in (("run", 0), ("reader", -1))}
    print(json.dumps(used))


def measured(source: Cohort, encoder: Any, shape: tuple[int, ...], store: Path) -> dict[str, Any]:
    """One row: a run between two measurements of the encoder alone, for the machine may be shared; then the readers."""
    cores, n = torch.get_num_threads(), len(source.records)
    before = rate_alone(encoder, shape, n, cores)
    run = rate_embed(source, encoder, store)
    alone = (before + rate_alone(encoder, shape, n, cores)) / 2
    read = rate_readers(source, encoder, min(32, n))
    possible = 1 / (1 / alone + 1 / read)
    return {
        "embed, images/s": round(run, 2),
        "encoder alone, images/s": round(alone, 2),
        "readers alone, images/s": round(read, 2),
        "of the encoder alone": round(run / alone, 3),
        "of the possible": round(run / possible, 3),
        "possible of the encoder alone": round(possible / alone, 3),
        "limited by": "encoder" if alone < read else "reading",
        "load average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=330.0, help="no row is begun after so long")
    parser.add_argument("--memory-of", type=Path)
    parser.add_argument("--images", type=int)
    options = parser.parse_args()
    if options.memory_of:
        memory_of(options.memory_of, options.images)
        return
    began = time.monotonic()
    pipeline.CPU_BATCH = BATCH
    rows: list[dict[str, Any]] = []
    memory: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        places = write_cohorts(Path(scratch) / "cohorts")
        for name, (encoder, shape, rounds) in models().items():
            n = BATCH * (1 + rounds * torch.get_num_threads())
            for kind, place in places.items():
                row: dict[str, Any] = {"model": name, "file": kind}
                if time.monotonic() - began < options.seconds:
                    row |= measured(cohort(place, n), encoder, shape, Path(scratch) / f"store-{len(rows)}")
                else:
                    row["not measured"] = f"{options.seconds:g} seconds were over"
                rows.append(row)
                print(row, flush=True)
                write(rows, memory)
            if not memory:
                memory = {f"{n} images": peak(places["JPEG"], n) for n in (64, 256)}


def write(rows: list[dict[str, Any]], memory: dict[str, Any]) -> None:
    machine = {"cores": torch.get_num_threads(), "readers": default_workers(), "pixels": list(SHAPE), "batch": BATCH}
    result = {"machine": machine, "rows": rows, "peak memory, MiB": memory}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
