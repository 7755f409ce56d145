"""The table of mechanisms: what each is called, what it promises and the function that makes its heads.

A mechanism is one function, in a file of this folder, and one row here. A row has one of four ways to make heads:

trained
    stepwise.py: Work -> (heads, what was done to the units, what the record says besides).
one_shot
    oneshot.FORMS: one noisy sum, heads in closed form.
dataless
    dataless.py: (entry, options, source) -> (heads, what the record says besides); no training pair is looked at.
keeps
    The shadow of another mechanism, named by the option `like`: its "noise" without the signal, or its "signal" without
    the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from linkage_core.errors import InputError
from linkage_core.heads import Heads
from linkage_core.mitigation import accounting, dataless, oneshot, stepwise
from linkage_core.mitigation.noise import Source
from linkage_core.mitigation.work import ENGINES, OUTPUT_NOISE, Options, Work
from linkage_core.store.entry import Entry
from linkage_core.validate import by_name

__all__ = ["ENGINES", "MECHANISMS", "OUTPUT_NOISE", "Mechanism", "followed", "known", "mitigations"]

LABEL, PUBLIC, PAPER = "label-dpsgd", "public-negatives", "paper"
NOISE_ONLY, NONPRIVATE = "noise-only", "nonprivate"
FIRST = oneshot.LABEL
"""What is shown first: it answers at once."""
WITHOUT_LABELS = oneshot.MOMENT
"""What is taken or shown first for a cohort without labels: it needs neither them nor a public cohort."""
PAPER_EPSILON = 0.34  # as the study reports it
_PAPER_DELTA = 6e-6  # as the study reports it


@dataclass(frozen=True)
class Mechanism:
    """One row of the table.

    kind: private, reported (an epsilon that is not established) or control. says: what it does, in a line. label: its
    name in the app. sensitivity: how far one unit moves what noise is added to. labels: whether it learns the findings;
    public: whether it needs a public cohort.
    epsilon, delta: where none is asked for; None is no default (of delta: accounting.delta_for). A control without any
    noise of its own has epsilon inf. claim: what a record says of a reported epsilon; why_none: what the app says.
    noisy_output: whether each released embedding gets fresh noise, so that it does not follow from its image.
    """

    name: str
    kind: Literal["private", "reported", "control"]
    says: str
    label: str = ""
    trained: Callable[[Work], tuple[Heads, accounting.Run, dict[str, Any]]] | None = None
    one_shot: oneshot.Form | None = None
    dataless: Callable[[Entry, Options, Source], tuple[Heads, dict[str, Any]]] | None = None
    keeps: Literal["noise", "signal"] | None = None
    sensitivity: str = ""
    labels: bool = False
    public: bool = False
    epsilon: float | None = None
    delta: float | None = None
    claim: str = ""
    why_none: str = ""
    noisy_output: bool = False

    def __post_init__(self) -> None:
        ways = [way for way in ("trained", "one_shot", "dataless", "keeps") if getattr(self, way)]
        if len(ways) != 1:
            raise ValueError(f"The mechanism {self.name!r} makes heads in {len(ways)} ways: it needs exactly one.")


MECHANISMS = by_name(
    "mechanism",
    Mechanism(
        LABEL,
        "private",
        "DP-SGD on a label loss of each pair by itself",
        label="Label head, trained",
        trained=stepwise.label_dpsgd,
        sensitivity="C",
        labels=True,
    ),
    Mechanism(
        oneshot.LABEL,
        "private",
        "Gaussian mechanism on label moments",
        label="Label head, instant",
        one_shot=oneshot.FORMS[oneshot.LABEL],
        sensitivity="C = c_x c_y",
        labels=True,
    ),
    Mechanism(
        PUBLIC,
        "private",
        "DP-SGD on a contrast with a fixed public bank",
        label="Aligned, public negatives",
        trained=stepwise.public_negatives,
        sensitivity="C",
        public=True,
    ),
    Mechanism(
        oneshot.MOMENT,
        "private",
        "Gaussian mechanism on image-text moments",
        label="Aligned, instant",
        one_shot=oneshot.FORMS[oneshot.MOMENT],
        sensitivity="C = c_x c_y",
    ),
    Mechanism(
        PAPER,
        "reported",
        "in-batch InfoNCE, AdamW, Opacus: a reading of the study's recipe",
        label="A reading of the study",
        trained=stepwise.paper_recipe,
        sensitivity="not bounded by C",
        epsilon=PAPER_EPSILON,
        delta=_PAPER_DELTA,
        claim="none: in-batch negatives leave the sum unbounded by C, so this analysis does not establish the reported "
        "epsilon",
        why_none="The study reports ε = 0.34, but in its training one pair can move the sum by more than the clipping "
        "bound, so this analysis does not establish it. It states no learning rate, which alone decides how far "
        "linkage falls: one reading of its recipe, shown to be measured beside the others.",
    ),
    Mechanism(NOISE_ONLY, "control", "a named mechanism with its gradient or moment set to zero", keeps="noise"),
    Mechanism(
        NONPRIVATE,
        "control",
        "a named mechanism without noise",
        label="Label head without noise",
        keeps="signal",
        epsilon=math.inf,
    ),
    Mechanism(
        "random-heads",
        "control",
        "random heads in both towers",
        label="Random heads",
        dataless=dataless.random_heads,
        epsilon=math.inf,
    ),
    Mechanism(
        "rotation",
        "control",
        "the image head turned by a secret rotation",
        label="Image head turned at random",
        dataless=dataless.rotation,
        epsilon=math.inf,
    ),
    Mechanism(
        "truncate",
        "control",
        "the embedding cut to its first directions",
        label="Embedding cut short",
        dataless=dataless.truncate,
        epsilon=math.inf,
    ),
    Mechanism(
        "output-noise",
        "control",
        "off-the-shelf heads, Gaussian noise on each released embedding",
        label="Noise on each embedding",
        dataless=dataless.output_noise,
        epsilon=math.inf,
        noisy_output=True,
    ),
    Mechanism(
        "concept-span",
        "control",
        "both towers on the span of public prompts",
        label="Span of public prompts",
        dataless=dataless.concept_span,
        epsilon=math.inf,
    ),
    Mechanism(
        "public-labels",
        "control",
        "a label head from a public cohort alone",
        label="Label head, public labels only",
        dataless=dataless.public_labels,
        labels=True,
        public=True,
        epsilon=math.inf,
    ),
)


def usual(entry: Entry) -> str:
    """The mechanism that is taken where none is named: one that works on this cohort."""
    return LABEL if entry.labelled else WITHOUT_LABELS


def known(mechanism: str) -> Mechanism:
    """A row of the table; InputError lists the names and the nearest."""
    import difflib

    if mechanism not in MECHANISMS:
        near = difflib.get_close_matches(mechanism, MECHANISMS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"{mechanism!r} is no mechanism.", f"They are: {', '.join(MECHANISMS)}.{hint}")
    return MECHANISMS[mechanism]


def followed() -> tuple[str, ...]:
    """What noise-only and nonprivate can be the shadow of: whatever training pairs and noise have part in."""
    return tuple(row.name for row in MECHANISMS.values() if row.trained or row.one_shot)


def mitigations() -> tuple[str, ...]:
    """All but the controls, FIRST first."""
    return tuple(sorted((row.name for row in MECHANISMS.values() if row.kind != "control"), key=FIRST.__ne__))


SHADOWS = tuple(row.name for row in MECHANISMS.values() if row.keeps)
NEED_PUBLIC = tuple(row.name for row in MECHANISMS.values() if row.public)
