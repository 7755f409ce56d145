"""Long work beside the pages: one run at a time, in a thread of its own, which can be cancelled and outlives a page.
What others ask for meanwhile waits its turn and says so.

A run knows nothing of Streamlit: it reports progress by calling back, and cancelling raises from that call. Runs belong
to the server, as the store does that they write to: whoever looks at the cohort that one is for sees how far it is, and
may cancel it, whichever tab began it; others see that it is going on. A run whose result is for one session alone says
so by `wanted`, and is stopped when nobody has wanted it for a while.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from linkage_core.errors import LinkageError

Progress = Callable[[str, int, int], None]


class Cancelled(Exception):
    """Raised inside a run that somebody has cancelled."""


@dataclass(eq=False)
class Job:
    """One run as a page sees it. `error` is (what, remedy) where it failed; `n_reports` counts calls back; `remarks`
    are what it said by the way, such as what it left out. `began` is in seconds of time.monotonic. `beside`: it takes
    seconds, and no other run waits for it."""

    key: Hashable
    title: str
    stage: str = ""
    done: int = 0
    total: int = 0
    finished: bool = False
    cancelled: bool = False
    error: tuple[str, str] | None = None
    n_reports: int = 0
    result: Any = None
    remarks: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    beside: bool = False
    waiting: bool = False
    wanted: Callable[[], bool] | None = None
    _seen: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return not self.finished

    @property
    def stopping(self) -> bool:
        return self._stop.is_set() and not self.finished

    @property
    def share(self) -> float:
        """How much is done, between 0 and 1."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    def words(self) -> str:
        """How far it is, in a line.

        >>> Job("key", "training", stage="mine: steps", done=3, total=10, began=time.monotonic() - 65).words()
        'steps, 3 of 10, 1:05 so far'
        """
        if self.stopping:
            return "stopping …"
        if self.waiting:
            before = ahead(self)
            return f"waiting for {before} other run{'s' if before != 1 else ''}" if before else "about to begin"
        stage = self.stage.split(": ")[-1] or self.title
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        return ", ".join(
            [stage, *([f"{self.done:,} of {self.total:,}"] if self.total else []), f"{minutes}:{seconds:02} so far"]
        )

    def cancel(self) -> None:
        """Ends the run at its next report, one that waits at once."""
        self._stop.set()
        with _TURN:
            _TURN.notify_all()

    def abandoned(self) -> bool:
        """Whether nobody has wanted its result for a while."""
        if self.wanted is None or self.wanted():
            self._seen = time.monotonic()
        return time.monotonic() - self._seen > LONGEST_AWAY

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self.finished

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._stop.is_set() or self.abandoned():
            raise Cancelled
        self.n_reports += 1
        if not (done or total):  # linkage_core.progress: a remark, said once
            self.remarks.append(stage)
            return
        self.stage, self.done, self.total = stage, done, total

    def _run(self, work: Callable[[Progress], object]) -> None:
        try:
            self._take_turn()
            self.result = work(self._report)
        except Cancelled:
            self.cancelled = True
        except LinkageError as error:
            self.error = (error.what, error.remedy)
        except OSError as error:  # such as a store that can only be read
            self.error = (f"The result could not be kept ({error}).", "Make the store writable, and run again.")
        except Exception as error:
            self.error = (f"The run failed ({type(error).__name__}: {error}).", "Try another setting.")
            raise  # into the server's own log
        finally:
            with _TURN:
                self.waiting, self.finished = False, True
                if self in _LINE:
                    _LINE.remove(self)
                _TURN.notify_all()

    def _take_turn(self) -> None:
        """Waits until every run before this one has ended."""
        with _TURN:
            while self.waiting and _LINE[0] is not self:
                if self._stop.is_set() or self.abandoned():
                    raise Cancelled
                _TURN.wait(1.0)
            if self.waiting:
                self.waiting, self.began = False, time.monotonic()


LONGEST_AWAY = 90.0
"""Seconds: a tab that is loaded anew, or a network that fails for a moment, finds its run again."""
MOST_WAITING = 20
_TURN = threading.Condition()
_LINE: list[Job] = []
"""The run that is going on and those that wait, in their order."""
_LOCK = threading.Lock()
_JOBS: dict[Hashable, Job] = {}


def start(
    key: Hashable,
    title: str,
    work: Callable[[Progress], object],
    *,
    beside: bool = False,
    wanted: Callable[[], bool] | None = None,
) -> Job | None:
    """Starts a run, or has it wait for those before it; one of the same key that has ended makes room for it.

    None where one of the same key goes on or waits already, or where too many wait. beside: it takes seconds, so it
    waits for no other, and none waits for it. wanted: whether its result still is.
    """
    with _LOCK, _TURN:
        for gone in [key for key, job in _JOBS.items() if job.finished and job.wanted and job.abandoned()]:
            del _JOBS[gone]  # with what it returned
        if (key in _JOBS and _JOBS[key].running) or (not beside and len(_LINE) > MOST_WAITING):
            return None
        job = _JOBS[key] = Job(key, title, beside=beside, waiting=not beside and bool(_LINE), wanted=wanted)
        if not beside:
            _LINE.append(job)
    job._thread = threading.Thread(target=job._run, args=(work,), name=f"run {title}", daemon=True)
    job._thread.start()
    return job


def of(key: Hashable) -> Job | None:
    """The last run of a key, going on or ended."""
    return _JOBS.get(key)


def forget(key: Hashable) -> None:
    """Drops a run that has ended, with what it returned."""
    with _LOCK:
        if key in _JOBS and not _JOBS[key].running:
            del _JOBS[key]


def running() -> Job | None:
    """The run that is going on, whoever started it."""
    with _TURN:
        return _LINE[0] if _LINE else None


def listed() -> list[Job]:
    """The run that is going on and those that wait, in their order."""
    with _TURN:
        return list(_LINE)


def ahead(job: Job) -> int:
    """How many runs a waiting one has before it."""
    with _TURN:
        return _LINE.index(job) if job in _LINE else 0
