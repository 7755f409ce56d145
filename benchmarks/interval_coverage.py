"""How often do the intervals hold the truth, and how often do the tests cry wolf? On simulated, clustered data.

    python benchmarks/interval_coverage.py [--repeats 2000] [--twin-repeats 1000] [--only rates|figures|tests|exposure]

Writes benchmarks/interval_coverage.json: for each interval its coverage beside that of the twin that takes images for
independent, or of the twin that is not stretched by how few patients are behind it in effect, with the share of repeats
that are flagged; and for each test how often it rejects at 5% where nothing differs. Truths are known in closed form,
but for those of the missing match, which are means of 400,000 patients.
`--only` runs one part and leaves the figures of the others as they stand in the file.
Candidates are held fixed, as the intervals say: they speak of other patients as queries, not of other pools.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from scipy.special import ndtr

from linkage_core.audit import compare, exposure
from linkage_core.audit.outcomes import Outcomes
from linkage_core.audit.strata import label_matched_auc
from linkage_core.ranking import intervals
from linkage_core.ranking.counts import MatchCounts
from linkage_core.ranking.intervals import DRAWS, cluster_bootstrap, flag_of, of_the_best, rate_intervals
from linkage_core.ranking.paired import mcnemar_exact, permutation_test
from linkage_core.ranking.pools import expected_recall
from linkage_core.utility.auroc import aurocs

POOL_SIZE = 10
# E[(1-t)^(N-1)] for t ~ Beta(1, 4): 4 / (4 + N - 1)
TRUTH = {"rate": 0.2, "recall@1": 4 / (4 + POOL_SIZE - 1), "label-matched AUC": 0.6, "paired difference": 0.1}
NOMINAL = (0.935, 0.965)
SETS = 4
"""Sets of drawn patients that repeats take turns with, so that they are drawn once: patients are new every time."""


def even(rng: np.random.Generator, n_patients: int) -> np.ndarray:
    """(n_patients,) one to eight images each."""
    return rng.integers(1, 9, n_patients)


def heavy(rng: np.random.Generator, n_patients: int) -> np.ndarray:
    """(n_patients,) most have one or two images, a few up to 60: Pareto of index 1.1."""
    return np.minimum(60, np.floor((1 - rng.random(n_patients)) ** (-1 / 1.1))).astype(np.int64)


Sizes = Callable[[np.random.Generator, int], np.ndarray]
RATE_ROWS: dict[str, tuple[int, Sizes]] = {
    "300 patients": (300, even),
    "60 patients": (60, even),
    "100 patients, few hold most images": (100, heavy),
    "300 patients, few hold most images": (300, heavy),
    "1,000 patients, few hold most images": (1000, heavy),
}


def sample(rng: np.random.Generator, n_patients: int, sizes: Sizes = even) -> tuple[np.ndarray, np.ndarray]:
    """(values (n_images, 4) in the order of TRUTH, patient): images alike within a patient.

    The recall is the closed form at N from drawn counts; every fifth image has no decoy, so no AUC.
    """
    patient = np.repeat(np.arange(n_patients), sizes(rng, n_patients))
    n = len(patient)
    rate = rng.beta(0.5, 2.0, n_patients)[patient]
    n_eligible = rng.integers(50, 200, n)
    better = rng.binomial(n_eligible, rng.beta(1.0, 4.0, n_patients)[patient])
    recall = expected_recall(MatchCounts(better, np.zeros_like(better), n_eligible), POOL_SIZE, 1)
    decoys = np.where(rng.random(n) < 0.2, 0, rng.integers(1, 12, n))
    beaten_by = rng.binomial(decoys, rng.beta(2.0, 3.0, n_patients)[patient])
    auc = label_matched_auc(MatchCounts(beaten_by, np.zeros_like(beaten_by), decoys))
    gain = rng.normal(0.1, 0.3, n_patients)[patient] + rng.normal(0, 0.2, n)
    return np.column_stack([(rng.random(n) < rate).astype(float), recall, auc, gain]), patient


def coverage(
    repeats: int,
    n_patients: int,
    clustered: bool,
    draws: int = DRAWS,
    seed: int = 5,
    sizes: Sizes = even,
    stretched: bool = True,
) -> dict[str, float]:
    """Share of repeats whose 95% interval holds the truth, and under "flagged" that of those flagged."""
    rng = np.random.default_rng(seed)
    truth = np.array(list(TRUTH.values()))
    held = np.zeros(len(truth))
    flagged = 0
    for _ in range(repeats):
        values, patient = sample(rng, n_patients, sizes)
        unit = patient if clustered else np.arange(len(patient))
        of_draws = int(rng.integers(SETS))
        if stretched:
            rates, gain = (
                make(part, unit, seed=of_draws, draws=draws)
                for make, part in ((rate_intervals, values[:, :3]), (cluster_bootstrap, values[:, 3:]))
            )
            low, high = np.concatenate([rates.low, gain.low]), np.concatenate([rates.high, gain.high])
        else:
            with unstretched():
                found = cluster_bootstrap(values, unit, seed=of_draws, draws=draws)
            low, high = found.low, found.high
        held += (low <= truth) & (truth <= high)
        flagged += bool(flag_of(patient))
    return dict(zip(TRUTH, (held / repeats).tolist(), strict=True)) | {"flagged": flagged / repeats}


def unstretched() -> mock._patch[Callable[..., np.ndarray]]:
    """The twin: percentile intervals as they are."""
    return mock.patch.object(intervals, "stretch", lambda m, level=0.95: np.ones_like(np.asarray(m, dtype=float)))


def rates_part(repeats: int, twin_repeats: int) -> dict[str, dict[str, object]]:
    """By cohort and figure: truth, coverage, that of either twin, and the share of repeats that are flagged."""
    rows: dict[str, dict[str, object]] = {}
    for name, (n_patients, sizes) in RATE_ROWS.items():
        right = coverage(repeats, n_patients, clustered=True, sizes=sizes)
        percentile = coverage(twin_repeats, n_patients, clustered=True, sizes=sizes, stretched=False)
        naive = coverage(twin_repeats, n_patients, clustered=False, sizes=sizes, stretched=False)
        rows[name] = {
            figure: {
                "truth": TRUTH[figure],
                "clustered": right[figure],
                "not_stretched": percentile[figure],
                "unclustered": naive[figure],
            }
            for figure in TRUTH
        } | {"flagged": right["flagged"]}
        print(name, rows[name], flush=True)
    return rows


# ------------------------------------------------------------------------------------------------ figures of several


Held = tuple[dict[str, bool], bool]
"""Of one repeat: for each figure whether its interval holds the truth; and whether it is flagged."""


def before_and_after(
    rng: np.random.Generator, n_patients: int, sizes: Sizes, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits before and after, and patients: of a share of them every image is drawn again, half as often hit.

    Hits are as beta(1, 2) of patients, so the mean falls from 1/3 by half the share of it.
    """
    patient = np.repeat(np.arange(n_patients), sizes(rng, n_patients))
    before = rng.random(len(patient)) < rng.beta(1, 2, n_patients)[patient]
    again = rng.random(len(patient)) < 0.5 * rng.beta(1, 2, n_patients)[patient]
    after = np.where((rng.random(n_patients) < share)[patient], again, before)
    return before.astype(float), after.astype(float), patient


def few_differ(rng: np.random.Generator, n_patients: int, sizes: Sizes, share: float) -> Held:
    """By how many percent, and by how much, before_and_after."""
    before, after, patient = before_and_after(rng, n_patients, sizes, share)
    of_draws = int(rng.integers(SETS))
    found = compare.relative_change(before, after, patient, of_draws)
    paired = cluster_bootstrap(after - before, patient, seed=of_draws)
    return {
        "relative change": found["low"] <= -50 * share <= found["high"],
        "difference": bool(paired.low[0] <= -share / 6 <= paired.high[0]),
    }, bool(found["flag"])


ATTACKERS = 8
_HARD = 1.6


def beaten_by(rng: np.random.Generator, n_patients: int, alike: float, better: float) -> tuple[np.ndarray, np.ndarray]:
    """(share of decoys that beat each image's match (n_images, ATTACKERS), patient).

    The share is Phi(x - _HARD), x normal, of variance 1, of which 0.6 is the patient's and a share `alike` is common to
    all attackers; the first of them has x lower by `better`.
    """
    patient = np.repeat(np.arange(n_patients), even(rng, n_patients))

    def normal(columns: int) -> np.ndarray:
        of_patient, own = rng.normal(size=(n_patients, columns))[patient], rng.normal(size=(len(patient), columns))
        return np.sqrt(0.6) * of_patient + np.sqrt(0.4) * own

    x = np.sqrt(alike) * normal(1) + np.sqrt(1 - alike) * normal(ATTACKERS)
    x[:, 0] -= better
    return ndtr(x - _HARD), patient


def of_worst(rng: np.random.Generator, n_patients: int, alike: float, better: float) -> Held:
    """The best of ATTACKERS in pools of 100, and its Recall@1 there and in pools of 1,000."""
    beaten, patient = beaten_by(rng, n_patients, alike, better)
    at_100 = (1 - beaten) ** 99
    held: dict[str, bool] = {}
    of_draws = int(rng.integers(SETS))
    for n, values in ((100, at_100), (1000, (1 - beaten) ** 999)):
        best, found = of_the_best(values, at_100, patient, seed=of_draws)
        truth = _true_recall(n, better if best == 0 else 0.0)
        held[f"worst of {ATTACKERS}, N = {n:,}"] = bool(found.low[0] <= truth <= found.high[0])
    return held, bool(flag_of(patient))


def added_by_choice(repeats: int, n_patients: int, alike: float, better: float, seed: int = 10) -> float:
    """By how much the recall of the best of ATTACKERS in pools of 100 is too large, in its standard errors."""
    rng = np.random.default_rng(seed)
    means = np.stack([((1 - beaten_by(rng, n_patients, alike, better)[0]) ** 99).mean(axis=0) for _ in range(repeats)])
    truth = np.array([_true_recall(100, better), *[_true_recall(100, 0.0)] * (ATTACKERS - 1)])
    return float((((means - truth) / means.std(axis=0))[np.arange(repeats), means.argmax(axis=1)]).mean())


@lru_cache
def _true_recall(n: int, better: float) -> float:
    """E (1 - Phi(x - _HARD - better))^(n-1) for standard normal x, by quadrature."""
    x = np.linspace(-9, 9, 20_001)
    density = np.exp(-(x**2) / 2)
    return float((density * (1 - ndtr(x - _HARD - better)) ** (n - 1)).sum() / density.sum())


_THRESHOLDS = np.linspace(0, 1, 20)


def outcomes(rng: np.random.Generator, n_patients: int, sizes: Sizes) -> Outcomes:
    """An image is answered up to a threshold of its own, higher where its patient is easy, whom it names rightly more
    often; where the match is missing the threshold is lower. Half of the patients choose."""
    images = sizes(rng, n_patients)
    patient = np.repeat(np.arange(n_patients), images)
    first = np.cumsum(images) - images

    def drawn() -> tuple[np.ndarray, np.ndarray]:
        ease = rng.beta(1.0, 2.0, n_patients)[patient]
        return 0.7 * ease + 0.3 * rng.random(len(patient)), rng.random(len(patient)) < ease

    top, right = drawn()
    alone = 0.6 * drawn()[0]
    reached = top[:, None] >= _THRESHOLDS
    hits = (reached & right[:, None], reached & ~right[:, None], alone[:, None] >= _THRESHOLDS)
    sums = np.stack([np.add.reduceat(one, first, axis=0, dtype=float) for one in hits])
    test = np.arange(n_patients) % 2 == 0
    of_draws = int(rng.integers(SETS))
    return Outcomes("score", 10, _THRESHOLDS, sums, images.astype(float), ~test, test, seed=of_draws)


@lru_cache
def _true_outcomes() -> np.ndarray:
    """(3, n_thresholds), of patients with one image each: a patient's images are as many as ease knows nothing of."""
    one_each = outcomes(np.random.default_rng(1), 400_000, lambda rng, n: np.ones(n, dtype=np.int64))
    return np.asarray(one_each.sums.mean(axis=1))


def missing_match(rng: np.random.Generator, n_patients: int, sizes: Sizes, wanted: float = 0.5) -> Held:
    """Linked rightly, links and precision at the threshold chosen for a wanted precision, at even odds."""
    made = outcomes(rng, n_patients, sizes)
    row = made.at(0.5, [wanted]).operating.iloc[0]
    right, wrong, false = _true_outcomes()[:, int(np.argmin(np.abs(_THRESHOLDS - row["threshold"])))]
    links = 0.5 * (right + wrong + false)
    return {
        "linked rightly": row["low"] <= 0.5 * right <= row["high"],
        "links": row["links_low"] <= links <= row["links_high"],
        "precision": row["precision_low"] <= 0.5 * right / links <= row["precision_high"],
    }, bool(row["note"])


def auroc(rng: np.random.Generator, n_patients: int, sizes: Sizes, prevalence: float, shift: float) -> Held:
    """AUROC of scores that are normal, 0.64 of their variance the patient's, and `shift` higher with the finding,
    which is a patient's; and how much it falls where noise of half a standard deviation is added."""
    patient = np.repeat(np.arange(n_patients), sizes(rng, n_patients))
    n = len(patient)
    states = (rng.random(n_patients) < prevalence)[patient].astype(float)
    before = 0.8 * rng.normal(size=n_patients)[patient] + 0.6 * rng.normal(size=n) + shift * states
    after = before + 0.5 * rng.normal(size=n)
    found = aurocs(np.stack([before, after], axis=1)[:, None], states[:, None], patient, seed=int(rng.integers(SETS)))
    truth, truth_after = ndtr(shift / np.sqrt(2)), ndtr(shift / np.sqrt(2 * 1.25))
    low, high = np.quantile(found.draws[:, 0, 0], [0.025, 0.975])
    fall = np.quantile(found.draws[:, 0, 1] - found.draws[:, 0, 0], [0.025, 0.975])
    return {
        "AUROC": bool(low <= truth <= high),
        "difference of AUROC": bool(fall[0] <= truth_after - truth <= fall[1]),
    }, not bool(found.enough[0])


FIGURES: dict[str, Callable[[np.random.Generator], Held]] = {
    "8% of 300 patients differ": partial(few_differ, n_patients=300, sizes=even, share=0.08),
    "20% of 300 patients differ": partial(few_differ, n_patients=300, sizes=even, share=0.2),
    "3% of 1,000 patients differ": partial(few_differ, n_patients=1000, sizes=even, share=0.03),
    "60% of 300 patients differ, few hold most images": partial(few_differ, n_patients=300, sizes=heavy, share=0.6),
    "attackers unlike each other and level": partial(of_worst, n_patients=300, alike=0.0, better=0.0),
    "attackers alike and level": partial(of_worst, n_patients=300, alike=0.9, better=0.0),
    "attackers unlike each other, one a little better": partial(of_worst, n_patients=300, alike=0.0, better=0.1),
    "attackers alike, one better": partial(of_worst, n_patients=300, alike=0.9, better=0.3),
    "missing match, 150 patients tested": partial(missing_match, n_patients=300, sizes=even),
    "missing match, 300 patients tested, few hold most images": partial(missing_match, n_patients=600, sizes=heavy),
    "finding of 60 of 300 patients": partial(auroc, n_patients=300, sizes=even, prevalence=0.2, shift=1.0),
    "finding of 500 of 1,000 patients, few hold most images": partial(
        auroc, n_patients=1000, sizes=heavy, prevalence=0.5, shift=1.0
    ),
    "finding of 200 of 1,000 patients, few hold most images": partial(
        auroc, n_patients=1000, sizes=heavy, prevalence=0.2, shift=1.0
    ),
}


def figure_coverage(
    one: Callable[[np.random.Generator], Held], repeats: int, stretched: bool = True, seed: int = 9
) -> dict[str, float]:
    """Share of repeats whose interval holds the truth, by figure, and under "flagged" of those that are flagged."""
    rng = np.random.default_rng(seed)
    held: dict[str, float] = {}
    for _ in range(repeats):
        if stretched:
            holds, flagged = one(rng)
        else:
            with unstretched(), mock.patch.object(intervals, "CHOICE", 0.0):
                holds, flagged = one(rng)
        for name, value in (holds | {"flagged": flagged}).items():
            held[name] = held.get(name, 0.0) + float(value) / repeats
    return held


def figures_part(repeats: int, twin_repeats: int) -> dict[str, object]:
    rows: dict[str, dict[str, object]] = {}
    for name, one in FIGURES.items():
        right = figure_coverage(one, repeats)
        percentile = figure_coverage(one, twin_repeats, stretched=False)
        rows[name] = {
            figure: {"clustered": round(right[figure], 4), "not_stretched": round(percentile[figure], 4)}
            for figure in right
            if figure != "flagged"
        } | {"flagged": round(right["flagged"], 4)}
        print(name, rows[name], flush=True)
    return {
        "repeats": repeats,
        "repeats_not_stretched": twin_repeats,
        "standard_error": standard_error(repeats),
        "coverage": rows,
        "added_by_the_choice_in_standard_errors": {
            name: round(added_by_choice(repeats, **one.keywords), 2)
            for name, one in FIGURES.items()
            if isinstance(one, partial) and one.func is of_worst
        },
    }


def false_alarms(repeats: int, n_patients: int, draws: int = 1999, seed: int = 6) -> dict[str, float]:
    """Share of repeats in which a test rejects at 5% though A and B are drawn alike, each with moods of its own."""
    rng = np.random.default_rng(seed)
    rejected = dict.fromkeys(("permutation of patients", "permutation of images", "McNemar"), 0)
    for _ in range(repeats):
        patient = np.repeat(np.arange(n_patients), rng.integers(1, 9, n_patients))
        hits = [(rng.random(len(patient)) < rng.beta(0.5, 2.0, n_patients)[patient]).astype(float) for _ in "ab"]
        p_seed = int(rng.integers(2**31))
        p_values = (
            permutation_test(*hits, patient, draws=draws, seed=p_seed),
            permutation_test(*hits, np.arange(len(patient)), draws=draws, seed=p_seed),
            mcnemar_exact(*hits),
        )
        for name, p in zip(rejected, p_values, strict=True):
            rejected[name] += p <= 0.05
    return {name: count / repeats for name, count in rejected.items()}


@dataclass(frozen=True)
class Exposed:
    """One row on single records: a statistic of p_first, its truth, and patients and share of the records it is of.

    p_first = U^a, U uniform and alike within a patient, so the mean is 1/(a+1), the middle (1/2)^a, and the mean of
    the most exposed share s is (1 - (1-s)^(a+1)) / ((a+1) s). a is 4 for every other patient ("M") where `differ`.
    """

    statistic: str
    truth: float
    n_patients: int
    share: float = 0.1
    power: float = 6.0
    differ: bool = False
    rare: float = 0.0


EXPOSED = {
    "exposure tail, 10% of 300 patients' records": Exposed("tail", (1 - 0.9**7) / 0.7, 300),
    "exposure tail, 2% of 1,500 patients' records, steep": Exposed("tail", (1 - 0.98**101) / 2.02, 1500, 0.02, 100.0),
    "exposure of the middle record": Exposed("middle", 0.5**6, 300),
    "exposure difference, sexes": Exposed("difference", 1 / 7 - 1 / 5, 300, differ=True),
    "exposure difference, sexes, 40 patients each": Exposed("difference", 1 / 7 - 1 / 5, 80, differ=True),
    "rate of a group, 150 patients": Exposed("group", 1 / 7, 300),
    "rate of a group, 30 patients": Exposed("group", 1 / 7, 60),
}
RARE = {
    # a share `rare` of the patients has p_first 1, all others 0: resampling fails, Clopper and Pearson take over
    "rate of a group, 150 patients, 2% of them linked": Exposed("group", 0.02, 300, rare=0.02),
    "rate of a group, 150 patients, 5% of them linked": Exposed("group", 0.05, 300, rare=0.05),
}


def exposed_records(rng: np.random.Generator, row: Exposed) -> pd.DataFrame:
    """p_first of one to eight records a patient, with the patient's sex."""
    patient = np.repeat(np.arange(row.n_patients), rng.integers(1, 9, row.n_patients))
    own, of_patient = rng.normal(size=len(patient)), rng.normal(size=row.n_patients)[patient]
    level = ndtr(np.sqrt(0.9) * of_patient + np.sqrt(0.1) * own)
    power = np.where(row.differ & (patient % 2 == 1), 4.0, row.power)
    values = level**power if not row.rare else (rng.random(row.n_patients) < row.rare)[patient].astype(float)
    record = np.arange(len(patient)).astype(str)
    return pd.DataFrame(
        {"record_id": record, "patient_id": patient, "study_id": record, "p_first": values, "chance": 0.01}
        | {"sex": np.where(patient % 2, "M", "F"), "age": np.nan, "view": ""}
    )


def exposed_coverage(row: Exposed, repeats: int, clustered: bool, seed: int = 8) -> float:
    """Share of repeats whose interval, as the page makes it, holds the truth."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(repeats):
        table = exposed_records(rng, row)
        if not clustered:
            table["patient_id"] = np.arange(len(table))
        of_draws = int(rng.integers(2**31))
        if row.statistic in ("tail", "middle"):
            one = exposure.tail(table["p_first"].to_numpy(), table["patient_id"].to_numpy(), row.share, seed=of_draws)
            low, high = (one.tail_low, one.tail_high) if row.statistic == "tail" else (one.middle_low, one.middle_high)
        elif row.statistic == "difference":
            found = exposure.associations(table, table, attributes=["sex"], seed=of_draws).iloc[0]
            low, high = found["low"], found["high"]
        else:
            found = exposure.groups(table, table, "sex", seed=of_draws).iloc[0]
            low, high = found["low"], found["high"]
        held += bool(low <= row.truth <= high)
    return held / repeats


def exposure_part(repeats: int, twin_repeats: int) -> dict[str, object]:
    """The rows on single records. Where few are linked the interval is made to be too long rather than too short."""
    rows = {
        name: {
            "truth": row.truth,
            "patients": row.n_patients,
            "clustered": exposed_coverage(row, repeats, clustered=True),
            "unclustered": exposed_coverage(row, twin_repeats, clustered=False),
        }
        for name, row in (EXPOSED | RARE).items()
    }
    return {
        "repeats": repeats,
        "repeats_unclustered": twin_repeats,
        "standard_error": standard_error(repeats),
        "coverage": {name: rows[name] for name in EXPOSED},
        "coverage_where_few_are_linked": {name: rows[name] for name in RARE},
    }


def standard_error(repeats: int) -> float:
    return round(float(np.sqrt(0.95 * 0.05 / repeats)), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--twin-repeats", type=int, default=1000)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--figure-repeats", type=int, default=1000)
    parser.add_argument("--exposure-repeats", type=int, default=2000)
    parser.add_argument("--exposure-twin-repeats", type=int, default=200)
    parser.add_argument("--only", choices=("rates", "figures", "tests", "exposure"))
    options = parser.parse_args()
    start = time.perf_counter()
    target = Path(__file__).with_suffix(".json")
    result = json.loads(target.read_text(encoding="utf-8")) if options.only else {}
    if options.only in (None, "rates"):
        result |= {
            "nominal": 0.95,
            "accepted": NOMINAL,
            "repeats": options.repeats,
            "repeats_of_twins": options.twin_repeats,
            "draws": DRAWS,
            "standard_error": standard_error(options.repeats),
            "coverage": rates_part(options.repeats, options.twin_repeats),
        }
    if options.only in (None, "figures"):
        result["figures"] = figures_part(options.figure_repeats, options.twin_repeats)
    if options.only in (None, "tests"):
        result["rejected_at_5_percent_where_nothing_differs"] = false_alarms(options.repeats, options.patients)
        result["repeats_of_tests"] = options.repeats
    if options.only in (None, "exposure"):
        result["exposure"] = exposure_part(options.exposure_repeats, options.exposure_twin_repeats)
    result |= {
        "seconds" if options.only is None else f"seconds_{options.only}": round(time.perf_counter() - start, 1),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    target.write_text(json.dumps(result) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
