"""Second moments of a split's features: what a closed-form head needs to know of pairs that do not ship.

Plain sums over pairs, neither clipped nor noised: they are for the synthetic phantom and for one's own machine, and are
no private release.
"""

from __future__ import annotations

import numpy as np

from linkage_core.cohorts.base import LABELS
from linkage_core.errors import InputError
from linkage_core.store import Entry, write_manifest, write_tensors, writing


def moments(images: np.ndarray, texts: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Sums over n aligned pairs, float64.

    images (n, d), texts (n, t), labels (n, 14) with NaN missing. Returns n; image_sum (d,), text_sum (t,);
    image_image (d, d), text_text (t, t), image_text (d, t); and for each label over the pairs where it is positive (1)
    and negative (0): label_n (2, 14), image_label (2, d, 14), text_label (2, t, 14).
    """
    if not len(images) == len(texts) == len(labels):
        raise InputError(
            f"There are {len(images)} images, {len(texts)} texts and {len(labels)} rows of labels.", "Give pairs."
        )
    x, y = images.astype(np.float64), texts.astype(np.float64)
    states = np.stack([labels == 1, labels == 0]).astype(np.float64)
    return {
        "n": np.array(len(x), dtype=np.float64),
        "image_sum": x.sum(axis=0),
        "text_sum": y.sum(axis=0),
        "image_image": x.T @ x,
        "text_text": y.T @ y,
        "image_text": x.T @ y,
        "label_n": states.sum(axis=1),
        "image_label": np.einsum("nd,snl->sdl", x, states),
        "text_label": np.einsum("nd,snl->sdl", y, states),
    }


def of_entry(entry: Entry, split: str = "all") -> dict[str, np.ndarray]:
    """Moments of one split of an entry; one pair an image."""
    records = entry.records(split)
    texts = entry.features("text", records["report_key"])
    return moments(entry.features("image", records["record_id"]), texts, records[list(LABELS)].to_numpy(float))


def keep(entry: Entry, name: str, values: dict[str, np.ndarray], source: Entry) -> None:
    """Write moments of `source` into an entry of the same model, as `moments-<name>.safetensors` in its manifest.

    Raises InputError if the two were made by other weights.
    """
    weights = [one.manifest["model"].get("weights_sha256") for one in (entry, source)]
    if weights[0] != weights[1]:
        raise InputError(
            f"{source.cohort}/{source.model} was embedded with other weights than {entry.cohort}/{entry.model}.",
            "Embed both with the same model.",
        )
    note = {
        "cohort": source.cohort,
        "fingerprint": source.manifest["cohort"]["fingerprint"],
        "weights_sha256": weights[0],
    }
    relative = f"moments-{name}.safetensors"
    content = {key: value for key, value in entry.manifest.items() if key not in ("schema", "versions", "files")}
    with writing(entry.path):
        write_tensors(entry.path / relative, values, note)
        write_manifest(entry.path, {**content, "keep": {*entry.manifest["files"], relative}})
