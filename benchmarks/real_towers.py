"""Trained towers out of packages beside the code they come from, on every report of Open-i and on radiographs.

    PYTHONPATH=. python benchmarks/real_towers.py --out benchmarks/real_towers.json
    PYTHONPATH=.:FOLDER python benchmarks/real_towers.py    # FOLDER has efficientnet_lite_pytorch 0.1.0: the image part

Text: all-MiniLM-L6-v2 by our BERT tower and by transformers' AutoModel with sentence-transformers' mean and norm, on
the 3,955 reports of ../shared/data/openi; the largest difference between two coordinates of unit vectors. Image:
EfficientNet-Lite0 by our module and by the package efficientnet-lite-pytorch, on 10 radiographs of covid-chestxray;
the largest difference between two features, beside the largest feature.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from linkage_core.cohorts.registry import open_cohort
from linkage_core.encoders import packaged
from linkage_core.encoders.registry import load_encoder
from linkage_core.encoders.unpaired import UnpairedEncoder
from linkage_core.heads import unit

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MODEL, BATCH, IMAGES = "efficientnet-lite0-minilm", 32, 10


def reports(archive: Path) -> list[str]:
    """Findings and impression, as they stand, of each file of the archive."""
    texts = []
    with tarfile.open(archive) as files:
        for member in files:
            file = files.extractfile(member) if member.isfile() else None
            if file is not None and member.name.endswith(".xml"):
                root = ElementTree.fromstring(file.read())
                texts.append(" ".join(one.text or "" for one in root.iter("AbstractText")))
    return texts


def of_text(encoder: UnpairedEncoder, texts: list[str]) -> dict[str, Any]:
    folder = packaged.folder_of("minilm")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # of like length: little padding
    largest = seconds = 0.0
    for start in range(0, len(order), BATCH):
        batch = [texts[i] for i in order[start : start + BATCH]]
        begun = time.process_time()
        ours = unit(encoder.text_features(batch))
        seconds += time.process_time() - begun
        tokens = tokenizer(batch, truncation=True, max_length=256, padding=True, return_tensors="pt")
        with torch.inference_mode():
            states, mask = model(**tokens).last_hidden_state, tokens["attention_mask"].unsqueeze(-1)
            theirs = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1)).numpy()
        largest = max(largest, float(np.abs(ours - theirs).max()))
    return {"tower": "minilm", "beside": "transformers", "n": len(texts), "distinct": len(set(texts)),
            "longer_than_the_limit": encoder.truncated(texts), "largest_difference": largest,
            "seconds_of_one_core": round(seconds, 1)}  # fmt: skip


def of_image(encoder: UnpairedEncoder, root: Path) -> dict[str, Any]:
    from efficientnet_lite_pytorch import EfficientNet

    path = packaged.folder_of("efficientnet-lite0") / packaged.PACKAGED["efficientnet-lite0"].weights
    official = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    cohort = open_cohort("covid-chestxray", root)
    largest = greatest = 0.0
    for row in cohort.records.head(IMAGES).to_dict("records"):
        pixels = encoder.prepare([cohort.read_image(row)])
        with torch.inference_mode():
            theirs = official.extract_features(torch.from_numpy(pixels)).mean((2, 3)).numpy()
        ours = encoder.image_features_of(pixels)
        largest, greatest = max(largest, float(np.abs(ours - theirs).max())), max(greatest, float(theirs.max()))
    return {"tower": "efficientnet-lite0", "beside": "efficientnet-lite-pytorch 0.1.0", "n": IMAGES,
            "largest_difference": largest, "largest_feature": round(greatest, 2)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--every", type=int, default=1, help="Only every so manieth report: on a busy machine.")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    encoder = load_encoder(MODEL, store_root=given.data)
    assert isinstance(encoder, UnpairedEncoder)
    rows = []
    if find_spec("efficientnet_lite_pytorch"):
        rows.append(of_image(encoder, given.data / "covid-chestxray"))
    rows.append(of_text(encoder, reports(given.data / "openi" / "NLMCXR_reports.tgz")[:: given.every]))
    files = {name: dict(kept.hashes) for name, kept in packaged.PACKAGED.items()}
    text = json.dumps({"rows": rows, "sha256": files}, indent=1) + "\n"
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
