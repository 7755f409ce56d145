"""The licence of every locked package that is installed, and what is known against any: `make audit-dependencies`.

Licences are read from the packages themselves, without a network. Vulnerabilities are looked up by pip-audit, which
sends names and versions of public packages to a public service; without a network it says so, and nothing was checked.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from licence import licence  # noqa: E402

ALLOWED = (
    *("Apache", "MIT", "BSD", "ISC", "PSF", "Python Software Foundation", "Python-2.0", "MPL-2.0", "Mozilla Public"),
    *(
        "Zlib",
        "zlib",
        "HPND",
        "CC0",
        "Unlicense",
        "0BSD",
        "BSL-1.0",
        "CNRI",
        "NCSA",
        "MIT-CMU",
        "LGPL",
        "Public Domain",
    ),
)
"""What may stand beside an Apache-2.0 project. LGPL and MPL bind whoever changes the package itself, not its users."""
STATED = {
    "nvidia": "NVIDIA's own terms; only with torch.txt, from NVIDIA",
    "cuda": "NVIDIA's own terms; only with torch.txt, from NVIDIA",
}
"""Packages (or the beginning of their names) whose metadata do not say it in a known word, and what was found."""


def locked(folder: Path = ROOT / "locks") -> dict[str, str]:
    """Name -> version, of every file."""
    lines = [line for path in sorted(folder.glob("*.txt")) for line in path.read_text(encoding="utf-8").splitlines()]
    return {found[1].lower(): found[2] for line in lines if (found := re.match(r"([\w.-]+)==([\w.+]+)", line))}


def allowed(name: str, said: str) -> bool:
    """Whether the licence is one of ALLOWED, or stated. One of several that may be chosen is enough.

    >>> [allowed("a", said) for said in ("MIT", "GPL-3.0-only", "GPL-2.0 OR MIT", "", "GNU General Public License v3")]
    [True, False, True, False, False]
    """
    if any(name.startswith(known) for known in STATED):
        return True
    parts = [
        part for part in re.split(r"\s+OR\s+", said) if not re.search(r"(?<!L)(?<!Lesser )GPL|General Public", part)
    ]
    lesser = "Lesser General Public" in said
    return lesser or any(word in part for part in parts for word in ALLOWED)


def licences() -> list[tuple[str, str, str, bool]]:
    """(name, version, licence, allowed) of every locked package that is installed here."""
    found = []
    for name, version in sorted(locked().items()):
        with suppress(importlib.metadata.PackageNotFoundError):
            said = licence(importlib.metadata.distribution(name))
            found.append((name, version, said, allowed(name, said)))
    return found


def main() -> int:
    """Exit code: 0 where every licence fits and everything was looked up and nothing found."""
    rows = licences()
    for name, version, said, fits in rows:
        stated = next((words for known, words in STATED.items() if name.startswith(known)), "")
        print(f"{'  ' if fits else '! '}{name} {version}: {said or 'says nothing'}{f' ({stated})' if stated else ''}")
    absent = len(locked()) - len(rows)
    print(
        f"{len(rows)} licences, {sum(not fits for *_, fits in rows)} of them not allowed; {absent} not installed here."
    )
    bad = vulnerable()
    return int(bad or any(not fits for *_, fits in rows))


def vulnerable() -> bool:
    """Says what is known against locked packages; whether that is anything, or whether any could not be looked up."""
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "tool", "run", "--quiet", "--from", "pip-audit~=2.10", "pip-audit", "--format", "json"]
    files = [f"-r{ROOT / 'locks' / one}.txt" for one in ("base", "torch", "dev", "dicomweb", "login", "models", "ray")]
    form = ["--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    asked = subprocess.run([*command, *form, *files], check=False, capture_output=True, text=True)
    try:
        found = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        print("Nothing was looked up: pip-audit did not answer. It needs a network. Run it again where there is one.")
        print(asked.stderr[-500:])
        return True
    known = [(one["name"], one["version"], bug["id"]) for one in found for bug in one.get("vulns", ())]
    unknown = [one["name"] for one in found if "skip_reason" in one]
    for name, version, bug in known:
        print(f"! {name} {version}: {bug}")
    print(f"{len(found) - len(unknown)} packages looked up, {len(known)} vulnerabilities known.")
    if unknown:
        print(f"Nothing is known of {len(unknown)} packages, for good or ill: the service did not answer for them.")
        print("It needs a network. Run it again where there is one.")
    return bool(known or unknown)


if __name__ == "__main__":
    sys.exit(main())
