"""What an installed package says of its licence: read by sbom.py and dependencies.py."""

from __future__ import annotations

from importlib.metadata import Distribution


def licence(package: Distribution) -> str:
    """Its metadata in a line, else the first line of its licence file; "" where it says nothing."""
    said = package.metadata
    classes = [one.split(" :: ")[-1] for one in said.get_all("Classifier") or () if one.startswith("License ::")]
    named = [said.get("License-Expression") or "", *classes, _first_line(said.get("License") or "")]
    noted = (file for file in package.files or () if ".dist-info" in str(file))  # a module may be called license.py too
    files = (file for file in noted if file.name.upper().startswith("LICENSE"))
    named += [_first_line(file.read_text(encoding="utf-8")) for file in list(files)[:1]]
    return next((one for one in named if one and one not in ("UNKNOWN", "OSI Approved")), "")


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "").strip()[:120]
