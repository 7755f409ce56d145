"""Packages with real towers and real files: what needs one skips loudly where it is absent, but not in CI."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest


def package(distribution: str, version: str) -> Path:
    """Where an installed package of requirements-real.txt lies; skips the asker where it is absent."""
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        what = f"{distribution} is not installed: pip install --no-deps -r requirements-real.txt"
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    assert found.version == version
    return Path(str(found.locate_file("")))
