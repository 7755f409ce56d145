"""What all sessions share, held once and bounded by its bytes; and memory that is given back when it is free."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

MOST_BYTES = 224 * 2**20
"""Of everything held together. What a page needs is made again where it had to go."""
MEASURED_EVERY = 3.0
"""Seconds between two looks at how large everything is: what is held grows as it is used."""
_PLAIN = (bool, int, float, complex, type, FunctionType, ModuleType, threading.Thread, type(threading.Lock()))


def bytes_of(thing: object, seen: set[int] | None = None) -> int:
    """About how many bytes an object holds with all that it refers to, each part once; `seen` are ids of parts that
    were counted before. Arrays that are views count as what they are views of, files in memory (memmap) as nothing.

    >>> big = np.zeros(1000)
    >>> bytes_of([big, [big, big[3:]]])
    8000
    """
    seen, total, waiting = set() if seen is None else seen, 0, [thing]
    while waiting:
        one = waiting.pop()
        if one is None or isinstance(one, _PLAIN) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            if isinstance(one.base, np.ndarray):
                waiting.append(one.base)
            elif not isinstance(one, np.memmap):
                total += one.nbytes
        elif isinstance(one, pd.DataFrame | pd.Series):
            used = one.memory_usage(index=False)
            total += int(used.sum()) if isinstance(used, pd.Series) else int(used)
        elif isinstance(one, str | bytes | bytearray):
            total += sys.getsizeof(one)
        elif isinstance(one, Mapping):
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += one
        else:
            waiting += getattr(one, "__dict__", {}).values()
    return total


class Held:
    """Results by key, the one used longest ago first to go. Each is made once, whoever asks meanwhile."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._measured = 0.0

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is held under a key, or what `make` returns. What raises is not held."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._made:
                    return self._made[key]
            try:
                made = make()
                with self._lock:
                    self._made[key] = made
            finally:
                with self._lock:
                    self._making.pop(key, None)
        self.trim()
        return made

    def trim(self, *, now: bool = False) -> None:
        """Lets go what is over the bound. Whoever works with it keeps it until they have done."""
        with self._lock:
            if not now and time.monotonic() < self._measured + MEASURED_EVERY:
                return
            self._measured = time.monotonic()
            made = list(self._made.items())
        gone = over(reversed(made), self.most_bytes)
        with self._lock:
            for key in gone:
                self._made.pop(key, None)

    def __len__(self) -> int:
        return len(self._made)


def over(made: Iterable[tuple[Hashable, Any]], most_bytes: int) -> list[Hashable]:
    """The keys that do not fit, of results in the order in which they are to be kept; the first is kept in any case.

    Of those that would not fit alone, as embeddings of a large cohort, the first is kept beside the others: else it
    would drive out all that is asked for with it, and each change of a page would make everything anew.
    """
    seen: set[int] = set()
    total, gone, one_large = 0, [], False
    for i, (key, thing) in enumerate(made):
        size = 0
        with suppress(RuntimeError):  # it grows while it is measured
            size = bytes_of(thing, seen)
        if size > most_bytes:
            if one_large:
                gone.append(key)
            one_large = True
            continue
        total += size
        if i and total > most_bytes:
            gone.append(key)
    return gone


# -- given back ------------------------------------------------------------------------------------------------------

_ARENAS, _MAPPED = -8, -3  # M_ARENA_MAX, M_MMAP_THRESHOLD of malloc.h


def give_back(every: float = 20.0) -> None:
    """Tells the C library of Linux to keep little of what is freed: two arenas for all threads, large arrays in pages
    of their own, and the rest returned every so many seconds. Else a server keeps the most that it ever needed."""
    pyarrow.set_memory_pool(pyarrow.system_memory_pool())  # its own keeps what is freed
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_ARENAS, 2)
        library.mallopt(_MAPPED, 2**20)
        trim = library.malloc_trim

        def forever() -> None:
            while True:
                time.sleep(every)
                trim(0)

        threading.Thread(target=forever, name="memory given back", daemon=True).start()
