"""What disks of other kinds cannot do: network and shared folders without locks, or without a sync of a folder."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from linkage_core.errors import LinkageError, StoreError

_log = logging.getLogger(__name__)
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EBADF)
"""What a disk answers that cannot sync a folder: CIFS before Linux 4.17, VirtualBox, sshfs. Files are synced there."""
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)
"""What a disk answers that keeps no locks: Lustre without `-o flock`, NFSv3 without a lock daemon."""


_said_of: set[int] = set()
"""Disks of which it was said."""


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk. Where the disk has no such thing, that is said once, and no error."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        if (device := os.fstat(handle).st_dev) not in _said_of:
            _said_of.add(device)
            _log.warning("The disk of %s syncs no folders: after a power cut its last files may be missing.", folder)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """A file that somebody asked for: whole, or as it was. What is no regular file (a pipe, a terminal) is written."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if path.exists():  # whoever closed it to others finds it closed
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def lock(handle: int, path: Path, busy: LinkageError, *, shared: bool = False) -> None:
    """Hold an open file for this process alone, until it is closed; or beside others that hold it `shared`.

    `busy` where another process holds it otherwise. StoreError where the disk keeps no locks: two runs could not be
    told apart there.
    """
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise StoreError(
            f"The disk of {path} keeps no locks ({error.strerror}): two runs could write the same files.",
            "Name a folder on a local disk, or have this disk mounted with locks (Lustre: -o flock; NFSv3: its lock "
            "daemon).",
        ) from error
