"""The pieces of one run, made by the processes of an engine instead of this one: a cluster of Ray.

An engine is handed what a piece is called and where the store lies, never the piece itself: each worker opens the same
work from the same options, writes the piece with the store's own rename and hash, and returns its name. So a piece
that is made twice, by a task that was tried again, is the same piece; and whoever starts the run again asks the store
what is missing. Ray is imported here alone, and only where it is asked for.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from linkage_core import errors, shipped
from linkage_core.errors import InputError, LinkageError
from linkage_core.progress import Progress, silent

TRIES = 6
"""How often a piece is begun before a run ends because its worker, or the worker's node, was lost each time."""

REACHED_WITHIN, NO_NODE_FOR, LOOKS_EVERY = 10.0, 60.0, 1.0
"""Seconds: for a cluster to answer; without any processor in it; between two looks at what is done."""

AHEAD = 3
"""Tasks under way or waiting for each processor of the cluster."""


class Work(Protocol):
    """What can be made piece by piece, by anybody who opens it from the same options."""

    stage: str
    """What the progress bar calls its pieces."""

    folder: Path
    """The entry in the store."""

    key: str
    """Fingerprint of all that goes into it; workers with another one make nothing."""

    device: str
    """cpu or cuda."""

    def missing(self) -> list[int]:
        """Places of the pieces that have to be made."""
        ...

    def make(self, place: int, cores: int) -> str:
        """Make and write one piece with so many processors, and return its name."""
        ...


@dataclass(frozen=True)
class Job:
    """How workers open the same work: a function as `module:name`, and its arguments, all of them JSON."""

    opens: str
    options: dict[str, Any]

    def open(self) -> Work:
        """The work, in this process."""
        module, _, name = self.opens.partition(":")
        work: Work = getattr(importlib.import_module(module), name)(**self.options)
        return work


@dataclass(frozen=True)
class Engine:
    """An engine that was asked for: its name in ENGINES, and where its cluster is ("" for one on this machine)."""

    name: str
    address: str = ""

    def run(self, work: Work, job: Job, progress: Progress = silent) -> None:
        """Make what is missing of a work. InputError where the engine is absent, or cannot make it."""
        missing = work.missing()
        if missing:
            ENGINES[self.name](self.address, work, job, missing, progress)


def engine_of(text: str | None) -> Engine | None:
    """What --engine says; None for none. InputError for anything else.

    >>> engine_of("none"), engine_of("ray"), engine_of("ray://head:10001"), engine_of("10.0.0.1:6379")
    (None, Engine(name='ray', address=''), Engine(name='ray', address='ray://head:10001'), \
Engine(name='ray', address='10.0.0.1:6379'))
    """
    if text is None or text == "none":
        return None
    if text in ENGINES:
        return Engine(text)
    if re.fullmatch(r"(ray://)?([A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}", text):
        return Engine("ray", text)
    raise InputError(
        f"--engine is {text!r}.",
        "Give ray for the cores of this machine, ray://HOST:PORT or HOST:PORT for a cluster, or none.",
    )


# -------------------------------------------------------------------------------------------------------------- Ray


def _on_ray(address: str, work: Work, job: Job, missing: list[int], progress: Progress) -> None:
    with _seen(work.folder) as seen, _cluster(address) as ray:
        _tasks(ray, work, json.dumps([job.opens, job.options, work.key, *seen]), missing, progress)


ENGINES = {"ray": _on_ray}
"""What --engine may name beside none -> what makes the missing pieces of a work."""


@contextmanager
def _seen(folder: Path) -> Iterator[tuple[str, str]]:
    """(file, word) by which a worker tells whether it sees the same store."""
    shipped.refuse_to_write(folder)
    word = secrets.token_hex(16)
    file = folder.absolute() / "parts" / f"engine-{word[:8]}"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(word, encoding="ascii")
    try:
        yield str(file), word
    finally:
        file.unlink(missing_ok=True)
        with suppress(OSError):  # parts left something there
            file.parent.rmdir()


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Ray, connected; a cluster of this machine's own listens to this machine alone, and to whoever knows its word."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    how: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address:
        _answers(address)
    else:
        # what Ray does on other systems by itself: all ports at 127.0.0.1 (its own option for that takes no loopback)
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        how |= {"include_dashboard": False}
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--engine ray needs the package ray, which is not installed.", "pip install 'linkage-explorer[ray]'"
        ) from error
    if address.startswith("ray://"):
        how = {"logging_level": "ERROR"}  # all else is the cluster's own
    try:
        ray.init(address=address or "local", **how)
    except (RuntimeError, ConnectionError, ValueError, OSError, ImportError, ray.exceptions.RayError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise InputError(
            f"Ray at {address or 'this machine'} cannot be used: {said}",
            "Both sides need the same versions of Python and Ray; HOST:PORT is for a node of the cluster, others take "
            "ray://HOST:PORT.",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"Nothing answers at {address} ({error}).", "Is the cluster up (`ray status`), and is that its port?"
        ) from error


def _tasks(ray: Any, work: Work, job: str, missing: list[int], progress: Progress) -> None:
    """One task a piece, a few ahead of what the cluster computes at once; the first error ends all of them."""
    there = ray.cluster_resources()
    cpus, gpus = int(there.get("CPU", 0)), int(there.get("GPU", 0))
    if work.device == "cuda" and not gpus:
        raise InputError("The model is on a GPU here, and the cluster has none.", "Give --device cpu.")
    on_gpu = {"num_gpus": 1} if work.device == "cuda" else {}
    cores = max(1, cpus // gpus) if on_gpu else 1
    ahead = AHEAD * max(1, gpus if on_gpu else cpus)
    make = ray.remote(num_cpus=cores, max_retries=TRIES - 1, **on_gpu)(_piece)
    waiting, done, last_seen = list(reversed(missing)), 0, time.monotonic()
    running: dict[Any, int] = {}
    progress(work.stage, 0, len(missing))
    try:
        while waiting or running:
            while waiting and len(running) < ahead:
                place = waiting.pop()
                running[make.remote(job, place, cores)] = place
            ready, _ = ray.wait(list(running), timeout=LOOKS_EVERY)
            for one in ready:
                _made(ray, one, work.stage, running.pop(one))
                done += 1
                progress(work.stage, done, len(missing))
            if ready or ray.cluster_resources().get("CPU", 0):
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > NO_NODE_FOR:
                raise InputError(
                    f"The cluster has had no processor for {NO_NODE_FOR:.0f} seconds.",
                    "What was finished stays; the same command goes on from there once a node has joined.",
                )
    finally:
        for one in running:
            with suppress(ray.exceptions.RayError, ConnectionError, RuntimeError):
                ray.cancel(one, force=True)


def _made(ray: Any, task: Any, stage: str, place: int) -> None:
    """What a task returned; its error as one of this package's."""
    try:
        kind, what, remedy = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause if error.cause is not None else error
        missing = isinstance(cause, ImportError)
        raise InputError(
            f"A worker could not make piece {place + 1} of the {stage}: {type(cause).__name__}.",
            "Install this version of linkage-explorer on every node."
            if missing
            else "The same command without --engine shows where it comes from.",
        ) from None
    except ray.exceptions.RayError as error:
        raise InputError(
            f"Piece {place + 1} of the {stage} was begun {TRIES} times, and its worker or node was lost each time "
            f"({type(error).__name__}).",
            "Memory may have run out there: give nodes fewer processors (ray start --num-cpus). What was finished "
            "stays; the same command goes on from there.",
        ) from None
    if kind:
        raise getattr(errors, kind, InputError)(what, remedy)


def _piece(job: str, place: int, cores: int) -> tuple[str, str, str]:
    """On a worker: ("", name of the piece, ""), or the kind of error, what, remedy."""
    here = socket.gethostname()
    try:
        return "", _opened(job).make(place, cores), ""
    except LinkageError as error:
        kind = type(error).__name__ if hasattr(errors, type(error).__name__) else "InputError"
        kind = "InputError" if kind == "ImageError" else kind  # which takes more than these two
        return kind, f"On {here}: {error.what}", error.remedy
    except MemoryError:
        return "InputError", f"On {here}: memory ran out.", "Give nodes fewer processors (ray start --num-cpus)."
    except OSError as error:
        return "InputError", f"On {here}: {error}", "Check the path, its permissions and the free disk space there."


@lru_cache(maxsize=1)
def _opened(job: str) -> Work:
    """A worker process opens the work (records, vectors, model) once, and makes many pieces of it."""
    opens, options, key, file, word = json.loads(job)
    try:
        same = Path(file).read_text(encoding="ascii") == word
    except OSError:
        same = False
    if not same:
        raise InputError(
            f"A worker does not see the store of this run ({Path(file).parent.parent}).",
            "Mount one folder at the same path on every node, writable for whoever runs Ray there.",
        )
    work = Job(opens, options).open()
    if work.key != key:
        raise InputError(
            f"A worker would make {work.stage} from other records, weights or package versions than here.",
            "Install the same packages and models on every node, and read the images from the same path.",
        )
    return work
