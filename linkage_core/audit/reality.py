"""What is known of real reports, to hold a synthetic cohort against: docs/reality.md has all of it."""

from __future__ import annotations

from linkage_core import sentences

SHARED = {"PadChest": 0.42, "Open-i": 0.24}
"""Share of the studies whose report another patient has word for word, of benchmarks/reality.json."""


def says(shared: float) -> str:
    """One sentence about a synthetic cohort; shared as in SHARED.

    >>> print(says(0.2613)[:46])
    How unlike reality? 26 of 100 of these reports
    """
    real = ", ".join(f"{sentences.of(share, 100)} of {name}'s" for name, share in SHARED.items())
    return (
        f"How unlike reality? {sentences.of(shared, 100)} of these reports stand word for word under several patients, "
        f"{real}."
    )
