"""The command line, in this process."""

import pytest

from linkage_core.cli import main


def linkage(*arguments: object) -> int:
    """Exit code of `linkage ARGUMENTS`, in this process."""
    with pytest.raises(SystemExit) as stopped:
        main.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)
