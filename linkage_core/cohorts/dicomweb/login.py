"""Who asks the archive: a token, a name and password or a client certificate, from a file or the environment alone.

Nothing of it is ever printed: errors name the setting and not its value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from linkage_core.errors import InputError
from linkage_core.validate import nearest

ENVIRONMENT = "LINKAGE_DICOMWEB_"
"""What the names of environment variables begin with: LINKAGE_DICOMWEB_TOKEN and so on."""
_MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class Login:
    """`token` (bearer), or `user` and `password` (basic); `certificate` and `key` of a client; `ca`: a bundle of
    authorities that take the place of the usual ones. The last three are paths of PEM files. "" is not given."""

    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    certificate: str = ""
    key: str = ""
    ca: str = ""

    @property
    def is_secret(self) -> bool:
        """Whether anything is sent that nobody else may read."""
        return bool(self.token or self.user)


NAMES = tuple(one.name for one in fields(Login))


def login_of(path: Path | None, environment: Mapping[str, str] = os.environ) -> Login:
    """The login of a file with lines `name = value`, and of LINKAGE_DICOMWEB_* for what the file does not say.

    Raises InputError for a file that others can read, an unknown name, a token beside a user, half a pair, a value with
    a line break in it, and PEM files that are not there.
    """
    given = {name: environment.get(ENVIRONMENT + name.upper(), "") for name in NAMES}
    if path is not None:
        given |= _lines(path)
    for name, value in given.items():
        if not value.isprintable():
            raise InputError(
                f"The {name} of the login holds a letter that cannot be sent.", "Write it again, in one line."
            )
    login = Login(**given)
    if login.token and login.user:
        raise InputError("The login has both a token and a user.", "Give one of them.")
    for one, other in (("user", "password"), ("password", "user"), ("key", "certificate")):
        if given[one] and not given[other]:
            raise InputError(f"The login has a {one} and no {other}.", "Give both.")
    for name in ("certificate", "key", "ca"):
        if given[name] and not Path(given[name]).is_file():
            raise InputError(f"The {name} of the login is no file.", "Give the path of a PEM file.")
    return login


def _lines(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_mode & 0o077:
            raise InputError(f"{path} can be read by other accounts.", f"It holds a login: chmod 600 {path}")
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} is too large for a login.", "Give lines such as: token = ...")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"The login {path} cannot be read: {why}.", "Check its name and permissions.") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, sign, value = (part.strip() for part in line.partition("="))
        if not sign or name not in NAMES:  # the line itself may be a secret
            near = nearest(name, NAMES) if sign else ""
            raise InputError(
                f"{path}, line {number} is no setting of a login.{near}",
                f"Lines are `name = value`; the names are {', '.join(NAMES)}.",
            )
        found[name] = value
    return found
