"""Measurements that do not depend on each other, a few at a time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Found = TypeVar("Found")


def at_once(
    job: Callable[[str], Found], names: Sequence[str], processes: int, progress: Callable[[int, int], None]
) -> Iterator[tuple[str, Found]]:
    """(name, job(name)) of each name, as they are done; `job` can be sent to another process, as what it returns.

    With one process in this one, in the order of the names. An error of a job ends the others that have not begun.
    """
    progress(0, len(names))
    if processes == 1 or len(names) < 2:
        for done, name in enumerate(names, start=1):
            yield name, job(name)
            progress(done, len(names))
        return
    # Spawned, because a forked process may inherit a lock that torch's threads hold.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        asked = {pool.submit(job, name): name for name in names}
        try:
            for done, one in enumerate(as_completed(asked), start=1):
                yield asked[one], one.result()
                progress(done, len(names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
