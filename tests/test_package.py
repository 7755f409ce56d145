"""The package as a stranger gets it: built, installed, and run in an empty folder by an ordinary user, no compiler.

What it needs (torch and the rest) is seen from the environment of the tests and not downloaded again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from uv import find_uv_bin

from helpers.places import ROOT

SHIPPED = "linkage_core/_shipped/"
NOBODY = 65534
PACKAGES = sysconfig.get_path("purelib")


def build(kind: str, source: Path, target: Path) -> Path:
    """What `make package` makes of one kind: sdist or wheel."""
    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(target), str(source)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


def contents(wheel: Path) -> dict[str, tuple[int, int]]:
    """Checksum and size of each file, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: (entry.CRC, entry.file_size) for entry in archive.infolist()}


def tracked() -> set[str]:
    """What git tracks of what ships."""
    parts = ["linkage_core", "explorer", "pages", "cached_embeddings", "app.py", ".streamlit", "docs/release.md"]
    command = ["git", "ls-files", "-z", *parts]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")) - {""}


def test_the_wheel_holds_what_git_tracks_and_nothing_else(wheel: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to compare with")
    held = {name.removeprefix(SHIPPED) for name in contents(wheel) if ".dist-info/" not in name}
    assert held == tracked()


def test_a_wheel_from_the_files_of_the_source_archive_is_the_same_whatever_lies_beside_them(
    wheel: Path, tmp_path: Path
) -> None:
    """Beside them: counts made by looking around, a cohort of one's own, caches, locks. They stay at home."""
    copy = tmp_path / "copy"
    archive = SdistBuilder(str(ROOT))
    with archive.config.set_build_data({"artifacts": [], **archive.get_default_build_data()}):
        for included in archive.recurse_included_files():
            target = copy / included.distribution_path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(included.path, target)
    phantom = copy / "cached_embeddings" / "phantom" / "phantom-general"
    assert (phantom / "manifest.json").is_file()
    for left in (
        phantom / "ranks" / "off-the-shelf.image-to-report.all.heldout.parquet",
        phantom / ".lock",
        copy / "cached_embeddings" / "mine" / "clip" / "records.parquet",
        copy / "pages" / "__pycache__" / "start.cpython-311.pyc",
    ):
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_text("{}")
    assert contents(build("wheel", copy, tmp_path / "wheel")) == contents(wheel)


@pytest.mark.soak  # packing the archive takes longer than all else here
def test_the_source_archive_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    assert (source / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert contents(build("wheel", source, tmp_path / "wheel")) == contents(wheel)


def test_an_editable_installation_is_the_checkout_and_holds_no_copy(tmp_path: Path) -> None:
    code = f"import hatchling.build; hatchling.build.build_editable({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    held = {name for name in contents(next(tmp_path.iterdir())) if ".dist-info/" not in name}
    assert held == {"_linkage_explorer.pth"}


def test_the_wheel_is_small_and_carries_its_licence_and_needs(wheel: Path) -> None:
    assert wheel.stat().st_size < 60e6
    with zipfile.ZipFile(wheel) as archive:
        about = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needs = archive.read(about).decode()
        licence = archive.read(about.replace("METADATA", "licenses/LICENSE"))
    assert licence == (ROOT / "LICENSE").read_bytes()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "License-Expression: Apache-2.0" in needs
    assert needs.count("Requires-Dist: ") == sum(
        len(lines) for lines in (project["dependencies"], *project["optional-dependencies"].values())
    )
    for extra in project["optional-dependencies"]:
        assert f"Provides-Extra: {extra}" in needs


# ------------------------------------------------------------------------------------- installed, and run by a stranger


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel alone and sees the packages of this one below it."""

    python: Path
    tools: Path

    def environment(self) -> dict[str, str]:
        """No compiler, nothing of whoever runs the tests, and a home that is not there."""
        path = os.pathsep.join([str(self.python.parent), str(self.tools)])
        return {"PATH": path, "HOME": "/nonexistent", "LANG": "C.UTF-8"}

    def command(self, name: str, *arguments: str) -> list[str]:
        return [*as_a_stranger(), str(self.python.parent / name), *arguments]

    def run(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self.command("linkage", *arguments)
        return subprocess.run(command, cwd=folder, env=self.environment(), capture_output=True, text=True)


def as_a_stranger() -> list[str]:
    """What stands before a command so that it runs as an ordinary user; nothing where the tests run as one.

    Of root's powers one is left, to read what root alone may read, since Python itself may lie in root's home.
    """
    if os.geteuid() != 0:
        return []
    power = "-all,+dac_read_search"
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [shutil.which("setpriv") or "setpriv", *who, *(f"--{s}={power}" for s in SETS), "--"]


SETS = ("bounding-set", "inh-caps", "ambient-caps")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder of the stranger's own."""
    folder = tmp_path / "empty"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    return folder


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "below.pth").write_text(PACKAGES + "\n")
    tools = folder / "tools"  # the little that the start of a program by uv asks of a system
    tools.mkdir()
    for name in ("realpath", "dirname"):
        (tools / name).symlink_to(shutil.which(name) or "")
    made = Installed(python, tools)
    path = made.environment()["PATH"]
    assert not any(shutil.which(compiler, path=path) for compiler in ("cc", "gcc", "g++", "c++", "clang", "tcc"))
    return made


def test_it_is_the_installed_one_that_runs_and_nobody_owns_it(installed: Installed, empty: Path) -> None:
    code = "import os, linkage_core, explorer; print(linkage_core.__file__, explorer.__file__, os.geteuid())"
    command = installed.command("python", "-c", code)
    ran = subprocess.run(command, cwd=empty, env=installed.environment(), capture_output=True, text=True)
    core, pages, who = ran.stdout.split()
    assert Path(core).is_relative_to(installed.python.parents[1]), ran.stderr
    assert Path(pages).is_relative_to(installed.python.parents[1])
    assert who != "0"
    if os.geteuid() == 0:
        tried = installed.command("python", "-c", f"open({core!r}, 'a')")
        assert b"PermissionError" in subprocess.run(tried, env={}, capture_output=True).stderr


def test_help_and_an_audit_of_the_phantom_in_an_empty_folder(installed: Installed, empty: Path) -> None:
    helped = installed.run(empty, "--help")
    assert helped.returncode == 0, helped.stderr
    assert " audit " in helped.stdout
    assert " app " in helped.stdout
    asked = ("--k", "1", "--pool-size", "100", "--json", "-")
    ran = installed.run(empty, "audit", "phantom/phantom-general", *asked)
    assert ran.returncode == 0, ran.stderr
    (row,) = json.loads(ran.stdout)["rows"]
    assert row["n_queries"] > 10_000
    assert 0.0133 < row["recall"] < 0.0168  # the interval of the README
    assert not any(empty.iterdir())


def test_counts_that_do_not_ship_are_made_and_a_writer_is_told_to_take_a_copy(
    installed: Installed, empty: Path
) -> None:
    place = next(installed.python.parents[1].glob(f"lib/python*/site-packages/{SHIPPED}cached_embeddings"))
    before = sorted(place.rglob("*"))
    asked = ["audit", "phantom-site-b/phantom-general", "--pool", "all", "--k", "1", "--pool-size", "10", "--json", "-"]
    first = installed.run(empty, *asked)
    assert first.returncode == 0, first.stderr
    refused = installed.run(
        empty, "finetune", "phantom-site-b/phantom-general", "--mechanism", "rotation", "--name", "mine"
    )
    assert refused.returncode == 2
    said = refused.stderr.replace("\n", " ")
    assert f"cp -r {place} ." in said, said
    assert sorted(place.rglob("*")) == before


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(installed: Installed, empty: Path) -> Iterator[int]:
    """`linkage app` in an empty folder; its port, once it is well."""
    port = free_port()
    command = installed.command("linkage", "app", "--no-browser", "--port", str(port))
    log = empty.parent / "app.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=empty, env=installed.environment(), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until_well(port, process, log)
        yield port
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0, "Ctrl-C is how it is meant to end"
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def wait_until_well(port: int, process: subprocess.Popen, log: Path) -> None:
    give_up = time.monotonic() + 90
    while time.monotonic() < give_up and process.poll() is None:
        try:
            if fetched(port, "/_stcore/health") == "ok":
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"The application did not start:\n{log.read_text()}")


def fetched(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def test_the_app_is_served_to_this_machine_alone(installed: Installed, served: int, empty: Path) -> None:
    assert "<title>" in fetched(served, "/risk")
    listening = {
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rsplit(":", 1)[1], 16) == served
    }
    assert listening == {f"0100007F:{served:04X}"}
    request = (
        f"GET /_stcore/stream HTTP/1.1\r\nHost: attacker.example:{served}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served), timeout=5) as connection:
        connection.sendall(request.encode())
        assert b"101 Switching" not in connection.recv(200)
    second = installed.run(empty, "app", "--no-browser", "--port", str(served))
    assert second.returncode == 2
    assert f"Port {served} is taken" in second.stderr
    assert not any(empty.iterdir())


PAGES = """
import sys
from streamlit.testing.v1 import AppTest
from linkage_core import shipped
from streamlit.runtime.pages_manager import PagesManager

PagesManager.uses_pages_directory = False
app = AppTest.from_file(str(shipped.root() / "app.py"), default_timeout=60).run()
for page in ("start", "examples"):
    if page != "start":
        app.switch_page(f"pages/{page}.py").run()
    assert not app.exception, app.exception
    print(page, app.title[0].value)
    assert not any('class="le-problem"' in str(node.proto.body) for node in app.get("html"))
"""


def test_pages_are_drawn_from_the_package(installed: Installed, empty: Path) -> None:
    command = installed.command("python", "-c", PAGES)
    ran = subprocess.run(command, cwd=empty, env=installed.environment(), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "Can a de-identified chest X-ray be linked back to its report?" in ran.stdout
    assert not any(empty.iterdir())


def test_uvx_makes_an_environment_from_the_wheel_and_runs_it(wheel: Path, installed: Installed, empty: Path) -> None:
    """All of `uvx --from WHEEL linkage` but the download: what the wheel needs is declared to be there already."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [need.split("~")[0].split("=")[0] for need in needs]
    overrides = empty.parent / "there-already.txt"
    overrides.write_text("".join(f'{name} ; python_version < "3"\n' for name in names))
    uvx = [
        *as_a_stranger(),
        str(Path(find_uv_bin()).with_name("uvx")),
        "--offline",
        "--no-config",
        "--python",
        str(installed.python),
    ]
    places = {"UV_CACHE_DIR": str(empty / "cache"), "UV_TOOL_DIR": str(empty / "cache" / "tools")}
    cache = {**places, "PYTHONPATH": PACKAGES}
    command = [*uvx, "--overrides", str(overrides), "--from", str(wheel), "linkage"]
    environment = installed.environment() | cache
    asked = ["audit", "phantom/phantom-general", "--k", "1", "--pool-size", "100", "--json", "-"]
    ran = subprocess.run([*command, *asked], cwd=empty, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["rows"]) == 1
    assert [path.name for path in empty.iterdir()] == ["cache"]
    port, log = free_port(), empty.parent / "uvx.log"
    with log.open("w") as output:
        served = [*command, "app", "--no-browser", "--port", str(port)]
        process = subprocess.Popen(served, cwd=empty, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_well(port, process, log)
    finally:
        process.terminate()
        process.wait(timeout=20)
