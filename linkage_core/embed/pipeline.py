"""Images of a cohort to features: read by processes, encoded by threads, both at once and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.cohorts.base import Cohort
from linkage_core.encoders.base import Encoder, Pictured
from linkage_core.errors import ImageError, InputError
from linkage_core.images.pixels import Radiograph
from linkage_core.images.processes import Readers, Reading, workers_for

CPU_BATCH, DEVICE_BATCH = 32, 256
"""Images of a batch at first; halved where memory runs out."""

Reject = tuple[str, str, str, str]
Batch = tuple[list[str], np.ndarray, list[Reject]]
"""Ids that were embedded, their features, and rejects for the others."""


class Images:
    """The image side of one run.

    A batch is a stretch of rows of one shard, whatever reads or encodes it, and on a processor one thread computes it
    alone, several side by side. So neither the number of processes nor that of cores has a say in the result: matrix
    products of other shapes or thread counts may differ in their last bits. (Side by side is also faster than all cores
    on one batch, and far more so on a busy machine: no core waits for another.)
    """

    def __init__(
        self,
        cohort: Cohort,
        encoder: Encoder,
        n_rows: int,
        workers: int | None = None,
        replicas: Sequence[Encoder] | None = None,
    ) -> None:
        """`replicas`: the same model on other devices; by default on those that the encoder finds."""
        self._cohort = cohort
        self._encoders = [encoder, *(replicas or ())]
        self._on_processor = encoder.describe().get("device", "cpu") == "cpu"
        self._picture = encoder.picture if isinstance(encoder, Pictured) else None
        if replicas is None and isinstance(encoder, Pictured) and n_rows > 4 * DEVICE_BATCH:
            self._encoders += encoder.replicas()
        self.batch = CPU_BATCH if self._on_processor else DEVICE_BATCH
        self.used = self.batch  # the largest that memory allows, as far as this run has found out
        if workers is None:
            workers = workers_for(n_rows)
            if workers == 1 and cohort.is_drawn:
                workers = 0  # files alone are never decoded in this process
        self._workers = workers
        self.noted: dict[str, tuple[int, str]] = {}
        """What was noted of how many of the images read by this run, and the first of them (`Readers.noted`)."""
        self.n_read = 0

    def batches(self, parts: Iterator[pd.DataFrame]) -> Generator[Batch]:
        """One Batch for each part, in order. Columns of a part: `id`, and what the cohort reads an image by."""
        free: SimpleQueue[Encoder] = SimpleQueue()
        with ExitStack() as stack:
            lanes, most = self._open_lanes(stack, free)
            readers = stack.enter_context(
                Readers(self._cohort.read_image, self._picture, self._workers, fetch=self._cohort.fetch)
            )
            readers.noted = self.noted
            ids: deque[list[str]] = deque()

            def rows() -> Iterator[dict[Any, Any]]:
                for part in parts:
                    ids.append(list(part["id"]))
                    yield from part.rename(columns={"id": "record_id"}).to_dict("records")

            ahead = max(2 * self.batch, 2 * readers.workers) if self._picture else max(8, 2 * readers.workers)
            readings = readers.read(rows(), ahead)
            waiting: deque[Future[Batch]] = deque()
            size = 0  # batches that may be under way: the first alone, for it may settle precision and size
            for reading in readings:
                here = ids.popleft()
                got = [reading, *(next(readings) for _ in here[1:])]
                self.n_read += len(got)
                waiting.append(lanes.submit(self._encode, free, here, got))
                if len(waiting) > size:
                    size = most
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _open_lanes(self, stack: ExitStack, free: SimpleQueue[Encoder]) -> tuple[ThreadPoolExecutor, int]:
        """Threads that encode and how many, and in `free` the encoder for each."""
        copies = self._encoders
        begin = None
        if self._on_processor and isinstance(copies[0], Pictured):
            from linkage_core.encoders import threads  # imports torch, which the encoder has done already

            cores = threads.cores()
            copies = [copies[lane % len(copies)] for lane in range(max(cores, len(copies)))]
            begin = threads.one_thread
            stack.callback(threads.as_before, cores)
        for encoder in copies:
            free.put(encoder)
        lanes = ThreadPoolExecutor(len(copies), thread_name_prefix="encoder", initializer=begin)
        return stack.enter_context(lanes), len(copies)

    def _encode(self, free: SimpleQueue[Encoder], ids: list[str], readings: list[Reading]) -> Batch:
        good = [i for i, reading in enumerate(readings) if not isinstance(reading, ImageError)]
        rejects = [
            (ids[i], reading.reason, reading.what, reading.remedy)
            for i, reading in enumerate(readings)
            if isinstance(reading, ImageError)
        ]
        if not good:
            return [], np.empty((0, 1), np.float32), rejects
        encoder = free.get()
        try:
            features = self._features(encoder, [readings[i] for i in good])
        finally:
            free.put(encoder)
        kept, values, bad = finite([ids[i] for i in good], features)
        return kept, values, rejects + bad

    def _features(self, encoder: Encoder, images: list[Reading]) -> np.ndarray:
        """Features of one batch; in halves, and all later ones too, where memory does not hold it."""
        parts: list[np.ndarray] = []
        at = 0
        while at < len(images):
            size = min(self.used, len(images) - at)
            try:
                parts.append(self._compute(encoder, images[at : at + size]))
            except (RuntimeError, MemoryError) as error:
                if not self._memory_ran_out(error):
                    raise
                if size == 1:
                    raise InputError(
                        f"{encoder.name} does not fit into memory with a single image.",
                        "Use --device cpu, a smaller model, or a machine with more memory.",
                    ) from error
                self.used = min(self.used, max(1, size // 2))
                continue
            at += size
        return np.concatenate(parts)

    def _compute(self, encoder: Encoder, images: list[Reading]) -> np.ndarray:
        if isinstance(encoder, Pictured) and self._picture:
            return encoder.picture_features(np.stack([np.asarray(image) for image in images]))
        return encoder.image_features([image for image in images if isinstance(image, Radiograph)])

    def _memory_ran_out(self, error: BaseException) -> bool:
        if isinstance(error, MemoryError) or not isinstance(self._encoders[0], Pictured):
            return isinstance(error, MemoryError)
        from linkage_core.encoders import threads

        return threads.out_of_memory(error)


def finite(ids: list[str], features: np.ndarray) -> Batch:
    """The rows without NaN and infinity; the others become rejects."""
    good = np.isfinite(features).all(axis=1)
    bad = [
        (ids[i], "bad-features", f"{ids[i]}: the model gave NaN or infinity.", "Look at the image or text itself.")
        for i in np.flatnonzero(~good)
    ]
    return [ids[i] for i in np.flatnonzero(good)], features[good], bad
