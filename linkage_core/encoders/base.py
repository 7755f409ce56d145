"""What every model family offers: frozen features of images and texts, and the heads that turn them into embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from linkage_core.heads import Heads
from linkage_core.images.pixels import Radiograph


class Encoder(Protocol):
    """A frozen pair of towers, cut before its last linear layers.

    `heads().image(image_features(x))` is the model's own image embedding before normalisation, to 1e-5; likewise for
    text. Features are float32 and not normalised.
    """

    name: str  # as the user typed it: "phantom-radiology", "clip", "hf:ORG/NAME"

    def image_features(self, images: list[Radiograph]) -> np.ndarray:
        """(n_images, d_image) float32."""
        ...

    def text_features(self, texts: list[str]) -> np.ndarray:
        """(n_texts, d_text) float32."""
        ...

    def truncated(self, texts: list[str]) -> int:
        """How many of these texts are longer than the text tower takes, and lose their end."""
        ...

    def heads(self) -> Heads:
        """The off-the-shelf heads, as numpy arrays."""
        ...

    def describe(self) -> dict[str, Any]:
        """For the manifest: `family`, `model_id`, `revision`, `weights_sha256`, `preprocessing` (a dict), `device`,
        `compute_dtype` and `text_limit` (tokens). The same before and after a run, so that a run can resume."""
        ...


@runtime_checkable
class Settling(Protocol):
    """An encoder that settles on its first batch what a tower ("image" or "text") computes in, for all its replicas."""

    def settled(self, tower: str) -> str | None:
        """The type, as "bfloat16"; None where that is not settled yet, or there is no choice."""
        ...

    def settle(self, tower: str, precision: str) -> None:
        """Compute in what an earlier run has settled on."""
        ...


@runtime_checkable
class Pictured(Protocol):
    """An encoder whose images can be made ready by other processes, and which several threads may run at once.

    `picture_features(np.stack([picture(x.pixels) for x in images]))` is `image_features(images)`.
    """

    picture: Callable[[np.ndarray], np.ndarray] | None
    """(height, width) uint16 -> a small array, the same shape for all; picklable and free of torch. None: no such."""

    def replicas(self) -> Sequence[Encoder]:
        """The same model once more on each further device of its kind that this machine has."""
        ...

    def picture_features(self, pictures: np.ndarray) -> np.ndarray:
        """(n_images, d_image) float32 of n pictures, in one batch."""
        ...
