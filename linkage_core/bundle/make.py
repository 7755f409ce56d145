"""A bundle: wheels of exactly what runs here, models at hand, checksums, and the script that installs them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from linkage_core import __version__, shipped
from linkage_core.encoders import hub
from linkage_core.errors import InputError
from linkage_core.validate import new_folder

NAME = "linkage-explorer"
SUMS = "SHA256SUMS"
ALONG = ("install.sh", "Containerfile")
"""Files of this folder that go into every bundle."""
Run = Callable[[list[str]], None]
"""Runs one command of pip; InputError where it fails."""


@dataclass(frozen=True)
class Bundle:
    """What was made: its folder, and how many wheels and bytes."""

    folder: Path
    wheels: int
    size: int


def bundle(
    folder: Path,
    *,
    wheel: Path | None = None,
    extras: Sequence[str] = (),
    models: Sequence[str] = (),
    platforms: Sequence[str] = (),
    python: str = "",
    run: Run | None = None,
) -> Bundle:
    """Make a new folder from which `install.sh` installs without a network. The phantom is in the package's wheel.

    wheel: of this package; without it one is built from the checkout. extras: of the package. models: names as `linkage
    embed --model` takes them, at hand. platforms: tags such as manylinux_2_28_x86_64 (default: this machine); python:
    "3.12" (default: this one). Versions are those installed here. run: what runs pip, for tests.

    The package index that pip is configured for is asked: this and `pull` are what opens a connection. Raises
    InputError for a folder that is not empty, an extra or a model that there is not, and where pip fails.
    """
    run = run or _pip
    found = [_model(name) for name in models]
    known = set(importlib.metadata.metadata(NAME).get_all("Provides-Extra") or ())
    for extra in extras:
        if extra not in known:
            raise InputError(f"There is no extra {extra!r}.", f"There are: {', '.join(sorted(known))}.")
    if python and not re.fullmatch(r"3\.\d{1,2}", python):
        raise InputError(f"python is {python!r}.", "Give two numbers, for example 3.12.")
    python = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    new_folder(folder)
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    own = _own(wheel, wheels, run)
    wanted = f"{NAME}[{','.join(extras)}]" if extras else NAME
    (folder / "requirements.txt").write_text(f"{wanted}=={_version(own)}\n", encoding="utf-8")
    pins = folder / "constraints.txt"
    pins.write_text("".join(f"{line}\n" for line in pinned(extras)), encoding="utf-8")
    target = [word for one in platforms for word in ("--platform", one)]
    where = [*target, "--python-version", python] if platforms or python != _here() else []
    words = ["--quiet", "--only-binary", ":all:", "--dest", str(wheels), "--constraint", str(pins), *where]
    run(["download", *words, f"{wanted} @ {own.resolve().as_uri()}", "pip"])
    for local in found:
        _copy_model(local, folder / "models")
    (folder / "PYTHON").write_text(f"{python}\n", encoding="utf-8")
    for name in ALONG:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    n_wheels = len(list(wheels.glob("*.whl")))
    (folder / "INSTALL.txt").write_text(_how(python, platforms, n_wheels, models), encoding="utf-8")
    (folder / SUMS).write_text(sums(folder), encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Bundle(folder, n_wheels, size)


def pinned(extras: Sequence[str] = ()) -> list[str]:
    """name==version of all that the package needs here, itself left out."""
    versions: dict[str, str] = {}
    waiting = [(NAME, frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            one = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise InputError(
                f"{name} is needed and not installed here.", "Install what you want to bundle first, with its extras."
            ) from error
        versions[canonicalize_name(name)] = one.version
        for line in one.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                waiting.append((needed.name, frozenset(needed.extras)))
    return [f"{name}=={version}" for name, version in sorted(versions.items()) if name != NAME]


def sums(folder: Path) -> str:
    """Lines of sha256sum for every file below a folder, SHA256SUMS left out."""
    lines = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def _pip(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        why = next((line for line in said if line.startswith("ERROR")), said[-1] if said else "it said nothing")
        raise InputError(f"pip failed: {why}", "See that the package index is reached and has wheels for the platform.")


def _here() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _own(wheel: Path | None, wheels: Path, run: Run) -> Path:
    """This package's wheel, in the bundle."""
    if wheel is not None:
        if not wheel.is_file() or not zipfile.is_zipfile(wheel):
            raise InputError(f"{wheel} is no wheel.", "Give the file that `make package` made.")
        return Path(shutil.copy(wheel, wheels))
    source = shipped.root()
    if not (source / "pyproject.toml").is_file():
        raise InputError(
            "This is an installation without its sources, and its own wheel is not kept.",
            "Name the wheel that it was installed from: --wheel FILE",
        )
    run(["wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(source)])
    return next(wheels.glob(f"{NAME.replace('-', '_')}-*.whl"))


def _version(wheel: Path) -> str:
    parts = wheel.name.split("-")
    if canonicalize_name(parts[0]) != NAME or len(parts) < 5:
        raise InputError(f"{wheel.name} is no wheel of {NAME}.", "Give the file that `make package` made.")
    return parts[1]


def _model(name: str) -> hub.LocalModel:
    """A model in the cache. InputError where it is not at hand."""
    repo, revision = hub.split_revision(name.removeprefix("hf:").removeprefix("open_clip:"))
    if name in hub.PUBLISHED:
        repo, revision = hub.PUBLISHED[name].repo, hub.PUBLISHED[name].revision
    found = None if hub.is_folder_name(repo) else hub.resolve(repo, revision)
    if found is None or not found.weights or found.revision is None:
        raise InputError(f"The model {name} is not at hand.", f"Get it first: linkage pull {name}")
    return found


def _copy_model(model: hub.LocalModel, models: Path) -> None:
    """As the cache of huggingface_hub has it, without its links."""
    assert model.repo is not None
    at = models / f"models--{model.repo.replace('/', '--')}"
    (at / "refs").mkdir(parents=True, exist_ok=True)
    (at / "refs" / "main").write_text(str(model.revision), encoding="utf-8")
    shutil.copytree(model.folder, at / "snapshots" / str(model.revision), symlinks=False)


def _how(python: str, platforms: Sequence[str], n_wheels: int, models: Sequence[str]) -> str:
    named = f"{', '.join(models)}, in models/" if models else "none; the phantom's own are in its wheel"
    machine = ", ".join(platforms) or "a machine like the one that made this"
    return f"""Linkage Explorer {__version__}, to be installed without the internet.

For Python {python} on {machine}: {n_wheels} wheels, no compiler.
Models: {named}.

1. Copy this folder to the machine.
2. sh install.sh --check          are all files whole, and is everything there?
3. sh install.sh ~/linkage        as an ordinary user
4. ~/linkage/bin/linkage app      the synthetic cohort at http://127.0.0.1:8501

What every file was when it was bundled stands in SHA256SUMS; whoever brings the folder can bring the sha256 of that
file by another way. As a container: see Containerfile.
"""
