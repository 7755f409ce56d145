"""Images of a cohort, read and made ready by other processes, in the order they were asked for.

A decoder fed with a hostile file may crash, run for ever or ask for all memory there is. So each file is decoded by a
process that has a bounded address space and a bounded time, and whose end is one more reason to reject that file. A
process is started as a fresh interpreter (nothing is forked, and the caller's main module is not run again) and ends
when its pipe closes, so none outlives a run that was killed. What comes back is a JSON header and raw bytes: nothing
that a decoder was made to say is ever unpickled.
"""

from __future__ import annotations

import json
import os
import pickle  # to hand our own functions to our own processes
import resource
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np

from linkage_core.errors import ImageError, InputError
from linkage_core.images.notes import NOTES
from linkage_core.images.pixels import Radiograph

CPU_SECONDS = 10.0  # of one file; the largest that is read takes two or three
WALL_SECONDS = 120.0  # of one file, for disks that no longer answer
START_SECONDS = 120.0
MEMORY = 1 << 30  # bytes of data a process may hold
KEPT = 1 << 27  # bytes of free memory a process keeps: to get them anew for each image costs as much as decoding it
FETCH_LANES = 2  # for each worker where rows are fetched first: one waits for its bytes while another decodes
LEAST_ROWS = 64  # fewer are not worth several processes: starting them would take longer

Row = dict[str, Any]
Facts = dict[str, str]
"""What was read of a file in words, where nobody asks for pixels."""
Read = Callable[[Row], Radiograph | Facts | np.ndarray]
"""What reads a row. Facts, and an array (what was looked for in a file), are handed on as they are."""
Picture = Callable[[np.ndarray], np.ndarray]
"""(height, width) uint16 shown values -> what an image tower is fed with, small; picklable, and without torch."""
Reading = Radiograph | np.ndarray | Facts | ImageError
"""What became of one row: the radiograph, the picture of it or the words where these are asked for, or the reason why
not."""

Told = tuple[Reading, tuple[str, ...]]
"""What became of one row, and the notes about its image."""

_TYPES = {"uint8", "uint16", "float32"}


def default_workers() -> int:
    """As many as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(n_rows: int) -> int:
    """As many for so many rows."""
    return default_workers() if n_rows >= LEAST_ROWS else 1


def read_one(read: Read, picture: Picture | None, row: Row) -> Told:
    """One row, here and now."""
    try:
        radiograph = read(row)
        if isinstance(radiograph, dict | np.ndarray):
            return radiograph, ()
        return radiograph if picture is None else picture(radiograph.pixels), radiograph.notes
    except ImageError as error:
        return error, ()
    except MemoryError:
        why = f"{_name(row)} does not fit into memory when decoded."
        return ImageError("too-large", why, "Check what this file is."), ()


class Readers:
    """Processes (or, with `workers` 0, two threads) that read rows of a cohort; a context manager."""

    def __init__(
        self,
        read: Read,
        picture: Picture | None = None,
        workers: int = 0,
        *,
        fetch: Callable[[Row], Row] | None = None,
        cpu_seconds: float = CPU_SECONDS,
        wall_seconds: float = WALL_SECONDS,
        memory: int = MEMORY,
    ) -> None:
        """`read` and `picture` go to other processes, so they are functions of a module or partials of them; where
        they cannot be sent, threads read. `fetch` is called here, by a thread, before a row goes to a process: it may
        add to the row, raise ImageError, or end the run by another error."""
        self._read, self._picture, self._fetch = read, picture, fetch
        self._limits = (cpu_seconds, wall_seconds, memory)
        self._job = _sendable((read, picture, cpu_seconds, memory)) if workers else None
        self.workers = workers if self._job is not None else 0
        lanes = (self.workers or 2) * (1 if fetch is None else FETCH_LANES)
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="reader")
        self._own = threading.local()
        self._started: list[_Process] = []
        self.noted: dict[str, tuple[int, str]] = {}
        """Note -> of how many of the images handed out so far, and the first of them."""

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._started:
            process.end()
        self._threads.shutdown(wait=True)

    def read(self, rows: Iterable[Row], ahead: int) -> Iterator[Reading]:
        """One reading a row, in order; at most `ahead` rows are read before they are taken."""
        waiting: deque[tuple[Row, Future[Told]]] = deque()
        for row in rows:
            waiting.append((row, self._threads.submit(self._one, row)))
            if len(waiting) > ahead:
                yield self._taken(*waiting.popleft())
        while waiting:
            yield self._taken(*waiting.popleft())

    def _taken(self, row: Row, future: Future[Told]) -> Reading:
        reading, notes = future.result()
        for note in notes:
            n, first = self.noted.get(note, (0, _name(row)))
            self.noted[note] = (n + 1, first)
        return reading

    def _one(self, row: Row) -> Told:
        if self._fetch is not None:
            try:
                row = self._fetch(row)
            except ImageError as error:
                return error, ()
        if self._job is None:
            return read_one(self._read, self._picture, row)
        for last in (False, True):  # once more where a process ended: the system may have ended it for another's memory
            process = getattr(self._own, "process", None)
            if process is None:
                process = self._own.process = _Process(self._job)
                self._started.append(process)
            told = process.ask(row, self._limits[1])
            if told is not None:
                return told
            process.end()
            self._own.process = None
            self._started.remove(process)
            why = process.ended_for(self._limits)
            if why is not None or last:
                break
        stopped = ImageError(
            "decoder-stopped",
            f"The process that decoded {_name(row)} {why or 'crashed'}.",
            "Copy the file again from its source, or save it in another format.",
        )
        return stopped, ()


class _Process:
    """One fresh interpreter that reads what it is told."""

    def __init__(self, job: bytes) -> None:
        self._timed_out = False
        self._pipe, theirs = Pipe()
        paths = os.pathsep.join(path or str(os.getcwd()) for path in sys.path)  # noqa: PTH109
        settings = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        settings |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), str(KEPT))  # of glibc
        code = f"from linkage_core.images.processes import serve; serve({theirs.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env=os.environ | settings | {"PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for the run; its readers end with their pipes
        )
        theirs.close()
        try:
            self._pipe.send_bytes(job)
            ready = self._pipe.poll(START_SECONDS) and self._pipe.recv_bytes() == b"ready"
        except (OSError, EOFError):
            ready = False
        if not ready:
            self._process.kill()
            said = self._process.communicate()[1].decode(errors="replace").strip().splitlines()
            raise InputError(
                f"A process to read images could not be started: {said[-1] if said else 'it said nothing'}.",
                "Run again with fewer --workers, or with more memory at hand.",
            )

    def ask(self, row: Row, seconds: float) -> Told | None:
        """What became of a row; None if the process is no more, or did not answer in time."""
        try:
            self._pipe.send(row)
            if not self._pipe.poll(seconds):
                self._timed_out = True
                return None
            said = json.loads(self._pipe.recv_bytes())
            if "reason" in said:
                return ImageError(str(said["reason"]), str(said["what"]), str(said["remedy"])), ()
            if "words" in said:
                return {str(name): str(text) for name, text in said["words"].items()}, ()
            if said["dtype"] not in _TYPES:
                return None
            values = np.frombuffer(self._pipe.recv_bytes(), said["dtype"]).reshape(said["shape"])
            notes = tuple(note for note in said["notes"] if note in NOTES)
            return Radiograph(values, int(said["bits"]), notes) if "bits" in said else values, notes
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def ended_for(self, limits: tuple[float, float, int]) -> str | None:
        """Why it is no more, where that was the file's doing for certain."""
        if self._timed_out:
            return f"gave no answer for {limits[1]:g} seconds"
        return f"needed more than {limits[0]:g} seconds" if self._process.returncode == -signal.SIGPROF else None

    def end(self) -> None:
        """Stop it, if it still runs."""
        with suppress(subprocess.TimeoutExpired):
            if not self._timed_out:
                self._process.wait(0.2 if self._process.poll() is None else 0)
        self._process.kill()
        self._process.wait()
        self._pipe.close()
        if self._process.stderr:
            self._process.stderr.close()


def serve(handle: int) -> None:
    """What a reading process does: rows in, headers and bytes out, until the pipe closes."""
    pipe = Connection(handle)
    read, picture, cpu_seconds, memory = pickle.loads(pipe.recv_bytes())  # noqa: S301  (our own, from our own parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ValueError, OSError):  # not every system bounds it
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    pipe.send_bytes(b"ready")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # decoders in C complain there, and nobody listens
    with suppress(EOFError, OSError):
        while True:
            row = pipe.recv()
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # its signal ends the process, whatever C code it is in
            reading, notes = read_one(read, picture, row)
            signal.setitimer(signal.ITIMER_PROF, 0)
            _answer(pipe, reading, notes)


def _answer(pipe: Connection, reading: Reading, notes: tuple[str, ...]) -> None:
    if isinstance(reading, ImageError):
        said = {"reason": reading.reason, "what": reading.what, "remedy": reading.remedy}
        pipe.send_bytes(json.dumps(said).encode())
        return
    if isinstance(reading, dict):
        pipe.send_bytes(json.dumps({"words": reading}).encode())
        return
    values = reading.pixels if isinstance(reading, Radiograph) else reading
    header: dict[str, Any] = {"dtype": str(values.dtype), "shape": values.shape, "notes": notes}
    if isinstance(reading, Radiograph):
        header["bits"] = reading.bits
    pipe.send_bytes(json.dumps(header).encode())
    pipe.send_bytes(np.ascontiguousarray(values).data.cast("B"))


def _sendable(job: Any) -> bytes | None:
    """A job as bytes; None where it holds what only this process knows."""
    try:
        return pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _name(row: Row) -> str:
    return str(row.get("image") or row.get("record_id"))
