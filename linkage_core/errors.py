"""Errors that users read: what is wrong, with the value that came, and the remedy."""

STOPPED = "Stopped. What was finished stays; the same command goes on from there."
"""What Ctrl-C says."""


class LinkageError(Exception):
    """Base of every error this package raises on purpose.

    `what` names the thing and the value that came; `remedy` says what to do. The command line prints both and exits
    with code 2; the pages show them in a card.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what
        self.remedy = remedy


class InputError(LinkageError):
    """An argument, a manifest or an array that cannot be used as it is."""


class StoreError(LinkageError):
    """A store entry that is missing, cut short or altered."""


class BusyError(StoreError):
    """A store entry that another run is writing."""


class ModelError(LinkageError):
    """A model that is unknown, absent or whose weights do not fit."""


class ImageError(LinkageError):
    """One image that cannot be read. `reason` is a stable code for the rejects table.

    One bad file never stops a run: readers catch this error, write a row to the rejects table and go on.
    """

    def __init__(self, reason: str, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.reason = reason
