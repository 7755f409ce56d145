"""`python -m linkage_core` is `linkage`."""

import sys

from linkage_core.errors import STOPPED


def main() -> None:
    """Entry point: Ctrl-C has its line from the start, while the imports still run."""
    try:
        from linkage_core import cli

        cli.main()
    except KeyboardInterrupt:
        sys.stderr.write(f"{STOPPED}\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
