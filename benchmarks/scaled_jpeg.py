"""Would JPEG files decoded at 1/2, 1/4 or 1/8 of their size give the same pictures? -> benchmarks/scaled_jpeg.json.

    python benchmarks/scaled_jpeg.py [--data ../shared/data]

Real radiographs, grey JPEG files as they are and all others saved as such at quality 90. Each is brought to the size
that a model wants from the whole picture and from the scaled one, of which exactly the part is taken that the whole one
covers. What is counted are grey levels between the two; "remains" is how many times the shorter side of the scaled
picture is longer than the model's.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image

from linkage_core.encoders.pictures import eight_bit
from linkage_core.encoders.pixels import full_range
from linkage_core.errors import ImageError
from linkage_core.images.read import read_radiograph

BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
MODELS = {  # side, filter, whether both edges are brought to it, whether values are stretched first
    "CLIP and BiomedCLIP, 224 bicubic": (224, BICUBIC, False, False),
    "BioViL-T, 512 bilinear": (512, BILINEAR, False, True),
    "SigLIP, 448 bicubic": (448, BICUBIC, True, False),
    "SigLIP, 448 bilinear": (448, BILINEAR, True, False),
}
SCALES = (2, 4, 8)
REMAINS = (1, 2, 3, 4)


def decoded(data: bytes, scale: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        if scale > 1:
            image.draft("L", (image.width // scale, image.height // scale))
        return np.asarray(image)


def picture(grey: np.ndarray, shape: tuple[int, int], scale: int, model: str) -> np.ndarray:
    side, resample, square, stretch = MODELS[model]
    deep = grey * np.uint16(257)
    grey = full_range(deep)(deep).astype(np.uint8) if stretch else grey
    height, width = shape
    long = int(side * max(shape) / min(shape))
    size = (side, side) if square else (side, long) if width <= height else (long, side)
    whole = (0, 0, width / scale, height / scale)
    return np.asarray(Image.fromarray(grey).resize(size, resample, box=whole)).astype(int)


def files(data: Path) -> list[bytes]:
    found = []
    for path in sorted([*(data / "covid-chestxray/images").iterdir(), *(data / "dicom").iterdir()]):
        try:
            pixels = read_radiograph(path).pixels
        except ImageError:
            continue
        content = path.read_bytes()
        if not content.startswith(b"\xff\xd8\xff") or Image.open(path).mode != "L":
            made = io.BytesIO()
            Image.fromarray(eight_bit(pixels)).save(made, "JPEG", quality=90)
            content = made.getvalue()
        found.append(content)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    apart, seconds = defaultdict(list), dict.fromkeys((1, *SCALES), 0.0)
    for content in files(parser.parse_args().data):
        start = time.process_time()
        whole = decoded(content, 1)
        seconds[1] += time.process_time() - start
        for scale in SCALES:
            start = time.process_time()
            small = decoded(content, scale)
            seconds[scale] += time.process_time() - start
            for model, (side, *_) in MODELS.items():
                remains = max((times for times in REMAINS if min(small.shape) >= times * side), default=None)
                if remains:
                    gap = picture(small, whole.shape, scale, model) - picture(whole, whole.shape, 1, model)
                    apart[model, remains].append((np.abs(gap).max(), np.abs(gap).mean(), (np.abs(gap) > 1).mean()))
    rows = []
    for (model, remains), found in sorted(apart.items()):
        largest, mean, beyond = np.array(found).T
        rows.append(
            {
                "model": model,
                "remains at least": remains,
                "pictures": len(found),
                "within one level": int((largest <= 1).sum()),
                "largest": int(largest.max()),
                "mean": round(float(mean.mean()), 3),
                "share of pixels beyond one level": round(float(beyond.mean()), 4),
            }
        )
        print(rows[-1])
    shares = {f"1/{scale}": round(spent / seconds[1], 2) for scale, spent in seconds.items()}
    print("time of decoding, of the whole:", shares)
    said = {"differences": rows, "time of decoding": shares}
    (Path(__file__).parent / "scaled_jpeg.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
