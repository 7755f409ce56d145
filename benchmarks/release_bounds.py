"""Every limit on linkage beside the best that any mechanism of its kind can do, found without the limit.

    python benchmarks/release_bounds.py [--store cached_embeddings] [--ceiling]

- Alone, discrete: a linear programme over all mechanisms of the kind. One symbol a set of k candidates is enough,
  because symbols on which the attacker names the same set can be merged without leaving the kind.
- Alone, on the circle or with Gaussian noise: a mechanism, its success by sums or quadrature.
- Jointly: all N! matchings, over mechanisms drawn at random and by design; a lower figure than the best there is.
- Unpaired (noisy sums, images and reports at hand, not which belongs to which): likewise, by draws.

`ratio` is found / limit: above 1 would refute the limit, 1 means that no smaller one holds. Writes
benchmarks/release_bounds.json and prints a table. With --ceiling the omniscient ceiling on the phantom is timed too, in
a section of its own that is otherwise left as it is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from linkage_core.release import bounds

SHIPPED = Path(__file__).resolve().parents[1] / "cached_embeddings"
JSON = Path(__file__).with_suffix(".json")


# ------------------------------------------------------------------------------------------- the attacker who knows all


def alone(kernel: np.ndarray, k: int = 1) -> float:
    """Best Recall@k from one release: kernel (N, n_symbols) holds the law of the release of each candidate."""
    return float(np.sort(kernel, axis=0)[-k:].sum() / len(kernel))


def by_every_rule(kernel: np.ndarray, k: int = 1) -> float:
    """The same, by trying every rule that names k candidates for each symbol."""
    n, n_symbols = kernel.shape
    rules = product(combinations(range(n), k), repeat=n_symbols)
    return max(sum(kernel[list(named), r].sum() for r, named in enumerate(rule)) for rule in rules) / n


def jointly(kernel: np.ndarray, k: int = 1) -> float:
    """Best mean Recall@k over all N records for somebody who holds all N releases: all outcomes, all N! matchings."""
    n, n_symbols = kernel.shape
    matchings = np.array(list(permutations(range(n))))
    total = 0.0
    for symbols in product(range(n_symbols), repeat=n):
        likelihood = kernel[matchings, np.array(symbols)].prod(axis=1)
        for i in range(n):
            of_candidate = np.bincount(matchings[:, i], weights=likelihood, minlength=n)
            total += np.sort(of_candidate)[-k:].sum()
    return total / len(matchings) / n


def best(
    n: int,
    k: int,
    *,
    epsilon: float = math.inf,
    delta: float = 0.0,
    limit: float = math.inf,
    lines: list[tuple[float, float]] | None = None,
) -> float:
    """Highest Recall@k of all mechanisms that are (epsilon, delta) local, or have density at most `limit` against some
    law, or power at most the least of slope * level + start over `lines`; by linear programming over kernels."""
    named = list(combinations(range(n), k))
    n_symbols = len(named)
    size = n * n_symbols
    pairs = [(j, other) for j in range(n) for other in range(n) if j != other] if epsilon < math.inf else []
    tests = [(j, line) for j in range(n) for line in lines or []]
    excesses = len(pairs) + len(tests)
    width = size + n_symbols * (1 + excesses)  # p, then the reference law, then the excesses
    gain = np.zeros(width)
    for s, members in enumerate(named):
        for j in members:
            gain[j * n_symbols + s] = -1 / n
    rows: list[np.ndarray] = []
    most: list[float] = []

    def at_most(terms: list[tuple[int, float]], value: float) -> None:
        row = np.zeros(width)
        for column, weight in terms:
            row[column] += weight
        rows.append(row)
        most.append(value)

    for number in range(excesses):
        first = size + n_symbols * (1 + number)
        j, other = pairs[number] if number < len(pairs) else tests[number - len(pairs)]
        for s in range(n_symbols):
            if number < len(pairs):
                against = (other * n_symbols + s, -math.exp(epsilon))
            else:
                against = (size + s, -other[0])
            at_most([(j * n_symbols + s, 1.0), against, (first + s, -1.0)], 0.0)
        at_most([(first + s, 1.0) for s in range(n_symbols)], delta if number < len(pairs) else other[1])
    if limit < math.inf:
        for j, s in product(range(n), range(n_symbols)):
            at_most([(j * n_symbols + s, 1.0), (size + s, -limit)], 0.0)
    sums = np.zeros((n + 1, width))
    for j in range(n + 1):
        sums[j, j * n_symbols : (j + 1) * n_symbols] = 1
    found = linprog(gain, A_ub=np.array(rows), b_ub=most, A_eq=sums, b_eq=np.ones(n + 1), method="highs")
    return -float(found.fun)


# ---------------------------------------------------------------------------------------------- mechanisms to be tried


def subsets(n: int, k: int, epsilon: float, sure: float = 0.0) -> np.ndarray:
    """A random set of k candidates that holds the true one with odds e^epsilon k : N-k; for k = 1 randomised response.
    With probability `sure` it holds it for certain, and that is told."""
    inside = np.array([[j in named for named in combinations(range(n), k)] for j in range(n)], dtype=float)
    kernel = 1 + math.expm1(epsilon) * inside
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.hstack([(1 - sure) * kernel, sure * inside / inside.sum(axis=1, keepdims=True)])


def circle(masses: np.ndarray, n: int) -> np.ndarray:
    """N candidates evenly on a circle of len(masses) arcs; masses[i] of the release lies i arcs past the candidate."""
    step = len(masses) // n
    return np.array([np.roll(masses, j * step) for j in range(n)])


def caps(n: int, limit: float) -> np.ndarray:
    """N caps that tile the circle: mass 1/N, hit with probability L/N."""
    return circle(np.array([limit / n, *[(1 - limit / n) / (n - 1)] * (n - 1)]), n)


def codes(n: int, n_cells: int) -> Iterator[np.ndarray]:
    """Every deterministic code of N candidates with K cells."""
    for code in product(range(n_cells), repeat=n):
        yield np.eye(n_cells)[list(code)]


def local_at_random(n: int, epsilon: float, rng: np.random.Generator) -> np.ndarray:
    """An extreme epsilon local mechanism: each symbol has one of two likelihoods, e^epsilon apart (Kairouz, Oh and
    Viswanath 2016), and a programme with random gains chooses the symbols."""
    pattern = np.array(list(product([1.0, math.exp(epsilon)], repeat=n))[1:-1])
    found = linprog(rng.standard_normal(len(pattern)), A_eq=pattern.T, b_eq=np.ones(n), method="highs")
    used = found.x > 1e-12
    return (pattern * found.x[:, None])[used].T


def simplex(mu: float, n: int) -> float:
    """Recall@1 under Gaussian noise for N points as far apart as N points of a ball can all be, by quadrature.

    A regular simplex of radius rho has the distances of N orthogonal points of norm rho sqrt(N/(N-1)).
    """
    shift = mu * math.sqrt(n / (n - 1))
    return quad(lambda z: norm.pdf(z - shift) * ndtr(z) ** (n - 1), -9, 9 + shift, epsabs=1e-12, limit=500)[0]


def opposite(mu: float) -> float:
    """Recall@1 for two opposite points under Gaussian noise: half the integral of the larger density."""
    larger = quad(lambda z: max(norm.pdf(z - mu), norm.pdf(z + mu)), -9 - mu, 9 + mu, points=[0], epsabs=1e-12)[0]
    return larger / 2


def told_one(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, D) where the sums stand under each hypothesis of bounds.unpaired, seen from its reference: images x (n, e)
    times findings y (n, c), patient 0 the target, who is told the matching that has reports 0 and j exchanged."""
    of = np.einsum("ie,lc->ilec", x, y).reshape(len(x), len(x), -1)
    moved = of[0] + of[:, 0] - of[np.arange(len(x)), np.arange(len(x))]
    moved[0] = of[0, 0]
    return moved


def picked(places: np.ndarray, mu: float, name: np.ndarray, draws: int = 20_000, seed: int = 0) -> float:
    """Best chance to say name[j] from places[j] (n, D) + noise of deviation 1 / mu in each coordinate, j uniform: the
    mean of the largest posterior over draws."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)[2][: len(places)]
    at = mu * (places - places.mean(axis=0)) @ axes.T
    seen = at[rng.integers(0, len(at), draws)] + rng.standard_normal((draws, at.shape[1]))
    log_p = seen @ at.T - 0.5 * (at**2).sum(axis=1)
    p = np.exp(log_p - log_p.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return float(np.stack([p[:, name == one].sum(axis=1) for one in np.unique(name)]).max(axis=0).mean())


def any_matching(x: np.ndarray, y: np.ndarray, mu: float) -> float:
    """Best chance to name patient 0's report from sums of images x (n, e) times findings y (n, c), all n! matchings
    being equally likely."""
    orders = list(permutations(range(len(x))))
    sums = np.stack([np.einsum("ie,ic->ec", x, y[list(order)]).ravel() for order in orders])
    return picked(sums, mu, np.array([order[0] for order in orders]))


def in_one_order(n: int, mu: float) -> float:
    """The same for two archives in one order up to an unknown shift, images and findings as unlike as can be: what no
    limit covers."""
    sums = np.stack(
        [np.einsum("ie,ic->ec", np.eye(n), np.roll(np.eye(n), shift, axis=0)).ravel() for shift in range(n)]
    )
    return picked(sums, mu, np.arange(n))


def unpaired_at_random(n: int, mu: float, rng: np.random.Generator, tries: int) -> tuple[float, float]:
    """The best that was found for who is told one matching, and for who is told nothing: (told, untold), over images
    and findings of norm 1, drawn at random in few dimensions and of few kinds."""
    told = untold = 0.0
    for _ in range(tries):
        of = [rng.standard_normal((n, int(rng.integers(1, n + 1)))) for _ in "xy"]
        of = [np.sign(one) if rng.random() < 0.5 else one for one in of]
        x, y = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in of)
        told = max(told, picked(told_one(x, y), mu, np.arange(n), draws=4000))
        untold = max(untold, any_matching(x, y, mu))
    return told, untold


def told_or_nothing(nats: float, n: int) -> float:
    """Joint Recall@1 of a release that tells all with probability a, else nothing: KL against its mean is a ln N."""
    return min(1.0, nats / math.log(n) + 1 / n)


def gaussian_lines(mu: float, levels: np.ndarray) -> list[tuple[float, float]]:
    """Tangents of Phi(Phi^-1(a) + mu) at some levels: (slope, start)."""
    z = ndtri(levels)
    slopes = norm.pdf(z + mu) / norm.pdf(z)
    return list(zip(slopes.tolist(), (ndtr(z + mu) - slopes * levels).tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------------- the table


def table() -> pd.DataFrame:
    """One row a limit and case: what was found, how, the limit, their ratio, and whether nothing smaller holds."""
    rows: list[dict[str, Any]] = []

    def add(bound: str, case: str, how: str, found: float, limit: float, tight: bool) -> None:
        rows.append({"bound": bound, "case": case, "how": how, "found": found, "limit": float(limit), "tight": tight})

    for n, k, epsilon, delta in (
        *((2, 1, 1.0, 0.0), (4, 1, 1.0, 0.0), (5, 2, 1.5, 0.0), (5, 3, 0.5, 0.0)),
        *((3, 1, 1.0, 0.05), (4, 2, 1.0, 0.1), (5, 2, 0.3, 0.02), (4, 1, 0.0, 0.2), (4, 3, 1.0, 0.6)),
    ):
        case = f"N={n} k={k} epsilon={epsilon:g} delta={delta:g}"
        limit = bounds.local(epsilon, n, k, delta)
        add("local", case, "all mechanisms", best(n, k, epsilon=epsilon, delta=delta), limit, True)
        sure = min(1.0, delta * (n - 1) / (n - k))
        add("local", case, "sets of k", alone(subsets(n, k, epsilon, sure), k), limit, True)
    for n, k, limit in ((3, 1, 1.5), (4, 1, 3.0), (5, 2, 1.7), (5, 2, 4.0)):
        case = f"N={n} k={k} L={limit:g}"
        add("capped", case, "all mechanisms", best(n, k, limit=limit), bounds.capped(limit, n, k), True)
    for n, k, limit, epsilon in ((4, 1, 2.0, 1.0), (5, 2, 1.3, 2.0), (5, 2, 2.0, 1.0)):
        case = f"N={n} k={k} L={limit:g} epsilon={epsilon:g}"
        found = best(n, k, limit=limit, epsilon=epsilon)
        add("capped", case, "all mechanisms", found, bounds.capped(limit, n, k, epsilon), True)
    for n, limit in ((5, 2.0), (100, 10.0)):
        add("capped", f"N={n} k=1 L={limit:g}", "arcs", alone(caps(n, limit)), bounds.capped(limit, n), True)
    for n, k, n_cells in ((4, 1, 2), (5, 2, 2), (6, 1, 3), (4, 2, 3)):
        found = max(alone(kernel, k) for kernel in codes(n, n_cells))
        add("cells", f"N={n} k={k} K={n_cells}", "all codes", found, bounds.cells(n_cells, n, k), True)
    for n, n_cells in ((4, 2), (5, 3)):
        found = max(jointly(kernel) for kernel in codes(n, n_cells))
        add("cells, jointly", f"N={n} k=1 K={n_cells}", "all codes", found, bounds.cells(n_cells, n), True)
    for n, k, mu in ((4, 1, 1.0), (5, 2, 0.5)):
        lines = gaussian_lines(mu, np.array([0.02, 0.1, k / n, 0.5, 0.8]))
        case = f"N={n} k={k} Gaussian mu={mu:g}"
        limit = bounds.trade_off(lambda a, mu=mu: ndtr(ndtri(a) + mu), n, k)
        add("trade_off", case, "all mechanisms", best(n, k, lines=lines), limit, True)
        masses = np.diff(ndtr(ndtri(np.arange(20 * n + 1) / (20 * n)) + mu))
        add("trade_off", case, "circle", alone(circle(masses, n)[:, :], k), limit, True)
    for mu in (0.5, 1.0, 3.0):
        add("gaussian", f"N=2 k=1 mu={mu:g}", "opposite points", opposite(mu), bounds.gaussian(mu, 2), True)
        for n in (3, 10, 100, 10_000):
            add("gaussian", f"N={n} k=1 mu={mu:g}", "simplex", simplex(mu, n), bounds.gaussian(mu, n), False)
    drawn = np.random.default_rng(1)
    for mu in (0.24, 0.65):
        limit = bounds.unpaired(mu, 2)
        add("unpaired", f"N=2 k=1 mu={mu:g}", "opposite images and findings", float(ndtr(2 * mu)), limit, False)
        for n in (3, 100, 10_000):
            limit = bounds.unpaired(mu, n)
            add("unpaired", f"N={n} k=1 mu={mu:g}", "simplex, of any form", simplex(3 * mu, n), limit, False)
        for n in (3, 4):
            limit = bounds.unpaired(mu, n)
            for whom, found in zip(("told one", "told nothing"), unpaired_at_random(n, mu, drawn, 40), strict=True):
                add("unpaired", f"N={n} k=1 mu={mu:g}", f"images times findings, {whom}", found, limit, False)
    for n, sensitivity, specificity in ((2, 0.9, 0.7), (6, 0.8, 0.6)):
        state = np.arange(n) % 3 == 0
        kernel = np.column_stack([np.where(state, sensitivity, 1 - specificity)])
        kernel = np.hstack([kernel, 1 - kernel])
        limit = bounds.reading(sensitivity + specificity - 1) / n
        add("reading", f"N={n} k=1 J={sensitivity + specificity - 1:g}", "one finding", alone(kernel), limit, True)
    rng = np.random.default_rng(0)
    for n, k, epsilon, tries in ((2, 1, 1.0, 40), (3, 1, 0.5, 40), (3, 1, 2.0, 40), (3, 2, 2.5, 40), (4, 1, 1.0, 8)):
        tried = [subsets(n, size, epsilon) for size in range(1, n)]
        tried += [local_at_random(n, epsilon, rng) for _ in range(tries)]
        found, limit = max(jointly(kernel, k) for kernel in tried), bounds.joint_local(epsilon, n, k)
        add("joint_local", f"N={n} k={k} epsilon={epsilon:g}", f"{len(tried)} mechanisms", found, limit, n == 2)
    for mu in (0.3, 1.0):
        limit = bounds.joint_gaussian(mu, 2)  # matchings of two opposite points lie sqrt(8) rho apart
        add("joint_gaussian", f"N=2 k=1 mu={mu:g}", "opposite points", opposite(math.sqrt(2) * mu), limit, False)
    for t in (0.2, 0.5, 0.9):
        kernel = np.array([[t, 1 - t, 0], [0, 1 - t, t]])
        add(
            "joint_capped", f"N=2 k=1 L={1 + t:g}", "two of three", jointly(kernel), bounds.joint_capped(1 + t, 2), True
        )
    ring = (np.eye(3) + np.roll(np.eye(3), 1, axis=1)) / 2
    add("joint_capped", "N=3 k=1 L=1.5", "two of three", jointly(ring), bounds.joint_capped(1.5, 3), False)
    for n, nats in ((10_000, math.log(10)), (10_000, math.log(30)), (100, 1.0)):
        limit = bounds.joint_information(nats, n)
        add("joint_information", f"N={n} k=1 nats={nats:.3g}", "all or nothing", told_or_nothing(nats, n), limit, False)
    made = pd.DataFrame(rows)
    made.insert(5, "ratio", made["found"] / made["limit"])
    return made


def ceilings(store: Path) -> list[dict[str, Any]]:
    """The omniscient ceiling of the cap mechanism, of noise and of a code on the phantom, with its seconds."""
    from linkage_core.release import ceiling
    from linkage_core.release.kinds.capped import Cap
    from linkage_core.store.entry import Store

    entry = Store(store).open("phantom", "phantom-radiology")
    images = entry.clean_images(entry.records(entry.default_split)["record_id"])
    directions = np.random.default_rng(0).standard_normal((64, images.shape[1]))
    nearest = (images @ directions.T).argmax(axis=1)
    cases = [
        *((f"capped L={limit:g} p={p:g}", Cap.of(64, limit, p)) for limit in (10.0, 30.0) for p in (1.0, 0.9)),
        ("Gaussian sigma=0.1", ceiling.Gaussian(0.1)),
        ("64 random cells", ceiling.Cells(nearest, 64)),
    ]
    rows = []
    for name, mechanism in cases:
        start, cpu = time.perf_counter(), time.process_time()
        found = ceiling.ceiling(entry, mechanism, (100, 1000, 10_000))
        seconds = {"seconds": round(time.perf_counter() - start, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}
        kept = ("pool_size", "k", "ceiling", "ceiling_low", "ceiling_high", "error", "lift", "certified", "how")
        for one in found[list(kept)].to_dict("records"):
            rows.append({"mechanism": name, **one, "relative_error": one["error"] / one["ceiling"], **seconds})
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=SHIPPED)
    parser.add_argument("--ceiling", action="store_true", help="time the omniscient ceiling on the phantom too")
    options = parser.parse_args()
    result = json.loads(JSON.read_text(encoding="utf-8")) if JSON.exists() else {}
    start = time.perf_counter()
    found = table()
    result["bounds"] = {
        "seconds": round(time.perf_counter() - start, 1),
        "refuted": found.loc[found["ratio"] > 1 + 1e-7, "case"].tolist(),
        "rows": found.round(9).to_dict("records"),
    }
    print(found.to_string(index=False))
    if options.ceiling:
        rows = ceilings(options.store)
        result["ceiling"] = {
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)},
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "rows": rows,
        }
        print(pd.DataFrame(rows).to_string(index=False))
    JSON.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
