"""What an attacker with a threshold gets where the match may be missing: rates, precision, and who can be linked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from linkage_core.errors import InputError
from linkage_core.ranking import intervals

WANTED = (0.0, 0.5, 0.8, 0.9)
"""Wanted precisions; 0.0 is the attacker who always answers, to whom the cautious one is compared."""
FEWEST_PATIENTS = 30
FEWEST_LINKED = 10


@dataclass(frozen=True, eq=False)
class OpenWorld:
    """What one attacker gains at one prior.

    curve: one row a threshold, on the test half: threshold, dir, dir_low, dir_high, fpir, fpir_low, fpir_high,
        misidentified, links, precision. All are shares of images; precision is NaN where nothing is linked.
    operating: one row a wanted precision: rule, wanted_precision, threshold, linked_rightly, low, high, linked_wrongly,
        links, links_low, links_high, no_answer, precision, precision_low, precision_high, n_images, n_patients,
        n_linked, baseline, best, reached, note. `links` is answered at all; `baseline` is what as many links at random
        would get right (links p/N); n_linked patients of the test half are ever linked rightly; `best` is the largest
        precision of any threshold on the choosing half. Where none there reaches the wanted one, `reached` is False,
        the figures are NaN and `note` says why.
    n_choosing, n_test: (images, patients) of the two halves; n_excluded images have too few other reports for N.
    monte_carlo_error: the largest standard error of a rate of the curve from drawing pools; 0 where nothing is drawn.
    note: "" or why every figure here is too few to say.
    """

    rule: str
    pool_size: int
    prior: float
    curve: pd.DataFrame
    operating: pd.DataFrame
    n_choosing: tuple[int, int]
    n_test: tuple[int, int]
    n_excluded: int
    pools_a_query: int
    monte_carlo_error: float
    draws: int
    seed: int
    note: str


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Sums over each patient's images of DIR, wrong and FPIR at every threshold: all that the prior still acts on.

    thresholds (n_thresholds,) increasing, the first of them always answered; sums (3, n_patients, n_thresholds);
    images (n_patients,); choosing and testing (n_patients,) bool, the halves.
    """

    rule: str
    pool_size: int
    thresholds: np.ndarray
    sums: np.ndarray
    images: np.ndarray
    choosing: np.ndarray
    testing: np.ndarray
    n_excluded: int = 0
    pools_a_query: int = 0
    monte_carlo_error: float = 0.0
    seed: int = 0
    tied: str = ""

    def at(self, prior: float, wanted: Sequence[float] = WANTED) -> OpenWorld:
        """The answer at one prior: milliseconds once the first has drawn the bootstrap.

        InputError for a prior outside (0, 1] or a wanted precision outside 0..1.
        """
        check_prior(prior)
        for one in wanted:
            if not 0 <= one <= 1:
                raise InputError(f"A wanted precision is {one}.", "It lies between 0 and 1, for example 0.8.")
        note = self._too_few() or (f"{self.tied.capitalize()}." if self.tied else "")
        return OpenWorld(
            rule=self.rule,
            pool_size=self.pool_size,
            prior=float(prior),
            curve=self._curve(prior),
            operating=pd.DataFrame([self._operating_point(prior, float(one), note) for one in wanted]),
            n_choosing=self._n(self.choosing),
            n_test=self._n(self.testing),
            n_excluded=self.n_excluded,
            pools_a_query=self.pools_a_query,
            monte_carlo_error=self.monte_carlo_error,
            draws=intervals.DRAWS,
            seed=self.seed,
            note=note,
        )

    def rates(self, half: np.ndarray) -> np.ndarray:
        """(3, n_thresholds) mean DIR, wrong and FPIR over the images of some patients; NaN without any."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.sums[:, half].sum(axis=1) / self.images[half].sum())

    def chosen(self, prior: float, wanted: float) -> int | None:
        """The lowest threshold (its index), and so the most links, whose precision on the choosing half is the wanted
        one; None where there is none."""
        enough = self._chosen_precision(prior) >= wanted
        return int(np.argmax(enough)) if enough.any() else None

    def _chosen_precision(self, prior: float) -> np.ndarray:
        return precision(prior, self._chosen_on)

    @cached_property
    def _chosen_on(self) -> np.ndarray:
        return self.rates(self.choosing)

    @cached_property
    def _told_on(self) -> np.ndarray:
        return self.rates(self.testing)

    @cached_property
    def _drawn(self) -> np.ndarray:
        """(3, draws, n_thresholds) the same over resampled patients, as in statistics.cluster_bootstrap."""
        n = int(self.testing.sum())
        weights = intervals.patient_weights(n, intervals.DRAWS, self.seed)
        sums = self.sums[:, self.testing].astype(np.float32)
        n_images = (weights @ self.images[self.testing].astype(np.float32))[:, None]
        return np.minimum(np.stack([weights @ one for one in sums]) / n_images, np.float32(1))  # not 1.00000004

    @cached_property
    def _bands(self) -> np.ndarray:
        """(2, 3, n_thresholds): low and high."""
        if self.testing.sum() < 2:
            return np.full((2, *self._told_on.shape), np.nan)
        low, high = np.quantile(self._drawn, _tails(), axis=1)
        images = self.images[self.testing, None]
        m = np.stack([intervals.behind(one[self.testing], images) for one in self.sums])
        low, high = intervals.stretched(self._told_on, low, high, m)
        return np.stack([np.maximum(low, 0), np.where(self._never, self._unseen, np.minimum(high, 1))])

    @cached_property
    def _never(self) -> np.ndarray:
        """(3, n_thresholds) True where it happens to no image of the test half."""
        return np.asarray(~(self.sums[:, self.testing] > 0).any(axis=1))

    @property
    def _unseen(self) -> float:
        """The upper end for what happens to none of the test half's patients, of as many as hold its images."""
        return intervals.unseen(float(intervals.in_effect(self.images[self.testing, None])[0]))

    def _curve(self, prior: float) -> pd.DataFrame:
        right, wrong, false = self._told_on
        links = _links(prior, self._told_on)
        (right_low, _, false_low), (right_high, _, false_high) = self._bands
        return pd.DataFrame(
            {
                "threshold": self.thresholds.astype(np.float64),
                "dir": right,
                "dir_low": right_low,
                "dir_high": right_high,
                "fpir": false,
                "fpir_low": false_low,
                "fpir_high": false_high,
                "misidentified": wrong,
                "links": links,
                "precision": precision(prior, self._told_on),
            }
        )

    def _operating_point(self, prior: float, wanted: float, note: str) -> dict[str, Any]:
        """Figures of the test half at the threshold chosen for a wanted precision."""
        n_images, n_patients = self._n(self.testing)
        names = (
            *("threshold", "linked_rightly", "low", "high", "linked_wrongly", "links", "links_low", "links_high"),
            *("no_answer", "precision", "precision_low", "precision_high", "baseline"),
        )
        precision = self._chosen_precision(prior)
        best = float(np.nanmax(precision)) if not np.isnan(precision).all() else np.nan
        row = {"rule": self.rule, "wanted_precision": wanted, **dict.fromkeys(names, np.nan)}
        row |= {"n_images": n_images, "n_patients": n_patients, "n_linked": 0, "best": best}
        row |= {"reached": False, "note": note}
        g = self.chosen(prior, wanted)
        if g is None:
            there = "nothing is linked at all" if np.isnan(best) else f"the best is {best:.1%}"
            why = f"No threshold reaches a precision of {wanted:.0%} on the choosing half; {there}."
            return row | {"note": f"{why} {note}".strip()}
        told = self._told_on[:, g]
        linked = float(_links(prior, told))
        n_linked = int((self.sums[0, self.testing, g] > 0).sum())
        if n_linked < FEWEST_LINKED:
            note = f"{note} Too few to say: {n_linked} patients of the test half are ever linked rightly.".strip()
        return row | {
            "threshold": float(self.thresholds[g]),
            "linked_rightly": float(prior * told[0]),
            "linked_wrongly": float(linked - prior * told[0]),
            "links": linked,
            "no_answer": max(0.0, 1 - linked),
            "precision": float(_share(prior * told[0], linked)),
            "baseline": linked * prior / self.pool_size,
            "n_linked": n_linked,
            "reached": True,
            "note": note,
            **self._intervals(prior, g),
        }

    def _intervals(self, prior: float, g: int) -> dict[str, float]:
        """Intervals over patients of linked rightly, linked at all and precision, the threshold given: percentiles,
        stretched by the patients in effect behind what is linked, and of a precision also behind what is linked wrongly
        (where few are, it lacks little to 1)."""
        if self.testing.sum() < 2:
            return {}
        drawn, told = self._drawn[:, :, g].astype(np.float64), self._told_on[:, g]
        sums = self.sums[:, self.testing, g].astype(np.float64)
        right, links = prior * drawn[0], np.minimum(_links(prior, drawn), 1.0)
        told_links = float(_links(prior, told))
        behind_links, behind_right, behind_wrong = intervals.behind(
            np.column_stack([_links(prior, sums), sums[0], _links(prior, sums) - prior * sums[0]]),
            self.images[self.testing, None],
        )
        links_low, links_high = _ends(told_links, links, behind_links)
        if self._never[:, g].all():
            links_high = self._unseen
        ends = {"links_low": links_low, "links_high": links_high}
        if self._never[0, g]:
            return ends | {"low": 0.0, "high": prior * self._unseen}
        low, high = _ends(float(prior * told[0]), right, behind_right, most=prior)
        precision = float(_share(prior * told[0], told_links))
        precision_low, precision_high = _ends(precision, _share(right, links), min(behind_right, behind_wrong))
        return ends | {"low": low, "high": high, "precision_low": precision_low, "precision_high": precision_high}

    def _n(self, half: np.ndarray) -> tuple[int, int]:
        return int(self.images[half].sum()), int(half.sum())

    def _too_few(self) -> str:
        for half, name in ((self.choosing, "choosing"), (self.testing, "test")):
            if half.sum() < FEWEST_PATIENTS:
                return f"Too few to say: the {name} half has {int(half.sum())} patients, fewer than {FEWEST_PATIENTS}."
            share = self.images[half].max() / self.images[half].sum()
            if share > 0.5:
                return f"Too few to say: one patient holds {share:.0%} of the images of the {name} half."
            in_effect = float(intervals.in_effect(self.images[half, None] ** 2)[0])
            if in_effect < intervals.FEW_CARRY:
                return (
                    f"Too few to say: the {name} half has {in_effect:.0f} patients in effect, as few hold its images."
                )
        return ""


def precision(prior: float, rates: np.ndarray) -> np.ndarray:
    """Right among answers: p DIR / (p (DIR + wrong) + (1 - p) FPIR), with p the prior; NaN where nothing is answered.

    rates: (3, ...) DIR, wrong although the report is there, and FPIR.

    >>> precision(0.5, np.array([0.3, 0.1, 0.2])).round(6)
    np.float64(0.5)
    """
    return _share(prior * rates[0], _links(prior, rates))


def _links(prior: float, rates: np.ndarray) -> np.ndarray:
    right, wrong, false = rates
    return np.asarray(prior * (right + wrong) + (1 - prior) * false)


def _share(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(whole) > 0, np.asarray(part) / np.asarray(whole), np.nan)


def _ends(told: float, drawn: np.ndarray, behind: float, most: float = 1.0) -> tuple[float, float]:
    """(low, high) of a rate of at most `most` from its draws, stretched by the patients in effect behind it."""
    percentiles = np.nanquantile(drawn, _tails())
    low, high = intervals.stretched(told, percentiles[0], percentiles[1], behind)
    return max(float(low), 0.0), min(float(high), most)


def _tails() -> list[float]:
    return [(1 - intervals.LEVEL) / 2, (1 + intervals.LEVEL) / 2]


def check_prior(prior: float) -> None:
    if isinstance(prior, bool) or not isinstance(prior, (int, float, np.integer, np.floating)) or not 0 <= prior <= 1:
        raise InputError(
            f"prior is {prior!r}.", "It is the probability that the match is in the pool, above 0 up to 1."
        )
    if prior == 0:
        raise InputError(
            "prior is 0: no link can be right, so precision says nothing.",
            "Give a prior above 0; the column fpir of any curve says how often a pool without the match is answered.",
        )
