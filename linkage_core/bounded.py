"""Files from elsewhere are read up to a bound: a regular file, so many bytes, however much they say they are.

Whatever a file of a cohort, an archive or a model is, it is opened here: a pipe would wait for ever, a device never
end, and a few bytes may unpack to all memory there is. What is wrong is an OSError with a sentence.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import IO, BinaryIO

MOST_UNPACKED = 1 << 28
"""Bytes that a packed file may always have unpacked; above it, MOST_TIMES its packed size."""
MOST_TIMES = 100
"""Tables and reports pack to a fifth or a twentieth; only what is made for it to a thousandth."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def regular(path: Path) -> BinaryIO:
    """A regular file, open for reading. OSError for a folder, a pipe or a device, without waiting for it."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is no regular file")
    return os.fdopen(handle, "rb")


def read(path: Path, most: int) -> bytes:
    """All bytes of a regular file; OSError where it has more than `most`."""
    with regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(min(size, most) + 1)
    if max(len(data), size) > most:
        raise OSError(f"{path} has more than {most:,} bytes")
    return data


def unpacked_size(packed: int) -> int:
    """Bytes that so many packed bytes may have unpacked.

    >>> unpacked_size(1000) == MOST_UNPACKED, unpacked_size(10**8)
    (True, 10000000000)
    """
    return max(MOST_UNPACKED, MOST_TIMES * packed)


def member(archive: zipfile.ZipFile, name: str | zipfile.ZipInfo) -> IO[bytes]:
    """One file of a ZIP archive, unpacked as it is read. OSError for a method whose output cannot be bounded."""
    info = archive.getinfo(name) if isinstance(name, str) else name
    if info.compress_type not in _METHODS:
        raise OSError(f"{info.filename} is packed by a method ({info.compress_type}) that is not read")
    if info.flag_bits & 1:
        raise OSError(f"{info.filename} is encrypted")
    return archive.open(info)


def member_bytes(archive: zipfile.ZipFile, name: str | zipfile.ZipInfo, most: int) -> bytes:
    """All bytes of one file of an archive; OSError where it has more than `most`, whatever the archive says."""
    with member(archive, name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(f"{getattr(name, 'filename', name)} has more than {most:,} bytes")
    return data
