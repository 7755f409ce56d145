"""How well can anybody, whatever they know, pick the right candidate from a release? Upper bounds; numbers only.

The game. J is uniform over N candidates; the attacker gets R = M(x_J), knows M and all candidates, and names k.
Recall@k is the probability that J is among them, chance k/N, lift their ratio. M's coins are fresh, and nothing else
that was computed from the image reaches the attacker. With p_j the law of R given J = j, and S(r) the k named,

    Recall@k = (1/N) sum over r of sum over j in S(r) of p_j(r) <= (1/N) sum over r of the k largest p_j(r),     (1)

and naming the k largest is best: whatever else is known of the candidates says nothing of R once J is given. (Its lift
at k = 1 is exp(maximal leakage): Issa, Wagner and Kamath 2020, theorem 1; Alvim et al., The Science of Quantitative
Information Flow, 2020.) Everything below bounds (1) by what is known of M alone. Averages over records: one record may
stand out more than the mean.

*Alone* means one record is attacked by itself. *Jointly* means that the attacker holds all N releases and knows that
releases and candidates match one to one; alone and jointly differ, see `joint_capped`.

Every bound returns a float64, or an array where n or k is one, between k/N and 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from scipy.special import lambertw, ndtr, ndtri

from linkage_core.errors import InputError

Rate = Any
"""float64, or an array of them."""
Whole = int | np.ndarray


def lift(recall: Rate, n: Whole, k: Whole = 1) -> Rate:
    """How many times better than guessing: Recall@k / (k/N)."""
    n, k = _pool(n, k)
    recall = np.asarray(recall, dtype=np.float64)
    if not ((recall >= 0) & (recall <= 1)).all():
        raise InputError("recall lies outside 0 and 1.", "Give a rate, not percent.")
    return (recall * n / k)[()]


# --------------------------------------------------------------------------------------------- one record, by itself


def local(epsilon: float, n: Whole, k: Whole = 1, delta: float = 0.0) -> Rate:
    """Recall@k where each release is (epsilon, delta) local: p_j(E) <= e^eps p_l(E) + delta for all j, l and events E.

        Recall@k <= (k e^eps + (N-1) delta) / (N - k + k e^eps)

    For j in S(r) and l outside, p_j(r) <= e^eps p_l(r) + x_jl(r), where x_jl, the excess, sums to at most delta. Added
    up over all such j, l and over r, with A for Recall@k:
        (N-k) N A <= e^eps k N (1-A) + N (N-1) delta.
    Lift is at most e^eps where delta is 0, and delta adds nearly N delta to it. No smaller bound holds: for delta = 0 a
    random set of k that holds J with odds e^eps k : N-k reaches it (k = 1: N-ary randomised response; subset selection,
    Ye and Barg 2018), and with delta one that, with probability delta (N-1)/(N-k), holds J for certain.
    """
    n, k = _pool(n, k)
    shrunk = math.exp(-_epsilon(epsilon))
    if not 0 <= delta <= 1:
        raise InputError(f"delta is {delta}.", "It lies between 0 and 1, and well below 1/N to be of use.")
    return _rate((k + (n - 1) * delta * shrunk) / (k + (n - k) * shrunk))


def trade_off(power: Callable[[np.ndarray], np.ndarray], n: Whole, k: Whole = 1) -> Rate:
    """Recall@k where every test of level a against one reference law Q has power at most G(a) = power(a), G concave.

        Recall@k <= G(k/N)

    "j is named" is a test of Q against p_j; let a_j be its level. The levels add up to k, because k are named whatever
    r is; so Recall@k = mean of powers <= mean of G(a_j) <= G(mean of a_j) = G(k/N) by Jensen. Reached, for any concave
    G with G(1) = 1, on the circle of length 1: Q uniform, and p_j with density G'(t) at distance t past j/N.
    Trade-off functions: Dong, Roth and Su 2022. Raises InputError where G is not concave, falls, or leaves [0, 1].
    """
    n, k = _pool(n, k)
    grid = np.linspace(0, 1, 257)
    curve = np.asarray(power(grid), dtype=np.float64)
    if curve.shape != grid.shape or not (np.isfinite(curve) & (curve >= -1e-9) & (curve <= 1 + 1e-9)).all():
        raise InputError("power gives something other than a rate for each level.", "It maps levels to 0..1.")
    if (np.diff(curve) < -1e-9).any() or (np.diff(curve, 2) > 1e-9).any():
        raise InputError("power falls or is not concave.", "Give the best power of any test at each level.")
    return _rate(np.asarray(power(np.asarray(k / n)), dtype=np.float64))


def gaussian(mu: float, n: Whole, k: Whole = 1) -> Rate:
    """Recall@k under Gaussian noise sigma in each coordinate, embeddings within rho of a centre; mu = rho / sigma.

        Recall@k <= Phi(Phi^-1(k/N) + mu)

    `trade_off` with Q the noise about the centre: the most powerful test of two Gaussians mu apart has power
    Phi(Phi^-1(a) + mu) (Neyman and Pearson). Its lift grows with N: never quote it without N. Unit rows: rho = 1.
    Reached at N = 2 by opposite points; a regular simplex, as far apart as N points can be, comes within 12% of it for
    N to 10,000 and mu to 3 (benchmarks/release_bounds.json).
    """
    n, k = _pool(n, k)
    if not 0 <= mu < math.inf:
        raise InputError(f"mu is {mu}.", "It is radius / sigma: zero or more, and finite.")
    return _rate(ndtr(ndtri(k / n) + mu))


def central(mu: float, n: Whole, k: Whole = 1) -> Rate:
    """Picking a patient's record among N, from statistics whose noise makes adding or removing one patient mu-Gaussian,
    for an attacker to whom the other patients' data do not depend on which record is right: who knows them, say.

        Recall@k <= Phi(Phi^-1(k/N) + mu)

    Candidate j is the data set of all other patients and record j; the reference of `trade_off` is that set without
    record j, from which each candidate is mu away. What the statistics say of everybody, this patient or not, is
    outside: the figure is beyond what the attacker already had. It does not hold for `unpaired`.
    """
    return gaussian(mu, n, k)


SWAPPED = 3
"""Contributions by which a hypothesis of `unpaired` differs from the reference."""


def unpaired(mu: float, n: Whole, k: Whole = 1) -> Rate:
    """Picking an image's report among N, from the same statistics, for somebody who holds images and reports of summed
    patients and does not know which belongs to which: a matching that is equally likely to be any.

        Recall@k <= Phi(Phi^-1(k/N) + 3 mu)

    Let x_i y_l be the clipped contribution of patient i with the report of l. Draw the true matching at random, J at
    random from the N candidates, and tell the attacker the matching that has the reports of target A and of J
    exchanged; by symmetry that says nothing of J, and more than nothing was told. Under J = j the sums are those of the
    told matching without A's term, the same for every j, and x_A y_j + x_j y_A - x_j y_j besides, for j = A only
    x_A y_A: three clipped vectors, at most 3 mu from the reference of `trade_off`. Several images of a patient change
    nothing (an exchange within one patient changes one contribution). As it holds for each image, it holds for the
    mean over an archive matched one to one. Whoever knows more of the order, such as two archives in one order up to a
    shift, has hypotheses that differ in every patient: nothing short of group privacy covers that.
    For contributions of any form a simplex comes within 12% (`gaussian`); images times findings cannot be so: at N = 2
    opposite ones reach Phi(2 mu) and no more, and `central` is broken by them (benchmarks/release_bounds.json).
    """
    return gaussian(SWAPPED * mu, n, k)


def cells(n_cells: int, n: Whole, k: Whole = 1) -> Rate:
    """Recall@k where a release takes one of K values: at most k K / N, lift at most K.

    In (1) each of the K values adds at most k. Jointly as well, where the code is deterministic and public: all n_c!
    ways to match the n_c records of a cell to its n_c candidates are equally likely, so that one pick a cell is right
    on average. An average: a record alone in its cell is identified. A suppressed record counts as not linked; who is
    told that this one was not suppressed, in a pool of the N' that were not, has k K / N'.
    """
    n, k = _pool(n, k)
    if isinstance(n_cells, bool) or not isinstance(n_cells, int | np.integer) or n_cells < 1:
        raise InputError(f"n_cells is {n_cells!r}.", "It is a whole number of cells, at least 1.")
    return _rate(k * (n_cells / n))


def capped(limit: float, n: Whole, k: Whole = 1, epsilon: float | None = None) -> Rate:
    """Recall@k where p_j is nowhere above L times one reference law Q: at most k L / N, lift at most L for every N.

    In (1), at each r the k largest p_j(r) add up to at most k L Q(r), and Q adds up to 1. With pointwise local epsilon
    besides (see Cap.epsilon) the smaller of this and `local`. Reached on the circle by N arcs that tile it: a cap of
    mass 1/N, hit with probability L/N. Privunit, whose caps these are: Bhowmick et al. 2018; Asi et al. 2022.
    """
    n, k = _pool(n, k)
    limit = _limit(limit, n)
    alone = _rate(k * limit / n)
    return alone if epsilon is None else np.minimum(alone, local(epsilon, n, k))[()]


def reading(youden: float) -> float:
    """Lift that somebody does reach by reading one finding off a release; a lower bound, unlike all others here.

    Read with sensitivity s and specificity t, Youden index J = s + t - 1, then name any candidate whose report has the
    state read: with n1 and n0 candidates in the two states, both above 0, Recall@1 is
        (1/N) (n1 s/n1 + n0 t/n0) = (s + t)/N = (1 + J)/N.
    In a pool where all are in one state it is 1/N. Several findings multiply only where they are independent, in the
    pool and in the reading.
    """
    if not 0 <= youden <= 1:
        raise InputError(f"youden is {youden}.", "It lies between 0 (a guess) and 1; below 0, read it the other way.")
    return 1.0 + youden


# ------------------------------------------------------------------------------------------ all N records, one to one


def joint_local(epsilon: float, n: Whole, k: Whole = 1) -> Rate:
    """Recall@k, each release epsilon local (delta 0), for somebody who holds all N and knows they match one to one.

    With e = e^eps, the largest over whole d of
        k e^2 d / ((d-k+ke) (N + (e-1)d))                            for k <= d <= N,
        1 - (N-d) (N-k) / ((N-k + (k-d)e) (N + (e-1)d))              for 0 <= d < k;
    for k = 1 at most e^2 / (sqrt(N) + e - 1)^2, a lift of at most e^2eps. Own derivation. Given that record i has
    candidate j, its release has law p_j and all the others together Q_j, and (p_j, Q_j) are all there is to know of J.
    (a) Q_j and Q_l are eps close: put j for l in each matching that leaves j out, and one factor changes.
    (b) A symbol may be split until its likelihoods are 1 on N-d candidates and e on a set T of d (Kairouz, Oh and
    Viswanath 2016): all an attacker learns from that is more. With weights w_r, sum over r of w_r (N + (e-1)d_r) = N.
    (c) By (a) e Q_j >= Q_l: T comes first. For d >= k the k largest are e times k largest Q_j of the d in T, which by
    `local` add up to e d k e/(d-k+ke); for d < k to e d + (N-d)(k-d)e/(N-k+(k-d)e). Times w_r/N, summed: the figure.
    For N = 2 it is the bound of one record alone. For larger N `local` does not hold jointly where k > 1: randomised
    response with N = 3, k = 2, epsilon 2.5 is 2% above it. For k = 1 no mechanism tried was; that is not proved.
    """
    n, k = _pool(n, k)
    shrunk = math.exp(-_epsilon(epsilon))
    found = k / n
    for turn in (np.floor, np.ceil):  # one maximum each, at d = sqrt(kN) and N - sqrt(N(N-k))
        d = turn(np.sqrt(k * n))
        found = np.maximum(found, k * d / ((shrunk * (d - k) + k) * (shrunk * n + (1 - shrunk) * d)))
        d = np.clip(turn(n - np.sqrt(n * (n - k))), 0, k)
        ranks = np.maximum((shrunk * (n - k) + k - d) * (shrunk * n + (1 - shrunk) * d), np.finfo(float).tiny)
        found = np.maximum(found, np.where(d < k, 1 - shrunk**2 * (n - d) * (n - k) / ranks, 0.0))
    return _rate(found)


def joint_gaussian(mu: float, n: Whole, k: Whole = 1) -> Rate:
    """Recall@k under the noise of `gaussian`, for somebody who holds all N releases and knows they match one to one.

    `gaussian` with sqrt(5) mu, or `joint_information` with mu^2/2 nats, whichever is less. As in `joint_local` (a), all
    other releases are 2 mu close for any two candidates, which lie 2 rho apart at most, and so for each against the
    mean over all; the record's own is mu from the centre; mu adds in squares (compose_mu).
    """
    return np.minimum(gaussian(compose_mu([mu, 2 * mu]), n, k), joint_information(mu * mu / 2, n, k))[()]


def joint_information(nats: float, n: Whole, k: Whole = 1) -> Rate:
    """Recall@k, mean over all N records, where a release tells at most `nats` of its candidate: KL(p_j, Q) <= nats.

        Recall@k <= (k/N) e^t,  t = 1 + W((nats N/k - 1)/e),  W Lambert's

    Let W be the number of records whose candidate was named, P the true law of permutation and releases, P' the same
    with releases drawn from Q. By Donsker and Varadhan E_P[t W] <= KL(P, P') + ln E_P'[e^tW], and KL <= N nats. Under
    P' any m records have their candidates named with probability at most k^m (N-m)!/N!, so E[(1+s)^W] <= e^ks. Hence
    Recall@k <= (nats + (e^t - 1) k/N) / t for each t > 0, least where its derivative is 0. Own derivation. About
    nats / ln N for large N, far above what one record alone allows, and rightly so for information alone: a release
    that tells all with probability a and else nothing has a ln N nats, and is right with probability a.
    """
    n, k = _pool(n, k)
    if not 0 <= nats < math.inf:
        raise InputError(f"nats is {nats}.", "It is a divergence: zero or more, and finite.")
    if nats == 0:
        return _rate(k / n)
    point: Any = np.asarray((nats * n / k - 1) / math.e, dtype=np.float64)
    t = 1 + np.real(lambertw(point))
    return _rate(np.exp(t) * k / n)


def joint_capped(limit: float, n: Whole, k: Whole = 1, epsilon: float | None = None) -> Rate:
    """Recall@k, each p_j at most L times one law Q, for somebody who holds all N and knows they match one to one.

    `capped` does NOT hold here. Two candidates, L = 1 + t: p_1 = (t, 1-t, 0) and p_2 = (0, 1-t, t) give (1 + t)/2
    alone, but jointly one of the two releases tells both, 1 - (1-t)^2/2. What holds is the least of
    - `joint_information` of ln L nats, because ln(p_j/Q) <= ln L everywhere;
    - L times `local`, and `joint_local`, where there is a pointwise local epsilon: the other N-1 releases are epsilon
      close whatever the candidate (`joint_local`, a), and a further density of at most L multiplies that;
    - for L < 2, `local` with epsilon 0 and delta 1 - (2-L)^2: p_j and p_l share mass 2 - L at least, two independent
      releases (2-L)^2, and where they share it nothing tells the exchange. At N = 2 the example reaches it, so for two
      candidates the question is closed; for more these are bounds, and the truth may be lower.
    """
    n, k = _pool(n, k)
    limit = _limit(limit, n)
    best = joint_information(math.log(limit), n, k)
    if epsilon is not None:
        best = np.minimum(best, np.minimum(limit * local(epsilon, n, k), joint_local(epsilon, n, k)))
    if limit < 2:
        best = np.minimum(best, local(0.0, n, k, delta=1 - (2 - limit) ** 2))
    return np.asarray(best)[()]


# --------------------------------------------------------------------------------------------------- several releases


def compose_lifts(lifts: Iterable[float]) -> float:
    """Limit for several releases about one candidate that can be seen to belong together: the product.

    Given J they are independent, so densities multiply: p_j <= L_1 L_2 ... Q_1 Q_2 ..., and K_1 K_2 ... values. Hence
    epsilons and ln L add, also where a later mechanism is chosen in view of earlier releases.
    """
    lifts = [float(one) for one in lifts]
    for one in lifts:
        if not 1 <= one < math.inf:
            raise InputError(f"A lift is {one}.", "Each is 1 (nothing told) or more, and finite.")
    return math.prod(lifts)


def compose_mu(mus: Iterable[float]) -> float:
    """mu of several Gaussian releases about one candidate: root of the sum of squares, as of one release in the space
    of all (Dong, Roth and Su 2022, corollary 3.3)."""
    mus = [float(one) for one in mus]
    for one in mus:
        if not 0 <= one < math.inf:
            raise InputError(f"A mu is {one}.", "Each is zero (nothing told) or more, and finite.")
    return math.hypot(*mus)


# ------------------------------------------------------------------------------------------------------------- checks


def _rate(value: Rate) -> Rate:
    return np.minimum(np.asarray(value, dtype=np.float64), 1.0)[()]


def _pool(n: Whole, k: Whole) -> tuple[np.ndarray, np.ndarray]:
    n, k = np.asarray(n), np.asarray(k)
    for values, name in ((n, "n"), (k, "k")):
        if values.dtype.kind not in "iu" or not (values >= 1).all():
            raise InputError(f"{name} is {values}.", f"{name} is a whole number, at least 1.")
    if not (k <= n).all():
        raise InputError(f"k is {k}, and the pool holds {n} candidates.", "k must be at most N.")
    return n.astype(np.int64), k.astype(np.int64)


def _epsilon(epsilon: float) -> float:
    if not epsilon >= 0:
        raise InputError(f"epsilon is {epsilon}.", "It is zero or more; infinity means no limit.")
    return float(epsilon)


def _limit(limit: float, n: np.ndarray) -> float:
    if not (limit > 1 and (limit <= n).all()):
        raise InputError(
            f"The limit L is {limit}, with N = {int(n.min()):,}.",
            "It is above 1 (nothing could be released) and at most N (beyond which it limits nothing).",
        )
    return float(limit)
