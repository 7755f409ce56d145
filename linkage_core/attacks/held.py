"""What an attacker holds: the release, the candidates and its own data."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd

from linkage_core.attacks.scored import Answer, Scored, ranked
from linkage_core.cohorts.base import ATTACKER, HELDOUT, LABELS
from linkage_core.errors import InputError, LinkageError
from linkage_core.heads import Heads, unit
from linkage_core.ranking.counts import MatchCounts
from linkage_core.store.entry import OFF_THE_SHELF, Entry
from linkage_core.store.seen import noise_of, noised, same_weights, split_apart, usable, why_untested

_log = logging.getLogger(__name__)

Known = int | Literal["all"]
"""How many of its own images or pairs an attacker has seen released."""

RELEASES = {
    "raw-images": "the images themselves; any public encoder can be run on them",
    "embeddings": "the embeddings, their heads kept secret",
    "embeddings-and-heads": "the embeddings and both heads",
}
RECORDS = "records"
"""Released records in place of embeddings, with the description of how they were made (release.measured)."""


@dataclass(frozen=True)
class Asked:
    """Queries and candidates: what is scored.

    released (n_queries, e) as it left the site; images (n_queries, d) public features, read by raw-images alone; texts
    (n_texts, t) public features of each distinct report and findings (n_texts, 14, or 0 columns) its four-valued
    labels; text_of (n_candidates,) row of each candidate's text; match (n_queries,) candidate of each query, read by
    nothing but the final count; query_group (n_queries,) and candidate_group (n_candidates,) patients.
    """

    released: np.ndarray
    images: np.ndarray
    texts: np.ndarray
    findings: np.ndarray
    text_of: np.ndarray
    match: np.ndarray
    query_group: np.ndarray
    candidate_group: np.ndarray

    def count(self, queries: np.ndarray, of_text: np.ndarray) -> MatchCounts:
        """Exact counts for scores queries (n_queries, p) . of_text (n_texts, p), over reports of other patients."""
        return self.ranked(Scored(queries, of_text))

    def ranked(self, answer: Answer) -> MatchCounts:
        """Exact counts of an attacker's scores, over reports of other patients."""
        return ranked(answer, self.text_of, self.match, self.query_group, self.candidate_group)


@dataclass(frozen=True)
class Unpaired:
    """The same images and reports as two public encoders see them that were never trained together.

    asked, own: (tower "image" or "text", ids) -> features (len(ids), d), of the queries' cohort and of the attacker's;
    read when an attacker asks. images (n_queries,), texts (n_texts,), own_images (n_own,), own_texts (n_own,): ids of
    the rows of Held. model: which encoders; alone: whether it is they whose embeddings are released; inputs:
    fingerprints of both entries.
    """

    model: str
    alone: bool
    asked: Callable[[str, np.ndarray], np.ndarray]
    own: Callable[[str, np.ndarray], np.ndarray]
    images: np.ndarray
    texts: np.ndarray
    own_images: np.ndarray
    own_texts: np.ndarray
    inputs: tuple[str, ...] = ()

    def at_home(self, left_out: np.ndarray, rest: np.ndarray) -> Unpaired:
        """Own rows `left_out` in the queries' place, `rest` as own rows."""
        mine = self.own_images, self.own_texts
        rows = (ids[part] for part in (left_out, rest) for ids in mine)
        return Unpaired(self.model, self.alone, self.own, self.own, *rows)


@dataclass(frozen=True)
class Held(Asked):
    """Everything there is for an attacker to look at. A patient of `own` is no query's and no candidate's: InputError.

    The attacker's own: own_released (n_own, e), own_clean the same before output noise, own_images (n_own, d),
    own_texts (n_own, t), own_findings (n_own, as findings), own_group (n_own,) patients. `noise` is the standard
    deviation of Gaussian output noise in each coordinate, known to everybody; `split` whose records the queries are;
    `unpaired` the same by other encoders, where the cohort was embedded by such.
    """

    own_released: np.ndarray
    own_clean: np.ndarray
    own_images: np.ndarray
    own_texts: np.ndarray
    own_findings: np.ndarray
    own_group: np.ndarray
    heads: Heads
    off_the_shelf: Heads
    noise: float = 0.0
    split: str = HELDOUT
    unpaired: Unpaired | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise InputError(f"noise is {self.noise}.", "It is a standard deviation: zero or more.")
        common = np.intersect1d(self.own_group, np.concatenate([self.query_group, self.candidate_group]))
        if len(common):
            raise InputError(
                f"{len(common)} patients of the attacker's own data are among those it is tested on, such as "
                f"{str(common[0])!r}: it would have seen the answers.",
                "Split by patient, and give the attacker another split.",
            )
        if not len(self.own_group):
            raise InputError("The attacker has no data of its own.", "Give it a split, or another cohort's entry.")

    @cached_property
    def learnt(self) -> dict[Hashable, object]:
        """What attackers have learnt from it, so that two who build on the same do it once. It goes when this goes."""
        return {}

    def at_home(self, rows: np.ndarray, candidates: np.ndarray) -> Asked:
        """Own rows as queries and own rows as candidates, the queries' own first and in their order."""
        return Asked(
            released=self.own_released[rows],
            images=self.own_images[rows],
            texts=self.own_texts[candidates],
            findings=self.own_findings[candidates],
            text_of=np.arange(len(candidates)),
            match=np.arange(len(rows)),
            query_group=self.own_group[rows],
            candidate_group=self.own_group[candidates],
        )


def hold(
    entry: Entry,
    head: str = OFF_THE_SHELF,
    *,
    source: Entry | None = None,
    noise: float | None = None,
    split: str | None = None,
    own_split: str = ATTACKER,
    seed: int = 0,
) -> Held:
    """What attackers hold of an entry whose embeddings under a head are released.

    Arguments
        source: the entry that has the head and the attacker's own split; by default the entry itself. For an external
            cohort give the one the head was made on.
        noise: standard deviation of output noise; by default what the head's record says under "output_noise", else 0.
        split: whose images are queried; default: seen.split_apart.
        seed: of the output noise that is drawn here to stand for the release.

    Raises InputError where the two splits share a patient, where the head was trained on the queried split, or where
    the entries come from other weights.
    """
    source = source or entry
    split = split or split_apart(entry, source)
    if source is entry and own_split == ATTACKER and (problem := why_untested(entry)):
        raise problem
    usable(entry, source, head, split)
    heads, shelf = source.heads(head), source.heads()
    base = entry.embeddings(split=split)
    own = source.records(own_split)
    sigma = noise_of(source, head, noise)
    rng = np.random.default_rng(seed)
    keys = base.candidates["report_key"].drop_duplicates()
    first = base.records.drop_duplicates("report_key").set_index("report_key")
    images = entry.features("image", base.records["record_id"])
    own_images = source.features("image", own["record_id"])
    released, own_clean = unit(heads.image(images)), unit(heads.image(own_images))
    return Held(
        released=noised(released, sigma, rng),
        images=images,
        texts=entry.features("text", keys),
        findings=first.loc[keys, list(LABELS)].to_numpy(float),
        text_of=pd.Index(keys).get_indexer(base.candidates["report_key"]),
        match=base.match,
        query_group=base.records["patient_id"].to_numpy(str),
        candidate_group=base.candidates["patient_id"].to_numpy(str),
        own_released=noised(own_clean, sigma, rng),
        own_clean=own_clean,
        own_images=own_images,
        own_texts=source.features("text", own["report_key"]),
        own_findings=own[list(LABELS)].to_numpy(float),
        own_group=own["patient_id"].to_numpy(str),
        heads=heads,
        off_the_shelf=shelf,
        noise=sigma,
        split=split,
        unpaired=_unpaired(entry, source, base.records["record_id"], first.loc[keys, "record_id"], own["record_id"]),
    )


def _unpaired(entry: Entry, source: Entry, images: pd.Series, of_texts: pd.Series, own: pd.Series) -> Unpaired | None:
    """The entries of both cohorts by two towers that share no space, if they hold these records (ids of images, of one
    record for each text, and of the attacker's own); the same model for both.

    None where there is none; where one lacks some of the records, a line of the log says so.
    """
    models = entry.store.models(entry.cohort)
    for model in [entry.model] if entry.unpaired else models:
        if model not in source.store.models(source.cohort):
            continue
        try:
            asked = entry if model == entry.model else entry.store.open(entry.cohort, model)
            if not asked.unpaired:
                continue
            mine = source if model == source.model else source.store.open(source.cohort, model)
            same_weights(asked, mine)
            texts, own_texts = _texts_of(asked, of_texts), _texts_of(mine, own)
            _texts_of(asked, images)  # whether all are there
        except LinkageError as error:
            _log.warning("No attack by %s: %s", model, error)
            continue
        return Unpaired(
            model,
            model == entry.model,
            asked.features,
            mine.features,
            images.to_numpy(str),
            texts,
            own.to_numpy(str),
            own_texts,
            (asked.inputs(OFF_THE_SHELF), mine.inputs(OFF_THE_SHELF)),
        )
    return None


def _texts_of(entry: Entry, record_ids: pd.Series) -> np.ndarray:
    """The report key that each record has in an entry. InputError where it lacks some."""
    keys = entry.records().set_index("record_id")["report_key"].reindex(record_ids)
    if keys.isna().any():
        raise InputError(
            f"{entry.cohort}/{entry.model} lacks {int(keys.isna().sum()):,} of the records.",
            f"Run `linkage embed` again with --model {entry.model}.",
        )
    return keys.to_numpy(str)
