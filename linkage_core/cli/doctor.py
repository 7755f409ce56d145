"""What this machine has: packages, hardware, decoders, browser, models, store. Looks, and changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from linkage_core.encoders.registry import known_models
from linkage_core.errors import StoreError
from linkage_core.store.entry import Store

PACKAGES = (
    "torch",
    "transformers",
    "huggingface_hub",
    "safetensors",
    "streamlit",
    "plotly",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "numba",
    "pyarrow",
    "pillow",
    "pydicom",
    "opacus",
    "dp-accounting",
    "ray",
    "open_clip_torch",
)
OPTIONAL = ("ray", "open_clip_torch")
_INSTALL = "`pip install -r requirements.txt` in the environment of the project."

_DECODER_PACKAGES = {
    "pydicom": "pydicom",
    "pillow": "pillow",
    "gdcm": "python-gdcm",
    "pylibjpeg": "pylibjpeg pylibjpeg-openjpeg pylibjpeg-rle",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_LITTLE_DISK = 5 * 2**30  # bytes; a pulled model with its converted copy takes 1.2 GB


def examine(store_root: Path) -> dict[str, Any]:
    """Everything `linkage doctor` shows, JSON-able. An entry that needs attention carries `remedy`.

    Keys: `system`, `packages`, `cpu`, `memory`, `gpu`, `faiss`, `numba`, `dicom`, `browser`, `models`, `store`,
    `environment`, `disk`. Sizes are bytes. Opens no connection and writes nothing.
    """
    return {
        "system": {
            "python": platform.python_version(),
            "executable": sys.executable,
            "platform": platform.platform(),
        },
        "packages": [_package(name) for name in PACKAGES],
        "cpu": _cpu(),
        "memory": _memory(),
        "gpu": _gpu(),
        "faiss": _faiss(),
        "numba": _numba(),
        "dicom": _dicom(),
        "browser": _browser(),
        "models": _models(store_root),
        "store": _store(store_root),
        "environment": {name: os.environ.get(name) for name in (*OFFLINE, "HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT")},
        "disk": _disk(store_root),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(name: str) -> dict[str, Any]:
    version = _version(name)
    found: dict[str, Any] = {"name": name, "version": version}
    if version is None and name not in OPTIONAL:
        found["remedy"] = _INSTALL
    return found


def _cpu() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": os.cpu_count(), "usable": usable, "machine": platform.machine()}


def _memory() -> dict[str, Any]:
    """Of the machine; a container's limit may be lower. None where /proc is not there to be read."""
    lines: dict[str, int] = {}
    source = Path("/proc/meminfo")
    if source.is_file():
        for line in source.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            lines[key] = int(value.split()[0]) * 1024
    return {"total": lines.get("MemTotal"), "available": lines.get("MemAvailable")}


def _gpu() -> dict[str, Any]:
    """Only torch can tell whether a GPU can be used, so here it is imported."""
    if importlib.util.find_spec("torch") is None:
        return {"cuda": [], "mps": False, "remedy": _INSTALL}
    import torch

    cards: list[dict[str, Any]] = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            cards.append({"name": properties.name, "memory": properties.total_memory})
    found: dict[str, Any] = {"cuda": cards, "mps": torch.backends.mps.is_available(), "torch_cuda": torch.version.cuda}
    if not cards and shutil.which("nvidia-smi"):
        found["remedy"] = "This machine has an NVIDIA driver, but this torch cannot use it: see requirements-gpu.txt."
    return found


def _faiss() -> dict[str, Any]:
    kind = next((name for name in ("faiss-gpu", "faiss-cpu") if _version(name)), None)
    if kind is None:
        return {
            "kind": None,
            "version": None,
            "gpu": False,
            "remedy": "Install faiss-cpu, or faiss-gpu (requirements-gpu.txt).",
        }
    import faiss

    count = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    found: dict[str, Any] = {"kind": kind, "version": _version(kind), "gpu": bool(count)}
    if _version("faiss-gpu") and _version("faiss-cpu"):
        found["remedy"] = (
            "faiss-cpu and faiss-gpu lie over each other: `pip uninstall -y faiss-cpu faiss-gpu`, then install one."
        )
    return found


def _numba() -> dict[str, Any]:
    """Whether a compiled function runs here; without one the counts fall back to numpy and are slower."""
    try:
        from numba import njit

        usable = njit(_one_more)(1) == 2
    except (ImportError, OSError, RuntimeError) as error:
        return {"usable": False, "why": str(error), "remedy": "Counts work without it, slower. Reinstall numba."}
    return {"usable": usable, "version": _version("numba")}


def _one_more(number: int) -> int:
    return number + 1


def _dicom() -> list[dict[str, Any]]:
    """For each compressed syntax the one decoder that the reader uses, and whether it is here."""
    try:
        from pydicom.pixels import get_decoder
        from pydicom.uid import UID

        from linkage_core.images.dicom import DECODERS
    except ImportError as error:
        return [{"syntax": None, "name": "DICOM", "present": False, "why": str(error), "remedy": _INSTALL}]
    rows: list[dict[str, Any]] = []
    for syntax, decoder in DECODERS.items():
        present = decoder in get_decoder(UID(syntax)).available_plugins
        row: dict[str, Any] = {"syntax": syntax, "name": UID(syntax).name, "decoder": decoder, "present": present}
        if not present:
            row["remedy"] = f"`pip install {_DECODER_PACKAGES[decoder]}`; such files are rejected until then."
        rows.append(row)
    return rows


def _browser() -> dict[str, Any]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path:
        return {"path": path}
    return {"path": None, "remedy": "Only the browser tests need it: `apt-get install chromium`."}


def _models(store_root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for model in known_models(store_root):
        row: dict[str, Any] = {
            "name": model.name,
            "present": model.present,
            "family": model.family,
            "repo": model.repo,
            "revision": model.revision,
            "licence": model.licence,
            "where": model.where,
            "size": model.size,
        }
        if model.note:
            row["note" if model.present else "remedy"] = model.note
        rows.append(row)
    return rows


def _store(store_root: Path) -> dict[str, Any]:
    """Entries with their sizes; whether every file is whole is for `linkage verify` to say."""
    store = Store(store_root)
    entries: list[dict[str, Any]] = []
    for cohort in store.cohorts():
        for model in store.models(cohort):
            folder = store_root / cohort / model
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            row: dict[str, Any] = {"cohort": cohort, "model": model, "size": size, "readable": True}
            try:
                store.open(cohort, model)
            except StoreError as error:
                row |= {"readable": False, "why": error.what, "remedy": error.remedy}
            entries.append(row)
    found: dict[str, Any] = {"root": str(store_root.absolute()), "exists": store_root.is_dir(), "entries": entries}
    if not entries:
        found["remedy"] = (
            "Nothing is embedded here: `linkage embed KIND ROOT --model M`, or give --store another folder."
        )
    return found


def _disk(store_root: Path) -> dict[str, Any]:
    """Free space where the store is or would be."""
    place = store_root.absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    found: dict[str, Any] = {"path": str(place), "total": usage.total, "free": usage.free}
    if usage.free < _LITTLE_DISK:
        found["remedy"] = "Little space is left; a pulled model with its converted copy takes 1.2 GB."
    return found
