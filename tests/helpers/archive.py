"""A real archive: Orthanc with its DICOMweb plug-in, started for a test on a free port and stopped after it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

PLUGINS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc/plugins", "/usr/lib/orthanc")
USER, PASSWORD = "reader", "a-password-of-a-test"
LARGEST = 16 << 20  # bytes of one STOW request


def why_not() -> str:
    """Why no archive can be started here; "" where it can."""
    if shutil.which("Orthanc") is None:
        return "Orthanc is not installed (apt-get install orthanc orthanc-dicomweb)"
    if not _plugin():
        return "Orthanc has no DICOMweb plug-in (apt-get install orthanc-dicomweb)"
    return ""


def _plugin() -> str:
    found = (next(Path(folder).glob("libOrthancDicomWeb.so*"), None) for folder in PLUGINS if Path(folder).is_dir())
    return next((str(path) for path in found if path), "")


@dataclass
class Archive:
    """A running archive; `url` is its DICOMweb service."""

    url: str
    process: subprocess.Popen[bytes]

    def store(self, files: Iterable[bytes]) -> None:
        """Send DICOM files by STOW-RS."""
        batch: list[bytes] = []
        for file in files:
            batch.append(file)
            if sum(map(len, batch)) > LARGEST:
                self._store(batch)
                batch = []
        if batch:
            self._store(batch)

    def _store(self, files: list[bytes]) -> None:
        mark = uuid.uuid4().hex
        parts = [f"--{mark}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file + b"\r\n" for file in files]
        said = requests.post(
            f"{self.url}/studies",
            data=b"".join([*parts, f"--{mark}--\r\n".encode()]),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={mark}',
                "Accept": "application/dicom+json",
            },
            auth=(USER, PASSWORD),
            timeout=300,
        )
        said.raise_for_status()


@contextmanager
def archive(folder: Path) -> Iterator[Archive]:
    """An empty archive below the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [_plugin()],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log.txt").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Archive(f"http://127.0.0.1:{port}/dicom-web", process)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
