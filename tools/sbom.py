"""What IT asks before it installs: a bill of materials, third-party licences and checksums, into dist/ (`make sbom`).

    python tools/sbom.py [--out dist] [--extras dicomweb,ray]

- sbom.cdx.json: CycloneDX 1.6 of the package and of all that it needs, with licences and who needs whom;
- THIRD-PARTY-LICENCES.txt: the licence of each of these packages, in the words of its own files;
- SHA256SUMS: of everything in the folder.

Versions are those of this environment, which the tests ran in. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from linkage_core.bundle.make import NAME, SUMS, pinned, sums

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from licence import licence  # noqa: E402

TEXTS = ("LICEN", "COPYING", "NOTICE")


def texts(package: importlib.metadata.Distribution) -> list[str]:
    """The licence files that a package carries."""
    files = [file for file in package.files or () if file.name.upper().startswith(TEXTS) and ".py" not in file.suffix]
    found = []
    for file in files:
        path = Path(str(file.locate()))
        if path.is_file():
            found.append(path.read_text(encoding="utf-8", errors="replace").strip())
    return list(dict.fromkeys(found))


def names(extras: Sequence[str]) -> list[str]:
    """What the package needs, itself first."""
    return [NAME, *(line.partition("==")[0] for line in pinned(extras))]


def bom(extras: Sequence[str]) -> Bom:
    """The bill of materials."""
    every = names(extras)
    components: dict[str, Component] = {}
    licences = LicenseFactory()
    for name in every:
        package = importlib.metadata.distribution(name)
        said = licence(package)
        components[name] = Component(
            name=name,
            version=package.version,
            type=ComponentType.APPLICATION if name == NAME else ComponentType.LIBRARY,
            purl=PackageURL("pypi", name=name, version=package.version),
            bom_ref=BomRef(f"{name}=={package.version}"),
            licenses=[licences.make_from_string(said)] if said else [],
            description=package.metadata.get("Summary"),
            properties=[] if said else [Property(name="linkage:licence", value="the package says nothing")],
        )
    made = Bom(
        components=[components[name] for name in every[1:]],
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, " ".join(str(one.bom_ref.value) for one in components.values())),
    )
    made.metadata.component = components[NAME]
    for name, component in components.items():
        needed = (Requirement(line) for line in importlib.metadata.requires(name) or ())
        wanted = tuple(extras) if name == NAME else ()
        there = [
            components[other]
            for one in needed
            if (other := canonicalize_name(one.name)) in components
            and (one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *wanted)))
        ]
        made.register_dependency(component, there)
    return made


def third_party(extras: Sequence[str]) -> str:
    """Every package's licence, and the words of its files."""
    parts = [
        "Packages that Linkage Explorer needs, with their licences. Each is installed beside it and not part of it.\n"
    ]
    for name in names(extras)[1:]:
        package = importlib.metadata.distribution(name)
        head = f"{name} {package.version}: {licence(package) or 'says nothing'}"
        parts.append("\n\n".join([f"{'=' * 100}\n{head}\n{'=' * 100}", *texts(package)]) + "\n")
    return "\n".join(parts)


def write(out: Path, extras: Sequence[str] = ()) -> list[Path]:
    """All three files."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "sbom.cdx.json", out / "THIRD-PARTY-LICENCES.txt", out / SUMS]
    files[0].write_text(JsonV1Dot6(bom(extras)).output_as_string(indent=1) + "\n", encoding="utf-8")
    files[1].write_text(third_party(extras), encoding="utf-8")
    files[2].write_text(sums(out), encoding="utf-8")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--extras", default="")
    asked = parser.parse_args()
    extras = [one for one in asked.extras.split(",") if one]
    for path in write(asked.out, extras):
        sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
