"""Every model family beside its own code: largest differences by tower -> benchmarks/parity.json.

Run by `make parity` 's environment: `.venv/parity/bin/python benchmarks/parity.py`. BiomedCLIP and CXR-BERT are made at
their real size here (in the tests they are small); their weights are random, in the official layout.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "parity"), str(ROOT / "tests"), str(ROOT)]

from operators import define_missing_operators  # noqa: E402

define_missing_operators()

import torch  # noqa: E402
import transformers  # noqa: E402
from compare import GREY_LEVELS, TOLERANCE, differences, ids_that_differ, load  # noqa: E402
from official import (  # noqa: E402
    FAMILIES,
    SPECIAL_TEXTS,
    Official,
    biomedclip,
    biovil,
    real_images,
    real_reports,
)

PACKAGES = ("torch", "transformers", "torchvision", "timm", "open_clip_torch", "hi-ml-multimodal", "sentencepiece")
CODE = {
    "clip": "transformers",
    "sigl": "transformers",
    "biom": "open_clip, timm",
    "biov": "hi-ml-multimodal",
    "open": "open_clip",
}


def main() -> None:
    """Make each checkpoint, compare, write the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=24)
    arguments.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "parity.json")
    chosen = arguments.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(2)
    families: dict[str, Callable[[Path], Official]] = {
        **FAMILIES,
        "biomedclip": lambda folder: biomedclip(folder, full=True),
        "biovil-t": lambda folder: biovil(folder, full=True),
    }
    images, reports = real_images(chosen.images), real_reports(5000)
    texts = [*SPECIAL_TEXTS, *reports[:40]]
    rows = [row for name, make in families.items() for row in compare(name, make, images, texts, reports)]
    found = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, CPU, float32",
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "weights": "random, in the official layout; biomedclip and biovil-t at their real size",
        "images": f"{len(images)} radiographs of shared/data/covid-chestxray, read from their files by each side",
        "texts": f"{len(SPECIAL_TEXTS)} awkward ones and {len(texts) - len(SPECIAL_TEXTS)} Open-i reports",
        "token_ids": f"texts of {len(reports) + len(SPECIAL_TEXTS)} whose ids differ",
        "unit": "largest difference, as a share of the largest value where that is above 1; pixels in levels of 255",
        "allowed": {"features": TOLERANCE, "embeddings": TOLERANCE, "pixels": GREY_LEVELS, "token_ids": 0},
        "rows": rows,
    }
    chosen.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def compare(
    name: str, make: Callable[[Path], Official], images: list[Path], texts: list[str], reports: list[str]
) -> list[dict[str, Any]]:
    """Two rows, image and text, of one family."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        official = make(Path(folder) / "model")
        encoder = load(name, official)
        found = differences(official, encoder, images, texts)
        ids = ids_that_differ(official, encoder, [*SPECIAL_TEXTS, *reports])
    if found.complaints():
        raise SystemExit(f"{name}: {found}")
    common = {"model": name, "official": CODE[name[:4]]}
    rows: list[dict[str, Any]] = [
        {
            **common,
            "tower": "image",
            "features": found.image_features,
            "embeddings": found.image_embeddings,
            "pixels": found.grey_levels,
        },
        {
            **common,
            "tower": "text",
            "features": found.text_features,
            "embeddings": found.text_embeddings,
            "token_ids": ids,
        },
    ]
    for row in rows:
        print(row)
    print(f"{time.perf_counter() - start:.0f} s", flush=True)
    return rows


if __name__ == "__main__":
    main()
