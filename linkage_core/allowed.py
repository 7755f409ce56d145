"""What the pages may read: folders and archives that whoever started the server has named, and nothing else.

`linkage app --allow-root DIR` names a folder, `--allow-archive URL` a DICOMweb server; both are handed to the pages in
the environment. Nothing is listed, no path is looked up and no connection is opened outside them.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from linkage_core.errors import InputError

ROOTS, ARCHIVES = "LINKAGE_ALLOW_ROOTS", "LINKAGE_ALLOW_ARCHIVES"
EXPOSED = "LINKAGE_ALLOW_BEYOND_LOOPBACK"
"""Names in the environment: the folders and the addresses as JSON; and "1" where a server that others reach may take
data too."""
LISTED = 200
"""Folders that are listed at most."""


def handed_over(folders: Sequence[Path]) -> str:
    """The folders as they stand in the environment. InputError for one that is none."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}.", "Give one that there is: --allow-root DIR")
    return json.dumps([str(folder.resolve()) for folder in folders])


def roots(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The folders that may be read; none where none is named, or where what is named cannot be read.

    >>> roots({}), roots({ROOTS: "nonsense"}), roots({ROOTS: '["/nowhere/at/all"]'})
    ((), (), ())
    """
    return tuple(Path(one).resolve() for one in _named(environ, ROOTS) if Path(one).is_dir())


def archives(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses of archives that may be asked; none where none is named.

    >>> archives({ARCHIVES: '["https://pacs.example/dicom-web"]'}), archives({})
    (('https://pacs.example/dicom-web',), ())
    """
    return tuple(_named(environ, ARCHIVES))


def _named(environ: Mapping[str, str], name: str) -> list[str]:
    """The strings of a list in the environment."""
    try:
        named = json.loads(environ.get(name, "[]"))
    except ValueError:
        return []
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def loopback(address: str | None) -> bool:
    """Whether a server at this address is reached from its own machine alone.

    >>> [loopback(one) for one in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", None, "10.0.0.5", "host.example")]
    [True, True, True, False, False, False, False, False]
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False


def why_closed(environ: Mapping[str, str], address: str | None) -> InputError | None:
    """Why this server takes no data at all, None where it does."""
    if loopback(address) or environ.get(EXPOSED) == "1":
        return None
    return InputError(
        "This server can be reached from other machines, so it neither reads nor changes data.",
        f"Start it for this machine alone with `linkage app`, or, knowing who reaches it, with {EXPOSED}=1.",
    )


def inside(text: str, allowed: Sequence[Path], *, folder: bool | None = False) -> Path:
    """The file that a person names, the folder, or (folder None) either; its links followed. A path that is not whole
    is below the first root.

    Raises InputError for one outside the roots, whether it is there or not, and for one that is not there.
    """
    if not allowed:
        raise InputError(
            "This server may read no folder.", "Start it with the folders it may read: `linkage app --allow-root DIR`."
        )
    text = text.strip()
    if not text or "\0" in text:
        raise InputError("No path was given.", f"It may lie below: {_names(allowed)}.")
    try:
        found = (allowed[0] / text).resolve()
    except (OSError, RuntimeError) as error:  # links in a circle, a name too long
        raise InputError(f"{text} is no path that can be followed.", "Correct it.") from error
    if not any(found.is_relative_to(root) for root in allowed):
        raise InputError(
            f"{text} lies outside the folders that this server may read.",
            f"They are: {_names(allowed)}. Others: `linkage app --allow-root DIR`.",
        )
    try:
        there = (found.is_dir() and folder is not False) or (found.is_file() and not folder)
    except OSError:
        there = False
    if not there:
        what = "file or folder" if folder is None else "folder" if folder else "file"
        raise InputError(f"There is no {what} {text}.", "Correct the path.")
    return found


def _names(allowed: Sequence[Path]) -> str:
    return ", ".join(shown(str(root), allowed) for root in allowed)


def refuse_links_out(folder: Path, allowed: Sequence[Path]) -> None:
    """InputError where something directly in a folder is a link that leads outside the roots."""
    for one in folder.iterdir():
        if one.is_symlink() and not any(one.resolve().is_relative_to(root) for root in allowed):
            raise InputError(
                f"{one.name} in {folder.name} is a link to a place that this server may not read.",
                "Put the file itself there, or allow that folder too.",
            )


def listed(allowed: Sequence[Path]) -> list[str]:
    """The roots and the folders directly in them, to choose from; links that lead out are not shown."""
    found: list[str] = []
    for root in allowed:
        found.append(str(root))
        try:
            inner = sorted(one for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
        except OSError:
            continue
        found += [str(one) for one in inner if any(one.resolve().is_relative_to(root) for root in allowed)]
    return found[:LISTED]


def shown(folder: str, allowed: Sequence[Path]) -> str:
    """A folder of `listed` by names alone, from its root on; roots of one name are numbered.

    >>> roots = [Path("/data/a/films"), Path("/data/b/films"), Path("/data/ward")]
    >>> [shown(one, roots) for one in ("/data/a/films", "/data/b/films/2024", "/data/ward/7")]
    ['films', 'films (2)/2024', 'ward/7']
    """
    root = next(one for one in allowed if Path(folder).is_relative_to(one))
    number = 1 + [one.name for one in allowed[: list(allowed).index(root)]].count(root.name)
    below = Path(folder).relative_to(root).parts
    return "/".join([root.name + (f" ({number})" if number > 1 else ""), *below])


def told(text: str, allowed: Sequence[Path]) -> str:
    """A sentence about files without where the roots lie on this machine.

    >>> told("/data/a/films/x.csv is no table; see /data/a.", [Path("/data/a/films"), Path("/data")])
    'films/x.csv is no table; see data/a.'
    """
    for root in sorted(allowed, key=lambda one: -len(str(one))):
        text = text.replace(str(root), shown(str(root), allowed))
    return text
