"""What the limits of all kinds of release share: labels that travel along, all records of a patient, what left before.

`stated` is what a certificate states (certificate.STATED), everywhere here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from linkage_core.release import bounds
from linkage_core.release.stated import KEYED

Bounds = dict[str, Callable[[int], float]]
"""Upper bounds on Recall@1 as functions of N, by certificate.FIGURES; a figure that is not bounded is left out."""


def labels(stated: dict[str, Any]) -> int:
    """How many times the limit one random label a record makes it.

    The release is (r, i, s), i a finding drawn independently of the data and s its state, of which there are two. Sum
    over r, i and s of the largest p(r|x_j) P(i) [s = s_ij] is at most twice the sum over r and i of the largest
    p(r|x_j) P(i): twice the bound. Jointly, it adds at most ln 2 nats to what a record tells.
    """
    return 2 if stated["one_label"] else 1


def most(stated: dict[str, Any]) -> int:
    """Records of the patient who has most; sums are over patients, and do not say how many images anybody has."""
    return int(stated["cohort"].get("most_records_of_a_patient", 1))


def power(limit: float, m: int, n: int) -> float:
    """limit^m, and n where it is more."""
    return float(limit**m) if m * math.log(limit) < math.log(n) else float(n)


def before_of(stated: dict[str, Any]) -> dict[str, Any] | None:
    """{"mu", "lift"} of what had left before, by the site's ledger; lift None: without limit. None: nothing had."""
    before = {"mu": 0, "lift": 1} if stated["ledger"] is None else stated["ledger"]["before"]
    return None if before["mu"] == 0 and before["lift"] == 1 else dict(before)


def with_before(stated: dict[str, Any], limit: float, mu: float, *, sums: bool = False) -> Bounds:
    """The bound for who also holds what left before of the patient: mu_b of statistics, lift_b of records.

        Recall@1 <= limit^m lift_b Phi(Phi^-1(1/N) + root(mu^2 + mu_b^2))

    and for who holds images and reports of summed patients unpaired the same with 3 root(mu^2 + mu_b^2), because each
    sum is so far from its reference (bounds.unpaired). That figure is left out where no sums left: records alone tell
    as much to one as to the other.

    Given J, all releases are independent: their coins are. One record has p_j(r) <= L q(r), q one law for all j (a code
    of K values: L = K and q = 1/K), so with any others, s,
        (1/N) sum over r and s of max_j p_j(r) p_j(s) <= L (1/N) sum over s of max_j p_j(s),
    L times the bound of the others. So with each record of the patient, m in this release and those before, until only
    Gaussian releases are left, which are one of the root of the summed squares (bounds.compose_mu). As candidates may
    have had less of either, the largest of each is taken.
    """
    said = before_of(stated)
    if said is None:
        return {}
    m, lift, mu = most(stated), said["lift"], bounds.compose_mu([mu, said["mu"]])
    laws = {"with_before": bounds.central} | ({"with_before_unpaired": bounds.unpaired} if said["mu"] or sums else {})

    def bound(law: Callable[[float, int], float], n: int) -> float:
        return 1.0 if lift is None else power(limit, m, n) * lift * float(law(mu, n))

    return {name: partial(bound, law) for name, law in laws.items()}


# ------------------------------------------------------------------------------------------------------------- in words


def numbers(rows: list[dict[str, Any]], name: str) -> str:
    """The most that Recall@1 can be, at each N, in words: "at most 3% at N = 1,000; ..."; 1 is no limit."""
    limited = [f"{row[name] * 100:.3g}% at N = {row['n']:,}" for row in rows if row[name] < 1]
    free = [f"{row['n']:,}" for row in rows if row[name] >= 1]
    said = ["at most " + "; ".join(limited)] if limited else []
    if free:
        said.append("no limit at N = " + ", ".join(free))
    return "; ".join(said)


def of_one_record(rows: list[dict[str, Any]]) -> list[str]:
    """The first sentence of a certificate of records whose limit is another one at each N."""
    return [
        "Among N equally likely reports, whoever gets one record of this release picks the right report with "
        f"probability {numbers(rows, 'alone')}. The advantage over guessing grows with N: never quote it "
        "without N."
    ]


def among_records(stated: dict[str, Any]) -> str:
    """Which N the figures of records are about."""
    return (
        f"N reports that are equally likely to the attacker before the record is seen, the right one among them; the "
        f"release has {stated['cohort']['n_records']:,} records. Whatever shrinks N (age, date, hospital) shrinks it "
        "before the table is read: take the row of the N that is left."
    )


def of_records(stated: dict[str, Any]) -> list[str]:
    """What the figures of any records rest on."""
    besides = "" if before_of(stated) is None else ", besides what the ledger counts"
    return [
        "N equally likely candidates. An average over records: one record may stand out more than the mean.",
        "One release an image: a second, different release multiplies the limits. The site's ledger counts them.",
        f"Nothing else computed from these images has left the site{besides}.",
    ]


def of_keyed_noise() -> list[str]:
    """What they rest on besides where the noise is keyed."""
    return [
        f"The noise is {KEYED}. Whoever has the secret has the noise, and then nothing holds.",
        "Proved for real numbers and random noise; here numbers are 32 and 64 bits long, and the noise is "
        "pseudo-random (HMAC-SHA256, SHAKE-256).",
    ]
