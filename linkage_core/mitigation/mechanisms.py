"""The table of mechanisms: what each is called, what it promises and which engine may run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from linkage_core.errors import InputError
from linkage_core.mitigation import oneshot

ENGINES = ("closed-form", "opacus")
LABEL, PUBLIC, PAPER = "label-dpsgd", "public-negatives", "paper"
PAPER_EPSILON = 0.34  # as the study reports it
OUTPUT_NOISE = 0.1


@dataclass(frozen=True)
class Mechanism:
    """One row of the table. `kind`: private, reported (an epsilon that is not established) or control."""

    name: str
    kind: Literal["private", "reported", "control"]
    says: str
    sensitivity: str = ""
    labels: bool = False
    public: bool = False


MECHANISMS = {
    one.name: one
    for one in (
        Mechanism(LABEL, "private", "DP-SGD on a label loss of each pair by itself", "C", labels=True),
        Mechanism(oneshot.LABEL, "private", "Gaussian mechanism on label moments", "C = c_x c_y", labels=True),
        Mechanism(PUBLIC, "private", "DP-SGD on a contrast with a fixed public bank", "C", public=True),
        Mechanism(oneshot.MOMENT, "private", "Gaussian mechanism on image-text moments", "C = c_x c_y"),
        Mechanism(PAPER, "reported", "in-batch InfoNCE, AdamW, Opacus: the study's recipe", "not bounded by C"),
        Mechanism("noise-only", "control", "a named mechanism with its gradient or moment set to zero"),
        Mechanism("nonprivate", "control", "a named mechanism without noise"),
        Mechanism("random-heads", "control", "random heads in both towers"),
        Mechanism("rotation", "control", "the image head turned by a secret rotation"),
        Mechanism("truncate", "control", "the embedding cut to its first directions"),
        Mechanism("output-noise", "control", "off-the-shelf heads, Gaussian noise on each released embedding"),
        Mechanism("concept-span", "control", "both towers on the span of public prompts"),
        Mechanism("public-labels", "control", "a label head from a public cohort alone", labels=True, public=True),
    )
}
LIKE = (LABEL, oneshot.LABEL, PUBLIC, oneshot.MOMENT, PAPER)
"""What noise-only and nonprivate can be the shadow of."""


def known(mechanism: str) -> Mechanism:
    """A row of the table; InputError lists the names and the nearest."""
    import difflib

    if mechanism not in MECHANISMS:
        near = difflib.get_close_matches(mechanism, MECHANISMS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"{mechanism!r} is no mechanism.", f"They are: {', '.join(MECHANISMS)}.{hint}")
    return MECHANISMS[mechanism]
