"""One file that says itself what it was made from and whether it is whole: counts and arrays under `ranks/`.

The note in a file ends with its seal: the sha256 of the file's own bytes, where the seal stands as zeros. So table,
fingerprint and check are replaced by one rename, and whoever reads while another writes sees one state or the other.
Files written before that have a small `.json` beside them instead, and are read as long as they stand.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from linkage_core.errors import StoreError

_MARK = b"sha256 of the rest: "
_OPEN = b"0" * 64
OPEN = (_MARK + _OPEN).decode()
"""What stands in a note where the seal will."""


def sealed(content: bytes) -> bytes:
    """The bytes of a file, whose note holds OPEN, with its seal.

    >>> whole(sealed(b"counts, " + OPEN.encode())), whole(sealed(OPEN.encode()).replace(b"rest", b"Rest"))
    (True, None)
    """
    before, mark, after = content.rpartition(_MARK + _OPEN)  # the last: ids, which stand before it, say what they like
    return before + _MARK + hashlib.sha256(content).hexdigest().encode() + after if mark else content


def whole(content: bytes) -> bool | None:
    """Whether a file is as it was sealed; None for one without a seal."""
    at = content.rfind(_MARK)
    if at < 0:
        return None
    at += len(_MARK)
    again = hashlib.sha256(content[:at] + _OPEN + content[at + len(_OPEN) :]).hexdigest().encode()
    return content[at : at + len(_OPEN)] == again


def problem(path: Path, content: bytes | None = None) -> str:
    """What is wrong with a file under `ranks/`; "" for nothing."""
    try:
        content = path.read_bytes() if content is None else content
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})."
    note = path.with_suffix(".json")
    right = whole(content)
    if right is None and note.is_file():
        right = _beside(note).get("sha256") == hashlib.sha256(content).hexdigest()
    if right is None:
        right = False  # the seal is gone with the end of the file, or the .json that stood beside it is
    return "" if right else f"{path} was altered or cut short since it was written."


def made_from(path: Path, inputs: str, told: Any, remedy: str) -> bytes | None:
    """The bytes of a file under `ranks/` that was made from these inputs; None where there is none of these.

    told: bytes -> what the note in the file says, a dict. StoreError for a file that is not what was written.
    """
    if not path.is_file():
        return None
    content = path.read_bytes()
    note, right = path.with_suffix(".json"), whole(content)
    if right is None and note.is_file() and _beside(note, remedy).get("inputs") != inputs:
        return None
    if not right and (found := problem(path, content)):
        raise StoreError(found, remedy)
    return content if right is None or told(content).get("inputs") == inputs else None


def _beside(note: Path, remedy: str = "") -> dict[str, Any]:
    """What the .json of an older file says. StoreError where a `remedy` is given and it cannot be read."""
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if remedy:
            raise StoreError(f"{note} cannot be read ({error}).", remedy) from error
        return {}
    return said if isinstance(said, dict) else {}
