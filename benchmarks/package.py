"""What the package weighs, and how soon a stranger sees the app. -> benchmarks/package.json

    python benchmarks/package.py [--times 2] [--uvx]

Each line is run from nothing: `pip install -r requirements.txt` in a new environment; the wheel, without what it needs,
into that same environment, and `linkage app` there in an empty folder until it answers; `make app` in a new clone until
it answers. They take turns and pip keeps no cache, since a machine and its registry have good and bad minutes. What
counts is the ratio of medians, with the processor's time beside it: LIMIT is the share of (pip + ALLOWED seconds) that
`make app` may take. --uvx: `uvx --from WHEEL linkage app` with all that it downloads; UV_FIND_LINKS and such count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ALLOWED, LIMIT = 15.0, 0.9


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """Seconds, and the processor's, of a command that ends."""
    start, used = time.perf_counter(), _used()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return {"seconds": time.perf_counter() - start, "cpu_seconds": _used() - used}


def until_served(command: list[str], folder: Path, port: int) -> dict[str, float]:
    """As timed, of a command that serves the app at a port, until it answers."""
    start, used = time.perf_counter(), _used()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not _well(port):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
            time.sleep(0.05)
        seconds = time.perf_counter() - start
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)
    return {"seconds": seconds, "cpu_seconds": _used() - used}


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _well(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def package(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The wheel, and what it and the source archive weigh."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    took = timed(build, folder)
    wheel, sdist = next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    return wheel, {
        "wheel_megabytes": wheel.stat().st_size / 1e6,
        "installed_megabytes": sum(entry.file_size for entry in entries) / 1e6,
        "files": len(entries),
        "sdist_megabytes": sdist.stat().st_size / 1e6,
        "build_seconds": took["seconds"],
    }


def one_turn(folder: Path, wheel: Path) -> list[dict[str, Any]]:
    """Every line once, each in folders of its own."""
    rows: list[dict[str, Any]] = []

    def note(what: str, took: dict[str, float]) -> None:
        rows.append({"what": what, **{name: round(value, 2) for name, value in took.items()}})
        rows[-1]["load"] = round(os.getloadavg()[0], 1)
        print(f"{what}: {took['seconds']:.1f} s ({took['cpu_seconds']:.1f} s of the processor)", file=sys.stderr)

    plain = folder / "plain"
    subprocess.run([sys.executable, "-m", "venv", str(plain)], check=True)
    pip = [str(plain / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    note("pip install -r requirements.txt", timed([*pip, "-r", str(ROOT / "requirements.txt")], folder))
    note("pip install the wheel, its needs there", timed([*pip, "--no-deps", str(wheel)], folder))
    empty, port = folder / "empty", free_port()
    empty.mkdir()
    app = [str(plain / "bin" / "linkage"), "app", "--no-browser", "--port"]
    note("linkage app, first start, to its answer", until_served([*app, str(port)], empty, port))
    note("linkage app, second start, to its answer", until_served([*app, str(port)], empty, port))
    shutil.rmtree(plain)
    clone, port = folder / "clone", free_port()
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    # of the interpreter below this environment, as a stranger has it
    make = ["make", f"PYTHON={getattr(sys, '_base_executable', sys.executable)}", f"PORT={port}", "app"]
    note("make app in a new clone, to its answer", until_served(make, clone, port))
    shutil.rmtree(clone)
    return rows


def with_uvx(folder: Path, wheel: Path) -> dict[str, Any]:
    """uvx from nothing: an empty cache, an empty folder."""
    from uv import find_uv_bin

    empty, port = folder / "empty", free_port()
    empty.mkdir()
    command = [str(Path(find_uv_bin()).with_name("uvx")), "--cache-dir", str(folder / "cache"), "--from", str(wheel)]
    took = until_served([*command, "linkage", "app", "--no-browser", "--port", str(port)], empty, port)
    files = [path.stat() for path in (folder / "cache").rglob("*") if path.is_file() and not path.is_symlink()]
    once = {state.st_ino: state.st_size for state in files}  # the environment is links into the cache
    took |= {"cache_megabytes": sum(once.values()) / 1e6, "load": os.getloadavg()[0]}
    return {"what": "uvx --from WHEEL linkage app, to its answer"} | {name: round(n, 1) for name, n in took.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--uvx", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    os.environ["PIP_NO_CACHE_DIR"] = "1"
    with tempfile.TemporaryDirectory() as built:
        wheel, weighs = package(Path(built))
        result: dict[str, Any] = {"package": {name: round(value, 2) for name, value in weighs.items()}}
        result["machine"] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
        for _ in range(options.times):
            with tempfile.TemporaryDirectory() as folder:
                rows += one_turn(Path(folder), wheel)
            result["rows"] = rows
            result |= ratios(rows)
            _write(result)  # after every turn: a run that is stopped leaves its figures
        if options.uvx:
            with tempfile.TemporaryDirectory() as folder:
                result["uvx"] = with_uvx(Path(folder), wheel)
            _write(result)
    print(json.dumps({name: value for name, value in result.items() if name != "rows"}, indent=1))
    return 0 if result["make_app_within_limit"] else 1


def ratios(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`make app` against pip and the seconds allowed on top; the processor's time the same way."""
    found: dict[str, Any] = {"allowed_seconds": ALLOWED, "limit": LIMIT}
    for kind in ("seconds", "cpu_seconds"):
        pip, make = (
            statistics.median(row[kind] for row in rows if row["what"].startswith(what))
            for what in ("pip install -r", "make app")
        )
        found[f"make_app_over_pip_and_allowed, {kind}"] = round(make / (pip + ALLOWED), 3)
        found[f"make_app_over_pip, {kind}"] = round(make / pip, 3)
    return found | {"make_app_within_limit": found["make_app_over_pip_and_allowed, seconds"] <= LIMIT}


def _write(result: dict[str, Any]) -> None:
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
