"""A game for people: which of a few reports belongs to this image? Drawn from records, ranked by whoever has scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd

from linkage_core.audit import strata
from linkage_core.audit.questions import DIRECTIONS
from linkage_core.errors import InputError

ROUND = 10
"""Images of a round."""
TRIED = 400
"""Images that are looked at for a round, at most: where those cannot fill it, it is smaller."""

Text = Callable[[str, str], str | None]
"""(study_id, report_key) -> the text of a report, None where it is not at hand."""


@dataclass(frozen=True)
class Question:
    """One image and its options, reports by study in the order shown. `answer`: place of its own among them, from 0."""

    record_id: str
    study_ids: tuple[str, ...]
    report_keys: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Round:
    """Questions with equally many options; `wanted` is how many options were asked for."""

    questions: tuple[Question, ...]
    n_options: int
    wanted: int

    @property
    def guessing(self) -> float:
        """How many a guesser gets right on average: one of n_options of each."""
        return len(self.questions) / self.n_options


def draw(
    records: pd.DataFrame,
    n_options: int,
    seed: int,
    *,
    same_findings: bool = False,
    text: Text | None = None,
    n_images: int = ROUND,
) -> Round:
    """A round: images of different patients, drawn at random, each with its own report and decoys.

    A decoy is a report of another patient, drawn uniformly; with `same_findings` one whose 14 labels are those of the
    image. A report that reads as one that is there already is passed over, so no two options read the same (case and
    blanks aside; without `text` by report_key), and so is one whose text is not at hand. Options stand in random order.
    It depends on the records, the seed and these settings alone, so every model plays the same round.

    Where ten images cannot fill n_options, the round has the largest number of options that ten can fill; where the
    cohort has fewer than ten patients whose images have a decoy, as many images as it has.

    records: as Entry.records gives them. n_options: 2 or more.
    Raises InputError for fewer than two options, for same_findings without labels, where no text is at hand, and where
    no image has a decoy.
    """
    if n_options < 2:
        raise InputError(f"n_options is {n_options}.", "A choice needs two reports or more.")
    candidates, match = strata.candidates_of(records, DIRECTIONS[0])
    of_image, of_report = np.zeros(len(records)), np.zeros(len(candidates))
    if same_findings:
        of_image, of_report = strata.stratum_codes(records, candidates)
    rng = np.random.default_rng([seed, n_options, int(same_findings)])
    patients, owners = records["patient_id"].to_numpy(str), candidates["patient_id"].to_numpy(str)
    reads = _reading(candidates, text)
    found: dict[str, tuple[int, list[int]]] = {}  # patient -> (image, its options, its own report first)
    n_full = 0
    for row in rng.permutation(len(records))[:TRIED]:
        known = found.get(patients[row])
        if (known and len(known[1]) == n_options) or reads(match[row]) is None:
            continue
        others = np.flatnonzero((of_report == of_image[row]) & (owners != patients[row]))
        options = _different([match[row], *rng.permutation(others)], n_options, reads)
        if len(options) >= 2 and (known is None or len(options) > len(known[1])):
            found[patients[row]] = (int(row), options)
            n_full += len(options) == n_options
            if n_full == n_images:
                break
    if not found:
        raise _nothing(candidates, same_findings, reads)
    sizes = sorted((len(options) for _, options in found.values()), reverse=True)
    n = sizes[min(n_images, len(sizes)) - 1]
    chosen = [(row, options) for row, options in found.values() if len(options) >= n][:n_images]
    names, studies, keys = (
        records["record_id"],
        candidates["study_id"].to_numpy(str),
        candidates["report_key"].to_numpy(str),
    )
    questions = []
    for row, options in chosen:
        shown = rng.permutation(n)  # shown[0] need not be the own report, which is options[0]
        reports = np.array(options[:n])[shown]
        own = int(np.flatnonzero(shown == 0)[0])
        questions.append(
            Question(str(names.iloc[row]), tuple(studies[reports].tolist()), tuple(keys[reports].tolist()), own)
        )
    return Round(tuple(questions), n, n_options)


def ranks(scores: Sequence[float] | np.ndarray) -> tuple[int, ...]:
    """Rank of each option, 1 for the highest score. Ties go by the order shown, which is random.

    >>> ranks([0.2, 0.9, 0.2])
    (2, 1, 3)
    """
    order = np.argsort(-np.asarray(scores, dtype=float), kind="stable")
    place = np.empty(len(order), dtype=int)
    place[order] = np.arange(1, len(order) + 1)
    return tuple(place.tolist())


def at_least(n_right: int, n_images: int, n_options: int) -> float:
    """The probability that a guesser gets n_right or more of a round: the upper tail of a binomial distribution.

    >>> round(at_least(6, 10, 4), 4), at_least(0, 10, 4)
    (0.0197, 1.0)
    """
    p = 1 / n_options
    return sum(comb(n_images, k) * p**k * (1 - p) ** (n_images - k) for k in range(n_right, n_images + 1))


def _reading(candidates: pd.DataFrame, text: Text | None) -> Callable[[int], str | None]:
    """What a candidate reads like: two with the same answer are one option. None: its text is not at hand."""
    studies, keys = candidates["study_id"].to_numpy(str), candidates["report_key"].to_numpy(str)
    kept: dict[int, str | None] = {}

    def reads(row: int) -> str | None:
        if text is None:
            return str(keys[row])
        if row not in kept:
            words = text(str(studies[row]), str(keys[row]))
            kept[row] = " ".join(words.casefold().split()) or None if words is not None else None
        return kept[row]

    return reads


def _different(rows: Sequence[int], n: int, reads: Callable[[int], str | None]) -> list[int]:
    """The first n rows that read differently."""
    found: dict[str, int] = {}
    for row in rows:
        words = reads(int(row))
        if words is not None and words not in found:
            found[words] = int(row)
            if len(found) == n:
                break
    return list(found.values())


def _nothing(candidates: pd.DataFrame, same_findings: bool, reads: Callable[[int], str | None]) -> InputError:
    if all(reads(row) is None for row in range(min(len(candidates), TRIED))):
        return InputError(
            "The text of the reports is not at hand, so there is nothing to choose from.",
            "Embed the cohort again with --store-text, or import it with a column `report`.",
        )
    if same_findings:
        return InputError(
            "No image has a decoy: no two patients with different reports share all findings.",
            "Play against reports of any patient.",
        )
    return InputError("No image has a decoy: there is no other patient's report that reads differently.", "")
