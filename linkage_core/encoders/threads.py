"""How many threads a batch is computed by: one, where several batches are computed side by side."""

from __future__ import annotations

import torch


def cores() -> int:
    """How many batches are worth computing at once on the processor."""
    return torch.get_num_threads()


def one_thread() -> None:
    """The calling thread computes alone from now on: its results no longer depend on the number of cores."""
    torch.set_num_threads(1)


def as_before(threads: int) -> None:
    """Threads that start from now on, and the calling one, compute with this many."""
    torch.set_num_threads(threads)


def out_of_memory(error: BaseException) -> bool:
    """Whether a batch was too large for the device or the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
