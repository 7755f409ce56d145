"""Embedding runs that end by a signal in the middle of their work: a given while after a given shard.

    python tests/killed.py       (reads one JSON request a line; answers with a process id, then with how it ended)

Every run is a fork of this process, which has imported everything, so that sixty kills do not take an hour. Shards are
of two images. The signal has no handler: nothing is cleaned up, as under SIGKILL.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from linkage_core.cohorts.registry import open_cohort
from linkage_core.embed import embedding, pipeline
from linkage_core.encoders import threads  # noqa: F401  (imported here, once for all runs)
from linkage_core.encoders.phantom import load_phantom
from linkage_core.store.entry import Store

ROWS = 2


def run(request: dict[str, Any]) -> None:
    """One run. Keys: `folder`, `store` and `workers`; `log`, a file that gets the id of each image before it is
    encoded; `shard`, the image shard of this run at whose writing the clock starts (0: with the run, None: never), and
    `moment`, when the signal comes: in seconds for `shard` 0, else in units of what the shard took until then."""
    embedding.SHARD_ROWS = embedding.BATCH = pipeline.CPU_BATCH = ROWS
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    encode, write = pipeline.Images._encode, embedding.write_shard
    shard, moment = request["shard"], request["moment"]
    stamps: list[float] = []  # when images began to be encoded, and when each shard was whole

    def logged(self: pipeline.Images, free: Any, ids: list[str], readings: Any) -> pipeline.Batch:
        if not stamps:
            stamps.append(time.monotonic())
        os.write(log, "".join(f"{name}\n" for name in ids).encode())
        return encode(self, free, ids, readings)

    def counted(path: Path, *shard_of: Any) -> None:
        if "-image-" in path.name and len(stamps) == shard:
            signal.setitimer(signal.ITIMER_REAL, max(1e-4, moment * (time.monotonic() - stamps[-1])))
        write(path, *shard_of)
        if "-image-" in path.name:
            stamps.append(time.monotonic())

    pipeline.Images._encode = logged  # type: ignore[method-assign]
    embedding.write_shard = counted
    if shard == 0:
        signal.setitimer(signal.ITIMER_REAL, max(1e-4, moment))
    source = open_cohort("folder", Path(request["folder"]))
    store = Store(Path(request["store"]))
    embedding.embed(source, load_phantom("phantom-general", store.root), store, workers=request["workers"])


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.dup2(2, 1)
            try:
                run(json.loads(line))
            finally:
                os._exit(sys.exc_info()[0] is not None)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
