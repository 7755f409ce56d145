"""The bill of materials names all that the package needs, each with its licence; licences and sums stand beside it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helpers.places import ROOT
from linkage_core.bundle.make import NAME, pinned


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool_sbom", ROOT / "tools" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_everything_needed_is_named_with_version_and_licence(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"wheel")
    written = tool.write(tmp_path)
    content = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert (content["bomFormat"], content["specVersion"]) == ("CycloneDX", "1.6")
    assert content["metadata"]["component"]["name"] == NAME
    named = [f"{one['name']}=={one['version']}" for one in content["components"]]
    assert set(named) == set(pinned())
    purls = {f"pkg:pypi/{purl(one).replace('==', '@')}" for one in named}
    assert {one["purl"] for one in content["components"]} == purls
    silent = [one["name"] for one in content["components"] if not one.get("licenses")]
    assert silent == [], "look their licences up, and say them"
    needs = {one["ref"]: set(one.get("dependsOn", ())) for one in content["dependencies"]}
    (own,) = (ref for ref in needs if ref.startswith(f"{NAME}=="))
    assert any(ref.startswith("torch==") for ref in needs[own])
    assert {other for some in needs.values() for other in some} <= set(needs)
    licences = (tmp_path / "THIRD-PARTY-LICENCES.txt").read_text()
    assert all(f"\n{one.replace('==', ' ')}: " in licences for one in named)
    assert "Permission is hereby granted" in licences
    sums = dict(reversed(line.split("  ")) for line in written[2].read_text().splitlines())
    assert set(sums) == {"a.whl", "sbom.cdx.json", "THIRD-PARTY-LICENCES.txt"}
    assert sums["a.whl"] == hashlib.sha256(b"wheel").hexdigest()


def purl(line: str) -> str:
    """As it stands in a purl: a local version's sign is quoted."""
    return line.replace("+", "%2B")
