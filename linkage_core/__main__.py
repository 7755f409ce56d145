"""`python -m linkage_core` is `linkage`."""

import os
import signal
import sys
from types import FrameType

from linkage_core.errors import STOPPED


def main() -> None:
    """Entry point: Ctrl-C has its line from the start, while the imports still run."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # and not ignored, as in the background of a script
        signal.signal(signal.SIGINT, _stop)
    from linkage_core.cli import main as cli

    signal.signal(signal.SIGINT, usual)
    cli.main()


def _stop(number: int, frame: FrameType | None) -> None:
    """At once: there is nothing to tidy up yet, and an exception raised within an import may be lost in there."""
    sys.stderr.write(f"{STOPPED}\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
