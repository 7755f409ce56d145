"""Runs in an environment of its own (`make parity`), where torchvision, timm, open_clip and hi-ml-multimodal are."""

import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"

from operators import define_missing_operators

define_missing_operators()


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch, tmp_path):
    """Empty caches, and as many threads as a test may take."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    torch.set_num_threads(2)
