"""Who saw what, in a file that is only ever added to, for institutions that must keep one. Off unless a file is named.

One JSON object a line: when (UTC), who, what was shown ("cohort", "image" or "report"), its cohort, and the record or
study. No text, no finding, no figure. Each line is one write to a file opened for appending, and is on the disk before
the page is: lines of several processes do not mix, and a kill takes away no line of what somebody saw.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from explorer.frame import visitor
from linkage_core.errors import StoreError

FILE = "LINKAGE_ACCESS_LOG"
"""Its name in the environment; empty or absent: no log."""


def shown(what: str, cohort: str, names: Iterable[str] = ("",)) -> None:
    """Notes that this session is shown something; each once a session. StoreError where it cannot be noted: then it may
    not be shown either."""
    file = os.environ.get(FILE)
    if not file:
        return
    noted: set[tuple[str, str, str]] = st.session_state.setdefault("access noted", set())
    new = [name for name in dict.fromkeys(names) if (what, cohort, name) not in noted]
    if new:
        append(Path(file), who=visitor.name(), what=what, cohort=cohort, names=new)
        noted.update((what, cohort, name) for name in new)


def append(file: Path, *, who: str, what: str, cohort: str, names: Iterable[str]) -> None:
    """One line a name, on the disk when this returns. The file is made for its owner alone."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    told = {"when": at, "who": who, "what": what, "cohort": cohort}
    lines = "".join(json.dumps({**told, **({"record": name} if name else {})}) + "\n" for name in names).encode()
    try:
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            if os.fstat(handle).st_size and os.lseek(handle, -1, os.SEEK_END) and os.read(handle, 1) != b"\n":
                lines = b"\n" + lines  # a disk that was full took a part of the line before
            if os.write(handle, lines) != len(lines):
                raise OSError("the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(
            f"The access log cannot be written ({error.strerror or error}), so nothing is shown.",
            "Give it room, or a place that can be written: --access-log FILE",
        ) from error
