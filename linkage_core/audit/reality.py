"""What is known of real reports, to hold a synthetic cohort against: docs/reality.md has all of it."""

from __future__ import annotations

from linkage_core import sentences

SHARED = {"PadChest": 0.42, "Open-i": 0.24}
"""Share of the studies whose report another patient has word for word, of benchmarks/reality.json."""


def says(shared: float) -> str:
    """One sentence about a synthetic cohort; shared as in SHARED.

    >>> says(0.2613)
    'Of 100 synthetic reports 26 stand word for word under several patients; of PadChest\'s 42, of Open-i\'s 24.'
    """
    real = ", ".join(f"of {name}'s {sentences.number(share, 100)}" for name, share in SHARED.items())
    return f"Of 100 synthetic reports {sentences.number(shared, 100)} stand word for word under several patients; {real}."
