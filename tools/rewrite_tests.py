"""Test files as pytest compiles them (with the values of what is asserted), once and on all cores.

    python tools/rewrite_tests.py

Else each process of the tests does it for every file: pytest keeps what it compiles only where Python may, and
processes that begin together find nothing kept. Names of pytest's own are used that it does not promise: where they
have changed, nothing is kept, and the tests are as they were.
"""

from __future__ import annotations

import sys
from functools import cache
from multiprocessing import Pool
from pathlib import Path

from _pytest.assertion import rewrite
from _pytest.config import Config, get_config

TESTS = Path(__file__).resolve().parents[1] / "tests"


@cache
def settings() -> Config:
    """Pytest's own, read once a process."""
    config = get_config()
    config.parse(["-c", str(TESTS.parent / "pyproject.toml"), "-p", "no:cacheprovider", "--noconftest"])
    return config


def keep(path: Path) -> None:
    """One file, as pytest's importer leaves it."""
    config = settings()
    stat, code = rewrite._rewrite_test(path, config)
    folder = rewrite.get_cache_dir(path)
    folder.mkdir(exist_ok=True)
    name = path.name[: -len(".py")] + rewrite.PYC_TAIL
    rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, stat, folder / name)


def main() -> None:
    sys.dont_write_bytecode = False
    files = sorted(path for path in TESTS.rglob("*.py") if path.name.startswith("test_") or path.name == "conftest.py")
    files = [path for path in files if "parity" not in path.parts]
    with Pool() as pool:
        pool.map(keep, files, chunksize=4)


if __name__ == "__main__":
    main()
