"""Noise that is the same at every release of an image, and that nobody without the site's secret can work out.

Fresh noise at each download is undone by averaging. Noise keyed by a secret and the image makes a second release equal
to the first, bit for bit, so it tells nothing new and costs nothing. Then everything rests on the secret: whoever has
it has the noise. It stays at the site, in a file that its owner alone can read, and belongs to one cohort, by name: a
corrected label must not bring fresh noise. With its first charge it is bound to that ledger: another one would count
the same records from nothing.

The limits of bounds.py are for coins that are random; here they are pseudo-random, 256 bits, keyed by HMAC-SHA256
(Bellare 2006: a pseudo-random function) and stretched by SHAKE-256 (FIPS 202): to tell the two apart one would have to
break these.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from linkage_core.errors import InputError

KEY_BYTES = 32
_SCHEMA = 2


@dataclass(frozen=True)
class Secret:
    """A site's key for one cohort, by its name. The key is not part of repr, and `digest` names it without giving it
    away. ledger: where the ledger begins that it is bound to (Ledger.start), "" for none yet; last: number and digest
    of the last entry of it that this secret saw, by which an older copy shows."""

    key: bytes = field(repr=False)
    cohort: str
    ledger: str = field(default="", compare=False)
    last: tuple[int, str] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.key) < KEY_BYTES:
            raise InputError(f"The secret holds {len(self.key)} bytes.", f"It needs {KEY_BYTES}; make a new one.")

    @classmethod
    def create(cls, path: Path, cohort: str) -> Secret:
        """A new secret from the operating system's generator, in a new file of mode 0600.

        InputError where the file exists: a second secret would give every image a second, fresh release.
        """
        _require_name(cohort)
        made = cls(secrets.token_bytes(KEY_BYTES), cohort)
        try:
            made._write(path)
        except FileExistsError:
            raise InputError(
                f"The secret {path} exists.", "Use it: another one would release every image a second time."
            ) from None
        except OSError as error:
            raise InputError(
                f"The secret {path} cannot be written ({error.strerror}).", "Name another place."
            ) from None
        return made

    def bound(self, path: Path, ledger: str, last: tuple[int, str] | None = None) -> Secret:
        """The same in the same file, bound to a ledger from now on, with its last entry; it stays with the first one.
        OSError where the file cannot be written."""
        made = replace(self, ledger=self.ledger or ledger, last=last)
        path = Path(path).resolve()
        begun = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            made._write(begun)
            begun.replace(path)
        finally:
            begun.unlink(missing_ok=True)
        return made

    def _write(self, path: Path) -> None:
        """To a file that is not there yet, readable by its owner alone."""
        content = {"schema": _SCHEMA, "cohort": self.cohort, "key": self.key.hex()}
        content |= {"ledger": self.ledger, "last": self.last} if self.ledger else {}
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, path: Path, cohort: str) -> Secret:
        """The secret in a file; InputError where it is missing, short, altered, readable by others, or for another
        cohort."""
        _require_name(cohort)
        try:
            mode = Path(path).stat().st_mode
            held = json.loads(Path(path).read_bytes())
            key, whose, schema = bytes.fromhex(held["key"]), held["cohort"], held["schema"]
            ledger, last = str(held.get("ledger", "")), held.get("last")
            last = None if last is None else (int(last[0]), str(last[1]))
        except FileNotFoundError:
            raise InputError(f"There is no secret at {path}.", "Make one, once for a cohort.") from None
        except OSError as error:
            raise InputError(
                f"The secret {path} cannot be read ({error.strerror}).", "Name the site's own file."
            ) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            raise InputError(f"{path} is not a secret, or was altered.", "Restore it from the site's copy.") from None
        if os.name == "posix" and mode & 0o077:
            raise InputError(f"Others may read the secret {path} (mode {mode & 0o777:o}).", f"chmod 600 {path}")
        if schema != _SCHEMA:
            raise InputError(
                f"The secret {path} has schema {schema!r}, and this version reads {_SCHEMA}.",
                "Use it with the version that made it.",
            )
        if whose != cohort:
            raise InputError(
                f"The secret {path} belongs to another cohort ({whose!r}, not {cohort!r}).",
                "Each cohort has a secret of its own.",
            )
        if len(key) < KEY_BYTES:
            raise InputError(f"The secret {path} holds {len(key)} bytes.", f"It needs {KEY_BYTES}; it was cut short.")
        return cls(key, cohort, ledger, last)

    @property
    def digest(self) -> str:
        """Names the secret in a certificate: the same key has the same digest, and the key cannot be found from it."""
        return hmac.digest(self.key, b"digest", "sha256").hex()[:16]

    def stream(self, purpose: str, image: bytes) -> bytes:
        """32 bytes that depend on the key, the cohort, the purpose and the image, and on nothing else."""
        return hmac.digest(self.key, _preamble(purpose, self.cohort) + image, "sha256")

    def generator(self, purpose: str, image: bytes) -> np.random.Generator:
        """A generator of its own for one image and purpose; some 50 us each, so `uniforms` is for many.

        Philox keyed and placed by `stream`. Philox is not made to withstand an attacker: what is released in numbers
        takes `uniforms`.
        """
        words = np.frombuffer(self.stream(purpose, image), dtype="<u8")
        return np.random.Generator(np.random.Philox(key=words[:2], counter=[0, 0, *words[2:].tolist()]))

    def uniforms(self, purpose: str, images: Sequence[bytes], n: int) -> np.ndarray:
        """(n_images, n) float64 in (0, 1): the middle of one of 2^52 cells, each from 52 bits of SHAKE-256(stream).

        A row depends on its image alone, whatever rows are asked for with it.
        """
        if n < 1:
            raise InputError(f"n is {n}.", "Ask for at least one number an image.")
        start = hmac.new(self.key, _preamble(purpose, self.cohort), "sha256")
        drawn = bytearray()
        for image in images:
            one = start.copy()
            one.update(image)
            drawn += hashlib.shake_256(one.digest()).digest(8 * n)
        words = np.frombuffer(drawn, dtype="<u8").reshape(len(images), n)
        return ((words >> np.uint64(12)) + 0.5) * 2.0**-52


def image_key(feature_row: np.ndarray, weights_sha256: str) -> bytes:
    """Which image is this, to the noise? SHA-256 of the encoder's weights and of one row of its frozen features.

    The noise must be that of the image, not of a record's name: a name can be changed, and would bring fresh noise.
    feature_row (d,) as stored, before any head: a head that is retrained must not bring fresh noise either. Rows equal
    as float32 have equal keys. Features that were computed again may differ in the last digit, and then are another
    image: release from the store.
    """
    row = np.asarray(feature_row)
    if row.ndim != 1 or not np.issubdtype(row.dtype, np.floating) or not np.isfinite(row).all():
        raise InputError(f"The feature row has shape {row.shape} and type {row.dtype}.", "Give one row, finite.")
    if not weights_sha256:
        raise InputError("weights_sha256 is empty.", "It stands in the entry's manifest, under model.")
    content = (row + 0).astype("<f4").tobytes()  # -0.0 and 0.0 are one number
    return hashlib.sha256(_preamble("image", weights_sha256) + content).digest()


def _preamble(*parts: str) -> bytes:
    """Each part behind its length, so that no two lists of parts read the same."""
    coded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(8, "big") + part for part in coded)


def _require_name(cohort: str) -> None:
    if not cohort:
        raise InputError("The cohort's name is empty.", "Give the one that it has in the store.")
