"""torchvision beside a torch without CUDA."""

import subprocess
import sys

import torch

_KEPT: list[torch.library.Library] = []


def define_missing_operators() -> None:
    """torchvision's CUDA build beside a torch without CUDA fails at import for want of two operators it never calls.

    They are declared only where that is so, before torchvision is first imported.
    """
    if torch.version.cuda is not None or _KEPT:
        return
    plain = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False)
    if plain.returncode:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)  # what is declared lives as long as this object
