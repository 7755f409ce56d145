"""How each number is made: the formulas with one value to move, the pitfalls, and the tour.

Every figure is asked of the core's own function; no formula is written a second time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from linkage_core.audit.outcomes import precision
from linkage_core.audit.strata import label_matched_auc
from linkage_core.mitigation.accounting import gaussian_accuracy, gaussian_sigma, privacy_sentence
from linkage_core.ranking.counts import MatchCounts
from linkage_core.ranking.pools import expected_recall
from linkage_core.release import bounds
from linkage_core.sentences import of, upper

DELTA = 1e-6
OTHERS = 999
BETTER = 5
"""Of the example: reports of other patients that are more similar to the image than its own, of OTHERS."""
LARGE = 10_000
EPSILONS = (0.1, 0.34, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
POOLS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class Formula:
    """One formula with one control. words: of the glossary. values: the steps of the control; says: of one of them."""

    name: str
    title: str
    tex: str
    control: str
    values: tuple[float, ...]
    first: float
    says: Callable[[float], str]
    words: tuple[str, ...]
    source: str


def first_of_pool(n: float) -> str:
    """
    >>> first_of_pool(100)
    'An image with 5 of 999 other reports above its own finds it first in 59 of 100 pools of N = 100.'
    """
    counts = MatchCounts(*(np.array([value]) for value in (BETTER, 0, OTHERS)))
    recall = float(expected_recall(counts, int(n), 1)[0])
    pools = f"{of(recall, 100)} pools of N = {int(n):,}"
    return f"An image with {BETTER} of {OTHERS} other reports above its own finds it first in {pools}."


def times_chance(n: float) -> str:
    """
    >>> times_chance(1000)
    'Linking 10 of 100 images in pools of N = 1,000, where guessing links 0.1, is 100 times chance.'
    """
    times = float(bounds.lift(0.1, int(n)))
    guessed = f"{100 / n:.3g}"
    pools = f"pools of N = {int(n):,}, where guessing links {guessed}"
    return f"Linking 10 of 100 images in {pools}, is {times:,.3g} times chance."


def told_apart(epsilon: float) -> str:
    """
    >>> told_apart(0.34)[:75]
    'Whoever guesses whether a patient was used is right at most 52 of 100 times'
    """
    said = privacy_sentence(gaussian_accuracy(gaussian_sigma(epsilon, DELTA)))
    return f"Whoever guesses whether a patient was used is {said}."


def of_statistics(epsilon: float) -> str:
    """Rounded up: a limit never reads lower than it is.

    >>> of_statistics(0.34)
    'At N = 10,000: at most 1.5 of 10,000 for whoever knows the other patients, 2.8 for whoever holds them unpaired.'
    """
    mu = 1 / gaussian_sigma(epsilon, DELTA)
    less, more = (math.ceil(10 * LARGE * float(f(mu, LARGE))) / 10 for f in (bounds.central, bounds.unpaired))
    said = f"at most {less:,.1f} of {LARGE:,} for whoever knows the other patients"
    return f"At N = {LARGE:,}: {said}, {more:,.1f} for whoever holds them unpaired."


def right_answers(prior: float) -> str:
    """
    >>> right_answers(50)
    'If the report is there for 50 of 100 images, 68 of 100 answers are right.'
    """
    right = float(precision(prior / 100, np.array([0.3, 0.04, 0.1])))
    return f"If the report is there for {prior:.0f} of 100 images, {of(right, 100)} answers are right."


def beats_decoys(n_better: float) -> str:
    """
    >>> beats_decoys(19)
    'With 19 of 100 decoys above it, the right report beats a decoy 81 of 100 times; a coin 50.'
    """
    counts = MatchCounts(*(np.array([value]) for value in (int(n_better), 0, 100)))
    auc = float(label_matched_auc(counts)[0])
    return (
        f"With {int(n_better)} of 100 decoys above it, the right report beats a decoy {of(auc, 100)} times; a coin 50."
    )


FORMULAS = (
    Formula(
        "recall",
        "First in a random pool",
        r"\text{Recall@1}(N) = \prod_{i=0}^{N-2} \frac{M - 1 - b - i}{M - 1 - i}",
        "Reports in the pool (N)",
        POOLS,
        100,
        first_of_pool,
        ("recall", "pool", "tie"),
        "M reports in all, b of them above the right one. Exact: the average over every pool of N, none is drawn. Ties "
        "are broken at random, in expectation.",
    ),
    Formula(
        "lift",
        "Times chance",
        r"\text{lift} = \frac{\text{Recall@}k}{k / N}",
        "Reports in the pool (N)",
        POOLS,
        1000,
        times_chance,
        ("lift", "guessing"),
        "Guessing is k of N. The same 10 of 100 are little in a pool of ten and much in a large one.",
    ),
    Formula(
        "epsilon",
        "What epsilon limits",
        r"\text{right} \le \Phi(\mu / 2), \quad \delta = \Phi(\tfrac{\mu}{2} - \tfrac{\varepsilon}{\mu})"
        r" - e^{\varepsilon} \Phi(-\tfrac{\mu}{2} - \tfrac{\varepsilon}{\mu})",
        "Epsilon, at delta = 1e-6",
        EPSILONS,
        0.34,
        told_apart,
        ("epsilon", "delta", "unit", "add-remove"),
        "Of one noisy sum (Balle and Wang 2018). It is about who was used in training, not about linkage.",
    ),
    Formula(
        "statistics",
        "The limit of a release of statistics",
        r"\Phi(\Phi^{-1}(1/N) + \mu) \quad\text{and}\quad \Phi(\Phi^{-1}(1/N) + 3\mu)",
        "Epsilon, at delta = 1e-6",
        EPSILONS,
        0.34,
        of_statistics,
        ("statistics", "limit"),
        "The second is for whoever holds images and reports and not which belongs to which: exchanging two reports "
        "changes "
        "three contributions. What everybody has in common is outside of it.",
    ),
    Formula(
        "missing-match",
        "Right among answers",
        r"\frac{p \cdot \text{DIR}}{p\,(\text{DIR} + \text{wrong}) + (1 - p) \cdot \text{FPIR}}",
        "Report in the pool, of 100 images (p)",
        (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100),
        50,
        right_answers,
        ("precision", "prior", "dir"),
        "Example: 30 of 100 named rightly and 4 wrongly when the report is there (DIR, wrong), 10 of 100 when it is "
        "not "
        "(FPIR).",
    ),
    Formula(
        "decoys",
        "Beats a decoy",
        r"\frac{\text{decoys} - \text{above} - \text{tied}/2}{\text{decoys}}",
        "Decoys above the right report, of 100",
        (0, 5, 10, 19, 30, 40, 50, 60, 75, 100),
        19,
        beats_decoys,
        ("beats-a-decoy", "decoy"),
        "The area under the curve of Hanley and McNeil (1982), for each image among decoys with its 14 findings, "
        "then the "
        "mean.",
    ),
)


@dataclass(frozen=True)
class Pitfall:
    """What goes wrong in such work, and what is done about it here."""

    title: str
    wrong: str
    here: str


PITFALLS = (
    Pitfall(
        "One pool, one draw",
        "A rank in one drawn pool is luck, and the pool size is not said.",
        "Every rate is the exact average over all random pools of N, and N stands beside it.",
    ),
    Pitfall(
        "No baseline",
        "“14 linked” says nothing: in a pool of ten guessing links ten of 100.",
        "Guessing stands beside every number, in the same unit.",
    ),
    Pitfall(
        "Reports with the same text",
        "Many reports read alike. Counting a tie as a hit flatters or blames the model.",
        "Ties are broken at random, exactly; what scores everything alike gets 1 of N.",
    ),
    Pitfall(
        "Images of one patient counted as many people",
        "Two images of a patient move together, and intervals come out too narrow.",
        "Patients are drawn again, not images; a patient's other reports are no decoys.",
    ),
    Pitfall(
        "Measured on who was trained on",
        "A head looks protective, or harmful, on patients it has seen.",
        "Whatever has learnt is tested on held-out patients alone, and refused elsewhere.",
    ),
    Pitfall(
        "A weak attacker",
        "Cosine falls and linkage seems gone; somebody who learns from own pairs gets it back.",
        "Ten attackers are tried, before and after, and the worst one is the headline.",
    ),
    Pitfall(
        "The worst, chosen by luck",
        "Taking the strongest where hits are few picks noise, and which mitigation is best becomes luck too.",
        "One attacker for all N, chosen in small pools where hits are many.",
    ),
    Pitfall(
        "Epsilon taken for linkage",
        "Epsilon limits what is told of training patients. Images of others may be linked as before.",
        "Guarantee and measured linkage are two cards and never one number.",
    ),
    Pitfall(
        "An epsilon that nothing establishes",
        "A loss that couples the pairs of a batch, a seed that is stored, an optimiser that is told the norm.",
        "Each mechanism is tested for what it promises; what is only reported says “None established”.",
    ),
    Pitfall(
        "Damage sold as privacy",
        "Noise alone lowers linkage too, and destroys what the images are for.",
        "The same noise without learning is drawn beside every head.",
    ),
    Pitfall(
        "The findings do the linking",
        "A model that reads findings well links by findings, not by the person.",
        "Same-finding decoys show what is left when the findings are the same.",
    ),
    Pitfall(
        "What travels along",
        "Age, sex, a date or the file name beside an image shrink the pool.",
        "A limit is stated for what leaves and for nothing else beside it, and the page says so.",
    ),
)


@dataclass(frozen=True)
class Stop:
    """One stop of the tour: a page with its settings."""

    title: str
    look: str
    page: str
    query: Mapping[str, str] = field(default_factory=dict)


TOUR = (
    Stop("One number", "How many of 100 images a model links, beside guessing.", "start", {"N": "100"}),
    Stop("One image", "What an attacker would see. The true report is marked.", "examples", {"N": "100"}),
    Stop(
        "A larger pool",
        "The same question for more reports: the count falls, the lift grows.",
        "risk",
        {"tab": "curve", "N": "100"},
    ),
    Stop(
        "The report may not be there",
        "What an attacker gains who may keep silent.",
        "missing-match",
        {"N": "100", "prior": "50", "wanted": "50"},
    ),
    Stop("Not everybody alike", "Some images are linked in nearly every pool, most in few.", "exposure", {"N": "100"}),
    Stop(
        "A mitigation",
        "Guarantee and measured linkage, side by side, and who gets round it.",
        "mitigation",
        {"N": "100", "epsilon": "0.34"},
    ),
)


def holds(names: tuple[str, ...], words: Mapping[str, str]) -> str:
    """What an attacker has to hold, in words: any one of these.

    >>> holds(("a", "b"), {"a": "the embeddings", "b": "the images themselves; all of them"})
    'The embeddings, or the images themselves'
    """
    return upper(", or ".join(words[name].split(";")[0] for name in names if name in words))


def readable(markdown: str) -> str:
    """A document of the sources as a page shows it: its title is the tab's, and what it links to is not at hand.

    >>> readable("# What may leave\\n\\nSee [the list](labels.md), `x`, [a site](https://example.org).")
    'See the list, `x`, [a site](https://example.org).'
    """
    body = re.sub(r"\A# [^\n]*\n+", "", markdown)
    return re.sub(r"\[([^\]]*)\]\((?!https?://)[^)]*\)", r"\1", body)
