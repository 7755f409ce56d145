"""The words of the app: one plain sentence each, where they stand, and links that lead to them.

`linked` puts the links into a text: the words themselves say where they lead, so a page names no entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html import escape, unescape
from urllib.parse import quote

from linkage_core.validate import by_name, one_of

MOST_LINKS = 8
"""In one text."""


@dataclass(frozen=True)
class Word:
    """One entry. name: its anchor. says: a plain sentence. where: pages it stands on, by file.

    marks: spellings that lead here from any text of the app; plain: those that do so from a help text alone, because
    elsewhere they are everyday words.
    """

    name: str
    term: str
    says: str
    where: tuple[str, ...]
    marks: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()


_MEASURE = ("start", "risk", "missing-match", "exposure")
_PROTECT = ("mitigation", "frontier")

WORDS = by_name(
    "word",
    # -- the question
    Word(
        "cohort",
        "Cohort",
        "Images and reports of one source, with what is known of each: patient, study, view, findings.",
        ("start",),
        plain=("cohort",),
    ),
    Word(
        "record",
        "Record",
        "One image with the study it belongs to.",
        ("examples", "exposure"),
        plain=("record", "images and reports", "image", "images"),
    ),
    Word(
        "candidate",
        "Candidate",
        "One report that an image could be linked to. Two images of a study share one.",
        ("risk",),
        marks=("candidates", "candidate"),
    ),
    Word(
        "match",
        "Match",
        "The right report: that of the image's own study. Pages call it the true report.",
        ("examples", "missing-match"),
        marks=("the true report",),
        plain=("right report",),
    ),
    Word(
        "pool",
        "Pool, N",
        "The reports an attacker has to choose from. N is how many there are: the right one and N - 1 of other "
        "patients, "
        "drawn at random.",
        ("start", "examples", "risk"),
        plain=("pool", "whole number"),
    ),
    Word(
        "rank",
        "Rank",
        "The place of the right report when all reports of the pool are ordered by similarity; 1 is the best.",
        ("examples", "exposure"),
        plain=("rank", "place of the report"),
    ),
    Word(
        "tie",
        "Tie",
        "Reports with the same text get the same similarity; their order is left to chance.",
        ("examples",),
        ("ties",),
    ),
    Word(
        "guessing",
        "Guessing, chance",
        "What somebody reaches who picks a report blindly: 1 of N.",
        (*_MEASURE, *_PROTECT, "play"),
        marks=("times chance", "times guessing"),
    ),
    Word(
        "recall",
        "Recall@k",
        "The share of images whose right report is among the k most similar of the pool. Exact for random pools: an "
        "average "
        "over all of them.",
        ("risk",),
        marks=("Recall@k", "recall"),
        plain=("first (k)",),
    ),
    Word(
        "lift",
        "Lift",
        "How many times better than guessing: Recall@k divided by k of N.",
        ("risk", "frontier"),
        ("lift",),
    ),
    Word(
        "reciprocal-rank",
        "Reciprocal rank",
        "1 divided by the rank of the right report, averaged over images; 1 means always first.",
        ("risk",),
        ("reciprocal rank",),
    ),
    Word(
        "interval",
        "95% interval",
        "How far a number could move with other patients like these. It says nothing about another hospital.",
        (*_MEASURE, *_PROTECT),
        ("95% interval",),
    ),
    Word(
        "n",
        "n",
        "How many images a number was measured on. N is the size of the pool.",
        _MEASURE,
        marks=("n counts patients", "n counts images"),
    ),
    Word(
        "too-few",
        "Too few to say",
        "Below 30 images, or 30 patients, a number is not shown: it would be chance.",
        _MEASURE,
        ("too few to say",),
    ),
    Word(
        "field",
        "Field and lens",
        "In pictures of 1,000 or 10,000 images the square is the whole, true to scale; the lens shows the linked "
        "ones large.",
        ("start",),
        ("true to scale",),
    ),
    # -- models
    Word(
        "model",
        "Model",
        "A program that turns images and reports into lists of numbers that can be compared. The four of the synthetic "
        "cohort saw more and more of radiology: General, Biomedical, Clinical, Radiology.",
        ("start", "examples", "risk"),
        plain=("model",),
    ),
    Word(
        "similarity",
        "Similarity, cosine",
        "How alike a model finds an image and a report, from -1 to 1. It has no unit, and two models' are not "
        "comparable.",
        ("examples", *_PROTECT),
        marks=("cosine alone", "cosine only", "cosine", "similarity"),
    ),
    Word(
        "embedding",
        "Embedding",
        "The list of numbers a model makes of an image or a report.",
        (*_PROTECT,),
        marks=("clean embeddings", "clean embedding", "embeddings", "embedding"),
    ),
    Word(
        "features",
        "Features",
        "What goes into the head: the same list one step earlier. They are never changed.",
        _PROTECT,
        ("features",),
    ),
    Word(
        "head",
        "Heads",
        "The last step of a model, one for images and one for reports. A mitigation of this family replaces these "
        "two and "
        "nothing else.",
        _PROTECT,
        marks=("both heads", "the heads", "heads", "a head", "the head"),
    ),
    # -- decoys, missing match, exposure
    Word(
        "decoy",
        "Decoy",
        "A report of another patient in the pool. Same-finding decoys have the same 14 findings, so findings alone "
        "cannot "
        "tell them apart.",
        ("risk", "play"),
        marks=("same-finding decoys", "decoys", "same findings"),
        plain=("the same 14 labels",),
    ),
    Word(
        "beats-a-decoy",
        "Beats a decoy",
        "How often the right report is more similar to the image than one same-finding decoy: a coin reaches 50 of "
        "100.",
        ("risk",),
        ("label-matched AUC", "beats a decoy"),
    ),
    Word(
        "sd",
        "SD",
        "Standard deviation: the usual spread of a quantity. Differences between groups are given in it.",
        ("risk",),
        (" SD",),
    ),
    Word(
        "prior",
        "Report in the pool, of 100",
        "For how many of 100 images the right report is in the pool at all. It is an assumption, set by you.",
        ("missing-match",),
        plain=("for how many of 100 images",),
    ),
    Word(
        "precision",
        "Wants to be right",
        "Of 100 answers an attacker gives, so many are right. One who wants more answers less often.",
        ("missing-match",),
        ("precision", "right among answers"),
    ),
    Word(
        "threshold",
        "Threshold",
        "The score above which an attacker answers, and below which nothing is said.",
        ("missing-match",),
        ("threshold",),
    ),
    Word(
        "dir",
        "DIR, FPIR",
        "Names of a standard (ISO/IEC 19795-1): how often the right report is named when it is there, and how often "
        "any "
        "is named when it is not.",
        ("missing-match",),
        ("DIR", "FPIR"),
    ),
    Word(
        "margin",
        "Margin",
        "The lead of the most similar report over the second.",
        ("missing-match", "exposure"),
        ("margin",),
    ),
    Word(
        "exposure",
        "Exposure",
        "How often an image's right report comes first in pools of this size. Percentile 100: linked most easily.",
        ("exposure", "examples"),
        ("exposure percentile", "exposure"),
        plain=("more exposed", "less exposed", "linked most easily"),
    ),
    # -- mitigation
    Word(
        "mitigation",
        "Mitigation",
        "Whatever is done before images leave, so that fewer can be linked: new heads, or another kind of release.",
        (*_PROTECT, "examples", "play"),
        marks=("mitigated",),
        plain=("mitigation", "mitigations"),
    ),
    Word(
        "guarantee",
        "Guarantee",
        "What holds for every attacker, by proof. Of heads it is about the patients who trained them, not about "
        "linkage.",
        _PROTECT,
        marks=("guarantee",),
    ),
    Word(
        "epsilon",
        "Epsilon (ε)",
        "How much may be told about one patient who was used in training. Small: little. It does not limit linkage.",
        ("mitigation", "frontier", "examples"),
        marks=("epsilon", "ε"),
    ),
    Word(
        "delta",
        "Delta (δ)",
        "The small probability with which epsilon may not hold. It should be well below 1 divided by the number of "
        "patients.",
        ("mitigation",),
        marks=("delta", "δ"),
    ),
    Word(
        "unit",
        "Unit: patient or pair",
        "Whose presence epsilon hides: a patient with all images, or one image with its report (a pair).",
        ("mitigation",),
        marks=("unit: patient", "unit: pair"),
    ),
    Word(
        "add-remove",
        "Add/remove",
        "What epsilon compares: training with a patient, and training without this patient.",
        ("mitigation",),
        ("add/remove",),
    ),
    Word(
        "pairs",
        "Pairs",
        "An image together with its own report. An attacker may hold some of other patients and learn from them.",
        _PROTECT,
        ("own pairs", "known pairs", "pairs"),
    ),
    Word(
        "noise-only",
        "Noise only",
        "The same noise without anything learnt. What a mitigation does not keep better than this is damage, not "
        "privacy.",
        _PROTECT,
        ("noise only", "noise alone"),
    ),
    Word(
        "label-head",
        "Label head",
        "Heads that keep the listed findings and lose the rest. Instant: one noisy sum, at once. Trained: many noisy "
        "steps.",
        _PROTECT,
        ("label head, instant", "label head, trained", "label head"),
    ),
    Word(
        "aligned",
        "Aligned head",
        "Heads that keep images near their reports without using findings. Public negatives: what they are told "
        "apart from "
        "is public.",
        _PROTECT,
        ("aligned, public negatives", "aligned, instant", "aligned head"),
    ),
    Word(
        "study",
        "As in the study",
        "The mitigation of the study arXiv 2606.02276 as its text describes it. Its epsilon is reported, not "
        "established.",
        _PROTECT,
        ("a reading of the study", "as in the study"),
    ),
    Word(
        "held-out",
        "Held out",
        "Patients who had no part in what was trained. Everything that has learnt is measured on them alone.",
        (*_PROTECT, "play"),
        ("held out", "held-out"),
    ),
    Word(
        "declared",
        "Declared findings",
        "Findings that the maker of a mitigation listed to be kept. Undeclared: all others of the 14.",
        _PROTECT,
        ("undeclared findings", "declared findings", "undeclared", "declared"),
        plain=("label head is trained to keep", "must keep", "findings"),
    ),
    Word(
        "auroc",
        "AUROC",
        "How well a finding can be read: of two images, one with it and one without, how often the first scores "
        "higher. "
        "0.5 is a coin, 1 is always.",
        _PROTECT,
        ("AUROC",),
    ),
    Word(
        "points",
        "Points",
        "Hundredths of AUROC. One point: of 100 such pairs of images one more, or less, is told rightly.",
        _PROTECT,
        ("points",),
    ),
    Word(
        "zero-shot",
        "Zero-shot",
        "Reading findings by comparing an image with sentences such as “pleural effusion”, without training a reader.",
        ("mitigation",),
        ("zero-shot",),
    ),
    Word(
        "probe", "Probe", "A simple reader of findings, trained on embeddings of other patients.", _PROTECT, ("probe",)
    ),
    Word(
        "illustration",
        "Illustration",
        "A result whose noise can be repeated because its seed is stored. It shows what secret noise would give and "
        "guarantees nothing itself.",
        _PROTECT,
        ("illustration",),
    ),
    Word(
        "seed",
        "Seed",
        "The number that makes random draws repeatable. Whoever knows it can take noise away.",
        ("mitigation", "play"),
        ("seed",),
        plain=("a run that can be repeated",),
    ),
    # -- attackers
    Word(
        "attacker",
        "Attacker",
        "Whoever tries to link images to reports, by what they hold: embeddings, heads, or the images themselves. "
        "All that "
        "were tried are under Attackers.",
        _PROTECT,
        plain=("attacker", "attackers"),
    ),
    Word(
        "worst",
        "Worst attacker tried",
        "Of all attackers that hold no more than what was released, the one who links most, chosen where hits are "
        "many.",
        _PROTECT,
        ("the worst attacker tried", "the worst attacker", "the worst of those tried", "worst attacker"),
    ),
    Word(
        "knows-all",
        "Knows all",
        "An attacker who knows every candidate's clean embedding. Nobody can do better with what was released.",
        _PROTECT,
        ("knows all embeddings", "knows the clean embedding of every candidate"),
    ),
    # -- releases
    Word(
        "release",
        "Release",
        "What leaves: images, embeddings, embeddings and heads, or one of the kinds below.",
        _PROTECT,
        plain=("release", "released", "what an attacker holds"),
    ),
    Word(
        "limit",
        "Limit, certified",
        "What no attacker passes, by proof, in times guessing. Measured is what those tried have reached: it is lower.",
        _PROTECT,
        ("certified", "a limit", "at most L"),
        plain=("learns less from it",),
    ),
    Word(
        "statistics",
        "Statistics",
        "A release of noisy sums over patients, from which somebody can train a reader. No single record leaves.",
        _PROTECT,
        ("these statistics", "statistics"),
    ),
    Word(
        "codes",
        "Codes, cells",
        "A release that says of each record only in which of K groups of a public list it falls.",
        _PROTECT,
        ("public cells", "cells"),
    ),
    Word(
        "capped",
        "Capped records",
        "A release of a random direction near each record's own, so that no record stands out.",
        _PROTECT,
        ("capped records",),
    ),
    Word(
        "scores",
        "Scores",
        "A release of how likely each listed finding is. Nothing limits linkage by it.",
        ("frontier",),
        ("score release",),
    ),
    Word(
        "ledger",
        "Ledger",
        "The book of a site: what left about each patient, so that several releases do not add up unseen.",
        ("frontier",),
        ("ledger",),
    ),
    Word(
        "tolerance",
        "Tolerance",
        "How many points of AUROC may be lost for findings to count as kept.",
        ("frontier",),
        ("tolerance",),
    ),
    Word(
        "runs",
        "Runs",
        "The same mitigation made again with another seed. They are shown as one: the mean, and the range over them.",
        ("frontier",),
        plain=("runs",),
    ),
    Word(
        "synthetic",
        "Synthetic",
        "Made by a program. Nobody in a synthetic cohort is real.",
        ("start",),
        plain=("synthetic",),
    ),
    Word(
        "report-text",
        "Report text",
        "Hidden for cohorts of real people until the switch in the sidebar is on; hidden text is not sent to the "
        "browser.",
        ("examples", "play"),
        plain=("report text",),
    ),
)


def address(name: str) -> str:
    """Where an entry stands, from any page.

    >>> address("delta")
    'methods?word=delta'
    """
    one_of("word", name, WORDS)
    return f"methods?word={quote(name)}"


def word(name: str, shown: str | None = None) -> str:
    """The link to an entry as markdown; `shown` in place of its term.

    >>> word("delta"), word("epsilon", "ε")
    ('[Delta (δ)](methods?word=delta)', '[ε](methods?word=epsilon)')
    """
    return f"[{shown or WORDS[name].term}]({address(name)})"


def linked(text: str | None, *, plain: bool = True) -> str | None:
    """A help text (markdown, or None) with links from its words to their entries, each once and a few at most.

    >>> linked("What epsilon says.")
    'What [epsilon](methods?word=epsilon) says.'
    """
    if text is None:
        return None
    return _marked(text, plain, lambda shown, name: f"[{shown}]({address(name)})", r"`[^`]*`|\[[^\]]*\]\([^)]*\)")


def linked_html(html: str, *, plain: bool = False) -> str:
    """The same for HTML: text outside of tags, and not within a link.

    >>> linked_html('<b title="cosine">5 by cosine</b>')
    '<b title="cosine">5 by <a class="le-word" href="methods?word=similarity">cosine</a></b>'
    """

    def link(shown: str, name: str) -> str:
        return f'<a class="le-word" href="{escape(address(name))}">{shown}</a>'

    return _marked(html, plain, link, r"<a\b.*?</a>|<[^>]*>|&[#\w]+;")


def leads_to(text: str, *, plain: bool = True) -> tuple[str, ...]:
    """The entries that `linked` links from a text."""
    return tuple(re.findall(r"methods\?word=([\w-]+)", linked(unescape(text), plain=plain) or ""))


def _marked(text: str, plain: bool, link: Callable[[str, str], str], apart: str) -> str:
    """Each first spelling of an entry through `link`; what matches `apart` is left alone."""
    pattern, names = _spellings(plain)
    seen: set[str] = set()

    def replaced(part: str) -> str:
        def one(found: re.Match[str]) -> str:
            name = names[found[0].casefold()]
            if name in seen or len(seen) >= MOST_LINKS:
                return found[0]
            seen.add(name)
            return link(found[0], name)

        return pattern.sub(one, part)

    parts = re.split(f"({apart})", text, flags=re.DOTALL)
    return "".join(part if at % 2 else replaced(part) for at, part in enumerate(parts))


@cache
def _spellings(plain: bool) -> tuple[re.Pattern[str], dict[str, str]]:
    """What to look for, the longest first, and whose it is."""
    names = {
        mark.strip().casefold(): one.name
        for one in WORDS.values()
        for mark in (*one.marks, *(one.plain if plain else ()))
    }
    longest = sorted(names, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest))})(?![\w-])", re.IGNORECASE), names
