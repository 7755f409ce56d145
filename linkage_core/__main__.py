"""`python -m linkage_core` is `linkage`."""

import os
import signal
import sys
from types import FrameType

from linkage_core.errors import STOPPED


def main() -> None:
    """Entry point: Ctrl-C has its line from the start, and whenever something is imported: commands import late."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a script in the background ignores it
        signal.signal(signal.SIGINT, _stop)
    from linkage_core.cli import main as cli

    cli.main()


def _stop(number: int, frame: FrameType | None) -> None:
    """As usual by an exception; within an import, where that may be lost, at once: what is stored is whole at any time.

    A command takes what it needs when it runs, some of it late, so an import is told by what is being executed.
    """
    inner = frame
    while inner is not None and not inner.f_code.co_filename.startswith("<frozen importlib"):
        inner = inner.f_back
    if inner is None:
        signal.default_int_handler(number, frame)
    shown_again = "\033[?25h" if sys.stderr.isatty() else ""  # the cursor, which progress bars hide
    sys.stderr.write(f"{shown_again}{STOPPED}\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    main()
