"""Write locks/*.txt, every package of every set with its version and hashes, from pyproject.toml: `make lock`.

One resolution for all platforms and Pythons, so that a package has one version wherever it is wanted; each file holds
what its set adds to base.txt, and base.txt wants torch.txt or torch-cpu.txt beside it. It asks the package index that
uv is configured for, whose address is not written down. `tests/test_lock.py` checks without one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
SETS = {
    "base": (),
    "dev": ("--group", "dev"),
    "ray": ("--extra", "ray"),
    "real": ("--extra", "real"),
    "dicomweb": ("--extra", "dicomweb"),
    "login": ("--extra", "login"),
    "models": ("--extra", "models"),
    "gpu": ("--extra", "gpu"),
}
"""File -> what its set adds to the base set. faiss-gpu takes the place of faiss-cpu: see README."""
OF_TORCH = re.compile(r"(nvidia|cuda)-|(torch|triton)$")
"""What differs between the builds of torch: in torch.txt as the index has it, on Linux with CUDA's libraries."""
CPU_BUILD = """\
torch==2.13.0+cpu \\
    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b
"""
"""torch-cpu.txt, in place of torch.txt where pip is told of a folder with that build, which is on no index: Linux,
x86-64, Python 3.11."""


def packages(lock: str) -> dict[str, str]:
    """Name -> its lines, of a file of requirements with hashes; several for a name with several markers.

    >>> packages("a==1 ; x \\\\\\n    --hash=sha256:00\\n# via b\\nb==2 \\\\\\n    --hash=sha256:11\\n")["b"]
    'b==2 \\\\\\n    --hash=sha256:11\\n'
    """
    found: dict[str, str] = {}
    name = ""
    for line in lock.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not line.startswith(" "):
            name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
        found[name] = found.get(name, "") + line + "\n"
    return found


def resolved(*more: str) -> dict[str, str]:
    """What the base set and more need, by uv."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "lock"
        command = [UV, "pip", "compile", "pyproject.toml", "--quiet", "--universal", "--generate-hashes", "-o", out]
        form = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        subprocess.run([*command, *form, "--python-version", "3.11", *more], cwd=ROOT, check=True)
        return packages(out.read_text(encoding="utf-8"))


def made() -> dict[str, str]:
    """Text of every file by its name."""
    whole = resolved(*(word for more in SETS.values() for word in more))
    with tempfile.TemporaryDirectory() as folder:
        pinned = Path(folder) / "pinned"
        pinned.write_text("".join(whole.values()), encoding="utf-8")
        names = {one: set(resolved(*more, "--constraint", str(pinned))) for one, more in SETS.items()}
    files = {one: names[one] - (names["base"] if one != "base" else set()) for one in SETS}
    torch = {name for some in files.values() for name in some if OF_TORCH.match(name)}
    files = {one: some - torch for one, some in files.items()} | {"torch": torch}
    texts = {f"{one}.txt": "".join(whole[name] for name in sorted(some)) for one, some in files.items()}
    return texts | {"torch-cpu.txt": CPU_BUILD}


if __name__ == "__main__":
    (ROOT / "locks").mkdir(exist_ok=True)
    for file, text in made().items():
        (ROOT / "locks" / file).write_text(text, encoding="utf-8")
