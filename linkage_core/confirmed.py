"""Which folders of images has this user read with this tool? A store from elsewhere opens no others.

The manifest of an entry names the folder that its images and reports lie in. Whoever hands over a store writes that
name, so it is followed only where this user has read that very folder here: `embed` and `cohort` note it, one line a
folder, in a file that is the user's alone. Folders that a server was started with (`--allow-root`) count too.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from linkage_core import allowed

_NAME = "confirmed-roots"


def path() -> Path | None:
    """The file; None where the user has no home."""
    state = os.environ.get("XDG_STATE_HOME")
    try:
        return (Path(state) if state else Path.home() / ".local" / "state") / "linkage-explorer" / _NAME
    except RuntimeError:
        return None


def confirm(root: Path) -> None:
    """Note a folder that the user has named. Where that cannot be kept, it has to be said again."""
    file = path()
    if file is None or is_confirmed(root):
        return
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "a", encoding="ascii") as lines:
            lines.write(json.dumps(str(root.resolve())) + "\n")


def is_confirmed(root: Path) -> bool:
    """Whether images and texts of this folder may be opened because a store says so."""
    resolved = root.resolve()
    if any(resolved.is_relative_to(one) for one in allowed.roots(os.environ)):
        return True
    file = path()
    try:
        lines = file.read_text(encoding="ascii").splitlines() if file else []
    except (OSError, ValueError):
        return False
    return json.dumps(str(resolved)) in lines
