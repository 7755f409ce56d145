"""A bundle: its files and sums, the script that installs it in its dry form and, as soak, without a network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from helpers.places import ROOT
from linkage_core.bundle import make
from linkage_core.errors import InputError

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
CUT = ["unshare", "--user", "--map-root-user", "--net"]
"""A command behind these words has no network but a loopback of its own."""


def tiny(folder: Path, name: str, version: str, needs: str = "") -> Path:
    """A wheel with nothing in it."""
    path = folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    about = f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
            f"Requires-Dist: {needs}\n" * bool(needs)
        )
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


def pip_wheel() -> Path | None:
    """The pip that ensurepip carries."""
    import ensurepip

    return next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), None)


@pytest.fixture
def bundled(tmp_path: Path) -> Path:
    """A bundle whose wheels are empty, but pip's own."""
    asked: list[list[str]] = []

    def run(words: list[str]) -> None:
        asked.append(words)
        target = Path(words[words.index("--dest") + 1])
        tiny(target, "torch", "2.13.0")
        found = pip_wheel()
        if found is None:
            pytest.skip("this Python has no ensurepip")
        shutil.copy(found, target)

    own = tiny(tmp_path, make.NAME, "9.9.9", "torch==2.13.0")
    made = make.bundle(tmp_path / "out", wheel=own, run=run)
    (words,) = asked
    assert words[:5] == ["download", "--quiet", "--only-binary", ":all:", "--dest"]
    assert "--platform" not in words
    assert made.wheels == 3
    return made.folder


def test_a_bundle_holds_what_it_says_and_the_sum_of_every_file(bundled: Path) -> None:
    files = {path.relative_to(bundled).as_posix() for path in bundled.rglob("*") if path.is_file()}
    assert {"install.sh", "Containerfile", "INSTALL.txt", "PYTHON", "requirements.txt", make.SUMS} <= files
    listed = dict(reversed(line.split("  ")) for line in (bundled / make.SUMS).read_text().splitlines())
    assert set(listed) == files - {make.SUMS}
    for name, digest in listed.items():
        assert hashlib.sha256((bundled / name).read_bytes()).hexdigest() == digest
    assert (bundled / "PYTHON").read_text().strip() == HERE
    assert (bundled / "requirements.txt").read_text() == "linkage-explorer==9.9.9\n"


def test_pinned_is_the_closure_that_runs_here() -> None:
    import importlib.metadata

    lines = make.pinned()
    names = {line.partition("==")[0] for line in lines}
    assert {"torch", "streamlit", "numpy", "altair", "tornado"} & names >= {"torch", "streamlit", "numpy"}
    assert not {"pytest", "ruff", make.NAME} & names
    assert f"numpy=={importlib.metadata.version('numpy')}" in lines


def install(bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PYTHON": sys.executable, "LC_ALL": "C.UTF-8"}
    return subprocess.run(["sh", "install.sh", *words], cwd=bundle, env=environment, capture_output=True, text=True)


def test_the_script_checks_what_is_there_and_installs_nothing(bundled: Path) -> None:
    done = install(bundled, "--check")
    assert done.returncode == 0, done.stderr
    assert "Every file is as it was bundled" in done.stdout
    assert not list(bundled.glob("**/bin"))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda bundle: (bundle / "requirements.txt").write_text("linkage-explorer\n"), "copy the folder again"),
        (lambda bundle: next(bundle.glob("wheels/torch*")).unlink(), "copy the folder again"),
        (lambda bundle: again(bundle, lambda: (bundle / "PYTHON").write_text("3.99\n")), "for Python 3.99"),
        (lambda bundle: again(bundle, next(bundle.glob("wheels/torch*")).unlink), "conflicting dependencies"),
    ],
)
def test_the_script_refuses_what_is_not_whole(bundled: Path, harm, says: str) -> None:
    harm(bundled)
    done = install(bundled, "--check")
    assert done.returncode != 0
    assert says in done.stderr + done.stdout


def again(bundle: Path, change) -> None:
    """A change, and sums that fit it."""
    change()
    (bundle / make.SUMS).write_text(make.sums(bundle))


def test_what_cannot_be_bundled_is_said(tmp_path: Path) -> None:
    own = tiny(tmp_path, make.NAME, "9.9.9")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    wrong = tmp_path / "no.whl"
    wrong.write_text("no")
    for options, says in (
        ({"extras": ["nothing"]}, "no extra 'nothing'"),
        ({"python": "4"}, "python is '4'"),
        ({"models": ["clip-of-nobody/x"]}, "not at hand"),
        ({"wheel": wrong}, "is no wheel"),
        ({"wheel": tiny(tmp_path, "other", "1.0")}, "is no wheel of"),
    ):
        with pytest.raises(InputError, match=says):
            make.bundle(tmp_path / str(hash(says)), **{"wheel": own, "run": lambda words: None, **options})
    with pytest.raises(InputError):
        make.bundle(tmp_path / "full", wheel=own, run=lambda words: None)


def test_the_container_runs_as_nobody_reads_only_and_needs_no_network() -> None:
    text = (ROOT / "linkage_core" / "bundle" / "Containerfile").read_text()
    lines = text.replace("\\\n", " ").splitlines()
    steps = [line.split(None, 1) for line in lines if line.strip() and not line.startswith("#") and line[0] != " "]
    words = [step[0] for step in steps]
    assert words.index("RUN") < words.index("USER") < words.index("ENTRYPOINT")
    assert dict(steps)["USER"] == "10001:10001"
    assert dict(steps)["VOLUME"] == "/store"
    assert "--no-index" in text
    assert "/_stcore/health" in dict(steps)["HEALTHCHECK"]
    assert not {"apt-get", "gcc", "curl"} & set(text.split())
    if shutil.which("podman") is None:
        pytest.skip("podman is not here: the image was not built")


# ----------------------------------------------------------------------------------------- a machine without a network

SERVED = """
import fcntl, socket, struct, subprocess, sys, time, urllib.request
probe = socket.socket()
fcntl.ioctl(probe, 0x8914, struct.pack("16sh22x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running
linkage, folder = sys.argv[1:]
try:
    socket.create_connection(("1.1.1.1", 443), timeout=3)
    sys.exit("there is a network")
except OSError:
    pass
start = time.monotonic()
app = subprocess.Popen([linkage, "app", "--no-browser", "--port", "8765"], cwd=folder)
try:
    while True:
        try:
            print("health", urllib.request.urlopen("http://127.0.0.1:8765/_stcore/health", timeout=2).read().decode())
            break
        except OSError:
            if app.poll() is not None or time.monotonic() - start > 300:
                sys.exit("it does not answer")
            time.sleep(0.2)
    print("seconds", round(time.monotonic() - start, 1))
finally:
    app.terminate()
    app.wait()
"""


def cut_off() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*CUT, "true"], capture_output=True).returncode == 0


@pytest.mark.soak
def test_a_bundle_is_installed_and_serves_without_a_network(tmp_path: Path) -> None:
    """The whole way: gathered, checked, installed, verified and served. Writes benchmarks/bundle.json."""
    if not cut_off():
        pytest.skip("LOUD: network namespaces are forbidden here, so nothing was shown about a machine without one")
    log: dict[str, object] = {"python": HERE}
    start = time.monotonic()
    made = make.bundle(tmp_path / "bundle")
    log["gathered"] = {"wheels": made.wheels, "megabytes": round(made.size / 1e6), "seconds": since(start)}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHON": sys.executable, "LC_ALL": "C.UTF-8"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}

    def run(*words: str) -> str:
        done = subprocess.run([*CUT, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for name, words in (("check", ("--check",)), ("install", (str(tmp_path / "there"),))):
        start = time.monotonic()
        said = run("sh", str(made.folder / "install.sh"), *words)
        log[name] = {"says": said.replace(str(tmp_path), "...").splitlines(), "seconds": since(start)}
    linkage = str(tmp_path / "there" / "bin" / "linkage")
    verified = json.loads(run(linkage, "verify", "--json", "-"))
    assert verified
    assert not any(verified.values())
    log["verify"] = {"entries": len(verified), "damaged": sum(map(len, verified.values()))}
    served = run(str(tmp_path / "there" / "bin" / "python"), "-c", SERVED, linkage, str(tmp_path))
    assert "health ok" in served
    log["served"] = [line for line in served.splitlines() if line.startswith(("health", "seconds"))]
    (ROOT / "benchmarks" / "bundle.json").write_text(json.dumps(log, indent=1) + "\n")
    shutil.rmtree(tmp_path)


def since(start: float) -> float:
    return round(time.monotonic() - start, 1)
